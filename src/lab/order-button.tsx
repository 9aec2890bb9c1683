/**
 * A button that gives an order: it shows that the order is under way, and what came of it. The second click of a double
 * click is none: by then another button may stand there, such as the one that buys what was just canceled.
 */
import { useSignal } from '@preact/signals'
import type { ComponentChildren } from 'preact'
import { ApiFailure } from './api.ts'

interface Props {
  act(): Promise<void>
  children: ComponentChildren
  primary?: boolean
  /** What it costs, before it is pressed. */
  note?: string | null
}

export function Order({ act, children, primary, note }: Props) {
  const busy = useSignal(false)
  const wrong = useSignal<readonly string[]>([])
  return (
    <span class="order">
      <button
        type="button"
        class={primary ? 'primary' : 'secondary'}
        disabled={busy.value}
        onClick={({ detail }) => {
          if (busy.value || detail > 1) return
          busy.value = true
          wrong.value = []
          act()
            .catch(error => {
              wrong.value = sentences(error)
            })
            .finally(() => {
              busy.value = false
            })
        }}
      >
        {children}
      </button>
      {note && <small>{note}</small>}
      {wrong.value.length > 0 && (
        <span class="refusal" role="alert" ref={intoSight}>
          {wrong.value.map(each => (
            <small class="wrong" key={each}>
              {each}
            </small>
          ))}
        </span>
      )}
    </span>
  )
}

/** Beneath the button it may be out of sight. */
function intoSight(said: HTMLElement | null): void {
  said?.scrollIntoView({ block: 'nearest' })
}

/** What the server says as a whole, and every mistake that it names; what helps with params stands at their fields. */
function sentences(error: unknown): string[] {
  if (!(error instanceof ApiFailure)) return [error instanceof Error ? error.message : String(error)]
  const errors = error.problem?.errors ?? []
  if (errors.length === 0) return [error.words]
  const said = errors.map(({ pointer, detail, hint }) =>
    hint && !pointer?.includes('_params/') ? `${detail} – ${hint}` : detail,
  )
  return [...new Set([error.message, ...said])]
}
