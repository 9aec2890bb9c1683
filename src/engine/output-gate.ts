/**
 * Nothing is bought while outputs have nowhere to go: a provider's links live for minutes, and what cannot be stored in time is
 * paid and lost.
 *
 * 1. The first refusal closes the gate for all runs. It begins closed, and opens when storage has taken a first small write.
 * 2. While it is closed, storage is tried with a growing pause. It opens when that goes well, or when an output is stored.
 * 3. Who would submit stands in line: without an attempt, a commit or a timer, and its step's deadline has not begun.
 * 4. The pause grows until an output is stored: storage that takes small writes only is not believed for long.
 */
import { type Clock, type Media, type Observer, StorageUnavailable } from '../core/ports.ts'

export interface OutputGateDeps {
  media: Pick<Media, 'tryWrite'>
  clock: Clock
  observer: Observer
}

const FIRST_PAUSE_MS = 2_000
/** Storage that has refused nothing for twenty seconds is said to take writes again (narrator.ts). */
const LONGEST_PAUSE_MS = 15_000
/** A bucket that does not answer refuses nothing: a copy that takes this long is reason enough to try a small write. */
const SLOW_MS = 30_000
/** Steps that are let go in one stretch: each asks for its route at once, and others are served in between. */
const TURN = 100

export class OutputGate {
  readonly #deps: OutputGateDeps
  readonly #line = new Set<() => void>()
  #isOpen = false
  #isTrying = false
  #isStopped = false
  #pauseMs = FIRST_PAUSE_MS
  #disarm: (() => void) | null = null
  /** The last one; `where` is who met with it first. */
  #refusal: { at: number; where: string; why: string } | null = null

  constructor(deps: OutputGateDeps) {
    this.#deps = deps
  }

  get isOpen(): boolean {
    return this.#isOpen
  }

  /** Steps in line. */
  get waiting(): number {
    return this.#line.size
  }

  /** Calls once, when the gate has opened. Gives a way to leave the line. */
  wait(call: () => void): () => void {
    this.#line.add(call)
    return () => this.#line.delete(call)
  }

  /** Tries storage beside whatever comes next: a start does not wait for a bucket. */
  begin(): void {
    void this.#try()
  }

  stop(): void {
    this.#isStopped = true
    this.#disarm?.()
  }

  /** An output was stored. */
  stored(): void {
    this.#pauseMs = FIRST_PAUSE_MS
    if (!this.#isOpen) this.#open()
  }

  /** Storage did not take something: an operator hears of it, now and as long as it lasts. */
  refused(where: string, error: StorageUnavailable, context: Readonly<Record<string, string | number>> = {}): void {
    const { clock, observer } = this.#deps
    observer.fault(where, error, context)
    this.#isOpen = false
    this.#refusal = { at: clock.now(), where, why: error.message }
    if (!this.#isTrying && this.#disarm === null) this.#tryLater()
  }

  /** Why storage refused something at that time or later, as far as this process knows; null when it did not. */
  refusedSince(at: number): string | null {
    return this.#refusal && this.#refusal.at >= at ? this.#refusal.why : null
  }

  /** Tries storage should it not be called off in time. */
  lookIfSlow(): () => void {
    const { clock } = this.#deps
    return clock.at(clock.now() + SLOW_MS, () => void this.#try())
  }

  async #try(): Promise<void> {
    if (this.#isTrying || this.#isStopped) return
    this.#isTrying = true
    const error = await this.#deps.media.tryWrite().then(
      () => null,
      (thrown: unknown) => ({ thrown }),
    )
    this.#isTrying = false
    if (this.#isStopped) return
    if (error === null) this.#open()
    else this.refused(this.#isOpen ? 'outputs' : (this.#refusal?.where ?? 'outputs'), unavailable(error.thrown))
  }

  #open(): void {
    this.#disarm?.()
    this.#disarm = null
    this.#isOpen = true
    this.#letGo()
  }

  #letGo(): void {
    let left = TURN
    for (const call of this.#line) {
      if (!this.#isOpen || this.#isStopped) return
      if (left === 0) {
        setImmediate(() => this.#letGo())
        return
      }
      left -= 1
      this.#line.delete(call)
      call()
    }
  }

  #tryLater(): void {
    if (this.#isStopped) return
    const { clock } = this.#deps
    this.#disarm = clock.at(clock.now() + this.#pauseMs, () => {
      this.#disarm = null
      void this.#try()
    })
    this.#pauseMs = Math.min(LONGEST_PAUSE_MS, this.#pauseMs * 2)
  }
}

/** What storage should not throw keeps outputs from being stored all the same. */
function unavailable(thrown: unknown): StorageUnavailable {
  if (thrown instanceof StorageUnavailable) return thrown
  return new StorageUnavailable(thrown instanceof Error ? thrown.message : String(thrown), { cause: thrown })
}
