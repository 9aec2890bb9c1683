/** Results that come after an attempt is over for us: canceled, given up, or never answered. */
import { describe, expect, test } from 'bun:test'
import { stepError } from '../../src/core/errors.ts'
import type { AttemptSignal, Event } from '../../src/core/events.ts'
import { fork, resume, transition, wakeAt } from '../../src/core/machine.ts'
import { assertRun, isEnded, type Output, type Run, spent } from '../../src/core/run.ts'
import { mediaRowsOf } from '../../src/store/sqlite/rows.ts'
import { runOf, uuid } from '../support/runs.ts'
import { ROUTED, SUBMITTED, told } from '../support/told.ts'

const OUTPUT: Output = { mediaId: uuid(9), mime: 'image/png', bytes: 3, sha256: 'ab', location: 'ab/9.png' }
const LINE = { a: [], b: ['a'] }

const tell = (run: Run, ...signals: readonly object[]): Run => told(run, ...signals).run

const LATE = { type: 'attempt.came_late', jobRef: { id: 1 }, outputs: [OUTPUT], error: null }

const CANCELED = { type: 'job.cancel_settled', outcome: 'unsupported' }
const canceled = (): Run => tell(runOf(LINE), ROUTED, SUBMITTED, { type: 'run.cancel_requested' }, CANCELED)
const timedOut = (): Run => {
  const running = tell(runOf(LINE), ROUTED, SUBMITTED)
  return tell(running, { type: 'job.progressed', progress: null, pollAt: 0, at: running.deadlineAt })
}
const unknown = (): Run =>
  tell(
    runOf(LINE),
    ROUTED,
    { type: 'step.submit_unknown', error: stepError('outcome_unknown', 'lost'), askAt: Number.MAX_SAFE_INTEGER },
    { type: 'step.still_unknown', askAt: null },
  )

test('its files have their rows although the same commit holds another change of the step', () => {
  const two = tell(runOf(LINE), ROUTED, SUBMITTED, {
    type: 'job.failed',
    error: stepError('provider_lost', 'no such job'),
  })
  const late = tell(tell(two, ROUTED, { ...SUBMITTED, attempt: 2 }), { ...LATE, attempt: 1 })
  const moved = tell(late, { type: 'job.progressed', attempt: 2, progress: 0.5, pollAt: 0 })
  const ids = mediaRowsOf(moved, [moved.steps[0]?.id ?? '']).map(row => row.mediaId)
  expect(ids).toEqual([OUTPUT.mediaId])
})

test.each([
  ['a canceled job', canceled],
  ['a job that was given up at its deadline', timedOut],
  ['a submit whose outcome nobody knew', unknown],
] as const)('what %s brings late is written beside the attempt with its cost, and moves nothing', (_, ended) => {
  const before = ended()
  expect(isEnded(before)).toBe(true)
  const after = tell(before, { ...LATE, costUsd: 0.07 })
  expect([after.status, after.error, after.steps[0]?.status]).toEqual([
    before.status,
    before.error,
    before.steps[0]!.status,
  ])
  expect(after.steps[0]?.attempts[0]).toMatchObject({
    outcome: before.steps[0]?.attempts[0]?.outcome,
    cost: { actualUsd: 0.07, basis: 'metered' },
    lateResult: { outputs: [OUTPUT], error: null },
  })
  expect([wakeAt(after), resume(after)]).toEqual([null, []])
})

test('its log line follows the end of the run and is not another end', () => {
  const before = timedOut()
  const { events, durable } = transition(before, lateEvent(before))
  expect(durable).toBe(true)
  expect(events.map(line => [line.seq, line.type, line.data.outputs])).toEqual([
    [before.lastSeq + 1, 'step.late_result', [OUTPUT]],
  ])
})

test('it is written once, and not for an attempt whose end is known', () => {
  const once = tell(timedOut(), LATE)
  expect(transition(once, lateEvent(once)).ignored).toBeDefined()
  const failed = tell(runOf(LINE), ROUTED, SUBMITTED, {
    type: 'job.failed',
    error: stepError('content_rejected', 'no'),
  })
  expect(transition(failed, lateEvent(failed)).ignored).toBeDefined()
})

