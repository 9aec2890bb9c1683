/**
 * The text of an API key: `bck_live_`, 30 random characters, 6 characters of checksum; all of them 0-9 A-Z a-z.
 *
 * 1. The prefix tells secret scanners what it is; no character ends a word, so a double click takes all of it.
 * 2. A key with a typing mistake, or a guessed one, is known to be wrong without asking anybody.
 */
export const KEY_PREFIX = 'bck_live_'

const LETTERS = '0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz'
const RANDOM_CHARS = 30
const CHECK_CHARS = 6

/** A new key of 178 random bits. `random(n)` gives n bytes of a cryptographic generator. */
export function newKeyText(random: (bytes: number) => Uint8Array): string {
  let body = ''
  while (body.length < RANDOM_CHARS) {
    // Bytes from 248 up would make the first letters likelier than the others.
    for (const byte of random(RANDOM_CHARS)) if (byte < 248) body += LETTERS[byte % 62]
  }
  body = body.slice(0, RANDOM_CHARS)
  return KEY_PREFIX + body + checksum(body)
}

/** False when a text has our prefix and cannot be a key of ours. */
export function isPossible(text: string): boolean {
  if (!text.startsWith(KEY_PREFIX)) return true
  const body = text.slice(KEY_PREFIX.length, -CHECK_CHARS)
  return body.length === RANDOM_CHARS && text.slice(-CHECK_CHARS) === checksum(body)
}

/** CRC-32 in base 62, padded. */
function checksum(body: string): string {
  let rest = Bun.hash.crc32(body)
  let text = ''
  for (let n = 0; n < CHECK_CHARS; n += 1) {
    text = LETTERS[rest % 62] + text
    rest = Math.floor(rest / 62)
  }
  return text
}
