/**
 * What all protocols share: one HTTP answer in the project's own words. Pure.
 *
 * 1. An answer is data: status, headers, bytes. Readers never throw, whatever the bytes are.
 * 2. A submit is `refused` only when the provider itself said no: any 4xx, or a 500 or 503 in the provider's own
 *    JSON. A gateway's page, a 502, 504 or 408, a 303, and a success that cannot be read are `unknown`: the job may
 *    run and be billed. A synchronous call that ran and gave nothing is no refusal either: it is a job that failed, or
 *    `unknown` where the answer counts a picture or may hold one that cannot be read: it is painted, and billed.
 * 3. A poll that cannot be answered is `unreachable`: the question failed, not the job. A job that the provider does
 *    not know is `lost`, and only several such answers in a row, over a minute, make it failed.
 * 4. The provider's own words are quoted shortened, without keys and without the query of a signed link.
 */
import { type ErrorCode, type StepError, stepError } from '../core/errors.ts'
import { isObject, type Json, type JsonObject } from '../core/json.ts'
import type { Checked, Started } from '../core/ports.ts'
import type { CancelAnswer } from '../core/run.ts'
import { type ProviderCall, retryAfterMs as retryAfterIn } from '../net/provider-http.ts'

/** One HTTP answer. */
export interface Answer {
  status: number
  /** Names in lower case. */
  headers: Readonly<Record<string, string>>
  /** The body, or undefined when it is not JSON: HTML, truncated, empty. The declared type is not believed. */
  json: Json | undefined
  /** When it came (ms since the epoch): a Retry-After may be a date. */
  at: number
}

/** One HTTP call as data; the key is attached on the wire. */
export type Ask = Pick<ProviderCall, 'method' | 'url' | 'headers' | 'body' | 'timeoutMs' | 'maxBytes'>

/** What a poll says. `lost`: the provider says that there is no such job, which may pass. */
export type Reading = Checked | { type: 'lost'; error: StepError }

/** How a provider's errors are told apart. */
export interface Dialect {
  provider: string
  /** Values that must never be quoted: the key, webhook secrets. */
  secrets: readonly string[]
  /** What an error answer means. */
  codeOf(answer: Answer): ErrorCode
  /** The provider's own words, or undefined when the body is not in the provider's own shape. */
  wordsOf(json: Json | undefined): string | undefined
  /** In place of the code's own sentence and hint, where those would mislead. */
  saysOf?(json: Json | undefined): { says: string; hint: string } | undefined
  /** A wish to wait that stands in the body (ms). */
  waitIn?(json: Json | undefined): number | undefined
}

export const LIMITS = {
  /** A status is a few kilobytes; a result with embedded data is refused. */
  answerBytes: 2 * 1024 * 1024,
  /** A queue answers at once; half a minute covers a slow upload of an embedded picture. */
  submitMs: 60_000,
  pollMs: 20_000,
  /** Longer wishes are asked again: a wrong date must not strand a step. */
  retryAfterMs: 3_600_000,
  /** Of a poll: the shortest life of a result is ten minutes (BFL), and one busy moment must not outlast it. */
  pollAgainMs: 60_000,
  /** A provider's words in our database and in a log line. */
  quote: 500,
} as const

// ── JSON ──────────────────────────────────────────────────────────────────────────────────────────

const DECODER = new TextDecoder('utf-8', { fatal: true })

/** Raw bytes as JSON, or undefined. */
export function jsonOf(body: Uint8Array): Json | undefined {
  try {
    return JSON.parse(DECODER.decode(body)) as Json
  } catch {
    return undefined
  }
}

/** What lies at a path, or undefined. Providers write null for what is absent (`"error": null`), and it counts as absent. */
export function at(json: Json | undefined, ...path: readonly (string | number)[]): Json | undefined {
  let here: Json | undefined = json
  for (const key of path) {
    if (typeof here !== 'object' || here === null) return undefined
    if (Array.isArray(here)) here = typeof key === 'number' ? here[key] : undefined
    else here = Object.hasOwn(here, key) ? here[String(key)] : undefined
  }
  return here ?? undefined
}

