/**
 * Runway (providers.md section 7).
 *
 * 1. Every call names the API's version. The endpoint follows the role; the model stands in the body.
 * 2. THROTTLED is a place in Runway's own queue, so it is pending. CANCELLED has two Ls.
 * 3. A task is asked for at most every five seconds.
 * 4. DELETE stops a task that has not ended and erases one that has, so the status is read before.
 * 5. There is no list and no webhook. Uploads go to a place that an answer names, through the guarded egress.
 */
import type { ErrorCode } from '../core/errors.ts'
import type { Picture, Provider, StartJob } from '../core/ports.ts'
import {
  type Answer,
  type Ask,
  at,
  below,
  codeByStatus,
  type Dialect,
  fault,
  getAsk,
  idAt,
  knownIn,
  LIMITS,
  linkOf,
  listAt,
  mediaLink,
  orderAsk,
  pending,
  postAsk,
  type Reading,
  readPoll,
  readSubmit,
  type Submitted,
  shareOf,
  textAt,
  uploadError,
  wordsAt,
} from './protocol.ts'
import { createWire, type ProtocolOptions } from './wire.ts'

export function createRunway(options: ProtocolOptions): Provider {
  const { key, baseUrl } = options
  const dialect = runwayDialect(key)
  const headers = { 'x-runway-version': '2024-11-06' }
  const wire = createWire({
    ...options,
    dialect,
    headers,
    secret: { header: 'authorization', value: `Bearer ${key ?? ''}` },
  })
  const taskAsk = (id: string): Ask => getAsk(below(baseUrl, 'tasks', id))
  return {
    id: 'runway',
    missing: key === null ? 'Set RUNWAYML_API_SECRET.' : null,
    // Tiers run 1 to 20 at once; more wait there as THROTTLED.
    concurrency: options.concurrency ?? 5,
    takes: { url: true, dataUriBytes: 3_700_000 },
    settleMs: 0,
    start: (job, signal) => wire.submit(submitAsk(baseUrl, job), job, signal, answer => readStart(dialect, answer)),
    async check(ref, signal) {
      const id = idAt(ref, 'id')
      if (id === undefined) return wire.foreign()
      return wire.poll(id, taskAsk(id), signal, POLL_MS, answer => readCheck(dialect, answer, POLL_MS))
    },
    async cancel(ref, signal) {
      const id = idAt(ref, 'id')
      if (id === undefined) return 'unsupported'
      const asked = await wire.ask(taskAsk(id), signal)
      const status = asked.type === 'answered' ? knownIn(STATUSES, at(asked.answer.json, 'status')) : null
      if (status === 'CANCELLED') return 'confirmed'
      if (status !== 'PENDING' && status !== 'THROTTLED' && status !== 'RUNNING') return 'failed'
      const deleted = await wire.ask({ ...taskAsk(id), method: 'DELETE' }, signal)
      return deleted.type === 'answered' && deleted.answer.status < 300 ? 'confirmed' : 'failed'
    },
    async upload(picture, signal) {
      const name = `input.${picture.mime.split('/')[1] ?? 'bin'}`
      const asked = await wire.ask(uploadAsk(baseUrl, name), signal)
      if (asked.type === 'failed') return { ok: false, error: asked.error }
      const place = readUpload(asked.answer)
      if (!place) return { ok: false, error: uploadError(dialect, asked.answer) }
      const { body, contentType } = await formOf(place.fields, picture, name)
      const sent = await options.egress.post(place.url, {
        headers: { 'content-type': contentType },
        body,
        timeoutMs: LIMITS.submitMs,
        signal,
      })
      if (sent.type === 'answered' && sent.status < 300) return { ok: true, ref: place.ref }
      const why = sent.type === 'answered' ? `HTTP ${sent.status}` : sent.errorClass
      return { ok: false, error: fault(dialect, 'network_error', { says: `did not take the upload: ${why}` }) }
    },
    open: (media, signal) => wire.open(media.url, signal),
  }
}

const POLL_MS = 5_000

// ── Requests ──────────────────────────────────────────────────────────────────────────────────────

export function submitAsk(baseUrl: string, job: Pick<StartJob, 'providerModel' | 'role' | 'body'>): Ask {
  const path = job.role === 'image_to_video' ? 'image_to_video' : 'text_to_image'
  return orderAsk(below(baseUrl, path), { model: job.providerModel, ...job.body })
}

function uploadAsk(baseUrl: string, filename: string): Ask {
  return postAsk(below(baseUrl, 'uploads'), { filename, type: 'ephemeral' })
}

