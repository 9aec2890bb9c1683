// What can be said of a URL from outside before any name is resolved.
//
// Invariants
// 1. The text is judged before it is parsed: the URL parser repairs tabs, backslashes, missing slashes and odd digits,
//    and whoever reads the same text elsewhere may repair it to another host. The host that is written is the host that
//    is dialled, or the URL is refused.
// 2. Only https on port 443 to a dotted public name passes by itself. Everything else needs an allow entry for that very
//    host or address at that very port.
// 3. A verdict says what is still open: whether addresses must be public, or must lie in a range of the operator.

import { isIP } from 'node:net'
import { domainToUnicode } from 'node:url'
import { type AllowEntry, allowsAddress, allowsHost, allowsSomeAddressAt, isHostName } from './allow.ts'

export type UrlRules = {
  readonly allow: readonly AllowEntry[]
  /** Lower case names under which this process is reached itself. */
  readonly ownHosts: ReadonlySet<string>
}

export type Judged = {
  readonly ok: true
  /** Without fragment. */
  readonly url: URL
  /** Name or address, an IPv6 address without brackets. */
  readonly host: string
  readonly port: number
  readonly literal: boolean
  /** Which addresses may be dialled: any one (the operator named this host), public or listed ones, or only listed ones. */
  readonly addresses: 'any' | 'public_or_listed' | 'listed'
}

export type Refused = { readonly ok: false; readonly reason: string }

/** Of a URL that a caller gives: short enough to log and store everywhere. */
const MAX_URL_CHARS = 2048
/** Of a link to a file: a provider's may carry a signature, a token and a policy. As much as servers read of a head. */
export const MAX_LINK_CHARS = 16_384
const PUBLIC_PORT = 443

export function judgeUrl(raw: string, rules: UrlRules, maxChars = MAX_URL_CHARS): Judged | Refused {
  if (typeof raw !== 'string' || raw === '' || raw.length > maxChars) return refuse('length')
  if (/[\p{C}\p{Z}\\]/u.test(raw)) return refuse('white space, control character or backslash')
  const written = /^(https?):\/\/([^/?#]+)/i.exec(raw)
  if (written === null) return refuse('scheme')
  const authority = written[2] ?? ''
  if (authority.includes('@')) return refuse('user information')
  let url: URL
  try {
    url = new URL(raw)
  } catch {
    return refuse('not a URL')
  }
  url.hash = ''
  if (url.href.length > maxChars) return refuse('length')
  const split = /^(\[[^\]]*\]|[^:]*)(?::(\d{1,5}))?$/.exec(authority)
  if (split === null) return refuse('port')
  if (!isWrittenPlainly(split[1] ?? '', url.hostname)) return refuse('host is not written plainly')
  const port = url.port === '' ? (url.protocol === 'https:' ? 443 : 80) : Number(url.port)
  const host = url.hostname.replace(/^\[|\]$/g, '')
  return isIP(host) === 0 ? judgeName(url, host, port, rules) : judgeLiteral(url, host, port, rules)
}

// Percent escapes, full-width or circled characters, ideographic dots and decimal, octal, hexadecimal or shortened IPv4
// all end as another text than the one written. Internationalised names compare in their Unicode form.
function isWrittenPlainly(written: string, hostname: string): boolean {
  if (written.startsWith('[')) return true
  const plain = written.normalize('NFC').toLowerCase()
  return plain === hostname || plain === domainToUnicode(hostname)
}

function judgeName(url: URL, host: string, port: number, rules: UrlRules): Judged | Refused {
  if (!isHostName(host)) return refuse('host name')
  const judged = { ok: true, url, host, port, literal: false } as const
  if (allowsHost(rules.allow, host, port)) return { ...judged, addresses: 'any' }
  if (!host.includes('.')) return refuse('single-label name')
  if (isInternalName(host)) return refuse('internal name')
  if (rules.ownHosts.has(host)) return refuse('own host')
  if (url.protocol === 'https:' && port === PUBLIC_PORT) return { ...judged, addresses: 'public_or_listed' }
  if (allowsSomeAddressAt(rules.allow, port)) return { ...judged, addresses: 'listed' }
  return refuse(url.protocol === 'https:' ? 'port' : 'scheme')
}

function judgeLiteral(url: URL, host: string, port: number, rules: UrlRules): Judged | Refused {
  if (allowsAddress(rules.allow, host, port)) return { ok: true, url, host, port, literal: true, addresses: 'listed' }
  // Public or not: no certificate of a real receiver needs it.
  return refuse('address in place of a name')
}

// Names that only mean something inside a network: RFC 6761, 6762 and 8375, `.internal` (ICANN; Fly, Google Cloud),
// `.flycast` (Fly), cluster names, and the suffixes that home and office routers hand out.
const INTERNAL_SUFFIXES: readonly string[] = [
  'localhost',
  'localdomain',
  'local',
  'internal',
  'flycast',
  'lan',
  'arpa',
  'intranet',
  'private',
  'corp',
  'home',
  'svc',
]

/** Of a name with a dot. */
function isInternalName(host: string): boolean {
  return INTERNAL_SUFFIXES.some(suffix => host.endsWith(`.${suffix}`))
}

function refuse(reason: string): Refused {
  return { ok: false, reason }
}
