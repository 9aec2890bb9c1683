/** The seed's request with the caller's own keys: what arrives at the providers, and where a step goes when one is down. */
import { afterEach, describe, expect, test } from 'bun:test'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import type { JsonObject } from '../../src/core/json.ts'
import request from '../fixtures/seed.request.json'
import { pointedAt, RunningApp } from '../support/app.ts'
import { BflStandIn } from '../support/providers/bfl.ts'
import { BytePlusStandIn } from '../support/providers/byteplus.ts'
import { FalStandIn } from '../support/providers/fal.ts'
import { ReplicateStandIn } from '../support/providers/replicate.ts'
import type { Scene } from '../support/providers/stand-in.ts'
import { API_KEY, CALLBACK_SECRET, until } from '../support/server.ts'

const { webhook_url: _hook, ...quiet } = request

interface Seen {
  id: string
  status: string
  error: { code: string } | null
  steps: {
    step_key: string
    status: string
    provider_used: string | null
    generation_output_file: string[]
    generation_input_file?: string[]
    attempts: Attempted[]
  }[]
}
interface Attempted {
  provider: string
  outcome: string
  error: { code: string } | null
}

const bench: { close(): Promise<unknown> }[] = []
afterEach(async () => {
  for (const each of bench.splice(0)) await each.close()
})

async function world(more: Record<string, string> = {}) {
  const bfl = await new BflStandIn().start()
  const byteplus = await new BytePlusStandIn().start()
  const fal = await new FalStandIn().start()
  const replicate = await new ReplicateStandIn().start()
  const env = pointedAt({
    bfl: { key: 'BFL_API_KEY', base: 'BFL_BASE_URL', standIn: bfl },
    byteplus: { key: 'ARK_API_KEY', base: 'ARK_BASE_URL', standIn: byteplus },
    fal: { key: 'FAL_KEY', base: 'FAL_BASE_URL', standIn: fal },
    replicate: { key: 'REPLICATE_API_TOKEN', base: 'REPLICATE_BASE_URL', standIn: replicate },
  })
  const app = await new RunningApp({ ...env, ...more }).start()
  bench.push(app, ...[bfl, byteplus, fal, replicate].map(standIn => ({ close: () => standIn.stop() })))
  return { app, bfl, byteplus, fal, replicate }
}

const finish = async (app: RunningApp, body: unknown = quiet): Promise<Seen> => {
  const { id } = await app.post<Seen>('/api/v1/chains/chain1/runs', body)
  return app.json<Seen>(`/api/v1/runs/${id}?wait=60`)
}
/** Waits for the first step only; what follows is another provider's story. */
const firstStep = async (app: RunningApp): Promise<Seen> => {
  const { id } = await app.post<Seen>('/api/v1/chains/chain1/runs', quiet)
  return until('the first step has ended', async () => {
    const run = await app.json<Seen>(`/api/v1/runs/${id}`)
    return ['succeeded', 'failed'].includes(run.steps[0]?.status ?? '') && run
  })
}
const tried = (run: Seen): string[] =>
  (run.steps[0]?.attempts ?? []).map(each => `${each.provider} ${each.error?.code ?? each.outcome}`)

describe("the seed's request with BFL_API_KEY and ARK_API_KEY", () => {
  test('sends what those APIs document, and hands the picture on', async () => {
    const { app, bfl, byteplus } = await world()
    const run = await finish(app)
    expect(run.status).toBe('succeeded')
    expect(run.steps.map(step => step.provider_used)).toEqual(['bfl', 'byteplus'])
    expect(run.steps[1]?.generation_input_file).toEqual(run.steps[0]?.generation_output_file as string[])
    const [image] = bfl.submits()
    expect(image?.model).toContain('flux-2-flex')
    expect(image?.body).toMatchObject(request.input.text_to_image_params)
    const [video] = byteplus.submits()
    const { content, ...rest } = (video?.body ?? { content: [] }) as { content: JsonObject[] } & JsonObject
    expect(rest).toMatchObject({ model: 'seedance-1-5-pro-251215', ratio: '1:1', watermark: false })
    expect(content[0]).toEqual(request.input.image_to_video_params.content[0] as JsonObject)
    expect(content[1]).toMatchObject({
      type: 'image_url',
      role: 'first_frame',
      image_url: { url: expect.stringMatching(/^data:image\//) },
    })
  }, 60_000)
})

describe('when Black Forest Labs', () => {
  const drills: [string, Scene[], string[]][] = [
    [
      'is out of credit (402), the step goes to the next host',
      [{ type: 'refuse', why: { because: 'credit' } }],
      ['bfl insufficient_credit', 'fal succeeded'],
    ],
    [
      'limits the rate with Retry-After, the step goes to the next host',
      [{ type: 'refuse', why: { because: 'rate_limited', retryAfterS: 30 } }],
      ['bfl provider_rate_limited', 'fal succeeded'],
    ],
    [
      'limits the rate without Retry-After, the step goes to the next host',
      [{ type: 'refuse', why: { because: 'rate_limited' } }],
      ['bfl provider_rate_limited', 'fal succeeded'],
    ],
    [
      'is overloaded (503), the step goes to the next host',
      [{ type: 'refuse', why: { because: 'overloaded' } }],
      ['bfl provider_overloaded', 'fal succeeded'],
    ],
    ['refuses the content, the step ends there', [{ type: 'fail', how: 'input' }], ['bfl content_rejected']],
    ['takes the job and the answer is lost, nobody is asked twice', [{ type: 'swallow' }], ['bfl outcome_unknown']],
  ]
  test.each(drills)(
    '%s',
    async (_name, script, expected) => {
      const { app, bfl } = await world()
      bfl.script(...script)
      expect(tried(await firstStep(app))).toEqual(expected)
    },
    60_000,
  )

  test('refuses connections, the step goes to the next host', async () => {
    const { app, bfl } = await world()
    await bfl.stop()
    expect(tried(await firstStep(app))).toEqual(['bfl network_error', 'fal succeeded'])
  }, 60_000)
})

test('a caller may choose the providers of a step', async () => {
  const { app, replicate } = await world()
  await app.post('/api/v1/chains/chain1/runs', { ...quiet, provider_order: { text_to_image: ['replicate'] } })
  await until('Replicate has the job', async () => replicate.submits().length === 1)
}, 60_000)

test('no provider key and no secret is ever written anywhere: not in the log, an answer, the database or a file', async () => {
  const { app, bfl, byteplus, fal, replicate } = await world()
  bfl.script({ type: 'refuse', why: { because: 'key' } })
  fal.script({ type: 'refuse', why: { because: 'credit' } })
  const run = await finish(app)
  expect(tried(run)).toEqual(['bfl provider_unauthorized', 'fal insufficient_credit', 'replicate succeeded'])
  const answers = await Promise.all(
    ['/api/v1/runs', `/api/v1/runs/${run.id}`, '/api/v1/models', '/metrics', '/swagger/json'].map(async path =>
      (await app.request(path)).text(),
    ),
  )
  const files = [...new Bun.Glob('**/*').scanSync({ cwd: app.dir, dot: true })].map(file =>
    readFileSync(join(app.dir, file)).toString('latin1'),
  )
  expect(files.length).toBeGreaterThan(3)
  const secrets = [bfl, byteplus, fal, replicate].map(standIn => standIn.key)
  for (const secret of [...secrets, API_KEY, CALLBACK_SECRET]) {
    for (const text of [app.log, ...answers, ...files]) expect(text.includes(secret)).toBe(false)
  }
  expect([bfl, byteplus, fal, replicate].flatMap(standIn => standIn.leaks)).toEqual([])
}, 60_000)
