/** A start in the other mode: refused where only the keys are lost, and told of where it is meant. */
import { afterEach, beforeEach, expect, test } from 'bun:test'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import pino from 'pino'
import { createApp } from '../../src/app.ts'
import { readConfig } from '../../src/config.ts'
import type { Mode } from '../../src/core/run.ts'
import { openSqliteStore } from '../../src/store/sqlite/open.ts'
import { creation, queuedRun, T0 } from '../support/store-runs.ts'

let dir: string
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'babychain-mode-'))
})
afterEach(() => rmSync(dir, { recursive: true, force: true }))

/** Leaves open runs of a mode behind. */
async function leave(mode: Mode, count = 1): Promise<string[]> {
  const store = await openSqliteStore({ dataDir: dir, now: () => T0 })
  const runs = Array.from({ length: count }, () => ({ ...queuedRun(), mode }))
  for (const run of runs) await store.create(creation(run))
  await store.close()
  return runs.map(({ id }) => id)
}

async function open(env: Record<string, string> = {}) {
  const read = readConfig({ PORT: '0', BABYCHAIN_DATA_DIR: dir, ...env })
  if (!read.ok) throw new Error(read.problems.join('\n'))
  const lines: string[] = []
  const log = pino({ level: 'warn' }, { write: line => lines.push(line) })
  return { app: await createApp(read.config, { log }), lines }
}

test('without any key, and without a word, runs that are to be paid stop the start, as often as it is tried', async () => {
  await leave('byok', 3)
  const sentence =
    /^3 runs of mode byok are under way, but no provider key is set, .*BFL_API_KEY.*BABYCHAIN_MODE=sandbox to let these runs end/
  for (let n = 0; n < 2; n += 1) await expect(open()).rejects.toThrow(sentence)
  await expect(open()).rejects.toMatchObject({ name: 'KeysMissing' })
})

test('BABYCHAIN_MODE=sandbox lets them end: nothing is painted, and the log tells how many they are', async () => {
  const [id = ''] = await leave('byok')
  const { app, lines } = await open({ BABYCHAIN_MODE: 'sandbox' })
  expect(lines.find(line => line.includes('of mode byok'))).toContain('"runs":1')
  await app.start()
  await app.stop()
  const store = await openSqliteStore({ dataDir: dir, now: () => T0 })
  expect(await store.run(id)).toMatchObject({
    status: 'failed',
    error: { code: 'no_route', message: expect.stringContaining('created in mode byok') },
  })
  await store.close()
})

test('runs of the sandbox stop no start with keys; the log tells how many they are', async () => {
  await leave('sandbox', 2)
  const { app, lines } = await open({ BFL_API_KEY: 'a-key-that-is-used-nowhere' })
  expect(lines.find(line => line.includes('of mode sandbox'))).toContain('"runs":2')
  await app.stop()
})

test('runs of the same mode are nothing to tell of', async () => {
  await leave('sandbox')
  const first = await open()
  await first.app.stop()
  expect(first.lines.filter(line => line.includes('of mode'))).toEqual([])
})
