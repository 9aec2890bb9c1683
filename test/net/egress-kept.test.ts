// Connections that are kept: when they are used again, by whom, and what a hostile or hasty server can do with them.

import { afterEach, describe, expect, test } from 'bun:test'
import type net from 'node:net'
import { isIP } from 'node:net'
import { parseAllow } from '../../src/net/egress/allow.ts'
import type { DownloadRequest } from '../../src/net/egress/download.ts'
import { createEgress, type Egress, type EgressOptions, type PostRequest } from '../../src/net/egress.ts'
import {
  AUTHORITY,
  certificates,
  httpServer,
  httpsServer,
  type Listening,
  PUBLIC,
  egressTo as publicTo,
  talkingServer,
} from './servers.ts'

const KINDS = ['http', 'https'] as const

const opened = new Set<Egress>()
afterEach(() => {
  for (const egress of opened) egress.close()
  opened.clear()
})

/** An egress for which every name is public, may be reached over http, and is the given local port. */
function egressTo(port: number, options: Partial<EgressOptions> = {}): Egress {
  const names = ['hooks', 'a', 'b', 'cdn'].map(name => `${name}.example.com:80`)
  const parsed = parseAllow(names.join(' '))
  // Longer than a test: what ends before has been ended.
  const egress = publicTo(port, { allow: parsed.ok ? parsed.entries : [], idleMs: 60_000, ...options })
  opened.add(egress)
  return egress
}

const post = (egress: Egress, url: string, more: Partial<PostRequest> = {}) =>
  egress.post(url, { headers: { 'webhook-id': 'msg_1' }, body: Buffer.from('{}'), timeoutMs: 3000, ...more })

const get = async (egress: Egress, url: string, more: Partial<DownloadRequest> = {}): Promise<string> => {
  const result = await egress.download(url, { maxBytes: 1 << 20, timeoutMs: 3000, idleTimeoutMs: 2000, ...more })
  if (result.type === 'failed') return result.errorClass
  return await new Response(result.stream).text().catch(error => error.errorClass)
}

const OK = (text: string) => `HTTP/1.1 200 OK\r\nContent-Length: ${text.length}\r\n\r\n${text}`
const POISON = OK('poison')

