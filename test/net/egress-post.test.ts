// Posting to receivers that behave badly, over real sockets.

import { describe, expect, test } from 'bun:test'
import { parseAllow } from '../../src/net/egress/allow.ts'
import { createEgress, type PostRequest } from '../../src/net/egress.ts'
import {
  AUTHORITY,
  certificates,
  closedPort,
  doorTo,
  egressTo,
  httpServer,
  httpsServer,
  PUBLIC,
  rawServer,
  rawTlsServer,
} from './servers.ts'

const HOOK = 'https://hooks.example.com/hook'
const BODY = new TextEncoder().encode('{"type":"run.succeeded"}')

const request = (more: Partial<PostRequest> = {}): PostRequest => ({
  headers: { 'content-type': 'application/json', 'webhook-id': 'msg_1' },
  body: BODY,
  connectTimeoutMs: 1000,
  timeoutMs: 2000,
  ...more,
})

const allow = (text: string) => {
  const parsed = parseAllow(text)
  if (!parsed.ok) throw new Error(parsed.problem)
  return parsed.entries
}

describe('an ordinary receiver', () => {
  test('gets the very bytes and the host of the URL', async () => {
    const seen: unknown[] = []
    const server = await httpsServer(async (incoming, reply) => {
      const chunks: Buffer[] = []
      for await (const chunk of incoming) chunks.push(chunk)
      const {
        host,
        connection,
        'content-length': length,
        'accept-encoding': encoding,
        'webhook-id': id,
      } = incoming.headers
      seen.push({ method: incoming.method, url: incoming.url, host, connection, length, encoding, id })
      seen.push(Buffer.concat(chunks).toString())
      reply.writeHead(202, { 'x-answer': 'yes' }).end('thanks')
    })
    const egress = egressTo(server.port)
    const result = await egress.post('https://hooks.example.com/hook?a=1', request())
    expect(result).toMatchObject({ type: 'answered', status: 202, text: 'thanks', ip: '127.0.0.1' })
    expect(result.type === 'answered' && result.headers['x-answer']).toBe('yes')
    expect(result.ms).toBeGreaterThanOrEqual(0)
    const head = { method: 'POST', url: '/hook?a=1', host: 'hooks.example.com', connection: 'keep-alive' }
    expect(seen).toEqual([{ ...head, length: '24', encoding: 'identity', id: 'msg_1' }, '{"type":"run.succeeded"}'])
  })

  test('cannot be given headers that describe the connection', async () => {
    let raw = ''
    const server = await rawTlsServer((socket, text) => {
      raw = text
      socket.end('HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n')
    })
    const headers = {
      Host: 'internal',
      'Transfer-Encoding': 'chunked',
      'Content-Length': '1',
      Connection: 'upgrade',
      'Proxy-X': '1',
    }
    expect(await egressTo(server.port).post(HOOK, request({ headers }))).toMatchObject({ status: 200 })
    expect(raw.toLowerCase()).not.toMatch(/internal|chunked|upgrade|proxy-x/)
    expect(raw.toLowerCase()).toContain('content-length: 24\r\n')
  })

  test('a header that cannot be sent is a value, not an exception', async () => {
    const server = await httpsServer((_incoming, reply) => reply.end())
    const result = await egressTo(server.port).post(HOOK, request({ headers: { 'x-a': 'b\r\nHost: c' } }))
    expect(result).toMatchObject({ type: 'failed', errorClass: 'bad_request' })
    expect(server.requests).toBe(0)
  })
})

describe('a redirect', () => {
  test.each([301, 302, 303, 307, 308])('%i is an answer, names only the host, and is not followed', async status => {
    const server = await httpsServer((incoming, reply) => {
      const target = incoming.url === '/hook' ? 'https://www.example.com:8443/new?token=secret' : '/never'
      reply.writeHead(status, { location: target }).end()
    })
    const result = await egressTo(server.port).post(HOOK, request())
    expect(result).toMatchObject({ type: 'answered', status, location: 'www.example.com:8443' })
    expect(server.requests).toBe(1)
  })
})

