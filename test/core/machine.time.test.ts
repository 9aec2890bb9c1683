/** What a step's time is spent on: waiting for a rate, for our own storage, for fresh links, for the last copy. */
import { describe, expect, test } from 'bun:test'
import { type StepError, stepError } from '../../src/core/errors.ts'
import { timerAt, transition } from '../../src/core/machine.ts'
import { LIMITS, type Output, type Run, type Step } from '../../src/core/run.ts'
import { runOf, uuid } from '../support/runs.ts'
import { tellFirst } from '../support/told.ts'

const MINUTE = 60_000
const OUTPUT: Output = { mediaId: uuid(9), mime: 'image/png', bytes: 3, sha256: 'ab', location: 'ab/9.png' }
const FULL = stepError('storage_unavailable', 'the disk is full')
const failed = (fault: string, error: StepError) => ({ type: 'media.keep_failed', error, fault, outputs: [] })
const DEAD = failed('dead', stepError('output_fetch_failed', 'HTTP 403'))
const BROKEN = failed('spoiled', stepError('output_fetch_failed', 'it broke off'))
const AWAY = failed('away', FULL)
const WOKE = { type: 'run.woke' }
const FRESH = { type: 'job.succeeded', media: [{ url: 'https://x.example/2' }] }

const stepOf = (run: Run): Step => run.steps[0] as Step
/** A minute after what was before. */
const tell = (run: Run, said: object, at = run.updatedAt + MINUTE) => tellFirst(run, said, at)
const after = (run: Run, ...said: readonly object[]): Run => said.reduce<Run>((now, each) => tell(now, each).run, run)

const routed = {
  ...{ type: 'step.routed', provider: 'p', providerModel: 'm', token: 't', adjustments: [] },
  cost: { estimatedUsd: 1, actualUsd: null, basis: 'listed' },
}
const keeping = (): Run =>
  after(runOf({ a: [] }), routed, { type: 'step.submitted', jobRef: { id: 1 }, pollAt: 0 }, FRESH)

describe('an output that cannot be kept', () => {
  test('while our storage takes nothing is waited for ever longer, and shows why', () => {
    const waits: number[] = []
    let run = keeping()
    for (let i = 0; i < 8; i += 1) {
      run = tell(run, AWAY).run
      waits.push(((stepOf(run) as { keepAt: number }).keepAt - run.updatedAt) / 1_000)
    }
    expect(waits).toEqual([1, 2, 4, 8, 16, 32, 60, 60])
    expect(stepOf(run)).toMatchObject({ status: 'keeping', trouble: { tries: 0, refreshes: 0, error: FULL } })
  })

  test('has all its tries and fresh links left after that', () => {
    const waited = after(keeping(), ...Array.from({ length: 9 }, () => AWAY))
    const asked = tell(waited, DEAD)
    expect(asked.orders).toEqual(['poll'])
    let again = after(asked.run, FRESH)
    for (let n = 1; n < LIMITS.keepRefreshes; n += 1) {
      const slept = tell(after(again, AWAY, DEAD), WOKE)
      expect(slept.orders).toEqual(['poll'])
      again = after(slept.run, FRESH)
    }
    expect(stepOf(tell(again, DEAD).run).status).toBe('failed')
    const broken = after(waited, ...Array.from({ length: LIMITS.keepTries - 1 }, () => BROKEN))
    expect(stepOf(broken).status).toBe('keeping')
    expect(stepOf(after(broken, BROKEN)).status).toBe('failed')
  })

  test('is asked for afresh although its downloads broke off before', () => {
    const broken = after(keeping(), ...Array.from({ length: LIMITS.keepTries - 1 }, () => BROKEN))
    expect(tell(broken, DEAD).orders).toEqual(['poll'])
  })
})

test('an output that the last poll at the deadline of the run brought is copied in peace', () => {
  const running = after(runOf({ a: [] }), routed, { type: 'step.submitted', jobRef: { id: 1 }, pollAt: 0 })
  const at = running.deadlineAt + 60 * MINUTE
  const { run, orders } = tell(running, FRESH, at)
  expect(orders).toEqual(['keep'])
  expect((timerAt(run) ?? 0) - at).toBe(30 * MINUTE)
  expect(transition(run, { type: 'run.woke', at: at + 29 * MINUTE, jitter: 0 }).run.steps[0]?.status).toBe('keeping')
  expect(transition(run, { type: 'run.woke', at: at + 30 * MINUTE, jitter: 0 }).run.status).toBe('failed')
})

