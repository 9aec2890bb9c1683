/**
 * The catalogue as this installation has it: what a model takes, where it could go now, and why not elsewhere.
 *
 * 1. A route is eligible by the engine's own rules: it is one of this installation's routes, it and its provider have what
 *    they need, and no breaker is open for the key that asks. Capacity is not asked: a full provider is waited for.
 * 2. Prices are those of one call with default parameters, and with a picture of 1024 × 1024 where it begins with one;
 *    null is unknown.
 */
import { Elysia } from 'elysia'
import type { Model, Role, Route } from '../core/model.ts'
import { lackOf, PLAIN, priceAt } from '../core/offers.ts'
import type { EngineStats } from '../core/ports.ts'
import type { ApiDeps } from './deps.ts'
import type { ModelDto, ModelListDto, RouteDto } from './dto/catalog.ts'
import { type Context, guarded, json } from './exchange.ts'
import * as docs from './openapi/catalog.ts'
import { ApiProblem } from './problem.ts'

export function modelRoutes(context: Context) {
  const { deps } = context
  return new Elysia({ name: 'models' })
    .get(
      '/api/v1/models',
      guarded(context, 'runs:read', ({ principal }) => json(200, list(deps, principal.apiKeyId))),
      { detail: docs.models },
    )
    .get(
      '/api/v1/models/:maker/:name',
      guarded(context, 'runs:read', ({ params, principal }) =>
        json(200, one(deps, principal.apiKeyId, `${params.maker}/${params.name}`)),
      ),
      { detail: docs.model },
    )
}

function list(deps: ApiDeps, apiKeyId: string): ModelListDto {
  const stats = deps.engine.stats(apiKeyId)
  const data = deps.catalog.all().map(model => {
    const { params_schema: _, ...rest } = presentModel(deps, model, stats)
    return rest
  })
  return { object: 'list', data }
}

function one(deps: ApiDeps, apiKeyId: string, id: string): ModelDto {
  const model = deps.catalog.find(id)
  if (model) return presentModel(deps, model, deps.engine.stats(apiKeyId))
  throw new ApiProblem('not_found', 'There is no such model.', { hint: 'GET /api/v1/models lists them.' })
}

function presentModel(deps: ApiDeps, model: Model, stats: EngineStats): ModelDto {
  const routes = offersOf(deps, model, stats).map(
    ({ route, reason, configured, isBroken }): RouteDto => ({
      provider: route.provider,
      provider_model: route.providerModel,
      configured,
      eligible: reason === null,
      reason,
      breaker_open: isBroken,
      price: model.roles.map(role => ({ role, usd: plainPrice(route, model, role) })),
    }),
  )
  return {
    id: model.id,
    object: 'model',
    title: model.title,
    gives: model.gives,
    roles: [...model.roles],
    available: routes.some(route => route.eligible),
    expected_ms: model.expectedMs,
    picture_field: model.pictureField,
    routes,
    params_schema: model.schema,
  }
}

function plainPrice(route: Route, model: Model, role: Role): number | null {
  const dependsOn = role === 'text_to_image' ? [] : [PLAIN.from]
  return priceAt(route, model, { params: {}, role, dependsOn, pictureShapes: [] }, [PLAIN])
}

export interface RouteOffer {
  route: Route
  configured: boolean
  /** Why a step cannot go there now, or null. */
  reason: string | null
  /** Whether that is a breaker alone, which passes by itself. */
  isBroken: boolean
}

/** Every route of a model, this installation's first. */
export function offersOf(deps: ApiDeps, model: Model, stats: EngineStats): RouteOffer[] {
  const here = deps.routesOf(model)
  const same = (a: Route, b: Route): boolean => a.provider === b.provider && a.providerModel === b.providerModel
  const elsewhere = model.routes.filter(route => !here.some(other => same(route, other)))
  return [...here, ...elsewhere].map(route => {
    const provider = deps.providers.find(each => each.id === route.provider)
    const missing = lackOf(provider, `in mode ${deps.mode}`) ?? route.missing?.() ?? null
    const unused = here.includes(route) ? null : `not used in mode ${deps.mode}`
    const lack = missing ?? unused
    const isBroken = lack === null && stats.breakers[`${route.provider}/${model.id}`] === 'open'
    const broken = isBroken ? 'it failed several times in a row and is left alone for a while' : null
    return { route, configured: provider?.missing === null, reason: lack ?? broken, isBroken }
  })
}
