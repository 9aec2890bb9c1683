/** What a route offers a step: obstacles and prices, judged in one place. */
import { describe, expect, test } from 'bun:test'
import { KIND_OF, type PlannedStep } from '../../src/core/chain.ts'
import type { Model, Route, Shape } from '../../src/core/model.ts'
import { express, incomingOf, lackOf, obstacleOf, priceAt, quoteAt, SAMPLE } from '../../src/core/offers.ts'
import type { Step } from '../../src/core/run.ts'

const step: PlannedStep = {
  index: 0,
  key: 'image_to_image',
  role: 'image_to_image',
  kind: KIND_OF.image_to_image,
  model: 'bfl/flux-2-flex',
  params: { n: 3 },
  dependsOn: [],
  pictures: ['https://pictures.example/a.png'],
  pictureShapes: [[]],
  deadlineMs: 1_000,
}

/** A route that takes pictures in these forms only. */
const route = (...forms: (keyof typeof SAMPLE)[]): Route => ({
  provider: 'bfl',
  providerModel: 'flux',
  translate: (params, { pictures }) =>
    pictures.every(picture => forms.some(form => SAMPLE[form] === picture))
      ? { ok: true, providerModel: 'flux', body: { ...params, pictures: [...pictures] }, adjustments: [] }
      : { ok: false, reason: `takes no ${pictures[0]?.split(':')[0]}` },
})

describe('a step is expressed', () => {
  test('with links where the route takes them, else with the pictures themselves', () => {
    expect(express(route('url', 'data'), step, [])).toMatchObject({ ok: true, body: { pictures: [SAMPLE.url] } })
    expect(express(route('data'), step, [])).toMatchObject({ ok: true, body: { pictures: [SAMPLE.data] } })
  })

  test('in no other form than those that may be sent, and the reason is that of the first', () => {
    expect(express(route('data'), step, [], ['url'])).toEqual({ ok: false, reason: 'takes no https' })
    expect(express(route(), step, [])).toEqual({ ok: false, reason: 'takes no https' })
  })
})

test('a step cannot be sent to a provider that is not here, that lacks a key, or whose route cannot express it', () => {
  expect(obstacleOf(undefined, route('url'), step, [])).toBe('not available in this mode')
  expect(obstacleOf({ missing: 'Set BFL_API_KEY.' }, route(), step, [])).toBe('Set BFL_API_KEY.')
  expect(obstacleOf({ missing: null }, route(), step, [])).toBe('takes no https')
  expect(obstacleOf({ missing: null }, route('data'), step, [])).toBeNull()
  expect([lackOf(undefined, 'in mode byok'), lackOf({ missing: null })]).toEqual(['not available in mode byok', null])
})

describe('a picture of a step before', () => {
  const limited: Route = { ...route('url'), pictureLimits: { side: [300, 6_000], ratio: [0.4, 2.5] } }
  const rows: [shape: Shape, given: string | null][] = [
    [{ width: 300, height: 750 }, null],
    [{ width: 6_000, height: 2_400 }, null],
    [{ width: 299, height: 300 }, '299x300'],
    [{ width: 6_001, height: 3_000 }, '6001x3000'],
    [{ width: 2_048, height: 512 }, '2048x512'],
    [{ ratio: 2.5 }, null],
    [{ ratio: 1 / 3 }, 'a ratio of 0.333'],
  ]
  test.each(rows)('that is %j is judged by what its provider takes', (shape, given) => {
    const limits = 'takes pictures with sides of 300 to 6000 pixels and a ratio of 0.4 to 2.5'
    const why = obstacleOf({ missing: null }, limited, step, [{ from: 'text_to_image', shapes: [shape] }])
    expect(why).toBe(given === null ? null : `${limits}, but text_to_image gives ${given}`)
    expect(obstacleOf({ missing: null }, route('url'), step, [{ from: 'text_to_image', shapes: [shape] }])).toBeNull()
  })

  test('or of the caller, as far as it is known, is judged in the same way', () => {
    const pictures = ['media:a', 'https://pictures.example/b.png']
    const of = (...pictureShapes: Shape[][]) =>
      obstacleOf({ missing: null }, limited, { ...step, pictures, pictureShapes }, [])
    expect(of([], [])).toBeNull()
    expect(of([{ width: 300, height: 300 }], [])).toBeNull()
    expect(of([], [{ width: 40, height: 30 }])).toMatch(/, but the caller gives 40x30$/)
  })

  test('that may come in several sizes is refused where none of them is taken', () => {
    const [small, wide, good] = [{ width: 200, height: 200 }, { ratio: 3 }, { ratio: 1 }]
    const why = (...shapes: Shape[]) => obstacleOf({ missing: null }, limited, step, [{ from: 'a', shapes }])
    expect(why(small, wide, small)).toMatch(/but a gives 200x200 or a ratio of 3$/)
    expect(why(small, good)).toBeNull()
  })

  const made = (shape: Shape | null): Route => ({ ...route('url'), shape: () => shape })
  const [square, wide] = [{ ratio: 1 }, { ratio: 2 }]
  const before = { ...step, key: 'a' }
  const there = (size: object) => ({ ...before, status: 'succeeded', outputs: [size] }) as unknown as Step
  const from = (steps: readonly (PlannedStep | Step)[], routes: readonly Route[] = [made(wide)]) =>
    incomingOf({ dependsOn: ['a', 'b'] }, steps, ({ key }) => (key === 'a' ? routes : []))

  test('has the sizes that its routes would make until it is there, then its own', () => {
    expect(from([before])).toEqual([{ from: 'a', shapes: [wide] }])
    expect(from([before], [made(square), made(wide)])).toEqual([{ from: 'a', shapes: [square, wide] }])
    expect(from([there({ width: 40, height: 30 })])).toEqual([{ from: 'a', shapes: [{ width: 40, height: 30 }] }])
  })

  test('has no size where nobody knows it', () => {
    expect(from([there({}), { ...step, key: 'b' }])).toEqual([])
    expect(from([before], [made(square), made(null)])).toEqual([])
    expect(from([before], [made(square), route('url')])).toEqual([])
    expect(from([])).toEqual([])
  })
})

test('a call costs what the route says; where it says nothing, what the maker says', () => {
  const model = { price: () => 0.03 } as unknown as Model
  expect(priceAt(route('url'), model, step, [])).toBe(0.03)
  expect(priceAt(null, model, step, [])).toBe(0.03)
  expect(priceAt({ ...route('url'), price: ({ n }) => Number(n) }, model, step, [])).toBe(3)
  expect(priceAt({ ...route('url'), price: () => null }, model, step, [])).toBeNull()
  expect(priceAt({ ...route('url'), price: () => ({ atMost: 2 }) }, model, step, [])).toBe(2)
})

test('a price knows the pictures of the steps before and of the caller, each in its place, and of which nobody knows the shape', () => {
  const seen: unknown[] = []
  const asked: Route = { ...route('url'), price: (_params, _role, known) => ({ atMost: seen.push(known) }) }
  const joined = { ...step, dependsOn: ['a', 'b'], pictureShapes: [[], [{ width: 40, height: 30 }]] }
  const incoming = [{ from: 'b', shapes: [{ ratio: 2 }] }]
  expect(quoteAt(asked, { price: () => null } as unknown as Model, joined, incoming)).toEqual({ atMost: 1 })
  expect(seen).toEqual([{ incoming: [[], [{ ratio: 2 }]], given: joined.pictureShapes }])
})
