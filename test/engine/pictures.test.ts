/** Input pictures in memory: what a step reads, and that all steps together never hold more than there is room for. */
import { describe, expect, test } from 'bun:test'
import { stepError } from '../../src/core/errors.ts'
import type { Picture } from '../../src/core/ports.ts'
import { LIMITS, type Run, type Step } from '../../src/core/run.ts'
import { PictureRoom, type Place } from '../../src/engine/picture-room.ts'
import { mustEmbed, type PictureDeps, pictureNeed, picturesFor, type Target } from '../../src/engine/pictures.ts'
import { RemoteProvider } from '../support/remote-provider.ts'
import { runOf, seeded } from '../support/runs.ts'
import { VirtualClock } from '../support/virtual-clock.ts'
import { World } from '../support/world.ts'

const MB = 1_000_000
const turns = async (count = 20): Promise<void> => {
  for (let i = 0; i < count; i += 1) await new Promise(resolve => setImmediate(resolve))
}

/** These rooms hold numbers only, and in a process of thousands of tests a collection takes a third of a second. */
const noCollector = (): void => {}

describe('the room', () => {
  const never = new AbortController().signal
  const enter = (room: PictureRoom, bytes: number, linked = false, quit = never) => {
    const seen: { place: Place | null | 'waits' } = { place: 'waits' }
    void room.enter({ key: 'key', bytes, known: bytes, linked }, quit).then(place => {
      seen.place = place
    })
    return seen
  }

  test('serves who comes first, however small those behind are; who needs none waits for nobody', async () => {
    const room = new PictureRoom(noCollector)
    const [first, large, small, none] = [
      enter(room, 40 * MB),
      enter(room, 40 * MB),
      enter(room, 1 * MB),
      enter(room, 0),
    ]
    await turns()
    expect([first.place === 'waits', large.place, small.place, none.place === 'waits']).toEqual([
      false,
      'waits',
      'waits',
      false,
    ])
    ;(first.place as Place).leave()
    await turns()
    expect([large.place === 'waits', small.place === 'waits']).toEqual([false, false])
  })

  test('gives back what turned out not to be needed, and nothing twice', async () => {
    const room = new PictureRoom(noCollector)
    const first = enter(room, 60 * MB)
    await turns()
    ;(first.place as Place).keep(2 * MB)
    const second = enter(room, 60 * MB)
    await turns()
    ;(first.place as Place).leave()
    ;(first.place as Place).leave()
    const third = enter(room, 10 * MB)
    await turns()
    expect([second.place === 'waits', third.place]).toEqual([false, 'waits'])
  })

  test('keeps links apart: hosts that dribble hold up links alone', async () => {
    const room = new PictureRoom(noCollector)
    const links = [enter(room, 48 * MB, true), enter(room, 48 * MB, true)]
    const stored = enter(room, 48 * MB)
    await turns()
    expect([links[0]?.place === 'waits', links[1]?.place, stored.place === 'waits']).toEqual([false, 'waits', false])
  })

  /** A submit that reads a link: it has no more than a step of room at first. */
  const open = async (room: PictureRoom, key: string, bytes = 30 * MB): Promise<Place> =>
    (await room.enter({ key, bytes, known: 0, linked: true }, never)) as Place
  const grow = (place: Place, bytes: number, quit = never) => {
    const seen: { given: boolean | 'waits' } = { given: 'waits' }
    void place.grow(bytes, quit).then(isGiven => {
      seen.given = isGiven
    })
    return seen
  }

  test('gives a link what has come of it: sixty that dribble are read beside one that comes whole', async () => {
    const room = new PictureRoom(noCollector)
    for (let n = 0; n < 60; n += 1)
      expect(room.enterNow({ key: 'slow', bytes: 30 * MB, known: 0, linked: true })).not.toBeNull()
    const fast = await open(room, 'fast')
    expect(await fast.grow(30 * MB, never)).toBe(true)
    expect(await fast.grow(30 * MB + 1, never)).toBe(false)
  })

  test('has memory collected when large pictures were let go, and leaves small ones alone', async () => {
    const ofSize = (bytes: number) => ({ key: 'key', bytes, known: bytes, linked: false })
    let times = 0
    const room = new PictureRoom(() => {
      times += 1
    })
    for (const megabytes of [3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3]) room.enterNow(ofSize(megabytes * MB))?.leave()
    await turns()
    expect(times).toBe(0)
    for (const megabytes of [8, 8, 8, 8, 8]) room.enterNow(ofSize(megabytes * MB))?.leave()
    await turns()
    expect(times).toBe(1)
  })

  test('never lets links wait for one another for ever, whoever grows when', async () => {
    const random = seeded(7)
    for (let round = 0; round < 4; round += 1) {
      const room = new PictureRoom(noCollector)
      const sizes = Array.from({ length: 24 }, () => Math.ceil(random() * 48) * MB)
      let ended = 0
      const read = async (bytes: number, n: number): Promise<void> => {
        const place = await open(room, `key ${n % 3}`, bytes)
        for (let held = 0; held < bytes; ) {
          held = Math.min(bytes, held + Math.ceil(random() * 4 * MB))
          expect(await place.grow(held, never)).toBe(true)
          if (random() < 0.5) await turns(1)
        }
        place.leave()
        ended += 1
      }
      await Promise.all(sizes.map(read))
      expect(ended).toBe(24)
      expect(room.enterNow({ key: 'next', bytes: 64 << 20, known: 64 << 20, linked: true })).not.toBeNull()
    }
  })

  test('serves the key that holds least: who fills the room waits for itself', async () => {
    const room = new PictureRoom(noCollector)
    const full = [await open(room, 'greedy'), await open(room, 'greedy'), await open(room, 'greedy')]
    expect(await full[0]?.grow(30 * MB, never)).toBe(true)
    expect(await full[1]?.grow(30 * MB, never)).toBe(true)
    const more = grow(full[2] as Place, 20 * MB)
    const other = await open(room, 'modest', 25 * MB)
    const its = grow(other, 25 * MB)
    await turns()
    expect([more.given, its.given]).toEqual(['waits', 'waits'])
    full[0]?.leave()
    await turns()
    expect([more.given, its.given]).toEqual(['waits', true])
  })

  test('gives a key that fills the room of storage no turn before others either', async () => {
    const room = new PictureRoom(noCollector)
    const first = enter(room, 40 * MB)
    const [second, other] = [
      enter(room, 40 * MB),
      room.enter({ key: 'other', bytes: 20 * MB, known: 20 * MB, linked: false }, never),
    ]
    expect(await other).not.toBeNull()
    expect([first.place === 'waits', second.place]).toEqual([false, 'waits'])
  })

  test('takes no wish of one that gave up, and none after it has left', async () => {
    const room = new PictureRoom(noCollector)
    const [first, second] = [await open(room, 'a', 48 * MB), await open(room, 'a', 48 * MB)]
    expect(await first.grow(48 * MB, never)).toBe(true)
    const quit = new AbortController()
    const gone = grow(second, 48 * MB, quit.signal)
    quit.abort()
    first.leave()
    await turns()
    expect([gone.given, await first.grow(1, never), await second.grow(48 * MB, never)]).toEqual([false, false, true])
  })

  test('forgets who gives up in the line, and lets those behind it in', async () => {
    const room = new PictureRoom(noCollector)
    const quit = new AbortController()
    enter(room, 40 * MB)
    const [gone, behind] = [enter(room, 40 * MB, false, quit.signal), enter(room, 20 * MB)]
    quit.abort()
    await turns()
    expect([gone.place, behind.place === 'waits']).toEqual([null, false])
  })

  test('once shut, lets nobody in, those in the line neither', async () => {
    const room = new PictureRoom(noCollector)
    enter(room, 60 * MB)
    const waiting = enter(room, 60 * MB)
    room.shut()
    const late = enter(room, 1)
    await turns()
    expect([waiting.place, late.place]).toEqual([null, null])
  })
})

