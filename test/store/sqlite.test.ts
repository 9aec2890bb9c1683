/** The SQLite store on real files: the contract of every Store, and what only SQLite can get wrong. */
import { storeContract } from '../contract/store.contract.ts'
import { openTempStore } from '../support/store-temp.ts'

storeContract('the SQLite store', openTempStore)
