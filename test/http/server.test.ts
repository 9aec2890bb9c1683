/** What only shows on real sockets: silence limits, slow readers, bodies that stream in, HEAD. */
import { afterEach, describe, expect, test } from 'bun:test'
import { connect, type Socket } from 'node:net'
import { overlay } from '../../src/app/tracing/overlay.ts'
import type { RunEvent } from '../../src/core/run.ts'
import type { ApiDeps } from '../../src/http/deps.ts'
import seed from '../fixtures/seed.request.json'
import { BASE, HttpWorld } from '../support/http-world.ts'

const open: { world: HttpWorld; server: Bun.Server<undefined>; timeouts: [string, number][] }[] = []

async function serve(change?: (deps: ApiDeps, world: HttpWorld) => ApiDeps) {
  const world = await HttpWorld.open(change)
  const timeouts: [string, number][] = []
  const server = Bun.serve({
    port: 0,
    hostname: '127.0.0.1',
    maxRequestBodySize: 64 << 20,
    development: false,
    fetch: (request, bun) =>
      world.api.fetch(request, {
        timeout(subject, seconds) {
          timeouts.push([new URL(subject.url).pathname, seconds])
          bun.timeout(subject, seconds)
        },
        requestIP: subject => bun.requestIP(subject),
      }),
  })
  const served = { world, server, timeouts }
  open.push(served)
  return { ...served, url: `http://127.0.0.1:${server.port}`, port: server.port as number }
}

afterEach(async () => {
  for (const { world, server } of open.splice(0)) {
    world.draining.abort()
    await server.stop(true)
    await world.close()
  }
})

const auth = { authorization: 'Bearer key-of-ada' }

describe('silence', () => {
  test('an event stream may be silent for ever, and a comment comes every 15 seconds', async () => {
    const { world, url, timeouts } = await serve()
    world.provider.instant = false
    const id = await world.run(seed)
    const response = await fetch(`${url}/api/v1/runs/${id}/events`, { headers: auth })
    expect(timeouts).toEqual([[`/api/v1/runs/${id}/events`, 0]])
    const text = reader(response)
    await text.until('event: step.running')
    expect(text.seen).toStartWith('retry: 2000\n\nid: 1\nevent: run.created\n')
    const began = world.clock.now()
    await world.until(() => (world.clock.nextAt ?? 0) >= began + 15_000)
    expect(text.seen).not.toContain(': ping')
    world.clock.step()
    await text.until(': ping\n\n')
    await text.cancel()
  })

  test('a wait may be silent a little longer than it may last', async () => {
    const { world, url, timeouts } = await serve()
    world.provider.instant = false
    const id = await world.run(seed)
    const waiting = fetch(`${url}/api/v1/runs/${id}?wait=55`, { headers: auth })
    await world.until(() => timeouts.length > 0)
    const began = world.clock.now()
    let answer: Response | null = null
    void waiting.then(response => {
      answer = response
    })
    await world.until(() => answer !== null)
    expect(timeouts).toEqual([[`/api/v1/runs/${id}`, 60]])
    expect(((await (await waiting).json()) as { status: string }).status).toBe('running')
    expect(world.clock.now() - began).toBeGreaterThanOrEqual(54_000)
  })
})

describe('an event stream', () => {
  test('is over when the run is', async () => {
    const { world, url } = await serve()
    const id = await world.run(seed)
    const response = await fetch(`${url}/api/v1/runs/${id}/events`, { headers: auth })
    await world.runToEnd(id)
    const text = await response.text()
    expect(text.match(/^event: .*/gm)?.at(-1)).toBe('event: run.succeeded')
  })

  test('ends when the server stops', async () => {
    const { world, url } = await serve()
    world.provider.instant = false
    const id = await world.run(seed)
    const response = await fetch(`${url}/api/v1/runs/${id}/events`, { headers: auth })
    world.draining.abort()
    expect(await response.text()).toContain('event: run.created')
  })

  test('gives a long past to a reader who reads, whole and in order', async () => {
    const many = 20_000
    const { world, port } = await serve(deps => ({ ...deps, store: flooded(deps, many) }))
    const id = await world.run(seed)
    const socket = await ask(port, `/api/v1/runs/${id}/events`)
    let text = ''
    for await (const chunk of socket) text += String(chunk)
    const ids = [...text.matchAll(/^id: (\d+)$/gm)].map(match => Number(match[1]))
    expect(ids).toEqual(Array.from({ length: many }, (_, i) => i + 1))
    expect(text.length).toBeGreaterThan(2 << 20)
  })

  test('that nobody reads holds about a megabyte, and is cut after 15 seconds', async () => {
    let made = 0
    const { world, port, timeouts } = await serve(deps => ({
      ...deps,
      store: flooded(deps, Number.MAX_SAFE_INTEGER, n => {
        made = n
      }),
    }))
    const id = await world.run(seed)
    const socket = await ask(port, `/api/v1/runs/${id}/events`)
    socket.pause()
    await steady(() => made)
    const held = made
    // What the kernel's socket buffers took is not ours.
    expect(held * 150).toBeLessThan(16 << 20)
    world.clock.advance(15_000)
    world.clock.step()
    await until(() => timeouts.length > 1)
    expect(timeouts.map(([, seconds]) => seconds)).toEqual([0, 1])
    await steady(() => made)
    expect(made - held).toBeLessThanOrEqual(1)
    socket.destroy()
  })
})

