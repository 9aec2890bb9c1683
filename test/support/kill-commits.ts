/**
 * kill -9 at every commit of a run, from its creation to its delivered callback, on either side of each (rules.md 2.2,
 * C7 and C11): whatever belongs together is one transaction when no kill ever finds half of it.
 *
 * 1. One run is watched first: its writes and syncs of the database's log are the points. A kill at the last write before
 *    a sync leaves a transaction that was not made; one at the sync leaves a transaction that nobody has heard of.
 * 2. Every point kills a run of its own, in one database that all of them share and that must come through all of it.
 */
import { join } from 'node:path'
import { smallRun } from './chaos.ts'
import { crashState } from './crash-state.ts'
import { readJobs } from './sandbox-jobs.ts'
import { Receiver, ServerProcess, until } from './server.ts'
import { Strace } from './strace.ts'

export interface CommitKills {
  /** Commits of the run that was watched. */
  commits: number
  /** Points that killed; the others lay behind the end of their run, which was a little shorter. */
  kills: number
  points: number
  /** What was not as it must be, with the point at which it was found. */
  wrong: string[]
  /** From the restart to readiness, of each kill (ms). */
  readyMs: number[]
}

interface At {
  call: 'pwrite64' | 'fsync'
  n: number
}

export async function killAtEveryCommit(command: readonly string[]): Promise<CommitKills> {
  const receiver = new Receiver()
  const server = new ServerProcess({ command, env: { BABYCHAIN_EGRESS_ALLOW: receiver.host } })
  const drill = new Drill(server, receiver)
  try {
    await server.start()
    await drill.finish(await drill.post(0), 0)
    const points = await drill.watch()
    const commits = points.length / 2
    const report: CommitKills = { commits, kills: 0, points: points.length, wrong: [], readyMs: [] }
    for (const [i, point] of points.entries()) {
      await drill.kill(report, point, i + 2).catch((error: Error) => {
        throw new Error([...report.wrong, `${point.call} ${point.n}: ${error.message}`].join('\n'))
      })
    }
    if ((await server.terminate()) !== 0) report.wrong.push('the server did not stop with 0')
    report.wrong.push(...crashState(server.dataDir).wrong, ...(await drill.reckon(points.length + 2)))
    return report
  } finally {
    await server.close()
    await receiver.stop()
  }
}

class Drill {
  readonly #server: ServerProcess
  readonly #receiver: Receiver

  constructor(server: ServerProcess, receiver: Receiver) {
    this.#server = server
    this.#receiver = receiver
  }

  get #wal(): string {
    return join(this.#server.dataDir, 'babychain.db-wal')
  }

  /** Sends order `n`; gives the run's id, or null when the server died. */
  async post(n: number): Promise<string | null> {
    try {
      const order = smallRun(n, this.#receiver.url)
      const answer = await this.#server.post('/api/v1/chains/chain101/runs', order, { 'idempotency-key': `run-${n}` })
      return answer.status === 202 ? ((await answer.json()) as { id: string }).id : null
    } catch {
      return null
    }
  }

  /** Waits for the end of a run and for its callback to be settled; sends the order again where its answer was lost. */
  async finish(known: string | null, n: number): Promise<void> {
    const id = known ?? (await until(`run ${n} is accepted`, () => this.post(n)))
    await until(`the callback of run ${n} is settled`, () => this.#isSettled(id))
  }

  /** Watches a run's commits; gives both sides of each. */
  async watch(): Promise<At[]> {
    const log = join(this.#server.dir, 'commits.log')
    const strace = await Strace.attach(this.#server.pid, {
      paths: [this.#wal],
      calls: ['pwrite64', 'fsync'],
      inject: null,
      log,
    })
    await this.finish(await this.post(1), 1)
    const seen = (await strace.detach()).flatMap(line => /\b(pwrite64|fsync)\(/.exec(line)?.[1] ?? [])
    let [writes, syncs] = [0, 0]
    return seen.flatMap(call => {
      if (call === 'pwrite64') writes += 1
      else syncs += 1
      if (call === 'pwrite64') return []
      return [{ call: 'pwrite64', n: writes } as const, { call: 'fsync', n: syncs } as const]
    })
  }

  async kill(report: CommitKills, point: At, n: number): Promise<void> {
    const inject = 'signal=KILL'
    const fault = { paths: [this.#wal], calls: [point.call], inject, when: String(point.n) }
    const strace = await Strace.attach(this.#server.pid, fault)
    const living = new AbortController()
    const untouched = this.#playOut(n, living.signal)
    const isDead = await Promise.race([this.#server.gone().then(() => true), untouched.then(() => false)])
    living.abort()
    await strace.detach()
    if (!isDead) return
    report.kills += 1
    const { wrong } = crashState(this.#server.dataDir)
    report.wrong.push(...wrong.map(each => `${point.call} ${point.n}: ${each}`))
    report.readyMs.push(await this.#server.start())
    await this.finish(null, n)
  }

  /** Resolves when run `n` is over, if the server lives that long. */
  async #playOut(n: number, signal: AbortSignal): Promise<void> {
    const id = await this.post(n)
    while (!signal.aborted && id !== null) {
      if (await this.#isSettled(id).catch(() => false)) return
      await Bun.sleep(20)
    }
    await new Promise<void>(() => {}) // it died
  }

  async #isSettled(id: string): Promise<boolean> {
    const { data } = await this.#server.json<{ data: { status: string }[] }>(`/api/v1/deliveries?run_id=${id}`)
    return data[0]?.status === 'delivered'
  }

  /** What was paid and told in all, for `runs` runs of two steps. */
  async reckon(runs: number): Promise<string[]> {
    const jobs = await readJobs(this.#server.dataDir)
    const submits = jobs.reduce((sum, job) => sum + job.submits, 0)
    const told = Map.groupBy(this.#receiver.callbacks, each => each.runId)
    const wrong: string[] = []
    if (submits !== 2 * runs) wrong.push(`${submits} submits for ${2 * runs} steps`)
    if (told.size !== runs) wrong.push(`callbacks of ${told.size} of ${runs} runs`)
    for (const [id, callbacks] of told) {
      const ids = new Set(callbacks.map(each => each.id)).size
      const good = callbacks.every(each => each.type === 'run.succeeded')
      if (ids !== 1 || !good) wrong.push(`run ${id}: ${ids} callback ids, ${callbacks.map(each => each.type)}`)
    }
    return wrong
  }
}
