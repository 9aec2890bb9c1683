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
  const { apiKey, callbackSecret } = config
  const secrets = new WebhookSecrets({
    store,
    clock,
    key: deriveKey(master, 'webhook secrets'),
    given: callbackSecret === null ? null : { apiKeyId: BOOTSTRAP, text: callbackSecret },
  })
  // A wrong master key must stop the start, not every callback.
  await secrets.of(BOOTSTRAP)
  const budget = new Budget(id => keys.limits(id).dailyBudgetUsd)
  const now = clock.now()
  const counted = Promise.withResolvers<void>()
  const admission = new Admission(id => keys.limits(id))
  const keys: Keyring = await Keyring.open({
    store,
    clock,
    wall,
    given: apiKey,
    secrets,
    spentUsd: id => budget.spent(id, clock.now()),
    counted: counted.promise,
    changed: id => admission.look(id),
  })
  // A day of a million attempts takes seconds: only a budget has to wait for its sum.
  counted.resolve(budget.load(store, now))
  counted.promise.catch(() => {})
  if (keys.list().some(key => key.dailyBudgetUsd !== null)) await counted.promise
  const begin = async () => {
    const made = await keys.ensure()
    await secrets.adopt()
    return made
  }
  return { keys, secrets, budget, admission, begin }
}
