/** The part of the Store's contract about callbacks: claims, leases, settlements, their log. */
import { expect, test } from 'bun:test'
import {
  type ClaimedDelivery,
  type ClaimOrder,
  type DeliveryAttempt,
  type DeliveryFilter,
  isRetry,
  type NewDelivery,
  type Settlement,
} from '../../src/core/delivery.ts'
import type { Store } from '../../src/core/ports.ts'
import { only } from '../support/claims.ts'
import { cancelTurn, creation, deliveryOf, queuedRun, T0, turn } from '../support/store-runs.ts'
import type { Subject } from './store.contract.ts'

export function deliveriesContract(subject: Subject): void {
  storing(subject)
  claiming(subject)
  passing(subject)
  settling(subject)
  asking(subject)
}

function storing(subject: Subject): void {
  test('a callback is stored with the end of its run, byte for byte', async () => {
    const { store } = subject
    const run = queuedRun()
    await store.create(creation(run))
    const body = crypto.getRandomValues(new Uint8Array(20_000))
    const delivery = deliveryOf(run, { body, dueAt: T0 + 5, createdAt: T0 + 4 })
    await store.commit(cancelTurn(run, delivery))
    for (const open of [async () => store, subject.reopen]) {
      expect(await (await open()).deliveriesOf(run.id)).toEqual([
        { ...delivery, status: 'pending', attempts: 0, updatedAt: T0 + 4, deliveredAt: null, lastError: null },
      ])
    }
    expect(await subject.store.deliveriesOf(queuedRun().id)).toEqual([])
  })

  test('a run has one terminal callback: a second one is refused with all that came with it', async () => {
    const { store } = subject
    const run = queuedRun()
    await store.create(creation(run))
    const end = cancelTurn(run, deliveryOf(run))
    await store.commit(end)
    const more = turn(end.run, { events: [{ type: 'run.failed' }], delivery: deliveryOf(run, { type: 'run.failed' }) })
    await expect(store.commit(more)).rejects.toThrow()
    expect(await store.run(run.id)).toEqual(end.run)
    expect(await store.deliveriesOf(run.id)).toHaveLength(1)
    expect((await store.counts()).deliveries.pending).toBe(1)
  })
}