/** A non-empty string at a path, or undefined. */
export function textAt(json: Json | undefined, ...path: readonly (string | number)[]): string | undefined {
  const value = at(json, ...path)
  return typeof value === 'string' && value !== '' ? value : undefined
}

/** What some fields say together (`Code: message`), or undefined where none says anything. */
export function wordsAt(json: Json | undefined, ...names: readonly string[]): string | undefined {
  return names.flatMap(name => textAt(json, name) ?? []).join(': ') || undefined
}

/** A job id that may stand in a path, or undefined. */
export function idAt(json: Json | undefined, ...path: readonly (string | number)[]): string | undefined {
  const value = textAt(json, ...path)
  return value !== undefined && /^[\w~:=-][\w.~:=-]{0,199}$/.test(value) ? value : undefined
}

export function numberAt(json: Json | undefined, ...path: readonly (string | number)[]): number | undefined {
  const value = at(json, ...path)
  return typeof value === 'number' && Number.isFinite(value) ? value : undefined
}

export function listAt(json: Json | undefined, ...path: readonly (string | number)[]): readonly Json[] {
  const value = at(json, ...path)
  return Array.isArray(value) ? value : []
}

/** The status as one of those that we know, or null. */
export function knownIn<const S extends string>(known: readonly S[], value: Json | undefined): S | null {
  return known.find(each => each === value) ?? null
}

/** What a provider says that it counted, at a path; absent where that is no number above 0. */
export function countedAt(json: Json | undefined, ...path: readonly string[]): { counted?: number } {
  const counted = numberAt(json, ...path)
  return counted !== undefined && counted > 0 ? { counted } : {}
}

/** A share between 0 and 1, or null. */
export function shareOf(value: Json | undefined): number | null {
  return typeof value === 'number' && value >= 0 && value <= 1 ? value : null
}

// ── Requests ──────────────────────────────────────────────────────────────────────────────────────

const SMALL = { timeoutMs: LIMITS.pollMs, maxBytes: LIMITS.answerBytes } as const
const HEADERS = { accept: 'application/json' } as const

/** Asks for something small. */
export const getAsk = (url: string): Ask => ({ method: 'GET', url, headers: HEADERS, ...SMALL })

/** Tells something small. */
export const postAsk = (url: string, value: JsonObject): Ask => ({
  method: 'POST',
  url,
  headers: HEADERS,
  body: { type: 'json', value },
  ...SMALL,
})

/** Orders a job, with its pictures perhaps. */
export const orderAsk = (url: string, value: JsonObject): Ask => ({
  ...postAsk(url, value),
  timeoutMs: LIMITS.submitMs,
})

/** Sends files. */
export const formAsk = (url: string, value: FormData): Ask => ({
  method: 'POST',
  url,
  headers: HEADERS,
  body: { type: 'form', value },
  ...SMALL,
  timeoutMs: LIMITS.submitMs,
})

// ── Errors ────────────────────────────────────────────────────────────────────────────────────────

const SAYS: Partial<Record<ErrorCode, string>> = {
  provider_rate_limited: 'limits our rate',
  provider_overloaded: 'is overloaded',
  provider_error: 'failed',
  provider_lost: 'does not know the job',
  insufficient_credit: 'has no credit left on this account',
  provider_unauthorized: 'refused the key',
  model_not_enabled: 'does not offer the model to this account',
  content_rejected: 'refused the content',
  invalid_input: 'refused the parameters',
  input_fetch_failed: 'could not read the input picture',
  output_invalid: 'gave no usable output',
  output_fetch_failed: 'no longer has the output',
  network_error: 'could not be reached',
  canceled: 'reports the job as canceled',
}

