/**
 * Reads what a call asks for out of any maker's parameters: size, ratio, length, format, seed, number and prompt.
 *
 * 1. Pure and total: every body gives an order that the studio can carry out; what is not understood is left at its default.
 * 2. A parameter is found by its name in any spelling (`aspect_ratio`, `aspectRatio`), at the top or in an envelope
 *    (`parameters`, `generationConfig.imageConfig`); the outermost wins.
 * 3. Pictures have 64 to 4096 pixels a side and 16.8 megapixels at most; films have even sides.
 *
 * Films come in the sizes of Seedance, the most common of the makers' tables; 4k is filmed as 1080p,
 * and no side is longer than 1920:
 *
 * | ratio | 480p    | 720p     | 1080p     |
 * |-------|---------|----------|-----------|
 * | 21:9  | 992×432 | 1470×630 | 1920×822  |
 * | 16:9  | 864×496 | 1280×720 | 1920×1080 |
 * | 4:3   | 752×560 | 1112×834 | 1664×1248 |
 * | 1:1   | 640×640 | 960×960  | 1440×1440 |
 * | 3:4   | 560×752 | 834×1112 | 1248×1664 |
 * | 9:16  | 496×864 | 720×1280 | 1080×1920 |
 */
import { isObject, type Json, type JsonObject } from '../../core/json.ts'
import type { Role } from '../../core/model.ts'

export interface Size {
  width: number
  height: number
}

export type Order = { prompt: string /** Null: any. */; seed: number | null } & (
  | { kind: 'image'; format: 'png' | 'jpeg' | 'webp'; count: number; shape: Shape }
  | { kind: 'video'; seconds: number; shape: Shape }
)

/** A size, or the input picture's own shape: brought to `pixels` (a picture), or to the nearest of a resolution's sizes (a film). */
export type Shape =
  | ({ like: 'size' } & Size)
  | { like: 'input'; pixels: number | null }
  | { like: 'input'; resolution: Resolution }

export type Resolution = '480p' | '720p' | '1080p'

/** The body that a sandbox route sends: the caller's own parameters, word for word. */
export interface SandboxBody {
  role: Role
  params: JsonObject
  /** References of the input pictures, the first one first. */
  pictures: readonly string[]
}

/** What a call to `model` (the public id) asks for. */
export function orderOf(body: Pick<SandboxBody, 'role' | 'params'>, model: string): Order {
  const fields = fieldsOf(body.params)
  const { prompt, flags } = promptOf(body.params, fields)
  for (const [name, value] of flags) if (!fields.has(name)) fields.set(name, value)
  const seed = numberAt(fields, 'seed')
  const base = { prompt, seed: seed === null || seed < 0 ? null : Math.floor(seed) }
  if (body.role === 'image_to_video') {
    return { ...base, kind: 'video', seconds: secondsOf(fields), shape: filmShape(fields) }
  }
  const shape = pictureShape(fields, model, body.role === 'image_to_image')
  return { ...base, kind: 'image', format: formatOf(fields, model), count: countOf(fields), shape }
}

/** The size in pixels, once the input picture's size is known (null without one). */
export function sizeFor(order: Order, input: Size | null): Size {
  const { shape } = order
  if (shape.like === 'size') return { width: shape.width, height: shape.height }
  const source = input ?? { width: 1_024, height: 1_024 }
  if ('resolution' in shape) {
    const wanted = Math.log(source.width / source.height)
    const off = ([ratio]: FilmSize): number => Math.abs(Math.log(ratio) - wanted)
    const [, size] = FILM_SIZES[shape.resolution].toSorted((a, b) => off(a) - off(b))[0] ?? SQUARE_FILM
    return size
  }
  if (shape.pixels === null) return pictureSize(source)
  return pictureSize(ofArea(source.width / source.height, shape.pixels, 16))
}

// ── Pictures ──────────────────────────────────────────────────────────────────────────────────────────────────────

const MEGAPIXEL = 1_024 * 1_024

function pictureShape(fields: Fields, model: string, hasInput: boolean): Shape {
  const given = sidesOf(fields)
  if (given) return { like: 'size', ...pictureSize(given) }
  const usual = model.includes('seedream') ? 4 * MEGAPIXEL : MEGAPIXEL
  const pixels = areaOf(fields)
  const ratio = ratioOf(fields)
  if (ratio !== null) return { like: 'size', ...pictureSize(ofArea(ratio, pixels ?? usual, 16)) }
  if (hasInput) return { like: 'input', pixels: pixels ?? (model.includes('seedream') ? usual : null) }
  return { like: 'size', ...pictureSize(ofArea(1, pixels ?? usual, 16)) }
}

/** Brings a size within the studio's limits, in its own shape as far as they allow. */
function pictureSize({ width, height }: Size): Size {
  const shrink = Math.min(1, 4_096 / Math.max(width, height), Math.sqrt((16 * MEGAPIXEL) / (width * height)))
  const side = (length: number): number => Math.min(4_096, Math.max(64, Math.floor(length * shrink)))
  return { width: side(width), height: side(height) }
}

