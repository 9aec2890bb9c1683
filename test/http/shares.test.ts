/** Places of which one key holds at most its share, and the waits that are counted so. */
import { expect, test } from 'bun:test'
import { createShares } from '../../src/http/shares.ts'
import seed from '../fixtures/seed.request.json'
import { HttpWorld } from '../support/http-world.ts'

test('a key has its share, the others have what is left, and a place is given back once', () => {
  const shares = createShares({ perKey: 2, inAll: 3 })
  const first = shares.take('ada')
  if ('full' in first) throw new Error('there is room')
  expect([shares.take('ada'), shares.count]).toEqual([{ free: expect.any(Function) }, 2])
  expect(shares.take('ada')).toEqual({ full: 'key' })
  expect([shares.take('bob'), shares.take('bob')]).toEqual([{ free: expect.any(Function) }, { full: 'server' }])
  first.free()
  first.free()
  expect(shares.count).toBe(2)
  expect([shares.take('bob'), shares.take('ada')]).toEqual([{ free: expect.any(Function) }, { full: 'server' }])
})

test('a key that waits for all that it may leaves the others their waits', async () => {
  const world = await HttpWorld.open()
  world.provider.instant = false
  const mine = await world.run(seed)
  const theirs = await world.run(seed, 'chain1', { key: 'key-of-bob' })
  const gauge = async () => Number(/^babychain_http_waiters (.*)$/m.exec(await world.deps.metrics.text())?.[1])
  const gone = new AbortController()
  const wait = (id: string, key: string): Promise<Response> => {
    const request = world.request('GET', `/api/v1/runs/${id}?wait=60`, { key })
    return world.api.fetch(new Request(request, { signal: gone.signal }))
  }
  const waiting = Array.from({ length: 64 }, () => wait(mine, 'key-of-ada'))
  await world.quiet()
  expect(await gauge()).toBe(64)
  // The next is answered at once: no time passes here, so it would never be otherwise.
  expect(((await (await wait(mine, 'key-of-ada')).json()) as { status: string }).status).toBe('running')
  const other = wait(theirs, 'key-of-bob')
  await world.quiet()
  expect(await gauge()).toBe(65)
  gone.abort()
  await Promise.all([...waiting, other])
  expect(await gauge()).toBe(0)
  await world.close()
})
