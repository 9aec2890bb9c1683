/**
 * Reads the body of a new run, and finds everything that is wrong with it before anything is stored or spent.
 *
 * 1. All mistakes are told at once: shape, models, parameters, pictures, providers, links, steps that no route can take.
 *    Creating a run and estimating it both ask `examine`, so that they say the same; resuming one asks the same questions.
 * 2. A link that may never be dialled is told in one sentence, whatever the reason: it must not say what our network holds.
 * 3. `media:{id}` is a picture of the same API key; somebody else's is as unknown as one that never was.
 */
import { type Chain, escapePointer, type Plan, type PlannedStep, plan } from '../core/chain.ts'
import { isObject, type Json, type JsonObject } from '../core/json.ts'
import type { Catalog, Model, Route, Shape } from '../core/model.ts'
import { type Incoming, incomingOf, lackOf, obstacleOf, quoteAt, shapesOfPicture } from '../core/offers.ts'
import { type Revised, revise } from '../core/revise.ts'
import { LIMITS, type Run, type Step } from '../core/run.ts'
import { checkCost, type PricedStep } from './costs.ts'
import type { ApiDeps, Principal } from './deps.ts'
import { type CreateRunDto, createRun, type ResumeRunDto, resumeRun } from './dto.ts'
import { type RequestError, URL_NOT_ALLOWED } from './problem.ts'
import { checker } from './shape.ts'

export interface Order {
  input: JsonObject
  steps: readonly PlannedStep[]
  webhookUrl: string | null
  metadata: Readonly<Record<string, string>>
  providerOrder: Readonly<Record<string, readonly string[]>>
  maxCostUsd: number | null
}

/** A step that by itself is right, whatever the others are. */
export interface SoundStep {
  key: string
  planned: PlannedStep
  model: Model
  /** What is known of the pictures that it gets from the steps before. */
  incoming: readonly Incoming[]
}

export type Examined = { sound: readonly SoundStep[]; providerOrder: Order['providerOrder'] } & (
  | { ok: true; order: Order }
  | { ok: false; errors: RequestError[] }
)

const checkCreate = checker(createRun.schema)

export async function examine(deps: ApiDeps, principal: Principal, chain: Chain, body: Json): Promise<Examined> {
  const shape = checkCreate(body)
  const sent = isObject(body) ? body : {}
  const hasInput = isObject(body) && !shape.some(error => error.pointer === '/input')
  const planned = hasInput ? plan(chain, sent.input, deps.catalog) : null
  const problems = planned && !planned.ok ? planned.problems : []
  const right = planned ? soundSteps(deps, chain, sent.input, planned) : []
  const looked = await lookAtPictures(deps, principal, right)
  const known = right.map(step => measured(step, looked))
  const sound = withModels(deps, known)
  const errors: RequestError[] = [...shape, ...problems.map(problem => ({ hint: SCHEMA_HINT, ...problem }))]
  errors.push(...checkWebhookUrl(deps, sent.webhook_url))
  errors.push(...sound.flatMap(step => checkPictures(deps, step, looked)))
  const keys = chain.steps.map(step => step.key)
  const wellOrdered = !shape.some(error => error.pointer?.startsWith('/provider_order'))
  if (wellOrdered) errors.push(...checkProviders(deps, keys, sound, sent.provider_order))
  errors.push(...sound.flatMap(step => checkRoutes(deps, step)))
  const limit = shape.some(error => error.pointer === '/max_cost_usd') ? undefined : sent.max_cost_usd
  errors.push(...checkCost(deps.keys, principal, pricesOf(deps, sound), typeof limit === 'number' ? limit : null))
  const order = body as unknown as CreateRunDto
  const providerOrder = wellOrdered ? orderByStep(keys, (sent as Partial<CreateRunDto>).provider_order) : {}
  if (errors.length > 0 || !planned?.ok) return { ok: false, errors, sound, providerOrder }
  return {
    ok: true,
    sound,
    providerOrder,
    order: {
      input: order.input as JsonObject,
      steps: known,
      webhookUrl: order.webhook_url ?? null,
      metadata: order.metadata ?? {},
      providerOrder,
      maxCostUsd: order.max_cost_usd ?? null,
    },
  }
}

