/**
 * The lock on the data directory: one process, one database.
 *
 * 1. The lock is the operating system's (an open transaction on `babychain.lock`), so a killed process leaves none.
 * 2. `babychain.pid` beside it only tells a person who holds it. It is a file of its own, because closing any handle
 *    of a locked file gives its POSIX locks away.
 */
import { Database } from 'bun:sqlite'
import { accessSync, constants, existsSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { hostname } from 'node:os'
import { join } from 'node:path'
import { DataDirLocked, DataDirUnusable, sqliteCode } from './errors.ts'

export interface DataDirLock {
  release(): void
}

/** Takes the lock or throws DataDirLocked. The directory must exist. */
export function lockDataDir(dataDir: string): DataDirLock {
  const note = join(dataDir, 'babychain.pid')
  const file = join(dataDir, 'babychain.lock')
  let db: Database | null = null
  try {
    // A file that may only be read is locked against nobody, and SQLite says nothing of it.
    if (existsSync(file)) accessSync(file, constants.W_OK)
    db = new Database(file, { create: true, readwrite: true })
    db.run('BEGIN EXCLUSIVE')
    writeFileSync(note, JSON.stringify({ pid: process.pid, host: hostname() }))
  } catch (error) {
    db?.close(true)
    if (sqliteCode(error)?.startsWith('SQLITE_BUSY')) {
      const { pid, host } = holder(note)
      throw new DataDirLocked(dataDir, pid, host)
    }
    throw new DataDirUnusable(
      `the data directory ${dataDir} cannot be written (${error instanceof Error ? error.message : error}). Mount it writable, give ` +
        'it and what lies in it to the user of this process, or set BABYCHAIN_DATA_DIR.',
    )
  }
  const held = db
  return {
    release() {
      rmSync(note, { force: true })
      held.close(true)
    },
  }
}

function holder(note: string): { pid: number | null; host: string | null } {
  try {
    const { pid, host } = JSON.parse(readFileSync(note, 'utf8')) as { pid?: unknown; host?: unknown }
    return { pid: typeof pid === 'number' ? pid : null, host: typeof host === 'string' ? host : null }
  } catch {
    return { pid: null, host: null }
  }
}
