/**
 * The real core, engine, outbox and SQLite store in virtual time, with providers and a receiver that outlive a crash.
 *
 * Every call of a port is counted. `crashAt` kills the process at call k: before the call takes effect or after it has,
 * and nothing that belonged to the process ever runs again. `restart` opens the same database with a new engine.
 */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { NewDelivery } from '../../src/core/delivery.ts'
import { stepError } from '../../src/core/errors.ts'
import type { Catalog, Model, Role } from '../../src/core/model.ts'
import {
  type Created,
  type Kept,
  type Media,
  type Notifier,
  type Observer,
  type Provider,
  StorageUnavailable,
  type Store,
} from '../../src/core/ports.ts'
import { isEnded, type Mode, newRun, type Output, type Run } from '../../src/core/run.ts'
import { Admission, type RunLimits } from '../../src/engine/admission.ts'
import { Budget } from '../../src/engine/budget.ts'
import { Capacity } from '../../src/engine/capacity.ts'
import { Outbox } from '../../src/engine/outbox.ts'
import { Registry, type RegistryDeps } from '../../src/engine/registry.ts'
import { openSqliteStore } from '../../src/store/sqlite/open.ts'
import { RemoteProvider } from './remote-provider.ts'
import { type Graph, runOf } from './runs.ts'
import { VirtualClock } from './virtual-clock.ts'

export interface Crash {
  call: number
  when: 'before' | 'after'
}

export interface WorldOptions {
  seed?: number
  providers?: (now: () => number) => RemoteProvider[]
  concurrency?: (provider: string) => number
  resubmitUnknown?: boolean
  /** The routes want pictures in the request itself. */
  inline?: boolean
  /** How a picture is read, and how many bytes it is said to have. */
  pictures?: { bytes: number; read: RegistryDeps['readPicture'] }
  limits?: Partial<RunLimits> & { dailyBudgetUsd?: number | null }
  /** What a provider takes for a job, in US dollars, where it is not five cents; null: nobody knows. */
  prices?: Readonly<Record<string, number | null>>
}

/** How often the safety net looks, in virtual time. */
const SWEEP_MS = 60_000

/** Everything that a process owns, and that dies with it. */
interface Process {
  store: Store
  registry: Registry
  outbox: Outbox
  budget: Budget
  admission: Admission
  dead: boolean
  died: Promise<void>
  die(): void
}

export class World {
  readonly clock: VirtualClock
  readonly dir = mkdtempSync(join(tmpdir(), 'babychain-world-'))
  /** Of the next start: its mode, and who is there in it. */
  mode: Mode = 'byok'
  providers: RemoteProvider[]
  /** What the receiver got: webhook-id and body. */
  readonly received: { id: string; runId: string; body: string }[] = []
  readonly kept = new Map<string, Output>()
  readonly stashed = new Map<string, Uint8Array>()
  /** The storage of outputs takes nothing. */
  isFull = false
  /** What it does not take then is held, as beside a bucket. */
  holds = false
  /** An answer of it that is long in coming. */
  hanging: Promise<void> | null = null
  readonly held = new Map<string, Uint8Array<ArrayBuffer>>()
  /** When it was tried with a small write. */
  readonly looks: number[] = []
  readonly faults: string[] = []
  /** What each fault was told with. */
  readonly scopes: object[] = []
  /** Since when time is known to have gone on without a leap. */
  soundSince = Number.NEGATIVE_INFINITY
  /** Calls of ports since the world began, and their names. */
  calls: string[] = []
  crash: Crash | null = null
  /** What the receiver answers; 0 is silence. */
  receiver: (n: number) => number = () => 200
  /** Calls of ports that are under way; those of the store end by themselves, however slow the disk is. */
  #open = { all: 0, store: 0 }
  #process: Process | null = null
  readonly #options: WorldOptions

  constructor(options: WorldOptions = {}) {
    this.#options = options
    this.clock = new VirtualClock(options.seed)
    const now = () => this.clock.now()
    this.providers = options.providers?.(now) ?? [new RemoteProvider('p', now)]
  }

