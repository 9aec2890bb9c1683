/** How many may wait for the end of a run, and how long a list is of which nobody says how long. */
import { expect, test } from 'bun:test'
import { overlay } from '../../src/app/tracing/overlay.ts'
import type { ApiDeps } from '../../src/http/deps.ts'
import type { Authorized } from '../../src/http/exchange.ts'
import { createWaiters } from '../../src/http/wait.ts'
import { HttpWorld } from '../support/http-world.ts'
import { queuedRun } from '../support/store-runs.ts'
import { VirtualClock } from '../support/virtual-clock.ts'

test('sixty-four of a key wait at once, and two hundred and fifty-six in all; the next is answered as if he had not asked', async () => {
  const run = queuedRun()
  const clock = new VirtualClock()
  const draining = new AbortController()
  const watch = async function* (_id: string, _after: number, signal: AbortSignal): AsyncGenerator<never> {
    await new Promise(resolve => signal.addEventListener('abort', resolve))
  }
  const ended = { ...run, status: 'canceled' as const }
  const engine = { run: async () => ended }
  const waiters = createWaiters({ store: { watch }, engine, clock, draining: draining.signal } as unknown as ApiDeps)
  const wait = (apiKeyId: string) => {
    const request = new Request('http://babychain.test/')
    const exchange = { principal: { apiKeyId, scopes: [] }, request, allowSilence() {} }
    return waiters.untilEnd(exchange as unknown as Authorized, run, 60)
  }
  const waiting = ['a', 'b', 'c', 'd'].flatMap(key => Array.from({ length: 64 }, () => wait(key)))
  expect(waiters.count).toBe(256)
  for (const key of ['a', 'e']) expect(await wait(key)).toBe(run)
  const began = clock.now()
  clock.step()
  expect([new Set(await Promise.all(waiting)), clock.now() - began]).toEqual([new Set([ended]), 60_000])
  const again = wait('a')
  expect(waiters.count).toBe(1)
  draining.abort()
  expect([await again, waiters.count]).toEqual([ended, 0])
})

test('a list has twenty entries where nobody says how many, and looks for one more', async () => {
  const limits: number[] = []
  const look = async ({ limit }: { limit: number }): Promise<never[]> => {
    limits.push(limit)
    return []
  }
  const world = await HttpWorld.open(deps => ({
    ...deps,
    store: overlay(deps.store, { runs: look, deliveries: look }),
  }))
  for (const list of ['runs', 'deliveries'])
    for (const query of ['', '?limit=1', '?limit=100']) await world.ask('GET', `/api/v1/${list}${query}`)
  expect(limits).toEqual([21, 2, 101, 21, 2, 101])
  await world.close()
})
