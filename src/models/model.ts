/**
 * How a model of the catalogue is written down.
 *
 * 1. Parameters have their maker's own names, ranges and defaults (providers.md). The envelope of a maker's request
 *    (`input`, `parameters`, `instances`, `generationConfig`) is no parameter: its leaves are, under their own names.
 * 2. Pure data and pure functions; nothing here throws for any parameters that `validate` accepts.
 * 3. The first route is the maker's own API where an adapter speaks it, then other hosts.
 * 4. Transport is the adapter's: webhook addresses, keys, the model's place in the path or the body.
 * 5. A route costs what is really made there: its price, and the size of its picture, are those of the parameters as its
 *    translation changes them.
 *
 * What `translate` gives to which adapter:
 *
 * | provider  | providerModel                              | body                                                         |
 * |-----------|--------------------------------------------|--------------------------------------------------------------|
 * | bfl       | endpoint behind /v1/ (`flux-2-flex`)        | the JSON body; pictures as https URL or raw base64           |
 * | byteplus  | model id (`seedream-4-5-251128`)            | the JSON body without `model`; images and video tasks        |
 * | fal       | full endpoint id (`fal-ai/flux-2-flex/edit`)| the model input                                              |
 * | replicate | `owner/name`                                | the content of `input`                                       |
 * | openai    | model id                                    | fields of /images/generations without `model`; for an edit   |
 * |           |                                             | also `images` (references) and perhaps `mask` (a reference)  |
 * | google    | model id                                    | images: the generateContent body, pictures as `inlineData`;  |
 * |           |                                             | Veo: the predictLongRunning body. Needs data URIs.           |
 * | runway    | model id                                    | the JSON body without `model`; the endpoint follows the role |
 * |           |                                             | (image_to_video, else text_to_image)                         |
 * | dashscope | model id                                    | `{ input, parameters }` without `model`. `input.messages`    |
 * |           |                                             | means multimodal-generation (synchronous); else the role     |
 * |           |                                             | decides: video-synthesis, text2image, image2image            |
 * | comfyui   | name of the workflow file                  | values for its placeholders; pictures are `image`, `image_2` |
 */
import type { Problem } from '../core/errors.ts'
import { isObject, type Json, type JsonObject } from '../core/json.ts'
import type { Known, Model, PictureLimits, Quote, Role, Route, Shape, StepKind, Translation } from '../core/model.ts'
import { roundUsd } from '../core/money.ts'
import { SAMPLE } from '../core/offers.ts'
import { check } from './check.ts'
import { Draft, type Input, type Ref, type Slot } from './draft.ts'
import { defaultsOf } from './fields.ts'

export type Price = (params: JsonObject, call: Call) => Quote

/** A call as its price sees it. */
export interface Call {
  /** Every picture that it reads, the first one first, each with the shapes that it may have: none where nobody knows it. */
  pictures: readonly (readonly Shape[])[]
  /** What the provider says that it made, in the units that it bills by. */
  counted?: number
}

export interface RouteSpec {
  provider: string
  providerModel: string
  write(draft: Draft): void
  /** Pictures must be in the request itself. */
  inline?: boolean
  pictureLimits?: PictureLimits
  /** Where it is not the model's. */
  shape?(params: JsonObject, role: Role): Shape | null
  price?: Price
}

export interface PictureField {
  name: string
  /**
   * What its picture is for; in a list with slot `first` only the first one is that, the others are references. Where a
   * step before gives the first picture, all of the list are references and come after it.
   */
  slot: Slot
  /** Where the picture stands in an item of the list, when items are objects. */
  at?: string
}

export type Use = { role: Role; wired: boolean }
/** Tells a problem of several fields together. */
export type Tell = (pointer: string, code: string, detail: string, hint?: string) => void

export interface ModelSpec {
  id: string
  title: string
  gives: StepKind
  roles: readonly Role[]
  params: JsonObject
  /** The fields that hold pictures, the first picture's first: a picture each, or a list. */
  pictures: readonly PictureField[]
  /** The pictures that the caller gave, in the maker's order, where they do not stand in such fields. */
  inputs?(params: JsonObject): Input[]
  /** Rules over several fields. They see only fields that are right by themselves. */
  rules?: (params: JsonObject, tell: Tell, use: Use) => void
  /** Advice for names that other makers use (`aspect_ratio: 'Give width and height.'`). */
  aliases?: Readonly<Record<string, string>>
  /** What parameters, with their defaults, ask the picture to be; null where they leave it to the model. */
  shape?(params: JsonObject, role: Role): Shape | null
  price: Price
  expectedMs: number
  /** How long the parameters allow a call to take, where some say so (milliseconds). */
  allowedMs?(params: JsonObject): number
  routes: readonly RouteSpec[]
}

