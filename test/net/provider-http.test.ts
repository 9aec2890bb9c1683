// Calls to providers over real sockets: what is proven not sent, what is not, and where a key may go.

import { describe, expect, test } from 'bun:test'
import type net from 'node:net'
import { createRedactor } from '../../src/net/provider-http/redact.ts'
import {
  createProviderHttp,
  type ProviderCall,
  type ProviderHttpOptions,
  retryAfterMs,
  trustOrigins,
} from '../../src/net/provider-http.ts'
import { AUTHORITY, certificates, closedPort, doorTo, httpServer, httpsServer, rawServer } from './servers.ts'

const KEY = 'sk-test-0123456789abcdefghij'
const everywhere = () => true

const clientFor = (options: Partial<ProviderHttpOptions> = {}) =>
  createProviderHttp({ providers: { a: everywhere, b: everywhere }, ...options })

const post = (port: number, more: Partial<ProviderCall> = {}): ProviderCall => ({
  provider: 'a',
  method: 'POST',
  url: `http://127.0.0.1:${port}/v1/submit?sig=hush`,
  body: { type: 'json', value: { prompt: 'a red boat' } },
  timeoutMs: 2000,
  maxBytes: 1 << 20,
  ...more,
})

describe('a call', () => {
  test('sends JSON with the key, and gives status, headers and parsed body', async () => {
    let seen: unknown
    const server = Bun.serve({
      port: 0,
      hostname: '127.0.0.1',
      fetch: async request => {
        const { method, headers } = request
        seen = { method, key: headers.get('x-key'), type: headers.get('content-type'), body: await request.json() }
        return Response.json({ id: 'job_1' }, { status: 202, headers: { 'Retry-After': '7', 'X-Request-Id': 'r1' } })
      },
    })
    const result = await clientFor().call(post(server.port ?? 0, { secrets: [{ header: 'x-key', value: KEY }] }))
    await server.stop(true)
    expect(seen).toEqual({ method: 'POST', key: KEY, type: 'application/json', body: { prompt: 'a red boat' } })
    expect(result).toMatchObject({ type: 'answered', status: 202, json: { id: 'job_1' }, text: '{"id":"job_1"}' })
    expect(result).toMatchObject({ headers: { 'retry-after': '7', 'x-request-id': 'r1' } })
  })

  test('sends forms and bytes with their own types, and reads pictures as bytes', async () => {
    const seen: string[] = []
    const server = await httpServer((incoming, reply) => {
      seen.push(incoming.headers['content-type'] ?? '')
      incoming
        .resume()
        .on('end', () => reply.writeHead(200, { 'content-type': 'image/png' }).end(Buffer.from([1, 2, 255])))
    })
    const form = new FormData()
    form.set('prompt', 'x')
    const client = clientFor()
    await client.call(post(server.port, { body: { type: 'form', value: form } }))
    const bytes = { type: 'bytes', value: new Uint8Array([1]), contentType: 'image/webp' } as const
    const result = await client.call(post(server.port, { body: bytes }))
    expect(seen[0]).toStartWith('multipart/form-data; boundary=')
    expect(seen[1]).toBe('image/webp')
    expect(result).toMatchObject({ type: 'answered', json: undefined, text: '' })
    expect(result.type === 'answered' && [...(result.bytes ?? [])]).toEqual([1, 2, 255])
  })

  test.each([
    ['an HTML page with status 200', 200, 'text/html', '<html>maintenance</html>'],
    ['an HTML page with status 502', 502, 'text/html', '<html>Bad Gateway</html>'],
    ['truncated JSON', 200, 'application/json', '{"id":"job_1","stat'],
    ['an empty body', 200, 'application/json', ''],
  ])('with %s is an answer without JSON', async (_name, status, type, body) => {
    const server = await httpServer((_incoming, reply) => reply.writeHead(status, { 'content-type': type }).end(body))
    const result = await clientFor().call(post(server.port))
    expect(result).toEqual({ type: 'answered', status, headers: expect.any(Object), json: undefined, text: body })
  })

  test('reads JSON that is declared as something else', async () => {
    const server = await httpServer((_incoming, reply) =>
      reply.writeHead(200, { 'content-type': 'text/plain' }).end('{"a":1}'),
    )
    expect(await clientFor().call(post(server.port))).toMatchObject({ json: { a: 1 } })
  })

  test.each(['application/octet-stream', 'image/png', 'video/mp4'])(
    'reads JSON that is declared as %s, without the key; what only begins like it stays bytes',
    async type => {
      let body = ''
      const server = await httpServer((_incoming, reply) => reply.writeHead(202, { 'content-type': type }).end(body))
      const answered = async (said: string) => {
        body = said
        const answer = await clientFor().call(post(server.port, { secrets: [{ header: 'x-key', value: KEY }] }))
        if (answer.type !== 'answered') throw new Error(answer.kind)
        return answer
      }
      const read = await answered(`\r\n\t {"id":"job_1","echo":"${KEY}"}`)
      expect(read).toMatchObject({ json: { id: 'job_1', echo: '[redacted]' } })
      expect(read.bytes).toBeUndefined()
      expect((await answered('["job_1"]')).json).toEqual(['job_1'])
      for (const kept of ['{\u0001 no JSON', '[', '7', '', ' \n'])
        expect(await answered(kept)).toMatchObject({ json: undefined, text: '', bytes: Buffer.from(kept) })
    },
  )

  test('with a redirect is an answer: nothing is sent on, neither key nor body', async () => {
    const other = await rawServer(() => {})
    const server = await httpServer((_incoming, reply) => {
      reply.writeHead(307, { location: `http://127.0.0.1:${other.port}/steal` }).end()
    })
    const result = await clientFor().call(
      post(server.port, { secrets: [{ header: 'authorization', value: `Bearer ${KEY}` }] }),
    )
    expect(result).toMatchObject({ type: 'answered', status: 307 })
    expect(other.connections).toBe(0)
  })
})

