/** Deliveries through the API: look, send again, recover, try; and that nobody sees what is not theirs. */
import { afterEach, beforeEach, describe, expect, setSystemTime, test } from 'bun:test'
import { Webhook } from 'standardwebhooks'
import seed from '../fixtures/seed.request.json'
import { HttpWorld } from '../support/http-world.ts'

let world: HttpWorld
beforeEach(async () => {
  world = await HttpWorld.open()
})
afterEach(async () => {
  setSystemTime()
  await world.close()
})

interface Delivery {
  id: string
  run_id: string
  status: string
  attempts: number
  host: string
  next_attempt_at: string | null
  delivered_at: string | null
  last_error: string | null
  attempt_log: {
    no: number
    trigger: string
    error_class: string | null
    reply: string | null
    reason: string | null
  }[]
  payload: { type: string; data: { id: string } }
}
interface Page {
  data: Delivery[]
  has_more: boolean
  next_cursor: string | null
}

const KEY = { name: 'pinger', scopes: ['callbacks:manage'] }
const END = 'https://hooks.example.com/end'
/** A run that has ended, with its delivery waiting. */
async function ended(more: { key?: string; url?: string } = {}): Promise<Delivery> {
  const { key = 'key-of-ada', url = END } = more
  const run = await world.run({ ...seed, webhook_url: url }, 'chain1', { key })
  await world.runToEnd(run)
  const { data } = await world.json<Page>('GET', `/api/v1/deliveries?run_id=${run}`, { key })
  expect(data).toHaveLength(1)
  return data[0] as Delivery
}
const get = (id: string, key = 'key-of-ada') => world.json<Delivery>('GET', `/api/v1/deliveries/${id}`, { key })

