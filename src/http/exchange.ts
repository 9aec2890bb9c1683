/**
 * One request and its answer, and the door that every route has.
 *
 * 1. Who asks is settled before a byte of the body is read or a parameter is looked at: strangers learn nothing. It is asked
 *    again when the body is whole (body.ts), since a caller may take its time.
 * 2. A handler gives a Response or throws; what it throws becomes a problem document here.
 * 3. Handlers read the Request themselves (Elysia parses nothing), so that limits hold while a body streams in.
 */
import type { Scope } from '../core/keys.ts'
import type { ApiDeps, Principal } from './deps.ts'
import { ApiProblem, asProblem, bodyProblem, drainingProblem, problemResponse } from './problem.ts'
import type { Waiters } from './wait.ts'

export interface Exchange {
  readonly request: Request
  /** True for HEAD: routes see a GET, and what is costly need not be done. */
  readonly head: boolean
  /** Address of the peer; empty where there is no socket. */
  readonly peer: string
  /** Lets this exchange be silent for so many seconds, 0 for ever: Bun cuts silent handlers after 10 s. */
  allowSilence(seconds: number): void
  readonly url: URL
  readonly requestId: string
  /** The route's pattern, for metrics and logs: paths hold ids and must not become labels. */
  route: string
  params: Readonly<Record<string, string | null>>
  principal: Principal | null
  /** The run that was read or made, for the log. */
  runId: string | null
  /** Counts this request for its key; what is left then goes with the answer. @throws ApiProblem 429 */
  charge(principal: Principal): void
  limits: Readonly<Record<string, string>>
  /** Aborted when a stop waits for no body any more. */
  readonly closing: AbortSignal
  /** Asked again when a body has come, and by what goes on for minutes: false as soon as the key is revoked or has expired. */
  isStillAllowed(): Promise<boolean>
}

/** An exchange whose asker is known and has the scope of the route. */
export interface Authorized extends Exchange {
  principal: Principal
}

/** What the resources share. */
export interface Context {
  deps: ApiDeps
  waiters: Waiters
  exchangeOf(request: Request): Exchange
}

/** The part of Elysia's context that is used here. */
interface Routed {
  request: Request
  route: string
  params: Record<string, string>
}
type Answer = Response | Promise<Response>
type Handler = (routed: Routed) => Promise<Response>

/** A route for everyone. */
export function open(context: Context, handler: (exchange: Exchange) => Answer): Handler {
  return async ({ request, route, params }) => {
    const exchange = context.exchangeOf(request)
    exchange.route = route
    exchange.params = params
    try {
      return await handler(exchange)
    } catch (thrown) {
      return answerTo(thrown, exchange, context.deps)
    }
  }
}

/** A route for keys with a scope. Routes that make something are closed while the server stops. */
export function guarded(context: Context, scope: Scope, handler: (exchange: Authorized) => Answer): Handler {
  return open(context, async exchange => {
    exchange.principal = await authenticate(context.deps, exchange, scope)
    if (exchange.request.method === 'POST' && context.deps.draining.aborted) throw drainingProblem()
    return handler(exchange as Authorized)
  })
}

/** The owner of the bearer key, or of the key of a browser's session. @throws ApiProblem 400, 401, 403, 429 */
export async function authenticate(deps: ApiDeps, exchange: Exchange, scope: Scope): Promise<Principal> {
  const { request } = exchange
  const sealed = request.headers.has('authorization') ? null : deps.sessions?.keyOf(request)
  const header = sealed ? `Bearer ${sealed}` : request.headers.get('authorization')
  if (header === null) throw unauthenticated('The request has no Authorization header.')
  // Bun joins repeated headers with a comma; no scheme and no key of ours has one.
  if (header.includes(',')) throw bodyless('invalid_request', 'There is more than one Authorization header.')
  const key = /^Bearer +([\x21-\x7e]{1,512}) *$/i.exec(header)?.[1]
  if (key === undefined) throw unauthenticated('The Authorization header is not `Bearer <key>`.')
  const principal = await deps.auth(key)
  if (principal === null) throw badKey()
  if (sealed) assertShown(request, principal)
  exchange.charge(principal)
  exchange.isStillAllowed = async () => (await deps.auth(key)) !== null
  if (!principal.scopes.includes(scope)) {
    throw new ApiProblem('forbidden', `The key lacks the scope ${scope}.`, {
      headers: { 'www-authenticate': `${CHALLENGE}, error="insufficient_scope", scope="${scope}"` },
    })
  }
  return principal
}

/** The session is of the key that the page shows, where it names one. @throws ApiProblem 401 */
export function assertShown(request: Request, { apiKeyId }: Principal): void {
  const shown = request.headers.get('x-babychain-key-id')
  if (shown !== null && shown !== apiKeyId) throw unauthenticated('Another key has signed in since, in another tab.')
}

const CHALLENGE = 'Bearer realm="babychain"'

/** Unknown, expired and revoked keys are refused in the same words. */
export function badKey(): ApiProblem {
  return unauthenticated('The API key is unknown, expired or revoked.')
}

export function unauthenticated(detail: string): ApiProblem {
  return new ApiProblem('unauthenticated', detail, { headers: { 'www-authenticate': CHALLENGE } })
}

function bodyless(code: 'invalid_request', detail: string): ApiProblem {
  return new ApiProblem(code, detail, { errors: [{ parameter: 'Authorization', code, detail }] })
}

/** Turns whatever was thrown into an answer; bugs are logged, not shown. */
export function answerTo(thrown: unknown, exchange: Exchange, deps: ApiDeps): Response {
  const known = asProblem(thrown)
  const { requestId, url, request, route } = exchange
  if (known === null) {
    // A reader that went away while we read its body is neither our fault nor worth an alarm.
    if (request.signal.aborted) return problemResponse(bodyProblem('invalid_json', 'cut off'), requestId, url.pathname)
    deps.log.error({ err: thrown, request_id: requestId, route }, 'request failed')
    deps.metrics.observer.fault('http', thrown)
    return problemResponse(new ApiProblem('internal', 'Something broke on our side.'), requestId, url.pathname)
  }
  return problemResponse(known, requestId, url.pathname)
}

/** A JSON answer. `value` may be text that is JSON already. */
export function json(status: number, value: object | string, headers: Readonly<Record<string, string>> = {}): Response {
  return new Response(typeof value === 'string' ? value : JSON.stringify(value), {
    status,
    headers: { 'content-type': 'application/json', 'cache-control': 'no-store', ...headers },
  })
}

/** Whether an If-None-Match names this entity tag (RFC 9110: weak comparison). */
export function matches(header: string | null, etag: string): boolean {
  if (header === null) return false
  return header.split(',').some(each => each.trim() === '*' || each.trim().replace(/^W\//, '') === etag)
}

/** Ids in paths are UUIDs in lower case; anything else names nothing and must not reach the store. */
export function isUuid(text: string): boolean {
  return /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/.test(text)
}
