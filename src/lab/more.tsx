/** The button below a list that loads what is older, once at a time. */
import { useSignal } from '@preact/signals'

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
