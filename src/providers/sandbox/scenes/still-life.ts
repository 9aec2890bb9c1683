/**
 * A product photograph: a subject on a round pedestal in a studio with two colored lights, traced ray by ray.
 *
 * 1. Rays go where the picture changes: every second pixel of every second row first, between them only where those differ.
 * 2. Where two things meet, or bright and dark, a pixel gets four rays, so that no edge is jagged.
 */
import type { Canvas } from '../canvas.ts'
import type { Chance, Palette } from '../palette.ts'
import { subjectOf } from './subjects.ts'
import { EYE, Tracer } from './tracer.ts'

const TARGET_Y = 0.8
const ZOOM = 3.8
/** Light that two neighbors may differ by, and still be blended: less than what a screen shows of it. */
const ALIKE = 0.02
/** Share of its light that a pixel differs from a neighbor by at an edge. */
const EDGE = 0.3

/** Traces the ray through a point of the picture in pixels, writes its light to `out`, and answers the kind of thing it meets. */
type Ray = (x: number, y: number, out: Float32Array, at: number) => number

export function paintStillLife(canvas: Canvas, palette: Palette, words: ReadonlySet<string>, chance: Chance): void {
  const { width, height } = canvas
  const subject = subjectOf(words, chance)
  const yaw = (chance() < 0.5 ? -1 : 1) * (0.5 + chance() * 0.25)
  const power = palette.mood === 'light' ? 0 : 1
  const halo = { y: 1.24 + chance() * 0.08, z: -1.4, radius: 1.2 + chance() * 0.12, power }
  const tracer = new Tracer({ palette, subject, yaw, halo, spread: Math.max(1, width / height) })
  const unit = 2 / Math.min(width, height) / ZOOM
  const fall = (EYE.y - TARGET_Y) / EYE.z
  const kinds = new Uint8Array(width * height)
  const ray: Ray = (x, y, out, at) => {
    const dx = (x - width / 2) * unit
    const dy = (height / 2 - y) * unit - fall
    const length = Math.sqrt(dx * dx + dy * dy + 1)
    return tracer.see(dx / length, dy / length, -1 / length, out, at)
  }
  traceEverySecond(canvas, kinds, ray)
  traceBetween(canvas, kinds, ray)
  smoothEdges(canvas, kinds, ray)
}

function traceEverySecond({ width, height, light }: Canvas, kinds: Uint8Array, ray: Ray): void {
  for (let y = 0; y < height; y += 2) {
    for (let x = 0; x < width; x += 2) {
      const i = y * width + x
      kinds[i] = ray(x + 0.5, y + 0.5, light, i * 3)
    }
  }
}

/** Fills the other pixels: from the two or four traced ones around when they agree, or else with a ray of their own. */
function traceBetween({ width, height, light }: Canvas, kinds: Uint8Array, ray: Ray): void {
  const blended = (i: number, steps: readonly number[]): boolean => {
    const first = i + steps[0]!
    for (let c = 0; c < 3; c++) {
      const own = light[first * 3 + c]!
      let sum = own
      for (let s = 1; s < steps.length; s++) {
        const other = i + steps[s]!
        const value = light[other * 3 + c]!
        if (kinds[other] !== kinds[first] || Math.abs(value - own) > ALIKE * (0.4 + own)) return false
        sum += value
      }
      light[i * 3 + c] = sum / steps.length
    }
    kinds[i] = kinds[first]!
    return true
  }
  const across = [-1, 1]
  const down = [-width, width]
  const corners = [-width - 1, -width + 1, width - 1, width + 1]
  for (let y = 0; y < height; y++) {
    for (let x = y % 2 === 0 ? 1 : 0; x < width; x += y % 2 === 0 ? 2 : 1) {
      const i = y * width + x
      const steps = y % 2 === 0 ? across : x % 2 === 0 ? down : corners
      const inside = (x % 2 === 0 || x + 1 < width) && (y % 2 === 0 || y + 1 < height)
      if (!inside || !blended(i, steps)) kinds[i] = ray(x + 0.5, y + 0.5, light, i * 3)
    }
  }
}

function smoothEdges({ width, height, light }: Canvas, kinds: Uint8Array, ray: Ray): void {
  const four = new Float32Array(12)
  const differs = (i: number, j: number): boolean => {
    if (kinds[i] !== kinds[j]) return true
    const [a, b] = [light[i * 3 + 1]!, light[j * 3 + 1]!]
    return Math.abs(a - b) > EDGE * (0.1 + Math.min(a, b))
  }
  for (let y = 1; y < height - 1; y++) {
    for (let x = 1; x < width - 1; x++) {
      const i = y * width + x
      if (!differs(i, i + 1) && !differs(i, i - 1) && !differs(i, i + width) && !differs(i, i - width)) continue
      ray(x + 0.3, y + 0.15, four, 0)
      ray(x + 0.85, y + 0.3, four, 3)
      ray(x + 0.15, y + 0.7, four, 6)
      ray(x + 0.7, y + 0.85, four, 9)
      for (let c = 0; c < 3; c++) light[i * 3 + c] = (four[c]! + four[3 + c]! + four[6 + c]! + four[9 + c]!) / 4
    }
  }
}
