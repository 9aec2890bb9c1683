/** The size of a caller's own picture is known where it lies here or in the request itself: what it costs is exact. */
import { afterAll, beforeAll, describe, expect, test } from 'bun:test'
import { basisOf, quoteAt } from '../../src/core/offers.ts'
import { createCatalog } from '../../src/models/catalog.ts'
import seed from '../fixtures/seed.request.json'
import { HttpWorld } from '../support/http-world.ts'
import { samplePicture } from '../support/sample-media.ts'

interface Said {
  steps: { price_usd: number; basis: string }[]
  errors: { pointer: string; code: string; detail: string; hint: string }[]
}

let world: HttpWorld
/** 2 megapixels that were uploaded, and 1 in the request. */
let two: string
let one: string
beforeAll(async () => {
  world = await HttpWorld.open(deps => ({
    ...deps,
    routesOf: model => model.routes,
    providers: ['bfl', 'byteplus'].map(id => ({ id, missing: null })),
  }))
  two = await upload(2048, 1024)
  one = `data:image/png;base64,${Buffer.from(await samplePicture('webp', 1024, 1024)).toString('base64')}`
})
afterAll(() => world.close())

const LINK = 'https://a.example/a.png'

async function upload(width: number, height: number, key?: string): Promise<string> {
  const body = await samplePicture('jpeg', width, height)
  const headers = { 'content-type': 'image/jpeg' }
  return (await world.json<{ ref: string }>('POST', '/api/v1/media', { body, headers, ...(key ? { key } : {}) })).ref
}

/** An edit of these pictures with FLUX.2, and a film of it. */
const edit = (input_image: string, more: object = {}) => ({
  input: {
    chain_models: {
      image_to_image_model: 'bfl/flux-2-flex',
      image_to_video_model: seed.input.chain_models.image_to_video_model,
    },
    image_to_image_params: { prompt: 'in the evening', input_image, ...more },
    image_to_video_params: { ...seed.input.image_to_video_params, ratio: '1:1' },
  },
})
const FILM = 0.20736

async function priceOf(body: object, slug = 'chain202', step = 0) {
  const { steps } = await world.json<Said>('POST', `/api/v1/chains/${slug}/estimate`, { body })
  return [steps[step]?.price_usd, steps[step]?.basis]
}

describe('the megapixels of a picture', () => {
  test('that was uploaded, or stands in the request, are counted as they are; those of a link at the most', async () => {
    expect(await priceOf(edit(two))).toEqual([0.2, 'listed'])
    expect(await priceOf(edit(one))).toEqual([0.1, 'listed'])
    expect(await priceOf(edit(LINK))).toEqual([0.4, 'upper_bound'])
  })

  test('are each in their place among several, also behind the picture of the step before', async () => {
    // As much comes out as the first one has.
    expect(await priceOf(edit(two, { input_image_2: one }))).toEqual([0.25, 'listed'])
    expect(await priceOf(edit(one, { input_image_2: two }))).toEqual([0.2, 'listed'])
    expect(await priceOf(edit(one, { input_image_2: LINK }))).toEqual([0.3, 'upper_bound'])
    const { chain_models, ...params } = edit('').input
    const wired = (more: object) => ({
      input: {
        ...params,
        chain_models: { ...chain_models, text_to_image_model: 'bfl/flux-2-flex' },
        text_to_image_params: { prompt: 'a boat' },
        image_to_image_params: { prompt: 'in the evening', ...more },
      },
    })
    expect(await priceOf(wired({ input_image_2: two }), 'chain303', 1)).toEqual([0.2, 'listed'])
    expect(await priceOf(wired({ input_image_2: LINK, input_image_3: two }), 'chain303', 1)).toEqual([
      0.4,
      'upper_bound',
    ])
  })

  test('are nobody else’s to learn: a picture of another key is not there', async () => {
    const foreign = await upload(1024, 1024, 'key-of-bob')
    const { errors } = await world.json<Said>('POST', '/api/v1/chains/chain202/estimate', { body: edit(foreign) })
    expect(errors).toMatchObject([{ code: 'unknown_media' }])
    expect(await priceOf(edit(foreign))).toEqual([0.4, 'upper_bound'])
  })

  test('that a header does not tell are the most', async () => {
    const bare = `data:image/png;base64,${Buffer.from((await samplePicture('png')).subarray(0, 24)).toString('base64')}`
    expect(await priceOf(edit(bare))).toEqual([0.4, 'upper_bound'])
  })

  test('are held to a limit as they are, and the hint says how a link becomes one that is known', async () => {
    const create = (input_image: string) =>
      world.ask('POST', '/api/v1/chains/chain202/runs', { body: { ...edit(input_image), max_cost_usd: 0.2 + FILM } })
    expect((await create(two)).status).toBe(202)
    const refused = await create(LINK)
    expect(refused.status).toBe(400)
    const { errors } = (await refused.json()) as Said
    expect(errors).toMatchObject([{ code: 'budget_exceeded', hint: expect.stringContaining('upload') }])
  })
})

