/**
 * The studio of a still life as light sees it: a room, three softboxes, a halo, a pedestal and the subject on it.
 *
 * 1. The room, the floor and the lights are formulas. Only the pedestal and the subject are marched (sphere tracing).
 * 2. A ray is reflected at most once, and only by the floor and the pedestal; the subject mirrors the lights alone.
 * 3. No allocation for a ray: points, normals and sums live in fields, and are copied before a second ray is sent.
 */
import { blend, mix, type Palette, type Rgb, smooth } from '../palette.ts'
import { length, length3 } from './length.ts'
import type { Material, Subject } from './subjects.ts'

/** The eye looks along -z, from the middle of the scene. */
export const EYE = { y: 1.5, z: 6.4 }

/** What a ray meets first; edges between different kinds are painted with more rays. */
const ROOM = 0
const FLOOR = 1
const PEDESTAL_KIND = 2
const KINDS: readonly Material[] = ['paint', 'dark', 'soft', 'metal', 'glow']

const PEDESTAL = { height: 0.42, radius: 1.08, bevel: 0.05 }
const MAX_STEPS = 60
const WALL_Z = -4.5

type Softbox = { x: number; y: number; z: number; wide: number; high: number; soft: number; light: Rgb }
type Halo = { y: number; z: number; radius: number; power: number }
/** `mirror` is the light thrown straight back at a steep look, `gloss` how sharp the lights show in it. */
type Surface = { color: Rgb; mirror: number; gloss: number; metal: boolean; glow: number }

/** `spread` widens the pools of light for a wide picture, 1 or more. */
export type Stage = { palette: Palette; subject: Subject; yaw: number; halo: Halo; spread: number }

export class Tracer {
  private readonly surfaces: Record<Material | 'pedestal', Surface>
  private readonly boxes: readonly Softbox[]
  private readonly sin: number
  private readonly cos: number
  private readonly bright: boolean
  private x = 0
  private y = 0
  private z = 0
  private nx = 0
  private ny = 0
  private nz = 0
  private onPedestal = false
  private readonly seen = new Float64Array(3)
  private readonly lamp = new Float64Array(3)

  constructor(private readonly stage: Stage) {
    const { palette, yaw } = stage
    this.sin = Math.sin(yaw)
    this.cos = Math.cos(yaw)
    this.bright = palette.mood === 'light'
    this.surfaces = surfacesOf(palette)
    const power = this.bright ? 0.8 : 1
    this.boxes = [
      softbox(-0.8, 0.4, 0.45, 0.4, 0.8, 0.12, palette.key, 3.6 * power),
      softbox(0.93, 0.22, -0.02, 0.24, 0.95, 0.1, palette.rim, 5 * power),
      softbox(0.08, 1, 0.15, 0.55, 0.32, 0.22, [1, 1, 1], this.bright ? 2.4 : 1.3),
    ]
  }

  /** Light that comes to the eye from the direction, written to `out`; answers what kind of thing it comes from. */
  see(dx: number, dy: number, dz: number, out: Float32Array, at: number): number {
    const { seen } = this
    let kind = ROOM
    if (this.march(0, EYE.y, EYE.z, dx, dy, dz)) {
      kind = this.onPedestal ? PEDESTAL_KIND : PEDESTAL_KIND + 1 + KINDS.indexOf(this.stage.subject.touched())
      this.shade(dx, dy, dz, true)
    } else if (dy < 0 && this.floorZ(dy, dz) > WALL_Z) {
      kind = FLOOR
      this.shadeFloor(dx, dy, dz)
    } else {
      seen.fill(0)
      this.addRoom(0, EYE.y, EYE.z, dx, dy, dz, 1)
    }
    for (let c = 0; c < 3; c++) out[at + c] = seen[c]!
    return kind
  }

  private floorZ(dy: number, dz: number): number {
    return EYE.z - (EYE.y / dy) * dz
  }

  private distance(x: number, y: number, z: number): number {
    const { sin, cos } = this
    return this.stage.subject.distance(x * cos - z * sin, y - PEDESTAL.height, x * sin + z * cos)
  }

