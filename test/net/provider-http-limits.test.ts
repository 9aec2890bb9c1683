// What a call may take of us, and when it may leave: bodies that are larger than they say, callers that are gone.

import { describe, expect, test } from 'bun:test'
import { createProviderHttp, type ProviderCall } from '../../src/net/provider-http.ts'
import { httpServer } from './servers.ts'

const CAP = 100_000
const client = createProviderHttp({ providers: { a: () => true } })
const call = (port: number, more: Partial<ProviderCall> = {}) =>
  client.call({
    ...{ provider: 'a', method: 'POST', url: `http://127.0.0.1:${port}/`, timeoutMs: 5_000, maxBytes: CAP },
    ...more,
  })

describe('a body', () => {
  const answered = async (body: Uint8Array, headers: Record<string, string>): Promise<unknown> => {
    const server = await httpServer((incoming, reply) => {
      incoming.resume().on('end', () => reply.writeHead(200, { 'content-type': 'image/png', ...headers }).end(body))
    })
    const said = await call(server.port)
    return said.type === 'failed' ? [said.kind, said.sent, said.status] : said.bytes?.byteLength
  }
  const TOO_LARGE = ['too_large', 'maybe', 200]
  const declared = (bytes: number) => ({ 'content-length': String(bytes) })

  test('of the most bytes is read, and not of one more, whether it says so before or not', async () => {
    for (const [bytes, expected] of [
      [CAP, CAP],
      [CAP + 1, TOO_LARGE],
    ] as const) {
      expect(await answered(new Uint8Array(bytes), declared(bytes))).toEqual(expected)
      expect(await answered(new Uint8Array(bytes), { 'transfer-encoding': 'chunked' })).toEqual(expected)
    }
  })

  test('that is small only as long as it is packed is no small one', async () => {
    const packed = (bytes: number) => Bun.gzipSync(new Uint8Array(bytes))
    const headers = (bytes: number) => ({ 'content-encoding': 'gzip', ...declared(packed(bytes).byteLength) })
    expect(await answered(packed(CAP), headers(CAP))).toBe(CAP)
    for (const bytes of [CAP + 1, 64 << 20]) expect(await answered(packed(bytes), headers(bytes))).toEqual(TOO_LARGE)
  })
})

describe('a call that has its place', () => {
  test('waits for what is written down before it, and leaves only then', async () => {
    const order: string[] = []
    const server = await httpServer((_incoming, reply) => {
      order.push('arrived')
      reply.end()
    })
    const sending = async (): Promise<void> => {
      await new Promise(resolve => setImmediate(resolve))
      order.push('written')
    }
    await call(server.port, { sending })
    expect(order).toEqual(['written', 'arrived'])
    const broken = async (): Promise<void> => Promise.reject(new Error('the disk is full'))
    await expect(call(server.port, { sending: broken })).rejects.toThrow('the disk is full')
    const gone = new AbortController()
    const late = call(server.port, { sending: async () => gone.abort(), signal: gone.signal })
    expect(await late).toMatchObject({ type: 'failed', kind: 'aborted', sent: 'no' })
    expect(order).toHaveLength(2)
  })
})
