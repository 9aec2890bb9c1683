/**
 * Receivers that misbehave, as the outbox sees them, in virtual time: what is tried again, when, and what is kept of it.
 * Every attempt is verified with the library that receivers use.
 */
import { afterEach, beforeEach, describe, expect, setSystemTime, test } from 'bun:test'
import { Webhook } from 'standardwebhooks'
import { Webhook as SvixWebhook } from 'svix'
import { SCHEDULE_S } from '../../src/core/delivery.ts'
import type { PostResult } from '../../src/net/egress.ts'
import { only } from '../support/claims.ts'
import { answer, failure, KEY, type Posted, PostOffice } from '../support/post-office.ts'
import { deliveryOf, queuedRun } from '../support/store-runs.ts'

/** Lets what was begun go on, however slow the disk is; no virtual time passes. */
async function until(done: () => boolean): Promise<void> {
  for (const end = performance.now() + 10_000; !done(); await new Promise(resolve => setImmediate(resolve)))
    if (performance.now() > end) throw new Error('it does not come')
}

let office: PostOffice
beforeEach(async () => {
  office = await PostOffice.open()
})
afterEach(async () => {
  setSystemTime()
  await office.close()
})

/** Whether a receiver that knows this secret takes the message, at the time at which it came. */
function verifies({ headers, body, at }: Posted, secret: string): boolean {
  setSystemTime(new Date(at))
  const verdicts = [Webhook, SvixWebhook].map(Library => {
    try {
      new Library(secret).verify(body, { ...headers })
      return true
    } catch {
      return false
    }
  })
  expect(new Set(verdicts).size).toBe(1)
  return verdicts[0] ?? false
}

const textOf = async (): Promise<string> => {
  const [bytes] = await office.secrets.of(KEY)
  return `whsec_${Buffer.from(bytes ?? []).toString('base64')}`
}

test('eleven times 500 and then 200: twelve attempts on schedule, one id, one body, each with its own signature', async () => {
  const [delivery] = await office.add({})
  office.receiver = (_, n) => answer(n < 11 ? 500 : 200)
  await office.play()
  const { posted } = office
  expect(posted).toHaveLength(12)
  posted.slice(1).forEach((each, i) => {
    const waited = (each.at - (posted[i]?.at ?? 0)) / 1_000
    const planned = SCHEDULE_S[i] ?? 0
    // The host's breaker may hold an attempt back until its next look.
    expect(waited).toBeGreaterThanOrEqual(planned * 0.8)
    expect(waited).toBeLessThanOrEqual(planned * 1.2 + 1_900)
  })
  expect(new Set(posted.map(each => each.headers['webhook-id']))).toEqual(new Set([delivery!.id]))
  expect(new Set(posted.map(each => each.body)).size).toBe(1)
  expect(new Set(posted.map(each => each.headers['webhook-timestamp'])).size).toBe(12)
  expect(new Set(posted.map(each => each.headers['webhook-signature'])).size).toBe(12)
  const secret = await textOf()
  for (const each of posted) expect(verifies(each, secret)).toBe(true)
  const stored = await office.find(delivery!.id)
  expect(stored).toMatchObject({ status: 'delivered', attempts: 12, lastError: null })
  expect(stored.log.map(each => each.no)).toEqual([1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12])
  expect(stored.log[0]).toMatchObject({
    trigger: 'schedule',
    httpStatus: 500,
    errorClass: 'http_5xx',
    reply: 'a reply',
  })
})

test('a receiver that never recovers is given up after the twelfth attempt, and its run says so', async () => {
  const [delivery] = await office.add({})
  office.receiver = () => answer(503)
  await office.play()
  expect(office.posted).toHaveLength(12)
  expect(await office.find(delivery!.id)).toMatchObject({ status: 'exhausted', attempts: 12, lastError: 'http_5xx' })
  expect((await office.store.counts()).deliveries).toMatchObject({ pending: 0, exhausted: 1 })
})

