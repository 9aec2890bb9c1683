/**
 * Ideogram 3.0 (providers.md 9.5; fal's fields from its SDK).
 *
 * 1. Names are Ideogram's: ratios as `16x9`, words in capitals; an input picture is remixed with `image_weight`.
 * 2. Nothing here speaks Ideogram's own API: the hosts are fal, and Replicate with a model for each speed.
 */
import type { JsonObject } from '../core/json.ts'
import type { Model } from '../core/model.ts'
import type { Draft } from './draft.ts'
import { choice, int, negativePrompt, params, picture, prompt, seed, text } from './fields.ts'
import { fal, replicate } from './hosts.ts'
import { defineModel, type Tell, textIn, type Use, unknownPrice } from './model.ts'
import { shapeIn } from './sizes.ts'

/** Pixels for the ratios, about one megapixel each, in steps of 64. */
const PIXELS: Record<string, [width: number, height: number]> = {
  '1x1': [1024, 1024],
  '16x9': [1344, 768],
  '9x16': [768, 1344],
  '4x3': [1152, 896],
  '3x4': [896, 1152],
  '3x2': [1216, 832],
  '2x3': [832, 1216],
  '16x10': [1280, 800],
  '10x16': [800, 1280],
  '2x1': [1408, 704],
  '1x2': [704, 1408],
  '3x1': [1536, 512],
  '1x3': [512, 1536],
}

const SPEEDS = ['TURBO', 'BALANCED', 'DEFAULT', 'QUALITY']

/** Neither host knows the word DEFAULT, which means BALANCED. */
function speedOf(draft: Draft): string {
  const speed = draft.text('rendering_speed') ?? 'DEFAULT'
  if (speed === 'DEFAULT') draft.adjust('rendering_speed', 'BALANCED', 'that is what DEFAULT means')
  return speed === 'DEFAULT' ? 'BALANCED' : speed
}

function rules(given: JsonObject, tell: Tell, use: Use): void {
  if (given.style_codes !== undefined && given.style_type !== undefined) {
    tell('/style_codes', 'conflict', 'style_codes and style_type exclude each other', 'Give either, not both.')
  }
  if (use.role === 'text_to_image' && given.image_weight !== undefined) {
    tell('/image_weight', 'not_supported', 'image_weight belongs to image_to_image only', 'Leave it out.')
  }
}

function writeFal(draft: Draft): void {
  draft.copy('prompt', 'negative_prompt', 'seed', 'style_codes')
  const image = draft.one('first')
  if (image !== undefined) {
    draft.providerModel += '/remix'
    draft.send('image_url', image)
    draft.send('strength', (draft.number('image_weight') ?? 50) / 100)
  }
  const [width, height] = PIXELS[draft.text('aspect_ratio') ?? '1x1'] ?? [1024, 1024]
  draft.send('image_size', { width, height })
  draft.send('rendering_speed', speedOf(draft))
  const magic = draft.text('magic_prompt') ?? 'AUTO'
  if (magic === 'AUTO') draft.adjust('magic_prompt', true, 'fal knows on and off; on is its default')
  draft.send('expand_prompt', magic !== 'OFF')
  draft.copyAs('style_type', 'style')
  draft.pinAs('num_images', 'num_images')
}

const capital = (word: string): string => word.slice(0, 1) + word.slice(1).toLowerCase()

/** Replicate: words with one capital, one picture a call, an input picture only together with a mask. */
function writeReplicate(draft: Draft): void {
  if (draft.role !== 'text_to_image') draft.refuse('replicate remixes no pictures with this model')
  draft.copy('prompt', 'seed')
  draft.providerModel = `ideogram-ai/ideogram-v3-${speedOf(draft).toLowerCase()}`
  draft.send('aspect_ratio', (draft.text('aspect_ratio') ?? '1x1').replace('x', ':'))
  draft.send('magic_prompt_option', capital(draft.text('magic_prompt') ?? 'AUTO'))
  const style = draft.text('style_type')
  if (style !== undefined) draft.send('style_type', capital(style))
  draft.always('num_images', 1, 'it makes one picture a call')
}

/** Expected time: a synchronous call of 5 to 20 s by speed. No prices in our sources. */
export const IDEOGRAM_MODELS: readonly Model[] = [
  defineModel({
    id: 'ideogram/v3',
    title: 'Ideogram 3.0',
    gives: 'image',
    roles: ['text_to_image', 'image_to_image'],
    params: params({
      prompt: prompt(),
      negative_prompt: negativePrompt(),
      image: picture({ title: 'Input picture', description: 'It is remixed.' }),
      image_weight: int({
        title: 'Image weight',
        description: 'Percent of the picture that stays.',
        min: 1,
        max: 100,
        default: 50,
      }),
      aspect_ratio: choice(Object.keys(PIXELS), { title: 'Aspect ratio', default: '1x1' }),
      rendering_speed: choice(SPEEDS, { title: 'Speed', default: 'DEFAULT' }),
      magic_prompt: choice(['AUTO', 'ON', 'OFF'], { title: 'Magic prompt', default: 'AUTO' }),
      style_type: choice(['AUTO', 'GENERAL', 'REALISTIC', 'DESIGN'], { title: 'Style' }),
      style_codes: {
        type: 'array',
        title: 'Style codes',
        items: text({
          title: 'Code',
          description: '8 hexadecimal digits.',
          max: 8,
          pattern: '^[0-9A-Fa-f]{8}$',
          examples: ['9F1A2B3C'],
        }),
        minItems: 1,
        maxItems: 4,
      },
      num_images: int({ title: 'Pictures', min: 1, max: 8, default: 1 }),
      seed: seed(0, 2_147_483_647),
    }),
    pictures: [{ name: 'image', slot: 'first' }],
    rules,
    aliases: {
      n: 'Ideogram calls it num_images.',
      width: 'Ideogram takes aspect_ratio.',
      height: 'Ideogram takes aspect_ratio.',
    },
    shape: given => shapeIn(textIn(given, 'aspect_ratio'), 'x'),
    price: unknownPrice,
    expectedMs: 15_000,
    routes: [fal('fal-ai/ideogram/v3', writeFal), replicate('ideogram-ai/ideogram-v3-balanced', writeReplicate)],
  }),
]
