/** The seed's request with the caller's own keys: what arrives at the providers. (Where a step goes when one is down: failover.test.ts.) */
import { afterEach, describe, expect, test } from 'bun:test'
import type { JsonObject } from '../../src/core/json.ts'
import request from '../fixtures/seed.request.json'
import { type HostId, Hosts } from '../support/hosts.ts'
import { until } from '../support/server.ts'

const { webhook_url: _hook, ...quiet } = request

const open: Hosts[] = []
afterEach(async () => {
  for (const hosts of open.splice(0)) await hosts.close()
})
async function world(keys?: readonly HostId[]): Promise<Hosts> {
  const hosts = await Hosts.open(keys ? { keys } : {})
  open.push(hosts)
  return hosts
}

describe("the seed's request with BFL_API_KEY and ARK_API_KEY", () => {
  test('sends what those APIs document, and hands the picture on', async () => {
    const hosts = await world()
    const run = await hosts.runEnd(await hosts.create(quiet))
    expect(run.status).toBe('succeeded')
    expect(run.steps.map(step => step.provider_used)).toEqual(['bfl', 'byteplus'])
    expect(run.steps[1]?.generation_input_file).toEqual(run.steps[0]?.generation_output_file as string[])
    const [image] = hosts.bfl.submits()
    expect(image?.model).toContain('flux-2-flex')
    expect(image?.body).toMatchObject(request.input.text_to_image_params)
    const [video] = hosts.byteplus.submits()
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

test('a chain whose film nobody here can make is refused before its picture is paid', async () => {
  const hosts = await world(['bfl'])
  const answer = await hosts.app.post<{ status: number; errors: object[] }>('/api/v1/chains/chain1/runs', quiet)
  expect(answer.status).toBe(400)
  expect(answer.errors).toEqual([
    {
      pointer: '/input/chain_models/image_to_video_model',
      code: 'no_route',
      detail: expect.stringMatching(/^no provider here can run bytedance\/seedance-1\.5-pro \(byteplus: .*ARK_API_KEY/),
      hint: expect.stringContaining('GET /api/v1/models'),
    },
  ])
  expect(hosts.bfl.submits()).toEqual([])
}, 60_000)

test('a caller may choose the providers of a step', async () => {
  const hosts = await world()
  await hosts.create({ ...quiet, provider_order: { text_to_image: ['replicate'] } })
  await until('Replicate has the job', async () => hosts.replicate.submits().length === 1)
}, 60_000)