test('an upper bound becomes the listed price when the job turns out to be done', () => {
  const before = timedOut()
  expect(before.steps[0]?.attempts[0]?.cost.basis).toBe('upper_bound')
  expect(tell(before, LATE).steps[0]?.attempts[0]?.cost).toEqual({
    estimatedUsd: 0.05,
    actualUsd: null,
    basis: 'listed',
  })
})

test.each([
  ['its provider said had not begun', SUBMITTED, { type: 'job.cancel_settled', outcome: 'unbegun' }, { actualUsd: 0 }],
  [
    'nobody seemed to have sent',
    { type: 'step.submit_unknown', error: stepError('network_error', 'lost'), askAt: 0 },
    { type: 'step.not_found', isCertain: true },
    // There is a job, and nobody knows how far it came.
    { actualUsd: null, basis: 'upper_bound' },
  ],
])('a canceled job that %s, and that is done all the same, costs its listed price', (_, begun, over, undone) => {
  const before = tell(runOf(LINE), ROUTED, begun, { type: 'run.cancel_requested' }, over)
  expect(before.steps[0]?.attempts[0]?.cost.actualUsd).toBe(0)
  const costAfter = (more: object) => tell(before, { ...LATE, ...more }).steps[0]?.attempts[0]?.cost
  expect(costAfter({})).toEqual({ estimatedUsd: 0.05, actualUsd: null, basis: 'listed' })
  expect(costAfter({ costUsd: 0.07 })).toEqual({ estimatedUsd: 0.05, actualUsd: 0.07, basis: 'metered' })
  const nothing = { outputs: [], error: stepError('canceled', 'canceled') }
  expect(costAfter(nothing)).toMatchObject(undone)
})

test('a resumed run takes over what came late instead of paying for it again', () => {
  const order = { id: uuid(70), stepIds: [uuid(71), uuid(72)], at: 9_000_000 }
  const late = fork(tell(timedOut(), LATE), order)
  if (!late.ok) throw new Error(late.reason)
  expect(late.run.steps.map(step => [step.status, step.inherited])).toEqual([
    ['succeeded', true],
    ['queued', false],
  ])
  assertRun(late.run)
  const again = fork(tell(timedOut(), LATE), { ...order, fromStepKey: 'a' })
  if (!again.ok) throw new Error(again.reason)
  expect(again.run.steps.map(step => step.status)).toEqual(['queued', 'queued'])
})

test('a resumed run that has nothing left to do has succeeded', () => {
  const one = tell(runOf({ a: [] }), ROUTED, SUBMITTED)
  const given = tell(one, { type: 'job.progressed', progress: null, pollAt: 0, at: one.deadlineAt })
  const forked = fork(tell(given, LATE), { id: uuid(70), stepIds: [uuid(71)], at: 9_000_000 })
  if (!forked.ok) throw new Error(forked.reason)
  assertRun(forked.run)
  expect(forked.run.status).toBe('succeeded')
  expect(forked.events.map(line => line.type)).toEqual(['run.created', 'run.succeeded'])
})

describe('a job that is heard of late, and whose output does not come', () => {
  const UNFETCHED = { ...LATE, outputs: [], error: stepError('output_fetch_failed', 'HTTP 503') }

  test('has its name beside the attempt from then on, so that a resumed run asks for it and buys no other', () => {
    const named = tell(unknown(), UNFETCHED)
    expect(named.steps[0]?.attempts[0]).toMatchObject({ outcome: 'unknown', jobRef: { id: 1 } })
    const forked = fork(named, { id: uuid(70), stepIds: [uuid(71), uuid(72)], at: 9_000_000 })
    if (!forked.ok) throw new Error(forked.reason)
    expect(forked.run.steps[0]).toMatchObject({ status: 'running', attempt: { jobRef: { id: 1 } } })
  })

  test('may be heard of again, each time with a line of the log', () => {
    const named = tell(unknown(), UNFETCHED)
    const { run, events } = transition(named, lateEvent(named))
    expect(run.steps[0]?.attempts[0]?.lateResult).toMatchObject({ outputs: [OUTPUT], error: null })
    expect(events.map(line => [line.type, line.data.outputs])).toEqual([['step.late_result', [OUTPUT]]])
    expect(transition(run, lateEvent(run)).ignored).toBeDefined()
  })

  test('is bought again when it is over without one', () => {
    const failed = tell(unknown(), { ...UNFETCHED, error: stepError('provider_error', 'it broke') })
    expect(transition(failed, lateEvent(failed)).ignored).toBeDefined()
    const forked = fork(failed, { id: uuid(70), stepIds: [uuid(71), uuid(72)], at: 9_000_000 })
    expect(forked.ok && forked.run.steps[0]?.status).toBe('queued')
  })
})

