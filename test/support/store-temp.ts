/** SQLite stores in temporary directories. */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type DatabaseOrder, openDatabase } from '../../src/store/sqlite/database.ts'
import type { EventFeed } from '../../src/store/sqlite/feed.ts'
import { openSqliteStore } from '../../src/store/sqlite/open.ts'
import { SqliteStore } from '../../src/store/sqlite/store.ts'
import { T0 } from './store-runs.ts'

export interface TempStore {
  dataDir: string
  store: SqliteStore
  reopen(more?: Partial<DatabaseOrder>, feed?: EventFeed): Promise<SqliteStore>
  dispose(): Promise<void>
}

export function tempDir(): string {
  return mkdtempSync(join(tmpdir(), 'babychain-store-'))
}

export async function openTempStore(more: Partial<DatabaseOrder> = {}, feed?: EventFeed): Promise<TempStore> {
  const dataDir = tempDir()
  const order = { dataDir, now: () => T0 }
  const temp: TempStore = {
    dataDir,
    store: await open({ ...order, ...more }, feed),
    async reopen(other = more, otherFeed = feed) {
      await temp.store.close()
      temp.store = await open({ ...order, ...other }, otherFeed)
      return temp.store
    },
    async dispose() {
      await temp.store.close()
      rmSync(dataDir, { recursive: true, force: true })
    },
  }
  return temp
}

/** As the program opens it; with a feed of the test's own where one is given. */
async function open(order: DatabaseOrder, feed: EventFeed | undefined): Promise<SqliteStore> {
  return feed ? new SqliteStore(openDatabase(order), order.now, feed) : openSqliteStore(order)
}
