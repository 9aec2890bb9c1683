/**
 * What a run can be told (events, past tense) and what it asks for (effects, orders).
 *
 * 1. Every event carries its time and its jitter; the core asks for neither.
 * 2. A step event names the attempt that it speaks of, so that a stale one can be told from a live one.
 * 3. `route` is answered at once and in memory; every other effect reaches outside and runs after the commit.
 */
import type { StepError } from './errors.ts'
import type { Json } from './json.ts'
import type { Adjustment, CancelAnswer, Cost, Output, ProviderMedia } from './run.ts'

interface OfStep {
  stepId: string
}
interface OfAttempt extends OfStep {
  attempt: number
}

export type RunSignal =
  /** A time that the run waits for has come: a poll, a retry, a look-up, a deadline. `soundSince`: before that nobody was there. */
  { type: 'run.woke'; soundSince?: number } | { type: 'run.cancel_requested' }

export type StepSignal =
  | ({
      type: 'step.routed'
      provider: string
      providerModel: string
      token: string
      cost: Cost
      adjustments: readonly Adjustment[]
    } & OfStep)
  | ({ type: 'step.unroutable'; error: StepError } & OfStep)
  | ({ type: 'step.deferred'; until: number; error: StepError } & OfStep)

export type AttemptSignal =
  | ({ type: 'step.submitted'; jobRef: Json; pollAt: number; costUsd?: number } & OfAttempt)
  /** The process that meant to submit it ended before it did. */
  | ({ type: 'step.unsent' } & OfAttempt)
  | ({ type: 'step.submit_refused'; error: StepError } & OfAttempt)
  | ({ type: 'step.submit_unknown'; error: StepError; askAt: number } & OfAttempt)
  /** The provider has no such job; not certain where nobody can tell and the operator wants it sent again. */
  | ({ type: 'step.not_found'; isCertain: boolean } & OfAttempt)
  /** A look-up could not tell. `askAt` null: it never will. `soundSince`: before that nobody looked, or nobody measured the time. */
  | ({ type: 'step.still_unknown'; askAt: number | null; soundSince?: number } & OfAttempt)
  | ({ type: 'job.progressed'; progress: number | null; pollAt: number } & OfAttempt)
  /** The question failed, not the job. */
  | ({ type: 'job.unreachable'; error: StepError; pollAt: number } & OfAttempt)
  /** A webhook spoke of the job, and may bring its lost reference. */
  | ({ type: 'job.hinted'; jobRef: Json } & OfAttempt)
  | ({ type: 'job.succeeded'; media: readonly ProviderMedia[]; costUsd?: number } & OfAttempt)
  /** `jobless`: it was a call, not a job; nobody need ask for it again. */
  | ({ type: 'job.failed'; error: StepError; costUsd?: number; jobless?: true } & OfAttempt)
  | ({ type: 'job.cancel_settled'; outcome: CancelAnswer } & OfAttempt)
  | ({ type: 'media.kept'; outputs: readonly Output[] } & OfAttempt)
  /** `outputs`: what is kept of several all the same, so far. */
  | ({ type: 'media.keep_failed'; error: StepError; fault: KeepFault; outputs: readonly Output[] } & OfAttempt)
  /** An attempt that is over for us has had a result after all, or its job, which nobody could name, has a name now. */
  | ({
      type: 'attempt.came_late'
      jobRef: Json
      outputs: readonly Output[]
      error: StepError | null
      costUsd?: number
    } & OfAttempt)

/**
 * Why an output is not kept. away: its host, or our own storage, does not answer. dead: the link. spoiled: what came is not whole,
 * or not what it should be. final: another download would bring the same.
 */
export type KeepFault = 'away' | 'dead' | 'spoiled' | 'final'

export type Event = (RunSignal | StepSignal | AttemptSignal) & { at: number; jitter: number }

export type Effect =
  | { type: 'route'; stepId: string }
  | { type: 'submit'; stepId: string; attempt: number }
  | { type: 'find'; stepId: string; attempt: number }
  | { type: 'poll'; stepId: string; attempt: number }
  | { type: 'keep'; stepId: string; attempt: number }
  | { type: 'cancelJob'; stepId: string; attempt: number; provider: string; jobRef: Json }