describe('a delivery', () => {
  test('is shown with every attempt, why the next time was chosen, and the message', async () => {
    const made = await ended()
    expect(made).toMatchObject({ status: 'pending', attempts: 0, host: 'hooks.example.com:443' })
    world.receiver = () => ({ status: 503 })
    await world.outbox.runOnce()
    const shown = await get(made.id)
    expect(shown).toMatchObject({ status: 'pending', attempts: 1, last_error: 'http_5xx' })
    expect(shown.attempt_log).toMatchObject([
      { no: 1, trigger: 'schedule', http_status: 503, error_class: 'http_5xx', reply: 'thanks', reason: 'breath' },
    ])
    expect(shown.payload).toMatchObject({ type: 'run.succeeded', data: { id: made.run_id } })
    expect(Date.parse(shown.next_attempt_at ?? '') - world.clock.now()).toBe(60_000)
    const run = await world.json<{ callback: object }>('GET', `/api/v1/runs/${made.run_id}`)
    expect(run.callback).toMatchObject({ status: 'pending' })
    expect((await world.ask('GET', '/api/v1/deliveries', { key: 'key-of-a-reader' })).status).toBe(403)
  })

  test('can be sent again after success: 202, the same id and bytes, one attempt that restarts nothing', async () => {
    const { id, run_id } = await ended()
    await world.outbox.runOnce()
    const { status, attempts, delivered_at } = await get(id)
    expect([status, attempts, Date.parse(delivered_at ?? '')]).toEqual(['delivered', 1, world.clock.now()])
    world.clock.advance(1_000)
    world.receiver = () => ({ status: 500 })
    const asked = await world.ask('POST', `/api/v1/deliveries/${id}/resend`)
    expect([asked.status, ((await asked.json()) as Delivery).status]).toEqual([202, 'pending'])
    await world.outbox.runOnce()
    const shown = await get(id)
    expect(shown).toMatchObject({ status: 'delivered', attempts: 1, delivered_at, last_error: 'http_5xx' })
    expect(await world.json('GET', `/api/v1/runs/${run_id}`)).toMatchObject({ callback: { delivered_at } })
    expect(shown.attempt_log.map(each => each.trigger)).toEqual(['schedule', 'manual'])
    const [first, second] = world.posted.map(({ request }) => request)
    expect(second?.body).toEqual(first!.body)
    expect(second?.headers['webhook-id']).toBe(id)
    expect(second?.headers['webhook-timestamp']).not.toBe(first?.headers['webhook-timestamp'])
    expect(await world.store.nextDeliveryAt()).toBeNull()
  })

  test('that is sent again in vain counts as one of which the attempt made nothing, and not as delivered', async () => {
    const { id } = await ended()
    await world.outbox.runOnce()
    world.receiver = () => ({ status: 500 })
    await world.ask('POST', `/api/v1/deliveries/${id}/resend`)
    await world.outbox.runOnce()
    const metrics = await world.deps.metrics.text()
    const posts = [...metrics.matchAll(/^babychain_delivery_attempt_duration_seconds_count(\{.*\} \d+)$/gm)]
    expect(posts.map(([, labels]) => labels)).toEqual([
      '{status="delivered",error_class=""} 1',
      '{status="as_before",error_class="http_5xx"} 1',
    ])
  })

  test('is shown as tried again no earlier than its host is left alone, in the list, by itself and on its run', async () => {
    for (let n = 0; n < 5; n += 1) await ended()
    world.receiver = () => ({ type: 'failed', errorClass: 'timeout', detail: '', ip: null, ms: 5 })
    await world.outbox.runOnce()
    await world.outbox.runOnce()
    const until = world.clock.now() + 60_000
    const { id, run_id } = await ended()
    const next = async () => {
      const [listed] = (await world.json<Page>('GET', `/api/v1/deliveries?run_id=${run_id}`)).data
      const { callback } = await world.json<{ callback: { due_at: string } }>('GET', `/api/v1/runs/${run_id}`)
      return [(await get(id)).next_attempt_at, listed?.next_attempt_at, callback.due_at].map(at => Date.parse(at ?? ''))
    }
    expect(await next()).toEqual([until, until, until])
    const resent = await world.json<Delivery>('POST', `/api/v1/deliveries/${id}/resend`)
    expect(Date.parse(resent.next_attempt_at ?? '')).toBe(until)
    world.outbox.invite({ apiKeyId: 'ada', host: 'hooks.example.com:443' })
    expect(await next()).toEqual(Array(3).fill(world.clock.now()))
  })

  test('of another key, or of nobody, is 404 in every way', async () => {
    const { id, run_id } = await ended()
    for (const each of [id, 'msg_00000000000070008000000000000001', 'nonsense', '__proto__']) {
      expect((await world.ask('GET', `/api/v1/deliveries/${each}`, { key: 'key-of-bob' })).status).toBe(404)
      expect((await world.ask('POST', `/api/v1/deliveries/${each}/resend`, { key: 'key-of-bob' })).status).toBe(404)
    }
    for (const filter of ['', `?run_id=${run_id}`, '?host=hooks.example.com', '?status=pending'])
      expect((await world.json<Page>('GET', `/api/v1/deliveries${filter}`, { key: 'key-of-bob' })).data).toEqual([])
    const range = { since: '2020-01-01T00:00:00Z', until: '2030-01-01T00:00:00Z' }
    expect(await world.json('POST', '/api/v1/deliveries/recover', { key: 'key-of-bob', body: range })).toMatchObject({
      count: 0,
    })
  })
})

test('a stranger’s run, media, events and deliveries are as unknown as what never was', async () => {
  const { id, run_id } = await ended()
  const run = await world.json<{ steps: { outputs: { media_id: string }[] }[] }>('GET', `/api/v1/runs/${run_id}`)
  const media = run.steps[0]?.outputs[0]?.media_id
  const never = '00000000-0000-7000-8000-00000000dead'
  const routes: [string, string, string][] = [
    ['GET', '/api/v1/runs/', run_id],
    ['GET', '/api/v1/chains/get/', run_id],
    ['GET', '/api/v1/runs/{}/events', run_id],
    ['POST', '/api/v1/runs/{}/cancel', run_id],
    ['POST', '/api/v1/runs/{}/resume', run_id],
    ['GET', '/api/v1/media/', media ?? ''],
    ['GET', '/api/v1/deliveries/', id],
    ['POST', '/api/v1/deliveries/{}/resend', id],
  ]
  for (const [method, path, theirs] of routes) {
    const say = async (what: string) => {
      const full = path.includes('{}') ? path.replace('{}', what) : path + what
      const response = await world.ask(method, full, { key: 'key-of-bob' })
      const { request_id: _, instance: __, ...rest } = (await response.json()) as Record<string, unknown>
      return [path, response.status, rest]
    }
    const unknown = await say(theirs.startsWith('msg_') ? `msg_${never.replaceAll('-', '')}` : never)
    expect(unknown[1]).toBe(404)
    expect(await say(theirs)).toEqual(unknown)
  }
  expect((await world.json<Page>('GET', '/api/v1/runs', { key: 'key-of-bob' })).data).toEqual([])
  const wired = { ...seed.input, image_to_image_params: { prompt: 'x', input_image: `media:${media}` } }
  const body = {
    input: {
      ...wired,
      chain_models: { image_to_image_model: 'bfl/flux-2-flex', image_to_video_model: 'bytedance/seedance-1.5-pro' },
    },
  }
  const used = await world.json<{ errors: { code: string }[] }>('POST', '/api/v1/chains/chain2/runs', {
    key: 'key-of-bob',
    body,
  })
  expect(used.errors.map(each => each.code)).toContain('unknown_media')
})

