/**
 * Checks a body against the schema of what callers send, and says what is wrong in sentences with pointers.
 * The schema itself is TypeBox and stands in the document; this turns the validator's words into the API's.
 */
import type { TObject } from 'typebox'
import { Compile } from 'typebox/compile'
import { Settings } from 'typebox/system'
import { escapePointer, unknownFields } from '../core/chain.ts'
import { isObject, type Json } from '../core/json.ts'
import type { RequestError } from './problem.ts'

/** All problems of a value; empty when it fits. */
export type Check = (value: Json) => RequestError[]

export function checker(schema: TObject): Check {
  const compiled = Compile(schema)
  const known = Object.keys(schema.properties)
  return value => {
    const fields = isObject(value) ? Object.entries(value) : []
    const unknown = isObject(value) ? unknownFields('', value, known) : []
    // Without the unknown ones, which the validator would each tell twice, and then have no words left for others.
    const rest = unknown.length > 0 ? Object.fromEntries(fields.filter(([key]) => known.includes(key))) : value
    if (compiled.Check(rest)) return unknown
    const flaws = compiled.Errors(rest).filter(({ schemaPath }) => !schemaPath.includes('/propertyNames'))
    return [...unknown, ...mergeChoices(flaws).flatMap(flaw => describe(flaw, schema, known))]
  }
}

/** The validator stops at 8 by itself. */
Settings.Set({ maxErrors: 100 })

type Flaw = ReturnType<ReturnType<typeof Compile>['Errors']>[number]

/** Of a value that fits none of several forms, only what is wrong with the form that was meant; else one line naming all. */
function mergeChoices(flaws: Flaw[]): Flaw[] {
  const choices = flaws.filter(flaw => flaw.keyword === 'anyOf')
  return choices.reduce((left, choice) => {
    const inside = (flaw: Flaw): boolean => flaw.schemaPath.startsWith(`${choice.schemaPath}/anyOf/`)
    const otherForm = (flaw: Flaw): boolean => flaw.keyword === 'type' && flaw.instancePath === choice.instancePath
    const outside = left.filter(flaw => !inside(flaw) && flaw !== choice)
    const meant = left.filter(flaw => inside(flaw) && !otherForm(flaw))
    if (meant.length > 0) return [...outside, ...meant]
    const forms = left.filter(inside).map(flaw => flaw.message.replace(/^must be /, ''))
    return [...outside, { ...choice, keyword: 'type', message: `must be ${forms.join(' or ')}` } as Flaw]
  }, flaws)
}

function describe(error: Flaw, schema: TObject, known: readonly string[]): RequestError[] {
  const { keyword, instancePath, params, message } = error
  const at = (pointer: string, code: string, detail: string): RequestError => {
    const field = pointer.split('/')[1] ?? ''
    const hint = (schema.properties[field] as { description?: string } | undefined)?.description
    return { pointer, code, detail, hint: hint ?? `Known fields: ${known.join(', ')}.` }
  }
  const name = instancePath === '' ? 'The body' : nameOf(instancePath)
  switch (keyword) {
    case 'required': {
      const { requiredProperties } = params as { requiredProperties: string[] }
      return requiredProperties.map(key => at(`${instancePath}/${key}`, 'required', `${key} is required`))
    }
    case 'propertyNames': {
      const { propertyNames } = params as { propertyNames: string[] }
      return propertyNames.map(key =>
        at(`${instancePath}/${escapePointer(key)}`, 'length', `a key of ${name} must have 1 to 40 characters`),
      )
    }
    case 'additionalProperties':
      return [] // its values were wrong, and have been told
    case 'enum': {
      const { allowedValues } = params as { allowedValues: unknown[] }
      const values = allowedValues.map(value => JSON.stringify(value)).join(', ')
      return [at(instancePath, 'enum', `${name} must be one of ${values}`)]
    }
    default:
      return [at(instancePath, CODES[keyword] ?? keyword, `${name} ${withArticles(message)}`)]
  }
}

const CODES: Readonly<Record<string, string>> = {
  maxLength: 'length',
  minLength: 'length',
  maxItems: 'length',
  maxProperties: 'length',
  exclusiveMinimum: 'minimum',
}

const withArticles = (message: string): string =>
  message.replace(/\b(array|integer|object)\b/g, 'an $1').replace(/\b(string|number|boolean)\b/g, 'a $1')

/** The last field of a pointer, `scopes[0]` for an item of a list. */
function nameOf(pointer: string): string {
  const [last = '', above] = pointer.split('/').toReversed()
  return (/^\d+$/.test(last) && above ? `${above}[${last}]` : last).slice(0, 80)
}