describe('bodies that stream in', () => {
  const big = '/api/v1/chains/chain1/runs'

  test('are cut at the first byte too many, without a Content-Length', async () => {
    const { world, port } = await serve()
    const socket = connect(port, '127.0.0.1')
    socket.write(
      `POST ${big} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer key-of-ada\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n`,
    )
    const chunk = `10000\r\n${'a'.repeat(65_536)}\r\n`
    for (let i = 0; i < 17; i++) socket.write(chunk)
    expect(await answerOn(socket)).toStartWith('HTTP/1.1 413')
    expect(await world.store.counts()).toMatchObject({ runs: { queued: 0 } })
  })

  test('are refused by their Content-Length before they come', async () => {
    const { port } = await serve()
    const socket = connect(port, '127.0.0.1')
    socket.write(
      `POST ${big} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer key-of-ada\r\ncontent-type: application/json\r\ncontent-length: 1048577\r\n\r\n`,
    )
    expect(await answerOn(socket)).toMatch(/^HTTP\/1\.1 413[\s\S]*payload_too_large/)
  })

  test('an upload that never ends is cut at 30 MiB, whatever it holds', async () => {
    const { url } = await serve()
    const png = new Uint8Array(1 << 20)
    png.set([0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a])
    let sent = 0
    const body = new ReadableStream<Uint8Array>({
      pull(controller) {
        sent += 1
        controller.enqueue(sent === 1 ? png : new Uint8Array(1 << 20))
        if (sent > 60) controller.close()
      },
    })
    const response = await fetch(`${url}/api/v1/media`, {
      method: 'POST',
      headers: { ...auth, 'content-type': 'image/png' },
      body,
    })
    expect(response.status).toBe(413)
    expect(((await response.json()) as { code: string }).code).toBe('payload_too_large')
  })

  test('an upload of rubbish is refused while it still comes, every time', async () => {
    const { url, world } = await serve()
    for (let i = 0; i < 10; i++) {
      const body = new ReadableStream<Uint8Array>({
        start(controller) {
          for (let n = 0; n < 4; n++) controller.enqueue(new Uint8Array(1 << 18))
          controller.close()
        },
      })
      const response = await fetch(`${url}/api/v1/media`, {
        method: 'POST',
        headers: { ...auth, 'content-type': 'image/png' },
        body,
      })
      expect(response.status).toBe(415)
    }
    expect(world.logged.filter(line => 'err' in line)).toEqual([])
  })
})

describe('HEAD', () => {
  test('says of a run, a file and a page what GET says, without the body', async () => {
    const { world, url } = await serve()
    const id = await world.run(seed)
    await world.runToEnd(id)
    const run = await world.json<{ steps: { generation_output_file: string[] }[] }>('GET', `/api/v1/runs/${id}`)
    const film = run.steps[1]?.generation_output_file[0]?.slice(BASE.length) ?? ''
    for (const path of [`/api/v1/runs/${id}`, film, '/healthz', '/swagger/swagger-ui.js', '/swagger/json']) {
      const got = await fetch(url + path, { headers: auth })
      const head = await fetch(url + path, { headers: auth, method: 'HEAD' })
      const { length } = new Uint8Array(await got.arrayBuffer())
      expect([path, head.status, head.headers.get('content-length')]).toEqual([path, 200, String(length)])
      expect(head.headers.get('etag')).toBe(got.headers.get('etag'))
      expect(head.headers.get('content-type')).toBe(got.headers.get('content-type'))
      expect(await head.text()).toBe('')
    }
  })

  test('of an event stream opens none', async () => {
    const { world, url } = await serve()
    world.provider.instant = false
    const id = await world.run(seed)
    const head = await fetch(`${url}/api/v1/runs/${id}/events`, { headers: auth, method: 'HEAD' })
    expect(head.headers.get('content-type')).toContain('text/event-stream')
  })
})

test('two Authorization headers are 400, whichever is right', async () => {
  const { port } = await serve()
  const socket = connect(port, '127.0.0.1')
  socket.write(
    'GET /api/v1/runs HTTP/1.1\r\nhost: x\r\nauthorization: Bearer key-of-ada\r\nauthorization: Bearer x\r\n\r\n',
  )
  expect(await answerOn(socket)).toStartWith('HTTP/1.1 400')
})