test('a redirect that names no place, or none that can be, is an answer without one', async () => {
  let location: string | null = null
  const server = await httpsServer((_incoming, reply) => {
    reply.writeHead(302, location === null ? {} : { location }).end()
  })
  for (location of [null, 'https://', 'http://[::1', '//']) {
    const result = await egressTo(server.port).post(HOOK, request())
    expect(result).toMatchObject({ type: 'answered', status: 302 })
    expect([location, result]).not.toEqual([location, expect.objectContaining({ location: expect.anything() })])
  }
})

describe('the body of a reply', () => {
  test('is read no further than the cap, and the reply counts', async () => {
    const server = await rawTlsServer(socket => {
      socket.write('HTTP/1.1 200 OK\r\nContent-Length: 10000000000\r\n\r\n')
      const pump = () => {
        while (!socket.destroyed && socket.write(Buffer.alloc(65_536, 97))) {}
        socket.once('drain', pump)
      }
      pump()
    })
    const result = await egressTo(server.port).post(HOOK, request({ maxReplyBytes: 16_384 }))
    expect(result).toMatchObject({ type: 'answered', status: 200, text: 'a'.repeat(4096) })
  })

  test('is not inflated', async () => {
    const bomb = Bun.gzipSync(Buffer.alloc(8 << 20))
    const server = await httpsServer((_incoming, reply) => {
      reply.writeHead(200, { 'content-encoding': 'gzip' }).end(bomb)
    })
    const result = await egressTo(server.port).post(HOOK, request())
    expect(result).toMatchObject({ type: 'answered', status: 200 })
    expect(result.type === 'answered' && result.text.startsWith('\\u001f\ufffd')).toBe(true)
  })

  test('reaches the log without control characters, in at most 4 KiB, whatever its bytes', async () => {
    const hostile = Buffer.concat([
      Buffer.from('ok\u0000\u001b[2J\r\nlevel=fatal \u202egnp\u2028 \u{e0041} é '),
      Buffer.from([0xff, 0xfe]),
      Buffer.alloc(5000, 7),
    ])
    const server = await httpsServer((_incoming, reply) => reply.end(hostile))
    const result = await egressTo(server.port).post(HOOK, request())
    const text = result.type === 'answered' ? result.text : ''
    expect(text).toStartWith(
      'ok\\u0000\\u001b[2J\\u000d\\u000alevel=fatal \\u202egnp\\u2028 \\u{e0041} é \ufffd\ufffd\\u0007',
    )
    expect(text).not.toMatch(/[\p{C}\u2028]/u)
    expect(Buffer.byteLength(text)).toBeLessThanOrEqual(4096)
  })

  test('that breaks off after the status does not unmake the answer', async () => {
    const server = await rawTlsServer(socket => socket.end('HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nabc'))
    expect(await egressTo(server.port).post(HOOK, request())).toMatchObject({
      type: 'answered',
      status: 200,
      text: 'abc',
    })
  })

  test('that drips is cut at the deadline, with the status that was seen', async () => {
    const server = await rawTlsServer(socket => {
      socket.write('HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n')
      const drip = setInterval(() => socket.write('x'), 20)
      socket.on('close', () => clearInterval(drip))
    })
    const result = await egressTo(server.port).post(HOOK, request({ timeoutMs: 500 }))
    expect(result).toMatchObject({ type: 'failed', errorClass: 'timeout', status: 200, ip: '127.0.0.1' })
    expect(result.ms).toBeGreaterThanOrEqual(490)
  })
})