describe('Retry-After on 429', () => {
  const after = async (value: string): Promise<number> => {
    const [delivery] = await office.add({})
    office.receiver = (_, n) => (n === 0 ? answer(429, { 'retry-after': value }) : answer(200))
    await office.play()
    expect((await office.find(delivery!.id)).status).toBe('delivered')
    return ((office.posted[1]?.at ?? 0) - (office.posted[0]?.at ?? 0)) / 1_000
  }
  test('of an hour is waited for', async () => expect(await after('3600')).toBe(3_600))
  test('of the year 9999 is waited for no longer than a day', async () =>
    expect(await after('Fri, 31 Dec 9999 23:59:59 GMT')).toBe(86_400))
  for (const nonsense of ['-1', 'abc', 'Thu, 01 Jan 1970 00:00:00 GMT', '', '1e999', 'NaN'])
    test(`of ${JSON.stringify(nonsense)} is not heard: the usual minute`, async () =>
      expect(await after(nonsense)).toBe(60))
})

test('a redirect is a failure that is tried again, never followed, and its host is in the log', async () => {
  for (const status of [301, 302, 307]) {
    const [delivery] = await office.add({ host: `h${status}:443` })
    office.receiver = () => ({ ...answer(status), location: 'moved.example' }) as never
    await office.outbox.runOnce()
    const stored = await office.find(delivery!.id)
    expect(stored).toMatchObject({ status: 'pending', lastError: 'redirect' })
    expect(stored.log[0]?.reply).toContain('moved.example')
  }
  expect(new Set(office.posted.map(each => each.url))).toEqual(new Set(['https://hooks.example.com/x']))
})

test('410 ends it after one attempt', async () => {
  const [delivery] = await office.add({})
  office.receiver = () => answer(410)
  await office.play()
  expect(office.posted).toHaveLength(1)
  expect(await office.find(delivery!.id)).toMatchObject({ status: 'gone', attempts: 1 })
})

test('no answer, no name, a bad certificate: each is tried again with the same id, and none is final', async () => {
  for (const errorClass of [
    'connection_lost',
    'timeout',
    'tls_error',
    'dns_error',
    'connect_refused',
    'reply_too_large',
  ] as const) {
    const [delivery] = await office.add({ host: `${errorClass}:443` })
    office.receiver = ({ headers }) =>
      office.posted.filter(each => each.headers['webhook-id'] === headers['webhook-id']).length < 3
        ? failure(errorClass)
        : answer(200)
    await office.play()
    const stored = await office.find(delivery!.id)
    expect(stored).toMatchObject({ status: 'delivered', attempts: 3 })
    expect(stored.log.map(each => each.errorClass)).toEqual([errorClass, errorClass, null])
  }
})

test('half an hour without any network burns no attempt, alarms once, and drains in a minute after it', async () => {
  const start = office.clock.now()
  const back = start + 30 * 60_000
  const all = await office.add(...Array.from({ length: 40 }, (_, n) => ({ host: `h${n % 10}:443` })))
  office.receiver = ({ at }) => (at < back ? failure('egress_down') : answer(200))
  await office.play()
  for (const { id } of all) expect(await office.find(id)).toMatchObject({ status: 'delivered', attempts: 1 })
  expect(office.faults).toEqual([expect.stringContaining('do not leave this machine')])
  expect(office.clock.now() - back).toBeLessThan(60_000)
})

