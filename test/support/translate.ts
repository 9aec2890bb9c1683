/** Says what one route makes of one call, for tables of translations. */
import type { JsonObject } from '../../src/core/json.ts'
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
export function translated({ model: id, provider, params, role, pictures = [] }: Asked): Translation {
  const model = catalog.find(id)
  const route = model?.routes.find(one => one.provider === provider)
  if (!model || !route) throw new Error(`no route ${id} at ${provider}`)
  const asked = role ?? (pictures.length === 0 ? 'text_to_image' : (model.roles.at(-1) ?? 'image_to_image'))
  const wired = pictures.length > model.pictures(params).length
  const problems = model.validate(params, { role: asked, wired })
  if (problems.length > 0) throw new Error(JSON.stringify(problems))
  return route.translate(params, { role: asked, pictures })
}
