/**
 * Sizes and ratios in the words of different hosts. Pure arithmetic.
 */
import type { Shape } from '../core/model.ts'

export interface Size {
  width: number
  height: number
}

/** Makers write one as 1024x768 or as 1024*768; null for a word, and for nothing. */
export function sizeIn(text: string | undefined): Size | null {
  const found = /^(\d+)[x*](\d+)$/.exec(text ?? '')
  return found ? { width: Number(found[1]), height: Number(found[2]) } : null
}

export interface SizeLimits {
  min: number
  max: number
  step: number
}

/** A change of the ratio up to this is taken as the same picture: rounding 1080 to 1088 beside 1920 is 0.7 %. */
const SAME_RATIO = 0.05

/** The nearest size that a host can make, or null when the picture would become another one. */
export function fitSize(size: Size, { min, max, step }: SizeLimits): Size | null {
  const shrink = Math.min(1, max / Math.max(size.width, size.height))
  const grow = Math.max(1, min / Math.min(size.width, size.height))
  const scale = shrink < 1 ? shrink : grow
  const round = (side: number): number => Math.min(max, Math.max(min, Math.round((side * scale) / step) * step))
  const fitted = { width: round(size.width), height: round(size.height) }
  const drift = fitted.width / fitted.height / (size.width / size.height)
  return Math.abs(drift - 1) <= SAME_RATIO ? fitted : null
}

/** `16:9` as a number, width by height. */
export function ratioOf(ratio: string, separator = ':'): number {
  const [w = 1, h = 1] = ratio.split(separator).map(Number)
  return w / h
}

/** The shape that a ratio says; null for a word such as `auto`, and for nothing. */
export function shapeIn(ratio: string | undefined, separator?: string): Shape | null {
  const value = ratioOf(ratio ?? '', separator)
  return value > 0 ? { ratio: value } : null
}

/** The ratio of a list that is nearest to a size, and whether it is the same picture. */
export function nearestRatio(ratio: number, ratios: readonly string[]): { ratio: string; same: boolean } {
  const off = (one: string): number => Math.abs(Math.log(ratioOf(one) / ratio))
  const best = ratios.toSorted((a, b) => off(a) - off(b))[0] ?? '1:1'
  return { ratio: best, same: off(best) <= Math.log(1 + SAME_RATIO) }
}

/** Started megapixels (of 1024 × 1024), as the price lists count them. */
export const megapixels = ({ width, height }: Size): number => Math.max(1, Math.ceil((width * height) / 1_048_576))
