/** Webhooks of providers: rules IN-1 to IN-5 (numbers of the rules in the names). */
import { afterAll, beforeAll, describe, expect, test } from 'bun:test'
import { overlay } from '../../src/app/tracing/overlay.ts'
import { StorageUnavailable } from '../../src/core/ports.ts'
import seed from '../fixtures/seed.request.json'
import { HttpWorld } from '../support/http-world.ts'

let world: HttpWorld
beforeAll(async () => {
  world = await HttpWorld.open()
})
afterAll(() => world.close())

let runs = 0

/** A run whose first step is at the provider, and the token of its attempt. */
async function running(): Promise<{ id: string; token: string }> {
  world.provider.instant = false
  runs += 1
  const id = await world.run({ ...seed, metadata: { n: String(runs) } })
  await world.until(async () => (await world.engine.run(id))?.steps[0]?.status === 'running')
  const job = world.provider.started.findLast(each => each.runId === id)
  return { id, token: job?.token ?? '' }
}

const post = (token: string, body = 'signed', provider = 'studio') =>
  world.ask('POST', `/api/v1/inbound/${provider}/${token}`, { key: null, body })

describe('a webhook', () => {
  test('of the provider makes the run ask for its job at once', async () => {
    const { id, token } = await running()
    const began = world.clock.now()
    world.provider.instant = true
    const response = await post(token)
    expect([response.status, await response.json()]).toEqual([200, { received: true }])
    await world.until(async () => (await world.engine.run(id))?.steps[0]?.status === 'succeeded')
    expect(world.clock.now() - began).toBeLessThanOrEqual(1_000)
    await world.runToEnd(id)
  })

  test('that is forged is 401, echoes nothing and changes nothing (IN-1)', async () => {
    const { id, token } = await running()
    const before = await world.engine.run(id)
    const response = await post(token, 'forged secret words')
    const text = await response.text()
    expect(response.status).toBe(401)
    expect(text).not.toContain('forged')
    expect(text).not.toContain('bad signature')
    expect(await world.engine.run(id)).toEqual(before)
    world.provider.instant = true
    await world.runToEnd(id)
  })

  test('brings the job that it names to its attempt; while the server stops its provider is asked to come again', async () => {
    const hinted: unknown[] = []
    const jobRef = { id: 'j1', hooked: true }
    const own = await HttpWorld.open(deps => ({
      ...deps,
      inbound: async () => ({ type: 'hint', jobRef }),
      engine: overlay(deps.engine, { hint: async (...named) => hinted.push(named) > 0 }),
    }))
    own.provider.instant = false
    const id = await own.run(seed)
    await own.until(async () => (await own.engine.run(id))?.steps[0]?.status === 'running')
    const token = own.provider.started[0]?.token
    const sent = () => own.ask('POST', `/api/v1/inbound/studio/${token}`, { key: null, body: 'x' })
    expect((await sent()).status).toBe(200)
    expect(hinted).toEqual([[token, jobRef]])
    own.draining.abort()
    const later = await sent()
    expect([later.status, later.headers.get('retry-after'), hinted.length]).toEqual([503, '5', 1])
    await own.close()
  })

  test('of a provider that sends none is 404, although its attempt is known', async () => {
    const none = await HttpWorld.open(deps => ({ ...deps, inbound: async () => null }))
    none.provider.instant = false
    const id = await none.run(seed)
    await none.until(async () => (await none.engine.run(id))?.steps[0]?.status === 'running')
    const path = `/api/v1/inbound/studio/${none.provider.started[0]?.token}`
    expect((await none.ask('POST', path, { key: null, body: 'signed' })).status).toBe(404)
    await none.close()
  })

  test('twice, or after the end, is taken and changes nothing (IN-5)', async () => {
    const { id, token } = await running()
    world.provider.instant = true
    await post(token)
    await post(token)
    await world.runToEnd(id)
    const ended = await world.engine.run(id)
    expect((await post(token)).status).toBe(200)
    await world.quiet()
    expect(await world.engine.run(id)).toEqual(ended)
  })

  test('with a token that nobody has, or of another provider, is 404 (IN-2)', async () => {
    const { id, token } = await running()
    for (const [which, provider] of [
      ['A'.repeat(22), 'studio'],
      [token.slice(1), 'studio'],
      [token, 'fal'],
      [token, 'other'],
      ['short', 'studio'],
      ['%00'.repeat(8), 'studio'],
    ]) {
      expect([which, (await post(which ?? '', 'signed', provider)).status]).toEqual([which, 404])
    }
    world.provider.instant = true
    await world.runToEnd(id)
  })

  test('needs no JSON and no content type: its raw bytes are what is signed', async () => {
    const { id, token } = await running()
    const response = await world.ask('POST', `/api/v1/inbound/studio/${token}`, {
      key: null,
      body: new TextEncoder().encode('signed'),
      headers: { 'content-type': 'application/x-www-form-urlencoded' },
    })
    expect(response.status).toBe(200)
    world.provider.instant = true
    await world.runToEnd(id)
  })

  test('of more than 16 MiB is 413', async () => {
    const { id, token } = await running()
    const response = await world.ask('POST', `/api/v1/inbound/studio/${token}`, {
      key: null,
      body: new Uint8Array((16 << 20) + 1),
    })
    expect(response.status).toBe(413)
    world.provider.instant = true
    await world.runToEnd(id)
  })
})

test('while the disk is full the provider is asked to come again (IN-3)', async () => {
  const full = await HttpWorld.open(deps => ({
    ...deps,
    engine: overlay(deps.engine, {
      hint: async () => {
        throw new StorageUnavailable('no space')
      },
    }),
  }))
  full.provider.instant = false
  const id = await full.run(seed)
  await full.until(async () => (await full.engine.run(id))?.steps[0]?.status === 'running')
  const token = full.provider.started[0]?.token ?? ''
  const response = await full.ask('POST', `/api/v1/inbound/studio/${token}`, { key: null, body: 'signed' })
  expect([response.status, response.headers.get('retry-after')]).toEqual([503, '2'])
  await full.close()
})
