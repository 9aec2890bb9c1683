/** What parameters ask a picture to be, in the words of every maker, and the pictures that providers take. */
import { describe, expect, test } from 'bun:test'
import type { JsonObject } from '../../src/core/json.ts'
import type { Shape } from '../../src/core/model.ts'
import { createCatalog } from '../../src/models/catalog.ts'
import { edgeCalls } from '../support/params.ts'

const models = createCatalog().all()
/** What a provider makes of parameters: without a name, the maker itself. */
function shapeOf(id: string, params: JsonObject, provider?: string) {
  const model = models.find(each => each.id === id)
  const route = model?.routes.find(each => provider === undefined || each.provider === provider)
  return route?.shape?.(params, model?.roles[0] ?? 'text_to_image') ?? null
}

describe('a picture is asked for', () => {
  const rows: [id: string, params: JsonObject, shape: Shape | null][] = [
    ['bfl/flux-2-flex', { width: 256, height: 512 }, { width: 256, height: 512 }],
    ['bfl/flux-2-flex', { width: 256 }, null],
    ['bfl/flux-2-flex', {}, { width: 1024, height: 1024 }],
    ['bfl/flux-2-flex', { input_image: 'media:a' }, null],
    ['bfl/flux-1.1-pro', { width: 256 }, { width: 256, height: 768 }],
    ['bfl/flux-1.1-pro-ultra', { aspect_ratio: '4:1' }, { ratio: 4 }],
    ['bfl/flux-1.1-pro-ultra', {}, { ratio: 16 / 9 }],
    ['bfl/flux-kontext-pro', { aspect_ratio: '3:4' }, { ratio: 0.75 }],
    ['bfl/flux-kontext-pro', {}, null],
    ['bfl/flux-3-image', { aspect_ratio: '2:1' }, { ratio: 2 }],
    ['bfl/flux-3-image', { aspect_ratio: 'auto' }, null],
    ['bytedance/seedream-4.5', { size: '4096x1024' }, { width: 4096, height: 1024 }],
    ['bytedance/seedream-4.5', { size: '4K' }, null],
    ['google/nano-banana-2', { aspectRatio: '1:8' }, { ratio: 0.125 }],
    ['google/nano-banana-2', {}, null],
    ['openai/gpt-image-2', { size: '256x256' }, { width: 256, height: 256 }],
    ['openai/gpt-image-2', {}, null],
    ['wan/2.7-image', { size: '1280*720' }, { width: 1280, height: 720 }],
    ['qwen/qwen-image', {}, { width: 1328, height: 1328 }],
    ['qwen/qwen-image-edit', {}, null],
    ['ideogram/v3', { aspect_ratio: '3x1' }, { ratio: 3 }],
    ['luma/photon', {}, { ratio: 16 / 9 }],
    ['runway/gen4_image', { ratio: '1080:1080' }, { ratio: 1 }],
    ['runway/grok_imagine_image_2', {}, null],
  ]
  test.each(rows)('%s with %j', (id, params, shape) => {
    expect(shapeOf(id, params)).toEqual(shape)
  })

  const elsewhere: [id: string, params: JsonObject, provider: string, shape: Shape | null][] = [
    ['bfl/flux-2-flex', { width: 1504, height: 592 }, 'replicate', { width: 1504, height: 608 }],
    ['bfl/flux-2-flex', { width: 1504, height: 592 }, 'fal', { width: 1504, height: 592 }],
    ['bytedance/seedream-4.5', { size: '6000x2000' }, 'replicate', { width: 4096, height: 1365 }],
    ['bfl/flux-2-klein-4b', {}, 'comfyui', null],
    ['bfl/flux-2-klein-4b', { width: 512, height: 768 }, 'comfyui', { width: 512, height: 768 }],
    ['qwen/qwen-image', {}, 'comfyui', { width: 1328, height: 1328 }],
    ['openai/gpt-image-2', {}, 'replicate', { width: 1024, height: 1024 }],
  ]
  test.each(elsewhere)('%s with %j, and %s makes what it takes of it', (id, params, provider, shape) => {
    expect(shapeOf(id, params, provider)).toEqual(shape)
  })

  test('as no more than a size or a ratio, whatever valid parameters there are', () => {
    for (const model of models) {
      for (const { role, params } of edgeCalls(model)) {
        const shapes = model.routes.map(route => route.shape?.(params, role) ?? null)
        const numbers = shapes.flatMap(shape => (shape ? Object.values(shape) : [1]))
        expect([model.id, params, numbers.every(one => Number.isFinite(one) && one > 0)]).toEqual([
          model.id,
          params,
          true,
        ])
      }
    }
  })

  test('by every model that has words for it; a ComfyUI workflow does with them what it likes', () => {
    const words = ['width', 'size', 'aspect_ratio', 'aspectRatio', 'ratio']
    const silent = models.filter(
      ({ gives, schema, routes }) =>
        gives === 'image' &&
        !routes.every(route => route.shape) &&
        words.some(word => word in (schema.properties as JsonObject)),
    )
    expect(silent.map(({ id }) => id)).toEqual(['comfyui/image'])
  })
})

test('ModelArk takes pictures of these sizes, for every film and every edit; of other providers nobody knows', () => {
  const film = { side: [300, 6_000], ratio: [0.4, 2.5] }
  const edit = { ratio: [1 / 16, 16] }
  for (const model of models) {
    for (const { provider, pictureLimits } of model.routes) {
      const documented = provider !== 'byteplus' ? undefined : model.gives === 'video' ? film : edit
      expect([model.id, provider, pictureLimits as unknown]).toEqual([model.id, provider, documented])
    }
  }
})
