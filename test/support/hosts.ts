/**
 * The whole application before stand-ins of five providers, over real HTTP, on a clock that a test moves on.
 *
 * 1. Time jumps only over a wait that the API itself tells, and over an answer that does not come: nothing that is on its
 *    way is cut short.
 */
import type { Clock } from '../../src/core/ports.ts'
import { pointedAt, RunningApp } from './app.ts'
import { JumpClock } from './jump-clock.ts'
import { openTrap, type Trap } from './providers/bench.ts'
import { BflStandIn } from './providers/bfl.ts'
import { BytePlusStandIn } from './providers/byteplus.ts'
import { FalStandIn } from './providers/fal.ts'
import { GoogleStandIn } from './providers/google.ts'
import { ReplicateStandIn } from './providers/replicate.ts'
import type { Hook, StandIn, StandInOptions } from './providers/stand-in.ts'
import { until } from './server.ts'

export interface SeenAttempt {
  provider: string
  outcome: string
  error: { code: string } | null
  cost: { estimated_usd: number | null; actual_usd: number | null; basis: string }
}

export interface SeenStep {
  step_key: string
  status: string
  phase: string | null
  retry_at: string | null
  error: { code: string; message: string; blame: string; retryable: boolean; hint: string } | null
  started_at: string
  completed_at: string | null
  provider_used: string | null
  generation_output_file: string[]
  generation_input_file?: string[]
  attempts: SeenAttempt[]
}

export interface SeenRun {
  id: string
  status: string
  error: { code: string } | null
  steps: SeenStep[]
}

/** Where providers would reach the application. */
const PUBLIC = 'https://babychain.example'
/** How long a step with FLUX.2 may take: the longest wait here. A jump ends there, so that what is due then is seen then. */
const DEADLINE_MS = 15 * 60_000
/** Longer than the adapters of these four wait for the answer to a submit of a job. */
const SUBMIT_MS = 60_000
/** A poll takes 20 s at most; this many at a time never ends one that is on its way. */
const POLL_JUMP_MS = 1_000

const VARIABLES = {
  bfl: { key: 'BFL_API_KEY', base: 'BFL_BASE_URL' },
  byteplus: { key: 'ARK_API_KEY', base: 'ARK_BASE_URL' },
  fal: { key: 'FAL_KEY', base: 'FAL_BASE_URL' },
  replicate: { key: 'REPLICATE_API_TOKEN', base: 'REPLICATE_BASE_URL' },
  google: { key: 'GEMINI_API_KEY', base: 'GEMINI_BASE_URL' },
} as const
export type HostId = keyof typeof VARIABLES

export interface HostsOptions {
  /** Those that the application has a key for; by default all that read links to pictures themselves. */
  keys?: readonly HostId[]
  /** Webhooks: they come, or the application only gives its address and they are lost. Without: it is not reachable. */
  webhooks?: 'come' | 'are lost'
  env?: Record<string, string>
}

