/** Any valid parameters of any model give a body that the provider of every eligible route takes. */
import { describe, expect, test } from 'bun:test'
import fc from 'fast-check'
import { createCatalog } from '../../src/models/catalog.ts'
import { arbitraryCall, picturesAs } from '../support/params.ts'
import { problemOf } from '../support/providers/problems.ts'

const NEEDS_BYTES = ['google', 'openai']

describe('a translation gives what the provider takes', () => {
  for (const model of createCatalog().all()) {
    test(model.id, () => {
      fc.assert(
        fc.property(arbitraryCall(model), call => {
          for (const route of model.routes) {
            const form = NEEDS_BYTES.includes(route.provider) ? 'data' : 'url'
            const pictures = picturesAs(form, call.pictures.length)
            const made = route.translate(call.params, { role: call.role, pictures })
            if (!made.ok) continue
            const order = { providerModel: made.providerModel, role: call.role, body: made.body }
            expect([route.provider, order, problemOf(route.provider, order)]).toEqual([route.provider, order, null])
          }
        }),
        { numRuns: 60 },
      )
    })
  }
})
