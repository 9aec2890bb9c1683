/**
 * Carries out what the core orders, and says what came of it.
 *
 * 1. Every order ends in exactly one event, whatever happens: a thrown error of an adapter is an answer too.
 * 2. A submit is noted before its first byte is sent. One that broke after the call began has an unknown outcome; before it, and
 *    when it was held back, nothing was sent.
 * 3. Every order has a time limit of its own, above the adapter's.
 */
import { type StepError, stepError } from '../core/errors.ts'
import type { AttemptSignal, Effect, Event } from '../core/events.ts'
import {
  type Catalog,
  type Clock,
  type Found,
  type Media,
  type Model,
  type Observer,
  type Provider,
  type Route,
  type Started,
  StorageUnavailable,
  type Store,
} from '../core/ports.ts'
import type { Attempt, Mode, Run, Step } from '../core/run.ts'
import type { Capacity } from './capacity.ts'
import { keepOutputs } from './keep.ts'
import { leftBehind, strandedBy } from './modes.ts'
import type { OutputGate } from './output-gate.ts'
import { gather, type PictureDeps } from './pictures.ts'

export interface EffectDeps extends PictureDeps {
  mode: Mode
  store: Pick<Store, 'noteSubmit' | 'isUnsent'>
  catalog: Catalog
  providers: ReadonlyMap<string, Provider>
  routesOf(model: Model): readonly Route[]
  media: Media
  clock: Clock
  /** Since when (on the clock) time has gone on without a leap: a provider's `none` is held against no earlier time. */
  soundSince(): number
  observer: Observer
  capacity: Pick<Capacity, 'taken'>
  gate: Pick<OutputGate, 'stored' | 'refused' | 'refusedSince' | 'lookIfSlow'>
  /** Where a provider may call us about an attempt, or null without a public address. */
  callbackUrl(provider: string, token: string): string | null
  /** Send again after a submit whose outcome nobody can tell: may pay twice, so off unless the operator wants it. */
  resubmitUnknown: boolean
}

export type Reaching = Exclude<Effect, { type: 'route' }>

/** The run as it is at each look: a cancel may come while an effect is on its way. */
export interface LiveRun {
  readonly run: Run
}

/** Limits in milliseconds. A synchronous image API may take two minutes to answer a submit. */
const LIMIT_MS: Record<Reaching['type'], number> = {
  /** From the moment its pictures are read. */
  submit: 300_000,
  find: 60_000,
  poll: 60_000,
  cancelJob: 30_000,
  keep: 20 * 60_000,
}
/**
 * Polls a second of one provider in all, above which each job is asked for more rarely: a hundred thousand jobs would
 * otherwise take a core, and more than any provider allows (Replicate: 50 a second). Where webhooks come, a poll is only
 * the net below them. Below some hundred jobs the adapters' own pauses are longer.
 */
const POLLS_PER_S = { hooked: 20, alone: 200 } as const
/** Between two tries to write down the bytes of an answer. */
const STASH_PAUSE_MS = { first: 500, last: 15_000 }
/** A look-up that cannot tell is repeated, ever more rarely; a webhook may come in between. */
const LOOKUP_PAUSE_MS = { first: 2_000, last: 300_000 }
/** After a crash a submit may still be on its way to the provider's list. */
const UNREACHABLE_PAUSE_MS = 10_000

/** Carries out one effect of a run; null when the step has moved on. */
export async function perform(
  deps: EffectDeps,
  live: LiveRun,
  effect: Reaching,
  stop: AbortSignal,
): Promise<Event | null> {
  const { run } = live
  const step = run.steps.find(each => each.id === effect.stepId)
  if (!step) return null
  const { clock } = deps
  const work = (signal: AbortSignal) => carryOut(deps, live, step, effect, signal)
  const said = await (effect.type === 'submit' ? work(stop) : within(clock, LIMIT_MS[effect.type], stop, work))
  return said && { ...said, stepId: effect.stepId, attempt: effect.attempt, at: clock.now(), jitter: clock.random() }
}

/** Runs `work` with a signal that ends it after so many milliseconds, or with `stop`. */
async function within<T>(
  clock: Clock,
  ms: number,
  stop: AbortSignal,
  work: (signal: AbortSignal) => Promise<T>,
): Promise<T> {
  const limit = new AbortController()
  const disarm = clock.at(clock.now() + ms, () => limit.abort(new Error('time limit')))
  const onStop = (): void => limit.abort(stop.reason)
  if (stop.aborted) onStop()
  stop.addEventListener('abort', onStop, { once: true })
  try {
    return await work(limit.signal)
  } finally {
    disarm()
    stop.removeEventListener('abort', onStop)
  }
}

