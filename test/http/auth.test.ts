/** Who may do what, and how little strangers learn. */
import { afterAll, beforeAll, describe, expect, test } from 'bun:test'
import { SCOPES, type Scope } from '../../src/core/keys.ts'
import { StorageUnavailable } from '../../src/core/ports.ts'
import seed from '../fixtures/seed.request.json'
import { HttpWorld } from '../support/http-world.ts'

let world: HttpWorld
beforeAll(async () => {
  world = await HttpWorld.open()
})
afterAll(() => world.close())

const GUARDED: [string, string][] = [
  ['POST', '/api/v1/chains/chain1/runs'],
  ['POST', '/api/v1/chains/chain1/estimate'],
  ['GET', '/api/v1/chains/get/00000000-0000-7000-8000-000000000001'],
  ['GET', '/api/v1/runs'],
  ['GET', '/api/v1/runs/00000000-0000-7000-8000-000000000001'],
  ['GET', '/api/v1/runs/00000000-0000-7000-8000-000000000001/events'],
  ['POST', '/api/v1/runs/00000000-0000-7000-8000-000000000001/cancel'],
  ['POST', '/api/v1/runs/00000000-0000-7000-8000-000000000001/resume'],
  ['GET', '/api/v1/chains'],
  ['GET', '/api/v1/models'],
  ['GET', '/api/v1/models/bfl/flux-2-flex'],
  ['POST', '/api/v1/media'],
  ['GET', '/api/v1/media/00000000-0000-7000-8000-000000000001'],
  ['GET', '/api/v1/deliveries'],
  ['GET', '/api/v1/deliveries/msg_00000000000070008000000000000001'],
  ['POST', '/api/v1/deliveries/msg_00000000000070008000000000000001/resend'],
  ['POST', '/api/v1/deliveries/recover'],
  ['POST', '/api/v1/deliveries/test'],
  ['GET', '/api/v1/webhook_secrets'],
  ['POST', '/api/v1/webhook_secrets/rotate'],
  ['GET', '/api/v1/keys'],
  ['POST', '/api/v1/keys'],
  ['GET', '/api/v1/keys/bootstrap'],
  ['PATCH', '/api/v1/keys/bootstrap'],
  ['POST', '/api/v1/keys/bootstrap/rotate'],
  ['POST', '/api/v1/keys/bootstrap/revoke'],
  ['GET', '/metrics'],
]

describe('without a valid key', () => {
  for (const [method, path] of GUARDED) {
    test(`${method} ${path} is 401, whatever else is wrong`, async () => {
      const wrong = { body: method === 'POST' ? '{"broken' : undefined, headers: { 'content-type': 'text/plain' } }
      for (const key of [null, 'nobody', '']) {
        const response = await world.ask(method, `${path}?limit=x&wait=x`, { key, ...wrong })
        expect([key, response.status]).toEqual([key, 401])
        expect(response.headers.get('www-authenticate')).toBe('Bearer realm="babychain"')
        expect(await response.json()).toMatchObject({ code: 'unauthenticated', status: 401, retryable: false })
      }
    })
  }

  test('a body of any size is not read', async () => {
    let pulled = 0
    const body = new ReadableStream<Uint8Array>(
      {
        pull(controller) {
          pulled += 1
          controller.enqueue(new Uint8Array(1024))
        },
      },
      { highWaterMark: 0 },
    )
    const response = await world.ask('POST', '/api/v1/chains/chain1/runs', { key: null, body })
    expect([response.status, pulled]).toEqual([401, 0])
  })
})

test('health, readiness and the Swagger page need no key', async () => {
  for (const path of ['/healthz', '/readyz', '/swagger', '/swagger/json', '/swagger/start.js']) {
    expect([path, (await world.ask('GET', path, { key: null })).status]).toEqual([path, 200])
  }
})

