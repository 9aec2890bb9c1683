/**
 * What stands on the pedestal: signed distance shapes, chosen by the words of the prompt.
 *
 * 1. A subject stands on y = 0, around the axis x = z = 0, within its `reach`. Lengths are in scene units; a subject is about 1.2 high.
 * 2. `distance` is never more than the true distance, or a ray could step through the surface.
 * 3. `distance` notes in `touched` which material the nearest surface is of.
 */
import { type Chance, hasAny } from '../palette.ts'
import { length, length3 } from './length.ts'

/** `paint` body color of the palette, `dark` near black lacquer, `soft` matt textile, `metal` polished, `glow` shines by itself. */
export type Material = 'paint' | 'dark' | 'soft' | 'metal' | 'glow'

export type Subject = {
  /** Distance from the point to the nearest surface. */
  distance(x: number, y: number, z: number): number
  /** Material of the surface that the last call of `distance` was nearest to. */
  touched(): Material
  /** Height of the center and radius of a sphere that holds the subject. */
  readonly reach: { readonly y: number; readonly radius: number }
}

export function subjectOf(words: ReadonlySet<string>, chance: Chance): Subject {
  const make = known(words)
  if (make) return make()
  return chance() < 0.5 ? orbit(chance) : knot(chance)
}

/** True when the prompt names a thing that there is a shape for. */
export function knowsSubject(words: ReadonlySet<string>): boolean {
  return known(words) !== undefined
}

function known(words: ReadonlySet<string>): (() => Subject) | undefined {
  return SHAPES.find(([names]) => hasAny(words, names))?.[1]
}

const SHAPES: readonly (readonly [names: string, make: () => Subject])[] = [
  ['headphone headset earphone earbud', headphones],
  ['bottle perfume fragrance whisky wine vase cosmetic serum lotion potion', bottle],
  ['cup mug coffee tea espresso cappuccino latte', cup],
  ['phone smartphone tablet laptop computer screen book console monitor', slab],
  ['lamp lantern bulb mushroom', lamp],
]

/** Keeps the nearest of several parts and remembers its material. */
function nearest() {
  let least = 0
  let material: Material = 'paint'
  return {
    start: (d: number, m: Material) => {
      least = d
      material = m
    },
    add: (d: number, m: Material) => {
      if (d < least) {
        least = d
        material = m
      }
    },
    least: () => least,
    touched: () => material,
  }
}

function headphones(): Subject {
  const part = nearest()
  const cupY = 0.405
  const bandY = 0.56
  const bandR = 0.63
  return {
    reach: { y: 0.62, radius: 0.95 },
    touched: part.touched,
    distance(x, y, z) {
      const side = Math.abs(x)
      const dy = y - cupY
      const fromAxis = length(dy * 0.9, z)
      part.start(disc(fromAxis, side - 0.63, 0.36, 0.1, 0.075), 'paint')
      part.add(disc(fromAxis, side - 0.735, 0.235, 0.012, 0.01), 'dark')
      part.add(length(fromAxis - 0.255, side - 0.735) - 0.017, 'glow')
      part.add(length(fromAxis - 0.235, (side - 0.49) * 0.9) - 0.105, 'soft')
      const rise = y - bandY
      const around = rise > 0 ? length(x, rise) - bandR : side - bandR
      const below = rise > 0 ? 0 : -rise - 0.04
      const band = slabDistance(around, z, 0.018, 0.1, 0.018)
      part.add(Math.max(band, below), 'paint')
      if (rise > 0)
        part.add(Math.max(slabDistance(length(x, rise) - bandR + 0.05, z, 0.022, 0.085, 0.03), 0.3 - rise), 'soft')
      const low = Math.max(0, Math.abs(y - 0.6) - 0.16)
      part.add(length3(side - bandR, low, z) - 0.026, 'metal')
      return part.least() * 0.92
    },
  }
}

function bottle(): Subject {
  const part = nearest()
  return {
    reach: { y: 0.6, radius: 0.78 },
    touched: part.touched,
    distance(x, y, z) {
      part.start(block(x, y - 0.42, z, 0.36, 0.42, 0.22, 0.09), 'paint')
      const r = length(x, z)
      part.add(disc(r, y - 0.88, 0.11, 0.06, 0.02), 'metal')
      part.add(disc(r, y - 1.05, 0.17, 0.13, 0.03), 'dark')
      part.add(disc(r, y - 0.93, 0.175, 0.012, 0.01), 'glow')
      part.add(block(x, y - 0.4, z - 0.22, 0.2, 0.13, 0.012, 0.01), 'metal')
      return part.least()
    },
  }
}

function cup(): Subject {
  const part = nearest()
  return {
    reach: { y: 0.4, radius: 0.88 },
    touched: part.touched,
    distance(x, y, z) {
      const r = length(x, z)
      const flare = 0.38 + 0.1 * Math.min(Math.max(y, 0), 0.8)
      const shell = Math.max(
        disc(r * (0.42 / flare), y - 0.44, 0.42, 0.36, 0.06),
        -disc(r * (0.42 / flare), y - 0.56, 0.365, 0.4, 0.06),
      )
      part.start(shell * 0.85, 'paint')
      part.add(Math.max(r - 0.39, Math.abs(y - 0.66) - 0.01), 'dark')
      part.add(length(length(x - 0.44, (y - 0.42) * 0.9) - 0.2, z) - 0.045, 'paint')
      part.add(disc(r, y - 0.045, 0.66 + Math.max(0, y) * 0.4, 0.02, 0.02) * 0.85, 'metal')
      return part.least() * 0.9
    },
  }
}