describe('an output whose run has no time left, and nobody was there', () => {
  const begun = keeping()
  const up = begun.deadlineAt + 60 * MINUTE
  /** Of a process that was started then. */
  const woke = (at: number, soundSince: number) => ({ ...WOKE, at, soundSince })
  const ended = { status: 'failed', error: { code: 'deadline_exceeded' } }

  test('is copied once more, for half an hour: what comes is taken', () => {
    const { run, orders } = tell(begun, woke(up, up), up)
    expect([orders, (timerAt(run) ?? 0) - up]).toEqual([['keep'], 30 * MINUTE])
    expect(tell(run, { type: 'media.kept', outputs: [OUTPUT] }).run).toMatchObject({ status: 'succeeded' })
  })

  test('is copied once more although it slept between two tries, and is asked for afresh where its link is dead', () => {
    const { run } = tell(after(begun, AWAY), woke(up, up), up)
    const dead = tell(run, DEAD)
    expect([dead.run.status, dead.orders]).toEqual(['running', ['poll']])
    expect(stepOf(tell(after(dead.run, FRESH), { type: 'media.kept', outputs: [OUTPUT] }).run).status).toBe('succeeded')
  })

  test('is tried for as long where its host does not answer, and then it is the end', () => {
    let { run } = tell(begun, woke(up, up), up)
    while (run.status === 'running') {
      expect(run.updatedAt).toBeLessThan(up + 30 * MINUTE)
      run = tell(run, AWAY, run.updatedAt).run
      const at = timerAt(run) ?? 0
      run = tell(run, woke(at, up), at).run
    }
    expect(run).toMatchObject({ ...ended, updatedAt: up + 30 * MINUTE })
  })

  test('that never says anything ends then, too', () => {
    const { run } = tell(begun, woke(up, up), up)
    const at = up + 30 * MINUTE
    expect(tell(run, woke(at, up), at).run).toMatchObject(ended)
  })

  test('has the time anew after another start, however little of it was left', () => {
    const { run } = tell(begun, woke(up, up), up)
    const again = up + 29 * MINUTE
    const late = tell(run, woke(up + 30 * MINUTE, again), up + 30 * MINUTE)
    expect([late.run.status, late.orders]).toEqual(['running', ['keep']])
    expect(tell(late.run, woke(up + 60 * MINUTE, again), up + 60 * MINUTE).run).toMatchObject(ended)
  })

  test('has the time, too, when the start came just before the deadline', () => {
    const at = begun.deadlineAt
    expect(tell(begun, woke(at, at - MINUTE), at).orders).toEqual(['keep'])
    expect(tell(begun, woke(at, at - 30 * MINUTE), at).run).toMatchObject(ended)
  })

  test('brings the rest of a set of which some are kept', () => {
    const one = after(begun, { ...AWAY, outputs: [OUTPUT] })
    const { run } = tell(one, woke(up, up), up)
    expect(run.status).toBe('running')
    expect(tell(run, woke(up + 30 * MINUTE, up), up + 30 * MINUTE).run).toMatchObject({ status: 'succeeded' })
  })
})

describe('the deadline of a step', () => {
  const slow = { type: 'step.submit_refused', error: stepError('provider_rate_limited', 'slow') }
  const busy = { type: 'step.submit_refused', error: stepError('provider_overloaded', 'busy') }
  const until = (run: Run): number => {
    const step = stepOf(run)
    let last = run.updatedAt
    while (transition(run, { type: 'run.woke', at: last, jitter: 0 }).run.status !== 'failed') last += MINUTE
    return (last - (step.startedAt ?? 0)) / MINUTE
  }
  const begun = runOf({ a: [] })
  const deadlineMin = stepOf(begun).deadlineMs / MINUTE

  test('does not run while the provider only limits our rate', () => {
    expect(until(after(begun, routed, slow, routed, slow))).toBe((begun.deadlineAt - begun.createdAt) / MINUTE - 1)
  })

  test('runs from the first attempt that was more than that', () => {
    expect(until(after(begun, routed, busy))).toBe(deadlineMin)
    expect(until(after(begun, routed, slow, routed, busy))).toBe(deadlineMin + 2)
    expect(until(after(begun, routed, busy, routed, slow))).toBe(deadlineMin)
  })

  test('does not run while the ways are closed, nor in the line after that: it runs from the first attempt', () => {
    const closed = {
      type: 'step.deferred',
      until: begun.createdAt + 5_000,
      error: stepError('provider_overloaded', 'x'),
    }
    const deferred = after(begun, closed)
    expect(until(deferred)).toBe((deferred.deadlineAt - deferred.createdAt) / MINUTE - 1)
    expect(until(after(deferred, routed, busy))).toBe(deadlineMin + 1)
    expect(until(after(begun, routed, busy, closed))).toBe(deadlineMin)
  })
})
