/** How runs and events are shown that hardly ever come: what came late, what a resume began with. */
import { expect, test } from 'bun:test'
import { stepError } from '../../../src/core/errors.ts'
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

test('the first event of a resumed run names the run that it resumed', () => {
  const event = { seq: 1, at: T0, type: 'run.created', stepKey: null, data: { resumedFrom: 'run-before' } } as const
  expect(presentEvent(event, 'run-after', view)).toEqual({
    ...{ seq: 1, type: 'run.created', at: iso(T0), run_id: 'run-after', step_key: null },
    data: { resumed_from: 'run-before' },
  })
})
