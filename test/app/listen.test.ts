/** Where a server listens: one server a port, and a sentence for every address that cannot be had. */
import { afterEach, expect, test } from 'bun:test'
import { existsSync } from 'node:fs'
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
