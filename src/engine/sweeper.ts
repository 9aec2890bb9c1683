/**
 * The safety net: finds due runs that have no live actor, and gives them one. Removes outputs past their time.
 *
 * 1. The table is only asked for what a timer may have lost; while all goes well it finds what was evicted and is due.
 * 2. One sweep at a time; a sweep that fails is a fault, and the next one comes.
 * 3. It waits on the engine's clock: a wall clock that is set back stops a schedule of wall times for as long.
 * 4. Nothing is removed in the first minutes of a time that may be wrong: after a start, and after a leap ahead.
 */
import type { Clock, Media, Observer } from '../core/ports.ts'
import type { Registry } from './registry.ts'

export interface SweeperDeps {
  registry: Pick<Registry, 'rehydrate'>
  media: Pick<Media, 'prune'>
  clock: Clock
  /** Since when (on the clock) time has gone on without a leap. */
  soundSince(): number
  observer: Observer
  /** How long outputs of ended runs are kept, in milliseconds; null keeps them for ever. */
  retentionMs: number | null
}

const SWEEP_EVERY_MS = 1_000
const PRUNE_EVERY_MS = 3_600_000
/** A machine that starts with a wrong clock has asked for the time by then. */
const CALM_MS = 10 * 60_000

export class Sweeper {
  readonly #deps: SweeperDeps
  #disarm: (() => void)[] = []
  #stopped = false

  constructor(deps: SweeperDeps) {
    this.#deps = deps
  }

  /** Sweeps every second, prunes every hour. */
  start(): void {
    this.#every(SWEEP_EVERY_MS, SWEEP_EVERY_MS, () => this.runOnce())
    this.#every(CALM_MS, PRUNE_EVERY_MS, () => this.prune())
  }

  /** One sweep; gives how many runs were taken up. */
  runOnce(): Promise<number> {
    return this.#deps.registry.rehydrate(this.#deps.clock.now())
  }

  /** Removes outputs past their time and stray files; gives how many. */
  async prune(): Promise<number> {
    const { retentionMs, clock, media, soundSince } = this.#deps
    if (retentionMs === null || clock.now() - soundSince() < CALM_MS) return 0
    return media.prune(clock.now() - retentionMs)
  }

  stop(): void {
    this.#stopped = true
    for (const disarm of this.#disarm) disarm()
  }

  /** Does it after `first` ms and then again and again, `pause` ms after the end of the last time. */
  #every(first: number, pause: number, work: () => Promise<unknown>): void {
    const { clock, observer } = this.#deps
    const slot = this.#disarm.length
    const arm = (ms: number): void => {
      if (!this.#stopped) this.#disarm[slot] = clock.at(clock.now() + ms, () => void turn())
    }
    const turn = (): Promise<void> =>
      work()
        .catch(error => observer.fault('sweeper', error))
        .then(() => arm(pause))
    arm(first)
  }
}
