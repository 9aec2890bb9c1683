// The only fetch to configured provider hosts.
//
// Invariants
// 1. A call goes to an origin that the operator configured, or it is not made. A URL out of a provider's answer is a
//    stranger until it passes the same rule; other strangers go through egress.ts.
// 2. A secret is attached here and nowhere else, only to a URL that its rule trusts. A redirect is an answer and never
//    followed, so neither key nor body can travel on; a proxy of the environment sees neither. What comes back is searched for the secret before anybody sees it.
// 3. `sent: 'no'` is a proof: no byte of the request can have been processed. Everything short of that is 'maybe',
//    because a repeated submit is paid twice.
// 4. At most `maxInFlight` calls are under way, and no provider can take them all (provider-http/gate.ts). A call holds
//    its place until its body is read.
// 5. Nothing here throws for what a network or a provider can do, nor after a call was sent.
//
// Of Bun's fetch (1.4.5, tried): it resends GET, HEAD, PUT and DELETE by itself when a kept connection breaks, never POST
// or PATCH; EPROTO, said to be a failed handshake, also follows a TLS alert after the request was read; past 64 calls at
// once it opens a connection per call, and with 256 every fetch of the process waits.

import { type After, createGate, type Gate, realTime } from './provider-http/gate.ts'
import { createRedactor, type Redactor } from './provider-http/redact.ts'

export type OriginRule = (url: URL) => boolean

export type ProviderHttpOptions = {
  /** Where each provider's calls may go at all (`trustOrigins`). A provider that is not named here cannot be called. */
  readonly providers: Readonly<Record<string, OriginRule>>
  /** Default 64: what Bun's fetch serves from kept connections. */
  readonly maxInFlight?: number
  /** Default half of `maxInFlight`. */
  readonly maxPerProvider?: number
  /** Calls back once after so many milliseconds; gives a way to forget it. Default: timers of this process. */
  readonly after?: After
  /** PEM of the only authorities that are trusted, in place of the built-in ones. For tests. */
  readonly ca?: string
}

export type Secret = {
  readonly header: string
  /** The whole header value, as `Bearer …` or `Key …`. */
  readonly value: string
  /** Narrower than the provider's own rule, if need be. */
  readonly origins?: OriginRule
}

export type CallBody =
  | { readonly type: 'json'; readonly value: unknown }
  | { readonly type: 'form'; readonly value: FormData }
  | { readonly type: 'bytes'; readonly value: Uint8Array; readonly contentType: string }

export type ProviderCall = {
  readonly provider: string
  readonly method: 'GET' | 'POST' | 'PUT' | 'DELETE'
  readonly url: string
  /** No secrets here: they are neither guarded nor redacted. */
  readonly headers?: Readonly<Record<string, string>>
  readonly secrets?: readonly Secret[]
  readonly body?: CallBody | null
  /** From the moment the call has its place until its body is read. */
  readonly timeoutMs: number
  /** The longest wait for a place. Default `timeoutMs`. */
  readonly maxWaitMs?: number
  /** Of the decoded body. */
  readonly maxBytes: number
  readonly signal?: AbortSignal
  /** Awaited when the call has its place, before its first byte. If it throws, nothing is sent and the call throws the same. */
  readonly sending?: () => Promise<void>
}

export type ProviderAnswer = {
  readonly type: 'answered'
  readonly status: number
  /** Names in lower case, secrets redacted. */
  readonly headers: Readonly<Record<string, string>>
  /** The parsed body if it is JSON, whatever type it declares; undefined if not (an HTML page with status 200). */
  readonly json: unknown
  /** The body's begin for messages and logs: at most 16 KiB, secrets redacted. Empty for a binary body. */
  readonly text: string
  /** The body if it is neither text nor JSON: a picture, a video. */
  readonly bytes?: Uint8Array
}

export type ProviderFailure = {
  readonly type: 'failed'
  /** 'no': certainly not processed. 'maybe': it may have been, so only a look-up can tell. */
  readonly sent: 'no' | 'maybe'
  /** `not_allowed`: the URL is outside the configured origins, or the call is malformed. `aborted`: the caller's signal. */
  readonly kind: 'network' | 'timeout' | 'too_large' | 'aborted' | 'not_allowed'
  /** Secrets redacted. */
  readonly detail: string
  /** Set if the headers had arrived. */
  readonly status?: number
}

export type ProviderHttp = {
  readonly call: (call: ProviderCall) => Promise<ProviderAnswer | ProviderFailure>
}

export function createProviderHttp(options: ProviderHttpOptions): ProviderHttp {
  const maxInFlight = options.maxInFlight ?? 64
  const after = options.after ?? realTime
  const gate = createGate(maxInFlight, options.maxPerProvider ?? Math.max(1, Math.floor(maxInFlight / 2)), after)
  // Idle connections are closed after 4 to 12 s, before any known provider does (15 s and more): a submit that is written
  // to a connection which the other side is just closing has an unknown outcome for no reason.
  const session = new Bun.FetchSession({
    keepAlive: { idleTimeout: 4 },
    proxy: false,
    ...(options.ca ? { tls: { ca: options.ca } } : {}),
  })
  const line: Line = { gate, session, after }
  const redactors = new Map<string, Redactor>()
  const redactorOf = (secrets: readonly Secret[]): Redactor => {
    const values = secrets.map(secret => secret.value)
    const known = redactors.get(values.join('\n'))
    if (known) return known
    const made = createRedactor(values)
    if (redactors.size < MANY_SECRETS) redactors.set(values.join('\n'), made)
    return made
  }
  return {
    call: call => guardedCall(call, options.providers, line, redactorOf(call.secrets ?? [])),
  }
}

