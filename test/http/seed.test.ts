/** The contract, key by key: the seed's request unchanged, and both answers compared with the seed's. */
import { afterAll, beforeAll, describe, expect, test } from 'bun:test'
import created from '../fixtures/seed.created.json'
import ended from '../fixtures/seed.ended.json'
import seed from '../fixtures/seed.request.json'
import { BASE, HttpWorld } from '../support/http-world.ts'
import { samplePicture } from '../support/sample-media.ts'

type Wire = Record<string, unknown> & { id: string; steps: Record<string, unknown>[] }

let world: HttpWorld
beforeAll(async () => {
  world = await HttpWorld.open()
})
afterAll(() => world.close())

const TIME = /^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}\.\d{3}\+00:00$/

describe('the request of the seed', () => {
  for (const slug of ['chain1', 'chain101']) {
    test(`is accepted by ${slug} with the seed's keys, in the seed's order of meaning`, async () => {
      const response = await world.ask('POST', `/api/v1/chains/${slug}/runs`, { body: seed })
      expect(response.status).toBe(202)
      const run = (await response.json()) as Wire
      expect(sameShape(created, run)).toEqual([])
      expect(Object.keys(run).slice(0, 11)).toEqual(Object.keys(created))
      expect(run).toMatchObject({
        object: 'chain_run',
        chain_slug: slug,
        chain_version: '2026-05-23',
        status: 'queued',
        input: seed.input,
        current_step_key: 'processing',
        webhook_url: seed.webhook_url,
      })
      for (const step of run.steps) {
        expect(step).not.toHaveProperty('generation_input_file')
        expect(step).not.toHaveProperty('generation_output_file')
      }
      expect(response.headers.get('location')).toBe(`/api/v1/chains/get/${run.id}`)
      expect(String(run.created_at)).toMatch(TIME)
    })
  }

  test("ends with the seed's terminal keys, and both paths answer the same", async () => {
    const id = await world.run(seed)
    await world.runToEnd(id)
    const run = await world.json<Wire>('GET', `/api/v1/chains/get/${id}`)
    expect(await world.json<Wire>('GET', `/api/v1/runs/${id}`)).toEqual(run)
    expect(sameShape(ended, run)).toEqual([])
    expect(run).toMatchObject({ status: 'succeeded', current_step_key: 'completed' })
    const [image, film] = run.steps
    expect(image).not.toHaveProperty('generation_input_file')
    expect(film?.generation_input_file).toEqual(image?.generation_output_file)
    for (const step of run.steps) {
      for (const key of ['created_at', 'updated_at', 'started_at', 'completed_at'])
        expect(String(step[key])).toMatch(TIME)
    }
  })

  test('gives links that work without a key', async () => {
    const id = await world.run(seed)
    await world.runToEnd(id)
    const run = await world.json<Wire>('GET', `/api/v1/runs/${id}`)
    const types = []
    for (const step of run.steps) {
      const [link = ''] = step.generation_output_file as string[]
      const response = await world.ask('GET', link.slice(BASE.length), { key: null })
      expect([response.status, (await response.bytes()).length > 0]).toEqual([200, true])
      types.push(response.headers.get('content-type'))
    }
    expect(types).toEqual(['image/png', 'video/mp4'])
  })

  test('says which provider made what, in how many attempts, at what cost', async () => {
    const id = await world.run(seed)
    await world.runToEnd(id)
    const run = await world.json<Wire>('GET', `/api/v1/runs/${id}`)
    expect(run.cost).toEqual({ estimated_usd: 0.1, actual_usd: 0.1, basis: 'metered' })
    expect(run.steps[0]).toMatchObject({
      provider_used: 'studio',
      phase: null,
      attempts: [{ no: 1, provider: 'studio', outcome: 'succeeded', provider_model: 'bfl/flux-2-flex' }],
      cost: { actual_usd: 0.05 },
    })
    expect(JSON.stringify(run)).not.toContain('"token"')
    expect(run.callback).toMatchObject({ status: 'pending', attempts: 0 })
  })
})

