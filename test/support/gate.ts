/**
 * A gate between the server and another one: every call passes, until a trap is set; then the world stops at exactly
 * that moment of that call, the trap does its work, and what the trap left is let through.
 *
 * 1. A trap springs once, at the first call that fits.
 * 2. At `arrived` the other side has heard nothing; at `taken` it has acted and its answer is held; at `half` half of the
 *    answer's body has left; at `answered` all of it has.
 * 3. While the trap works nothing of this call moves. Then it says whether the call goes on, or is cut off there and then.
 */
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'

export type Moment = 'arrived' | 'taken' | 'half' | 'answered'

export interface Trap {
  /** Method and path: `/^GET \/view/`. */
  call: RegExp
  moment: Moment
  /** True when the call is to go on. */
  spring(): Promise<boolean>
  /** Answered in place of the other side, which hears nothing. */
  status?: number
}

export class Gate {
  readonly #server = createServer((request, response) => void this.#pass(request, response))
  readonly #target: string
  #trap: { order: Trap; sprung: () => void } | null = null

  /** `target`: the origin of the other side. */
  constructor(target: string) {
    this.#target = target
  }

  async start(): Promise<this> {
    await new Promise<void>(resolve => this.#server.listen(0, '127.0.0.1', resolve))
    return this
  }

  async stop(): Promise<void> {
    this.#server.close()
    this.#server.closeAllConnections()
  }

  get host(): string {
    return `127.0.0.1:${(this.#server.address() as AddressInfo).port}`
  }

  get url(): string {
    return `http://${this.host}`
  }

  /** Sets a trap; resolves when it has sprung and done its work. */
  trap(order: Trap): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>()
    this.#trap = { order, sprung: resolve }
    return promise
  }

  async #pass(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const name = `${request.method} ${request.url}`
    const set = this.#trap?.order.call.test(name) ? this.#trap : null
    if (set) this.#trap = null
    response.on('error', () => {}) // the process behind it is dead, as was intended
    const mayGoOn = async (moment: Moment): Promise<boolean> => {
      if (set?.order.moment !== moment) return true
      const goOn = await set.order.spring()
      if (!goOn) request.socket.destroy()
      set.sprung()
      return goOn
    }
    const body = await bytesOf(request)
    if (!(await mayGoOn('arrived'))) return
    const { status, type, bytes } = set?.order.status
      ? { status: set.order.status, type: 'text/plain', bytes: Buffer.from('no') }
      : await this.#ask(request, body)
    if (!(await mayGoOn('taken'))) return
    response.writeHead(status, { 'content-type': type, 'content-length': String(bytes.length) })
    const middle = set?.order.moment === 'half' ? bytes.length >> 1 : 0
    if (middle > 0) await sent(response, done => response.write(bytes.subarray(0, middle), done))
    if (!(await mayGoOn('half'))) return
    await sent(response, done => response.end(bytes.subarray(middle), done))
    await mayGoOn('answered')
  }

  async #ask(request: IncomingMessage, body: Buffer): Promise<{ status: number; type: string; bytes: Buffer }> {
    const answer = await fetch(this.#target + request.url, {
      method: request.method ?? 'GET',
      headers: headersOf(request),
      ...(body.length > 0 ? { body: new Uint8Array(body) } : {}),
      redirect: 'manual',
    })
    const type = answer.headers.get('content-type') ?? 'application/octet-stream'
    return { status: answer.status, type, bytes: Buffer.from(await answer.arrayBuffer()) }
  }
}

/** Waits until the bytes are with the kernel, or nobody is there to take them. */
function sent(response: ServerResponse, write: (done: () => void) => unknown): Promise<void> {
  return new Promise(resolve => {
    response.once('close', () => resolve())
    write(() => resolve())
  })
}

async function bytesOf(request: IncomingMessage): Promise<Buffer> {
  const chunks: Uint8Array[] = []
  try {
    for await (const chunk of request) chunks.push(chunk as Uint8Array)
  } catch {
    // It died while it was speaking.
  }
  return Buffer.concat(chunks)
}

const HOP_BY_HOP = new Set(['host', 'connection', 'content-length', 'transfer-encoding', 'keep-alive'])

function headersOf(request: IncomingMessage): Record<string, string> {
  const pairs = Object.entries(request.headers).filter(([name]) => !HOP_BY_HOP.has(name))
  return Object.fromEntries(pairs.map(([name, value]) => [name, String(value)]))
}
