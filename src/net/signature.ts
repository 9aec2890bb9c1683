// Standard Webhooks 1.0.0, symmetric: https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
//
// Invariants
// 1. What is signed is `{id}.{timestamp}.{raw body}`, over the very bytes that are sent. An id holds no dot, so the three
//    parts cannot be shifted against each other.
// 2. A secret is 24 to 64 random bytes; weaker ones are refused wherever they come from.
// 3. Verification compares digests in constant time, always all of them, and never says which one matched.

import { createHmac, timingSafeEqual } from 'node:crypto'

export type SignInput = {
  /** `webhook-id`: the same for every attempt. */
  readonly id: string
  /** `webhook-timestamp`: seconds since the epoch, of this attempt. */
  readonly timestampS: number
  readonly body: Uint8Array
  /** Newest first. More than one while a rotation overlaps. */
  readonly secrets: readonly Uint8Array[]
}

/** The value of `webhook-signature`: one `v1,<base64>` per secret, separated by spaces. Throws on a malformed id or secret. */
export function sign(input: SignInput): string {
  if (!isPlainId(input.id)) throw new Error('a webhook id is 1 to 256 visible characters without a dot')
  if (!Number.isSafeInteger(input.timestampS) || input.timestampS < 0) throw new Error('a timestamp is whole seconds')
  if (input.secrets.length === 0) throw new Error('nothing to sign with')
  const digests = input.secrets.map(secret => digest(secret, input.id, String(input.timestampS), input.body))
  return digests.map(bytes => `v1,${bytes.toString('base64')}`).join(' ')
}

export type VerifyInput = {
  /** The three headers as they came; null if absent. */
  readonly id: string | null
  readonly timestamp: string | null
  readonly signature: string | null
  /** The raw bytes, before any parsing. */
  readonly body: Uint8Array
  readonly secrets: readonly Uint8Array[]
  readonly nowS: number
}

/** How far the clocks may differ, as in the reference libraries. */
const TOLERANCE_S = 300

export type Verified =
  | { readonly ok: true; readonly timestampS: number }
  | { readonly ok: false; readonly reason: 'missing_header' | 'bad_header' | 'too_old' | 'too_new' | 'no_match' }

/** Whether any `v1` signature of the header was made with any of the secrets. Other versions in the header are skipped. */
export function verify(input: VerifyInput): Verified {
  const { id, timestamp, signature } = input
  if (id === null || timestamp === null || signature === null) return { ok: false, reason: 'missing_header' }
  if (!isPlainId(id) || !/^\d{1,12}$/.test(timestamp)) return { ok: false, reason: 'bad_header' }
  const timestampS = Number(timestamp)
  if (timestampS < input.nowS - TOLERANCE_S) return { ok: false, reason: 'too_old' }
  if (timestampS > input.nowS + TOLERANCE_S) return { ok: false, reason: 'too_new' }
  const claimed = claimedDigests(signature)
  if (claimed.length === 0) return { ok: false, reason: 'bad_header' }
  let matches = 0
  for (const secret of input.secrets) {
    const expected = digest(secret, id, timestamp, input.body)
    for (const candidate of claimed) matches += timingSafeEqual(expected, candidate) ? 1 : 0
  }
  return matches > 0 ? { ok: true, timestampS } : { ok: false, reason: 'no_match' }
}

const PREFIX = 'whsec_'
const MIN_SECRET_BYTES = 24
const MAX_SECRET_BYTES = 64

export type ParsedSecret =
  | { readonly ok: true; readonly bytes: Uint8Array }
  | { readonly ok: false; readonly problem: string }

/** Reads `whsec_<base64>`. The problem is a sentence that does not repeat the secret. */
export function parseSecret(text: string): ParsedSecret {
  if (!text.startsWith(PREFIX)) return { ok: false, problem: `a webhook secret starts with '${PREFIX}'` }
  const encoded = text.slice(PREFIX.length)
  const bytes = Buffer.from(encoded, 'base64')
  // Buffer skips what is not base64: only a text that comes out the same way was base64.
  if (bytes.toString('base64') !== encoded)
    return { ok: false, problem: `what follows '${PREFIX}' is not padded base64` }
  if (bytes.byteLength < MIN_SECRET_BYTES || bytes.byteLength > MAX_SECRET_BYTES) {
    const range = `${MIN_SECRET_BYTES} to ${MAX_SECRET_BYTES}`
    return { ok: false, problem: `a webhook secret has ${range} bytes, this one has ${bytes.byteLength}` }
  }
  return { ok: true, bytes: new Uint8Array(bytes) }
}

/** A new secret of 32 bytes as `whsec_<base64>`. `random(n)` gives n bytes of a cryptographic generator. */
export function newSecret(random: (bytes: number) => Uint8Array): string {
  return PREFIX + Buffer.from(random(32)).toString('base64')
}

function digest(secret: Uint8Array, id: string, timestamp: string, body: Uint8Array): Buffer {
  if (secret.byteLength < MIN_SECRET_BYTES || secret.byteLength > MAX_SECRET_BYTES) {
    throw new Error(`a webhook secret has ${MIN_SECRET_BYTES} to ${MAX_SECRET_BYTES} bytes`)
  }
  return createHmac('sha256', secret).update(`${id}.${timestamp}.`).update(body).digest()
}

// A sender in rotation has two or three; more only costs time.
const MAX_SIGNATURES = 16
const DIGEST_BYTES = 32

function claimedDigests(header: string): Buffer[] {
  if (header.length > 4096) return []
  return header
    .split(' ')
    .filter(part => part.startsWith('v1,'))
    .slice(0, MAX_SIGNATURES)
    .map(part => Buffer.from(part.slice(3), 'base64'))
    .filter(bytes => bytes.byteLength === DIGEST_BYTES)
}

function isPlainId(id: string): boolean {
  return /^[\x21-\x2d\x2f-\x7e]{1,256}$/.test(id)
}
