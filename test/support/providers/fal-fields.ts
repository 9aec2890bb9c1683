/**
 * What fal's endpoints take (providers.md 3.5, completed by the input types of fal's public client). An endpoint that is
 * in neither source is known by its id alone: it takes any object.
 */
import type { Json } from '../../../src/core/json.ts'
import {
  bool,
  either,
  type Fields,
  int,
  list,
  num,
  oneOf,
  type Rule,
  shape,
  text,
  urlOrData,
  type Wrong,
  wrongIn,
} from './fields.ts'

const link = urlOrData(50_000_000)
const links = (max: number): Rule => list(link, max, 1)
const seed = int(0, 4_294_967_295)
const numbers = (from: number, to: number): string[] =>
  Array.from({ length: to - from + 1 }, (_, i) => String(from + i))
const PRESETS = ['square_hd', 'square', 'portrait_4_3', 'portrait_16_9', 'landscape_4_3', 'landscape_16_9']
const size = (...more: string[]): Rule =>
  either(shape({ width: int(14, 14_142), height: int(14, 14_142) }, ['width', 'height']), oneOf(...PRESETS, ...more))
const tolerance = (max: number): Rule => oneOf(...numbers(1, max))
const formats = (...more: string[]): Rule => oneOf('jpeg', 'png', ...more)

const base: Fields = { prompt: text(50_000), seed, sync_mode: bool }
const checked: Fields = { ...base, enable_safety_checker: bool }
const flux2: Fields = { ...checked, image_size: size(), safety_tolerance: tolerance(5), output_format: formats() }
const flex: Fields = {
  ...flux2,
  guidance_scale: num(1.5, 10),
  num_inference_steps: int(1, 50),
  enable_prompt_expansion: bool,
}
const klein: Fields = {
  ...checked,
  image_size: size(),
  num_images: int(1, 4),
  num_inference_steps: int(1, 50),
  output_format: formats('webp'),
}
const edit = (fields: Fields, max = 10, sizes: Rule = size('auto')): Fields => ({
  ...fields,
  image_size: sizes,
  image_urls: links(max),
})

const KONTEXT_RATIO = oneOf('21:9', '16:9', '4:3', '3:2', '1:1', '2:3', '3:4', '9:16', '9:21')
const pro: Fields = {
  ...base,
  enhance_prompt: bool,
  num_images: int(1, 4),
  output_format: formats(),
  safety_tolerance: tolerance(6),
}
const kontext: Fields = { ...pro, aspect_ratio: KONTEXT_RATIO, guidance_scale: num(1, 20) }

const RATIOS = ['21:9', '16:9', '3:2', '4:3', '5:4', '1:1', '4:5', '3:4', '2:3', '9:16']
const banana = (more: Fields = {}): Fields => ({
  ...base,
  aspect_ratio: oneOf(...RATIOS),
  limit_generations: bool,
  num_images: int(1, 4),
  output_format: formats('webp'),
  safety_tolerance: tolerance(6),
  ...more,
})
const autoRatio = oneOf('auto', ...RATIOS)
const bananaPro = banana({ aspect_ratio: autoRatio, enable_web_search: bool, resolution: oneOf('1K', '2K', '4K') })
const banana2 = banana({
  aspect_ratio: oneOf('auto', ...RATIOS, '4:1', '1:4', '8:1', '1:8'),
  enable_web_search: bool,
  resolution: oneOf('0.5K', '1K', '2K', '4K'),
  thinking_level: oneOf('minimal', 'high'),
})

const GPT_SIZES = ['1024x1024', '1536x1024', '1024x1536']
const gpt: Fields = {
  prompt: text(32_000),
  sync_mode: bool,
  background: oneOf('auto', 'transparent', 'opaque'),
  image_size: oneOf(...GPT_SIZES),
  num_images: int(1, 10),
  output_format: formats('webp'),
  quality: oneOf('low', 'medium', 'high'),
}
const gptEdit: Fields = {
  ...gpt,
  image_size: oneOf('auto', ...GPT_SIZES),
  image_urls: links(16),
  input_fidelity: oneOf('low', 'high'),
  mask_image_url: link,
}

const seedream = (sizes: Rule, more: Fields = {}): Fields => ({
  ...checked,
  image_size: sizes,
  num_images: int(1, 15),
  max_images: int(1, 15),
  ...more,
})
const V4 = seedream(size('auto', 'auto_2K', 'auto_4K'), { enhance_prompt_mode: oneOf('standard', 'fast') })
const V45 = seedream(size('auto_2K', 'auto_4K'))
const V5 = seedream(size('auto_2K', 'auto_3K'))

