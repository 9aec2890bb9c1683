/** Where a server listens: one server a port, and a sentence for every address that cannot be had. */
import { afterAll, expect, test } from 'bun:test'
import { existsSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import pino from 'pino'
import { type App, createApp } from '../../src/app.ts'
import { readConfig } from '../../src/config.ts'
import { tempDir } from '../support/store-temp.ts'

const dir = tempDir()
const open: App[] = []
afterAll(async () => {
  for (const app of open) await app.stop(0)
  rmSync(dir, { recursive: true, force: true })
})

async function app(name: string, env: Readonly<Record<string, string>>): Promise<App> {
  const read = readConfig({ BABYCHAIN_DATA_DIR: join(dir, name), BABYCHAIN_MODE: 'sandbox', ...env })
  if (!read.ok) throw new Error(read.problems.join('; '))
  const made = await createApp(read.config, { log: pino({ level: 'silent' }) })
  open.push(made)
  return made
}

/** Why it does not start. */
async function refusal(name: string, env: Readonly<Record<string, string>>): Promise<Error> {
  const refused = await app(name, env)
  return refused.start().then(
    () => Promise.reject(new Error('it started')),
    error => error,
  )
}

test('a second server on the same port does not start, and says what to do', async () => {
  const first = await app('first', { PORT: '0' })
  const { port } = new URL((await first.start()).url)
  const error = await refusal('second', { PORT: port })
  expect([error.name, error.message]).toEqual([
    'CannotListen',
    `port ${port} on 127.0.0.1 is taken; set PORT to a free one, or stop the program that has it`,
  ])
})

test.each([
  ['a name that nobody knows', 'nosuch.invalid'],
  ['an address that is not of this machine', '203.0.113.7'],
])('%s is named as what it is, not as a port that is taken', async (_, host) => {
  const error = await refusal(host, { HOST: host, PORT: '0' })
  expect(error.name).toBe('CannotListen')
  expect(error.message).toContain(`HOST ${host}`)
  expect(error.message).not.toContain('taken')
})

test('a volume that is not mounted does not become a folder on the wrong disk', async () => {
  const dataDir = join(dir, 'mnt/volume/babychain')
  await expect(app('mnt/volume/babychain', {})).rejects.toThrow('Mount the volume')
  expect(existsSync(dataDir)).toBe(false)
})
