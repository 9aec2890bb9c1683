/**
 * Runs, steps, attempts and events in their tables: prepared statements for everything that a step of a run needs.
 *
 * 1. Every method is synchronous; the ones that write run inside a group's transaction and throw to be taken back.
 * 2. What was asked of a run is written by `create` alone. `save` writes what can change: the run's state, the steps
 *    that it is told of, their attempts that are new or different, and the events.
 * 3. A run is saved only onto the revision that the writer has seen, and its events are numbered without a gap.
 */
import type { Database } from 'bun:sqlite'
import type { Chain } from '../../core/chain.ts'
import {
  type CreateCommit,
  type Created,
  type Idempotency,
  RevisionConflict,
  type RunCommit,
} from '../../core/ports.ts'
import { type Attempt, attemptsOf, isEnded, type Run, type RunEvent, type RunStatus } from '../../core/run.ts'
import type { Counters } from './counters.ts'
import { attemptOf, eventOf, runOf, stateOf } from './rows.ts'
import {
  attemptChanges,
  attemptValues,
  inputValues,
  type RunStatements,
  runChanges,
  runStatements,
  runValues,
  stepValues,
} from './run-sql.ts'

type Replay = Exclude<Created, { type: 'created' }>

export class RunTables {
  readonly #counters: Counters
  readonly #sql: RunStatements
  /** Attempts that lie in the database as they are, by the step that they were written for. Values never change. */
  readonly #stored = new WeakMap<Attempt, string>()
  readonly #chains = new Map<string, Chain>()
  readonly #chainRows = new WeakMap<Chain, { id: string; hash: string; body: string; isStored: boolean }>()

  constructor(db: Database, counters: Counters) {
    this.#counters = counters
    this.#sql = runStatements(db)
  }

  // ── Write ───────────────────────────────────────────────────────────────────────────────────────────────────────

  /** Writes a new run with everything it has, or finds the run of its idempotency key. */
  create({ run, events, wakeAt, idempotency }: CreateCommit, at: number): Created {
    const replay = idempotency && this.replay(idempotency.key, idempotency.fingerprint)
    if (replay) return replay
    const chainId = this.#writeChain(run.chain, at)
    this.#sql.insertRun.run(...runValues(run, chainId, wakeAt))
    this.#sql.insertInput.run(...inputValues(run))
    for (const [key, value] of Object.entries(run.metadata))
      this.#sql.insertMetadata.run(run.apiKeyId, key, value, run.createdAt, run.id)
    run.steps.forEach((step, index) => {
      this.#sql.insertStep.run(...stepValues(run.id, index, step))
      for (const attempt of attemptsOf(step))
        this.#sql.insertAttempt.run(...attemptValues(run.id, index, step, attempt))
    })
    this.#writeEvents(run, 0, events)
    if (idempotency) this.#writeKey(idempotency, run.id, at)
    const used = mediaOf(run)
    if (used.length > 0) this.#sql.useMedia.run(JSON.stringify(used))
    this.#counters.move(null, `runs.${run.status}`)
    return { type: 'created' }
  }

  /** Writes a transition onto the revision that it was made from; throws RevisionConflict when that is not the stored one. */
  save({ run, expected, changed, events, wakeAt }: RunCommit): void {
    const stored = this.#sql.head.get(run.id)
    if (stored?.revision !== expected) {
      const found = stored ? `is at revision ${stored.revision}` : 'is not stored'
      throw new RevisionConflict(`run ${run.id} ${found}, not at ${expected}`)
    }
    if (run.revision <= expected) throw new Error(`run ${run.id}: a commit must raise the revision ${expected}`)
    const changes = runChanges(run, wakeAt)
    if (run.status === stored.status) this.#sql.updateRun.run(...changes)
    else this.#sql.moveRun.run(...changes, run.status)
    for (const id of new Set(changed)) this.#writeStep(run, id)
    this.#writeEvents(run, stored.last_seq, events)
    this.#counters.move(`runs.${stored.status as RunStatus}`, `runs.${run.status}`)
    if (isEnded(run)) this.#sql.freeMedia.run(run.updatedAt, run.id, JSON.stringify(mediaOf(run)))
  }

  /** Call it when `run` is durable: its chain and its attempts need not be written again. */
  remember(run: Run, changed: readonly string[] | null): void {
    const chain = this.#chainRows.get(run.chain)
    if (chain) chain.isStored = true
    run.steps.forEach((step, index) => {
      if (changed !== null && !changed.includes(step.id)) return
      for (const attempt of attemptsOf(step)) this.#stored.set(attempt, `${run.id}/${index}`)
    })
  }

