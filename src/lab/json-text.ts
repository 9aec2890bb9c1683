/**
 * A value that is written as JSON by hand: what stands in the field is what is sent, or the page says why it is not.
 *
 * 1. Text that cannot be read holds back what would be sent without it, until it is mended or discarded.
 * 2. It is kept when its field goes from the page, with the value that it was typed over: where that value is shown again,
 *    so is the text. A reload and a sign-in lose nothing.
 */
import { computed, signal, useSignal } from '@preact/signals'
import { useEffect, useRef } from 'preact/hooks'
import { place } from './nav.ts'
import type { Json } from './schema.ts'

/** Of the fields on the page, those whose text cannot be read yet: what is wrong with it, by the name of the field. */
const unreadable = signal<Readonly<Record<string, string>>>({})

/** Why what stands in the fields cannot be sent, or null. */
export const unreadableWord = computed<string | null>(() => {
  const bad = Object.keys(unreadable.value)[0]
  return bad ? `what stands in ${bad.replace(/^\/(input\/)?/, '')} cannot be read` : null
})

/** Whether a field of this name, or one inside of it, is on the page and cannot be read. */
export function isUnreadable(name: string): boolean {
  return Object.keys(unreadable.value).some(each => each === name || each.startsWith(`${name}/`))
}

export interface JsonText {
  text: string
  bad: string | undefined
  type(text: string): void
  /** Back to the value as it was last readable. */
  discard(): void
}

interface Field {
  /** Its pointer. */
  name: string
  value: Json | undefined
  write(value: Json | undefined): string
  /** @throws Error in words for the reader */
  read(text: string): Json | undefined
  set(value: Json | undefined): void
}

export function useJsonText({ name, value, write, read, set }: Field): JsonText {
  const given = JSON.stringify(value)
  const text = useSignal(keptText(name, value) ?? write(value))
  /** The value that the text stands for: any other one came from elsewhere, and is shown. */
  const known = useRef(given)
  const type = (typed: string) => {
    text.value = typed
    try {
      const parsed = read(typed)
      known.current = JSON.stringify(parsed)
      tell(name, null)
      keep(name, null)
      set(parsed)
    } catch (error) {
      tell(name, error instanceof Error ? error.message : String(error))
      keep(name, { text: typed, given: known.current })
    }
  }
  const discard = () => {
    text.value = write(value)
    tell(name, null)
    keep(name, null)
  }
  useEffect(() => {
    if (given === known.current) return
    known.current = given
    discard()
  }, [given])
  useEffect(() => {
    const begun = keptText(name, value)
    if (begun === null) keep(name, null)
    else type(begun)
    return () => tell(name, null)
  }, [name])
  return { text: text.value, bad: unreadable.value[name], type, discard }
}

/** The field of this name can be read again, or what is wrong with it. */
export function tell(name: string, bad: string | null): void {
  const { [name]: had, ...others } = unreadable.value
  if (bad !== null) unreadable.value = { ...others, [name]: bad }
  else if (had !== undefined) unreadable.value = others
}

interface Kept {
  text: string
  /** JSON of the value that it was typed over. */
  given: string | undefined
}

const KEPT = 'babychain.unreadable'

/** Text that was typed over this value and could not be read when its field went; null when there is none. */
export function keptText(name: string, value: Json | undefined): string | null {
  const kept = allKept()[keyOf(name)]
  return kept && kept.given === JSON.stringify(value) ? kept.text : null
}

function keep(name: string, text: Kept | null): void {
  const { [keyOf(name)]: had, ...others } = allKept()
  if (!had && !text) return
  try {
    sessionStorage.setItem(KEPT, JSON.stringify(text ? { ...others, [keyOf(name)]: text } : others))
  } catch {
    // No room: it is not there when its field comes again, and nothing else is lost.
  }
}

function allKept(): Record<string, Kept> {
  try {
    return JSON.parse(sessionStorage.getItem(KEPT) ?? '{}') as Record<string, Kept>
  } catch {
    return {}
  }
}

/** Fields of another page may have the same name. */
const keyOf = (name: string): string => `${place.value.pathname} ${name}`
