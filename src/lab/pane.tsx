/** What the panes of the settings share: their frame, how a refusal is told, what is shown once, a button that asks twice. */
import { useSignal } from '@preact/signals'
import type { ComponentChildren } from 'preact'
import { ApiFailure } from './api.ts'
import { Copy } from './code.tsx'

export function Pane({ title, children }: { title: string; children: ComponentChildren }) {
  return (
    <section class="pane" aria-label={title}>
      <header class="pane-head">
        <h2>{title}</h2>
      </header>
      {children}
    </section>
  )
}

export const said = (error: unknown): string => {
  if (!(error instanceof ApiFailure)) throw error
  return error.missing ? 'Not available on this server.' : `${error.message} ${error.problem?.hint ?? ''}`
}

/** What was just made, and what nobody can ask for again. */
export function Once({ secret }: { secret: string | null }) {
  if (!secret) return null
  return (
    <p class="once" role="status">
      <span>Shown this once: keep it.</span>
      <code>{secret}</code>
      <Copy text={secret} />
    </p>
  )
}

/** What cannot be taken back is asked for twice: the second click within a few seconds counts. */
export function Twice({ label, act }: { label: string; act(): void }) {
  const armed = useSignal(false)
  const click = () => {
    if (armed.value) act()
    else setTimeout(() => (armed.value = false), 4000)
    armed.value = !armed.value
  }
  return (
    <button type="button" class="quiet" onClick={click}>
      {armed.value ? <b class="wrong">really {label}?</b> : label}
    </button>
  )
}
