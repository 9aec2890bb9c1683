/** A database that was brought back from a copy does not go on by itself while runs in it are under way; one that is lost is not begun anew. */
import { Database } from 'bun:sqlite'
import { afterEach, expect, test } from 'bun:test'
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  renameSync,
  rmdirSync,
  rmSync,
  truncateSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { countStart } from '../../src/store/sqlite/lineage.ts'
import { openSqliteStore } from '../../src/store/sqlite/open.ts'
import { attempt, cancelTurn, creation, leap, queuedRun, runAt, T0 } from '../support/store-runs.ts'

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

/** A copy of the live database in the same file, as `.restore` or `cp` puts it there: not one fact of the file system tells. */
function putBack(dir: string, copy: string): void {
  for (const tail of ['-wal', '-shm']) rmSync(`${fileOf(dir)}${tail}`, { force: true })
  copyFileSync(copy, fileOf(dir))
}

test.each(['after a stop in order', 'after a crash', 'after a power cut'])(
  'a copy of this very start that is put back %s is refused when a step was submitted since',
  async how => {
    const dir = makeDir()
    const store = await open(dir)
    const run = queuedRun()
    await store.create(creation(run))
    const copy = join(makeDir(), 'copy.db')
    store.db.run('VACUUM INTO ?', [copy])
    const live = attempt(1, { token: 'token-of-twenty-two-ch' })
    await store.commit(leap(run, runAt(run, 0, { status: 'submitting', attempt: live, lookup: null }, [])))
    await store.noteSubmit(live.token)
    const log = join(dir, 'babychain.sends')
    const crashed = readFileSync(log, 'utf8')
    await store.close()
    if (how !== 'after a stop in order') writeFileSync(log, crashed)
    if (how === 'after a power cut') writeFileSync(log, crashed.replace(/boot \S+/, 'boot before'))
    putBack(dir, copy)
    await expect(open(dir)).rejects.toThrow(/restored or moved, and 1 of its runs are under way/)
    await (await open(dir, '1')).close()
    await (await open(dir)).close()
  },
)

test('a copy that is put back is refused when anything has happened since', async () => {
  const { dir } = await withRun()
  const copy = join(makeDir(), 'copy.db')
  copyFileSync(fileOf(dir), copy)
  const store = await open(dir)
  store.db.run('VACUUM INTO ?', [`${copy}.later`])
  await store.create(creation(queuedRun()))
  await store.close()
  putBack(dir, `${copy}.later`)
  await expect(open(dir)).rejects.toThrow(/restored or moved/)
})

test('what a full disk or a power cut left of the log is no proof against the database', async () => {
  const { dir } = await withRun()
  const log = join(dir, 'babychain.sends')
  const torn = '\ntoken-cut-off\n\0\0\0token-of-twenty-two-ch\nevents 9\0\ntoken-of-twenty-two-ch'
  writeFileSync(log, readFileSync(log, 'utf8') + torn)
  await (await open(dir)).close()
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

test.each([
  ['missing', (file: string) => rmSync(file)],
  ['empty', (file: string) => truncateSync(file)],
] as const)(
  'a database that is %s where it has been started is refused, and nothing is made in its place',
  async (what, lose) => {
    const { dir } = await withRun()
    lose(fileOf(dir))
    const refusal = new RegExp(
      `is ${what}, but it has been started 1 times here.*litestream restore.*BABYCHAIN_RESUME=1\\b`,
    )
    for (const resume of [null, '99']) await expect(open(dir, resume)).rejects.toThrow(refusal)
    expect(existsSync(fileOf(dir))).toBe(what === 'empty')
    await (await open(dir, '1')).close()
    await (await open(dir)).close()
  },
)

test('a lost database that is brought back is a restored one', async () => {
  const { dir } = await withRun()
  const aside = join(makeDir(), 'copy.db')
  copyFileSync(fileOf(dir), aside)
  rmSync(fileOf(dir))
  await expect(open(dir)).rejects.toThrow(/is missing/)
  copyFileSync(aside, fileOf(dir))
  await expect(open(dir)).rejects.toThrow(/restored or moved/)
})

test('a start that broke off before its database was made is a first start', async () => {
  const dir = makeDir()
  await Bun.write(fileOf(dir), '')
  await (await open(dir)).close()
})

test.each(['babychain.mark', 'babychain.sends'])(
  'a %s that cannot be read is named, and tells nothing of the database; the start does not count',
  async name => {
    const { dir } = await withRun()
    const [path, aside] = [join(dir, name), join(dir, 'aside')]
    renameSync(path, aside)
    // Unreadable for everybody, also for who may read all files.
    mkdirSync(path)
    for (let n = 0; n < 2; n += 1) {
      const refused = await open(dir).catch((error: Error) => error)
      expect(refused).toMatchObject({
        name: 'DataDirUnusable',
        message: expect.stringContaining(`${path} cannot be read`),
      })
    }
    rmdirSync(path)
    renameSync(aside, path)
    const store = await open(dir)
    expect(store.db.query("SELECT value FROM settings WHERE name = 'starts'").get()).toEqual({ value: '2' })
    await store.close()
  },
)

test('a mark that was cut off is none', async () => {
  const { dir } = await withRun()
  await Bun.write(join(dir, 'babychain.mark'), '{"file":')
  await expect(open(dir)).rejects.toThrow(/restored or moved/)
})

test('two starts at the same moment have two numbers', async () => {
  const { dir } = await withRun()
  const [one, other] = [new Database(fileOf(dir)), new Database(fileOf(dir))]
  const order = { dataDir: dir, file: fileOf(dir), now: T0, isOutrun: false, resume: 'now', warn: () => {} }
  const { query } = one
  let between: number | null = null
  // The other one counts between the look of the first and its count.
  one.query = ((sql: string) => {
    if (sql.startsWith('INSERT')) between ??= countStart({ ...order, db: other }).start
    return query.call(one, sql)
  }) as typeof query
  expect([countStart({ ...order, db: one }).start, between]).toEqual([3, 2])
  one.close()
  other.close()
})
