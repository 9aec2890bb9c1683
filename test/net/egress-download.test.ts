// Downloading from hosts that redirect, lie, drip and never end, over real sockets.

import { describe, expect, test } from 'bun:test'
import type http from 'node:http'
import type net from 'node:net'
import { parseAllow } from '../../src/net/egress/allow.ts'
import type { DownloadRequest } from '../../src/net/egress/download.ts'
import { EgressError } from '../../src/net/egress/failure.ts'
import type { EgressOptions } from '../../src/net/egress.ts'
import { certificates, egressTo, httpServer, httpsServer, rawServer, rawTlsServer } from './servers.ts'

const FILE = 'https://cdn.example.com/file.png'

const request = (more: Partial<DownloadRequest> = {}): DownloadRequest => ({
  maxBytes: 1 << 20,
  timeoutMs: 3000,
  idleTimeoutMs: 2000,
  ...more,
})

type Read = { bytes: number; error: string | null }

/** Reads to the end; the class of the error if there was one. */
async function readAll(stream: ReadableStream<Uint8Array>): Promise<Read> {
  let bytes = 0
  try {
    for await (const chunk of stream) bytes += chunk.byteLength
    return { bytes, error: null }
  } catch (error) {
    return { bytes, error: error instanceof EgressError ? error.errorClass : String(error) }
  }
}

async function fetchAll(
  port: number,
  more: Partial<DownloadRequest> = {},
  options: Partial<EgressOptions> = {},
): Promise<Read> {
  const result = await egressTo(port, options).download(FILE, request(more))
  return result.type === 'opened' ? await readAll(result.stream) : { bytes: 0, error: result.errorClass }
}

const redirector = (hops: Record<string, string>, last: http.RequestListener) =>
  httpsServer((incoming, reply) => {
    const target = hops[`${incoming.headers.host}${incoming.url}`]
    if (target === undefined) return last(incoming, reply)
    reply.writeHead(302, { location: target }).end('moved')
  })

describe('a file', () => {
  test('comes as a stream, with what was declared', async () => {
    const server = await httpsServer((incoming, reply) => {
      expect(incoming.headers).toMatchObject({ 'accept-encoding': 'identity', accept: 'image/*', range: 'bytes=0-' })
      reply.writeHead(200, { 'content-type': 'Image/PNG; x=y', 'content-length': '5' }).end('12345')
    })
    const wanted = request({ accept: ['image/*'], headers: { range: 'bytes=0-' } })
    const result = await egressTo(server.port).download(FILE, wanted)
    expect(result).toMatchObject({ type: 'opened', status: 200, mime: 'image/png', length: 5 })
    expect(result.type === 'opened' && (await readAll(result.stream))).toEqual({ bytes: 5, error: null })
  })

  test('without a declared length ends where the connection ends', async () => {
    const server = await rawTlsServer(socket => void socket.end('HTTP/1.1 200 OK\r\n\r\nabc'))
    expect(await fetchAll(server.port)).toEqual({ bytes: 3, error: null })
  })

  test('that came whole is whole, even if its connection was reset before it was read', async () => {
    const sockets: net.Socket[] = []
    const server = await rawServer(socket => {
      sockets.push(socket)
      socket.write('HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n12345')
    })
    const parsed = parseAllow('cdn.example.com:80')
    const egress = egressTo(server.port, { allow: parsed.ok ? parsed.entries : [] })
    const result = await egress.download('http://cdn.example.com/file.png', request())
    if (result.type !== 'opened') throw new Error(result.detail)
    for (const socket of sockets) socket.resetAndDestroy()
    await server.drained()
    // Long enough for the reset to be read.
    const other = await httpsServer((_incoming, reply) => reply.end('ok'))
    await fetchAll(other.port)
    expect(await readAll(result.stream)).toEqual({ bytes: 5, error: null })
  })

  test('is not read ahead of its reader', async () => {
    let sent = 0
    const server = await rawTlsServer(socket => {
      socket.write('HTTP/1.1 200 OK\r\nContent-Length: 500000000\r\n\r\n')
      const chunk = Buffer.alloc(65_536)
      const pump = () => {
        do sent += chunk.byteLength
        while (!socket.destroyed && socket.write(chunk))
        socket.once('drain', pump)
      }
      pump()
    })
    const result = await egressTo(server.port).download(FILE, request({ maxBytes: 1e9 }))
    if (result.type !== 'opened') throw new Error(result.detail)
    // Long enough for a sender on loopback to push hundreds of megabytes at whoever takes them.
    const small = await httpsServer((_incoming, reply) => reply.end('small'))
    for (let i = 0; i < 40; i += 1) await fetchAll(small.port)
    expect(sent).toBeLessThan(32 << 20)
    await result.stream.cancel()
    await server.drained()
  })

  test.each([
    [404, 'http_4xx'],
    [410, 'http_4xx'],
    [503, 'http_5xx'],
    [204, 'http_status'],
    [206, 'http_status'],
    [304, 'redirect'],
  ])('with status %i is %s', async (status, errorClass) => {
    const server = await httpsServer((_incoming, reply) => reply.writeHead(status).end())
    const result = await egressTo(server.port).download(FILE, request())
    expect(result).toMatchObject({ type: 'failed', errorClass, status })
  })
})