const SCHEMA_HINT = 'GET /api/v1/models/{maker}/{name} has the JSON Schema of the parameters.'

/** The steps that by themselves are right. */
function soundSteps(deps: ApiDeps, chain: Chain, input: Json | undefined, whole: Plan): PlannedStep[] {
  return whole.ok ? whole.steps : chain.steps.flatMap((_, i) => planAlone(chain, i, input, deps.catalog))
}

/** Steps with their models; one whose model is not in the catalogue is left out. */
function withModels<S extends PlannedStep>(deps: ApiDeps, steps: readonly S[]) {
  const done: (SoundStep & { planned: S })[] = []
  // Those that could make the picture; where none could, one that is still to be set up.
  const makersOf = ({ key }: PlannedStep): readonly Route[] => {
    const before = done.find(step => step.key === key)
    if (!before) return []
    const open = openRoutes(deps, before)
    return open.length > 0 ? open : deps.routesOf(before.model)
  }
  for (const planned of steps) {
    const model = deps.catalog.find(planned.model)
    if (model) done.push({ key: planned.key, planned, model, incoming: incomingOf(planned, steps, makersOf) })
  }
  return done
}

/** The plan of one step as if the others were not there: none when it has mistakes of its own. */
function planAlone(chain: Chain, index: number, input: Json | undefined, catalog: Catalog): PlannedStep[] {
  const step = chain.steps[index]
  if (!step || !isObject(input) || !isObject(input.chain_models)) return []
  const model = `${step.key}_model`
  const params = `${step.key}_params`
  const own: JsonObject = { chain_models: { [model]: input.chain_models[model] ?? null } }
  if (input[params] !== undefined) own[params] = input[params]
  const alone = plan({ ...chain, steps: [step] }, own, catalog)
  return alone.ok ? alone.steps.map(planned => ({ ...planned, index })) : []
}

const checkResume = checker(resumeRun.schema)

/** What the body of a resume asks for: the fields that are right, and the mistakes of the others. */
export interface AskedResume {
  order: ResumeRunDto
  errors: RequestError[]
  /** False where a mistake leaves open which steps are done again, or with what. */
  isClear: boolean
}

/** The mistakes of the body of a resume that can be told before the run is forked; null: it is no object to go on with. */
export function examineResume(run: Run, body: Json): AskedResume | { order: null; errors: RequestError[] } {
  const errors = checkResume(body)
  if (!isObject(body)) return { order: null, errors }
  const wrong = new Set(errors.map(({ pointer }) => pointer?.split('/')[1]))
  const keys = run.steps.map(step => step.key)
  const from = body.from_step_key
  if (typeof from === 'string' && !keys.includes(from)) {
    errors.push(unknownStep('/from_step_key', from, keys))
    wrong.add('from_step_key')
  }
  const right: ResumeRunDto = Object.fromEntries(Object.entries(body).filter(([field]) => !wrong.has(field)))
  const order = {
    ...right,
    // From the first step on nothing is kept: no change is refused for the sake of a step that may be meant.
    ...(wrong.has('from_step_key') ? { from_step_key: keys[0] as string } : {}),
    // Nor by the limit that the run had, which was to be another one.
    ...(wrong.has('max_cost_usd') ? { max_cost_usd: null } : {}),
  }
  return { order, errors, isClear: !wrong.has('from_step_key') && !wrong.has('input') }
}

export type ExaminedFork = { ok: true; run: Run } | { ok: false; errors: RequestError[] }

/**
 * The run that a resume asks for: the fork with the changes of its input, and everything that stands in the way of the steps
 * that it would do again, told before the first of them is paid. Errors point to where a change would have to be given.
 */
