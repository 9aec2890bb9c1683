/**
 * The Lab's only way to the server: the public API, with the session's cookie.
 *
 * 1. Every refusal becomes an `ApiFailure` that holds the problem document; no answer at all is one too (status 0).
 * 2. A 401 anywhere means that the session has ended: the page asks to sign in and keeps what was typed.
 * 3. What one key has seen is not shown to another: the page is loaded anew between two sessions. Every request names the
 *    key that the page shows: a session that another tab has made another's has ended here.
 */
import { signal } from '@preact/signals'
import type { SessionDto } from '../http/dto/session.ts'
import type { ProblemDto } from '../http/dto.ts'

/** Null until the server has answered. */
export const session = signal<SessionDto | null>(null)

export class ApiFailure extends Error {
  override name = 'ApiFailure'
  readonly status: number
  readonly problem: ProblemDto | null
  /** Asking again earlier is no use; 0 where the server says nothing about it. */
  readonly retryAfterMs: number

  constructor(status: number, problem: ProblemDto | null, retryAfterMs = 0) {
    super(problem?.detail ?? (status === 0 ? 'The server does not answer.' : `The server answered ${status}.`))
    this.status = status
    this.problem = problem
    this.retryAfterMs = retryAfterMs
  }

  /** What happened and what helps, for a reader. A hint that only points at the detail is none beside it. */
  get words(): string {
    const hint = this.problem?.hint ?? ''
    return hint === '' || hint.startsWith('See the detail') ? this.message : `${this.message} ${hint}`
  }

  /** This server has no such route: it is older than this page, or built without it. */
  get missing(): boolean {
    return this.status === 404 || this.status === 405
  }

  /** It may be over in a moment: no answer, one that took too long, too many requests, trouble of the server. */
  get passes(): boolean {
    return this.status === 0 || this.status === 408 || this.status === 429 || this.status >= 500
  }
}

export interface Call {
  body?: unknown
  headers?: Readonly<Record<string, string>>
  signal?: AbortSignal
}

/** @throws ApiFailure */
export async function api<T>(method: string, path: string, call: Call = {}): Promise<T> {
  const raw = call.body instanceof Blob
  const headers: Record<string, string> = { ...asShown(), ...call.headers }
  if (call.body !== undefined && !raw) headers['content-type'] = 'application/json'
  const init: RequestInit = { method, headers, credentials: 'same-origin' }
  if (call.body !== undefined) init.body = raw ? (call.body as Blob) : JSON.stringify(call.body)
  if (call.signal) init.signal = call.signal
  const lost = (error: unknown): never => {
    if (call.signal?.aborted) throw error
    throw new ApiFailure(0, null)
  }
  const response = await fetch(path, init).catch(lost)
  // An answer that breaks off is none.
  if (response.ok) return (response.status === 204 ? null : await response.json().catch(lost)) as T
  throw await failureOf(response)
}

/** The header by which the server knows whose session this page shows. */
export function asShown(): Record<string, string> {
  const id = session.value?.key_id
  return id === undefined ? {} : { 'x-babychain-key-id': id }
}

export async function failureOf(response: Response): Promise<ApiFailure> {
  const isProblem = response.headers.get('content-type')?.includes('json') ?? false
  const problem = isProblem ? ((await response.json().catch(() => null)) as ProblemDto | null) : null
  if (response.status === 401 && session.value?.signed_in) session.value = { ...session.value, signed_in: false }
  const seconds = Number(response.headers.get('retry-after') ?? 0)
  return new ApiFailure(response.status, problem, Number.isFinite(seconds) ? seconds * 1000 : 0)
}

export async function askSession(): Promise<void> {
  session.value = await api<SessionDto>('GET', '/api/v1/session')
}

/** @throws ApiFailure 401; CookieLost */
export async function signIn(credential: { key: string } | { token: string }): Promise<void> {
  const ended = session.value?.scopes !== undefined
  await api<SessionDto>('POST', '/api/v1/session', { body: credential })
  if (ended) return location.reload()
  await askSession()
  if (!session.value?.signed_in) throw new CookieLost()
}

/** The server took the credential, and the browser keeps no cookie of it. */
export class CookieLost extends Error {
  constructor() {
    const isPlain = location.protocol === 'http:'
    const why = isPlain
      ? 'it is sent over https only. Open the Lab at the https address of this server'
      : 'allow cookies'
    super(`The key is right, but the browser did not keep the cookie: ${why}, and sign in again.`)
  }
}

/** @throws ApiFailure */
export async function signOut(): Promise<void> {
  await api('DELETE', '/api/v1/session')
  location.reload()
}

/** Links name the server as others reach it; the page stays on the origin that it came from. */
export function local(url: string): string {
  const at = new URL(url, location.href)
  return at.pathname.startsWith('/api/v1/media/') ? at.pathname + at.search : url
}
