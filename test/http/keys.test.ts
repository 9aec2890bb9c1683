/** Keys through the API: made, limited, rotated, revoked; what they may do, and how often. */
import { afterEach, beforeEach, describe, expect, test } from 'bun:test'
import { isPossible } from '../../src/app/key-text.ts'
import { overlay } from '../../src/app/tracing/overlay.ts'
import seed from '../fixtures/seed.request.json'
import { HttpWorld } from '../support/http-world.ts'

let world: HttpWorld
beforeEach(async () => {
  world = await HttpWorld.open()
})
afterEach(() => world.close())

interface Key {
  id: string
  key: string
  webhook_secret: string
  status: string
  spent_today_usd: number
}

const make = async (body: object = {}): Promise<Key> => {
  const response = await world.ask('POST', '/api/v1/keys', { body: { name: 'shop', ...body } })
  expect(response.status).toBe(201)
  return (await response.json()) as Key
}
const statusOf = async (key: string, path = '/api/v1/runs') => (await world.ask('GET', path, { key })).status

describe('a new key', () => {
  test('is shown once, with the secret of its callbacks, and works at once', async () => {
    const made = await make({ scopes: ['runs:read'], expires_at: '2027-01-01T00:00:00Z' })
    expect(made.key).toMatch(/^bck_live_[0-9A-Za-z]{36}$/)
    expect(isPossible(made.key)).toBe(true)
    expect(made.webhook_secret).toMatch(/^whsec_[A-Za-z0-9+/]{43}=$/)
    expect(made).toMatchObject({
      ...{ object: 'api_key', name: 'shop', scopes: ['runs:read'], status: 'active', rate_per_minute: 600 },
      ...{ max_running: 100, max_queued: 1_000, daily_budget_usd: null, expires_at: '2027-01-01T00:00:00.000+00:00' },
    })
    expect(await statusOf(made.key)).toBe(200)
    for (const path of ['/api/v1/keys', `/api/v1/keys/${made.id}`]) {
      const text = await (await world.ask('GET', path)).text()
      expect(text).toContain(made.key.slice(0, 13))
      for (const secret of [made.key, made.webhook_secret, made.key.slice(9)]) expect(text).not.toContain(secret)
    }
    // Neither the database nor the log has what was shown.
    const stored = JSON.stringify([await world.store.apiKeys(), await world.store.webhookSecrets(made.id)])
    for (const secret of [made.key, made.webhook_secret]) {
      expect(stored).not.toContain(secret)
      expect(JSON.stringify(world.logged)).not.toContain(secret)
    }
  })

  test('of which nothing else is said may read and write runs, and no more', async () => {
    expect(await make()).toMatchObject({ scopes: ['runs:read', 'runs:write'], expires_at: null })
    for (const expires_at of ['tomorrow', '2027-01-01', '2027-02-30T00:00:00Z', '2027-01-01T25:00:00Z']) {
      const { errors } = await world.json<{ errors: object[] }>('POST', '/api/v1/keys', {
        body: { name: 'x', expires_at },
      })
      expect(errors).toMatchObject([{ pointer: '/expires_at', detail: expect.stringContaining('ISO 8601') }])
    }
  })

  test('with a scope that there is not is told which there are', async () => {
    const refused = await world.ask('POST', '/api/v1/keys', { body: { name: 'x', scopes: ['runs:read', 'run:write'] } })
    const { errors } = (await refused.json()) as { errors: { pointer: string; detail: string }[] }
    expect(errors.map(({ pointer, detail }) => [pointer, detail])).toEqual([
      ['/scopes/1', 'scopes[1] must be one of "runs:read", "runs:write", "callbacks:manage", "keys:manage"'],
    ])
  })

  test('may do what its scopes say; the refusal names the one that it lacks', async () => {
    const { key } = await make({ scopes: ['runs:read'] })
    const cases = [
      ['POST', '/api/v1/chains/chain1/runs', 'runs:write'],
      ['GET', '/api/v1/deliveries', 'callbacks:manage'],
      ['POST', '/api/v1/webhook_secrets/rotate', 'callbacks:manage'],
      ['GET', '/api/v1/keys', 'keys:manage'],
    ] as const
    for (const [method, path, scope] of cases) {
      const response = await world.ask(method, path, { key })
      expect([path, response.status]).toEqual([path, 403])
      expect(response.headers.get('www-authenticate')).toContain(`scope="${scope}"`)
      expect((await response.json()) as object).toMatchObject({ detail: `The key lacks the scope ${scope}.` })
    }
  })

  test('can be given no scope that its maker lacks, nor be taken over by one', async () => {
    const { key } = await make({ scopes: ['keys:manage', 'runs:read'] })
    const strong = await make({ scopes: ['runs:write'] })
    const refused = await world.ask('POST', '/api/v1/keys', { key, body: { name: 'x', scopes: ['runs:write'] } })
    expect([refused.status, await refused.text()]).toEqual([403, expect.stringContaining('runs:write')])
    expect((await world.ask('POST', `/api/v1/keys/${strong.id}/rotate`, { key })).status).toBe(403)
    expect((await world.ask('POST', '/api/v1/keys', { key, body: { name: 'x', scopes: ['runs:read'] } })).status).toBe(
      201,
    )
  })

  test('with mistakes is refused with all of them', async () => {
    const body = {
      name: '',
      scopes: ['runs:fly'],
      rate_per_minute: 0,
      daily_budget_usd: -1,
      expires_at: '2020-01-01T00:00:00Z',
      budget: 1,
    }
    const response = await world.ask('POST', '/api/v1/keys', { body })
    const { errors } = (await response.json()) as { errors: { pointer: string; hint: string }[] }
    expect(response.status).toBe(400)
    const pointers = errors.map(each => each.pointer)
    for (const field of Object.keys(body)) expect(pointers.some(pointer => pointer.startsWith(`/${field}`))).toBe(true)
    for (const each of errors) expect(each.hint).not.toBe('')
    expect((await world.json<{ data: object[] }>('GET', '/api/v1/keys')).data).toHaveLength(2)
  })
})