  /** Follows the ray to the subject or the pedestal; false when it meets none. Leaves the place in `x, y, z`. */
  private march(ox: number, oy: number, oz: number, dx: number, dy: number, dz: number): boolean {
    const stop = meetPedestal(ox, oy, oz, dx, dy, dz)
    const { reach } = this.stage.subject
    const up = oy - PEDESTAL.height - reach.y
    const b = ox * dx + up * dy + oz * dz
    const h = b * b - ox * ox - up * up - oz * oz + reach.radius * reach.radius
    this.onPedestal = false
    if (h > 0) {
      const end = Math.min(stop, Math.sqrt(h) - b)
      let t = Math.max(0.004, -b - Math.sqrt(h))
      for (let i = 0; i < MAX_STEPS && t < end; i++) {
        const d = this.distance(ox + dx * t, oy + dy * t, oz + dz * t)
        if (d < 0.001) return this.meet(ox + dx * t, oy + dy * t, oz + dz * t)
        t += d
      }
    }
    if (stop === Number.POSITIVE_INFINITY) return false
    this.onPedestal = true
    return this.meet(ox + dx * stop, oy + dy * stop, oz + dz * stop)
  }

  private meet(x: number, y: number, z: number): true {
    this.x = x
    this.y = y
    this.z = z
    return true
  }

  /** Light from the surface at `x, y, z` back along the ray, into `seen`. */
  private shade(dx: number, dy: number, dz: number, mirrors: boolean): void {
    const { x, y, z, seen, boxes } = this
    const isPedestal = this.onPedestal
    const surface = this.surfaces[isPedestal ? 'pedestal' : this.stage.subject.touched()]
    this.findNormal(x, y, z)
    const { nx, ny, nz } = this
    if (surface.glow > 0) {
      const facing = Math.max(0.25, -(nx * dx + ny * dy + nz * dz))
      for (let c = 0; c < 3; c++) seen[c] = surface.color[c]! * surface.glow * facing
      return
    }
    const open = this.openness(x, y, z, nx, ny, nz)
    const toward = -(nx * dx + ny * dy + nz * dz)
    const fresnel = surface.mirror + (1 - surface.mirror) * grazing(toward) * (0.3 + 0.7 * surface.gloss)
    const rx = dx + 2 * toward * nx
    const ry = dy + 2 * toward * ny
    const rz = dz + 2 * toward * nz
    this.gatherLamps(rx, ry, rz, surface.gloss)
    const [m0, m1, m2] = this.lamp as unknown as [number, number, number]
    for (let c = 0; c < 3; c++) {
      let diffuse =
        (this.bright ? 0.45 : 0.05 + 0.1 * Math.max(0, nz)) + this.stage.palette.base[c]! * 0.5 * (0.6 + 0.4 * ny)
      for (let i = 0; i < boxes.length; i++) {
        const box = boxes[i]!
        const wrap = (nx * box.x + ny * box.y + nz * box.z + 0.3) / 1.3
        if (wrap > 0) diffuse += wrap * wrap * box.light[c]! * 0.26
      }
      const own = surface.color[c]!
      const tint = surface.metal ? own : 1
      const gleam = c === 0 ? m0 : c === 1 ? m1 : m2
      seen[c] = (surface.metal ? 0.15 : 1) * own * diffuse * open + fresnel * tint * gleam * (0.35 + 0.65 * open)
    }
    if (mirrors && isPedestal && ny > 0.94)
      this.addMirror(x, y, z, dx, -dy, dz, (0.1 + fresnel * 0.8) * smooth(0.94, 1, ny), y)
  }

  private shadeFloor(dx: number, dy: number, dz: number): void {
    const { seen } = this
    const { base, key, rim } = this.stage.palette
    const t = -EYE.y / dy
    const [x, z] = [dx * t, EYE.z + dz * t]
    const away = length(x, z)
    const contact = smooth(0, 0.9, away - PEDESTAL.radius * 0.96)
    const shadow = 0.35 + 0.65 * contact
    const { spread } = this.stage
    const left = pool(x / spread + 1.9, z - 0.6, 0.16)
    const right = pool(x / spread - 2, z + 0.2, 0.16)
    for (let c = 0; c < 3; c++) {
      const pools = (key[c]! * left + rim[c]! * right) * (this.bright ? 0.12 : 0.11)
      seen[c] = shadow * (base[c]! * (this.bright ? 0.78 : 0.5) + pools)
    }
    this.addMirror(x, 0, z, dx, -dy, dz, (this.bright ? 0.1 : 0.22) + 0.5 * grazing(-dy * 1.8), 0)
    const far = smooth(0.4, WALL_Z, z)
    if (far > 0) {
      for (let c = 0; c < 3; c++) seen[c] = seen[c]! * (1 - far)
      this.addWall(x, 0, far)
    }
    if (z < this.stage.halo.z) this.addHalo(0, EYE.y, EYE.z, dx, dy, dz, 1)
  }