function slab(): Subject {
  const part = nearest()
  const lean = 0.2
  return {
    reach: { y: 0.65, radius: 0.85 },
    touched: part.touched,
    distance(x, y, z) {
      const up = y * Math.cos(lean) - z * Math.sin(lean) - 0.64
      const out = y * Math.sin(lean) + z * Math.cos(lean) - 0.1
      part.start(block(x, up, out, 0.36, 0.62, 0.045, 0.04), 'metal')
      part.add(block(x, up, out - 0.043, 0.325, 0.585, 0.008, 0.006), 'glow')
      part.add(block(x, y - 0.03, z + 0.05, 0.3, 0.03, 0.24, 0.025), 'dark')
      return part.least()
    },
  }
}

function lamp(): Subject {
  const part = nearest()
  return {
    reach: { y: 0.62, radius: 0.85 },
    touched: part.touched,
    distance(x, y, z) {
      const r = length(x, z)
      part.start(disc(r, y - 0.04, 0.34, 0.04, 0.03), 'metal')
      part.add(disc(r, y - 0.4, 0.055, 0.38, 0.02), 'paint')
      const dome = length(r, (y - 0.72) * 1.2) - 0.55
      part.add(Math.max(dome, 0.72 - y, -(dome + 0.04)) * 0.8, 'paint')
      part.add(length(r, y - 0.76) - 0.2, 'glow')
      return part.least()
    },
  }
}

/** A glossy planet with a tilted ring and a moon. */
function orbit(chance: Chance): Subject {
  const part = nearest()
  const tilt = 0.35 + chance() * 0.35
  const [sin, cos] = [Math.sin(tilt), Math.cos(tilt)]
  const turn = chance() * 2 + 0.2
  const [moonX, moonZ] = [Math.cos(turn) * 0.8, Math.sin(turn) * 0.8]
  return {
    reach: { y: 0.62, radius: 1.02 },
    touched: part.touched,
    distance(x, y, z) {
      const up = y - 0.66
      const across = x * cos + up * sin
      const rise = up * cos - x * sin
      part.start(length3(x, up, z) - 0.5, 'paint')
      part.add(slabDistance(length(across, z) - 0.78, rise, 0.07, 0.012, 0.012), 'metal')
      part.add(length(length(across, z) - 0.66, rise) - 0.012, 'glow')
      part.add(length3(across - moonX, rise, z - moonZ) - 0.12, 'dark')
      part.add(disc(length(x, z), y - 0.06, 0.22, 0.06, 0.05), 'metal')
      return part.least()
    },
  }
}

/** A closed band that winds around a ring. */
function knot(chance: Chance): Subject {
  const part = nearest()
  const winds = chance() < 0.5 ? 1.5 : 2.5
  const bead = 0.15 + chance() * 0.05
  return {
    reach: { y: 0.68, radius: 0.92 },
    touched: part.touched,
    distance(x, y, z) {
      const up = y - 0.7
      const out = length(x, up) - 0.44
      const angle = Math.atan2(up, x) * winds
      const [sin, cos] = [Math.sin(angle), Math.cos(angle)]
      const a = Math.abs(out * cos + z * sin) - 0.15
      const b = z * cos - out * sin
      part.start((length(Math.max(Math.abs(a) - 0.02, 0), Math.max(Math.abs(b) - 0.05, 0)) - 0.07) * 0.62, 'paint')
      part.add(length3(x, up, z) - bead, 'glow')
      part.add(disc(length(x, z), y - 0.03, 0.26, 0.03, 0.025), 'metal')
      return part.least()
    },
  }
}

/** A disc with rounded rims: `fromAxis` and `along` are the point's place, the rest radius, half thickness, rounding. */
function disc(fromAxis: number, along: number, radius: number, half: number, round: number): number {
  return slabDistance(fromAxis < 0 ? 0 : fromAxis, along, radius - round, half - round, 0) - round
}

/** A rounded rectangle in two dimensions: half extents `a` and `b` without the rounding. */
function slabDistance(x: number, y: number, a: number, b: number, round: number): number {
  const dx = Math.abs(x) - a
  const dy = Math.abs(y) - b
  return (dx > 0 && dy > 0 ? length(dx, dy) : dx > dy ? dx : dy) - round
}

/** A rounded box; half extents include the rounding. */
function block(x: number, y: number, z: number, a: number, b: number, c: number, round: number): number {
  const dx = Math.abs(x) - a + round
  const dy = Math.abs(y) - b + round
  const dz = Math.abs(z) - c + round
  const most = dx > dy ? (dx > dz ? dx : dz) : dy > dz ? dy : dz
  if (most <= 0) return most - round
  return length3(dx > 0 ? dx : 0, dy > 0 ? dy : 0, dz > 0 ? dz : 0) - round
}
