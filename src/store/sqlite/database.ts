/**
 * Opens the database of a data directory, or says in a sentence why not.
 *
 * 1. The order is: directory, lock, pragmas (set and read back), damage check, checkpoint, migrations, lineage, send log. A
 *    fault frees the lock. What is no start leaves out the last two: it neither asks nor leaves anything behind for the one that follows.
 * 2. A promise rests on every pragma; one that does not read back as it was set stops the start.
 * 3. Nothing is repaired: a damaged file is left as it is, for a person to look at.
 */
import { Database } from 'bun:sqlite'
import { existsSync, mkdirSync, statSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { asOpeningError, DatabaseCorrupt, type DatabaseTaken, DataDirUnusable, isDamage } from './errors.ts'
import { countStart, fenceOf, refuseGone } from './lineage.ts'
import { type DataDirLock, lockDataDir } from './lock.ts'
import { migrate, migrationsFolder } from './migrate.ts'
import { bootOfMachine, isOutrun, NO_SENDS, SendLog, type Sends } from './send-log.ts'

export interface DatabaseOrder {
  dataDir: string
  now(): number
  log?: StoreLog
  /** The operator's word that a restored database may go on: `now`, or the number that the refusal named. */
  resume?: string | null
  /** False where no run may go on: a restored database opens as well, and stays one. */
  isStart?: boolean
  /** The boot of this machine, for tests of a power cut; null where nobody can tell. */
  boot?: string | null
}

/** A part of a pino logger. */
export interface StoreLog {
  info(facts: object, message: string): void
  warn(facts: object, message: string): void
}

export interface OpenDatabase {
  db: Database
  sends: Sends
  /** Throws DatabaseTaken when another process has begun since: asked in each transaction, and before each submit. */
  fence(): void
  /** Resolves once it is so. */
  taken: Promise<DatabaseTaken>
  /** Tells who finds the directory locked where to ask; see lock.ts. */
  noteOrigin: DataDirLock['noteOrigin']
  /** Empties the WAL into the file, closes it, and frees the lock. */
  close(): void
}

/**
 * busy_timeout comes first, so that the next pragma waits for a backup tool instead of failing. FULL: an answered
 * write survives a power cut. A checkpoint writes into the file what the WAL has, and syncs twice while everybody waits:
 * at 4,000 pages (16 MB) it is rare in a burst, and a start still reads the WAL in some 20 ms. The size limit gives back the
 * space of a WAL that one burst had made large.
 */
const PRAGMAS: readonly [name: string, set: string | number, read: string | number][] = [
  ['busy_timeout', 5_000, 5_000],
  ['journal_mode', 'WAL', 'wal'],
  ['synchronous', 'FULL', 2],
  ['foreign_keys', 'ON', 1],
  ['wal_autocheckpoint', 4_000, 4_000],
  ['journal_size_limit', 64 << 20, 64 << 20],
]

/**
 * Up to this size (bytes) every page is read at the start, about 0.2 s. A larger database would keep runs waiting;
 * its damage shows when the page is read, as the same error.
 */
const CHECK_LIMIT = 128 << 20

export function openDatabase(order: DatabaseOrder): OpenDatabase {
  const dataDir = resolve(order.dataDir)
  makeDirectory(dataDir)
  const lock = lockDataDir(dataDir)
  const file = fileIn(dataDir)
  let db: Database | null = null
  let begun: Begun | null
  const taken = Promise.withResolvers<DatabaseTaken>()
  try {
    refuseHalfRestored(file)
    refuseGone({ dataDir, file, resume: order.resume ?? null })
    db = new Database(file, { create: true, readwrite: true })
    setPragmas(db)
    checkForDamage(db, file, order.log)
    makeDurable(db)
    const applied = migrate(db, migrationsFolder(), order.now())
    if (applied.length > 0) order.log?.info({ migrations: applied }, 'database migrated')
    begun = order.isStart === false ? null : beginStart(db, order, taken.resolve)
  } catch (error) {
    db?.close(true)
    lock.release()
    throw asOpeningError(error, file)
  }
  const opened = db
  return {
    db: opened,
    sends: begun?.log ?? NO_SENDS,
    fence: begun?.fence ?? (() => {}),
    taken: taken.promise,
    noteOrigin: lock.noteOrigin,
    close() {
      begun?.log.close()
      try {
        opened.run('PRAGMA wal_checkpoint(TRUNCATE)')
      } catch (error) {
        order.log?.warn({ err: error }, 'the WAL was not emptied; the next start reads it')
      }
      opened.close(true)
      lock.release()
    },
  }
}

interface Begun {
  log: SendLog
  fence(): void
}

/** @throws DatabaseRestored, DataDirUnusable */
function beginStart(db: Database, order: DatabaseOrder, taken: (error: DatabaseTaken) => void): Begun {
  const dataDir = resolve(order.dataDir)
  const file = fileIn(dataDir)
  const lineage = countStart({
    db,
    dataDir,
    file,
    now: order.now(),
    // Asked first: a log that cannot be read stops the start, which then must not count.
    isOutrun: isOutrun(db, dataDir),
    resume: order.resume ?? null,
    warn: (facts, message) => order.log?.warn(facts, message),
  })
  const boot = order.boot === undefined ? bootOfMachine() : order.boot
  return { log: new SendLog({ db, dataDir, boot, ...lineage }), fence: fenceOf(db, file, lineage.start, taken) }
}

/**
 * Whether a database is in the directory. Asking makes nothing: what lay there would keep a restore from filling the place.
 * @throws DatabaseGone, DatabaseCorrupt, DataDirUnusable where one was, and is not there
 */
export function isMade(dataDir: string): boolean {
  const file = fileIn(dataDir)
  refuseHalfRestored(file)
  refuseGone({ dataDir, file, resume: null })
  return Boolean(statSync(file, { throwIfNoEntry: false })?.size)
}

const fileIn = (dataDir: string): string => join(dataDir, 'babychain.db')

/** Sets what the promises rest on; throws DataDirUnusable when a setting does not hold. */
export function setPragmas(db: Database): void {
  for (const [name, set, read] of PRAGMAS) {
    db.run(`PRAGMA ${name} = ${set}`)
    const found = Object.values(db.query<Record<string, string | number>, []>(`PRAGMA ${name}`).get() ?? {})[0]
    if (found !== read) {
      throw new DataDirUnusable(
        `the database does not take PRAGMA ${name} = ${set} (it says ${found}). ` +
          'Put the data directory on a local disk; network file systems lack what SQLite needs.',
      )
    }
  }
}

/**
 * What the last process left in the WAL may lie in the page cache alone, when its last sync failed: later commits would be
 * chained behind pages that a power cut takes away. So all of it goes into the file, synced, before anything is added.
 */
function makeDurable(db: Database): void {
  db.run('PRAGMA wal_checkpoint(PASSIVE)')
}

function makeDirectory(dataDir: string): void {
  try {
    // The parent is not made: a missing volume must not become a folder on the wrong disk.
    if (!existsSync(dataDir)) mkdirSync(dataDir, { mode: 0o700 })
  } catch (error) {
    throw new DataDirUnusable(
      `the data directory ${dataDir} does not exist and cannot be made (${error instanceof Error ? error.message : error}). ` +
        'Mount the volume, make the directory, or set BABYCHAIN_DATA_DIR.',
    )
  }
  if (!statSync(dataDir).isDirectory()) {
    throw new DataDirUnusable(`the data directory ${dataDir} is a file. Set BABYCHAIN_DATA_DIR to a directory.`)
  }
}

/** SQLite would make an empty database and throw the WAL away. */
function refuseHalfRestored(file: string): void {
  const wal = `${file}-wal`
  if (!existsSync(file) && existsSync(wal) && statSync(wal).size > 0)
    throw new DatabaseCorrupt(file, 'it is missing, but its WAL is there')
}

function checkForDamage(db: Database, file: string, log?: StoreLog): void {
  try {
    const bytes = statSync(file).size
    if (bytes > CHECK_LIMIT) {
      log?.info({ bytes }, 'the database is large: its pages are checked as they are read')
      return
    }
    const finding = db.query<{ quick_check: string }, []>('PRAGMA quick_check(1)').get()?.quick_check
    if (finding !== 'ok') throw new DatabaseCorrupt(file, finding ?? 'quick_check gave no answer')
  } catch (error) {
    throw isDamage(error) ? new DatabaseCorrupt(file, String((error as Error).message)) : error
  }
}
