/**
 * Carries out what the core orders, and says what came of it.
 *
 * 1. Every order ends in one event, whatever happens: what throws is an answer too, and one after which the run goes on. In
 *    none only when its step has moved on, when it was given up before it began, or when the process stops.
 * 2. A submit is noted before its first byte is sent. One that broke after the call began has an unknown outcome; before it, and
 *    when it was held back, nothing was sent.
 * 3. Every order has a time limit of its own, above the adapter's.
 */
import { type StepError, stepError } from '../core/errors.ts'
import type { AttemptSignal, Effect, Event } from '../core/events.ts'
import type { Json } from '../core/json.ts'
import type { Catalog, Model, Route } from '../core/model.ts'
import { usdOf } from '../core/offers.ts'
import {
  type Clock,
  type Media,
  type Observer,
  type Provider,
  type Started,
  StorageUnavailable,
  type Store,
} from '../core/ports.ts'
import type { Attempt, Mode, Run, Step } from '../core/run.ts'
import type { Capacity } from './capacity.ts'
import { keepOutputs } from './effects/keep.ts'
import { find, firstLookAt, inHand, nextLookAt, surelyUnsent } from './effects/lookup.ts'
import { ended, growing, STORAGE_PAUSE_MS, within } from './effects/pause.ts'
import { scopeOf } from './effects/scope.ts'
import { leftBehind, strandedBy, type UnderWay } from './modes.ts'
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
/** After a poll or a submit that threw: the fault is in a program, and will not be over in a second. */
const BROKEN_PAUSE_MS = 10_000

/** Carries out one effect of a run. Never throws; null when nothing is to be told (rule 1). */
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
  const said = await carryOut(deps, live, step, effect, stop).catch(error => {
    deps.observer.fault(effect.type, error, { runId: run.id, stepId: effect.stepId, attempt: effect.attempt })
    return brokenOff(deps, step, effect)
  })
  return said && { ...said, stepId: effect.stepId, attempt: effect.attempt, at: clock.now(), jitter: clock.random() }
}

/** What is said in place of an effect that threw: the machine asks again, and holds the step to its deadline. */
function brokenOff({ clock }: EffectDeps, step: Step, effect: Reaching): Said {
  const againAt = clock.now() + BROKEN_PAUSE_MS
  switch (effect.type) {
    // It may have been sent.
    case 'submit':
      return { type: 'step.submit_unknown', error: stepError('outcome_unknown', 'the submit broke'), askAt: againAt }
    case 'find':
      return { type: 'step.still_unknown', askAt: nextLookAt(clock, step) }
    case 'poll':
      return { type: 'job.unreachable', error: stepError('network_error', 'the poll broke'), pollAt: againAt }
    case 'cancelJob':
      return { type: 'job.cancel_settled', outcome: 'failed' }
    case 'keep':
      return {
        type: 'media.keep_failed',
        error: stepError('output_fetch_failed', 'the copy broke off'),
        fault: 'spoiled',
        outputs: [],
      }
  }
}

/**
 * Asks once for the job of an attempt that is over for us, and keeps what it gave; null when there is nothing to tell. `jobRef`
 * may be news, and is then told in any case: a resume can ask for the job, and pays no other.
 */
export async function lookLate(
  deps: EffectDeps,
  run: Run,
  step: Step,
  over: Attempt,
  jobRef: Json,
  stop: AbortSignal,
): Promise<(AttemptSignal & { type: 'attempt.came_late' }) | null> {
  const attempt = { ...over, jobRef }
  const checked = await within(deps.clock, LIMIT_MS.poll, stop, signal => poll(deps, run, step, attempt, signal))
  const of = { type: 'attempt.came_late', stepId: step.id, attempt: attempt.no, jobRef } as const
  if (checked.type === 'job.failed') return { ...of, outputs: [], error: checked.error, ...costOf(checked) }
  if (checked.type !== 'job.succeeded') {
    if (over.jobRef !== null) return null
    const why = checked.type === 'job.unreachable' ? checked.error.message : 'it is at work'
    return {
      ...of,
      outputs: [],
      error: stepError('output_fetch_failed', `the job is known now, without an output: ${why}`),
    }
  }
  const keeping = (signal: AbortSignal) => keepOutputs(deps, run, step, attempt, checked.media, signal)
  const kept = await within(deps.clock, LIMIT_MS.keep, stop, keeping)
  const error = kept.type === 'media.keep_failed' ? kept.error : null
  return { ...of, outputs: kept.outputs, error, ...costOf(checked) }
}

export type Said = AttemptSignal extends infer S ? (S extends unknown ? Omit<S, 'stepId' | 'attempt'> : never) : never