/** An installation has a key per provider; the forms of each are worked out once, since every call needs them. */
const MANY_SECRETS = 64

/**
 * The origin of the base URL, and every https host on port 443 that ends with one of the suffixes (`.bfl.ai`: a dot first, so
 * that `evilbfl.ai` does not match). Throws on a malformed suffix or base: both are written by us or by the operator.
 */
export function trustOrigins(baseUrl: string, hostSuffixes: readonly string[] = []): OriginRule {
  const { origin, protocol } = new URL(baseUrl)
  if (protocol !== 'https:' && protocol !== 'http:') throw new Error(`a base URL is http or https, not ${protocol}`)
  for (const suffix of hostSuffixes)
    if (!/^(\.[a-z0-9-]+){2,}$/.test(suffix)) throw new Error(`'${suffix}' is no suffix`)
  return url => {
    if (url.origin === origin) return true
    return url.protocol === 'https:' && url.port === '' && hostSuffixes.some(suffix => url.hostname.endsWith(suffix))
  }
}

/**
 * What `retry-after` asks for, in milliseconds from `now` (milliseconds since the epoch): seconds or an HTTP date. Null if it
 * is absent, negative, in the past, too large to count or nothing of the kind. The caller clamps it.
 */
export function retryAfterMs(headers: Readonly<Record<string, string>>, now: number): number | null {
  const value = headers['retry-after']?.trim() ?? ''
  // RFC 9110 knows whole seconds only; some send a fraction.
  if (/^\d+(\.\d+)?$/.test(value)) {
    const ms = Math.ceil(Number(value) * 1000)
    return Number.isSafeInteger(ms) ? ms : null
  }
  // RFC 9110 dates start with the name of a day; Date.parse alone would take far more.
  if (!/^(mon|tue|wed|thu|fri|sat|sun)/i.test(value)) return null
  const ms = Date.parse(value) - now
  return ms > 0 ? ms : null
}

type Refusal = (
  kind: ProviderFailure['kind'],
  sent: ProviderFailure['sent'],
  detail: string,
  status?: number,
) => ProviderFailure

/** What all calls of a client share. */
type Line = { readonly gate: Gate; readonly session: Bun.FetchSession; readonly after: After }

async function guardedCall(
  call: ProviderCall,
  providers: Readonly<Record<string, OriginRule>>,
  line: Line,
  redact: Redactor,
): Promise<ProviderAnswer | ProviderFailure> {
  const fail: Refusal = (kind, sent, detail, status) => {
    const failure = { type: 'failed', sent, kind, detail: redact(detail) } as const
    return status === undefined ? failure : { ...failure, status }
  }
  const url = trustedUrl(call, providers)
  if (typeof url === 'string') return fail('not_allowed', 'no', url)
  const init = requestOf(call)
  if (typeof init === 'string') return fail('not_allowed', 'no', init)

  const place = await line.gate.enter(call.provider, call.maxWaitMs ?? call.timeoutMs, call.signal)
  if (place.type === 'refused') return fail(place.why, 'no', 'waiting for a free connection')
  try {
    await call.sending?.()
    if (call.signal?.aborted) return fail('aborted', 'no', 'stopped before it was sent')
    return await fetchOnce(call, url, init, line, redact, fail)
  } finally {
    place.leave()
  }
}

function trustedUrl(call: ProviderCall, providers: Readonly<Record<string, OriginRule>>): URL | string {
  const rule = Object.hasOwn(providers, call.provider) ? providers[call.provider] : undefined
  if (rule === undefined) return `provider ${call.provider} is not configured`
  let url: URL
  try {
    url = new URL(call.url)
  } catch {
    return 'not a URL'
  }
  // Bun's fetch opens file:, data: and s3: as well.
  if (url.protocol !== 'https:' && url.protocol !== 'http:') return `scheme ${url.protocol}`
  if (url.username !== '' || url.password !== '') return 'user information in the URL'
  if (!rule(url)) return `${url.origin} is not a configured origin of ${call.provider}`
  for (const secret of call.secrets ?? []) {
    if (secret.origins !== undefined && !secret.origins(url)) return `${url.origin} may not see ${secret.header}`
  }
  return url
}

