/**
 * The sandbox: an embedded provider that stands in for every model, without a key and without cost.
 *
 * It behaves as a remote provider does: a job is accepted, takes its time, and is asked for; it survives our death.
 *
 * 1. The record of a job is on disk before `start` answers; `check`, `find` and `cancel` know nothing else. So a new
 *    process goes on where a killed one stopped.
 * 2. Outputs are painted in the studio's worker as soon as the job is taken; they show when the job is due.
 * 3. A second submit with a token is counted and starts nothing.
 * 4. The same parameters, seed included, give the same bytes.
 * 5. It misbehaves when the prompt asks for it, and only then: the table is in misbehavior.ts.
 */
import { type ErrorCode, type StepError, stepError } from '../../core/errors.ts'
import type { Json } from '../../core/json.ts'
import type { Checked, FindJob, Found, Opened, Picture, Provider, Started, StartJob } from '../../core/ports.ts'
import type { CancelOutcome, ProviderMedia } from '../../core/run.ts'
import { measurePicture } from './canvas.ts'
import { type Job, Journal } from './journal.ts'
import { type Wishes, type Word, wishesIn } from './misbehavior.ts'
import { type Order, orderOf, type SandboxBody, type Size, sizeFor } from './orders.ts'
import { inputFault, type Painter, Paintings } from './painting.ts'

export interface SandboxOptions {
  /** Records and outputs lie in its folder `sandbox`. */
  dataDir: string
  studio: Painter
  /** How long a job takes (ms). */
  latency: { imageMs: number; videoMs: number }
  /** Time (ms since the epoch) that never goes back. */
  now: () => number
  /** Reads an input picture: a data URI, a link, or `media:{id}`. */
  readInput(ref: string, signal: AbortSignal): Promise<{ ok: true; picture: Picture } | { ok: false; error: StepError }>
  /** Jobs at once. */
  concurrency?: number
  /** How long a check waits for an output that is due and still being painted (ms). */
  patienceMs?: number
}

export function createSandbox(options: SandboxOptions): Provider {
  return new Sandbox(options)
}

class Sandbox implements Provider {
  readonly id = 'sandbox'
  readonly missing = null
  readonly concurrency: number
  /** Links are the engine's to read, through the guarded egress. */
  readonly takes = { url: false, dataUriBytes: 32 * 2 ** 20 }
  /** A submit that was given up writes no record later than this. */
  readonly settleMs = 250

  readonly #options: SandboxOptions
  readonly #journal: Journal
  readonly #paintings: Paintings

  constructor(options: SandboxOptions) {
    this.#options = options
    this.concurrency = options.concurrency ?? 32
    this.#journal = new Journal(options.dataDir, options.now)
    this.#paintings = new Paintings(this.#journal, options.studio)
  }

  async start(call: StartJob, signal: AbortSignal): Promise<Started> {
    await call.sending()
    try {
      await this.#journal.sweep()
      const known = await this.#journal.change(call.token, countAgain)
      if (known) return this.#accepted(known)
      return await this.#submit(call, signal)
    } catch (error) {
      return { type: 'unknown', error: failure('outcome_unknown', `the sandbox broke: ${wordsOf(error)}`) }
    }
  }

  async #submit(call: StartJob, signal: AbortSignal): Promise<Started> {
    const { params, pictures } = bodyOf(call)
    const read = orderOf({ role: call.role, params }, call.providerModel)
    const wishes = wishesIn(read.prompt)
    const refuse = async (error: StepError): Promise<Started> => {
      const record = { ...this.#draft(call, read, wishes, sizeFor(read, null)), refused: true }
      await this.#journal.change(call.token, before => countAgain(before) ?? record)
      return { type: 'refused', error }
    }
    const wished = await this.#refusal(call.stepId, wishes)
    if (wished) return refuse(wished)
    const input = pictures[0] === undefined ? null : await this.#input(pictures[0], signal)
    if (input && !input.ok) return refuse(input.error)
    if (input) await this.#journal.writeFile(call.token, 'in', input.bytes)

    const draft = this.#draft(call, read, wishes, sizeFor(read, input?.size ?? null))
    const fresh: Job = { ...draft, hasInput: input !== null, fate: await this.#fate(call.stepId, wishes) }
    if (signal.aborted) return { type: 'refused', error: failure('network_error', 'the submit was given up') }
    const job = await this.#journal.change(call.token, before => countAgain(before) ?? fresh)
    if (fresh.fate === 'done') void this.#paintings.paint(call.token)
    if (await this.#wants(call.stepId, wishes.times, '#unknown')) {
      return { type: 'unknown', error: failure('outcome_unknown', 'the answer was lost, as the prompt asked') }
    }
    return this.#accepted(job ?? fresh)
  }

  #accepted(job: Job): Started {
    if (job.refused) return { type: 'refused', error: failure('provider_error', 'this submit was refused before') }
    return { type: 'accepted', jobRef: { token: job.token }, pollAfterMs: this.#pollAfter(job), costUsd: 0 }
  }

  #draft({ token, runId, stepId }: StartJob, read: Order, wishes: Wishes, size: Size): Job {
    const startedAt = this.#options.now()
    const { imageMs, videoMs } = this.#options.latency
    const dueAt = startedAt + (wishes.slowMs ?? (read.kind === 'video' ? videoMs : imageMs))
    const order = { ...read, ...size, prompt: wishes.prompt, seed: read.seed ?? seedOf(token) }
    const job = {
      token,
      runId,
      stepId,
      submits: 1,
      startedAt,
      dueAt,
      order,
      times: wishes.times,
    }
    return { ...job, hasInput: false, refused: false, canceled: false, fate: 'done', outputs: null, link: 1 }
  }

