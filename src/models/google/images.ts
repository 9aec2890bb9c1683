/**
 * Google's Gemini image models, known as Nano Banana (providers.md 6.1, other hosts 3.5, 4.4 and 7, mapping 11.1).
 *
 * 1. The body is that of generateContent: the prompt and the pictures are parts, everything else is configuration.
 * 2. Gemini reads pictures as bytes only, so its adapter must hand over data URIs.
 * 3. A seed helps repeat a picture at one host and means nothing at another: a host without seeds may still be used.
 */
import type { JsonObject } from '../../core/json.ts'
import type { Model } from '../../core/model.ts'
import type { Draft } from '../draft.ts'
import { choice, params, pictureOrPictures, prompt, seed } from '../fields.ts'
import { fal, replicate, runway, seedOrNone } from '../hosts.ts'
import { defineModel, type Price, type RouteSpec, textIn } from '../model.ts'
import { nearestRatio, ratioOf, shapeIn } from '../sizes.ts'
import { google, inline } from './data.ts'

const RATIOS = ['1:1', '2:3', '3:2', '3:4', '4:3', '4:5', '5:4', '9:16', '16:9', '21:9']
/** What 3.1 adds. */
const EXTREME = ['1:4', '4:1', '1:8', '8:1']

const HARM = ['HARASSMENT', 'HATE_SPEECH', 'SEXUALLY_EXPLICIT', 'DANGEROUS_CONTENT', 'CIVIC_INTEGRITY']

const safetySettings: JsonObject = {
  type: 'array',
  title: 'Safety settings',
  items: {
    type: 'object',
    properties: {
      category: choice(
        HARM.map(harm => `HARM_CATEGORY_${harm}`),
        { title: 'Category' },
      ),
      threshold: choice(['BLOCK_LOW_AND_ABOVE', 'BLOCK_MEDIUM_AND_ABOVE', 'BLOCK_ONLY_HIGH', 'BLOCK_NONE', 'OFF'], {
        title: 'Threshold',
      }),
    },
    required: ['category', 'threshold'],
    additionalProperties: false,
  },
  maxItems: HARM.length,
}

interface NanoBanana {
  name: string
  title: string
  id: string
  ratios: readonly string[]
  /** Sizes that can be asked for; none for 2.5. */
  sizes: readonly string[]
  pictures: number
  price: Price
  expectedMs: number
  hosts: readonly RouteSpec[]
}

function nanoBanana(model: NanoBanana): Model {
  const { sizes, pictures } = model
  return defineModel({
    id: `google/${model.name}`,
    title: model.title,
    gives: 'image',
    roles: ['text_to_image', 'image_to_image'],
    params: params({
      prompt: prompt(),
      image: pictureOrPictures(pictures, {
        title: 'Input picture',
        description: `One picture, or a list of up to ${pictures}.`,
      }),
      aspectRatio: choice(model.ratios, {
        title: 'Aspect ratio',
        description: 'Left out: square, or the ratio of the input picture.',
      }),
      ...(sizes.length > 0 ? { imageSize: choice(sizes, { title: 'Image size', default: '1K' }) } : {}),
      seed: seed(0, 2_147_483_647),
      safetySettings,
    }),
    pictures: [{ name: 'image', slot: 'first' }],
    aliases: {
      contents: 'Give the text as prompt and the pictures as image.',
      generationConfig: 'Give aspectRatio, imageSize and seed directly.',
      image_size: 'Gemini calls it imageSize.',
      aspect_ratio: 'Gemini calls it aspectRatio.',
      resolution: 'Gemini calls it imageSize.',
      image_urls: 'Give the pictures as image.',
      num_images: 'Gemini makes one picture a call.',
    },
    shape: given => shapeIn(textIn(given, 'aspectRatio')),
    price: model.price,
    expectedMs: model.expectedMs,
    routes: [google(model.id, writeGoogle), ...model.hosts],
  })
}

function writeGoogle(draft: Draft): void {
  const parts: JsonObject[] = [{ text: draft.text('prompt') ?? '' }]
  for (const ref of draft.takeAll()) {
    const data = inline(draft, ref)
    if (data) parts.push({ inlineData: { mimeType: data.mimeType, data: data.data } })
  }
  draft.send('contents', [{ role: 'user', parts }])
  const imageConfig: JsonObject = {}
  const ratio = draft.text('aspectRatio')
  const size = draft.text('imageSize')
  if (ratio !== undefined) imageConfig.aspectRatio = ratio
  if (size !== undefined) imageConfig.imageSize = size
  const wanted = draft.given('seed')
  draft.send('generationConfig', {
    responseModalities: ['IMAGE'],
    ...(Object.keys(imageConfig).length > 0 ? { imageConfig } : {}),
    ...(wanted === undefined ? {} : { seed: wanted }),
  })
  draft.copy('safetySettings')
}

/** fal: an endpoint for edits, the sizes under another name, one picture as PNG. */
function writeFal(draft: Draft): void {
  draft.copy('prompt', 'seed')
  const pictures = draft.takeAll()
  if (pictures.length > 0) {
    draft.providerModel += '/edit'
    draft.send('image_urls', pictures)
  }
  draft.send('aspect_ratio', draft.text('aspectRatio') ?? (pictures.length > 0 ? 'auto' : '1:1'))
  const size = draft.text('imageSize')
  draft.send('resolution', size === '512' ? '0.5K' : size)
  draft.send('num_images', 1)
  draft.send('output_format', 'png')
}

