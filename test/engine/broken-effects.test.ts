/** Effects that throw: a fault is told, and the run goes on, to its deadline at the latest. */
import { afterEach, describe, expect, test } from 'bun:test'
import { type Clock, StorageUnavailable } from '../../src/core/ports.ts'
import type { Step } from '../../src/core/run.ts'
import { type EffectDeps, perform, type Reaching } from '../../src/engine/effects.ts'
import { SqliteStore } from '../../src/store/sqlite/store.ts'
import { runOf, T0 } from '../support/runs.ts'
import { VirtualClock } from '../support/virtual-clock.ts'
import { World } from '../support/world.ts'

describe('a store that cannot say whether a submit was sent', () => {
  let world: World
  const { isUnsent } = SqliteStore.prototype
  afterEach(async () => {
    SqliteStore.prototype.isUnsent = isUnsent
    await world.close()
  })

  /** A run whose process died before or after its submit was sent; the next one asks a store that fails so many times. */
  const restarted = async (death: 'unsent' | 'sent', failures: number, canFind = true): Promise<string> => {
    world = new World()
    const [provider] = world.providers
    if (!provider) throw new Error('no provider')
    const { start } = provider
    provider.canFind = canFind
    provider.start = async job => {
      provider.start = start
      if (death === 'sent') await start.call(provider, job)
      world.process.die()
      return new Promise(() => {})
    }
    await world.start()
    const { id } = await world.create({ a: [] })
    await world.settle()
    expect([world.isDead, provider.jobs.length]).toEqual([true, death === 'sent' ? 1 : 0])
    let left = failures
    SqliteStore.prototype.isUnsent = function (token) {
      left -= 1
      return left < 0 ? isUnsent.call(this, token) : Promise.reject(new StorageUnavailable('the disk does not answer'))
    }
    await world.restart()
    return id
  }
  for (const death of ['unsent', 'sent'] as const)
    test(`once is asked again, about a submit that was ${death}`, async () => {
      const id = await restarted(death, 1)
      expect((await world.finish(id)).status).toBe('succeeded')
      expect(world.providers[0]?.jobs.length).toBe(1)
      expect(world.faults).toContain('find: StorageUnavailable: the disk does not answer')
    })

  test('for a while is waited for, ever more rarely: what was never sent is not given up', async () => {
    const id = await restarted('unsent', 100, false)
    const began = world.clock.now()
    expect((await world.finish(id)).status).toBe('succeeded')
    expect(world.clock.now() - began).toBeGreaterThan(20 * 60_000)
    expect(world.providers[0]?.jobs.length).toBe(1)
  })

  test('ever ends the step at its deadline', async () => {
    const id = await restarted('sent', Number.POSITIVE_INFINITY, false)
    const run = await world.finish(id)
    const [step] = run.steps
    expect(run).toMatchObject({ status: 'failed', error: { code: 'outcome_unknown' } })
    expect(step?.completedAt).toBe((step?.startedAt ?? 0) + (step?.deadlineMs ?? 0))
  })

  test('holds up no stop', async () => {
    await restarted('unsent', Number.POSITIVE_INFINITY)
    await world.settle(() => world.faults.length > 2)
    await world.process.registry.drain()
    const { length } = world.faults
    await world.settle(() => false, 3_600_000)
    expect(world.faults.length).toBe(length)
  })
})

test('what a provider throws is told with the run, the step, the attempt and the provider', async () => {
  const world = new World()
  await world.start()
  const [provider] = world.providers
  if (!provider) throw new Error('no provider')
  const { start } = provider
  /** Throws the first time. */
  const once = <F extends (...given: never[]) => Promise<unknown>>(method: F): F => {
    let calls = 0
    return (async (...given: Parameters<F>) => {
      calls += 1
      if (calls === 1) throw new Error('the provider broke')
      return method.apply(provider, given)
    }) as F
  }
  provider.find = once(provider.find)
  provider.check = once(provider.check)
  provider.open = once(provider.open)
  provider.start = async job => {
    await start.call(provider, job)
    throw new Error('the answer broke')
  }
  const { id } = await world.create({ a: [] })
  const { status, steps } = await world.finish(id)
  expect([status, provider.jobs.length]).toEqual(['succeeded', 1])
  const scope = { runId: id, stepId: steps[0]?.id ?? '', attempt: 1, provider: provider.id }
  expect(world.scopes).toEqual(['submit', 'find', 'poll', 'keep'].map(where => ({ where, ...scope })))
  await world.close()
})

describe('an effect around which everything throws', () => {
  const attempt = {
    ...{ no: 1, provider: 'p', providerModel: 'm', token: 't', startedAt: T0, submittedAt: null, endedAt: null },
    ...{ outcome: 'pending', jobRef: 'job', error: null, adjustments: [], providerCancel: null, reopenAt: null },
    cost: { estimatedUsd: null, actualUsd: null, basis: 'unknown' },
  } as const
  const lookup = { since: T0, askAt: T0, tries: 3, error: { code: 'outcome_unknown' } }
  const states: Record<Reaching['type'], object> = {
    submit: { status: 'submitting', lookup: null },
    find: { status: 'submitting', lookup },
    poll: { status: 'running', pollAt: T0, progress: null },
    cancelJob: { status: 'running', pollAt: T0, progress: null },
    keep: { status: 'keeping', media: [{ url: 'https://p.example/1' }], keepAt: T0, trouble: null },
  }
  const said: Record<Reaching['type'], object> = {
    submit: { type: 'step.submit_unknown', askAt: T0 + 10_000 },
    find: { type: 'step.still_unknown', askAt: T0 + 16_000 },
    poll: { type: 'job.unreachable', pollAt: T0 + 10_000 },
    cancelJob: { type: 'job.cancel_settled', outcome: 'failed' },
    keep: { type: 'media.keep_failed', fault: 'spoiled' },
  }

  for (const type of Object.keys(said) as Reaching['type'][])
    test(`is answered: ${type}`, async () => {
      const faults: string[] = []
      const clock: Clock = new VirtualClock()
      const observer = { fault: (where: string) => faults.push(where) }
      const deps = new Proxy({ clock, observer } as unknown as EffectDeps, {
        get(given, key) {
          if (Reflect.has(given, key)) return Reflect.get(given, key)
          throw new Error(`${String(key)} broke`)
        },
      })
      const run = runOf({ a: [] })
      const live = { run: { ...run, steps: [{ ...run.steps[0], ...states[type], attempt } as Step] } }
      const effect = { type, stepId: 'step-a', attempt: 1, provider: 'p', jobRef: 'job' } as Reaching
      expect(await perform(deps, live, effect, new AbortController().signal)).toMatchObject({
        ...said[type],
        ...{ stepId: 'step-a', attempt: 1, at: T0 },
      })
      expect(faults).toEqual([type])
    })
})
