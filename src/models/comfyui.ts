/**
 * The user's own workflows in ComfyUI (providers.md 10.1).
 *
 * 1. `comfyui/image` runs the workflow file `image.json` (or `image.{role}.json`), `comfyui/video` runs `video.json`.
 * 2. Nothing has a default here: what the caller does not give is left to the workflow, whose placeholders say what it can
 *    be told (`{{prompt}}`, `{{width|1024}}`, `{{image}}`). A parameter without a place in it is refused, not dropped.
 */
import type { JsonObject } from '../core/json.ts'
import type { Model } from '../core/model.ts'
import type { Draft } from './draft.ts'
import { int, negativePrompt, num, params, pictureOrPictures, prompt, seed } from './fields.ts'
import { comfyui, sendPictures } from './hosts.ts'
import { defineModel, unknownPrice } from './model.ts'

const side = (title: string): JsonObject =>
  int({ title, description: 'Pixels.', min: 16, max: 8_192, examples: [1_024] })

const fields = {
  prompt: prompt(),
  negative_prompt: negativePrompt(),
  image: pictureOrPictures(4, { title: 'Input picture', description: '{{image}}, {{image_2}}, … in the workflow.' }),
  width: side('Width'),
  height: side('Height'),
  steps: int({ title: 'Steps', min: 1, max: 200, examples: [20] }),
  guidance: num({ title: 'Guidance', min: 0, max: 100, examples: [5] }),
  denoise: num({ title: 'Denoise', description: 'How much of the input picture is painted anew.', min: 0, max: 1 }),
  seed: seed(),
}

function write(draft: Draft): void {
  sendPictures(draft)
  draft.copy('prompt', 'negative_prompt', 'width', 'height', 'steps', 'guidance', 'denoise', 'seconds', 'fps', 'seed')
}

const PICTURES = [{ name: 'image', slot: 'first' as const }]

/** Expected times: a home machine paints a picture within a minute and films for several. */
export const COMFYUI_MODELS: readonly Model[] = [
  defineModel({
    id: 'comfyui/image',
    title: 'Own ComfyUI workflow: picture',
    gives: 'image',
    roles: ['text_to_image', 'image_to_image'],
    params: params(fields),
    pictures: PICTURES,
    price: unknownPrice,
    expectedMs: 60_000,
    routes: [comfyui('image', write)],
  }),
  defineModel({
    id: 'comfyui/video',
    title: 'Own ComfyUI workflow: film',
    gives: 'video',
    roles: ['image_to_video'],
    params: params({
      ...fields,
      seconds: num({ title: 'Duration', description: 'Seconds.', min: 0.1, max: 120, examples: [5] }),
      fps: int({ title: 'Frames a second', min: 1, max: 60, examples: [24] }),
    }),
    pictures: PICTURES,
    price: unknownPrice,
    expectedMs: 300_000,
    routes: [comfyui('video', write)],
  }),
]
