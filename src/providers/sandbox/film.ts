/**
 * The sandbox film maker: image to video, and text to video. A camera moves slowly into a picture.
 *
 * 1. The first frame is the input picture (or what the painter makes of the prompt), cut to the ordered shape.
 * 2. The film has exactly the ordered size, frame rate and number of frames. The same order gives the same bytes.
 * 3. Every view lies inside the view before it: nothing beyond the picture's edge is ever needed.
 */
import { type Canvas, decodeCover, resample, type Size, toScreen } from './canvas.ts'
import { canvasSize, compose } from './paint.ts'
import { chanceOf, hasAny, mix, wordsOf } from './palette.ts'
import { codedSide, driftPicture, keyPicture, parametersOf } from './video/h264.ts'
import { type Plane, type Planes, planesOf } from './video/intra.ts'
import { mp4File, type Sample } from './video/mp4.ts'

/**
 * `width` and `height` in pixels: even, 64 to 1920 wide or high, at most 1920 x 1088 in all. `seconds` 1 to 60, `fps` 1 to 60;
 * the film has `seconds * fps` frames, rounded.
 */
export type FilmOrder = Size & {
  readonly prompt: string
  readonly seed: number
  readonly seconds: number
  readonly fps: number
}

/** An encoded film; `seconds` is its exact length. */
export type Film = Size & {
  readonly bytes: Uint8Array
  readonly mime: 'video/mp4'
  readonly seconds: number
  readonly fps: number
  readonly frames: number
}

/** A new key picture comes about twice a second: between them the camera moves too little for the blocks of the picture to show. */
const KEYS_PER_SECOND = 2
/** A key picture may take so many bytes for a pixel; a coarser quantiser is chosen until it does. */
const KEY_BYTES = 0.12
const FINEST_QP = 20
const COARSEST_QP = 50

/**
 * Films `input` (bytes of a PNG, JPEG or WebP), or without one the picture of the prompt.
 * @throws InputPictureError when the input cannot be used; RangeError for an order beyond the limits
 */
export async function film(order: FilmOrder, input: Uint8Array | null): Promise<Film> {
  assertOrder(order)
  const { width, height, fps } = order
  const picture = input ? await decodeCover(input, order) : composeFull(order)
  const scene = planesFrom(picture)
  const frames = Math.max(1, Math.round(order.seconds * fps))
  const camera = cameraFor(order)
  const viewAt = (frame: number): View => camera(frames > 1 ? frame / (frames - 1) : 0)
  const spacing = Math.max(1, Math.round(fps / KEYS_PER_SECOND))
  const samples: Sample[] = []
  const first = firstPicture(framed(scene, viewAt(0), order))
  samples.push({ unit: first.unit, key: true })
  for (let frame = 1; frame < frames; frame++) {
    const age = frame % spacing
    const view = viewAt(frame)
    if (age === 0) {
      samples.push({ unit: keyPicture(framed(scene, view, order), frame / spacing, first.qp), key: true })
      continue
    }
    const from = viewAt(frame - age)
    const drift = {
      dx: (x: number): number => ((view.left - from.left) * width + (view.share - from.share) * x) / from.share,
      dy: (y: number): number => ((view.top - from.top) * height + (view.share - from.share) * y) / from.share,
    }
    samples.push({ unit: driftPicture(order, age, drift), key: false })
  }
  const bytes = mp4File({ width, height, fps, parameters: parametersOf(order), samples })
  return { bytes, mime: 'video/mp4', width, height, fps, frames, seconds: frames / fps }
}

/** What the camera sees: its left and top edge and its size, as shares of the picture. */
type View = { readonly left: number; readonly top: number; readonly share: number }

/** The way of the camera over the film, from 0 to 1: always inward, towards where the prompt points or else the seed. */
function cameraFor({ prompt, seed, seconds }: FilmOrder): (time: number) => View {
  const words = wordsOf(prompt)
  const chance = chanceOf(prompt, seed, 'camera')
  const angle = chance() * 2 * Math.PI
  const [sideways, upright] = pointed(words) ?? [Math.cos(angle) * 0.8, Math.sin(angle) * 0.6]
  const deep = 0.24 * (1 - Math.exp(-seconds / 6))
  return time => {
    const eased = mix(time, time * time * (3 - 2 * time), 0.6)
    const share = (1 - deep) ** eased
    return { left: ((1 - share) * (1 + sideways)) / 2, top: ((1 - share) * (1 + upright)) / 2, share }
  }
}

/** Direction that the prompt names: -1 to 1 from left to right, and from top to bottom. */
function pointed(words: ReadonlySet<string>): readonly [number, number] | null {
  const sideways = (hasAny(words, 'right rightward') ? 1 : 0) - (hasAny(words, 'left leftward') ? 1 : 0)
  const upright = (hasAny(words, 'down downward') ? 1 : 0) - (hasAny(words, 'up upward rise rising') ? 1 : 0)
  if (sideways !== 0 || upright !== 0) return [sideways, upright]
  return hasAny(words, 'zoom push closer dolly center') ? [0, 0] : null
}

