/**
 * What every Provider must do, whatever its protocol.
 *
 * A rig runs the real adapter against something that behaves as the provider does, in its own time. It says which scenarios it
 * can play; a scenario that a provider does not know (a look-up, a cancel that stops) is not asked of it.
 */
import { afterEach, beforeEach, describe, expect, test } from 'bun:test'
import { ERRORS, type StepError } from '../../src/core/errors.ts'
import type { Json } from '../../src/core/json.ts'
import type { Checked, Opened, Provider, StartJob } from '../../src/core/ports.ts'
import type { CancelAnswer, CancelOutcome, ProviderMedia } from '../../src/core/run.ts'

export type Scenario =
  /** The job takes a while and gives its outputs. */
  | 'succeeds'
  /** The job runs and fails. */
  | 'fails'
  /** The submit is refused for its content. */
  | 'refuses_content'
  /** The job ends because of its output's content. */
  | 'rejects_output'
  /** The first submit of the step is refused, the second is taken. */
  | 'rate_limited'
  | 'overloaded'
  /** The job runs, but the answer to the submit never arrives. */
  | 'loses_answer'
  /** The job is taken, and then the provider knows nothing of it. */
  | 'vanishes'
  /** The first link to the output is dead. */
  | 'expires'

export interface ProviderRig {
  provider: Provider
  /** A new job, of a new step, that plays a scenario. */
  job(scenario: Scenario): Omit<StartJob, 'stash'>
  /** Moves the provider's time. */
  advance(ms: number): void | Promise<void>
  /** How many submits with this token reached the provider. */
  submits(token: string): Promise<number>
  /** The adapter of a new process; the provider knows nothing of our death. */
  restart(): Promise<Provider>
  close(): Promise<void>
}

export interface ProviderTraits {
  scenarios: readonly Scenario[]
  /** Tells numbers while a job runs. */
  progress: boolean
  /** Its look-up finds jobs. */
  find: boolean
  /** What cancel answers, right after the submit and at the end. */
  cancel: { running: CancelAnswer; ended: CancelOutcome }
}

export function providerContract(name: string, traits: ProviderTraits, open: () => Promise<ProviderRig>): void {
  describe(`provider ${name}`, () => {
    let stage: Stage
    beforeEach(async () => {
      stage = new Stage(await open())
    })
    afterEach(() => stage.rig.close())
    const plays = (scenario: Scenario, title: string, run: (job: StartJob) => Promise<void>): void => {
      if (traits.scenarios.includes(scenario)) test(title, () => run(stage.job(scenario)))
    }
    const on = (): Stage => stage

    itself(on)
    results(on, plays, traits)
    refusals(on, plays)
    unknowns(on, plays, traits)
    cancels(on, plays, traits)
  })
}

type Plays = (scenario: Scenario, title: string, run: (job: StartJob) => Promise<void>) => void

/** A rig, and the moves that the tests make on it. */
class Stage {
  readonly rig: ProviderRig
  readonly #stashed = new Map<string, Uint8Array>()
  constructor(rig: ProviderRig) {
    this.rig = rig
  }

  job(scenario: Scenario): StartJob {
    const job = this.rig.job(scenario)
    return {
      ...job,
      stash: async bytes => {
        const url = `stash:${job.token}/${this.#stashed.size}`
        this.#stashed.set(url, bytes)
        return url
      },
    }
  }

  /** The same step once more. */
  again(job: StartJob): StartJob {
    return { ...job, token: `${job.token}-2` }
  }

  /** Submits; gives what to ask for, as a database gives it back. A synchronous answer is a job that has ended. */
  async submit(job: StartJob, provider = this.rig.provider): Promise<Running> {
    const started = await provider.start(job, NEVER)
    if (started.type === 'accepted') {
      expect(started.pollAfterMs).toBeGreaterThanOrEqual(0)
      expect(Number.isFinite(started.pollAfterMs)).toBeTrue()
      return { ref: copy(started.jobRef), ended: null }
    }
    if (started.type === 'succeeded') return { ref: null, ended: { type: 'succeeded', media: started.media } }
    throw new Error(`not taken: ${started.type} ${started.error.message}`)
  }