  /** Adds what a polished plane at (x, y, z) reflects; the picture in it blurs, so fades, with its height over the plane. */
  private addMirror(
    x: number,
    y: number,
    z: number,
    dx: number,
    dy: number,
    dz: number,
    share: number,
    plane: number,
  ): void {
    const { seen } = this
    const [r, g, b] = [seen[0]!, seen[1]!, seen[2]!]
    if (this.march(x, y + 0.003, z, dx, dy, dz)) {
      const fade = share * Math.exp(-Math.max(0, this.y - plane) * 1.15)
      this.shade(dx, dy, dz, false)
      seen[0] = r + fade * Math.min(seen[0]!, 3)
      seen[1] = g + fade * Math.min(seen[1]!, 3)
      seen[2] = b + fade * Math.min(seen[2]!, 3)
      return
    }
    this.addRoom(x, y, z, dx, dy, dz, share * 0.7)
  }

  private addRoom(ox: number, oy: number, oz: number, dx: number, dy: number, dz: number, share: number): void {
    if (dz < 0) {
      const t = (WALL_Z - oz) / dz
      this.addWall(ox + dx * t, Math.max(oy + dy * t, 0), share)
    }
    this.addHalo(ox, oy, oz, dx, dy, dz, share)
  }

  /** The paper backdrop: a soft pool of each light on the room's own color. */
  private addWall(x: number, y: number, share: number): void {
    const { spread } = this.stage
    const { base, key, rim } = this.stage.palette
    const left = pool(x / spread + 2.3, (y - 2) * 0.87, 0.16)
    const right = pool(x / spread - 2.5, (y - 1.7) * 0.87, 0.17)
    const rise = smooth(-0.5, 5.5, y)
    const room = this.bright ? mix(0.95, 0.8, rise) : mix(0.75, 0.16, rise)
    for (let c = 0; c < 3; c++) {
      const glow = this.bright ? 0.3 * base[c]! : 1
      const pools = key[c]! * left * 0.34 * (this.bright ? 0.55 : 1) + rim[c]! * right * 0.36 * (this.bright ? 0.5 : 1)
      this.seen[c]! += share * (base[c]! * room * (this.bright ? 0.8 : 1) + pools * (this.bright ? 0.8 : glow))
    }
  }

  /** A thin ring of light that hangs behind the subject, with the air around it lit. */
  private addHalo(ox: number, oy: number, oz: number, dx: number, dy: number, dz: number, share: number): void {
    const { halo, palette } = this.stage
    if (halo.power === 0 || dz >= 0 || oz < halo.z) return
    const t = (halo.z - oz) / dz
    const off = Math.abs(length(ox + dx * t, oy + dy * t - halo.y) - halo.radius)
    const narrow = (off / 0.014) * (off / 0.014)
    const core = 1 / (1 + narrow * narrow)
    const air = 0.05 / (1 + narrow * 0.024)
    const side = smooth(-1.1, 1.1, ox + dx * t)
    for (let c = 0; c < 3; c++) {
      const color = mix(palette.key[c]!, palette.rim[c]!, side)
      this.seen[c]! += share * halo.power * (core * (color * 2.4 + 0.3) + air * color * 2)
    }
  }

  /** What a shiny surface throws back from direction (x, y, z) into `lamp`: the softboxes, blurred by missing gloss, and the dim room. */
  private gatherLamps(x: number, y: number, z: number, gloss: number): void {
    const { lamp, boxes } = this
    const { base } = this.stage.palette
    const haze = (1 - gloss) * 0.7
    const dim = (this.bright ? 0.75 : 0.16) * (0.5 + 0.5 * y)
    for (let c = 0; c < 3; c++) lamp[c] = base[c]! * dim
    for (let i = 0; i < boxes.length; i++) {
      const box = boxes[i]!
      const along = x * box.x + y * box.y + z * box.z
      if (along <= 0.05) continue
      const flat = length(box.x, box.z) || 1
      const sideways = (x * box.z - z * box.x) / flat
      const upward = (y - box.y * along) / flat
      const soft = box.soft + haze
      const a = smooth(box.wide + soft, box.wide - box.soft, Math.abs(sideways / along))
      const b = smooth(box.high + soft, box.high - box.soft, Math.abs(upward / along))
      const share = (a * b) / (1 + haze * 3)
      for (let c = 0; c < 3; c++) lamp[c]! += share * box.light[c]!
    }
  }

