/**
 * The real API over the real engine, store, media storage and catalogue, in virtual time. Only the provider is a stand-in:
 * its jobs end when the test says so.
 */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type Access, openAccess } from '../../src/app/access.ts'
import { createCallbackDesk } from '../../src/app/callbacks.ts'
import { createNotifier } from '../../src/app/notifier.ts'
import { lookInto } from '../../src/app/pictures.ts'
import { stepError } from '../../src/core/errors.ts'
import type { Json } from '../../src/core/json.ts'
import type { Scope } from '../../src/core/keys.ts'
import type { Catalog, Model, Route } from '../../src/core/model.ts'
import type { Checked, Engine, Opened, Provider, Started, StartJob, Store } from '../../src/core/ports.ts'
import { type CancelOutcome, isEnded, type Run } from '../../src/core/run.ts'
import { Capacity } from '../../src/engine/capacity.ts'
import { Outbox } from '../../src/engine/outbox.ts'
import { Registry } from '../../src/engine/registry.ts'
import { type Api, createApi } from '../../src/http/api.ts'
import type { ApiDeps, Principal, Readiness } from '../../src/http/deps.ts'
import { presentCallback } from '../../src/http/dto/callback.ts'
import { createLinks } from '../../src/http/links.ts'
import { createMetrics } from '../../src/http/metrics.ts'
import { createCatalog } from '../../src/models/catalog.ts'
import type { PostRequest, PostResult } from '../../src/net/egress.ts'
import { openMedia } from '../../src/store/media/media.ts'
import { openSqliteStore } from '../../src/store/sqlite/open.ts'
import { Conformity } from './http-conform.ts'
import { sampleFilm, samplePicture, streamOf } from './sample-media.ts'
import { apiKey } from './store-runs.ts'
import { VirtualClock } from './virtual-clock.ts'

export const BASE = 'http://babychain.test'
const ALL: Scope[] = ['runs:read', 'runs:write', 'callbacks:manage', 'keys:manage']

/** Keys of the tests, and whose they are. */
const KEYS: Readonly<Record<string, Principal>> = {
  'key-of-ada': { apiKeyId: 'ada', scopes: ALL },
  'key-of-bob': { apiKeyId: 'bob', scopes: ALL },
  'key-of-a-reader': { apiKeyId: 'ada', scopes: ['runs:read'] },
}

/** A provider whose jobs end when `finish`, `fail` or nobody says so; with `instant`, at the first question. */
class StudioProvider implements Provider {
  readonly missing: string | null = null
  readonly concurrency = 1_000
  readonly takes = { url: true, dataUriBytes: 1 << 20 }
  readonly settleMs = 0
  readonly started: StartJob[] = []
  instant = true
  ended = new Map<string, Checked>()

  constructor(readonly id: string) {}

  async start(job: StartJob): Promise<Started> {
    await job.sending()
    this.started.push(job)
    return { type: 'accepted', jobRef: { job: job.token, role: job.role }, pollAfterMs: 1_000 }
  }

  async check(ref: Json): Promise<Checked> {
    const { job, role } = ref as { job: string; role: string }
    const said = this.ended.get(job)
    if (said) return said
    if (!this.instant) return { type: 'pending', progress: 0.5, pollAfterMs: 1_000 }
    const url = `https://studio.example/${job}.${role === 'image_to_video' ? 'mp4' : 'png'}`
    return { type: 'succeeded', media: [{ url }], costUsd: 0.05 }
  }

  failNext(): void {
    const job = this.started.at(-1)
    if (job) this.ended.set(job.token, { type: 'failed', error: stepError('content_rejected', 'not this') })
  }

  async cancel(): Promise<CancelOutcome> {
    return 'confirmed'
  }

  async open({ url }: { url: string }): Promise<Opened> {
    const bytes = url.endsWith('.mp4') ? sampleFilm() : await samplePicture('png')
    return { ok: true, stream: streamOf(bytes), mime: null, length: bytes.length }
  }
}

export interface Asked {
  key?: string | null
  headers?: Record<string, string>
  /** Sent as JSON; a string or bytes as they are. */
  body?: unknown
}

