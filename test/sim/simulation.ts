/**
 * One history of the real core, engine and outbox, drawn from a seed: a few runs over small graphs, parties that
 * misbehave, crashes at any call of a port, storage that refuses, clocks that jump, callers that cancel and resume.
 *
 * 1. The same seed gives the same history. A violation names its seed; `trace` tells what happened.
 * 2. A process that has died never hears an answer again; what it had sent may still arrive.
 * 3. Callers behave: they send a create again, with its key, until it is answered.
 * 4. The promises are checked where they could break (a submit about to leave, a commit) and at the end.
 */
import type { SystemClock } from '../../src/app/clock.ts'
import type { Json } from '../../src/core/json.ts'
import { fork } from '../../src/core/machine.ts'
import {
  type Created,
  Draining,
  type Media,
  type Notifier,
  type Observer,
  type Provider,
  QueueFull,
  StorageUnavailable,
  type Store,
} from '../../src/core/ports.ts'
import { type Attempt, isEnded, type Run } from '../../src/core/run.ts'
import { Admission } from '../../src/engine/admission.ts'
import { Budget } from '../../src/engine/budget.ts'
import { Capacity } from '../../src/engine/capacity.ts'
import { Outbox } from '../../src/engine/outbox.ts'
import { Registry } from '../../src/engine/registry.ts'
import { Books } from './books.ts'
import { catalogOf, composeWith } from './fittings.ts'
import { SimMedia, SimProvider, SimReceiver } from './parties.ts'
import { drawLimits, drawPlan, type Plan, type PlannedRun, runFor } from './plan.ts'
import { type Owner, Timeline } from './timeline.ts'

/** What survives a crash, and how a process opens it. */
export interface Disk {
  open(now: () => number): Promise<Store>
  /** The newest time that is stored. */
  newest(): number
}

export interface History {
  seed: number
  plan: Plan
  runs: number
  crashes: number
  /** Results that came after their attempt was over. */
  late: number
  /** Jobs that resumed runs took over from the runs before. */
  taken: number
  /** How often a limit of the key held something up. */
  met: Books['met']
  calls: number
  /** Milliseconds of simulated time. */
  elapsed: number
}

/** A promise was broken. */
class Violation extends Error {
  override name = 'Violation'
}

interface Process extends Owner {
  clock: SystemClock
  stopping: boolean
  raw: Store
  registry: Registry
  outbox: Outbox
  died: Promise<void>
  die(): void
}

const NEVER = new Promise<never>(() => {})
const SWEEP_MS = 20_000
/** A history that is not over after so much passing time is stuck: callbacks alone may take 76 hours. */
const LIMIT_MS = 12 * 86_400_000
const WRITES = new Set(['create', 'commit', 'claim', 'settle', 'freeLeases', 'closedHosts'])
/** Faults that the parties make on purpose. */
const MEANT =
  /the (adapter|poll|cancel|look-up|download) broke|refuses to write|the disk is full|the store is closed|callbacks do not leave this machine/

/** Plays a seed to its end; throws a Violation that names it. `note` is told what happens. */
export async function simulate(seed: number, disk: Disk, note: (text: string) => void = () => {}): Promise<History> {
  const simulation = new Simulation(seed, disk, note)
  try {
    return await simulation.play()
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error)
    throw new Violation(`seed ${seed}: ${why}`, { cause: error })
  }
}

class Simulation {
  readonly #time: Timeline
  readonly #plan: Plan
  readonly #books: Books
  readonly #providers: SimProvider[]
  readonly #receiver: SimReceiver
  readonly #media: SimMedia
  readonly #note: (text: string) => void
  #process: Process | null = null
  #calls = 0
  #crashes = 0
  /** Calls of a store that take turns of the real event loop. */
  #busy = 0
  #refusing = 0
  #full = 0
  #open = 0

