/**
 * Counts what happens in the engine, and says it in the log.
 *
 * 1. Storage that refuses writes is told once, then once a minute with a count, then once when it takes them again: every run
 *    that waits for it says the same.
 * 2. Every other fault is a line, with its stack.
 * 3. A line names the run, and where there is one the step, the attempt and the delivery, in the spelling of the API.
 */
import type { Logger } from 'pino'
import { type Clock, type Observer, StorageUnavailable } from '../core/ports.ts'

/** How often a refusal that lasts is told (ms). */
const AGAIN_MS = 60_000
/** Storage that has refused nothing for this long takes writes again (ms): whoever waits tries more often than that. */
const CALM_MS = 20_000

interface Refusal {
  since: number
  last: number
  toldAt: number
  count: number
}

export function narrated(observer: Observer, log: Logger, clock: Pick<Clock, 'now' | 'at'>): Observer {
  const refusals = new Map<string, Refusal>()
  const look = (where: string, refusal: Refusal): void => {
    const now = clock.now()
    const { count, since } = refusal
    if (now - refusal.last >= CALM_MS) {
      refusals.delete(where)
      const refusedMs = refusal.last - since
      log.warn({ where, refused: count, refused_ms: refusedMs }, 'storage takes writes again')
      return
    }
    if (now - refusal.toldAt >= AGAIN_MS) {
      refusal.toldAt = now
      log.error({ where, refused: count, refused_ms: now - since }, 'storage still refuses writes')
    }
    clock.at(now + CALM_MS, () => look(where, refusal))
  }
  const refused = (where: string, error: StorageUnavailable, context: object): void => {
    const now = clock.now()
    const known = refusals.get(where)
    if (known) {
      known.count += 1
      known.last = now
      return
    }
    const refusal = { since: now, last: now, toldAt: now, count: 1 }
    refusals.set(where, refusal)
    log.error({ where, ...spelled(context), err: error }, 'storage refuses writes')
    clock.at(now + CALM_MS, () => look(where, refusal))
  }
  return {
    attemptEnded(attempt) {
      observer.attemptEnded(attempt)
      log[attempt.outcome === 'succeeded' ? 'debug' : 'info'](spelled(attempt), 'attempt ended')
    },
    runEnded(run) {
      observer.runEnded(run)
      log.info(spelled(run), 'run ended')
    },
    deliveryTried(delivery) {
      observer.deliveryTried(delivery)
      log.info(spelled(delivery), 'callback tried')
    },
    fault(where, error, context = {}) {
      observer.fault(where, error, context)
      if (error instanceof StorageUnavailable) refused(where, error, context)
      else log.error({ where, ...spelled(context), err: error }, 'fault')
    },
  }
}

/** Names in camelCase as the API and the rest of the log have them: `run_id`. */
function spelled(facts: object): Record<string, unknown> {
  const entries = Object.entries(facts).map(([name, value]) => [
    name.replaceAll(/[A-Z]/g, letter => `_${letter.toLowerCase()}`),
    value,
  ])
  return Object.fromEntries(entries)
}
