/**
 * The real process under kill -9, again and again, while callers send runs and a receiver takes callbacks.
 *
 * 1. Callers behave: one key a run, sent until it is accepted. The load is spread over all the kills, and never more than
 *    the server can work off: a callback that is late is then the kills' fault.
 * 2. Most kills hit a server at work, some one that is still starting.
 * 3. The sandbox keeps its books on disk as a remote provider does on its side: what it took, it counts.
 */
import { readJobs } from './sandbox-jobs.ts'
import { Receiver, ServerProcess, until } from './server.ts'

export interface ChaosOrder {
  kills: number
  runs: number
  /** What to run, without the command `serve`; by default the sources. */
  command?: readonly string[]
  /** Hears of every tenth kill. */
  note?(text: string): void
}

export interface ChaosReport {
  kills: number
  runs: number
  /** Accepted runs that are not there at the end, or that did not succeed. */
  lost: string[]
  /** Submits of a step beyond the first. */
  doubleSubmits: number
  /** Runs with several callback ids, and runs without a callback. */
  secondIds: number
  silent: number
  /** Callbacks that came again with the same id, as they may. */
  repeated: number
  unverified: number
  /** From the start of a process to its readiness (ms). */
  ready: Spread
  /** From the acceptance of a run to its first callback (ms). */
  callback: Spread
  /** Runs whose callback came more than a minute after their acceptance and after the last kill. */
  late: number
  /** From the last kill to the last callback of the runs that it met (ms). */
  settledMs: number
  seconds: number
}

export interface Spread {
  p50: number
  max: number
}

const LATE_MS = 60_000
/** Runs under way at once. */
const MOST_OPEN = 64
/** What a caller waits for his answer, and the end for the next run to end: far more than any recovery takes. */
const PATIENCE_MS = 240_000

interface Seen {
  id: string
  status: string
}

export async function chaos(order: ChaosOrder): Promise<ChaosReport> {
  const began = performance.now()
  const receiver = new Receiver()
  const env = { BABYCHAIN_EGRESS_ALLOW: receiver.host, BABYCHAIN_SANDBOX_LATENCY_MS: '150' }
  const server = new ServerProcess({ env, ...(order.command ? { command: order.command } : {}) })
  try {
    return await strike(order, server, receiver, began)
  } finally {
    await server.close()
    await receiver.stop()
  }
}

async function strike(
  order: ChaosOrder,
  server: ServerProcess,
  receiver: Receiver,
  began: number,
): Promise<ChaosReport> {
  const { kills, runs, note } = order
  const ready = [await server.start()]
  const accepted = new Map<string, number>()
  let [next, killed, lastKillAt] = [0, 0, 0]
  const callers = Array.from({ length: 8 }, async () => {
    for (let n = next++; n < runs; n = next++) {
      const turn = async () => n * kills <= killed * runs && n - receiver.callbacks.length < MOST_OPEN
      await until(`it is the turn of run ${n}`, turn, PATIENCE_MS)
      accepted.set(await accept(server, receiver, n), performance.now())
    }
  })
  for (; killed < kills; killed += 1) {
    await Bun.sleep(50 + Math.random() * 350)
    await server.kill()
    lastKillAt = performance.now()
    if (killed % 5 === 4) {
      const starting = server.start().catch(() => {})
      await Bun.sleep(Math.random() * 150)
      await server.kill()
      await starting
    }
    ready.push(await server.start())
    if (killed % 10 === 9) note?.(`${killed + 1} kills, ${accepted.size} runs accepted`)
  }
  const met = new Set(accepted.keys())
  await Promise.all(callers)
  const lost = await unfinished(server, receiver, [...accepted.keys()])
  const heard = () => new Set(receiver.callbacks.map(each => each.runId)).size
  await until('every callback has come', async () => heard() >= accepted.size, 60_000).catch(() => {})
  const perRun = Map.groupBy(receiver.callbacks, each => each.runId)
  const first = (id: string): number => perRun.get(id)?.[0]?.at ?? Number.NaN
  const spans = [...accepted].map(([id, at]) => Math.max(0, first(id) - at)).filter(ms => !Number.isNaN(ms))
  const jobs = await readJobs(server.dataDir)
  const submits = jobs.reduce((sum, job) => sum + job.submits, 0)
  return {
    kills,
    runs: accepted.size,
    lost,
    doubleSubmits: submits - new Set(jobs.map(job => job.stepId)).size,
    secondIds: [...perRun.values()].filter(list => new Set(list.map(each => each.id)).size !== 1).length,
    silent: accepted.size - perRun.size,
    repeated: receiver.callbacks.length - perRun.size,
    unverified: receiver.unverified,
    ready: spread(ready),
    callback: spread(spans),
    late: [...accepted].filter(([id, at]) => first(id) - Math.max(at, lastKillAt) > LATE_MS).length,
    settledMs: Math.max(0, ...[...met].map(id => first(id) - lastKillAt).filter(ms => !Number.isNaN(ms))),
    seconds: (performance.now() - began) / 1_000,
  }
}

