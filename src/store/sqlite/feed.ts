/**
 * The live end of a run's log.
 *
 * 1. The table is the truth. A watcher reads it until it is level, and only then waits; reading and beginning to wait
 *    are one synchronous stretch, so that no event falls between them.
 * 2. A watcher that waits is handed the new events as they are. One that is busy is handed nothing and reads the table
 *    again when it comes back: a slow reader holds one page, however far it falls behind.
 */
import type { RunEvent } from '../../core/run.ts'

export interface LogReader {
  /** Events after a number, oldest first. */
  read(after: number, limit: number): RunEvent[]
  /** True when nothing will follow this number. */
  isOver(after: number): boolean
}

type Waiter = (events: readonly RunEvent[]) => void

export class EventFeed {
  readonly #waiting = new Map<string, Set<Waiter>>()
  /** Events that a watcher holds at once. */
  readonly #page: number
  #closed = false

  constructor(page: number) {
    this.#page = page
  }

  /** Hands new, durable events to those who wait for them. */
  publish(runId: string, events: readonly RunEvent[]): void {
    const waiters = this.#waiting.get(runId)
    if (!waiters || events.length === 0) return
    this.#waiting.delete(runId)
    for (const wake of waiters) wake(events)
  }

  async *watch(runId: string, after: number, log: LogReader, signal: AbortSignal): AsyncGenerator<RunEvent> {
    let last = after
    while (!signal.aborted && !this.#closed) {
      let events: readonly RunEvent[] = log.read(last, this.#page)
      if (events.length === 0) {
        if (log.isOver(last)) return
        events = await this.#next(runId, signal)
        // What was published may begin later than where we stand, or be more than we hold: then the table is read.
        if (events.length > this.#page || events[0]?.seq !== last + 1) continue
      }
      for (const event of events) {
        if (signal.aborted || this.#closed) return
        last = event.seq
        yield event
        if (isTerminal(event)) return
      }
    }
  }

  /** Ends every watch. */
  close(): void {
    this.#closed = true
    for (const waiters of this.#waiting.values()) for (const wake of waiters) wake([])
    this.#waiting.clear()
  }

  #next(runId: string, signal: AbortSignal): Promise<readonly RunEvent[]> {
    return new Promise(resolve => {
      const waiters = this.#waiting.get(runId) ?? new Set<Waiter>()
      const wake: Waiter = events => {
        signal.removeEventListener('abort', leave)
        resolve(events)
      }
      const leave = (): void => {
        waiters.delete(wake)
        if (waiters.size === 0 && this.#waiting.get(runId) === waiters) this.#waiting.delete(runId)
        resolve([])
      }
      waiters.add(wake)
      this.#waiting.set(runId, waiters)
      signal.addEventListener('abort', leave, { once: true })
    })
  }
}

function isTerminal(event: RunEvent): boolean {
  return event.type === 'run.succeeded' || event.type === 'run.failed' || event.type === 'run.canceled'
}
