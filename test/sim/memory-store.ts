/**
 * The Store in memory, for simulations that are played by the ten thousand. It passes the contract of every Store.
 *
 * 1. `MemoryDisk` outlives a process; a `MemoryStore` is what one process has opened of it.
 * 2. A write takes effect at once and whole; who wants it late, lost or refused wraps the store.
 * 3. Runs are values: what was committed is what is read.
 */
import {
  type ClaimedDelivery,
  type ClaimOrder,
  type ClosedHost,
  type Delivery,
  type DeliveryAttempt,
  type DeliveryFilter,
  type DeliveryStatus,
  type Lease,
  type NewDelivery,
  type Prior,
  type Recovered,
  type RecoverOrder,
  receiverOf,
  type Settlement,
  type Trigger,
} from '../../src/core/delivery.ts'
import type { ApiKey, Spending, WebhookSecret } from '../../src/core/keys.ts'
import {
  type CreateCommit,
  type Created,
  RevisionConflict,
  type RunCommit,
  type RunFilter,
  StorageUnavailable,
  type Store,
  type StoreCounts,
  type StoredMedia,
} from '../../src/core/ports.ts'
import { assertRun, attemptsOf, isEnded, type Run, type RunEvent } from '../../src/core/run.ts'
import { EventFeed } from '../../src/store/sqlite/feed.ts'
import { mediaRowsOf } from '../../src/store/sqlite/rows.ts'

interface RunRecord {
  run: Run
  wakeAt: number | null
  events: RunEvent[]
}
interface DeliveryRecord {
  delivery: Delivery
  readyAt: number
  leaseToken: string | null
  trigger: Trigger
  prior: Prior | null
  log: DeliveryAttempt[]
}
type TokenPlace = { runId: string; stepId: string; attemptNo: number; provider: string }

export class MemoryDisk {
  readonly runs = new Map<string, RunRecord>()
  readonly tokens = new Map<string, TokenPlace>()
  readonly noted = new Set<string>()
  readonly keys = new Map<string, { fingerprint: string; runId: string; response: string }>()
  readonly deliveries = new Map<string, DeliveryRecord>()
  readonly closedHosts = new Map<string, ClosedHost>()
  readonly deliveryOfRun = new Map<string, string>()
  readonly media = new Map<string, StoredMedia>()
  readonly apiKeys = new Map<string, ApiKey>()
  webhookSecrets: WebhookSecret[] = []
}

export class MemoryStore implements Store {
  readonly #disk: MemoryDisk
  readonly #feed = new EventFeed(256)
  readonly #cursors = new Map<string, number>()
  #closed = false

  constructor(disk: MemoryDisk) {
    this.#disk = disk
  }

  async create({ run, events, wakeAt, delivery, lease, idempotency }: CreateCommit): Promise<Created> {
    const disk = this.#open()
    const known = idempotency && replayOf(disk, idempotency.key, idempotency.fingerprint)
    if (known) return known
    if (disk.runs.has(run.id)) throw new Error(`run ${run.id} is there`)
    const record: RunRecord = { run, wakeAt, events: [] }
    append(record.events, run, events)
    disk.runs.set(run.id, record)
    indexTokens(disk, run)
    if (idempotency) {
      const { key, fingerprint, response } = idempotency
      disk.keys.set(key, { fingerprint, runId: run.id, response })
    }
    if (delivery) insert(disk, delivery, lease)
    this.#feed.publish(run.id, events)
    return { type: 'created' }
  }

  async commit({ run, expected, changed, events, wakeAt, delivery, lease }: RunCommit): Promise<void> {
    const disk = this.#open()
    const record = disk.runs.get(run.id)
    if (record?.run.revision !== expected)
      throw new RevisionConflict(`run ${run.id} is at ${record?.run.revision ?? 'nothing'}, not at ${expected}`)
    if (run.revision <= expected) throw new Error('a commit must raise the revision')
    if (isEnded(run) !== (wakeAt === null)) throw new Error('an open run has a wake time, an ended one none')
    if (delivery && disk.deliveryOfRun.has(run.id)) throw new Error('a run has one terminal callback')
    const log = [...record.events]
    append(log, run, events)
    const steps = run.steps.map((step, i) => (changed.includes(step.id) ? step : (record.run.steps[i] ?? step)))
    Object.assign(record, { run: { ...run, steps }, wakeAt, events: log })
    indexTokens(disk, run)
    for (const row of mediaRowsOf(run, changed)) if (!disk.media.has(row.mediaId)) disk.media.set(row.mediaId, row)
    if (delivery) insert(disk, delivery, lease)
    this.#feed.publish(run.id, events)
  }

