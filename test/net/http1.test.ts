// A reply is read the same however its bytes are cut, and what could be read in two ways is not read at all.

import { describe, expect, test } from 'bun:test'
import fc from 'fast-check'
import { EgressError } from '../../src/net/egress/failure.ts'
import { BodyReader, HeadReader, requestBytes } from '../../src/net/egress/http1.ts'

type Reading = { status: number; headers: Record<string, string>; body: string; isWhole: boolean; after: number }

/** Reads one reply from pieces of bytes; the class and detail of the refusal if there is one. */
function read(pieces: readonly Buffer[]): Reading | string | null {
  const head = new HeadReader()
  let body: BodyReader | null = null
  let reading: Reading | null = null
  try {
    for (const piece of pieces) {
      let rest = piece
      if (body === null) {
        const whole = head.push(piece)
        if (whole === null) continue
        body = new BodyReader(whole.head.body)
        rest = whole.rest
        reading = { status: whole.head.status, headers: { ...whole.head.headers }, body: '', isWhole: false, after: 0 }
      }
      if (reading === null) continue
      const into = reading
      into.after += body.push(rest, part => {
        into.body += part.toString('latin1')
      })
      into.isWhole = body.isWhole
    }
    return reading
  } catch (error) {
    if (error instanceof EgressError) return `${error.errorClass}: ${error.detail}`
    throw error
  }
}

const whole = (text: string) => read([Buffer.from(text, 'latin1')])
const OK = 'HTTP/1.1 200 OK\r\n'

describe('a body ends', () => {
  test.each([
    ['after its length', `${OK}Content-Length: 2\r\n\r\nok`, 'ok', true, 0],
    ['after its length, and what follows is not its', `${OK}content-length:2\r\n\r\nokHTTP`, 'ok', true, 4],
    ['not before its length', `${OK}Content-Length: 3\r\n\r\nok`, 'ok', false, 0],
    ['with the last chunk', `${OK}Transfer-Encoding: Chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n`, 'ok', true, 0],
    ['after its trailers', `${OK}Transfer-Encoding: chunked\r\n\r\n2;a="b"\r\nok\r\n0\r\nx: y\r\n\r\nz`, 'ok', true, 1],
    ['not with the last chunk alone', `${OK}Transfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n`, 'ok', false, 0],
    ['with its connection', `${OK}\r\nok`, 'ok', false, 0],
    ['at once without content', 'HTTP/1.1 204 No Content\r\nContent-Length: 2\r\n\r\nok', '', true, 2],
    ['at once where nothing changed', 'HTTP/1.1 304 Not Modified\r\nTransfer-Encoding: chunked\r\n\r\n', '', true, 0],
  ])('%s', (_name, text, body, isWhole, after) => {
    expect(whole(text)).toMatchObject({ body, isWhole, after })
  })

  test('wherever its bytes are cut into pieces', () => {
    const chunk = fc.string({ minLength: 1, maxLength: 40, unit: 'binary-ascii' })
    const replies = fc.tuple(fc.array(chunk, { maxLength: 6 }), fc.constantFrom('length', 'chunks'), fc.string())
    fc.assert(
      fc.property(replies, fc.array(fc.nat(400), { maxLength: 12 }), ([parts, framing, after], cuts) => {
        const text = parts.join('')
        const framed =
          framing === 'length'
            ? `Content-Length: ${text.length}\r\n\r\n${text}`
            : `Transfer-Encoding: chunked\r\n\r\n${parts.map(part => `${part.length.toString(16)}\r\n${part}\r\n`).join('')}0\r\n\r\n`
        const surplus = Buffer.from(after)
        const bytes = Buffer.concat([Buffer.from(`${OK}X-A: 1\r\n${framed}`, 'latin1'), surplus])
        const at = [0, ...cuts.map(cut => Math.min(cut, bytes.byteLength)).sort((a, b) => a - b), bytes.byteLength]
        const pieces = at.slice(1).map((end, i) => bytes.subarray(at[i], end))
        expect(read(pieces)).toMatchObject({ status: 200, body: text, isWhole: true, after: surplus.byteLength })
      }),
      { numRuns: 300 },
    )
  })
})

