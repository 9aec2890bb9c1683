/** Runs of the real engine on the real store, in virtual time. */
import { afterEach, expect, test } from 'bun:test'
import { stepError } from '../../src/core/errors.ts'
import type { Json } from '../../src/core/json.ts'
import { fork } from '../../src/core/machine.ts'
import { type Checked, type Started, type StartJob, StorageUnavailable } from '../../src/core/ports.ts'
import type { Step, StepIn } from '../../src/core/run.ts'
import { type Behavior, RemoteProvider } from '../support/remote-provider.ts'
import { DIAMOND, LINE, runOf } from '../support/runs.ts'
import { World, type WorldOptions } from '../support/world.ts'

const worlds: World[] = []
async function world(options: WorldOptions = {}): Promise<World> {
  const made = new World(options)
  worlds.push(made)
  await made.start()
  return made
}
afterEach(async () => {
  for (const each of worlds.splice(0)) await each.close()
})

/** Two providers, the first of which is scripted. */
const pair = (script: RemoteProvider['script']) => (now: () => number) => [
  new RemoteProvider('p', now, script),
  new RemoteProvider('q', now),
]

test('a run goes through its steps and ends in one callback', async () => {
  const w = await world()
  const { id } = await w.create(LINE)
  const run = await w.finish(id)
  expect(run.status).toBe('succeeded')
  expect(w.received.map(each => each.runId)).toEqual([id])
  expect(JSON.parse(w.received[0]?.body ?? '')).toEqual({ type: 'run.succeeded', data: { id } })
  expect(w.providers[0]?.arrived.length).toBe(2)
  expect(w.faults).toEqual([])
})

test('a step gets the output of the step before it', async () => {
  const w = await world()
  const { id } = await w.create(LINE)
  const run = await w.finish(id)
  const first = run.steps[0] as StepIn<'succeeded'>
  expect(w.providers[0]?.arrived[1]?.body.pictures).toEqual([`https://us.example/media/${first.outputs[0]?.mediaId}`])
})

test('a route that wants pictures in the request gets them there, although its provider takes links', async () => {
  const w = await world({ inline: true })
  const { id } = await w.create(LINE)
  expect((await w.finish(id)).status).toBe('succeeded')
  expect(w.providers[0]?.arrived[1]?.body.pictures).toEqual(['data:image/png;base64,AAAA'])
})

test('branches run side by side and join', async () => {
  const w = await world({ providers: now => [new RemoteProvider('p', now, () => ({ type: 'work', ms: 10_000 }))] })
  const { id, createdAt } = await w.create(DIAMOND)
  const run = await w.finish(id)
  expect(run.status).toBe('succeeded')
  expect(run.updatedAt - createdAt).toBeLessThan(33_000)
})

test('the log of a run tells its story, numbered without a gap', async () => {
  const w = await world()
  const { id } = await w.create(LINE)
  await w.finish(id)
  const log = await w.process.store.events(id, 0, 100)
  expect(log.map(line => line.seq)).toEqual(log.map((_, i) => i + 1))
  const step = (key: string) => ['submitting', 'running', 'keeping', 'succeeded'].map(what => `step.${what} ${key}`)
  expect(log.map(line => `${line.type} ${line.stepKey ?? ''}`.trim())).toEqual([
    'run.created',
    ...step('a'),
    ...step('b'),
    'run.succeeded',
  ])
})

test('a rate limit moves the step to the next provider at once, and both attempts are recorded', async () => {
  const refuse = stepError('provider_rate_limited', 'slow down', { retryAfterMs: 30_000 })
  const w = await world({ providers: pair(() => ({ type: 'refuse', error: refuse })) })
  const { id } = await w.create({ a: [] })
  const run = await w.finish(id)
  expect(run.steps[0]?.attempts.map(attempt => `${attempt.provider} ${attempt.outcome}`)).toEqual([
    'p failed',
    'q succeeded',
  ])
  expect(run.steps[0]?.attempts[0]?.cost.actualUsd).toBe(0)
})

