/** The cookie of a browser: sealed by this installation, for our own pages, for a month. */
import { expect, test } from 'bun:test'
import { seal, unseal } from '../../src/app/secrets.ts'
import type { Inbox } from '../../src/http/inbox.ts'
import { createSessions, type Sessions } from '../../src/http/session.ts'
import { HttpWorld } from '../support/http-world.ts'

let now = 1_800_000_000_000
const sessionsOf = (fill: number, secure = false): Sessions => {
  const key = new Uint8Array(32).fill(fill)
  const sealing = {
    seal: (secret: Uint8Array) => seal(secret, key, 'session cookie'),
    unseal: (sealed: Uint8Array) => unseal(sealed, key, 'session cookie'),
  }
  return createSessions({ ...sealing, now: () => now, secure })
}
const sessions = sessionsOf(1)
const cookieOf = (set: string): string => set.split(';')[0] ?? ''
const asked = (cookie: string, headers: Record<string, string> = { 'sec-fetch-site': 'same-origin' }): Request =>
  new Request('http://babychain.test/api/v1/runs', { headers: { cookie: `a=b; ${cookie}; c=d`, ...headers } })

test('a cookie holds its key, unreadable, for thirty days', () => {
  const set = sessions.cookie('bck_live_secret')
  expect(set).toMatch(/^babychain_session=[\w-]+; Path=\/; HttpOnly; SameSite=Strict; Max-Age=2592000$/)
  expect(sessionsOf(1, true).cookie('x')).toEndWith('; Secure')
  expect(Buffer.from(cookieOf(set).slice(18), 'base64url').toString('latin1')).not.toContain('secret')
  expect(sessions.keyOf(asked(cookieOf(set)))).toBe('bck_live_secret')
  const began = now
  now += 30 * 86_400_000
  expect(sessions.keyOf(asked(cookieOf(set)))).toBeNull()
  now = began
})

test('a cookie that is changed, cut, empty or of another installation holds none', () => {
  const cookie = cookieOf(sessions.cookie('bck_live_secret'))
  const [name = '', value = ''] = cookie.split('=')
  const bytes = Buffer.from(value, 'base64url')
  const wrong = [0, 12, 28, bytes.length - 1].map(i => Buffer.from(bytes).fill((bytes[i] ?? 0) ^ 1, i, i + 1))
  for (const each of [...wrong, bytes.subarray(0, 28), bytes.subarray(0, -1), Buffer.alloc(0)])
    expect(sessions.keyOf(asked(`${name}=${each.toString('base64url')}`))).toBeNull()
  expect(sessions.keyOf(asked(cookieOf(sessionsOf(2).cookie('bck_live_secret'))))).toBeNull()
})

test('a cookie that another site sends counts for nothing', () => {
  const cookie = cookieOf(sessions.cookie('bck_live_secret'))
  for (const headers of [{ 'sec-fetch-site': 'cross-site' }, { origin: 'http://elsewhere.test' }])
    expect(sessions.keyOf(asked(cookie, headers as unknown as Record<string, string>))).toBeNull()
})

test.each([
  ['same-origin', 'GET', true],
  ['same-origin', 'POST', true],
  ['none', 'GET', true],
  ['none', 'HEAD', true],
  ['none', 'POST', false],
  ['none', 'DELETE', false],
  ['same-site', 'GET', false],
  ['same-site', 'POST', false],
  ['cross-site', 'GET', false],
  ['cross-site', 'POST', false],
  ['', 'GET', false],
  ['a site of later browsers', 'POST', false],
])('with Sec-Fetch-Site "%s" a cookie on %s counts: %p, whatever Origin says', (site, method, counts) => {
  const cookie = cookieOf(sessions.cookie('bck_live_secret'))
  for (const origin of [null, 'http://babychain.test', 'http://elsewhere.test']) {
    const headers = { cookie, 'sec-fetch-site': site, ...(origin === null ? {} : { origin }) }
    const request = new Request('http://babychain.test/api/v1/runs', { method, headers })
    expect(sessions.keyOf(request)).toBe(counts ? 'bck_live_secret' : null)
  }
})

