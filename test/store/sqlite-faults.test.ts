/** Group commit, and what happens to it when the disk is full, the database is held, or a transaction is lost. */
import { Database } from 'bun:sqlite'
import { afterEach, beforeEach, describe, expect, test } from 'bun:test'
import { join } from 'node:path'
import { StorageUnavailable } from '../../src/core/ports.ts'
import type { Run } from '../../src/core/run.ts'
import { GroupCommit } from '../../src/store/sqlite/group-commit.ts'
import { type CommitCounter, countCommits } from '../support/commit-counter.ts'
import {
  attempt,
  cancelTurn,
  creation,
  deliveryOf,
  leap,
  nextId,
  output,
  queuedRun,
  runAt,
  T0,
  turn,
} from '../support/store-runs.ts'
import { openTempStore, type TempStore } from '../support/store-temp.ts'

describe('the group commit', () => {
  let db: Database
  let group: GroupCommit
  let commits: CommitCounter
  beforeEach(() => {
    commits = countCommits()
    db = new Database(':memory:')
    db.run('PRAGMA foreign_keys = ON')
    db.run('CREATE TABLE t (n INTEGER PRIMARY KEY, up INTEGER REFERENCES t (n) DEFERRABLE INITIALLY DEFERRED)')
    group = new GroupCommit(db, () => {})
    commits.restore()
  })
  const put = (n: number, up: number | null = null) =>
    group.write(() => db.query('INSERT INTO t VALUES (?, ?)').run(n, up) && n)
  const stored = () =>
    db
      .query<{ n: number }, []>('SELECT n FROM t ORDER BY n')
      .all()
      .map(row => row.n)
  const outcomes = async (writes: Promise<unknown>[]) =>
    (await Promise.allSettled(writes)).map(each => each.status === 'fulfilled')

  test('writes of one moment share a transaction', async () => {
    expect(await outcomes([put(1), put(2), put(3)])).toEqual([true, true, true])
    expect([commits.count, stored()]).toEqual([1, [1, 2, 3]])
    await put(4)
    expect([commits.count, stored()]).toEqual([2, [1, 2, 3, 4]])
  })

  test('twenty thousand writes may wait for the disk, and the next is told so at once', async () => {
    const waiting = Array.from({ length: 20_000 }, () => group.write(() => 7))
    await expect(group.write(() => 8)).rejects.toThrow('20000 writes are waiting for the disk')
    expect(new Set(await Promise.all(waiting))).toEqual(new Set([7]))
    expect(await group.write(() => 9)).toBe(9)
  })

  test('a write that throws takes back only its own; those before it are made again', async () => {
    const half = group.write(() => {
      db.run('INSERT INTO t VALUES (10, NULL)')
      throw new Error('no')
    })
    expect(await outcomes([put(1), half, put(1), put(2)])).toEqual([true, false, false, true])
    expect(stored()).toEqual([1, 2])
    expect(commits.count).toBe(2)
    await put(3)
    expect([commits.count, stored()]).toEqual([3, [1, 2, 3]])
  })

  test('every second write of a thousand throws, and the others are made, each once', async () => {
    const bad = () =>
      group.write(() => {
        throw new Error('no')
      })
    const writes = Array.from({ length: 1_000 }, (_, n) => (n % 2 === 0 ? put(n) : bad()))
    expect((await outcomes(writes)).filter(Boolean)).toHaveLength(500)
    expect(stored()).toHaveLength(500)
  })

  test('when COMMIT fails, every write of the group is refused, and the next group is made', async () => {
    const orphan = put(2, 99)
    expect(await outcomes([put(1), orphan, put(3)])).toEqual([false, false, false])
    expect(stored()).toEqual([])
    expect(await outcomes([put(1), put(3)])).toEqual([true, true])
    expect(stored()).toEqual([1, 3])
  })

  test('when SQLite takes the transaction back because of one write, only that one is refused', async () => {
    let tries = 0
    const lose = () =>
      group.write(() => {
        tries += 1
        db.run('ROLLBACK')
        throw Object.assign(new Error('disk I/O error'), { code: 'SQLITE_IOERR_WRITE' })
      })
    const writes = [put(1), put(1), put(2), lose(), put(3), lose(), lose(), put(4)]
    const results = await Promise.allSettled(writes)
    expect(results.map(each => each.status === 'fulfilled')).toEqual([
      true,
      false,
      true,
      false,
      true,
      false,
      false,
      true,
    ])
    for (const i of [3, 5, 6]) {
      const result = results[i]
      expect(result?.status === 'rejected' && result.reason instanceof StorageUnavailable).toBe(true)
    }
    expect([tries, stored()]).toEqual([3, [1, 2, 3, 4]])
  })

  test('what is to follow a write runs after the commit, in order, and not for a refused one', async () => {
    const log: string[] = []
    const note = (n: number, fail = false) =>
      group.write(
        () => {
          log.push(`write ${n}`)
          if (fail) throw new Error('no')
        },
        () => log.push(`after ${n}, in transaction: ${db.inTransaction}`),
      )
    await Promise.allSettled([note(1), note(2, true), note(3)])
    const after = (n: number) => `after ${n}, in transaction: false`
    expect(log).toEqual(['write 1', 'write 2', 'write 1', after(1), 'write 3', after(3)])
  })

  test('an asynchronous write is refused, since the commit would not wait for it', async () => {
    const sneaky = group.write(async () => {
      db.run('INSERT INTO t VALUES (7, NULL)')
    })
    await expect(sneaky).rejects.toThrow('synchronous')
    expect(stored()).toEqual([])
  })

  test('closing waits for what is queued and takes no more', async () => {
    const writes = Array.from({ length: 2_000 }, (_, n) => put(n))
    const closed = group.close()
    await expect(put(9_999)).rejects.toThrow(StorageUnavailable)
    await closed
    expect(await outcomes(writes)).not.toContain(false)
    expect(stored()).toHaveLength(2_000)
  })
})

