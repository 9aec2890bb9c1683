import { expect, test } from 'bun:test'
import { stepError } from '../../src/core/errors.ts'
import { Capacity } from '../../src/engine/capacity.ts'
import { HostBreakers } from '../../src/engine/host-breakers.ts'
import { to, way } from '../support/ways.ts'

const two = (): Capacity => new Capacity({ concurrency: () => 2 })
const busy = stepError('provider_overloaded', 'x')

test('a provider has as many places as its limit, and the same holder takes one', () => {
  const capacity = two()
  capacity.enter(way('p', 'm'), 's1')
  capacity.enter(way('p', 'm'), 's1')
  expect(capacity.hasPlace(way('p', 'm'), 's2')).toBe(true)
  capacity.enter(way('p', 'm'), 's2')
  expect(capacity.hasPlace(way('p', 'm'), 's3')).toBe(false)
  expect(capacity.held()).toEqual({ p: 2 })
  expect(capacity.hasPlace(way('q', 'm'), 's3')).toBe(true)
})

test('a freed place is held for the next in line, in the order of asking, and nobody overtakes', () => {
  const capacity = two()
  const served: string[] = []
  for (const holder of ['s1', 's2']) capacity.enter(way('p', 'm'), holder)
  for (const holder of ['s3', 's4']) capacity.wait(['p'], to('m'), holder, () => served.push(holder))
  capacity.leave(way('p', 'm'), 's1')
  expect(served).toEqual(['s3'])
  expect(capacity.hasPlace(way('p', 'm'), 's3')).toBe(true)
  expect(capacity.hasPlace(way('p', 'm'), 'newcomer')).toBe(false)
  capacity.leave(way('p', 'm'), 's3')
  expect(served).toEqual(['s3', 's4'])
})

test('who leaves the line is not served, and who waits at two providers is served once', () => {
  const capacity = new Capacity({ concurrency: () => 1 })
  const served: string[] = []
  capacity.enter(way('p', 'm'), 's1')
  capacity.enter(way('q', 'm'), 's2')
  capacity.wait(['p', 'q'], to('m'), 's3', provider => served.push(`s3 at ${provider}`))
  const leave = capacity.wait(['q'], to('m'), 's4', provider => served.push(`s4 at ${provider}`))
  leave()
  capacity.leave(way('p', 'm'), 's1')
  capacity.leave(way('q', 'm'), 's2')
  expect(served).toEqual(['s3 at p'])
  expect(capacity.waiting).toBe(0)
})

test('five faults in a row open a breaker, success closes it, and other models of the provider are not touched', () => {
  const capacity = two()
  for (let i = 0; i < 4; i += 1) capacity.learn(way('p', 'm'), 'other', busy, 0)
  expect(capacity.closedUntil(way('p', 'm'), 0)).toBeNull()
  capacity.learn(way('p', 'm'), 'other', busy, 0)
  expect(capacity.closedUntil(way('p', 'm'), 1)).toBe(15_000)
  expect(capacity.closedUntil(way('p', 'other'), 1)).toBeNull()
  expect(capacity.breakers(1)).toEqual({ 'p/m': 'open' })
  expect(capacity.breakers(15_000)).toEqual({ 'p/m': 'half_open' })
  capacity.learn(way('p', 'm'), 'other', null, 15_000)
  expect(capacity.breakers(15_001)).toEqual({})
})

test('after its pause exactly one probe goes through, and a failed probe closes the way for twice as long', () => {
  const capacity = two()
  for (let i = 0; i < 5; i += 1) capacity.learn(way('p', 'm'), 'other', busy, 0)
  expect(capacity.hasPlace(way('p', 'm'), 's1')).toBe(true)
  capacity.enterToSubmit(way('p', 'm'), 's1')
  expect(capacity.hasPlace(way('p', 'm'), 's2')).toBe(false)
  capacity.learn(way('p', 'm'), 'other', busy, 20_000)
  capacity.leave(way('p', 'm'), 's1')
  expect(capacity.closedUntil(way('p', 'm'), 20_000)).toBe(50_000)
})

test('a rate limit pauses the whole provider for as long as it asked, and opens no breaker', () => {
  const capacity = two()
  capacity.learn(way('p', 'm'), 'other', stepError('provider_rate_limited', 'x', { retryAfterMs: 7_000 }), 1_000)
  expect(capacity.closedUntil(way('p', 'other'), 2_000)).toBe(8_000)
  expect(capacity.closedUntil(way('p', 'other'), 8_000)).toBeNull()
  expect(capacity.breakers(2_000)).toEqual({})
})

