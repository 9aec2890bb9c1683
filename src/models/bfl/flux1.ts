/**
 * FLUX.1 by Black Forest Labs: Kontext, 1.1 [pro], ultra, [dev], Fill and Expand (providers.md 1.4).
 *
 * 1. Kontext speaks of ratios, 1.1 and [dev] of pixels.
 * 2. `image_prompt` of 1.1 and ultra is a loose resemblance, which is no edit of a picture: those models take text only.
 */
import type { JsonObject } from '../../core/json.ts'
import type { Model } from '../../core/model.ts'
import type { Draft } from '../draft.ts'
import { bool, int, num, params, picture, prompt, seed, text } from '../fields.ts'
import { fal, replicate, sendFormat } from '../hosts.ts'
import { defineModel, type RouteSpec, type Tell, textIn, unknownPrice } from '../model.ts'
import { nearestRatio, ratioOf, shapeIn } from '../sizes.ts'
import {
  bare,
  bfl,
  FLUX_ALIASES,
  inputPictures,
  outputFormat,
  perPicture,
  safety,
  sendSafety,
  sidesIn,
  upsampling,
} from './shared.ts'

const aspectRatio = (standard?: string): JsonObject =>
  text({
    title: 'Aspect ratio',
    description: 'WIDTH:HEIGHT.',
    max: 9,
    pattern: '^[1-9]\\d{0,3}:[1-9]\\d{0,3}$',
    examples: ['16:9', '1:1', '3:4'],
    ...(standard === undefined ? {} : { default: standard }),
  })

const RATIO_ALIASES = {
  ...FLUX_ALIASES,
  width: 'This model takes aspect_ratio.',
  height: 'This model takes aspect_ratio.',
}

/** Sends the ratio if the host knows one that gives the same picture. */
function sendRatio(draft: Draft, ratios: readonly string[], automatic: string | undefined): void {
  const wanted = draft.text('aspect_ratio')
  if (wanted === undefined) {
    draft.send('aspect_ratio', automatic)
    return
  }
  const near = nearestRatio(ratioOf(wanted), ratios)
  if (!near.same) draft.refuse(`${draft.provider} takes the ratios ${ratios.join(', ')}`)
  else if (near.ratio !== wanted) draft.adjust('aspect_ratio', near.ratio, `${draft.provider} has no ${wanted}`)
  draft.send('aspect_ratio', near.ratio)
}

const FAL_RATIOS = ['21:9', '16:9', '4:3', '3:2', '1:1', '2:3', '3:4', '9:16', '9:21']
const REPLICATE_RATIOS = [...FAL_RATIOS, '4:5', '5:4', '2:1', '1:2']

function kontext(size: 'pro' | 'max', usd: number): Model {
  const input = inputPictures(4)
  const base = size === 'pro' ? 'fal-ai/flux-pro/kontext' : 'fal-ai/flux-pro/kontext/max'
  return defineModel({
    id: `bfl/flux-kontext-${size}`,
    title: `FLUX.1 Kontext [${size}]`,
    gives: 'image',
    roles: ['text_to_image', 'image_to_image'],
    params: params({
      prompt: prompt(),
      ...input.fields,
      aspect_ratio: aspectRatio(),
      seed: seed(),
      prompt_upsampling: upsampling(false),
      safety_tolerance: safety(6),
      output_format: outputFormat('png', ['jpeg', 'png']),
    }),
    pictures: input.pictures,
    rules: kontextRules,
    aliases: RATIO_ALIASES,
    shape: given => shapeIn(textIn(given, 'aspect_ratio')),
    price: perPicture(usd),
    /** A Kontext edit takes about 10 s. */
    expectedMs: 12_000,
    routes: [
      bfl(`flux-kontext-${size}`),
      fal(base, writeFalKontext, unknownPrice),
      replicate(`black-forest-labs/flux-kontext-${size}`, writeReplicateKontext),
    ],
  })
}

function kontextRules(given: JsonObject, tell: Tell): void {
  const ratio = textIn(given, 'aspect_ratio')
  if (ratio === undefined) return
  const value = ratioOf(ratio)
  if (value < 3 / 7 || value > 7 / 3) tell('/aspect_ratio', 'ratio', 'aspect_ratio must be between 3:7 and 7:3')
}

/** fal: an endpoint each for text, one picture, and several. */
function writeFalKontext(draft: Draft): void {
  const pictures = draft.takeAll()
  draft.copy('prompt', 'seed')
  if (pictures.length === 0) draft.providerModel += '/text-to-image'
  else if (pictures.length === 1) draft.send('image_url', pictures[0])
  else {
    draft.providerModel += '/multi'
    draft.send('image_urls', pictures)
  }
  sendRatio(draft, FAL_RATIOS, pictures.length === 0 ? '1:1' : undefined)
  draft.pinAs('prompt_upsampling', 'enhance_prompt')
  draft.send('num_images', 1)
  sendSafety(draft, 6)
  sendFormat(draft, ['jpeg', 'png'])
}