test('a call does not go through a proxy of the environment, which would read its key', async () => {
  const server = await rawServer(socket => void socket.end('HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\ndirect'))
  const proxy = await rawServer(socket => void socket.end())
  const names = ['HTTP_PROXY', 'HTTPS_PROXY', 'http_proxy', 'https_proxy']
  const before = names.map(name => [name, process.env[name]] as const)
  for (const name of names) process.env[name] = `http://127.0.0.1:${proxy.port}`
  try {
    expect(await clientFor().call(post(server.port))).toMatchObject({ type: 'answered', text: 'direct' })
    const secure = await clientFor().call(post(1, { url: 'https://127.0.0.1:1/' }))
    expect(secure).toMatchObject({ sent: 'no', detail: 'ECONNREFUSED at https://127.0.0.1:1' })
  } finally {
    for (const [name, value] of before) {
      if (value === undefined) delete process.env[name]
      else process.env[name] = value
    }
  }
  expect(proxy.connections).toBe(0)
})

describe('the key', () => {
  const trusted = trustOrigins('https://api.bfl.ai', ['.bfl.ai'])

  test.each([
    ['https://api.bfl.ai/v1/x', true],
    ['https://api.us1.bfl.ai/v1/get_result', true],
    ['https://api.bfl.ai:443/', true],
    ['https://api.bfl.ai:8443/', false],
    ['http://api.bfl.ai/', false],
    ['https://evilbfl.ai/', false],
    ['https://bfl.ai.evil.com/', false],
    ['https://api.bfl.ai.', false],
    ['https://api.bfl.ai@evil.com/', false],
    ['https://evil.com/?x=.bfl.ai', false],
    ['https://evil.com#.bfl.ai', false],
    ['file:///x.bfl.ai', false],
  ])('may go to %s: %p', (url, expected) => {
    expect(trusted(new URL(url))).toBe(expected)
  })

  test('may go to a configured base on any scheme and port, and only there', () => {
    const rule = trustOrigins('http://127.0.0.1:8188/sub')
    expect(rule(new URL('http://127.0.0.1:8188/other'))).toBe(true)
    expect(rule(new URL('http://127.0.0.1:8189/'))).toBe(false)
    expect(rule(new URL('https://127.0.0.1:8188/'))).toBe(false)
    for (const suffix of ['bfl.ai', '.ai', '', '.', '.*.ai'])
      expect(() => trustOrigins('https://a.b', [suffix])).toThrow()
    expect(() => trustOrigins('file:///x')).toThrow()
  })

  test('does not leave for another origin, and the call is not made without it', async () => {
    const server = await httpServer((_incoming, reply) => reply.end())
    const url = `http://127.0.0.1:${server.port}/`
    const configured = { a: trustOrigins('https://api.bfl.ai', ['.bfl.ai']) }
    const refused = { type: 'failed', sent: 'no', kind: 'not_allowed' }
    const secrets = [{ header: 'x-key', value: KEY }]
    expect(await clientFor({ providers: configured }).call(post(server.port, { url, secrets }))).toMatchObject(refused)
    const narrow = [{ header: 'x-key', value: KEY, origins: () => false }]
    expect(await clientFor().call(post(server.port, { url, secrets: narrow }))).toMatchObject(refused)
    expect(server.connections).toBe(0)
  })

  test.each([
    'file:///etc/hostname',
    'data:text/plain,x',
    's3://bucket/key',
    'http://user:pass@127.0.0.1/',
    'http://:pass@127.0.0.1/',
    'nonsense',
  ])('and no call goes to %s', async url => {
    expect(await clientFor().call(post(1, { url }))).toMatchObject({ type: 'failed', sent: 'no', kind: 'not_allowed' })
  })

  test('and no call is made for a provider that is not configured', async () => {
    for (const provider of ['c', 'constructor', '__proto__']) {
      expect(await clientFor().call(post(1, { provider }))).toMatchObject({ sent: 'no', kind: 'not_allowed' })
    }
  })

  test('is redacted from everything that comes back', async () => {
    const forms = [
      KEY,
      btoa(KEY),
      btoa(`user:${KEY}`),
      btoa(`u:${KEY}!`),
      btoa(`Bearer ${KEY}`),
      encodeURIComponent(`Bearer ${KEY}`),
    ]
    const server = await httpServer((_incoming, reply) => {
      reply.writeHead(401, { 'x-echo': `Bearer ${KEY}`, 'content-type': 'application/json' })
      reply.end(JSON.stringify({ error: `bad key ${KEY}`, forms }))
    })
    const result = await clientFor().call(
      post(server.port, { secrets: [{ header: 'authorization', value: `Bearer ${KEY}` }] }),
    )
    const all = JSON.stringify(result)
    expect(result).toMatchObject({
      status: 401,
      json: { error: 'bad key [redacted]' },
      headers: { 'x-echo': '[redacted]' },
    })
    expect(all).not.toContain('0123456789')
    expect(all).not.toContain('MDEyMzQ1Njc4')
    expect(all).not.toContain('AxMjM0NTY3OD')
    expect(all).not.toContain('wMTIzNDU2Nzg')
  })

  test('is redacted in its awkward spellings too, and short words are not', () => {
    const secret = 'k/y+with="odd" chars?'
    const redact = createRedactor([secret, 'Key'])
    expect(redact(`a ${encodeURIComponent(secret)} b`)).toBe('a [redacted] b')
    expect(redact(JSON.stringify({ s: secret }))).toBe('{"s":"[redacted]"}')
    expect(redact(`x${Buffer.from(secret).toString('base64url')}x`)).not.toContain('2l0aD0ib2Rk')
    expect(redact('Key is missing')).toBe('Key is missing')
    expect(createRedactor(['eight ab', 'seven-7'])('eight ab, seven-7')).toBe('[redacted], seven-7')
    expect(redact(new URLSearchParams({ secret }).toString())).toBe('secret=[redacted]')
  })

  test('that cannot be a header is not quoted', async () => {
    const secrets = [{ header: 'x-key', value: 'line\nbreak-secret' }]
    const result = await clientFor().call(post(1, { secrets }))
    expect(result).toMatchObject({ type: 'failed', sent: 'no', kind: 'not_allowed' })
    expect(JSON.stringify(result)).not.toContain('secret')
  })
})

