/**
 * Media and the settings of the installation: read and written now and then, so through drizzle.
 *
 * 1. A media is idle since its upload or since the end of the newest run that used it; `idle_since` says when, so that
 *    pruning never looks at the media of a million runs. Runs keep it up to date (run-sql.ts: useMedia, freeMedia).
 */
import type { Database } from 'bun:sqlite'
import { asc, eq, inArray, lt, sql } from 'drizzle-orm'
import { type BunSQLiteDatabase, drizzle } from 'drizzle-orm/bun-sqlite'
import type { MediaRow } from '../../core/ports.ts'
import { media, runs, settings } from '../schema.ts'

export class SmallTables {
  readonly #db: BunSQLiteDatabase

  constructor(db: Database) {
    this.#db = drizzle({ client: db })
  }

  addMedia(row: MediaRow): void {
    const { mediaId: id, ...facts } = row
    const ended = sql`(select ${runs.updatedAt} from ${runs} where ${runs.id} = ${row.runId} and ${runs.wakeAt} is null)`
    const idleSince = row.runId === null ? row.createdAt : ended
    this.#db
      .insert(media)
      .values({ id, ...facts, idleSince })
      .run()
  }

  media(id: string): MediaRow | null {
    const row = this.#db.select().from(media).where(eq(media.id, id)).get()
    return row ? mediaOf(row) : null
  }

  staleMedia(before: number, limit: number): MediaRow[] {
    const query = this.#db.select().from(media).where(lt(media.idleSince, before))
    return query.orderBy(asc(media.idleSince), asc(media.id)).limit(limit).all().map(mediaOf)
  }

  removeMedia(ids: readonly string[]): void {
    this.#db
      .delete(media)
      .where(inArray(media.id, sql`(select value from json_each(${JSON.stringify(ids)}))`))
      .run()
  }

  setting(name: string): string | null {
    return this.#db.select().from(settings).where(eq(settings.name, name)).get()?.value ?? null
  }

  putSetting(name: string, value: string, createdAt: number): void {
    this.#db.insert(settings).values({ name, value, createdAt }).run()
  }

  removeSetting(name: string): void {
    this.#db.delete(settings).where(eq(settings.name, name)).run()
  }
}

function mediaOf(row: typeof media.$inferSelect): MediaRow {
  const { id, width, height, seconds, idleSince: _, ...rest } = row
  return {
    mediaId: id,
    ...rest,
    ...(width === null ? {} : { width }),
    ...(height === null ? {} : { height }),
    ...(seconds === null ? {} : { seconds }),
  }
}
