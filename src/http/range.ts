/**
 * Byte ranges (RFC 9110, section 14): players seek with them.
 * One range is served; several are answered with the whole, which every client must take.
 */

export type Range =
  | { type: 'whole' }
  | { type: 'part'; start: number; end: number }
  /** Nothing of it is there, or it is no range at all. */
  | { type: 'unsatisfiable' }

/** `end` is inclusive. Units other than bytes are ignored, as the RFC wants. */
export function parseRange(header: string | null, length: number): Range {
  const spec = /^\s*bytes\s*=(.*)$/i.exec(header ?? '')?.[1]
  if (spec === undefined || spec.includes(',')) return { type: 'whole' }
  // Trimmed first: two searches for blanks side by side try every way to share out a long run of them.
  const [, first, last] = /^(\d{0,30})-(\d{0,30})$/.exec(spec.trim()) ?? []
  if (first === undefined || last === undefined || (first === '' && last === '')) return { type: 'unsatisfiable' }
  if (first === '') {
    const wanted = Math.min(Number(last), length)
    return wanted === 0 ? { type: 'unsatisfiable' } : { type: 'part', start: length - wanted, end: length - 1 }
  }
  const start = Number(first)
  // Never behind the last byte, so that a start which is lies behind it.
  const end = last === '' ? length - 1 : Math.min(Number(last), length - 1)
  return start > end ? { type: 'unsatisfiable' } : { type: 'part', start, end }
}
