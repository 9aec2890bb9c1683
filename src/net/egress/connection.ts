// One connection and whoever listens to it now: the request that it carries, or the pool in which it lies.
//
// Invariants
// 1. There is one listener at a time, and the socket's own events are bound once: a thousand requests leave nothing behind.
// 2. `onLost` is told once, for whatever reason, and after it nothing else.
// 3. Bytes that come while nobody wants them are not read from the socket (`pause`), so a fast sender fills no memory.

import type { Socket } from 'node:net'

export type Listener = {
  readonly onBytes: (bytes: Buffer) => void
  /** Null when the other side has said all that it will say, or closed it without an error. */
  readonly onLost: (error: unknown) => void
}

export class Connection {
  readonly socket: Socket
  /** Protocol, host name and port: only requests to them may share it. */
  readonly origin: string
  #listener: Listener
  #isLost = false
  #isPaused = false

  constructor(socket: Socket, origin: string, listener: Listener) {
    this.socket = socket
    this.origin = origin
    this.#listener = listener
    const lose = (error: unknown) => {
      if (this.#isLost) return
      this.#isLost = true
      this.#listener.onLost(error)
      socket.destroy()
    }
    socket.on('data', bytes => this.#isLost || this.#listener.onBytes(bytes as Buffer))
    socket.on('end', () => lose(null))
    socket.on('error', lose)
    socket.on('close', () => lose(null))
  }

  get peer(): string {
    return this.socket.remoteAddress ?? ''
  }

  get isOpen(): boolean {
    return !this.#isLost && !this.socket.destroyed && this.socket.writable
  }

  /** It flows again, if the one before had paused it. */
  handTo(listener: Listener): void {
    this.#listener = listener
    this.resume()
  }

  pause(): void {
    if (this.#isPaused) return
    this.#isPaused = true
    this.socket.pause()
  }

  resume(): void {
    if (!this.#isPaused) return
    this.#isPaused = false
    this.socket.resume()
  }

  /** Closes it at once; its listener hears no more. */
  destroy(): void {
    this.#isLost = true
    this.socket.destroy()
  }
}
