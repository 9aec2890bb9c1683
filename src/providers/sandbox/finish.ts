/**
 * The last hand on a picture: light spills over (bloom), is graded to what a screen can show, and the corners fall off.
 *
 * 1. In: linear light without an upper end. Out: 0 to 1.
 * 2. Strengths are relative to the picture's size, so the same picture looks the same small and large.
 */
import { type Canvas, createCanvas, resample, sampleLight } from './canvas.ts'

export type Finish = { readonly bloom: number; readonly vignette: number; readonly grain: number }

/** Finishes the canvas in place. */
export function finish(canvas: Canvas, { bloom, vignette, grain }: Finish): void {
  const { width, height, light } = canvas
  const spill = bloom > 0 ? glowOf(canvas) : null
  const spilled = new Float32Array(3)
  const reach = Math.hypot(width, height) / 2
  const scaleX = spill ? spill.width / width : 0
  const scaleY = spill ? spill.height / height : 0
  for (let y = 0, i = 0; y < height; y++) {
    for (let x = 0; x < width; x++, i += 3) {
      if (spill) sampleLight(spill, (x + 0.5) * scaleX, (y + 0.5) * scaleY, spilled)
      const dx = (x - width / 2) / reach
      const dy = (y - height / 2) / reach
      const off = dx * dx + dy * dy
      const fall = 1 - vignette * off * (1.4 - 0.4 * off)
      const speck = 1 + grain * (noise(x, y) - 0.5)
      for (let c = 0; c < 3; c++) light[i + c] = tone((light[i + c]! + bloom * spilled[c]!) * fall * speck)
    }
  }
}

/** A film curve: soft shoulder, gentle toe (after Narkowicz, "ACES Filmic Tone Mapping Curve", 2016). */
function tone(x: number): number {
  const y = (x * (2.51 * x + 0.03)) / (x * (2.43 * x + 0.59) + 0.14)
  return y < 0 ? 0 : y > 1 ? 1 : y
}

/** A small, blurred copy of the canvas: wide soft versions of its own picture. */
export function blurred(canvas: Canvas, side: number, passes: number): Canvas {
  const scale = side / Math.max(canvas.width, canvas.height)
  const small = shrink(
    canvas,
    Math.max(2, Math.round(canvas.width * scale)),
    Math.max(2, Math.round(canvas.height * scale)),
  )
  const radius = Math.max(1, Math.round(side / 48))
  for (let i = 0; i < passes; i++) boxBlur(small, radius)
  return small
}

/** What shines brighter than the screen can show, spread out. */
function glowOf(canvas: Canvas): Canvas {
  const small = blurred(canvas, 192, 0)
  for (let i = 0; i < small.light.length; i++) small.light[i] = Math.max(0, small.light[i]! - 0.75)
  const near = resample(small, small.width, small.height)
  for (let i = 0; i < 2; i++) boxBlur(near, 2)
  for (let i = 0; i < 3; i++) boxBlur(small, 9)
  for (let i = 0; i < small.light.length; i++) small.light[i] = small.light[i]! * 0.8 + near.light[i]! * 0.45
  return small
}

/** Averages whole blocks, so that thin bright lines are neither lost nor doubled. */
function shrink(canvas: Canvas, width: number, height: number): Canvas {
  const small = createCanvas(width, height)
  const counts = new Uint32Array(width * height)
  for (let y = 0, i = 0; y < canvas.height; y++) {
    const row = Math.floor((y * height) / canvas.height) * width
    for (let x = 0; x < canvas.width; x++, i += 3) {
      const cell = row + Math.floor((x * width) / canvas.width)
      counts[cell]!++
      for (let c = 0; c < 3; c++) small.light[cell * 3 + c]! += canvas.light[i + c]!
    }
  }
  for (let cell = 0; cell < counts.length; cell++) {
    for (let c = 0; c < 3; c++) small.light[cell * 3 + c]! /= counts[cell] || 1
  }
  return small
}

function boxBlur({ width, height, light }: Canvas, radius: number): void {
  const line = new Float32Array(Math.max(width, height))
  for (let c = 0; c < 3; c++) {
    for (let y = 0; y < height; y++) blurLine(light, y * width * 3 + c, 3, width, radius, line)
    for (let x = 0; x < width; x++) blurLine(light, x * 3 + c, width * 3, height, radius, line)
  }
}

function blurLine(
  data: Float32Array,
  from: number,
  step: number,
  count: number,
  radius: number,
  line: Float32Array,
): void {
  const value = (i: number): number => line[i < 0 ? 0 : i >= count ? count - 1 : i]!
  for (let i = 0; i < count; i++) line[i] = data[from + i * step]!
  let sum = 0
  for (let i = -radius; i <= radius; i++) sum += value(i)
  for (let i = 0; i < count; i++) {
    data[from + i * step] = sum / (2 * radius + 1)
    sum += value(i + radius + 1) - value(i - radius)
  }
}

/** Noise from the place alone, 0 to 1. */
function noise(x: number, y: number): number {
  let h = Math.imul(x, 0x27d4eb2d) ^ Math.imul(y, 0x165667b1)
  h = Math.imul(h ^ (h >>> 15), 0x85ebca6b)
  return ((h ^ (h >>> 13)) >>> 0) / 4294967296
}
