/**
 * Links to media that work without a key, for a while.
 *
 * 1. A link is an id, an expiry and an HMAC-SHA256 over both; nothing is stored, and nothing but the key can make one.
 * 2. It works for at least `LIFETIME_MS`: longer than the three days in which a callback may still arrive, whose body
 *    carries links that were made when the run ended.
 * 3. All links made on one day (UTC) to one media are equal, so that the representation of a run keeps its ETag.
 * 4. Signatures are compared in constant time.
 */
import { createHmac, timingSafeEqual } from 'node:crypto'

export interface Links {
  /** A link that works from `at` (ms since the epoch) for 7 to 8 days. */
  media(id: string, at: number): string
  /** Whether `expires` and `signature` of a link allow reading this media at `at`. */
  allows(id: string, query: { expires: string | null; signature: string | null }, at: number): boolean
}

const DAY_MS = 86_400_000
const LIFETIME_MS = 7 * DAY_MS

export interface LinkOptions {
  /** Secret of this installation: 32 bytes or more. */
  key: Uint8Array
  /** Scheme, host and port where readers reach us, without a slash at the end. Asked for every link. */
  baseUrl(): string
}

/** @throws when the key is too short to be a secret */
export function createLinks({ key, baseUrl }: LinkOptions): Links {
  if (key.length < 32) throw new Error('the key of media links must have at least 32 bytes')
  const sign = (id: string, expires: string): string =>
    createHmac('sha256', key).update(`babychain.media.v1\n${id}\n${expires}`).digest('base64url')
  return {
    media(id, at) {
      const expires = String((Math.floor(at / DAY_MS) * DAY_MS + DAY_MS + LIFETIME_MS) / 1000)
      return `${baseUrl()}/api/v1/media/${id}?expires=${expires}&signature=${sign(id, expires)}`
    },
    allows(id, { expires, signature }, at) {
      if (expires === null || signature === null || !/^\d{1,12}$/.test(expires)) return false
      const expected = Buffer.from(sign(id, expires))
      const given = Buffer.from(signature)
      return expected.length === given.length && timingSafeEqual(expected, given) && Number(expires) * 1000 > at
    },
  }
}
