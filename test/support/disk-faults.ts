/**
 * The real server on a disk that refuses, fails, fills up or dawdles for a while, and then works again: nothing is lost,
 * nothing is paid twice, callers are told, and the same process goes on.
 *
 * 1. The fault is the kernel's answer (strace.ts), for the database's own files; the server is the one that is shipped.
 * 2. Each drill has a run that was accepted before the fault and one that is ordered during it.
 */
import { join } from 'node:path'
import { smallRun } from './chaos.ts'
import { crashState } from './crash-state.ts'
import { readJobs } from './sandbox-jobs.ts'
import { Receiver, ServerProcess, until } from './server.ts'
import { FULL, fullWhileKeeping } from './small-disk.ts'
import { type Fault, Strace } from './strace.ts'

export interface DiskReport {
  name: string
  /** What is not as it must be. */
  wrong: string[]
  /** What was measured, for people. */
  told: string
}

type Drill = (disk: SickServer) => Promise<string>

/** How long a fault lasts (ms): several times the pause after which a refused write is tried again. */
const FAULT_MS = 1_500
/** A job runs this long (ms), so that it ends while the disk is ill. */
const JOB_MS = '500'

/** What the log of the database meets when its writes or its syncs fail, or the disk is full. */
const REFUSALS: readonly [name: string, fault: Omit<Fault, 'paths'>][] = [
  ['writes of the log fail (EIO)', { calls: ['pwrite64'], inject: 'error=EIO' }],
  ['syncs of the log fail (EIO)', { calls: ['fsync'], inject: 'error=EIO' }],
  ['the log cannot grow (ENOSPC)', { calls: ['pwrite64'], inject: 'error=ENOSPC' }],
  ['every third sync of the log fails', { calls: ['fsync'], inject: 'error=EIO', when: '1+3' }],
]

const DRILLS: readonly [name: string, drill: Drill][] = [
  ...REFUSALS.map(([name, fault]): [string, Drill] => [name, disk => disk.refuses(fault)]),
  ['a sync fails and the process dies of it', disk => disk.diesOfIt()],
  ['checkpoints fail (EIO at the sync of the database)', disk => disk.cannotCheckpoint()],
]
/** By itself: its figures are about time. */
const SLOW: [name: string, drill: Drill] = ['every sync takes 100 ms', disk => disk.dawdles(100)]

export const DISK_DRILLS: readonly string[] = [...DRILLS.map(([name]) => name), FULL, SLOW[0]]

/** Plays all drills, each on a server of its own; reports in the order of DISK_DRILLS. */
export async function playDisks(command: readonly string[]): Promise<DiskReport[]> {
  const reports: DiskReport[] = []
  let next = 0
  const hands = Array.from({ length: AT_ONCE }, async () => {
    for (let n = next++; n < DRILLS.length; n = next++) {
      const [name, drill] = DRILLS[n] ?? SLOW
      reports[n] = await playDisk(name, drill, command)
    }
  })
  const full = fullWhileKeeping(command)
  await Promise.all(hands)
  return [...reports, await full, await playDisk(...SLOW, command)]
}

const AT_ONCE = 3

async function playDisk(name: string, drill: Drill, command: readonly string[]): Promise<DiskReport> {
  const disk = new SickServer(command)
  try {
    await disk.server.start()
    const told = await drill(disk)
    disk.wrong.push(...(await disk.reckon()))
    return { name, wrong: disk.wrong, told }
  } catch (error) {
    return {
      name,
      wrong: [...disk.wrong, `the drill broke: ${error instanceof Error ? error.message : error}`],
      told: '',
    }
  } finally {
    await disk.close()
  }
}

class SickServer {
  readonly wrong: string[] = []
  readonly server: ServerProcess
  readonly #receiver = new Receiver()
  /** Orders that were accepted: key and run id. */
  readonly #accepted = new Map<string, string>()

