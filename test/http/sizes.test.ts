/** Chains whose pictures have a size that the next model's provider does not take: told before the first of them is paid. */
import { expect, test } from 'bun:test'
import type { Model, PictureLimits } from '../../src/core/model.ts'
import seed from '../fixtures/seed.request.json'
import { HttpWorld } from '../support/http-world.ts'

interface Refusal {
  errors: { pointer: string; code: string; detail: string; hint: string }[]
}
interface Estimate extends Refusal {
  valid: boolean
  steps: { provider: string | null }[]
}

/** An installation with the keys of these providers and of no other. */
const withKeys = (...ids: string[]) =>
  HttpWorld.open(deps => ({
    ...deps,
    routesOf: model => model.routes,
    providers: ['bfl', 'byteplus', 'fal'].map(id => ({
      id,
      missing: ids.includes(id) ? null : `set the key of ${id}`,
    })),
  }))

/** The same, where films are made by BytePlus alone. */
const filming = (...ids: string[]) =>
  HttpWorld.open(deps => ({
    ...deps,
    routesOf: model => model.routes.filter(route => model.gives === 'image' || route.provider === 'byteplus'),
    providers: [...ids, 'byteplus'].map(id => ({ id, missing: null })),
  }))

/** The seed's chain with a picture of another size. */
const sized = (width: number, height: number) => ({
  input: { ...seed.input, text_to_image_params: { ...seed.input.text_to_image_params, width, height } },
})

const estimate = (world: HttpWorld, body: object, slug = 'chain1') =>
  world.json<Estimate>('POST', `/api/v1/chains/${slug}/estimate`, { body })

test('a film that cannot be made from the size of its picture is refused before the picture is paid', async () => {
  const world = await withKeys('bfl', 'byteplus')
  for (const [width, height] of [
    [256, 256],
    [2048, 512],
  ] as const) {
    const body = sized(width, height)
    const said = await estimate(world, body)
    expect(said).toMatchObject({ valid: false, steps: [{ provider: 'bfl' }, { provider: null }] })
    expect(said.errors).toEqual([
      {
        pointer: '/input/chain_models/image_to_video_model',
        code: 'no_route',
        detail: expect.stringContaining(
          `(byteplus: takes pictures with sides of 300 to 6000 pixels and a ratio of 0.4 to 2.5, but text_to_image gives ${width}x${height}; `,
        ),
        hint: expect.stringContaining('Change what one of them does not take'),
      },
    ])
    const created = await world.ask('POST', '/api/v1/chains/chain1/runs', { body })
    expect([created.status, ((await created.json()) as Refusal).errors]).toEqual([400, said.errors])
  }
  expect(await estimate(world, sized(1280, 512))).toMatchObject({ valid: true, steps: [{}, { provider: 'byteplus' }] })
  await world.close()
})

test('a size that every provider of the picture changes is judged as it is made', async () => {
  const world = await filming('replicate')
  expect(await estimate(world, sized(1504, 592))).toMatchObject({ valid: true, steps: [{}, { provider: 'byteplus' }] })
  expect((await estimate(world, sized(1200, 480))).errors).toMatchObject([
    { code: 'no_route', detail: expect.stringContaining('but text_to_image gives 1216x480') },
  ])
  await world.close()
})

test('a size that only some providers of the picture make fit is not refused; where none does, each is told', async () => {
  const world = await filming('bfl', 'replicate')
  for (const [width, height] of [
    [1504, 592],
    [1200, 480],
  ] as const)
    expect(await estimate(world, sized(width, height))).toMatchObject({ valid: true, errors: [] })
  expect((await estimate(world, sized(1200, 464))).errors).toMatchObject([
    { code: 'no_route', detail: expect.stringContaining('but text_to_image gives 1200x464 or 1216x480') },
  ])
  await world.close()
})

test('such a film goes to another provider of its model, whatever the caller prefers', async () => {
  const world = await withKeys('bfl', 'byteplus', 'fal')
  const body = { ...sized(256, 256), provider_order: { image_to_video: ['byteplus'] } }
  expect(await estimate(world, body)).toMatchObject({ valid: true, errors: [], steps: [{}, { provider: 'fal' }] })
  await world.close()
})

test('a size that the model is left to choose, or that stands in parameters with mistakes, refuses nothing', async () => {
  const world = await withKeys('bfl', 'byteplus')
  expect(await estimate(world, sized(256, 0))).toMatchObject({ valid: true, steps: [{}, { provider: 'byteplus' }] })
  expect((await estimate(world, sized(257, 256))).errors).toMatchObject([
    { pointer: '/input/text_to_image_params/width' },
  ])
  await world.close()
})

test('an edit is judged by the picture before it, and the film by that of the edit', async () => {
  const world = await withKeys('bfl', 'byteplus')
  const input = (first: object, edit: object) => ({
    input: {
      chain_models: { ...seed.input.chain_models, image_to_image_model: 'bytedance/seedream-4.5' },
      text_to_image_params: { ...seed.input.text_to_image_params, ...first },
      image_to_image_params: { prompt: 'in the evening', ...edit },
      image_to_video_params: seed.input.image_to_video_params,
    },
  })
  const of = async (first: object, edit: object) => {
    const { errors } = await estimate(world, input(first, edit), 'chain303')
    return errors.map(({ pointer, detail }) => `${pointer.split('/').at(-1)}: ${/but (.+?)[;)]/.exec(detail)?.[1]}`)
  }
  expect(await of({ width: 256, height: 256 }, { size: '2048x2048' })).toEqual([])
  expect(await of({ width: 4096, height: 64 }, {})).toEqual(['image_to_image_model: text_to_image gives 4096x64'])
  expect(await of({}, { size: '4096x1024' })).toEqual(['image_to_video_model: image_to_image gives 4096x1024'])
  await world.close()
})

test('a resume judges the picture that is kept by what it is, not by what was asked for', async () => {
  let pictureLimits: PictureLimits = {}
  const world = await HttpWorld.open(deps => ({
    ...deps,
    routesOf: (model: Model) => deps.routesOf(model).map(route => ({ ...route, pictureLimits })),
  }))
  const id = await world.run(seed)
  await world.runToEnd(id)
  const resume = (body: object) => world.ask('POST', `/api/v1/runs/${id}/resume`, { body })
  pictureLimits = { side: [300, 6_000] }
  const refused = await resume({ from_step_key: 'image_to_video' })
  expect([refused.status, ((await refused.json()) as Refusal).errors]).toMatchObject([
    400,
    [
      {
        code: 'no_route',
        detail: expect.stringContaining('sides of 300 to 6000 pixels, but text_to_image gives 40x30'),
        hint: expect.stringContaining('"from_step_key": "text_to_image"'),
      },
    ],
  ])
  expect((await resume({ from_step_key: 'text_to_image' })).status).toBe(202)
  await world.close()
})