describe('a reply that could be read in two ways is refused', () => {
  const chunked = `${OK}Transfer-Encoding: chunked\r\n\r\n`
  test.each([
    ['two lengths', `${OK}Content-Length: 1\r\nContent-Length: 2\r\n\r\nab`],
    ['one length twice', `${OK}Content-Length: 1\r\nContent-Length: 1\r\n\r\na`],
    ['a list of lengths', `${OK}Content-Length: 1, 1\r\n\r\na`],
    ['a signed length', `${OK}Content-Length: +1\r\n\r\na`],
    ['an empty length', `${OK}Content-Length:\r\n\r\na`],
    ['a length in hexadecimal', `${OK}Content-Length: 0x1\r\n\r\na`],
    ['a length past all numbers', `${OK}Content-Length: 9999999999999999\r\n\r\na`],
    ['a length beside chunks', `${OK}Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n`],
    ['a coding around chunks', `${OK}Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n`],
    ['chunks twice', `${OK}Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n`],
    ['a coding with a tail', `${OK}Transfer-Encoding: chunked;x\r\n\r\n0\r\n\r\n`],
    ['a coding that is none', `${OK}Transfer-Encoding: identity\r\n\r\nok`],
    ['a folded line', `${OK}X-A: 1\r\n Content-Length: 1\r\n\r\na`],
    ['a space before the colon', `${OK}Content-Length : 1\r\n\r\na`],
    ['a name with a space', `${OK}Content Length: 1\r\n\r\na`],
    ['a line without a colon', `${OK}Content-Length\r\n\r\na`],
    ['a line without a name', `${OK}: 1\r\n\r\na`],
    ['a line that ends without CR', `${OK}X-A: 1\nContent-Length: 1\r\n\r\na`],
    ['a bare CR in a value', `${OK}X-A: 1\rContent-Length: 1\r\n\r\na`],
    ['a null in a value', `${OK}X-A: 1\0\r\n\r\na`],
    ['a status of two digits', 'HTTP/1.1 20 OK\r\n\r\n'],
    ['a status past all classes', 'HTTP/1.1 600 No\r\n\r\n'],
    ['another version', 'HTTP/2.0 200 OK\r\n\r\n'],
    ['an empty line first', `\r\n${OK}\r\n`],
    ['lower case', 'http/1.1 200 OK\r\n\r\n'],
    ['another protocol', 'SSH-2.0-OpenSSH_9.2\r\n'],
    ['a size that is none', `${chunked}x\r\nok\r\n0\r\n\r\n`],
    ['a size with a sign', `${chunked}-2\r\nok\r\n0\r\n\r\n`],
    ['a size with a prefix', `${chunked}0x2\r\nok\r\n0\r\n\r\n`],
    ['a size past all numbers', `${chunked}fffffffffffff\r\nok`],
    ['no size', `${chunked}\r\nok\r\n0\r\n\r\n`],
    ['a space before the size', `${chunked} 2\r\nok\r\n0\r\n\r\n`],
    ['a chunk that is longer than its size', `${chunked}1\r\nok\r\n0\r\n\r\n`],
    ['a size that ends without CR', `${chunked}2\nok\r\n0\r\n\r\n`],
    ['a chunk that ends without CR', `${chunked}2\r\nok\n0\r\n\r\n`],
    ['a trailer that is no header', `${chunked}0\r\nX-;T: 1\r\n\r\n`],
    ['a folded trailer', `${chunked}0\r\nX-T: 1\r\n 2\r\n\r\n`],
    ['a bare CR beside the size', `${chunked}2;\rx\r\nok\r\n0\r\n\r\n`],
  ])('%s', (_name, text) => {
    expect(whole(text)).toStartWith('connection_lost: not HTTP: ')
    expect(read([...Buffer.from(text, 'latin1')].map(byte => Buffer.from([byte])))).toStartWith('connection_lost: ')
  })
})

