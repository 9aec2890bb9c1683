/** The terminal callback: the run as GET shows it, what the backend did, and never more than 64 KiB (WH-9, WH-10). */
import { afterAll, beforeAll, describe, expect, test } from 'bun:test'
import type { Run } from '../../src/core/run.ts'
import { presentCallback } from '../../src/http/dto/callback.ts'
import seed from '../fixtures/seed.request.json'
import { Conformity } from '../support/http-conform.ts'
import { BASE, HttpWorld } from '../support/http-world.ts'

interface Message {
  type: string
  timestamp: string
  data: Record<string, unknown> & { steps?: Record<string, unknown>[]; backend_metadata?: Record<string, unknown> }
}

let world: HttpWorld
beforeAll(async () => {
  world = await HttpWorld.open()
})
afterAll(() => world.close())

const view = { link: (id: string) => `${BASE}/api/v1/media/${id}`, runUrl: `${BASE}/api/v1/runs/x` }
const read = (body: Uint8Array) => JSON.parse(new TextDecoder().decode(body)) as Message
/** What was left out is said, and the message is as the document has it. */
const compose = (run: Run) => {
  const { type, body } = presentCallback(run, view)
  const message = read(body)
  const { backend_metadata, ...shown } = message.data
  if (message.data.truncated) new Conformity(world.api).shape('ShortRun', message.data)
  else new Conformity(world.api).shape('ChainRun', shown)
  return { type, bytes: body.length, message }
}

test('holds the run as GET shows it, and what the backend did', async () => {
  const id = await world.run(seed)
  await world.runToEnd(id)
  const [delivery] = await world.store.deliveriesOf(id)
  if (!delivery) throw new Error('no delivery')
  const message = read(delivery.body)
  const run = await world.json('GET', `/api/v1/runs/${id}`)
  const { backend_metadata, ...shown } = message.data
  expect(shown).toEqual({ ...run, callback: null })
  expect(message).toMatchObject({ type: 'run.succeeded', timestamp: run.updated_at as string })
  expect(delivery.type).toBe('run.succeeded')
  expect(delivery.body.length).toBeLessThan(20_000)
  expect(backend_metadata).toMatchObject({
    mode: 'byok',
    providers_used: ['studio'],
    attempts: 2,
    cost: { actual_usd: 0.1, basis: 'metered' },
    steps: [
      { step_key: 'text_to_image', provider: 'studio', attempts: 1, cost: { actual_usd: 0.05 } },
      { step_key: 'image_to_video', provider: 'studio', attempts: 1 },
    ],
  })
  new Conformity(world.api).shape('BackendMetadata', backend_metadata)
})

describe('a message that grows', () => {
  async function run(change: (run: Run) => Partial<Run>): Promise<Run> {
    const id = await world.run(seed)
    const ended = await world.runToEnd(id)
    return { ...ended, ...change(ended) }
  }

  test('first leaves out the attempts and the outputs, and says where the whole run is', async () => {
    const many = await run(({ steps }) => ({
      steps: steps.map(step => ({ ...step, attempts: Array.from({ length: 200 }, () => step.attempts[0] ?? never()) })),
    }))
    const { bytes, message } = compose(many)
    expect(bytes).toBeLessThanOrEqual(65_536)
    expect(message.data).toMatchObject({ input: seed.input, backend_metadata: { attempts: 400 } })
    expect(message.data).toMatchObject({ truncated: true, url: view.runUrl })
    expect(message.data.steps?.[0]).not.toHaveProperty('attempts')
    expect(message.data.steps?.[0]).not.toHaveProperty('outputs')
    expect(message.data.steps?.[1]).toHaveProperty('generation_output_file')
  })

  test('then the input', async () => {
    const { bytes, message } = compose(await run(() => ({ input: { picture: 'A'.repeat(900_000) } })))
    expect(bytes).toBeLessThanOrEqual(65_536)
    expect(message.data).toMatchObject({ truncated: true, url: view.runUrl, metadata: {}, status: 'succeeded' })
    expect(message.data).not.toHaveProperty('input')
    expect(message.data.steps?.[1]).toHaveProperty('generation_output_file')
  })

  test('then the metadata', async () => {
    const metadata = Object.fromEntries(Array.from({ length: 50 }, (_, i) => [`key-${i}`, '長'.repeat(500)]))
    const { bytes, message } = compose(await run(() => ({ metadata })))
    expect(bytes).toBeLessThanOrEqual(65_536)
    expect(message.data).not.toHaveProperty('metadata')
    expect(message.data.steps?.[1]).toHaveProperty('generation_output_file')
  })

  test('and at last everything but the outcome', async () => {
    const { bytes, message } = compose(
      await run(({ steps }) => ({
        steps: steps.map(step => {
          if (step.status !== 'succeeded') return step
          return { ...step, outputs: Array.from({ length: 2_000 }, () => step.outputs[0] ?? never()) }
        }),
      })),
    )
    expect(bytes).toBeLessThan(1_000)
    expect(message.data).toMatchObject({ status: 'succeeded', truncated: true, url: view.runUrl })
  })
})

test('names the end: failed with its error, canceled', async () => {
  world.provider.instant = false
  const failed = await world.run(seed)
  await world.until(async () => (await world.engine.run(failed))?.steps[0]?.status === 'running')
  world.provider.failNext()
  expect(compose(await world.runToEnd(failed))).toMatchObject({
    type: 'run.failed',
    message: { type: 'run.failed', data: { status: 'failed', error: { code: 'content_rejected' } } },
  })
  const canceled = await world.run(seed)
  await world.ask('POST', `/api/v1/runs/${canceled}/cancel`)
  expect(compose(await world.runToEnd(canceled)).type).toBe('run.canceled')
  world.provider.instant = true
})

function never(): never {
  throw new Error('there is one')
}