test('without Sec-Fetch-Site a cookie counts on what reads, and on what Origin says our own page asks', () => {
  const cookie = cookieOf(sessions.cookie('bck_live_secret'))
  const keyOf = (method: string, origin?: string) => {
    const headers = { cookie, host: 'babychain.test', ...(origin === undefined ? {} : { origin }) }
    return sessions.keyOf(new Request('http://babychain.test/api/v1/runs', { method, headers }))
  }
  expect([keyOf('GET'), keyOf('POST', 'http://babychain.test')]).toEqual(['bck_live_secret', 'bck_live_secret'])
  for (const origin of [undefined, 'null', 'http://elsewhere.test', 'http://babychain.test.elsewhere.test'])
    expect(keyOf('POST', origin)).toBeNull()
  expect(keyOf('GET', 'http://elsewhere.test')).toBeNull()
})

test('our own pages learn who has signed in, and since when the server runs, in the form of every time of the API', async () => {
  const world = await HttpWorld.open(deps => ({ ...deps, sessions }))
  const at = new Date(now).toISOString().replace('Z', '+00:00')
  const stranger = { object: 'session', signed_in: false, mode: world.deps.mode, version: world.deps.version }
  expect(await world.json('GET', '/api/v1/session', { key: null })).toEqual(stranger)
  const signedIn = await world.ask('POST', '/api/v1/session', { key: null, body: { key: 'key-of-a-reader' } })
  const known = { ...stranger, signed_in: true, key_id: 'ada', scopes: ['runs:read'], started_at: at, inbox_url: null }
  expect(await signedIn.json()).toEqual(known)
  const headers = { cookie: cookieOf(signedIn.headers.get('set-cookie') ?? ''), 'sec-fetch-site': 'same-origin' }
  expect(await world.json('GET', '/api/v1/session', { key: null, headers })).toEqual(known)
  await world.close()
})

test('a session that is of another key than its page shows counts for nothing there; a bearer key always does', async () => {
  const world = await HttpWorld.open(deps => ({ ...deps, sessions }))
  const cookie = cookieOf(sessions.cookie('key-of-bob'))
  const asked = (shown: Record<string, string>) =>
    world.ask('GET', '/api/v1/runs', { key: null, headers: { cookie, 'sec-fetch-site': 'same-origin', ...shown } })
  const refused = await asked({ 'x-babychain-key-id': 'ada' })
  expect(refused.status).toBe(401)
  expect(await refused.json()).toMatchObject({ detail: 'Another key has signed in since, in another tab.' })
  for (const same of [await asked({ 'x-babychain-key-id': 'bob' }), await asked({})]) expect(same.status).toBe(200)
  for (const more of [{}, { cookie, 'sec-fetch-site': 'same-origin' }]) {
    const bearer = (key: string) =>
      world.ask('GET', '/api/v1/runs', {
        key,
        headers: { 'x-babychain-key-id': 'ada', ...more } as Record<string, string>,
      })
    expect([(await bearer('key-of-bob')).status, (await bearer('key-of-ada')).status]).toEqual([200, 200])
    // Nor does a session stand in for a key that is none.
    expect((await bearer('key-of-nobody')).status).toBe(401)
  }
  await world.close()
})

test('a sign-out ends the session that its page shows, and no other one', async () => {
  const world = await HttpWorld.open(deps => ({ ...deps, sessions }))
  const signOut = (cookie: string, shown: Record<string, string> = {}) =>
    world.ask('DELETE', '/api/v1/session', {
      key: null,
      headers: { cookie, 'sec-fetch-site': 'same-origin', ...shown },
    })
  const bob = cookieOf(sessions.cookie('key-of-bob'))
  const stale = await signOut(bob, { 'x-babychain-key-id': 'ada' })
  expect([stale.status, stale.headers.get('set-cookie')]).toEqual([401, null])
  expect(await stale.json()).toMatchObject({ detail: 'Another key has signed in since, in another tab.' })
  const revoked = cookieOf(sessions.cookie('key-of-nobody'))
  for (const own of [
    await signOut(bob, { 'x-babychain-key-id': 'bob' }),
    await signOut(bob),
    await signOut(revoked, { 'x-babychain-key-id': 'ada' }),
  ])
    expect([own.status, own.headers.get('set-cookie')]).toEqual([200, expect.stringContaining('Max-Age=0')])
  await world.close()
})

