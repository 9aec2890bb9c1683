/** A server that starts in the other mode: nothing of the sandbox is bought, nothing that was to be bought is painted or lost. */
import { afterEach, describe, expect, test } from 'bun:test'
import { stepError } from '../../src/core/errors.ts'
import type { Mode, Run } from '../../src/core/run.ts'
import { type Behavior, RemoteProvider } from '../support/remote-provider.ts'
import { LINE } from '../support/runs.ts'
import { World } from '../support/world.ts'

const open: World[] = []
afterEach(async () => {
  for (const world of open.splice(0)) await world.close()
})

/** A world in a mode, whose provider is the one of that mode. */
function worldIn(mode: Mode, script?: (n: number) => Behavior): { world: World; provider: RemoteProvider } {
  const world = new World({ providers: now => [new RemoteProvider(providerOf(mode), now, script)] })
  world.mode = mode
  open.push(world)
  return { world, provider: world.providers[0] as RemoteProvider }
}

const providerOf = (mode: Mode): string => (mode === 'sandbox' ? 'sandbox' : 'bfl')

/** Starts the same database in a mode; gives who is there. */
async function startIn(world: World, mode: Mode, provider?: RemoteProvider): Promise<RemoteProvider> {
  const here = provider ?? new RemoteProvider(providerOf(mode), () => world.clock.now())
  Object.assign(world, { mode, providers: [here] })
  await world.restart()
  return here
}

const statuses = (run: Run | null) => run?.steps.map(({ status }) => status)
const stored = async (world: World, { id }: Run) => world.process.registry.run(id)

test.each<[string, Behavior]>([
  ['job runs', { type: 'work', ms: 60_000 }],
  ['submit has no answer', { type: 'swallow' }],
  ['step waits', refusedForRate()],
])('a sandbox run whose %s is bought nowhere: its step ends, and says why', async (_, behavior) => {
  const { world, provider: painter } = worldIn('sandbox', () => behavior)
  painter.settleMs = 3_600_000
  await world.start()
  const begun = await world.create(LINE, { mode: 'sandbox' })
  await world.settle(() => painter.arrived.length === 1)
  const bfl = await startIn(world, 'byok')
  const run = await world.finish(begun.id)
  expect([run.status, statuses(run), bfl.arrived.length]).toEqual(['failed', ['failed', 'skipped'], 0])
  expect(run.error?.code).toBe('no_route')
  expect(run.error?.message).toBe('the run was created in mode sandbox; this server runs in mode byok')
  // Soon: nothing of it was paid.
  expect(run.updatedAt - begun.createdAt).toBeLessThan(121_000)
})

test('a paid run is not finished with painted pictures: the finished step is kept, the next one ends', async () => {
  const { world, provider: bfl } = worldIn('byok', n => (n === 0 ? { type: 'work' } : refusedForRate()))
  await world.start()
  const { id } = await world.create(LINE)
  await world.settle(() => bfl.arrived.length === 2)
  const painter = await startIn(world, 'sandbox')
  const run = await world.finish(id)
  expect([run.status, statuses(run), painter.arrived.length]).toEqual(['failed', ['succeeded', 'failed'], 0])
  expect(run.error?.code).toBe('no_route')
  expect(run.error?.message).toBe('the run was created in mode byok; this server runs in mode sandbox')
})

function refusedForRate(): Behavior {
  return { type: 'refuse', error: stepError('provider_rate_limited', 'too many', { retryAfterMs: 30_000 }) }
}

describe('what was under way at a provider waits for it, and is paid once', () => {
  const HOUR = 3_600_000

  test('a job that runs', async () => {
    const { world, provider: bfl } = worldIn('byok', () => ({ type: 'work', ms: 5_000 }))
    await world.start()
    const run = await world.create(LINE)
    await world.settle(() => bfl.jobs.length === 1)
    await startIn(world, 'sandbox')
    await world.settle(() => false, 10 * 60_000)
    expect(statuses(await stored(world, run))).toEqual(['running', 'queued'])
    await startIn(world, 'byok', bfl)
    expect(await world.finish(run.id)).toMatchObject({ status: 'succeeded' })
    expect(bfl.jobs).toHaveLength(2)
  })

  test('a submit whose answer was lost', async () => {
    const { world, provider: bfl } = worldIn('byok', n => (n === 0 ? { type: 'swallow' } : { type: 'work' }))
    bfl.settleMs = HOUR
    await world.start()
    const run = await world.create(LINE)
    await world.settle(() => bfl.jobs.length === 1)
    await startIn(world, 'sandbox')
    await world.settle(() => false, 60_000)
    expect(statuses(await stored(world, run))).toEqual(['submitting', 'queued'])
    await startIn(world, 'byok', bfl)
    expect(await world.finish(run.id)).toMatchObject({ status: 'succeeded' })
    expect(bfl.jobs).toHaveLength(2)
  })

  test('an output that is not copied yet', async () => {
    const { world, provider: bfl } = worldIn('byok')
    await world.start()
    world.isFull = true
    const run = await world.create(LINE)
    await world.settle(() => false, 30_000)
    expect(statuses(await stored(world, run))).toEqual(['keeping', 'queued'])
    world.isFull = false
    await startIn(world, 'sandbox')
    await world.settle(() => false, HOUR)
    expect(statuses(await stored(world, run))).toEqual(['keeping', 'queued'])
    await startIn(world, 'byok', bfl)
    expect(await world.finish(run.id)).toMatchObject({ status: 'succeeded' })
    expect(bfl.jobs).toHaveLength(2)
  })
})

test('a paid job whose provider does not come back ends at its deadline', async () => {
  const { world, provider: bfl } = worldIn('byok', () => ({ type: 'forever' }))
  await world.start()
  const { id } = await world.create(LINE)
  await world.settle(() => bfl.jobs.length === 1)
  await startIn(world, 'sandbox')
  const run = await world.finish(id)
  expect([run.status, run.error?.code]).toEqual(['failed', 'provider_timeout'])
  expect(run.steps[0]?.attempts[0]?.cost.basis).toBe('upper_bound')
})

test('a submit that was never sent ends with no_route, and costs nothing', async () => {
  const trial = worldIn('byok')
  await trial.world.start()
  await trial.world.create(LINE)
  await trial.world.settle()
  const { world, provider: bfl } = worldIn('byok')
  world.crash = { call: trial.world.calls.indexOf('store.noteSubmit') + 1, when: 'before' }
  await world.start()
  const { id } = await world.create(LINE)
  await world.settle()
  expect([world.isDead, bfl.jobs.length]).toEqual([true, 0])
  world.crash = null
  const painter = await startIn(world, 'sandbox')
  const run = await world.finish(id)
  expect([run.error?.code, run.steps[0]?.attempts[0]?.cost.actualUsd]).toEqual(['no_route', 0])
  expect([bfl.jobs.length, painter.jobs.length]).toEqual([0, 0])
})
