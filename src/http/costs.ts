/**
 * Whether steps can be paid by what their run and their key may spend, looked at before the first of them is paid.
 *
 * 1. It asks for what they cost at the cheapest providers and without a second attempt: what is refused here at listed prices
 *    would fail whatever goes well, and its first steps would be paid for nothing. Where nobody knows yet how large a picture
 *    is, or how much will be made, the most that it can be is counted: that may refuse what would have cost less, so the hint
 *    names what fixes it.
 * 2. A job that a resume takes over costs nothing: it is paid. What is bought in its place, should it have nothing to give, is
 *    looked at before its submit only.
 * 3. The engine looks again before each submit: what runs side by side spend together shows only there.
 */
import type { Quote } from '../core/model.ts'
import { isWithin, roundUsd } from '../core/money.ts'
import { basisOf, usdOf } from '../core/offers.ts'
import type { KeyDesk, Principal } from './deps.ts'
import type { RequestError } from './problem.ts'

export interface PricedStep {
  key: string
  /** Its model, by id. */
  model: string
  /** At each provider that could run it. */
  quotes: readonly Quote[]
}

/** `limit` is that of the run (US dollars), null for none. */
export function checkCost(
  keys: Pick<KeyDesk, 'spentUsd'>,
  { apiKeyId, dailyBudgetUsd = null }: Principal,
  steps: readonly PricedStep[],
  limit: number | null,
): RequestError[] {
  if (limit === null && dailyBudgetUsd === null) return []
  const errors: RequestError[] = []
  const least: Least[] = []
  for (const { key, model, quotes } of steps) {
    const known = quotes.flatMap((quote): Least[] => {
      const usd = usdOf(quote)
      return usd === null ? [] : [{ key, usd, isMost: basisOf(quote) === 'upper_bound' }]
    })
    const [cheapest] = known.toSorted((a, b) => a.usd - b.usd || Number(a.isMost) - Number(b.isMost))
    if (cheapest) least.push(cheapest)
    else if (quotes.length > 0) errors.push(unpriced(key, model, limit !== null))
  }
  if (limit !== null) errors.push(...overLimit(least, limit))
  if (dailyBudgetUsd !== null) errors.push(...overDay(least, dailyBudgetUsd, keys.spentUsd(apiKeyId)))
  return errors
}

/** What a step costs at the cheapest provider. */
interface Least {
  key: string
  usd: number
  /** It may be less. */
  isMost: boolean
}

function overLimit(least: readonly Least[], limit: number): RequestError[] {
  const sum = sumOf(least)
  if (isWithin(sum, limit)) return []
  const detail = `the steps may cost ${roundUsd(sum)} USD, at the cheapest providers; max_cost_usd is ${limit}`
  const hint = `Raise max_cost_usd, or choose cheaper models or parameters.${fixes(least)}`
  return [{ pointer: '/max_cost_usd', code: 'budget_exceeded', detail, hint }]
}

/** A chain is minutes: none is begun to wait for tomorrow half done. */
function overDay(least: readonly Least[], budget: number, spent: number): RequestError[] {
  const sum = sumOf(least)
  const left = Math.max(0, budget - spent)
  if (isWithin(sum, left)) return []
  const each = least.map(({ key, usd }) => `${key} ${roundUsd(usd)}`).join(', ')
  const cost = `the steps may cost ${roundUsd(sum)} USD, at the cheapest providers (${each})`
  const mend = `raise the daily budget of the key, or choose cheaper models or parameters.${fixes(least)}`
  const [detail, hint] = isWithin(sum, budget)
    ? [
        `${cost}; ${roundUsd(left)} of the key's daily budget of ${budget} are left today (UTC)`,
        `Wait for the next day (UTC), ${mend}`,
      ]
    : [`${cost}; the daily budget of the key is ${budget}`, `No day is enough for them: ${mend}`]
  return [{ pointer: '/input/chain_models', code: 'budget_exceeded', detail, hint }]
}

/** What makes those prices certain that are the most that they may be. */
function fixes(least: readonly Least[]): string {
  const open = least.filter(({ isMost }) => isMost).map(({ key }) => key)
  if (open.length === 0) return ''
  return ` The most that it may be is counted for ${open.join(', ')}: fix how much is made there (width and height, or a size), and the size of the step before; upload a picture of yours that is a link, which counts as the largest.`
}

function unpriced(key: string, model: string, byRun: boolean): RequestError {
  const what = byRun ? 'max_cost_usd' : 'the daily budget of the key'
  const detail = `no provider here has a known price for ${model}, and without one nobody can keep ${what}`
  const other = 'choose a model with a listed price: GET /api/v1/models.'
  return byRun
    ? { pointer: '/max_cost_usd', code: 'price_unknown', detail, hint: `Set no max_cost_usd, or ${other}` }
    : {
        pointer: `/input/chain_models/${key}_model`,
        code: 'price_unknown',
        detail,
        hint: `Use another key, or ${other}`,
      }
}

const sumOf = (least: readonly Least[]): number => least.reduce((sum, { usd }) => sum + usd, 0)
