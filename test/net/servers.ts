// Real servers for the tests of this folder, on loopback and on a port that the system chooses.

import { afterAll } from 'bun:test'
import { readFileSync } from 'node:fs'
import http from 'node:http'
import https from 'node:https'
import net from 'node:net'
import tls from 'node:tls'
import { createEgress, type Egress, type EgressOptions } from '../../src/net/egress.ts'

const pem = (name: string) => readFileSync(new URL(`tls/${name}.pem`, import.meta.url), 'utf8')

export const AUTHORITY = pem('authority')
export const certificates = {
  good: { key: pem('key'), cert: pem('good') },
  expired: { key: pem('key'), cert: pem('expired') },
  otherName: { key: pem('key'), cert: pem('other-name') },
}

/** Where every name is, for those whom it concerns. */
export const PUBLIC = '93.184.216.34'

/** An egress for which every name is public and every address is the given local port. */
export function egressTo(port: number, options: Partial<EgressOptions> = {}): Egress {
  return createEgress({
    allow: [],
    ca: AUTHORITY,
    resolver: async () => [{ address: PUBLIC, family: 4 }],
    dialAs: () => ({ address: '127.0.0.1', port }),
    ...options,
  })
}

const open = new Set<{ close: () => unknown }>()
afterAll(() => {
  for (const server of open) server.close()
  open.clear()
})

export type Listening = {
  readonly port: number
  connections: number
  requests: number
  /** Connections that are open now. */
  readonly open: number
  /** As soon as no connection is open. */
  readonly drained: () => Promise<void>
}

type Place = { host: string; port: number }

async function listen(server: net.Server, { host, port }: Place = { host: '127.0.0.1', port: 0 }): Promise<Listening> {
  const sockets = new Set<net.Socket>()
  let onDrained: (() => void)[] = []
  const drained = () => new Promise<void>(resolve => (sockets.size === 0 ? resolve() : onDrained.push(resolve)))
  const seen: Listening = {
    port: 0,
    connections: 0,
    requests: 0,
    get open() {
      return sockets.size
    },
    drained,
  }
  server.on('connection', (socket: net.Socket) => {
    seen.connections += 1
    sockets.add(socket)
    socket.on('error', () => {})
    socket.on('close', () => {
      sockets.delete(socket)
      if (sockets.size > 0) return
      for (const resolve of onDrained) resolve()
      onDrained = []
    })
  })
  await new Promise<void>(resolve => server.listen(port, host, () => resolve()))
  open.add({
    close: () => {
      server.close()
      for (const socket of sockets) socket.destroy()
    },
  })
  return Object.assign(seen, { port: (server.address() as net.AddressInfo).port })
}

/** Bytes in, bytes out: `answer` is called with each connection once it has sent something. */
export async function rawServer(answer: (socket: net.Socket, request: string) => void): Promise<Listening> {
  const seen = await listen(
    net.createServer(socket => {
      socket.once('data', data => {
        seen.requests += 1
        answer(socket, data.toString())
      })
    }),
  )
  return seen
}

/**
 * Bytes in, bytes out, for a connection that carries several requests, plain or inside TLS: `answer` is called with each
 * of them, counted from 1 on its connection, which is counted too. Requests must be small enough to come in one piece.
 */
export async function talkingServer(
  kind: 'http' | 'https',
  answer: (socket: net.Socket, nth: number, connection: number) => void,
): Promise<Listening> {
  let connections = 0
  const onSocket = (socket: net.Socket) => {
    connections += 1
    const connection = connections
    let nth = 0
    socket.on('error', () => {})
    socket.on('data', () => {
      nth += 1
      seen.requests += 1
      answer(socket, nth, connection)
    })
  }
  const server = kind === 'http' ? net.createServer(onSocket) : tls.createServer(certificates.good, onSocket)
  const seen = await listen(server)
  return seen
}

/** As `rawServer`, inside TLS. */
export async function rawTlsServer(
  answer: (socket: net.Socket, request: string) => void,
  options: tls.TlsOptions = certificates.good,
): Promise<Listening> {
  const server = tls.createServer(options, socket => {
    socket.on('error', () => {})
    socket.once('data', data => {
      seen.requests += 1
      answer(socket, data.toString())
    })
  })
  server.on('tlsClientError', () => {})
  const seen = await listen(server)
  return seen
}

export async function httpServer(handler: http.RequestListener, place?: Place): Promise<Listening> {
  const seen = await listen(
    http.createServer((request, reply) => {
      seen.requests += 1
      handler(request, reply)
    }),
    place,
  )
  return seen
}

export async function httpsServer(
  handler: http.RequestListener,
  options: https.ServerOptions = certificates.good,
  place?: Place,
): Promise<Listening> {
  const server = https.createServer(options, (request, reply) => {
    seen.requests += 1
    handler(request, reply)
  })
  server.on('tlsClientError', () => {})
  const seen = await listen(server, place)
  return seen
}

/** A port on which nobody listens. */
export async function closedPort(): Promise<number> {
  const server = net.createServer()
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', () => resolve()))
  const { port } = server.address() as net.AddressInfo
  await new Promise<void>(resolve => server.close(() => resolve()))
  return port
}

/** Counts the connections to a TLS server before their handshake, which the server itself does not report. */
export async function doorTo(port: number, onSocket?: (socket: net.Socket) => void): Promise<Listening> {
  return await listen(
    net.createServer(socket => {
      onSocket?.(socket)
      const inside = net.connect(port, '127.0.0.1')
      inside.on('error', () => socket.destroy())
      socket.on('close', () => inside.destroy())
      socket.pipe(inside).pipe(socket)
    }),
  )
}