describe('what a file declares', () => {
  const declared = async (mime: string | undefined, accept: string[]) => {
    const server = await httpsServer((_incoming, reply) => {
      reply.writeHead(200, mime === undefined ? {} : { 'content-type': mime }).end('x')
    })
    const result = await egressTo(server.port).download(FILE, request({ accept }))
    return result.type === 'opened' ? (await readAll(result.stream)).error : result.errorClass
  }

  test.each([
    'text/html',
    'image/svg+xml',
    'application/vnd.apple.mpegurl',
    'application/x-mpegURL',
    'application/dash+xml',
    'text/plain',
  ])('%s is refused where a picture or video is wanted', async mime => {
    expect(await declared(mime, ['image/*', 'video/*'])).toBe('type_refused')
  })

  test.each(['audio/mpegurl', 'audio/x-mpegurl', 'video/vnd.apple.mpegurl'])(
    '%s is a playlist, not media',
    async mime => {
      expect(await declared(mime, ['audio/*', 'video/*'])).toBe('type_refused')
    },
  )

  test.each(['image/png', 'IMAGE/WEBP', 'video/mp4', 'application/octet-stream', undefined])(
    '%s passes',
    async mime => {
      expect(await declared(mime, ['image/*', 'video/mp4'])).toBeNull()
    },
  )

  test('a compressed body is refused, and not inflated', async () => {
    const bomb = Bun.gzipSync(Buffer.alloc(32 << 20))
    const server = await httpsServer((_incoming, reply) => {
      reply.writeHead(200, { 'content-type': 'image/png', 'content-encoding': 'gzip' }).end(bomb)
    })
    expect(await fetchAll(server.port)).toEqual({ bytes: 0, error: 'encoding_refused' })
  })

  test('a length over the cap is refused before a byte is read', async () => {
    const server = await rawTlsServer(socket => void socket.write('HTTP/1.1 200 OK\r\nContent-Length: 1001\r\n\r\n'))
    expect(await fetchAll(server.port, { maxBytes: 1000 })).toEqual({ bytes: 0, error: 'too_large' })
  })
})

describe('a body that lies', () => {
  const endless = (socket: net.Socket) => {
    socket.write('HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n')
    const chunk = `4000\r\n${'x'.repeat(0x4000)}\r\n`
    const pump = () => {
      while (!socket.destroyed && socket.write(chunk)) {}
      socket.once('drain', pump)
    }
    pump()
  }

  test('and never ends is cut at the cap, and its socket is closed', async () => {
    const server = await rawTlsServer(endless)
    const read = await fetchAll(server.port, { maxBytes: 100_000 })
    expect(read.error).toBe('too_large')
    expect(read.bytes).toBeLessThanOrEqual(100_000)
    await server.drained()
  })

  test.each([
    ['ends before its declared length', 'HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nabc'],
    ['ends within a chunk', 'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabc'],
    ['ends without its last chunk', 'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n'],
  ])('and %s is truncated, not complete', async (_name, bytes) => {
    const server = await rawTlsServer(socket => void socket.end(bytes))
    expect((await fetchAll(server.port)).error).toBe('truncated')
  })

  test('and drips is cut by the time for everything', async () => {
    const server = await rawTlsServer(socket => {
      socket.write('HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n')
      const drip = setInterval(() => socket.write('x'), 20)
      socket.on('close', () => clearInterval(drip))
    })
    expect((await fetchAll(server.port, { timeoutMs: 200, idleTimeoutMs: 1000 })).error).toBe('timeout')
  })

  test('and falls silent is cut by the time between two bytes', async () => {
    const server = await rawTlsServer(socket => void socket.write('HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nabc'))
    expect(await fetchAll(server.port, { idleTimeoutMs: 80 })).toEqual({ bytes: 3, error: 'idle_timeout' })
  })

  test('is not blamed for a reader that is slow', async () => {
    const server = await httpsServer((_incoming, reply) => reply.end('abc'))
    const result = await egressTo(server.port).download(FILE, request({ idleTimeoutMs: 30 }))
    if (result.type !== 'opened') throw new Error(result.detail)
    // The reader is busy elsewhere for twice that time.
    const slow = await httpsServer((_incoming, reply) => void setTimeout(() => reply.end('slow'), 60))
    await fetchAll(slow.port)
    expect(await readAll(result.stream)).toEqual({ bytes: 3, error: null })
  })

  test('can be stopped by the caller in the middle', async () => {
    const stop = new AbortController()
    const server = await rawTlsServer(socket => void socket.write('HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc'))
    const result = await egressTo(server.port).download(FILE, request({ signal: stop.signal }))
    if (result.type !== 'opened') throw new Error(result.detail)
    const reading = readAll(result.stream)
    stop.abort()
    expect((await reading).error).toBe('aborted')
  })
})

