/** Opening the SQLite store: settings, lock, damage, and a directory that will not do. Every refusal is a sentence. */
import { Database } from 'bun:sqlite'
import { afterEach, expect, test } from 'bun:test'
import {
  chmodSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs'
import { hostname } from 'node:os'
import { join } from 'node:path'
import { setPragmas } from '../../src/store/sqlite/database.ts'
import { asOpeningError, DatabaseCorrupt, DataDirLocked, DataDirUnusable } from '../../src/store/sqlite/errors.ts'
import { openSqliteStore } from '../../src/store/sqlite/open.ts'
import { SmallDisk, whyNoMount } from '../support/small-disk.ts'
import { creation, queuedRun, T0 } from '../support/store-runs.ts'
import { openTempStore, tempDir } from '../support/store-temp.ts'

const program = new URL('../support/store-child.ts', import.meta.url)
const dirs: string[] = []
afterEach(() => {
  for (const dir of dirs.splice(0)) rmSync(dir, { recursive: true, force: true })
})

function newDir(): string {
  const dir = tempDir()
  dirs.push(dir)
  return dir
}

function open(dataDir: string) {
  return openSqliteStore({ dataDir, now: () => T0 })
}

async function refusal(opening: Promise<{ close(): Promise<void> }>): Promise<Error> {
  const error = await opening.then(
    async store => store.close(),
    (reason: unknown) => reason,
  )
  if (!(error instanceof Error)) throw new Error('it opened')
  return error
}

test('the settings that the promises rest on are in force', async () => {
  const { store, dispose } = await openTempStore()
  const read = (name: string) =>
    Object.values(store.db.query<Record<string, unknown>, []>(`PRAGMA ${name}`).get() ?? {})[0]
  const names = ['journal_mode', 'synchronous', 'foreign_keys', 'busy_timeout', 'wal_autocheckpoint']
  expect(names.map(read)).toEqual(['wal', 2, 1, 5_000, 4_000])
  await dispose()
})

test('a setting that does not hold stops the start', () => {
  const db = new Database(':memory:')
  expect(() => setPragmas(db)).toThrow(/does not take PRAGMA journal_mode = WAL \(it says memory\)/)
})

test('the directory is made when its parent is there, for its owner alone', async () => {
  const dataDir = join(newDir(), 'data')
  await (await open(dataDir)).close()
  expect(statSync(dataDir).mode & 0o777).toBe(0o700)
  expect(existsSync(join(dataDir, 'babychain.db'))).toBe(true)
})

test('a missing volume, a file in place of a directory, and a place where nothing can be written are named', async () => {
  const dir = newDir()
  writeFileSync(join(dir, 'file'), '')
  const nowhere = process.platform === 'darwin' ? '/System' : '/proc/self'
  for (const [dataDir, words] of [
    [join(dir, 'missing', 'data'), /does not exist and cannot be made .*BABYCHAIN_DATA_DIR/],
    [join(dir, 'file'), /is a file.*BABYCHAIN_DATA_DIR/],
    [nowhere, /cannot be written .*BABYCHAIN_DATA_DIR/],
  ] as const) {
    const error = await refusal(open(dataDir))
    expect(error).toBeInstanceOf(DataDirUnusable)
    expect(error.message).toMatch(words)
  }
})

test('a database file that may not be opened is an error that says so', async () => {
  const dir = newDir()
  mkdirSync(join(dir, 'babychain.db'))
  const { name, message } = await refusal(open(dir))
  expect(message).toMatch(/cannot be opened \(SQLITE_CANTOPEN/)
  expect([name, message]).toEqual(['DataDirUnusable', expect.stringContaining(`${join(dir, 'babychain.db')} cannot`)])
  expect(message).toEndWith('to the user of this process, and start again.')
  chmodSync(dir, 0o700)
})

test('what stops an opening is said of the opening: no write was asked for', () => {
  const fault = (code: string) => Object.assign(new Error(code), { code })
  const said = (error: Error) => String(asOpeningError(error, '/d/babychain.db'))
  expect(said(fault('SQLITE_READONLY'))).toMatch(
    /^DataDirUnusable: the database \/d\/babychain.db .*READONLY\): give it,/,
  )
  expect(said(new Error("EACCES: permission denied, open '/d/babychain.mark.new'"))).toMatch(
    /^DataDirUnusable: .*mark\.new': give it,.* to the user of this process/,
  )
  expect(said(fault('SQLITE_FULL'))).toBe(
    'StorageUnavailable: the database /d/babychain.db cannot be opened: the disk is full (SQLITE_FULL). ' +
      'Make room, and try again: nothing is lost.',
  )
  expect(said(fault('SQLITE_NOTADB'))).toStartWith('DatabaseCorrupt: ')
  expect(said(new Error('a bug'))).toBe('Error: a bug')
})

test.skipIf(whyNoMount() !== null)(
  'a start on a full disk says to make room, whatever of it does not fit any more, and loses nothing',
  async () => {
    const dir = newDir()
    const disk = new SmallDisk(join(dir, 'disk'), 8)
    try {
      const dataDir = join(dir, 'disk', 'data')
      const run = queuedRun()
      const before = await open(dataDir)
      await before.create(creation(run))
      await before.close()
      const said: (string | null)[] = []
      for (let pages = 0; pages < 16; pages += 1) {
        disk.empty()
        disk.fill(pages * 4_096)
        const opening = open(dataDir).then(store => store.close())
        said.push(
          await opening.then(
            () => null,
            (error: Error) => `${error.name}: ${error.message}`,
          ),
        )
      }
      const full =
        /^StorageUnavailable: the da.* cannot be .*: the disk is full \(\w+\)\. Make room, and try again: nothing is lost\.$/
      const refusals = said.filter(each => each !== null)
      expect(refusals.filter(each => !full.test(each))).toEqual([])
      expect(new Set(refusals.map(each => /the (data directory|database)/.exec(each)?.[1]))).toEqual(
        new Set(['data directory', 'database']),
      )
      disk.empty()
      const after = await open(dataDir)
      expect(await after.run(run.id)).toMatchObject({ id: run.id, status: 'queued' })
      await after.close()
    } finally {
      disk.unmount()
    }
  },
)

const isRoot = process.getuid?.() === 0
test.skipIf(isRoot && Bun.which('setpriv') === null)(
  'a lock that another user made keeps nobody out, so nothing is opened with it',
  async () => {
    const dataDir = newDir()
    writeFileSync(join(dataDir, 'babychain.lock'), '')
    chmodSync(join(dataDir, 'babychain.lock'), 0o444)
    chmodSync(dataDir, 0o777)
    // Root may write everything: then it is somebody else who tries.
    const who = isRoot ? ['setpriv', '--reuid=65534', '--clear-groups'] : []
    await using child = Bun.spawn([...who, process.execPath, program.pathname, dataDir], {
      ...{ stdout: 'pipe', stderr: 'inherit', timeout: 10_000 },
    })
    const said = await new Response(child.stdout).text()
    expect([await child.exited, said.slice(0, 500)]).toEqual([
      3,
      expect.stringMatching(/cannot be written .*babychain\.lock/),
    ])
  },
)

test('a second store on the same directory is refused and told the process; the first goes on', async () => {
  const { store, dataDir, dispose } = await openTempStore()
  const error = await refusal(open(dataDir))
  expect(error).toBeInstanceOf(DataDirLocked)
  expect(error.message).toContain(`in use by process ${process.pid}`)
  expect(error).toMatchObject({ host: hostname(), origin: null })
  store.noteOrigin('http://127.0.0.1:4000')
  expect(await refusal(open(dataDir))).toMatchObject({ message: error.message, origin: 'http://127.0.0.1:4000' })
  await store.probe()
  await store.close()
  await (await open(dataDir)).close()
  await dispose()
})

test('a second process exits with the sentence; after kill -9 nothing blocks, and what was acknowledged is there', async () => {
  const dataDir = newDir()
  const child = () => Bun.spawn([process.execPath, program.pathname, dataDir], { stdout: 'pipe', stderr: 'inherit' })
  await using first = child()
  let [said, enough] = ['', false]
  for await (const chunk of first.stdout.pipeThrough(new TextDecoderStream())) {
    said += chunk
    if (!said.startsWith('open\n')) continue
    if (!enough) {
      enough = true
      await using second = child()
      const answer = await new Response(second.stdout).text()
      expect(answer.slice(0, 500)).toContain(`in use by process ${first.pid}`)
      expect(await second.exited).toBe(3)
    }
    if (said.split('\n').length > 200) first.kill('SIGKILL')
  }
  await first.exited
  const acknowledged = said.split('\n').slice(1, -1)
  expect(acknowledged.length).toBeGreaterThan(150)
  const store = await open(dataDir)
  // All of it is in the file before anything is added: what of the WAL lay in memory alone cannot take later commits along.
  const alone = newDir()
  copyFileSync(join(dataDir, 'babychain.db'), join(alone, 'babychain.db'))
  const file = new Database(join(alone, 'babychain.db'), { readonly: true })
  const inFile = file.query<{ id: string }, []>('SELECT id FROM runs').all()
  file.close()
  expect(new Set(acknowledged).difference(new Set(inFile.map(run => run.id)))).toEqual(new Set())
  const found = await Promise.all(acknowledged.map(id => store.run(id)))
  expect(found.filter(run => run === null)).toHaveLength(0)
  await store.close()
})

test('a damaged page is found at the start; nothing is changed, and the sentence names the steps of a restore', async () => {
  const { store, dataDir } = await openTempStore()
  dirs.push(dataDir)
  for (let n = 0; n < 200; n += 1)
    await store.create(creation(queuedRun({ input: { chain_models: {}, text: 'x'.repeat(500) } })))
  await store.close()
  const file = join(dataDir, 'babychain.db')
  const bytes = readFileSync(file)
  const whole = Bun.hash(bytes)
  bytes.fill(0xa5, 4_096 * 20, 4_096 * 21)
  writeFileSync(file, bytes)
  for (let n = 0; n < 2; n += 1) {
    const error = await refusal(open(dataDir))
    expect(error).toBeInstanceOf(DatabaseCorrupt)
    expect(error.message).toMatch(/is damaged .*Nothing was changed.* restore.*litestream restore/)
  }
  expect(Bun.hash(readFileSync(file))).toBe(Bun.hash(bytes))
  expect(Bun.hash(bytes)).not.toBe(whole)
})

test('a file that is no database is refused', async () => {
  const dir = newDir()
  writeFileSync(join(dir, 'babychain.db'), 'this is a text, and long enough to be read as a header '.repeat(200))
  expect(await refusal(open(dir))).toBeInstanceOf(DatabaseCorrupt)
})

test('a WAL without its database is a restore that stopped half way, and is kept', async () => {
  const { store, dataDir } = await openTempStore()
  dirs.push(dataDir)
  await store.create(creation(queuedRun()))
  const [file, wal] = [join(dataDir, 'babychain.db'), join(dataDir, 'babychain.db-wal')]
  const kept = readFileSync(wal)
  await store.close()
  renameSync(file, `${file}.old`)
  writeFileSync(wal, kept)
  const error = await refusal(open(dataDir))
  expect(error).toBeInstanceOf(DatabaseCorrupt)
  expect(error.message).toContain('its WAL is there')
  expect(readFileSync(wal)).toEqual(kept)
})

test('closing empties the WAL and frees the directory', async () => {
  const { store, dataDir, dispose } = await openTempStore()
  await store.create(creation(queuedRun()))
  expect(statSync(join(dataDir, 'babychain.db-wal')).size).toBeGreaterThan(0)
  await store.close()
  expect(existsSync(join(dataDir, 'babychain.db-wal'))).toBe(false)
  store.noteOrigin(null)
  expect(existsSync(join(dataDir, 'babychain.pid'))).toBe(false)
  await dispose()
})
