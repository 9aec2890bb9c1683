/** Time of our own: what every jump of the wall clock does to it, with the machine as data. */
import { describe, expect, test } from 'bun:test'
import { createClock, type SystemClock } from '../../src/app/clock.ts'
import { TestMachine } from '../support/machine.ts'
import { T0 } from '../support/runs.ts'
import { systemClock } from '../support/system-clock.ts'

const HOUR = 3_600_000

function made(): { machine: TestMachine; clock: SystemClock; jumps: number[] } {
  const machine = new TestMachine()
  const jumps: number[] = []
  return { machine, clock: createClock(machine, by => jumps.push(by)), jumps }
}

describe('our time', () => {
  test('is the wall clock while nobody sets it', () => {
    const { machine, clock, jumps } = made()
    for (const ms of [0, 1, 999, 60_000, 30 * HOUR]) {
      machine.pass(ms)
      expect([clock.now(), clock.wall()]).toEqual([machine.wall(), machine.wall()])
    }
    expect(jumps).toEqual([])
    expect(clock.soundSince()).toBe(T0)
  })

  test('goes on when the wall clock is set back, a tenth slower until that has caught up', () => {
    const { machine, clock, jumps } = made()
    machine.set(-2 * HOUR)
    expect(clock.now()).toBe(T0)
    machine.pass(10_000)
    expect(clock.now()).toBe(T0 + 9_000)
    machine.pass(20 * HOUR - 10_000)
    expect(clock.now()).toBe(clock.wall())
    machine.pass(1_000)
    expect(clock.now()).toBe(clock.wall())
    expect(jumps).toEqual([-2 * HOUR])
    expect(clock.soundSince()).toBe(T0)
  })

  test('never goes back, whatever the wall clock does', () => {
    const { machine, clock } = made()
    let before = clock.now()
    for (const by of [-5, 400, -HOUR, 2 * HOUR, -48 * HOUR, -1, 3, 100 * HOUR, -1_500]) {
      machine.set(by)
      for (const ms of [0, 1, 2, 700, 0]) {
        machine.pass(ms)
        const now = clock.now()
        expect(now).toBeGreaterThanOrEqual(before)
        expect(now).toBeGreaterThanOrEqual(clock.wall())
        expect(Number.isInteger(now)).toBe(true)
        before = now
      }
    }
  })

  test('follows the wall clock ahead at once, and says since when it goes on without a leap', () => {
    const { machine, clock, jumps } = made()
    machine.pass(5_000)
    machine.set(48 * HOUR)
    expect(clock.soundSince()).toBe(T0 + 5_000 + 48 * HOUR)
    machine.pass(70)
    expect(clock.now()).toBe(T0 + 5_070 + 48 * HOUR)
    expect(clock.soundSince()).toBe(T0 + 5_000 + 48 * HOUR)
    expect(jumps).toEqual([48 * HOUR])
  })

  test('takes a time server that steers for what it is: no leap, no jump', () => {
    const { machine, clock, jumps } = made()
    for (let n = 0; n < 100; n += 1) {
      machine.pass(1_000)
      machine.set(n % 2 === 0 ? 40 : -30)
      expect(clock.now() - clock.wall()).toBeLessThanOrEqual(30)
    }
    expect(jumps).toEqual([])
    expect(clock.soundSince()).toBe(T0)
  })

  test('a wall clock that comes halfway back to us is no leap of ours', () => {
    const { machine, clock, jumps } = made()
    machine.set(-2 * HOUR)
    clock.now()
    machine.set(HOUR)
    expect(clock.now()).toBe(T0)
    expect(clock.soundSince()).toBe(T0)
    expect(jumps).toEqual([-2 * HOUR, HOUR])
  })

  test('does not begin before what is stored, and is sound from there on', () => {
    const { machine, clock } = made()
    clock.notBefore(T0 - 1)
    expect(clock.now()).toBe(T0)
    clock.notBefore(T0 + 2 * HOUR)
    expect([clock.now(), clock.soundSince()]).toEqual([T0 + 2 * HOUR, T0 + 2 * HOUR])
    machine.pass(1_000)
    expect(clock.now()).toBe(T0 + 2 * HOUR + 900)
    machine.pass(20 * HOUR)
    expect(clock.now()).toBe(clock.wall())
  })
})

describe('a timer', () => {
  test('fires when its time has come, once, and not before', () => {
    const { machine, clock } = made()
    const fired: number[] = []
    clock.at(T0 + 5_000, () => fired.push(clock.now()))
    clock.at(T0 - 1, () => fired.push(clock.now()))
    machine.pass(4_999)
    expect(fired).toEqual([T0])
    machine.pass(20_000)
    expect(fired).toEqual([T0, T0 + 5_000])
    expect(machine.timers).toBe(0)
  })

  test('waits at most a ninth longer when the wall clock is set back', () => {
    const { machine, clock } = made()
    const fired: number[] = []
    clock.at(T0 + 9_000, () => fired.push(machine.steady()))
    const began = machine.steady()
    machine.set(-48 * HOUR)
    clock.now()
    machine.pass(9_990)
    expect(fired).toEqual([])
    machine.pass(20)
    expect(fired.map(at => Math.round((at - began) / 100))).toEqual([100])
  })

  test('keeps its span when the wall clock is set ahead', () => {
    const { machine, clock } = made()
    let fired = 0
    clock.at(T0 + 9_000, () => (fired += 1))
    machine.set(48 * HOUR)
    machine.pass(8_999)
    expect(fired).toBe(0)
    machine.pass(1)
    expect(fired).toBe(1)
  })

  test('is forgotten at any moment, also on its second leg', () => {
    const { machine, clock } = made()
    let fired = 0
    const forget = [T0 + 1_000, T0 + 1_000].map(at => clock.at(at, () => (fired += 1)))
    forget[0]?.()
    machine.set(-HOUR)
    clock.now()
    machine.pass(1_050)
    forget[1]?.()
    machine.pass(HOUR)
    expect([fired, machine.timers]).toEqual([0, 0])
  })

  test('may be further away than a timer of the system can be', () => {
    const { machine, clock } = made()
    let fired = 0
    clock.at(T0 + 100 * 24 * HOUR, () => (fired += 1))
    machine.pass(100 * 24 * HOUR - 1)
    expect(fired).toBe(0)
    machine.pass(1)
    expect(fired).toBe(1)
  })
})

test('the clock of this machine says what the machine says', async () => {
  const before = Date.now()
  const fired = await new Promise<number>(resolve => systemClock.at(before + 3, () => resolve(systemClock.now())))
  expect(fired).toBeGreaterThanOrEqual(before + 3)
  expect(Math.abs(systemClock.now() - Date.now())).toBeLessThanOrEqual(1)
  expect(Math.abs(systemClock.wall() - Date.now())).toBeLessThanOrEqual(1)
})
