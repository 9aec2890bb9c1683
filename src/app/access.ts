/** Who may do what, and for how much: keys, their secrets, their budgets and places, put together. */

import type { Config } from '../config.ts'
import type { Clock, Store } from '../core/ports.ts'
import { Admission } from '../engine/admission.ts'
import { Budget } from '../engine/budget.ts'
import { BOOTSTRAP, Keyring, type MadeBootstrap } from './keyring.ts'
import { deriveKey } from './secrets.ts'
import { WebhookSecrets } from './webhook-secrets.ts'

export interface Access {
  keys: Keyring
  secrets: WebhookSecrets
  budget: Budget
  admission: Admission
  /** Stores the bootstrap key and its secret; gives the texts of what was just made. */
  begin(): Promise<MadeBootstrap>
}

export interface AccessOrder {
  store: Store
  clock: Clock
  wall(): number
  master: Uint8Array
  config: Pick<Config, 'apiKey' | 'callbackSecret'>
}

/** @throws Error with a sentence when stored secrets were sealed under another master key */
export async function openAccess({ store, clock, wall, master, config }: AccessOrder): Promise<Access> {
  const { apiKey } = config
  const secrets = openSecrets({ store, clock, master, config })
  // A wrong master key must stop the start, not every callback.
  await secrets.of(BOOTSTRAP)
  const budget = new Budget(id => keys.limits(id).dailyBudgetUsd)
  const admission = new Admission(id => keys.limits(id))
  const keys: Keyring = await Keyring.open({
    store,
    clock,
    wall,
    given: apiKey,
    secrets,
    spentUsd: id => budget.spent(id, clock.now()),
    counted: () => count.now(),
    changed: id => admission.look(id),
  })
  const now = clock.now()
  const count = counting(rest => budget.load(store, now, rest))
  if (keys.list().some(key => key.dailyBudgetUsd !== null)) await count.now()
  const begin = async () => {
    const made = await keys.ensure()
    await secrets.adopt()
    return made
  }
  return { keys, secrets, budget, admission, begin }
}

/** The secrets that sign callbacks, by the master key. */
export function openSecrets({ store, clock, master, config }: Omit<AccessOrder, 'wall'>): WebhookSecrets {
  const { callbackSecret: text } = config
  const given = text === null ? null : { apiKeyId: BOOTSTRAP, text }
  return new WebhookSecrets({ store, clock, key: deriveKey(master, 'webhook secrets'), given })
}

/** A count of many attempts takes a few hundredths of a core. */
const REST_MS = 50

/** A long count that goes on beside everything else, and makes haste when somebody waits for it. */
function counting(count: (rest: () => Promise<void>) => Promise<void>): { now(): Promise<void> } {
  const haste = Promise.withResolvers<void>()
  const done = count(() => Promise.race([Bun.sleep(REST_MS), haste.promise]))
  // Told to whoever waits.
  done.catch(() => {})
  return {
    now() {
      haste.resolve()
      return done
    },
  }
}