function claiming(subject: Subject): void {
  test('a delivery that is committed with a lease is its holder’s until the lease ends, and has had its first attempt', async () => {
    const { store } = subject
    const run = queuedRun()
    await store.create(creation(run))
    const delivery = deliveryOf(run)
    await store.commit({ ...cancelTurn(run, delivery), lease: { token: 'L0', until: T0 + 50 } })
    expect(await store.claim(claimOrder({ at: T0 + 49 }))).toEqual([])
    expect(await store.nextDeliveryAt()).toBe(T0 + 50)
    const [claimed] = await store.claim(claimOrder({ at: T0 + 50, leaseToken: 'L1' }))
    expect(claimed).toMatchObject({ id: delivery.id, attempts: 2, leaseToken: 'L1' })
    expect(await store.settle(settlement(delivery.id, { leaseToken: 'L0', dueAt: T0 + 99 }))).toBe(false)
    expect(await store.settle(settlement(delivery.id, { leaseToken: 'L1', dueAt: T0 + 99 }))).toBe(true)
  })

  test('what is due is claimed once, oldest first, and counted as an attempt', async () => {
    const { store } = subject
    const [a, b, c] = await deliver(subject, [{ dueAt: T0 + 2 }, { dueAt: T0 + 1 }, { dueAt: T0 + 10 }])
    expect(await store.nextDeliveryAt()).toBe(T0 + 1)
    const claimed = await store.claim(claimOrder({ at: T0 + 5, leaseToken: 'L1' }))
    expect(claimed.map(each => [each.id, each.attempts, each.leaseToken])).toEqual([
      [b!.id, 1, 'L1'],
      [a!.id, 1, 'L1'],
    ])
    expect(claimed[1]).toMatchObject({ ...a!, status: 'pending' })
    expect(await store.claim(claimOrder({ at: T0 + 5 }))).toEqual([])
    expect(await store.nextDeliveryAt()).toBe(T0 + 10)
    expect((await store.claim(claimOrder({ at: T0 + 10 }))).map(each => each.id)).toEqual([c!.id])
  })

  test('claims at the same moment never share a delivery', async () => {
    const { store } = subject
    const all = await deliver(
      subject,
      Array.from({ length: 30 }, (_, n) => ({ host: `h${n % 10}:443` })),
    )
    const claims = await Promise.all([1, 2, 3, 4].map(n => store.claim(claimOrder({ leaseToken: `L${n}`, limit: 9 }))))
    const ids = claims.flat().map(each => each.id)
    expect(claims.map(claim => claim.length)).toEqual([9, 9, 9, 3])
    expect(new Set(ids)).toEqual(new Set(all.map(each => each.id)))
  })

  test('a host with a thousand due deliveries does not delay twenty hosts with one each', async () => {
    const { store } = subject
    await deliver(
      subject,
      Array.from({ length: 1_000 }, (_, n) => ({ host: 'tarpit.example:443', dueAt: T0 - 5_000 + n })),
    )
    await deliver(
      subject,
      Array.from({ length: 20 }, (_, n) => ({ host: `h${n}.example:443`, dueAt: T0 })),
    )
    const claimed = await store.claim(claimOrder({ limit: 24, perHost: 4 }))
    expect(byHost(claimed).get('tarpit.example:443')).toBe(4)
    expect(byHost(claimed).size).toBe(21)
    expect(claimed).toHaveLength(24)
  })

  test('rank by rank: with fewer places than hosts, every host gets one before any gets two', async () => {
    const { store } = subject
    const hosts = Array.from({ length: 12 }, (_, n) => ({ host: `h${n % 4}.example:443`, dueAt: T0 - 100 * (n % 4) }))
    await deliver(subject, hosts)
    expect([...byHost(await store.claim(claimOrder({ limit: 6 }))).values()].sort()).toEqual([1, 1, 2, 2])
  })

  test('a key with hundreds of hosts takes its share of the places and no more', async () => {
    const { store } = subject
    await deliver(
      subject,
      Array.from({ length: 60 }, (_, n) => ({ host: `h${n}.example:443`, apiKeyId: 'key_many', dueAt: T0 - 100 })),
    )
    await deliver(
      subject,
      Array.from({ length: 5 }, (_, n) => ({ host: `k${n}.example:443`, apiKeyId: `key_${n}` })),
    )
    const order = claimOrder({ limit: 20, perHost: 4, perKey: 12, inFlightOfKeys: { key_many: 2, key_4: 12 } })
    const claimed = await store.claim(order)
    const keys = claimed.map(each => each.apiKeyId)
    expect(keys.filter(key => key === 'key_many')).toHaveLength(10)
    expect(keys.filter(key => key !== 'key_many').toSorted()).toEqual(['key_0', 'key_1', 'key_2', 'key_3'])
  })

  test('deliveries in flight take places of their host, and closed hosts are left alone', async () => {
    const { store } = subject
    await deliver(
      subject,
      Array.from({ length: 18 }, (_, n) => ({ host: ['a:443', 'b:443', 'c:443'][n % 3]! })),
    )
    const claimed = await store.claim(
      claimOrder({ perHost: 4, inFlight: { 'a:443': 3, 'b:443': 9 }, closed: only(['c:443', 'z:1']) }),
    )
    expect([...byHost(claimed)]).toEqual([['a:443', 1]])
  })

  test('of a host that is probed no more than one is claimed, whatever it has waiting', async () => {
    const { store } = subject
    await deliver(
      subject,
      Array.from({ length: 18 }, (_, n) => ({ host: ['a:443', 'b:443', 'c:443'][n % 3]! })),
    )
    const order = claimOrder({ perHost: 4, probed: only(['a:443', 'b:443', 'z:1']), closed: only(['b:443']) })
    expect(Object.fromEntries(byHost(await store.claim(order)))).toEqual({ 'a:443': 1, 'c:443': 4 })
  })

  test('a host that is closed to a key, or probed by it, is no other to the keys beside it', async () => {
    const { store } = subject
    const keys = ['key_closed', 'key_probing', 'key_b', 'key_c']
    const old = ['key_closed', 'key_probing'].flatMap(apiKeyId => Array(50).fill({ apiKeyId, dueAt: T0 - 9 }))
    await deliver(subject, [...old, ...Array(3).fill({ apiKeyId: 'key_b' }), ...Array(3).fill({ apiKeyId: 'key_c' })])
    const { host } = deliveryOf(queuedRun())
    const order = claimOrder({ perHost: 20, closed: only([host], 'key_closed'), probed: only([host], 'key_probing') })
    const claimed = await store.claim(order)
    const count = (apiKeyId: string) => claimed.filter(each => each.apiKeyId === apiKeyId).length
    expect(keys.map(count)).toEqual([0, 1, 3, 3])
    expect(await store.claim({ ...order, closed: only([host], 'key_probing') })).toHaveLength(20)
  })

  test('a host that has earned more places takes all of them in one claim', async () => {
    const { store } = subject
    const wishes = Array.from({ length: 40 }, (_, n) => ({ host: n < 30 ? 'quick:443' : `h${n % 2}:443` }))
    await deliver(subject, wishes)
    const claimed = await store.claim(claimOrder({ perHost: 4, inFlight: { 'quick:443': -20, 'h1:443': 1 } }))
    expect(Object.fromEntries(byHost(claimed))).toEqual({ 'quick:443': 24, 'h0:443': 4, 'h1:443': 3 })
  })

  test('of what was tried before no more is claimed than its share, and what is new goes past it', async () => {
    const { store } = subject
    const old = await deliver(
      subject,
      Array.from({ length: 12 }, (_, n) => ({ host: `h${n % 6}:443`, dueAt: T0 - 100 + n })),
    )
    await store.claim(claimOrder({ at: T0, leaseToken: 'L1' }))
    for (const { id } of old) await store.settle(settlement(id, { dueAt: T0 + 1 }))
    const fresh = await deliver(
      subject,
      Array.from({ length: 4 }, (_, n) => ({ host: `h${n}:443`, dueAt: T0 + 2 })),
    )
    const claimed = await store.claim(claimOrder({ at: T0 + 3, retries: 5, limit: 20 }))
    expect(claimed.filter(isRetry)).toHaveLength(5)
    expect(new Set(claimed.filter(each => !isRetry(each)).map(each => each.id))).toEqual(
      new Set(fresh.map(each => each.id)),
    )
    expect(await store.claim(claimOrder({ at: T0 + 3, retries: 0 }))).toEqual([])
    expect(await store.claim(claimOrder({ at: T0 + 3, retries: -1 }))).toEqual([])
    expect(await store.claim(claimOrder({ at: T0 + 3 }))).toHaveLength(7)
  })

  test('a lease that ran out, or whose holder is known to be gone, is given to the next one', async () => {
    const { store } = subject
    await deliver(subject, [{}])
    await store.claim(claimOrder({ leaseToken: 'L1', leaseUntil: T0 + 45_000 }))
    expect(await store.nextDeliveryAt()).toBe(T0 + 45_000)
    expect(await store.claim(claimOrder({ at: T0 + 44_999 }))).toEqual([])
    const [second] = await store.claim(claimOrder({ at: T0 + 45_000, leaseToken: 'L2', leaseUntil: T0 + 90_000 }))
    expect(second).toMatchObject({ attempts: 2, leaseToken: 'L2' })
    const restarted = await subject.reopen()
    await restarted.freeLeases()
    expect(await restarted.nextDeliveryAt()).toBe(T0)
    expect(await restarted.claim(claimOrder({ leaseToken: 'L3' }))).toMatchObject([{ attempts: 3, leaseToken: 'L3' }])
  })
}

