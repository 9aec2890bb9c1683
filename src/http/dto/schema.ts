/**
 * How wire shapes are written down: TypeBox with a description on every field, and a name for every resource.
 *
 * 1. A resource is defined once; others hold a reference to its name, so that the document says it once, too.
 * 2. Only schemas of requests are compiled, and those hold no references.
 */
import { type Static, type TSchema, Type } from 'typebox'

export const text = (description: string, more: object = {}) => Type.String({ description, ...more })
export const nullable = <S extends TSchema>(schema: S) => Type.Union([schema, Type.Null()])
export const word = <const W extends readonly string[]>(words: W, description: string) =>
  Type.Unsafe<W[number]>({ type: 'string', enum: [...words], description })
export const time = (description: string) => text(description, { format: 'date-time' })
export const uuid = (description: string) => text(description, { format: 'uuid' })
export const anything = (description: string) => Type.Record(Type.String(), Type.Unknown(), { description })

export interface Named<S extends TSchema = TSchema> {
  name: string
  schema: S
  /** What other schemas hold in its place. */
  ref: ReturnType<typeof refer<Static<S>>>
}

/** A resource: a schema with a name in the document. */
export function define<S extends TSchema>(name: string, schema: S): Named<S> {
  return { name, schema, ref: refer<Static<S>>(name) }
}

/** A list of a resource, with what leads to its next page. */
export const listOf = <S extends TSchema, C extends TSchema>(item: Named<S>, description: string, next_cursor: C) =>
  Type.Object({
    object: word(['list'], 'Always list.'),
    data: Type.Array(item.ref, { description }),
    has_more: Type.Boolean(),
    next_cursor,
  })

const refer = <T>(name: string) => Type.Unsafe<T>({ $ref: `#/components/schemas/${name}` })
