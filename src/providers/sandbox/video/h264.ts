/**
 * An H.264 encoder for one kind of film: a still picture under a moving camera (ITU-T H.264, Constrained Baseline).
 *
 * 1. A key picture is coded by itself and can be decoded alone. A drift picture has no samples of its own: it only says, for each
 *    macroblock, from where in the last key picture it comes, to a quarter of a sample. Nothing refers to a drift picture, so
 *    errors cannot add up.
 * 2. Pictures are shown in the order in which they are coded.
 * 3. Sides of the coded picture are whole macroblocks; the shown picture is its top left part.
 */
import { BitWriter, nalUnit } from './bits.ts'
import { type Planes, writeIntraPicture } from './intra.ts'

const PROFILE = 66
/** Constraint flags 0 and 1: also decodable by a Main profile decoder. */
const CONSTRAINTS = 0xc0
const ORDER_BITS = 12
const FRAME_BITS = 4
const BASE_QP = 26

export type Format = { readonly width: number; readonly height: number; readonly fps: number }

/** Where a sample of the shown picture lies in the key picture: x + dx(x), y + dy(y), in samples. */
export type Drift = { readonly dx: (x: number) => number; readonly dy: (y: number) => number }

/** What a decoder must know before the first picture. */
export type Parameters = { readonly level: number; readonly sps: Uint8Array; readonly pps: Uint8Array }

export const codedSide = (side: number): number => Math.ceil(side / 16) * 16

export function parametersOf(format: Format): Parameters {
  const level = levelOf(format)
  return { level, sps: nalUnit(0x67, sequenceParameters(format, level)), pps: nalUnit(0x68, pictureParameters()) }
}

/** Codes a key picture. `nth` counts key pictures: two in a row must differ in it. `qp` 0 (best) to 51 (smallest). */
export function keyPicture(picture: Planes, nth: number, qp: number): Uint8Array {
  const out = new BitWriter(picture.y.samples.length / 4)
  out.ue(0) // first macroblock
  out.ue(7) // all slices are I
  out.ue(0) // picture parameter set
  out.bits(0, FRAME_BITS)
  out.ue(nth % 2)
  out.bits(0, ORDER_BITS)
  out.bits(0, 2) // shown as usual; not a long-term reference
  out.se(qp - BASE_QP)
  writeIntraPicture(out, picture, qp)
  return nalUnit(0x65, out.end())
}

/** Codes the picture that comes `age` pictures after the last key picture, 1 to 2047. */
export function driftPicture({ width, height }: Format, age: number, drift: Drift): Uint8Array {
  const out = new BitWriter(8192)
  out.ue(0) // first macroblock
  out.ue(5) // all slices are P
  out.ue(0) // picture parameter set
  out.bits(1, FRAME_BITS)
  out.bits(2 * age, ORDER_BITS)
  out.flag(false) // one reference, as the picture parameters say
  out.flag(false) // in its usual place
  out.se(0)
  writeVectors(out, codedSide(width) / 16, codedSide(height) / 16, drift)
  return nalUnit(0x01, out.end())
}

/**
 * Vectors in quarter samples, measured at the middle of each macroblock. One that a decoder guesses right (8.4.1.1) is skipped.
 * As dx depends on x alone and dy on y alone, the guess (8.4.1.3) comes down to the neighbors' two numbers.
 */
function writeVectors(out: BitWriter, columns: number, rows: number, { dx, dy }: Drift): void {
  const across = Array.from({ length: columns }, (_, i) => Math.round(4 * dx(16 * i + 8)))
  const down = Array.from({ length: rows }, (_, i) => Math.round(4 * dy(16 * i + 8)))
  let skipped = 0
  for (let row = 0; row < rows; row++) {
    for (let column = 0; column < columns; column++) {
      const x = across[column]!
      const y = down[row]!
      const [guessX, guessY] = guessed(across, down, column, row)
      const left = column > 0 && (across[column - 1] !== 0 || y !== 0)
      const above = row > 0 && (x !== 0 || down[row - 1] !== 0)
      const moves = left && above
      if (x === (moves ? guessX : 0) && y === (moves ? guessY : 0)) {
        skipped++
        continue
      }
      out.ue(skipped)
      out.ue(0) // one vector for all 16 x 16
      out.se(x - guessX)
      out.se(y - guessY)
      out.ue(0) // no residual
      skipped = 0
    }
  }
  if (skipped > 0) out.ue(skipped)
}

