/**
 * The actors of this process: the Engine that the rest of the house sees.
 *
 * 1. A run has at most one actor; whoever speaks to a run speaks to it.
 * 2. Memory is bounded by activity: an ended or long-waiting run has no actor.
 * 3. `start` gives an actor to every unfinished run; the sweeper gives one to every run that is due and has none.
 * 4. A word about an attempt that is over is followed up once, before it is answered: what comes late is kept and recorded.
 * 5. After `drain` began nothing new begins; commits and submits under way are waited for, everything else is left
 *    to the next start.
 */

import type { AttemptSignal, RunSignal } from '../core/events.ts'
import type { Json } from '../core/json.ts'
import { mayComeLate } from '../core/machine.ts'
import {
  type Clock,
  type Created,
  Draining,
  type Engine,
  type EngineStats,
  type NewRunOrder,
  StorageUnavailable,
  type Store,
} from '../core/ports.ts'
import { type Attempt, isEnded, type Run, type Step } from '../core/run.ts'
import { Actor, type ActorDeps } from './actor.ts'
import { lookLate } from './effects.ts'
import { OutputGate } from './output-gate.ts'
import { PictureRoom } from './picture-room.ts'

export type RegistryDeps = Omit<ActorDeps, 'idle' | 'lost' | 'room' | 'gate'>

/** A run that waits longer than this for its next time gives its actor up; the sweeper brings it back. */
const EVICT_AFTER_MS = 60_000
/** Runs taken up from the store at once: a large page would hold the loop, a small one the disk. */
const PAGE = 500
/** Runs taken up in one stretch. The store reads without a pause, and the first of many runs should not wait for the last. */
const TURN = 100

export class Registry implements Engine {
  /** One object for all actors: a hundred thousand copies would weigh. */
  readonly #deps: ActorDeps
  readonly #store: Store
  readonly #clock: Clock
  #actors = new Map<string, Actor>()
  #loading = new Map<string, Promise<Actor | null>>()
  /** Runs whose actor somebody is about to speak to. */
  #wanted = new Map<string, number>()
  #sweptAt: number
  /** Attempts that are over and are being looked at once more. */
  #late = new Map<string, Promise<void>>()
  readonly #stop = new AbortController()
  /** Runs that could not be taken up, and were told of once. */
  readonly #unreadable = new Set<string>()
  #draining = false

