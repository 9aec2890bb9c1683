/**
 * Codes one whole picture by itself: every macroblock is guessed from its neighbors (Intra 16x16), and what the guess misses is
 * transformed, quantised and written with CAVLC (ITU-T H.264, sections 7.3.5, 8.3.3, 8.3.4 and 8.5).
 *
 * 1. `coded` always equals what a decoder has before its deblocking filter: guesses are made from it, never from the original.
 * 2. Sides of the planes are whole macroblocks: 16 luma, 8 chroma samples.
 */
import type { BitWriter } from './bits.ts'
import { writeBlock } from './cavlc.ts'
import {
  chromaQp,
  forward4x4,
  hadamard2x2,
  hadamard4x4,
  inverse4x4,
  type Quantizer,
  quantize,
  quantizer,
  ZIGZAG,
} from './transform.ts'

/** One component of a picture. */
export type Plane = { readonly width: number; readonly height: number; readonly samples: Uint8Array }

/** A picture in 4:2:0: chroma has half the width and height of luma. */
export type Planes = { readonly y: Plane; readonly cb: Plane; readonly cr: Plane }

export function planesOf(width: number, height: number): Planes {
  const plane = (w: number, h: number): Plane => ({ width: w, height: h, samples: new Uint8Array(w * h) })
  return { y: plane(width, height), cb: plane(width / 2, height / 2), cr: plane(width / 2, height / 2) }
}

/** How a block is guessed. The standard numbers them differently for luma and chroma. */
type Guess = 'vertical' | 'horizontal' | 'dc' | 'plane'
const LUMA_MODES: readonly Guess[] = ['vertical', 'horizontal', 'dc', 'plane']
const CHROMA_MODES: readonly Guess[] = ['dc', 'horizontal', 'vertical', 'plane']

/**
 * Writes the macroblocks of a picture to `out`; the slice header is already there.
 * @returns the picture as a decoder has it before its deblocking filter
 */
export function writeIntraPicture(out: BitWriter, picture: Planes, qp: number): Planes {
  return new IntraCoder(out, picture, qp).write()
}

class IntraCoder {
  private readonly luma: Component
  private readonly chroma: readonly [Component, Component]
  private readonly columns: number
  private readonly rows: number

  constructor(
    private readonly out: BitWriter,
    picture: Planes,
    qp: number,
  ) {
    this.columns = picture.y.width / 16
    this.rows = picture.y.height / 16
    this.luma = new Component(picture.y, 16, quantizer(qp))
    const chroma = quantizer(chromaQp(qp))
    this.chroma = [new Component(picture.cb, 8, chroma), new Component(picture.cr, 8, chroma)]
  }

  write(): Planes {
    for (let row = 0; row < this.rows; row++) {
      for (let column = 0; column < this.columns; column++) this.writeMacroblock(column, row)
    }
    return { y: this.luma.result, cb: this.chroma[0].result, cr: this.chroma[1].result }
  }

  private writeMacroblock(column: number, row: number): void {
    const { luma, out } = this
    const [cb, cr] = this.chroma
    for (const part of [luma, cb, cr]) part.moveTo(column, row)
    const lumaMode = best(LUMA_MODES, guess => luma.cost(guess))
    const chromaMode = best(CHROMA_MODES, guess => cb.cost(guess) + cr.cost(guess))
    luma.code(LUMA_MODES[lumaMode]!)
    for (const part of this.chroma) part.code(CHROMA_MODES[chromaMode]!)
    const lumaAc = luma.hasAc
    const chromaAc = cb.hasAc || cr.hasAc
    const chromaBits = chromaAc ? 2 : cb.hasDc || cr.hasDc ? 1 : 0
    out.ue(1 + lumaMode + 4 * chromaBits + (lumaAc ? 12 : 0))
    out.ue(chromaMode)
    out.se(0)
    luma.writeDc(out)
    if (lumaAc) for (let block = 0; block < 16; block++) luma.writeAc(out, QUADS[block]!)
    if (chromaBits > 0) for (const part of this.chroma) part.writeDc(out)
    if (chromaAc) for (const part of this.chroma) for (let block = 0; block < 4; block++) part.writeAc(out, block)
  }
}

/** The order in which luma blocks are written: the four of each quarter together. */
const QUADS = [0, 1, 4, 5, 2, 3, 6, 7, 8, 9, 12, 13, 10, 11, 14, 15] as const

function best(modes: readonly Guess[], cost: (guess: Guess) => number): number {
  let choice = 0
  let least = Number.POSITIVE_INFINITY
  for (let i = 0; i < modes.length; i++) {
    const value = cost(modes[i]!)
    if (value < least) {
      least = value
      choice = i
    }
  }
  return choice
}

