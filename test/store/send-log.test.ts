/** What the log of submits proves after a crash, and when it proves nothing. */
import { afterEach, beforeEach, expect, test } from 'bun:test'
import {
  copyFileSync,
  mkdirSync,
  readFileSync,
  rmdirSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import { StorageUnavailable } from '../../src/core/ports.ts'
import type { Attempt, Run } from '../../src/core/run.ts'
import { openDatabase } from '../../src/store/sqlite/database.ts'
import { openSqliteStore } from '../../src/store/sqlite/open.ts'
import { bootOfMachine, SendLog } from '../../src/store/sqlite/send-log.ts'
import { SqliteStore } from '../../src/store/sqlite/store.ts'
import { attempt, creation, inState, leap, queuedRun, runAt, T0, turn } from '../support/store-runs.ts'
import { openTempStore, type TempStore } from '../support/store-temp.ts'

let temp: TempStore
let log: string
beforeEach(async () => {
  temp = await openTempStore({ boot: 'boot-1' })
  log = join(temp.dataDir, 'babychain.sends')
})
afterEach(() => temp.dispose())

/** A run whose first step is about to be submitted. */
async function intent(isNoted: boolean): Promise<{ run: Run; token: string; live: Attempt }> {
  const queued = queuedRun()
  await temp.store.create(creation(queued))
  const live = attempt(1)
  const commit = leap(queued, runAt(queued, 0, { status: 'submitting', attempt: live, lookup: null }, []))
  await temp.store.commit(commit)
  if (isNoted) await temp.store.noteSubmit(live.token)
  return { run: commit.run, token: live.token, live }
}

/** Closes the store, and takes back what only a stop in order says. */
async function die(): Promise<void> {
  await temp.store.close()
  const text = readFileSync(log, 'utf8')
  expect(text.endsWith('\nclosed\n')).toBe(true)
  writeFileSync(log, text.slice(0, -'\nclosed\n'.length))
}

test('after a start only the submits that were noted may have been sent', async () => {
  const [noted, meant] = [await intent(true), await intent(false)]
  for (const end of [die, async () => {}, die]) {
    await end()
    const store = await temp.reopen()
    expect(await store.isUnsent(noted.token)).toBe(false)
    expect(await store.isUnsent(meant.token)).toBe(true)
  }
})

test('where the lock is removed and another process begins, the first one writes and submits nothing more', async () => {
  const [noted, meant] = [await intent(true), await intent(false)]
  const { store: first, dataDir } = temp
  rmSync(join(dataDir, 'babychain.lock'))
  const second = await openSqliteStore({ dataDir, now: () => T0, boot: 'boot-1' })
  expect([await second.isUnsent(noted.token), await second.isUnsent(meant.token)]).toEqual([false, true])
  await expect(first.noteSubmit(meant.token)).rejects.toBeInstanceOf(StorageUnavailable)
  const run = queuedRun()
  await expect(first.create(creation(run))).rejects.toThrow(/another process has opened/)
  expect((await first.taken).message).toContain('babychain.lock was removed')
  expect(await second.run(run.id)).toBeNull()
  await second.create(creation(run))
  await second.noteSubmit(meant.token)
  await second.close()
})

test('a submit at which the disk fails is not sent, whichever of its questions the disk refuses', async () => {
  const opened = openDatabase({ dataDir: join(temp.dataDir, 'other'), now: () => T0 })
  const fence = () => {
    throw Object.assign(new Error('disk I/O error'), { code: 'SQLITE_IOERR_READ' })
  }
  const store = new SqliteStore({ ...opened, fence }, () => T0)
  await expect(store.noteSubmit('x'.repeat(24))).rejects.toBeInstanceOf(StorageUnavailable)
  await store.close()
})

test.each([
  ['after a power cut', () => {}, 'boot-2'],
  ['where nobody can tell the boot', () => {}, null],
  ['when the log is lost', () => rmSync(log), 'boot-1'],
  ['when the log is empty', () => truncateSync(log, 0), 'boot-1'],
  ['when the database was brought back', () => rmSync(join(temp.dataDir, 'babychain.mark')), 'boot-1'],
])('%s every submit under way may have been sent, at every later start too', async (_, happen, boot) => {
  const { token } = await intent(false)
  await die()
  happen()
  for (let start = 0; start < 2; start += 1) {
    const store = await temp.reopen({ boot, resume: 'now' })
    expect(await store.isUnsent(token)).toBe(false)
    if (boot !== null) await die()
  }
  // It proves again what is meant from now on.
  await temp.reopen({ boot })
  const next = await intent(false)
  if (boot !== null) await die()
  expect(await (await temp.reopen({ boot })).isUnsent(next.token)).toBe(true)
})

test('a crash under a boot that nobody can tell proves nothing to the next one, which cannot be told either', async () => {
  await temp.reopen({ boot: null })
  const { token } = await intent(false)
  await die()
  expect(await (await temp.reopen({ boot: null })).isUnsent(token)).toBe(false)
})

test('a stop in order proves it to another machine, too', async () => {
  const [noted, meant] = [await intent(true), await intent(false)]
  const store = await temp.reopen({ boot: 'boot-2' })
  expect(await Promise.all([noted, meant].map(each => store.isUnsent(each.token)))).toEqual([false, true])
})

test('the log of an earlier start proves nothing', async () => {
  const old = `${log}.old`
  await temp.store.close()
  copyFileSync(log, old)
  await temp.reopen()
  const { token } = await intent(true)
  await temp.store.close()
  copyFileSync(old, log)
  expect(await (await temp.reopen()).isUnsent(token)).toBe(false)
})

test('what is over is not carried to the next start', async () => {
  const { run, token, live } = await intent(true)
  for (let n = 0; n < 1_000; n += 1) await temp.store.noteSubmit(token)
  const store = await temp.reopen()
  expect(await store.isUnsent(token)).toBe(false)
  expect(statSync(log).size).toBeLessThan(200)
  const over = { ...live, outcome: 'canceled' as const, endedAt: T0 }
  const step = { ...inState(run.steps[0]!, { status: 'canceled' }), attempts: [over], completedAt: T0 }
  await store.commit(turn(run, { steps: { 0: step } }))
  await temp.reopen()
  expect(statSync(log).size).toBeLessThan(50)
})

test('a long log is begun anew; a submit that the disk does not note is refused, and is noted when it can be', () => {
  const { db } = temp.store
  const order = { db, dataDir: temp.dataDir, start: 9, continues: false, boot: 'boot-1' }
  const sends = new SendLog(order)
  mkdirSync(`${log}.new`)
  let noted = 0
  const fill = (): void => {
    for (; noted < 4_000; noted += 1) {
      sends.note(`token-${noted}-${'x'.repeat(40)}`)
      sends.over(`token-${noted}-${'x'.repeat(40)}`)
    }
  }
  expect(fill).toThrow(StorageUnavailable)
  expect(noted).toBeGreaterThan(100)
  expect(sends.isUnsent(`token-${noted}-${'x'.repeat(40)}`)).toBe(true)
  rmdirSync(`${log}.new`)
  fill()
  sends.close()
  expect(statSync(log).size).toBeLessThan(80 << 10)
})

test('the boot of this machine is told on Linux', () => {
  if (process.platform === 'linux') expect(bootOfMachine()).toMatch(/^[0-9a-f-]{36}$/)
  else expect(bootOfMachine()).toBeNull()
})
