// Connections that stay open for the next request to the same host.
//
// Invariants
// 1. A connection serves one (protocol, host name, port, TLS server name and settings) and no other: names that share an
//    address share nothing here. There is one pool per egress, and so one list of authorities.
// 2. Only a connection is kept that was vouched for (its peer compared, its certificate verified, its request answered),
//    and only after a reply that was read to its clean end, from a server that did not say `Connection: close`. The agent
//    of `node:http` sees to the end of the reply; whoever destroys a reply destroys its connection.
// 3. A kept connection is lent only to a request that may use it. One that comes first and may not be used is closed.
// 4. A byte that arrives on an idle connection ends it: nobody asked, so it is the answer to nothing.
// 5. At most 64 idle connections a host and 256 in all (the oldest go first), each for `idleMs`. They do not keep the process
//    alive. After `close` none are left and none are kept.
//
// TLS sessions are not resumed: each new connection verifies its peer from the beginning.

import http from 'node:http'
import https from 'node:https'
import type { Socket } from 'node:net'
import type { Duplex } from 'node:stream'

export type Pool = {
  /** The agent for such a request; if it lends an idle connection, then one that the request may use. To be asked at once. */
  readonly agentFor: (options: https.RequestOptions, mayUse: (socket: Socket) => boolean) => http.Agent
  /** Says of a connection that it may be kept once its present reply has ended. To be said anew for every request. */
  readonly vouch: (socket: Socket) => void
  readonly close: () => void
}

// As many as calls of one provider can end at once; an idle TLS connection holds some ten kilobytes.
const MAX_IDLE_PER_HOST = 64
const MAX_IDLE = 256

/** `idleMs`: less than servers wait, and 5 s is usual. A server that says in `Keep-Alive` that it waits less is believed. */
export function createPool(idleMs: number): Pool {
  const idle = new Set<Duplex>()
  const vouched = new WeakSet<Duplex>()
  let isClosed = false

  function forget(this: Duplex): void {
    idle.delete(this)
  }
  const keep = (socket: Duplex) => {
    idle.add(socket)
    socket.once('close', forget)
    const [oldest] = idle
    if (idle.size > MAX_IDLE && oldest !== undefined) end(oldest)
  }
  const take = (socket: Duplex) => {
    idle.delete(socket)
    socket.off('close', forget)
  }
  const ruled = <A extends http.Agent>(agent: A): A => {
    const keepSocketAlive = agent.keepSocketAlive.bind(agent)
    const reuseSocket = agent.reuseSocket.bind(agent)
    agent.keepSocketAlive = socket => {
      // False when the server's own `Keep-Alive: timeout` is too short to count on; the types do not know.
      const isKept = !isClosed && vouched.delete(socket) && (keepSocketAlive(socket) as unknown) !== false
      if (isKept) keep(socket)
      return isKept
    }
    agent.reuseSocket = (socket, request) => {
      take(socket)
      reuseSocket(socket, request)
    }
    return agent
  }
  const common = { keepAlive: true, timeout: idleMs, maxFreeSockets: MAX_IDLE_PER_HOST, scheduling: 'lifo' } as const
  const plain = ruled(new http.Agent(common))
  const secure = ruled(new https.Agent({ ...common, maxCachedSessions: 0 }))

  return {
    agentFor: (options, mayUse) => {
      const agent = options.protocol === 'https:' ? secure : plain
      // The agent lends the one that came last.
      for (const socket of agent.freeSockets[agent.getName(options)]?.toReversed() ?? []) {
        if (!socket.destroyed && socket.writable && mayUse(socket)) break
        end(socket)
      }
      return agent
    },
    vouch: socket => void vouched.add(socket),
    close: () => {
      isClosed = true
      for (const socket of [...idle]) end(socket)
    },
  }
}

/** Closes an idle connection, and takes it from its agent at once: `close` is only told later. */
function end(socket: Duplex): void {
  socket.destroy()
  socket.emit('agentRemove')
}
