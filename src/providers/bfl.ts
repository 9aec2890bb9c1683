/**
 * Black Forest Labs (providers.md section 1).
 *
 * 1. The key goes to the configured origin and to https hosts under `.bfl.ai`; a polling_url elsewhere is not called,
 *    the job is then asked for at the configured base.
 * 2. A submit has two answers: with `polling_url`, or, when it named a webhook, without. The configured base may then be
 *    another cluster, which does not know the job: not found is no evidence, and the webhook or the deadline decides.
 * 3. A failed or refused job is HTTP 200; only `status` tells. An unknown status is pending.
 * 4. There is no list and no cancel: after a lost answer only a webhook can name the job.
 * 5. A webhook must bring one of the two proofs that the sources speak of, and is a hint even then.
 */
import { createHmac, timingSafeEqual } from 'node:crypto'
import type { ErrorCode } from '../core/errors.ts'
import type { Json, JsonObject } from '../core/json.ts'
import type { Hint, InboundRequest, Provider, StartJob } from '../core/ports.ts'
import {
  type Answer,
  type Ask,
  at,
  below,
  codeByStatus,
  type Dialect,
  fastApiWords,
  fault,
  getAsk,
  idAt,
  jsonOf,
  knownIn,
  linkOf,
  mediaLink,
  numberAt,
  orderAsk,
  pending,
  type Reading,
  readPoll,
  readSubmit,
  type Submitted,
  shareOf,
  textAt,
} from './protocol.ts'
import { createWire, type ProtocolOptions } from './wire.ts'

export function createBfl(options: ProtocolOptions): Provider {
  const { key, baseUrl, now } = options
  const secret = webhookSecretOf(key ?? '')
  const dialect = bflDialect(key)
  const wire = createWire({ ...options, dialect, secret: { header: 'x-key', value: key ?? '' } })
  return {
    id: 'bfl',
    missing: key === null ? 'Set BFL_API_KEY.' : null,
    // 24 tasks in flight, over that 429. (FLUX.1 Kontext max allows 6; its 429 is honoured.)
    concurrency: options.concurrency ?? 24,
    takes: { url: true, dataUriBytes: 20_000_000 },
    settleMs: 60_000,
    start: (job, signal) =>
      wire.submit(submitAsk(baseUrl, job, secret), job, signal, answer => readStart(dialect, answer, job, now())),
    async check(ref, signal) {
      const job = refOf(ref)
      if (!job) return wire.foreign()
      const every = wire.pace(job.hooked, paceOf(now() - job.at))
      return wire.poll(job.id, getAsk(pollUrl(baseUrl, job)), signal, every, answer => {
        const reading = readCheck(dialect, answer, every)
        const isBlind = reading.type === 'lost' && job.hooked && job.poll === null
        return isBlind ? pending(every) : reading
      })
    },
    cancel: async () => 'unsupported',
    webhook: async request => wire.heard(readWebhook(request, secret)),
    open: (media, signal) => wire.open(media.url, signal),
  }
}

/** What runs at BFL. `poll` is the address that the submit named, `hooked` whether it will call us. */
interface BflJob {
  id: string
  poll: string | null
  at: number
  hooked: boolean
}

const refOf = (ref: Json): BflJob | null => {
  const id = idAt(ref, 'id')
  if (id === undefined) return null
  return { id, poll: textAt(ref, 'poll') ?? null, at: numberAt(ref, 'at') ?? 0, hooked: at(ref, 'hooked') === true }
}

/** A picture takes seconds, a film minutes: a tenth of the time so far, between half a second and five. */
const paceOf = (elapsedMs: number): number => Math.min(5_000, Math.max(500, Math.round(elapsedMs / 10)))

// ── Requests ──────────────────────────────────────────────────────────────────────────────────────

/** `POST /v1/{model}`. */
export function submitAsk(
  baseUrl: string,
  job: Pick<StartJob, 'providerModel' | 'body' | 'callbackUrl'>,
  secret: string,
): Ask {
  const hook: JsonObject = job.callbackUrl === null ? {} : { webhook_url: job.callbackUrl, webhook_secret: secret }
  return orderAsk(below(baseUrl, 'v1', job.providerModel), { ...job.body, ...hook })
}

/** The polling address if the key may go there, else the configured one. */
export function pollUrl(baseUrl: string, job: Pick<BflJob, 'id' | 'poll'>): string {
  const url = linkOf(job.poll)
  const trusted =
    url !== null &&
    (url.origin === new URL(baseUrl).origin ||
      (url.protocol === 'https:' && url.port === '' && url.hostname.endsWith('.bfl.ai')))
  return trusted ? url.href : `${below(baseUrl, 'v1/get_result')}?id=${encodeURIComponent(job.id)}`
}

