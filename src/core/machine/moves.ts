/**
 * The small moves that the machine is made of: entering a state, ending an attempt, ending a step.
 */

import { type ErrorCode, type StepError, stepError } from '../errors.ts'
import type { Effect } from '../events.ts'
import { backoffMs, decide, triesOn } from '../routing.ts'
import {
  type Attempt,
  type CancelAnswer,
  isTakenOver,
  type ProviderMedia,
  type Step,
  type StepIn,
  type StepSpec,
  type StepState,
} from '../run.ts'

/** A poll, a look-up or a routing whose answer never comes is asked again after this long. */
export const LOST_MS = 120_000
/** A copy that never ends is begun again after this long; the copy itself has tighter limits. */
export const KEEP_LOST_MS = 30 * 60_000

/** What a handler makes of one step. */
export interface Move {
  step: Step
  effects?: Effect[]
  /** False when a crash may forget it. */
  durable?: boolean
}

export type Outcome = Move | { ignored: string }

/** When something happened, and the chance that came with it. */
export interface Moment {
  at: number
  jitter: number
}

/** `soundSince`: before that nobody was there, or nobody measured the time. */
export type Woken = Moment & { soundSince?: number }

export type Live = StepIn<'submitting'> | StepIn<'running'> | StepIn<'keeping'>

/** A job that can be asked for once more need not be remembered as done; the answer to a submit comes once. */
export function keepNow(
  step: StepIn<'submitting'> | StepIn<'running'>,
  media: readonly ProviderMedia[],
  at: number,
): Move {
  if (media.length === 0) {
    const error = stepError('output_invalid', 'the provider reported success without an output', {
      provider: step.attempt.provider,
    })
    return { step: end(step, { status: 'failed', error }, at, { outcome: 'failed', error }) }
  }
  const next = enter(
    step,
    { status: 'keeping', attempt: step.attempt, media, keepAt: at + KEEP_LOST_MS, trouble: null },
    at,
  )
  return { step: next, effects: [order('keep', next)], durable: step.status === 'submitting' }
}

/** Ends the live attempt; the step waits for its next route, or fails. `bill` says what the failure may have cost. */
export function failAttempt(step: Live, error: StepError, event: Moment, bill: 'free' | 'maybe' | 'metered'): Move {
  const tries = triesOn(step.attempt, step.attempts) + 1
  const reopenAt = event.at + backoffMs(error, tries, event.jitter)
  const cost =
    bill === 'free'
      ? { ...step.attempt.cost, actualUsd: 0 }
      : bill === 'maybe'
        ? atMost(step.attempt.cost)
        : step.attempt.cost
  const failed = { ...step, attempt: { ...step.attempt, cost, reopenAt } }
  const over = finished(failed, event.at, { outcome: 'failed', error })
  if (decide(over) === 'fail')
    return { step: end(failed, { status: 'failed', error }, event.at, { outcome: 'failed', error }) }
  const waiting: Step = {
    ...specOf(step),
    attempts: over,
    updatedAt: event.at,
    status: 'waiting',
    retryAt: event.at,
    error,
  }
  return { step: waiting, effects: [{ type: 'route', stepId: step.id }] }
}

export function failUnknown(step: StepIn<'submitting'>, at: number): Step {
  const { provider, providerModel } = step.attempt
  const detail = step.lookup ? `: ${step.lookup.error.message}` : ''
  const error = stepError(
    'outcome_unknown',
    `nobody can say whether ${provider} took the job of ${providerModel}${detail}`,
    { provider },
  )
  const charged = { ...step, attempt: { ...step.attempt, cost: atMost(step.attempt.cost) } }
  return end(charged, { status: 'failed', error }, at, { outcome: 'unknown', error })
}

/** A job that may have begun may be billed, whatever its provider says of the cancel. */
export function endCanceled(step: StepIn<'running'>, at: number): Step {
  const charged = { ...step, attempt: { ...step.attempt, cost: atMost(step.attempt.cost) } }
  return end(charged, { status: 'canceled' }, at, { outcome: 'canceled' })
}

/** What the provider made of the wish to stop a job. */
export function cancelSettled(step: StepIn<'running'>, outcome: CancelAnswer, at: number): Move {
  const { attempt } = step
  switch (outcome) {
    case 'unbegun': {
      const free: Attempt = { ...attempt, providerCancel: 'confirmed', cost: { ...attempt.cost, actualUsd: 0 } }
      return { step: endCanceled({ ...step, attempt: free }, at) }
    }
    case 'confirmed':
    case 'unsupported':
      return { step: endCanceled({ ...step, attempt: { ...attempt, providerCancel: outcome } }, at) }
    case 'failed': {
      // The provider would not stop it: perhaps it is done, and then its output is ours. One more look decides.
      const marked: Step = { ...step, attempt: { ...attempt, providerCancel: outcome }, pollAt: at + LOST_MS }
      return { step: marked, effects: [order('poll', step)] }
    }
    default:
      return outcome satisfies never
  }
}

