/** Chains, models and estimates: what can be run here, and what it would cost. */
import { afterAll, beforeAll, describe, expect, test } from 'bun:test'
import { overlay } from '../../src/app/tracing/overlay.ts'
import type { EngineStats } from '../../src/core/ports.ts'
import seed from '../fixtures/seed.request.json'
import { HttpWorld } from '../support/http-world.ts'

interface Model {
  id: string
  available: boolean
  roles: string[]
  params_schema: { properties: Record<string, object> }
  routes: {
    provider: string
    provider_model: string
    configured: boolean
    eligible: boolean
    breaker_open: boolean
    reason: string | null
    price: { role: string; usd: number | null }[]
  }[]
}
interface Estimate {
  valid: boolean
  errors: { pointer: string }[]
  steps: { step_key: string; provider: string | null; price_usd: number | null; expected_ms: number }[]
  total_usd: number | null
  expected_ms: number
}

let world: HttpWorld
beforeAll(async () => {
  world = await HttpWorld.open()
})
afterAll(() => world.close())

test('the chains name their steps, fields and the models that fit', async () => {
  const { data } = await world.json<{
    data: {
      slug: string
      aliases: string[]
      steps: { models: string[]; params_field: string; depends_on: string[] }[]
    }[]
  }>('GET', '/api/v1/chains')
  expect(data.map(chain => [chain.slug, chain.aliases])).toEqual([
    ['chain101', ['chain1']],
    ['chain202', ['chain2']],
    ['chain303', ['chain3']],
  ])
  const [first, second] = data[0]?.steps ?? []
  expect(first).toMatchObject({
    step_key: 'text_to_image',
    model_field: 'text_to_image_model',
    params_field: 'text_to_image_params',
  })
  expect(first?.models).toContain('bfl/flux-2-flex')
  expect(second).toMatchObject({ step_kind: 'video', depends_on: ['text_to_image'] })
  expect(second?.models).toContain('bytedance/seedance-1.5-pro')
  expect(second?.models).not.toContain('bfl/flux-2-flex')
})

