/**
 * Seedance at ModelArk, fal, Replicate and Runway (providers.md 2.4, 3.5, 4.4, 7, mapping 11.2).
 *
 * 1. Sound, resolution, duration and ratio are always told: their defaults differ between hosts.
 * 2. A duration outside a host's range moves to the nearest one that it films, and the attempt says so.
 * 3. Where references are given, the picture of the step before is a reference too (frames and references exclude each other).
 */
import type { JsonObject } from '../../core/json.ts'
import type { Shape } from '../../core/model.ts'
import { contentOf, sendClips, sendToRunway } from '../content.ts'
import type { Draft } from '../draft.ts'
import { fal, noWatermark, replicate, runway, sendSeed } from '../hosts.ts'
import type { Price, RouteSpec } from '../model.ts'
import { nearestRatio, ratioOf } from '../sizes.ts'

export type Generation = '1' | '1.5' | '2'

interface Range {
  min: number
  max: number
}

/** The seconds that this host films; -1 stays -1. */
function seconds(draft: Draft, range: Range): number {
  const wanted = draft.number('duration') ?? 5
  return wanted === -1 ? -1 : (draft.clamp('duration', range.min, range.max) ?? wanted)
}

function needText(draft: Draft, text: string | undefined): void {
  if (text === undefined) draft.refuse(`${draft.provider} needs a text`)
  draft.send('prompt', text)
}

/** ModelArk's own body: the caller's content with the pictures in place. */
export function ark(providerModel: string, range: Range): RouteSpec {
  return {
    provider: 'byteplus',
    providerModel,
    pictureLimits: { side: [300, 6_000], ratio: [0.4, 2.5] },
    write: draft => {
      const { text, clips, first, last, references } = contentOf(draft)
      const picture = (url: string, role: string): JsonObject => ({ type: 'image_url', image_url: { url }, role })
      draft.send('content', [
        ...(text === undefined ? [] : [{ type: 'text', text }]),
        ...(first === undefined ? [] : [picture(first, 'first_frame')]),
        ...(last === undefined ? [] : [picture(last, 'last_frame')]),
        ...references.map(url => picture(url, 'reference_image')),
        ...clips.map(clip => ({ ...clip, role: clip.type === 'video_url' ? 'reference_video' : 'reference_audio' })),
      ])
      draft.pin('resolution', 'ratio')
      draft.send('duration', seconds(draft, range))
      draft.pin('generate_audio', 'watermark')
      draft.copy('frames', 'seed', 'camera_fixed', 'service_tier', 'draft', 'priority')
      draft.copy('execution_expires_after', 'safety_identifier')
    },
  }
}

/** What only ModelArk can be told. */
function onlyAtArk(draft: Draft): void {
  noWatermark(draft)
  draft.always('service_tier', 'default', 'it has one tier')
  draft.always('draft', false, 'it makes no drafts')
  draft.always('priority', 0, 'it has no priorities')
}

/** fal, generation 1: one first frame, durations as strings, `auto` for adaptive. */
export function falSeedance(
  endpoint: string,
  range: Range & { frames?: boolean },
  price?: Price,
  referenceEndpoint?: string,
): RouteSpec {
  const write = (draft: Draft): void => {
    const { text, first, last, references } = contentOf(draft)
    needText(draft, text)
    if (references.length > 0) {
      if (referenceEndpoint === undefined) {
        draft.refuse('fal takes no reference pictures for this model')
        return
      }
      if (draft.value('resolution') === '1080p') draft.refuse('fal films references up to 720p for this model')
      draft.providerModel = referenceEndpoint
      draft.send('reference_image_urls', references)
    } else {
      draft.send('image_url', first)
      draft.send('end_image_url', last)
    }
    draft.send('aspect_ratio', falRatio(draft))
    draft.pin('resolution', 'camera_fixed', 'generate_audio')
    const length = seconds(draft, range)
    if (length === -1) draft.refuse('fal films no automatic duration for this model')
    draft.send('duration', String(length))
    if (range.frames) draft.copyAs('frames', 'num_frames')
    sendSeed(draft)
    onlyAtArk(draft)
  }
  return fal(endpoint, write, price)
}

const falRatio = (draft: Draft): string => {
  const ratio = draft.text('ratio') ?? 'adaptive'
  return ratio === 'adaptive' ? 'auto' : ratio
}

/** fal, generation 2: one endpoint for frames, another for references. */
export function falReference(base: string, host: Range & { resolutions: readonly string[] }, price?: Price): RouteSpec {
  const write = (draft: Draft): void => {
    const { text, clips, first, last, references } = contentOf(draft)
    needText(draft, text)
    if (references.length > 0 || clips.length > 0) {
      draft.providerModel = `${base}/reference-to-video`
      draft.send('image_urls', references)
      sendClips(draft, clips, 'video_urls', 'audio_urls')
    } else {
      draft.send('image_url', first)
      draft.send('end_image_url', last)
    }
    const length = seconds(draft, host)
    draft.send('duration', length === -1 ? 'auto' : String(length))
    draft.send('aspect_ratio', falRatio(draft))
    const resolution = draft.text('resolution') ?? '720p'
    if (!host.resolutions.includes(resolution)) draft.refuse(`fal films no ${resolution} for this model`)
    draft.send('resolution', resolution)
    draft.pin('generate_audio')
    onlyAtArk(draft)
  }
  return fal(`${base}/image-to-video`, write, price)
}