/** What may not be claimed now takes nobody's place, wherever it stands. */
function passing(subject: Subject): void {
  const [old, fresh] = [{ dueAt: T0 - 100 }, { dueAt: T0 + 2 }]
  /** So many that were tried before and are due again, each older than what is fresh. */
  const retries = async (count: number, wish: Partial<NewDelivery> = {}): Promise<void> => {
    const made = await deliver(subject, Array(count).fill({ ...old, ...wish }))
    const room = { limit: count, perHost: count, perKey: count, retries: count }
    expect(await subject.store.claim(claimOrder({ ...room, leaseToken: 'L1' }))).toHaveLength(count)
    await Promise.all(made.map(({ id }) => subject.store.settle(settlement(id, { dueAt: T0 + 1 }))))
  }
  const ids = (each: readonly { id: string }[]) => each.map(({ id }) => id).toSorted()

  test('while retries have no place, first attempts at their host do not wait behind them', async () => {
    const { store } = subject
    await retries(40)
    const news = await deliver(subject, Array(6).fill(fresh))
    const claimed = await store.claim(claimOrder({ at: T0 + 3, retries: 0, perHost: 4 }))
    expect(claimed.map(isRetry)).toEqual([false, false, false, false])
    const next = await store.claim(claimOrder({ at: T0 + 3, retries: 1, perHost: 4 }))
    expect(next.map(isRetry).toSorted()).toEqual([false, false, true])
    expect(ids([...claimed, ...next.filter(each => !isRetry(each))])).toEqual(ids(news))
    expect(await store.claim(claimOrder({ at: T0 + 3, retries: 0, perHost: 4 }))).toEqual([])
    expect(await store.claim(claimOrder({ at: T0 + 3, perHost: 4 }))).toHaveLength(4)
  })

  test('what is over is not claimed again, though it lies behind what may not be claimed now', async () => {
    const { store } = subject
    const over = await deliver(subject, Array(3).fill({ dueAt: T0 - 50, apiKeyId: 'key_b' }))
    await store.claim(claimOrder({ leaseToken: 'L1' }))
    await Promise.all(over.map(({ id }) => store.settle(settlement(id, { status: 'delivered' }))))
    await deliver(subject, Array(40).fill({ ...old, apiKeyId: 'key_many' }))
    const news = await deliver(subject, Array(2).fill({ ...fresh, apiKeyId: 'key_b' }))
    const order = claimOrder({ at: T0 + 3, perHost: 4, perKey: 12, inFlightOfKeys: { key_many: 12 } })
    expect(ids(await store.claim(order))).toEqual(ids(news))
  })

  test('a key at its limit does not stand before another one at a host that they share', async () => {
    const { store } = subject
    const olds = await deliver(subject, Array(40).fill({ ...old, apiKeyId: 'key_many' }))
    const news = await deliver(subject, Array(3).fill({ ...fresh, apiKeyId: 'key_b' }))
    const order = claimOrder({ at: T0 + 3, perHost: 4, perKey: 12 })
    const full = await store.claim({ ...order, inFlightOfKeys: { key_many: 12 } })
    expect(ids(full)).toEqual(ids(news))
    const [last, ...none] = await store.claim({ ...order, inFlightOfKeys: { key_many: 11 } })
    expect(ids(olds)).toContain(last!.id)
    expect(none).toEqual([])
  })

  test('rank by rank also past what may not be claimed: such a host has its first before another has its second', async () => {
    const { store } = subject
    await retries(12)
    await deliver(subject, Array(12).fill({ ...fresh, host: 'quick:443' }))
    await deliver(subject, Array(12).fill(fresh))
    const claimed = await store.claim(claimOrder({ at: T0 + 3, retries: 0, perHost: 4, limit: 4 }))
    expect([...byHost(claimed).values()]).toEqual([2, 2])
  })

  test('of a dozen hosts with such deliveries in front none is left out, and closed or busy ones stay alone', async () => {
    const { store } = subject
    const hosts = Array.from({ length: 12 }, (_, n) => `h${n}.example:443`)
    const wishes = (count: number, wish: Partial<NewDelivery>) =>
      hosts.flatMap(host => Array<Partial<NewDelivery>>(count).fill({ ...wish, host }))
    await deliver(subject, wishes(60, { ...old, apiKeyId: 'key_many' }))
    await deliver(subject, wishes(2, { ...fresh, apiKeyId: 'key_b' }))
    const order = claimOrder({ at: T0 + 3, perHost: 4, perKey: 30, inFlightOfKeys: { key_many: 30 } })
    const more = { inFlight: { [hosts[0]!]: 4 }, closed: only([hosts[1]!]) }
    const got = byHost(await claims(store, { ...order, ...more }, 4))
    expect(hosts.map(host => got.get(host) ?? 0)).toEqual([0, 0, ...Array(10).fill(2)])
  })

  test('behind a thousand and more that may not be claimed it comes some claims later, and those are not forgotten', async () => {
    const { store } = subject
    const olds = await deliver(subject, Array(1_500).fill({ ...old, apiKeyId: 'key_many' }))
    const news = await deliver(subject, Array(20).fill({ ...fresh, apiKeyId: 'key_b' }))
    const order = claimOrder({ at: T0 + 3, perHost: 4, perKey: 12, inFlightOfKeys: { key_many: 12 } })
    const found = await claims(store, order, 12)
    expect(ids(found)).toEqual(ids(news))
    const rest = await claims(store, { ...order, perKey: 5_000, perHost: 64, inFlightOfKeys: {} }, 30)
    expect(ids(rest)).toEqual(ids(olds))
  })
}

