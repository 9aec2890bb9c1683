/** What the Lab reads out of a model's JSON Schema: where the prompt stands, what a first form holds, what comes first. */
import type { ModelDto } from '../http/dto/catalog.ts'

export type Json = null | boolean | number | string | Json[] | { [key: string]: Json }
export type Params = { [key: string]: Json }

export interface Schema {
  type?: string
  title?: string
  description?: string
  format?: string
  enum?: Json[]
  const?: Json
  default?: Json
  examples?: Json[]
  minimum?: number
  maximum?: number
  multipleOf?: number
  minLength?: number
  maxLength?: number
  pattern?: string
  minItems?: number
  maxItems?: number
  properties?: Record<string, Schema>
  required?: string[]
  items?: Schema
  anyOf?: Schema[]
}

/** A path into params, such as ['content', 0, 'text']. */
export type Path = readonly (string | number)[]

const isObject = (value: Json | undefined): value is Params =>
  typeof value === 'object' && value !== null && !Array.isArray(value)

export function at(value: Json | undefined, path: Path): Json | undefined {
  return path.reduce<Json | undefined>((inner, key) => {
    if (Array.isArray(inner)) return inner[Number(key)]
    return isObject(inner) ? inner[String(key)] : undefined
  }, value)
}

/** A copy with the value at the path; undefined removes it. */
export function withAt(value: Json | undefined, path: Path, next: Json | undefined): Json | undefined {
  const [key, ...rest] = path
  if (key === undefined) return next
  if (typeof key === 'number') {
    const copy = Array.isArray(value) ? [...value] : []
    const inner = withAt(copy[key], rest, next)
    if (inner === undefined) copy.splice(key, 1)
    else copy[key] = inner
    return copy
  }
  const copy = isObject(value) ? { ...value } : {}
  const inner = withAt(copy[key], rest, next)
  if (inner === undefined) delete copy[key]
  else copy[key] = inner
  return copy
}

/** Where the text that steers the model stands. */
export function promptPath(schema: Schema, path: Path = []): Path | null {
  if (schema.format === 'textarea' && !String(path.at(-1) ?? '').includes('negative')) return path
  for (const [key, inner] of Object.entries(schema.properties ?? {})) {
    const found = promptPath(inner, [...path, key])
    if (found) return found
  }
  for (const inner of schema.anyOf ?? []) {
    const found = promptPath(inner, path)
    if (found) return found
  }
  return schema.items ? promptPath(schema.items, [...path, 0]) : null
}

/** The smallest value that fits: what is required, with defaults and examples. */
export function sample(schema: Schema): Json {
  if (schema.const !== undefined) return schema.const
  if (schema.default !== undefined) return schema.default
  if (schema.enum?.[0] !== undefined) return schema.enum[0]
  const first = schema.anyOf?.[0]
  if (first) return sample(first)
  switch (schema.type) {
    case 'object': {
      const required = schema.required ?? []
      return Object.fromEntries(required.map(key => [key, sample(schema.properties?.[key] ?? {})]))
    }
    case 'array':
      return schema.items && (schema.minItems ?? 0) > 0 ? [sample(schema.items)] : []
    case 'integer':
    case 'number':
      return (schema.examples?.[0] as number | undefined) ?? schema.minimum ?? 0
    case 'boolean':
      return false
    default:
      return ''
  }
}

/** What a new form says where the model has the field: a square picture, a short film, the same again next time. */
const START: Readonly<Record<string, Json>> = { width: 1024, height: 1024, ratio: '1:1', duration: 5, seed: 593 }

/** The first params of a model: what it requires, a few good values, and the prompt that was there before. */
export function firstParams(schema: Schema, prompt: string): Params {
  let params = sample(schema) as Params
  for (const [key, value] of Object.entries(START)) {
    const field = schema.properties?.[key]
    if (field && fits(field, value)) params[key] = value
  }
  const path = promptPath(schema)
  if (path) params = withPrompt(schema, params, path, prompt)
  return params
}

function withPrompt(schema: Schema, params: Params, path: Path, prompt: string): Params {
  const list = path.indexOf(0)
  if (list < 0) return withAt(params, path, prompt) as Params
  // A list of parts of several kinds: the part that holds text is made whole first.
  const items = path.slice(0, list).reduce<Schema | undefined>((inner, key) => inner?.properties?.[key], schema)?.items
  const part = items?.anyOf?.find(each => promptPath(each)) ?? items
  const begun = part ? withAt(params, path.slice(0, list + 1), sample(part)) : params
  return withAt(begun, path, prompt) as Params
}

function fits(field: Schema, value: Json): boolean {
  if (field.enum) return field.enum.includes(value)
  if (typeof value !== 'number' || (field.type !== 'integer' && field.type !== 'number')) return false
  return value >= (field.minimum ?? -Infinity) && value <= (field.maximum ?? Infinity)
}

/** Fields that most people set; the others wait behind one click. */
const COMMON =
  /^(prompt|prompt_?text|content|width|height|size|ratio|aspect_?ratio|duration|seconds|resolution|quality|seed|image|input_image|img_url|prompt_?image|image_prompt)$/i

export function isCommon(key: string, schema: Schema): boolean {
  return COMMON.test(key) || (schema.required?.includes(key) ?? false)
}

/** Whether a picture alone goes here (a link, `media:…`, or a list of them). */
export function isPicture(schema: Schema): boolean {
  if (schema.format === 'picture') return true
  if (schema.anyOf) return schema.anyOf.every(isPicture)
  return schema.items ? isPicture(schema.items) : false
}

/** How many pictures go here. */
export function picturesAt(schema: Schema): number {
  const list = [schema, ...(schema.anyOf ?? [])].find(each => each.type === 'array')
  return list ? (list.maxItems ?? 20) : 1
}

/** More than these are no choice any more. */
const MOST_CHOICES = 60

/** What can be chosen from: the words of an enum, or words and a few whole numbers. */
export function choicesOf(schema: Schema): readonly Json[] | null {
  if (schema.enum) return schema.enum
  const { type, minimum: min, maximum: max, multipleOf: step = 1, anyOf } = schema
  if (anyOf) {
    const all = anyOf.map(each => (each.enum || each.type === 'integer' ? choicesOf(each) : null))
    return all.every(each => each !== null) ? all.flat() : null
  }
  if (type !== 'integer' || min === undefined || max === undefined || (max - min) / step > MOST_CHOICES) return null
  const from = Math.ceil(min / step)
  return Array.from({ length: Math.floor(max / step) - from + 1 }, (_, i) => (from + i) * step)
}

export function labelOf(key: string, schema: Schema): string {
  return schema.title ?? key.replaceAll('_', ' ')
}

/** The field for the picture of a step before; null where that is no field of its own, but a part of a list. */
export function pictureField({ params_schema, picture_field }: Pick<ModelDto, 'params_schema' | 'picture_field'>) {
  const name = picture_field.split('/')[1] ?? ''
  const field = (params_schema as Schema).properties?.[name]
  return field && isPicture(field) ? name : null
}
