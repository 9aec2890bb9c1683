/**
 * What every provider stand-in is made of: an HTTP server on loopback that takes jobs, counts them, lets them take
 * time, and does what its script says. The protocols add their own shapes (bfl.ts, fal.ts, …).
 *
 * 1. Nothing is forgotten: whatever becomes of the answer, a job that was taken is counted, as the provider bills it.
 * 2. Outputs lie on a second origin, which refuses (and reports) any credential.
 * 3. Time is the caller's: `now` and `after` can be a test's own clock; nothing sleeps.
 */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import type { Json, JsonObject } from '../../../src/core/json.ts'
import { jsonOf } from '../../../src/providers/protocol.ts'
import { sampleFilm, samplePicture } from '../sample-media.ts'
import { leaksIn, providerKey, saw } from '../secrets.ts'

/** Why a submit is refused, in the project's words; each stand-in says it in its provider's. */
export type Refusal =
  | { because: 'rate_limited'; retryAfterS?: number }
  | { because: 'overloaded' }
  | { because: 'credit' }
  | { because: 'key' }
  | { because: 'model' }
  | { because: 'invalid' }
  | { because: 'input' }
  | { because: 'broken' }

/** How a job ends badly. `input` and `output` are content refusals. */
export type Failure = 'input' | 'output' | 'error' | 'canceled' | 'empty'

/** What becomes of one submit. */
export type Scene =
  | { type: 'work'; ms?: number }
  | { type: 'refuse'; why: Refusal }
  | { type: 'fail'; how: Failure; ms?: number }
  /** Takes the job and closes the connection without an answer. */
  | { type: 'swallow' }
  /** Closes the connection and takes nothing. */
  | { type: 'drop' }
  /** Reads the whole request, takes the job or not, and says nothing until `release`. */
  | { type: 'hang'; takes: boolean }
  /** Takes the job; half of the answer arrives as a whole, so the JSON does not parse. */
  | { type: 'truncate' }
  /** Takes the job; a gateway answers in its place with a page. */
  | { type: 'page'; status: number }
  /** Takes nothing and points elsewhere. */
  | { type: 'redirect'; to: string; status?: number }
  /** Takes nothing and says this, whatever it is. */
  | { type: 'say'; reply: Reply }
  /** Takes the job and knows nothing of it later. */
  | { type: 'vanish' }
  /** The output's link is dead for the first `times` downloads. */
  | { type: 'expire'; times: number }
  /** Never ends. */
  | { type: 'forever' }

export interface Job {
  id: string
  n: number
  scene: Scene
  /** What was submitted. */
  body: JsonObject
  /** The endpoint or model that it was submitted to. */
  model: string
  callbackUrl: string | null
  gives: 'image' | 'video'
  at: number
  canceled: boolean
  opens: number
}

export interface Call {
  method: string
  path: string
  query: URLSearchParams
  headers: Readonly<Record<string, string>>
  bytes: Uint8Array
  json: Json | undefined
}

export interface Reply {
  status: number
  /** Not said before `release`. */
  held?: boolean
  json?: Json
  body?: string | Uint8Array
  headers?: Record<string, string>
}

/** A webhook as the provider would send it. */
export interface Hook {
  url: string
  headers: Record<string, string>
  body: string
}

export interface StandInOptions {
  /** How long a job takes, in milliseconds (0: done at the first question). */
  latencyMs?: number
  now?: () => number
  /** Calls back after a time; a test's own clock may do it. */
  after?: (ms: number, call: () => void) => void
  /** What is really sent in place of a webhook: nothing, twice, forged. By default the webhook once. */
  hooks?: (hook: Hook, n: number) => readonly Hook[]
  /** The key that is taken. */
  key?: string
}

