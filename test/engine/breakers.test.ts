/** Who waits for a provider that fails, how long, and who tries it again: driven through the whole engine, and piece by piece. */
import { describe, expect, test } from 'bun:test'
import { stepError } from '../../src/core/errors.ts'
import { StorageUnavailable } from '../../src/core/ports.ts'
import { Capacity } from '../../src/engine/capacity.ts'
import { type Behavior, RemoteProvider } from '../support/remote-provider.ts'
import { to, way } from '../support/ways.ts'
import { World } from '../support/world.ts'

const busy = stepError('provider_overloaded', 'busy', { httpStatus: 503 })
const broke = stepError('provider_error', 'the job broke')
const gaveUp = stepError('provider_overloaded', 'the job was given up, demand is high')
const emptyHanded = stepError('provider_error', 'answered without a picture')
const MINUTE = 60_000

interface Submit {
  at: number
  stepId: string
}

/** A world of one provider that treats runs by their id; gives what was submitted, and when. */
async function inWorld(
  script: (runId: string, world: World) => Behavior,
  play: (world: World, submits: readonly Submit[]) => Promise<void>,
): Promise<void> {
  const submits: Submit[] = []
  const world: World = new World({
    concurrency: () => 8,
    providers: now => [
      new RemoteProvider('p', now, (_, { runId, stepId }) => {
        submits.push({ at: now(), stepId })
        return script(runId, world)
      }),
    ],
  })
  try {
    await world.start()
    await play(world, submits)
    expect(world.faults.filter(fault => !fault.startsWith('commit'))).toEqual([])
  } finally {
    await world.close()
  }
}

const create = (world: World, ids: readonly string[], apiKeyId: string) =>
  Promise.all(ids.map(id => world.create({ a: [] }, { id, apiKeyId, callback: null })))
const ids = (name: string, count: number): string[] => Array.from({ length: count }, (_, i) => `${name}${i}`)

/** How long each of these runs took, in seconds; null for one that has not succeeded. */
async function secondsOf(world: World, runs: readonly string[]): Promise<(number | null)[]> {
  const stored = await Promise.all(runs.map(id => world.process.store.run(id)))
  return stored.map(run => {
    const end = run?.status === 'succeeded' ? run.steps.at(-1)?.completedAt : null
    return run && end ? (end - run.createdAt) / 1_000 : null
  })
}

describe('runs whose jobs fail, or whose submits are refused', () => {
  const FAILURES: [string, Behavior][] = [
    ['a job that the provider took and could not do', { type: 'break', error: broke }],
    ['a job that the provider took and gave up', { type: 'break', error: gaveUp }],
    ['an answer without a job', { type: 'refuse', error: emptyHanded }],
    ['a refused submit', { type: 'refuse', error: busy }],
  ]
  for (const [name, failure] of FAILURES) {
    test(`keep no other key waiting: ${name}`, () =>
      inWorld(
        runId => (runId.startsWith('bad') ? failure : { type: 'work' }),
        async world => {
          await create(world, ids('bad', 8), 'A')
          await world.settle(() => false, 10_000)
          await create(world, ids('good', 3), 'B')
          await world.settle(() => false, 10_000)
          for (const seconds of await secondsOf(world, ids('good', 3))) expect(seconds).toBeLessThan(5)
        },
      ))
  }

  test('after they were taken keep nobody waiting, of the same key neither', () =>
    inWorld(
      runId => (runId.startsWith('bad') ? { type: 'break', error: gaveUp } : { type: 'work' }),
      async world => {
        await create(world, ids('bad', 8), 'A')
        await world.settle(() => false, 10_000)
        await create(world, ids('good', 3), 'A')
        await world.settle(() => false, 10_000)
        for (const seconds of await secondsOf(world, ids('good', 3))) expect(seconds).toBeLessThan(5)
      },
    ))

  test('before they were taken are not tried again before others of their key that have not failed', () =>
    inWorld(
      runId => (runId.startsWith('bad') ? { type: 'refuse', error: busy } : { type: 'work' }),
      async world => {
        await create(world, ids('bad', 8), 'A')
        await world.settle(() => false, 50_000)
        await create(world, ids('good', 3), 'A')
        await world.settle(() => false, 2 * MINUTE)
        // The third pause is of a minute, and some of it has passed.
        for (const seconds of await secondsOf(world, ids('good', 3))) expect(seconds).toBeLessThan(65)
      },
    ))
})

