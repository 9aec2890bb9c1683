/** Storage that refuses writes: a run keeps what happened and tries again, ever more rarely, and at once when somebody waits. */
import { afterEach, expect, test } from 'bun:test'
import { stepError } from '../../src/core/errors.ts'
import { StorageUnavailable } from '../../src/core/ports.ts'
import { type Behavior, RemoteProvider } from '../support/remote-provider.ts'
import { World } from '../support/world.ts'

let world: World | null = null
afterEach(async () => {
  await world?.close()
  world = null
})

/** A world whose one run meets a full disk; gives the times of its writes, and a way to heal the disk. */
async function refusing() {
  const w = new World()
  world = w
  await w.start()
  const { id } = await w.create({ a: [] })
  const { store } = w.process
  const { commit } = store
  const times: number[] = []
  store.commit = async () => {
    times.push(w.clock.now())
    throw new StorageUnavailable('the disk is full')
  }
  const heal = (): void => {
    store.commit = commit
  }
  return { w, id, times, heal }
}

test('a write that storage refuses is tried soon, then ever more rarely, at the latest after fifteen seconds', async () => {
  const { w, id, times, heal } = await refusing()
  await w.settle(() => times.length >= 12)
  const pauses = times.slice(1).map((time, i) => time - (times[i] ?? 0))
  const longest = [500, 1_000, 2_000, 4_000, 8_000, ...Array(6).fill(15_000)]
  for (const [i, ms] of longest.entries()) expect(pauses[i]).toBeWithin(ms / 2, ms + 1)
  // Three hundred runs must not come back in the same moment.
  expect(new Set(pauses.slice(5)).size).toBeGreaterThan(1)
  heal()
  expect((await w.finish(id)).status).toBe('succeeded')
})

test('a caller who waits is not held up by the pause', async () => {
  const { w, id, times, heal } = await refusing()
  await w.settle(() => times.length >= 8)
  const at = w.clock.now()
  await expect(w.process.registry.cancel(id)).rejects.toThrow('the disk is full')
  heal()
  expect((await w.process.registry.cancel(id))?.cancelRequestedAt).toBe(at)
  expect(w.clock.now()).toBe(at)
})

test('a rate limit whose commit fails once is held against who named it, and not against the next provider', async () => {
  const slow = stepError('provider_rate_limited', 'slow', { retryAfterMs: 3_600_000 })
  const w = new World({
    providers: now => [
      new RemoteProvider('p', now, () => ({ type: 'refuse', error: slow })),
      new RemoteProvider('q', now),
    ],
  })
  world = w
  await w.start()
  const { store } = w.process
  const { commit } = store
  let failed = 0
  store.commit = async what => {
    if (failed > 0 || what.run.steps[0]?.attempts.length !== 1) return commit.call(store, what)
    failed += 1
    throw new StorageUnavailable('the disk is busy')
  }
  const first = await w.create({ a: [] })
  await w.settle(() => w.providers[1]?.jobs.length === 1)
  expect(failed).toBe(1)
  const second = await w.create({ a: [] })
  for (const { id } of [first, second]) {
    const run = await w.finish(id)
    expect((run.steps[0]?.completedAt ?? 0) - run.createdAt).toBeLessThan(10_000)
  }
})

test('a caller who asks while a write is under way that then fails is not held up by the pause either', async () => {
  const { w, id, times } = await refusing()
  await w.settle(() => times.length >= 8)
  const { store, registry } = w.process
  const refused = store.commit
  const answers: string[] = []
  store.commit = async what => {
    store.commit = refused
    registry.cancel(id).catch(error => answers.push(error.message))
    // It has been heard by then.
    await new Promise(resolve => setImmediate(resolve))
    return refused(what)
  }
  await w.settle(() => store.commit === refused)
  const at = w.clock.now()
  await w.settle(() => true)
  expect(answers).toEqual(['the disk is full'])
  expect(w.clock.now()).toBe(at)
})

test('a late result whose commit fails once ends its step all the same, and the place that the next step took is used', async () => {
  const busy = stepError('provider_overloaded', 'busy', { retryAfterMs: 6 * 3_600_000 })
  const script = (n: number): Behavior =>
    n === 0 ? { type: 'swallow' } : n === 1 ? { type: 'refuse', error: busy } : { type: 'work' }
  const w = new World({ concurrency: () => 1, providers: now => [new RemoteProvider('p', now, script)] })
  world = w
  await w.start()
  const [p] = w.providers
  const { store, registry } = w.process
  if (p) p.find = async () => ({ type: 'none' })
  // It is thought unsent, sent again, and refused for six hours.
  const run = await w.create({ a: [], b: ['a'] })
  await w.settle(() => p?.arrived.length === 2)
  w.clock.advance(5_000)
  expect((await registry.run(run.id))?.steps.map(step => step.status)).toEqual(['waiting', 'queued'])
  const { commit } = store
  store.commit = async () => {
    store.commit = commit
    throw new StorageUnavailable('the disk is busy')
  }
  const token = p?.jobs[0]?.token ?? ''
  await expect(registry.hint(token, { job: token })).rejects.toThrow('the disk is busy')
  const other = await w.create({ a: [] })
  for (const { id, createdAt } of [run, other]) {
    const { status, updatedAt } = await w.finish(id)
    expect([status, updatedAt - createdAt < 3_600_000]).toEqual(['succeeded', true])
  }
})