/** One plane of the picture and the macroblock of it that is being coded. `side` is 16 for luma and 8 for chroma. */
class Component {
  hasDc = false
  hasAc = false
  private readonly coded: Uint8Array
  private readonly guess: Uint8Array
  private readonly across: number
  private readonly ac: Int32Array
  private readonly dc: Int32Array
  /** Levels on their way back to samples. */
  private readonly blocks: Int32Array
  private readonly means: Int32Array
  private readonly scan = new Int32Array(16)
  /** How many AC levels each block of the picture has: the context of its neighbors. */
  private readonly counts: Uint8Array
  private readonly countStride: number
  private column = 0
  private row = 0
  private origin = 0

  constructor(
    private readonly plane: Plane,
    private readonly side: 8 | 16,
    private readonly quantizer: Quantizer,
  ) {
    this.across = side / 4
    this.coded = new Uint8Array(plane.samples.length)
    this.guess = new Uint8Array(side * side)
    this.ac = new Int32Array(side * side)
    this.dc = new Int32Array(this.across * this.across)
    this.blocks = new Int32Array(this.ac.length)
    this.means = new Int32Array(this.dc.length)
    this.countStride = plane.width / 4
    this.counts = new Uint8Array((plane.width / 4) * (plane.height / 4))
  }

  get result(): Plane {
    return { ...this.plane, samples: this.coded }
  }

  moveTo(column: number, row: number): void {
    this.column = column
    this.row = row
    this.origin = row * this.side * this.plane.width + column * this.side
  }

  /** Sum of what the guess misses; infinite when the neighbors that it needs are not there. */
  cost(mode: Guess): number {
    if (!this.predict(mode)) return Number.POSITIVE_INFINITY
    const { guess, side } = this
    const { samples, width } = this.plane
    let sum = 0
    for (let y = 0, i = 0; y < side; y++) {
      for (let x = 0, at = this.origin + y * width; x < side; x++, i++, at++) sum += Math.abs(samples[at]! - guess[i]!)
    }
    return sum
  }

  /** Transforms and quantises what the guess misses, and rebuilds the macroblock as a decoder will. */
  code(mode: Guess): void {
    this.predict(mode)
    const { ac, dc, across, quantizer } = this
    this.loadResidual()
    this.hasAc = false
    for (let block = 0; block < across * across; block++) {
      const at = block * 16
      forward4x4(ac, at)
      dc[block] = ac[at]!
      ac[at] = 0
      for (let i = 1; i < 16; i++) {
        const level = quantize(ac[at + i]!, quantizer.divide[i]!, quantizer.shift)
        ac[at + i] = level
        if (level !== 0) this.hasAc = true
      }
    }
    this.quantizeDc()
    this.rebuild()
  }

  writeDc(out: BitWriter): void {
    if (this.side === 8) {
      writeBlock(out, this.dc, 0, 4, -1)
      return
    }
    for (let i = 0; i < 16; i++) this.scan[i] = this.dc[ZIGZAG[i]!]!
    writeBlock(out, this.scan, 0, 16, this.context(0, 0))
  }

  /** Writes the AC levels of a block, counted row by row within the macroblock. */
  writeAc(out: BitWriter, block: number): void {
    const x = block % this.across
    const y = Math.floor(block / this.across)
    for (let i = 1; i < 16; i++) this.scan[i] = this.ac[block * 16 + ZIGZAG[i]!]!
    const count = writeBlock(out, this.scan, 1, 15, this.context(x, y))
    this.counts[(this.row * this.across + y) * this.countStride + this.column * this.across + x] = count
  }

  /** Mean number of levels of the blocks at the left and above. */
  private context(x: number, y: number): number {
    const [bx, by] = [this.column * this.across + x, this.row * this.across + y]
    const left = bx > 0 ? this.counts[by * this.countStride + bx - 1]! : -1
    const above = by > 0 ? this.counts[(by - 1) * this.countStride + bx]! : -1
    if (left >= 0 && above >= 0) return (left + above + 1) >> 1
    return Math.max(left, above, 0)
  }

  private loadResidual(): void {
    const { side, across, ac, guess } = this
    const { samples, width } = this.plane
    for (let y = 0, i = 0; y < side; y++) {
      const row = (y >> 2) * across * 16 + (y & 3) * 4
      for (let x = 0, at = this.origin + y * width; x < side; x++, i++, at++) {
        ac[row + (x >> 2) * 16 + (x & 3)] = samples[at]! - guess[i]!
      }
    }
  }

  /** Leaves the levels in `dc`. */
  private quantizeDc(): void {
    const { dc, quantizer, side } = this
    if (side === 16) hadamard4x4(dc)
    else hadamard2x2(dc)
    this.hasDc = false
    for (let i = 0; i < dc.length; i++) {
      const value = side === 16 ? (dc[i]! + 1) >> 1 : dc[i]!
      dc[i] = quantize(value, quantizer.divide[0]!, quantizer.shift + 1)
      if (dc[i] !== 0) this.hasDc = true
    }
  }

