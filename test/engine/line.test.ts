/** The line for a provider's places: who is served when, through refusals, probes, cancels and thousands of waiters. */
import { describe, expect, test } from 'bun:test'
import { stepError } from '../../src/core/errors.ts'
import { Draining, RevisionConflict, StorageUnavailable } from '../../src/core/ports.ts'
import { Capacity } from '../../src/engine/capacity.ts'
import { inWorld } from '../support/in-world.ts'
import { type Behavior, RemoteProvider } from '../support/remote-provider.ts'
import { to, way } from '../support/ways.ts'
import { World, type WorldOptions } from '../support/world.ts'

const busy = stepError('provider_overloaded', 'x')
const limited = stepError('provider_rate_limited', 'slow')
const MINUTE = 60_000

async function atOne(
  options: WorldOptions & { script?: (n: number, world: World) => Behavior },
  play: (world: World, remote: () => RemoteProvider) => Promise<void>,
): Promise<void> {
  const { script = (): Behavior => ({ type: 'work', ms: MINUTE }), ...rest } = options
  let remote: RemoteProvider
  let here: World
  const providers = (now: () => number): RemoteProvider[] => {
    remote = new RemoteProvider('p', now, n => script(n, here))
    return [remote]
  }
  await inWorld({ ...rest, providers }, world => {
    here = world
    return play(world, () => remote)
  })
}

/** A provider that is down: its breaker is open until 15 s. */
function broken(concurrency = 8): Capacity {
  const capacity = new Capacity({ concurrency: () => concurrency })
  for (let i = 0; i < 5; i += 1) capacity.learn(way('p', 'm'), 'other', busy, 0)
  return capacity
}

describe('when a probe went well', () => {
  test('the line is served up to the limit again, for a provider that answers in the submit too', () => {
    const capacity = broken()
    let running = ['s0']
    capacity.enterToSubmit(way('p', 'm'), 's0')
    for (let i = 1; i <= 40; i += 1) capacity.wait(['p'], to('m'), `s${i}`, () => running.push(`s${i}`))
    const rounds: number[] = []
    while (running.length > 0) {
      rounds.push(running.length)
      const over = running
      running = []
      for (const holder of over) {
        capacity.learn(way('p', 'm'), 'other', null, 20_000)
        capacity.leave(way('p', 'm'), holder)
      }
    }
    expect(rounds).toEqual([1, 8, 8, 8, 8, 8])
  })

  test('a line that waits for a probe of one model does not hold up another', () => {
    const capacity = broken()
    capacity.enterToSubmit(way('p', 'm'), 'probe')
    capacity.wait(['p'], to('m'), 'next', () => {})
    expect(capacity.hasPlace(way('p', 'm'), 'late')).toBe(false)
    expect(capacity.hasPlace(way('p', 'other'), 'picture')).toBe(true)
  })
})

describe('a probe', () => {
  test('is not over because another job of the model ends', () => {
    const capacity = new Capacity({ concurrency: () => 8 })
    capacity.enter(way('p', 'm'), 'old')
    for (let i = 0; i < 5; i += 1) capacity.learn(way('p', 'm'), 'other', busy, 0)
    capacity.enterToSubmit(way('p', 'm'), 'probe')
    capacity.leave(way('p', 'm'), 'old')
    expect(capacity.hasPlace(way('p', 'm'), 'second')).toBe(false)
    capacity.leave(way('p', 'm'), 'probe')
    expect(capacity.hasPlace(way('p', 'm'), 'second')).toBe(true)
  })

  test('is not a job that runs and is taken up again', () => {
    const capacity = broken()
    capacity.enter(way('p', 'm'), 'long')
    expect(capacity.hasPlace(way('p', 'm'), 'probe')).toBe(true)
  })

  test('goes to one in line at a time, in the order of asking', () => {
    const capacity = broken(1)
    const served: string[] = []
    capacity.enter(way('p', 'm'), 'running')
    for (const holder of ['a', 'b']) capacity.wait(['p'], to('m'), holder, () => served.push(holder))
    capacity.leave(way('p', 'm'), 'running')
    expect(served).toEqual([])
    capacity.resume(way('p', 'm'), 15_000)
    expect(served).toEqual(['a'])
    capacity.leave(way('p', 'm'), 'a')
    expect(served).toEqual(['a', 'b'])
  })
})

