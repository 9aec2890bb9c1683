/**
 * The Store on bun:sqlite: one process, one file, one writer.
 *
 * 1. Every write goes through the group commit and is durable when its promise resolves (synchronous=FULL).
 * 2. Reads are synchronous underneath: they see whole groups, never half of one.
 * 3. Live events are published after the commit that made them durable.
 * 4. Faults of the disk arrive as StorageUnavailable; the store needs no restart to recover.
 */
import type { Database } from 'bun:sqlite'
import type {
  ClaimedDelivery,
  ClaimOrder,
  ClosedHost,
  Delivery,
  DeliveryAttempt,
  DeliveryFilter,
  Recovered,
  RecoverOrder,
  Settlement,
} from '../../core/delivery.ts'
import type { ApiKey, Spending, WebhookSecret } from '../../core/keys.ts'
import {
  type CreateCommit,
  type Created,
  type RunCommit,
  type RunFilter,
  StorageUnavailable,
  type Store,
  type StoreCounts,
  type StoredMedia,
} from '../../core/ports.ts'
import { attemptsOf, type Run, type RunEvent } from '../../core/run.ts'
import { Counters } from './counters.ts'
import type { OpenDatabase } from './database.ts'
import { DeliveryTables } from './deliveries.ts'
import { asStorageError, type DatabaseTaken } from './errors.ts'
import { EventFeed } from './feed.ts'
import { GroupCommit } from './group-commit.ts'
import { KeyTables } from './keys.ts'
import { mediaRowsOf } from './rows.ts'
import { RunList } from './run-list.ts'
import { RunTables } from './runs.ts'
import { SmallTables } from './small-tables.ts'

/** Events that one watcher holds at most. */
const PAGE = 256
/** Pages of `due` whose end is remembered; a sweep has one open at a time. */
const CURSORS = 64

export class SqliteStore implements Store {
  readonly #opened: OpenDatabase
  readonly #now: () => number
  readonly #group: GroupCommit
  readonly #feed: EventFeed
  readonly #runs: RunTables
  readonly #list: RunList
  readonly #deliveries: DeliveryTables
  readonly #keys: KeyTables
  readonly #small: SmallTables
  readonly #counters: Counters
  readonly #cursors = new Map<string, number>()
  #closing: Promise<void> | null = null

  constructor(opened: OpenDatabase, now: () => number, feed = new EventFeed(PAGE)) {
    const { db } = opened
    this.#opened = opened
    this.#now = now
    this.#group = new GroupCommit(db, opened.fence)
    this.#feed = feed
    this.#counters = new Counters(db)
    this.#runs = new RunTables(db, this.#counters)
    this.#list = new RunList(db)
    this.#deliveries = new DeliveryTables(db, this.#counters)
    this.#keys = new KeyTables(db)
    this.#small = new SmallTables(db)
  }

  /** The database itself, for tests and for maintenance. */
  get db(): Database {
    return this.#opened.db
  }

  /** Resolves when another process has opened this database: this one can write nothing any more, and must end. */
  get taken(): Promise<DatabaseTaken> {
    return this.#opened.taken
  }

  /** Tells who finds the directory locked where this process is asked; null: nowhere. Throws what the disk says. */
  noteOrigin(origin: string | null): void {
    this.#opened.noteOrigin(origin)
  }

  // ── Runs ────────────────────────────────────────────────────────────────────────────────────────────────────────

