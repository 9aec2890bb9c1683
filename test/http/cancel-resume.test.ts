/** Stopping a run, and going on from where one stopped. */
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'bun:test'
import seed from '../fixtures/seed.request.json'
import { HttpWorld } from '../support/http-world.ts'
import { samplePicture } from '../support/sample-media.ts'

interface Run {
  id: string
  status: string
  resumed_from: string | null
  max_cost_usd: number | null
  provider_order: Record<string, string[]>
  cancel_requested_at: string | null
  cost: { actual_usd: number } | null
  steps: {
    id: string
    status: string
    inherited: boolean
    provider_cancel: string | null
    cost: object | null
    generation_output_file?: string[]
  }[]
}

let world: HttpWorld
beforeAll(async () => {
  world = await HttpWorld.open()
})
afterAll(() => world.close())
beforeEach(() => {
  world.provider.instant = false
})

async function atStep(index: number): Promise<string> {
  world.provider.instant = index > 0
  const id = await world.run(seed)
  await world.until(async () => {
    const run = await world.engine.run(id)
    if (run?.steps[index - 1]?.status === 'succeeded') world.provider.instant = false
    return run?.steps[index]?.status === 'running'
  })
  world.provider.instant = false
  return id
}

async function failed(): Promise<string> {
  const id = await atStep(1)
  world.provider.failNext()
  await world.runToEnd(id)
  return id
}

describe('cancel', () => {
  test('stops the job at the provider, and says so', async () => {
    const id = await atStep(0)
    const response = await world.ask('POST', `/api/v1/runs/${id}/cancel`)
    expect([200, 202]).toContain(response.status)
    await world.runToEnd(id)
    const run = await world.json<Run>('GET', `/api/v1/runs/${id}`)
    expect(run).toMatchObject({ status: 'canceled', steps: [{ status: 'canceled', provider_cancel: 'confirmed' }, {}] })
    expect(run.cancel_requested_at).toMatch(/\+00:00$/)
    expect(world.provider.started.filter(job => job.runId === id)).toHaveLength(1)
  })

  test('may be said again', async () => {
    const id = await atStep(0)
    await world.ask('POST', `/api/v1/runs/${id}/cancel`)
    await world.runToEnd(id)
    const first = await world.json<Run>('GET', `/api/v1/runs/${id}`)
    const again = await world.ask('POST', `/api/v1/runs/${id}/cancel`)
    expect([again.status, await again.json()]).toEqual([200, first])
  })

  test('keeps what the finished steps gave and cost', async () => {
    const id = await atStep(1)
    await world.ask('POST', `/api/v1/runs/${id}/cancel`)
    await world.runToEnd(id)
    const run = await world.json<Run>('GET', `/api/v1/runs/${id}`)
    expect(run.steps[0]).toMatchObject({ status: 'succeeded', cost: { actual_usd: 0.05 } })
    expect(run.steps[0]?.generation_output_file).toHaveLength(1)
  })

  test('of a run that has ended otherwise is 409, with the run', async () => {
    world.provider.instant = true
    const id = await world.run(seed)
    await world.runToEnd(id)
    const response = await world.ask('POST', `/api/v1/runs/${id}/cancel`)
    expect(response.status).toBe(409)
    expect(await response.json()).toMatchObject({ code: 'not_cancelable', run: { id, status: 'succeeded' } })
  })
})