/** The vector that a decoder expects: the median of the neighbors at the left, above, and above right (or above left). */
function guessed(
  across: readonly number[],
  down: readonly number[],
  column: number,
  row: number,
): readonly [number, number] {
  const [x, y] = [across[column] ?? 0, down[row] ?? 0]
  const leftX = column > 0 ? (across[column - 1] ?? 0) : 0
  if (row === 0) return column > 0 ? [leftX, y] : [0, 0]
  const aboveY = down[row - 1] ?? 0
  const last = column === across.length - 1
  if (column === 0 && last) return [x, aboveY]
  const corner = last ? leftX : (across[column + 1] ?? 0)
  return [median(leftX, x, corner), median(column > 0 ? y : 0, aboveY, aboveY)]
}

function median(a: number, b: number, c: number): number {
  return Math.max(Math.min(a, b), Math.min(Math.max(a, b), c))
}

function sequenceParameters({ width, height, fps }: Format, level: number): Uint8Array {
  const out = new BitWriter()
  out.bits(PROFILE, 8)
  out.bits(CONSTRAINTS, 8)
  out.bits(level, 8)
  out.ue(0)
  out.ue(FRAME_BITS - 4)
  out.ue(0) // display order is given by a counter,
  out.ue(ORDER_BITS - 4)
  out.ue(1) // one reference picture
  out.flag(false)
  out.ue(codedSide(width) / 16 - 1)
  out.ue(codedSide(height) / 16 - 1)
  out.flag(true) // frames, no fields
  out.flag(true) // 8 x 8 inference: required at this level
  const cropped = codedSide(width) !== width || codedSide(height) !== height
  out.flag(cropped)
  if (cropped) for (const cut of [0, (codedSide(width) - width) / 2, 0, (codedSide(height) - height) / 2]) out.ue(cut)
  out.flag(true)
  usability(out, fps)
  return out.end()
}

/** Annex E: square pixels, BT.709 colors in limited range, a fixed frame rate, and no reordering. */
function usability(out: BitWriter, fps: number): void {
  out.flag(true)
  out.bits(1, 8) // square
  out.flag(false)
  out.flag(true)
  out.bits(5, 3) // no particular video format
  out.flag(false)
  out.flag(true)
  for (const bt709 of [1, 1, 1]) out.bits(bt709, 8)
  out.flag(false)
  out.flag(true)
  out.bits(0, 16)
  out.bits(1, 16) // one tick
  out.bits(0, 16)
  out.bits(2 * fps, 16) // of so many a second, two a frame
  out.flag(true)
  out.flag(false)
  out.flag(false)
  out.flag(false)
  out.flag(true)
  out.flag(true) // vectors may point beyond the picture
  for (const limit of [0, 0, 11, 11, 0, 1]) out.ue(limit)
}

function pictureParameters(): Uint8Array {
  const out = new BitWriter()
  out.ue(0)
  out.ue(0)
  out.flag(false) // CAVLC
  out.flag(false)
  out.ue(0) // one slice group
  out.ue(0) // one reference in each list
  out.ue(0)
  out.bits(0, 3) // no weights
  out.se(0) // base quantiser 26
  out.se(0)
  out.se(0)
  out.flag(false) // deblocking as usual
  out.flag(false)
  out.flag(false)
  return out.end()
}

/** The lowest level that allows this many macroblocks, a picture and a second (table A-1). */
function levelOf({ width, height, fps }: Format): number {
  const macroblocks = (codedSide(width) * codedSide(height)) / 256
  const level = LEVELS.find(([, picture, second]) => macroblocks <= picture && macroblocks * fps <= second)
  if (!level) throw new RangeError(`No H.264 level holds ${width} x ${height} at ${fps} frames a second`)
  return level[0]
}

const LEVELS: readonly (readonly [level: number, perPicture: number, perSecond: number])[] = [
  [30, 1620, 40_500],
  [31, 3600, 108_000],
  [32, 5120, 216_000],
  [40, 8192, 245_760],
  [42, 8704, 522_240],
  [50, 22_080, 589_824],
]
