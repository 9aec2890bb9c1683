/**
 * The caller: sends runs over kept connections and measures. Orders come as JSON lines on stdin, one answer line for each.
 *
 * 1. `posts`: n runs, at most `atOnce` posts under way; gives the time of all and of each acceptance.
 * 2. `closed`: so many runs in flight for so many seconds: for each that ends, the next one is sent.
 * 3. `serial`: one run after the other; gives each from post to callback.
 * 4. The first `watched` runs of `posts` are followed by server-sent events to their ends.
 */
import { createInterface } from 'node:readline'
import { quantile } from './stats.ts'

export interface Target {
  url: string
  key: string
  /** Origin of the sink. */
  sink: string
}

export type LoadOrder = { target: Target; from: number } & (
  | { type: 'posts'; n: number; atOnce: number; watched?: number }
  | { type: 'closed'; inFlight: number; seconds: number; warmSeconds: number }
  | { type: 'serial'; n: number }
)

export interface LoadResult {
  /** Runs that were sent. */
  sent: number
  refused: number
  /** When the first post began (ms since the epoch). */
  startedAt: number
  /** Until the last acceptance, in seconds. */
  acceptS: number
  acceptP50: number
  acceptP99: number
  /** `serial`: post to callback, in ms. */
  endToEnd?: number[]
  /** `closed`: runs that ended in each whole second after the warm-up. */
  perSecond?: number[]
  /** `watched`: streams that ended with the run's end, and events read. */
  watched?: { ended: number; events: number }
}

const now = (): number => performance.timeOrigin + performance.now()

/** The request of run `n`. Prompts are unique, so that the provider can tell steps apart. */
export function bodyOf(n: number, sink: string): string {
  return JSON.stringify({
    input: {
      chain_models: { text_to_image_model: 'bfl/flux-2-flex', image_to_video_model: 'bfl/flux-3-video' },
      text_to_image_params: { prompt: `paper boat ${n} on a teal pond in morning light`, width: 1024, height: 1024 },
      image_to_video_params: { prompt: `paper boat ${n} drifts slowly to the left`, duration: 5 },
    },
    webhook_url: `${sink}/hook/${n}`,
    metadata: { order: String(n) },
  })
}

class Caller {
  readonly accepted: number[] = []
  refused = 0
  readonly #target: Target
  constructor(target: Target) {
    this.#target = target
  }

  /** Sends run `n`; gives its id, or null when it was refused. */
  async post(n: number): Promise<string | null> {
    const { url, key, sink } = this.#target
    const began = performance.now()
    const answer = await fetch(`${url}/api/v1/chains/chain101/runs`, {
      method: 'POST',
      headers: { authorization: `Bearer ${key}`, 'content-type': 'application/json', 'idempotency-key': `run-${n}` },
      body: bodyOf(n, sink),
    }).catch(() => null)
    const text = await answer?.text().catch(() => '')
    if (answer?.status !== 202) {
      this.refused += 1
      if (this.refused === 1) console.error('refused:', answer?.status, text?.slice(0, 600))
      return null
    }
    this.accepted.push(performance.now() - began)
    return /"id":"([^"]+)"/.exec(text ?? '')?.[1] ?? null
  }
}

async function posts(order: LoadOrder & { type: 'posts' }): Promise<LoadResult> {
  const caller = new Caller(order.target)
  const startedAt = now()
  const watched = { ended: 0, events: 0 }
  const watches: Promise<void>[] = []
  let next = order.from
  const end = order.from + order.n
  await Promise.all(
    Array.from({ length: order.atOnce }, async () => {
      while (next < end) {
        const n = next++
        const id = await caller.post(n)
        if (id && n - order.from < (order.watched ?? 0)) watches.push(watch(order.target, id, watched))
      }
    }),
  )
  const acceptS = (now() - startedAt) / 1_000
  await Promise.all(watches)
  return { ...resultOf(caller, startedAt, acceptS), ...(order.watched ? { watched } : {}) }
}

async function watch({ url, key }: Target, id: string, count: { ended: number; events: number }): Promise<void> {
  const answer = await fetch(`${url}/api/v1/runs/${id}/events`, { headers: { authorization: `Bearer ${key}` } })
  const text = await answer.text() // ends with the run
  count.events += text.split('\nid:').length - 1
  if (text.includes('run.succeeded')) count.ended += 1
}

async function closed(order: LoadOrder & { type: 'closed' }): Promise<LoadResult> {
  const caller = new Caller(order.target)
  const startedAt = now()
  const until = startedAt + (order.warmSeconds + order.seconds) * 1_000
  const perSecond: number[] = []
  let sent = 0
  let underWay = 0
  let markAt = startedAt + order.warmSeconds * 1_000
  let marked = -1
  while (now() < until) {
    const { distinct } = (await (await fetch(`${order.target.sink}/stats`)).json()) as { distinct: number }
    if (now() >= markAt) {
      if (marked >= 0) perSecond.push(distinct - marked)
      marked = distinct
      markAt += 1_000
    }
    // No more posts at once than in the burst: the rest waits its turn.
    while (sent - distinct < order.inFlight && underWay < 64) {
      underWay += 1
      void caller.post(order.from + sent++).finally(() => {
        underWay -= 1
      })
    }
    await Bun.sleep(5)
  }
  const acceptS = (now() - startedAt) / 1_000
  while (underWay > 0) await Bun.sleep(5)
  return { ...resultOf(caller, startedAt, acceptS), perSecond }
}

async function serial(order: LoadOrder & { type: 'serial' }): Promise<LoadResult> {
  const caller = new Caller(order.target)
  const startedAt = now()
  const endToEnd: number[] = []
  for (let n = order.from; n < order.from + order.n; n++) {
    const began = now()
    await caller.post(n)
    endToEnd.push(((await (await fetch(`${order.target.sink}/wait/${n}`)).json()) as number) - began)
  }
  return { ...resultOf(caller, startedAt, (now() - startedAt) / 1_000), endToEnd }
}

function resultOf(caller: Caller, startedAt: number, acceptS: number): LoadResult {
  const { accepted, refused } = caller
  return {
    sent: accepted.length,
    refused,
    startedAt,
    acceptS,
    acceptP50: quantile(accepted, 0.5),
    acceptP99: quantile(accepted, 0.99),
  }
}

if (import.meta.main) {
  console.log(JSON.stringify({ ready: true }))
  for await (const line of createInterface({ input: process.stdin })) {
    const order = JSON.parse(line) as LoadOrder
    const result =
      order.type === 'posts' ? await posts(order) : order.type === 'closed' ? await closed(order) : await serial(order)
    console.log(JSON.stringify(result))
  }
}