describe('resume', () => {
  test('makes a new run that keeps the paid steps', async () => {
    const id = await failed()
    const submits = world.provider.started.length
    world.provider.instant = true
    const response = await world.ask('POST', `/api/v1/runs/${id}/resume`)
    const run = (await response.json()) as Run
    expect(response.status).toBe(202)
    expect(response.headers.get('location')).toBe(`/api/v1/chains/get/${run.id}`)
    expect(run).toMatchObject({
      resumed_from: id,
      steps: [{ status: 'succeeded', inherited: true }, { status: 'queued' }],
    })
    await world.runToEnd(run.id)
    const ended = await world.json<Run>('GET', `/api/v1/runs/${run.id}`)
    const old = await world.json<Run>('GET', `/api/v1/runs/${id}`)
    expect(ended.status).toBe('succeeded')
    expect(ended.steps[0]?.generation_output_file).toEqual(old.steps[0]?.generation_output_file as string[])
    expect(ended.cost).toMatchObject({ actual_usd: 0.05 })
    expect(world.provider.started).toHaveLength(submits + 1)
    expect(old.status).toBe('failed')
  })

  test('goes on with a job that the provider would not cancel, and pays for no other', async () => {
    const id = await atStep(0)
    const { cancel } = world.provider
    world.provider.cancel = async () => 'unsupported'
    await world.ask('POST', `/api/v1/runs/${id}/cancel`)
    world.provider.cancel = cancel
    const before = await world.runToEnd(id)
    const submits = world.provider.started.length
    world.provider.instant = true
    const run = await world.json<Run>('POST', `/api/v1/runs/${id}/resume`)
    expect(run.steps).toMatchObject([{ status: 'running', cost: { actual_usd: 0 } }, { status: 'queued' }])
    const ended = await world.runToEnd(run.id)
    expect(ended.status).toBe('succeeded')
    expect(ended.steps[0]?.attempts.map(each => each.jobRef)).toEqual([before.steps[0]?.attempts[0]?.jobRef ?? null])
    expect(world.provider.started.slice(submits).map(job => job.role)).toEqual(['image_to_video'])
    // The step that is named is bought anew.
    const body = { from_step_key: 'text_to_image' }
    const anew = await world.json<Run>('POST', `/api/v1/runs/${id}/resume`, { body })
    expect(anew.steps[0]?.status).toBe('queued')
    expect((await world.runToEnd(anew.id)).status).toBe('succeeded')
  })

  test('does not go on with a job whose provider cannot be asked here, and says what to set or to name', async () => {
    let missing: string | null = null
    const other = await HttpWorld.open(deps => ({
      ...deps,
      providers: deps.providers.map(({ id }) => ({
        id,
        get missing() {
          return missing
        },
      })),
    }))
    other.provider.instant = false
    const id = await other.run(seed)
    await other.until(async () => (await other.engine.run(id))?.steps[0]?.status === 'running')
    other.provider.cancel = async () => 'unsupported'
    await other.ask('POST', `/api/v1/runs/${id}/cancel`)
    await other.runToEnd(id)
    missing = 'set the key'
    const refused = await other.ask('POST', `/api/v1/runs/${id}/resume`)
    const { errors } = (await refused.json()) as { errors: { pointer: string; code: string; detail: string }[] }
    expect(refused.status).toBe(400)
    expect(errors).toContainEqual(
      expect.objectContaining({
        pointer: '/from_step_key',
        code: 'no_route',
        detail: `the job of text_to_image is at ${other.provider.id}, which cannot be asked for it (set the key)`,
        hint: expect.stringContaining('"from_step_key": "text_to_image"'),
      }),
    )
    missing = null
    expect((await other.ask('POST', `/api/v1/runs/${id}/resume`)).status).toBe(202)
    await other.close()
  })

  test('leaves a job for a provider that is named in front of its own, if that can take the step', async () => {
    const missing: Record<string, string> = {}
    const ids = ['studio', 'atelier', 'closed']
    const other = await HttpWorld.open(deps => ({
      ...deps,
      providers: ids.map(id => ({
        id,
        get missing() {
          return missing[id] ?? null
        },
      })),
      routesOf: model => ids.flatMap(provider => deps.routesOf(model).map(route => ({ ...route, provider }))),
    }))
    missing.closed = 'set its key'
    other.provider.instant = false
    other.provider.cancel = async () => 'unsupported'
    const id = await other.run({ ...seed, provider_order: ['atelier', 'studio'] })
    await other.until(async () => (await other.engine.run(id))?.steps[0]?.status === 'running')
    await other.ask('POST', `/api/v1/runs/${id}/cancel`)
    await other.runToEnd(id)
    const resumed = async (body: object) => {
      const response = await other.ask('POST', `/api/v1/runs/${id}/resume`, { body })
      return response.ok ? ((await response.json()) as Run).steps[0]?.status : response.status
    }
    // The order of the run before was there when its job was bought: it asks for no other.
    expect(await resumed({})).toBe('running')
    for (const order of [['studio', 'atelier'], ['closed'], ['closed', 'studio'], []])
      expect([order, await resumed({ provider_order: order })]).toEqual([order, 'running'])
    expect(await resumed({ provider_order: { image_to_video: ['atelier'] } })).toBe('running')
    // Where its own provider cannot be asked any more, that is no obstacle.
    missing.studio = 'set the key'
    expect(await resumed({ provider_order: ['studio', 'atelier'] })).toBe(400)
    expect(await resumed({ provider_order: ['closed', 'atelier'] })).toBe('queued')
    expect(await resumed({ provider_order: { text_to_image: ['atelier', 'studio'] } })).toBe('queued')
    await other.close()
  })

  test('may begin at a finished step, prefer another provider and allow more money', async () => {
    const id = await failed()
    world.provider.instant = true
    const body = { from_step_key: 'text_to_image', provider_order: ['studio'], max_cost_usd: 3.5 }
    const run = await world.json<Run>('POST', `/api/v1/runs/${id}/resume`, { body })
    expect(run).toMatchObject({
      max_cost_usd: 3.5,
      provider_order: { text_to_image: ['studio'], image_to_video: ['studio'] },
      steps: [{ inherited: false }, { inherited: false }],
    })
    expect((await world.runToEnd(run.id)).status).toBe('succeeded')
  })

  test('of a run that runs, or has succeeded, is 409', async () => {
    const running = await atStep(0)
    const say = async (id: string) => {
      const response = await world.ask('POST', `/api/v1/runs/${id}/resume`)
      return [response.status, ((await response.json()) as { code: string }).code]
    }
    expect(await say(running)).toEqual([409, 'not_resumable'])
    world.provider.instant = true
    await world.runToEnd(running)
    expect(await say(running)).toEqual([409, 'not_resumable'])
  })

  test('of a run that has succeeded says to name a step, and then runs again from there', async () => {
    world.provider.instant = true
    const id = await world.run(seed)
    const early = (await (await world.ask('POST', `/api/v1/runs/${id}/resume`)).json()) as { hint: string }
    expect(early.hint).toMatch(/ended/)
    await world.runToEnd(id)
    const refused = (await (await world.ask('POST', `/api/v1/runs/${id}/resume`)).json()) as { hint: string }
    expect(refused.hint).toContain('from_step_key')
    expect(refused.hint).not.toMatch(/only a failed/i)
    const body = { from_step_key: 'image_to_video' }
    const again = await world.json<Run>('POST', `/api/v1/runs/${id}/resume`, { body })
    expect(again).toMatchObject({ resumed_from: id, steps: [{ inherited: true }, { inherited: false }] })
    await world.runToEnd(again.id)
  })

  test('refuses what can no longer be run here before it is paid again, as creating does', async () => {
    const missing: (string | null)[] = [null]
    const other = await HttpWorld.open(deps => ({
      ...deps,
      providers: deps.providers.map(({ id }) => ({
        id,
        get missing() {
          return missing[0] ?? null
        },
      })),
    }))
    const upload = new FormData()
    upload.set('file', new Blob([await samplePicture('png')]), 'boat.png')
    const media = await other.json<{ id: string }>('POST', '/api/v1/media', { body: upload })
    const input = {
      chain_models: { image_to_image_model: 'bfl/flux-2-flex', image_to_video_model: 'bfl/flux-3-video' },
      image_to_image_params: { prompt: 'a teal pond', input_image: `media:${media.id}` },
      image_to_video_params: { prompt: 'it drifts', duration: 5 },
    }
    const { id } = await other.json<Run>('POST', '/api/v1/chains/chain202/runs', { body: { input } })
    await other.runToEnd(id)
    const submits = other.provider.started.length
    const refusals = async (body: object) => {
      const response = await other.ask('POST', `/api/v1/runs/${id}/resume`, { body })
      expect(response.status).toBe(400)
      const { errors } = (await response.json()) as { errors: { code: string; detail: string; pointer: string }[] }
      return errors.map(({ code, detail, pointer }) => [code, detail.split(' (')[0], pointer])
    }
    missing[0] = 'set the key'
    expect(await refusals({ from_step_key: 'image_to_video' })).toEqual([
      ['no_route', 'no provider here can run bfl/flux-3-video', '/input/chain_models/image_to_video_model'],
    ])
    expect(await refusals({ from_step_key: 'image_to_image' })).toHaveLength(2)
    missing[0] = null
    await other.store.removeMedia([media.id], other.clock.now() + 1)
    expect(await refusals({ from_step_key: 'image_to_image' })).toEqual([
      ['unknown_media', `there is no media:${media.id}`, '/input/image_to_image_params/input_image'],
    ])
    expect(other.provider.started).toHaveLength(submits)
    const later = await other.ask('POST', `/api/v1/runs/${id}/resume`, { body: { from_step_key: 'image_to_video' } })
    expect(later.status).toBe(202)
    await other.close()
  })

  test('in the other mode keeps no finished step, and says how to go on', async () => {
    let mode: 'sandbox' | 'byok' = 'byok'
    const other = await HttpWorld.open(deps => ({
      ...deps,
      get mode() {
        return mode
      },
    }))
    const id = await other.run(seed)
    await other.runToEnd(id)
    mode = 'sandbox'
    const resumed = (body: object) => other.ask('POST', `/api/v1/runs/${id}/resume`, { body })
    const refused = await resumed({ from_step_key: 'image_to_video' })
    expect([refused.status, await refused.json()]).toEqual([
      409,
      expect.objectContaining({
        code: 'not_resumable',
        detail: `The run ${id} was created in mode byok, and this server runs in mode sandbox: it cannot keep the finished steps.`,
        hint: 'Run all of its steps again with "from_step_key": "text_to_image", or resume it in mode byok.',
      }),
    ])
    const again = await resumed({ from_step_key: 'text_to_image' })
    expect([again.status, await again.json()]).toEqual([202, expect.objectContaining({ mode: 'sandbox' })])
    mode = 'byok'
    expect((await resumed({ from_step_key: 'image_to_video' })).status).toBe(202)
    await other.close()
  })

  test('takes other parameters and another model for the steps that are done again, and keeps what is paid', async () => {
    const id = await failed()
    const submits = world.provider.started.length
    world.provider.instant = true
    const input = {
      chain_models: { image_to_video_model: 'bfl/flux-3-video' },
      image_to_video_params: { prompt: 'the boat turns round', duration: 5 },
    }
    const made = await world.json<Run & { input: object }>('POST', `/api/v1/runs/${id}/resume`, { body: { input } })
    expect(made.steps).toMatchObject([
      { status: 'succeeded', inherited: true, model_identifier: seed.input.chain_models.text_to_image_model },
      { status: 'queued', model_identifier: 'bfl/flux-3-video' },
    ])
    expect(made.input).toEqual({
      ...seed.input,
      ...input,
      chain_models: { ...seed.input.chain_models, ...input.chain_models },
    })
    const run = await world.runToEnd(made.id)
    expect(run.status).toBe('succeeded')
    expect(run.steps[1]?.params).toEqual(input.image_to_video_params)
    expect(world.provider.started.slice(submits).map(job => job.role)).toEqual(['image_to_video'])
    const before = await world.json<{ input: object }>('GET', `/api/v1/runs/${id}`)
    expect(before.input).toEqual(seed.input)
  })

  test('changes no step that has finished, unless that is done again too, and takes no wrong parameters', async () => {
    const id = await failed()
    const film = { content: [{ type: 'text', text: 'it drifts' }], duration: 5 }
    const refused = async (body: object) => {
      const response = await world.ask('POST', `/api/v1/runs/${id}/resume`, { body })
      expect(response.status).toBe(400)
      const { errors } = (await response.json()) as { errors: { code: string; pointer: string }[] }
      return errors.map(({ code, pointer }) => [code, pointer])
    }
    const both = { text_to_image_params: { prompt: 'a swan' }, image_to_video_params: film }
    expect(await refused({ input: both })).toEqual([['step_is_kept', '/input/text_to_image_params']])
    expect(await refused({ input: { chain_models: { text_to_image_model: 'bfl/flux-2-pro' } } })).toEqual([
      ['step_is_kept', '/input/chain_models/text_to_image_model'],
    ])
    expect(await refused({ input: { image_to_video_param: film } })).toEqual([
      ['unknown_field', '/input/image_to_video_param'],
    ])
    expect(await refused({ input: { image_to_video_params: { ...film, duration: 'long' } } })).toEqual([
      ['type', '/input/image_to_video_params/duration'],
    ])
    expect(await refused({ input: { chain_models: 7 } })).toEqual([['type', '/input/chain_models']])
    expect(await refused({ input: [] })).toEqual([['type', '/input']])
    world.provider.instant = true
    const body = { from_step_key: 'text_to_image', input: both }
    const made = await world.json<Run>('POST', `/api/v1/runs/${id}/resume`, { body })
    const run = await world.runToEnd(made.id)
    expect([run.status, run.steps.map(step => step.params)]).toEqual(['succeeded', [both.text_to_image_params, film]])
  })

  test('tells all mistakes at once, whatever they are, and only those', async () => {
    const id = await failed()
    const pointers = async (body: object) => {
      const response = await world.ask('POST', `/api/v1/runs/${id}/resume`, { body })
      const { errors = [] } = (await response.json()) as { errors?: { pointer: string; code: string }[] }
      return errors.map(({ pointer, code }) => `${code} ${pointer}`)
    }
    const film = { content: [{ type: 'text', text: 'it drifts' }], duration: 5 }
    const models = (model: string) => ({ chain_models: { image_to_video_model: model } })
    expect(
      await pointers({ from_step_key: 'nope', foo: 1, input: { chain_models: { text_to_image_model: 'x/y' } } }),
    ).toEqual([
      'unknown_field /foo',
      'unknown_step /from_step_key',
      'unknown_model /input/chain_models/text_to_image_model',
    ])
    expect(
      await pointers({
        ...{
          foo: 1,
          from_step_key: 'text_to_image',
          max_cost_usd: 0.04,
          provider_order: { image_to_video: ['nobody'], x: [] },
        },
        input: { ...models('x/y'), text_to_image_params: { prompt: 'a swan' } },
      }),
    ).toEqual([
      'unknown_field /foo',
      'unknown_model /input/chain_models/image_to_video_model',
      'unknown_step /provider_order/x',
      'budget_exceeded /max_cost_usd',
    ])
    // A picture is looked at, too: here the one of a step whose neighbor is wrong.
    const media = 'media:0192f0c1-c2d3-7a54-b7d3-a1b2c3d4e5f6'
    const picture = { role: 'last_frame', type: 'image_url', image_url: { url: media } }
    expect(
      await pointers({
        ...{ from_step_key: 'nope', max_cost_usd: -1, provider_order: ['nobody'] },
        input: { image_to_video_params: { content: [...film.content, picture] }, text_to_image_params: { prompt: 7 } },
      }),
    ).toEqual([
      'minimum /max_cost_usd',
      'unknown_step /from_step_key',
      'type /input/text_to_image_params/prompt',
      'unknown_media /input/image_to_video_params/content/1/image_url/url',
    ])
    // Which steps would be done again is not known: nothing is said of what is not asked for.
    expect(await pointers({ from_step_key: 7, max_cost_usd: 0.01 })).toEqual(['type /from_step_key'])
    expect(await pointers({ max_cost_usd: -1, provider_order: ['studio'] })).toEqual(['minimum /max_cost_usd'])
    expect(await pointers([])).toEqual(['type '])
  })

  test('refuses bad bodies as creating does', async () => {
    const id = await failed()
    for (const [body, status, pointer] of [
      [{ from: 'x' }, 400, '/from'],
      [{ max_cost_usd: -1 }, 400, '/max_cost_usd'],
      [{ from_step_key: 7 }, 400, '/from_step_key'],
      [{ from_step_key: 'nothing' }, 400, '/from_step_key'],
      [{ provider_order: ['nobody'] }, 400, '/provider_order/0'],
      [{ provider_order: { nothing: [] } }, 400, '/provider_order/nothing'],
      ['{"a', 400, ''],
      [[], 400, ''],
    ] as const) {
      const response = await world.ask('POST', `/api/v1/runs/${id}/resume`, { body })
      expect([body, response.status]).toEqual([body, status])
      expect(((await response.json()) as { errors: { pointer: string }[] }).errors[0]?.pointer).toBe(pointer)
    }
  })
})
