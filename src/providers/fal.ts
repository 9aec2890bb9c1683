/**
 * fal's queue (providers.md section 3).
 *
 * 1. The scheme is `Key`, and the body is the model's input without a wrapper.
 * 2. The returned addresses are used word for word when they are on the configured origin; else they are built by fal's
 *    path rule, which drops what follows owner and app.
 * 3. COMPLETED is not success: the result is fetched, and a failed job answers with its own error status. What may be
 *    the gateway's own trouble is believed only after several such answers. Where the model says that the same request
 *    would fail again, the step does not send it here again.
 * 4. Webhooks are signed by Ed25519. The keys are cached for a day and fetched again for an unknown one at most once a
 *    minute. The endpoint stands in the address that we gave, because the body does not name it.
 * 5. Uploads go to fal's own hosts only, and without the key where the address came from an answer.
 */
import type { ErrorCode } from '../core/errors.ts'
import type { Json, JsonObject } from '../core/json.ts'
import type { Checked, Picture, Provider, StartJob } from '../core/ports.ts'
import type { ProviderMedia } from '../core/run.ts'
import { type OriginRule, trustOrigins } from '../net/provider-http.ts'
import { createFalKeys, readWebhook } from './fal-webhook.ts'
import {
  type Answer,
  type Ask,
  at,
  below,
  cancelSeen,
  codeByStatus,
  type Dialect,
  emptyHanded,
  errorOf,
  fastApiWords,
  fault,
  getAsk,
  idAt,
  isOwn,
  knownIn,
  LIMITS,
  linkOf,
  listAt,
  mediaLink,
  numberAt,
  orderAsk,
  pending,
  postAsk,
  type Reading,
  readPoll,
  readSubmit,
  type Submitted,
  textAt,
  unreachable,
  uploadError,
} from './protocol.ts'
import { createWire, type ProtocolOptions } from './wire.ts'

const QUEUE = 'https://queue.fal.run'

export function createFal(options: ProtocolOptions): Provider {
  const { key, baseUrl } = options
  const dialect = falDialect(key)
  const wire = createWire({
    ...options,
    dialect,
    secret: { header: 'authorization', value: `Key ${key ?? ''}`, origins: keyOrigins(baseUrl) },
  })
  const hosts = hostsOf(baseUrl)
  const keys = createFalKeys({
    now: options.now,
    load: signal => wire.ask(getAsk(hosts.keys), signal, { bare: true }),
  })
  const check = async (ref: Json, signal: AbortSignal): Promise<Checked> => {
    const job = refOf(ref)
    if (!job) return wire.foreign()
    const every = wire.pace(job.hooked, job.every)
    const urls = urlsOf(baseUrl, job)
    return wire.poll(job.id, getAsk(urls.status), signal, every, async answer => {
      const status = readStatus(dialect, answer, every)
      if (status !== 'completed') return status
      const asked = await wire.ask(getAsk(urls.result), signal)
      if (asked.type === 'failed') return unreachable(asked.error, every)
      return readResult(dialect, asked.answer, every, job.before)
    })
  }
  return {
    id: 'fal',
    missing: key === null ? 'Set FAL_KEY.' : null,
    // New accounts run 2 at once, old ones 40; the queue takes more and lets them wait.
    concurrency: options.concurrency ?? 20,
    takes: { url: true, dataUriBytes: 8_000_000 },
    settleMs: 60_000,
    start: (job, signal) =>
      wire.submit(submitAsk(baseUrl, job), job, signal, answer => readStart(dialect, answer, job)),
    check,
    async cancel(ref, signal) {
      const job = refOf(ref)
      if (!job) return 'unsupported'
      const urls = urlsOf(baseUrl, job)
      const before = await wire.ask(getAsk(urls.status), signal)
      const status = before.type === 'answered' ? textAt(before.answer.json, 'status') : undefined
      if (status === 'COMPLETED') return cancelSeen(await check(ref, signal))
      const asked = await wire.ask({ ...getAsk(urls.cancel), method: 'PUT' }, signal)
      // A job that runs may run on and be billed: only a queued one is surely stopped.
      const stopped = status === 'IN_QUEUE' && asked.type === 'answered' && asked.answer.status === 202
      return stopped ? 'confirmed' : 'failed'
    },
    webhook: async request => wire.heard(await readWebhook(request, keys)),
    async upload(picture, signal) {
      const begun = await wire.ask(uploadAsk(hosts.rest, picture), signal)
      if (begun.type === 'failed') return { ok: false, error: begun.error }
      const target = readUpload(begun.answer, hosts.rest)
      if (!target) return { ok: false, error: uploadError(dialect, begun.answer) }
      const put = await wire.ask(putAsk(target.put, picture), signal, { bare: true })
      if (put.type === 'failed') return { ok: false, error: put.error }
      if (put.answer.status >= 300) return { ok: false, error: uploadError(dialect, put.answer) }
      return { ok: true, ref: target.file }
    },
    open: (media, signal) => wire.open(media.url, signal),
  }
}