  constructor(command: readonly string[]) {
    const env = { BABYCHAIN_EGRESS_ALLOW: this.#receiver.host, BABYCHAIN_SANDBOX_LATENCY_MS: JOB_MS }
    this.server = new ServerProcess({ command, env })
  }

  async close(): Promise<void> {
    await this.server.close()
    await this.#receiver.stop()
  }

  /** Writes or syncs fail for a while: 503 for callers, not ready, alive, and on it goes without a restart. */
  async refuses(fault: Omit<Fault, 'paths'>): Promise<string> {
    const { pid } = this.server
    await this.#order('before')
    const heal = await this.#fall(fault, ['-wal'])
    const isPartial = fault.when !== undefined
    const refused = await this.#send('during')
    if (!isPartial) await this.#mustBeTold(refused)
    await Bun.sleep(FAULT_MS)
    // What happened waits to be written, and the gauge for it tells.
    if (!isPartial) await until('a run is overdue', async () => (await this.#overdueSeconds()) > 0.5)
    await heal()
    const healed = performance.now()
    await this.#order('during')
    const tookMs = performance.now() - healed
    await this.#allEnded()
    this.#expect('status of /readyz afterwards', (await this.server.request('/readyz')).status, 200)
    this.#expect('process', this.server.pid, pid)
    if ((await this.#overdueSeconds()) > 2) this.wrong.push('a run is overdue afterwards')
    return `${refused.status} after ${Math.round(refused.ms)} ms; accepted ${Math.round(tookMs)} ms after the disk was well`
  }

  /** What a failed sync had written may be found by the next start: the refused order sent again is that run, or a new one. */
  async diesOfIt(): Promise<string> {
    await this.#order('before')
    await this.#fall({ calls: ['fsync'], inject: 'error=EIO' }, ['-wal'])
    const refused = await this.#send('during')
    this.#expect('status of a POST', refused.status, 503)
    await this.server.kill()
    const { wrong, runs } = crashState(this.server.dataDir)
    this.wrong.push(...wrong)
    const readyMs = await this.server.start()
    await this.#order('during')
    await this.#allEnded()
    const list = await this.server.json<{ data: unknown[] }>('/api/v1/runs?limit=100')
    this.#expect('runs', list.data.length, 2)
    return `${runs.length - 1} refused run found by the restart, ready after ${Math.round(readyMs)} ms`
  }

  /** Nobody notices but the log of the database, which grows until it can be emptied again. */
  async cannotCheckpoint(): Promise<string> {
    const heal = await this.#fall({ calls: ['fsync', 'fdatasync'], inject: 'error=EIO' }, [''])
    for (let n = 0; n < 40 && this.#walBytes() < CHECKPOINT_BYTES; n += 4) {
      await Promise.all([0, 1, 2, 3].map(more => this.#order(`run-${n + more}`)))
      await this.#allEnded()
    }
    const grown = this.#walBytes()
    if (grown < CHECKPOINT_BYTES) this.wrong.push(`the log never grew to a checkpoint: ${grown} bytes`)
    await this.server.kill()
    await heal()
    const { wrong } = crashState(this.server.dataDir)
    this.wrong.push(...wrong)
    await this.server.start()
    await this.#order('afterwards')
    await this.#allEnded()
    this.#expect('exit code', await this.server.terminate(), 0)
    this.#expect('bytes of the log after a stop', this.#walBytes(), 0)
    await this.server.start()
    return `log of ${(grown / 2 ** 20).toFixed(1)} MiB while it could not be emptied`
  }

  /** Every sync blocks the one thread: what does that leave for others? */
  async dawdles(syncMs: number): Promise<string> {
    const fault = { calls: ['fsync', 'fdatasync'], inject: `delay_enter=${syncMs * 1_000}` }
    const heal = await this.#fall(fault, ['', '-wal'])
    const began = performance.now()
    const watch = new AbortController()
    const health = this.#watchHealth(watch.signal)
    const posts = await Promise.all(Array.from({ length: SLOW_RUNS }, (_each, n) => this.#order(`slow-${n}`)))
    await this.#allEnded()
    const seconds = (performance.now() - began) / 1_000
    watch.abort()
    await heal()
    const spans = (await health).toSorted((a, b) => a - b)
    const [p50 = 0, max = 0] = [spans[spans.length >> 1], spans.at(-1)]
    if (p50 > 5 * syncMs || max > 20 * syncMs) this.wrong.push(`/healthz took p50 ${p50} ms, max ${max} ms`)
    return (
      `${SLOW_RUNS} runs in ${seconds.toFixed(1)} s, 202 after at most ${Math.round(Math.max(...posts))} ms; ` +
      `/healthz p50 ${Math.round(p50)} ms, max ${Math.round(max)} ms`
    )
  }

  /** Every accepted order is one run that succeeded, with one submit a step and one callback. */
  async reckon(): Promise<string[]> {
    const wrong: string[] = []
    const jobs = await readJobs(this.server.dataDir)
    const submits = jobs.reduce((sum, job) => sum + job.submits, 0)
    const steps = 2 * this.#accepted.size
    if (submits !== steps) wrong.push(`${submits} submits for ${steps} steps`)
    const told = Map.groupBy(this.#receiver.callbacks, each => each.runId)
    for (const [key, id] of this.#accepted) {
      const ids = new Set(told.get(id)?.map(each => `${each.type} ${each.id}`))
      if (ids.size !== 1 || ![...ids][0]?.startsWith('run.succeeded')) wrong.push(`${key}: callbacks ${[...ids]}`)
    }
    if (told.size !== this.#accepted.size) wrong.push(`callbacks of ${told.size} runs`)
    return wrong
  }

  async #mustBeTold(refused: { status: number; retryAfter: string | null; code?: string }): Promise<void> {
    this.#expect('status of a POST', refused.status, 503)
    this.#expect('code', refused.code, 'storage_unavailable')
    if (!(Number(refused.retryAfter) > 0)) this.wrong.push('a refused POST does not say when to come back')
    this.#expect('status of /readyz', (await this.server.request('/readyz')).status, 503)
    this.#expect('status of /healthz', (await this.server.request('/healthz')).status, 200)
  }

  async #send(key: string) {
    const began = performance.now()
    const path = '/api/v1/chains/chain101/runs'
    const answer = await this.server.post(path, smallRun(1, this.#receiver.url), { 'idempotency-key': key })
    const body = (await answer.json()) as { id?: string; code?: string }
    if (answer.status === 202 && body.id) this.#accepted.set(key, body.id)
    const retryAfter = answer.headers.get('retry-after')
    return { status: answer.status, retryAfter, code: body.code, ms: performance.now() - began }
  }

  /** Sends until it is accepted, as callers do; gives how long that took (ms). */
  async #order(key: string): Promise<number> {
    const began = performance.now()
    await until(`${key} is accepted`, async () => (await this.#send(key)).status === 202)
    return performance.now() - began
  }

  async #allEnded(): Promise<void> {
    for (const [key, id] of this.#accepted) {
      const status = async () => (await this.server.json<{ status: string }>(`/api/v1/runs/${id}`)).status
      await until(`${key} has ended`, async () => !['queued', 'running'].includes(await status()), 60_000)
    }
    const heard = () => new Set(this.#receiver.callbacks.map(each => each.runId)).size
    await until('every callback has come', async () => heard() >= this.#accepted.size)
  }

  async #fall(fault: Omit<Fault, 'paths'>, ends: readonly string[]): Promise<() => Promise<unknown>> {
    const paths = ends.map(end => join(this.server.dataDir, `babychain.db${end}`))
    const strace = await Strace.attach(this.server.pid, { ...fault, paths })
    return () => strace.detach()
  }

  async #watchHealth(signal: AbortSignal): Promise<number[]> {
    const spans: number[] = []
    while (!signal.aborted) {
      const began = performance.now()
      await this.server.request('/healthz')
      spans.push(performance.now() - began)
      await Bun.sleep(10)
    }
    return spans
  }

  async #overdueSeconds(): Promise<number> {
    const text = await (await this.server.request('/metrics')).text()
    return Number(/^babychain_run_overdue_seconds (.*)$/m.exec(text)?.[1])
  }

  #walBytes(): number {
    return Bun.file(join(this.server.dataDir, 'babychain.db-wal')).size
  }

  #expect(what: string, found: unknown, wanted: unknown): void {
    if (found !== wanted) this.wrong.push(`${what}: ${found} instead of ${wanted}`)
  }
}

/** SQLite empties its log at a thousand pages; a good deal more shows that it could not. */
const CHECKPOINT_BYTES = 1_200 * 4_096
const SLOW_RUNS = 8
