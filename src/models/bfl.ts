/**
 * Black Forest Labs: FLUX (providers.md 1, fields of other hosts 3.5, 4.4, mapping 11.1).
 *
 * 1. FLUX.2 makes and edits pictures with one endpoint; at fal the edit is another one.
 * 2. BFL reads https URLs and raw base64, so a data URI loses its head.
 * 3. Widths and heights of 0 mean automatic: the input picture's size, else 1024 × 1024.
 */
import type { JsonObject } from '../core/json.ts'
import type { Model, Role } from '../core/ports.ts'
import type { Draft, Input } from './draft.ts'
import { bool, choice, int, num, params, picture, prompt, seed } from './fields.ts'
import { fal, replicate, sendFormat } from './hosts.ts'
import { defineModel, numberIn, type Price, pictureCount, type RouteSpec, type Tell } from './model.ts'
import { fitSize, megapixels, type Size } from './sizes.ts'

/** Pixels of the largest FLUX.2 picture: 4 megapixels. */
const MOST_PIXELS = 4_194_304

const side = (title: string): JsonObject =>
  int({
    title,
    description: 'Pixels, a multiple of 16; width × height at most 4 megapixels. 0: automatic.',
    min: 0,
    step: 16,
    default: 0,
    examples: [1024],
  })

const safety = (max: number): JsonObject =>
  int({ title: 'Safety tolerance', description: '0 is strictest.', min: 0, max, default: 2 })

const format = (standard: string): JsonObject =>
  choice(['jpeg', 'png', 'webp'], { title: 'Output format', default: standard })

const references = (count: number): Record<string, JsonObject> => {
  const names = Array.from({ length: count }, (_, i) => (i === 0 ? 'input_image' : `input_image_${i + 1}`))
  return Object.fromEntries(
    names.map((name, i) => [name, picture({ title: i === 0 ? 'Input picture' : `Further picture ${i + 1}` })]),
  )
}

const flux2Params = (pictures: number, more: Record<string, JsonObject> = {}): JsonObject =>
  params({
    prompt: prompt(),
    ...references(pictures),
    width: side('Width'),
    height: side('Height'),
    seed: seed(),
    ...more,
    safety_tolerance: safety(5),
    output_format: format('jpeg'),
  })

const flexFields = {
  prompt_upsampling: bool({
    title: 'Prompt upsampling',
    description: 'Lets the model enrich the prompt.',
    default: true,
  }),
  guidance: num({
    title: 'Guidance',
    description: 'How closely the prompt is followed.',
    min: 1.5,
    max: 10,
    default: 5,
  }),
  steps: int({ title: 'Steps', description: 'More steps, finer detail, longer wait.', min: 1, max: 50, default: 50 }),
}

/** `input_image` is the first picture, `input_image_2` … are references. */
function inputImages(given: JsonObject): Input[] {
  return Object.entries(given)
    .filter(([name, value]) => /^input_image(_\d)?$/.test(name) && typeof value === 'string')
    .map(([name, value]) => ({
      pointer: `/${name}`,
      value: value as string,
      slot: name === 'input_image' ? ('first' as const) : ('reference' as const),
    }))
    .toSorted((a, b) => (a.pointer < b.pointer ? -1 : 1))
}

function flux2Rules(given: JsonObject, tell: Tell): void {
  const width = numberIn(given, 'width') ?? 0
  const height = numberIn(given, 'height') ?? 0
  for (const [name, value] of [
    ['width', width],
    ['height', height],
  ] as const) {
    if (value > 0 && value < 64) {
      tell(`/${name}`, 'minimum', `${name} must be at least 64, or 0 for automatic`, `Take 64 or more, e.g. 1024.`)
    }
  }
  if (Math.max(1, width) * Math.max(1, height) > MOST_PIXELS) {
    tell('/width', 'too_many_pixels', 'width × height must be at most 4 megapixels', 'E.g. 2048 × 2048 or 2560 × 1440.')
  }
}

const FLUX2_ALIASES = {
  aspect_ratio: 'FLUX.2 has no aspect_ratio: give width and height.',
  image_size: 'FLUX.2 has no image_size: give width and height.',
  size: 'FLUX.2 has no size: give width and height.',
  negative_prompt: 'FLUX.2 has no negative prompt: say in the prompt what shall be there.',
  num_images: 'FLUX.2 makes one picture a call.',
  n: 'FLUX.2 makes one picture a call.',
  image: 'The input picture of FLUX.2 is input_image.',
  image_url: 'The input picture of FLUX.2 is input_image.',
  image_urls: 'The input pictures of FLUX.2 are input_image, input_image_2, …',
}

/** The size that the caller asked for; null for automatic. A single side says less than other hosts need. */
function sizeOf(draft: Draft): Size | null {
  const width = draft.number('width') ?? 0
  const height = draft.number('height') ?? 0
  if (width > 0 && height > 0) return { width, height }
  if (width > 0 || height > 0) draft.refuse(`${draft.provider} needs width and height together`)
  return null
}

