/** Says what one route makes of one call, and holds tables of translations against it. */
import { expect } from 'bun:test'
import type { Json, JsonObject } from '../../src/core/json.ts'
import type { Role, Translation } from '../../src/core/model.ts'
import { createCatalog } from '../../src/models/catalog.ts'

const catalog = createCatalog()

export interface Asked {
  model: string
  provider: string
  params: JsonObject
  role?: Role
  /** References as the engine hands them over; the first one comes from the step before unless the parameters hold it. */
  pictures?: string[]
}

/** The translation; throws where the parameters are not valid, since a table should hold what a caller may send. */
function translated({ model: id, provider, params, role, pictures = [] }: Asked): Translation {
  const model = catalog.find(id)
  const route = model?.routes.find(one => one.provider === provider)
  if (!model || !route) throw new Error(`no route ${id} at ${provider}`)
  const asked = role ?? (pictures.length === 0 ? 'text_to_image' : (model.roles.at(-1) ?? 'image_to_image'))
  const wired = pictures.length > model.pictures(params).length
  const problems = model.validate(params, { role: asked, wired })
  if (problems.length > 0) throw new Error(JSON.stringify(problems))
  return route.translate(params, { role: asked, pictures })
}

/** `adjusted`: each adjustment whole, or by its pointer alone. */
export type TranslatedRow = [name: string, asked: Asked, providerModel: string, body: JsonObject, adjusted?: Json[]]

export function expectTranslation(...[, asked, providerModel, body, adjusted = []]: TranslatedRow): void {
  const made = translated(asked)
  if (!made.ok) throw new Error(made.reason)
  expect(made.body).toEqual(body)
  expect(made.providerModel).toBe(providerModel)
  const named = made.adjustments.map((one, i) => (typeof adjusted[i] === 'string' ? one.pointer : one))
  expect(named as unknown as Json[]).toEqual(adjusted)
}

export type RefusedRow = [name: string, asked: Asked, reason: RegExp]

export function expectRefusal(...[, asked, reason]: RefusedRow): void {
  const made = translated(asked)
  if (made.ok) throw new Error(`not refused: ${JSON.stringify(made.body)}`)
  expect(made.reason).toMatch(reason)
}
