/** The buttons of a list: below it the one that loads what is older, once at a time; above it the one for what is new. */
import { useSignal } from '@preact/signals'
import { plural } from './format.ts'

export function More({ what, load }: { what: string; load(): Promise<void> }) {
  const busy = useSignal(false)
  return (
    <button
      type="button"
      class="secondary more-button"
      disabled={busy.value}
      onClick={() => {
        busy.value = true
        void load().finally(() => {
          busy.value = false
        })
      }}
    >
      {busy.value ? 'loading …' : `older ${what}`}
    </button>
  )
}

interface NewsProps {
  count: number
  one: string
  many?: string
  load(): Promise<void>
}

/** Its room is there before it is: a list that moved down would put another row under the pointer. */
export function News({ count, one, many, load }: NewsProps) {
  return (
    <p class="news" role="status">
      {count > 0 && (
        <button type="button" class="pill" onClick={() => void load()}>
          ↑ {plural(count, one, many)}
        </button>
      )}
    </p>
  )
}
