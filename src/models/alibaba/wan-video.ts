/**
 * Alibaba's Wan video models and HappyHorse (providers.md 8, other hosts 3.5, 4.4 and 7, mapping 11.2).
 *
 * 1. Two families: up to 2.6 the first frame is `img_url`; from 2.7 on, pictures stand in `media` with their types.
 * 2. Resolutions are tiers with a capital P; fal and Replicate spell them small.
 * 3. From 2.7 on DashScope always makes sound; only Runway can film 3.0 without, or in 480P.
 * 4. The film has the ratio of its first frame; only 3.0 can be told another one.
 */
import { isObject, type JsonObject } from '../../core/json.ts'
import type { Model } from '../../core/model.ts'
import type { Draft, Input, Slot } from '../draft.ts'
import { bool, choice, int, link, negativePrompt, params, picture, prompt, seed } from '../fields.ts'
import { fal, noWatermark, replicate, runway, runwayFrames, seedOrNone } from '../hosts.ts'
import {
  defineModel,
  type ModelSpec,
  numberIn,
  type Price,
  type RouteSpec,
  type Tell,
  textIn,
  type Use,
  unknownPrice,
} from '../model.ts'

const promptExtend = bool({ title: 'Prompt rewriting', default: true })
const watermark = bool({ title: 'Watermark', default: false })
const audioUrl = link({ title: 'Sound', description: 'An https URL of a WAV or MP3 that the film follows.' })
const wanSeed = seed(0, 2_147_483_647)

const resolutionField = (tiers: readonly string[]): JsonObject =>
  choice(tiers, { title: 'Resolution', default: tiers.at(-1) ?? '1080P' })

const secondsField = (min: number, max: number): JsonObject =>
  int({ title: 'Duration', description: 'Seconds.', min, max, default: 5 })

const ALIASES = {
  image: 'Wan calls it img_url, or from 2.7 on media.',
  image_url: 'Wan calls it img_url, or from 2.7 on media.',
  enable_prompt_expansion: 'Wan calls it prompt_extend.',
  size: 'A film from a picture takes resolution.',
}

const film = (spec: Omit<ModelSpec, 'gives' | 'roles' | 'aliases'>): Model =>
  defineModel({ gives: 'video', roles: ['image_to_video'], aliases: ALIASES, ...spec })

/** DashScope's own body: what is text and pictures goes into `input`, the rest into `parameters`. */
const writeDashscope = (draft: Draft): void => {
  const input = draft.values('prompt', 'negative_prompt', 'audio_url')
  const first = draft.one('first')
  if (first !== undefined) input.img_url = first
  draft.send('input', input)
  draft.send(
    'parameters',
    draft.values('resolution', 'duration', 'prompt_extend', 'shot_type', 'audio', 'watermark', 'seed'),
  )
}

const dashscope = (providerModel: string, write: RouteSpec['write']): RouteSpec => ({
  provider: 'dashscope',
  providerModel,
  write,
})

/** fal: small letters, durations as strings, no switch for the sound. */
const writeFal =
  (durations: readonly number[], maxPrompt: number) =>
  (draft: Draft): void => {
    const words = draft.text('prompt')
    if (words === undefined) draft.refuse('fal needs a prompt')
    else if (words.length > maxPrompt) draft.refuse(`fal reads at most ${maxPrompt} characters`)
    draft.copy('prompt', 'negative_prompt', 'audio_url', 'seed')
    draft.send('image_url', draft.one('first'))
    draft.send('resolution', draft.text('resolution')?.toLowerCase())
    const seconds = draft.number('duration') ?? 5
    if (!durations.includes(seconds)) draft.refuse(`fal films ${durations.join(', ')} seconds`)
    draft.send('duration', String(seconds))
    draft.pinAs('prompt_extend', 'enable_prompt_expansion')
    const shots = draft.text('shot_type')
    if (shots !== undefined) draft.send('multi_shots', shots === 'multi')
    draft.always('audio', true, 'it always makes sound')
    noWatermark(draft)
  }

/** Replicate: as fal, durations as numbers. */
const writeReplicate =
  (durations: readonly number[]) =>
  (draft: Draft): void => {
    if (draft.given('prompt') === undefined) draft.refuse('replicate needs a prompt')
    draft.copy('prompt', 'negative_prompt', 'seed')
    draft.send('image', draft.one('first'))
    draft.send('resolution', draft.text('resolution')?.toLowerCase())
    const seconds = draft.number('duration') ?? 5
    if (!durations.includes(seconds)) draft.refuse(`replicate films ${durations.join(', ')} seconds`)
    draft.send('duration', seconds)
    draft.pinAs('prompt_extend', 'enable_prompt_expansion')
    draft.always('shot_type', 'single', 'it films one shot')
    draft.always('audio', true, 'it always makes sound')
    noWatermark(draft)
  }

