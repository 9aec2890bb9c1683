/**
 * A provider that outlives our process: what it took, it keeps and counts, whatever becomes of the caller.
 * Jobs take a time on the virtual clock; a script per submit can make it misbehave.
 */
import { stepError } from '../../src/core/errors.ts'
import type { Json } from '../../src/core/json.ts'
import type { Checked, FindJob, Found, Opened, Provider, Started, StartJob } from '../../src/core/ports.ts'
import type { CancelOutcome, ProviderMedia } from '../../src/core/run.ts'

export type Behavior =
  | { type: 'work'; ms?: number }
  | { type: 'refuse'; error: ReturnType<typeof stepError> }
  /** Takes the job, but the answer is lost. */
  | { type: 'swallow' }
  /** Neither takes the job nor answers. */
  | { type: 'drop' }
  | { type: 'break'; error: ReturnType<typeof stepError> }
  /** The output's link is dead for the first `times` opens. */
  | { type: 'expire'; times: number }
  | { type: 'forever' }

interface RemoteJob {
  token: string
  stepId: string
  behavior: Behavior
  readyAt: number
  canceled: boolean
  opens: number
}

export class RemoteProvider implements Provider {
  readonly missing: string | null = null
  readonly takes = { url: true, dataUriBytes: 1 << 20 }
  concurrency = 1_000
  settleMs = 0
  /** Every job that was taken; a second one for the same token is a second bill. */
  readonly jobs: RemoteJob[] = []
  /** Submits that arrived, refused ones included. */
  arrived: StartJob[] = []
  canFind = true

  constructor(
    readonly id: string,
    readonly now: () => number,
    /** What happens to the n-th submit (from 0) that arrives here. */
    public script: (n: number, job: StartJob) => Behavior = () => ({ type: 'work' }),
  ) {}

  async start(job: StartJob): Promise<Started> {
    await job.sending()
    const behavior = this.script(this.arrived.length, job)
    this.arrived.push(job)
    if (behavior.type === 'refuse') return { type: 'refused', error: behavior.error }
    const lost: Started = { type: 'unknown', error: stepError('outcome_unknown', 'the answer was lost') }
    if (behavior.type === 'drop') return lost
    const ms =
      behavior.type === 'work' ? (behavior.ms ?? 1_000) : behavior.type === 'forever' ? Number.MAX_SAFE_INTEGER : 1_000
    this.jobs.push({
      token: job.token,
      stepId: job.stepId,
      behavior,
      readyAt: this.now() + ms,
      canceled: false,
      opens: 0,
    })
    if (behavior.type === 'swallow') return lost
    return { type: 'accepted', jobRef: { job: job.token }, pollAfterMs: 200 }
  }

  async check(ref: Json): Promise<Checked> {
    const job = this.#job(ref)
    if (!job || job.canceled) return { type: 'failed', error: stepError('provider_lost', 'no such job') }
    if (this.now() < job.readyAt) return { type: 'pending', progress: null, pollAfterMs: 200 }
    if (job.behavior.type === 'break') return { type: 'failed', error: job.behavior.error }
    return { type: 'succeeded', media: [{ url: `https://remote.example/${job.token}` }], costUsd: 0.05 }
  }

  async cancel(ref: Json): Promise<CancelOutcome> {
    const job = this.#job(ref)
    if (!job || this.now() >= job.readyAt) return 'failed'
    job.canceled = true
    return 'confirmed'
  }

  async find(attempt: FindJob): Promise<Found> {
    if (!this.canFind) return { type: 'unknown' }
    return this.#byToken(attempt.token)
      ? { type: 'found', jobRef: { job: attempt.token }, pollAfterMs: 0 }
      : { type: 'none' }
  }

  async open(media: ProviderMedia): Promise<Opened> {
    const job = this.#byToken(media.url.slice(media.url.lastIndexOf('/') + 1))
    if (!job) return { ok: false, error: stepError('output_fetch_failed', 'gone'), expired: true }
    job.opens += 1
    if (job.behavior.type === 'expire' && job.opens <= job.behavior.times)
      return { ok: false, error: stepError('output_fetch_failed', 'expired'), expired: true }
    const bytes = new TextEncoder().encode(`picture of ${job.token}`)
    return { ok: true, stream: new Blob([bytes]).stream(), mime: 'image/png', length: bytes.length }
  }

  /** Jobs taken per step: two for one step means that somebody pays twice. */
  jobsOf(stepId: string): number {
    return this.jobs.filter(job => job.stepId === stepId && job.behavior.type !== 'break' && !job.canceled).length
  }

  #job(ref: Json): RemoteJob | undefined {
    return this.#byToken((ref as { job: string }).job)
  }

  #byToken(token: string): RemoteJob | undefined {
    return this.jobs.find(job => job.token === token)
  }
}