/** A provider's error in our words, its own words attached. */
export function fault(
  dialect: Pick<Dialect, 'provider' | 'secrets'>,
  code: ErrorCode,
  more: {
    says?: string
    hint?: string
    words?: string | undefined
    answer?: Answer
    retryAfterMs?: number | undefined
  } = {},
): StepError {
  const { provider } = dialect
  const status = more.answer ? ` (HTTP ${more.answer.status})` : ''
  const words = more.words === undefined ? undefined : quote(more.words, dialect.secrets)
  return stepError(code, `${provider} ${more.says ?? SAYS[code] ?? 'failed'}${status}`, {
    provider,
    ...(more.answer ? { httpStatus: more.answer.status } : {}),
    ...(words ? { providerText: words } : {}),
    ...(more.hint === undefined ? {} : { hint: more.hint }),
    ...(more.retryAfterMs === undefined ? {} : { retryAfterMs: more.retryAfterMs }),
  })
}

/** The error that an answer is. */
export function errorOf(dialect: Dialect, answer: Answer): StepError {
  const code = dialect.codeOf(answer)
  const redirect = answer.status >= 300 && answer.status < 400
  return fault(dialect, code, {
    words: dialect.wordsOf(answer.json),
    answer,
    ...(redirect
      ? { says: 'answered with a redirect, which is not followed: check its base URL' }
      : dialect.saysOf?.(answer.json)),
    ...(isPassing(code) ? { retryAfterMs: retryAfterMs(answer) ?? cap(dialect.waitIn?.(answer.json)) } : {}),
  })
}

/** Why an input was not taken: whoever does not know the place of uploads says nothing of the model. */
export function uploadError(dialect: Dialect, answer: Answer): StepError {
  if (answer.status < 300)
    return fault(dialect, 'provider_error', { says: 'gave an answer to the upload that cannot be read', answer })
  if (dialect.codeOf(answer) !== 'model_not_enabled') return errorOf(dialect, answer)
  const words = dialect.wordsOf(answer.json)
  return fault(dialect, 'provider_error', { says: 'did not take the upload', words, answer })
}

const isPassing = (code: ErrorCode): boolean =>
  code === 'provider_rate_limited' || code === 'provider_overloaded' || code === 'provider_error'

/** What a status alone says; the protocols refine it by their own codes. */
export function codeByStatus(status: number): ErrorCode {
  if (status === 401 || status === 403) return 'provider_unauthorized'
  if (status === 402) return 'insufficient_credit'
  if (status === 404) return 'model_not_enabled'
  if (status === 429) return 'provider_rate_limited'
  if (status === 503 || status === 529) return 'provider_overloaded'
  if (status >= 400 && status < 500 && status !== 408 && status !== 409) return 'invalid_input'
  return 'provider_error'
}

/** `retry-after-ms`, else `Retry-After` (seconds or a date); one that is absent, absurd or 0 says nothing. Milliseconds. */
function retryAfterMs(answer: Answer): number | undefined {
  return cap(Number(answer.headers['retry-after-ms'])) ?? cap(retryAfterIn(answer.headers, answer.at) ?? undefined)
}

function cap(ms: number | undefined): number | undefined {
  return ms !== undefined && Number.isFinite(ms) && ms > 0 ? Math.min(Math.ceil(ms), LIMITS.retryAfterMs) : undefined
}

/** A job gave no output and no reason. One more may: where the step has had a job there before, this ends it. */
export function emptyHanded(
  dialect: Pick<Dialect, 'provider' | 'secrets'>,
  jobsBefore: number,
  more: Parameters<typeof fault>[2],
): StepError {
  return fault(dialect, jobsBefore === 0 ? 'provider_error' : 'output_invalid', more)
}

