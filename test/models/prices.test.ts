/** What a call costs is what is really made for it: on the route that it takes, and by the provider's own count. */
import { describe, expect, test } from 'bun:test'
import fc from 'fast-check'
import type { JsonObject } from '../../src/core/json.ts'
import type { Model, Role, Route, Shape } from '../../src/core/model.ts'
import { usdOf } from '../../src/core/offers.ts'
import type { Adjustment } from '../../src/core/run.ts'
import { createCatalog } from '../../src/models/catalog.ts'
import { arbitraryCall, type Call, edgeCalls, picturesAs } from '../support/params.ts'

const catalog = createCatalog()
const NEEDS_BYTES = ['google', 'openai']

function routeOf(id: string, provider: string): Route {
  const route = catalog.find(id)?.routes.find(each => each.provider === provider)
  if (!route) throw new Error(`${id} has no route to ${provider}`)
  return route
}

const priceOf = (model: Model, route: Route, params: JsonObject, role: Role): number | null =>
  usdOf((route.price ?? model.price)(params, role))

/** The parameters as an attempt tells that they were changed. */
function adjusted(params: JsonObject, adjustments: readonly Adjustment[]): JsonObject {
  const after = { ...params }
  for (const { pointer, to } of adjustments) {
    const name = pointer.slice(1)
    if (to === null) delete after[name]
    else after[name] = to
  }
  return after
}

/** Holds the price of a call to that of its adjusted parameters; says how many routes changed something. */
function holdToAdjusted(model: Model, call: Call): number {
  let changed = 0
  for (const route of model.routes) {
    const pictures = picturesAs(NEEDS_BYTES.includes(route.provider) ? 'data' : 'url', call.pictures.length)
    const made = route.translate(call.params, { role: call.role, pictures })
    if (!made.ok || made.adjustments.length === 0) continue
    changed++
    const after = adjusted(call.params, made.adjustments)
    const [asked, told] = [call.params, after].map(params => priceOf(model, route, params, call.role))
    expect([route.provider, call.params, made.adjustments, asked]).toEqual([
      route.provider,
      call.params,
      made.adjustments,
      told,
    ])
  }
  return changed
}

describe('a route costs what it really makes: its adjustments are in its price', () => {
  for (const model of catalog.all()) {
    test(model.id, () => {
      let changed = 0
      for (const call of edgeCalls(model)) changed += holdToAdjusted(model, call)
      fc.assert(
        fc.property(arbitraryCall(model), call => {
          changed += holdToAdjusted(model, call)
        }),
        { numRuns: 300 },
      )
      // A sentence that no call reaches would hold of anything.
      if (model.id === 'bytedance/seedance-1.5-pro') expect(changed).toBeGreaterThan(10)
    })
  }

  const film = (duration: number): JsonObject => ({ content: [], duration, ratio: '16:9', generate_audio: false })
  const picture = (more: JsonObject = {}): JsonObject => ({ prompt: 'p', quality: 'high', ...more })
  const rows: [name: string, id: string, provider: string, params: JsonObject, usd: number | null][] = [
    ['3 s are filmed as 4 at ModelArk', 'bytedance/seedance-1.5-pro', 'byteplus', film(3), 0.10368],
    ['3 s are filmed as 4 at fal', 'bytedance/seedance-1.5-pro', 'fal', film(3), 0.10368],
    ['4 s are 4 s', 'bytedance/seedance-1.5-pro', 'byteplus', film(4), 0.10368],
    ['an automatic size is square at fal', 'openai/gpt-image-2', 'fal', picture({ size: 'auto' }), 0.211],
    ['so is one that was left out', 'openai/gpt-image-2', 'fal', picture(), 0.211],
    ['at OpenAI nobody knows it before', 'openai/gpt-image-2', 'openai', picture(), null],
  ]
  test.each(rows)('%s', (_, id, provider, params, usd) => {
    const role = id.startsWith('openai') ? 'text_to_image' : 'image_to_video'
    expect(routeOf(id, provider).price?.(params, role)).toBe(usd)
  })

  test('what the pictures of an edit cost is in no list, at OpenAI or at fal', () => {
    const size = '1024x1024'
    const given = { image: 'https://cdn.example.org/a.png' }
    for (const provider of ['openai', 'fal'])
      for (const [id, quality] of [
        ['openai/gpt-image-2', 'high'],
        ['openai/gpt-image-1.5', 'low'],
      ] as const) {
        const { price } = routeOf(id, provider)
        const words = { prompt: 'p', quality, size }
        expect(price?.(words, 'text_to_image')).toBeGreaterThan(0)
        expect(price?.(words, 'image_to_image', { incoming: [[{ width: 64, height: 64 }]] })).toBeNull()
        expect(price?.({ ...words, ...given }, 'image_to_image')).toBeNull()
        expect(price?.({ ...words, ...given }, 'text_to_image')).toBeNull()
      }
  })

  test('the automatic size of an edit stays unknown', () => {
    const params = picture({ image: 'https://cdn.example.org/a.png' })
    expect(routeOf('openai/gpt-image-2', 'fal').price?.(params, 'image_to_image')).toBe(null)
    expect(routeOf('openai/gpt-image-2', 'fal').price?.(picture(), 'image_to_image')).toBe(null)
  })
})

