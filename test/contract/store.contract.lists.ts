/** The part of the Store's contract about finding runs: lists with filters, and those that are due. */
import { expect, test } from 'bun:test'
import type { RunFilter } from '../../src/core/ports.ts'
import type { Run, RunStatus } from '../../src/core/run.ts'
import { seeded } from '../support/runs.ts'
import { cancelTurn, chainOf, creation, everyState, leap, queuedRun, runAt, T0, turn } from '../support/store-runs.ts'
import type { Subject } from './store.contract.ts'

export function listContract(subject: Subject): void {
  listing(subject)
  due(subject)
}

const STATUSES: RunStatus[] = ['queued', 'running', 'succeeded', 'failed', 'canceled']

function listing(subject: Subject): void {
  test('every filter finds what a look at every run would find, page by page', async () => {
    const { store } = subject
    const draw = seeded(7)
    const pick = <T>(list: readonly T[]): T => list[Math.floor(draw() * list.length)]!
    const all: Run[] = []
    for (let n = 0; n < 80; n += 1) all.push(await randomRun(subject, draw))
    for (let round = 0; round < 120; round += 1) {
      const filter: RunFilter = { apiKeyId: pick(['key_a', 'key_b', 'key_none']), limit: 1 + Math.floor(draw() * 12) }
      if (draw() < 0.5) filter.status = STATUSES.filter(() => draw() < 0.5)
      if (draw() < 0.4) filter.chain = pick(['one', 'two', 'two-alias', 'unused'])
      if (draw() < 0.3)
        filter.metadata = draw() < 0.5 ? { env: pick(['prod', 'test']) } : { env: 'prod', user: pick(['u1', 'u2']) }
      if (draw() < 0.3) filter.createdFrom = T0 + Math.floor(draw() * 10)
      if (draw() < 0.3) filter.createdTo = T0 + Math.floor(draw() * 20)
      const expected = all.filter(run => fits(run, filter)).sort(newestFirst)
      expect([filter, await pages(subject, filter)]).toEqual([filter, expected.map(run => run.id)])
      const [first] = await store.runs(filter)
      expect(first ?? null).toEqual(expected[0] ?? null)
    }
  })

  test('metadata that hundreds of other runs share is searched to the end', async () => {
    const { store } = subject
    const rare = queuedRun({ at: T0, metadata: { env: 'prod' } })
    await store.create(creation(rare))
    await store.commit(cancelTurn(rare))
    const others = Array.from({ length: 1_200 }, (_, n) => queuedRun({ at: T0 + 1 + n, metadata: { env: 'prod' } }))
    await Promise.all(others.map(run => store.create(creation(run))))
    const found = await store.runs({ apiKeyId: 'key_a', metadata: { env: 'prod' }, status: ['canceled'], limit: 20 })
    expect(found.map(run => run.id)).toEqual([rare.id])
    // The newest first, and nothing that has the value under another name.
    await store.create(creation(queuedRun({ at: T0 + 9_000, metadata: { region: 'prod' } })))
    const newest = await store.runs({ apiKeyId: 'key_a', metadata: { env: 'prod' }, limit: 3 })
    expect(newest.map(run => run.createdAt - T0)).toEqual([1_200, 1_199, 1_198])
  })

  test('a page does not move when newer runs arrive', async () => {
    const { store } = subject
    const runs = Array.from({ length: 6 }, (_, n) => queuedRun({ at: T0 + n }))
    for (const run of runs) await store.create(creation(run))
    const [, , third] = await store.runs({ apiKeyId: 'key_a', limit: 3 })
    for (let n = 0; n < 3; n += 1) await store.create(creation(queuedRun({ at: T0 + 50 + n })))
    const before = { createdAt: third!.createdAt, id: third!.id }
    const next = await store.runs({ apiKeyId: 'key_a', limit: 3, before })
    expect(next.map(run => run.createdAt - T0)).toEqual([2, 1, 0])
    // Nor does a place open what lies behind the end of the filter.
    const bounded = await store.runs({ apiKeyId: 'key_a', limit: 9, before, createdTo: T0 + 1 })
    expect(bounded.map(run => run.createdAt - T0)).toEqual([1, 0])
  })
}

