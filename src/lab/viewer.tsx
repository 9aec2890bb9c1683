/** One output, large: zoom, download, and its facts. */
import { signal, useSignal } from '@preact/signals'
import { useEffect, useRef } from 'preact/hooks'
import type { OutputDto, RunDto, StepDto } from '../http/dto.ts'
import { local } from './api.ts'
import { Copy } from './code.tsx'
import { bytes } from './format.ts'
import { place } from './nav.ts'

interface Viewed {
  output: OutputDto
  title: string
  run: RunDto
  step: StepDto
}

/** A film moves by itself, but not for who has asked for no motion: in the viewer it has its controls. */
export function moving() {
  const moves = !matchMedia('(prefers-reduced-motion: reduce)').matches
  return { autoplay: moves, loop: moves }
}

const viewed = signal<Viewed | null>(null)

/** It belongs to the page that it was opened from. */
place.subscribe(() => {
  viewed.value = null
})

export function view(what: Viewed): void {
  viewed.value = what
}

export function Viewer() {
  const dialog = useRef<HTMLDialogElement>(null)
  const large = useSignal(false)
  const { value } = viewed
  useEffect(() => {
    large.value = false
    if (value && !dialog.current?.open) dialog.current?.showModal()
    if (!value) dialog.current?.close()
  }, [value])
  const output = value?.output
  const src = output ? local(output.url) : ''
  const seed = value && (value.run.input[`${value.step.step_key}_params`] as { seed?: number } | undefined)?.seed
  const facts = output && [
    output.mime,
    output.width ? `${output.width} × ${output.height}` : null,
    output.seconds ? `${output.seconds} s` : null,
    bytes(output.bytes),
    seed === undefined ? null : `seed ${seed}`,
  ]
  return (
    // biome-ignore lint/a11y/useKeyWithClickEvents: the backdrop is for the mouse; Escape is the browser's own
    <dialog
      ref={dialog}
      class="viewer"
      aria-label="Output"
      onClose={() => {
        viewed.value = null
      }}
      onClick={event => {
        if (event.target === dialog.current) viewed.value = null
      }}
    >
      {value && output && (
        <>
          <header>
            <h2>{value.title}</h2>
            <button type="button" class="quiet" onClick={() => (viewed.value = null)}>
              close
            </button>
          </header>
          <div class={`sheet${large.value ? ' large' : ''}`}>
            {output.mime.startsWith('video/') ? (
              <video src={src} controls {...moving()} muted playsInline />
            ) : (
              <button
                type="button"
                aria-label={large.value ? 'Fit to the window' : 'Show in full size'}
                onClick={() => (large.value = !large.value)}
              >
                <img src={src} alt={value.title} />
              </button>
            )}
          </div>
          <footer>
            <span>{facts?.filter(Boolean).join(' · ')}</span>
            <span class="adds">
              <Copy text={`media:${output.media_id}`} label="copy media id" />
              <a class="quiet as-button" href={src} download={`${value.step.step_key}-${output.media_id.slice(-8)}`}>
                download
              </a>
            </span>
          </footer>
        </>
      )}
    </dialog>
  )
}
