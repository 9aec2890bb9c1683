/**
 * A process that has a store: `bun test/support/store-child.ts <dataDir>`. Says `open`, then the id of each run once
 * its create has resolved, until it is killed; or says why it could not open, and exits with 3.
 */
import { openSqliteStore } from '../../src/store/sqlite/open.ts'
import { creation, queuedRun } from './store-runs.ts'

const dataDir = Bun.argv[2] ?? ''
try {
  const store = await openSqliteStore({ dataDir, now: Date.now })
  console.log('open')
  const write = async (): Promise<never> => {
    for (;;) {
      const run = { ...queuedRun(), id: Bun.randomUUIDv7() }
      await store.create(creation(run))
      console.log(run.id)
    }
  }
  await Promise.all(Array.from({ length: 16 }, write))
} catch (error) {
  console.log(String(error))
  process.exit(3)
}
