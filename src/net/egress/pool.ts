// Connections that stay open for the next request to the same host.
//
// Invariants
// 1. A connection serves one (protocol, host name, port) and no other: names that share an address share nothing here.
//    There is one pool per egress, and so one list of authorities.
// 2. What is put here was checked (its peer compared, its certificate verified) and its last reply was read to a clean end,
//    from a server that did not say `Connection: close`.
// 3. A kept connection is lent only to a request that may use it. One that comes first and may not be used is closed.
// 4. A byte that arrives on an idle connection ends it: nobody asked, so it is the answer to nothing.
// 5. At most 64 idle connections a host and 256 in all (the oldest go first), each for `idleMs`. They do not keep the process
//    alive. After `close` none are left and none are kept.
//
// TLS sessions are not resumed: each new connection verifies its peer from the beginning.

import type { Connection } from './connection.ts'

export type Pool = {
  /** The connection of this origin that was put here last, if it may be used. */
  readonly take: (origin: string, mayUse: (kept: Connection) => boolean) => Connection | undefined
  /** `keepMs`: how long the server would wait, null if it does not say. */
  readonly put: (connection: Connection, keepMs: number | null) => void
  readonly close: () => void
}

// As many as calls of one provider can end at once; an idle TLS connection holds some ten kilobytes.
const MAX_IDLE_PER_HOST = 64
const MAX_IDLE = 256
// On the way a request takes from what the server waits.
const TRAVEL_MS = 1000

/** `idleMs`: less than servers wait, and 5 s is usual. A server that says in `Keep-Alive` that it waits less is believed. */
export function createPool(idleMs: number): Pool {
  // In the order in which they came, in all and by origin.
  const idle = new Map<Connection, NodeJS.Timeout>()
  const byOrigin = new Map<string, Connection[]>()
  let isClosed = false

  const remove = (connection: Connection) => {
    clearTimeout(idle.get(connection))
    idle.delete(connection)
    const same = byOrigin.get(connection.origin) ?? []
    const at = same.lastIndexOf(connection)
    if (at !== -1) same.splice(at, 1)
    if (same.length === 0) byOrigin.delete(connection.origin)
  }
  const end = (connection: Connection) => {
    remove(connection)
    connection.destroy()
  }

  return {
    take: (origin, mayUse) => {
      for (;;) {
        const connection = byOrigin.get(origin)?.at(-1)
        if (connection === undefined) return undefined
        if (connection.isOpen && mayUse(connection)) {
          remove(connection)
          connection.socket.ref()
          return connection
        }
        end(connection)
      }
    },
    put: (connection, keepMs) => {
      const waitMs = Math.min(idleMs, (keepMs ?? Number.POSITIVE_INFINITY) - TRAVEL_MS)
      const same = byOrigin.get(connection.origin) ?? []
      if (isClosed || waitMs <= 0 || !connection.isOpen || same.length >= MAX_IDLE_PER_HOST) return connection.destroy()
      const leave = () => end(connection)
      connection.handTo({ onBytes: leave, onLost: leave })
      connection.socket.unref()
      same.push(connection)
      byOrigin.set(connection.origin, same)
      idle.set(connection, setTimeout(leave, waitMs).unref())
      const [oldest] = idle.keys()
      if (idle.size > MAX_IDLE && oldest !== undefined) end(oldest)
    },
    close: () => {
      isClosed = true
      for (const connection of [...idle.keys()]) end(connection)
    },
  }
}
