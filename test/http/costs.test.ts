/** What a run may cost is looked at before anything is paid: at creating, at estimating and at resuming, in the same words. */
import { afterAll, beforeAll, describe, expect, test } from 'bun:test'
import type { Quote } from '../../src/core/model.ts'
import { checkCost } from '../../src/http/costs.ts'
import { sumOf } from '../../src/http/dto/run.ts'
import seed from '../fixtures/seed.request.json'
import { HttpWorld } from '../support/http-world.ts'
import { attempt } from '../support/store-runs.ts'

interface Refusal {
  errors: { pointer: string; code: string; detail: string; hint: string }[]
}

/** With keys of these providers; bob's key has a daily budget. */
const open = (...ids: string[]) =>
  HttpWorld.open(deps => ({
    ...deps,
    routesOf: model => model.routes,
    providers: ids.map(id => ({ id, missing: null })),
    auth: async key => {
      const principal = await deps.auth(key)
      return principal?.apiKeyId === 'bob' ? { ...principal, dailyBudgetUsd: 20 } : principal
    },
  }))

let world: HttpWorld
beforeAll(async () => {
  world = await open('bfl', 'byteplus', 'replicate')
})
afterAll(() => world.close())

/** The errors of creating, which are those of estimating. */
async function refusals(order: object, key = 'key-of-ada'): Promise<Refusal['errors']> {
  const created = await world.ask('POST', '/api/v1/chains/chain101/runs', { body: order, key })
  const said = await world.json<Refusal & { valid: boolean }>('POST', '/api/v1/chains/chain101/estimate', {
    body: order,
    key,
  })
  const errors = created.status === 202 ? [] : ((await created.json()) as Refusal).errors
  expect([said.valid, said.errors]).toEqual([errors.length === 0, errors])
  return errors
}

const filmedBy = (model: string, params: object) => ({
  input: {
    chain_models: { ...seed.input.chain_models, image_to_video_model: model },
    text_to_image_params: seed.input.text_to_image_params,
    image_to_video_params: params,
  },
})
const unpriced = filmedBy('minimax/hailuo-2.3', { prompt: 'a boat drifts' })

describe('a limit', () => {
  test('that the cheapest way passes is told with both numbers', async () => {
    const [error, ...rest] = await refusals({ ...seed, max_cost_usd: 0.01 })
    expect(rest).toEqual([])
    expect(error).toMatchObject({ pointer: '/max_cost_usd', code: 'budget_exceeded' })
    expect(error?.detail).toMatch(/^the steps may cost 0\.\d+ USD, at the cheapest providers; max_cost_usd is 0\.01$/)
    const least = Number(/may cost ([\d.]+)/.exec(error?.detail ?? '')?.[1])
    expect(await refusals({ ...seed, max_cost_usd: least })).toEqual([])
  })

  test('counts the megapixels that an edit will get from the step before; those of a link at the most', async () => {
    const other = await HttpWorld.open(deps => ({
      ...deps,
      routesOf: model => model.routes,
      providers: ['bfl', 'byteplus'].map(id => ({ id, missing: null })),
    }))
    const input = {
      chain_models: { ...seed.input.chain_models, image_to_image_model: 'bfl/flux-2-flex' },
      image_to_image_params: { prompt: 'in the evening' },
      image_to_video_params: { ...seed.input.image_to_video_params, ratio: '1:1' },
    }
    const words = { text_to_image_params: { prompt: 'a boat', width: 2048, height: 2048 } }
    const link = { image_to_image_params: { prompt: 'in the evening', input_image: 'https://a.example/a.png' } }
    const { text_to_image_model: _, ...models } = input.chain_models
    const ask = async (slug: string, order: object) => {
      const said = await other.json<{ steps: { price_usd: number; basis: string }[] } & Refusal>(
        'POST',
        `/api/v1/chains/${slug}/estimate`,
        { body: order },
      )
      return [
        ...said.steps.map(step => (step.basis === 'upper_bound' ? `up to ${step.price_usd}` : step.price_usd)),
        ...said.errors.map(({ code }) => code),
      ]
    }
    const film = 0.20736
    expect(await ask('chain303', { input: { ...input, ...words }, max_cost_usd: 0.81 })).toEqual([0.2, 0.4, film])
    expect(await ask('chain303', { input: { ...input, ...words }, max_cost_usd: 0.8 })).toEqual([
      ...[0.2, 0.4, film],
      'budget_exceeded',
    ])
    expect(await ask('chain202', { input: { ...input, chain_models: models, ...link } })).toEqual(['up to 0.4', film])
    const { errors } = await other.json<Refusal>('POST', '/api/v1/chains/chain202/estimate', {
      body: { input: { ...input, chain_models: models, ...link }, max_cost_usd: 0.6 },
    })
    expect(errors[0]?.hint).toMatch(/for image_to_image: .*width and height.*step before.*picture of yours/)
    await other.close()
  })

  test('and a model without a known price do not go together', async () => {
    expect(await refusals({ ...unpriced, max_cost_usd: 100 })).toMatchObject([
      { pointer: '/max_cost_usd', code: 'price_unknown', detail: expect.stringContaining('minimax/hailuo-2.3') },
    ])
    expect(await refusals(unpriced)).toEqual([])
  })

  test('is held against the cheapest providers; of two as cheap the one whose price is certain is meant', () => {
    const check = (quotes: Quote[], limit: number) =>
      checkCost({ spentUsd: () => 0 }, { apiKeyId: 'ada', scopes: [] }, [{ key: 'a', model: 'm', quotes }], limit)
    expect(check([0.3, 0.1, null, { atMost: 0.2 }], 0.1)).toEqual([])
    const hints = [
      [{ atMost: 0.1 }, 0.1, 0.3],
      [0.3, { atMost: 0.1 }],
    ].map(quotes => check(quotes, 0.05)[0]?.hint ?? '')
    expect(hints.map(hint => hint.includes('is counted for a'))).toEqual([false, true])
  })

  test('of a price that nobody knows has no sum', async () => {
    const said = await world.json('POST', '/api/v1/chains/chain101/estimate', { body: unpriced })
    expect(said).toMatchObject({ valid: true, total_usd: null })
  })

  test('says nothing of a step that no provider can take: that is told by itself', async () => {
    const errors = await refusals({
      ...filmedBy('google/veo-3.1-lite', { prompt: 'a boat drifts' }),
      max_cost_usd: 100,
    })
    expect(errors.map(({ code }) => code)).toEqual(['no_route'])
  })

  test('that is wrong itself is told once', async () => {
    expect((await refusals({ ...unpriced, max_cost_usd: -1 })).map(error => error.code)).toEqual(['minimum'])
  })
})