describe('a key with limits that may make keys', () => {
  const LIMITS = { rate_per_minute: 50, max_running: 20, max_queued: 30, daily_budget_usd: 5 }
  const ENDS = '2027-01-01T00:00:00.000+00:00'
  const scopes = ['keys:manage', 'runs:read', 'runs:write', 'callbacks:manage']
  const manager = () => make({ ...LIMITS, expires_at: ENDS, scopes, rate_per_minute: 1_000 })
  const bounds = { ...LIMITS, rate_per_minute: 1_000, expires_at: ENDS }
  const beyond: [string, unknown][] = [
    ['rate_per_minute', 1_001],
    ['max_running', 21],
    ['max_queued', 31],
    ['daily_budget_usd', 5.01],
    ['expires_at', '2027-01-01T00:00:00.001Z'],
    ...Object.keys(bounds).map((field): [string, null] => [field, null]),
  ]

  test.each(beyond)('gives nobody, itself neither, %s %p', async (field, value) => {
    const { key, id } = await manager()
    const child = await make({ scopes: ['runs:read'], ...bounds })
    for (const [method, path, name] of [
      ['POST', '/api/v1/keys', { name: 'x' }],
      ['PATCH', `/api/v1/keys/${id}`, {}],
      ['PATCH', `/api/v1/keys/${child.id}`, {}],
    ] as const) {
      const refused = await world.ask(method, path, { key, body: { ...name, [field]: value } })
      expect([path, refused.status]).toEqual([path, 403])
      const detail = `Your key has ${field} ${bounds[field as keyof typeof bounds]}, so it can neither give more`
      expect(await refused.json()).toMatchObject({ code: 'forbidden', detail: expect.stringContaining(detail) })
    }
    for (const each of [id, child.id]) expect(await world.json('GET', `/api/v1/keys/${each}`)).toMatchObject(bounds)
    expect((await world.json<{ data: object[] }>('GET', '/api/v1/keys')).data).toHaveLength(4)
  })

  test('gives what it has, less of it, and that too where it is not asked', async () => {
    const { key, id } = await manager()
    const give = async (body: object) => world.json<Key>('POST', '/api/v1/keys', { key, body: { name: 'x', ...body } })
    expect(await give(bounds)).toMatchObject(bounds)
    // 600 requests a minute are usual, and less than it has.
    expect(await give({})).toMatchObject({ ...bounds, rate_per_minute: 600 })
    const less = { daily_budget_usd: 0, max_running: 1, expires_at: '2026-12-31T00:00:00.000+00:00' }
    const child = await give(less)
    expect(child).toMatchObject(less)
    const patched = await world.ask('PATCH', `/api/v1/keys/${child.id}`, { key, body: { daily_budget_usd: 5 } })
    expect([patched.status, await patched.json()]).toEqual([200, expect.objectContaining({ daily_budget_usd: 5 })])
    expect((await world.ask('PATCH', `/api/v1/keys/${id}`, { key, body: { max_running: 19 } })).status).toBe(200)
    expect((await world.ask('PATCH', `/api/v1/keys/${id}`, { key, body: { max_running: 20 } })).status).toBe(403)
  })

  test('takes over no key that may do more', async () => {
    const bootstrap = (await world.access.begin()).text ?? ''
    // The bootstrap key may lift its own limits: one that was given some is no weaker for that.
    await world.ask('PATCH', '/api/v1/keys/bootstrap', { key: bootstrap, body: bounds })
    const { key, id } = await manager()
    const free = await make({ scopes: ['runs:read'], ...bounds, daily_budget_usd: null })
    const tight = await make({ scopes: ['runs:read'], ...bounds })
    const rotate = async (which: string) => {
      const response = await world.ask('POST', `/api/v1/keys/${which}/rotate`, { key, body: { overlap_seconds: 60 } })
      return response.status
    }
    expect([await rotate(free.id), await rotate('bootstrap'), await rotate(tight.id), await rotate(id)]).toEqual([
      ...[403, 403, 200, 200],
    ])
  })
})