test('a target in absolute form is taken by its path', async () => {
  const { port } = await serve()
  const socket = connect(port, '127.0.0.1')
  socket.write('GET http://elsewhere.example/healthz HTTP/1.1\r\nhost: x\r\n\r\n')
  expect(await answerOn(socket)).toStartWith('HTTP/1.1 200')
})

describe('the Host header', () => {
  const hosts = ['a b', '[::1', '', 'x:99999', 'x/y', 'x@y', 'x?y', 'x#y', 'x:y', ':80', 'a%20b', '999.1.1.1', '\u00e4']
  for (const host of hosts) {
    test(`that is ${JSON.stringify(host)} is 400, counted and logged like any other refusal`, async () => {
      const { world, port } = await serve()
      const said = await raw(port, `GET /readyz?secret=1 HTTP/1.1\r\nhost: ${host}\r\nconnection: close\r\n\r\n`)
      expect(said.status).toBe(400)
      expect(said.headers.get('content-type')).toBe('application/problem+json')
      const id = said.headers.get('x-request-id')
      expect(id).toMatch(/^req_[0-9a-f-]{36}$/)
      const problem = JSON.parse(said.body) as object
      expect(problem).toMatchObject({ code: 'invalid_request', instance: '/readyz', request_id: id })
      expect(problem).toMatchObject({ errors: [{ parameter: 'Host' }] })
      expect(world.logged).toMatchObject([{ request_id: id, method: 'GET', route: 'none', status: 400 }])
      expect(await world.deps.metrics.text()).toContain('{method="GET",route="none",status="400"} 1')
    })
  }

  test('twice is 400, since whoever stands before us may have taken the other one', async () => {
    const { port } = await serve()
    const said = await raw(
      port,
      'GET /readyz HTTP/1.1\r\nhost: a.example\r\nhost: b.example\r\nconnection: close\r\n\r\n',
    )
    expect(said.status).toBe(400)
  })

  test('that is bad makes nothing, whatever the rest is', async () => {
    const { world, port } = await serve()
    const body = JSON.stringify(seed)
    const head = `content-type: application/json\r\nauthorization: Bearer key-of-ada\r\ncontent-length: ${Buffer.byteLength(body)}`
    const path = '/api/v1/chains/chain1/runs'
    const said = await raw(port, `POST ${path} HTTP/1.1\r\nhost: a b\r\nconnection: close\r\n${head}\r\n\r\n${body}`)
    expect([said.status, (await world.store.counts()).runs.queued]).toEqual([400, 0])
    const headed = await raw(port, 'HEAD /healthz HTTP/1.1\r\nhost: a b\r\nconnection: close\r\n\r\n')
    expect([headed.status, headed.body]).toEqual([400, ''])
    const missing = await raw(port, `POST ${path} HTTP/1.0\r\n${head}\r\n\r\n${body}`)
    expect(missing.status).toBe(202)
  })

  test('may be missing in HTTP/1.0, as probes of health have it', async () => {
    const { port } = await serve()
    for (const path of ['/healthz', '/readyz', '/healthz/', '/readyz?verbose']) {
      const said = await raw(port, `GET ${path} HTTP/1.0\r\n\r\n`)
      expect([path, said.status, JSON.parse(said.body).status]).toEqual([
        path,
        200,
        /ready/.test(path) ? 'ready' : 'ok',
      ])
      expect(said.headers.get('x-request-id')).toMatch(/^req_/)
    }
    expect((await raw(port, 'GET //healthz HTTP/1.0\r\n\r\n')).status).toBe(404)
  })
})

test('whatever breaks on the way, the answer is a problem with its request id', async () => {
  const world = await HttpWorld.open(deps => ({
    ...deps,
    log: {
      ...deps.log,
      info() {
        throw new Error('secret detail at /home/somebody/log.ts:42')
      },
    },
  }))
  const response = await world.api.fetch(world.request('GET', '/healthz'))
  const text = await response.text()
  expect([response.status, response.headers.get('content-type')]).toEqual([500, 'application/problem+json'])
  expect(JSON.parse(text)).toMatchObject({ code: 'internal', request_id: response.headers.get('x-request-id') })
  expect(text).not.toMatch(/secret|log\.ts/)
  expect(await world.deps.metrics.text()).toContain('babychain_faults_total{where="http"} 1')
  await world.close()
})

