/**
 * Which provider next, retry or not, and when.
 *
 * 1. Pure: offers, attempts, policy and jitter come in as data.
 * 2. A content refusal is never taken to another provider; nor is a submit whose outcome is unknown.
 * 3. A route that refused for good (credit, key, model, parameters) is not tried again by this step.
 * 4. Untried routes come before tried ones, so that an overloaded provider costs one attempt, not a back-off.
 * 5. Who finds all open routes full stands in line at the closed ones too: whichever has a place first is taken.
 * 6. A route that costs more than may be spent is passed over, and one that may be paid is waited for. Only when there is
 *    none is the step over its budget.
 */
import { type ErrorCode, type StepError, stepError } from './errors.ts'
import { type Attempt, LIMITS } from './run.ts'

/** A route as it stands now. */
export interface Offer {
  provider: string
  providerModel: string
  /** Null when the route can take these parameters and has a key; else why not. */
  obstacle: string | null
  hasCapacity: boolean
  /** Not before this time: a rate limit or an open breaker (ms since the epoch). */
  closedUntil: number | null
  /** Why an attempt here would cost more than the run or its key may spend; null when it would not. */
  overBudget: StepError | null
}

export type Choice<O extends Offer = Offer> =
  | { type: 'go'; offer: O }
  /** `until`: then another provider ends the step's back-off there, and its line may be joined too. */
  | { type: 'queue'; providers: readonly string[]; until: number | null }
  | { type: 'wait'; until: number }
  | { type: 'none'; error: StepError }

/** Chooses the route of the next attempt. `order` is the caller's preference; providers not named follow in catalogue order. */
export function chooseRoute<O extends Offer>(
  offers: readonly O[],
  attempts: readonly Attempt[],
  order: readonly string[],
  at: number,
): Choice<O> {
  const fit = offers.filter(offer => offer.obstacle === null && !isBarred(offer, attempts))
  if (fit.length === 0) return { type: 'none', error: noRoute(offers, attempts) }
  const rank = (offer: O): number => {
    const preferred = order.indexOf(offer.provider)
    const place = preferred < 0 ? order.length + offers.indexOf(offer) : preferred
    return triesOn(offer, attempts) * 1_000 + place
  }
  const ranked = fit.toSorted((a, b) => rank(a) - rank(b))
  const payable = ranked.filter(offer => offer.overBudget === null)
  if (payable.length === 0) return { type: 'none', error: ranked[0]?.overBudget ?? noRoute(offers, attempts) }
  const open = payable.filter(offer => opensAt(offer, attempts) <= at)
  const go = open.find(offer => offer.hasCapacity)
  if (go) return { type: 'go', offer: go }
  if (open.length > 0) {
    const rested = payable.filter(offer => restsUntil(offer, attempts) <= at)
    const resting = payable.map(offer => restsUntil(offer, attempts)).filter(until => until > at)
    const until = resting.length > 0 ? Math.min(...resting) : null
    return { type: 'queue', providers: rested.map(offer => offer.provider), until }
  }
  return { type: 'wait', until: Math.min(...payable.map(offer => opensAt(offer, attempts))) }
}

/** What a failed attempt means for its step. `attempts` holds the failed one last. */
export function decide(attempts: readonly Attempt[]): 'retry' | 'fail' {
  const last = attempts.at(-1)
  const fate = last && fateOf(last)
  if (fate === undefined || attempts.length >= LIMITS.attempts) return 'fail'
  const failures = attempts.filter(attempt => fateOf(attempt) === 'job').length
  return fate === 'job' && failures >= LIMITS.jobFailures ? 'fail' : 'retry'
}

/**
 * How long a route that has just failed stays closed for its step: the provider's own wish, else 1 s doubling
 * to 60 s, spread by jitter (0 to 1) over the upper half. Other routes do not wait for it. Milliseconds.
 */
export function backoffMs(error: StepError, triesOnRoute: number, jitter: number): number {
  const doubled = Math.min(60_000, 1_000 * 2 ** Math.min(10, Math.max(0, triesOnRoute - 1)))
  return Math.round(Math.max(doubled * (0.5 + jitter / 2), error.retryAfterMs ?? 0))
}

/**
 * again: nothing ran; the step may be sent again, elsewhere first.
 * job: a job ran and failed; a few more may be paid for.
 * elsewhere: this route is out, another may do.
 * Any other error ends the step.
 */
type Fate = 'again' | 'job' | 'elsewhere'

const FATE: Partial<Record<ErrorCode, Fate>> = {
  provider_rate_limited: 'again',
  provider_overloaded: 'again',
  network_error: 'again',
  storage_unavailable: 'again',
  provider_error: 'job',
  provider_lost: 'job',
  insufficient_credit: 'elsewhere',
  provider_unauthorized: 'elsewhere',
  model_not_enabled: 'elsewhere',
  invalid_input: 'elsewhere',
}

/** A job that the provider took did run, whatever it died of. */
function fateOf({ error, submittedAt }: Attempt): Fate | undefined {
  const fate = error ? FATE[error.code] : undefined
  return fate === 'again' && submittedAt !== null ? 'job' : fate
}

/** How often a step has tried a route. */
export function triesOn(route: RouteName, attempts: readonly Attempt[]): number {
  return attempts.filter(attempt => isOn(route, attempt)).length
}

interface RouteName {
  provider: string
  providerModel: string
}

function isOn(route: RouteName, attempt: Attempt): boolean {
  return attempt.provider === route.provider && attempt.providerModel === route.providerModel
}

function isBarred(offer: Offer, attempts: readonly Attempt[]): boolean {
  return attempts.some(
    attempt => isOn(offer, attempt) && attempt.error !== null && FATE[attempt.error.code] === 'elsewhere',
  )
}

/** When a route opens again for this step: its own gate or the back-off after the step's last failure there. */
function opensAt(offer: Offer, attempts: readonly Attempt[]): number {
  return Math.max(offer.closedUntil ?? 0, restsUntil(offer, attempts))
}

/** Until when the step itself leaves a route alone; that a route is closed for all is the business of its line. */
function restsUntil(route: RouteName, attempts: readonly Attempt[]): number {
  return attempts.findLast(attempt => isOn(route, attempt))?.reopenAt ?? 0
}

function noRoute(offers: readonly Offer[], attempts: readonly Attempt[]): StepError {
  const last = attempts.findLast(attempt => attempt.error !== null)?.error
  if (last) return last
  const why = offers.map(offer => `${offer.provider}: ${offer.obstacle}`).join('; ')
  return stepError('no_route', `no provider can run this step (${why || 'the model has no routes'})`)
}
