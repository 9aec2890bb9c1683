/** What the simulation found in the registry and in the places of providers, each as a small scene. */
import type { Database } from 'bun:sqlite'
import { expect, test } from 'bun:test'
import { stepError } from '../../src/core/errors.ts'
import { StorageUnavailable } from '../../src/core/ports.ts'
import { Capacity } from '../../src/engine/capacity.ts'
import { RemoteProvider } from '../support/remote-provider.ts'
import { LINE } from '../support/runs.ts'
import { to, way } from '../support/ways.ts'
import { World } from '../support/world.ts'

const HOUR = 3_600_000
const slow = stepError('provider_rate_limited', 'come back in an hour', { retryAfterMs: HOUR })

async function inWorld(world: World, scene: () => Promise<void>): Promise<void> {
  try {
    await world.start()
    await scene()
  } finally {
    await world.close()
  }
}

test('a run that waits so long that it has no actor can be canceled, and the caller is answered', async () => {
  const world = new World({
    providers: now => [new RemoteProvider('p', now, () => ({ type: 'refuse', error: slow }))],
  })
  await inWorld(world, async () => {
    const run = await world.create(LINE)
    await world.settle(() => world.process.registry.stats().actors === 0, HOUR / 2)
    expect(world.process.registry.stats().actors).toBe(0)
    const canceled = await Promise.race([world.process.registry.cancel(run.id), Bun.sleep(2_000).then(() => 'silence')])
    expect(canceled).toMatchObject({ status: 'canceled' })
  })
})

test('after a start nobody gets a place before the running jobs have taken theirs again', async () => {
  const world = new World({
    providers: now => [new RemoteProvider('p', now, () => ({ type: 'work', ms: HOUR }))],
    concurrency: () => 2,
  })
  await inWorld(world, async () => {
    for (let n = 0; n < 6; n += 1) await world.create({ a: [] })
    await world.settle(() => world.clock.now() % HOUR > 600_000, HOUR / 2)
    await world.restart()
    await world.settle(() => false, 60_000)
    expect(world.providers[0]?.jobs).toHaveLength(2)
  })
})

test('shut places keep whoever asks in line, and opening serves the line up to the limit', () => {
  const capacity = new Capacity({ concurrency: () => 2 })
  const served: string[] = []
  capacity.shut()
  for (const holder of ['s1', 's2', 's3']) {
    expect(capacity.hasPlace(way('p', 'm'), holder)).toBe(false)
    capacity.wait(['p', 'q'], to('m'), holder, provider => served.push(`${holder} at ${provider}`))
  }
  capacity.open()
  expect(served).toEqual(['s1 at p', 's2 at p', 's3 at q'])
  expect(capacity.held()).toEqual({ p: 2, q: 1 })
})

test('a sweep between the commit of a new run and its answer makes no second actor', async () => {
  const world = new World()
  await inWorld(world, async () => {
    const { store, registry } = world.process
    const { commit } = store
    const seen: string[] = []
    store.commit = async order => {
      seen.push(order.run.id)
      await commit.call(store, order)
    }
    const create = store.create
    store.create = async order => {
      const created = await create.call(store, order)
      await registry.rehydrate(Number.MAX_SAFE_INTEGER)
      return created
    }
    const run = await world.create({ a: [] })
    await world.finish(run.id)
    expect(world.faults).toEqual([])
    expect(world.providers[0]?.jobs).toHaveLength(1)
  })
})

test('a step whose intent and cancel are committed together is not submitted, and costs nothing', async () => {
  const world = new World()
  await inWorld(world, async () => {
    const { store, registry } = world.process
    const { commit } = store
    let asked: Promise<unknown> | null = null
    store.commit = async order => {
      if (asked !== null || order.run.steps[1]?.status !== 'submitting') return commit.call(store, order)
      asked = registry.cancel(order.run.id)
      throw new StorageUnavailable('the disk is full')
    }
    const run = await world.create({ a: [], b: ['a'] })
    const ended = await world.finish(run.id)
    await asked
    expect(ended.status).toBe('canceled')
    expect(world.providers[0]?.arrived).toMatchObject([{ stepId: `${run.id}/a` }])
    const [, step] = ended.steps
    expect(step).toMatchObject({ status: 'canceled', attempts: [{ outcome: 'canceled', cost: { actualUsd: 0 } }] })
  })
})

test('a run that is asked for all the time is not overdue, however old its time in the store is', async () => {
  const world = new World({ providers: now => [new RemoteProvider('p', now, () => ({ type: 'work', ms: HOUR }))] })
  await inWorld(world, async () => {
    await world.create({ a: [] })
    const late = world.clock.now() + HOUR / 2
    await world.settle(() => world.clock.now() > late, HOUR)
    const { store, registry } = world.process
    const { oldestDueAt } = await store.counts()
    expect(world.clock.now() - (oldestDueAt ?? Number.NaN)).toBeGreaterThan(HOUR / 4)
    await registry.rehydrate(world.clock.now())
    expect(registry.stats()).toMatchObject({ overdueAt: null, sweptAt: world.clock.now() })
  })
})

test('a run is overdue from the moment that storage refuses what has happened, until it takes it', async () => {
  const world = new World({ providers: now => [new RemoteProvider('p', now, () => ({ type: 'work', ms: 60_000 }))] })
  await inWorld(world, async () => {
    const { store, registry } = world.process
    const run = await world.create({ a: [] })
    await world.settle(() => world.providers[0]?.jobs.length === 1, 30_000)
    const { commit } = store
    let refusedAt: number | null = null
    store.commit = async () => {
      refusedAt ??= world.clock.now()
      throw new StorageUnavailable('the disk is full')
    }
    await world.settle(() => refusedAt !== null && world.clock.now() > refusedAt + HOUR / 4, HOUR)
    expect(registry.stats().overdueAt).toBe(refusedAt)
    store.commit = commit
    await world.finish(run.id)
    expect(registry.stats().overdueAt).toBeNull()
  })
})

test('a run that cannot be read keeps nobody else from going on, and is told of once', async () => {
  const world = new World({
    providers: now => [new RemoteProvider('p', now, () => ({ type: 'work', ms: 600_000 }))],
  })
  await world.start()
  const runs = [await world.create({ a: [] }), await world.create({ a: [] }), await world.create({ a: [] })]
  await world.settle(() => world.providers[0]?.jobs.length === 3)
  world.process.die()
  const { db } = world.process.store as unknown as { db: Database }
  db.run(`UPDATE steps SET state = '{}', status = 'succeeded' WHERE run_id = ?`, [runs[0]?.id ?? ''])
  await world.restart()
  await world.settle(() => false, 700_000)
  for (let i = 0; i < 3; i += 1) await world.process.registry.rehydrate(Number.MAX_SAFE_INTEGER)
  expect((await world.process.store.counts()).runs).toMatchObject({ succeeded: 2, running: 1 })
  expect(world.faults).toEqual([expect.stringContaining('rehydrate')])
  await world.close()
})
