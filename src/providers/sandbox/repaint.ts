/**
 * The look of image-to-image: the input graded into the colors of the new prompt, lit anew, with strands of light drawn through it.
 *
 * 1. Shapes stay where they are: only color, light and what lies on top change.
 */
import type { Canvas } from './canvas.ts'
import { blend, type Chance, mix, oklch, type Palette, type Rgb, smooth } from './palette.ts'

/** How much of the input's own color stays. */
const KEEP = 0.34

type Strand = {
  a: number
  b: number
  fast: number
  slow: number
  phase: number
  shift: number
  wide: number
  color: Rgb
}

export function repaint(canvas: Canvas, palette: Palette, chance: Chance): void {
  const { width, height, light } = canvas
  const unit = 2 / Math.min(width, height)
  const grade = gradeOf(palette)
  const side = chance() < 0.5 ? -1 : 1
  const angle = (chance() - 0.5) * 1.1
  const [sin, cos] = [Math.sin(angle), Math.cos(angle)]
  const strands = Array.from({ length: 4 }, (_, i) => strandOf(i, palette, chance))
  const bright = palette.mood === 'light'
  let above = 0
  for (let y = 0, i = 0; y < height; y++) {
    const v = (y - height / 2) * unit
    for (let x = 0; x < width; x++, i += 3) {
      const u = (x - width / 2) * unit
      const luma = lumaAt(light, i)
      const slope = luma - above
      above = luma
      const tone = Math.min(1, luma ** (bright ? 0.3 : 0.5)) * (grade.length - 1.001)
      const step = Math.floor(tone)
      const [low, high] = [grade[step] ?? palette.base, grade[step + 1] ?? palette.key]
      const key = Math.exp(-((u - side * 0.75) ** 2 + (v + 0.55) ** 2) * 0.55)
      const rim = Math.exp(-((u + side * 0.9) ** 2 + (v - 0.2) ** 2) * 0.65)
      const relief = 1 + Math.max(-0.35, Math.min(0.35, slope * side * 5))
      const along = u * cos - v * sin
      const across = u * sin + v * cos
      for (let c = 0; c < 3; c++) {
        const dyed = mix(low[c]!, high[c]!, tone - step)
        const lit = (bright ? 0.75 : 0.42) + (bright ? 0.25 : 0.75) * key + (bright ? 0.15 : 0.5) * rim
        const spill = luma * (key * palette.key[c]! + rim * palette.rim[c]!) * (bright ? 0.12 : 0.45)
        light[i + c] =
          (mix(dyed, light[i + c]!, bright ? KEEP * 0.4 : KEEP) * lit + spill) * relief * (bright ? 1 : 0.95)
      }
      for (let s = 0; s < strands.length; s++) addStrand(strands[s]!, along, across, bright ? 0.25 : 0.7, light, i)
    }
  }
}

/** Colors from the deepest shadow to the highest light. */
function gradeOf({ mood, hues, key, rim }: Palette): readonly Rgb[] {
  const deep = oklch(mood === 'light' ? 0.26 : 0.1, { hue: hues.rim.hue, chroma: 0.06 })
  const shadow = oklch(mood === 'light' ? 0.45 : 0.33, { hue: hues.rim.hue, chroma: hues.rim.chroma * 0.75 })
  return [deep, shadow, blend(rim, key, 0.5), key, blend(key, [1, 1, 1], 0.85)]
}

function lumaAt(light: Float32Array, i: number): number {
  return 0.2126 * light[i]! + 0.7152 * light[i + 1]! + 0.0722 * light[i + 2]!
}

function strandOf(i: number, { key, rim }: Palette, chance: Chance): Strand {
  return {
    a: 0.18 + chance() * 0.22,
    b: 0.05 + chance() * 0.1,
    slow: 1.1 + chance() * 0.9,
    fast: 2.6 + chance() * 1.8,
    phase: chance() * 6.3,
    shift: (chance() - 0.5) * 0.5 + (i - 1.5) * 0.16,
    wide: 0.0028 + chance() * 0.003,
    color: i % 2 === 0 ? blend(key, [1, 1, 1], 0.25) : blend(rim, [1, 1, 1], 0.15),
  }
}

/** Light falls off with the distance to the strand, measured across its slope. */
function addStrand(strand: Strand, along: number, across: number, power: number, light: Float32Array, i: number): void {
  const { a, b, slow, fast, phase, shift } = strand
  const off = across - shift - a * Math.sin(along * slow + phase) - b * Math.sin(along * fast + phase * 2)
  if (off > 0.3 || off < -0.3) return
  const slope = a * slow * Math.cos(along * slow + phase)
  const near = (off * off) / (1 + slope * slope) / (strand.wide * strand.wide)
  const fade = smooth(1.5, 0.5, Math.abs(along)) * smooth(0.3, 0.15, Math.abs(off))
  const shine = (power * fade) / (1 + near) + (power * fade * 0.05) / (1 + near * 0.01)
  for (let c = 0; c < 3; c++) light[i + c]! += shine * strand.color[c]!
}