/** Names no money, but how much it made; at once, or when it is asked. */
class Counting extends RemoteProvider {
  constructor(
    now: () => number,
    readonly counted: number,
    readonly isSync = false,
  ) {
    super('p', now, () => ({ type: 'work', ms: isSync ? 0 : 1_000 }))
  }
  override async start(job: StartJob): Promise<Started> {
    const started = await super.start(job)
    const checked = started.type === 'accepted' && this.isSync ? await this.check(started.jobRef) : null
    return checked?.type === 'succeeded' ? checked : started
  }
  override async check(ref: Json): Promise<Checked> {
    const checked = await super.check(ref)
    return checked.type === 'succeeded' ? { type: 'succeeded', media: checked.media, counted: this.counted } : checked
  }
}

for (const isSync of [true, false]) {
  const when = isSync ? 'in the answer to the submit' : 'when it is asked'
  test(`what a provider counts ${when} is booked at the listed price`, async () => {
    const w = await world({ providers: now => [new Counting(now, 3, isSync)] })
    const { id } = await w.create({ a: [] })
    const { cost } = (await w.finish(id)).steps[0]?.attempts[0] ?? {}
    expect(cost).toEqual({ estimatedUsd: 0.05, actualUsd: 0.03, basis: 'metered' })
  })
}

test('a step that leaves it to the model how much it makes is estimated at the most, and says so', async () => {
  const w = await world({ providers: now => [new Counting(now, 101)] })
  const { id } = await w.create({ set: [] })
  const { cost } = (await w.finish(id)).steps[0]?.attempts[0] ?? {}
  expect(cost).toEqual({ estimatedUsd: 0.05, actualUsd: null, basis: 'upper_bound' })
})

test('so is one that reads the picture of another, where nobody knows its size', async () => {
  const w = await world({ providers: now => [new Counting(now, 101)] })
  const { id } = await w.create({ a: [], edit: ['a'], b: ['a'] })
  const bases = (await w.finish(id)).steps.map(step => step.attempts[0]?.cost.basis)
  expect(bases).toEqual(['listed', 'upper_bound', 'listed'])
})

test('what a picture of the caller costs goes by the shape that is stored with it, also after a restart', async () => {
  const busy = stepError('provider_rate_limited', 'slow down', { retryAfterMs: 30_000 })
  const script = (n: number): Behavior => (n < 4 ? { type: 'refuse', error: busy } : { type: 'work' })
  const w = await world({ providers: now => [new RemoteProvider('p', now, script)] })
  const start = async (pictureShapes: Step['pictureShapes']) => {
    const [step] = runOf({ edit: [] }).steps
    const pictures = ['https://pictures.example/a.png']
    return (await w.create({ edit: [] }, { steps: [{ ...(step as Step), pictures, pictureShapes }] })).id
  }
  const ids = [await start([[{ width: 40, height: 30 }]]), await start([[]])]
  await w.settle(() => false, 1_000)
  await w.restart()
  const bases = async (id = '') => (await w.finish(id)).steps[0]?.attempts.map(({ cost }) => cost.basis)
  expect([await bases(ids[0]), await bases(ids[1])]).toEqual([
    ['listed', 'listed', 'metered'],
    ['upper_bound', 'upper_bound', 'metered'],
  ])
})

test('where no list names the price of what a provider counts, the estimate stays what it was', async () => {
  const w = await world({ providers: now => [new Counting(now, 101)] })
  const { id } = await w.create({ a: [] })
  const { cost } = (await w.finish(id)).steps[0]?.attempts[0] ?? {}
  expect(cost).toEqual({ estimatedUsd: 0.05, actualUsd: null, basis: 'listed' })
})

