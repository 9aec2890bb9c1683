/**
 * The real providers of an installation, and where their calls may go.
 *
 * 1. Every protocol is there, with a key or without: one without says what to set.
 * 2. `originsOf` is what the provider HTTP client must be made with; a call to any other origin is not made.
 */
import type { Provider } from '../core/ports.ts'
import { type OriginRule, trustOrigins } from '../net/provider-http.ts'
import { createBfl } from './bfl.ts'
import { createBytePlus } from './byteplus.ts'
import { createComfyUi } from './comfyui.ts'
import { createDashScope } from './dashscope.ts'
import { createFal, falOrigins } from './fal.ts'
import { createGoogle } from './google.ts'
import { createOpenAi } from './openai.ts'
import { createReplicate } from './replicate.ts'
import { createRunway } from './runway.ts'
import type { ProtocolOptions } from './wire.ts'

/** Keys and base URLs, as the configuration has them (design.md section 9). */
export interface ProviderSettings {
  providers: Readonly<Record<KeyedProvider, { key: string | null; baseUrl: string }>>
  comfyui: { url: string | null; workflows: string | null }
  /** Jobs at once, where an account differs from what the provider documents. */
  concurrency?: Readonly<Partial<Record<string, number>>>
}

export type ProvidersOptions = ProviderSettings & Omit<ProtocolOptions, 'key' | 'baseUrl' | 'concurrency'>

export function createProviders(options: ProvidersOptions): Provider[] {
  const { providers, comfyui, concurrency, ...shared } = options
  const own = (id: string): { concurrency?: number } => {
    const jobs = concurrency?.[id]
    return jobs === undefined ? {} : { concurrency: jobs }
  }
  const keyed = KEYED.map(id => PROTOCOLS[id]({ ...shared, ...providers[id], ...own(id) }))
  const { url: baseUrl, workflows } = comfyui
  return [...keyed, createComfyUi({ ...shared, baseUrl, workflows, ...own('comfyui') })]
}

const PROTOCOLS = {
  bfl: createBfl,
  byteplus: createBytePlus,
  fal: createFal,
  replicate: createReplicate,
  openai: createOpenAi,
  google: createGoogle,
  runway: createRunway,
  dashscope: createDashScope,
} satisfies Readonly<Record<string, (options: ProtocolOptions) => Provider>>

/** Those with a key of their own. The configuration has its variables for each of these, and for no other. */
export type KeyedProvider = keyof typeof PROTOCOLS
export const KEYED = Object.keys(PROTOCOLS) as KeyedProvider[]

/** Where each provider's calls may go: the configured origin, and the hosts that the provider itself spreads over. */
export function originsOf({ providers, comfyui }: ProviderSettings): Record<string, OriginRule> {
  const rules: Record<string, OriginRule> = {}
  for (const id of KEYED) rules[id] = trustOrigins(providers[id].baseUrl)
  rules.bfl = trustOrigins(providers.bfl.baseUrl, ['.bfl.ai'])
  rules.fal = falOrigins(providers.fal.baseUrl)
  if (comfyui.url !== null) rules.comfyui = trustOrigins(comfyui.url)
  return rules
}
