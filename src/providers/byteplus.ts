/**
 * BytePlus ModelArk: Seedream pictures and Seedance films (providers.md section 2).
 *
 * 1. Pictures are synchronous: the answer holds links (24 hours) or base64, which is stashed at once. A single item may
 *    be an error while the call is 200; the good ones are kept. A picture whose answer is lost can be found nowhere.
 * 2. Films are tasks. A failed task is HTTP 200; only `status` tells. An unknown status is pending.
 * 3. Every task carries our token as its `safety_identifier`, which the list gives back: so a task is found whose submit
 *    was never answered. `none` needs a list that reaches back to the submit and holds no task that could be ours. A
 *    caller's own identifier replaces the token: such a task is not found, and not taken for none either.
 * 4. DELETE cancels a queued task and erases a finished one, so the status is read before. Of one that runs it is refused:
 *    a canceled task never began, and is free.
 * 5. Callbacks are not signed: the token in the address is the proof, and the task is fetched again.
 * 6. No answer names money: pictures are billed by those that were made, films by their tokens, and both are counted there.
 */
import type { ErrorCode, StepError } from '../core/errors.ts'
import type { Json, JsonObject } from '../core/json.ts'
import type { FindJob, Found, Hint, InboundRequest, Provider, StartJob } from '../core/ports.ts'
import {
  type Answer,
  type Ask,
  aheadMs,
  at,
  below,
  codeByStatus,
  countedAt,
  type Dialect,
  fault,
  getAsk,
  idAt,
  jsonOf,
  knownIn,
  listAt,
  mediaLink,
  numberAt,
  orderAsk,
  type Pictures,
  pending,
  pictureless,
  postAsk,
  type Reading,
  readPoll,
  readSubmit,
  type Submitted,
  textAt,
  wordsAt,
} from './protocol.ts'
import { createWire, type ProtocolOptions } from './wire.ts'

export function createBytePlus(options: ProtocolOptions): Provider {
  const { key, baseUrl } = options
  const dialect = arkDialect(key)
  const wire = createWire({ ...options, dialect, secret: { header: 'authorization', value: `Bearer ${key ?? ''}` } })
  return {
    id: 'byteplus',
    missing: key === null ? 'Set ARK_API_KEY.' : null,
    // Seedance 2.x: 10 running tasks for an enterprise, 3 for an individual, whose further tasks queue or get a 429.
    concurrency: options.concurrency ?? 10,
    takes: { url: true, dataUriBytes: 30_000_000 },
    settleMs: 60_000,
    start: (job, signal) =>
      wire.submit(submitAsk(baseUrl, job), job, signal, answer =>
        job.role === 'image_to_video' ? readTask(dialect, answer, job) : readPictures(dialect, answer, job.jobsBefore),
      ),
    async check(ref, signal) {
      const id = idAt(ref, 'id')
      if (id === undefined) return wire.ended(ref) ?? wire.foreign()
      const every = wire.pace(at(ref, 'hooked') === true, VIDEO_POLL_MS)
      return wire.poll(id, taskAsk(baseUrl, 'GET', id), signal, every, answer => readCheck(dialect, answer, every))
    },
    async cancel(ref, signal) {
      const id = idAt(ref, 'id')
      if (id === undefined) return 'unsupported'
      const asked = await wire.ask(taskAsk(baseUrl, 'GET', id), signal)
      const status = asked.type === 'answered' ? textAt(asked.answer.json, 'status') : undefined
      if (status === 'running') return 'unsupported'
      if (status === 'cancelled') return 'unbegun'
      if (status !== 'queued') return 'failed'
      const deleted = await wire.ask(taskAsk(baseUrl, 'DELETE', id), signal)
      return deleted.type === 'answered' && deleted.answer.status < 300 ? 'unbegun' : 'failed'
    },
    async find(attempt, signal) {
      // A picture is no task: it is in no list, and no callback comes.
      if (attempt.role !== 'image_to_video') return { type: 'untraceable' }
      for (const tier of tiersOf(attempt.providerModel)) {
        const asked = await wire.ask(listAsk(baseUrl, tier), signal)
        const found: Found =
          asked.type === 'answered' ? readList(asked.answer, attempt, wire.isKnown) : { type: 'unknown' }
        if (found.type !== 'none') return found
      }
      return { type: 'none' }
    },
    webhook: async request => wire.heard(readWebhook(request)),
    open: (media, signal) => wire.open(media.url, signal),
  }
}

const VIDEO_POLL_MS = 5_000
/** A picture of 4K takes up to a minute; the answer may hold several in base64. */
const IMAGE_LIMITS = { timeoutMs: 240_000, maxBytes: 160 * 1024 * 1024 } as const
/** Clocks differ; a task that old cannot be ours. */
const SKEW_MS = 60_000

