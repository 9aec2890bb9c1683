/**
 * An older copy of the database comes back while the provider remembers everything: what was under way in the copy is asked
 * for and never submitted again; what still waited in it is submitted, which is why a start asks before it goes on.
 */
import { expect, test } from 'bun:test'
import { copyFileSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { openSqliteStore } from '../../src/store/sqlite/open.ts'
import type { SqliteStore } from '../../src/store/sqlite/store.ts'
import { RemoteProvider } from '../support/remote-provider.ts'
import { LINE } from '../support/runs.ts'
import { World } from '../support/world.ts'

test('a restored run asks for the job that it knows, and pays again only for the step that waited in the copy', async () => {
  const world = new World({ providers: now => [new RemoteProvider('p', now, () => ({ type: 'work', ms: 5_000 }))] })
  try {
    await world.start()
    const run = await world.create(LINE)
    const [provider] = world.providers
    await world.settle(
      () => provider?.jobs.length === 1 && world.clock.now() >= (provider.jobs[0]?.readyAt ?? 0) - 3_000,
    )
    const copy = join(world.dir, 'copy.db')
    ;(world.process.store as SqliteStore).db.query('VACUUM INTO ?').run(copy)
    expect((await world.finish(run.id)).status).toBe('succeeded')
    await world.settle()

    world.process.die()
    await world.process.store.close()
    const file = join(world.dir, 'babychain.db')
    for (const suffix of ['', '-wal', '-shm']) rmSync(file + suffix, { force: true })
    copyFileSync(copy, file)
    const now = () => world.clock.now()
    await expect(openSqliteStore({ dataDir: world.dir, now })).rejects.toThrow(/restored or moved/)
    await (await openSqliteStore({ dataDir: world.dir, now, resume: 'now' })).close()

    await world.restart()
    expect((await world.finish(run.id)).status).toBe('succeeded')
    const [a, b] = run.steps
    expect([provider?.jobsOf(a?.id ?? ''), provider?.jobsOf(b?.id ?? '')]).toEqual([1, 2])
  } finally {
    await world.close()
  }
})
