/** A database that was brought back from a copy does not go on by itself while runs in it are under way. */
import { afterEach, expect, test } from 'bun:test'
import { copyFileSync, mkdirSync, mkdtempSync, renameSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { openSqliteStore } from '../../src/store/sqlite/open.ts'
import { cancelTurn, creation, queuedRun, T0 } from '../support/store-runs.ts'

const dirs: string[] = []
afterEach(() => {
  for (const dir of dirs.splice(0)) rmSync(dir, { recursive: true, force: true })
})

function makeDir(): string {
  const dir = mkdtempSync(join(tmpdir(), 'babychain-lineage-'))
  dirs.push(dir)
  return dir
}

const open = (dataDir: string, resume: string | null = null) => openSqliteStore({ dataDir, now: () => T0, resume })
const fileOf = (dir: string) => join(dir, 'babychain.db')

/** A data directory with one open run, closed. */
async function withRun(): Promise<{ dir: string; run: ReturnType<typeof queuedRun> }> {
  const dir = makeDir()
  const store = await open(dir)
  const run = queuedRun()
  await store.create(creation(run))
  await store.close()
  return { dir, run }
}

test('a database that stays where it is goes on, start after start', async () => {
  const { dir } = await withRun()
  for (let n = 0; n < 3; n += 1) await (await open(dir)).close()
})

test('a database in an empty directory is refused until the operator says so, once', async () => {
  const { dir, run } = await withRun()
  const other = makeDir()
  copyFileSync(fileOf(dir), fileOf(other))
  await expect(open(other)).rejects.toThrow(/restored or moved, and 1 of its runs are under way.*serve --resume/)
  await expect(open(other, '99')).rejects.toThrow(/BABYCHAIN_RESUME=1\b/)
  const store = await open(other, '1')
  expect(await store.run(run.id)).toEqual(run)
  await store.close()
  await (await open(other)).close()
})

test('a copy that is put in the place of the database is refused, whether it is a new file or an older state', async () => {
  const { dir } = await withRun()
  const aside = join(makeDir(), 'copy.db')
  copyFileSync(fileOf(dir), aside)
  renameSync(fileOf(dir), `${fileOf(dir)}.old`)
  copyFileSync(aside, fileOf(dir))
  await expect(open(dir)).rejects.toThrow(/restored or moved/)
  await (await open(dir, 'now')).close()
  await (await open(dir)).close()
  copyFileSync(aside, fileOf(dir))
  await expect(open(dir)).rejects.toThrow(/restored or moved/)
})

test('a database without open runs may be moved freely', async () => {
  const { dir, run } = await withRun()
  const store = await open(dir)
  await store.commit(cancelTurn(run))
  await store.close()
  const other = join(makeDir(), 'data')
  mkdirSync(other)
  copyFileSync(fileOf(dir), fileOf(other))
  await (await open(other)).close()
})

test('a refused start changes nothing and frees the directory', async () => {
  const { dir } = await withRun()
  const other = makeDir()
  copyFileSync(fileOf(dir), fileOf(other))
  for (let n = 0; n < 2; n += 1) await expect(open(other)).rejects.toThrow(/BABYCHAIN_RESUME=1\b/)
})
