/**
 * The places that one run holds at providers, and what its attempts teach: breakers, budget, metrics.
 *
 * 1. A job holds its provider's place from the routing to its end; whatever ends it gives the place back.
 * 2. Every attempt is learned from once, and before its place is given back: who comes next must know.
 * 3. Breakers judge the way to a provider. A job that a provider took opens the way; what becomes of that job is its own
 *    affair, as it may lie in what was asked.
 */
import type { StepError } from '../core/errors.ts'
import type { Clock, Observer } from '../core/ports.ts'
import { type Attempt, isEnded, type Run, type Step } from '../core/run.ts'
import type { Admission } from './admission.ts'
import type { Way } from './breakers.ts'
import type { Budget } from './budget.ts'
import type { Capacity } from './capacity.ts'

export interface PlacesDeps {
  capacity: Capacity
  clock: Clock
  observer: Observer
  budget: Budget
  admission: Admission
}

export class Places {
  readonly #deps: PlacesDeps
  readonly #held = new Map<string, Way>()
  /** How many attempts of a step were learned from. */
  readonly #learned = new Map<string, number>()

  constructor(deps: PlacesDeps) {
    this.#deps = deps
  }

  /** Takes the places of a run that is taken up as it stands. */
  takeUp(run: Run): void {
    for (const step of run.steps) {
      if (!holdsPlace(step) || !('attempt' in step)) continue
      const way = wayOf(run, step, step.attempt)
      this.#deps.capacity.enter(way, step.id)
      this.#held.set(step.id, way)
    }
  }

  /** Notes a place that was taken for a step. */
  hold(stepId: string, way: Way): void {
    this.#held.set(stepId, way)
  }

  /** Gives back what was held for a step that goes elsewhere, or nowhere. */
  release(stepId: string, step: Step | undefined, next: Way | null): void {
    const held = this.#held.get(stepId)
    if (held && held.provider !== next?.provider && !(step && holdsPlace(step))) this.#vacate(stepId)
  }

  /**
   * A submit was refused for the provider's rate. Told before its place is given back: who comes next must know. Told again
   * after a commit that failed, the place may be that of the next attempt, elsewhere.
   */
  refused(stepId: string, no: number, error: StepError): void {
    const { capacity, clock } = this.#deps
    const way = no > (this.#learned.get(stepId) ?? 0) ? this.#held.get(stepId) : undefined
    if (way) this.#resumeAt(way, capacity.refused(way, error, clock.now()))
  }

  /** Gives back what an actor held that is no more: whoever takes the run up again takes what it needs. */
  abandon(): void {
    for (const stepId of [...this.#held.keys()]) this.#vacate(stepId)
  }

  /**
   * What ended attempts cost, and what they say of the way to their provider, is known before the next ones are looked at.
   * Told again after a commit that failed, it changes nothing.
   */
  settle(before: Run, after: Run): void {
    const { apiKeyId } = after
    after.steps.forEach((step, i) => {
      const { id: stepId, attempts } = step
      for (const attempt of attempts.slice(before.steps[i]?.attempts.length)) {
        const { no, startedAt } = attempt
        this.#deps.budget.settle({ apiKeyId, stepId, no, startedAt }, usdOf(attempt))
        this.#learn(after, step, attempt)
      }
    })
  }

  /** Follows a committed change. */
  follow(before: Run, after: Run): void {
    const { admission, budget, capacity, observer, clock } = this.#deps
    after.steps.forEach((step, i) => {
      const was = before.steps[i]
      if (!was || was === step) return
      // A late result has a cost of its own. It was settled before: a commit that failed must not add the difference twice.
      was.attempts.forEach((old, n) => {
        budget.correct(after.apiKeyId, old.startedAt, usdOf(step.attempts[n] ?? old) - usdOf(old))
      })
      for (const attempt of step.attempts.slice(was.attempts.length)) this.#report(after.id, step, attempt)
      if (step.status === 'running' && was.status === 'submitting') capacity.took(wayOf(after, step, step.attempt))
      if (step.status === 'keeping' && was.status !== 'keeping')
        capacity.learn(wayOf(after, step, step.attempt), step.id, null, clock.now())
      if (step.status === 'submitting' && step.lookup !== null)
        this.#learnNothing(wayOf(after, step, step.attempt), step.id)
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

  /** Of the jobs that a provider took, those that end well tell of themselves. */
  #learn(run: Run, step: Step, attempt: Attempt): void {
    const { capacity, clock } = this.#deps
    const { no, error, submittedAt } = attempt
    if (no <= (this.#learned.get(step.id) ?? 0)) return
    this.#learned.set(step.id, no)
    if (!error || submittedAt !== null) return
    const way = wayOf(run, step, attempt)
    this.#resumeAt(way, capacity.learn(way, step.id, error, clock.now()))
  }

  /** What became of the submit is not known: it tells nothing of the way. */
  #learnNothing(way: Way, stepId: string): void {
    const { capacity, clock } = this.#deps
    this.#resumeAt(way, capacity.lost(way, stepId, clock.now()))
  }

  /** Those in line have no timer of their own: it outlives this run. */
  #resumeAt(way: Way, at: number | null): void {
    const { capacity, clock } = this.#deps
    if (at !== null) clock.at(at, () => capacity.resume(way, clock.now()))
  }

  #report(runId: string, { id: stepId, key: stepKey, model }: Step, attempt: Attempt): void {
    const { observer, clock } = this.#deps
    const { no, provider, outcome, error, startedAt } = attempt
    const ms = (attempt.endedAt ?? clock.now()) - startedAt
    const code = error?.code ?? null
    observer.attemptEnded({ runId, stepId, stepKey, attempt: no, model, provider, outcome, code, ms })
  }

  #vacate(stepId: string): void {
    const way = this.#held.get(stepId)
    if (!way) return
    this.#held.delete(stepId)
    this.#deps.capacity.leave(way, stepId)
  }
}

/** A submit is on its way; one whose outcome is being looked up is not. */
function isSubmit(step: Step): boolean {
  return step.status === 'submitting' && step.lookup === null
}

function holdsPlace(step: Step): boolean {
  return step.status === 'submitting' || step.status === 'running'
}

/** What an attempt has cost, as far as is known. */
function usdOf({ cost }: Attempt): number {
  return cost.actualUsd ?? cost.estimatedUsd ?? 0
}

function wayOf({ apiKeyId }: Run, { model }: Step, { provider }: Attempt): Way {
  return { provider, model, apiKeyId }
}
