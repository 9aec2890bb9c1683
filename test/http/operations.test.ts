/** What every answer has, how paths and methods are told apart, and how the server says that it cannot. */
import { afterAll, beforeAll, describe, expect, test } from 'bun:test'
import { overlay } from '../../src/app/tracing/overlay.ts'
import { Draining, StorageUnavailable } from '../../src/core/ports.ts'
import seed from '../fixtures/seed.request.json'
import { HttpWorld } from '../support/http-world.ts'

interface Problem {
  code: string
  status: number
  detail: string
  request_id: string
  retryable: boolean
  checks?: { name: string; ok: boolean }[]
}

let world: HttpWorld
beforeAll(async () => {
  world = await HttpWorld.open()
})
afterAll(() => world.close())

describe('every answer', () => {
  test('has a request id of its own, good or bad, and echoes the caller’s', async () => {
    const seen = new Set<string | null>()
    for (const [method, path] of [
      ['GET', '/healthz'],
      ['GET', '/nowhere'],
      ['DELETE', '/healthz'],
      ['OPTIONS', '/healthz'],
      ['GET', '/api/v1/runs'],
      ['GET', '/swagger/swagger-ui.css'],
      ['GET', '/api/v1/runs/x'],
    ] as const) {
      const response = await world.ask(method, path, { headers: { 'x-client-request-id': 'mine-1' } })
      seen.add(response.headers.get('x-request-id'))
      expect([path, response.headers.get('x-client-request-id')]).toEqual([path, 'mine-1'])
    }
    expect(seen.size).toBe(7)
    for (const id of seen) expect(id).toMatch(/^req_[0-9a-f-]{36}$/)
  })

  test('does not echo an id that is too long or holds a space', async () => {
    for (const id of ['a'.repeat(129), 'a b', '\u00e4']) {
      const response = await world.ask('GET', '/healthz', { headers: { 'x-client-request-id': id } })
      expect(response.headers.has('x-client-request-id')).toBe(false)
    }
  })

  test('is logged with the run that it made, read or repeated, beside its request id', async () => {
    const made = { body: seed, headers: { 'idempotency-key': 'told-in-the-log' } }
    world.logged.length = 0
    const first = await world.ask('POST', '/api/v1/chains/chain1/runs', made)
    const { id } = (await first.json()) as { id: string }
    const answers = [
      first,
      await world.ask('POST', '/api/v1/chains/chain1/runs', made),
      await world.ask('GET', `/api/v1/runs/${id.toUpperCase()}`),
      await world.ask('POST', `/api/v1/runs/${id}/cancel`),
    ]
    expect(world.logged).toMatchObject(
      answers.map(answer => ({ request_id: answer.headers.get('x-request-id'), run_id: id })),
    )
    await world.ask('GET', '/api/v1/runs')
    expect(world.logged.at(-1)).not.toHaveProperty('run_id')
  })

  test('is logged in one line, without query, key, header or body', async () => {
    const id = await world.run({ ...seed, metadata: { private: 'a very private note' } })
    await world.runToEnd(id)
    const run = await world.json<{ steps: { generation_output_file: string[] }[] }>('GET', `/api/v1/runs/${id}?wait=1`)
    const link = new URL(run.steps[0]?.generation_output_file[0] ?? '')
    world.logged.length = 0
    await world.ask('GET', link.pathname + link.search, { key: null })
    await world.ask('POST', '/api/v1/chains/chain1/runs', { body: { ...seed, secret: 'a very private note' } })
    expect(world.logged).toHaveLength(2)
    const text = JSON.stringify(world.logged)
    for (const secret of [link.searchParams.get('signature') ?? '', 'key-of-ada', 'private note', 'headphone']) {
      expect(text).not.toContain(secret)
    }
    expect(world.logged[0]).toMatchObject({ method: 'GET', route: '/api/v1/media/:mediaId', status: 200 })
    expect(world.logged[1]).toMatchObject({ route: '/api/v1/chains/:slug/runs', status: 400, api_key_id: 'ada' })
  })
})

describe('paths and methods', () => {
  test('a path that is not there is 404, also under the API', async () => {
    for (const path of [
      '/nowhere',
      '/api/v1',
      '/api/v2/runs',
      '/api/v1/runs/a/b/c',
      '/swagger/../etc',
      '//api/v1/runs',
    ]) {
      const response = await world.ask('GET', path)
      expect([path, response.status, response.headers.get('content-type')]).toEqual([
        path,
        404,
        'application/problem+json',
      ])
    }
  })

  test('a path that does not take a method is 405 and says what it takes', async () => {
    for (const [method, path, allow] of [
      ['DELETE', '/api/v1/runs', 'GET, HEAD, OPTIONS'],
      ['GET', '/api/v1/chains/chain1/runs', 'OPTIONS, POST'],
      ['PUT', '/api/v1/media', 'OPTIONS, POST'],
      ['PATCH', '/api/v1/runs/00000000-0000-7000-8000-000000000001', 'GET, HEAD, OPTIONS'],
      ['HEAD', '/api/v1/chains/chain1/estimate', 'OPTIONS, POST'],
    ] as const) {
      const response = await world.ask(method, path)
      expect([path, response.status, response.headers.get('allow')]).toEqual([path, 405, allow])
    }
  })

  test('OPTIONS says what a path takes', async () => {
    const response = await world.ask('OPTIONS', '/api/v1/media')
    expect([response.status, response.headers.get('allow'), await response.text()]).toEqual([204, 'OPTIONS, POST', ''])
    expect((await world.ask('OPTIONS', '/nowhere')).status).toBe(404)
  })
})

