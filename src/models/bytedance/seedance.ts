/**
 * ByteDance Seedance: films from a picture (providers.md 2.4). Its translations are in seedance-hosts.ts.
 *
 * 1. The prompt and the pictures stand in `content` (content.ts).
 * 2. Fields that one generation does not know are unknown fields of its models.
 */
import type { JsonObject } from '../../core/json.ts'
import type { Model, Shape } from '../../core/model.ts'
import { type ContentLimits, contentField, contentInputs, contentRules } from '../content.ts'
import { bool, choice, int, params, seed, text } from '../fields.ts'
import {
  type Call,
  defineModel,
  numberIn,
  type Price,
  type RouteSpec,
  type Tell,
  textIn,
  type Use,
  unknownPrice,
} from '../model.ts'
import {
  ark,
  falReference,
  falSeedance,
  type Generation,
  pixelsOf,
  replicateSeedance,
  replicateSeedance2,
  runwaySeedance,
  SIZES_2_5,
} from './seedance-hosts.ts'

interface Seedance {
  name: string
  title: string
  generation: Generation
  resolutions: readonly string[]
  resolution: string
  duration: { min: number; max: number; standard: number; auto: boolean }
  lastFrame: boolean
  /** Reference pictures in `content`; films and sounds come with generation 2. */
  references: number
  fields: Record<string, JsonObject>
  price: Price
  expectedMs: number
  routes: readonly RouteSpec[]
}

const limitsOf = ({ lastFrame, references, generation }: Seedance): ContentLimits => ({
  lastFrame,
  references,
  clips: generation === '2',
})

const RATIOS = ['16:9', '4:3', '1:1', '3:4', '9:16', '21:9', 'adaptive']

/** Fields that every generation knows. */
const durationField = ({ min, max, standard, auto }: Seedance['duration']): JsonObject =>
  int({
    title: 'Duration',
    description: `Seconds, ${min} to ${max}${auto ? '; -1: the model decides' : ''}.`,
    min: auto ? -1 : min,
    max,
    default: standard,
    examples: [Math.max(min, 5)],
  })

const cameraFixed = bool({ title: 'Fixed camera', default: false })
const generateAudio = bool({ title: 'Sound', description: 'Films with sound cost more.', default: true })

function seedance(model: Seedance): Model {
  const { duration } = model
  const limits = limitsOf(model)
  return defineModel({
    id: `bytedance/${model.name}`,
    title: model.title,
    gives: 'video',
    roles: ['image_to_video'],
    params: params(
      {
        content: contentField(limits),
        resolution: choice(model.resolutions, { title: 'Resolution', default: model.resolution }),
        ratio: choice(RATIOS, {
          title: 'Ratio',
          description: 'adaptive: the ratio of the picture.',
          default: 'adaptive',
        }),
        duration: durationField(duration),
        ...model.fields,
        watermark: bool({ title: 'Watermark', default: false }),
        execution_expires_after: int({
          title: 'Give up after',
          description: 'Seconds after which BytePlus drops the task; it would wait two days by itself.',
          min: 3_600,
          max: 259_200,
        }),
        safety_identifier: text({
          title: 'End user',
          description:
            'A stable id of your user. At BytePlus it takes the place of the mark by which a task is found again when the answer to its submit is lost; the step may then end as outcome_unknown.',
          max: 64,
        }),
      },
      ['content'],
    ),
    pictures: [{ name: 'content', slot: 'first' }],
    inputs: given => contentInputs(given).inputs,
    rules: (given, tell, use) => rules(model, given, tell, use),
    aliases: {
      prompt: 'The prompt stands in content: [{"type":"text","text":…}].',
      image: 'Pictures stand in content: [{"type":"image_url","image_url":{"url":…}}].',
      image_url: 'Pictures stand in content: [{"type":"image_url","image_url":{"url":…}}].',
      aspect_ratio: 'Seedance calls it ratio.',
      seconds: 'Seedance calls it duration.',
      camerafixed: 'Seedance calls it camera_fixed.',
      return_last_frame: 'A step gives one film; its last frame is not kept.',
      callback_url: 'BabyChain calls you at webhook_url, beside input.',
    },
    price: model.price,
    expectedMs: model.expectedMs,
    allowedMs,
    routes: model.routes,
  })
}

/** ModelArk drops a task when its time is up, two days by itself: in the flex tier that is what one pays less for. */
function allowedMs(given: JsonObject): number {
  const seconds = numberIn(given, 'execution_expires_after')
  if (seconds !== undefined) return seconds * 1_000
  return given.service_tier === 'flex' ? 48 * 3_600_000 : 0
}

