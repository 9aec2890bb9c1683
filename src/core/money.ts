/** Sums of money: US dollars, in binary fractions. */

/** To a millionth of a dollar: a sum must not show as 0.30000000000000004. Null, an unknown price, stays unknown. */
export function roundUsd<N extends number | null>(usd: N): N {
  return (usd === null ? null : Math.round((usd as number) * 1e6) / 1e6) as N
}

/** Twenty times five cents are a dollar, whatever binary fractions say. */
const ROUNDING_USD = 1e-9

/** Whether a sum keeps to a limit. */
export function isWithin(usd: number, limitUsd: number): boolean {
  return usd <= limitUsd + ROUNDING_USD
}
