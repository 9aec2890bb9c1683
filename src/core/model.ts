/** What a model is, and its routes: pure data and pure functions, in its maker's own words. */
import type { Problem } from './errors.ts'
import type { JsonObject } from './json.ts'
import type { Adjustment } from './run.ts'

export type StepKind = 'image' | 'video'
export type Role = 'text_to_image' | 'image_to_image' | 'image_to_video'

export interface Catalog {
  all(): readonly Model[]
  find(id: string): Model | undefined
}

/** The size of a picture in pixels; of one that is asked for by its ratio alone, width by height. */
export type Shape = { width: number; height: number } | { ratio: number }

/** The input pictures that a provider takes, from the least to the most. */
export interface PictureLimits {
  /** Either side, in pixels. */
  side?: readonly [least: number, most: number]
  /** Width by height. */
  ratio?: readonly [least: number, most: number]
}

/** What is known of a call beside its parameters. */
export interface Known {
  /** The pictures of the steps before, in order, each with the shapes that it may have: none where nobody knows it. */
  incoming?: readonly (readonly Shape[])[]
  /** Those that the caller gave, in the model's own order, in the same way. */
  given?: readonly (readonly Shape[])[]
  /** What the provider says that it made: so many pictures or tokens. */
  counted?: number
}

/** What a call costs by a price list, in US dollars: so much, or at the most so much; null where nobody knows. */
export type Quote = number | { atMost: number } | null

/** A model in its maker's own words. Pure data and pure functions. */
export interface Model {
  id: string
  title: string
  gives: StepKind
  roles: readonly Role[]
  /** JSON Schema (2020-12) of the parameters. */
  schema: JsonObject
  /** All problems of some parameters; pointers are relative to them (`/width`). `wired`: a step before gives the picture. */
  validate(params: JsonObject, use: { role: Role; wired: boolean }): Problem[]
  /** Where the first input picture stands (`/input_image`), for messages. */
  pictureField: string
  /**
   * The pictures that the caller gave, in order. `first` is the one that a step before would give; when one does give it
   * (`wired`), what stands in a list comes after it. `or`: how to give this picture as a further one.
   */
  pictures(
    params: JsonObject,
    wired?: boolean,
  ): { pointer: string; value: string; slot: 'first' | 'other'; or?: string }[]
  price(params: JsonObject, role: Role, known?: Known): Quote
  /** How long a call usually takes, in milliseconds. */
  expectedMs: number
  /** How long these parameters allow it to take; 0 or absent where they say nothing. */
  allowedMs?(params: JsonObject): number
  routes: readonly Route[]
}

/** A model at a provider. */
export interface Route {
  provider: string
  /** The provider's own name of the model or endpoint. */
  providerModel: string
  /** Makes the provider's request. `pictures` are references that the provider can read: the wired one first, then the caller's. */
  translate(params: JsonObject, use: { role: Role; pictures: readonly string[] }): Translation
  /** What lacks here whatever the parameters are, in one sentence; null, or absent, when nothing does. */
  missing?(): string | null
  /** True where pictures must be in the request itself, although the provider takes links elsewhere. */
  inline?: boolean
  /** What is documented of the input pictures that are taken here. They are judged by it where their size is known. */
  pictureLimits?: PictureLimits
  /** Of what is made here. */
  price?(params: JsonObject, role: Role, known?: Known): Quote
  /** What the picture becomes that is made here of these parameters; null, or absent, where they leave that to the model. */
  shape?(params: JsonObject, role: Role): Shape | null
}

export type Translation =
  | { ok: true; providerModel: string; body: JsonObject; adjustments: Adjustment[] }
  | { ok: false; reason: string }
