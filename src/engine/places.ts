/**
 * The places that one run holds at providers, and what its attempts teach: breakers, budget, metrics.
 *
 * 1. A job holds its provider's place from the routing to its end; whatever ends it gives the place back.
 * 2. Every attempt is learned from once, when the change that ended it is committed.
 */
import type { StepError } from '../core/errors.ts'
import type { Clock, Observer } from '../core/ports.ts'
import { type Attempt, isEnded, type Run, type Step } from '../core/run.ts'
import type { Admission } from './admission.ts'
import type { Budget } from './budget.ts'
import type { Capacity } from './capacity.ts'

export interface PlacesDeps {
  capacity: Capacity
  clock: Clock
  observer: Observer
  budget: Budget
  admission: Admission
}

export interface Place {
  provider: string
  model: string
}

export class Places {
  readonly #deps: PlacesDeps
  readonly #held = new Map<string, Place>()

  constructor(deps: PlacesDeps) {
    this.#deps = deps
  }

  /** Takes the places of a run that is taken up as it stands. */
  takeUp(run: Run): void {
    for (const step of run.steps) {
      if (!holdsPlace(step) || !('attempt' in step)) continue
      const place = { provider: step.attempt.provider, model: step.model }
      this.#deps.capacity.enter(place.provider, place.model, step.id)
      this.#held.set(step.id, place)
    }
  }

  /** Notes a place that was taken for a step. */
  hold(stepId: string, place: Place): void {
    this.#held.set(stepId, place)
  }

  /** Gives back what was held for a step that goes elsewhere, or nowhere. */
  release(stepId: string, step: Step | undefined, next: Place | null): void {
    const held = this.#held.get(stepId)
    if (held && held.provider !== next?.provider && !(step && holdsPlace(step))) this.#vacate(stepId)
  }

  /** A submit was refused for the provider's rate. Told before its place is given back: who comes next must know. */
  refused(stepId: string, error: StepError): void {
    const { capacity, clock } = this.#deps
    const held = this.#held.get(stepId)
    if (!held) return
    const { provider, model } = held
    const until = capacity.refused(provider, model, error, clock.now())
    // Those in line have no timer of their own: it outlives this run.
    if (until !== null) clock.at(until, () => capacity.resume(provider, model, clock.now()))
  }

  /** Gives back what an actor held that is no more: whoever takes the run up again takes what it needs. */
  abandon(): void {
    for (const stepId of [...this.#held.keys()]) this.#vacate(stepId)
  }

  /** What ended attempts cost is known before the next ones are looked at. Told again after a commit that failed, it changes nothing. */
  settle(before: Run, after: Run): void {
    const { apiKeyId } = after
    after.steps.forEach(({ id: stepId, attempts }, i) => {
      for (const { no, startedAt, cost } of attempts.slice(before.steps[i]?.attempts.length)) {
        const usd = cost.actualUsd ?? cost.estimatedUsd ?? 0
        this.#deps.budget.settle({ apiKeyId, stepId, no, startedAt }, usd)
      }
    })
  }

  /** Follows a committed change. */
  follow(before: Run, after: Run): void {
    const { admission, capacity, observer, clock } = this.#deps
    after.steps.forEach((step, i) => {
      const was = before.steps[i]
      if (!was || was === step) return
      for (const attempt of step.attempts.slice(was.attempts.length)) this.#learn(after.id, step, attempt)
      if (step.status === 'keeping' && was.status !== 'keeping') this.#learnSuccess(step)
      if (!holdsPlace(step)) this.#vacate(step.id)
      else if (was.status === 'submitting' && !isSubmit(step)) capacity.submitted(was.attempt.provider, step.id)
    })
    if (after.status !== before.status) admission.follow(after)
    if (isEnded(after) && !isEnded(before)) {
      const { id: runId, slug, status, createdAt, error } = after
      // Until now, its last commit included: who hears of it counts back from now.
      observer.runEnded({ runId, slug, status, code: error?.code ?? null, ms: clock.now() - createdAt })
    }
  }

  /** Gives everything back: the run was not created, and its first attempts were not made. */
  forgo({ apiKeyId }: Run): void {
    const { budget, clock } = this.#deps
    for (const stepId of this.#held.keys()) {
      this.#vacate(stepId)
      budget.settle({ apiKeyId, stepId, no: 1, startedAt: clock.now() }, 0)
    }
  }

  #learn(runId: string, step: Step, attempt: Attempt): void {
    const { capacity, observer, clock } = this.#deps
    const { provider, outcome, error, startedAt } = attempt
    const ms = (attempt.endedAt ?? clock.now()) - startedAt
    const { id: stepId, key: stepKey, model } = step
    observer.attemptEnded({
      runId,
      stepId,
      stepKey,
      attempt: attempt.no,
      model,
      provider,
      outcome,
      code: error?.code ?? null,
      ms,
    })
    if (error) capacity.learn(provider, model, error, clock.now())
  }

  #learnSuccess(step: Step): void {
    if ('attempt' in step) this.#deps.capacity.learn(step.attempt.provider, step.model, null, this.#deps.clock.now())
  }

  #vacate(stepId: string): void {
    const place = this.#held.get(stepId)
    if (!place) return
    this.#held.delete(stepId)
    this.#deps.capacity.leave(place.provider, place.model, stepId)
  }
}

/** A submit is on its way; one whose outcome is being looked up is not. */
function isSubmit(step: Step): boolean {
  return step.status === 'submitting' && step.lookup === null
}

function holdsPlace(step: Step): boolean {
  return step.status === 'submitting' || step.status === 'running'
}