describe('a receiver that does not answer', () => {
  test.each([
    ['accepts and is silent', () => {}],
    [
      'drips its headers',
      (socket: import('node:net').Socket) => {
        const line = [...'HTTP/1.1 200 OK']
        const drip = setInterval(() => socket.write(line.shift() ?? 'K'), 20)
        socket.on('close', () => clearInterval(drip))
      },
    ],
    [
      'sends interim replies',
      (socket: import('node:net').Socket) => void socket.write('HTTP/1.1 102 Processing\r\n\r\n'),
    ],
  ])('and %s is cut at the deadline, and its socket is closed', async (_name, answer) => {
    const server = await rawTlsServer(answer)
    const result = await egressTo(server.port).post(HOOK, request({ timeoutMs: 150 }))
    expect(result).toMatchObject({
      type: 'failed',
      errorClass: 'timeout',
    })
    expect(result.ms).toBeLessThan(1000)
    await server.drained()
  })

  test('and sends interim replies without end is cut after a few', async () => {
    const server = await rawTlsServer(socket => void socket.write('HTTP/1.1 102 Processing\r\n\r\n'.repeat(50)))
    expect(await egressTo(server.port).post(HOOK, request())).toMatchObject({ errorClass: 'connection_lost' })
  })

  test('and sends headers without end is cut at 16 KiB', async () => {
    const server = await rawTlsServer(socket => {
      socket.write('HTTP/1.1 200 OK\r\n')
      const pump = () => {
        while (!socket.destroyed && socket.write('x-more: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\r\n'.repeat(100))) {}
        socket.once('drain', pump)
      }
      pump()
    })
    expect(await egressTo(server.port).post(HOOK, request())).toMatchObject({
      type: 'failed',
      errorClass: 'reply_too_large',
    })
  })

  test.each([
    ['another protocol', 'SSH-2.0-OpenSSH_9.2\r\n'],
    ['an upgrade', 'HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n'],
    ['two lengths', 'HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab'],
    ['nothing', ''],
  ])('but with %s has lost the connection', async (_name, bytes) => {
    const server = await rawTlsServer(socket => void socket.end(bytes))
    expect(await egressTo(server.port).post(HOOK, request())).toMatchObject({
      type: 'failed',
      errorClass: 'connection_lost',
    })
  })

  test('because it resets after reading has lost the connection', async () => {
    const server = await rawServer(socket => void socket.resetAndDestroy())
    const egress = egressTo(server.port, { allow: allow('hooks.example.com:80') })
    const result = await egress.post('http://hooks.example.com/', request())
    expect(result).toMatchObject({ type: 'failed', errorClass: 'connection_lost', ip: '127.0.0.1' })
  })
})

