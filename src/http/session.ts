/**
 * Signing in with a browser: an API key, or a one-time token, becomes a cookie.
 *
 * 1. The cookie holds the key, sealed by this installation, and the time at which it ends. Nothing is stored; a revoked key
 *    ends its sessions at once, because every request asks who owns the key.
 * 2. No script can read the cookie (HttpOnly), no other site can send it (SameSite=Strict), and it counts only on requests
 *    that our own pages made: the browser says `Sec-Fetch-Site: same-origin`, or `Origin` names our host.
 * 3. A token signs in once, and only for a quarter of an hour.
 * 4. Tabs share one cookie: a page names the key that it shows (`X-Babychain-Key-Id`, of `key_id`), and a session that is
 *    another's by now counts for nothing there. So no request is made, or paid, by a key that the page does not show, and
 *    nobody is signed out by it.
 */
import { randomBytes } from 'node:crypto'
import { Elysia } from 'elysia'
import { isObject, type Json } from '../core/json.ts'
import { readJson } from './body.ts'
import type { ApiDeps, Principal } from './deps.ts'
import { presentSession, type SessionDto } from './dto/session.ts'
import { assertShown, badKey, type Context, type Exchange, json, open, unauthenticated } from './exchange.ts'
import { ApiProblem, type RequestError } from './problem.ts'

export interface Sessions {
  /** The API key of a request's session; null without a cookie, after its end, or when another site made the request. */
  keyOf(request: Request): string | null
  /** The Set-Cookie header of a new session. */
  cookie(key: string): string
  /** A token that signs in once with this key. */
  token(key: string): string
  /** The key of a token, which is spent by asking. */
  redeem(token: string): string | null
  /** When this process began, in milliseconds since the epoch. */
  startedAt: number
}

export interface SessionOptions {
  /** Seals what only this installation can open and nobody can change. */
  seal(secret: Uint8Array): Uint8Array
  /** Null when it was sealed elsewhere, or changed. */
  unseal(sealed: Uint8Array): Uint8Array | null
  now(): number
  /** Whether readers come over https; the cookie then never travels without. */
  secure: boolean
}

const LIFETIME_MS = 30 * 86_400_000
const TOKEN_MS = 15 * 60_000
const NAME = 'babychain_session'

export function createSessions({ seal, unseal, now, secure }: SessionOptions): Sessions {
  const tokens = new Map<string, { key: string; endsAt: number }>()
  return {
    startedAt: now(),
    keyOf(request) {
      const sealed = cookieOf(request)
      if (sealed === null || !ours(request)) return null
      const opened = unseal(Buffer.from(sealed, 'base64url'))
      const value = opened && (JSON.parse(Buffer.from(opened).toString('utf8')) as Sealed)
      return value && value.endsAt > now() ? value.key : null
    },
    cookie(apiKey) {
      const value: Sealed = { key: apiKey, endsAt: now() + LIFETIME_MS }
      const sealed = seal(Buffer.from(JSON.stringify(value)))
      return setCookie(Buffer.from(sealed).toString('base64url'), LIFETIME_MS / 1000, secure)
    },
    token(apiKey) {
      const token = randomBytes(24).toString('base64url')
      tokens.set(token, { key: apiKey, endsAt: now() + TOKEN_MS })
      return token
    },
    redeem(token) {
      const found = tokens.get(token)
      tokens.delete(token)
      return found && found.endsAt > now() ? found.key : null
    },
  }
}

function setCookie(value: string, seconds: number, secure: boolean): string {
  return `${NAME}=${value}; Path=/; HttpOnly; SameSite=Strict; Max-Age=${seconds}${secure ? '; Secure' : ''}`
}

function cookieOf(request: Request): string | null {
  const found = request.headers
    .get('cookie')
    ?.split(';')
    .find(part => part.trim().startsWith(`${NAME}=`))
  return found?.trim().slice(NAME.length + 1) || null
}

/** Whether one of our own pages made the request. Reading by typing an address is fine, changing something is not. */
function ours(request: Request): boolean {
  const site = request.headers.get('sec-fetch-site')
  const reads = request.method === 'GET' || request.method === 'HEAD'
  if (site !== null) return site === 'same-origin' || (reads && site === 'none')
  const origin = request.headers.get('origin')
  if (origin === null) return reads
  return URL.canParse(origin) && new URL(origin).host === request.headers.get('host')
}

interface Sealed {
  key: string
  endsAt: number
}

/** For our own pages, not part of the public API: left out of its document. */
const hidden = { detail: { hide: true } }

export function sessionRoutes(context: Context) {
  return new Elysia({ name: 'session' })
    .get(
      '/api/v1/session',
      open(context, exchange => state(context, exchange)),
      hidden,
    )
    .post(
      '/api/v1/session',
      open(context, exchange => signIn(context, exchange)),
      { parse: 'none', ...hidden },
    )
    .delete(
      '/api/v1/session',
      open(context, exchange => signOut(context, exchange)),
      hidden,
    )
}

/** What the page needs before anybody has signed in; strangers learn the mode and the version, as from /healthz. */
async function state({ deps }: Context, { request }: Exchange): Promise<Response> {
  return json(200, shown(deps, await signedIn(deps, request)))
}

/** @throws ApiProblem 401 where the session is another's by now: that one goes on */
async function signOut({ deps }: Context, { request }: Exchange): Promise<Response> {
  const principal = await signedIn(deps, request)
  if (principal) assertShown(request, principal)
  return json(200, shown(deps, null), { 'set-cookie': setCookie('', 0, false) })
}

async function signedIn(deps: ApiDeps, request: Request): Promise<Principal | null> {
  const key = deps.sessions?.keyOf(request) ?? null
  return key === null ? null : deps.auth(key)
}

function shown(deps: ApiDeps, principal: Principal | null): SessionDto {
  if (principal === null) return presentSession(deps, null)
  const { apiKeyId: keyId, scopes } = principal
  const inboxUrl = deps.inbox?.urlOf(keyId) ?? null
  return presentSession(deps, { keyId, scopes, startedAt: deps.sessions?.startedAt ?? 0, inboxUrl })
}

/** A key or a token, were each of its characters escaped. Strangers send it: what is held of each must be little. */
const SIGN_IN_BYTES = 4 << 10

async function signIn(context: Context, exchange: Exchange): Promise<Response> {
  const { deps } = context
  const { sessions } = deps
  if (!sessions) throw new ApiProblem('not_found', 'This server keeps no sessions.')
  const given = credentialOf(await readJson(exchange, SIGN_IN_BYTES))
  const key = 'key' in given ? given.key : sessions.redeem(given.token)
  if (key === null)
    throw unauthenticated('The sign-in link was used before, or is older than 15 minutes. Sign in with a key.')
  const principal = await deps.auth(key)
  if (principal === null) throw badKey()
  return json(201, shown(deps, principal), { 'set-cookie': sessions.cookie(key) })
}

function credentialOf(body: Json): { key: string } | { token: string } {
  const fields = isObject(body) ? Object.entries(body) : []
  const [name, value] = fields[0] ?? []
  if (fields.length === 1 && typeof value === 'string' && value.length <= 512) {
    if (name === 'key') return { key: value }
    if (name === 'token') return { token: value }
  }
  const detail = 'The body holds either `key` or `token`, a string.'
  const error: RequestError = { pointer: '', code: 'credential', detail }
  throw new ApiProblem('invalid_request', detail, { errors: [error] })
}
