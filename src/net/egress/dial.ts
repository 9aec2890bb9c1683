// One request over a connection to an address that was checked for it: one that was kept, or a new one.
//
// Invariants
// 1. For every request the name is resolved once, now; every address of the answer is checked, and only those addresses
//    are used. A name with one bad address among good ones is refused as a whole.
// 2. `lookup` is not called for addresses, so a host that is an address is checked by the same rule, apart from it.
// 3. Not one byte of the request leaves before the peer of the open connection was compared with the addresses of this
//    very request and, over https, its certificate was verified for the host in the URL. A kept connection (pool.ts) was
//    verified for that host when it was opened; its peer is compared anew, and if it is not among the addresses of now,
//    the connection is closed and another is dialled.
// 4. On a kept connection nothing is sent before all that had arrived on it was read. Bytes that nobody asked for, or an
//    end, end it; they are never taken for an answer.
// 5. When a kept connection fails before the first byte of an answer, the request is repeated, once, on a new connection.
//    A time limit that passes is not such a failure, and both tries share the limits of the caller.
// 6. No proxy of the environment is used, no redirect is followed, no body is inflated.

import http from 'node:http'
import https from 'node:https'
import { isIP, type Socket } from 'node:net'
import type { TLSSocket } from 'node:tls'
import { canonicalAddress, privateBecause } from '../address.ts'
import { allowsAddress } from './allow.ts'
import { EgressError, orAborted, resolverError, socketError } from './failure.ts'
import type { Pool } from './pool.ts'
import type { Judged, UrlRules } from './url.ts'

export type Address = { readonly address: string; readonly family: number }

export type DialRules = UrlRules & {
  readonly resolver: (host: string) => Promise<readonly Address[]>
  readonly dnsTimeoutMs: number
  readonly pool: Pool
  readonly ca: string | undefined
  readonly dialAs: ((address: string, port: number) => { address: string; port: number }) | undefined
}

export type DialRequest = {
  readonly method: 'GET' | 'POST'
  readonly headers: Readonly<Record<string, string>>
  readonly body: Uint8Array | null
  readonly connectTimeoutMs: number
  /** Ends everything up to and including the body of the reply; its reason is an `EgressError`. */
  readonly signal: AbortSignal
  /** Told as soon as it is known which address is the peer; again when the request is repeated. */
  readonly onPeer: (address: string) => void
}

const MAX_HEADER_BYTES = 16 * 1024
// Enough for hints that precede an answer (100, 103); more is a way to keep us busy.
const MAX_INTERIM_REPLIES = 8
// A name may have many addresses; after this many silent ones the connect timeout is spent anyway.
const MAX_TARGETS = 6

/**
 * Resolves once the headers of the reply are in. Read to its end, its connection is kept; destroyed, so is that.
 * Throws `EgressError` and nothing else.
 */
export async function dial(judged: Judged, request: DialRequest, rules: DialRules): Promise<http.IncomingMessage> {
  const addresses = await checkedAddresses(judged, request.signal, rules)
  const targets = addresses.slice(0, MAX_TARGETS).map(({ address, family }) => {
    const target = rules.dialAs?.(address, judged.port) ?? { address, port: judged.port }
    return { ...target, family: rules.dialAs ? isIP(target.address) : family }
  })
  const reply = await exchange(judged, targets, request, rules, 'kept or new')
  if (reply !== 'stale') return reply
  // Most likely the server closed the connection while the request was on its way. It may also have acted on it: for a
  // GET that is no harm, and a callback is delivered at least once by contract, under one constant `webhook-id`.
  const repeated = await exchange(judged, targets, request, rules, 'new')
  if (repeated === 'stale') throw new EgressError('connection_lost', 'closed without a reply, twice')
  return repeated
}

async function checkedAddresses(judged: Judged, signal: AbortSignal, rules: DialRules): Promise<readonly Address[]> {
  const answers = judged.literal
    ? [{ address: judged.host, family: isIP(judged.host) }]
    : await resolve(judged.host, signal, rules)
  if (answers.length === 0) throw new EgressError('dns_error', 'no address')
  for (const { address } of answers) {
    const because = refusedBecause(address, judged, rules)
    if (because !== null) throw new EgressError('blocked_address', `${judged.host} is at ${address}: ${because}`)
  }
  return answers
}

