/**
 * What one step becomes when something has happened to it. Total: every pair of state and event has an answer.
 */
import { type ErrorCode, type StepError, stepError } from '../errors.ts'
import type { AttemptSignal, Effect, StepSignal } from '../events.ts'
import {
  type Attempt,
  attemptsOf,
  isReady,
  isTakenOver,
  type Output,
  overLimit,
  type Run,
  type Step,
  type StepIn,
} from '../run.ts'
import { boughtAgain, keepAgain, keepExpired, onKeeping } from './keep.ts'
import {
  atMost,
  billed,
  cancelOrder,
  cancelSettled,
  end,
  endCanceled,
  endUnsent,
  enter,
  failAttempt,
  failUnknown,
  KEEP_LOST_MS,
  keepNow,
  LOST_MS,
  type Moment,
  type Move,
  metered,
  type Outcome,
  order,
  overtaken,
  UNFETCHED,
  unkeptOf,
  type Woken,
} from './moves.ts'

/** A webhook that came early is not worth more than one poll a second. */
const HINT_SPACING_MS = 1_000
/** A job that was taken shows within moments: who looks sooner may miss it, and then waits until the provider has settled. */
export const SHOWS_MS = 2_000

export function onStep(run: Run, step: Step, event: StepSignal & Moment): Outcome {
  if (step.status !== 'queued' && step.status !== 'waiting') return { ignored: `the step is ${step.status}` }
  if (!isReady(step, run)) return { ignored: 'the step is not ready' }
  const startedAt = step.startedAt ?? event.at
  switch (event.type) {
    case 'step.unroutable':
      return { step: end({ ...step, startedAt }, { status: 'failed', error: event.error }, event.at) }
    case 'step.deferred':
      return {
        step: enter({ ...step, startedAt }, { status: 'waiting', retryAt: event.until, error: event.error }, event.at),
      }
    case 'step.routed': {
      const over = overLimit(run, event.cost.estimatedUsd)
      if (over) return { step: end({ ...step, startedAt }, { status: 'failed', error: over }, event.at) }
      const attempt: Attempt = {
        no: step.attempts.length + 1,
        provider: event.provider,
        providerModel: event.providerModel,
        token: event.token,
        startedAt: event.at,
        submittedAt: null,
        endedAt: null,
        outcome: 'pending',
        jobRef: null,
        error: null,
        cost: event.cost,
        adjustments: event.adjustments,
        providerCancel: null,
        reopenAt: null,
      }
      return {
        step: enter({ ...step, startedAt }, { status: 'submitting', attempt, lookup: null }, event.at),
        effects: [{ type: 'submit', stepId: step.id, attempt: attempt.no }],
      }
    }
  }
}

export function onAttempt(run: Run, step: Step, event: AttemptSignal & Moment): Outcome {
  if (event.type === 'attempt.came_late') return cameLate(step, event)
  if (!('attempt' in step)) return { ignored: `the step is ${step.status}` }
  if (step.attempt.no !== event.attempt) return { ignored: `attempt ${event.attempt} is over` }
  if (step.status === 'submitting') return onSubmitting(run, step, event)
  if (step.status === 'running') return onRunning(run, step, event)
  return onKeeping(run, step, event)
}

/** The attempt of a number, when it is over for us but may yet have a result that we do not have. */
export function mayComeLate(step: Step, no: number): Attempt | null {
  const attempt = step.attempts.find(each => each.no === no)
  if (!attempt || step.inherited || (attempt.lateResult && !isUnfetched(attempt.lateResult))) return null
  if (attempt.outcome === 'canceled' || attempt.outcome === 'unknown' || isThoughtUnsent(attempt)) return attempt
  return attempt.error && GIVEN_UP.has(attempt.error.code) ? attempt : null
}

/** A submit of which it was said that it did not reach the provider; a word of its job proves that it did. */
function isThoughtUnsent({ error, submittedAt }: Attempt): boolean {
  return error?.code === 'network_error' && submittedAt === null
}

/** Failures of ours, not of the job. */
const GIVEN_UP: ReadonlySet<ErrorCode> = new Set([
  'provider_timeout',
  'provider_lost',
  'deadline_exceeded',
  'output_fetch_failed',
])

/**
 * The job of a step that did not succeed, where the provider may still have it and its output, or we have what it gave: it is,
 * or will be, paid. It is taken over once: what one resume has waited for in vain would hold up every other.
 */
