/**
 * Goes on without a master key that is lost: what it sealed is gone, runs and paid jobs are not.
 *
 * 1. Only what cannot be opened is made anew: with the right key nothing changes.
 * 2. A file of the master key that is there is never replaced.
 * 3. It is no start: whether a database was restored is for the start that follows, which finds what it would have found without this,
 *    also where this broke off.
 * 4. The bootstrap key comes last: until it opens no server starts, so that a reseal which broke off is begun again.
 */
import { resolve } from 'node:path'
import type { Config } from '../config.ts'
import { newestTime } from '../store/sqlite/newest.ts'
import { openSqliteStore } from '../store/sqlite/open.ts'
import { openSecrets } from './access.ts'
import { createClock } from './clock.ts'
import { BOOTSTRAP } from './keyring.ts'
import { masterKey } from './secrets.ts'

export interface Resealed {
  /** Where the new master key lies; null when there was one. */
  file: string | null
  /** Ids of the keys that have a new secret. */
  keys: readonly string[]
  /** The new secret of the bootstrap key, where nobody gave it. */
  secret: string | null
}

/** @throws an error whose message is a sentence for the operator, such as DataDirLocked while a server runs */
export async function reseal(config: Config): Promise<Resealed> {
  const dataDir = resolve(config.dataDir)
  const clock = createClock()
  const store = await openSqliteStore({ dataDir, now: clock.now, isStart: false })
  try {
    clock.notBefore(newestTime(store.db))
    const master = masterKey(config.masterKey, dataDir)
    const secrets = openSecrets({ store, clock, master: master.bytes, config })
    const ids = (await store.apiKeys()).map(({ id }) => id)
    const keys: string[] = []
    let secret: string | null = null
    for (const id of [...ids.filter(each => each !== BOOTSTRAP), BOOTSTRAP]) {
      const made = await secrets.reseal(id)
      if (made) keys.push(id)
      if (made && id === BOOTSTRAP && config.callbackSecret === null) secret = made.text
    }
    return { file: master.created ? master.file : null, keys, secret }
  } finally {
    await store.close()
  }
}
