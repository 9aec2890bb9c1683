/** How times are written on the wire, and read from it. */

/** ISO 8601 in UTC with milliseconds and the offset written out, as the resource has had from its first day. */
export function iso(at: number): string {
  return new Date(at).toISOString().replace('Z', '+00:00')
}

export const isoOrNull = (at: number | null): string | null => (at === null ? null : iso(at))

/** An ISO 8601 time with its zone, in milliseconds; null for anything else. */
export function timeOf(value: string): number | null {
  // A plus sign that was not escaped arrives as a space.
  const text = value.replace(/ (?=\d{2}:\d{2}$)/, '+')
  if (!/^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}(:\d{2}(\.\d{1,9})?)?(Z|[+-]\d{2}:\d{2})$/.test(text)) return null
  // Date.parse goes on into the next month where a month has no such day.
  const day = text.slice(0, 10)
  const began = Date.parse(day)
  if (Number.isNaN(began) || !new Date(began).toISOString().startsWith(day)) return null
  const at = Date.parse(text)
  return Number.isNaN(at) ? null : at
}
