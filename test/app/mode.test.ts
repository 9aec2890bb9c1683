/** A start in the other mode: refused where only the keys are lost, and told of where it is meant. */
import { afterEach, expect, test } from 'bun:test'
import { join } from 'node:path'
import type { Mode } from '../../src/core/run.ts'
import { openSqliteStore } from '../../src/store/sqlite/open.ts'
import { RunningApp } from '../support/app.ts'
import { providerKey } from '../support/secrets.ts'
import { creation, queuedRun, T0 } from '../support/store-runs.ts'

const apps: RunningApp[] = []
afterEach(async () => {
  for (const app of apps.splice(0)) await app.close()
})

const storeOf = ({ dir }: RunningApp) => openSqliteStore({ dataDir: join(dir, 'data'), now: () => T0 })

/** An application that is not started, whose database holds open runs of a mode. */
async function left(mode: Mode, count: number, env: Record<string, string> = {}) {
  const app = new RunningApp(env)
  apps.push(app)
  const store = await storeOf(app)
  const runs = Array.from({ length: count }, () => ({ ...queuedRun(), mode }))
  for (const run of runs) await store.create(creation(run))
  await store.close()
  return { app, ids: runs.map(({ id }) => id) }
}

async function stored(app: RunningApp, id: string) {
  const store = await storeOf(app)
  return store.run(id).finally(() => store.close())
}

const warnings = ({ log }: RunningApp) => log.split('\n').filter(line => line.includes('open runs of mode'))

test('without any key, and without a word, runs that are to be paid stop the start, as often as it is tried', async () => {
  const { app, ids } = await left('byok', 3)
  const sentence =
    /^3 runs of mode byok are under way, but no provider key is set, .*BFL_API_KEY.*BABYCHAIN_MODE=sandbox to let these runs end/
  for (let n = 0; n < 2; n += 1) await expect(app.start()).rejects.toThrow(sentence)
  await expect(app.start()).rejects.toMatchObject({ name: 'KeysMissing' })
  expect(await stored(app, ids[0] ?? '')).toMatchObject({ status: 'queued' })
})

test('BABYCHAIN_MODE=sandbox lets them end: nothing is painted, and the log tells how many they are', async () => {
  const { app, ids } = await left('byok', 1, { BABYCHAIN_MODE: 'sandbox' })
  await app.start()
  await app.stop()
  expect(warnings(app)).toEqual([expect.stringContaining('"runs":1')])
  expect(await stored(app, ids[0] ?? '')).toMatchObject({
    status: 'failed',
    error: { code: 'no_route', message: expect.stringContaining('created in mode byok') },
  })
})

test('runs of the sandbox stop no start with keys: they end, and the log tells how many they are', async () => {
  const keys = { BFL_API_KEY: providerKey('bfl'), BFL_BASE_URL: 'http://127.0.0.1:9' }
  const { app, ids } = await left('sandbox', 2, keys)
  await app.start()
  await app.stop()
  expect(warnings(app)).toEqual([expect.stringContaining('"runs":2')])
  expect(await stored(app, ids[1] ?? '')).toMatchObject({ status: 'failed', error: { code: 'no_route' } })
})

test('runs of the same mode are nothing to tell of', async () => {
  const { app } = await left('sandbox', 1)
  await app.start()
  expect(warnings(app)).toEqual([])
})
