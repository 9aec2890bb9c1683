import { describe, expect, test } from 'bun:test'
import fc from 'fast-check'
import { createGate, type Gate, type Place, type Turned } from '../../src/net/provider-http/gate.ts'

const LONG = 60_000

/** Enters without waiting for the outcome; `place` is set once there is one. */
function enter(gate: Gate, provider: string, signal?: AbortSignal) {
  const entry: { provider: string; outcome?: Place | Turned } = { provider }
  void gate.enter(provider, LONG, signal).then(outcome => {
    entry.outcome = outcome
  })
  return entry
}

const placed = (entries: readonly { outcome?: Place | Turned }[]) =>
  entries.filter(entry => entry.outcome?.type === 'place').length
const settle = async () => {
  for (let i = 0; i < 5; i += 1) await Promise.resolve()
}
const settled = async <T>(entry: T): Promise<T> => {
  await settle()
  return entry
}
const leave = async (entry: { outcome?: Place | Turned } | undefined) => {
  if (entry?.outcome?.type === 'place') entry.outcome.leave()
  await settle()
}

describe('the gate', () => {
  test('lets one provider take its cap, and the next in line goes in as one leaves', async () => {
    const gate = createGate(64, 32)
    const entries = Array.from({ length: 40 }, () => enter(gate, 'a'))
    await settle()
    expect(placed(entries)).toBe(32)
    expect(entries[32]?.outcome).toBeUndefined()
    await leave(entries[0])
    expect(entries[32]?.outcome?.type).toBe('place')
    expect(entries[33]?.outcome).toBeUndefined()
  })

  test('keeps a lifeline for the others when several providers hang with all that they can take', async () => {
    const gate = createGate(64, 32)
    const hung = ['a', 'b', 'c'].flatMap(provider => Array.from({ length: 300 }, () => enter(gate, provider)))
    await settle()
    expect(placed(hung)).toBe(50)
    const healthy = ['d', 'e', 'f', 'g', 'h'].map(provider => enter(gate, provider))
    await settle()
    expect(healthy.map(entry => entry.outcome?.type)).toEqual(Array(5).fill('place'))
  })

  test('serves the longest waiting first, whichever provider it is for', async () => {
    const gate = createGate(2, 2)
    await leave(await settled(enter(gate, 'b')))
    const holders = [enter(gate, 'a'), enter(gate, 'a')]
    const [first, second] = [enter(gate, 'c'), enter(gate, 'b')]
    await settle()
    await leave(holders[0])
    expect([first?.outcome?.type, second?.outcome?.type]).toEqual(['place', undefined])
  })

  test('gives a place back once, however often it is left', async () => {
    const gate = createGate(4, 4)
    const [first] = [enter(gate, 'a'), enter(gate, 'a')]
    await settle()
    await leave(first)
    await leave(first)
    const next = Array.from({ length: 5 }, () => enter(gate, 'a'))
    await settle()
    expect(placed(next)).toBe(2)
  })

  test('forgets who gives up, by signal or by time', async () => {
    const gate = createGate(1, 1)
    const holder = enter(gate, 'a')
    const stop = new AbortController()
    const aborted = enter(gate, 'a', stop.signal)
    const late = gate.enter('a', 1)
    const patient = enter(gate, 'a')
    stop.abort()
    expect(await late).toEqual({ type: 'refused', why: 'timeout' })
    expect(aborted.outcome).toEqual({ type: 'refused', why: 'aborted' })
    expect(await gate.enter('a', 1, AbortSignal.abort())).toEqual({ type: 'refused', why: 'aborted' })
    await leave(holder)
    expect(patient.outcome?.type).toBe('place')
    const next = [enter(gate, 'a'), enter(gate, 'a')]
    await settle()
    expect(placed(next)).toBe(0)
    // Whoever had given up would be the first in line.
    await leave(patient)
    expect(next.map(entry => entry.outcome?.type)).toEqual(['place', undefined])
  })

  test('in any order of coming and going holds its limits, strands nobody, and is first come first served', async () => {
    const coming = fc.constantFrom('a', 'b', 'c', 'd', 'e', 'f')
    const going = fc.nat({ max: 1000 })
    await fc.assert(
      fc.asyncProperty(fc.array(fc.oneof(coming, coming, going), { maxLength: 80 }), async steps => {
        const gate = createGate(8, 5)
        const entries: (ReturnType<typeof enter> & { left?: true })[] = []
        for (const action of steps) {
          const inside = entries.filter(entry => entry.outcome && !entry.left)
          if (typeof action === 'string') entries.push(enter(gate, action))
          else if (inside.length > 0) {
            const leaving = inside[action % inside.length]
            if (leaving) leaving.left = true
            await leave(leaving)
          }
          await settle()
          checkInvariants(entries)
        }
      }),
      { numRuns: 60 },
    )
  })
})

function checkInvariants(entries: { provider: string; outcome?: Place | Turned; left?: true }[]): void {
  const inside = entries.filter(entry => entry.outcome && !entry.left)
  expect(inside.length).toBeLessThanOrEqual(8)
  for (const provider of new Set(entries.map(entry => entry.provider))) {
    const own = entries.filter(entry => entry.provider === provider)
    const count = own.filter(entry => entry.outcome && !entry.left).length
    expect(count).toBeLessThanOrEqual(5)
    const firstWaiting = own.findIndex(entry => !entry.outcome)
    if (firstWaiting === -1) continue
    expect(own.slice(firstWaiting).every(entry => !entry.outcome)).toBe(true)
    const mayEnter = count < 5 && inside.length < 8 && (inside.length < 6 || count < 2)
    expect(mayEnter).toBe(false)
  }
}
