/** The part of the Store's contract about runs: creating, committing, and getting the very run back. */
import { expect, test } from 'bun:test'
import fc from 'fast-check'
import { type Idempotency, RevisionConflict } from '../../src/core/ports.ts'
import { assertRun, type Run } from '../../src/core/run.ts'
import {
  anyRun,
  attempt,
  cancelTurn,
  chainOf,
  creation,
  deliveryOf,
  everyState,
  failedAttempt,
  inState,
  leap,
  nextId,
  output,
  queuedRun,
  runAt,
  T0,
  turn,
} from '../support/store-runs.ts'
import type { Subject } from './store.contract.ts'

export function runsContract(subject: Subject): void {
  creating(subject)
  committing(subject)
  rehydrating(subject)

  test('a callback token finds its run and step, while the attempt lives and after', async () => {
    const { store } = subject
    const queued = queuedRun()
    await store.create(creation(queued))
    const live = attempt(1)
    const found = { runId: queued.id, stepId: queued.steps[0]!.id, attemptNo: 1, provider: 'bfl' }
    expect(await store.attemptByToken(live.token)).toBeNull()
    const run = await saved(
      subject,
      leap(queued, runAt(queued, 0, { status: 'submitting', attempt: live, lookup: null }, [])),
    )
    expect(await store.attemptByToken(live.token)).toEqual(found)
    const over = { ...live, outcome: 'canceled' as const, endedAt: T0 + 9 }
    const stopped = { ...inState(run.steps[0]!, { status: 'canceled' }), attempts: [over], completedAt: T0 + 9 }
    await saved(subject, turn(run, { steps: { 0: stopped } }))
    expect(await store.attemptByToken(live.token)).toEqual(found)
    expect(await store.attemptByToken('nobody')).toBeNull()
  })

  test('a callback token names the step that its attempt is of', async () => {
    const { store } = subject
    const queued = queuedRun()
    await store.create(creation(queued))
    const live = attempt(1)
    await store.commit(leap(queued, runAt(queued, 1, { status: 'submitting', attempt: live, lookup: null }, [])))
    expect((await store.attemptByToken(live.token))?.stepId).toBe(queued.steps[1]!.id)
  })

  test('a submit that was noted may have been sent, and one that was not surely was not', async () => {
    const intents = [attempt(1), attempt(1)] as const
    for (const live of intents) {
      const queued = queuedRun()
      await subject.store.create(creation(queued))
      const run = runAt(queued, 0, { status: 'submitting', attempt: live, lookup: null }, [])
      await subject.store.commit(leap(queued, run))
    }
    await subject.store.noteSubmit(intents[0].token)
    const store = await subject.reopen()
    expect(await Promise.all(intents.map(live => store.isUnsent(live.token)))).toEqual([false, true])
  })

  test('the token of a step that a resumed run took over still belongs to the first run', async () => {
    const { store } = subject
    const first = queuedRun()
    await store.create(creation(first))
    const past = attempt(1, { outcome: 'succeeded', endedAt: T0 })
    const done = runAt(first, 0, { status: 'succeeded', outputs: [output()] }, [past])
    await store.commit(leap(first, done))
    const second: Run = {
      ...done,
      id: nextId(),
      resumedFrom: first.id,
      steps: done.steps.map((step, i) => ({ ...step, id: nextId(), inherited: i === 0 })),
    }
    await store.create(creation(second))
    expect(await store.run(second.id)).toEqual(second)
    expect((await store.attemptByToken(past.token))?.runId).toBe(first.id)
  })
}