async function carryOut(
  deps: EffectDeps,
  live: LiveRun,
  step: Step,
  effect: Reaching,
  stop: AbortSignal,
): Promise<Said | null> {
  const limited = <T>(work: (signal: AbortSignal) => Promise<T>): Promise<T> =>
    within(deps.clock, LIMIT_MS[effect.type], stop, work)
  if (effect.type === 'cancelJob') return limited(signal => cancelJob(deps, effect, signal))
  if (!('attempt' in step) || step.attempt.no !== effect.attempt) return null
  const { attempt } = step
  if (effect.type === 'find') {
    const said = await look(deps, live, step, attempt, stop)
    return said?.type === 'step.still_unknown' ? { ...said, soundSince: deps.soundSince() } : said
  }
  if (stop.aborted) return null
  const stranded = strandedBy(deps, live.run, step)
  if (stranded) return leftBehind(deps.clock, live.run, effect, stranded)
  switch (effect.type) {
    case 'submit':
      return submit(deps, live, step, attempt, stop)
    case 'poll':
      return limited(signal => poll(deps, live.run, step, attempt, signal))
    case 'keep':
      return step.status === 'keeping'
        ? limited(signal => keepOutputs(deps, live.run, step, attempt, step.media, signal))
        : null
  }
}

/** What is ours to know comes first, then the provider's word; null when the process stops meanwhile. */
async function look(
  deps: EffectDeps,
  live: LiveRun,
  step: UnderWay,
  attempt: Attempt,
  stop: AbortSignal,
): Promise<Said | null> {
  if (await surelyUnsent(deps, live, step, attempt, stop)) return { type: 'step.unsent' }
  const stashed = await inHand(deps, live.run, step, attempt, stop)
  if (stop.aborted) return null
  if (stashed && stashed !== 'untold') return stashed
  const stranded = strandedBy(deps, live.run, step)
  if (stranded && !stashed)
    return leftBehind(deps.clock, live.run, { type: 'find', stepId: step.id, attempt: attempt.no }, stranded)
  const said = await within(deps.clock, LIMIT_MS.find, stop, signal => find(deps, live.run, step, attempt, signal))
  if (!stashed || said.type === 'step.submitted') return said
  return { type: 'step.still_unknown', askAt: nextLookAt(deps.clock, step) }
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
  const pictures = await gather(deps, live, step, attempt, { provider, inline: route.inline ?? false }, stop)
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
    const { token } = attempt
    const { body, providerModel } = translation
    // A look-up goes by the name that is stored.
    if (providerModel !== attempt.providerModel)
      return refused(stepError('model_not_enabled', `here ${attempt.providerModel} is now called ${providerModel}`))
    const callbackUrl = deps.callbackUrl(provider.id, token)
    const stash = (bytes: Uint8Array) => stashed(deps, token, bytes, scopeOf(run, step, attempt), signal)
    const order = {
      runId: run.id,
      stepId: step.id,
      token,
      jobsBefore: step.attempts.filter(past => past.provider === provider.id && past.submittedAt !== null).length,
      role: step.role,
      body,
      providerModel,
      callbackUrl,
    }
    began = true
    return answerOf(deps, provider, step, route, await provider.start({ ...order, stash, sending }, signal))
  } catch (error) {
    if (held) return refused(held)
    deps.observer.fault('submit', error, scopeOf(run, step, attempt))
    if (!began) return refused(stepError('internal', 'the request could not be made'))
    const lost = stepError('outcome_unknown', 'the submit broke on our side', { provider: attempt.provider })
    return { type: 'step.submit_unknown', error: lost, askAt: firstLookAt(deps, provider) }
  }
}

/** The bytes of a paid answer come once: while our storage takes nothing they are held, for as long as the submit may take. */
async function stashed(
  deps: EffectDeps,
  token: string,
  bytes: Uint8Array,
  scope: ReturnType<typeof scopeOf>,
  signal: AbortSignal,
) {
  const { clock, media, gate } = deps
  for (let tries = 0; ; tries += 1) {
    try {
      // A disk that hangs does not obey a signal; what it writes after all is found by the look-up.
      return await Promise.race([media.stash(token, bytes), givenUp(signal)])
    } catch (error) {
      if (!(error instanceof StorageUnavailable) || signal.aborted) throw error
      gate.refused('stash', error, scope)
      await within(clock, growing(STORAGE_PAUSE_MS, tries), signal, ended)
    }
  }
}

async function givenUp(signal: AbortSignal): Promise<never> {
  await ended(signal)
  throw new Error('our disk did not take the bytes of the answer in time')
}

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

async function poll(deps: EffectDeps, run: Run, step: Step, attempt: Attempt, signal: AbortSignal): Promise<Said> {
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
        return {
          ...{ type: 'job.failed', error: checked.error, ...costOf(checked) },
          ...(checked.jobless ? { jobless: true } : {}),
        }
      case 'unreachable':
        return again(checked.error, checked.pollAfterMs)
    }
  } catch (error) {
    deps.observer.fault('poll', error, scopeOf(run, step, attempt))
    return again(stepError('network_error', 'the poll broke'), BROKEN_PAUSE_MS)
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
  const provider = deps.providers.get(effect.provider)
  return { type: 'job.cancel_settled', outcome: provider ? await provider.cancel(effect.jobRef, signal) : 'failed' }
}

function refused(error: StepError): Said {
  return { type: 'step.submit_refused', error }
}

/** What the provider says that it costs, or what it says that it made, at the listed price. */
function costOf(said: { costUsd?: number; counted?: number }, step?: Step, route?: Route): { costUsd?: number } {
  const { counted } = said
  const listed = step && counted !== undefined ? route?.price?.(step.params, step.role, { counted }) : null
  const costUsd = said.costUsd ?? usdOf(listed ?? null)
  return costUsd === null ? {} : { costUsd }
}
