/**
 * Luma's Ray and Photon (providers.md 9.3; fal's fields from its SDK, Replicate's from memory of its pages).
 *
 * 1. Names are Luma's: `keyframes.frame0`, `modify_image_ref`, durations as `5s`.
 * 2. Nothing here speaks Luma's own API: the hosts are fal and Replicate, and what neither can be told is no parameter here.
 */
import { isObject, type JsonObject } from '../core/json.ts'
import type { Model } from '../core/model.ts'
import type { Draft, Input } from './draft.ts'
import { bool, choice, num, params, picture, prompt } from './fields.ts'
import { fal, replicate } from './hosts.ts'
import { defineModel, numberIn, type RouteSpec, type Tell, textIn, type Use, unknownPrice } from './model.ts'
import { shapeIn } from './sizes.ts'

const RATIOS = ['16:9', '9:16', '1:1', '4:3', '3:4', '21:9', '9:21']

const frame = (title: string): JsonObject => ({
  type: 'object',
  title,
  properties: { type: { type: 'string', const: 'image', default: 'image' }, url: picture({ title }) },
  required: ['type', 'url'],
  additionalProperties: false,
})

function ray(name: string, title: string, expectedMs: number, hosts: readonly RouteSpec[]): Model {
  return defineModel({
    id: `luma/${name}`,
    title,
    gives: 'video',
    roles: ['image_to_video'],
    params: params({
      prompt: prompt(5_000),
      keyframes: {
        type: 'object',
        title: 'Keyframes',
        properties: { frame0: frame('First frame'), frame1: frame('Last frame') },
        additionalProperties: false,
      },
      aspect_ratio: choice(RATIOS, { title: 'Aspect ratio', default: '16:9' }),
      loop: bool({ title: 'Loop', description: 'The end runs into the beginning.', default: false }),
      resolution: choice(['540p', '720p', '1080p'], { title: 'Resolution', default: '720p' }),
      duration: choice(['5s', '9s'], { title: 'Duration', default: '5s' }),
    }),
    pictures: [{ name: 'keyframes', slot: 'first' }],
    inputs: keyframes,
    rules: rayRules,
    aliases: { image: 'Luma calls it keyframes.frame0.', image_url: 'Luma calls it keyframes.frame0.' },
    price: unknownPrice,
    expectedMs,
    routes: hosts,
  })
}

function keyframes(given: JsonObject): Input[] {
  const frames = given.keyframes
  if (!isObject(frames)) return []
  return (['frame0', 'frame1'] as const).flatMap((name): Input[] => {
    const one = frames[name]
    if (!isObject(one) || typeof one.url !== 'string') return []
    return [{ pointer: `/keyframes/${name}/url`, value: one.url, slot: name === 'frame0' ? 'first' : 'last' }]
  })
}

function rayRules(given: JsonObject, tell: Tell, use: Use): void {
  const slots = keyframes(given).map(input => input.slot)
  if (slots.includes('last') && !slots.includes('first') && !use.wired) {
    tell('/keyframes/frame1', 'conflict', 'a last frame needs a first frame', 'Give frame0 too.')
  }
}

function writeFalRay(draft: Draft): void {
  draft.given('keyframes')
  draft.copy('prompt')
  draft.send('image_url', draft.one('first'))
  draft.send('end_image_url', draft.one('last'))
  if (draft.value('aspect_ratio') === '1:1') draft.refuse('fal films no 1:1 for this model')
  draft.pin('aspect_ratio', 'loop', 'resolution', 'duration')
}

/** Replicate has a model for each resolution. */
function writeReplicateRay(draft: Draft): void {
  draft.given('keyframes')
  draft.copy('prompt')
  draft.send('start_image', draft.one('first'))
  draft.send('end_image', draft.one('last'))
  draft.pin('aspect_ratio', 'loop')
  draft.always('resolution', '720p', 'it films 720p only')
  draft.send('duration', Number.parseInt(draft.text('duration') ?? '5s', 10))
}

function photon(name: string, title: string, expectedMs: number, hosts: readonly RouteSpec[]): Model {
  return defineModel({
    id: `luma/${name}`,
    title,
    gives: 'image',
    roles: ['text_to_image', 'image_to_image'],
    params: params({
      prompt: prompt(5_000),
      modify_image_ref: {
        type: 'object',
        title: 'Input picture',
        properties: {
          url: picture({ title: 'Input picture' }),
          weight: num({
            title: 'Weight',
            description: 'How much of the picture stays.',
            min: 0,
            max: 1,
            default: 0.85,
          }),
        },
        additionalProperties: false,
      },
      aspect_ratio: choice(RATIOS, { title: 'Aspect ratio', default: '16:9' }),
    }),
    pictures: [{ name: 'modify_image_ref/url', slot: 'first' }],
    inputs: given => {
      const ref = given.modify_image_ref
      return isObject(ref) && typeof ref.url === 'string'
        ? [{ pointer: '/modify_image_ref/url', value: ref.url, slot: 'first' }]
        : []
    },
    rules: (given, tell, use) => {
      if (given.modify_image_ref !== undefined && use.role === 'text_to_image') {
        tell('/modify_image_ref', 'not_supported', 'modify_image_ref belongs to image_to_image', 'Leave it out.')
      }
    },
    aliases: { image: 'Luma calls it modify_image_ref: {"url":…}.' },
    shape: given => shapeIn(textIn(given, 'aspect_ratio')),
    price: unknownPrice,
    expectedMs,
    routes: hosts,
  })
}

function writeFalPhoton(draft: Draft): void {
  draft.copy('prompt')
  const ref = draft.given('modify_image_ref')
  const image = draft.one('first')
  if (image !== undefined) {
    draft.providerModel += '/modify'
    draft.send('image_url', image)
    draft.send('strength', (isObject(ref) ? numberIn(ref, 'weight') : undefined) ?? 0.85)
  }
  draft.pin('aspect_ratio')
}

function writeReplicatePhoton(draft: Draft): void {
  draft.copy('prompt')
  if (draft.role !== 'text_to_image') draft.refuse('replicate edits no pictures with this model')
  draft.pin('aspect_ratio')
}

/** Expected times: Ray one to two minutes, its flash half of that, Photon 10 to 20 s. No prices in our sources. */
export const LUMA_MODELS: readonly Model[] = [
  ray('ray-2', 'Ray 2', 120_000, [
    fal('fal-ai/luma-dream-machine/ray-2/image-to-video', writeFalRay),
    replicate('luma/ray-2-720p', writeReplicateRay),
  ]),
  ray('ray-flash-2', 'Ray Flash 2', 60_000, [
    fal('fal-ai/luma-dream-machine/ray-2-flash/image-to-video', writeFalRay),
    replicate('luma/ray-flash-2-720p', writeReplicateRay),
  ]),
  photon('photon', 'Photon', 20_000, [
    fal('fal-ai/luma-photon', writeFalPhoton),
    replicate('luma/photon', writeReplicatePhoton),
  ]),
  photon('photon-flash', 'Photon Flash', 10_000, [
    fal('fal-ai/luma-photon/flash', writeFalPhoton),
    replicate('luma/photon-flash', writeReplicatePhoton),
  ]),
]
