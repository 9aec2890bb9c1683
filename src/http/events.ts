/**
 * The events of a run as they happen (server-sent events), from the log: no gap, no repeat.
 *
 * 1. `id` is the event's number. A reader that comes back with Last-Event-ID (or `?after=`) gets what follows; a number
 *    that this run never had means from the start.
 * 2. A comment every 15 s keeps proxies and Bun from cutting a silent stream. The stream ends after the run's last event.
 * 3. At most `MOST_BUFFERED` bytes are held for a reader. One that leaves them unread for `STALL_MS` is cut; it comes back
 *    where it was.
 * 4. A key that is revoked hears no further event, and its streams end with the next one, or within 15 s.
 * 5. At most `MOST_STREAMS` are open, and `MOST_OF_A_KEY` of one key; however a stream ends, its place is free again.
 */
import { Elysia } from 'elysia'
import type { Clock } from '../core/ports.ts'
import { isEnded, type Run } from '../core/run.ts'
import type { ApiDeps } from './deps.ts'
import { presentEvent } from './dto/run.ts'
import { type Authorized, type Context, type Exchange, guarded } from './exchange.ts'
import * as docs from './openapi/runs.ts'
import { ApiProblem, parameterProblem } from './problem.ts'
import { ownRun, removedFrom } from './runs.ts'
import { createShares, type Shares } from './shares.ts'

export function eventRoutes(context: Context) {
  const streams = createShares({ perKey: MOST_OF_A_KEY, inAll: MOST_STREAMS })
  return new Elysia({ name: 'events' }).get(
    '/api/v1/runs/:runId/events',
    guarded(context, 'runs:read', exchange => events(context.deps, exchange, streams)),
    { detail: docs.events },
  )
}

/** Each is a file descriptor, and a process without a free one is deaf to everybody. */
const MOST_STREAMS = 2_000
/** An installation with one key shows every run under way to somebody: a thousand are what we are measured with. */
const MOST_OF_A_KEY = 1_024
/** Streams end with their runs, which take seconds to minutes. */
const FULL_RETRY_S = '10'
const RETRY_MS = 2_000
const PING_MS = 15_000
/** More than a thousand events: a reader this far behind does not read. */
const MOST_BUFFERED = 1 << 20
/** A reader whose buffer is full gets this long; a phone in a tunnel comes back by itself. */
const STALL_MS = 15_000

async function events(deps: ApiDeps, exchange: Authorized, streams: Shares): Promise<Response> {
  const { request, url, principal } = exchange
  const run = await ownRun(deps, exchange)
  const after = placeOf(request, url, run)
  // 204 tells an EventSource that there is nothing to come back for.
  if (isEnded(run) && after === run.lastSeq) return new Response(null, { status: 204 })
  if (exchange.head) return new Response(null, { headers: HEADERS })
  const place = streams.take(principal.apiKeyId)
  if ('full' in place) throw tooMany(place.full)
  exchange.allowSilence(0)
  return new Response(stream(deps, exchange, run, after, place.free), { headers: HEADERS })
}

const HEADERS = {
  'content-type': 'text/event-stream; charset=utf-8',
  'cache-control': 'no-cache, no-transform',
  'x-accel-buffering': 'no',
}

function tooMany(full: 'key' | 'server'): ApiProblem {
  const detail =
    full === 'key'
      ? `The key has ${MOST_OF_A_KEY} event streams open, and may have no more.`
      : `The server has ${MOST_STREAMS} event streams open, and opens no more.`
  const hint = 'Close streams that nobody reads, or poll the run: GET /api/v1/runs/{id}?wait=60.'
  return new ApiProblem('rate_limited', detail, { hint, headers: { 'retry-after': FULL_RETRY_S } })
}

/** The number after which the reader wants events. @throws ApiProblem 400 when `after` is no number */
function placeOf(request: Request, url: URL, run: Run): number {
  const query = url.searchParams.get('after')
  if (query !== null && !/^\d{1,9}$/.test(query)) throw parameterProblem('after', 'after must be the id of an event')
  const given = request.headers.get('last-event-id') ?? query ?? '0'
  const after = /^\d{1,9}$/.test(given) ? Number(given) : 0
  return after <= run.lastSeq ? after : 0
}

function stream(
  deps: ApiDeps,
  exchange: Exchange,
  run: Run,
  after: number,
  free: () => void,
): ReadableStream<Uint8Array> {
  const gone = new AbortController()
  const signal = AbortSignal.any([gone.signal, exchange.request.signal, deps.draining])
  const valve = createValve(deps.clock)
  return new ReadableStream<Uint8Array>(
    {
      start(controller) {
        const say = (text: string): void => controller.enqueue(encoder.encode(text))
        say(`retry: ${RETRY_MS}\n\n`)
        const leave = (): void => gone.abort()
        const stopPings = pings(deps.clock, () => {
          if ((controller.desiredSize ?? 0) > 0) say(': ping\n\n')
          exchange.isStillAllowed().then(allowed => allowed || leave(), leave)
        })
        pump(deps, run, after, signal, async text => {
          if (!(await exchange.isStillAllowed())) return leave()
          say(text)
          if ((controller.desiredSize ?? 0) > 0 || (await valve.opens())) return
          gone.abort()
          // Bun would keep the socket until the reader takes what it does not take.
          exchange.allowSilence(1)
          controller.error(new Error('the reader does not read'))
        })
          .catch(error => deps.log.warn({ err: error, run_id: run.id }, 'event stream broke off'))
          .finally(() => {
            stopPings()
            free()
            // For ever is over: who does not take what is left must not keep the socket.
            if (controller.desiredSize !== null) exchange.allowSilence(STALL_MS / 1000)
            close(controller)
          })
      },
      pull: () => valve.open(),
      cancel() {
        gone.abort()
        valve.open()
      },
    },
    new ByteLengthQueuingStrategy({ highWaterMark: MOST_BUFFERED }),
  )
}

const encoder = new TextEncoder()

async function pump(
  deps: ApiDeps,
  run: Run,
  after: number,
  signal: AbortSignal,
  send: (text: string) => Promise<void>,
): Promise<void> {
  const { store, links, clock } = deps
  const removed = await removedFrom(deps, run)
  const view = { link: (id: string) => links.media(id, clock.now()), removed }
  for await (const event of store.watch(run.id, after, signal)) {
    const data = JSON.stringify(presentEvent(event, run.id, view))
    await send(`id: ${event.seq}\nevent: ${event.type}\ndata: ${data}\n\n`)
    if (signal.aborted) return
  }
}

/** Stops the pump while the reader's buffer is full. */
function createValve(clock: Clock) {
  let settle: ((opened: boolean) => void) | null = null
  return {
    /** True when there is room again; false when the reader has taken nothing for too long. */
    opens: () =>
      new Promise<boolean>(resolve => {
        const forget = clock.at(clock.now() + STALL_MS, () => settle?.(false))
        settle = opened => {
          forget()
          settle = null
          resolve(opened)
        }
      }),
    open: () => settle?.(true),
  }
}

function pings(clock: Clock, ping: () => void): () => void {
  let forget = (): void => {}
  const next = (): void => {
    forget = clock.at(clock.now() + PING_MS, () => {
      ping()
      next()
    })
  }
  next()
  return () => forget()
}

function close(controller: ReadableStreamDefaultController): void {
  try {
    controller.close()
  } catch {
    // the reader has cancelled, and the stream with it
  }
}
