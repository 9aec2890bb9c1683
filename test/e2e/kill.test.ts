/**
 * The real process under kill -9, again and again, while callers send runs: no accepted run is lost, no step is submitted
 * twice, every run ends in one callback. The sandbox keeps its books on disk as a remote provider does on its side.
 */
import { afterAll, beforeAll, expect, test } from 'bun:test'
import { readJobs } from '../../src/providers/sandbox/journal.ts'
import { Receiver, ServerProcess, until } from '../support/server.ts'

const KILLS = Number(process.env.KILLS ?? 50)
const RUNS = Number(process.env.RUNS ?? 200)

const body = (seed: number, webhook_url: string, more = '') => ({
  input: {
    chain_models: { text_to_image_model: 'bfl/flux-2-flex', image_to_video_model: 'bytedance/seedance-1.5-pro' },
    text_to_image_params: { prompt: `a small boat ${more}`, width: 64, height: 64, seed },
    image_to_video_params: {
      content: [{ type: 'text', text: 'it drifts' }],
      resolution: '480p',
      ratio: '1:1',
      duration: 2,
    },
  },
  webhook_url,
})

interface Seen {
  id: string
  status: string
  steps: { id: string; status: string; attempts: unknown[] }[]
}

let receiver: Receiver
const servers: ServerProcess[] = []
function server(env: Record<string, string> = {}): ServerProcess {
  const made = new ServerProcess({ env: { BABYCHAIN_EGRESS_ALLOW: receiver.host, ...env } })
  servers.push(made)
  return made
}

beforeAll(() => {
  receiver = new Receiver()
})
afterAll(async () => {
  for (const each of servers) await each.close()
  await receiver.stop()
})

/** Sends one run until it is accepted, as a careful caller does: the same key every time. */
async function accept(to: ServerProcess, n: number): Promise<string> {
  return until(
    `run ${n} is accepted`,
    async () => {
      try {
        const answer = await to.post('/api/v1/chains/chain101/runs', body(n, receiver.url), {
          'idempotency-key': `run-${n}`,
        })
        return answer.status === 202 && ((await answer.json()) as Seen).id
      } catch {
        return null
      }
    },
    240_000,
  )
}

test(`${KILLS} kills under a load of ${RUNS} runs lose nothing and pay nothing twice`, async () => {
  const s = server({ BABYCHAIN_SANDBOX_LATENCY_MS: '150', LOG_LEVEL: 'warn' })
  const silent = { LOG_LEVEL: 'info' }
  await s.start(silent)
  const ids = new Map<number, string>()
  let next = 0
  const callers = Array.from({ length: 8 }, async () => {
    while (next < RUNS) {
      const n = next++
      ids.set(n, await accept(s, n))
      await Bun.sleep(KILLS * 2)
    }
  })
  const readyAfter: number[] = []
  for (let kill = 0; kill < KILLS; kill += 1) {
    await Bun.sleep(50 + Math.random() * 350)
    await s.kill()
    readyAfter.push(await s.start(silent))
  }
  await Promise.all(callers)
  const ended = await until(
    'every run has ended',
    async () => {
      const runs = await Promise.all([...ids.values()].map(id => s.json<Seen>(`/api/v1/runs/${id}`)))
      return runs.every(run => ['succeeded', 'failed', 'canceled'].includes(run.status)) && runs
    },
    240_000,
  )
  await until(
    'every callback has come',
    async () => new Set(receiver.callbacks.map(each => each.runId)).size >= RUNS,
    60_000,
  )

  expect(new Set(ids.values()).size).toBe(RUNS)
  expect(ended.map(run => run.status)).toEqual(new Array(RUNS).fill('succeeded'))
  const jobs = await readJobs(s.dataDir)
  const perStep = Map.groupBy(jobs, job => job.stepId)
  expect(jobs.filter(job => job.submits !== 1)).toEqual([])
  expect([...perStep.values()].filter(list => list.length !== 1)).toEqual([])
  expect(perStep.size).toBe(2 * RUNS)
  const idsPerRun = Map.groupBy(receiver.callbacks, each => each.runId)
  expect([...idsPerRun.values()].filter(list => new Set(list.map(each => each.id)).size !== 1)).toEqual([])
  expect(receiver.unverified).toBe(0)
  readyAfter.sort((a, b) => a - b)
  const repeated = receiver.callbacks.length - RUNS
  console.log(
    `${KILLS} kills, ${RUNS} runs: 0 lost, 0 double submits, ${repeated} callbacks repeated with the same id; ready after p50 ${Math.round(readyAfter[KILLS >> 1] ?? 0)} ms, max ${Math.round(readyAfter.at(-1) ?? 0)} ms`,
  )
}, 600_000)

test('a run of ten seconds survives SIGTERM and a restart without a second submit', async () => {
  const s = server()
  await s.start()
  const id = ((await (await s.post('/api/v1/chains/chain101/runs', body(1, receiver.url, '#slow=5s'))).json()) as Seen)
    .id
  await until('the job runs', async () => (await s.json<Seen>(`/api/v1/runs/${id}`)).steps[0]?.status === 'running')
  expect(await s.terminate()).toBe(0)
  await s.start()
  const run = await s.json<Seen>(`/api/v1/runs/${id}?wait=30`)
  expect(run.status).toBe('succeeded')
  expect((await readJobs(s.dataDir)).map(job => job.submits)).toEqual([1, 1])
}, 60_000)

test('a second process on the same data directory exits with a sentence that names the first', async () => {
  const s = server()
  await s.start()
  const second = Bun.spawn(['bun', `${import.meta.dir}/../../src/main.ts`, 'serve'], {
    env: { PATH: process.env.PATH ?? '', PORT: '0', BABYCHAIN_DATA_DIR: s.dataDir },
    stdout: 'ignore',
    stderr: 'pipe',
  })
  expect(await second.exited).toBe(1)
  expect(await new Response(second.stderr).text()).toMatch(/process \d+/)
})