describe('a key that may make keys', () => {
  const change = async (key: string, id: string) => [
    (await world.ask('PATCH', `/api/v1/keys/${id}`, { key, body: { daily_budget_usd: 0, max_running: 1 } })).status,
    (await world.ask('POST', `/api/v1/keys/${id}/rotate`, { key })).status,
    (await world.ask('POST', `/api/v1/keys/${id}/revoke`, { key })).status,
  ]

  test('neither limits nor ends a key that may do more: by its scopes, its limits or its end', async () => {
    const { key } = await make({ scopes: ['keys:manage', 'runs:read'], daily_budget_usd: 5 })
    const weak = { scopes: ['runs:read'], daily_budget_usd: 5 }
    for (const more of [{ scopes: ['runs:write'] }, { daily_budget_usd: 6 }, { daily_budget_usd: null }]) {
      const strong = await make({ ...weak, ...more })
      expect([more, await change(key, strong.id)]).toEqual([more, [403, 403, 403]])
      expect(await world.json<Key>('GET', `/api/v1/keys/${strong.id}`)).toMatchObject({ ...more, status: 'active' })
    }
    expect(await change(key, (await make(weak)).id)).toEqual([200, 200, 200])
  })

  test('never touches the bootstrap key, whatever it may do itself', async () => {
    const own = (await world.access.begin()).text ?? ''
    for (const scopes of [['keys:manage'], ['keys:manage', 'runs:read', 'runs:write', 'callbacks:manage']]) {
      const none = { rate_per_minute: null, max_running: null, max_queued: null }
      const { key } = await make({ scopes, ...none })
      expect(await change(key, 'bootstrap')).toEqual([403, 403, 403])
      const refused = await world.json('POST', '/api/v1/keys/bootstrap/revoke', { key })
      expect(refused).toMatchObject({ detail: expect.stringContaining('Only the bootstrap key itself') })
    }
    expect(await world.json('GET', '/api/v1/keys/bootstrap', { key: own })).toMatchObject({
      ...{ status: 'active', daily_budget_usd: null, max_running: null },
    })
  })
})

