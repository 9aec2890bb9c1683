/** Idempotency-Key: rules ID-1 to ID-7 (numbers of the rules in the names). */
import { afterAll, beforeAll, describe, expect, test } from 'bun:test'
import { createHash } from 'node:crypto'
import { canonical } from '../../src/core/json.ts'
import seed from '../fixtures/seed.request.json'
import { HttpWorld } from '../support/http-world.ts'

const PATH = '/api/v1/chains/chain1/runs'
type Run = { id: string; status: string; code?: string; run_id?: string; resumed_from?: string }

let world: HttpWorld
beforeAll(async () => {
  world = await HttpWorld.open()
})
afterAll(() => world.close())

let keys = 0
const newKey = (): string => `key-${++keys}`
const post = (key: string, body: unknown = seed, more: { key?: string; path?: string } = {}) =>
  world.ask('POST', more.path ?? PATH, {
    body,
    headers: { 'idempotency-key': key },
    ...(more.key ? { key: more.key } : {}),
  })
const total = async (): Promise<number> => Object.values((await world.store.counts()).runs).reduce((a, b) => a + b)

describe('the same key and body', () => {
  test('50 times at once make one run and 50 equal answers', async () => {
    const before = await total()
    const key = newKey()
    const answers = await Promise.all(Array.from({ length: 50 }, () => post(key)))
    const texts = await Promise.all(answers.map(answer => answer.text()))
    expect(new Set(texts).size).toBe(1)
    expect(new Set(answers.map(answer => answer.status))).toEqual(new Set([202]))
    expect(answers.filter(answer => answer.headers.get('idempotent-replayed') === 'true')).toHaveLength(49)
    expect(await total()).toBe(before + 1)
  })

  test('later get the first answer again, with its place, however the run went on (ID-4)', async () => {
    const key = newKey()
    const first = await post(key)
    const text = await first.text()
    await world.runToEnd((JSON.parse(text) as Run).id)
    const again = await post(key)
    expect([again.status, await again.text()]).toEqual([202, text])
    expect(again.headers.get('idempotent-replayed')).toBe('true')
    expect(again.headers.get('location')).toBe(first.headers.get('location'))
    expect(first.headers.get('idempotent-replayed')).toBeNull()
  })

  test('of a failed run get that failed run, and spend nothing (ID-6)', async () => {
    world.provider.instant = false
    const key = newKey()
    const { id } = (await (await post(key)).json()) as Run
    await world.until(async () => (await world.engine.run(id))?.steps[0]?.status === 'running')
    world.provider.failNext()
    world.provider.instant = true
    expect((await world.runToEnd(id)).status).toBe('failed')
    const submits = world.provider.started.length
    expect(((await (await post(key)).json()) as Run).id).toBe(id)
    expect(world.provider.started).toHaveLength(submits)
  })

  test('written in another way are the same request (ID-2)', async () => {
    const key = newKey()
    const { id } = (await (await post(key)).json()) as Run
    const { input, ...rest } = seed
    const { text_to_image_params, ...others } = input
    const reordered = { ...rest, input: { ...others, text_to_image_params } }
    const spaced = JSON.stringify(reordered, null, 4).replace('593', '593.0').replace('1024', '1.024e3')
    const again = await world.ask('POST', PATH, { body: spaced, headers: { 'idempotency-key': `"${key}"` } })
    expect([again.status, ((await again.json()) as Run).id]).toEqual([202, id])
  })
})

describe('the same key with another body', () => {
  test('is 422 and names the first run', async () => {
    const key = newKey()
    const { id } = (await (await post(key)).json()) as Run
    const before = await total()
    const other = await post(key, { ...seed, metadata: { order: '1' } })
    expect(other.status).toBe(422)
    expect(await other.json()).toMatchObject({ code: 'idempotency_key_reused', run_id: id })
    expect(await total()).toBe(before)
  })

  test('is another request on another path, and of another owner (ID-2, ID-7)', async () => {
    const key = newKey()
    const ids = await Promise.all([
      post(key),
      post(key, seed, { path: '/api/v1/chains/chain101/runs' }),
      post(key, seed, { key: 'key-of-bob' }),
    ])
    const answers = (await Promise.all(ids.map(each => each.json()))) as Run[]
    expect(new Set(answers.map(run => run.id)).size).toBe(3)
  })
})

describe('one path, however it is written,', () => {
  const idOf = async (response: Response) => ((await response.json()) as Run).id

  test('is one scope: with a slash at its end, with escapes', async () => {
    const key = newKey()
    const before = await total()
    const ids = await Promise.all(
      [PATH, `${PATH}/`, '/api/v1/chains/chain%31/runs', '/api/v1/chains/%63hain1/runs/', `${PATH}?a=1`].map(
        async path => idOf(await post(key, seed, { path })),
      ),
    )
    expect([new Set(ids).size, await total()]).toEqual([1, before + 1])
    const other = await post(key, { ...seed, metadata: { order: '1' } }, { path: `${PATH}/` })
    expect([other.status, ((await other.json()) as Run).run_id]).toEqual([422, ids[0]])
  })

  test('of a run is one scope in either case of its id', async () => {
    const id = await world.run(seed)
    await world.runToEnd(id)
    const key = newKey()
    const body = { from_step_key: 'image_to_video' }
    const resume = async (which: string) => idOf(await post(key, body, { path: `/api/v1/runs/${which}/resume` }))
    expect(await resume(id.toUpperCase())).toBe(await resume(id))
  })

  // A run echoes the slug that it was created with, so that the answer to one name is not the answer to the other.
  test('is not the path with the alias of its chain', async () => {
    const key = newKey()
    const alias = await (await post(key)).text()
    const slug = await (await post(key, seed, { path: '/api/v1/chains/chain101/runs' })).text()
    expect([alias, slug].map(text => (JSON.parse(text) as { chain_slug: string }).chain_slug)).toEqual([
      'chain1',
      'chain101',
    ])
  })

  test('is stored as before, so that keys of earlier versions still match', async () => {
    const key = newKey()
    const id = await idOf(await post(key))
    const fingerprint = createHash('sha256')
      .update(`POST ${PATH}\n${canonical(seed)}`)
      .digest('hex')
    expect(await world.store.replay(`ada POST ${PATH} ${key}`, fingerprint)).toMatchObject({
      type: 'replayed',
      runId: id,
    })
  })
})

