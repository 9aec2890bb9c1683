/**
 * How many runs of a key may wait, and how many may be under way.
 *
 * 1. Synchronous and in memory: two requests at the same moment cannot both take the last place.
 * 2. A run takes its place when its first step is routed, and gives it back when it ends. One that has not been routed has
 *    none, whatever its status: its route may be closed for now, or its first steps are another run's. After a start, runs
 *    that have begun take theirs beyond the limit.
 * 3. Who waits is served in the order of asking, each key by itself: a run that was called in vain, or left the line, comes back
 *    to its turn. A place is kept for who was called, until it has routed.
 * 4. Who was called and cannot begin, as its providers are full or closed, makes way for those that could go elsewhere: of
 *    those that could go to the same providers only, no more are asked in vain than have room, for a long line would cost
 *    much each time.
 * 5. Who could not begin at a provider that had a place for it, as its key had none, keeps the next place of its key until the
 *    provider has one again: else a run would never begin where both are always taken. One run of a key at most, the oldest
 *    that was called, and only while its provider is open.
 */
import type { KeyLimits } from '../core/keys.ts'
import { QueueFull } from '../core/ports.ts'
import { attemptsOf, isEnded, isTakenOver, type Run } from '../core/run.ts'
import { Line } from './line.ts'

export type RunLimits = Pick<KeyLimits, 'maxRunning' | 'maxQueued'>

/** A step whose run waits for a place. `no` is the turn of the run; `way` says where the step could go. */
interface Waiter {
  no: number
  runId: string
  stepId: string
  way: string
  /** A provider had a place for it. */
  wasServed: boolean
  call: () => void
}

interface Call extends Pick<Waiter, 'no' | 'stepId' | 'wasServed'> {
  /** It stands in line at its providers, and keeps the place. */
  keeps: boolean
}

interface Runs {
  queued: Set<string>
  running: Set<string>
  /** Who waits, by where it could go. */
  lines: Map<string, Line<Waiter>>
  /** The same by run. */
  waiters: Map<string, Set<Waiter>>
  /** The turns of runs that asked, until they begin or end. */
  turns: Map<string, number>
  /** Runs that were called, and have not begun. */
  called: Map<string, Call>
  /** A line that is being served is not served within. */
  isServed: boolean
}

