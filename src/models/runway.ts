/**
 * Runway's own models, and those that only Runway offers here (providers.md 7; lists from its SDK).
 *
 * 1. Parameters are Runway's: `promptText`, `promptImage`, `ratio` in pixels.
 * 2. Outputs other than MP4 (ProRes, frames) are not offered: a step gives one film.
 * 3. Prices are in credits of an account; in US dollars they are unknown here.
 */
import { isObject, type Json, type JsonObject } from '../core/json.ts'
import type { Model } from '../core/model.ts'
import type { Draft, Input } from './draft.ts'
import { bool, choice, int, params, picture, prompt, seed, text } from './fields.ts'
import { replicate, runway, runwayFrames } from './hosts.ts'
import { defineModel, type RouteSpec, type Tell, textIn, type Use, unknownPrice } from './model.ts'
import { nearestRatio, ratioOf, shapeIn } from './sizes.ts'

const moderation: JsonObject = {
  type: 'object',
  title: 'Content moderation',
  properties: { publicFigureThreshold: choice(['auto', 'low'], { title: 'Public figures', default: 'auto' }) },
  additionalProperties: false,
}

/** A picture, or a list of pictures with their positions. */
const promptImage = (positions: readonly string[]): JsonObject => ({
  title: 'First frame',
  description: positions.length > 1 ? 'A picture, or a list with the positions first and last.' : 'A picture.',
  anyOf: [
    picture({ title: 'First frame' }),
    {
      type: 'array',
      items: {
        type: 'object',
        properties: { uri: picture({ title: 'Picture' }), position: choice(positions, { title: 'Position' }) },
        required: ['uri', 'position'],
        additionalProperties: false,
      },
      minItems: 1,
      maxItems: positions.length,
    },
  ],
})

interface Film {
  /** Runway's own id of the model. */
  name: string
  title: string
  promptLength: number
  promptRequired: boolean
  positions: readonly string[]
  fields: Record<string, JsonObject>
  expectedMs: number
  hosts?: readonly RouteSpec[]
}

function film(model: Film): Model {
  return defineModel({
    id: `runway/${model.name}`,
    title: model.title,
    gives: 'video',
    roles: ['image_to_video'],
    params: params(
      {
        promptText: prompt(model.promptLength),
        promptImage: promptImage(model.positions),
        ...model.fields,
      },
      model.promptRequired ? ['promptText'] : [],
    ),
    pictures: [{ name: 'promptImage', slot: 'first' }],
    inputs: promptImages,
    rules: filmRules,
    aliases: {
      prompt: 'Runway calls it promptText.',
      image: 'Runway calls it promptImage.',
      aspect_ratio: 'Runway takes ratio in pixels: "1280:720".',
      seconds: 'Runway calls it duration.',
    },
    price: unknownPrice,
    expectedMs: model.expectedMs,
    routes: [runway(model.name, writeFilm), ...(model.hosts ?? [])],
  })
}

function promptImages(given: JsonObject): Input[] {
  const value = given.promptImage
  if (typeof value === 'string') return [{ pointer: '/promptImage', value, slot: 'first' }]
  if (!Array.isArray(value)) return []
  return value.flatMap((one: Json, i): Input[] => {
    if (!isObject(one) || typeof one.uri !== 'string') return []
    return [{ pointer: `/promptImage/${i}/uri`, value: one.uri, slot: one.position === 'last' ? 'last' : 'first' }]
  })
}

function filmRules(given: JsonObject, tell: Tell, use: Use): void {
  const positions = promptImages(given).map(input => input.slot)
  if (new Set(positions).size < positions.length) {
    tell('/promptImage', 'conflict', 'every position of promptImage may be given once')
  }
  if (positions.includes('last') && !positions.includes('first') && !use.wired) {
    tell('/promptImage', 'conflict', 'a last frame needs a first frame')
  }
}

function writeFilm(draft: Draft): void {
  draft.copy('promptText')
  draft.given('promptImage')
  draft.send('promptImage', runwayFrames(draft.one('first'), draft.one('last')))
  draft.pin('ratio', 'duration', 'resolution', 'promptExpansionMode')
  draft.copy('seed', 'contentModeration')
}

const GEN4_RATIOS = ['1280:720', '720:1280', '1104:832', '960:960', '832:1104', '1584:672']
const ratio = (ratios: readonly string[], standard: string): JsonObject =>
  choice(ratios, { title: 'Ratio', description: 'WIDTH:HEIGHT in pixels.', default: standard })
