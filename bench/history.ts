/**
 * Does a long history slow the product? The same burst on a database with one finished run and on one with very many.
 *
 * 1. The history is written straight into the tables, as copies of a run that the product really made: every row that a
 *    finished run leaves, with its own ids and times, a minute apart.
 * 2. The files of the copies are not made: nothing on the hot path looks for them.
 */
import { Database } from 'bun:sqlite'
import { join } from 'node:path'
import { oneBurst, type Setting } from './phases.ts'
import { short, table } from './stats.ts'

export async function history(setting: Setting): Promise<void> {
  const { rig, size } = setting
  const finished = size('history', 1_000_000)
  const n = size('burst', 3_000)
  const dataDir = rig.folder()
  const rows: string[][] = []
  for (const many of [0, finished]) {
    if (many > 0) {
      const began = performance.now()
      copyRuns(join(dataDir, 'babychain.db'), many)
      const seconds = short((performance.now() - began) / 1_000)
      const gb = short(Bun.file(join(dataDir, 'babychain.db')).size / 1e9)
      console.log(`  ${many} finished runs written in ${seconds} s: the database has ${gb} GB`)
    }
    for (let round = 0; round < size('rounds', 1); round++) {
      const engine = await rig.start({ kind: 'product', dataDir })
      const row = await oneBurst(rig, engine, n)
      rows.push([String(many), ...[engine.readyMs, ...Object.values(row)].map(short)])
      await engine.stop()
    }
  }
  const head = [
    'finished runs',
    'ready ms',
    'accepted/s',
    'accept p50',
    'runs/s',
    'busy runs/s',
    'cpu ms/run',
    'peak mb',
  ]
  console.log(`\nhistory: a burst of ${n} on a database with finished runs\n${table([head, ...rows])}`)
}

/** Copies of the newest finished run. Columns that are ids of their own table or names of the run get new values. */
function copyRuns(file: string, many: number): void {
  const db = new Database(file)
  for (const pragma of ['foreign_keys = OFF', 'synchronous = OFF', 'cache_size = -400000']) db.run(`PRAGMA ${pragma}`)
  const source = db.query<{ id: string }, []>(`SELECT id FROM runs WHERE status = 'succeeded' LIMIT 1`).get()?.id
  if (!source) throw new Error('there is no finished run to copy')
  db.run('CREATE TEMP TABLE copies (n INTEGER PRIMARY KEY, id TEXT)')
  const BATCH = 50_000
  for (let from = 0; from < many; from += BATCH) {
    db.run('DELETE FROM temp.copies')
    db.run('BEGIN')
    // Ids of the shape and order of UUIDv7, older than anything real.
    db.run(
      `WITH RECURSIVE k (n) AS (SELECT ?1 UNION ALL SELECT n + 1 FROM k WHERE n + 1 < ?2)
       INSERT INTO temp.copies SELECT n, printf('01%06x-%04x-7000-8000-', n >> 8, n & 255) || substr(hex(randomblob(6)), 1, 12) FROM k`,
      [from, Math.min(many, from + BATCH)],
    )
    for (const [name, key] of TABLES) copyRows(db, name, key, source)
    db.run('COMMIT')
  }
  db.run(`UPDATE counters SET value = value + ${many} WHERE name IN ('runs.succeeded', 'deliveries.delivered')`)
  db.run('PRAGMA wal_checkpoint(TRUNCATE)')
  db.close()
}

/** What a run leaves, and the column that names it. */
const TABLES: readonly (readonly [table: string, key: string])[] = [
  ['runs', 'id'],
  ['run_inputs', 'run_id'],
  ['run_metadata', 'run_id'],
  ['steps', 'run_id'],
  ['attempts', 'run_id'],
  ['events', 'run_id'],
  ['idempotency_keys', 'run_id'],
  ['media', 'run_id'],
  ['deliveries', 'run_id'],
]

/** Columns that hold an id or a token of their own. */
const OWN = new Set(['steps.id', 'attempts.token', 'idempotency_keys.key', 'media.id', 'deliveries.id'])

function copyRows(db: Database, name: string, key: string, source: string): void {
  const columns = db
    .query<{ name: string }, []>(`PRAGMA table_info(${name})`)
    .all()
    .map(column => column.name)
  const values = columns.map(column => {
    if (column === key) return 'copies.id'
    if (OWN.has(`${name}.${column}`)) return `substr(t.${column}, 1, 8) || '-' || copies.n || substr(t.${column}, -4)`
    return `t.${column}`
  })
  db.run(
    `INSERT INTO ${name} (${columns.join(', ')}) SELECT ${values.join(', ')}
     FROM temp.copies CROSS JOIN (SELECT * FROM ${name} WHERE ${key} = ?) t`,
    [source],
  )
}
