import { afterAll, afterEach, describe, expect, test } from 'bun:test'
import { mkdirSync, mkdtempSync, rmSync, utimesSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { readinessOf } from '../../src/app/readiness.ts'

const dataDir = mkdtempSync(join(tmpdir(), 'babychain-ready-'))
afterAll(() => rmSync(dataDir, { recursive: true, force: true }))

const works = { probe: async () => {} }
const broken = {
  probe: async () => {
    throw new Error('the disk is full')
  },
}
const NOW = 1_800_000_000_000
const ask = (more: object = {}) =>
  readinessOf({
    store: works,
    media: works,
    dataDir,
    draining: new AbortController().signal,
    loopLag: () => ({ p99Ms: 12.4, maxMs: 300.6 }),
    now: () => NOW,
    ...more,
  })()
const detail = async (name: string, more: object = {}) =>
  (await ask(more)).checks.find(check => check.name === name)?.detail ?? ''

test('it is ready when database and storage take a write', async () => {
  expect((await ask()).ok).toBe(true)
  expect((await ask({ media: broken })).checks).toContainEqual({
    name: 'storage',
    ok: false,
    detail: 'the disk is full',
  })
  expect((await ask({ store: broken })).ok).toBe(false)
  expect((await ask({ draining: AbortSignal.abort() })).ok).toBe(false)
})

test('it tells the size of the database, the free disk and the lag of the event loop', async () => {
  writeFileSync(join(dataDir, 'babychain.db'), Buffer.alloc(3 << 20))
  expect(await detail('disk')).toMatch(/^database 3\.0 MiB; \S+ [MG]iB of \S+ [MG]iB free$/)
  expect(await detail('event loop')).toBe('lag p99 12 ms, max 301 ms in the last minutes')
})

describe('the replica', () => {
  const [database, wal] = ['babychain.db', 'babychain.db-wal'].map(name => join(dataDir, name)) as [string, string]
  const folder = join(dataDir, '.babychain.db-litestream', 'generations', 'a', 'wal')
  const copy = join(folder, '0.wal')
  const write = (path: string, secondsAgo: number, text = 'x') => {
    writeFileSync(path, text)
    utimesSync(path, NOW / 1_000 - secondsAgo, NOW / 1_000 - secondsAgo)
  }
  afterEach(() => {
    for (const path of [wal, join(dataDir, '.babychain.db-litestream')]) rmSync(path, { recursive: true, force: true })
  })

  test('is not seen where Litestream never was', async () => {
    expect(await detail('replica')).toBe('no Litestream seen')
  })

  test('of an idle server does not grow old, and of the bucket nothing is claimed', async () => {
    mkdirSync(folder, { recursive: true })
    write(wal, 90)
    write(copy, 90)
    // A checkpoint adds nothing that would have to be copied.
    write(database, 20)
    expect(await detail('replica')).toBe(
      "Litestream's copy beside the database has its last write (90 s ago); whether it reached the bucket, Litestream's log and metrics tell",
    )
  })

  test('that stands still is told against the last write, and does not make it unready', async () => {
    mkdirSync(folder, { recursive: true })
    write(wal, 2)
    write(copy, 90)
    expect(await detail('replica')).toStartWith(
      "Litestream's copy beside the database is 88 s older than its last write (2 s ago);",
    )
    expect((await ask()).ok).toBe(true)
  })

  test('is looked at before the probe writes, and against the file where the WAL is empty', async () => {
    mkdirSync(folder, { recursive: true })
    write(copy, 60)
    write(wal, 0, '')
    write(database, 60)
    const store = { probe: async () => write(wal, 0) }
    expect(await detail('replica', { store })).toContain('has its last write (60 s ago)')
  })
})
