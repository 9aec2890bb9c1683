/**
 * A wide view at the edge of the day: sky, a low sun or moon, ridges behind ridges in the haze, and still water.
 *
 * 1. The water is the upper picture upside down, shaken by ripples that grow towards the viewer.
 * 2. Ridges are lines of heights across the picture; the nearer a ridge, the darker, sharper and larger it is.
 */
import { type Canvas, createCanvas, sampleLight } from '../canvas.ts'
import { blend, type Chance, hasAny, mix, oklch, type Palette, type Rgb, smooth } from '../palette.ts'

const WATER =
  'ocean sea lake river water coast beach island harbor bay fjord pond underwater boat ship reflection reflective'
const SEA = 'ocean sea coast beach underwater'
const CITY = 'city skyline street town downtown urban metropolis cyberpunk building skyscraper'
const RIDGES = 6

export function paintHorizon(canvas: Canvas, palette: Palette, words: ReadonlySet<string>, chance: Chance): void {
  const { width, height } = canvas
  const unit = Math.min(width, height)
  const wet = hasAny(words, WATER) || chance() < 0.45
  const shore = Math.round(height * (wet ? 0.66 + chance() * 0.05 : 1))
  const horizon = height * (wet ? 0.6 : 0.64)
  const sun = {
    x: width * (0.5 + (chance() < 0.5 ? -1 : 1) * (0.1 + chance() * 0.16)),
    y: horizon - unit * (0.13 + chance() * 0.14),
    radius: unit * (0.05 + chance() * 0.035),
  }
  const tones = tonesOf(palette)
  const city = hasAny(words, CITY)
  const view: View = { canvas, tones, sun, horizon, ground: wet ? shore : height, unit, city }
  paintSky(canvas, tones, sun, horizon, chance)
  const count = hasAny(words, SEA) ? 3 : RIDGES
  for (let i = 0; i < count; i++) paintRidge(view, i / (RIDGES - 1), chance)
  if (wet) paintWater(canvas, tones, shore, unit, chance)
}

type View = {
  canvas: Canvas
  tones: Tones
  sun: Sun
  /** Rows where the sky ends and where the land ends. */
  horizon: number
  ground: number
  unit: number
  city: boolean
}
type Sun = { x: number; y: number; radius: number }
type Tones = { zenith: Rgb; middle: Rgb; low: Rgb; sun: Rgb; haze: Rgb; near: Rgb; dark: boolean }

function tonesOf({ mood, hues, key, rim }: Palette): Tones {
  const dark = mood === 'dark'
  return {
    zenith: dark ? oklch(0.24, { hue: hues.rim.hue, chroma: 0.08 }) : oklch(0.78, { hue: hues.rim.hue, chroma: 0.07 }),
    middle: dark
      ? oklch(0.5, { hue: hues.rim.hue, chroma: hues.rim.chroma * 0.85 })
      : oklch(0.87, { hue: hues.rim.hue, chroma: 0.06 }),
    low: oklch(dark ? 0.8 : 0.94, { hue: hues.key.hue, chroma: hues.key.chroma * (dark ? 0.8 : 0.45) }),
    sun: blend(key, [1, 1, 1], dark ? 0.7 : 0.9),
    haze: blend(key, rim, 0.42),
    near: oklch(dark ? 0.17 : 0.36, { hue: hues.rim.hue, chroma: 0.05 }),
    dark,
  }
}

function paintSky({ width, height, light }: Canvas, tones: Tones, sun: Sun, horizon: number, chance: Chance): void {
  const starSeed = Math.floor(chance() * 1e6)
  const [streak, phase] = [3 + chance() * 3, chance() * 6.3]
  const unit = Math.min(width, height)
  for (let y = 0, i = 0; y < height; y++) {
    const rise = Math.min(Math.max(1 - y / horizon, 0), 1)
    const a = smooth(0, 0.5, rise)
    const b = smooth(0.3, 1, rise)
    for (let x = 0; x < width; x++, i += 3) {
      const [u, v] = [x / unit, y / unit]
      const bend = Math.sin(u * 2.1 + phase) * 0.03 + Math.sin(u * 5.3 + v * 3 + phase * 2) * 0.012
      const band = Math.sin(
        (v + bend) * streak * 11 + Math.sin(u * 1.7 + phase) * 2.2 + Math.sin(v * 31 + u * 2.2 + phase),
      )
      const torn = 0.5 + 0.5 * Math.sin(u * 4.1 + v * 17 + phase * 3) * Math.sin(u * 1.3 - v * 9 + phase)
      const cloud = smooth(0.2, 1, band) * torn * smooth(0.02, 0.2, rise) * smooth(0.8, 0.3, rise) * 0.17
      const off = Math.sqrt((x - sun.x) ** 2 + (y - sun.y) ** 2)
      const disc = smooth(sun.radius + 1.2, sun.radius - 1.2, off)
      const set = smooth(-sun.radius, sun.radius * 1.1, y - sun.y) * 0.75
      const glow = 0.45 / (1 + (off / (sun.radius * 1.9)) ** 2) + 0.13 * Math.exp(-((off / (unit * 0.5)) ** 2))
      const star = tones.dark ? starAt(x, y, starSeed) * smooth(0.35, 0.9, rise) : 0
      for (let c = 0; c < 3; c++) {
        const air = mix(mix(tones.low[c]!, tones.middle[c]!, a), tones.zenith[c]!, b) * (tones.dark ? 0.62 : 0.95)
        const sky = air + (cloud + glow) * tones.low[c]! * (tones.dark ? 0.75 : 0.35) + star
        light[i + c] = mix(sky, mix(tones.sun[c]!, tones.low[c]!, set) * (tones.dark ? 1.7 : 1.5), disc)
      }
    }
  }
}