  constructor(deps: RegistryDeps) {
    this.#deps = {
      ...deps,
      room: new PictureRoom(() => Bun.gc(true)),
      gate: new OutputGate(deps),
      idle: (who, until) => this.#idle(who, until),
      lost: who => this.#lost(who),
    }
    this.#store = deps.store
    this.#clock = deps.clock
    this.#sweptAt = deps.clock.now()
    // Until the running jobs have taken their places again: a run that is created meanwhile stands in line.
    deps.capacity.shut()
  }

  async create(order: NewRunOrder): Promise<Created> {
    if (this.#draining) throw new Draining('the server is stopping')
    const { admission } = this.#deps
    const { run } = order
    admission.enter(run)
    const actor = new Actor(this.#deps, run)
    this.#actors.set(run.id, actor)
    let created: Created | null = null
    try {
      created = await actor.create(order)
      if (isEnded(actor.run)) admission.follow(actor.run)
      return created
    } finally {
      if (created?.type !== 'created') {
        this.#actors.delete(run.id)
        admission.leave(run)
      }
    }
  }

  async cancel(runId: string): Promise<Run | null> {
    const asked = await this.#ask(runId, { type: 'run.cancel_requested' })
    if (asked) return asked
    const run = await this.#store.run(runId)
    if (run && !isEnded(run)) throw new Draining('the server is stopping')
    return run
  }

  async hint(token: string, jobRef: Json | null): Promise<boolean> {
    const found = await this.#store.attemptByToken(token)
    if (!found) return false
    const { stepId, attemptNo: attempt } = found
    // A hint that brings a lost job home is answered for only when it is committed.
    const live = await this.#ask(found.runId, { type: 'job.hinted', stepId, attempt, jobRef })
    const run = live ?? (await this.#store.run(found.runId))
    if (run) await this.#hearLate(run, stepId, attempt, jobRef)
    return true
  }

  async #hearLate(run: Run, stepId: string, no: number, jobRef: Json): Promise<void> {
    const step = run.steps.find(each => each.id === stepId)
    const attempt = step && mayComeLate(step, no)
    const ref = attempt?.jobRef ?? jobRef
    if (!step || !attempt || ref === null || this.#draining) return
    const key = `${stepId}/${no}`
    const looking = this.#late.get(key) ?? this.#lookLate(run, step, attempt, ref)
    this.#late.set(key, looking)
    await looking.finally(() => this.#late.delete(key))
  }

  async #lookLate(run: Run, step: Step, attempt: Attempt, ref: Json): Promise<void> {
    const signal = await lookLate(this.#deps, run, step, attempt, ref, this.#stop.signal)
    if (signal) await this.#ask(run.id, signal, 'ended too')
  }

  async run(runId: string): Promise<Run | null> {
    return this.#actors.get(runId)?.run ?? this.#store.run(runId)
  }

  stats(apiKeyId?: string): EngineStats {
    const { capacity, gate } = this.#deps
    return {
      actors: this.#actors.size,
      inFlight: capacity.held(),
      breakers: capacity.breakers(this.#clock.now(), apiKeyId),
      waiting: capacity.waiting + gate.waiting,
      overdueAt: this.#overdueAt(),
      sweptAt: this.#sweptAt,
    }
  }

  /** A walk over all actors: a few milliseconds for 100,000. */
  #overdueAt(): number | null {
    const now = this.#clock.now()
    let earliest = now
    for (const { dueAt } of this.#actors.values()) if (dueAt !== null && dueAt < earliest) earliest = dueAt
    return earliest < now ? earliest : null
  }

  async start(): Promise<void> {
    this.#deps.gate.begin()
    try {
      await this.rehydrate(Number.MAX_SAFE_INTEGER)
    } finally {
      if (!this.#draining) this.#deps.capacity.open()
    }
  }

  /** Gives an actor to every unfinished run that is due by `until` and has none; gives how many. Who stands in line for what has lapsed goes on too. */
  async rehydrate(until: number): Promise<number> {
    const at = Math.min(until, this.#clock.now())
    this.#deps.capacity.lapse(at)
    let taken = 0
    let after: string | undefined
    for (;;) {
      const ids = await this.#store.due(until, PAGE, after)
      for (const id of ids) {
        if (this.#draining) return taken
        if (this.#actors.has(id)) continue
        if (await this.#takeUp(id)) taken += 1
        if (taken % TURN === TURN - 1) await new Promise<void>(resolve => setImmediate(resolve))
      }
      after = ids.at(-1)
      if (ids.length < PAGE) break
    }
    this.#sweptAt = at
    return taken
  }

  /** A run that cannot be read is a fault of its own, and keeps nobody else from going on. */
  async #takeUp(runId: string): Promise<boolean> {
    try {
      return (await this.#actor(runId)) !== null
    } catch (error) {
      if (error instanceof StorageUnavailable) throw error
      if (!this.#unreadable.has(runId)) this.#deps.observer.fault('rehydrate', error, { runId })
      this.#unreadable.add(runId)
      return false
    }
  }

  async drain(): Promise<void> {
    this.#draining = true
    // Who waits for a place stays in line, as it is stored: a submit that ends makes room for the next start.
    this.#deps.capacity.shut()
    this.#deps.room.shut()
    this.#deps.gate.stop()
    this.#stop.abort(new Error('stopping'))
    while ([...this.#actors.values()].some(actor => actor.mustFinish)) {
      await new Promise<void>(resolve => this.#clock.at(this.#clock.now() + 20, resolve))
    }
    for (const actor of this.#actors.values()) actor.stop()
    this.#actors.clear()
  }

  /** Speaks to the actor of a run, which stays until it has listened; null when there is none. */
  async #ask(runId: string, signal: RunSignal | AttemptSignal, which?: 'ended too'): Promise<Run | null> {
    this.#wanted.set(runId, (this.#wanted.get(runId) ?? 0) + 1)
    let answer: Promise<Run> | null = null
    try {
      const actor = (await this.#actor(runId)) ?? (which ? await this.#actorOfEnded(runId) : null)
      answer = actor?.ask({ ...signal, at: this.#clock.now(), jitter: this.#clock.random() }) ?? null
    } finally {
      const others = (this.#wanted.get(runId) ?? 1) - 1
      if (others > 0) this.#wanted.set(runId, others)
      else this.#wanted.delete(runId)
    }
    return answer
  }

  #spawn(run: Run): Actor {
    const actor = new Actor(this.#deps, run)
    this.#actors.set(run.id, actor)
    this.#deps.admission.follow(run)
    actor.begin()
    return actor
  }

  /** The actor of an unfinished run, taken up from the store if need be. */
  async #actor(runId: string): Promise<Actor | null> {
    const live = this.#actors.get(runId) ?? this.#loading.get(runId)
    if (live) return live
    const loading = this.#store.run(runId).then(run => {
      this.#loading.delete(runId)
      if (run && isEnded(run)) this.#deps.admission.follow(run)
      if (!run || isEnded(run) || this.#draining) return null
      return this.#actors.get(runId) ?? this.#spawn(run)
    })
    this.#loading.set(runId, loading)
    return loading.finally(() => this.#loading.delete(runId))
  }

  async #actorOfEnded(runId: string): Promise<Actor | null> {
    const run = await this.#store.run(runId)
    if (!run || this.#draining) return null
    return this.#actors.get(runId) ?? this.#spawn(run)
  }

  #idle(actor: Actor, until: number | null): void {
    if (this.#wanted.has(actor.run.id)) return
    const waitsLong = until !== null && until - this.#clock.now() > EVICT_AFTER_MS
    if (!isEnded(actor.run) && !waitsLong) return
    // The sweeper finds it by its stored wake time, so that must be the true one.
    if (!isEnded(actor.run) && actor.isAhead) actor.save()
    else this.#evict(actor)
  }

  #evict(actor: Actor): void {
    if (this.#actors.get(actor.run.id) !== actor) return
    this.#actors.delete(actor.run.id)
    actor.stop()
  }

  /** The actor broke or the store knows better: forget it and take the run up again as it is stored. */
  #lost(actor: Actor): void {
    this.#evict(actor)
    this.#clock.at(this.#clock.now() + 1_000, () => {
      this.#actor(actor.run.id).catch(error => this.#deps.observer.fault('rehydrate', error, { runId: actor.run.id }))
    })
  }
}