describe('a list of deliveries', () => {
  test('goes page by page, filtered by status and host', async () => {
    const urls = ['https://a.example/x', 'https://b.example:8443/x', 'https://a.example/y', 'https://a.example/z']
    for (const url of urls) {
      await ended({ url })
      world.clock.advance(10)
    }
    const list = (query: string) => world.json<Page>('GET', `/api/v1/deliveries?${query}`)
    const first = await list('limit=3')
    expect([first.data.length, first.has_more]).toEqual([3, true])
    const second = await list(`limit=3&cursor=${first.next_cursor}`)
    expect([second.data.length, second.has_more, second.next_cursor]).toEqual([1, false, null])
    expect((await list('host=a.example')).data).toHaveLength(3)
    expect((await list('host=b.example:8443')).data).toHaveLength(1)
    expect((await list('host=b.example')).data).toHaveLength(0)
    expect((await list('status=delivered')).data).toHaveLength(0)
    await world.outbox.runOnce()
    expect((await list('status=delivered&status=gone&host=a.example')).data).toHaveLength(3)
  })

  test('knows no wrong filters', async () => {
    for (const limit of [1, 100]) expect((await world.ask('GET', `/api/v1/deliveries?limit=${limit}`)).status).toBe(200)
    for (const query of [
      `host=${'a'.repeat(301)}`,
      'host=a%5Cb',
      'host=a:99999',
      'status=done',
      'limit=0',
      'limit=x',
      'cursor=x',
      'run_id=1',
      'host=a%2Fb',
      'hots=a',
      'limit=101',
    ]) {
      const response = await world.ask('GET', `/api/v1/deliveries?${query}`)
      expect([query, response.status]).toEqual([query, 400])
      expect(((await response.json()) as { errors: object[] }).errors).toHaveLength(1)
    }
  })
})

describe('a recovery', () => {
  test('sends failed deliveries of a time and host once more, spread out, and leaves the others alone', async () => {
    const since = new Date(world.clock.now()).toISOString()
    const [a, b, c] = [await ended(), await ended(), await ended({ url: 'https://other.example/x' })]
    world.receiver = () => ({ status: 410 })
    await world.outbox.runOnce()
    expect((await get(a.id)).status).toBe('gone')
    world.clock.advance(1_000)
    world.receiver = () => ({ status: 200 })
    const answer = await world.json('POST', '/api/v1/deliveries/recover', {
      body: { since, host: 'hooks.example.com' },
    })
    expect(answer).toMatchObject({ object: 'recovery', count: 2, host: 'hooks.example.com:443' })
    expect(Date.parse(answer.last_attempt_at as string) - world.clock.now()).toBe(100)
    await world.outbox.runOnce()
    world.clock.advance(100)
    await world.outbox.runOnce()
    for (const { id } of [a, b])
      expect((await get(id)).attempt_log.at(-1)).toMatchObject({ trigger: 'recover', error_class: null })
    expect((await get(c.id)).status).toBe('gone')
    expect(
      await world.json('POST', '/api/v1/deliveries/recover', { body: { since, host: 'hooks.example.com' } }),
    ).toMatchObject({ count: 0 })
  })

  test('needs a time that means something', async () => {
    for (const body of [
      {},
      { since: 'yesterday' },
      { since: '2026-01-02T00:00:00Z', until: '2026-01-01T00:00:00Z' },
      { since: '2026-01-01T00:00:00Z', until: '2026-01-01T00:00:00Z' },
      { since: '2026-01-01T00:00:00Z', until: 'tomorrow' },
      { since: '2026-01-01T25:00:00Z' },
      { since: '2026-01-01T00:00:00Z', host: 'a/b' },
      { since: '2026-01-01T00:00:00Z', untill: 'x' },
    ])
      expect((await world.ask('POST', '/api/v1/deliveries/recover', { body })).status).toBe(400)
  })
})

