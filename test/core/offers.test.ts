/** What a route offers a step: obstacles and prices, judged in one place. */
import { describe, expect, test } from 'bun:test'
import { KIND_OF, type PlannedStep } from '../../src/core/chain.ts'
import type { Model, Route } from '../../src/core/model.ts'
import { express, lackOf, obstacleOf, priceAt, SAMPLE } from '../../src/core/offers.ts'

const step: PlannedStep = {
  index: 0,
  key: 'image_to_image',
  role: 'image_to_image',
  kind: KIND_OF.image_to_image,
  model: 'bfl/flux-2-flex',
  params: { n: 3 },
  dependsOn: [],
  pictures: ['https://pictures.example/a.png'],
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
    expect(express(route('url', 'data'), step)).toMatchObject({ ok: true, body: { pictures: [SAMPLE.url] } })
    expect(express(route('data'), step)).toMatchObject({ ok: true, body: { pictures: [SAMPLE.data] } })
  })

  test('in no other form than those that may be sent, and the reason is that of the first', () => {
    expect(express(route('data'), step, ['url'])).toEqual({ ok: false, reason: 'takes no https' })
    expect(express(route(), step)).toEqual({ ok: false, reason: 'takes no https' })
  })
})

test('a step cannot be sent to a provider that is not here, that lacks a key, or whose route cannot express it', () => {
  expect(obstacleOf(undefined, route('url'), step)).toBe('not available in this mode')
  expect(obstacleOf({ missing: 'Set BFL_API_KEY.' }, route(), step)).toBe('Set BFL_API_KEY.')
  expect(obstacleOf({ missing: null }, route(), step)).toBe('takes no https')
  expect(obstacleOf({ missing: null }, route('data'), step)).toBeNull()
  expect([lackOf(undefined, 'in mode byok'), lackOf({ missing: null })]).toEqual(['not available in mode byok', null])
})

test('a call costs what the route says; where it says nothing, what the maker says', () => {
  const model = { price: () => 0.03 } as unknown as Model
  expect(priceAt(route('url'), model, step)).toBe(0.03)
  expect(priceAt({ ...route('url'), price: ({ n }) => Number(n) }, model, step)).toBe(3)
  expect(priceAt({ ...route('url'), price: () => null }, model, step)).toBeNull()
})
