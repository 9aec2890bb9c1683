/**
 * The request that is being composed.
 *
 * 1. `body` is exactly what Run sends and what the snippets show; there is no second form of it.
 * 2. While it changes, the server says what is wrong and what it would cost (estimate); the page has no rules of its own.
 * 3. It is kept until it runs, so that a reload or a sign-in loses nothing: each tab has its own, and a new one begins with
 *    what was written last in this browser.
 * 4. What somebody changed and did not run is theirs: the request of a run puts it aside, and never in the place of another.
 */
import { batch, computed, effect, signal } from '@preact/signals'
import type { ChainDto, EstimateDto, ModelDto } from '../http/dto/catalog.ts'
import type { CreateRunDto, RequestErrorDto, RunDto } from '../http/dto.ts'
import { untilAnswered } from './again.ts'
import { ApiFailure, api, session } from './api.ts'
import { carryOver } from './carry.ts'
import { blockedBy, chains, detailOf, details, models } from './catalog.ts'
import { unreadableWord } from './json-text.ts'
import { order } from './orders.ts'
import type { Params } from './schema.ts'

export interface Draft {
  slug: string
  models: Record<string, string>
  params: Record<string, Params>
  webhookUrl: string
  maxCostUsd: string
  /** What the page has no field for, from a run that is run again. */
  metadata: Record<string, string>
  providerOrder: Record<string, string[]>
  /** Somebody changed it here, and it has not run since: only this is worth putting aside. */
  own: boolean
}

export interface Choice {
  id: string
  /** Why it could not be loaded; the step keeps the model that it had. */
  failure: string | null
}

const KEPT = 'babychain.draft'
const KEPT_ASIDE = 'babychain.aside'
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
    ...(Object.keys(value.metadata).length === 0 ? {} : { metadata: value.metadata }),
    ...(Object.keys(value.providerOrder).length === 0 ? {} : { provider_order: value.providerOrder }),
    ...(value.maxCostUsd === '' || Number.isNaN(cost) ? {} : { max_cost_usd: cost }),
  }
})

const answered = signal<{ body: CreateRunDto; estimate: EstimateDto } | null>(null)
/** What the server said last; the request may have changed since. */
const estimate = computed(() => answered.value?.estimate ?? null)
/** What it says of the request that stands here, or null. */
export const verdict = computed(() => (answered.value?.body === body.value ? estimate.value : null))
/** True from a change until the server has spoken about it. */
export const checking = signal(false)
/** The same, for some seconds at most: nobody pays another price than was shown, or waits for a slow answer. */
const holding = signal(false)
/** Models that were chosen and are not there yet, and why not, by step key. */
export const choosing = signal<Readonly<Record<string, Choice>>>({})
/** Pictures on their way into a field: without them, the run would take what stands there still. */
export const uploads = signal<ReadonlySet<object>>(new Set())
const trouble = signal<ApiFailure | null>(null)

export const errors = computed<ReadonlyMap<string, readonly RequestErrorDto[]>>(() => {
  const byPointer = new Map<string, RequestErrorDto[]>()
  for (const error of estimate.value?.errors ?? []) {
    const list = byPointer.get(error.pointer ?? '') ?? []
    byPointer.set(error.pointer ?? '', [...list, error])
  }
  return byPointer
})

/** Why Run is disabled, or null: what cannot be changed here first. */
export const hindrance = computed<string | null>(() => {
  const scopes = session.value?.scopes
  if (scopes && !scopes.includes('runs:write')) return 'the key lacks the scope runs:write: it may not start runs'
  if (unreadableWord.value) return unreadableWord.value
  const awaited = Object.values(choosing.value).find(choice => choice.failure === null)
  if (awaited) return `loading ${awaited.id} …`
  if (uploads.value.size > 0) return 'uploading a picture …'
  if (trouble.value) return trouble.value.message
  if (!body.value || !estimate.value) return 'checking …'
  if (estimate.value.errors.length > 0) return mistakes(estimate.value.errors)
  const chosen = chain.value?.steps.flatMap(step => models.value.get(draft.value.models[step.step_key] ?? '') ?? [])
  const blocked = chosen?.find(model => blockedBy(model) !== null)
  if (blocked) return `no provider takes ${blocked.id}: ${blockedBy(blocked)}`
  return holding.value ? 'checking …' : null
})