export abstract class StandIn {
  abstract readonly provider: string
  readonly key: string
  readonly now: () => number
  protected readonly latencyMs: number
  readonly jobs = new Map<string, Job>()
  /** Every call that arrived, oldest first. */
  readonly calls: (Call & { status: number })[] = []
  /** Credentials that arrived where none belongs. */
  readonly leaks: string[] = []
  /** Webhooks that were due, oldest first, whatever became of them. */
  readonly hooksDue: Hook[] = []
  readonly #options: StandInOptions
  readonly #api: Server
  readonly #files: Server
  #scenes: Scene[] = []
  #disturbances: Reply[] = []
  #standard: Scene = { type: 'work' }
  #sending = new Set<Promise<unknown>>()
  #held: (() => void)[] = []
  #awaited = Promise.withResolvers<void>()
  /** What a call gets in place of its answer; null: that. Files are called, too. */
  refuses: (call: Call) => Reply | null = () => null
  /** What it paints, whatever is asked for: at least as large as any provider wants it for a film. */
  picture: Uint8Array = new Uint8Array()

  constructor(options: StandInOptions = {}) {
    this.#options = options
    this.key = options.key ?? providerKey('stand-in')
    this.now = options.now ?? Date.now
    this.latencyMs = options.latencyMs ?? 0
    this.#api = createServer((request, response) => void this.#serve(request, response))
    this.#files = createServer((request, response) => void this.#serveFile(request, response))
  }

