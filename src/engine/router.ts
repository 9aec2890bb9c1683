/**
 * Finds the route of a step: gathers what the core needs to choose, asks it, and takes the place.
 *
 * 1. Synchronous and in memory: the answer joins the commit of the transition that asked.
 * 2. What is spent is looked at and booked in the same breath, so that steps side by side cannot pass a budget together.
 * 3. Nothing is bought while outputs cannot be stored: a step that could go waits, without an attempt.
 * 4. A route that cannot express the parameters, whose provider has no key, or does not take a picture of this size, is out
 *    with a reason, before any spending.
 */
import { stepError } from '../core/errors.ts'
import type { Event } from '../core/events.ts'
import type { Catalog, Model, Route } from '../core/model.ts'
import { basisOf, express, type Incoming, incomingOf, lackOf, quoteAt, usdOf } from '../core/offers.ts'
import type { Clock, Provider } from '../core/ports.ts'
import { chooseRoute, type Offer } from '../core/routing.ts'
import { type Adjustment, type Cost, type Mode, overLimit, type Run, type Step } from '../core/run.ts'
import type { Admission } from './admission.ts'
import type { Way } from './breakers.ts'
import type { Booking, Budget } from './budget.ts'
import type { Capacity } from './capacity.ts'
import { otherMode } from './modes.ts'
import type { OutputGate } from './output-gate.ts'

export interface RouterDeps {
  /** Of this server: runs of the other one are not routed. */
  mode: Mode
  catalog: Catalog
  providers: ReadonlyMap<string, Provider>
  /** The routes of a model in this installation, in order of preference. */
  routesOf(model: Model): readonly Route[]
  capacity: Capacity
  gate: Pick<OutputGate, 'isOpen'>
  clock: Clock
  /** What the keys may spend, and how many of their runs may be under way. */
  budget: Budget
  admission: Admission
}

export type Routing =
  | { event: Event; place: Way | null; booking?: Booking }
  /** Wait for a place at one of these providers, and ask again at that time: another may do too. */
  | { queue: readonly string[]; until: number | null }
  /** Wait for a place among the runs of the key. `way`: where the step could go; `wasServed`: it has a place there, and gives it back. */
  | { queue: 'key'; way: string; wasServed: boolean }
  /** Wait until outputs can be stored. */
  | { queue: 'storage' }

/** Who keeps a place of its key while its providers are full looks whether they are still open: others could use that place. */
const LOOK_MS = 30_000

export function routeStep(deps: RouterDeps, run: Run, step: Step): Routing {
  const { clock, capacity } = deps
  const at = clock.now()
  const base = { at, jitter: clock.random(), stepId: step.id }
  const elsewhere = otherMode(deps.mode, run)
  if (elsewhere) return { event: { type: 'step.unroutable', error: elsewhere, ...base }, place: null }
  const booking = { apiKeyId: run.apiKeyId, stepId: step.id, no: step.attempts.length + 1, startedAt: at }
  const model = deps.catalog.find(step.model)
  const routes = model ? deps.routesOf(model) : []
  // The pictures of the steps before are there.
  const incoming = incomingOf(step, run.steps, () => [])
  const offers = model ? routes.map(route => offerOf(deps, { run, step, model, route, incoming, booking })) : []
  const choice = chooseRoute(offers, step.attempts, run.providerOrder[step.key] ?? [], at)
  const lookAt = deps.admission.keep(run, step.id, choice.type === 'queue') ? at + LOOK_MS : null
  switch (choice.type) {
    case 'none':
      return { event: { type: 'step.unroutable', error: choice.error, ...base }, place: null }
    case 'queue':
      return {
        queue: choice.providers,
        until: lookAt === null ? choice.until : Math.min(lookAt, choice.until ?? lookAt),
      }
    case 'wait': {
      const last = step.attempts.findLast(attempt => attempt.error !== null)?.error
      const error = last ?? stepError('provider_overloaded', whyClosed(deps, run, step, offers))
      return { event: { type: 'step.deferred', until: choice.until, error, ...base }, place: null }
    }
    case 'go': {
      const { provider, providerModel, cost, adjustments } = choice.offer
      if (!deps.gate.isOpen) return { queue: 'storage' }
      if (!deps.admission.begin(run)) {
        const open = offers.filter(offer => offer.obstacle === null && offer.overBudget === null)
        const way = [step.model, ...open.map(offer => offer.provider)].join(' ')
        return { queue: 'key', way, wasServed: capacity.holds(provider, step.id) }
      }
      deps.budget.book(booking, cost.estimatedUsd ?? 0)
      const place = { provider, model: step.model, apiKeyId: run.apiKeyId }
      capacity.enterToSubmit(place, step.id)
      const token = clock.token()
      const event: Event = { type: 'step.routed', provider, providerModel, token, cost, adjustments, ...base }
      return { event, place, booking }
    }
  }
}

const UNKNOWN_COST: Cost = { estimatedUsd: null, actualUsd: null, basis: 'unknown' }

/** An offer, what it would cost, and what the translation would change. */
interface Translated extends Offer {
  cost: Cost
  adjustments: readonly Adjustment[]
}

interface Question {
  run: Run
  step: Step
  model: Model
  route: Route
  incoming: readonly Incoming[]
  /** The attempt that would be made. */
  booking: Booking
}

function offerOf(deps: RouterDeps, { run, step, model, route, incoming, booking }: Question): Translated {
  const { provider } = route
  const way = { provider, model: model.id, apiKeyId: run.apiKeyId }
  const tried = trial(deps.providers.get(provider), route, step, incoming)
  const cost = tried.obstacle === null ? costOf(route, model, step, incoming) : UNKNOWN_COST
  return {
    provider,
    ...tried,
    cost,
    hasCapacity: deps.capacity.hasPlace(way, step.id),
    closedUntil: deps.capacity.closedUntil(way, booking.startedAt),
    overBudget: overLimit(run, cost.estimatedUsd) ?? deps.budget.refuses(booking, cost.estimatedUsd),
  }
}

/** Who is waited for, and why, while every way is closed. */
function whyClosed({ capacity, clock }: RouterDeps, run: Run, step: Step, offers: readonly Offer[]): string {
  const at = clock.now()
  const words = offers
    .filter(({ obstacle, closedUntil }) => obstacle === null && closedUntil !== null)
    .map(({ provider }) =>
      capacity.isLeftAlone({ provider, model: step.model, apiKeyId: run.apiKeyId }, at)
        ? `${provider} is left alone for a while after failures`
        : `${provider} limits our rate`,
    )
  return `no provider takes this model now: ${words.join('; ')}`
}

type Tried = Pick<Translated, 'providerModel' | 'obstacle' | 'adjustments'>

/** Translates the step as it would be sent. The name of the model may be another than the route's: a size or a speed chooses it. */
function trial(provider: Provider | undefined, route: Route, step: Step, incoming: readonly Incoming[]): Tried {
  const { providerModel } = route
  const lack = lackOf(provider)
  if (lack !== null) return { providerModel, obstacle: lack, adjustments: [] }
  const made = express(route, step, incoming, [provider?.takes.url && !route.inline ? 'url' : 'data'])
  if (!made.ok) return { providerModel, obstacle: made.reason, adjustments: [] }
  return { providerModel: made.providerModel, obstacle: null, adjustments: made.adjustments }
}

function costOf(route: Route, model: Model, step: Step, incoming: readonly Incoming[]): Cost {
  const quote = quoteAt(route, model, step, incoming)
  return { estimatedUsd: usdOf(quote), actualUsd: null, basis: basisOf(quote) }
}
