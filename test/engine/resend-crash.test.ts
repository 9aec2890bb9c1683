/** The process dies at every port call of a resend: the message arrives again with its one id, and nothing hangs. */
import { expect, test } from 'bun:test'
import { type Crash, World } from '../support/world.ts'

async function play(crash: Crash | null, status: number): Promise<number> {
  const world = new World()
  try {
    await world.start()
    const run = await world.create({ a: [] })
    await world.finish(run.id)
    const [delivery] = await world.process.store.deliveriesOf(run.id)
    const id = delivery?.id ?? ''
    world.calls = []
    world.crash = crash
    world.receiver = n => (n === 0 ? 200 : status)
    const { store, outbox, died } = world.process
    const asked = await Promise.race([store.resend(id, world.clock.now()), died.then(() => false)])
    if (!world.isDead) outbox.wake()
    await world.settle()
    const calls = world.calls.length
    if (world.isDead) {
      world.crash = null
      await world.restart()
      await world.settle()
    }
    const [after] = await world.process.store.deliveriesOf(run.id)
    expect(after).toMatchObject({ status: 'delivered', attempts: 1 })
    expect(await world.process.store.nextDeliveryAt()).toBeNull()
    expect(new Set(world.received.map(each => each.id))).toEqual(new Set([id]))
    // Answered means kept: it was sent again, and a death may have sent it twice.
    if (asked) expect(world.received.length).toBeGreaterThanOrEqual(2)
    expect(world.received.length).toBeLessThanOrEqual(3)
    return calls
  } finally {
    await world.close()
  }
}

for (const status of [200, 500])
  test.each(['before', 'after'] as const)(
    `a resend that is answered ${status} survives a death at every call, %s it takes effect`,
    async when => {
      const untouched = await play(null, status)
      expect(untouched).toBeGreaterThanOrEqual(4)
      for (let call = 1; call <= untouched; call += 1) await play({ call, when }, status)
    },
    60_000,
  )
