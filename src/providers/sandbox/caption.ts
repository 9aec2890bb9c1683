/**
 * The prompt on the picture: a few small lines at the lower left, and the word "sandbox" at the lower right.
 *
 * 1. The caption is laid out in shares of the picture's shorter side, and stays clear of the edges that a film's camera leaves out.
 * 2. On a picture that is too small to read, it is left out rather than squeezed.
 */
import { type Canvas, sampleLight } from './canvas.ts'
import { blurred } from './finish.ts'
import { type Line, setLine, spell, wrap } from './font.ts'
import { mix, type Palette, type Rgb, smooth } from './palette.ts'

const INSET = 0.075
const EM = 0.025
const LEADING = 1.32
const MAX_LINES = 2
/** Shorter side below which letters would be a smear. */
const MIN_SIDE = 120

/** Sets the prompt on a finished canvas. `frosted` first blurs the ground, so that a caption that is already there disappears. */
export function caption(canvas: Canvas, prompt: string, palette: Palette, frosted: boolean): void {
  const unit = Math.min(canvas.width, canvas.height)
  if (unit < MIN_SIDE) return
  const em = Math.max(unit * EM, 9)
  const inset = unit * INSET
  const mark = setLine('sandbox', 9)
  const markEm = em * 0.78
  const room = Math.min(canvas.width - 2.6 * inset - (mark.width * markEm) / 100 - markEm, em * 36)
  const rows = wrap(spell(prompt), (room / em) * 100, MAX_LINES).map(row => setLine(row, 1.5))
  const foot = canvas.height - inset
  const top = foot - em * (LEADING * Math.max(1, rows.length) + 0.9)
  const highest = foot - em * (LEADING * MAX_LINES + 0.9)
  const light = meanLight(canvas, highest) > 0.3
  ground(canvas, highest - em * 3.4, highest + em * (frosted ? -0.1 : 0.4), light, frosted)
  const ink: Rgb = light ? [0.008, 0.008, 0.014] : [0.93, 0.94, 0.97]
  const bar: Line = { segments: [6, 0, 150, 0], width: 156 }
  drawLine(canvas, bar, inset, top + em * 0.35, em, 8, light ? palette.rim : palette.accent, 0.95)
  rows.forEach((row, i) => {
    drawLine(canvas, row, inset, foot - em * LEADING * (rows.length - 1 - i), em, light ? 8 : 6.6, ink, 0.92)
  })
  const end = canvas.width - inset
  drawLine(canvas, mark, end - (mark.width * markEm) / 100, foot, markEm, 6.8, ink, 0.62)
  drawLink(canvas, end - (mark.width * markEm) / 100 - markEm * 1.3, foot, markEm, ink)
}

/** Two rings of a chain. */
function drawLink(canvas: Canvas, x: number, y: number, em: number, ink: Rgb): void {
  for (const shift of [0, 0.36]) {
    const ring = Array.from({ length: 24 }, (_, i) => {
      const [a, b] = [(i / 24) * 2 * Math.PI, ((i + 1) / 24) * 2 * Math.PI]
      return [26 + 26 * Math.cos(a), 26 + 26 * Math.sin(a), 26 + 26 * Math.cos(b), 26 + 26 * Math.sin(b)]
    }).flat()
    drawLine(canvas, { segments: ring, width: 52 }, x + shift * em, y, em, 6.8, ink, 0.62)
  }
}

/** Draws the line with its baseline at y, with a round pen of `pen` em units. */
function drawLine(
  { width, height, light }: Canvas,
  line: Line,
  x: number,
  y: number,
  em: number,
  pen: number,
  ink: Rgb,
  share: number,
): void {
  const scale = em / 100
  const radius = Math.max((pen * scale) / 2, 0.55)
  const margin = Math.ceil(radius + 2)
  const left = Math.max(0, Math.floor(x - margin))
  const right = Math.min(width, Math.ceil(x + line.width * scale + em))
  const high = Math.max(0, Math.floor(y - em))
  const low = Math.min(height, Math.ceil(y + em * 0.4))
  const span = right - left
  if (span <= 0 || low <= high) return
  const cover = new Float32Array(span * (low - high))
  for (let s = 0; s < line.segments.length; s += 4) {
    const [x0, y0] = [x + line.segments[s]! * scale, y - line.segments[s + 1]! * scale]
    const [x1, y1] = [x + line.segments[s + 2]! * scale, y - line.segments[s + 3]! * scale]
    const [fromX, toX] = [
      Math.max(left, Math.floor(Math.min(x0, x1) - margin)),
      Math.min(right, Math.ceil(Math.max(x0, x1) + margin)),
    ]
    const [fromY, toY] = [
      Math.max(high, Math.floor(Math.min(y0, y1) - margin)),
      Math.min(low, Math.ceil(Math.max(y0, y1) + margin)),
    ]
    const [dx, dy] = [x1 - x0, y1 - y0]
    const square = dx * dx + dy * dy || 1
    for (let py = fromY; py < toY; py++) {
      for (let px = fromX; px < toX; px++) {
        const t = Math.min(Math.max(((px + 0.5 - x0) * dx + (py + 0.5 - y0) * dy) / square, 0), 1)
        const off = Math.hypot(px + 0.5 - x0 - t * dx, py + 0.5 - y0 - t * dy)
        const value = Math.min(1, radius + 0.5 - off)
        const at = (py - high) * span + px - left
        if (value > cover[at]!) cover[at] = value
      }
    }
  }
  for (let py = high, at = 0; py < low; py++) {
    for (let px = left; px < right; px++, at++) {
      const alpha = cover[at]! * share
      if (alpha === 0) continue
      const i = (py * width + px) * 3
      for (let c = 0; c < 3; c++) light[i + c] = mix(light[i + c]!, ink[c]!, alpha)
    }
  }
}

/** Calms the picture below `from`, fully from `full` on, so that letters can be read on it. */
function ground(canvas: Canvas, from: number, full: number, bright: boolean, frosted: boolean): void {
  const { width, height, light } = canvas
  const soft = frosted ? blurred(canvas, 160, 4) : null
  const tone: Rgb = bright ? [0.9, 0.9, 0.91] : [0.006, 0.006, 0.012]
  const strength = frosted ? 0.72 : bright ? 0.55 : 0.62
  const under = new Float32Array(3)
  for (let y = Math.max(0, Math.floor(from)); y < height; y++) {
    const share = smooth(from, full, y)
    for (let x = 0, i = y * width * 3; x < width; x++, i += 3) {
      if (soft) sampleLight(soft, ((x + 0.5) * soft.width) / width, ((y + 0.5) * soft.height) / height, under)
      for (let c = 0; c < 3; c++) {
        const calm = soft ? mix(light[i + c]!, under[c]!, share) : light[i + c]!
        light[i + c] = mix(calm, tone[c]!, share * strength)
      }
    }
  }
}

/** Mean light of the picture below a row. */
function meanLight({ width, height, light }: Canvas, from: number): number {
  const start = Math.max(0, Math.floor(from)) * width * 3
  let sum = 0
  for (let i = start; i < light.length; i++) sum += light[i]!
  return sum / Math.max(1, width * height * 3 - start)
}