export class HttpWorld {
  readonly dir = mkdtempSync(join(tmpdir(), 'babychain-http-'))
  readonly clock = new VirtualClock()
  readonly provider = new StudioProvider('studio')
  readonly draining = new AbortController()
  readonly closing = new AbortController()
  readonly logged: object[] = []
  /** What our time is ahead of the wall clock. */
  aheadMs = 0
  readiness: Readiness = { ok: true, checks: [{ name: 'database', ok: true }] }
  refusedUrls = /internal|127\.0\.0\.1|^http:/
  #open = 0
  #conformity!: Conformity
  /** What receivers of callbacks got and what they answer. */
  readonly posted: { url: string; request: PostRequest }[] = []
  receiver: (url: string) => Pick<PostResult & { type: 'answered' }, 'status'> | PostResult = () => ({ status: 204 })
  declare access: Access
  /** Sends what is due when a test says so. */
  declare outbox: Outbox
  declare store: Store
  declare engine: Engine
  declare deps: ApiDeps
  declare api: Api

  static async open(change: (deps: ApiDeps, world: HttpWorld) => ApiDeps = deps => deps): Promise<HttpWorld> {
    const world = new HttpWorld()
    world.deps = change(await world.#compose(), world)
    world.api = createApi(world.deps)
    world.#conformity = new Conformity(world.api)
    return world
  }

  async close(): Promise<void> {
    this.draining.abort()
    await this.store.close()
    rmSync(this.dir, { recursive: true, force: true })
  }

  /** Asks the API, and holds the answer against its document. */
  async ask(method: string, path: string, asked: Asked = {}): Promise<Response> {
    const response = await this.api.fetch(this.request(method, path, asked))
    await this.#conformity.hold(method, path, response)
    return response
  }

  request(method: string, path: string, { key = 'key-of-ada', headers = {}, body }: Asked = {}): Request {
    const raw =
      typeof body === 'string' ||
      body instanceof Uint8Array ||
      body instanceof FormData ||
      body instanceof ReadableStream
    return new Request(BASE + path, {
      method,
      headers: {
        ...(key === null ? {} : { authorization: `Bearer ${key}` }),
        ...(body === undefined || body instanceof FormData ? {} : { 'content-type': 'application/json' }),
        ...headers,
      },
      ...(body === undefined ? {} : { body: raw ? (body as string) : JSON.stringify(body) }),
    })
  }

  async json<T = Record<string, unknown>>(method: string, path: string, asked: Asked = {}): Promise<T> {
    return (await this.ask(method, path, asked)).json() as Promise<T>
  }

  /** Creates a run and gives its id. */
  async run(body: unknown, slug = 'chain1', asked: Asked = {}): Promise<string> {
    const response = await this.ask('POST', `/api/v1/chains/${slug}/runs`, { ...asked, body })
    if (response.status !== 202) throw new Error(await response.text())
    return ((await response.json()) as { id: string }).id
  }

  /** Lets time go on until `done` says so; a test never sleeps. */
  async until(done: () => boolean | Promise<boolean>, steps = 2_000): Promise<void> {
    for (let i = 0; i < steps; i++) {
      await this.quiet()
      if (await done()) return
      this.clock.step()
    }
    throw new Error('it does not end')
  }

  async runToEnd(id: string): Promise<Run> {
    let run: Run | null = null
    await this.until(async () => {
      run = await this.engine.run(id)
      return run !== null && isEnded(run)
    })
    return run as unknown as Run
  }

  /** Waits until no call of a port is open and the event loop has had its turns: time must not outrun the disk. */
  async quiet(): Promise<void> {
    for (let calm = 0; calm < 8; ) {
      await new Promise(resolve => setImmediate(resolve))
      calm = this.#open === 0 ? calm + 1 : 0
    }
  }

  /** Counts the calls of a port that are under way. */
  #watched<T extends object>(port: T): T {
    return new Proxy(port, {
      get: (target, name) => {
        const value: unknown = Reflect.get(target, name)
        if (typeof value !== 'function') return value
        return (...args: unknown[]) => {
          const result: unknown = value.apply(target, args)
          if (!(result instanceof Promise)) return result
          this.#open += 1
          return result.finally(() => {
            this.#open -= 1
          })
        }
      },
    })
  }

