// What can go wrong on the way to an untrusted host, as one closed list, and the limits of time around one request.
//
// Invariants
// 1. Every failure has exactly one class; the detail is for logs and for the operator, never for the caller of the API.
// 2. A class names whose fault it is: `egress_down` and `aborted` are ours, so the attempt must not count against the host.

/**
 * - `blocked_address`: a rule refused the URL or an address that its name resolved to
 * - `dns_error`: no such name, or no answer for it in time from a name server that answers otherwise
 * - `connect_refused`: nobody listens, or this one host has no route; `connect_timeout`: no connection in time
 * - `tls_error`: wrong name, expired or unknown certificate, no TLS 1.2 or later
 * - `timeout`: the whole exchange took too long
 * - `connection_lost`: cut after it was open, or the answer was not HTTP
 * - `reply_too_large`: more headers, or more chunks around a body, than are read
 * - `egress_down`: our own name server or network is dead (names.ts, route.ts), or we are out of sockets
 * - `aborted`: the caller's signal; `bad_request`: the caller's headers cannot be sent
 */
export type EgressErrorClass =
  | 'blocked_address'
  | 'dns_error'
  | 'connect_refused'
  | 'connect_timeout'
  | 'tls_error'
  | 'timeout'
  | 'connection_lost'
  | 'reply_too_large'
  | 'egress_down'
  | 'aborted'
  | 'bad_request'

/**
 * The classes of a download besides:
 * - `redirect`: too many hops, none named, or https to http; `http_4xx`, `http_5xx`, `http_status`: not 200
 * - `type_refused`: the declared type is not one that was asked for; `encoding_refused`: compressed, which is never inflated
 * - `too_large`: over the byte cap, declared or counted; `truncated`: ended before its declared length
 * - `idle_timeout`: no byte for too long
 */
export type DownloadErrorClass =
  | EgressErrorClass
  | 'redirect'
  | 'http_4xx'
  | 'http_5xx'
  | 'http_status'
  | 'type_refused'
  | 'encoding_refused'
  | 'too_large'
  | 'truncated'
  | 'idle_timeout'

/** Thrown inside the egress, and what a download's stream errors with. */
export class EgressError extends Error {
  override readonly name = 'EgressError'
  readonly errorClass: DownloadErrorClass
  readonly detail: string

  constructor(errorClass: DownloadErrorClass, detail: string) {
    super(`${errorClass}: ${detail}`)
    this.errorClass = errorClass
    this.detail = detail
  }
}

/** One signal out of a span of time and the caller's own signal. Its reason is always an `EgressError`. */
export type Deadline = { readonly signal: AbortSignal; readonly clear: () => void }

export function startDeadline(timeoutMs: number, caller: AbortSignal | undefined): Deadline {
  const stop = new AbortController()
  const timer = setTimeout(() => stop.abort(new EgressError('timeout', `not done within ${timeoutMs} ms`)), timeoutMs)
  const onAbort = () => stop.abort(new EgressError('aborted', 'stopped by the caller'))
  if (caller?.aborted) onAbort()
  else caller?.addEventListener('abort', onAbort, { once: true })
  const clear = () => {
    clearTimeout(timer)
    caller?.removeEventListener('abort', onAbort)
  }
  return { signal: stop.signal, clear }
}

/** The promise, or the signal's reason as soon as it is aborted. */
export function orAborted<T>(promise: Promise<T>, signal: AbortSignal): Promise<T> {
  return new Promise((resolve, reject) => {
    const onAbort = () => reject(signal.reason)
    if (signal.aborted) onAbort()
    else signal.addEventListener('abort', onAbort, { once: true })
    promise.then(resolve, reject).finally(() => signal.removeEventListener('abort', onAbort))
  })
}

export type Phase = 'connecting' | 'securing' | 'open'

const DNS_CODES: ReadonlySet<string> = new Set([
  'ENOTFOUND',
  'ENODATA',
  'ESERVFAIL',
  'ETIMEOUT',
  'EAI_AGAIN',
  'EAI_FAIL',
])
const NO_SUCH_NAME: ReadonlySet<string> = new Set(['ENOTFOUND', 'ENODATA'])
const NO_ANSWER: ReadonlySet<string> = new Set(['ESERVFAIL', 'ETIMEOUT', 'ECONNREFUSED'])
const OURS: ReadonlySet<string> = new Set(['EMFILE', 'ENFILE', 'ENOBUFS', 'ENOMEM'])
const NO_NETWORK: ReadonlySet<string> = new Set(['ENETUNREACH', 'ENETDOWN'])

/** An error of the resolver. That our own name server cannot be reached shows as a refused connection. */
export function resolverError(error: unknown): EgressError {
  if (error instanceof EgressError) return error
  const { code, message } = describe(error)
  if (code === 'ECONNREFUSED' || NO_NETWORK.has(code) || OURS.has(code)) return new EgressError('egress_down', message)
  return new EgressError('dns_error', DNS_CODES.has(code) ? code : message)
}

/** A name server has said that the name does not exist, or has no address. */
export function isNoSuchName(error: unknown): boolean {
  return NO_SUCH_NAME.has(describe(error).code)
}

/** The code of an error of the resolver that leaves open whether the name's servers or ours are to blame, or null. */
export function noAnswerFrom(error: unknown): string | null {
  const { code } = describe(error)
  return NO_ANSWER.has(code) ? code : null
}

/**
 * An error of a socket. A missing network is ours only if an IPv4 address was among the targets: a host that has
 * IPv6 alone cannot be reached from a machine without it, and would otherwise be tried for ever.
 */
export function socketError(error: unknown, phase: Phase, triedIPv4: boolean): EgressError {
  if (error instanceof EgressError) return error
  const { code, message } = describe(error)
  if (OURS.has(code)) return new EgressError('egress_down', message)
  if (NO_NETWORK.has(code)) return new EgressError(triedIPv4 ? 'egress_down' : 'connect_refused', message)
  if (phase === 'securing') return new EgressError('tls_error', message)
  if (phase === 'open') return new EgressError('connection_lost', message)
  return new EgressError(code === 'ETIMEDOUT' ? 'connect_timeout' : 'connect_refused', message)
}

// With several addresses node throws an AggregateError: its first error speaks for it.
function describe(error: unknown): { code: string; message: string } {
  const first = error instanceof AggregateError && error.errors.length > 0 ? error.errors[0] : error
  if (!(first instanceof Error)) return { code: '', message: String(first) }
  const code = 'code' in first && typeof first.code === 'string' ? first.code : ''
  return { code, message: first.message.includes(code) ? first.message : `${code} ${first.message}` }
}
