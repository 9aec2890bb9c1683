/** Outputs that are paid and in hand while our own storage takes nothing. */
import { expect, test } from 'bun:test'
import type { Started, StartJob } from '../../src/core/ports.ts'
import { RemoteProvider } from '../support/remote-provider.ts'
import { World } from '../support/world.ts'

/** Goes from timer to timer while a call of a provider is open, which `settle` would wait for. */
async function pass(world: World, done: () => boolean): Promise<void> {
  for (let n = 0; n < 1_000 && !done(); n += 1) {
    for (let turn = 0; turn < 12; turn += 1) await new Promise(resolve => setImmediate(resolve))
    if (!done()) world.clock.step()
  }
  if (!done()) throw new Error('it does not come')
}

test('the picture of an answer that comes once is held until it can be written down, and is not paid again', async () => {
  let answers = 0
  class Synchronous extends RemoteProvider {
    override async start(job: StartJob): Promise<Started> {
      await job.sending()
      answers += 1
      return { type: 'succeeded', media: [{ url: await job.stash(new Uint8Array([1, 2, 3])) }] }
    }
  }
  const world = new World({ providers: now => [new Synchronous('p', now)] })
  await world.start()
  world.isFull = true
  const { id } = await world.create({ a: [] })
  const began = world.clock.now()
  await pass(world, () => world.clock.now() - began >= 60_000)
  expect(world.stashed.size).toBe(0)
  world.isFull = false
  await pass(world, () => world.kept.size === 1)
  expect(await world.finish(id)).toMatchObject({ status: 'succeeded' })
  expect(answers).toBe(1)
  expect(new Set(world.faults.map(each => each.split(':')[0]))).toEqual(new Set(['stash']))
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