describe('a request that was certainly not processed', () => {
  const no = { type: 'failed', sent: 'no', kind: 'network' }

  test('is one to a port where nobody listens', async () => {
    expect(await clientFor().call(post(await closedPort()))).toMatchObject(no)
  })

  test('is one to a name that does not exist', async () => {
    expect(await clientFor().call(post(1, { url: 'http://no-such-host.invalid/' }))).toMatchObject(no)
  })

  test.each([
    ['unknown', certificates.good],
    ['expired', certificates.expired],
  ])('is one to a host whose certificate is %s', async (_name, certificate) => {
    const server = await httpsServer((_incoming, reply) => reply.end(), certificate)
    const result = await clientFor().call(post(1, { url: `https://localhost:${server.port}/` }))
    expect(result).toMatchObject(no)
    expect(server.requests).toBe(0)
  })

  test('is one that gave up while it waited for its turn', async () => {
    const server = await rawServer(() => {})
    const client = clientFor({ maxInFlight: 1, maxPerProvider: 1 })
    const stop = new AbortController()
    const hung = client.call(post(server.port, { signal: stop.signal }))
    expect(await client.call(post(server.port, { maxWaitMs: 20 }))).toMatchObject({ sent: 'no', kind: 'timeout' })
    const second = new AbortController()
    const waiting = client.call(post(server.port, { signal: second.signal }))
    second.abort()
    expect(await waiting).toMatchObject({ sent: 'no', kind: 'aborted' })
    stop.abort()
    expect(await hung).toMatchObject({ sent: 'maybe', kind: 'aborted' })
    // The one place is free again.
    const healthy = await httpServer((_incoming, reply) => reply.end('{}'))
    expect(await client.call(post(healthy.port, { maxWaitMs: 20 }))).toMatchObject({ type: 'answered' })
  })
})