/** What so many claims find, one after the other, by a holder whose places are free again each time. */
async function claims(store: Store, order: ClaimOrder, count: number): Promise<ClaimedDelivery[]> {
  const all: ClaimedDelivery[] = []
  for (let n = 0; n < count; n += 1) all.push(...(await store.claim(order)))
  return all
}

function settling(subject: Subject): void {
  test('a settlement records the attempt and the state after it', async () => {
    const { store } = subject
    const [delivery] = await deliver(subject, [{}])
    const { id, runId } = delivery!
    await store.claim(claimOrder({ leaseToken: 'L1' }))
    const failed = attemptOf({
      errorClass: 'http_5xx',
      httpStatus: 503,
      reply: 'busy\\n',
      nextAt: T0 + 5_000,
      reason: 'schedule',
    })
    expect(await store.settle(settlement(id, { at: T0 + 20, dueAt: T0 + 5_000, attempt: failed }))).toBe(true)
    expect(await store.nextDeliveryAt()).toBe(T0 + 5_000)
    const waiting = {
      status: 'pending',
      attempts: 1,
      dueAt: T0 + 5_000,
      updatedAt: T0 + 20,
      lastError: 'http_5xx',
    } as const
    expect(await store.deliveriesOf(runId)).toMatchObject([{ ...waiting, deliveredAt: null }])
    await store.claim(claimOrder({ at: T0 + 5_000, leaseToken: 'L2' }))
    const won = attemptOf({ no: 2, startedAt: T0 + 5_000, durationMs: 12.5, httpStatus: 204 })
    expect(
      await store.settle(settlement(id, { leaseToken: 'L2', at: T0 + 5_012, status: 'delivered', attempt: won })),
    ).toBe(true)
    const delivered = { status: 'delivered', attempts: 2, deliveredAt: T0 + 5_012, lastError: null } as const
    expect(await store.deliveriesOf(runId)).toMatchObject([delivered])
    expect(await store.deliveryAttempts(id)).toEqual([failed, won])
    expect(await store.nextDeliveryAt()).toBeNull()
    expect(await store.claim(claimOrder({ at: T0 + 9e9 }))).toEqual([])
    expect((await store.counts()).deliveries).toEqual({ pending: 0, delivered: 1, exhausted: 0, gone: 0 })
    expect(await (await subject.reopen()).deliveryAttempts(id)).toEqual([failed, won])
  })

  test('a host stays closed over a restart until a settlement opens it, or its time is long over', async () => {
    const { store } = subject
    const [a, b, c] = await deliver(subject, [{}, {}, {}])
    await store.claim(claimOrder({ leaseToken: 'L1' }))
    const closed = (receiver: string, seconds: number, pauseMs = 120_000) =>
      ({ receiver, closedUntil: T0 + seconds * 1_000, pauseMs }) as const
    const later = { dueAt: T0 + 5_000 }
    await store.settle(settlement(a!.id, { ...later, hostChange: closed('a:443', 60) }))
    await store.settle(settlement(b!.id, { ...later, hostChange: closed('b:443', 60) }))
    await store.settle(settlement(c!.id, { ...later, hostChange: closed('c:443', 10) }))
    await store.claim(claimOrder({ at: T0 + 5_000, leaseToken: 'L2' }))
    await store.settle(settlement(a!.id, { leaseToken: 'L2', ...later, hostChange: closed('a:443', 180, 240_000) }))
    await store.settle(
      settlement(b!.id, {
        leaseToken: 'L2',
        status: 'delivered',
        hostChange: { receiver: 'b:443', closedUntil: null },
      }),
    )
    // A lease that was lost says no less about the host.
    await store.settle(settlement(c!.id, { ...later, hostChange: closed('d:443', 90) }))
    const restarted = await subject.reopen()
    const hosts = async (since: number) => (await restarted.closedHosts(since)).map(each => each.receiver).toSorted()
    expect(await hosts(T0)).toEqual(['a:443', 'c:443', 'd:443'])
    expect(await restarted.closedHosts(T0 + 100_000)).toEqual([closed('a:443', 180, 240_000)])
    expect(await hosts(T0)).toEqual(['a:443'])
  })

  test('an attempt that does not count gives its number back', async () => {
    const { store } = subject
    const [delivery] = await deliver(subject, [{}])
    await store.claim(claimOrder({ leaseToken: 'L1' }))
    const down = attemptOf({ errorClass: 'egress_down', nextAt: T0 + 30_000, reason: 'egress_down' })
    await store.settle(settlement(delivery!.id, { dueAt: T0 + 30_000, counts: false, attempt: down }))
    const [again] = await store.claim(claimOrder({ at: T0 + 30_000, leaseToken: 'L2' }))
    expect(again?.attempts).toBe(1)
    await store.settle(
      settlement(delivery!.id, { leaseToken: 'L2', status: 'gone', attempt: attemptOf({ httpStatus: 410 }) }),
    )
    expect((await store.deliveryAttempts(delivery!.id)).map(each => each.no)).toEqual([1, 1])
    expect((await store.counts()).deliveries.gone).toBe(1)
  })

  test('whoever lost the lease changes nothing; the attempt is logged as one that decided nothing', async () => {
    const { store } = subject
    const [delivery] = await deliver(subject, [{}])
    const { id, runId } = delivery!
    await store.claim(claimOrder({ leaseToken: 'L1', leaseUntil: T0 + 1 }))
    await store.claim(claimOrder({ at: T0 + 1, leaseToken: 'L2' }))
    const before = await store.deliveriesOf(runId)
    const late = attemptOf({ errorClass: 'timeout', nextAt: T0 + 60_000, reason: 'schedule' })
    expect(await store.settle(settlement(id, { dueAt: T0 + 60_000, attempt: late }))).toBe(false)
    expect(await store.deliveriesOf(runId)).toEqual(before)
    expect(await store.deliveryAttempts(id)).toEqual([{ ...late, nextAt: null, reason: 'lease_lost' }])
    const won = settlement(id, {
      leaseToken: 'L2',
      status: 'delivered',
      attempt: attemptOf({ no: 2, httpStatus: 200 }),
    })
    expect(await store.settle(won)).toBe(true)
    expect(await store.settle(won)).toBe(false)
    expect((await store.counts()).deliveries).toMatchObject({ pending: 0, delivered: 1 })
    expect(await store.settle(settlement('msg_unknown', { status: 'delivered' }))).toBe(false)
  })

  test('a lease that ran out may still be settled by its holder while nobody else took it', async () => {
    const { store } = subject
    const [delivery] = await deliver(subject, [{}])
    await store.claim(claimOrder({ leaseToken: 'L1', leaseUntil: T0 + 1 }))
    expect(await store.settle(settlement(delivery!.id, { at: T0 + 99, status: 'delivered' }))).toBe(true)
  })

  test('a pending delivery must say when', async () => {
    const { store } = subject
    const [delivery] = await deliver(subject, [{}])
    await store.claim(claimOrder({ leaseToken: 'L1' }))
    await expect(store.settle(settlement(delivery!.id, { status: 'pending', dueAt: null }))).rejects.toThrow()
    expect(await store.deliveryAttempts(delivery!.id)).toEqual([])
  })
}

