/**
 * FLUX 3 by Black Forest Labs: pictures and films (providers.md 1.2, 1.4, 1.5; from an adapter, not from the OpenAPI).
 *
 * 1. Only fields whose names are certain are here; the web search switch of flux-3-image has none in our sources.
 * 2. Films begin with `keyframes`: one picture is the first frame, two are first and last.
 */
import type { JsonObject } from '../../core/json.ts'
import type { Model } from '../../core/model.ts'
import type { Draft } from '../draft.ts'
import { bool, choice, int, params, pictureOrPictures, pictures, prompt } from '../fields.ts'
import { defineModel, numberIn, type Tell, textIn, type Use } from '../model.ts'
import { shapeIn } from '../sizes.ts'
import { bare, bfl, perPicture } from './shared.ts'

const IMAGE_RATIOS = [
  'auto',
  '21:9',
  '2:1',
  '16:9',
  '3:2',
  '7:5',
  '4:3',
  '5:4',
  '1:1',
  '4:5',
  '3:4',
  '5:7',
  '2:3',
  '9:16',
  '1:2',
  '9:21',
]

function image(name: string, title: string, usd: number | null, expectedMs: number): Model {
  return defineModel({
    id: `bfl/${name}`,
    title,
    gives: 'image',
    roles: ['text_to_image', 'image_to_image'],
    params: params({
      prompt: prompt(),
      images: pictureOrPictures(10, { title: 'Input pictures', description: 'One picture, or a list of up to 10.' }),
      aspect_ratio: choice(IMAGE_RATIOS, { title: 'Aspect ratio' }),
      resolution: choice(['768sq', '1k', '1.5k', '2k', '4k'], { title: 'Resolution' }),
    }),
    pictures: [{ name: 'images', slot: 'first' }],
    aliases: {
      input_image: 'FLUX 3 takes images.',
      width: 'FLUX 3 takes aspect_ratio and resolution.',
      height: 'FLUX 3 takes aspect_ratio and resolution.',
    },
    shape: given => shapeIn(textIn(given, 'aspect_ratio')),
    price: perPicture(usd),
    expectedMs,
    routes: [bfl(name, writeImage)],
  })
}

function writeImage(draft: Draft): void {
  draft.copy('prompt', 'aspect_ratio', 'resolution')
  const found = draft.takeAll().map(bare)
  if (found.length > 0) draft.send('images', found)
}

/** An integer of seconds, or the word auto. */
const duration: JsonObject = {
  title: 'Duration',
  description: 'Seconds, 5 to 20, or auto.',
  anyOf: [int({ title: 'Seconds', min: 5, max: 20 }), choice(['auto'], { title: 'Automatic' })],
  examples: [5],
}

function filmRules(given: JsonObject, tell: Tell, use: Use): void {
  const { keyframes } = given
  const frames = (Array.isArray(keyframes) ? keyframes.length : 0) + (use.wired ? 1 : 0)
  if (frames > 2 && numberIn(given, 'duration') === undefined) {
    const also = use.wired ? ', the one from the step before included,' : ''
    tell('/duration', 'required', `three or more keyframes${also} need a duration in seconds`, 'Take 5 to 20.')
  }
}

function writeFilm(draft: Draft): void {
  draft.send('mode', 'i2v')
  draft.copy('prompt')
  draft.send('keyframes', draft.takeAll().map(bare))
  draft.copy('duration', 'draft', 'version')
  draft.pin('resolution', 'aspect_ratio', 'generate_audio', 'safety_tolerance')
}

/** Expected times: as FLUX.2 for pictures; films of this class take a few minutes. */
export const FLUX3_MODELS: readonly Model[] = [
  image('flux-3-image', 'FLUX 3 image', 0.048, 20_000),
  image('flux-3-image-klein', 'FLUX 3 image [klein]', null, 8_000),
  defineModel({
    id: 'bfl/flux-3-video',
    title: 'FLUX 3 video',
    gives: 'video',
    roles: ['image_to_video'],
    params: params({
      prompt: prompt(),
      keyframes: pictures(10, {
        title: 'Keyframes',
        description: '1: first frame; 2: first and last; more need a duration. After the picture of a step before.',
      }),
      duration,
      resolution: choice(['hd', 'fhd'], { title: 'Resolution', default: 'hd' }),
      aspect_ratio: choice(['21:9', '16:9', '4:3', '1:1', '3:4', '9:16', 'auto'], {
        title: 'Aspect ratio',
        default: 'auto',
      }),
      generate_audio: bool({ title: 'Sound', default: true }),
      safety_tolerance: int({ title: 'Safety tolerance', description: '0 is strictest.', min: 0, max: 4, default: 2 }),
      draft: bool({ title: 'Draft', default: false }),
      version: choice(['latest'], { title: 'Version' }),
    }),
    pictures: [{ name: 'keyframes', slot: 'first' }],
    rules: filmRules,
    aliases: { image: 'The first frame is keyframes[0].', input_image: 'The first frame is keyframes[0].' },
    price: given => {
      const seconds = numberIn(given, 'duration')
      return given.resolution === 'hd' && seconds !== undefined ? seconds * 0.17 : null
    },
    expectedMs: 180_000,
    routes: [bfl('flux-3-video', writeFilm)],
  }),
]