function rules(model: Seedance, given: JsonObject, tell: Tell, use: Use): void {
  const { min, max, auto } = model.duration
  const duration = numberIn(given, 'duration')
  if (duration !== undefined && duration < min && !(auto && duration === -1)) {
    tell('/duration', 'minimum', `duration must be ${min} to ${max} seconds${auto ? ', or -1 for automatic' : ''}`)
  }
  const frames = numberIn(given, 'frames')
  if (frames !== undefined && (frames - 25) % 4 !== 0) {
    const below = frames - ((frames - 25) % 4)
    tell('/frames', 'multiple_of', 'frames must be 25 + 4n', `Take ${below} or ${below + 4}.`)
  }
  contentRules(limitsOf(model), given, tell, use)
  const references = contentInputs(given).inputs.some(input => input.slot === 'reference')
  if (given.camera_fixed !== undefined && references) {
    tell('/camera_fixed', 'conflict', 'camera_fixed does not go with references', 'Leave it out.')
  }
}

interface TokenPrice {
  /** US dollars a million tokens. */
  silent: number
  audio: number
  /** No list names it: good for an estimate, not for a bill. */
  guessed?: true
  special?: Record<string, string>
}

/**
 * ModelArk counts tokens: seconds × width × height × 24 / 1024 (providers.md 2.5), and tells them of a finished film. A
 * draft costs less than that, nobody says how much; what an adaptive film costs goes by its picture.
 */
function perToken({ silent, audio, guessed, special }: TokenPrice): Price {
  return (given, call) => {
    const { counted } = call
    if (counted !== undefined && (guessed || given.draft === true)) return null
    const tokens = counted === undefined ? expectedTokens(given, call, special) : { most: counted, isCertain: true }
    const perMillion = given.generate_audio === true ? audio : silent
    const half = given.service_tier === 'flex' ? 0.5 : 1
    if (tokens === null) return null
    const usd = (tokens.most / 1e6) * perMillion * half
    return tokens.isCertain ? usd : { atMost: usd }
  }
}

function expectedTokens(
  given: JsonObject,
  call: Call,
  special: TokenPrice['special'],
): { most: number; isCertain: boolean } | null {
  const frames = numberIn(given, 'frames')
  const duration = frames === undefined ? (numberIn(given, 'duration') ?? -1) : frames / 24
  const ratio = textIn(given, 'ratio') ?? 'adaptive'
  const pixels = pixelsOf(textIn(given, 'resolution') ?? '', ratio, firstFrame(given, call), special)
  if (duration <= 0 || pixels === undefined) return null
  const read = secondsRead(given)
  return {
    most: ((duration + read) * pixels.most * 24) / 1024,
    isCertain: pixels.isCertain && given.draft !== true && read === 0,
  }
}

/** Seconds of reference films together, which are billed as those that are filmed: how long they are nobody knows, at most 15. */
function secondsRead(given: JsonObject): number {
  return contentInputs(given).clips.some(({ type }) => type === 'video_url') ? 15 : 0
}

/** The shapes that the first frame may have; beside references the picture of the step before is none. */
function firstFrame(given: JsonObject, { pictures }: Call): readonly Shape[] {
  const { inputs, clips } = contentInputs(given)
  const hasReferences = clips.length > 0 || inputs.some(({ slot }) => slot === 'reference')
  return hasReferences ? [] : (pictures[0] ?? [])
}

/** A host's price a second at one resolution; others are unknown. */
const perSecondAt =
  (resolution: string, usd: number): Price =>
  given => {
    const duration = numberIn(given, 'duration') ?? -1
    const read = secondsRead(given)
    if (given.resolution !== resolution || duration <= 0) return null
    return read > 0 ? { atMost: (duration + read) * usd } : duration * usd
  }

const generation1Fields = {
  seed: seed(-1),
  camera_fixed: cameraFixed,
  service_tier: choice(['default', 'flex'], {
    title: 'Service tier',
    description: 'flex: half the price, hours of waiting.',
    default: 'default',
  }),
}

const TO_12 = { min: 2, max: 12 }
const TO_15 = { min: 4, max: 15 }
const TO_30 = { min: 4, max: 30 }

/** What the models of a generation have in common. */
const generation1 = {
  generation: '1',
  resolutions: ['480p', '720p', '1080p'],
  resolution: '1080p',
  duration: { ...TO_12, standard: 5, auto: false },
  lastFrame: true,
  references: 0,
  fields: {
    ...generation1Fields,
    frames: int({
      title: 'Frames',
      description: '25 + 4n frames at 24 a second; wins over the duration.',
      min: 29,
      max: 289,
      examples: [121],
    }),
  },
  price: unknownPrice,
} as const

const generation2 = {
  generation: '2',
  resolutions: ['480p', '720p'],
  resolution: '720p',
  duration: { ...TO_15, standard: 5, auto: true },
  lastFrame: true,
  references: 9,
  fields: {
    generate_audio: generateAudio,
    priority: int({ title: 'Priority', description: '9 goes first within your account.', min: 0, max: 9, default: 0 }),
  },
  price: unknownPrice,
} as const

