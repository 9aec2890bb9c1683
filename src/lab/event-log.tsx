/**
 * The log of a run, folded by step, raw JSON one click away.
 * Rows are plain and outside of the window undrawn (content-visibility): a thousand of them scroll as ten do.
 */
import { useSignal } from '@preact/signals'
import type { EventDto, RunDto } from '../http/dto.ts'
import { clockTime, roleName } from './format.ts'

/** What the page draws at first of a long log: the end, which is what one reads. */
const FIRST = 200

export function EventLog({ events, run }: { events: readonly EventDto[]; run: RunDto }) {
  const all = useSignal(false)
  const groups = groupsOf(all.value ? events : events.slice(-FIRST))
  return (
    <section class="pane events" aria-label="Events">
      <header class="pane-head">
        <h2>events</h2>
        <span class="dim">{events.length}</span>
      </header>
      {events.length > FIRST && !all.value && (
        <button type="button" class="quiet" onClick={() => (all.value = true)}>
          show the {events.length - FIRST} before
        </button>
      )}
      {groups.map((group, i) => (
        <details
          key={group.events[0]?.seq}
          open={group.step === null || i >= groups.length - 2 || run.steps.length < 3}
        >
          <summary>
            {group.step ? roleName(group.step) : 'run'} <span class="dim">{group.events.length}</span>
          </summary>
          <ol>
            {group.events.map(event => (
              <Row key={event.seq} event={event} />
            ))}
          </ol>
        </details>
      ))}
    </section>
  )
}

function groupsOf(events: readonly EventDto[]): { step: string | null; events: EventDto[] }[] {
  const groups: { step: string | null; events: EventDto[] }[] = []
  for (const event of events) {
    const last = groups.at(-1)
    if (last?.step === event.step_key) last.events.push(event)
    else groups.push({ step: event.step_key, events: [event] })
  }
  return groups
}

function Row({ event }: { event: EventDto }) {
  const open = useSignal(false)
  return (
    <li>
      <button type="button" aria-expanded={open.value} onClick={() => (open.value = !open.value)}>
        <span class="dim num">{event.seq}</span>
        <time dateTime={event.at}>{clockTime(event.at)}</time>
        <b class={toneOf(event.type)}>{event.type}</b>
        <span class="dim">{gist(event)}</span>
      </button>
      {open.value && (
        // biome-ignore lint/a11y/noNoninteractiveTabindex: what scrolls must be reachable by keyboard
        <pre tabIndex={0}>{JSON.stringify(event, null, 2)}</pre>
      )}
    </li>
  )
}

function toneOf(type: string): string {
  if (/failed|unknown/.test(type)) return 'tone-bad'
  if (/succeeded/.test(type)) return 'tone-good'
  return /waiting|cancel/.test(type) ? 'tone-wait' : ''
}

function gist({ data }: EventDto): string {
  const { provider, progress, error, outputs } = data as {
    provider?: string
    progress?: number | null
    error?: { code: string; message: string }
    outputs?: { mime: string }[]
  }
  const parts = [
    provider,
    typeof progress === 'number' ? `${Math.round(progress * 100)} %` : null,
    error && `${error.code}: ${error.message}`,
    outputs?.map(output => output.mime).join(', '),
  ]
  return parts.filter(Boolean).join(' · ')
}
