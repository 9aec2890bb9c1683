/**
 * Every state of a step against every event: what the step becomes (`→ state`, with the effects ordered), or `·` where
 * the event is ignored. The run has one step before it that succeeded, and one after it that waits.
 */
import { expect, test } from 'bun:test'
import { stepError } from '../../src/core/errors.ts'
import type { Event } from '../../src/core/events.ts'
import { transition } from '../../src/core/machine.ts'
import {
  type Attempt,
  assertRun,
  type Output,
  type Run,
  type Step,
  type StepIn,
  type StepState,
} from '../../src/core/run.ts'
import { runOf, T0, uuid } from '../support/runs.ts'

const AT = T0 + 10_000
const OUTPUT: Output = { mediaId: uuid(9), mime: 'image/png', bytes: 3, sha256: 'ab', location: 'ab/9.png' }
const overload = stepError('provider_overloaded', 'busy')
const attempt: Attempt = {
  no: 1,
  provider: 'p',
  providerModel: 'm',
  token: 't',
  startedAt: T0,
  submittedAt: null,
  endedAt: null,
  outcome: 'pending',
  jobRef: { id: 1 },
  error: null,
  cost: { estimatedUsd: 0.1, actualUsd: null, basis: 'listed' },
  adjustments: [],
  providerCancel: null,
  reopenAt: null,
}

const TROUBLE = { tries: 1, refreshes: 1, waits: 0, isStale: true, kept: [], error: overload }
const STATES: Record<string, StepState> = {
  queued: { status: 'queued' },
  waiting: { status: 'waiting', retryAt: AT - 1, error: overload },
  submitting: { status: 'submitting', attempt, lookup: null },
  unknown: { status: 'submitting', attempt, lookup: { since: AT - 1, askAt: AT - 1, tries: 0, error: overload } },
  running: { status: 'running', attempt, pollAt: AT - 1, progress: null },
  keeping: { status: 'keeping', attempt, media: [{ url: 'https://x.example/1' }], keepAt: AT - 1, trouble: null },
  'keeping again': {
    status: 'keeping',
    attempt,
    media: [{ url: 'https://x.example/1' }],
    keepAt: AT - 1,
    trouble: TROUBLE,
  },
  succeeded: { status: 'succeeded', outputs: [OUTPUT] },
  failed: { status: 'failed', error: overload },
  canceled: { status: 'canceled' },
  skipped: { status: 'skipped' },
}

const of = { at: AT, jitter: 0.5, stepId: 'step-b', attempt: 1 }
const step = { at: AT, jitter: 0.5, stepId: 'step-b' }
const EVENTS: Record<string, Event> = {
  'run.woke': { type: 'run.woke', at: AT, jitter: 0.5 },
  'run.cancel_requested': { type: 'run.cancel_requested', at: AT, jitter: 0.5 },
  'step.routed': {
    type: 'step.routed',
    ...step,
    provider: 'p',
    providerModel: 'm',
    token: 't',
    cost: attempt.cost,
    adjustments: [],
  },
  'step.unroutable': { type: 'step.unroutable', ...step, error: stepError('no_route', 'none') },
  'step.deferred': { type: 'step.deferred', ...step, until: AT + 9, error: overload },
  'step.submitted': { type: 'step.submitted', ...of, jobRef: { id: 2 }, pollAt: AT + 9 },
  'step.submitted (billed)': { type: 'step.submitted', ...of, jobRef: { id: 2 }, pollAt: AT + 9, costUsd: 0.07 },
  'step.unsent': { type: 'step.unsent', ...of },
  'step.submit_refused (busy)': { type: 'step.submit_refused', ...of, error: overload },
  'step.submit_refused (content)': { type: 'step.submit_refused', ...of, error: stepError('content_rejected', 'no') },
  'step.submit_unknown': { type: 'step.submit_unknown', ...of, error: overload, askAt: AT + 9 },
  'step.not_found': { type: 'step.not_found', ...of, isCertain: true },
  'step.still_unknown (ask again)': { type: 'step.still_unknown', ...of, askAt: AT + 9 },
  'step.still_unknown (never)': { type: 'step.still_unknown', ...of, askAt: null },
  'job.progressed': { type: 'job.progressed', ...of, progress: 0.5, pollAt: AT + 9 },
  'job.unreachable': { type: 'job.unreachable', ...of, error: overload, pollAt: AT + 9 },
  'job.hinted (with its job)': { type: 'job.hinted', ...of, jobRef: { id: 3 } },
  'job.hinted (bare)': { type: 'job.hinted', ...of, jobRef: null },
  'job.succeeded': { type: 'job.succeeded', ...of, media: [{ url: 'https://x.example/2' }] },
  'job.succeeded (empty)': { type: 'job.succeeded', ...of, media: [] },
  'job.failed (passing)': { type: 'job.failed', ...of, error: stepError('provider_error', 'broke') },
  'job.failed (for good)': { type: 'job.failed', ...of, error: stepError('content_rejected', 'no') },
  'job.cancel_settled': { type: 'job.cancel_settled', ...of, outcome: 'confirmed' },
  'media.kept': { type: 'media.kept', ...of, outputs: [OUTPUT] },
  'media.keep_failed (passing)': {
    type: 'media.keep_failed',
    ...of,
    error: stepError('output_fetch_failed', 'cut'),
    fault: 'spoiled',
    outputs: [],
  },
  'media.keep_failed (expired)': {
    type: 'media.keep_failed',
    ...of,
    error: stepError('output_fetch_failed', 'gone'),
    fault: 'dead',
    outputs: [],
  },
  'media.keep_failed (for good)': {
    type: 'media.keep_failed',
    ...of,
    error: stepError('output_invalid', 'html'),
    fault: 'final',
    outputs: [],
  },
  'another attempt': { type: 'job.succeeded', ...of, attempt: 2, media: [{ url: 'https://x.example/2' }] },
}