  /** Asks until the job has ended. */
  async finish(
    running: Running,
    provider = this.rig.provider,
    onPending?: (progress: number | null) => void,
  ): Promise<Ended> {
    if (running.ended) return running.ended
    for (let i = 0; i < 500; i++) {
      const checked = await provider.check(running.ref, NEVER)
      if (checked.type === 'unreachable') throw new Error(`unreachable: ${checked.error.message}`)
      if (checked.type !== 'pending') return checked
      onPending?.(checked.progress)
      await this.rig.advance(Math.max(1, checked.pollAfterMs))
    }
    throw new Error('the job never ended')
  }

  async read(media: ProviderMedia, provider = this.rig.provider): Promise<Uint8Array> {
    const stashed = this.#stashed.get(media.url)
    if (stashed) return stashed
    const opened = await provider.open(media, NEVER)
    if (!opened.ok) throw new Error(`not opened: ${opened.error.message}`)
    const bytes = new Uint8Array(await new Response(opened.stream).arrayBuffer())
    if (opened.length !== null) expect(bytes).toHaveLength(opened.length)
    return bytes
  }
}

interface Running {
  ref: Json
  ended: Ended | null
}

type Ended = Extract<Checked, { type: 'succeeded' | 'failed' }>

function itself(on: () => Stage): void {
  test('it says what it is and what it needs', () => {
    const { id, missing, concurrency, settleMs, takes } = on().rig.provider
    expect(id).toMatch(/^[a-z][a-z0-9-]*$/)
    expect(missing).toBeNull()
    expect(concurrency).toBeGreaterThan(0)
    expect(settleMs).toBeGreaterThanOrEqual(0)
    expect(takes.url || takes.dataUriBytes > 0).toBeTrue()
  })

  test('it survives references that it never gave', async () => {
    const { provider } = on().rig
    const refs: Json[] = [null, 'x', 7, [], {}, { token: '../../etc/passwd' }, { id: 'nobody' }]
    for (const ref of refs) {
      expect(['failed', 'unreachable', 'pending']).toContain((await provider.check(ref, NEVER)).type)
      expect(['failed', 'unsupported']).toContain(await provider.cancel(ref, NEVER))
    }
    for (const url of ['', 'x', `${provider.id}:nobody/0`, 'file:///etc/passwd', 'javascript:1']) {
      const opened = await provider.open({ url }, NEVER)
      expect([url, opened.ok]).toEqual([url, false])
    }
  })
}

