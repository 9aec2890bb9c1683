/**
 * Callbacks on their way: list, look at the attempts, send again, recover after an outage, try a receiver.
 *
 * 1. A key sees the deliveries of its own runs and no others.
 * 2. What is sent again has the same webhook-id and the same bytes; a failure of it restarts nothing.
 * 3. A ping answers what the receiver said by status and class, never with its words: we fetch no pages for strangers.
 */
import { Elysia } from 'elysia'
import { classOf, type Delivery, type DeliveryFilter } from '../core/delivery.ts'
import type { Json } from '../core/json.ts'
import { readJson } from './body.ts'
import type { ApiDeps } from './deps.ts'
import {
  DELIVERY_STATUSES,
  type PingDto,
  type PingOrderDto,
  pingOrder,
  presentDelivery,
  presentDeliveryAttempt,
  type RecoverDto,
  type RecoveryDto,
  recover as recoverShape,
} from './dto/deliveries.ts'
import { iso, isoOrNull, timeOf } from './dto/time.ts'
import { type Authorized, type Context, guarded, isUuid, json } from './exchange.ts'
import * as docs from './openapi/deliveries.ts'
import { ApiProblem, type RequestError, refusal, URL_NOT_ALLOWED } from './problem.ts'
import { checker } from './shape.ts'
import { createShares, type Shares } from './shares.ts'

export function deliveryRoutes(context: Context) {
  const pings = createShares({ perKey: MOST_PINGS_OF_A_KEY, inAll: MOST_PINGS })
  const route = (handler: (deps: ApiDeps, exchange: Authorized) => Promise<Response>) =>
    guarded(context, 'callbacks:manage', exchange => handler(context.deps, exchange))
  return new Elysia({ name: 'deliveries' })
    .get('/api/v1/deliveries', route(list), { detail: docs.list })
    .get('/api/v1/deliveries/:deliveryId', route(get), { detail: docs.get })
    .post('/api/v1/deliveries/:deliveryId/resend', route(resend), { parse: 'none', detail: docs.resend })
    .post('/api/v1/deliveries/recover', route(recover), { parse: 'none', detail: docs.recover })
    .post(
      '/api/v1/deliveries/test',
      route((deps, exchange) => ping(deps, exchange, pings)),
      { parse: 'none', detail: docs.test },
    )
}

// ── Reading ───────────────────────────────────────────────────────────────────────────────────────────────────────

async function list({ store, callbacks }: ApiDeps, exchange: Authorized): Promise<Response> {
  const filter = filterOf(exchange)
  const found = await store.deliveries({ ...filter, limit: filter.limit + 1 })
  const page = found.slice(0, filter.limit)
  const last = page.at(-1)
  const more = last !== undefined && found.length > page.length
  const cursor = more ? Buffer.from(`v1 ${last.createdAt} ${last.id}`).toString('base64url') : null
  const data = page.map(each => presentDelivery(callbacks.planned(each)))
  return json(200, { object: 'list', data, has_more: more, next_cursor: cursor })
}

async function get(deps: ApiDeps, exchange: Authorized): Promise<Response> {
  const delivery = await own(deps, exchange)
  const log = await deps.store.deliveryAttempts(delivery.id)
  const payload = JSON.parse(new TextDecoder().decode(delivery.body)) as Json
  return json(200, {
    ...presentDelivery(deps.callbacks.planned(delivery)),
    attempt_log: log.map(presentDeliveryAttempt),
    payload,
  })
}

/** All filters of a query. @throws ApiProblem 400 with every mistake at once */
function filterOf({ url, principal }: Authorized): DeliveryFilter {
  const filter: DeliveryFilter = { apiKeyId: principal.apiKeyId, limit: 20 }
  const errors: RequestError[] = []
  for (const [name, value] of url.searchParams) {
    const read = Object.hasOwn(FILTERS, name) ? FILTERS[name] : undefined
    const isTwice = name !== 'status' && url.searchParams.getAll(name).length > 1
    const wrong = isTwice
      ? 'this filter is given more than once; only status may be repeated'
      : read
        ? read(filter, value)
        : `there is no such filter; known: ${Object.keys(FILTERS).join(', ')}`
    if (wrong !== null) errors.push({ parameter: name.slice(0, 80), code: 'parameter', detail: wrong })
  }
  const [first] = errors
  if (first) throw new ApiProblem('invalid_request', first.detail, { errors })
  return filter
}

/** What each filter does; a sentence when its value means nothing. */
const FILTERS: Readonly<Record<string, (filter: DeliveryFilter, value: string) => string | null>> = {
  run_id(filter, value) {
    filter.runId = value.toLowerCase()
    return isUuid(filter.runId) ? null : 'run_id must be the id of a run'
  },
  status(filter, value) {
    const status = DELIVERY_STATUSES.find(each => each === value)
    if (!status) return `status must be one of ${DELIVERY_STATUSES.join(', ')}`
    filter.status = [...(filter.status ?? []), status]
    return null
  },
  host(filter, value) {
    filter.host = hostOf(value) ?? ''
    return filter.host === '' ? 'host must be a host or host:port' : null
  },
  limit(filter, value) {
    filter.limit = Number(value)
    return /^\d{1,3}$/.test(value) && filter.limit >= 1 && filter.limit <= 100
      ? null
      : 'limit must be a whole number from 1 to 100'
  },
  cursor(filter, value) {
    const text = Buffer.from(value.slice(0, 200), 'base64url').toString()
    const [, createdAt, id] = /^v1 (\d{1,15}) (msg_[0-9a-f]{32})$/.exec(text) ?? []
    if (createdAt === undefined || id === undefined) return 'cursor must be a next_cursor of a page, unchanged'
    filter.before = { createdAt: Number(createdAt), id }
    return null
  },
}

