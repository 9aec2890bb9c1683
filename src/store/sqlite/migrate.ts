/**
 * Brings a database up to the migrations in `drizzle/`.
 *
 * 1. Each migration is one transaction: it is there entirely or not at all.
 * 2. Foreign keys are off while tables are rebuilt, else DROP TABLE would take the children along; they are checked
 *    before the commit.
 * 3. A migration that ran is never run again, and may not change afterwards.
 * 4. A database that knows a migration which this program does not is newer than the program, and is left alone.
 */
import type { Database } from 'bun:sqlite'
import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { MigrationRefused } from './errors.ts'

const JOURNAL = 'meta/_journal.json'

interface Migration {
  tag: string
  sql: string
  sha256: string
}

/** Applies what is missing, in order; returns the tags that it applied. `at` is milliseconds since the epoch. */
export function migrate(db: Database, folder: string, at: number): string[] {
  const migrations = readMigrations(folder)
  db.run(
    'CREATE TABLE IF NOT EXISTS schema_migrations (tag TEXT PRIMARY KEY, sha256 TEXT NOT NULL, at INTEGER NOT NULL) STRICT',
  )
  const applied = new Map(
    db
      .query<{ tag: string; sha256: string }, []>('SELECT tag, sha256 FROM schema_migrations')
      .all()
      .map(row => [row.tag, row.sha256]),
  )
  refuseStrangers(migrations, applied)
  const missing = migrations.filter(migration => !applied.has(migration.tag))
  if (missing.length === 0) return []
  const before = foreignKeys(db)
  db.run('PRAGMA foreign_keys = OFF') // No effect inside a transaction, so out here.
  try {
    for (const migration of missing) db.transaction(() => apply(db, migration, at)).immediate()
  } finally {
    if (before) db.run('PRAGMA foreign_keys = ON')
  }
  return missing.map(migration => migration.tag)
}

/** Where the migrations lie: beside the code in the binary, at the root of the project in the sources. */
export function migrationsFolder(from: string = import.meta.dir): string {
  const places = ['drizzle', '../drizzle', '../../drizzle', '../../../drizzle'].map(place => join(from, place))
  const found = places.find(place => existsSync(join(place, JOURNAL)))
  if (!found) throw new MigrationRefused(`the migrations are missing: none of ${places.join(', ')} holds ${JOURNAL}`)
  return found
}

function readMigrations(folder: string): Migration[] {
  const journal = JSON.parse(readFileSync(join(folder, JOURNAL), 'utf8')) as { entries: { idx: number; tag: string }[] }
  return journal.entries
    .toSorted((a, b) => a.idx - b.idx)
    .map(({ tag }) => {
      // A checkout with other line ends is the same migration.
      const sql = readFileSync(join(folder, `${tag}.sql`), 'utf8').replaceAll('\r\n', '\n')
      return { tag, sql, sha256: new Bun.CryptoHasher('sha256').update(sql).digest('hex') }
    })
}

function refuseStrangers(migrations: readonly Migration[], applied: ReadonlyMap<string, string>): void {
  const known = new Map(migrations.map(migration => [migration.tag, migration.sha256]))
  for (const [tag, sha256] of applied) {
    const ours = known.get(tag)
    if (ours === undefined) {
      throw new MigrationRefused(
        `the database was written by a newer BabyChain: this one does not know its migration ${tag}. ` +
          'Start that version, or restore a backup from before the upgrade.',
      )
    }
    if (ours !== sha256) {
      throw new MigrationRefused(
        `the migration ${tag} was edited after it had been applied to this database. ` +
          'Bring its file back, and put the change into a new migration (npm run db:generate).',
      )
    }
  }
}

function apply(db: Database, { tag, sql, sha256 }: Migration, at: number): void {
  for (const statement of sql.split('--> statement-breakpoint')) if (statement.trim()) db.run(statement)
  const broken = db.query<{ table: string }, []>('PRAGMA foreign_key_check').get()
  if (broken) throw new MigrationRefused(`the migration ${tag} would leave rows of ${broken.table} without a parent`)
  db.query('INSERT INTO schema_migrations (tag, sha256, at) VALUES (?, ?, ?)').run(tag, sha256, at)
}

function foreignKeys(db: Database): boolean {
  return db.query<{ foreign_keys: number }, []>('PRAGMA foreign_keys').get()?.foreign_keys === 1
}
