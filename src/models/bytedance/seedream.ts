/**
 * ByteDance Seedream: pictures from text and from pictures (providers.md 2.3). Its translations are in seedream-hosts.ts.
 *
 * 1. `image` is one picture or a list; the first of them is the one that a step before would give.
 * 2. `size` is a tier (2K) or WIDTHxHEIGHT within the model's pixel counts; too small a picture is refused by the maker.
 * 3. BytePlus itself adds a watermark unless told not to; this catalogue's default is none, as on every other host.
 */
import { isObject, type JsonObject } from '../../core/json.ts'
import type { Model } from '../../core/model.ts'
import type { Input } from '../draft.ts'
import { bool, choice, int, params, pictureOrPictures, prompt, text } from '../fields.ts'
import { fal, replicate, runway } from '../hosts.ts'
import {
  defineModel,
  inputsIn,
  type ModelSpec,
  numberIn,
  type Price,
  type RouteSpec,
  type Tell,
  textIn,
  type Use,
} from '../model.ts'
import { sizeIn } from '../sizes.ts'
import { ark, writeFal, writeReplicate, writeRunway } from './seedream-hosts.ts'

interface Seedream {
  name: string
  title: string
  tiers: readonly string[]
  pixels: { min: number; max: number }
  pictures: number
  /** Several pictures in one call. */
  sequential: boolean
  fields?: Record<string, JsonObject>
  /** US dollars a picture. */
  usd: number | null
  expectedMs: number
  routes: readonly RouteSpec[]
}

const sizeField = (tiers: readonly string[], standard: string): JsonObject =>
  text({
    title: 'Size',
    description: `${tiers.join(', ')}: the model chooses the ratio; or WIDTHxHEIGHT in pixels.`,
    max: 11,
    pattern: `^(${tiers.map(tier => tier.replace('.', '\\.')).join('|')}|[1-9]\\d{1,4}x[1-9]\\d{1,4})$`,
    default: standard,
    examples: [...tiers, '2048x2048'],
  })

const sequentialFields = {
  sequential_image_generation: choice(['disabled', 'auto'], {
    title: 'Several pictures',
    description: 'auto: the model decides how many pictures belong to the prompt.',
    default: 'disabled',
  }),
  sequential_image_generation_options: {
    type: 'object',
    title: 'Several pictures: options',
    properties: { max_images: int({ title: 'At most', min: 1, max: 15, default: 15 }) },
    required: ['max_images'],
    additionalProperties: false,
  },
}

const optimize = (modes: readonly string[]): JsonObject => ({
  type: 'object',
  title: 'Prompt optimization',
  properties: { mode: choice(modes, { title: 'Mode', default: 'standard' }) },
  required: ['mode'],
  additionalProperties: false,
})

function seedream(model: Seedream): Model {
  const { tiers } = model
  const spec: ModelSpec = {
    id: `bytedance/${model.name}`,
    title: model.title,
    gives: 'image',
    roles: ['text_to_image', 'image_to_image'],
    params: params({
      prompt: prompt(),
      image: pictureOrPictures(model.pictures, {
        title: 'Input picture',
        description: `One picture, or a list of up to ${model.pictures}.`,
      }),
      size: sizeField(tiers, '2K'),
      ...(model.sequential ? sequentialFields : {}),
      ...model.fields,
      watermark: bool({
        title: 'Watermark',
        description: 'A visible mark in the corner. BytePlus itself would add one by default.',
        default: false,
      }),
    }),
    pictures: IMAGE,
    rules: (given, tell, use) => rules(given, tell, use, model),
    aliases: {
      width: 'Seedream takes size: "2048x2048".',
      height: 'Seedream takes size: "2048x2048".',
      aspect_ratio: 'Seedream takes size as WIDTHxHEIGHT.',
      image_size: 'Seedream takes size.',
      seed: 'Seedream takes no seed since version 4.',
      max_images: 'max_images stands in sequential_image_generation_options.',
      response_format: 'BabyChain keeps the pictures itself.',
    },
    shape: given => sizeIn(textIn(given, 'size')),
    price: perPicture(model.usd),
    expectedMs: model.expectedMs,
    routes: model.routes,
  }
  return defineModel(spec)
}

const IMAGE = [{ name: 'image', slot: 'first' as const }]
const imageInputs = (given: JsonObject): Input[] => inputsIn(IMAGE, given)

function rules(given: JsonObject, tell: Tell, use: Use, { tiers, pixels }: Seedream): void {
  const size = sizeIn(textIn(given, 'size'))
  if (size) {
    const count = size.width * size.height
    if (count < pixels.min || count > pixels.max) {
      const many = count < pixels.min ? `too few pixels (${count})` : `too many pixels (${count})`
      tell(
        '/size',
        'pixel_count',
        `size ${size.width}x${size.height} has ${many}: this model takes ${pixels.min} to ${pixels.max}`,
        `Take ${tiers.join(', ')} or e.g. 2048x2048.`,
      )
    }
    const ratio = size.width / size.height
    if (ratio > 16 || ratio < 1 / 16) tell('/size', 'ratio', 'size must be between 1:16 and 16:1')
  }
  const several = textIn(given, 'sequential_image_generation')
  const options = given.sequential_image_generation_options
  if (isObject(options) && several !== 'auto') {
    tell(
      '/sequential_image_generation_options',
      'conflict',
      'sequential_image_generation_options needs sequential_image_generation "auto"',
      'Set it to "auto", or leave the options out.',
    )
  }
  const wanted = isObject(options) ? (numberIn(options, 'max_images') ?? 15) : 1
  const pictures = imageInputs(given).length + (use.wired ? 1 : 0)
  if (isObject(options) && pictures + wanted > 15) {
    tell(
      '/sequential_image_generation_options/max_images',
      'conflict',
      `input pictures and outputs together must be at most 15, not ${pictures + wanted}`,
    )
  }
}

