/** Server-sent events: exactly once and in order, however often the connection is cut. */
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'bun:test'
import { overlay } from '../../src/app/tracing/overlay.ts'
import type { RunEvent } from '../../src/core/run.ts'
import seed from '../fixtures/seed.request.json'
import { HttpWorld } from '../support/http-world.ts'
import { seeded } from '../support/runs.ts'

interface Line {
  id: number
  event: string
  data: {
    seq: number
    type: string
    at: string
    run_id: string
    step_key: string | null
    data: Record<string, unknown>
  }
}

let world: HttpWorld
beforeAll(async () => {
  world = await HttpWorld.open()
})
afterAll(() => world.close())

const parse = (text: string): Line[] =>
  text
    .split('\n\n')
    .map(block =>
      Object.fromEntries(
        block.split('\n').map(line => [line.slice(0, line.indexOf(':')), line.slice(line.indexOf(':') + 2)]),
      ),
    )
    .filter(block => 'event' in block)
    .map(({ id, event, data }) => ({
      id: Number(id),
      event: String(event),
      data: JSON.parse(String(data)) as Line['data'],
    }))

async function ended(): Promise<string> {
  world.provider.instant = true
  const id = await world.run(seed)
  await world.runToEnd(id)
  return id
}

const get = (id: string, { query = '', lastEventId }: { query?: string; lastEventId?: string } = {}) =>
  world.ask('GET', `/api/v1/runs/${id}/events${query}`, {
    headers: lastEventId === undefined ? {} : { 'last-event-id': lastEventId },
  })

test('tell the whole story of a run, numbered from 1', async () => {
  const id = await ended()
  const response = await get(id)
  expect(Object.fromEntries(response.headers)).toMatchObject({
    'content-type': 'text/event-stream; charset=utf-8',
    'x-accel-buffering': 'no',
    'cache-control': 'no-cache, no-transform',
  })
  const text = await response.text()
  expect(text).toStartWith('retry: 2000\n\n')
  const lines = parse(text)
  expect(lines.map(line => line.id)).toEqual(lines.map((_, i) => i + 1))
  expect(lines.map(line => line.event)).toEqual(lines.map(line => line.data.type))
  expect(lines[0]?.event).toBe('run.created')
  expect(lines.at(-1)?.event).toBe('run.succeeded')
  const kept = lines.find(line => line.event === 'step.succeeded')
  expect(kept?.data).toMatchObject({ run_id: id, step_key: 'text_to_image' })
  expect(kept?.data.data.outputs).toMatchObject([{ mime: 'image/png', width: 40 }])
  expect(kept?.data.at).toMatch(/\+00:00$/)
  expect(text).not.toContain('token')
})

test('cut at random places and taken up again, come exactly once and in order', async () => {
  const random = seeded(11)
  for (let round = 0; round < 15; round++) {
    world.provider.instant = true
    const id = await world.run(seed)
    const seen: number[] = []
    let over = false
    while (!over) {
      const gone = new AbortController()
      const request = world.request('GET', `/api/v1/runs/${id}/events`, {
        headers: { 'last-event-id': String(seen.at(-1) ?? 0) },
      })
      const response = await world.api.fetch(new Request(request, { signal: gone.signal }))
      if (response.status === 204) break
      const reader = response.body?.getReader()
      const wanted = Math.floor(random() * 4)
      let text = ''
      for (let got = 0; got <= wanted; got++) {
        const next = reader?.read()
        let chunk: Awaited<typeof next> | null = null
        void next?.then(value => {
          chunk = value
        })
        await world.until(() => chunk !== null)
        const { done, value } = (await next) ?? { done: true, value: undefined }
        over = done
        if (done) break
        text += new TextDecoder().decode(value)
      }
      gone.abort()
      seen.push(...parse(text).map(line => line.id))
    }
    const run = await world.runToEnd(id)
    expect(seen).toEqual(Array.from({ length: run.lastSeq }, (_, i) => i + 1))
  }
})

describe('a reader that comes back', () => {
  test('gets what follows, by Last-Event-ID or by ?after=; the header wins', async () => {
    const id = await ended()
    const all = parse(await (await get(id)).text())
    const ids = async (more: Parameters<typeof get>[1]) =>
      parse(await (await get(id, more)).text()).map(line => line.id)
    const rest = (from: number) => all.map(line => line.id).filter(seq => seq > from)
    expect(await ids({ lastEventId: '3' })).toEqual(rest(3))
    expect(await ids({ query: '?after=4' })).toEqual(rest(4))
    expect(await ids({ query: '?after=1', lastEventId: '5' })).toEqual(rest(5))
  })

  test('with a number that the run never had gets everything again', async () => {
    const id = await ended()
    for (const lastEventId of ['9999', 'abc', '-1', '99999999999999999999', '']) {
      expect(parse(await (await get(id, { lastEventId })).text())[0]?.id).toBe(1)
    }
  })

  test('after the end is told not to come again', async () => {
    const id = await ended()
    const { lastSeq } = (await world.engine.run(id)) ?? { lastSeq: 0 }
    const response = await get(id, { lastEventId: String(lastSeq) })
    expect([response.status, await response.text()]).toEqual([204, ''])
  })
})

