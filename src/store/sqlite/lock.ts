/**
 * The lock on the data directory: one process, one database.
 *
 * 1. The lock is the operating system's (an open transaction on `babychain.lock`), so a killed process leaves none.
 * 2. `babychain.pid` beside it only tells who holds it, and where that one listens. It is a file of its own, because closing
 *    any handle of a locked file gives its POSIX locks away.
 * 3. A killed process leaves its note, which the next holder replaces: it counts only while somebody holds the lock.
 */
import { Database } from 'bun:sqlite'
import { accessSync, constants, existsSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { hostname } from 'node:os'
import { join } from 'node:path'
import { asNoRoom, DataDirLocked, DataDirUnusable, type LockHolder, sqliteCode } from './errors.ts'

export interface DataDirLock {
  /** Notes where this process listens; null: nowhere, any more. Throws what the disk says; after the release it does nothing. */
  noteOrigin(origin: string | null): void
  release(): void
}

/** Takes the lock or throws DataDirLocked, DataDirUnusable or StorageUnavailable. The directory must exist. */
export function lockDataDir(dataDir: string): DataDirLock {
  const note = join(dataDir, 'babychain.pid')
  const file = join(dataDir, 'babychain.lock')
  let db: Database | null = null
  try {
    // A file that may only be read is locked against nobody, and SQLite says nothing of it.
    if (existsSync(file)) accessSync(file, constants.W_OK)
    db = new Database(file, { create: true, readwrite: true })
    db.run('BEGIN EXCLUSIVE')
    leave(note, null)
  } catch (error) {
    db?.close(true)
    if (sqliteCode(error)?.startsWith('SQLITE_BUSY')) {
      throw new DataDirLocked(dataDir, holder(note))
    }
    const full = asNoRoom(error, `the data directory ${dataDir} cannot be written`)
    if (full) throw full
    throw new DataDirUnusable(
      `the data directory ${dataDir} cannot be written (${error instanceof Error ? error.message : error}). Mount it writable, give ` +
        'it and what lies in it to the user of this process, or set BABYCHAIN_DATA_DIR.',
    )
  }
  const held = db
  let isHeld = true
  return {
    noteOrigin(origin) {
      if (isHeld && isOwn(note)) leave(note, origin)
    },
    release() {
      isHeld = false
      if (isOwn(note)) rmSync(note, { force: true })
      held.close(true)
    },
  }
}

/** In one piece: whoever reads meanwhile finds this note or the one before. Scripts take the first number in it for the process id. */
function leave(note: string, origin: string | null): void {
  writeFileSync(`${note}.new`, JSON.stringify({ pid: process.pid, host: hostname(), origin }))
  renameSync(`${note}.new`, note)
}

/** Where the lock was removed, another process may have begun, and left its own. */
function isOwn(note: string): boolean {
  const { pid, host } = holder(note)
  return pid === process.pid && host === hostname()
}

/** What cannot be read, or an older version did not write, is null. */
function holder(note: string): LockHolder {
  try {
    const { pid, host, origin } = JSON.parse(readFileSync(note, 'utf8')) as { [field in keyof LockHolder]?: unknown }
    const textOf = (value: unknown) => (typeof value === 'string' ? value : null)
    return { pid: typeof pid === 'number' ? pid : null, host: textOf(host), origin: textOf(origin) }
  } catch {
    return { pid: null, host: null, origin: null }
  }
}
