/** What the panes of the settings share: their frame, how a refusal is told, what is shown once, a button that asks twice. */
import { useSignal } from '@preact/signals'
import type { ComponentChildren } from 'preact'
import { useRef } from 'preact/hooks'
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
  return error.missing ? 'Not available on this server.' : error.words
}

/** A refusal, told as soon as it comes. */
export function Said({ words }: { words: string | null }) {
  if (words === null) return null
  return (
    <p class="note" role="alert">
      {words}
    </p>
  )
}

export interface Secret {
  /** What it is, or what it does. */
  label: string
  text: string
}

/** What was just made, and what nobody can ask for again. */
export function Once({ secrets }: { secrets: readonly Secret[] }) {
  if (secrets.length === 0) return null
  return (
    <div class="once" role="status">
      {secrets.map(({ label, text }) => (
        <p key={label}>
          <span>
            <b>{label}</b> · shown this once: keep it
          </span>
          <code>{text}</code>
          <Copy text={text} />
        </p>
      ))}
    </div>
  )
}

/** Whoever clicks twice within it has clicked once. */
const DOUBLE_CLICK_MS = 500

/** What cannot be taken back is asked for twice: the second click within a few seconds counts. */
export function Twice({ label, act }: { label: string; act(): void }) {
  const armed = useSignal(false)
  const armedAt = useRef(0)
  const click = ({ timeStamp }: Event) => {
    if (!armed.value) {
      armedAt.current = timeStamp
      setTimeout(() => (armed.value = false), 4000)
    } else if (timeStamp - armedAt.current < DOUBLE_CLICK_MS) return
    else act()
    armed.value = !armed.value
  }
  return (
    <button type="button" class="quiet" onClick={click}>
      {armed.value ? <b class="wrong">really {label}?</b> : label}
    </button>
  )
}
