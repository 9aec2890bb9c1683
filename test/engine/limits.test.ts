/** Budgets and places of keys: engine and store in virtual time, many runs at once. */
import { describe, expect, test } from 'bun:test'
import { stepError } from '../../src/core/errors.ts'
import { QueueFull, StorageUnavailable } from '../../src/core/ports.ts'
import { isEnded, type Run, type Step, spent } from '../../src/core/run.ts'
import { Admission } from '../../src/engine/admission.ts'
import { type Booking, Budget } from '../../src/engine/budget.ts'
import { inWorld } from '../support/in-world.ts'
import { type Behavior, RemoteProvider } from '../support/remote-provider.ts'
import { LINE, runOf, T0 } from '../support/runs.ts'
import type { World } from '../support/world.ts'

const HOUR_MS = 3_600_000
const DAY_MS = 24 * HOUR_MS

const ended = async (world: World, runs: readonly Run[]): Promise<Run[]> => {
  const stored = await Promise.all(runs.map(run => world.process.store.run(run.id)))
  return stored.flatMap(run => (run && isEnded(run) ? [run] : []))
}

describe('the daily budget of a key', () => {
  test('fifty runs at once against one dollar, five cents a step: twenty submits, thirty refusals before any call', () =>
    inWorld({ limits: { dailyBudgetUsd: 1 } }, async world => {
      const runs = await Promise.all(Array.from({ length: 50 }, () => world.create({ a: [] })))
      await world.settle()
      const over = await ended(world, runs)
      expect(over).toHaveLength(50)
      expect(over.filter(run => run.status === 'succeeded')).toHaveLength(20)
      expect(world.providers[0]?.jobs).toHaveLength(20)
      expect(world.process.budget.spent('key', world.clock.now())).toBeCloseTo(1, 9)
      const refused = over.filter(run => run.status === 'failed')
      expect(refused.map(run => run.error?.code)).toEqual(Array(30).fill('budget_exceeded'))
      expect(refused[0]?.error?.message).toBe(
        "the next attempt costs 0.0500 USD; 1.0000 USD of the key's daily budget of 1.0000 USD are spent or under way; a new day begins at 2026-11-23T00:00:00.000Z",
      )
      for (const run of refused) expect(run.steps.flatMap(step => step.attempts)).toEqual([])
    }))

  test('chains side by side stop in the middle rather than pass it, and their callbacks say so', () =>
    inWorld({ limits: { dailyBudgetUsd: 1 } }, async world => {
      const runs = await Promise.all(Array.from({ length: 15 }, () => world.create(LINE)))
      await world.settle()
      const over = await ended(world, runs)
      expect(world.providers[0]?.jobs).toHaveLength(20)
      expect(over.reduce((sum, run) => sum + spent(run.steps).usd, 0)).toBeCloseTo(1, 9)
      expect(over.filter(run => run.status === 'succeeded')).toHaveLength(5)
      expect(world.received).toHaveLength(15)
    }))

  test('a refused submit gives its booking back; a failed job that may be billed does not', () => {
    const script = (n: number): Behavior =>
      n < 3 ? { type: 'refuse', error: stepError('provider_rate_limited', 'slow') } : { type: 'work' }
    const providers = (now: () => number) => [new RemoteProvider('p', now, script)]
    return inWorld({ providers, limits: { dailyBudgetUsd: 0.05 } }, async world => {
      const run = await world.create({ a: [] })
      expect((await world.finish(run.id)).status).toBe('succeeded')
      expect(world.process.budget.spent('key', world.clock.now())).toBeCloseTo(0.05, 9)
      const next = await world.create({ a: [] })
      expect((await world.finish(next.id)).error?.code).toBe('budget_exceeded')
    })
  })

  test('a restart forgets nothing of the day, whatever was under way', () =>
    inWorld({ limits: { dailyBudgetUsd: 0.2 } }, async world => {
      await world.finish((await world.create({ a: [] })).id)
      const live = await world.create({ a: [] })
      await world.settle(() => (world.providers[0]?.jobs.length ?? 0) === 2)
      world.process.die()
      await world.restart()
      expect(world.process.budget.spent('key', world.clock.now())).toBeCloseTo(0.1, 9)
      const runs = await Promise.all(Array.from({ length: 9 }, () => world.create({ a: [] })))
      await world.settle()
      expect((await world.finish(live.id)).status).toBe('succeeded')
      expect(world.providers[0]?.jobs).toHaveLength(4)
      expect((await ended(world, runs)).filter(run => run.status === 'succeeded')).toHaveLength(2)
    }))

  test('a new day brings a new budget', () =>
    inWorld({ limits: { dailyBudgetUsd: 0.05 } }, async world => {
      await world.finish((await world.create({ a: [] })).id)
      expect((await world.finish((await world.create({ a: [] })).id)).status).toBe('failed')
      world.clock.advance(DAY_MS)
      expect((await world.finish((await world.create({ a: [] })).id)).status).toBe('succeeded')
    }))

  test('a free attempt counts no more when the next one is looked at, at another provider', () => {
    const busy: Behavior = { type: 'refuse', error: stepError('provider_rate_limited', 'slow') }
    const providers = (now: () => number) => [new RemoteProvider('p', now, () => busy), new RemoteProvider('q', now)]
    return inWorld({ providers, limits: { dailyBudgetUsd: 0.06 } }, async world => {
      const run = await world.finish((await world.create({ a: [] })).id)
      expect([run.status, run.steps[0]?.attempts.map(attempt => attempt.provider)]).toEqual(['succeeded', ['p', 'q']])
      expect(world.process.budget.spent('key', world.clock.now())).toBeCloseTo(0.05, 9)
    })
  })

  test('an attempt without a known price is refused under a budget, and free to go without one', () => {
    const booking = { apiKeyId: 'key', stepId: 's', no: 1, startedAt: T0 }
    expect(new Budget(() => 1).refuses(booking, null)?.message).toContain('has no known price')
    expect(new Budget(() => null).refuses(booking, null)).toBeNull()
  })

  test('a hundred thousand attempts side by side, all of them free in the end, leave nothing behind', () => {
    const budget = new Budget(() => null)
    const booking = (no: number) => ({ apiKeyId: 'key', stepId: 's', no, startedAt: T0 })
    for (let no = 1; no <= 100_000; no += 1) budget.book(booking(no), 0.05 * 1.048576)
    expect(budget.spent('key', T0)).toBeCloseTo(5_242.88, 6)
    for (let no = 1; no <= 100_000; no += 1) budget.settle(booking(no), 0)
    expect(budget.spent('key', T0)).toBe(0)
  })

  test('what a late result costs counts on the day on which its attempt began, once, and a restart finds the same', () => {
    const script = (): Behavior => ({ type: 'work', ms: HOUR_MS })
    const providers = (now: () => number) => [new RemoteProvider('p', now, script)]
    return inWorld({ providers, prices: { p: 0.02 }, limits: { dailyBudgetUsd: 1 } }, async world => {
      const [p] = world.providers
      if (p) p.cancel = async () => 'unsupported'
      const spentToday = () => world.process.budget.spent('key', world.clock.now())
      const cancel = async (): Promise<string> => {
        const { id } = await world.create({ a: [] })
        await world.settle(() => p?.jobs.at(-1)?.stepId === `${id}/a`)
        await world.process.registry.cancel(id)
        return (await world.finish(id)).steps[0]?.attempts[0]?.token ?? ''
      }
      const tokens = [await cancel(), await cancel()] as const
      expect(spentToday()).toBe(0.04)
      world.clock.advance(HOUR_MS)
      const { store, registry } = world.process
      const { commit } = store
      store.commit = () => Promise.reject(new StorageUnavailable('the disk is full'))
      await expect(registry.hint(tokens[0], null)).rejects.toThrow('the disk is full')
      expect(world.faults.splice(0)).toHaveLength(1)
      store.commit = commit
      await world.settle(() => registry.stats().actors === 0)
      for (let i = 0; i < 3; i += 1) await registry.hint(tokens[0], null)
      expect(spentToday()).toBe(0.07)
      await world.restart()
      expect(spentToday()).toBe(0.07)
      world.clock.advance(DAY_MS)
      await cancel()
      await world.process.registry.hint(tokens[1], null)
      expect(spentToday()).toBe(0.02)
    })
  })

  test('an attempt of yesterday that ends today changes nothing of today', () => {
    const budget = new Budget(() => 1)
    const booking = { apiKeyId: 'key', stepId: 's', no: 1, startedAt: T0 + DAY_MS - 1 }
    const begin = (next: Booking, usd: number) => {
      expect(budget.refuses(next, usd)).toBeNull()
      budget.book(next, usd)
    }
    begin(booking, 0.9)
    begin({ ...booking, no: 2, startedAt: T0 + DAY_MS }, 0.9)
    budget.settle(booking, 0.9)
    expect(budget.spent('key', T0 + DAY_MS)).toBeCloseTo(0.9, 9)
    begin({ ...booking, no: 3 }, 0.05)
    expect(budget.spent('key', T0 + DAY_MS)).toBeCloseTo(0.9, 9)
  })
})

