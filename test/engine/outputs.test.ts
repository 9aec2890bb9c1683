/** Outputs that are paid and in hand while our own storage takes nothing. */
import { expect, test } from 'bun:test'
import type { Json } from '../../src/core/json.ts'
import { fork } from '../../src/core/machine.ts'
import type { Checked, Started, StartJob } from '../../src/core/ports.ts'
import type { ProviderMedia } from '../../src/core/run.ts'
import { RemoteProvider } from '../support/remote-provider.ts'
import { World } from '../support/world.ts'

const DAY = 86_400_000

/** Goes on while a call of a provider is open, which `settle` would wait for. */
async function pass(world: World, done: () => boolean): Promise<void> {
  await world.pass(DAY, done)
  if (!done()) throw new Error('it does not come')
}

/** Answers a submit with the bytes of so many pictures, and cannot be asked about it later. */
class Synchronous extends RemoteProvider {
  override canFind = false
  answers = 0
  pictures = 1

  override async start(job: StartJob): Promise<Started> {
    await job.sending()
    this.answers += 1
    const media: ProviderMedia[] = []
    for (let n = 1; n <= this.pictures; n += 1) media.push({ url: await job.stash(new Uint8Array([n])) })
    return { type: 'succeeded', media, costUsd: 0.01 }
  }
}

function synchronous(more: Partial<Synchronous> = {}): { world: World; provider: Synchronous } {
  const world = new World({ providers: now => [Object.assign(new Synchronous('p', now), more)] })
  return { world, provider: world.providers[0] as Synchronous }
}

test('the picture of an answer that comes once is held until it can be written down, and is not paid again', async () => {
  const { world, provider } = synchronous()
  await world.start()
  world.isFull = true
  const { id } = await world.create({ a: [] })
  const began = world.clock.now()
  await pass(world, () => world.clock.now() - began >= 60_000)
  expect(world.stashed.size).toBe(0)
  world.isFull = false
  await pass(world, () => world.kept.size === 1)
  expect(await world.finish(id)).toMatchObject({ status: 'succeeded' })
  expect(provider.answers).toBe(1)
  expect(new Set(world.faults.map(each => each.split(':')[0]))).toEqual(new Set(['stash']))
  expect(world.scopes[0]).toEqual({ where: 'stash', runId: id, stepId: `${id}/a`, attempt: 1, provider: 'p' })
  await world.close()
})

/** Plays a run whose process dies at a port call, and a restart; gives the call, the step, and how often it was paid. */
async function dyingAt(call: number) {
  const { world, provider } = synchronous({ pictures: 3 })
  try {
    await world.start()
    world.calls = []
    world.crash = { call, when: 'after' }
    const { id } = await world.create({ a: [] })
    await world.settle()
    const died = world.isDead
    if (died) await world.restart()
    const [step] = (await world.finish(id)).steps
    return { died, at: world.calls[call - 1], step, answers: provider.answers }
  } finally {
    await world.close()
  }
}

test('the pictures of an answer outlive a death before its commit: those that lie here are kept, and paid once', async () => {
  const found: [string | undefined, number][] = []
  for (let call = 1; ; call += 1) {
    const { died, at, step, answers } = await dyingAt(call)
    expect(answers).toBeLessThanOrEqual(1)
    if (!died) break
    found.push([at, step?.status === 'succeeded' ? step.outputs.length : 0])
  }
  // Only a death between the note and the first picture leaves nothing that could be found.
  expect(found.filter(([, outputs]) => outputs !== 3)).toEqual([
    ['store.noteSubmit', 0],
    ['media.stash', 1],
    ['media.stash', 2],
  ])
})

/** A run whose process died with all pictures of an answer on disk, before anybody heard of them. */
async function deadWithPictures(more: Partial<Synchronous> = {}) {
  const { world, provider } = synchronous({ pictures: 2, ...more })
  const { start } = provider
  provider.start = async job => {
    provider.start = start
    await start.call(provider, job)
    world.process.die()
    return new Promise(() => {})
  }
  await world.start()
  const { id } = await world.create({ a: [] })
  await world.settle()
  expect([world.isDead, world.stashed.size]).toEqual([true, 2])
  return { world, provider, id }
}

