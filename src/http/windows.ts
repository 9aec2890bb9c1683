/**
 * What a key has used in a span of time, such as a minute or an hour.
 *
 * 1. A window begins with a key's first use in it. It is memory: a restart begins anew.
 */
export interface Window {
  endsAt: number
  /** The caller counts. */
  used: number
}

/** Windows of keys that are gone are swept out when there are more than this. */
const MOST_WINDOWS = 1_000

/** Makes the question for a key's window at a time. */
export function createWindows(spanMs: number): (apiKeyId: string, at: number) => Window {
  const windows = new Map<string, Window>()
  return (apiKeyId, at) => {
    const known = windows.get(apiKeyId)
    if (known && known.endsAt > at) return known
    if (windows.size > MOST_WINDOWS) for (const [id, { endsAt }] of windows) if (endsAt <= at) windows.delete(id)
    const fresh = { endsAt: at + spanMs, used: 0 }
    windows.set(apiKeyId, fresh)
    return fresh
  }
}
