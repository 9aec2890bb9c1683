/**
 * Drains callback deliveries: claim, send, settle or reschedule.
 *
 * 1. At least once: a delivery whose attempt was not settled is sent again, with the same id and the same bytes.
 * 2. Claims are leased and fenced; the lease is longer than an attempt may take.
 * 3. A slow host takes few places and nobody else's: limits per host and in all, and a breaker per host.
 * 4. The loop has no logic: what follows an attempt is decided by core/delivery.
 */
import { afterSending, type ClaimedDelivery, type SendOutcome } from '../core/delivery.ts'
import type { Clock, Notifier, Observer, Store } from '../core/ports.ts'
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
/** An attempt takes at most 15 s; the rest is for a slow disk. */
const LEASE_MS = 45_000
/** While storage refuses writes, or a host is closed, we look again this often. */
const LOOK_AGAIN_MS = 1_000

export class Outbox {
  readonly #deps: OutboxDeps
  readonly #breakers = new HostBreakers()
  #inFlight = new Map<string, number>()
  #sending = new Set<Promise<void>>()
  #disarm: (() => void) | null = null
  #claiming: Promise<void> | null = null
  #again = false
  #stopped = false

  constructor(deps: OutboxDeps) {
    this.#deps = deps
  }

  /** Takes up what an earlier process left in the middle, then waits for what is due. */
  async start(): Promise<void> {
    await this.#deps.store.freeLeases()
    this.wake()
  }

  /** Something may be due. */
  wake(): void {
    if (this.#stopped) return
    if (this.#claiming !== null) {
      this.#again = true
      return
    }
    this.#claiming = this.#round().finally(() => {
      this.#claiming = null
      if (this.#again) {
        this.#again = false
        this.wake()
      }
    })
  }

  /** Claims what is due and sends it, until nothing is; resolves when all of it is settled. */
  async runOnce(): Promise<void> {
    await this.#claim()
    await Promise.all(this.#sending)
  }

  /** Claims nothing more and waits for what is being sent. */
  async drain(): Promise<void> {
    this.#stopped = true
    this.#disarm?.()
    await this.#claiming
    await Promise.all(this.#sending)
  }

  async #round(): Promise<void> {
    const { clock, store, observer } = this.#deps
    this.#disarm?.()
    try {
      const claimed = await this.#claim()
      if (claimed > 0) this.#again = true
      const next = await store.nextDeliveryAt()
      if (next === null || this.#stopped) return
      // Due but not claimable: its host is busy or closed. A freed place wakes us; this is the net below.
      const at = Math.max(next, clock.now() + (next <= clock.now() ? LOOK_AGAIN_MS : 0))
      this.#disarm = clock.at(at, () => this.wake())
    } catch (error) {
      observer.fault('outbox', error)
      if (!this.#stopped) this.#disarm = clock.at(clock.now() + LOOK_AGAIN_MS, () => this.wake())
    }
  }

  async #claim(): Promise<number> {
    const { store, clock } = this.#deps
    const limit = PLACES - this.#sending.size
    if (limit <= 0) return 0
    const at = clock.now()
    const claimed = await store.claim({
      at,
      leaseUntil: at + LEASE_MS,
      leaseToken: clock.token(),
      limit,
      perHost: PLACES_PER_HOST,
      inFlight: Object.fromEntries(this.#inFlight),
      closed: this.#breakers.closed(at),
    })
    for (const delivery of claimed) this.#launch(delivery)
    return claimed.length
  }

  #launch(delivery: ClaimedDelivery): void {
    const { host } = delivery
    this.#inFlight.set(host, (this.#inFlight.get(host) ?? 0) + 1)
    const sending: Promise<void> = this.#attempt(delivery)
      .catch(error => this.#deps.observer.fault('delivery', error, { deliveryId: delivery.id }))
      .finally(() => {
        const left = (this.#inFlight.get(host) ?? 1) - 1
        if (left > 0) this.#inFlight.set(host, left)
        else this.#inFlight.delete(host)
        this.#sending.delete(sending)
        this.wake()
      })
    this.#sending.add(sending)
  }

  async #attempt(delivery: ClaimedDelivery): Promise<void> {
    const { clock, notifier, store, observer } = this.#deps
    const startedAt = clock.now()
    this.#breakers.begin(delivery.host, startedAt)
    const outcome = await notifier.send(delivery, startedAt)
    const at = clock.now()
    const no = delivery.attempts
    const verdict = afterSending(outcome, no, at, clock.random())
    this.#breakers.learn(delivery.host, verdict.errorClass, at)
    const httpStatus = outcome.type === 'answered' ? outcome.status : null
    await store.settle({
      deliveryId: delivery.id,
      leaseToken: delivery.leaseToken,
      at,
      status: verdict.status,
      dueAt: verdict.dueAt,
      counts: verdict.counts,
      attempt: {
        no,
        trigger: 'schedule',
        startedAt,
        durationMs: outcome.durationMs,
        ip: outcome.ip,
        httpStatus,
        errorClass: verdict.errorClass,
        reply: replyOf(outcome),
        nextAt: verdict.dueAt,
        reason: verdict.reason,
      },
    })
    const { id: deliveryId, runId } = delivery
    observer.deliveryTried({
      deliveryId,
      runId,
      status: verdict.status,
      httpStatus,
      errorClass: verdict.errorClass,
      ms: outcome.durationMs,
    })
  }
}

/** What the receiver said; for a redirect, where it pointed, since that is what an operator must see. */
function replyOf(outcome: SendOutcome): string | null {
  if (outcome.type === 'failed') return null
  return outcome.location === null ? outcome.reply : `Location: ${outcome.location}\n${outcome.reply}`.slice(0, 4_096)
}