export function defineModel(spec: ModelSpec): Model {
  const defaults = defaultsOf(spec.params)
  const price =
    (rule: Price) =>
    (params: JsonObject, role: Role, known: Known = {}): Quote =>
      rounded(rule({ ...defaults, ...params }, callOf(spec, params, role, known)))
  return {
    id: spec.id,
    title: spec.title,
    gives: spec.gives,
    roles: spec.roles,
    schema: { $schema: 'https://json-schema.org/draft/2020-12/schema', title: spec.title, ...spec.params },
    pictureField: `/${spec.pictures[0]?.name ?? 'prompt'}`,
    expectedMs: spec.expectedMs,
    ...(spec.allowedMs ? { allowedMs: spec.allowedMs } : {}),
    validate: (params, use) => validate(spec, params, use),
    pictures: (params, wired = false) =>
      ordered(spec, params, wired).map(({ pointer, value, slot }) => ({
        pointer,
        value,
        slot: slot === 'first' ? ('first' as const) : ('other' as const),
        ...(slot === 'first' && listOf(spec, pointer.slice(1)) ? { or: 'give it in a list, as a further one' } : {}),
      })),
    price: price(spec.price),
    routes: spec.routes.map((route): Route => {
      const shape = route.shape ?? spec.shape
      return {
        provider: route.provider,
        providerModel: route.providerModel,
        translate: (params, use) => translate(spec, route, params, use),
        ...(route.inline ? { inline: true } : {}),
        ...(route.pictureLimits ? { pictureLimits: route.pictureLimits } : {}),
        price: (params, role, known) =>
          price(route.price ?? spec.price)(doneAt(spec, route, params, role), role, known),
        ...(shape
          ? { shape: (params, role) => shape({ ...defaults, ...doneAt(spec, route, params, role) }, role) }
          : {}),
      }
    }),
  }
}

function rounded(quote: Quote): Quote {
  return quote !== null && typeof quote === 'object' ? { atMost: roundUsd(quote.atMost) } : roundUsd(quote)
}

function callOf(spec: ModelSpec, params: JsonObject, role: Role, { incoming = [], given = [], counted }: Known): Call {
  const inputs = ordered(spec, params, incoming.length > 0)
  const own = inputs.map((_, i) => given[i] ?? [])
  const lacking = pictureCount(inputs, role, incoming.length) - incoming.length - own.length
  const first = [...incoming, ...new Array<readonly Shape[]>(lacking).fill([])]
  return { pictures: [...first, ...own], ...(counted === undefined ? {} : { counted }) }
}

function validate(spec: ModelSpec, params: JsonObject, use: Use): Problem[] {
  const problems = check(spec.params, params, spec.aliases)
  if (use.wired) problems.push(...crowded(spec, params))
  if (!spec.rules) return problems
  const wrong = new Set(problems.map(problem => problem.pointer.split('/')[1]))
  const sound = Object.fromEntries(Object.entries(params).filter(([name]) => !wrong.has(name)))
  spec.rules(
    sound,
    (pointer, code, detail, hint) => {
      problems.push(hint === undefined ? { pointer, code, detail } : { pointer, code, detail, hint })
    },
    use,
  )
  return problems
}

/** The picture of a step before is one of the model's: a list that is full without it is too long by one. */
function crowded(spec: ModelSpec, params: JsonObject): Problem[] {
  if (spec.inputs) return []
  return spec.pictures.flatMap(({ name, slot }): Problem[] => {
    const most = listOf(spec, name)?.maxItems
    const given = params[name]
    if (slot !== 'first' || !Array.isArray(given) || given.length !== most) return []
    const detail = `${name} takes at most ${most - 1} pictures beside the one from the step before`
    return [{ pointer: `/${name}`, code: 'length', detail, hint: 'Leave one out.' }]
  })
}

