/**
 * Callbacks as data, and what follows an attempt to deliver one. Pure.
 *
 * 1. Only 2xx is delivered; 410 ends it; everything else is tried again, on a published schedule.
 * 2. `Retry-After` can lengthen a wait, never shorten it, never add an attempt.
 * 3. A fault of our own network, or our own stop, burns no attempt.
 * 4. An attempt that somebody asked for is made once: its failure brings back what was before.
 */
export type DeliveryStatus = 'pending' | 'delivered' | 'exhausted' | 'gone'

export interface NewDelivery {
  /** `msg_` and a UUIDv7 without dashes: the webhook-id, for ever. */
  id: string
  runId: string
  apiKeyId: string
  type: string
  url: string
  /** host:port, for fairness. */
  host: string
  /** The exact bytes of every attempt. */
  body: Uint8Array
  dueAt: number
  createdAt: number
}

/** The right to send a delivery: nobody else finds it before `until` (ms), and only the newest token settles it. */
export interface Lease {
  token: string
  until: number
}

export interface Delivery extends NewDelivery {
  status: DeliveryStatus
  /** Attempts of the schedule that were begun. Counted with the lease: a send that kills the process cannot be repeated for ever. */
  attempts: number
  updatedAt: number
  /** Of the newest attempt that was accepted; a failed one after it leaves it. */
  deliveredAt: number | null
  lastError: string | null
}

/** Why an attempt is made: by the schedule, or once because somebody asked for it. */
export type Trigger = 'schedule' | 'manual' | 'recover'

/** What a delivery was before somebody asked for an attempt; its failure brings that back. */
export interface Prior {
  status: DeliveryStatus
  dueAt: number
}

export interface ClaimedDelivery extends Delivery {
  trigger: Trigger
  /** Null for the schedule's own attempts. */
  prior: Prior | null
  /** Only the holder of the newest token may settle. `attempts` includes the one that this claim is for. */
  leaseToken: string
}

/** Whether an earlier attempt was begun than the one that this claim is for. */
export function isRetry({ attempts, trigger }: Pick<ClaimedDelivery, 'attempts' | 'trigger'>): boolean {
  return attempts > (trigger === 'schedule' ? 1 : 0)
}

export interface DeliveryAttempt {
  no: number
  trigger: Trigger
  startedAt: number
  durationMs: number
  ip: string | null
  httpStatus: number | null
  errorClass: string | null
  /** At most 4 KiB of the reply, escaped. */
  reply: string | null
  nextAt: number | null
  reason: string | null
}

export interface Settlement {
  deliveryId: string
  leaseToken: string
  at: number
  status: DeliveryStatus
  /** When pending: the next try. */
  dueAt: number | null
  /** False when nothing was tried of what was asked for (our own network was down, or we stopped): it stays asked for. */
  counts: boolean
  attempt: DeliveryAttempt
  /** Null where the attempt changed nothing for its host. */
  hostChange: HostChange | null
}

/** A host as one API key calls it, by name: another key's path there may work where this one's hangs. */
export function receiverOf({ apiKeyId, host }: Pick<NewDelivery, 'apiKeyId' | 'host'>): string {
  return `${apiKeyId} ${host}`
}

/** A host that its breaker leaves alone for a while, for one key. */
export interface ClosedHost {
  /** As `receiverOf` names it. */
  receiver: string
  closedUntil: number
  /** For how long the next failure closes it. */
  pauseMs: number
}

/** What an attempt did to its host: closed it, or opened it again. */
export type HostChange = ClosedHost | { receiver: string; closedUntil: null }

export interface ClaimOrder {
  at: number
  leaseUntil: number
  leaseToken: string
  limit: number
  /** At most this many of them that were tried before. */
  retries: number
  /** At most this many claimed at once per host, those in flight included. */
  perHost: number
  /** How many are in flight per host, less the places that it may take beyond `perHost`: below 0 for a host that is trusted. */
  inFlight: Readonly<Record<string, number>>
  /** Keys that may not call a host now. Such hosts may be thousands: a claim asks for those that it comes across. */
  closed: (host: string) => Pick<ReadonlySet<string>, 'has'>
  /** Keys of which no more than one may be claimed there, and decides for the others; asked for in the same way. */
  probed: (host: string) => Pick<ReadonlySet<string>, 'has'>
  /** At most this many per API key, those in flight included, whose numbers follow. */
  perKey: number
  inFlightOfKeys: Readonly<Record<string, number>>
}

/** Which deliveries of a key, newest first. */
export interface DeliveryFilter {
  apiKeyId: string
  runId?: string
  status?: readonly DeliveryStatus[]
  /** host:port */
  host?: string
  /** Only older ones (created_at, id), for the next page. */
  before?: { createdAt: number; id: string }
  limit: number
}