/** `2K`, `1.5k`, `512`, `1 MP`, `768sq`, in pixels; null for anything else. */
function areaOf(fields: Fields): number | null {
  for (const name of ['size', 'imagesize', 'resolution']) {
    const text = textAt(fields, name)
    const match = /^(?:auto_)?(\d+(?:\.\d+)?) ?(k|mp|sq)?$/i.exec(text)
    const number = Number(match?.[1])
    if (!match || !(number > 0)) continue
    const unit = match[2]?.toLowerCase()
    if (unit === 'mp') return number * MEGAPIXEL
    return unit === 'k' ? (number * 1_024) ** 2 : number ** 2
  }
  return null
}

/** Names in fal's `image_size`. */
const PRESETS: Readonly<Record<string, Size>> = {
  square_hd: { width: 1_024, height: 1_024 },
  square: { width: 512, height: 512 },
  portrait_4_3: { width: 768, height: 1_024 },
  portrait_16_9: { width: 576, height: 1_024 },
  landscape_4_3: { width: 1_024, height: 768 },
  landscape_16_9: { width: 1_024, height: 576 },
}

function formatOf(fields: Fields, model: string): 'png' | 'jpeg' | 'webp' {
  const given = (textAt(fields, 'outputformat') || textAt(fields, 'format')).toLowerCase().replace('image/', '')
  if (given === 'jpg' || given === 'jpeg') return 'jpeg'
  if (given === 'png' || given === 'webp') return given
  const isJpeg = (model.startsWith('bfl/') && !model.includes('kontext')) || model.includes('seedream')
  return isJpeg ? 'jpeg' : 'png'
}

/** Ark's `max_images` counts only where the model may make several. */
function countOf(fields: Fields): number {
  const several = fields.get('sequentialimagegeneration') ?? 'auto'
  const names = [
    'n',
    'numimages',
    'numoutputs',
    'numberofimages',
    'samplecount',
    ...(several === 'auto' ? ['maximages'] : []),
  ]
  const count = names.map(name => numberAt(fields, name)).find(number => number !== null)
  return Math.min(MOST_PICTURES, Math.max(1, Math.floor(count ?? 1)))
}

/** The most that any maker gives for one call. */
const MOST_PICTURES = 15

// ── Films ─────────────────────────────────────────────────────────────────────────────────────────────────────────

type FilmSize = readonly [ratio: number, size: Size]

const FILM_SIZES: Readonly<Record<Resolution, readonly FilmSize[]>> = {
  '480p': sizes('992x432 864x496 752x560 640x640 560x752 496x864'),
  '720p': sizes('1470x630 1280x720 1112x834 960x960 834x1112 720x1280'),
  '1080p': sizes('1920x822 1920x1080 1664x1248 1440x1440 1248x1664 1080x1920'),
}

const SQUARE_FILM: FilmSize = [1, { width: 960, height: 960 }]

/** The six columns of the table in order: 21:9, 16:9, 4:3, 1:1, 3:4, 9:16. */
function sizes(list: string): FilmSize[] {
  const ratios = [21 / 9, 16 / 9, 4 / 3, 1, 3 / 4, 9 / 16]
  return list.split(' ').map((text, i) => {
    const [width = 0, height = 0] = text.split('x').map(Number)
    return [ratios[i] ?? 1, { width, height }]
  })
}

function filmShape(fields: Fields): Shape {
  const given = sidesOf(fields)
  if (given) return { like: 'size', ...filmSize(given) }
  const resolution = resolutionOf(fields)
  const ratio = ratioOf(fields)
  if (ratio === null) return { like: 'input', resolution }
  const listed = FILM_SIZES[resolution].find(([one]) => Math.abs(one / ratio - 1) < 0.01)
  return { like: 'size', ...(listed ? listed[1] : filmSize(ofArea(ratio, FILM_PIXELS[resolution], 2))) }
}

const FILM_PIXELS: Readonly<Record<Resolution, number>> = {
  '480p': 864 * 496,
  '720p': 1280 * 720,
  '1080p': 1920 * 1080,
}

/** Brings a film within the studio's limits, in its own shape as far as they allow; sides become even. */
function filmSize({ width, height }: Size): Size {
  const shrink = Math.min(1, 1_920 / Math.max(width, height), Math.sqrt(FILM_PIXELS['1080p'] / (width * height)))
  const side = (length: number): number => Math.max(64, 2 * Math.round((length * shrink) / 2))
  return { width: side(width), height: side(height) }
}

/** `480p`, `768P`, `hd`, `4k`: the nearest of ours. */
function resolutionOf(fields: Fields): Resolution {
  const text = (textAt(fields, 'resolution') || textAt(fields, 'size')).toLowerCase()
  if (text === 'fhd' || /^[24]k$/.test(text)) return '1080p'
  const lines = Number(/^(\d{3,4})p?$/.exec(text)?.[1] ?? 720)
  if (lines <= 540) return '480p'
  return lines <= 768 ? '720p' : '1080p'
}