/** Asks once for the job of an attempt that is over for us, and keeps what it gave; null when there is nothing to tell. */
export async function lookLate(
  deps: EffectDeps,
  run: Run,
  step: Step,
  attempt: Attempt,
  stop: AbortSignal,
): Promise<(AttemptSignal & { type: 'attempt.came_late' }) | null> {
  const checked = await within(deps.clock, LIMIT_MS.poll, stop, signal => poll(deps, step, attempt, signal))
  const of = { type: 'attempt.came_late', stepId: step.id, attempt: attempt.no } as const
  if (checked.type === 'job.failed') return { ...of, outputs: [], error: checked.error, ...costOf(checked) }
  if (checked.type !== 'job.succeeded') return null
  const keeping = (signal: AbortSignal) => keepOutputs(deps, run, step, attempt, checked.media, signal)
  const kept = await within(deps.clock, LIMIT_MS.keep, stop, keeping)
  const outputs = kept.type === 'media.kept' ? kept.outputs : []
  const error = kept.type === 'media.keep_failed' ? kept.error : null
  return { ...of, outputs, error, ...costOf(checked) }
}

type Said = AttemptSignal extends infer S ? (S extends unknown ? Omit<S, 'stepId' | 'attempt'> : never) : never

function carryOut(
  deps: EffectDeps,
  live: LiveRun,
  step: Step,
  effect: Reaching,
  signal: AbortSignal,
): Promise<Said | null> {
  const { run } = live
  if (effect.type === 'cancelJob') return cancelJob(deps, effect, signal)
  if (!('attempt' in step) || step.attempt.no !== effect.attempt) return Promise.resolve(null)
  const stranded = strandedBy(deps, run, step)
  if (stranded) return leftBehind(deps, run, step, effect, stranded)
  switch (effect.type) {
    case 'submit':
      return submit(deps, live, step, step.attempt, signal)
    case 'find':
      return find(deps, step, step.attempt, signal)
    case 'poll':
      return poll(deps, step, step.attempt, signal)
    case 'keep':
      return step.status === 'keeping'
        ? keepOutputs(deps, run, step, step.attempt, step.media, signal)
        : Promise.resolve(null)
  }
}

/** Null when the submit was left before it began: it counts as never sent. */
async function submit(
  deps: EffectDeps,
  live: LiveRun,
  step: Step,
  attempt: Attempt,
  stop: AbortSignal,
): Promise<Said | null> {
  const provider = deps.providers.get(attempt.provider)
  const route = routeOf(deps, step, attempt)
  if (!provider || !route)
    return refused(stepError('no_route', `${attempt.provider} no longer serves ${step.model} here`))
  const pictures = await gather(deps, live, step, { provider, inline: route.inline ?? false }, stop)
  if (!pictures.ok) return pictures.error && refused(pictures.error)
  const { refs, place } = pictures
  try {
    const send = (signal: AbortSignal) => sendOff(deps, live, step, attempt, { route, provider, refs }, signal)
    return await within(deps.clock, LIMIT_MS.submit, stop, send)
  } finally {
    place.leave()
  }
}

/** A model has one route at a provider, whatever name a translation chooses there. */
function routeOf(deps: EffectDeps, step: Step, { provider }: Attempt): Route | undefined {
  const model = deps.catalog.find(step.model)
  return model && deps.routesOf(model).find(each => each.provider === provider)
}

/** What a submit goes with. */
interface Baggage {
  route: Route
  provider: Provider
  /** Its pictures, in the form that the provider takes. */
  refs: readonly string[]
}

