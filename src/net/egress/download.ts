// Fetching a file from an untrusted URL as a stream.
//
// Invariants
// 1. At most three redirects; each target passes all gates; never from https to http.
// 2. The caller's headers go to the origin that the caller named, and to no other.
// 3. The stream ends cleanly only after the declared length, or after the end of a body without one. Everything else
//    errors it with an `EgressError`, and destroys the connection; after a clean end it may be kept for the next request.
// 4. A slow reader holds kilobytes, not the file: what reply.ts reads ahead, and one part in the stream.

import { type DialRules, dial } from './dial.ts'
import { type Deadline, type DownloadErrorClass, EgressError, startDeadline } from './failure.ts'
import type { Reply } from './reply.ts'
import { judgeUrl, MAX_LINK_CHARS } from './url.ts'

export type DownloadRequest = {
  /** Declared or counted bytes above this end the download as `too_large`. */
  readonly maxBytes: number
  /** Everything, redirects, the body and the reader's own pace included. */
  readonly timeoutMs: number
  /** The longest wait for the next bytes while the reader wants some. */
  readonly idleTimeoutMs: number
  /** Per connection, TCP and TLS together. Default 5,000. */
  readonly connectTimeoutMs?: number
  readonly headers?: Readonly<Record<string, string>>
  /**
   * Accepted media types, `image/png` or `image/*`; sent as `Accept` too. A reply that declares another one is refused;
   * one that declares none, or `application/octet-stream`, passes and must be told by its bytes. SVG, HTML, XML and
   * playlists pass only when they are named in full: they can make their reader open further URLs.
   */
  readonly accept?: readonly string[]
  readonly signal?: AbortSignal
}

export type DownloadResult =
  | {
      readonly type: 'opened'
      readonly status: number
      /** Declared media type in lower case without parameters; null if none. */
      readonly mime: string | null
      /** Declared length in bytes. */
      readonly length: number | null
      /** Read it to the end or cancel it. */
      readonly stream: ReadableStream<Uint8Array>
    }
  | {
      readonly type: 'failed'
      readonly errorClass: DownloadErrorClass
      /** For logs only. */
      readonly detail: string
      readonly status?: number
    }

const MAX_REDIRECTS = 3

export async function download(url: string, request: DownloadRequest, rules: DialRules): Promise<DownloadResult> {
  const deadline = startDeadline(request.timeoutMs, request.signal)
  let reply: Reply | undefined
  try {
    reply = await follow(url, request, rules, deadline.signal)
    const status = reply.status
    checkStatus(status)
    const mime = declaredType(reply)
    checkType(mime, request.accept)
    const encoding = reply.headers['content-encoding'] ?? 'identity'
    if (encoding.toLowerCase() !== 'identity') throw new EgressError('encoding_refused', encoding.slice(0, 40))
    const { length } = reply
    if (length !== null && length > request.maxBytes) {
      throw new EgressError('too_large', `${length} bytes declared, at most ${request.maxBytes}`)
    }
    const stream = bodyStream(reply, request, deadline)
    return { type: 'opened', status, mime, length, stream }
  } catch (error) {
    deadline.clear()
    reply?.destroy()
    const known = error instanceof EgressError ? error : new EgressError('bad_request', String(error))
    const status = reply?.status
    const failure = { errorClass: known.errorClass, detail: known.detail }
    return { type: 'failed', ...failure, ...(status === undefined ? {} : { status }) }
  }
}