/** A cancel or the deadline came before the submit: nothing runs and nothing is billed. */
export function endUnsent(step: StepIn<'submitting'>, error: StepError, at: number): Step {
  const free = { ...step, attempt: { ...step.attempt, cost: { ...step.attempt.cost, actualUsd: 0 } } }
  if (error.code === 'canceled') return end(free, { status: 'canceled' }, at, { outcome: 'canceled', error })
  return end(free, { status: 'failed', error }, at, { outcome: 'failed', error })
}

type Ended = Extract<StepState, { status: 'succeeded' | 'failed' | 'canceled' | 'skipped' }>
type AttemptEnd = Pick<Attempt, 'outcome'> & Partial<Pick<Attempt, 'error' | 'providerCancel'>>

/** A step in a final state; a live attempt is closed with `how`. */
export function end(step: Step, state: Ended, at: number, how?: AttemptEnd): Step {
  const attempts = 'attempt' in step && how ? finished(step, at, how) : step.attempts
  const ended = state.status === 'failed' ? { ...state, error: lastWord(step, state.error) } : state
  return { ...specOf(step), attempts, updatedAt: at, completedAt: at, ...ended }
}

/** The answer to a submit comes once: what it held, and may yet be had, is all that a resume can keep. */
export function unkeptOf({ attempt, media }: StepIn<'keeping'>): { unkept?: readonly ProviderMedia[] } {
  return attempt.jobRef === null ? { unkept: media } : {}
}

/** What is tried again asks for nothing; once the step has failed, somebody must. */
function lastWord(step: Step, error: StepError): StepError {
  if ('attempt' in step && isTakenOver(step, step.attempt) && UNFETCHED.has(error.code))
    return { ...error, hint: ASKED_HINT }
  // It was fetched again, as long as that could help.
  if (error.code === 'output_invalid') return { ...error, retryable: false }
  return TRIED_AGAIN.has(error.code) ? { ...error, hint: RESUME_HINT } : error
}

/** Failures after which the provider has not said that the job is over without an output. */
export const UNFETCHED: ReadonlySet<ErrorCode> = new Set([
  'provider_timeout',
  'deadline_exceeded',
  'output_fetch_failed',
  'output_invalid',
  'storage_unavailable',
])
const ASKED_HINT = 'Resume the run: a resume has asked for this job now, so the next one buys another.'

const TRIED_AGAIN: ReadonlySet<ErrorCode> = new Set(['provider_rate_limited', 'provider_overloaded', 'network_error'])
const RESUME_HINT = 'Resume the run when the cause is over: finished steps are kept, and this one is tried again.'

export function enter<S extends StepState>(step: Step, state: S, at: number): Step & S {
  return { ...specOf(step), updatedAt: at, ...state } as Step & S
}

function finished(step: Live, at: number, how: AttemptEnd): Attempt[] {
  return [...step.attempts, { ...step.attempt, endedAt: at, ...how }]
}

/** The part of a step that every state has. */
export function specOf(step: Step): Omit<Step, keyof StepState> & StepSpec {
  const { id, index, key, role, kind, model, params, dependsOn, pictures, pictureShapes, deadlineMs } = step
  const { createdAt, updatedAt, startedAt, completedAt, attempts, inherited } = step
  return {
    id,
    index,
    key,
    role,
    kind,
    model,
    params,
    dependsOn,
    pictures,
    pictureShapes,
    deadlineMs,
    createdAt,
    updatedAt,
    startedAt,
    completedAt,
    attempts,
    inherited,
  }
}

export function order(type: 'submit' | 'poll' | 'find' | 'keep', step: Live): Effect {
  return { type, stepId: step.id, attempt: step.attempt.no }
}

export function cancelOrder(step: StepIn<'running'>): Effect {
  return {
    type: 'cancelJob',
    stepId: step.id,
    attempt: step.attempt.no,
    provider: step.attempt.provider,
    jobRef: step.attempt.jobRef,
  }
}

/** The run that submitted a job has its bill. */
export function billed(step: Live, costUsd: number | undefined): Attempt['cost'] {
  return isTakenOver(step, step.attempt) ? step.attempt.cost : metered(step.attempt, costUsd)
}

/**
 * A webhook was faster than the answer to the submit: of that only the cost is news, and at some providers
 * nobody says it again. An attempt has one submit, so it is the same job, however the two name it.
 */
export function overtaken(step: StepIn<'running'> | StepIn<'keeping'>, costUsd: number | undefined): Outcome {
  const { attempt } = step
  if (costUsd === undefined || attempt.cost.actualUsd !== null) return { ignored: 'a webhook has named the job before' }
  return { step: { ...step, attempt: { ...attempt, cost: billed(step, costUsd) } } }
}

export function metered(attempt: Attempt, costUsd: number | undefined): Attempt['cost'] {
  return costUsd === undefined ? attempt.cost : { ...attempt.cost, actualUsd: costUsd, basis: 'metered' }
}

export function atMost(cost: Attempt['cost']): Attempt['cost'] {
  return cost.actualUsd !== null || cost.estimatedUsd === null ? cost : { ...cost, basis: 'upper_bound' }
}
