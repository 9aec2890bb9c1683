/**
 * The one composition root: every part is made here and handed what it needs. Also the whole test seam (`overrides`).
 *
 * 1. Nothing listens before the store is open, its promises are read back, and what the last process held is freed.
 *    Unfinished runs are taken up beside the first requests; new ones get no place before them.
 * 2. `stop` takes nothing new and lets end side by side what has begun: requests, submits and commits, callbacks on their way,
 *    and a start that is still taking up runs.
 *    The file closes last. A run that ends meanwhile may find the outbox stopped: its callback, committed with its end, goes
 *    out at the next start.
 */
import { randomBytes } from 'node:crypto'
import { isIP } from 'node:net'
import { resolve } from 'node:path'
import pino, { type Logger } from 'pino'
import pkg from '../package.json' with { type: 'json' }
import { type Access, openAccess } from './app/access.ts'
import { serverOf } from './app/address.ts'
import { allAnswered } from './app/answered.ts'
import { createCallbackDesk } from './app/callbacks.ts'
import { calm, createClock, type SystemClock } from './app/clock.ts'
import { createInbox } from './app/inbox.ts'
import { BOOTSTRAP, type MadeBootstrap } from './app/keyring.ts'
import { watchLoop } from './app/loop-lag.ts'
import { lookAtMode } from './app/mode.ts'
import { narrated } from './app/narrator.ts'
import { createNotifier, type Postman } from './app/notifier.ts'
import { output } from './app/output.ts'
import { lookInto, pictureReader } from './app/pictures.ts'
import { providersOf, routesFor } from './app/providers.ts'
import { readinessOf } from './app/readiness.ts'
import { deriveKey, masterKey, seal, unseal } from './app/secrets.ts'
import { openTracing, type Tracing } from './app/tracing.ts'
import type { Config } from './config.ts'
import { SCOPES } from './core/keys.ts'
import type { Clock, Provider } from './core/ports.ts'
import { Capacity } from './engine/capacity.ts'
import { Outbox } from './engine/outbox.ts'
import { mustEmbed } from './engine/pictures.ts'
import { Registry } from './engine/registry.ts'
import { Sweeper } from './engine/sweeper.ts'
import { createApi } from './http/api.ts'
import type { Principal } from './http/deps.ts'
import { presentCallback } from './http/dto/callback.ts'
import { createLinks } from './http/links.ts'
import { createMetrics } from './http/metrics.ts'
import { CREATE_RUN } from './http/openapi/examples.ts'
import { createSessions, type Sessions } from './http/session.ts'
import { createCatalog } from './models/catalog.ts'
import { createEgress, type PostRequest } from './net/egress.ts'
import { openMedia } from './store/media/media.ts'
import { newestTime } from './store/sqlite/newest.ts'
import { openSqliteStore } from './store/sqlite/open.ts'
import { openRunsOf } from './store/sqlite/open-runs.ts'
import type { SqliteStore } from './store/sqlite/store.ts'

export interface Overrides {
  clock?: Clock
  log?: Logger
  /** Instead of the providers of the configuration. */
  providers?: readonly Provider[]
}

export interface App {
  fetch(request: Request): Promise<Response>
  /** The same as the owner of this machine: whoever may open the database needs no key. */
  asOperator(request: Request): Promise<Response>
  /** Listens and takes up unfinished runs; gives the address. `pages` answer GET on their paths, in Bun's route patterns. */
  start(pages?: Pages): Promise<{ url: string }>
  /** Drains and closes; gives up waiting after `graceMs`, and for what callers have not sent after `callersMs`. */
  stop(graceMs?: number, callersMs?: number): Promise<void>
  /** Resolves when another process has opened the database: end at once, without a stop, which would wait for writes. */
  readonly taken: Promise<Error>
  /** What a newcomer wants to see: links, and the API key where it was just made. */
  greeting(url: string): string
  /** Whether the greeting holds a key or a secret that was just made: nobody could ask for it again. */
  readonly showsOnce: boolean
  apiKey: string | null
  /** The body of a first run, as JSON. */
  example: string
  log: Logger
}

export type Pages = Readonly<Record<string, { GET(request: Request): Response | Promise<Response> }>>

/** What a stop waits for submits (some are answered with the picture, after half a minute) and callbacks; who manages us gives a minute. */
const GRACE_MS = 40_000
/** What it waits for callers: who sends no more of a request, or says nothing, must not hold up a deploy. A body on its way takes less. */
const CALLERS_MS = 3_000
/** What it waits for a collector of traces. */
const TRACES_MS = 2_000

