/** A start whose day holds many attempts: who waits for their sum, and who does not. */
import { afterEach, beforeEach, expect, test } from 'bun:test'
import { openAccess } from '../../src/app/access.ts'
import { overlay } from '../../src/app/tracing/overlay.ts'
import type { Spending } from '../../src/core/keys.ts'
import type { Store } from '../../src/core/ports.ts'
import { apiKey, attempt, creation, leap, queuedRun, runAt, T0, webhookSecret } from '../support/store-runs.ts'
import { openTempStore, type TempStore } from '../support/store-temp.ts'

let temp: TempStore
let key: ReturnType<typeof apiKey>
beforeEach(async () => {
  temp = await openTempStore()
  key = apiKey()
  await temp.store.saveApiKey(key, webhookSecret(key.id))
})
afterEach(() => temp.dispose())

/** An access whose store tells the day's spending when it is let. */
function opened(): { access: ReturnType<typeof openAccess>; tell(): void } {
  const { promise, resolve } = Promise.withResolvers<void>()
  const slow = async function* (since: number, until: number): AsyncIterable<Spending[]> {
    await promise
    yield* temp.store.spending(since, until)
  }
  const store = overlay<Store>(temp.store, { spending: slow })
  const now = () => T0
  const clock = { now, at: () => () => {}, id: () => crypto.randomUUID(), token: () => 't', random: () => 0.5 }
  const master = new Uint8Array(32)
  const config = { apiKey: null, callbackSecret: null }
  return { access: openAccess({ store, clock, wall: now, master, config }), tell: resolve }
}

/** Ended attempts at five cents each, more than one piece of them. */
async function spend(attempts: number): Promise<void> {
  const queued = queuedRun({ apiKeyId: key.id })
  await temp.store.create(creation(queued))
  const cost = { estimatedUsd: 0.05, actualUsd: null, basis: 'listed' as const }
  const ended = { outcome: 'failed' as const, endedAt: T0, startedAt: T0, cost }
  const tries = Array.from({ length: attempts }, (_, i) => attempt(i + 1, { ...ended, token: `t${i}` }))
  const last = attempt(attempts + 1, { startedAt: T0, cost })
  await temp.store.commit(leap(queued, runAt(queued, 0, { status: 'submitting', attempt: last, lookup: null }, tries)))
}

const settled = async (promise: Promise<unknown>): Promise<boolean> => {
  let is = false
  void promise.then(() => {
    is = true
  })
  for (let i = 0; i < 20; i += 1) await new Promise(resolve => setImmediate(resolve))
  return is
}

test('without a budget the start does not wait; the sum comes, whole, and a budget that is set waits for it', async () => {
  await spend(1_200)
  const { access, tell } = opened()
  const { keys, budget } = await access
  const changed = keys.change(key.id, { dailyBudgetUsd: 1 })
  expect([await settled(changed), keys.limits(key.id).dailyBudgetUsd]).toEqual([false, null])
  tell()
  expect(await changed).toMatchObject({ dailyBudgetUsd: 1 })
  expect(budget.spent(key.id, T0)).toBeCloseTo(1_201 * 0.05, 9)
  expect(budget.refuses({ apiKeyId: key.id, stepId: 's', no: 1, startedAt: T0 }, 0.05)?.code).toBe('budget_exceeded')
})

test('with a budget the start waits for the sum', async () => {
  await temp.store.saveApiKey({ ...key, dailyBudgetUsd: 1 })
  await spend(20)
  const { access, tell } = opened()
  expect(await settled(access)).toBe(false)
  tell()
  expect((await access).budget.spent(key.id, T0)).toBeCloseTo(1.05, 9)
})
