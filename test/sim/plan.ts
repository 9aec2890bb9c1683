/** What a seed has drawn before its history begins: the parties, the runs, and most of what will go wrong. */
import type { Chain } from '../../src/core/chain.ts'
import { newRun, type Run, type RunEvent } from '../../src/core/run.ts'
import { DIAMOND, type Graph, LINE, uuid } from '../support/runs.ts'
import { type Abilities, PRICE } from './parties.ts'
import { Timeline } from './timeline.ts'

export interface PlannedRun {
  key: string
  at: number
  graph: Graph
  callback: boolean
  maxCostUsd: number | null
  /** After the run was accepted, in milliseconds; null: never. */
  cancelAfter: number | null
  resumes: boolean
  deadlineMs: number
  stepDeadlineMs: number
}

interface Stretch {
  at: number
  ms: number
}

export interface Plan {
  providers: { id: string; abilities: Abilities; concurrency: number }[]
  receiver: { trouble: number; gone: boolean }
  /** Whether providers can reach us. */
  webhooks: boolean
  runs: PlannedRun[]
  /** Times of crashes, and numbers of port calls. */
  crashes: number[]
  crashCalls: Map<number, 'before' | 'after'>
  outages: Stretch[]
  fullDisks: Stretch[]
  jumps: Stretch[]
  /** A crash while this submit (counted from 1) is on its way, and what the wall clock jumps by in the same moment. */
  lostTime: { submit: number; jumpMs: number } | null
  stops: number[]
  /** Of the one key; null is no limit. */
  limits: { maxRunning: number | null; maxQueued: number | null; dailyBudgetUsd: number | null }
  afterlife: boolean
  ids(steps: number): { id: string; stepIds: string[] }
}

const GRAPHS: readonly Graph[] = [
  { a: [] },
  LINE,
  LINE,
  { a: [], b: ['a'], c: ['b'] },
  DIAMOND,
  { a: [], b: [], c: ['a', 'b'] },
]
const MINUTE = 60_000
/** Two days, two hours, minutes: what a person, a daylight-saving script or a time server does to a wall clock. */
const JUMPS_MS = [-172_800_000, -7_200_000, -90_000, 90_000, 3_600_000, 172_800_000]

/** Half of the seeds are quiet but for one kind of trouble, so that rare paths are walked with the others in order. */
export function drawPlan(time: Timeline): Omit<Plan, 'limits'> {
  const some = <T>(share: number, most: number, make: () => T): T[] =>
    time.chance(share) ? Array.from({ length: time.int(1, most) }, make) : []
  const moment = (): number => time.span(10, 20 * MINUTE)
  const stretch = (): Stretch => ({ at: moment(), ms: time.span(100, 20 * MINUTE) })
  const providers = Array.from({ length: time.int(1, 3) }, (_, i) => ({
    id: `p${i + 1}`,
    abilities: {
      find: time.chance(0.6),
      webhooks: time.chance(0.5),
      synchronous: time.chance(0.2),
      links: time.chance(0.7),
      settleMs: time.chance(0.5) ? time.span(3_000, 60_000) : 3_000,
      trouble: time.pick([0, 0, 0.05, 0.2, 0.5]),
    },
    concurrency: time.pick([1, 2, 1_000, 1_000]),
  }))
  let ids = 0
  const plan = {
    providers,
    receiver: { trouble: time.pick([0, 0, 0, 0.3, 0.7, time.chance(0.2) ? 1 : 0.3]), gone: time.chance(0.05) },
    webhooks: time.chance(0.7),
    runs: Array.from({ length: time.pick([1, 1, 2, 3]) }, (_, n) => ({
      key: `key-${n}`,
      at: time.span(1, 30_000),
      graph: time.pick(GRAPHS),
      callback: time.chance(0.9),
      maxCostUsd: time.chance(0.1) ? PRICE * time.int(1, 4) : null,
      cancelAfter: time.chance(0.3) ? time.span(1, time.pick([2_000, 10 * MINUTE])) : null,
      resumes: time.chance(0.2),
      deadlineMs: time.pick([4, 24]) * 60 * MINUTE,
      stepDeadlineMs: time.pick([10, 60]) * MINUTE,
    })),
    crashes: some(0.3, 2, moment),
    crashCalls: new Map(some(0.4, 3, () => [time.int(1, 60), time.pick(['before', 'after'] as const)] as const)),
    outages: some(0.25, 2, () => ({
      at: time.span(10, time.pick([30_000, 20 * MINUTE])),
      ms: time.span(100, 2 * MINUTE),
    })),
    fullDisks: some(0.1, 1, stretch),
    jumps: some(0.1, 1, () => ({ at: moment(), ms: time.pick(JUMPS_MS) })),
    stops: some(0.1, 1, moment),
    afterlife: time.chance(0.2),
    ids: (steps: number) => {
      ids += 1
      const id = uuid(ids)
      return { id, stepIds: Array.from({ length: steps }, (_, i) => `${id}/${i}`) }
    },
  }
  const loses = plan.jumps.length > 0 && time.chance(0.5)
  return { ...plan, lostTime: loses ? { submit: time.int(1, 3), jumpMs: time.pick(JUMPS_MS) } : null }
}

/** Limits of the key, for a part of the seeds. From a chance of their own: they were added to histories that stay as they were. */
export function drawLimits(seed: number): Plan['limits'] {
  const own = new Timeline(seed + LIMITS_SALT)
  const some = <T>(share: number, make: () => T): T | null => (own.chance(share) ? make() : null)
  if (!own.chance(0.3)) return { maxRunning: null, maxQueued: null, dailyBudgetUsd: null }
  return {
    maxRunning: some(0.7, () => own.int(1, 2)),
    maxQueued: some(0.3, () => own.int(1, 2)),
    dailyBudgetUsd: some(0.5, () => PRICE * own.int(1, 6)),
  }
}

/** With it the seeds that are played again for what they once broke have no limits. */
const LIMITS_SALT = 100_690

/** A queued run of a plan, with ids of its own. */
export function runFor(order: PlannedRun, at: number, plan: Plan): { run: Run; events: RunEvent[] } {
  const { graph } = order
  const keys = Object.entries(graph)
  const steps = keys.map(([key, dependsOn], index) => ({
    index,
    key,
    role: dependsOn.length > 0 ? ('image_to_image' as const) : ('text_to_image' as const),
    kind: 'image' as const,
    model: 'sim/model',
    params: { prompt: key },
    dependsOn,
    pictures: [],
    pictureShapes: [],
    deadlineMs: order.stepDeadlineMs,
  }))
  const chain: Chain = {
    slug: 'sim',
    aliases: [],
    version: '1',
    title: 'sim',
    steps: steps.map(({ key, role, dependsOn }) => ({ key, role, dependsOn })),
  }
  const { run, events } = newRun({
    ...plan.ids(keys.length),
    slug: 'sim',
    chain,
    mode: 'byok',
    input: { chain_models: {} },
    metadata: {},
    callback: order.callback ? { url: 'https://receiver.example/hook' } : null,
    apiKeyId: 'key',
    providerOrder: {},
    maxCostUsd: order.maxCostUsd,
    steps,
    at,
  })
  return { run: { ...run, deadlineAt: at + order.deadlineMs }, events }
}
