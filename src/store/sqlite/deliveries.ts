/**
 * Callbacks and their attempts.
 *
 * 1. A lease is a delivery whose `ready_at` lies at the lease's end: nobody else finds it, and it comes back by itself.
 * 2. Only the token of the newest claim may settle; a late answer is written to the log and decides nothing.
 * 3. An attempt is counted when it is claimed, so that one that kills the process cannot be repeated for ever.
 * 4. A claim reads as many index entries as there are hosts with waiting deliveries, and a few for each of them:
 *    ten thousand deliveries for one dead host cost nothing.
 */
import type { Database } from 'bun:sqlite'
import type {
  ClaimedDelivery,
  ClaimOrder,
  Delivery,
  DeliveryAttempt,
  DeliveryStatus,
  NewDelivery,
  Settlement,
} from '../../core/delivery.ts'
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

export class DeliveryTables {
  readonly #counters: Counters
  readonly #sql: ReturnType<typeof statements>

  constructor(db: Database, counters: Counters) {
    this.#counters = counters
    this.#sql = statements(db)
  }

  insert(order: NewDelivery): void {
    this.#sql.insert.run(
      ...[order.id, order.runId, order.apiKeyId, order.type, order.url, order.host, order.body],
      ...[order.dueAt, order.dueAt, order.createdAt, order.createdAt],
    )
    this.#counters.move(null, 'deliveries.pending')
  }

  claim(order: ClaimOrder): ClaimedDelivery[] {
    return this.#sql.claim
      .all({
        at: order.at,
        until: order.leaseUntil,
        token: order.leaseToken,
        limit: order.limit,
        perHost: order.perHost,
        inFlight: JSON.stringify(order.inFlight),
        closed: JSON.stringify(order.closed),
      })
      .map(row => ({ ...deliveryOf(row), leaseToken: order.leaseToken }))
      .sort((a, b) => a.dueAt - b.dueAt || (a.id < b.id ? -1 : 1))
  }

  settle(settlement: Settlement): boolean {
    const { deliveryId, leaseToken, at, status, dueAt, counts, attempt } = settlement
    if (status === 'pending' && dueAt === null) throw new Error(`delivery ${deliveryId} waits for no time`)
    const held = this.#sql.settle.run(
      ...[status, dueAt, counts ? 0 : 1, at, status === 'delivered' ? at : null, attempt.errorClass],
      ...[deliveryId, leaseToken],
    )
    const late = held.changes === 0
    // The log of a delivery that is not there has no place.
    if (late && !this.#sql.exists.get(deliveryId)) return false
    this.#sql.log.run(
      ...[deliveryId, attempt.no, attempt.trigger, attempt.startedAt, attempt.durationMs, attempt.ip],
      ...[attempt.httpStatus, attempt.errorClass, attempt.reply],
      ...[late ? null : attempt.nextAt, late ? 'lease_lost' : attempt.reason, late],
    )
    if (!late) this.#counters.move('deliveries.pending', `deliveries.${status}`)
    return !late
  }

  freeLeases(): void {
    this.#sql.free.run()
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
}

function statements(db: Database) {
  return {
    insert: db.prepare<unknown, (string | number | Uint8Array)[]>(
      `INSERT INTO deliveries (id, run_id, api_key_id, type, url, host, body, status, attempts, due_at, ready_at,
         created_at, updated_at)
       VALUES (?, ?, ?, ?, ?, ?, ?, 'pending', 0, ?, ?, ?, ?)`,
    ),
    /** Hosts by a walk through the index, closed ones left out; the first few of each; then rank by rank. */
    claim: db.prepare<DeliveryRow, [Record<string, string | number>]>(
      `WITH RECURSIVE hosts (host) AS (
         SELECT min(host) FROM deliveries WHERE status = 'pending'
         UNION ALL
         SELECT (SELECT min(d.host) FROM deliveries d WHERE d.status = 'pending' AND d.host > hosts.host)
         FROM hosts WHERE hosts.host IS NOT NULL
       ), open (host, room) AS (
         SELECT host, $perHost - coalesce((SELECT value FROM json_each($inFlight) WHERE key = host), 0)
         FROM hosts WHERE host IS NOT NULL AND host NOT IN (SELECT value FROM json_each($closed))
       ), ranked (id, ready_at, room, rank) AS (
         SELECT d.id, d.ready_at, open.room, row_number() OVER (PARTITION BY d.host ORDER BY d.ready_at, d.id)
         FROM open CROSS JOIN deliveries d ON d.id IN (
           SELECT n.id FROM deliveries n
           WHERE n.host = open.host AND n.status = 'pending' AND n.ready_at <= $at
           ORDER BY n.ready_at LIMIT $perHost)
         WHERE open.room > 0
       )
       UPDATE deliveries SET lease_token = $token, ready_at = $until, attempts = attempts + 1, updated_at = $at
       WHERE id IN (SELECT id FROM ranked WHERE rank <= room ORDER BY rank, ready_at, id LIMIT $limit)
       RETURNING *`,
    ),
    settle: db.prepare<unknown, (string | number | null)[]>(
      `UPDATE deliveries SET status = ?1, due_at = coalesce(?2, due_at), ready_at = coalesce(?2, due_at),
         attempts = attempts - ?3, updated_at = ?4, delivered_at = coalesce(?5, delivered_at), last_error = ?6,
         lease_token = NULL
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
    next: db.prepare<{ at: number | null }, []>(`SELECT min(ready_at) AS at FROM deliveries WHERE status = 'pending'`),
    ofRun: db.prepare<DeliveryRow, [string]>(`SELECT * FROM deliveries WHERE run_id = ? ORDER BY created_at, id`),
    attempts: db.prepare<AttemptRow, [string]>(`SELECT * FROM delivery_attempts WHERE delivery_id = ? ORDER BY id`),
  }
}

function deliveryOf(row: DeliveryRow): Delivery {
  return {
    id: row.id,
    runId: row.run_id,
    apiKeyId: row.api_key_id,
    type: row.type,
    url: row.url,
    host: row.host,
    body: row.body,
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
