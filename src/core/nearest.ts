/** The known word that a typo most likely means. */

/** Same letters up to case and separators, or at most two slips away (one in a short word). */
export function nearest(word: string, known: readonly string[]): string | undefined {
  const bare = (text: string): string => text.toLowerCase().replace(/[^a-z0-9]/g, '')
  const cut = word.slice(0, 64)
  const same = known.find(one => bare(one) === bare(cut) && bare(one) !== '')
  if (same !== undefined) return same
  const slips = known.map(one => ({ one, slips: distance(bare(cut), bare(one)) }))
  const best = slips.toSorted((a, b) => a.slips - b.slips)[0]
  return best !== undefined && best.slips <= (bare(best.one).length <= 4 ? 1 : 2) ? best.one : undefined
}

/** Slips between two words: a letter more, less, changed, or two swapped (optimal string alignment). */
function distance(a: string, b: string): number {
  let before: number[] = []
  let row = Array.from({ length: b.length + 1 }, (_, j) => j)
  for (let i = 1; i <= a.length; i++) {
    const next = [i]
    for (let j = 1; j <= b.length; j++) {
      const cost = a[i - 1] === b[j - 1] ? 0 : 1
      const swapped = i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1]
      const slips = Math.min((next[j - 1] ?? 0) + 1, (row[j] ?? 0) + 1, (row[j - 1] ?? 0) + cost)
      next.push(swapped ? Math.min(slips, (before[j - 2] ?? 0) + 1) : slips)
    }
    before = row
    row = next
  }
  return row[b.length] ?? 0
}
