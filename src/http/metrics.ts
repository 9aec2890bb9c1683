/**
 * What is measured, and how it is called (Prometheus text format).
 *
 * 1. Labels come from closed sets: route patterns, models, providers, statuses. Never an id, a path or a message.
 * 2. Counts of runs and deliveries are read from the store when somebody asks; nothing is counted twice.
 * 3. Observing never throws and never waits; a scrape waits for the checks of `/readyz`, but not for ever.
 */
import { Counter, collectDefaultMetrics, Gauge, Histogram, Registry } from 'prom-client'
import type { Clock, EngineStats, Observer, StoreCounts } from '../core/ports.ts'
import type { Readiness } from './deps.ts'

export interface Metrics {
  /** For the engine and the outbox. */
  observer: Observer
  answered(request: { method: string; route: string; status: number; seconds: number }): void
  /** Where counts come from; called once by the API. */
  connect(sources: Sources): void
  readonly contentType: string
  text(): Promise<string>
}

interface Sources {
  counts(): Promise<StoreCounts>
  stats(): EngineStats
  /** The checks of `/readyz`. */
  ready(): Promise<Readiness>
  clock: Pick<Clock, 'now' | 'at'>
  waiters(): number
}

/** How late the event loop was in the last minutes. */
export interface LoopLag {
  p99Ms: number
  maxMs: number
}

/** `process`: also memory, garbage collection and event-loop lag of this process; once per process. */
export function createMetrics(options: { process?: { loopLag(): LoopLag } } = {}): Metrics {
  const registry = new Registry()
  if (options.process) measureProcess(registry, options.process.loopLag)
  const http = new Histogram({
    name: 'babychain_http_request_duration_seconds',
    help: 'Time to the answer, by route pattern.',
    labelNames: ['method', 'route', 'status'] as const,
    buckets: [0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1, 5, 30, 60],
    registers: [registry],
  })
  const observer = createObserver(registry)
  const read = createGauges(registry)
  const check = createReady(registry, observer)
  let sources: Sources | null = null
  return {
    observer,
    answered({ method, route, status, seconds }) {
      http.observe({ method: METHODS.has(method) ? method : 'other', route, status: String(status) }, seconds)
    },
    connect(from) {
      sources = from
    },
    contentType: registry.contentType,
    async text() {
      // A full disk must not hide the rest: what cannot be read keeps its last value.
      if (sources) await Promise.all([read(sources).catch(error => observer.fault('metrics', error)), check(sources)])
      return registry.metrics()
    },
  }
}

/** All that prom-client knows, but for the lag: at every scrape it resets the one histogram that Bun has, and the next reader sees nothing. */
function measureProcess(registry: Registry, loopLag: () => LoopLag): void {
  collectDefaultMetrics({ register: registry })
  for (const { name } of registry.getMetricsAsArray())
    if (name.startsWith('nodejs_eventloop_lag_')) registry.removeSingleMetric(name)
  const gauge = (which: string, help: string, read: (lag: LoopLag) => number) =>
    new Gauge({
      name: `nodejs_eventloop_lag_${which}_seconds`,
      help,
      registers: [registry],
      collect() {
        this.set(read(loopLag()) / 1000)
      },
    })
  gauge('p99', 'The 99th percentile of the delays of the last whole minute.', lag => lag.p99Ms)
  gauge('max', 'The longest delay of the last minutes.', lag => lag.maxMs)
}

const METHODS = new Set(['GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE', 'OPTIONS'])
/** From a picture in a second to a film in an hour. */
const LONG = [0.5, 1, 2, 5, 10, 20, 40, 80, 160, 320, 640, 1_800, 3_600]

function createObserver(registry: Registry): Observer {
  const registers = [registry]
  const attempts = new Histogram({
    name: 'babychain_step_attempt_duration_seconds',
    help: 'From the intent to the end of an attempt.',
    labelNames: ['model', 'provider', 'outcome', 'code'] as const,
    buckets: LONG,
    registers,
  })
  const runs = new Histogram({
    name: 'babychain_run_duration_seconds',
    help: 'From acceptance to end.',
    labelNames: ['chain', 'status'] as const,
    buckets: LONG,
    registers,
  })
  const deliveries = new Histogram({
    name: 'babychain_delivery_attempt_duration_seconds',
    help: 'One POST of a callback, by what it made of the callback; as_before: a failed one that somebody asked for.',
    labelNames: ['status', 'error_class'] as const,
    buckets: [0.01, 0.05, 0.1, 0.5, 1, 5, 15],
    registers,
  })
  const faults = new Counter({
    name: 'babychain_faults_total',
    help: 'Things that should not happen and were survived.',
    labelNames: ['where'] as const,
    registers,
  })
  return {
    attemptEnded: ({ model, provider, outcome, code, ms }) =>
      attempts.observe({ model, provider, outcome, code: code ?? '' }, ms / 1000),
    runEnded: ({ slug, status, ms }) => runs.observe({ chain: slug, status }, ms / 1000),
    deliveryTried: ({ status, errorClass, ms }) =>
      deliveries.observe({ status, error_class: errorClass ?? '' }, ms / 1000),
    fault: where => faults.inc({ where }),
  }
}

