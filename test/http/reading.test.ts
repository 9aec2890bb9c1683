/** Reading runs: ETags, waits, lists, and whose they are. */
import { afterAll, beforeAll, describe, expect, test } from 'bun:test'
import { stepError } from '../../src/core/errors.ts'
import { presentEvent, presentRun } from '../../src/http/dto/run.ts'
import seed from '../fixtures/seed.request.json'
import { HttpWorld } from '../support/http-world.ts'
import { attempt, queuedRun, runAt, T0 } from '../support/store-runs.ts'

type Run = { id: string; status: string; chain_slug: string; metadata: Record<string, string> }
interface Page {
  object: string
  data: Run[]
  has_more: boolean
  next_cursor: string | null
}

let world: HttpWorld
beforeAll(async () => {
  world = await HttpWorld.open()
})
afterAll(() => world.close())

async function held(): Promise<string> {
  world.provider.instant = false
  const id = await world.run(seed)
  await world.until(async () => (await world.engine.run(id))?.steps[0]?.status === 'running')
  return id
}

async function release(id: string): Promise<void> {
  world.provider.instant = true
  await world.runToEnd(id)
}

describe('the ETag of a run', () => {
  test('answers 304 while nothing has changed, by either path and in any form', async () => {
    const id = await world.run(seed)
    await world.runToEnd(id)
    const etag = (await world.ask('GET', `/api/v1/runs/${id}`)).headers.get('etag') ?? ''
    expect(etag).toMatch(/^"\d+-[\w-]{22}"$/)
    for (const header of [etag, `W/${etag}`, `"other", ${etag}`, '*']) {
      const again = await world.ask('GET', `/api/v1/chains/get/${id}`, { headers: { 'if-none-match': header } })
      expect([header, again.status, again.headers.get('etag'), await again.text()]).toEqual([header, 304, etag, ''])
    }
    const other = await world.ask('GET', `/api/v1/runs/${id}`, { headers: { 'if-none-match': '"other"' } })
    expect([other.status, other.headers.get('cache-control')]).toEqual([200, 'private, no-cache'])
  })

  test('changes with every step, and with progress that no commit has seen', async () => {
    world.provider.instant = false
    const id = await world.run(seed)
    const tags = new Set<string | null>()
    const note = async () => tags.add((await world.ask('GET', `/api/v1/runs/${id}`)).headers.get('etag'))
    await note()
    await world.until(async () => (await world.engine.run(id))?.steps[0]?.status === 'running')
    await note()
    await world.until(async () => JSON.stringify(await world.engine.run(id)).includes('"progress":0.5'))
    await note()
    await release(id)
    await note()
    expect(tags.size).toBe(4)
  })

  test('stays the same within a day although links are signed, and the next day the links are fresh', async () => {
    const id = await world.run(seed)
    await world.runToEnd(id)
    const read = async () => {
      const response = await world.ask('GET', `/api/v1/runs/${id}`)
      return [response.headers.get('etag'), await response.text()] as const
    }
    const [first] = await read()
    world.clock.advance(3_600_000)
    expect((await read())[0]).toBe(first)
    world.clock.advance(86_400_000)
    expect((await read())[0]).not.toBe(first)
  })
})