const BYTES_ONLY: Target = { provider: { id: 'p', takes: { url: false, dataUriBytes: 30 * MB } }, inline: false }

/** Media and links by their size, in a step with these pictures. */
function reading(pictures: string[], sizes: Record<string, number>) {
  const asked: { ref: string; most: number }[] = []
  const dropped: number[] = []
  const kept: number[] = []
  const deps: PictureDeps = {
    clock: new VirtualClock(),
    observer: { fault() {} },
    room: new PictureRoom(noCollector),
    media: {
      find: async id => ({ bytes: sizes[`media:${id}`] ?? 0 }) as Awaited<ReturnType<PictureDeps['media']['find']>>,
    },
    async readPicture(ref, _signal, most) {
      asked.push({ ref, most })
      const bytes = sizes[ref] ?? 0
      if (bytes > most) return { ok: false, error: stepError('invalid_input', 'too large') }
      return { ok: true, picture: { mime: 'image/png', bytes: new Uint8Array(bytes) } }
    },
    publicLink: () => null,
  }
  const run = runOf({ a: [] })
  const step = { ...run.steps[0], pictures } as Step
  const place: Place = {
    grow: async () => true,
    keep: left => kept.push(left),
    drop: bytes => dropped.push(bytes),
    leave() {},
  }
  const signal = new AbortController().signal
  return {
    asked,
    dropped,
    kept,
    need: (target: Target = BYTES_ONLY) => pictureNeed(deps, run, step, target),
    async read(target: Target = BYTES_ONLY) {
      const need = await pictureNeed(deps, run, step, target)
      return need.ok ? picturesFor(deps, need, target, place, signal) : need
    },
  }
}