/** The list that a field takes, perhaps beside something else. */
function listOf(spec: ModelSpec, name: string): { maxItems?: Json } | undefined {
  const field = (spec.params.properties as Record<string, JsonObject | undefined>)[name]
  const variants = [field, ...((field?.anyOf ?? []) as JsonObject[])]
  return variants.find(variant => variant?.type === 'array')
}

/** The first picture first, the others in the maker's order. */
function ordered(spec: ModelSpec, params: JsonObject, wired: boolean): Input[] {
  const inputs = spec.inputs ? spec.inputs(params) : inputsIn(spec.pictures, params, wired)
  return [...inputs.filter(input => input.slot === 'first'), ...inputs.filter(input => input.slot !== 'first')]
}

/** The pictures in some fields. `wired`: a step before gives the first one. */
export function inputsIn(fields: readonly PictureField[], params: JsonObject, wired = false): Input[] {
  return fields.flatMap(({ name, slot, at }): Input[] => {
    const value = params[name]
    if (typeof value === 'string') return [{ pointer: `/${name}`, value, slot }]
    if (!Array.isArray(value)) return []
    return value.flatMap((item, i): Input[] => {
      const place = slot === 'first' && (wired || i > 0) ? 'reference' : slot
      const picture = at === undefined ? item : isObject(item) ? item[at] : undefined
      const pointer = `/${name}/${i}${at === undefined ? '' : `/${at}`}`
      return typeof picture === 'string' ? [{ pointer, value: picture, slot: place }] : []
    })
  })
}

function translate(
  spec: ModelSpec,
  route: RouteSpec,
  params: JsonObject,
  use: { role: Role; pictures: readonly string[] },
): Translation {
  const refs = match(ordered(spec, params, isWired(spec, params, use.pictures)), use.pictures)
  if (refs === null) return { ok: false, reason: 'the number of pictures does not fit the parameters' }
  if (use.role !== 'text_to_image' && refs.every(ref => ref.slot !== 'first')) {
    return { ok: false, reason: `${use.role} needs an input picture` }
  }
  return written(spec, route, params, use.role, refs).finish()
}

function written(spec: ModelSpec, route: RouteSpec, params: JsonObject, role: Role, refs: readonly Ref[]): Draft {
  const { provider, providerModel } = route
  const schema = spec.params
  const pictureFields = spec.inputs ? [] : spec.pictures.map(field => field.name)
  const draft = new Draft({ provider, providerModel, role, schema, params, refs, pictureFields })
  route.write(draft)
  return draft
}

/** The parameters as a route does them, before there is a picture. */
function doneAt(spec: ModelSpec, route: RouteSpec, params: JsonObject, role: Role): JsonObject {
  const inputs = ordered(spec, params, false)
  const pictures = new Array<string>(pictureCount(inputs, role)).fill(SAMPLE.url)
  return written(spec, route, params, role, match(inputs, pictures) ?? []).done()
}

/** More pictures than the caller gave: a step before gave one. */
function isWired(spec: ModelSpec, params: JsonObject, pictures: readonly string[]): boolean {
  return pictures.length > ordered(spec, params, false).length
}

/**
 * Which reference stands for which picture: those of the steps before come first and stand nowhere in the parameters.
 * The first of them is the first picture; a step that joins several steps reads the others as references.
 */
function match(inputs: readonly Input[], pictures: readonly string[]): Ref[] | null {
  const wired = pictures.length - inputs.length
  if (wired < 0 || (wired > 0 && inputs.some(input => input.slot === 'first'))) return null
  return pictures.map((ref, i): Ref => {
    const input = inputs[i - wired]
    if (input) return { slot: input.slot, ref, pointer: input.pointer }
    return { slot: i === 0 ? 'first' : 'reference', ref, pointer: null }
  })
}

/** Pictures that a call reads: those that the caller gave, and the `wired` ones of steps before, or the one that it lacks. */
function pictureCount(inputs: readonly Input[], role: Role, wired = 0): number {
  const lacks = role !== 'text_to_image' && !inputs.some(input => input.slot === 'first')
  return inputs.length + Math.max(wired, lacks ? 1 : 0)
}

/** For prices that are in none of our sources. */
export const unknownPrice: Price = () => null

export function numberIn(params: JsonObject, name: string): number | undefined {
  const value: Json | undefined = params[name]
  return typeof value === 'number' ? value : undefined
}

export function textIn(params: JsonObject, name: string): string | undefined {
  const value: Json | undefined = params[name]
  return typeof value === 'string' ? value : undefined
}