describe.each(KINDS)('over %s', kind => {
  const HOOK = `${kind}://hooks.example.com/hook`
  const FILE = `${kind}://cdn.example.com/file`
  const serve = (handler: Parameters<typeof httpServer>[0], place?: Parameters<typeof httpServer>[1]) =>
    kind === 'http' ? httpServer(handler, place) : httpsServer(handler, certificates.good, place)

  describe('a connection is used again', () => {
    test.each([
      ['a length', 'HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok', 'ok'],
      ['chunks', 'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\no\r\n1\r\nk\r\n0\r\n\r\n', 'ok'],
      ['a length of nothing', 'HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n', ''],
      ['no content', 'HTTP/1.1 204 No Content\r\n\r\n', ''],
      [
        'an interim reply and a length',
        'HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok',
        'ok',
      ],
      ['an error and a length', 'HTTP/1.1 503 Busy\r\nContent-Length: 2\r\n\r\nok', 'ok'],
    ])('after an answer with %s', async (_name, answer, text) => {
      const server = await talkingServer(kind, socket => void socket.write(answer))
      const egress = egressTo(server.port)
      for (let i = 0; i < 5; i += 1) {
        expect(await post(egress, HOOK)).toMatchObject({ type: 'answered', text, ip: '127.0.0.1' })
      }
      expect([server.requests, server.connections]).toEqual([5, 1])
    })

    test('after a file that was read to its end', async () => {
      const server = await serve((_incoming, reply) => reply.end('x'.repeat(300_000)))
      const egress = egressTo(server.port)
      for (let i = 0; i < 5; i += 1) expect((await get(egress, FILE)).length).toBe(300_000)
      expect([server.requests, server.connections]).toEqual([5, 1])
    })

    test('by posts and downloads of the same host, each with its own headers and body', async () => {
      const seen: unknown[] = []
      const server = await serve(async (incoming, reply) => {
        const chunks: Buffer[] = []
        for await (const chunk of incoming) chunks.push(chunk)
        const { host, range, 'webhook-id': id } = incoming.headers
        seen.push([incoming.method, host, range, id, Buffer.concat(chunks).toString()])
        reply.end('x')
      })
      const egress = egressTo(server.port)
      await post(egress, HOOK, { body: Buffer.from('one') })
      await get(egress, HOOK, { headers: { range: 'bytes=0-' } })
      await post(egress, HOOK, { body: Buffer.from('two'), headers: {} })
      expect(seen).toEqual([
        ['POST', 'hooks.example.com', undefined, 'msg_1', 'one'],
        ['GET', 'hooks.example.com', 'bytes=0-', undefined, ''],
        ['POST', 'hooks.example.com', undefined, undefined, 'two'],
      ])
      expect(server.connections).toBe(1)
    })

    test('a thousand times, without a listener or a socket left behind', async () => {
      const warnings: Error[] = []
      const onWarning = (warning: Error) => void warnings.push(warning)
      process.on('warning', onWarning)
      const server = await serve((_incoming, reply) => reply.end('ok'))
      const egress = egressTo(server.port)
      for (let i = 0; i < 500; i += 1) {
        expect(await post(egress, HOOK)).toMatchObject({ status: 200 })
        expect(await get(egress, HOOK)).toBe('ok')
      }
      process.off('warning', onWarning)
      expect(warnings).toEqual([])
      expect([server.requests, server.connections, server.open]).toEqual([1000, 1, 1])
    })

    test('by two hundred at once, of which no more than 64 connections stay', async () => {
      const server = await serve((incoming, reply) => {
        incoming.resume()
        reply.end(incoming.url)
      })
      const egress = egressTo(server.port)
      const paths = Array.from({ length: 200 }, (_, n) => `/${n}`)
      for (let round = 0; round < 2; round += 1) {
        const results = await Promise.all(paths.map(path => post(egress, `${kind}://hooks.example.com${path}`)))
        expect(results.map(result => result.type === 'answered' && result.text)).toEqual(paths)
      }
      await until(server, 64)
      expect(server.requests).toBe(400)
      expect(server.connections).toBeLessThanOrEqual(400 - 64)
    })
  })

  describe('a connection is not used again', () => {
    const twice = async (answer: (socket: net.Socket) => void, ask: (egress: Egress) => Promise<unknown>) => {
      const server = await talkingServer(kind, answer)
      const egress = egressTo(server.port)
      await ask(egress)
      await server.drained()
      await ask(egress)
      return [server.requests, server.connections]
    }
    const endless = (socket: net.Socket) => {
      socket.write('HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\n')
      socket.write('x'.repeat(100_000))
    }

    test.each([
      ['says so', 'HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok'],
      ['speaks HTTP/1.0', 'HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok'],
      ['waits for no more than a second', 'HTTP/1.1 200 OK\r\nKeep-Alive: timeout=1\r\nContent-Length: 2\r\n\r\nok'],
      ['sends us elsewhere', 'HTTP/1.1 302 Found\r\nLocation: /x\r\nContent-Length: 2\r\n\r\nok'],
    ])('when the server %s', async (_name, answer) => {
      const answered = { type: 'answered', text: 'ok' }
      const ask = async (egress: Egress) => expect(await post(egress, HOOK)).toMatchObject(answered)
      expect(await twice(socket => void socket.write(answer), ask)).toEqual([2, 2])
    })

    test('when the reply was cut at its cap', async () => {
      expect(await twice(endless, egress => post(egress, HOOK))).toEqual([2, 2])
      expect(await twice(endless, egress => get(egress, FILE, { maxBytes: 10 }))).toEqual([2, 2])
    })

    test.each([
      ['type was refused', 'HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 2\r\n\r\nok', 'type_refused'],
      ['status was refused', 'HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\n\r\nok', 'http_4xx'],
      ['status was refused and has no body', 'HTTP/1.1 204 No Content\r\n\r\n', 'http_status'],
      [
        'encoding was refused',
        'HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 2\r\n\r\nok',
        'encoding_refused',
      ],
    ])('when the %s', async (_name, answer, errorClass) => {
      const ask = async (egress: Egress) => expect(await get(egress, FILE, { accept: ['image/*'] })).toBe(errorClass)
      expect(await twice(socket => void socket.write(answer), ask)).toEqual([2, 2])
    })

    test('when the file was truncated, the reader left, or the time was up', async () => {
      const half = (socket: net.Socket) => void socket.write('HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc')
      const ask = (more: Partial<DownloadRequest>) => (egress: Egress) => get(egress, FILE, more)
      const cut = (socket: net.Socket) => void socket.end('HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc')
      expect(await twice(cut, ask({}))).toEqual([2, 2])
      expect(await twice(half, ask({ idleTimeoutMs: 30 }))).toEqual([2, 2])
      expect(await twice(half, ask({ timeoutMs: 300 }))).toEqual([2, 2])
      const leave = async (egress: Egress) => {
        const result = await egress.download(FILE, { maxBytes: 100, timeoutMs: 3000, idleTimeoutMs: 2000 })
        if (result.type === 'opened') await result.stream.cancel()
      }
      expect(await twice(half, leave)).toEqual([2, 2])
    })

    test('when it was never verified, because its caller left while it was being opened', async () => {
      const server = await serve((_incoming, reply) => reply.end('ok'))
      const stop = new AbortController()
      const egress = egressTo(server.port, {
        dialAs: () => {
          // After the connection was begun and before it is handed to the request.
          process.nextTick(() => stop.abort())
          return { address: '127.0.0.1', port: server.port }
        },
      })
      expect(await post(egress, HOOK, { signal: stop.signal })).toMatchObject({ errorClass: 'aborted' })
      expect(await post(egress, `${kind}://a.example.com/`)).toMatchObject({ text: 'ok' })
      await until(server, 1)
      expect(await post(egress, HOOK)).toMatchObject({ text: 'ok' })
      expect([server.requests, server.open]).toEqual([2, 2])
    })

    test('when its caller left as it was lent', async () => {
      const server = await serve((_incoming, reply) => reply.end('ok'))
      const stop = new AbortController()
      let isSecond = false
      const egress = egressTo(server.port, {
        dialAs: () => {
          if (isSecond) stop.abort()
          return { address: '127.0.0.1', port: server.port }
        },
      })
      expect(await post(egress, HOOK)).toMatchObject({ text: 'ok' })
      isSecond = true
      expect(await post(egress, HOOK, { signal: stop.signal })).toMatchObject({ errorClass: 'aborted' })
      await server.drained()
      expect(server.requests).toBe(1)
    })

    test('when a redirect was followed', async () => {
      const server = await serve((incoming, reply) => {
        if (incoming.url === '/file') reply.writeHead(302, { location: '/there' }).end('moved')
        else reply.end('there')
      })
      const egress = egressTo(server.port)
      expect(await get(egress, FILE)).toBe('there')
      expect(server.connections).toBe(2)
      expect(await get(egress, FILE)).toBe('there')
      expect([server.requests, server.connections]).toEqual([4, 3])
    })

    test('once it was idle for its time', async () => {
      const server = await serve((_incoming, reply) => reply.end('ok'))
      const egress = egressTo(server.port, { idleMs: 40 })
      expect(await post(egress, HOOK)).toMatchObject({ text: 'ok' })
      await server.drained()
      expect(await post(egress, HOOK)).toMatchObject({ text: 'ok' })
      expect(server.connections).toBe(2)
    })

    test('by another host, although its name has the same address', async () => {
      const hosts: unknown[] = []
      const server = await serve((incoming, reply) => {
        hosts.push(incoming.headers.host)
        reply.end('ok')
      })
      const egress = egressTo(server.port)
      for (const name of ['a', 'b', 'a', 'b']) await post(egress, `${kind}://${name}.example.com/`)
      expect(hosts).toEqual(['a', 'b', 'a', 'b'].map(name => `${name}.example.com`))
      expect([server.connections, server.open]).toEqual([2, 2])
    })

    test('after close, which ends those that are idle and lets those finish that are not', async () => {
      const waiting: (() => void)[] = []
      const server = await serve((incoming, reply) => {
        if (incoming.url === '/slow') waiting.push(() => reply.end('slow'))
        else reply.end('ok')
        if (waiting.length === 1) ready()
      })
      let ready = () => {}
      const isWaiting = new Promise<void>(resolve => {
        ready = resolve
      })
      const egress = egressTo(server.port)
      const slow = post(egress, `${kind}://hooks.example.com/slow`)
      await isWaiting
      await post(egress, HOOK)
      expect(server.open).toBe(2)
      egress.close()
      await until(server, 1)
      waiting[0]?.()
      expect(await slow).toMatchObject({ text: 'slow' })
      await server.drained()
      expect(await post(egress, HOOK)).toMatchObject({ text: 'ok' })
      await server.drained()
      expect(server.connections).toBe(3)
    })
  })

  test('an answer that takes longer than an idle connection is kept is waited for', async () => {
    const server = await serve(
      (incoming, reply) => void setTimeout(() => reply.end('late'), incoming.url === '/hook' ? 90 : 0),
    )
    const egress = egressTo(server.port, { idleMs: 30 })
    expect(await post(egress, HOOK)).toMatchObject({ text: 'late' })
    expect(await post(egress, `${kind}://hooks.example.com/quick`)).toMatchObject({ text: 'late' })
    expect(await post(egress, HOOK)).toMatchObject({ text: 'late' })
    expect(server.requests).toBe(3)
  })

  describe('bytes that nobody asked for', () => {
    const other = OK('the answer')
    const POISONS: [name: string, bytes: string][] = [
      ['a whole answer', POISON],
      ['half an answer', POISON.slice(0, 20)],
      ['rubbish', 'rubbish\r\n'],
      ['one byte', 'H'],
      ['an interim reply', 'HTTP/1.1 100 Continue\r\n\r\n'],
    ]

    // The second connection is the one that must answer; on the first one every request would be answered by poison.
    const afterPoison = async (first: (socket: net.Socket) => void, between: (socket: net.Socket) => unknown) => {
      let poisoner: net.Socket | undefined
      const server = await talkingServer(kind, (socket, nth, connection) => {
        if (connection > 1) socket.write(other)
        else if (nth > 1) socket.write(POISON)
        else {
          poisoner = socket
          first(socket)
        }
      })
      const egress = egressTo(server.port)
      expect(await post(egress, HOOK)).toMatchObject({ status: 200, text: 'one' })
      if (poisoner !== undefined) await between(poisoner)
      const result = await post(egress, HOOK)
      return { text: result.type === 'answered' ? result.text : result.errorClass, server }
    }
    const closed = (socket: net.Socket) =>
      new Promise<void>(resolve => void (socket.destroyed ? resolve() : socket.once('close', resolve)))

    test.each(POISONS)('and come later, %s, end the idle connection', async (_name, bytes) => {
      const { text, server } = await afterPoison(
        socket => void socket.write(OK('one')),
        async socket => {
          socket.write(bytes)
          await closed(socket)
        },
      )
      expect([text, server.requests, server.connections]).toEqual(['the answer', 2, 2])
    })

    test.each(POISONS)(
      'and lie unread when the connection is taken, %s, end it before a byte of the request',
      async (_name, bytes) => {
        const { text, server } = await afterPoison(
          socket => void socket.write(OK('one')),
          // In this very turn of the loop the next request picks its connection.
          socket => void socket.write(bytes),
        )
        expect([text, server.requests, server.connections]).toEqual(['the answer', 2, 2])
      },
    )

    test.each([
      ['a whole answer', POISON],
      ['two answers', POISON + POISON],
      ['too few to be an answer', POISON.slice(0, 30)],
      ['one byte', 'H'],
      ['rubbish', 'rubbish\r\n'],
      ['a whole answer after an empty line', `\r\n${POISON}`],
    ])('and come with the answer, %s, end the connection', async (_name, bytes) => {
      for (const one of [OK('one'), 'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\none\r\n0\r\n\r\n']) {
        const { text, server } = await afterPoison(
          socket => void socket.write(one + bytes),
          socket => closed(socket),
        )
        expect([text, server.requests, server.connections]).toEqual(['the answer', 2, 2])
      }
    })

    test('and come after an answer that is still being read, end the connection', async () => {
      const long = OK('x'.repeat(200_000))
      for (const isWithIt of [true, false]) {
        const server = await talkingServer(kind, (socket, _nth, connection) => {
          if (connection > 1) socket.write(other)
          else socket.write(isWithIt ? long + POISON : long, () => isWithIt || socket.write(POISON))
        })
        const egress = egressTo(server.port)
        const result = await egress.download(FILE, { maxBytes: 1 << 20, timeoutMs: 3000, idleTimeoutMs: 2000 })
        if (result.type === 'failed') throw new Error(result.detail)
        let read = 0
        for await (const chunk of result.stream) {
          read += chunk.byteLength
          // A reader that is slower than its sender.
          await get(egress, `${kind}://a.example.com/`)
        }
        expect(read).toBe(200_000)
        expect(await get(egress, FILE)).toBe('the answer')
      }
    })
  })

  describe('a kept connection that fails', () => {
    const ask = { post: (egress: Egress) => post(egress, HOOK), get: (egress: Egress) => get(egress, HOOK) }
    const OF_POST = { type: 'answered', text: 'ok' }

    test('before a byte of an answer is replaced by a new one, and the request is repeated', async () => {
      const server = await talkingServer(kind, (socket, nth) => {
        if (nth === 1) socket.write(OK('ok'))
        else socket.destroy()
      })
      const egress = egressTo(server.port)
      for (let i = 0; i < 3; i += 1) expect(await ask.post(egress)).toMatchObject(OF_POST)
      for (let i = 0; i < 3; i += 1) expect(await ask.get(egress)).toBe('ok')
      expect([server.connections, server.requests]).toEqual([6, 11])
    })

    test('because it was closed meanwhile is replaced without a repetition', async () => {
      let first: net.Socket | undefined
      const server = await talkingServer(kind, socket => {
        first ??= socket
        socket.write(OK('ok'))
      })
      const egress = egressTo(server.port)
      await ask.post(egress)
      // In this very turn of the loop the next request picks its connection.
      first?.end()
      expect(await ask.post(egress)).toMatchObject(OF_POST)
      expect([server.connections, server.requests]).toEqual([2, 2])
    })

    test('is not tried with the others of the same host, which a restart of the server has ended too', async () => {
      const server = await talkingServer(kind, (socket, nth) => {
        if (nth === 1) socket.write(OK('ok'))
        else socket.destroy()
      })
      const egress = egressTo(server.port)
      await Promise.all(Array.from({ length: 10 }, () => ask.post(egress)))
      expect(server.connections).toBe(10)
      expect(await ask.post(egress)).toMatchObject(OF_POST)
      expect([server.connections, server.requests]).toEqual([11, 12])
    })

    test('is not replaced a second time, nor is a new one', async () => {
      const server = await talkingServer(kind, (socket, nth, connection) => {
        if (nth === 1 && connection === 1) socket.write(OK('ok'))
        else socket.destroy()
      })
      const egress = egressTo(server.port)
      expect(await ask.post(egress)).toMatchObject(OF_POST)
      expect(await ask.post(egress)).toMatchObject({ errorClass: 'connection_lost', ip: '127.0.0.1' })
      expect([server.connections, server.requests]).toEqual([2, 3])
      expect(await ask.get(egress)).toBe('connection_lost')
      expect([server.connections, server.requests]).toEqual([3, 4])
    })

    test.each([
      ['within the status line', 'HTTP/1.1 20', 'connection_lost'],
      ['within the headers', 'HTTP/1.1 200 OK\r\nContent-Le', 'connection_lost'],
      ['after an interim reply', 'HTTP/1.1 100 Continue\r\n\r\n', 'connection_lost'],
      ['with another protocol', 'SSH-2.0-OpenSSH_9.2\r\n', 'connection_lost'],
      ['within the body', 'HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc', 'truncated'],
    ])('%s is a failure, for the server has answered', async (_name, half, errorClass) => {
      const server = await talkingServer(kind, (socket, nth) => {
        if (nth === 1) socket.write(OK('ok'))
        else socket.end(half)
      })
      const egress = egressTo(server.port)
      expect(await ask.get(egress)).toBe('ok')
      expect(await ask.get(egress)).toBe(errorClass)
      expect([server.connections, server.requests]).toEqual([1, 2])
    })

    test('by silence is a timeout, and is not repeated', async () => {
      const server = await talkingServer(kind, (socket, nth) => void (nth === 1 && socket.write(OK('ok'))))
      const egress = egressTo(server.port)
      await ask.post(egress)
      const result = await post(egress, HOOK, { timeoutMs: 300 })
      expect(result).toMatchObject({ type: 'failed', errorClass: 'timeout', ip: '127.0.0.1' })
      await server.drained()
      expect([server.connections, server.requests]).toEqual([1, 2])
    })

    test('leaves to the repetition what is left of the time', async () => {
      const server = await talkingServer(kind, (socket, nth, connection) => {
        if (connection === 1 && nth === 1) socket.write(OK('ok'))
        else if (connection === 1) setTimeout(() => socket.destroy(), 1_000)
      })
      const egress = egressTo(server.port)
      await ask.post(egress)
      const result = await post(egress, HOOK, { timeoutMs: 1_600 })
      expect(result).toMatchObject({ type: 'failed', errorClass: 'timeout' })
      expect(result.ms).toBeLessThan(2_500)
      expect([server.connections, server.requests]).toEqual([2, 3])
      await server.drained()
    })

    test('because the caller stops is closed', async () => {
      const stop = new AbortController()
      const server = await talkingServer(kind, (socket, nth) => {
        if (nth === 1) socket.write(OK('ok'))
        else stop.abort()
      })
      const egress = egressTo(server.port)
      await ask.post(egress)
      expect(await post(egress, HOOK, { signal: stop.signal })).toMatchObject({ errorClass: 'aborted' })
      await server.drained()
      expect([server.connections, server.requests]).toEqual([1, 2])
    })
  })

  describe('the addresses of a name', () => {
    test('are those of now: a connection to another one is closed, and the right one is dialled', async () => {
      const first = await serve((_incoming, reply) => reply.end('first'))
      const second = await serve((_incoming, reply) => reply.end('second'), { host: '127.0.0.2', port: first.port })
      const local: Record<string, string> = { [PUBLIC]: '127.0.0.1', '1.1.1.1': '127.0.0.2' }
      let addresses = [PUBLIC]
      const egress = egressTo(0, {
        resolver: async () => addresses.map(address => ({ address, family: 4 })),
        dialAs: address => ({ address: local[address] ?? '', port: first.port }),
      })
      expect(await post(egress, HOOK)).toMatchObject({ text: 'first', ip: '127.0.0.1' })
      addresses = ['1.1.1.1']
      expect(await post(egress, HOOK)).toMatchObject({ text: 'second', ip: '127.0.0.2' })
      await first.drained()
      addresses = [PUBLIC, '1.1.1.1']
      expect(await post(egress, HOOK)).toMatchObject({ text: 'second', ip: '127.0.0.2' })
      expect([first.requests, first.connections, second.requests, second.connections]).toEqual([1, 1, 2, 1])
    })
  })
})

