/**
 * Pixels: the canvas that the scenes paint on, and its way in from and out to PNG, JPEG and WebP.
 *
 * 1. A canvas holds linear light, three floats a pixel, row by row from the top; 1 is the white of the screen.
 * 2. Bun.Image is the only codec. It takes no raw pixels, so a canvas goes in as a BMP, and comes out as an uncompressed PNG.
 * 3. The same canvas gives the same bytes: the dither that hides banding is a fixed pattern, not chance.
 */
import { inflateSync } from 'node:zlib'

export type Canvas = { readonly width: number; readonly height: number; readonly light: Float32Array }

export type PictureFormat = 'png' | 'jpeg' | 'webp'

/** Width and height in pixels. */
export type Size = { readonly width: number; readonly height: number }

/** A caller's picture that cannot be used. `code` says why; the message is safe to show. */
export class InputPictureError extends Error {
  override readonly name = 'InputPictureError'
  constructor(
    readonly code: 'undecodable' | 'too_large',
    message: string,
  ) {
    super(message)
  }
}

/** The largest picture that is decoded: its pixels take 256 MB for a moment, which a small machine still has. */
const MAX_INPUT_PIXELS = 64_000_000

const STORED_PER_PIXEL = 4

export function createCanvas(width: number, height: number): Canvas {
  return { width, height, light: new Float32Array(width * height * 3) }
}

/** Encodes a canvas at exactly `size`: a small canvas is scaled up by the codec, which is far quicker than painting big. */
export async function encodePicture(canvas: Canvas, format: PictureFormat, size: Size = canvas): Promise<Uint8Array> {
  const image = new Bun.Image(toBmp(canvas))
  if (size.width !== canvas.width || size.height !== canvas.height) {
    image.resize(size.width, size.height, { filter: 'mitchell' })
  }
  if (format === 'png') return image.png({ compressionLevel: 4 }).bytes()
  if (format === 'jpeg') return image.jpeg({ quality: 92 }).bytes()
  return image.webp({ quality: 90 }).bytes()
}

/**
 * Size of an encoded picture, without decoding it.
 * @throws InputPictureError when it is no picture, or has more than `MAX_INPUT_PIXELS`
 */
export async function measurePicture(bytes: Uint8Array): Promise<Size> {
  const { width, height } = await readable(bytes, image => image.metadata())
  return { width, height }
}

/**
 * Decodes a picture so that it covers `size`, cut evenly at two sides (as CSS `object-fit: cover`). Transparency lies on white.
 * @throws InputPictureError when it cannot be decoded, or has more than `MAX_INPUT_PIXELS`
 */
export async function decodeCover(bytes: Uint8Array, size: Size): Promise<Canvas> {
  const source = await measurePicture(bytes)
  const cover = Math.max(size.width / source.width, size.height / source.height)
  // The codec scales well, but cannot crop: a thin strip would be blown up far beyond what is kept of it. The rest is up to us.
  const scale = Math.min(cover, Math.sqrt((2.5 * size.width * size.height) / (source.width * source.height)))
  const width = Math.max(1, Math.round(source.width * scale))
  const height = Math.max(1, Math.round(source.height * scale))
  const png = await readable(bytes, image => image.resize(width, height).png({ compressionLevel: 0 }).bytes())
  return cropCover(fromStoredPng(png), size)
}

/** Bilinear sample of the light at (x, y), in pixels whose centers are at .5, written to `out`. Edges are repeated. */
export function sampleLight(canvas: Canvas, x: number, y: number, out: Float32Array, at = 0): void {
  const { width, height, light } = canvas
  const fx = Math.min(Math.max(x - 0.5, 0), width - 1)
  const fy = Math.min(Math.max(y - 0.5, 0), height - 1)
  const x0 = Math.floor(fx)
  const y0 = Math.floor(fy)
  const dx = fx - x0
  const dy = fy - y0
  const right = x0 + 1 < width ? 3 : 0
  const down = y0 + 1 < height ? width * 3 : 0
  const i = (y0 * width + x0) * 3
  for (let c = 0; c < 3; c++) {
    const top = light[i + c]! * (1 - dx) + light[i + right + c]! * dx
    const low = light[i + down + c]! * (1 - dx) + light[i + down + right + c]! * dx
    out[at + c] = top * (1 - dy) + low * dy
  }
}

/** A copy of the canvas at another size, bilinear. For blurs and soft layers; the codec scales pictures better. */
export function resample(canvas: Canvas, width: number, height: number): Canvas {
  return cut(canvas, { x: 0, y: 0, width: canvas.width, height: canvas.height }, { width, height })
}

/** What a rectangle of the canvas shows, drawn at `size`, bilinear. */
function cut(canvas: Canvas, view: { x: number; y: number } & Size, size: Size): Canvas {
  const result = createCanvas(size.width, size.height)
  const stepX = view.width / size.width
  const stepY = view.height / size.height
  for (let y = 0, i = 0; y < size.height; y++) {
    for (let x = 0; x < size.width; x++, i += 3) {
      sampleLight(canvas, view.x + (x + 0.5) * stepX, view.y + (y + 0.5) * stepY, result.light, i)
    }
  }
  return result
}

/** sRGB 0..255 of linear light, as a float. */
export function toScreen(light: number): number {
  if (light <= 0) return 0
  if (light >= 1) return 255
  return SCREEN[(light * SCREEN_STEPS) | 0]!
}

/** Linear light of an sRGB byte. */
function toLight(byte: number): number {
  return LIGHT[byte]!
}

