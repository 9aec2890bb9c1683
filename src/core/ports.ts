/**
 * The ports: what the core's shell needs from the outside, one line of contract a method.
 * A second Store, Engine or Provider is one file plus its contract suite.
 */
import type {
  ClaimedDelivery,
  ClaimOrder,
  ClosedHost,
  Delivery,
  DeliveryAttempt,
  DeliveryFilter,
  DeliveryStatus,
  Lease,
  NewDelivery,
  Recovered,
  RecoverOrder,
  SendOutcome,
  Settlement,
} from './delivery.ts'
import type { StepError } from './errors.ts'
import type { Json, JsonObject } from './json.ts'
import type { ApiKey, Spending, WebhookSecret } from './keys.ts'
import type { Role, StepKind } from './model.ts'
import type { CancelAnswer, Output, ProviderMedia, Run, RunEvent, RunStatus } from './run.ts'

// ── Providers ─────────────────────────────────────────────────────────────────────────────────────────────────────

export interface StartJob {
  runId: string
  stepId: string
  /** Committed before the call; in the callback address, and where possible in the job's own metadata. */
  token: string
  /** Jobs that the step has had at this provider before: what may have been paid there for nothing. */
  jobsBefore: number
  providerModel: string
  role: Role
  body: JsonObject
  /** Where the provider may call us; null without a public URL. */
  callbackUrl: string | null
  /** Keeps bytes that came in the answer itself, before anything else can fail; gives the url of a ProviderMedia. */
  stash(bytes: Uint8Array): Promise<string>
  /** To be awaited right before the first byte: without it the job counts as never sent after a crash. Throws when it must not be. */
  sending(): Promise<void>
}

export type Started =
  | { type: 'accepted'; jobRef: Json; pollAfterMs: number; costUsd?: number }
  /** A synchronous API: the answer already holds the result. `counted`: what it says that it bills, in its own units. */
  | { type: 'succeeded'; media: ProviderMedia[]; costUsd?: number; counted?: number }
  /** Certainly not accepted: nothing runs and nothing is billed. */
  | { type: 'refused'; error: StepError }
  /** The request may have arrived: only a look-up, a webhook or a person can tell. */
  | { type: 'unknown'; error: StepError }

export type Checked =
  | { type: 'pending'; progress: number | null; pollAfterMs: number }
  | { type: 'succeeded'; media: ProviderMedia[]; costUsd?: number; counted?: number }
  /** `jobless`: it was a call, not a job; nobody need ask for it again. */
  | { type: 'failed'; error: StepError; costUsd?: number; jobless?: true }
  /** The question failed, not the job. */
  | { type: 'unreachable'; error: StepError; pollAfterMs: number }

/** What a look-up tells. `unknown`: not now. `untraceable`: nobody ever will, not even a webhook; there is nothing to wait for. */
export type Found = { type: 'found'; jobRef: Json; pollAfterMs: number } | { type: 'none' | 'unknown' | 'untraceable' }

export interface FindJob {
  token: string
  stepId: string
  providerModel: string
  role: Role
  /** When the submit was intended (ms since the epoch). */
  startedAt: number
}

/** What an inbound webhook says: whose job to check. Never more than a hint. */
export type Hint = { type: 'hint'; jobRef: Json | null } | { type: 'refused'; reason: string }

export interface InboundRequest {
  /** Names in lower case. */
  headers: Readonly<Record<string, string>>
  /** What an adapter added to the callback address that it was given. */
  query?: Readonly<Record<string, string>>
  body: Uint8Array
  at: number
}

export interface Provider {
  readonly id: string
  /** Null when it can be used; else what to set, in one sentence. */
  readonly missing: string | null
  /** Jobs at once, from submit to end. */
  readonly concurrency: number
  /** How input pictures reach it, best first. */
  readonly takes: { url: boolean; dataUriBytes: number }
  /** After a submit without an answer, how long a look-up must wait until `none` is trustworthy (ms). */
  readonly settleMs: number
  /** Submits a job once. Never throws, never retries. */
  start(job: StartJob, signal: AbortSignal): Promise<Started>
  /** Asks for a job. Never throws. An unknown status is pending. */
  check(jobRef: Json, signal: AbortSignal): Promise<Checked>
  /** Asks the provider to stop a job. Never throws. */
  cancel(jobRef: Json, signal: AbortSignal): Promise<CancelAnswer>
  /** Looks for the job of a submit whose answer was lost. Absent where the provider has no way. */
  find?(attempt: FindJob, signal: AbortSignal): Promise<Found>
  /** Verifies an inbound webhook over its raw bytes. Absent where the provider sends none. */
  webhook?(request: InboundRequest): Promise<Hint>
  /** Uploads an input picture and gives a reference that `translate` may use. Absent where there is no upload. */
  upload?(picture: Picture, signal: AbortSignal): Promise<{ ok: true; ref: string } | { ok: false; error: StepError }>
  /** Opens an output. A url that is not the provider's own goes through the guarded egress. */
  open(media: ProviderMedia, signal: AbortSignal): Promise<Opened>
}