describe('a wait', () => {
  test('of GET ends with the run', async () => {
    const id = await held()
    const waiting = world.json<Run>('GET', `/api/v1/chains/get/${id}?wait=60`)
    await release(id)
    expect((await waiting).status).toBe('succeeded')
  })

  test('of POST answers 200 with the ended run, and says how long it would have waited', async () => {
    world.provider.instant = true
    let answer: Response | null = null
    const asked = world.ask('POST', '/api/v1/chains/chain1/runs', {
      body: seed,
      headers: { prefer: 'respond-async, wait=20' },
    })
    void asked.then(response => {
      answer = response
    })
    await world.until(() => answer !== null)
    const response = await asked
    expect([response.status, response.headers.get('preference-applied')]).toEqual([200, 'wait=20'])
    const run = (await response.json()) as Run
    expect(run.status).toBe('succeeded')
    expect(response.headers.get('location')).toBe(`/api/v1/chains/get/${run.id}`)
  })

  test('of POST answers 202 with the run as it is when the time is over; more than 60 seconds are 60', async () => {
    world.provider.instant = false
    const began = world.clock.now()
    let answer: Response | null = null
    const asked = world.ask('POST', '/api/v1/chains/chain1/runs', { body: seed, headers: { prefer: 'wait="900"' } })
    void asked.then(response => {
      answer = response
    })
    await world.until(() => answer !== null)
    const response = await asked
    expect([response.status, response.headers.get('preference-applied')]).toEqual([202, 'wait=60'])
    const run = (await response.json()) as Run
    expect(run.status).toBe('running')
    expect(world.clock.now() - began).toBeLessThan(120_000)
    await release(run.id)
  })

  test('that its reader gives up changes nothing', async () => {
    const id = await held()
    const gone = new AbortController()
    const request = new Request(world.request('GET', `/api/v1/runs/${id}?wait=60`), { signal: gone.signal })
    const waiting = world.api.fetch(request)
    await world.quiet()
    gone.abort()
    expect((await waiting).status).toBe(200)
    expect((await world.engine.run(id))?.status).toBe('running')
    await release(id)
  })

  test('ends when the server stops', async () => {
    const other = await HttpWorld.open()
    other.provider.instant = false
    const id = await other.run(seed)
    const waiting = other.json<Run>('GET', `/api/v1/runs/${id}?wait=60`)
    await other.quiet()
    other.draining.abort()
    expect((await waiting).status).not.toBe('succeeded')
    await other.close()
  })

  test('is refused when it is no number of seconds', async () => {
    const id = await world.run(seed)
    for (const wait of ['61', '-1', 'x', '1.5', '']) {
      const response = await world.ask('GET', `/api/v1/runs/${id}?wait=${wait}`)
      expect([wait, response.status]).toEqual([wait, 400])
      expect(await response.json()).toMatchObject({ errors: [{ parameter: 'wait' }] })
    }
    await release(id)
  })

  test('in a Prefer header that nobody understands is no wait', async () => {
    for (const prefer of ['wait', 'wait=soon', 'handling=strict', '']) {
      const response = await world.ask('POST', '/api/v1/chains/chain1/runs', { body: seed, headers: { prefer } })
      expect([prefer, response.status, response.headers.get('preference-applied')]).toEqual([prefer, 202, null])
    }
  })
})

describe('runs of others', () => {
  test('are as unknown as runs that never were, on every path', async () => {
    const id = await world.run(seed)
    await world.runToEnd(id)
    const never = '00000000-0000-7000-8000-00000fffffff'
    for (const [method, path] of [
      ['GET', '/api/v1/runs/ID'],
      ['GET', '/api/v1/chains/get/ID'],
      ['GET', '/api/v1/runs/ID/events'],
      ['POST', '/api/v1/runs/ID/cancel'],
      ['POST', '/api/v1/runs/ID/resume'],
    ] as const) {
      const say = async (which: string) => {
        const response = await world.ask(method, path.replace('ID', which), { key: 'key-of-bob' })
        const { request_id: _, instance: __, ...body } = (await response.json()) as Record<string, unknown>
        return [response.status, body]
      }
      const theirs = await say(id)
      expect(theirs[0]).toBe(404)
      expect(theirs).toEqual(await say(never))
    }
    expect((await world.json<Page>('GET', '/api/v1/runs', { key: 'key-of-bob' })).data).toEqual([])
  })

  test('ids that are no ids are 404, never an error', async () => {
    for (const id of ['x', '%00', '%zz', '..%2f..', 'a'.repeat(5_000), "'%20OR%201=1", '0192F0C1']) {
      expect([id, (await world.ask('GET', `/api/v1/runs/${id}`)).status]).toEqual([id, 404])
    }
  })
})

