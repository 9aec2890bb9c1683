/** Bodies that are held back, over a real server: what a key may is asked again when the body of its request is whole. */
import { afterEach, beforeEach, expect, test } from 'bun:test'
import { overlay } from '../../src/app/tracing/overlay.ts'
import { HttpWorld } from '../support/http-world.ts'
import { samplePicture } from '../support/sample-media.ts'

interface Key {
  id: string
  key: string
}

let world: HttpWorld
let server: ReturnType<typeof Bun.serve>
/** Told of every text that was asked for. */
let asked: (key: string) => void

beforeEach(async () => {
  asked = () => {}
  world = await HttpWorld.open(deps =>
    overlay(deps, {
      auth: async key => {
        asked(key)
        return deps.auth(key)
      },
    }),
  )
  server = Bun.serve({ port: 0, hostname: '127.0.0.1', fetch: (request, bun) => world.api.fetch(request, bun) })
})
afterEach(async () => {
  await server.stop(true)
  await world.close()
})

const ALL = ['keys:manage', 'runs:read', 'runs:write', 'callbacks:manage']
const make = (body: object = {}) =>
  world.json<Key>('POST', '/api/v1/keys', { body: { name: 'shop', scopes: ALL, ...body } })

/** A request of which all but the body's end was sent, and whose key was found good; `finish` sends the rest. */
async function held({ key }: Key, method: string, path: string, whole: Uint8Array, type = 'application/json') {
  const known = Promise.withResolvers<void>()
  const rest = Promise.withResolvers<void>()
  asked = text => text === key && known.resolve()
  const body = new ReadableStream<Uint8Array>({
    async start(controller) {
      controller.enqueue(whole.subarray(0, 1))
      await rest.promise
      controller.enqueue(whole.subarray(1))
      controller.close()
    },
  })
  const headers = { authorization: `Bearer ${key}`, 'content-type': type }
  const answer = fetch(new URL(path, server.url), { method, headers, body })
  await known.promise
  return async () => {
    rest.resolve()
    const { status, headers: said } = await answer
    const text = await (await answer).text()
    return { status, text, challenge: said.get('www-authenticate') }
  }
}
const bytesOf = (body: object) => new TextEncoder().encode(JSON.stringify(body))

const RUN = { input: { prompt: 'a hut' } }

async function formOf(picture: Uint8Array): Promise<{ body: Uint8Array; type: string }> {
  const form = new FormData()
  form.append('file', new Blob([picture as Uint8Array<ArrayBuffer>], { type: 'image/png' }))
  const made = new Response(form)
  return { type: made.headers.get('content-type') ?? '', body: await made.bytes() }
}

/** All that a request could have made, by number. */
async function counts() {
  const { data } = await world.json<{ data: object[] }>('GET', '/api/v1/keys')
  return { keys: JSON.stringify(data), stored: await world.store.counts(), posted: world.posted.length }
}

test.each([
  ['POST', '/api/v1/keys', { name: 'back door', scopes: ALL }],
  ['PATCH', '/api/v1/keys/OWN', { name: 'back door' }],
  ['POST', '/api/v1/keys/OWN/rotate', { overlap_seconds: 0 }],
  ['POST', '/api/v1/webhook_secrets/rotate', { overlap_seconds: 0 }],
  ['POST', '/api/v1/chains/chain1/runs', RUN],
  ['POST', '/api/v1/chains/chain1/estimate', RUN],
  ['POST', '/api/v1/runs/01980000-0000-7000-8000-000000000000/resume', {}],
  ['POST', '/api/v1/deliveries/recover', { since: '2026-01-01T00:00:00Z' }],
  ['POST', '/api/v1/deliveries/test', { url: 'https://shop.example/hook' }],
] as const)('%s %s does nothing when its key was revoked before its body came', async (method, path, body) => {
  const key = await make()
  const finish = await held(key, method, path.replace('OWN', key.id), bytesOf(body))
  expect((await world.ask('POST', `/api/v1/keys/${key.id}/revoke`)).status).toBe(200)
  const before = await counts()
  expect(await finish()).toMatchObject({
    status: 401,
    text: expect.stringContaining('The API key is unknown, expired or revoked.'),
    challenge: 'Bearer realm="babychain"',
  })
  expect(await counts()).toEqual(before)
})

test.each(['bytes', 'a form'])(
  'a picture that comes as %s is not stored when its key was revoked meanwhile',
  async way => {
    const key = await make()
    const png = await samplePicture('png')
    const { body, type } = way === 'bytes' ? { body: png, type: 'image/png' } : await formOf(png)
    const rows: unknown[] = []
    const { addMedia } = world.store
    world.store.addMedia = async row => {
      rows.push(row)
      return addMedia.call(world.store, row)
    }
    const gone = await held(key, 'POST', '/api/v1/media', body, type)
    await world.ask('POST', `/api/v1/keys/${key.id}/revoke`)
    expect(await gone()).toMatchObject({ status: 401 })
    expect(rows).toEqual([])
    const good = await held(await make(), 'POST', '/api/v1/media', body, type)
    expect(await good()).toMatchObject({ status: 201 })
    expect(rows).toHaveLength(1)
  },
)

test('a body counts no more when its key has expired, or its text was rotated away, while it was held back', async () => {
  const ends = await make({ expires_at: new Date(world.clock.now() + 60_000).toISOString() })
  const late = await held(ends, 'POST', '/api/v1/keys', bytesOf({ name: 'x' }))
  world.aheadMs = -60_001
  expect(await late()).toMatchObject({ status: 401 })
  world.aheadMs = 0
  const turned = await make()
  const old = await held(turned, 'POST', '/api/v1/keys', bytesOf({ name: 'x' }))
  await world.ask('POST', `/api/v1/keys/${turned.id}/rotate`, { body: { overlap_seconds: 0 } })
  expect(await old()).toMatchObject({ status: 401 })
})

test('a body that is held back counts for a key that is still good, and for one request of it', async () => {
  const key = await make({ rate_per_minute: 10 })
  const finish = await held(key, 'POST', '/api/v1/keys', bytesOf({ name: 'x' }))
  expect(await finish()).toMatchObject({ status: 201 })
  const { headers } = await world.ask('GET', '/api/v1/keys', { key: key.key })
  expect(headers.get('ratelimit')).toContain('r=8')
})

test.each([
  ['PATCH', '', { max_running: 5 }],
  ['POST', '/rotate', { overlap_seconds: 0 }],
] as const)(
  '%s /api/v1/keys/{id}%s asks who may touch the key when the body has come: it may do more by then',
  async (method, verb, body) => {
    const manager = await make({ max_running: 10 })
    const other = await make({ max_running: 10 })
    const finish = await held(manager, method, `/api/v1/keys/${other.id}${verb}`, bytesOf(body))
    await world.ask('PATCH', `/api/v1/keys/${other.id}`, { body: { max_running: 20 } })
    expect(await finish()).toMatchObject({ status: 403, text: expect.stringContaining('Your key has max_running 10') })
  },
)