const img = [{ name: 'img_url', slot: 'first' as const }]

const upTo26 = (tiers: readonly string[], duration: JsonObject, more: Record<string, JsonObject>): JsonObject =>
  params(
    {
      prompt: prompt(2_000),
      negative_prompt: negativePrompt(500),
      img_url: picture({ title: 'First frame' }),
      audio_url: audioUrl,
      resolution: resolutionField(tiers),
      duration,
      ...more,
      prompt_extend: promptExtend,
      audio: bool({ title: 'Sound', default: true }),
      watermark,
      seed: wanSeed,
    },
    [],
  )

const shotType = { shot_type: choice(['single', 'multi'], { title: 'Shots', default: 'single' }) }

const wan26 = (name: string, title: string, id: string, expectedMs: number, hosts: readonly RouteSpec[]): Model =>
  film({
    id: `wan/${name}`,
    title,
    params: upTo26(['720P', '1080P'], secondsField(2, 15), shotType),
    pictures: img,
    price: unknownPrice,
    expectedMs,
    routes: [dashscope(id, writeDashscope), ...hosts],
  })

/** `media`: pictures with their types; films and sounds as links from 3.0 on. */
function mediaField(types: readonly string[]): JsonObject {
  const pictureTypes = types.filter(type => !/video|audio/.test(type))
  const linkTypes = types.filter(type => /video|audio/.test(type))
  const variant = (type: string, url: JsonObject): JsonObject => ({
    type: 'object',
    properties: { type: { type: 'string', const: type, title: 'Type' }, url },
    required: ['type', 'url'],
    additionalProperties: false,
  })
  return {
    type: 'array',
    title: 'Media',
    description: `Pictures that no step before provides: ${types.join(', ')}.`,
    items: {
      anyOf: [
        ...pictureTypes.map(type => variant(type, picture({ title: 'Picture' }))),
        ...linkTypes.map(type => variant(type, link({ title: 'File', description: 'An https URL.' }))),
      ],
    },
    minItems: 1,
    maxItems: MOST_MEDIA,
  }
}

/** Pictures, films and sounds of one call. */
const MOST_MEDIA = 9

const SLOT_OF: Record<string, Slot> = { first_frame: 'first', last_frame: 'last', reference_image: 'reference' }

function mediaInputs(given: JsonObject): Input[] {
  const { media } = given
  if (!Array.isArray(media)) return []
  return media.flatMap((one, i): Input[] => {
    if (!isObject(one) || typeof one.url !== 'string') return []
    const slot = SLOT_OF[textIn(one, 'type') ?? '']
    return slot === undefined ? [] : [{ pointer: `/media/${i}/url`, value: one.url, slot }]
  })
}

/** Films and sounds in `media`, as the caller gave them. */
function clipsIn(draft: Draft): JsonObject[] {
  const media = draft.given('media')
  return (Array.isArray(media) ? media : [])
    .filter(isObject)
    .filter(one => SLOT_OF[textIn(one, 'type') ?? ''] === undefined)
}

function mediaRules(given: JsonObject, tell: Tell, use: Use): void {
  const inputs = mediaInputs(given)
  const count = (slot: Slot): number => inputs.filter(input => input.slot === slot).length
  const items = Array.isArray(given.media) ? given.media.length : 0
  const clips = items - inputs.length
  if (use.wired && items === MOST_MEDIA) {
    tell('/media', 'length', `media takes at most ${MOST_MEDIA - 1} beside the picture from the step before`)
  }
  if (count('first') > 1 || count('last') > 1) tell('/media', 'conflict', 'media takes one first and one last frame')
  if (count('last') > 0 && count('first') === 0 && !use.wired) {
    tell('/media', 'conflict', 'a last frame needs a first frame')
  }
  if (count('first') + count('last') > 0 && count('reference') + clips > 0) {
    tell('/media', 'conflict', 'frames and references exclude each other', 'Give either, not both.')
  }
}