test('a filter of deliveries that can have one value only is not given twice', async () => {
  const answer = await world.ask(
    'GET',
    '/api/v1/deliveries?host=a:1&host=b:1&status=pending&status=gone&limit=5&limit=9',
  )
  expect(answer.status).toBe(400)
  const { errors } = (await answer.json()) as { errors: { parameter: string }[] }
  expect(new Set(errors.map(each => each.parameter))).toEqual(new Set(['host', 'limit']))
})

describe('a test ping', () => {
  test('is one signed message, whose outcome is the answer', async () => {
    const { secret } = await world.json<{ secret: string }>('POST', '/api/v1/webhook_secrets/rotate')
    world.receiver = () => ({ status: 202 })
    const said = await world.json('POST', '/api/v1/deliveries/test', { body: { url: END } })
    expect(said).toMatchObject({ object: 'ping', delivered: true, http_status: 202, error_class: null, url: END })
    const { headers, body } = world.posted[0]!.request
    setSystemTime(new Date(world.clock.now()))
    const message = new Webhook(secret).verify(new TextDecoder().decode(body), { ...headers })
    const sentAt = said.sent_at as string
    expect(message).toEqual({ type: 'webhook.ping', timestamp: sentAt, data: { api_key_id: 'ada' } })
    expect(sentAt).toMatch(/T[\d:.]+\+00:00$/)
    expect(headers['webhook-id']).toBe(said.webhook_id as string)
    expect((await world.json<Page>('GET', '/api/v1/deliveries')).data).toEqual([])
  })

  test('says by class what went wrong, and never what the receiver wrote', async () => {
    world.receiver = () => ({
      type: 'answered',
      status: 301,
      headers: {},
      text: 'SECRET PAGE',
      ip: '203.0.113.7',
      ms: 5,
      location: 'moved.example',
    })
    const response = await world.ask('POST', '/api/v1/deliveries/test', { body: { url: END } })
    const text = await response.text()
    expect(JSON.parse(text)).toMatchObject({
      delivered: false,
      http_status: 301,
      error_class: 'redirect',
      redirects_to: 'moved.example',
    })
    expect(text).not.toContain('SECRET')
    world.receiver = () => ({ type: 'failed', errorClass: 'tls_error', detail: 'internal words', ip: null, ms: 5 })
    const failed = await world.json('POST', '/api/v1/deliveries/test', { body: { url: END } })
    expect(failed).toMatchObject({ delivered: false, http_status: null, error_class: 'tls_error' })
    expect(JSON.stringify(failed)).not.toContain('internal words')
  })

  test('can be asked for only a few times at once by one key, and others are not held up', async () => {
    const hangs = Promise.withResolvers<void>()
    const { ping } = world.deps.callbacks
    world.deps.callbacks.ping = async (key, url) => {
      if (key === 'ada') await hangs.promise
      return ping(key, url)
    }
    const ask = (key: string) => world.ask('POST', '/api/v1/deliveries/test', { key, body: { url: END } })
    const asked = Array.from({ length: 6 }, () => ask('key-of-ada'))
    const refused = await Promise.race(asked)
    expect([refused.status, refused.headers.get('retry-after')]).toEqual([429, '5'])
    expect((await ask('key-of-bob')).status).toBe(200)
    hangs.resolve()
    expect((await Promise.all(asked)).map(each => each.status).toSorted()).toEqual([200, 200, 200, 200, 429, 429])
    expect((await ask('key-of-ada')).status).toBe(200)
  })

  test('is one of thirty-two in all, so that many keys together hold no more sockets than that', async () => {
    const hangs = Promise.withResolvers<void>()
    const { ping } = world.deps.callbacks
    world.deps.callbacks.ping = async (key, url) => {
      await hangs.promise
      return ping(key, url)
    }
    const keys: string[] = []
    for (let n = 0; n < 9; n += 1)
      keys.push((await world.json<{ key: string }>('POST', '/api/v1/keys', { body: KEY })).key)
    const ask = (key: string) => world.ask('POST', '/api/v1/deliveries/test', { key, body: { url: END } })
    const last = keys.pop() as string
    const asked = keys.flatMap(key => Array.from({ length: 4 }, () => ask(key)))
    await world.quiet()
    const refused = await ask(last)
    expect([refused.status, refused.headers.get('retry-after')]).toEqual([429, '5'])
    expect(await refused.json()).toMatchObject({ code: 'rate_limited', detail: '32 pings are under way.' })
    hangs.resolve()
    expect(new Set((await Promise.all(asked)).map(each => each.status))).toEqual(new Set([200]))
    expect((await ask(last)).status).toBe(200)
  })

  test('goes nowhere where a callback may not go', async () => {
    const response = await world.ask('POST', '/api/v1/deliveries/test', { body: { url: 'https://127.0.0.1/x' } })
    expect([response.status, ((await response.json()) as { code: string }).code]).toEqual([422, 'url_not_allowed'])
    for (const body of [{}, { url: 7 }, { url: `${END}/${'x'.repeat(2_048)}` }, { url: END, urls: [END] }])
      expect((await world.ask('POST', '/api/v1/deliveries/test', { body })).status).toBe(400)
    expect(world.posted).toEqual([])
  })
})