test('?after= that is no number is 400', async () => {
  const id = await ended()
  for (const query of ['?after=x', '?after=-1', '?after=1.5']) {
    expect([query, (await get(id, { query })).status]).toEqual([query, 400])
  }
})

test('a revoked key hears nothing more: its stream ends with the next event, a silent one with the next ping', async () => {
  const { key, id: keyId } = await world.json<{ key: string; id: string }>('POST', '/api/v1/keys', {
    body: { name: 'x' },
  })
  world.provider.instant = false
  const run = await world.run(seed, 'chain1', { key })
  await world.quiet()
  const loud = await world.ask('GET', `/api/v1/runs/${run}/events`, { key })
  const silent = await world.ask('GET', `/api/v1/runs/${run}/events?after=3`, { key })
  await world.quiet()
  const before = (await world.engine.run(run))?.lastSeq ?? 0
  await world.ask('POST', `/api/v1/keys/${keyId}/revoke`)
  const texts = Promise.all([loud.text(), silent.text()])
  for (let n = 0; n < 20; n += 1) {
    world.clock.step()
    await world.quiet()
  }
  const [heard] = await texts
  expect(Math.max(...parse(heard).map(line => line.id))).toBeLessThanOrEqual(before)
  world.provider.instant = true
  expect((await world.runToEnd(run)).status).toBe('succeeded')
})

test('a stream in which nothing happens ends within fifteen seconds of the end of its key', async () => {
  let isKnown = true
  const own = await HttpWorld.open(deps => ({
    ...deps,
    auth: async key => (isKnown ? deps.auth(key) : null),
    store: overlay(deps.store, {
      async *watch(_id, _after, signal) {
        await new Promise(resolve => signal.addEventListener('abort', resolve))
      },
    }),
  }))
  own.provider.instant = false
  const stream = await own.ask('GET', `/api/v1/runs/${await own.run(seed)}/events`)
  let endedAt = Number.POSITIVE_INFINITY
  const text = stream.text().finally(() => {
    endedAt = own.clock.now()
  })
  isKnown = false
  const began = own.clock.now()
  while (own.clock.now() - began <= 20_000) {
    await own.quiet()
    own.clock.step()
  }
  expect(endedAt - began).toBeLessThanOrEqual(15_000)
  expect(await text).toStartWith('retry: 2000')
  await own.close()
})

test('a reader that goes away leaves no timer behind', async () => {
  // Alone: what other tests have left to wait for ends in its own time.
  const own = await HttpWorld.open()
  own.provider.instant = true
  const held = await own.run(seed)
  await own.runToEnd(held)
  const before = own.clock.nextAt
  const gone = new AbortController()
  own.provider.instant = false
  const live = await own.run(seed)
  const response = await own.api.fetch(
    new Request(own.request('GET', `/api/v1/runs/${live}/events`), { signal: gone.signal }),
  )
  await own.quiet()
  gone.abort()
  await response.text().catch(() => '')
  own.provider.instant = true
  await own.runToEnd(live)
  await own.quiet()
  expect(own.clock.nextAt).toBe(before)
  expect(live).not.toBe(held)
  await own.close()
})

