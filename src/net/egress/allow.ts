// The operator's exceptions: which hosts that are not public the egress may reach.
//
// Invariants
// 1. An entry is exact: one host or one range, at one port. Nothing here switches a rule off for anybody else.
// 2. A host entry is matched by the name in the URL; a range entry by the address that is about to be dialled.
// 3. No entry can name the whole address space, or a port on which something other than HTTP is known to listen.

import { inRange, parseRange, type Range } from '../address.ts'

export type AllowEntry =
  | { readonly type: 'host'; readonly host: string; readonly port: number }
  | { readonly type: 'range'; readonly range: Range; readonly port: number }

export type ParsedAllow =
  | { readonly ok: true; readonly entries: readonly AllowEntry[] }
  | { readonly ok: false; readonly problem: string }

/**
 * Reads `BABYCHAIN_EGRESS_ALLOW`: entries separated by commas or white space, each `host:port`, `address:port` or
 * `CIDR:port` (`localhost:9000`, `127.0.0.1:9000`, `10.0.0.0/8:443`, `[::1]:9000`, `fd00::/8:443`). An empty text is no
 * entry. The problem is a sentence for the operator.
 */
export function parseAllow(text: string): ParsedAllow {
  const entries: AllowEntry[] = []
  for (const word of text.split(/[\s,]+/).filter(part => part !== '')) {
    const entry = parseEntry(word)
    if (typeof entry === 'string') return { ok: false, problem: entry }
    entries.push(entry)
  }
  return { ok: true, entries }
}

export function allowsHost(entries: readonly AllowEntry[], host: string, port: number): boolean {
  return entries.some(entry => entry.type === 'host' && entry.port === port && entry.host === host)
}

export function allowsAddress(entries: readonly AllowEntry[], address: string, port: number): boolean {
  return entries.some(entry => entry.type === 'range' && entry.port === port && inRange(address, entry.range))
}

export function allowsSomeAddressAt(entries: readonly AllowEntry[], port: number): boolean {
  return entries.some(entry => entry.type === 'range' && entry.port === port)
}

const SHAPE = 'expected host:port or CIDR:port, such as localhost:9000, 10.0.0.0/8:443 or [::1]:9000'

function parseEntry(word: string): AllowEntry | string {
  if (word.includes('://')) return `'${word}' is a URL: ${SHAPE}`
  const colon = word.lastIndexOf(':')
  const port = Number(word.slice(colon + 1))
  if (colon < 1 || !/^\d{1,5}$/.test(word.slice(colon + 1)) || port < 1 || port > 65_535) {
    return `'${word}' has no port from 1 to 65535: ${SHAPE}`
  }
  if (NOT_HTTP.has(port)) return `'${word}' names port ${port}, where no HTTP server is expected`
  const host = word.slice(0, colon).toLowerCase()
  const bracketed = /^\[([0-9a-f:.]+)(\/\d+)?\](\/\d+)?$/.exec(host)
  if (bracketed !== null) {
    return rangeEntry((bracketed[1] ?? '') + (bracketed[2] ?? '') + (bracketed[3] ?? ''), port)
  }
  if (host.includes('/')) return rangeEntry(host, port)
  if (host.includes(':')) return `'${word}' is ambiguous: put an IPv6 address in brackets, such as [::1]:9000`
  if (/^[\d.]+$/.test(host)) return rangeEntry(host, port)
  if (!isHostName(host)) return `'${word}' is not a host name: ${SHAPE}`
  return { type: 'host', host, port }
}

function rangeEntry(text: string, port: number): AllowEntry | string {
  const range = parseRange(text)
  return typeof range === 'string' ? range : { type: 'range', range, port }
}

/** RFC 1123 in lower case: labels of 1 to 63 letters, digits and inner hyphens, at most 253 characters, no final dot. */
export function isHostName(host: string): boolean {
  return host.length <= 253 && host.split('.').every(label => /^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$/.test(label))
}

// The bad ports of the Fetch standard (https://fetch.spec.whatwg.org/#port-blocking) and the usual data stores: an
// HTTP request to one of them is a command to something else.
const NOT_HTTP: ReadonlySet<number> = new Set([
  1, 7, 9, 11, 13, 15, 17, 19, 20, 21, 22, 23, 25, 37, 42, 43, 53, 69, 77, 79, 87, 95, 101, 102, 103, 104, 109, 110,
  111, 113, 115, 117, 119, 123, 135, 137, 139, 143, 161, 179, 389, 427, 465, 512, 513, 514, 515, 526, 530, 531, 532,
  540, 548, 554, 556, 563, 587, 601, 636, 989, 990, 993, 995, 1433, 1521, 1719, 1720, 1723, 2049, 3306, 3389, 3659,
  4045, 4190, 5060, 5061, 5432, 6000, 6379, 6566, 6665, 6666, 6667, 6668, 6669, 6679, 6697, 10080, 11211, 27017,
])
