/** A line at several providers, of which one opens, closes or is full: who goes where, and when. */
import { describe, expect, test } from 'bun:test'
import { stepError } from '../../src/core/errors.ts'
import type { Run } from '../../src/core/run.ts'
import { Capacity } from '../../src/engine/capacity.ts'
import { type Behavior, RemoteProvider } from '../support/remote-provider.ts'
import { to, way } from '../support/ways.ts'
import { World } from '../support/world.ts'

const MINUTE = 60_000
const slow = (retryAfterMs: number) => stepError('provider_rate_limited', 'slow', { retryAfterMs })
const refuse = (retryAfterMs: number): Behavior => ({ type: 'refuse', error: slow(retryAfterMs) })

interface Order {
  places: (provider: string) => number
  p: (n: number) => Behavior
  q: (n: number) => Behavior
}

async function atTwo({ places, p, q }: Order, play: (world: World) => Promise<void>): Promise<void> {
  const world = new World({
    concurrency: places,
    providers: now => [new RemoteProvider('p', now, p), new RemoteProvider('q', now, q)],
  })
  try {
    await world.start()
    await play(world)
    expect(world.faults).toEqual([])
  } finally {
    await world.close()
  }
}

/** Seconds that passed from the creation of a run to its last attempt, and where that was. */
async function wentTo(world: World, { id, createdAt }: Run): Promise<string> {
  const last = (await world.process.store.run(id))?.steps[0]?.attempts.at(-1)
  return `${last?.provider} after ${Math.round(((last?.startedAt ?? 0) - createdAt) / 1_000)} s`
}

describe('while one provider is full', () => {
  test('those in its line go to another when that opens again, also who was turned away there', () =>
    atTwo(
      {
        places: provider => (provider === 'p' ? 1 : 8),
        p: () => ({ type: 'work', ms: MINUTE }),
        q: n => (n === 0 ? refuse(5_000) : { type: 'work' }),
      },
      async world => {
        const [p, q] = world.providers
        const first = await world.create({ a: [] })
        await world.settle(() => p?.jobs.length === 1)
        const turnedAway = await world.create({ a: [] })
        await world.settle(() => q?.arrived.length === 1)
        const late = await world.create({ a: [] })
        await world.settle()
        expect(await Promise.all([first, turnedAway, late].map(run => wentTo(world, run)))).toEqual([
          'p after 0 s',
          // What was refused is given one job at once, until that goes well.
          'q after 6 s',
          'q after 5 s',
        ])
      },
    ))

  test('the line of a paused one stands still, and goes on when its pause is over or a leap of the clock has passed it by', () => {
    for (const goOn of ['resume', 'lapse'] as const) {
      const capacity = new Capacity({ concurrency: provider => (provider === 'p' ? 1 : 2) })
      const served: string[] = []
      capacity.enter(way('p', 'm'), 'x')
      capacity.enter(way('q', 'm'), 'y')
      expect(capacity.learn(way('q', 'm'), 'y', slow(5_000), 0)).toBe(5_000)
      expect(capacity.learn(way('q', 'm'), 'y', slow(1_000), 0)).toBeNull()
      for (const holder of ['a', 'b']) capacity.wait(['p', 'q'], to('m'), holder, at => served.push(`${holder} ${at}`))
      capacity.leave(way('q', 'm'), 'y')
      const then = (at: number) => (goOn === 'lapse' ? capacity.lapse(at) : capacity.resume(way('q', 'm'), at))
      then(4_999)
      expect(served).toEqual([])
      then(5_000)
      expect(served).toEqual(['a q', 'b q'])
    }
  })
})