/**
 * What runs at fal. `app` is the endpoint's owner and app, `every` the pause between polls (ms), `before` counts the jobs that
 * its step had here before.
 */
interface FalJob {
  id: string
  app: string
  every: number
  before: number
  hooked: boolean
  status: string | null
  result: string | null
  cancel: string | null
}

const EVERY_MS = { image: 1_500, video: 5_000 } as const

function refOf(ref: Json): FalJob | null {
  const [id, app] = [idAt(ref, 'id'), textAt(ref, 'app')]
  if (id === undefined || app === undefined || !APP.test(app)) return null
  return {
    id,
    app,
    every: numberAt(ref, 'every') ?? EVERY_MS.video,
    before: numberAt(ref, 'before') ?? 0,
    hooked: at(ref, 'hooked') === true,
    status: textAt(ref, 'status') ?? null,
    result: textAt(ref, 'result') ?? null,
    cancel: textAt(ref, 'cancel') ?? null,
  }
}

/** `owner/app`, with a namespace before it for workflows. */
const APP = /^(?:(?:workflows|comfy)\/)?[.-]*\w[\w.-]*\/[.-]*\w[\w.-]*$/

export function appOf(endpoint: string): string {
  const parts = endpoint.split('/')
  return parts.slice(0, parts[0] === 'workflows' || parts[0] === 'comfy' ? 3 : 2).join('/')
}

// ── Requests ──────────────────────────────────────────────────────────────────────────────────────

/** fal has a host a service; whoever configures another queue (a proxy, a stand-in) serves all of them there. */
export function hostsOf(baseUrl: string): { rest: string; keys: string } {
  const usual = new URL(baseUrl).origin === QUEUE
  const rest = usual ? 'https://rest.fal.ai' : new URL(baseUrl).origin
  return { rest, keys: `${usual ? 'https://rest.alpha.fal.ai' : rest}/.well-known/jwks.json` }
}

/** The key goes to the queue and to fal's own upload service. */
const keyOrigins = (baseUrl: string): OriginRule => {
  const own = new Set([new URL(baseUrl).origin, hostsOf(baseUrl).rest])
  return url => own.has(url.origin)
}

/** Where calls go at all: those two, the key set, and the places for uploads. */
export const falOrigins = (baseUrl: string): OriginRule => trustOrigins(baseUrl, FAL_HOSTS)
const FAL_HOSTS = ['.fal.media', '.fal.run', '.fal.ai']

export function submitAsk(baseUrl: string, job: Pick<StartJob, 'providerModel' | 'body' | 'callbackUrl'>): Ask {
  const url = new URL(below(baseUrl, job.providerModel))
  if (job.callbackUrl !== null) {
    const hook = new URL(job.callbackUrl)
    hook.searchParams.set('app', appOf(job.providerModel))
    url.searchParams.set('fal_webhook', hook.href)
  }
  return orderAsk(url.href, job.body)
}