describe('the pictures of a step', () => {
  const [A, B] = ['media:0190c0de-0000-7000-8000-00000000000a', 'media:0190c0de-0000-7000-8000-00000000000b']
  const [X, Y] = ['https://cdn.example.org/x.png', 'https://cdn.example.org/y.png']

  test('are read once each, stand where the caller gave them, and count as often as they stand there', async () => {
    const step = reading([A, B, A, A], { [A]: 300, [B]: 30 })
    expect(await step.need()).toMatchObject({ ok: true, bytes: 930, linked: false })
    const read = await step.read()
    const [a, b] = [300, 30].map(bytes => `data:image/png;base64,${Buffer.alloc(bytes).toString('base64')}`) as [
      string,
      string,
    ]
    expect(read).toEqual({ ok: true, refs: [a, b, a, a] })
    expect([step.asked.map(each => each.ref), step.kept]).toEqual([[A, B], [930]])
  })

  test('of a known size are refused together before a byte is read', async () => {
    const step = reading(Array<string>(16).fill(A), { [A]: 24 * MB })
    expect(await step.read()).toMatchObject({
      ok: false,
      error: {
        code: 'invalid_input',
        message: 'the input pictures have 384000000 bytes together; one request takes at most 48000000',
      },
    })
    expect(step.asked).toEqual([])
  })

  test('behind links are refused together when they are too many, and nothing is read beyond that', async () => {
    const step = reading([X, Y, A], { [X]: 25 * MB, [Y]: 15 * MB, [A]: 9 * MB })
    expect(await step.need()).toMatchObject({ bytes: LIMITS.requestPictureBytes, known: 9 * MB, linked: true })
    expect(await step.read()).toMatchObject({
      ok: false,
      error: { code: 'invalid_input', message: expect.stringContaining('together') as unknown },
    })
    expect(step.asked.map(({ most }) => most)).toEqual([30 * MB, 14 * MB])
  })

  test('behind links may be as large as the provider takes one', async () => {
    const step = reading([X], { [X]: 31 * MB })
    expect(await step.read()).toMatchObject({
      ok: false,
      error: { code: 'invalid_input', message: expect.stringContaining('p takes at most 30000000') as unknown },
    })
  })

  test('that are too large are told what helps: a public address only where a link would be taken', async () => {
    const told = async (takes: Target['provider']['takes'], picture: string, inline = false) => {
      const step = reading([picture], { [A]: 31 * MB, [X]: 32 * MB })
      const read = await step.read({ provider: { id: 'p', takes }, inline })
      return read.ok ? null : read.error.message
    }
    const links = { url: true, dataUriBytes: 30 * MB }
    const smaller = 'make it smaller, or name another provider'
    const is = 'the input picture has'
    expect(await told(links, A)).toBe(`${is} 31000000 bytes; without BABYCHAIN_PUBLIC_URL p takes at most 30000000`)
    expect(await told(links, A, true)).toBe(`${is} 31000000 bytes; p takes at most 30000000: ${smaller}`)
    expect(await told(BYTES_ONLY.provider.takes, A)).toBe(`${is} 31000000 bytes; p takes at most 30000000: ${smaller}`)
    expect(await told(BYTES_ONLY.provider.takes, X)).toBe(
      `${is} over 30000000 bytes; p takes at most 30000000: ${smaller}`,
    )
    // It would take more, but nobody reads more from a link.
    const most = LIMITS.pictureBytes
    expect(await told({ url: false, dataUriBytes: 50 * MB }, X)).toBe(
      `${is} over ${most} bytes; p takes at most ${most}: ${smaller}`,
    )
  })

  test('that a provider takes as uploads need the room of the largest, and have no limit together', async () => {
    const uploaded: Picture[] = []
    const upload = async (picture: Picture) => {
      uploaded.push(picture)
      return { ok: true as const, ref: `up:${picture.bytes.length}` }
    }
    const target: Target = { provider: { ...BYTES_ONLY.provider, upload }, inline: false }
    const step = reading([A, B, A, B, A, B], { [A]: 20 * MB, [B]: 10 * MB })
    expect(await step.need(target)).toMatchObject({ bytes: 20 * MB })
    const refs = [1, 2, 3].flatMap(() => ['up:20000000', 'up:10000000'])
    expect(await step.read(target)).toEqual({ ok: true, refs })
    expect([uploaded.length, step.kept, step.dropped]).toEqual([2, [0], [20 * MB, 10 * MB]])
  })

  test('are embedded by force where no link and no upload leads there', () => {
    const upload = async () => ({ ok: true as const, ref: 'x' })
    const takes = { url: true, dataUriBytes: 1 }
    const cases = [
      mustEmbed({ id: 'links', takes }, {}, true),
      mustEmbed({ id: 'links', takes }, {}, false),
      mustEmbed({ id: 'links', takes }, { inline: true }, true),
      mustEmbed({ id: 'uploads', takes, upload }, {}, false),
      mustEmbed({ id: 'bytes', takes: { url: false, dataUriBytes: 1 } }, {}, true),
    ]
    expect(cases).toEqual([false, true, true, false, true])
  })
})