function asking(subject: Subject): void {
  const list = async (more: Partial<DeliveryFilter> = {}) =>
    (await subject.store.deliveries({ apiKeyId: 'key_a', limit: 100, ...more })).map(each => each.id)

  test('a list of deliveries is the key’s own, newest first, by run, status and host, page after page', async () => {
    const { store } = subject
    const made = await deliver(
      subject,
      Array.from({ length: 9 }, (_, n) => ({ createdAt: T0 + (n >> 1), host: `h${n % 2}:443` })),
    )
    const [strange] = await deliver(subject, [{ apiKeyId: 'key_b', host: 'h1:443', dueAt: T0 + 98 }])
    const order = made.toSorted((a, b) => b.createdAt - a.createdAt || (a.id < b.id ? 1 : -1))
    const ids = order.map(each => each.id)
    expect(await list()).toEqual(ids)
    const { body: _, ...first } = order[0]!
    const fresh = {
      status: 'pending',
      attempts: 0,
      updatedAt: first.createdAt,
      deliveredAt: null,
      lastError: null,
    } as const
    expect((await store.deliveries({ apiKeyId: 'key_a', limit: 1 }))[0]).toEqual({ ...first, ...fresh })
    expect(await store.delivery(first.id)).toEqual({ ...order[0]!, ...fresh })
    expect(await store.delivery('msg_none')).toBeNull()
    expect(await list({ host: 'h1:443' })).toEqual(order.filter(each => each.host === 'h1:443').map(each => each.id))
    expect(await list({ runId: made[3]!.runId })).toEqual([made[3]!.id])
    expect(await list({ runId: made[3]!.runId, host: 'h0:443' })).toEqual([])
    expect(await list({ runId: strange!.runId })).toEqual([])
    const [claimed] = await store.claim(claimOrder({ leaseToken: 'L1', limit: 1, at: T0 + 99 }))
    await store.settle(settlement(claimed!.id, { status: 'exhausted' }))
    expect(await list({ status: ['exhausted'] })).toEqual([claimed!.id])
    expect(await list({ status: ['pending'] })).toEqual(ids.filter(id => id !== claimed!.id))
    expect(await list({ status: ['pending', 'exhausted'] })).toEqual(ids)
    expect(await list({ status: ['gone', 'exhausted'], host: claimed!.host })).toEqual([claimed!.id])
    for (const more of [{}, { host: 'h0:443' }, { status: ['pending'] as const }]) {
      const paged: string[] = []
      let before: DeliveryFilter['before']
      for (;;) {
        const page = await store.deliveries({ apiKeyId: 'key_a', limit: 2, ...more, before })
        paged.push(...page.map(each => each.id))
        if (page.length < 2) break
        before = { createdAt: page[1]!.createdAt, id: page[1]!.id }
      }
      expect(paged).toEqual(await list(more))
    }
  })

  test('a resend is one more attempt outside the schedule; what it was before comes back with the claim', async () => {
    const { store } = subject
    const [delivery] = await deliver(subject, [{}])
    const { id, runId } = delivery!
    await store.claim(claimOrder({ leaseToken: 'L1' }))
    expect(await store.settle(settlement(id, { dueAt: T0 + 5_000 }))).toBe(true)
    expect(await store.resend(id, T0 + 2)).toBe(true)
    expect(await store.resend(id, T0 + 3)).toBe(true)
    const [manual] = await store.claim(claimOrder({ at: T0 + 4, leaseToken: 'L2' }))
    expect(manual).toMatchObject({
      id,
      attempts: 1,
      trigger: 'manual',
      prior: { status: 'pending', dueAt: T0 + 5_000 },
    })
    const restarted = await subject.reopen()
    await restarted.freeLeases()
    const [again] = await restarted.claim(claimOrder({ at: T0 + 4, leaseToken: 'L3' }))
    expect(again).toMatchObject({ id, attempts: 1, trigger: 'manual', prior: { status: 'pending', dueAt: T0 + 5_000 } })
    const down = settlement(id, {
      leaseToken: 'L3',
      dueAt: T0 + 9,
      counts: false,
      attempt: attemptOf({ trigger: 'manual' }),
    })
    await restarted.settle(down)
    const [third] = await restarted.claim(claimOrder({ at: T0 + 9, leaseToken: 'L4' }))
    expect(third).toMatchObject({ attempts: 1, trigger: 'manual', prior: { status: 'pending', dueAt: T0 + 5_000 } })
    await restarted.settle(settlement(id, { leaseToken: 'L4', at: T0 + 10, status: 'delivered' }))
    expect(await restarted.deliveriesOf(runId)).toMatchObject([
      { status: 'delivered', attempts: 1, deliveredAt: T0 + 10 },
    ])
    await restarted.resend(id, T0 + 20)
    expect((await restarted.counts()).deliveries).toMatchObject({ pending: 1, delivered: 0 })
    const [after] = await restarted.claim(claimOrder({ at: T0 + 20, leaseToken: 'L5' }))
    expect(after).toMatchObject({ trigger: 'manual', prior: { status: 'delivered' } })
    await restarted.settle(settlement(id, { leaseToken: 'L5', at: T0 + 21, status: 'delivered' }))
    expect((await restarted.counts()).deliveries).toMatchObject({ pending: 0, delivered: 1 })
    expect(await restarted.claim(claimOrder({ at: T0 + 9e9 }))).toEqual([])
    expect(await restarted.resend('msg_none', T0)).toBe(false)
  })

  test('a resend while an attempt is under way is one more at once if that one fails, and none if it is delivered', async () => {
    const { store } = subject
    const [delivery] = await deliver(subject, [{}])
    const { id } = delivery!
    const failed = (trigger: 'schedule' | 'manual') => attemptOf({ trigger, httpStatus: 500, errorClass: 'http_5xx' })
    await store.claim(claimOrder({ leaseToken: 'L1' }))
    // In the same moment as its claim, and twice: one more all the same.
    for (const at of [T0, T0 + 1]) expect(await store.resend(id, at)).toBe(true)
    expect(await store.claim(claimOrder({ at: T0 + 2 }))).toEqual([])
    await store.settle(settlement(id, { at: T0 + 3, dueAt: T0 + 5_000, attempt: failed('schedule') }))
    const asked = { attempts: 1, trigger: 'manual', prior: { status: 'pending', dueAt: T0 + 5_000 } } as const
    const [second] = await store.claim(claimOrder({ at: T0 + 3, leaseToken: 'L2' }))
    expect(second).toMatchObject(asked)
    await store.resend(id, T0 + 4)
    const prior = { leaseToken: 'L2', at: T0 + 6, dueAt: T0 + 5_000, attempt: failed('manual') }
    await store.settle(settlement(id, prior))
    const [third] = await store.claim(claimOrder({ at: T0 + 6, leaseToken: 'L3' }))
    expect(third).toMatchObject(asked)
    await store.settle(settlement(id, { ...prior, leaseToken: 'L3', at: T0 + 7 }))
    expect(await store.nextDeliveryAt()).toBe(T0 + 5_000)
    const [fourth] = await store.claim(claimOrder({ at: T0 + 5_000, leaseToken: 'L4' }))
    expect(fourth).toMatchObject({ attempts: 2, trigger: 'schedule', prior: null })
    await store.resend(id, T0 + 5_001)
    await store.settle(settlement(id, { leaseToken: 'L4', at: T0 + 5_002, status: 'delivered' }))
    expect(await store.nextDeliveryAt()).toBeNull()
    expect((await store.counts()).deliveries).toMatchObject({ pending: 0, delivered: 1 })
  })

  test('a resend in the very moment of the claim was asked for after it', async () => {
    const { store } = subject
    const [{ id }] = (await deliver(subject, [{}])) as [NewDelivery]
    await store.claim(claimOrder({ leaseToken: 'L1' }))
    await store.resend(id, T0)
    const attempt = attemptOf({ httpStatus: 500, errorClass: 'http_5xx' })
    await store.settle(settlement(id, { at: T0 + 3, dueAt: T0 + 5_000, attempt }))
    expect(await store.nextDeliveryAt()).toBe(T0 + 3)
  })

  test('a resend while an attempt is under way is met by the next one when that one is lost with its process', async () => {
    const { store } = subject
    const [delivery] = await deliver(subject, [{}])
    const { id } = delivery!
    await store.claim(claimOrder({ leaseToken: 'L1' }))
    await store.resend(id, T0 + 1)
    const restarted = await subject.reopen()
    await restarted.freeLeases()
    const [again] = await restarted.claim(claimOrder({ at: T0 + 2, leaseToken: 'L2' }))
    expect(again).toMatchObject({ id, attempts: 2, trigger: 'schedule' })
    const attempt = attemptOf({ no: 2, errorClass: 'timeout' })
    await restarted.settle(settlement(id, { leaseToken: 'L2', at: T0 + 3, dueAt: T0 + 9_000, attempt }))
    expect(await restarted.nextDeliveryAt()).toBe(T0 + 9_000)
  })

  test('a delivered one stays delivered when it was when a resend fails, and is delivered anew when one succeeds', async () => {
    const { store } = subject
    const [{ id }] = (await deliver(subject, [{}])) as [NewDelivery]
    await store.claim(claimOrder({ leaseToken: 'L1' }))
    await store.settle(settlement(id, { at: T0 + 10, status: 'delivered', attempt: attemptOf({ httpStatus: 204 }) }))
    const resent = async (at: number, attempt: Partial<DeliveryAttempt>) => {
      await store.resend(id, at)
      await store.claim(claimOrder({ at, leaseToken: `L${at}` }))
      const tried = attemptOf({ trigger: 'manual', no: 2, ...attempt })
      await store.settle(settlement(id, { leaseToken: `L${at}`, at, status: 'delivered', attempt: tried }))
      return store.delivery(id)
    }
    const failed = await resent(T0 + 20, { httpStatus: 500, errorClass: 'http_5xx', reason: 'as_before' })
    expect(failed).toMatchObject({ status: 'delivered', deliveredAt: T0 + 10, lastError: 'http_5xx' })
    const anew = await resent(T0 + 30, { httpStatus: 200 })
    expect(anew).toMatchObject({ status: 'delivered', deliveredAt: T0 + 30, lastError: null })
  })

  test('a recovery takes failed deliveries of a time and a host once, oldest first, one after the other', async () => {
    const { store } = subject
    const wishes = Array.from({ length: 6 }, (_, n) => ({ createdAt: T0 + n, host: n === 4 ? 'other:443' : 'h:443' }))
    const made = await deliver(subject, wishes)
    const all = await store.claim(claimOrder({ leaseToken: 'L1', at: T0 + 9 }))
    const ends = ['exhausted', 'gone', 'delivered', 'exhausted', 'exhausted', 'exhausted'] as const
    for (const { id } of all) {
      const status = ends[made.findIndex(each => each.id === id)]!
      await store.settle(settlement(id, { at: T0 + 9, status }))
    }
    const order = { apiKeyId: 'key_a', since: T0, until: T0 + 5, host: 'h:443', at: T0 + 50, spacingMs: 10, limit: 2 }
    // Nothing of another key, nor of before or from the end of the time on.
    for (const none of [{ apiKeyId: 'key_b' }, { since: T0 + 4 }, { until: T0 }])
      expect([none, await store.recover({ ...order, ...none })]).toEqual([none, { count: 0, last: null }])
    const first = await store.recover(order)
    expect(first).toEqual({ count: 2, last: { createdAt: T0 + 1, id: made[1]!.id } })
    expect(await store.recover({ ...order, after: first.last! })).toEqual({ count: 1, last: null })
    expect((await store.counts()).deliveries).toMatchObject({ pending: 3, exhausted: 2, delivered: 1, gone: 0 })
    expect(await store.recover(order)).toEqual({ count: 0, last: null })
    const claimed = await store.claim(claimOrder({ at: T0 + 55, leaseToken: 'L2' }))
    expect(claimed.map(each => [each.id, each.trigger, each.prior?.status])).toEqual([
      [made[0]!.id, 'recover', 'exhausted'],
      [made[3]!.id, 'recover', 'exhausted'],
    ])
    expect(await store.nextDeliveryAt()).toBe(T0 + 60)
  })
}

