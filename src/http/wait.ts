/**
 * Waits for the end of a run, for callers who would rather hold one connection than poll.
 *
 * 1. Waiting changes nothing: a caller that goes away cancels nothing.
 * 2. At most `MOST_WAITERS` wait at once, and `MOST_OF_A_KEY` of one key; the next is answered at once, as if it had not
 *    asked.
 * 3. A wait ends with the run, with its time, with its reader, or with the server.
 */
import { isEnded, type Run } from '../core/run.ts'
import type { ApiDeps } from './deps.ts'
import type { Authorized } from './exchange.ts'
import { parameterProblem } from './problem.ts'
import { createShares } from './shares.ts'

/** Longer waits meet the silence limits of proxies on the way. */
const MOST_SECONDS = 60
/** A held connection costs memory, and nobody needs so many: the rest polls. */
const MOST_WAITERS = 256
/** A quarter: three keys that wait for all that they have leave room for a fourth. */
const MOST_OF_A_KEY = 64

export interface Waiters {
  /** The run when it has ended, or as it is when the wait is over. */
  untilEnd(exchange: Authorized, run: Run, seconds: number): Promise<Run>
  /** How many wait now. */
  readonly count: number
}

export function createWaiters({ store, engine, clock, draining }: ApiDeps): Waiters {
  const waiting = createShares({ perKey: MOST_OF_A_KEY, inAll: MOST_WAITERS })
  return {
    get count() {
      return waiting.count
    },
    async untilEnd(exchange, run, seconds) {
      if (isEnded(run) || seconds <= 0) return run
      const place = waiting.take(exchange.principal.apiKeyId)
      if ('full' in place) return run
      exchange.allowSilence(seconds + 5)
      const over = new AbortController()
      const forget = clock.at(clock.now() + seconds * 1000, () => over.abort())
      const signal = AbortSignal.any([over.signal, exchange.request.signal, draining])
      try {
        for await (const _ of store.watch(run.id, run.lastSeq, signal)) {
          // It ends with the run, or with the signal.
        }
      } finally {
        place.free()
        forget()
      }
      return (await engine.run(run.id)) ?? run
    },
  }
}

/** Seconds of `?wait=N`: 0 when absent. @throws ApiProblem 400 when it is no whole number from 0 to 60 */
export function waitOf(url: URL): number {
  const given = url.searchParams.get('wait')
  if (given === null) return 0
  if (!/^\d{1,2}$/.test(given) || Number(given) > MOST_SECONDS) {
    throw parameterProblem('wait', `wait must be a whole number of seconds from 0 to ${MOST_SECONDS}`)
  }
  return Number(given)
}

/** Seconds of `Prefer: wait=N` (RFC 7240), at most 60; null when the caller does not ask or asks in a way nobody knows. */
export function preferredWait(request: Request): number | null {
  for (const preference of (request.headers.get('prefer') ?? '').split(',')) {
    const seconds = /^\s*wait\s*=\s*"?(\d{1,9})"?\s*(;.*)?$/i.exec(preference)?.[1]
    if (seconds !== undefined) return Math.min(MOST_SECONDS, Number(seconds))
  }
  return null
}
