/**
 * The request that is being composed.
 *
 * 1. `body` is exactly what Run sends and what the snippets show; there is no second form of it.
 * 2. While it changes, the server says what is wrong and what it would cost (estimate); the page has no rules of its own.
 * 3. It is kept in this browser until it runs, so that a reload or a sign-in loses nothing.
 */
import { computed, effect, signal } from '@preact/signals'
import type { ChainDto, EstimateDto } from '../http/dto/catalog.ts'
import type { CreateRunDto, RequestErrorDto, RunDto } from '../http/dto.ts'
import { ApiFailure, api, session } from './api.ts'
import { chains, detailOf, details, models } from './catalog.ts'
import { at, firstParams, type Params, promptPath } from './schema.ts'

export interface Draft {
  slug: string
  models: Record<string, string>
  params: Record<string, Params>
  webhookUrl: string
  maxCostUsd: string
}

const KEPT = 'babychain.draft'
const FIRST_MODEL: Readonly<Record<string, string>> = {
  text_to_image: 'bfl/flux-2-flex',
  image_to_image: 'bytedance/seedream-4.5',
  image_to_video: 'bytedance/seedance-1.5-pro',
}
const FIRST_PROMPT: Readonly<Record<string, string>> = {
  text_to_image:
    'A futuristic wireless headphone product on a clean reflective pedestal, teal and violet studio lighting, premium product photography',
  image_to_image: 'The same scene at dusk, wet ground, warm rim light, fine rain in the air',
  image_to_video: 'Slow cinematic orbit around the product, subtle glow animation, smooth camera motion',
}

export const draft = signal<Draft>(kept())

export const chain = computed<ChainDto | null>(
  () => chains.value.find(each => each.slug === draft.value.slug) ?? chains.value[0] ?? null,
)

export const body = computed<CreateRunDto | null>(() => {
  const { value } = draft
  if (!chain.value) return null
  const input: Record<string, unknown> = { chain_models: {} }
  for (const step of chain.value.steps) {
    const model = value.models[step.step_key]
    if (!model) return null
    ;(input.chain_models as Record<string, string>)[step.model_field] = model
  }
  for (const step of chain.value.steps) input[step.params_field] = value.params[step.step_key] ?? {}
  const cost = Number(value.maxCostUsd)
  return {
    input,
    ...(value.webhookUrl === '' ? {} : { webhook_url: value.webhookUrl }),
    ...(value.maxCostUsd === '' || Number.isNaN(cost) ? {} : { max_cost_usd: cost }),
  }
})

export const estimate = signal<EstimateDto | null>(null)
/** True from a change until the server has spoken about it. */
export const checking = signal(false)
/** JSON that somebody types and that is not JSON yet, by step key. */
export const unreadable = signal<Readonly<Record<string, string>>>({})
const trouble = signal<ApiFailure | null>(null)

export const errors = computed<ReadonlyMap<string, readonly RequestErrorDto[]>>(() => {
  const byPointer = new Map<string, RequestErrorDto[]>()
  for (const error of estimate.value?.errors ?? []) {
    const list = byPointer.get(error.pointer ?? '') ?? []
    byPointer.set(error.pointer ?? '', [...list, error])
  }
  return byPointer
})

/** Why Run is disabled, or null. */
export const hindrance = computed<string | null>(() => {
  const bad = Object.keys(unreadable.value)[0]
  if (bad) return `the JSON of ${bad} cannot be read`
  if (trouble.value) return trouble.value.message
  if (!body.value || !estimate.value) return 'checking …'
  const [first, ...more] = estimate.value.errors
  if (first) return `${first.detail}${more.length ? ` (and ${more.length} more)` : ''}`
  const blocked = chain.value?.steps.find(
    step => models.value.get(draft.value.models[step.step_key] ?? '')?.available === false,
  )
  return blocked ? `no provider is configured for ${draft.value.models[blocked.step_key]}` : null
})

export function chooseChain(slug: string): void {
  draft.value = { ...draft.value, slug }
  void completeModels()
}

