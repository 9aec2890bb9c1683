/** The gauge of lateness: timers of live runs, and the store's times for the others. */
import { expect, test } from 'bun:test'
import type { EngineStats } from '../../src/core/ports.ts'
import { createMetrics } from '../../src/http/metrics.ts'

const NOW = 1_800_000_000_000
const calm: EngineStats = { actors: 0, inFlight: {}, breakers: {}, waiting: 0, overdueAt: null, sweptAt: NOW - 400 }

async function lateness(engine: Partial<EngineStats>, oldestDueAt: number | null): Promise<number> {
  const metrics = createMetrics()
  metrics.connect({
    counts: async () => ({
      runs: { queued: 0, running: 1, succeeded: 0, failed: 0, canceled: 0 },
      deliveries: { pending: 0, delivered: 0, exhausted: 0, gone: 0 },
      oldestDueAt,
    }),
    stats: () => ({ ...calm, ...engine }),
    now: () => NOW,
    waiters: () => 0,
  })
  return Number(/^babychain_run_overdue_seconds (.*)$/m.exec(await metrics.text())?.[1])
}

test.each([
  ['nothing is due', {}, null, 0],
  ['the next run is due in a minute', {}, NOW + 60_000, 0],
  ['a live run has an old time in the store, as it may while its timer runs', {}, NOW - 3_600_000, 0.4],
  ['a live run was to be woken half a minute ago', { overdueAt: NOW - 30_000 }, null, 30],
  ['a run that nobody holds came due since the last sweep', {}, NOW - 200, 0.2],
  ['no sweep has come for ten minutes, and a run is due for longer', { sweptAt: NOW - 600_000 }, NOW - 900_000, 600],
  ['no sweep has come for ten minutes, and a run is due for one', { sweptAt: NOW - 600_000 }, NOW - 60_000, 60],
  ['no sweep has come for ten minutes, and nothing is due', { sweptAt: NOW - 600_000 }, NOW + 1, 0],
] as const)('when %s', async (_what, engine, storedAt, seconds) => {
  expect(await lateness(engine, storedAt)).toBeCloseTo(seconds, 3)
})
