/**
 * Asking again where a later answer may be another one: after silence, too many requests, or trouble of the server.
 * Every other refusal is an answer, and is thrown.
 */
import { ApiFailure } from './api.ts'

/** From a server that restarts to one that is gone for the night: quick at first, and never a burden. */
const PAUSES_MS = [500, 1000, 2000, 4000, 8000]
/** The window of our own limits; who names a longer time means no page that somebody looks at. */
const LONGEST_MS = 60_000

export interface Patience {
  /** Ends the asking. */
  gone?: AbortSignal
  /** Told before every pause. */
  failing?(failure: ApiFailure): void
}

/** @throws ApiFailure that asking again would not change; the reason of `gone` */
export async function untilAnswered<T>(ask: () => Promise<T>, { gone, failing }: Patience = {}): Promise<T> {
  for (let failed = 0; ; failed += 1) {
    try {
      return await ask()
    } catch (error) {
      gone?.throwIfAborted()
      if (!(error instanceof ApiFailure) || !error.passes) throw error
      failing?.(error)
      await pause(pauseMs(failed, error), gone)
      gone?.throwIfAborted()
    }
  }
}

/** How long to wait after a failure and so many before it; never less than the server asks for. */
export function pauseMs(failed: number, { retryAfterMs }: ApiFailure): number {
  const ours = PAUSES_MS[Math.min(failed, PAUSES_MS.length - 1)] ?? 8000
  return Math.max(ours, Math.min(retryAfterMs, LONGEST_MS))
}

/** A network that is back, or a reader who has gone, need not wait for the timer. */
export function pause(ms: number, gone?: AbortSignal): Promise<void> {
  return new Promise(resolve => {
    const over = new AbortController()
    const end = () => {
      clearTimeout(timer)
      over.abort()
      resolve()
    }
    const timer = setTimeout(end, ms)
    gone?.addEventListener('abort', end, { signal: over.signal })
    addEventListener('online', end, { signal: over.signal })
  })
}
