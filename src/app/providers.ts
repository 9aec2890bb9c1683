/** The providers of a mode, and how a model finds them: the sandbox stands in for all, or each model has its routes. */
import type { Config } from '../config.ts'
import type { Model, Route } from '../core/model.ts'
import type { Clock, Provider } from '../core/ports.ts'
import { createCatalog } from '../models/catalog.ts'
import type { Egress } from '../net/egress.ts'
import { createProviderHttp } from '../net/provider-http.ts'
import { createWorkflows, gapOf, withWorkflow } from '../providers/comfyui-workflow.ts'
import { createProviders, originsOf } from '../providers/registry.ts'
import { createSandbox } from '../providers/sandbox/sandbox.ts'
import { openStudio, type Studio } from '../providers/sandbox/studio.ts'
import type { ReadPicture } from './pictures.ts'

export interface ProviderDeps {
  clock: Clock
  egress: Egress
  readPicture: ReadPicture
}

export function providersOf(config: Config, deps: ProviderDeps): { providers: readonly Provider[]; close(): void } {
  if (config.mode === 'sandbox') return sandboxOnly(config, deps)
  const { providers, comfyui, concurrency, egressAllow: allow } = config
  const settings = { providers, comfyui, concurrency }
  const { clock } = deps
  const http = createProviderHttp({
    providers: originsOf(settings),
    after: (ms, call) => clock.at(clock.now() + ms, call),
  })
  const made = createProviders({ ...settings, http, egress: deps.egress, now: clock.now, allow })
  return { providers: made, close: () => {} }
}

function sandboxOnly(config: Config, deps: ProviderDeps) {
  const studio: Studio = openStudio()
  const { image: imageMs, video: videoMs } = config.sandboxLatencyMs
  const { sandbox: concurrency } = config.concurrency
  const sandbox = createSandbox({
    dataDir: config.dataDir,
    studio,
    latency: { imageMs, videoMs },
    now: deps.clock.now,
    readInput: deps.readPicture,
    ...(concurrency === undefined ? {} : { concurrency }),
  })
  return { providers: [sandbox], close: () => studio.close() }
}

/** The routes of a model in this installation, in order of preference. */
export function routesFor(config: Config): (model: Model) => readonly Route[] {
  if (config.mode === 'sandbox') return model => [sandboxRoute(model)]
  const { workflows } = config.comfyui
  const own = workflows === null ? null : createWorkflows(workflows)
  const here = (model: Model): readonly Route[] =>
    own
      ? model.routes.map(route => (route.provider === 'comfyui' ? withWorkflow(route, model.roles, own) : route))
      : model.routes
  const preferred = (route: Route): number => {
    const place = config.providerOrder.indexOf(route.provider)
    return place < 0 ? config.providerOrder.length : place
  }
  return model =>
    config.providerOrder.length > 0 ? here(model).toSorted((a, b) => preferred(a) - preferred(b)) : here(model)
}

/** Models that ComfyUI cannot run for want of a workflow, or because of a wrong one (`isThere`). */
export function workflowGaps(config: Config): { model: string; reason: string; isThere: boolean }[] {
  if (config.comfyui.workflows === null) return []
  const workflows = createWorkflows(config.comfyui.workflows)
  const models = createCatalog({ providerModels: config.modelIds }).all()
  return models.flatMap(model => {
    const route = model.routes.find(({ provider }) => provider === 'comfyui')
    const gap = route ? gapOf(workflows, route, model.roles) : null
    return gap ? [{ model: model.id, reason: gap.reason, isThere: gap.isThere }] : []
  })
}

/** The sandbox speaks every maker's language: it gets the caller's own parameters. */
function sandboxRoute(model: Model): Route {
  return {
    provider: 'sandbox',
    providerModel: model.id,
    translate: (params, { role, pictures }) => ({
      ok: true,
      providerModel: model.id,
      body: { role, params, pictures: [...pictures] },
      adjustments: [],
    }),
    price: () => 0,
  }
}
