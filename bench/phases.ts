/**
 * What is measured, one function a phase. Each runs the bare reference and the product in the same call, prints a row for
 * each and the ratio, and is bounded in time.
 */
import { join } from 'node:path'
import type { Engine, Kind, Rig } from './rig.ts'
import { median, quantile, short, table } from './stats.ts'

export interface Setting {
  rig: Rig
  kinds: readonly Kind[]
  /** Numbers that the command line may change. */
  size: (name: string, standard: number) => number
  profile?: string
}

/** What the polls of a run cost in waiting: two steps, each asked for after half a second for the first time. */
const RHYTHM_S = 1

type Row = Record<string, number>

/** Runs `measure` on a fresh engine of each kind, several times, the kinds in turns; prints the best of each column. */
async function compare(
  setting: Setting,
  title: string,
  best: Readonly<Record<string, 'min' | 'max'>>,
  measure: (engine: Engine) => Promise<Row>,
): Promise<void> {
  const rows = new Map<Kind, Row[]>()
  for (let round = 0; round < setting.size('rounds', 1); round++) {
    for (const kind of setting.kinds) {
      const { rig, profile } = setting
      const engine = await rig.start({
        kind,
        dataDir: rig.folder(),
        ...(profile ? { profile: join(profile, kind) } : {}),
      })
      rows.set(kind, [...(rows.get(kind) ?? []), await measure(engine)])
      if (profile) await engine.stop()
      else await engine.kill()
    }
  }
  const names = Object.keys(best)
  const shown = [...rows].map(([kind, of]) => ({
    kind,
    row: names.map(name => (best[name] === 'min' ? Math.min : Math.max)(...of.map(row => row[name] ?? Number.NaN))),
  }))
  const lines = shown.map(({ kind, row }) => [kind, ...row.map(short)])
  const [bare, product] = [shown.find(each => each.kind === 'bare'), shown.find(each => each.kind === 'product')]
  if (bare && product)
    lines.push(['product / bare', ...product.row.map((value, i) => short(value / (bare.row[i] ?? 1)))])
  console.log(`\n${title}\n${table([['', ...names], ...lines])}`)
}

export async function latency(setting: Setting): Promise<void> {
  const n = setting.size('latency', 40)
  await compare(
    setting,
    `latency: ${n} runs, one after the other, D = 0 (ms; end to end holds ${RHYTHM_S * 1_000} ms of waiting for polls, own is without)`,
    { accept_p50: 'min', end_p50: 'min', own_p50: 'min', own_p99: 'min' },
    async engine => {
      await setting.rig.reset(0)
      await warm(setting.rig, engine, 500)
      const { acceptP50, endToEnd = [] } = await setting.rig.load(engine, { type: 'serial', n })
      const own = endToEnd.map(ms => ms - RHYTHM_S * 1_000)
      return { accept_p50: acceptP50, end_p50: median(endToEnd), own_p50: median(own), own_p99: quantile(own, 0.99) }
    },
  )
}

export async function burst(setting: Setting, watched = 0, engines: Setting = setting): Promise<void> {
  const n = setting.size('burst', 5_000)
  await compare(
    engines,
    `burst: ${n} runs, 64 posts at once, D = 0${watched > 0 ? `, ${watched} watched by server-sent events` : ''} (busy: without the ${RHYTHM_S} s of waiting for polls)`,
    {
      accepted_per_s: 'max',
      accept_p50_ms: 'min',
      runs_per_s: 'max',
      busy_runs_per_s: 'max',
      cpu_ms_per_run: 'min',
      peak_mb: 'min',
    },
    engine => oneBurst(setting.rig, engine, n, watched),
  )
}

/** A server that has run for some seconds is a compiled one: the first thousand runs are slower. */
async function warm(rig: Rig, engine: Engine, n: number): Promise<void> {
  await rig.reset(0)
  await rig.load(engine, { type: 'posts', n, atOnce: 16 })
  await rig.ended(n, 60)
  await Bun.sleep(500)
  await rig.reset(0)
}

export async function oneBurst(rig: Rig, engine: Engine, n: number, watched = 0): Promise<Row> {
  await warm(rig, engine, 2_000)
  const before = engine.usage()
  const loaded = await rig.load(engine, { type: 'posts', n, atOnce: 64, watched })
  await rig.ended(n - loaded.refused, 120)
  const { lastAt } = await rig.sinkStats()
  const seconds = (lastAt - loaded.startedAt) / 1_000
  const after = engine.usage()
  const { doubled } = await rig.stubStats()
  if (doubled > 0 || loaded.refused > 0)
    console.log(`  ${engine.kind}: ${doubled} double submits, ${loaded.refused} refused`)
  if (watched > 0) console.log(`  ${engine.kind}: ${JSON.stringify(loaded.watched)}`)
  return {
    accepted_per_s: loaded.sent / loaded.acceptS,
    accept_p50_ms: loaded.acceptP50,
    runs_per_s: loaded.sent / seconds,
    busy_runs_per_s: loaded.sent / (seconds - RHYTHM_S),
    cpu_ms_per_run: ((after.cpuS - before.cpuS) * 1_000) / loaded.sent,
    peak_mb: after.peakMb,
  }
}

export async function steady(setting: Setting): Promise<void> {
  const inFlight = setting.size('steady', 1_000)
  const seconds = setting.size('seconds', 12)
  await compare(
    setting,
    `steady: always ${inFlight} in flight, D = 200 ms, ${seconds} s after warming up`,
    { runs_per_s: 'max', cpu_ms_per_run: 'min', accept_p50_ms: 'min', rss_mb: 'min' },
    engine => oneSteady(setting.rig, engine, inFlight, seconds),
  )
}

