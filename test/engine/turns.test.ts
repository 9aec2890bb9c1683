/** A line at several providers, of which one opens, closes or is full: who goes where, and when. */
import { describe, expect, test } from 'bun:test'
import { stepError } from '../../src/core/errors.ts'
import type { Run } from '../../src/core/run.ts'
import { Capacity } from '../../src/engine/capacity.ts'
import { Line } from '../../src/engine/line.ts'
import { inWorld } from '../support/in-world.ts'
import { type Behavior, RemoteProvider } from '../support/remote-provider.ts'
import { seeded } from '../support/runs.ts'
import { to, way } from '../support/ways.ts'
import type { World } from '../support/world.ts'

const MINUTE = 60_000
const slow = (retryAfterMs: number) => stepError('provider_rate_limited', 'slow', { retryAfterMs })
const refuse = (retryAfterMs: number): Behavior => ({ type: 'refuse', error: slow(retryAfterMs) })

interface Order {
  places: (provider: string) => number
  p: (n: number) => Behavior
  q: (n: number) => Behavior
}

async function atTwo({ places, p, q }: Order, play: (world: World) => Promise<void>): Promise<void> {
  const providers = (now: () => number) => [new RemoteProvider('p', now, p), new RemoteProvider('q', now, q)]
  await inWorld({ concurrency: places, providers }, play)
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

describe('a turn', () => {
  /** One place each; q has a long job, and then p is asked in the order in which its places are given. */
  const inOrder = async (p: Order['p'], q: Order['q'], waitMs: number): Promise<string[]> => {
    let arrived: string[] = []
    await atTwo({ places: () => 1, p, q }, async world => {
      const [at, other] = world.providers
      await world.create({ a: [] }, { id: 'first' })
      await world.settle(() => at?.jobs.length === 1)
      await world.create({ a: [] }, { id: 'old' })
      await world.settle(() => other?.arrived.length === 1)
      for (const id of ['w1', 'w2', 'w3']) await world.create({ a: [] }, { id })
      await world.settle(() => false, waitMs)
      await world.create({ a: [] }, { id: 'late' })
      for (let minute = 0; minute < 20; minute += 1) {
        await world.settle(() => false, MINUTE)
        await world.process.registry.rehydrate(world.clock.now())
      }
      arrived = at?.arrived.map(({ stepId }) => stepId.replace('/a', '')) ?? []
    })
    return arrived
  }
  const long = (): Behavior => ({ type: 'work', ms: 20 * MINUTE })

  test('is kept when another provider opens, and its line may be joined too', async () => {
    const order = await inOrder(
      () => ({ type: 'work', ms: 50_000 }),
      n => (n === 0 ? refuse(30_000) : long()),
      31_000,
    )
    expect(order).toEqual(['first', 'old', 'w2', 'w3', 'late'])
  })

  test('is kept by who is served and turned away, and through a pause of all providers', async () => {
    const order = await inOrder(
      n => (n === 1 ? refuse(5 * MINUTE) : { type: 'work', ms: 2 * MINUTE }),
      n => (n === 0 ? refuse(60 * MINUTE) : long()),
      3 * MINUTE,
    )
    expect(order).toEqual(['first', 'old', 'w1', 'old', 'w2', 'w3', 'late'])
  })

  test('is what a line goes by, whoever comes back to it or leaves it', () => {
    const chance = seeded(7)
    const line = new Line<{ no: number }>()
    let inside: { no: number }[] = []
    for (let i = 0; i < 2_000; i += 1) {
      const gone = chance() < 0.4 ? inside[Math.floor(chance() * inside.length)] : undefined
      if (gone) line.delete(gone)
      inside = inside.filter(each => each !== gone)
      const next = { no: Math.floor(chance() * 1e9) }
      if (!gone) line.add(next)
      if (!gone) inside = [...inside, next].toSorted((a, b) => a.no - b.no)
      expect([line.first, line.size]).toEqual([inside[0], inside.length])
    }
    expect([...line]).toEqual(inside)
  })
})
