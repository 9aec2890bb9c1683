/**
 * The parties around the engine: providers, a receiver, storage for outputs. They outlive every process, keep books,
 * and misbehave by chance.
 *
 * 1. What a party took it keeps, whatever becomes of the caller. A request on its way may arrive after its sender's death.
 * 2. The books are what the invariants are checked against: jobs and what they are billed, messages received, files kept.
 * 3. A provider keeps its own contract: `none` from a look-up is true once `settleMs` has passed.
 */
import type { ClaimedDelivery, SendOutcome } from '../../src/core/delivery.ts'
import { type ErrorCode, stepError } from '../../src/core/errors.ts'
import type { Json } from '../../src/core/json.ts'
import {
  type Checked,
  type FindJob,
  type Found,
  type KeepOrder,
  type Kept,
  type Opened,
  type Provider,
  type Started,
  type StartJob,
  StorageUnavailable,
} from '../../src/core/ports.ts'
import type { CancelOutcome, Output, ProviderMedia } from '../../src/core/run.ts'
import type { Timeline } from './timeline.ts'

export const PRICE = 0.05

/** A job as the provider knows it. */
export interface Job {
  provider: string
  token: string
  runId: string
  stepId: string
  /** When look-ups show it. */
  listedAt: number
  takenAt: number
  readyAt: number
  /** What becomes of it; `forever` never ends. */
  fate: 'done' | 'failed' | 'lost' | 'forever'
  canceled: boolean
  /** Opens that still fail because the link has expired. */
  stale: number
  /** A link to its output was said to have expired. */
  isDead: boolean
}

export interface Abilities {
  find: boolean
  webhooks: boolean
  /** Answers a submit with the result. */
  synchronous: boolean
  /** Takes links to pictures; else it wants the bytes. */
  links: boolean
  settleMs: number
  /** Share of calls that go wrong, 0 to 1. */
  trouble: number
}

export interface ProviderEvents {
  /** A submit is about to leave: what must hold now is checked. */
  submitting(provider: string, job: StartJob): Promise<void>
  /** A webhook for a token, when it arrives. */
  hint(token: string, ref: Json | null): void
  note(text: string): void
}

const LINKS = new WeakMap<ReadableStream<Uint8Array>, string>()

export class SimProvider implements Provider {
  readonly missing: string | null = null
  readonly takes: Provider['takes']
  readonly concurrency: number
  readonly settleMs: number
  readonly jobs: Job[] = []
  /** Submits that arrived, by token. */
  readonly arrivals = new Map<string, number>()
  find?: Provider['find']
  webhook?: Provider['webhook']

  constructor(
    readonly id: string,
    readonly abilities: Abilities,
    concurrency: number,
    readonly time: Timeline,
    readonly events: ProviderEvents,
  ) {
    this.concurrency = concurrency
    this.takes = { url: abilities.links, dataUriBytes: 1 << 20 }
    this.settleMs = abilities.settleMs
    if (abilities.find) this.find = (attempt, signal) => this.#find(attempt, signal)
    if (abilities.webhooks) this.webhook = async () => ({ type: 'refused', reason: 'simulated elsewhere' })
  }

