/**
 * Callbacks and their attempts.
 *
 * 1. A lease is a delivery whose `ready_at` lies at the lease's end: nobody else finds it, and it comes back by itself.
 * 2. Only the token of the newest claim may settle; a late answer is written to the log and decides nothing.
 * 3. An attempt is counted when it is claimed, or leased as it is made, so that one that kills the process cannot be repeated for ever.
 * 4. An attempt that somebody asked for is outside the schedule: it is not counted, and its failure brings back what was.
 * 5. One that is asked for while another is under way is wished for at a time after the claim, and is asked for when that
 *    one has failed: what it goes to may have been mended since it began.
 * 6. Which of the due ones a claim takes is said in `claims.ts`.
 */
import type { Database } from 'bun:sqlite'
import type {
  ClaimedDelivery,
  ClaimOrder,
  ClosedHost,
  Delivery,
  DeliveryAttempt,
  DeliveryFilter,
  DeliveryStatus,
  HostChange,
  Lease,
  NewDelivery,
  Recovered,
  RecoverOrder,
  Settlement,
  Trigger,
} from '../../core/delivery.ts'
import { Claims } from './claims.ts'
import type { Counters } from './counters.ts'

interface DeliveryRow {
  id: string
  run_id: string
  api_key_id: string
  type: string
  url: string
  host: string
  body: Uint8Array
  status: string
  attempts: number
  trigger: string
  prior_status: string | null
  prior_due_at: number | null
  due_at: number
  lease_token: string | null
  created_at: number
  updated_at: number
  delivered_at: number | null
  last_error: string | null
}

interface AttemptRow {
  no: number
  trigger: string
  started_at: number
  duration_ms: number
  ip: string | null
  http_status: number | null
  error_class: string | null
  reply: string | null
  next_at: number | null
  reason: string | null
}

interface StateRow {
  id: string
  status: string
  trigger: string
  due_at: number
  lease_token: string | null
  created_at: number
}

type ListRow = Omit<DeliveryRow, 'body' | 'lease_token' | 'trigger' | 'prior_status' | 'prior_due_at'>
type Values = Record<string, string | number | null>

/** All but the body, which may be long. */
const LIST =
  'id, run_id, api_key_id, type, url, host, status, attempts, due_at, created_at, updated_at, delivered_at, last_error'
const STATE = 'id, status, trigger, due_at, lease_token, created_at'
const OLDER = '(created_at < $at OR (created_at = $at AND id < $id)) ORDER BY created_at DESC, id DESC LIMIT $limit'
const AMONG = '($statuses IS NULL OR status IN (SELECT value FROM json_each($statuses)))'

export class DeliveryTables {
  readonly #counters: Counters
  readonly #claims: Claims
  readonly #sql: ReturnType<typeof statements>

  constructor(db: Database, counters: Counters) {
    this.#counters = counters
    this.#claims = new Claims(db)
    this.#sql = statements(db)
  }