const isFinal = (state: StepState): boolean => ['succeeded', 'failed', 'canceled', 'skipped'].includes(state.status)

function runIn(state: StepState): Run {
  const run = runOf({ a: [], b: ['a'], c: ['b'] })
  const steps = run.steps.map((each): Step => {
    if (each.key === 'a') return { ...each, status: 'succeeded', outputs: [OUTPUT], startedAt: T0, completedAt: T0 }
    if (each.key === 'c') return each
    return {
      ...each,
      startedAt: state.status === 'queued' ? null : T0,
      completedAt: isFinal(state) ? T0 : null,
      ...state,
    } as Step
  })
  return { ...run, status: 'running', steps }
}

function say(state: StepState, event: Event): string {
  const next = transition(runIn(state), event)
  if (next.ignored !== undefined) return '·'
  assertRun(next.run)
  const b = next.run.steps[1] as Step
  const name = b.status === 'submitting' && b.lookup ? 'unknown' : b.status
  const effects = next.effects.map(effect => `${effect.type}${effect.stepId === 'step-b' ? '' : ` ${effect.stepId}`}`)
  return [`→ ${name}`, ...effects.map(effect => `+ ${effect}`), next.durable ? '' : '(soft)']
    .filter(part => part !== '')
    .join(' ')
}