describe('while it runs', () => {
  test('the run names its step, and the step its phase', async () => {
    world.provider.instant = false
    const id = await world.run(seed)
    await world.until(async () => (await world.engine.run(id))?.steps[0]?.status === 'running')
    await world.until(async () => ((await world.json<Wire>('GET', `/api/v1/runs/${id}`)).steps[0]?.progress ?? 0) !== 0)
    const response = await world.ask('GET', `/api/v1/runs/${id}`)
    const run = (await response.json()) as Wire
    expect(run).toMatchObject({ status: 'running', current_step_key: 'text_to_image', callback: null })
    expect(run.steps[0]).toMatchObject({ status: 'running', phase: 'running', progress: 0.5, completed_at: null })
    expect(run.steps[1]).toMatchObject({ status: 'queued', phase: null, started_at: null })
    expect(response.headers.get('retry-after')).toBe('2')
    world.provider.instant = true
    await world.runToEnd(id)
  })
})

describe('the other chains', () => {
  const film = { image_to_video_params: seed.input.image_to_video_params }
  const filmModel = { image_to_video_model: 'bytedance/seedance-1.5-pro' }

  for (const slug of ['chain202', 'chain2']) {
    test(`${slug} begins with the caller's picture and shows it as the input`, async () => {
      const picture = 'https://pictures.example.com/shoe.png'
      const input = {
        chain_models: { image_to_image_model: 'bfl/flux-2-flex', ...filmModel },
        image_to_image_params: { prompt: 'in red', input_image: picture },
        ...film,
      }
      const queued = await world.json<Wire & { id: string }>('POST', `/api/v1/chains/${slug}/runs`, {
        body: { input },
      })
      const { id } = queued
      expect(queued.chain_slug).toBe(slug)
      for (const step of queued.steps) expect(step).not.toHaveProperty('generation_input_file')
      await world.runToEnd(id)
      const run = await world.json<Wire>('GET', `/api/v1/runs/${id}`)
      expect(run.steps[0]?.generation_input_file).toEqual([picture])
      expect(run.steps[1]?.generation_input_file).toEqual(run.steps[0]?.generation_output_file)
    })
  }

  for (const slug of ['chain303', 'chain3']) {
    test(`${slug} passes every output on`, async () => {
      const input = {
        chain_models: { text_to_image_model: 'bfl/flux-2-flex', image_to_image_model: 'bfl/flux-2-pro', ...filmModel },
        text_to_image_params: { prompt: 'a shoe' },
        image_to_image_params: { prompt: 'in red' },
        ...film,
      }
      const id = await world.run({ input }, slug)
      await world.runToEnd(id)
      const { steps } = await world.json<Wire>('GET', `/api/v1/runs/${id}`)
      expect(steps.map(step => step.step_key)).toEqual(['text_to_image', 'image_to_image', 'image_to_video'])
      expect(steps[1]?.generation_input_file).toEqual(steps[0]?.generation_output_file)
      expect(steps[2]?.generation_input_file).toEqual(steps[1]?.generation_output_file)
    })
  }

  test('an uploaded picture is an input, shown as a link that works', async () => {
    const headers = { 'content-type': 'image/png' }
    const picture = await world.json<{ ref: string; url: string }>('POST', '/api/v1/media', {
      headers,
      body: await samplePicture('png'),
    })
    const input = {
      chain_models: { image_to_image_model: 'bfl/flux-2-flex', ...filmModel },
      image_to_image_params: { prompt: 'in red', input_image: picture.ref },
      ...film,
    }
    const id = await world.run({ input }, 'chain2')
    await world.runToEnd(id)
    const { steps } = await world.json<Wire>('GET', `/api/v1/runs/${id}`)
    expect(steps[0]?.generation_input_file).toEqual([picture.url])
  })
})

/** Keys of the seed that are missing or have another kind of value, by path. More keys are allowed. */
function sameShape(seedValue: unknown, value: unknown, path = ''): string[] {
  if (Array.isArray(seedValue)) {
    if (!Array.isArray(value) || value.length !== seedValue.length)
      return [`${path} is not a list of ${seedValue.length}`]
    return seedValue.flatMap((item, i) => sameShape(item, value[i], `${path}/${i}`))
  }
  if (typeof seedValue === 'object' && seedValue !== null) {
    if (typeof value !== 'object' || value === null) return [`${path} is not an object`]
    return Object.entries(seedValue).flatMap(([key, item]) =>
      Object.hasOwn(value, key)
        ? sameShape(item, (value as Record<string, unknown>)[key], `${path}/${key}`)
        : [`${path}/${key} is missing`],
    )
  }
  return typeof seedValue === typeof value && (seedValue === null) === (value === null)
    ? []
    : [`${path} has another type`]
}