const bare = (ref: string): string => ref.replace(/^data:[^,]*;base64,/, '')

/** BFL's own body: the caller's parameters, the defaults that other hosts do not share, and the pictures. */
function writeBfl(draft: Draft): void {
  draft.copy('prompt')
  const first = draft.one('first')
  if (first !== undefined) draft.send('input_image', bare(first))
  const further = draft.take('reference')
  const names = further.map(ref => (ref.pointer ?? '').slice(1))
  const free = Object.keys(references(8)).filter(name => name !== 'input_image' && !names.includes(name))
  further.forEach((ref, i) => {
    draft.send(names[i] || (free.shift() ?? ''), bare(ref.ref))
  })
  draft.copy('width', 'height', 'seed', 'aspect_ratio', 'raw')
  draft.pin('prompt_upsampling', 'guidance', 'steps', 'safety_tolerance', 'output_format')
}

/** fal: presets or {width,height}, tolerance as a string from "1", no webp. */
function writeFalFlux2(draft: Draft): void {
  draft.copy('prompt', 'seed')
  const pictures = draft.takeAll()
  if (pictures.length > 0) {
    draft.providerModel += '/edit'
    draft.send('image_urls', pictures)
  }
  const size = sizeOf(draft)
  draft.send('image_size', size ? { ...size } : pictures.length > 0 ? 'auto' : 'square_hd')
  draft.pinAs('prompt_upsampling', 'enable_prompt_expansion')
  draft.pinAs('guidance', 'guidance_scale')
  draft.pinAs('steps', 'num_inference_steps')
  draft.send('safety_tolerance', String(draft.clamp('safety_tolerance', 1, 5)))
  sendFormat(draft, ['jpeg', 'png'])
}

/** Replicate: a custom size in steps of 32 up to 2048, else a ratio and a resolution. */
function writeReplicateFlux2(draft: Draft): void {
  draft.copy('prompt', 'seed')
  const pictures = draft.takeAll()
  if (pictures.length > 0) draft.send('input_images', pictures)
  const size = sizeOf(draft)
  if (size) {
    const fitted = fitSize(size, { min: 256, max: 2048, step: 32 })
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
  } else {
    draft.send('aspect_ratio', pictures.length > 0 ? 'match_input_image' : '1:1')
    draft.send('resolution', pictures.length > 0 ? 'match_input_image' : '1 MP')
  }
  draft.pin('prompt_upsampling', 'guidance', 'steps')
  draft.send('safety_tolerance', draft.clamp('safety_tolerance', 1, 5))
  sendFormat(draft, ['webp', 'jpg', 'png'])
}

const bfl = (providerModel: string): RouteSpec => ({ provider: 'bfl', providerModel, write: writeBfl })
/** US dollars for the first megapixel of output, and for each further one, those of the input pictures included (1 each, assumed). */
function perMegapixel(first: number, further: number): Price {
  return (given, role: Role) => {
    const width = numberIn(given, 'width') ?? 0
    const height = numberIn(given, 'height') ?? 0
    const out = width > 0 && height > 0 ? megapixels({ width, height }) : 1
    return first + (out - 1) * further + pictureCount(inputImages(given), role) * further
  }
}

interface Flux2 {
  name: string
  title: string
  pictures: number
  fields?: Record<string, JsonObject>
  price: Price
  expectedMs: number
  hosts: readonly RouteSpec[]
}

const flux2 = (model: Flux2): Model =>
  defineModel({
    id: `bfl/${model.name}`,
    title: model.title,
    gives: 'image',
    roles: ['text_to_image', 'image_to_image'],
    params: flux2Params(model.pictures, model.fields),
    pictureField: '/input_image',
    pictureFields: Object.keys(references(model.pictures)),
    inputs: inputImages,
    rules: flux2Rules,
    aliases: FLUX2_ALIASES,
    price: model.price,
    expectedMs: model.expectedMs,
    routes: [bfl(model.name), ...model.hosts],
  })

/** Expected times: the seed's own run took 18 s for flex; pro and max are of that order, klein answers within seconds. */
export const BFL_MODELS: readonly Model[] = [
  flux2({
    name: 'flux-2-flex',
    title: 'FLUX.2 [flex]',
    pictures: 8,
    fields: flexFields,
    price: perMegapixel(0.05, 0.05),
    expectedMs: 20_000,
    hosts: [fal('fal-ai/flux-2-flex', writeFalFlux2), replicate('black-forest-labs/flux-2-flex', writeReplicateFlux2)],
  }),
  flux2({
    name: 'flux-2-pro',
    title: 'FLUX.2 [pro]',
    pictures: 8,
    price: perMegapixel(0.03, 0.015),
    expectedMs: 12_000,
    hosts: [fal('fal-ai/flux-2-pro', writeFalFlux2), replicate('black-forest-labs/flux-2-pro', writeReplicateFlux2)],
  }),
]
