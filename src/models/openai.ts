/**
 * OpenAI's image models (providers.md 5, other hosts 3.5, 4.4 and 7, mapping 11.1).
 *
 * 1. Generations and edits are two endpoints at OpenAI; `image` and `mask` belong to the edit.
 * 2. From gpt-image-2 on a size is any WIDTHxHEIGHT of multiples of 16; before, one of three.
 * 3. OpenAI reads the pictures of an edit as files: its adapter must hand over bytes.
 */
import type { JsonObject } from '../core/json.ts'
import type { Model } from '../core/model.ts'
import type { Draft } from './draft.ts'
import { choice, int, params, picture, pictureOrPictures, prompt, text } from './fields.ts'
import { fal, replicate, runway } from './hosts.ts'
import { defineModel, numberIn, type Price, type RouteSpec, type Tell, textIn, type Use } from './model.ts'
import { sizeIn } from './sizes.ts'

interface GptImage {
  name: string
  title: string
  /** Sizes: one of three, or any. */
  anySize: boolean
  qualities: readonly string[]
  transparent: boolean
  fidelity: boolean
  /** US dollars a picture made of words by `quality size`; others are unknown. */
  usd: Readonly<Record<string, number>>
  expectedMs: number
  hosts: readonly RouteSpec[]
}

const THREE_SIZES = ['1024x1024', '1536x1024', '1024x1536']

/** Pixels of the largest picture: 3840 × 2160. */
const MOST_PIXELS = 8_294_400

const sizeField = (any: boolean): JsonObject =>
  any
    ? text({
        title: 'Size',
        description: 'auto, or WIDTHxHEIGHT of multiples of 16, between 1:3 and 3:1, up to 3840x2160.',
        max: 9,
        pattern: '^(auto|[1-9]\\d{1,3}x[1-9]\\d{1,3})$',
        default: 'auto',
        examples: ['auto', ...THREE_SIZES],
      })
    : choice(['auto', ...THREE_SIZES], { title: 'Size', default: 'auto' })

const backgrounds = (transparent: boolean): readonly string[] =>
  transparent ? ['auto', 'transparent', 'opaque'] : ['auto', 'opaque']

function gptImage(model: GptImage): Model {
  return defineModel({
    id: `openai/${model.name}`,
    title: model.title,
    gives: 'image',
    roles: ['text_to_image', 'image_to_image'],
    params: params({
      prompt: prompt(32_000),
      image: pictureOrPictures(16, { title: 'Input picture', description: 'One picture, or a list of up to 16.' }),
      mask: picture({
        title: 'Mask',
        description: 'Transparent where the picture shall change; a PNG of the same size.',
      }),
      n: int({ title: 'Pictures', min: 1, max: 10, default: 1 }),
      size: sizeField(model.anySize),
      quality: choice(model.qualities, { title: 'Quality', default: 'auto' }),
      background: choice(backgrounds(model.transparent), { title: 'Background', default: 'auto' }),
      output_format: choice(['png', 'jpeg', 'webp'], { title: 'Output format', default: 'png' }),
      output_compression: int({ title: 'Compression', description: 'Percent, for jpeg and webp.', min: 0, max: 100 }),
      moderation: choice(['auto', 'low'], { title: 'Moderation', description: 'Not for edits.', default: 'auto' }),
      ...(model.fidelity
        ? {
            input_fidelity: choice(['low', 'high'], {
              title: 'Input fidelity',
              description: 'For edits.',
              default: 'low',
            }),
          }
        : {}),
      safety_identifier: text({ title: 'End user', description: 'A stable id of your user.', max: 64 }),
      user: text({ title: 'End user (old)', description: 'Older name of safety_identifier.', max: 64 }),
    }),
    pictures: [
      { name: 'image', slot: 'first' },
      { name: 'mask', slot: 'mask' },
    ],
    rules,
    aliases: {
      images: 'OpenAI calls it image.',
      image_size: 'OpenAI calls it size.',
      width: 'OpenAI takes size: "1024x1024".',
      height: 'OpenAI takes size: "1024x1024".',
      num_images: 'OpenAI calls it n.',
      seed: 'OpenAI takes no seed.',
      response_format: 'BabyChain keeps the pictures itself.',
    },
    shape: given => sizeIn(textIn(given, 'size')),
    price: priceOf(model.usd),
    expectedMs: model.expectedMs,
    routes: [{ provider: 'openai', providerModel: model.name, write: writeOpenAi }, ...model.hosts],
  })
}

