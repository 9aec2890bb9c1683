/**
 * What every Store must do, said through the port alone: a second Store passes this suite unchanged.
 *
 * 1. Each test opens a store of its own, empty and durable; `reopen` is a restart of the process on the same data.
 * 2. Nothing here knows how a store keeps its rows.
 */
import { afterEach, beforeEach, describe, expect, test } from 'bun:test'
import { StorageUnavailable, type Store, type StoredMedia } from '../../src/core/ports.ts'
import type { Step } from '../../src/core/run.ts'
import {
  attempt,
  cancelTurn,
  creation,
  inState,
  nextId,
  output,
  queuedRun,
  runAt,
  T0,
  turn,
} from '../support/store-runs.ts'
import { deliveriesContract } from './store.contract.deliveries.ts'
import { keysContract } from './store.contract.keys.ts'
import { listContract } from './store.contract.lists.ts'
import { runsContract } from './store.contract.runs.ts'
import { watchContract } from './store.contract.watch.ts'

export interface StoreHarness {
  store: Store
  /** Closes the store and opens the same data again. */
  reopen(): Promise<Store>
  /** Closes the store and forgets the data. */
  dispose(): Promise<void>
}

/** The store of the running test, for the parts of the suite. */
export interface Subject {
  readonly store: Store
  reopen(): Promise<Store>
}

export function storeContract(name: string, open: () => Promise<StoreHarness>): void {
  describe(name, () => {
    let harness: StoreHarness | null = null
    const opened = (): StoreHarness => {
      if (!harness) throw new Error('no store is open')
      return harness
    }
    const subject: Subject = {
      get store() {
        return opened().store
      },
      async reopen() {
        opened().store = await opened().reopen()
        return opened().store
      },
    }
    beforeEach(async () => {
      harness = await open()
    })
    afterEach(async () => {
      await harness?.dispose()
      harness = null
    })
    describe('runs', () => runsContract(subject))
    describe('lists', () => listContract(subject))
    describe('the log', () => watchContract(subject))
    describe('deliveries', () => deliveriesContract(subject))
    describe('keys', () => keysContract(subject))
    describe('media', () => mediaContract(subject))
    describe('secrets, counts and the end', () => upkeepContract(subject))
  })
}

function mediaContract(subject: Subject): void {
  const mediaRow = (more: Partial<StoredMedia> = {}): StoredMedia => ({
    ...{ ...output(), runId: null, stepId: null, apiKeyId: 'key_a', createdAt: T0, location: 'media/ab.png' },
    ...more,
  })

  test('facts of a media come back as they were, with and without size and length', async () => {
    const { store } = subject
    const picture = mediaRow()
    const film = mediaRow({ mime: 'video/mp4', seconds: 3.041 })
    const { width: _w, height: _h, ...bare } = mediaRow()
    for (const row of [picture, film, bare]) await store.addMedia(row)
    for (const row of [picture, film, bare]) expect(await store.media(row.mediaId)).toStrictEqual(row)
    expect(await store.media(nextId())).toBeNull()
  })

  test('the outputs of a step are media with the commit in which it succeeds, and not without it', async () => {
    const { store } = subject
    const run = queuedRun()
    await store.create(creation(run))
    const made = [output(), output({ width: 8 })]
    const after = runAt(run, 0, { status: 'succeeded', outputs: made }, [])
    const step = after.steps[0]!
    const commit = turn(run, { run: { status: 'running' }, steps: { 0: step } })
    await expect(store.commit({ ...commit, expected: 7 })).rejects.toThrow()
    expect(await store.media(made[0]!.mediaId)).toBeNull()
    await store.commit(commit)
    const owner = { runId: run.id, stepId: step.id, apiKeyId: run.apiKeyId, createdAt: step.updatedAt }
    for (const each of made) expect(await store.media(each.mediaId)).toStrictEqual({ ...each, ...owner })
    const stop = turn(commit.run, { run: { status: 'canceled' }, steps: { 1: canceled(commit.run.steps[1]!) } })
    await store.commit({ ...stop, wakeAt: null })
    expect(await store.staleMedia(stop.run.updatedAt + 1, 10)).toHaveLength(2)
  })

  test('what came late is media with its commit, and a later change of its step leaves it as it is', async () => {
    const { store } = subject
    const run = queuedRun()
    await store.create(creation(run))
    const late = output()
    const lateResult = { at: T0 + 5, outputs: [late], error: null }
    const tried = attempt(1, { outcome: 'canceled', endedAt: T0 + 1, lateResult })
    const step = (n: number) => ({ ...canceled(run.steps[0]!), attempts: [tried], updatedAt: T0 + n })
    const first = turn(run, { run: { status: 'running' }, steps: { 0: step(7) } })
    await store.commit(first)
    await store.commit(turn(first.run, { steps: { 0: step(8) } }))
    const owner = { runId: run.id, stepId: run.steps[0]!.id, apiKeyId: run.apiKeyId, createdAt: T0 + 7 }
    expect(await store.media(late.mediaId)).toStrictEqual({ ...late, ...owner })
  })

  test('removed media are gone, the others stay', async () => {
    const { store } = subject
    const rows = [mediaRow(), mediaRow(), mediaRow()]
    for (const row of rows) await store.addMedia(row)
    const [first, second, third] = rows.map(row => row.mediaId)
    expect(await store.removeMedia([first!, second!], T0 + 1)).toEqual([first!, second!])
    expect(await store.removeMedia([third!, first!], T0)).toEqual([])
    expect(await Promise.all(rows.map(async row => (await store.media(row.mediaId)) !== null))).toEqual([
      false,
      false,
      true,
    ])
  })

  test('an upload is stale by its own time, oldest first, in pages', async () => {
    const { store } = subject
    const rows = [3, 1, 2].map(n => mediaRow({ createdAt: T0 + n }))
    for (const row of rows) await store.addMedia(row)
    const stale = async (before: number, limit: number) =>
      (await store.staleMedia(before, limit)).map(row => row.createdAt - T0)
    expect(await stale(T0 + 3, 10)).toEqual([1, 2])
    expect(await stale(T0 + 9, 2)).toEqual([1, 2])
  })

  test('the media of a run are stale by the end of the run, and never while it goes on', async () => {
    const { store } = subject
    const run = queuedRun()
    await store.create(creation(run))
    const early = mediaRow({ runId: run.id })
    await store.addMedia(early)
    expect(await store.staleMedia(Number.MAX_SAFE_INTEGER, 10)).toEqual([])
    const end = cancelTurn(run)
    await store.commit(end)
    const late = mediaRow({ runId: run.id })
    await store.addMedia(late)
    expect(await store.staleMedia(end.run.updatedAt, 10)).toEqual([])
    const stale = await store.staleMedia(end.run.updatedAt + 1, 10)
    expect(new Set(stale.map(row => row.mediaId))).toEqual(new Set([early.mediaId, late.mediaId]))
  })

  test('what a later run reads or took over is not stale before that run has ended too', async () => {
    const { store } = subject
    const upload = mediaRow()
    await store.addMedia(upload)
    const first = queuedRun()
    await store.create(creation(first))
    const made = mediaRow({ runId: first.id })
    await store.addMedia(made)
    const end = cancelTurn(first)
    await store.commit(end)
    const waiting = queuedRun({ at: end.run.updatedAt + 1_000, pictures: [`media:${upload.mediaId}`] })
    const { runId: _, stepId: __, apiKeyId: ___, createdAt: ____, ...inherited } = made
    const second = { ...runAt(waiting, 0, { status: 'succeeded', outputs: [inherited] }, []), resumedFrom: first.id }
    await store.create(creation(second))
    expect(await store.staleMedia(Number.MAX_SAFE_INTEGER, 10)).toEqual([])
    const stop = turn(second, {
      at: second.updatedAt + 1_000,
      run: { status: 'canceled' },
      steps: { 1: { ...waiting.steps[1]!, status: 'canceled', completedAt: T0 } },
      events: [{ type: 'run.canceled' }],
    })
    await store.commit(stop)
    expect(await store.staleMedia(stop.run.updatedAt, 10)).toEqual([])
    expect(await store.staleMedia(stop.run.updatedAt + 1, 10)).toHaveLength(2)
  })
}