test('a one-time token signs in once, and for a quarter of an hour', async () => {
  const world = await HttpWorld.open(deps => ({ ...deps, sessions }))
  const signIn = (token: string) => world.ask('POST', '/api/v1/session', { key: null, body: { token } })
  const began = now
  const [first, second] = [sessions.token('key-of-bob'), sessions.token('key-of-ada')]
  now += 15 * 60_000 - 1
  const signedIn = await signIn(first)
  expect([signedIn.status, await signedIn.json()]).toEqual([201, expect.objectContaining({ key_id: 'bob' })])
  expect(sessions.keyOf(asked(cookieOf(signedIn.headers.get('set-cookie') ?? '')))).toBe('key-of-bob')
  expect((await signIn(first)).status).toBe(401)
  now += 1
  for (const token of [first, second, 'never-made', '']) {
    const refused = await signIn(token)
    expect([token, refused.status, refused.headers.get('set-cookie')]).toEqual([token, 401, null])
    expect(await refused.json()).toMatchObject({ detail: expect.stringContaining('older than 15 minutes') })
  }
  now = began
  await world.close()
})

test('signing out takes the cookie away', async () => {
  const world = await HttpWorld.open(deps => ({ ...deps, sessions }))
  const left = await world.ask('DELETE', '/api/v1/session', { key: null })
  expect([left.status, ((await left.json()) as { signed_in: boolean }).signed_in]).toEqual([200, false])
  expect(left.headers.get('set-cookie')).toBe('babychain_session=; Path=/; HttpOnly; SameSite=Strict; Max-Age=0')
  await world.close()
})

test('what is no key signs nobody in, and a body holds one credential and nothing else', async () => {
  const world = await HttpWorld.open(deps => ({ ...deps, sessions }))
  const refused = async (body: unknown) => {
    const answer = await world.ask('POST', '/api/v1/session', { key: null, body })
    expect(answer.headers.get('set-cookie')).toBeNull()
    return answer.status
  }
  for (const key of ['key-of-nobody', '', 'k'.repeat(512)]) expect([key, await refused({ key })]).toEqual([key, 401])
  const key = 'key-of-ada'
  for (const body of [{}, [key], 'key', { key: 1 }, { key, token: key }, { secret: key }, { key: 'k'.repeat(513) }])
    expect([body, await refused(body)]).toEqual([body, 400])
  await world.close()
})

test('of the body of a sign-in 4 KiB are taken, and no more is read of a stranger', async () => {
  const world = await HttpWorld.open(deps => ({ ...deps, sessions }))
  const key = 'key-of-a-reader'
  const escaped = [...key].map(char => `\\u${char.charCodeAt(0).toString(16).padStart(4, '0')}`).join('')
  const signIn = (body: string | ReadableStream, headers = {}) =>
    world.ask('POST', '/api/v1/session', { key: null, body, headers })
  expect((await signIn(`{"key":"${escaped}"}`.padEnd(4_096))).status).toBe(201)
  expect((await signIn(`{"key":"${escaped}"}`.padEnd(4_097))).status).toBe(413)
  let pulled = 0
  const endless = () =>
    new ReadableStream<Uint8Array>(
      {
        pull(controller) {
          pulled += 1
          controller.enqueue(new Uint8Array(1_024).fill(0x20))
        },
      },
      { highWaterMark: 0 },
    )
  expect([(await signIn(endless(), { 'content-length': '4097' })).status, pulled]).toEqual([413, 0])
  expect([(await signIn(endless())).status, pulled]).toEqual([413, 5])
  await world.close()
})

test('the page of the inbox is told what came, and no more than that; where there is no inbox there is no page', async () => {
  const message = { id: 'msg_1', at: now, verified: true, headers: { 'webhook-id': 'msg_1' }, body: '{"type":"a.b"}' }
  const inbox: Inbox = { urlOf: id => `http://x.test/${id}`, messagesOf: () => [{ ...message, ...{ secret: 'no' } }] }
  const world = await HttpWorld.open(deps => ({ ...deps, inbox }))
  const at = new Date(now).toISOString().replace('Z', '+00:00')
  const data = [{ ...message, at, body: { type: 'a.b' } }]
  expect(await world.json('GET', '/api/v1/inbox')).toEqual({ object: 'list', url: 'http://x.test/ada', data })
  await world.close()
  const without = await HttpWorld.open()
  expect((await without.ask('GET', '/api/v1/inbox')).status).toBe(404)
  await without.close()
})
