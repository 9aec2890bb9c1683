/**
 * The public HTTP API: one function from a Request to a Response.
 *
 * 1. Elysia routes, and describes routes; it parses, validates and coerces nothing. So the order is ours: request id,
 *    route, key, limits, body, validation (its own order would tell strangers about validation first).
 * 2. Every answer has X-Request-Id; every refusal is a problem document; nothing that was thrown reaches the caller.
 * 3. A path that exists but not with this method is 405 with Allow; OPTIONS says what a path takes.
 * 4. One log line for each answer, without query, headers or bodies: links carry signatures, bodies carry prompts.
 * 5. The document is made from fresh routes before the first request, and never changes.
 */
import { Elysia } from 'elysia'
import { chainRoutes } from './chains.ts'
import { deliveryRoutes } from './deliveries.ts'
import type { ApiDeps, Server } from './deps.ts'
import { eventRoutes } from './events.ts'
import { answerTo, type Context, type Exchange } from './exchange.ts'
import { healthRoutes } from './health.ts'
import { inboundRoutes } from './inbound.ts'
import { inboxRoutes } from './inbox.ts'
import { keyRoutes } from './keys.ts'
import { listRoutes } from './list.ts'
import { mediaRoutes } from './media.ts'
import { modelRoutes } from './models.ts'
import { describeApi, type OpenApiDocument } from './openapi/document.ts'
import { pageRoutes } from './openapi/page.ts'
import { ApiProblem, parameterProblem, problemResponse } from './problem.ts'
import { createRates, type Rates } from './rates.ts'
import { runRoutes } from './runs.ts'
import { sessionRoutes } from './session.ts'
import { createWaiters } from './wait.ts'
import { webhookSecretRoutes } from './webhook-secrets.ts'

export interface Api {
  /** Never throws. `server` is Bun's, for time-outs and addresses; without it both are unknown. */
  fetch(request: Request, server?: Server): Promise<Response>
  /** The OpenAPI document, frozen. */
  openapi: Readonly<OpenApiDocument>
}

export function createApi(deps: ApiDeps): Api {
  const exchanges = new WeakMap<Request, Exchange>()
  const waiters = createWaiters(deps)
  const rates = createRates(() => deps.clock.now())
  const context: Context = {
    deps,
    waiters,
    exchangeOf(request) {
      const exchange = exchanges.get(request)
      if (!exchange) throw new Error('a request came in by another door')
      return exchange
    },
  }
  const { store, engine, clock, metrics } = deps
  metrics.connect({
    counts: () => store.counts(),
    stats: () => engine.stats(),
    ready: () => deps.ready(),
    clock,
    waiters: () => waiters.count,
  })

  const routes = resources(context)
  const openapi = describeApi(routes, deps.version)
  const app = new Elysia({ normalize: false })
    .onError(({ code, error, request }) => {
      if (code === 'NOT_FOUND') return unrouted(context.exchangeOf(request), methods)
      return answerTo(error, context.exchangeOf(request), deps)
    })
    .use(routes)
    .use(pageRoutes(context, openapi, deps.version))
    .use(sessionRoutes(context))
    .use(inboxRoutes(context))
    .compile()
  const methods = methodsOf(app.routes)
  return {
    openapi,
    async fetch(request, server) {
      const started = performance.now()
      const requestId = `req_${clock.id()}`
      try {
        const exchange = begin(request, server, requestId, rates, deps.closing)
        exchanges.set(exchange.request, exchange)
        return finish(await answer(app, request, exchange, deps), exchange, deps, started)
      } catch (thrown) {
        return broken(thrown, requestId, deps)
      }
    },
  }
}

function resources(context: Context) {
  return new Elysia()
    .use(runRoutes(context))
    .use(listRoutes(context))
    .use(eventRoutes(context))
    .use(chainRoutes(context))
    .use(modelRoutes(context))
    .use(mediaRoutes(context))
    .use(deliveryRoutes(context))
    .use(webhookSecretRoutes(context))
    .use(keyRoutes(context))
    .use(inboundRoutes(context))
    .use(healthRoutes(context))
}

function begin(
  original: Request,
  server: Server | undefined,
  requestId: string,
  rates: Rates,
  closing: AbortSignal,
): Exchange {
  const head = original.method === 'HEAD'
  const named = URL.parse(original.url)
  const url = named ?? new URL(`http://localhost${original.url.replace(/^http:\/\/[^/]*/, '')}`)
  // Elysia looks for the path from the 12th character on: with a host name of three letters it would miss it.
  const short = named === null || named.host.length < 4
  const routed = short ? new Request(`http://localhost${url.pathname}${url.search}`, original) : original
  return {
    limits: {},
    closing,
    isStillAllowed: async () => true,
    charge(principal) {
      this.limits = rates.charge(principal)
    },
    request: head ? new Request(routed, { method: 'GET' }) : routed,
    head,
    get peer() {
      return server?.requestIP(original)?.address ?? ''
    },
    allowSilence: seconds => server?.timeout(original, seconds),
    url,
    requestId,
    route: 'none',
    params: {},
    principal: null,
    runId: null,
  }
}

