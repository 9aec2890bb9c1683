/** A cancel while nobody knows what became of a submit: the job is looked for before it is given up, and not bought again. */
import { expect, test } from 'bun:test'
import { stepError } from '../../src/core/errors.ts'
import { fork, resume, timerAt } from '../../src/core/machine.ts'
import type { Run, Step } from '../../src/core/run.ts'
import { runOf, uuid } from '../support/runs.ts'
import { ROUTED, SUBMITTED, told } from '../support/told.ts'

const LOST = stepError('network_error', 'the answer to the submit was lost')
const CANCEL = { type: 'run.cancel_requested' }
const ORDER = { id: uuid(70), stepIds: [uuid(71), uuid(72)] }

function tell(from: Run, ...signals: readonly object[]) {
  const { run, effects } = told(from, ...signals)
  return { run, step: run.steps[0] as Step, orders: effects.map(({ type }) => type) }
}

const lost = (more = {}): object => ({ type: 'step.submit_unknown', error: LOST, askAt: 0, ...more })
const lookedUp = (): Run => tell(runOf({ a: [], b: ['a'] }), ROUTED, lost()).run
const canceled = (): Run => tell(lookedUp(), { type: 'step.still_unknown', askAt: 9e15 }, CANCEL).run

test('it is looked up at once, and stays open for that', () => {
  const { run, step } = tell(canceled())
  expect([run.status, step.status, run.steps[1]?.status]).toEqual(['running', 'submitting', 'canceled'])
  expect(timerAt(run)).toBe(run.cancelRequestedAt)
  expect(tell(run, { type: 'run.woke' }).orders).toEqual(['find'])
})

test('the first look is not moved to before the job may show', () => {
  const { run } = tell(runOf({ a: [] }), ROUTED)
  const at = run.updatedAt
  const fresh = tell(run, { ...lost({ askAt: at + 2_000 }), at }, { ...CANCEL, at: at + 500 })
  expect(timerAt(fresh.run)).toBe(at + 2_000)
})

test('a submit that was on the wire at the cancel, and whose answer is lost then, is looked up too', () => {
  const { run, step } = tell(runOf({ a: [] }), ROUTED, CANCEL, lost())
  expect([run.status, step]).toMatchObject(['running', { status: 'submitting', lookup: { tries: 0 } }])
})

test.each([
  ['a look-up', SUBMITTED],
  ['a webhook', { type: 'job.hinted', jobRef: { id: 1 } }],
])('the job that %s finds is canceled at the provider', (_, found) => {
  const { run, orders } = tell(canceled(), found)
  expect([run.status, orders]).toEqual(['running', ['cancelJob']])
  expect(resume(run).map(({ type }) => type)).toEqual(['cancelJob'])
  const over = tell(run, { type: 'job.cancel_settled', outcome: 'confirmed' })
  expect(over.run.status).toBe('canceled')
  expect(over.step).toMatchObject({ status: 'canceled', attempts: [{ outcome: 'canceled' }] })
})

test('a submit that did not arrive was free, and the next resume buys the step', () => {
  const { run, step, orders } = tell(canceled(), { type: 'step.not_found', isCertain: true })
  expect([run.status, orders]).toEqual(['canceled', []])
  expect(step).toMatchObject({
    status: 'canceled',
    attempts: [{ outcome: 'canceled', error: { code: 'canceled' }, cost: { actualUsd: 0 } }],
  })
  expect(fork(run, { ...ORDER, at: run.updatedAt })).toMatchObject({ ok: true, run: { status: 'queued' } })
})

const UNKNOWN = {
  status: 'failed',
  error: { code: 'outcome_unknown' },
  attempts: [{ outcome: 'unknown', error: { code: 'outcome_unknown' }, cost: { basis: 'upper_bound' } }],
}

test.each([
  ['nobody will ever tell', { type: 'step.still_unknown', askAt: null }],
  ['another installation would send again', { type: 'step.not_found', isCertain: false }],
])('what %s ends at once, and may be billed; the run is canceled all the same', (_, said) => {
  const { run, step, orders } = tell(canceled(), said)
  expect([run.status, run.error, orders]).toEqual(['canceled', null, []])
  expect(step).toMatchObject(UNKNOWN)
})

