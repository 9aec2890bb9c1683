/**
 * Drains callback deliveries: claim, send, settle or reschedule.
 *
 * 1. At least once: a delivery whose attempt was not settled is sent again, with the same id and the same bytes.
 * 2. Claims are leased and fenced; the lease is longer than an attempt may take. While nothing else is due, a new delivery
 *    is committed with its lease and sent at once; else it waits its turn in the store.
 * 3. A slow host takes few places and nobody else's: limits per host and in all, and a breaker per host and key. A host earns
 *    more places with every quick answer, up to half of all; the first slow or bad one takes them back. Retries have half
 *    of all places: what waits for its first attempt does not wait behind them.
 * 4. The loop has no logic: what follows an attempt is decided by core/delivery.
 * 5. A stop waits a while for what is being sent, then cuts it off; what was cut off is due at the next start.
 */
import {
  afterSending,
  type ClaimedDelivery,
  type DeliveryVerdict,
  type HostChange,
  isRetry,
  type Lease,
  mayTry,
  type NewDelivery,
  receiverOf,
  type SendOutcome,
} from '../core/delivery.ts'
import { type Clock, type Notifier, type Observer, StorageUnavailable, type Store } from '../core/ports.ts'
import { remember } from '../core/remember.ts'
import type { Post } from './actor.ts'
import { HostBreakers } from './host-breakers.ts'

export interface OutboxDeps {
  store: Store
  notifier: Notifier
  clock: Clock
  observer: Observer
}

/** Callbacks under way at once: in all, and to one host. */
const PLACES = 64
const PLACES_PER_HOST = 4
const MORE_FOR_QUICK_HOSTS = 28
/** For deliveries that were tried before: a receiver that failed once is likely to be slow, and late already. */
const PLACES_OF_RETRIES = PLACES / 2
/** To all hosts of one API key: whoever owns a thousand hosts that never answer leaves the others their part. */
const PLACES_PER_KEY = 48
/** An answer that takes longer is slow (ms). */
const QUICK_MS = 1_000
/** Hosts whose quickness is remembered: every claim names them. */
const QUICK_HOSTS = 64
/** An attempt takes at most 15 s; the rest is for a slow disk. */
const LEASE_MS = 45_000
/** A host whose pause was over for so long before a restart begins anew (ms). */
const CLOSURE_KEPT_MS = 24 * 3_600_000
/** While storage refuses writes, or a host is closed, we look again this often. */
const LOOK_AGAIN_MS = 1_000
/** The longest wait without a look at the clock: a timer keeps its span when the clock leaps ahead, what is due does not. */
const LONGEST_NAP_MS = 60_000

export class Outbox implements Post {
  readonly #deps: OutboxDeps
  readonly #breakers = new HostBreakers()
  #inFlight = new Map<string, number>()
  #inFlightOfKeys = new Map<string, number>()
  #sending = new Set<Promise<void>>()
  /** How many of them are retries. */
  #retrying = 0
  /** Places that a host has earned beyond the usual ones. */
  #earned = new Map<string, number>()
  /** Places taken for deliveries that are being committed. */
  #booked = 0
  /** True while the store holds nothing that could be sent now. */
  #isLevel = false
  #alarm: { at: number; disarm: () => void } | null = null
  #claiming: Promise<void> | null = null
  #again = false
  #stopped = false
  #isCutOff = false
  readonly #cut = new AbortController()

  constructor(deps: OutboxDeps) {
    this.#deps = deps
  }

  /**
   * Takes up what an earlier process left in the middle. To be called before any run can end: all leases are freed, and a
   * callback that is on its way under one would be sent again. `wake` then sends what is due.
   */
  async takeUp(): Promise<void> {
    const { store, clock } = this.#deps
    const at = clock.now()
    const [closed] = await Promise.all([store.closedHosts(at - CLOSURE_KEPT_MS), store.freeLeases()])
    this.#breakers.restore(closed, at)
  }

