/**
 * One run as it is now: its events as they come, and the run itself, asked for again after each.
 *
 * 1. The events say when something changed, the run says what is true: the page never computes a state of its own.
 * 2. A lost connection is not a lost run: it is taken up after the last event seen, with growing pauses.
 * 3. At most one request for the run is under way; events that come meanwhile lead to one more.
 * 4. One timer asks again: while the callback is pending, and after a failure that may be over in a moment.
 */
import { batch, type Signal, signal } from '@preact/signals'
import type { EventDto, RunDto } from '../http/dto.ts'
import { pause, pauseMs } from './again.ts'
import { ApiFailure, api, failureOf } from './api.ts'

export type Line = 'connecting' | 'live' | 'paused' | 'ended'

export interface LiveRun {
  run: Signal<RunDto | null>
  events: Signal<readonly EventDto[]>
  line: Signal<Line>
  failure: Signal<ApiFailure | null>
  /** Asks for the run now, such as after an order. */
  refresh(): void
  close(): void
}

/** The callback goes on after the run has ended, without an event of its own. */
const CALLBACK_MS = 1500

export function isOver(run: Pick<RunDto, 'status'>): boolean {
  return run.status !== 'queued' && run.status !== 'running'
}

export function watchRun(id: string, known: RunDto | null = null): LiveRun {
  const gone = new AbortController()
  const live = {
    run: signal<RunDto | null>(known),
    events: signal<readonly EventDto[]>([]),
    line: signal<Line>('connecting'),
    failure: signal<ApiFailure | null>(null),
  }
  let timer: ReturnType<typeof setTimeout> | undefined
  let failures = 0
  const later = (ms: number) => {
    clearTimeout(timer)
    if (!gone.signal.aborted) timer = setTimeout(refresh, ms)
  }
  const ask = async () => {
    const run = await api<RunDto>('GET', `/api/v1/runs/${id}`, { signal: gone.signal })
    failures = 0
    batch(() => {
      live.run.value = run
      live.failure.value = null
    })
    if (run.callback?.status === 'pending') later(CALLBACK_MS)
  }
  const refresh = coalesced(ask, failure => {
    live.failure.value = failure
    if (failure.passes) later(pauseMs(failures++))
  })
  refresh()
  void follow(id, live, refresh, gone.signal)
  const close = () => {
    gone.abort()
    clearTimeout(timer)
  }
  return { ...live, refresh, close }
}

function coalesced(ask: () => Promise<void>, failed: (failure: ApiFailure) => void): () => void {
  let busy = false
  let again = false
  const go = async (): Promise<void> => {
    if (busy) {
      again = true
      return
    }
    busy = true
    await ask().catch(error => {
      if (error instanceof ApiFailure) failed(error)
    })
    busy = false
    if (again) {
      again = false
      void go()
    }
  }
  return () => void go()
}

type Parts = Pick<LiveRun, 'run' | 'events' | 'line' | 'failure'>

async function follow(id: string, live: Parts, refresh: () => void, gone: AbortSignal): Promise<void> {
  for (let failed = 0; !gone.aborted; ) {
    try {
      const over = await readOnce(id, live, refresh, gone, () => {
        failed = 0
      })
      if (over) break
    } catch (error) {
      if (gone.aborted) return
      if (error instanceof ApiFailure && error.status >= 400 && error.status < 500) {
        live.failure.value = error
        return
      }
    }
    live.line.value = 'paused'
    await pause(pauseMs(failed), gone)
    failed += 1
  }
  if (!gone.aborted) {
    live.line.value = 'ended'
    refresh()
  }
}

/** Reads the stream until it ends; true when the run has ended with it. */
async function readOnce(
  id: string,
  live: Parts,
  refresh: () => void,
  gone: AbortSignal,
  connected: () => void,
): Promise<boolean> {
  const last = live.events.value.at(-1)
  const answer = await fetch(`/api/v1/runs/${id}/events?after=${last?.seq ?? 0}`, { signal: gone })
  if (answer.status === 204) return true
  if (!answer.ok) throw await failureOf(answer)
  if (!answer.body) return false
  connected()
  live.line.value = 'live'
  if (last) refresh() // the run may have gone on while we were away
  for await (const news of eventsOf(answer.body)) {
    const seen = live.events.value.at(-1)?.seq ?? 0
    live.events.value = [...live.events.value, ...news.filter(event => event.seq > seen)]
    refresh()
  }
  const end = live.events.value.at(-1)?.type ?? ''
  return ['run.succeeded', 'run.failed', 'run.canceled'].includes(end)
}

/** The events of each chunk together: a long log arrives in a few large pieces and is drawn as often. */
async function* eventsOf(body: ReadableStream<Uint8Array>): AsyncGenerator<EventDto[]> {
  const reader = body.pipeThrough(new TextDecoderStream() as ReadableWritablePair<string, Uint8Array>).getReader()
  let rest = ''
  for (;;) {
    const { done, value } = await reader.read()
    if (done) return
    const blocks = (rest + value).split('\n\n')
    rest = blocks.pop() ?? ''
    const events = blocks.flatMap(block => {
      const data = block.split('\n').find(line => line.startsWith('data: '))
      return data ? [JSON.parse(data.slice(6)) as EventDto] : []
    })
    if (events.length > 0) yield events
  }
}
