/** Opens the SQLite store: the one way in for the rest of the program. */
import { type DatabaseOrder, openDatabase } from './database.ts'
import { SqliteStore } from './store.ts'

/**
 * Opens (and if need be makes) the store of a data directory whose parent exists. Throws DataDirLocked, DataDirUnusable,
 * DatabaseGone, DatabaseCorrupt, DatabaseRestored, MigrationRefused or StorageUnavailable, each with a sentence that says
 * what to do.
 */
export async function openSqliteStore(order: DatabaseOrder): Promise<SqliteStore> {
  const opened = openDatabase(order)
  try {
    return new SqliteStore(opened, order.now)
  } catch (error) {
    opened.close()
    throw error
  }
}
