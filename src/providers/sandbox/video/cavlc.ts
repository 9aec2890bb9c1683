/**
 * CAVLC: how H.264 writes a block of transform coefficients as bits (ITU-T H.264, section 9.2).
 *
 * 1. The tables are the standard's own code words, row by row, so that they can be compared with it.
 */
import type { BitWriter } from './bits.ts'

/** What the neighbors of a block suggest about it; selects the table of the first code word. -1 for chroma DC. */
export type Context = number

/**
 * Writes `count` coefficients, lowest frequency first, from `levels` at `from`.
 * @returns how many of them are not zero
 */
export function writeBlock(out: BitWriter, levels: Int32Array, from: number, count: number, context: Context): number {
  let total = 0
  let last = -1
  for (let i = 0; i < count; i++) {
    if (levels[from + i] === 0) continue
    total++
    last = i
  }
  let ones = 0
  for (let i = last; i >= 0 && ones < 3; i--) {
    const level = levels[from + i]!
    if (level === 0) continue
    if (level !== 1 && level !== -1) break
    ones++
  }
  writeToken(out, total, ones, context)
  if (total === 0) return 0
  writeLevels(out, levels, from, last, total, ones)
  const zeros = last + 1 - total
  if (total < count) writeWord(out, (count === 4 ? CHROMA_TOTAL_ZEROS : TOTAL_ZEROS)[total - 1]![zeros]!)
  writeRuns(out, levels, from, last, zeros)
  return total
}

/** How many coefficients there are, and how many of the highest are 1 or -1 (at most 3). */
function writeToken(out: BitWriter, total: number, ones: number, context: Context): void {
  if (context >= 8) {
    out.bits(total === 0 ? 3 : ((total - 1) << 2) | ones, 6)
    return
  }
  const table = context < 0 ? CHROMA_TOKENS : TOKENS[context < 2 ? 0 : context < 4 ? 1 : 2]!
  writeWord(out, table[total]![ones]!)
}

/** Signs of the trailing ones, then the other levels, from the highest frequency down. */
function writeLevels(
  out: BitWriter,
  levels: Int32Array,
  from: number,
  last: number,
  total: number,
  ones: number,
): void {
  let suffix = total > 10 && ones < 3 ? 1 : 0
  for (let i = last, n = 0; i >= 0; i--) {
    const level = levels[from + i]!
    if (level === 0) continue
    if (n < ones) {
      out.bits(level < 0 ? 1 : 0, 1)
    } else {
      const code = (level > 0 ? 2 * level - 2 : -2 * level - 1) - (n === ones && ones < 3 ? 2 : 0)
      writeLevel(out, code, suffix)
      if (suffix === 0) suffix = 1
      if (Math.abs(level) > 3 << (suffix - 1) && suffix < 6) suffix++
    }
    n++
  }
}

function writeLevel(out: BitWriter, code: number, suffix: number): void {
  const plain = suffix === 0 ? 30 : 15 << suffix
  if (code >= plain) {
    if (code - plain >= 4096) throw new RangeError(`A coefficient of code ${code} is beyond the profile`)
    out.bits(1, 16)
    out.bits(code - plain, 12)
  } else if (suffix === 0 && code >= 14) {
    out.bits(1, 15)
    out.bits(code - 14, 4)
  } else {
    out.bits(1, (code >> suffix) + 1)
    if (suffix > 0) out.bits(code & ((1 << suffix) - 1), suffix)
  }
}

/** The zeros before each coefficient, until none are left to place. */
function writeRuns(out: BitWriter, levels: Int32Array, from: number, last: number, zeros: number): void {
  let left = zeros
  for (let i = last; left > 0; ) {
    let run = 0
    while (run < left && levels[from + i - 1 - run] === 0) run++
    i -= run + 1
    if (i < 0) return
    writeWord(out, RUNS[Math.min(left, 7) - 1]![run]!)
    left -= run
  }
}

type Word = { readonly value: number; readonly width: number }

function writeWord(out: BitWriter, word: Word): void {
  out.bits(word.value, word.width)
}

function table(text: string): readonly (readonly Word[])[] {
  return text
    .trim()
    .split('\n')
    .map(row =>
      row
        .trim()
        .split(' ')
        .map(word => ({ value: Number.parseInt(word, 2), width: word.length })),
    )
}