describe('a redirect', () => {
  test('is followed three times', async () => {
    const hops = {
      'cdn.example.com/file.png': '/1',
      'cdn.example.com/1': '//b.example.com/2',
      'b.example.com/2': 'https://c.example.com/3',
    }
    const server = await redirector(hops, (_incoming, reply) => reply.end('file'))
    const result = await egressTo(server.port).download(FILE, request())
    expect(result).toMatchObject({ type: 'opened' })
    expect(result.type === 'opened' && (await readAll(result.stream)).bytes).toBe(4)
    expect(server.requests).toBe(4)
  })

  test('is not followed a fourth time, nor in a loop', async () => {
    const server = await httpsServer((_incoming, reply) => reply.writeHead(307, { location: '/again' }).end())
    expect(await egressTo(server.port).download(FILE, request())).toMatchObject({
      type: 'failed',
      errorClass: 'redirect',
    })
    expect(server.requests).toBe(4)
  })

  test('without a place to go is a failure', async () => {
    const server = await httpsServer((_incoming, reply) => reply.writeHead(302).end())
    expect(await egressTo(server.port).download(FILE, request())).toMatchObject({ errorClass: 'redirect' })
  })

  test('from https to http is not followed, even to a host that the operator allows', async () => {
    const inside = await httpServer((_incoming, reply) => reply.end('inside'))
    const parsed = parseAllow(`127.0.0.1:${inside.port}`)
    const server = await httpsServer((_incoming, reply) => {
      reply.writeHead(302, { location: `http://127.0.0.1:${inside.port}/` }).end()
    })
    const allow = parsed.ok ? parsed.entries : []
    expect(await egressTo(server.port, { allow }).download(FILE, request())).toMatchObject({ errorClass: 'redirect' })
    expect(inside.connections).toBe(0)
  })

  test('resolves its target afresh, and a private one is refused', async () => {
    const asked: string[] = []
    const server = await httpsServer((_incoming, reply) =>
      reply.writeHead(302, { location: 'https://b.example.com/' }).end(),
    )
    const egress = egressTo(server.port, {
      resolver: async host => {
        asked.push(host)
        return [{ address: host === 'b.example.com' ? '10.0.0.1' : '93.184.216.34', family: 4 }]
      },
    })
    expect(await egress.download(FILE, request())).toMatchObject({ errorClass: 'blocked_address' })
    expect(asked).toEqual(['cdn.example.com', 'b.example.com'])
    expect(server.connections).toBe(1)
  })

  test('to another origin drops the headers of the caller, and they do not come back', async () => {
    const seen: [string, string | undefined, string | undefined][] = []
    const hops: Record<string, string> = {
      'cdn.example.com/file.png': '/same',
      'cdn.example.com/same': 'https://other.example.com/x',
      'other.example.com/x': 'https://cdn.example.com/back',
    }
    const server = await httpsServer((incoming, reply) => {
      const { host = '', authorization, 'x-custom': custom } = incoming.headers
      seen.push([host + incoming.url, authorization, custom?.toString()])
      const location = hops[host + incoming.url]
      if (location === undefined) reply.end()
      else reply.writeHead(302, { location }).end()
    })
    const headers = { Authorization: 'Bearer secret', 'X-Custom': 'mine' }
    expect(await egressTo(server.port).download(FILE, request({ headers }))).toMatchObject({ type: 'opened' })
    expect(seen).toEqual([
      ['cdn.example.com/file.png', 'Bearer secret', 'mine'],
      ['cdn.example.com/same', 'Bearer secret', 'mine'],
      ['other.example.com/x', undefined, undefined],
      ['cdn.example.com/back', undefined, undefined],
    ])
  })

  test('shares one deadline with what follows', async () => {
    const server = await rawTlsServer(socket => {
      const answer = setTimeout(() => socket.end('HTTP/1.1 302 Found\r\nLocation: /x\r\n\r\n'), 90)
      socket.on('close', () => clearTimeout(answer))
    })
    expect(await egressTo(server.port).download(FILE, request({ timeoutMs: 200 }))).toMatchObject({
      errorClass: 'timeout',
    })
  })
})

test('a host with a certificate for another name is a failure of TLS', async () => {
  const server = await httpsServer((_incoming, reply) => reply.end(), certificates.otherName)
  expect(await fetchAll(server.port)).toEqual({ bytes: 0, error: 'tls_error' })
})
