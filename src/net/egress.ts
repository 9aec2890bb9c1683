// The only way to a URL that came from outside: a callback address, an input picture, a provider's output, a redirect.
//
// Invariants
// 1. A URL passes three gates, all of them here and none of them optional: what is written (egress/url.ts), which
//    addresses its name has now (egress/names.ts, egress/dial.ts), and which address the open connection really has (egress/exchange.ts).
// 2. Every step has a limit: 2 s for the name, `connectTimeoutMs` for the connection, `timeoutMs` for everything, 16 KiB
//    of headers, and a cap on the bytes of the body. Bodies are never inflated.
// 3. A callback follows no redirect. A download follows three, each through all gates, none from https to http, and the
//    caller's headers do not travel to another origin.
// 4. An allow entry of the operator lifts the demand for a public address and for https, for that very host or address at
//    that very port. Pins, certificates, limits and redirect rules stay.
// 5. Connections are kept for a moment and used again (egress/pool.ts), never across hosts, and never past a gate: what
//    is true of a request over a new connection is true of one over a kept connection.
// 6. Nothing here throws. Callers of the API learn `url_not_allowed` and nothing else: a reason would be a port scanner.
//
// HTTP/1.1 on sockets of our own (egress/exchange.ts, egress/http1.ts). Bun's `fetch` opens `file:` URLs, says nothing of
// its peer, and shares 256 places with all other calls; `node:http` costs four times the CPU.

import type { AllowEntry } from './egress/allow.ts'
import { type DialRules, dial } from './egress/dial.ts'
import { type DownloadRequest, type DownloadResult, download } from './egress/download.ts'
import { EgressError, type EgressErrorClass, startDeadline } from './egress/failure.ts'
import { createNameServer } from './egress/name-server.ts'
import { type Address, createNames } from './egress/names.ts'
import { createPool } from './egress/pool.ts'
import type { Reply } from './egress/reply.ts'
import { judgeUrl } from './egress/url.ts'

/** The one thing that a caller of the API is told when a URL is refused, whatever the reason. */
export const URL_NOT_ALLOWED = 'url_not_allowed'

export type EgressOptions = {
  /** From `parseAllow` (egress/allow.ts). */
  readonly allow: readonly AllowEntry[]
  /** The public host names of this process, with or without port: a callback to ourselves is a loop. */
  readonly ownHosts?: readonly string[]
  /** Default 2,000. */
  readonly dnsTimeoutMs?: number
  /** Every address of a name. Default: the hosts file and the name servers of the system. */
  readonly resolver?: (host: string) => Promise<readonly Address[]>
  /** Name servers, `address:port`, in place of those of the system. For tests. */
  readonly nameServers?: readonly string[]
  /** PEM of the only authorities that are trusted, in place of the built-in ones. For tests. */
  readonly ca?: string
  /** How long an idle connection is kept. Default 4,000: most servers end theirs after 5 s. */
  readonly idleMs?: number
  /** Where a checked address is dialled in truth. For tests, whose names have public addresses and local servers. */
  readonly dialAs?: (address: string, port: number) => { address: string; port: number }
}

export type CheckResult =
  | { readonly ok: true; readonly url: URL }
  | { readonly ok: false; readonly code: typeof URL_NOT_ALLOWED; readonly reason: string }

export type PostRequest = {
  readonly headers: Readonly<Record<string, string>>
  readonly body: Uint8Array
  /** TCP and TLS together. Default 5,000. */
  readonly connectTimeoutMs?: number
  /** Everything, the name's resolution included. Default 15,000. */
  readonly timeoutMs?: number
  /** After so many bytes of the reply's body the socket is destroyed; the reply counts all the same. Default 16,384. */
  readonly maxReplyBytes?: number
  readonly signal?: AbortSignal
}

export type PostResult =
  | {
      readonly type: 'answered'
      readonly status: number
      /** Names in lower case. */
      readonly headers: Readonly<Record<string, string>>
      /** The begin of the body for the attempt log: lossy UTF-8 of at most 4 KiB, control characters escaped. */
      readonly text: string
      readonly ip: string
      readonly ms: number
      /** Of a redirect, which was not followed: the host (and port) that it names, never its path or query. */
      readonly location?: string
    }
  | {
      readonly type: 'failed'
      readonly errorClass: EgressErrorClass
      /** For logs only. */
      readonly detail: string
      /** The peer, as soon as there was one. */
      readonly ip: string | null
      readonly ms: number
      /** Set if the headers came, but not the rest in time. */
      readonly status?: number
    }

