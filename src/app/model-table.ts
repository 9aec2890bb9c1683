/** Every model at every provider: whether the route could be taken now, what is missing, and what it costs. */
import type { Config } from '../config.ts'
import type { JsonObject } from '../core/json.ts'
import type { Model, Role, Route } from '../core/ports.ts'
import { createCatalog } from '../models/catalog.ts'
import { routesFor } from './providers.ts'

export interface RouteRow {
  model: string
  roles: readonly Role[]
  provider: string
  providerModel: string
  /** Whether the provider has a key here; else the variable to set. */
  configured: true | string
  /** Whether a plain request can be expressed there; else why not. */
  eligible: true | string
  /** US dollars for a plain request; null where nobody knows. */
  usd: number | null
}

export function modelTable(config: Config): RouteRow[] {
  const catalog = createCatalog({ providerModels: config.modelIds })
  const routesOf = routesFor(config)
  return catalog.all().flatMap(model => routesOf(model).map(route => rowOf(config, model, route)))
}

function rowOf(config: Config, model: Model, route: Route): RouteRow {
  const { provider, providerModel } = route
  const role = model.roles[0] ?? 'text_to_image'
  const params = plainRequest(model)
  const translation = translate(route, params, role)
  const usd = route.price ? route.price(params, role) : model.price(params, role)
  return {
    model: model.id,
    roles: model.roles,
    provider,
    providerModel,
    configured: configured(config, provider),
    eligible: translation.ok || translation.reason,
    usd,
  }
}

function configured(config: Config, provider: string): true | string {
  if (provider === 'sandbox') return true
  if (provider === 'comfyui') return config.comfyui.url !== null || 'set COMFYUI_URL'
  const settings = Object.entries(config.providers).find(([id]) => id === provider)?.[1]
  return settings?.key ? true : `set ${settings?.variable ?? provider}`
}

/** A route that takes no link may still take the picture itself. */
function translate(route: Route, params: JsonObject, role: Role) {
  if (role === 'text_to_image') return route.translate(params, { role, pictures: [] })
  const linked = route.translate(params, { role, pictures: ['https://media.example/picture.png'] })
  return linked.ok ? linked : route.translate(params, { role, pictures: ['data:image/png;base64,iVBORw0KGgo='] })
}

/** What the schema requires, and a prompt where there is one. */
function plainRequest(model: Model): JsonObject {
  const required = Array.isArray(model.schema.required) ? model.schema.required.map(String) : []
  const value = (name: string) => (name === 'content' ? [{ type: 'text', text: 'a boat' }] : 'a boat')
  const properties = Object.keys((model.schema.properties ?? {}) as JsonObject)
  const prompts = ['prompt', 'promptText'].filter(name => properties.includes(name))
  return Object.fromEntries([...required, ...prompts].map(name => [name, value(name)]))
}
