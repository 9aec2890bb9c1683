/** The simulations' store is a Store like any other. */
import { storeContract } from '../contract/store.contract.ts'
import { MemoryDisk, MemoryStore } from './memory-store.ts'

storeContract('the store in memory', async () => {
  const disk = new MemoryDisk()
  const harness = {
    store: new MemoryStore(disk),
    async reopen() {
      await harness.store.close()
      harness.store = new MemoryStore(disk)
      return harness.store
    },
    dispose: () => harness.store.close(),
  }
  return harness
})
