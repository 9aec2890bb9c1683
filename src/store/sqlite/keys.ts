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
  readonly #ended: ReturnType<typeof spendingStatements>['ended']
  readonly #open: ReturnType<typeof spendingStatements>['open']

  constructor(db: Database) {
    this.#db = drizzle({ client: db })
    const { ended, open } = spendingStatements(db)
    this.#ended = ended
    this.#open = open
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

  spending(since: number): Spending[] {
    const ended = this.#ended.all(since).map(({ api_key_id: apiKeyId, usd }) => ({ apiKeyId, usd, attempt: null }))
    const open = this.#open.all(since).map(row => ({
      apiKeyId: row.api_key_id,
      usd: row.usd,
      attempt: { stepId: row.step_id, no: row.no, startedAt: row.started_at },
    }))
    return [...ended, ...open]
  }

  #insert({ sealed, ...row }: WebhookSecret): void {
    this.#db
      .insert(webhookSecrets)
      .values({ ...row, secret: Buffer.from(sealed) })
      .run()
  }
}

interface OpenRow {
  api_key_id: string
  usd: number
  step_id: string
  no: number
  started_at: number
}

function spendingStatements(db: Database) {
  const cost = 'coalesce(a.actual_usd, a.estimated_usd, 0)'
  const began = 'a.inherited = 0 AND a.started_at >= ? AND a.outcome'
  return {
    ended: db.prepare<{ api_key_id: string; usd: number }, [number]>(
      `SELECT r.api_key_id, sum(${cost}) AS usd FROM attempts a CROSS JOIN runs r ON r.id = a.run_id
       WHERE ${began} <> 'pending' GROUP BY r.api_key_id`,
    ),
    open: db.prepare<OpenRow, [number]>(
      `SELECT r.api_key_id, ${cost} AS usd, s.id AS step_id, a.no, a.started_at
       FROM attempts a CROSS JOIN runs r ON r.id = a.run_id
       CROSS JOIN steps s ON s.run_id = a.run_id AND s.step_index = a.step_index
       WHERE ${began} = 'pending'`,
    ),
  }
}

function keyOf({ previousHash, previousUntil, scopes, ...row }: typeof apiKeys.$inferSelect): ApiKey {
  const previous = previousHash === null || previousUntil === null ? null : { hash: previousHash, until: previousUntil }
  return { ...row, scopes: scopes as readonly Scope[], previous }
}