function results(on: () => Stage, plays: Plays, traits: ProviderTraits): void {
  plays('succeeds', 'a job is taken, runs, and gives outputs that open', async job => {
    const progress: (number | null)[] = []
    const ended = await on().finish(await on().submit(job), undefined, value => progress.push(value))
    const media = mediaOf(ended)
    for (const each of media) expect((await on().read(each)).length).toBeGreaterThan(0)
    for (const value of progress) expect(value === null || (value >= 0 && value <= 1)).toBeTrue()
    const numbers = progress.filter(value => value !== null)
    expect(numbers).toEqual(numbers.toSorted((a, b) => a - b))
    if (traits.progress) expect(new Set(numbers).size).toBeGreaterThan(1)
    expect(await on().rig.submits(job.token)).toBe(1)
  })

  plays('succeeds', 'a job that has ended stays ended', async job => {
    const running = await on().submit(job)
    const first = mediaOf(await on().finish(running))
    await on().rig.advance(1_000)
    expect(mediaOf(await on().finish(running))).toHaveLength(first.length)
  })

  plays('succeeds', 'a new process goes on with a running job', async job => {
    const running = await on().submit(job)
    const provider = await on().rig.restart()
    const [media] = mediaOf(await on().finish(running, provider))
    if (media) expect((await on().read(media, provider)).length).toBeGreaterThan(0)
    expect(await on().rig.submits(job.token)).toBe(1)
  })

  plays('fails', 'a job that fails says why, and that another may not', async job => {
    const error = errorIn(await on().finish(await on().submit(job)))
    expectError(error, on().rig.provider)
    expect(error).toMatchObject({ code: 'provider_error', retryable: true })
  })

  plays('rejects_output', 'an output that is refused is a refusal, not a failure', async job => {
    const error = errorIn(await on().finish(await on().submit(job)))
    expectError(error, on().rig.provider)
    expect(error).toMatchObject({ code: 'content_rejected', retryable: false })
  })

  plays('vanishes', 'a job that the provider no longer knows is lost, never done', async job => {
    const error = errorIn(await on().finish(await on().submit(job)))
    expectError(error, on().rig.provider)
    expect(error.code).toBe('provider_lost')
  })

  plays('expires', 'a dead link says so, and asking again gives a living one', async job => {
    const running = await on().submit(job)
    const [old] = mediaOf(await on().finish(running))
    if (!old) throw new Error('no output')
    const opened: Opened = await on().rig.provider.open(old, NEVER)
    expect(opened).toMatchObject({ ok: false, expired: true, error: { code: 'output_fetch_failed' } })
    const [fresh] = mediaOf(await on().finish(running))
    if (!fresh) throw new Error('no fresh link')
    expect((await on().read(fresh)).length).toBeGreaterThan(0)
    expect(await on().rig.provider.open(old, NEVER)).toMatchObject({ ok: false, expired: true })
  })
}

function refusals(on: () => Stage, plays: Plays): void {
  const refused = async (job: StartJob): Promise<StepError> => {
    const started = await on().rig.provider.start(job, NEVER)
    if (started.type !== 'refused') throw new Error(`not refused: ${started.type}`)
    expectError(started.error, on().rig.provider)
    return started.error
  }

  plays('refuses_content', 'a refused content is the caller’s, and nobody tries it again', async job => {
    expect(await refused(job)).toMatchObject({ code: 'content_rejected', blame: 'caller', retryable: false })
  })

  plays('rate_limited', 'a rate limit is told with its wait, and the next submit is taken', async job => {
    const error = await refused(job)
    expect(error).toMatchObject({ code: 'provider_rate_limited', retryable: true })
    if (error.retryAfterMs !== undefined) expect(error.retryAfterMs).toBeGreaterThan(0)
    await on().rig.advance(error.retryAfterMs ?? 60_000)
    mediaOf(await on().finish(await on().submit(on().again(job))))
  })

  plays('overloaded', 'an overloaded provider is told from a rate limit, and the next submit is taken', async job => {
    expect(await refused(job)).toMatchObject({ code: 'provider_overloaded', retryable: true })
    await on().rig.advance(60_000)
    mediaOf(await on().finish(await on().submit(on().again(job))))
  })

  plays('succeeds', 'a submit that was given up before it began is not taken for a success', async job => {
    const started = await on().rig.provider.start(job, AbortSignal.abort())
    expect(['refused', 'unknown']).toContain(started.type)
  })
}