export interface Picture {
  mime: string
  bytes: Uint8Array
}

export type Opened =
  | { ok: true; stream: ReadableStream<Uint8Array>; mime: string | null; length: number | null }
  /** `expired`: the link is dead and the job should be asked for a fresh one. */
  | { ok: false; error: StepError; expired: boolean }

// ── Media ─────────────────────────────────────────────────────────────────────────────────────────────────────────

export interface KeepOrder {
  /** Id of the new media; the caller makes it, so that a second keep of the same output is the same file. */
  id: string
  kind: StepKind
  stream: ReadableStream<Uint8Array>
  /** What the sender says that it is; the bytes decide. */
  mime: string | null
  length: number | null
}

export type Kept = { ok: true; output: Output } | { ok: false; error: StepError }

export interface StoredMedia extends Output {
  runId: string | null
  stepId: string | null
  apiKeyId: string
  createdAt: number
}

export interface Media {
  /** Streams into storage: capped, sniffed, hashed, durable. Media when a row names it: the caller sees to that, within a day. */
  keep(order: KeepOrder): Promise<Kept>
  /** Keeps without a stream what came whole before: held when storage refused it, or stored already. Null: nothing is left. */
  keepAgain(id: string, kind: StepKind): Promise<Kept | null>
  /** Facts of a media, or null. */
  find(id: string): Promise<StoredMedia | null>
  /** Bytes `start` to `end` (inclusive) of a media, or null when the file is gone. */
  open(id: string, range?: { start: number; end: number }): Promise<ReadableStream<Uint8Array> | null>
  /** Holds raw bytes of a provider's answer until they are kept; gives a `stash:` url. What they are shows when they are opened. */
  stash(token: string, bytes: Uint8Array): Promise<string>
  /** The `stash:` urls of what is held whole under a token, in the order of the answer. @throws StorageUnavailable */
  stashOf(token: string): Promise<string[]>
  /** Opens a `stash:` url. */
  openStash(url: string): Promise<Opened>
  /** Removes media of runs that ended before `before`, and stray files; gives how many. */
  prune(before: number): Promise<number>
  /** Throws with a sentence when storage cannot be written, or has little room; `tryWrite` only when it cannot be written. */
  probe(): Promise<void>
  tryWrite(): Promise<void>
}

// ── Store ─────────────────────────────────────────────────────────────────────────────────────────────────────────

/** All writes of one transition. The outputs of a step that succeeds in it become media in it. */
export interface RunCommit {
  run: Run
  /** The revision that the stored run must have; a mismatch throws `RevisionConflict`. */
  expected: number
  /** Ids of the steps that changed. */
  changed: readonly string[]
  events: readonly RunEvent[]
  /** When the run next needs attention (ms), or null when it has ended. */
  wakeAt: number | null
  /** The callback, together with the terminal state. */
  delivery: NewDelivery | null
  /** Of that delivery: whoever commits it sends it at once. */
  lease: Lease | null
}

export interface CreateCommit {
  /** As it was asked for, or with its first steps begun already. */
  run: Run
  events: readonly RunEvent[]
  wakeAt: number | null
  /** The callback of a run that ends as it is created: no route takes its first step. */
  delivery: NewDelivery | null
  lease: Lease | null
  idempotency: Idempotency | null
}

/** A run that is asked for. What its creation commits beside it is the engine's business. */
export interface NewRunOrder {
  run: Run
  events: readonly RunEvent[]
  idempotency: Idempotency | null
}

export interface Idempotency {
  /** Scope (API key, method, path) and the caller's key, joined. */
  key: string
  /** SHA-256 (hex) of the canonical request. */
  fingerprint: string
  /** The answer to repeat. */
  response: string
}

export type Created =
  | { type: 'created' }
  | { type: 'replayed'; runId: string; response: string }
  | { type: 'reused'; runId: string }

export interface RunFilter {
  apiKeyId: string
  status?: readonly RunStatus[]
  chain?: string
  metadata?: Readonly<Record<string, string>>
  createdFrom?: number
  createdTo?: number
  /** Only runs older than this one (created_at, id), for the next page. */
  before?: { createdAt: number; id: string }
  limit: number
}

