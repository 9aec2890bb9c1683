/** Server-sent events: exactly once and in order, however often the connection is cut. */
import { afterAll, beforeAll, describe, expect, test } from 'bun:test'
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

test('a reader that goes away leaves no timer behind', async () => {
  world.provider.instant = true
  const id = await ended()
  const held = await world.run(seed)
  await world.runToEnd(held)
  const before = world.clock.nextAt
  const gone = new AbortController()
  world.provider.instant = false
  const live = await world.run(seed)
  const response = await world.api.fetch(
    new Request(world.request('GET', `/api/v1/runs/${live}/events`), { signal: gone.signal }),
  )
  await world.quiet()
  gone.abort()
  await response.text().catch(() => '')
  world.provider.instant = true
  await world.runToEnd(live)
  await world.quiet()
  expect(world.clock.nextAt).toBe(before)
  expect(id).not.toBe(held)
})
