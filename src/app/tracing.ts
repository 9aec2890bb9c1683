/**
 * Traces, for whoever runs an OpenTelemetry collector: a span for every run, provider call and attempt of a callback.
 *
 * 1. Without a collector nothing is wrapped, and nothing of OpenTelemetry is loaded (`tracing/otlp.ts` is imported late).
 * 2. A run is a trace: its id is the trace's, so that the spans of a run meet, whichever process made them.
 * 3. A span tells ids, names, numbers and codes, and of an address its host: what else comes by may be a secret.
 * 4. Recording decides nothing and waits for nobody; what cannot be sent is dropped.
 */
import type { Logger } from 'pino'
import type { Config } from '../config.ts'
import type { SendOutcome } from '../core/delivery.ts'
import type { Notifier, Observer, Provider, Store } from '../core/ports.ts'
import { AttemptBook, type KnownAttempt } from './tracing/attempts.ts'
import { overlay } from './tracing/overlay.ts'

/** Something that has ended. Attributes have the names of OpenTelemetry's conventions where they have one. */
export interface Span {
  name: string
  /** Null when nobody can tell: then it is a trace of its own. */
  runId: string | null
  /** `run` is the root of its trace, `call` leaves this process. */
  kind: 'run' | 'call'
  /** Ms since the epoch on the wall, and how long it took (ms). */
  startedAt: number
  ms: number
  attributes: Readonly<Record<string, string | number | undefined>>
  /** What kind of error ended it, as a short code; null when it ended well. */
  error: string | null
}

export interface Spans {
  /** Never throws, never waits. */
  record(span: Span): void
  /** Sends what is left, for at most so many ms. */
  close(limitMs: number): Promise<void>
}

/** Wraps what is to be seen. */
export interface Tracing {
  store(store: Store): Store
  provider(provider: Provider): Provider
  notifier(notifier: Notifier): Notifier
  observer(observer: Observer): Observer
  close(limitMs: number): Promise<void>
}

export async function openTracing(config: Config['tracing'], version: string, log: Logger): Promise<Tracing> {
  if (!config) return NONE
  const { openSpans } = await import('./tracing/otlp.ts')
  return tracingTo(openSpans({ ...config, version, log }))
}

export function tracingTo(spans: Spans): Tracing {
  const book = new AttemptBook()
  const watch = stopwatch(spans)
  return {
    store: store => book.reading(store),
    provider: provider => traced(provider, book, watch),
    notifier: notifier => ({
      compose: (run, at) => notifier.compose(run, at),
      send: (delivery, signal) => {
        const { runId, host, attempts } = delivery
        const [, name = host, port] = /^(.*):(\d+)$/.exec(host) ?? []
        const attributes = {
          'babychain.run.id': runId,
          'babychain.delivery.id': delivery.id,
          'babychain.delivery.trigger': delivery.trigger,
          'babychain.attempt': attempts,
          'http.request.method': 'POST',
          'http.request.resend_count': Math.max(0, attempts - 1),
          'server.address': name,
          'server.port': port === undefined ? undefined : Number(port),
        }
        return watch('callback.deliver', runId, attributes, notifier.send(delivery, signal), factsOfSending)
      },
    }),
    observer: observer => ({
      ...observer,
      runEnded(run) {
        observer.runEnded(run)
        const { runId, slug, status, ms } = run
        const attributes = { 'babychain.run.id': runId, 'babychain.chain': slug, 'babychain.run.status': status }
        const error = status === 'failed' ? status : null
        spans.record({ name: 'run', runId, kind: 'run', startedAt: Date.now() - ms, ms, attributes, error })
      },
    }),
    close: limitMs => spans.close(limitMs),
  }
}

const NONE: Tracing = {
  store: store => store,
  provider: provider => provider,
  notifier: notifier => notifier,
  observer: observer => observer,
  close: async () => {},
}

/** What a call came to. */
interface Facts {
  outcome: string
  error: string | null
  httpStatus?: number
}

type Watch = <T>(
  name: string,
  runId: string | null,
  attributes: Span['attributes'],
  call: Promise<T>,
  factsOf: (answer: T) => Facts,
) => Promise<T>

/** Follows a call that has just begun, to its end. */
function stopwatch(spans: Spans): Watch {
  return async (name, runId, attributes, call, factsOf) => {
    const [startedAt, began] = [Date.now(), performance.now()]
    const record = ({ outcome, error, httpStatus }: Facts): void => {
      const ended = { 'babychain.outcome': outcome, 'http.response.status_code': httpStatus }
      const all = { ...attributes, ...ended, ...(error === null ? {} : { 'error.type': error }) }
      spans.record({ name, runId, kind: 'call', startedAt, ms: performance.now() - began, attributes: all, error })
    }
    try {
      const answer = await call
      record(factsOf(answer))
      return answer
    } catch (error) {
      record({ outcome: 'threw', error: error instanceof Error ? error.name : 'unknown' })
      throw error
    }
  }
}

function traced(provider: Provider, book: AttemptBook, watch: Watch): Provider {
  const { id } = provider
  const begin = (known: KnownAttempt | null) => [known?.runId ?? null, attributesOf(id, known)] as const
  const calls: Pick<Provider, 'start' | 'check' | 'cancel' | 'find'> = {
    start: (job, signal) =>
      watch('provider.submit', ...begin(book.ofToken(job.token)), provider.start(job, signal), factsOfAnswer),
    check: (jobRef, signal) =>
      watch('provider.check', ...begin(book.ofJob(id, jobRef)), provider.check(jobRef, signal), factsOfAnswer),
    cancel: (jobRef, signal) =>
      watch('provider.cancel', ...begin(book.ofJob(id, jobRef)), provider.cancel(jobRef, signal), outcome => ({
        outcome,
        error: outcome === 'failed' ? outcome : null,
      })),
  }
  if (provider.find) {
    const find = provider.find.bind(provider)
    calls.find = (attempt, signal) =>
      watch('provider.find', ...begin(book.ofToken(attempt.token)), find(attempt, signal), factsOfAnswer)
  }
  return overlay(provider, calls)
}

function attributesOf(provider: string, known: KnownAttempt | null): Span['attributes'] {
  return {
    'gen_ai.provider.name': provider,
    'gen_ai.request.model': known?.providerModel,
    'babychain.model': known?.model,
    'babychain.run.id': known?.runId,
    'babychain.step.id': known?.stepId,
    'babychain.step.key': known?.stepKey,
    'babychain.attempt': known?.no,
  }
}

/** Codes only: the words of an error may quote what somebody sent. */
function factsOfAnswer(answer: { type: string; error?: { code: string; httpStatus?: number } }): Facts {
  const { type, error } = answer
  return { outcome: type, error: error?.code ?? null, ...(error?.httpStatus ? { httpStatus: error.httpStatus } : {}) }
}

function factsOfSending(outcome: SendOutcome): Facts {
  if (outcome.type === 'failed') return { outcome: 'failed', error: outcome.errorClass }
  const { status } = outcome
  return { outcome: 'answered', error: status >= 200 && status < 300 ? null : String(status), httpStatus: status }
}
