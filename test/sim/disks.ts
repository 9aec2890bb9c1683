/** What a simulated process opens: memory for speed, and the real SQLite store on memory for the real statements. */
import { Database } from 'bun:sqlite'
import { migrate, migrationsFolder } from '../../src/store/sqlite/migrate.ts'
import { newestTime } from '../../src/store/sqlite/newest.ts'
import type { Sends } from '../../src/store/sqlite/send-log.ts'
import { SqliteStore } from '../../src/store/sqlite/store.ts'
import { T0 } from '../support/runs.ts'
import { MemoryDisk, MemoryStore } from './memory-store.ts'
import type { Disk } from './simulation.ts'

export function memoryDisk(): Disk {
  const disk = new MemoryDisk()
  return { open: async () => new MemoryStore(disk), newest: () => newestIn(disk) }
}

function newestIn({ runs, deliveries }: MemoryDisk): number {
  const times = [...runs.values()].map(({ run }) => run.updatedAt)
  return Math.max(0, ...times, ...[...deliveries.values()].map(({ delivery }) => delivery.updatedAt))
}

let empty: Uint8Array | null = null

/** The database lives in memory and survives a crash; a process that dies leaves its last group written or not at all. */
export function sqliteDisk(): Disk & { check(): string } {
  empty ??= migrated()
  const db = Database.deserialize(empty)
  db.run('PRAGMA foreign_keys = ON')
  const open = new Set<string>()
  const sends: Sends = {
    note: token => void open.add(token),
    over: token => void open.delete(token),
    isUnsent: token => !open.has(token),
  }
  return {
    open: async now =>
      new SqliteStore({ db, sends, fence() {}, taken: new Promise(() => {}), noteOrigin() {}, close() {} }, now),
    newest: () => newestTime(db),
    check: () => String(db.query<{ integrity_check: string }, []>('PRAGMA integrity_check').get()?.integrity_check),
  }
}

function migrated(): Uint8Array {
  const db = new Database(':memory:')
  db.run('PRAGMA foreign_keys = ON')
  migrate(db, migrationsFolder(), T0)
  return db.serialize()
}
