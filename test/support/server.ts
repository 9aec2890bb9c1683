/**
 * The real server as a process of its own, and a receiver of callbacks, for tests that kill and restart.
 * Its provider keys are recognisable, and its log and its folder are searched for them at its end (secrets.ts).
 */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { verify } from '../../src/net/signature.ts'
import { begun, onlyRecognisable, saw, sawFolder, searched } from './secrets.ts'

export const API_KEY = 'bck_test_key_of_the_end_to_end_tests'
const SECRET_BYTES = Buffer.alloc(32, 7)
export const CALLBACK_SECRET = `whsec_${SECRET_BYTES.toString('base64')}`

export interface ServerOptions {
  /** What to run, the command `serve` not included; by default the sources. */
  command?: readonly string[]
  env?: Readonly<Record<string, string>>
}

export class ServerProcess {
  readonly dir = mkdtempSync(join(tmpdir(), 'babychain-server-'))
  readonly #options: ServerOptions
  #child: Bun.Subprocess<'ignore', 'pipe', 'inherit'> | null = null
  url = ''
  log = ''

  constructor(options: ServerOptions = {}) {
    this.#options = options
  }

  get dataDir(): string {
    return join(this.dir, 'data')
  }

  get pid(): number {
    if (!this.#child) throw new Error('the server has not been started')
    return this.#child.pid
  }

  /** Resolves with the exit code when the process is gone, by whatever hand. */
  async gone(): Promise<number | undefined> {
    return this.#child?.exited
  }

  /** Starts and waits for the line that says `ready`; gives how long that took (ms). */
  async start(env: Readonly<Record<string, string>> = {}): Promise<number> {
    onlyRecognisable({ ...this.#options.env, ...env })
    begun(this)
    const began = performance.now()
    const command = this.#options.command ?? ['bun', join(import.meta.dir, '../../src/main.ts')]
    const child = Bun.spawn([...command, 'serve'], {
      cwd: this.dir,
      stdin: 'ignore',
      stdout: 'pipe',
      stderr: 'inherit',
      env: {
        PATH: process.env.PATH ?? '',
        HOME: this.dir,
        PORT: '0',
        BABYCHAIN_DATA_DIR: this.dataDir,
        BABYCHAIN_API_KEY: API_KEY,
        BABYCHAIN_CALLBACK_SECRET: CALLBACK_SECRET,
        BABYCHAIN_SANDBOX_LATENCY_MS: '0',
        ...this.#options.env,
        ...env,
      },
    })
    this.#child = child
    const ready = Promise.withResolvers<string>()
    void this.#read(child, ready)
    this.url = await ready.promise
    return performance.now() - began
  }

  /** Dies as a machine does: at once, without a word. */
  async kill(): Promise<void> {
    this.#child?.kill('SIGKILL')
    await this.#child?.exited
  }

  /** Asks it to stop; gives its exit code. */
  async terminate(signal: 'SIGTERM' | 'SIGINT' = 'SIGTERM'): Promise<number> {
    this.#child?.kill(signal)
    return (await this.#child?.exited) ?? -1
  }

  async close(): Promise<void> {
    await this.kill()
    const own = [API_KEY, CALLBACK_SECRET]
    saw('the log of a server process', this.log, own)
    sawFolder('the folder of a server process:', this.dir, own)
    searched(this)
    rmSync(this.dir, { recursive: true, force: true })
  }

  request(path: string, init: RequestInit = {}): Promise<Response> {
    return fetch(this.url + path, { ...init, headers: { authorization: `Bearer ${API_KEY}`, ...init.headers } })
  }

  post(path: string, body: unknown, headers: Record<string, string> = {}): Promise<Response> {
    return this.request(path, {
      method: 'POST',
      headers: { 'content-type': 'application/json', ...headers },
      body: JSON.stringify(body),
    })
  }

  async json<T>(path: string): Promise<T> {
    return (await this.request(path)).json() as Promise<T>
  }

  async #read(child: Bun.Subprocess<'ignore', 'pipe', 'inherit'>, ready: PromiseWithResolvers<string>): Promise<void> {
    let seen = ''
    for await (const chunk of child.stdout.pipeThrough(new TextDecoderStream())) {
      this.log += chunk
      seen += chunk
      const line = seen
        .split('\n')
        .find(each => each.startsWith('{') && each.includes('"msg":"ready"') && each.endsWith('}'))
      if (line) ready.resolve((JSON.parse(line) as { url: string }).url)
    }
    ready.reject(new Error(`the server ended before it was ready:\n${seen}`))
  }
}

export interface Callback {
  id: string
  type: string
  runId: string
  body: string
  /** When it came, by `performance.now()`. */
  at: number
}

/** A receiver on loopback that verifies and keeps every callback. */
export class Receiver {
  readonly callbacks: Callback[] = []
  unverified = 0
  readonly #server = Bun.serve({ port: 0, hostname: '127.0.0.1', fetch: request => this.#take(request) })

  get host(): string {
    return `127.0.0.1:${this.#server.port}`
  }

  get url(): string {
    return `http://${this.host}/hook`
  }

  async stop(): Promise<void> {
    await this.#server.stop(true)
  }

  async #take(request: Request): Promise<Response> {
    const body = await request.bytes()
    saw('a callback', JSON.stringify([...request.headers]))
    saw('a callback', body)
    const [id, timestamp, signature] = ['webhook-id', 'webhook-timestamp', 'webhook-signature'].map(name =>
      request.headers.get(name),
    )
    const judged = verify({
      id: id ?? null,
      timestamp: timestamp ?? null,
      signature: signature ?? null,
      body,
      secrets: [SECRET_BYTES],
      nowS: Math.floor(Date.now() / 1_000),
    })
    if (!judged.ok) {
      this.unverified += 1
      return new Response('bad signature', { status: 401 })
    }
    const text = new TextDecoder().decode(body)
    const { type, data } = JSON.parse(text) as { type: string; data: { id: string } }
    this.callbacks.push({ id: id ?? '', type, runId: data.id, body: text, at: performance.now() })
    return new Response('ok')
  }
}

/** Asks again until the answer satisfies, or fails after `limitMs` of real time. */
export async function until<T>(
  what: string,
  ask: () => Promise<T | null | undefined | false>,
  limitMs = 30_000,
): Promise<T> {
  const end = performance.now() + limitMs
  for (;;) {
    const answer = await ask()
    if (answer) return answer
    if (performance.now() > end) throw new Error(`gave up waiting until ${what}`)
    await Bun.sleep(25)
  }
}