describe('when something breaks', () => {
  test('a bug is a 500 without a word about it, and the log has the rest', async () => {
    const broken = await HttpWorld.open(deps => ({
      ...deps,
      store: overlay(deps.store, {
        runs: async () => {
          throw new Error('secret detail at /home/somebody/store.ts:42')
        },
      }),
    }))
    const response = await broken.ask('GET', '/api/v1/runs')
    const text = await response.text()
    expect(response.status).toBe(500)
    expect(JSON.parse(text)).toMatchObject({ code: 'internal', retryable: true })
    expect(text).not.toMatch(/secret|store\.ts|at .*:\d/)
    expect(broken.logged.some(line => 'err' in line)).toBe(true)
    expect(await (await broken.ask('GET', '/metrics')).text()).toContain('babychain_faults_total{where="http"} 1')
    await broken.close()
  })

  test('storage that takes no writes is 503 with Retry-After, and nothing is half made', async () => {
    let full = true
    const other = await HttpWorld.open(deps => ({
      ...deps,
      engine: overlay(deps.engine, {
        create: async commit => {
          if (full) throw new StorageUnavailable('database or disk is full')
          return deps.engine.create(commit)
        },
      }),
    }))
    const ask = () =>
      other.ask('POST', '/api/v1/chains/chain1/runs', { body: seed, headers: { 'idempotency-key': 'a' } })
    const refused = await ask()
    expect([refused.status, refused.headers.get('retry-after')]).toEqual([503, '2'])
    expect((await refused.json()) as Problem).toMatchObject({ code: 'storage_unavailable', retryable: true })
    expect((await other.store.counts()).runs.queued).toBe(0)
    full = false
    expect((await ask()).status).toBe(202)
    await other.close()
  })

  test('a server that stops takes no new work, and still answers readers', async () => {
    const other = await HttpWorld.open()
    const id = await other.run(seed)
    other.draining.abort()
    for (const path of ['/api/v1/chains/chain1/runs', `/api/v1/runs/${id}/resume`, '/api/v1/media']) {
      const response = await other.ask('POST', path, { body: seed })
      expect([path, response.status, response.headers.get('retry-after')]).toEqual([path, 503, '5'])
      expect((await response.json()) as Problem).toMatchObject({ code: 'draining' })
    }
    expect((await other.ask('GET', `/api/v1/runs/${id}`)).status).toBe(200)
    expect((await other.ask('GET', '/healthz')).status).toBe(200)
    expect((await other.ask('GET', '/readyz')).status).toBe(503)
    await other.close()
  })

  test('an engine that began to drain a moment ago says the same', async () => {
    const other = await HttpWorld.open(deps => ({
      ...deps,
      engine: overlay(deps.engine, {
        create: async () => {
          throw new Draining('stopping')
        },
      }),
    }))
    const response = await other.ask('POST', '/api/v1/chains/chain1/runs', { body: seed })
    expect([response.status, ((await response.json()) as Problem).code]).toEqual([503, 'draining'])
    await other.close()
  })
})

describe('operations', () => {
  test('healthz says version and mode and asks nobody', async () => {
    const response = await world.ask('GET', '/healthz', { key: null })
    expect(await response.json()).toEqual({ status: 'ok', version: '0.0.0-test', mode: 'byok' })
  })

  test('readyz names what is not ready', async () => {
    const other = await HttpWorld.open()
    other.readiness = {
      ok: false,
      checks: [
        { name: 'database', ok: true },
        { name: 'storage', ok: false, detail: 'only 3 MiB are free' },
      ],
    }
    const response = await other.ask('GET', '/readyz', { key: null })
    const problem = (await response.json()) as Problem
    expect([response.status, problem.detail]).toEqual([503, 'storage: only 3 MiB are free'])
    expect(problem.checks).toEqual([...other.readiness.checks])
    await other.close()
  })

  test('metrics count by route, never by id, and show what is in the store', async () => {
    const other = await HttpWorld.open()
    const id = await other.run(seed)
    await other.runToEnd(id)
    await other.ask('GET', `/api/v1/runs/${id}`)
    await other.ask('GET', '/nowhere/1')
    const text = await (await other.ask('GET', '/metrics')).text()
    expect(text).toContain('babychain_runs{status="succeeded"} 1')
    expect(text).toContain('babychain_deliveries{status="pending"} 1')
    expect(text).toContain(
      'http_request_duration_seconds_count{method="GET",route="/api/v1/runs/:runId",status="200"} 1',
    )
    expect(text).toContain('http_request_duration_seconds_count{method="GET",route="none",status="404"} 1')
    expect(text).toMatch(
      /babychain_step_attempt_duration_seconds_count\{model="bfl\/flux-2-flex",provider="studio",outcome="succeeded",code=""\} 1/,
    )
    expect(text).toMatch(/babychain_run_duration_seconds_count\{chain="chain1",status="succeeded"\} 1/)
    expect(text).not.toContain(id)
    await other.close()
  })

  test('metrics still come while the store cannot be read', async () => {
    const other = await HttpWorld.open(deps => ({
      ...deps,
      store: overlay(deps.store, {
        counts: async () => {
          throw new StorageUnavailable('locked')
        },
      }),
    }))
    const response = await other.ask('GET', '/metrics')
    expect([response.status, (await response.text()).includes('babychain_faults_total{where="metrics"}')]).toEqual([
      200,
      true,
    ])
    await other.close()
  })
})