  /** The error with which the prompt wants the submit refused. */
  async #refusal(stepId: string, { times }: Wishes): Promise<StepError | null> {
    if (await this.#wants(stepId, times, '#moderate')) {
      return failure('content_rejected', 'the sandbox refused the prompt, as it asked for')
    }
    if (await this.#wants(stepId, times, '#429')) {
      const more = { httpStatus: 429, retryAfterMs: 1_000 }
      return failure('provider_rate_limited', 'too many requests, as the prompt asked', more)
    }
    if (await this.#wants(stepId, times, '#503')) {
      return failure('provider_overloaded', 'overloaded, as the prompt asked', { httpStatus: 503 })
    }
    return null
  }

  /** How the prompt wants the job to end. */
  async #fate(stepId: string, { times }: Wishes): Promise<Job['fate']> {
    if (await this.#wants(stepId, times, '#lost')) return 'lost'
    if (await this.#wants(stepId, times, '#moderate-output')) {
      return failure('content_rejected', 'the sandbox refused the output, as the prompt asked')
    }
    if (await this.#wants(stepId, times, '#fail'))
      return failure('provider_error', 'the job failed, as the prompt asked')
    return 'done'
  }

  #wants(stepId: string, times: Wishes['times'], word: Word): Promise<boolean> {
    return this.#journal.take(stepId, word, times[word] ?? 0)
  }

  async #input(
    ref: string,
    signal: AbortSignal,
  ): Promise<{ ok: true; bytes: Uint8Array; size: Size } | { ok: false; error: StepError }> {
    const read = await this.#options.readInput(ref, signal)
    if (!read.ok) return read
    const { bytes } = read.picture
    try {
      return { ok: true, bytes, size: await measurePicture(bytes) }
    } catch (error) {
      const fault = inputFault(error)
      if (!fault) throw error
      return { ok: false, error: fault }
    }
  }

  async check(jobRef: Json, signal: AbortSignal): Promise<Checked> {
    try {
      const token = tokenIn(jobRef)
      const job = await this.#journal.job(token)
      if (!job || !this.#isToBePainted(job) || this.#phase(job) !== 'due') return this.#answer(job)
      await this.#waitForPainting(token, signal)
      return this.#answer(await this.#journal.job(token))
    } catch (error) {
      const why = failure('network_error', `the sandbox could not be asked: ${wordsOf(error)}`)
      return { type: 'unreachable', error: why, pollAfterMs: 1_000 }
    }
  }

  #answer(job: Job | null): Checked {
    if (!job) return { type: 'failed', error: failure('provider_lost', 'the sandbox does not know the job') }
    const phase = this.#phase(job)
    switch (phase) {
      case 'lost':
        return { type: 'failed', error: failure('provider_lost', 'the job vanished, as the prompt asked') }
      case 'canceled':
        return { type: 'failed', error: failure('canceled', 'the job was canceled'), costUsd: 0 }
      case 'waiting':
        return { type: 'pending', progress: this.#progress(job), pollAfterMs: this.#pollAfter(job) }
      case 'due': {
        const { fate, outputs, token, link } = job
        if (typeof fate === 'object') return { type: 'failed', error: fate, costUsd: 0 }
        if (!outputs) return { type: 'pending', progress: ALMOST, pollAfterMs: 250 }
        const url = (n: number): string => `sandbox:${token}/${n}${link === 1 ? '' : `/${link}`}`
        return { type: 'succeeded', media: outputs.map(({ mime }, n) => ({ url: url(n), mime })), costUsd: 0 }
      }
      default:
        return phase satisfies never
    }
  }

  async cancel(jobRef: Json): Promise<CancelOutcome> {
    try {
      const job = await this.#journal.change(tokenIn(jobRef), before => {
        if (!before) return null
        const phase = this.#phase(before)
        const stoppable = phase === 'waiting' || (phase === 'due' && this.#isToBePainted(before))
        return stoppable ? { ...before, canceled: true } : null
      })
      return job?.canceled ? 'confirmed' : 'failed'
    } catch {
      return 'failed'
    }
  }

  async find({ token }: FindJob): Promise<Found> {
    try {
      const job = await this.#journal.job(token)
      if (!job || this.#phase(job) === 'lost') return { type: 'none' }
      return { type: 'found', jobRef: { token }, pollAfterMs: this.#pollAfter(job) }
    } catch {
      return { type: 'unknown' }
    }
  }

  async open({ url }: ProviderMedia): Promise<Opened> {
    try {
      const [, token = '', n = '', link = '1'] = /^sandbox:([\w-]{1,128})\/(\d{1,2})(?:\/(\d{1,9}))?$/.exec(url) ?? []
      const job = await this.#journal.job(token)
      const output = job?.outputs?.[Number(n)]
      const file = output ? await this.#journal.file(token, n) : null
      if (!job || !output || !file || Number(link) !== job.link) return dead()
      const { stepId, times } = job
      if (await this.#wants(stepId, times, '#expire')) {
        await this.#journal.change(token, before => before && { ...before, link: before.link + 1 })
        return dead()
      }
      if (await this.#wants(stepId, times, '#garbage')) return garbage()
      const { size } = file
      if (await this.#wants(stepId, times, '#truncate'))
        return given(file.slice(0, Math.floor(size / 2)), output.mime, size)
      if (await this.#wants(stepId, times, '#empty')) return given(file.slice(0, 0), output.mime, 0)
      return given(file, output.mime, size)
    } catch (error) {
      const why = failure('output_fetch_failed', `the output could not be read: ${wordsOf(error)}`)
      return { ok: false, expired: false, error: why }
    }
  }

  #phase(job: Job): 'waiting' | 'due' | 'canceled' | 'lost' {
    const now = this.#options.now()
    if (job.refused) return 'lost'
    if (job.canceled) return 'canceled'
    if (job.fate === 'lost' && now >= (job.startedAt + job.dueAt) / 2) return 'lost'
    return now < job.dueAt ? 'waiting' : 'due'
  }

  #isToBePainted(job: Job): boolean {
    return job.fate === 'done' && !job.outputs
  }

  #progress({ startedAt, dueAt }: Job): number {
    const share = (this.#options.now() - startedAt) / (dueAt - startedAt)
    return Math.round(Math.min(ALMOST, Math.max(0, share)) * 100) / 100
  }

  /** Often enough that progress moves, and again when the job is due. */
  #pollAfter({ startedAt, dueAt }: Job): number {
    const left = dueAt - this.#options.now()
    return Math.max(MIN_POLL_MS, Math.min(left, Math.max(500, (dueAt - startedAt) / 8)))
  }

  async #waitForPainting(token: string, signal: AbortSignal): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>()
    const timer = setTimeout(resolve, this.#options.patienceMs ?? 500)
    signal.addEventListener('abort', () => resolve(), { once: true })
    await Promise.race([this.#paintings.paint(token), promise])
    clearTimeout(timer)
  }
}

/** A job is not done before it is. */
const ALMOST = 0.97
const MIN_POLL_MS = 25

function countAgain(job: Job | null): Job | null {
  return job && { ...job, submits: job.submits + 1 }
}

function bodyOf({ role, body: { params, pictures } }: StartJob): SandboxBody {
  return {
    role,
    params: typeof params === 'object' && params !== null && !Array.isArray(params) ? params : {},
    pictures: Array.isArray(pictures) ? pictures.filter(ref => typeof ref === 'string') : [],
  }
}

function tokenIn(jobRef: Json): string {
  const isObject = typeof jobRef === 'object' && jobRef !== null && !Array.isArray(jobRef)
  return isObject && typeof jobRef.token === 'string' ? jobRef.token : ''
}

/** `length` is what the sender announces. */
function given(bytes: Blob, mime: string, length: number): Opened {
  return { ok: true, stream: bytes.stream(), mime, length }
}

function garbage(): Opened {
  const page = new Blob(['<!doctype html><title>502 Bad Gateway</title><p>Nothing to see here.</p>\n'])
  return given(page, 'text/html', page.size)
}

function dead(): Opened {
  return { ok: false, expired: true, error: failure('output_fetch_failed', 'the link to the output is dead') }
}

function failure(code: ErrorCode, message: string, more: Partial<StepError> = {}): StepError {
  return stepError(code, message, { provider: 'sandbox', ...more })
}

function wordsOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error)
}

/** A seed for those who give none: different for every job, the same when a job is painted again. */
function seedOf(token: string): number {
  return new Bun.CryptoHasher('sha256').update(token).digest().readUInt32BE(0)
}