describe('a provider that is down', () => {
  test('is asked by one probe after each pause, however many wait', () =>
    inWorld(
      () => ({ type: 'refuse', error: busy }),
      async (world, submits) => {
        const from = world.clock.now()
        await create(world, ids('run', 20), 'A')
        await world.settle(() => false, 10 * MINUTE)
        const later = submits.map(({ at }) => at - from).filter(ms => ms >= 15_000)
        // At 15 s, then 30, 60, 120 and 240 s later, each with the moment in which all come to stand in line.
        expect(later.length).toBe(5)
        for (const [i, ms] of later.entries())
          if (i > 0) expect(ms - (later[i - 1] ?? 0)).toBeGreaterThanOrEqual(15_000 * 2 ** i)
      },
    ))

  test('for want of credit is left alone by all keys: each would lose a run by it', () => {
    let isPaid = false
    const unpaid = stepError('insufficient_credit', 'no credit', { httpStatus: 402 })
    return inWorld(
      () => (isPaid ? { type: 'work' } : { type: 'refuse', error: unpaid }),
      async (world, submits) => {
        for (const [i, id] of ids('run', 10).entries()) {
          await create(world, [id], `key${i}`)
          await world.settle(() => false, 1_000)
        }
        expect(submits).toHaveLength(1)
        isPaid = true
        await world.settle(() => false, 5 * MINUTE)
        const seconds = await secondsOf(world, ids('run', 10))
        expect(seconds.map(each => each !== null)).toEqual([false, ...Array<boolean>(9).fill(true)])
      },
    )
  })

  test('and loses the answer to its probe is probed again after a pause, by another', () => {
    let asked = 0
    return inWorld(
      (_, world) => {
        for (const each of world.providers) if (each instanceof RemoteProvider) each.canFind = false
        asked += 1
        if (asked <= 8) return { type: 'refuse', error: busy }
        return asked === 9 ? { type: 'drop' } : { type: 'work' }
      },
      async world => {
        await create(world, ids('run', 8), 'A')
        await world.settle(() => false, 5 * MINUTE)
        const seconds = await secondsOf(world, ids('run', 8))
        expect(seconds.filter(each => each === null)).toHaveLength(1)
        for (const each of seconds) expect(each ?? 0).toBeLessThan(65)
      },
    )
  })

  test('and is up again serves all who waited, at the next probe', () => {
    let isDown = true
    return inWorld(
      () => (isDown ? { type: 'refuse', error: busy } : { type: 'work' }),
      async world => {
        await create(world, ids('run', 20), 'A')
        await world.settle(() => false, 10_000)
        isDown = false
        await world.settle(() => false, 20_000)
        for (const seconds of await secondsOf(world, ids('run', 20))) expect(seconds).toBeLessThan(30)
        expect(world.process.registry.stats().breakers).toEqual({})
      },
    )
  })

  test('is named to those who wait', () =>
    inWorld(
      () => ({ type: 'refuse', error: busy }),
      async world => {
        await create(world, ids('run', 8), 'A')
        await world.settle(() => false, 1_000)
        await create(world, ['late'], 'A')
        await world.settle(() => true)
        const step = (await world.process.registry.run('late'))?.steps[0]
        const message = 'no provider takes this model now: p is left alone for a while after failures'
        expect(step).toMatchObject({ status: 'waiting', attempts: [], error: { code: 'provider_overloaded', message } })
      },
    ))

  test('has failed once for each attempt, however often its end is written down in vain', () =>
    inWorld(
      () => ({ type: 'refuse', error: busy }),
      async world => {
        const { store, registry } = world.process
        const { commit } = store
        let refusals = 0
        await create(world, ['run'], 'A')
        store.commit = async () => {
          refusals += 1
          throw new StorageUnavailable('the disk is full')
        }
        await world.settle(() => refusals >= 8, MINUTE)
        expect(registry.stats().breakers).toEqual({})
        store.commit = commit
      },
    ))
})

