/**
 * The draft of a provider's request, and the account of what became of every parameter.
 *
 * 1. A parameter that the caller gave is told to the provider, adjusted (and the attempt says so), or the route refuses.
 *    A parameter that no line of a translation touches makes the route refuse by itself: nothing is dropped silently.
 * 2. The same holds for every input picture.
 * 3. `pin` sends the maker's default where the caller gave nothing, so that every host does the same thing.
 * 4. A default that a host cannot do changes too, untold: the price must know of it, the caller did not ask for it.
 */
import type { Json, JsonObject } from '../core/json.ts'
import type { Role, Translation } from '../core/model.ts'
import type { Adjustment } from '../core/run.ts'
import { defaultsOf } from './fields.ts'

/** What an input picture is for. `first` is the one that a step before would give. */
export type Slot = 'first' | 'last' | 'reference' | 'mask'

export interface Input {
  pointer: string
  value: string
  slot: Slot
}

/** An input picture in the form that the provider reads. */
export interface Ref {
  slot: Slot
  ref: string
  /** Where the caller gave it; null for one that a step before gave. */
  pointer: string | null
}

export class Draft {
  /** The request body, see model.ts for what it holds for which provider. */
  readonly body: JsonObject = {}
  /** The provider's name of the model or endpoint; a translation may choose another one. */
  providerModel: string
  readonly provider: string
  readonly role: Role

  readonly #params: JsonObject
  readonly #defaults: Record<string, Json>
  readonly #refs: readonly Ref[]
  readonly #told = new Set<string>()
  readonly #used = new Set<Ref>()
  readonly #adjustments: Adjustment[] = []
  readonly #changes: Record<string, Json> = {}
  readonly #reasons: string[] = []

  constructor(order: {
    provider: string
    providerModel: string
    role: Role
    schema: JsonObject
    params: JsonObject
    refs: readonly Ref[]
    /** Fields that hold nothing but pictures; those are accounted for as pictures. */
    pictureFields: readonly string[]
  }) {
    this.provider = order.provider
    this.providerModel = order.providerModel
    this.role = order.role
    this.#params = order.params
    this.#defaults = defaultsOf(order.schema)
    this.#refs = order.refs
    for (const field of order.pictureFields) this.#told.add(field)
  }

  /** What the caller gave, or undefined. */
  given(name: string): Json | undefined {
    this.#told.add(name)
    return this.#params[name]
  }

  /** What the caller gave, else the maker's default, else undefined. */
  value(name: string): Json | undefined {
    return this.given(name) ?? this.#defaults[name]
  }

  number(name: string): number | undefined {
    const value = this.value(name)
    return typeof value === 'number' ? value : undefined
  }

  text(name: string): string | undefined {
    const value = this.value(name)
    return typeof value === 'string' ? value : undefined
  }

  /** Some of them under their own names, for a body that has them in a part of its own. */
  values(...names: string[]): JsonObject {
    const values = names.map(name => [name, this.value(name)] as const)
    return Object.fromEntries(values.filter((entry): entry is [string, Json] => entry[1] !== undefined))
  }

  send(field: string, value: Json | undefined): void {
    if (value !== undefined) this.body[field] = value
  }

  /** Same name there: sent if the caller gave it. */
  copy(...names: string[]): void {
    for (const name of names) this.send(name, this.given(name))
  }

  /** Same name there: sent always, the maker's default if the caller gave nothing. */
  pin(...names: string[]): void {
    for (const name of names) this.send(name, this.value(name))
  }

  /** Another name there: sent always. */
  pinAs(name: string, field: string): void {
    this.send(field, this.value(name))
  }

  /** Another name there: sent if the caller gave it. */
  copyAs(name: string, field: string): void {
    this.send(field, this.given(name))
  }

  /** A harmless change of something that the caller gave, or of its default; null: left out. */
  adjust(name: string, to: Json, reason: string): void {
    this.#changes[name] = to
    const from = this.given(name)
    if (from !== undefined) this.#adjustments.push({ pointer: `/${name}`, from, to, reason })
  }

  /** There is no such field there, and it always does one thing: fine if that is what the caller asked for. */
  always(name: string, value: Json, reason: string): void {
    const given = this.given(name)
    if (given === undefined) return
    if (given === value) this.adjust(name, null, reason)
    else this.refuse(`${this.provider} cannot do ${name} ${JSON.stringify(given)}: ${reason}`)
  }

  /** A number inside the host's range; says so when it had to move. */
  clamp(name: string, min: number, max: number): number | undefined {
    const value = this.number(name)
    if (value === undefined) return undefined
    const inside = Math.min(max, Math.max(min, value))
    if (inside !== value) this.adjust(name, inside, `${this.provider} takes ${min} to ${max}`)
    return inside
  }

  /** Takes the pictures of a slot, in order. */
  take(slot: Slot): Ref[] {
    const taken = this.#refs.filter(ref => ref.slot === slot)
    for (const ref of taken) this.#used.add(ref)
    return taken
  }

  /** The one picture of a slot. */
  one(slot: Slot): string | undefined {
    return this.take(slot)[0]?.ref
  }

  /** Every picture, the first one first. */
  takeAll(): string[] {
    for (const ref of this.#refs) this.#used.add(ref)
    return this.#refs.map(ref => ref.ref)
  }

  get pictureCount(): number {
    return this.#refs.length
  }

  /** This route cannot do it; the reason is shown to the caller. */
  refuse(reason: string): void {
    this.#reasons.push(reason)
  }

  /** The parameters as this host does them. */
  done(): JsonObject {
    const left = Object.entries({ ...this.#params, ...this.#changes }).filter(([name]) => this.#changes[name] !== null)
    return Object.fromEntries(left)
  }

  finish(): Translation {
    const missing = Object.keys(this.#params).filter(name => !this.#told.has(name))
    const unused = this.#refs.filter(ref => !this.#used.has(ref))
    const reasons = [...this.#reasons]
    if (missing.length > 0) reasons.push(`${this.provider} has no ${missing.join(', ')} for this model`)
    if (unused.length > 0) {
      const slots = [...new Set(unused.map(ref => PICTURE_NAME[ref.slot]))]
      reasons.push(`${this.provider} takes no ${slots.join(', no ')} for this model`)
    }
    if (reasons.length > 0) return { ok: false, reason: reasons.join('; ') }
    return { ok: true, providerModel: this.providerModel, body: this.body, adjustments: this.#adjustments }
  }
}

const PICTURE_NAME: Record<Slot, string> = {
  first: 'input picture',
  last: 'last frame',
  reference: 'further pictures',
  mask: 'mask',
}
