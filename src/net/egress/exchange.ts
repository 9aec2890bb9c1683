// One request over one connection, kept or new, up to the head of its reply.
//
// Invariants
// 1. Not one byte of the request leaves before the peer of the open connection was compared with the addresses of this
//    very request and, over https, its certificate was verified for the host in the URL.
// 2. On a kept connection nothing is sent before all that had arrived on it was read. Bytes that nobody asked for, or an
//    end, end it; they are never taken for an answer.
// 3. A new connection is dialled at the addresses that it is given, whatever the name says by now.
// 4. Limits: `connectTimeoutMs` until the request leaves, 16 KiB of headers, eight interim replies; the signal ends all.

import net, { type Socket } from 'node:net'
import tls, { type TLSSocket } from 'node:tls'
import { canonicalAddress } from '../address.ts'
import { Connection, type Listener } from './connection.ts'
import { EgressError, type Phase, socketError } from './failure.ts'
import { HeadReader } from './http1.ts'
import { type Keep, Reply } from './reply.ts'

export type Target = { readonly address: string; readonly port: number; readonly family: number }

export type Order = {
  readonly origin: string
  readonly isSecure: boolean
  /** The host of the URL, null where that is an address. */
  readonly name: string | null
  readonly targets: readonly Target[]
  /** The request, head and body. */
  readonly bytes: Buffer
  /** A kept connection to use; without one a new one is dialled. */
  readonly kept: Connection | undefined
  /** PEM of the only authorities that are trusted, in place of the built-in ones. */
  readonly ca: string | undefined
  readonly connectTimeoutMs: number
  /** Ends everything up to and including the body of the reply; its reason is an `EgressError`. */
  readonly signal: AbortSignal
  readonly onPeer: (address: string) => void
  /** Takes the connection once the body of the reply was read. */
  readonly keep: Keep
}

/** `stale`: the kept connection came to nothing before the first byte of an answer, so the request may be repeated. */
type Outcome = Reply | 'stale'

// Enough for hints that precede an answer (100, 103); more is a way to keep us busy.
const MAX_INTERIM_REPLIES = 8

/** Rejects with `EgressError` and nothing else. */
export function exchange(order: Order): Promise<Outcome> {
  return new Promise((resolve, reject) => new Exchange(order, resolve, reject).start())
}

class Exchange implements Listener {
  readonly #order: Order
  readonly #resolve: (outcome: Outcome) => void
  readonly #reject: (error: EgressError) => void
  readonly #head = new HeadReader()
  #connection: Connection | undefined
  #phase: Phase = 'connecting'
  #interim = 0
  #isAnswered = false
  #isSettled = false
  #connectTimer: NodeJS.Timeout | undefined

  constructor(order: Order, resolve: (outcome: Outcome) => void, reject: (error: EgressError) => void) {
    this.#order = order
    this.#connection = order.kept
    this.#resolve = resolve
    this.#reject = reject
  }

