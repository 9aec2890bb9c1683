/**
 * What became of a submit whose answer we do not have: our own note of it, what it brought us, then the provider's word.
 *
 * 1. A provider's `none` is believed when it has had its time, and when that time was measured.
 * 2. While nobody can tell, it is asked again, ever more rarely; what nobody will ever tell ends the step.
 * 3. What lies with us is paid and needs no provider: it is looked for first, and nobody is asked about it any more. While our
 *    disk does not say, the provider is asked all the same; of its answers only that it has the job is believed.
 */
import { deadlineOf, SHOWS_MS } from '../../core/machine.ts'
import { type Clock, type Found, type Provider, StorageUnavailable } from '../../core/ports.ts'
import type { Attempt, Run, Step } from '../../core/run.ts'
import type { EffectDeps, LiveRun, Said } from '../effects.ts'
import { ended, growing, STORAGE_PAUSE_MS, within } from './pause.ts'
import { scopeOf } from './scope.ts'

/** A look-up that cannot tell is repeated, ever more rarely; a webhook may come in between. */
const LOOKUP_PAUSE_MS = { first: SHOWS_MS, last: 300_000 }

/** A disk lists a folder within moments, and the provider is asked only after it. */
const STASH_MS = 30_000

/** A job that was taken shows within moments; a provider that cannot be asked has nothing to wait for. */
export function firstLookAt(deps: EffectDeps, provider: Provider): number {
  return deps.clock.now() + (provider.find ? Math.min(LOOKUP_PAUSE_MS.first, provider.settleMs) : 0)
}

/**
 * Asks our own store, once after a start. While it does not say, that is waited for until the step's deadline: a submit that
 * was never sent is not given up for an answer that we have at home.
 */
export async function surelyUnsent(
  deps: EffectDeps,
  live: LiveRun,
  step: Step,
  attempt: Attempt,
  stop: AbortSignal,
): Promise<boolean> {
  if (step.status !== 'submitting' || step.lookup !== null) return false
  const { clock } = deps
  for (let tries = 0; ; tries += 1) {
    try {
      return await deps.store.isUnsent(attempt.token)
    } catch (error) {
      deps.observer.fault('find', error, scopeOf(live.run, step, attempt))
      const leftMs = deadlineOf(live.run, step) - clock.now()
      if (leftMs > 0) await within(clock, Math.min(leftMs, growing(STORAGE_PAUSE_MS, tries)), stop, ended)
      if (leftMs <= 0 || stop.aborted) return false
    }
  }
}

/**
 * The pictures of an answer that were written down before its process died, or could write no more. Of several those that are
 * there: the others cannot be asked for. At the listed price, for what the answer said of it is lost. `untold` when our disk
 * does not say.
 */
export async function inHand(
  deps: EffectDeps,
  run: Run,
  step: Step,
  attempt: Attempt,
  stop: AbortSignal,
): Promise<Said | 'untold' | null> {
  const { clock, media, observer } = deps
  // A disk that hangs does not obey a signal.
  const told = (signal: AbortSignal) => Promise.race([media.stashOf(attempt.token), ended(signal)])
  try {
    const urls = await within(clock, STASH_MS, stop, told)
    if (urls) return urls.length > 0 ? { type: 'job.succeeded', media: urls.map(url => ({ url })) } : null
    if (!stop.aborted) throw new StorageUnavailable(`the pictures on our disk were not listed within ${STASH_MS} ms`)
  } catch (error) {
    observer.fault('find', error, scopeOf(run, step, attempt))
  }
  return 'untold'
}

export async function find(
  deps: EffectDeps,
  run: Run,
  step: Step,
  attempt: Attempt,
  signal: AbortSignal,
): Promise<Said> {
  const provider = deps.providers.get(attempt.provider)
  const now = deps.clock.now()
  const lookup = step.status === 'submitting' ? step.lookup : null
  if (!provider) return { type: 'step.still_unknown', askAt: null }
  const { token, startedAt } = attempt
  const found = await lookUp(deps, provider, run, step, attempt, signal)
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
  return { type: 'step.still_unknown', askAt: nextLookAt(deps.clock, step) }
}

export function nextLookAt(clock: Clock, step: Step): number {
  const tries = step.status === 'submitting' ? (step.lookup?.tries ?? 0) : 0
  return clock.now() + growing(LOOKUP_PAUSE_MS, tries)
}

async function lookUp(
  deps: EffectDeps,
  provider: Provider,
  run: Run,
  step: Step,
  attempt: Attempt,
  signal: AbortSignal,
): Promise<Found> {
  const { token, providerModel, startedAt } = attempt
  const sought = { token, stepId: step.id, providerModel, role: step.role, startedAt }
  try {
    return (await provider.find?.(sought, signal)) ?? { type: 'unknown' }
  } catch (error) {
    deps.observer.fault('find', error, scopeOf(run, step, attempt))
    return { type: 'unknown' }
  }
}