describe('the list', () => {
  const list = (query = '') => world.json<Page>('GET', `/api/v1/runs${query}`)

  test('pages through all runs, newest first, while others come in', async () => {
    const other = await HttpWorld.open()
    const made: string[] = []
    for (let i = 0; i < 7; i++) {
      made.unshift(await other.run(seed))
      other.clock.advance(i % 2) // some in the same millisecond
    }
    const seen: string[] = []
    let cursor: string | null = ''
    while (cursor !== null) {
      const page: Page = await other.json<Page>('GET', `/api/v1/runs?limit=2${cursor && `&cursor=${cursor}`}`)
      expect(page.object).toBe('list')
      expect(page.has_more).toBe(page.next_cursor !== null)
      seen.push(...page.data.map(run => run.id))
      cursor = page.next_cursor
      other.clock.advance(1)
      await other.run(seed)
    }
    expect(seen).toEqual(made)
    await other.close()
  })

  test('filters by status, chain, metadata and time, together', async () => {
    const other = await HttpWorld.open()
    const get = (query: string) => other.json<Page>('GET', `/api/v1/runs?${query}`)
    const ids = async (query: string) => (await get(query)).data.map(run => run.id)
    const a = await other.run({ ...seed, metadata: { order: '1', 'a b': 'ü' } })
    await other.runToEnd(a)
    const middle = other.clock.now()
    other.clock.advance(1_000)
    const b = await other.run({ ...seed, metadata: { order: '2' } }, 'chain101')
    const at = new Date(middle).toISOString()
    expect(await ids('')).toEqual([b, a])
    expect(await ids('status=succeeded')).toEqual([a])
    expect(await ids('status=succeeded&status=queued&status=running')).toEqual([b, a])
    expect(await ids('metadata[order]=2')).toEqual([b])
    expect(await ids('metadata%5Border%5D=1&metadata[a%20b]=%C3%BC')).toEqual([a])
    expect(await ids('metadata[order]=3')).toEqual([])
    expect(await ids('chain=chain303')).toEqual([])
    expect(await ids(`created[gt]=${at}`)).toEqual([b])
    expect(await ids(`created[lte]=${at}`)).toEqual([a])
    expect(await ids(`created[gte]=${at.replace('Z', '+00:00')}&status=failed`)).toEqual([])
    expect(await ids(`created[lt]=${encodeURIComponent(new Date(middle + 1_000).toISOString())}`)).toEqual([a])
    await other.close()
  })

  test('ends a page early when it grows large', async () => {
    const other = await HttpWorld.open()
    const data = `data:image/png;base64,iVBORw0KGgo${'A'.repeat(900_000)}`
    const input = {
      chain_models: { image_to_image_model: 'bfl/flux-2-flex', image_to_video_model: 'bytedance/seedance-1.5-pro' },
      image_to_image_params: { prompt: 'in red', input_image: data },
      image_to_video_params: seed.input.image_to_video_params,
    }
    for (let i = 0; i < 8; i++) await other.run({ input }, 'chain2')
    const page = await other.json<Page>('GET', '/api/v1/runs')
    expect(page.data.length).toBeLessThan(8)
    expect(page.has_more).toBe(true)
    const next = await other.json<Page>('GET', `/api/v1/runs?cursor=${page.next_cursor}`)
    expect(page.data.length + next.data.length).toBe(8)
    await other.close()
  })

  test('refuses what it does not know, all of it at once', async () => {
    const response = await world.ask(
      'GET',
      '/api/v1/runs?status=done&limit=0&cursor=abc&created[gte]=yesterday&order=asc&metadata[]=x&created[at]=1',
    )
    expect(response.status).toBe(400)
    const { errors } = (await response.json()) as { errors: { parameter: string }[] }
    expect(errors.map(error => error.parameter)).toEqual([
      'status',
      'limit',
      'cursor',
      'created[gte]',
      'order',
      'metadata[]',
      'created[at]',
    ])
  })

  const refusals = async (query: string): Promise<{ parameter: string; detail: string; hint?: string }[]> => {
    const response = await world.ask('GET', `/api/v1/runs?${query}`)
    expect([query, response.status]).toEqual([query, 400])
    return ((await response.json()) as { errors: { parameter: string; detail: string }[] }).errors
  }

  test('refuses a filter that is given twice and can only have one value', async () => {
    for (const [query, name] of [
      ['chain=chain1&chain=chain2', 'chain'],
      ['chain=chain1&status=queued&chain=chain1', 'chain'],
      ['limit=5&limit=5&limit=6', 'limit'],
      ['metadata[order]=1&metadata%5Border%5D=2', 'metadata[order]'],
      ['created[gte]=2026-05-01T00:00:00Z&created[gte]=2026-05-02T00:00:00Z', 'created[gte]'],
    ] as const) {
      const errors = await refusals(query)
      expect([query, errors.map(error => error.parameter)]).toEqual([query, [name]])
      expect(errors[0]?.detail).toContain('more than once')
    }
    expect((await list('?status=queued&status=queued&metadata[a]=1&metadata[b]=1')).object).toBe('list')
  })

  test('refuses a chain that nobody knows, and takes slugs and aliases', async () => {
    for (const chain of ['chain9', '', 'CHAIN1', 'chain101 ', '__proto__']) {
      const [error] = await refusals(`chain=${encodeURIComponent(chain)}`)
      expect(error).toMatchObject({ parameter: 'chain', hint: expect.stringContaining('chain101, chain1') })
    }
    for (const chain of ['chain1', 'chain101', 'chain3']) expect((await list(`?chain=${chain}`)).object).toBe('list')
  })

  test('holds both of two bounds at the same end, in any order', async () => {
    const other = await HttpWorld.open()
    const ids = async (...bounds: string[]) =>
      (await other.json<Page>('GET', `/api/v1/runs?${bounds.join('&')}`)).data.map(run => run.id)
    const made: string[] = []
    const times: string[] = []
    for (let i = 0; i < 3; i++) {
      other.clock.advance(1_000)
      made.push(await other.run(seed))
      times.push(new Date(other.clock.now()).toISOString())
    }
    const [first, second, third] = times as [string, string, string]
    const [, b, c] = made as [string, string, string]
    for (const flip of [false, true]) {
      const both = (...bounds: string[]) => ids(...(flip ? bounds.toReversed() : bounds))
      expect(await both(`created[gte]=${second}`, `created[gt]=${first}`)).toEqual([c, b])
      expect(await both(`created[gte]=${first}`, `created[gt]=${second}`)).toEqual([c])
      expect(await both(`created[gte]=${second}`, `created[gt]=${second}`)).toEqual([c])
      expect(await both(`created[lt]=${third}`, `created[lte]=${third}`, `created[gt]=${first}`)).toEqual([b])
      expect(await both(`created[lte]=${second}`, `created[lt]=${third}`, `created[gt]=${first}`)).toEqual([b])
    }
    await other.close()
  })

  test('refuses times that no calendar has', async () => {
    for (const time of [
      '2026-02-31T00:00:00Z',
      '2026-02-29T00:00:00Z',
      '2026-04-31T10:00+02:00',
      '2026-13-01T00:00:00Z',
    ]) {
      const [error] = await refusals(`created[lt]=${encodeURIComponent(time)}`)
      expect([time, error?.parameter]).toEqual([time, 'created[lt]'])
    }
    for (const time of ['2024-02-29T23:59:59.999Z', '2026-12-31T23:30:00-02:00', '2026-01-01T00:30:00+02:00'])
      expect((await list(`?created[lt]=${encodeURIComponent(time)}`)).object).toBe('list')
  })

  test('takes limits from 1 to 100', async () => {
    for (const limit of ['1', '100']) expect((await list(`?limit=${limit}`)).object).toBe('list')
    for (const limit of ['101', '1e1', '-1', '']) {
      expect((await world.ask('GET', `/api/v1/runs?limit=${limit}`)).status).toBe(400)
    }
  })
})

test('while a lost submit is looked up, nobody is told to resume, nor that it is sent again: in the run and in its events', () => {
  for (const code of ['network_error', 'provider_error', 'provider_overloaded'] as const) {
    const error = stepError(code, 'byteplus could not be reached', { provider: 'byteplus' })
    const lookup = { since: T0, askAt: T0 + 9_000, tries: 2, error }
    const run = runAt(queuedRun(), 0, { status: 'submitting', attempt: attempt(1), lookup }, [])
    const view = { link: (id: string) => id }
    const data = { attempt: 1, provider: 'byteplus', error }
    const event = { seq: 3, at: T0, type: 'step.unknown', stepKey: 'text_to_image', data } as const
    const hint = expect.stringMatching(/is looked up at the provider before anything is sent again/)
    const looked = { code, message: error.message, hint }
    expect(presentRun(run, view).steps[0]).toMatchObject({ phase: 'submitting', error: looked })
    expect(presentEvent(event, run.id, view).data).toMatchObject({ error: looked })
    // Of an attempt that has failed the code says what to do.
    const failed = presentEvent({ ...event, type: 'step.attempt_failed' }, run.id, view)
    expect(failed.data).toMatchObject({ error: { code, hint: error.hint } })
  }
})