describe('a secret that is rotated in the middle of a schedule', () => {
  test('the next attempts verify with old and new, the newest first; after the overlap only with the new one', async () => {
    const [delivery] = await office.add({})
    const old = await textOf()
    office.receiver = () => answer(500)
    await office.play(() => office.posted.length === 3)
    const made = await office.secrets.rotate(KEY, 3_600_000)
    if (!('text' in made)) throw new Error(JSON.stringify(made))
    const rotatedAt = office.clock.now()
    await office.play()
    expect(office.posted).toHaveLength(12)
    for (const [n, each] of office.posted.entries()) {
      const overlaps = n >= 3 && each.at < rotatedAt + 3_600_000
      expect([n, verifies(each, old)]).toEqual([n, n < 3 || overlaps])
      expect([n, verifies(each, made.text)]).toEqual([n, n >= 3])
      const signatures = each.headers['webhook-signature']?.split(' ') ?? []
      expect([n, signatures.length]).toEqual([n, overlaps ? 2 : 1])
      if (overlaps)
        expect(
          verifies({ ...each, headers: { ...each.headers, 'webhook-signature': signatures[0] ?? '' } }, made.text),
        ).toBe(true)
    }
    expect(
      office.posted.filter(each => each.at >= rotatedAt && each.at < rotatedAt + 3_600_000).length,
    ).toBeGreaterThan(0)
    expect((await office.find(delivery!.id)).status).toBe('exhausted')
  })

  test('a rotation after a leak ends the old secrets at once, also while two of them sign', async () => {
    const texts = [await textOf()]
    for (const overlapMs of [86_400_000, 0]) {
      const made = await office.secrets.rotate(KEY, overlapMs)
      if (!('text' in made)) throw new Error(JSON.stringify(made))
      texts.push(made.text)
      await office.add({})
      await office.play()
    }
    const known = office.posted.map(each => texts.map(text => verifies(each, text)))
    expect(known).toEqual([
      [true, true, false],
      [false, false, true],
    ])
    await office.restart()
    expect(await textOf()).toBe(texts[2] as string)
  })
})

describe('an attempt that somebody asked for', () => {
  test('after success it is one more message with the same id; its failure changes nothing', async () => {
    const [delivery] = await office.add({})
    await office.play()
    office.receiver = () => answer(500)
    await office.store.resend(delivery!.id, office.clock.now())
    await office.play()
    expect(office.posted.map(each => each.headers['webhook-id'])).toEqual([delivery!.id, delivery!.id])
    const stored = await office.find(delivery!.id)
    expect(stored).toMatchObject({ status: 'delivered', attempts: 1 })
    expect(stored.log.map(each => [each.trigger, each.errorClass])).toEqual([
      ['schedule', null],
      ['manual', 'http_5xx'],
    ])
  })

  test('in the middle of a schedule its failure leaves the next time as it was', async () => {
    const [delivery] = await office.add({})
    office.receiver = () => answer(500)
    await office.play(() => office.posted.length === 4)
    const { dueAt } = await office.find(delivery!.id)
    await office.store.resend(delivery!.id, office.clock.now())
    await office.outbox.runOnce()
    expect(office.posted).toHaveLength(5)
    expect(await office.find(delivery!.id)).toMatchObject({ status: 'pending', attempts: 4, dueAt })
    await office.play()
    expect(office.posted).toHaveLength(13)
    expect(await office.find(delivery!.id)).toMatchObject({ status: 'exhausted', attempts: 12 })
  })

  test('while another is under way is made as soon as that one fails, and not at all when it is delivered', async () => {
    const { posted } = office
    for (const [status, triggers] of [
      [500, ['schedule', 'manual']],
      [200, ['schedule']],
    ] as const) {
      const [delivery] = await office.add({})
      const begun = posted.length
      const first = Promise.withResolvers<PostResult>()
      office.receiver = (_, n) => (n === begun ? first.promise : answer(200))
      office.outbox.wake()
      await until(() => posted.length > begun)
      await office.callbacks.resend(await office.find(delivery!.id))
      first.resolve(answer(status))
      await until(() => posted.length === begun + triggers.length)
      await office.play()
      const { log } = await office.find(delivery!.id)
      expect(log.map(each => each.trigger)).toEqual([...triggers])
      expect(posted.slice(begun).map(each => each.at)).toEqual(triggers.map(() => office.clock.now()))
    }
  })

  test('is not put off by what was under way when it was asked for, were that the fifth time-out or a probe', async () => {
    const { posted } = office
    await office.add(...Array(5).fill({}))
    for (const [begun, pauseMs] of [
      [4, 0],
      [6, 60_000],
    ] as const) {
      const hung = Promise.withResolvers<PostResult>()
      office.receiver = (_, n) => (n === begun ? hung.promise : failure('timeout'))
      office.advance(pauseMs)
      office.outbox.wake()
      await until(() => posted.length > begun)
      office.advance(1_000)
      await office.callbacks.resend(await office.find(posted[begun]?.headers['webhook-id'] ?? ''))
      office.advance(1_000)
      hung.resolve(failure('timeout'))
      await until(() => posted.length > begun + 1)
      expect(posted[begun + 1]?.at).toBe(office.clock.now())
    }
  })

  test('a recovery delivers what an outage had used up', async () => {
    const all = await office.add(...Array.from({ length: 30 }, (_, n) => ({ host: `h${n}:443` })))
    office.receiver = () => answer(500)
    await office.play()
    expect((await office.store.counts()).deliveries.exhausted).toBe(30)
    office.receiver = () => answer(200)
    const order = {
      apiKeyId: KEY,
      since: 0,
      until: office.clock.now(),
      at: office.clock.now(),
      spacingMs: 100,
      limit: 100,
    }
    expect((await office.store.recover(order)).count).toBe(30)
    await office.play()
    for (const { id } of all)
      expect((await office.find(id)).log.at(-1)).toMatchObject({ trigger: 'recover', httpStatus: 200 })
    expect((await office.store.counts()).deliveries).toMatchObject({ delivered: 30, exhausted: 0, pending: 0 })
  })
})