test('however many places there are, only 64 submits are under way: a crash leaves no more in doubt', () => {
  const capacity = new Capacity({ concurrency: () => 1_000 })
  const served: string[] = []
  for (let i = 0; i < 64; i += 1) capacity.enterToSubmit(way('p', 'm'), `s${i}`)
  expect(capacity.hasPlace(way('p', 'm'), 'next')).toBe(false)
  for (const holder of ['next', 'last']) capacity.wait(['p'], to('m'), holder, () => served.push(holder))
  capacity.submitted('p', 's0')
  capacity.submitted('p', 's0')
  expect(served).toEqual(['next'])
  capacity.leave(way('p', 'm'), 's1')
  expect(served).toEqual(['next', 'last'])
  expect(capacity.held()).toEqual({ p: 65 })
})

test('an account without credit closes the way at once', () => {
  const capacity = two()
  capacity.learn(way('p', 'm'), 'other', stepError('insufficient_credit', 'x'), 0)
  expect(capacity.closedUntil(way('p', 'm'), 0)).toBe(60_000)
})

test('five time-outs close a callback host for a minute, then one probe decides', () => {
  const breakers = new HostBreakers()
  for (let i = 0; i < 5; i += 1) breakers.learn('slow:443', 'timeout', 1_000)
  expect(breakers.isClosed('slow:443', 2_000)).toBe(true)
  expect(breakers.isClosed('slow:443', 61_000)).toBe(false)
  breakers.begin('slow:443', 61_000)
  expect(breakers.isClosed('slow:443', 61_001)).toBe(true)
  breakers.learn('slow:443', null, 61_002)
  expect(breakers.isClosed('slow:443', 61_003)).toBe(false)
})

test('failures that were on their way when a callback host closed do not lengthen its pause', () => {
  const breakers = new HostBreakers()
  for (let i = 0; i < 32; i += 1) breakers.learn('busy:443', 'timeout', 1_000 + i)
  expect(breakers.isClosed('busy:443', 61_003)).toBe(true)
  expect(breakers.isClosed('busy:443', 61_004)).toBe(false)
  expect(breakers.awaitsProbe('busy:443', 61_004)).toBe(true)
  breakers.begin('busy:443', 61_004)
  for (const each of ['timeout', 'http_5xx']) breakers.learn('busy:443', each, 61_005)
  expect(breakers.isClosed('busy:443', 61_005 + 119_999)).toBe(true)
  expect(breakers.isClosed('busy:443', 61_005 + 120_000)).toBe(false)
})

test('seven failures of ten attempts since the first failure close a host, six do not', () => {
  const isClosedAfter = (attempts: string): boolean => {
    const breakers = new HostBreakers()
    for (const [i, each] of [...attempts].entries()) breakers.learn('h', each === 'F' ? 'http_5xx' : null, 1_000 + i)
    return breakers.isClosed('h', 2_000)
  }
  expect(isClosedAfter('FSSSFFFFFF')).toBe(true)
  expect(isClosedAfter('FSSSSFFFFF')).toBe(false)
  expect(isClosedAfter('FFFFFFFFF')).toBe(false)
})

test('thousands of callback hosts are forgotten when their failures are long over, in the course of half as many new ones', () => {
  const breakers = new HostBreakers()
  const fail = (host: string, at: number) => breakers.learn(host, 'timeout', at)
  for (let n = 0; n < 3_000; n += 1) for (let i = 0; i < 5; i += 1) fail(`old${n}`, 0)
  const known = (at: number) =>
    Array.from({ length: 3_000 }, (_, n) => breakers.awaitsProbe(`old${n}`, at)).filter(Boolean)
  expect(known(60_000)).toHaveLength(3_000)
  for (let n = 0; n < 1_600; n += 1) fail('new', 300_000 + n)
  expect(known(302_000).length).toBeLessThanOrEqual(1_000)
})

test('time-outs that are hours apart do not close a callback host, five within five minutes do', () => {
  const breakers = new HostBreakers()
  for (let n = 0; n < 9; n += 1) breakers.learn('slow:443', 'timeout', n * 75_001)
  expect(breakers.isClosed('slow:443', 9 * 75_001)).toBe(false)
  breakers.learn('slow:443', 'timeout', 8 * 75_001 + 1)
  expect(breakers.closedUntil('slow:443')).toBe(8 * 75_001 + 60_001)
})
