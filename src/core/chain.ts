/**
 * Chain templates, and the plan of a run: which model does which step, from where its picture comes.
 *
 * 1. A chain is an acyclic graph; steps are listed so that every step comes after those it depends on.
 * 2. Planning spends nothing and tells all problems at once, each with a JSON Pointer into the request body.
 * 3. A picture that a step before provides cannot also be given by the caller; further ones come after it.
 */
import type { Problem } from './errors.ts'
import { isObject, type Json, type JsonObject } from './json.ts'
import type { Catalog, Model, Role, Shape, StepKind } from './model.ts'
import { nearest } from './nearest.ts'

export interface ChainStep {
  key: string
  role: Role
  dependsOn: readonly string[]
}

export interface Chain {
  slug: string
  /** Other slugs that name the same chain. */
  aliases: readonly string[]
  /** Date of the template; a run keeps the one that it was created with. */
  version: string
  title: string
  steps: readonly ChainStep[]
}

const CHAIN_VERSION = '2026-05-23'

const line = (slug: string, alias: string, roles: readonly Role[]): Chain => ({
  slug,
  aliases: [alias],
  version: CHAIN_VERSION,
  title: roles.map(role => role.replaceAll('_', '-')).join(' → '),
  steps: roles.map((role, i) => ({ key: role, role, dependsOn: i === 0 ? [] : [roles[i - 1] as string] })),
})

export const CHAINS: readonly Chain[] = [
  line('chain101', 'chain1', ['text_to_image', 'image_to_video']),
  line('chain202', 'chain2', ['image_to_image', 'image_to_video']),
  line('chain303', 'chain3', ['text_to_image', 'image_to_image', 'image_to_video']),
]

/** The chain that a slug or an alias names. */
export function findChain(slug: string): Chain | undefined {
  return CHAINS.find(chain => chain.slug === slug || chain.aliases.includes(slug))
}

export const KIND_OF: Record<Role, StepKind> = {
  text_to_image: 'image',
  image_to_image: 'image',
  image_to_video: 'video',
}

export interface PlannedStep {
  index: number
  key: string
  role: Role
  kind: StepKind
  model: string
  params: JsonObject
  dependsOn: readonly string[]
  /** The pictures that the caller gave, in the model's own order: an https URL, a data URI or `media:{id}`. */
  pictures: readonly string[]
  /** Of each of them the shape, as it was known when the run was asked for: none where nobody knew it. */
  pictureShapes: readonly (readonly Shape[])[]
  /** How long the step may take from its first attempt that is not turned away for the provider's rate, in milliseconds. */
  deadlineMs: number
}

export type Plan = { ok: true; steps: PlannedStep[] } | { ok: false; problems: Problem[] }

/** A step may take 30 times what its model usually takes, within these bounds (milliseconds), or what its parameters allow. */
const STEP_DEADLINE = { min: 15 * 60_000, max: 6 * 3_600_000, times: 30 }

/** Checks an input against a chain and the catalogue. Problems point into the body (`/input/...`). */
export function plan(chain: Chain, input: Json | undefined, catalog: Catalog): Plan {
  const problems: Problem[] = []
  if (!isObject(input)) {
    return { ok: false, problems: [wrong('/input', 'type', 'input must be an object', exampleHint(chain))] }
  }
  const models = input.chain_models
  if (!isObject(models))
    problems.push(
      wrong('/input/chain_models', 'required', 'chain_models must name a model for each step', exampleHint(chain)),
    )
  const named = isObject(models) ? models : {}
  refuseUnknown(chain, input, named, problems)
  const steps = chain.steps.flatMap((step, index) => {
    const model = chooseModel(step, named, isObject(models), catalog, problems)
    const params = input[`${step.key}_params`]
    if (params !== undefined && !isObject(params)) {
      problems.push(wrong(`/input/${step.key}_params`, 'type', `${step.key}_params must be an object`))
      return []
    }
    if (!model) return []
    return [planStep(step, index, model, params ?? {}, problems)]
  })
  return problems.length > 0 ? { ok: false, problems } : { ok: true, steps }
}

function planStep(step: ChainStep, index: number, model: Model, params: JsonObject, problems: Problem[]): PlannedStep {
  const base = `/input/${step.key}_params`
  const wired = step.dependsOn.length > 0
  const found = model.validate(params, { role: step.role, wired })
  for (const problem of found) problems.push({ ...problem, pointer: base + problem.pointer })
  const pictures = found.length > 0 ? [] : model.pictures(params, wired)
  checkPictures(step, model, pictures, base, wired, problems)
  const usual = Math.min(STEP_DEADLINE.max, Math.max(STEP_DEADLINE.min, model.expectedMs * STEP_DEADLINE.times))
  const allowed = found.length > 0 ? 0 : (model.allowedMs?.(params) ?? 0)
  return {
    index,
    key: step.key,
    role: step.role,
    kind: KIND_OF[step.role],
    model: model.id,
    params,
    dependsOn: step.dependsOn,
    pictures: pictures.map(picture => picture.value),
    pictureShapes: pictures.map(() => []),
    deadlineMs: Math.max(usual, allowed),
  }
}

type Picture = ReturnType<Model['pictures']>[number]