test.each(['10.0.0.1', '169.254.169.254', '::1'])(
  'a name that moves to %s is refused, kept connection or not',
  async address => {
    const server = await httpsServer((_incoming, reply) => reply.end('ok'))
    let addresses = [PUBLIC]
    const egress = egressTo(server.port, {
      resolver: async () => addresses.map(each => ({ address: each, family: isIP(each) })),
    })
    const ask = () => post(egress, 'https://hooks.example.com/hook')
    expect(await ask()).toMatchObject({ text: 'ok' })
    for (const moved of [[address], [PUBLIC, address]]) {
      addresses = moved
      expect(await ask()).toMatchObject({ type: 'failed', errorClass: 'blocked_address', ip: null })
    }
    expect([server.requests, server.connections]).toEqual([1, 1])
  },
)

describe('an allow entry', () => {
  test('for one host lends its connection to no other name of that address', async () => {
    const server = await httpServer((_incoming, reply) => reply.end('inside'))
    const parsed = parseAllow(`a.example.com:${server.port}`)
    const egress = createEgress({
      allow: parsed.ok ? parsed.entries : [],
      resolver: async () => [{ address: '127.0.0.1', family: 4 }],
    })
    opened.add(egress)
    const ask = (name: string) => post(egress, `http://${name}:${server.port}/`)
    expect(await ask('a.example.com')).toMatchObject({ text: 'inside' })
    for (const name of ['b.example.com', 'localhost', '127.0.0.1']) {
      expect(await ask(name)).toMatchObject({ errorClass: 'blocked_address', ip: null })
    }
    expect(await ask('a.example.com')).toMatchObject({ text: 'inside' })
    expect([server.requests, server.connections]).toEqual([2, 1])
  })
})