describe('the connection', () => {
  test('that nobody accepts is refused', async () => {
    const result = await egressTo(await closedPort()).post(HOOK, request())
    expect(result).toMatchObject({ type: 'failed', errorClass: 'connect_refused', ip: null })
  })

  test('goes to the next address of the name when the first one refuses', async () => {
    const server = await httpsServer((_incoming, reply) => reply.end('second'))
    const egress = egressTo(server.port, {
      resolver: async () => [PUBLIC, '1.1.1.1'].map(address => ({ address, family: 4 })),
      dialAs: address => ({ address: address === PUBLIC ? '127.0.0.2' : '127.0.0.1', port: server.port }),
    })
    expect(await egress.post(HOOK, request())).toMatchObject({ status: 200, text: 'second', ip: '127.0.0.1' })
  })

  test.each([
    ['for another name', certificates.otherName],
    ['that has expired', certificates.expired],
  ])('with a certificate %s carries no byte of the request', async (_name, certificate) => {
    const server = await httpsServer((_incoming, reply) => reply.end(), certificate)
    const door = await doorTo(server.port)
    expect(await egressTo(door.port).post(HOOK, request())).toMatchObject({ type: 'failed', errorClass: 'tls_error' })
    expect(door.connections).toBe(1)
    expect(server.requests).toBe(0)
  })

  test('with a certificate of an unknown authority carries no byte, even when the environment waives it', async () => {
    const server = await httpsServer((_incoming, reply) => reply.end())
    const before = process.env.NODE_TLS_REJECT_UNAUTHORIZED
    process.env.NODE_TLS_REJECT_UNAUTHORIZED = '0'
    try {
      const egress = egressTo(server.port, { ca: undefined })
      expect(await egress.post(HOOK, request())).toMatchObject({ type: 'failed', errorClass: 'tls_error' })
    } finally {
      if (before === undefined) delete process.env.NODE_TLS_REJECT_UNAUTHORIZED
      else process.env.NODE_TLS_REJECT_UNAUTHORIZED = before
    }
    expect(server.requests).toBe(0)
  })

  test('to a server that knows no TLS of this decade fails as TLS', async () => {
    // What a server that ends at TLS 1.1 answers: the alert protocol_version.
    const server = await rawServer(socket => void socket.end(Buffer.from([0x15, 0x03, 0x02, 0, 2, 2, 70])))
    expect(await egressTo(server.port).post(HOOK, request())).toMatchObject({ type: 'failed', errorClass: 'tls_error' })
  })

  test('to a server that speaks plain HTTP on this port fails as TLS', async () => {
    const server = await httpServer((_incoming, reply) => reply.end())
    expect(await egressTo(server.port).post(HOOK, request())).toMatchObject({ type: 'failed', errorClass: 'tls_error' })
  })

  test('whose handshake hangs is a connect timeout', async () => {
    const server = await rawServer(() => {})
    const result = await egressTo(server.port).post(HOOK, request({ connectTimeoutMs: 80 }))
    expect(result).toMatchObject({ type: 'failed', errorClass: 'connect_timeout', ip: '127.0.0.1' })
  })

  test('to an address that was not checked is cut before the request, even if the runtime dialled it', async () => {
    const server = await httpsServer((_incoming, reply) => reply.end())
    // Stands for a runtime that dials another address than it was given: Linux connects 0.0.0.0 to 127.0.0.1.
    const egress = egressTo(server.port, { dialAs: () => ({ address: '0.0.0.0', port: server.port }) })
    expect(await egress.post(HOOK, request())).toMatchObject({ type: 'failed', errorClass: 'blocked_address' })
    expect(server.requests).toBe(0)
  })

  test('does not go through a proxy of the environment', async () => {
    const proxy = await rawServer(socket => void socket.end('HTTP/1.1 200 OK\r\n\r\n'))
    const server = await httpsServer((_incoming, reply) => reply.end('direct'))
    const names = ['HTTP_PROXY', 'HTTPS_PROXY', 'http_proxy', 'https_proxy', 'ALL_PROXY', 'NODE_USE_ENV_PROXY']
    const before = names.map(name => [name, process.env[name]] as const)
    for (const name of names) process.env[name] = name === 'NODE_USE_ENV_PROXY' ? '1' : `http://127.0.0.1:${proxy.port}`
    try {
      expect(await egressTo(server.port).post(HOOK, request())).toMatchObject({ status: 200, text: 'direct' })
    } finally {
      for (const [name, value] of before) {
        if (value === undefined) delete process.env[name]
        else process.env[name] = value
      }
    }
    expect(proxy.connections).toBe(0)
  })
})

describe('the name', () => {
  const code = (value: string) => Object.assign(new Error(`getaddrinfo ${value}`), { code: value })

  test.each([
    ['ENOTFOUND', 'dns_error'],
    ['ESERVFAIL', 'dns_error'],
    ['ENODATA', 'dns_error'],
    ['EAI_AGAIN', 'dns_error'],
    ['ECONNREFUSED', 'egress_down'],
    ['ENETUNREACH', 'egress_down'],
    ['EMFILE', 'egress_down'],
  ] as const)('that ends in %s is %s', async (error, errorClass) => {
    const egress = egressTo(1, { resolver: () => Promise.reject(code(error)) })
    expect(await egress.post(HOOK, request())).toMatchObject({ type: 'failed', errorClass, ip: null })
  })

  test('whose resolver is silent has a deadline of its own', async () => {
    const egress = egressTo(1, { resolver: () => new Promise(() => {}), dnsTimeoutMs: 60 })
    const result = await egress.post(HOOK, request())
    expect(result).toMatchObject({ type: 'failed', errorClass: 'dns_error', detail: 'no answer within 60 ms' })
    expect(result.ms).toBeLessThan(1000)
  })

  test('that does not exist is told by the resolver of the system', async () => {
    const result = await createEgress({ allow: [] }).post('https://no-such-host.invalid/', request())
    expect(result).toMatchObject({ type: 'failed', ip: null })
    expect(['dns_error', 'egress_down']).toContain(result.type === 'failed' ? result.errorClass : '')
  })
})

