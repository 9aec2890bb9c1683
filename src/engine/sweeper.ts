/**
 * The safety net: finds due runs that have no live actor, and gives them one. Removes outputs past their time.
 *
 * 1. The table is only asked for what a timer may have lost; while all goes well it finds what was evicted and is due.
 * 2. One sweep at a time; a sweep that fails is a fault, and the next one comes.
 * 3. A schedule of wall times stands still when the wall clock is set back. Who watches it waits on the engine's clock, and
 *    makes it anew.
 * 4. Nothing is removed in the first minutes of a time that may be wrong: after a start, and after a leap ahead.
 */
import { Cron } from 'croner'
import type { Clock, Media, Observer } from '../core/ports.ts'
import type { Registry } from './registry.ts'

export interface SweeperDeps {
  registry: Pick<Registry, 'rehydrate'>
  media: Pick<Media, 'prune'>
  clock: Clock
  /** Since when (on the clock) time has gone on without a leap. */
  soundSince(): number
  observer: Observer
  /** How long outputs of ended runs are kept, in milliseconds; null keeps them for ever. Strays go in either case. */
  retentionMs: number | null
}

/** Calls again and again by a pattern of wall times, and gives a way to stop. */
export type Schedule = (pattern: string, work: () => void) => { stop(): void }

const EVERY_SECOND = '* * * * * *'
const EVERY_HOUR = '0 17 * * * *'
/** A schedule that has not called for so long stands still. */
const WATCH_MS = 10_000
/** A machine that starts with a wrong clock has asked for the time by then. */
const CALM_MS = 10 * 60_000

export class Sweeper {
  readonly #deps: SweeperDeps
  readonly #schedule: Schedule
  #plans: { stop(): void }[] = []
  #disarm: (() => void) | null = null
  #calledAt = 0
  readonly #busy = new Set<string>()

  constructor(deps: SweeperDeps, schedule: Schedule = (pattern, work) => new Cron(pattern, work)) {
    this.#deps = deps
    this.#schedule = schedule
  }

  /** Sweeps every second, prunes every hour. */
  start(): void {
    this.#plan()
    this.#watch()
  }

  /** One sweep; gives how many runs were taken up. */
  runOnce(): Promise<number> {
    return this.#deps.registry.rehydrate(this.#deps.clock.now())
  }

  /** Removes outputs past their time and stray files; gives how many. */
  async prune(): Promise<number> {
    const { retentionMs, clock, media, soundSince } = this.#deps
    if (clock.now() - soundSince() < CALM_MS) return 0
    // Where outputs are kept for ever, strays are not; and no output is older than the epoch.
    return media.prune(retentionMs === null ? 0 : clock.now() - retentionMs)
  }

  stop(): void {
    this.#disarm?.()
    for (const plan of this.#plans) plan.stop()
  }

  #plan(): void {
    for (const plan of this.#plans) plan.stop()
    this.#calledAt = this.#deps.clock.now()
    const sweep = (): void => {
      this.#calledAt = this.#deps.clock.now()
      void this.#alone('sweep', () => this.runOnce())
    }
    const prune = (): void => void this.#alone('prune', () => this.prune())
    this.#plans = [this.#schedule(EVERY_SECOND, sweep), this.#schedule(EVERY_HOUR, prune)]
  }

  #watch(): void {
    const { clock } = this.#deps
    this.#disarm = clock.at(clock.now() + WATCH_MS, () => {
      if (clock.now() - this.#calledAt >= WATCH_MS) this.#plan()
      this.#watch()
    })
  }

  async #alone(name: string, work: () => Promise<unknown>): Promise<void> {
    if (this.#busy.has(name)) return
    this.#busy.add(name)
    try {
      await work()
    } catch (error) {
      this.#deps.observer.fault('sweeper', error)
    } finally {
      this.#busy.delete(name)
    }
  }
}