test('metrics are open to this machine, and closed to what came through a proxy', async () => {
  const { url } = await serve()
  expect((await fetch(`${url}/metrics`)).status).toBe(200)
  expect((await fetch(`${url}/metrics`, { headers: { 'x-forwarded-for': '127.0.0.1' } })).status).toBe(401)
  for (const name of ['Forwarded', 'Via', 'X-Real-IP', 'X-Forwarded-Proto', 'Fly-Client-IP'])
    expect([name, (await fetch(`${url}/metrics`, { headers: { [name]: 'x' } })).status]).toEqual([name, 401])
  expect((await fetch(`${url}/metrics`, { headers: { ...auth, via: '1.1 proxy' } })).status).toBe(200)
})

test('metrics are closed to a proxy on this machine that adds no header: the Host tells', async () => {
  const { port } = await serve()
  const status = async (host: string) =>
    (await raw(port, `GET /metrics HTTP/1.1\r\nhost: ${host}\r\nconnection: close\r\n\r\n`)).status
  const own = ['127.0.0.1:3000', '127.0.0.1', '127.8.9.10:80', 'localhost', 'LocalHost:3000', '[::1]', '[::1]:3000']
  for (const host of own) expect([host, await status(host)]).toEqual([host, 200])
  const others = [
    'runs.example.com',
    '127.0.0.1.example.com',
    'localhost.example.com:3000',
    'example.localhost',
    '127.example.com',
    '10.0.0.1',
    '0.0.0.0',
    '[::2]',
    'x',
  ]
  for (const host of others) expect([host, await status(host)]).toEqual([host, 401])
  expect((await raw(port, 'GET /metrics HTTP/1.0\r\n\r\n')).status).toBe(401)
  const absolute = 'GET http://127.0.0.1/metrics HTTP/1.1\r\nhost: runs.example.com\r\nconnection: close\r\n\r\n'
  expect((await raw(port, absolute)).status).toBe(401)
  const key = 'authorization: Bearer key-of-ada\r\nconnection: close'
  expect((await raw(port, `GET /metrics HTTP/1.1\r\nhost: runs.example.com\r\n${key}\r\n\r\n`)).status).toBe(200)
})

/** A store whose runs have `many` events. */
function flooded(deps: ApiDeps, many: number, tell: (n: number) => void = () => {}): ApiDeps['store'] {
  return overlay(deps.store, {
    async *watch(_, after, signal): AsyncGenerator<RunEvent> {
      for (let seq = after + 1; seq <= many && !signal.aborted; seq++) {
        tell(seq)
        yield { seq, at: 0, type: 'step.progressed', stepKey: 'text_to_image', data: { attempt: 1, progress: 0.5 } }
      }
    },
  })
}

async function ask(port: number, path: string): Promise<Socket> {
  const socket = connect(port, '127.0.0.1')
  socket.write(`GET ${path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\nauthorization: Bearer key-of-ada\r\n\r\n`)
  return socket
}

/** The begin of the answer on a socket. */
async function answerOn(socket: Socket): Promise<string> {
  let text = ''
  for await (const chunk of socket) {
    text += String(chunk)
    if (/\r\n\r\n[\s\S]*\}/.test(text.replace(/^HTTP\/1\.1 100 Continue\r\n\r\n/, ''))) break
  }
  socket.destroy()
  return text.replace(/^HTTP\/1\.1 100 Continue\r\n\r\n/, '')
}

/** The whole answer to bytes that no client would send. The connection must end with it. */
async function raw(port: number, request: string): Promise<{ status: number; headers: Headers; body: string }> {
  const socket = connect(port, '127.0.0.1')
  socket.write(request, 'latin1')
  let text = ''
  for await (const chunk of socket) text += String(chunk)
  const [head = '', body = ''] = text.split(/\r\n\r\n([\s\S]*)/)
  const [status = '', ...lines] = head.split('\r\n')
  const headers = lines.map(line => line.split(/: (.*)/).slice(0, 2) as [string, string])
  return { status: Number(status.split(' ')[1]), headers: new Headers(headers), body }
}

async function until(done: () => boolean): Promise<void> {
  while (!done()) await new Promise(resolve => setImmediate(resolve))
}

/** Waits until a number stands still. */
async function steady(read: () => number): Promise<void> {
  for (let same = 0, last = -1; same < 20; ) {
    for (let i = 0; i < 50; i++) await new Promise(resolve => setImmediate(resolve))
    same = read() === last ? same + 1 : 0
    last = read()
  }
}

function reader(response: Response) {
  const stream = response.body?.getReader()
  const state = {
    seen: '',
    async until(text: string) {
      while (!state.seen.includes(text)) await new Promise(resolve => setImmediate(resolve))
    },
    cancel: () => stream?.cancel(),
  }
  const read = async (): Promise<void> => {
    for (;;) {
      const next = await stream?.read()
      if (!next || next.done) return
      state.seen += new TextDecoder().decode(next.value)
    }
  }
  read().catch(() => {}) // the test ends it
  return state
}
