/** The gauge of lateness: timers of live runs, and the store's times for the others; and that of readiness. */
import { expect, test } from 'bun:test'
import type { EngineStats } from '../../src/core/ports.ts'
import type { Readiness } from '../../src/http/deps.ts'
import { createMetrics, type Metrics } from '../../src/http/metrics.ts'

const NOW = 1_800_000_000_000
const calm: EngineStats = { actors: 0, inFlight: {}, breakers: {}, waiting: 0, overdueAt: null, sweptAt: NOW - 400 }

/** Metrics of an engine and a store that are as told; `clock` stands still unless somebody says otherwise. */
function connected(told: {
  engine?: Partial<EngineStats>
  oldestDueAt?: number | null
  ready?(): Promise<Readiness>
  clock?: Parameters<Metrics['connect']>[0]['clock']
}): Metrics {
  const metrics = createMetrics()
  metrics.connect({
    counts: async () => ({
      runs: { queued: 0, running: 1, succeeded: 0, failed: 0, canceled: 0 },
      deliveries: { pending: 0, delivered: 0, exhausted: 0, gone: 0 },
      oldestDueAt: told.oldestDueAt ?? null,
    }),
    stats: () => ({ ...calm, ...told.engine }),
    ready: told.ready ?? (async () => ({ ok: true, checks: [] })),
    clock: told.clock ?? { now: () => NOW, at: () => () => {} },
    waiters: () => 0,
  })
  return metrics
}

async function lateness(engine: Partial<EngineStats>, oldestDueAt: number | null): Promise<number> {
  const text = await connected({ engine, oldestDueAt }).text()
  return Number(/^babychain_run_overdue_seconds (.*)$/m.exec(text)?.[1])
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

const readiness = async (metrics: Metrics): Promise<string[]> =>
  (await metrics.text()).split('\n').filter(line => line.startsWith('babychain_ready'))

test('what /readyz would answer is a gauge a check', async () => {
  const checks = [
    { name: 'database', ok: true },
    { name: 'storage', ok: false, detail: 'the disk is full' },
  ]
  expect(await readiness(connected({ ready: async () => ({ ok: false, checks }) }))).toEqual([
    'babychain_ready{check="database"} 1',
    'babychain_ready{check="storage"} 0',
    'babychain_ready_age_seconds 0',
  ])
})

test('a check that hangs holds no scrape: the last answer stays, says how old it is, and is not asked for twice', async () => {
  let now = NOW
  let asked = 0
  let hangs = false
  const { promise: hung, resolve } = Promise.withResolvers<Readiness>()
  const metrics = connected({
    clock: {
      now: () => now,
      at(time, call) {
        if (hangs)
          queueMicrotask(() => {
            now = time
            call()
          })
        return () => {}
      },
    },
    ready: () => (++asked === 1 ? Promise.resolve({ ok: true, checks: [{ name: 'database', ok: true }] }) : hung),
  })
  await readiness(metrics)
  now += 60_000
  hangs = true
  const last = ['babychain_ready{check="database"} 1', 'babychain_ready_age_seconds 62']
  expect(await readiness(metrics)).toEqual(last)
  await readiness(metrics)
  expect(asked).toBe(2)
  hangs = false
  resolve({ ok: false, checks: [{ name: 'database', ok: false }] })
  expect(await readiness(metrics)).toEqual(['babychain_ready{check="database"} 0', 'babychain_ready_age_seconds 0'])
})