describe('a model', () => {
  test('shows the schema of its parameters, its routes, and why each can or cannot be taken', async () => {
    const model = await world.json<Model>('GET', '/api/v1/models/bfl/flux-2-flex')
    expect(model).toMatchObject({ id: 'bfl/flux-2-flex', object: 'model', gives: 'image', available: true })
    expect(Object.keys(model.params_schema.properties)).toContain('safety_tolerance')
    expect(model.routes[0]).toEqual({
      provider: 'studio',
      provider_model: 'bfl/flux-2-flex',
      configured: true,
      eligible: true,
      breaker_open: false,
      reason: null,
      price: [
        { role: 'text_to_image', usd: 0.05 },
        { role: 'image_to_image', usd: 0.05 },
      ],
    })
    const bfl = model.routes.find(route => route.provider === 'bfl')
    expect(bfl).toMatchObject({ configured: false, eligible: false, reason: 'set BFL_API_KEY' })
    const fal = model.routes.find(route => route.provider === 'fal')
    expect(fal).toMatchObject({ configured: false, eligible: false, reason: 'not available in mode byok' })
  })

  test('that nobody can run says so', async () => {
    const other = await HttpWorld.open(deps => ({ ...deps, routesOf: model => model.routes }))
    const model = await other.json<Model>('GET', '/api/v1/models/bfl/flux-2-flex')
    expect(model.available).toBe(false)
    expect(model.routes.every(route => !route.eligible && route.reason !== null)).toBe(true)
    await other.close()
  })

  test('whose route lacks something of its own says so, and is refused before anything is paid', async () => {
    const lack = 'COMFYUI_WORKFLOWS has no flow.json'
    const other = await HttpWorld.open(deps => ({
      ...deps,
      routesOf: model =>
        deps
          .routesOf(model)
          .map(route =>
            model.id === 'bytedance/seedance-1.5-pro'
              ? { ...route, missing: () => lack, translate: () => ({ ok: false, reason: lack }) }
              : route,
          ),
    }))
    const model = await other.json<Model>('GET', '/api/v1/models/bytedance/seedance-1.5-pro')
    expect(model.available).toBe(false)
    expect(model.routes[0]).toMatchObject({ eligible: false, reason: lack })
    expect(await other.json<Model>('GET', '/api/v1/models/bfl/flux-2-flex')).toMatchObject({ available: true })
    const refused = await other.ask('POST', '/api/v1/chains/chain1/runs', { body: seed })
    expect(refused.status).toBe(400)
    const { errors } = (await refused.json()) as { errors: { code: string; detail: string }[] }
    expect(errors).toMatchObject([{ code: 'no_route', detail: expect.stringContaining(lack) }])
    await other.close()
  })

  test('with an open breaker is left alone for a while', async () => {
    const other = await HttpWorld.open(deps => ({
      ...deps,
      engine: overlay(deps.engine, {
        stats: () => ({ ...deps.engine.stats(), breakers: { 'studio/bfl/flux-2-flex': 'open' } }),
      }),
    }))
    const model = await other.json<Model>('GET', '/api/v1/models/bfl/flux-2-flex')
    expect(model.routes[0]).toMatchObject({ configured: true, eligible: false, breaker_open: true })
    expect(model.routes[0]?.reason).toContain('failed several times')
    expect(model.routes.slice(1).some(route => route.breaker_open)).toBe(false)
    const pro = await other.json<Model>('GET', '/api/v1/models/bfl/flux-2-pro')
    expect(pro.routes[0]?.eligible).toBe(true)
    await other.close()
  })

  test('with a breaker that only another key meets is no worse, and an estimate goes there too', async () => {
    const stats = (apiKeyId?: string): EngineStats => {
      const breakers: EngineStats['breakers'] = apiKeyId === undefined ? { 'studio/bfl/flux-2-flex': 'open' } : {}
      return { ...world.deps.engine.stats(), breakers }
    }
    const other = await HttpWorld.open(deps => ({ ...deps, engine: overlay(deps.engine, { stats }) }))
    const model = await other.json<Model>('GET', '/api/v1/models/bfl/flux-2-flex')
    expect(model.available).toBe(true)
    const { data } = await other.json<{ data: Model[] }>('GET', '/api/v1/models')
    expect(data.find(({ id }) => id === model.id)?.available).toBe(true)
    const { steps } = await other.json<Estimate>('POST', '/api/v1/chains/chain1/estimate', { body: seed })
    expect(steps[0]?.provider).toBe('studio')
    await other.close()
  })

  test('that is not there is 404', async () => {
    for (const path of ['bfl/flux-9', 'constructor/__proto__', 'bfl/%00']) {
      expect((await world.ask('GET', `/api/v1/models/${path}`)).status).toBe(404)
    }
  })

  test('is in the list, without its schema', async () => {
    const { data } = await world.json<{ data: Model[] }>('GET', '/api/v1/models')
    expect(data.map(model => model.id)).toEqual(world.deps.catalog.all().map(model => model.id))
    for (const model of data) expect(model).not.toHaveProperty('params_schema')
  })
})

