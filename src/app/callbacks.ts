/** What people may ask of callbacks: send one again, recover the failed ones, try a receiver. */
import { classOf } from '../core/delivery.ts'
import type { Clock, Store } from '../core/ports.ts'
import type { Outbox } from '../engine/outbox.ts'
import type { CallbackDesk } from '../http/deps.ts'
import { presentPing } from '../http/dto/callback.ts'
import { hostOf, type Postman, send } from './notifier.ts'

export interface CallbackDeps {
  store: Pick<Store, 'resend' | 'recover'>
  outbox: Pick<Outbox, 'wake' | 'invite' | 'earliest'>
  clock: Pick<Clock, 'now' | 'id'>
  egress: Postman
  secretsOf(apiKeyId: string): Promise<Uint8Array[]>
  version: string
  /** The wall clock: receivers hold the time of a signature against theirs. */
  wall(): number
}

/** Recovered deliveries are due this far apart: a receiver that has just come back is not knocked over again. */
const SPACING_MS = 100
/** Deliveries in one transaction: a few milliseconds. */
const BATCH = 200

export function createCallbackDesk(deps: CallbackDeps): CallbackDesk {
  const { store, outbox, clock } = deps
  return {
    planned: delivery => ({ ...delivery, dueAt: outbox.earliest(delivery) }),

    async resend(delivery) {
      await store.resend(delivery.id, clock.now())
      outbox.invite(delivery)
    },

    async recover(order) {
      const at = clock.now()
      let count = 0
      let after: { createdAt: number; id: string } | undefined
      for (;;) {
        const batch = { ...order, at: at + count * SPACING_MS, spacingMs: SPACING_MS, limit: BATCH, after }
        const { count: more, last } = await store.recover(batch)
        count += more
        if (last === null) break
        after = last
      }
      const { apiKeyId, host } = order
      if (host !== undefined) outbox.invite({ apiKeyId, host })
      else outbox.wake()
      return { count, lastAt: count === 0 ? null : at + (count - 1) * SPACING_MS }
    },

    async ping(apiKeyId, url) {
      const at = deps.wall()
      const id = `msg_${clock.id().replaceAll('-', '')}`
      const message = { id, body: presentPing(apiKeyId, at), apiKeyId, url }
      const outcome = await send(deps, message, at)
      if (classOf(outcome) === null) outbox.invite({ apiKeyId, host: hostOf(url) })
      return { id, at, outcome }
    },
  }
}
