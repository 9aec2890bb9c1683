/**
 * FLUX.2 by Black Forest Labs (providers.md 1.3, fields of other hosts 3.5 and 4.4, mapping 11.1).
 *
 * 1. One endpoint makes and edits pictures; at fal the edit is another one.
 * 2. Widths and heights of 0 mean automatic: the input picture's size, else 1024 × 1024.
 */
import type { JsonObject } from '../../core/json.ts'
import type { Model, Role, Shape } from '../../core/model.ts'
import type { Draft } from '../draft.ts'
import { int, num, params, prompt, seed } from '../fields.ts'
import { comfyui, fal, replicate, sendFormat, sendPictures } from '../hosts.ts'
import { defineModel, numberIn, type Price, type RouteSpec, type Tell, unknownPrice } from '../model.ts'
import { fitSize, megapixels, type Size } from '../sizes.ts'
import { bfl, FLUX_ALIASES, inputPictures, outputFormat, safety, sendSafety, sidesIn, upsampling } from './shared.ts'

/** Pixels of the largest FLUX.2 picture. */
const MOST_PIXELS = 4_194_304
/** Pixels of a side that is said. */
const LEAST_SIDE = 64
/** So many megapixels it makes and bills at the most; a larger input picture is scaled down to them. */
const MOST_MEGAPIXELS = 4

/** What it makes of words alone, where no size is given. */
const AUTOMATIC = { width: 1_024, height: 1_024 }

const side = (title: string): JsonObject =>
  int({
    title,
    description: 'Pixels, a multiple of 16; width × height at most 4 megapixels. 0: automatic.',
    min: 0,
    step: 16,
    default: 0,
    examples: [1024],
  })

interface Flux2 {
  name: string
  title: string
  /** Input pictures that it reads. */
  pictures: number
  fields?: Record<string, JsonObject>
  /** US dollars for the first megapixel of output, and for each further one, out or in; null where our sources do not say. */
  price: [first: number, further: number] | null
  expectedMs: number
  hosts: readonly RouteSpec[]
}

function flux2(model: Flux2): Model {
  const input = inputPictures(model.pictures)
  return defineModel({
    id: `bfl/${model.name}`,
    title: model.title,
    gives: 'image',
    roles: ['text_to_image', 'image_to_image'],
    params: params({
      prompt: prompt(),
      ...input.fields,
      width: side('Width'),
      height: side('Height'),
      seed: seed(),
      ...model.fields,
      safety_tolerance: safety(5),
      output_format: outputFormat('jpeg'),
    }),
    pictures: input.pictures,
    rules,
    aliases: { ...FLUX_ALIASES, aspect_ratio: 'FLUX.2 has no aspect_ratio: give width and height.' },
    shape,
    price: model.price === null ? unknownPrice : perMegapixel(...model.price),
    expectedMs: model.expectedMs,
    routes: [bfl(model.name), ...model.hosts],
  })
}

/** Null where it is left to the input picture. */
function shape(given: JsonObject, role: Role): Shape | null {
  const isEdit = role !== 'text_to_image' || Object.keys(given).some(name => name.startsWith('input_image'))
  return isAutomatic(given) && !isEdit ? AUTOMATIC : sidesIn(given)
}

function rules(given: JsonObject, tell: Tell): void {
  const sides = { width: numberIn(given, 'width') ?? 0, height: numberIn(given, 'height') ?? 0 }
  for (const [name, value] of Object.entries(sides)) {
    if (value > 0 && value < LEAST_SIDE) {
      tell(`/${name}`, 'minimum', `${name} must be at least ${LEAST_SIDE}, or 0 for automatic`, 'Take e.g. 1024.')
    }
  }
  // The least that an automatic side may be.
  if ((sides.width || LEAST_SIDE) * (sides.height || LEAST_SIDE) > MOST_PIXELS) {
    const hint = 'Take e.g. 2048 × 2048 or 2560 × 1440.'
    tell(sides.width > 0 ? '/width' : '/height', 'too_many_pixels', 'width × height must be at most 4 megapixels', hint)
  }
}

