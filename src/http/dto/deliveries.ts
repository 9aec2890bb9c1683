/** The public shapes of deliveries, and how they are shown. See dto.ts. */
import { type Static, Type } from 'typebox'
import type { Delivery, DeliveryAttempt } from '../../core/delivery.ts'
import { anything, define, listOf, nullable, text, time, uuid, word } from './schema.ts'
import { iso, isoOrNull } from './time.ts'

export const DELIVERY_STATUSES = ['pending', 'delivered', 'exhausted', 'gone'] as const

const deliveryFields = {
  id: text('The `webhook-id` of every attempt.', { examples: ['msg_0192f0c1c2d37a54b7d3a1b2c3d4e5f6'] }),
  object: word(['delivery'], 'Always delivery.'),
  run_id: uuid('Whose end it tells.'),
  type: text('Of the message.', { examples: ['run.succeeded'] }),
  url: text('Where it goes; fixed when the run was created.', { format: 'uri' }),
  host: text('Host and port of the URL.', { examples: ['hooks.example.com:443'] }),
  status: word(
    DELIVERY_STATUSES,
    'pending: tried again. delivered: the receiver said 2xx. exhausted: given up after the last attempt. gone: the receiver said 410.',
  ),
  attempts: Type.Integer({ description: 'Attempts of the schedule so far, at most 12.' }),
  next_attempt_at: nullable(time('When it is tried again: not while its host is left alone for your key.')),
  last_error: nullable(text('Class of the newest failure.', { examples: ['http_5xx'] })),
  created_at: time('When the run ended.'),
  updated_at: time('When it last changed.'),
  delivered_at: nullable(time('When the receiver last accepted it.')),
}

export const delivery = define('Delivery', Type.Object(deliveryFields))

export const deliveryList = define(
  'DeliveryList',
  listOf(delivery, 'Newest first.', nullable(text('For the next page.'))),
)

export const deliveryAttempt = define(
  'DeliveryAttempt',
  Type.Object({
    no: Type.Integer({ description: 'In the schedule. One that did not count shares its number with the next.' }),
    trigger: word(['schedule', 'manual', 'recover'], 'Why it was made.'),
    started_at: time('When it began.'),
    duration_ms: Type.Number(),
    ip: nullable(text('The address that was connected to.')),
    http_status: nullable(Type.Integer()),
    error_class: nullable(
      text('Null for success. receiver_rejected is 400, 401, 403, 404 or 422; redirect is any 3xx, never followed.', {
        examples: ['timeout', 'tls_error', 'dns_error', 'http_5xx', 'receiver_rejected', 'redirect'],
      }),
    ),
    reply: nullable(text('At most 4 KiB of the answer, control characters escaped.')),
    next_attempt_at: nullable(time('What was decided then.')),
    reason: nullable(
      text('Why that time: schedule, retry_after, breath, egress_down, stopped, as_before, lease_lost.'),
    ),
  }),
)

export const deliveryDetail = define(
  'DeliveryDetail',
  Type.Object({
    ...deliveryFields,
    attempt_log: Type.Array(deliveryAttempt.ref, { description: 'Oldest first.' }),
    payload: anything('The message, as it is sent.'),
  }),
)

export const recover = define(
  'Recover',
  Type.Object(
    {
      since: text('Deliveries created at or after this time, ISO 8601 with zone.'),
      until: Type.Optional(text('And before this one. By default now.')),
      host: Type.Optional(
        text('Only to this `host:port`; without a port, to 443 of the host.', { minLength: 1, maxLength: 300 }),
      ),
    },
    { additionalProperties: false },
  ),
)

export const recovery = define(
  'Recovery',
  Type.Object({
    object: word(['recovery'], 'Always recovery.'),
    count: Type.Integer({ description: 'Deliveries that are sent once more.' }),
    since: time('As asked.'),
    until: time('As asked.'),
    host: nullable(Type.String()),
    last_attempt_at: nullable(time('When the last of them is due: they are spread out.')),
  }),
)

export const pingOrder = define(
  'PingOrder',
  Type.Object({ url: text('A public https URL.', { maxLength: 2048 }) }, { additionalProperties: false }),
)

export const ping = define(
  'Ping',
  Type.Object({
    object: word(['ping'], 'Always ping.'),
    webhook_id: text('Of the message.'),
    url: text('Where it went.', { format: 'uri' }),
    delivered: Type.Boolean({ description: 'Whether the receiver said 2xx.' }),
    http_status: nullable(Type.Integer()),
    error_class: nullable(text('As in the log of a delivery.')),
    redirects_to: nullable(text('The host that a redirect named; it was not followed.')),
    duration_ms: Type.Number(),
    sent_at: time('When it was signed.'),
  }),
)

export type DeliveryDto = Static<typeof delivery.schema>
export type DeliveryAttemptDto = Static<typeof deliveryAttempt.schema>
export type RecoverDto = Static<typeof recover.schema>
export type RecoveryDto = Static<typeof recovery.schema>
export type PingOrderDto = Static<typeof pingOrder.schema>
export type PingDto = Static<typeof ping.schema>

export function presentDelivery(one: Omit<Delivery, 'body'>): DeliveryDto {
  return {
    id: one.id,
    object: 'delivery',
    run_id: one.runId,
    type: one.type,
    url: one.url,
    host: one.host,
    status: one.status,
    attempts: one.attempts,
    next_attempt_at: one.status === 'pending' ? iso(one.dueAt) : null,
    last_error: one.lastError,
    created_at: iso(one.createdAt),
    updated_at: iso(one.updatedAt),
    delivered_at: isoOrNull(one.deliveredAt),
  }
}

export function presentDeliveryAttempt(attempt: DeliveryAttempt): DeliveryAttemptDto {
  return {
    no: attempt.no,
    trigger: attempt.trigger,
    started_at: iso(attempt.startedAt),
    duration_ms: attempt.durationMs,
    ip: attempt.ip,
    http_status: attempt.httpStatus,
    error_class: attempt.errorClass,
    reply: attempt.reply,
    next_attempt_at: isoOrNull(attempt.nextAt),
    reason: attempt.reason,
  }
}
