/** What a callback shows of itself: a time to come only while one is to come. */
import { expect, test } from 'bun:test'
import { presentDelivery } from '../../../src/http/dto/deliveries.ts'
import { deliveryOf, queuedRun, T0 } from '../../support/store-runs.ts'

test('a callback that is over is not said to be tried again', () => {
  const made = {
    ...deliveryOf(queuedRun()),
    attempts: 1,
    updatedAt: T0,
    deliveredAt: null,
    lastError: null,
    dueAt: T0 + 5,
  }
  const next = (['pending', 'delivered', 'exhausted', 'gone'] as const).map(
    status => presentDelivery({ ...made, status }).next_attempt_at,
  )
  expect(next).toEqual([new Date(T0 + 5).toISOString().replace('Z', '+00:00'), null, null, null])
})