/** A light at few of the places, the more the larger `often` is (of 4 billion); most are faint. */
function starAt(x: number, y: number, seed: number, often = 3_600_000): number {
  let h = Math.imul(x + seed, 0x27d4eb2d) ^ Math.imul(y + 7, 0x165667b1)
  h = Math.imul(h ^ (h >>> 15), 0x85ebca6b)
  h = (h ^ (h >>> 13)) >>> 0
  return h < often ? 0.15 + ((h % 1000) / 1000) ** 3 * 0.9 : 0
}

/** Paints one ridge or row of houses; `near` is 0 for the farthest and 1 for the nearest. */
function paintRidge({ canvas, tones, sun, horizon, ground, unit, city }: View, near: number, chance: Chance): void {
  const { width, light } = canvas
  const lift = unit * mix(0.1, 0.16, near) * (0.8 + chance() * 0.5)
  const foot = mix(horizon, ground - unit * 0.015, near ** 1.4)
  const hills = outlineOf(lift, mix(1.1, 2.2, near) / unit, near, chance)
  const houses = city ? skylineOf(lift * 1.7, mix(0.022, 0.05, near) * unit, chance) : hills
  const pane = Math.max(2, unit * mix(0.003, 0.006, near))
  for (let x = 0; x < width; x++) {
    const top = foot - houses(x)
    const toSun = Math.exp(-(((x - sun.x) / (unit * 0.4)) ** 2))
    for (let y = Math.max(0, Math.floor(top)); y < ground; y++) {
      const cover = Math.min(1, y + 1 - top)
      const depth = smooth(0, unit * mix(0.3, 0.5, near), y - top)
      const i = (y * width + x) * 3
      const mist = (1 - near) ** 1.2 * 0.86 + depth * mix(0.5, 0.1, near)
      const rimLight = smooth(unit * 0.02, 0, y - top) * toSun * toSun * 0.12 * (1 - near * 0.8)
      const lamp = city && near > 0.1 ? windowAt(x / pane, (y - top) / pane) * (0.25 + near * 0.6) : 0
      for (let c = 0; c < 3; c++) {
        const air = mix(tones.haze[c]!, tones.low[c]!, toSun * 0.5 + depth * 0.25) * (tones.dark ? 0.5 : 0.9)
        const color = mix(tones.near[c]!, air, mist) + (rimLight + lamp) * tones.low[c]!
        light[i + c] = mix(light[i + c]!, color, cover)
      }
    }
  }
}

/** Heights of a row of houses, in pixels: blocks about `wide` across, a few of them towers. */
function skylineOf(lift: number, wide: number, chance: Chance): (x: number) => number {
  const heights = Array.from({ length: 61 }, () => (0.25 + chance() ** 3 * 1.5) * lift)
  const shift = chance() * wide
  return x => {
    const at = (x + shift + wide * 0.4 * Math.sin(x / (wide * 2.7))) / wide
    return heights[Math.floor(at + 6100) % heights.length]!
  }
}

/** Light of a window at a place that is counted in panes: some are lit, and walls lie between. */
function windowAt(column: number, row: number): number {
  if (row < 1.5 || column % 1 > 0.55 || row % 1.6 > 0.8) return 0
  const glow = starAt(Math.floor(column) * 7, Math.floor(row / 1.6) * 13, 77, 700_000_000)
  return glow > 0 ? 0.4 + glow * 0.4 : 0
}

/** Heights along a ridge, in pixels: sharp peaks far away, rounder hills close by. */
function outlineOf(lift: number, scale: number, near: number, chance: Chance): (x: number) => number {
  const waves = Array.from({ length: 6 }, (_, i) => ({
    size: (1.1 + chance() * 0.8) * 2.1 ** i * scale,
    phase: chance() * 6.3,
    high: 0.95 / 2.25 ** i,
  }))
  const sharp = 1 - near
  return x => {
    let h = 0.55
    for (const wave of waves) {
      const s = Math.sin(x * wave.size * 2 + wave.phase)
      h += wave.high * mix(s * 0.5, 0.45 - Math.abs(s), sharp * 0.8)
    }
    return h * lift
  }
}

function paintWater(canvas: Canvas, tones: Tones, shore: number, unit: number, chance: Chance): void {
  const { width, height, light } = canvas
  const above = createCanvas(width, shore)
  above.light.set(light.subarray(0, width * shore * 3))
  const phase = chance() * 6.3
  const seen = new Float32Array(3)
  for (let y = shore; y < height; y++) {
    const depth = (y - shore) / unit
    const near = smooth(0, 0.4, depth)
    const rough = mix(0.002, 0.03, near) * unit
    for (let x = 0; x < width; x++) {
      const u = x / unit
      const far = 1 / (depth + 0.03)
      const ripple =
        Math.sin(far * 9 + u * 3 + phase) * 0.5 +
        Math.sin(far * 23 - u * 7 + phase * 3) * 0.3 +
        Math.sin(far * 41 + u * 19) * 0.2
      sampleLight(above, x + ripple * rough * 0.5, shore - (y - shore) * 1.15 + ripple * rough, seen)
      const i = (y * width + x) * 3
      for (let c = 0; c < 3; c++)
        light[i + c] =
          mix(seen[c]! * (0.82 - near * 0.15), tones.near[c]!, 0.12 + near * 0.25) +
          Math.max(0, ripple - 0.55) * 0.05 * tones.low[c]!
    }
  }
}