  async #compose(): Promise<ApiDeps> {
    const { clock, provider } = this
    const now = (): number => clock.now()
    const wall = (): number => now() - this.aheadMs
    const dataDir = join(this.dir, 'data')
    const store: Store = this.#watched(await openSqliteStore({ dataDir, now }))
    const media = this.#watched(await openMedia({ dataDir, root: 'disk', rows: store, now, minFreeBytes: 0 }))
    const links = createLinks({ key: new Uint8Array(32).fill(7), baseUrl: () => BASE })
    const metrics = createMetrics()
    const catalog: Catalog = createCatalog()
    const routesOf = (model: Model): Route[] => [studioRoute(model)]
    for (const id of new Set(Object.values(KEYS).map(({ apiKeyId }) => apiKeyId)))
      await store.saveApiKey(apiKey({ id, scopes: ALL }))
    const config = { apiKey: null, callbackSecret: null }
    const access = await openAccess({ store, clock, wall, master: new Uint8Array(32).fill(9), config })
    for (const id of ['ada', 'bob']) await access.secrets.rotate(id, 0)
    const sending = {
      egress: { post: (url: string, request: PostRequest) => this.#receive(url, request) },
      secretsOf: (id: string) => access.secrets.of(id),
      version: '0.0.0-test',
      wall,
    }
    const notifier = createNotifier({
      ...sending,
      present: (run, at) =>
        presentCallback(run, { link: id => links.media(id, at), runUrl: `${BASE}/api/v1/runs/${run.id}` }).body,
      id: () => clock.id(),
    })
    const outbox = new Outbox({ store, notifier, clock, observer: metrics.observer })
    Object.assign(this, { access, outbox })
    const engine = new Registry({
      mode: 'byok',
      budget: access.budget,
      admission: access.admission,
      store,
      clock,
      observer: metrics.observer,
      providers: new Map([[provider.id, this.#watched<Provider>(provider)]]),
      catalog,
      routesOf,
      media,
      capacity: new Capacity({ concurrency: () => 1_000 }),
      compose: notifier.compose,
      post: { book: () => null, committed() {}, forgo() {} },
      readPicture: async () => ({ ok: true, picture: { mime: 'image/png', bytes: await samplePicture('png') } }),
      publicLink: id => links.media(id, clock.now()),
      callbackUrl: () => null,
      resubmitUnknown: false,
      soundSince: () => Number.NEGATIVE_INFINITY,
    })
    await engine.start()
    this.store = store
    this.engine = engine
    return {
      engine,
      store,
      media,
      catalog,
      clock,
      wall,
      mode: 'byok',
      version: '0.0.0-test',
      routesOf,
      embeds: () => false,
      lookInto,
      providers: [provider, { id: 'bfl', missing: 'set BFL_API_KEY' }],
      auth: async key => KEYS[key] ?? access.keys.auth(key),
      keys: access.keys,
      secrets: access.secrets,
      callbacks: createCallbackDesk({
        store,
        outbox: { wake() {}, invite() {}, earliest: each => outbox.earliest(each) },
        clock,
        ...sending,
      }),
      checkUrl: url => !this.refusedUrls.test(url),
      inbound: async (id, { body }) => {
        if (id !== provider.id && id !== 'other') return null
        const text = new TextDecoder().decode(body)
        return text === 'signed' ? { type: 'hint', jobRef: null } : { type: 'refused', reason: 'bad signature' }
      },
      links,
      ready: async () => this.readiness,
      draining: this.draining.signal,
      closing: this.closing.signal,
      metrics,
      log: {
        info: (fields, message) => this.logged.push({ ...fields, message }),
        warn: (fields, message) => this.logged.push({ ...fields, message }),
        error: (fields, message) => this.logged.push({ ...fields, message }),
      },
    }
  }

  async #receive(url: string, request: PostRequest): Promise<PostResult> {
    this.posted.push({ url, request })
    const said = this.receiver(url)
    if ('type' in said) return said
    return { type: 'answered', headers: {}, text: 'thanks', ip: '203.0.113.7', ms: 12, ...said }
  }
}

function studioRoute(model: Model): Route {
  return {
    provider: 'studio',
    providerModel: model.id,
    translate: params => ({ ok: true, providerModel: model.id, body: params, adjustments: [] }),
    price: () => 0.05,
  }
}