/** Sends one run until it is accepted; gives its id. */
async function accept(server: ServerProcess, receiver: Receiver, n: number): Promise<string> {
  const send = async (): Promise<string | null> => {
    try {
      const path = '/api/v1/chains/chain101/runs'
      const answer = await server.post(path, smallRun(n, receiver.url), { 'idempotency-key': `run-${n}` })
      return answer.status === 202 ? ((await answer.json()) as Seen).id : null
    } catch {
      return null
    }
  }
  return until(`run ${n} is accepted`, send, PATIENCE_MS)
}

/** A picture of 64 pixels and a film of one second: what costs the least to paint. */
export function smallRun(seed: number, webhook_url: string, words = '') {
  return {
    input: {
      chain_models: { text_to_image_model: 'bfl/flux-2-flex', image_to_video_model: 'bytedance/seedance-1-pro' },
      text_to_image_params: { prompt: `a small boat ${words}`, width: 64, height: 64, seed },
      image_to_video_params: {
        content: [{ type: 'text', text: 'it drifts' }],
        resolution: '480p',
        ratio: '1:1',
        frames: 29,
      },
    },
    webhook_url,
  }
}

/** Waits as long as runs end; gives those that are not there or have not succeeded. */
async function unfinished(server: ServerProcess, receiver: Receiver, ids: readonly string[]): Promise<string[]> {
  const open = '/api/v1/runs?status=queued&status=running&limit=1'
  let [heard, since] = [0, performance.now()]
  while ((await server.json<{ data: Seen[] }>(open)).data.length > 0 && performance.now() - since < PATIENCE_MS) {
    if (receiver.callbacks.length > heard) [heard, since] = [receiver.callbacks.length, performance.now()]
    await Bun.sleep(100)
  }
  const bad: string[] = []
  for (const id of ids) {
    const answer = await server.request(`/api/v1/runs/${id}`)
    const { status } = (await answer.json()) as Seen
    if (status !== 'succeeded') bad.push(id)
  }
  return bad
}

export function spread(values: readonly number[]): Spread {
  const sorted = values.toSorted((a, b) => a - b)
  return { p50: Math.round(sorted[sorted.length >> 1] ?? 0), max: Math.round(sorted.at(-1) ?? 0) }
}

/** The report in one line, for people. */
export function told(report: ChaosReport): string {
  const { kills, runs, lost, doubleSubmits, secondIds, silent, repeated, ready, callback, late, settledMs, seconds } =
    report
  return [
    `${kills} kills, ${runs} runs in ${Math.round(seconds)} s: ${lost.length} lost, ${doubleSubmits} double submits`,
    `${secondIds} second callback ids, ${silent} without a callback, ${repeated} callbacks repeated with the same id`,
    `${late} late, all ended ${(settledMs / 1_000).toFixed(1)} s after the last kill; ready after p50 ${ready.p50} ms, max ${ready.max} ms; callback after p50 ${callback.p50} ms, max ${callback.max} ms`,
  ].join(', ')
}