export async function examineFork(
  deps: ApiDeps,
  principal: Principal,
  forked: Run,
  { order, errors: before, isClear }: AskedResume,
): Promise<ExaminedFork> {
  const changes = (order.input ?? {}) as JsonObject
  const keys = forked.steps.map(step => step.key)
  const named = orderByStep(keys, order.provider_order)
  const anew = withModels(deps, forked.steps)
    .filter(step => isNamedElsewhere(deps, step, named[step.key]))
    .map(({ key }) => key)
  const change = (changed: JsonObject) => revise(forked, changed, deps.catalog, anew)
  const revised = change(changes)
  const problems = revised.ok ? [] : revised.problems
  const isAgain = ({ key, status }: Step) => status === 'queued' && (isClear || changesStep(changes, key))
  const right = revised.ok ? revised.run.steps : revisedAlone(keys, changes, change)
  const looked = await lookAtPictures(deps, principal, right.filter(isAgain))
  const known = right.map(step => (isAgain(step) ? measured(step, looked) : step))
  const steps = withModels(deps, known)
  const again = steps.filter(({ planned }) => isAgain(planned))
  const isKept = (key: string) => forked.steps.some(step => step.key === key && step.inherited)
  const errors = [
    ...before,
    ...problems.map(problem => ({ hint: SCHEMA_HINT, ...problem })),
    ...checkProviders(deps, keys, steps, order.provider_order),
    ...again.flatMap(step => checkPictures(deps, step, looked)),
    ...again.flatMap(step => checkRoutes(deps, step, step.planned.dependsOn.find(isKept))),
    ...(revised.ok ? checkTakenOver(deps, revised.run.steps) : []),
    ...(isClear ? checkCost(deps.keys, principal, pricesOf(deps, again), forked.maxCostUsd) : []),
  ]
  if (errors.length > 0 || !revised.ok) return { ok: false, errors }
  const providerOrder = { ...forked.providerOrder, ...named }
  return { ok: true, run: { ...revised.run, steps: known, providerOrder } }
}

/**
 * Whether a resume names, in front of the provider that has the job of a step, one that can take the step: then another job is
 * bought there. Who cannot take it is passed over: it would be bought a second time where it is.
 */
function isNamedElsewhere(deps: ApiDeps, step: SoundStep & { planned: Step }, named: readonly string[] = []): boolean {
  if (step.planned.status !== 'running') return false
  const { provider } = step.planned.attempt
  const open = new Set(openRoutes(deps, step).map(route => route.provider)).add(provider)
  const first = named.find(id => open.has(id))
  return first !== undefined && first !== provider
}

/** The steps of a fork with their changes, each as if the others had none; without those whose own changes are wrong. */
function revisedAlone(keys: readonly string[], changes: JsonObject, change: (changed: JsonObject) => Revised): Step[] {
  return keys.flatMap(key => {
    const alone = change(changesOf(changes, key))
    return alone.ok ? alone.run.steps.filter(step => step.key === key) : []
  })
}

/** What an input changes of one step. */
function changesOf({ chain_models: named, ...params }: JsonObject, key: string): JsonObject {
  const only = (object: JsonObject, field: string): JsonObject => {
    const value = object[field]
    return value === undefined ? {} : { [field]: value }
  }
  return { chain_models: isObject(named) ? only(named, `${key}_model`) : {}, ...only(params, `${key}_params`) }
}

function changesStep(changes: JsonObject, key: string): boolean {
  const { chain_models, ...params } = changesOf(changes, key)
  return Object.keys({ ...(chain_models as JsonObject), ...params }).length > 0
}

function checkWebhookUrl({ checkUrl }: ApiDeps, url: Json | undefined): RequestError[] {
  return typeof url === 'string' && !checkUrl(url) ? [{ pointer: '/webhook_url', ...URL_NOT_ALLOWED }] : []
}

/** A picture that can be sent. Of a link nobody knows anything yet. */
interface Looked {
  bytes: number
  shapes: readonly Shape[]
}

/** What is wrong with one, wherever it stands. */
type Wrong = Omit<RequestError, 'pointer'>

/** By what names it, each picture that these steps are given. */
async function lookAtPictures(deps: ApiDeps, principal: Principal, steps: readonly PlannedStep[]) {
  const refs = new Set(steps.flatMap(step => step.pictures))
  return new Map(await Promise.all([...refs].map(async ref => [ref, await lookAt(deps, principal, ref)] as const)))
}