/** @throws an error whose message is a sentence for the operator: a locked or damaged database, a folder without rights, … */
export async function createApp(config: Config, overrides: Overrides = {}): Promise<App> {
  const log = overrides.log ?? logger(config.logLevel)
  const clock = overrides.clock ? calm(overrides.clock) : ourClock(log)
  const dataDir = resolve(config.dataDir)
  const store = await openSqliteStore({ dataDir, now: clock.now, log, resume: config.resume })
  try {
    takeOver(clock, newestTime(store.db), log)
    lookAtMode(config, mode => openRunsOf(store.db, mode), log)
    return await compose({ ...config, dataDir }, overrides, clock, log, store)
  } catch (error) {
    await store.close()
    throw error
  }
}

function ourClock(log: Logger): SystemClock {
  return createClock(undefined, byMs => log.warn({ by_ms: byMs }, 'the wall clock was set, or this machine slept'))
}

/** Goes on from the newest time that is stored, should the wall clock have been set back since. */
function takeOver(clock: SystemClock, newest: number, log: Logger): void {
  const behindMs = newest - clock.wall()
  if (behindMs >= 1_000)
    log.warn({ behind_ms: behindMs }, 'the wall clock is behind what is stored: time goes on from there')
  clock.notBefore(newest)
}

async function compose(
  config: Config,
  overrides: Overrides,
  clock: SystemClock,
  log: Logger,
  store: SqliteStore,
): Promise<App> {
  // A key is stored together with its secret.
  const isSealed = (await store.apiKeys()).length > 0
  const master = masterKey(config.masterKey, config.dataDir, isSealed)
  if (master.created)
    log.warn({ file: master.file }, 'a master key was created; back it up: without it stored secrets are lost')
  const address = { url: serverOf(config, 'localhost') }
  const baseUrl = (): string => config.publicUrl ?? address.url
  const { wall, soundSince } = clock
  const access = await openAccess({ store, clock, wall, config, master: master.bytes })

  const loopLag = watchLoop(clock.now)
  const metrics = createMetrics({ process: { loopLag } })
  const tracing = await openTracing(config.tracing, pkg.version, log)
  const observer = tracing.observer(narrated(metrics.observer, log, clock))
  const media = await openMedia({
    dataDir: config.dataDir,
    root: mediaRoot(config),
    rows: store,
    s3: config.s3,
    now: wall,
  })
  const ownHosts = config.publicUrl ? [new URL(config.publicUrl).host] : []
  const egress = createEgress({ allow: config.egressAllow, ownHosts })
  const readPicture = pictureReader(media, egress, clock)
  const catalog = createCatalog({ providerModels: config.modelIds })
  const own = overrides.providers
    ? { providers: overrides.providers, close: () => {} }
    : providersOf(config, { clock, egress, readPicture })
  const routesOf = routesFor(config)
  const links = createLinks({ key: deriveKey(master.bytes, 'media links'), baseUrl })
  const sessionKey = deriveKey(master.bytes, 'browser sessions')
  const sessions = createSessions({
    seal: secret => seal(secret, sessionKey, 'session cookie'),
    unseal: sealed => unseal(sealed, sessionKey, 'session cookie'),
    now: clock.now,
    secure: config.publicUrl?.startsWith('https:') ?? false,
  })
  const providers = new Map(own.providers.map(each => [each.id, tracing.provider(each)]))
  const capacity = new Capacity({ concurrency: id => config.concurrency[id] ?? providers.get(id)?.concurrency ?? 1 })

  const secretsOf = (apiKeyId: string) => access.secrets.of(apiKeyId)
  const inbox = config.mode === 'sandbox' ? createInbox({ baseUrl, secretsOf, now: wall }) : undefined
  const sending = {
    egress: {
      post(url: string, request: PostRequest, apiKeyId: string) {
        const postman: Postman = inbox?.owns(url) ? inbox : egress
        return postman.post(url, request, apiKeyId)
      },
    },
    secretsOf,
    version: pkg.version,
    wall,
  }
  const notifier = createNotifier({
    ...sending,
    present: (run, at) =>
      presentCallback(run, { link: id => links.media(id, at), runUrl: `${baseUrl()}/api/v1/runs/${run.id}` }).body,
    id: clock.id,
  })
  const outbox = new Outbox({ store, notifier: tracing.notifier(notifier), clock, observer })
  const reach = {
    publicLink: (id: string) => (config.publicUrl ? links.media(id, clock.now()) : null),
    callbackUrl: (provider: string, token: string) =>
      config.publicUrl ? `${config.publicUrl}/api/v1/inbound/${provider}/${token}` : null,
  }
  const parts = {
    mode: config.mode,
    store: tracing.store(store),
    clock,
    soundSince,
    observer,
    providers,
    catalog,
    routesOf,
    media,
    capacity,
    readPicture,
    ...reach,
  }
  const { resubmitUnknown } = config
  const registry = new Registry({
    ...parts,
    resubmitUnknown,
    budget: access.budget,
    admission: access.admission,
    compose: notifier.compose,
    post: outbox,
  })
  const sweeper = new Sweeper({ registry, media, clock, soundSince, observer, retentionMs: config.retentionMs })

  const draining = new AbortController()
  const closing = new AbortController()
  // Known to this process alone, for as long as it lives.
  const operator = randomBytes(32).toString('hex')
  const api = createApi({
    engine: registry,
    store,
    media,
    catalog,
    clock,
    wall,
    mode: config.mode,
    version: pkg.version,
    routesOf,
    embeds: route => mustEmbed(providers.get(route.provider), route, config.publicUrl !== null),
    lookInto,
    providers: own.providers,
    auth: async key => (key === operator ? OPERATOR : access.keys.auth(key)),
    keys: access.keys,
    secrets: access.secrets,
    callbacks: createCallbackDesk({ store, outbox, clock, ...sending }),
    sessions,
    ...(inbox ? { inbox } : {}),
    checkUrl: url => (inbox?.owns(url) ?? false) || egress.check(url).ok,
    // Whoever signed it told the time by the wall clock.
    inbound: async (id, request) => (await providers.get(id)?.webhook?.({ ...request, at: wall() })) ?? null,
    links,
    ready: readinessOf({ store, media, dataDir: config.dataDir, draining: draining.signal, loopLag, now: wall }),
    draining: draining.signal,
    closing: closing.signal,
    metrics,
    log,
  })
  const parked = {
    registry,
    outbox,
    sweeper,
    draining,
    closing,
    store,
    own,
    egress,
    access,
    sessions,
    operator,
    tracing,
  }
  return serving(config, api, address, parked, log)
}

