/**
 * Folds of cloth in moving air: an abstract for prompts that name no thing and no place.
 *
 * 1. The cloth is a height field of bent waves. It is lit like a surface, so that its folds have a bright and a dark side.
 */
import type { Canvas } from '../canvas.ts'
import { blend, type Chance, mix, type Palette, type Rgb, smooth } from '../palette.ts'

type Wave = { readonly turn: number; readonly size: number; readonly phase: number; readonly pull: number }

export function paintSilk(canvas: Canvas, palette: Palette, _words: ReadonlySet<string>, chance: Chance): void {
  const { width, height, light } = canvas
  const cloth = createCloth(chance)
  const unit = 2 / Math.min(width, height)
  const [u, v] = [(width / 2) * unit, (height / 2) * unit]
  const rows = [new Float32Array(width + 2), new Float32Array(width + 2), new Float32Array(width + 2)] as const
  const folds = (y: number, row: Float32Array): void => {
    for (let x = -1; x <= width; x++) row[x + 1] = cloth(x * unit - u, y * unit - v)
  }
  const dyes = dyesOf(palette)
  const color = new Float64Array(3)
  let [above, here, below] = rows
  folds(-1, above)
  folds(0, here)
  for (let y = 0, i = 0; y < height; y++) {
    folds(y + 1, below)
    for (let x = 0; x < width; x++, i += 3) {
      const slopeX = ((here[x + 2]! - here[x]!) / (2 * unit)) * 0.3
      const slopeY = ((below[x + 1]! - above[x + 1]!) / (2 * unit)) * 0.3
      shade(dyes, here[x + 1]!, slopeX, slopeY, (x * unit - u) * 0.35 + 0.5 * (y * unit - v), color)
      for (let c = 0; c < 3; c++) light[i + c] = color[c]!
    }
    ;[above, here, below] = [here, below, above]
  }
}

/** Height of the cloth at (x, y): a wave whose ground is bent by other waves. */
function createCloth(chance: Chance): (x: number, y: number) => number {
  const angle = -0.5 - chance() * 0.7
  const [sin, cos] = [Math.sin(angle), Math.cos(angle)]
  const bends: Wave[] = Array.from({ length: 4 }, (_, i) => ({
    turn: chance() * 1.2 - 0.6,
    size: (0.9 + chance() * 0.5) * 1.55 ** i,
    phase: chance() * 6.3,
    pull: 0.52 / 1.6 ** i,
  }))
  const dense = 4.2 + chance() * 1.6
  const start = chance() * 6.3
  return (x0, y0) => {
    let x = x0 * cos - y0 * sin
    let y = (x0 * sin + y0 * cos) * 0.75
    for (let i = 0; i < bends.length; i++) {
      const wave = bends[i]!
      const shift = wave.pull * Math.sin(y * wave.size * 1.7 + x * wave.turn + wave.phase)
      y += wave.pull * 0.7 * Math.sin(x * wave.size * 1.3 - y * wave.turn + wave.phase * 1.7)
      x += shift
    }
    const wave = Math.sin(x * dense + start)
    return (
      0.6 * wave +
      0.2 * Math.sin(x * dense * 2.3 + y * 1.9 + start) +
      0.07 * Math.sin(x * dense * 5.1 - y * 2.7) +
      0.1 * y
    )
  }
}

type Dyes = {
  readonly deep: Rgb
  readonly first: Rgb
  readonly second: Rgb
  readonly sheen: Rgb
  readonly bright: boolean
}

function dyesOf({ base, key, rim, mood }: Palette): Dyes {
  const bright = mood === 'light'
  return {
    deep: bright ? blend(base, rim, 0.35) : blend([0.004, 0.004, 0.008], base, 0.35),
    first: key,
    second: rim,
    sheen: blend(key, [1, 1, 1], 0.7),
    bright,
  }
}

function shade(dyes: Dyes, fold: number, slopeX: number, slopeY: number, place: number, out: Float64Array): void {
  const size = Math.sqrt(slopeX * slopeX + slopeY * slopeY + 1)
  const facing = (-slopeX * 0.55 - slopeY * 0.62 + 0.56) / size
  const across = smooth(-0.75, 0.75, place + fold * 0.35)
  const lit = Math.max(0, facing)
  const raised = smooth(-1, 0.9, fold)
  const grazing = 1 - 1 / size
  const sheen = lit ** 22 * 0.8 + smooth(0.7, 0.97, lit) * 0.07
  const thread = 1 + 0.1 * Math.sin(fold * 90) * (1 - 0.6 * lit)
  const depth = dyes.bright ? 0.55 + 0.45 * raised : 0.1 + 0.9 * raised * raised
  for (let c = 0; c < 3; c++) {
    const dye = mix(dyes.first[c]!, dyes.second[c]!, across)
    const cloth = mix(dyes.deep[c]!, dye, depth) * (dyes.bright ? 0.75 + 0.5 * lit : 0.07 + 1.0 * lit)
    const edge = grazing * grazing * mix(dyes.second[c]!, dyes.first[c]!, across) * (dyes.bright ? 0.12 : 0.3)
    out[c] = cloth * thread + edge + sheen * dyes.sheen[c]!
  }
}
