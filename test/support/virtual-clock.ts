/** A clock that stands until it is told to go on. Chance comes from a seed. */
import type { Clock } from '../../src/core/ports.ts'
import { seeded, T0, uuid } from './runs.ts'

export class VirtualClock implements Clock {
  #now = T0
  #timers: { at: number; call: () => void }[] = []
  #ids = 0
  readonly #draw: () => number

  constructor(seed = 1) {
    this.#draw = seeded(seed)
  }

  now(): number {
    return this.#now
  }

  at(at: number, call: () => void): () => void {
    const timer = { at, call }
    this.#timers.push(timer)
    return () => {
      const i = this.#timers.indexOf(timer)
      if (i >= 0) this.#timers.splice(i, 1)
    }
  }

  random(): number {
    return this.#draw()
  }

  id(): string {
    this.#ids += 1
    return uuid(0xabc000 + this.#ids)
  }

  token(): string {
    this.#ids += 1
    return `token-${this.#ids}-${Math.floor(this.#draw() * 1e9).toString(36)}`
  }

  get nextAt(): number | null {
    return this.#timers.length > 0 ? Math.min(...this.#timers.map(timer => timer.at)) : null
  }

  /** Moves to the earliest timer and fires what is due then; false when nobody waits. */
  step(): boolean {
    const next = this.nextAt
    if (next === null) return false
    this.#now = Math.max(this.#now, next)
    const due = this.#timers.filter(timer => timer.at <= this.#now)
    this.#timers = this.#timers.filter(timer => timer.at > this.#now)
    for (const timer of due) timer.call()
    return true
  }

  advance(ms: number): void {
    this.#now += ms
  }

  /** Forgets every timer: the process that set them is dead. */
  clear(): void {
    this.#timers = []
  }
}
