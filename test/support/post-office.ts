/**
 * The real outbox, SQLite store, signatures and secrets, with deliveries that are just there: no run has to be made.
 * Time is virtual, or real where sockets are the matter; the network is a function or the real egress.
 */
import { rmSync } from 'node:fs'
import { createCallbackDesk } from '../../src/app/callbacks.ts'
import { send } from '../../src/app/notifier.ts'
import { WebhookSecrets } from '../../src/app/webhook-secrets.ts'
import type { Delivery, DeliveryAttempt, NewDelivery } from '../../src/core/delivery.ts'
import type { Clock, Notifier, Observer, Store } from '../../src/core/ports.ts'
import { Outbox } from '../../src/engine/outbox.ts'
import type { CallbackDesk } from '../../src/http/deps.ts'
import type { Egress, PostRequest, PostResult } from '../../src/net/egress.ts'
import { openSqliteStore } from '../../src/store/sqlite/open.ts'
import { apiKey, cancelTurn, creation, deliveryOf, queuedRun } from './store-runs.ts'
import { tempDir } from './store-temp.ts'
import { systemClock } from './system-clock.ts'
import { VirtualClock } from './virtual-clock.ts'

export const KEY = 'key_a'

export interface Posted {
  url: string
  at: number
  headers: Readonly<Record<string, string>>
  body: string
}

export class PostOffice {
  readonly dir = tempDir()
  readonly clock: Clock
  /** What was posted, in order. */
  readonly posted: Posted[] = []
  readonly faults: string[] = []
  /** What receivers say; only where there is no real egress. */
  receiver: (posted: Posted, n: number) => PostResult | Promise<PostResult> = () => answer(204)
  declare store: Store
  declare outbox: Outbox
  declare callbacks: CallbackDesk
  declare secrets: WebhookSecrets
  readonly #egress: Pick<Egress, 'post'>

  private constructor(egress: Pick<Egress, 'post'> | null) {
    this.clock = egress ? systemClock : new VirtualClock(7)
    this.#egress = egress ?? { post: async (url, request) => this.#receive(url, request) }
  }

  static async open(egress: Pick<Egress, 'post'> | null = null): Promise<PostOffice> {
    const office = new PostOffice(egress)
    await office.#start()
    await office.addKey(KEY)
    return office
  }

  async addKey(id: string): Promise<void> {
    await this.store.saveApiKey(apiKey({ id }), this.secrets.fresh(id).secret)
  }

  async close(): Promise<void> {
    await this.outbox.drain(0)
    await this.store.close()
    rmSync(this.dir, { recursive: true, force: true })
  }

  /** The process dies without a word; another one opens the same database. */
  async restart(): Promise<void> {
    await this.store.close()
    // Whatever it still does, its store is gone; and it shall not do it in the middle of other tests.
    await this.outbox.drain(0)
    if (this.clock instanceof VirtualClock) this.clock.clear()
    this.faults.length = 0
    await this.#start()
  }

  /** Ends as many runs, each with its callback. */
  async add(...wishes: Partial<NewDelivery>[]): Promise<NewDelivery[]> {
    return Promise.all(
      wishes.map(async wish => {
        const run = queuedRun()
        await this.store.create(creation(run))
        const at = this.clock.now()
        const body = new TextEncoder().encode(JSON.stringify({ type: 'run.canceled', data: { id: run.id } }))
        const delivery = deliveryOf(run, { apiKeyId: KEY, body, dueAt: at, createdAt: at, ...wish })
        await this.store.commit(cancelTurn(run, delivery))
        return delivery
      }),
    )
  }

  /** Sends all that is due now, then goes on from due time to due time until nothing is, or until `done`. */
  async play(done: () => boolean | Promise<boolean> = () => false): Promise<void> {
    const { clock } = this
    for (let n = 0; n < 2_000; n += 1) {
      await this.outbox.runOnce()
      if (await done()) return
      const next = await this.store.nextDeliveryAt()
      if (next === null) return
      // Due, but its host is closed: some time passes.
      this.advance(next > clock.now() ? next - clock.now() : 1_000)
    }
    throw new Error('it does not end')
  }

  advance(ms: number): void {
    if (!(this.clock instanceof VirtualClock)) throw new Error('real time plays by itself')
    this.clock.advance(ms)
  }

  async find(id: string): Promise<Delivery & { log: DeliveryAttempt[] }> {
    const found = await this.store.delivery(id)
    if (!found) throw new Error(`${id} is lost`)
    return { ...found, log: await this.store.deliveryAttempts(id) }
  }

  async #start(): Promise<void> {
    const { clock } = this
    this.store = await openSqliteStore({ dataDir: this.dir, now: clock.now.bind(clock) })
    this.secrets = new WebhookSecrets({ store: this.store, clock, key: new Uint8Array(32).fill(5), given: null })
    const sending = { egress: this.#egress, secretsOf: (id: string) => this.secrets.of(id), version: 'test' }
    const notifier: Notifier = {
      compose: () => null,
      send: (delivery, signal) => send(sending, delivery, clock.now(), signal),
    }
    const observer: Observer = {
      attemptEnded: () => {},
      runEnded: () => {},
      deliveryTried: () => {},
      fault: (where, error) => this.faults.push(`${where}: ${error}`),
    }
    this.outbox = new Outbox({ store: this.store, notifier, clock, observer })
    const { store, outbox } = this
    this.callbacks = createCallbackDesk({ ...sending, store, outbox, clock, wall: () => clock.now() })
    await this.outbox.takeUp()
  }

  #receive(url: string, { headers, body }: PostRequest): PostResult | Promise<PostResult> {
    const posted = { url, at: this.clock.now(), headers, body: new TextDecoder().decode(body) }
    this.posted.push(posted)
    return this.receiver(posted, this.posted.length - 1)
  }
}

export function answer(status: number, headers: Record<string, string> = {}): PostResult {
  return { type: 'answered', status, headers, text: 'a reply', ip: '203.0.113.7', ms: 12 }
}

export function failure(errorClass: (PostResult & { type: 'failed' })['errorClass']): PostResult {
  return { type: 'failed', errorClass, detail: 'in a test', ip: null, ms: 3 }
}
