/**
 * A webhook that is faster than the answer to the submit: the answer comes all the same, and may say what the webhook did not.
 * And one that comes after the provider has said that it has no such job.
 */
import { expect, spyOn, test } from 'bun:test'
import { type Step, spent } from '../../src/core/run.ts'
import { Capacity } from '../../src/engine/capacity.ts'
import { RemoteProvider } from '../support/remote-provider.ts'
import { World } from '../support/world.ts'

test.each([
  ['running', 60_000],
  ['keeping', 0],
])(
  'the cost in an answer that finds the step %s is not lost, and its place among the submits is free once',
  async (state, ms) => {
    const world = new World({ providers: now => [new RemoteProvider('p', now, () => ({ type: 'work', ms }))] })
    const submitted = spyOn(Capacity.prototype, 'submitted')
    const met: string[] = []
    const stepOf = async (runId: string) => (await world.process.registry.run(runId))?.steps[0]
    try {
      await world.start()
      const [p] = world.providers
      if (!p) throw new Error('nobody there')
      const { start, check, open } = p
      const told = Promise.withResolvers<string>()
      p.start = async job => {
        const started = await start.call(p, job)
        await world.process.registry.hint(job.token, { job: job.token })
        await world.pass(60_000, async () => (await stepOf(job.runId))?.status === state)
        met.push((await stepOf(job.runId))?.status ?? '')
        told.resolve(job.runId)
        return started.type === 'accepted' ? { ...started, costUsd: 0.07 } : started
      }
      p.check = async ref => {
        const checked = await check.call(p, ref)
        return checked.type === 'succeeded' ? { type: 'succeeded', media: checked.media } : checked
      }
      p.open = async media => {
        const runId = await told.promise
        const isKnown = (step?: Step) => step !== undefined && 'attempt' in step && step.attempt.cost.actualUsd !== null
        await world.pass(60_000, async () => isKnown(await stepOf(runId)))
        return open.call(p, media)
      }
      const { id } = await world.create({ a: [] })
      const { status, steps } = await world.finish(id)
      expect([met, status]).toEqual([[state], 'succeeded'])
      expect(steps[0]?.attempts).toMatchObject([{ no: 1, cost: { actualUsd: 0.07, basis: 'metered' } }])
      expect(submitted.mock.calls).toEqual([['p', `${id}/a`]])
      expect(world.faults).toEqual([])
    } finally {
      submitted.mockRestore()
      await world.close()
    }
  },
)

test('a webhook of a job that its provider did not find puts it on the bill, beside the job that was bought in its place', async () => {
  const world = new World({
    providers: now => [
      new RemoteProvider('p', now, n => (n === 0 ? { type: 'swallow' } : { type: 'work', ms: 60_000 })),
    ],
  })
  try {
    await world.start()
    const [p] = world.providers
    if (!p) throw new Error('nobody there')
    p.find = async () => ({ type: 'none' })
    const { id } = await world.create({ a: [] })
    await world.settle(() => p.jobs.length === 2)
    await world.settle(() => false, 2_000)
    const token = p.jobs[0]?.token ?? ''
    expect(await world.process.registry.hint(token, { job: token })).toBe(true)
    const heard = await world.process.registry.run(id)
    expect(heard?.steps[0]).toMatchObject({ status: 'running', attempt: { no: 2 } })
    const run = await world.finish(id)
    expect([run.status, p.jobs.length, spent(run.steps).usd]).toEqual(['succeeded', 2, 0.1])
    expect(run.steps[0]?.attempts[0]?.lateResult).toMatchObject({ outputs: [{ mime: 'image/png' }], error: null })
    expect([world.faults, p.jobs.map(job => job.canceled)]).toEqual([[], [false, false]])
  } finally {
    await world.close()
  }
})
