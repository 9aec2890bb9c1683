/**
 * Media and the settings of the installation. What every step of a run needs is prepared once; the rest goes through drizzle.
 *
 * 1. A media is idle since its upload or since the last end of a run that used it; `idle_since` says when, so that
 *    pruning never looks at the media of a million runs. Runs keep it up to date (run-sql.ts: useMedia, freeMedia).
 */
import type { Database, SQLQueryBindings, Statement } from 'bun:sqlite'
import { and, asc, eq, inArray, lt, sql } from 'drizzle-orm'
import { type BunSQLiteDatabase, drizzle } from 'drizzle-orm/bun-sqlite'
import type { StoredMedia } from '../../core/ports.ts'
import { media, settings } from '../schema.ts'

export class SmallTables {
  readonly #db: BunSQLiteDatabase
  readonly #insertMedia: Statement<unknown, SQLQueryBindings[]>
  readonly #media: Statement<StoredRow, [string]>

  constructor(db: Database) {
    this.#db = drizzle({ client: db })
    this.#insertMedia = db.prepare(
      `INSERT INTO media (id, run_id, step_id, api_key_id, mime, bytes, sha256, width, height, seconds, location,
         created_at, idle_since)
       VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12,
         CASE WHEN ?2 IS NULL THEN ?12 ELSE (SELECT updated_at FROM runs WHERE id = ?2 AND wake_at IS NULL) END)
       ON CONFLICT (id) DO NOTHING`,
    )
    this.#media = db.prepare(
      `SELECT id, run_id AS runId, step_id AS stepId, api_key_id AS apiKeyId, mime, bytes, sha256, width, height, seconds,
         location, created_at AS createdAt FROM media WHERE id = ?`,
    )
  }

  /** An output that is there already is the same one. */
  addMedia(row: StoredMedia): void {
    this.#insertMedia.run(
      ...[row.mediaId, row.runId, row.stepId, row.apiKeyId, row.mime, row.bytes, row.sha256],
      ...[row.width ?? null, row.height ?? null, row.seconds ?? null, row.location, row.createdAt],
    )
  }

  media(id: string): StoredMedia | null {
    const row = this.#media.get(id)
    return row ? mediaOf(row) : null
  }

  staleMedia(before: number, limit: number): StoredMedia[] {
    const query = this.#db.select().from(media).where(lt(media.idleSince, before))
    const stale = query.orderBy(asc(media.idleSince), asc(media.id)).limit(limit).all()
    return stale.map(({ idleSince: _, ...row }) => mediaOf(row))
  }

  removeMedia(ids: readonly string[], before: number): string[] {
    const named = inArray(media.id, sql`(select value from json_each(${JSON.stringify(ids)}))`)
    const removed = this.#db
      .delete(media)
      .where(and(named, lt(media.idleSince, before)))
      .returning({ id: media.id })
    return removed.all().map(row => row.id)
  }

  putSetting(name: string, value: string, createdAt: number): void {
    this.#db.insert(settings).values({ name, value, createdAt }).run()
  }

  removeSetting(name: string): void {
    this.#db.delete(settings).where(eq(settings.name, name)).run()
  }
}

type StoredRow = Omit<typeof media.$inferSelect, 'idleSince'>

function mediaOf({ id, width, height, seconds, ...rest }: StoredRow): StoredMedia {
  return {
    mediaId: id,
    ...rest,
    ...(width === null ? {} : { width }),
    ...(height === null ? {} : { height }),
    ...(seconds === null ? {} : { seconds }),
  }
}
