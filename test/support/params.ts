/**
 * Valid parameters for any model of the catalogue, made from its JSON Schema with fast-check.
 *
 * 1. What comes out passes the model's own `validate`, and stands as the caller would give it in that role.
 * 2. Fields that a rule over several fields refuses are taken out again, so that generating never loops.
 */
import fc from 'fast-check'
import type { Json, JsonObject } from '../../src/core/json.ts'
import type { Model, Role } from '../../src/core/model.ts'

/** How a step stands in its chain. */
export interface Use {
  role: Role
  /** A step before gives the first picture. */
  wired: boolean
}

export interface Call extends Use {
  params: JsonObject
  /** What `translate` gets: the wired picture first, then the caller's own. */
  pictures: string[]
}

/** The two forms in which a provider may read a picture. */
const REFERENCE = {
  url: (i: number): string => `https://media.example.org/${i}.png`,
  data: (i: number): string => `data:image/png;base64,iVBORw0KGgo${'ABCDEFGHIJKLMNOPQRST'[i] ?? 'Z'}`,
}

/** References to pictures, all different. */
export function picturesAs(as: keyof typeof REFERENCE, count: number): string[] {
  return Array.from({ length: count }, (_, i) => REFERENCE[as](i))
}

/** Every way in which a step of this model may stand in a chain. */
function usesOf(model: Model): Use[] {
  return model.roles.flatMap((role): Use[] => {
    if (role === 'text_to_image') return [{ role, wired: false }]
    return role === 'image_to_image'
      ? [
          { role, wired: false },
          { role, wired: true },
        ]
      : [{ role, wired: true }]
  })
}

/** A call that the engine could make of a model, with its pictures as links or as data URIs. */
export function arbitraryCall(model: Model, as: keyof typeof REFERENCE = 'url'): fc.Arbitrary<Call> {
  return fc
    .constantFrom(...usesOf(model))
    .chain(use => arbitraryParams(model, use).map(params => callOf(model, params, use, as)))
}

/**
 * The plainest call of every use, with one field more: each of its fields at each end of its range or at each choice.
 * A drawn call gives many fields at once, and most hosts refuse one of them; these reach every host that takes the field.
 */
export function edgeCalls(model: Model): Call[] {
  const plain = smallest(model.schema, false) as JsonObject
  const fields = Object.entries(model.schema.properties as Record<string, JsonObject>)
  const edges = fields.flatMap(([name, field]) => edgesOf(field).map(edge => ({ ...plain, [name]: edge })))
  return usesOf(model).flatMap(use => edges.map(params => callOf(model, tailor(model, params, use), use, 'url')))
}

function callOf(model: Model, params: JsonObject, use: Use, as: keyof typeof REFERENCE): Call {
  const count = model.pictures(params).length + (use.wired ? 1 : 0)
  return { params, ...use, pictures: picturesAs(as, count) }
}

/** The ends of a range, every choice, both switches; else the smallest value. */
function edgesOf(schema: JsonObject): Json[] {
  if (Array.isArray(schema.anyOf)) return (schema.anyOf as JsonObject[]).flatMap(edgesOf)
  if (Array.isArray(schema.enum)) return schema.enum
  if (schema.type === 'boolean') return [false, true]
  const ends = [schema.minimum, schema.maximum].filter(end => end !== undefined)
  return ends.length > 0 ? ends : [smallest(schema, true)]
}

/** Parameters that `validate` accepts and that hold the pictures which this use needs, no more. */
export function arbitraryParams(model: Model, use: Use): fc.Arbitrary<JsonObject> {
  return arbitraryOf(model.schema).map(made => tailor(model, made as JsonObject, use))
}

/** Any value that a schema accepts, mostly. */
export function arbitraryOf(schema: JsonObject): fc.Arbitrary<Json> {
  if (Array.isArray(schema.anyOf)) return fc.oneof(...(schema.anyOf as JsonObject[]).map(arbitraryOf))
  if (schema.const !== undefined) return fc.constant(schema.const)
  if (Array.isArray(schema.enum)) return fc.constantFrom(...schema.enum)
  switch (schema.type) {
    case 'boolean':
      return fc.boolean()
    case 'integer':
      return arbitraryInteger(schema)
    case 'number':
      return fc
        .integer({ min: numberOf(schema.minimum, 0) * 10, max: numberOf(schema.maximum, 100) * 10 })
        .map(tenths => tenths / 10)
    case 'array':
      return fc.array(arbitraryOf(schema.items as JsonObject), {
        minLength: numberOf(schema.minItems, 0),
        maxLength: Math.min(4, numberOf(schema.maxItems, 4)),
      })
    case 'object':
      return arbitraryObject(schema)
    default:
      return arbitraryText(schema)
  }
}

function arbitraryInteger(schema: JsonObject): fc.Arbitrary<number> {
  const step = numberOf(schema.multipleOf, 1)
  const min = Math.ceil(numberOf(schema.minimum, 0) / step)
  const max = Math.floor(numberOf(schema.maximum, 2_048) / step)
  return fc.integer({ min, max }).map(times => times * step)
}