function writeReplicateKontext(draft: Draft): void {
  const pictures = draft.takeAll()
  if (pictures.length > 1) draft.refuse('replicate reads one picture for this model')
  draft.copy('prompt', 'seed')
  draft.send('input_image', pictures[0])
  sendRatio(draft, REPLICATE_RATIOS, pictures.length > 0 ? 'match_input_image' : '1:1')
  draft.pin('prompt_upsampling', 'safety_tolerance')
  sendFormat(draft, ['jpg', 'png'])
}

const side = (title: string, standard: number): JsonObject =>
  int({ title, description: 'Pixels.', min: 256, max: 1440, step: 32, default: standard })

const sides = { width: side('Width', 1024), height: side('Height', 768) }

/** Models that take text only. */
function fromText(model: {
  name: string
  endpoint: string
  title: string
  fields: Record<string, JsonObject>
  ratio: boolean
  usd: number | null
  expectedMs: number
  hosts: readonly RouteSpec[]
}): Model {
  return defineModel({
    id: `bfl/${model.name}`,
    title: model.title,
    gives: 'image',
    roles: ['text_to_image'],
    params: params({
      prompt: prompt(),
      ...model.fields,
      prompt_upsampling: upsampling(false),
      seed: seed(),
      safety_tolerance: safety(6),
      output_format: outputFormat('jpeg', ['jpeg', 'png']),
    }),
    pictures: [],
    aliases: {
      ...(model.ratio ? RATIO_ALIASES : FLUX_ALIASES),
      image_prompt: 'This model takes text only; FLUX.2 and Kontext edit pictures.',
      input_image: 'This model takes text only; FLUX.2 and Kontext edit pictures.',
    },
    shape: given => (model.ratio ? shapeIn(textIn(given, 'aspect_ratio')) : sidesIn(given)),
    price: perPicture(model.usd),
    expectedMs: model.expectedMs,
    routes: [bfl(model.endpoint), ...model.hosts],
  })
}

function falPixels(draft: Draft): void {
  draft.copy('prompt', 'seed')
  draft.send('image_size', { width: draft.number('width') ?? 1024, height: draft.number('height') ?? 768 })
  draft.send('num_images', 1)
  sendFormat(draft, ['jpeg', 'png'])
}

function writeFalPro11(draft: Draft): void {
  falPixels(draft)
  draft.pinAs('prompt_upsampling', 'enhance_prompt')
  sendSafety(draft, 6)
}

/** fal runs [dev] as open weights, with a checker of its own instead of a tolerance. */
function writeFalDev(draft: Draft): void {
  falPixels(draft)
  draft.pinAs('steps', 'num_inference_steps')
  draft.pinAs('guidance', 'guidance_scale')
  draft.always('prompt_upsampling', false, 'it sends the prompt as it is')
}

function writeReplicatePro11(draft: Draft): void {
  draft.copy('prompt', 'seed')
  draft.send('aspect_ratio', 'custom')
  draft.pin('width', 'height', 'prompt_upsampling')
  sendSafety(draft, 6)
  sendFormat(draft, ['webp', 'jpg', 'png'])
}

function writeFalUltra(draft: Draft): void {
  draft.copy('prompt', 'seed')
  draft.pin('aspect_ratio', 'raw')
  draft.pinAs('prompt_upsampling', 'enhance_prompt')
  draft.send('num_images', 1)
  sendSafety(draft, 6)
  sendFormat(draft, ['jpeg', 'png'])
}

function writeReplicateUltra(draft: Draft): void {
  draft.copy('prompt', 'seed')
  sendRatio(draft, REPLICATE_RATIOS, undefined)
  draft.pin('raw')
  draft.always('prompt_upsampling', false, 'it sends the prompt as it is')
  sendSafety(draft, 6)
  sendFormat(draft, ['jpg', 'png'])
}

/** Fill and Expand: a required picture, and more steps and guidance than elsewhere. */
const painted = {
  prompt: prompt(),
  steps: int({ title: 'Steps', min: 15, max: 50, default: 50 }),
  guidance: num({ title: 'Guidance', min: 1.5, max: 100, default: 60 }),
  prompt_upsampling: upsampling(false),
  seed: seed(),
  safety_tolerance: safety(6),
  output_format: outputFormat('jpeg', ['jpeg', 'png']),
}

