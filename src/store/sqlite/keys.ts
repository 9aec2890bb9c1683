/**
 * API keys, their webhook secrets, and what they spend: written now and then, read whole at the start.
 *
 * 1. No text of a key and no secret in the clear comes here.
 * 2. A key has at most two secrets: the newest, and the one before while it still signs.
 */
import type { Database } from 'bun:sqlite'
import { and, asc, desc, eq, isNotNull, isNull, lt, or } from 'drizzle-orm'
import { type BunSQLiteDatabase, drizzle } from 'drizzle-orm/bun-sqlite'
import type { ApiKey, Scope, Spending, WebhookSecret } from '../../core/keys.ts'
import { apiKeys, webhookSecrets } from '../schema.ts'

export class KeyTables {
  readonly #db: BunSQLiteDatabase
  readonly #spending: ReturnType<typeof spendingStatement>

  constructor(db: Database) {
    this.#db = drizzle({ client: db })
    this.#spending = spendingStatement(db)
  }

  all(): ApiKey[] {
    return this.#db.select().from(apiKeys).orderBy(asc(apiKeys.createdAt), asc(apiKeys.id)).all().map(keyOf)
  }

  save(key: ApiKey, secret?: WebhookSecret): void {
    const { previous, ...rest } = key
    const row = { ...rest, previousHash: previous?.hash ?? null, previousUntil: previous?.until ?? null }
    this.#db.insert(apiKeys).values(row).onConflictDoUpdate({ target: apiKeys.id, set: row }).run()
    if (secret) this.#insert(secret)
  }

  touch(used: Readonly<Record<string, number>>): void {
    for (const [id, at] of Object.entries(used)) {
      const older = or(isNull(apiKeys.lastUsedAt), lt(apiKeys.lastUsedAt, at))
      this.#db
        .update(apiKeys)
        .set({ lastUsedAt: at })
        .where(and(eq(apiKeys.id, id), older))
        .run()
    }
  }

  secrets(apiKeyId: string): WebhookSecret[] {
    const query = this.#db.select().from(webhookSecrets).where(eq(webhookSecrets.apiKeyId, apiKeyId))
    const rows = query.orderBy(desc(webhookSecrets.createdAt), desc(webhookSecrets.id)).all()
    // The newest is the one that never retires, whatever the clock did.
    const secrets = rows.map(({ secret, ...row }) => ({ ...row, sealed: new Uint8Array(secret) }))
    return secrets.toSorted((a, b) => Number(a.retiresAt !== null) - Number(b.retiresAt !== null))
  }

  rotateSecret(secret: WebhookSecret, retiresAt: number): void {
    const own = eq(webhookSecrets.apiKeyId, secret.apiKeyId)
    this.#db
      .delete(webhookSecrets)
      .where(and(own, isNotNull(webhookSecrets.retiresAt)))
      .run()
    this.#db.update(webhookSecrets).set({ retiresAt }).where(own).run()
    this.#insert(secret)
  }

  /** Attempts that began in [since, until), in the order of their begin; each piece is one statement. */
  *spending(since: number, until: number): Generator<Spending[], void> {
    for (let [at, after] = [since, 0]; ; ) {
      const rows = this.#spending.all({ at, after, until, limit: SPENDING_PAGE })
      yield spendingOf(rows)
      const last = rows.at(-1)
      if (last === undefined || rows.length < SPENDING_PAGE) return
      at = last.started_at
      after = last.rowid
    }
  }

  #insert({ sealed, ...row }: WebhookSecret): void {
    this.#db
      .insert(webhookSecrets)
      .values({ ...row, secret: Buffer.from(sealed) })
      .run()
  }
}

/** Attempts in one piece: two or three milliseconds. */
const SPENDING_PAGE = 500

interface SpendingRow {
  rowid: number
  started_at: number
  no: number
  api_key_id: string
  usd: number
  /** Null when the attempt has ended. */
  open_step_id: string | null
}

function spendingOf(rows: readonly SpendingRow[]): Spending[] {
  const ended = new Map<string, number>()
  const spending: Spending[] = []
  for (const { api_key_id: apiKeyId, usd, open_step_id: stepId, no, started_at: startedAt } of rows) {
    if (stepId === null) ended.set(apiKeyId, (ended.get(apiKeyId) ?? 0) + usd)
    else spending.push({ apiKeyId, usd, attempt: { stepId, no, startedAt } })
  }
  for (const [apiKeyId, usd] of ended) spending.push({ apiKeyId, usd, attempt: null })
  return spending
}

/** The rest of a millisecond, then the later ones: SQLite seeks no pair of time and rowid. */
function spendingStatement(db: Database) {
  const began = 'SELECT rowid FROM attempts WHERE inherited = 0 AND started_at'
  return db.prepare<SpendingRow, [Record<string, number>]>(
    `WITH page (id) AS (
       SELECT * FROM (${began} = $at AND rowid > $after ORDER BY rowid LIMIT $limit)
       UNION ALL
       SELECT * FROM (${began} > $at AND started_at < $until ORDER BY started_at, rowid LIMIT $limit)
       LIMIT $limit)
     SELECT a.rowid, a.started_at, a.no, r.api_key_id, coalesce(a.actual_usd, a.estimated_usd, 0) AS usd,
       iif(a.outcome = 'pending', (SELECT s.id FROM steps s WHERE s.run_id = a.run_id AND s.step_index = a.step_index), NULL)
         AS open_step_id
     FROM page CROSS JOIN attempts a ON a.rowid = page.id CROSS JOIN runs r ON r.id = a.run_id`,
  )
}

function keyOf({ previousHash, previousUntil, scopes, ...row }: typeof apiKeys.$inferSelect): ApiKey {
  const previous = previousHash === null || previousUntil === null ? null : { hash: previousHash, until: previousUntil }
  return { ...row, scopes: scopes as readonly Scope[], previous }
}