/** Gauges of what is, and a function that reads it: one look at the store and one at the engine for each scrape. */
function createGauges(registry: Registry): (sources: Sources) => Promise<void> {
  const gauge = <L extends string>(name: string, help: string, labels: readonly L[] = []) =>
    new Gauge({ name: `babychain_${name}`, help, labelNames: labels, registers: [registry] })
  const runs = gauge('runs', 'Runs, by status.', ['status'])
  const deliveries = gauge('deliveries', 'Callbacks, by state.', ['status'])
  const overdue = gauge('run_overdue_seconds', 'How late the most overdue run is.')
  const actors = gauge('actors', 'Runs that are live in memory.')
  const waiting = gauge('steps_waiting', 'Steps that wait for capacity.')
  const inFlight = gauge('jobs_in_flight', 'Jobs at a provider.', ['provider'])
  const breakers = gauge('breaker', '1 where a breaker is open or half open.', ['provider', 'state'])
  const held = gauge('http_waiters', 'Requests that wait for the end of a run.')
  return async ({ counts, stats, clock, waiters }) => {
    const engine = stats()
    const { actors: live, waiting: queued, inFlight: jobs, breakers: open } = engine
    actors.set(live)
    waiting.set(queued)
    held.set(waiters())
    inFlight.reset()
    breakers.reset()
    for (const [provider, count] of Object.entries(jobs)) inFlight.set({ provider }, count)
    for (const [provider, state] of Object.entries(open)) breakers.set({ provider, state }, 1)
    const { runs: byStatus, deliveries: byState, oldestDueAt } = await counts()
    for (const [status, count] of Object.entries(byStatus)) runs.set({ status }, count)
    for (const [status, count] of Object.entries(byState)) deliveries.set({ status }, count)
    overdue.set(latenessMs(engine, oldestDueAt, clock.now()) / 1000)
  }
}

/** A scrape that comes too late counts as a server that is down, so a disk or a bucket that hangs must not hold it (ms). */
const CHECKS_MS = 2_000

/** Gauges of readiness, and a function that asks for it; what does not answer in time keeps its last value and grows old. */
function createReady(registry: Registry, observer: Observer): (sources: Sources) => Promise<void> {
  const registers = [registry]
  const ready = new Gauge({
    ...{ name: 'babychain_ready', help: 'The checks of /readyz: 1 where one holds.' },
    ...{ labelNames: ['check'] as const, registers },
  })
  const age = new Gauge({ name: 'babychain_ready_age_seconds', help: 'How old babychain_ready is.', registers })
  let asking: Promise<void> | null = null
  let answeredAt: number | null = null
  return async ({ ready: ask, clock }) => {
    answeredAt ??= clock.now()
    asking ??= ask()
      .then(({ checks }) => {
        for (const { name, ok } of checks) ready.set({ check: name }, ok ? 1 : 0)
        answeredAt = clock.now()
      })
      .catch(error => observer.fault('metrics', error))
      .finally(() => {
        asking = null
      })
    const { promise: late, resolve } = Promise.withResolvers<void>()
    const disarm = clock.at(clock.now() + CHECKS_MS, resolve)
    await Promise.race([asking, late])
    disarm()
    age.set((clock.now() - answeredAt) / 1000)
  }
}

/**
 * How late the most overdue run is (ms). The store's times are true only of runs that nobody holds; of those, what was due
 * at the last sweep has been taken up, so that none can be older.
 */
function latenessMs({ overdueAt, sweptAt }: EngineStats, storedAt: number | null, now: number): number {
  const unheldAt = storedAt !== null && storedAt < now ? Math.max(storedAt, sweptAt) : now
  return Math.max(0, now - Math.min(overdueAt ?? now, unheldAt))
}
