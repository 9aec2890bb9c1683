/** What a claim of deliveries reads: little where little may be claimed, and for every host in its turn. */
import { afterEach, beforeEach, expect, test } from 'bun:test'
import type { ClaimOrder, NewDelivery } from '../../src/core/delivery.ts'
import { type CountedStore, only, openCountedStore } from '../support/claims.ts'
import { T0 } from '../support/store-runs.ts'

let counted: CountedStore
let deliver: CountedStore['deliver']

beforeEach(async () => {
  // Of the deliveries, those that it chooses from.
  counted = await openCountedStore(/attempts FROM deliveries WHERE host = /)
  ;({ deliver } = counted)
})
afterEach(async () => {
  await counted.temp.dispose()
})

/** Claims, and says of which hosts and how much was read for it. */
async function claim(more: Partial<ClaimOrder>): Promise<{ hosts: string[]; rows: number; times: number }> {
  const claimed = await counted.claim(more)
  return { hosts: claimed.map(each => each.host), ...counted.asked }
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

test('what waits for a host that is closed to its key is passed at once, however much it is', async () => {
  const closed = only(['shared:443'], 'key_many')
  await deliver(Array(2_000).fill({ host: 'shared:443', apiKeyId: 'key_many', dueAt: T0 - 9_000 }))
  for (const dueAt of [T0 - 5, T0 - 3]) {
    await deliver(Array(2).fill({ host: 'shared:443', apiKeyId: 'key_b', dueAt }))
    const { hosts, rows } = await claim({ closed })
    expect(hosts).toHaveLength(2)
    expect(rows).toBeLessThan(20)
  }
  expect((await claim({})).hosts).toHaveLength(4)
})