describe('the caller', () => {
  test('can stop a post at once', async () => {
    const stop = new AbortController()
    const server = await rawTlsServer(() => stop.abort())
    const result = await egressTo(server.port).post(HOOK, request({ signal: stop.signal }))
    expect(result).toMatchObject({ type: 'failed', errorClass: 'aborted' })
  })

  test('that has stopped already dials nobody', async () => {
    const server = await rawTlsServer(() => {})
    const result = await egressTo(server.port).post(HOOK, request({ signal: AbortSignal.abort() }))
    expect(result).toMatchObject({ type: 'failed', errorClass: 'aborted' })
    expect(server.connections).toBe(0)
  })
})

describe('an allow entry', () => {
  // Here nothing stands between the egress and the loopback interface: these sockets are the ones that it opens itself.
  test('opens one private address at one port, over http, and no other port', async () => {
    const server = await httpServer((_incoming, reply) => reply.end('dev'))
    const other = await httpServer((_incoming, reply) => reply.end())
    const egress = createEgress({ allow: allow(`127.0.0.1:${server.port}`) })
    expect(await egress.post(`http://127.0.0.1:${server.port}/`, request())).toMatchObject({ status: 200, text: 'dev' })
    expect(await egress.post(`http://127.0.0.1:${other.port}/`, request())).toMatchObject({
      errorClass: 'blocked_address',
    })
    expect(await egress.post(`http://localhost:${server.port}/`, request())).toMatchObject({
      errorClass: 'blocked_address',
    })
    expect(other.connections).toBe(0)
    expect(server.connections).toBe(1)
  })

  test('names a host, and then that host may have any address', async () => {
    const server = await httpServer((_incoming, reply) => reply.end('dev'))
    const egress = createEgress({ allow: allow(`localhost:${server.port}`) })
    expect(await egress.post(`http://localhost:${server.port}/`, request())).toMatchObject({ status: 200 })
    expect(await egress.post(`http://127.0.0.1:${server.port}/`, request())).toMatchObject({
      errorClass: 'blocked_address',
    })
  })

  test('with a range is matched after resolution, against every address', async () => {
    const server = await httpServer((_incoming, reply) => reply.end('dev'))
    const answers = { addresses: ['127.0.0.1'] }
    const egress = createEgress({
      allow: allow(`127.0.0.0/30:${server.port}`),
      resolver: async () => answers.addresses.map(address => ({ address, family: 4 })),
    })
    const url = `http://receiver.example.com:${server.port}/`
    expect(await egress.post(url, request())).toMatchObject({ status: 200 })
    for (const addresses of [
      ['127.0.0.4'],
      ['127.0.0.1', '127.0.0.9'],
      ['127.0.0.1', PUBLIC],
      [PUBLIC],
      ['::1'],
      ['::ffff:127.0.0.1'],
    ]) {
      answers.addresses = addresses
      expect(await egress.post(url, request())).toMatchObject({ type: 'failed', errorClass: 'blocked_address' })
    }
    expect(server.connections).toBe(1)
  })

  test('with a range does not open internal names, and does not widen what is public', async () => {
    const server = await httpServer((_incoming, reply) => reply.end('dev'))
    const egress = createEgress({
      allow: allow(`127.0.0.0/8:${server.port}`),
      resolver: async () => [{ address: '127.0.0.1', family: 4 }],
    })
    for (const host of ['localhost', 'receiver', 'app.internal']) {
      expect(await egress.post(`http://${host}:${server.port}/`, request())).toMatchObject({
        errorClass: 'blocked_address',
      })
    }
    expect(await egress.post('https://hooks.example.com/', request())).toMatchObject({ errorClass: 'blocked_address' })
    expect(server.connections).toBe(0)
  })

  test('keeps the certificate check, the limits and the rules of writing', async () => {
    const server = await httpsServer((_incoming, reply) => reply.end(), certificates.otherName)
    const egress = createEgress({ allow: allow(`localhost:${server.port}, 127.0.0.1:${server.port}`), ca: AUTHORITY })
    expect(await egress.post(`https://localhost:${server.port}/`, request())).toMatchObject({ errorClass: 'tls_error' })
    for (const text of [
      `http://127.1:${server.port}/`,
      `http://2130706433:${server.port}/`,
      `http://a@localhost:${server.port}/`,
    ]) {
      expect(await egress.post(text, request())).toMatchObject({ errorClass: 'blocked_address' })
    }
    expect(server.requests).toBe(0)
  })
})