const OPERATOR: Principal = { apiKeyId: BOOTSTRAP, scopes: SCOPES }

interface Parked {
  registry: Registry
  outbox: Outbox
  sweeper: Sweeper
  draining: AbortController
  closing: AbortController
  store: SqliteStore
  own: { close(): void }
  egress: { close(): void }
  access: Access
  sessions: Sessions
  operator: string
  tracing: Tracing
}

function serving(
  config: Config,
  api: ReturnType<typeof createApi>,
  address: { url: string },
  parts: Parked,
  log: Logger,
): App {
  let server: ReturnType<typeof Bun.serve> | null = null
  let made: MadeBootstrap = { text: null, secret: null }
  /** Nothing stops for a note: a command beside us that finds no address refuses. */
  const noteOrigin = (origin: string | null): void => {
    try {
      parts.store.noteOrigin(origin)
    } catch (error) {
      log.warn({ err: error, origin }, 'where this server listens was not noted: `keys` beside it will refuse')
    }
  }
  /** A stop in between waits for it: what it has made is stored, and said. */
  let starting: Promise<unknown> = Promise.resolve()
  const begin = async (pages: Pages): Promise<{ url: string }> => {
    await parts.outbox.takeUp()
    server = listen(config, api, pages)
    // Only now, when nobody else can have the port.
    const { host } = config
    const { port = config.port } = server
    noteOrigin(serverOf({ host, port }))
    address.url = serverOf({ host, port }, 'localhost')
    made = await parts.access.begin()
    parts.outbox.wake()
    await parts.registry.start()
    if (!parts.draining.signal.aborted) {
      parts.sweeper.start()
      log.info({ url: address.url, mode: config.mode, version: pkg.version }, 'ready')
    }
    return { url: address.url }
  }
  return {
    log,
    get apiKey() {
      return made.text ?? config.apiKey
    },
    example: EXAMPLE,
    greeting: url => greeting(url, made, parts.sessions, config),
    get showsOnce() {
      return made.text !== null || madeSecret(made, config) !== null
    },
    fetch: request => api.fetch(request),
    asOperator(request) {
      const headers = new Headers(request.headers)
      headers.set('authorization', `Bearer ${parts.operator}`)
      return api.fetch(new Request(request, { headers }))
    },
    start(pages = {}) {
      const begun = begin(pages)
      starting = begun.catch(() => {})
      return begun
    },
    taken: parts.store.taken,
    async stop(graceMs = GRACE_MS, callersMs = CALLERS_MS) {
      // Before the port is free for others: the directory is held until the last callback is settled.
      noteOrigin(null)
      parts.draining.abort(new Error('stopping'))
      parts.sweeper.stop()
      const answered = server ? allAnswered(server, parts.closing, callersMs) : null
      const calm = Promise.all([starting, answered, parts.registry.drain(), parts.outbox.drain(graceMs / 2)])
      await Promise.race([calm, Bun.sleep(graceMs)])
      await server?.stop(true)
      await parts.access.keys.flush().catch(error => log.warn({ err: error }, 'the last uses of keys were not noted'))
      await parts.tracing.close(TRACES_MS)
      parts.own.close()
      parts.egress.close()
      await parts.store.close()
      log.info('stopped')
    },
  }
}