function writeDashscopeMedia(draft: Draft): void {
  const input = draft.values('prompt', 'negative_prompt', 'audio_url')
  const clips = clipsIn(draft)
  const references = draft.take('reference').map(ref => ref.ref)
  const first = draft.one('first')
  const last = draft.one('last')
  const asReference = references.length + clips.length > 0
  const item = (type: string, url: string | undefined): JsonObject[] => (url === undefined ? [] : [{ type, url }])
  input.media = [
    ...item(asReference ? 'reference_image' : 'first_frame', first),
    ...item('last_frame', last),
    ...references.flatMap(url => item('reference_image', url)),
    ...clips,
  ]
  draft.send('input', input)
  if (draft.text('resolution') === '480P') draft.refuse('dashscope films this model in 720P or 1080P')
  draft.send('parameters', draft.values('resolution', 'ratio', 'duration', 'prompt_extend', 'watermark', 'seed'))
  draft.always('audio', true, 'it always makes sound')
}

function writeFal27(draft: Draft): void {
  draft.given('media')
  draft.copy('prompt', 'negative_prompt', 'audio_url', 'seed')
  draft.send('image_url', draft.one('first'))
  draft.send('end_image_url', draft.one('last'))
  draft.send('resolution', draft.text('resolution')?.toLowerCase())
  draft.send('duration', String(draft.number('duration')))
  draft.pinAs('prompt_extend', 'enable_prompt_expansion')
  noWatermark(draft)
}

/** Runway's ratios for 3.0 with references; with frames it takes the picture's own, as `auto_720p`. */
const RUNWAY_RATIOS: Record<string, Record<string, string>> = {
  '480P': { '16:9': '832:480', '4:3': '720:544', '1:1': '624:624', '3:4': '544:720', '9:16': '480:832' },
  '720P': { '16:9': '1280:720', '4:3': '1104:832', '1:1': '960:960', '3:4': '832:1104', '9:16': '720:1280' },
  '1080P': { '16:9': '1920:1080', '4:3': '1648:1248', '1:1': '1440:1440', '3:4': '1248:1648', '9:16': '1080:1920' },
}

function writeRunway3(draft: Draft): void {
  if (draft.given('prompt') === undefined) draft.refuse('runway needs a prompt')
  draft.copyAs('prompt', 'promptText')
  const clips = clipsIn(draft)
  const references = draft.take('reference').map(ref => ref.ref)
  const first = draft.one('first')
  const last = draft.one('last')
  const asReference = references.length + clips.length > 0
  draft.send(
    'promptImage',
    asReference
      ? [...(first === undefined ? [] : [first]), ...references].map(uri => ({ uri }))
      : runwayFrames(first, last),
  )
  sendRunwayClips(draft, clips)
  const tier = draft.text('resolution') ?? '1080P'
  const ratio = draft.text('ratio') ?? 'adaptive'
  const named = ratio === 'adaptive' ? `auto_${tier.toLowerCase()}` : RUNWAY_RATIOS[tier]?.[ratio]
  if (ratio !== 'adaptive' && !asReference) draft.refuse('runway takes the ratio of the first frame')
  draft.send('ratio', named)
  draft.pin('duration', 'audio')
  draft.always('prompt_extend', true, 'it rewrites prompts as it likes')
  seedOrNone(draft, false)
  noWatermark(draft)
}

function sendRunwayClips(draft: Draft, clips: readonly JsonObject[]): void {
  const of = (type: string, as: string): JsonObject[] =>
    clips.filter(clip => clip.type === type).map(clip => ({ type: as, uri: clip.url ?? '' }))
  const films = of('reference_video', 'video')
  const sounds = of('reference_audio', 'audio')
  if (films.length > 0) draft.send('referenceVideos', films)
  if (sounds.length > 0) draft.send('referenceAudio', sounds)
}

const wan3 = (name: string, title: string, id: string, runwayId: string, expectedMs: number): Model =>
  film({
    id: `wan/${name}`,
    title,
    params: params(
      {
        prompt: prompt(5_000),
        media: mediaField(['first_frame', 'last_frame', 'reference_image', 'reference_video', 'reference_audio']),
        resolution: resolutionField(['480P', '720P', '1080P']),
        ratio: choice(['adaptive', '16:9', '9:16', '1:1', '4:3', '3:4'], { title: 'Ratio', default: 'adaptive' }),
        duration: secondsField(2, 15),
        prompt_extend: promptExtend,
        audio: bool({ title: 'Sound', default: true }),
        watermark,
        seed: wanSeed,
      },
      [],
    ),
    pictures: [{ name: 'media', slot: 'first' }],
    inputs: mediaInputs,
    rules: (given, tell, use) => {
      mediaRules(given, tell, use)
      if (given.prompt) return
      const only = 'needs a prompt: only Runway makes it'
      if (given.audio === false) {
        tell('/prompt', 'required', `a film without sound ${only}`, 'Give a prompt, or leave audio out.')
      }
      if (given.resolution === '480P') {
        tell('/prompt', 'required', `a film in 480P ${only}`, 'Give a prompt, or another resolution.')
      }
    },
    price: unknownPrice,
    expectedMs,
    routes: [dashscope(id, writeDashscopeMedia), runway(runwayId, writeRunway3)],
  })