export function knownJob(step: Step): Attempt | null {
  const last = step.attempts.at(-1)
  if (!last || isTakenOver(step, last)) return null
  if ('unkept' in step && step.unkept) return last
  if (last.jobRef === null) return null
  const { lateResult, outcome, providerCancel } = last
  if (!lateResult && outcome === 'canceled') return providerCancel === 'confirmed' ? null : last
  return isUnfetched(lateResult ?? last) ? last : null
}

/** Whether nobody can say if the last submit of a step was taken, so that another may be a second one. A late word of it tells. */
export function isInDoubt({ attempts }: Step): boolean {
  const last = attempts.at(-1)
  return last?.outcome === 'unknown' && !last.lateResult
}

function isUnfetched({ error, outputs = [] }: { error: StepError | null; outputs?: readonly Output[] }): boolean {
  return error !== null && outputs.length === 0 && UNFETCHED.has(error.code)
}

function cameLate(step: Step, event: AttemptSignal & { type: 'attempt.came_late' } & Moment): Outcome {
  const attempt = mayComeLate(step, event.attempt)
  if (!attempt) return { ignored: 'nothing is open about this attempt' }
  const { at, jobRef, outputs, error } = event
  // What has a result was not free, as it seemed when it ended; nor may be what has a job and seemed never sent.
  const seemedFree = attempt.cost.actualUsd === 0 && (outputs.length > 0 || attempt.submittedAt === null)
  const priced = seemedFree ? atMost({ ...attempt.cost, actualUsd: null }) : attempt.cost
  const known: Attempt['cost'] = { ...priced, basis: priced.estimatedUsd === null ? 'unknown' : 'listed' }
  const cost = metered({ ...attempt, cost: outputs.length > 0 ? known : priced }, event.costUsd)
  const late: Attempt = { ...attempt, jobRef, cost, lateResult: { at, outputs, error } }
  const after = { ...step, attempts: step.attempts.map(each => (each === attempt ? late : each)), updatedAt: at }
  // It is paid, and wanted: no other job is bought in its place.
  if (step.status === 'waiting' && outputs.length > 0) return { step: end(after, { status: 'succeeded', outputs }, at) }
  return { step: after }
}

function onSubmitting(run: Run, step: StepIn<'submitting'>, event: AttemptSignal & Moment): Outcome {
  const { at } = event
  switch (event.type) {
    case 'step.submitted':
    case 'job.hinted': {
      if (event.jobRef === null) return { ignored: 'the hint names no job' }
      const costUsd = event.type === 'step.submitted' ? event.costUsd : undefined
      const attempt = { ...step.attempt, jobRef: event.jobRef, submittedAt: at, cost: metered(step.attempt, costUsd) }
      const pollAt = event.type === 'step.submitted' ? soonOf(run, step, event) : at
      const next = enter(step, { status: 'running', attempt, pollAt, progress: null }, at)
      return run.cancelRequestedAt !== null ? { step: next, effects: [cancelOrder(next)] } : { step: next }
    }
    case 'job.succeeded': {
      const attempt = { ...step.attempt, submittedAt: at, cost: metered(step.attempt, event.costUsd) }
      return keepNow({ ...step, attempt }, event.media, at)
    }
    case 'step.submit_refused':
      if (event.error.code === 'canceled') return { step: endUnsent(step, event.error, at) }
      return failAttempt(step, event.error, event, 'free')
    case 'step.unsent': {
      if (step.lookup) return { ignored: 'it may have been sent' }
      if (run.cancelRequestedAt !== null)
        return { step: endUnsent(step, stepError('canceled', 'canceled before it was submitted'), at) }
      if (at >= deadlineOf(run, step)) {
        const words = `${deadlineWords(run, at)} before it was submitted`
        return { step: endUnsent(step, stepError('deadline_exceeded', words), at) }
      }
      return { step, effects: [order('submit', step)], durable: false }
    }
    case 'step.submit_unknown':
      return {
        step: enter(
          step,
          {
            status: 'submitting',
            attempt: step.attempt,
            lookup: { since: at, askAt: event.askAt, tries: 0, error: event.error },
          },
          at,
        ),
      }
    case 'step.not_found': {
      const { provider } = step.attempt
      if (run.cancelRequestedAt !== null) {
        if (!event.isCertain) return { step: failUnknown(step, at) }
        return { step: endUnsent(step, stepError('canceled', 'canceled; the submit did not reach the provider'), at) }
      }
      const words = event.isCertain
        ? 'the submit did not reach the provider'
        : `nobody can say whether ${provider} took the job; it is sent again, as this installation wants it`
      return failAttempt(
        step,
        stepError('network_error', words, { provider }),
        event,
        event.isCertain ? 'free' : 'maybe',
      )
    }
    case 'step.still_unknown': {
      const until = lookUntil(run, step, event)
      if (event.askAt === null || at >= until) return { step: failUnknown(step, at) }
      const error = step.lookup?.error ?? stepError('outcome_unknown', 'the answer to the submit was lost')
      return {
        step: enter(
          step,
          {
            status: 'submitting',
            attempt: step.attempt,
            lookup: {
              since: step.lookup?.since ?? at,
              askAt: Math.min(event.askAt, until),
              tries: (step.lookup?.tries ?? 0) + 1,
              error,
            },
          },
          at,
        ),
      }
    }
    default:
      return { ignored: `${event.type} before the submit was answered` }
  }
}

