/** What the HTTP layer is given. `createApi(deps)` is its only door; beside core and this folder nothing is imported here. */
import type { Delivery, RecoverOrder, SendOutcome } from '../core/delivery.ts'
import type { ApiKey, KeyLimits, Scope, WebhookSecret } from '../core/keys.ts'
import type { Catalog, Model, Route } from '../core/model.ts'
import type { Clock, Engine, Hint, InboundRequest, Media, Store } from '../core/ports.ts'
import type { Mode } from '../core/run.ts'
import type { Inbox } from './inbox.ts'
import type { Links } from './links.ts'
import type { Metrics } from './metrics.ts'
import type { Sessions } from './session.ts'

/** Who asks. */
export interface Principal {
  apiKeyId: string
  scopes: readonly Scope[]
  /** Requests a minute; absent or null: no limit. */
  ratePerMinute?: number | null
  /** US dollars a day (UTC); absent or null: no limit. */
  dailyBudgetUsd?: number | null
}

export interface ApiDeps {
  engine: Engine
  store: Store
  media: Media
  catalog: Catalog
  clock: Clock
  /** The wall clock, by which keys and their texts end: ms since the epoch. */
  wall(): number
  mode: Mode
  version: string
  /** The routes of a model in this installation, in order of preference: the very function that the engine routes with. */
  routesOf(model: Model): readonly Route[]
  /** True where the stored pictures of a call must be in the request itself: there they have a limit together. */
  embeds(route: Route): boolean
  /**
   * The size of the picture in a data URI, as far as it says one; or what is there in its place (`text, not a PNG, …`), as a
   * step would find it.
   */
  lookInto(dataUri: string): Promise<{ width?: number; height?: number } | { misfit: string }>
  /** Every provider adapter; `missing` is null when it can be used, else what to set. */
  providers: readonly { id: string; missing: string | null }[]
  /** The owner of a bearer key; null for unknown, expired and revoked ones alike. May throw StorageUnavailable. */
  auth(key: string): Promise<Principal | null>
  /** API keys, the secrets that sign their callbacks, and what may be asked of callbacks. */
  keys: KeyDesk
  secrets: SecretDesk
  callbacks: CallbackDesk
  /** Browser sessions; without it only bearer keys are taken. */
  sessions?: Sessions
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
  /** Aborted a little later: a body that has not come by then is not waited for. */
  closing: AbortSignal
  metrics: Metrics
  log: Log
}

export interface KeyOrder extends KeyLimits {
  name: string
  scopes: readonly Scope[]
  expiresAt: number | null
}

/** What a key may give, to itself and to others: null is anything. */
export type KeyBounds = KeyLimits & Pick<ApiKey, 'expiresAt'>

export type KeyPatch = Partial<KeyLimits & Pick<ApiKey, 'name' | 'expiresAt'>>

/** Texts are shown with the answer that made them, and never again. */
export interface MadeKey {
  key: ApiKey
  text: string
  /** Of its callbacks. */
  secret: string
}

export interface MadeSecret {
  secret: WebhookSecret
  text: string
}

/** What somebody else decides: a sentence that says who. */
export interface Locked {
  locked: string
}

/** What was before the newest rotation is good until then (ms), as it was promised: another overlap would end it sooner. */
export interface Overlapping {
  overlapsUntil: number
}

/** The keys of this installation. What changes one is durable, and true for the next request, when it resolves. */
export interface KeyDesk {
  /** Id of the key that the owner of the machine has. */
  readonly bootstrap: string
  /** Oldest first, revoked ones too. */
  list(): ApiKey[]
  find(id: string): ApiKey | null
  /** Spent and under way today (UTC), in US dollars. */
  spentUsd(id: string): number
  /** What a key may use is what it may give; the bootstrap key may give anything. */
  bounds(id: string): KeyBounds
  create(order: KeyOrder): Promise<MadeKey | Locked>
  change(id: string, patch: KeyPatch): Promise<ApiKey | Locked | null>
  /** A new text; the one before works for `overlapMs` more. With 0 only the new one does. */
  rotate(id: string, overlapMs: number): Promise<{ key: ApiKey; text: string } | Locked | Overlapping | null>
  revoke(id: string): Promise<ApiKey | Locked | null>
}

export interface SecretDesk {
  /** Those that sign now, newest first. */
  list(apiKeyId: string): Promise<WebhookSecret[]>
  /** A new secret; the one before signs along for `overlapMs` more. With 0 only the new one does. */
  rotate(apiKeyId: string, overlapMs: number): Promise<MadeSecret | Locked | Overlapping>
}

export interface CallbackDesk {
  /** A delivery as it will go on: due no earlier than its host is left alone for its key. */
  planned<T extends Pick<Delivery, 'apiKeyId' | 'host' | 'dueAt'>>(delivery: T): T
  /** Sends a delivery once more. */
  resend(delivery: Delivery): Promise<void>
  /** Sends failed deliveries once more; says how many, and when the last of them is due. */
  recover(
    order: Pick<RecoverOrder, 'apiKeyId' | 'since' | 'until' | 'host'>,
  ): Promise<{ count: number; lastAt: number | null }>
  /** Sends a signed `webhook.ping` now, once; what waits for a receiver that took it is tried again. Never throws for what it does. */
  ping(apiKeyId: string, url: string): Promise<{ id: string; at: number; outcome: SendOutcome }>
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
