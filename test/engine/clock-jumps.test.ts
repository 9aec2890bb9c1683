/**
 * What jumps of the wall clock do to the engine: to what waits, to what is signed, to look-ups, to what is thrown away.
 * The real clock, outbox and SQLite store, on a machine that is data.
 */
import { afterEach, beforeEach, describe, expect, test } from 'bun:test'
import { rmSync } from 'node:fs'
import { createClock, type SystemClock } from '../../src/app/clock.ts'
import { createNotifier } from '../../src/app/notifier.ts'
import type { Found, Observer, Provider } from '../../src/core/ports.ts'
import type { Step } from '../../src/core/run.ts'
import { type EffectDeps, perform } from '../../src/engine/effects.ts'
import { Outbox } from '../../src/engine/outbox.ts'
import { type Schedule, Sweeper } from '../../src/engine/sweeper.ts'
import { newestTime } from '../../src/store/sqlite/newest.ts'
import { openSqliteStore } from '../../src/store/sqlite/open.ts'
import type { SqliteStore } from '../../src/store/sqlite/store.ts'
import { TestMachine } from '../support/machine.ts'
import { runOf, T0 } from '../support/runs.ts'
import { cancelTurn, creation, deliveryOf, queuedRun } from '../support/store-runs.ts'
import { tempDir } from '../support/store-temp.ts'

const MINUTE = 60_000
const HOUR = 60 * MINUTE
const DAY = 24 * HOUR
const OBSERVER: Observer = {
  attemptEnded: () => {},
  runEnded: () => {},
  deliveryTried: () => {},
  fault: (where, error) => {
    throw new Error(`${where}: ${error}`)
  },
}

/** A receiver that fails at first, an outbox on a machine, and a way to start anew on the same database. */
class Office {
  readonly dir = tempDir()
  readonly machine = new TestMachine()
  /** Times of the attempts, in steady ms since the beginning; and what was signed. */
  readonly tries: number[] = []
  readonly signedAt: number[] = []
  status = 500
  arrived = Promise.withResolvers<void>()
  declare clock: SystemClock
  declare store: SqliteStore
  declare outbox: Outbox
  readonly #began = this.machine.steady()

