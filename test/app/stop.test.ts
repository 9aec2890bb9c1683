/** What a stop waits for: what is being answered, and for a moment what callers have not sent. */
import { afterEach, expect, test } from 'bun:test'
import { connect, type Socket } from 'node:net'
import { RunningApp } from '../support/app.ts'
import { samplePicture } from '../support/sample-media.ts'
import { API_KEY, until } from '../support/server.ts'

const closing: (() => Promise<unknown> | unknown)[] = []
afterEach(async () => {
  for (const close of closing.splice(0).toReversed()) await close()
})

async function running(): Promise<RunningApp> {
  const app = new RunningApp({ BABYCHAIN_MODE: 'sandbox' })
  closing.push(() => app.close())
  return app.start()
}

/** Longer than a test may take: whoever waits for it has failed. */
const GRACE_MS = 60_000

const KEY = `Authorization: Bearer ${API_KEY}\r\n`

/** A caller by hand: sends these lines and what follows them, and no more. */
async function caller({ url }: RunningApp, lines: string, begun = '') {
  const { port, host } = new URL(url)
  const socket: Socket = connect(Number(port), '127.0.0.1')
  closing.push(() => socket.destroy())
  const chunks: Buffer[] = []
  const gone = Promise.withResolvers<string>()
  socket.on('data', (chunk: Buffer) => chunks.push(chunk))
  socket.on('error', () => {})
  socket.on('close', () => gone.resolve(Buffer.concat(chunks).toString('latin1')))
  // With its connection, and before anybody else's.
  await new Promise<void>(sent =>
    socket.write(`${lines.replace('\r\n', `\r\nHost: ${host}\r\n`)}${begun}`, 'latin1', () => sent()),
  )
  return { socket, gone: gone.promise, got: () => Buffer.concat(chunks).toString('latin1') }
}

/** Resolves when what was sent before has reached its handler: a request behind it has been answered. */
const arrived = (app: RunningApp) => app.json('/api/v1/runs')

test.each([
  [
    'a sign-in of a stranger',
    'POST /api/v1/session HTTP/1.1\r\nContent-Type: application/json\r\nContent-Length: 3000\r\n\r\n',
    '{',
  ],
  [
    'an order',
    `POST /api/v1/chains/chain1/runs HTTP/1.1\r\n${KEY}Content-Type: application/json\r\nContent-Length: 3000\r\n\r\n`,
    '{',
  ],
  [
    'a picture',
    `POST /api/v1/media HTTP/1.1\r\n${KEY}Content-Type: image/png\r\nContent-Length: 3000\r\n\r\n`,
    '\x89PNG',
  ],
  [
    'a form',
    `POST /api/v1/media HTTP/1.1\r\n${KEY}Content-Type: multipart/form-data; boundary=x\r\nContent-Length: 3000\r\n\r\n`,
    '--x',
  ],
])('%s whose body stands still is refused, and a stop does not wait for it', async (_, lines, begun) => {
  const app = await running()
  const { gone } = await caller(app, lines, begun)
  await arrived(app)
  await app.stop(GRACE_MS, 0)
  expect(await gone).toMatch(/^HTTP\/1.1 503 [\s\S]*"code":"draining"/)
})

test('half a head of a request, and a connection that asks nothing, hold up no stop', async () => {
  const app = await running()
  const callers = [await caller(app, 'GET /healthz HTTP/1.1\r\nX-Half: '), await caller(app, '\r\n')]
  await arrived(app)
  await app.stop(GRACE_MS, 0)
  for (const { gone } of callers) expect(await gone).not.toContain('200 OK')
})

test('a body that is on its way when the stop begins still counts', async () => {
  const app = await running()
  const body = JSON.stringify({ key: API_KEY })
  const lines = `POST /api/v1/session HTTP/1.1\r\nContent-Type: application/json\r\nContent-Length: ${body.length}\r\n\r\n`
  const { socket, gone } = await caller(app, lines, body.slice(0, 5))
  await arrived(app)
  const stopped = app.stop(GRACE_MS, GRACE_MS)
  socket.write(body.slice(5))
  await stopped
  expect(await gone).toMatch(/^HTTP\/1.1 201 /)
})

test('a download under way is given to its end', async () => {
  const app = await running()
  // More than all buffers on the way hold.
  const picture = Buffer.concat([await samplePicture('png'), new Uint8Array(12 << 20)])
  const headers = { 'content-type': 'image/png' }
  const answer = await app.request('/api/v1/media', { method: 'POST', headers, body: picture })
  const { id } = (await answer.json()) as { id: string }
  const reader = await caller(app, `GET /api/v1/media/${id} HTTP/1.1\r\n${KEY}\r\n`)
  await until('the download has begun', async () => reader.got().includes('\r\n\r\n'))
  reader.socket.pause()
  const stalled = await caller(
    app,
    'POST /api/v1/session HTTP/1.1\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n',
    '{',
  )
  await arrived(app)
  const stopped = app.stop(GRACE_MS, 0)
  expect(await stalled.gone).toContain('503')
  reader.socket.resume()
  await stopped
  const got = await reader.gone
  expect(got.length - got.indexOf('\r\n\r\n') - 4).toBe(picture.length)
})
