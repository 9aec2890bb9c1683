/** A value that is written as JSON by hand: what stands in the field is what is sent, or the page says why it is not. */
import { computed, signal, useSignal } from '@preact/signals'
import { useEffect, useRef } from 'preact/hooks'
import type { Json } from './schema.ts'

/** Text that is not JSON yet: what is wrong with it, by the name of its field. */
const unreadable = signal<Readonly<Record<string, string>>>({})

/** Why what stands in the fields cannot be sent, or null. */
export const unreadableWord = computed<string | null>(() => {
  const bad = Object.keys(unreadable.value)[0]
  return bad ? `the JSON of ${bad.replace('/input/', '')} cannot be read` : null
})

export interface JsonText {
  text: string
  bad: string | undefined
  type(text: string): void
}

interface Field {
  name: string
  value: Json | undefined
  write(value: Json | undefined): string
  /** @throws Error in words for the reader */
  read(text: string): Json | undefined
  set(value: Json | undefined): void
}

export function useJsonText({ name, value, write, read, set }: Field): JsonText {
  const text = useSignal(write(value))
  const given = JSON.stringify(value)
  /** The value that the text stands for: any other one came from elsewhere, and is shown. */
  const known = useRef(given)
  useEffect(() => {
    if (given === known.current) return
    known.current = given
    text.value = write(value)
    tell(name, null)
  }, [given])
  useEffect(() => () => tell(name, null), [name])
  const type = (typed: string) => {
    text.value = typed
    try {
      const parsed = read(typed)
      known.current = JSON.stringify(parsed)
      tell(name, null)
      set(parsed)
    } catch (error) {
      tell(name, error instanceof Error ? error.message : String(error))
    }
  }
  return { text: text.value, bad: unreadable.value[name], type }
}

function tell(name: string, bad: string | null): void {
  const { [name]: had, ...others } = unreadable.value
  if (bad !== null) unreadable.value = { ...others, [name]: bad }
  else if (had !== undefined) unreadable.value = others
}