export function urlsOf(baseUrl: string, job: Pick<FalJob, 'id' | 'app' | 'status' | 'result' | 'cancel'>) {
  const built = below(baseUrl, job.app, 'requests', job.id)
  const pick = (given: string | null, own: string): string => (given !== null && isOwn(given, baseUrl) ? given : own)
  return {
    status: pick(job.status, `${built}/status`),
    result: pick(job.result, built),
    cancel: pick(job.cancel, `${built}/cancel`),
  }
}

function uploadAsk(rest: string, picture: Picture): Ask {
  const name = `input.${picture.mime.split('/')[1] ?? 'bin'}`
  const url = `${rest}/storage/upload/initiate?storage_type=fal-cdn-v3`
  return postAsk(url, { content_type: picture.mime, file_name: name })
}

function putAsk(url: string, picture: Picture): Ask {
  const body = { type: 'bytes', value: picture.bytes, contentType: picture.mime } as const
  return { method: 'PUT', url, body, timeoutMs: LIMITS.submitMs, maxBytes: LIMITS.answerBytes }
}

// ── Answers ───────────────────────────────────────────────────────────────────────────────────────

export const falDialect = (key: string | null): Dialect => ({
  provider: 'fal',
  secrets: key === null ? [] : [key],
  codeOf(answer) {
    const words = fastApiWords(answer.json) ?? ''
    const codes = typesOf(answer).map(codeByType)
    // One of several details may be the refusal; the others are then beside the point.
    if (codes.includes('content_rejected')) return 'content_rejected'
    if (answer.status === 403 && /exhausted balance|user is locked|insufficient/i.test(words))
      return 'insufficient_credit'
    return codes.find(code => code !== undefined) ?? codeByStatus(answer.status)
  },
  wordsOf: fastApiWords,
})

/** The types of a model error stand in `detail[]`, that of a runner beside it or in a header. */
function typesOf({ json, headers }: Answer): string[] {
  const details = listAt(json, 'detail').map(detail => textAt(detail, 'type'))
  return [...details, textAt(json, 'error_type'), headers['x-fal-error-type']].filter(type => type !== undefined)
}

function codeByType(type: string): ErrorCode | undefined {
  if (type === 'content_policy_violation') return 'content_rejected'
  if (type === 'file_download_error') return 'input_fetch_failed'
  // Refused or just empty: a new try may pass.
  if (type === 'no_media_generated') return 'provider_error'
  if (type === 'internal_server_error' || type === 'generation_timeout') return 'provider_error'
  if (/^(runner_|startup_timeout|request_timeout|downstream_service_)/.test(type)) return 'provider_overloaded'
  return undefined
}

export function readStart(
  dialect: Dialect,
  answer: Answer,
  job: Pick<StartJob, 'callbackUrl' | 'providerModel' | 'role' | 'jobsBefore'>,
): Submitted {
  return readSubmit(dialect, answer, json => {
    const id = idAt(json, 'request_id')
    if (id === undefined) return null
    const every = EVERY_MS[job.role === 'image_to_video' ? 'video' : 'image']
    const jobRef: JsonObject = {
      id,
      app: appOf(job.providerModel),
      every,
      before: job.jobsBefore,
      hooked: job.callbackUrl !== null,
      status: mediaLink(at(json, 'status_url')),
      result: mediaLink(at(json, 'response_url')),
      cancel: mediaLink(at(json, 'cancel_url')),
    }
    return { type: 'accepted', jobRef, pollAfterMs: every === EVERY_MS.video ? 5_000 : 1_000 }
  })
}

const STATUSES = ['IN_QUEUE', 'IN_PROGRESS', 'COMPLETED'] as const

