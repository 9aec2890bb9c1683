/**
 * ByteDance Seedance: films from a picture (providers.md 2.4, mapping 11.2). Its translations are in seedance-hosts.ts.
 *
 * 1. `content` holds the prompt and the pictures; a picture's `role` says what it is for. Where a step before gives the
 *    first frame, the text alone is enough.
 * 2. Frames (first, last) and references (pictures, films, sounds) exclude each other. Where a step before gives a picture
 *    and the caller adds references, that picture is the first reference.
 * 3. Fields that one generation does not know are unknown fields of its models.
 */
import type { Json, JsonObject } from '../../core/json.ts'
import type { Model } from '../../core/ports.ts'
import { isObject } from '../check.ts'
import type { Input, Slot } from '../draft.ts'
import { bool, choice, int, link, params, picture, prompt, seed, text } from '../fields.ts'
import { defineModel, numberIn, type Price, type RouteSpec, type Tell, textIn, type Use } from '../model.ts'
import {
  ark,
  falReference,
  falSeedance,
  type Generation,
  replicateSeedance,
  replicateSeedance2,
  runwaySeedance,
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

const RATIOS = ['16:9', '4:3', '1:1', '3:4', '9:16', '21:9', 'adaptive']

/** Reference films and sounds that generation 2 reads. */
const MOST_CLIPS = 3

const entry = (
  type: string,
  title: string,
  properties: Record<string, JsonObject>,
  required: string[],
): JsonObject => ({
  type: 'object',
  title,
  properties: { type: { type: 'string', const: type, default: type }, ...properties },
  required: ['type', ...required],
  additionalProperties: false,
})

const wrapped = (field: JsonObject): JsonObject => ({
  type: 'object',
  properties: { url: field },
  required: ['url'],
  additionalProperties: false,
})

const role = (roles: readonly string[]): JsonObject => choice(roles, { title: 'Role' })

function contentField(lastFrame: boolean, references: number, clips: boolean): JsonObject {
  const roles = ['first_frame', ...(lastFrame ? ['last_frame'] : []), ...(references > 0 ? ['reference_image'] : [])]
  const variants = [
    entry('text', 'Text', { text: prompt() }, ['text']),
    entry('image_url', 'Picture', { image_url: wrapped(picture({ title: 'Picture' })), role: role(roles) }, [
      'image_url',
    ]),
  ]
  if (clips) {
    const film = wrapped(link({ title: 'Film', description: 'An https URL.' }))
    const sound = wrapped(link({ title: 'Sound', description: 'An https URL.' }))
    variants.push(
      entry('video_url', 'Film', { video_url: film, role: role(['reference_video']) }, ['video_url']),
      entry('audio_url', 'Sound', { audio_url: sound, role: role(['reference_audio']) }, ['audio_url']),
    )
  }
  return {
    type: 'array',
    title: 'Content',
    description: 'The prompt as {"type":"text"}, and pictures that no step before provides.',
    items: { anyOf: variants },
    minItems: 1,
    maxItems: 1 + 2 + references + (clips ? 2 * MOST_CLIPS : 0),
    examples: [[{ type: 'text', text: 'Slow orbit around the product' }]],
  }
}

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

export const cameraFixed = bool({ title: 'Fixed camera', default: false })
export const generateAudio = bool({ title: 'Sound', description: 'Films with sound cost more.', default: true })

function seedance(model: Seedance): Model {
  const { duration } = model
  const clips = model.generation === '2'
  return defineModel({
    id: `bytedance/${model.name}`,
    title: model.title,
    gives: 'video',
    roles: ['image_to_video'],
    params: params(
      {
        content: contentField(model.lastFrame, model.references, clips),
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
        safety_identifier: text({ title: 'End user', description: 'A stable id of your user.', max: 64 }),
      },
      ['content'],
    ),
    pictureField: '/content',
    pictureFields: [],
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
    routes: model.routes,
  })
}

const SLOT_OF: Record<string, Slot> = { first_frame: 'first', last_frame: 'last', reference_image: 'reference' }

/** The pictures in `content`, and everything else that stands there. */
export function contentInputs(given: JsonObject): { inputs: Input[]; texts: string[]; clips: JsonObject[] } {
  const found: { inputs: Input[]; texts: string[]; clips: JsonObject[] } = { inputs: [], texts: [], clips: [] }
  const content = Array.isArray(given.content) ? given.content : []
  content.forEach((item: Json, i) => {
    if (!isObject(item)) return
    if (item.type === 'text' && typeof item.text === 'string') found.texts.push(item.text)
    else if (item.type === 'image_url' && isObject(item.image_url) && typeof item.image_url.url === 'string') {
      const slot = SLOT_OF[textIn(item, 'role') ?? 'first_frame'] ?? 'first'
      found.inputs.push({ pointer: `/content/${i}/image_url/url`, value: item.image_url.url, slot })
    } else found.clips.push(item)
  })
  return found
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
  contentRules(model, given, tell, use)
}

function contentRules(model: Seedance, given: JsonObject, tell: Tell, use: Use): void {
  const { inputs, texts, clips } = contentInputs(given)
  const of = (slot: Slot): Input[] => inputs.filter(input => input.slot === slot)
  const content = Array.isArray(given.content) ? given.content : []
  const count = (type: string): number => clips.filter(item => item.type === type).length
  if (texts.length > 1) tell('/content', 'conflict', 'content takes one text', 'Join the texts.')
  if (of('first').length > 1) {
    tell('/content', 'conflict', 'content takes one first frame', 'Give every picture its role.')
  }
  if (of('last').length > 1) tell('/content', 'conflict', 'content takes one last frame')
  if (of('last').length > 0 && of('first').length === 0 && !use.wired) {
    tell('/content', 'conflict', 'a last frame needs a first frame', 'Add a picture with role first_frame.')
  }
  const frames = of('first').length + of('last').length
  const references = of('reference').length + clips.length
  if (frames > 0 && references > 0) {
    tell('/content', 'conflict', 'frames and references exclude each other', 'Give either, not both.')
  }
  const wiredReference = use.wired && references > 0 ? 1 : 0
  if (of('reference').length + wiredReference > model.references && references > 0) {
    const also = wiredReference > 0 ? ', the one from the step before included' : ''
    tell('/content', 'length', `content takes at most ${model.references} reference pictures${also}`)
  }
  for (const type of ['video_url', 'audio_url']) {
    if (count(type) > MOST_CLIPS) tell('/content', 'length', `content takes at most ${MOST_CLIPS} of ${type}`)
  }
  if (count('audio_url') > 0 && of('reference').length + count('video_url') + wiredReference === 0) {
    tell('/content', 'conflict', 'a reference sound needs a reference picture or film')
  }
  if (given.camera_fixed !== undefined && references > 0) {
    tell('/camera_fixed', 'conflict', 'camera_fixed does not go with references', 'Leave it out.')
  }
  if (content.length > 0 && texts.length === 0 && !use.wired && inputs.length === 0 && clips.length === 0) {
    tell('/content', 'required', 'content needs a text or a picture')
  }
}

/** Pixels of a tier; Seedance keeps them over all ratios. */
const PIXELS: Record<string, number> = { '480p': 409_920, '720p': 921_600, '1080p': 2_073_600, '4k': 8_294_400 }

/** ModelArk counts tokens: seconds × width × height × 24 / 1024 (providers.md 2.5). US dollars a million tokens. */
export function perToken(usd: { silent: number; audio: number } | null): Price {
  return given => {
    const seconds = numberIn(given, 'frames') !== undefined ? numberIn(given, 'frames') : undefined
    const duration = seconds !== undefined ? seconds / 24 : (numberIn(given, 'duration') ?? -1)
    const pixels = PIXELS[textIn(given, 'resolution') ?? ''] ?? 0
    if (usd === null || duration <= 0 || pixels === 0) return null
    const perMillion = given.generate_audio === true ? usd.audio : usd.silent
    const half = given.service_tier === 'flex' ? 0.5 : 1
    return ((duration * pixels * 24) / 1024 / 1e6) * perMillion * half
  }
}

/** A host's price a second at one resolution; others are unknown. */
export const perSecondAt =
  (resolution: string, usd: number): Price =>
  given => {
    const duration = numberIn(given, 'duration') ?? -1
    return given.resolution === resolution && duration > 0 ? duration * usd : null
  }

const generation1 = {
  seed: seed(-1),
  camera_fixed: cameraFixed,
  service_tier: choice(['default', 'flex'], {
    title: 'Service tier',
    description: 'flex: half the price, hours of waiting.',
    default: 'default',
  }),
}

const generation2 = {
  generate_audio: generateAudio,
  priority: int({ title: 'Priority', description: '9 goes first within your account.', min: 0, max: 9, default: 0 }),
}

/** Expected times: the seed's own run took 47 s for a film of 3 s; generation 2 takes minutes. */
export const SEEDANCE_MODELS: readonly Model[] = [
  seedance({
    name: 'seedance-1.5-pro',
    title: 'Seedance 1.5 Pro',
    generation: '1.5',
    resolutions: ['480p', '720p', '1080p'],
    resolution: '720p',
    /** The maker's page says 4 to 12; Replicate films from 2, and the seed's request asks for 3. */
    duration: { min: 2, max: 12, standard: 5, auto: true },
    lastFrame: true,
    references: 0,
    fields: {
      ...generation1,
      generate_audio: generateAudio,
      draft: bool({ title: 'Draft', description: 'A cheap preview.', default: false }),
    },
    price: perToken({ silent: 1.2, audio: 2.4 }),
    expectedMs: 60_000,
    routes: [
      ark('seedance-1-5-pro-251215', { min: 4, max: 12 }),
      falSeedance('fal-ai/bytedance/seedance/v1.5/pro/image-to-video', { min: 4, max: 12 }),
      replicateSeedance('bytedance/seedance-1.5-pro', { min: 2, max: 12, resolution: '720p', audio: true }),
    ],
  }),
  seedance({
    name: 'seedance-2.0',
    title: 'Seedance 2.0',
    generation: '2',
    resolutions: ['480p', '720p', '1080p', '4k'],
    resolution: '720p',
    duration: { min: 4, max: 15, standard: 5, auto: true },
    lastFrame: true,
    references: 9,
    fields: generation2,
    /** Twice as dear at fal (providers.md 11.3.8): $.30 a second there at 720p. */
    price: perToken({ silent: 7, audio: 7 }),
    expectedMs: 150_000,
    routes: [
      ark('dreamina-seedance-2-0-260128', { min: 4, max: 15 }),
      falReference(
        'bytedance/seedance-2.0',
        { min: 4, max: 15, resolutions: ['480p', '720p', '1080p'] },
        perSecondAt('720p', 0.3),
      ),
      replicateSeedance2('bytedance/seedance-2.0'),
      runwaySeedance('seedance2', ['480p', '720p', '1080p', '4k']),
    ],
  }),
]