  get #trouble(): boolean {
    return this.time.chance(this.abilities.trouble)
  }

  async start(order: StartJob, signal: AbortSignal): Promise<Started> {
    const { time } = this
    await order.sending()
    await this.events.submitting(this.id, order)
    const bad = this.#trouble ? time.pick(SUBMIT_FAULTS) : 'none'
    const unknown: Started = { type: 'unknown', error: stepError('outcome_unknown', 'the answer was lost') }
    if (bad === 'dropped' || bad === 'broken') {
      this.events.note(`${this.id} never gets ${order.token}`)
      await time.wait(time.span(1_000, 200_000), signal)
      if (bad === 'broken') throw new Error('the adapter broke')
      return unknown
    }
    await time.wait(time.span(1, 2_000))
    this.arrivals.set(order.token, (this.arrivals.get(order.token) ?? 0) + 1)
    const code = REFUSALS.get(bad)
    if (code !== undefined) {
      this.events.note(`${this.id} refuses ${order.token}: ${code}`)
      const retryAfterMs = code === 'provider_rate_limited' && time.chance(0.5) ? time.span(1_000, 120_000) : undefined
      await time.wait(time.span(1, 2_000))
      return { type: 'refused', error: stepError(code, 'refused', { provider: this.id, retryAfterMs }) }
    }
    const job = this.#take(order)
    if (bad === 'swallowed' || bad === 'torn') {
      await time.wait(time.chance(0.5) ? time.span(1, 2_000) : time.span(1_000, 400_000), signal)
      if (bad === 'torn') throw new Error('the adapter broke')
      return unknown
    }
    if (this.abilities.synchronous && job.fate === 'done') {
      await time.wait(Math.min(job.readyAt - time.elapsed, 290_000), signal)
      if (signal.aborted || time.elapsed < job.readyAt) return unknown
      return { type: 'succeeded', media: mediaOf(job), costUsd: PRICE }
    }
    await time.wait(time.span(1, 5_000), signal)
    return { type: 'accepted', jobRef: { job: job.token }, pollAfterMs: time.span(100, 20_000) }
  }

  #take(order: StartJob): Job {
    const { time } = this
    const troubled = this.#trouble
    const job: Job = {
      provider: this.id,
      token: order.token,
      runId: order.runId,
      stepId: order.stepId,
      takenAt: time.elapsed,
      listedAt: time.elapsed + time.span(1, Math.max(1, this.settleMs - 10_000)),
      readyAt: time.elapsed + time.span(100, 200_000),
      fate: troubled ? time.pick(['failed', 'failed', 'lost', 'forever'] as const) : 'done',
      canceled: false,
      stale: this.#trouble ? time.int(1, 3) : 0,
      isDead: false,
    }
    this.jobs.push(job)
    this.events.note(`${this.id} takes ${job.token} of ${job.stepId} (${job.fate})`)
    if (this.abilities.webhooks) this.#announce(job)
    return job
  }

  /** Webhooks: early, late, twice, or never. */
  #announce(job: Job): void {
    const { time, events } = this
    const ref = (): Json | null => (time.chance(0.8) ? { job: job.token } : null)
    if (time.chance(0.2)) time.after(time.span(1, 3_000), () => events.hint(job.token, ref()))
    if (time.chance(0.2)) return
    const times = time.chance(0.2) ? 2 : 1
    for (let n = 0; n < times; n += 1)
      time.after(job.readyAt - time.elapsed + time.span(1, 60_000), () => events.hint(job.token, ref()))
  }

  async check(ref: Json, signal: AbortSignal): Promise<Checked> {
    const { time } = this
    const pollAfterMs = time.span(500, 60_000)
    if (this.#trouble) return this.#failedCheck(signal, pollAfterMs)
    await time.wait(time.span(1, 1_000))
    const job = this.#byRef(ref)
    if (!job || job.canceled || job.fate === 'lost')
      return { type: 'failed', error: stepError('provider_lost', 'no such job', { provider: this.id }) }
    if (job.fate === 'forever' || time.elapsed < job.readyAt)
      return { type: 'pending', progress: time.chance(0.2) ? time.int(0, 99) / 100 : null, pollAfterMs }
    if (job.fate === 'failed') {
      const error = stepError('provider_error', 'the job failed', { provider: this.id })
      return time.chance(0.5) ? { type: 'failed', error, costUsd: 0 } : { type: 'failed', error }
    }
    return { type: 'succeeded', media: mediaOf(job), costUsd: PRICE }
  }

  async #failedCheck(signal: AbortSignal, pollAfterMs: number): Promise<Checked> {
    const { time } = this
    const way = time.int(0, 2)
    await time.wait(way === 0 ? 3_600_000 : time.span(10, 20_000), signal)
    if (way === 1) throw new Error('the poll broke')
    return { type: 'unreachable', error: stepError('network_error', 'no answer', { provider: this.id }), pollAfterMs }
  }

  async cancel(ref: Json, signal: AbortSignal): Promise<CancelOutcome> {
    const { time } = this
    if (this.#trouble) {
      await time.wait(time.span(10, 60_000), signal)
      if (time.chance(0.3)) throw new Error('the cancel broke')
      return time.pick(['unsupported', 'failed'] as const)
    }
    await time.wait(time.span(1, 1_000))
    const job = this.#byRef(ref)
    if (!job || (time.elapsed >= job.readyAt && job.fate !== 'forever')) return 'failed'
    job.canceled = true
    return 'confirmed'
  }

  async #find(attempt: FindJob, signal: AbortSignal): Promise<Found> {
    const { time } = this
    if (this.#trouble) {
      await time.wait(time.span(10, 90_000), signal)
      if (time.chance(0.3)) throw new Error('the look-up broke')
      return { type: 'unknown' }
    }
    await time.wait(time.span(1, 1_000))
    const job = this.jobs.find(each => each.token === attempt.token && each.listedAt <= time.elapsed)
    return job ? { type: 'found', jobRef: { job: job.token }, pollAfterMs: time.span(1, 5_000) } : { type: 'none' }
  }

  async open(media: ProviderMedia, signal: AbortSignal): Promise<Opened> {
    const { time } = this
    if (this.#trouble) {
      await time.wait(time.chance(0.1) ? 7_200_000 : time.span(10, 30_000), signal)
      if (time.chance(0.3)) throw new Error('the download broke')
      return { ok: false, error: stepError('output_fetch_failed', 'reset', { provider: this.id }), expired: false }
    }
    await time.wait(time.span(1, 3_000))
    const job = this.jobs.find(each => media.url.endsWith(`/${each.token}`))
    if (!job || job.stale > 0) {
      if (job) {
        job.stale -= 1
        job.isDead = true
      }
      return { ok: false, error: stepError('output_fetch_failed', 'expired', { provider: this.id }), expired: true }
    }
    const stream = new ReadableStream<Uint8Array>()
    LINKS.set(stream, job.token)
    return { ok: true, stream, mime: 'image/png', length: 1 }
  }

  #byRef(ref: Json): Job | undefined {
    const { job } = ref as { job: string }
    return this.jobs.find(each => each.token === job)
  }
}

