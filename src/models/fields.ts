/**
 * How a maker's parameters are written down: small makers of JSON Schema (2020-12) that a form can be built from.
 *
 * 1. Every field has a title; ranges, defaults and examples are the maker's (providers.md).
 * 2. Two formats are hints for forms: `textarea` for long text, `picture` for an input picture.
 * 3. Every string and every array is limited.
 */
import type { Json, JsonObject } from '../core/json.ts'

interface Words {
  title: string
  description?: string
}

/** A description that fits the field's limits; `of` and `default` only where there is one. */
const words = ({ title, description }: Words): JsonObject =>
  description === undefined ? { title } : { title, description }

/** The parameters of a model. Names in `required` must be given by the caller even where a step before gives the picture. */
export function params(properties: Record<string, JsonObject>, required: readonly string[] = ['prompt']): JsonObject {
  return { type: 'object', properties, required: [...required], additionalProperties: false }
}

/** What the picture or film shall show. Makers that name no limit get 10,000 characters: nobody's model reads more. */
export function prompt(maxLength = 10_000): JsonObject {
  return {
    type: 'string',
    title: 'Prompt',
    description: 'What it shall show.',
    format: 'textarea',
    minLength: 1,
    maxLength,
    examples: ['A red boat on a still lake at dawn, soft fog, wide shot'],
  }
}

export function negativePrompt(maxLength = 2_500): JsonObject {
  return {
    type: 'string',
    title: 'Negative prompt',
    description: 'What it shall not show.',
    format: 'textarea',
    maxLength,
    examples: ['blurry, low quality'],
  }
}

export function text(is: Words & { max: number; pattern?: string; examples?: string[]; default?: string }): JsonObject {
  const { max, pattern, examples, default: standard } = is
  return {
    type: 'string',
    ...words(is),
    minLength: 1,
    maxLength: max,
    ...(pattern === undefined ? {} : { pattern }),
    ...(standard === undefined ? {} : { default: standard }),
    ...(examples === undefined ? {} : { examples }),
  }
}

interface Range extends Words {
  min: number
  max?: number
  step?: number
  default?: number
  examples?: number[]
}

const number = (type: 'integer' | 'number', is: Range): JsonObject => ({
  type,
  ...words(is),
  minimum: is.min,
  ...(is.max === undefined ? {} : { maximum: is.max }),
  ...(is.step === undefined ? {} : { multipleOf: is.step }),
  ...(is.default === undefined ? {} : { default: is.default }),
  ...(is.examples === undefined ? {} : { examples: is.examples }),
})

export const int = (is: Range): JsonObject => number('integer', is)
export const num = (is: Range): JsonObject => number('number', is)

/** Seeds are 32 bits everywhere in this catalogue. */
export const seed = (min = 0, max = 4_294_967_295): JsonObject =>
  int({
    title: 'Seed',
    description:
      min < 0
        ? 'The same seed gives similar results at the same provider; -1 is random.'
        : 'The same seed gives similar results at the same provider, never across providers.',
    min,
    max,
    examples: [593],
  })

export function bool(is: Words & { default?: boolean }): JsonObject {
  return { type: 'boolean', ...words(is), ...(is.default === undefined ? {} : { default: is.default }) }
}

/** One of some values. */
export function choice<T extends string | number>(values: readonly T[], is: Words & { default?: T }): JsonObject {
  const type = typeof values[0] === 'number' ? 'integer' : 'string'
  return { type, enum: [...values], ...words(is), ...(is.default === undefined ? {} : { default: is.default }) }
}

/** A picture inside the request body is at most this long; larger ones are uploaded first and given as `media:{id}`. */
const PICTURE_LENGTH = 2_000_000

/** An input picture: an https URL, a data URI or `media:{id}`. */
export function picture(is: Words): JsonObject {
  return {
    type: 'string',
    ...words(is),
    format: 'picture',
    minLength: 1,
    maxLength: PICTURE_LENGTH,
    examples: ['https://cdn.example.org/boat.png'],
  }
}

export function pictures(max: number, is: Words): JsonObject {
  return { type: 'array', ...words(is), items: picture({ title: 'Picture' }), minItems: 1, maxItems: max }
}

/** A picture or a list of pictures. */
export function pictureOrPictures(max: number, is: Words): JsonObject {
  const description = [is.description, 'Beside the picture of a step before: a list of further ones.'].join(' ').trim()
  return { ...words({ ...is, description }), anyOf: [picture(is), pictures(max, is)] }
}

/** A file that the provider fetches itself. */
export function link(is: Words): JsonObject {
  return { type: 'string', ...words(is), pattern: '^https?://', minLength: 9, maxLength: 8_192 }
}

/** The parameters' defaults, by name. */
export function defaultsOf(schema: JsonObject): Record<string, Json> {
  const properties = schema.properties as Record<string, JsonObject>
  const given = Object.entries(properties).filter(([, field]) => field.default !== undefined)
  return Object.fromEntries(given.map(([name, field]) => [name, field.default as Json]))
}