/** Replicate, generation 1: whole seconds from 2; the ratio is the picture's unless told; sound is off unless told. */
export function replicateSeedance(model: string, host: Range & { resolution: string | null }): RouteSpec {
  return replicate(model, draft => {
    const { text, first, last, references } = contentOf(draft)
    needText(draft, text)
    if (references.length > 0) draft.send('reference_images', references)
    draft.send('image', first)
    draft.send('last_frame_image', last)
    const length = seconds(draft, host)
    if (length === -1) draft.refuse('replicate films no automatic duration for this model')
    draft.send('duration', length)
    replicateRatio(draft)
    if (host.resolution === null) draft.pin('resolution')
    else draft.always('resolution', host.resolution, `it films ${host.resolution} only`)
    draft.pin('camera_fixed', 'generate_audio')
    sendSeed(draft)
    onlyAtArk(draft)
  })
}

function replicateRatio(draft: Draft): void {
  const ratio = draft.text('ratio') ?? 'adaptive'
  if (ratio === 'adaptive') draft.adjust('ratio', null, 'it takes the ratio of the picture')
  else draft.send('aspect_ratio', ratio)
}

/** Replicate, generation 2 (its own input schema): -1 for an automatic duration, `adaptive`, references in three lists. */
export function replicateSeedance2(model: string): RouteSpec {
  return replicate(model, draft => {
    const { text, clips, first, last, references } = contentOf(draft)
    needText(draft, text)
    draft.send('image', first)
    draft.send('last_frame_image', last)
    if (references.length > 0) draft.send('reference_images', references)
    sendClips(draft, clips, 'reference_videos', 'reference_audios')
    draft.send('duration', seconds(draft, { min: 4, max: 15 }))
    draft.pin('resolution', 'generate_audio')
    draft.pinAs('ratio', 'aspect_ratio')
    onlyAtArk(draft)
  })
}

/** The pixels of a resolution and ratio. Runway names both together so (its SDK's list), ModelArk films the same ones. */
const SIZES: Record<string, Record<string, string>> = {
  '480p': {
    '21:9': '992:432',
    '16:9': '864:496',
    '4:3': '752:560',
    '1:1': '640:640',
    '3:4': '560:752',
    '9:16': '496:864',
  },
  '720p': {
    '21:9': '1470:630',
    '16:9': '1280:720',
    '4:3': '1112:834',
    '1:1': '960:960',
    '3:4': '834:1112',
    '9:16': '720:1280',
  },
  '1080p': {
    '21:9': '2206:946',
    '16:9': '1920:1080',
    '4:3': '1664:1248',
    '1:1': '1440:1440',
    '3:4': '1248:1664',
    '9:16': '1080:1920',
  },
  '4k': {
    '21:9': '3840:1646',
    '16:9': '3840:2160',
    '4:3': '3840:2880',
    '1:1': '3840:3840',
    '3:4': '2880:3840',
    '9:16': '2160:3840',
  },
}

/** Seedance 2.5 differs from that list in two sizes. */
export const SIZES_2_5: Record<string, string> = { '864:496': '854:480', '496:864': '480:854' }

/** The ratios from tall to wide. */
const RATIOS = ['9:16', '3:4', '1:1', '4:3', '16:9', '21:9']

/** The ratios that an adaptive film of such a picture may get: its own, else those beside it; any where nobody knows it. */
function adaptiveRatios(picture: Shape): readonly string[] {
  const shown = 'ratio' in picture ? picture.ratio : picture.width / picture.height
  const { ratio, same } = nearestRatio(shown, RATIOS)
  if (same) return [ratio]
  const narrower = RATIOS.filter(each => ratioOf(each) < shown).length
  return RATIOS.slice(Math.max(0, narrower - 1), narrower + 1)
}

/** Pixels of a film, the most that an adaptive one may have of its picture. Undefined for a resolution that nobody films. */
export function pixelsOf(
  resolution: string,
  ratio: string,
  picture: readonly Shape[],
  special: Record<string, string> = {},
): { most: number; isCertain: boolean } | undefined {
  const tier = SIZES[resolution]
  if (tier === undefined) return undefined
  const adaptive = picture.length > 0 ? picture.flatMap(adaptiveRatios) : RATIOS
  const counts = (ratio === 'adaptive' ? adaptive : [ratio]).map(each => {
    const named = tier[each] ?? ''
    const [width = 0, height = 0] = (special[named] ?? named).split(':').map(Number)
    return width * height
  })
  const most = Math.max(...counts)
  return { most, isCertain: counts.every(count => count === most) }
}

export function runwaySeedance(
  model: string,
  resolutions: readonly string[],
  range: Range,
  special: Record<string, string> = {},
): RouteSpec {
  return runway(model, draft => {
    const content = contentOf(draft)
    if ((content.text ?? '').length > 3_500) draft.refuse('runway reads at most 3500 characters')
    sendToRunway(draft, content)
    runwayRatio(draft, resolutions, special)
    const length = seconds(draft, range)
    draft.send('duration', length === -1 ? 'auto' : length)
    draft.pinAs('generate_audio', 'audio')
    onlyAtArk(draft)
  })
}

function runwayRatio(draft: Draft, resolutions: readonly string[], special: Record<string, string>): void {
  const resolution = draft.text('resolution') ?? '720p'
  const ratio = draft.text('ratio') ?? 'adaptive'
  if (!resolutions.includes(resolution)) {
    draft.refuse(`runway films no ${resolution} for this model`)
    return
  }
  if (ratio !== 'adaptive') {
    const named = SIZES[resolution]?.[ratio]
    draft.send('ratio', named === undefined ? undefined : (special[named] ?? named))
    return
  }
  if (resolution !== '720p') {
    draft.refuse('runway names resolution and ratio together: give a ratio')
    return
  }
  draft.adjust('ratio', null, 'runway chooses the ratio')
  draft.adjust('resolution', null, 'runway chooses the resolution where no ratio is given')
}
