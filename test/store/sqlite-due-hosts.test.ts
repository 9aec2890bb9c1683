/** What a claim costs where thousands of hosts wait: counted in rows and statements, and in questions about closed hosts. */
import { afterEach, beforeEach, expect, test } from 'bun:test'
import type { ClaimedDelivery, ClaimOrder, NewDelivery } from '../../src/core/delivery.ts'
import { type CountedStore, only, openCountedStore } from '../support/claims.ts'
import { seeded } from '../support/runs.ts'
import { T0 } from '../support/store-runs.ts'

let counted: CountedStore
let temp: CountedStore['temp']
let deliver: CountedStore['deliver']
let claim: CountedStore['claim']

beforeEach(async () => {
  counted = await openCountedStore(/FROM deliveries/)
  ;({ temp, deliver, claim } = counted)
})
afterEach(async () => {
  await temp.dispose()
})

/** Statements, and rows that they gave. */
const asked = () => counted.asked.times + counted.asked.rows
const hostsOf = (claimed: readonly ClaimedDelivery[]) => claimed.map(each => each.host)
const many = (count: number, wish: Partial<NewDelivery> = {}) =>
  Array.from({ length: count }, (_, n) => ({ host: `h${n}:443`, ...wish }))
const keys = (count: number) => Array.from({ length: count }, (_, n) => `key_${n}`)
/** Closed hosts that count how often they are asked about. */
const watched = (hosts: readonly string[]) => {
  const questions = { count: 0, closed: (host: string) => ({ has: () => hosts.includes(host) }) }
  const { closed } = questions
  questions.closed = host => {
    questions.count += 1
    return closed(host)
  }
  return questions
}
const settlement = (id: string, dueAt: number) => ({
  ...{ deliveryId: id, leaseToken: 'L', at: T0 + 9, status: 'pending' as const, dueAt, counts: true, hostChange: null },
  attempt: {
    ...{ no: 1, trigger: 'schedule' as const, startedAt: T0, durationMs: 20, ip: null, httpStatus: 500 },
    ...{ errorClass: 'http_5xx', reply: null, nextAt: dueAt, reason: 'schedule' },
  },
})

test('two thousand hosts with nothing due cost a claim nothing', async () => {
  await deliver(many(2_000, { dueAt: T0 + 3_600_000 }))
  await deliver([{ host: 'due:443' }])
  expect(hostsOf(await claim())).toEqual(['due:443'])
  expect(asked()).toBeLessThan(10)
  await claim()
  expect(asked()).toBeLessThan(10)
})

test('two thousand hosts of a key at its limit, all due, are neither walked nor in the way of another key', async () => {
  await deliver(many(2_000, { apiKeyId: 'key_many', dueAt: T0 - 1_000 }))
  await deliver([{ host: 'other:443', apiKeyId: 'key_b' }])
  const full = { inFlightOfKeys: { key_many: 48 } }
  for (let n = 0; n < 3; n += 1) await claim({ ...full, limit: 0 })
  expect(hostsOf(await claim(full))).toEqual(['other:443'])
  expect(asked()).toBeLessThan(10)
  // With one place for the key, it looks at some of them.
  expect(await claim({ inFlightOfKeys: { key_many: 47 } })).toHaveLength(1)
  expect(asked()).toBeLessThan(200)
})

test('retries without places at a thousand hosts do not hold up what is new, of the same key', async () => {
  const old = await deliver(many(1_280))
  for (let n = 0; n < old.length; n += 64) await claim({ perKey: 64, leaseUntil: T0 + 1 })
  await Promise.all(old.map(({ id }) => temp.store.settle(settlement(id, T0 + 10))))
  await deliver([{ host: 'new:443', dueAt: T0 + 20 }])
  for (let n = 0; n < 3; n += 1) await claim({ at: T0 + 20, limit: 0 })
  expect(hostsOf(await claim({ at: T0 + 20, retries: 0 }))).toEqual(['new:443'])
  expect(asked()).toBeLessThan(10)
})

