/**
 * The sandbox painter: text to image, and image to image.
 *
 * 1. The bytes depend on the order (and the input) alone: the same order gives the same bytes, another seed other bytes.
 * 2. A picture has exactly the ordered size and format. Big ones are painted at about a megapixel and scaled up by the codec.
 * 3. The prompt shows on the picture, and the word "sandbox", so that nobody takes it for the work of a real model.
 */
import {
  type Canvas,
  createCanvas,
  decodeCover,
  encodePicture,
  measurePicture,
  type PictureFormat,
  type Size,
} from './canvas.ts'
import { caption } from './caption.ts'
import { finish } from './finish.ts'
import { chanceOf, hasAny, type Palette, paletteOf, wordsOf } from './palette.ts'
import { repaint } from './repaint.ts'
import { paintHorizon } from './scenes/horizon.ts'
import { paintSilk } from './scenes/silk.ts'
import { paintStillLife } from './scenes/still-life.ts'
import { knowsSubject } from './scenes/subjects.ts'

/** `width` and `height` in pixels, 64 to 4096 each and at most 16.8 megapixels together. `seed` is any finite number. */
export type PaintOrder = Size & { readonly prompt: string; readonly seed: number; readonly format: PictureFormat }

/**
 * As `PaintOrder`, but without a size (absent or 0) the picture keeps the size of the input, made to fit the limits and rounded
 * down to a multiple of `multiple` (1).
 */
export type TransformOrder = {
  readonly prompt: string
  readonly seed: number
  readonly format: PictureFormat
  readonly width?: number
  readonly height?: number
  readonly multiple?: number
}

/** An encoded picture. */
export type Picture = Size & { readonly bytes: Uint8Array; readonly mime: `image/${PictureFormat}` }

const MIN_SIDE = 64
const MAX_SIDE = 4096
const MAX_PIXELS = 4096 * 4096

/** What is painted pixel by pixel: enough for a screen, and half a second of work. */
const CANVAS_PIXELS = 1024 * 1024

/** @throws RangeError for a size beyond the limits: the caller checks sizes before */
export async function paint(order: PaintOrder): Promise<Picture> {
  assertSize(order)
  return encode(compose(order.prompt, order.seed, canvasSize(order)), order, order.format)
}

/**
 * Makes a new picture of `input` (bytes of a PNG, JPEG or WebP), cut to the ordered shape.
 * @throws InputPictureError when the input cannot be used; RangeError for a size beyond the limits
 */
export async function transform(order: TransformOrder, input: Uint8Array): Promise<Picture> {
  const size = order.width && order.height ? { width: order.width, height: order.height } : await sizeLike(input, order)
  assertSize(size)
  const canvas = await decodeCover(input, canvasSize(size))
  const palette = paletteOf(order.prompt, order.seed)
  repaint(canvas, palette, chanceOf(order.prompt, order.seed, 'repaint'))
  finish(canvas, { bloom: 0.35, vignette: palette.mood === 'light' ? 0.2 : 0.5, grain: 0.035 })
  caption(canvas, order.prompt, palette, true)
  return encode(canvas, size, order.format)
}

/** Paints the picture of a prompt on a canvas of this size, finished and captioned. */
export function compose(prompt: string, seed: number, { width, height }: Size): Canvas {
  const canvas = createCanvas(width, height)
  const words = wordsOf(prompt)
  const palette = paletteOf(prompt, seed)
  const chance = chanceOf(prompt, seed, 'scene')
  sceneFor(words, chance())(canvas, palette, words, chance)
  finish(canvas, {
    bloom: palette.mood === 'light' ? 0.3 : 0.6,
    vignette: palette.mood === 'light' ? 0.25 : 0.55,
    grain: 0.03,
  })
  caption(canvas, prompt, palette, false)
  return canvas
}

/** The size at which a picture of this size is painted. */
export function canvasSize({ width, height }: Size): Size {
  const scale = Math.min(1, Math.sqrt(CANVAS_PIXELS / (width * height)))
  return { width: Math.max(1, Math.round(width * scale)), height: Math.max(1, Math.round(height * scale)) }
}

type Scene = (canvas: Canvas, palette: Palette, words: ReadonlySet<string>, chance: () => number) => void

const PLACES = `mountain landscape sea ocean lake river sunset sunrise dawn dusk forest desert valley hill sky cloud horizon beach island
 canyon moon aurora skyline nature meadow field volcano fjord coast harbor village road dune tree winter autumn castle
 city street town downtown urban metropolis cyberpunk building skyscraper`
const FLOWS =
  'abstract silk satin flow fluid liquid wave gradient texture pattern smoke ribbon fabric cloth dream energy music marble wallpaper'
const THINGS =
  'product studio pedestal object sculpture packshot watch shoe sneaker chair robot toy jewelry ring camera speaker'

function sceneFor(words: ReadonlySet<string>, luck: number): Scene {
  if (knowsSubject(words) || hasAny(words, THINGS)) return paintStillLife
  if (hasAny(words, PLACES)) return paintHorizon
  if (hasAny(words, FLOWS)) return paintSilk
  return luck < 0.5 ? paintStillLife : luck < 0.75 ? paintHorizon : paintSilk
}

/** The input's size, brought within the limits in its own shape as far as they allow. */
async function sizeLike(input: Uint8Array, { multiple = 1 }: TransformOrder): Promise<Size> {
  const { width, height } = await measurePicture(input)
  const scale = Math.min(1, MAX_SIDE / width, MAX_SIDE / height)
  const within = (side: number): number => {
    const down = Math.floor(Math.round(side * scale) / multiple) * multiple
    return down >= MIN_SIDE ? down : Math.ceil(MIN_SIDE / multiple) * multiple
  }
  return { width: within(width), height: within(height) }
}

function assertSize({ width, height }: Size): void {
  const fits = (side: number): boolean => Number.isInteger(side) && side >= MIN_SIDE && side <= MAX_SIDE
  if (!fits(width) || !fits(height) || width * height > MAX_PIXELS) {
    throw new RangeError(`The sandbox paints ${MIN_SIDE} to ${MAX_SIDE} pixels a side, not ${width} x ${height}`)
  }
}

async function encode(canvas: Canvas, { width, height }: Size, format: PictureFormat): Promise<Picture> {
  return { bytes: await encodePicture(canvas, format, { width, height }), mime: `image/${format}`, width, height }
}
