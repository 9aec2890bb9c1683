/** What the commands beside `serve` do where the database is lost, not made yet, or restored: they look, and leave it at that. */
import { afterAll, expect, test } from 'bun:test'
import { copyFileSync, existsSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { openSqliteStore } from '../../src/store/sqlite/open.ts'
import { API_KEY } from '../support/server.ts'
import { creation, queuedRun, T0 } from '../support/store-runs.ts'

const scratch = mkdtempSync(join(tmpdir(), 'babychain-lost-'))
afterAll(() => rmSync(scratch, { recursive: true, force: true }))
const makeDir = () => mkdtempSync(join(scratch, 'data-'))

const COMMAND = ['bun', join(import.meta.dir, '../../src/main.ts')]

async function run(words: string, dataDir: string, more: Readonly<Record<string, string>> = {}) {
  const env = {
    ...{ PATH: process.env.PATH ?? '', HOME: scratch, BABYCHAIN_API_KEY: API_KEY, BABYCHAIN_DATA_DIR: dataDir },
    ...more,
  }
  const child = Bun.spawn([...COMMAND, ...words.split(' ')], { cwd: scratch, env, stdout: 'pipe', stderr: 'pipe' })
  const said = await Promise.all([new Response(child.stdout).text(), new Response(child.stderr).text()])
  return { code: await child.exited, said: said.join('') }
}

/** A copy of a database with an open run, in a directory of its own: a restored volume. Its word is 1. */
async function restored(): Promise<string> {
  const dir = makeDir()
  const store = await openSqliteStore({ dataDir: dir, now: () => T0 })
  await store.create(creation(queuedRun()))
  await store.close()
  const other = makeDir()
  copyFileSync(join(dir, 'babychain.db'), join(other, 'babychain.db'))
  return other
}

test('on an empty volume check says that nothing is made yet, and makes nothing', async () => {
  const data = makeDir()
  for (const [words, said] of [
    [
      'check',
      /^note {3}database: not made yet\n(.*\n)*note {3}callback secret: not made yet\n.*first start.*shows it once/m,
    ],
    ['keys list', /there is no installation in/],
    ['keys reseal', /there is no installation in/],
  ] as const) {
    expect(await run(words, data)).toEqual({ code: words === 'check' ? 0 : 1, said: expect.stringMatching(said) })
    expect(readdirSync(data)).toEqual([])
  }
}, 30_000)

test('a file of no bytes is no database: none is made of it', async () => {
  const data = makeDir()
  writeFileSync(join(data, 'babychain.db'), '')
  expect((await run('check', data)).said).toContain('database: not made yet')
  expect((await run('keys list', data)).code).toBe(1)
  expect([readdirSync(data), Bun.file(join(data, 'babychain.db')).size]).toEqual([['babychain.db'], 0])
}, 30_000)

test.each([
  ['the mark', 'babychain.mark', JSON.stringify({ file: '1/1', starts: 7 }), /is missing, but it has been started 7/],
  ['a WAL', 'babychain.db-wal', 'pages', /it is missing, but its WAL is there/],
])(
  'where %s tells of a database that is lost, each says so, and makes nothing',
  async (_, name, text, said) => {
    const data = makeDir()
    writeFileSync(join(data, name), text)
    for (const words of ['check', 'keys list', 'keys reseal']) {
      const found = await run(words, data, { BABYCHAIN_RESUME: '7' })
      expect([words, found]).toEqual([words, { code: 1, said: expect.stringMatching(said) }])
      expect(readdirSync(data)).toEqual([name])
    }
  },
  30_000,
)

test('the word for a restored database is for the start: check and keys are refused with it, and it still holds', async () => {
  const data = await restored()
  for (const words of ['check', 'keys list', 'keys create shop']) {
    const { code, said } = await run(words, data, { BABYCHAIN_RESUME: '1' })
    expect([words, code, said]).toEqual([words, 1, expect.stringMatching(/1 of its runs are under way/)])
  }
  await expect(openSqliteStore({ dataDir: data, now: () => T0 })).rejects.toThrow(/BABYCHAIN_RESUME=1\b/)
  await (await openSqliteStore({ dataDir: data, now: () => T0, resume: '1' })).close()
}, 30_000)

test('from the environment only the number is a word', async () => {
  const data = await restored()
  const { code, said } = await run('serve', data, { BABYCHAIN_RESUME: 'now' })
  expect([code, said]).toEqual([1, expect.stringMatching(/BABYCHAIN_RESUME must be a whole number/)])
  expect(existsSync(join(data, 'babychain.mark'))).toBe(false)
})