describe('a submit that was said not to have reached the provider, and of whose job a word comes', () => {
  const notFound = (run: Run): Run =>
    tell(
      run,
      ROUTED,
      { type: 'step.submit_unknown', error: stepError('outcome_unknown', 'lost'), askAt: Number.MAX_SAFE_INTEGER },
      { type: 'step.not_found', isCertain: true },
    )
  const second = (): Run => tell(notFound(runOf(LINE)), ROUTED, { ...SUBMITTED, attempt: 2 })

  test.each([
    ['at the listed price', {}, { actualUsd: null, basis: 'listed' }],
    ['at the price that the provider names', { costUsd: 0.07 }, { actualUsd: 0.07, basis: 'metered' }],
    [
      'at most, as it is at work',
      { outputs: [], error: stepError('output_fetch_failed', 'it is at work') },
      { basis: 'upper_bound' },
    ],
  ])('is on the bill %s, and neither stops nor doubles the attempt after it', (_, said, cost) => {
    const before = second()
    expect(before.steps[0]?.attempts[0]?.cost.actualUsd).toBe(0)
    const { run, effects } = transition(before, { ...lateEvent(before), ...said } as Event)
    assertRun(run)
    expect(effects).toEqual([])
    expect(run.steps[0]).toMatchObject({ status: 'running', attempt: { no: 2, outcome: 'pending' } })
    expect(run.steps[0]?.attempts).toMatchObject([{ jobRef: { id: 1 }, outcome: 'failed', cost }])
    expect(spent(run.steps).usd).toBeCloseTo((said as { costUsd?: number }).costUsd ? 0.12 : 0.1, 9)
  })

  test('ends a step that waits, with its result: nothing is bought in its place', () => {
    const { run, effects } = told(notFound(runOf(LINE)), LATE)
    expect(run.steps[0]).toMatchObject({ status: 'succeeded', outputs: [OUTPUT], attempts: [{ outcome: 'failed' }] })
    expect(effects).toEqual([{ type: 'route', stepId: run.steps[1]?.id ?? '' }])
    expect(spent(run.steps).usd).toBe(0.05)
    expect(mediaRowsOf(run, [run.steps[0]?.id ?? '']).map(row => row.mediaId)).toEqual([OUTPUT.mediaId])
    const routed = transition(run, { ...ROUTED, stepId: run.steps[0]?.id, at: 9_000_000, jitter: 0 } as Event)
    expect(routed.ignored).toBe('the step is succeeded')
  })

  test('leaves a step that waits waiting when nothing came of it', () => {
    const nothing = { outputs: [], error: stepError('provider_error', 'it failed') }
    expect(told(notFound(runOf(LINE)), { ...LATE, ...nothing }).run.steps[0]?.status).toBe('waiting')
  })

  test('leaves the end of its run as it was', () => {
    const canceled = tell(second(), { type: 'run.cancel_requested' }, { ...CANCELED, attempt: 2 })
    const after = tell(canceled, { ...LATE, attempt: 1 })
    expect([after.status, after.steps[0]?.attempts[0]?.lateResult?.outputs]).toEqual(['canceled', [OUTPUT]])
    expect([wakeAt(after), resume(after)]).toEqual([null, []])
  })
})

function lateEvent(run: Run): Event {
  const signal: AttemptSignal = {
    type: 'attempt.came_late',
    stepId: run.steps[0]?.id ?? '',
    attempt: 1,
    jobRef: { id: 1 },
    outputs: [OUTPUT],
    error: null,
  }
  return { ...signal, at: run.updatedAt + 1_000, jitter: 0 }
}
