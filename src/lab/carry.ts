/** What goes along when the model of a step is changed: the prompt, the picture, and every field that fits. */
import type { ModelDto } from '../http/dto/catalog.ts'
import {
  at,
  firstParams,
  isPicture,
  type Json,
  type Params,
  type Path,
  promptPath,
  type Schema,
  sample,
  withAt,
} from './schema.ts'

export type Shape = Pick<ModelDto, 'params_schema' | 'picture_field'>

export interface Setting {
  /** Stands in where nothing is said. */
  prompt: string
  /** A step before gives the first picture: those of the caller follow it, in a list. */
  wired: boolean
}

/** The params for `to`, from those that were written for `from` (null: none). */
export function carryOver(from: Shape | null, params: Params, to: Shape, { prompt, wired }: Setting): Params {
  const schema = to.params_schema as Schema
  const path = from && promptPath(from.params_schema as Schema)
  const said = path ? at(params, path) : undefined
  const next = firstParams(schema, typeof said === 'string' && said !== '' ? said : prompt)
  for (const [key, value] of Object.entries(params)) {
    const field = schema.properties?.[key]
    if (field && accepts(field, value)) next[key] = value
  }
  return from ? withPictures(next, to, picturesOf(params, from), wired) : next
}

function picturesOf(params: Params, { params_schema, picture_field }: Shape): string[] {
  const place = placeOf(params_schema as Schema, picture_field)
  const value = place && at(params, place.path)
  return [value ?? []].flat().filter((each): each is string => typeof each === 'string' && each !== '')
}

function withPictures(params: Params, to: Shape, pictures: readonly string[], wired: boolean): Params {
  const place = placeOf(to.params_schema as Schema, to.picture_field)
  const [first] = pictures
  if (!place || !first || at(params, place.path) !== undefined) return params
  const forms: Json[] = pictures.length > 1 || wired ? [[...pictures], [first]] : [[first]]
  if (!wired) forms.splice(pictures.length > 1 ? 1 : 0, 0, first)
  const value = forms.find(each => accepts(place.schema, each))
  if (value === undefined) return params
  // A part of a list has more than its picture: what it requires is made first.
  const begun = place.part ? withAt(params, place.path.slice(0, -1), sample(place.part)) : params
  return withAt(begun, place.path, value) as Params
}

interface Place {
  path: Path
  schema: Schema
  part?: Schema
}

/** Where the first picture stands: the field itself, inside of an object, or in the parts of a list of one kind. */
function placeOf(schema: Schema, pointer: string): Place | null {
  const path = pointer.split('/').slice(1)
  const field = path.reduce<Schema | undefined>((inner, key) => inner?.properties?.[key], schema)
  if (!field) return null
  if (isPicture(field)) return { path, schema: field }
  const part = field.items
  const inner = Object.entries(part?.properties ?? {}).find(([, each]) => isPicture(each))
  return part && inner ? { path: [...path, 0, inner[0]], schema: inner[1], part } : null
}

/** Whether a value is right by its schema alone; rules over several fields are the server's. */
function accepts(schema: Schema, value: Json): boolean {
  if (schema.const !== undefined) return schema.const === value
  if (schema.enum) return schema.enum.includes(value)
  if (schema.anyOf) return schema.anyOf.some(each => accepts(each, value))
  switch (schema.type) {
    case 'string':
      return typeof value === 'string' && acceptsText(schema, value)
    case 'integer':
    case 'number':
      return typeof value === 'number' && acceptsNumber(schema, value)
    case 'boolean':
      return typeof value === 'boolean'
    case 'array':
      return (
        Array.isArray(value) &&
        within(value.length, schema.minItems, schema.maxItems) &&
        value.every(item => accepts(schema.items ?? {}, item))
      )
    case 'object':
      return typeof value === 'object' && value !== null && !Array.isArray(value) && acceptsObject(schema, value)
    default:
      return true
  }
}

function acceptsText({ minLength, maxLength, pattern }: Schema, value: string): boolean {
  return within(value.length, minLength, maxLength) && (pattern === undefined || new RegExp(pattern, 'u').test(value))
}

function acceptsNumber({ type, minimum, maximum, multipleOf }: Schema, value: number): boolean {
  if (type === 'integer' && !Number.isInteger(value)) return false
  const steps = multipleOf ? value / multipleOf : 0
  return within(value, minimum, maximum) && Math.abs(steps - Math.round(steps)) < 1e-9
}

function acceptsObject({ properties, required = [] }: Schema, value: Params): boolean {
  if (!properties) return true
  return (
    required.every(key => value[key] !== undefined) &&
    Object.entries(value).every(([key, inner]) => properties[key] !== undefined && accepts(properties[key], inner))
  )
}

const within = (n: number, min = -Infinity, max = Infinity): boolean => n >= min && n <= max
