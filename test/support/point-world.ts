/**
 * A server as a process of its own, providers over HTTP, and a receiver, each behind a gate: a run can be stopped at an
 * exact moment, the server killed there, started again, and watched to the end.
 *
 * 1. The providers and the receiver live on when the server dies: what they took, they count.
 * 2. Every world has its own directory, ports and books; worlds do not hear of each other.
 */
import { mkdirSync, writeFileSync } from 'node:fs'
import { connect } from 'node:net'
import { join } from 'node:path'
import { type CrashState, crashState } from './crash-state.ts'
import { Gate } from './gate.ts'
import { BflStandIn } from './providers/bfl.ts'
import { ComfyUiStandIn } from './providers/comfyui.ts'
import { OpenAiStandIn } from './providers/openai.ts'
import { ReplicateStandIn } from './providers/replicate.ts'
import type { Hook, Job, StandIn } from './providers/stand-in.ts'
import { sampleFilm } from './sample-media.ts'
import { API_KEY, Receiver, ServerProcess, until } from './server.ts'
import { type Fault, Strace } from './strace.ts'

/** Who paints the picture; the film is always ComfyUI's. */
export type Painter = 'comfyui' | 'bfl' | 'replicate' | 'openai'

export interface Seen {
  id: string
  status: string
  error: { code: string } | null
  steps: {
    status: string
    attempts: { submitted_at: string | null }[]
    outputs?: { media_id: string; bytes: number; sha256: string }[]
  }[]
}

export interface Answer {
  status: number
  isReplay: boolean
  run: Seen
}

/** Larger than what is held in memory, so that the file is spooled to disk. */
const FILM_BYTES = 1 << 20
/** The name that providers would call; the test carries their calls to the server itself. */
const PUBLIC = 'https://babychain.example'
const RUNS = '/api/v1/chains/chain101/runs'
const ENDED = ['succeeded', 'failed', 'canceled']

class Comfy extends ComfyUiStandIn {
  readonly #film = sampleFilm({ payload: FILM_BYTES })

  protected override bytesOf(job: Pick<Job, 'gives'>): Uint8Array {
    return job.gives === 'video' ? this.#film : super.bytesOf(job)
  }
}

export interface WorldOptions {
  painter?: Painter
  jobMs?: number
  prepare?(dataDir: string): void
}

interface Parts {
  painter: Painter
  standIns: Record<Painter, StandIn>
  receiver: Receiver
  /** In front of the painter, of ComfyUI, and of the receiver. */
  gates: { painter: Gate; comfy: Gate; receiver: Gate }
  server: ServerProcess
  /** Webhooks of providers, held back until somebody delivers them. */
  hooks: Hook[]
}

export class PointWorld {
  readonly receiver: Receiver
  readonly gates: Parts['gates']
  readonly server: ServerProcess
  readonly hooks: Hook[]
  /** What the last crash had left. */
  crash: CrashState | null = null
  /** Jobs that providers had taken by then. */
  jobsAtDeath = 0
  /** When the process died, by `performance.now()`. */
  diedAt = 0
  /** From the restart to readiness (ms). */
  readyMs = 0
  readonly #painter: Painter
  readonly #standIns: Parts['standIns']
  readonly #straces: Strace[] = []

