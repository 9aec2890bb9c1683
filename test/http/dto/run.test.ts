/** How runs and events are shown that hardly ever come: what came late, what a resume began with. */
import { expect, test } from 'bun:test'
import { stepError } from '../../../src/core/errors.ts'
import type { RunEvent } from '../../../src/core/run.ts'
import { presentCallback } from '../../../src/http/dto/callback.ts'
import { presentEvent, presentRun } from '../../../src/http/dto/run.ts'
import { attempt, output, queuedRun, runAt, T0 } from '../../support/store-runs.ts'

const view = { link: (id: string) => `link:${id}` }
const iso = (at: number) => new Date(at).toISOString().replace('Z', '+00:00')

test('what a provider gave late is shown with its attempt, its files and what went wrong with the others', () => {
  const film = output({ mime: 'video/mp4', seconds: 5, width: undefined, height: undefined } as object)
  const error = stepError('output_invalid', 'the second file is a web page')
  const late = attempt(1, { outcome: 'unknown', lateResult: { at: T0 + 7, outputs: [film], error } })
  const next = attempt(2, { provider: 'fal', outcome: 'failed', endedAt: T0 + 9, error })
  const [step] = presentRun(runAt(queuedRun(), 0, { status: 'succeeded', outputs: [film] }, [late, next]), view).steps
  const { mediaId, bytes, sha256 } = film
  const shown = {
    media_id: mediaId,
    url: `link:${mediaId}`,
    mime: 'video/mp4',
    bytes,
    sha256,
    seconds: 5,
    available: true,
  }
  const { code, blame, retryable, message, hint } = error
  expect(step?.attempts[0]?.late_result).toEqual({
    ...{ at: iso(T0 + 7), outputs: [shown] },
    error: { code, blame, retryable, message, hint },
  })
  expect(step?.attempts[1]).not.toHaveProperty('late_result')
  // Who gave what the step has: not who was asked last.
  expect(step?.provider_used).toBe('bfl')
  const without = { ...late, lateResult: { at: T0 + 7, outputs: [], error: null } }
  const [failed] = presentRun(runAt(queuedRun(), 0, { status: 'failed', error }, [without, next]), view).steps
  expect([failed?.attempts[0]?.late_result?.error, failed?.provider_used]).toEqual([null, 'fal'])
})

test('an event shows all that it has, and nothing that it has not', () => {
  const picture = output()
  const error = stepError('provider_overloaded', 'busy')
  const told = { attempt: 2, provider: 'bfl', providerModel: 'flux', progress: 0, retryAt: T0 + 9 }
  const event = {
    seq: 3,
    at: T0,
    type: 'step.waiting',
    stepKey: 'a',
    data: { ...told, error, outputs: [picture] },
  } as const
  const { data } = presentEvent(event as unknown as RunEvent, 'run', view)
  expect(data).toMatchObject({ error: { code: error.code }, outputs: [{ media_id: picture.mediaId }] })
  const { error: _, outputs: __, ...rest } = data
  expect(rest).toEqual({ attempt: 2, provider: 'bfl', provider_model: 'flux', progress: 0, retry_at: iso(T0 + 9) })
  expect(presentEvent({ ...event, data: {} } as unknown as RunEvent, 'run', view).data).toEqual({})
})

test('a step that cannot be kept yet says why', () => {
  const error = stepError('storage_unavailable', 'the bucket takes nothing')
  const trouble = { tries: 0, refreshes: 0, waits: 2, isStale: false, kept: [], error }
  const keeping = { status: 'keeping', attempt: attempt(1), media: [], keepAt: T0 + 9, trouble } as const
  const [step] = presentRun(runAt(queuedRun(), 0, keeping, []), view).steps
  expect(step).toMatchObject({ status: 'running', phase: 'keeping', error: { code: 'storage_unavailable' } })
  const [calm] = presentRun(runAt(queuedRun(), 0, { ...keeping, trouble: null }, []), view).steps
  expect([calm?.phase, calm?.error]).toEqual(['keeping', null])
})

test('a callback is whole up to sixty-four kibibytes, and says from the next byte on that it is not', () => {
  const ended = (text: string) =>
    runAt(queuedRun({ input: { text } }), 0, { status: 'succeeded', outputs: [output()] }, [])
  const sizeOf = (text: string) => {
    const { body } = presentCallback(ended(text), { ...view, runUrl: 'https://x.test/run' })
    const { data } = JSON.parse(new TextDecoder().decode(body)) as { data: { truncated?: true; input?: object } }
    return { bytes: body.length, isWhole: data.truncated === undefined && data.input !== undefined }
  }
  const room = 65_536 - sizeOf('').bytes
  expect(sizeOf('x'.repeat(room))).toEqual({ bytes: 65_536, isWhole: true })
  const short = sizeOf('x'.repeat(room + 1))
  expect([short.isWhole, short.bytes <= 65_536]).toEqual([false, true])
})

test('a callback says how long its run took, from its acceptance to its end', () => {
  const run = runAt(queuedRun(), 0, { status: 'succeeded', outputs: [output()] }, [attempt(1)])
  const { body } = presentCallback({ ...run, updatedAt: run.createdAt + 5_000 }, { ...view, runUrl: '' })
  expect(JSON.parse(new TextDecoder().decode(body))).toMatchObject({
    data: { backend_metadata: { duration_ms: 5_000 } },
  })
})

test('the first event of a resumed run names the run that it resumed', () => {
  const event = { seq: 1, at: T0, type: 'run.created', stepKey: null, data: { resumedFrom: 'run-before' } } as const
  expect(presentEvent(event, 'run-after', view)).toEqual({
    ...{ seq: 1, type: 'run.created', at: iso(T0), run_id: 'run-after', step_key: null },
    data: { resumed_from: 'run-before' },
  })
})