// ── Requests ──────────────────────────────────────────────────────────────────────────────────────

/** `POST /images/generations`, or `POST /contents/generations/tasks` for a film. */
export function submitAsk(
  baseUrl: string,
  job: Pick<StartJob, 'providerModel' | 'role' | 'body' | 'callbackUrl' | 'token'>,
): Ask {
  const trace = { 'x-client-request-id': markOf(job.token) }
  if (job.role !== 'image_to_video') {
    const ask = postAsk(below(baseUrl, 'images/generations'), { model: job.providerModel, ...job.body })
    return { ...ask, headers: { ...ask.headers, ...trace }, ...IMAGE_LIMITS }
  }
  const ask = orderAsk(below(baseUrl, TASKS), {
    model: job.providerModel,
    safety_identifier: markOf(job.token),
    ...job.body,
    ...(job.callbackUrl === null ? {} : { callback_url: job.callbackUrl }),
  })
  return { ...ask, headers: { ...ask.headers, ...trace } }
}

const TASKS = 'contents/generations/tasks'
/** What a task is recognised by. */
const markOf = (token: string): string => `bc_${token}`
/** The mark of any attempt: 128 bits in base64url. A caller's own value that only begins like it proves nothing. */
const MARK = /^bc_[\w-]{21}[AQgw]$/

function taskAsk(baseUrl: string, method: 'GET' | 'DELETE', id: string): Ask {
  return { ...getAsk(below(baseUrl, TASKS, id)), method }
}

/** Without `filter.model`: that one wants an endpoint id, and a wrong filter would look like an empty list. */
function listAsk(baseUrl: string, tier: string): Ask {
  const url = `${below(baseUrl, TASKS)}?page_num=1&page_size=500&filter.service_tier=${tier}`
  return { ...getAsk(url), maxBytes: 16 * 1024 * 1024 }
}

/** The list shows one tier at a time; Seedance 2 has only this one, and what an endpoint of one's own is its name does not say. */
const tiersOf = (model: string): readonly string[] => (/seedance-[2-9]/.test(model) ? ['default'] : ['default', 'flex'])

// ── Answers ───────────────────────────────────────────────────────────────────────────────────────

export const arkDialect = (key: string | null): Dialect => ({
  provider: 'byteplus',
  secrets: key === null ? [] : [key],
  codeOf: answer => codeByName(textAt(answer.json, 'error', 'code')) ?? codeByStatus(answer.status),
  wordsOf: json => wordsAt(at(json, 'error'), 'code', 'message'),
})

/** Codes come with details behind a dot (`InvalidParameter.Size`). */
export function codeByName(code: string | undefined): ErrorCode | undefined {
  if (code === undefined) return undefined
  // With `InputText…`, `OutputVideo…` before it or alone, with a detail behind it or not.
  if (/SensitiveContentDetected|RiskDetection/.test(code)) return 'content_rejected'
  if (/^(MissingParameter|InvalidParameter)/.test(code)) return 'invalid_input'
  if (/^(InvalidEndpoint|ModelNotOpen|UnsupportedModel)/.test(code)) return 'model_not_enabled'
  if (/^(AuthenticationError|AccessDenied)/.test(code)) return 'provider_unauthorized'
  // The owner's own spending cap is as final as an empty account.
  if (/^(AccountOverdueError|SetLimitExceeded)/.test(code)) return 'insufficient_credit'
  if (/^ServerOverloaded/.test(code)) return 'provider_overloaded'
  if (/RateLimitExceeded|^QuotaExceeded|^RequestBurstTooFast/.test(code)) return 'provider_rate_limited'
  if (/^InternalServiceError/.test(code)) return 'provider_error'
  return undefined
}

/** An error inside an answer that is a success as HTTP. */
function errorIn(dialect: Dialect, error: Json | undefined): StepError {
  const name = textAt(error, 'code')
  const code = codeByName(name) ?? 'provider_error'
  const refused = code === 'content_rejected' ? /^(Input|Output)/.exec(name ?? '')?.[1]?.toLowerCase() : undefined
  const says = refused && `refused the ${refused}`
  return fault(dialect, code, { words: wordsAt(error, 'code', 'message'), ...(says ? { says } : {}) })
}