describe('a key ends', () => {
  test('at once when it is revoked, for every route, and for ever', async () => {
    const { id, key } = await make()
    const run = await world.run(seed, 'chain1', { key })
    expect(await statusOf(key, `/api/v1/runs/${run}`)).toBe(200)
    const revoked = await world.json<Key>('POST', `/api/v1/keys/${id}/revoke`)
    expect(revoked.status).toBe('revoked')
    for (const path of ['/api/v1/runs', `/api/v1/runs/${run}`, '/api/v1/models'])
      expect(await statusOf(key, path)).toBe(401)
    expect((await world.ask('POST', `/api/v1/keys/${id}/revoke`)).status).toBe(200)
    expect((await world.ask('POST', `/api/v1/keys/${id}/rotate`)).status).toBe(409)
    // Its runs end all the same.
    expect((await world.runToEnd(run)).status).toBe('succeeded')
  })

  test('when its time has come', async () => {
    const expires_at = new Date(world.clock.now() + 60_000).toISOString()
    const { id, key } = await make({ expires_at })
    expect(await statusOf(key)).toBe(200)
    world.clock.advance(60_000)
    expect(await statusOf(key)).toBe(401)
    expect((await world.json<Key>('GET', `/api/v1/keys/${id}`)).status).toBe('expired')
    await world.ask('PATCH', `/api/v1/keys/${id}`, { body: { expires_at: null } })
    expect(await statusOf(key)).toBe(200)
  })

  test('by the wall clock: what its status says is what its text meets, should our time be ahead', async () => {
    world.aheadMs = 3_600_000
    const expires_at = new Date(world.clock.now() - world.aheadMs + 60_000).toISOString()
    const { id, key } = await make({ expires_at })
    const met = async () => [await statusOf(key), (await world.json<Key>('GET', `/api/v1/keys/${id}`)).status]
    world.clock.advance(59_999)
    expect(await met()).toEqual([200, 'active'])
    world.clock.advance(1)
    expect(await met()).toEqual([401, 'expired'])
    expect((await world.ask('PATCH', `/api/v1/keys/${id}`, { body: { expires_at } })).status).toBe(400)
  })

  test('unknown, expired and revoked ones are refused in the same words', async () => {
    const { id, key } = await make()
    await world.ask('POST', `/api/v1/keys/${id}/revoke`)
    const said = async (text: string) => {
      const { request_id: _, ...rest } = await world.json('GET', '/api/v1/runs', { key: text })
      return rest
    }
    const broken = `${key.slice(0, -1)}${key.endsWith('0') ? '1' : '0'}`
    expect(await said(key)).toEqual(await said('bck_live_never'))
    expect(await said(broken)).toEqual(await said('somebody else’s'.replaceAll(/[^a-z]/g, '-')))
  })
})

describe('a rotation', () => {
  test('gives a new text; the one before works for the overlap; runs and limits stay', async () => {
    const { id, key } = await make({ daily_budget_usd: 7 })
    const run = await world.run(seed, 'chain1', { key })
    const rotated = await world.json<Key>('POST', `/api/v1/keys/${id}/rotate`, { body: { overlap_seconds: 60 } })
    expect(rotated).toMatchObject({ id, daily_budget_usd: 7, previous_expires_at: expect.any(String) })
    for (const text of [key, rotated.key]) expect(await statusOf(text, `/api/v1/runs/${run}`)).toBe(200)
    world.clock.advance(60_000)
    expect(await statusOf(key)).toBe(401)
    expect(await statusOf(rotated.key, `/api/v1/runs/${run}`)).toBe(200)
  })

  test('ends the old text, and is shown, by the wall clock, should that be behind our time', async () => {
    const { id, key } = await make()
    world.aheadMs = 3_600_000
    const shown = async () => {
      const { previous_expires_at } = await world.json<{ previous_expires_at: string | null }>(
        'GET',
        `/api/v1/keys/${id}`,
      )
      return [await statusOf(key), previous_expires_at && Date.parse(previous_expires_at)]
    }
    await world.json('POST', `/api/v1/keys/${id}/rotate`, { body: { overlap_seconds: 60 } })
    const until = world.clock.now() - world.aheadMs + 60_000
    expect(await shown()).toEqual([200, until])
    world.clock.advance(59_999)
    expect(await shown()).toEqual([200, until])
    world.clock.advance(1)
    expect(await shown()).toEqual([401, null])
  })

  test('sent again, its answer lost, is refused: the text that is in use works on', async () => {
    const { id, key: first } = await make()
    const rotate = () => world.ask('POST', `/api/v1/keys/${id}/rotate`, { body: { overlap_seconds: 60 } })
    const until = `${new Date(world.clock.now() + 60_000).toISOString().slice(0, -1)}+00:00`
    const [made, again] = await Promise.all([rotate(), rotate()])
    expect([made.status, again.status]).toEqual([200, 409])
    expect(await again.json()).toMatchObject({
      code: 'conflict',
      title: 'The state does not allow it',
      detail: expect.stringContaining(until),
      hint: expect.stringContaining('"overlap_seconds": 0'),
    })
    const { key: second } = (await made.json()) as Key
    expect(await Promise.all([first, second].map(text => statusOf(text)))).toEqual([200, 200])
    world.clock.advance(60_000)
    const { key: third } = (await (await rotate()).json()) as Key
    expect(await Promise.all([first, second, third].map(text => statusOf(text)))).toEqual([401, 200, 200])
  })

  test('after a leak ends the old texts at once, also while two of them work', async () => {
    const { id, key: first } = await make()
    const { key: second } = await world.json<Key>('POST', `/api/v1/keys/${id}/rotate`)
    const { key: third } = await world.json<Key>('POST', `/api/v1/keys/${id}/rotate`, { body: { overlap_seconds: 0 } })
    expect(await Promise.all([first, second, third].map(text => statusOf(text)))).toEqual([401, 401, 200])
    const wrong = await world.ask('POST', `/api/v1/keys/${id}/rotate`, { body: { overlap_seconds: 604_801 } })
    expect(wrong.status).toBe(400)
  })
})