describe('a run', () => {
  const { price } = createCatalog().find('bfl/flux-2-flex') ?? {}
  /** What its first step is estimated at, as the engine would do now: from what is stored. */
  async function quoted(id: string) {
    const [step] = (await world.store.run(id))?.steps ?? []
    if (!step || !price) throw new Error('there is no such run')
    const quote = quoteAt(null, { price } as Parameters<typeof quoteAt>[1], step, [])
    return [quote, basisOf(quote)]
  }

  test('keeps what was known when it was asked for, whatever becomes of the picture', async () => {
    const id = await world.run(edit(two), 'chain202')
    expect(await quoted(id)).toEqual([0.2, 'listed'])
    expect(await quoted(await world.run(edit(LINK), 'chain202'))).toEqual([{ atMost: 0.4 }, 'upper_bound'])
  })

  test('that is resumed with another picture knows that one, and with the same one still knows it', async () => {
    const id = await world.run(edit(two), 'chain202')
    world.provider.failNext()
    await world.runToEnd(id)
    const again = async (from: string, body: object) => {
      const answer = await world.ask('POST', `/api/v1/runs/${from}/resume`, { body })
      expect(answer.status).toBe(202)
      return ((await answer.json()) as { id: string }).id
    }
    const params = (input_image: string) => ({
      from_step_key: 'image_to_image',
      input: { image_to_image_params: edit(input_image).input.image_to_image_params },
    })
    expect(await quoted(await again(id, { from_step_key: 'image_to_image' }))).toEqual([0.2, 'listed'])
    expect(await quoted(await again(id, params(one)))).toEqual([0.1, 'listed'])
    expect(await quoted(await again(id, params(LINK)))).toEqual([{ atMost: 0.4 }, 'upper_bound'])
  })
})

test('a picture that no provider takes as it is, is refused before the step in front of it is paid', async () => {
  const flat = await upload(1700, 100)
  const wide = await upload(1600, 100)
  const { chain_models, image_to_video_params } = edit('').input
  const body = (image: string) => ({
    input: {
      chain_models: {
        ...chain_models,
        text_to_image_model: 'bfl/flux-2-flex',
        image_to_image_model: 'bytedance/seedream-4.5',
      },
      text_to_image_params: { prompt: 'a boat' },
      image_to_image_params: { prompt: 'with this sail', image: [image] },
      image_to_video_params,
    },
  })
  const said = async (image: string) =>
    (await world.json<Said>('POST', '/api/v1/chains/chain303/estimate', { body: body(image) })).errors
  expect(await said(wide)).toEqual([])
  expect(await said(LINK)).toEqual([])
  expect(await said(flat)).toMatchObject([
    {
      pointer: '/input/chain_models/image_to_image_model',
      code: 'no_route',
      detail: expect.stringContaining(
        'byteplus: takes pictures with a ratio of 0.0625 to 16, but the caller gives 1700x100',
      ),
    },
  ])
})
