/**
 * Kling's video models (providers.md 9.1 and 3.5; Replicate's fields from 4.4 and its model pages).
 *
 * 1. Names are Kling's own: `image`, `image_tail`, `sound`; durations are strings.
 * 2. Nothing here speaks Kling's own API: the hosts are fal and Replicate, and what neither can be told is no parameter here.
 */
import type { JsonObject } from '../core/json.ts'
import type { Model } from '../core/model.ts'
import type { Draft } from './draft.ts'
import { choice, negativePrompt, num, params, picture, prompt } from './fields.ts'
import { fal, replicate } from './hosts.ts'
import { defineModel, type Price, type RouteSpec, type Tell, textIn, type Use } from './model.ts'

const PROMPT_LENGTH = 2_500

interface Kling {
  name: string
  title: string
  durations: readonly string[]
  fields?: Record<string, JsonObject>
  /** US dollars a second. */
  usd: { silent: number; sound: number }
  expectedMs: number
  routes: readonly RouteSpec[]
}

function kling(model: Kling): Model {
  return defineModel({
    id: `kling/${model.name}`,
    title: model.title,
    gives: 'video',
    roles: ['image_to_video'],
    params: params({
      prompt: prompt(PROMPT_LENGTH),
      negative_prompt: negativePrompt(PROMPT_LENGTH),
      image: picture({ title: 'First frame' }),
      image_tail: picture({ title: 'Last frame' }),
      duration: choice(model.durations, { title: 'Duration', description: 'Seconds.', default: '5' }),
      sound: choice(['off', 'on'], { title: 'Sound', description: 'Films with sound cost more.', default: 'off' }),
      ...model.fields,
    }),
    pictures: [
      { name: 'image', slot: 'first' },
      { name: 'image_tail', slot: 'last' },
    ],
    rules,
    aliases: {
      generate_audio: 'Kling calls it sound: "on" or "off".',
      start_image: 'Kling calls it image.',
      start_image_url: 'Kling calls it image.',
      end_image: 'Kling calls it image_tail.',
      mode: 'The mode is part of the model: 3-std, 3-pro.',
      aspect_ratio: 'The film has the ratio of its picture.',
    },
    price: perSecond(model.usd),
    expectedMs: model.expectedMs,
    routes: model.routes,
  })
}

function rules(given: JsonObject, tell: Tell, use: Use): void {
  if (given.image_tail !== undefined && given.image === undefined && !use.wired) {
    tell('/image_tail', 'conflict', 'a last frame needs a first frame', 'Give image too.')
  }
}

/** fal adds words of its own to an empty negative prompt, so the caller's is always sent. */
function writeFal(draft: Draft): void {
  draft.copy('prompt')
  draft.send('start_image_url', draft.one('first'))
  draft.send('end_image_url', draft.one('last'))
  draft.pin('duration', 'cfg_scale')
  draft.send('negative_prompt', draft.text('negative_prompt') ?? '')
  draft.send('generate_audio', draft.value('sound') === 'on')
}

const writeReplicate =
  (host: { mode: string | null; endImage: boolean }) =>
  (draft: Draft): void => {
    draft.copy('prompt', 'negative_prompt')
    draft.send('start_image', draft.one('first'))
    if (host.endImage) draft.send('end_image', draft.one('last'))
    draft.send('duration', Number(draft.text('duration')))
    draft.send('generate_audio', draft.value('sound') === 'on')
    if (host.mode !== null) draft.send('mode', host.mode)
    draft.always('cfg_scale', 0.5, 'it has no cfg_scale')
  }

const perSecond =
  (usd: Kling['usd']): Price =>
  given =>
    Number(textIn(given, 'duration')) * (given.sound === 'on' ? usd.sound : usd.silent)

const cfgScale = {
  cfg_scale: num({
    title: 'Guidance',
    description: 'How closely the prompt is followed.',
    min: 0,
    max: 1,
    default: 0.5,
  }),
}

const THREE_TO_FIFTEEN = Array.from({ length: 13 }, (_, i) => String(i + 3))

/** Expected times: a film of 5 s takes one to three minutes. Prices: providers.md 3.5. */
export const KLING_MODELS: readonly Model[] = [
  kling({
    name: '2.6-pro',
    title: 'Kling 2.6 Pro',
    durations: ['5', '10'],
    usd: { silent: 0.07, sound: 0.14 },
    expectedMs: 120_000,
    routes: [
      fal('fal-ai/kling-video/v2.6/pro/image-to-video', writeFal),
      replicate('kwaivgi/kling-v2.6', writeReplicate({ mode: null, endImage: false })),
    ],
  }),
  kling({
    name: '3-std',
    title: 'Kling 3.0 Standard',
    durations: THREE_TO_FIFTEEN,
    fields: cfgScale,
    usd: { silent: 0.084, sound: 0.126 },
    expectedMs: 120_000,
    routes: [
      fal('fal-ai/kling-video/v3/standard/image-to-video', writeFal),
      replicate('kwaivgi/kling-v3-video', writeReplicate({ mode: 'standard', endImage: true })),
    ],
  }),
  kling({
    name: '3-pro',
    title: 'Kling 3.0 Pro',
    durations: THREE_TO_FIFTEEN,
    fields: cfgScale,
    usd: { silent: 0.112, sound: 0.168 },
    expectedMs: 150_000,
    routes: [
      fal('fal-ai/kling-video/v3/pro/image-to-video', writeFal),
      replicate('kwaivgi/kling-v3-video', writeReplicate({ mode: 'pro', endImage: true })),
    ],
  }),
]