export interface Store {
  /** Commits a new run with its first event, or replays the run of the same idempotency key. Durable when it resolves. */
  create(commit: CreateCommit): Promise<Created>
  /** Commits a transition, all or nothing. Durable when it resolves. */
  commit(commit: RunCommit): Promise<void>
  /** Notes that a submit is about to be sent; outlives the process, not the machine. @throws StorageUnavailable: it must not be sent */
  noteSubmit(token: string): Promise<void>
  /** True when the submit of an attempt that is `submitting` was surely never sent. False where nobody can tell. */
  isUnsent(token: string): Promise<boolean>
  /** The run of an idempotency key, without writing. */
  replay(key: string, fingerprint: string): Promise<Exclude<Created, { type: 'created' }> | null>
  /** The run as it was committed last, or null. */
  run(id: string): Promise<Run | null>
  /** Runs of a key, newest first. */
  runs(filter: RunFilter): Promise<Run[]>
  /** Events of a run after a sequence number, oldest first. */
  events(runId: string, after: number, limit: number): Promise<RunEvent[]>
  /** Every event after `after`, each exactly once and in order: stored ones, then live ones. Ends with the run's end or the signal. */
  watch(runId: string, after: number, signal: AbortSignal): AsyncIterable<RunEvent>
  /** Ids of unfinished runs with a wake time up to `at`, most overdue first. */
  due(at: number, limit: number, afterId?: string): Promise<string[]>
  /** The run and step of a callback token. */
  attemptByToken(token: string): Promise<{ runId: string; stepId: string; attemptNo: number; provider: string } | null>
  /** Leases due deliveries, fairly over hosts. */
  claim(order: ClaimOrder): Promise<ClaimedDelivery[]>
  /** Records an attempt and the state after it in one transaction; false when the lease was lost (then nothing changes but the log and the host). */
  settle(settlement: Settlement): Promise<boolean>
  /** Frees the leases whose holders are known to be gone: for a store with one process, all of them. */
  freeLeases(): Promise<void>
  /** The hosts that settlements closed and have not opened since; those whose time was over before `since` are forgotten. */
  closedHosts(since: number): Promise<ClosedHost[]>
  /** When the next delivery becomes due, or null. */
  nextDeliveryAt(): Promise<number | null>
  /** The callback of a run: one at most. */
  deliveriesOf(runId: string): Promise<Delivery[]>
  /** The log of a delivery, oldest first. */
  deliveryAttempts(deliveryId: string): Promise<DeliveryAttempt[]>
  /** A delivery, or null. */
  delivery(id: string): Promise<Delivery | null>
  /** Those of a key, newest first, without their bodies. */
  deliveries(filter: DeliveryFilter): Promise<Omit<Delivery, 'body'>[]>
  /** Makes a delivery due once more, whatever its state: while it is being sent, as soon as that fails. False when there is none. */
  resend(id: string, at: number): Promise<boolean>
  /** Makes exhausted and gone deliveries due once more. */
  recover(order: RecoverOrder): Promise<Recovered>
  /** All keys, the revoked ones too, oldest first. */
  apiKeys(): Promise<ApiKey[]>
  /** Adds a key together with its first secret; replaces the key of the same id otherwise. */
  saveApiKey(key: ApiKey, secret?: WebhookSecret): Promise<void>
  /** Notes when keys were last used. */
  touchApiKeys(used: Readonly<Record<string, number>>): Promise<void>
  /** The secrets of a key, newest first. */
  webhookSecrets(apiKeyId: string): Promise<WebhookSecret[]>
  /** A new secret; the one before signs along until `retiresAt`, older ones are forgotten. */
  rotateWebhookSecret(secret: WebhookSecret, retiresAt: number): Promise<void>
  /** What attempts cost that began in [since, until), or are estimated at. In pieces, with time for everybody else between them. */
  spending(since: number, until: number): AsyncIterable<Spending[]>
  /** Makes an uploaded file a media; the outputs of a step become media with its commit. */
  addMedia(row: StoredMedia): Promise<void>
  /** Facts of a media, or null. */
  media(id: string): Promise<StoredMedia | null>
  /** Media whose run ended (or that were uploaded) before a time. */
  staleMedia(before: number, limit: number): Promise<StoredMedia[]>
  /** Removes those that are still stale by then (a run may have taken one up meanwhile); gives the ids of those removed. */
  removeMedia(ids: readonly string[], before: number): Promise<readonly string[]>
  /** Counts for metrics and health: runs by status, deliveries by status, the earliest wake time. */
  counts(): Promise<StoreCounts>
  /** Throws with a sentence when the database cannot be written now. */
  probe(): Promise<void>
  /** Frees the file and the lock. Waits for writes under way. */
  close(): Promise<void>
}