async function follow(first: string, request: DownloadRequest, rules: DialRules, signal: AbortSignal): Promise<Reply> {
  const accept: Record<string, string> = request.accept ? { accept: request.accept.join(', ') } : {}
  const connectTimeoutMs = request.connectTimeoutMs ?? 5000
  let target = first
  let callerHeaders = request.headers ?? {}
  for (let hop = 0; hop <= MAX_REDIRECTS; hop += 1) {
    const judged = judgeUrl(target, rules, MAX_LINK_CHARS)
    if (!judged.ok) throw new EgressError('blocked_address', judged.reason)
    const headers = { ...callerHeaders, ...accept }
    const reply = await dial(judged, { method: 'GET', headers, body: null, connectTimeoutMs, signal, onPeer }, rules)
    if (!REDIRECTS.has(reply.status)) return reply
    // The body of a redirect is of no interest, and neither is its connection.
    reply.destroy()
    target = nextTarget(judged.url, reply.headers.location)
    // Dropped for good: a chain that comes back does not get them again.
    if (new URL(target).origin !== judged.url.origin) callerHeaders = {}
  }
  throw new EgressError('redirect', `more than ${MAX_REDIRECTS}`)
}

function onPeer(): void {}

const REDIRECTS: ReadonlySet<number> = new Set([301, 302, 303, 307, 308])

function nextTarget(from: URL, location: string | undefined): string {
  if (location === undefined) throw new EgressError('redirect', 'no location')
  let next: URL
  try {
    next = new URL(location, from)
  } catch {
    throw new EgressError('redirect', 'location is not a URL')
  }
  if (from.protocol === 'https:' && next.protocol === 'http:') throw new EgressError('redirect', 'from https to http')
  // An absolute location is judged as it was written; only a relative one in its resolved form.
  return /^[a-z][a-z0-9+.-]*:/i.test(location) ? location : next.href
}

function checkStatus(status: number): void {
  // Nobody asks for a range: a part is not the file.
  if (status === 200) return
  const family = Math.floor(status / 100)
  const errorClass = family === 4 ? 'http_4xx' : family === 5 ? 'http_5xx' : family === 3 ? 'redirect' : 'http_status'
  throw new EgressError(errorClass, `status ${status}`)
}

function declaredType(reply: Reply): string | null {
  const type = reply.headers['content-type']?.split(';')[0]?.trim().toLowerCase()
  return type === undefined || type === '' ? null : type
}

const UNTOLD: ReadonlySet<string> = new Set(['application/octet-stream', 'binary/octet-stream'])
// Documents that refer to further URLs, which a decoder might open behind our back.
const REFERRING = /[/+](svg|html|xml|xhtml|dash)|mpegurl|\/vnd\.apple|concat|smil/

function checkType(mime: string | null, accept: readonly string[] | undefined): void {
  if (accept === undefined || mime === null || UNTOLD.has(mime)) return
  if (accept.includes(mime)) return
  const byFamily = accept.some(pattern => pattern.endsWith('/*') && mime.startsWith(pattern.slice(0, -1)))
  if (!byFamily || REFERRING.test(mime)) throw new EgressError('type_refused', mime.slice(0, 100))
}

function bodyStream(reply: Reply, request: DownloadRequest, deadline: Deadline) {
  const { length } = reply
  let count = 0
  const close = () => {
    deadline.clear()
    reply.destroy()
  }

  const next = async () => {
    const timer = setTimeout(() => {
      reply.destroy(new EgressError('idle_timeout', `no byte for ${request.idleTimeoutMs} ms`))
    }, request.idleTimeoutMs)
    try {
      return await reply.read()
    } catch (error) {
      const known = error as EgressError
      if (known.errorClass !== 'connection_lost') throw known
      const read = length === null ? `after ${count} bytes` : `${count} of ${length} bytes`
      throw new EgressError('truncated', `${read}: ${known.detail}`)
    } finally {
      clearTimeout(timer)
    }
  }

  return new ReadableStream<Uint8Array>(
    {
      pull: async controller => {
        try {
          const chunk = await next()
          if (chunk === null) {
            close()
            controller.close()
            return
          }
          count += chunk.byteLength
          if (count > request.maxBytes) throw new EgressError('too_large', `more than ${request.maxBytes} bytes`)
          controller.enqueue(chunk)
        } catch (error) {
          close()
          controller.error(error)
        }
      },
      cancel: () => close(),
    },
    { highWaterMark: 1 },
  )
}