const TABLE: Record<string, Record<string, string>> = {
  'run.woke': {
    waiting: '→ waiting + route (soft)',
    unknown: '→ unknown + find (soft)',
    running: '→ running + poll (soft)',
    keeping: '→ keeping + keep (soft)',
    'keeping again': '→ keeping + poll (soft)',
  },
  'run.cancel_requested': {
    queued: '→ canceled',
    waiting: '→ canceled',
    submitting: '→ submitting',
    unknown: '→ unknown',
    running: '→ running + cancelJob',
    keeping: '→ keeping',
    'keeping again': '→ canceled',
    succeeded: '→ succeeded',
    failed: '→ failed',
    canceled: '→ canceled',
    skipped: '→ skipped',
  },
  'step.routed': { queued: '→ submitting + submit', waiting: '→ submitting + submit' },
  'step.unroutable': { queued: '→ failed', waiting: '→ failed' },
  'step.deferred': { queued: '→ waiting', waiting: '→ waiting' },
  'step.submitted': { submitting: '→ running', unknown: '→ running' },
  'step.submitted (billed)': {
    submitting: '→ running',
    unknown: '→ running',
    running: '→ running',
    keeping: '→ keeping',
    'keeping again': '→ keeping',
  },
  'step.unsent': { submitting: '→ submitting + submit (soft)' },
  'step.submit_refused (busy)': { submitting: '→ waiting + route', unknown: '→ waiting + route' },
  'step.submit_refused (content)': { submitting: '→ failed', unknown: '→ failed' },
  'step.submit_unknown': { submitting: '→ unknown', unknown: '→ unknown' },
  'step.not_found': { submitting: '→ waiting + route', unknown: '→ waiting + route' },
  'step.still_unknown (ask again)': { submitting: '→ unknown', unknown: '→ unknown' },
  'step.still_unknown (never)': { submitting: '→ failed', unknown: '→ failed' },
  'job.progressed': { running: '→ running' },
  'job.unreachable': { running: '→ running (soft)', 'keeping again': '→ keeping' },
  'job.hinted (with its job)': { submitting: '→ running', unknown: '→ running' },
  'job.hinted (bare)': {},
  'job.succeeded': {
    submitting: '→ keeping + keep',
    unknown: '→ keeping + keep',
    running: '→ keeping + keep (soft)',
    'keeping again': '→ keeping + keep',
  },
  'job.succeeded (empty)': {
    submitting: '→ failed',
    unknown: '→ failed',
    running: '→ failed',
    'keeping again': '→ keeping',
  },
  'job.failed (passing)': { running: '→ waiting + route', 'keeping again': '→ keeping' },
  'job.failed (for good)': { running: '→ failed', 'keeping again': '→ keeping' },
  'job.cancel_settled': {},
  'media.kept': { keeping: '→ succeeded + route step-c', 'keeping again': '→ succeeded + route step-c' },
  'media.keep_failed (passing)': { keeping: '→ keeping', 'keeping again': '→ keeping' },
  'media.keep_failed (expired)': { keeping: '→ keeping + poll', 'keeping again': '→ keeping' },
  'media.keep_failed (for good)': { keeping: '→ failed', 'keeping again': '→ failed' },
  'another attempt': {},
}

test('every state of a step answers every event as the table says', () => {
  const said = Object.fromEntries(
    Object.entries(EVENTS).map(([name, event]) => [
      name,
      Object.fromEntries(
        Object.entries(STATES)
          .map(([state, value]) => [state, say(value, event)])
          .filter(([, what]) => what !== '·'),
      ),
    ]),
  )
  expect(said).toEqual(TABLE)
})

test.each([
  ['canceled meanwhile', { cancelRequestedAt: AT - 1 }, 'canceled', 'canceled'],
  ['too late', { deadlineAt: AT }, 'failed', 'deadline_exceeded'],
])('a submit that was never sent and is %s ends unsent, and costs nothing', (_, more, status, code) => {
  const run = { ...runIn({ status: 'submitting', attempt, lookup: null }), ...more }
  const next = transition(run, EVENTS['step.unsent']!)
  expect(next).toMatchObject({ effects: [], durable: true })
  const ended = next.run.steps[1] as Step
  expect(ended).toMatchObject({ status, attempts: [{ outcome: status, error: { code }, cost: { actualUsd: 0 } }] })
})

test.each(['running', 'keeping'])(
  'the answer to a submit that a webhook has overtaken tells a job that is %s its cost, once',
  state => {
    const { run } = transition(runIn(STATES[state]!), EVENTS['step.submitted (billed)']!)
    const { jobRef, outcome } = attempt
    expect(run.steps[1]).toMatchObject({
      ...STATES[state],
      attempt: { jobRef, outcome, cost: { estimatedUsd: 0.1, actualUsd: 0.07, basis: 'metered' } },
    })
    expect(transition(run, EVENTS['step.submitted (billed)']!).ignored).toBeDefined()
  },
)

test('a step that has failed says what to do now, not that it is tried again', () => {
  const error = stepError('network_error', 'nobody answers')
  const waiting = runIn({ status: 'waiting', retryAt: AT - 1, error })
  const { run } = transition(waiting, { type: 'step.unroutable', ...step, error })
  const failed = run.steps[1] as StepIn<'failed'>
  expect(failed.error).toMatchObject({ code: 'network_error', hint: expect.stringContaining('Resume the run') })
})
