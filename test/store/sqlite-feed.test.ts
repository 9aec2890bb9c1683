/** The live end of the log: nothing lost and nothing twice at any cut, and no memory for those who do not read. */
import { afterEach, beforeEach, describe, expect, spyOn, test } from 'bun:test'
import type { Store } from '../../src/core/ports.ts'
import type { RunEvent } from '../../src/core/run.ts'
import { EventFeed } from '../../src/store/sqlite/feed.ts'
import { watchContract } from '../contract/store.contract.watch.ts'
import { openTempStore, type TempStore } from '../support/store-temp.ts'

describe('with room for two events a watcher', () => {
  let temp: TempStore
  beforeEach(async () => {
    temp = await openTempStore({}, new EventFeed(2))
  })
  afterEach(() => temp.dispose())
  watchContract({
    get store(): Store {
      return temp.store
    },
    reopen: () => temp.reopen({}, new EventFeed(2)),
  })
})

describe('the feed', () => {
  const event = (seq: number, type: RunEvent['type'] = 'step.progressed'): RunEvent => ({
    seq,
    at: 0,
    type,
    stepKey: null,
    data: {},
  })

  /** A log in memory that counts how it is read. */
  function logOf(events: RunEvent[]) {
    const reads: number[] = []
    return {
      reads,
      read: (after: number, limit: number) => {
        const page = events.filter(each => each.seq > after).slice(0, limit)
        reads.push(page.length)
        return page
      },
      isOver: () => false,
    }
  }

  test('a watcher that is level is handed new events without reading again', async () => {
    const events = [event(1)]
    const [feed, log] = [new EventFeed(10), logOf(events)]
    const watching = feed.watch('r', 0, log, new AbortController().signal)
    expect((await watching.next()).value?.seq).toBe(1)
    for (const seq of [2, 3, 4]) {
      const next = watching.next()
      await Promise.resolve()
      events.push(event(seq))
      feed.publish('r', [event(seq)])
      expect((await next).value?.seq).toBe(seq)
    }
    // One page at the start, then one empty look before each wait.
    expect(log.reads).toEqual([1, 0, 0, 0])
  })

  test('a watcher that does not read is handed nothing, and catches up in pages', async () => {
    const events = [event(1)]
    const [feed, log] = [new EventFeed(10), logOf(events)]
    const watching = feed.watch('r', 0, log, new AbortController().signal)
    await watching.next()
    for (let seq = 2; seq <= 1_000; seq += 1) {
      events.push(event(seq, seq === 1_000 ? 'run.succeeded' : 'step.progressed'))
      feed.publish('r', [event(seq)])
    }
    const rest: number[] = []
    for await (const each of watching) rest.push(each.seq)
    expect(rest).toEqual(Array.from({ length: 999 }, (_, i) => i + 2))
    expect(Math.max(...log.reads)).toBe(10)
  })

  test('a burst larger than the room of a watcher is read from the table', async () => {
    const events: RunEvent[] = []
    const [feed, log] = [new EventFeed(3), logOf(events)]
    const watching = feed.watch('r', 0, log, new AbortController().signal)
    const first = watching.next()
    await Promise.resolve()
    events.push(...[1, 2, 3, 4, 5, 6, 7].map(seq => event(seq)))
    feed.publish('r', events)
    const got = [(await first).value?.seq]
    for (let n = 2; n <= 7; n += 1) got.push((await watching.next()).value?.seq)
    expect(got).toEqual([1, 2, 3, 4, 5, 6, 7])
    expect(Math.max(...log.reads)).toBe(3)
  })

  test('whoever hangs up leaves nothing behind', async () => {
    const feed = new EventFeed(3)
    const watching = async () => {
      const cut = new AbortController()
      const all = Array.from({ length: 100 }, () => feed.watch('r', 0, logOf([]), cut.signal).next())
      await Promise.resolve()
      // Whoever waits and is called takes its listener off the signal.
      return { cut, all, called: spyOn(cut.signal, 'removeEventListener') }
    }
    const gone = await watching()
    gone.cut.abort()
    expect((await Promise.all(gone.all)).every(each => each.done)).toBe(true)
    const here = await watching()
    gone.called.mockClear()
    feed.publish('r', [event(1)])
    expect((await Promise.all(here.all)).every(each => each.value?.seq === 1)).toBe(true)
    expect([gone.called.mock.calls.length, here.called.mock.calls.length]).toEqual([0, 100])
  })
})