  book({ host, apiKeyId }: NewDelivery): Lease | null {
    const { clock } = this.#deps
    const at = clock.now()
    const room = PLACES - this.#sending.size - this.#booked
    if (this.#stopped || !this.#isLevel || room <= 0) return null
    const receiver = receiverOf({ host, apiKeyId })
    // What a probe is the claim decides.
    if (this.#breakers.isClosed(receiver, at) || this.#breakers.awaitsProbe(receiver, at)) return null
    if ((this.#inFlight.get(host) ?? 0) >= PLACES_PER_HOST + (this.#earned.get(host) ?? 0)) return null
    if ((this.#inFlightOfKeys.get(apiKeyId) ?? 0) >= PLACES_PER_KEY) return null
    this.#booked += 1
    this.#count(host, apiKeyId, 1)
    return { token: clock.token(), until: at + LEASE_MS }
  }

  forgo({ host, apiKeyId }: NewDelivery): void {
    this.#booked -= 1
    this.#count(host, apiKeyId, -1)
  }

  committed(delivery: NewDelivery, lease: Lease | null): void {
    if (lease === null) {
      this.#isLevel = false
      this.wake()
      return
    }
    this.forgo(delivery)
    if (this.#stopped) return
    this.#wakeAt(lease.until)
    this.#launch(leased(delivery, lease))
  }

  /** Something may be due. */
  wake(): void {
    if (this.#stopped) return
    this.#again = true
    this.#claiming ??= this.#rounds()
  }

  /** Claims what is due and sends it, until nothing is; resolves when all of it is settled. */
  async runOnce(): Promise<void> {
    await this.#claim()
    await Promise.all(this.#sending)
  }

  /** Somebody who should know says that this host works again for this key. */
  invite(receiver: Pick<NewDelivery, 'apiKeyId' | 'host'>): void {
    this.#breakers.invite(receiverOf(receiver), this.#deps.clock.now())
    this.wake()
  }

  /** When a delivery that waits is sent at the earliest: not while its host is left alone. */
  earliest(delivery: Pick<NewDelivery, 'apiKeyId' | 'host' | 'dueAt'>): number {
    return Math.max(delivery.dueAt, this.#breakers.closedUntil(receiverOf(delivery)))
  }

  /** Claims nothing more and waits for what is being sent, for at most `graceMs`; then it is cut off and settled as not made. */
  async drain(graceMs: number): Promise<void> {
    this.#stopped = true
    this.#alarm?.disarm()
    await this.#claiming
    const { clock } = this.#deps
    const disarm = clock.at(clock.now() + graceMs, () => this.#cut.abort(new Error('stopping')))
    await Promise.all(this.#sending)
    disarm()
  }

  /** One claim for all that woke us meanwhile: attempts end together, those of one commit. */
  async #rounds(): Promise<void> {
    try {
      while (this.#again && !this.#stopped) {
        await null
        this.#again = false
        await this.#round()
      }
    } finally {
      this.#claiming = null
    }
  }

  async #round(): Promise<void> {
    const { clock, store, observer } = this.#deps
    try {
      await this.#claim()
      const next = await store.nextDeliveryAt()
      const now = clock.now()
      this.#isLevel = next === null || next > now
      // Due but not claimable: its host is busy or closed. A freed place wakes us; this is the net below.
      if (next !== null) this.#wakeAt(next > now ? next : now + LOOK_AGAIN_MS)
    } catch (error) {
      observer.fault('outbox', error)
      this.#wakeAt(clock.now() + LOOK_AGAIN_MS)
    }
  }

  /** Looks again at a time, or before. */
  #wakeAt(at: number): void {
    if (this.#stopped || (this.#alarm !== null && this.#alarm.at <= at)) return
    this.#alarm?.disarm()
    const { clock } = this.#deps
    const alarm = { at, disarm: (): void => {} }
    const nap = (): void => {
      alarm.disarm = clock.at(Math.min(at, clock.now() + LONGEST_NAP_MS), () => {
        if (clock.now() < at) return nap()
        this.#alarm = null
        this.wake()
      })
    }
    this.#alarm = alarm
    nap()
  }

  async #claim(): Promise<void> {
    const { store, clock } = this.#deps
    const limit = PLACES - this.#sending.size - this.#booked
    if (limit <= 0) return
    const at = clock.now()
    const claimed = await store.claim({
      at,
      leaseUntil: at + LEASE_MS,
      leaseToken: clock.token(),
      limit,
      retries: PLACES_OF_RETRIES - this.#retrying,
      perHost: PLACES_PER_HOST,
      inFlight: this.#load(),
      closed: host => ({ has: apiKeyId => this.#breakers.isClosed(receiverOf({ apiKeyId, host }), at) }),
      probed: host => ({ has: apiKeyId => this.#breakers.awaitsProbe(receiverOf({ apiKeyId, host }), at) }),
      perKey: PLACES_PER_KEY,
      inFlightOfKeys: Object.fromEntries(this.#inFlightOfKeys),
    })
    for (const delivery of claimed) this.#launch(delivery)
  }

  /** How many are in flight per host, as if each of them had the same number of places. */
  #load(): Record<string, number> {
    const load = Object.fromEntries(this.#inFlight)
    for (const [host, more] of this.#earned) load[host] = (load[host] ?? 0) - more
    return load
  }

  #judge(host: string, isQuick: boolean): void {
    const earned = this.#earned.get(host) ?? 0
    if (isQuick) remember(this.#earned, host, Math.min(MORE_FOR_QUICK_HOSTS, earned + 1), QUICK_HOSTS)
    else this.#earned.delete(host)
  }

  #launch(delivery: ClaimedDelivery): void {
    const { host, apiKeyId } = delivery
    const retries = isRetry(delivery) ? 1 : 0
    this.#retrying += retries
    this.#count(host, apiKeyId, 1)
    const sending: Promise<void> = this.#attempt(delivery)
      .catch(error => this.#deps.observer.fault('delivery', error, { deliveryId: delivery.id }))
      .finally(() => {
        this.#retrying -= retries
        this.#count(host, apiKeyId, -1)
        this.#sending.delete(sending)
        if (!this.#isLevel) this.wake()
      })
    this.#sending.add(sending)
  }

  #count(host: string, apiKeyId: string, by: 1 | -1): void {
    count(this.#inFlight, host, by)
    count(this.#inFlightOfKeys, apiKeyId, by)
  }

  async #attempt(delivery: ClaimedDelivery): Promise<void> {
    const { clock, notifier } = this.#deps
    const startedAt = clock.now()
    if (!mayTry(delivery)) {
      await this.#settle(delivery, startedAt, NEVER_ENDED, null, null)
      return
    }
    const receiver = receiverOf(delivery)
    this.#breakers.begin(receiver, startedAt)
    let outcome: SendOutcome
    try {
      outcome = await notifier.send(delivery, this.#cut.signal)
    } catch (error) {
      if (error instanceof StorageUnavailable) {
        this.#breakers.forget(receiver)
        throw error
      }
      this.#deps.observer.fault('delivery', error, { deliveryId: delivery.id })
      outcome = { type: 'failed', errorClass: 'internal', ip: null, durationMs: clock.now() - startedAt }
    }
    const at = clock.now()
    const verdict = afterSending(outcome, delivery, at, clock.random())
    const change = this.#breakers.learn(receiver, verdict.errorClass, at, startedAt)
    this.#watchNetwork(verdict.errorClass)
    this.#judge(delivery.host, verdict.errorClass === null && at - startedAt <= QUICK_MS)
    await this.#settle(delivery, startedAt, verdict, outcome, change)
  }

  async #settle(
    delivery: ClaimedDelivery,
    startedAt: number,
    verdict: DeliveryVerdict,
    outcome: SendOutcome | null,
    hostChange: HostChange | null,
  ): Promise<void> {
    const { clock, store, observer } = this.#deps
    const { id: deliveryId, runId, leaseToken, trigger } = delivery
    const { status, dueAt, counts, errorClass, reason } = verdict
    const httpStatus = outcome?.type === 'answered' ? outcome.status : null
    const durationMs = outcome?.durationMs ?? 0
    await store.settle({
      deliveryId,
      leaseToken,
      at: clock.now(),
      status,
      dueAt,
      counts,
      hostChange,
      attempt: {
        // An attempt outside the schedule has the number after the last one of the schedule.
        no: delivery.attempts + (trigger === 'schedule' ? 0 : 1),
        trigger,
        startedAt,
        durationMs,
        ip: outcome?.ip ?? null,
        httpStatus,
        errorClass,
        reply: outcome && replyOf(outcome),
        nextAt: dueAt,
        reason,
      },
    })
    if (dueAt !== null) this.#wakeAt(dueAt)
    // Somebody may have asked for it meanwhile: then it is due now.
    if (errorClass !== null) this.#isLevel = false
    const made = reason === 'as_before' ? reason : status
    observer.deliveryTried({ deliveryId, runId, status: made, httpStatus, errorClass, ms: durationMs })
  }

  /** Says once that nothing leaves this machine: an operator should know, and needs no more than one line. */
  #watchNetwork(errorClass: string | null): void {
    if (errorClass === 'aborted') return
    const isDown = errorClass === 'egress_down'
    if (isDown && !this.#isCutOff)
      this.#deps.observer.fault(
        'egress',
        new Error('callbacks do not leave this machine: its network or resolver is down'),
      )
    this.#isCutOff = isDown
  }
}

function count(counts: Map<string, number>, key: string, by: 1 | -1): void {
  const now = (counts.get(key) ?? 0) + by
  if (now > 0) counts.set(key, now)
  else counts.delete(key)
}

/** A delivery that was committed with its lease, as a claim would give it. */
function leased(delivery: NewDelivery, { token: leaseToken }: Lease): ClaimedDelivery {
  const fresh = { status: 'pending', attempts: 1, deliveredAt: null, lastError: null } as const
  return { ...delivery, ...fresh, updatedAt: delivery.createdAt, trigger: 'schedule', prior: null, leaseToken }
}

const NEVER_ENDED: DeliveryVerdict = {
  status: 'exhausted',
  dueAt: null,
  counts: true,
  errorClass: 'never_ended',
  reason: null,
}

/** What the receiver said; for a redirect, where it pointed, since that is what an operator must see. */
function replyOf(outcome: SendOutcome): string | null {
  if (outcome.type === 'failed') return null
  return outcome.location === null ? outcome.reply : `Location: ${outcome.location}\n${outcome.reply}`.slice(0, 4_096)
}
