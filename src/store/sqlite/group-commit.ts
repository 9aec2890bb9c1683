/**
 * Group commit: the writes that wait at the same moment share one transaction, and so one fsync.
 *
 * 1. A write is a synchronous function; one that returns a promise is refused, since COMMIT would not wait for it.
 * 2. A write that throws takes the transaction back. It alone is refused; the ones before it are run again, by themselves.
 *    So a write may run more than once, and only its last run counts. (A savepoint for each would save that, but SQLite then
 *    copies every page before each write: a third of its time, for what hardly ever happens.)
 * 3. Promises settle after COMMIT. If COMMIT fails, every write of the group is refused, whatever it had found.
 * 4. `after` of a write runs after COMMIT, in the order of the writes.
 * 5. Nothing is remembered of a failure: the next write tries again.
 * 6. Each transaction asks first whether it may still write. If not, all that waits is refused.
 * 7. The loop stands still while the disk syncs; after a slow sync it gets as long for everything else.
 */
import type { Database, Statement } from 'bun:sqlite'
import { StorageUnavailable } from '../../core/ports.ts'
import { asStorageError } from './errors.ts'

/** Writes in one transaction: enough to share the fsync, few enough to give the loop back soon. */
const GROUP = 512
/** After this long a transaction takes no more writes: large rows must not stop the process. */
const GROUP_MS = 20
/** A COMMIT that takes longer is slow (ms), and the longest pause after one. */
const SLOW_MS = 10
const LONGEST_PAUSE_MS = 25
/** Writes that may wait. More means that the disk is far behind, and waiting longer helps nobody. */
const WAITING = 20_000

interface Job {
  work(): unknown
  resolve(value: unknown): void
  reject(error: unknown): void
  after?(): void
  value?: unknown
}

export class GroupCommit {
  readonly #db: Database
  readonly #fence: () => void
  #queue: Job[] = []
  #armed = false
  /** What the last COMMIT leaves to everything else. */
  #pauseMs = 0
  /** Writes that the next group takes. */
  #room = GROUP
  #closed: { promise: Promise<void>; resolve: () => void } | null = null
  readonly #begin: Statement
  readonly #commit: Statement
  readonly #rollback: Statement

  /** `fence` throws where another process has the database. */
  constructor(db: Database, fence: () => void) {
    this.#db = db
    this.#fence = fence
    this.#begin = db.prepare('BEGIN IMMEDIATE')
    this.#commit = db.prepare('COMMIT')
    this.#rollback = db.prepare('ROLLBACK')
  }

  /** Runs `work` in the next transaction; resolves with its value when that is durable, and then calls `after`. */
  write<T>(work: () => T, after?: () => void): Promise<T> {
    if (this.#closed) return Promise.reject(new StorageUnavailable('the store is closed'))
    if (this.#queue.length >= WAITING)
      return Promise.reject(new StorageUnavailable(`${WAITING} writes are waiting for the disk`))
    const { promise, resolve, reject } = Promise.withResolvers<T>()
    this.#queue.push({ work, resolve: value => resolve(value as T), reject, after })
    this.#arm()
    return promise
  }

  /** Takes no more writes; resolves when the last one is made. */
  close(): Promise<void> {
    if (!this.#closed) {
      this.#closed = Promise.withResolvers<void>()
      this.#arm()
    }
    return this.#closed.promise
  }

  #arm(): void {
    if (this.#armed) return
    this.#armed = true
    const turn = (): void => {
      this.#armed = false
      if (this.#queue.length > 0) this.#flush()
      if (this.#queue.length > 0) this.#arm()
      else this.#closed?.resolve()
    }
    if (this.#pauseMs > 0) setTimeout(turn, this.#pauseMs)
    else setImmediate(turn)
  }

  #flush(): void {
    this.#pauseMs = 0
    try {
      this.#begin.run()
      this.#fence()
    } catch (error) {
      this.#giveUp()
      // Whoever waits would only wait for the same lock once more.
      this.#refuse(this.#queue.splice(0), error)
      return
    }
    const group: Job[] = []
    try {
      this.#fill(group)
    } catch (error) {
      this.#giveUp()
      this.#refuse(group.splice(-1), error)
      this.#queue.unshift(...group)
      this.#room = group.length || GROUP
      return
    }
    const began = performance.now()
    try {
      this.#commit.run()
    } catch (error) {
      this.#giveUp()
      this.#refuse(group, error)
      return
    }
    const took = performance.now() - began
    if (took >= SLOW_MS) this.#pauseMs = Math.min(took, LONGEST_PAUSE_MS)
    this.#room = GROUP
    for (const job of group) job.resolve(job.value)
    for (const job of group) job.after?.()
  }

  /** Moves writes from the queue into the group as it runs them; the others are for the next one. */
  #fill(group: Job[]): void {
    const until = performance.now() + GROUP_MS
    while (group.length < this.#room && performance.now() <= until) {
      const job = this.#queue.shift()
      if (!job) return
      group.push(job)
      job.value = job.work()
      if (job.value instanceof Promise) throw new TypeError('a write must be synchronous')
    }
  }

  #giveUp(): void {
    try {
      if (this.#db.inTransaction) this.#rollback.run()
    } catch {
      // SQLite had taken it back itself.
    }
  }

  #refuse(batch: readonly Job[], error: unknown): void {
    const why = asStorageError(error, this.#db.filename)
    for (const job of batch) job.reject(why)
  }
}