test('closed hosts by the thousand are asked about in parts, stand before nobody, and come back when they are open', async () => {
  const closed = new Set(many(1_500).map(each => each.host))
  await deliver(many(1_500, { dueAt: T0 - 1_000 }))
  let questions = 0
  const order = {
    closed: (host: string) => {
      questions += 1
      return { has: () => closed.has(host) }
    },
  }
  for (let n = 0; n < 3; n += 1) expect(await claim(order)).toEqual([])
  await deliver([{ host: 'healthy:443' }])
  questions = 0
  expect(hostsOf(await claim(order))).toEqual(['healthy:443'])
  expect(asked()).toBeLessThan(10)
  expect(questions).toBeLessThan(1_100)
  closed.delete('h700:443')
  const found: string[] = []
  for (let n = 0; n < 4; n += 1) found.push(...hostsOf(await claim(order)))
  expect(found).toEqual(['h700:443'])
})

test('after a start with thousands of them due they are read in parts, and what is new does not wait for that', async () => {
  const old = await deliver(many(3_000, { apiKeyId: 'key_many', dueAt: T0 - 1_000 }))
  await temp.store.freeLeases()
  const order = { limit: 1, perKey: 9_999 }
  const found = [...(await claim(order))]
  expect(asked()).toBeLessThan(2_100)
  await deliver([{ host: 'new:443', dueAt: T0 + 1, apiKeyId: 'key_b' }])
  const full = { inFlightOfKeys: { key_many: 9_999 } }
  expect(hostsOf(await claim({ ...order, ...full, at: T0 + 2 }))).toEqual(['new:443'])
  for (let n = 0; n < 60; n += 1) found.push(...(await claim({ ...order, limit: 64, at: T0 + 3 + n })))
  expect(new Set(found.map(each => each.id))).toEqual(new Set(old.map(each => each.id)))
})

test('what becomes due is found at once, however much is due at a closed host and whenever all of it is read again', async () => {
  await deliver(Array(2_500).fill({ host: 'dead:443', apiKeyId: 'key_dead', dueAt: T0 - 1_000 }))
  const order = { closed: only(['dead:443']), leaseUntil: T0 + 9e6 }
  await claim(order)
  for (let at = T0 + 10_000; at < T0 + 200_000; at += 10_000) {
    const [fresh] = await deliver([{ host: `h${at}:443`, dueAt: at - 5 }])
    expect((await claim({ ...order, at })).map(each => each.id)).toEqual([fresh!.id])
    expect(asked()).toBeLessThan(2_060)
  }
})

test('reading all of it again goes on to its end, also where claims are minutes apart', async () => {
  await deliver(Array(2_500).fill({ host: 'dead:443', apiKeyId: 'key_dead', dueAt: T0 - 1_000 }))
  await deliver([{ host: 'last:443', dueAt: T0 - 5 }])
  const found: string[] = []
  for (let n = 0; n < 2; n += 1)
    found.push(...hostsOf(await claim({ at: T0 + n * 120_000, closed: only(['dead:443']) })))
  expect(found).toEqual(['last:443'])
})

test('of two thousand keys that call one host a claim looks at some, and each of them has its turn', async () => {
  const sent = await deliver(keys(2_000).map(apiKeyId => ({ apiKeyId, host: 'one:443' })))
  await claim({ limit: 0 })
  const questions = watched([])
  const found: ClaimedDelivery[] = []
  for (let n = 0; n < 40; n += 1) {
    questions.count = 0
    found.push(...(await claim({ perHost: 64, closed: questions.closed })))
    expect(questions.count).toBeLessThan(300)
    expect(asked()).toBeLessThan(300)
  }
  expect(new Set(found.map(each => each.id))).toEqual(new Set(sent.map(each => each.id)))
})