test('who cancels waits two minutes at most for what nobody can tell, and the last look is made then', () => {
  const run = canceled()
  const until = (run.cancelRequestedAt ?? 0) + 120_000
  const still = (at: number) => ({ type: 'step.still_unknown', at, askAt: at + 300_000 })
  const waits = tell(run, still(until - 1))
  expect([waits.step.status, timerAt(waits.run)]).toEqual(['submitting', until])
  expect(tell(waits.run, { type: 'run.woke', at: until }).orders).toEqual(['find'])
  const over = tell(waits.run, still(until))
  expect([over.run.status, over.step]).toMatchObject(['canceled', UNKNOWN])
})

test('a time in which nobody could look is none of the two minutes', () => {
  const run = canceled()
  const soundSince = (run.cancelRequestedAt ?? 0) + 180_000
  const still = (at: number) => ({ type: 'step.still_unknown', at, askAt: at + 300_000, soundSince })
  const waits = tell(run, still(soundSince))
  expect([waits.step.status, timerAt(waits.run)]).toEqual(['submitting', soundSince + 120_000])
  expect(tell(waits.run, still(soundSince + 120_000)).step).toMatchObject(UNKNOWN)
})

test('a submit that is lost long after the cancel is looked up for as long', () => {
  const wire = tell(runOf({ a: [] }), ROUTED, CANCEL).run
  const at = (wire.cancelRequestedAt ?? 0) + 290_000
  const { run } = tell(wire, { ...lost(), at }, { type: 'step.still_unknown', at: at + 2_000, askAt: at + 60_000 })
  expect(timerAt(run)).toBe(at + 60_000)
})

test.each([
  ['canceled', canceled],
  ['failed', lookedUp],
])(
  'a resume of a %s run buys no second job where nobody can tell of the first, unless it names the step',
  (status, begun) => {
    const { run } = tell(begun(), { type: 'step.still_unknown', askAt: null })
    expect(run.status).toBe(status as Run['status'])
    const at = run.updatedAt
    for (const order of [ORDER, { ...ORDER, fromStepKey: 'b' }])
      expect(fork(run, { ...order, at })).toMatchObject({
        ok: false,
        reason: expect.stringContaining('whether p took the job of a'),
        hint: expect.stringContaining('"from_step_key": "a"'),
      })
    expect(fork(run, { ...ORDER, at, fromStepKey: 'a' })).toMatchObject({ ok: true, run: { status: 'queued' } })
    // A late word of it tells: that job is asked for.
    const late = {
      type: 'attempt.came_late',
      jobRef: { id: 1 },
      outputs: [],
      error: stepError('output_fetch_failed', ''),
    }
    expect(fork(tell(run, late).run, { ...ORDER, at })).toMatchObject({
      ok: true,
      run: { steps: [{ status: 'running', attempt: { jobRef: { id: 1 } } }, {}] },
    })
  },
)

const LISTED = { estimatedUsd: 0.05, actualUsd: null, basis: 'listed' }

test.each([
  ['not begun', 'nothing', 'unbegun', { ...LISTED, actualUsd: 0 }, 'confirmed'],
  ['been at work, perhaps', 'perhaps all', 'confirmed', { ...LISTED, basis: 'upper_bound' }, 'confirmed'],
  ['no way to be stopped', 'perhaps all', 'unsupported', { ...LISTED, basis: 'upper_bound' }, 'unsupported'],
])('a job that is canceled and had %s costs %s', (_, _cost, outcome, cost, providerCancel) => {
  const running = tell(runOf({ a: [] }), ROUTED, SUBMITTED, CANCEL).run
  const { run, step } = tell(running, { type: 'job.cancel_settled', outcome })
  expect([run.status, step]).toMatchObject(['canceled', { status: 'canceled', attempts: [{ cost, providerCancel }] }])
})

test.each([
  ['nothing', { costUsd: 0 }, { actualUsd: 0, basis: 'metered' }],
  ['what it says', { costUsd: 0.02 }, { actualUsd: 0.02, basis: 'metered' }],
  ['perhaps all, where it does not say', {}, { actualUsd: null, basis: 'upper_bound' }],
])('a job that fails after the cancel costs %s', (_, billed, cost) => {
  const running = tell(runOf({ a: [] }), ROUTED, SUBMITTED, CANCEL).run
  const { step } = tell(running, { type: 'job.failed', error: stepError('provider_error', 'no'), ...billed })
  expect(step).toMatchObject({ status: 'canceled', attempts: [{ outcome: 'canceled', cost }] })
})