  async create(commit: CreateCommit): Promise<Created> {
    let created: Created | null = null
    return this.#group.write(
      () => {
        created = this.#runs.create(commit, this.#now())
        if (created.type === 'created' && commit.delivery) this.#deliveries.insert(commit.delivery, commit.lease)
        return created
      },
      () => {
        if (created?.type !== 'created') return
        this.#runs.remember(commit.run, null)
        this.#feed.publish(commit.run.id, commit.events)
      },
    )
  }

  async commit(commit: RunCommit): Promise<void> {
    return this.#group.write(
      () => {
        this.#runs.save(commit)
        for (const row of mediaRowsOf(commit.run, commit.changed)) this.#small.addMedia(row)
        if (commit.delivery) this.#deliveries.insert(commit.delivery, commit.lease)
      },
      () => {
        this.#runs.remember(commit.run, commit.changed)
        this.#endSubmits(commit)
        this.#feed.publish(commit.run.id, commit.events)
      },
    )
  }

  async noteSubmit(token: string): Promise<void> {
    this.#opened.sends.note(token)
    // Only now: who begins after this finds the note.
    this.#read(() => this.#opened.fence())
  }

  async isUnsent(token: string): Promise<boolean> {
    return this.#opened.sends.isUnsent(token)
  }

  async replay(key: string, fingerprint: string): Promise<Exclude<Created, { type: 'created' }> | null> {
    return this.#read(() => this.#runs.replay(key, fingerprint))
  }

  async run(id: string): Promise<Run | null> {
    return this.#read(() => this.#runs.load(id))
  }

  async runs(filter: RunFilter): Promise<Run[]> {
    const ids = await this.#read(() => this.#list.page(filter))
    return this.#read(() => ids.flatMap(id => this.#runs.load(id) ?? []))
  }

  async events(runId: string, after: number, limit: number): Promise<RunEvent[]> {
    return this.#read(() => this.#runs.events(runId, after, limit))
  }

  watch(runId: string, after: number, signal: AbortSignal): AsyncIterable<RunEvent> {
    const log = {
      read: (last: number, limit: number) => this.#read(() => this.#runs.events(runId, last, limit)),
      isOver: (last: number) => {
        const head = this.#read(() => this.#runs.head(runId))
        return head === null || (head.ended && head.lastSeq <= last)
      },
    }
    return this.#feed.watch(runId, after, log, signal)
  }

  async due(at: number, limit: number, afterId?: string): Promise<string[]> {
    return this.#read(() => {
      const after = { wakeAt: this.#cursor(afterId), id: afterId ?? '' }
      const page = this.#runs.due(at, limit, after)
      const last = page.at(-1)
      if (last) this.#cursors.set(last.id, last.wake_at)
      for (const id of this.#cursors.keys()) if (this.#cursors.size > CURSORS) this.#cursors.delete(id)
      return page.map(row => row.id)
    })
  }

  /**
   * The wake time at which a page ended. Its last run may have been rescheduled or have ended since, so the time is
   * remembered; where it is not, the sweep begins again, which repeats ids but leaves none out.
   */
  #cursor(afterId: string | undefined): number {
    if (afterId === undefined) return Number.MIN_SAFE_INTEGER
    return this.#cursors.get(afterId) ?? this.#runs.wakeAt(afterId) ?? Number.MIN_SAFE_INTEGER
  }

  async attemptByToken(
    token: string,
  ): Promise<{ runId: string; stepId: string; attemptNo: number; provider: string } | null> {
    return this.#read(() => this.#runs.attemptByToken(token))
  }

  // ── Deliveries ──────────────────────────────────────────────────────────────────────────────────────────────────

  async claim(order: ClaimOrder): Promise<ClaimedDelivery[]> {
    let isMade = false
    const claim = (): ClaimedDelivery[] => {
      // Made once already: the transaction was taken back.
      if (isMade) this.#deliveries.claimFailed()
      isMade = true
      return this.#deliveries.claim(order)
    }
    return this.#group.write(claim).catch(error => {
      this.#deliveries.claimFailed()
      throw error
    })
  }

  async settle(settlement: Settlement): Promise<boolean> {
    return this.#group.write(() => this.#deliveries.settle(settlement))
  }

  async freeLeases(): Promise<void> {
    return this.#group.write(() => this.#deliveries.freeLeases())
  }

  async closedHosts(since: number): Promise<ClosedHost[]> {
    return this.#group.write(() => this.#deliveries.closedHosts(since))
  }

  async nextDeliveryAt(): Promise<number | null> {
    return this.#read(() => this.#deliveries.nextReadyAt())
  }

  async deliveriesOf(runId: string): Promise<Delivery[]> {
    return this.#read(() => this.#deliveries.ofRun(runId))
  }

  async deliveryAttempts(deliveryId: string): Promise<DeliveryAttempt[]> {
    return this.#read(() => this.#deliveries.attempts(deliveryId))
  }

  async delivery(id: string): Promise<Delivery | null> {
    return this.#read(() => this.#deliveries.get(id))
  }

  async deliveries(filter: DeliveryFilter): Promise<Omit<Delivery, 'body'>[]> {
    return this.#read(() => this.#deliveries.list(filter))
  }

  async resend(id: string, at: number): Promise<boolean> {
    return this.#group.write(() => this.#deliveries.resend(id, at))
  }

  async recover(order: RecoverOrder): Promise<Recovered> {
    return this.#group.write(() => this.#deliveries.recover(order))
  }

  // ── Keys ────────────────────────────────────────────────────────────────────────────────────────────────────────

  async apiKeys(): Promise<ApiKey[]> {
    return this.#read(() => this.#keys.all())
  }

  async saveApiKey(key: ApiKey, secret?: WebhookSecret): Promise<void> {
    return this.#group.write(() => this.#keys.save(key, secret))
  }

  async touchApiKeys(used: Readonly<Record<string, number>>): Promise<void> {
    return this.#group.write(() => this.#keys.touch(used))
  }

  async webhookSecrets(apiKeyId: string): Promise<WebhookSecret[]> {
    return this.#read(() => this.#keys.secrets(apiKeyId))
  }

  async rotateWebhookSecret(secret: WebhookSecret, retiresAt: number): Promise<void> {
    return this.#group.write(() => this.#keys.rotateSecret(secret, retiresAt))
  }

  async *spending(since: number, until: number): AsyncIterable<Spending[]> {
    const pieces = this.#keys.spending(since, until)
    for (;;) {
      const piece = this.#read(() => pieces.next())
      if (piece.done) return
      yield piece.value
      await new Promise(resolve => setImmediate(resolve))
    }
  }

  // ── Media ────────────────────────────────────────────────────────────────────────────────────────────────────────

  async addMedia(row: StoredMedia): Promise<void> {
    return this.#group.write(() => this.#small.addMedia(row))
  }

  async media(id: string): Promise<StoredMedia | null> {
    return this.#read(() => this.#small.media(id))
  }

  async staleMedia(before: number, limit: number): Promise<StoredMedia[]> {
    return this.#read(() => this.#small.staleMedia(before, limit))
  }

  async removeMedia(ids: readonly string[], before: number): Promise<readonly string[]> {
    return this.#group.write(() => this.#small.removeMedia(ids, before))
  }

  // ── Health, end ─────────────────────────────────────────────────────────────────────────────────────────────────

  async counts(): Promise<StoreCounts> {
    return this.#read(() => ({ ...this.#counters.read(), oldestDueAt: this.#runs.oldestDueAt() }))
  }

  /** Writes as much as a small run and takes it away again: a full disk is found before a caller finds it. */
  async probe(): Promise<void> {
    return this.#group.write(() => {
      this.#small.putSetting('probe', 'x'.repeat(16_384), this.#now())
      this.#small.removeSetting('probe')
    })
  }

  close(): Promise<void> {
    this.#closing ??= this.#group.close().then(() => {
      this.#feed.close()
      this.#opened.close()
    })
    return this.#closing
  }

  #endSubmits({ run, changed }: RunCommit): void {
    for (const step of run.steps) {
      const isUnderWay = step.status === 'submitting' && step.lookup === null
      if (changed.includes(step.id) && !isUnderWay)
        for (const { token } of attemptsOf(step)) this.#opened.sends.over(token)
    }
  }

  #read<T>(query: () => T): T {
    if (this.#closing !== null) throw new StorageUnavailable('the store is closed')
    try {
      return query()
    } catch (error) {
      throw asStorageError(error, this.db.filename)
    }
  }
}
