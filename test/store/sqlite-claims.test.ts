/** What a claim of deliveries reads: little where little may be claimed, and for every host in its turn. */
import { Database } from 'bun:sqlite'
import { afterEach, beforeEach, expect, test } from 'bun:test'
import type { ClaimOrder, NewDelivery } from '../../src/core/delivery.ts'
import { cancelTurn, creation, deliveryOf, queuedRun, T0 } from '../support/store-runs.ts'
import { openTempStore, type TempStore } from '../support/store-temp.ts'

let temp: TempStore
/** Rows of deliveries that were read to choose from, and how often any were asked for. */
const read = { rows: 0, times: 0 }
const { prepare } = Database.prototype

beforeEach(async () => {
  Database.prototype.prepare = function (this: Database, sql: string, ...more: []) {
    const statement = prepare.call(this, sql, ...more)
    if (!/attempts FROM deliveries WHERE host = /.test(sql)) return statement
    const { all } = statement
    statement.all = (...values) => {
      const rows = all.apply(statement, values)
      read.rows += rows.length
      read.times += 1
      return rows
    }
    return statement
  } as typeof prepare
  try {
    temp = await openTempStore()
  } finally {
    Database.prototype.prepare = prepare
  }
})
afterEach(async () => {
  await temp.dispose()
})

async function deliver(wishes: Partial<NewDelivery>[]): Promise<void> {
  await Promise.all(
    wishes.map(async wish => {
      const run = queuedRun()
      await temp.store.create(creation(run))
      await temp.store.commit(cancelTurn(run, deliveryOf(run, wish)))
    }),
  )
}

/** Claims, and says of which hosts and how much was read for it. */
async function claim(more: Partial<ClaimOrder>): Promise<{ hosts: string[]; rows: number; times: number }> {
  Object.assign(read, { rows: 0, times: 0 })
  const claimed = await temp.store.claim({
    ...{ at: T0, leaseUntil: T0 + 45_000, leaseToken: 'L', limit: 64, retries: 32, perHost: 4 },
    ...{ inFlight: {}, closed: [], probed: [], perKey: 48, inFlightOfKeys: {} },
    ...more,
  })
  return { hosts: claimed.map(each => each.host), ...read }
}

test('where all that is due may be claimed, of each host it reads as many as it takes, at once', async () => {
  await deliver(Array.from({ length: 600 }, (_, n) => ({ host: `h${n % 3}:443`, dueAt: T0 - n })))
  await deliver(Array.from({ length: 300 }, (_, n) => ({ host: `late${n}:443`, dueAt: T0 + 1 + n })))
  expect(await claim({})).toMatchObject({ rows: 12, times: 3 })
  expect(await claim({ inFlight: { 'h0:443': -12 } })).toMatchObject({ rows: 24, times: 3 })
})

test('what it reads on is bounded, and each of sixty hosts has its turn after few claims', async () => {
  const hosts = Array.from({ length: 60 }, (_, n) => `h${n}:443`)
  const full = { perKey: 9_999, inFlightOfKeys: { key_many: 9_999 } }
  const old = { apiKeyId: 'key_many', dueAt: T0 - 9 }
  await deliver(hosts.flatMap(host => Array<Partial<NewDelivery>>(30).fill({ ...old, host })))
  await deliver(hosts.map(host => ({ host, apiKeyId: 'key_b' })))
  const found = new Set<string>()
  for (let n = 0; n < 6; n += 1) {
    const { hosts, rows, times } = await claim(full)
    for (const host of hosts) found.add(host)
    // The first look at each host, and 512 rows in steps of 32, of which the last may go a little beyond.
    expect(rows).toBeLessThanOrEqual(60 * 4 + 512 + 32)
    expect(times).toBeLessThanOrEqual(60 + 32)
  }
  expect(found).toEqual(new Set(hosts))
})

test('a host with thousands of them takes no turn of another one', async () => {
  const full = { perKey: 9_999, inFlightOfKeys: { key_many: 9_999 } }
  const old = { apiKeyId: 'key_many', dueAt: T0 - 9_000 }
  await deliver(Array(2_000).fill({ ...old, host: 'big:443' }))
  await deliver(Array(10).fill({ ...old, host: 'small:443', dueAt: T0 - 1 }))
  const fresh = ['big:443', 'small:443', 'small:443'].map(host => ({ host, apiKeyId: 'key_b' }))
  await deliver(fresh)
  const found: string[][] = []
  for (let n = 0; n < 10; n += 1) found.push((await claim(full)).hosts)
  expect(found.slice(0, 2).flat()).toEqual(['small:443', 'small:443'])
  expect(found.flat().toSorted()).toEqual(fresh.map(each => each.host).toSorted())
})
