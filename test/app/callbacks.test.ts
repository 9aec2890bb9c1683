/** What is asked of callbacks in bulk, and where they go. */
import { expect, test } from 'bun:test'
import { type CallbackDeps, createCallbackDesk } from '../../src/app/callbacks.ts'
import { hostOf } from '../../src/app/notifier.ts'
import type { RecoverOrder } from '../../src/core/delivery.ts'

test('a recovery of many goes on where the batch before ended, and spreads them out as one', async () => {
  const orders: RecoverOrder[] = []
  const woken: unknown[] = []
  const batches = [
    { count: 200, last: { createdAt: 7, id: 'msg_200' } },
    { count: 200, last: { createdAt: 8, id: 'msg_400' } },
    { count: 3, last: null },
  ]
  const desk = createCallbackDesk({
    store: {
      recover: async (order: RecoverOrder) => {
        orders.push(order)
        return batches.shift() ?? { count: 0, last: null }
      },
    },
    outbox: { wake: () => woken.push('all'), invite: (each: unknown) => woken.push(each) },
    clock: { now: () => 1_000 },
  } as unknown as CallbackDeps)
  const range = { apiKeyId: 'ada', since: 1, until: 9 }
  expect(await desk.recover(range)).toEqual({ count: 403, lastAt: 1_000 + 402 * 100 })
  const spaced = { ...range, spacingMs: 100, limit: 200 }
  expect(orders).toEqual([
    { ...spaced, at: 1_000, after: undefined },
    { ...spaced, at: 21_000, after: { createdAt: 7, id: 'msg_200' } },
    { ...spaced, at: 41_000, after: { createdAt: 8, id: 'msg_400' } },
  ])
  expect(await desk.recover({ ...range, host: 'a.example:443' })).toEqual({ count: 0, lastAt: null })
  expect(woken).toEqual(['all', { apiKeyId: 'ada', host: 'a.example:443' }])
})

test('a receiver is named by its host and its port, the usual one of its scheme where it says none', () => {
  const names = ['https://a.example/x', 'https://a.example:8443/x', 'http://a.example/x', 'http://a.example:443/'].map(
    hostOf,
  )
  expect(names).toEqual(['a.example:443', 'a.example:8443', 'a.example:80', 'a.example:443'])
})
