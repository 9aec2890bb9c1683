/**
 * Time and chance of a simulation: one queue of moments, one seed.
 *
 * 1. Nothing happens but by the queue: the same seed gives the same history, on any machine.
 * 2. The time that passes (`elapsed`) never jumps; the wall clock may, and processes have both, as from a machine.
 * 3. A moment that belongs to a process is forgotten when the process dies; one of the world is not.
 */
import { createClock, type SystemClock } from '../../src/app/clock.ts'
import { seeded, T0, uuid } from '../support/runs.ts'

/** Whoever can die. */
export interface Owner {
  dead: boolean
}

interface Moment {
  at: number
  order: number
  owner: Owner | null
  call: () => void
}

export class Timeline {
  /** Milliseconds since the simulation began. */
  elapsed = 0
  /** What the wall clock is ahead of the time that passes. */
  #ahead = 0
  #moments: Moment[] = []
  #ids = 0
  readonly #draw: () => number

  constructor(seed: number) {
    this.#draw = seeded(seed * 2_654_435_761 + 1)
  }

  // ── Chance ──────────────────────────────────────────────────────────────────────────────────────────────────────

  chance(share: number): boolean {
    return this.#draw() < share
  }

  /** A whole number, both ends included. */
  int(min: number, max: number): number {
    return min + Math.floor(this.#draw() * (max - min + 1))
  }

  pick<T>(list: readonly T[]): T {
    return list[Math.floor(this.#draw() * list.length)] as T
  }

  /** A span in milliseconds, small ones as likely as large ones. */
  span(min: number, max: number): number {
    return Math.round(min * (max / min) ** this.#draw())
  }

  // ── Time ────────────────────────────────────────────────────────────────────────────────────────────────────────

  get wall(): number {
    return T0 + this.elapsed + this.#ahead
  }

  jump(ms: number): void {
    this.#ahead += ms
  }

  /** Calls after `ms` of passing time; gives a way to forget it. Moments of the same time come in an order of chance. */
  after(ms: number, call: () => void, owner: Owner | null = null): () => void {
    const moment: Moment = { at: this.elapsed + Math.max(0, ms), order: this.#draw(), owner, call }
    this.#moments.push(moment)
    return () => {
      const i = this.#moments.indexOf(moment)
      if (i >= 0) this.#moments.splice(i, 1)
    }
  }

  /** Waits so long, or until the signal. */
  wait(ms: number, signal?: AbortSignal): Promise<void> {
    if (signal?.aborted) return Promise.resolve()
    return new Promise(resolve => {
      // Short waits are not worth a listener: whoever aborts hears of it soon.
      if (!signal || ms < 30_000) {
        this.after(ms, resolve)
        return
      }
      const forget = this.after(ms, resolve)
      signal.addEventListener('abort', () => {
        forget()
        resolve()
      })
    })
  }

  /** Goes to the next moment and lets it happen; false when nothing will ever happen again. */
  step(): boolean {
    let next = -1
    for (let i = 0; i < this.#moments.length; i += 1) {
      const [a, b] = [this.#moments[i], this.#moments[next]]
      if (a && (!b || a.at < b.at || (a.at === b.at && a.order < b.order))) next = i
    }
    const [moment] = next < 0 ? [] : this.#moments.splice(next, 1)
    if (!moment) return false
    this.elapsed = Math.max(this.elapsed, moment.at)
    if (!moment.owner?.dead) moment.call()
    return true
  }

  /** The real clock of a process, on a machine of this time. */
  clockFor(owner: Owner): SystemClock {
    const clock = createClock({
      wall: () => this.wall,
      steady: () => this.elapsed,
      after: (ms, call) => this.after(ms, call, owner),
    })
    return {
      ...clock,
      random: () => this.#draw(),
      id: () => uuid(0xabc000 + ++this.#ids),
      token: () => `token-${++this.#ids}`,
    }
  }
}