test('a provider that can be asked is not asked about what lies here, and it costs the listed price', async () => {
  const { world, provider, id } = await deadWithPictures({ canFind: true })
  await world.restart()
  const { status, steps } = await world.finish(id)
  const [attempt] = steps[0]?.attempts ?? []
  expect([status, steps[0]?.attempts.length, provider.answers]).toEqual(['succeeded', 1, 1])
  expect(attempt?.cost).toMatchObject({ actualUsd: null, basis: 'listed', estimatedUsd: 0.05 })
  expect(world.calls).not.toContain('p.find')
  await world.close()
})

test.each<[string, (world: World) => void]>([
  [
    'does not say what lies on it',
    world => {
      world.isFull = true
    },
  ],
  [
    'hangs',
    world => {
      world.hanging = new Promise(() => {})
    },
  ],
])('while a disk %s, the provider is asked for a job, which a cancel stops', async (_, ill) => {
  const world = new World({ providers: now => [new RemoteProvider('p', now, () => ({ type: 'swallow' }))] })
  const provider = world.providers[0] as RemoteProvider
  await world.start()
  const run = await world.create({ a: [] })
  await world.settle(() => provider.jobs.length > 0)
  for (const job of provider.jobs) job.readyAt = Number.MAX_SAFE_INTEGER
  world.process.die()
  ill(world)
  const began = world.clock.now()
  await world.restart()
  await world.process.registry.cancel(run.id)
  await pass(world, () => world.received.length > 0)
  expect(world.clock.now() - began).toBeLessThan(120_000)
  expect(await world.process.store.run(run.id)).toMatchObject({ status: 'canceled', steps: [{ status: 'canceled' }] })
  expect(provider.jobs.map(job => job.canceled)).toEqual([true])
  const scope = { runId: run.id, stepId: run.steps[0]?.id ?? '', attempt: 1, provider: 'p' }
  expect(world.scopes).toContainEqual({ where: 'find', ...scope })
  await world.close()
})

test('pictures that lie here are kept although the deadline passed while their disk did not say so, and we were down', async () => {
  const { world, provider, id } = await deadWithPictures()
  world.isFull = true
  await world.restart()
  await world.settle(() => false, 60_000)
  const step = (await world.process.store.run(id))?.steps[0]
  expect(step).toMatchObject({ status: 'submitting', lookup: { tries: expect.any(Number) } })
  world.process.die()
  world.isFull = false
  world.clock.advance((step?.deadlineMs ?? 0) + 1)
  await world.restart()
  expect(await world.finish(id)).toMatchObject({ status: 'succeeded' })
  expect([provider.answers, world.kept.size]).toEqual([1, 2])
  await world.close()
})

test.each<[string, boolean]>([
  ['knows no such job', true],
  ['cannot tell', false],
])('a lost submit whose provider %s after the deadline fails its step, and nothing is bought', async (_, canFind) => {
  const world = new World({ providers: now => [new RemoteProvider('p', now, () => ({ type: 'drop' }))] })
  const provider = Object.assign(world.providers[0] as RemoteProvider, { canFind: false })
  await world.start()
  const { id } = await world.create({ a: [] })
  await world.settle(() => false, 60_000)
  const step = (await world.process.store.run(id))?.steps[0]
  world.process.die()
  provider.canFind = canFind
  world.clock.advance((step?.deadlineMs ?? 0) + 1)
  await world.restart()
  expect(await world.finish(id)).toMatchObject({ status: 'failed' })
  expect(provider.arrived).toHaveLength(1)
  await world.close()
})

test('pictures that nobody could keep in a day are kept by a resume, after a restart too, and paid once', async () => {
  const { world, provider } = synchronous({ pictures: 2 })
  const { start } = provider
  provider.start = async job => {
    const started = await start.call(provider, job)
    world.isFull = true
    return started
  }
  await world.start()
  const { id } = await world.create({ a: [] })
  const ended = await world.finish(id)
  expect(ended).toMatchObject({ status: 'failed', error: { code: 'deadline_exceeded' } })
  world.isFull = false
  await world.restart()
  const stored = await world.process.store.run(id)
  const forked = stored && fork(stored, { id: world.clock.id(), stepIds: [world.clock.id()], at: world.clock.now() })
  if (!forked?.ok) throw new Error(forked?.reason)
  await world.process.registry.create({ ...forked, idempotency: null })
  expect(await world.finish(forked.run.id)).toMatchObject({ status: 'succeeded', steps: [{ outputs: [{}, {}] }] })
  expect(provider.answers).toBe(1)
  await world.close()
})

