/**
 * What every provider can take now: places, rate hints, and a breaker per provider and model.
 *
 * 1. A place is held by a step from its routing until its job has ended, with or without a live actor; a step without
 *    a place burns no attempt. At most SUBMITS of the holders are submitting.
 * 2. Who waits for a place is served in the order of asking: a freed place is held for the next in line, and nobody
 *    overtakes those in line who could go.
 * 3. A breaker opens after several faults in a row; after its pause exactly one probe goes through.
 * 4. A model that was refused for its rate has as many places as it then held: one more for every round that goes well.
 * 5. All of this is memory: at a start nobody new gets a place until the running jobs have taken theirs again, and
 *    breakers begin closed.
 */
import type { StepError } from '../core/errors.ts'

export interface CapacityRules {
  /** Jobs at once per provider. */
  concurrency: (provider: string) => number
}

/** `probe` is the holder whose attempt decides, after the pause. */
type Gate = { faults: number; openUntil: number; pauseMs: number; probe: string | null }
type Waiter = { providers: readonly string[]; model: string; holder: string; call: (provider: string) => void }

/** Faults in a row that open a breaker: fewer would open on bad luck, more would cost every run an attempt. */
const FAULTS_TO_OPEN = 5
const FIRST_PAUSE_MS = 15_000
const LONGEST_PAUSE_MS = 5 * 60_000
/** Credit and keys do not mend themselves in seconds. */
const ACCOUNT_PAUSE_MS = 60_000
/**
 * Submits under way at one provider, from their intent to the job's id: after a power cut nobody can say what became of
 * these. Half of them fill the connections that one provider may have; the others are being written down.
 */
const SUBMITS = 64

export class Capacity {
  #held = new Map<string, Set<string>>()
  /** The same by `provider/model`. */
  #heldOf = new Map<string, Set<string>>()
  /** Places of a model whose provider refused more, by `provider/model`. */
  #ceilings = new Map<string, number>()
  /** Holders whose submit is under way, or about to be. */
  #submitting = new Map<string, Set<string>>()
  #gates = new Map<string, Gate>()
  #pausedUntil = new Map<string, number>()
  #lines = new Map<string, Set<Waiter>>()
  /** Providers whose line is being served: who is served may give the place back at once, and must not serve the next within. */
  #serving = new Set<string>()
  #shut = false
  readonly #rules: CapacityRules

  constructor(rules: CapacityRules) {
    this.#rules = rules
  }

  /** Gives no place to anybody new: at a start running jobs take theirs again first, and a stop begins nothing. */
  shut(): void {
    this.#shut = true
  }

