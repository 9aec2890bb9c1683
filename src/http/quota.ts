/**
 * How many bytes a key may upload in an hour: what is uploaded is kept for weeks, and a disk is shared by all.
 *
 * 1. An hour begins with a key's first upload in it. It is memory: a restart begins anew.
 * 2. An upload under way counts as the most that it may become, so that uploads side by side cannot pass the limit
 *    together; when it is over it counts as what was stored.
 * 3. A refusal says when the hour ends: no earlier moment would help.
 */
import { ApiProblem } from './problem.ts'

export interface Quota {
  /** Counts `most` bytes until `settle` says how many were stored. @throws ApiProblem 429 with Retry-After */
  reserve(apiKeyId: string, most: number): { settle(stored: number): void }
}

const HOUR_MS = 3_600_000
/** Two thousand pictures of a megabyte: more than a key's hundred runs at once use, little enough for a disk to last. */
const MOST_GIB = 2
const MOST_BYTES = MOST_GIB * 1024 ** 3
/** Hours of keys that are gone are swept out when there are more than this. */
const MOST_HOURS = 1_000

export function createQuota(now: () => number): Quota {
  const hours = new Map<string, { endsAt: number; bytes: number }>()
  const open = (apiKeyId: string, at: number) => {
    const known = hours.get(apiKeyId)
    if (known && known.endsAt > at) return known
    if (hours.size > MOST_HOURS) for (const [id, { endsAt }] of hours) if (endsAt <= at) hours.delete(id)
    const fresh = { endsAt: at + HOUR_MS, bytes: 0 }
    hours.set(apiKeyId, fresh)
    return fresh
  }
  return {
    reserve(apiKeyId, most) {
      const at = now()
      const hour = open(apiKeyId, at)
      if (hour.bytes + most > MOST_BYTES) throw spent(Math.max(1, Math.ceil((hour.endsAt - at) / 1_000)))
      hour.bytes += most
      return {
        settle(stored) {
          hour.bytes += stored - most
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
