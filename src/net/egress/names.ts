// Which addresses a name has now, with limits that keep one silent name from standing in the way of another.
//
// Invariants
// 1. A lookup ends within the limit, whatever the name server does. Who asks for a name that is being asked for already
//    gets the answer to that question.
// 2. A site may have as many lookups under way as places are free. So one that hangs takes half of the places, the next
//    one half of the rest, and whoever has none under way waits for nobody.
// 3. Silence and SERVFAIL blame nobody by themselves: the server of that name may be dead, or our own network. So the name
//    server is asked a second thing. If it answers, the name is at fault (`dns_error`), else we are (`egress_down`).

import { EgressError, noAnswerFrom, orAborted, resolverError } from './failure.ts'

export type Address = { readonly address: string; readonly family: number }

/** Where names are looked up. Each signal means that nobody waits any more. */
export type NameSource = {
  /** Every address of a name. Rejects with the error of the resolver. */
  readonly ask: (host: string, signal: AbortSignal) => Promise<readonly Address[]>
  /** Whether the name server answers anything at all. Never rejects. Without it, errors are taken at their word. */
  readonly isAlive?: (signal: AbortSignal) => Promise<boolean>
}

/** Rejects with `EgressError` and nothing else. */
export type Names = (host: string) => Promise<readonly Address[]>

// A lookup under way holds a socket, and no thread. Those who ask come to about a hundred: 64 callbacks and some downloads.
const PLACES = 256

export function createNames(source: NameSource, limitMs: number): Names {
  const underWay = new Map<string, Promise<readonly Address[]>>()
  return host => {
    const same = underWay.get(host)
    if (same !== undefined) return same
    const site = siteOf(host)
    let ofSite = 0
    for (const other of underWay.keys()) if (siteOf(other) === site) ofSite += 1
    if (ofSite >= PLACES - underWay.size) {
      return Promise.reject(new EgressError('dns_error', `${ofSite} names of ${site} are without an answer`))
    }
    const asked = lookUp(host, source, limitMs).finally(() => underWay.delete(host))
    underWay.set(host, asked)
    return asked
  }
}

// What one owner can have thousands of: names below one registered domain. Under `co.uk` strangers share, which is no harm
// as long as nobody among them is silent a hundred times at once.
function siteOf(host: string): string {
  return host.split('.').slice(-2).join('.')
}

async function lookUp(host: string, source: NameSource, limitMs: number): Promise<readonly Address[]> {
  const end = new AbortController()
  let alive: Promise<boolean> | undefined
  let isKnownAlive = source.isAlive === undefined
  const isAlive = () => {
    alive ??= (source.isAlive?.(end.signal) ?? Promise.resolve(true)).then(is => {
      isKnownAlive = is
      return is
    })
    return alive
  }
  // Half of the limit is long for a name, and the other half is long for the second question.
  const doubt = setTimeout(isAlive, limitMs / 2)
  const limit = setTimeout(() => {
    const silence = `no answer within ${limitMs} ms`
    end.abort(
      isKnownAlive ? new EgressError('dns_error', silence) : new EgressError('egress_down', `${silence}, to any`),
    )
  }, limitMs)
  try {
    return await orAborted(source.ask(host, end.signal), end.signal)
  } catch (error) {
    const nobody = source.isAlive === undefined ? null : noAnswerFrom(error)
    if (nobody === null) throw resolverError(error)
    const blame = (await orAborted(isAlive(), end.signal)) ? 'dns_error' : 'egress_down'
    throw new EgressError(blame, nobody)
  } finally {
    clearTimeout(doubt)
    clearTimeout(limit)
    end.abort()
  }
}