describe('a route that costs more than may be spent', () => {
  const providers = (now: () => number) => [
    new RemoteProvider('cheap', now, () => ({ type: 'work', ms: 5_000 })),
    new RemoteProvider('dear', now),
    new RemoteProvider('dark', now),
  ]
  const prices = { dear: 0.2, dark: null }

  test('is not taken when the others are full: the step waits for one that fits', () =>
    inWorld({ providers, prices, concurrency: () => 1 }, async world => {
      const runs = await Promise.all([1, 2, 3].map(() => world.create({ a: [] }, { maxCostUsd: 0.05 })))
      for (const { id } of runs) expect((await world.finish(id)).status).toBe('succeeded')
      expect(world.providers.map(provider => provider.jobs.length)).toEqual([3, 0, 0])
    }))

  test('is not taken while the one that fits asks for a pause, under a budget of the key either', () => {
    const slow = stepError('provider_rate_limited', 'slow', { retryAfterMs: 3_000 })
    const script = (n: number): Behavior => (n === 0 ? { type: 'refuse', error: slow } : { type: 'work' })
    const busy = (now: () => number) =>
      providers(now).map((each, i) => (i === 0 ? new RemoteProvider('cheap', now, script) : each))
    return inWorld({ providers: busy, prices, limits: { dailyBudgetUsd: 0.06 } }, async world => {
      const run = await world.finish((await world.create({ a: [] })).id)
      expect([run.status, run.steps[0]?.attempts.length]).toEqual(['succeeded', 2])
      expect(world.providers.map(provider => provider.jobs.length)).toEqual([1, 0, 0])
    })
  })

  test('is taken when it may be paid', () =>
    inWorld({ providers, prices, concurrency: () => 1 }, async world => {
      const runs = await Promise.all([1, 2, 3].map(() => world.create({ a: [] }, { maxCostUsd: 0.2 })))
      for (const { id } of runs) await world.finish(id)
      expect(world.providers.map(provider => provider.jobs.length)).toEqual([1, 2, 0])
    }))
})

