import { expect, test } from 'bun:test'
import { type ErrorCode, stepError } from '../../src/core/errors.ts'
import { backoffMs, chooseRoute, decide, type Offer } from '../../src/core/routing.ts'
import { type Attempt, LIMITS } from '../../src/core/run.ts'

const AT = 1_000_000
const offer = (provider: string, more: Partial<Offer> = {}): Offer => ({
  provider,
  providerModel: 'm',
  obstacle: null,
  hasCapacity: true,
  closedUntil: null,
  overBudget: null,
  ...more,
})
const failed = (provider: string, code: ErrorCode, more: Partial<Attempt> = {}): Attempt => ({
  no: 1,
  provider,
  providerModel: 'm',
  token: 't',
  startedAt: 0,
  submittedAt: null,
  endedAt: 1,
  outcome: 'failed',
  jobRef: null,
  error: stepError(code, 'x'),
  cost: { estimatedUsd: null, actualUsd: null, basis: 'unknown' },
  adjustments: [],
  providerCancel: null,
  reopenAt: null,
  ...more,
})

const goesTo = (choice: ReturnType<typeof chooseRoute>): string =>
  choice.type === 'go' ? choice.offer.provider : choice.type

test('the first route of the catalogue is taken when nobody says otherwise', () => {
  expect(goesTo(chooseRoute([offer('a'), offer('b')], [], [], AT))).toBe('a')
})

test("the caller's order comes before the catalogue's, and providers it does not name come after", () => {
  expect(goesTo(chooseRoute([offer('a'), offer('b'), offer('c')], [], ['c', 'b'], AT))).toBe('c')
  expect(goesTo(chooseRoute([offer('a'), offer('b', { obstacle: 'no key' }), offer('c')], [], ['b'], AT))).toBe('a')
})

test('an untried route comes before one that has failed, whatever the order says', () => {
  expect(goesTo(chooseRoute([offer('a'), offer('b')], [failed('a', 'provider_overloaded')], ['a'], AT))).toBe('b')
})

test('a route that may not be paid is passed over, and one that may is waited for', () => {
  const overBudget = stepError('budget_exceeded', 'b costs more')
  const dear = offer('b', { overBudget })
  expect(goesTo(chooseRoute([dear, offer('a')], [], ['b'], AT))).toBe('a')
  expect(chooseRoute([offer('a', { hasCapacity: false }), dear], [], [], AT)).toEqual({
    type: 'queue',
    providers: ['a'],
    until: null,
  })
  expect(chooseRoute([offer('a', { closedUntil: AT + 900 }), dear], [], [], AT)).toEqual({
    type: 'wait',
    until: AT + 900,
  })
})

test('a step is over its budget only when no route that could run it may be paid', () => {
  const overBudget = stepError('budget_exceeded', 'costs more')
  const [dear, other] = [offer('a', { overBudget }), offer('b', { obstacle: 'set B_KEY' })]
  expect(chooseRoute([dear, other], [], [], AT)).toEqual({ type: 'none', error: overBudget })
  const out = failed('c', 'insufficient_credit')
  expect(chooseRoute([offer('c'), dear], [out], [], AT)).toEqual({ type: 'none', error: overBudget })
})

test('a route that refused for good is out, and one that was only busy comes back after its pause', () => {
  for (const code of ['insufficient_credit', 'provider_unauthorized', 'model_not_enabled', 'invalid_input'] as const) {
    expect(goesTo(chooseRoute([offer('a')], [failed('a', code)], [], AT))).toBe('none')
  }
  const busy = failed('a', 'provider_rate_limited', { reopenAt: AT + 5_000 })
  expect(chooseRoute([offer('a')], [busy], [], AT)).toEqual({ type: 'wait', until: AT + 5_000 })
  expect(goesTo(chooseRoute([offer('a')], [busy], [], AT + 5_000))).toBe('a')
})

test('without a place a step stands in line, and with every gate closed it waits for the earliest', () => {
  expect(chooseRoute([offer('a', { hasCapacity: false })], [], [], AT)).toEqual({
    type: 'queue',
    providers: ['a'],
    until: null,
  })
  const closed = [offer('a', { closedUntil: AT + 900 }), offer('b', { closedUntil: AT + 300 })]
  expect(chooseRoute(closed, [], [], AT)).toEqual({ type: 'wait', until: AT + 300 })
})

test('a step stands in line at a closed provider too, but not where its own back-off is not over', () => {
  const full = offer('a', { hasCapacity: false })
  const closed = offer('b', { closedUntil: AT + 900 })
  const resting = failed('c', 'provider_overloaded', { reopenAt: AT + 300 })
  expect(chooseRoute([full, closed, offer('c')], [resting], [], AT)).toEqual({
    type: 'queue',
    providers: ['a', 'b'],
    until: AT + 300,
  })
})

test('when no route is left the step fails with what the last provider said, or with every obstacle by name', () => {
  const said = chooseRoute([offer('a')], [failed('a', 'insufficient_credit')], [], AT)
  expect(said).toMatchObject({ type: 'none', error: { code: 'insufficient_credit' } })
  const none = chooseRoute([offer('a', { obstacle: 'set A_KEY' }), offer('b', { obstacle: 'set B_KEY' })], [], [], AT)
  expect(none).toMatchObject({
    type: 'none',
    error: { code: 'no_route', message: expect.stringContaining('a: set A_KEY; b: set B_KEY') },
  })
})

test('a refused content, an unknown outcome and a broken output are never tried again', () => {
  for (const code of [
    'content_rejected',
    'outcome_unknown',
    'output_invalid',
    'budget_exceeded',
    'internal',
    'input_fetch_failed',
  ] as const) {
    expect(decide([failed('a', code)])).toBe('fail')
  }
})

test('a step whose input picture our own storage cannot give now is tried again', () => {
  expect(decide([failed('a', 'storage_unavailable')])).toBe('retry')
})

test('a job that ran and failed is tried three times, a busy provider for as long as the deadline allows', () => {
  const broken = Array.from({ length: LIMITS.jobFailures }, () => failed('a', 'provider_error'))
  expect(decide(broken.slice(1))).toBe('retry')
  expect(decide(broken)).toBe('fail')
  const busy = Array.from({ length: 50 }, () => failed('a', 'provider_overloaded'))
  expect(decide(busy)).toBe('retry')
})

test('a job that the provider took counts as one that ran, whatever it died of', () => {
  for (const code of ['provider_overloaded', 'provider_rate_limited', 'network_error'] as const) {
    const died = Array.from({ length: LIMITS.jobFailures }, () => ({ ...failed('a', code), submittedAt: AT }))
    expect(decide(died.slice(1))).toBe('retry')
    expect(decide(died)).toBe('fail')
    expect(decide([...died.slice(1), failed('a', code)])).toBe('retry')
  }
})

test('the pause after a failure doubles from a second to a minute, spread over its upper half, and never undercuts Retry-After', () => {
  const busy = stepError('provider_overloaded', 'x')
  expect([1, 2, 3, 7, 20].map(tries => backoffMs(busy, tries, 1))).toEqual([1_000, 2_000, 4_000, 60_000, 60_000])
  expect(backoffMs(busy, 1, 0)).toBe(500)
  expect(backoffMs(stepError('provider_rate_limited', 'x', { retryAfterMs: 90_000 }), 1, 0.5)).toBe(90_000)
})
