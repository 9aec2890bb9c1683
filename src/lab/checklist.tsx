/**
 * What a newcomer has done, ticked off by what the server knows: runs, their callbacks, and runs older than the process
 * that ended them. It goes away when all is done, or when it is sent away. Of a run the server does not know whether a page
 * or a program ordered it: what came since this browser first looked, and was not ordered here, was a program's.
 */
import { computed, signal } from '@preact/signals'
import { useEffect } from 'preact/hooks'
import type { RunDto, RunListDto } from '../http/dto.ts'
import { untilAnswered } from './again.ts'
import { api, session } from './api.ts'
import { models } from './catalog.ts'
import { endedAt } from './live.ts'
import { madeHere } from './orders.ts'

const DISMISSED = 'babychain.checklist'
const dismissed = signal(localStorage.getItem(DISMISSED) === 'done')
const recent = signal<readonly RunDto[]>([])

const FOUND = 'babychain.found'
/** The newest run that was there when this browser first looked: the Lab in another one may have made all up to it. */
const found = signal(localStorage.getItem(FOUND))

const items = computed(() => {
  const mine = madeHere()
  const began = Date.parse(session.value?.started_at ?? '') || Infinity
  const runs = recent.value
  const outlived = (run: RunDto) =>
    run.status === 'succeeded' && Date.parse(run.created_at) < began && endedAt(run) > began
  const own = [...models.value.values()].some(model =>
    model.routes.some(route => route.configured && route.provider !== 'sandbox'),
  )
  return [
    { text: 'ran a chain', done: runs.some(run => run.status === 'succeeded'), how: 'press Run below' },
    {
      text: 'called the API',
      done: runs.some(run => run.id > (found.value ?? '') && !mine.has(run.id)),
      how: 'copy the code below into a terminal',
    },
    {
      text: 'got a callback',
      done: runs.some(run => run.callback?.status === 'delivered'),
      how: 'name a receiver, or use the built-in inbox',
    },
    { text: 'added a provider key', done: own, how: 'set BFL_API_KEY or another one, and restart' },
    {
      text: 'killed it, and it went on',
      done: runs.some(outlived),
      how: 'kill -9 the server while a run is under way, start it again',
    },
  ]
})

export function Checklist() {
  useEffect(() => {
    const left = new AbortController()
    untilAnswered(() => api<RunListDto>('GET', '/api/v1/runs?limit=30'), { gone: left.signal })
      .then(list => {
        found.value ??= list.data[0]?.id ?? ''
        recent.value = list.data
        localStorage.setItem(FOUND, found.value)
      })
      .catch(() => {})
    return () => left.abort()
  }, [])
  const done = items.value.filter(item => item.done).length
  if (dismissed.value || done === items.value.length) return null
  return (
    <details class="checklist">
      <summary>
        <span class="pips" aria-hidden="true">
          {items.value.map(item => (
            <i key={item.text} class={item.done ? 'on' : ''} />
          ))}
        </span>
        first steps {done}/{items.value.length}
      </summary>
      <div class="drop-down">
        <ul>
          {items.value.map(item => (
            <li key={item.text} class={item.done ? 'done' : ''}>
              <span aria-hidden="true">{item.done ? '✓' : '·'}</span>
              <span>
                {item.text}
                {item.done ? <span class="offscreen"> (done)</span> : <small>{item.how}</small>}
              </span>
            </li>
          ))}
        </ul>
        <button
          type="button"
          class="quiet"
          onClick={() => {
            localStorage.setItem(DISMISSED, 'done')
            dismissed.value = true
          }}
        >
          do not show this again
        </button>
      </div>
    </details>
  )
}
