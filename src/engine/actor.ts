/**
 * One live run. Its order, always: transition → commit → publish → effects.
 *
 * 1. Serial: one batch of mail at a time; nobody else writes this run. A new run is created by its actor, together with
 *    the first steps' intents.
 * 2. All mail that has come while a commit was under way goes into the next commit.
 * 3. No effect starts before the commit of the transition that ordered it.
 * 4. While storage is unavailable, what happened is kept and committed later; a caller's wish is refused instead.
 * 5. One timer, at the earliest time that the run waits for; one effect of a kind per attempt at a time.
 */

import type { Lease, NewDelivery } from '../core/delivery.ts'
import type { Effect, Event } from '../core/events.ts'
import { resume, timerAt, transition, wakeAt } from '../core/machine.ts'
import {
  type Clock,
  type CreateCommit,
  type Created,
  Draining,
  type NewRunOrder,
  type Observer,
  RevisionConflict,
  StorageUnavailable,
  type Store,
} from '../core/ports.ts'
import { isEnded, type Run, type RunEvent } from '../core/run.ts'
import type { Capacity } from './capacity.ts'
import { type EffectDeps, perform, type Reaching } from './effects.ts'
import type { OutputGate } from './output-gate.ts'
import { Places, type PlacesDeps } from './places.ts'
import { type RouterDeps, type Routing, routeStep } from './router.ts'

export interface ActorDeps extends EffectDeps, RouterDeps, PlacesDeps {
  store: Store
  clock: Clock
  capacity: Capacity
  gate: OutputGate
  observer: Observer
  /** The delivery of an ended run, or null. */
  compose(run: Run, at: number): NewDelivery | null
  post: Post
  /** The actor has nothing in flight and waits for nothing before `until` (null: never again). */
  idle(actor: Actor, until: number | null): void
  /** The stored run is not the one that this actor holds. */
  lost(actor: Actor): void
}

/** Whoever sends the callbacks of runs that have ended. */
export interface Post {
  /** Takes a place for a delivery that is about to be committed; null when it must wait its turn. */
  book(delivery: NewDelivery): Lease | null
  /** It is committed, with the lease. */
  committed(delivery: NewDelivery, lease: Lease | null): void
  /** It was not committed: the place is free again. */
  forgo(delivery: NewDelivery): void
}

/** A caller's wish is answered; what happened is not. */
interface Mail {
  event: Event
  reply?: { resolve(run: Run): void; reject(error: unknown): void }
}
/** A run that is not stored yet, and who waits for that. */
interface Birth {
  order: NewRunOrder
  resolve(created: Created): void
  reject(error: unknown): void
}

/** How long a write that storage refused waits at first: soon enough to go on at once. */
const STORAGE_RETRY_MS = 500
/** And at most: thousands of runs that try in vain must not keep an ill disk busy. */
const LONGEST_STORAGE_RETRY_MS = 15_000
/** A write that fails for another reason is a fault of ours, which time alone will not mend: it waits ever longer. */
const LONGEST_RETRY_MS = 60_000

export class Actor {
  run: Run
  readonly #deps: ActorDeps
  #mail: Mail[] = []
  /** The mail of the commit under way. */
  #batch: Mail[] = []
  /** Steps to route in the next batch. */
  #routes = new Set<string>()
  #dirty = new Set<string>()
  /** Log lines of changes that ride on the next commit. */
  #unsaved: readonly RunEvent[] = []
  #birth: Birth | null = null
  #inFlight = new Set<string>()
  readonly #places: Places
  /** Where steps stand in line, and how they leave it. */
  #lines = new Map<string, Standing>()
  #stop = new AbortController()
  #disarm: (() => void) | null = null
  #dueAt: number | null = null
  #busy = false
  #saving = false
  /** Commits in a row that failed. */
  #failures = 0
  /** Ends the pause after a failed commit. */
  #hurry: (() => void) | null = null
  #stopped = false

  constructor(deps: ActorDeps, run: Run) {
    this.#deps = deps
    this.#places = new Places(deps)
    this.run = run
  }