describe('webhook secrets', () => {
  test('are listed without their texts; a rotation shows the new one once and keeps two', async () => {
    const secrets = () =>
      world.json<{ data: { id: string; retires_at: string | null }[] }>('GET', '/api/v1/webhook_secrets')
    const before = (await secrets()).data
    const made = await world.json<{ secret: string; id: string }>('POST', '/api/v1/webhook_secrets/rotate', {
      body: { overlap_seconds: 60 },
    })
    expect(made.secret).toMatch(/^whsec_[A-Za-z0-9+/]{43}=$/)
    const { data } = await secrets()
    expect(data.map(each => each.id)).toEqual([made.id, before[0]!.id])
    expect(data.map(each => each.retires_at === null)).toEqual([true, false])
    expect(JSON.stringify(data)).not.toContain('whsec_')
    world.clock.advance(60_000)
    expect((await secrets()).data.map(each => each.id)).toEqual([made.id])
    for (const overlap_seconds of [-1, 604_801, 1.5, '60'])
      expect((await world.ask('POST', '/api/v1/webhook_secrets/rotate', { body: { overlap_seconds } })).status).toBe(
        400,
      )
    expect(JSON.stringify(world.logged)).not.toContain('whsec_')
  })

  test('keep the one that the receiver has, although a rotation is sent again, its answer lost', async () => {
    const rotate = (body: object) => world.ask('POST', '/api/v1/webhook_secrets/rotate', { body })
    const listed = async () =>
      (await world.json<{ data: { id: string; retires_at: string | null }[] }>('GET', '/api/v1/webhook_secrets')).data
    const [made, again] = await Promise.all([rotate({ overlap_seconds: 60 }), rotate({ overlap_seconds: 60 })])
    const before = await listed()
    expect([made.status, again.status, before.length]).toEqual([200, 409, 2])
    expect(await again.json()).toMatchObject({
      code: 'conflict',
      detail: expect.stringContaining(before[1]?.retires_at as string),
      hint: expect.stringContaining('"overlap_seconds": 0'),
    })
    const { id } = (await (await rotate({ overlap_seconds: 0 })).json()) as { id: string }
    expect((await listed()).map(each => each.id)).toEqual([id])
    expect((await rotate({ overlap_seconds: 60 })).status).toBe(200)
  })

  test('of one key sign nothing of another', async () => {
    const mine = await world.json<{ secret: string }>('POST', '/api/v1/webhook_secrets/rotate', {
      body: { overlap_seconds: 0 },
    })
    const { id } = await ended({ key: 'key-of-bob' })
    await world.outbox.runOnce()
    const { headers, body } = world.posted[0]!.request
    expect(headers['webhook-id']).toBe(id)
    setSystemTime(new Date(world.clock.now()))
    expect(() => new Webhook(mine.secret).verify(new TextDecoder().decode(body), { ...headers })).toThrow()
  })
})
