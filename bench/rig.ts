/**
 * The processes of a measurement: provider, sink, caller, and the engine under test. All on loopback, all ended by the rig.
 *
 * 1. The engine is the product as it is shipped (auth, validation, signatures, synchronous=FULL), or the bare reference; the
 *    caller cannot tell them apart.
 * 2. Only processes that the rig started are ended, by their handle; folders are removed when it closes.
 */
import { mkdtempSync, readFileSync, rmSync, statSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { freePort } from '../test/support/free-port.ts'
import type { LoadOrder, LoadResult } from './load.ts'
import { short } from './stats.ts'

export type Kind = 'product' | 'bare'

export interface EngineOptions {
  kind: Kind
  dataDir: string
  /** Providers call back: the product then needs an address that outlives it. */
  hooks?: boolean
  /** By default a free one. */
  port?: number
  /** Folder for a CPU profile, written when the engine ends. */
  profile?: string
}

export interface StubStats {
  calls: number
  submits: number
  steps: number
  /** Submits of a step beyond its first. */
  doubled: number
  firstCallAt: number
  lastDoneAt: number
}

const PROVIDER_KEY = 'bench-provider-key-0123456789'
const API_KEY = 'bck_bench_0123456789abcdef'
/** More calls than any phase makes; without it Bun's fetch stops at 256 in the whole process. */
const MANY_CALLS = { BUN_CONFIG_MAX_HTTP_REQUESTS: '65336' }

export interface Rig {
  readonly sink: string
  /** Starts an engine and waits until it is ready. */
  start(options: EngineOptions): Promise<Engine>
  /** A folder of its own. */
  folder(): string
  load(engine: Engine, order: NewOrder): Promise<LoadResult>
  stub(path: string): Promise<void>
  stubStats(): Promise<StubStats>
  sinkStats(): Promise<{ received: number; distinct: number; lastAt: number }>
  /** Resolves when so many different callbacks have come; throws after `limitS` seconds, or `quietS` without a new one. */
  ended(count: number, limitS: number, quietS?: number): Promise<void>
  /** Forgets what was counted. */
  reset(delayMs: number): Promise<void>
  close(): Promise<void>
}

type Without<T, K extends string> = T extends unknown ? Omit<T, K> : never
export type NewOrder = Without<LoadOrder, 'target' | 'from'>

/** @param product folder with `src/main.ts`, or a compiled binary */
export async function openRig(product: string): Promise<Rig> {
  const root = mkdtempSync(join(tmpdir(), 'babychain-bench-'))
  const engines = new Set<Engine>()
  const [stub, sink, load] = await Promise.all([
    child(['stub.ts', PROVIDER_KEY]),
    child(['sink.ts']),
    child(['load.ts']),
  ])
  const [stubUrl, sinkUrl] = [String(stub.first.url), String(sink.first.url)]
  const allow = [new URL(sinkUrl).host, String(stub.first.files)].join(',')
  let next = 0
  const sinkStats = () => ask<{ received: number; distinct: number; lastAt: number }>(`${sinkUrl}/stats`)

  return {
    sink: sinkUrl,
    folder: () => mkdtempSync(join(root, 'data-')),
    async start(options) {
      const engine = await startEngine(product, options, { stub: stubUrl, allow })
      engines.add(engine)
      return engine
    },
    async load(engine, order) {
      const from = next
      next += 1_000_000
      load.process.stdin.write(
        `${JSON.stringify({ ...order, from, target: { url: engine.url, key: API_KEY, sink: sinkUrl } })}\n`,
      )
      load.process.stdin.flush()
      return (await load.line()) as unknown as LoadResult
    },
    async stub(path) {
      await fetch(`${stubUrl}/control/${path}`)
    },
    stubStats: () => ask<StubStats>(`${stubUrl}/control/stats`),
    sinkStats,
    async ended(count, limitS, quietS = limitS) {
      const end = performance.now() + limitS * 1_000
      let [seen, newAt] = [0, performance.now()]
      for (;;) {
        const { distinct } = await sinkStats()
        if (distinct >= count) return
        if (distinct > seen) [seen, newAt] = [distinct, performance.now()]
        const now = performance.now()
        if (now > end || now - newAt > quietS * 1_000)
          throw new Error(`${distinct} of ${count} callbacks came, then none for ${short((now - newAt) / 1_000)} s`)
        await Bun.sleep(20)
      }
    },
    async reset(delayMs) {
      await Promise.all([
        fetch(`${stubUrl}/control/reset`),
        fetch(`${stubUrl}/control/delay/${delayMs}`),
        fetch(`${sinkUrl}/reset`),
      ])
    },
    async close() {
      for (const engine of engines) await engine.kill()
      for (const each of [stub, sink, load]) each.process.kill('SIGKILL')
      rmSync(root, { recursive: true, force: true })
    },
  }
}

/** A kept connection may be closed just when it is used again, so a question is asked on a new one. */
async function ask<T>(url: string): Promise<T> {
  return (await fetch(url, { keepalive: false })).json() as Promise<T>
}

/** A process of this folder; its first line on stdout says that it is ready. */
async function child(args: readonly string[]) {
  const process = Bun.spawn(['bun', join(import.meta.dir, args[0] ?? ''), ...args.slice(1)], {
    stdin: 'pipe',
    stdout: 'pipe',
    stderr: 'inherit',
    env: { ...baseEnv(), ...MANY_CALLS },
  })
  const lines = linesOf(process.stdout)
  const line = async (): Promise<Record<string, unknown>> => {
    const { value, done } = await lines.next()
    if (done) throw new Error(`${args[0]} has ended`)
    return JSON.parse(value) as Record<string, unknown>
  }
  return { process, line, first: await line() }
}

async function* linesOf(stream: ReadableStream<Uint8Array>): AsyncGenerator<string, void> {
  let rest = ''
  const decoder = new TextDecoder()
  for await (const chunk of stream) {
    const parts = (rest + decoder.decode(chunk, { stream: true })).split('\n')
    rest = parts.pop() ?? ''
    yield* parts
  }
}

const baseEnv = (): Record<string, string> => ({ PATH: process.env.PATH ?? '', HOME: process.env.HOME ?? '' })

export interface Usage {
  /** Seconds of CPU so far. */
  cpuS: number
  rssMb: number
  peakMb: number
}

export interface Engine {
  url: string
  kind: Kind
  /** From the start of the process to the first good answer (ms). */
  readyMs: number
  usage(): Usage
  /** At once, without a word. */
  kill(): Promise<void>
  /** As an operator stops it; a profile is written now. */
  stop(): Promise<void>
}

async function startEngine(
  product: string,
  options: EngineOptions,
  peers: { stub: string; allow: string },
): Promise<Engine> {
  const { kind, dataDir, hooks = false, profile } = options
  const port = options.port ?? freePort()
  const url = `http://127.0.0.1:${port}`
  const shared = { ...baseEnv(), ...MANY_CALLS, PORT: String(port) }
  const env: Record<string, string> =
    kind === 'bare'
      ? { ...shared, DATA_DIR: dataDir, STUB: peers.stub, KEY: PROVIDER_KEY }
      : {
          ...shared,
          BABYCHAIN_DATA_DIR: dataDir,
          BABYCHAIN_MODE: 'byok',
          BABYCHAIN_API_KEY: API_KEY,
          BABYCHAIN_CALLBACK_SECRET: `whsec_${Buffer.alloc(32, 1).toString('base64')}`,
          BABYCHAIN_MASTER_KEY: Buffer.alloc(32, 2).toString('base64'),
          BABYCHAIN_EGRESS_ALLOW: peers.allow,
          BABYCHAIN_CONCURRENCY: 'bfl=1000000',
          BFL_API_KEY: PROVIDER_KEY,
          BFL_BASE_URL: peers.stub,
          LOG_LEVEL: 'warn',
          ...(hooks ? { BABYCHAIN_PUBLIC_URL: url } : {}),
        }
  const began = performance.now()
  const isBinary = statSync(product).isFile()
  const profiling = profile ? ['--cpu-prof', `--cpu-prof-dir=${profile}`] : []
  const command =
    kind === 'bare'
      ? ['bun', ...profiling, join(import.meta.dir, 'bare.ts')]
      : isBinary
        ? [product, 'serve']
        : ['bun', ...profiling, join(product, 'src/main.ts'), 'serve']
  const running = Bun.spawn(command, { env, stdin: 'ignore', stdout: 'inherit', stderr: 'inherit' })
  while (!(await answers(url))) {
    if (running.exitCode !== null) throw new Error(`the ${kind} engine ended with ${running.exitCode}`)
    if (performance.now() - began > 300_000) throw new Error(`the ${kind} engine is not ready after 300 s`)
    await Bun.sleep(1)
  }
  const end = async (signal: NodeJS.Signals): Promise<void> => {
    running.kill(signal)
    await running.exited
  }
  return {
    url,
    kind,
    readyMs: performance.now() - began,
    usage: () => usageOf(running.pid),
    kill: () => end('SIGKILL'),
    stop: () => end('SIGTERM'),
  }
}

async function answers(url: string): Promise<boolean> {
  const answer = await fetch(`${url}/readyz`).catch(() => null)
  await answer?.arrayBuffer()
  return answer?.status === 200
}

/** Of a process, from /proc (Linux). */
function usageOf(pid: number): Usage {
  const stat = readFileSync(`/proc/${pid}/stat`, 'utf8')
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
  const status = readFileSync(`/proc/${pid}/status`, 'utf8')
  const mb = (name: string): number => Number(new RegExp(`${name}:\\s+(\\d+)`).exec(status)?.[1] ?? Number.NaN) / 1_024
  return { cpuS: (Number(fields[11]) + Number(fields[12])) / 100, rssMb: mb('VmRSS'), peakMb: mb('VmHWM') }
}