function composeFull({ prompt, seed, width, height }: FilmOrder): Canvas {
  const canvas = compose(prompt, seed, canvasSize({ width, height }))
  return canvas.width === width && canvas.height === height ? canvas : resample(canvas, width, height)
}

/** The first key picture, coded with the finest quantiser at which it stays small. */
function firstPicture(picture: Planes): { unit: Uint8Array; qp: number } {
  const budget = picture.y.samples.length * KEY_BYTES
  let qp = FINEST_QP
  let unit = keyPicture(picture, 0, qp)
  while (unit.length > budget && qp < COARSEST_QP) {
    qp += 3
    unit = keyPicture(picture, 0, qp)
  }
  return { unit, qp }
}

/** The samples of a picture in full precision, before a camera looks at it. */
type Scene = { readonly y: Layer; readonly cb: Layer; readonly cr: Layer }
type Layer = { readonly width: number; readonly height: number; readonly values: Float32Array }

/** BT.709 in limited range, as the stream says; chroma is the mean of two by two pixels. */
function planesFrom({ width, height, light }: Canvas): Scene {
  const layer = (w: number, h: number): Layer => ({ width: w, height: h, values: new Float32Array(w * h) })
  const scene = { y: layer(width, height), cb: layer(width / 2, height / 2), cr: layer(width / 2, height / 2) }
  for (let y = 0, i = 0; y < height; y++) {
    for (let x = 0; x < width; x++, i++) {
      const red = toScreen(light[i * 3]!) / 255
      const green = toScreen(light[i * 3 + 1]!) / 255
      const blue = toScreen(light[i * 3 + 2]!) / 255
      const luma = 0.2126 * red + 0.7152 * green + 0.0722 * blue
      const chroma = (y >> 1) * (width / 2) + (x >> 1)
      scene.y.values[i] = 16 + 219 * luma
      scene.cb.values[chroma]! += 32 + (224 * (blue - luma)) / 1.8556 / 4
      scene.cr.values[chroma]! += 32 + (224 * (red - luma)) / 1.5748 / 4
    }
  }
  return scene
}

/** What the camera sees of the scene, as a picture to code: its sides are whole macroblocks. */
function framed(scene: Scene, view: View, { width, height }: Size): Planes {
  const picture = planesOf(codedSide(width), codedSide(height))
  look(scene.y, view, picture.y)
  look(scene.cb, view, picture.cb)
  look(scene.cr, view, picture.cr)
  return picture
}

/** Catmull-Rom interpolation, first along the rows, then down the columns. An unmoved camera sees the very same samples. */
function look(layer: Layer, view: View, plane: Plane): void {
  const across = taps(layer.width, view.left * layer.width, view.share, plane.width)
  const down = taps(layer.height, view.top * layer.height, view.share, plane.height)
  const { values } = layer
  const rows = new Float32Array(plane.width * layer.height)
  for (let y = 0, o = 0; y < layer.height; y++) {
    const row = y * layer.width
    for (let x = 0, t = 0; x < plane.width; x++, t += 4, o++) {
      let sum = 0
      for (let k = t; k < t + 4; k++) sum += values[row + across.places[k]!]! * across.weights[k]!
      rows[o] = sum
    }
  }
  const sums = new Float32Array(plane.width)
  for (let y = 0; y < plane.height; y++) {
    sums.fill(0.5)
    for (let k = y * 4; k < y * 4 + 4; k++) {
      const from = down.places[k]! * plane.width
      const weight = down.weights[k]!
      for (let x = 0; x < plane.width; x++) sums[x]! += rows[from + x]! * weight
    }
    for (let x = 0, o = y * plane.width; x < plane.width; x++, o++)
      plane.samples[o] = Math.min(Math.max(sums[x]!, 0), 255)
  }
}

/** For each of `count` samples that start at `from` and are `step` apart: the four nearest places and their weights. */
function taps(size: number, from: number, step: number, count: number): { places: Int32Array; weights: Float32Array } {
  const places = new Int32Array(count * 4)
  const weights = new Float32Array(count * 4)
  for (let i = 0; i < count; i++) {
    const at = from + (i + 0.5) * step - 0.5
    const t = at - Math.floor(at)
    for (let k = 0; k < 4; k++) places[i * 4 + k] = Math.min(Math.max(Math.floor(at) - 1 + k, 0), size - 1)
    weights[i * 4] = ((2 - t) * t - 1) * t * 0.5
    weights[i * 4 + 1] = ((3 * t - 5) * t * t + 2) * 0.5
    weights[i * 4 + 2] = ((4 - 3 * t) * t + 1) * t * 0.5
    weights[i * 4 + 3] = (t - 1) * t * t * 0.5
  }
  return { places, weights }
}

function assertOrder({ width, height, seconds, fps }: FilmOrder): void {
  const side = (n: number): boolean => Number.isInteger(n) && n % 2 === 0 && n >= 64 && n <= 1920
  const fits = side(width) && side(height) && width * height <= 1920 * 1088
  if (!fits || !(seconds >= 1 && seconds <= 60) || !(Number.isInteger(fps) && fps >= 1 && fps <= 60)) {
    throw new RangeError(`The sandbox films no ${width} x ${height} for ${seconds} s at ${fps} frames a second`)
  }
}
