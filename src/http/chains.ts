/**
 * The built-in chains, and what a run of one would cost.
 *
 * 1. An estimate says of any body exactly what creating a run would say of it, and stores and spends nothing.
 */
import { Elysia } from 'elysia'
import { CHAINS, type Chain, findChain, KIND_OF, MOST_TOLD } from '../core/chain.ts'
import type { Catalog } from '../core/model.ts'
import { roundUsd } from '../core/money.ts'
import { basisOf, express, quoteAt, usdOf } from '../core/offers.ts'
import type { EngineStats } from '../core/ports.ts'
import { chooseRoute } from '../core/routing.ts'
import { readJson } from './body.ts'
import type { ApiDeps } from './deps.ts'
import type { ChainDto, EstimateDto } from './dto/catalog.ts'
import { type Authorized, type Context, guarded, json } from './exchange.ts'
import { offersOf } from './models.ts'
import * as docs from './openapi/catalog.ts'
import { examine, type SoundStep } from './order.ts'
import { ApiProblem } from './problem.ts'

export function chainRoutes(context: Context) {
  const { catalog } = context.deps
  return new Elysia({ name: 'chains' })
    .get(
      '/api/v1/chains',
      guarded(context, 'runs:read', () =>
        json(200, { object: 'list', data: CHAINS.map(chain => presentChain(chain, catalog)) }),
      ),
      { detail: docs.chains },
    )
    .post(
      '/api/v1/chains/:slug/estimate',
      guarded(context, 'runs:read', exchange => estimate(context, exchange)),
      { parse: 'none', detail: docs.estimate },
    )
}

/** The chain of a slug or an alias. @throws ApiProblem 404 */
export function namedChain(slug: string): Chain {
  const chain = findChain(slug)
  if (chain) return chain
  throw new ApiProblem('not_found', 'There is no such chain.', { hint: `Chains: ${knownSlugs()}.` })
}

/** Every slug and alias, for hints. */
export function knownSlugs(): string {
  return CHAINS.flatMap(each => [each.slug, ...each.aliases]).join(', ')
}

async function estimate({ deps }: Context, exchange: Authorized): Promise<Response> {
  const chain = namedChain(exchange.params.slug ?? '')
  const body = await readJson(exchange)
  const examined = await examine(deps, exchange.principal, chain, body)
  const stats = deps.engine.stats(exchange.principal.apiKeyId)
  const steps = examined.sound.map(step => estimateStep(deps, stats, step, examined.providerOrder[step.key] ?? []))
  const prices = steps.map(step => step.price_usd)
  const answer: EstimateDto = {
    object: 'estimate',
    valid: examined.ok,
    errors: examined.ok ? [] : examined.errors.slice(0, MOST_TOLD),
    steps,
    total_usd:
      examined.ok && !prices.includes(null) ? roundUsd(prices.reduce<number>((sum, usd) => sum + (usd ?? 0), 0)) : null,
    expected_ms: steps.reduce((sum, step) => sum + step.expected_ms, 0),
  }
  return json(200, answer)
}

/** The price where the step would go now, were there a place everywhere: the core chooses, as it does for a run. */
function estimateStep(
  deps: ApiDeps,
  stats: EngineStats,
  step: SoundStep,
  order: readonly string[],
): EstimateDto['steps'][number] {
  const { model, planned, incoming } = step
  const offers = offersOf(deps, model, stats).map(({ route, reason }) => {
    const made = express(route, planned, incoming)
    const { provider, providerModel } = route
    const obstacle = reason ?? (made.ok ? null : made.reason)
    return { route, provider, providerModel, obstacle, hasCapacity: true, closedUntil: null, overBudget: null }
  })
  const choice = chooseRoute(offers, [], order, deps.clock.now())
  const goes = choice.type === 'go' ? choice.offer.route : null
  const quote = quoteAt(goes, model, planned, incoming)
  return {
    step_key: planned.key,
    model_identifier: model.id,
    provider: goes?.provider ?? null,
    price_usd: usdOf(quote),
    basis: basisOf(quote),
    expected_ms: model.expectedMs,
  }
}

function presentChain({ slug, aliases, version, title, steps }: Chain, catalog: Catalog): ChainDto {
  return {
    slug,
    object: 'chain',
    aliases: [...aliases],
    version,
    title,
    steps: steps.map(({ key, role, dependsOn }, i) => ({
      step_index: i,
      step_key: key,
      step_kind: KIND_OF[role],
      role,
      depends_on: [...dependsOn],
      model_field: `${key}_model`,
      params_field: `${key}_params`,
      models: catalog
        .all()
        .filter(model => model.roles.includes(role))
        .map(model => model.id),
    })),
  }
}
