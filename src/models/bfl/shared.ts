/**
 * What all FLUX models share: field makers, BFL's own body, prices by megapixel (providers.md 1).
 *
 * 1. BFL reads https URLs and raw base64, so a data URI loses its head.
 * 2. Defaults that other hosts do not share are sent to BFL too.
 */
import type { JsonObject } from '../../core/json.ts'
import type { Draft } from '../draft.ts'
import { bool, choice, int, picture } from '../fields.ts'
import { numberIn, type PictureField, type Price, type RouteSpec } from '../model.ts'
import type { Size } from '../sizes.ts'

export const safety = (max: number): JsonObject =>
  int({ title: 'Safety tolerance', description: '0 is strictest.', min: 0, max, default: 2 })

export const outputFormat = (standard: string, formats: readonly string[] = ['jpeg', 'png', 'webp']): JsonObject =>
  choice(formats, { title: 'Output format', default: standard })

export const upsampling = (standard: boolean): JsonObject =>
  bool({ title: 'Prompt upsampling', description: 'Lets the model enrich the prompt.', default: standard })

/** `input_image`, `input_image_2`, … */
const inputNames = (count: number): string[] =>
  Array.from({ length: count }, (_, i) => (i === 0 ? 'input_image' : `input_image_${i + 1}`))

export function inputPictures(count: number): { fields: Record<string, JsonObject>; pictures: PictureField[] } {
  const names = inputNames(count)
  const title = (i: number): string => (i === 0 ? 'Input picture' : `Further picture ${i + 1}`)
  return {
    fields: Object.fromEntries(names.map((name, i) => [name, picture({ title: title(i) })])),
    pictures: names.map((name, i) => ({ name, slot: i === 0 ? 'first' : 'reference' })),
  }
}

/** A picture as BFL reads it. */
export const bare = (ref: string): string => ref.replace(/^data:[^,]*;base64,/, '')

/** BFL's own body: the caller's parameters, the defaults that other hosts do not share, and the pictures. */
function writeBfl(draft: Draft): void {
  draft.copy('prompt')
  const first = draft.one('first')
  if (first !== undefined) draft.send('input_image', bare(first))
  const further = draft.take('reference')
  const names = further.map(ref => (ref.pointer ?? '').slice(1))
  const free = inputNames(8).filter(name => name !== 'input_image' && !names.includes(name))
  further.forEach((ref, i) => {
    draft.send(names[i] || (free.shift() ?? ''), bare(ref.ref))
  })
  for (const name of ['width', 'height']) {
    // The default is 0, but only sides from 64 may be said.
    if (draft.value(name) === 0) draft.adjust(name, null, 'automatic is what it does without a size')
    else draft.pin(name)
  }
  draft.copy('aspect_ratio', 'seed')
  draft.pin('raw', 'prompt_upsampling', 'guidance', 'steps', 'safety_tolerance', 'output_format')
}

export const bfl = (providerModel: string, write: RouteSpec['write'] = writeBfl): RouteSpec => ({
  provider: 'bfl',
  providerModel,
  write,
})

/** Width and height; null where one of them is left to the model. */
export function sidesIn(given: JsonObject): Size | null {
  const width = numberIn(given, 'width') ?? 0
  const height = numberIn(given, 'height') ?? 0
  return width > 0 && height > 0 ? { width, height } : null
}

/** fal and Replicate begin their tolerance at 1; fal spells it as a string. */
export function sendSafety(draft: Draft, max: number): void {
  const level = draft.clamp('safety_tolerance', 1, max)
  draft.send('safety_tolerance', draft.provider === 'fal' ? String(level) : level)
}

/** US dollars a picture; null where our sources do not say. */
export const perPicture =
  (usd: number | null): Price =>
  () =>
    usd

/** Advice for names of other makers that all FLUX models lack. */
export const FLUX_ALIASES = {
  image_size: 'FLUX takes width and height.',
  size: 'FLUX takes width and height.',
  negative_prompt: 'FLUX has no negative prompt: say in the prompt what shall be there.',
  num_images: 'FLUX makes one picture a call.',
  n: 'FLUX makes one picture a call.',
  image: 'The input picture of FLUX is input_image.',
  image_url: 'The input picture of FLUX is input_image.',
  image_urls: 'The input pictures of FLUX are input_image, input_image_2, …',
  webhook_url: 'webhook_url stands beside input.',
}