/** The first of them in its words, and how many there are beside it. */
export function mistakes([first, ...more]: readonly RequestErrorDto[]): string {
  return `${first?.detail ?? ''}${more.length ? ` (and ${more.length} more)` : ''}`
}

/** Whatever somebody changes goes through here; what the page fills in by itself does not. */
export function edit(change: Partial<Draft>): void {
  draft.value = { ...draft.value, ...change, own: true }
}

export function chooseChain(slug: string): void {
  edit({ slug })
  void completeModels()
}

/** Changes the model of a step and takes along what fits. Only the newest choice counts, however slow an older one is. */
export async function chooseModel(step: string, id: string): Promise<void> {
  const mine: Choice = { id, failure: null }
  choosing.value = { ...choosing.value, [step]: mine }
  const isNewest = () => choosing.value[step] === mine
  try {
    const detail = await detailOf(id)
    if (!isNewest()) return
    const { [step]: _, ...others } = choosing.value
    batch(() => {
      choosing.value = others
      edit(adopted(step, detail))
    })
  } catch (error) {
    if (!(error instanceof ApiFailure)) throw error
    if (isNewest()) choosing.value = { ...choosing.value, [step]: { id, failure: error.message } }
  }
}

function adopted(step: string, model: ModelDto): Pick<Draft, 'models' | 'params'> {
  const { value } = draft
  const wired = (chain.value?.steps.find(each => each.step_key === step)?.depends_on.length ?? 0) > 0
  const before = details.value.get(value.models[step] ?? '') ?? null
  const params = carryOver(before, value.params[step] ?? {}, model, { prompt: FIRST_PROMPT[step] ?? '', wired })
  return { models: { ...value.models, [step]: model.id }, params: { ...value.params, [step]: params } }
}

export function setParams(step: string, params: Params): void {
  edit({ params: { ...draft.value.params, [step]: params } })
}

let completing = new AbortController()

/** Every step of the chain gets a model that can run here. */
export async function completeModels(): Promise<void> {
  completing.abort()
  completing = new AbortController()
  const gone = completing.signal
  const failing = (failure: ApiFailure) => {
    trouble.value = failure
  }
  try {
    for (const step of chain.value?.steps ?? []) {
      const had = draft.value.models[step.step_key]
      const stays = had !== undefined && step.models.includes(had)
      const id = stays ? had : firstModel(step)
      const model = await untilAnswered(() => detailOf(id), { gone, failing })
      gone.throwIfAborted()
      if (!stays && draft.value.models[step.step_key] === had)
        draft.value = { ...draft.value, ...adopted(step.step_key, model) }
    }
  } catch (error) {
    if (gone.aborted) return
    if (!(error instanceof ApiFailure)) throw error
    failing(error)
  }
}

function firstModel(step: ChainDto['steps'][number]): string {
  const wished = FIRST_MODEL[step.step_key] ?? ''
  const able = step.models.filter(id => {
    const model = models.value.get(id)
    return model !== undefined && blockedBy(model) === null
  })
  return able.includes(wished) ? wished : (able[0] ?? wished)
}

/** Drafts in whose place another stands, newest first. */
export const putAside = signal<readonly Draft[]>(keptAside())
/** Who has so many begun requests looks for none of them; the oldest goes. */
const MOST_ASIDE = 10

/** The request of a run, to be changed and run again. @throws Error when its chain is not known here */
export function composeFrom(run: RunDto): void {
  const given = run.input as { chain_models?: Record<string, string> } & Record<string, unknown>
  const template = chains.value.find(each => each.slug === run.chain_slug || each.aliases.includes(run.chain_slug))
  if (!template) throw new Error(`This server has no chain ${run.chain_slug}.`)
  const { steps } = template
  putAside.value = ownOf([draft.value, ...putAside.value]).slice(0, MOST_ASIDE)
  replaceDraft({
    slug: template.slug,
    models: Object.fromEntries(steps.map(step => [step.step_key, given.chain_models?.[step.model_field] ?? ''])),
    params: Object.fromEntries(steps.map(step => [step.step_key, (given[step.params_field] ?? {}) as Params])),
    webhookUrl: run.webhook_url ?? '',
    maxCostUsd: run.max_cost_usd === null ? '' : String(run.max_cost_usd),
    metadata: run.metadata,
    providerOrder: run.provider_order,
    own: false,
  })
}