const SCREEN_STEPS = 16_384
const SCREEN = Float32Array.from({ length: SCREEN_STEPS + 1 }, (_, i) => {
  const v = (i + 0.5) / SCREEN_STEPS
  return 255 * (v <= 0.0031308 ? 12.92 * v : 1.055 * v ** (1 / 2.4) - 0.055)
})
const LIGHT = Float32Array.from({ length: 256 }, (_, i) => {
  const v = i / 255
  return v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4
})

async function readable<T>(bytes: Uint8Array, read: (image: Bun.Image) => Promise<T>): Promise<T> {
  if (bytes.length === 0) throw new InputPictureError('undecodable', 'The input picture is empty.')
  try {
    return await read(new Bun.Image(bytes, { maxPixels: MAX_INPUT_PIXELS }))
  } catch (error) {
    const code = error instanceof Error && 'code' in error ? String(error.code) : ''
    if (code === 'ERR_IMAGE_TOO_MANY_PIXELS') {
      throw new InputPictureError('too_large', `The input picture has more than ${MAX_INPUT_PIXELS / 1e6} megapixels.`)
    }
    if (code.startsWith('ERR_IMAGE_')) {
      throw new InputPictureError('undecodable', 'The input cannot be decoded as a PNG, JPEG or WebP picture.')
    }
    throw error
  }
}

function cropCover(canvas: Canvas, size: Size): Canvas {
  if (canvas.width === size.width && canvas.height === size.height) return canvas
  const scale = Math.min(canvas.width / size.width, canvas.height / size.height)
  const width = size.width * scale
  const height = size.height * scale
  return cut(canvas, { x: (canvas.width - width) / 2, y: (canvas.height - height) / 2, width, height }, size)
}

/** Two thirds of a byte step of noise from a low-discrepancy pattern: no banding in soft gradients, no visible texture. */
function dither(x: number, y: number, channel: number): number {
  const v = 52.9829189 * ((0.06711056 * (x + 17 * channel) + 0.00583715 * (y + 59 * channel)) % 1)
  return (v - Math.floor(v) - 0.5) * 0.66
}

function toBmp({ width, height, light }: Canvas): Uint8Array {
  const HEADER = 54
  const stride = (width * 3 + 3) & ~3
  const bmp = new Uint8Array(HEADER + stride * height)
  const head = new DataView(bmp.buffer)
  head.setUint16(0, 0x424d)
  head.setUint32(2, bmp.length, true)
  head.setUint32(10, HEADER, true)
  head.setUint32(14, 40, true)
  head.setInt32(18, width, true)
  head.setInt32(22, -height, true) // negative: rows from the top
  head.setUint16(26, 1, true)
  head.setUint16(28, 24, true)
  for (let y = 0, i = 0; y < height; y++) {
    for (let x = 0, o = HEADER + y * stride; x < width; x++, i += 3, o += 3) {
      for (let c = 0; c < 3; c++) {
        const v = toScreen(light[i + c]!) + dither(x, y, c) + 0.5
        bmp[o + 2 - c] = v < 0 ? 0 : v > 255 ? 255 : v
      }
    }
  }
  return bmp
}

/** Reads the PNG that Bun.Image writes: 8 bit RGBA, not interlaced. Anything else is a change in Bun, and a bug here. */
function fromStoredPng(png: Uint8Array): Canvas {
  const view = new DataView(png.buffer, png.byteOffset, png.byteLength)
  const width = view.getUint32(16)
  const height = view.getUint32(20)
  if (view.getUint32(24) !== 0x08060000) throw new Error('Bun.Image wrote a PNG that is not 8 bit RGBA')
  const parts: Uint8Array[] = []
  for (let at = 8; at < png.length; ) {
    const length = view.getUint32(at)
    if (view.getUint32(at + 4) === 0x49444154) parts.push(png.subarray(at + 8, at + 8 + length))
    at += 12 + length
  }
  const rows = unfilter(inflateSync(Buffer.concat(parts)), width * STORED_PER_PIXEL, height)
  const canvas = createCanvas(width, height)
  for (let i = 0, o = 0; o < canvas.light.length; i += STORED_PER_PIXEL, o += 3) {
    const alpha = rows[i + 3]! / 255
    for (let c = 0; c < 3; c++) canvas.light[o + c] = toLight(rows[i + c]!) * alpha + 1 - alpha
  }
  return canvas
}

/** Undoes PNG's row filters (PNG specification, section 9). */
function unfilter(data: Uint8Array, stride: number, height: number): Uint8Array {
  const rows = new Uint8Array(stride * height)
  for (let y = 0; y < height; y++) {
    const filter = data[y * (stride + 1)]
    const from = y * (stride + 1) + 1
    const to = y * stride
    if (filter === 0) {
      rows.set(data.subarray(from, from + stride), to)
      continue
    }
    for (let x = 0; x < stride; x++) {
      const left = x >= STORED_PER_PIXEL ? rows[to + x - STORED_PER_PIXEL]! : 0
      const up = y > 0 ? rows[to + x - stride]! : 0
      const corner = x >= STORED_PER_PIXEL && y > 0 ? rows[to + x - stride - STORED_PER_PIXEL]! : 0
      const guess = filter === 1 ? left : filter === 2 ? up : filter === 3 ? (left + up) >> 1 : paeth(left, up, corner)
      rows[to + x] = data[from + x]! + guess
    }
  }
  return rows
}

function paeth(left: number, up: number, corner: number): number {
  const p = left + up - corner
  const toLeft = Math.abs(p - left)
  const toUp = Math.abs(p - up)
  const toCorner = Math.abs(p - corner)
  if (toLeft <= toUp && toLeft <= toCorner) return left
  return toUp <= toCorner ? up : corner
}
