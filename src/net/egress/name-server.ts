// The names of the system without its resolver: the hosts file, and the name servers over sockets that hold no thread.
//
// Invariants
// 1. Nothing that a stranger can name holds a thread: a silent name server costs one socket, until the signal. Names
//    under `.local` are found without a name server (RFC 6762) and need the system; only the operator can allow them.
// 2. What the system knows now counts: its files are read again when they change, the name servers with each lookup.
//
// `getaddrinfo` (`dns.lookup`) holds a thread of Bun's pool for 5 to 10 s of silence. There is about one thread a core, and
// reading files waits for them too: two silent names stopped a server. Bun's own lookup through c-ares
// (`Bun.dns.lookup` with that backend) holds no thread, but reads resolv.conf once in the life of the process, so that a
// server started before its network stays deaf; it asks for a silent name for up to 24 s and cannot be stopped; and one
// dead name server beside a silent name looks like a dead network. A `Resolver` (c-ares as well) for each lookup has
// none of that, at 60 µs more. It reads neither the hosts file nor the search list: both are done here.

import { lookup, Resolver } from 'node:dns/promises'
import { readFileSync, statSync } from 'node:fs'
import { isIP } from 'node:net'
import { isNoSuchName } from './failure.ts'
import type { Address, NameSource } from './names.ts'

export type SystemFiles = { readonly hosts: string; readonly resolver: string }

const FILES: SystemFiles = { hosts: '/etc/hosts', resolver: '/etc/resolv.conf' }

// Three name servers are tried within the 2 s of a lookup, or one of them twice.
const TRIES = { timeout: 600, tries: 2 }

// For the other family once one has answered. Some name servers never answer for IPv6 (RFC 8305, section 3, waits 50 ms).
const SECOND_FAMILY_MS = 300

/** Name servers, `address:port`, in place of those of the system are for tests; so are other files. */
export function createNameServer(servers: readonly string[] | undefined, files = FILES): NameSource {
  const hosts = reread(files.hosts, readHosts)
  const search = reread(files.resolver, readSearch)
  const open = (signal: AbortSignal): Resolver => {
    const resolver = new Resolver(TRIES)
    if (servers !== undefined) resolver.setServers([...servers])
    signal.addEventListener('abort', () => resolver.cancel(), { once: true })
    return resolver
  }
  let given: string | undefined
  return {
    ask: async (host, signal) => {
      const known = hosts().get(host) ?? (isLoopbackName(host) ? LOOPBACK : undefined)
      if (known !== undefined) return known
      if (host.endsWith('.local')) return lookup(host, { all: true })
      let error: unknown
      for (const name of spellings(host, search())) {
        try {
          const addresses = await bothFamilies(name, open(signal))
          // Short names and those of the search list are of our own network, and tell nothing of the way out of it.
          if (name === host && host.includes('.')) given = host
          return addresses
        } catch (caught) {
          if (!isNoSuchName(caught)) throw caught
          error = caught
        }
      }
      throw error
    },
    // Every name server has the servers of the root in its memory, or is entitled to say that it does not give them. One
    // that says SERVFAIL cannot ask the world, or never knew the root: the name that it gave last tells which.
    isAlive: async signal => {
      const resolver = open(signal)
      const said = await codeOf(resolver.resolveNs('.'))
      if (said !== 'ESERVFAIL' || given === undefined) return ANSWERS.has(said)
      return ANSWERS.has(await codeOf(resolver.resolve4(given)))
    },
  }
}

// What a name server says, and not what c-ares says for want of it. SERVFAIL is said by one that cannot ask the world, too.
const ANSWERS: ReadonlySet<string> = new Set([
  'found',
  'ENODATA',
  'ENOTFOUND',
  'EFORMERR',
  'ENOTIMP',
  'EREFUSED',
  'EBADRESP',
])

function codeOf(asked: Promise<unknown>): Promise<string> {
  return asked.then(
    () => 'found',
    (error: { code?: unknown }) => String(error.code),
  )
}

async function bothFamilies(name: string, resolver: Resolver): Promise<readonly Address[]> {
  let patience: NodeJS.Timeout | undefined
  const family = async (asked: Promise<string[]>, number: number): Promise<Address[]> => {
    const found = await asked
    patience ??= setTimeout(() => resolver.cancel(), SECOND_FAMILY_MS)
    return found.map(address => ({ address, family: number }))
  }
  const answers = await Promise.allSettled([family(resolver.resolve4(name), 4), family(resolver.resolve6(name), 6)])
  clearTimeout(patience)
  const found = answers.flatMap(answer => (answer.status === 'fulfilled' ? answer.value : []))
  if (found.length > 0) return found
  const errors = answers.flatMap(answer => (answer.status === 'rejected' ? [answer.reason] : []))
  // That there is no such name is only true if nobody knows of a reason to doubt it.
  throw errors.find(error => !isNoSuchName(error)) ?? errors[0]
}

// RFC 6761, section 6.3: no name server is asked for them.
const LOOPBACK: readonly Address[] = [
  { address: '127.0.0.1', family: 4 },
  { address: '::1', family: 6 },
]

function isLoopbackName(host: string): boolean {
  return host === 'localhost' || host.endsWith('.localhost')
}

/** A short name is meant within the search list, a dotted one as it stands; the other way is the second choice. */
function spellings(host: string, search: readonly string[]): readonly string[] {
  const within = search.map(domain => `${host}.${domain}`)
  return host.includes('.') ? [host, ...within] : [...within, host]
}

/** resolv.conf(5): the last `search` or `domain` counts. */
function readSearch(text: string): readonly string[] {
  const lists = text.split('\n').flatMap(line => {
    const [word, ...domains] = line.trim().split(/\s+/)
    return word === 'search' || word === 'domain' ? [domains] : []
  })
  return (lists.at(-1) ?? []).map(domain => domain.replace(/\.$/, '')).filter(domain => domain !== '')
}

/** hosts(5). An address with a zone (`fe80::1%lo0`, of macOS) could not be checked. */
function readHosts(text: string): ReadonlyMap<string, readonly Address[]> {
  const hosts = new Map<string, Address[]>()
  for (const line of text.split('\n')) {
    const [address = '', ...names] = line.replace(/#.*/, '').trim().split(/\s+/)
    const family = isIP(address)
    if (family === 0 || address.includes('%')) continue
    for (const name of names) {
      const host = name.toLowerCase()
      hosts.set(host, [...(hosts.get(host) ?? []), { address, family }])
    }
  }
  return hosts
}

/** What the file says now. Read where it is needed and not by the pool of threads, which others may have filled. */
function reread<T>(path: string, parse: (text: string) => T): () => T {
  let version: string | undefined
  let parsed = parse('')
  return () => {
    const stat = statSync(path, { throwIfNoEntry: false })
    const found = stat === undefined ? '' : `${stat.ino} ${stat.size} ${stat.mtimeMs}`
    if (found !== version) {
      version = found
      parsed = parse(stat === undefined ? '' : readFileSync(path, 'utf8'))
    }
    return parsed
  }
}