  constructor(
    readonly seed: number,
    readonly disk: Disk,
    note: (text: string) => void,
  ) {
    this.#time = new Timeline(seed)
    this.#note = text => note(`${(this.#time.elapsed / 1_000).toFixed(3).padStart(10)} s  ${text}`)
    this.#plan = { ...drawPlan(this.#time), limits: drawLimits(seed) }
    this.#books = new Books(this.#time, this.#note, this.#plan.limits)
    this.#providers = this.#plan.providers.map(
      ({ id, abilities, concurrency }) =>
        new SimProvider(id, abilities, concurrency, this.#time, {
          submitting: async (provider, job) => {
            this.#books.submitting(provider, job, await this.#process?.raw.run(job.runId), await this.#stored())
            this.#busy += 1
            await this.#books.paying(job, this.#process?.raw).finally(() => {
              this.#busy -= 1
            })
            this.#loseTime()
          },
          hint: (token, ref) => void this.#hint(token, ref, 5),
          note: this.#note,
        }),
    )
    this.#books.providers = this.#providers
    this.#receiver = new SimReceiver(this.#time, this.#plan.receiver.trouble, this.#plan.receiver.gone)
    this.#media = new SimMedia(
      this.#time,
      () => this.#full > 0,
      () => this.#now,
    )
    this.#books.media = this.#media
    this.#books.receiver = this.#receiver
  }

  async play(): Promise<History> {
    const { runs, crashes, outages, fullDisks, jumps, stops } = this.#plan
    for (const run of runs) this.#time.after(run.at, () => void this.#caller(run))
    this.#open = runs.length
    for (const at of crashes) this.#time.after(at, () => this.#crash('at a time'))
    for (const { at, ms } of outages) this.#during(at, ms, by => (this.#refusing += by), 'storage refuses')
    for (const { at, ms } of fullDisks) this.#during(at, ms, by => (this.#full += by), 'the disk of outputs is full')
    for (const { at, ms } of jumps) this.#time.after(at, () => this.#jump(ms))
    for (const at of stops) this.#time.after(at, () => void this.#stop())
    this.#boot()
    this.#sweep()
    for (;;) {
      await this.#turn()
      this.#books.throwIfBroken()
      if (await this.#isOver()) break
      if (this.#time.elapsed > LIMIT_MS || !this.#time.step())
        throw new Error(`it never ends: ${await this.#books.open(this.#process?.raw)}`)
    }
    await this.#afterlife()
    const store = this.#process?.raw
    if (store) await this.#books.judge(store)
    this.#books.throwIfBroken()
    await store?.close()
    return {
      seed: this.seed,
      plan: this.#plan,
      runs: this.#books.acked.size,
      crashes: this.#crashes,
      late: this.#books.late,
      taken: this.#books.taken,
      met: this.#books.met,
      calls: this.#calls,
      elapsed: this.#time.elapsed,
    }
  }

  /** Everything that needs no time happens: microtasks, and the turns of a store that has some. */
  async #turn(): Promise<void> {
    do await new Promise(resolve => setImmediate(resolve))
    while (this.#busy > 0)
  }

  async #isOver(): Promise<boolean> {
    if (this.#open > 0 || !this.#process || this.#process.dead) return false
    const { runs, deliveries } = await this.#process.raw.counts()
    return runs.queued + runs.running + deliveries.pending === 0
  }

  /** Once more a restart: a process that finds everything done must do nothing. */
  async #afterlife(): Promise<void> {
    if (!this.#plan.afterlife) return
    this.#note('the last restart')
    const before = [this.#books.submits, this.#receiver.begun]
    await this.#process?.raw.close()
    if (this.#process) this.#process.dead = true
    this.#boot()
    const until = this.#time.elapsed + 600_000
    do await this.#turn()
    while (this.#time.elapsed < until && this.#time.step())
    const after = [this.#books.submits, this.#receiver.begun]
    if (String(before) !== String(after)) this.#books.broken('a restart after the end did something')
  }

  // ── The process ─────────────────────────────────────────────────────────────────────────────────────────────────

  #boot(): void {
    const { promise: died, resolve } = Promise.withResolvers<void>()
    const process = { dead: false, stopping: false, died } as Process
    process.die = () => {
      process.dead = true
      resolve()
    }
    this.#process = process
    this.#media.begin()
    this.#note('the process starts')
    this.#start(process).catch(error => {
      if (!(error instanceof StorageUnavailable)) this.#books.broken(`the start failed: ${error}`)
      this.#crash('it cannot start')
    })
  }

  async #start(process: Process): Promise<void> {
    const clock = this.#time.clockFor(process)
    const { soundSince } = clock
    process.clock = clock
    this.#busy += 1
    process.raw = await this.disk.open(clock.now).finally(() => {
      this.#busy -= 1
    })
    clock.notBefore(this.disk.newest())
    const store = this.#wrap('store', process.raw, process)
    const observer: Observer = {
      attemptEnded: () => {},
      runEnded: ({ runId, status }) => this.#note(`run ${runId.slice(-4)} ended: ${status}`),
      deliveryTried: () => {},
      fault: (where, error) => {
        if (!MEANT.test(String(error))) this.#books.broken(`a fault nobody made: ${where}: ${error}`)
      },
    }
    const providers = new Map(
      this.#providers.map(each => [each.id, this.#wrap(each.id, each as Provider, process)] as const),
    )
    const notifier: Notifier = { compose: composeWith(clock.id), send: delivery => this.#receiver.send(delivery) }
    process.outbox = new Outbox({ store, clock, observer, notifier: this.#wrap('notifier', notifier, process) })
    const { limits } = this.#plan
    const budget = new Budget(() => limits.dailyBudgetUsd)
    this.#busy += 1
    await budget.load(process.raw, clock.now()).finally(() => {
      this.#busy -= 1
    })
    process.registry = new Registry({
      mode: 'byok',
      budget,
      admission: new Admission(() => limits),
      store,
      clock,
      observer,
      providers,
      catalog: catalogOf(this.#providers),
      routesOf: model => model.routes,
      media: this.#wrap('media', this.#media as unknown as Media, process),
      capacity: new Capacity({ concurrency: id => this.#providers.find(each => each.id === id)?.concurrency ?? 1 }),
      compose: composeWith(clock.id),
      post: process.outbox,
      readPicture: this.#wrap('pictures', { read: (ref: string) => this.#readPicture(ref) }, process).read,
      publicLink: id => `https://us.example/media/${id}`,
      callbackUrl: (id, token) => (this.#plan.webhooks ? `https://us.example/in/${id}/${token}` : null),
      resubmitUnknown: false,
      soundSince,
    })
    await process.outbox.takeUp()
    process.outbox.wake()
    await process.registry.start()
  }

  #crash(why: string): void {
    const process = this.#process
    if (!process || process.dead) return
    this.#crashes += 1
    this.#note(`CRASH ${why}`)
    process.die()
    this.#time.after(this.#time.span(50, 300_000), () => {
      this.#busy += 1
      void (process.raw?.close() ?? Promise.resolve()).then(() => {
        this.#busy -= 1
        this.#boot()
      })
    })
  }

  async #stop(): Promise<void> {
    const process = this.#process
    if (!process || process.dead || !process.registry) return
    this.#note('SIGTERM')
    process.stopping = true
    const drained = Promise.all([process.registry.drain(), process.outbox.drain(10_000)])
    await Promise.race([drained, this.#time.wait(20_000), process.died])
    if (!process.dead) this.#crash('after draining')
  }

  #sweep(): void {
    this.#time.after(SWEEP_MS, () => {
      const process = this.#process
      if (process && !process.dead && process.registry)
        process.registry.rehydrate(process.clock.now()).catch(error => this.#books.broken(`the sweep failed: ${error}`))
      if (this.#open > 0 || this.#books.anyOpen) this.#sweep()
      else this.#time.after(3_600_000, () => this.#sweep())
    })
  }

  // ── What goes wrong ─────────────────────────────────────────────────────────────────────────────────────────────

  #during(at: number, ms: number, change: (by: number) => void, what: string): void {
    this.#time.after(at, () => {
      this.#note(what)
      change(1)
      this.#time.after(ms, () => {
        this.#note(`no longer: ${what}`)
        change(-1)
      })
    })
  }

  /** Reading takes its time: a cancel or a crash may come in between. */
  async #readPicture(ref: string) {
    await this.#time.wait(this.#time.span(1, 20_000))
    if (this.#time.chance(0.1)) throw new Error('the download broke')
    return { ok: true as const, picture: { mime: 'image/png', bytes: new TextEncoder().encode(ref) } }
  }

  #jump(ms: number): void {
    this.#note(`the wall clock jumps by ${ms / 1_000} s`)
    this.#time.jump(ms)
    this.#books.leapt ||= ms > 0
  }

  /** The process dies with a submit on its way, and the next one cannot tell how long ago that was. */
  #loseTime(): void {
    const { lostTime } = this.#plan
    if (lostTime?.submit !== this.#books.submits) return
    this.#crash('while a submit is on its way')
    this.#jump(lostTime.jumpMs)
  }

  #wrap<T extends object>(name: string, port: T, process: Process): T {
    const calls = new Map<string | symbol, unknown>()
    return new Proxy(port, {
      get: (target, key) => {
        const known = calls.get(key)
        if (known) return known
        const value: unknown = Reflect.get(target, key)
        if (typeof value !== 'function') return value
        const call = (...args: unknown[]): unknown =>
          this.#call(name, String(key), process, args, () => value.apply(target, args))
        calls.set(key, call)
        return call
      },
    })
  }

  async #call(port: string, name: string, process: Process, args: unknown[], call: () => unknown): Promise<unknown> {
    if (process.dead) return NEVER
    this.#calls += 1
    const crash = this.#plan.crashCalls.get(this.#calls)
    if (crash === 'before') this.#crash(`before ${port}.${name}`)
    const isStore = port === 'store'
    if (isStore && this.#time.chance(0.1)) await this.#time.wait(this.#time.span(1, 400))
    if (process.dead) return NEVER
    try {
      if (isStore && this.#refusing > 0 && WRITES.has(name)) throw new StorageUnavailable('storage refuses to write')
      if (isStore) this.#busy += 1
      const value = await Promise.resolve(call()).finally(() => {
        if (isStore) this.#busy -= 1
      })
      this.#books.saw(name, args, value, process.dead)
      if (crash === 'after') this.#crash(`after ${port}.${name}`)
      if (isStore && this.#time.chance(0.05)) await this.#time.wait(this.#time.span(1, 400))
      return process.dead ? NEVER : value
    } catch (error) {
      if (process.dead) return NEVER
      throw error
    }
  }

  // ── Callers ─────────────────────────────────────────────────────────────────────────────────────────────────────

  /** Sends a run until it is accepted, and perhaps cancels it, and perhaps resumes it when it has failed. */
  async #caller(order: PlannedRun): Promise<void> {
    const run = await this.#create(order.key, () => runFor(order, this.#now, this.#plan))
    this.#books.acked.set(run, order)
    if (order.cancelAfter !== null) await this.#cancel(run, order.cancelAfter)
    if (order.resumes) await this.#resume(run, order)
    this.#open -= 1
  }

  /** What the process would say: callers reach it, not the machine. */
  get #now(): number {
    return this.#process?.clock?.now() ?? this.#time.wall
  }

  async #create(key: string, make: () => { run: Run; events: ReturnType<typeof runFor>['events'] }): Promise<string> {
    for (;;) {
      const { run, events } = make()
      const idempotency = { key, fingerprint: key, response: run.id }
      const created = await this.#ask<Created>(({ registry }) => registry.create({ run, events, idempotency }))
      if (created?.type === 'created') return run.id
      if (created?.type === 'replayed') return created.runId
      if (created) this.#books.broken(`a repeated create was answered with ${created.type}`)
      await this.#time.wait(this.#time.span(200, 60_000))
    }
  }

  async #cancel(runId: string, afterMs: number): Promise<void> {
    await this.#time.wait(afterMs)
    for (;;) {
      const run = await this.#ask(({ registry }) => registry.cancel(runId))
      if (run) {
        this.#note(`cancel of ${runId.slice(-4)} is answered: ${run.status}`)
        if (run.cancelRequestedAt !== null) this.#books.canceled.add(runId)
        else if (!isEnded(run)) this.#books.broken(`a cancel was answered with an open run without the wish`)
        return
      }
      if (run === null && !(await this.#process?.raw.run(runId))) this.#books.broken(`run ${runId} is unknown`)
      await this.#time.wait(this.#time.span(200, 60_000))
    }
  }

  async #resume(runId: string, order: PlannedRun): Promise<void> {
    let ended: Run | null = null
    while (ended === null) {
      await this.#time.wait(60_000)
      const run = await this.#ask(({ raw }) => raw.run(runId))
      if (run && isEnded(run)) ended = run
    }
    if (ended.status === 'succeeded') return
    const from = ended
    // Where nobody can tell of a submit, its step is named; of two steps that do not need each other only one can be.
    const [doubtful, another] = from.steps.filter(({ attempts }) => isInDoubt(attempts.at(-1)))
    if (another) return
    const named = doubtful ? { fromStepKey: doubtful.key } : {}
    const resumed = await this.#create(`${order.key} resumed`, () => {
      const { id, stepIds } = this.#plan.ids(from.steps.length)
      if (doubtful && fork(from, { id, stepIds, at: this.#now }).ok)
        this.#books.broken(`${runId} is resumed although nobody can tell whether ${doubtful.key} is paid`)
      const made = fork(from, { id, stepIds, at: this.#now, ...named })
      if (!made.ok) throw new Error(made.reason)
      return made
    })
    this.#note(`${runId.slice(-4)} is resumed as ${resumed.slice(-4)}`)
    this.#books.acked.set(resumed, order)
  }

  async #hint(token: string, ref: Json | null, tries: number): Promise<void> {
    if (!this.#plan.webhooks) return
    const taken = await this.#ask(({ registry }) => registry.hint(token, ref))
    if (taken === undefined && tries > 0) {
      await this.#time.wait(this.#time.span(1_000, 60_000))
      await this.#hint(token, ref, tries - 1)
    }
  }

  /** Asks the process; undefined when it is down, dies, or says that it cannot now. */
  async #ask<T>(question: (process: Process) => Promise<T>): Promise<T | undefined> {
    const process = this.#process
    if (!process || process.dead || !process.registry) return undefined
    const asked = question(process).catch(error => {
      if (error instanceof StorageUnavailable || (error instanceof Draining && process.stopping)) return undefined
      if (error instanceof QueueFull && this.#plan.limits.maxQueued !== null) {
        this.#books.met.queue += 1
        return undefined
      }
      this.#books.broken(`a caller got ${error}`)
      return undefined
    })
    return Promise.race([asked, process.died.then(() => undefined)])
  }

  /** Every open run as it is stored. */
  async #stored(): Promise<Run[]> {
    const { raw } = this.#process ?? {}
    if (!raw) return []
    const ids = await raw.due(Number.MAX_SAFE_INTEGER, 100)
    const runs = await Promise.all(ids.map(id => raw.run(id)))
    return runs.filter(run => run !== null)
  }
}

const isInDoubt = (last: Attempt | undefined): boolean => last?.outcome === 'unknown' && !last.lateResult