/** A world whose pictures come when the test says so. */
interface Scene {
  world: World
  provider: RemoteProvider
  /** What was read, or is being read. */
  reads: string[]
  /** From now on every picture comes at once. */
  come(): void
}

async function scene(bytes: number, play: (scene: Scene) => Promise<void>, faults: string[] = []): Promise<void> {
  const reads: string[] = []
  const { promise: coming, resolve: come } = Promise.withResolvers<void>()
  const bytesOnly = { takes: { url: false, dataUriBytes: LIMITS.requestPictureBytes } }
  const world = new World({
    providers: now => [Object.assign(new RemoteProvider('p', now), bytesOnly)],
    pictures: {
      bytes,
      async read(ref) {
        reads.push(ref)
        await coming
        return { ok: true, picture: { mime: 'image/png', bytes: new Uint8Array(3) } }
      },
    },
  })
  try {
    await world.start()
    await play({ world, provider: world.providers[0] as RemoteProvider, reads, come })
    expect(world.faults).toEqual(faults)
    const scope = { runId: expect.any(String), stepId: expect.any(String), attempt: 1, provider: 'p' }
    expect(world.scopes).toEqual(faults.map(() => ({ where: 'pictures', ...scope })))
  } finally {
    await world.close()
  }
}

const picture = (n: number): string => `media:0190c0de-0000-7000-8000-${String(n).padStart(12, '0')}`

/** A run of one step with one picture. */
async function withPicture(world: World, n: number, more: Partial<Run> = {}): Promise<Run> {
  return withRef(world, picture(n), more)
}

async function withRef(world: World, ref: string, more: Partial<Run> = {}): Promise<Run> {
  const [first] = runOf({ a: [] }).steps
  const step = { ...first, role: 'image_to_image', pictures: [ref] } as Step
  return world.create({ a: [] }, { steps: [step], ...more })
}

/** What is told of pictures that nobody reads. */
const STUCK = 'pictures: Error: the input pictures were not read within 180000 ms'

const stored = (world: World, run: Run | undefined): Promise<Run | null> => world.process.store.run(run?.id ?? '')
const statuses = (world: World, runs: readonly Run[]): Promise<string[]> =>
  Promise.all(runs.map(async run => (await stored(world, run))?.status ?? 'lost'))