describe('a request that may have been processed', () => {
  const maybe = { type: 'failed', sent: 'maybe' }
  const answers: [string, (socket: net.Socket) => unknown, object][] = [
    ['was read and then reset', socket => socket.resetAndDestroy(), { kind: 'network' }],
    ['was read and then closed', socket => socket.end(), { kind: 'network' }],
    ['was answered with another protocol', socket => socket.end('SSH-2.0-x\r\n'), { kind: 'network' }],
    ['was read and never answered', () => {}, { kind: 'timeout' }],
    [
      'was answered in part',
      socket => socket.end('HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc'),
      { kind: 'network', status: 200 },
    ],
    [
      'was answered and then hung',
      socket => socket.write('HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc'),
      { kind: 'timeout', status: 200 },
    ],
    [
      'was answered with too much',
      socket => socket.write(`HTTP/1.1 200 OK\r\n\r\n${'x'.repeat(3000)}`),
      { kind: 'too_large', status: 200 },
    ],
  ]

  test.each(answers)('%s', async (_name, answer, expected) => {
    const server = await rawServer(answer)
    const result = await clientFor().call(post(server.port, { timeoutMs: 500, maxBytes: 2000 }))
    expect(result).toMatchObject({ ...maybe, ...expected })
    expect(JSON.stringify(result)).not.toContain('hush')
    expect(server.requests).toBe(1)
  })

  test('ended in a TLS alert after it was read, which Bun reports as a failed handshake', async () => {
    let outside: net.Socket | undefined
    const inside = await httpsServer(() => void outside?.write(Buffer.from([0x15, 3, 3, 0, 2, 2, 40])))
    const door = await doorTo(inside.port, socket => {
      outside = socket
    })
    const result = await clientFor({ ca: AUTHORITY }).call(post(1, { url: `https://localhost:${door.port}/` }))
    expect(result).toMatchObject({ ...maybe, kind: 'network', detail: expect.stringContaining('EPROTO') })
    expect(inside.requests).toBe(1)
  })

  test('is sent once: a kept connection that breaks does not make Bun send it again', async () => {
    for (const method of ['POST', 'PUT', 'DELETE'] as const) {
      const sent: string[] = []
      const server = await rawServer((socket, first) => {
        sent.push(first)
        socket.write('HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n')
        socket.on('data', data => {
          sent.push(data.toString())
          socket.end()
        })
      })
      const client = clientFor()
      await client.call(post(server.port, { method, body: null }))
      await client.call(post(server.port, { method, body: null }))
      expect(sent).toHaveLength(2)
    }
  })
})

