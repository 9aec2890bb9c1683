/**
 * Replicate predictions (providers.md section 4).
 *
 * 1. The model input is wrapped in `input`; an official model is in the path, a pinned version in the body.
 * 2. `succeeded` gives a string, a list or an object of links; an hour later the output is removed and null.
 * 3. A prediction whose submit was never answered is found in the list by the webhook address that it carries. Without
 *    that, only the absence of any prediction that could be ours is believed.
 * 4. Webhooks are Standard Webhooks, signed with one secret per account, which the API tells.
 */
import type { ErrorCode } from '../core/errors.ts'
import type { Json, JsonObject } from '../core/json.ts'
import type { FindJob, Found, Hint, InboundRequest, Picture, Provider, StartJob } from '../core/ports.ts'
import type { CancelAnswer } from '../core/run.ts'
import { parseSecret, verify } from '../net/signature.ts'
import {
  type Answer,
  type Ask,
  aheadMs,
  at,
  below,
  codeByStatus,
  type Dialect,
  fault,
  formAsk,
  getAsk,
  idAt,
  jsonOf,
  knownIn,
  LIMITS,
  mediaLink,
  numberAt,
  orderAsk,
  pending,
  type Reading,
  readPoll,
  readSubmit,
  type Submitted,
  textAt,
  uploadError,
} from './protocol.ts'
import { createWire, type ProtocolOptions, type Wire } from './wire.ts'

export function createReplicate(options: ProtocolOptions): Provider {
  const { key, baseUrl } = options
  const dialect = replicateDialect(key)
  const wire = createWire({ ...options, dialect, secret: { header: 'authorization', value: `Bearer ${key ?? ''}` } })
  const hooks = createHookSecret(wire, baseUrl, options.now)
  return {
    id: 'replicate',
    missing: key === null ? 'Set REPLICATE_API_TOKEN.' : null,
    // 600 creates a minute; jobs in parallel are not limited, our connections are.
    concurrency: options.concurrency ?? 32,
    takes: { url: true, dataUriBytes: 256_000 },
    settleMs: 60_000,
    start: (job, signal) =>
      wire.submit(submitAsk(baseUrl, job), job, signal, answer => readStart(dialect, answer, job)),
    async check(ref, signal) {
      const id = idAt(ref, 'id')
      if (id === undefined) return wire.foreign()
      const every = wire.pace(at(ref, 'hooked') === true, POLL_MS)
      const ask = getAsk(below(baseUrl, 'predictions', id))
      return wire.poll(id, ask, signal, every, answer => readCheck(dialect, answer, every))
    },
    async cancel(ref, signal) {
      const id = idAt(ref, 'id')
      if (id === undefined) return 'unsupported'
      const ask: Ask = { ...getAsk(below(baseUrl, 'predictions', id, 'cancel')), method: 'POST' }
      const asked = await wire.ask(ask, signal)
      return asked.type === 'answered' ? readCancel(asked.answer) : 'failed'
    },
    async find(attempt, signal) {
      let next: string | null = below(baseUrl, 'predictions')
      for (let page = 0; page < LIST_PAGES && next !== null; page++) {
        const asked = await wire.ask({ ...getAsk(next), maxBytes: 16 * 1024 * 1024 }, signal)
        if (asked.type === 'failed') return { type: 'unknown' }
        const read = readList(asked.answer, attempt, wire.isKnown)
        if (read.type !== 'older') return read
        // Asked for with the key, so it goes to the configured origin or nowhere.
        next = read.next
      }
      return { type: 'unknown' }
    },
    webhook: async request => wire.heard(await readWebhook(request, hooks)),
    async upload(picture, signal) {
      const asked = await wire.ask(uploadAsk(baseUrl, picture), signal)
      if (asked.type === 'failed') return { ok: false, error: asked.error }
      const ref = asked.answer.status < 300 ? mediaLink(at(asked.answer.json, 'urls', 'get')) : null
      return ref === null ? { ok: false, error: uploadError(dialect, asked.answer) } : { ok: true, ref }
    },
    open: (media, signal) => wire.open(media.url, signal),
  }
}

const POLL_MS = 2_000
/** 100 predictions a page, newest first. */
const LIST_PAGES = 5
/** Clocks differ; a prediction that old cannot be ours. */
const SKEW_MS = 60_000