async function lookAt(
  { media, checkUrl, lookInto }: ApiDeps,
  { apiKeyId }: Principal,
  ref: string,
): Promise<Looked | Wrong> {
  if (ref.startsWith('media:')) {
    const stored = await media.find(ref.slice('media:'.length))
    const own = stored?.apiKeyId === apiKeyId ? stored : null
    if (own?.mime.startsWith('image/')) return { bytes: own.bytes, shapes: shapesOfPicture(own) }
    const detail = own ? `${ref} is no picture but ${own.mime}` : `there is no ${ref}`
    return { code: 'unknown_media', detail, hint: 'Upload the picture with POST /api/v1/media.' }
  }
  if (ref.startsWith('data:')) {
    const sound = /^data:image\/(?:png|jpeg|webp);base64,[A-Za-z0-9+/]+={0,2}$/i.test(ref)
    const seen = sound ? await lookInto(ref) : { misfit: 'not valid base64' }
    if (!('misfit' in seen)) return { bytes: (ref.length * 3) / 4, shapes: shapesOfPicture(seen) }
    const hint = sound ? 'Give the bytes of a PNG, JPEG or WebP.' : 'Upload it with POST /api/v1/media.'
    return { code: 'picture_reference', detail: `the data URI is ${seen.misfit}`, hint }
  }
  return checkUrl(ref) ? { bytes: 0, shapes: [] } : URL_NOT_ALLOWED
}

/** A step with what is known of its pictures: it is stored with them, so that the engine need not ask. */
function measured<S extends PlannedStep>(step: S, looked: ReadonlyMap<string, Looked | Wrong>): S {
  const shapesOf = (ref: string): readonly Shape[] => {
    const one = looked.get(ref)
    return one && 'shapes' in one ? one.shapes : []
  }
  return step.pictures.length === 0 ? step : { ...step, pictureShapes: step.pictures.map(shapesOf) }
}

function checkPictures(deps: ApiDeps, step: SoundStep, looked: ReadonlyMap<string, Looked | Wrong>): RequestError[] {
  const given = step.model.pictures(step.planned.params).flatMap(({ pointer, value }) => {
    const seen = looked.get(value)
    return seen ? [{ pointer: `/input/${step.key}_params${pointer}`, ...seen }] : []
  })
  const errors = given.filter(each => 'code' in each)
  const pictures = given.filter(each => 'bytes' in each)
  return errors.length > 0 ? errors : checkSum(deps, step, pictures)
}

/** The pictures of a step together, where every provider that could run it takes them in the request itself. */
function checkSum(
  deps: ApiDeps,
  step: SoundStep,
  pictures: readonly { pointer: string; bytes: number }[],
): RequestError[] {
  const most = LIMITS.requestPictureBytes
  let sum = 0
  const over = pictures.findIndex(({ bytes }) => {
    sum += bytes
    return sum > most
  })
  if (over < 0) return []
  const open = openRoutes(deps, step)
  if (!open.every(route => deps.embeds(route))) return []
  const detail = `the input pictures of ${step.key} up to this one have ${Math.round(sum)} bytes; one request takes at most ${most}`
  const hint = 'Give fewer or smaller pictures; one that is given twice counts twice.'
  return [{ pointer: pictures[over]?.pointer ?? '', code: 'pictures_too_large', detail, hint }]
}

/**
 * Why no route can take a step, now or with patience: keys that are missing, parameters that cannot be expressed, a picture
 * whose size is not taken. It must be told before the step in front of it is paid; `kept` is that step where a resume keeps it.
 */
function checkRoutes(deps: ApiDeps, step: SoundStep, kept?: string): RequestError[] {
  const { key, model } = step
  const reasons: string[] = []
  for (const route of deps.routesOf(model)) {
    const reason = obstacleHere(deps, route, step)
    if (reason === null) return []
    reasons.push(`${route.provider}: ${reason.replace(/\.$/, '')}`)
  }
  const again = kept === undefined ? '' : ` What ${kept} gave is kept; "from_step_key": "${kept}" makes it anew.`
  return [
    {
      pointer: `/input/chain_models/${key}_model`,
      code: 'no_route',
      detail: `no provider here can run ${model.id} (${reasons.join('; ')})`,
      hint: `Change what one of them does not take, set what it lacks and restart, or choose another model: GET /api/v1/models.${again}`,
    },
  ]
}