export function readPictures(dialect: Dialect, answer: Answer, jobsBefore = 0): Submitted {
  return readSubmit(dialect, answer, json => {
    const items = listAt(json, 'data')
    const pictures = items.flatMap((item): Pictures['pictures'][number][] => {
      const [url, base64] = [mediaLink(at(item, 'url')), textAt(item, 'b64_json')]
      if (url !== null) return [{ url }]
      return base64 === undefined ? [] : [{ bytes: Buffer.from(base64, 'base64'), mime: 'image/jpeg' }]
    })
    if (pictures.length > 0) return { type: 'pictures', pictures, ...countedAt(json, 'usage', 'generated_images') }
    const error = items.map(item => at(item, 'error')).find(Boolean) ?? at(json, 'error')
    if (error) return { type: 'refused', error: errorIn(dialect, error) }
    const made = numberAt(json, 'usage', 'generated_images')
    return Array.isArray(at(json, 'data')) && items.length === 0 ? pictureless(dialect, jobsBefore, { made }) : null
  })
}

export function readTask(dialect: Dialect, answer: Answer, job: Pick<StartJob, 'callbackUrl'>): Submitted {
  return readSubmit(dialect, answer, json => {
    const id = idAt(json, 'id')
    return id === undefined
      ? null
      : { type: 'accepted', jobRef: refTo(id, job.callbackUrl !== null), pollAfterMs: VIDEO_POLL_MS }
  })
}

const refTo = (id: string, hooked: boolean): JsonObject => ({ id, hooked })

const STATUSES = ['queued', 'running', 'succeeded', 'failed', 'cancelled', 'expired'] as const

export function readCheck(dialect: Dialect, answer: Answer, everyMs: number): Reading {
  return readPoll(dialect, answer, everyMs, json => {
    const said = textAt(json, 'status')
    if (said === undefined) return null
    const status = knownIn(STATUSES, said)
    if (status === null) return pending(everyMs)
    switch (status) {
      case 'queued':
      case 'running':
        return pending(everyMs)
      case 'succeeded': {
        const url = mediaLink(at(json, 'content', 'video_url'))
        if (url === null) return { type: 'failed', error: fault(dialect, 'output_invalid', { words: said }) }
        const tokens = countedAt(json, 'usage', 'completion_tokens')
        return { type: 'succeeded', media: [{ url, mime: 'video/mp4' }], ...tokens }
      }
      case 'failed':
        return { type: 'failed', error: errorIn(dialect, at(json, 'error')) }
      case 'cancelled':
        return { type: 'failed', error: fault(dialect, 'canceled', { words: said }), costUsd: 0 }
      case 'expired':
        return {
          type: 'failed',
          error: fault(dialect, 'provider_error', { says: 'let the job expire in its queue', words: said }),
        }
      default:
        return status satisfies never
    }
  })
}

/** Whether the list of tasks holds the one of an attempt. `isKnown`: ids that belong to other attempts for sure. */
export function readList(
  answer: Answer,
  attempt: Pick<FindJob, 'token' | 'startedAt'>,
  isKnown: (id: string) => boolean,
): Found {
  const json = answer.status === 200 ? answer.json : undefined
  const items = at(json, 'items')
  if (!Array.isArray(items)) return { type: 'unknown' }
  const ours = items.find(item => textAt(item, 'safety_identifier') === markOf(attempt.token))
  if (ours !== undefined) {
    const id = idAt(ours, 'id')
    return id === undefined ? { type: 'unknown' } : { type: 'found', jobRef: refTo(id, false), pollAfterMs: 0 }
  }
  // When it was submitted, by their clock.
  const since = attempt.startedAt - aheadMs(answer) - SKEW_MS
  const times = items.map(item => (numberAt(item, 'created_at') ?? Number.POSITIVE_INFINITY) * 1_000)
  const whole = items.length >= (numberAt(json, 'total') ?? Number.POSITIVE_INFINITY)
  const newestFirst = times.every((time, i) => i === 0 || time <= (times[i - 1] ?? 0))
  const reachesBack = whole || (newestFirst && (times.at(-1) ?? Number.POSITIVE_INFINITY) < since)
  const mayBeOurs = items.some((item, i) => {
    const foreign = MARK.test(textAt(item, 'safety_identifier') ?? '') || isKnown(textAt(item, 'id') ?? '')
    return !foreign && (times[i] ?? 0) >= since
  })
  return reachesBack && !mayBeOurs ? { type: 'none' } : { type: 'unknown' }
}

// ── Webhook ───────────────────────────────────────────────────────────────────────────────────────

/** The body is the task, at every change of its status. */
export function readWebhook(request: InboundRequest): Hint {
  const id = idAt(jsonOf(request.body), 'id')
  return id === undefined
    ? { type: 'refused', reason: 'the body is no task' }
    : { type: 'hint', jobRef: refTo(id, true) }
}