function onRunning(run: Run, step: StepIn<'running'>, event: AttemptSignal & Moment): Outcome {
  const { at } = event
  switch (event.type) {
    case 'job.progressed': {
      if (step.attempt.providerCancel !== null) return { step: endCanceled(step, at) }
      if (at >= deadlineOf(run, step)) return timeUp(run, step, at)
      const progress = event.progress ?? step.progress
      const moved = progress !== step.progress
      return {
        step: { ...step, progress, pollAt: soonOf(run, step, event), updatedAt: moved ? at : step.updatedAt },
        durable: moved,
      }
    }
    case 'job.unreachable':
      if (step.attempt.providerCancel !== null) return { step: endCanceled(step, at) }
      if (at >= deadlineOf(run, step)) return timeUp(run, step, at)
      return { step: { ...step, pollAt: soonOf(run, step, event) }, durable: false }
    case 'step.submitted':
      return overtaken(step, event.costUsd)
    case 'job.hinted': {
      const pollAt = Math.min(step.pollAt, Math.max(at, step.updatedAt + HINT_SPACING_MS))
      return pollAt === step.pollAt
        ? { ignored: 'a poll is due anyway' }
        : { step: { ...step, pollAt, updatedAt: at }, durable: false }
    }
    case 'job.succeeded':
      if (event.media.length === 0 && isTakenOver(step, step.attempt)) return boughtAgain(step, 'it names none', event)
      return keepNow({ ...step, attempt: { ...step.attempt, cost: billed(step, event.costUsd) } }, event.media, at)
    case 'job.failed': {
      // What names no job is not kept as the name of one: a resume would ask for it.
      const jobRef = event.jobless ? null : step.attempt.jobRef
      const attempt = { ...step.attempt, jobRef, cost: billed(step, event.costUsd) }
      if (run.cancelRequestedAt !== null) return { step: endCanceled({ ...step, attempt }, at) }
      if (isTakenOver(step, step.attempt) && event.error.code !== 'content_rejected')
        return boughtAgain(step, event.error.message, event)
      return failAttempt({ ...step, attempt }, event.error, event, event.costUsd === undefined ? 'maybe' : 'metered')
    }
    case 'job.cancel_settled':
      if (run.cancelRequestedAt === null) return { ignored: 'no cancel was requested' }
      return cancelSettled(step, event.outcome, at)
    default:
      return { ignored: `${event.type} while the job runs` }
  }
}

/**
 * Until when a lost submit is looked up: to the deadline. Who cancels does not wait for that, but as long as for any answer that
 * is lost: longer than every provider takes to settle. A time in which we were down does not count: nobody looked.
 */
function lookUntil(run: Run, step: StepIn<'submitting'>, { at, soundSince = 0 }: Woken): number {
  const { cancelRequestedAt } = run
  if (cancelRequestedAt === null) return deadlineOf(run, step)
  const patience = Math.max(cancelRequestedAt, step.lookup?.since ?? at, soundSince) + LOST_MS
  return Math.min(patience, deadlineOf(run, step))
}

