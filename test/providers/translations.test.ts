/** Any valid parameters of any model give a body that the provider of every eligible route takes. */
import { describe, expect, test } from 'bun:test'
import fc from 'fast-check'
import type { Model } from '../../src/core/model.ts'
import { createCatalog } from '../../src/models/catalog.ts'
import { arbitraryCall, type Call, edgeCalls, picturesAs } from '../support/params.ts'
import { problemOf } from '../support/providers/problems.ts'

const NEEDS_BYTES = ['google', 'openai']

/** Translates for every route, and returns how many of them make the call. */
function routesTaking(model: Model, call: Call): number {
  let taking = 0
  for (const route of model.routes) {
    const form = NEEDS_BYTES.includes(route.provider) ? 'data' : 'url'
    const pictures = picturesAs(form, call.pictures.length)
    const made = route.translate(call.params, { role: call.role, pictures })
    if (!made.ok) continue
    taking++
    const order = { providerModel: made.providerModel, role: call.role, body: made.body }
    expect([route.provider, order, problemOf(route.provider, order)]).toEqual([route.provider, order, null])
  }
  return taking
}

describe('a translation gives what the provider takes', () => {
  for (const model of createCatalog().all()) {
    test(model.id, () => {
      fc.assert(
        fc.property(arbitraryCall(model), call => {
          routesTaking(model, call)
        }),
        { numRuns: 60 },
      )
    })
  }
})

describe('every field at its ends, alone, gives what the provider takes', () => {
  for (const model of createCatalog().all()) {
    test(model.id, () => {
      for (const call of edgeCalls(model)) expect([call, routesTaking(model, call)]).not.toEqual([call, 0])
    })
  }
})