test('an adapter is told how many jobs its step has had there: refusals and other providers do not count', async () => {
  const failing = { type: 'break', error: stepError('provider_error', 'no') } as const
  const busy = { type: 'refuse', error: stepError('provider_overloaded', 'busy') } as const
  const scripts = { p: [busy, failing, { type: 'work' }], q: [failing, busy] } as const
  const told: string[] = []
  class Telling extends RemoteProvider {
    override start(job: StartJob): Promise<Started> {
      told.push(`${this.id}${job.jobsBefore}`)
      return super.start(job)
    }
  }
  const play = (id: 'p' | 'q', now: () => number) => new Telling(id, now, n => scripts[id][n] ?? { type: 'work' })
  const w = await world({ providers: now => [play('p', now), play('q', now)] })
  const run = await w.finish((await w.create({ a: [] })).id)
  expect(run.status).toBe('succeeded')
  expect(told).toEqual(['p0', 'q0', 'p0', 'q1', 'p1'])
})

test('with one provider a rate limit is waited out, for as long as it asked', async () => {
  const refuse = stepError('provider_rate_limited', 'slow down', { retryAfterMs: 30_000 })
  const w = await world({
    providers: now => [
      new RemoteProvider('p', now, n => (n < 2 ? { type: 'refuse', error: refuse } : { type: 'work' })),
    ],
  })
  const { id, createdAt } = await w.create({ a: [] })
  const run = await w.finish(id)
  expect(run.status).toBe('succeeded')
  expect(run.updatedAt - createdAt).toBeGreaterThanOrEqual(60_000)
  const log = (await w.process.store.events(id, 0, 100)).map(line => line.type)
  expect(log.slice(1, 7)).toEqual([
    'step.submitting',
    'step.attempt_failed',
    'step.waiting',
    'step.submitting',
    'step.attempt_failed',
    'step.waiting',
  ])
})

test('a refused content is not taken to another provider', async () => {
  const w = await world({ providers: pair(() => ({ type: 'refuse', error: stepError('content_rejected', 'no') })) })
  const { id } = await w.create(LINE)
  const run = await w.finish(id)
  expect(run).toMatchObject({ status: 'failed', error: { code: 'content_rejected' } })
  expect(run.steps[1]?.status).toBe('skipped')
  expect(w.providers[1]?.arrived).toEqual([])
  expect(w.received.length).toBe(1)
})

test('when every route is down the step waits, and fails at its deadline with a typed error', async () => {
  const refuse = stepError('provider_overloaded', 'busy')
  const w = await world({ providers: now => [new RemoteProvider('p', now, () => ({ type: 'refuse', error: refuse }))] })
  const { id, createdAt } = await w.create({ a: [] })
  const run = await w.finish(id)
  expect(run).toMatchObject({
    status: 'failed',
    error: { code: 'deadline_exceeded', message: expect.stringContaining('busy') },
  })
  expect(Math.round((run.updatedAt - createdAt) / 60_000)).toBeWithin(60, 62)
})

test('a submit whose answer was lost is looked up, not sent again', async () => {
  const w = await world({ providers: pair(n => (n === 0 ? { type: 'swallow' } : { type: 'work' })) })
  const { id } = await w.create({ a: [] })
  const run = await w.finish(id)
  expect(run.status).toBe('succeeded')
  expect(w.providers.map(provider => provider.arrived.length)).toEqual([1, 0])
})

test('a submit that never arrived is sent again when the provider says so', async () => {
  const w = await world({
    providers: now => [new RemoteProvider('p', now, n => (n === 0 ? { type: 'drop' } : { type: 'work' }))],
  })
  const { id } = await w.create({ a: [] })
  const run = await w.finish(id)
  expect(run.status).toBe('succeeded')
  expect(w.providers[0]?.jobsOf(`${id}/a`)).toBe(1)
})

test('where nobody can tell, the run fails with outcome_unknown and never tries elsewhere', async () => {
  const w = await world({ providers: pair(() => ({ type: 'swallow' })) })
  for (const provider of w.providers) provider.canFind = false
  const { id } = await w.create({ a: [] })
  const run = await w.finish(id)
  expect(run).toMatchObject({ status: 'failed', error: { code: 'outcome_unknown' } })
  expect(w.providers.map(provider => provider.arrived.length)).toEqual([1, 0])
})