/** What a wish to cancel means for a step; queued and waiting ones are ended by the run. */
export function cancelStep(step: Step, at: number): Move | null {
  if (step.status === 'running') return { step, effects: [cancelOrder(step)] }
  if (step.status === 'submitting' && step.lookup) {
    // A job that may be at work is found first: only then can it be canceled, and is not bought again.
    const { since, askAt } = step.lookup
    return { step: { ...step, lookup: { ...step.lookup, askAt: Math.min(askAt, Math.max(at, since + SHOWS_MS)) } } }
  }
  if (step.status === 'keeping' && step.trouble)
    return { step: end(step, { status: 'canceled', ...unkeptOf(step) }, at, { outcome: 'canceled' }) }
  return null
}

export function wakeStep(run: Run, step: Step, event: Woken): Move | null {
  const { at } = event
  // A job is asked for once more before it is given up, and so is a lost submit: what they gave is ours.
  if (step.status !== 'running' && step.status !== 'submitting' && at >= deadlineOf(run, step))
    return expire(run, step, event)
  switch (step.status) {
    case 'running': {
      if (step.pollAt > at) return null
      const next: Step = { ...step, pollAt: at + LOST_MS }
      return { step: next, effects: [order('poll', step)], durable: false }
    }
    case 'waiting':
      return step.retryAt > at
        ? null
        : {
            step: { ...step, retryAt: at + LOST_MS },
            effects: [{ type: 'route', stepId: step.id }],
            durable: false,
          }
    case 'submitting':
      if (!step.lookup || step.lookup.askAt > at) return null
      return {
        step: { ...step, lookup: { ...step.lookup, askAt: at + LOST_MS } },
        effects: [order('find', step)],
        durable: false,
      }
    case 'keeping':
      return step.keepAt > at ? null : keepAgain(step, at)
    case 'queued':
    case 'succeeded':
    case 'failed':
    case 'canceled':
    case 'skipped':
      return null
  }
}

/** When the next poll is made: as the provider wishes, but not after the deadline, which is decided by a last answer. */
function soonOf(run: Run, step: Step, { pollAt }: { pollAt: number }): number {
  return Math.min(pollAt, deadlineOf(run, step))
}

/** The job is still at work after the deadline: it is given up, and may yet be billed. */
function timeUp(run: Run, step: StepIn<'running'>, at: number): Move {
  const { provider } = step.attempt
  const error = stepError('provider_timeout', `${deadlineWords(run, at)} while the provider was at work`, { provider })
  const charged = { ...step, attempt: { ...step.attempt, cost: atMost(step.attempt.cost) } }
  const effects: Effect[] = [cancelOrder(step)]
  return { step: end(charged, { status: 'failed', error }, at, { outcome: 'failed', error }), effects }
}

function deadlineWords(run: Run, at: number): string {
  return `the deadline of the ${at >= run.deadlineAt ? 'run' : 'step'} passed`
}

/** The end of a step whose time is up. */
function expire(run: Run, step: Exclude<Step, { status: 'running' | 'submitting' }>, event: Woken): Move | null {
  const runUp = event.at >= run.deadlineAt
  const words = deadlineWords(run, event.at)
  switch (step.status) {
    case 'waiting':
    case 'queued': {
      if (step.status === 'queued' && !(runUp && isReady(step, run))) return null
      const last = step.status === 'waiting' ? `; last: ${step.error.message}` : ''
      return { step: end(step, { status: 'failed', error: stepError('deadline_exceeded', words + last) }, event.at) }
    }
    case 'keeping':
      return keepExpired(step, words, event)
    case 'succeeded':
    case 'failed':
    case 'canceled':
    case 'skipped':
      return null
  }
}

/**
 * A step's own deadline runs from its first attempt that was not turned away for the provider's rate: before that it has stood
 * in line, for a place, a rate, or a way that opens again. The run's deadline is above all. A copy of a paid output has only the
 * latter, and time for the copy: the last poll at the deadline may have brought it, or we were down (`keepExpired`).
 */
export function deadlineOf(run: Run, step: Step): number {
  if (step.status === 'keeping') return Math.max(run.deadlineAt, step.updatedAt + KEEP_LOST_MS)
  const begun = attemptsOf(step).find(attempt => !wasTurnedAway(attempt))
  return begun ? Math.min(run.deadlineAt, begun.startedAt + step.deadlineMs) : run.deadlineAt
}

function wasTurnedAway({ error, submittedAt }: Attempt): boolean {
  return error?.code === 'provider_rate_limited' && submittedAt === null
}
