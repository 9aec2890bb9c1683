/**
 * The one binary, alone in an empty directory with the sources out of reach: all that the README promises of it.
 * Where the system allows a mount of one's own, an empty file system lies over the sources while it runs.
 */
import { afterAll, beforeAll, expect, test } from 'bun:test'
import { copyFileSync, mkdirSync, mkdtempSync, readdirSync, rmSync, statSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import pkg from '../../package.json' with { type: 'json' }
import { builtBinary } from '../support/binary.ts'
import { smallRun } from '../support/chaos.ts'
import { Collector } from '../support/collector.ts'
import { readJobs } from '../support/sandbox-jobs.ts'
import { API_KEY, Receiver, ServerProcess, until } from '../support/server.ts'

const sources = join(import.meta.dir, '../..')
const hiding = ['unshare', '-m', 'sh', '-c', `mount -t tmpfs none '${sources}' && exec "$0" "$@"`]

interface Seen {
  id: string
  status: string
  steps: { status: string; generation_output_file?: string[] }[]
}

let dir: string
let command: string[]
let receiver: Receiver
let server: ServerProcess
beforeAll(async () => {
  dir = mkdtempSync(join(tmpdir(), 'babychain-alone-'))
  const alone = join(dir, 'babychain')
  copyFileSync(await builtBinary(), alone)
  const probe = Bun.spawnSync([...hiding, 'ls', sources], { stderr: 'ignore' })
  const hides = probe.exitCode === 0 && probe.stdout.length === 0
  console.log(hides ? 'the sources are out of reach' : 'no mount of our own here: the sources are only elsewhere')
  command = hides ? [...hiding, alone] : [alone]
  receiver = new Receiver()
  server = new ServerProcess({ command, env: { BABYCHAIN_EGRESS_ALLOW: receiver.host } })
  const readyMs = await server.start()
  const bytes = statSync(alone).size
  console.log(`binary: ${(bytes / 1e6).toFixed(1)} MB, ready after ${Math.round(readyMs)} ms in an empty directory`)
}, 120_000)
afterAll(async () => {
  await server.close()
  await receiver.stop()
  rmSync(dir, { recursive: true, force: true })
})

/** Runs a command of the binary in a directory of its own; gives what it said. */
async function say(args: string[], env: Record<string, string> = {}): Promise<{ code: number; out: string }> {
  const cwd = mkdtempSync(join(dir, 'cwd-'))
  const child = Bun.spawn([...command, ...args], {
    cwd,
    env: { PATH: process.env.PATH ?? '', HOME: cwd, ...env },
    stdout: 'pipe',
    stderr: 'pipe',
  })
  const [out, err] = await Promise.all([new Response(child.stdout).text(), new Response(child.stderr).text()])
  return { code: await child.exited, out: out + err }
}

test('tells its version and its commands', async () => {
  expect(await say(['--version'])).toEqual({ code: 0, out: `${pkg.version}\n` })
  const help = await say(['help'])
  for (const name of ['serve', 'demo', 'check', 'health']) expect(help.out).toContain(`  ${name} `)
  expect((await say(['nonsense'])).code).toBe(1)
})

test('serves: ready, health, Lab, Swagger, the contract, a run to its callback', async () => {
  for (const path of ['/healthz', '/readyz', '/metrics', '/', '/swagger', '/swagger/json'])
    expect([path, (await server.request(path)).status]).toEqual([path, 200])
  const page = await (await server.request('/')).text()
  const files = [...page.matchAll(/(?:src|href)="(\/lab\/files\/[^"]+)"/g)].map(match => match[1] ?? '')
  expect(files.length).toBeGreaterThan(1)
  for (const file of files) expect([file, (await server.request(file)).status]).toEqual([file, 200])
  const { paths } = await server.json<{ paths: Record<string, unknown> }>('/swagger/json')
  expect(Object.keys(paths)).toContain('/api/v1/chains/{slug}/runs')
  const port = new URL(server.url).port
  expect((await say(['health'], { PORT: port })).code).toBe(0)

  const { id } = (await (await server.post('/api/v1/chains/chain101/runs', smallRun(1, receiver.url))).json()) as Seen
  const run = await server.json<Seen>(`/api/v1/chains/get/${id}?wait=50`)
  expect(run.status).toBe('succeeded')
  const film = await fetch(run.steps.at(-1)?.generation_output_file?.[0] ?? '')
  expect(film.headers.get('content-type')).toBe('video/mp4')
  await until('the callback has come', async () => receiver.callbacks.some(each => each.runId === id))
  expect(receiver.unverified).toBe(0)
}, 90_000)

test('is killed in the middle of a film, and ends the run after a restart without a second submit', async () => {
  const answer = await server.post('/api/v1/chains/chain101/runs', smallRun(2, receiver.url, '#slow=2s'))
  const { id } = (await answer.json()) as Seen
  const at = async (index: number) => (await server.json<Seen>(`/api/v1/runs/${id}`)).steps[index]?.status
  await until('the second step runs', async () => (await at(1)) === 'running')
  await server.kill()
  const readyMs = await server.start()
  console.log(`binary: ready again after kill -9 in ${Math.round(readyMs)} ms`)
  expect((await server.json<Seen>(`/api/v1/runs/${id}?wait=50`)).status).toBe('succeeded')
  const jobs = (await readJobs(server.dataDir)).filter(job => job.runId === id)
  expect(jobs.map(job => job.submits)).toEqual([1, 1])
  expect(await server.terminate()).toBe(0)
  await server.start()
}, 90_000)

test('tells a collector of traces what it does, where there is one', async () => {
  const collector = new Collector()
  const traced = new ServerProcess({ command, env: { OTEL_EXPORTER_OTLP_ENDPOINT: collector.url } })
  try {
    const readyMs = await traced.start()
    console.log(`binary: ready after ${Math.round(readyMs)} ms with a collector`)
    const order = { input: smallRun(3, '').input }
    const answer = await traced.post('/api/v1/chains/chain101/runs', order, { prefer: 'wait=50' })
    const { id, status } = (await answer.json()) as Seen
    expect(status).toBe('succeeded')
    expect(await traced.terminate()).toBe(0)
    expect(new Set(collector.of(id).map(span => span.name))).toEqual(
      new Set(['run', 'provider.submit', 'provider.check']),
    )
  } finally {
    await traced.close()
    await collector.stop()
  }
}, 90_000)

test('demo makes a picture and a film, and check finds nothing wrong', async () => {
  const data = join(dir, 'demo-data')
  mkdirSync(data)
  const env = { BABYCHAIN_DATA_DIR: data, BABYCHAIN_API_KEY: API_KEY, BABYCHAIN_SANDBOX_LATENCY_MS: '0' }
  const demo = await say(['demo'], env)
  expect([demo.code, demo.out]).toEqual([0, expect.stringContaining('.mp4')])
  const check = await say(['check'], env)
  expect([check.code, check.out]).toEqual([0, expect.not.stringContaining('WRONG')])
  expect(check.out).not.toContain(API_KEY)
}, 120_000)

test('writes only where it was told to', async () => {
  await say(['--version'])
  expect(readdirSync(dir).filter(name => !/^(babychain|demo-data|cwd-.*)$/.test(name))).toEqual([])
  for (const cwd of readdirSync(dir).filter(name => name.startsWith('cwd-')))
    expect(readdirSync(join(dir, cwd))).toEqual([])
})