const FILM_RATIO = oneOf('21:9', '16:9', '4:3', '1:1', '3:4', '9:16', 'auto')
const film: Fields = { prompt: text(50_000), seed, enable_safety_checker: bool, image_url: link }
const seedance1: Fields = {
  ...film,
  aspect_ratio: FILM_RATIO,
  camera_fixed: bool,
  duration: oneOf(...numbers(2, 12)),
  num_frames: int(29, 289),
  resolution: oneOf('480p', '720p', '1080p'),
}
const seedance15: Fields = {
  ...film,
  aspect_ratio: FILM_RATIO,
  camera_fixed: bool,
  duration: oneOf(...numbers(4, 12)),
  resolution: oneOf('480p', '720p', '1080p'),
  generate_audio: bool,
  end_image_url: link,
}
const seedance2 = (last: number): Fields => ({
  ...film,
  aspect_ratio: FILM_RATIO,
  duration: oneOf('auto', ...numbers(4, last)),
  resolution: oneOf('480p', '720p', '1080p', '4k'),
  generate_audio: bool,
})
const references: Fields = { image_urls: list(link, 9), video_urls: list(link, 3), audio_urls: list(link, 3) }

const veo: Fields = {
  prompt: text(20_000),
  image_url: link,
  aspect_ratio: oneOf('auto', '16:9', '9:16'),
  auto_fix: bool,
  duration: oneOf('4s', '6s', '8s'),
  generate_audio: bool,
  negative_prompt: text(),
  resolution: oneOf('720p', '1080p', '4k'),
  safety_tolerance: tolerance(6),
  seed,
}
const without = (fields: Fields, ...names: string[]): Fields =>
  Object.fromEntries(Object.entries(fields).filter(([name]) => !names.includes(name)))

type Endpoint = [pattern: RegExp, fields: Fields, ...required: string[]]

const IMAGES: readonly Endpoint[] = [
  [/^fal-ai\/flux-2-flex$/, flex, 'prompt'],
  [/^fal-ai\/flux-2-flex\/edit$/, edit(flex), 'prompt', 'image_urls'],
  [/^fal-ai\/flux-2-(pro|max)$/, flux2, 'prompt'],
  [/^fal-ai\/flux-2-(pro|max)\/edit$/, edit(flux2), 'prompt', 'image_urls'],
  [/^fal-ai\/flux-2\/klein\/(4b|9b)(\/base)?$/, klein, 'prompt'],
  [/^fal-ai\/flux-2\/klein\/(4b|9b)\/edit$/, edit(klein, 4, size()), 'prompt', 'image_urls'],
  [/^fal-ai\/flux-pro\/kontext(\/max)?$/, { ...kontext, image_url: link }, 'prompt', 'image_url'],
  [/^fal-ai\/flux-pro\/kontext(\/max)?\/multi$/, { ...kontext, image_urls: links(4) }, 'prompt', 'image_urls'],
  [/^fal-ai\/flux-pro\/kontext(\/max)?\/text-to-image$/, kontext, 'prompt'],
  [/^fal-ai\/flux-pro\/v1\.1$/, { ...pro, image_size: size() }, 'prompt'],
  [
    /^fal-ai\/flux-pro\/v1\.1-ultra$/,
    {
      ...pro,
      aspect_ratio: text(20),
      image_url: link,
      image_prompt_strength: num(0, 1),
      raw: bool,
      enable_safety_checker: bool,
    },
    'prompt',
  ],
  [/^fal-ai\/flux-pro\/v1\/fill$/, { ...pro, image_url: link, mask_url: link }, 'prompt', 'image_url', 'mask_url'],
  [
    /^fal-ai\/flux\/dev$/,
    {
      ...checked,
      acceleration: oneOf('none', 'regular', 'high'),
      guidance_scale: num(1, 20),
      image_size: size(),
      num_images: int(1, 4),
      num_inference_steps: int(1, 50),
      output_format: formats(),
    },
    'prompt',
  ],
  [/^fal-ai\/nano-banana$/, banana(), 'prompt'],
  [/^fal-ai\/nano-banana\/edit$/, banana({ aspect_ratio: autoRatio, image_urls: links(10) }), 'prompt', 'image_urls'],
  [/^fal-ai\/nano-banana-pro$/, bananaPro, 'prompt'],
  [/^fal-ai\/nano-banana-pro\/edit$/, { ...bananaPro, image_urls: links(14) }, 'prompt', 'image_urls'],
  [/^fal-ai\/nano-banana-2$/, banana2, 'prompt'],
  [/^fal-ai\/nano-banana-2\/edit$/, { ...banana2, image_urls: links(14) }, 'prompt', 'image_urls'],
  [/^fal-ai\/gpt-image-1(\.5|-mini)$/, gpt, 'prompt'],
  [/^fal-ai\/gpt-image-1(\.5|-mini)\/edit$/, gptEdit, 'prompt', 'image_urls'],
  [/^fal-ai\/bytedance\/seedream\/v4\/text-to-image$/, V4, 'prompt'],
  [/^fal-ai\/bytedance\/seedream\/v4\/edit$/, { ...V4, image_urls: links(10) }, 'prompt', 'image_urls'],
  [/^fal-ai\/bytedance\/seedream\/v4\.5\/text-to-image$/, V45, 'prompt'],
  [/^fal-ai\/bytedance\/seedream\/v4\.5\/edit$/, { ...V45, image_urls: links(10) }, 'prompt', 'image_urls'],
  [/^fal-ai\/bytedance\/seedream\/v5\/lite\/text-to-image$/, V5, 'prompt'],
  [/^fal-ai\/bytedance\/seedream\/v5\/lite\/edit$/, { ...V5, image_urls: links(10) }, 'prompt', 'image_urls'],
]