  /** `prepare` hears the data directory before the server starts; `jobMs` is how long a job takes. */
  static async open(
    command: readonly string[],
    { painter = 'comfyui', jobMs = 0, prepare }: WorldOptions = {},
  ): Promise<PointWorld> {
    const hooks: Hook[] = []
    const hold = (hook: Hook): Hook[] => {
      hooks.push(hook)
      return []
    }
    const standIns = {
      comfyui: new Comfy({ latencyMs: jobMs }),
      bfl: new BflStandIn(),
      replicate: new ReplicateStandIn({ hooks: hold }),
      openai: new OpenAiStandIn(),
    }
    await Promise.all(Object.values(standIns).map(each => each.start()))
    const receiver = new Receiver()
    const comfy = await new Gate(standIns.comfyui.url).start()
    const gates = {
      comfy,
      painter: painter === 'comfyui' ? comfy : await new Gate(standIns[painter].url).start(),
      receiver: await new Gate(`http://${receiver.host}`).start(),
    }
    const hosts = [comfy.host, gates.painter.host, gates.receiver.host]
    for (const standIn of Object.values(standIns)) hosts.push(new URL(standIn.url).host, new URL(standIn.filesUrl).host)
    const server = new ServerProcess({
      command,
      env: {
        BABYCHAIN_EGRESS_ALLOW: hosts.join(','),
        COMFYUI_URL: comfy.url,
        ...(painter === 'bfl' ? { BFL_API_KEY: standIns.bfl.key, BFL_BASE_URL: gates.painter.url } : {}),
        ...(painter === 'openai'
          ? { OPENAI_API_KEY: standIns.openai.key, OPENAI_BASE_URL: `${gates.painter.url}/v1` }
          : {}),
        ...(painter === 'replicate'
          ? {
              REPLICATE_API_TOKEN: standIns.replicate.key,
              REPLICATE_BASE_URL: `${gates.painter.url}/v1`,
              BABYCHAIN_PUBLIC_URL: PUBLIC,
            }
          : {}),
      },
    })
    const world = new PointWorld({ painter, standIns, receiver, gates, server, hooks })
    prepare?.(server.dataDir)
    await server.start({ COMFYUI_WORKFLOWS: workflowsIn(server.dir) })
    return world
  }

  private constructor({ painter, standIns, receiver, gates, server, hooks }: Parts) {
    this.#painter = painter
    this.#standIns = standIns
    this.receiver = receiver
    this.gates = gates
    this.server = server
    this.hooks = hooks
  }

