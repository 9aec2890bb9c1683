/** The copy of a paid output: what is waited for, what is asked for afresh, and what a resumed run takes over. */
import { describe, expect, test } from 'bun:test'
import { type ErrorCode, stepError } from '../../src/core/errors.ts'
import type { KeepFault } from '../../src/core/events.ts'
import { fork, resume, timerAt, wakeAt } from '../../src/core/machine.ts'
import { assertRun, type Output, type Run, type Step, spent } from '../../src/core/run.ts'
import { LINE, runOf, uuid } from '../support/runs.ts'
import { type Told, tellFirst } from '../support/told.ts'

const OUTPUT: Output = { mediaId: uuid(9), mime: 'image/png', bytes: 3, sha256: 'ab', location: 'ab/9.png' }
const ROUTED = {
  ...{ type: 'step.routed', provider: 'p', providerModel: 'm', token: 't', adjustments: [] },
  cost: { estimatedUsd: 1, actualUsd: null, basis: 'listed' },
}
const SUBMITTED = { type: 'step.submitted', jobRef: { id: 1 }, pollAt: 0 }
const DONE = { type: 'job.succeeded', media: [{ url: 'https://x.example/1' }], costUsd: 0.9 }
const KEPT = { type: 'media.kept', outputs: [OUTPUT] }
const WOKE = { type: 'run.woke' }
const failed = (fault: KeepFault, code: ErrorCode = 'output_fetch_failed', outputs: readonly Output[] = []) => ({
  ...{ type: 'media.keep_failed', fault, outputs },
  error: stepError(code, `it is ${fault}`),
})

const stepOf = (run: Run): Step => run.steps[0] as Step

/** By default when the run next wakes. */
const tell = (run: Run, said: object, at = Math.max(run.updatedAt, timerAt(run) ?? 0)) => tellFirst(run, said, at)
const after = (run: Run, ...said: readonly object[]): Run =>
  said.reduce<Run>((now, each) => tell(now, each, each === WOKE ? undefined : now.updatedAt).run, run)

const keeping = (graph = LINE): Run => after(runOf(graph), ROUTED, SUBMITTED, DONE)
const synchronous = (): Run => after(runOf({ a: [] }), ROUTED, DONE)

/** Answers every copy and every question with the same until the step is over; gives the orders, and how long it took in seconds. */
function persist(begun: Run, copy: object, answer: object = DONE): Told & { s: number } {
  const all = ['keep']
  let run = begun
  while (stepOf(run).status === 'keeping') {
    const told = tell(run, all.at(-1) === 'poll' ? answer : copy, run.updatedAt)
    const next = told.orders.length > 0 || stepOf(told.run).status !== 'keeping' ? told : tell(told.run, WOKE)
    all.push(...next.orders)
    run = next.run
  }
  return { run, orders: all, s: (run.updatedAt - begun.updatedAt) / 1_000 }
}

describe('a host that does not answer', () => {
  test('is asked again, at most a minute later each time, until the run has no time left', () => {
    const { run, orders } = persist(keeping(), failed('away'))
    expect(run.updatedAt).toBe(run.deadlineAt)
    expect(orders.filter(order => order === 'keep').length).toBeGreaterThan(1_400)
    expect(run.error).toMatchObject({ code: 'deadline_exceeded', message: expect.stringContaining('last: it is away') })
  })

  test('uses up neither the downloads nor the links that may still fail', () => {
    const waited = after(keeping(), ...Array.from({ length: 20 }, () => failed('away')))
    expect(stepOf(waited)).toMatchObject({ trouble: { tries: 0, refreshes: 0, waits: 20 } })
    const { run } = tell(after(waited, WOKE), KEPT)
    expect(stepOf(run).status).toBe('succeeded')
  })
})