function upkeepContract(subject: Subject): void {
  test('counts follow every run and delivery, refused writes left out, and survive a restart', async () => {
    const { store } = subject
    const none = { queued: 0, running: 0, succeeded: 0, failed: 0, canceled: 0 }
    expect(await store.counts()).toEqual({
      runs: none,
      deliveries: { pending: 0, delivered: 0, exhausted: 0, gone: 0 },
      oldestDueAt: null,
    })
    const runs = [0, 1, 2, 3].map(n => queuedRun({ at: T0 + n }))
    for (const run of runs) await store.create(creation(run))
    const [a, b] = runs as [(typeof runs)[0], (typeof runs)[0]]
    const going = turn(a, { run: { status: 'running' }, wakeAt: T0 - 5 })
    await store.commit(going)
    await store.commit(cancelTurn(b))
    await expect(store.commit({ ...cancelTurn(b), expected: 0 })).rejects.toThrow()
    await expect(store.create(creation(a))).rejects.toThrow()
    const after = { runs: { ...none, queued: 2, running: 1, canceled: 1 }, oldestDueAt: T0 - 5 }
    expect(await store.counts()).toMatchObject(after)
    expect(await (await subject.reopen()).counts()).toMatchObject(after)
  })

  test('a probe of a healthy store passes and leaves nothing', async () => {
    await subject.store.probe()
    await subject.store.probe()
    expect((await subject.store.counts()).runs.queued).toBe(0)
  })

  test('close waits for writes under way; after it the store says that it is closed', async () => {
    const { store } = subject
    const runs = Array.from({ length: 50 }, () => queuedRun())
    const writes = runs.map(run => store.create(creation(run)))
    const closed = store.close()
    expect((await Promise.all(writes)).every(created => created.type === 'created')).toBe(true)
    await closed
    await store.close()
    await expect(store.run(runs[0]!.id)).rejects.toThrow(StorageUnavailable)
    await expect(store.create(creation(queuedRun()))).rejects.toThrow(StorageUnavailable)
    const again = await subject.reopen()
    for (const run of runs) expect(await again.run(run.id)).toEqual(run)
  })
}

function canceled(step: Step): Step {
  return { ...inState(step, { status: 'canceled' }), completedAt: T0 }
}