test('an operator who accepts paying twice gets a second submit instead of outcome_unknown', async () => {
  const w = await world({
    resubmitUnknown: true,
    providers: now => [new RemoteProvider('p', now, n => (n === 0 ? { type: 'swallow' } : { type: 'work' }))],
  })
  for (const provider of w.providers) provider.canFind = false
  const { id } = await w.create({ a: [] })
  const run = await w.finish(id)
  expect(run.status).toBe('succeeded')
  expect(w.providers[0]?.arrived.length).toBe(2)
  expect(run.steps[0]?.attempts[0]).toMatchObject({ cost: { actualUsd: null, basis: 'upper_bound' } })
})

test('an expired link is asked for again, and the job is not paid again', async () => {
  const w = await world({ providers: now => [new RemoteProvider('p', now, () => ({ type: 'expire', times: 1 }))] })
  const { id } = await w.create({ a: [] })
  expect((await w.finish(id)).status).toBe('succeeded')
  expect(w.providers[0]?.arrived.length).toBe(1)
})

test('a job that fails is tried three times in all, and each try is on record with what it may have cost', async () => {
  const broke = stepError('provider_error', 'broke')
  const w = await world({ providers: now => [new RemoteProvider('p', now, () => ({ type: 'break', error: broke }))] })
  const { id } = await w.create({ a: [] })
  const run = await w.finish(id)
  expect(run).toMatchObject({ status: 'failed', error: { code: 'provider_error' } })
  expect(run.steps[0]?.attempts.map(attempt => attempt.cost)).toEqual(
    new Array(3).fill({ estimatedUsd: 0.05, actualUsd: null, basis: 'upper_bound' }),
  )
})

test('a job that never ends is canceled at the deadline and the run says so', async () => {
  const w = await world({ providers: now => [new RemoteProvider('p', now, () => ({ type: 'forever' }))] })
  const { id } = await w.create({ a: [] })
  const run = await w.finish(id)
  expect(run).toMatchObject({ status: 'failed', error: { code: 'provider_timeout' } })
  expect(w.providers[0]?.jobs.map(job => job.canceled)).toEqual([true])
})

test('a job that was done while nobody was here is kept, although its deadline has passed', async () => {
  const w = await world({ providers: now => [new RemoteProvider('p', now, () => ({ type: 'work', ms: 60_000 }))] })
  const { id } = await w.create({ a: [] })
  await w.settle(() => (w.providers[0]?.jobs.length ?? 0) > 0)
  w.clock.advance(5_000)
  w.process.die()
  w.clock.advance(20 * 3_600_000)
  await w.restart()
  const run = await w.finish(id)
  expect(run.status).toBe('succeeded')
  expect(w.providers[0]?.jobs.map(job => job.canceled)).toEqual([false])
})

test('a job is asked for at its deadline, and given up when it is still at work', async () => {
  const w = await world({ providers: now => [new RemoteProvider('p', now, () => ({ type: 'forever' }))] })
  const { id } = await w.create({ a: [] })
  const run = await w.finish(id)
  const [step] = run.steps
  expect(step?.completedAt).toBe((step?.startedAt ?? 0) + (step?.deadlineMs ?? 0))
  expect(step?.attempts[0]?.cost).toMatchObject({ actualUsd: null, basis: 'upper_bound' })
})

test('a webhook of a canceled job brings its picture and its cost, once, and a resumed run takes the picture over', async () => {
  const w = await world({
    providers: now => [new RemoteProvider('p', now, n => (n === 0 ? { type: 'work', ms: 60_000 } : { type: 'work' }))],
  })
  const [p] = w.providers
  const { id } = await w.create(LINE)
  await w.settle(() => (p?.jobs.length ?? 0) > 0)
  if (p) p.cancel = async () => 'unsupported'
  await w.process.registry.cancel(id)
  const ended = await w.finish(id)
  const token = ended.steps[0]?.attempts[0]?.token ?? ''
  expect(await w.process.registry.hint(token, null)).toBe(true)
  expect((await w.process.store.run(id))?.steps[0]?.attempts[0]?.lateResult).toBeUndefined()
  w.clock.advance(61_000)
  await Promise.all([1, 2, 3].map(() => w.process.registry.hint(token, null)))
  await w.process.registry.hint(token, null)
  const late = await w.process.store.run(id)
  expect(late).toMatchObject({ status: 'canceled', error: null })
  const [attempt] = late?.steps[0]?.attempts ?? []
  expect(attempt).toMatchObject({ outcome: 'canceled', cost: { actualUsd: 0.05, basis: 'metered' } })
  const [output] = attempt?.lateResult?.outputs ?? []
  expect(await w.process.store.media(output?.mediaId ?? '')).toMatchObject({ runId: id })
  const log = await w.process.store.events(id, 0, 100)
  expect(log.slice(-2).map(each => each.type)).toEqual(['run.canceled', 'step.late_result'])
  expect(w.received).toHaveLength(1)
  expect(w.process.registry.stats().actors).toBe(0)
  expect(w.faults).toEqual([])
})

