/**
 * Alibaba's DashScope, also called Model Studio (providers.md section 8).
 *
 * 1. Wan films and older picture models are tasks and need the header `X-DashScope-Async: enable`; picture models that
 *    take `input.messages` are synchronous and must not have it. Pictures are billed by those that were made.
 * 2. A failed task is HTTP 200. UNKNOWN is what an expired or foreign id answers.
 * 3. Only a PENDING task can be canceled, so that a canceled one is free. There is no webhook.
 */
import type { ErrorCode, StepError } from '../core/errors.ts'
import type { Json } from '../core/json.ts'
import type { Checked, Provider, StartJob } from '../core/ports.ts'
import type { ProviderMedia } from '../core/run.ts'
import {
  type Answer,
  type Ask,
  at,
  below,
  cancelSeen,
  codeByStatus,
  type Dialect,
  fault,
  getAsk,
  holdsOnly,
  idAt,
  knownIn,
  LIMITS,
  listAt,
  mediaLink,
  numberAt,
  orderAsk,
  pending,
  pictureless,
  type Reading,
  readPoll,
  readSubmit,
  type Submitted,
  textAt,
  wordsAt,
} from './protocol.ts'
import { createWire, type ProtocolOptions } from './wire.ts'

export function createDashScope(options: ProtocolOptions): Provider {
  const { key, baseUrl } = options
  const dialect = dashScopeDialect(key)
  const wire = createWire({ ...options, dialect, secret: { header: 'authorization', value: `Bearer ${key ?? ''}` } })
  const check = async (ref: Json, signal: AbortSignal): Promise<Checked> => {
    const id = idAt(ref, 'id')
    if (id === undefined) return wire.ended(ref) ?? wire.foreign()
    const ask = getAsk(below(baseUrl, 'tasks', id))
    return wire.poll(id, ask, signal, POLL_MS, answer => readCheck(dialect, answer, POLL_MS))
  }
  return {
    id: 'dashscope',
    missing: key === null ? 'Set DASHSCOPE_API_KEY.' : null,
    // Per model 2 to 10 running.
    concurrency: options.concurrency ?? 5,
    takes: { url: true, dataUriBytes: 7_000_000 },
    settleMs: 0,
    start: (job, signal) =>
      wire.submit(submitAsk(baseUrl, job), job, signal, answer =>
        isSync(job.body) ? readPictures(dialect, answer, job.jobsBefore) : readTask(dialect, answer),
      ),
    check,
    async cancel(ref, signal) {
      const id = idAt(ref, 'id')
      if (id === undefined) return 'unsupported'
      const ask: Ask = { ...getAsk(below(baseUrl, 'tasks', id, 'cancel')), method: 'POST' }
      const asked = await wire.ask(ask, signal)
      const stopped = asked.type === 'answered' && asked.answer.status < 300
      return stopped ? 'unbegun' : cancelSeen(await check(ref, signal))
    },
    open: (media, signal) => wire.open(media.url, signal),
  }
}

const POLL_MS = 10_000
/** Links come back, so the answer is small; painting takes up to two minutes. */
const SYNC = { timeoutMs: 240_000, maxBytes: LIMITS.answerBytes } as const

// ── Requests ──────────────────────────────────────────────────────────────────────────────────────

const isSync = (body: StartJob['body']): boolean => at(body, 'input', 'messages') !== undefined

/** The service that a body belongs to: what the input holds and what the step is for. */
function pathOf(job: Pick<StartJob, 'role' | 'body'>): string {
  if (isSync(job.body)) return 'multimodal-generation/generation'
  if (job.role === 'image_to_video') {
    // Wan 2.x key-frame models speak the older address.
    const keyFrames = at(job.body, 'input', 'first_frame_url') !== undefined
    return keyFrames ? 'image2video/video-synthesis' : 'video-generation/video-synthesis'
  }
  return job.role === 'text_to_image' ? 'text2image/image-synthesis' : 'image2image/image-synthesis'
}

export function submitAsk(baseUrl: string, job: Pick<StartJob, 'providerModel' | 'role' | 'body'>): Ask {
  const ask = orderAsk(below(baseUrl, 'services/aigc', pathOf(job)), { model: job.providerModel, ...job.body })
  return isSync(job.body) ? { ...ask, ...SYNC } : { ...ask, headers: { ...ask.headers, 'x-dashscope-async': 'enable' } }
}

// ── Answers ───────────────────────────────────────────────────────────────────────────────────────