const FILMS: readonly Endpoint[] = [
  [/^fal-ai\/bytedance\/seedance\/v1\.5\/pro\/image-to-video$/, seedance15, 'prompt', 'image_url'],
  [
    /^fal-ai\/bytedance\/seedance\/v1\.5\/pro\/text-to-video$/,
    without(seedance15, 'image_url', 'end_image_url'),
    'prompt',
  ],
  [
    /^fal-ai\/bytedance\/seedance\/v1\/(pro|lite)\/image-to-video$/,
    { ...seedance1, end_image_url: link },
    'prompt',
    'image_url',
  ],
  [/^fal-ai\/bytedance\/seedance\/v1\/pro\/fast\/image-to-video$/, seedance1, 'prompt', 'image_url'],
  [
    /^fal-ai\/bytedance\/seedance\/v1\/lite\/reference-to-video$/,
    { ...without(seedance1, 'image_url'), reference_image_urls: links(4), resolution: oneOf('480p', '720p') },
    'prompt',
    'reference_image_urls',
  ],
  [
    /^bytedance\/seedance-2\.0(\/fast|\/mini)?\/image-to-video$/,
    { ...seedance2(15), end_image_url: link },
    'prompt',
    'image_url',
  ],
  [
    /^bytedance\/seedance-2\.0(\/fast|\/mini)?\/reference-to-video$/,
    { ...without(seedance2(15), 'image_url'), ...references },
    'prompt',
  ],
  [/^bytedance\/seedance-2\.5\/image-to-video$/, { ...seedance2(30), end_image_url: link }, 'prompt', 'image_url'],
  [
    /^bytedance\/seedance-2\.5\/reference-to-video$/,
    { ...without(seedance2(30), 'image_url'), ...references },
    'prompt',
  ],
  [/^fal-ai\/veo3\.1(\/fast|\/lite)?\/image-to-video$/, veo, 'prompt', 'image_url'],
  [
    /^fal-ai\/veo3\.1(\/fast|\/lite)?\/first-last-frame-to-video$/,
    { ...without(veo, 'image_url'), first_frame_url: link, last_frame_url: link },
    'prompt',
    'first_frame_url',
    'last_frame_url',
  ],
  [
    /^fal-ai\/veo3\.1(\/fast|\/lite)?\/reference-to-video$/,
    {
      ...without(veo, 'image_url', 'negative_prompt', 'seed'),
      image_urls: links(3),
      aspect_ratio: oneOf('16:9', '9:16'),
    },
    'prompt',
    'image_urls',
  ],
  [
    /^fal-ai\/kling-video\/v2\.6\/pro\/image-to-video$/,
    {
      prompt: text(),
      start_image_url: link,
      end_image_url: link,
      duration: oneOf('5', '10'),
      generate_audio: bool,
      negative_prompt: text(),
      voice_ids: list(text(), 2),
    },
    'prompt',
    'start_image_url',
  ],
  [
    /^fal-ai\/wan\/v2\.7\/image-to-video$/,
    {
      ...film,
      end_image_url: link,
      audio_url: link,
      video_url: link,
      resolution: oneOf('720p', '1080p'),
      duration: oneOf(...numbers(2, 15)),
      negative_prompt: text(),
      enable_prompt_expansion: bool,
    },
  ],
  [
    /^fal-ai\/wan-25-preview\/image-to-video$/,
    {
      ...film,
      audio_url: link,
      resolution: oneOf('480p', '720p', '1080p'),
      duration: oneOf('5', '10'),
      negative_prompt: text(),
      enable_prompt_expansion: bool,
    },
    'prompt',
    'image_url',
  ],
]

/** Ids of providers.md section 11 whose fields are in no source that we have. */
const BY_NAME = /^(fal-ai|openai|wan|alibaba|minimax|blackforestlabs|bytedance)\/[\w./-]+$/

/** What an endpoint has against a body; null when it takes it, 'unknown' when there is no such endpoint. */
export function falProblem(endpoint: string, body: Json | undefined): Wrong | 'unknown' | null {
  const found = [...IMAGES, ...FILMS].find(([pattern]) => pattern.test(endpoint))
  if (found) return wrongIn(body, found[1], found.slice(2) as string[])
  if (!BY_NAME.test(endpoint) || endpoint.includes('no-such')) return 'unknown'
  return typeof body === 'object' && body !== null && !Array.isArray(body)
    ? null
    : { path: [], why: 'must be an object' }
}

export const falGives = (endpoint: string): 'image' | 'video' =>
  /to-video|\/video|-video/.test(endpoint) ? 'video' : 'image'