describe('an edit with FLUX.2 costs the megapixels that go in and those that come out', () => {
  const one: Shape = { width: 1024, height: 1024 }
  const four: Shape = { width: 2048, height: 2048 }
  const size: JsonObject = { width: 1024, height: 1024 }
  const rows: [name: string, id: string, more: JsonObject, incoming: Shape[][], usd: number, isMost: boolean][] = [
    ['one in, one out', 'flux-2-flex', {}, [[one]], 0.1, false],
    ['without a size as much out as in', 'flux-2-flex', {}, [[four]], 0.4, false],
    ['a size wins', 'flux-2-flex', size, [[four]], 0.25, false],
    ['the first one out is dearer', 'flux-2-pro', {}, [[four]], 0.135, false],
    ['so it is', 'flux-2-max', {}, [[one]], 0.1, false],
    ['with klein', 'flux-2-klein-4b', size, [[four]], 0.018, false],
    ['a started megapixel is one', 'flux-2-flex', size, [[{ width: 1025, height: 1024 }]], 0.15, false],
    ['a picture that is too large is made smaller', 'flux-2-flex', {}, [[{ width: 4096, height: 4096 }]], 0.4, false],
    ['of several sizes the largest', 'flux-2-flex', size, [[one, four]], 0.25, true],
    ['several that cost the same', 'flux-2-flex', size, [[one, { width: 512, height: 512 }]], 0.1, false],
    ['a size that nobody knows is the largest', 'flux-2-flex', {}, [[]], 0.4, true],
    ['no more does a ratio say', 'flux-2-flex', {}, [[{ ratio: 1 }]], 0.4, true],
    ['nor the steps before where none is told', 'flux-2-flex', size, [], 0.25, true],
    [
      "a caller's picture is of any size",
      'flux-2-flex',
      { ...size, input_image: 'https://a.example/a.png' },
      [],
      0.25,
      true,
    ],
    ['every picture counts', 'flux-2-flex', { ...size, input_image_2: 'media:b' }, [[one]], 0.3, true],
    ['those of several steps too', 'flux-2-flex', {}, [[one], [four]], 0.3, false],
    ['a single side leaves the other open', 'flux-2-flex', { height: 1024 }, [[one]], 0.25, true],
  ]
  test.each(rows)('%s', (_, name, more, incoming, usd, isMost) => {
    for (const provider of name.includes('klein') ? ['bfl'] : ['bfl', 'fal']) {
      const route = routeOf(`bfl/${name}`, provider)
      const call = [{ prompt: 'p', ...more }, 'image_to_image', { incoming }] as const
      expect(route.price?.(...call)).toEqual(isMost ? { atMost: usd } : usd)
    }
  })

  test('of the pictures that the caller gave those count as they are whose size is known, each in its place', () => {
    const words = { prompt: 'p', input_image: 'media:a', input_image_2: 'https://a.example/b.png' }
    const { price } = routeOf('bfl/flux-2-flex', 'bfl')
    const usd = (params: JsonObject, known: Parameters<NonNullable<typeof price>>[2]) =>
      price?.(params, 'image_to_image', known)
    expect(usd(words, { given: [[one], [four]] })).toBe(0.3)
    expect(usd(words, { given: [[four], [one]] })).toBe(0.45)
    expect(usd(words, { given: [[one], []] })).toEqual({ atMost: 0.3 })
    expect(usd(words, { given: [[one]] })).toEqual({ atMost: 0.3 })
    // The picture of the step before is the first.
    expect(usd({ prompt: 'p', input_image_2: 'media:b' }, { incoming: [[one]], given: [[four]] })).toBe(0.3)
    // The first one lacks.
    expect(usd({ prompt: 'p', input_image_2: 'media:b' }, { given: [[one]] })).toEqual({ atMost: 0.45 })
  })

  test('so it does for words alone', () => {
    const { price } = routeOf('bfl/flux-2-flex', 'bfl')
    expect(price?.({ prompt: 'p', width: 64 }, 'text_to_image')).toEqual({ atMost: 0.2 })
  })

  test('without a size words alone make a megapixel, and what comes after knows it', () => {
    const { shape } = routeOf('bfl/flux-2-flex', 'bfl')
    expect(shape?.({ prompt: 'p' }, 'text_to_image')).toEqual(one)
    expect(shape?.({ prompt: 'p', width: 2048, height: 1024 }, 'text_to_image')).toEqual({ width: 2048, height: 1024 })
    expect(shape?.({ prompt: 'p', width: 2048 }, 'text_to_image')).toBeNull()
    expect(shape?.({ prompt: 'p' }, 'image_to_image')).toBeNull()
    expect(shape?.({ prompt: 'p', input_image: 'media:a' }, 'text_to_image')).toBeNull()
  })
})