/** Every started megapixel after the first one made costs the same, whether it comes out or goes in. */
function perMegapixel(first: number, further: number): Price {
  return (given, { pictures }) => {
    const read = pictures.map(billed)
    const all = [made(given, read[0]), ...read]
    const usd = first + (all.reduce((sum, { most }) => sum + most, 0) - 1) * further
    return all.every(({ isCertain }) => isCertain) ? usd : { atMost: usd }
  }
}

/** Megapixels of a picture: what it has, or the most that it may have. */
interface Megapixels {
  most: number
  isCertain: boolean
}

/** Of an input picture. */
function billed(shapes: readonly Shape[]): Megapixels {
  const sizes = shapes.filter(shape => 'width' in shape)
  if (sizes.length === 0 || sizes.length < shapes.length) return { most: MOST_MEGAPIXELS, isCertain: false }
  const counts = sizes.map(size => Math.min(MOST_MEGAPIXELS, megapixels(size)))
  const most = Math.max(...counts)
  return { most, isCertain: counts.every(count => count === most) }
}

/** Of the picture that is made; without a size it has that of the first input picture, and with one side any. */
function made(given: JsonObject, first: Megapixels | undefined): Megapixels {
  const size = sidesIn(given)
  if (size) return { most: megapixels(size), isCertain: true }
  if (!isAutomatic(given)) return { most: MOST_MEGAPIXELS, isCertain: false }
  return first ?? { most: megapixels(AUTOMATIC), isCertain: true }
}

/** Whether the size is left to the model, or to the input picture, altogether. */
function isAutomatic(given: JsonObject): boolean {
  return numberIn(given, 'width') === 0 && numberIn(given, 'height') === 0
}

/** The size that the caller asked for; null for automatic. A single side says less than other hosts need. */
function sizeOf(draft: Draft): Size | null {
  const width = draft.number('width') ?? 0
  const height = draft.number('height') ?? 0
  if (width > 0 && height > 0) return { width, height }
  if (width > 0 || height > 0) draft.refuse(`${draft.provider} needs width and height together`)
  return null
}

/** fal: presets or {width,height}, tolerance as a string from "1", no webp. */
function writeFal(draft: Draft): void {
  draft.copy('prompt', 'seed')
  falPicturesAndSize(draft, 'auto')
  draft.pinAs('prompt_upsampling', 'enable_prompt_expansion')
  draft.pinAs('guidance', 'guidance_scale')
  draft.pinAs('steps', 'num_inference_steps')
  sendSafety(draft, 5)
  sendFormat(draft, ['jpeg', 'png'])
}

/** `edited` is the size of an edit that the caller left open; klein's endpoint has no word for it. */
function falPicturesAndSize(draft: Draft, edited: 'auto' | null): void {
  const pictures = draft.takeAll()
  if (pictures.length > 0) {
    draft.providerModel += '/edit'
    draft.send('image_urls', pictures)
  }
  const size = sizeOf(draft)
  draft.send('image_size', size ? { ...size } : pictures.length > 0 ? (edited ?? undefined) : 'square_hd')
}

/** fal runs klein as open weights: no tolerance, several pictures a call. */
function writeFalKlein(draft: Draft): void {
  draft.copy('prompt', 'seed')
  falPicturesAndSize(draft, null)
  draft.send('num_images', 1)
  sendFormat(draft, ['jpeg', 'png'])
}

/** Replicate: a custom size in steps of 32 up to 2048, else a ratio and a resolution. */
function writeReplicate(draft: Draft): void {
  draft.copy('prompt', 'seed')
  const pictures = draft.takeAll()
  if (pictures.length > 0) draft.send('input_images', pictures)
  const size = sizeOf(draft)
  if (size) sendCustomSize(draft, size)
  else {
    draft.send('aspect_ratio', pictures.length > 0 ? 'match_input_image' : '1:1')
    draft.send('resolution', pictures.length > 0 ? 'match_input_image' : '1 MP')
  }
  draft.pin('prompt_upsampling', 'guidance', 'steps')
  sendSafety(draft, 5)
  sendFormat(draft, ['webp', 'jpg', 'png'])
}

