// The reply to one request, its head read, its body read at the reader's own pace.
//
// Invariants
// 1. A body is read no further ahead of its reader than 64 KiB and what comes in one piece.
// 2. Its connection is kept exactly if the body was read to its clean end, nothing came after it, and the server lets us.
//    In every other case `destroy`, which is due from whoever stops early, ends it.
// 3. What came is handed on before the reader learns that no more will: a loss after the last byte is none.

import type { Connection, Listener } from './connection.ts'
import { EgressError } from './failure.ts'
import { BodyReader, type Head } from './http1.ts'

export type Keep = (connection: Connection, keepMs: number | null) => void

type Reader = { readonly resolve: (part: Uint8Array | null) => void; readonly reject: (error: EgressError) => void }

const MAX_AHEAD_BYTES = 64 * 1024

export class Reply implements Listener {
  readonly status: number
  /** Declared length of the body in bytes; null if none was. */
  readonly length: number | null
  /** Names in lower case. */
  readonly headers: Readonly<Record<string, string>>
  readonly #connection: Connection
  readonly #signal: AbortSignal
  readonly #keep: Keep
  readonly #keepMs: number | null
  readonly #body: BodyReader
  #ahead: Buffer[] = []
  #aheadBytes = 0
  #reader: Reader | null = null
  #mayKeep: boolean
  #failure: EgressError | null = null
  /** Once it is not open any more, its connection is no longer ours. */
  #state: 'open' | 'read' | 'destroyed' = 'open'

  /** `rest` came with the head; `keep` takes the connection once the body was read; `signal` ends it before. */
  constructor(connection: Connection, head: Head, rest: Buffer, { keep, signal }: { keep: Keep; signal: AbortSignal }) {
    this.status = head.status
    this.length = typeof head.body === 'number' ? head.body : null
    this.headers = head.headers
    this.#connection = connection
    this.#signal = signal
    this.#keep = keep
    this.#keepMs = head.keepMs
    this.#body = new BodyReader(head.body)
    // A host that sends us away has no more to say.
    this.#mayKeep = head.keepMs !== 0 && !(head.status >= 300 && head.status < 400)
    signal.addEventListener('abort', this.#onAbort, { once: true })
    connection.handTo(this)
    this.onBytes(rest)
  }

  /** The next bytes of the body, null at its end. Rejects with the cause of `destroy`, else with `connection_lost`. */
  read(): Promise<Uint8Array | null> {
    return new Promise((resolve, reject) => {
      this.#reader = { resolve, reject }
      this.#serve()
      if (this.#reader !== null) this.#connection.resume()
    })
  }

  /** Without effect once the body was read to its end. */
  destroy(cause?: EgressError): void {
    if (this.#state !== 'open') return
    this.#state = 'destroyed'
    this.#signal.removeEventListener('abort', this.#onAbort)
    this.#failure = cause ?? new EgressError('aborted', 'nobody reads on')
    this.#ahead = []
    this.#connection.destroy()
    this.#serve()
  }

  onBytes(bytes: Buffer): void {
    try {
      if (this.#body.push(bytes, part => this.#hold(part)) > 0) this.#mayKeep = false
    } catch (error) {
      this.destroy(error as EgressError)
      return
    }
    this.#serve()
    if (this.#aheadBytes >= MAX_AHEAD_BYTES) this.#connection.pause()
  }

  onLost(error: unknown): void {
    this.#mayKeep = false
    this.#failure = new EgressError('connection_lost', String(error ?? 'closed in the middle of the body'))
    if (error === null) this.#body.endConnection()
    this.#serve()
  }

  readonly #onAbort = (): void => this.destroy(this.#signal.reason)

  #hold(part: Buffer): void {
    this.#ahead.push(part)
    this.#aheadBytes += part.byteLength
  }

  #serve(): void {
    if (this.#reader === null) return
    const { resolve, reject } = this.#reader
    if (this.#ahead.length > 0) {
      this.#reader = null
      resolve(this.#takeAhead())
    } else if (this.#body.isWhole && this.#state !== 'destroyed') {
      this.#reader = null
      this.#release()
      resolve(null)
    } else if (this.#failure !== null) {
      this.#reader = null
      reject(this.#failure)
    }
  }

  #takeAhead(): Uint8Array {
    const [only, ...more] = this.#ahead
    const all = only !== undefined && more.length === 0 ? only : Buffer.concat(this.#ahead)
    this.#ahead = []
    this.#aheadBytes = 0
    return all
  }

  #release(): void {
    if (this.#state !== 'open') return
    this.#state = 'read'
    this.#signal.removeEventListener('abort', this.#onAbort)
    if (this.#mayKeep) this.#keep(this.#connection, this.#keepMs)
    else this.#connection.destroy()
  }
}
