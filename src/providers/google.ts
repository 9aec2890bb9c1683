/**
 * The Gemini API: pictures by generateContent, Veo films by predictLongRunning (providers.md section 6).
 *
 * 1. Pictures are synchronous and base64. A refusal is HTTP 200 without a picture; thoughts are skipped. With a candidate
 *    the model was at work, and its tokens may be billed: what came of it is then a job that failed.
 * 2. Films are operations. `done` is absent until they end; a refused one ends with `raiMediaFilteredReasons`.
 * 3. The key goes to the API's own origin only; the download of a film redirects, and the key stays behind.
 * 4. There is no list, no cancel and no webhook.
 */
import { type ErrorCode, type StepError, stepError } from '../core/errors.ts'
import { isObject, type Json } from '../core/json.ts'
import type { Provider, StartJob } from '../core/ports.ts'
import {
  type Answer,
  type Ask,
  at,
  below,
  codeByStatus,
  type Dialect,
  emptyHanded,
  fault,
  getAsk,
  holdsOnly,
  listAt,
  mediaLink,
  numberAt,
  orderAsk,
  type Pictures,
  pending,
  type Reading,
  readPoll,
  readSubmit,
  type Submitted,
  textAt,
  wordsAt,
} from './protocol.ts'
import { createWire, type ProtocolOptions } from './wire.ts'

export function createGoogle(options: ProtocolOptions): Provider {
  const { key, baseUrl } = options
  const dialect = googleDialect(key)
  const wire = createWire({ ...options, dialect, secret: { header: 'x-goog-api-key', value: key ?? '' } })
  return {
    id: 'google',
    missing: key === null ? 'Set GEMINI_API_KEY.' : null,
    concurrency: options.concurrency ?? 10,
    // One picture that fits into a request in base64; several may not (`tooLarge`).
    takes: { url: false, dataUriBytes: 14_000_000 },
    settleMs: 0,
    async start(job, signal) {
      const error = tooLarge(job)
      if (error !== null) return { type: 'refused', error }
      return wire.submit(submitAsk(baseUrl, job), job, signal, answer =>
        job.role === 'image_to_video' ? readOperation(dialect, answer) : readPicture(dialect, answer, job.jobsBefore),
      )
    },
    async check(ref, signal) {
      const name = nameAt(ref)
      if (name === undefined) return wire.ended(ref) ?? wire.foreign()
      const ask = getAsk(below(baseUrl, name))
      return wire.poll(name, ask, signal, POLL_MS, answer => readCheck(dialect, answer, POLL_MS))
    },
    cancel: async () => 'unsupported',
    open: (media, signal) => wire.open(media.url, signal),
  }
}

const POLL_MS = 10_000
/** One picture of 4K in base64. */
const SYNC = { timeoutMs: 240_000, maxBytes: 96 * 1024 * 1024 } as const

/** The name of an operation, safe to stand in a path. */
function nameAt(json: Json): string | undefined {
  const name = textAt(json, 'name')
  return name !== undefined && /^models\/[\w.-]*\w\/operations\/[\w.-]*\w$/.test(name) ? name : undefined
}

// ── Requests ──────────────────────────────────────────────────────────────────────────────────────

/** A request is at most 20 MB, with its pictures in base64. */
const MOST_BYTES = 20_000_000

function tooLarge({ body }: Pick<StartJob, 'body'>): StepError | null {
  const bytes = Buffer.byteLength(JSON.stringify(body))
  if (bytes <= MOST_BYTES) return null
  const words = `the request has ${bytes} bytes with its pictures; google takes at most ${MOST_BYTES}: give fewer or smaller pictures`
  return stepError('invalid_input', words, { provider: 'google' })
}

function submitAsk(baseUrl: string, job: Pick<StartJob, 'providerModel' | 'role' | 'body'>): Ask {
  const film = job.role === 'image_to_video'
  const url = `${below(baseUrl, 'models', job.providerModel)}:${film ? 'predictLongRunning' : 'generateContent'}`
  return { ...orderAsk(url, job.body), ...(film ? {} : SYNC) }
}

// ── Answers ───────────────────────────────────────────────────────────────────────────────────────

