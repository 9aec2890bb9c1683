/** How many runs have not ended, by the mode in which they were created; asked at the start. */
import type { Database } from 'bun:sqlite'
import type { Mode } from '../../core/run.ts'

export function openRunsOf(db: Database, mode: Mode): number {
  const query = db.query<{ n: number }, [string]>(
    'SELECT count(*) AS n FROM runs WHERE wake_at IS NOT NULL AND mode = ?',
  )
  return query.get(mode)?.n ?? 0
}