  private findNormal(x: number, y: number, z: number): void {
    if (this.onPedestal) {
      this.findPedestalNormal(x, y, z)
      return
    }
    const e = 0.0016
    const a = this.distance(x + e, y - e, z - e)
    const b = this.distance(x - e, y - e, z + e)
    const c = this.distance(x - e, y + e, z - e)
    const d = this.distance(x + e, y + e, z + e)
    this.setNormal(a - b - c + d, c + d - a - b, b - a - c + d)
  }

  /** Up on the top, outward on the side, and turning from one to the other along the bevel. */
  private findPedestalNormal(x: number, y: number, z: number): void {
    const r = length(x, z) || 1
    const out = smooth(PEDESTAL.radius - PEDESTAL.bevel, PEDESTAL.radius, r)
    const up = smooth(PEDESTAL.height - PEDESTAL.bevel, PEDESTAL.height, y)
    this.setNormal((x / r) * out, up, (z / r) * out)
  }

  private setNormal(x: number, y: number, z: number): void {
    const size = length3(x, y, z) || 1
    this.nx = x / size
    this.ny = y / size
    this.nz = z / size
  }

  /** How much of the room a point of a surface sees: 1 in the open, near 0 in a crease. */
  private openness(x: number, y: number, z: number, nx: number, ny: number, nz: number): number {
    let shut = 0
    for (let i = 1, weight = 1; i <= 3; i++, weight *= 0.6) {
      const reach = 0.1 * i
      const py = y + ny * reach
      let d = Math.min(this.distance(x + nx * reach, py, z + nz * reach), py)
      if (!this.onPedestal && py - PEDESTAL.height < d) d = Math.max(0, py - PEDESTAL.height)
      shut += weight * Math.max(0, reach - d) * 2.4
    }
    return Math.max(0.1, 1 - shut)
  }
}

/** Distance along the ray to the pedestal's top or side; infinite when it passes. */
function meetPedestal(ox: number, oy: number, oz: number, dx: number, dy: number, dz: number): number {
  const { height, radius } = PEDESTAL
  if (dy < 0 && oy > height) {
    const t = (height - oy) / dy
    if (length(ox + dx * t, oz + dz * t) < radius) return t
  }
  const a = dx * dx + dz * dz
  const b = ox * dx + oz * dz
  const h = b * b - a * (ox * ox + oz * oz - radius * radius)
  if (h <= 0) return Number.POSITIVE_INFINITY
  const t = (-b - Math.sqrt(h)) / a
  const y = oy + dy * t
  return t > 0 && y >= 0 && y <= height ? t : Number.POSITIVE_INFINITY
}

/** Schlick's approximation of how much more a surface mirrors the more it is seen from the side; 1 from the very side. */
function grazing(toward: number): number {
  const off = toward >= 1 ? 0 : 1 - toward
  const square = off * off
  return square * square * off
}

/** Brightness of a round pool of light, 1 in its middle. */
function pool(x: number, y: number, narrow: number): number {
  return Math.exp(-(x * x + y * y) * narrow)
}

function softbox(
  x: number,
  y: number,
  z: number,
  wide: number,
  high: number,
  soft: number,
  color: Rgb,
  power: number,
): Softbox {
  const size = length3(x, y, z)
  const light: Rgb = [color[0] * power, color[1] * power, color[2] * power]
  return { x: x / size, y: y / size, z: z / size, wide, high, soft, light }
}

function surfacesOf(palette: Palette): Record<Material | 'pedestal', Surface> {
  const { base, key, rim, accent, mood } = palette
  const tinted = (color: Rgb, t: number): Rgb => [color[0] * t, color[1] * t, color[2] * t]
  const bright = mood === 'light'
  return {
    paint: {
      color: bright ? tinted(key, 0.85) : blend(tinted(key, 0.5), [0.4, 0.41, 0.44], 0.6),
      mirror: 0.06,
      gloss: 0.9,
      metal: false,
      glow: 0,
    },
    dark: { color: [0.02, 0.02, 0.024], mirror: 0.05, gloss: 0.8, metal: false, glow: 0 },
    soft: { color: bright ? tinted(rim, 0.5) : [0.05, 0.05, 0.06], mirror: 0.03, gloss: 0.15, metal: false, glow: 0 },
    metal: { color: [0.86, 0.85, 0.84], mirror: 0.75, gloss: 0.75, metal: true, glow: 0 },
    glow: { color: accent, mirror: 0, gloss: 0, metal: false, glow: 2.2 },
    pedestal: {
      color: bright ? tinted(base, 0.85) : blend(base, [0.2, 0.2, 0.22], 0.5),
      mirror: 0.08,
      gloss: 0.7,
      metal: false,
      glow: 0,
    },
  }
}