  get process(): Process {
    if (!this.#process) throw new Error('the process is not started')
    return this.#process
  }

  get isDead(): boolean {
    return this.#process === null || this.#process.dead
  }

  async start(): Promise<void> {
    const raw = await openSqliteStore({ dataDir: this.dir, now: () => this.clock.now() })
    const { promise: died, resolve } = Promise.withResolvers<void>()
    const process = { dead: false, died } as Process
    process.die = () => {
      process.dead = true
      resolve()
    }
    this.#process = process
    const wrap = <T extends object>(name: string, port: T): T => this.#wrap(name, port, process)
    const store = wrap('store', raw)
    process.store = raw
    const providers = new Map<string, Provider>(
      this.providers.map(provider => [provider.id, wrap(provider.id, provider as Provider)]),
    )
    const observer: Observer = {
      attemptEnded: () => {},
      runEnded: () => {},
      deliveryTried: () => {},
      fault: (where, error, scope) => {
        this.faults.push(`${where}: ${error}`)
        this.scopes.push({ where, ...scope })
      },
    }
    const { clock } = this
    process.outbox = new Outbox({ store, clock, observer, notifier: wrap('notifier', this.#notifier()) })
    const { maxRunning = null, maxQueued = null, dailyBudgetUsd = null } = this.#options.limits ?? {}
    process.budget = new Budget(() => dailyBudgetUsd)
    process.admission = new Admission(() => ({ maxRunning, maxQueued }))
    process.registry = new Registry({
      mode: this.mode,
      budget: process.budget,
      admission: process.admission,
      store,
      clock,
      observer,
      providers,
      catalog: catalogOf(this.providers, this.#options),
      routesOf: model => model.routes,
      media: wrap('media', this.#media()),
      capacity: new Capacity({ concurrency: this.#options.concurrency ?? (() => 1_000) }),
      compose: (run, at) => composeDelivery(run, at, clock.id()),
      post: process.outbox,
      readPicture:
        this.#options.pictures?.read ??
        (async () => ({ ok: true, picture: { mime: 'image/png', bytes: new Uint8Array(3) } })),
      publicLink: id => `https://us.example/media/${id}`,
      callbackUrl: () => null,
      resubmitUnknown: this.#options.resubmitUnknown ?? false,
      soundSince: () => this.soundSince,
    })
    await process.budget.load(raw, this.clock.now())
    await Promise.race([process.died, this.#begin(process)])
  }

  async #begin({ outbox, registry }: Process): Promise<void> {
    await outbox.takeUp()
    outbox.wake()
    await registry.start()
  }

  /** Opens the same database with a new engine, after a crash or a stop. */
  async restart(): Promise<void> {
    if (this.#process) {
      this.#process.die()
      await this.#process.store.close()
    }
    this.clock.clear()
    this.#open = { all: 0, store: 0 }
    await this.start()
  }

  async create(graph: Graph, more: Partial<Run> = {}): Promise<Run> {
    const run = runOf(graph, {
      createdAt: this.clock.now(),
      updatedAt: this.clock.now(),
      deadlineAt: this.clock.now() + 86_400_000,
      ...more,
    })
    const steps = run.steps.map(step => ({
      ...step,
      id: `${run.id}/${step.key}`,
      createdAt: this.clock.now(),
      updatedAt: this.clock.now(),
    }))
    const made = { ...run, steps }
    const { events } = newRun({ ...made, stepIds: [], at: this.clock.now() })
    const { registry, died } = this.process
    const creating: Promise<Created | null> = registry.create({
      run: made,
      events,
      idempotency: null,
    })
    const created = await Promise.race([creating, died.then(() => null)])
    if (created !== null && created.type !== 'created') throw new Error('not created')
    return made
  }

  /** Goes on until nothing is under way: real work first, then the next timer or sweep, until `limitMs` of virtual time or a crash. */
  async settle(until: () => boolean = () => false, limitMs = 48 * 3_600_000): Promise<void> {
    const end = this.clock.now() + limitMs
    for (;;) {
      await this.#quiet()
      if (this.isDead || until()) return
      const sweepAt = this.clock.now() + SWEEP_MS
      const next = this.clock.nextAt
      if (next !== null && next <= Math.min(sweepAt, end)) {
        this.clock.step()
        continue
      }
      if (sweepAt > end || (next === null && (await this.#isDone()))) return
      this.clock.advance(SWEEP_MS)
      await this.process.registry.rehydrate(this.clock.now())
    }
  }

  /**
   * Goes from timer to timer for so long, or until it is so, while calls are open that `settle` would wait for. What is written
   * meanwhile is written before time goes on.
   */
  async pass(ms: number, until: () => boolean | Promise<boolean> = () => false): Promise<void> {
    const end = this.clock.now() + ms
    for (;;) {
      await this.#quiet('store', 30)
      if (await until()) return
      const next = this.clock.nextAt
      if (next === null || next > end) return
      this.clock.step()
    }
  }

  /** True when no run and no delivery is open. */
  async #isDone(): Promise<boolean> {
    const { runs, deliveries } = await this.process.store.counts()
    return runs.queued + runs.running + deliveries.pending === 0
  }

  /** Runs until a run has ended and its callback is delivered. */
  async finish(runId: string): Promise<Run> {
    await this.settle()
    const run = await this.process.store.run(runId)
    if (!run || !isEnded(run))
      throw new Error(
        `run ${runId} is ${run?.status ?? 'lost'} (${JSON.stringify(run?.steps.map(step => step.status))})`,
      )
    return run
  }

  async close(): Promise<void> {
    await this.#process?.store.close()
    rmSync(this.dir, { recursive: true, force: true })
  }

  /** Waits until no port call, or none of the store, is open and the event loop has nothing of ours left. */
  async #quiet(which: 'all' | 'store' = 'all', turns = 3): Promise<void> {
    for (let calm = 0; calm < turns; ) {
      await new Promise(resolve => setImmediate(resolve))
      calm = this.#open[which] === 0 || this.isDead ? calm + 1 : 0
    }
  }

  #wrap<T extends object>(name: string, port: T, process: Process): T {
    return new Proxy(port, {
      get: (target, key) => {
        const value: unknown = Reflect.get(target, key)
        if (typeof value !== 'function') return value
        return (...args: unknown[]) => this.#call(`${name}.${String(key)}`, process, () => value.apply(target, args))
      },
    })
  }

  #call(name: string, process: Process, call: () => unknown): unknown {
    const never = new Promise(() => {})
    if (process.dead) return never
    this.calls.push(name)
    const here = this.crash?.call === this.calls.length ? this.crash.when : null
    if (here === 'before') {
      process.die()
      return never
    }
    const open = this.#open
    const store = name.startsWith('store.') ? 1 : 0
    open.all += 1
    open.store += store
    return this.#perform(name, process, call, here === 'after').finally(() => {
      open.all -= 1
      open.store -= store
    })
  }

  /** A write takes a moment before it takes effect, as it does on a disk: what is under way at a death may be lost. */
  async #perform(name: string, process: Process, call: () => unknown, dieAfter: boolean): Promise<unknown> {
    const never = new Promise(() => {})
    if (name.startsWith('store.')) await new Promise(resolve => setImmediate(resolve))
    if (process.dead) return never
    try {
      return await call()
    } finally {
      if (dieAfter) process.die()
      if (process.dead) await never
    }
  }

  #notifier(): Notifier {
    return {
      compose: (run, at) => composeDelivery(run, at, this.clock.id()),
      send: async delivery => {
        const status = this.receiver(this.received.length)
        this.received.push({ id: delivery.id, runId: delivery.runId, body: new TextDecoder().decode(delivery.body) })
        if (status === 0) return { type: 'failed', errorClass: 'timeout', ip: null, durationMs: 15_000 }
        return {
          type: 'answered',
          status,
          reply: '',
          retryAfterMs: null,
          ip: '203.0.113.1',
          durationMs: 5,
          location: null,
        }
      },
    }
  }

  #stashOf(token: string): string[] {
    return [...this.stashed.keys()].filter(url => url.startsWith(`stash:${token}/`))
  }

  /** Storage that survives, as a disk does. */
  #media(): Media {
    const missing = (): never => {
      throw new Error('not used here')
    }
    const refusal = (): Kept => ({ ok: false, error: stepError('storage_unavailable', 'the disk is full') })
    const keepBytes = (id: string, bytes: Uint8Array<ArrayBuffer>): Kept => {
      const sha256 = Bun.hash(bytes).toString(16)
      const output = { mediaId: id, mime: 'image/png', bytes: bytes.length, sha256, location: id }
      this.kept.set(id, output)
      return { ok: true, output }
    }
    return {
      keep: async (order): Promise<Kept> => {
        await this.hanging
        if (this.isFull && !this.holds) return refusal()
        const bytes = new Uint8Array(await new Response(order.stream).arrayBuffer())
        if (!this.isFull) return keepBytes(order.id, bytes)
        this.held.set(order.id, bytes)
        return refusal()
      },
      keepAgain: async id => {
        const bytes = this.held.get(id)
        if (!bytes) return null
        if (this.isFull) return refusal()
        this.held.delete(id)
        return keepBytes(id, bytes)
      },
      find: async id => {
        const { bytes } = this.#options.pictures ?? missing()
        const ours = { runId: null, stepId: null, apiKeyId: 'key', createdAt: 0 }
        return { mediaId: id, mime: 'image/png', bytes, sha256: '', location: id, ...ours }
      },
      open: missing,
      stash: async (token, bytes) => {
        await this.hanging
        if (this.isFull) throw new StorageUnavailable('the disk is full')
        const url = `stash:${token}/${this.#stashOf(token).length}`
        this.stashed.set(url, bytes)
        return url
      },
      stashOf: async token => {
        await this.hanging
        if (this.isFull) throw new StorageUnavailable('the disk does not answer')
        return this.#stashOf(token)
      },
      openStash: async url => {
        const stream = new Blob([(this.stashed.get(url) ?? missing()) as Uint8Array<ArrayBuffer>]).stream()
        return { ok: true, stream, mime: null, length: null }
      },
      prune: async () => 0,
      probe: missing,
      tryWrite: async () => {
        this.looks.push(this.clock.now())
        if (this.isFull) throw new StorageUnavailable('the disk is full')
      },
    }
  }
}

function composeDelivery(run: Run, at: number, id: string): NewDelivery | null {
  if (!run.callback) return null
  const { host } = new URL(run.callback.url)
  const body = new TextEncoder().encode(JSON.stringify({ type: `run.${run.status}`, data: { id: run.id } }))
  return {
    id: `msg_${id.replaceAll('-', '')}`,
    runId: run.id,
    apiKeyId: run.apiKeyId,
    type: `run.${run.status}`,
    url: run.callback.url,
    host,
    body,
    dueAt: at,
    createdAt: at,
  }
}

/** One model, at all providers of the world, that takes anything. */
function catalogOf(providers: readonly RemoteProvider[], { inline = false, prices = {} }: WorldOptions): Catalog {
  const roles: Role[] = ['text_to_image', 'image_to_image', 'image_to_video']
  const model: Model = {
    id: 'test/model',
    title: 'Test',
    gives: 'image',
    roles,
    schema: {},
    validate: () => [],
    pictureField: '/image',
    pictures: () => [],
    price: () => 0.05,
    expectedMs: 1_000,
    routes: providers.map(({ id }) => ({
      provider: id,
      providerModel: `${id}-model`,
      inline,
      // What was counted costs a cent each; beyond a hundred, no list says.
      price: ({ prompt }, _role, { counted, incoming = [], given = [] } = {}) => {
        if (counted !== undefined) return counted > 100 ? null : counted / 100
        const usd = id in prices ? (prices[id] ?? null) : 0.05
        // As an edit whose price goes by the pictures that it reads.
        const isMost =
          prompt === 'set' || (prompt === 'edit' && [...incoming, ...given].some(shapes => shapes.length === 0))
        return usd !== null && isMost ? { atMost: usd } : usd
      },
      // As some hosts do: a parameter chooses the very model.
      translate: (params, use) => ({
        ok: true,
        providerModel: `${id}-model${params.prompt === 'fast' ? '-fast' : ''}`,
        body: { ...params, pictures: [...use.pictures] },
        adjustments: [],
      }),
    })),
  }
  return { all: () => [model], find: id => (id === model.id ? model : undefined) }
}