export const dashScopeDialect = (key: string | null): Dialect => ({
  provider: 'dashscope',
  secrets: key === null ? [] : [key],
  codeOf: answer => codeByName(textAt(answer.json, 'code')) ?? codeByStatus(answer.status),
  wordsOf: json => wordsAt(json, 'code', 'message'),
})

export function codeByName(code: string | undefined): ErrorCode | undefined {
  if (code === undefined) return undefined
  if (/^DataInspectionFailed/i.test(code)) return 'content_rejected'
  if (/^Arrearage/.test(code)) return 'insufficient_credit'
  if (/^AccessDenied\.Unpurchased|^ModelNotFound/.test(code)) return 'model_not_enabled'
  if (/^InvalidApiKey|^AccessDenied/.test(code)) return 'provider_unauthorized'
  if (/^Throttling|^LimitRequests/.test(code)) return 'provider_rate_limited'
  if (/^InvalidURL/.test(code)) return 'input_fetch_failed'
  if (/^InvalidParameter/.test(code)) return 'invalid_input'
  if (/^InternalError/.test(code)) return 'provider_error'
  return undefined
}

function errorIn(dialect: Dialect, json: Json | undefined): StepError {
  return fault(dialect, codeByName(textAt(json, 'code')) ?? 'provider_error', {
    words: wordsAt(json, 'code', 'message'),
  })
}

export function readPictures(dialect: Dialect, answer: Answer, jobsBefore = 0): Submitted {
  return readSubmit(dialect, answer, json => {
    const choices = at(json, 'output', 'choices')
    if (!Array.isArray(choices)) return null
    const parts = choices.flatMap(choice => listAt(choice, 'message', 'content'))
    const pictures = parts.flatMap(part => {
      const url = linkIn(at(part, 'image'))
      return url === null ? [] : [{ url }]
    })
    if (pictures.length > 0) return { type: 'pictures', pictures }
    // What cannot be read may be a picture.
    const isRead = choices.every(choice => Array.isArray(at(choice, 'message', 'content')))
    if (!isRead || !parts.every(part => holdsOnly(part, ['text']))) return null
    const reason = textAt(choices[0], 'finish_reason') ?? 'no choice'
    const words = [reason, ...parts.map(part => textAt(part, 'text'))].filter(Boolean).join(': ')
    return pictureless(dialect, jobsBefore, { words, made: numberAt(json, 'usage', 'image_count') })
  })
}

export function readTask(dialect: Dialect, answer: Answer): Submitted {
  return readSubmit(dialect, answer, json => {
    const id = idAt(json, 'output', 'task_id')
    return id === undefined ? null : { type: 'accepted', jobRef: { id }, pollAfterMs: POLL_MS }
  })
}

const STATUSES = ['PENDING', 'RUNNING', 'SUSPENDED', 'SUCCEEDED', 'FAILED', 'CANCELED', 'UNKNOWN'] as const

export function readCheck(dialect: Dialect, answer: Answer, everyMs: number): Reading {
  return readPoll(dialect, answer, everyMs, json => {
    const output = at(json, 'output')
    const said = textAt(output, 'task_status')
    if (said === undefined) return null
    const status = knownIn(STATUSES, said)
    if (status === null) return pending(everyMs)
    switch (status) {
      case 'PENDING':
      case 'RUNNING':
      case 'SUSPENDED':
        return pending(everyMs)
      case 'SUCCEEDED': {
        const media = mediaIn(output)
        if (media.length > 0) return { type: 'succeeded', media }
        const failed = listAt(output, 'results').find(result => textAt(result, 'code') !== undefined)
        return { type: 'failed', error: failed ? errorIn(dialect, failed) : fault(dialect, 'output_invalid') }
      }
      case 'FAILED':
        return { type: 'failed', error: errorIn(dialect, output) }
      case 'CANCELED':
        return { type: 'failed', error: fault(dialect, 'canceled', { words: said }), costUsd: 0 }
      case 'UNKNOWN':
        return { type: 'lost', error: fault(dialect, 'provider_lost', { words: said }) }
      default:
        return status satisfies never
    }
  })
}

/** A film's link, or the pictures that came out well. */
function mediaIn(output: Json | undefined): ProviderMedia[] {
  const links = [at(output, 'video_url'), ...listAt(output, 'results').map(result => at(result, 'url'))]
  return links.flatMap(link => {
    const url = linkIn(link)
    return url === null ? [] : [{ url }]
  })
}

/** Their storage still gives http links here and there, and serves https just as well. */
function linkIn(value: Json | undefined): string | null {
  return mediaLink(value)?.replace(/^http:(?=\/\/[\w.-]+\.aliyuncs\.com\/)/, 'https:') ?? null
}