const duration = (min: number, max: number): JsonObject =>
  int({ title: 'Duration', description: 'Seconds.', min, max, default: 5 })

const gen4 = {
  ratio: ratio(GEN4_RATIOS, '1280:720'),
  duration: duration(2, 10),
  seed: seed(),
  contentModeration: moderation,
}

/** Replicate's copy of gen4_turbo: ratios in words, 5 or 10 seconds. */
function writeReplicateGen4(draft: Draft): void {
  draft.given('promptImage')
  if (draft.given('promptText') === undefined) draft.refuse('replicate needs a prompt')
  draft.copyAs('promptText', 'prompt')
  draft.send('image', draft.one('first'))
  const seconds = draft.number('duration')
  if (seconds !== 5 && seconds !== 10) draft.refuse('replicate films 5 or 10 seconds')
  draft.send('duration', seconds)
  const wanted = draft.text('ratio') ?? '1280:720'
  const { ratio: near } = nearestRatio(ratioOf(wanted), ['16:9', '9:16', '4:3', '3:4', '1:1', '21:9'])
  draft.adjust('ratio', near, 'replicate takes a ratio instead of a size')
  draft.send('aspect_ratio', near)
  draft.copy('seed')
}

interface Still {
  name: string
  title: string
  promptLength: number
  ratios: readonly string[]
  standard: string
  references: { max: number; required: boolean; tags: boolean }
  fields: Record<string, JsonObject>
  expectedMs: number
}

function still(model: Still): Model {
  const { references } = model
  const tag = text({
    title: 'Tag',
    description: 'A name for the prompt: @tag.',
    max: 16,
    pattern: '^[A-Za-z][A-Za-z0-9_]{2,15}$',
    examples: ['hero'],
  })
  return defineModel({
    id: `runway/${model.name}`,
    title: model.title,
    gives: 'image',
    roles: references.required ? ['image_to_image'] : ['text_to_image', 'image_to_image'],
    params: params(
      {
        promptText: prompt(model.promptLength),
        referenceImages: {
          type: 'array',
          title: 'Input pictures',
          items: {
            type: 'object',
            properties: { uri: picture({ title: 'Picture' }), ...(references.tags ? { tag } : {}) },
            required: ['uri'],
            additionalProperties: false,
          },
          minItems: 1,
          maxItems: references.max,
        },
        ratio: ratio(model.ratios, model.standard),
        ...model.fields,
      },
      ['promptText'],
    ),
    pictures: [{ name: 'referenceImages', slot: 'first', at: 'uri' }],
    aliases: { prompt: 'Runway calls it promptText.', image: 'Runway calls it referenceImages: [{"uri":…}].' },
    shape: given => shapeIn(textIn(given, 'ratio')),
    price: unknownPrice,
    expectedMs: model.expectedMs,
    routes: [runway(model.name, writeStill)],
  })
}

function writeStill(draft: Draft): void {
  draft.copy('promptText')
  const given = draft.given('referenceImages')
  const references = [...draft.take('first'), ...draft.take('reference')].map(({ ref: uri, pointer }): JsonObject => {
    // The picture of a step before stands nowhere in the parameters, so it has no tag.
    const item = pointer !== null && Array.isArray(given) ? given[Number(pointer.split('/')[2])] : undefined
    return isObject(item) && item.tag !== undefined ? { uri, tag: item.tag } : { uri }
  })
  if (references.length > 0) draft.send('referenceImages', references)
  draft.pin('ratio', 'outputCount', 'outputFormat', 'quality')
  draft.copy('edit', 'seed', 'contentModeration')
}

const GEN4_IMAGE_RATIOS = [
  '1024:1024',
  '1080:1080',
  '1168:880',
  '1360:768',
  '1440:1080',
  '1080:1440',
  '1808:768',
  '1920:1080',
  '1080:1920',
  '2112:912',
  '1280:720',
  '720:1280',
  '720:720',
  '960:720',
  '720:960',
  '1680:720',
]

const MUSE_RATIOS = [
  'auto',
  '2352:1008',
  '2016:1152',
  '1920:1280',
  '1792:1344',
  '1600:1600',
  '1344:1792',
  '1280:1920',
  '1152:2016',
]