export function readStatus(dialect: Dialect, answer: Answer, everyMs: number): Reading | 'completed' {
  let completed = false
  const reading = readPoll(dialect, answer, everyMs, json => {
    const said = textAt(json, 'status')
    if (said === undefined) return null
    const status = knownIn(STATUSES, said)
    if (status === null) return pending(everyMs)
    switch (status) {
      case 'IN_QUEUE':
      case 'IN_PROGRESS':
        return pending(everyMs)
      case 'COMPLETED':
        completed = true
        return pending(everyMs)
      default:
        return status satisfies never
    }
  })
  return completed ? 'completed' : reading
}

export function readResult(dialect: Dialect, answer: Answer, everyMs: number, jobsBefore = 0): Reading {
  const { status } = answer
  if (status < 300 || status === 404 || status === 410)
    return readPoll(dialect, answer, everyMs, json => outputOf(dialect, json))
  const error = errorOf(dialect, answer)
  if (error.code === 'content_rejected') return { type: 'failed', error }
  const words = fastApiWords(answer.json)
  if (status === 400 && /still in progress/i.test(words ?? '')) return pending(everyMs)
  if (status >= 400 && /\bcancell?ed\b/i.test(words ?? '')) {
    return { type: 'failed', error: fault(dialect, 'canceled', { words, answer }) }
  }
  // Ours to mend, and the paid result waits: not the job's failure.
  if (status < 400 || [401, 402, 403, 408, 429].includes(status)) return unreachable(error, everyMs)
  const types = typesOf(answer)
  if (isInVain(answer) && (error.code === 'provider_error' || error.code === 'provider_overloaded')) {
    const says = 'failed, and says that the same request would fail again'
    return { type: 'failed', error: fault(dialect, 'invalid_input', { says, hint: IN_VAIN_HINT, words, answer }) }
  }
  // Refused or just empty.
  if (types.includes('no_media_generated'))
    return { type: 'failed', error: emptyHanded(dialect, jobsBefore, { words, answer }) }
  if (types.length > 0 || (status < 500 && answer.json !== undefined)) return { type: 'failed', error }
  return words === undefined ? unreachable(error, everyMs) : { type: 'lost', error }
}

/** Whether the model says that the same request is not worth sending again; older answers say it by another name. */
function isInVain({ headers }: Answer): boolean {
  return /^(false|0)$/i.test(headers['x-fal-retryable'] ?? headers['x-fal-needs-retry'] ?? '')
}

const IN_VAIN_HINT =
  'Resume the run with other parameters or another picture in input, or with another provider in provider_order.'

function outputOf(dialect: Dialect, json: Json): Reading {
  const filtered = listAt(json, 'has_nsfw_concepts')
  const images = listAt(json, 'images').filter((_, i) => filtered[i] !== true)
  const media = [...images, at(json, 'image'), at(json, 'video'), ...listAt(json, 'videos')].flatMap(file =>
    mediaOf(file),
  )
  if (media.length > 0) return { type: 'succeeded', media }
  const blackened = filtered.includes(true)
  const error = blackened
    ? fault(dialect, 'content_rejected', { says: 'refused the output', words: 'has_nsfw_concepts' })
    : fault(dialect, 'output_invalid')
  return { type: 'failed', error }
}

function mediaOf(file: Json | undefined): ProviderMedia[] {
  const url = mediaLink(at(file, 'url') ?? file)
  const mime = textAt(file, 'content_type')
  return url === null ? [] : [{ url, ...(mime ? { mime } : {}) }]
}

/** Where to put the bytes and what to call the file then; the place must be fal's. */
export function readUpload(answer: Answer, rest: string): { put: string; file: string } | null {
  const json = answer.status < 300 ? answer.json : undefined
  const [put, file] = [linkOf(at(json, 'upload_url')), mediaLink(at(json, 'file_url'))]
  if (put === null || file === null) return null
  return trustOrigins(rest, FAL_HOSTS)(put) ? { put: put.href, file } : null
}
