/** A cancel while the answer to a submit is lost: its job is looked for, stopped where it is, and not bought again unasked. */
import { afterEach, expect, test } from 'bun:test'
import { fork } from '../../src/core/machine.ts'
import type { Run } from '../../src/core/run.ts'
import { RemoteProvider } from '../support/remote-provider.ts'
import { World } from '../support/world.ts'

const worlds: World[] = []
afterEach(async () => {
  for (const world of worlds.splice(0)) await world.close()
})

/** A world whose provider takes a job, and whose answer to the submit is lost; look-ups are trusted a minute later. */
async function begun(): Promise<{ w: World; p: RemoteProvider; id: string }> {
  const w = new World({ providers: now => [new RemoteProvider('p', now, () => ({ type: 'swallow' }))] })
  worlds.push(w)
  const [p] = w.providers
  if (!p) throw new Error('nobody there')
  p.settleMs = 60_000
  await w.start()
  const { id } = await w.create({ a: [] })
  return { w, p, id }
}

const stateOf = async (w: World, id: string) => (await w.process.store.run(id))?.steps[0]

async function looking(w: World, p: RemoteProvider, id: string): Promise<void> {
  await w.settle(() => p.jobs.length > 0)
  await w.settle(() => true)
  expect(await stateOf(w, id)).toMatchObject({ status: 'submitting', lookup: { tries: 0 } })
}

/** Jobs that end only when they are told to. */
const workOn = (p: RemoteProvider): void => {
  for (const job of p.jobs) job.readyAt = Number.MAX_SAFE_INTEGER
}

test('in the pause before the look-up stops the job at the provider, and a resume buys it once', async () => {
  const { w, p, id } = await begun()
  await looking(w, p, id)
  workOn(p)
  const asked = await w.process.registry.cancel(id)
  expect(asked).toMatchObject({ status: 'running', cancelRequestedAt: w.clock.now() })
  const run = await w.finish(id)
  expect(run).toMatchObject({ status: 'canceled', error: null, steps: [{ status: 'canceled' }] })
  expect(run.steps[0]?.attempts).toMatchObject([{ outcome: 'canceled', providerCancel: 'confirmed' }])
  expect(p.jobs.map(job => job.canceled)).toEqual([true])
  expect(w.received.map(each => JSON.parse(each.body).type)).toEqual(['run.canceled'])
  p.script = () => ({ type: 'work' })
  const forked = fork(run, { id: w.clock.id(), stepIds: [w.clock.id()], at: w.clock.now() })
  if (!forked.ok) throw new Error(forked.reason)
  await w.process.registry.create({ ...forked, idempotency: null })
  expect((await w.finish(forked.run.id)).status).toBe('succeeded')
  expect(p.jobs.map(job => job.canceled)).toEqual([true, false])
})

test('right after a crash in that pause stops the job at the provider', async () => {
  const { w, p, id } = await begun()
  await looking(w, p, id)
  workOn(p)
  await w.restart()
  await w.process.registry.cancel(id)
  expect((await w.finish(id)).status).toBe('canceled')
  expect(p.jobs.map(job => job.canceled)).toEqual([true])
})

test('of a job that shows late waits for it, through a crash, and no longer than two minutes', async () => {
  const { w, p, id } = await begun()
  await looking(w, p, id)
  workOn(p)
  const find = p.find.bind(p)
  const showsAt = w.clock.now() + 50_000
  p.find = async attempt => (w.clock.now() < showsAt ? { type: 'none' } : find(attempt))
  const at = w.clock.now()
  await w.process.registry.cancel(id)
  await w.settle(() => true)
  await w.restart()
  expect((await w.finish(id)).status).toBe('canceled')
  expect(p.jobs.map(job => job.canceled)).toEqual([true])
  expect(w.clock.now() - at).toBeLessThan(120_000)
})

/** Dies after the cancel, is down for so long, and comes back as a process that has measured no time yet. */
async function canceledAndDown(w: World, id: string, ms: number): Promise<void> {
  await w.process.registry.cancel(id)
  await w.settle(() => true)
  w.process.die()
  w.clock.advance(ms)
  w.soundSince = w.clock.now()
}

test.each([0, 180_000])(
  'before a downtime of %d ms stops the job, though the first look after it does not find it',
  async ms => {
    const { w, p, id } = await begun()
    await looking(w, p, id)
    workOn(p)
    await canceledAndDown(w, id, ms)
    const find = p.find.bind(p)
    p.find = async () => {
      p.find = find
      return { type: 'unknown' }
    }
    await w.restart()
    expect((await w.finish(id)).status).toBe('canceled')
    expect(p.jobs.map(job => job.canceled)).toEqual([true])
  },
)

test.each([0, 65_000, 180_000])('of a submit that never arrived is free, through a downtime of %d ms', async ms => {
  const { w, p, id } = await begun()
  p.script = () => ({ type: 'drop' })
  await w.settle(() => p.arrived.length > 0)
  await w.settle(() => true)
  await canceledAndDown(w, id, ms)
  await w.restart()
  const [step] = (await w.finish(id)).steps
  expect(step).toMatchObject({ status: 'canceled', attempts: [{ outcome: 'canceled', cost: { actualUsd: 0 } }] })
})

test('where nobody can tell ends in two minutes, says that the job may be there, and a resume asks whether to buy another', async () => {
  const { w, p, id } = await begun()
  p.canFind = false
  await looking(w, p, id)
  const at = w.clock.now()
  await w.process.registry.cancel(id)
  const run = (await w.finish(id)) as Run
  expect(run).toMatchObject({ status: 'canceled', error: null })
  const [step] = run.steps
  expect([step?.completedAt, step?.attempts]).toMatchObject([
    at + 120_000,
    [{ outcome: 'unknown', error: { code: 'outcome_unknown' }, cost: { basis: 'upper_bound' }, providerCancel: null }],
  ])
  const order = { id: w.clock.id(), stepIds: [w.clock.id()], at: w.clock.now() }
  expect(fork(run, order)).toMatchObject({ ok: false })
  // Its webhook tells after all: what it gave is taken over.
  const token = step?.attempts[0]?.token ?? ''
  await w.process.registry.hint(token, { job: token })
  expect(fork((await w.process.store.run(id)) as Run, order)).toMatchObject({ ok: true, run: { status: 'succeeded' } })
  expect(p.jobs).toHaveLength(1)
})
