/**
 * Counts by status, kept in the transaction that changes them: they are exact after a crash, cost one page, and are
 * read in microseconds however many runs have ended.
 */
import type { Database, Statement } from 'bun:sqlite'
import type { DeliveryStatus } from '../../core/delivery.ts'
import type { StoreCounts } from '../../core/ports.ts'
import type { RunStatus } from '../../core/run.ts'

export type Counter = `runs.${RunStatus}` | `deliveries.${DeliveryStatus}`

export class Counters {
  readonly #more: Statement<unknown, [string]>
  readonly #fewer: Statement<unknown, [string]>
  readonly #all: Statement<{ name: string; value: number }, []>

  constructor(db: Database) {
    this.#more = db.prepare(
      'INSERT INTO counters (name, value) VALUES (?, 1) ON CONFLICT (name) DO UPDATE SET value = value + 1',
    )
    this.#fewer = db.prepare('UPDATE counters SET value = value - 1 WHERE name = ?')
    this.#all = db.prepare('SELECT name, value FROM counters')
  }

  /** One thing goes from a status (or from nowhere) to another. Inside a write. */
  move(from: Counter | null, to: Counter): void {
    if (from === to) return
    if (from !== null) this.#fewer.run(from)
    this.#more.run(to)
  }

  read(): Pick<StoreCounts, 'runs' | 'deliveries'> {
    const values = new Map(this.#all.all().map(({ name, value }) => [name, value]))
    const count = (name: Counter): number => values.get(name) ?? 0
    return {
      runs: {
        queued: count('runs.queued'),
        running: count('runs.running'),
        succeeded: count('runs.succeeded'),
        failed: count('runs.failed'),
        canceled: count('runs.canceled'),
      },
      deliveries: {
        pending: count('deliveries.pending'),
        delivered: count('deliveries.delivered'),
        exhausted: count('deliveries.exhausted'),
        gone: count('deliveries.gone'),
      },
    }
  }
}