/** @throws CannotListen with a sentence that says what to change */
function listen(config: Config, api: ReturnType<typeof createApi>, pages: Pages) {
  try {
    return Bun.serve({
      port: config.port,
      hostname: config.host,
      // The API's own limits answer with a problem; these only stop what never reaches it.
      maxRequestBodySize: 64 << 20,
      idleTimeout: 30,
      development: false,
      // `development: false` alone lets a second server share the port: the system then deals calls out to both.
      reusePort: false,
      routes: pages,
      fetch: (request, server) => api.fetch(request, server),
    })
  } catch (error) {
    throw new CannotListen(whyDeaf(config, (error as { code?: string }).code ?? String(error)))
  }
}

function whyDeaf({ host, port }: Config, code: string): string {
  if (code === 'EACCES') return `port ${port} needs rights that this user lacks; set PORT to one above 1023`
  if (code === 'EADDRINUSE' && (isIP(host) > 0 || host === 'localhost'))
    return `port ${port} on ${host} is taken; set PORT to a free one, or stop the program that has it`
  return `HOST ${host} is no address of this machine (${code}); set it to 127.0.0.1, or to 0.0.0.0 for all of its addresses`
}

class CannotListen extends Error {
  override name = 'CannotListen'
}

/** JSON lines on stdout. */
function logger(level: string): Logger {
  return pino({ level, redact: ['headers.authorization', '*.apiKey', '*.secret'] }, output)
}

function mediaRoot(config: Config): string {
  return config.media.type === 'disk' ? 'disk' : `s3://${config.media.bucket}/${config.media.prefix}`
}

/** The secret of the bootstrap key, where this start made one of its own accord. */
function madeSecret({ secret }: MadeBootstrap, { callbackSecret }: Config): string | null {
  return callbackSecret ? null : secret
}

function greeting(url: string, made: MadeBootstrap, sessions: Sessions, config: Config): string {
  const created = made.text
  const key = created ?? (config.apiKey ? '$BABYCHAIN_API_KEY' : '<the key printed at the first start>')
  const known = created ?? config.apiKey
  const secret = madeSecret(made, config)
  const lines = [
    `BabyChain ${pkg.version} runs in mode ${config.mode}.`,
    '',
    // In the fragment, which browsers send to nobody.
    `  Lab      ${url}/${known ? `#token=${sessions.token(known)}   (signs in once, for 15 minutes)` : ''}`,
    `  Swagger  ${url}/swagger`,
    `  Health   ${url}/readyz`,
    ...(created ? [`  API key  ${created}   (shown this once: keep it)`] : []),
    ...(secret ? [`  Secret   ${secret}   (signs callbacks; shown this once)`] : []),
    '',
    'Make a picture and a film of it:',
    '',
    `  curl -s ${url}/api/v1/chains/chain101/runs -H "Authorization: Bearer ${key}" -H 'Content-Type: application/json' -H 'Prefer: wait=60' -d '${EXAMPLE}'`,
    '',
    '',
  ]
  return lines.join('\n')
}

/** The first request of the documentation, without the callback: it costs nothing in the sandbox. */
const EXAMPLE = JSON.stringify({ input: CREATE_RUN.input })
