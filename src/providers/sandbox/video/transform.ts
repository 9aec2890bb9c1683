/**
 * The 4 x 4 integer transform of H.264 and its quantisation (ITU-T H.264, sections 8.5.6 to 8.5.12).
 *
 * 1. The inverse is the standard's, to the bit: encoder and decoder must see the same picture.
 * 2. Blocks are 16 numbers, row by row, in place.
 */

/** Places of a 4 x 4 block in the order of rising frequency (table 8-2, frame). */
export const ZIGZAG: readonly number[] = [0, 1, 4, 8, 5, 2, 3, 6, 9, 12, 13, 10, 7, 11, 14, 15]

export type Quantizer = {
  readonly qp: number
  /** Factor, and shift, by which coefficients are divided; by place in the block. */
  readonly divide: Int32Array
  readonly shift: number
  /** Factor by which levels are multiplied back; by place in the block. */
  readonly multiply: Int32Array
}

/** `qp` 0 to 51: every 6 steps double the step size. */
export function quantizer(qp: number): Quantizer {
  const place = (i: number): number =>
    i % 2 === 0 && (i >> 2) % 2 === 0 ? 0 : i % 2 === 1 && (i >> 2) % 2 === 1 ? 1 : 2
  const [divide, multiply] = [DIVIDE[qp % 6]!, MULTIPLY[qp % 6]!]
  return {
    qp,
    divide: Int32Array.from({ length: 16 }, (_, i) => divide[place(i)]!),
    shift: 15 + Math.floor(qp / 6),
    multiply: Int32Array.from({ length: 16 }, (_, i) => multiply[place(i)]! << Math.floor(qp / 6)),
  }
}

/** The chroma quantiser that goes with a luma one (table 8-15). */
export function chromaQp(qp: number): number {
  return qp < 30 ? qp : CHROMA_QP[qp - 30]!
}

/** A level: the coefficient over the step, rounded towards zero (a third up), as intra coders do. */
export function quantize(coefficient: number, factor: number, shift: number): number {
  const third = ((1 << shift) / 3) | 0
  return coefficient < 0 ? -((-coefficient * factor + third) >> shift) : (coefficient * factor + third) >> shift
}

export function forward4x4(block: Int32Array, at: number): void {
  for (let i = at; i < at + 16; i += 4) {
    const s = block[i]! + block[i + 3]!
    const t = block[i + 1]! + block[i + 2]!
    const u = block[i]! - block[i + 3]!
    const v = block[i + 1]! - block[i + 2]!
    block[i] = s + t
    block[i + 1] = 2 * u + v
    block[i + 2] = s - t
    block[i + 3] = u - 2 * v
  }
  for (let i = at; i < at + 4; i++) {
    const s = block[i]! + block[i + 12]!
    const t = block[i + 4]! + block[i + 8]!
    const u = block[i]! - block[i + 12]!
    const v = block[i + 4]! - block[i + 8]!
    block[i] = s + t
    block[i + 4] = 2 * u + v
    block[i + 8] = s - t
    block[i + 12] = u - 2 * v
  }
}

/** Leaves the residual times 64: add 32 and shift by 6. */
export function inverse4x4(block: Int32Array, at: number): void {
  for (let i = at; i < at + 16; i += 4) {
    const s = block[i]! + block[i + 2]!
    const t = block[i]! - block[i + 2]!
    const u = (block[i + 1]! >> 1) - block[i + 3]!
    const v = block[i + 1]! + (block[i + 3]! >> 1)
    block[i] = s + v
    block[i + 1] = t + u
    block[i + 2] = t - u
    block[i + 3] = s - v
  }
  for (let i = at; i < at + 4; i++) {
    const s = block[i]! + block[i + 8]!
    const t = block[i]! - block[i + 8]!
    const u = (block[i + 4]! >> 1) - block[i + 12]!
    const v = block[i + 4]! + (block[i + 12]! >> 1)
    block[i] = s + v
    block[i + 4] = t + u
    block[i + 8] = t - u
    block[i + 12] = s - v
  }
}

/** The transform of the 16 DC coefficients of a macroblock; its own inverse up to a factor. */
export function hadamard4x4(block: Int32Array): void {
  for (let pass = 0; pass < 2; pass++) {
    const step = pass === 0 ? 1 : 4
    for (let n = 0; n < 4; n++) {
      const i = n * (pass === 0 ? 4 : 1)
      const s = block[i]! + block[i + 3 * step]!
      const t = block[i + step]! + block[i + 2 * step]!
      const u = block[i]! - block[i + 3 * step]!
      const v = block[i + step]! - block[i + 2 * step]!
      block[i] = s + t
      block[i + step] = u + v
      block[i + 2 * step] = s - t
      block[i + 3 * step] = u - v
    }
  }
}

/** The transform of the 4 DC coefficients of a chroma block; its own inverse up to a factor. */
export function hadamard2x2(block: Int32Array): void {
  const [a, b, c, d] = [block[0]!, block[1]!, block[2]!, block[3]!]
  block[0] = a + b + c + d
  block[1] = a - b + c - d
  block[2] = a + b - c - d
  block[3] = a - b - c + d
}

/** By qp % 6, for the three kinds of places: both even, both odd, other. */
const DIVIDE = [
  [13107, 5243, 8066],
  [11916, 4660, 7490],
  [10082, 4194, 6554],
  [9362, 3647, 5825],
  [8192, 3355, 5243],
  [7282, 2893, 4559],
] as const
const MULTIPLY = [
  [10, 16, 13],
  [11, 18, 14],
  [13, 20, 16],
  [14, 23, 18],
  [16, 25, 20],
  [18, 29, 23],
] as const
const CHROMA_QP = [29, 30, 31, 32, 32, 33, 34, 34, 35, 35, 36, 36, 37, 37, 37, 38, 38, 38, 39, 39, 39, 39] as const