  /** Starts both servers. */
  async start(): Promise<this> {
    this.picture = await samplePicture('png', 400, 300)
    const listen = (server: Server) => new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
    await Promise.all([listen(this.#api), listen(this.#files)])
    return this
  }

  async stop(): Promise<void> {
    for (const server of [this.#api, this.#files]) {
      server.close()
      server.closeAllConnections()
    }
    await Promise.allSettled(this.#sending)
  }

  /** The origin of the API. */
  get url(): string {
    return originOf(this.#api)
  }

  /** What goes into the provider's base URL variable. */
  get baseUrl(): string {
    return this.url
  }

  /** The origin of the outputs. */
  get filesUrl(): string {
    return originOf(this.#files)
  }

  /** What becomes of the next submits, in order; after them everything works. */
  script(...scenes: readonly Scene[]): void {
    this.#scenes.push(...scenes)
  }

  /** What becomes of every submit that no script speaks of. */
  always(scene: Scene): void {
    this.#standard = scene
  }

  /** What the next calls that are no submits get in place of an answer, in order. */
  disturb(...replies: readonly Reply[]): void {
    this.#disturbances.push(...replies)
  }

  /** Answers all calls itself again. */
  settle(): void {
    this.#disturbances = []
  }

  /** Calls that have arrived whole and have no answer. */
  get held(): number {
    return this.#held.length
  }

  /** Resolves when such a call is there. */
  whenHeld(): Promise<void> {
    return this.#held.length > 0 ? Promise.resolve() : this.#awaited.promise
  }

  /** Answers those calls now, whoever still listens. */
  release(): void {
    this.#awaited = Promise.withResolvers()
    for (const answer of this.#held.splice(0)) answer()
  }

  /** Files that were uploaded. */
  uploads(): readonly Uint8Array[] {
    return []
  }

  /** Jobs that were taken, oldest first: what the provider would bill. */
  submits(): readonly Job[] {
    return [...this.jobs.values()]
  }

  /** Sends a webhook now. */
  async send(hook: Hook): Promise<number> {
    const { url, headers, body } = hook
    const sent = fetch(url, { method: 'POST', headers, body, redirect: 'manual' }).then(
      async response => {
        saw('the answer to a webhook', JSON.stringify([...response.headers]))
        saw('the answer to a webhook', await response.bytes())
        return response.status
      },
      () => 0,
    )
    this.#sending.add(sent)
    void sent.finally(() => this.#sending.delete(sent))
    return sent
  }

  // ── What a protocol says ──

  /** Answers a call; submits go through `take`. */
  protected abstract answer(call: Call): Promise<Reply> | Reply
  /** Whether a call would make a job. */
  protected abstract isSubmit(call: Call): boolean
  /** Answers a call at the files' origin, or leaves it to the outputs. */
  protected async file(_call: Call): Promise<Reply | null> {
    return null
  }

  /** The webhook of a job in its present state, or null where the provider has none. */
  hookOf(_job: Job): Hook | null {
    return null
  }

  // ── What a protocol uses ──

  /** The next scene, before anything is taken. */
  protected scene(): Scene {
    return this.#scenes.shift() ?? this.#standard
  }

  /** Takes a job, and lets its scene have the answer. */
  protected take(
    order: Pick<Job, 'body' | 'model' | 'callbackUrl' | 'gives'> & { id: string; scene: Scene },
    accepted: (job: Job) => Reply,
  ): Reply {
    const job: Job = { ...order, n: this.jobs.size, at: this.now(), canceled: false, opens: 0 }
    this.jobs.set(job.id, job)
    if (job.callbackUrl !== null) this.#schedule(job)
    return spoil(job.scene, accepted(job))
  }

  protected phase(job: Job): 'queued' | 'running' | 'ended' {
    if (job.canceled) return 'ended'
    const { scene } = job
    if (scene.type === 'forever') return 'running'
    const ms = ('ms' in scene ? scene.ms : undefined) ?? this.latencyMs
    const elapsed = this.now() - job.at
    return elapsed >= ms ? 'ended' : elapsed * 3 >= ms ? 'running' : 'queued'
  }

  /** The job, unless it has vanished. */
  protected jobAt(id: string | undefined): Job | undefined {
    const job = id === undefined ? undefined : this.jobs.get(id)
    return job?.scene.type === 'vanish' ? undefined : job
  }

  /** How a job ended. */
  protected endOf(job: Job): 'good' | Failure {
    if (job.canceled) return 'canceled'
    return job.scene.type === 'fail' ? job.scene.how : 'good'
  }

  /** The link of a job's output, on the other origin. */
  protected linkOf(job: Job): string {
    return `${this.filesUrl}/${job.id}.${job.gives === 'video' ? 'mp4' : 'png'}?signature=${'s'.repeat(12)}`
  }

  /** The output itself. */
  protected bytesOf(job: Pick<Job, 'gives'>): Uint8Array {
    return job.gives === 'video' ? sampleFilm() : this.picture
  }

  /** As every server says it: by its own clock, in whole seconds. */
  #date(): string {
    return new Date(this.now()).toUTCString()
  }

  #schedule(job: Job): void {
    const { scene } = job
    if (scene.type === 'forever' || scene.type === 'vanish') return
    const ms = ('ms' in scene ? scene.ms : undefined) ?? this.latencyMs
    const after = this.#options.after ?? ((wait, call) => void setTimeout(call, wait))
    after(ms, () => {
      // Its job may end after the test has.
      if (!this.#files.listening) return
      const hook = this.hookOf(job)
      if (!hook || job.canceled) return
      this.hooksDue.push(hook)
      const sent = this.#options.hooks ? this.#options.hooks(hook, this.hooksDue.length - 1) : [hook]
      for (const each of sent) void this.send(each)
    })
  }

  async #serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const call = await callOf(request, this.url)
    // The key stands in one header and nowhere else; another provider's stands nowhere at all.
    saw(`a call to ${this.provider}`, `${request.url} ${JSON.stringify(call.headers).replaceAll(this.key, '')}`)
    saw(`the body of a call to ${this.provider}`, call.bytes)
    const said = this.isSubmit(call) ? undefined : (this.refuses(call) ?? this.#disturbances.shift())
    const reply = said ?? (await this.answer(call))
    this.calls.push({ ...call, status: reply.held ? 0 : reply.status })
    const say = () => write({ ...reply, headers: { date: this.#date(), ...reply.headers } }, request, response)
    if (!reply.held) return say()
    this.#held.push(say)
    this.#awaited.resolve()
  }

  async #serveFile(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const call = await callOf(request, this.filesUrl)
    for (const name of ['authorization', 'x-key', 'x-goog-api-key']) if (call.headers[name]) this.leaks.push(name)
    const whole = `${request.url} ${JSON.stringify(call.headers)}`
    this.leaks.push(...leaksIn(whole), ...leaksIn(call.bytes))
    saw(`the files' origin of ${this.provider}`, whole)
    saw(`the files' origin of ${this.provider}`, call.bytes)
    write(this.refuses(call) ?? (await this.file(call)) ?? this.#output(call.path), request, response)
  }

  #output(path: string): Reply {
    const job = this.jobs.get(path.slice(1).replace(/\.\w+$/, ''))
    if (!job) return { status: 404 }
    job.opens++
    if (job.scene.type === 'expire' && job.opens <= job.scene.times) return { status: 403 }
    const type = job.gives === 'video' ? 'video/mp4' : 'image/png'
    return { status: 200, body: this.bytesOf(job), headers: { 'content-type': type } }
  }
}

/** The scenes that come before anything is taken; null when the submit is taken. */
export function early(scene: Scene, refuse: (why: Refusal) => Reply): Reply | null {
  switch (scene.type) {
    case 'refuse':
      return refuse(scene.why)
    case 'drop':
      return CUT
    case 'say':
      return scene.reply
    case 'hang':
      return scene.takes ? null : { ...CUT, held: true }
    case 'redirect':
      return { status: scene.status ?? 307, headers: { location: scene.to } }
    default:
      return null
  }
}

/** Status 0: the connection is closed in place of an answer. */
export const CUT: Reply = { status: 0 }

function spoil(scene: Scene, reply: Reply): Reply {
  switch (scene.type) {
    case 'swallow':
      return CUT
    case 'hang':
      return { ...reply, held: true }
    case 'truncate': {
      const whole = JSON.stringify(reply.json)
      return {
        status: reply.status,
        body: whole.slice(0, whole.length / 2),
        headers: { 'content-type': 'application/json' },
      }
    }
    case 'page':
      return { status: scene.status, body: `<html><title>${scene.status}</title><body>Bad gateway</body></html>` }
    default:
      return reply
  }
}

async function callOf(request: IncomingMessage, origin: string): Promise<Call> {
  const bytes = await bodyOf(request)
  const url = new URL(request.url ?? '/', origin)
  return {
    method: request.method ?? 'GET',
    path: url.pathname,
    query: url.searchParams,
    headers: headersOf(request),
    bytes,
    json: bytes.length > 0 ? jsonOf(bytes) : undefined,
  }
}

function write(reply: Reply, request: IncomingMessage, response: ServerResponse): void {
  if (reply.status === 0) {
    request.socket.destroy()
    return
  }
  const body = reply.json === undefined ? (reply.body ?? '') : JSON.stringify(reply.json)
  const type = reply.json === undefined ? 'text/html' : 'application/json'
  response.writeHead(reply.status, { 'content-type': type, ...reply.headers })
  response.end(body)
}

const originOf = (server: Server): string => `http://127.0.0.1:${(server.address() as AddressInfo).port}`

async function bodyOf(request: IncomingMessage): Promise<Uint8Array> {
  const chunks: Uint8Array[] = []
  for await (const chunk of request) chunks.push(chunk as Uint8Array)
  return Buffer.concat(chunks)
}

function headersOf(request: IncomingMessage): Record<string, string> {
  const headers: Record<string, string> = {}
  for (const [name, value] of Object.entries(request.headers)) {
    if (value !== undefined) headers[name] = Array.isArray(value) ? value.join(', ') : value
  }
  return headers
}

/** The form of a multipart body, or null when it is none. */
export async function formOf(call: Call): Promise<FormData | null> {
  const type = call.headers['content-type'] ?? ''
  if (!type.startsWith('multipart/form-data')) return null
  const body = new Response(new Uint8Array(call.bytes), { headers: { 'content-type': type } })
  return (await body.formData().catch(() => null)) as FormData | null
}