describe('a model that is refused for its rate', () => {
  test('has as many places as it then had jobs, and one more for every round that goes well', () => {
    const capacity = new Capacity({ concurrency: () => 6 })
    for (const holder of ['a', 'b', 'c']) capacity.enterToSubmit(way('p', 'm'), holder)
    capacity.refused(way('p', 'm'), limited, 0)
    capacity.leave(way('p', 'm'), 'c')
    expect(capacity.hasPlace(way('p', 'm'), 'd')).toBe(false)
    expect(capacity.hasPlace(way('p', 'other'), 'd')).toBe(true)
    capacity.learn(way('p', 'm'), 'other', null, 1)
    expect(capacity.hasPlace(way('p', 'm'), 'd')).toBe(false)
    capacity.learn(way('p', 'm'), 'other', null, 2)
    capacity.learn(way('p', 'm'), 'other', null, 3)
    expect(capacity.hasPlace(way('p', 'm'), 'd')).toBe(true)
  })

  test('keeps one place whatever happens, and a longer pause is not ended by a shorter one', () => {
    const capacity = new Capacity({ concurrency: () => 6 })
    for (let i = 0; i < 9; i += 1) capacity.refused(way('p', 'm'), limited, 0)
    expect(capacity.hasPlace(way('p', 'm'), 'a')).toBe(true)
    capacity.learn(way('p', 'm'), 'other', stepError('provider_rate_limited', 'x', { retryAfterMs: 60_000 }), 0)
    capacity.learn(way('p', 'm'), 'other', stepError('provider_rate_limited', 'x', { retryAfterMs: 1_000 }), 10)
    expect(capacity.closedUntil(way('p', 'm'), 20)).toBe(60_000)
  })

  test('is asked about as often as it has room: thirty runs for one place all succeed, with few refusals', () => {
    let refusals = 0
    const script = (_: number, world: World): Behavior => {
      const remote = (world as unknown as { remote: RemoteProvider }).remote
      const running = remote.jobs.filter(job => job.readyAt > world.clock.now()).length
      if (running === 0) return { type: 'work', ms: 10_000 }
      refusals += 1
      return { type: 'refuse', error: limited }
    }
    return atOne({ concurrency: () => 24, script }, async (world, remote) => {
      Object.assign(world, { remote: remote() })
      for (let i = 0; i < 30; i += 1) await world.create({ a: [] }, { callback: null })
      await world.settle()
      expect((await world.process.store.counts()).runs).toMatchObject({ succeeded: 30 })
      // 23 at the start, and a few when one more is tried for.
      expect(refusals).toBeLessThan(90)
    })
  })
})