/** Table 9-5: a row for each number of coefficients from 0 to 16, a column for each number of trailing ones. */
const TOKENS = [
  table(`
  1
  000101 01
  00000111 000100 001
  000000111 00000110 0000101 00011
  0000000111 000000110 00000101 000011
  00000000111 0000000110 000000101 0000100
  0000000001111 00000000110 0000000101 00000100
  0000000001011 0000000001110 00000000101 000000100
  0000000001000 0000000001010 0000000001101 0000000100
  00000000001111 00000000001110 0000000001001 00000000100
  00000000001011 00000000001010 00000000001101 0000000001100
  000000000001111 000000000001110 00000000001001 00000000001100
  000000000001011 000000000001010 000000000001101 00000000001000
  0000000000001111 000000000000001 000000000001001 000000000001100
  0000000000001011 0000000000001110 0000000000001101 000000000001000
  0000000000000111 0000000000001010 0000000000001001 0000000000001100
  0000000000000100 0000000000000110 0000000000000101 0000000000001000`),
  table(`
  11
  001011 10
  000111 00111 011
  0000111 001010 001001 0101
  00000111 000110 000101 0100
  00000100 0000110 0000101 00110
  000000111 00000110 00000101 001000
  00000001111 000000110 000000101 000100
  00000001011 00000001110 00000001101 0000100
  000000001111 00000001010 00000001001 000000100
  000000001011 000000001110 000000001101 00000001100
  000000001000 000000001010 000000001001 00000001000
  0000000001111 0000000001110 0000000001101 000000001100
  0000000001011 0000000001010 0000000001001 0000000001100
  0000000000111 00000000001011 0000000000110 0000000001000
  00000000001001 00000000001000 00000000001010 0000000000001
  00000000000111 00000000000110 00000000000101 00000000000100`),
  table(`
  1111
  001111 1110
  001011 01111 1101
  001000 01100 01110 1100
  0001111 01010 01011 1011
  0001011 01000 01001 1010
  0001001 001110 001101 1001
  0001000 001010 001001 1000
  00001111 0001110 0001101 01101
  00001011 00001110 0001010 001100
  000001111 00001010 00001101 0001100
  000001011 000001110 00001001 00001100
  000001000 000001010 000001101 00001000
  0000001101 000000111 000001001 000001100
  0000001001 0000001100 0000001011 0000001010
  0000000101 0000001000 0000000111 0000000110
  0000000001 0000000100 0000000011 0000000010`),
] as const

const CHROMA_TOKENS = table(`
  01
  000111 1
  000100 000110 001
  000011 0000011 0000010 000101
  000010 00000011 00000010 0000000`)

/** Tables 9-7 and 9-8: a row for each number of coefficients from 1, a column for each number of zeros below the highest. */
const TOTAL_ZEROS = table(`
  1 011 010 0011 0010 00011 00010 000011 000010 0000011 0000010 00000011 00000010 000000011 000000010 000000001
  111 110 101 100 011 0101 0100 0011 0010 00011 00010 000011 000010 000001 000000
  0101 111 110 101 0100 0011 100 011 0010 00011 00010 000001 00001 000000
  00011 111 0101 0100 110 101 100 0011 011 0010 00010 00001 00000
  0101 0100 0011 111 110 101 100 011 0010 00001 0001 00000
  000001 00001 111 110 101 100 011 010 0001 001 000000
  000001 00001 101 100 011 11 010 0001 001 000000
  000001 0001 00001 011 11 10 010 001 000000
  000001 000000 0001 11 10 001 01 00001
  00001 00000 001 11 10 01 0001
  0000 0001 001 010 1 011
  0000 0001 01 1 001
  000 001 1 01
  00 01 1
  0 1`)

/** Table 9-9 (a). */
const CHROMA_TOTAL_ZEROS = table(`
  1 01 001 000
  1 01 00
  1 0`)

/** Table 9-10: a row for each number of zeros left from 1 to 7 or more, a column for each run. */
const RUNS = table(`
  1 0
  1 01 00
  11 10 01 00
  11 10 01 001 000
  11 10 011 010 001 000
  11 000 001 011 010 101 100
  111 110 101 100 011 010 001 0001 00001 000001 0000001 00000001 000000001 0000000001 00000000001`)
