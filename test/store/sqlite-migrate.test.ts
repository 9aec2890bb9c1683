/** The migrator: what drizzle's own one gets wrong, and what it must refuse. */
import { Database } from 'bun:sqlite'
import { afterEach, beforeEach, expect, test } from 'bun:test'
import { mkdirSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { getTableConfig, type SQLiteTable } from 'drizzle-orm/sqlite-core'
import * as schema from '../../src/store/schema.ts'
import { MigrationRefused } from '../../src/store/sqlite/errors.ts'
import { migrate, migrationsFolder } from '../../src/store/sqlite/migrate.ts'
import { tempDir } from '../support/store-temp.ts'

const FAMILY = `CREATE TABLE parent (id integer PRIMARY KEY, name text);
--> statement-breakpoint
CREATE TABLE child (id integer PRIMARY KEY, parent_id integer NOT NULL REFERENCES parent (id) ON DELETE CASCADE);`
/** As drizzle-kit writes it when a column changes. */
const REBUILD = `PRAGMA foreign_keys=OFF;--> statement-breakpoint
CREATE TABLE \`__new_parent\` (\`id\` integer PRIMARY KEY, \`name\` text DEFAULT 'x' NOT NULL);
--> statement-breakpoint
INSERT INTO \`__new_parent\`("id", "name") SELECT "id", "name" FROM \`parent\`;--> statement-breakpoint
DROP TABLE \`parent\`;--> statement-breakpoint
ALTER TABLE \`__new_parent\` RENAME TO \`parent\`;--> statement-breakpoint
PRAGMA foreign_keys=ON;`

let db: Database
let folder: string
beforeEach(() => {
  db = new Database(':memory:')
  db.run('PRAGMA foreign_keys = ON')
  folder = tempDir()
})
afterEach(() => {
  db.close()
  rmSync(folder, { recursive: true, force: true })
})

function write(migrations: Record<string, string>): void {
  mkdirSync(join(folder, 'meta'), { recursive: true })
  const entries = Object.keys(migrations).map(tag => ({ idx: Number(tag.slice(0, 4)), tag }))
  writeFileSync(join(folder, 'meta/_journal.json'), JSON.stringify({ entries }))
  for (const [tag, sql] of Object.entries(migrations)) writeFileSync(join(folder, `${tag}.sql`), sql)
}

function count(table: string): number {
  return db.query<{ n: number }, []>(`SELECT count(*) AS n FROM ${table}`).get()?.n ?? -1
}

test('migrations run once, in order, and are remembered', () => {
  write({ '0000_family': FAMILY, '0001_more': 'ALTER TABLE parent ADD COLUMN age integer;' })
  expect(migrate(db, folder, 1)).toEqual(['0000_family', '0001_more'])
  expect(migrate(db, folder, 2)).toEqual([])
  expect(db.query('SELECT tag, at FROM schema_migrations ORDER BY tag').all()).toEqual([
    { tag: '0000_family', at: 1 },
    { tag: '0001_more', at: 1 },
  ])
})

test('a rebuilt table keeps its children, and foreign keys are on again afterwards', () => {
  write({ '0000_family': FAMILY })
  migrate(db, folder, 1)
  db.run(`INSERT INTO parent VALUES (1, 'a')`)
  db.run('INSERT INTO child VALUES (1, 1), (2, 1)')
  write({ '0000_family': FAMILY, '0001_rebuild': REBUILD })
  migrate(db, folder, 2)
  expect([count('parent'), count('child')]).toEqual([1, 2])
  expect(() => db.run('INSERT INTO child VALUES (3, 99)')).toThrow(/FOREIGN KEY/)
  db.run('DELETE FROM parent')
  expect(count('child')).toBe(0)
})

test('a migration that fails leaves nothing behind, and those before it stay', () => {
  const broken = `CREATE TABLE extra (id integer);--> statement-breakpoint\nINSERT INTO nowhere VALUES (1);`
  write({ '0000_family': FAMILY, '0001_broken': broken })
  expect(() => migrate(db, folder, 1)).toThrow(/nowhere/)
  expect(db.query(`SELECT name FROM sqlite_schema WHERE name IN ('parent', 'extra')`).all()).toEqual([
    { name: 'parent' },
  ])
  expect(db.query('PRAGMA foreign_keys').get()).toEqual({ foreign_keys: 1 })
  write({ '0000_family': FAMILY, '0001_broken': 'CREATE TABLE extra (id integer);' })
  expect(migrate(db, folder, 2)).toEqual(['0001_broken'])
})

test('a migration that would leave orphans is refused', () => {
  write({ '0000_family': FAMILY })
  migrate(db, folder, 1)
  db.run(`INSERT INTO parent VALUES (1, 'a')`)
  db.run('INSERT INTO child VALUES (1, 1)')
  write({ '0000_family': FAMILY, '0001_orphans': 'DELETE FROM parent;' })
  expect(() => migrate(db, folder, 2)).toThrow(MigrationRefused)
  expect(count('parent')).toBe(1)
})

test('a migration that was edited after it ran is refused; other line ends are no edit', () => {
  write({ '0000_family': FAMILY })
  migrate(db, folder, 1)
  write({ '0000_family': FAMILY.replaceAll('\n', '\r\n') })
  expect(migrate(db, folder, 2)).toEqual([])
  write({ '0000_family': FAMILY.replace('name text', 'name text NOT NULL') })
  expect(() => migrate(db, folder, 3)).toThrow(/0000_family was edited after it had been applied/)
})

test('a database from a newer program is refused before anything is touched', () => {
  write({ '0000_family': FAMILY, '0001_future': 'CREATE TABLE future (id integer);' })
  migrate(db, folder, 1)
  write({ '0000_family': FAMILY, '0001_mine': 'CREATE TABLE mine (id integer);' })
  expect(() => migrate(db, folder, 2)).toThrow(/newer BabyChain: this one does not know its migration 0001_future/)
  expect(db.query(`SELECT count(*) AS n FROM sqlite_schema WHERE name = 'mine'`).get()).toEqual({ n: 0 })
})

test('a migration merged from an older branch is applied, not skipped', () => {
  write({ '0000_family': FAMILY, '0002_late': 'CREATE TABLE late (id integer);' })
  migrate(db, folder, 1)
  write({
    '0000_family': FAMILY,
    '0001_early': 'CREATE TABLE early (id integer);',
    '0002_late': 'CREATE TABLE late (id integer);',
  })
  expect(migrate(db, folder, 2)).toEqual(['0001_early'])
})

test('the folder of the program is found from its own place, and a missing one is named', () => {
  expect(migrationsFolder()).toBe(join(import.meta.dir, '../../drizzle'))
  expect(() => migrationsFolder(folder)).toThrow(/the migrations are missing/)
})

test('the migrations make exactly the tables and indexes of the schema', () => {
  migrate(db, migrationsFolder(), 1)
  const tables: SQLiteTable[] = Object.values(schema)
  const made = db.query<{ name: string }, []>(`SELECT name FROM sqlite_schema WHERE type = 'table'`).all()
  const names = made.map(row => row.name).filter(name => name !== 'schema_migrations' && !name.startsWith('sqlite_'))
  expect(names.sort()).toEqual(tables.map(table => getTableConfig(table).name).sort())
  for (const table of tables) {
    const { name, columns, indexes } = getTableConfig(table)
    const found = db.query<{ name: string; type: string; notnull: number }, []>(`PRAGMA table_info(${name})`).all()
    expect([name, ...found.map(column => [column.name, column.type.toLowerCase(), column.notnull === 1])]).toEqual([
      name,
      ...columns.map(column => [column.name, column.getSQLType(), column.notNull]),
    ])
    const index = db.query<{ name: string }, []>(
      `SELECT name FROM sqlite_schema WHERE type = 'index' AND tbl_name = '${name}'`,
    )
    const listed = index
      .all()
      .map(row => row.name)
      .filter(each => !each.startsWith('sqlite_'))
    expect(listed.sort()).toEqual(indexes.map(each => each.config.name).sort())
  }
})