export interface StoreCounts {
  runs: Record<RunStatus, number>
  deliveries: Record<DeliveryStatus, number>
  /** The earliest wake time of all runs (ms since the epoch); null when no run is open. */
  oldestDueAt: number | null
}

/** The stored run is not at the revision that the writer expected: someone else wrote it. */
export class RevisionConflict extends Error {
  override name = 'RevisionConflict'
}

/** The disk is full or broken, or the database is locked: the write was not made and may be tried again. */
export class StorageUnavailable extends Error {
  override name = 'StorageUnavailable'
}

/** The key has as many waiting runs as it may have. */
export class QueueFull extends Error {
  override name = 'QueueFull'
}

/** The server is stopping: the caller should come back. */
export class Draining extends Error {
  override name = 'Draining'
}

// ── Notifier, Clock, Engine ───────────────────────────────────────────────────────────────────────────────────────

export interface Notifier {
  /** The delivery of an ended run, its body final; null when the run has no callback. */
  compose(run: Run, at: number): NewDelivery | null
  /** Sends one signed attempt. An error counts as a failed one. @throws StorageUnavailable when nothing was sent: it is made later */
  send(delivery: ClaimedDelivery, signal: AbortSignal): Promise<SendOutcome>
}

/** Time, chance and ids. Everything that waits waits here. */
export interface Clock {
  /** Our own time, ms since the epoch: it follows the wall clock ahead and never goes back, not from one process to the next either. */
  now(): number
  /** Calls back once, not before `at`; gives a way to forget it. */
  at(at: number, call: () => void): () => void
  /** 0 ≤ x < 1. */
  random(): number
  /** UUIDv7. */
  id(): string
  /** 128 random bits, URL-safe. */
  token(): string
}

/** Who wants to know what happened: metrics and logs. Never throws, never waits. */
export interface Observer {
  /** An attempt ended: how, and how long it took from its intent (ms). */
  attemptEnded(attempt: {
    runId: string
    stepId: string
    stepKey: string
    attempt: number
    model: string
    provider: string
    outcome: string
    code: string | null
    ms: number
  }): void
  /** A run ended, and how long it took from its creation (ms). */
  runEnded(run: { runId: string; slug: string; status: RunStatus; code: string | null; ms: number }): void
  /** A delivery was attempted. */
  deliveryTried(delivery: {
    deliveryId: string
    runId: string
    /** What the attempt made of it. as_before: nothing, since somebody asked for it and it failed. */
    status: DeliveryStatus | 'as_before'
    httpStatus: number | null
    errorClass: string | null
    ms: number
  }): void
  /** Something that should not happen happened and was survived. */
  fault(where: string, error: unknown, context?: Readonly<Record<string, string | number>>): void
}

export interface EngineStats {
  /** Runs that are live in memory. */
  actors: number
  /** Jobs, by provider. */
  inFlight: Readonly<Record<string, number>>
  /** Not closed, by `provider/model`. */
  breakers: Readonly<Record<string, 'open' | 'half_open'>>
  /** Steps that wait for a place, or until outputs can be stored. */
  waiting: number
  /** When the most overdue of the live runs should have been woken (ms since the epoch); null when none is overdue. */
  overdueAt: number | null
  /** Every run that was due by then has been taken up (ms since the epoch). */
  sweptAt: number
}

export interface Engine {
  /** Commits a new run and begins it; or replays. Resolves after the commit. */
  create(order: NewRunOrder): Promise<Created>
  /** Cancels; resolves when the wish is committed, with the run as it then is. Null when there is no such run. */
  cancel(runId: string): Promise<Run | null>
  /** Hands an inbound webhook's hint to the run it belongs to. Resolves when what it brings is committed; false when nobody knows the token. */
  hint(token: string, jobRef: Json | null): Promise<boolean>
  /** The run as it now is: the live one where there is one. */
  run(runId: string): Promise<Run | null>
  /** With a key: the breakers that its steps would meet; without, those of all keys. */
  stats(apiKeyId?: string): EngineStats
  /** Takes up every unfinished run. */
  start(): Promise<void>
  /** Takes no new work, lets commits finish, and stops. */
  drain(): Promise<void>
}