/** The storage's own form: its fields first, the file last. */
async function formOf(fields: Readonly<Record<string, string>>, picture: Picture, name: string) {
  const form = new FormData()
  for (const [field, value] of Object.entries(fields)) form.append(field, value)
  form.append('file', new Blob([new Uint8Array(picture.bytes)], { type: picture.mime }), name)
  const encoded = new Response(form)
  const contentType = encoded.headers.get('content-type') ?? 'multipart/form-data'
  return { contentType, body: new Uint8Array(await encoded.arrayBuffer()) }
}

// ── Answers ───────────────────────────────────────────────────────────────────────────────────────

export const runwayDialect = (key: string | null): Dialect => ({
  provider: 'runway',
  secrets: key === null ? [] : [key],
  codeOf(answer) {
    // An empty account is a 400 that only words tell from a wrong parameter.
    const words = textAt(answer.json, 'error') ?? ''
    if (answer.status === 400 && /enough credits|insufficient credits/i.test(words)) return 'insufficient_credit'
    return codeByStatus(answer.status)
  },
  wordsOf(json) {
    const error = textAt(json, 'error') ?? textAt(json, 'message')
    const issues = listAt(json, 'issues').map(issue => textAt(issue, 'message') ?? JSON.stringify(issue))
    return error === undefined ? undefined : [error, ...issues].join('; ')
  },
})

export function readStart(dialect: Dialect, answer: Answer): Submitted {
  return readSubmit(dialect, answer, json => {
    const id = idAt(json, 'id')
    return id === undefined ? null : { type: 'accepted', jobRef: { id }, pollAfterMs: POLL_MS }
  })
}

const STATUSES = ['PENDING', 'THROTTLED', 'RUNNING', 'SUCCEEDED', 'FAILED', 'CANCELLED'] as const

export function readCheck(dialect: Dialect, answer: Answer, everyMs: number): Reading {
  return readPoll(dialect, answer, everyMs, json => {
    const said = textAt(json, 'status')
    if (said === undefined) return null
    const status = knownIn(STATUSES, said)
    if (status === null) return pending(everyMs)
    switch (status) {
      case 'PENDING':
      case 'THROTTLED':
        return pending(everyMs)
      case 'RUNNING':
        return pending(everyMs, shareOf(at(json, 'progress')))
      case 'SUCCEEDED': {
        const media = listAt(json, 'output').flatMap(link => {
          const url = mediaLink(link)
          return url === null ? [] : [{ url }]
        })
        return media.length > 0
          ? { type: 'succeeded', media }
          : { type: 'failed', error: fault(dialect, 'output_invalid') }
      }
      case 'FAILED': {
        const code = textAt(json, 'failureCode') ?? ''
        const words = wordsAt(json, 'failureCode', 'failure') ?? said
        const says = isRefusal(code) ? refusalWords(code) : undefined
        return { type: 'failed', error: fault(dialect, codeByName(code), { words, ...(says ? { says } : {}) }) }
      }
      case 'CANCELLED':
        return { type: 'failed', error: fault(dialect, 'canceled', { words: said }) }
      default:
        return status satisfies never
    }
  })
}

/** `SAFETY` stands at the front (`SAFETY.INPUT.TEXT`) or further on (`INPUT_PREPROCESSING.SAFETY.TEXT`). */
const isRefusal = (failureCode: string): boolean => failureCode.split('.').includes('SAFETY')

function refusalWords(failureCode: string): string | undefined {
  if (/^(SAFETY\.INPUT|INPUT_PREPROCESSING)\b/.test(failureCode)) return 'refused the input'
  return failureCode.startsWith('SAFETY') ? 'refused the output' : undefined
}

function codeByName(failureCode: string): ErrorCode {
  if (isRefusal(failureCode)) return 'content_rejected'
  // INTERNAL.*, THIRD_PARTY.*, and whatever comes next: another try may pass.
  if (failureCode.startsWith('INPUT_PREPROCESSING.INTERNAL')) return 'provider_error'
  return /^(INPUT_PREPROCESSING|ASSET\.INVALID)/.test(failureCode) ? 'invalid_input' : 'provider_error'
}

export function readUpload(answer: Answer): { url: string; fields: Record<string, string>; ref: string } | null {
  const json = answer.status < 300 ? answer.json : undefined
  const [url, ref, given] = [linkOf(at(json, 'uploadUrl')), textAt(json, 'runwayUri'), at(json, 'fields')]
  if (url === null || !ref?.startsWith('runway://') || typeof given !== 'object' || given === null) return null
  const fields: Record<string, string> = {}
  for (const [name, value] of Object.entries(given)) if (typeof value === 'string') fields[name] = value
  return { url: url.href, fields, ref }
}