describe('what a refusal for the rate taught', () => {
  /** Runs a burst and gives the seconds of virtual time that it took. */
  const burst = async (world: World, jobs: number): Promise<number> => {
    const from = world.clock.now()
    await Promise.all(Array.from({ length: jobs }, () => world.create({ a: [] }, { callback: null })))
    await world.settle(() => world.process.registry.stats().actors === 0)
    return (world.clock.now() - from) / 1_000
  }

  test('lapses: a burst a day after one refusal is as quick as any', () => {
    const script = (n: number): Behavior =>
      n === 0 ? { type: 'refuse', error: limited } : { type: 'work', ms: MINUTE }
    return atOne({ concurrency: () => 32, script }, async world => {
      await burst(world, 1)
      world.clock.advance(24 * 60 * MINUTE)
      expect(await burst(world, 64)).toBeLessThan(150)
    })
  })

  test.each([
    ['that name no time', {}],
    ['that name one', { retryAfterMs: 10_000 }],
  ])('lapses beside a film of an hour too: some minutes after refusals %s nobody waits for its end', (_, pause) => {
    const slow = stepError('provider_rate_limited', 'slow', pause)
    const FIRST: Behavior[] = [
      { type: 'work', ms: 60 * MINUTE },
      { type: 'work', ms: 2 * MINUTE },
      { type: 'refuse', error: slow },
      { type: 'refuse', error: slow },
    ]
    const script = (n: number): Behavior => FIRST[n] ?? { type: 'work', ms: 1_000 }
    return atOne({ concurrency: () => 32, script }, async (world, remote) => {
      for (let i = 0; i < 6; i += 1) {
        await world.create({ a: [] })
        await world.settle(() => i < 3 && remote().arrived.length > i, 1_000)
      }
      const sweep = async (minutes: number): Promise<void> => {
        for (let minute = 0; minute < minutes; minute += 1) {
          await world.settle(() => false, MINUTE)
          await world.process.registry.rehydrate(world.clock.now())
        }
      }
      // The second refusal is at two minutes: what it taught does not lapse with the first one.
      await sweep(6)
      expect(remote().arrived).toHaveLength(4)
      await sweep(2)
      expect((await world.process.store.counts()).runs).toMatchObject({ running: 1, succeeded: 5 })
    })
  })

  test('halts the line: twenty submits a minute are found out with few refusals', () => {
    const sent: number[] = []
    let refusals = 0
    const script = (_: number, { clock }: World): Behavior => {
      if (sent.filter(at => at > clock.now() - MINUTE).length < 20) {
        sent.push(clock.now())
        return { type: 'work', ms: 5_000 }
      }
      refusals += 1
      return { type: 'refuse', error: limited }
    }
    return atOne({ concurrency: () => 32, script }, async world => {
      expect(await burst(world, 128)).toBeLessThan(480)
      expect(refusals).toBeLessThan(150)
    })
  })

  test('halts it for twice as long each time, until a job goes well, and other models not at all', () => {
    const capacity = new Capacity({ concurrency: () => 6 })
    const served: string[] = []
    capacity.enterToSubmit(way('p', 'm'), 'a')
    expect(capacity.refused(way('p', 'm'), limited, 0)).toBe(1_000)
    expect(capacity.refused(way('p', 'm'), limited, 999)).toBeNull()
    capacity.wait(['p'], to('m'), 'b', () => served.push('b'))
    capacity.leave(way('p', 'm'), 'a')
    expect([capacity.closedUntil(way('p', 'm'), 999), capacity.closedUntil(way('p', 'other'), 999)]).toEqual([
      1_000,
      null,
    ])
    expect([capacity.hasPlace(way('p', 'm'), 'late'), capacity.hasPlace(way('p', 'other'), 'c')]).toEqual([false, true])
    capacity.resume(way('p', 'm'), 999)
    expect(served).toEqual([])
    capacity.resume(way('p', 'm'), 1_000)
    expect(served).toEqual(['b'])
    let at = 1_000
    for (const ms of [2_000, 4_000, 8_000, 16_000, 32_000, 60_000, 60_000]) {
      expect(capacity.refused(way('p', 'm'), limited, at)).toBe(at + ms)
      at += ms
    }
    capacity.learn(way('p', 'm'), 'other', null, at)
    expect(capacity.refused(way('p', 'm'), limited, at)).toBe(at + 1_000)
  })
})

test('of several lines of a provider the oldest that has room is served', () => {
  const capacity = new Capacity({ concurrency: () => 2 })
  const served: string[] = []
  for (const holder of ['x', 'y']) capacity.enter(way('p', 'full'), holder)
  capacity.refused(way('p', 'full'), stepError('provider_rate_limited', 'slow', { retryAfterMs: 1 }), 0)
  capacity.resume(way('p', 'full'), 1)
  const call = (): void => void served.push('full')
  for (let i = 0; i < 1_000; i += 1) capacity.wait(['p'], to('full'), `f${i}`, call)
  for (const [model, holder] of [
    ['m', 'm1'],
    ['n', 'n1'],
    ['m', 'm2'],
  ] as const)
    capacity.wait(['p'], to(model), holder, () => served.push(holder))
  expect(capacity.waiting).toBe(1_003)
  capacity.leave(way('p', 'full'), 'y')
  for (const [model, holder] of [
    ['m', 'm1'],
    ['n', 'n1'],
  ] as const)
    capacity.leave(way('p', model), holder)
  expect(served).toEqual(['m1', 'n1', 'm2'])
})

test('a step that is tried again keeps its turn: who came later does not go first', async () => {
  const order: string[] = []
  let isRefused = false
  const providers = (now: () => number) => [
    new RemoteProvider('p', now, (_, job) => {
      if (job.stepId.startsWith('V/') && !isRefused) {
        isRefused = true
        return { type: 'refuse', error: busy }
      }
      order.push(job.stepId)
      return { type: 'work', ms: MINUTE }
    }),
  ]
  const world = new World({ concurrency: () => 1, providers })
  await world.start()
  await world.create({ a: [] }, { id: 'V' })
  await world.settle(() => isRefused)
  for (let i = 0; i < 6; i += 1) await world.create({ a: [] })
  for (let minute = 0; minute < 12; minute += 1) {
    await world.settle(() => false, MINUTE)
    await world.create({ a: [] })
  }
  await world.close()
  expect(order.slice(0, 8)).toContain('V/a')
})

