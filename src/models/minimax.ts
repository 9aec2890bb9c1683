/**
 * MiniMax Hailuo and H3 (providers.md 9.2, 3.5, 7; Replicate's fields from its model pages).
 *
 * 1. Names are MiniMax' own: of its first API for Hailuo (`first_frame_image`, `prompt_optimizer`), of its second for H3
 *    (`content`, as at ByteDance); resolutions have a capital P.
 * 2. Nothing here speaks MiniMax' own API: the hosts are fal, Replicate and Runway.
 * 3. fal has an endpoint for each resolution.
 */
import type { JsonObject } from '../core/json.ts'
import type { Model } from '../core/model.ts'
import { contentField, contentInputs, contentOf, contentRules, sendToRunway } from './content.ts'
import type { Draft } from './draft.ts'
import { bool, choice, int, params, picture, prompt } from './fields.ts'
import { fal, replicate, runway } from './hosts.ts'
import { defineModel, type Tell, type Use, unknownPrice } from './model.ts'

interface Hailuo {
  name: string
  title: string
  resolutions: readonly string[]
  lastFrame: boolean
  expectedMs: number
}

function hailuo(model: Hailuo): Model {
  return defineModel({
    id: `minimax/${model.name}`,
    title: model.title,
    gives: 'video',
    roles: ['image_to_video'],
    params: params({
      prompt: prompt(2_000),
      first_frame_image: picture({ title: 'First frame' }),
      ...(model.lastFrame ? { last_frame_image: picture({ title: 'Last frame' }) } : {}),
      duration: choice([6, 10], { title: 'Duration', description: 'Seconds; 1080P films 6.', default: 6 }),
      resolution: choice(model.resolutions, { title: 'Resolution', default: '768P' }),
      prompt_optimizer: bool({ title: 'Prompt optimizer', default: true }),
    }),
    pictures: [
      { name: 'first_frame_image', slot: 'first' },
      ...(model.lastFrame ? [{ name: 'last_frame_image', slot: 'last' as const }] : []),
    ],
    rules,
    aliases: { image: 'MiniMax calls it first_frame_image.', image_url: 'MiniMax calls it first_frame_image.' },
    price: unknownPrice,
    expectedMs: model.expectedMs,
    routes: [
      fal(`fal-ai/minimax/${model.name}/standard/image-to-video`, writeFal(model)),
      replicate(`minimax/${model.name}`, writeReplicate),
    ],
  })
}

function rules(given: JsonObject, tell: Tell, use: Use): void {
  if (given.duration === 10 && given.resolution === '1080P') {
    tell('/duration', 'conflict', '1080P films 6 seconds', 'Take 6, or 768P.')
  }
  if (given.last_frame_image !== undefined && given.first_frame_image === undefined && !use.wired) {
    tell('/last_frame_image', 'conflict', 'a last frame needs a first frame', 'Give first_frame_image too.')
  }
}

/** fal: `standard` up to 768P with a duration, `pro` for 1080P, which films 6 seconds. */
const writeFal =
  ({ name, resolutions }: Hailuo) =>
  (draft: Draft): void => {
    draft.copy('prompt')
    draft.send('image_url', draft.one('first'))
    draft.send('end_image_url', draft.one('last'))
    draft.pin('prompt_optimizer')
    const seconds = String(draft.number('duration'))
    const resolution = draft.text('resolution') ?? '768P'
    if (resolution === '1080P') {
      draft.providerModel = `fal-ai/minimax/${name}/pro/image-to-video`
      return
    }
    draft.send('duration', seconds)
    // Where 768P is the only one here, there is no field for it.
    if (resolutions.includes('512P')) draft.send('resolution', resolution)
  }

function writeReplicate(draft: Draft): void {
  draft.copy('prompt')
  draft.send('first_frame_image', draft.one('first'))
  draft.send('last_frame_image', draft.one('last'))
  draft.pin('duration', 'prompt_optimizer')
  draft.send('resolution', draft.text('resolution')?.toLowerCase())
}

const RATIOS = ['adaptive', '21:9', '16:9', '4:3', '1:1', '3:4', '9:16']

/** H3 has no last limits in our sources; these are Runway's, its one host here. */
const H3_CONTENT = { lastFrame: true, references: 9, clips: true }

function writeRunwayH3(draft: Draft): void {
  const content = contentOf(draft)
  if (content.text === undefined) draft.refuse('runway needs a text')
  sendToRunway(draft, content)
  draft.pin('ratio', 'duration')
  draft.send('resolution', draft.text('resolution')?.toLowerCase())
}

/** Expected times: a film of 6 s takes two to four minutes. No prices in our sources. */
export const MINIMAX_MODELS: readonly Model[] = [
  hailuo({
    name: 'hailuo-2.3',
    title: 'Hailuo 2.3',
    resolutions: ['768P', '1080P'],
    lastFrame: false,
    expectedMs: 180_000,
  }),
  hailuo({
    name: 'hailuo-2.3-fast',
    title: 'Hailuo 2.3 Fast',
    resolutions: ['768P', '1080P'],
    lastFrame: false,
    expectedMs: 90_000,
  }),
  hailuo({
    name: 'hailuo-02',
    title: 'Hailuo 02',
    resolutions: ['512P', '768P', '1080P'],
    lastFrame: true,
    expectedMs: 180_000,
  }),
  defineModel({
    id: 'minimax/h3',
    title: 'MiniMax H3',
    gives: 'video',
    roles: ['image_to_video'],
    params: params(
      {
        content: contentField(H3_CONTENT),
        ratio: choice(RATIOS, { title: 'Ratio', default: 'adaptive' }),
        duration: int({ title: 'Duration', description: 'Seconds.', min: 5, max: 15, default: 5 }),
        resolution: choice(['768P', '2K'], { title: 'Resolution', default: '2K' }),
      },
      ['content'],
    ),
    pictures: [{ name: 'content', slot: 'first' }],
    inputs: given => contentInputs(given).inputs,
    rules: (given, tell, use) => contentRules(H3_CONTENT, given, tell, use),
    aliases: { prompt: 'The prompt stands in content: [{"type":"text","text":…}].' },
    price: unknownPrice,
    expectedMs: 240_000,
    routes: [runway('hailuo3', writeRunwayH3)],
  }),
]