describe('a film costs its pixels', () => {
  const rows: [id: string, resolution: string, ratio: string, usd: number | null][] = [
    // 5 s × width × height × 24 / 1024 tokens.
    ['seedance-1.5-pro', '480p', 'adaptive', 0.060264],
    ['seedance-1.5-pro', '480p', '16:9', 0.060264],
    ['seedance-1.5-pro', '480p', '4:3', 0.05922],
    ['seedance-1.5-pro', '480p', '1:1', 0.0576],
    ['seedance-1.5-pro', '720p', '9:16', 0.1296],
    ['seedance-1.5-pro', '720p', '3:4', 0.130417],
    ['seedance-1.5-pro', '1080p', '21:9', 0.293467],
    ['seedance-2.0', '480p', '9:16', 0.35154],
    ['seedance-2.0', '4k', '16:9', 6.804],
    ['seedance-2.0', '4k', '21:9', 5.1849],
    ['seedance-2.0', '4k', 'adaptive', 12.096],
    // 854 × 480.
    ['seedance-2.5', '480p', '16:9', 0.514001],
    ['seedance-2.5', '480p', 'adaptive', 0.537354],
    ['seedance-2.5', '480p', '4:3', 0.528045],
  ]
  test.each(rows)('%s in %s, %s', (name, resolution, ratio, usd) => {
    const params = { content: [], duration: 5, resolution, ratio, generate_audio: false }
    const ark = routeOf(`bytedance/${name}`, 'byteplus')
    expect(usdOf(ark.price?.(params, 'image_to_video') ?? null)).toBe(usd)
  })
})

describe('an adaptive film costs the pixels of the ratio that its picture gives it', () => {
  const rows: [name: string, incoming: Shape[][], usd: number, isMost: boolean, more?: JsonObject][] = [
    ['a square', [[{ width: 1024, height: 1024 }]], 12.096, false],
    ['a wide one', [[{ width: 1920, height: 1088 }]], 6.804, false],
    ['one of which only the ratio is known', [[{ ratio: 4 / 3 }]], 9.072, false],
    ['one between two ratios: the dearer', [[{ width: 1536, height: 1024 }]], 9.072, true],
    ['one that is wider than all', [[{ ratio: 4 }]], 5.1849, false],
    ['one that is taller than all', [[{ ratio: 0.4 }]], 6.804, false],
    ['one that may come in two shapes', [[{ ratio: 16 / 9 }, { ratio: 1 }]], 12.096, true],
    ['one that nobody knows', [[]], 12.096, true],
    ['a reference', [[{ ratio: 16 / 9 }]], 12.096, true, { content: [reference()] }],
    ['a ratio of its own', [[{ ratio: 1 }]], 6.804, false, { ratio: '16:9' }],
  ]
  test.each(rows)('%s', (_, incoming, usd, isMost, more = {}) => {
    const ark = routeOf('bytedance/seedance-2.0', 'byteplus')
    const params: JsonObject = { content: [], duration: 5, resolution: '4k', ...more }
    expect(ark.price?.(params, 'image_to_video', { incoming })).toEqual(isMost ? { atMost: usd } : usd)
  })

  function reference(): JsonObject {
    return { type: 'image_url', image_url: { url: 'https://a.example/a.png' }, role: 'reference_image' }
  }
})