test('a host whose breaker is open burns no attempts of its other deliveries, and one probe opens it again', async () => {
  const all = await office.add(...Array.from({ length: 20 }, () => ({})))
  const recovered = office.clock.now() + 10 * 60_000
  office.receiver = ({ at }) => (at < recovered ? failure('timeout') : answer(200))
  await office.play()
  const stored = await Promise.all(all.map(({ id }) => office.find(id)))
  expect(stored.map(each => each.status)).toEqual(Array(20).fill('delivered'))
  const tries = office.posted.filter(each => each.at < recovered)
  // Four at once until the fifth time-out, then one probe a minute, two, four …
  expect(tries.length).toBeLessThan(20)
})

test('a restart leaves a closed host alone for as long as it was closed, and goes on with its probes', async () => {
  await office.add(...Array.from({ length: 5 }, () => ({})))
  office.receiver = () => failure('timeout')
  await office.play(() => office.posted.length >= 5)
  const closedAt = office.clock.now()
  await office.restart()
  await office.add(...Array.from({ length: 5 }, () => ({})))
  await office.play(() => office.posted.length >= 7)
  const waits = office.posted.slice(5).map(each => Math.round((each.at - closedAt) / 1_000))
  // One probe after a minute, the next one two minutes later: not five at once, and not a minute anew.
  expect(waits).toEqual([60, 180])
  office.receiver = () => answer(204)
  await office.play()
  await office.restart()
  expect(await office.store.closedHosts(0)).toEqual([])
})

test('a path that hangs for one key says nothing about another key’s on the same host, after a restart neither', async () => {
  await office.addKey('key_b')
  const { posted } = office
  const hangs = { url: 'https://hooks.example.com/hangs' }
  office.receiver = ({ url }) => (url === hangs.url ? failure('timeout') : answer(204))
  await office.add(...Array(20).fill(hangs))
  await office.play(() => posted.length >= 5)
  const tries = posted.length
  for (const isNew of [false, true]) {
    if (isNew) await office.restart()
    const [other] = await office.add({ apiKeyId: 'key_b' })
    const [own] = await office.add({})
    await office.outbox.runOnce()
    expect(await office.find(other!.id)).toMatchObject({ status: 'delivered', attempts: 1 })
    expect(await office.find(own!.id)).toMatchObject({ status: 'pending', attempts: 0 })
  }
  expect(posted.filter(each => each.url === hangs.url)).toHaveLength(tries)
})