const ownOf = (drafts: readonly Draft[]): Draft[] => drafts.filter(each => each.own)

/** The draft that was put aside last, and this one behind the others: none is lost by a mistake. */
export function bringBack(): void {
  const [back, ...others] = putAside.value
  if (!back) return
  putAside.value = [...others, draft.value]
  replaceDraft(back)
}

export function dropAside(): void {
  putAside.value = ownOf(putAside.value.slice(1))
}

function replaceDraft(next: Draft): void {
  choosing.value = {}
  draft.value = next
  void completeModels()
}

/** @throws ApiFailure */
export async function startRun(): Promise<RunDto> {
  const sent = draft.value
  const run = await order(`/api/v1/chains/${sent.slug}/runs`, body.value)
  if (draft.value === sent) makeRoom()
  return run
}

/** What has run is kept as its run: the draft that it put aside stands here again. */
function makeRoom(): void {
  const [back, ...others] = ownOf(putAside.value)
  putAside.value = others
  if (back) replaceDraft(back)
  else draft.value = { ...draft.value, own: false }
}

function kept(): Draft {
  const empty: Draft = {
    slug: 'chain101',
    models: {},
    params: {},
    webhookUrl: '',
    maxCostUsd: '',
    metadata: {},
    providerOrder: {},
    own: false,
  }
  try {
    return {
      ...empty,
      ...(JSON.parse(sessionStorage.getItem(KEPT) ?? localStorage.getItem(KEPT) ?? '{}') as Partial<Draft>),
    }
  } catch {
    return empty
  }
}

function keptAside(): Draft[] {
  try {
    return JSON.parse(sessionStorage.getItem(KEPT_ASIDE) ?? '[]') as Draft[]
  } catch {
    return []
  }
}

/** A picture pasted as text can be larger than all that a browser keeps for a page; it lives as long as the page. */
const LONGEST_KEPT = 200_000

function keep(where: Storage, name: string, what: unknown): void {
  const tooLong = (value: unknown) => typeof value === 'string' && value.length > LONGEST_KEPT
  const text = JSON.stringify(what, (_, value: unknown) => {
    if (Array.isArray(value)) return value.filter(each => !tooLong(each))
    return tooLong(value) ? undefined : value
  })
  try {
    where.setItem(name, text)
  } catch {
    // No room, or none given: then the draft is not there after a reload, and nothing else is lost.
  }
}

// First what is put aside, in this tab alone: another one has its own.
effect(() => keep(sessionStorage, KEPT_ASIDE, ownOf(putAside.value)))
const begun = draft.value
effect(() => {
  keep(sessionStorage, KEPT, draft.value)
  // A tab that is only loaded anew has written nothing.
  if (draft.value !== begun) keep(localStorage, KEPT, draft.value)
})

/** As long as somebody types, nobody wants to be corrected. */
const PAUSE_MS = 300
const HOLD_MS = 4000
let timer: ReturnType<typeof setTimeout> | undefined
let holdTimer: ReturnType<typeof setTimeout> | undefined
let current: AbortController | undefined

effect(() => {
  const { value } = body
  const { slug } = draft.value
  if (!value || !session.value?.signed_in) return
  batch(() => {
    checking.value = true
    holding.value = true
  })
  const spoken = () =>
    batch(() => {
      checking.value = false
      holding.value = false
    })
  clearTimeout(timer)
  clearTimeout(holdTimer)
  holdTimer = setTimeout(() => (holding.value = false), HOLD_MS)
  current?.abort()
  const mine = new AbortController()
  current = mine
  timer = setTimeout(() => {
    const ask = () => api<EstimateDto>('POST', `/api/v1/chains/${slug}/estimate`, { body: value, signal: mine.signal })
    const failing = (failure: ApiFailure) => {
      trouble.value = failure
      spoken()
    }
    untilAnswered(ask, { gone: mine.signal, failing })
      .then(answer => {
        if (mine.signal.aborted) return
        answered.value = { body: value, estimate: answer }
        trouble.value = null
      })
      .catch(error => {
        if (!mine.signal.aborted && error instanceof ApiFailure) trouble.value = error
      })
      .finally(() => {
        if (!mine.signal.aborted) spoken()
      })
  }, PAUSE_MS)
})