/** Changes the model of a step and takes the prompt along. */
export async function chooseModel(step: string, id: string): Promise<void> {
  const detail = await detailOf(id)
  draft.value = {
    ...draft.value,
    models: { ...draft.value.models, [step]: id },
    params: { ...draft.value.params, [step]: firstParams(detail.params_schema, promptOf(step)) },
  }
}

export function setParams(step: string, params: Params): void {
  draft.value = { ...draft.value, params: { ...draft.value.params, [step]: params } }
}

function promptOf(step: string): string {
  const schema = details.value.get(draft.value.models[step] ?? '')?.params_schema
  const path = schema && promptPath(schema)
  const text = path ? at(draft.value.params[step], path) : undefined
  return typeof text === 'string' && text !== '' ? text : (FIRST_PROMPT[step] ?? '')
}

/** Every step of the chain gets a model that can run here. */
export async function completeModels(): Promise<void> {
  for (const step of chain.value?.steps ?? []) {
    const had = draft.value.models[step.step_key]
    if (had && step.models.includes(had)) {
      await detailOf(had)
      continue
    }
    const wished = FIRST_MODEL[step.step_key] ?? ''
    const able = step.models.filter(id => models.value.get(id)?.available)
    const id = able.includes(wished) ? wished : (able[0] ?? wished)
    await chooseModel(step.step_key, id)
  }
}

/** The request of a run, to be changed and run again. */
export function composeFrom(run: RunDto): void {
  const given = run.input as { chain_models?: Record<string, string> } & Record<string, unknown>
  const template = chains.value.find(each => each.slug === run.chain_slug || each.aliases.includes(run.chain_slug))
  const steps = template?.steps ?? []
  draft.value = {
    slug: template?.slug ?? run.chain_slug,
    models: Object.fromEntries(steps.map(step => [step.step_key, given.chain_models?.[step.model_field] ?? ''])),
    params: Object.fromEntries(steps.map(step => [step.step_key, (given[step.params_field] ?? {}) as Params])),
    webhookUrl: run.webhook_url ?? '',
    maxCostUsd: run.max_cost_usd === null ? '' : String(run.max_cost_usd),
  }
  void completeModels()
}

/** @throws ApiFailure */
export async function startRun(): Promise<RunDto> {
  const run = await api<RunDto>('POST', `/api/v1/chains/${draft.value.slug}/runs`, {
    body: body.value,
    headers: { 'idempotency-key': randomKey() },
  })
  const mine = new Set(JSON.parse(localStorage.getItem('babychain.mine') ?? '[]') as string[])
  localStorage.setItem('babychain.mine', JSON.stringify([...mine, run.id].slice(-200)))
  return run
}

export function randomKey(): string {
  return `lab-${[...crypto.getRandomValues(new Uint8Array(12))].map(byte => byte.toString(16).padStart(2, '0')).join('')}`
}

function kept(): Draft {
  const empty = { slug: 'chain101', models: {}, params: {}, webhookUrl: '', maxCostUsd: '' }
  try {
    return { ...empty, ...(JSON.parse(localStorage.getItem(KEPT) ?? '{}') as Partial<Draft>) }
  } catch {
    return empty
  }
}

effect(() => {
  localStorage.setItem(KEPT, JSON.stringify(draft.value))
})

/** As long as somebody types, nobody wants to be corrected. */
const PAUSE_MS = 300
let timer: ReturnType<typeof setTimeout> | undefined
let current: AbortController | undefined

effect(() => {
  const { value } = body
  const { slug } = draft.value
  if (!value || !session.value?.signed_in) return
  checking.value = true
  clearTimeout(timer)
  current?.abort()
  const mine = new AbortController()
  current = mine
  timer = setTimeout(() => {
    api<EstimateDto>('POST', `/api/v1/chains/${slug}/estimate`, { body: value, signal: mine.signal })
      .then(answer => {
        estimate.value = answer
        trouble.value = null
      })
      .catch(error => {
        if (!mine.signal.aborted && error instanceof ApiFailure) trouble.value = error
      })
      .finally(() => {
        if (!mine.signal.aborted) checking.value = false
      })
  }, PAUSE_MS)
})
