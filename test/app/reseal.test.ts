/** A lost master key: nothing is made in its place by itself, and a word goes on without it. */
import { afterEach, beforeEach, expect, test } from 'bun:test'
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import pino from 'pino'
import { openSecrets } from '../../src/app/access.ts'
import { systemClock } from '../../src/app/clock.ts'
import { reseal } from '../../src/app/reseal.ts'
import { createApp } from '../../src/app.ts'
import { type Config, readConfig } from '../../src/config.ts'
import { openSqliteStore } from '../../src/store/sqlite/open.ts'

let dir: string
let file: string
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'babychain-reseal-'))
  file = join(dir, 'master.key')
})
afterEach(() => rmSync(dir, { recursive: true, force: true }))

function configOf(env: Record<string, string> = {}): Config {
  const read = readConfig({ PORT: '0', BABYCHAIN_DATA_DIR: dir, ...env })
  if (!read.ok) throw new Error(read.problems.join('\n'))
  return read.config
}

const appOf = (env?: Record<string, string>) => createApp(configOf(env), { log: pino({ level: 'silent' }) })

/** An installation that has been started, with one key beside the first; gives the id and the text of that key. */
async function installation(env?: Record<string, string>): Promise<{ id: string; key: string }> {
  const app = await appOf(env)
  await app.start()
  const headers = { 'content-type': 'application/json' }
  const order = { method: 'POST', headers, body: JSON.stringify({ name: 'shop' }) }
  const made = await app.asOperator(new Request('http://localhost/api/v1/keys', order))
  await app.stop()
  return (await made.json()) as { id: string; key: string }
}

/** The secrets of a key that sign now, in hex. */
async function secretsOf(id: string, master: Uint8Array): Promise<string[]> {
  const store = await openSqliteStore({ dataDir: dir, now: systemClock.now })
  const secrets = openSecrets({ store, clock: systemClock, master, config: { apiKey: null, callbackSecret: null } })
  const opened = await secrets.of(id).finally(() => store.close())
  return opened.map(each => Buffer.from(each).toString('base64'))
}

const stored = () => new Uint8Array(Buffer.from(readFileSync(file, 'utf8').trim(), 'base64'))

test('without its file nothing starts, as often as it is tried, and no other key is made', async () => {
  await installation()
  rmSync(file)
  for (let n = 0; n < 2; n += 1) {
    const refused = (await appOf().catch(error => error)) as Error
    expect([refused.name, refused.message]).toEqual([
      'MasterKeyUnusable',
      expect.stringMatching(/BABYCHAIN_MASTER_KEY.*keys reseal/),
    ])
    expect(refused.message).toStartWith(`${file} is missing`)
    expect(existsSync(file)).toBe(false)
  }
})

test('the word makes a key and new secrets; keys go on, and a second word changes nothing', async () => {
  const { id, key } = await installation()
  rmSync(file)
  const made = await reseal(configOf())
  expect(made).toEqual({ file, keys: [id, 'bootstrap'], secret: expect.stringMatching(/^whsec_/) })
  expect(await secretsOf('bootstrap', stored())).toEqual([made.secret?.slice('whsec_'.length) ?? ''])
  expect(await secretsOf(id, stored())).toHaveLength(1)
  expect(await reseal(configOf())).toEqual({ file: null, keys: [], secret: null })
  const app = await appOf()
  const headers = { authorization: `Bearer ${key}` }
  expect((await app.fetch(new Request('http://localhost/api/v1/runs', { headers }))).status).toBe(200)
  await app.stop()
})

test('a file that is there is kept, also where it sealed nothing', async () => {
  await installation()
  const other = `${Buffer.alloc(32, 5).toString('base64')}\n`
  writeFileSync(file, other)
  await expect(appOf()).rejects.toThrow(/sealed under another master key: restore it.*keys reseal/)
  expect(await reseal(configOf())).toMatchObject({ file: null, keys: { length: 2 } })
  expect(readFileSync(file, 'utf8')).toBe(other)
  await (await appOf()).stop()
})

test('a key of the environment is taken as it is, and so is the secret of the first key', async () => {
  const [one, two] = [1, 2].map(fill => Buffer.alloc(32, fill).toString('base64')) as [string, string]
  const secret = `whsec_${Buffer.alloc(32, 9).toString('base64')}`
  const env = { BABYCHAIN_CALLBACK_SECRET: secret }
  await installation({ ...env, BABYCHAIN_MASTER_KEY: one })
  await expect(appOf({ ...env, BABYCHAIN_MASTER_KEY: two })).rejects.toThrow(/another master key/)
  expect(await reseal(configOf({ ...env, BABYCHAIN_MASTER_KEY: two }))).toMatchObject({ file: null, secret: null })
  expect(existsSync(file)).toBe(false)
  expect(await secretsOf('bootstrap', Buffer.from(two, 'base64'))).toEqual([secret.slice('whsec_'.length)])
})
