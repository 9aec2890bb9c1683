/** A lost master key: nothing is made in its place by itself, and a word goes on without it. */
import { Database } from 'bun:sqlite'
import { afterEach, expect, test } from 'bun:test'
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { openSecrets } from '../../src/app/access.ts'
import { reseal } from '../../src/app/reseal.ts'
import { type Config, readConfig } from '../../src/config.ts'
import { openSqliteStore } from '../../src/store/sqlite/open.ts'
import { RunningApp } from '../support/app.ts'
import { creation, queuedRun } from '../support/store-runs.ts'
import { systemClock } from '../support/system-clock.ts'

const apps: RunningApp[] = []
afterEach(async () => {
  for (const app of apps.splice(0)) await app.close()
})

/** An installation that has been started, with one key beside the first, and whose environment may change. */
async function installation(more: Record<string, string> = {}) {
  const env: Record<string, string> = { BABYCHAIN_CALLBACK_SECRET: '', ...more }
  const app = new RunningApp(env)
  apps.push(app)
  await app.start()
  const { id, key } = await app.post<{ id: string; key: string }>('/api/v1/keys', { name: 'shop' })
  await app.stop()
  const dir = join(app.dir, 'data')
  const config = (): Config => {
    const read = readConfig({ BABYCHAIN_DATA_DIR: dir, ...env })
    if (!read.ok) throw new Error(read.problems.join('\n'))
    return read.config
  }
  return { app, env, id, key, dir, file: join(dir, 'master.key'), config }
}

/** The secrets of a key that sign now, in base64. */
async function secretsOf(id: string, dataDir: string, master: Uint8Array): Promise<string[]> {
  const store = await openSqliteStore({ dataDir, now: systemClock.now })
  const secrets = openSecrets({ store, clock: systemClock, master, config: { apiKey: null, callbackSecret: null } })
  const opened = await secrets.of(id).finally(() => store.close())
  return opened.map(each => Buffer.from(each).toString('base64'))
}

const stored = (file: string) => new Uint8Array(Buffer.from(readFileSync(file, 'utf8').trim(), 'base64'))

test('without its file nothing starts, as often as it is tried, and no other key is made', async () => {
  const { app, file } = await installation()
  rmSync(file)
  for (let n = 0; n < 2; n += 1) {
    const refused = (await app.start().catch(error => error)) as Error
    expect([refused.name, refused.message]).toEqual([
      'MasterKeyUnusable',
      expect.stringMatching(/BABYCHAIN_MASTER_KEY.*keys reseal/),
    ])
    expect(refused.message).toStartWith(`${file} is missing`)
    expect(existsSync(file)).toBe(false)
  }
})

test('the word makes a key and new secrets; keys go on, and a second word changes nothing', async () => {
  const { app, id, key, dir, file, config } = await installation()
  rmSync(file)
  const made = await reseal(config())
  expect(made).toEqual({ file, keys: [id, 'bootstrap'], secret: expect.stringMatching(/^whsec_/) })
  expect(await secretsOf('bootstrap', dir, stored(file))).toEqual([made.secret?.slice('whsec_'.length) ?? ''])
  expect(await secretsOf(id, dir, stored(file))).toHaveLength(1)
  expect(await reseal(config())).toEqual({ file: null, keys: [], secret: null })
  await app.start()
  expect((await app.request('/api/v1/runs', { headers: { authorization: `Bearer ${key}` } })).status).toBe(200)
})

test('a file that is there is kept, also where it sealed nothing', async () => {
  const { app, file, config } = await installation()
  const other = `${Buffer.alloc(32, 5).toString('base64')}\n`
  writeFileSync(file, other)
  await expect(app.start()).rejects.toThrow(/sealed under another master key: restore it.*keys reseal/)
  const { file: made, keys } = await reseal(config())
  expect([made, keys.length]).toEqual([null, 2])
  expect(readFileSync(file, 'utf8')).toBe(other)
  await app.start()
})

test('a key of the environment is taken as it is, and so is the secret of the first key', async () => {
  const [one, two] = [1, 2].map(fill => Buffer.alloc(32, fill).toString('base64')) as [string, string]
  const secret = `whsec_${Buffer.alloc(32, 9).toString('base64')}`
  const { app, env, dir, file, config } = await installation({
    BABYCHAIN_CALLBACK_SECRET: secret,
    BABYCHAIN_MASTER_KEY: one,
  })
  env.BABYCHAIN_MASTER_KEY = two
  await expect(app.start()).rejects.toThrow(/another master key/)
  expect(await reseal(config())).toMatchObject({ file: null, secret: null })
  expect(existsSync(file)).toBe(false)
  expect(await secretsOf('bootstrap', dir, Buffer.from(two, 'base64'))).toEqual([secret.slice('whsec_'.length)])
})

test('a restored database is resealed without letting its runs go on: the next start asks', async () => {
  const { file, dir, config } = await installation()
  const store = await openSqliteStore({ dataDir: dir, now: systemClock.now })
  await store.create(creation(queuedRun()))
  await store.close()
  // A copy is another file, and the master key was on the volume that is gone.
  const database = join(dir, 'babychain.db')
  copyFileSync(database, `${database}.copy`)
  renameSync(`${database}.copy`, database)
  rmSync(file)
  expect(await reseal(config())).toMatchObject({ file, keys: expect.arrayContaining(['bootstrap']) })
  const open = (resume: string | null) => openSqliteStore({ dataDir: dir, now: systemClock.now, resume })
  const { name, message } = (await open(null).catch(error => error)) as Error
  expect([name, message]).toEqual(['DatabaseRestored', expect.stringContaining('1 of its runs are under way')])
  await (await open(/BABYCHAIN_RESUME=(\d+)/.exec(message)?.[1] ?? null)).close()
})

test('a reseal leaves what the next start is judged by as it was', async () => {
  const { dir, config } = await installation()
  const traces = () => {
    const store = new Database(join(dir, 'babychain.db'), { readonly: true })
    const starts = store.query("SELECT value FROM settings WHERE name = 'starts'").get()
    store.close()
    return [starts, ...['babychain.mark', 'babychain.sends'].map(name => readFileSync(join(dir, name), 'utf8'))]
  }
  const before = traces()
  await reseal(config())
  expect(traces()).toEqual(before)
})

test.each([
  ['for want of a log', (dir: string) => mkdirSync(join(dir, 'babychain.sends.new'))],
  ['at the master key', (dir: string) => mkdirSync(join(dir, 'master.key'))],
])('a restored database whose reseal breaks off %s does not go on without the word', async (_what, breakIn) => {
  const { dir, config } = await installation()
  const store = await openSqliteStore({ dataDir: dir, now: systemClock.now })
  await store.create(creation(queuedRun()))
  await store.close()
  const other = mkdtempSync(join(tmpdir(), 'babychain-reseal-'))
  try {
    copyFileSync(join(dir, 'babychain.db'), join(other, 'babychain.db'))
    breakIn(other)
    await reseal({ ...config(), dataDir: other }).catch(() => {})
    expect(existsSync(join(other, 'babychain.mark'))).toBe(false)
    rmSync(join(other, 'babychain.sends.new'), { recursive: true, force: true })
    await expect(openSqliteStore({ dataDir: other, now: systemClock.now })).rejects.toThrow(
      /1 of its runs are under way/,
    )
  } finally {
    rmSync(other, { recursive: true, force: true })
  }
})