function creating(subject: Subject): void {
  const idempotency = (more: Partial<Idempotency> = {}): Idempotency => ({
    key: 'key_a POST /api/v1/chains/line/runs abc',
    fingerprint: 'f'.repeat(64),
    response: '{"id":"first"}',
    ...more,
  })

  test('a new run comes back as it was, with its event, also after a restart', async () => {
    const run = queuedRun({ metadata: { order: '17', clé: 'é🪶' } })
    const commit = creation(run)
    expect(await subject.store.create(commit)).toEqual({ type: 'created' })
    for (const store of [async () => subject.store, subject.reopen]) {
      expect(await (await store()).run(run.id)).toEqual(run)
      expect(await subject.store.events(run.id, 0, 10)).toEqual([...commit.events])
    }
    expect(await subject.store.run(nextId())).toBeNull()
  })

  test('the same key and request replays the first answer and makes nothing', async () => {
    const { store } = subject
    const [first, second] = [queuedRun(), queuedRun()]
    await store.create(creation(first, { idempotency: idempotency() }))
    const repeat = idempotency({ response: '{"id":"second"}' })
    const again = await store.create(creation(second, { idempotency: repeat, delivery: deliveryOf(second) }))
    expect(again).toEqual({ type: 'replayed', runId: first.id, response: '{"id":"first"}' })
    expect((await store.counts()).deliveries.pending).toBe(0)
    expect(await store.run(second.id)).toBeNull()
    expect((await store.counts()).runs.queued).toBe(1)
  })

  test('the same key with another request names the run that has it', async () => {
    const { store } = subject
    const first = queuedRun()
    await store.create(creation(first, { idempotency: idempotency() }))
    const other = idempotency({ fingerprint: '0'.repeat(64) })
    expect(await store.create(creation(queuedRun(), { idempotency: other }))).toEqual({
      type: 'reused',
      runId: first.id,
    })
    expect((await store.counts()).runs.queued).toBe(1)
  })

  test('fifty creates at once with one key make one run', async () => {
    const { store } = subject
    const runs = Array.from({ length: 50 }, () => queuedRun())
    const all = await Promise.all(runs.map(run => store.create(creation(run, { idempotency: idempotency() }))))
    const [made] = runs.filter((_, i) => all[i]?.type === 'created')
    expect(all.filter(created => created.type === 'created')).toHaveLength(1)
    expect(all.filter(created => created.type === 'replayed' && created.runId === made?.id)).toHaveLength(49)
    expect((await store.counts()).runs.queued).toBe(1)
  })

  test('a key can be looked up without writing', async () => {
    const first = queuedRun()
    const { key, fingerprint } = idempotency()
    expect(await subject.store.replay(key, fingerprint)).toBeNull()
    await subject.store.create(creation(first, { idempotency: idempotency() }))
    const store = await subject.reopen()
    expect(await store.replay(key, fingerprint)).toEqual({
      type: 'replayed',
      runId: first.id,
      response: '{"id":"first"}',
    })
    expect(await store.replay(key, 'other')).toEqual({ type: 'reused', runId: first.id })
    expect(await store.replay('another key', fingerprint)).toBeNull()
  })

  test('a refused create leaves nothing, its idempotency key neither', async () => {
    const { store } = subject
    const run = queuedRun()
    await store.create(creation(run))
    await expect(store.create(creation(run, { idempotency: idempotency() }))).rejects.toThrow()
    expect(await store.replay(idempotency().key, idempotency().fingerprint)).toBeNull()
    expect(await store.events(run.id, 0, 10)).toHaveLength(1)
  })

  test('runs keep the chain that they were created with, whatever the template becomes', async () => {
    const { store } = subject
    const old = queuedRun({ chain: chainOf('line', 2) })
    const changed = { ...chainOf('line', 2), title: 'the same date, another text' }
    const renewed = queuedRun({ chain: changed })
    for (const run of [old, renewed]) await store.create(creation(run))
    expect((await store.run(old.id))?.chain).toEqual(chainOf('line', 2))
    expect((await store.run(renewed.id))?.chain).toEqual(changed)
  })
}

function committing(subject: Subject): void {
  test('a commit onto another revision is refused and leaves no trace', async () => {
    const { store } = subject
    const run = queuedRun()
    await store.create(creation(run))
    const first = turn(run, { run: { status: 'running' }, events: [{ type: 'step.progressed' }] })
    await store.commit(first)
    const late = cancelTurn(run, deliveryOf(run))
    await expect(store.commit(late)).rejects.toThrow(RevisionConflict)
    expect(await store.run(run.id)).toEqual(first.run)
    expect(await store.events(run.id, 0, 10)).toHaveLength(2)
    expect(await store.deliveriesOf(run.id)).toEqual([])
    await expect(store.commit(cancelTurn(queuedRun()))).rejects.toThrow(RevisionConflict)
  })

  test('of twenty commits at once onto one revision exactly one is made', async () => {
    const { store } = subject
    const run = queuedRun()
    await store.create(creation(run))
    const commits = Array.from({ length: 20 }, (_, n) =>
      turn(run, { at: T0 + 1 + n, events: [{ type: 'step.progressed' }] }),
    )
    const results = await Promise.allSettled(commits.map(commit => store.commit(commit)))
    const made = commits.filter((_, i) => results[i]?.status === 'fulfilled')
    expect(made).toHaveLength(1)
    expect(results.filter(each => each.status === 'rejected' && each.reason instanceof RevisionConflict)).toHaveLength(
      19,
    )
    expect(await store.run(run.id)).toEqual(made[0]!.run)
  })

  test('a commit that fails takes nothing from those that share its moment', async () => {
    const { store } = subject
    const runs = Array.from({ length: 9 }, () => queuedRun())
    for (const run of runs) await store.create(creation(run))
    const commits = runs.map((run, i) => ({ ...cancelTurn(run, deliveryOf(run)), expected: i % 3 === 0 ? 7 : 0 }))
    const results = await Promise.allSettled(commits.map(commit => store.commit(commit)))
    expect(results.map(each => each.status === 'fulfilled')).toEqual(runs.map((_, i) => i % 3 !== 0))
    for (const [i, run] of runs.entries()) {
      expect(await store.run(run.id)).toEqual(i % 3 === 0 ? run : commits[i]!.run)
      expect(await store.deliveriesOf(run.id)).toHaveLength(i % 3 === 0 ? 0 : 1)
    }
  })

  test('only the named steps are written', async () => {
    const { store } = subject
    const run = queuedRun()
    await store.create(creation(run))
    const commit = turn(run, { run: { status: 'running' }, steps: { 0: { ...run.steps[0]!, startedAt: T0 + 7 } } })
    const unsaid = { ...commit.run, steps: commit.run.steps.map(step => ({ ...step, startedAt: T0 + 7 })) }
    await store.commit({ ...commit, run: unsaid })
    expect((await store.run(run.id))?.steps.map(step => step.startedAt)).toEqual([T0 + 7, null])
  })

  test('one commit may hold several transitions: the revision may rise by more than one, never stay', async () => {
    const { store } = subject
    const run = queuedRun()
    await store.create(creation(run))
    const leapt = turn(run, {
      run: { revision: 4 },
      events: [{ type: 'step.progressed' }, { type: 'step.progressed' }],
    })
    await store.commit(leapt)
    expect(await store.run(run.id)).toEqual(leapt.run)
    await expect(store.commit(turn(leapt.run, { run: { revision: 4 } }))).rejects.toThrow()
  })

  test('a log with a hole or a repeat is refused', async () => {
    const { store } = subject
    const run = queuedRun()
    await store.create(creation(run))
    const good = turn(run, { events: [{ type: 'step.progressed' }] })
    for (const [seq, lastSeq] of [
      [1, 1],
      [3, 3],
      [3, 2],
      [2, 3],
    ] as const) {
      const events = good.events.map(event => ({ ...event, seq }))
      await expect(store.commit({ ...good, run: { ...good.run, lastSeq }, events })).rejects.toThrow()
    }
    expect(await store.run(run.id)).toEqual(run)
  })

  test('a run that goes on must have a wake time, and one that has ended none', async () => {
    const { store } = subject
    const run = queuedRun()
    await store.create(creation(run))
    await expect(store.commit(turn(run, { run: { status: 'running' }, wakeAt: null }))).rejects.toThrow()
    await expect(store.commit({ ...cancelTurn(run), wakeAt: T0 })).rejects.toThrow()
    expect(await store.run(run.id)).toEqual(run)
  })
}

