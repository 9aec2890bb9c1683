/**
 * Alibaba's picture models: Wan and Qwen-Image (providers.md 8, fal's fields from its SDK).
 *
 * 1. Newer models take `messages` (one synchronous call), older ones a prompt (a task); both are written here as flat
 *    parameters, and DashScope's envelope is made in the translation.
 * 2. Sizes are `WIDTH*HEIGHT`, with an asterisk.
 */
import type { JsonObject } from '../../core/json.ts'
import type { Model, Role } from '../../core/model.ts'
import type { Draft } from '../draft.ts'
import { bool, int, negativePrompt, params, pictureOrPictures, prompt, seed, text } from '../fields.ts'
import { comfyui, fal, noWatermark, replicate, seedOrNone } from '../hosts.ts'
import { defineModel, type RouteSpec, type Tell, textIn, unknownPrice } from '../model.ts'
import { nearestRatio, sizeIn } from '../sizes.ts'

interface Picture {
  id: string
  title: string
  dashscope: string
  roles: readonly Role[]
  /** Input pictures; 0 where it makes pictures from text only. */
  pictures: number
  /** Pictures a call. */
  count: number
  size: { standard: string; pixels: { min: number; max: number } }
  promptLength: number
  promptExtend: boolean
  /** One synchronous call with messages. */
  messages: boolean
  expectedMs: number
  hosts: readonly RouteSpec[]
}

function pictureModel(model: Picture): Model {
  const { pictures, count, size } = model
  return defineModel({
    id: model.id,
    title: model.title,
    gives: 'image',
    roles: model.roles,
    params: params({
      prompt: prompt(model.promptLength),
      negative_prompt: negativePrompt(500),
      ...(pictures > 0
        ? { image: pictureOrPictures(pictures, { title: 'Input picture', description: `Up to ${pictures}.` }) }
        : {}),
      size: text({
        title: 'Size',
        description: 'WIDTH*HEIGHT in pixels, with an asterisk.',
        max: 9,
        pattern: '^[1-9]\\d{2,3}\\*[1-9]\\d{2,3}$',
        ...(model.roles.includes('text_to_image') ? { default: size.standard } : {}),
        examples: [size.standard],
      }),
      ...(count > 1 ? { n: int({ title: 'Pictures', min: 1, max: count, default: 1 }) } : {}),
      ...(model.promptExtend ? { prompt_extend: bool({ title: 'Prompt rewriting', default: true }) } : {}),
      watermark: bool({ title: 'Watermark', default: false }),
      seed: seed(0, 2_147_483_647),
    }),
    pictures: pictures > 0 ? [{ name: 'image', slot: 'first' }] : [],
    rules: (given, tell) => rules(given, tell, size.pixels),
    aliases: {
      width: 'Alibaba takes size: "1024*1024".',
      height: 'Alibaba takes size: "1024*1024".',
      image_size: 'Alibaba takes size: "1024*1024".',
      num_images: 'Alibaba calls it n.',
      images: 'The input pictures are image.',
    },
    shape: given => sizeIn(textIn(given, 'size')),
    price: unknownPrice,
    expectedMs: model.expectedMs,
    routes: [
      { provider: 'dashscope', providerModel: model.dashscope, write: model.messages ? writeMessages : writeTask },
      ...model.hosts,
    ],
  })
}

function rules(given: JsonObject, tell: Tell, pixels: { min: number; max: number }): void {
  const size = sizeIn(textIn(given, 'size'))
  if (!size) return
  const count = size.width * size.height
  if (count < pixels.min || count > pixels.max) {
    tell('/size', 'pixel_count', `size must have ${pixels.min} to ${pixels.max} pixels, not ${count}`)
  }
}

/** `input.messages`: pictures first, then the prompt, as the documentation shows it. */
function writeMessages(draft: Draft): void {
  const content: JsonObject[] = draft.takeAll().map(image => ({ image }))
  content.push({ text: draft.text('prompt') ?? '' })
  draft.send('input', { messages: [{ role: 'user', content }] })
  draft.send('parameters', draft.values('size', 'n', 'negative_prompt', 'prompt_extend', 'watermark', 'seed'))
}

