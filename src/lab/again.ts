/**
 * Asking again where a later answer may be another one: after silence, too many requests, or trouble of the server.
 * Every other refusal is an answer, and is thrown.
 */
import { ApiFailure } from './api.ts'

/** From a server that restarts to one that is gone for the night: quick at first, and never a burden. */
const PAUSES_MS = [500, 1000, 2000, 4000, 8000]

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
    }
    await pause(pauseMs(failed), gone)
    gone?.throwIfAborted()
  }
}

/** How long to wait after so many failures before this one. */
export function pauseMs(failed: number): number {
  return PAUSES_MS[Math.min(failed, PAUSES_MS.length - 1)] ?? 8000
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
