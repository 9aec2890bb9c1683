/** A stop: what is under way ends and is written down, and nothing begins that the stop would cut off. */
import { expect, test } from 'bun:test'
import type { Started, StartJob } from '../../src/core/ports.ts'
import { RemoteProvider } from '../support/remote-provider.ts'
import type { Graph } from '../support/runs.ts'
import { World, type WorldOptions } from '../support/world.ts'

/** Answers in the submit, as OpenAI and Gemini do, when it is told to. */
class Synchronous extends RemoteProvider {
  readonly answers: (() => void)[] = []
  isQuick = false

  override async start(job: StartJob): Promise<Started> {
    await job.sending()
    this.arrived.push(job)
    if (!this.isQuick) await new Promise<void>(resolve => this.answers.push(resolve))
    const { token, stepId } = job
    this.jobs.push({ token, stepId, behavior: { type: 'work' }, readyAt: 0, canceled: false, opens: 0 })
    return { type: 'succeeded', media: [{ url: `https://remote.example/${token}` }] }
  }
}

interface Scene {
  world: World
  remote: Synchronous
  /** Lets the loop and the clock go on until it is so, or nothing will come of it. */
  go(until: () => boolean): Promise<void>
}

/** Runs that wait for a place, when a stop begins. */
async function stopping(options: WorldOptions, graph: Graph, play: (scene: Scene) => Promise<void>): Promise<void> {
  const world = new World({ ...options, providers: now => [new Synchronous('p', now)] })
  const go = async (until: () => boolean): Promise<void> => {
    for (let turn = 0; turn < 2_000 && !until(); turn += 1) {
      world.clock.advance(1)
      while ((world.clock.nextAt ?? Number.POSITIVE_INFINITY) <= world.clock.now()) world.clock.step()
      await new Promise(resolve => setImmediate(resolve))
      // Turns are quick where the disk is slow: what was written before this is written when it is.
      if (turn % 50 === 0) await world.process.store.probe()
    }
  }
  try {
    await world.start()
    for (let n = 0; n < 6; n += 1) await world.create(graph)
    await play({ world, remote: world.providers[0] as Synchronous, go })
    expect(world.faults).toEqual([])
  } finally {
    await world.close()
  }
}

test.each([
  ['a place of the provider', { concurrency: () => 2 }, { a: [] }, 2],
  ['a place of its key', { limits: { maxRunning: 2 } }, { a: [] }, 2],
  ['the step before it', {}, { a: [], b: ['a'] }, 6],
] as const)(
  'a stop begins no submit that waits for %s, and the next start does',
  async (_, options, graph, underWay) => {
    await stopping(options, graph as unknown as Graph, async ({ world, remote, go }) => {
      await go(() => remote.answers.length === underWay)
      let isDrained = false
      void world.process.registry.drain().then(() => {
        isDrained = true
      })
      for (const answer of remote.answers.splice(0)) {
        expect(isDrained).toBe(false)
        answer()
      }
      await go(() => isDrained)
      expect([remote.arrived.length, isDrained]).toEqual([underWay, true])
      remote.isQuick = true
      await world.restart()
      await world.settle()
      expect((await world.process.store.counts()).runs).toMatchObject({ succeeded: 6, queued: 0, running: 0 })
      expect(remote.arrived).toHaveLength(6 * Object.keys(graph).length)
    })
  },
)

test('a start that ends after the stop began opens nothing again', () =>
  stopping({ concurrency: () => 2 }, { a: [] }, async ({ world, remote, go }) => {
    await go(() => remote.answers.length === 2)
    const { registry } = world.process
    let isDrained = false
    void registry.drain().then(() => {
      isDrained = true
    })
    await registry.start()
    for (const answer of remote.answers.splice(0)) answer()
    await go(() => isDrained)
    expect([remote.arrived.length, isDrained]).toEqual([2, true])
  }))