  start(): void {
    const { signal, kept, connectTimeoutMs } = this.#order
    if (signal.aborted) {
      this.#fail(signal.reason)
      return
    }
    signal.addEventListener('abort', this.#onAbort, { once: true })
    this.#connectTimer = setTimeout(() => {
      const what = this.#phase === 'connecting' ? 'no connection' : 'no TLS session'
      this.#fail(new EgressError('connect_timeout', `${what} within ${connectTimeoutMs} ms`))
    }, connectTimeoutMs)
    if (kept === undefined) this.#dial()
    else {
      kept.handTo(this)
      this.#onOpen(kept)
    }
  }

  #dial(): void {
    try {
      const socket = startSocket(this.#order)
      const dialled = new Connection(socket, this.#order.origin, this)
      this.#connection = dialled
      socket.once('connect', () => this.#onOpen(dialled))
    } catch (error) {
      this.#fail(error)
    }
  }

  onBytes(bytes: Buffer): void {
    try {
      if (this.#phase === 'open') this.#readHeads(bytes)
      else this.#lose('an answer before the request')
    } catch (error) {
      this.#fail(error)
    }
  }

  onLost(error: unknown): void {
    this.#lose(error ?? 'closed without a reply')
  }

  /** Whatever precedes the answer, then the answer. */
  #readHeads(bytes: Buffer): void {
    this.#isAnswered = true
    let rest = bytes
    for (;;) {
      const whole = this.#head.push(rest)
      if (whole === null || this.#connection === undefined) return
      rest = whole.rest
      if (whole.head.status >= 200) {
        this.#settle()
        this.#resolve(new Reply(this.#connection, whole.head, rest, this.#order))
        return
      }
      if (whole.head.status === 101) throw new EgressError('connection_lost', 'answered with another protocol')
      this.#interim += 1
      if (this.#interim > MAX_INTERIM_REPLIES) throw new EgressError('connection_lost', 'too many interim replies')
    }
  }

  #onOpen(connection: Connection): void {
    if (this.#isSettled) return
    const { targets, onPeer, kept, isSecure } = this.#order
    const { peer, socket } = connection
    if (!isAmong(targets, peer)) {
      this.#lose(new EgressError('blocked_address', `connected to ${peer}, which was not checked`))
      return
    }
    onPeer(peer)
    if (kept !== undefined) whenQuiet(() => this.#send(connection))
    else if (!isSecure) this.#send(connection)
    else {
      this.#phase = 'securing'
      socket.once('secureConnect', () => {
        // node destroys the socket of an untrusted peer by itself; this line does not depend on it.
        if ((socket as TLSSocket).authorized) this.#send(connection)
      })
    }
  }

  #send(connection: Connection): void {
    if (this.#isSettled) return
    if (!connection.isOpen) {
      this.#lose('not idle')
      return
    }
    this.#phase = 'open'
    clearTimeout(this.#connectTimer)
    connection.socket.write(this.#order.bytes)
  }

  /** What the other side did to us. */
  #lose(what: unknown): void {
    const error = typeof what === 'string' ? new EgressError('connection_lost', what) : what
    if (this.#order.kept === undefined || this.#isAnswered) this.#fail(error)
    else if (!this.#isSettled) {
      this.#settle()
      this.#connection?.destroy()
      this.#resolve('stale')
    }
  }

  #fail(error: unknown): void {
    if (this.#isSettled) return
    this.#settle()
    this.#connection?.destroy()
    const triedIPv4 = this.#order.targets.some(target => target.family === 4)
    this.#reject(socketError(error, this.#phase, triedIPv4))
  }

  readonly #onAbort = (): void => this.#fail(this.#order.signal.reason)

  #settle(): void {
    this.#isSettled = true
    clearTimeout(this.#connectTimer)
    this.#order.signal.removeEventListener('abort', this.#onAbort)
  }
}

// A kept connection may hold what came since the loop last looked: a farewell, or an answer that nobody asked for. One
// turn may be the rest of the present one, so that only the second is sure to have read it.
function whenQuiet(then: () => void): void {
  setImmediate(() => setImmediate(then))
}

export function isAmong(targets: readonly Target[], peer: string): boolean {
  if (targets.some(({ address }) => address === peer)) return true
  const canonical = canonicalAddress(peer)
  return canonical !== null && targets.some(({ address }) => canonicalAddress(address) === canonical)
}

function startSocket({ name, targets, isSecure, ca }: Order): Socket {
  const [first] = targets
  if (first === undefined) throw new EgressError('dns_error', 'no address')
  const place: net.TcpNetConnectOpts = {
    host: name ?? first.address,
    port: first.port,
    noDelay: true,
    autoSelectFamily: true,
    autoSelectFamilyAttemptTimeout: 1000,
    lookup: (_host, options, done) => {
      // The list is what `autoSelectFamily` asks for; the single form is for runtimes that ignore it.
      if (options.all) done(null, [...targets])
      else done(null, first.address, first.family)
    },
  }
  if (!isSecure) return net.connect(place)
  return tls.connect({
    ...place,
    minVersion: 'TLSv1.2',
    rejectUnauthorized: true,
    ALPNProtocols: ['http/1.1'],
    ...(ca === undefined ? {} : { ca }),
    ...(name === null ? {} : { servername: name }),
  })
}
