/**
 * Seedream at ModelArk, fal, Replicate and Runway (providers.md 2.3, 3.5, 4.4, 7, mapping 11.1).
 *
 * 1. Size, watermark and the number of pictures are always told: their defaults differ between hosts.
 * 2. fal has an endpoint of its own for edits; Replicate and Runway tell an edit by its pictures.
 */
import { isObject } from '../../core/json.ts'
import type { Draft } from '../draft.ts'
import { noWatermark, sendFormat } from '../hosts.ts'
import { numberIn, type RouteSpec } from '../model.ts'
import { fitSize, sizeIn } from '../sizes.ts'

function writeArk(draft: Draft): void {
  draft.copy('prompt')
  const pictures = draft.takeAll()
  if (pictures.length > 0) draft.send('image', pictures.length === 1 ? (pictures[0] ?? '') : pictures)
  draft.pin('size')
  draft.copy('sequential_image_generation_options', 'optimize_prompt_options', 'tools')
  draft.pin('sequential_image_generation', 'output_format', 'watermark')
}

/** ModelArk's own body. Its further limits (sides from 15 pixels, 36 megapixels) no size of a maker passes. */
export const ark = (providerModel: string): RouteSpec => ({
  provider: 'byteplus',
  providerModel,
  pictureLimits: { ratio: [1 / 16, 16] },
  write: writeArk,
})

/** How many pictures fal and Replicate may make: told only when the caller asked for several. */
function several(draft: Draft): number {
  const mode = draft.value('sequential_image_generation')
  const options = draft.given('sequential_image_generation_options')
  if (mode !== 'auto') return 1
  return isObject(options) ? (numberIn(options, 'max_images') ?? 15) : Math.max(1, 15 - draft.pictureCount)
}

function onlyStandardOptimization(draft: Draft): void {
  const options = draft.given('optimize_prompt_options')
  if (!isObject(options)) return
  if (options.mode === 'standard') draft.adjust('optimize_prompt_options', null, 'standard is what it does')
  else draft.refuse(`${draft.provider} has no fast prompt optimization for this model`)
}

/** fal: two endpoints, tiers as `auto_2K`, sizes as an object, at most 10 pictures. */
export const writeFal =
  (base: string, options: { tiers: readonly string[]; pixels?: { min: number; max: number }; enhance?: boolean }) =>
  (draft: Draft): void => {
    draft.copy('prompt')
    const pictures = draft.takeAll()
    draft.providerModel = pictures.length > 0 ? `${base}/edit` : `${base}/text-to-image`
    if (pictures.length > 10) draft.refuse('fal reads at most 10 pictures')
    if (pictures.length > 0) draft.send('image_urls', pictures)
    const wanted = draft.text('size') ?? '2K'
    const size = sizeIn(wanted)
    const { pixels } = options
    if (size && pixels && (size.width * size.height < pixels.min || size.width * size.height > pixels.max)) {
      draft.refuse(`fal takes ${pixels.min} to ${pixels.max} pixels`)
    }
    if (!size && !options.tiers.includes(wanted)) draft.refuse(`fal has no size ${wanted}`)
    draft.send('image_size', size ? { ...size } : wanted === 'auto' ? 'auto' : `auto_${wanted}`)
    draft.send('num_images', 1)
    draft.send('max_images', several(draft))
    if (options.enhance) {
      const optimization = draft.given('optimize_prompt_options')
      draft.send('enhance_prompt_mode', isObject(optimization) ? (optimization.mode ?? 'standard') : 'standard')
    } else {
      onlyStandardOptimization(draft)
    }
    noWatermark(draft)
  }

/** Replicate: tiers as they are, other sizes as `custom` with sides of 1024 to 4096. */
export const writeReplicate =
  (options: { tiers: readonly string[]; custom: boolean; formats?: readonly string[]; enhance?: boolean }) =>
  (draft: Draft): void => {
    draft.copy('prompt')
    const pictures = draft.takeAll()
    if (pictures.length > 0) draft.send('image_input', pictures)
    writeReplicateSize(draft, options)
    const count = several(draft)
    draft.pin('sequential_image_generation')
    if (draft.body.sequential_image_generation !== undefined) draft.send('max_images', count)
    if (options.enhance) {
      const optimization = draft.given('optimize_prompt_options')
      if (isObject(optimization) && optimization.mode !== 'standard') {
        draft.refuse('replicate has no fast prompt optimization')
      } else if (optimization !== undefined) {
        draft.adjust('optimize_prompt_options', true, 'there it is a switch, enhance_prompt')
      }
      draft.send('enhance_prompt', true)
    } else {
      onlyStandardOptimization(draft)
    }
    if (options.formats) sendFormat(draft, options.formats)
    noWatermark(draft)
  }

function writeReplicateSize(draft: Draft, { tiers, custom }: { tiers: readonly string[]; custom: boolean }): void {
  const wanted = draft.text('size') ?? '2K'
  const size = sizeIn(wanted)
  if (!size) {
    if (!tiers.includes(wanted)) draft.refuse(`replicate has no size ${wanted}`)
    draft.send('size', wanted)
    draft.send('aspect_ratio', 'match_input_image')
    return
  }
  if (!custom) {
    draft.refuse('replicate takes no size in pixels for this model')
    return
  }
  const fitted = fitSize(size, { min: 1024, max: 4096, step: 1 })
  if (!fitted) {
    draft.refuse('replicate takes sides of 1024 to 4096')
    return
  }
  if (fitted.width !== size.width || fitted.height !== size.height) {
    draft.adjust('size', `${fitted.width}x${fitted.height}`, 'replicate takes sides of 1024 to 4096')
  }
  draft.send('size', 'custom')
  draft.send('width', fitted.width)
  draft.send('height', fitted.height)
}

/** Runway: no tiers for lite but sizes, `auto_2k` for pro; always one format field and a count. */
export const writeRunway =
  (options: { freeform: boolean; auto: Readonly<Record<string, string>> }) =>
  (draft: Draft): void => {
    const words = draft.text('prompt') ?? ''
    if (words.length > 4_000) draft.refuse('runway reads at most 4000 characters')
    draft.send('promptText', words)
    const pictures = draft.takeAll()
    if (pictures.length > 0)
      draft.send(
        'referenceImages',
        pictures.map(uri => ({ uri })),
      )
    const wanted = draft.text('size') ?? '2K'
    const size = sizeIn(wanted)
    const named = size && options.freeform ? `${size.width}:${size.height}` : options.auto[wanted]
    if (named === undefined) draft.refuse(`runway has no size ${wanted} for this model`)
    else if (!size && options.freeform) draft.adjust('size', named, 'runway takes pixels, not tiers, for this model')
    draft.send('ratio', named)
    draft.send('outputCount', 1)
    if (draft.value('sequential_image_generation') === 'auto') draft.refuse('runway makes no sets of pictures')
    const tools = draft.given('tools')
    draft.send('grounding', tools !== undefined)
    draft.pinAs('output_format', 'outputFormat')
    onlyStandardOptimization(draft)
    noWatermark(draft)
  }
