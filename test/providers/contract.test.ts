/** The contract of every Provider, played by the nine real protocols against their stand-ins. */
import { describe, expect, test } from 'bun:test'
import { join } from 'node:path'
import type { JsonObject } from '../../src/core/json.ts'
import type { Role } from '../../src/core/model.ts'
import type { Provider } from '../../src/core/ports.ts'
import type { CancelAnswer, CancelOutcome } from '../../src/core/run.ts'
import { createEgress } from '../../src/net/egress.ts'
import { createProviderHttp } from '../../src/net/provider-http.ts'
import { createBfl } from '../../src/providers/bfl.ts'
import { createBytePlus } from '../../src/providers/byteplus.ts'
import { createComfyUi } from '../../src/providers/comfyui.ts'
import { createDashScope } from '../../src/providers/dashscope.ts'
import { createFal, falOrigins } from '../../src/providers/fal.ts'
import { createGoogle } from '../../src/providers/google.ts'
import { createOpenAi } from '../../src/providers/openai.ts'
import { createProviders, KEYED, originsOf, type ProviderSettings } from '../../src/providers/registry.ts'
import { createReplicate } from '../../src/providers/replicate.ts'
import { createRunway } from '../../src/providers/runway.ts'
import { type ProviderRig, providerContract, type Scenario } from '../contract/provider.contract.ts'
import { type BenchSpec, openBench } from '../support/providers/bench.ts'
import { BflStandIn } from '../support/providers/bfl.ts'
import { BytePlusStandIn } from '../support/providers/byteplus.ts'
import { ComfyUiStandIn } from '../support/providers/comfyui.ts'
import { DashScopeStandIn } from '../support/providers/dashscope.ts'
import { FalStandIn } from '../support/providers/fal.ts'
import { GoogleStandIn } from '../support/providers/google.ts'
import { OpenAiStandIn } from '../support/providers/openai.ts'
import { ReplicateStandIn } from '../support/providers/replicate.ts'
import { RunwayStandIn } from '../support/providers/runway.ts'
import type { Scene, StandIn } from '../support/providers/stand-in.ts'

/** A lost job and a dead link take several questions here; protocol.contract.ts plays them. */
const SCENES: Partial<Record<Scenario, Scene>> = {
  fails: { type: 'fail', how: 'error' },
  refuses_content: { type: 'refuse', why: { because: 'input' } },
  rejects_output: { type: 'fail', how: 'output' },
  rate_limited: { type: 'refuse', why: { because: 'rate_limited', retryAfterS: 7 } },
  overloaded: { type: 'refuse', why: { because: 'overloaded' } },
  loses_answer: { type: 'swallow' },
}

async function openRig<S extends StandIn>(spec: BenchSpec<S>): Promise<ProviderRig> {
  const bench = await openBench(spec)
  const counts = new Map<string, number>()
  const counting = (provider: Provider): Provider => ({
    ...provider,
    async start(job, signal) {
      const before = bench.standIn.submits().length
      const started = await provider.start(job, signal)
      counts.set(job.token, (counts.get(job.token) ?? 0) + bench.standIn.submits().length - before)
      return started
    },
  })
  return {
    provider: counting(bench.provider),
    job(scenario) {
      const scene = SCENES[scenario]
      if (scene) bench.standIn.script(scene)
      const { stash: _, ...job } = bench.job()
      return { ...job, callbackUrl: `https://us.example/api/v1/inbound/${bench.standIn.provider}/${job.token}` }
    },
    advance: ms => bench.clock.advance(ms),
    submits: async token => counts.get(token) ?? 0,
    restart: async () => counting(bench.another()),
    close: () => bench.stop(),
  }
}

const picture = (providerModel: string, body: JsonObject = { prompt: 'a red boat' }) => ({
  providerModel,
  role: 'text_to_image' as Role,
  body,
})
const film = (providerModel: string, body: JsonObject) => ({ providerModel, role: 'image_to_video' as Role, body })
const inline = { bytesBase64Encoded: 'iVBORw0KGgo=', mimeType: 'image/png' }

interface Played {
  spec: BenchSpec<StandIn>
  scenarios: readonly Scenario[]
  find?: boolean
  cancel: { running: CancelAnswer; ended: CancelOutcome }
}

const JOBS: readonly Scenario[] = ['succeeds', 'fails', 'rejects_output', 'rate_limited', 'overloaded', 'loses_answer']
const SYNC: readonly Scenario[] = ['succeeds', 'rate_limited', 'overloaded', 'loses_answer']
const NEVER = { running: 'unsupported', ended: 'unsupported' } as const
const STOPS = { running: 'confirmed', ended: 'failed' } as const
/** It takes only what has not begun. */
const UNDOES = { running: 'unbegun', ended: 'failed' } as const