test('a picture that a disk never takes is looked for, and kept when the disk has it after all', async () => {
  const { world, provider } = synchronous()
  await world.start()
  const { promise, resolve } = Promise.withResolvers<void>()
  world.hanging = promise
  const { id } = await world.create({ a: [] })
  await pass(world, () => world.faults.some(each => each.startsWith('find')))
  expect(await world.process.registry.run(id)).toMatchObject({ steps: [{ status: 'submitting', lookup: {} }] })
  world.hanging = null
  resolve()
  expect(await world.finish(id)).toMatchObject({ status: 'succeeded' })
  expect([provider.answers, world.kept.size]).toEqual([1, 1])
  await world.close()
})

test('that a provider has no job is not believed while a disk does not say what lies on it', async () => {
  const { world, provider, id } = await deadWithPictures({ canFind: true })
  world.isFull = true
  await world.restart()
  await world.settle(() => false, 600_000)
  expect(world.calls).toContain('p.find')
  world.isFull = false
  expect(await world.finish(id)).toMatchObject({ status: 'succeeded' })
  expect([provider.answers, world.kept.size]).toEqual([1, 2])
  await world.close()
})

test('a disk that does not say what lies on it is asked again, and nothing is given up meanwhile', async () => {
  const { world, provider, id } = await deadWithPictures()
  world.isFull = true
  await world.restart()
  await world.settle(() => false, 60_000)
  expect(world.faults).toContain('find: StorageUnavailable: the disk does not answer')
  world.isFull = false
  expect(await world.finish(id)).toMatchObject({ status: 'succeeded', steps: [{ outputs: [{}, {}] }] })
  expect(provider.answers).toBe(1)
  await world.close()
})

test('pictures that lie here need no provider: a server of the other mode keeps them too', async () => {
  const { world, id } = await deadWithPictures()
  Object.assign(world, { mode: 'sandbox', providers: [new RemoteProvider('sandbox', () => world.clock.now())] })
  await world.restart()
  expect(await world.finish(id)).toMatchObject({ status: 'succeeded', steps: [{ outputs: [{}, {}] }] })
  await world.close()
})

test('an output that our storage does not take is told of, and its step says why it is not done', async () => {
  const world = new World()
  await world.start()
  world.isFull = true
  const { id } = await world.create({ a: [] })
  await world.settle(() => false, 120_000)
  const step = (await world.process.registry.run(id))?.steps[0]
  expect(step).toMatchObject({ status: 'keeping', trouble: { error: { code: 'storage_unavailable' } } })
  expect(world.faults[0]).toContain('keep')
  world.isFull = false
  expect(await world.finish(id)).toMatchObject({ status: 'succeeded' })
  await world.close()
})

test('nothing is bought while outputs cannot be stored, and what waits goes on by itself afterwards', async () => {
  const world = new World()
  await world.start()
  world.isFull = true
  const first = await world.create({ a: [] })
  await world.settle(() => world.faults.length > 0)
  const others = await Promise.all([1, 2, 3].map(() => world.create({ a: [], b: ['a'] })))
  await world.settle(() => false, 3 * 3_600_000)
  expect(world.providers[0]?.arrived).toHaveLength(1)
  for (const { id } of others) {
    const [step] = (await world.process.registry.run(id))?.steps ?? []
    // It stands in line: no attempt, and its deadline has not begun.
    expect(step).toMatchObject({ status: 'queued', attempts: [], startedAt: null })
  }
  expect(world.process.registry.stats().waiting).toBe(3)
  world.isFull = false
  for (const { id } of [first, ...others]) expect(await world.finish(id)).toMatchObject({ status: 'succeeded' })
  expect(world.process.registry.stats().waiting).toBe(0)
  await world.close()
})