function arbitraryText(schema: JsonObject): fc.Arbitrary<string> {
  if (schema.format === 'picture') {
    const given = [
      'https://cdn.example.org/a.png',
      'https://cdn.example.org/b.jpg',
      'data:image/png;base64,iVBORw0KGgo=',
    ]
    return fc.constantFrom(...given, 'media:0190c0de-0000-7000-8000-000000000000')
  }
  const examples = Array.isArray(schema.examples) ? schema.examples.map(String) : []
  const made =
    typeof schema.pattern === 'string'
      ? fc.stringMatching(
          new RegExp(schema.pattern === '^https?://' ? '^https://[a-z]{3,9}\\.org/[a-z]{1,9}$' : schema.pattern),
        )
      : fc.string({
          minLength: Math.max(1, numberOf(schema.minLength, 0)),
          maxLength: Math.min(40, numberOf(schema.maxLength, 40)),
        })
  return examples.length > 0 ? fc.oneof({ weight: 2, arbitrary: fc.constantFrom(...examples) }, made) : made
}

function arbitraryObject(schema: JsonObject): fc.Arbitrary<JsonObject> {
  const properties = schema.properties as Record<string, JsonObject>
  const required = Array.isArray(schema.required) ? schema.required.map(String) : []
  const fields = Object.fromEntries(Object.entries(properties).map(([name, field]) => [name, arbitraryOf(field)]))
  return fc.record(fields, { requiredKeys: required })
}

/** Takes out what does not fit: pictures that this use may not have, then whatever `validate` names. */
function tailor(model: Model, made: JsonObject, use: Use): JsonObject {
  let params = made
  for (let round = 0; round < 40; round++) {
    const wrong = pointersToDrop(model, params, use)
    if (wrong.length === 0) return params
    params = drop(params, wrong, model.schema)
  }
  throw new Error(`no valid parameters for ${model.id}: ${JSON.stringify(model.validate(params, use))}`)
}

function pointersToDrop(model: Model, params: JsonObject, use: Use): string[] {
  const pictures = model.pictures(params, use.wired)
  const unfit = pictures.filter(one => use.role === 'text_to_image' || (use.wired && one.slot === 'first'))
  if (unfit.length > 0) return unfit.slice(-1).map(one => one.pointer)
  const problems = model.validate(params, use)
  if (problems.length > 0) return problems.slice(0, 1).map(problem => problem.pointer)
  const needsPicture = use.role !== 'text_to_image' && !use.wired
  return needsPicture && !pictures.some(one => one.slot === 'first') ? [`+${model.pictureField}`] : []
}

/** Without the list item or the field that a pointer is in; a required field gets its smallest value back. */
function drop(params: JsonObject, pointers: readonly string[], schema: JsonObject): JsonObject {
  const [pointer = ''] = pointers
  const properties = schema.properties as Record<string, JsonObject>
  const [, name = '', second] = pointer.split('/')
  const field = properties[name] ?? {}
  if (pointer.startsWith('+')) return { ...params, [name]: smallest(field, true) }
  const value = params[name]
  const isRequired = Array.isArray(schema.required) && schema.required.includes(name)
  if (Array.isArray(value) && second !== undefined && value.length > 1) {
    return { ...params, [name]: value.filter((_, i) => String(i) !== second) }
  }
  if (isRequired) return { ...params, [name]: smallest(field, false) }
  const { [name]: _, ...rest } = params
  return Object.keys(rest).length === Object.keys(params).length ? smallestParams(rest, schema) : rest
}

/** A problem without a field of its own: start again from what is required. */
function smallestParams(params: JsonObject, schema: JsonObject): JsonObject {
  const required = Array.isArray(schema.required) ? schema.required.map(String) : []
  return Object.fromEntries(Object.entries(params).filter(([name]) => required.includes(name)))
}

/** The smallest value of a schema, with its pictures where they are wanted. */
export function smallest(schema: JsonObject, withPictures: boolean): Json {
  if (Array.isArray(schema.anyOf)) return smallest(schema.anyOf[0] as JsonObject, withPictures)
  if (schema.const !== undefined) return schema.const
  if (Array.isArray(schema.enum)) return schema.enum[0] ?? null
  switch (schema.type) {
    case 'boolean':
      return false
    case 'integer':
    case 'number':
      return numberOf(schema.default, numberOf(schema.minimum, 0))
    case 'array':
      return [smallest(schema.items as JsonObject, withPictures)]
    case 'object': {
      const properties = schema.properties as Record<string, JsonObject>
      const required = Array.isArray(schema.required) ? schema.required.map(String) : []
      const wanted = Object.entries(properties).filter(
        ([name, field]) => required.includes(name) || (withPictures && field.format === 'picture'),
      )
      return Object.fromEntries(wanted.map(([name, field]) => [name, smallest(field, withPictures)]))
    }
    default:
      if (schema.format === 'picture') return 'https://cdn.example.org/a.png'
      return Array.isArray(schema.examples) ? String(schema.examples[0]) : 'a red boat'
  }
}

const numberOf = (value: Json | undefined, standard: number): number => (typeof value === 'number' ? value : standard)
