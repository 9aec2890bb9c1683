/** A run whose key is always at its limit, and whose provider always full: both lines must let it go at once, some time. */
import { describe, expect, test } from 'bun:test'
import { stepError } from '../../src/core/errors.ts'
import type { Run } from '../../src/core/run.ts'
import { Admission } from '../../src/engine/admission.ts'
import { inWorld } from '../support/in-world.ts'
import { type Behavior, RemoteProvider } from '../support/remote-provider.ts'
import { runOf } from '../support/runs.ts'

describe('a run that a provider had a place for, and its key had none', () => {
  const limits = { maxRunning: 1 }
  const concurrency = (provider: string) => (provider === 'p' ? 1 : 8)
  /** Only p is cheap enough. */
  const atP = { maxCostUsd: 0.05 }
  const atQ = { providerOrder: { a: ['q'] } }

  /**
   * The key is served at q every 25 s, and p, every 20 s, by the runs of others. Gives when the run began that goes to p, and
   * when the first of those of its key that asked after it, in seconds.
   */
  const begun = async (p: (n: number) => Behavior): Promise<(number | null)[]> => {
    let seconds: (number | null)[] = []
    const work = (ms: number) => ({ type: 'work', ms }) as const
    const providers = (now: () => number) => [
      new RemoteProvider('p', now, n => (p(n).type === 'work' ? work(20_000) : p(n))),
      new RemoteProvider('q', now, () => work(25_000)),
    ]
    await inWorld({ limits, concurrency, prices: { q: 0.2 }, providers }, async world => {
      const at = world.clock.now()
      const many = async (count: number, of: (i: number) => Partial<Run>): Promise<Run[]> => {
        const runs: Run[] = []
        for (let i = 0; i < count; i += 1) runs.push(await world.create({ a: [] }, of(i)))
        return runs
      }
      const others = (i: number) => ({ ...atP, apiKeyId: `other ${i}` })
      await many(5, others)
      await many(1, () => atQ)
      const [stuck] = await many(1, () => atP)
      await many(40, i => others(i + 5))
      await many(4, () => atQ)
      await world.settle(() => world.clock.now() > at + 110_000)
      const [next] = await many(20, () => atQ)
      await world.settle(() => false, 400_000)
      const runs = await Promise.all([stuck, next].map(run => world.process.store.run(run?.id ?? '')))
      const times = runs.map(run => run?.steps[0]?.startedAt ?? null)
      seconds = times.map(time => time && Math.round((time - at) / 5_000) * 5)
    })
    return seconds
  }

  test('keeps the next one of its key until the provider has one again', async () => {
    expect(await begun(() => ({ type: 'work' }))).toEqual([140, 160])
  })

  test('gives it on when the provider closes', async () => {
    // Who asked before comes back to its turn, and is told of the pause.
    const refusals = new Map([
      [4, stepError('provider_overloaded', 'busy', { retryAfterMs: 55_000 })],
      [8, stepError('provider_rate_limited', 'slow', { retryAfterMs: 3_600_000 })],
    ])
    const p = (n: number): Behavior => {
      const error = refusals.get(n)
      return error ? { type: 'refuse', error } : { type: 'work' }
    }
    expect(await begun(p)).toEqual([null, 155])
  })

  test('is the oldest of its key that was called, whoever came before it', () => {
    let maxRunning = 1
    const admission = new Admission(() => ({ maxRunning, maxQueued: null }))
    const runs = Array.from({ length: 4 }, () => runOf({ a: [] })) as [Run, Run, Run, Run]
    const [first, old, young, other] = runs
    for (const run of runs) admission.enter(run)
    admission.begin(first)
    const keeps: [Run, boolean][] = []
    const wait = (run: Run): (() => void) =>
      admission.wait(
        run,
        'a',
        () => {
          keeps.push([run, admission.keep(run, 'a', true)])
          admission.answered(run, 'a')
        },
        'p',
        run !== other,
      )
    // It is at its provider while the other is called.
    const away = wait(old)
    wait(young)
    away()
    maxRunning = 2
    admission.look('key')
    expect(keeps.splice(0)).toEqual([[young, true]])
    wait(old)
    admission.follow({ ...first, status: 'canceled' })
    expect(keeps.splice(0)).toEqual([[old, true]])
    expect([admission.begin(other), admission.begin(young), admission.begin(old)]).toEqual([true, false, true])
  })
})
