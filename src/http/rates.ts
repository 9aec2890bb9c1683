/**
 * How many requests a key may make, and how callers learn of it.
 *
 * 1. A window of a minute begins with a key's first request in it. It is memory: a restart begins anew.
 * 2. Every answer to a key with a limit says what is left (draft-ietf-httpapi-ratelimit-headers); a refused one says when
 *    to come back, and that moment is the window's end: no earlier one would help.
 */
import type { Principal } from './deps.ts'
import { ApiProblem } from './problem.ts'
import { createWindows } from './windows.ts'

export interface Rates {
  /** Counts a request; gives the headers for its answer. @throws ApiProblem 429 with the same headers and Retry-After */
  charge(principal: Principal): Readonly<Record<string, string>>
}

const WINDOW_MS = 60_000

export function createRates(now: () => number): Rates {
  const windowOf = createWindows(WINDOW_MS)
  return {
    charge({ apiKeyId, ratePerMinute }) {
      if (ratePerMinute === null || ratePerMinute === undefined) return {}
      const at = now()
      const window = windowOf(apiKeyId, at)
      window.used += 1
      const left = Math.max(0, ratePerMinute - window.used)
      const seconds = Math.max(1, Math.ceil((window.endsAt - at) / 1_000))
      const headers = {
        'ratelimit-policy': `"default";q=${ratePerMinute};w=${WINDOW_MS / 1_000}`,
        ratelimit: `"default";r=${left};t=${seconds}`,
      }
      if (window.used <= ratePerMinute) return headers
      throw new ApiProblem('rate_limited', `The key may make ${ratePerMinute} requests a minute.`, {
        headers: { ...headers, 'retry-after': String(seconds) },
      })
    },
  }
}