test('under the daily budget of a key a model without a known price is refused at once', async () => {
  expect(await refusals(unpriced, 'key-of-bob')).toMatchObject([
    { pointer: '/input/chain_models/image_to_video_model', code: 'price_unknown' },
  ])
  expect(await refusals(seed, 'key-of-bob')).toEqual([])
})

describe('the daily budget of a key', () => {
  /** A key with this budget that has spent so much today; studio takes five cents for a step. */
  async function keyed(daily_budget_usd: number) {
    const own = await HttpWorld.open()
    const made = await own.json<{ id: string; key: string }>('POST', '/api/v1/keys', {
      body: { name: 'shop', daily_budget_usd },
    })
    const ask = (path: string, body: object = seed) => own.json('POST', path, { key: made.key, body })
    const spend = async () => own.runToEnd(await own.run(seed, 'chain101', { key: made.key }))
    return { own, ...made, ask, spend, create: () => ask('/api/v1/chains/chain101/runs') }
  }
  const refused = (detail: string, hint: string) => ({
    errors: [{ pointer: '/input/chain_models', code: 'budget_exceeded', detail, hint }],
  })
  const STEPS = 'the steps may cost 0.1 USD, at the cheapest providers (text_to_image 0.05, image_to_video 0.05)'
  const NEVER = 'No day is enough for them: raise the daily budget of the key, or choose cheaper models or parameters.'

  test.each([0, 0.03, 0.06])('of %p, which a chain can never keep, is told with the numbers', async budget => {
    const { own, ask, create } = await keyed(budget)
    const told = refused(`${STEPS}; the daily budget of the key is ${budget}`, NEVER)
    expect(await create()).toMatchObject({ status: 400, ...told })
    expect(await ask('/api/v1/chains/chain101/estimate')).toMatchObject({ valid: false, total_usd: null, ...told })
    expect(own.provider.started).toEqual([])
    await own.close()
  })

  test('counts what is left today, and on the next day all of it; a resume costs the steps that it does again', async () => {
    const { own, id, key, create, spend, ask } = await keyed(0.1)
    const run = await spend()
    const told = (left: number, budget: number) =>
      refused(
        `${STEPS}; ${left} of the key's daily budget of ${budget} are left today (UTC)`,
        'Wait for the next day (UTC), raise the daily budget of the key, or choose cheaper models or parameters.',
      )
    expect(await create()).toMatchObject(told(0, 0.1))
    await own.ask('PATCH', `/api/v1/keys/${id}`, { body: { daily_budget_usd: 0.15 } })
    expect(await create()).toMatchObject(told(0.05, 0.15))
    const again = (from_step_key: string) => ask(`/api/v1/runs/${run.id}/resume`, { from_step_key })
    expect(await again('text_to_image')).toMatchObject(told(0.05, 0.15))
    const film = await again('image_to_video')
    expect(film).toMatchObject({ resumed_from: run.id })
    expect((await own.runToEnd(film.id as string)).status).toBe('succeeded')
    // A budget below what is spent leaves nothing, and not less.
    await own.ask('PATCH', `/api/v1/keys/${id}`, { body: { daily_budget_usd: 0.12 } })
    expect(await create()).toMatchObject(told(0, 0.12))
    own.clock.advance(86_400_000)
    expect((await own.runToEnd(await own.run(seed, 'chain101', { key }))).status).toBe('succeeded')
    await own.close()
  })

  test('that others have used up meanwhile ends the step, and the hint tells to wait only where that helps', async () => {
    const { own, id, key } = await keyed(1)
    const ended = async (daily_budget_usd: number) => {
      await own.ask('PATCH', `/api/v1/keys/${id}`, { body: { daily_budget_usd: 1 } })
      const run = await own.run(seed, 'chain101', { key })
      await own.ask('PATCH', `/api/v1/keys/${id}`, { body: { daily_budget_usd } })
      return (await own.runToEnd(run)).error
    }
    const late = await ended(0.06)
    expect(late).toMatchObject({
      code: 'budget_exceeded',
      hint: expect.stringMatching(/^Resume the run on the next day/),
    })
    const never = await ended(0.04)
    expect(never).toMatchObject({ code: 'budget_exceeded', hint: expect.not.stringMatching(/next day|wait/i) })
    await own.close()
  })
})

