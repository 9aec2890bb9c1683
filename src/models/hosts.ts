/**
 * Routes to the hosts that serve models of several makers, and what all of their translations share.
 */
import type { JsonObject } from '../core/json.ts'
import type { Draft } from './draft.ts'
import { type Price, type RouteSpec, unknownPrice } from './model.ts'

/** fal: without a price of its own, the one that its list shows is the maker's (providers.md 3.5). */
export function fal(providerModel: string, write: RouteSpec['write'], price?: Price): RouteSpec {
  return price === undefined
    ? { provider: 'fal', providerModel, write }
    : { provider: 'fal', providerModel, write, price }
}

/** Replicate: its prices are in none of our sources. */
export function replicate(providerModel: string, write: RouteSpec['write']): RouteSpec {
  return { provider: 'replicate', providerModel, write, price: unknownPrice }
}

/** Runway bills in credits of its own. */
export function runway(providerModel: string, write: RouteSpec['write']): RouteSpec {
  return { provider: 'runway', providerModel, write, price: unknownPrice }
}

/**
 * ComfyUI: open weights on the user's own machine. The id is the name of a workflow file, the body the values for its
 * placeholders; a value that was not given is left to the workflow. What a call costs there nobody knows.
 */
export function comfyui(workflow: string, write: RouteSpec['write']): RouteSpec {
  return { provider: 'comfyui', providerModel: workflow, write, price: unknownPrice }
}

/** The frames of a film, each with its place, as Runway takes them. */
export function runwayFrames(first: string | undefined, last?: string): JsonObject[] {
  const frame = (uri: string | undefined, position: string) => (uri === undefined ? [] : [{ uri, position }])
  return [...frame(first, 'first'), ...frame(last, 'last')]
}

/** The pictures of a call as `image`, `image_2`, … */
export function sendPictures(draft: Draft): void {
  draft.takeAll().forEach((ref, i) => {
    draft.send(i === 0 ? 'image' : `image_${i + 1}`, ref)
  })
}

/** Most hosts have no switch for a visible watermark, and add none. */
export function noWatermark(draft: Draft): void {
  draft.always('watermark', false, 'it adds no watermark')
}

/** fal and Replicate spell the format differently and do not take every one. */
export function sendFormat(draft: Draft, formats: readonly string[]): void {
  const wanted = draft.text('output_format')
  const spelled = wanted === 'jpeg' && formats.includes('jpg') ? 'jpg' : wanted
  if (spelled !== undefined && !formats.includes(spelled)) {
    draft.refuse(`${draft.provider} gives ${formats.join(', ')}, not ${spelled}`)
  }
  draft.send('output_format', spelled)
}

/** A seed of -1 is random, which is what hosts do without one. */
export function sendSeed(draft: Draft): void {
  if (draft.given('seed') === -1) draft.adjust('seed', null, 'random is what it does without a seed')
  else draft.copy('seed')
}

/** A seed promises nothing across hosts, so a host that has none may be used all the same. */
export function seedOrNone(draft: Draft, has: boolean): void {
  if (has) draft.copy('seed')
  else draft.adjust('seed', null, `${draft.provider} takes no seed for this model`)
}