/** Ends as many runs, each with its callback. */
async function deliver(subject: Subject, wishes: Partial<NewDelivery>[]): Promise<NewDelivery[]> {
  const { store } = subject
  return Promise.all(
    wishes.map(async wish => {
      const run = queuedRun()
      await store.create(creation(run))
      const delivery = deliveryOf(run, wish)
      await store.commit(cancelTurn(run, delivery))
      return delivery
    }),
  )
}

function claimOrder(more: Partial<ClaimOrder> = {}): ClaimOrder {
  return {
    ...{ at: T0, leaseUntil: T0 + 45_000, leaseToken: 'L', limit: 64, retries: 64, perHost: 64 },
    ...{ inFlight: {}, closed: only(), probed: only(), perKey: 64, inFlightOfKeys: {} },
    ...more,
  }
}

function attemptOf(more: Partial<DeliveryAttempt> = {}): DeliveryAttempt {
  return {
    ...{ no: 1, trigger: 'schedule', startedAt: T0, durationMs: 20, ip: '203.0.113.9', httpStatus: null },
    ...{ errorClass: null, reply: null, nextAt: null, reason: null },
    ...more,
  }
}

function settlement(deliveryId: string, more: Partial<Settlement> = {}): Settlement {
  return {
    deliveryId,
    leaseToken: 'L1',
    at: T0,
    status: 'pending',
    dueAt: null,
    counts: true,
    hostChange: null,
    attempt: attemptOf(),
    ...more,
  }
}

function byHost(claimed: readonly ClaimedDelivery[]): Map<string, number> {
  const counts = new Map<string, number>()
  for (const { host } of claimed) counts.set(host, (counts.get(host) ?? 0) + 1)
  return counts
}