export class Admission {
  readonly #keys = new Map<string, Runs>()
  readonly #limitsOf: (apiKeyId: string) => RunLimits
  #asked = 0

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
    // An actor that was lost has not answered.
    const wasCalled = runs.called.delete(run.id)
    if (isEnded(run)) {
      runs.turns.delete(run.id)
      runs.running.delete(run.id)
      for (const waiter of runs.waiters.get(run.id) ?? []) leaveLine(runs, waiter)
    } else if (hasBegun(run)) runs.running.add(run.id)
    else if (!runs.running.has(run.id)) runs.queued.add(run.id)
    if (isEnded(run) || wasCalled) this.look(run.apiKeyId)
    if (runs.queued.size + runs.running.size === 0) this.#keys.delete(run.apiKeyId)
  }

  /** Whether a run may begin now; then it has its place, for all of its steps. */
  begin(run: Run): boolean {
    const runs = this.#of(run.apiKeyId)
    if (runs.running.has(run.id)) return true
    if (this.#room(run.apiKeyId, runs) + (runs.called.has(run.id) ? 1 : 0) <= 0) return false
    runs.queued.delete(run.id)
    runs.called.delete(run.id)
    runs.turns.delete(run.id)
    runs.running.add(run.id)
    for (const waiter of runs.waiters.get(run.id) ?? []) {
      leaveLine(runs, waiter)
      waiter.call()
    }
    return true
  }

  /** A run that was counted and not created after all. */
  leave(run: Run): void {
    const runs = this.#of(run.apiKeyId)
    runs.queued.delete(run.id)
    runs.turns.delete(run.id)
    const wasCalled = runs.called.delete(run.id)
    if (runs.running.delete(run.id) || wasCalled) this.look(run.apiKeyId)
  }

  /**
   * Calls once, when it is worth asking again; `answered` is to be told of that. `way` is the same for all steps that could go
   * to the same providers. `wasServed`: one of them had a place for it. Gives a way to leave the line; the turn of the run is kept.
   */
  wait(run: Run, stepId: string, call: () => void, way = '', wasServed = false): () => void {
    const runs = this.#of(run.apiKeyId)
    this.#asked += 1
    const no = runs.turns.get(run.id) ?? this.#asked
    runs.turns.set(run.id, no)
    const waiter = { no, runId: run.id, stepId, way, wasServed, call }
    addTo(runs.lines, way, waiter, new Line())
    addTo(runs.waiters, run.id, waiter, new Set())
    return () => leaveLine(runs, waiter)
  }

  /**
   * Whether a run that was called keeps the place, as it stands in line at providers that are full. It is to ask again before
   * long: they may have closed.
   */
  keep(run: Run, stepId: string, areFull: boolean): boolean {
    const called = this.#keys.get(run.apiKeyId)?.called
    const call = called?.get(run.id)
    if (!called || call?.stepId !== stepId) return false
    const others = [...called].filter(([runId, { keeps }]) => keeps && runId !== run.id)
    call.keeps = areFull && call.wasServed && others.every(([, { no }]) => call.no < no)
    if (call.keeps) for (const [runId] of others) called.delete(runId)
    return call.keeps
  }

  /** A step was routed: if it was called, and its run has neither begun nor keeps the place, that is another's. */
  answered(run: Run, stepId: string): void {
    const called = this.#keys.get(run.apiKeyId)?.called
    const call = called?.get(run.id)
    if (call?.stepId !== stepId) return
    if (!call.keeps) called?.delete(run.id)
    this.look(run.apiKeyId)
  }

  /** Serves the line of a key: a place was freed, or its limits changed. */
  look(apiKeyId: string): void {
    const runs = this.#of(apiKeyId)
    if (runs.isServed) return
    runs.isServed = true
    try {
      const inVain = new Map<string, number>()
      for (;;) {
        const room = this.#room(apiKeyId, runs)
        const next = firstOf(runs, way => (inVain.get(way) ?? 0) < room)
        if (!next) return
        leaveLine(runs, next)
        runs.called.set(next.runId, { ...next, keeps: false })
        next.call()
        // Whose actor is at work answers later.
        if (!runs.running.has(next.runId) && !runs.called.has(next.runId))
          inVain.set(next.way, (inVain.get(next.way) ?? 0) + 1)
      }
    } finally {
      runs.isServed = false
    }
  }

  /** How many more runs may begin. */
  #room(apiKeyId: string, { running, called }: Runs): number {
    const { maxRunning } = this.#limitsOf(apiKeyId)
    return (maxRunning ?? Number.POSITIVE_INFINITY) - running.size - called.size
  }

  #of(apiKeyId: string): Runs {
    const known = this.#keys.get(apiKeyId)
    if (known) return known
    const runs: Runs = {
      ...{ queued: new Set(), running: new Set(), called: new Map() },
      ...{ lines: new Map(), waiters: new Map(), turns: new Map(), isServed: false },
    }
    this.#keys.set(apiKeyId, runs)
    return runs
  }
}

/** Who asked first, of those whose way is still worth asking for. */
function firstOf({ lines }: Runs, isWorthIt: (way: string) => boolean): Waiter | undefined {
  let first: Waiter | undefined
  for (const [way, line] of lines) {
    const head = line.first
    if (head && isWorthIt(way) && (!first || head.no < first.no)) first = head
  }
  return first
}

function leaveLine(runs: Runs, waiter: Waiter): void {
  for (const [lines, key] of [
    [runs.lines, waiter.way],
    [runs.waiters, waiter.runId],
  ] as const) {
    const line = lines.get(key)
    line?.delete(waiter)
    if (line?.size === 0) lines.delete(key)
  }
}

function addTo<L extends { add: (each: Waiter) => unknown }>(
  lines: Map<string, L>,
  key: string,
  waiter: Waiter,
  empty: L,
): void {
  const line = lines.get(key) ?? empty
  line.add(waiter)
  lines.set(key, line)
}

function hasBegun(run: Run): boolean {
  return run.steps.some(step => !step.inherited && attemptsOf(step).some(attempt => !isTakenOver(step, attempt)))
}
