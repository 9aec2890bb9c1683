/**
 * A run keeps the mode in which it was created: what was asked of the sandbox is bought nowhere, and what was to be bought is
 * not painted.
 *
 * 1. No step of a run is routed by a server of the other mode.
 * 2. An attempt that was under way has no provider there. What was painted ends at once. What may be paid is neither given up nor
 *    sent again: its provider may be back before its deadline.
 */
import { type StepError, stepError } from '../core/errors.ts'
import type { AttemptSignal, Effect } from '../core/events.ts'
import type { Clock } from '../core/ports.ts'
import type { Mode, ProviderMedia, Run, StepIn } from '../core/run.ts'

export type UnderWay = StepIn<'submitting' | 'running' | 'keeping'>

/** How often a provider that is not here is missed again. */
const MISSED_MS = 60_000

/** Why a step of the run cannot be run here; null when it can. */
export function otherMode(mode: Mode, run: Run): StepError | null {
  if (run.mode === mode) return null
  return stepError('no_route', `the run was created in mode ${run.mode}; this server runs in mode ${mode}`, {
    hint: 'Start the server in the mode of the run and resume it there, or create a new run.',
  })
}

/** Why an attempt under way cannot go on here; null when it can: its provider is here, or is no more needed. */
export function strandedBy(
  { mode, providers }: { mode: Mode; providers: ReadonlyMap<string, unknown> },
  run: Run,
  step: UnderWay,
): StepError | null {
  const isKept = step.status === 'keeping' && step.media.every(isStashed)
  return isKept || providers.has(step.attempt.provider) ? null : otherMode(mode, run)
}

/** Its bytes lie with us: the provider has no more to do with them. */
export const isStashed = ({ url }: ProviderMedia): boolean => url.startsWith('stash:')

/** What is left to do for an attempt whose provider belongs to the other mode, and that may have been sent; null: nothing yet. */
export function leftBehind(
  clock: Pick<Clock, 'now'>,
  run: Run,
  effect: Exclude<Effect, { type: 'route' | 'cancelJob' }>,
  error: StepError,
): AttemptSignal | null {
  const of = { stepId: effect.stepId, attempt: effect.attempt }
  const isPainted = run.mode === 'sandbox'
  const later = clock.now() + MISSED_MS
  switch (effect.type) {
    case 'submit':
      return { ...of, type: 'step.submit_refused', error }
    case 'find':
      return isPainted
        ? { ...of, type: 'step.submit_refused', error }
        : { ...of, type: 'step.still_unknown', askAt: later }
    case 'poll':
      return isPainted ? { ...of, type: 'job.failed', error } : { ...of, type: 'job.unreachable', error, pollAt: later }
    case 'keep':
      return isPainted ? { ...of, type: 'media.keep_failed', error, fault: 'final', outputs: [] } : null
  }
}
