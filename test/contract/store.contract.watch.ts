/** The part of the Store's contract about the log of a run: reading it, and watching it grow. */
import { expect, test } from 'bun:test'
import type { Run, RunEvent } from '../../src/core/run.ts'
import { seeded } from '../support/runs.ts'
import { cancelTurn, creation, nextId, queuedRun, turn } from '../support/store-runs.ts'
import type { Subject } from './store.contract.ts'

export function watchContract(subject: Subject): void {
  test('events are read after a number, oldest first, in pages, with what they say', async () => {
    const { store } = subject
    const run = queuedRun()
    await store.create(creation(run))
    const told = turn(run, {
      events: [
        {
          type: 'step.running',
          stepKey: 'step_0',
          data: { attempt: 1, provider: 'bfl', providerModel: 'flux', progress: null },
        },
        { type: 'step.progressed', stepKey: 'step_0', data: { progress: 0.5 } },
      ],
    })
    await store.commit(told)
    expect(await store.events(run.id, 1, 10)).toEqual([...told.events])
    expect((await store.events(run.id, 0, 2)).map(event => event.seq)).toEqual([1, 2])
    expect(await store.events(run.id, 3, 10)).toEqual([])
    expect(await store.events(nextId(), 0, 10)).toEqual([])
  })

  test('a watcher gets what is stored, then what comes, and ends with the run', async () => {
    const { store } = subject
    let run = await grown(subject, queuedRun(), 3)
    const watching = seen(store.watch(run.id, 0, never()))
    run = await grown(subject, run, 4, true)
    await store.commit(cancelTurn(run))
    expect(await watching).toEqual([...upTo(9), 'end'])
  })

  test('a watcher that has seen some gets only the rest', async () => {
    const run = await grown(subject, queuedRun(), 5)
    await subject.store.commit(cancelTurn(run))
    expect(await seen(subject.store.watch(run.id, 4, never()))).toEqual([5, 6, 7, 'end'])
  })

  test('a watcher that stands ahead of the log gets only what comes after its place', async () => {
    const run = await grown(subject, queuedRun(), 1)
    const watching = seen(subject.store.watch(run.id, 4, never()))
    const more = await grown(subject, await grown(subject, run, 1), 3)
    await subject.store.commit(cancelTurn(more))
    expect(await watching).toEqual([5, 6, 7, 'end'])
  })

  test('a watch ends at once where nothing will come: after the last event, and for a run that is not there', async () => {
    const run = await grown(subject, queuedRun(), 1)
    await subject.store.commit(cancelTurn(run))
    expect(await seen(subject.store.watch(run.id, 3, never()))).toEqual([])
    expect(await seen(subject.store.watch(run.id, 99, never()))).toEqual([])
    expect(await seen(subject.store.watch(nextId(), 0, never()))).toEqual([])
  })

  test('the signal ends a watch that waits, one that is about to begin, and one in the middle', async () => {
    const { store } = subject
    const run = await grown(subject, queuedRun(), 2)
    const waits = new AbortController()
    const watching = seen(store.watch(run.id, 0, waits.signal))
    await settled(store)
    waits.abort()
    expect(await watching).toEqual(upTo(3))
    expect(await seen(store.watch(run.id, 0, AbortSignal.abort()))).toEqual([])
    const middle = new AbortController()
    const some: number[] = []
    for await (const event of store.watch(run.id, 0, middle.signal)) {
      some.push(event.seq)
      if (event.seq === 2) middle.abort()
    }
    expect(some).toEqual([1, 2])
  })

  test('an event is seen only when it is durable', async () => {
    const { store } = subject
    const run = await grown(subject, queuedRun(), 1)
    const refused = turn(run, { events: [{ type: 'step.progressed' }], wakeAt: null })
    const end = cancelTurn(run)
    const watching = seen(store.watch(run.id, 0, never()))
    await Promise.allSettled([store.commit(refused), store.commit(end)])
    expect(await watching).toEqual([1, 2, 3, 'end'])
  })

  test('a reader that falls far behind still gets every event once', async () => {
    const { store } = subject
    let run = await grown(subject, queuedRun(), 1)
    const reader = store.watch(run.id, 0, never())[Symbol.asyncIterator]()
    const first = await reader.next()
    run = await grown(subject, run, 1_500)
    await store.commit(cancelTurn(run))
    expect([first.value.seq, ...(await seen({ [Symbol.asyncIterator]: () => reader }))]).toEqual([
      ...upTo(1_503),
      'end',
    ])
  })

  test('watchers of one run do not disturb each other, nor those of another', async () => {
    const { store } = subject
    let [a, b] = [await grown(subject, queuedRun(), 0), await grown(subject, queuedRun(), 0)]
    const all = [a, a, b].map(run => seen(store.watch(run.id, 0, never())))
    const cut = new AbortController()
    const left = seen(store.watch(a.id, 0, cut.signal))
    a = await grown(subject, a, 3, true)
    await settled(store)
    cut.abort()
    b = await grown(subject, b, 1, true)
    await Promise.all([store.commit(cancelTurn(a)), store.commit(cancelTurn(b))])
    expect(await Promise.all(all)).toEqual([
      [...upTo(5), 'end'],
      [...upTo(5), 'end'],
      [...upTo(3), 'end'],
    ])
    expect(await left).toEqual(upTo(4))
  })

  for (const seed of [1, 2, 3, 4, 5, 6]) {
    test(`connections cut at random and resumed while runs are written see every event once, in order (seed ${seed})`, async () => {
      const { store } = subject
      const draw = seeded(seed)
      const runs = Array.from({ length: 4 }, () => queuedRun())
      for (const run of runs) await store.create(creation(run))
      const readers = runs.flatMap(run => [0, 1, 2].map(() => resumingReader(subject, run.id, draw)))
      await Promise.all(runs.map(run => writeToTheEnd(subject, run, draw)))
      for (const [i, got] of (await Promise.all(readers)).entries()) {
        const run = runs[Math.floor(i / 3)]!
        expect(got).toEqual((await store.events(run.id, 0, 10_000)).map(event => event.seq))
      }
    })
  }

  test('closing the store ends every watch', async () => {
    const { store } = subject
    const run = await grown(subject, queuedRun(), 1)
    const watching = seen(store.watch(run.id, 0, never()))
    await settled(store)
    await store.close()
    expect(await watching).toEqual([1, 2])
  })
}