  /** With a lease it is as if it had been claimed at once. */
  insert(order: NewDelivery, lease: Lease | null): void {
    const { host, apiKeyId, dueAt } = order
    const attempts = lease ? 1 : 0
    const readyAt = lease?.until ?? dueAt
    this.#sql.insert.run(
      ...[order.id, order.runId, apiKeyId, order.type, order.url, host, order.body],
      ...[attempts, dueAt, readyAt, lease?.token ?? null],
      ...[order.createdAt, order.createdAt],
    )
    this.#claims.due.add(host, apiKeyId, attempts, readyAt)
    this.#counters.move(null, 'deliveries.pending')
  }

  claim(order: ClaimOrder): ClaimedDelivery[] {
    const { at, leaseUntil, leaseToken } = order
    const chosen = this.#claims.choose(order)
    if (chosen.length === 0) return []
    return this.#sql.lease
      .all({ at, until: leaseUntil, token: leaseToken, chosen: JSON.stringify(chosen) })
      .map(row => claimedOf(row, leaseToken))
      .sort((a, b) => a.dueAt - b.dueAt || (a.id < b.id ? -1 : 1))
  }

  /** The transaction of a claim was taken back: what it had leased is due as before. */
  claimFailed(): void {
    this.#claims.due.readAgain()
  }

  settle(settlement: Settlement): boolean {
    const { deliveryId, leaseToken, at, status, dueAt, counts, attempt, hostChange } = settlement
    if (status === 'pending' && dueAt === null) throw new Error(`delivery ${deliveryId} waits for no time`)
    // A failed attempt may bring "delivered" back: then it was not this one that delivered.
    const deliveredAt = status === 'delivered' && attempt.errorClass === null ? at : null
    const isWished = attempt.errorClass !== null && this.#sql.wished.get(deliveryId, leaseToken) !== null
    const held = this.#sql.settle.run(
      ...[status, dueAt, counts, at, deliveredAt, attempt.errorClass],
      ...[deliveryId, leaseToken],
    )
    const late = held.changes === 0
    if (status === 'pending' && dueAt !== null) this.#claims.due.readAgain(dueAt)
    if (hostChange) this.#changeHost(hostChange)
    // The log of a delivery that is not there has no place.
    if (late && !this.#sql.exists.get(deliveryId)) return false
    this.#sql.log.run(
      ...[deliveryId, attempt.no, attempt.trigger, attempt.startedAt, attempt.durationMs, attempt.ip],
      ...[attempt.httpStatus, attempt.errorClass, attempt.reply],
      ...[late ? null : attempt.nextAt, late ? 'lease_lost' : attempt.reason, late],
    )
    if (!late) this.#counters.move('deliveries.pending', `deliveries.${status}`)
    if (isWished) this.resend(deliveryId, at)
    return !late
  }

  #changeHost(change: HostChange): void {
    if (change.closedUntil === null) this.#sql.openHost.run(change.receiver)
    else this.#sql.closeHost.run(change.receiver, change.closedUntil, change.pauseMs)
  }

  closedHosts(since: number): ClosedHost[] {
    this.#sql.forgetHosts.run(since)
    return this.#sql.closedHosts
      .all(since)
      .map(row => ({ receiver: row.host, closedUntil: row.until, pauseMs: row.pause_ms }))
  }

  freeLeases(): void {
    this.#sql.free.run()
    this.#claims.due.readAgain()
  }

  nextReadyAt(): number | null {
    return this.#sql.next.get()?.at ?? null
  }

  ofRun(runId: string): Delivery[] {
    return this.#sql.ofRun.all(runId).map(deliveryOf)
  }

  attempts(deliveryId: string): DeliveryAttempt[] {
    return this.#sql.attempts.all(deliveryId).map(attemptOf)
  }

  get(id: string): Delivery | null {
    const row = this.#sql.get.get(id)
    return row ? deliveryOf(row) : null
  }

  list({ apiKeyId, runId, status = [], host, before, limit }: DeliveryFilter): Omit<Delivery, 'body'>[] {
    const [only] = status
    const values = { key: apiKeyId, limit, at: before?.createdAt ?? Number.MAX_SAFE_INTEGER, id: before?.id ?? '' }
    const more = { run: runId ?? null, host: host ?? null, statuses: status.length > 0 ? JSON.stringify(status) : null }
    const rows = (): ListRow[] => {
      if (runId !== undefined) return this.#sql.listRun.all({ ...values, ...more, run: runId })
      if (host !== undefined) return this.#sql.listHost.all({ ...values, ...more, host })
      if (only !== undefined && status.length === 1) return this.#sql.listStatus.all({ ...values, status: only })
      return this.#sql.list.all({ ...values, statuses: more.statuses })
    }
    return rows().map(summaryOf)
  }

  resend(id: string, at: number): boolean {
    const row = this.#sql.state.get(id)
    if (!row) return false
    if (row.lease_token !== null) this.#sql.wish.run(at, id)
    // Asked for already: that is the attempt.
    else if (row.trigger === 'schedule') this.#ask(row, 'manual', at, at)
    return true
  }

  recover(order: RecoverOrder): Recovered {
    const { apiKeyId, since, until, host, at, spacingMs, limit, after } = order
    const [afterAt, afterId] = [after?.createdAt ?? -1, after?.id ?? '']
    const rows = this.#sql.failed.all({ key: apiKeyId, since, until, host: host ?? null, afterAt, afterId, limit })
    for (const [n, row] of rows.entries()) this.#ask(row, 'recover', at + n * spacingMs, at)
    const last = rows.at(-1)
    const more = last !== undefined && rows.length === limit
    return { count: rows.length, last: more ? { createdAt: last.created_at, id: last.id } : null }
  }

  #ask(row: StateRow, trigger: Trigger, dueAt: number, at: number): void {
    this.#sql.ask.run(...[trigger, row.status, row.due_at, dueAt, at, row.id])
    this.#claims.due.readAgain(dueAt)
    this.#counters.move(`deliveries.${row.status as DeliveryStatus}`, 'deliveries.pending')
  }
}