/** The head of an answer: what GET would say, without its body. */
async function headOf(response: Response): Promise<Response> {
  const { status, headers, body } = response
  if (body && !headers.has('content-length')) {
    headers.set('content-length', String((await response.arrayBuffer()).byteLength))
  }
  return new Response(null, { status, headers })
}

async function answer(
  app: { handle(request: Request): Response | Promise<Response> },
  original: Request,
  exchange: Exchange,
  deps: ApiDeps,
): Promise<Response> {
  const headed = (response: Response) => (exchange.head ? headOf(response) : response)
  try {
    checkHost(original)
    return await headed(await app.handle(exchange.request))
  } catch (thrown) {
    return headed(answerTo(thrown, exchange, deps))
  }
}

/**
 * Bun takes any text for a Host. One that is none, and more than one, is refused (RFC 9112, section 3.2); HTTP/1.0, which
 * probes of health still speak, need not have one. @throws ApiProblem 400
 */
function checkHost({ url, headers }: Request): void {
  const host = headers.get('host')
  if (host === null || (URL.canParse(url) && !host.includes(','))) return
  throw parameterProblem('Host', 'The Host header does not name one host.', 'Send a name or an address, and its port.')
}

/** The last net: what broke outside of every handler. */
function broken(thrown: unknown, requestId: string, { log, metrics }: ApiDeps): Response {
  log.error({ err: thrown, request_id: requestId }, 'request failed')
  metrics.observer.fault('http', thrown)
  const response = problemResponse(new ApiProblem('internal', 'Something broke on our side.'), requestId, '/')
  response.headers.set('x-request-id', requestId)
  return response
}

/** Adds what every answer has, counts it, and logs it. */
function finish(response: Response, exchange: Exchange, deps: ApiDeps, started: number): Response {
  const { request, requestId, route, principal, runId } = exchange
  response.headers.set('x-request-id', requestId)
  for (const [name, value] of Object.entries(exchange.limits)) response.headers.set(name, value)
  const named = request.headers.get('x-client-request-id')
  if (named !== null && /^[\x21-\x7e]{1,128}$/.test(named)) response.headers.set('x-client-request-id', named)
  const seconds = (performance.now() - started) / 1000
  const { status } = response
  const method = exchange.head ? 'HEAD' : request.method
  deps.metrics.answered({ method, route, status, seconds })
  const ms = Math.round(seconds * 1000)
  const who = { api_key_id: principal?.apiKeyId, ...(runId === null ? {} : { run_id: runId }) }
  deps.log.info({ request_id: requestId, method, route, status, ms, ...who }, 'answered')
  return response
}

interface Methods {
  pattern: RegExp
  allow: string
}

/** What each path takes, from the routes. */
function methodsOf(routes: readonly { method: string; path: string }[]): Methods[] {
  const byPath = new Map<string, Set<string>>()
  for (const { method, path } of routes) {
    const methods = byPath.get(path) ?? new Set(['OPTIONS'])
    methods.add(method)
    if (method === 'GET') methods.add('HEAD')
    byPath.set(path, methods)
  }
  return [...byPath].map(([path, methods]) => ({
    pattern: new RegExp(`^${path.replaceAll('.', '\\.').replaceAll(/:[^/]+/g, '[^/]+')}/?$`),
    allow: [...methods].toSorted().join(', '),
  }))
}

function unrouted(exchange: Exchange, methods: readonly Methods[]): Response {
  const { request, requestId, url } = exchange
  const known = methods.filter(({ pattern }) => pattern.test(url.pathname))
  const allow = [...new Set(known.flatMap(each => each.allow.split(', ')))].toSorted().join(', ')
  if (known.length === 0) {
    return problemResponse(new ApiProblem('not_found', 'There is no such path.'), requestId, url.pathname)
  }
  if (request.method === 'OPTIONS') return new Response(null, { status: 204, headers: { allow } })
  const detail = `${url.pathname} does not take ${exchange.head ? 'HEAD' : request.method}.`
  return problemResponse(new ApiProblem('method_not_allowed', detail, { headers: { allow } }), requestId, url.pathname)
}