describe('a breaker', () => {
  function broken(holders: readonly string[] = ['s1', 's2', 's3', 's4', 's5']): Capacity {
    const capacity = new Capacity({ concurrency: () => 8 })
    for (const holder of holders) capacity.learn(way('p', 'm'), holder, busy, 0)
    return capacity
  }

  test('is of the key whose attempts failed, and a job that the provider takes from anybody closes it', () => {
    const capacity = broken()
    expect([capacity.closedUntil(way('p', 'm'), 1), capacity.closedUntil(way('p', 'm', 'other'), 1)]).toEqual([
      15_000,
      null,
    ])
    expect([capacity.breakers(1, 'key'), capacity.breakers(1, 'other')]).toEqual([{ 'p/m': 'open' }, {}])
    capacity.took(way('p', 'm', 'other'))
    expect(capacity.closedUntil(way('p', 'm'), 1)).toBeNull()
  })

  test('lets nobody in line through before its line is resumed, and then one who has not failed there', () => {
    const capacity = broken()
    const served: string[] = []
    expect(capacity.hasPlace(way('p', 'm'), 's1')).toBe(false)
    for (const holder of ['s1', 's2', 'fresh', 's3']) capacity.wait(['p'], to('m'), holder, () => served.push(holder))
    capacity.wait(['p'], to('m', 'other'), 'theirs', () => served.push('theirs'))
    capacity.enter(way('p', 'x'), 'running')
    capacity.leave(way('p', 'x'), 'running')
    expect(served).toEqual(['theirs'])
    capacity.resume(way('p', 'm'), 14_999)
    expect(served).toEqual(['theirs'])
    capacity.resume(way('p', 'm'), 16_000)
    expect(served).toEqual(['theirs', 'fresh'])
    expect(capacity.learn(way('p', 'm'), 'fresh', busy, 17_000)).toBe(49_000)
    capacity.leave(way('p', 'm'), 'fresh')
    expect(served).toEqual(['theirs', 'fresh'])
    capacity.resume(way('p', 'm'), 49_000)
    expect(served).toEqual(['theirs', 'fresh', 's1'])
  })

  test('stays as it is when a probe ends in a way that tells nothing of the provider', () => {
    const capacity = broken()
    capacity.enterToSubmit(way('p', 'm'), 'probe')
    capacity.learn(way('p', 'm'), 'probe', stepError('canceled', 'canceled before it was submitted'), 16_000)
    capacity.leave(way('p', 'm'), 'probe')
    expect(capacity.breakers(16_000)).toEqual({ 'p/m': 'half_open' })
    capacity.learn(way('p', 'm'), 'probe', stepError('content_rejected', 'no'), 16_000)
    expect(capacity.breakers(16_000)).toEqual({})
  })

  test('counts an answer that is an error, and not one that holds no job', () => {
    const failed = stepError('provider_error', 'broke', { httpStatus: 500 })
    const opens = (error: typeof failed): boolean => {
      const capacity = new Capacity({ concurrency: () => 8 })
      for (let i = 0; i < 5; i += 1) capacity.learn(way('p', 'm'), `s${i}`, error, 0)
      return capacity.closedUntil(way('p', 'm'), 0) !== null
    }
    expect([failed, stepError('network_error', 'gone'), busy, emptyHanded].map(opens)).toEqual([
      true,
      true,
      true,
      false,
    ])
  })
})