function statements(db: Database) {
  return {
    insert: db.prepare<unknown, (string | number | Uint8Array | null)[]>(
      `INSERT INTO deliveries (id, run_id, api_key_id, type, url, host, body, status, attempts, due_at, ready_at,
         lease_token, created_at, updated_at)
       VALUES (?, ?, ?, ?, ?, ?, ?, 'pending', ?, ?, ?, ?, ?, ?)`,
    ),
    lease: db.prepare<DeliveryRow, [Values]>(
      `UPDATE deliveries SET lease_token = $token, ready_at = $until, updated_at = $at,
         attempts = attempts + (trigger = 'schedule')
       WHERE rowid IN (SELECT value FROM json_each($chosen))
       RETURNING *`,
    ),
    settle: db.prepare<unknown, (string | number | boolean | null)[]>(
      `UPDATE deliveries SET status = ?1, due_at = coalesce(?2, due_at), ready_at = coalesce(?2, due_at),
         attempts = attempts - (NOT ?3 AND trigger = 'schedule'), updated_at = ?4,
         delivered_at = coalesce(?5, delivered_at), last_error = ?6, lease_token = NULL,
         trigger = iif(?3, 'schedule', trigger), prior_status = iif(?3, NULL, prior_status),
         prior_due_at = iif(?3, NULL, prior_due_at)
       WHERE id = ?7 AND lease_token = ?8`,
    ),
    exists: db.prepare<unknown, [string]>(`SELECT 1 FROM deliveries WHERE id = ?`),
    log: db.prepare<unknown, (string | number | boolean | null)[]>(
      `INSERT INTO delivery_attempts (delivery_id, no, trigger, started_at, duration_ms, ip, http_status, error_class,
         reply, next_at, reason, late)
       VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
    ),
    free: db.prepare<unknown, []>(
      `UPDATE deliveries SET lease_token = NULL, ready_at = due_at WHERE lease_token IS NOT NULL`,
    ),
    closeHost: db.prepare<unknown, [receiver: string, until: number, pauseMs: number]>(
      `INSERT INTO closed_hosts (host, until, pause_ms) VALUES (?, ?, ?)
       ON CONFLICT (host) DO UPDATE SET until = excluded.until, pause_ms = excluded.pause_ms`,
    ),
    openHost: db.prepare<unknown, [receiver: string]>(`DELETE FROM closed_hosts WHERE host = ?`),
    forgetHosts: db.prepare<unknown, [since: number]>(`DELETE FROM closed_hosts WHERE until < ?`),
    closedHosts: db.prepare<{ host: string; until: number; pause_ms: number }, [since: number]>(
      `SELECT * FROM closed_hosts WHERE until >= ?`,
    ),
    next: db.prepare<{ at: number | null }, []>(`SELECT min(ready_at) AS at FROM deliveries WHERE status = 'pending'`),
    ofRun: db.prepare<DeliveryRow, [string]>(`SELECT * FROM deliveries WHERE run_id = ? ORDER BY created_at, id`),
    get: db.prepare<DeliveryRow, [string]>(`SELECT * FROM deliveries WHERE id = ?`),
    state: db.prepare<StateRow, [string]>(`SELECT ${STATE} FROM deliveries WHERE id = ?`),
    ask: db.prepare<unknown, (string | number)[]>(
      `UPDATE deliveries SET status = 'pending', trigger = ?1, prior_status = ?2, prior_due_at = ?3, due_at = ?4,
         ready_at = ?4, updated_at = ?5
       WHERE id = ?6`,
    ),
    wish: db.prepare<unknown, [at: number, id: string]>(
      `UPDATE deliveries SET due_at = max(?, updated_at + 1) WHERE id = ?`,
    ),
    wished: db.prepare<unknown, [id: string, token: string]>(
      `SELECT 1 FROM deliveries WHERE id = ? AND lease_token = ? AND due_at > updated_at`,
    ),
    failed: db.prepare<StateRow, [Values]>(
      `SELECT ${STATE} FROM deliveries INDEXED BY deliveries_list
       WHERE api_key_id = $key AND created_at >= $since AND created_at < $until AND status IN ('exhausted', 'gone')
         AND ($host IS NULL OR host = $host)
         AND (created_at > $afterAt OR (created_at = $afterAt AND id > $afterId))
       ORDER BY created_at, id LIMIT $limit`,
    ),
    list: db.prepare<ListRow, [Values]>(
      `SELECT ${LIST} FROM deliveries INDEXED BY deliveries_list WHERE api_key_id = $key AND ${AMONG} AND ${OLDER}`,
    ),
    listStatus: db.prepare<ListRow, [Values]>(
      `SELECT ${LIST} FROM deliveries INDEXED BY deliveries_list_status
       WHERE api_key_id = $key AND status = $status AND ${OLDER}`,
    ),
    listHost: db.prepare<ListRow, [Values]>(
      `SELECT ${LIST} FROM deliveries INDEXED BY deliveries_list_host
       WHERE api_key_id = $key AND host = $host AND ${AMONG} AND ${OLDER}`,
    ),
    listRun: db.prepare<ListRow, [Values]>(
      `SELECT ${LIST} FROM deliveries INDEXED BY deliveries_run
       WHERE run_id = $run AND api_key_id = $key AND ($host IS NULL OR host = $host) AND ${AMONG} AND ${OLDER}`,
    ),
    attempts: db.prepare<AttemptRow, [string]>(`SELECT * FROM delivery_attempts WHERE delivery_id = ? ORDER BY id`),
  }
}

function deliveryOf(row: DeliveryRow): Delivery {
  return { ...summaryOf(row), body: row.body }
}

function claimedOf(row: DeliveryRow, leaseToken: string): ClaimedDelivery {
  const { trigger, prior_status: status, prior_due_at: dueAt } = row
  const prior = status === null || dueAt === null ? null : { status: status as DeliveryStatus, dueAt }
  return { ...deliveryOf(row), trigger: trigger as Trigger, prior, leaseToken }
}

function summaryOf(row: ListRow): Omit<Delivery, 'body'> {
  return {
    id: row.id,
    runId: row.run_id,
    apiKeyId: row.api_key_id,
    type: row.type,
    url: row.url,
    host: row.host,
    dueAt: row.due_at,
    createdAt: row.created_at,
    status: row.status as DeliveryStatus,
    attempts: row.attempts,
    updatedAt: row.updated_at,
    deliveredAt: row.delivered_at,
    lastError: row.last_error,
  }
}

function attemptOf(row: AttemptRow): DeliveryAttempt {
  return {
    no: row.no,
    trigger: row.trigger as DeliveryAttempt['trigger'],
    startedAt: row.started_at,
    durationMs: row.duration_ms,
    ip: row.ip,
    httpStatus: row.http_status,
    errorClass: row.error_class,
    reply: row.reply,
    nextAt: row.next_at,
    reason: row.reason,
  }
}