/** Replicate: pictures in `image_input`, no seed. */
function writeReplicate(draft: Draft): void {
  draft.copy('prompt')
  const pictures = draft.takeAll()
  if (pictures.length > 0) draft.send('image_input', pictures)
  draft.send('aspect_ratio', draft.text('aspectRatio') ?? (pictures.length > 0 ? 'match_input_image' : '1:1'))
  const size = draft.text('imageSize')
  if (size === '512') draft.refuse('replicate has no size 512 for this model')
  draft.send('resolution', size)
  draft.send('output_format', 'png')
  seedOrNone(draft, false)
}

/** Runway names size and ratio together, in pixels; the lists are its SDK's. */
const PIXELS_1K = [
  '1024:1024',
  '832:1248',
  '1248:832',
  '864:1184',
  '1184:864',
  '896:1152',
  '1152:896',
  '768:1344',
  '1344:768',
  '1536:672',
]
const PIXELS: Record<string, readonly string[]> = {
  '512': ['512:512', '416:624', '624:416', '432:592', '592:432', '448:576', '576:448', '384:672', '672:384', '768:336'],
  '1K': PIXELS_1K,
  '2K': [
    '2048:2048',
    '1696:2528',
    '2528:1696',
    '1792:2400',
    '2400:1792',
    '1856:2304',
    '2304:1856',
    '1536:2752',
    '2752:1536',
    '3168:1344',
  ],
  '4K': [
    '4096:4096',
    '3392:5056',
    '5056:3392',
    '3584:4800',
    '4800:3584',
    '3712:4608',
    '4608:3712',
    '3072:5504',
    '5504:3072',
    '6336:2688',
  ],
}

function writeRunway(draft: Draft): void {
  draft.send('promptText', draft.text('prompt'))
  const pictures = draft.takeAll()
  if (pictures.length > 0) {
    draft.send(
      'referenceImages',
      pictures.map(uri => ({ uri })),
    )
  }
  const ratio = draft.text('aspectRatio') ?? (pictures.length > 0 ? undefined : '1:1')
  const named = nearestRatio(ratioOf(ratio ?? '1:1'), PIXELS[draft.text('imageSize') ?? '1K'] ?? PIXELS_1K)
  if (ratio === undefined) draft.refuse('runway needs an aspectRatio')
  else if (!named.same) draft.refuse(`runway has no ratio ${ratio} for this model`)
  draft.send('ratio', named.ratio)
  seedOrNone(draft, false)
}

/** US dollars a picture by its size. */
const bySize =
  (usd: Readonly<Record<string, number>>): Price =>
  given =>
    usd[textIn(given, 'imageSize') ?? '1K'] ?? null

/** Expected times: Flash answers within 10 s, Pro within half a minute. Prices: providers.md 6.2 and 3.5. */
export const NANO_BANANA_MODELS: readonly Model[] = [
  nanoBanana({
    name: 'nano-banana',
    title: 'Nano Banana (Gemini 2.5 Flash Image)',
    id: 'gemini-2.5-flash-image',
    ratios: RATIOS,
    sizes: [],
    pictures: 3,
    price: bySize({ '1K': 0.039 }),
    expectedMs: 10_000,
    hosts: [
      fal('fal-ai/nano-banana', writeFal),
      replicate('google/nano-banana', writeReplicate),
      runway('gemini_2.5_flash', writeRunway),
    ],
  }),
  nanoBanana({
    name: 'nano-banana-pro',
    title: 'Nano Banana Pro (Gemini 3 Pro Image)',
    id: 'gemini-3-pro-image',
    ratios: RATIOS,
    sizes: ['1K', '2K', '4K'],
    pictures: 14,
    price: bySize({ '1K': 0.134, '2K': 0.134, '4K': 0.24 }),
    expectedMs: 30_000,
    hosts: [
      fal('fal-ai/nano-banana-pro', writeFal, bySize({ '1K': 0.15, '2K': 0.15, '4K': 0.3 })),
      replicate('google/nano-banana-pro', writeReplicate),
      runway('gemini_image3_pro', writeRunway),
    ],
  }),
  nanoBanana({
    name: 'nano-banana-2',
    title: 'Nano Banana 2 (Gemini 3.1 Flash Image)',
    id: 'gemini-3.1-flash-image',
    ratios: [...RATIOS, ...EXTREME],
    sizes: ['512', '1K', '2K', '4K'],
    pictures: 14,
    price: () => null,
    expectedMs: 15_000,
    hosts: [
      fal('fal-ai/nano-banana-2', writeFal, bySize({ '1K': 0.08 })),
      replicate('google/nano-banana-2', writeReplicate),
      runway('gemini_image3.1_flash', writeRunway),
    ],
  }),
  nanoBanana({
    name: 'nano-banana-2-lite',
    title: 'Nano Banana 2 lite (Gemini 3.1 Flash Lite Image)',
    id: 'gemini-3.1-flash-lite-image',
    ratios: [...RATIOS, ...EXTREME],
    sizes: ['512', '1K', '2K', '4K'],
    pictures: 14,
    price: () => null,
    expectedMs: 10_000,
    hosts: [replicate('google/nano-banana-2-lite', writeReplicate)],
  }),
  nanoBanana({
    name: 'nano-banana-2.1',
    title: 'Nano Banana 2.1',
    id: 'gemini-nano-banana-2.1',
    ratios: [...RATIOS, ...EXTREME],
    sizes: ['512', '1K', '2K', '4K'],
    pictures: 14,
    price: () => null,
    expectedMs: 15_000,
    hosts: [],
  }),
]
