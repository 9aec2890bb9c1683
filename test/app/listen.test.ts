/** Where a server listens: one server a port, a sentence for every address that cannot be had, and a note for who asks later. */
import { afterEach, expect, test } from 'bun:test'
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { hostname } from 'node:os'
import { join } from 'node:path'
import { RunningApp } from '../support/app.ts'

const open: RunningApp[] = []
afterEach(async () => {
  for (const app of open.splice(0)) await app.close()
})

function app(env: Record<string, string>): RunningApp {
  const made = new RunningApp({ BABYCHAIN_MODE: 'sandbox', ...env })
  open.push(made)
  return made
}

/** Why it does not start. */
function refusal(env: Record<string, string>): Promise<Error> {
  return app(env)
    .start()
    .then(
      () => Promise.reject(new Error('it started')),
      error => error,
    )
}

test('a second server on the same port does not start, and says what to do', async () => {
  const { port } = new URL((await app({}).start()).url)
  const error = await refusal({ PORT: port })
  expect([error.name, error.message]).toEqual([
    'CannotListen',
    `port ${port} on 127.0.0.1 is taken; set PORT to a free one, or stop the program that has it`,
  ])
})

test.each([
  ['a name that nobody knows', 'nosuch.invalid'],
  ['an address that is not of this machine', '203.0.113.7'],
])('%s is named as what it is, not as a port that is taken', async (_, host) => {
  const error = await refusal({ HOST: host })
  expect(error.name).toBe('CannotListen')
  expect(error.message).toContain(`HOST ${host}`)
  expect(error.message).not.toContain('taken')
})

test('a volume that is not mounted does not become a folder on the wrong disk', async () => {
  const made = app({})
  const volume = join(made.dir, 'mnt/volume')
  const refused = app({ BABYCHAIN_DATA_DIR: join(volume, 'babychain') })
  await expect(refused.start()).rejects.toThrow('Mount the volume')
  expect(existsSync(volume)).toBe(false)
})

/** What an application left about itself, as it stands there. */
const noteOf = ({ dir }: RunningApp): string => readFileSync(join(dir, 'data', 'babychain.pid'), 'utf8')
const originOf = (from: RunningApp): unknown => (JSON.parse(noteOf(from)) as { origin?: unknown }).origin

test.each([
  ['127.0.0.1', '127.0.0.1'],
  ['0.0.0.0', '127.0.0.1'],
  ['::', '127.0.0.1'],
  ['::1', '[::1]'],
])('a server on %s notes the address where it is asked, behind its process id, until it stops', async (host, name) => {
  const made = await app({ HOST: host }).start()
  expect(noteOf(made)).toStartWith(`{"pid":${process.pid},`)
  expect(originOf(made)).toBe(`http://${name}:${new URL(made.url).port}`)
  const stopping = made.stop()
  // The port is anybody's from here on, and the directory is held still.
  expect(originOf(made)).toBeNull()
  await stopping
  expect(existsSync(join(made.dir, 'data', 'babychain.pid'))).toBe(false)
})

test('a server that cannot listen notes no address: another one answers there', async () => {
  const { port } = new URL((await app({}).start()).url)
  const second = app({ PORT: port })
  await expect(second.start()).rejects.toThrow('is taken')
  expect(originOf(second)).toBeNull()
})

test('a note that cannot be written is told of in the log, and stops neither the start nor the stop', async () => {
  const made = app({})
  const note = join(made.dir, 'data', 'babychain.pid')
  await made.start()
  mkdirSync(`${note}.new`)
  await made.stop()
  expect(made.log).toContain('where this server listens was not noted')
  expect(existsSync(note)).toBe(false)
})

test('a note that another process has left is its own: the lock was removed', async () => {
  const made = await app({}).start()
  const note = join(made.dir, 'data', 'babychain.pid')
  const other = JSON.stringify({ pid: process.pid + 1, host: hostname(), origin: 'http://127.0.0.1:3999' })
  writeFileSync(note, other)
  await made.stop()
  expect(readFileSync(note, 'utf8')).toBe(other)
})
