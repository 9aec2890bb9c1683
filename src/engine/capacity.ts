/**
 * What every provider can take now: places, rate hints, and breakers.
 *
 * 1. A place is held by a step from its routing until its job has ended, with or without a live actor; a step without
 *    a place burns no attempt. At most SUBMITS of the holders are submitting.
 * 2. Who waits for a place is served in the order of asking: a freed place is held for the next in line, and nobody
 *    overtakes those in line who could go.
 * 3. Nobody in line goes where a pause was asked for, or where a breaker is open or its probe is out; the steps of other keys
 *    do not wait for the latter.
 * 4. A model that was refused for its rate has as many places as it then held: one more for every round that goes well,
 *    and all of them when it was not refused for some minutes. Its line stands still for a moment, ever longer.
 * 5. All of this is memory: at a start nobody new gets a place until the running jobs have taken theirs again, and
 *    breakers begin closed.
 */
import type { StepError } from '../core/errors.ts'
import { Breakers, isFault, isSilent, type Way } from './breakers.ts'
import { Line } from './line.ts'

export interface CapacityRules {
  /** Jobs at once per provider. */
  concurrency: (provider: string) => number
}

/** What the refusals of a model taught: its places, the time of the last one, and the pause of its line. */
type Refusals = { places: number; at: number; pauseMs: number; pausedUntil: number }
/** `no` is the turn. */
type Waiter = {
  no: number
  providers: readonly string[]
  way: Omit<Way, 'provider'>
  holder: string
  call: (provider: string) => void
}

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
  readonly #breakers = new Breakers()
  /** Providers that asked for a pause. Their lines stand still until they are resumed. */
  #pausedUntil = new Map<string, number>()
  /** By provider, then by model and API key: a long line costs the others nothing. */
  #lines = new Map<string, Map<string, Line<Waiter>>>()
  readonly #waiters = new Set<Waiter>()
  /** The turns of holders that asked, until they have what they asked for. */
  readonly #turns = new Map<string, number>()
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
    this.#serveAll()
  }

  /**
   * Forgets the refusals of long ago, and pauses whose end a leaping clock has passed by, and serves who stands in line for
   * them: no job may hold it until its own end.
   */
  lapse(at: number): void {
    const known = this.#refusals.size + this.#pausedUntil.size
    for (const key of this.#refusals.keys()) this.#refused(key, at)
    for (const [provider, until] of this.#pausedUntil) if (until <= at) this.#pausedUntil.delete(provider)
    if (this.#refusals.size + this.#pausedUntil.size < known) this.#serveAll()
  }

  /** Whether `holder` may start a job there now: it has a place, or there is one and nobody in line could take it. */
  hasPlace(way: Way, holder: string): boolean {
    const { provider } = way
    if (this.#shut || this.#breakers.isKeptFrom(way, holder)) return false
    if (this.holds(provider, holder)) return true
    if (!this.#isFree(way) || this.#lines.get(provider)?.has(lineOf(way))) return false
    return this.#nextInLine(provider) === null
  }

  /** Whether `holder` has a place there: it was served in the line, or its job is under way. */
  holds(provider: string, holder: string): boolean {
    return this.#held.get(provider)?.has(holder) ?? false
  }

  /** When the way there opens: the latest of a rate limit, a refusal's pause and an open breaker; null when it is open. */
  closedUntil(way: Way, at: number): number | null {
    const until = Math.max(
      this.#pausedUntil.get(way.provider) ?? 0,
      this.#refused(placeKey(way), at)?.pausedUntil ?? 0,
      this.#breakers.openUntil(way),
    )
    return until > at ? until : null
  }

  /** Whether it is failures that close the way, and no rate limit. */
  isLeftAlone(way: Way, at: number): boolean {
    return this.#breakers.openUntil(way) > at
  }

  /** Takes a place; the same holder twice is once. After a start, jobs that run already take theirs beyond the limit. */
  enter(way: Way, holder: string): void {
    addTo(this.#held, way.provider, holder)
    addTo(this.#heldOf, placeKey(way), holder)
    this.#submitting.get(way.provider)?.delete(holder)
  }

  /** Takes a place to submit a job now; where a breaker is open, as its probe. */
  enterToSubmit(way: Way, holder: string): void {
    this.enter(way, holder)
    addTo(this.#submitting, way.provider, holder)
    this.#breakers.begin(way, holder)
  }

  /** The submit is over, whatever came of it; the job keeps its place. */
  submitted(provider: string, holder: string): void {
    if (this.#submitting.get(provider)?.delete(holder)) this.#serve(provider)
  }

  /**
   * The answer to the submit is lost, and the job, if there is one, keeps its place. Gives the time when the line is to be
   * resumed, if that was a breaker's probe.
   */
  lost(way: Way, holder: string, at: number): number | null {
    return this.#breakers.lose(way, holder, at)
  }

  /** The provider took a job: the way is open, whatever becomes of that. */
  took(way: Way): void {
    if (this.#breakers.close(way)) this.#serve(way.provider)
  }

  /** Gives a place back, and the next in line gets it. What is to be learned from its attempt was told before. */
  leave(way: Way, holder: string): void {
    const { provider } = way
    this.#breakers.end(way, holder)
    this.#submitting.get(provider)?.delete(holder)
    this.#heldOf.get(placeKey(way))?.delete(holder)
    if (this.#held.get(provider)?.delete(holder)) this.#serve(provider)
  }

  /**
   * Stands in line; `call` comes once, when a place is held for the holder. Gives a way to leave the line. Who left it, or was
   * served and turned away, comes back to its turn, until that is forgotten.
   */
  wait(
    providers: readonly string[],
    way: Omit<Way, 'provider'>,
    holder: string,
    call: (provider: string) => void,
  ): () => void {
    this.#asked += 1
    const no = this.#turns.get(holder) ?? this.#asked
    this.#turns.set(holder, no)
    const waiter = { no, providers, way, holder, call }
    this.#waiters.add(waiter)
    for (const provider of providers) {
      const lines = this.#lines.get(provider) ?? new Map<string, Line<Waiter>>()
      const line = lines.get(lineOf(way)) ?? new Line<Waiter>()
      line.add(waiter)
      this.#lines.set(provider, lines.set(lineOf(way), line))
    }
    return () => this.#unqueue(waiter)
  }

  /** A provider has taken the job of the holder, or none is to: its turn is over. */
  forget(holder: string): void {
    this.#turns.delete(holder)
  }

  /**
   * A submit was refused for its rate, and its holder still has its place: no more than the others until it goes well.
   * Gives the time when the line is to be resumed, if this refusal halts it.
   */
  refused(way: Way, error: StepError, at: number): number | null {
    const key = placeKey(way)
    const places = Math.max(1, (this.#heldOf.get(key)?.size ?? 0) - 1)
    const { pauseMs = 0, pausedUntil = 0 } = this.#refused(key, at) ?? {}
    // Those that were on their way are one refusal with the first.
    const halts = error.retryAfterMs === undefined && at >= pausedUntil
    const nextMs = Math.min(REFUSED_PAUSE_MS.last, Math.max(REFUSED_PAUSE_MS.first, pauseMs * 2))
    const pause = halts ? { pauseMs: nextMs, pausedUntil: at + nextMs } : { pauseMs, pausedUntil }
    this.#refusals.set(key, { places, at, ...pause })
    const pausedTo = this.#pause(way.provider, error, at)
    return halts ? at + nextMs : pausedTo
  }

  /** The pause after a refusal or of a breaker is over. */
  resume(way: Way, at: number): void {
    const known = this.#refusals.get(placeKey(way))
    if (known && known.pausedUntil <= at) known.pausedUntil = 0
    if ((this.#pausedUntil.get(way.provider) ?? 0) <= at) this.#pausedUntil.delete(way.provider)
    this.#breakers.resume(way, at)
    this.#serve(way.provider)
  }

  /**
   * Learns from the end of an attempt of `holder`. `error` null: the provider did its part. Gives the time when the line is to
   * be resumed, if this opens a breaker or is a rate limit that names one.
   */
  learn(way: Way, holder: string, error: StepError | null, at: number): number | null {
    if (error?.code === 'provider_rate_limited') return this.#pause(way.provider, error, at)
    if (error && isFault(error)) return this.#breakers.fail(way, holder, error, at)
    if (error === null) this.#raise(way, at)
    if (!error || !isSilent(error)) this.took(way)
    return null
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
    return this.#waiters.size
  }

  /** Breakers that are not closed, by `provider/model`: those of a key, or of any. */
  breakers(at: number, apiKeyId?: string): Readonly<Record<string, 'open' | 'half_open'>> {
    return this.#breakers.shown(at, apiKeyId)
  }

  /** Gives the end of the pause that was asked for; null when there is none, or a longer one. */
  #pause(provider: string, { retryAfterMs = 0 }: StepError, at: number): number | null {
    const until = at + retryAfterMs
    if (until <= Math.max(at, this.#pausedUntil.get(provider) ?? 0)) return null
    this.#pausedUntil.set(provider, until)
    return until
  }

  /** What is known of a model's refusals; nothing when the last one is long ago. */
  #refused(key: string, at: number): Refusals | undefined {
    const known = this.#refusals.get(key)
    if (known && at - known.at < LAPSE_MS) return known
    this.#refusals.delete(key)
    return undefined
  }

  /** A job went well: a model below its provider's places gets one more for each that it has. */
  #raise(way: Way, at: number): void {
    const { provider } = way
    const key = placeKey(way)
    if (!this.#refusals.has(key)) return
    const known = this.#refused(key, at)
    if (known) {
      known.places += 1 / known.places
      known.pauseMs = 0
      if (known.places >= this.#rules.concurrency(provider)) this.#refusals.delete(key)
    }
    this.#serve(provider)
  }

  #serveAll(): void {
    for (const provider of [...this.#lines.keys()]) this.#serve(provider)
  }

  /** Holds free places for those in line, as many as there are. */
  #serve(provider: string): void {
    if (this.#serving.has(provider)) return
    this.#serving.add(provider)
    try {
      for (let next = this.#nextInLine(provider); next !== null; next = this.#nextInLine(provider)) {
        this.#unqueue(next)
        this.enterToSubmit({ ...next.way, provider }, next.holder)
        next.call(provider)
      }
    } finally {
      this.#serving.delete(provider)
    }
  }

  /** The first in line who could go now. */
  #nextInLine(provider: string): Waiter | null {
    if (!this.#hasRoom(provider) || this.#pausedUntil.has(provider)) return null
    let first: Waiter | null = null
    for (const line of this.#lines.get(provider)?.values() ?? []) {
      const head = line.first
      if (!head || (first && first.no < head.no)) continue
      const way = { ...head.way, provider }
      if (this.#refusals.get(placeKey(way))?.pausedUntil || !this.#isFree(way)) continue
      const next = this.#breakers.next(way, line)
      if (next && (!first || next.no < first.no)) first = next
    }
    return first
  }

  #unqueue(waiter: Waiter): void {
    this.#waiters.delete(waiter)
    for (const provider of waiter.providers) {
      const lines = this.#lines.get(provider)
      const line = lines?.get(lineOf(waiter.way))
      line?.delete(waiter)
      if (line?.size === 0) lines?.delete(lineOf(waiter.way))
      if (lines?.size === 0) this.#lines.delete(provider)
    }
  }

  #isFree(way: Way): boolean {
    const key = placeKey(way)
    const places = this.#refusals.get(key)?.places ?? Number.POSITIVE_INFINITY
    if ((this.#heldOf.get(key)?.size ?? 0) + 1 > places) return false
    return this.#hasRoom(way.provider)
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

function placeKey({ provider, model }: Way): string {
  return `${provider}/${model}`
}

function lineOf({ model, apiKeyId }: Omit<Way, 'provider'>): string {
  return `${model} ${apiKeyId}`
}