function unknowns(on: () => Stage, plays: Plays, traits: ProviderTraits): void {
  const found = async (provider: Provider, job: StartJob): Promise<Running> => {
    await on().rig.advance(provider.settleMs)
    const answer = await provider.find?.({ ...job, startedAt: 0 }, NEVER)
    if (answer?.type !== 'found') throw new Error(`not found: ${answer?.type}`)
    return { ref: copy(answer.jobRef), ended: null }
  }

  plays('loses_answer', 'a lost answer is unknown, never a refusal', async job => {
    const started = await on().rig.provider.start(job, NEVER)
    if (started.type !== 'unknown') throw new Error(`not unknown: ${started.type}`)
    expectError(started.error, on().rig.provider)
    expect(await on().rig.submits(job.token)).toBe(1)
  })

  if (!traits.find) return

  plays('loses_answer', 'a look-up finds the job of a lost answer, and no second one is made', async job => {
    await on().rig.provider.start(job, NEVER)
    mediaOf(await on().finish(await found(on().rig.provider, job)))
    expect(await on().rig.submits(job.token)).toBe(1)
  })

  plays('succeeds', 'a new process finds the job whose answer died with the old one', async job => {
    await on().rig.provider.start(job, NEVER)
    const provider = await on().rig.restart()
    mediaOf(await on().finish(await found(provider, job), provider))
    expect(await on().rig.submits(job.token)).toBe(1)
  })

  plays('succeeds', 'a look-up does not find what was never sent', async job => {
    await on().rig.advance(on().rig.provider.settleMs)
    const answer = await on().rig.provider.find?.({ ...job, startedAt: 0 }, NEVER)
    expect(answer).toEqual({ type: 'none' })
  })

  plays('refuses_content', 'a look-up does not find what was refused', async job => {
    await on().rig.provider.start(job, NEVER)
    await on().rig.advance(on().rig.provider.settleMs)
    expect(await on().rig.provider.find?.({ ...job, startedAt: 0 }, NEVER)).toEqual({ type: 'none' })
  })
}

function cancels(on: () => Stage, plays: Plays, { cancel }: ProviderTraits): void {
  plays('succeeds', `cancel answers "${cancel.running}" while the job runs`, async job => {
    const running = await on().submit(job)
    if (running.ended) return
    const { provider } = on().rig
    expect(await provider.cancel(running.ref, NEVER)).toBe(cancel.running)
    if (cancel.running !== 'confirmed' && cancel.running !== 'unbegun') return
    expect(await provider.cancel(running.ref, NEVER)).toBe(cancel.running)
    await on().rig.advance(3_600_000)
    expect(errorIn(await on().finish(running)).code).toBe('canceled')
  })

  plays('succeeds', `cancel answers "${cancel.ended}" when the job has ended, and takes nothing away`, async job => {
    const running = await on().submit(job)
    const [media] = mediaOf(await on().finish(running))
    expect(await on().rig.provider.cancel(running.ref, NEVER)).toBe(cancel.ended)
    mediaOf(await on().finish(running))
    if (media) expect((await on().read(media)).length).toBeGreaterThan(0)
  })

  plays('fails', `cancel answers "${cancel.ended}" when the job has failed`, async job => {
    const running = await on().submit(job)
    const error = errorIn(await on().finish(running))
    expect(await on().rig.provider.cancel(running.ref, NEVER)).toBe(cancel.ended)
    expect(errorIn(await on().finish(running)).code).toBe(error.code)
  })
}

const NEVER = new AbortController().signal

/** As a database gives it back. */
const copy = (json: Json): Json => JSON.parse(JSON.stringify(json)) as Json

function mediaOf(ended: Ended): ProviderMedia[] {
  if (ended.type === 'failed') throw new Error(`failed: ${ended.error.code} ${ended.error.message}`)
  expect(ended.media.length).toBeGreaterThan(0)
  return ended.media
}

function errorIn(ended: Ended): StepError {
  if (ended.type !== 'failed') throw new Error('succeeded')
  return ended.error
}

/** Every error is complete: a known code, whose turn it is, and a sentence. */
function expectError(error: StepError, provider: Provider): void {
  expect(ERRORS[error.code]).toBeDefined()
  expect(error.provider).toBe(provider.id)
  expect(error.message.length).toBeGreaterThan(5)
  expect(error.hint.length).toBeGreaterThan(5)
  expect(['caller', 'provider', 'network', 'us']).toContain(error.blame)
}
