// Who may call now: a first-come semaphore that no single provider can exhaust.
//
// Invariants
// 1. At most `max` places are taken, and at most `maxPerProvider` by one provider.
// 2. The last quarter of the places is a lifeline: only a provider with fewer than two calls under way may enter it. So
//    when some providers hang with all that they can take, the others still work.
// 3. Within a provider, and among providers that may enter, the longest waiting goes first.
// 4. A place is given back exactly once, and whoever gives up waiting holds none.

export type Place = { readonly type: 'place'; readonly leave: () => void }
export type Turned = { readonly type: 'refused'; readonly why: 'timeout' | 'aborted' }

export type Gate = {
  /** Waits at most `maxWaitMs` for a place. */
  readonly enter: (provider: string, maxWaitMs: number, signal?: AbortSignal) => Promise<Place | Turned>
}

/** Calls back once after so many milliseconds, unless it is told to forget it. */
export type After = (ms: number, call: () => void) => () => void

export const realTime: After = (ms, call) => {
  const timer = setTimeout(call, ms)
  return () => clearTimeout(timer)
}

type Waiter = { readonly ticket: number; readonly admit: () => void }
type Line = { inFlight: number; readonly waiting: Set<Waiter> }

const LIFELINE = 2

export function createGate(max: number, maxPerProvider: number, after: After = realTime): Gate {
  const lines = new Map<string, Line>()
  const reserve = Math.floor(max / 4)
  let inFlight = 0
  let tickets = 0

  const mayEnter = (line: Line) => {
    if (inFlight >= max || line.inFlight >= maxPerProvider) return false
    return inFlight < max - reserve || line.inFlight < LIFELINE
  }
  const take = (line: Line): Place => {
    line.inFlight += 1
    inFlight += 1
    let left = false
    const leave = () => {
      if (left) return
      left = true
      line.inFlight -= 1
      inFlight -= 1
      admitNext()
    }
    return { type: 'place', leave }
  }
  // One place was freed, so at most one waiter can enter. Providers are few: a scan of their first waiters is cheap.
  const admitNext = () => {
    let first: Waiter | undefined
    for (const line of lines.values()) {
      const [head] = line.waiting
      if (head !== undefined && (first === undefined || head.ticket < first.ticket) && mayEnter(line)) first = head
    }
    first?.admit()
  }

  const enter = (provider: string, maxWaitMs: number, signal?: AbortSignal): Promise<Place | Turned> => {
    if (signal?.aborted) return Promise.resolve({ type: 'refused', why: 'aborted' })
    const line = lines.get(provider) ?? { inFlight: 0, waiting: new Set() }
    lines.set(provider, line)
    // Whoever may enter never waits (every place given back is offered at once), so this overtakes nobody.
    if (mayEnter(line)) return Promise.resolve(take(line))
    return new Promise(resolve => {
      const settle = (outcome: () => Place | Turned) => {
        disarm()
        signal?.removeEventListener('abort', onAbort)
        line.waiting.delete(waiter)
        resolve(outcome())
      }
      const onAbort = () => settle(() => ({ type: 'refused', why: 'aborted' }))
      const disarm = after(maxWaitMs, () => settle(() => ({ type: 'refused', why: 'timeout' })))
      const waiter: Waiter = { ticket: tickets++, admit: () => settle(() => take(line)) }
      line.waiting.add(waiter)
      signal?.addEventListener('abort', onAbort, { once: true })
    })
  }

  return { enter }
}
