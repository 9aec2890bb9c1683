/** Promises that only a real server can show: races on one key, cut event streams, a full disk. */
import { afterAll, beforeAll, describe, expect, test } from 'bun:test'
import request from '../fixtures/seed.request.json'
import { API_KEY, ServerProcess, until } from '../support/server.ts'
import { SmallDisk, whyNoMount } from '../support/small-disk.ts'

const { webhook_url: _, ...quiet } = request
const small = { ...quiet, input: { ...quiet.input, text_to_image_params: { prompt: 'a boat', width: 64, height: 64 } } }
const path = '/api/v1/chains/chain101/runs'

interface Seen {
  id: string
  status: string
}

let server: ServerProcess
beforeAll(async () => {
  server = new ServerProcess({ env: { BABYCHAIN_SANDBOX_LATENCY_MS: '600' } })
  await server.start()
})
afterAll(() => server.close())

describe('one idempotency key', () => {
  test('sent 50 times at once makes one run and 50 equal answers', async () => {
    const answers = await Promise.all(
      Array.from({ length: 50 }, () => server.post(path, small, { 'idempotency-key': 'sky-blue' })),
    )
    expect(answers.map(answer => answer.status)).toEqual(new Array(50).fill(202))
    const ids = await Promise.all(answers.map(async answer => ((await answer.json()) as Seen).id))
    expect(new Set(ids).size).toBe(1)
    expect(answers.filter(answer => answer.headers.get('idempotent-replayed') === 'true').length).toBe(49)
  })

  test('with another body is refused and names the first run', async () => {
    const first = (await (await server.post(path, small, { 'idempotency-key': 'sea-green' })).json()) as Seen
    const second = await server.post(path, { ...small, metadata: { order: '2' } }, { 'idempotency-key': 'sea-green' })
    expect(second.status).toBe(422)
    const problem = await second.text()
    expect(JSON.parse(problem)).toMatchObject({ code: 'idempotency_key_reused' })
    expect(problem).toContain(first.id)
  })
})

describe('an event stream', () => {
  test('cut at random and resumed with Last-Event-ID tells every event exactly once and in order', async () => {
    const { id } = (await (await server.post(path, small)).json()) as Seen
    const seen: { seq: number; type: string }[] = []
    for (let cuts = 0; seen.at(-1)?.type !== 'run.succeeded'; cuts += 1) {
      if (cuts > 200) throw new Error('the stream never ends')
      await readSome(id, seen, 1 + (cuts % 3))
    }
    expect(seen.map(event => event.seq)).toEqual(seen.map((_event, i) => i + 1))
    expect(seen[0]?.type).toBe('run.created')
  }, 30_000)

  /** Reads up to `most` events after the last one seen, then hangs up in the middle. */
  async function readSome(id: string, seen: { seq: number; type: string }[], most: number): Promise<void> {
    const hangUp = new AbortController()
    const last = seen.at(-1)
    const headers = { authorization: `Bearer ${API_KEY}`, ...(last ? { 'last-event-id': String(last.seq) } : {}) }
    const answer = await fetch(`${server.url}/api/v1/runs/${id}/events`, { headers, signal: hangUp.signal })
    let text = ''
    let read = 0
    try {
      for await (const chunk of answer.body?.pipeThrough(new TextDecoderStream()) ?? []) {
        text += chunk
        const parts = text.split('\n\n')
        text = parts.pop() ?? ''
        for (const part of parts) {
          const seq = /^id: (\d+)$/m.exec(part)?.[1]
          const type = /^event: (.+)$/m.exec(part)?.[1]
          if (!seq || !type || read >= most) continue
          seen.push({ seq: Number(seq), type })
          read += 1
        }
        if (read >= most) hangUp.abort()
      }
    } catch (error) {
      if (!hangUp.signal.aborted) throw error
    }
  }
})

const diskTest = process.env.CI || whyNoMount() === null ? test : test.skip

describe('a full disk', () => {
  diskTest(
    'is a 503 that loses nothing, and the server goes on when there is room again, without a restart',
    async () => {
      const tight = new ServerProcess({ env: { BABYCHAIN_SANDBOX_LATENCY_MS: '0' } })
      const disk = new SmallDisk(tight.dataDir, 24)
      try {
        await tight.start()
        const before = (await (await tight.post(path, small, { 'idempotency-key': 'before' })).json()) as Seen
        await until(
          'the run has ended',
          async () => (await tight.json<Seen>(`/api/v1/runs/${before.id}`)).status === 'succeeded',
        )
        disk.fill()
        const refused = await until('a run is refused', async () => {
          const answer = await tight.post(path, small, { 'idempotency-key': 'full' })
          return answer.status === 503 && answer
        })
        expect(refused.headers.get('content-type')).toContain('application/problem+json')
        expect(await refused.json()).toMatchObject({ code: 'storage_unavailable', retryable: true })
        expect((await tight.request('/readyz')).status).toBe(503)
        expect((await tight.request('/healthz')).status).toBe(200)
        disk.empty()
        const after = await until('a run is accepted', async () => {
          const answer = await tight.post(path, small, { 'idempotency-key': 'full' })
          return answer.status === 202 && ((await answer.json()) as Seen)
        })
        await until(
          'it has ended',
          async () => (await tight.json<Seen>(`/api/v1/runs/${after.id}`)).status === 'succeeded',
        )
        expect((await tight.json<{ data: Seen[] }>('/api/v1/runs?limit=100')).data.map(run => run.status)).toEqual([
          'succeeded',
          'succeeded',
        ])
        expect(await tight.terminate()).toBe(0)
      } finally {
        await tight.kill()
        disk.unmount()
        await tight.close()
      }
    },
    60_000,
  )
})
