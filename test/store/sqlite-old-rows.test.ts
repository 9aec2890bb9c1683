/** Rows as earlier versions wrote them. */
import { expect, test } from 'bun:test'
import { creation, everyState, leap, queuedRun, runAt } from '../support/store-runs.ts'
import { openTempStore } from '../support/store-temp.ts'

test('a copy that was begun before its trouble was stored has none', async () => {
  const temp = await openTempStore()
  try {
    const keeping = everyState().find(each => each.name.startsWith('keeping'))
    if (!keeping) throw new Error('no such state')
    const queued = queuedRun()
    const run = runAt(queued, 0, keeping.state, keeping.attempts)
    await temp.store.create(creation(queued))
    await temp.store.commit(leap(queued, run))
    temp.store.db.run(`UPDATE steps SET state = json_remove(state, '$.trouble') WHERE status = 'keeping'`)
    expect((await (await temp.reopen()).run(run.id))?.steps[0]).toMatchObject({ status: 'keeping', trouble: null })
  } finally {
    await temp.dispose()
  }
})

test('a running step that names its job in its state, too, is read as one that does not, and written so', async () => {
  const temp = await openTempStore()
  try {
    const running = everyState().find(each => each.name === 'running')
    if (!running) throw new Error('no such state')
    const queued = queuedRun()
    const run = runAt(queued, 0, running.state, running.attempts)
    await temp.store.create(creation(queued))
    await temp.store.commit(leap(queued, run))
    const stored = await temp.store.run(run.id)
    const state = () =>
      temp.store.db.query<{ state: string }, []>(`SELECT state FROM steps WHERE status = 'running'`).get()
    expect(JSON.parse(state()?.state ?? '')).not.toHaveProperty('job')
    temp.store.db.run(`UPDATE steps SET state = json_set(state, '$.job', json('{"ref":["ref",1,{"a":null}]}'))`)
    const store = await temp.reopen()
    expect(JSON.parse(state()?.state ?? '')).toHaveProperty('job')
    expect(await store.run(run.id)).toEqual(stored)
  } finally {
    await temp.dispose()
  }
})

test('a plan that says nothing of the shapes of its pictures is read as one that knows none', async () => {
  const temp = await openTempStore()
  try {
    const run = queuedRun({ pictures: ['https://pictures.example/a.png'] })
    await temp.store.create(creation(run))
    expect(await temp.store.run(run.id)).toEqual(run)
    expect(run.steps[0]?.pictureShapes).toEqual([[{ width: 40, height: 30 }]])
    temp.store.db.run(`UPDATE run_inputs SET plan = json_remove(plan, '$[0].pictureShapes', '$[1].pictureShapes')`)
    const store = await temp.reopen()
    expect(await store.run(run.id)).toEqual({
      ...run,
      steps: run.steps.map(step => ({ ...step, pictureShapes: [] })),
    })
  } finally {
    await temp.dispose()
  }
})
