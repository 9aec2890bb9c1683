import { describe, expect, test } from 'bun:test'
import { findChain, plan } from '../../src/core/chain.ts'
import { isObject, type JsonObject } from '../../src/core/json.ts'
import type { Model } from '../../src/core/model.ts'
import { usdOf } from '../../src/core/offers.ts'
import { createCatalog } from '../../src/models/catalog.ts'
import { check } from '../../src/models/check.ts'
import seed from '../fixtures/seed.request.json'

const catalog = createCatalog()

const model = (id: string): Model => {
  const found = catalog.find(id)
  if (!found) throw new Error(`no model ${id}`)
  return found
}

describe('the catalogue', () => {
  test('takes the first request as it is', () => {
    const chain = findChain('chain1')
    if (!chain) throw new Error('no chain1')
    const planned = plan(chain, seed.input, catalog)
    expect(planned).toMatchObject({ ok: true })
  })

  test('lets the duration of 3 s through, and moves it to 4 s only where a host films from 4 s', () => {
    const durations = model('bytedance/seedance-1.5-pro').routes.map(route => {
      const made = route.translate(seed.input.image_to_video_params, {
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
    const edit = own.find('bfl/flux-2-pro')?.routes[1]
    const made = route?.translate(seed.input.image_to_video_params, {
      role: 'image_to_video',
      pictures: ['https://a.example/a.png'],
    })
    expect(route?.providerModel).toBe('ep-20261122-abcde')
    expect(made).toMatchObject({ ok: true, providerModel: 'ep-20261122-abcde' })
    expect(
      edit?.translate({ prompt: 'p' }, { role: 'image_to_image', pictures: ['https://a.example/a.png'] }),
    ).toMatchObject({
      providerModel: 'acme/flux-2-pro/edit',
    })
    expect(edit?.providerModel).toBe('acme/flux-2-pro')
    expect(own.find('bfl/flux-2-flex')?.routes[1]?.providerModel).toBe('fal-ai/flux-2-flex')
  })

  test('an override that names no route stops the start', () => {
    const wrong = () => createCatalog({ providerModels: { 'byteplus:seedance-9': 'ep-1' } })
    expect(wrong).toThrow('byteplus:seedance-9')
    expect(wrong).toThrow(/^BABYCHAIN_MODEL_IDS: /)
  })
})

describe('what is in it', () => {
  const models = catalog.all()

  test('at least 50 models, at least 25 of them with two routes or more', () => {
    expect(models.length).toBeGreaterThanOrEqual(50)
    expect(models.filter(one => one.routes.length >= 2).length).toBeGreaterThanOrEqual(25)
  })

  test('nothing that its provider has switched off', () => {
    const gone = /sora|imagen|dall-e|gpt-image-1$|veo-[23]\.0/
    expect(models.filter(one => gone.test(one.id))).toEqual([])
    expect(models.flatMap(one => one.routes).filter(route => gone.test(route.providerModel))).toEqual([])
  })

  test('ids that fit into a path, each once', () => {
    const ids = models.map(one => one.id)
    expect(ids.filter(id => !/^[a-z0-9]+\/[a-z0-9._-]+$/.test(id))).toEqual([])
    expect(new Set(ids).size).toBe(ids.length)
  })

  test('the maker’s own API first wherever an adapter speaks it', () => {
    const own = {
      bfl: 'bfl',
      bytedance: 'byteplus',
      google: 'google',
      openai: 'openai',
      runway: 'runway',
      wan: 'dashscope',
    }
    for (const [maker, provider] of Object.entries(own)) {
      const firsts = models.filter(one => one.id.startsWith(`${maker}/`)).map(one => one.routes[0]?.provider)
      expect([maker, ...new Set(firsts)]).toEqual([maker, provider])
    }
  })

  test('no provider twice in one model', () => {
    for (const { id, routes } of models) {
      expect({ id, providers: [...new Set(routes.map(route => route.provider))] }).toEqual({
        id,
        providers: routes.map(route => route.provider),
      })
    }
  })

  test('films take a picture, and every role has models', () => {
    for (const one of models) expect(one.roles.includes('image_to_video')).toBe(one.gives === 'video')
    for (const role of ['text_to_image', 'image_to_image', 'image_to_video'] as const) {
      expect(models.some(one => one.roles.includes(role))).toBe(true)
    }
  })

  test('every expected time lies between a second and ten minutes', () => {
    expect(models.filter(one => one.expectedMs < 1_000 || one.expectedMs > 600_000)).toEqual([])
  })

  test('a form can be built: every field has a title, every text and list a limit, every default fits', () => {
    for (const one of models) {
      const { properties, additionalProperties } = one.schema as {
        properties: Record<string, JsonObject>
        additionalProperties: boolean
      }
      expect(additionalProperties).toBe(false)
      for (const [name, field] of Object.entries(properties)) {
        expect({ id: one.id, name, problems: lacks(field) }).toEqual({ id: one.id, name, problems: [] })
        if (field.default !== undefined) expect(check(field, field.default)).toEqual([])
        for (const example of Array.isArray(field.examples) ? field.examples : [])
          expect(check(field, example)).toEqual([])
      }
      const area = Object.values(properties).some(field => JSON.stringify(field).includes('"format":"textarea"'))
      expect({ id: one.id, area }).toEqual({ id: one.id, area: true })
      if (one.roles.some(role => role !== 'text_to_image')) {
        expect(Object.keys(properties)).toContain(one.pictureField.split('/')[1] ?? '')
      }
    }
  })

  test('a schema is plain JSON', () => {
    for (const one of models) expect(JSON.parse(JSON.stringify(one.schema))).toEqual(one.schema)
  })
})

/** What a field lacks for a form or for safety, its inner fields included. */
function lacks(field: JsonObject): string[] {
  const inner: JsonObject[] = [
    ...(Array.isArray(field.anyOf) ? (field.anyOf as JsonObject[]) : []),
    ...(isObject(field.items) ? [field.items] : []),
    ...(isObject(field.properties) ? (Object.values(field.properties) as JsonObject[]) : []),
  ]
  const found = inner.flatMap(one => lacks(one)).filter(problem => problem !== 'no title')
  const isText = field.type === 'string' && field.enum === undefined && field.const === undefined
  if (field.title === undefined) found.push('no title')
  if (isText && field.maxLength === undefined) found.push('text without limit')
  if (field.type === 'array' && field.maxItems === undefined) found.push('list without limit')
  if (field.type === 'object' && field.additionalProperties !== false) found.push('open object')
  return found
}

describe('prices in US dollars', () => {
  const rows: [name: string, id: string, params: JsonObject, usd: number | null, provider?: string][] = [
    ['flex: a megapixel out', 'bfl/flux-2-flex', { prompt: 'p' }, 0.05],
    ['flex: four out', 'bfl/flux-2-flex', { prompt: 'p', width: 2048, height: 2048 }, 0.2],
    ['pro: two out', 'bfl/flux-2-pro', { prompt: 'p', width: 1920, height: 1088 }, 0.045],
    [
      'pro: one out, two of four in at the most',
      'bfl/flux-2-pro',
      { prompt: 'p', width: 1024, height: 1024, input_image: 'a', input_image_2: 'b' },
      0.15,
    ],
    ['max at fal: as at BFL', 'bfl/flux-2-max', { prompt: 'p' }, 0.07, 'fal'],
    ['pro at Replicate: unknown', 'bfl/flux-2-pro', { prompt: 'p' }, null, 'replicate'],
    ['Seedream 4.5: one', 'bytedance/seedream-4.5', { prompt: 'p' }, 0.04],
    [
      'Seedream 4.5: at most three',
      'bytedance/seedream-4.5',
      { prompt: 'p', sequential_image_generation: 'auto', sequential_image_generation_options: { max_images: 3 } },
      0.12,
    ],
    ['Seedance 1.5: 5 s with sound', 'bytedance/seedance-1.5-pro', { content: [], ratio: '9:16' }, 0.2592],
    [
      'Seedance 1.5: silent',
      'bytedance/seedance-1.5-pro',
      { content: [], ratio: '16:9', generate_audio: false },
      0.1296,
    ],
    ['Seedance 1.5: nobody knows how long', 'bytedance/seedance-1.5-pro', { content: [], duration: -1 }, null],
    ['Seedance 2.0: twice as dear at fal', 'bytedance/seedance-2.0', { content: [], ratio: '16:9' }, 0.756],
    ['Seedance 2.0 at fal', 'bytedance/seedance-2.0', { content: [], ratio: '16:9' }, 1.512, 'fal'],
    ['Nano Banana Pro in 4K', 'google/nano-banana-pro', { prompt: 'p', imageSize: '4K' }, 0.24],
    ['Nano Banana Pro in 4K at fal', 'google/nano-banana-pro', { prompt: 'p', imageSize: '4K' }, 0.3, 'fal'],
    ['Veo: 8 s', 'google/veo-3.1', { prompt: 'p' }, 3.2],
    ['Veo fast: 4 s', 'google/veo-3.1-fast', { prompt: 'p', durationSeconds: 4 }, 0.6],
    ['GPT Image 2: two', 'openai/gpt-image-2', { prompt: 'p', quality: 'high', size: '1024x1024', n: 2 }, 0.422],
    ['GPT Image 2: automatic is unknown', 'openai/gpt-image-2', { prompt: 'p' }, null],
    ['Kling 3: sound costs', 'kling/3-pro', { prompt: 'p', duration: '10', sound: 'on' }, 1.68],
  ]

  test.each(rows)('%s', (_, id, params, usd, provider = '') => {
    const one = model(id)
    const route = one.routes.find(found => found.provider === provider)
    const role = params.input_image === undefined ? (one.roles[0] ?? 'text_to_image') : 'image_to_image'
    expect(usdOf((route?.price ?? one.price)(params, role))).toBe(usd)
  })

  test('a picture that the step before gives is counted', () => {
    const incoming = [[{ width: 1024, height: 1024 }]]
    expect(model('bfl/flux-2-pro').price({ prompt: 'p' }, 'image_to_image', { incoming })).toBe(0.045)
    expect(model('bfl/flux-2-pro').price({ prompt: 'p' }, 'image_to_image')).toEqual({ atMost: 0.135 })
  })
})