describe('the limits of a key', () => {
  test('of requests stand in every answer; beyond them 429 says when to come back, and then it is open again', async () => {
    const { key, id } = await make({ rate_per_minute: 3, scopes: ['runs:read'] })
    const ask = (method = 'GET') => world.ask(method, '/api/v1/runs', { key })
    const first = await ask()
    expect(first.headers.get('ratelimit-policy')).toBe('"default";q=3;w=60')
    expect(first.headers.get('ratelimit')).toBe('"default";r=2;t=60')
    world.clock.advance(20_000)
    expect((await ask()).headers.get('ratelimit')).toBe('"default";r=1;t=40')
    expect((await world.ask('GET', '/api/v1/keys', { key })).headers.get('ratelimit')).toBe('"default";r=0;t=40')
    const refused = await ask()
    expect(refused.status).toBe(429)
    expect(refused.headers.get('retry-after')).toBe('40')
    expect(await refused.json()).toMatchObject({ code: 'rate_limited', retryable: true, hint: expect.any(String) })
    // Other keys have their own window, and no headers where there is no limit.
    expect((await world.ask('GET', '/api/v1/runs')).headers.get('ratelimit')).toBeNull()
    world.clock.advance(40_000)
    expect((await ask()).status).toBe(200)
    await world.ask('PATCH', `/api/v1/keys/${id}`, { body: { rate_per_minute: null } })
    for (let n = 0; n < 9; n += 1) expect((await ask()).status).toBe(200)
  })

  test('of waiting runs refuse the next one with 429 queue_full; nothing of it is stored, and a repeat still gets its answer', async () => {
    const { key, id } = await make({ max_running: 1, max_queued: 2 })
    world.provider.instant = false
    const runs: string[] = []
    for (let n = 0; n < 3; n += 1) {
      runs.push(await world.run(seed, 'chain1', { key, headers: { 'idempotency-key': `n${n}` } }))
      await world.quiet()
    }
    const refused = await world.ask('POST', '/api/v1/chains/chain1/runs', { key, body: seed })
    expect(refused.status).toBe(429)
    expect(refused.headers.get('retry-after')).toBe('10')
    expect(await refused.json()).toMatchObject({ code: 'queue_full', retryable: true })
    expect((await world.json<{ data: object[] }>('GET', '/api/v1/runs', { key })).data).toHaveLength(3)
    const repeat = await world.ask('POST', '/api/v1/chains/chain1/runs', {
      key,
      body: seed,
      headers: { 'idempotency-key': 'n2' },
    })
    expect([repeat.status, ((await repeat.json()) as Key).id]).toEqual([202, runs[2] as string])
    expect(world.provider.started).toHaveLength(1)
    // More places begin what waits, without another word.
    await world.ask('PATCH', `/api/v1/keys/${id}`, { body: { max_running: 3 } })
    await world.quiet()
    expect(world.provider.started).toHaveLength(3)
    world.provider.instant = true
    for (const run of runs) expect((await world.runToEnd(run)).status).toBe('succeeded')
  })

  test('of money refuse the step before its submit, name the numbers, and show what was spent', async () => {
    const { key, id } = await make({ daily_budget_usd: 1 })
    const begun = await world.run(seed, 'chain1', { key })
    await world.ask('PATCH', `/api/v1/keys/${id}`, { body: { daily_budget_usd: 0.08 } })
    const run = await world.runToEnd(begun)
    expect(run.error?.code).toBe('budget_exceeded')
    expect(run.error?.message).toContain("0.0500 USD of the key's daily budget of 0.0800 USD")
    expect(run.steps.map(step => step.status)).toEqual(['succeeded', 'failed'])
    expect(world.provider.started).toHaveLength(1)
    expect((await world.json<Key>('GET', `/api/v1/keys/${id}`)).spent_today_usd).toBe(0.05)
    await world.ask('PATCH', `/api/v1/keys/${id}`, { body: { daily_budget_usd: 1 } })
    const resumed = await world.json<{ id: string }>('POST', `/api/v1/runs/${run.id}/resume`, { key })
    expect((await world.runToEnd(resumed.id)).status).toBe('succeeded')
    expect((await world.json<Key>('GET', `/api/v1/keys/${id}`)).spent_today_usd).toBe(0.1)
  })
})