test('a host that a thousand keys call stands before nobody while it is closed or full, and is found as soon as it is not', async () => {
  await deliver(keys(1_000).map(apiKeyId => ({ apiKeyId, host: 'one:443', dueAt: T0 - 1_000 })))
  for (const [at, state] of [
    [T0, { closed: only(['one:443']) }],
    [T0 + 100, { inFlight: { 'one:443': 4 } }],
  ] as const) {
    for (let n = 0; n < 4; n += 1) expect(await claim({ at, ...state })).toEqual([])
    const host = `new${at}:443`
    await deliver([{ host, apiKeyId: 'key_new', dueAt: at }])
    const questions = watched('closed' in state ? ['one:443'] : [])
    expect(hostsOf(await claim({ at, ...state, closed: questions.closed }))).toEqual([host])
    expect(questions.count).toBeLessThan(50)
    expect(hostsOf(await claim({ at }))).toEqual(Array(4).fill('one:443'))
  }
})

test('of hundreds of keys that call the same hosts, some closed and some full, nothing is left behind', async () => {
  const random = seeded(9)
  const upTo = (n: number) => Math.floor(random() * n)
  const host = () => `h${upTo(40)}:443`
  const some = (count: number, at: number) =>
    deliver(
      Array.from({ length: count }, () => ({ apiKeyId: `key_${upTo(900)}`, host: host(), dueAt: at - upTo(9_000) })),
    )
  const sent = await some(500, T0)
  const found: ClaimedDelivery[] = []
  for (let n = 0; n < 20; n += 1) {
    const at = T0 + n * 5_000
    sent.push(...(await some(10, at)))
    const inFlight = { [host()]: 4, [host()]: 3 }
    const inFlightOfKeys = { [`key_${upTo(900)}`]: 48 }
    const order = { at, closed: only([host(), host()]), probed: only([host()]), inFlight, inFlightOfKeys, limit: 20 }
    const claimed = await claim({ ...order, leaseToken: `L${n}`, leaseUntil: T0 + 9e6 })
    const failed = claimed.slice(0, 15)
    await Promise.all(
      failed.map(({ id }) => temp.store.settle({ ...settlement(id, at + upTo(9_000)), at, leaseToken: `L${n}` })),
    )
    found.push(...claimed.slice(15))
  }
  const free = { at: T0 + 400_000, leaseUntil: T0 + 9e6, perHost: 64 }
  for (let n = 0; n < 30; n += 1) found.push(...(await claim({ ...free, retries: 64 })))
  expect(new Set(found.map(each => each.id))).toEqual(new Set(sent.map(each => each.id)))
  expect(found).toHaveLength(sent.length)
})

test('each of hundreds of hosts of a key has its turn before any has its second', async () => {
  await deliver([...many(300), ...many(300)])
  const found: string[] = []
  for (let n = 0; n < 30; n += 1) found.push(...hostsOf(await claim({ limit: 10, perHost: 1 })))
  expect(new Set(found).size).toBe(300)
  expect(found).toHaveLength(300)
})

test('of hundreds of keys with dozens of hosts each a claim looks at some', async () => {
  const keys = Array.from({ length: 200 }, (_, n) => `key_${n}`)
  await deliver(keys.flatMap((apiKeyId, k) => many(12).map(({ host }) => ({ apiKeyId, host: `k${k}.${host}` }))))
  for (let n = 0; n < 3; n += 1) await claim({ limit: 1 })
  expect(await claim()).toHaveLength(64)
  expect(asked()).toBeLessThan(1_100)
})

