// HTTP/1.1 as bytes: a request written, a reply read. Pure: no socket, no clock.
//
// Invariants
// 1. A reply has one meaning or none. What two readers could frame differently (two lengths, a length beside chunks, a
//    coding we do not know, a line that is folded or ends without CR) is refused, never interpreted: the bytes after a
//    body that was cut wrongly would pass for the next answer of the connection.
// 2. What is held back is bounded: a head by 16 KiB, a line of a chunked body by 1 KiB. A body is handed on as it comes.
//    So is what is read for nothing: of chunks and trailers at most 16 KiB more than of the body itself.
// 3. How the bytes are cut into pieces changes nothing.
// 4. Nothing that we are given to send can end a line early.
//
// Source: RFC 9112.

import { EgressError } from './failure.ts'

export type Head = {
  readonly status: number
  /** Names in lower case, values as latin1. Of a name that came twice the values are joined, or the first one counts. */
  readonly headers: Readonly<Record<string, string>>
  /** How the body ends: after so many bytes (0 for none), with the last chunk, or with the connection. */
  readonly body: number | 'chunked' | 'until close'
  /** For how long the server would keep the connection: 0 if not at all, null if it does not say. */
  readonly keepMs: number | null
}

const MAX_HEAD_BYTES = 16 * 1024
const MAX_LINE_BYTES = 1024
const TOKEN = /^[!#$%&'*+.^_`|~0-9A-Za-z-]+$/

/** Throws `bad_request` for a header or a path that cannot be sent. */
export function requestBytes(
  method: string,
  path: string,
  headers: Readonly<Record<string, string>>,
  body: Uint8Array | null,
): Buffer {
  if (!/^[\x21-\x7e]+$/.test(path)) throw new EgressError('bad_request', 'a path with characters that end it')
  let head = `${method} ${path} HTTP/1.1\r\n`
  for (const [name, value] of Object.entries(headers)) {
    if (!TOKEN.test(name)) throw new EgressError('bad_request', `a header cannot be named ${JSON.stringify(name)}`)
    if (!/^[\t\x20-\x7e\x80-\xff]*$/.test(value)) {
      throw new EgressError('bad_request', `the value of ${name} has characters that end it`)
    }
    head += `${name}: ${value}\r\n`
  }
  const begin = Buffer.from(`${head}\r\n`, 'latin1')
  return body === null ? begin : Buffer.concat([begin, body])
}

/** Collects the bytes of a head. */
export class HeadReader {
  #held: Buffer | null = null

  /** The head and the bytes that came after it, or null until it is whole. Throws `EgressError`. */
  push(bytes: Buffer): { head: Head; rest: Buffer } | null {
    const all = this.#held === null ? bytes : Buffer.concat([this.#held, bytes])
    const end = all.indexOf('\r\n\r\n')
    if (end > MAX_HEAD_BYTES || (end === -1 && all.byteLength > MAX_HEAD_BYTES)) {
      throw new EgressError('reply_too_large', 'more than 16 KiB of headers')
    }
    if (end === -1) {
      // Who speaks another protocol may wait for us to speak on.
      if (!couldBegin(all)) throw notHttp('another protocol')
      this.#held = all
      return null
    }
    this.#held = null
    return { head: headOf(all.toString('latin1', 0, end)), rest: all.subarray(end + 4) }
  }
}

const BEGIN = 'HTTP/1.'

function couldBegin(bytes: Buffer): boolean {
  const begin = bytes.toString('latin1', 0, BEGIN.length)
  return BEGIN.startsWith(begin)
}

function headOf(text: string): Head {
  const [first = '', ...lines] = text.split('\r\n')
  const parsed = /^HTTP\/1\.([01]) ([1-5]\d\d)(?: [^\0\r\n]*)?$/.exec(first)
  if (parsed === null) throw notHttp('no status line')
  const status = Number(parsed[2])
  const headers: Record<string, string> = Object.create(null)
  for (const line of lines) addHeader(headers, line)
  return { status, headers, body: bodyOf(status, headers), keepMs: keepMsOf(parsed[1] === '1', headers) }
}

/** One of these is enough; a second one is somebody else's. */
const FIRST_COUNTS: ReadonlySet<string> = new Set(['content-type', 'location', 'retry-after', 'etag', 'last-modified'])

function addHeader(headers: Record<string, string>, line: string): void {
  const [name, value] = fieldOf(line)
  const before = headers[name]
  if (before === undefined) headers[name] = value
  else if (name === 'content-length') throw notHttp('two lengths')
  else if (!FIRST_COUNTS.has(name)) headers[name] = `${before}, ${value}`
}

function fieldOf(line: string): [name: string, value: string] {
  const colon = line.indexOf(':')
  const name = line.slice(0, Math.max(colon, 0)).toLowerCase()
  // From the first to the last that is no blank: a search for those at the end tries each blank of a long run inside.
  const value = /[^\t ](?:.*[^\t ])?/s.exec(line.slice(colon + 1))?.[0] ?? ''
  // A folded line begins with a space and so has no name.
  if (!TOKEN.test(name) || /[\0\r\n]/.test(value)) throw notHttp('a header that is none')
  return [name, value]
}

function bodyOf(status: number, headers: Readonly<Record<string, string>>): Head['body'] {
  const coding = headers['transfer-encoding']
  const length = headers['content-length']
  if (coding !== undefined) {
    if (length !== undefined) throw notHttp('a length beside chunks')
    if (coding.toLowerCase() !== 'chunked') throw notHttp('a coding other than chunked')
  }
  if (length !== undefined && !/^\d{1,15}$/.test(length)) throw notHttp('a length that is no number')
  if (status < 200 || status === 204 || status === 304) return 0
  if (coding !== undefined) return 'chunked'
  return length === undefined ? 'until close' : Number(length)
}

function keepMsOf(isHttp11: boolean, headers: Readonly<Record<string, string>>): number | null {
  const connection = headers.connection?.split(',').map(option => option.trim().toLowerCase()) ?? []
  if (!isHttp11 || connection.includes('close')) return 0
  const seconds = /(?:^|[\t ,;])timeout=(\d{1,9})/i.exec(headers['keep-alive'] ?? '')?.[1]
  return seconds === undefined ? null : Number(seconds) * 1000
}

/** Takes a body out of the bytes of its connection. */
export class BodyReader {
  /** Of the body if it has a length, else of the present chunk. */
  #left: number
  /** Where in a chunked body we are. */
  #at: 'size' | 'data' | 'after data' | 'trailer' = 'size'
  #line = ''
  /** Bytes of sizes, line ends and trailers, less those of the body. */
  #overhead = 0
  readonly #body: Head['body']
  /** True once the last byte was read. */
  isWhole: boolean

  constructor(body: Head['body']) {
    this.#body = body
    this.#left = typeof body === 'number' ? body : 0
    this.isWhole = body === 0
  }

  /** The other side has closed the connection as it should: the end of a body that has no other. */
  endConnection(): void {
    if (this.#body === 'until close') this.isWhole = true
  }

  /** The parts of the body among these bytes, and how many bytes come after its end. Throws `EgressError`. */
  push(bytes: Buffer, onPart: (part: Buffer) => void): number {
    if (this.#body === 'until close') {
      if (bytes.byteLength > 0) onPart(bytes)
      return 0
    }
    let at = 0
    while (at < bytes.byteLength && !this.isWhole) {
      const isData = this.#body !== 'chunked' || this.#at === 'data'
      at += isData ? this.#takeData(bytes, at, onPart) : this.#takeLine(bytes, at)
    }
    return bytes.byteLength - at
  }

  #takeData(bytes: Buffer, at: number, onPart: (part: Buffer) => void): number {
    const part = bytes.subarray(at, at + this.#left)
    onPart(part)
    this.#left -= part.byteLength
    this.#overhead -= part.byteLength
    if (this.#left === 0) {
      if (this.#body === 'chunked') this.#at = 'after data'
      else this.isWhole = true
    }
    return part.byteLength
  }

  #takeLine(bytes: Buffer, at: number): number {
    const end = bytes.indexOf(10, at)
    const until = end === -1 ? bytes.byteLength : end + 1
    if (this.#line.length + until - at > MAX_LINE_BYTES) throw notHttp('a chunk with a line over 1 KiB')
    this.#line += bytes.toString('latin1', at, until)
    this.#overhead += until - at
    if (this.#overhead > MAX_HEAD_BYTES) throw new EgressError('reply_too_large', 'more chunks than body')
    if (end !== -1) {
      const line = this.#line
      this.#line = ''
      if (!line.endsWith('\r\n')) throw notHttp('a chunk with a line without its end')
      this.#readLine(line.slice(0, -2))
    }
    return until - at
  }

  #readLine(line: string): void {
    if (this.#at === 'after data') {
      if (line !== '') throw notHttp('a chunk longer than its size')
      this.#at = 'size'
    } else if (this.#at === 'size') {
      const size = /^([0-9a-f]{1,12})[\t ]*(?:;[^\0\r]*)?$/i.exec(line)?.[1]
      if (size === undefined) throw notHttp('a chunk without a size')
      this.#left = Number.parseInt(size, 16)
      this.#at = this.#left === 0 ? 'trailer' : 'data'
    } else if (line === '') {
      this.isWhole = true
    } else {
      fieldOf(line)
    }
  }
}

function notHttp(what: string): EgressError {
  return new EgressError('connection_lost', `not HTTP: ${what}`)
}