function writeBflPainted(draft: Draft): void {
  const image = draft.one('first')
  const mask = draft.one('mask')
  draft.send('image', image === undefined ? undefined : bare(image))
  draft.send('mask', mask === undefined ? undefined : bare(mask))
  draft.copy('prompt', 'seed', 'top', 'bottom', 'left', 'right')
  draft.pin('steps', 'guidance', 'prompt_upsampling', 'safety_tolerance', 'output_format')
}

/** fal fills only where a mask says so, with steps and guidance of its own choice. */
function writeFalFill(draft: Draft): void {
  draft.send('image_url', draft.one('first'))
  const mask = draft.one('mask')
  if (mask === undefined) draft.refuse('fal needs a mask')
  draft.send('mask_url', mask)
  if (draft.given('prompt') === undefined) draft.refuse('fal needs a prompt')
  draft.copy('prompt', 'seed')
  draft.pinAs('prompt_upsampling', 'enhance_prompt')
  draft.send('num_images', 1)
  sendSafety(draft, 6)
  sendFormat(draft, ['jpeg', 'png'])
}

const expandBy = (title: string): JsonObject =>
  int({ title, description: 'Pixels to add on this side.', min: 0, max: 2048, default: 0 })

const IMAGE_ALIASES = { ...FLUX_ALIASES, image: 'The picture is image.', input_image: 'The picture is image.' }

/** Expected times: one picture of about a megapixel takes 5 to 10 s, ultra's four megapixels a little longer. */
export const FLUX1_MODELS: readonly Model[] = [
  kontext('pro', 0.04),
  kontext('max', 0.08),
  fromText({
    name: 'flux-1.1-pro',
    endpoint: 'flux-pro-1.1',
    title: 'FLUX1.1 [pro]',
    fields: sides,
    ratio: false,
    usd: 0.04,
    expectedMs: 8_000,
    hosts: [
      fal('fal-ai/flux-pro/v1.1', writeFalPro11, unknownPrice),
      replicate('black-forest-labs/flux-1.1-pro', writeReplicatePro11),
    ],
  }),
  fromText({
    name: 'flux-1.1-pro-ultra',
    endpoint: 'flux-pro-1.1-ultra',
    title: 'FLUX1.1 [pro] ultra',
    fields: {
      aspect_ratio: aspectRatio('16:9'),
      raw: bool({ title: 'Raw', description: 'Less processed, more natural.', default: false }),
    },
    ratio: true,
    usd: 0.06,
    expectedMs: 12_000,
    hosts: [
      fal('fal-ai/flux-pro/v1.1-ultra', writeFalUltra, unknownPrice),
      replicate('black-forest-labs/flux-1.1-pro-ultra', writeReplicateUltra),
    ],
  }),
  fromText({
    name: 'flux-dev',
    endpoint: 'flux-dev',
    title: 'FLUX.1 [dev]',
    fields: {
      ...sides,
      steps: int({ title: 'Steps', min: 1, max: 50, default: 28 }),
      guidance: num({ title: 'Guidance', min: 1.5, max: 5, default: 3 }),
    },
    ratio: false,
    usd: null,
    expectedMs: 8_000,
    hosts: [fal('fal-ai/flux/dev', writeFalDev, unknownPrice)],
  }),
  defineModel({
    id: 'bfl/flux-pro-1.0-fill',
    title: 'FLUX.1 Fill [pro]',
    gives: 'image',
    roles: ['image_to_image'],
    params: params(
      {
        image: picture({ title: 'Picture' }),
        mask: picture({ title: 'Mask', description: 'White is painted anew; of the same size as the picture.' }),
        ...painted,
      },
      [],
    ),
    pictures: [
      { name: 'image', slot: 'first' },
      { name: 'mask', slot: 'mask' },
    ],
    aliases: IMAGE_ALIASES,
    price: perPicture(0.05),
    expectedMs: 12_000,
    routes: [
      { ...bfl('flux-pro-1.0-fill', writeBflPainted), inline: true },
      fal('fal-ai/flux-pro/v1/fill', writeFalFill, unknownPrice),
    ],
  }),
  defineModel({
    id: 'bfl/flux-pro-1.0-expand',
    title: 'FLUX.1 Expand [pro]',
    gives: 'image',
    roles: ['image_to_image'],
    params: params(
      {
        image: picture({ title: 'Picture' }),
        top: expandBy('Above'),
        bottom: expandBy('Below'),
        left: expandBy('Left'),
        right: expandBy('Right'),
        ...painted,
      },
      [],
    ),
    pictures: [{ name: 'image', slot: 'first' }],
    aliases: IMAGE_ALIASES,
    price: perPicture(null),
    expectedMs: 12_000,
    routes: [{ ...bfl('flux-pro-1.0-expand', writeBflPainted), inline: true }],
  }),
]
