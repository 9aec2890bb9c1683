/** SQLite stores in temporary directories. */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { openSqliteStore, type SqliteOrder } from '../../src/store/sqlite/open.ts'
import type { SqliteStore } from '../../src/store/sqlite/store.ts'
import { T0 } from './store-runs.ts'

export interface TempStore {
  dataDir: string
  store: SqliteStore
  reopen(more?: Partial<SqliteOrder>): Promise<SqliteStore>
  dispose(): Promise<void>
}

export function tempDir(): string {
  return mkdtempSync(join(tmpdir(), 'babychain-store-'))
}

export async function openTempStore(more: Partial<SqliteOrder> = {}): Promise<TempStore> {
  const dataDir = tempDir()
  const order = { dataDir, now: () => T0 }
  const temp: TempStore = {
    dataDir,
    store: await openSqliteStore({ ...order, ...more }),
    async reopen(other = more) {
      await temp.store.close()
      temp.store = await openSqliteStore({ ...order, ...other })
      return temp.store
    },
    async dispose() {
      await temp.store.close()
      rmSync(dataDir, { recursive: true, force: true })
    },
  }
  return temp
}
