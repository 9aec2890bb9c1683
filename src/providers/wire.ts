/**
 * The way from a protocol to its provider: calls, polls, downloads, and the little that an adapter remembers.
 *
 * 1. Nothing here throws but what forbids a submit: a network that breaks is an answer.
 * 2. A submit that surely was not sent is refused, one that may have been is unknown. Bytes that a synchronous API gave
 *    are stashed before anything else.
 * 3. The key goes where its rule says. An output on the configured origin is fetched with the key, by an egress that may
 *    reach that origin and, as every egress here, what the operator allows; every other output goes through the guarded egress without it.
 * 4. What is remembered is only an economy: forgetting it (a restart) costs a poll or an answer `unknown`, never money.
 */
import { ERRORS, type ErrorCode, type StepError, stepError } from '../core/errors.ts'
import type { Json } from '../core/json.ts'
import type { Checked, Hint, Opened, Started, StartJob } from '../core/ports.ts'
import { remember } from '../core/remember.ts'
import type { ProviderMedia } from '../core/run.ts'
import { type AllowEntry, parseAllow } from '../net/egress/allow.ts'
import { createEgress, type Egress } from '../net/egress.ts'
import type { ProviderHttp, Secret } from '../net/provider-http.ts'
import {
  type Answer,
  type Ask,
  at,
  type Dialect,
  fault,
  idAt,
  isOwn,
  knownIn,
  type Pictures,
  type Reading,
  type Submitted,
  textAt,
  unreachable,
} from './protocol.ts'

/** What every protocol needs. */
export interface ProtocolOptions {
  /** Null without a key: the provider is then `missing`. */
  key: string | null
  /** What is before the path of a call, the version path included (design.md section 9). */
  baseUrl: string
  http: ProviderHttp
  egress: Egress
  now(): number
  /** The operator's exceptions of the egress, for redirects away from the configured origin. */
  allow?: readonly AllowEntry[]
  /** Jobs at once; by default what the provider documents. */
  concurrency?: number
}

export interface WireOptions extends ProtocolOptions {
  dialect: Dialect
  /** The header with the key; null for a provider without keys. */
  secret: Secret | null
  /** Further headers of every call. */
  headers?: Readonly<Record<string, string>>
}

export type Asked = { type: 'answered'; answer: Answer } | { type: 'failed'; sent: 'no' | 'maybe'; error: StepError }

export interface Wire {
  /** One call. `bare`: without the key, for an address that came from an answer. */
  ask(ask: Ask, signal: AbortSignal, how?: { bare?: boolean; sending?: () => Promise<void> }): Promise<Asked>
  submit(ask: Ask, job: StartJob, signal: AbortSignal, read: (answer: Answer) => Submitted): Promise<Started>
  /** Asks after a job: it is believed to be lost after several such readings over a minute. */
  poll(
    id: string,
    ask: Ask,
    signal: AbortSignal,
    everyMs: number,
    read: (answer: Answer) => Reading | Promise<Reading>,
  ): Promise<Checked>
  /** The job is there, as something else than a poll of it has shown. */
  seen(id: string): void
  /** The job reference is not one of this protocol. */
  foreign(): Checked
  /** How a synchronous call ended that ran and gave nothing; null for any other reference. */
  ended(ref: Json): Checked | null
  /** Whether a job surely belongs to an attempt that this process has dealt with. */
  isKnown(id: string): boolean
  /** What a webhook says; one that is verified shows that they work. */
  heard(hint: Hint): Hint
  /** The pause between polls: longer while webhooks work. */
  pace(hooked: boolean, everyMs: number): number
  open(url: string, signal: AbortSignal): Promise<Opened>
}

/**
 * A job is gone when so many polls in a row did not find it, over so long: right after its submit, and while a provider
 * moves it about, a job is not found for some time although it runs and is billed.
 */
const LOST = { polls: 3, ms: 60_000 } as const
/** Webhooks count as working for so long after the last one. */
const HEARD_MS = 600_000
/** How much rarer polls are while webhooks work. */
const HOOKED_FACTOR = 4
/** The longest wait for one of our own connections: what was not sent then may go elsewhere. */
const PLACE_MS = 20_000
/** Ids kept to tell our jobs from others: some hours of a busy process. */
const MEMORY = 20_000

const DOWNLOAD = {
  /** A film of a minute in 4K; pictures are capped where they are kept. */
  maxBytes: 1024 * 1024 * 1024,
  timeoutMs: 15 * 60_000,
  idleTimeoutMs: 30_000,
} as const

const ENDINGS = Object.keys(ERRORS) as ErrorCode[]