test('storage that refuses is tried ever more rarely, by one alone, however many wait', async () => {
  const world = new World()
  await world.start()
  world.isFull = true
  await world.create({ a: [] })
  await world.settle(() => world.faults.length > 0)
  for (let n = 0; n < 300; n += 1) await world.create({ a: [] })
  const before = world.calls.length
  const looks = world.looks.length
  await world.settle(() => world.looks.length >= looks + 6)
  const times = world.looks.slice(looks)
  const pauses = times.slice(1).map((time, i) => time - (times[i] ?? 0))
  expect(pauses).toEqual([4_000, 8_000, 15_000, 15_000, 15_000])
  // Only the one output that waits, and the looks.
  expect(world.calls.slice(before).filter(name => name.startsWith('store.commit')).length).toBeLessThan(10)
  world.isFull = false
  const began = world.clock.now()
  await world.settle(() => (world.providers[0]?.arrived.length ?? 0) >= 301)
  expect(world.clock.now() - began).toBeLessThanOrEqual(15_000)
  await world.close()
})

test('a start whose storage takes nothing buys nothing, and accepts runs all the same', async () => {
  const world = new World()
  world.isFull = true
  await world.start()
  const { id } = await world.create({ a: [] })
  await world.settle(() => false, 3_600_000)
  expect(world.providers[0]?.arrived).toEqual([])
  expect(new Set(world.faults)).toEqual(new Set(['outputs: StorageUnavailable: the disk is full']))
  world.isFull = false
  expect(await world.finish(id)).toMatchObject({ status: 'succeeded' })
  await world.close()
})

test('an output that was held while storage took nothing is not fetched again: its link may be dead', async () => {
  const world = new World()
  world.holds = true
  await world.start()
  world.isFull = true
  const { id } = await world.create({ a: [] })
  await world.settle(() => false, 3_600_000)
  const [job] = world.providers[0]?.jobs ?? []
  expect(job?.opens).toBe(1)
  if (job) job.behavior = { type: 'expire', times: 1_000 }
  world.isFull = false
  expect(await world.finish(id)).toMatchObject({ status: 'succeeded' })
  expect(job?.opens).toBe(1)
  await world.close()
})

test('every output of a set is fetched while its links live, although storage refuses the first', async () => {
  class Pair extends RemoteProvider {
    override async check(ref: Json): Promise<Checked> {
      const checked = await super.check(ref)
      return checked.type === 'succeeded' ? { ...checked, media: [...checked.media, ...checked.media] } : checked
    }
  }
  const world = new World({ providers: now => [new Pair('p', now)] })
  world.holds = true
  await world.start()
  world.isFull = true
  const { id } = await world.create({ a: [] })
  await world.settle(() => world.held.size === 2)
  const [job] = world.providers[0]?.jobs ?? []
  if (job) job.behavior = { type: 'expire', times: 1_000 }
  world.isFull = false
  expect((await world.finish(id)).steps[0]).toMatchObject({ status: 'succeeded', outputs: [{}, {}] })
  await world.close()
})

test('whose output was lost in such a time is told that storage had its part in it', async () => {
  const world = new World()
  await world.start()
  world.isFull = true
  const { id } = await world.create({ a: [] })
  await world.settle(() => world.faults.length > 0)
  const [job] = world.providers[0]?.jobs ?? []
  if (job) job.behavior = { type: 'expire', times: 1_000 }
  world.isFull = false
  const run = await world.finish(id)
  expect(run).toMatchObject({ status: 'failed', error: { code: 'output_fetch_failed' } })
  expect(run.error?.message).toBe('expired; before, outputs could not be stored: the disk is full')
  await world.close()
})

test('storage that does not answer is noticed by a copy that takes long', async () => {
  const world = new World()
  await world.start()
  const { promise, resolve } = Promise.withResolvers<void>()
  Object.assign(world, { hanging: promise, isFull: true })
  const first = await world.create({ a: [] })
  await pass(world, () => world.faults.length > 0)
  const second = await world.create({ a: [] })
  await pass(world, () => world.looks.length >= 4)
  expect(world.providers[0]?.arrived).toHaveLength(1)
  Object.assign(world, { hanging: null, isFull: false })
  resolve()
  for (const { id } of [first, second]) expect(await world.finish(id)).toMatchObject({ status: 'succeeded' })
  await world.close()
})
