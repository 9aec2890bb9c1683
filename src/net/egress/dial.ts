// One request over one new connection to an address that was checked.
//
// Invariants
// 1. A name is resolved once; every address of the answer is checked, and only those addresses can be dialled. A name
//    with one bad address among good ones is refused as a whole.
// 2. `lookup` is not called for addresses, so a host that is an address is checked by the same rule, apart from it.
// 3. Not one byte of the request leaves before the peer of the open connection was compared with the checked addresses
//    and, over https, its certificate was verified for the host in the URL.
// 4. No connection is shared or kept: pins of two hosts cannot be confused. No proxy of the environment is used, no
//    redirect is followed, no body is inflated.

import http from 'node:http'
import https from 'node:https'
import { isIP, type Socket } from 'node:net'
import type { TLSSocket } from 'node:tls'
import { canonicalAddress, privateBecause } from '../address.ts'
import { allowsAddress } from './allow.ts'
import { EgressError, orAborted, resolverError, socketError } from './failure.ts'
import type { Judged, UrlRules } from './url.ts'

export type Address = { readonly address: string; readonly family: number }

export type DialRules = UrlRules & {
  readonly resolver: (host: string) => Promise<readonly Address[]>
  readonly dnsTimeoutMs: number
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
  /** Told once, as soon as it is known which address is the peer. */
  readonly onPeer: (address: string) => void
}

const MAX_HEADER_BYTES = 16 * 1024
// Enough for hints that precede an answer (100, 103); more is a way to keep us busy.
const MAX_INTERIM_REPLIES = 8
// A name may have many addresses; after this many silent ones the connect timeout is spent anyway.
const MAX_TARGETS = 6

/** Resolves once the headers of the reply are in. Throws `EgressError` and nothing else. */
export async function dial(judged: Judged, request: DialRequest, rules: DialRules): Promise<http.IncomingMessage> {
  const addresses = await checkedAddresses(judged, request.signal, rules)
  return await exchange(judged, addresses.slice(0, MAX_TARGETS), request, rules)
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

function exchange(judged: Judged, addresses: readonly Address[], request: DialRequest, rules: DialRules) {
  const targets = addresses.map(({ address, family }) => {
    const target = rules.dialAs?.(address, judged.port) ?? { address, port: judged.port }
    return { ...target, family: rules.dialAs ? isIP(target.address) : family }
  })
  const pins = new Set(targets.map(target => canonicalAddress(target.address)))
  const triedIPv4 = targets.some(target => target.family === 4)
  let phase: 'connecting' | 'securing' | 'open' = 'connecting'

  return new Promise<http.IncomingMessage>((resolve, reject) => {
    let sent: http.ClientRequest | undefined
    let settled = false
    const fail = (error: unknown) => {
      if (settled) return
      settled = true
      cleanUp()
      reject(socketError(error, phase, triedIPv4))
      sent?.destroy()
    }
    const onAbort = () => fail(request.signal.reason)
    const connectTimer = setTimeout(() => {
      const what = phase === 'connecting' ? 'no connection' : 'no TLS session'
      fail(new EgressError('connect_timeout', `${what} within ${request.connectTimeoutMs} ms`))
    }, request.connectTimeoutMs)
    const cleanUp = () => {
      clearTimeout(connectTimer)
      request.signal.removeEventListener('abort', onAbort)
    }
    const send = () => {
      phase = 'open'
      clearTimeout(connectTimer)
      sent?.end(request.body ?? undefined)
    }
    if (request.signal.aborted) return onAbort()
    request.signal.addEventListener('abort', onAbort, { once: true })

    try {
      sent = startRequest(judged, targets, request, rules)
    } catch (error) {
      return fail(error)
    }
    sent.on('error', fail)
    sent.on('close', () => fail(new EgressError('connection_lost', 'closed without a reply')))
    sent.on('upgrade', (_reply, socket) => {
      socket.destroy()
      fail(new EgressError('connection_lost', 'answered with another protocol'))
    })
    let interim = 0
    sent.on('information', () => {
      interim += 1
      if (interim > MAX_INTERIM_REPLIES) fail(new EgressError('connection_lost', 'too many interim replies'))
    })
    sent.on('response', reply => {
      if (settled) return
      settled = true
      cleanUp()
      resolve(reply)
    })
    sent.on('socket', socket => {
      const onConnect = () => {
        const peer = socket.remoteAddress ?? ''
        if (!pins.has(canonicalAddress(peer))) {
          return fail(new EgressError('blocked_address', `connected to ${peer}, which was not checked`))
        }
        request.onPeer(peer)
        if (judged.url.protocol === 'http:') return send()
        phase = 'securing'
        whenSecure(socket, send)
      }
      if (socket.connecting) socket.once('connect', onConnect)
      else onConnect()
    })
  })
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
type Target = { address: string; port: number; family: number }

function startRequest(judged: Judged, targets: readonly Target[], request: DialRequest, rules: DialRules) {
  const { url, host, literal } = judged
  const first = targets[0]
  if (first === undefined) throw new EgressError('dns_error', 'no address')
  const options: https.RequestOptions & HappyEyeballs = {
    agent: false,
    method: request.method,
    hostname: literal ? first.address : host,
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
  if (url.protocol === 'http:') return http.request(options)
  const secure = { minVersion: 'TLSv1.2', rejectUnauthorized: true, ca: rules.ca } as const
  return https.request({ ...options, ...secure, ...(literal ? {} : { servername: host }) })
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
