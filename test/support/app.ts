/**
 * The whole application inside the test's own process, with a configuration read from an environment as always.
 *
 * 1. Its provider keys are recognisable, and everything that it says, keeps and sends is searched for them (secrets.ts):
 *    log lines and answers as they come, its folder when it stops.
 */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import pino from 'pino'
import { type App, createApp } from '../../src/app.ts'
import { readConfig } from '../../src/config.ts'
import type { Clock } from '../../src/core/ports.ts'
import type { StandIn } from './providers/stand-in.ts'
import { begun, onlyRecognisable, saw, sawFolder, sawResponse, searched } from './secrets.ts'
import { API_KEY, CALLBACK_SECRET } from './server.ts'

/** What nobody but the caller and the receiver may see, beside the provider keys. */
const OWN = [API_KEY, CALLBACK_SECRET]

export class RunningApp {
  readonly dir: string
  /** Everything that was logged, as it stands in the log. */
  log = ''
  url = ''
  #app: App | null = null
  readonly #env: Record<string, string>
  readonly #clock: Clock | undefined

  constructor(env: Record<string, string>, clock?: Clock) {
    onlyRecognisable(env)
    this.dir = mkdtempSync(join(tmpdir(), 'babychain-app-'))
    this.#env = env
    this.#clock = clock
  }

  async start(): Promise<this> {
    begun(this)
    const read = readConfig({
      PORT: '0',
      BABYCHAIN_DATA_DIR: join(this.dir, 'data'),
      BABYCHAIN_API_KEY: API_KEY,
      BABYCHAIN_CALLBACK_SECRET: CALLBACK_SECRET,
      ...this.#env,
    })
    if (!read.ok) throw new Error(read.problems.join('\n'))
    const write = (line: string): void => {
      saw('the log', line, OWN)
      this.log += line
    }
    const log = pino({ level: 'trace' }, { write })
    this.#app = await createApp(read.config, { log, ...(this.#clock ? { clock: this.#clock } : {}) })
    this.url = (await this.#app.start()).url
    return this
  }

  async stop(graceMs = 2_000, callersMs?: number): Promise<void> {
    // Before as well: closing the database folds its log into it.
    sawFolder('the folder of the running application:', this.dir, OWN)
    await this.#app?.stop(graceMs, callersMs)
    this.#app = null
    sawFolder('the folder of the stopped application:', this.dir, OWN)
  }

  async close(): Promise<void> {
    await this.stop()
    rmSync(this.dir, { recursive: true, force: true })
    searched(this)
  }

  async request(path: string, init: RequestInit = {}): Promise<Response> {
    const headers = { authorization: `Bearer ${API_KEY}`, ...init.headers }
    return sawResponse(`the answer to ${path}`, await fetch(this.url + path, { ...init, headers }), OWN)
  }

  async post<T>(path: string, body: unknown, headers: Record<string, string> = {}): Promise<T> {
    const answer = await this.request(path, {
      method: 'POST',
      headers: { 'content-type': 'application/json', ...headers },
      body: JSON.stringify(body),
    })
    return answer.json() as Promise<T>
  }

  async json<T>(path: string): Promise<T> {
    return (await this.request(path)).json() as Promise<T>
  }
}

/** The variables with which an application finds stand-ins in place of the providers. */
export function pointedAt(
  standIns: Record<string, { key: string; base: string; standIn: StandIn }>,
): Record<string, string> {
  const env: Record<string, string> = {}
  const hosts: string[] = []
  for (const { key, base, standIn } of Object.values(standIns)) {
    env[key] = standIn.key
    env[base] = standIn.baseUrl
    hosts.push(new URL(standIn.url).host, new URL(standIn.filesUrl).host)
  }
  return { ...env, BABYCHAIN_EGRESS_ALLOW: hosts.join(',') }
}
