/**
 * Checks a value against the part of JSON Schema that the catalogue uses, and says what is wrong in plain sentences.
 *
 * 1. It tells all problems at once, each with an RFC 6901 pointer and a hint that names the range or the nearest field.
 * 2. It accepts exactly what a standard validator accepts for these keywords; a test holds it against TypeBox.
 * 3. Text that no provider can store (NUL, lone surrogates) is refused wherever it stands.
 */
import { escapePointer, unknownField } from '../core/chain.ts'
import type { Problem } from '../core/errors.ts'
import { isObject, type Json, type JsonObject } from '../core/json.ts'
import { nearest } from '../core/nearest.ts'

/** Problems told about one step: more than this nobody mends in one go. */
const MOST_PROBLEMS = 64

/** All problems of a value. `aliases` maps a name that another maker uses to a sentence of advice. */
export function check(schema: JsonObject, value: Json, aliases: Readonly<Record<string, string>> = {}): Problem[] {
  const problems: Problem[] = []
  walk({ schema, value, pointer: '', name: 'params', aliases, problems })
  return problems.slice(0, MOST_PROBLEMS)
}

interface Spot {
  schema: JsonObject
  value: Json
  pointer: string
  /** The field's name, for sentences. */
  name: string
  aliases: Readonly<Record<string, string>>
  problems: Problem[]
}

function walk(spot: Spot): void {
  const { schema, value } = spot
  if (spot.problems.length >= MOST_PROBLEMS) return
  if (Array.isArray(schema.anyOf)) {
    walkUnion(spot, schema.anyOf as JsonObject[])
    return
  }
  if (schema.const !== undefined && value !== schema.const) {
    tell(spot, 'enum', `must be ${JSON.stringify(schema.const)}`)
    return
  }
  if (Array.isArray(schema.enum)) {
    checkEnum(spot, schema.enum)
    return
  }
  if (typeof schema.type === 'string' && !isType(schema.type, value)) {
    tell(spot, 'type', `must be ${article(schema.type)}`)
    return
  }
  if (typeof value === 'string') checkText(spot, value)
  else if (typeof value === 'number') checkNumber(spot, value)
  else if (Array.isArray(value)) checkArray(spot, value)
  else if (isObject(value)) checkObject(spot, value)
}

/** Takes the variant that the value means (by its JSON type, or by its `type` field) so that only its problems show. */
function walkUnion(spot: Spot, variants: JsonObject[]): void {
  const fits = variants.filter(variant => typeof variant.type !== 'string' || isType(variant.type, spot.value))
  const tagged = fits.filter(variant => tagOf(variant) === undefined || tagOf(variant) === tagIn(spot.value))
  const chosen = tagged.length > 0 ? tagged : []
  if (chosen.length === 1) {
    walk({ ...spot, schema: chosen[0] as JsonObject })
    return
  }
  if (chosen.some(variant => check(variant, spot.value).length === 0)) return
  if (chosen.length > 1) {
    walk({ ...spot, schema: chosen[0] as JsonObject })
    return
  }
  const tags = fits.map(tagOf).filter(tag => tag !== undefined)
  if (tags.length > 0) {
    const pointer = `${spot.pointer}/type`
    tell({ ...spot, pointer, name: 'type', schema: {} }, 'enum', `must be one of ${tags.join(', ')}`)
    return
  }
  tell(spot, 'type', `must be ${variants.map(variant => article(String(variant.type))).join(' or ')}`)
}

function tagOf(variant: JsonObject): Json | undefined {
  const properties = variant.properties
  const tag = isObject(properties) ? properties.type : undefined
  return isObject(tag) ? tag.const : undefined
}

const tagIn = (value: Json): Json | undefined => (isObject(value) ? value.type : undefined)

function checkEnum(spot: Spot, allowed: Json[]): void {
  if (allowed.includes(spot.value as string)) return
  const near = typeof spot.value === 'string' ? nearest(spot.value, allowed.map(String)) : undefined
  const guess = near === undefined ? '' : `Did you mean ${JSON.stringify(near)}? `
  tell(spot, 'enum', `must be one of ${allowed.map(one => JSON.stringify(one)).join(', ')}`, guess)
}

function checkText(spot: Spot, value: string): void {
  const { schema } = spot
  if (value.includes('\0') || !value.isWellFormed()) {
    tell(spot, 'characters', 'must be valid text, without NUL and without half surrogate pairs')
    return
  }
  const max = numberOf(schema.maxLength)
  const min = numberOf(schema.minLength)
  const length = (max !== undefined && value.length > max) || value.length < 2 * (min ?? 0) ? countOf(value) : 0
  if (max !== undefined && length > max) tell(spot, 'length', `must have at most ${max} characters`)
  if (min !== undefined && value.length < 2 * min && length < min) {
    tell(spot, 'length', min === 1 ? 'must not be empty' : `must have at least ${min} characters`)
  }
  if (typeof schema.pattern === 'string' && !new RegExp(schema.pattern, 'u').test(value)) {
    const examples = Array.isArray(schema.examples) ? ` such as ${schema.examples.join(', ')}` : ''
    const form = typeof schema.description === 'string' ? `${schema.description} ` : ''
    tell(spot, 'pattern', `must have the right form${examples}`, form)
  }
}

