/**
 * Crash at every port call: the process dies at call k = 1, 2, 3 … until a run passes untouched, before the call takes
 * effect and after it has; then again in the middle of the recovery. After a restart on the same database every accepted
 * run ends, no step is taken twice by a provider, and every run has exactly one terminal callback id.
 */
import { describe, expect, test } from 'bun:test'
import { stepError } from '../../src/core/errors.ts'
import { isEnded } from '../../src/core/run.ts'
import { type Behavior, RemoteProvider } from '../support/remote-provider.ts'
import { DIAMOND, type Graph, LINE } from '../support/runs.ts'
import { type Crash, World } from '../support/world.ts'

interface Scene {
  name: string
  graph: Graph
  script?: (n: number) => Behavior
  receiver?: (n: number) => number
  cancel?: boolean
  ends: readonly string[]
}

const SCENES: Scene[] = [
  { name: 'a line of two steps', graph: LINE, ends: ['succeeded'] },
  { name: 'a fan-out with a join', graph: DIAMOND, ends: ['succeeded'] },
  {
    name: 'a rate limit, a lost answer and an expired link',
    graph: LINE,
    ends: ['succeeded'],
    script: n => TROUBLE[n] ?? { type: 'work' },
  },
  { name: 'a receiver that fails first', graph: { a: [] }, ends: ['succeeded'], receiver: n => (n < 2 ? 500 : 200) },
  {
    name: 'a refused content',
    graph: { a: [], b: [], c: [], d: ['a'] },
    ends: ['failed'],
    script: () => ({ type: 'refuse', error: stepError('content_rejected', 'no') }),
  },
  { name: 'a cancel under way', graph: LINE, cancel: true, ends: ['canceled', 'succeeded'] },
  {
    name: 'a cancel while a submit is looked up',
    graph: LINE,
    cancel: true,
    ends: ['canceled', 'succeeded'],
    script: () => ({ type: 'swallow' }),
  },
]
const TROUBLE: Behavior[] = [
  { type: 'refuse', error: stepError('provider_rate_limited', 'slow') },
  { type: 'swallow' },
  { type: 'expire', times: 1 },
]

/** Plays a scene with crashes; gives how many port calls the last process made. */
async function play(scene: Scene, crashes: Crash[]): Promise<number> {
  const world = new World({ providers: now => [new RemoteProvider('p', now, scene.script)] })
  if (scene.receiver) world.receiver = scene.receiver
  try {
    await world.start()
    world.calls = []
    world.crash = crashes[0] ?? null
    let run = await world.create(scene.graph)
    for (const next of [...crashes.slice(1), null]) {
      if (scene.cancel && !world.isDead) {
        await world.settle(() => (world.providers[0]?.jobs.length ?? 0) > 0)
        if (!world.isDead) void world.process.registry.cancel(run.id)
      }
      await world.settle()
      if (!world.isDead) break
      world.calls = []
      world.crash = next
      await world.restart()
      // A create that was not answered was not accepted: its caller sends it again.
      if (!world.isDead && !(await world.process.store.run(run.id))) run = await world.create(scene.graph)
    }
    await world.settle()
    const calls = world.calls.length
    await check(world, run.id, scene)
    return calls
  } finally {
    await world.close()
  }
}

async function check(world: World, runId: string, scene: Scene): Promise<void> {
  const { store } = world.process
  const run = await store.run(runId)
  if (!run) throw new Error('the run is lost')
  expect(isEnded(run)).toBe(true)
  expect(scene.ends).toContain(run.status)
  for (const step of run.steps) expect(world.providers[0]?.jobsOf(step.id)).toBeLessThanOrEqual(1)
  const terminal = (await store.events(runId, 0, 1_000)).filter(line =>
    ['run.succeeded', 'run.failed', 'run.canceled'].includes(line.type),
  )
  expect(terminal.length).toBe(1)
  expect(new Set(world.received.map(each => each.id)).size).toBe(1)
  expect(new Set(world.received.map(each => each.body)).size).toBe(1)
  expect((await store.deliveriesOf(runId)).map(each => each.status)).toEqual(['delivered'])
  expect(await store.due(Number.MAX_SAFE_INTEGER, 10)).toEqual([])
}

describe.each(SCENES)('$name', scene => {
  test.each(['before', 'after'] as const)(
    'survives a death at every port call, %s it takes effect',
    async when => {
      const untouched = await play(scene, [])
      expect(untouched).toBeGreaterThan(10)
      for (let call = 1; call <= untouched + 1; call += 1) await play(scene, [{ call, when }])
    },
    60_000,
  )
})

test('where nothing can be looked up, only a death between the note and the answer leaves a step in doubt', async () => {
  const inDoubt = new Set<string>()
  const fates = { lost: 0, whole: 0 }
  for (const when of ['before', 'after'] as const) {
    for (let call = 1, calls = Number.POSITIVE_INFINITY; call <= calls; call += 1) {
      const world = new World({ providers: now => [new RemoteProvider('p', now)] })
      world.providers[0]!.canFind = false
      await world.start()
      world.calls = []
      world.crash = { call, when }
      const run = await world.create(LINE)
      await world.settle()
      const died = world.calls[call - 1] ?? ''
      if (world.isDead) await world.restart()
      else calls = 0
      const accepted = await world.process.store.run(run.id)
      if (accepted) {
        const ended = await world.finish(run.id)
        if (ended.status === 'succeeded') fates.whole += 1
        else {
          fates.lost += 1
          inDoubt.add(`${when} ${died}`)
          expect(ended.error?.code).toBe('outcome_unknown')
        }
      }
      for (const step of run.steps) expect(world.providers[0]!.jobsOf(step.id)).toBeLessThanOrEqual(1)
      await world.close()
    }
  }
  expect([...inDoubt].toSorted()).toEqual(['after p.start', 'after store.noteSubmit', 'before store.commit'])
  expect(fates.whole).toBeGreaterThan(5 * fates.lost)
}, 60_000)

test('survives a second death at every port call of the recovery', async () => {
  const scene = SCENES[0] as Scene
  const untouched = await play(scene, [])
  for (let call = 1; call <= untouched; call += 3) {
    for (let again = 1; again <= 14; again += 1)
      await play(scene, [
        { call, when: 'after' },
        { call: again, when: again % 2 ? 'before' : 'after' },
      ])
  }
}, 120_000)