// ── Requests ──────────────────────────────────────────────────────────────────────────────────────

export function submitAsk(baseUrl: string, job: Pick<StartJob, 'providerModel' | 'body' | 'callbackUrl'>): Ask {
  const hook: JsonObject =
    job.callbackUrl === null ? {} : { webhook: job.callbackUrl, webhook_events_filter: ['completed'] }
  const [model = '', version] = job.providerModel.split(':')
  const url = version === undefined ? below(baseUrl, 'models', model, 'predictions') : below(baseUrl, 'predictions')
  const body: JsonObject = { ...(version === undefined ? {} : { version }), input: job.body, ...hook }
  return orderAsk(url, body)
}

function uploadAsk(baseUrl: string, picture: Picture): Ask {
  const form = new FormData()
  const name = `input.${picture.mime.split('/')[1] ?? 'bin'}`
  form.set('content', new Blob([new Uint8Array(picture.bytes)], { type: picture.mime }), name)
  return formAsk(below(baseUrl, 'files'), form)
}

// ── Answers ───────────────────────────────────────────────────────────────────────────────────────

export const replicateDialect = (key: string | null): Dialect => ({
  provider: 'replicate',
  secrets: key === null ? [] : [key],
  codeOf: answer => codeByStatus(answer.status),
  wordsOf: json => textAt(json, 'detail') ?? textAt(json, 'title'),
  waitIn(json) {
    const seconds =
      numberAt(json, 'retry_after') ?? Number(/resets in ~?(\d+)\s*s/i.exec(textAt(json, 'detail') ?? '')?.[1])
    return Number.isFinite(seconds) ? seconds * 1_000 : undefined
  },
})

export function readStart(dialect: Dialect, answer: Answer, job: Pick<StartJob, 'callbackUrl'>): Submitted {
  return readSubmit(dialect, answer, json => {
    const id = idAt(json, 'id')
    if (id === undefined) return null
    return { type: 'accepted', jobRef: refTo(id, job.callbackUrl !== null), pollAfterMs: POLL_MS }
  })
}

const refTo = (id: string, hooked: boolean): JsonObject => ({ id, hooked })

const STATUSES = ['starting', 'processing', 'succeeded', 'failed', 'canceled', 'aborted'] as const

export function readCheck(dialect: Dialect, answer: Answer, everyMs: number): Reading {
  return readPoll(dialect, answer, everyMs, json => {
    const said = textAt(json, 'status')
    if (said === undefined) return null
    const status = knownIn(STATUSES, said)
    if (status === null) return pending(everyMs)
    const failed = (code: ErrorCode, words: string, says?: string) => ({
      type: 'failed' as const,
      error: fault(dialect, code, { words, ...(says ? { says } : {}) }),
    })
    switch (status) {
      case 'starting':
      case 'processing':
        return pending(everyMs)
      case 'succeeded': {
        const media = linksIn(at(json, 'output')).map(url => ({ url }))
        if (media.length > 0) return { type: 'succeeded', media }
        // Paid, finished, and removed an hour later: whether it is paid again is for the caller to say.
        return at(json, 'data_removed') === true
          ? failed('output_fetch_failed', 'data_removed')
          : failed('output_invalid', said)
      }
      case 'failed': {
        const words = textAt(json, 'error') ?? said
        return failed(codeByWords(words), words)
      }
      case 'canceled':
        return failed('canceled', said)
      case 'aborted':
        return { ...failed('provider_error', said, 'ended the job before it began'), costUsd: 0 }
      default:
        return status satisfies never
    }
  })
}

/** A refusal is told in words: "flagged as sensitive (E005)". */
function codeByWords(words: string): ErrorCode {
  if (/flagged as sensitive|\bE005\b|nsfw content/i.test(words)) return 'content_rejected'
  return /high demand|\bE003\b/i.test(words) ? 'provider_overloaded' : 'provider_error'
}

/** A link, a list of links, or an object with such values: it differs per model. */
function linksIn(output: Json | undefined): string[] {
  if (Array.isArray(output)) return output.flatMap(each => mediaLink(each) ?? [])
  if (typeof output === 'object' && output !== null) {
    return Object.values(output).flatMap(each => (Array.isArray(each) ? linksIn(each) : (mediaLink(each) ?? [])))
  }
  return [mediaLink(output)].filter(link => link !== null)
}