/** Reads until the terminal event; hangs up at random and comes back with the last number. */
async function resumingReader(subject: Subject, runId: string, draw: () => number): Promise<number[]> {
  const got: number[] = []
  for (;;) {
    const cut = new AbortController()
    let left = 1 + Math.floor(draw() * 9)
    for await (const event of subject.store.watch(runId, got.at(-1) ?? 0, cut.signal)) {
      got.push(event.seq)
      if (event.type === 'run.canceled') return got
      left -= 1
      if (left === 0 && draw() < 0.5) break
      if (left === 0) cut.abort()
      if (draw() < 0.2) await nextTurn()
    }
    await nextTurn()
  }
}

async function writeToTheEnd(subject: Subject, queued: Run, draw: () => number): Promise<void> {
  let run = queued
  for (let n = 10 + Math.floor(draw() * 40); n > 0; n -= 1) {
    run = await grown(subject, run, Math.floor(draw() * 4), true)
    if (draw() < 0.3) await nextTurn()
  }
  await subject.store.commit(cancelTurn(run))
}

/** Creates the run if it is new, and adds events to its log in one commit. */
async function grown(subject: Subject, run: Run, events: number, stored = run.revision > 0): Promise<Run> {
  if (!stored) await subject.store.create(creation(run))
  const commit = turn(run, { events: Array.from({ length: events }, () => ({ type: 'step.progressed' as const })) })
  await subject.store.commit(commit)
  return commit.run
}

/** Numbers of the events, and a mark after the one that ends the run. */
async function seen(events: AsyncIterable<RunEvent>): Promise<(number | string)[]> {
  const list: (number | string)[] = []
  for await (const event of events) {
    list.push(event.seq)
    if (event.type === 'run.canceled') list.push('end')
  }
  return list
}

function upTo(n: number): number[] {
  return Array.from({ length: n }, (_, i) => i + 1)
}

function never(): AbortSignal {
  return new AbortController().signal
}

/** Some turns of the loop, and a write of our own: whoever was about to wait is waiting. */
async function settled(store: Subject['store']): Promise<void> {
  for (let n = 0; n < 5; n += 1) await nextTurn()
  await store.probe()
}

function nextTurn(): Promise<void> {
  return new Promise(resolve => setImmediate(resolve))
}