describe('the places of a key', () => {
  test('no more runs are under way than it may have, and all of them end, in the order of asking', () =>
    inWorld({ limits: { maxRunning: 2 } }, async world => {
      const runs: Run[] = []
      for (let n = 0; n < 9; n += 1) runs.push(await world.create(LINE))
      let most = 0
      await world.settle(() => {
        const jobs = world.providers[0]?.jobs ?? []
        most = Math.max(most, jobs.length)
        return jobs.length >= 2
      })
      expect(most).toBe(2)
      expect((await world.process.store.counts()).runs).toMatchObject({ queued: 7, running: 2 })
      await world.settle()
      const over = await ended(world, runs)
      expect(over.map(run => run.status)).toEqual(Array(9).fill('succeeded'))
      const begun = over.map(run => run.steps[0]?.startedAt ?? 0)
      expect(begun).toEqual(begun.toSorted((a, b) => a - b))
    }))

  test('a run whose route is closed for now takes no place by it, nor one that took its first steps over', () => {
    const admission = new Admission(() => ({ maxRunning: 1, maxQueued: null }))
    const runs = [runOf(LINE), runOf(LINE), runOf(LINE)] as const
    for (const run of runs) admission.enter(run)
    expect(admission.begin(runs[0])).toBe(true)
    const error = stepError('provider_overloaded', 'not now')
    const [head, tail] = runs[1].steps as [Step, Step]
    const waiting: Step = { ...head, startedAt: T0, status: 'waiting', retryAt: T0, error }
    const done: Step = { ...head, completedAt: T0, inherited: true, status: 'succeeded', outputs: [] }
    admission.follow({ ...runs[1], status: 'running', steps: [waiting, tail] })
    admission.follow({ ...runs[2], status: 'running', steps: [done, tail] })
    expect([admission.begin(runs[1]), admission.begin(runs[2])]).toEqual([false, false])
    admission.follow({ ...runs[0], status: 'canceled' })
    expect([admission.begin(runs[1]), admission.begin(runs[2])]).toEqual([true, false])
  })

  test('a canceled run in the line does not hold up those behind it', () =>
    inWorld({ limits: { maxRunning: 1 } }, async world => {
      const [first, second, third] = [
        await world.create({ a: [] }),
        await world.create({ a: [] }),
        await world.create({ a: [] }),
      ]
      await world.settle(() => (world.providers[0]?.jobs.length ?? 0) === 1)
      await world.process.registry.cancel(second!.id)
      await world.settle()
      expect((await ended(world, [first!, second!, third!])).map(run => run.status)).toEqual([
        'succeeded',
        'canceled',
        'succeeded',
      ])
    }))

  test('the place that a run gives back is not kept for the steps of one that ended in the line', () => {
    const admission = new Admission(() => ({ maxRunning: 1, maxQueued: null }))
    const [first, gone, next] = [runOf(LINE), runOf(LINE), runOf(LINE)] as const
    const served: string[] = []
    for (const run of [first, gone, next]) admission.enter(run)
    admission.begin(first)
    for (const run of [gone, next]) admission.wait(run, run.id, () => served.push(run.id))
    admission.follow({ ...gone, status: 'canceled' })
    admission.follow({ ...first, status: 'canceled' })
    expect(served).toEqual([next.id])
  })

  /** A key with one place, which the first of its runs has. */
  const line = (count: number) => {
    const admission = new Admission(() => ({ maxRunning: 1, maxQueued: null }))
    const [first, ...others] = Array.from({ length: count }, () => runOf({ a: [], b: [] }))
    for (const run of [first as Run, ...others]) admission.enter(run)
    admission.begin(first as Run)
    return { admission, others, free: () => admission.follow({ ...(first as Run), status: 'canceled' }) }
  }

  test('a run that begins takes all its steps out of the line, whoever stands between them', () => {
    const { admission, others, free } = line(3)
    const [next, last] = others as [Run, Run]
    const begun: string[] = []
    for (const [run, stepId] of [
      [next, 'next a'],
      [last, 'last a'],
      [next, 'next b'],
    ] as const)
      admission.wait(run, stepId, () => {
        if (admission.begin(run)) begun.push(stepId)
      })
    free()
    expect(begun.toSorted()).toEqual(['next a', 'next b'])
  })

  test('who was called keeps its place until it has routed, and who cannot go there either is not asked in vain', () => {
    const { admission, others, free } = line(1_000)
    const called: number[] = []
    others.forEach((run, i) => {
      const cannotGo = (): void => {
        called.push(i)
        // The actor of the first is at work.
        if (i > 0) admission.answered(run, 'a')
      }
      admission.wait(run, 'a', cannotGo, i === 900 ? 'q' : 'p')
    })
    free()
    expect([[...called], admission.begin(others[500] as Run)]).toEqual([[0], false])
    admission.answered(others[0] as Run, 'a')
    expect([[...called], admission.begin(others[500] as Run)]).toEqual([[0, 1, 900], true])
  })

  test('a run whose providers are full makes way for one that could go elsewhere, and is served when they have room', () =>
    inWorld(
      {
        limits: { maxRunning: 1 },
        concurrency: provider => (provider === 'p' ? 1 : 8),
        prices: { q: 0.2 },
        providers: now => [
          new RemoteProvider('p', now, () => ({ type: 'work', ms: 600_000 })),
          new RemoteProvider('q', now, () => ({ type: 'work', ms: 10_000 })),
        ],
      },
      async world => {
        const atQ = { providerOrder: { a: ['q'] } }
        const first = await world.create({ a: [] }, atQ)
        const stuck = await world.create({ a: [] }, { maxCostUsd: 0.05 })
        const next = await world.create({ a: [] }, atQ)
        const other = await world.create({ a: [] }, { apiKeyId: 'other' })
        await world.settle()
        const runs = await ended(world, [first, stuck, next, other])
        const secondsOf = (run: Run) => Math.round(((run.steps[0]?.completedAt ?? 0) - run.createdAt) / 10_000) * 10
        expect(runs.map(secondsOf)).toEqual([10, 1200, 20, 600])
      },
    ))

  test('of those that can go to the same full provider nobody overtakes who asked before, however often they were called', () => {
    const script = (n: number): Behavior => ({ type: 'work', ms: n === 0 ? 10_000 : 100_000 })
    return inWorld(
      {
        limits: { maxRunning: 1 },
        concurrency: provider => (provider === 'p' ? 1 : 8),
        prices: { q: 0.2 },
        providers: now => [
          new RemoteProvider('p', now, () => ({ type: 'work', ms: 60_000 })),
          new RemoteProvider('q', now, script),
        ],
      },
      async world => {
        const atQ = { providerOrder: { a: ['q'] } }
        await world.create({ a: [] }, atQ)
        const stuck: Run[] = []
        for (let n = 0; n < 3; n += 1) stuck.push(await world.create({ a: [] }, { maxCostUsd: 0.05 }))
        const ahead = await world.create({ a: [] }, atQ)
        await world.create({ a: [] }, { apiKeyId: 'other' })
        await world.settle()
        const begun = (await ended(world, [ahead, ...stuck])).map(run => run.steps[0]?.startedAt ?? 0)
        expect(begun).toEqual(begun.toSorted((a, b) => a - b))
      },
    )
  })

  test('a limit that is raised calls as many as it makes room for, also when all of them can only stand in the line of one provider', () => {
    let maxRunning: number | null = 1
    const admission = new Admission(() => ({ maxRunning, maxQueued: null }))
    const [first, ...others] = Array.from({ length: 20 }, () => runOf({ a: [] })) as [Run, ...Run[]]
    for (const run of [first, ...others]) admission.enter(run)
    admission.begin(first)
    const called: number[] = []
    others.forEach((run, i) => {
      const isFull = (): void => {
        called.push(i)
        admission.answered(run, 'a')
      }
      admission.wait(run, 'a', isFull, 'p')
    })
    maxRunning = 5
    admission.look('key')
    expect(called).toEqual([0, 1, 2, 3])
    maxRunning = null
    admission.look('key')
    expect(called).toEqual([...others.keys()])
  })

  test('who leaves the line comes back to its turn, unless it was not created after all', () => {
    const { admission, others, free } = line(4)
    const [one, two, three] = others as [Run, Run, Run]
    const begun: number[] = []
    const wait = (run: Run) =>
      admission.wait(run, 'a', () => admission.begin(run) && begun.push(others.indexOf(run)), 'p')
    const leaves = others.map(wait)
    for (const leave of leaves) leave()
    admission.leave(one)
    admission.enter(one)
    for (const run of [three, one, two]) wait(run)
    free()
    for (const run of [two, three]) admission.follow({ ...run, status: 'canceled' })
    expect(begun).toEqual([1, 2, 0])
  })

  test('a full line refuses the next run and stores nothing of it; a place in it frees up', () =>
    inWorld({ limits: { maxRunning: 1, maxQueued: 3 } }, async world => {
      const first = await world.create({ a: [] })
      await world.settle(() => (world.providers[0]?.jobs.length ?? 0) === 1)
      const asked = await Promise.allSettled(Array.from({ length: 10 }, () => world.create({ a: [] })))
      expect(asked.filter(each => each.status === 'fulfilled')).toHaveLength(3)
      for (const each of asked) if (each.status === 'rejected') expect(each.reason).toBeInstanceOf(QueueFull)
      expect((await world.process.store.counts()).runs).toMatchObject({ queued: 3, running: 1 })
      await world.finish(first.id)
      expect((await world.finish((await world.create({ a: [] })).id)).status).toBe('succeeded')
    }))
})