export type Egress = {
  /** The rules that need no network. Passing is not yet permission: addresses are judged when the URL is dialled. */
  readonly check: (url: string) => CheckResult
  /**
   * POSTs the very bytes. Any status is an answer; a redirect is one too. Sent once, but for a kept connection that dies
   * without a byte of an answer: then once more on a new one, so the receiver must be able to tell a repetition.
   */
  readonly post: (url: string, request: PostRequest) => Promise<PostResult>
  /** GETs a file as a stream that errors with `EgressError` when a cap passes or the body ends early. */
  readonly download: (url: string, request: DownloadRequest) => Promise<DownloadResult>
  /** Closes the connections that are idle, and keeps none from now on. What is under way goes on. */
  readonly close: () => void
}

export function createEgress(options: EgressOptions): Egress {
  const pool = createPool(options.idleMs ?? 4000)
  const source = options.resolver ? { ask: options.resolver } : createNameServer(options.nameServers)
  const rules: DialRules = {
    allow: options.allow,
    ownHosts: new Set((options.ownHosts ?? []).map(host => host.toLowerCase().replace(/:\d+$/, ''))),
    names: createNames(source, options.dnsTimeoutMs ?? 2000),
    pool,
    ca: options.ca,
    dialAs: options.dialAs,
  }
  return {
    check: url => {
      const judged = judgeUrl(url, rules)
      return judged.ok ? { ok: true, url: judged.url } : { ok: false, code: URL_NOT_ALLOWED, reason: judged.reason }
    },
    post: (url, request) => post(url, request, rules),
    download: (url, request) => download(url, request, rules),
    close: pool.close,
  }
}

async function post(url: string, request: PostRequest, rules: DialRules): Promise<PostResult> {
  const startedAt = performance.now()
  const deadline = startDeadline(request.timeoutMs ?? 15_000, request.signal)
  let ip: string | null = null
  let status: number | undefined
  try {
    const judged = judgeUrl(url, rules)
    if (!judged.ok) throw new EgressError('blocked_address', judged.reason)
    const reply = await dial(
      judged,
      {
        method: 'POST',
        headers: request.headers,
        body: request.body,
        connectTimeoutMs: request.connectTimeoutMs ?? 5000,
        signal: deadline.signal,
        onPeer: peer => {
          ip = peer
        },
      },
      rules,
    )
    status = reply.status
    const begin = await readBegin(reply, request.maxReplyBytes ?? 16_384, deadline.signal)
    const { headers } = reply
    const location = status >= 300 && status < 400 ? hostOf(headers.location, judged.url) : undefined
    const answer = { status, headers, text: printable(begin), ip: ip ?? '', ms: since(startedAt) }
    return { type: 'answered', ...answer, ...(location === undefined ? {} : { location }) }
  } catch (error) {
    const known = error instanceof EgressError ? error : new EgressError('bad_request', String(error))
    const failure = { errorClass: known.errorClass as EgressErrorClass, detail: known.detail, ip, ms: since(startedAt) }
    return { type: 'failed', ...failure, ...(status === undefined ? {} : { status }) }
  } finally {
    deadline.clear()
  }
}

// The status is the answer and the body only goes to a log: a body that is cut off by its sender or that is longer than
// the cap does not unmake it. One that drips past the deadline does: who answers so slowly has not answered.
// Only a body that was read to its end leaves its connection to the next request; nothing more is read for its sake.
async function readBegin(reply: Reply, maxBytes: number, signal: AbortSignal): Promise<Uint8Array> {
  const parts: Uint8Array[] = []
  let length = 0
  try {
    while (length < maxBytes) {
      const part = await reply.read()
      if (part === null) break
      parts.push(part)
      length += part.byteLength
    }
  } catch (error) {
    if (signal.aborted) throw error
  } finally {
    reply.destroy()
  }
  return Buffer.concat(parts).subarray(0, maxBytes)
}

function hostOf(location: string | undefined, base: URL): string | undefined {
  if (location === undefined) return undefined
  try {
    return printable(Buffer.from(new URL(location, base).host)).slice(0, 260)
  } catch {
    return undefined
  }
}

const MAX_TEXT_BYTES = 4096

/** Lossy UTF-8 in which nothing can move a terminal's cursor, forge a log line or turn the writing direction. */
function printable(bytes: Uint8Array): string {
  const text = new TextDecoder().decode(bytes.subarray(0, MAX_TEXT_BYTES))
  const escaped = text.replace(/[\p{C}\u2028\u2029]/gu, char => {
    const point = char.codePointAt(0) ?? 0
    return point > 0xffff ? `\\u{${point.toString(16)}}` : `\\u${point.toString(16).padStart(4, '0')}`
  })
  // Escapes and replacement characters are longer than what they stand for: cut again, at a whole character.
  const cut = Buffer.from(escaped).subarray(0, MAX_TEXT_BYTES)
  return cut.byteLength < MAX_TEXT_BYTES ? escaped : new TextDecoder().decode(cut).replace(/\ufffd+$/, '')
}

function since(startedAt: number): number {
  return Math.round(performance.now() - startedAt)
}
