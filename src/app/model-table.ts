/** Every model at every provider of this installation: what is missing there, what it can express, and what it costs. */
import type { Config } from '../config.ts'
import { KIND_OF, type PlannedStep } from '../core/chain.ts'
import type { JsonObject } from '../core/json.ts'
import type { Model, Role, Route } from '../core/model.ts'
import { express, PLAIN, priceAt } from '../core/offers.ts'
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
  expressible: true | string
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
  const plain = plainStep(model)
  const made = express(route, plain, [PLAIN])
  return {
    model: model.id,
    roles: model.roles,
    provider,
    providerModel,
    configured: configured(config, provider),
    expressible: made.ok || made.reason,
    usd: priceAt(route, model, plain, [PLAIN]),
  }
}

function configured(config: Config, provider: string): true | string {
  if (provider === 'sandbox') return true
  if (provider === 'comfyui') {
    if (config.comfyui.url === null) return 'set COMFYUI_URL'
    return config.comfyui.workflows !== null || 'set COMFYUI_WORKFLOWS'
  }
  const settings = Object.entries(config.providers).find(([id]) => id === provider)?.[1]
  return settings?.key ? true : `set ${settings?.variable ?? provider}`
}

/** A step with the parameters that it must have, after one that gives a picture where it starts from one. */
function plainStep(model: Model): PlannedStep {
  const role = model.roles[0] ?? 'text_to_image'
  const dependsOn = role === 'text_to_image' ? [] : [PLAIN.from]
  const params = plainParams(model)
  return {
    ...{ index: 0, key: 'plain', role, kind: KIND_OF[role], model: model.id },
    ...{ params, pictures: [], pictureShapes: [], dependsOn, deadlineMs: 0 },
  }
}

/** What the schema requires, and a prompt where there is one. */
function plainParams(model: Model): JsonObject {
  const required = Array.isArray(model.schema.required) ? model.schema.required.map(String) : []
  const value = (name: string) => (name === 'content' ? [{ type: 'text', text: 'a boat' }] : 'a boat')
  const properties = Object.keys((model.schema.properties ?? {}) as JsonObject)
  const prompts = ['prompt', 'promptText'].filter(name => properties.includes(name))
  return Object.fromEntries([...required, ...prompts].map(name => [name, value(name)]))
}