const GROK_RATIOS = [
  'auto_1k',
  'auto_2k',
  '1024:1024',
  '1280:720',
  '720:1280',
  '1152:864',
  '864:1152',
  '1248:832',
  '832:1248',
  '1248:576',
  '576:1248',
  '1280:576',
  '576:1280',
  '1408:704',
  '704:1408',
  '2048:2048',
  '2816:1584',
  '1584:2816',
  '2368:1776',
  '1776:2368',
  '2496:1664',
  '1664:2496',
  '2912:1344',
  '1344:2912',
  '3200:1440',
  '1440:3200',
  '2912:1456',
  '1456:2912',
]

const OMNI_RATIOS = ['1280:720', '720:1280', '640:360', '360:640', '1920:1080', '1080:1920', '3840:2160', '2160:3840']

const outputCount = int({ title: 'Pictures', min: 1, max: 4, default: 1 })

/** Expected times: films of 5 s take one to two minutes there, pictures about half a minute. */
export const RUNWAY_MODELS: readonly Model[] = [
  film({
    name: 'gen4.5',
    title: 'Gen-4.5',
    promptLength: 1_000,
    promptRequired: true,
    positions: ['first'],
    fields: gen4,
    expectedMs: 90_000,
  }),
  film({
    name: 'gen4_turbo',
    title: 'Gen-4 Turbo',
    promptLength: 1_000,
    promptRequired: false,
    positions: ['first'],
    fields: gen4,
    expectedMs: 45_000,
    hosts: [replicate('runwayml/gen4-turbo', writeReplicateGen4)],
  }),
  still({
    name: 'gen4_image',
    title: 'Gen-4 Image',
    promptLength: 1_000,
    ratios: GEN4_IMAGE_RATIOS,
    standard: '1920:1080',
    references: { max: 3, required: false, tags: true },
    fields: { seed: seed(), contentModeration: moderation },
    expectedMs: 30_000,
  }),
  still({
    name: 'gen4_image_turbo',
    title: 'Gen-4 Image Turbo',
    promptLength: 1_000,
    ratios: GEN4_IMAGE_RATIOS,
    standard: '1920:1080',
    references: { max: 3, required: true, tags: true },
    fields: { seed: seed(), contentModeration: moderation },
    expectedMs: 15_000,
  }),
  still({
    name: 'muse_image',
    title: 'Muse Image',
    promptLength: 10_000,
    ratios: MUSE_RATIOS,
    standard: 'auto',
    references: { max: 10, required: false, tags: false },
    fields: { outputCount, outputFormat: choice(['png', 'jpeg', 'webp'], { title: 'Output format', default: 'png' }) },
    expectedMs: 30_000,
  }),
  still({
    name: 'grok_imagine_image_2',
    title: 'Grok Imagine Image 2',
    promptLength: 10_000,
    ratios: GROK_RATIOS,
    standard: 'auto_1k',
    references: { max: 3, required: false, tags: false },
    fields: {
      outputCount,
      quality: choice(['low', 'medium'], { title: 'Quality', default: 'medium' }),
      edit: bool({ title: 'Edit', description: 'With one picture: change that very picture.' }),
    },
    expectedMs: 20_000,
  }),
  film({
    name: 'grok_imagine_1_5',
    title: 'Grok Imagine 1.5',
    promptLength: 10_000,
    promptRequired: false,
    positions: ['first'],
    fields: {
      resolution: choice(['480p', '720p', '1080p'], { title: 'Resolution', default: '720p' }),
      duration: duration(1, 15),
    },
    expectedMs: 60_000,
  }),
  film({
    name: 'gemini_omni_flash',
    title: 'Gemini Omni Flash',
    promptLength: 10_000,
    promptRequired: false,
    positions: ['first'],
    fields: { ratio: ratio(OMNI_RATIOS.slice(0, 2), '1280:720'), duration: duration(3, 10) },
    expectedMs: 90_000,
  }),
  film({
    name: 'gemini_omni_flash_1.1',
    title: 'Gemini Omni Flash 1.1',
    promptLength: 10_000,
    promptRequired: true,
    positions: ['first', 'last'],
    fields: { ratio: ratio(OMNI_RATIOS, '1280:720'), duration: duration(3, 10) },
    expectedMs: 90_000,
  }),
  film({
    name: 'h3_max',
    title: 'MiniMax H3 Max',
    promptLength: 10_000,
    promptRequired: true,
    positions: ['first', 'last'],
    fields: {
      resolution: choice(['480p', '768p'], { title: 'Resolution', default: '768p' }),
      duration: duration(5, 15),
      promptExpansionMode: choice(['disabled', 'balanced', 'quality'], {
        title: 'Prompt expansion',
        default: 'balanced',
      }),
      seed: seed(),
    },
    expectedMs: 120_000,
  }),
]
