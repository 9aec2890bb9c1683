/** Waiting within effects: time limits, and the pauses between tries. */
import type { Clock } from '../../core/ports.ts'

/** Between two tries at our own storage: to write down the bytes of an answer, to read whether a submit was sent. */
export const STORAGE_PAUSE_MS = { first: 500, last: 15_000 }

/** Runs `work` with a signal that ends it after so many milliseconds, or with `stop`. */
export async function within<T>(
  clock: Clock,
  ms: number,
  stop: AbortSignal,
  work: (signal: AbortSignal) => Promise<T>,
): Promise<T> {
  const limit = new AbortController()
  const disarm = clock.at(clock.now() + ms, () => limit.abort(new Error('time limit')))
  const onStop = (): void => limit.abort(stop.reason)
  if (stop.aborted) onStop()
  stop.addEventListener('abort', onStop, { once: true })
  try {
    return await work(limit.signal)
  } finally {
    disarm()
    stop.removeEventListener('abort', onStop)
  }
}

export function growing({ first, last }: { first: number; last: number }, tries: number): number {
  return Math.min(last, first * 2 ** Math.min(tries, 10))
}

export const ended = (signal: AbortSignal): Promise<void> =>
  new Promise(resolve => {
    if (signal.aborted) resolve()
    signal.addEventListener('abort', () => resolve(), { once: true })
  })