/** A provider's words, safe to store: no key, no signature of a link, no embedded file, not long. */
export function quote(words: string, secrets: readonly string[]): string {
  let safe = words
  for (const secret of secrets) if (secret.length >= 4) safe = safe.replaceAll(secret, '[redacted]')
  // A link without a query is matched too, and kept: else a run of `http://` is read to its end from each of them.
  const kept = (_: string, link: string, query?: string): string => (query === undefined ? link : `${link}?[redacted]`)
  return safe
    .replace(/(https?:\/\/[^\s"'?#<>]+)([?#][^\s"'<>]*)?/g, kept)
    .replace(/data:[\w.+/-]+;base64,[\w+/=]+/g, 'data:[redacted]')
    .replace(/\p{Cc}+/gu, ' ')
    .trim()
    .slice(0, LIMITS.quote)
}

/** FastAPI's validation errors, or its plain sentence: `{"detail": "…"}`, `{"detail": [{"loc", "msg"}]}`. */
export function fastApiWords(json: Json | undefined): string | undefined {
  const detail = at(json, 'detail')
  if (typeof detail === 'string') return detail
  if (!Array.isArray(detail)) return undefined
  const lines = detail.map(each => {
    const place = listAt(each, 'loc').join('.')
    const words = textAt(each, 'msg') ?? textAt(each, 'type') ?? 'invalid'
    return place === '' ? words : `${place}: ${words}`
  })
  return lines.join('; ') || undefined
}

/** Further ahead than this, no certificate would hold and nothing be answered: the header is wrong, not our clock. */
const MOST_AHEAD_MS = 365 * 24 * 3_600_000

/** How far our clock is ahead of the provider's, by the `Date` of its answer; 0 when that is absent or absurd. Milliseconds. */
export function aheadMs(answer: Pick<Answer, 'headers' | 'at'>): number {
  const { date = '' } = answer.headers
  // Such dates start with the name of a day; Date.parse alone would take far more.
  const ahead = /^(mon|tue|wed|thu|fri|sat|sun)/i.test(date) ? answer.at - Date.parse(date) : 0
  return ahead > 0 && ahead < MOST_AHEAD_MS ? ahead : 0
}

// ── Submits ───────────────────────────────────────────────────────────────────────────────────────

/** Whether an answer that is no success proves that nothing runs (invariant 2). */
function isRefusal(dialect: Dialect, answer: Answer): boolean {
  const { status } = answer
  if (status >= 300 && status < 400) return status !== 303
  if (status >= 400 && status < 500) return status !== 408
  if (status === 500 || status === 503 || status === 529) return dialect.wordsOf(answer.json) !== undefined
  return false
}

/** What a synchronous API gave: links, or bytes that must be stashed at once. */
export interface Pictures {
  type: 'pictures'
  pictures: readonly ({ url: string } | { bytes: Uint8Array; mime: string })[]
  counted?: number
}

/** A synchronous call that ran and gave nothing: a job that has failed, which may be billed where it does not say 0. */
export interface Ended {
  type: 'ended'
  error: StepError
  costUsd?: 0
}

export type Submitted = Started | Pictures | Ended

/** An answer of theirs without a picture; `made`: how many they say that they bill. Null where they bill one: it is somewhere. */
export function pictureless(
  dialect: Pick<Dialect, 'provider' | 'secrets'>,
  jobsBefore: number,
  { words, made }: { words?: string; made?: number | undefined },
): Ended | null {
  if (made !== undefined && made > 0) return null
  const error = emptyHanded(dialect, jobsBefore, { says: 'answered without a picture', words })
  return { type: 'ended', error, ...(made === 0 ? { costUsd: 0 } : {}) }
}

/** Whether a part of an answer holds texts under these names and nothing else: under any other there may be a picture. */
export function holdsOnly(part: Json, names: readonly string[]): boolean {
  if (!isObject(part)) return false
  return Object.entries(part).every(
    ([name, value]) => value === null || (names.includes(name) && typeof value === 'string'),
  )
}

/** The answer to a submit. `accept` reads a success; null when it is not what the provider documents. */
export function readSubmit(dialect: Dialect, answer: Answer, accept: (json: Json) => Submitted | null): Submitted {
  if (answer.status >= 200 && answer.status < 300) {
    const started = answer.json === undefined ? null : accept(answer.json)
    // A job's reference is stored and shown: one that holds our key is no reference.
    const isSafe = started !== null && (started.type === 'pictures' || !holdsSecret(started, dialect.secrets))
    return isSafe ? started : { type: 'unknown', error: unreadable(dialect, answer) }
  }
  const error = errorOf(dialect, answer)
  return isRefusal(dialect, answer) ? { type: 'refused', error } : { type: 'unknown', error }
}

function holdsSecret(started: Started | Ended, secrets: readonly string[]): boolean {
  const text = JSON.stringify(started)
  return secrets.some(secret => secret.length >= 4 && text.includes(secret))
}

function unreadable(dialect: Pick<Dialect, 'provider' | 'secrets'>, answer: Answer): StepError {
  return fault(dialect, 'provider_error', { says: 'gave an answer that cannot be read', answer })
}

// ── Polls ─────────────────────────────────────────────────────────────────────────────────────────

/** The answer to a poll. `read` reads a success; null when it is not what the provider documents. */
export function readPoll(
  dialect: Dialect,
  answer: Answer,
  everyMs: number,
  read: (json: Json) => Reading | null,
): Reading {
  if (answer.status >= 200 && answer.status < 300) {
    const reading = answer.json === undefined ? null : read(answer.json)
    return reading ?? unreachable(unreadable(dialect, answer), everyMs)
  }
  if (answer.status === 404 || answer.status === 410) {
    return { type: 'lost', error: fault(dialect, 'provider_lost', { words: dialect.wordsOf(answer.json), answer }) }
  }
  return unreachable(errorOf(dialect, answer), everyMs)
}

/** The question failed: asked again at least twice as late, and as late as the provider wishes, within a minute. */
export function unreachable(error: StepError, everyMs: number): Checked {
  const wishMs = Math.min(error.retryAfterMs ?? 0, LIMITS.pollAgainMs)
  return { type: 'unreachable', error, pollAfterMs: Math.max(2 * everyMs, wishMs) }
}

export const pending = (pollAfterMs: number, progress: number | null = null): Checked => ({
  type: 'pending',
  progress,
  pollAfterMs,
})

/** What a cancel came to when the provider would not say: the job says it. */
export function cancelSeen(checked: Checked): CancelAnswer {
  if (checked.type !== 'failed' || checked.error.code !== 'canceled') return 'failed'
  return checked.costUsd === 0 ? 'unbegun' : 'confirmed'
}

// ── Addresses ─────────────────────────────────────────────────────────────────────────────────────

/** An http(s) URL without credentials, or null. */
export function linkOf(value: Json | undefined): URL | null {
  if (typeof value !== 'string' || !URL.canParse(value)) return null
  const url = new URL(value)
  const plain = (url.protocol === 'https:' || url.protocol === 'http:') && url.username === '' && url.password === ''
  return plain ? url : null
}

/** The link as a string when it is one that can be downloaded. */
export const mediaLink = (value: Json | undefined): string | null => linkOf(value)?.href ?? null

export const isOwn = (url: string, base: string): boolean => linkOf(url)?.origin === new URL(base).origin

/** A path below a base URL; parts are escaped. */
export function below(base: string, ...parts: readonly string[]): string {
  return [base.replace(/\/+$/, ''), ...parts.map(part => part.split('/').map(encodeURIComponent).join('/'))].join('/')
}

/** The bytes of a base64 data URI, or null. */
export function dataOf(uri: string): { mime: string; bytes: Uint8Array<ArrayBuffer> } | null {
  const match = /^data:([\w.+-]+\/[\w.+-]+);base64,([A-Za-z0-9+/]+={0,2})$/.exec(uri)
  return match?.[1] && match[2] ? { mime: match[1], bytes: new Uint8Array(Buffer.from(match[2], 'base64')) } : null
}
