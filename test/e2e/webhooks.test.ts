/**
 * 200 runs whose providers call back, while three in ten of the calls are lost, doubled, late or forged: polling takes
 * over where a call is missing, every run ends, and no job is paid twice.
 */
import { expect, test } from 'bun:test'
import request from '../fixtures/seed.request.json'
import { pointedAt, RunningApp } from '../support/app.ts'
import { BytePlusStandIn } from '../support/providers/byteplus.ts'
import { ReplicateStandIn } from '../support/providers/replicate.ts'
import type { Hook } from '../support/providers/stand-in.ts'
import { seeded } from '../support/runs.ts'
import { until } from '../support/server.ts'

const RUNS = 200
const PUBLIC = 'https://babychain.example'
const { webhook_url: _hook, ...quiet } = request

test(`${RUNS} runs with lost, doubled, late and forged webhooks all end, and nothing is submitted twice`, async () => {
  const draw = seeded(7)
  let origin = ''
  const fates: Record<string, number> = {}
  /** What the network makes of a webhook; the address is where this test's server listens. */
  const mangle = (hook: Hook): Hook[] => {
    const here = { ...hook, url: hook.url.replace(PUBLIC, origin) }
    const lot = draw()
    const fate = lot < 0.1 ? 'lost' : lot < 0.2 ? 'doubled' : lot < 0.25 ? 'forged' : lot < 0.3 ? 'foreign' : 'whole'
    fates[fate] = (fates[fate] ?? 0) + 1
    if (fate === 'lost') return []
    if (fate === 'doubled') return [here, here]
    if (fate === 'forged')
      return [
        {
          ...here,
          body: here.body.replace(/"(processing|running|starting|queued)"/, '"succeeded"'),
          headers: { ...here.headers, 'webhook-signature': 'v1,AAAA' },
        },
      ]
    if (fate === 'foreign') return [{ ...here, url: `${here.url.slice(0, -4)}AAAA` }]
    return [here]
  }
  const replicate = await new ReplicateStandIn({ latencyMs: 300, hooks: mangle }).start()
  const byteplus = await new BytePlusStandIn({ latencyMs: 600, hooks: mangle }).start()
  const app = await new RunningApp({
    ...pointedAt({
      replicate: { key: 'REPLICATE_API_TOKEN', base: 'REPLICATE_BASE_URL', standIn: replicate },
      byteplus: { key: 'ARK_API_KEY', base: 'ARK_BASE_URL', standIn: byteplus },
    }),
    BABYCHAIN_PUBLIC_URL: PUBLIC,
    BABYCHAIN_CONCURRENCY: 'replicate=300,byteplus=300',
  }).start()
  origin = app.url
  try {
    const ids = await Promise.all(
      Array.from(
        { length: RUNS },
        async (_each, n) =>
          (await app.post<{ id: string }>('/api/v1/chains/chain101/runs', { ...quiet, metadata: { n: String(n) } })).id,
      ),
    )
    const ended = await until(
      'every run has ended',
      async () => {
        const page = await Promise.all(
          ids.map(id => app.json<{ status: string; error: unknown }>(`/api/v1/runs/${id}`)),
        )
        return page.every(run => !['queued', 'running'].includes(run.status)) && page
      },
      240_000,
    )
    expect(ended.filter(run => run.status !== 'succeeded')).toEqual([])
    // A busy machine may move a film to the other provider before it was sent; what counts is one job a step.
    const jobs = [...replicate.submits(), ...byteplus.submits()]
    expect(jobs.filter(job => job.gives === 'image').length).toBe(RUNS)
    expect(jobs.filter(job => job.gives === 'video').length).toBe(RUNS)
    for (const fate of ['lost', 'doubled', 'forged', 'foreign', 'whole']) expect(fates[fate]).toBeGreaterThan(5)
    // Sparse while webhooks work: far fewer questions than polling alone would ask.
    const asked = replicate.calls.filter(call => call.method === 'GET').length
    console.log(`webhooks: ${JSON.stringify(fates)}; ${asked} questions for ${RUNS} pictures`)
  } finally {
    await app.close()
    await Promise.all([replicate.stop(), byteplus.stop()])
  }
}, 300_000)