  #writeStep(run: Run, id: string): void {
    const index = run.steps.findIndex(step => step.id === id)
    const step = run.steps[index]
    if (!step) throw new Error(`run ${run.id} has no step ${id}`)
    this.#sql.updateStep.run(
      step.status,
      stateOf(step),
      step.inherited,
      step.updatedAt,
      step.startedAt,
      step.completedAt,
      run.id,
      index,
    )
    for (const attempt of attemptsOf(step)) {
      if (this.#stored.get(attempt) === `${run.id}/${index}`) continue
      const { changes } = this.#sql.updateAttempt.run(...attemptChanges(run.id, index, attempt))
      // Refused by the primary key when it has become another one.
      if (changes === 0) this.#sql.insertAttempt.run(...attemptValues(run.id, index, step, attempt))
    }
  }

  #writeEvents(run: Run, lastSeq: number, events: readonly RunEvent[]): void {
    let seq = lastSeq
    for (const event of events) {
      seq += 1
      if (event.seq !== seq) throw new Error(`run ${run.id}: event ${event.seq} came where ${seq} was due`)
      this.#sql.insertEvent.run(run.id, seq, event.at, event.type, event.stepKey, JSON.stringify(event.data))
    }
    if (run.lastSeq !== seq) throw new Error(`run ${run.id} says lastSeq ${run.lastSeq}, but its log ends at ${seq}`)
  }

  #writeKey({ key, fingerprint, response }: Idempotency, runId: string, at: number): void {
    this.#sql.insertKey.run(key, fingerprint, runId, response, at)
  }

  #writeChain(chain: Chain, at: number): string {
    let row = this.#chainRows.get(chain)
    if (!row) {
      const body = JSON.stringify(chain)
      const hash = new Bun.CryptoHasher('sha256').update(body).digest('hex')
      row = { id: `${chain.slug}@${chain.version}#${hash.slice(0, 32)}`, hash, body, isStored: false }
      this.#chainRows.set(chain, row)
    }
    if (!row.isStored) this.#sql.insertChain.run(row.id, chain.slug, chain.version, row.hash, row.body, at)
    return row.id
  }

  // ── Read ────────────────────────────────────────────────────────────────────────────────────────────────────────

  load(id: string): Run | null {
    const row = this.#sql.run.get(id)
    if (!row) return null
    const attempts = new Map<number, Attempt[]>()
    for (const each of this.#sql.attempts.all(id)) {
      const attempt = attemptOf(each)
      this.#stored.set(attempt, `${id}/${each.step_index}`)
      const list = attempts.get(each.step_index)
      if (list) list.push(attempt)
      else attempts.set(each.step_index, [attempt])
    }
    return runOf(row, this.#chainOf(row.chain_id), this.#sql.steps.all(id), attempts)
  }

  /** Whether a run has ended, and the number of its newest event; null when there is no such run. */
  head(id: string): { ended: boolean; lastSeq: number } | null {
    const row = this.#sql.head.get(id)
    return row ? { ended: row.wake_at === null, lastSeq: row.last_seq } : null
  }

  replay(key: string, fingerprint: string): Replay | null {
    const row = this.#sql.key.get(key)
    if (!row) return null
    if (row.fingerprint !== fingerprint) return { type: 'reused', runId: row.run_id }
    return { type: 'replayed', runId: row.run_id, response: row.response }
  }

  events(runId: string, after: number, limit: number): RunEvent[] {
    return this.#sql.events.all(runId, after, limit).map(eventOf)
  }

  attemptByToken(token: string): { runId: string; stepId: string; attemptNo: number; provider: string } | null {
    return this.#sql.token.get(token) ?? null
  }

  /** Ids and wake times after a place in the order (wake time, id). */
  due(at: number, limit: number, after: { wakeAt: number; id: string }): { id: string; wake_at: number }[] {
    return this.#sql.due.all(at, after.wakeAt, after.id, limit)
  }

  /** When a run next needs attention; null when it has ended or is not there. */
  wakeAt(id: string): number | null {
    return this.#sql.head.get(id)?.wake_at ?? null
  }

  oldestDueAt(): number | null {
    return this.#sql.oldest.get()?.at ?? null
  }

  /** A chain is read once: it never changes, and there are few. */
  #chainOf(id: string): Chain {
    const known = this.#chains.get(id)
    if (known) return known
    const row = this.#sql.chain.get(id)
    if (!row) throw new Error(`there is no chain ${id}`)
    const chain = frozen(JSON.parse(row.body) as Chain)
    if (this.#chains.size >= 1_000) this.#chains.clear()
    this.#chains.set(id, chain)
    return chain
  }
}

/** Every media that a run reads or has made. */
function mediaOf(run: Run): string[] {
  const read = run.steps.flatMap(step => step.pictures).filter(picture => picture.startsWith('media:'))
  const made = run.steps.flatMap(step => (step.status === 'succeeded' ? step.outputs : []))
  return [...read.map(picture => picture.slice('media:'.length)), ...made.map(output => output.mediaId)]
}

function frozen<T>(value: T): T {
  if (typeof value === 'object' && value !== null) for (const part of Object.values(Object.freeze(value))) frozen(part)
  return value
}