describe('many calls', () => {
  test('256 of them hung at one provider do not hold up another', async () => {
    const tarpit = await rawServer(() => {})
    const healthy = await httpServer((_incoming, reply) => reply.end('{"ok":true}'))
    const client = clientFor()
    const stop = new AbortController()
    const hung = Array.from({ length: 256 }, () =>
      client.call(post(tarpit.port, { signal: stop.signal, timeoutMs: 30_000 })),
    )
    const startedAt = performance.now()
    const answers = await Promise.all(
      Array.from({ length: 50 }, () => client.call(post(healthy.port, { provider: 'b' }))),
    )
    const took = performance.now() - startedAt
    expect(answers.every(answer => answer.type === 'answered')).toBe(true)
    expect(took).toBeLessThan(1000)
    expect(tarpit.connections).toBe(32)
    stop.abort()
    const ends = await Promise.all(hung)
    expect(ends.filter(end => end.type === 'failed' && end.sent === 'no')).toHaveLength(224)
    // All of its places are free again.
    const again = await Promise.all(Array.from({ length: 32 }, () => client.call(post(healthy.port, { maxWaitMs: 0 }))))
    expect(again.every(answer => answer.type === 'answered')).toBe(true)
  })

  test('are never more than 64 at once, over all providers', async () => {
    let now = 0
    let most = 0
    const server = await httpServer((incoming, reply) => {
      now += 1
      most = Math.max(most, now)
      incoming.resume().on('end', () =>
        setTimeout(() => {
          now -= 1
          reply.end('{}')
        }, 3),
      )
    })
    const names = ['p0', 'p1', 'p2', 'p3']
    const client = clientFor({ providers: Object.fromEntries(names.map(name => [name, everywhere])) })
    const calls = Array.from({ length: 400 }, (_, i) =>
      client.call(post(server.port, { provider: names[i % 4] ?? '' })),
    )
    const answers = await Promise.all(calls)
    expect(answers.every(answer => answer.type === 'answered')).toBe(true)
    expect(most).toBeLessThanOrEqual(64)
    expect(most).toBeGreaterThan(32)
  })
})

describe('retry-after', () => {
  const now = Date.parse('2026-11-22T10:00:00Z')
  test.each([
    ['0', 0],
    ['3600', 3_600_000],
    [' 30 ', 30_000],
    ['Sun, 22 Nov 2026 10:00:30 GMT', 30_000],
    ['Sunday, 22-Nov-26 10:00:30 GMT', 30_000],
    ['Sun Nov 22 10:00:30 2026', 30_000],
    ['Fri, 31 Dec 9999 23:59:59 GMT', 253_402_300_799_000 - now],
    ['Sun, 22 Nov 2026 09:59:59 GMT', null],
    ['-1', null],
    ['1.5', 1_500],
    ['0.0001', 1],
    ['0.0', 0],
    ['1.', null],
    ['.5', null],
    ['1.5.1', null],
    ['-1.5', null],
    ['+5', null],
    ['1e3', null],
    ['NaN', null],
    ['abc', null],
    ['Sunday', null],
    ['2026-11-22', null],
    ['', null],
    ['99999999999999999999', null],
    ['9'.repeat(400), null],
  ])('%j is %p', (value, expected) => {
    expect(retryAfterMs({ 'retry-after': value }, now)).toBe(expected)
  })

  test('may be absent', () => {
    expect(retryAfterMs({}, now)).toBeNull()
  })
})