  /** Begins a new run: its first commit creates it, with the routes of its first steps. Unless it says `created`, nothing was begun. */
  create(order: NewRunOrder): Promise<Created> {
    const { promise, resolve, reject } = Promise.withResolvers<Created>()
    this.#birth = { order, resolve, reject }
    this.#places.takeUp(this.run)
    this.#order(resume(this.run))
    this.#turn()
    return promise
  }

  /** Takes up a run as it stands: its places, and everything that must be in flight. */
  begin(): void {
    this.#places.takeUp(this.run)
    this.#order(resume(this.run))
    this.#turn()
  }

  /** Resolves with the run after the commit; rejects when storage does not take it now. */
  ask(event: Event): Promise<Run> {
    if (this.#stopped) return Promise.reject(new Draining('the run has no actor now'))
    const { promise, resolve, reject } = Promise.withResolvers<Run>()
    this.#mail.push({ event, reply: { resolve, reject } })
    // A caller who waits is told at once whether storage takes it now.
    this.#hurry?.()
    this.#turn()
    return promise
  }

  tell(event: Event): void {
    this.#mail.push({ event })
    this.#turn()
  }

  /** Stops without another commit; whoever takes the run up next goes on from the store. Places stay taken: the jobs run on. */
  stop(): void {
    this.#stopped = true
    this.#disarm?.()
    this.#stop.abort(new Error('stopping'))
    for (const { leave } of this.#lines.values()) leave()
    for (const { reply } of [...this.#batch, ...this.#mail]) reply?.reject(new Draining('the run has no actor now'))
  }

  /**
   * When this run should go on (ms since the epoch); null when it waits for answers only. It is past when the timer is
   * late, or since storage refused what has happened.
   */
  get dueAt(): number | null {
    return this.#dueAt
  }

  /** True when the store does not yet know the run's latest times. */
  get isAhead(): boolean {
    return this.#dirty.size > 0
  }

  /** Commits what a crash was allowed to forget, before the actor is given up. */
  save(): void {
    this.#saving = true
    this.#turn()
  }

  /** True while a submit or a commit is under way: a stop must wait for it. */
  get mustFinish(): boolean {
    return this.#busy || [...this.#inFlight].some(key => key.startsWith('submit'))
  }

  #turn(): void {
    if (this.#busy || this.#stopped) return
    if (this.#mail.length === 0 && this.#routes.size === 0 && !this.#saving && !this.#birth) {
      this.#rest()
      return
    }
    this.#busy = true
    this.#work().then(
      () => {
        this.#busy = false
        this.#turn()
      },
      error => {
        this.#busy = false
        if (this.#birth) {
          this.#birth.reject(error)
          this.#miscarry()
          return
        }
        this.#deps.observer.fault('actor', error, { runId: this.run.id })
        // Out of every line first: a place that is given back must not serve this actor's next step.
        this.stop()
        this.#places.abandon()
        this.#deps.lost(this)
      },
    )
  }

  /** One batch: every waiting event, and the routes that follow from them, in one commit. */
  async #work(): Promise<void> {
    const mail = this.#mail.splice(0)
    this.#batch = mail
    const before = this.run
    const batch: Batch = { run: before, effects: [], events: [...this.#unsaved], durable: this.#birth !== null }
    for (const { event } of mail) this.#apply(batch, event)
    this.#places.settle(before, batch.run)
    for (const stepId of this.#routes) {
      this.#route(batch, mail, stepId)
      this.#deps.admission.answered(batch.run, stepId)
    }
    this.#routes.clear()
    if (this.#saving && !batch.durable)
      Object.assign(batch, { run: { ...batch.run, revision: batch.run.revision + 1 }, durable: true })
    if (batch.durable && !(await this.#commit(before, batch, mail))) return
    this.#batch = []
    this.#unsaved = batch.durable ? [] : batch.events
    this.run = batch.run
    for (const { id, status } of batch.run.steps) {
      if (status === 'queued' || status === 'waiting') continue
      this.#leaveLine(id)
      if (status !== 'submitting') this.#deps.capacity.forget(id)
    }
    this.#places.follow(before, batch.run)
    for (const { reply } of mail) reply?.resolve(this.run)
    this.#order(batch.effects)
  }

  #apply(batch: Batch, event: Event): void {
    const next = transition(batch.run, event)
    batch.run = next.run
    batch.durable ||= next.durable
    batch.events.push(...next.events)
    for (const id of next.changed) this.#dirty.add(id)
    if (event.type === 'step.submit_refused' && event.error.code === 'provider_rate_limited')
      if (next.changed.includes(event.stepId)) this.#places.refused(event.stepId, event.attempt, event.error)
    for (const effect of next.effects) {
      if (effect.type === 'route') this.#routes.add(effect.stepId)
      else batch.effects.push(effect)
    }
  }

  /** Answers a `route` in place; what the router decided joins the batch as a fact. */
  #route(batch: Batch, mail: Mail[], stepId: string): void {
    const step = batch.run.steps.find(each => each.id === stepId)
    const open = step && (step.status === 'queued' || step.status === 'waiting')
    const routing = open ? routeStep(this.#deps, batch.run, step) : null
    const place = routing && 'place' in routing ? routing.place : null
    this.#places.release(stepId, step, place)
    if (routing && 'queue' in routing) {
      this.#queue(routing, stepId, step?.model ?? '')
      return
    }
    const stands = this.#lines.get(stepId)
    if (stands && routing?.event.type === 'step.deferred') {
      // It keeps its turn, and asks again then; a line that stands still goes on as soon.
      stands.until = routing.event.until
      return
    }
    this.#leaveLine(stepId)
    if (!routing) return
    if (place) this.#places.hold(stepId, place)
    mail.push({ event: routing.event })
    this.#apply(batch, routing.event)
    const after = batch.run.steps.find(each => each.id === stepId)
    // The run's own limit refused it: nothing is spent.
    if (routing.booking && after?.status !== 'submitting') this.#deps.budget.settle(routing.booking, 0)
  }

  /** Stands in line; a step that asks again keeps its turn, also where other providers are open now. */
  #queue(routing: Queueing, stepId: string, model: string): void {
    const at = typeof routing.queue === 'string' ? routing.queue : `at ${routing.queue.join(' ')}`
    const until = 'until' in routing ? routing.until : null
    const stands = this.#lines.get(stepId)
    if (stands?.at === at) {
      stands.until = until
      return
    }
    this.#leaveLine(stepId)
    const again = (): void => {
      this.#lines.delete(stepId)
      this.#routes.add(stepId)
      this.#turn()
    }
    const { admission, capacity, gate } = this.#deps
    const way = { model, apiKeyId: this.run.apiKeyId }
    const placed = (provider: string): void => {
      this.#places.hold(stepId, { provider, ...way })
      again()
    }
    const leave =
      routing.queue === 'storage'
        ? gate.wait(again)
        : routing.queue === 'key'
          ? admission.wait(this.run, stepId, again, routing.way, routing.wasServed)
          : capacity.wait(routing.queue, way, stepId, placed)
    this.#lines.set(stepId, { at, until, leave })
  }

  #leaveLine(stepId: string): void {
    this.#lines.get(stepId)?.leave()
    this.#lines.delete(stepId)
  }

  async #commit(before: Run, batch: Batch, mail: Mail[]): Promise<boolean> {
    const { clock, compose, post } = this.#deps
    const { run, events } = batch
    const ends = isEnded(run) && (this.#birth !== null || !isEnded(before))
    const delivery = ends ? compose(run, clock.now()) : null
    const lease = delivery && post.book(delivery)
    try {
      const isMade = await this.#write(before, { run, events, wakeAt: wakeAt(run), delivery, lease })
      if (delivery && isMade) post.committed(delivery, lease)
      else if (delivery && lease) post.forgo(delivery)
      return isMade
    } catch (error) {
      if (delivery && lease) post.forgo(delivery)
      if (this.#birth || error instanceof RevisionConflict) throw error
      this.#deps.observer.fault('commit', error, { runId: before.id })
      for (const { reply } of mail) reply?.reject(error)
      // A caller was refused, so its wish is dropped. What happened stays true, and is tried again, as is what was routed by it.
      const isWish = ({ event, reply }: Mail): boolean => reply !== undefined && event.type !== 'attempt.came_late'
      this.#mail.unshift(...mail.flatMap(each => (isWish(each) ? [] : { event: each.event })))
      if (this.#mail.length > 0) this.#dueAt = Math.min(this.#dueAt ?? clock.now(), clock.now())
      this.#failures += 1
      // Nobody who asked meanwhile is held up.
      if (!this.#mail.some(({ reply }) => reply)) await this.#pause(retryAfterMs(error, this.#failures, clock.random()))
      return false
    }
  }

  /** Writes the batch; false when a new run was there already and nothing was written. */
  async #write(before: Run, what: Omit<CreateCommit, 'idempotency'>): Promise<boolean> {
    const { store } = this.#deps
    const birth = this.#birth
    if (birth) {
      const { events, idempotency } = birth.order
      const created = await store.create({ ...what, events: [...events, ...what.events], idempotency })
      birth.resolve(created)
      if (created.type !== 'created') {
        this.#miscarry()
        return false
      }
      this.#birth = null
    } else await store.commit({ ...what, expected: before.revision, changed: [...this.#dirty] })
    this.#dirty.clear()
    this.#saving = false
    this.#failures = 0
    return true
  }

  /** The run was not created: what its first routes had taken is given back. */
  #miscarry(): void {
    this.#birth = null
    this.stop()
    this.#places.forgo(this.run)
    for (const { id } of this.run.steps) this.#deps.capacity.forget(id)
  }

  #pause(ms: number): Promise<void> {
    return new Promise(resolve => {
      const { signal } = this.#stop
      const end = (): void => {
        disarm()
        signal.removeEventListener('abort', end)
        this.#hurry = null
        resolve()
      }
      const disarm = this.#deps.clock.at(this.#deps.clock.now() + ms, end)
      signal.addEventListener('abort', end)
      this.#hurry = end
    })
  }

  #order(effects: readonly Effect[]): void {
    for (const effect of effects) {
      if (effect.type === 'route') this.#routes.add(effect.stepId)
      else this.#launch(effect)
    }
  }

  #launch(effect: Reaching): void {
    const key = `${effect.type}/${effect.stepId}/${effect.attempt}`
    if (this.#inFlight.has(key)) return
    this.#inFlight.add(key)
    void this.#perform(effect, key)
  }

  async #perform(effect: Reaching, key: string): Promise<void> {
    const event = await perform(this.#deps, this, effect, this.#stop.signal)
    if (event) this.#mail.push({ event })
    this.#inFlight.delete(key)
    this.#turn()
  }

  /** Nothing to do now: sets the timer, and says so when nothing is in flight. */
  #rest(): void {
    this.#disarm?.()
    this.#disarm = null
    const due = this.#nextAt()
    this.#dueAt = due
    if (due !== null) this.#disarm = this.#deps.clock.at(due, () => this.#wake())
    if (this.#inFlight.size === 0 && this.#lines.size === 0) this.#deps.idle(this, due)
  }

  /** The next time of the run, or of a step in line. */
  #nextAt(): number | null {
    const times = [...this.#lines.values()].flatMap(({ until }) => until ?? [])
    const due = timerAt(this.run)
    if (due !== null) times.push(due)
    return times.length > 0 ? Math.ceil(Math.min(...times)) : null
  }

  #wake(): void {
    const { clock, soundSince } = this.#deps
    for (const [stepId, { until }] of this.#lines) if (until !== null && until <= clock.now()) this.#routes.add(stepId)
    this.tell({ type: 'run.woke', at: clock.now(), jitter: clock.random(), soundSince: soundSince() })
  }
}

/** Runs that storage refused together come back apart. */
function retryAfterMs(error: unknown, failures: number, jitter: number): number {
  if (!(error instanceof StorageUnavailable)) return Math.min(LONGEST_RETRY_MS, STORAGE_RETRY_MS * 2 ** failures)
  return Math.ceil(Math.min(LONGEST_STORAGE_RETRY_MS, STORAGE_RETRY_MS * 2 ** (failures - 1)) * (1 - jitter / 2))
}

/** Where a step stands in line; `until`: then it asks again. */
interface Standing {
  at: string
  until: number | null
  leave: () => void
}

type Queueing = Extract<Routing, { queue: unknown }>

interface Batch {
  run: Run
  effects: Reaching[]
  events: RunEvent[]
  durable: boolean
}
