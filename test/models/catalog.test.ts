import { describe, expect, test } from 'bun:test'
import { findChain, plan } from '../../src/core/chain.ts'
import type { Model } from '../../src/core/ports.ts'
import { createCatalog } from '../../src/models/catalog.ts'

const catalog = createCatalog()

const model = (id: string): Model => {
  const found = catalog.find(id)
  if (!found) throw new Error(`no model ${id}`)
  return found
}

/** The input of the project's very first request. */
const SEED = {
  chain_models: {
    text_to_image_model: 'bfl/flux-2-flex',
    image_to_video_model: 'bytedance/seedance-1.5-pro',
  },
  text_to_image_params: {
    prompt:
      'A futuristic wireless headphone product on a clean reflective pedestal, teal and violet studio lighting, premium product photography, soft shadows, high detail',
    width: 1024,
    height: 1024,
    prompt_upsampling: false,
    seed: 593,
    safety_tolerance: 5,
    output_format: 'jpeg',
  },
  image_to_video_params: {
    content: [
      {
        type: 'text',
        text: 'Slow cinematic orbit around the product, subtle glow animation, premium studio reflections, smooth camera motion',
      },
    ],
    ratio: '1:1',
    duration: 3,
    watermark: false,
  },
}

describe('the catalogue', () => {
  test('takes the first request as it is', () => {
    const chain = findChain('chain1')
    if (!chain) throw new Error('no chain1')
    const planned = plan(chain, SEED, catalog)
    expect(planned).toMatchObject({ ok: true })
  })

  test('lets the duration of 3 s through, and moves it to 4 s only where a host films from 4 s', () => {
    const durations = model('bytedance/seedance-1.5-pro').routes.map(route => {
      const made = route.translate(SEED.image_to_video_params, {
        role: 'image_to_video',
        pictures: ['https://media.example/a.png'],
      })
      if (!made.ok) throw new Error(made.reason)
      return [route.provider, made.body.duration, made.adjustments.some(one => one.pointer === '/duration')]
    })
    expect(durations).toEqual([
      ['byteplus', 4, true],
      ['fal', '4', true],
      ['replicate', 3, false],
    ])
  })

  test('a deployment can name its own ids, also where a translation chooses another endpoint', () => {
    const own = createCatalog({
      providerModels: {
        'byteplus:seedance-1-5-pro-251215': 'ep-20261122-abcde',
        'fal:fal-ai/flux-2-pro': 'acme/flux-2-pro',
      },
    })
    const route = own.find('bytedance/seedance-1.5-pro')?.routes[0]
    const made = route?.translate(SEED.image_to_video_params, {
      role: 'image_to_video',
      pictures: ['https://a.example/a.png'],
    })
    expect(route?.providerModel).toBe('ep-20261122-abcde')
    expect(made).toMatchObject({ ok: true, providerModel: 'ep-20261122-abcde' })
    expect(own.find('bfl/flux-2-pro')?.routes[1]?.providerModel).toBe('acme/flux-2-pro')
  })

  test('an override that names no route stops the start', () => {
    expect(() => createCatalog({ providerModels: { 'byteplus:seedance-9': 'ep-1' } })).toThrow('byteplus:seedance-9')
  })
})
