/**
 * The real process under kill -9, again and again, while callers send runs: no accepted run is lost, no step is submitted
 * twice, every run ends in one callback. `bun run chaos --kills 1000` is the same for a night.
 */
import { afterAll, beforeAll, expect, test } from 'bun:test'
import { rmSync } from 'node:fs'
import { join } from 'node:path'
import { builtBinary } from '../support/binary.ts'
import { chaos, smallRun, told } from '../support/chaos.ts'
import { readJobs } from '../support/sandbox-jobs.ts'
import { Receiver, ServerProcess, until } from '../support/server.ts'

const KILLS = Number(process.env.KILLS ?? 50)
const RUNS = Number(process.env.RUNS ?? 4 * KILLS)

interface Seen {
  id: string
  status: string
  steps: { status: string }[]
}

let receiver: Receiver
const servers: ServerProcess[] = []
function server(): ServerProcess {
  const made = new ServerProcess({ env: { BABYCHAIN_EGRESS_ALLOW: receiver.host } })
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

test(`${KILLS} kills of the binary under a load of ${RUNS} runs lose nothing and pay nothing twice`, async () => {
  const report = await chaos({ kills: KILLS, runs: RUNS, command: [await builtBinary()] })
  console.log(told(report))
  expect(report.runs).toBe(RUNS)
  expect(report.lost).toEqual([])
  const { doubleSubmits, secondIds, silent, unverified } = report
  expect({ doubleSubmits, secondIds, silent, unverified }).toEqual({
    doubleSubmits: 0,
    secondIds: 0,
    silent: 0,
    unverified: 0,
  })
}, 600_000)

test('where the lock is removed and a second server begins, the first one ends, and nothing is submitted twice', async () => {
  const [first, second] = [server(), server()]
  await first.start()
  const order = async (s: ServerProcess, n: number) =>
    ((await (await s.post('/api/v1/chains/chain101/runs', smallRun(n, receiver.url, '#slow=1s'))).json()) as Seen).id
  const ids = await Promise.all(Array.from({ length: 20 }, (_, n) => order(first, n)))
  rmSync(join(first.dataDir, 'babychain.lock'))
  await second.start({ BABYCHAIN_DATA_DIR: first.dataDir })
  expect(await first.gone()).toBe(1)
  const runs = await Promise.all(ids.map(id => second.json<Seen>(`/api/v1/runs/${id}?wait=30`)))
  expect(new Set(runs.map(run => run.status))).toEqual(new Set(['succeeded']))
  const jobs = await readJobs(first.dataDir)
  expect([jobs.length, new Set(jobs.map(job => job.submits))]).toEqual([40, new Set([1])])
}, 60_000)

test('a run of ten seconds survives SIGTERM and a restart without a second submit', async () => {
  const s = server()
  await s.start()
  const answer = await s.post('/api/v1/chains/chain101/runs', smallRun(1, receiver.url, '#slow=5s'))
  const { id } = (await answer.json()) as Seen
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
