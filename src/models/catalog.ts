/**
 * The models by id.
 *
 * 1. Ids are unique, `maker/name`.
 * 2. Where a deployment has its own id for a model at a provider (an Ark endpoint `ep-…`, another date suffix), the route
 *    and everything that it translates to carry that id, endpoints below it included.
 */
import type { Catalog, Model, Route } from '../core/model.ts'
import { ALIBABA_IMAGE_MODELS } from './alibaba/images.ts'
import { WAN_VIDEO_MODELS } from './alibaba/wan-video.ts'
import { FLUX1_MODELS } from './bfl/flux1.ts'
import { FLUX2_MODELS } from './bfl/flux2.ts'
import { FLUX3_MODELS } from './bfl/flux3.ts'
import { SEEDANCE_MODELS } from './bytedance/seedance.ts'
import { SEEDREAM_MODELS } from './bytedance/seedream.ts'
import { COMFYUI_MODELS } from './comfyui.ts'
import { NANO_BANANA_MODELS } from './google/images.ts'
import { VEO_MODELS } from './google/veo.ts'
import { IDEOGRAM_MODELS } from './ideogram.ts'
import { KLING_MODELS } from './kling.ts'
import { LUMA_MODELS } from './luma.ts'
import { MINIMAX_MODELS } from './minimax.ts'
import { OPENAI_MODELS } from './openai.ts'
import { RUNWAY_MODELS } from './runway.ts'

export interface CatalogOptions {
  /** Own ids of a deployment: `provider:providerModel` → the id to use instead. */
  providerModels?: Readonly<Record<string, string>>
}

/** Every model, in the order in which lists show them. @throws UnknownModelId when an override names no route: a typo would be silent */
export function createCatalog(options: CatalogOptions = {}): Catalog {
  const overrides = options.providerModels ?? {}
  const models = MODELS.map(model => withOwnIds(model, overrides))
  const known = new Set(MODELS.flatMap(model => model.routes.map(route => `${route.provider}:${route.providerModel}`)))
  for (const name of Object.keys(overrides)) {
    if (!known.has(name)) throw new UnknownModelId(name, [...known].slice(0, 3))
  }
  const byId = new Map(models.map(model => [model.id, model]))
  if (byId.size !== models.length) throw new Error('two models have the same id')
  return { all: () => models, find: id => byId.get(id) }
}

class UnknownModelId extends Error {
  override name = 'UnknownModelId'
  constructor(name: string, examples: readonly string[]) {
    super(`BABYCHAIN_MODEL_IDS: no route is called ${name}; known ones are e.g. ${examples.join(', ')}`)
  }
}

const MODELS: readonly Model[] = [
  ...FLUX2_MODELS,
  ...FLUX1_MODELS,
  ...FLUX3_MODELS,
  ...SEEDREAM_MODELS,
  ...SEEDANCE_MODELS,
  ...NANO_BANANA_MODELS,
  ...VEO_MODELS,
  ...OPENAI_MODELS,
  ...KLING_MODELS,
  ...WAN_VIDEO_MODELS,
  ...ALIBABA_IMAGE_MODELS,
  ...RUNWAY_MODELS,
  ...MINIMAX_MODELS,
  ...LUMA_MODELS,
  ...IDEOGRAM_MODELS,
  ...COMFYUI_MODELS,
]

function withOwnIds(model: Model, overrides: Readonly<Record<string, string>>): Model {
  const own = (route: Route): Route => {
    const { provider, providerModel } = route
    const mine = overrides[`${provider}:${providerModel}`]
    if (mine === undefined) return route
    return {
      ...route,
      providerModel: mine,
      translate: (params, use) => {
        const made = route.translate(params, use)
        if (!made.ok || !made.providerModel.startsWith(providerModel)) return made
        return { ...made, providerModel: mine + made.providerModel.slice(providerModel.length) }
      },
    }
  }
  return { ...model, routes: model.routes.map(own) }
}