function refusedBecause(address: string, judged: Judged, rules: DialRules): string | null {
  if (judged.addresses === 'any') return canonicalAddress(address) === null ? 'not an address' : null
  if (allowsAddress(rules.allow, address, judged.port)) return null
  if (judged.addresses === 'listed') return `not listed for port ${judged.port}`
  return privateBecause(address, rules.nat64Prefix)
}

async function resolve(host: string, signal: AbortSignal, rules: DialRules): Promise<readonly Address[]> {
  const late = new AbortController()
  const timer = setTimeout(() => {
    late.abort(new EgressError('dns_error', `no answer within ${rules.dnsTimeoutMs} ms`))
  }, rules.dnsTimeoutMs)
  try {
    return await orAborted(rules.resolver(host), AbortSignal.any([late.signal, signal]))
  } catch (error) {
    throw resolverError(error)
  } finally {
    clearTimeout(timer)
  }
}

type Target = { address: string; port: number; family: number }

/** `stale`: a kept connection came to nothing before the first byte of an answer, so the request may be repeated. */
function exchange(
  judged: Judged,
  targets: readonly Target[],
  request: DialRequest,
  rules: DialRules,
  connection: 'kept or new' | 'new',
): Promise<http.IncomingMessage | 'stale'> {
  const isPinned = (socket: Socket) => isAmong(targets, socket.remoteAddress ?? '')
  const triedIPv4 = targets.some(target => target.family === 4)

  return new Promise((resolve, reject) => {
    let phase: 'connecting' | 'securing' | 'open' = 'connecting'
    let sent: http.ClientRequest | undefined
    let kept: Watched | undefined
    const settle = once(() => {
      clearTimeout(connectTimer)
      request.signal.removeEventListener('abort', onAbort)
    })
    const fail = (error: unknown) => {
      if (!settle()) return
      reject(socketError(error, phase, triedIPv4))
      sent?.destroy()
    }
    // What the other side did to us.
    const lose = (error: unknown) => {
      if (kept === undefined || (phase === 'open' && !kept.isUntouched())) return fail(error)
      if (!settle()) return
      resolve('stale')
      sent?.destroy()
    }
    const onAbort = () => fail(request.signal.reason)
    const connectTimer = setTimeout(() => {
      const what = phase === 'connecting' ? 'no connection' : 'no TLS session'
      fail(new EgressError('connect_timeout', `${what} within ${request.connectTimeoutMs} ms`))
    }, request.connectTimeoutMs)
    const send = () => {
      phase = 'open'
      clearTimeout(connectTimer)
      sent?.end(request.body ?? undefined)
    }
    const onConnection = (socket: Socket) => {
      const peer = socket.remoteAddress ?? ''
      if (!isPinned(socket)) {
        return lose(new EgressError('blocked_address', `connected to ${peer}, which was not checked`))
      }
      request.onPeer(peer)
      if (kept !== undefined) return kept.whenQuiet(send, lose)
      if (judged.url.protocol === 'http:') return send()
      phase = 'securing'
      whenSecure(socket, send)
    }
    if (request.signal.aborted) return onAbort()
    request.signal.addEventListener('abort', onAbort, { once: true })

    try {
      const mayUse = (socket: Socket) => connection === 'kept or new' && isPinned(socket) && isVerified(socket, judged)
      sent = startRequest(judged, targets, request, rules, mayUse)
    } catch (error) {
      return fail(error)
    }
    sent.on('error', lose)
    sent.on('close', () => lose(new EgressError('connection_lost', 'closed without a reply')))
    whenAnswered(sent, lose, reply => {
      if (phase !== 'open') return lose(new EgressError('connection_lost', 'an answer before the request'))
      if (!settle()) return
      if (!isRedirect(reply)) rules.pool.vouch(reply.socket)
      resolve(reply)
    })
    sent.on('socket', socket => {
      if (sent?.reusedSocket === true) kept = watch(socket)
      if (socket.connecting) socket.once('connect', () => onConnection(socket))
      else onConnection(socket)
    })
  })
}

function isAmong(targets: readonly Target[], peer: string): boolean {
  if (targets.some(({ address }) => address === peer)) return true
  const canonical = canonicalAddress(peer)
  return canonical !== null && targets.some(({ address }) => canonicalAddress(address) === canonical)
}