describe('a dead link', () => {
  test('is refreshed at once, then ever more rarely over some minutes, and then it is the end', () => {
    const { run, orders, s } = persist(keeping(), failed('dead'))
    expect(orders.slice(0, 4)).toEqual(['keep', 'poll', 'keep', 'poll'])
    expect(orders.filter(order => order === 'poll')).toHaveLength(10)
    expect(s).toBeWithin(120, 300)
    expect(run.error).toMatchObject({
      code: 'output_fetch_failed',
      hint: expect.stringContaining('the output is fetched once more'),
    })
  })

  test('of a job that nobody can be asked for is opened as often', () => {
    const { run, orders, s } = persist(synchronous(), failed('dead'))
    expect([new Set(orders), run.error?.code]).toEqual([new Set(['keep']), 'output_fetch_failed'])
    expect(s).toBeWithin(120, 300)
  })

  test('is not given up while the provider cannot be asked for another', () => {
    const away = { type: 'job.unreachable', error: stepError('network_error', 'nobody'), pollAt: 0 }
    const { run } = persist(keeping(), failed('dead'), away)
    expect([run.error?.code, run.updatedAt]).toEqual(['deadline_exceeded', run.deadlineAt])
  })

  test('whose job no longer names an output ends within minutes', () => {
    const gone = { type: 'job.failed', error: stepError('provider_lost', 'no such job') }
    const { run, s } = persist(keeping(), failed('dead'), gone)
    expect(run.error).toMatchObject({ code: 'output_fetch_failed', message: expect.stringContaining('no such job') })
    expect(s).toBeWithin(120, 300)
  })

  test('is asked for afresh after a crash, too', () => {
    const slept = after(keeping(), failed('dead'), DONE, failed('dead'))
    expect(resume(slept).map(({ type }) => type)).toEqual(['poll'])
  })
})

describe('a web page in place of the output', () => {
  test('is fetched a few times more, the last time by a fresh link', () => {
    const { run, orders, s } = persist(keeping(), failed('spoiled', 'output_invalid'))
    expect(orders.filter(order => order !== 'route')).toEqual(['keep', 'keep', 'keep', 'poll', 'keep'])
    expect(s).toBeLessThanOrEqual(10)
    expect(run.error).toMatchObject({ code: 'output_invalid', retryable: false })
  })

  test('that was the host’s word of a moment costs a second', () => {
    const { run } = tell(after(keeping(), failed('spoiled', 'output_invalid'), WOKE), KEPT)
    expect(stepOf(run).status).toBe('succeeded')
  })

  test('is not fetched again where another download would bring the same', () => {
    expect(persist(keeping(), failed('final', 'output_invalid')).orders.filter(order => order === 'keep')).toHaveLength(
      1,
    )
  })
})

describe('of several outputs', () => {
  test.each(['dead', 'spoiled', 'final'] as const)('the good ones are enough when the others are %s', fault => {
    const { run } = persist(keeping(), failed(fault, 'output_invalid', [OUTPUT]))
    expect(stepOf(run)).toMatchObject({
      status: 'succeeded',
      outputs: [OUTPUT],
      attempts: [{ cost: { actualUsd: 0.9 } }],
    })
  })

  test('the good ones are enough when the time is up, and are not forgotten by a copy that broke off', () => {
    const one = after(keeping(), failed('away', 'output_fetch_failed', [OUTPUT]), WOKE, failed('away'))
    const { run } = tell(one, WOKE, one.deadlineAt + 3_600_000)
    expect(stepOf(run)).toMatchObject({ status: 'succeeded', outputs: [OUTPUT] })
  })
})