/** The older tasks: prompt and pictures in `input`. */
function writeTask(draft: Draft): void {
  const input = draft.values('prompt', 'negative_prompt')
  const pictures = draft.takeAll()
  if (pictures.length > 0) input.images = pictures
  draft.send('input', input)
  draft.send('parameters', draft.values('size', 'n', 'prompt_extend', 'watermark', 'seed'))
}

/** fal: sizes as an object, the count as `num_images`, or `max_images` where the model decides. */
const writeFal =
  (host: {
    edit?: string
    pictures: number
    count: 'num_images' | 'max_images'
    expansion: 'always' | 'edits' | 'never'
  }) =>
  (draft: Draft): void => {
    draft.copy('prompt', 'negative_prompt', 'seed')
    const pictures = draft.takeAll()
    if (pictures.length > host.pictures) draft.refuse(`fal reads at most ${host.pictures} pictures`)
    if (pictures.length > 0) {
      if (host.edit !== undefined) draft.providerModel = host.edit
      draft.send('image_urls', pictures)
    }
    const size = sizeIn(draft.text('size'))
    if (size) draft.send('image_size', { ...size })
    const edits = pictures.length > 0
    draft.send(edits ? 'num_images' : host.count, draft.number('n') ?? 1)
    if (host.expansion === 'always' || (host.expansion === 'edits' && edits)) {
      draft.pinAs('prompt_extend', 'enable_prompt_expansion')
    } else draft.always('prompt_extend', true, 'it rewrites prompts as it likes')
    noWatermark(draft)
  }

/** fal runs Qwen-Image as open weights: it sends the prompt as it is. */
function writeFalQwen(draft: Draft): void {
  draft.copy('prompt', 'negative_prompt', 'seed')
  const [image, ...more] = draft.takeAll()
  if (more.length > 0) draft.refuse('fal reads one picture for this model')
  draft.send('image_url', image)
  const size = sizeIn(draft.text('size'))
  if (size) draft.send('image_size', { ...size })
  draft.send('num_images', draft.number('n') ?? 1)
  draft.send('output_format', 'png')
  if (draft.given('prompt_extend') === true) draft.adjust('prompt_extend', false, 'fal sends the prompt as it is')
  noWatermark(draft)
}

/** Replicate's Qwen-Image: a ratio instead of a size. */
function writeReplicateQwen(draft: Draft): void {
  draft.copy('prompt', 'negative_prompt')
  const size = sizeIn(draft.text('size')) ?? { width: 1328, height: 1328 }
  const near = nearestRatio(size.width / size.height, ['1:1', '16:9', '9:16', '4:3', '3:4', '3:2', '2:3'])
  if (!near.same) draft.refuse('replicate has no such ratio for this model')
  draft.adjust('size', near.ratio, 'replicate takes a ratio instead of a size')
  draft.send('aspect_ratio', near.ratio)
  draft.send('output_format', 'png')
  draft.pinAs('prompt_extend', 'enhance_prompt')
  seedOrNone(draft, true)
  noWatermark(draft)
}

/** ComfyUI runs the open weights of Qwen-Image. */
function writeComfyQwen(draft: Draft): void {
  draft.copy('prompt', 'negative_prompt', 'seed')
  const size = sizeIn(draft.text('size'))
  if (size) {
    draft.send('width', size.width)
    draft.send('height', size.height)
  }
  if (draft.given('prompt_extend') === true) draft.adjust('prompt_extend', false, 'comfyui sends the prompt as it is')
  noWatermark(draft)
}

const BOTH: readonly Role[] = ['text_to_image', 'image_to_image']
const EDIT = { roles: ['image_to_image'], pictures: 3 } as const