describe('an estimate', () => {
  const estimate = (body: unknown, slug = 'chain1') =>
    world.json<Estimate>('POST', `/api/v1/chains/${slug}/estimate`, { body })

  test('of a good request names the price of each step and stores nothing', async () => {
    const before = await world.store.counts()
    expect(await estimate(seed)).toMatchObject({
      object: 'estimate',
      valid: true,
      errors: [],
      steps: [
        { step_key: 'text_to_image', provider: 'studio', price_usd: 0.05 },
        { step_key: 'image_to_video', provider: 'studio', price_usd: 0.05, basis: 'listed' },
      ],
      total_usd: 0.1,
    })
    expect(await world.store.counts()).toEqual(before)
  })

  test('of a bad request prices the steps that are right, and gives no total', async () => {
    const bad = structuredClone(seed) as { input: { image_to_video_params: { duration: number } } }
    bad.input.image_to_video_params.duration = 1_000
    const said = await estimate(bad)
    expect(said).toMatchObject({
      valid: false,
      total_usd: null,
      steps: [{ step_key: 'text_to_image', price_usd: 0.05 }],
    })
    expect(said.errors[0]?.pointer).toBe('/input/image_to_video_params/duration')
  })

  /** An installation with the keys of these providers and of no other. */
  const withKeys = (...ids: string[]) =>
    HttpWorld.open(deps => ({
      ...deps,
      routesOf: model => model.routes,
      providers: ['bfl', 'byteplus', 'fal', 'replicate'].map(id => ({
        id,
        missing: ids.includes(id) ? null : `set the key of ${id}`,
      })),
    }))
  interface Refusal {
    errors: { pointer: string; code: string }[]
  }

  test('where nobody can run a model is not valid, as creating says, and still knows the list price of its maker', async () => {
    const other = await HttpWorld.open(deps => ({ ...deps, routesOf: model => model.routes }))
    const said = await other.json<Estimate>('POST', '/api/v1/chains/chain1/estimate', { body: seed })
    const refused = await other.json<Refusal>('POST', '/api/v1/chains/chain1/runs', { body: seed })
    expect(said).toMatchObject({ valid: false, total_usd: null })
    expect(said.errors).toEqual(refused.errors)
    expect(said.steps[0]).toMatchObject({ provider: null })
    expect(said.steps[0]?.price_usd).toBeGreaterThan(0)
    await other.close()
  })

  test('where a later step has no route says the very mistakes that creating says', async () => {
    const other = await withKeys('bfl')
    const mixed = { ...seed, max_cost_usd: -1, input: { ...seed.input, image_to_video_param: {} } }
    for (const body of [seed, mixed]) {
      const created = await other.ask('POST', '/api/v1/chains/chain1/runs', { body })
      const { errors } = (await created.json()) as Refusal
      expect(created.status).toBe(400)
      expect(errors.at(-1)).toMatchObject({ pointer: '/input/chain_models/image_to_video_model', code: 'no_route' })
      const said = await other.json<Estimate>('POST', '/api/v1/chains/chain1/estimate', { body })
      expect(said).toMatchObject({ valid: false, total_usd: null })
      expect(said.errors).toEqual(errors)
      expect(said.steps.map(step => [step.step_key, step.provider])).toEqual([
        ['text_to_image', 'bfl'],
        ['image_to_video', null],
      ])
    }
    await other.close()
  })

  test('names a provider that can take the parameters, whatever the caller prefers', async () => {
    const other = await withKeys('bfl', 'byteplus', 'fal')
    const where = async (duration: number, more: object = {}) => {
      const input = { ...seed.input, image_to_video_params: { ...seed.input.image_to_video_params, duration } }
      const body = { input, provider_order: { image_to_video: ['fal'] }, ...more }
      const said = await other.json<Estimate>('POST', '/api/v1/chains/chain1/estimate', { body })
      return [said.valid, said.steps[1]?.provider]
    }
    expect(seed.input.chain_models.image_to_video_model).toBe('bytedance/seedance-1.5-pro')
    expect(await where(5)).toEqual([true, 'fal'])
    // fal films no automatic duration for this model.
    expect(await where(-1)).toEqual([true, 'byteplus'])
    // A mistake elsewhere does not change where this step would go.
    expect(await where(5, { metadata: 1 })).toEqual([false, 'fal'])
    expect(await where(-1, { metadata: 1 })).toEqual([false, 'byteplus'])
    await other.close()
  })

  test('of a body that is no JSON is 400, and of an unknown chain 404 with the known ones', async () => {
    expect((await world.ask('POST', '/api/v1/chains/chain1/estimate', { body: '{' })).status).toBe(400)
    const unknown = await world.ask('POST', '/api/v1/chains/chain9/estimate', { body: seed })
    expect([unknown.status, ((await unknown.json()) as { hint: string }).hint]).toEqual([
      404,
      'Chains: chain101, chain1, chain202, chain2, chain303, chain3.',
    ])
  })
})