function rules(given: JsonObject, tell: Tell, use: Use): void {
  const size = sizeIn(textIn(given, 'size'))
  if (size && !THREE_SIZES.includes(textIn(given, 'size') ?? '')) {
    const { width, height } = size
    const ratio = width / height
    if (width % 16 !== 0 || height % 16 !== 0)
      tell('/size', 'multiple_of', 'width and height of size must be multiples of 16')
    if (ratio < 1 / 3 || ratio > 3) tell('/size', 'ratio', 'size must be between 1:3 and 3:1')
    if (width > 3840 || height > 3840 || width * height > MOST_PIXELS) {
      tell('/size', 'too_many_pixels', 'size must be at most 3840x2160')
    }
  }
  if (use.role === 'image_to_image') {
    if (given.moderation !== undefined) {
      tell('/moderation', 'not_supported', 'moderation belongs to text_to_image only', 'Leave it out.')
    }
  } else {
    for (const name of ['mask', 'input_fidelity']) {
      if (given[name] !== undefined) tell(`/${name}`, 'not_supported', `${name} belongs to edits only`, 'Leave it out.')
    }
  }
  if (given.background === 'transparent' && given.output_format === 'jpeg') {
    tell('/background', 'conflict', 'a transparent background needs png or webp', 'Set output_format to "png".')
  }
  if (given.output_compression !== undefined && (given.output_format ?? 'png') === 'png') {
    tell('/output_compression', 'conflict', 'output_compression needs output_format jpeg or webp')
  }
}

function writeOpenAi(draft: Draft): void {
  draft.copy('prompt')
  const pictures = [...draft.take('first'), ...draft.take('reference')].map(ref => ref.ref)
  if (pictures.length > 0) {
    draft.send('images', pictures)
    draft.send('mask', draft.one('mask'))
    draft.pin('input_fidelity')
  } else draft.pin('moderation')
  draft.pin('n', 'size', 'quality', 'background', 'output_format')
  draft.copy('output_compression', 'safety_identifier', 'user')
}

/** What only OpenAI and Replicate can be told. */
function onlyAtOpenAi(draft: Draft): void {
  draft.always('moderation', 'auto', 'its moderation is its own')
}

/** fal's first generation: three sizes, `auto` only for edits, no `auto` quality where pictures are made from text. */
function writeFal1(draft: Draft): void {
  const pictures = falPictures(draft, 'mask_image_url')
  if (pictures) draft.pin('input_fidelity')
  const size = draft.text('size') ?? 'auto'
  if (size === 'auto' && !pictures) draft.adjust('size', '1024x1024', 'fal chooses no size for a picture from text')
  draft.send('image_size', size === 'auto' && !pictures ? '1024x1024' : size)
  const quality = draft.text('quality') ?? 'auto'
  if (quality === 'auto') draft.adjust('quality', 'high', 'fal has no automatic quality; its own default is high')
  draft.send('quality', quality === 'auto' ? 'high' : quality)
  draft.pin('background', 'output_format')
}

/** fal's gpt-image-2: sizes as an object, `auto` for edits. */
function writeFal2(draft: Draft): void {
  const pictures = falPictures(draft, 'mask_url')
  const size = sizeIn(draft.text('size'))
  if (!size && !pictures) draft.adjust('size', '1024x1024', 'fal chooses no size for a picture from text')
  draft.send('image_size', size ? { ...size } : pictures ? 'auto' : { width: 1024, height: 1024 })
  draft.pin('quality', 'output_format')
  draft.always('background', 'auto', 'it chooses the background')
}

function falPictures(draft: Draft, maskField: string): boolean {
  draft.copy('prompt')
  const pictures = [...draft.take('first'), ...draft.take('reference')].map(ref => ref.ref)
  if (pictures.length > 0) {
    draft.providerModel += '/edit'
    draft.send('image_urls', pictures)
    draft.send(maskField, draft.one('mask'))
  }
  draft.pinAs('n', 'num_images')
  onlyAtOpenAi(draft)
  return pictures.length > 0
}

const REPLICATE_RATIOS: Record<string, string> = { '1024x1024': '1:1', '1536x1024': '3:2', '1024x1536': '2:3' }

/** Replicate: a ratio instead of a size, no mask. */
function writeReplicate(draft: Draft): void {
  draft.copy('prompt')
  const pictures = [...draft.take('first'), ...draft.take('reference')].map(ref => ref.ref)
  if (pictures.length > 0) {
    draft.send('input_images', pictures)
    draft.pin('input_fidelity')
  }
  const size = draft.text('size') ?? 'auto'
  const ratio = REPLICATE_RATIOS[size]
  if (size === 'auto') draft.adjust('size', '1024x1024', 'replicate chooses no size')
  else if (ratio === undefined) draft.refuse(`replicate takes the sizes ${THREE_SIZES.join(', ')}`)
  draft.send('aspect_ratio', ratio ?? '1:1')
  draft.pinAs('n', 'number_of_images')
  draft.pin('quality', 'background', 'output_format', 'moderation')
  draft.copy('output_compression')
  const user = draft.given('safety_identifier') ?? draft.given('user')
  if (draft.given('safety_identifier') !== undefined) draft.adjust('user', null, 'safety_identifier takes its place')
  draft.send('user_id', user)
}

