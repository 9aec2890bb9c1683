/**
 * How late the event loop is: a stall holds up every answer and every poll.
 *
 * 1. Bun has one histogram for all callers of `monitorEventLoopDelay`: who resets it clears it for everybody. Only this file
 *    reads it, and only its windows end in a reset.
 * 2. A question takes nothing from the next one: what was late shows for a minute at least, and until somebody has asked.
 */
import { monitorEventLoopDelay } from 'node:perf_hooks'
import type { LoopLag } from '../http/metrics.ts'

/** As long as the slowest usual scrape: nobody who asks that often misses a stall. */
const WINDOW_MS = 60_000

/** Begins to watch; gives the question. */
export function watchLoop(now: () => number): () => LoopLag {
  const delays = monitorEventLoopDelay({ resolution: 10 })
  delays.enable()
  let since = now()
  let before: LoopLag | null = null
  return () => {
    const current = { p99Ms: delays.percentile(99) / 1e6, maxMs: delays.max / 1e6 }
    // One stall is the p99 of a window that has only begun: that of a whole one is told, where there is one.
    const { p99Ms, maxMs } = before ?? current
    if (now() - since >= WINDOW_MS) {
      before = current
      since = now()
      delays.reset()
    }
    return { p99Ms, maxMs: Math.max(maxMs, current.maxMs) }
  }
}
