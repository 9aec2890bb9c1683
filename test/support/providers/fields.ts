/** A small language for what a provider takes: each rule says what is wrong with a value, or null. */
import type { Json, JsonObject } from '../../../src/core/json.ts'

export type Rule = (value: Json) => string | null
export type Fields = Readonly<Record<string, Rule>>

/** What is wrong with an object: the path and the reason, as a provider would say it. */
export interface Wrong {
  path: (string | number)[]
  why: string
}

/** Names that are not there and values that break their rule; `required` names must be there. */
export function wrongIn(body: Json | undefined, fields: Fields, required: readonly string[] = []): Wrong | null {
  if (!isObject(body)) return { path: [], why: 'must be an object' }
  for (const name of required) if (body[name] === undefined) return { path: [name], why: 'field required' }
  for (const [name, value] of Object.entries(body)) {
    const rule = Object.hasOwn(fields, name) ? fields[name] : undefined
    if (!rule) return { path: [name], why: 'extra fields not permitted' }
    const why = rule(value)
    if (why !== null) return { path: [name], why }
  }
  return null
}

export function isObject(value: Json | undefined): value is JsonObject {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

export const any: Rule = () => null
export const bool: Rule = value => (typeof value === 'boolean' ? null : 'must be a boolean')

export function int(min: number, max: number, step = 1): Rule {
  return value => {
    if (typeof value !== 'number' || !Number.isInteger(value)) return 'must be an integer'
    if (value < min || value > max) return `must be between ${min} and ${max}`
    return value % step === 0 ? null : `must be a multiple of ${step}`
  }
}

export const num =
  (min: number, max: number): Rule =>
  value =>
    typeof value === 'number' && value >= min && value <= max ? null : `must be a number between ${min} and ${max}`

export const oneOf =
  (...allowed: readonly Json[]): Rule =>
  value =>
    allowed.includes(value) ? null : `must be one of ${allowed.map(each => JSON.stringify(each)).join(', ')}`

export const text =
  (max = 100_000, min = 0): Rule =>
  value =>
    typeof value === 'string' && value.length <= max && value.length >= min ? null : `must be text of ${min} to ${max}`

export const matching =
  (pattern: RegExp, what: string): Rule =>
  value =>
    typeof value === 'string' && pattern.test(value) ? null : `must be ${what}`

export const list =
  (rule: Rule, max: number, min = 0): Rule =>
  value => {
    if (!Array.isArray(value)) return 'must be a list'
    if (value.length < min || value.length > max) return `must have ${min} to ${max} items`
    return value.map(rule).find(why => why !== null) ?? null
  }

export const either =
  (...rules: readonly Rule[]): Rule =>
  value => {
    const whys = rules.map(rule => rule(value))
    return whys.includes(null) ? null : whys.join(', or ')
  }

export const shape =
  (fields: Fields, required: readonly string[] = []): Rule =>
  value => {
    const wrong = wrongIn(value, fields, required)
    return wrong && `${wrong.path.join('.')} ${wrong.why}`
  }

// ── Pictures ──────────────────────────────────────────────────────────────────────────────────────

export const httpsUrl: Rule = matching(/^https?:\/\/[^\s]+$/, 'a URL')

export const dataUri =
  (maxBytes: number): Rule =>
  value => {
    const match =
      typeof value === 'string' ? /^data:image\/(png|jpeg|webp|gif);base64,([A-Za-z0-9+/]+={0,2})$/.exec(value) : null
    if (!match?.[2]) return 'must be a data URI of a picture'
    return (match[2].length * 3) / 4 <= maxBytes + 3 ? null : 'is too large'
  }

/** Base64 without a `data:` head. */
export const bareBase64 =
  (maxBytes: number): Rule =>
  value => {
    if (typeof value !== 'string' || !/^[A-Za-z0-9+/]+={0,2}$/.test(value)) return 'must be base64'
    return (value.length * 3) / 4 <= maxBytes + 3 ? null : 'is too large'
  }

export const urlOrData = (maxBytes: number): Rule => either(httpsUrl, dataUri(maxBytes))
