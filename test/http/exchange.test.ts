/** What every exchange can do: be silent for a while, and be left. */
import { afterAll, beforeAll, expect, test } from 'bun:test'
import seed from '../fixtures/seed.request.json'
import { HttpWorld } from '../support/http-world.ts'

let world: HttpWorld
beforeAll(async () => {
  world = await HttpWorld.open()
})
afterAll(() => world.close())

test('what may be silent for long says for how long before it is', async () => {
  const silence = async (method: string, path: string, body?: unknown, headers: Record<string, string> = {}) => {
    const seconds: number[] = []
    const server = { timeout: (_: Request, given: number) => seconds.push(given), requestIP: () => null }
    const answer = await world.api.fetch(world.request(method, path, { body, headers }), server)
    await answer.body?.cancel()
    return seconds[0]
  }
  world.provider.instant = false
  const id = await world.run(seed)
  await world.until(async () => (await world.engine.run(id))?.steps[0]?.status === 'running')
  expect(await silence('GET', `/api/v1/runs/${id}/events`)).toBe(0)
  const waited = silence('GET', `/api/v1/runs/${id}?wait=7`)
  await world.ask('POST', `/api/v1/runs/${id}/cancel`)
  await world.runToEnd(id)
  expect(await waited).toBe(12)
  expect(await silence('GET', `/api/v1/runs/${id}?wait=7`)).toBeUndefined()
  expect(await silence('POST', '/api/v1/media', new Uint8Array(9), { 'content-type': 'image/png' })).toBe(120)
  expect(await silence('POST', '/api/v1/deliveries/test', { url: 'https://hooks.example.com/' })).toBe(25)
})

test('a caller that goes away while its body is read is no fault of ours', async () => {
  const gone = new AbortController()
  const body = new ReadableStream({
    pull(controller) {
      gone.abort()
      controller.error(new Error('the socket is closed'))
    },
  })
  const request = world.request('POST', '/api/v1/chains/chain1/runs', { body })
  await world.api.fetch(new Request(request, { signal: gone.signal }))
  expect(JSON.stringify(world.logged)).not.toContain('request failed')
  expect(await world.deps.metrics.text()).not.toContain('babychain_faults_total{')
})
