/** What the HTTP layer is given. `createApi(deps)` is its only door; nothing here is imported from another part. */
import type { Catalog, Clock, Engine, Hint, InboundRequest, Media, Model, Route, Store } from '../core/ports.ts'
import type { Mode } from '../core/run.ts'
import type { Inbox } from './inbox.ts'
import type { Inbox } from './inbox.ts'
import type { Links } from './links.ts'
import type { Metrics } from './metrics.ts'
import type { Sessions } from './session.ts'

export type Scope = 'runs:read' | 'runs:write' | 'callbacks:manage' | 'keys:manage'

/** Who asks. */
export interface Principal {
  apiKeyId: string
  scopes: readonly Scope[]
}

export interface ApiDeps {
  engine: Engine
  store: Store
  media: Media
  catalog: Catalog
  clock: Clock
  mode: Mode
  version: string
  /** How long a run may take, in milliseconds; the core's limit when absent. */
  runDeadlineMs?: number
  /** POST …/runs without an Idempotency-Key is 400. */
  requireIdempotencyKey?: boolean
  /** The routes of a model in this installation, in order of preference: the very function that the engine routes with. */
  routesOf(model: Model): readonly Route[]
  /** Every provider adapter; `missing` is null when it can be used, else what to set. */
  providers: readonly { id: string; missing: string | null }[]
  /** The owner of a bearer key; null for unknown, expired and revoked ones alike. May throw StorageUnavailable. */
  auth(key: string): Promise<Principal | null>
  /** Browser sessions; without it only bearer keys are taken. */
  sessions?: Sessions
  /** The built-in receiver of callbacks, in the sandbox. */
  inbox?: Inbox
  /** The built-in receiver of callbacks, in the sandbox. */
  inbox?: Inbox
  /** The egress rules that need no network. False: the URL can never be dialled. */
  checkUrl(url: string): boolean
  /** Verifies a provider's webhook over its raw bytes; null when there is no such provider or it sends none. */
  inbound(provider: string, request: InboundRequest): Promise<Hint | null>
  /** Signed links to media; shared with whoever composes callbacks. */
  links: Links
  /** Probes the database, the disk and whatever else must work to take a run. Never throws. */
  ready(): Promise<Readiness>
  /** Aborted when the server begins to stop: new work is refused, waits and event streams end. */
  draining: AbortSignal
  metrics: Metrics
  log: Log
}

export interface Readiness {
  ok: boolean
  checks: readonly { name: string; ok: boolean; detail?: string }[]
}

/** The part of pino that is used here. */
export interface Log {
  info(fields: object, message: string): void
  warn(fields: object, message: string): void
  error(fields: object, message: string): void
}

/** The part of Bun's server that is used here. */
export interface Server {
  /** Seconds of silence before the connection is cut; 0 is never. Without it Bun cuts silent handlers after 10 s. */
  timeout(request: Request, seconds: number): void
  requestIP(request: Request): { address: string } | null
}
