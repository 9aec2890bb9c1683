/** A machine as data: its wall clock can be set, its steady clock only goes on, its timers fire while time passes. */
import type { Machine } from '../../src/app/clock.ts'
import { T0 } from './runs.ts'

export class TestMachine implements Machine {
  #wall = T0
  #steady = 1_000
  #timers: { at: number; call: () => void }[] = []

  readonly wall = (): number => this.#wall
  readonly steady = (): number => this.#steady

  readonly after = (ms: number, call: () => void): (() => void) => {
    const timer = { at: this.#steady + ms, call }
    this.#timers.push(timer)
    return () => {
      this.#timers = this.#timers.filter(each => each !== timer)
    }
  }

  get timers(): number {
    return this.#timers.length
  }

  /** Somebody sets the wall clock, by so many ms. */
  set(byMs: number): void {
    this.#wall += byMs
  }

  /** Time passes; timers fire on the way, each at its moment. */
  pass(ms: number): void {
    const end = this.#steady + ms
    for (;;) {
      const next = this.#timers.toSorted((a, b) => a.at - b.at)[0]
      if (!next || next.at > end) break
      this.#timers = this.#timers.filter(each => each !== next)
      this.#go(Math.max(0, next.at - this.#steady))
      next.call()
    }
    this.#go(end - this.#steady)
  }

  /** The process dies: its timers with it. */
  forget(): void {
    this.#timers = []
  }

  #go(ms: number): void {
    this.#steady += ms
    this.#wall += ms
  }
}