/** Known to BFL and to us only, the same after a restart, and useless for finding the key. */
export function webhookSecretOf(key: string): string {
  return createHmac('sha256', key).update('babychain webhook secret').digest('hex')
}

// ── Answers ───────────────────────────────────────────────────────────────────────────────────────

export const bflDialect = (key: string | null): Dialect => ({
  provider: 'bfl',
  secrets: key === null ? [] : [key, webhookSecretOf(key)],
  codeOf: answer => codeByStatus(answer.status),
  wordsOf: fastApiWords,
})

export function readStart(
  dialect: Dialect,
  answer: Answer,
  job: Pick<StartJob, 'callbackUrl'>,
  startedAt: number,
): Submitted {
  return readSubmit(dialect, answer, json => {
    const id = idAt(json, 'id')
    if (id === undefined) return null
    const poll = mediaLink(at(json, 'polling_url'))
    const jobRef: JsonObject = { id, poll, at: startedAt, hooked: job.callbackUrl !== null }
    return { type: 'accepted', jobRef, pollAfterMs: 500, ...costIn(json) }
  })
}

const STATUSES = [
  'Pending',
  'Queued',
  'Generating',
  'Processing',
  'Ready',
  'Request Moderated',
  'Content Moderated',
  'Error',
  'Failed',
  'Task not found',
] as const

export function readCheck(dialect: Dialect, answer: Answer, everyMs: number): Reading {
  return readPoll(dialect, answer, everyMs, json => {
    // Some adapters have seen `state` in place of `status`.
    const said = textAt(json, 'status') ?? textAt(json, 'state')
    if (said === undefined) return null
    const status = knownIn(STATUSES, said)
    if (status === null) return pending(everyMs, shareOf(at(json, 'progress')))
    const failed = (code: ErrorCode, says?: string): Reading => ({
      type: 'failed',
      error: fault(dialect, code, { words: detailsOf(json) ?? said, ...(says ? { says } : {}) }),
      ...costIn(json),
    })
    switch (status) {
      case 'Pending':
      case 'Queued':
      case 'Generating':
      case 'Processing':
        return pending(everyMs, shareOf(at(json, 'progress')))
      case 'Ready': {
        const url = mediaLink(at(json, 'result', 'sample'))
        return url === null ? failed('output_invalid') : { type: 'succeeded', media: [{ url }], ...costIn(json) }
      }
      case 'Request Moderated':
        return failed('content_rejected', 'refused the input')
      case 'Content Moderated':
        return failed('content_rejected', 'refused the output')
      case 'Error':
      case 'Failed':
        return failed('provider_error')
      case 'Task not found':
        return { type: 'lost', error: fault(dialect, 'provider_lost', { words: said }) }
      default:
        return status satisfies never
    }
  })
}

/** `details` is an object in the schema and a string in some answers. */
function detailsOf(json: Json): string | undefined {
  const details = at(json, 'details') ?? at(json, 'error') ?? null
  if (details === null) return undefined
  return typeof details === 'string' ? details : JSON.stringify(details)
}

/** `cost` is in credits of one US cent; null and absent are unknown. */
function costIn(json: Json): { costUsd?: number } {
  const credits = numberAt(json, 'cost')
  return credits === undefined || credits < 0 ? {} : { costUsd: credits / 100 }
}

// ── Webhook ───────────────────────────────────────────────────────────────────────────────────────

/** Either `X-BFL-Signature: sha256=<hex HMAC of the raw body>` or the secret itself in `X-Webhook-Secret`. */
export function readWebhook(request: InboundRequest, secret: string): Hint {
  const hmac = createHmac('sha256', secret).update(request.body).digest('hex')
  const signature = request.headers['x-bfl-signature']
  const echoed = request.headers['x-webhook-secret']
  const proven =
    (signature !== undefined && same(signature.toLowerCase(), `sha256=${hmac}`)) ||
    (echoed !== undefined && same(echoed, secret))
  if (!proven) return { type: 'refused', reason: 'the proof is missing or wrong' }
  const id = idAt(jsonOf(request.body), 'id')
  return { type: 'hint', jobRef: id === undefined ? null : { id, poll: null, at: request.at, hooked: true } }
}

function same(given: string, wanted: string): boolean {
  const [a, b] = [Buffer.from(given), Buffer.from(wanted)]
  return a.length === b.length && timingSafeEqual(a, b)
}