  private rebuild(): void {
    const { blocks, means, ac, dc, across, side, guess, coded, quantizer } = this
    blocks.set(ac)
    means.set(dc)
    if (side === 16) hadamard4x4(means)
    else hadamard2x2(means)
    const round = side === 16 ? 2 : 0
    const shift = side === 16 ? 2 : 1
    for (let block = 0; block < across * across; block++) {
      const at = block * 16
      for (let i = 1; i < 16; i++) blocks[at + i]! *= quantizer.multiply[i]!
      blocks[at] = (means[block]! * quantizer.multiply[0]! + round) >> shift
      inverse4x4(blocks, at)
    }
    for (let y = 0, i = 0; y < side; y++) {
      const row = (y >> 2) * across * 16 + (y & 3) * 4
      for (let x = 0, at = this.origin + y * this.plane.width; x < side; x++, i++, at++) {
        const value = guess[i]! + ((blocks[row + (x >> 2) * 16 + (x & 3)]! + 32) >> 6)
        coded[at] = value < 0 ? 0 : value > 255 ? 255 : value
      }
    }
  }

  /** Fills `guess`; false when the mode needs neighbors beyond the picture. */
  private predict(mode: Guess): boolean {
    const { guess, side, coded, origin } = this
    const stride = this.plane.width
    const [left, above] = [this.column > 0, this.row > 0]
    if (mode === 'dc') {
      this.predictDc(left, above)
    } else if (mode === 'vertical') {
      if (!above) return false
      for (let y = 0; y < side; y++) {
        for (let x = 0; x < side; x++) guess[y * side + x] = coded[origin - stride + x]!
      }
    } else if (mode === 'horizontal') {
      if (!left) return false
      for (let y = 0; y < side; y++) guess.fill(coded[origin + y * stride - 1]!, y * side, (y + 1) * side)
    } else {
      if (!left || !above) return false
      this.predictPlane()
    }
    return true
  }

  /** The mean of the neighbors: over the macroblock for luma, block by block for chroma (8.3.4.1 to 8.3.4.3). */
  private predictDc(left: boolean, above: boolean): void {
    const { guess, side } = this
    if (side === 16) {
      guess.fill(this.mean(left ? 0 : -1, above ? 0 : -1, 16))
      return
    }
    for (const x of [0, 4]) {
      for (const y of [0, 4]) {
        const onlyAbove = x > y && above
        const onlyLeft = y > x && left
        const value = this.mean(left && !onlyAbove ? y : -1, above && !onlyLeft ? x : -1, 4)
        for (let row = y; row < y + 4; row++) guess.fill(value, row * 8 + x, row * 8 + x + 4)
      }
    }
  }

  /** Mean of `count` samples at the left from row `y`, and above from column `x`; -1 leaves a side out. */
  private mean(y: number, x: number, count: number): number {
    const { coded, origin } = this
    const stride = this.plane.width
    let sum = 0
    if (y >= 0) for (let i = 0; i < count; i++) sum += coded[origin + (y + i) * stride - 1]!
    if (x >= 0) for (let i = 0; i < count; i++) sum += coded[origin - stride + x + i]!
    if (y < 0 && x < 0) return 128
    const both = y >= 0 && x >= 0
    return both ? Math.floor((sum + count) / (2 * count)) : Math.floor((sum + count / 2) / count)
  }

  /** A slope that fits the neighbors (8.3.3.4 and 8.3.4.4). */
  private predictPlane(): void {
    const { guess, side, coded, origin } = this
    const stride = this.plane.width
    const half = side / 2
    let h = 0
    let v = 0
    for (let i = 1; i <= half; i++) {
      h += i * (coded[origin - stride + half - 1 + i]! - coded[origin - stride + half - 1 - i]!)
      v += i * (coded[origin + (half - 1 + i) * stride - 1]! - coded[origin + (half - 1 - i) * stride - 1]!)
    }
    const slope = (sum: number): number => (side === 16 ? (5 * sum + 32) >> 6 : (34 * sum + 32) >> 6)
    const [b, c] = [slope(h), slope(v)]
    const corner = 16 * (coded[origin + (side - 1) * stride - 1]! + coded[origin - stride + side - 1]!)
    for (let y = 0, i = 0; y < side; y++) {
      let slant = (corner + b * (1 - half) + c * (y - half + 1) + 16) | 0
      for (let x = 0; x < side; x++, i++, slant += b) {
        const value = slant >> 5
        guess[i] = value < 0 ? 0 : value > 255 ? 255 : value
      }
    }
  }
}