describe('the Authorization header', () => {
  const get = (authorization: string) => world.ask('GET', '/api/v1/runs', { key: null, headers: { authorization } })

  test('names its scheme in any case', async () => {
    for (const header of ['Bearer key-of-ada', 'bearer key-of-ada', 'BEARER   key-of-ada ']) {
      expect([header, (await get(header)).status]).toEqual([header, 200])
    }
  })

  test('of another form is 401', async () => {
    for (const header of ['key-of-ada', 'Basic a2V5', 'Bearer', 'Bearer key of ada', `Bearer ${'a'.repeat(513)}`]) {
      expect([header.slice(0, 30), (await get(header)).status]).toEqual([header.slice(0, 30), 401])
    }
  })

  test('twice is 400, even when both are right', async () => {
    const response = await get('Bearer key-of-ada, Bearer key-of-ada')
    expect(response.status).toBe(400)
    expect(await response.json()).toMatchObject({ errors: [{ parameter: 'Authorization' }] })
  })
})

test('a key that may only read is 403 where something is made, and the answer names the scope', async () => {
  for (const [method, path] of GUARDED.filter(([method, path]) => method === 'POST' && !path.endsWith('estimate'))) {
    const response = await world.ask(method, path, { key: 'key-of-a-reader', body: seed })
    expect([path, response.status]).toEqual([path, 403])
    const scope = /keys/.test(path)
      ? 'keys:manage'
      : /deliveries|webhook/.test(path)
        ? 'callbacks:manage'
        : 'runs:write'
    expect(await response.text()).toContain(scope)
  }
  expect((await world.ask('GET', '/api/v1/runs', { key: 'key-of-a-reader' })).status).toBe(200)
  const estimate = await world.ask('POST', '/api/v1/chains/chain1/estimate', { key: 'key-of-a-reader', body: seed })
  expect(estimate.status).toBe(200)
})

test('a key without the scope is 403 everywhere, and twice a key is 400, as the document says of every operation', async () => {
  const other = await HttpWorld.open(deps => ({
    ...deps,
    auth: async key => (key === 'key-of-nothing' ? { apiKeyId: 'ada', scopes: [] } : deps.auth(key)),
  }))
  for (const [method, path] of GUARDED) {
    const refused = await other.ask(method, path, { key: 'key-of-nothing' })
    expect([path, refused.status]).toEqual([path, 403])
    const authorization = 'Bearer key-of-ada, Bearer key-of-ada'
    const unclear = await other.ask(method, path, { key: null, headers: { authorization } })
    expect([path, unclear.status]).toEqual([path, 400])
  }
  await other.close()
})

/** The scope that each route asks for, and no other. */
const scopeOf = (method: string, path: string): Scope => {
  if (/keys/.test(path)) return 'keys:manage'
  if (/deliveries|webhook/.test(path)) return 'callbacks:manage'
  return method === 'GET' || path.endsWith('estimate') ? 'runs:read' : 'runs:write'
}

test('every route opens for the one scope that it needs, and for none of the others', async () => {
  const other = await HttpWorld.open(deps => ({
    ...deps,
    auth: async scope => ({ apiKeyId: 'ada', scopes: SCOPES.filter(each => each === scope) }),
    inbox: { urlOf: () => '', messagesOf: () => [] },
  }))
  for (const [method, path] of [...GUARDED, ['GET', '/api/v1/inbox'] as const])
    for (const scope of SCOPES) {
      const { status } = await other.ask(method, path, { key: scope })
      expect([path, scope, status === 403]).toEqual([path, scope, scope !== scopeOf(method, path)])
    }
  await other.close()
})

test('the metrics are open to this machine alone: to who only says that he is it they are not', async () => {
  const request = () => new Request('http://localhost/metrics', { headers: { host: 'localhost' } })
  const statusOf = async (address: string) =>
    (await world.api.fetch(request(), { timeout() {}, requestIP: () => ({ address }) })).status
  for (const peer of ['127.0.0.1', '127.8.0.1', '::1', '::ffff:127.0.0.1'])
    expect([peer, await statusOf(peer)]).toEqual([peer, 200])
  for (const peer of ['192.0.2.7', '::ffff:192.0.2.7', '::1:1', '1127.0.0.1', ''])
    expect([peer, await statusOf(peer)]).toEqual([peer, 401])
})

test('while keys cannot be looked up nobody is turned away as a stranger', async () => {
  const down = await HttpWorld.open(deps => ({
    ...deps,
    auth: async () => {
      throw new StorageUnavailable('the disk is full')
    },
  }))
  const response = await down.ask('GET', '/api/v1/runs')
  expect([response.status, response.headers.get('retry-after')]).toEqual([503, '2'])
  await down.close()
})