const SUBMIT_FAULTS = [
  ...['rate', 'rate', 'busy', 'down', 'swallowed', 'swallowed', 'torn', 'dropped', 'broken'],
  ...['content', 'credit', 'parameters'],
] as const
const REFUSALS: ReadonlyMap<string, ErrorCode> = new Map([
  ['rate', 'provider_rate_limited'],
  ['busy', 'provider_overloaded'],
  ['down', 'network_error'],
  ['content', 'content_rejected'],
  ['credit', 'insufficient_credit'],
  ['parameters', 'invalid_input'],
])

function mediaOf(job: Job): ProviderMedia[] {
  return [{ url: `https://${job.provider}.example/${job.token}` }]
}

class Ear {
  /** Since when (on the process's clock) storage has answered with nothing but refusals; null: it has not. */
  refusesSince: number | null = null
}

/** Storage of outputs: it may take nothing for a while, and may hold here what came meanwhile. */
export class SimMedia {
  readonly kept = new Map<string, { output: Output; token: string }>()
  readonly #held = new Map<string, string>()
  /** What this process has heard; a dead one hears nothing, and the next begins anew. */
  ear = new Ear()

  constructor(
    readonly time: Timeline,
    readonly isFull: () => boolean,
    readonly now: () => number,
  ) {}

  begin(): void {
    this.ear = new Ear()
  }

  async keep(order: KeepOrder): Promise<Kept> {
    const token = LINKS.get(order.stream)
    if (token === undefined) throw new Error('not a stream of a provider')
    const { ear } = this
    await this.time.wait(this.time.span(1, 5_000))
    const kept = this.#store(order.id, token, ear)
    if (!kept.ok && this.time.chance(0.5)) this.#held.set(order.id, token)
    return kept
  }

  async keepAgain(id: string): Promise<Kept | null> {
    const token = this.#held.get(id)
    if (token === undefined) return null
    const { ear } = this
    await this.time.wait(this.time.span(1, 5_000))
    const kept = this.#store(id, token, ear)
    if (kept.ok) this.#held.delete(id)
    return kept
  }

  /** Synchronous providers give links here. */
  async stashOf(): Promise<string[]> {
    return []
  }

  async tryWrite(): Promise<void> {
    const { ear } = this
    await this.time.wait(this.time.span(1, 3_000))
    if (!this.#takes(ear)) throw new StorageUnavailable('the disk is full')
  }

  #store(id: string, token: string, ear: Ear): Kept {
    if (!this.#takes(ear)) return { ok: false, error: stepError('storage_unavailable', 'the disk is full') }
    const output: Output = { mediaId: id, mime: 'image/png', bytes: 1, sha256: token, location: id }
    this.kept.set(id, { output, token })
    return { ok: true, output }
  }

  #takes(ear: Ear): boolean {
    const takes = !this.isFull()
    ear.refusesSince = takes ? null : (ear.refusesSince ?? this.now())
    return takes
  }
}

/** Whoever gets the callbacks. */
export class SimReceiver {
  /** Sends that were begun by a process. */
  begun = 0
  readonly got: { id: string; runId: string; type: string; body: string; ok: boolean }[] = []
  #down: number

  constructor(
    readonly time: Timeline,
    /** Share of callbacks that go wrong; 1 is a receiver that never works. */
    readonly trouble: number,
    readonly gone: boolean,
  ) {
    this.#down = 0
  }

  async send(delivery: ClaimedDelivery): Promise<SendOutcome> {
    const { time } = this
    this.begun += 1
    const ms = time.span(1, 14_000)
    const fails = time.chance(this.trouble)
    const way = fails ? time.int(0, 6) : -1
    if (way === 0 && this.#down < 3) {
      this.#down += 1
      return { type: 'failed', errorClass: 'egress_down', ip: null, durationMs: 0 }
    }
    await time.wait(ms)
    const status = fails ? (this.gone ? 410 : ([500, 500, 429, 301, 503, 404, 502][way] ?? 500)) : 200
    const arrives = way !== 1
    const body = new TextDecoder().decode(delivery.body)
    if (arrives)
      this.got.push({ id: delivery.id, runId: delivery.runId, type: delivery.type, body, ok: status === 200 })
    await time.wait(time.span(1, 900))
    if (way === 1 || way === 2)
      return { type: 'failed', errorClass: way === 1 ? 'connect_refused' : 'timeout', ip: null, durationMs: 15_000 }
    const retryAfterMs = (status === 429 || status === 503) && time.chance(0.5) ? time.span(1_000, 7_200_000) : null
    return { type: 'answered', status, reply: '', retryAfterMs, ip: '203.0.113.1', durationMs: ms, location: null }
  }
}