/** Characters as JSON Schema counts them: code points. */
function countOf(text: string): number {
  let count = 0
  for (const _ of text) count++
  return count
}

function checkNumber(spot: Spot, value: number): void {
  const { schema } = spot
  const min = numberOf(schema.minimum)
  const max = numberOf(schema.maximum)
  const step = numberOf(schema.multipleOf)
  if (min !== undefined && value < min) tell(spot, 'minimum', `must be at least ${min}`)
  if (max !== undefined && value > max) tell(spot, 'maximum', `must be at most ${max}`)
  if (step !== undefined && value % step !== 0) {
    const below = Math.floor(value / step) * step
    tell(spot, 'multiple_of', `must be a multiple of ${step}`, `Take ${below} or ${below + step}. `)
  }
}

function checkArray(spot: Spot, value: Json[]): void {
  const { schema, pointer, name } = spot
  const max = numberOf(schema.maxItems)
  const min = numberOf(schema.minItems)
  if (max !== undefined && value.length > max) {
    tell(spot, 'length', `must have at most ${plural(max, 'item')}`)
    return
  }
  if (min !== undefined && value.length < min) tell(spot, 'length', `must have at least ${plural(min, 'item')}`)
  const items = schema.items
  if (!isObject(items)) return
  value.forEach((item, i) => {
    walk({ ...spot, schema: items, value: item, pointer: `${pointer}/${i}`, name: `${name}[${i}]` })
  })
}

function checkObject(spot: Spot, value: JsonObject): void {
  const { schema, pointer, problems, aliases } = spot
  const properties = isObject(schema.properties) ? schema.properties : {}
  const known = Object.keys(properties)
  const required = Array.isArray(schema.required) ? schema.required.map(String) : []
  for (const key of required) {
    if (!Object.hasOwn(value, key)) {
      problems.push({
        pointer: `${pointer}/${escapePointer(key)}`,
        code: 'required',
        detail: `${key} is required`,
        hint: describe(key, properties[key] as JsonObject),
      })
    }
  }
  for (const [key, item] of Object.entries(value)) {
    if (problems.length >= MOST_PROBLEMS) return
    if (Object.hasOwn(properties, key)) {
      const inner = properties[key] as JsonObject
      walk({ ...spot, schema: inner, value: item, pointer: `${pointer}/${escapePointer(key)}`, name: key })
    } else if (schema.additionalProperties === false) {
      problems.push(unknownField(pointer, key, known, Object.hasOwn(aliases, key) ? aliases[key] : undefined))
    }
  }
}

function tell(spot: Spot, code: string, detail: string, advice = ''): void {
  const hint = `${advice}${describe(spot.name, spot.schema)}`.trim()
  const problem = { pointer: spot.pointer, code, detail: `${spot.name} ${detail}` }
  spot.problems.push(hint === '' ? problem : { ...problem, hint })
}

/** What a field takes, in one sentence: `width takes an integer from 64 to 1440, in steps of 32; default 1024.` */
function describe(name: string, schema: JsonObject): string {
  const what = takes(schema)
  if (what === '') return ''
  const standard = schema.default === undefined ? '' : `; default ${JSON.stringify(schema.default)}`
  return `${name} takes ${what}${standard}.`
}

function takes(schema: JsonObject): string {
  if (Array.isArray(schema.enum)) return schema.enum.map(one => JSON.stringify(one)).join(', ')
  if (Array.isArray(schema.anyOf)) {
    return [...new Set((schema.anyOf as JsonObject[]).map(takes))].filter(one => one !== '').join(' or ')
  }
  if (typeof schema.type !== 'string') return ''
  const [low, high] = RANGE[schema.type] ?? []
  const min = low === undefined ? undefined : numberOf(schema[low])
  const max = high === undefined ? undefined : numberOf(schema[high])
  const unit = schema.type === 'string' ? ' characters' : schema.type === 'array' ? ' items' : ''
  const range =
    min !== undefined && max !== undefined
      ? ` ${unit === '' ? 'from' : 'of'} ${min} to ${max}${unit}`
      : max !== undefined
        ? ` up to ${max}${unit}`
        : min !== undefined && schema.type !== 'string'
          ? ` from ${min}${unit}`
          : ''
  const step = schema.multipleOf === undefined ? '' : `, in steps of ${schema.multipleOf}`
  return `${article(schema.type)}${range}${step}`
}

const RANGE: Record<string, ['minimum' | 'minLength' | 'minItems', 'maximum' | 'maxLength' | 'maxItems']> = {
  integer: ['minimum', 'maximum'],
  number: ['minimum', 'maximum'],
  string: ['minLength', 'maxLength'],
  array: ['minItems', 'maxItems'],
}

function isType(type: string, value: Json): boolean {
  switch (type) {
    case 'integer':
      return Number.isInteger(value)
    case 'number':
      return typeof value === 'number' && Number.isFinite(value)
    case 'array':
      return Array.isArray(value)
    case 'object':
      return isObject(value)
    default:
      return typeof value === type
  }
}

const article = (type: string): string => (/^[aeiou]/.test(type) ? `an ${type}` : `a ${type}`)
const plural = (count: number, word: string): string => `${count} ${word}${count === 1 ? '' : 's'}`
const numberOf = (value: Json | undefined): number | undefined => (typeof value === 'number' ? value : undefined)
