/**
 * What can be wrong with the data directory and the database, each with a sentence that says what to do.
 *
 * 1. A fault that may pass (disk full, I/O, locked) is StorageUnavailable: the write was not made and may be tried again.
 * 2. A fault that will not pass stops the start. Nothing is ever repaired silently.
 */
import { StorageUnavailable } from '../../core/ports.ts'

/** What the holder of a data directory says of itself; null: it does not say. */
export interface LockHolder {
  pid: number | null
  /** The name of its machine. */
  host: string | null
  /** Where it is asked on that machine, such as `http://127.0.0.1:3000`. */
  origin: string | null
}

/** Another process has the data directory. */
export class DataDirLocked extends Error {
  override name = 'DataDirLocked'
  readonly host: string | null
  readonly origin: string | null
  constructor(dataDir: string, { pid, host, origin }: LockHolder) {
    const who = pid === null ? 'another process' : `process ${pid}${host === null ? '' : ` on ${host}`}`
    super(
      `the data directory ${dataDir} is in use by ${who}. Stop that process, or give this one a directory of its own (BABYCHAIN_DATA_DIR).`,
    )
    this.host = host
    this.origin = origin
  }
}

/** The data directory cannot hold the database. */
export class DataDirUnusable extends Error {
  override name = 'DataDirUnusable'
}

/** The database file is damaged. */
export class DatabaseCorrupt extends Error {
  override name = 'DatabaseCorrupt'
  constructor(
    readonly file: string,
    readonly finding: string,
  ) {
    super(
      `the database ${file} is damaged (${finding.replaceAll(/\s+/g, ' ')}). Nothing was changed. To restore: 1. stop every process that uses it; ` +
        `2. move ${file}, ${file}-wal and ${file}-shm aside, and keep them; ` +
        `3. bring a backup back, for example \`litestream restore -o ${file} <replica>\`; 4. start again.`,
    )
  }
}

/** The database was brought back from a copy, and runs in it are under way. */
export class DatabaseRestored extends Error {
  override name = 'DatabaseRestored'
  constructor(
    readonly file: string,
    starts: number,
    runs: number,
  ) {
    super(
      `the database ${file} is not the one that ran here last: it was restored or moved, and ${runs} of its runs are under way. ` +
        'Steps that were submitted after the copy was made are looked up where the provider can tell; steps that still waited in ' +
        'the copy are submitted, which pays a second time for those that were submitted since. To go on, start once with ' +
        `\`serve --resume\` or BABYCHAIN_RESUME=${starts}. Nothing was changed.`,
    )
  }
}

/** The directory knows of starts, and the database is not there. */
export class DatabaseGone extends Error {
  override name = 'DatabaseGone'
  constructor(
    readonly file: string,
    what: 'missing' | 'empty',
    starts: number,
  ) {
    super(
      `the database ${file} is ${what}, but it has been started ${starts} times here. Nothing was changed. Bring it back, for example ` +
        `with \`litestream restore -o ${file} <replica>\`, and start again. To begin with an empty database instead, start once with ` +
        `\`serve --resume\` or BABYCHAIN_RESUME=${starts}.`,
    )
  }
}

/** Another process has opened the database that this one works on: a server, or a command such as `keys`. Nothing that is refused with it was written. */
export class DatabaseTaken extends StorageUnavailable {
  override name = 'DatabaseTaken'
  constructor(readonly file: string) {
    super(
      `another process has opened the database ${file} while this one worked on it: babychain.lock was removed, or another ` +
        'database was copied over it. Since then this one has written nothing and submitted nothing, and it ends. Leave the lock where it is: the ' +
        'end of its process frees it.',
    )
  }
}

/** The database and this program do not belong together. */
export class MigrationRefused extends Error {
  override name = 'MigrationRefused'
}

/** SHMSIZE: the index of the WAL, a file that no write names. */
const NO_ROOM = /^(SQLITE_(FULL|IOERR_SHMSIZE)|ENOSPC|EDQUOT)$/

const passing: [RegExp, string][] = [
  [NO_ROOM, 'the disk is full'],
  [/^SQLITE_IOERR/, 'the disk failed'],
  [/^SQLITE_(BUSY|LOCKED|PROTOCOL)/, 'another program holds the database'],
  [/^SQLITE_READONLY/, 'the database is read-only'],
  [/^SQLITE_CANTOPEN/, 'a file of the database cannot be opened'],
  [/^SQLITE_NOMEM/, 'there is no memory left'],
]

/** SQLite's own name of an error, such as `SQLITE_FULL`, or null when it is not one of SQLite's. */
export function sqliteCode(error: unknown): string | null {
  const code = error instanceof Error && 'code' in error ? error.code : null
  if (typeof code === 'string' && code.startsWith('SQLITE_')) return code
  return error instanceof Error && error.cause !== undefined ? sqliteCode(error.cause) : null
}

export function isDamage(error: unknown): boolean {
  return /^SQLITE_(CORRUPT|NOTADB)/.test(sqliteCode(error) ?? '')
}

/** The error as the port names it; what is not about storage comes back as it is. */
export function asStorageError(error: unknown, file: string): unknown {
  return named(error, file, 'the write was not made')
}

/** The same for an opening, where no write was asked for. A file that a restore made belongs to whoever typed it. */
export function asOpeningError(error: unknown, file: string): unknown {
  const what = `the database ${file} cannot be opened`
  const full = asNoRoom(error, what)
  if (full) return full
  const code = sqliteCode(error)
  if (/^SQLITE_(CANTOPEN|READONLY)/.test(code ?? '')) return new DataDirUnusable(`${what} (${code}): ${GIVE}`)
  if (error instanceof Error && /^(EACCES|EPERM)\b/.test(error.message))
    return new DataDirUnusable(`${error.message}: ${GIVE}`)
  return named(error, file, what)
}

/** What a start finds no room for; null when it is another error. */
export function asNoRoom(error: unknown, what: string): StorageUnavailable | null {
  const code = sqliteCode(error) ?? (error instanceof Error && 'code' in error ? String(error.code) : '')
  if (!NO_ROOM.test(code)) return null
  return new StorageUnavailable(`${what}: the disk is full (${code}). Make room, and try again: nothing is lost.`, {
    cause: error,
  })
}

const GIVE = 'give it, and what else lies in its directory, to the user of this process, and start again.'

function named(error: unknown, file: string, what: string): unknown {
  const code = sqliteCode(error)
  if (code === null) return error
  if (isDamage(error)) return new DatabaseCorrupt(file, code)
  const found = passing.find(([pattern]) => pattern.test(code))
  return found ? new StorageUnavailable(`${what}: ${found[1]} (${code})`, { cause: error }) : error
}