test('while a probe is under way no second one is, and a test ping that is delivered has one made before its time', async () => {
  await office.addKey('key_b')
  const isPing = ({ body }: Posted) => body.includes('webhook.ping')
  const made = () => office.posted.filter(each => !isPing(each)).length
  const ping = async (apiKeyId: string, status: number) => {
    office.receiver = each => (isPing(each) ? answer(status) : hung.promise)
    await office.callbacks.ping(apiKeyId, 'https://hooks.example.com/ping')
    office.outbox.wake()
    for (let n = 0; n < 50; n += 1) await new Promise(resolve => setImmediate(resolve))
    return made()
  }
  const hung = Promise.withResolvers<PostResult>()
  office.receiver = () => failure('timeout')
  await office.add(...Array(20).fill({}))
  await office.play(() => made() >= 5)
  const tries = made()
  expect(await ping(KEY, 500)).toBe(tries)
  expect(await ping('key_b', 200)).toBe(tries)
  await ping(KEY, 200)
  await until(() => made() > tries)
  expect(await ping(KEY, 500)).toBe(tries + 1)
  hung.resolve(answer(204))
})

test('while retries hang, half of the places are left to what is sent for the first time', async () => {
  const retried = await office.add(...Array.from({ length: 60 }, (_, n) => ({ host: `old${n}:443` })))
  for (const id of ['key_b', 'key_c']) await office.addKey(id)
  office.receiver = () => answer(500)
  await office.play(() => office.posted.length >= 60)
  office.advance(10_000)
  const { posted } = office
  const hung = Promise.withResolvers<PostResult>()
  office.receiver = () => hung.promise
  const before = posted.length
  const round = office.outbox.runOnce()
  await until(() => posted.length >= before + 32)
  const fresh = await office.add(
    ...Array.from({ length: 30 }, (_, n) => ({ host: `new${n}:443`, apiKeyId: n % 2 ? 'key_b' : 'key_c' })),
  )
  const more = office.outbox.runOnce()
  await until(() => posted.length >= before + 62)
  const ids = posted.slice(before).map(each => each.headers['webhook-id'])
  expect(new Set(ids.slice(32))).toEqual(new Set(fresh.map(each => each.id)))
  hung.resolve(answer(200))
  office.receiver = () => answer(200)
  await Promise.all([round, more])
  await office.play()
  for (const { id } of [...retried, ...fresh]) expect((await office.find(id)).status).toBe('delivered')
})

test('while retries hang, a first attempt does not wait behind due retries of its own host either', async () => {
  const fails = await office.add(...Array.from({ length: 40 }, (_, n) => ({ host: `old${n % 32}:443` })))
  office.receiver = () => answer(500)
  await office.play(() => office.posted.length >= 40)
  await office.add(...Array(4).fill({ host: 'good:443' }))
  await office.outbox.runOnce()
  office.advance(10_000)
  const { posted } = office
  const before = posted.length
  const hung = Promise.withResolvers<PostResult>()
  office.receiver = () => hung.promise
  const round = office.outbox.runOnce()
  await until(() => posted.length >= before + 32)
  const [fresh] = await office.add({ host: 'good:443' })
  const more = office.outbox.runOnce()
  await until(() => posted.length > before + 32)
  expect(posted.slice(before + 32).map(each => each.headers['webhook-id'])).toEqual([fresh!.id])
  hung.resolve(answer(200))
  office.receiver = () => answer(200)
  await Promise.all([round, more])
  await office.play()
  for (const { id } of [...fails, fresh!]) expect((await office.find(id)).status).toBe('delivered')
})

test('a key whose hosts never answer does not hold up another key at a host that they share', async () => {
  await office.addKey('key_b')
  const { posted } = office
  const hung = Promise.withResolvers<PostResult>()
  office.receiver = () => hung.promise
  await office.add(...Array.from({ length: 90 }, (_, n) => ({ host: `mute${n}:443` })))
  const round = office.outbox.runOnce()
  await until(() => posted.length >= 48)
  await office.add(...Array(40).fill({ host: 'shared:443' }))
  office.advance(1)
  const [other] = await office.add({ host: 'shared:443', apiKeyId: 'key_b' })
  const more = office.outbox.runOnce()
  await until(() => posted.length > 48)
  expect(posted.slice(48).map(each => each.headers['webhook-id'])).toEqual([other!.id])
  hung.resolve(answer(204))
  await Promise.all([round, more])
  expect(await office.find(other!.id)).toMatchObject({ status: 'delivered', attempts: 1 })
})

