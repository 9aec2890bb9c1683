/**
 * What every provider can take now: places, rate hints, and a breaker per provider and model.
 *
 * 1. A place is held by a step from its routing until its job has ended, with or without a live actor; a step without
 *    a place burns no attempt. At most SUBMITS of the holders are submitting.
 * 2. Who waits for a place is served in the order of asking: a freed place is held for the next in line, and nobody
 *    overtakes those in line who could go.
 * 3. A breaker opens after several faults in a row; after its pause exactly one probe goes through.
 * 4. A model that was refused for its rate has as many places as it then held: one more for every round that goes well,
 *    and all of them when it was not refused for some minutes. Its line stands still for a moment, ever longer.
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
/** What the refusals of a model taught: its places, the time of the last one, and the pause of its line. */
type Refusals = { places: number; at: number; pauseMs: number; pausedUntil: number }
/** `no` counts who asked. */
type Waiter = {
  no: number
  providers: readonly string[]
  model: string
  holder: string
  call: (provider: string) => void
}

/** Faults in a row that open a breaker: fewer would open on bad luck, more would cost every run an attempt. */
const FAULTS_TO_OPEN = 5
const FIRST_PAUSE_MS = 15_000
const LONGEST_PAUSE_MS = 5 * 60_000
/** Credit and keys do not mend themselves in seconds. */
const ACCOUNT_PAUSE_MS = 60_000
/** Longer than most jobs take: until then those that end tell how many places there are. */
const LAPSE_MS = 5 * 60_000
/** A refusal that names no time: soon again if a place was missing, and rates are counted by the minute. */
const REFUSED_PAUSE_MS = { first: 1_000, last: 60_000 }
/**
 * Submits under way at one provider, from their intent to the job's id: after a power cut nobody can say what became of
 * these. Half of them fill the connections that one provider may have; the others are being written down.
 */
const SUBMITS = 64

export class Capacity {
  #held = new Map<string, Set<string>>()
  /** The same by `provider/model`. */
  #heldOf = new Map<string, Set<string>>()
  /** Models whose provider refused more, by `provider/model`. */
  #refusals = new Map<string, Refusals>()
  /** Holders whose submit is under way, or about to be. */
  #submitting = new Map<string, Set<string>>()
  #gates = new Map<string, Gate>()
  #pausedUntil = new Map<string, number>()
  /** By provider, then by model: a long line of one model costs the others nothing. */
  #lines = new Map<string, Map<string, Set<Waiter>>>()
  #asked = 0
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
    if (!this.#isFree(provider, model) || this.#lines.get(provider)?.has(model)) return false
    return this.#nextInLine(provider) === null
  }

  /** When the way there opens: the latest of a rate limit, a refusal's pause and an open breaker; null when it is open. */
  closedUntil(provider: string, model: string, at: number): number | null {
    const key = gateKey(provider, model)
    const until = Math.max(
      this.#pausedUntil.get(provider) ?? 0,
      this.#refused(key, at)?.pausedUntil ?? 0,
      this.#gates.get(key)?.openUntil ?? 0,
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
    this.#asked += 1
    const waiter = { no: this.#asked, providers, model, holder, call }
    for (const provider of providers) {
      const lines = this.#lines.get(provider) ?? new Map<string, Set<Waiter>>()
      lines.set(model, (lines.get(model) ?? new Set()).add(waiter))
      this.#lines.set(provider, lines)
    }
    return () => this.#unqueue(waiter)
  }

  /**
   * A submit was refused for its rate, and its holder still has its place: no more than the others until it goes well.
   * Gives the time when the line is to be resumed, if this refusal halts it.
   */
  refused(provider: string, model: string, error: StepError, at: number): number | null {
    const key = gateKey(provider, model)
    const places = Math.max(1, (this.#heldOf.get(key)?.size ?? 0) - 1)
    const { pauseMs = 0, pausedUntil = 0 } = this.#refused(key, at) ?? {}
    // Those that were on their way are one refusal with the first.
    const halts = error.retryAfterMs === undefined && at >= pausedUntil
    const nextMs = Math.min(REFUSED_PAUSE_MS.last, Math.max(REFUSED_PAUSE_MS.first, pauseMs * 2))
    const pause = halts ? { pauseMs: nextMs, pausedUntil: at + nextMs } : { pauseMs, pausedUntil }
    this.#refusals.set(key, { places, at, ...pause })
    this.learn(provider, model, error, at)
    return halts ? at + nextMs : null
  }

  /** The pause after a refusal is over. */
  resume(provider: string, model: string, at: number): void {
    const known = this.#refusals.get(gateKey(provider, model))
    if (known && known.pausedUntil <= at) known.pausedUntil = 0
    this.#serve(provider)
  }

  /** Learns from the end of an attempt. `error` null: the provider did its part. */
  learn(provider: string, model: string, error: StepError | null, at: number): void {
    const key = gateKey(provider, model)
    if (error?.code === 'provider_rate_limited') {
      const until = at + (error.retryAfterMs ?? 0)
      this.#pausedUntil.set(provider, Math.max(until, this.#pausedUntil.get(provider) ?? 0))
      return
    }
    if (error === null) this.#raise(provider, key, at)
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
    return new Set([...this.#lines.values()].flatMap(lines => [...lines.values()].flatMap(line => [...line]))).size
  }

  /** Breakers that are not closed, by `provider/model`. */
  breakers(at: number): Readonly<Record<string, 'open' | 'half_open'>> {
    const shown = [...this.#gates].filter(([, gate]) => gate.faults >= FAULTS_TO_OPEN)
    return Object.fromEntries(shown.map(([key, gate]) => [key, gate.openUntil > at ? 'open' : 'half_open']))
  }

  /** What is known of a model's refusals; nothing when the last one is long ago. */
  #refused(key: string, at: number): Refusals | undefined {
    const known = this.#refusals.get(key)
    if (known && at - known.at < LAPSE_MS) return known
    this.#refusals.delete(key)
    return undefined
  }

  /** A job went well: a model below its provider's places gets one more for each that it has. */
  #raise(provider: string, key: string, at: number): void {
    if (!this.#refusals.has(key)) return
    const known = this.#refused(key, at)
    if (known) {
      known.places += 1 / known.places
      known.pauseMs = 0
      if (known.places >= this.#rules.concurrency(provider)) this.#refusals.delete(key)
    }
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
    let first: Waiter | null = null
    for (const [model, [head]] of this.#lines.get(provider) ?? []) {
      if (!head || (first && first.no < head.no) || this.#refusals.get(gateKey(provider, model))?.pausedUntil) continue
      if (!this.#isProbedByAnother(provider, model, head.holder) && this.#isFree(provider, model)) first = head
    }
    return first
  }

  #isProbedByAnother(provider: string, model: string, holder: string): boolean {
    const probe = this.#gates.get(gateKey(provider, model))?.probe ?? null
    return probe !== null && probe !== holder
  }

  #unqueue(waiter: Waiter): void {
    for (const provider of waiter.providers) {
      const lines = this.#lines.get(provider)
      const line = lines?.get(waiter.model)
      line?.delete(waiter)
      if (line?.size === 0) lines?.delete(waiter.model)
      if (lines?.size === 0) this.#lines.delete(provider)
    }
  }

  #isFree(provider: string, model: string): boolean {
    const key = gateKey(provider, model)
    const places = this.#refusals.get(key)?.places ?? Number.POSITIVE_INFINITY
    if ((this.#heldOf.get(key)?.size ?? 0) + 1 > places) return false
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