describe('a resumed run', () => {
  const again = (run: Run, fromStepKey?: string): Run => {
    const at = run.updatedAt + 60_000
    const stepIds = run.steps.map((_, i) => uuid(71 + i))
    const made = fork(run, { id: uuid(70), stepIds, at, ...(fromStepKey === undefined ? {} : { fromStepKey }) })
    if (!made.ok) throw new Error(made.reason)
    assertRun(made.run)
    return made.run
  }
  const unfetched = (): Run => persist(keeping(), failed('dead')).run
  const timedOut = (): Run => {
    const running = after(runOf(LINE), ROUTED, SUBMITTED)
    return tell(running, { type: 'job.progressed', progress: null, pollAt: 0 }, running.deadlineAt).run
  }
  const canceled = (outcome: string): Run =>
    after(
      ...([runOf(LINE), ROUTED, SUBMITTED, { type: 'run.cancel_requested' }] as const),
      ...(outcome === 'failed'
        ? [{ type: 'job.cancel_settled', outcome }, SUBMITTED_STILL]
        : [{ type: 'job.cancel_settled', outcome }]),
    )
  const SUBMITTED_STILL = { type: 'job.progressed', progress: null, pollAt: 0 }

  test.each([
    ['whose output could not be fetched', unfetched],
    ['that was given up at its deadline', timedOut],
    ['that the provider would not cancel', () => canceled('failed')],
  ] as const)('asks for the job %s, takes its output, and pays nothing for it', (_, ended) => {
    const run = again(ended())
    expect(run.steps.map(step => step.status)).toEqual(['running', 'queued'])
    expect([resume(run), wakeAt(run)]).toEqual([[], run.createdAt])
    const asked = tell(run, WOKE)
    expect(asked.orders).toEqual(['poll'])
    const { run: kept, orders } = tell(after(asked.run, DONE), KEPT)
    expect(stepOf(kept)).toMatchObject({ status: 'succeeded', outputs: [OUTPUT], inherited: false })
    expect([orders, spent([stepOf(kept)])]).toEqual([['route'], { usd: 0, unknown: false }])
  })

  test.each([
    ['is lost', [{ type: 'job.failed', error: stepError('provider_lost', 'no such job'), costUsd: 1 }]],
    ['was canceled', [{ type: 'job.failed', error: stepError('canceled', 'it was canceled') }]],
    ['has no output any more', [{ type: 'job.failed', error: stepError('output_fetch_failed', 'data removed') }]],
    ['names no output', [{ ...DONE, media: [] }]],
  ] as const)('buys another job when the first one %s', (_, answers) => {
    const { run, orders } = tell(after(again(unfetched()), WOKE), answers[0])
    expect([stepOf(run).status, orders]).toEqual(['waiting', ['route']])
    expect(stepOf(after(run, ROUTED))).toMatchObject({ status: 'submitting', attempt: { no: 2, token: 't' } })
    expect(spent([stepOf(run)]).usd).toBe(0)
  })

  test('buys another job when the links of the first one stay dead', () => {
    const { run, orders } = persist(after(again(unfetched()), WOKE, DONE), failed('dead'))
    expect([stepOf(run).status, orders.at(-1)]).toEqual(['waiting', 'route'])
  })

  test('buys none while the provider cannot be asked', () => {
    const away = { type: 'job.unreachable', error: stepError('network_error', 'nobody'), pollAt: 0 }
    const run = after(again(unfetched()), WOKE, away, away)
    expect(stepOf(run).status).toBe('running')
    const late = tell(run, away, run.deadlineAt).run
    expect(late.error?.code).toBe('provider_timeout')
  })

  test.each([
    ['hangs', SUBMITTED_STILL],
    ['cannot be asked for', { type: 'job.unreachable', error: stepError('network_error', 'nobody'), pollAt: 0 }],
  ])(
    'is the only one that waits for a job that %s: the next buys another, which may be asked for again',
    (_, answer) => {
      const begun = after(again(timedOut()), WOKE)
      const asked = tell(begun, answer, begun.deadlineAt).run
      expect(asked).toMatchObject({ status: 'failed', error: { code: 'provider_timeout' } })
      expect(asked.error?.hint).toContain('the next one buys another')
      const bought = again(asked)
      expect(stepOf(bought)).toMatchObject({ status: 'queued', attempts: [] })
      const hung = after(bought, ROUTED, SUBMITTED)
      expect(stepOf(again(tell(hung, SUBMITTED_STILL, hung.deadlineAt).run)).status).toBe('running')
    },
  )

  test('does not buy another job when the copy of the first one breaks off, or may not be made', () => {
    for (const fault of ['spoiled', 'final'] as const) {
      const { run } = persist(after(again(unfetched()), WOKE, DONE), failed(fault))
      expect(stepOf(run)).toMatchObject({ status: 'failed', error: { code: 'output_fetch_failed' } })
      expect(stepOf(again(run)).status).toBe('queued')
    }
  })

  const unstored = (): Run => persist(synchronous(), failed('away', 'storage_unavailable')).run

  test.each([
    ['our storage takes nothing', unstored],
    ['every copy of it breaks off', () => persist(synchronous(), failed('spoiled')).run],
    ['a cancel does not wait for it', () => after(synchronous(), failed('away'), { type: 'run.cancel_requested' })],
  ])('keeps what came with the answer to a submit when %s, and pays nothing for it', (_, ended) => {
    const run = again(ended())
    expect(stepOf(run)).toMatchObject({ status: 'keeping', media: DONE.media, attempt: { jobRef: null } })
    expect([resume(run).map(({ type }) => type), wakeAt(run)]).toEqual([['keep'], run.createdAt])
    const { run: kept } = tell(run, KEPT)
    expect([kept.status, spent(kept.steps)]).toEqual(['succeeded', { usd: 0, unknown: false }])
  })

  test('buys another job when what came with the answer is gone, when the step is named, and the second time', () => {
    const { run, orders } = persist(again(unstored()), failed('dead'))
    expect([stepOf(run).status, orders.at(-1)]).toEqual(['waiting', 'route'])
    expect(stepOf(again(unstored(), 'a')).status).toBe('queued')
    const twice = persist(again(unstored()), failed('away', 'storage_unavailable')).run
    expect(twice.error?.hint).toContain('the next one buys another')
    expect(stepOf(again(twice)).status).toBe('queued')
  })

  test('does not ask for the job of a step whose input is made anew', () => {
    const second = (signal: object) => ({ ...signal, stepId: 'step-b' })
    const film = after(tell(after(keeping()), KEPT).run, second(ROUTED), second(SUBMITTED))
    const late = tell(film, second({ type: 'job.progressed', progress: null, pollAt: 0 }), film.deadlineAt).run
    expect(again(late).steps.map(({ status }) => status)).toEqual(['succeeded', 'running'])
    expect(again(late, 'a').steps.map(({ status }) => status)).toEqual(['queued', 'queued'])
  })

  test('does not buy again what the provider refused meanwhile', () => {
    const refused = { type: 'job.failed', error: stepError('content_rejected', 'no') }
    expect(tell(after(again(timedOut()), WOKE), refused).run.error?.code).toBe('content_rejected')
  })

  test.each([
    ['the step is named', () => again(unfetched(), 'a')],
    ['the job was canceled at the provider', () => again(canceled('confirmed'))],
    ['what came with the answer is gone', () => again(persist(synchronous(), failed('dead')).run)],
    [
      'the call that gave none had no job',
      () =>
        again(
          after(runOf(LINE), ROUTED, SUBMITTED, {
            ...{ type: 'job.failed', error: stepError('output_invalid', 'without a picture'), jobless: true },
          }),
        ),
    ],
    [
      'the job itself failed',
      () =>
        again(
          after(runOf(LINE), ROUTED, SUBMITTED, { type: 'job.failed', error: stepError('content_rejected', 'no') }),
        ),
    ],
  ] as const)('asks for no job when %s', (_, made) => {
    expect(stepOf(made())).toMatchObject({ status: 'queued', attempts: [] })
  })
})