export const googleDialect = (key: string | null): Dialect => ({
  provider: 'google',
  secrets: key === null ? [] : [key],
  codeOf(answer) {
    const reasons = listAt(answer.json, 'error', 'details').map(detail => at(detail, 'reason'))
    if (reasons.includes('API_KEY_INVALID')) return 'provider_unauthorized'
    if (isRefusal(at(answer.json, 'error'))) return 'content_rejected'
    if (isUnserved(at(answer.json, 'error'))) return 'provider_unauthorized'
    return codeByName(textAt(answer.json, 'error', 'status')) ?? codeByStatus(answer.status)
  },
  wordsOf: json => wordsIn(at(json, 'error')),
  saysOf: json => (isUnserved(at(json, 'error')) ? UNSERVED : undefined),
  waitIn(json) {
    const delays = listAt(json, 'error', 'details').map(detail => textAt(detail, 'retryDelay') ?? '')
    const seconds = delays.map(delay => /^(\d+(?:\.\d+)?)s$/.exec(delay)?.[1]).find(Boolean)
    return seconds === undefined ? undefined : Number(seconds) * 1_000
  },
})

const wordsIn = (error: Json | undefined): string | undefined => wordsAt(error, 'status', 'message')

function codeByName(status: string | undefined): ErrorCode | undefined {
  switch (status) {
    case 'INVALID_ARGUMENT':
      return 'invalid_input'
    // Billing is not set up, or the region has no free tier.
    case 'FAILED_PRECONDITION':
      return 'insufficient_credit'
    case 'UNAUTHENTICATED':
    case 'PERMISSION_DENIED':
      return 'provider_unauthorized'
    case 'NOT_FOUND':
      return 'model_not_enabled'
    case 'RESOURCE_EXHAUSTED':
      return 'provider_rate_limited'
    case 'UNAVAILABLE':
      return 'provider_overloaded'
    case 'INTERNAL':
    case 'DEADLINE_EXCEEDED':
      return 'provider_error'
    default:
      return undefined
  }
}

/** gRPC's numbers, for an operation whose error names no status. */
const BY_NUMBER: Readonly<Record<number, string>> = {
  3: 'INVALID_ARGUMENT',
  4: 'DEADLINE_EXCEEDED',
  5: 'NOT_FOUND',
  7: 'PERMISSION_DENIED',
  8: 'RESOURCE_EXHAUSTED',
  9: 'FAILED_PRECONDITION',
  13: 'INTERNAL',
  14: 'UNAVAILABLE',
  16: 'UNAUTHENTICATED',
}

const REFUSED_OUTPUT: ReadonlySet<string> = new Set([
  'SAFETY',
  'IMAGE_SAFETY',
  'PROHIBITED_CONTENT',
  'IMAGE_PROHIBITED_CONTENT',
  'RECITATION',
  'IMAGE_RECITATION',
  'BLOCKLIST',
  'SPII',
])

export function readPicture(dialect: Dialect, answer: Answer, jobsBefore = 0): Submitted {
  return readSubmit(dialect, answer, json => {
    const blocked = textAt(json, 'promptFeedback', 'blockReason')
    if (blocked !== undefined) return { type: 'refused', error: refusal(dialect, 'refused the input', blocked) }
    const candidates = at(json, 'candidates') ?? (isModelAnswer(json) ? [] : undefined)
    if (!Array.isArray(candidates)) return null
    const pictures = candidates.flatMap(picturesIn)
    if (pictures.length > 0) return { type: 'pictures', pictures }
    const reason = textAt(candidates[0], 'finishReason') ?? 'no candidate'
    const words = [reason, textAt(candidates[0], 'finishMessage')].filter(Boolean).join(': ')
    if (REFUSED_OUTPUT.has(reason)) return { type: 'ended', error: refusal(dialect, 'refused the output', words) }
    if (!NO_PICTURE.has(reason) && mayHoldPicture(json, candidates)) return null
    // NO_IMAGE, IMAGE_OTHER, or words only.
    return { type: 'ended', error: emptyHanded(dialect, jobsBefore, { says: 'answered without a picture', words }) }
  })
}

const NO_PICTURE: ReadonlySet<string> = new Set(['NO_IMAGE', 'IMAGE_OTHER'])

/** What is no text may be a picture that cannot be read, and tokens of a picture are one: it is painted, and billed. */
function mayHoldPicture(json: Json, candidates: readonly Json[]): boolean {
  const counts = listAt(json, 'usageMetadata', 'candidatesTokensDetails')
  if (counts.some(count => at(count, 'modality') === 'IMAGE' && (numberAt(count, 'tokenCount') ?? 0) > 0)) return true
  const parts = candidates.flatMap(candidate => listAt(candidate, 'content', 'parts'))
  return !parts.every(part => at(part, 'thought') === true || holdsOnly(part, ['text', 'thoughtSignature']))
}

