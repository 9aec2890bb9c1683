/** Requests a minute, to the request and to the millisecond. */
import { expect, test } from 'bun:test'
import type { ApiProblem } from '../../src/http/problem.ts'
import { createRates } from '../../src/http/rates.ts'

test('a key may make as many requests a minute as it has, is told what is left, and when it may come back', () => {
  let now = 1_800_000_000_000
  const rates = createRates(() => now)
  const charge = () => {
    try {
      return rates.charge({ apiKeyId: 'ada', scopes: [], ratePerMinute: 2 })
    } catch (error) {
      const { code, more } = error as ApiProblem
      return { code, ...more.headers }
    }
  }
  const policy = { 'ratelimit-policy': '"default";q=2;w=60' }
  expect(charge()).toEqual({ ...policy, ratelimit: '"default";r=1;t=60' })
  now += 30_001
  expect(charge()).toEqual({ ...policy, ratelimit: '"default";r=0;t=30' })
  const refused = { code: 'rate_limited', ...policy }
  expect([charge(), charge()]).toEqual(
    [30, 30].map(t => ({ ...refused, ratelimit: `"default";r=0;t=${t}`, 'retry-after': String(t) })),
  )
  now += 29_998
  expect(charge()).toEqual({ ...refused, ratelimit: '"default";r=0;t=1', 'retry-after': '1' })
  now += 1
  expect(charge()).toEqual({ ...policy, ratelimit: '"default";r=1;t=60' })
  expect(rates.charge({ apiKeyId: 'bob', scopes: [], ratePerMinute: null })).toEqual({})
})