/** Runs at its first call, and says whether this was that one. */
function once(run: () => void): () => boolean {
  let isFirst = true
  return () => {
    if (!isFirst) return false
    isFirst = false
    run()
    return true
  }
}

type Watched = {
  isUntouched: () => boolean
  whenQuiet: (then: () => void, otherwise: (error: unknown) => void) => void
}

// A kept connection may hold what came since the loop last looked: a farewell, or an answer that nobody asked for. One
// turn may be the rest of the present one, so that only the second is sure to have read it.
function watch(socket: Socket): Watched {
  const { bytesRead } = socket
  const isUntouched = () => socket.bytesRead === bytesRead
  return {
    isUntouched,
    whenQuiet: (then, otherwise) => {
      const look = () => {
        if (isUntouched() && socket.writable) then()
        else otherwise(new EgressError('connection_lost', 'not idle'))
      }
      setImmediate(() => setImmediate(look))
    },
  }
}

function whenAnswered(
  sent: http.ClientRequest,
  lose: (error: EgressError) => void,
  onReply: (reply: http.IncomingMessage) => void,
): void {
  let interim = 0
  sent.on('information', () => {
    interim += 1
    if (interim > MAX_INTERIM_REPLIES) lose(new EgressError('connection_lost', 'too many interim replies'))
  })
  sent.on('upgrade', (_reply, socket) => {
    socket.destroy()
    lose(new EgressError('connection_lost', 'answered with another protocol'))
  })
  sent.on('response', onReply)
}

// A host that sends us away has no more to say.
function isRedirect(reply: http.IncomingMessage): boolean {
  return reply.statusCode !== undefined && reply.statusCode >= 300 && reply.statusCode < 400
}

function isVerified(socket: Socket, judged: Judged): boolean {
  return judged.url.protocol === 'http:' || (socket as TLSSocket).authorized
}

function whenSecure(socket: Socket, then: () => void): void {
  const secure = socket as TLSSocket
  secure.once('secureConnect', () => {
    // node destroys the socket of an untrusted peer by itself; this line does not depend on it.
    if (secure.authorized) then()
  })
}

// Options of net.connect that node:http passes on; their types do not say so.
type HappyEyeballs = { autoSelectFamily: boolean; autoSelectFamilyAttemptTimeout: number }

function startRequest(
  judged: Judged,
  targets: readonly Target[],
  request: DialRequest,
  rules: DialRules,
  mayUse: (kept: Socket) => boolean,
) {
  const { url, host, literal } = judged
  const first = targets[0]
  if (first === undefined) throw new EgressError('dns_error', 'no address')
  const options: https.RequestOptions & HappyEyeballs = {
    protocol: url.protocol,
    method: request.method,
    host: literal ? first.address : host,
    port: first.port,
    path: url.pathname + url.search,
    headers: ownHeaders(request, url.host),
    maxHeaderSize: MAX_HEADER_BYTES,
    autoSelectFamily: true,
    autoSelectFamilyAttemptTimeout: 1000,
    lookup: (_host, options, done) => {
      // The list is what `autoSelectFamily` asks for; the single form is for runtimes that ignore it.
      if (options.all) done(null, [...targets])
      else done(null, first.address, first.family)
    },
  }
  if (url.protocol === 'http:') return http.request({ ...options, agent: rules.pool.agentFor(options, mayUse) })
  const secure = { minVersion: 'TLSv1.2', rejectUnauthorized: true, ca: rules.ca } as const
  const trusted = { ...options, ...secure, ...(literal ? {} : { servername: host }) }
  return https.request({ ...trusted, agent: rules.pool.agentFor(trusted, mayUse) })
}

// These describe the connection or the body, which are ours to describe.
const RESERVED: ReadonlySet<string> = new Set([
  'host',
  'connection',
  'content-length',
  'transfer-encoding',
  'accept-encoding',
  'expect',
  'keep-alive',
  'te',
  'trailer',
  'upgrade',
])

function ownHeaders(request: DialRequest, host: string): Record<string, string> {
  const headers: Record<string, string> = {}
  for (const [name, value] of Object.entries(request.headers)) {
    const lower = name.toLowerCase()
    if (!RESERVED.has(lower) && !lower.startsWith('proxy-')) headers[lower] = value
  }
  if (request.body !== null) headers['content-length'] = String(request.body.byteLength)
  return { ...headers, host, 'accept-encoding': 'identity' }
}