test('a refused request leaves its key free (ID-3)', async () => {
  const key = newKey()
  expect((await post(key, { ...seed, nonsense: 1 })).status).toBe(400)
  expect((await post(key, { ...seed, webhook_url: 'https://127.0.0.1/' })).status).toBe(422)
  const made = await post(key)
  expect([made.status, made.headers.get('idempotent-replayed')]).toEqual([202, null])
})

test('a resume with a key makes one run, too (ID-7)', async () => {
  world.provider.instant = false
  const id = await world.run(seed)
  await world.until(async () => (await world.engine.run(id))?.steps[0]?.status === 'running')
  world.provider.failNext()
  world.provider.instant = true
  await world.runToEnd(id)
  const key = newKey()
  const resume = () => world.ask('POST', `/api/v1/runs/${id}/resume`, { headers: { 'idempotency-key': key } })
  const answers = (await Promise.all([resume(), resume(), resume()].map(async each => (await each).json()))) as Run[]
  expect(new Set(answers.map(run => run.id)).size).toBe(1)
  expect(answers[0]?.resumed_from).toBe(id)
})

test('a repeat gets the first answer although the same request would be refused by now (ID-4)', async () => {
  const made = await world.json<{ id: string; key: string }>('POST', '/api/v1/keys', { body: { name: 'shop' } })
  const { key } = made
  const id = await world.run(seed, 'chain1', { key })
  await world.ask('POST', `/api/v1/runs/${id}/cancel`, { key })
  await world.runToEnd(id)
  const asked = [
    { path: PATH, key, body: seed },
    { path: `/api/v1/runs/${id}/resume`, key, body: {} },
  ].map(more => ({ ...more, name: newKey() }))
  const answers = () => Promise.all(asked.map(({ name, body, ...more }) => post(name, body, more)))
  const first = await Promise.all((await answers()).map(answer => answer.text()))
  await world.ask('PATCH', `/api/v1/keys/${made.id}`, { body: { daily_budget_usd: 0 } })
  for (const [i, again] of (await answers()).entries())
    expect([again.status, again.headers.get('idempotent-replayed'), await again.text()]).toEqual([
      202,
      'true',
      first[i] ?? '',
    ])
  for (const { path, body } of asked) expect((await post(newKey(), body, { path, key })).status).toBe(400)
})

describe('a malformed key is 400 (ID-1):', () => {
  for (const key of ['', ' ', '""', 'a b', 'a,b', 'ä', 'a'.repeat(256), '"open', 'a/b', '{}']) {
    test(JSON.stringify(key.slice(0, 20)), async () => {
      const response = await post(key)
      expect(response.status).toBe(400)
      expect(await response.json()).toMatchObject({ code: 'idempotency_key_invalid' })
    })
  }

  test('255 characters of the allowed ones are fine', async () => {
    expect((await post(`${'aZ0_-:.'.repeat(36)}abc`)).status).toBe(202)
  })
})

test('without a key every request is a new run', async () => {
  expect(await world.run(seed)).not.toBe(await world.run(seed))
})

test('canonical JSON is equal for equal values, and for those only', () => {
  expect(canonical({ b: [1, { d: null, c: 'é' }], a: -0 })).toBe('{"a":0,"b":[1,{"c":"é","d":null}]}')
  expect(canonical({ a: '1' })).not.toBe(canonical({ a: 1 }))
  expect(canonical({ a: [1, 2] })).not.toBe(canonical({ a: [2, 1] }))
})

test('a route whose answer shows a text once takes no key, and says so before it makes anything', async () => {
  const before = await Promise.all([world.store.apiKeys(), world.store.webhookSecrets('ada')])
  for (const path of ['/api/v1/keys', '/api/v1/keys/bob/rotate', '/api/v1/webhook_secrets/rotate']) {
    const refused = await world.ask('POST', path, {
      body: path.endsWith('keys') ? { name: 'shop' } : {},
      headers: { 'idempotency-key': newKey() },
    })
    expect([path, refused.status]).toEqual([path, 400])
    expect(await refused.json()).toMatchObject({
      code: 'invalid_request',
      errors: [{ parameter: 'Idempotency-Key', hint: expect.stringContaining('without') }],
    })
  }
  expect(await Promise.all([world.store.apiKeys(), world.store.webhookSecrets('ada')])).toEqual(before)
})