async function sendOff(
  deps: EffectDeps,
  live: LiveRun,
  step: Step,
  attempt: Attempt,
  { route, provider, refs }: Baggage,
  signal: AbortSignal,
): Promise<Said> {
  const { run } = live
  let began = false
  let held: StepError | null = null
  /** The last moment before the first byte: the submit is noted, or held back. */
  const sending = async (): Promise<void> => {
    await deps.store.noteSubmit(attempt.token).catch(error => {
      if (!(error instanceof StorageUnavailable)) throw error
      held = stepError('storage_unavailable', error.message)
    })
    if (live.run.cancelRequestedAt !== null) held = stepError('canceled', 'canceled before it was submitted')
    else if (signal.aborted) held = stepError('network_error', 'the submit was given up before it was sent')
    if (held) throw new Error(held.message)
  }
  try {
    const translation = route.translate(step.params, { role: step.role, pictures: refs })
    if (!translation.ok) return refused(stepError('invalid_input', translation.reason))
    const { token, no: attemptNo } = attempt
    const { body, providerModel } = translation
    // A look-up goes by the name that is stored.
    if (providerModel !== attempt.providerModel)
      return refused(stepError('model_not_enabled', `here ${attempt.providerModel} is now called ${providerModel}`))
    const callbackUrl = deps.callbackUrl(provider.id, token)
    const stash = (bytes: Uint8Array, mime: string) => stashed(deps, token, bytes, mime, signal)
    const order = {
      runId: run.id,
      stepId: step.id,
      token,
      attemptNo,
      role: step.role,
      body,
      providerModel,
      callbackUrl,
    }
    began = true
    return answerOf(deps, provider, step, route, await provider.start({ ...order, stash, sending }, signal))
  } catch (error) {
    if (held) return refused(held)
    deps.observer.fault('submit', error, { runId: run.id, provider: attempt.provider })
    if (!began) return refused(stepError('internal', 'the request could not be made'))
    const lost = stepError('outcome_unknown', 'the submit broke on our side', { provider: attempt.provider })
    return { type: 'step.submit_unknown', error: lost, askAt: firstLookAt(deps, provider) }
  }
}

/** The bytes of a paid answer come once: while our storage takes nothing they are held, for as long as the submit may take. */
async function stashed(deps: EffectDeps, token: string, bytes: Uint8Array, mime: string, signal: AbortSignal) {
  const { clock, media } = deps
  for (let tries = 0; ; tries += 1) {
    try {
      return await media.stash(token, bytes, mime)
    } catch (error) {
      if (!(error instanceof StorageUnavailable) || signal.aborted) throw error
      deps.gate.refused('stash', error)
      const pauseMs = Math.min(STASH_PAUSE_MS.last, STASH_PAUSE_MS.first * 2 ** Math.min(tries, 10))
      await within(clock, pauseMs, signal, ended)
    }
  }
}

const ended = (signal: AbortSignal): Promise<void> =>
  new Promise(resolve => {
    if (signal.aborted) resolve()
    signal.addEventListener('abort', () => resolve(), { once: true })
  })

function answerOf(deps: EffectDeps, provider: Provider, step: Step, route: Route, started: Started): Said {
  switch (started.type) {
    case 'accepted': {
      const pollAt = deps.clock.now() + started.pollAfterMs
      return { type: 'step.submitted', jobRef: started.jobRef, pollAt, ...costOf(started) }
    }
    case 'succeeded':
      return { type: 'job.succeeded', media: started.media, ...costOf(started, step, route) }
    case 'refused':
      return refused(started.error)
    case 'unknown':
      return { type: 'step.submit_unknown', error: started.error, askAt: firstLookAt(deps, provider) }
  }
}

/** A job that was taken shows within moments; a provider that cannot be asked has nothing to wait for. */
function firstLookAt(deps: EffectDeps, provider: Provider): number {
  return deps.clock.now() + (provider.find ? Math.min(LOOKUP_PAUSE_MS.first, provider.settleMs) : 0)
}

