/**
 * API keys: make, list, limit, rotate, revoke.
 *
 * 1. A text is shown with the answer that made it, and never again.
 * 2. A key can give, to itself too, no more than it may do itself: scopes, limits and end. Nor does it change, rotate or
 *    revoke a key that may do more.
 * 3. The bootstrap key, which the owner of the machine has, may do everything, and no other key touches it: nobody locks
 *    the owner out.
 * 4. What an answer says is true for the next request: a revoked key is refused at once, everywhere. Keys and texts end by
 *    the wall clock, and are shown by it.
 */
import { Elysia } from 'elysia'
import type { ApiKey, Scope } from '../core/keys.ts'
import { readJson } from './body.ts'
import type { ApiDeps, KeyBounds, KeyPatch, Locked } from './deps.ts'
import { type ChangeKeyDto, type CreateKeyDto, changeKey, createKey, presentKey } from './dto/keys.ts'
import { iso, timeOf } from './dto/time.ts'
import { type Authorized, type Context, guarded, json } from './exchange.ts'
import { refuseKey } from './idempotency.ts'
import * as docs from './openapi/keys.ts'
import { ApiProblem, type RequestError, refusal } from './problem.ts'
import { overlapOf, rotated } from './rotation.ts'
import { checker } from './shape.ts'

export function keyRoutes(context: Context) {
  const route = (handler: (deps: ApiDeps, exchange: Authorized) => Response | Promise<Response>) =>
    guarded(context, 'keys:manage', exchange => handler(context.deps, exchange))
  return new Elysia({ name: 'keys' })
    .post('/api/v1/keys', route(create), { parse: 'none', detail: docs.create })
    .get('/api/v1/keys', route(list), { detail: docs.list })
    .get('/api/v1/keys/:keyId', route(get), { detail: docs.get })
    .patch('/api/v1/keys/:keyId', route(change), { parse: 'none', detail: docs.change })
    .post('/api/v1/keys/:keyId/rotate', route(rotate), { parse: 'none', detail: docs.rotate })
    .post('/api/v1/keys/:keyId/revoke', route(revoke), { parse: 'none', detail: docs.revoke })
}

/** Of a key that says nothing else: enough for a product, too little to fall over. */
const DEFAULTS = { ratePerMinute: 600, maxRunning: 100, maxQueued: 1_000, dailyBudgetUsd: null, expiresAt: null }
const DEFAULT_SCOPES: readonly Scope[] = ['runs:read', 'runs:write']

const checkCreate = checker(createKey.schema)
const checkChange = checker(changeKey.schema)

async function create(deps: ApiDeps, exchange: Authorized): Promise<Response> {
  const { principal } = exchange
  refuseKey(exchange)
  const body = await readJson(exchange)
  const errors = [...checkCreate(body), ...expiryErrors(body, deps.wall())]
  if (errors.length > 0) throw refusal(errors)
  const order = body as CreateKeyDto
  const scopes = [...new Set(order.scopes ?? DEFAULT_SCOPES)]
  mustHave(principal.scopes, scopes)
  const own = deps.keys.bounds(principal.apiKeyId)
  const given = patchOf(order)
  mustBeWithin(own, given)
  const made = unlocked(await deps.keys.create({ ...within(own, DEFAULTS), ...given, name: order.name, scopes }))
  const shown = { ...show(deps, made.key), key: made.text, webhook_secret: made.secret }
  return json(201, shown, { location: `/api/v1/keys/${made.key.id}` })
}

function list(deps: ApiDeps): Response {
  const data = deps.keys.list().map(key => show(deps, key))
  return json(200, { object: 'list', data, has_more: false, next_cursor: null })
}

function get(deps: ApiDeps, exchange: Authorized): Response {
  return json(200, show(deps, named(deps, exchange)))
}

async function change(deps: ApiDeps, exchange: Authorized): Promise<Response> {
  const body = await readJson(exchange)
  const { id } = mayTouch(deps, exchange)
  const errors = [...checkChange(body), ...expiryErrors(body, deps.wall())]
  if (errors.length > 0) throw refusal(errors)
  const patch = patchOf(body as ChangeKeyDto)
  mustBeWithin(deps.keys.bounds(exchange.principal.apiKeyId), patch)
  return json(200, show(deps, unlocked((await deps.keys.change(id, patch)) ?? unknown())))
}

async function rotate(deps: ApiDeps, exchange: Authorized): Promise<Response> {
  refuseKey(exchange)
  const overlapMs = await overlapOf(exchange)
  const { id, revokedAt } = mayTouch(deps, exchange)
  if (revokedAt !== null) throw new ApiProblem('conflict', 'The key is revoked.', { hint: 'Make a new key.' })
  const made = rotated(unlocked((await deps.keys.rotate(id, overlapMs)) ?? unknown()))
  return json(200, { ...show(deps, made.key), key: made.text })
}