describe('steps side by side', () => {
  test('read what there is room for, the others wait without an attempt of theirs ending, and all of them end', () =>
    scene(20 * MB, async ({ world, provider, reads, come }) => {
      const runs: Run[] = []
      for (let n = 0; n < 8; n += 1) runs.push(await withPicture(world, n))
      const plain = await world.create({ a: [] })
      await world.settle(() => false, 60_000)
      expect([reads.length, provider.jobs.length, await statuses(world, [plain])]).toEqual([3, 1, ['succeeded']])
      come()
      await world.settle()
      expect(await statuses(world, runs)).toEqual(Array(8).fill('succeeded'))
      for (const run of runs) expect((await stored(world, run))?.steps[0]?.attempts.length).toBe(1)
      expect([reads.length, provider.arrived.length]).toEqual([8, 9])
    }))

  test('may wait for longer than a submit may take', () =>
    scene(
      28 * MB,
      async ({ world, reads, come }) => {
        const runs: Run[] = []
        for (let n = 1; n <= 6; n += 1) runs.push(await withPicture(world, n))
        await world.settle(() => false, 330_000)
        expect(reads).toEqual([1, 2, 3, 4].map(picture))
        come()
        await world.settle()
        expect(await statuses(world, runs)).toEqual(Array(6).fill('succeeded'))
        // The reads had a limit, the wait has none.
        const attempts = await Promise.all(runs.map(async run => (await stored(world, run))?.steps[0]?.attempts.length))
        expect(attempts).toEqual([2, 2, 1, 1, 1, 1])
      },
      [STUCK, STUCK],
    ))

  test('leave the line when they are canceled: nothing is read or submitted', () =>
    scene(40 * MB, async ({ world, provider, reads, come }) => {
      const [first, second] = [await withPicture(world, 1), await withPicture(world, 2)]
      await world.settle(() => false, 10_000)
      await world.process.registry.cancel(second.id)
      await world.settle(() => false, 5_000)
      expect(await statuses(world, [first, second])).toEqual(['running', 'canceled'])
      come()
      await world.settle()
      expect([await statuses(world, [first]), reads, provider.jobs.length]).toEqual([['succeeded'], [picture(1)], 1])
    }))

  test('leave the line at their deadline: a job that nobody waits for is not paid', () =>
    scene(40 * MB, async ({ world, provider, reads, come }) => {
      await withPicture(world, 1)
      const second = await withPicture(world, 2, { deadlineAt: world.clock.now() + 60_000 })
      await world.settle(() => false, 90_000)
      const late = await stored(world, second)
      expect([late?.status, late?.error?.code, reads]).toEqual(['failed', 'deadline_exceeded', [picture(1)]])
      come()
      await world.settle()
      expect(provider.jobs.filter(job => job.stepId === late?.steps[0]?.id)).toEqual([])
    }))

  test('are left to the next start by a stop, and submitted once', () =>
    scene(40 * MB, async ({ world, provider, reads, come }) => {
      const runs = [await withPicture(world, 1), await withPicture(world, 2), await withPicture(world, 3)]
      await world.settle(() => false, 10_000)
      const drained = world.process.registry.drain()
      come()
      await world.settle(() => false, 1_000)
      await drained
      expect([reads.length, provider.jobs.length]).toEqual([1, 1])
      await world.restart()
      await world.settle()
      expect(await statuses(world, runs)).toEqual(['succeeded', 'succeeded', 'succeeded'])
      expect(provider.jobs.length).toBe(3)
    }))

  test('come back after a crash as many at a time as before', () =>
    scene(20 * MB, async ({ world, provider, reads, come }) => {
      const runs: Run[] = []
      for (let n = 0; n < 8; n += 1) runs.push(await withPicture(world, n))
      await world.settle(() => false, 10_000)
      await world.restart()
      await world.settle(() => false, 10_000)
      expect(reads.length).toBe(6)
      come()
      await world.settle()
      expect(await statuses(world, runs)).toEqual(Array(8).fill('succeeded'))
      expect(provider.jobs.length).toBe(8)
    }))

  test('are left while they are read, when they are canceled or too late, though their reader does not obey', () =>
    scene(20 * MB, async ({ world, provider, reads }) => {
      const first = await withPicture(world, 1)
      const second = await withPicture(world, 2, { deadlineAt: world.clock.now() + 60_000 })
      await world.settle(() => false, 10_000)
      expect(reads).toEqual([picture(1), picture(2)])
      await world.process.registry.cancel(first.id)
      await world.settle(() => false, 5_000)
      expect(await statuses(world, [first, second])).toEqual(['canceled', 'running'])
      await world.settle(() => false, 60_000)
      const late = await stored(world, second)
      expect([late?.status, late?.error?.code, provider.jobs]).toEqual(['failed', 'deadline_exceeded', []])
      expect(world.process.registry.stats().inFlight).toEqual({ p: 0 })
    }))

  test('wait for storage that stands still, and go on when it gives again', () =>
    scene(
      20 * MB,
      async ({ world, provider, come }) => {
        const run = await withPicture(world, 1)
        await world.settle(() => false, 182_000)
        const waiting = await stored(world, run)
        expect(waiting?.steps[0]?.attempts).toMatchObject([{ error: { code: 'storage_unavailable' } }])
        come()
        await world.settle()
        expect([await statuses(world, [run]), provider.jobs.length]).toEqual([['succeeded'], 1])
      },
      [STUCK],
    ))
})