function sendCustomSize(draft: Draft, size: Size): void {
  const limits = { min: 256, max: 2048, step: 32 }
  const fitted = fitSize(size, limits)
  if (!fitted) {
    draft.refuse('replicate takes sides of 256 to 2048 in steps of 32')
    return
  }
  for (const name of ['width', 'height'] as const) {
    if (fitted[name] !== size[name]) draft.adjust(name, fitted[name], 'replicate takes 256 to 2048 in steps of 32')
  }
  draft.send('aspect_ratio', 'custom')
  draft.send('width', fitted.width)
  draft.send('height', fitted.height)
}

/** Replicate runs klein as open weights too: one megapixel, the ratio of the picture. */
function writeReplicateKlein(draft: Draft): void {
  draft.copy('prompt', 'seed')
  const pictures = draft.takeAll()
  if (pictures.length > 0) draft.send('images', pictures)
  if (sizeOf(draft)) draft.refuse('replicate takes no size in pixels for this model')
  draft.send('aspect_ratio', pictures.length > 0 ? 'match_input_image' : '1:1')
  draft.send('output_megapixels', '1')
  sendFormat(draft, ['webp', 'jpg', 'png'])
}

/** ComfyUI runs the open weights of klein 4B: size and seed where they were given, PNG. */
function writeComfyKlein(draft: Draft): void {
  draft.copy('prompt', 'seed')
  sendPictures(draft)
  const size = sizeOf(draft)
  if (size) {
    draft.send('width', size.width)
    draft.send('height', size.height)
  }
  draft.always('output_format', 'png', 'it saves PNG')
}

const fullHosts = (name: string): RouteSpec[] => [
  fal(`fal-ai/${name}`, writeFal),
  replicate(`black-forest-labs/${name}`, writeReplicate),
]

/** Expected times: the seed's own run took 18 s for flex; pro and max are of that order, klein answers within seconds. */
export const FLUX2_MODELS: readonly Model[] = [
  flux2({
    name: 'flux-2-flex',
    title: 'FLUX.2 [flex]',
    pictures: 8,
    fields: {
      prompt_upsampling: upsampling(true),
      guidance: num({
        title: 'Guidance',
        description: 'How closely the prompt is followed.',
        min: 1.5,
        max: 10,
        default: 5,
      }),
      steps: int({ title: 'Steps', description: 'More steps: finer, slower.', min: 1, max: 50, default: 50 }),
    },
    price: [0.05, 0.05],
    expectedMs: 20_000,
    hosts: fullHosts('flux-2-flex'),
  }),
  flux2({
    name: 'flux-2-pro',
    title: 'FLUX.2 [pro]',
    pictures: 8,
    price: [0.03, 0.015],
    expectedMs: 12_000,
    hosts: fullHosts('flux-2-pro'),
  }),
  flux2({
    name: 'flux-2-max',
    title: 'FLUX.2 [max]',
    pictures: 8,
    price: [0.07, 0.03],
    expectedMs: 25_000,
    hosts: fullHosts('flux-2-max'),
  }),
  flux2({
    name: 'flux-2-pro-preview',
    title: 'FLUX.2 [pro] preview',
    pictures: 8,
    price: null,
    expectedMs: 12_000,
    hosts: [],
  }),
  flux2({
    name: 'flux-2-klein-4b',
    title: 'FLUX.2 [klein] 4B',
    pictures: 4,
    price: [0.014, 0.001],
    expectedMs: 4_000,
    hosts: [
      fal('fal-ai/flux-2/klein/4b', writeFalKlein, unknownPrice),
      replicate('black-forest-labs/flux-2-klein-4b', writeReplicateKlein),
      // Without a size the workflow's own holds, which nobody here knows.
      { ...comfyui('flux-2-klein-4b', writeComfyKlein), shape: sidesIn },
    ],
  }),
  flux2({
    name: 'flux-2-klein-9b',
    title: 'FLUX.2 [klein] 9B',
    pictures: 4,
    price: [0.015, 0.002],
    expectedMs: 5_000,
    hosts: [fal('fal-ai/flux-2/klein/9b', writeFalKlein, unknownPrice)],
  }),
  flux2({
    name: 'flux-2-klein-9b-preview',
    title: 'FLUX.2 [klein] 9B preview',
    pictures: 4,
    price: null,
    expectedMs: 5_000,
    hosts: [],
  }),
]
