/**
 * The newest time in a database: what the clock of the next process must not be before. A wall clock that was set back
 * between two processes would otherwise hold up everything that waits, for as long as it was set back.
 */
import type { Database } from 'bun:sqlite'

/** What happened last, and when those who wait longest began to wait. All of it is read off the end of an index. */
const NEWEST = `
  SELECT max(at) AS at FROM (
    SELECT max(at) AS at FROM (SELECT at FROM events ORDER BY rowid DESC LIMIT 100)
    UNION ALL
    SELECT max(updated_at) FROM (
      SELECT updated_at FROM runs WHERE wake_at IS NOT NULL ORDER BY wake_at DESC LIMIT 100)
    UNION ALL
    SELECT max(updated_at) FROM (
      SELECT updated_at FROM deliveries WHERE status = 'pending' ORDER BY ready_at DESC LIMIT 100)
  )`

/** Ms since the epoch; 0 for a database in which nothing has happened. */
export function newestTime(db: Database): number {
  return db.query<{ at: number | null }, []>(NEWEST).get()?.at ?? 0
}