export function createWire(options: WireOptions): Wire {
  const { dialect, http, now, secret } = options
  const known = new Map<string, true>()
  const losses = new Map<string, { polls: number; since: number }>()
  const ownEgress = createEgress({ allow: [...originEntry(options.baseUrl), ...(options.allow ?? [])] })
  let heardAt = Number.NEGATIVE_INFINITY

  const ask: Wire['ask'] = async (call, signal, how = {}) => {
    const headers = how.bare ? call.headers : { ...options.headers, ...call.headers }
    const said = await http.call({
      ...call,
      provider: dialect.provider,
      ...(headers ? { headers } : {}),
      secrets: secret && !how.bare ? [secret] : [],
      maxWaitMs: PLACE_MS,
      ...(how.sending ? { sending: how.sending } : {}),
      signal,
    })
    if (said.type === 'failed') return { type: 'failed', sent: said.sent, error: failureOf(dialect, said) }
    const { status } = said
    return {
      type: 'answered',
      answer: { status, headers: said.headers, json: said.json as Json | undefined, at: now() },
    }
  }

  const seen = (id: string): void => {
    remember(known, id, true, MEMORY)
    losses.delete(id)
  }

  return {
    ask,
    seen,
    async submit(call, job, signal, read) {
      const asked = await ask(call, signal, { sending: () => job.sending() })
      if (asked.type === 'failed') return { type: asked.sent === 'no' ? 'refused' : 'unknown', error: asked.error }
      const submitted = read(asked.answer)
      if (submitted.type === 'pictures') return stash(dialect, submitted, job)
      // There is nobody to ask how it ended: its reference says it.
      if (submitted.type === 'ended') {
        const { code, message, providerText } = submitted.error
        const ended = { code, message, ...(providerText ? { providerText } : {}) }
        const { costUsd } = submitted
        return { type: 'accepted', jobRef: { ended }, pollAfterMs: 0, ...(costUsd === undefined ? {} : { costUsd }) }
      }
      const id = submitted.type === 'accepted' ? idAt(submitted.jobRef, 'id') : undefined
      if (id !== undefined) remember(known, id, true, MEMORY)
      return submitted
    },
    async poll(id, call, signal, everyMs, read) {
      const asked = await ask(call, signal)
      const reading = asked.type === 'failed' ? unreachable(asked.error, everyMs) : await read(asked.answer)
      if (reading.type !== 'lost') {
        seen(id)
        return reading
      }
      remember(known, id, true, MEMORY)
      const before = losses.get(id) ?? { polls: 0, since: now() }
      const loss = { ...before, polls: before.polls + 1 }
      remember(losses, id, loss, MEMORY)
      const isGone = loss.polls >= LOST.polls && now() - loss.since >= LOST.ms
      return isGone ? { type: 'failed', error: reading.error } : unreachable(reading.error, everyMs)
    },
    foreign: () => ({
      type: 'failed',
      error: stepError('internal', `a job reference that is not ${dialect.provider}'s`),
    }),
    ended(ref) {
      const code = knownIn(ENDINGS, at(ref, 'ended', 'code'))
      if (code === null) return null
      const { provider } = dialect
      const providerText = textAt(ref, 'ended', 'providerText')
      const message = textAt(ref, 'ended', 'message') ?? `${provider} failed`
      return {
        type: 'failed',
        error: stepError(code, message, { provider, ...(providerText ? { providerText } : {}) }),
        jobless: true,
      }
    },
    isKnown: id => known.has(id),
    heard(hint) {
      if (hint.type === 'hint') heardAt = now()
      return hint
    },
    pace: (hooked, everyMs) => (hooked && now() - heardAt < HEARD_MS ? HOOKED_FACTOR * everyMs : everyMs),
    async open(url, signal) {
      const own = isOwn(url, options.baseUrl)
      const headers = own && secret ? { ...options.headers, [secret.header]: secret.value } : {}
      const opened = await (own ? ownEgress : options.egress).download(url, { ...DOWNLOAD, headers, signal })
      if (opened.type === 'opened') return { ok: true, stream: opened.stream, mime: opened.mime, length: opened.length }
      return closed(dialect, opened)
    },
  }
}

async function stash(dialect: Dialect, { pictures, counted }: Pictures, job: StartJob): Promise<Started> {
  try {
    const media: ProviderMedia[] = []
    for (const each of pictures) {
      if ('url' in each) media.push({ url: each.url })
      else media.push({ url: await job.stash(each.bytes), mime: each.mime })
    }
    return counted === undefined ? { type: 'succeeded', media } : { type: 'succeeded', media, counted }
  } catch {
    // Paid and in hand, but there is no place to put it.
    const error = stepError('storage_unavailable', 'the output could not be written down', {
      provider: dialect.provider,
    })
    return { type: 'unknown', error }
  }
}

function failureOf(dialect: Dialect, failure: { kind: string; detail: string; status?: number }): StepError {
  const { kind, detail } = failure
  const { provider } = dialect
  if (kind === 'not_allowed') return stepError('internal', `${provider} was not called: ${detail}`, { provider })
  if (kind === 'too_large') return fault(dialect, 'provider_error', { says: `answered with ${detail}` })
  return fault(dialect, 'network_error', { says: `could not be reached: ${detail}` })
}

/** Why an output could not be opened. A dead link may be asked for again; a forbidden address never gets better. */
function closed(dialect: Dialect, failed: { errorClass: string; status?: number }): Opened & { ok: false } {
  const { errorClass } = failed
  // What is wrong with a file that was given is not its status.
  const status = failed.status === 200 ? undefined : failed.status
  // One that leads round in circles, or nowhere, is dead, too.
  const expired = status === 403 || status === 404 || status === 410 || errorClass === 'redirect'
  const hopeless = errorClass === 'blocked_address' || errorClass === 'too_large' || errorClass === 'encoding_refused'
  const why = status === undefined ? errorClass : `HTTP ${status}`
  const error = stepError('output_fetch_failed', `the output at ${dialect.provider} could not be opened: ${why}`, {
    provider: dialect.provider,
    ...(status === undefined ? {} : { httpStatus: status }),
    ...(hopeless ? { retryable: false } : {}),
  })
  return { ok: false, error, expired }
}

/** The configured origin may be a private one: the operator named it. */
function originEntry(baseUrl: string): readonly AllowEntry[] {
  const { hostname, port, protocol } = new URL(baseUrl)
  const parsed = parseAllow(`${hostname}:${port || (protocol === 'https:' ? '443' : '80')}`)
  return parsed.ok ? parsed.entries : []
}