  async close(): Promise<void> {
    await this.server.close()
    for (const strace of this.#straces) await strace.detach()
    for (const gate of new Set(Object.values(this.gates))) await gate.stop()
    await Promise.all([this.receiver.stop(), ...Object.values(this.#standIns).map(each => each.stop())])
  }

  get wal(): string {
    return join(this.server.dataDir, 'babychain.db-wal')
  }

  /** Jobs that providers took, and would bill. */
  get jobs(): readonly Job[] {
    return Object.values(this.#standIns).flatMap(each => each.submits())
  }

  /** Sends the one order of this world; null when the connection breaks. */
  async post(): Promise<Answer | null> {
    try {
      const answer = await this.server.post(RUNS, this.#order(), KEY)
      const isReplay = answer.headers.get('idempotent-replayed') === 'true'
      return { status: answer.status, isReplay, run: (await answer.json()) as Seen }
    } catch {
      return null
    }
  }

  /** Sends it as bytes, and kills the server as soon as the kernel has them. */
  async postAndKill(): Promise<void> {
    const body = JSON.stringify(this.#order())
    const head = { ...KEY, authorization: `Bearer ${API_KEY}`, 'content-type': 'application/json' }
    await this.#throwAndKill(RUNS, head, body)
  }

  /** Delivers a provider's webhook in the same way. */
  async hookAndKill({ url, headers, body }: Hook): Promise<void> {
    await this.#throwAndKill(url.replace(PUBLIC, ''), headers, body)
  }

  /** Delivers a provider's webhook; gives the status of the answer. */
  async deliver(hook: Hook): Promise<number> {
    const url = hook.url.replace(PUBLIC, this.server.url)
    const answer = await fetch(url, { method: 'POST', headers: hook.headers, body: hook.body })
    return answer.status
  }

  async kill(): Promise<false> {
    await this.server.kill()
    return false
  }

  /** Arms a fault of the kernel in the running server; it dies with the server. */
  async arm(fault: Fault): Promise<true> {
    this.#straces.push(await Strace.attach(this.server.pid, fault))
    return true
  }

  /** Kills at the next write of the database's log: the transaction under way is not made. */
  armBeforeCommit(): Promise<true> {
    return this.arm({ paths: [this.wal], calls: ['pwrite64'], inject: 'signal=KILL', when: '1' })
  }

  /** Kills when the n-th next transaction is written and nobody has heard of it. */
  armAfterCommit(n = 1): Promise<true> {
    return this.arm({ paths: [this.wal], calls: ['fsync'], inject: 'signal=KILL', when: String(n) })
  }

  /** Waits for the death, reads what is left, starts again. False when the point was never reached. */
  async rise(): Promise<boolean> {
    let wasReached = true
    const late = setTimeout(() => {
      wasReached = false
      void this.server.kill()
    }, DEATH_MS)
    await this.server.gone()
    clearTimeout(late)
    this.diedAt = performance.now()
    this.jobsAtDeath = this.jobs.length
    this.crash = crashState(this.server.dataDir)
    this.readyMs = await this.server.start({ COMFYUI_WORKFLOWS: workflowsIn(this.server.dir) })
    return wasReached
  }

  async runs(): Promise<Seen[]> {
    return (await this.server.json<{ data: Seen[] }>('/api/v1/runs?limit=100')).data
  }

  /** Waits for the end of the one run, and for its callback. */
  async ended(): Promise<Seen> {
    const run = await until('the run has ended', async () => {
      const [first] = await this.runs()
      return first && ENDED.includes(first.status) && first
    })
    await until('the callback has come', async () => this.receiver.callbacks.length > 0)
    return run
  }

  #order(): object {
    return {
      input: {
        chain_models: { text_to_image_model: PICTURES[this.#painter], image_to_video_model: 'comfyui/video' },
        text_to_image_params: { prompt: 'a paper boat' },
        image_to_video_params: { prompt: 'it drifts' },
      },
      webhook_url: `${this.gates.receiver.url}/hook`,
    }
  }

  async #throwAndKill(path: string, headers: Record<string, string>, body: string): Promise<void> {
    const { hostname, port, host } = new URL(this.server.url)
    const all = { host, ...headers, 'content-length': String(Buffer.byteLength(body)) }
    const lines = Object.entries(all).map(([name, value]) => `${name}: ${value}`)
    const socket = connect(Number(port), hostname)
    socket.on('error', () => {}) // the other end is shot
    await new Promise<void>(resolve => socket.once('connect', () => resolve()))
    await new Promise<void>(resolve =>
      socket.write(`POST ${path} HTTP/1.1\r\n${lines.join('\r\n')}\r\n\r\n${body}`, () => resolve()),
    )
    await this.kill()
    socket.destroy()
  }
}

const PICTURES: Readonly<Record<Painter, string>> = {
  comfyui: 'comfyui/image',
  bfl: 'bfl/flux-2-flex',
  replicate: 'bfl/flux-2-flex',
  openai: 'openai/gpt-image-2',
}
const KEY = { 'idempotency-key': 'the-one-order' }
/** A point that was not reached by then is not reached at all. */
const DEATH_MS = 20_000

/** Workflows of a picture and of a film, as a user of ComfyUI exports them. */
function workflowsIn(dir: string): string {
  const folder = join(dir, 'workflows')
  mkdirSync(folder, { recursive: true })
  const words = { class_type: 'CLIPTextEncode', inputs: { text: '{{prompt}}' } }
  const paint = { '6': words, '9': { class_type: 'SaveImage', inputs: { images: ['3', 0] } } }
  const film = {
    '1': { class_type: 'LoadImage', inputs: { image: '{{image}}' } },
    '6': words,
    '9': { class_type: 'SaveVideo', inputs: { video: ['3', 0] } },
  }
  writeFileSync(join(folder, 'image.json'), JSON.stringify(paint))
  writeFileSync(join(folder, 'video.json'), JSON.stringify(film))
  return folder
}