/** The answer to a cancel is the prediction: only one that is not done was stopped, and an aborted one has not begun. */
export function readCancel(answer: Answer): CancelAnswer {
  const status = answer.status < 300 ? textAt(answer.json, 'status') : undefined
  if (status === 'aborted') return 'unbegun'
  return status === 'canceled' || status === 'starting' || status === 'processing' ? 'confirmed' : 'failed'
}

/** Whether a page of the list holds the prediction of an attempt; `older`: the next page may. */
export function readList(
  answer: Answer,
  attempt: FindJob,
  isKnown: (id: string) => boolean,
): Found | { type: 'older'; next: string } {
  const results = answer.status === 200 ? at(answer.json, 'results') : undefined
  if (!Array.isArray(results)) return { type: 'unknown' }
  const ours = results.find(result => textAt(result, 'webhook')?.includes(`/${attempt.token}`))
  if (ours !== undefined) {
    const id = idAt(ours, 'id')
    return id === undefined ? { type: 'unknown' } : { type: 'found', jobRef: refTo(id, true), pollAfterMs: 0 }
  }
  // When it was submitted, by their clock.
  const since = attempt.startedAt - aheadMs(answer) - SKEW_MS
  const times = results.map(result => Date.parse(textAt(result, 'created_at') ?? ''))
  const mayBeOurs = results.some((result, i) => {
    const id = idAt(result, 'id')
    const hook = textAt(result, 'webhook')
    const foreign = hook !== undefined || (id !== undefined && isKnown(id)) || !isOf(result, attempt.providerModel)
    return !foreign && !((times[i] ?? Number.NaN) < since)
  })
  if (mayBeOurs) return { type: 'unknown' }
  // Only of a list from new to old does an old one say that nothing newer comes after it.
  const newestFirst = times.every((time, i) => i === 0 || time <= (times[i - 1] ?? 0))
  if (newestFirst && (times.at(-1) ?? Number.NaN) < since) return { type: 'none' }
  const next = textAt(answer.json, 'next') ?? null
  return next === null ? { type: 'none' } : { type: 'older', next }
}

/** Whether a prediction may be one of that model; what it does not say speaks for it. */
function isOf(prediction: Json, providerModel: string): boolean {
  const [model, version] = providerModel.split(':')
  const said = version === undefined ? textAt(prediction, 'model') : textAt(prediction, 'version')
  return said === undefined || said === (version ?? model)
}

// ── Webhook ───────────────────────────────────────────────────────────────────────────────────────

interface HookSecret {
  /** The account's secret; `fresh` asks again, at most once a minute. */
  get(fresh: boolean): Promise<Uint8Array | null>
}

const REFETCH_MS = 60_000

function createHookSecret(wire: Wire, baseUrl: string, now: () => number): HookSecret {
  let secret: Uint8Array | null = null
  let triedAt = Number.NEGATIVE_INFINITY
  let loading: Promise<void> | null = null
  const load = async (): Promise<void> => {
    triedAt = now()
    const asked = await wire.ask(getAsk(below(baseUrl, 'webhooks/default/secret')), AbortSignal.timeout(LIMITS.pollMs))
    const parsed = asked.type === 'answered' ? parseSecret(textAt(asked.answer.json, 'key') ?? '') : null
    if (parsed?.ok) secret = parsed.bytes
  }
  return {
    async get(fresh) {
      if (secret !== null && !fresh) return secret
      if (loading === null && now() - triedAt >= REFETCH_MS) {
        loading = load().finally(() => {
          loading = null
        })
      }
      await loading
      return secret
    },
  }
}

async function readWebhook(request: InboundRequest, hooks: HookSecret): Promise<Hint> {
  const header = (name: string): string | null => request.headers[name] ?? null
  const proves = (secret: Uint8Array | null): boolean =>
    secret !== null &&
    verify({
      id: header('webhook-id'),
      timestamp: header('webhook-timestamp'),
      signature: header('webhook-signature'),
      body: request.body,
      secrets: [secret],
      nowS: Math.floor(request.at / 1_000),
    }).ok
  const proven = proves(await hooks.get(false)) || proves(await hooks.get(true))
  if (!proven) return { type: 'refused', reason: 'the signature is missing, old or wrong' }
  const id = idAt(jsonOf(request.body), 'id')
  return { type: 'hint', jobRef: id === undefined ? null : refTo(id, true) }
}
