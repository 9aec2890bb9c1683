/** A submit that nobody can tell of, as its caller sees it: who cancels it, and who resumes the run after it. */
import { afterAll, beforeAll, expect, test } from 'bun:test'
import { stepError } from '../../src/core/errors.ts'
import type { RunDto } from '../../src/http/dto.ts'
import seed from '../fixtures/seed.request.json'
import { HttpWorld } from '../support/http-world.ts'

let world: HttpWorld
beforeAll(async () => {
  world = await HttpWorld.open()
})
afterAll(() => world.close())

/** A run whose first submit loses its answer, and what was done while that was on the wire. Its provider cannot be asked for the job. */
async function lost(meanwhile: (runId: string) => Promise<void> = async () => {}): Promise<RunDto> {
  const { provider } = world
  const { start } = provider
  provider.start = async job => {
    provider.start = start
    await start.call(provider, job)
    await meanwhile(job.runId)
    return { type: 'unknown', error: stepError('network_error', 'the connection was cut') }
  }
  const id = await world.run(seed)
  await world.runToEnd(id)
  return world.json<RunDto>('GET', `/api/v1/runs/${id}`)
}

async function expectDoubt({ id }: RunDto): Promise<void> {
  const submits = world.provider.started.length
  const refused = await world.ask('POST', `/api/v1/runs/${id}/resume`)
  expect([refused.status, await refused.json()]).toEqual([
    409,
    expect.objectContaining({
      code: 'not_resumable',
      detail: `The run ${id} cannot be resumed: nobody can say whether studio took the job of text_to_image, and another may be paid twice.`,
      hint: expect.stringContaining('"from_step_key": "text_to_image"'),
    }),
  ])
  expect(world.provider.started).toHaveLength(submits)
  const again = await world.json<RunDto>('POST', `/api/v1/runs/${id}/resume`, {
    body: { from_step_key: 'text_to_image' },
  })
  expect((await world.runToEnd(again.id)).status).toBe('succeeded')
}

const UNKNOWN = { code: 'outcome_unknown', hint: expect.stringContaining('from_step_key') }

test('a cancel is stored, the run ends as canceled, and its step says that the job may be there and what to do', async () => {
  const run = await lost(async id => {
    expect((await world.ask('POST', `/api/v1/runs/${id}/cancel`)).status).toBe(202)
  })
  expect(run).toMatchObject({ status: 'canceled', error: null, cost: { basis: 'upper_bound' } })
  expect(run.steps[0]).toMatchObject({ error: UNKNOWN, attempts: [{ outcome: 'unknown', error: UNKNOWN }] })
  await expectDoubt(run)
})

test('a run that failed of it is resumed by who names the step, too', async () => {
  const run = await lost()
  expect(run).toMatchObject({ status: 'failed', error: UNKNOWN })
  await expectDoubt(run)
})
