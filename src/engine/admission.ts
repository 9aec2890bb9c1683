/**
 * How many runs of a key may wait, and how many may be under way.
 *
 * 1. Synchronous and in memory: two requests at the same moment cannot both take the last place.
 * 2. A run takes its place when its first step is routed, and gives it back when it ends. One that has not been routed has
 *    none, whatever its status: its route may be closed for now, or its first steps are another run's. After a start, runs
 *    that have begun take theirs beyond the limit.
 * 3. Who waits is served in the order of asking, each key by itself.
 */
import type { KeyLimits } from '../core/keys.ts'
import { QueueFull } from '../core/ports.ts'
import { attemptsOf, isEnded, isTakenOver, type Run } from '../core/run.ts'

export type RunLimits = Pick<KeyLimits, 'maxRunning' | 'maxQueued'>

interface Runs {
  queued: Set<string>
  running: Set<string>
  /** Steps whose runs wait for a place, with how to tell them. */
  line: Map<string, { runId: string; call: () => void }>
}

export class Admission {
  readonly #keys = new Map<string, Runs>()
  readonly #limitsOf: (apiKeyId: string) => RunLimits

  constructor(limitsOf: (apiKeyId: string) => RunLimits) {
    this.#limitsOf = limitsOf
  }

  /** Counts a run that is to be created. @throws QueueFull when the key has as many waiting runs as it may have */
  enter(run: Run): void {
    const { maxQueued } = this.#limitsOf(run.apiKeyId)
    const runs = this.#of(run.apiKeyId)
    if (maxQueued !== null && runs.queued.size >= maxQueued)
      throw new QueueFull(`${runs.queued.size} runs of this key wait, and it may have ${maxQueued}`)
    runs.queued.add(run.id)
  }

  /** Follows a run as it is now stored: waiting, under way, or over. */
  follow(run: Run): void {
    const runs = this.#of(run.apiKeyId)
    runs.queued.delete(run.id)
    if (isEnded(run)) {
      runs.running.delete(run.id)
      for (const [stepId, { runId }] of runs.line) if (runId === run.id) runs.line.delete(stepId)
      this.look(run.apiKeyId)
    } else if (hasBegun(run)) runs.running.add(run.id)
    else if (!runs.running.has(run.id)) runs.queued.add(run.id)
    if (runs.queued.size + runs.running.size === 0) this.#keys.delete(run.apiKeyId)
  }

  /** Whether a run may begin now; then it has its place. */
  begin(run: Run): boolean {
    const runs = this.#of(run.apiKeyId)
    if (runs.running.has(run.id)) return true
    const { maxRunning } = this.#limitsOf(run.apiKeyId)
    if (maxRunning !== null && runs.running.size >= maxRunning) return false
    runs.queued.delete(run.id)
    runs.running.add(run.id)
    return true
  }

  /** A run that was counted and not created after all. */
  leave(run: Run): void {
    const runs = this.#of(run.apiKeyId)
    runs.queued.delete(run.id)
    if (runs.running.delete(run.id)) this.look(run.apiKeyId)
  }

  /** Calls once, when it is worth asking again. Gives a way to leave the line. */
  wait(run: Run, stepId: string, call: () => void): () => void {
    const { line } = this.#of(run.apiKeyId)
    line.set(stepId, { runId: run.id, call })
    return () => line.delete(stepId)
  }

  /** Serves the line of a key: a place was freed, or its limits changed. */
  look(apiKeyId: string): void {
    const runs = this.#of(apiKeyId)
    const { maxRunning } = this.#limitsOf(apiKeyId)
    const room = (maxRunning ?? Number.POSITIVE_INFINITY) - runs.running.size
    const next = new Set<string>()
    for (const [stepId, { runId, call }] of runs.line) {
      if (!next.has(runId) && next.size >= room) return
      next.add(runId)
      runs.line.delete(stepId)
      call()
    }
  }

  #of(apiKeyId: string): Runs {
    const known = this.#keys.get(apiKeyId)
    if (known) return known
    const runs: Runs = { queued: new Set(), running: new Set(), line: new Map() }
    this.#keys.set(apiKeyId, runs)
    return runs
  }
}

function hasBegun(run: Run): boolean {
  return run.steps.some(step => !step.inherited && attemptsOf(step).some(attempt => !isTakenOver(step, attempt)))
}