function checkPictures(
  step: ChainStep,
  model: Model,
  pictures: Picture[],
  base: string,
  wired: boolean,
  problems: Problem[],
): void {
  for (const picture of pictures) {
    const pointer = base + picture.pointer
    if (step.role === 'text_to_image') {
      problems.push(
        wrong(
          pointer,
          'picture_not_taken',
          'a text_to_image step takes no input picture',
          'Use chain202, whose first step is image_to_image.',
        ),
      )
    } else if (wired && picture.slot === 'first') {
      problems.push(
        wrong(
          pointer,
          'picture_is_wired',
          `this picture comes from the step ${step.dependsOn.join(', ')}; do not give it`,
          picture.or === undefined ? 'Remove the field.' : `Remove the field, or ${picture.or}.`,
        ),
      )
    } else if (!isPictureRef(picture.value)) {
      problems.push(
        wrong(
          pointer,
          'picture_reference',
          'an input picture is an https URL, a data:image/… URI or media:{id}',
          'Upload it with POST /api/v1/media and give media:{id}.',
        ),
      )
    }
  }
  const needsPicture =
    step.role !== 'text_to_image' && !wired && problems.every(problem => !problem.pointer.startsWith(base))
  if (needsPicture && !pictures.some(picture => picture.slot === 'first')) {
    problems.push(
      wrong(
        base + model.pictureField,
        'picture_required',
        `${step.key} needs an input picture in ${model.pictureField}`,
        'Give an https URL, or upload the picture with POST /api/v1/media and give media:{id}.',
      ),
    )
  }
}

function chooseModel(
  step: ChainStep,
  named: JsonObject,
  complete: boolean,
  catalog: Catalog,
  problems: Problem[],
): Model | null {
  const field = `${step.key}_model`
  const pointer = `/input/chain_models/${field}`
  const id = named[field]
  if (typeof id !== 'string') {
    if (complete) problems.push(wrong(pointer, 'required', `${field} must name a model`, modelHint(step.role, catalog)))
    return null
  }
  const model = catalog.find(id)
  if (!model) {
    problems.push(
      wrong(
        pointer,
        'unknown_model',
        `there is no model ${JSON.stringify(id.slice(0, 80))}`,
        modelHint(step.role, catalog),
      ),
    )
    return null
  }
  if (!model.roles.includes(step.role)) {
    problems.push(wrong(pointer, 'model_role', `${model.id} cannot do ${step.role}`, modelHint(step.role, catalog)))
    return null
  }
  return model
}

function refuseUnknown(chain: Chain, input: JsonObject, named: JsonObject, problems: Problem[]): void {
  const fields = ['chain_models', ...chain.steps.map(step => `${step.key}_params`)]
  const models = chain.steps.map(step => `${step.key}_model`)
  const unknown = [...unknownFields('/input', input, fields), ...unknownFields('/input/chain_models', named, models)]
  // One by one: a call takes not as many arguments as a body has fields.
  for (const problem of unknown) problems.push(problem)
}

/** As many mistakes as an answer tells: more nobody mends in one go, and a megabyte of them must not become ten of answer. */
export const MOST_TOLD = 100

/** Every field of an object that nobody reads. Those past `MOST_TOLD` only count: one problem stands for each of them. */
export function unknownFields(base: string, value: JsonObject, known: readonly string[]): Problem[] {
  const unknown = Object.keys(value).filter(key => !known.includes(key))
  const other = wrong(base, 'unknown_field', 'one more unknown field')
  return unknown.map((key, i) => (i < MOST_TOLD ? unknownField(base, key, known) : other))
}

/** Refuses a field that nobody reads: a typo must not spend money. `advice` is given in place of the nearest known field. */
export function unknownField(base: string, key: string, known: readonly string[], advice?: string): Problem {
  const near = advice === undefined ? nearest(key, known) : undefined
  const first = advice ?? (near === undefined ? '' : `Did you mean ${near}?`)
  return wrong(
    `${base}/${escapePointer(key)}`,
    'unknown_field',
    `unknown field ${JSON.stringify(key.slice(0, 80))}`,
    `${first} Known fields: ${known.join(', ')}.`.trim(),
  )
}

/** RFC 6901: `~` and `/` in a key are escaped; long keys are cut, since they come from strangers. */
export function escapePointer(key: string): string {
  return key.slice(0, 80).replaceAll('~', '~0').replaceAll('/', '~1')
}

function wrong(pointer: string, code: string, detail: string, hint?: string): Problem {
  return hint === undefined ? { pointer, code, detail } : { pointer, code, detail, hint }
}

function exampleHint(chain: Chain): string {
  return `${chain.slug} takes chain_models with ${chain.steps.map(step => `${step.key}_model`).join(', ')}, and ${chain.steps.map(step => `${step.key}_params`).join(', ')}.`
}

function modelHint(role: Role, catalog: Catalog): string {
  const ids = catalog
    .all()
    .filter(model => model.roles.includes(role))
    .map(model => model.id)
  const more = ids.length > 8 ? ` and ${ids.length - 8} more in GET /api/v1/models` : ''
  return `Models for ${role}: ${ids.slice(0, 8).join(', ')}${more}.`
}

/** True for what a caller may give as a picture; whether it can be fetched shows later. */
export function isPictureRef(value: string): boolean {
  return (
    /^https?:\/\//i.test(value) ||
    /^data:image\/(png|jpeg|webp);base64,/i.test(value) ||
    /^media:[0-9a-f-]{36}$/.test(value)
  )
}