function due(subject: Subject): void {
  test('only unfinished runs are due, the most overdue first, up to the time and the limit', async () => {
    const { store } = subject
    const runs = [30, 10, 20, 40].map(n => ({ run: queuedRun(), wakeAt: T0 + n }))
    for (const { run, wakeAt } of runs) await store.create(creation(run, { wakeAt }))
    const [a, b, c, d] = runs.map(({ run }) => run.id) as [string, string, string, string]
    expect(await store.due(T0 + 30, 10)).toEqual([b, c, a])
    expect(await store.due(T0 + 30, 2)).toEqual([b, c])
    expect(await store.due(T0 + 30, 2, c)).toEqual([a])
    expect(await store.due(T0 + 9, 10)).toEqual([])
    await store.commit(cancelTurn(runs[1]!.run))
    await store.commit(turn(runs[2]!.run, { wakeAt: T0 + 99 }))
    expect(await store.due(Number.MAX_SAFE_INTEGER, 10)).toEqual([a, d, c])
    expect(await (await subject.reopen()).due(Number.MAX_SAFE_INTEGER, 10)).toEqual([a, d, c])
    expect((await subject.store.counts()).oldestDueAt).toBe(T0 + 30)
  })

  // At the end of a page of 7 stands a run that ends, of 8 one that moves.
  for (const limit of [7, 8]) {
    test(`a sweep in pages of ${limit} meets every due run, although the runs it has met move and end`, async () => {
      const { store } = subject
      const runs = Array.from({ length: 50 }, (_, n) => ({ run: queuedRun(), wakeAt: T0 + Math.floor(n / 4) }))
      for (const { run, wakeAt } of runs) await store.create(creation(run, { wakeAt }))
      const met = new Set<string>()
      let after: string | undefined
      for (let page = 0; page < 100; page += 1) {
        const ids = await store.due(T0 + 1_000, limit, after)
        for (const [i, id] of ids.entries()) {
          met.add(id)
          const { run } = runs.find(each => each.run.id === id)!
          if ((await store.run(id))!.revision > 0) continue
          await store.commit(i % 2 === 0 ? cancelTurn(run) : turn(run, { wakeAt: T0 + 5_000 }))
        }
        if (ids.length < limit) break
        after = ids.at(-1)
      }
      expect(met.size).toBe(50)
    })
  }
}

async function randomRun(subject: Subject, draw: () => number): Promise<Run> {
  const pick = <T>(list: readonly T[]): T => list[Math.floor(draw() * list.length)]!
  const metadata: Record<string, string> =
    draw() < 0.6 ? { env: pick(['prod', 'test']), user: pick(['u1', 'u2', 'u3']) } : {}
  const [apiKeyId, chain] = [pick(['key_a', 'key_b']), chainOf(pick(['one', 'two']), 1)]
  // Few times and many runs, so that ids must break ties.
  const queued = queuedRun({ at: T0 + Math.floor(draw() * 20), apiKeyId, chain, metadata })
  await subject.store.create(creation(queued))
  const chosen = pick(everyState())
  if (chosen.state.status === 'queued') return queued
  const commit = leap(queued, runAt(queued, 0, chosen.state, chosen.attempts))
  await subject.store.commit(commit)
  return commit.run
}

function fits(run: Run, filter: RunFilter): boolean {
  const { status = [], chain, metadata = {}, createdFrom = 0, createdTo = Number.MAX_SAFE_INTEGER } = filter
  return (
    run.apiKeyId === filter.apiKeyId &&
    (status.length === 0 || status.includes(run.status)) &&
    (chain === undefined || run.chain.slug === chain || run.chain.aliases.includes(chain)) &&
    Object.entries(metadata).every(([key, value]) => run.metadata[key] === value) &&
    run.createdAt >= createdFrom &&
    run.createdAt <= createdTo
  )
}

function newestFirst(a: Run, b: Run): number {
  return b.createdAt - a.createdAt || (a.id < b.id ? 1 : -1)
}

/** Ids of all pages, walked as a caller would. */
async function pages(subject: Subject, filter: RunFilter): Promise<string[]> {
  const ids: string[] = []
  let before: RunFilter['before']
  for (;;) {
    const page = await subject.store.runs(before ? { ...filter, before } : filter)
    ids.push(...page.map(run => run.id))
    const last = page.at(-1)
    if (!last || page.length < filter.limit) return ids
    before = { createdAt: last.createdAt, id: last.id }
  }
}
