/**
 * What every provider can take now: places, rate hints, and a breaker per provider and model.
 *
 * 1. A place is held by a step from its routing until its job has ended, with or without a live actor; a step without
 *    a place burns no attempt.
 *    At most SUBMITS of the holders are submitting.
 * 2. Who waits for a place is served in the order of asking: a freed place is held for the next in line, and nobody
 *    overtakes the line.
 * 3. A breaker opens after several faults in a row; after its pause exactly one probe goes through.
 * 4. All of this is memory: at a start nobody new gets a place until the running jobs have taken theirs again, and
 *    breakers begin closed.
 */
import type { StepError } from '../core/errors.ts'

export interface CapacityRules {
  /** Jobs at once per provider. */
  concurrency: (provider: string) => number
}

type Gate = { faults: number; openUntil: number; pauseMs: number; probing: boolean }
type Waiter = { providers: readonly string[]; holder: string; call: (provider: string) => void }

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
  /** Holders whose submit is under way, or about to be. */
  #submitting = new Map<string, Set<string>>()
  #gates = new Map<string, Gate>()
  #pausedUntil = new Map<string, number>()
  #lines = new Map<string, Set<Waiter>>()
  #shut = false
  readonly #rules: CapacityRules

  constructor(rules: CapacityRules) {
    this.#rules = rules
  }

  /** Gives no place to anybody new: running jobs take theirs again first. */
  shut(): void {
    this.#shut = true
  }

  /** Serves those who stood in line meanwhile. */
  open(): void {
    this.#shut = false
    for (const provider of [...this.#lines.keys()]) while (this.#serve(provider));
  }

  /** Whether `holder` may start a job there now: it has a place, or there is one and nobody stands in line. */
  hasPlace(provider: string, model: string, holder: string): boolean {
    if (this.#gates.get(gateKey(provider, model))?.probing) return false
    if (this.#held.get(provider)?.has(holder)) return true
    return !this.#lines.get(provider)?.size && this.#isFree(provider)
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
    const places = this.#held.get(provider) ?? new Set()
    this.#held.set(provider, places.add(holder))
    this.#submitting.get(provider)?.delete(holder)
    const gate = this.#gates.get(gateKey(provider, model))
    if (gate && gate.faults >= FAULTS_TO_OPEN) gate.probing = true
  }

  /** Takes a place to submit a job now. */
  enterToSubmit(provider: string, model: string, holder: string): void {
    this.enter(provider, model, holder)
    this.#beginSubmit(provider, holder)
  }

  /** The submit is over, whatever came of it; the job keeps its place. */
  submitted(provider: string, holder: string): void {
    if (this.#submitting.get(provider)?.delete(holder)) this.#serve(provider)
  }

  /** Gives a place back, and the next in line gets it. */
  leave(provider: string, model: string, holder: string): void {
    const gate = this.#gates.get(gateKey(provider, model))
    if (gate) gate.probing = false
    this.#submitting.get(provider)?.delete(holder)
    if (this.#held.get(provider)?.delete(holder)) this.#serve(provider)
  }

  /** Stands in line; `call` comes once, when a place is held for the holder. Gives a way to leave the line. */
  wait(providers: readonly string[], holder: string, call: (provider: string) => void): () => void {
    const waiter = { providers, holder, call }
    for (const provider of providers) {
      const line = this.#lines.get(provider) ?? new Set()
      this.#lines.set(provider, line.add(waiter))
    }
    return () => this.#unqueue(waiter)
  }

  /** Learns from the end of an attempt. `error` null: the provider did its part. */
  learn(provider: string, model: string, error: StepError | null, at: number): void {
    const key = gateKey(provider, model)
    if (error?.code === 'provider_rate_limited') {
      if (error.retryAfterMs) this.#pausedUntil.set(provider, at + error.retryAfterMs)
      return
    }
    const account = error?.code === 'insufficient_credit' || error?.code === 'provider_unauthorized'
    if (error === null || !(account || isFault(error))) {
      this.#gates.delete(key)
      return
    }
    const gate = this.#gates.get(key) ?? { faults: 0, openUntil: 0, pauseMs: FIRST_PAUSE_MS, probing: false }
    gate.faults = account ? FAULTS_TO_OPEN : gate.faults + 1
    gate.probing = false
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

  /** Holds a free place for the next in line; false when there is none or nobody waits. */
  #serve(provider: string): boolean {
    const [next] = this.#lines.get(provider) ?? []
    if (!next || !this.#isFree(provider)) return false
    this.#unqueue(next)
    const places = this.#held.get(provider) ?? new Set()
    this.#held.set(provider, places.add(next.holder))
    this.#beginSubmit(provider, next.holder)
    next.call(provider)
    return true
  }

  #unqueue(waiter: Waiter): void {
    for (const provider of waiter.providers) {
      const line = this.#lines.get(provider)
      line?.delete(waiter)
      if (line?.size === 0) this.#lines.delete(provider)
    }
  }

  #beginSubmit(provider: string, holder: string): void {
    const under = this.#submitting.get(provider) ?? new Set()
    this.#submitting.set(provider, under.add(holder))
  }

  #isFree(provider: string): boolean {
    const submits = this.#submitting.get(provider)?.size ?? 0
    if (submits >= SUBMITS) return false
    return !this.#shut && (this.#held.get(provider)?.size ?? 0) < this.#rules.concurrency(provider)
  }
}

function gateKey(provider: string, model: string): string {
  return `${provider}/${model}`
}

function isFault(error: StepError): boolean {
  return error.code === 'provider_overloaded' || error.code === 'network_error' || error.code === 'provider_error'
}