/** Failed deliveries of a key that are to be tried once more, oldest first. */
export interface RecoverOrder {
  apiKeyId: string
  /** Created at or after, and before (ms). */
  since: number
  until: number
  /** host:port */
  host?: string
  at: number
  /** The n-th is due n times this after `at`. */
  spacingMs: number
  /** At most so many; and where an earlier order ended. */
  limit: number
  after?: { createdAt: number; id: string }
}

export interface Recovered {
  count: number
  /** Where the next order goes on; null when there is no more. */
  last: { createdAt: number; id: string } | null
}

export type SendOutcome =
  | {
      type: 'answered'
      status: number
      reply: string
      retryAfterMs: number | null
      ip: string | null
      durationMs: number
      location: string | null
    }
  | { type: 'failed'; errorClass: string; ip: string | null; durationMs: number }

/** Seconds after the n-th failure; 12 attempts in about 75.7 hours. */
export const SCHEDULE_S: readonly number[] = [5, 30, 120, 600, 1_800, 7_200, 18_000, 36_000, 50_400, 72_000, 86_400]

/** After a time-out or a plea for less, a receiver gets at least this long. */
const BREATH_MS = 60_000
/** A receiver cannot ask for more than this. */
const RETRY_AFTER_CAP_MS = 24 * 3_600_000
/** While nothing leaves this machine, we look again this often. */
const EGRESS_DOWN_MS = 30_000
/** An attempt that was begun so often and never settled kills the process, and is given up. */
const MOST_BEGUN = SCHEDULE_S.length + 5

export interface DeliveryVerdict {
  status: DeliveryStatus
  dueAt: number | null
  counts: boolean
  errorClass: string | null
  /** Why this time was chosen: schedule, retry_after, breath, egress_down, stopped, as_before; null when there is no next time. */
  reason: string | null
}

/** What an attempt is for: its number (from 1) in the schedule, or what its failure brings back. */
export type Attempted = Pick<ClaimedDelivery, 'attempts' | 'prior'>

/** False for a delivery whose attempts were begun and never ended. */
export function mayTry({ attempts }: Attempted): boolean {
  return attempts <= MOST_BEGUN
}

/** Jitter is 0 to 1 and spreads a wait by ± 20 %. */
export function afterSending(outcome: SendOutcome, tried: Attempted, at: number, jitter: number): DeliveryVerdict {
  const errorClass = classOf(outcome)
  const base = { dueAt: null, counts: true, errorClass, reason: null }
  if (errorClass === null) return { ...base, status: 'delivered' }
  if (errorClass === 'egress_down')
    return { ...base, status: 'pending', dueAt: at + EGRESS_DOWN_MS, counts: false, reason: 'egress_down' }
  if (errorClass === 'aborted') return { ...base, status: 'pending', dueAt: at, counts: false, reason: 'stopped' }
  const { prior } = tried
  const isOpen = prior === null || prior.status === 'pending'
  if (isOpen && outcome.type === 'answered' && outcome.status === 410) return { ...base, status: 'gone' }
  if (prior)
    return {
      ...base,
      status: prior.status,
      dueAt: prior.status === 'pending' ? prior.dueAt : null,
      reason: 'as_before',
    }
  const pauseS = SCHEDULE_S[tried.attempts - 1]
  if (pauseS === undefined) return { ...base, status: 'exhausted' }
  const scheduled = Math.round(pauseS * 1_000 * (0.8 + 0.4 * jitter))
  const breath = needsBreath(outcome) ? BREATH_MS : 0
  const asked =
    outcome.type === 'answered' && (outcome.status === 429 || outcome.status === 503) ? (outcome.retryAfterMs ?? 0) : 0
  const wait = Math.max(scheduled, breath, Math.min(asked, RETRY_AFTER_CAP_MS))
  const reason = wait === scheduled ? 'schedule' : wait === breath ? 'breath' : 'retry_after'
  return { ...base, status: 'pending', dueAt: at + wait, reason }
}

/** What went wrong; null when it was delivered. */
export function classOf(outcome: SendOutcome): string | null {
  if (outcome.type === 'failed') return outcome.errorClass
  const { status } = outcome
  if (status >= 200 && status < 300) return null
  if (status >= 300 && status < 400) return 'redirect'
  if ([400, 401, 403, 404, 422].includes(status)) return 'receiver_rejected'
  return status < 500 ? 'http_4xx' : 'http_5xx'
}

function needsBreath(outcome: SendOutcome): boolean {
  if (outcome.type === 'failed') return outcome.errorClass === 'timeout' || outcome.errorClass === 'connect_timeout'
  return [429, 502, 503, 504].includes(outcome.status)
}
