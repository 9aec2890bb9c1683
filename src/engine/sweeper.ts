/**
 * The safety net: finds due runs that have no live actor, and gives them one.
 *
 * 1. The table is only asked for what a timer may have lost; while all goes well it finds what was evicted and is due.
 * 2. One sweep at a time; a sweep that fails is a fault, and the next one comes.
 */
import { Cron, type CronOptions } from 'croner'
import type { Clock, Media, Observer } from '../core/ports.ts'
import type { Registry } from './registry.ts'

export interface SweeperDeps {
  registry: Pick<Registry, 'rehydrate'>
  media: Pick<Media, 'prune'>
  clock: Clock
  observer: Observer
  /** How long outputs of ended runs are kept, in milliseconds; null keeps them for ever. */
  retentionMs: number | null
}

export class Sweeper {
  readonly #deps: SweeperDeps
  #crons: Cron[] = []

  constructor(deps: SweeperDeps) {
    this.#deps = deps
  }

  /** Sweeps every second, prunes every hour. */
  start(): void {
    const options: CronOptions = { protect: true, catch: error => this.#deps.observer.fault('sweeper', error) }
    const sweep = async (): Promise<void> => void (await this.runOnce())
    const prune = async (): Promise<void> => void (await this.prune())
    this.#crons = [new Cron('* * * * * *', options, sweep), new Cron('0 17 * * * *', options, prune)]
  }

  /** One sweep; gives how many runs were taken up. */
  runOnce(): Promise<number> {
    return this.#deps.registry.rehydrate(this.#deps.clock.now())
  }

  /** Removes outputs past their time and stray files; gives how many. */
  async prune(): Promise<number> {
    const { retentionMs, clock, media } = this.#deps
    return retentionMs === null ? 0 : media.prune(clock.now() - retentionMs)
  }

  stop(): void {
    for (const cron of this.#crons) cron.stop()
  }
}
