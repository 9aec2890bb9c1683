import { expect, test } from 'bun:test'
import { afterSending, mayTry, SCHEDULE_S, type SendOutcome } from '../../src/core/delivery.ts'

const AT = 1_000_000_000
const answered = (status: number, retryAfterMs: number | null = null): SendOutcome => ({
  type: 'answered',
  status,
  reply: '',
  retryAfterMs,
  ip: null,
  durationMs: 1,
  location: null,
})
/** The n-th attempt of the schedule. */
const nth = (attempts: number) => ({ attempts, prior: null })
const failed = (errorClass: string): SendOutcome => ({ type: 'failed', errorClass, ip: null, durationMs: 1 })

test('any 2xx is delivered, and nothing else is', () => {
  for (const status of [200, 201, 204, 299])
    expect(afterSending(answered(status), nth(1), AT, 0.5).status).toBe('delivered')
  for (const status of [199, 300, 302, 400, 404, 500])
    expect(afterSending(answered(status), nth(1), AT, 0.5).status).toBe('pending')
})

test('410 ends a delivery at once', () => {
  expect(afterSending(answered(410), nth(1), AT, 0.5)).toMatchObject({ status: 'gone', dueAt: null })
})

test('twelve attempts follow the published schedule, and then it is exhausted', () => {
  const waits = Array.from({ length: 12 }, (_, i) => afterSending(answered(500), nth(i + 1), AT, 0.5))
  expect(waits.slice(0, 11).map(wait => ((wait.dueAt ?? 0) - AT) / 1_000)).toEqual([...SCHEDULE_S])
  expect(waits[11]).toMatchObject({ status: 'exhausted', dueAt: null })
  expect(SCHEDULE_S.reduce((sum, each) => sum + each, 0) / 3_600).toBeCloseTo(75.7, 1)
})

test('jitter spreads a wait by a fifth to either side', () => {
  expect((afterSending(answered(500), nth(3), AT, 0).dueAt ?? 0) - AT).toBe(96_000)
  expect((afterSending(answered(500), nth(3), AT, 1).dueAt ?? 0) - AT).toBe(144_000)
})

test('after a time-out, 429, 502, 503 and 504 the receiver gets a minute of breath', () => {
  for (const outcome of [failed('timeout'), answered(429), answered(502), answered(503), answered(504)]) {
    expect(afterSending(outcome, nth(1), AT, 0.5)).toMatchObject({ dueAt: AT + 60_000, reason: 'breath' })
  }
  expect(afterSending(answered(500), nth(1), AT, 0.5)).toMatchObject({ dueAt: AT + 5_000, reason: 'schedule' })
})

test('Retry-After lengthens a wait on 429 and 503 up to a day, shortens none, and is not heard elsewhere', () => {
  expect(afterSending(answered(429, 3_600_000), nth(1), AT, 0.5)).toMatchObject({
    dueAt: AT + 3_600_000,
    reason: 'retry_after',
  })
  expect(afterSending(answered(503, 9e12), nth(1), AT, 0.5).dueAt).toBe(AT + 24 * 3_600_000)
  expect(afterSending(answered(503, 1), nth(6), AT, 0.5).dueAt).toBe(AT + 7_200_000)
  expect(afterSending(answered(500, 3_600_000), nth(1), AT, 0.5).dueAt).toBe(AT + 5_000)
})

test('while our own network is down no attempt is burned', () => {
  expect(afterSending(failed('egress_down'), nth(12), AT, 0.5)).toMatchObject({
    status: 'pending',
    counts: false,
    dueAt: AT + 30_000,
  })
})

test('our own stop burns no attempt either, and the delivery is due at once', () => {
  expect(afterSending(failed('aborted'), nth(12), AT, 0.5)).toMatchObject({
    status: 'pending',
    counts: false,
    dueAt: AT,
  })
})

test('an attempt that somebody asked for is made once: its failure brings back what was', () => {
  const prior = { status: 'pending' as const, dueAt: AT + 77 }
  const tried = { attempts: 3, prior }
  expect(afterSending(answered(500), tried, AT, 0.5)).toMatchObject({ status: 'pending', dueAt: AT + 77, counts: true })
  for (const status of ['delivered', 'exhausted', 'gone'] as const) {
    const asked = { attempts: 12, prior: { status, dueAt: AT - 1 } }
    expect(afterSending(answered(410), asked, AT, 0.5)).toMatchObject({ status, dueAt: null })
    expect(afterSending(failed('timeout'), asked, AT, 0.5)).toMatchObject({ status, dueAt: null })
    expect(afterSending(answered(204), asked, AT, 0.5)).toMatchObject({ status: 'delivered', dueAt: null })
    expect(afterSending(failed('egress_down'), asked, AT, 0.5)).toMatchObject({ status: 'pending', counts: false })
  }
  expect(afterSending(answered(410), tried, AT, 0.5).status).toBe('gone')
})

test('a delivery whose attempts never end is given up', () => {
  expect(mayTry(nth(12))).toBe(true)
  expect(mayTry(nth(99))).toBe(false)
})

test('every failure has a class that a person can search for', () => {
  expect(afterSending(answered(302), nth(1), AT, 0.5).errorClass).toBe('redirect')
  expect(afterSending(answered(404), nth(1), AT, 0.5).errorClass).toBe('receiver_rejected')
  expect(afterSending(answered(418), nth(1), AT, 0.5).errorClass).toBe('http_4xx')
  expect(afterSending(answered(500), nth(1), AT, 0.5).errorClass).toBe('http_5xx')
  expect(afterSending(failed('tls_error'), nth(1), AT, 0.5).errorClass).toBe('tls_error')
})
