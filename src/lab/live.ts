/**
 * One run as it is now: its events as they come, and the run itself, asked for again after each.
 *
 * 1. The events say when something changed, the run says what is true: the page never computes a state of its own.
 * 2. A lost connection is not a lost run: it is taken up after the last event seen, with growing pauses. So is one that
 *    was refused for now; only a refusal that asking again would not change ends it.
 * 3. At most one request for the run is under way; events that come meanwhile lead to one more.
 * 4. One timer asks again: while the callback is pending, and after a failure that may be over in a moment.
 * 5. The line is up only while nothing is wrong with either: a page that is behind says so.
 */
import { batch, computed, type ReadonlySignal, type Signal, signal } from '@preact/signals'
import type { EventDto, RunDto } from '../http/dto.ts'
import { pause, pauseMs } from './again.ts'
import { ApiFailure, api, asShown, failureOf } from './api.ts'

/** paused: it goes on by itself. refused: it does not. */
export type Line = 'connecting' | 'live' | 'ended' | 'paused' | 'refused'

export interface LiveRun {
  run: Signal<RunDto | null>
  events: ReadonlySignal<readonly EventDto[]>
  line: ReadonlySignal<Line>
  /** Why the page is behind, or null. */
  failure: ReadonlySignal<ApiFailure | null>
  /** Asks for the run now, such as after an order. */
  refresh(): void
  close(): void
}

interface Parts {
  run: Signal<RunDto | null>
  events: Signal<readonly EventDto[]>
  stream: Signal<'connecting' | 'live' | 'ended'>
  /** What came between the page and the events, and between the page and the run. */
  troubles: Readonly<Record<'events' | 'run', Signal<ApiFailure | null>>>
}

/** The callback goes on after the run has ended, without an event of its own. */
const CALLBACK_MS = 1500

export function isOver(run: Pick<RunDto, 'status'>): boolean {
  return run.status !== 'queued' && run.status !== 'running'
}

/** When a run that is over ended (ms). */
export function endedAt(run: Pick<RunDto, 'ended_at' | 'updated_at'>): number {
  return Date.parse(run.ended_at ?? run.updated_at)
}

/** How long a run took, or takes until now (ms). One that is over does not follow the clock. */
export function elapsed(
  run: Pick<RunDto, 'status' | 'created_at' | 'ended_at' | 'updated_at'>,
  clock: ReadonlySignal<number>,
): number {
  return (isOver(run) ? endedAt(run) : clock.value) - Date.parse(run.created_at)
}

export function watchRun(id: string, known: RunDto | null = null): LiveRun {
  const gone = new AbortController()
  const live: Parts = {
    run: signal(known),
    events: signal([]),
    stream: signal('connecting'),
    troubles: { events: signal(null), run: signal(null) },
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
      live.troubles.run.value = null
    })
    if (run.callback?.status === 'pending') later(CALLBACK_MS)
  }
  const refresh = coalesced(ask, failure => {
    live.troubles.run.value = failure
    if (failure.passes) later(pauseMs(failures++, failure))
  })
  refresh()
  void follow(id, live, refresh, gone.signal)
  const close = () => {
    gone.abort()
    clearTimeout(timer)
  }
  const failure = computed(() => gravest([live.troubles.run.value, live.troubles.events.value]))
  const line = computed<Line>(() => {
    if (!failure.value) return live.stream.value
    return failure.value.passes ? 'paused' : 'refused'
  })
  return { run: live.run, events: live.events, line, failure, refresh, close }
}

function gravest(failures: readonly (ApiFailure | null)[]): ApiFailure | null {
  return failures.find(each => each && !each.passes) ?? failures.find(each => each) ?? null
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

async function follow(id: string, live: Parts, refresh: () => void, gone: AbortSignal): Promise<void> {
  let failed = 0
  const connected = () => {
    failed = 0
    batch(() => {
      live.stream.value = 'live'
      live.troubles.events.value = null
    })
  }
  while (!gone.aborted) {
    const failure = await readOnce(id, live, refresh, gone, connected).catch(lossOf)
    if (gone.aborted) return
    live.troubles.events.value = failure
    if (failure === null) {
      live.stream.value = 'ended'
      refresh()
    }
    if (!failure?.passes) return
    await pause(pauseMs(failed++, failure), gone)
    // Whatever keeps the events away, what the run does now may be had.
    if (!gone.aborted) refresh()
  }
}

const lossOf = (error: unknown): ApiFailure => (error instanceof ApiFailure ? error : new ApiFailure(0, null))

/** Reads the stream until the run ends: null. One that ends earlier is lost. @throws ApiFailure and what a broken line throws */
async function readOnce(
  id: string,
  live: Parts,
  refresh: () => void,
  gone: AbortSignal,
  connected: () => void,
): Promise<ApiFailure | null> {
  const last = live.events.value.at(-1)
  const answer = await fetch(`/api/v1/runs/${id}/events?after=${last?.seq ?? 0}`, { headers: asShown(), signal: gone })
  if (answer.status === 204) return null
  if (!answer.ok) throw await failureOf(answer)
  if (!answer.body) return lossOf(null)
  connected()
  if (last) refresh() // the run may have gone on while we were away
  for await (const news of eventsOf(answer.body)) {
    const seen = live.events.value.at(-1)?.seq ?? 0
    live.events.value = [...live.events.value, ...news.filter(event => event.seq > seen)]
    refresh()
  }
  const end = live.events.value.at(-1)?.type ?? ''
  return ['run.succeeded', 'run.failed', 'run.canceled'].includes(end) ? null : lossOf(null)
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