function rehydrating(subject: Subject): void {
  for (const [i, { name }] of everyState().entries()) {
    test(`a run with a step that is ${name} comes back as the very run`, async () => {
      for (const at of [0, 1]) {
        const { queued, run } = stateOfRun(i, at)
        await subject.store.create(creation(queued))
        const commit = leap(queued, run)
        assertRun(commit.run)
        await subject.store.commit(commit)
        expect(await subject.store.run(queued.id)).toEqual(commit.run)
        expect(await (await subject.reopen()).run(queued.id)).toEqual(commit.run)
      }
    })
  }

  test('any run comes back as the very run, committed or created', async () => {
    await fc.assert(
      fc.asyncProperty(anyRun(), async ({ queued, run }) => {
        const { store } = subject
        assertRun(run)
        await store.create(creation(queued))
        const commit = leap(queued, run)
        await store.commit(commit)
        expect(await store.run(queued.id)).toEqual(commit.run)
        if (commit.wakeAt === null) return
        const copy: Run = { ...commit.run, id: nextId(), steps: commit.run.steps.map(renamed) }
        await store.create(creation(copy))
        expect(await store.run(copy.id)).toEqual(copy)
      }),
      { numRuns: 60 },
    )
  })

  test('attempts may be many, and change after their end', async () => {
    const { store } = subject
    const queued = queuedRun()
    await store.create(creation(queued))
    const many = Array.from({ length: 200 }, (_, n) => failedAttempt(n + 1))
    const error = many[0]!.error!
    const run = await saved(subject, leap(queued, runAt(queued, 0, { status: 'waiting', retryAt: T0, error }, many)))
    const late = many.map(each => (each.no === 3 ? { ...each, cost: { ...each.cost, actualUsd: 0.07 } } : each))
    await saved(subject, turn(run, { steps: { 0: { ...run.steps[0]!, attempts: late } } }))
  })

  test('an input of a megabyte comes back byte for byte', async () => {
    const prompt = 'π"\\\n'.repeat(180_000)
    const run = queuedRun({ input: { chain_models: {}, step_0_params: { prompt } } })
    await subject.store.create(creation(run))
    expect((await subject.store.run(run.id))?.input).toEqual(run.input)
  })
}

function stateOfRun(i: number, at: number): { queued: Run; run: Run } {
  const queued = queuedRun({ steps: 3 })
  const chosen = everyState()[i]
  if (!chosen) throw new Error('no such state')
  return { queued, run: runAt(queued, at, chosen.state, chosen.attempts) }
}

/** The same step as one of another run: its own id, and tokens of its own. */
function renamed(step: Run['steps'][number]): Run['steps'][number] {
  const fresh = <T extends { token: string }>(each: T): T => ({ ...each, token: `token-${nextId()}` })
  const copy = { ...step, id: nextId(), attempts: step.attempts.map(fresh) }
  return 'attempt' in copy ? { ...copy, attempt: fresh(copy.attempt) } : copy
}

/** Commits, and gives the run as the store then has it, which must be the one that was committed. */
async function saved(subject: Subject, commit: ReturnType<typeof turn>): Promise<Run> {
  await subject.store.commit(commit)
  expect(await subject.store.run(commit.run.id)).toEqual(commit.run)
  return commit.run
}