describe('idle connections', () => {
  test('are no more than 256 in all, and the oldest go first', async () => {
    const server = await httpServer((_incoming, reply) => reply.end('ok'))
    const parsed = parseAllow(Array.from({ length: 300 }, (_, n) => `h${n}.example.com:80`).join(' '))
    const egress = egressTo(server.port, { allow: parsed.ok ? parsed.entries : [] })
    const ask = (n: number) => post(egress, `http://h${n}.example.com/`)
    for (let n = 0; n < 300; n += 1) expect(await ask(n)).toMatchObject({ text: 'ok' })
    await until(server, 256)
    await ask(299)
    expect(server.connections).toBe(300)
    await ask(0)
    expect(server.connections).toBe(301)
  })

  test.each(KINDS)('over %s do not keep the process alive', async kind => {
    const server = await (kind === 'http' ? httpServer : httpsServer)((_incoming, reply) => reply.end('ok'))
    const program = `
      const { createEgress } = await import(${JSON.stringify(new URL('../../src/net/egress.ts', import.meta.url).href)})
      const egress = createEgress({
        allow: [{ type: 'host', host: 'a.example.com', port: 80 }],
        ca: ${JSON.stringify(AUTHORITY)},
        idleMs: 600_000,
        resolver: async () => [{ address: '${PUBLIC}', family: 4 }],
        dialAs: () => ({ address: '127.0.0.1', port: ${server.port} }),
      })
      const answer = await egress.post('${kind}://a.example.com/', { headers: {}, body: new Uint8Array(2) })
      console.log(answer.text)`
    const child = Bun.spawn([process.execPath, '-e', program], { stdout: 'pipe', stderr: 'inherit' })
    expect(await new Response(child.stdout).text()).toBe('ok\n')
    expect(await child.exited).toBe(0)
    await server.drained()
    expect(server.connections).toBe(1)
  })
})

/** As soon as the server has so many connections open. */
async function until(server: Listening, open: number): Promise<void> {
  while (server.open !== open) await new Promise(resolve => setImmediate(resolve))
}
