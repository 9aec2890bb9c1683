/**
 * Standard output, for the log and for what a start says: a server whose disk is full, or whose reader has gone or stands
 * still, goes on without it.
 *
 * 1. `write` never throws and never waits. Lines of the same moment go out together, one write at a time, in order.
 * 2. What cannot be written is dropped and counted; standard error says so at the first and then once a minute. Every later
 *    line is tried again, so that it recovers by itself.
 * 3. What waits for a slow reader is bounded.
 * 4. A process that ends in order waits for its last lines, but not for a reader that stands still.
 */
import { write, writeSync } from 'node:fs'

/** Where bytes go. All of it comes as data in tests. */
export interface Sink {
  /** Writes some of the bytes and tells how many, or what went wrong. */
  write(bytes: Uint8Array, done: (error: NodeJS.ErrnoException | null, written: number) => void): void
  /** The same at once, before the process ends. */
  writeNow(bytes: Uint8Array): void
  /** A sentence for the operator, by another way. */
  complain(text: string): void
  /** Ms of steady time. */
  now(): number
  after(ms: number, call: () => void): void
}

/** What may wait (characters): some ten thousand lines, a moment's noise of a busy server. */
const WAITING = 4 << 20
/** How long a pipe that takes nothing now is left alone (ms). */
const FULL_PIPE_MS = 10
/** How often standard error says that lines are dropped (ms). */
const COMPLAINT_MS = 60_000
/** How long an end waits for a reader (ms). */
const LAST_MS = 1_000
/** A write that has taken this long has a reader that stands still (ms): another would stop the process. */
const STALLED_MS = 500

export class Output {
  readonly #sink: Sink
  #lines: string[] = []
  #length = 0
  /** What is being written; null when nothing is. */
  #writing: Uint8Array | null = null
  #since = 0
  /** A part of a line was written and the rest was not. */
  #torn = false
  #dropped = 0
  #complainedAt = Number.NEGATIVE_INFINITY
  #whenEmpty: (() => void)[] = []

  constructor(sink: Sink) {
    this.#sink = sink
  }

  write(text: string): void {
    if (this.#length + text.length > WAITING) {
      this.#drop(1, 'nobody reads them')
      return
    }
    this.#length += text.length
    this.#lines.push(text)
    if (this.#lines.length === 1 && !this.#writing) queueMicrotask(() => this.#next())
  }

  /** Resolves when everything is written or dropped, at the latest in a second. */
  settled(): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>()
    this.#whenEmpty.push(resolve)
    this.#sink.after(LAST_MS, resolve)
    if (!this.#writing) this.#next()
    return promise
  }

  /** The last chance of a process that ends without waiting. */
  end(): void {
    if (this.#writing && this.#sink.now() - this.#since >= STALLED_MS) return
    const bytes = this.#take()
    try {
      if (bytes.length > 0) this.#sink.writeNow(bytes)
    } catch {
      // Nobody is left to be told.
    }
  }

  #next(): void {
    if (this.#writing) return
    if (this.#lines.length === 0) {
      for (const resolve of this.#whenEmpty.splice(0)) resolve()
      return
    }
    this.#send(this.#take())
  }

  #take(): Uint8Array {
    const text = this.#lines.join('')
    this.#lines = []
    this.#length = 0
    return Buffer.from(this.#torn ? `\n${text}` : text)
  }

  #send(bytes: Uint8Array): void {
    this.#writing = bytes
    this.#since = this.#sink.now()
    this.#sink.write(bytes, (error, written) => {
      const rest = bytes.subarray(error ? 0 : written)
      if (error?.code === 'EAGAIN') {
        this.#sink.after(FULL_PIPE_MS, () => this.#send(rest))
        return
      }
      if (!error) this.#torn = written > 0 ? bytes[written - 1] !== NEW_LINE : this.#torn
      if (!error && rest.length > 0) {
        this.#send(rest)
        return
      }
      this.#writing = null
      if (error) this.#drop(linesIn(rest), `${error.code ?? error.message}`)
      else this.#recovered()
      this.#next()
    })
  }

  #drop(lines: number, why: string): void {
    this.#dropped += lines
    const now = this.#sink.now()
    if (now - this.#complainedAt < COMPLAINT_MS) return
    this.#complainedAt = now
    this.#sink.complain(
      `lines of the log cannot be written (${why}); ${this.#dropped} dropped so far, the server goes on`,
    )
  }

  #recovered(): void {
    if (this.#dropped === 0) return
    this.#sink.complain(`the log is written again; ${this.#dropped} of its lines were dropped`)
    this.#dropped = 0
  }
}

const NEW_LINE = 10

function linesIn(bytes: Uint8Array): number {
  return bytes.reduce((lines, byte) => lines + (byte === NEW_LINE ? 1 : 0), 0)
}

/** Standard output of this process. */
export const output = new Output({
  // In a thread of its own: a write to a full pipe stops that thread and nothing else.
  write: (bytes, done) => write(1, bytes, done),
  writeNow: bytes => void writeSync(1, bytes),
  complain: text => write(2, `babychain: ${text}\n`, () => {}),
  now: () => performance.now(),
  after: (ms, call) => setTimeout(call, ms),
})
