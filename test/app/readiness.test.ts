import { afterAll, expect, test } from 'bun:test'
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
  expect(await detail('event loop')).toMatch(/^lag p99 \d+ ms, max \d+ ms/)
})

test('it tells how old the replica is, and an old one does not make it unready', async () => {
  expect(await detail('replica')).toBe('no Litestream seen')
  const folder = join(dataDir, '.babychain.db-litestream', 'generations', 'a', 'wal')
  mkdirSync(folder, { recursive: true })
  writeFileSync(join(folder, '0.wal'), 'x')
  for (const path of [join(folder, '0.wal'), folder, join(folder, '..'), join(folder, '../..')])
    utimesSync(path, NOW / 1_000 - 90, NOW / 1_000 - 90)
  expect(await detail('replica')).toBe('Litestream wrote 90 s ago')
  expect((await ask()).ok).toBe(true)
})
