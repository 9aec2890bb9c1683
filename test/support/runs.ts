/** Makes runs for tests: any graph, with steps that need no catalogue. */
import type { Chain } from '../../src/core/chain.ts'
import { newRun, type Run } from '../../src/core/run.ts'

export const T0 = Date.UTC(2026, 10, 22)

export interface Graph {
  [key: string]: readonly string[]
}

export const LINE: Graph = { a: [], b: ['a'] }
export const DIAMOND: Graph = { root: [], left: ['root'], right: ['root'], join: ['left', 'right'] }

/** A UUID that a test can read: the number is its last part. */
export function uuid(n: number): string {
  return `00000000-0000-7000-8000-${n.toString(16).padStart(12, '0')}`
}

let runs = 0

/** A queued run over a graph; step ids are the keys with `step-` before them. */
export function runOf(graph: Graph, more: Partial<Run> = {}): Run {
  const steps = Object.entries(graph).map(([key, dependsOn], index) => ({
    index,
    key,
    role: dependsOn.length > 0 ? ('image_to_image' as const) : ('text_to_image' as const),
    kind: 'image' as const,
    model: 'test/model',
    params: { prompt: key },
    dependsOn,
    pictures: [],
    pictureShapes: [],
    deadlineMs: 3_600_000,
  }))
  const chain: Chain = {
    slug: 'test',
    aliases: [],
    version: '1',
    title: 'test',
    steps: steps.map(({ key, role, dependsOn }) => ({ key, role, dependsOn })),
  }
  runs += 1
  const { run } = newRun({
    id: uuid(runs),
    stepIds: steps.map(step => `step-${step.key}`),
    slug: 'test',
    chain,
    mode: 'byok',
    input: { chain_models: {} },
    metadata: {},
    callback: { url: 'https://example.com/hook' },
    apiKeyId: 'key',
    providerOrder: {},
    maxCostUsd: null,
    steps,
    at: T0,
  })
  return { ...run, ...more }
}

/** A small seeded generator: the same seed, the same walk. */
export function seeded(seed: number): () => number {
  let state = seed >>> 0
  return () => {
    state = (state + 0x6d2b79f5) >>> 0
    let t = Math.imul(state ^ (state >>> 15), 1 | state)
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t
    return ((t ^ (t >>> 14)) >>> 0) / 4_294_967_296
  }
}