test('what a finished step gave and is lost is our fault; the way on is that step, not another picture of the caller', async () => {
  const bytesOnly = { takes: { url: false, dataUriBytes: LIMITS.requestPictureBytes } }
  const gone = stepError('input_fetch_failed', 'media:x is no longer stored')
  const world = new World({
    inline: true,
    providers: now => [Object.assign(new RemoteProvider('p', now), bytesOnly)],
    pictures: { bytes: MB, read: async () => ({ ok: false, error: gone }) },
  })
  await world.start()
  const wired = await world.finish((await world.create({ a: [], b: ['a'] })).id)
  expect(wired.error).toMatchObject({ code: 'internal', blame: 'us', retryable: false })
  expect(wired.error?.message).toBe('what a gave is lost: media:x is no longer stored')
  expect(wired.error?.hint).toContain('"from_step_key": "a"')
  expect(wired.steps[1]?.attempts).toHaveLength(1)
  // The caller's own picture is the caller's to give again.
  const given = await world.finish((await withPicture(world, 1)).id)
  expect(given.error).toEqual(gone)
  await world.close()
})

/** Hosts that hold on for so long until their links are given up, beside others that answer at once. */
async function slowHosts(
  ms: number,
  play: (world: World, since: (run: Run) => number) => Promise<void>,
): Promise<void> {
  const bytesOnly = { takes: { url: false, dataUriBytes: LIMITS.requestPictureBytes } }
  const world: World = new World({
    concurrency: () => 4,
    inline: true,
    providers: now => ['p', 'q'].map(id => Object.assign(new RemoteProvider(id, now), bytesOnly)),
    pictures: {
      bytes: MB,
      async read(ref, _signal, _most, grow) {
        if (!ref.startsWith('https://slow')) {
          expect(await grow(25 * MB)).toBe(true)
          return { ok: true, picture: { mime: 'image/png', bytes: new Uint8Array(3) } }
        }
        const { promise, resolve } = Promise.withResolvers<void>()
        world.clock.at(world.clock.now() + ms, resolve)
        return promise.then(() => ({ ok: false, error: stepError('input_fetch_failed', 'too slow') }))
      },
    },
  })
  const arrived = new Map<string, number>()
  const begin = world.clock.now()
  const since = (run: Run): number => {
    for (const { arrived: jobs } of world.providers)
      for (const { runId } of jobs) if (!arrived.has(runId)) arrived.set(runId, (world.clock.now() - begin) / 1_000)
    return arrived.get(run.id) ?? Number.POSITIVE_INFINITY
  }
  try {
    await world.start()
    await play(world, since)
  } finally {
    await world.close()
  }
}

describe('links of hosts that dribble', () => {
  const at = (provider: string, apiKeyId: string): Partial<Run> => ({ apiKeyId, providerOrder: { a: [provider] } })

  test('are read side by side: a run without pictures waits for their places alone', () =>
    slowHosts(10_000, async (world, since) => {
      for (let n = 0; n < 16; n += 1) await withRef(world, `https://slow.example/${n}`, at('p', 'bad'))
      // Both providers have four places.
      const plain = await world.create({ a: [] }, at('p', 'good'))
      await world.settle(() => since(plain) < Number.POSITIVE_INFINITY)
      expect(since(plain)).toBeLessThanOrEqual(20)
    }))

  test('hold up no links of another key', () =>
    slowHosts(10_000, async (world, since) => {
      for (let n = 0; n < 4; n += 1) await withRef(world, `https://slow.example/${n}`, at('p', 'bad'))
      const linked = await withRef(world, 'https://fast.example/1', at('q', 'good'))
      await world.settle(() => since(linked) < Number.POSITIVE_INFINITY)
      expect(since(linked)).toBe(0)
    }))
})
