/** What a resumed run may change. The catalogue is the real one. */
import { describe, expect, test } from 'bun:test'
import { CHAINS, plan } from '../../src/core/chain.ts'
import { fork } from '../../src/core/machine.ts'
import { revise } from '../../src/core/revise.ts'
import { newRun, type Run, type Step } from '../../src/core/run.ts'
import { createCatalog } from '../../src/models/catalog.ts'
import seed from '../fixtures/seed.request.json'

const catalog = createCatalog({ providerModels: {} })

/** A failed run of the seed whose first step succeeded, forked. The second one may have left a job at its provider. */
function forked(fromStepKey?: string, left: { attempts?: Step['attempts'] } = {}): Run {
  const [chain] = CHAINS
  const planned = chain && plan(chain, seed.input, catalog)
  if (!chain || !planned?.ok) throw new Error('the seed is wrong')
  const { run } = newRun({
    ...{ id: 'run', stepIds: ['one', 'two'], slug: 'chain101', chain, mode: 'byok', input: seed.input, metadata: {} },
    ...{ callback: null, apiKeyId: 'key', providerOrder: {}, maxCostUsd: null, steps: planned.steps, at: 1 },
  })
  const output = { mediaId: 'm', mime: 'image/png', bytes: 1, sha256: '0', width: 8, height: 8, durationMs: null }
  const steps = run.steps.map(
    (step, i): Step => ({
      ...step,
      ...(i === 0
        ? { status: 'succeeded', outputs: [output as never] }
        : { status: 'failed', error: { code: 'content_rejected' } as never, ...left }),
    }),
  )
  const order = { id: 'next', stepIds: ['three', 'four'], at: 2, ...(fromStepKey ? { fromStepKey } : {}) }
  const made = fork({ ...run, status: 'failed', steps }, order)
  if (!made.ok) throw new Error(made.reason)
  return made.run
}

test('without changes the run stays as it is', () => {
  const run = forked()
  expect(revise(run, {}, catalog)).toEqual({ ok: true, run })
})

test('a changed step has its own parameters, pictures and deadline anew, and the others are untouched', () => {
  const run = forked()
  const params = { prompt: 'it turns', duration: 5 }
  const changes = { chain_models: { image_to_video_model: 'bfl/flux-3-video' }, image_to_video_params: params }
  const made = revise(run, changes, catalog)
  if (!made.ok) throw new Error(JSON.stringify(made.problems))
  expect(made.run.steps[0]).toEqual(run.steps[0] as Step)
  expect(made.run.steps[1]).toMatchObject({ id: 'four', index: 1, status: 'queued', model: 'bfl/flux-3-video', params })
  expect(made.run.input.text_to_image_params).toEqual(seed.input.text_to_image_params)
  expect(run.input).toEqual(seed.input)
})

test('parameters of the old model are told when only the model changes', () => {
  const made = revise(forked(), { chain_models: { image_to_video_model: 'bfl/flux-3-video' } }, catalog)
  expect(made.ok ? [] : made.problems.map(({ pointer }) => pointer)).toContain('/input/image_to_video_params/content')
})

describe('a step that goes on with a job of the run before', () => {
  const left = {
    no: 1,
    token: 't',
    provider: 'p',
    jobRef: 'j',
    outcome: 'failed',
    error: { code: 'output_fetch_failed' },
  }
  const taken = (): Run => forked(undefined, { attempts: [left as never] })
  const { image_to_video_params: params } = seed.input

  test('does so when it is given what it has, in whatever order', () => {
    expect(taken().steps[1]).toMatchObject({ status: 'running', attempt: { jobRef: 'j' } })
    expect(revise(taken(), {}, catalog)).toEqual({ ok: true, run: taken() })
    const turned = Object.fromEntries(Object.entries(params).toReversed())
    const made = revise(taken(), { image_to_video_params: turned }, catalog)
    expect(made.ok && made.run.steps).toEqual(taken().steps as Step[])
  })

  test('is done anew where that is wanted', () => {
    const made = revise(taken(), {}, catalog, ['image_to_video'])
    if (!made.ok) throw new Error(JSON.stringify(made.problems))
    expect(made.run.steps).toEqual(forked().steps as Step[])
  })

  test('is done anew when only its model changes', () => {
    const changes = { chain_models: { image_to_video_model: 'bytedance/seedance-1-pro' } }
    const made = revise(taken(), changes, catalog)
    if (!made.ok) throw new Error(JSON.stringify(made.problems))
    const model = 'bytedance/seedance-1-pro'
    expect(made.run.steps[1]).toMatchObject({ status: 'queued', model, params, attempts: [] })
  })

  test('is done anew when it changes', () => {
    const made = revise(taken(), { image_to_video_params: { ...params, duration: 7 } }, catalog)
    if (!made.ok) throw new Error(JSON.stringify(made.problems))
    expect(made.run.steps[1]).toEqual({ ...(forked().steps[1] as Step), params: { ...params, duration: 7 } })
  })
})

test('what is kept changes only when it is done again', () => {
  const changes = { text_to_image_params: { prompt: 'a swan' } }
  const kept = revise(forked(), changes, catalog)
  expect(kept.ok ? [] : kept.problems).toMatchObject([{ pointer: '/input/text_to_image_params', code: 'step_is_kept' }])
  expect(revise(forked('text_to_image'), changes, catalog).ok).toBe(true)
})
