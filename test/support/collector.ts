/** An OpenTelemetry collector on loopback: keeps every span that it is sent, or behaves badly. All of it is searched for secrets. */
import { saw } from './secrets.ts'
import { until } from './server.ts'

export interface SeenSpan {
  name: string
  traceId: string
  spanId: string
  parentSpanId: string | null
  /** 1 internal, 3 client. */
  kind: number
  startMs: number
  endMs: number
  attributes: Record<string, string | number>
  /** 0 unset, 2 error. */
  status: number
  /** Of the resource. */
  service: Record<string, string | number>
}

type Value = { stringValue?: string; intValue?: number | string; doubleValue?: number }
type Attributes = { key: string; value: Value }[]
interface Body {
  resourceSpans: {
    resource: { attributes: Attributes }
    scopeSpans: {
      spans: {
        name: string
        traceId: string
        spanId: string
        parentSpanId?: string
        kind: number
        startTimeUnixNano: string
        endTimeUnixNano: string
        attributes: Attributes
        status: { code: number }
      }[]
    }[]
  }[]
}

export class Collector {
  readonly spans: SeenSpan[] = []
  /** Everything that was said to it: paths, headers, bodies. */
  said = ''
  posts = 0
  /** `hang` never answers, `refuse` does so for good. */
  mood: 'take' | 'hang' | 'refuse' = 'take'
  readonly #server = Bun.serve({
    port: 0,
    hostname: '127.0.0.1',
    idleTimeout: 0,
    fetch: request => this.#take(request),
  })

  get url(): string {
    return `http://127.0.0.1:${this.#server.port}`
  }

  of(traceId: string): SeenSpan[] {
    return this.spans.filter(span => span.traceId === traceId.replaceAll('-', ''))
  }

  /** Waits until so many spans have come; gives them all. */
  async have(count: number): Promise<SeenSpan[]> {
    return until(`${count} spans have come`, async () => (this.spans.length >= count ? this.spans : null))
  }

  async stop(): Promise<void> {
    await this.#server.stop(true)
  }

  async #take(request: Request): Promise<Response> {
    const text = await request.text()
    this.posts += 1
    const head = JSON.stringify([request.method, request.url, ...request.headers])
    this.said += `${head}\n${text}\n`
    saw('what a collector is told', text)
    if (this.mood === 'hang') return new Promise<Response>(() => {})
    if (this.mood === 'refuse') return new Response('no', { status: 400 })
    this.spans.push(...spansOf(JSON.parse(text) as Body))
    return Response.json({ partialSuccess: {} })
  }
}

function spansOf({ resourceSpans }: Body): SeenSpan[] {
  return resourceSpans.flatMap(({ resource, scopeSpans }) =>
    scopeSpans.flatMap(({ spans }) =>
      spans.map(span => ({
        name: span.name,
        traceId: span.traceId,
        spanId: span.spanId,
        parentSpanId: span.parentSpanId || null,
        kind: span.kind,
        startMs: Number(BigInt(span.startTimeUnixNano) / 1_000n) / 1_000,
        endMs: Number(BigInt(span.endTimeUnixNano) / 1_000n) / 1_000,
        attributes: plain(span.attributes),
        status: span.status.code,
        service: plain(resource.attributes),
      })),
    ),
  )
}

function plain(attributes: Attributes): Record<string, string | number> {
  return Object.fromEntries(
    attributes.map(({ key, value }) => [key, value.stringValue ?? Number(value.intValue ?? value.doubleValue)]),
  )
}