async function find(deps: EffectDeps, step: Step, attempt: Attempt, signal: AbortSignal): Promise<Said> {
  const provider = deps.providers.get(attempt.provider)
  const now = deps.clock.now()
  const lookup = step.status === 'submitting' ? step.lookup : null
  if (lookup === null && (await deps.store.isUnsent(attempt.token))) return { type: 'step.unsent' }
  if (!provider) return { type: 'step.still_unknown', askAt: null }
  const { token, providerModel, startedAt } = attempt
  const found = await lookUp(deps, provider, { token, providerModel, startedAt, stepId: step.id }, signal)
  if (found.type === 'found')
    return { type: 'step.submitted', jobRef: found.jobRef, pollAt: deps.clock.now() + found.pollAfterMs }
  const mayHear = provider.webhook !== undefined && deps.callbackUrl(provider.id, token) !== null
  // Nobody will ever say: nothing to wait for.
  if (found.type === 'untraceable' || (!provider.find && !mayHear))
    return deps.resubmitUnknown
      ? { type: 'step.not_found', isCertain: false }
      : { type: 'step.still_unknown', askAt: null }
  // That the job is there is true at once; that it is not, only when the provider has had its time.
  const trusted = (lookup?.since ?? startedAt) + provider.settleMs
  if (provider.find && now < trusted) return { type: 'step.still_unknown', askAt: trusted }
  // After a crash, and after the clock leapt ahead, stored times do not tell how long ago that was.
  const measured = deps.soundSince() + provider.settleMs
  if (found.type === 'none' && deps.clock.now() < measured) return { type: 'step.still_unknown', askAt: measured }
  if (found.type === 'none' || deps.resubmitUnknown) return { type: 'step.not_found', isCertain: found.type === 'none' }
  const pause = Math.min(LOOKUP_PAUSE_MS.last, LOOKUP_PAUSE_MS.first * 2 ** Math.min(lookup?.tries ?? 0, 10))
  return { type: 'step.still_unknown', askAt: deps.clock.now() + pause }
}

async function lookUp(
  deps: EffectDeps,
  provider: Provider,
  attempt: Parameters<NonNullable<Provider['find']>>[0],
  signal: AbortSignal,
): Promise<Found> {
  try {
    return (await provider.find?.(attempt, signal)) ?? { type: 'unknown' }
  } catch (error) {
    deps.observer.fault('find', error, { provider: provider.id })
    return { type: 'unknown' }
  }
}

async function poll(deps: EffectDeps, step: Step, attempt: Attempt, signal: AbortSignal): Promise<Said> {
  const provider = deps.providers.get(attempt.provider)
  const again = (error: StepError, afterMs: number): Said => ({
    type: 'job.unreachable',
    error,
    pollAt: deps.clock.now() + afterMs,
  })
  if (!provider) return again(stepError('no_route', `${attempt.provider} is not configured any more`), 60_000)
  try {
    const checked = await provider.check(attempt.jobRef, signal)
    switch (checked.type) {
      case 'pending':
        return {
          type: 'job.progressed',
          progress: checked.progress,
          pollAt: deps.clock.now() + Math.max(checked.pollAfterMs, spacingMs(deps, provider, attempt)),
        }
      case 'succeeded':
        return { type: 'job.succeeded', media: checked.media, ...costOf(checked, step, routeOf(deps, step, attempt)) }
      case 'failed':
        return { type: 'job.failed', error: checked.error, ...costOf(checked) }
      case 'unreachable':
        return again(checked.error, checked.pollAfterMs)
    }
  } catch (error) {
    deps.observer.fault('poll', error, { provider: attempt.provider })
    return again(stepError('network_error', 'the poll broke'), UNREACHABLE_PAUSE_MS)
  }
}

/** The least pause between two polls of a job, so that all jobs there together keep the rate. */
function spacingMs({ capacity, callbackUrl }: EffectDeps, provider: Provider, { token }: Attempt): number {
  const isHooked = provider.webhook !== undefined && callbackUrl(provider.id, token) !== null
  return Math.ceil((capacity.taken(provider.id) * 1_000) / POLLS_PER_S[isHooked ? 'hooked' : 'alone'])
}

async function cancelJob(
  deps: EffectDeps,
  effect: Reaching & { type: 'cancelJob' },
  signal: AbortSignal,
): Promise<Said> {
  try {
    const provider = deps.providers.get(effect.provider)
    return { type: 'job.cancel_settled', outcome: provider ? await provider.cancel(effect.jobRef, signal) : 'failed' }
  } catch (error) {
    deps.observer.fault('cancel', error, { provider: effect.provider })
    return { type: 'job.cancel_settled', outcome: 'failed' }
  }
}

function refused(error: StepError): Said {
  return { type: 'step.submit_refused', error }
}

/** What the provider says that it costs, or what it says that it made, at the listed price. */
function costOf(said: { costUsd?: number; counted?: number }, step?: Step, route?: Route): { costUsd?: number } {
  const listed = step && said.counted !== undefined ? route?.price?.(step.params, step.role, said.counted) : null
  const costUsd = said.costUsd ?? listed ?? null
  return costUsd === null ? {} : { costUsd }
}