/** Expected times: the seed's own run took 47 s for a film of 3 s; generation 2 takes minutes. */
export const SEEDANCE_MODELS: readonly Model[] = [
  seedance({
    name: 'seedance-1.5-pro',
    title: 'Seedance 1.5 Pro',
    generation: '1.5',
    resolutions: ['480p', '720p', '1080p'],
    resolution: '720p',
    /** The maker's page says 4 to 12; Replicate films from 2, and the seed's request asks for 3. */
    duration: { ...TO_12, standard: 5, auto: true },
    lastFrame: true,
    references: 0,
    fields: {
      ...generation1Fields,
      generate_audio: generateAudio,
      draft: bool({ title: 'Draft', description: 'A cheap preview.', default: false }),
    },
    price: perToken({ silent: 1.2, audio: 2.4 }),
    expectedMs: 60_000,
    routes: [
      ark('seedance-1-5-pro-251215', { min: 4, max: 12 }),
      falSeedance('fal-ai/bytedance/seedance/v1.5/pro/image-to-video', { min: 4, max: 12 }),
      replicateSeedance('bytedance/seedance-1.5-pro', { ...TO_12, resolution: '720p' }),
    ],
  }),
  seedance({
    name: 'seedance-2.0',
    title: 'Seedance 2.0',
    ...generation2,
    resolutions: ['480p', '720p', '1080p', '4k'],
    /** fal's page asks $14 a million tokens, twice BytePlus' price (providers.md 11.3.8). */
    price: perToken({ silent: 7, audio: 7, guessed: true }),
    expectedMs: 150_000,
    routes: [
      ark('dreamina-seedance-2-0-260128', TO_15),
      falReference(
        'bytedance/seedance-2.0',
        { ...TO_15, resolutions: ['480p', '720p', '1080p'] },
        perToken({ silent: 14, audio: 14 }),
      ),
      replicateSeedance2('bytedance/seedance-2.0'),
      runwaySeedance('seedance2', ['480p', '720p', '1080p', '4k'], TO_15),
    ],
  }),
  seedance({
    name: 'seedance-2.0-fast',
    title: 'Seedance 2.0 fast',
    ...generation2,
    expectedMs: 90_000,
    routes: [
      ark('dreamina-seedance-2-0-fast-260128', TO_15),
      falReference('bytedance/seedance-2.0/fast', { ...TO_15, resolutions: ['480p', '720p'] }),
      replicateSeedance2('bytedance/seedance-2.0-fast'),
      runwaySeedance('seedance2_fast', ['480p', '720p'], TO_15),
    ],
  }),
  seedance({
    name: 'seedance-2.0-mini',
    title: 'Seedance 2.0 mini',
    ...generation2,
    expectedMs: 60_000,
    routes: [
      ark('dreamina-seedance-2-0-mini-260615', TO_15),
      falReference('bytedance/seedance-2.0/mini', { ...TO_15, resolutions: ['480p', '720p'] }),
      runwaySeedance('seedance2_mini', ['480p', '720p'], TO_15),
    ],
  }),
  seedance({
    name: 'seedance-2.5',
    title: 'Seedance 2.5',
    ...generation2,
    resolutions: ['480p', '720p', '1080p'],
    duration: { ...TO_30, standard: -1, auto: true },
    price: perToken({ silent: 10.7, audio: 10.7, special: SIZES_2_5 }),
    expectedMs: 240_000,
    routes: [
      ark('dreamina-seedance-2-5-260628', TO_30),
      falReference(
        'bytedance/seedance-2.5',
        { ...TO_30, resolutions: ['480p', '720p', '1080p'] },
        perSecondAt('720p', 0.47),
      ),
      runwaySeedance('seedance2_5', ['480p', '720p', '1080p'], TO_30, SIZES_2_5),
    ],
  }),
  seedance({
    name: 'seedance-1-pro',
    title: 'Seedance 1.0 Pro',
    ...generation1,
    expectedMs: 60_000,
    routes: [
      ark('seedance-1-0-pro-250528', TO_12),
      falSeedance('fal-ai/bytedance/seedance/v1/pro/image-to-video', { ...TO_12, frames: true }),
      replicateSeedance('bytedance/seedance-1-pro', { ...TO_12, resolution: null }),
    ],
  }),
  seedance({
    name: 'seedance-1-pro-fast',
    title: 'Seedance 1.0 Pro fast',
    ...generation1,
    lastFrame: false,
    expectedMs: 30_000,
    routes: [
      ark('seedance-1-0-pro-fast-251015', TO_12),
      falSeedance(
        'fal-ai/bytedance/seedance/v1/pro/fast/image-to-video',
        { ...TO_12, frames: true },
        /** $1.0 a million tokens, says fal's page of it. */
        perToken({ silent: 1, audio: 1 }),
      ),
    ],
  }),
  seedance({
    name: 'seedance-1-lite',
    title: 'Seedance 1.0 Lite',
    ...generation1,
    resolution: '720p',
    references: 4,
    expectedMs: 40_000,
    routes: [
      ark('seedance-1-0-lite-i2v-250428', TO_12),
      falSeedance(
        'fal-ai/bytedance/seedance/v1/lite/image-to-video',
        { ...TO_12, frames: true },
        undefined,
        'fal-ai/bytedance/seedance/v1/lite/reference-to-video',
      ),
      replicateSeedance('bytedance/seedance-1-lite', { ...TO_12, resolution: null }),
    ],
  }),
]