  /** Serves those who stood in line meanwhile. */
  open(): void {
    this.#shut = false
    for (const provider of [...this.#lines.keys()]) this.#serve(provider)
  }

  /** Whether `holder` may start a job there now: it has a place, or there is one and nobody in line could take it. */
  hasPlace(provider: string, model: string, holder: string): boolean {
    if (this.#shut || this.#isProbedByAnother(provider, model, holder)) return false
    if (this.#held.get(provider)?.has(holder)) return true
    return this.#isFree(provider, model) && this.#nextInLine(provider) === null
  }

  /** When the way there opens: the later of a rate limit and an open breaker; null when it is open. */
  closedUntil(provider: string, model: string, at: number): number | null {
    const until = Math.max(
      this.#pausedUntil.get(provider) ?? 0,
      this.#gates.get(gateKey(provider, model))?.openUntil ?? 0,
    )
    return until > at ? until : null
  }

  /** Takes a place; the same holder twice is once. After a start, jobs that run already take theirs beyond the limit. */
  enter(provider: string, model: string, holder: string): void {
    addTo(this.#held, provider, holder)
    addTo(this.#heldOf, gateKey(provider, model), holder)
    this.#submitting.get(provider)?.delete(holder)
  }

  /** Takes a place to submit a job now; where a breaker is open, as its probe. */
  enterToSubmit(provider: string, model: string, holder: string): void {
    this.enter(provider, model, holder)
    addTo(this.#submitting, provider, holder)
    const gate = this.#gates.get(gateKey(provider, model))
    if (gate && gate.faults >= FAULTS_TO_OPEN) gate.probe ??= holder
  }

  /** The submit is over, whatever came of it; the job keeps its place. */
  submitted(provider: string, holder: string): void {
    if (this.#submitting.get(provider)?.delete(holder)) this.#serve(provider)
  }

  /** Gives a place back, and the next in line gets it. */
  leave(provider: string, model: string, holder: string): void {
    const key = gateKey(provider, model)
    const gate = this.#gates.get(key)
    if (gate?.probe === holder) gate.probe = null
    this.#submitting.get(provider)?.delete(holder)
    this.#heldOf.get(key)?.delete(holder)
    if (this.#held.get(provider)?.delete(holder)) this.#serve(provider)
  }

  /** Stands in line; `call` comes once, when a place is held for the holder. Gives a way to leave the line. */
  wait(providers: readonly string[], model: string, holder: string, call: (provider: string) => void): () => void {
    const waiter = { providers, model, holder, call }
    for (const provider of providers) {
      const line = this.#lines.get(provider) ?? new Set()
      this.#lines.set(provider, line.add(waiter))
    }
    return () => this.#unqueue(waiter)
  }

  /** A submit was refused for its rate, and its holder still has its place: no more than the others until it goes well. */
  refused(provider: string, model: string, error: StepError, at: number): void {
    const key = gateKey(provider, model)
    this.#ceilings.set(key, Math.max(1, (this.#heldOf.get(key)?.size ?? 0) - 1))
    this.learn(provider, model, error, at)
  }

  /** Learns from the end of an attempt. `error` null: the provider did its part. */
  learn(provider: string, model: string, error: StepError | null, at: number): void {
    const key = gateKey(provider, model)
    if (error?.code === 'provider_rate_limited') {
      const until = at + (error.retryAfterMs ?? 0)
      this.#pausedUntil.set(provider, Math.max(until, this.#pausedUntil.get(provider) ?? 0))
      return
    }
    if (error === null) this.#raise(provider, key)
    const account = error?.code === 'insufficient_credit' || error?.code === 'provider_unauthorized'
    if (error === null || !(account || isFault(error))) {
      if (this.#gates.delete(key)) this.#serve(provider)
      return
    }
    const gate = this.#gates.get(key) ?? { faults: 0, openUntil: 0, pauseMs: FIRST_PAUSE_MS, probe: null }
    gate.faults = account ? FAULTS_TO_OPEN : gate.faults + 1
    if (gate.faults >= FAULTS_TO_OPEN && at >= gate.openUntil) {
      gate.openUntil = at + (account ? Math.max(ACCOUNT_PAUSE_MS, gate.pauseMs) : gate.pauseMs)
      gate.pauseMs = Math.min(LONGEST_PAUSE_MS, gate.pauseMs * 2)
    }
    this.#gates.set(key, gate)
  }

  /** Places held at one provider. */
  taken(provider: string): number {
    return this.#held.get(provider)?.size ?? 0
  }

  /** Places held per provider. */
  held(): Readonly<Record<string, number>> {
    return Object.fromEntries([...this.#held].map(([provider, places]) => [provider, places.size]))
  }

  /** Steps that wait for a place. */
  get waiting(): number {
    return new Set([...this.#lines.values()].flatMap(line => [...line])).size
  }

  /** Breakers that are not closed, by `provider/model`. */
  breakers(at: number): Readonly<Record<string, 'open' | 'half_open'>> {
    const shown = [...this.#gates].filter(([, gate]) => gate.faults >= FAULTS_TO_OPEN)
    return Object.fromEntries(shown.map(([key, gate]) => [key, gate.openUntil > at ? 'open' : 'half_open']))
  }

  /** A job went well: a model below its provider's places gets one more for each that it has. */
  #raise(provider: string, key: string): void {
    const ceiling = this.#ceilings.get(key)
    if (ceiling === undefined) return
    const raised = ceiling + 1 / ceiling
    if (raised >= this.#rules.concurrency(provider)) this.#ceilings.delete(key)
    else this.#ceilings.set(key, raised)
    this.#serve(provider)
  }

  /** Holds free places for those in line, as many as there are. */
  #serve(provider: string): void {
    if (this.#serving.has(provider)) return
    this.#serving.add(provider)
    try {
      for (let next = this.#nextInLine(provider); next !== null; next = this.#nextInLine(provider)) {
        this.#unqueue(next)
        this.enterToSubmit(provider, next.model, next.holder)
        next.call(provider)
      }
    } finally {
      this.#serving.delete(provider)
    }
  }

  /** The first in line who could go now. */
  #nextInLine(provider: string): Waiter | null {
    if (!this.#hasRoom(provider)) return null
    for (const waiter of this.#lines.get(provider) ?? []) {
      const { model, holder } = waiter
      if (!this.#isProbedByAnother(provider, model, holder) && this.#isFree(provider, model)) return waiter
    }
    return null
  }

  #isProbedByAnother(provider: string, model: string, holder: string): boolean {
    const probe = this.#gates.get(gateKey(provider, model))?.probe ?? null
    return probe !== null && probe !== holder
  }

  #unqueue(waiter: Waiter): void {
    for (const provider of waiter.providers) {
      const line = this.#lines.get(provider)
      line?.delete(waiter)
      if (line?.size === 0) this.#lines.delete(provider)
    }
  }

  #isFree(provider: string, model: string): boolean {
    const key = gateKey(provider, model)
    const ceiling = this.#ceilings.get(key)
    if (ceiling !== undefined && (this.#heldOf.get(key)?.size ?? 0) + 1 > ceiling) return false
    return this.#hasRoom(provider)
  }

  #hasRoom(provider: string): boolean {
    const submits = this.#submitting.get(provider)?.size ?? 0
    if (this.#shut || submits >= SUBMITS) return false
    return (this.#held.get(provider)?.size ?? 0) < this.#rules.concurrency(provider)
  }
}

function addTo(sets: Map<string, Set<string>>, key: string, value: string): void {
  sets.set(key, (sets.get(key) ?? new Set()).add(value))
}

function gateKey(provider: string, model: string): string {
  return `${provider}/${model}`
}

function isFault(error: StepError): boolean {
  return error.code === 'provider_overloaded' || error.code === 'network_error' || error.code === 'provider_error'
}