test('a resumed run may have another limit or none, and one that cannot be kept is refused', async () => {
  const own = await HttpWorld.open()
  const { id } = await own.json<{ id: string }>('POST', '/api/v1/chains/chain101/runs', {
    body: { ...seed, max_cost_usd: 5 },
  })
  own.provider.instant = true
  await own.runToEnd(id)
  const again = (max_cost_usd?: number | null) =>
    own.ask('POST', `/api/v1/runs/${id}/resume`, {
      body: { from_step_key: 'image_to_video', ...(max_cost_usd === undefined ? {} : { max_cost_usd }) },
    })
  const refused = (await (await again(0.0001)).json()) as Refusal
  expect(refused.errors).toMatchObject([{ pointer: '/max_cost_usd', code: 'budget_exceeded' }])
  for (const [limit, then] of [
    [undefined, 5],
    [7, 7],
    [null, null],
  ] as const) {
    const made = await again(limit)
    expect([limit, made.status]).toEqual([limit, 202])
    expect(await made.json()).toMatchObject({ max_cost_usd: then, resumed_from: id })
  }
  await own.close()
})

describe('what was estimated and what was billed', () => {
  test('stay apart: a bill above the estimate shows in the step, in the run and in its callback', async () => {
    const own = await HttpWorld.open()
    const id = await own.run({ ...seed, webhook_url: 'https://hooks.example.com/x' })
    own.provider.instant = false
    await own.until(() => own.provider.started.length === 1)
    const token = own.provider.started[0]?.token ?? ''
    own.provider.ended.set(token, {
      type: 'succeeded',
      media: [{ url: 'https://studio.example/a.png' }],
      costUsd: 0.07,
    })
    own.provider.instant = true
    await own.runToEnd(id)
    const run = await own.json<{ cost: object; steps: { cost: object }[] }>('GET', `/api/v1/runs/${id}`)
    const costs = [run.cost, ...run.steps.map(step => step.cost)]
    expect(costs).toEqual([
      { estimated_usd: 0.1, actual_usd: 0.12, basis: 'metered' },
      { estimated_usd: 0.05, actual_usd: 0.07, basis: 'metered' },
      { estimated_usd: 0.05, actual_usd: 0.05, basis: 'metered' },
    ])
    const [delivery] = await own.store.deliveriesOf(id)
    const { data } = JSON.parse(new TextDecoder().decode(delivery?.body)) as { data: { backend_metadata: typeof run } }
    for (const told of [data as unknown as typeof run, data.backend_metadata])
      expect([told.cost, ...told.steps.map(step => step.cost)]).toEqual(costs)
    await own.close()
  })

  const paid = (estimatedUsd: number | null, actualUsd: number | null) =>
    attempt(1, { cost: { estimatedUsd, actualUsd, basis: actualUsd === null ? 'listed' : 'metered' } })
  test.each([
    ['a free attempt counts in neither', [paid(0.2, 0), paid(0.2, 0.26)], 0.2, 0.26, 'metered'],
    ['nor does it make a sum less certain', [paid(null, 0), paid(0.2, null)], 0.2, null, 'listed'],
    ['one that nobody knows makes its sum unknown', [paid(0.05, 0.07), paid(null, 0.1)], null, 0.17, 'metered'],
    ['free attempts alone cost nothing', [paid(0.2, 0)], 0, 0, 'metered'],
  ] as const)('%s', (_, attempts, estimated_usd, actual_usd, basis) => {
    expect(sumOf(attempts)).toEqual({ estimated_usd, actual_usd, basis })
  })
})
