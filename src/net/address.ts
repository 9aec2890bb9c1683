// Which IP addresses are public, and which lie in a range that the operator named.
//
// Invariants
// 1. An address is public only if it is proven to be: everything unknown, malformed or zoned is not.
// 2. An IPv6 address that embeds an IPv4 address (mapped, compatible, translated, NAT64, 6to4, Teredo, ISATAP) is never
//    public, even when the embedded address is.
// 3. Input is a resolved address or the host of a parsed URL. `ipaddr.js` reads `0177.0.0.1` and `127.1` as IPv4, so
//    nothing reaches it that `node:net` does not call an address.

import { isIP } from 'node:net'
import ipaddr from 'ipaddr.js'

/** What is wrong with an address as a target on the public internet, as a short phrase for logs; null: it is public. */
export function privateBecause(address: string): string | null {
  const parsed = parse(address)
  if (parsed === null) return 'not an address'
  return parsed.kind() === 'ipv4' ? v4Because(parsed as ipaddr.IPv4) : v6Because(parsed as ipaddr.IPv6)
}

/** One spelling per address, so that `::1` and `0:0:0:0:0:0:0:1` compare equal; null if it is none or has a zone. */
export function canonicalAddress(address: string): string | null {
  return parse(address)?.toString() ?? null
}

export type Range = { readonly base: string; readonly prefix: number }

/** `10.0.0.0/8`, `fd00::/8` or a single address; a sentence if it is not one. Host bits must be zero: `10.0.0.5/8` is a slip. */
export function parseRange(text: string): Range | string {
  const [base = '', bits, ...rest] = text.split('/')
  const parsed = parse(base)
  if (parsed === null || rest.length > 0) return `'${text}' is not an address or CIDR`
  const width = parsed.kind() === 'ipv4' ? 32 : 128
  if (bits === undefined) return { base: parsed.toString(), prefix: width }
  if (!/^\d{1,3}$/.test(bits) || Number(bits) > width) return `'${text}' has a prefix length outside 1 to ${width}`
  if (Number(bits) === 0) return `'${text}' is every address there is: that would switch the guard off`
  const network = networkOf(parsed, Number(bits))
  if (network !== parsed.toString()) return `'${text}' has host bits set: write ${network}/${bits}`
  return { base: network, prefix: Number(bits) }
}

/** Whether the address lies in the range. Families never mix: `::ffff:10.0.0.1` is not in `10.0.0.0/8`. */
export function inRange(address: string, range: Range): boolean {
  const parsed = parse(address)
  const base = parse(range.base)
  if (parsed === null || base === null || parsed.kind() !== base.kind()) return false
  return parsed.match(base, range.prefix)
}

function parse(address: string): ipaddr.IPv4 | ipaddr.IPv6 | null {
  if (isIP(address) === 0 || address.includes('%')) return null
  return ipaddr.parse(address)
}

function networkOf(address: ipaddr.IPv4 | ipaddr.IPv6, prefix: number): string {
  const bytes = address.toByteArray().map((byte, i) => byte & (0xff << Math.min(8, Math.max(0, 8 - (prefix - i * 8)))))
  return ipaddr.fromByteArray(bytes).toString()
}

// Azure's host agent answers on this unicast address inside every virtual machine there.
const AZURE_WIRE_SERVER = '168.63.129.16'

function v4Because(address: ipaddr.IPv4): string | null {
  if (address.toString() === AZURE_WIRE_SERVER) return 'cloud platform address'
  const range = address.range()
  return range === 'unicast' ? null : range
}

// `range()` knows the special blocks inside it, but calls `::7f00:1`, `4000::1` and ISATAP unicast too.
const GLOBAL_UNICAST = ipaddr.IPv6.parse('2000::')

function v6Because(address: ipaddr.IPv6): string | null {
  const range = address.range()
  if (range !== 'unicast') return range
  if (!address.match(GLOBAL_UNICAST, 3)) return 'outside 2000::/3'
  const [, , , , high, low] = address.parts
  if (low === 0x5efe && (high === 0 || high === 0x200)) return 'isatap'
  return null
}