/** What most of Alibaba's picture models have in common: from text, one call. */
const PICTURE = { roles: ['text_to_image'], pictures: 0, promptExtend: true, messages: true } as const
const QWEN = {
  ...PICTURE,
  count: 1,
  size: { standard: '1328*1328', pixels: { min: 262_144, max: 4_194_304 } },
  promptLength: 800,
}
const WAN = {
  ...PICTURE,
  count: 4,
  size: { standard: '1280*1280', pixels: { min: 589_824, max: 2_073_600 } },
  promptLength: 2_000,
}

/** Expected times: a picture takes 10 to 30 s. No prices in our sources. */
export const ALIBABA_IMAGE_MODELS: readonly Model[] = [
  pictureModel({
    ...QWEN,
    id: 'qwen/qwen-image',
    title: 'Qwen-Image',
    dashscope: 'qwen-image',
    expectedMs: 20_000,
    hosts: [
      fal('fal-ai/qwen-image', writeFalQwen),
      replicate('qwen/qwen-image', writeReplicateQwen),
      comfyui('qwen-image', writeComfyQwen),
    ],
  }),
  pictureModel({
    ...QWEN,
    ...EDIT,
    id: 'qwen/qwen-image-edit',
    title: 'Qwen-Image Edit',
    dashscope: 'qwen-image-edit',
    promptExtend: false,
    expectedMs: 25_000,
    hosts: [fal('fal-ai/qwen-image-edit', writeFalQwen)],
  }),
  pictureModel({
    ...WAN,
    roles: BOTH,
    pictures: 3,
    id: 'wan/2.7-image',
    title: 'Wan 2.7 Image',
    dashscope: 'wan2.7-image',
    expectedMs: 25_000,
    hosts: [
      fal(
        'fal-ai/wan/v2.7/text-to-image',
        writeFal({ edit: 'fal-ai/wan/v2.7/edit', pictures: 3, count: 'max_images', expansion: 'edits' }),
      ),
    ],
  }),
  pictureModel({
    ...WAN,
    id: 'wan/2.6-t2i',
    title: 'Wan 2.6 text to image',
    dashscope: 'wan2.6-t2i',
    expectedMs: 20_000,
    hosts: [fal('wan/v2.6/text-to-image', writeFal({ pictures: 0, count: 'max_images', expansion: 'never' }))],
  }),
  pictureModel({
    ...WAN,
    ...EDIT,
    id: 'wan/2.6-image',
    title: 'Wan 2.6 image editing',
    dashscope: 'wan2.6-image',
    expectedMs: 25_000,
    hosts: [fal('wan/v2.6/image-to-image', writeFal({ pictures: 3, count: 'num_images', expansion: 'always' }))],
  }),
  pictureModel({
    ...WAN,
    id: 'wan/2.5-t2i',
    title: 'Wan 2.5 text to image',
    dashscope: 'wan2.5-t2i-preview',
    messages: false,
    expectedMs: 25_000,
    hosts: [
      fal('fal-ai/wan-25-preview/text-to-image', writeFal({ pictures: 0, count: 'num_images', expansion: 'always' })),
    ],
  }),
  pictureModel({
    ...WAN,
    ...EDIT,
    id: 'wan/2.5-i2i',
    title: 'Wan 2.5 image editing',
    dashscope: 'wan2.5-i2i-preview',
    size: { standard: '1280*1280', pixels: { min: 147_456, max: 2_073_600 } },
    promptExtend: false,
    messages: false,
    expectedMs: 30_000,
    hosts: [
      fal('fal-ai/wan-25-preview/image-to-image', writeFal({ pictures: 2, count: 'num_images', expansion: 'never' })),
    ],
  }),
  ...['flash', 'plus'].map(speed =>
    pictureModel({
      ...WAN,
      id: `wan/2.2-t2i-${speed}`,
      title: `Wan 2.2 text to image, ${speed}`,
      dashscope: `wan2.2-t2i-${speed}`,
      size: { standard: '1024*1024', pixels: { min: 262_144, max: 2_073_600 } },
      promptLength: 800,
      messages: false,
      expectedMs: 20_000,
      hosts: [],
    }),
  ),
]
