/**
 * Tells a database that goes on from one that was brought back: after a restore, what happened since the copy was made
 * is unknown, and a step that waits in the copy may have been paid for in the meantime.
 *
 * 1. The data directory holds a mark beside the database: which file it was, and how often it had been started.
 *    A database that is another file, or was started less often than the mark says, was brought back. So was the same file in
 *    which something is missing that is known to have happened in it.
 * 2. A database that was brought back opens only with the operator's word, unless nothing in it is under way.
 * 3. Every start counts in the database first and in the mark second: a crash between the two is no restore.
 * 4. Beside a mark that knows of starts, a database that is missing or empty is lost, not new: nothing is made in its place
 *    without the operator's word. (Whatever lay there would also keep a restore from filling the place.)
 * 5. A process of an earlier start that still works on the database is kept from it, whatever became of the lock: its starts
 *    are no longer its own. The count is raised before the log of submits is read, and asked after a submit is noted there: so
 *    no submit is sent by one and taken for unsent by the other.
 * 6. A snapshot of the whole disk brings the mark back too, and is not recognized.
 */
import type { Database } from 'bun:sqlite'
import { readFileSync, renameSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { DatabaseGone, DatabaseRestored, DatabaseTaken, DataDirUnusable } from './errors.ts'

export interface LineageOrder {
  db: Database
  dataDir: string
  file: string
  now: number
  /** What the last process left beside the database tells of more than that holds. */
  isOutrun: boolean
  /** The operator's word: `now`, or the number that the refusal named. */
  resume: string | null
  warn(facts: object, message: string): void
}

export interface Lineage {
  /** The number of this start. */
  start: number
  /** Whether the database goes on from the start before. */
  continues: boolean
}

interface Mark {
  file: string
  starts: number
}

const SETTING = 'starts'
const MARK = 'babychain.mark'

/** Call it before the database is opened, which would make it. @throws DatabaseGone, DataDirUnusable */
export function refuseGone({ dataDir, file, resume }: Pick<LineageOrder, 'dataDir' | 'file' | 'resume'>): void {
  const starts = markOf(join(dataDir, MARK))?.starts ?? 0
  const bytes = statSync(file, { throwIfNoEntry: false })?.size
  if (starts === 0 || bytes || resume === 'now' || resume === String(starts)) return
  throw new DatabaseGone(file, bytes === undefined ? 'missing' : 'empty', starts)
}

/** Counts this start, or throws DatabaseRestored or DataDirUnusable. */
export function countStart({ db, dataDir, file, now, isOutrun, resume, warn }: LineageOrder): Lineage {
  const path = join(dataDir, MARK)
  const known = db.query<{ value: string }, [string]>('SELECT value FROM settings WHERE name = ?').get(SETTING)
  const starts = Number(known?.value ?? 0)
  const open = known ? underWay(db) : 0
  const goesOn = !isOutrun && continues(markOf(path), file, starts)
  if (known && open > 0 && !goesOn) {
    if (resume !== 'now' && resume !== String(starts)) throw new DatabaseRestored(file, starts, open)
    warn({ file, runs: open }, 'the database was restored and is resumed: steps that waited in it are submitted')
  }
  const start = raised(db, now)
  writeFileSync(`${path}.new`, JSON.stringify({ file: identityOf(file), starts: start } satisfies Mark))
  renameSync(`${path}.new`, path)
  return { start, continues: goesOn }
}

/** One statement: two starts at the same moment, which the lock keeps apart, would not have the same number without it either. */
function raised(db: Database, now: number): number {
  const query = db.query<{ value: string }, [string, number]>(
    `INSERT INTO settings (name, value, created_at) VALUES (?, '1', ?)
     ON CONFLICT (name) DO UPDATE SET value = CAST(value AS INTEGER) + 1 RETURNING value`,
  )
  return Number(query.get(SETTING, now)?.value)
}

/** Asks whether this start is still the last one (rule 5): it throws DatabaseTaken, and tells `taken`, where it is not. */
export function fenceOf(db: Database, file: string, start: number, taken: (error: DatabaseTaken) => void): () => void {
  const query = db.prepare<{ value: string }, [string]>('SELECT value FROM settings WHERE name = ?')
  const own = String(start)
  return () => {
    if (query.get(SETTING)?.value === own) return
    const error = new DatabaseTaken(file)
    taken(error)
    throw error
  }
}

function continues(mark: Mark | null, file: string, starts: number): boolean {
  return mark !== null && mark.file === identityOf(file) && starts >= mark.starts
}

function underWay(db: Database): number {
  return db.query<{ n: number }, []>('SELECT count(*) AS n FROM runs WHERE wake_at IS NOT NULL').get()?.n ?? 0
}

/** File systems give the number of a removed file to the next one, so its birth counts too. */
function identityOf(file: string): string {
  const { ino, birthtimeMs } = statSync(file)
  return `${ino}/${Math.floor(birthtimeMs)}`
}

/** Null when there is none, or none that was written whole. @throws DataDirUnusable when nobody can tell */
function markOf(path: string): Mark | null {
  const text = textOf(path)
  try {
    const { file, starts } = JSON.parse(text ?? 'null') as Partial<Mark>
    return typeof file === 'string' && typeof starts === 'number' ? { file, starts } : null
  } catch {
    return null
  }
}

/** The text of one of our files; null when it is not there. @throws DataDirUnusable */
export function textOf(path: string): string | null {
  try {
    return readFileSync(path, 'utf8')
  } catch (error) {
    if ((error as { code?: string }).code === 'ENOENT') return null
    const why = error instanceof Error ? error.message : String(error)
    throw new DataDirUnusable(
      `${path} cannot be read (${why}). It tells what the last start left behind: give it to the user of this process, and start again.`,
    )
  }
}
