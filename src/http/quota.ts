/**
 * How many bytes a key may upload in an hour: what is uploaded is kept for weeks, and a disk is shared by all.
 *
 * 1. An hour begins with a key's first upload in it. It is memory: a restart begins anew.
 * 2. An upload under way counts as the most that it may become, so that uploads side by side cannot pass the limit
 *    together; when it is over it counts as what was stored.
 * 3. A refusal says when the hour ends: no earlier moment would help.
 */
import { ApiProblem } from './problem.ts'
import { createWindows } from './windows.ts'

export interface Quota {
  /** Counts `most` bytes until `settle` says how many were stored. @throws ApiProblem 429 with Retry-After */
  reserve(apiKeyId: string, most: number): { settle(stored: number): void }
}

const HOUR_MS = 3_600_000
/** Two thousand pictures of a megabyte: more than a key's hundred runs at once use, little enough for a disk to last. */
const MOST_GIB = 2
const MOST_BYTES = MOST_GIB * 1024 ** 3

export function createQuota(now: () => number): Quota {
  const hourOf = createWindows(HOUR_MS)
  return {
    reserve(apiKeyId, most) {
      const at = now()
      const hour = hourOf(apiKeyId, at)
      if (hour.used + most > MOST_BYTES) throw spent(Math.max(1, Math.ceil((hour.endsAt - at) / 1_000)))
      hour.used += most
      return {
        settle(stored) {
          hour.used += stored - most
        },
      }
    },
  }
}

function spent(seconds: number): ApiProblem {
  const detail = `A key may upload ${MOST_GIB} GiB an hour, and this file would be more.`
  const hint = 'Wait for Retry-After, or give the model a public https link to the picture instead.'
  return new ApiProblem('rate_limited', detail, { hint, headers: { 'retry-after': String(seconds) } })
}