/** Seconds: `5`, `"5"`, `"8s"`; Ark's `frames` (24 a second) wins; `auto` and -1 are the usual 5. */
function secondsOf(fields: Fields): number {
  const frames = numberAt(fields, 'frames')
  const names = ['duration', 'durationseconds', 'seconds']
  const given =
    frames !== null ? frames / 24 : names.map(name => numberAt(fields, name)).find(number => number !== null)
  return given === undefined || !(given > 0) ? 5 : Math.min(LONGEST_FILM, Math.max(1, given))
}

/** The longest that any maker films. */
const LONGEST_FILM = 30

// ── Words ─────────────────────────────────────────────────────────────────────────────────────────────────────────

/** Values by name without its underscores and capitals. */
type Fields = Map<string, Json>

function fieldsOf(params: JsonObject): Fields {
  const fields: Fields = new Map()
  let level: JsonObject[] = [params]
  for (let depth = 0; depth < 4; depth++) {
    const inner: JsonObject[] = []
    for (const object of level) {
      for (const [key, value] of Object.entries(object)) {
        const name = key.toLowerCase().replaceAll(/[_-]/g, '')
        const envelope = name === 'instances' && Array.isArray(value) ? value[0] : value
        if (isObject(envelope)) inner.push(envelope)
        else if (!fields.has(name) && value !== null) fields.set(name, value)
      }
    }
    level = inner
  }
  return fields
}

/** The prompt by name, or all text parts in a row. Seedance reads ` --rt 16:9` at the end of its text as parameters. */
function promptOf(params: JsonObject, fields: Fields): { prompt: string; flags: [string, string][] } {
  const named = ['prompt', 'prompttext'].map(name => textAt(fields, name)).find(text => text !== '')
  const text = named ?? textsIn(params, 0).join('\n')
  const flags: [string, string][] = []
  const prompt = text.replaceAll(/\s--(\w+) +(\S+)/g, (all, name: string, value: string) => {
    const field = FLAGS[name]
    if (field) flags.push([field, value])
    return field === undefined ? all : ''
  })
  return { prompt: prompt.trim(), flags }
}

/** Flags that mean nothing here are taken out of the prompt all the same. */
const FLAGS: Readonly<Record<string, string>> = {
  rs: 'resolution',
  resolution: 'resolution',
  rt: 'ratio',
  ratio: 'ratio',
  dur: 'duration',
  duration: 'duration',
  seed: 'seed',
  cf: 'camerafixed',
  camerafixed: 'camerafixed',
  wm: 'watermark',
  watermark: 'watermark',
  fps: 'framespersecond',
}

function textsIn(json: Json, depth: number): string[] {
  if (depth > 8 || typeof json !== 'object' || json === null) return []
  if (Array.isArray(json)) return json.flatMap(each => textsIn(each, depth + 1))
  return Object.entries(json).flatMap(([key, value]) =>
    key === 'text' && typeof value === 'string' ? [value] : textsIn(value, depth + 1),
  )
}

/** Both sides in pixels: two numbers, `1536x1024`, `1280*720`, `1280:720`, or a preset. 0 means automatic. */
function sidesOf(fields: Fields): Size | null {
  const width = numberAt(fields, 'width') ?? 0
  const height = numberAt(fields, 'height') ?? 0
  if (width > 0 || height > 0) return { width: width > 0 ? width : 1_024, height: height > 0 ? height : 1_024 }
  for (const name of ['size', 'imagesize', 'resolution', 'ratio', 'aspectratio']) {
    const text = textAt(fields, name)
    const preset = Object.hasOwn(PRESETS, text) ? PRESETS[text] : undefined
    const pair = preset ?? pairIn(text)
    // Ratios are small numbers, sizes are large ones.
    if (pair && pair.width >= 64 && pair.height >= 64) return pair
  }
  return null
}

/** Width by height, or null for "as the input picture" and for nothing said. */
function ratioOf(fields: Fields): number | null {
  const pair = pairIn(textAt(fields, 'aspectratio') || textAt(fields, 'ratio'))
  if (!pair) return null
  return Math.min(MOST_STRETCHED, Math.max(1 / MOST_STRETCHED, pair.width / pair.height))
}

const MOST_STRETCHED = 16

function pairIn(text: string): Size | null {
  const match = /^(\d{1,5}(?:\.\d{1,4})?) ?[:x*×/] ?(\d{1,5}(?:\.\d{1,4})?)$/i.exec(text)
  const [width, height] = [Number(match?.[1]), Number(match?.[2])]
  return width > 0 && height > 0 ? { width, height } : null
}

function ofArea(ratio: number, pixels: number, multiple: number): Size {
  const side = (length: number): number => Math.max(multiple, Math.round(length / multiple) * multiple)
  return { width: side(Math.sqrt(pixels * ratio)), height: side(Math.sqrt(pixels / ratio)) }
}

function numberAt(fields: Fields, name: string): number | null {
  const value = fields.get(name)
  const number = typeof value === 'string' ? Number(/^(-?\d{1,10}(?:\.\d{1,6})?)s?$/.exec(value)?.[1]) : value
  return typeof number === 'number' && Number.isFinite(number) ? number : null
}

function textAt(fields: Fields, name: string): string {
  const value = fields.get(name)
  return typeof value === 'string' ? value.trim() : ''
}
