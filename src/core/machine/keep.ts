/**
 * The copy of what a job has made. It is paid: as long as it can come, it is not given up.
 *
 * 1. Who does not answer (the host of the output, our own storage) is waited for until the deadline, and for half an hour after
 *    every start.
 * 2. A link that is dead or brings something else is tried a few times; the job is asked for fresh links in between.
 * 3. Of several outputs the good ones are enough, once the others are given up.
 * 4. A job that was taken over from an earlier run, and has nothing to give any more, is bought again: a resume asked for it.
 */
import { ERRORS, stepError } from '../errors.ts'
import type { AttemptSignal } from '../events.ts'
import { backoffMs } from '../routing.ts'
import { isTakenOver, type KeepTrouble, LIMITS, type Output, type Run, type StepIn } from '../run.ts'
import {
  end,
  failAttempt,
  KEEP_LOST_MS,
  type Live,
  LOST_MS,
  type Moment,
  type Move,
  type Outcome,
  order,
  overtaken,
  unkeptOf,
  type Woken,
} from './moves.ts'

type Keeping = StepIn<'keeping'>
/** `isAsked`: it was the job that did not answer, or named no output. */
type Failed = Pick<AttemptSignal & { type: 'media.keep_failed' }, 'error' | 'fault'> & { isAsked?: true }

export function onKeeping(run: Run, step: Keeping, event: AttemptSignal & Moment): Outcome {
  const { at } = event
  switch (event.type) {
    case 'media.kept':
      return succeeded(step, event.outputs, at)
    case 'step.submitted':
      return overtaken(step, event.costUsd)
    case 'job.succeeded':
    case 'job.failed':
    case 'job.unreachable':
      return refreshed(step, event)
    case 'media.keep_failed': {
      if (run.cancelRequestedAt !== null)
        return { step: end(step, { status: 'canceled', ...unkeptOf(step) }, at, { outcome: 'canceled' }) }
      // One that broke off does not know what was kept before it.
      const kept = event.outputs.length > 0 ? event.outputs : keptOf(step)
      return keepFailed(step, event, kept, event)
    }
    default:
      return { ignored: `${event.type} while its output is copied` }
  }
}

type JobAnswer = Extract<AttemptSignal, { type: 'job.succeeded' | 'job.failed' | 'job.unreachable' }>

/** The answer to the poll that asked for fresh links. */
function refreshed(step: Keeping, event: JobAnswer & Moment): Outcome {
  if (!step.trouble?.isStale) return { ignored: 'the job has succeeded before' }
  if (event.type === 'job.succeeded' && event.media.length > 0) {
    const trouble = { ...step.trouble, isStale: false }
    return {
      step: { ...step, media: event.media, keepAt: event.at + KEEP_LOST_MS, trouble },
      effects: [order('keep', step)],
    }
  }
  const why = event.type === 'job.succeeded' ? 'the provider names no output now' : event.error.message
  const error = stepError('output_fetch_failed', `the link had expired and no fresh one came: ${why}`, {
    provider: step.attempt.provider,
  })
  const fault = event.type === 'job.unreachable' ? 'away' : 'dead'
  return keepFailed(step, { error, fault, isAsked: true }, keptOf(step), event)
}

const NO_TROUBLE = { tries: 0, refreshes: 0, waits: 0 }

function keepFailed(step: Keeping, failed: Failed, kept: readonly Output[], moment: Moment): Move {
  const { error, fault, isAsked } = failed
  const { tries, refreshes, waits } = step.trouble ?? NO_TROUBLE
  const hasJob = step.attempt.jobRef !== null
  const later = (pauses: number, change: Partial<KeepTrouble>): Keeping => ({
    ...step,
    keepAt: moment.at + backoffMs(error, pauses, moment.jitter),
    trouble: { tries, refreshes, waits: 0, isStale: false, kept, error, ...change },
  })
  switch (fault) {
    case 'away':
      return { step: later(waits + 1, { waits: waits + 1, isStale: isAsked ?? false }) }
    case 'dead': {
      if (refreshes >= LIMITS.keepRefreshes) return giveUp(step, failed, kept, moment)
      const next = later(refreshes, { refreshes: refreshes + 1, isStale: hasJob })
      // Links die: the first time, a fresh one is there for the asking.
      if (!hasJob || refreshes > 0) return { step: next }
      return { step: { ...next, keepAt: moment.at + LOST_MS }, effects: [order('poll', step)] }
    }
    case 'spoiled': {
      const most = error.code === 'output_invalid' ? LIMITS.keepInvalid : LIMITS.keepTries
      if (tries + 1 >= most) return giveUp(step, failed, kept, moment)
      // The first times it is the host that is blamed, then the link.
      const isStale = hasJob && tries + 2 >= LIMITS.keepInvalid
      return { step: later(tries + 1, { tries: tries + 1, isStale }) }
    }
    case 'final':
      return giveUp(step, failed, kept, moment)
  }
}

/** The pause is over. */
export function keepAgain(step: Keeping, at: number): Move {
  const type = keepOrder(step)
  const next = { ...step, keepAt: at + (type === 'keep' ? KEEP_LOST_MS : LOST_MS) }
  return { step: next, effects: [order(type, step)], durable: false }
}

/** Fresh links first, where those that are known give nothing. */
export function keepOrder({ trouble }: Keeping): 'keep' | 'poll' {
  return trouble?.isStale ? 'poll' : 'keep'
}

function giveUp(step: Keeping, { error, fault }: Failed, kept: readonly Output[], moment: Moment): Move {
  if (kept.length > 0) return succeeded(step, kept, moment.at)
  // What breaks off, or may not be opened from here, is still there.
  const isGone = fault === 'dead' || error.code === 'output_invalid'
  if (isGone && isTakenOver(step, step.attempt)) return boughtAgain(step, error.message, moment)
  const unkept = isGone ? {} : unkeptOf(step)
  return { step: end(step, { status: 'failed', error, ...unkept }, moment.at, { outcome: 'failed', error }) }
}

/** The time of the step is up. A time in which we were down does not count: nobody copied, and after it there is time for that. */
export function keepExpired(step: Keeping, words: string, { at, soundSince = 0 }: Woken): Move {
  if (at < soundSince + KEEP_LOST_MS) {
    const awake = { ...step, updatedAt: soundSince }
    return step.keepAt > at ? { step: awake, durable: false } : keepAgain(awake, at)
  }
  const kept = keptOf(step)
  if (kept.length > 0) return succeeded(step, kept, at)
  const last = step.trouble ? `; last: ${step.trouble.error.message}` : ''
  const { hint } = ERRORS.output_fetch_failed
  const error = stepError('deadline_exceeded', `${words} while its output was copied${last}`, { hint })
  return { step: end(step, { status: 'failed', error, ...unkeptOf(step) }, at, { outcome: 'failed', error }) }
}

/** A job of an earlier run is over and has nothing to give. */
export function boughtAgain(step: Live, why: string, moment: Moment): Move {
  const { provider } = step.attempt
  const error = stepError('provider_lost', `the job of the run before gives no output: ${why}`, { provider })
  return failAttempt(step, error, moment, 'metered')
}

function succeeded(step: Keeping, outputs: readonly Output[], at: number): Move {
  return { step: end(step, { status: 'succeeded', outputs }, at, { outcome: 'succeeded' }) }
}

/** What was begun before this was stored has none. */
function keptOf(step: Keeping): readonly Output[] {
  return step.trouble?.kept ?? []
}
