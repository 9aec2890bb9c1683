/**
 * A number that is typed: what stands in the field is what is sent, or the page says why it is not.
 *
 * 1. The text is the reader's: it is written anew only when the number comes from elsewhere.
 * 2. Text that is no number is not an empty field: it holds back what would be sent without it.
 */
import { useLayoutEffect, useRef } from 'preact/hooks'
import { isUnreadable, tell } from './json-text.ts'
import { Unreadable } from './unreadable.tsx'

interface Props {
  id: string
  /** By which the page knows what cannot be read. */
  name: string
  value: number | undefined
  set(value: number | undefined): void
  placeholder: string
  min?: number | undefined
  max?: number | undefined
  step?: number | 'any'
  'aria-describedby'?: string | undefined
  'aria-invalid'?: boolean | undefined
}

export function NumberField({ name, value, set, ...attributes }: Props) {
  const input = useRef<HTMLInputElement>(null)
  const typed = useRef('')
  const bad = isUnreadable(name)
  const text = numberOf(typed.current) === value ? typed.current : String(value ?? '')
  // Another number takes the place of the text, and a field that goes takes it along.
  useLayoutEffect(() => () => tell(name, null), [name, value])
  return (
    <>
      <input
        step="any"
        {...attributes}
        aria-invalid={bad || attributes['aria-invalid']}
        ref={input}
        type="number"
        // The browser gives no text that it cannot read; any other value would write over it.
        value={bad ? '' : text}
        onInput={({ currentTarget }) => {
          if (currentTarget.validity.badInput) return tell(name, 'this is not a number')
          typed.current = currentTarget.value
          tell(name, null)
          set(numberOf(typed.current))
        }}
      />
      <Unreadable
        bad={bad ? 'this is not a number' : undefined}
        discard={() => {
          if (input.current) input.current.value = text
          tell(name, null)
        }}
      />
    </>
  )
}

const numberOf = (text: string): number | undefined => (text === '' ? undefined : Number(text))
