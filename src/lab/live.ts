/**
 * One run as it is now: its events as they come, and the run itself, asked for again after each.
 *
 * 1. The events say when something changed, the run says what is true: the page never computes a state of its own.
 * 2. A lost connection is not a lost run: it is taken up after the last event seen, with growing pauses.
 * 3. At most one request for the run is under way; events that come meanwhile lead to one more.
 */
import { batch, type Signal, signal } from '@preact/signals'
import type { EventDto, RunDto } from '../http/dto.ts'
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

const PAUSES_MS = [500, 1000, 2000, 4000, 8000]

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
  const refresh = coalesced(async () => {
    const run = await api<RunDto>('GET', `/api/v1/runs/${id}`, { signal: gone.signal })
    batch(() => {
      live.run.value = run
      live.failure.value = null
    })
    // The callback goes on after the run has ended, without an event of its own.
    if (run.callback?.status === 'pending') setTimeout(() => !gone.signal.aborted && refresh(), 1500)
  }, live.failure)
  refresh()
  void follow(id, live, refresh, gone.signal)
  return { ...live, refresh, close: () => gone.abort() }
}

function coalesced(ask: () => Promise<void>, failure: Signal<ApiFailure | null>): () => void {
  let busy = false
  let again = false
  const go = async (): Promise<void> => {
    if (busy) {
      again = true
      return
    }
    busy = true
    await ask().catch(error => {
      if (error instanceof ApiFailure) failure.value = error
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
    await pause(PAUSES_MS[Math.min(failed, PAUSES_MS.length - 1)] ?? 8000, gone)
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

function pause(ms: number, gone: AbortSignal): Promise<void> {
  return new Promise(resolve => {
    const timer = setTimeout(resolve, ms)
    gone.addEventListener('abort', () => {
      clearTimeout(timer)
      resolve()
    })
    // A network that is back, or a reader who is, need not wait for the timer.
    addEventListener('online', () => resolve(), { once: true })
  })
}