/** The sizes of Runway's list, from its SDK. */
const RUNWAY_SIZES = [
  '2048x880',
  '1920x1088',
  '1920x1280',
  '1920x1440',
  '1920x1536',
  '1920x1920',
  '1536x1920',
  '1440x1920',
  '1280x1920',
  '1088x1920',
  '2912x1248',
  '2560x1440',
  '2560x1712',
  '2560x1920',
  '2560x2048',
  '2560x2560',
  '2048x2560',
  '1920x2560',
  '1712x2560',
  '1440x2560',
  '3840x1648',
  '3840x2160',
  '3504x2336',
  '3264x2448',
  '3200x2560',
  '2880x2880',
  '2560x3200',
  '2448x3264',
  '2336x3504',
  '2160x3840',
]

/** Runway: its own list of sizes, PNG, pictures as references without a mask. */
const writeRunway =
  (autoQuality: boolean) =>
  (draft: Draft): void => {
    draft.send('promptText', draft.text('prompt'))
    const pictures = [...draft.take('first'), ...draft.take('reference')].map(ref => ({ uri: ref.ref }))
    if (pictures.length > 0) draft.send('referenceImages', pictures)
    const size = draft.text('size') ?? 'auto'
    if (size !== 'auto' && !RUNWAY_SIZES.includes(size)) draft.refuse(`runway has no size ${size}`)
    draft.send('ratio', size.replace('x', ':'))
    draft.pinAs('n', 'outputCount')
    const quality = draft.text('quality') ?? 'auto'
    const named = quality === 'auto' && !autoQuality ? 'high' : quality
    if (named !== quality) draft.adjust('quality', named, 'runway has no automatic quality; its own default is high')
    draft.send('quality', named)
    draft.pin('background')
    draft.always('output_format', 'png', 'it gives png')
    onlyAtOpenAi(draft)
  }

/** The pictures of an edit are billed by their tokens, and no list of ours has their price: with them nobody knows. */
function priceOf(usd: Readonly<Record<string, number>>): Price {
  return (given, { pictures }) => {
    if (pictures.length > 0) return null
    const each = usd[`${textIn(given, 'quality')} ${textIn(given, 'size')}`]
    return each === undefined ? null : each * (numberIn(given, 'n') ?? 1)
  }
}

/** Of gpt-image-1.5 our sources know the ends only: .009 to .20; of gpt-image-2 OpenAI's table. */
const USD_1_5 = { 'low 1024x1024': 0.009 }
const USD_2 = {
  'low 1024x1024': 0.006,
  'medium 1024x1024': 0.053,
  'high 1024x1024': 0.211,
  'medium 1024x1536': 0.05,
  'high 1024x1536': 0.17,
}

const QUALITIES = ['auto', 'low', 'medium', 'high']
const MORE_QUALITIES = [...QUALITIES, 'xhigh', 'max']

const from25 = (name: string, title: string, hosts: readonly RouteSpec[], transparent: boolean): Model =>
  gptImage({
    name,
    title,
    anySize: true,
    qualities: MORE_QUALITIES,
    transparent,
    fidelity: false,
    usd: {},
    expectedMs: 45_000,
    hosts,
  })

/** Expected times: a synchronous call, 40 to 50 s at high quality (observed), up to two minutes. */
export const OPENAI_MODELS: readonly Model[] = [
  gptImage({
    name: 'gpt-image-1.5',
    title: 'GPT Image 1.5',
    anySize: false,
    qualities: QUALITIES,
    transparent: true,
    fidelity: true,
    usd: USD_1_5,
    expectedMs: 45_000,
    hosts: [fal('fal-ai/gpt-image-1.5', writeFal1), replicate('openai/gpt-image-1.5', writeReplicate)],
  }),
  gptImage({
    name: 'gpt-image-1-mini',
    title: 'GPT Image 1 mini',
    anySize: false,
    qualities: QUALITIES,
    transparent: true,
    fidelity: false,
    usd: {},
    expectedMs: 25_000,
    hosts: [fal('fal-ai/gpt-image-1-mini', writeFal1, () => null)],
  }),
  gptImage({
    name: 'gpt-image-2',
    title: 'GPT Image 2',
    anySize: true,
    qualities: QUALITIES,
    transparent: false,
    fidelity: false,
    usd: USD_2,
    expectedMs: 45_000,
    hosts: [
      fal('openai/gpt-image-2', writeFal2),
      replicate('openai/gpt-image-2', writeReplicate),
      runway('gpt_image_2', writeRunway(true)),
    ],
  }),
  from25(
    'gpt-image-2.5-sunburst',
    'GPT Image 2.5 Sunburst',
    [runway('gpt_image_2_5_sunburst', writeRunway(false))],
    true,
  ),
  from25('gpt-image-2.5-flare', 'GPT Image 2.5 Flare', [runway('gpt_image_2_5_flare', writeRunway(false))], false),
  from25('gpt-image-2.6-sunburst', 'GPT Image 2.6 Sunburst', [], true),
  from25('gpt-image-2.6-flare', 'GPT Image 2.6 Flare', [], false),
  gptImage({
    name: 'chatgpt-image-latest',
    title: 'ChatGPT Image (latest)',
    anySize: false,
    qualities: QUALITIES,
    transparent: true,
    fidelity: true,
    usd: {},
    expectedMs: 45_000,
    hosts: [],
  }),
]