  /** A process starts, as createApp does it. */
  async start(): Promise<this> {
    this.clock = createClock(this.machine)
    this.store = await openSqliteStore({ dataDir: this.dir, now: this.clock.now })
    this.clock.notBefore(newestTime(this.store.db))
    const notifier = createNotifier({
      egress: { post: async (_url, { headers }) => this.#receive(Number(headers['webhook-timestamp'])) },
      secretsOf: async () => [new Uint8Array(32)],
      present: () => new Uint8Array(),
      id: () => '',
      wall: this.clock.wall,
      version: '0',
    })
    this.outbox = new Outbox({ store: this.store, notifier, clock: this.clock, observer: OBSERVER })
    await this.outbox.takeUp()
    return this
  }

  /** The process is gone; what it had set up with the machine, too. */
  async die(): Promise<void> {
    this.machine.forget()
    await this.outbox.drain(0)
    await this.store.close()
  }

  async add(): Promise<void> {
    const at = this.clock.now()
    const run = queuedRun({ at })
    await this.store.create(creation(run))
    await this.store.commit(cancelTurn(run, deliveryOf(run, { dueAt: at, createdAt: at })))
  }

  async close(): Promise<void> {
    await this.die()
    rmSync(this.dir, { recursive: true, force: true })
  }

  #receive(timestampS: number) {
    this.tries.push(this.machine.steady() - this.#began)
    this.signedAt.push(timestampS)
    this.arrived.resolve()
    return { type: 'answered' as const, status: this.status, headers: {}, text: '', ip: '203.0.113.1', ms: 1 }
  }
}

describe('a callback that waits for its second attempt', () => {
  let office: Office
  beforeEach(async () => {
    office = await new Office().start()
    await office.add()
    await office.outbox.runOnce()
    expect(office.tries).toEqual([0])
  })
  afterEach(() => office.close())

  test('comes when it is due although the wall clock was set back by two hours', async () => {
    office.machine.set(-2 * HOUR)
    office.clock.now()
    office.machine.pass(3_900)
    await office.outbox.runOnce()
    expect(office.tries).toHaveLength(1)
    office.machine.pass(3_000)
    await office.outbox.runOnce()
    expect(office.tries).toHaveLength(2)
  })

  test('is signed with the time that the receiver has', async () => {
    office.machine.set(-2 * HOUR)
    office.machine.pass(7_000)
    await office.outbox.runOnce()
    expect(office.signedAt).toEqual([T0 / 1_000, (T0 - 2 * HOUR + 7_000) / 1_000])
  })

  test('comes when it is due although the machine came back with a clock that is two days behind', async () => {
    await office.die()
    office.machine.set(-2 * DAY)
    await office.start()
    await office.outbox.runOnce()
    expect(office.tries).toHaveLength(1)
    office.machine.pass(7_000)
    await office.outbox.runOnce()
    expect(office.tries).toHaveLength(2)
    expect(office.signedAt[1]).toBe((T0 - 2 * DAY + 7_000) / 1_000)
  })

  test('is found within a minute when the wall clock was set ahead, without anybody waking the outbox', async () => {
    office.status = 410
    office.arrived = Promise.withResolvers()
    // An hour's wait, begun before the leap.
    office.store.db.run('UPDATE deliveries SET due_at = due_at + ?1, ready_at = ready_at + ?1', [HOUR])
    await office.die()
    await office.start()
    office.outbox.wake()
    while (office.machine.timers === 0) await new Promise(resolve => setImmediate(resolve))
    office.machine.set(2 * HOUR)
    office.machine.pass(MINUTE)
    await office.arrived.promise
    expect(office.tries).toEqual([0, MINUTE])
  })
})

test('a leap ahead sends no more at once than the limits allow', async () => {
  const office = await new Office().start()
  for (let n = 0; n < 70; n += 1) await office.add()
  office.store.db.run('UPDATE deliveries SET due_at = due_at + ?1, ready_at = ready_at + ?1', [DAY])
  office.machine.set(2 * DAY)
  await office.outbox.runOnce()
  // Four places for one host; the others follow as these come back.
  expect(office.tries).toHaveLength(4)
  await office.close()
})

test('the newest time of an empty database is none', async () => {
  const office = await new Office().start()
  expect(newestTime(office.store.db)).toBe(0)
  expect(office.clock.now()).toBe(T0)
  await office.close()
})

test('the newest time is that of the last event, however many runs have ended before', async () => {
  const office = await new Office().start()
  for (let n = 0; n < 120; n += 1) {
    const run = queuedRun({ at: T0 + n * 10_000, callback: null })
    await office.store.create(creation(run))
    await office.store.commit(cancelTurn(run))
  }
  expect(newestTime(office.store.db)).toBe(T0 + 119 * 10_000 + 1_000)
  await office.close()
})

test('the newest time is that of whoever waits longest, not only of what happened last', async () => {
  const office = await new Office().start()
  const run = queuedRun({ at: T0 })
  await office.store.create(creation(run))
  expect(newestTime(office.store.db)).toBe(T0)
  office.store.db.run('UPDATE runs SET updated_at = ?, wake_at = ?', [T0 + 5_000, T0 + HOUR])
  expect(newestTime(office.store.db)).toBe(T0 + 5_000)
  await office.add()
  office.store.db.run('UPDATE deliveries SET updated_at = ?', [T0 + 6_000])
  expect(newestTime(office.store.db)).toBe(T0 + 6_000)
  await office.close()
})

describe('a look-up', () => {
  const SETTLE = 60_000
  const LONG_AGO = T0 - DAY
  const never = new AbortController().signal
  const attempt = {
    no: 1,
    provider: 'lists',
    providerModel: 'm',
    token: 't',
    startedAt: LONG_AGO,
    submittedAt: null,
    endedAt: null,
    outcome: 'pending',
    jobRef: null,
    error: null,
    adjustments: [],
    providerCancel: null,
    reopenAt: null,
    cost: { estimatedUsd: null, actualUsd: null, basis: 'unknown' },
  } as const

  /** What an engine makes of the look-up of a submit that was on its way when the process before it died. */
  const made = (find?: () => Promise<Found>) => {
    const machine = new TestMachine()
    const clock = createClock(machine)
    const provider = { id: 'lists', settleMs: SETTLE, ...(find ? { find } : {}) } as Provider
    const { soundSince } = clock
    const given = { clock, soundSince, providers: new Map([['lists', provider]]), observer: OBSERVER }
    const store = { isUnsent: async () => false }
    const media = { stashOf: async () => [] }
    const deps = { ...given, store, media, resubmitUnknown: false, callbackUrl: () => null } as unknown as EffectDeps
    const run = runOf({ a: [] })
    const step = { ...run.steps[0], status: 'submitting', attempt, lookup: null } as Step
    const live = { run: { ...run, steps: [step] } }
    const look = () => perform(deps, live, { type: 'find', stepId: step.id, attempt: 1 }, never)
    return { machine, clock, look }
  }
  const none = async (): Promise<Found> => ({ type: 'none' })
  const asksAgain = (askAt: number | null) => ({ type: 'step.still_unknown', askAt })
  const GONE = { type: 'step.not_found', isCertain: true }

  test('that finds nothing right after a start says nothing, however long ago the submit seems to be', async () => {
    const { machine, look } = made(none)
    expect(await look()).toMatchObject(asksAgain(T0 + SETTLE))
    machine.pass(SETTLE - 1)
    expect(await look()).toMatchObject(asksAgain(T0 + SETTLE))
    machine.pass(1)
    expect(await look()).toMatchObject(GONE)
  })

  test('that finds nothing after a leap ahead waits anew, and is not fooled by a clock set back', async () => {
    const { machine, look } = made(none)
    machine.pass(SETTLE)
    expect(await look()).toMatchObject(GONE)
    machine.set(2 * DAY)
    expect(await look()).toMatchObject(asksAgain(T0 + SETTLE + 2 * DAY + SETTLE))
    machine.pass(SETTLE)
    expect(await look()).toMatchObject(GONE)
    machine.set(-DAY)
    expect(await look()).toMatchObject(GONE)
  })

  test('that finds the job is believed at once', async () => {
    const { clock, look } = made(async () => ({ type: 'found', jobRef: 'job', pollAfterMs: 1 }))
    expect(await look()).toMatchObject({ type: 'step.submitted', jobRef: 'job', pollAt: clock.now() + 1 })
  })

  test('that nobody can ever answer has nothing to wait for, not even the time that an absence needs', async () => {
    const { look } = made(async () => ({ type: 'untraceable' }))
    expect(await look()).toMatchObject(asksAgain(null))
  })

  test('is not made up for a provider that has none', async () => {
    const { look } = made()
    expect(await look()).toMatchObject(asksAgain(null))
  })
})

/** Croner's rule on a machine: a timer that fires before its wall time has come is armed again for what is left. */
const croner =
  (machine: TestMachine): Schedule =>
  (pattern, work) => {
    const [every, offset] = pattern === '* * * * * *' ? [1_000, 0] : [HOUR, 17 * MINUTE]
    const next = (): number => Math.floor((machine.wall() - offset) / every + 1) * every + offset
    let forget = (): void => {}
    const arm = (target: number): void => {
      forget = machine.after(Math.max(0, target - machine.wall()), () => {
        if (machine.wall() < target) return arm(target)
        work()
        arm(next())
      })
    }
    arm(next())
    return { stop: () => forget() }
  }

describe('the sweeper', () => {
  const made = (
    rehydrate?: () => Promise<number>,
    observer = OBSERVER,
    { retentionMs = 30 * DAY }: { retentionMs?: number | null } = {},
  ) => {
    const machine = new TestMachine()
    const clock = createClock(machine)
    const sweeps: number[] = []
    const prunes: number[] = []
    const registry = { rehydrate: rehydrate ?? (async (until: number) => sweeps.push(until)) }
    const media = { prune: async (before: number) => prunes.push(before) && 1 }
    const { soundSince } = clock
    const deps = { registry, media, clock, soundSince, observer, retentionMs }
    const sweeper = new Sweeper(deps, croner(machine))
    /** Lets time pass in steps of a second; each sweep ends before the next second. */
    const seconds = async (n: number): Promise<void> => {
      for (let i = 0; i < n; i += 1) {
        machine.pass(1_000)
        await new Promise(resolve => setImmediate(resolve))
      }
    }
    return { machine, clock, sweeper, seconds, sweeps, prunes }
  }

  test('goes on within seconds when the wall clock is set back, and looks as far as our time has come', async () => {
    const { machine, clock, sweeper, seconds, sweeps } = made()
    sweeper.start()
    await seconds(3)
    expect(sweeps).toHaveLength(3)
    machine.set(-2 * HOUR)
    await seconds(30)
    const before = sweeps.length
    expect(before).toBeGreaterThan(3)
    await seconds(20)
    expect(sweeps).toHaveLength(before + 20)
    expect(sweeps.at(-1)).toBeLessThanOrEqual(clock.now())
    expect(sweeps.at(-1)).toBeGreaterThan(clock.now() - 2_000)
    sweeper.stop()
    expect(machine.timers).toBe(0)
  })

  test('removes outputs every hour, but not in the first ten minutes after a start', async () => {
    const { machine, sweeper, seconds, prunes } = made()
    sweeper.start()
    expect(await sweeper.prune()).toBe(0)
    await seconds(2 * 3_600)
    expect(prunes).toHaveLength(2)
    expect((prunes[1] ?? 0) - (prunes[0] ?? 0)).toBe(HOUR)
    expect(prunes[0]).toBeLessThan(machine.wall() - 30 * DAY)
    sweeper.stop()
  })

  test('removes strays where outputs are kept for ever, and no output: none is so old', async () => {
    const { machine, sweeper, prunes } = made(undefined, OBSERVER, { retentionMs: null })
    expect(await sweeper.prune()).toBe(0)
    machine.pass(HOUR)
    expect(await sweeper.prune()).toBe(1)
    expect(prunes).toEqual([0])
  })

  test('removes nothing while a leap ahead is young: it may be a mistake that somebody is about to correct', async () => {
    const { machine, sweeper, prunes } = made()
    machine.pass(HOUR)
    machine.set(60 * DAY)
    expect(await sweeper.prune()).toBe(0)
    machine.pass(9 * MINUTE)
    expect(await sweeper.prune()).toBe(0)
    machine.pass(MINUTE)
    expect(await sweeper.prune()).toBe(1)
    expect(prunes).toEqual([machine.wall() - 30 * DAY])
  })

  test('that fails is a fault, and the next one comes', async () => {
    const faults: string[] = []
    const observer: Observer = { ...OBSERVER, fault: (where, error) => faults.push(`${where}: ${error}`) }
    const { sweeper, seconds } = made(async () => {
      throw new Error('the disk is held')
    }, observer)
    sweeper.start()
    await seconds(2)
    sweeper.stop()
    expect(faults).toEqual(Array(2).fill('sweeper: Error: the disk is held'))
  })

  test('never sweeps twice at once', async () => {
    let open = 0
    const done = Promise.withResolvers<number>()
    const { sweeper, seconds } = made(() => {
      open += 1
      return done.promise
    })
    sweeper.start()
    await seconds(5)
    expect(open).toBe(1)
    done.resolve(0)
    await seconds(2)
    expect(open).toBe(2)
    sweeper.stop()
  })
})
