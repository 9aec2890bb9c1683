/**
 * The real clock, for applications over real sockets: it goes on by itself, and jumps ahead when a test says so.
 * Whatever waits, waits here, so that an hour of waiting takes as long as the calls in it. Chance is always in the middle.
 */
import type { Clock } from '../../src/core/ports.ts'
import { systemClock } from './system-clock.ts'

export class JumpClock implements Clock {
  #ahead = 0
  readonly #timers = new Set<{ at: number; call: () => void; disarm: () => void }>()
  readonly random = (): number => 0.5
  readonly id = systemClock.id
  readonly token = systemClock.token

  /** A function of its own, as the real clock's is: some take it along. */
  readonly now = (): number => Date.now() + this.#ahead

  readonly at = (at: number, call: () => void): (() => void) => {
    const timer = { at, call, disarm: () => {} }
    this.#timers.add(timer)
    this.#arm(timer)
    return () => this.#forget(timer)
  }

  /** Moves on; what is due then fires at once, in its order. */
  jump(ms: number): void {
    this.#ahead += Math.max(0, ms)
    const timers = [...this.#timers].sort((a, b) => a.at - b.at)
    for (const timer of timers) {
      timer.disarm()
      if (this.#timers.has(timer)) this.#arm(timer)
    }
  }

  /** Moves on to a time, unless that is past. */
  jumpTo(at: number): void {
    this.jump(at - this.now())
  }

  #arm(timer: { at: number; call: () => void; disarm: () => void }): void {
    // What is due is called from the event loop, in the order in which it was armed.
    timer.disarm = systemClock.at(Date.now() + Math.max(0, timer.at - this.now()), () => {
      this.#timers.delete(timer)
      timer.call()
    })
  }

  #forget(timer: { at: number; call: () => void; disarm: () => void }): void {
    timer.disarm()
    this.#timers.delete(timer)
  }
}
