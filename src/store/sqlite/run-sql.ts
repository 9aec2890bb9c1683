/**
 * The SQL of runs: every statement by its name, and the values of a row in the order of its columns.
 * Columns are those of `../schema.ts`.
 */
import type { Database, SQLQueryBindings } from 'bun:sqlite'
import type { Attempt, Run, Step } from '../../core/run.ts'
import { type AttemptRow, type EventRow, jsonOrNull, planOf, type RunRow, type StepRow, stateOf } from './rows.ts'

export type RunStatements = ReturnType<typeof runStatements>

type Values = SQLQueryBindings[]

export function runStatements(db: Database) {
  return {
    // ── Write ─────────────────────────────────────────────────────────────────────────────────────────────────────
    insertChain: db.prepare<unknown, Values>(
      `INSERT INTO chains (id, slug, version, hash, body, created_at) VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO NOTHING`,
    ),
    insertRun: db.prepare<unknown, Values>(
      `INSERT INTO runs (id, api_key_id, slug, chain_slug, chain_id, mode, status, max_cost_usd, created_at, updated_at,
         deadline_at, cancel_requested_at, resumed_from, error, revision, last_seq, wake_at)
       VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
    ),
    insertInput: db.prepare<unknown, Values>(
      `INSERT INTO run_inputs (run_id, input, metadata, callback, provider_order, plan) VALUES (?, ?, ?, ?, ?, ?)`,
    ),
    insertMetadata: db.prepare<unknown, Values>(
      `INSERT INTO run_metadata (api_key_id, key, value, created_at, run_id) VALUES (?, ?, ?, ?, ?)`,
    ),
    insertStep: db.prepare<unknown, Values>(
      `INSERT INTO steps (run_id, step_index, id, step_key, model, status, state, inherited, created_at, updated_at,
         started_at, completed_at)
       VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
    ),
    insertAttempt: db.prepare<unknown, Values>(
      `INSERT INTO attempts (run_id, step_index, no, provider, provider_model, token, inherited, started_at,
         adjustments, submitted_at, ended_at, outcome, job_ref, error, estimated_usd, actual_usd, cost_basis,
         provider_cancel, reopen_at, late_result)
       VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
    ),
    /** What an attempt is (its route, token and start) is never changed. */
    updateAttempt: db.prepare<unknown, Values>(
      `UPDATE attempts SET submitted_at = ?, ended_at = ?, outcome = ?, job_ref = ?, error = ?, estimated_usd = ?,
         actual_usd = ?, cost_basis = ?, provider_cancel = ?, reopen_at = ?, late_result = ?
       WHERE run_id = ? AND step_index = ? AND no = ? AND token = ?`,
    ),
    insertEvent: db.prepare<unknown, Values>(
      `INSERT INTO events (run_id, seq, at, type, step_key, data) VALUES (?, ?, ?, ?, ?, ?)`,
    ),
    insertKey: db.prepare<unknown, Values>(
      `INSERT INTO idempotency_keys (key, fingerprint, run_id, response, created_at) VALUES (?, ?, ?, ?, ?)`,
    ),
    updateRun: db.prepare<unknown, Values>(
      `UPDATE runs SET updated_at = ?, deadline_at = ?, cancel_requested_at = ?, error = ?, revision = ?, last_seq = ?,
         wake_at = ? WHERE id = ?`,
    ),
    /** As above, with a new status. Apart, because to name the status is to rewrite the index of lists. */
    moveRun: db.prepare<unknown, Values>(
      `UPDATE runs SET updated_at = ?, deadline_at = ?, cancel_requested_at = ?, error = ?, revision = ?, last_seq = ?,
         wake_at = ?, status = ?9 WHERE id = ?8`,
    ),
    updateStep: db.prepare<unknown, Values>(
      `UPDATE steps SET status = ?, state = ?, inherited = ?, updated_at = ?, started_at = ?, completed_at = ?
       WHERE run_id = ? AND step_index = ?`,
    ),
    /**
     * While a run is open, nothing that it has made is idle, and what it reads only when another reader has ended since:
     * readers are not counted. No retention is shorter than a run may live, so what it reads outlives it all the same.
     */
    useMedia: db.prepare<unknown, Values>(
      `UPDATE media SET idle_since = NULL WHERE id IN (SELECT value FROM json_each(?))`,
    ),
    freeMedia: db.prepare<unknown, Values>(
      `UPDATE media SET idle_since = ?1 WHERE run_id = ?2 OR id IN (SELECT value FROM json_each(?3))`,
    ),

    // ── Read ──────────────────────────────────────────────────────────────────────────────────────────────────────
    head: db.prepare<{ revision: number; status: string; last_seq: number; wake_at: number | null }, [string]>(
      `SELECT revision, status, last_seq, wake_at FROM runs WHERE id = ?`,
    ),
    run: db.prepare<RunRow, [string]>(
      `SELECT r.*, i.input, i.metadata, i.callback, i.provider_order, i.plan
       FROM runs r JOIN run_inputs i ON i.run_id = r.id WHERE r.id = ?`,
    ),
    steps: db.prepare<StepRow, [string]>(`SELECT * FROM steps WHERE run_id = ? ORDER BY step_index`),
    attempts: db.prepare<AttemptRow, [string]>(`SELECT * FROM attempts WHERE run_id = ? ORDER BY step_index, no`),
    chain: db.prepare<{ body: string }, [string]>(`SELECT body FROM chains WHERE id = ?`),
    events: db.prepare<EventRow, [string, number, number]>(
      `SELECT seq, at, type, step_key, data FROM events WHERE run_id = ? AND seq > ? ORDER BY seq LIMIT ?`,
    ),
    key: db.prepare<{ fingerprint: string; run_id: string; response: string }, [string]>(
      `SELECT fingerprint, run_id, response FROM idempotency_keys WHERE key = ?`,
    ),
    token: db.prepare<{ runId: string; stepId: string; attemptNo: number; provider: string }, [string]>(
      `SELECT a.run_id AS runId, s.id AS stepId, a.no AS attemptNo, a.provider
       FROM attempts a JOIN steps s ON s.run_id = a.run_id AND s.step_index = a.step_index
       WHERE a.token = ? AND a.inherited = 0`,
    ),
    due: db.prepare<{ id: string; wake_at: number }, [number, number, string, number]>(
      `SELECT id, wake_at FROM runs WHERE wake_at <= ? AND (wake_at, id) > (?, ?) ORDER BY wake_at, id LIMIT ?`,
    ),
    oldest: db.prepare<{ at: number | null }, []>(`SELECT min(wake_at) AS at FROM runs WHERE wake_at IS NOT NULL`),
  }
}

export function runValues(run: Run, chainId: string, wakeAt: number | null): Values {
  return [
    ...[run.id, run.apiKeyId, run.slug, run.chain.slug, chainId, run.mode, run.status, run.maxCostUsd],
    ...[run.createdAt, run.updatedAt, run.deadlineAt, run.cancelRequestedAt, run.resumedFrom, jsonOrNull(run.error)],
    ...[run.revision, run.lastSeq, wakeAt],
  ]
}

export function inputValues(run: Run): Values {
  const { id, input, metadata, callback, providerOrder } = run
  return [
    ...[id, JSON.stringify(input), JSON.stringify(metadata), jsonOrNull(callback)],
    ...[JSON.stringify(providerOrder), planOf(run)],
  ]
}

/** For `updateRun`; `moveRun` takes the status after them. */
export function runChanges(run: Run, wakeAt: number | null): Values {
  return [
    ...[run.updatedAt, run.deadlineAt, run.cancelRequestedAt, jsonOrNull(run.error), run.revision, run.lastSeq],
    ...[wakeAt, run.id],
  ]
}

export function stepValues(runId: string, index: number, step: Step): Values {
  return [
    ...[runId, index, step.id, step.key, step.model, step.status, stateOf(step), step.inherited],
    ...[step.createdAt, step.updatedAt, step.startedAt, step.completedAt],
  ]
}

/** For `insertAttempt`. */
export function attemptValues(runId: string, index: number, step: Step, attempt: Attempt): Values {
  return [
    ...[runId, index, attempt.no, attempt.provider, attempt.providerModel, attempt.token, step.inherited],
    ...[attempt.startedAt, JSON.stringify(attempt.adjustments)],
    ...outcomeValues(attempt),
  ]
}

/** For `updateAttempt`. */
export function attemptChanges(runId: string, index: number, attempt: Attempt): Values {
  return [...outcomeValues(attempt), runId, index, attempt.no, attempt.token]
}

function outcomeValues({ cost, ...attempt }: Attempt): Values {
  return [
    ...[attempt.submittedAt, attempt.endedAt, attempt.outcome, JSON.stringify(attempt.jobRef)],
    ...[jsonOrNull(attempt.error), cost.estimatedUsd, cost.actualUsd, cost.basis, attempt.providerCancel],
    ...[attempt.reopenAt, jsonOrNull(attempt.lateResult ?? null)],
  ]
}
