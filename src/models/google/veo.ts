/**
 * Google's Veo 3.1: films from a picture (providers.md 6.2, other hosts 3.5, 4.4 and 7, mapping 11.2).
 *
 * 1. Names are those of Google's own SDK: `image`, `lastFrame`, `referenceImages`, `durationSeconds`.
 * 2. Frames and references exclude each other; where references are given, the picture of the step before is one of them.
 * 3. Veo films always have sound: hosts with a switch are told to switch it on.
 */
import type { JsonObject } from '../../core/json.ts'
import type { Model } from '../../core/model.ts'
import type { Draft } from '../draft.ts'
import { choice, negativePrompt, params, picture, pictures, prompt, seed } from '../fields.ts'
import { fal, replicate, runway, runwayFrames, seedOrNone } from '../hosts.ts'
import {
  defineModel,
  numberIn,
  type PictureField,
  type Price,
  type RouteSpec,
  type Tell,
  textIn,
  type Use,
} from '../model.ts'
import { google, inline } from './data.ts'

interface Veo {
  name: string
  title: string
  id: string
  references: boolean
  resolutions: readonly string[]
  /** US dollars a second with sound; null where our sources do not say. */
  usd: number | null
  expectedMs: number
  hosts: readonly RouteSpec[]
}

function veo(model: Veo): Model {
  const fields: PictureField[] = [
    { name: 'image', slot: 'first' },
    { name: 'lastFrame', slot: 'last' },
    ...(model.references ? [{ name: 'referenceImages', slot: 'reference' as const }] : []),
  ]
  return defineModel({
    id: `google/${model.name}`,
    title: model.title,
    gives: 'video',
    roles: ['image_to_video'],
    params: params({
      prompt: prompt(),
      image: picture({ title: 'First frame' }),
      lastFrame: picture({ title: 'Last frame' }),
      ...(model.references
        ? { referenceImages: pictures(3, { title: 'References', description: 'Things and people that shall appear.' }) }
        : {}),
      aspectRatio: choice(['16:9', '9:16'], { title: 'Aspect ratio', default: '16:9' }),
      resolution: choice(model.resolutions, { title: 'Resolution', description: 'From 1080p: 8 s.', default: '720p' }),
      durationSeconds: choice([4, 6, 8], { title: 'Duration', description: 'Seconds.', default: 8 }),
      negativePrompt: negativePrompt(),
      seed: seed(),
      personGeneration: choice(['allow_all', 'allow_adult', 'dont_allow'], { title: 'People' }),
    }),
    pictures: fields,
    rules,
    aliases: {
      duration: 'Veo calls it durationSeconds.',
      aspect_ratio: 'Veo calls it aspectRatio.',
      negative_prompt: 'Veo calls it negativePrompt.',
      generateAudio: 'Veo films always have sound.',
      generate_audio: 'Veo films always have sound.',
    },
    price: perSecond(model.usd),
    expectedMs: model.expectedMs,
    routes: [google(model.id, writeGoogle), ...model.hosts],
  })
}

function rules(given: JsonObject, tell: Tell, use: Use): void {
  const seconds = numberIn(given, 'durationSeconds') ?? 8
  const resolution = textIn(given, 'resolution') ?? '720p'
  if (resolution !== '720p' && seconds !== 8) {
    tell('/durationSeconds', 'conflict', `${resolution} needs 8 s`, 'Take 8, or 720p.')
  }
  const { referenceImages, image, lastFrame } = given
  if (Array.isArray(referenceImages)) {
    if (image !== undefined) tell('/image', 'conflict', 'frames and references exclude each other')
    if (lastFrame !== undefined) tell('/lastFrame', 'conflict', 'frames and references exclude each other')
    if (seconds !== 8) tell('/durationSeconds', 'conflict', 'references need 8 s', 'Take 8.')
    if (use.wired && referenceImages.length > 2) {
      const detail = 'referenceImages takes at most 2 here: the picture of the step before is the third'
      tell('/referenceImages', 'length', detail)
    }
  }
  if (lastFrame !== undefined && image === undefined && !use.wired) {
    tell('/lastFrame', 'conflict', 'a last frame needs a first frame', 'Give image too.')
  }
}

/** The pictures of a film: frames, or references with the picture of the step before among them. */
function framesOf(draft: Draft): { first?: string; last?: string; references: string[] } {
  const first = draft.one('first')
  const last = draft.one('last')
  const references = draft.take('reference').map(ref => ref.ref)
  if (references.length > 0 && first !== undefined) return { references: [first, ...references], ...some({ last }) }
  return { references, ...some({ first, last }) }
}

const some = (values: Record<string, string | undefined>): Record<string, string> =>
  Object.fromEntries(Object.entries(values).filter((entry): entry is [string, string] => entry[1] !== undefined))