test('a resumed run that has nothing left to do ends at once, with its callback', async () => {
  const w = await world({ providers: now => [new RemoteProvider('p', now, () => ({ type: 'swallow' }))] })
  const [p] = w.providers
  if (p) p.find = async () => ({ type: 'unknown' })
  const { id } = await w.create({ a: [] })
  const lost = await w.finish(id)
  expect(lost.error?.code).toBe('outcome_unknown')
  const { token } = lost.steps[0]?.attempts[0] ?? { token: '' }
  await w.process.registry.hint(token, { job: token })
  const late = await w.process.store.run(id)
  if (!late) throw new Error('gone')
  const at = w.clock.now()
  const forked = fork(late, { id: w.clock.id(), stepIds: [w.clock.id()], at })
  if (!forked.ok) throw new Error(forked.reason)
  await w.process.registry.create({ ...forked, idempotency: null })
  expect((await w.finish(forked.run.id)).status).toBe('succeeded')
  expect(p?.jobs).toHaveLength(1)
  expect(w.received.map(each => each.runId)).toEqual([id, forked.run.id])
})

test('a job that is asked for seldom is given up by its actor, whatever fraction of a second its provider names', async () => {
  const w = await world({ providers: now => [new RemoteProvider('p', now, () => ({ type: 'work', ms: 200_000 }))] })
  const [p] = w.providers
  const check = p?.check.bind(p)
  if (p && check) {
    p.check = async ref => {
      const checked = await check(ref)
      return checked.type === 'pending' ? { ...checked, pollAfterMs: 90_000.4 } : checked
    }
  }
  const { id } = await w.create({ a: [] })
  await w.settle(() => (p?.jobs.length ?? 0) > 0)
  await w.settle(() => w.process.registry.stats().actors === 0)
  expect(w.faults).toEqual([])
  expect((await w.finish(id)).status).toBe('succeeded')
})

test('a write that fails by a fault of ours is tried ever more rarely', async () => {
  const w = await world()
  const { id } = await w.create({ a: [] })
  const times: number[] = []
  w.process.store.commit = async () => {
    times.push(w.clock.now())
    throw new Error('CHECK constraint failed')
  }
  await w.settle(() => times.length >= 10)
  const pauses = times.slice(1).map((time, i) => time - (times[i] ?? 0))
  expect(pauses.slice(0, 3)).toEqual([1_000, 2_000, 4_000])
  expect(pauses.at(-1)).toBe(60_000)
  expect((await w.process.store.run(id))?.status).toBe('running')
})

test('a run that was not created has taken no place and no budget', async () => {
  const w = await world({ limits: { dailyBudgetUsd: 0.05 }, concurrency: () => 1 })
  const { store } = w.process
  const { create } = store
  store.create = async () => {
    throw new StorageUnavailable('the disk is full')
  }
  await expect(w.create({ a: [] })).rejects.toThrow('the disk is full')
  store.create = create
  const { id } = await w.create({ a: [] })
  expect((await w.finish(id)).status).toBe('succeeded')
})