describe('the store under faults', () => {
  let temp: TempStore
  beforeEach(async () => {
    temp = await openTempStore()
  })
  afterEach(() => temp.dispose())

  test('64 commits at once are made in a few transactions', async () => {
    const commits = countCommits()
    const store = await temp.reopen()
    commits.restore()
    const runs = Array.from({ length: 64 }, () => queuedRun())
    await Promise.all(runs.map(run => store.create(creation(run))))
    const before = commits.count
    const turns = runs.map(run => turn(run, { events: [{ type: 'step.progressed' }] }))
    await Promise.all(turns.map(each => store.commit(each)))
    expect(await Promise.all(runs.map(run => store.run(run.id)))).toEqual(turns.map(each => each.run))
    expect(commits.count - before).toBeWithin(1, 5)
  })

  test('on a full disk writes are refused as a whole, reads go on, and space brings everything back', async () => {
    const { store } = temp
    const running = queuedRun()
    await store.create(creation(running))
    const pages = store.db.query<{ page_count: number }, []>('PRAGMA page_count').get()?.page_count ?? 0
    store.db.run(`PRAGMA max_page_count = ${pages + 20}`)
    const runs = Array.from({ length: 300 }, () =>
      queuedRun({ metadata: { a: 'b' }, input: { chain_models: {}, text: 'x'.repeat(900) } }),
    )
    const key = (run: Run) => ({ key: run.id, fingerprint: 'f', response: '{}' })
    const results = await Promise.allSettled(runs.map(run => store.create(creation(run, { idempotency: key(run) }))))
    const refused = runs.filter((_, i) => results[i]?.status === 'rejected')
    const made = runs.filter((_, i) => results[i]?.status === 'fulfilled')
    expect([made.length > 0, refused.length > 0]).toEqual([true, true])
    for (const each of results) {
      if (each.status === 'rejected') expect(each.reason).toBeInstanceOf(StorageUnavailable)
      if (each.status === 'rejected')
        expect(each.reason.message).toBe('the write was not made: the disk is full (SQLITE_FULL)')
    }
    await expect(store.probe()).rejects.toThrow(StorageUnavailable)
    for (const run of made) expect(await store.run(run.id)).toEqual(run)
    for (const run of refused) {
      expect(await store.run(run.id)).toBeNull()
      expect(await store.events(run.id, 0, 10)).toEqual([])
      expect(await store.replay(run.id, 'f')).toBeNull()
    }
    expect((await store.counts()).runs.queued).toBe(made.length + 1)
    const end = cancelTurn(running, deliveryOf(running, { body: new Uint8Array(200_000) }))
    await expect(store.commit(end)).rejects.toThrow(StorageUnavailable)
    expect(await store.run(running.id)).toEqual(running)
    store.db.run(`PRAGMA max_page_count = ${pages + 100_000}`)
    await store.probe()
    await store.commit(end)
    for (const run of refused)
      expect((await store.create(creation(run, { idempotency: key(run) }))).type).toBe('created')
    expect(await store.run(running.id)).toEqual(end.run)
    expect((await store.counts()).runs).toMatchObject({ queued: 300, canceled: 1 })
    expect(store.db.query('PRAGMA integrity_check').get()).toEqual({ integrity_check: 'ok' })
  })

  test('while another program holds the database, writes are refused with its name of the fault, and then made', async () => {
    const { store, dataDir } = temp
    store.db.run('PRAGMA busy_timeout = 0')
    const backup = new Database(join(dataDir, 'babychain.db'))
    backup.run('BEGIN IMMEDIATE')
    const run = queuedRun()
    const writes = await Promise.allSettled([store.create(creation(run)), store.probe()])
    for (const each of writes)
      expect(each.status === 'rejected' && each.reason instanceof StorageUnavailable).toBe(true)
    expect(String(writes.map(each => each.status === 'rejected' && each.reason))).toContain(
      'another program holds the database',
    )
    expect(await store.run(run.id)).toBeNull()
    backup.run('ROLLBACK')
    backup.close(true)
    expect(await store.create(creation(run))).toEqual({ type: 'created' })
  })

  test('a watcher hears nothing of a write that was refused', async () => {
    const { store } = temp
    const run = queuedRun()
    await store.create(creation(run))
    const heard: number[] = []
    const watching = (async () => {
      for await (const event of store.watch(run.id, 0, new AbortController().signal)) heard.push(event.seq)
    })()
    const pages = store.db.query<{ page_count: number }, []>('PRAGMA page_count').get()?.page_count ?? 0
    store.db.run(`PRAGMA max_page_count = ${pages}`)
    const big = { type: 'step.progressed' as const, data: { providerModel: 'x'.repeat(500_000) } }
    await expect(store.commit(turn(run, { events: [big] }))).rejects.toThrow(StorageUnavailable)
    expect(heard).toEqual([1])
    store.db.run('PRAGMA max_page_count = 100000')
    await store.commit(cancelTurn(run))
    await watching
    expect(heard).toEqual([1, 2])
  })

  test('a damaged row is an error, never a wrong run', async () => {
    const { store } = temp
    const run = queuedRun()
    await store.create(creation(run))
    store.db.run(`UPDATE steps SET status = 'succeeded', state = '{"outputs":[]}' WHERE run_id = '${run.id}'`)
    await expect(store.run(run.id)).rejects.toThrow(/breaks I/)
    store.db.run(`UPDATE steps SET status = 'running', state = '{}' WHERE run_id = '${run.id}'`)
    await expect(store.run(run.id)).rejects.toThrow(/without an attempt/)
  })

  test('an attempt that has become another one under the same number is refused, and the stored one stays', async () => {
    const { store } = temp
    const queued = queuedRun()
    await store.create(creation(queued))
    const live = { status: 'submitting', attempt: attempt(1), lookup: null } as const
    const first = leap(queued, runAt(queued, 0, live, []))
    await store.commit(first)
    const other = { ...live, attempt: attempt(1, { token: 'another' }) }
    await expect(store.commit(leap(first.run, runAt(first.run, 0, other, [])))).rejects.toThrow(/UNIQUE/)
    expect(await store.run(queued.id)).toEqual(first.run)
    expect(await store.attemptByToken('another')).toBeNull()
  })

  test('texts in the place of times and unknown statuses do not get in', async () => {
    const { store } = temp
    const run = queuedRun()
    const odd = (more: object) => store.create(creation({ ...run, id: nextId(), ...more } as Run))
    await expect(odd({ createdAt: 'soon' })).rejects.toThrow(/runs_whole/)
    await expect(odd({ createdAt: T0 + 0.5 })).rejects.toThrow(/runs_whole/)
    await expect(odd({ status: 'paused' })).rejects.toThrow(/runs_status|runs_open_has_wake/)
    await expect(
      store.addMedia({ ...output(), runId: nextId(), stepId: null, apiKeyId: 'a', createdAt: T0, location: 'x' }),
    ).rejects.toThrow(/FOREIGN KEY/)
  })
})
