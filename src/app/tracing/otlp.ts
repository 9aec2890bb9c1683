/**
 * Spans to an OpenTelemetry collector, by OTLP over HTTP in JSON. The only file that knows OpenTelemetry, and loaded only
 * when a collector is configured.
 *
 * 1. The trace of a run has the run's id without its dashes, and its root span the second half of that: both can be told by
 *    every process that ever has a part in the run. Other spans have ids of chance.
 * 2. A collector that is slow or down costs memory for `QUEUE` spans, and the spans beyond. It is told once.
 */
import { ROOT_CONTEXT, type SpanContext, SpanKind, SpanStatusCode, TraceFlags, trace } from '@opentelemetry/api'
import { OTLPTraceExporter } from '@opentelemetry/exporter-trace-otlp-http'
import { defaultResource, resourceFromAttributes } from '@opentelemetry/resources'
import { BatchSpanProcessor, RandomIdGenerator, type SpanExporter, TracerProvider } from '@opentelemetry/sdk-trace'
import type { Logger } from 'pino'
import type { Spans } from '../tracing.ts'

export interface OtlpOptions {
  url: string
  /** Secrets of the collector. */
  headers: Readonly<Record<string, string>>
  serviceName: string
  version: string
  log: Pick<Logger, 'info' | 'warn'>
}

/** About a megabyte. At 200 polls a second, what passes while a collector restarts. */
const QUEUE = 2_048
const BATCH = 512
const EVERY_MS = 2_000
/** One export, with its repetitions. */
const EXPORT_MS = 10_000

export function openSpans({ url, headers, serviceName, version, log }: OtlpOptions): Spans {
  const exporter = watched(new OTLPTraceExporter({ url, headers: { ...headers }, timeoutMillis: EXPORT_MS }), log)
  const chance = new RandomIdGenerator()
  let told: SpanContext | null = null
  const provider = new TracerProvider({
    resource: defaultResource().merge(
      resourceFromAttributes({ 'service.name': serviceName, 'service.version': version }),
    ),
    idGenerator: {
      generateTraceId: () => told?.traceId ?? chance.generateTraceId(),
      generateSpanId: () => told?.spanId ?? chance.generateSpanId(),
    },
    spanProcessors: [
      new BatchSpanProcessor({
        exporter,
        maxQueueSize: QUEUE,
        maxExportBatchSize: BATCH,
        scheduledDelayMillis: EVERY_MS,
        exportTimeoutMillis: EXPORT_MS,
      }),
    ],
  })
  const tracer = provider.getTracer('babychain', version)
  return {
    record(span) {
      const root = span.runId === null ? null : rootOf(span.runId)
      const isRoot = span.kind === 'run'
      told = isRoot ? root : null
      const made = tracer.startSpan(
        span.name,
        {
          kind: isRoot ? SpanKind.INTERNAL : SpanKind.CLIENT,
          startTime: hrTime(span.startedAt),
          attributes: { ...span.attributes },
        },
        root && !isRoot ? trace.setSpanContext(ROOT_CONTEXT, root) : ROOT_CONTEXT,
      )
      if (span.error !== null) made.setStatus({ code: SpanStatusCode.ERROR, message: span.error })
      made.end(hrTime(span.startedAt + span.ms))
    },
    async close(limitMs) {
      const limit = Promise.withResolvers<void>()
      const timer = setTimeout(limit.resolve, limitMs)
      await Promise.race([provider.shutdown().catch(() => {}), limit.promise])
      clearTimeout(timer)
    },
  }
}

/** The root span of a run's trace, made or not. Null for an id that is no UUID. */
function rootOf(runId: string): SpanContext | null {
  const hex = runId.replaceAll('-', '').toLowerCase()
  if (!/^[0-9a-f]{32}$/.test(hex)) return null
  return { traceId: hex, spanId: hex.slice(16), traceFlags: TraceFlags.SAMPLED, isRemote: true }
}

/** Seconds and nanoseconds: a number could be taken for a time since the start of this process. */
function hrTime(ms: number): [number, number] {
  const seconds = Math.floor(ms / 1_000)
  return [seconds, Math.floor((ms - seconds * 1_000) * 1e6)]
}

/** Says when spans begin to get lost, and when they no longer do. */
function watched(exporter: SpanExporter, log: OtlpOptions['log']): SpanExporter {
  let isLost = false
  return {
    export(spans, done) {
      exporter.export(spans, result => {
        const fails = result.code !== 0
        if (fails && !isLost)
          log.warn({ spans: spans.length }, 'traces do not reach the collector; look at OTEL_EXPORTER_OTLP_ENDPOINT')
        if (!fails && isLost) log.info({ spans: spans.length }, 'traces reach the collector again')
        isLost = fails
        done(result)
      })
    },
    shutdown: () => exporter.shutdown(),
  }
}
