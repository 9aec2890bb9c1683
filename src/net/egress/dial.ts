// A request to an address that was checked for it, over a connection that was kept or a new one.
//
// Invariants
// 1. For every request the name is resolved once, now (names.ts); every address of the answer is checked, and only those
//    addresses are used. A name with one bad address among good ones is refused as a whole.
// 2. A host that is an address is not resolved; it is checked by the same rule.
// 3. A kept connection (pool.ts) was verified for its host when it was opened; its peer is compared anew, and if it is not
//    among the addresses of now, the connection is closed and another is dialled.
// 4. When a kept connection fails before the first byte of an answer, the request is repeated, once, on a new connection.
//    A time limit that passes is not such a failure, and both tries share the limits of the caller.
// 5. No proxy of the environment is used, no redirect is followed, no body is inflated.

import { isIP } from 'node:net'
import { canonicalAddress, privateBecause } from '../address.ts'
import { allowsAddress } from './allow.ts'
import { exchange, isAmong, type Order } from './exchange.ts'
import { EgressError, orAborted } from './failure.ts'
import { requestBytes } from './http1.ts'
import type { Address, Names } from './names.ts'
import type { Pool } from './pool.ts'
import type { Reply } from './reply.ts'
import { unlessCutOff } from './route.ts'
import type { Judged, UrlRules } from './url.ts'

export type DialRules = UrlRules & {
  readonly names: Names
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

// A name may have many addresses; after this many silent ones the connect timeout is spent anyway.
const MAX_TARGETS = 6

/**
 * Resolves once the headers of the reply are in. Read to its end, its connection is kept; destroyed, so is that.
 * Throws `EgressError` and nothing else.
 */
export async function dial(judged: Judged, request: DialRequest, rules: DialRules): Promise<Reply> {
  const { url, host, literal } = judged
  const { pool } = rules
  const headers = ownHeaders(request, url.host)
  const bytes = requestBytes(request.method, url.pathname + url.search, headers, request.body)
  const addresses = await checkedAddresses(judged, request.signal, rules)
  const targets = addresses.slice(0, MAX_TARGETS).map(({ address, family }) => {
    const target = rules.dialAs?.(address, judged.port) ?? { address, port: judged.port }
    return { ...target, family: rules.dialAs ? isIP(target.address) : family }
  })
  const order: Order = {
    origin: url.origin,
    isSecure: url.protocol === 'https:',
    name: literal ? null : host,
    targets,
    bytes,
    kept: pool.take(url.origin, kept => isAmong(targets, kept.peer)),
    ca: rules.ca,
    connectTimeoutMs: request.connectTimeoutMs,
    signal: request.signal,
    onPeer: request.onPeer,
    keep: pool.put,
  }
  const reply = await unlessCutOff(exchange(order), targets)
  if (reply !== 'stale') return reply
  // Most likely the server closed the connection while the request was on its way. It may also have acted on it: for a
  // GET that is no harm, and a callback is delivered at least once by contract, under one constant `webhook-id`.
  const repeated = await unlessCutOff(exchange({ ...order, kept: undefined }), targets)
  if (repeated === 'stale') throw new EgressError('connection_lost', 'closed without a reply, twice')
  return repeated
}

async function checkedAddresses(judged: Judged, signal: AbortSignal, rules: DialRules): Promise<readonly Address[]> {
  const answers = judged.literal
    ? [{ address: judged.host, family: isIP(judged.host) }]
    : await orAborted(rules.names(judged.host), signal)
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
  return privateBecause(address)
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
  return { ...headers, host, connection: 'keep-alive', 'accept-encoding': 'identity' }
}