test('callbacks that are sent with their commit have 64 places in all and 48 of a key, whatever hosts they go to', async () => {
  const { outbox } = office
  let hosts = 0
  const book = (apiKeyId: string) => {
    hosts += 1
    const delivery = deliveryOf(queuedRun(), { apiKeyId, host: `h${hosts}:443` })
    return { delivery, lease: outbox.book(delivery) }
  }
  const booked = (apiKeyId: string) => Array.from({ length: 60 }, () => book(apiKeyId)).filter(each => each.lease)
  outbox.wake()
  await until(() => {
    const { delivery, lease } = book('key_b')
    if (lease) outbox.forgo(delivery)
    return lease !== null
  })
  expect(booked('key_b')).toHaveLength(48)
  const others = booked('key_c')
  expect(others).toHaveLength(16)
  outbox.forgo(others[0]!.delivery)
  expect([booked('key_b').length, booked('key_c').length]).toEqual([0, 1])
})

test('an answer that could not be stored comes back with the end of its lease, no later, and with the same id', async () => {
  const [delivery] = await office.add({})
  const { settle } = office.store
  office.store.settle = async () => {
    throw new Error('the disk is full')
  }
  const claimedAt = office.clock.now()
  await office.outbox.runOnce()
  office.store.settle = settle
  await office.play()
  expect(office.posted.map(each => each.headers['webhook-id'])).toEqual([delivery!.id, delivery!.id])
  expect((office.posted[1]?.at ?? 0) - claimedAt).toBe(45_000)
  expect((await office.find(delivery!.id)).status).toBe('delivered')
})

test('a message that breaks in our own hands is a failed attempt that says so, and no fault of its host', async () => {
  const [delivery] = await office.add({})
  office.receiver = (_, n) => {
    if (n < 2) throw new URIError('URI malformed')
    return answer(200)
  }
  await office.play()
  const stored = await office.find(delivery!.id)
  expect(stored).toMatchObject({ status: 'delivered', attempts: 3 })
  expect(stored.log.map(each => each.errorClass)).toEqual(['internal', 'internal', null])
  expect(office.faults).toHaveLength(2)
})

test('a message that kills the process each time is given up in the end', async () => {
  const [delivery] = await office.add({})
  for (let n = 0; n < 30; n += 1) {
    await office.store.claim({
      ...{ at: office.clock.now(), leaseUntil: office.clock.now() + 45_000, leaseToken: `dies-${n}` },
      ...{
        limit: 9,
        retries: 9,
        perHost: 9,
        inFlight: {},
        closed: only(),
        probed: only(),
        perKey: 9,
        inFlightOfKeys: {},
      },
    })
    await office.restart()
  }
  await office.play()
  expect(office.posted).toEqual([])
  expect(await office.find(delivery!.id)).toMatchObject({ status: 'exhausted', lastError: 'never_ended' })
})

test('attempts that end together are followed by one claim, also while something is due that may not be claimed', async () => {
  let claims = 0
  const { claim } = office.store
  office.store.claim = order => {
    claims += 1
    return claim.call(office.store, order)
  }
  await office.add(...Array.from({ length: 400 }, (_, n) => ({ host: `h${n % 100}:443` })))
  const last = Promise.withResolvers<void>()
  office.receiver = (_, n) => {
    if (n === 399) last.resolve()
    return answer(204)
  }
  office.outbox.wake()
  await last.promise
  // 48 places for the key, and so nine claims; a slow disk may part a commit in two.
  expect(claims).toBeLessThanOrEqual(14)
})