function requestOf(call: ProviderCall): BunFetchRequestInit | string {
  try {
    const headers = new Headers({ ...call.headers })
    for (const { header, value } of call.secrets ?? []) headers.set(header, value)
    const { body } = call
    if (body?.type === 'json') headers.set('content-type', 'application/json')
    if (body?.type === 'bytes') headers.set('content-type', body.contentType)
    return {
      method: call.method,
      headers,
      redirect: 'manual',
      // Our own deadline decides; Bun's idle limit would cut a synchronous picture after five minutes.
      timeout: false,
      // A fresh connection for what Bun would resend by itself, so that one call is one request.
      keepalive: call.method === 'GET' || call.method === 'POST',
      ...(body ? { body: body.type === 'json' ? JSON.stringify(body.value) : body.value } : {}),
    }
  } catch {
    // The engine's own message would quote the header value.
    return 'a header or the body cannot be sent'
  }
}

async function fetchOnce(
  call: ProviderCall,
  url: URL,
  init: BunFetchRequestInit,
  { session, after }: Line,
  redact: Redactor,
  fail: Refusal,
): Promise<ProviderAnswer | ProviderFailure> {
  // Not AbortSignal.any: on a signal that lives as long as the process it would collect a follower per call.
  const stop = new AbortController()
  let late = false
  const disarm = after(call.timeoutMs, () => {
    late = true
    stop.abort()
  })
  const onAbort = () => stop.abort()
  call.signal?.addEventListener('abort', onAbort, { once: true })
  let status: number | undefined
  try {
    const response = await session.fetch(url, { ...init, signal: stop.signal })
    status = response.status
    const body = await readBody(response, call.maxBytes)
    if (body === null) return fail('too_large', 'maybe', `more than ${call.maxBytes} bytes`, status)
    return answerOf(response, body, redact)
  } catch (error) {
    if (late) return fail('timeout', 'maybe', `not done within ${call.timeoutMs} ms`, status)
    if (call.signal?.aborted) return fail('aborted', 'maybe', 'stopped by the caller', status)
    // The message would quote the URL, whose query may be a signature.
    const code = codeOf(error)
    const sent = status === undefined && isBeforeSending(error, code) ? 'no' : 'maybe'
    return fail('network', sent, `${code} at ${url.origin}`, status)
  } finally {
    disarm()
    call.signal?.removeEventListener('abort', onAbort)
  }
}

// A name without an address, a port without a listener, a certificate that does not verify: all before the first byte.
function isBeforeSending(error: unknown, code: string): boolean {
  return NEVER_SENT.has(code) || (error instanceof Error && 'syscall' in error && error.syscall === 'getaddrinfo')
}

// Not here, since they also end open connections: ECONNRESET, ETIMEDOUT, EPIPE, EPROTO, ENETUNREACH, EHOSTUNREACH.
const NEVER_SENT: ReadonlySet<string> = new Set([
  'ECONNREFUSED',
  'CERT_HAS_EXPIRED',
  'CERT_NOT_YET_VALID',
  'CERT_REVOKED',
  'CERT_UNTRUSTED',
  'DEPTH_ZERO_SELF_SIGNED_CERT',
  'SELF_SIGNED_CERT_IN_CHAIN',
  'UNABLE_TO_GET_ISSUER_CERT',
  'UNABLE_TO_GET_ISSUER_CERT_LOCALLY',
  'UNABLE_TO_VERIFY_LEAF_SIGNATURE',
  'ERR_TLS_CERT_ALTNAME_INVALID',
])

async function readBody(response: Response, maxBytes: number): Promise<Uint8Array | null> {
  // A length that was declared is the most that comes; only an encoded body can grow.
  const declared = response.headers.get('content-length')
  if (declared !== null && Number(declared) <= maxBytes && !response.headers.has('content-encoding'))
    return response.bytes()
  const chunks: Uint8Array[] = []
  let length = 0
  // Leaving the loop early cancels the body, which closes the connection.
  for await (const chunk of response.body ?? []) {
    length += chunk.byteLength
    if (length > maxBytes) return null
    chunks.push(chunk)
  }
  return Buffer.concat(chunks, length)
}

const MAX_TEXT_CHARS = 16 * 1024
const BINARY_TYPE = /^(image|video|audio|font)\/(?!svg)|^application\/(octet-stream|zip|pdf)/

function answerOf(response: Response, body: Uint8Array, redact: Redactor): ProviderAnswer {
  const headers: Record<string, string> = {}
  for (const [name, value] of response.headers) headers[name] = redact(value)
  const answer = { type: 'answered', status: response.status, headers } as const
  const isBinary = BINARY_TYPE.test(headers['content-type'] ?? '')
  const asBytes = { ...answer, json: undefined, text: '', bytes: body } as const
  if (isBinary && !beginsAsJson(body)) return asBytes
  const text = redact(new TextDecoder().decode(body))
  const json = parseJson(text)
  return isBinary && json === undefined ? asBytes : { ...answer, json, text: text.slice(0, MAX_TEXT_CHARS) }
}

/** A job's id under a wrong type must not be lost; a film is not decoded to find out. */
function beginsAsJson(body: Uint8Array): boolean {
  const first = body.find(byte => byte !== 0x20 && byte !== 0x0a && byte !== 0x0d && byte !== 0x09)
  return first === 0x7b || first === 0x5b
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}

function codeOf(error: unknown): string {
  if (!(error instanceof Error)) return 'unknown error'
  return 'code' in error && typeof error.code === 'string' ? error.code : error.name
}