/** `host:port` in the form of the deliveries; https when no port is given. */
function hostOf(text: string): string | null {
  const known = text.length <= 300 && /^[^/?#@\s\\]+$/.test(text) && URL.canParse(`https://${text}`)
  if (!known) return null
  const { hostname, port } = new URL(`https://${text}`)
  return `${hostname}:${port || '443'}`
}

// ── Sending again ─────────────────────────────────────────────────────────────────────────────────────────────────

async function resend(deps: ApiDeps, exchange: Authorized): Promise<Response> {
  const delivery = await own(deps, exchange)
  await deps.callbacks.resend(delivery)
  const then = (await deps.store.delivery(delivery.id)) ?? delivery
  return json(202, presentDelivery(deps.callbacks.planned(then)), { location: `/api/v1/deliveries/${delivery.id}` })
}

const checkRecover = checker(recoverShape.schema)

async function recover(deps: ApiDeps, exchange: Authorized): Promise<Response> {
  const body = await readJson(exchange)
  const errors = checkRecover(body)
  if (errors.length > 0) throw refusal(errors)
  const order = body as RecoverDto
  const since = timeOf(order.since)
  const until = order.until === undefined ? deps.clock.now() : timeOf(order.until)
  const host = order.host === undefined ? null : hostOf(order.host)
  if (since === null) errors.push(wrongTime('since'))
  if (until === null) errors.push(wrongTime('until'))
  if (since !== null && until !== null && until <= since)
    errors.push({ pointer: '/until', code: 'range', detail: 'until must be after since' })
  if (order.host !== undefined && host === null)
    errors.push({ pointer: '/host', code: 'host', detail: 'host must be a host or host:port' })
  if (errors.length > 0 || since === null || until === null) throw refusal(errors)
  const range = { apiKeyId: exchange.principal.apiKeyId, since, until, ...(host === null ? {} : { host }) }
  const { count, lastAt } = await deps.callbacks.recover(range)
  const answer: RecoveryDto = {
    object: 'recovery',
    count,
    since: iso(since),
    until: iso(until),
    host,
    last_attempt_at: isoOrNull(lastAt),
  }
  return json(202, answer)
}

function wrongTime(field: string): RequestError {
  const detail = `${field} must be an ISO 8601 time with its zone`
  return { pointer: `/${field}`, code: 'time', detail, hint: 'Such as 2026-05-26T20:15:11Z.' }
}

// ── Trying a receiver ─────────────────────────────────────────────────────────────────────────────────────────────

/** A ping holds a socket for up to 15 s; more than a few of a key at once are no test. */
const MOST_PINGS_OF_A_KEY = 4
const MOST_PINGS = 32
const PING_SECONDS = 25

const checkPing = checker(pingOrder.schema)

async function ping(deps: ApiDeps, exchange: Authorized, pings: Shares): Promise<Response> {
  const { apiKeyId } = exchange.principal
  const body = await readJson(exchange)
  const errors = checkPing(body)
  if (errors.length > 0) throw refusal(errors)
  const { url } = body as PingOrderDto
  if (!deps.checkUrl(url)) throw refusal([{ pointer: '/url', ...URL_NOT_ALLOWED }])
  const place = pings.take(apiKeyId)
  if ('full' in place) throw busy(place.full)
  exchange.allowSilence(PING_SECONDS)
  try {
    const { id, at, outcome } = await deps.callbacks.ping(apiKeyId, url)
    const errorClass = classOf(outcome)
    const answer: PingDto = {
      object: 'ping',
      webhook_id: id,
      url,
      delivered: errorClass === null,
      http_status: outcome.type === 'answered' ? outcome.status : null,
      error_class: errorClass,
      redirects_to: outcome.type === 'answered' ? outcome.location : null,
      duration_ms: outcome.durationMs,
      sent_at: iso(at),
    }
    return json(200, answer)
  } finally {
    place.free()
  }
}

function busy(full: 'key' | 'server'): ApiProblem {
  const detail =
    full === 'key' ? `${MOST_PINGS_OF_A_KEY} pings of this key are under way.` : `${MOST_PINGS} pings are under way.`
  return new ApiProblem('rate_limited', detail, { headers: { 'retry-after': '5' } })
}

/** The delivery of the path, if it is the asker's. @throws ApiProblem 404 */
async function own({ store }: ApiDeps, { params, principal }: Authorized): Promise<Delivery> {
  const id = params.deliveryId ?? ''
  const delivery = /^msg_[0-9a-f]{32}$/.test(id) ? await store.delivery(id) : null
  if (delivery?.apiKeyId !== principal.apiKeyId) throw new ApiProblem('not_found', 'There is no such delivery.')
  return delivery
}