describe('open streams', () => {
  /** The most of one key and of all, as events.ts has them. */
  const [OF_A_KEY, IN_ALL] = [1_024, 2_000]
  let full: HttpWorld
  beforeEach(async () => {
    full = await HttpWorld.open()
    full.provider.instant = false
  })
  afterEach(() => full.close())

  const made = async (name: string): Promise<{ key: string; id: string }> => {
    const body = { name, rate_per_minute: null }
    const { key, id } = await full.json<{ key: string; id: string }>('POST', '/api/v1/keys', { body })
    return { key, id }
  }
  /** Past the document's check: its answer is the same a thousand times. */
  const follow = (run: string, key: string, signal?: AbortSignal): Promise<Response> => {
    const request = full.request('GET', `/api/v1/runs/${run}/events`, { key })
    return full.api.fetch(signal ? new Request(request, { signal }) : request)
  }
  const fill = async (run: string, key: string, count: number): Promise<void> => {
    for (let n = 0; n < count; n += 1) expect((await follow(run, key)).status).toBe(200)
  }

  test('are a thousand of a key and two thousand in all; the next one is told when to come again', async () => {
    const [one, two, three] = await Promise.all(['one', 'two', 'three'].map(made))
    if (!one || !two || !three) throw new Error('three keys were made')
    const runs = await Promise.all([one, two, three].map(({ key }) => full.run(seed, 'chain1', { key })))
    const [first = '', second = '', third = ''] = runs
    await fill(first, one.key, OF_A_KEY)
    const refused = await full.ask('GET', `/api/v1/runs/${first}/events`, { key: one.key })
    expect([refused.status, refused.headers.get('retry-after')]).toEqual([429, '10'])
    expect(await refused.json()).toMatchObject({
      code: 'rate_limited',
      detail: 'The key has 1024 event streams open, and may have no more.',
      hint: expect.stringContaining('?wait=60'),
    })
    // What needs no place is answered.
    const head = await full.ask('HEAD', `/api/v1/runs/${first}/events`, { key: one.key })
    expect([head.status, (await full.ask('GET', `/api/v1/runs/${first}`, { key: one.key })).status]).toEqual([200, 200])
    await fill(second, two.key, IN_ALL - OF_A_KEY)
    const other = await full.ask('GET', `/api/v1/runs/${third}/events`, { key: three.key })
    expect([other.status, await other.text()]).toEqual([429, expect.stringContaining('The server has 2000 event')])
  })

  test('give their place back however they end', async () => {
    const { key, id } = await made('one')
    const run = await full.run(seed, 'chain1', { key })
    await full.quiet()
    await fill(run, key, OF_A_KEY - 1)
    const last = async (signal?: AbortSignal): Promise<Response> => {
      const stream = await follow(run, key, signal)
      expect([stream.status, (await follow(run, key)).status]).toEqual([200, 429])
      return stream
    }
    const canceled = await last()
    await canceled.body?.cancel()
    await full.quiet()
    const gone = new AbortController()
    await last(gone.signal)
    gone.abort()
    await full.quiet()
    // With their run, all of them; then with their key.
    const ending = await last()
    await full.ask('POST', `/api/v1/runs/${run}/cancel`, { key })
    await full.runToEnd(run)
    expect(await ending.text()).toContain('event: run.canceled')
    const next = await full.run(seed, 'chain1', { key })
    for (let n = 0; n < OF_A_KEY; n += 1) expect((await follow(next, key)).status).toBe(200)
    expect((await follow(next, key)).status).toBe(429)
    await full.ask('POST', `/api/v1/keys/${id}/revoke`)
    for (let n = 0; n < 4; n += 1) {
      full.clock.step()
      await full.quiet()
    }
    const { key: other } = await made('other')
    const theirs = await full.run(seed, 'chain1', { key: other })
    await fill(theirs, other, OF_A_KEY)
  })
})

test('a stream that is over may be silent no longer than a slow reader: what is left of it is taken, or cut', async () => {
  const id = await ended()
  const silences: number[] = []
  const server = { timeout: (_: Request, seconds: number) => void silences.push(seconds), requestIP: () => null }
  const response = await world.api.fetch(world.request('GET', `/api/v1/runs/${id}/events`), server)
  await world.quiet()
  expect(silences).toEqual([0, 15])
  await response.text()
})

test('a stream that breaks off, or that is cut because nobody reads it, gives its place back', async () => {
  let log: 'is broken' | 'never ends' | 'says nothing' = 'is broken'
  const held = await HttpWorld.open(deps => ({
    ...deps,
    store: overlay(deps.store, {
      async *watch(_, after, signal): AsyncGenerator<RunEvent> {
        if (log === 'is broken') throw new Error('the log cannot be read')
        if (log === 'says nothing') await new Promise(resolve => signal.addEventListener('abort', resolve))
        for (let seq = after + 1; !signal.aborted; seq += 1) {
          yield { seq, at: 0, type: 'step.progressed', stepKey: 'text_to_image', data: { attempt: 1, progress: 0.5 } }
        }
      },
    }),
  }))
  held.provider.instant = false
  const id = await held.run(seed)
  const follow = async () => (await held.api.fetch(held.request('GET', `/api/v1/runs/${id}/events`))).status
  for (let n = 0; n < 1_030; n += 1) {
    expect(await follow()).toBe(200)
    await new Promise(resolve => setImmediate(resolve))
  }
  log = 'says nothing'
  for (let n = 0; n < 1_023; n += 1) expect(await follow()).toBe(200)
  log = 'never ends'
  expect([await follow(), await follow()]).toEqual([200, 429])
  await held.quiet()
  held.clock.advance(15_000)
  held.clock.step()
  await held.quiet()
  expect([await follow(), await follow()]).toEqual([200, 429])
  await held.close()
})