/** Lists that are empty are left out (proto3): what stands beside them tells an answer without candidates from a stranger's. */
function isModelAnswer(json: Json): boolean {
  const [usage, feedback] = [at(json, 'usageMetadata'), at(json, 'promptFeedback')]
  const named = textAt(json, 'responseId') ?? textAt(json, 'modelVersion')
  return isObject(usage) || isObject(feedback) || named !== undefined
}

const refusal = (dialect: Dialect, says: string, words: string | undefined): StepError =>
  fault(dialect, 'content_rejected', { says, words })

function picturesIn(candidate: Json): Pictures['pictures'][number][] {
  return listAt(candidate, 'content', 'parts').flatMap(part => {
    const data = textAt(part, 'inlineData', 'data')
    if (data === undefined || at(part, 'thought') === true) return []
    return [{ bytes: Buffer.from(data, 'base64'), mime: textAt(part, 'inlineData', 'mimeType') ?? 'image/png' }]
  })
}

export function readOperation(dialect: Dialect, answer: Answer): Submitted {
  return readSubmit(dialect, answer, json => {
    const name = nameAt(json)
    return name === undefined ? null : { type: 'accepted', jobRef: { name }, pollAfterMs: POLL_MS }
  })
}

/** An operation has no status words: it is done, with a response or an error, or it is not. */
export function readCheck(dialect: Dialect, answer: Answer, everyMs: number): Reading {
  return readPoll(dialect, answer, everyMs, json => {
    if (nameAt(json) === undefined) return null
    if (at(json, 'done') !== true) return pending(everyMs)
    const response = at(json, 'response', 'generateVideoResponse') ?? at(json, 'response')
    const media = listAt(response, 'generatedSamples').flatMap(sample => {
      const url = mediaLink(at(sample, 'video', 'uri'))
      return url === null ? [] : [{ url, mime: 'video/mp4' }]
    })
    if (media.length > 0) return { type: 'succeeded', media }
    const error = at(json, 'error')
    if (error !== undefined) return { type: 'failed', error: operationError(dialect, error) }
    const reasons = listAt(response, 'raiMediaFilteredReasons').filter(reason => typeof reason === 'string')
    const filtered = reasons.length > 0 || (numberAt(response, 'raiMediaFilteredCount') ?? 0) > 0
    const words = reasons.join('; ') || 'raiMediaFilteredCount'
    return {
      type: 'failed',
      error: filtered ? refusal(dialect, 'refused the output', words) : fault(dialect, 'output_invalid'),
    }
  })
}

function operationError(dialect: Dialect, error: Json): StepError {
  const words = wordsIn(error)
  if (isRefusal(error)) return refusal(dialect, 'refused the input', words)
  if (isUnserved(error)) return fault(dialect, 'provider_unauthorized', { ...UNSERVED, words })
  return fault(dialect, codeByName(nameOf(error)) ?? 'provider_error', { words })
}

const nameOf = (error: Json | undefined): string | undefined =>
  textAt(error, 'status') ?? BY_NUMBER[numberAt(error, 'code') ?? 0]

/** A refused content has no code of its own, only words. A wrong `safetySettings` is none. */
const REFUSAL_WORDS = /usage (guidelines|policies)|\bsafety\b(?! ?settings?\b)|responsible ai|prohibited/i

function isRefusal(error: Json | undefined): boolean {
  return nameOf(error) === 'INVALID_ARGUMENT' && REFUSAL_WORDS.test(wordsIn(error) ?? '')
}

/** A place that is not served has the code of billing that is not set up; where billing would open it, it is billing. */
const PLACE_WORDS = /\b(location|region|country)\b/i
const BILLING_WORDS = /\b(billing|free tier)\b/i

function isUnserved(error: Json | undefined): boolean {
  const words = wordsIn(error) ?? ''
  return nameOf(error) === 'FAILED_PRECONDITION' && PLACE_WORDS.test(words) && !BILLING_WORDS.test(words)
}

/** No other key and no credit helps, and all keys of ours meet it. */
const UNSERVED = {
  says: 'does not serve the place that this server calls from',
  hint: 'Let the server call from a place that the provider serves, or name another provider in provider_order, then resume the run.',
} as const