export class Hosts {
  readonly clock = new JumpClock()
  readonly bfl = new BflStandIn(this.#options())
  readonly byteplus = new BytePlusStandIn(this.#options())
  readonly fal = new FalStandIn(this.#options())
  readonly replicate = new ReplicateStandIn(this.#options())
  readonly google = new GoogleStandIn(this.#options())
  readonly all: readonly StandIn[] = [this.bfl, this.byteplus, this.fal, this.replicate, this.google]
  /** Another host, to which nothing should ever come. */
  declare trap: Trap
  declare app: RunningApp
  /** Why steps were seen to wait: the codes of the errors that they named meanwhile. */
  readonly waits = new Set<string>()
  readonly #webhooks: HostsOptions['webhooks']

  private constructor(webhooks: HostsOptions['webhooks']) {
    this.#webhooks = webhooks
  }

  static async open({ keys, webhooks, env = {} }: HostsOptions = {}): Promise<Hosts> {
    const hosts = new Hosts(webhooks)
    await Promise.all(hosts.all.map(standIn => standIn.start()))
    hosts.trap = await openTrap()
    const ids: readonly HostId[] = keys ?? ['bfl', 'byteplus', 'fal', 'replicate']
    const pointed = Object.fromEntries(ids.map(id => [id, { ...VARIABLES[id], standIn: hosts[id] }]))
    const reachable: Record<string, string> = webhooks ? { BABYCHAIN_PUBLIC_URL: PUBLIC } : {}
    const clock: Clock = hosts.clock
    hosts.app = await new RunningApp({ ...pointedAt(pointed), ...reachable, ...env }, clock).start()
    return hosts
  }

  async close(): Promise<void> {
    await this.app.close()
    await Promise.all(this.all.map(standIn => standIn.stop()))
    this.trap.stop()
  }

  async create(body: unknown, slug = 'chain1'): Promise<string> {
    const answer = await this.app.post<{ id?: string }>(`/api/v1/chains/${slug}/runs`, body)
    if (answer.id === undefined) throw new Error(JSON.stringify(answer))
    return answer.id
  }

  /** Lets time go on until a step has ended. */
  async stepEnd(id: string, index = 0): Promise<SeenRun> {
    return this.#until(id, run =>
      ['succeeded', 'failed', 'canceled', 'skipped'].includes(run.steps[index]?.status ?? ''),
    )
  }

  /** Lets time go on until the run has ended. */
  async runEnd(id: string): Promise<SeenRun> {
    return this.#until(id, run => !['queued', 'running'].includes(run.status))
  }

  #until(id: string, done: (run: SeenRun) => boolean): Promise<SeenRun> {
    return timePasses(this.app, this.clock, id, done, { silent: this.all, waits: this.waits })
  }

  #options(): StandInOptions {
    const deliver = (hook: Hook): Hook[] =>
      this.#webhooks === 'come' ? [{ ...hook, url: hook.url.replace(PUBLIC, this.app.url) }] : []
    return { now: this.clock.now, hooks: deliver }
  }
}

interface Passing {
  /** Hosts that may not answer. */
  silent?: readonly StandIn[]
  /** Told the codes of the errors that a step names while it waits. */
  waits?: Set<string>
}

/** Lets time go on until a run has come so far: over every wait that it tells, over every answer that does not come. */
export function timePasses(
  app: RunningApp,
  clock: JumpClock,
  id: string,
  done: (run: SeenRun) => boolean,
  { silent: hosts = [], waits }: Passing = {},
): Promise<SeenRun> {
  /** Silent calls whose time was passed before. */
  const passed = new Map<StandIn, number>()
  /** The time of the next look-up, and when it was seen first: while one is under way it is that of the answer's loss. */
  let look = { at: '', since: 0 }
  const stands = (at: string): boolean => {
    if (look.at !== at) look = { at, since: performance.now() }
    return performance.now() - look.since >= 200
  }
  const pass = (step: SeenStep): void => {
    const silent = hosts.find(host => host.held > (passed.get(host) ?? 0))
    if (step.retry_at) {
      const isFar = Date.parse(step.retry_at) - clock.now() > 60_000
      if (step.phase === 'submitting' && isFar && !stands(step.retry_at)) return
      if (step.phase === 'waiting' && step.error) waits?.add(step.error.code)
      clock.jumpTo(Math.min(Date.parse(step.retry_at), Date.parse(step.started_at) + DEADLINE_MS))
    } else if (silent && step.phase === 'submitting') {
      passed.set(silent, silent.held)
      clock.jump(SUBMIT_MS)
    } else if (step.phase === 'running') clock.jump(POLL_JUMP_MS)
  }
  return until(
    'the run has come so far',
    async () => {
      const run = await app.json<SeenRun>(`/api/v1/runs/${id}`)
      if (done(run)) return run
      for (const step of run.steps.filter(each => each.status === 'running')) pass(step)
      return null
    },
    60_000,
  )
}