test('thousands in line stand still while the way is closed, and no place is lost by it', () => {
  let n = 0
  const pause = stepError('provider_rate_limited', 'slow', { retryAfterMs: 30_000 })
  const script = (): Behavior => {
    n += 1
    if (n === 2) return { type: 'refuse', error: pause }
    return { type: 'work', ms: n === 1 ? MINUTE : 10 }
  }
  return atOne({ concurrency: () => 1, script }, async world => {
    const runs = await Promise.all(
      Array.from({ length: 6_000 }, () => world.create({ a: [] }, { callback: null, maxCostUsd: null })),
    )
    await world.settle(() => n >= 2, 2 * MINUTE)
    await world.settle(() => false, 5_000)
    await Promise.all(runs.map(({ id }) => world.process.registry.cancel(id)))
    await world.settle(() => false, 10 * MINUTE)
    expect(world.process.registry.stats()).toMatchObject({ actors: 0, waiting: 0, inFlight: { p: 0 } })
  })
}, 60_000)

test('thousands in line that are served and cannot go give the place on, each in its turn', () => {
  const capacity = new Capacity({ concurrency: () => 1 })
  let served = 0
  capacity.enter(way('p', 'm'), 'x')
  for (let i = 0; i < 20_000; i += 1)
    capacity.wait(['p'], to('m'), `s${i}`, () => {
      expect(served).toBe(i)
      served += 1
      capacity.leave(way('p', 'm'), `s${i}`)
    })
  capacity.leave(way('p', 'm'), 'x')
  expect([served, capacity.held()]).toEqual([20_000, { p: 0 }])
})

test('a pause of five seconds takes no time from those who came in it: all of a burst succeed, however long its line', () => {
  const pause = stepError('provider_rate_limited', 'slow', { retryAfterMs: 5_000 })
  const script = (n: number): Behavior =>
    n === 1 ? { type: 'refuse', error: pause } : { type: 'work', ms: 20 * MINUTE }
  return atOne({ concurrency: () => 2, script }, async (world, remote) => {
    for (let i = 0; i < 2; i += 1) await world.create({ a: [] })
    await world.settle(() => remote().arrived.length === 2)
    for (let i = 0; i < 10; i += 1) await world.create({ a: [] })
    await world.settle()
    expect((await world.process.store.counts()).runs).toMatchObject({ succeeded: 12 })
  })
})

describe('a run that ends while it stands in line', () => {
  const half = (world: World) => Promise.all(Array.from({ length: 20 }, () => world.create({ a: [] })))
  test('of its provider has no actor any more, and is not counted among those who wait', () =>
    atOne({ concurrency: () => 1 }, async world => {
      const runs = await half(world)
      for (const { id } of runs.slice(1)) await world.process.registry.cancel(id)
      await world.settle(() => false, 1_000)
      expect(world.process.registry.stats()).toMatchObject({ actors: 1, waiting: 0 })
    }))

  test('of its key neither', () =>
    atOne({ limits: { maxRunning: 1 } }, async world => {
      const runs = await half(world)
      for (const { id } of runs.slice(1)) await world.process.registry.cancel(id)
      await world.settle()
      expect(world.process.registry.stats()).toMatchObject({ actors: 0, waiting: 0 })
    }))
})

describe('an actor that is lost', () => {
  test('gives its places back to others, and not to its own step in line', () =>
    atOne({ concurrency: () => 1 }, async world => {
      const { store, registry } = world.process
      const run = await world.create({ a: [], b: [] })
      await world.settle(() => world.providers[0]?.jobs.length === 1, 1_000)
      const { commit } = store
      let commits = 0
      store.commit = async () => {
        commits += 1
        throw commits === 1 ? new RevisionConflict(run.id) : new StorageUnavailable('the disk is full')
      }
      expect(registry.cancel(run.id)).rejects.toThrow(Draining)
      await world.settle(() => commits > 0)
      await world.settle(() => true)
      expect([commits, registry.stats().inFlight, world.faults.splice(0).length]).toEqual([1, { p: 0 }, 1])
      store.commit = commit
      expect((await world.finish(run.id)).status).toBe('succeeded')
      expect(registry.stats().inFlight).toEqual({ p: 0 })
    }))

  test('that was not created after all begins nothing either', () =>
    atOne({ concurrency: () => 1 }, async world => {
      const { store, registry } = world.process
      let writes = 0
      const failing = async (): Promise<never> => {
        writes += 1
        throw new StorageUnavailable('the disk is full')
      }
      Object.assign(store, { create: failing, commit: failing })
      expect(world.create({ a: [], b: [] })).rejects.toThrow('the disk is full')
      await world.settle(() => writes > 0)
      await world.settle(() => true)
      expect([writes, registry.stats().inFlight, registry.stats().waiting]).toEqual([1, { p: 0 }, 0])
    }))
})
