/**
 * OpenAI images (providers.md section 5).
 *
 * 1. Synchronous: one call that may take minutes, no job id, no webhook, no cancel. A lost answer loses the picture, and
 *    nobody can look it up; one that holds none, and painted none, is a job that failed, whose prompt is billed.
 * 2. With pictures it is an edit, sent as a form; the references arrive as data URIs and leave as bytes.
 * 3. The result is base64; a compatible server may answer with links, also relative ones.
 */
import type { ErrorCode } from '../core/errors.ts'
import { stepError } from '../core/errors.ts'
import type { Json } from '../core/json.ts'
import type { Provider, StartJob } from '../core/ports.ts'
import {
  type Answer,
  type Ask,
  at,
  below,
  codeByStatus,
  type Dialect,
  dataOf,
  formAsk,
  holdsOnly,
  mediaLink,
  numberAt,
  type Pictures,
  pictureless,
  postAsk,
  readSubmit,
  type Submitted,
  textAt,
  wordsAt,
} from './protocol.ts'
import { createWire, type ProtocolOptions } from './wire.ts'

export function createOpenAi(options: ProtocolOptions): Provider {
  const { key, baseUrl } = options
  const dialect = openAiDialect(key)
  const wire = createWire({ ...options, dialect, secret: { header: 'authorization', value: `Bearer ${key ?? ''}` } })
  return {
    id: 'openai',
    missing: key === null ? 'Set OPENAI_API_KEY.' : null,
    // Pictures a minute are limited by tier, from 5 up; each call holds a connection for a minute or two.
    concurrency: options.concurrency ?? 8,
    takes: { url: false, dataUriBytes: 50_000_000 },
    settleMs: 0,
    async start(job, signal) {
      const ask = submitAsk(baseUrl, job)
      if (ask === null) return { type: 'refused', error: stepError('invalid_input', 'an input picture is no data URI') }
      return wire.submit(ask, job, signal, answer => readStart(dialect, answer, job, baseUrl))
    },
    check: async ref => wire.ended(ref) ?? wire.foreign(),
    cancel: async () => 'unsupported',
    open: (media, signal) => wire.open(media.url, signal),
  }
}

/** Ten pictures of 4K in base64 at the most. High quality takes minutes; the engine gives a submit five. */
const SYNC = { timeoutMs: 280_000, maxBytes: 256 * 1024 * 1024 } as const

// ── Requests ──────────────────────────────────────────────────────────────────────────────────────

/** `POST /images/generations`, or `/images/edits` as a form; null when a picture is no data URI. */
export function submitAsk(baseUrl: string, job: Pick<StartJob, 'providerModel' | 'body'>): Ask | null {
  const { images, mask, ...fields } = job.body
  const model = job.providerModel
  if (images === undefined && mask === undefined) {
    return { ...postAsk(below(baseUrl, 'images/generations'), { model, ...fields }), ...SYNC }
  }
  const form = new FormData()
  for (const [name, value] of Object.entries({ model, ...fields })) {
    if (value !== null) form.append(name, typeof value === 'object' ? JSON.stringify(value) : String(value))
  }
  const references = Array.isArray(images) ? images : images === undefined ? [] : [images]
  const files = [
    ...references.map(ref => ['image[]', ref] as const),
    ...(mask === undefined ? [] : [['mask', mask] as const]),
  ]
  for (const [field, ref] of files) {
    const file = typeof ref === 'string' ? dataOf(ref) : null
    if (!file) return null
    form.append(
      field,
      new Blob([file.bytes], { type: file.mime }),
      `${field === 'mask' ? 'mask' : 'image'}.${file.mime.split('/')[1]}`,
    )
  }
  return { ...formAsk(below(baseUrl, 'images/edits'), form), ...SYNC }
}

// ── Answers ───────────────────────────────────────────────────────────────────────────────────────

export const openAiDialect = (key: string | null): Dialect => ({
  provider: 'openai',
  secrets: key === null ? [] : [key],
  codeOf: answer =>
    codeByName(textAt(answer.json, 'error', 'code')) ?? codeByType(answer) ?? codeByStatus(answer.status),
  wordsOf: json => wordsAt(at(json, 'error'), 'code', 'message'),
})

function codeByName(code: string | undefined): ErrorCode | undefined {
  switch (code) {
    case 'moderation_blocked':
    case 'content_policy_violation':
      return 'content_rejected'
    case 'billing_hard_limit_reached':
    // Comes as a 429, and no waiting helps.
    case 'insufficient_quota':
      return 'insufficient_credit'
    case 'invalid_api_key':
      return 'provider_unauthorized'
    case 'model_not_found':
      return 'model_not_enabled'
    case 'rate_limit_exceeded':
      return 'provider_rate_limited'
    default:
      return undefined
  }
}

function codeByType({ json, status }: Answer): ErrorCode | undefined {
  const type = textAt(json, 'error', 'type')
  if (type === 'insufficient_quota') return 'insufficient_credit'
  if (type === 'image_generation_user_error') return 'content_rejected'
  return type === 'invalid_request_error' && status === 400 ? 'invalid_input' : undefined
}

export function readStart(
  dialect: Dialect,
  answer: Answer,
  job: Pick<StartJob, 'body' | 'jobsBefore'>,
  baseUrl: string,
): Submitted {
  return readSubmit(dialect, answer, json => {
    const items = at(json, 'data')
    if (!Array.isArray(items)) return null
    const format = textAt(json, 'output_format') ?? textAt(job.body, 'output_format') ?? 'png'
    const pictures = items.flatMap(item => pictureIn(item, `image/${format}`, baseUrl))
    if (pictures.length > 0) return { type: 'pictures', pictures }
    // What cannot be read may be a picture, and tokens that came out are one.
    const isPainted = (numberAt(json, 'usage', 'output_tokens') ?? 0) > 0
    if (isPainted || !items.every(item => holdsOnly(item, ['revised_prompt']))) return null
    return pictureless(dialect, job.jobsBefore, {})
  })
}

function pictureIn(item: Json, mime: string, baseUrl: string): Pictures['pictures'][number][] {
  const base64 = textAt(item, 'b64_json')
  if (base64 !== undefined) return [{ bytes: Buffer.from(base64, 'base64'), mime }]
  const given = textAt(item, 'url')
  const url = given !== undefined && URL.canParse(given, baseUrl) ? mediaLink(new URL(given, baseUrl).href) : null
  return url === null ? [] : [{ url }]
}