/** Runway's HappyHorse: prompt, duration, resolution, nothing else. */
function writeRunwayHappyHorse(draft: Draft): void {
  draft.copyAs('prompt', 'promptText')
  draft.send('promptImage', runwayFrames(draft.one('first')))
  draft.send('resolution', draft.text('resolution')?.toLowerCase())
  draft.pin('duration')
  seedOrNone(draft, false)
  noWatermark(draft)
}

/** fal's price a second; DashScope's own are in none of our sources. */
const falPerSecond =
  (usd: number): Price =>
  given =>
    (numberIn(given, 'duration') ?? 5) * usd

/** Expected times: a film of 5 s takes two to five minutes; "Wan can take long" (providers.md 13). */
export const WAN_VIDEO_MODELS: readonly Model[] = [
  wan3('3.0', 'Wan 3.0', 'wan3.0-video', 'wan3', 240_000),
  wan3('3.0-prime', 'Wan 3.0 Prime', 'wan3.0-video-prime', 'wan3_prime', 300_000),
  film({
    id: 'wan/2.7-i2v',
    title: 'Wan 2.7 image to video',
    params: params(
      {
        prompt: prompt(5_000),
        negative_prompt: negativePrompt(500),
        media: mediaField(['first_frame', 'last_frame']),
        audio_url: audioUrl,
        resolution: resolutionField(['720P', '1080P']),
        duration: secondsField(2, 15),
        prompt_extend: promptExtend,
        watermark,
        seed: wanSeed,
      },
      [],
    ),
    pictures: [{ name: 'media', slot: 'first' }],
    inputs: mediaInputs,
    rules: mediaRules,
    price: unknownPrice,
    expectedMs: 240_000,
    routes: [
      dashscope('wan2.7-i2v', writeDashscopeMedia),
      fal('fal-ai/wan/v2.7/image-to-video', writeFal27, falPerSecond(0.1)),
    ],
  }),
  wan26('2.6-i2v', 'Wan 2.6 image to video', 'wan2.6-i2v', 200_000, [
    fal('wan/v2.6/image-to-video', writeFal([5, 10, 15], 800)),
    replicate('wan-video/wan-2.6-i2v', writeReplicate([5, 10, 15])),
  ]),
  wan26('2.6-i2v-flash', 'Wan 2.6 image to video, flash', 'wan2.6-i2v-flash', 100_000, [
    fal('wan/v2.6/image-to-video/flash', writeFal([5, 10, 15], 800)),
  ]),
  film({
    id: 'wan/2.5-i2v',
    title: 'Wan 2.5 image to video',
    params: upTo26(
      ['480P', '720P', '1080P'],
      choice([5, 10], { title: 'Duration', description: 'Seconds.', default: 5 }),
      {},
    ),
    pictures: img,
    price: unknownPrice,
    expectedMs: 180_000,
    routes: [
      dashscope('wan2.5-i2v-preview', writeDashscope),
      fal('fal-ai/wan-25-preview/image-to-video', writeFal([5, 10], 800)),
      replicate('wan-video/wan-2.5-i2v', writeReplicate([5, 10])),
    ],
  }),
  film({
    id: 'wan/happyhorse-1.0-i2v',
    title: 'HappyHorse 1.0 image to video',
    params: params(
      {
        prompt: prompt(2_500),
        img_url: picture({ title: 'First frame' }),
        resolution: resolutionField(['720P', '1080P']),
        duration: secondsField(3, 15),
        watermark,
        seed: wanSeed,
      },
      [],
    ),
    pictures: img,
    price: unknownPrice,
    expectedMs: 180_000,
    routes: [dashscope('happyhorse-1.0-i2v', writeDashscope), runway('happyhorse_1_0', writeRunwayHappyHorse)],
  }),
]