function writeGoogle(draft: Draft): void {
  const { first, last, references } = framesOf(draft)
  const bytes = (ref: string): JsonObject => {
    const data = inline(draft, ref)
    return data ? { bytesBase64Encoded: data.data, mimeType: data.mimeType } : {}
  }
  draft.send('instances', [
    {
      prompt: draft.text('prompt') ?? '',
      ...(first === undefined ? {} : { image: bytes(first) }),
      ...(last === undefined ? {} : { lastFrame: bytes(last) }),
      ...(references.length === 0
        ? {}
        : { referenceImages: references.map(ref => ({ image: bytes(ref), referenceType: 'asset' })) }),
    },
  ])
  const names = ['aspectRatio', 'resolution', 'durationSeconds', 'negativePrompt', 'seed', 'personGeneration']
  draft.send('parameters', draft.values(...names))
}

/** fal: an endpoint for each way, durations as `8s`; the references' endpoint knows no seed and no negative prompt. */
const writeFal =
  (host: { references: boolean }) =>
  (draft: Draft): void => {
    const base = draft.providerModel.replace(/\/image-to-video$/, '')
    const { first, last, references } = framesOf(draft)
    draft.copy('prompt')
    if (references.length > 0) {
      if (!host.references) draft.refuse('fal takes no references for this model')
      draft.providerModel = `${base}/reference-to-video`
      draft.send('image_urls', references)
      seedOrNone(draft, false)
    } else {
      if (last !== undefined) {
        draft.providerModel = `${base}/first-last-frame-to-video`
        draft.send('first_frame_url', first)
        draft.send('last_frame_url', last)
      } else draft.send('image_url', first)
      draft.copyAs('negativePrompt', 'negative_prompt')
      draft.copy('seed')
    }
    draft.pinAs('aspectRatio', 'aspect_ratio')
    draft.pin('resolution')
    if (draft.value('resolution') === '4k' && draft.body.image_url !== undefined) {
      draft.refuse('fal films no 4k from one frame')
    }
    draft.send('duration', `${draft.number('durationSeconds')}s`)
    draft.send('generate_audio', true)
  }

function writeReplicate(draft: Draft): void {
  const { first, last, references } = framesOf(draft)
  draft.copy('prompt', 'seed')
  draft.send('image', first)
  draft.send('last_frame', last)
  if (references.length > 0) {
    if (draft.value('aspectRatio') !== '16:9') draft.refuse('replicate takes references in 16:9 only')
    draft.send('reference_images', references)
  }
  draft.pinAs('aspectRatio', 'aspect_ratio')
  draft.pin('resolution')
  if (draft.value('resolution') === '4k') draft.refuse('replicate films up to 1080p')
  draft.pinAs('durationSeconds', 'duration')
  draft.send('generate_audio', true)
  draft.copyAs('negativePrompt', 'negative_prompt')
}

const RUNWAY_RATIOS: Record<string, string> = {
  '16:9 720p': '1280:720',
  '9:16 720p': '720:1280',
  '16:9 1080p': '1920:1080',
  '9:16 1080p': '1080:1920',
}

/** Runway: shorter prompts and no negative one, ratio and resolution in one, no references (providers.md 11.2). */
function writeRunway(draft: Draft): void {
  const words = draft.text('prompt') ?? ''
  if (words.length > 1_000) draft.refuse('runway reads at most 1000 characters')
  draft.send('promptText', words)
  draft.send('promptImage', runwayFrames(draft.one('first'), draft.one('last')))
  const ratio = RUNWAY_RATIOS[`${draft.text('aspectRatio')} ${draft.text('resolution')}`]
  if (ratio === undefined) draft.refuse('runway films up to 1080p')
  draft.send('ratio', ratio)
  draft.pinAs('durationSeconds', 'duration')
  draft.send('audio', true)
  draft.copy('seed')
}

const perSecond =
  (usd: number | null): Price =>
  given =>
    usd === null || given.resolution === '4k' ? null : (numberIn(given, 'durationSeconds') ?? 8) * usd

/** Expected times: a film of 8 s takes one to three minutes. Prices: providers.md 6.2, 3.5; that of 4k is unknown. */
export const VEO_MODELS: readonly Model[] = [
  veo({
    name: 'veo-3.1',
    title: 'Veo 3.1',
    id: 'veo-3.1-generate-preview',
    references: true,
    resolutions: ['720p', '1080p', '4k'],
    usd: 0.4,
    expectedMs: 120_000,
    hosts: [
      fal('fal-ai/veo3.1/image-to-video', writeFal({ references: true })),
      replicate('google/veo-3.1', writeReplicate),
      runway('veo3.1', writeRunway),
    ],
  }),
  veo({
    name: 'veo-3.1-fast',
    title: 'Veo 3.1 Fast',
    id: 'veo-3.1-fast-generate-preview',
    references: false,
    resolutions: ['720p', '1080p', '4k'],
    usd: 0.15,
    expectedMs: 75_000,
    hosts: [
      fal('fal-ai/veo3.1/fast/image-to-video', writeFal({ references: false })),
      replicate('google/veo-3.1-fast', writeReplicate),
      runway('veo3.1_fast', writeRunway),
    ],
  }),
  veo({
    name: 'veo-3.1-lite',
    title: 'Veo 3.1 Lite',
    id: 'veo-3.1-lite-generate-preview',
    references: false,
    resolutions: ['720p', '1080p'],
    usd: null,
    expectedMs: 60_000,
    hosts: [fal('fal-ai/veo3.1/lite/image-to-video', writeFal({ references: false }))],
  }),
]