const PLAYED: Readonly<Record<string, Played>> = {
  bfl: {
    spec: { standIn: o => new BflStandIn(o), provider: createBfl, order: picture('flux-2-flex') },
    scenarios: JOBS,
    cancel: NEVER,
  },
  byteplus: {
    spec: {
      standIn: o => new BytePlusStandIn(o),
      provider: createBytePlus,
      order: film('seedance-1-5-pro-251215', { content: [{ type: 'text', text: 'a boat' }] }),
    },
    scenarios: [...JOBS, 'refuses_content'],
    find: true,
    cancel: UNDOES,
  },
  fal: {
    spec: {
      standIn: o => new FalStandIn(o),
      provider: createFal,
      origins: falOrigins,
      order: picture('fal-ai/flux-2-flex'),
    },
    scenarios: [...JOBS, 'refuses_content'],
    cancel: STOPS,
  },
  replicate: {
    spec: {
      standIn: o => new ReplicateStandIn(o),
      provider: createReplicate,
      order: picture('black-forest-labs/flux-2-flex'),
    },
    scenarios: JOBS,
    find: true,
    cancel: STOPS,
  },
  openai: {
    spec: { standIn: o => new OpenAiStandIn(o), provider: createOpenAi, order: picture('gpt-image-1.5') },
    scenarios: [...SYNC, 'refuses_content'],
    cancel: NEVER,
  },
  google: {
    spec: {
      standIn: o => new GoogleStandIn(o),
      provider: createGoogle,
      order: film('veo-3.1-generate-preview', { instances: [{ prompt: 'a boat', image: inline }] }),
    },
    scenarios: JOBS,
    cancel: NEVER,
  },
  runway: {
    spec: {
      standIn: o => new RunwayStandIn(o),
      provider: createRunway,
      order: film('gen4_turbo', { promptImage: 'https://cdn.example.org/boat.png', ratio: '1280:720' }),
    },
    scenarios: JOBS,
    cancel: STOPS,
  },
  dashscope: {
    spec: {
      standIn: o => new DashScopeStandIn(o),
      provider: createDashScope,
      order: film('wan2.6-i2v', { input: { img_url: 'https://cdn.example.org/boat.png' }, parameters: {} }),
    },
    scenarios: [...JOBS, 'refuses_content'],
    cancel: UNDOES,
  },
  comfyui: {
    spec: {
      standIn: o => new ComfyUiStandIn(o),
      provider: o => createComfyUi({ ...o, workflows: join(import.meta.dir, '../support/providers/workflows') }),
      order: picture('paint'),
    },
    scenarios: ['succeeds', 'fails', 'loses_answer'],
    find: true,
    cancel: STOPS,
  },
}

for (const [name, { spec, scenarios, find = false, cancel }] of Object.entries(PLAYED)) {
  providerContract(name, { scenarios, progress: false, find, cancel }, () => openRig(spec))
}

describe('the registry of providers', () => {
  const settings = (key: string | null): ProviderSettings => ({
    providers: Object.fromEntries(
      KEYED.map(id => [id, { key, baseUrl: `https://${id}.example/v1` }]),
    ) as ProviderSettings['providers'],
    comfyui: { url: null, workflows: null },
  })
  const make = (of: ProviderSettings) =>
    createProviders({
      ...of,
      http: createProviderHttp({ providers: originsOf(of) }),
      egress: createEgress({ allow: [] }),
      now: () => 0,
    })

  test('has every protocol once, and each without a key says which variable to set', () => {
    const made = make(settings(null))
    expect(made.map(provider => provider.id)).toEqual([...KEYED, 'comfyui'])
    for (const provider of made) expect(provider.missing).toMatch(/^Set [A-Z_]+/)
    const keyed = make(settings('some-key')).filter(provider => provider.id !== 'comfyui')
    expect(keyed.map(provider => provider.missing)).toEqual(KEYED.map(() => null))
  })

  test('takes the number of jobs at once from the configuration', () => {
    const made = make({ ...settings('k'), concurrency: { bfl: 3 } })
    expect(made.find(provider => provider.id === 'bfl')?.concurrency).toBe(3)
    expect(made.find(provider => provider.id === 'fal')?.concurrency).toBe(20)
  })

  test('lets calls go to the configured origins and to the hosts that a provider spreads over, no further', () => {
    const rules = originsOf({ ...settings('k'), comfyui: { url: 'http://127.0.0.1:8188', workflows: 'w' } })
    const goes = (id: string, url: string): boolean => rules[id]?.(new URL(url)) ?? false
    expect(goes('bfl', 'https://bfl.example/v1/flux-2-flex')).toBe(true)
    expect(goes('bfl', 'https://api.us1.bfl.ai/v1/get_result')).toBe(true)
    expect(goes('bfl', 'https://delivery-us1.example/x')).toBe(false)
    expect(goes('fal', 'https://rest.fal.ai/storage')).toBe(true)
    expect(goes('fal', 'https://fal.ai.evil.example/')).toBe(false)
    expect(goes('comfyui', 'http://127.0.0.1:8188/prompt')).toBe(true)
    expect(goes('runway', 'https://runway.example:8443/')).toBe(false)
    expect(goes('openai', 'http://openai.example/v1')).toBe(false)
  })
})
