/** What holds for every model, whatever valid parameters it is given. */
import { describe, expect, test } from 'bun:test'
import fc from 'fast-check'
import { Compile } from 'typebox/compile'
import type { Json, JsonObject } from '../../src/core/json.ts'
import type { Model, Route, Translation } from '../../src/core/model.ts'
import { usdOf } from '../../src/core/offers.ts'
import { createCatalog } from '../../src/models/catalog.ts'
import { check } from '../../src/models/check.ts'
import { arbitraryCall, arbitraryOf, arbitraryParams, type Call, picturesAs, smallest } from '../support/params.ts'

const models = createCatalog().all()
const NEEDS_BYTES = ['google', 'openai']

/** The call as the engine would make it of this route: pictures in the form that the provider reads. */
function callOf(route: Route, call: Call): Call {
  return NEEDS_BYTES.includes(route.provider) ? { ...call, pictures: picturesAs('data', call.pictures.length) } : call
}

const translate = (route: Route, call: Call): Translation =>
  route.translate(call.params, { role: call.role, pictures: callOf(route, call).pictures })

describe.each(models.map(model => [model.id, model] as const))('%s', (_, model) => {
  const fields = Object.entries(model.schema.properties as Record<string, JsonObject>)
  const calls = arbitraryCall(model)

  test('gives a request or a reason for any valid parameters, and holds every picture once', () => {
    fc.assert(
      fc.property(calls, call => {
        expect(model.validate(call.params, call)).toEqual([])
        for (const route of model.routes) {
          const made = translate(route, call)
          if (!made.ok) {
            expect(made.reason).not.toBe('')
            continue
          }
          expect(made.providerModel).not.toBe('')
          expect(JSON.parse(JSON.stringify(made.body))).toEqual(made.body)
          const held = spellings(made.body)
          for (const ref of callOf(route, call).pictures) {
            const bytes = ref.replace(/^data:[^,]*,/, '').toLowerCase()
            expect(held.filter(one => one.endsWith(bytes))).toHaveLength(1)
          }
        }
      }),
      { numRuns: 40 },
    )
  })

  test('passes the smallest request on at every route', () => {
    const [role = 'text_to_image'] = model.roles
    const wired = role !== 'text_to_image'
    const params: JsonObject = { ...(smallest(model.schema, false) as JsonObject) }
    // Some makers leave the prompt open; every other host needs one.
    for (const name of ['prompt', 'promptText']) {
      if (fields.some(([field]) => field === name)) params[name] = 'a red boat'
    }
    if (model.id === 'bfl/flux-pro-1.0-fill') params.mask = 'https://cdn.example.org/mask.png'
    const pictures = picturesAs('url', model.pictures(params).length + (wired ? 1 : 0))
    for (const route of model.routes) {
      const made = translate(route, { params, role, wired, pictures })
      expect({ provider: route.provider, ...made }).toMatchObject({ ok: true })
    }
  })

  test('never makes the same request of two different values without saying so', () => {
    const bases = fc.sample(calls, { numRuns: 6, seed: 593 })
    for (const [name, field] of fields) {
      const values = candidates(field)
      for (const base of bases) {
        for (const route of model.routes) {
          const seen = new Map<string, string>()
          for (const value of values) {
            const call = { ...base, params: { ...base.params, [name]: value } }
            if (!comparable(model, base, call)) continue
            const made = translate(route, call)
            if (!made.ok) continue
            const request = JSON.stringify(made)
            const meaning = means(field, value)
            expect({ route: route.provider, name, meaning: seen.get(request) ?? meaning }).toEqual({
              route: route.provider,
              name,
              meaning,
            })
            seen.set(request, meaning)
          }
        }
      }
    }
  })

  test('never lists a price of 0 or less', () => {
    fc.assert(
      fc.property(calls, ({ params, role }) => {
        const prices = [model.price(params, role), ...model.routes.map(route => route.price?.(params, role) ?? null)]
        return prices.every(price => price === null || (usdOf(price) ?? 0) > 0)
      }),
      { numRuns: 20 },
    )
  })

  test('agrees with TypeBox about what fits its schema', () => {
    const [role = 'text_to_image'] = model.roles
    const standard = Compile(model.schema as never)
    const names = fields.map(([name]) => name)
    fc.assert(
      fc.property(
        arbitraryParams(model, { role, wired: true }),
        fc.constantFrom(...names),
        ODD,
        (params, name, odd) => {
          const broken = { ...params, [name]: odd }
          return (check(model.schema, broken).length === 0) === standard.Check(broken)
        },
      ),
      { numRuns: 80 },
    )
  })
})

/** Everything that a body holds, as text. */
function spellings(value: Json): string[] {
  if (Array.isArray(value)) return value.flatMap(spellings)
  if (typeof value === 'object' && value !== null) return Object.values(value).flatMap(spellings)
  return [String(value).toLowerCase()]
}

/** Values worth telling apart: all of a choice, the ends of a range, some of anything else. */
function candidates(field: JsonObject): Json[] {
  if (field.type === 'boolean') return [true, false]
  if (Array.isArray(field.enum)) return field.enum
  const some = fc.sample(arbitraryOf(field), { numRuns: 8, seed: 593 })
  const ends = [field.minimum, field.maximum, field.default].filter(end => end !== undefined)
  return [...ends, ...(Array.isArray(field.examples) ? field.examples : []), ...some]
}

/** The changed call is valid and holds the same pictures, so that only the field itself can make a difference. */
function comparable(model: Model, base: Call, changed: Call): boolean {
  const pictures = (call: Call): string => JSON.stringify(model.pictures(call.params))
  return pictures(base) === pictures(changed) && model.validate(changed.params, changed).length === 0
}

/** A value with the defaults inside it filled in: {} and {weight: 0.85} mean the same where 0.85 is the default. */
function means(schema: JsonObject, value: Json): string {
  if (schema.type !== 'object' || typeof value !== 'object' || value === null) return JSON.stringify(value)
  const inner = Object.entries(schema.properties as Record<string, JsonObject>)
  const filled = inner.map(([name, field]) => [name, (value as JsonObject)[name] ?? field.default ?? null])
  return JSON.stringify(Object.fromEntries(filled))
}

/** Values that most fields refuse. Plain ASCII: JSON Schema and libraries count other characters differently. */
const ODD: fc.Arbitrary<Json> = fc.oneof(
  fc.constantFrom<Json>(null, true, false, -1, 0, 0.5, 3, 17, 1e9, '', 'x', '2K', '16:9', [], {}, [1], { url: 'x' }),
  fc.constantFrom<Json>(
    ['https://a.example/1.png'],
    [{ type: 'text', text: 'a' }],
    [{ type: 'text' }],
    [{ type: 'no' }],
  ),
)