async function oneSteady(rig: Rig, engine: Engine, inFlight: number, seconds: number): Promise<Row> {
  await rig.reset(200)
  const before = engine.usage()
  const { perSecond = [], acceptP50 } = await rig.load(engine, { type: 'closed', inFlight, seconds, warmSeconds: 8 })
  const after = engine.usage()
  const { distinct } = await rig.sinkStats()
  return {
    // Runs come in waves, so no second is typical.
    runs_per_s: perSecond.reduce((sum, each) => sum + each, 0) / perSecond.length,
    cpu_ms_per_run: ((after.cpuS - before.cpuS) * 1_000) / distinct,
    accept_p50_ms: acceptP50,
    rss_mb: after.rssMb,
  }
}

/** Runs whose jobs take an hour: memory, what waiting costs, and what one more run costs beside them. */
export async function scale(setting: Setting): Promise<void> {
  const { rig, size } = setting
  const rows: string[][] = []
  for (const waiting of [1_000, 10_000, 100_000].filter(count => count <= size('scale', 100_000))) {
    const engine = await rig.start({ kind: 'product', dataDir: rig.folder(), hooks: true })
    await rig.reset(3_600_000)
    const began = performance.now()
    await rig.load(engine, { type: 'posts', n: waiting, atOnce: 64 })
    const limit = performance.now() + 300_000
    while ((await rig.stubStats()).steps < waiting && performance.now() < limit) await Bun.sleep(200)
    const filledS = (performance.now() - began) / 1_000
    await Bun.sleep(size('settle', 20) * 1_000)
    const calls = (await rig.stubStats()).calls
    const idle = engine.usage()
    await Bun.sleep(10_000)
    const later = engine.usage()
    const polls = ((await rig.stubStats()).calls - calls) / 10
    await rig.reset(0)
    const busy = await beside(rig, engine, size('beside', 2_000))
    rows.push([
      String(waiting),
      ...[filledS, idle.rssMb, later.rssMb, later.peakMb, ((later.cpuS - idle.cpuS) / 10) * 100, polls, busy].map(
        short,
      ),
    ])
    await engine.kill()
  }
  const head = [
    'in flight',
    'filled in s',
    'rss mb',
    'rss mb later',
    'peak mb',
    'idle cpu %',
    'polls/s',
    'runs/s beside them',
  ]
  console.log(`\nscale: the product with runs whose jobs take an hour\n${table([head, ...rows])}`)
}

async function beside(rig: Rig, engine: Engine, n: number): Promise<number> {
  await rig.reset(0)
  const loaded = await rig.load(engine, { type: 'posts', n, atOnce: 64 })
  await rig.ended(n, 120)
  return n / ((await rig.sinkStats()).lastAt / 1_000 - loaded.startedAt / 1_000 - RHYTHM_S)
}

/** kill -9 while half of the second steps have been submitted, restart at once. */
export async function crash(setting: Setting): Promise<void> {
  const { rig, size } = setting
  const n = size('crash', 1_000)
  const jobMs = 2_000
  const rows: string[][] = []
  for (let round = 0; round < size('rounds', 1); round++) {
    for (const kind of setting.kinds) {
      const dataDir = rig.folder()
      const first = await rig.start({ kind, dataDir, hooks: true })
      await rig.reset(jobMs)
      await rig.load(first, { type: 'posts', n, atOnce: 64 })
      const limit = performance.now() + 60_000
      while ((await rig.stubStats()).steps < n * 1.5 && performance.now() < limit) await Bun.sleep(2)
      await first.kill()
      await rig.stub('mark')
      const killedAt = Date.now()
      const second = await rig.start({ kind, dataDir, hooks: true, port: Number(new URL(first.url).port) })
      await rig.ended(n, 60, 10).catch(error => console.log(`  ${kind}: ${error.message}`))
      const { firstCallAt, lastDoneAt, doubled } = await rig.stubStats()
      const { received, distinct, lastAt } = await rig.sinkStats()
      rows.push([
        kind,
        ...[
          firstCallAt - killedAt,
          lastAt - killedAt,
          lastAt - lastDoneAt,
          doubled,
          n - distinct,
          received - distinct,
        ].map(short),
      ])
      await second.kill()
    }
  }
  const head = [
    '',
    'first call ms',
    'all done ms',
    'after last job ms',
    'double submits',
    'not done',
    'callbacks twice',
  ]
  console.log(
    `\ncrash: kill -9 in the middle of ${n} runs, jobs of ${jobMs} ms; times from the kill\n${table([head, ...rows])}`,
  )
}

export async function sse(setting: Setting): Promise<void> {
  const only: Setting = { ...setting, kinds: ['product'] }
  await burst(setting, 0, only)
  await burst(setting, setting.size('watchers', 1_000), only)
}

/** From the start of the process to the first 200 of /readyz, on an empty folder and on one that was used before. */
export async function start(setting: Setting): Promise<void> {
  const { rig, size } = setting
  const [cold, warm]: [number[], number[]] = [[], []]
  for (let i = 0; i < size('starts', 10); i++) {
    const dataDir = rig.folder()
    for (const times of [cold, warm]) {
      const engine = await rig.start({ kind: 'product', dataDir })
      times.push(engine.readyMs)
      await engine.stop()
    }
  }
  const row = (name: string, times: number[]): string[] => [
    name,
    short(Math.min(...times)),
    short(median(times)),
    short(quantile(times, 0.9)),
  ]
  console.log(
    `\nstart: process to /readyz (ms)\n${table([['', 'best', 'p50', 'p90'], row('empty folder', cold), row('used folder', warm)])}`,
  )
}