  async replay(key: string, fingerprint: string): Promise<Exclude<Created, { type: 'created' }> | null> {
    return replayOf(this.#open(), key, fingerprint)
  }

  async run(id: string): Promise<Run | null> {
    const run = this.#open().runs.get(id)?.run ?? null
    if (run) assertRun(run)
    return run
  }

  async runs(filter: RunFilter): Promise<Run[]> {
    const all = [...this.#open().runs.values()].map(record => record.run)
    const found = all.filter(run => fits(run, filter)).sort(newestFirst)
    return found.slice(0, filter.limit)
  }

  async events(runId: string, after: number, limit: number): Promise<RunEvent[]> {
    const events = this.#open().runs.get(runId)?.events ?? []
    return events.filter(event => event.seq > after).slice(0, limit)
  }

  watch(runId: string, after: number, signal: AbortSignal): AsyncIterable<RunEvent> {
    const log = {
      read: (last: number, limit: number) =>
        (this.#open().runs.get(runId)?.events ?? []).filter(event => event.seq > last).slice(0, limit),
      isOver: (last: number) => {
        const run = this.#open().runs.get(runId)?.run
        return run === undefined || (isEnded(run) && run.lastSeq <= last)
      },
    }
    return this.#feed.watch(runId, after, log, signal)
  }

  async due(at: number, limit: number, afterId?: string): Promise<string[]> {
    const from = afterId === undefined ? Number.NEGATIVE_INFINITY : (this.#cursors.get(afterId) ?? 0)
    const page = [...this.#open().runs.values()]
      .flatMap(({ run: { id }, wakeAt }) => (wakeAt !== null && wakeAt <= at ? [{ id, wakeAt }] : []))
      .filter(each => each.wakeAt > from || (each.wakeAt === from && each.id > (afterId ?? '')))
      .sort((a, b) => a.wakeAt - b.wakeAt || (a.id < b.id ? -1 : 1))
      .slice(0, limit)
    const last = page.at(-1)
    if (last) this.#cursors.set(last.id, last.wakeAt)
    return page.map(each => each.id)
  }

  async noteSubmit(token: string): Promise<void> {
    this.#open().noted.add(token)
  }

  async isUnsent(token: string): Promise<boolean> {
    return !this.#open().noted.has(token)
  }

  async attemptByToken(token: string): Promise<TokenPlace | null> {
    return this.#open().tokens.get(token) ?? null
  }

  // ── Deliveries ──────────────────────────────────────────────────────────────────────────────────────────────────

  async claim(order: ClaimOrder): Promise<ClaimedDelivery[]> {
    const { at, limit, perHost, perKey, inFlight } = order
    const [ranks, keys] = [new Map<string, number>(), new Map(Object.entries(order.inFlightOfKeys))]
    const probes = new Set<string>()
    let { retries } = order
    const rank = ({ delivery: { host } }: DeliveryRecord): number => ranks.get(host) ?? 0
    const mayTake = (record: DeliveryRecord): boolean => {
      const { host, apiKeyId, attempts } = record.delivery
      if (probes.has(receiverOf(record.delivery))) return false
      const isFree = rank(record) < perHost - (inFlight[host] ?? 0) && (keys.get(apiKeyId) ?? 0) < perKey
      return isFree && (attempts === 0 || retries > 0)
    }
    let due = [...this.#open().deliveries.values()]
      .filter(({ delivery, readyAt }) => delivery.status === 'pending' && readyAt <= at)
      .filter(({ delivery }) => !order.closed(delivery.host).has(delivery.apiKeyId))
      .sort((a, b) => a.readyAt - b.readyAt || (a.delivery.id < b.delivery.id ? -1 : 1))
    const claimed: DeliveryRecord[] = []
    while (claimed.length < limit) {
      // What may not be taken now may not be taken later in this claim either: places only become fewer.
      due = due.filter(mayTake)
      const lowest = Math.min(...due.map(rank))
      const next = due.find(record => rank(record) === lowest)
      if (!next) break
      const { host, apiKeyId, attempts } = next.delivery
      ranks.set(host, lowest + 1)
      keys.set(apiKeyId, (keys.get(apiKeyId) ?? 0) + 1)
      if (attempts > 0) retries -= 1
      if (order.probed(host).has(apiKeyId)) probes.add(receiverOf(next.delivery))
      claimed.push(next)
      due = due.filter(record => record !== next)
    }
    for (const record of claimed) {
      const counted = record.trigger === 'schedule' ? 1 : 0
      Object.assign(record, { leaseToken: order.leaseToken, readyAt: order.leaseUntil })
      record.delivery = { ...record.delivery, attempts: record.delivery.attempts + counted, updatedAt: order.at }
    }
    return claimed
      .map(({ delivery, trigger, prior }) => ({
        ...delivery,
        trigger,
        prior,
        leaseToken: order.leaseToken,
      }))
      .sort((a, b) => a.dueAt - b.dueAt || (a.id < b.id ? -1 : 1))
  }

  async settle(settlement: Settlement): Promise<boolean> {
    const { deliveryId, leaseToken, at, status, dueAt, counts, attempt, hostChange } = settlement
    const { deliveries, closedHosts } = this.#open()
    const record = deliveries.get(deliveryId)
    if (status === 'pending' && dueAt === null) throw new Error('a pending delivery says when')
    if (hostChange?.closedUntil === null) closedHosts.delete(hostChange.receiver)
    else if (hostChange) closedHosts.set(hostChange.receiver, hostChange)
    if (!record) return false
    if (record.leaseToken !== leaseToken) {
      record.log.push({ ...attempt, nextAt: null, reason: 'lease_lost' })
      return false
    }
    const due = dueAt ?? record.delivery.dueAt
    const isWished = attempt.errorClass !== null && record.delivery.dueAt > record.delivery.updatedAt
    const uncounted = !counts && record.trigger === 'schedule' ? 1 : 0
    record.delivery = {
      ...record.delivery,
      status,
      dueAt: due,
      attempts: record.delivery.attempts - uncounted,
      updatedAt: at,
      deliveredAt: status === 'delivered' && attempt.errorClass === null ? at : record.delivery.deliveredAt,
      lastError: attempt.errorClass,
    }
    Object.assign(record, { readyAt: due, leaseToken: null })
    if (counts) Object.assign(record, { trigger: 'schedule', prior: null })
    record.log.push(attempt)
    if (isWished) await this.resend(deliveryId, at)
    return true
  }

  async freeLeases(): Promise<void> {
    for (const record of this.#open().deliveries.values()) {
      if (record.leaseToken !== null) Object.assign(record, { leaseToken: null, readyAt: record.delivery.dueAt })
    }
  }

  async closedHosts(since: number): Promise<ClosedHost[]> {
    const { closedHosts } = this.#open()
    for (const { receiver, closedUntil } of closedHosts.values()) if (closedUntil < since) closedHosts.delete(receiver)
    return [...closedHosts.values()]
  }

  async nextDeliveryAt(): Promise<number | null> {
    const times = [...this.#open().deliveries.values()].flatMap(({ delivery, readyAt }) =>
      delivery.status === 'pending' ? [readyAt] : [],
    )
    return times.length > 0 ? Math.min(...times) : null
  }

  async deliveriesOf(runId: string): Promise<Delivery[]> {
    const id = this.#open().deliveryOfRun.get(runId)
    const record = id === undefined ? undefined : this.#disk.deliveries.get(id)
    return record ? [record.delivery] : []
  }

  async deliveryAttempts(deliveryId: string): Promise<DeliveryAttempt[]> {
    return [...(this.#open().deliveries.get(deliveryId)?.log ?? [])]
  }

  async delivery(id: string): Promise<Delivery | null> {
    return this.#open().deliveries.get(id)?.delivery ?? null
  }

  async deliveries(filter: DeliveryFilter): Promise<Omit<Delivery, 'body'>[]> {
    const { status = [], before } = filter
    const all = [...this.#open().deliveries.values()].map(record => record.delivery)
    return all
      .filter(each => each.apiKeyId === filter.apiKeyId && each.runId === (filter.runId ?? each.runId))
      .filter(each => each.host === (filter.host ?? each.host) && (status.length === 0 || status.includes(each.status)))
      .filter(each => !before || newestFirst(before, each) < 0)
      .sort(newestFirst)
      .slice(0, filter.limit)
      .map(({ body: _, ...rest }) => rest)
  }

  async resend(id: string, at: number): Promise<boolean> {
    const record = this.#open().deliveries.get(id)
    if (record && record.leaseToken !== null)
      record.delivery = { ...record.delivery, dueAt: Math.max(at, record.delivery.updatedAt + 1) }
    else if (record?.trigger === 'schedule') ask(record, 'manual', at, at)
    return record !== undefined
  }

  async recover(order: RecoverOrder): Promise<Recovered> {
    const { after } = order
    const found = [...this.#open().deliveries.values()]
      .filter(({ delivery: { status } }) => status === 'exhausted' || status === 'gone')
      .filter(({ delivery }) => delivery.apiKeyId === order.apiKeyId && delivery.host === (order.host ?? delivery.host))
      .filter(({ delivery: { createdAt } }) => createdAt >= order.since && createdAt < order.until)
      .filter(({ delivery }) => !after || newestFirst(delivery, after) < 0)
      .sort((a, b) => -newestFirst(a.delivery, b.delivery))
      .slice(0, order.limit)
    for (const [n, record] of found.entries()) ask(record, 'recover', order.at + n * order.spacingMs, order.at)
    const last = found.length === order.limit ? found.at(-1)?.delivery : undefined
    return { count: found.length, last: last ? { createdAt: last.createdAt, id: last.id } : null }
  }

  // ── Keys, media ──────────────────────────────────────────────────────────────────────────────────────────────────

  async apiKeys(): Promise<ApiKey[]> {
    return [...this.#open().apiKeys.values()].sort((a, b) => -newestFirst(a, b))
  }

  async saveApiKey(key: ApiKey, secret?: WebhookSecret): Promise<void> {
    const { apiKeys, webhookSecrets } = this.#open()
    const twin = [...apiKeys.values()].some(each => each.hash === key.hash && each.id !== key.id)
    if (twin || webhookSecrets.some(each => each.id === secret?.id)) throw new Error('that key or secret is there')
    apiKeys.set(key.id, key)
    if (secret) webhookSecrets.push(secret)
  }

  async touchApiKeys(used: Readonly<Record<string, number>>): Promise<void> {
    for (const [id, at] of Object.entries(used)) {
      const key = this.#open().apiKeys.get(id)
      if (key && (key.lastUsedAt ?? 0) < at) this.#disk.apiKeys.set(id, { ...key, lastUsedAt: at })
    }
  }

  async webhookSecrets(apiKeyId: string): Promise<WebhookSecret[]> {
    const own = this.#open().webhookSecrets.filter(secret => secret.apiKeyId === apiKeyId)
    return own.sort(newestFirst).toSorted((a, b) => Number(a.retiresAt !== null) - Number(b.retiresAt !== null))
  }

  async rotateWebhookSecret(secret: WebhookSecret, retiresAt: number): Promise<void> {
    const disk = this.#open()
    const kept = disk.webhookSecrets.filter(each => each.apiKeyId !== secret.apiKeyId || each.retiresAt === null)
    const before = kept.map(each => (each.apiKeyId === secret.apiKeyId ? { ...each, retiresAt } : each))
    disk.webhookSecrets = [...before, secret]
  }

  async *spending(since: number, until: number): AsyncIterable<Spending[]> {
    const ended = new Map<string, number>()
    const open: Spending[] = []
    for (const { run } of this.#open().runs.values()) {
      for (const step of run.steps.filter(each => !each.inherited)) {
        for (const attempt of attemptsOf(step).filter(each => each.startedAt >= since && each.startedAt < until)) {
          const usd = attempt.cost.actualUsd ?? attempt.cost.estimatedUsd ?? 0
          const { no, startedAt } = attempt
          if (attempt.outcome !== 'pending') ended.set(run.apiKeyId, (ended.get(run.apiKeyId) ?? 0) + usd)
          else open.push({ apiKeyId: run.apiKeyId, usd, attempt: { stepId: step.id, no, startedAt } })
        }
      }
    }
    yield [...[...ended].map(([apiKeyId, usd]) => ({ apiKeyId, usd, attempt: null })), ...open]
  }

  async addMedia(row: StoredMedia): Promise<void> {
    if (this.#open().media.has(row.mediaId)) throw new Error(`media ${row.mediaId} is there`)
    this.#disk.media.set(row.mediaId, row)
  }

  async media(id: string): Promise<StoredMedia | null> {
    return this.#open().media.get(id) ?? null
  }

  async staleMedia(before: number, limit: number): Promise<StoredMedia[]> {
    const runs = [...this.#open().runs.values()].map(record => record.run)
    const idleSince = (row: StoredMedia): number => {
      const users = runs.filter(run => row.runId === run.id || uses(run, row.mediaId))
      if (users.some(run => !isEnded(run))) return Number.POSITIVE_INFINITY
      return users.length > 0 ? Math.max(...users.map(run => run.updatedAt)) : row.createdAt
    }
    return [...this.#disk.media.values()]
      .map(row => ({ row, idle: idleSince(row) }))
      .filter(each => each.idle < before)
      .sort((a, b) => a.idle - b.idle || (a.row.mediaId < b.row.mediaId ? -1 : 1))
      .slice(0, limit)
      .map(each => each.row)
  }

  async removeMedia(ids: readonly string[], before: number): Promise<readonly string[]> {
    const stale = new Set((await this.staleMedia(before, Number.MAX_SAFE_INTEGER)).map(row => row.mediaId))
    return ids.filter(id => stale.has(id) && this.#open().media.delete(id))
  }

  async counts(): Promise<StoreCounts> {
    const { runs, deliveries } = this.#open()
    const counts: StoreCounts = {
      runs: { queued: 0, running: 0, succeeded: 0, failed: 0, canceled: 0 },
      deliveries: { pending: 0, delivered: 0, exhausted: 0, gone: 0 },
      oldestDueAt: null,
    }
    for (const { run, wakeAt } of runs.values()) {
      counts.runs[run.status] += 1
      if (wakeAt !== null) counts.oldestDueAt = Math.min(counts.oldestDueAt ?? wakeAt, wakeAt)
    }
    for (const { delivery } of deliveries.values()) counts.deliveries[delivery.status as DeliveryStatus] += 1
    return counts
  }

  async probe(): Promise<void> {
    this.#open()
  }

  async close(): Promise<void> {
    this.#closed = true
    this.#feed.close()
  }

  #open(): MemoryDisk {
    if (this.#closed) throw new StorageUnavailable('the store is closed')
    return this.#disk
  }
}

function replayOf(disk: MemoryDisk, key: string, fingerprint: string): Exclude<Created, { type: 'created' }> | null {
  const known = disk.keys.get(key)
  if (!known) return null
  if (known.fingerprint !== fingerprint) return { type: 'reused', runId: known.runId }
  return { type: 'replayed', runId: known.runId, response: known.response }
}

function insert(disk: MemoryDisk, order: NewDelivery, lease: Lease | null): void {
  disk.deliveryOfRun.set(order.runId, order.id)
  disk.deliveries.set(order.id, {
    delivery: {
      ...order,
      status: 'pending',
      attempts: lease ? 1 : 0,
      updatedAt: order.createdAt,
      deliveredAt: null,
      lastError: null,
    },
    readyAt: lease?.until ?? order.dueAt,
    leaseToken: lease?.token ?? null,
    trigger: 'schedule',
    prior: null,
    log: [],
  })
}

function append(log: RunEvent[], run: Run, events: readonly RunEvent[]): void {
  for (const event of events) {
    if (event.seq !== log.length + 1) throw new Error(`event ${event.seq} came where ${log.length + 1} was due`)
    log.push(event)
  }
  if (run.lastSeq !== log.length) throw new Error(`the run says ${run.lastSeq}, its log ends at ${log.length}`)
}

function indexTokens(disk: MemoryDisk, run: Run): void {
  for (const step of run.steps) {
    if (step.inherited) continue
    for (const { token, no, provider } of attemptsOf(step))
      disk.tokens.set(token, { runId: run.id, stepId: step.id, attemptNo: no, provider })
  }
}

function ask(record: DeliveryRecord, trigger: Trigger, dueAt: number, at: number): void {
  const { status, dueAt: before } = record.delivery
  record.prior = { status, dueAt: before }
  record.trigger = trigger
  record.readyAt = dueAt
  record.delivery = { ...record.delivery, status: 'pending', dueAt, updatedAt: at }
}

function uses(run: Run, mediaId: string): boolean {
  return run.steps.some(
    step =>
      step.pictures.includes(`media:${mediaId}`) ||
      (step.status === 'succeeded' && step.outputs.some(output => output.mediaId === mediaId)),
  )
}

function fits(run: Run, filter: RunFilter): boolean {
  const { status = [], chain, metadata = {}, createdFrom = 0, createdTo = Number.MAX_SAFE_INTEGER, before } = filter
  return (
    run.apiKeyId === filter.apiKeyId &&
    (status.length === 0 || status.includes(run.status)) &&
    (chain === undefined || run.chain.slug === chain || run.chain.aliases.includes(chain)) &&
    Object.entries(metadata).every(([key, value]) => run.metadata[key] === value) &&
    run.createdAt >= createdFrom &&
    run.createdAt <= createdTo &&
    (!before || newestFirst(before, run) < 0)
  )
}

function newestFirst(a: { createdAt: number; id: string }, b: { createdAt: number; id: string }): number {
  return b.createdAt - a.createdAt || (a.id === b.id ? 0 : a.id < b.id ? 1 : -1)
}
