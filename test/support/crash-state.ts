/**
 * What a crash has left on disk, read from a copy as a restart would read it, and what may never be found there
 * (rules.md 2.2, C7 and C11; 6.2, T-2).
 */
import { Database } from 'bun:sqlite'
import { cpSync, existsSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

export interface CrashState {
  /** Sentences that must not be: half-made transactions, a damaged file. */
  wrong: string[]
  runs: { id: string; status: string }[]
  /** The attempts of the steps, in order: what each step is about. */
  steps: string[]
  /** State of the callbacks: `pending`, `leased`, `delivered`, … */
  callbacks: string[]
  /** When the next callback is due (ms since the epoch), or null. */
  dueAt: number | null
}

/** The process must be dead. */
export function crashState(dataDir: string): CrashState {
  const dir = mkdtempSync(join(tmpdir(), 'babychain-crash-'))
  const file = join(dir, 'babychain.db')
  for (const end of ['', '-wal']) {
    const from = join(dataDir, `babychain.db${end}`)
    if (existsSync(from)) cpSync(from, file + end)
  }
  const db = new Database(file)
  try {
    return read(db)
  } finally {
    db.close(true)
    rmSync(dir, { recursive: true, force: true })
  }
}

function read(db: Database): CrashState {
  const texts = (sql: string): string[] =>
    db
      .query<{ text: string }, []>(sql)
      .all()
      .map(row => row.text)
  const wrong = RULES.flatMap(([what, sql]) => texts(sql).map(text => `${what}: ${text}`))
  const [checked] = db.query<{ integrity_check: string }, []>('PRAGMA integrity_check').all()
  if (checked?.integrity_check !== 'ok') wrong.push(`integrity_check: ${checked?.integrity_check}`)
  if (db.query('PRAGMA foreign_key_check').all().length > 0) wrong.push('foreign_key_check found orphans')
  return {
    wrong,
    runs: db.query<{ id: string; status: string }, []>('SELECT id, status FROM runs ORDER BY created_at').all(),
    steps: texts('SELECT status AS text FROM steps ORDER BY run_id, step_index'),
    callbacks: texts(
      `SELECT iif(lease_token IS NOT NULL, 'leased', status) AS text FROM deliveries ORDER BY created_at`,
    ),
    dueAt:
      db.query<{ at: number | null }, []>(`SELECT min(ready_at) AS at FROM deliveries WHERE status = 'pending'`).get()
        ?.at ?? null,
  }
}

const ENDED = `('succeeded', 'failed', 'canceled')`

/** Each query gives what breaks its rule. Every run is taken to have a callback. */
const RULES: readonly [what: string, sql: string][] = [
  [
    'C7: ended without its callback, or open with one',
    `SELECT r.id || ' ' || r.status AS text FROM runs r LEFT JOIN deliveries d ON d.run_id = r.id
     WHERE (r.status IN ${ENDED}) <> (d.id IS NOT NULL)`,
  ],
  ['several callbacks', 'SELECT run_id AS text FROM deliveries GROUP BY run_id HAVING count(*) > 1'],
  [
    'C11: delivered without the attempt that did it, or not delivered although an attempt did',
    `SELECT d.id || ' ' || d.status AS text FROM deliveries d
     WHERE (d.status = 'delivered') <> EXISTS (SELECT 1 FROM delivery_attempts a
       WHERE a.delivery_id = d.id AND a.http_status BETWEEN 200 AND 299 AND NOT a.late)`,
  ],
  [
    'C11: more attempts in the log than were counted',
    `SELECT d.id AS text FROM deliveries d
     WHERE d.attempts < (SELECT count(*) FROM delivery_attempts a WHERE a.delivery_id = d.id AND NOT a.late)`,
  ],
  [
    'a run whose events do not belong to its state',
    `SELECT r.id AS text FROM runs r WHERE r.last_seq <> (SELECT count(*) FROM events e WHERE e.run_id = r.id)
       OR r.last_seq <> (SELECT max(seq) FROM events e WHERE e.run_id = r.id)`,
  ],
  [
    'a step and its attempt contradict each other',
    `SELECT s.id || ' ' || s.status AS text FROM steps s
     WHERE (s.status IN ('submitting', 'running', 'keeping')) <> EXISTS (SELECT 1 FROM attempts a
       WHERE a.run_id = s.run_id AND a.step_index = s.step_index AND a.outcome = 'pending')`,
  ],
  [
    'counted wrongly',
    `SELECT c.name AS text FROM counters c WHERE c.name LIKE 'runs.%'
       AND c.value <> (SELECT count(*) FROM runs r WHERE 'runs.' || r.status = c.name)`,
  ],
]
