/** A bucket that goes away and comes back, over real HTTP: what was paid is stored, and nothing is bought meanwhile. */
import { expect, test } from 'bun:test'
import request from '../fixtures/seed.request.json'
import { pointedAt, RunningApp } from '../support/app.ts'
import { miniS3 } from '../support/mini-s3.ts'
import { BytePlusStandIn } from '../support/providers/byteplus.ts'
import { ReplicateStandIn } from '../support/providers/replicate.ts'
import { until } from '../support/server.ts'

const { webhook_url: _hook, ...order } = request
const AWAY = Number.MAX_SAFE_INTEGER

interface Seen {
  id: string
  status: string
  steps: { status: string; attempts: unknown[] }[]
}

test('an outage of the bucket costs time: the output in hand is held, links may die, and no job is bought until it is over', async () => {
  const s3 = miniS3()
  const replicate = await new ReplicateStandIn().start()
  const byteplus = await new BytePlusStandIn().start()
  const app = await new RunningApp({
    ...pointedAt({
      replicate: { key: 'REPLICATE_API_TOKEN', base: 'REPLICATE_BASE_URL', standIn: replicate },
      byteplus: { key: 'ARK_API_KEY', base: 'ARK_BASE_URL', standIn: byteplus },
    }),
    BABYCHAIN_MEDIA: 's3://drill/media',
    AWS_ACCESS_KEY_ID: 'drill',
    AWS_SECRET_ACCESS_KEY: 'drill-secret',
    AWS_ENDPOINT_URL_S3: s3.endpoint,
  }).start()
  const post = async (): Promise<string> => (await app.post<Seen>('/api/v1/chains/chain101/runs', order)).id
  const ended = (id: string): Promise<string> =>
    until('the run has ended', async () => {
      const { status } = await app.json<Seen>(`/api/v1/runs/${id}`)
      return !['queued', 'running'].includes(status) && status
    })
  const bought = (): number => replicate.submits().length + byteplus.submits().length
  try {
    await until('the start has found the bucket', async () => (s3.requests.DELETE ?? 0) > 0)
    s3.failNext(AWAY)
    const first = await post()
    await until('the output is refused', async () => app.log.includes('storage refuses writes'))
    const [job] = replicate.submits()
    if (job) job.scene = { type: 'expire', times: AWAY }
    const second = await post()
    expect((await app.request('/readyz')).status).toBe(503)
    expect((await app.json<Seen>(`/api/v1/runs/${second}`)).status).toBe('queued')
    expect(bought()).toBe(1)
    s3.failNext(0)
    expect([await ended(first), await ended(second)]).toEqual(['succeeded', 'succeeded'])
    expect(job?.opens).toBe(1)
    expect(bought()).toBe(4)

    await app.stop()
    s3.failNext(AWAY)
    await app.start()
    const third = await post()
    await until('the start says that it cannot store', async () => app.log.lastIndexOf('"where":"outputs"') > 0)
    expect(bought()).toBe(4)
    s3.failNext(0)
    expect(await ended(third)).toBe('succeeded')
    expect(bought()).toBe(6)
  } finally {
    await app.close()
    await Promise.all([replicate.stop(), byteplus.stop(), s3.close()])
  }
}, 120_000)