/** Whether the providers of jobs that a resume goes on with can be asked for them. */
function checkTakenOver(deps: ApiDeps, steps: readonly Step[]): RequestError[] {
  return steps.flatMap(step => {
    if (step.status !== 'running') return []
    const { provider: id } = step.attempt
    const lack = lackOf(
      deps.providers.find(provider => provider.id === id),
      `in mode ${deps.mode}`,
    )
    if (lack === null) return []
    return [
      {
        pointer: '/from_step_key',
        code: 'no_route',
        detail: `the job of ${step.key} is at ${id}, which cannot be asked for it (${lack.replace(/\.$/, '')})`,
        hint: `Set what it lacks and restart; or send "from_step_key": "${step.key}" to pay for another job.`,
      },
    ]
  })
}

/** What each step costs at each provider that could run it; a step that has none is told elsewhere. */
function pricesOf(deps: ApiDeps, steps: readonly SoundStep[]): PricedStep[] {
  return steps.map(step => {
    const { key, model, planned, incoming } = step
    const quotes = openRoutes(deps, step).map(route => quoteAt(route, model, planned, incoming))
    return { key, model: model.id, quotes }
  })
}

function obstacleHere(deps: ApiDeps, route: Route, { planned, incoming }: SoundStep): string | null {
  return obstacleOf(
    deps.providers.find(each => each.id === route.provider),
    route,
    planned,
    incoming,
  )
}

function openRoutes(deps: ApiDeps, step: SoundStep): Route[] {
  return deps.routesOf(step.model).filter(route => obstacleHere(deps, route, step) === null)
}

/** Names of steps and providers that nobody knows: a typo here would send money elsewhere. */
function checkProviders(
  deps: ApiDeps,
  keys: readonly string[],
  steps: readonly Pick<SoundStep, 'key' | 'model'>[],
  order: Json | undefined,
): RequestError[] {
  const base = '/provider_order'
  if (Array.isArray(order)) {
    const known = new Set(steps.flatMap(step => providersOf(deps, step)))
    return steps.length < keys.length ? [] : unknownProviders(base, order, known)
  }
  return Object.entries(isObject(order) ? order : {}).flatMap(([key, list]) => {
    const pointer = `${base}/${escapePointer(key)}`
    if (!keys.includes(key)) return [unknownStep(pointer, key, keys)]
    const step = steps.find(each => each.key === key)
    return step ? unknownProviders(pointer, list as Json[], new Set(providersOf(deps, step))) : []
  })
}

function unknownStep(pointer: string, key: string, keys: readonly string[]): RequestError {
  const hint = `Steps of this chain: ${keys.join(', ')}.`
  return { pointer, code: 'unknown_step', detail: `there is no step ${key.slice(0, 80)}`, hint }
}

function unknownProviders(pointer: string, order: readonly Json[], known: ReadonlySet<string>): RequestError[] {
  return order.flatMap((provider, i) =>
    typeof provider === 'string' && known.has(provider)
      ? []
      : [
          {
            pointer: `${pointer}/${i}`,
            code: 'unknown_provider',
            detail: `no route goes to ${String(provider).slice(0, 80)}`,
            hint: `Providers here: ${[...known].join(', ')}.`,
          },
        ],
  )
}

/** Where a step could go in any mode, so that the same request is valid with and without keys. */
function providersOf(deps: ApiDeps, { model }: Pick<SoundStep, 'model'>): string[] {
  return [...deps.routesOf(model), ...model.routes].map(route => route.provider)
}

/** One list per step key, from either form of `provider_order`. */
function orderByStep(
  keys: readonly string[],
  order: CreateRunDto['provider_order'],
): Readonly<Record<string, readonly string[]>> {
  if (Array.isArray(order)) return Object.fromEntries(keys.map(key => [key, order]))
  return order ?? {}
}