test('what becomes due behind a claim is found: after an attempt, a resend, a restart, and a clock that was set back', async () => {
  const [one, two, three] = await deliver([
    { host: 'a:443', dueAt: T0 - 5 },
    { host: 'b:443', dueAt: T0 - 5 },
    { host: 'c:443', dueAt: T0 + 50 },
  ])
  await claim({ at: T0 + 5 })
  await temp.store.settle(settlement(one!.id, T0 - 3))
  expect((await claim({ at: T0 + 9 })).map(each => each.id)).toEqual([one!.id])
  await temp.store.settle(settlement(two!.id, T0 + 3_600_000))
  await temp.store.resend(two!.id, T0 + 4)
  expect((await claim({ at: T0 + 9 })).map(each => each.id)).toEqual([two!.id])
  // It looks so far ahead that it knows the third, may not take it, and forgets it when the clock is set back.
  expect(await claim({ at: T0 + 60, closed: only(['c:443']) })).toEqual([])
  expect(await claim({ at: T0 + 20 })).toEqual([])
  expect((await claim({ at: T0 + 55 })).map(each => each.id)).toEqual([three!.id])
  await temp.store.freeLeases()
  expect(new Set((await claim({ at: T0 + 56 })).map(each => each.id))).toEqual(new Set([one!.id, two!.id, three!.id]))
})

test('what was claimed in a transaction that was taken back is claimed anew, and by the next claim where that failed as well', async () => {
  const [delivery] = await deliver([{}])
  const broken = { ...settlement(delivery!.id, T0), dueAt: null }
  const made = await Promise.allSettled([claim(), claim({ leaseToken: 'L2' }), temp.store.settle(broken)])
  expect(made.map(each => (each.status === 'fulfilled' ? each.value : 'refused'))).toMatchObject([
    [{ id: delivery!.id, leaseToken: 'L' }],
    [],
    'refused',
  ])
  await temp.store.freeLeases()
  temp.store.db.run(`CREATE TRIGGER no_lease BEFORE UPDATE ON deliveries BEGIN SELECT raise(FAIL, 'no'); END`)
  await expect(claim()).rejects.toThrow()
  temp.store.db.run('DROP TRIGGER no_lease')
  expect(await claim()).toMatchObject([{ id: delivery!.id }])
})

test('whatever came before, a claim with places for all leaves nothing that is due', async () => {
  const random = seeded(5)
  const upTo = (n: number) => Math.floor(random() * n)
  const host = () => `h${upTo(6)}:443`
  let at = T0
  const known: NewDelivery[] = []
  const held: { id: string; leaseToken: string }[] = []
  const take = async (more: Partial<ClaimOrder>) =>
    held.push(...(await claim({ at, leaseUntil: at + 100, leaseToken: `L${held.length}.${upTo(1e9)}`, ...more })))
  const moves = [
    async () => {
      known.push(
        ...(await deliver(
          Array.from({ length: 5 }, () => ({ host: host(), apiKeyId: `key_${upTo(3)}`, dueAt: at + upTo(60) - 40 })),
        )),
      )
    },
    () => take({ closed: only([host(), host()]), perHost: 2, retries: upTo(4), limit: 1 + upTo(8) }),
    () =>
      take({
        perKey: 1 + upTo(6),
        inFlightOfKeys: { key_0: 3 },
        inFlight: { 'h0:443': upTo(6) },
        probed: only([host()]),
      }),
    async () => {
      for (const { id, leaseToken } of held.splice(0, 4))
        await temp.store.settle({ ...settlement(id, at + upTo(40) - 20), at, leaseToken, counts: upTo(5) > 0 })
    },
    async () => known[0] && temp.store.resend(known[upTo(known.length)]!.id, at),
    () => temp.store.freeLeases(),
    () =>
      Promise.allSettled([
        take({}),
        temp.store.settle({ ...settlement('none', T0), dueAt: null }),
        take({ perHost: 1 }),
      ]),
    async () => {
      at += upTo(60) - 15
    },
  ]
  const due = temp.store.db.query<{ n: number }, [number]>(
    `SELECT count(*) AS n FROM deliveries WHERE status = 'pending' AND ready_at <= ?`,
  )
  for (let n = 0; n < 600; n += 1) {
    await moves[upTo(moves.length)]?.()
    if (n % 10 !== 9) continue
    await take({ limit: 2_000, retries: 2_000, perHost: 2_000, perKey: 2_000 })
    expect([n, due.get(at)?.n]).toEqual([n, 0])
  }
})