/** Pictures that a set may hold; Ark's own limit is 15 together with those that it reads. */
function mostPictures(given: JsonObject, read: number): number {
  const options = given.sequential_image_generation_options
  const asked = isObject(options) ? numberIn(options, 'max_images') : undefined
  return asked ?? Math.max(1, 15 - read)
}

/** Nobody knows before how many pictures a set will hold; ModelArk counts them in its answer. */
const perPicture =
  (usd: number | null): Price =>
  (given, { pictures, counted }) => {
    if (usd === null) return null
    if (counted !== undefined) return usd * counted
    return given.sequential_image_generation === 'auto' ? { atMost: usd * mostPictures(given, pictures.length) } : usd
  }

const webSearch = {
  tools: {
    type: 'array',
    title: 'Tools',
    description: 'web_search: the model may look things up first.',
    items: {
      type: 'object',
      properties: { type: { type: 'string', const: 'web_search', default: 'web_search' } },
      required: ['type'],
      additionalProperties: false,
    },
    minItems: 1,
    maxItems: 1,
  },
}

const format5 = choice(['png', 'jpeg'], { title: 'Output format', default: 'jpeg' })

/** Expected times: a synchronous call of this family holds the line for 10 to 30 s. Prices: providers.md 2.5 and 3.5. */
export const SEEDREAM_MODELS: readonly Model[] = [
  seedream({
    name: 'seedream-4.5',
    title: 'Seedream 4.5',
    tiers: ['2K', '4K'],
    pixels: { min: 3_686_400, max: 16_777_216 },
    pictures: 14,
    sequential: true,
    fields: { optimize_prompt_options: optimize(['standard']) },
    usd: 0.04,
    expectedMs: 25_000,
    routes: [
      ark('seedream-4-5-251128'),
      fal(
        'fal-ai/bytedance/seedream/v4.5/text-to-image',
        writeFal('fal-ai/bytedance/seedream/v4.5', { tiers: ['2K', '4K'] }),
      ),
      replicate('bytedance/seedream-4.5', writeReplicate({ tiers: ['2K', '4K'], custom: true })),
    ],
  }),
  seedream({
    name: 'seedream-5-lite',
    title: 'Seedream 5.0 lite',
    tiers: ['2K', '3K'],
    pixels: { min: 3_686_400, max: 16_777_216 },
    pictures: 14,
    sequential: true,
    fields: { optimize_prompt_options: optimize(['standard', 'fast']), ...webSearch, output_format: format5 },
    usd: 0.035,
    expectedMs: 30_000,
    routes: [
      ark('seedream-5-0-260128'),
      fal(
        'fal-ai/bytedance/seedream/v5/lite/text-to-image',
        writeFal('fal-ai/bytedance/seedream/v5/lite', {
          tiers: ['2K', '3K'],
          pixels: { min: 3_686_400, max: 9_437_184 },
        }),
      ),
      replicate(
        'bytedance/seedream-5-lite',
        writeReplicate({ tiers: ['2K', '3K'], custom: false, formats: ['png', 'jpeg'] }),
      ),
      runway('seedream5_lite', writeRunway({ freeform: true, auto: { '2K': '2048:2048', '3K': '3072:3072' } })),
    ],
  }),
  seedream({
    name: 'seedream-5-pro',
    title: 'Seedream 5.0 pro',
    tiers: ['1K', '1.5K', '2K', 'auto'],
    pixels: { min: 921_600, max: 4_624_220 },
    pictures: 10,
    sequential: false,
    fields: { output_format: format5 },
    usd: null,
    expectedMs: 40_000,
    routes: [
      ark('dola-seedream-5-0-pro-260628'),
      replicate(
        'bytedance/seedream-5-pro',
        writeReplicate({ tiers: ['1K', '1.5K', '2K', 'auto'], custom: false, formats: ['png', 'jpeg'] }),
      ),
      runway('seedream5_pro', writeRunway({ freeform: false, auto: { '1K': 'auto_1k', '2K': 'auto_2k' } })),
    ],
  }),
  seedream({
    name: 'seedream-4',
    title: 'Seedream 4.0',
    tiers: ['1K', '2K', '4K'],
    pixels: { min: 921_600, max: 16_777_216 },
    pictures: 14,
    sequential: true,
    fields: { optimize_prompt_options: optimize(['standard', 'fast']) },
    usd: 0.03,
    expectedMs: 20_000,
    routes: [
      ark('seedream-4-0-250828'),
      fal(
        'fal-ai/bytedance/seedream/v4/text-to-image',
        writeFal('fal-ai/bytedance/seedream/v4', { tiers: ['2K', '4K'], enhance: true }),
      ),
      replicate('bytedance/seedream-4', writeReplicate({ tiers: ['1K', '2K', '4K'], custom: true, enhance: true })),
    ],
  }),
]