describe('what is held back is bounded', () => {
  test('in a head', () => {
    const filled = (bytes: number) => `${OK}X-A: ${'a'.repeat(bytes - `${OK}X-A: `.length)}`
    expect(whole(`${filled(16 * 1024)}\r\n\r\n`)).toMatchObject({ status: 200 })
    expect(whole(`${filled(16 * 1024 + 1)}\r\n\r\n`)).toStartWith('reply_too_large: ')
    expect(whole(filled(16 * 1024 + 1))).toStartWith('reply_too_large: ')
  })

  test('in a line of a chunk, and in the trailers', () => {
    const chunks = `${OK}Transfer-Encoding: chunked\r\n\r\n`
    expect(whole(`${chunks}2;${'a'.repeat(2000)}`)).toStartWith('connection_lost: ')
    expect(whole(`${chunks}0\r\n${`x: ${'a'.repeat(900)}\r\n`.repeat(20)}`)).toStartWith('reply_too_large: ')
  })

  test('in what is read for nothing: a file of single bytes is cut, one of small chunks is not', () => {
    const chunks = `${OK}Transfer-Encoding: chunked\r\n\r\n`
    expect(whole(chunks + '1\r\nx\r\n'.repeat(3_000))).toMatchObject({ body: 'x'.repeat(3_000) })
    expect(whole(chunks + '1\r\nx\r\n'.repeat(5_000))).toStartWith('reply_too_large: ')
    expect(whole(chunks + '8\r\n12345678\r\n'.repeat(50_000))).toMatchObject({ body: '12345678'.repeat(50_000) })
  })
})

describe('headers', () => {
  test('have names in lower case and values without the space around them', () => {
    const reply = whole(`${OK}X-Ratelimit-Remaining: \t 7 \t\r\n__proto__: x\r\nconstructor: y\r\n\r\n`)
    expect(reply).toMatchObject({ headers: { 'x-ratelimit-remaining': '7', constructor: 'y' } })
    expect(Object.getOwnPropertyNames((reply as Reading).headers)).toContain('__proto__')
  })

  test('may be empty, and keep the space inside and the one that does not break', () => {
    const reply = whole(`${OK}X-A:\t \r\nX-B: \xa0 a \t b \r\nX-C: c\r\n\r\n`)
    expect(reply).toMatchObject({ headers: { 'x-a': '', 'x-b': '\xa0 a \t b', 'x-c': 'c' } })
  })

  test('that are all space inside are soon read, a hundred times', () => {
    const value = `a${' \t'.repeat(8_000)}b`
    for (let i = 0; i < 100; i++)
      expect(whole(`${OK}Connection: ${value}\r\n\r\n`)).toMatchObject({ headers: { connection: value } })
  })

  test('that come twice are joined, or the first one counts', () => {
    expect(whole(`${OK}Via: a\r\nVia: b\r\nLocation: /a\r\nLocation: /b\r\n\r\n`)).toMatchObject({
      headers: { via: 'a, b', location: '/a' },
    })
  })

  test.each([
    ['Connection: close', 0],
    ['Connection: x, Close', 0],
    ['Keep-Alive: timeout=5, max=100', 5000],
    ['Keep-Alive: max=100', null],
    ['X-A: 1', null],
  ])('%s says how long the connection is kept', (line, keepMs) => {
    const head = new HeadReader().push(Buffer.from(`${OK}${line}\r\n\r\n`))
    expect(head?.head.keepMs).toBe(keepMs)
  })

  test('of HTTP/1.0 keep nothing', () => {
    const head = new HeadReader().push(Buffer.from('HTTP/1.0 200 OK\r\nConnection: keep-alive\r\n\r\n'))
    expect(head?.head.keepMs).toBe(0)
  })
})

describe('a request', () => {
  test('is the line, the headers and the very bytes', () => {
    const bytes = requestBytes('POST', '/a?b=c', { host: 'x.example', 'x-a': 'é' }, Buffer.from([0, 255]))
    const head = 'POST /a?b=c HTTP/1.1\r\nhost: x.example\r\nx-a: é\r\n\r\n'
    expect(bytes).toEqual(Buffer.concat([Buffer.from(head, 'latin1'), Buffer.from([0, 255])]))
  })

  test.each([
    ['/a b', {}],
    ['/a\r\nx: y', {}],
    ['/é', {}],
    ['', {}],
    ['/', { 'x a': '1' }],
    ['/', { 'x:': '1' }],
    ['/', { '': '1' }],
    ['/', { x: 'a\r\nhost: y' }],
    ['/', { x: 'a\nb' }],
    ['/', { x: 'a\0' }],
    ['/', { x: '€' }],
  ])('with the path %j and the headers %j cannot be sent', (path, headers) => {
    expect(() => requestBytes('GET', path, headers as Record<string, string>, null)).toThrow('bad_request')
  })
})