describe('the bootstrap key', () => {
  test('may give anything, and take back a limit that it was given', async () => {
    const key = (await world.access.begin()).text ?? ''
    const patch = (body: object) => world.ask('PATCH', '/api/v1/keys/bootstrap', { key, body })
    expect((await patch({ daily_budget_usd: 5, max_running: 1 })).status).toBe(200)
    const body = { name: 'x', daily_budget_usd: 6, max_running: null, expires_at: null }
    expect((await world.ask('POST', '/api/v1/keys', { key, body })).status).toBe(201)
    expect(await (await patch({ daily_budget_usd: null })).json()).toMatchObject({ daily_budget_usd: null })
  })

  test('made at the first start is a key like the others: it can be rotated and revoked', async () => {
    const made = await world.access.begin()
    expect(made.text).toMatch(/^bck_live_/)
    expect(await world.access.begin()).toEqual({ text: null, secret: null })
    const key = made.text ?? ''
    expect(await statusOf(key, '/api/v1/keys/bootstrap')).toBe(200)
    const { key: next } = await world.json<Key>('POST', '/api/v1/keys/bootstrap/rotate', {
      key,
      body: { overlap_seconds: 0 },
    })
    expect([await statusOf(key), await statusOf(next)]).toEqual([401, 200])
    expect((await world.ask('POST', '/api/v1/keys/bootstrap/revoke', { key: next })).status).toBe(200)
    expect(await statusOf(next)).toBe(401)
  })
})

test('what somebody else decides is 409 with their sentence: the key of the environment', async () => {
  const locked = { locked: 'The key comes from BABYCHAIN_API_KEY: change it there and restart.' }
  const other = await HttpWorld.open(deps => ({
    ...deps,
    keys: overlay(deps.keys, { change: async () => locked, rotate: async () => locked, revoke: async () => locked }),
  }))
  const key = (await other.access.begin()).text
  const body = { expires_at: new Date(other.clock.now() + 1_000).toISOString() }
  for (const [method, path, asked] of [
    ['PATCH', '/api/v1/keys/bootstrap', { body }],
    ['POST', '/api/v1/keys/bootstrap/rotate', {}],
    ['POST', '/api/v1/keys/bootstrap/revoke', {}],
  ] as const) {
    const refused = await other.ask(method, path, { key, ...asked })
    expect([path, refused.status]).toEqual([path, 409])
    expect(await refused.json()).toMatchObject({ code: 'conflict', detail: locked.locked })
  }
  await other.close()
})

test('a key that nobody has, or whose id is nonsense, is 404', async () => {
  for (const id of ['key_00000000000070008000000000000001', 'nobody', '__proto__', '%2e%2e']) {
    expect([id, (await world.ask('GET', `/api/v1/keys/${id}`)).status]).toEqual([id, 404])
    expect((await world.ask('PATCH', `/api/v1/keys/${id}`, { body: {} })).status).toBe(404)
    for (const verb of ['rotate', 'revoke'])
      expect((await world.ask('POST', `/api/v1/keys/${id}/${verb}`)).status).toBe(404)
  }
})
