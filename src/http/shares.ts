/**
 * Places for what holds a connection for long: event streams, waits, forms.
 *
 * 1. There is a number of places, and one key holds at most its share of them: nobody keeps everybody else out.
 * 2. A place is given back once, however often that is said. It is memory: a restart begins with all of them free.
 */
export interface Shares {
  /** A place, or who has no more of them: this key, or the server. */
  take(apiKeyId: string): { free(): void } | { full: 'key' | 'server' }
  /** How many are taken. */
  readonly count: number
}

export function createShares(limits: { perKey: number; inAll: number }): Shares {
  const held = new Map<string, number>()
  let count = 0
  const give = (apiKeyId: string): void => {
    const left = (held.get(apiKeyId) ?? 1) - 1
    count -= 1
    if (left > 0) held.set(apiKeyId, left)
    else held.delete(apiKeyId)
  }
  return {
    get count() {
      return count
    },
    take(apiKeyId) {
      const own = held.get(apiKeyId) ?? 0
      if (own >= limits.perKey) return { full: 'key' }
      if (count >= limits.inAll) return { full: 'server' }
      held.set(apiKeyId, own + 1)
      count += 1
      let isTaken = true
      return {
        free() {
          if (isTaken) give(apiKeyId)
          isTaken = false
        },
      }
    },
  }
}