test('cancel stops the job at the provider, ends the run and sends one callback', async () => {
  const w = await world({ providers: now => [new RemoteProvider('p', now, () => ({ type: 'work', ms: 60_000 }))] })
  const { id } = await w.create(LINE)
  await w.settle(() => (w.providers[0]?.jobs.length ?? 0) > 0)
  const [first, second] = await Promise.all([w.process.registry.cancel(id), w.process.registry.cancel(id)])
  expect(first?.cancelRequestedAt).toBe(second?.cancelRequestedAt ?? -1)
  const run = await w.finish(id)
  expect(run.status).toBe('canceled')
  expect(run.steps.map(step => step.status)).toEqual(['canceled', 'canceled'])
  expect(run.steps[0]?.attempts[0]?.providerCancel).toBe('confirmed')
  expect(w.received.map(each => JSON.parse(each.body).type)).toEqual(['run.canceled'])
})

test('no step is submitted that would pass max_cost_usd, and the error names the numbers', async () => {
  const w = await world()
  const { id } = await w.create(LINE, { maxCostUsd: 0.07 })
  const run = await w.finish(id)
  expect(run).toMatchObject({
    status: 'failed',
    error: { code: 'budget_exceeded', message: expect.stringContaining('0.0500') },
  })
  expect(w.providers[0]?.arrived.length).toBe(1)
})

test('an attempt is known by the very name under which it was sent, when it is looked for too', async () => {
  const swallow = (): Behavior => ({ type: 'swallow' })
  const w = await world({ providers: now => [new RemoteProvider('p', now, swallow)] })
  const [provider] = w.providers
  if (!provider) throw new Error('no provider')
  const asked: string[] = []
  const find = provider.find.bind(provider)
  provider.find = job => {
    asked.push(job.providerModel)
    return find(job)
  }
  const run = await w.finish((await w.create({ fast: [] })).id)
  expect(run.status).toBe('succeeded')
  expect(provider.arrived.map(job => job.providerModel)).toEqual(['p-model-fast'])
  expect(asked).toEqual(['p-model-fast'])
  expect(run.steps[0]?.attempts.map(attempt => attempt.providerModel)).toEqual(['p-model-fast'])
})

test('without a free place a step waits in line and burns no attempt', async () => {
  const w = await world({
    concurrency: () => 1,
    providers: now => [new RemoteProvider('p', now, () => ({ type: 'work', ms: 5_000 }))],
  })
  const ids = await Promise.all([1, 2, 3].map(async () => (await w.create({ a: [] })).id))
  await w.settle()
  const runs = await Promise.all(ids.map(id => w.process.store.run(id)))
  expect(runs.map(run => run?.status)).toEqual(['succeeded', 'succeeded', 'succeeded'])
  expect(runs.map(run => run?.steps[0]?.attempts.length)).toEqual([1, 1, 1])
  const starts = runs.map(run => run?.steps[0]?.startedAt ?? 0)
  expect(Math.max(...starts) - Math.min(...starts)).toBeGreaterThanOrEqual(10_000)
})

test('an ended run has no actor, and one that waits long gives its actor up until it is due', async () => {
  const w = await world({
    providers: now => [
      new RemoteProvider('p', now, n =>
        n === 0
          ? { type: 'refuse', error: stepError('provider_rate_limited', 'later', { retryAfterMs: 600_000 }) }
          : { type: 'work' },
      ),
    ],
  })
  const { id } = await w.create({ a: [] })
  await w.settle(() => w.process.registry.stats().actors === 0, 1_000)
  expect(w.process.registry.stats().actors).toBe(0)
  w.clock.advance(601_000)
  expect(await w.process.registry.rehydrate(w.clock.now())).toBe(1)
  expect((await w.finish(id)).status).toBe('succeeded')
  expect(w.process.registry.stats().actors).toBe(0)
})

test('a receiver that fails is tried again on the schedule with one id and one body', async () => {
  const w = await world()
  w.receiver = n => (n < 3 ? 500 : 200)
  const { id } = await w.create({ a: [] })
  await w.finish(id)
  expect(w.received.length).toBe(4)
  expect(new Set(w.received.map(each => `${each.id} ${each.body}`)).size).toBe(1)
  const [delivery] = await w.process.store.deliveriesOf(id)
  expect(delivery).toMatchObject({ status: 'delivered', attempts: 4 })
})
