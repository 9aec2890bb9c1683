/**
 * Look-ups after a time that nobody measured. A provider's `none` is true when `settleMs` have passed since the submit, and
 * how long ago that was is told by stored times: after a crash, and after the clock leapt ahead, they may lie.
 *
 * 1. A `none` counts once the provider had its time since the last moment from which on time is sound. Before, it is
 *    `unknown`, and asked again when it can count.
 */
import type { Clock, Provider } from '../core/ports.ts'

export interface SettlingDeps {
  clock: Pick<Clock, 'now'>
  /** Since when (on the clock) time has gone on without a leap. */
  soundSince(): number
}

/** The provider, its look-ups believed no earlier than they can be. */
export function settling(provider: Provider, { clock, soundSince }: SettlingDeps): Provider {
  if (!provider.find) return provider
  const find: Provider['find'] = async (attempt, signal) => {
    const found = (await provider.find?.(attempt, signal)) ?? { type: 'unknown' }
    const askAt = soundSince() + provider.settleMs
    return found.type === 'none' && clock.now() < askAt ? { type: 'unknown', askAt } : found
  }
  return new Proxy(provider, {
    get(target, key) {
      if (key === 'find') return find
      const value: unknown = Reflect.get(target, key)
      return typeof value === 'function' ? value.bind(target) : value
    },
  })
}