async function revoke(deps: ApiDeps, exchange: Authorized): Promise<Response> {
  const { id } = mayTouch(deps, exchange)
  return json(200, show(deps, unlocked((await deps.keys.revoke(id)) ?? unknown())))
}

function named({ keys }: ApiDeps, { params }: Authorized): ApiKey {
  return keys.find(params.keyId ?? '') ?? unknown()
}

/** The key of the path, for whoever would change it; asked when the body has come, as both keys are then. @throws ApiProblem 403 where it may do more than who asks */
function mayTouch(deps: ApiDeps, exchange: Authorized): ApiKey {
  const key = named(deps, exchange)
  const { apiKeyId, scopes } = exchange.principal
  if (key.id === deps.keys.bootstrap && apiKeyId !== key.id)
    throw new ApiProblem('forbidden', 'Only the bootstrap key itself changes, rotates or revokes the bootstrap key.', {
      hint: 'Use the bootstrap key; or, with the server stopped, `babychain keys` on its machine.',
    })
  mustHave(scopes, key.scopes)
  mustBeWithin(deps.keys.bounds(apiKeyId), deps.keys.bounds(key.id))
  return key
}

function unknown(): never {
  throw new ApiProblem('not_found', 'There is no such key.')
}

function unlocked<T extends object>(made: T | Locked): T {
  if ('locked' in made) throw new ApiProblem('conflict', made.locked)
  return made
}

/** @throws ApiProblem 403 when somebody would give, or touch a key that has, what they do not have */
function mustHave(own: readonly Scope[], wanted: readonly Scope[]): void {
  const lacking = wanted.find(scope => !own.includes(scope))
  if (lacking === undefined) return
  const detail = `Your key lacks the scope ${lacking}, so it can neither give it nor change a key that has it.`
  throw new ApiProblem('forbidden', detail)
}

const BOUNDED = {
  ratePerMinute: 'rate_per_minute',
  maxRunning: 'max_running',
  maxQueued: 'max_queued',
  dailyBudgetUsd: 'daily_budget_usd',
  expiresAt: 'expires_at',
} as const
const FIELDS = Object.keys(BOUNDED) as (keyof typeof BOUNDED)[]

/** @throws ApiProblem 403 when somebody would give, or touch a key that may use, more than they may use */
function mustBeWithin(own: KeyBounds, wanted: Partial<KeyBounds>): void {
  const beyond = FIELDS.find(field => {
    const [most, value] = [own[field], wanted[field]]
    return most !== null && value !== undefined && (value === null || value > most)
  })
  if (beyond === undefined) return
  const most = beyond === 'expiresAt' ? iso(own.expiresAt ?? 0) : String(own[beyond])
  const detail = `Your key has ${BOUNDED[beyond]} ${most}, so it can neither give more nor change a key with more.`
  throw new ApiProblem('forbidden', detail, { hint: 'Give at most what your key has; null is more than any limit.' })
}

/** What a key gets that its maker says nothing of: never more than the maker has. */
function within(own: KeyBounds, usual: KeyBounds): KeyBounds {
  const least = FIELDS.map(field => {
    const values = [own[field], usual[field]].filter(value => value !== null)
    return [field, values.length > 0 ? Math.min(...values) : null] as const
  })
  return { ...usual, ...Object.fromEntries(least) }
}

function expiryErrors(body: unknown, now: number): RequestError[] {
  const value = (body as { expires_at?: unknown } | null)?.expires_at
  if (typeof value !== 'string') return []
  const at = timeOf(value)
  if (at !== null && at > now) return []
  const detail = at === null ? 'expires_at must be an ISO 8601 time with its zone' : 'expires_at must be in the future'
  return [{ pointer: '/expires_at', code: 'time', detail, hint: 'Such as 2027-05-26T20:15:11Z, or null for never.' }]
}

/** What a body changes: fields that it leaves out stay. */
function patchOf(body: ChangeKeyDto): KeyPatch {
  const { name, expires_at, rate_per_minute, max_running, max_queued, daily_budget_usd } = body
  return {
    ...(name === undefined ? {} : { name }),
    ...(expires_at === undefined ? {} : { expiresAt: expires_at === null ? null : timeOf(expires_at) }),
    ...(rate_per_minute === undefined ? {} : { ratePerMinute: rate_per_minute }),
    ...(max_running === undefined ? {} : { maxRunning: max_running }),
    ...(max_queued === undefined ? {} : { maxQueued: max_queued }),
    ...(daily_budget_usd === undefined ? {} : { dailyBudgetUsd: daily_budget_usd }),
  }
}

function show({ keys, wall }: ApiDeps, key: ApiKey) {
  return presentKey(key, keys.spentUsd(key.id), wall())
}
