/** What a run may cost is looked at before anything is paid: at creating, at estimating and at resuming, in the same words. */
import { afterAll, beforeAll, describe, expect, test } from 'bun:test'
import seed from '../fixtures/seed.request.json'
import { HttpWorld } from '../support/http-world.ts'

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
    expect(error?.detail).toMatch(/^the steps cost at least 0\.\d+ USD; max_cost_usd is 0\.01$/)
    const least = Number(/least ([\d.]+)/.exec(error?.detail ?? '')?.[1])
    expect(await refusals({ ...seed, max_cost_usd: least })).toEqual([])
  })

  test('and a model without a known price do not go together', async () => {
    expect(await refusals({ ...unpriced, max_cost_usd: 100 })).toMatchObject([
      { pointer: '/max_cost_usd', code: 'price_unknown', detail: expect.stringContaining('minimax/hailuo-2.3') },
    ])
    expect(await refusals(unpriced)).toEqual([])
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