describe('reference films are billed by their seconds too, at most 15 together', () => {
  const clip = (type: string): JsonObject => ({ type, [type]: { url: 'https://a.example/a' } })
  const rows: [name: string, provider: string, type: string, usd: number, isMost: boolean][] = [
    ['seedance-2.0', 'byteplus', 'video_url', 3.024, true],
    ['seedance-2.0', 'fal', 'video_url', 6.048, true],
    ['seedance-2.5', 'byteplus', 'video_url', 4.6224, true],
    ['seedance-2.5', 'fal', 'video_url', 9.4, true],
    ['seedance-2.5', 'fal', 'audio_url', 2.35, false],
    ['seedance-2.0', 'fal', 'audio_url', 1.512, false],
  ]
  test.each(rows)('%s at %s with a %s', (name, provider, type, usd, isMost) => {
    const { price } = routeOf(`bytedance/${name}`, provider)
    const params: JsonObject = { content: [clip(type), clip(type)], duration: 5, ratio: '16:9' }
    expect(price?.(params, 'image_to_video')).toEqual(isMost ? { atMost: usd } : usd)
  })

  test('and what ModelArk counts holds all of them', () => {
    const { price } = routeOf('bytedance/seedance-2.5', 'byteplus')
    const params = { content: [clip('video_url')], duration: 5 }
    expect(price?.(params, 'image_to_video', { counted: 200_000 })).toBe(2.14)
  })
})

describe('what a provider counts, at the listed price', () => {
  const set: JsonObject = { prompt: 'p', sequential_image_generation: 'auto' }
  const film: JsonObject = { content: [], duration: 5, ratio: '16:9', generate_audio: false }

  test('a set of pictures costs those that were made', () => {
    const { price } = routeOf('bytedance/seedream-4.5', 'byteplus')
    const image = ['https://a.example/a.png']
    // Nobody knows before how many.
    expect(price?.(set, 'text_to_image')).toEqual({ atMost: 0.6 })
    expect(price?.(set, 'image_to_image')).toEqual({ atMost: 0.56 })
    expect(price?.({ ...set, image }, 'image_to_image', { incoming: [[]] })).toEqual({ atMost: 0.52 })
    expect(price?.(set, 'text_to_image', { counted: 3 })).toBe(0.12)
    expect(price?.({ prompt: 'p' }, 'text_to_image', { counted: 1 })).toBe(0.04)
  })

  test('a film costs its tokens, silent or with sound, in its tier', () => {
    const { price } = routeOf('bytedance/seedance-1.5-pro', 'byteplus')
    expect(price?.(film, 'image_to_video', { counted: 108_900 })).toBe(0.13068)
    expect(price?.({ ...film, generate_audio: true }, 'image_to_video', { counted: 108_900 })).toBe(0.26136)
    expect(price?.({ ...film, service_tier: 'flex' }, 'image_to_video', { counted: 108_900 })).toBe(0.06534)
    // Nobody knew before how long it would be.
    expect(price?.({ ...film, duration: -1 }, 'image_to_video', { counted: 108_900 })).toBe(0.13068)
    expect(routeOf('bytedance/seedance-2.5', 'byteplus').price?.(film, 'image_to_video', { counted: 108_900 })).toBe(
      1.16523,
    )
  })

  test('where no list names the price of a token, or a draft has its own, a count says nothing', () => {
    const draft = { ...film, draft: true }
    expect(
      routeOf('bytedance/seedance-1.5-pro', 'byteplus').price?.(draft, 'image_to_video', { counted: 108_900 }),
    ).toBe(null)
    for (const name of ['seedance-2.0', 'seedance-2.0-fast', 'seedance-1-pro']) {
      expect(routeOf(`bytedance/${name}`, 'byteplus').price?.(film, 'image_to_video', { counted: 108_900 })).toBe(null)
    }
  })

  test('before it is counted, the price of a set or of a draft is the most that it may be', () => {
    const seedream = routeOf('bytedance/seedream-4.5', 'fal')
    expect([set, { prompt: 'p' }].map(params => seedream.price?.(params, 'text_to_image'))).toEqual([
      { atMost: 0.6 },
      0.04,
    ])
    const seedance = routeOf('bytedance/seedance-1.5-pro', 'byteplus')
    expect([{ ...film, draft: true }, film].map(params => seedance.price?.(params, 'image_to_video'))).toEqual([
      { atMost: 0.1296 },
      0.1296,
    ])
    expect(routeOf('bfl/flux-2-pro', 'bfl').price?.({ prompt: 'p' }, 'text_to_image')).toBe(0.03)
  })

  test('every price at the provider that counts goes by the count, or knows none', () => {
    for (const model of catalog.all()) {
      for (const route of model.routes.filter(each => each.provider === 'byteplus')) {
        for (const { params, role } of edgeCalls(model)) {
          const [one, two] = [1_000, 2_000].map(counted => usdOf(route.price?.(params, role, { counted }) ?? null))
          expect([model.id, params, two]).toEqual([model.id, params, one === null ? null : (one ?? 0) * 2])
        }
      }
    }
  })
})
