/**
 * What Replicate's models take (providers.md 4.4). A model that is known by its id alone takes any object.
 */
import type { Json } from '../../../src/core/json.ts'
import {
  bool,
  type Fields,
  int,
  list,
  matching,
  num,
  oneOf,
  type Rule,
  text,
  urlOrData,
  type Wrong,
  wrongIn,
} from './fields.ts'

/** 256 KB are advised for data URIs; more than a megabyte does not pass. */
const picture = urlOrData(1_000_000)
const pictures = (max: number): Rule => list(picture, max)
const seed = int(0, 4_294_967_295)
const RATIO = matching(/^(\d+:\d+|match_input_image|custom|adaptive)$/, 'a ratio')
const formats = (...names: string[]): Rule => oneOf(...names)

const flux2: Fields = {
  prompt: text(),
  input_images: pictures(10),
  aspect_ratio: RATIO,
  resolution: oneOf('0.5 MP', '1 MP', '2 MP', '4 MP', 'match_input_image'),
  width: int(256, 2_048, 32),
  height: int(256, 2_048, 32),
  safety_tolerance: int(1, 5),
  seed,
  output_format: formats('webp', 'jpg', 'png'),
  output_quality: int(0, 100),
}
const kontext: Fields = {
  prompt: text(),
  input_image: picture,
  aspect_ratio: RATIO,
  output_format: formats('png', 'jpg'),
  safety_tolerance: int(0, 6),
  prompt_upsampling: bool,
  seed,
}
const seedream = (sizes: string[], more: Fields = {}): Fields => ({
  prompt: text(),
  image_input: pictures(14),
  size: oneOf(...sizes),
  aspect_ratio: RATIO,
  width: int(1_024, 4_096),
  height: int(1_024, 4_096),
  sequential_image_generation: oneOf('disabled', 'auto'),
  max_images: int(1, 15),
  ...more,
})
const seedance: Fields = {
  prompt: text(),
  image: picture,
  last_frame_image: picture,
  duration: int(2, 12),
  aspect_ratio: RATIO,
  fps: oneOf(24),
  camera_fixed: bool,
  seed,
}
const banana: Fields = {
  prompt: text(),
  image_input: pictures(14),
  aspect_ratio: RATIO,
  output_format: formats('jpg', 'png'),
}
const gpt: Fields = {
  prompt: text(),
  input_images: pictures(16),
  aspect_ratio: oneOf('1:1', '3:2', '2:3'),
  quality: oneOf('low', 'medium', 'high', 'auto'),
  background: oneOf('auto', 'transparent', 'opaque'),
  number_of_images: int(1, 10),
  output_format: formats('png', 'jpeg', 'webp'),
  output_compression: int(0, 100),
  moderation: oneOf('auto', 'low'),
  input_fidelity: oneOf('low', 'high'),
  user_id: text(200),
}
const veo: Fields = {
  prompt: text(),
  image: picture,
  last_frame: picture,
  reference_images: pictures(3),
  duration: oneOf(4, 6, 8),
  resolution: oneOf('720p', '1080p'),
  aspect_ratio: oneOf('16:9', '9:16'),
  generate_audio: bool,
  negative_prompt: text(),
  seed,
}
const wan: Fields = {
  prompt: text(),
  image: picture,
  negative_prompt: text(),
  duration: oneOf(5, 10),
  resolution: oneOf('480p', '720p', '1080p'),
  seed,
  enable_prompt_expansion: bool,
}

type Entry = [pattern: RegExp, fields: Fields, gives: 'image' | 'video']

const MODELS: readonly Entry[] = [
  [
    /^black-forest-labs\/flux-2-flex$/,
    { ...flux2, prompt_upsampling: bool, steps: int(1, 50), guidance: num(1.5, 10) },
    'image',
  ],
  [/^black-forest-labs\/flux-2-(pro|max)$/, flux2, 'image'],
  [/^black-forest-labs\/flux-kontext-(pro|max)$/, kontext, 'image'],
  [
    /^black-forest-labs\/flux-1\.1-pro$/,
    {
      prompt: text(),
      image_prompt: picture,
      aspect_ratio: RATIO,
      width: int(256, 1_440, 32),
      height: int(256, 1_440, 32),
      output_format: formats('webp', 'jpg', 'png'),
      output_quality: int(0, 100),
      safety_tolerance: int(1, 6),
      prompt_upsampling: bool,
      seed,
    },
    'image',
  ],
  [/^bytedance\/seedream-4\.5$/, seedream(['2K', '4K', 'custom']), 'image'],
  [/^bytedance\/seedream-4$/, seedream(['1K', '2K', '4K', 'custom'], { enhance_prompt: bool }), 'image'],
  [/^bytedance\/seedream-5-lite$/, seedream(['2K', '3K'], { output_format: formats('png', 'jpeg') }), 'image'],
  [
    /^bytedance\/seedream-5-pro$/,
    seedream(['2K', '1.5K', '1K', 'auto'], { output_format: formats('png', 'jpeg') }),
    'image',
  ],
  [/^bytedance\/seedance-1\.5-pro$/, { ...seedance, generate_audio: bool }, 'video'],
  [
    /^bytedance\/seedance-1-(pro|lite|pro-fast)$/,
    { ...seedance, resolution: oneOf('480p', '720p', '1080p'), reference_images: pictures(4) },
    'video',
  ],
  [/^google\/nano-banana$/, banana, 'image'],
  [
    /^google\/nano-banana-(pro|2|2-lite)$/,
    { ...banana, resolution: oneOf('1K', '2K', '4K'), safety_filter_level: text() },
    'image',
  ],
  [/^google\/veo-3\.1(-fast)?$/, veo, 'video'],
  [/^openai\/gpt-image-(1\.5|2)$/, gpt, 'image'],
  [/^wan-video\/wan-2\.5-i2v(-fast)?$/, wan, 'video'],
]

const BY_NAME =
  /^(black-forest-labs|bytedance|google|openai|wan-video|kwaivgi|minimax|qwen|ideogram-ai|luma|runwayml)\/[\w.-]+$/

/** What a model has against an input; null when it takes it, 'unknown' when there is no such model. */
export function replicateProblem(model: string, input: Json | undefined): Wrong | 'unknown' | null {
  const found = MODELS.find(([pattern]) => pattern.test(model))
  if (found) return wrongIn(input, found[1], ['prompt'])
  if (!BY_NAME.test(model) || model.includes('no-such')) return 'unknown'
  return typeof input === 'object' && input !== null && !Array.isArray(input)
    ? null
    : { path: [], why: 'must be an object' }
}

export function replicateGives(model: string): 'image' | 'video' {
  const found = MODELS.find(([pattern]) => pattern.test(model))
  return found?.[2] ?? (/seedance|veo|kling|wan|i2v|t2v|hailuo|ray-/.test(model) ? 'video' : 'image')
}
