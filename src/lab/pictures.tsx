/** Input pictures: by link, upload, paste, drop, or from an earlier output. What is kept in the form is a reference. */
import { signal, useSignal } from '@preact/signals'
import { useEffect, useRef } from 'preact/hooks'
import type { MediaDto } from '../http/dto/catalog.ts'
import type { RunListDto } from '../http/dto.ts'
import { ApiFailure, api } from './api.ts'
import { uploads } from './draft.ts'

interface Props {
  id: string
  label: string
  value: string
  set(ref: string): void
  'aria-label'?: string
  'aria-describedby'?: string | undefined
  'aria-invalid'?: boolean | undefined
}

/** Pictures that runs made, newest first, as `media:` references. */
const earlier = signal<readonly string[]>([])

let asking = false

/** Asked anew for every form, once for all of its fields. */
function loadEarlier(): void {
  if (asking) return
  asking = true
  void api<RunListDto>('GET', '/api/v1/runs?status=succeeded&limit=12')
    .then(list => {
      const outputs = list.data.flatMap(run => run.steps.flatMap(step => step.outputs ?? []))
      const pictures = outputs
        .filter(output => output.available && output.mime.startsWith('image/'))
        .map(output => output.media_id)
      earlier.value = [...new Set(pictures)].slice(0, 8).map(id => `media:${id}`)
    })
    .catch(() => {}) // a convenience: without it, one writes the reference
    .finally(() => {
      asking = false
    })
}

const shownAt = (ref: string): string | null =>
  ref.startsWith('media:') ? `/api/v1/media/${ref.slice('media:'.length)}` : ref.startsWith('data:image/') ? ref : null

/** Of the uploads of one field the newest counts, until another choice ends it; Run waits for it (draft.ts). */
function useNewest() {
  const newest = useRef<object | null>(null)
  const replace = (turn: object | null) => {
    const others = [...uploads.value].filter(each => each !== newest.current)
    uploads.value = new Set(turn === null ? others : [...others, turn])
    newest.current = turn
  }
  useEffect(() => () => replace(null), [])
  const begin = (): object => {
    const turn = {}
    replace(turn)
    return turn
  }
  return { begin, isNewest: (turn: object) => newest.current === turn, end: () => replace(null) }
}

export function PictureInput({ id, label, value, set, ...aria }: Props) {
  const state = useSignal<string | null>(null)
  const over = useSignal(false)
  /** An upload takes its time: what was typed elsewhere meanwhile must stand. */
  const setNow = useRef(set)
  setNow.current = set
  const { begin, isNewest, end } = useNewest()
  const choose = (ref: string) => {
    end()
    state.value = null
    set(ref)
  }
  const upload = async (picture: Blob | Promise<Blob>) => {
    const turn = begin()
    state.value = 'uploading …'
    try {
      const media = await api<MediaDto>('POST', '/api/v1/media', { body: await picture })
      if (!isNewest(turn)) return
      setNow.current(media.ref)
      state.value = null
    } catch (error) {
      if (!isNewest(turn)) return
      state.value = error instanceof ApiFailure ? error.message : String(error)
    }
    end()
  }
  const take = (data: DataTransfer | null): boolean => {
    const file = [...(data?.files ?? [])].find(each => each.type.startsWith('image/'))
    const text = data?.getData('text/plain').trim() ?? ''
    if (file) void upload(file)
    else if (/^(media:|https?:)/.test(text)) choose(text)
    else return false
    return true
  }
  const shown = shownAt(value)
  useEffect(loadEarlier, [])
  return (
    <fieldset
      class={`picture${over.value ? ' over' : ''}`}
      aria-label={`Picture for ${label}: drop, paste, choose or link`}
      onDragOver={event => {
        event.preventDefault()
        over.value = true
      }}
      onDragLeave={() => {
        over.value = false
      }}
      onDrop={event => {
        event.preventDefault()
        over.value = false
        take(event.dataTransfer)
      }}
      onPaste={event => {
        if (take(event.clipboardData)) event.preventDefault()
      }}
    >
      <div class="picture-line">
        {shown ? <img src={shown} alt="chosen input" /> : <span class="hole" aria-hidden="true" />}
        <div>
          <input
            {...aria}
            id={id}
            type="text"
            inputMode="url"
            value={value}
            placeholder="https://… or media:… — or drop, paste, choose"
            onInput={event => choose(event.currentTarget.value.trim())}
          />
          <span class="adds">
            <label class="quiet as-button">
              choose a file
              <input
                type="file"
                accept="image/png,image/jpeg,image/webp"
                onChange={event => {
                  const file = event.currentTarget.files?.[0]
                  if (file) void upload(file)
                }}
              />
            </label>
            <button type="button" class="quiet" onClick={() => void upload(drawSample())}>
              draw a sample
            </button>
          </span>
        </div>
      </div>
      {state.value && <small role="status">{state.value}</small>}
      {earlier.value.length > 0 && (
        <ul class="earlier" aria-label="Earlier outputs">
          {earlier.value.map(ref => (
            <li key={ref}>
              <button
                type="button"
                title="use this earlier output"
                draggable
                onDragStart={event => event.dataTransfer?.setData('text/plain', ref)}
                onClick={() => choose(ref)}
              >
                <img src={shownAt(ref) ?? ''} alt="earlier output" loading="lazy" />
              </button>
            </li>
          ))}
        </ul>
      )}
    </fieldset>
  )
}

/** A still life of two circles and a line: enough to try a chain that begins with a picture. */
async function drawSample(): Promise<Blob> {
  const canvas = document.createElement('canvas')
  canvas.width = canvas.height = 768
  const pen = canvas.getContext('2d')
  if (pen) {
    const sky = pen.createLinearGradient(0, 0, 0, 768)
    sky.addColorStop(0, '#20304a')
    sky.addColorStop(0.62, '#c98a6b')
    sky.addColorStop(0.63, '#17323a')
    sky.addColorStop(1, '#0b171b')
    pen.fillStyle = sky
    pen.fillRect(0, 0, 768, 768)
    pen.fillStyle = '#ffe2b8'
    pen.beginPath()
    pen.arc(470, 420, 74, 0, Math.PI * 2)
    pen.fill()
    pen.fillStyle = '#c4372c'
    pen.beginPath()
    pen.moveTo(210, 540)
    pen.lineTo(430, 540)
    pen.lineTo(390, 600)
    pen.lineTo(250, 600)
    pen.closePath()
    pen.moveTo(320, 530)
    pen.lineTo(320, 380)
    pen.lineTo(400, 530)
    pen.fill()
  }
  return new Promise((resolve, reject) =>
    canvas.toBlob(blob => (blob ? resolve(blob) : reject(new Error('this browser cannot make a PNG'))), 'image/png'),
  )
}
