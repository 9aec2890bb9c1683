/** What a run says when it has ended, and when what it gave was removed. */
import { expect, test } from 'bun:test'
import { rm } from 'node:fs/promises'
import { join } from 'node:path'
import { StorageUnavailable } from '../../src/core/ports.ts'
import type { Output } from '../../src/core/run.ts'
import seed from '../fixtures/seed.request.json'
import { HttpWorld } from '../support/http-world.ts'

/** The film of the order, with one change: another job. */
const CHANGED = { image_to_video_params: { ...seed.input.image_to_video_params, duration: 10 } }

interface Run {
  id: string
  status: string
  created_at: string
  updated_at: string
  ended_at: string | null
  steps: { status: string; completed_at: string | null; outputs?: { media_id: string; available: boolean }[] }[]
}

/** A run whose picture is painted, and whose film is at work. */
async function filming(world: HttpWorld): Promise<string> {
  world.provider.instant = true
  const id = await world.run(seed)
  await world.until(async () => {
    const run = await world.engine.run(id)
    if (run?.steps[0]?.status === 'succeeded') world.provider.instant = false
    return run?.steps[1]?.status === 'running'
  })
  return id
}

/** A run whose film failed, and the two days after it. */
async function failedFilm(world: HttpWorld): Promise<string> {
  const id = await filming(world)
  world.provider.failNext()
  await world.runToEnd(id)
  world.clock.advance(2 * 86_400_000)
  return id
}

test('a run has ended when the last of its steps has, and not before', async () => {
  const world = await HttpWorld.open()
  const id = await world.run(seed)
  expect((await world.json<Run>('GET', `/api/v1/runs/${id}`)).ended_at).toBeNull()
  await world.runToEnd(id)
  const run = await world.json<Run>('GET', `/api/v1/runs/${id}`)
  expect(run.ended_at).toBe(run.steps.at(-1)?.completed_at ?? '')
  await world.close()
})

test('an output that was removed says so, in one run and in the list', async () => {
  const world = await HttpWorld.open()
  const id = await failedFilm(world)
  const available = async () => {
    const one = await world.json<Run>('GET', `/api/v1/runs/${id}`)
    const [listed] = (await world.json<{ data: Run[] }>('GET', '/api/v1/runs')).data
    return [one, listed].map(run => run?.steps[0]?.outputs?.map(output => output.available))
  }
  expect(await available()).toEqual([[true], [true]])
  const { steps } = await world.json<Run>('GET', `/api/v1/runs/${id}`)
  await world.store.removeMedia([steps[0]?.outputs?.[0]?.media_id ?? ''], world.clock.now())
  expect(await available()).toEqual([[false], [false]])
  const told = await (await world.ask('GET', `/api/v1/runs/${id}/events`)).text()
  expect(told.match(/"available":\w+/g)).toEqual(['"available":false'])
  await world.close()
})

test('a run whose finished picture was removed is not resumed without it: the refusal names the step to run again', async () => {
  const world = await HttpWorld.open()
  const id = await failedFilm(world)
  const { steps } = await world.json<Run>('GET', `/api/v1/runs/${id}`)
  await world.store.removeMedia([steps[0]?.outputs?.[0]?.media_id ?? ''], world.clock.now())
  const refused = await world.ask('POST', `/api/v1/runs/${id}/resume`)
  expect([refused.status, await refused.json()]).toEqual([
    409,
    expect.objectContaining({
      code: 'not_resumable',
      detail: expect.stringContaining('what text_to_image gave was removed'),
      hint: expect.stringContaining('"from_step_key": "text_to_image"'),
    }),
  ])
  world.provider.instant = true
  const again = await world.json<Run>('POST', `/api/v1/runs/${id}/resume`, { body: { from_step_key: 'text_to_image' } })
  expect((await world.runToEnd(again.id)).status).toBe('succeeded')
  await world.close()
})

test('a run whose finished picture is lost from the disk is not resumed without it either', async () => {
  const world = await HttpWorld.open()
  const id = await failedFilm(world)
  const painted = (await world.engine.run(id))?.steps[0]
  const location = painted?.status === 'succeeded' ? painted.outputs[0]?.location : undefined
  const resume = (body?: object) => world.ask('POST', `/api/v1/runs/${id}/resume`, body ? { body } : {})
  await rm(join(world.dir, 'data', 'media', location ?? 'nowhere'))
  for (const refused of [await resume(), await resume({ from_step_key: 'image_to_video' })])
    expect([refused.status, await refused.json()]).toEqual([
      409,
      expect.objectContaining({
        code: 'not_resumable',
        detail: expect.stringContaining('what text_to_image gave is no longer in our storage'),
        hint: expect.stringContaining('"from_step_key": "text_to_image"'),
      }),
    ])
  world.provider.instant = true
  const again = (await (await resume({ from_step_key: 'text_to_image' })).json()) as Run
  expect((await world.runToEnd(again.id)).status).toBe('succeeded')
  await world.close()
})

test.each<[string, (world: HttpWorld, output: Output | undefined) => Promise<unknown>]>([
  ['removed', (world, output) => world.store.removeMedia([output?.mediaId ?? ''], world.clock.now())],
  ['lost', (world, output) => rm(join(world.dir, 'data', 'media', output?.location ?? 'nowhere'))],
])('a paid film is taken over although the picture before it is %s; to buy another is refused', async (_, lose) => {
  const world = await HttpWorld.open()
  world.provider.cancel = async () => 'unsupported'
  const id = await filming(world)
  await world.ask('POST', `/api/v1/runs/${id}/cancel`)
  await world.runToEnd(id)
  world.clock.advance(2 * 86_400_000)
  const painted = (await world.engine.run(id))?.steps[0]
  await lose(world, painted?.status === 'succeeded' ? painted.outputs[0] : undefined)
  world.provider.instant = true
  const before = world.provider.started.length
  const resume = (body: object) => world.ask('POST', `/api/v1/runs/${id}/resume`, { body })
  const anew = [await resume({ from_step_key: 'image_to_video' }), await resume({ input: CHANGED })]
  for (const refused of anew)
    expect([refused.status, await refused.json()]).toMatchObject([409, { code: 'not_resumable' }])
  const taken = await resume({})
  expect(taken.status).toBe(202)
  expect((await world.runToEnd(((await taken.json()) as Run).id)).status).toBe('succeeded')
  expect(world.provider.started.length).toBe(before)
  await world.close()
})

test.each<[string, () => Promise<never>]>([
  ['cannot be asked', () => Promise.reject(new StorageUnavailable('the bucket is away'))],
  ['does not answer', () => new Promise(() => {})],
])('a run whose storage %s now is resumed: nothing is known to be lost', async (_, open) => {
  const world = await HttpWorld.open(deps => ({ ...deps, media: { ...deps.media, open } }))
  const id = await failedFilm(world)
  const resumed = world.ask('POST', `/api/v1/runs/${id}/resume`)
  let status = 0
  void resumed.then(response => {
    status = response.status
  })
  await world.until(() => status !== 0)
  expect(status).toBe(202)
  await world.close()
})
