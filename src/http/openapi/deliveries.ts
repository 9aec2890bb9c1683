/** The description of the operations on deliveries. */
import { operation, type Parameter, pages, schemaRef } from './operation.ts'

const deliveryId: Parameter = {
  name: 'deliveryId',
  in: 'path',
  description: 'Id of the delivery, which is its webhook-id.',
  schema: { type: 'string', pattern: '^msg_[0-9a-f]{32}$' },
}

export const list = operation({
  id: 'listDeliveries',
  tag: 'Callbacks',
  summary: 'List deliveries, newest first',
  scope: 'callbacks:manage',
  parameters: [
    { name: 'run_id', in: 'query', description: 'Only of this run.', schema: { type: 'string', format: 'uuid' } },
    {
      name: 'status',
      in: 'query',
      description: 'Only with this status; may be given several times.',
      style: 'form',
      explode: true,
      schema: { type: 'array', items: { type: 'string', enum: ['pending', 'delivered', 'exhausted', 'gone'] } },
    },
    {
      name: 'host',
      in: 'query',
      description: 'Only to this `host:port`; without a port, to 443 of the host.',
      schema: { type: 'string' },
      example: 'hooks.example.com',
    },
    ...pages('Deliveries'),
  ],
  answers: { 200: { description: 'A page.', json: 'DeliveryList' } },
  problems: [400, 503],
})

export const get = operation({
  id: 'getDelivery',
  tag: 'Callbacks',
  summary: 'Get a delivery with its attempts',
  scope: 'callbacks:manage',
  parameters: [deliveryId],
  answers: { 200: { description: 'Every attempt, and the message.', json: 'DeliveryDetail' } },
  problems: [404, 503],
})

export const resend = operation({
  id: 'resendDelivery',
  tag: 'Callbacks',
  summary: 'Send a delivery once more',
  description:
    'Also after it was delivered. Same `webhook-id`, same bytes, signed anew. It is one attempt: if it fails, the delivery is what it was before but for `last_error` and `updated_at`, and its schedule goes on. While an attempt is under way it waits for that one: it is made at once if that one fails, and not at all if it is delivered.',
  scope: 'callbacks:manage',
  parameters: [deliveryId],
  answers: {
    202: {
      description: 'It is due now, or as soon as an attempt that is under way fails.',
      json: 'Delivery',
      headers: ['Location'],
    },
  },
  problems: [404, 503],
})

export const recover = operation({
  id: 'recoverDeliveries',
  tag: 'Callbacks',
  summary: 'Send failed deliveries once more',
  description:
    'Every exhausted or gone delivery of the time range, oldest first, spread out so that a receiver that has just come back can keep up.',
  scope: 'callbacks:manage',
  body: {
    content: {
      'application/json': {
        schema: schemaRef('Recover'),
        example: { since: '2026-05-26T00:00:00Z', until: '2026-05-27T00:00:00Z', host: 'hooks.example.com' },
      },
    },
  },
  answers: { 202: { description: 'How many, and when the last of them is due.', json: 'Recovery' } },
  problems: [400, 413, 415, 503],
})

export const test = operation({
  id: 'testWebhook',
  tag: 'Callbacks',
  summary: 'Send a signed webhook.ping to a URL',
  description:
    'Sends one message of type `webhook.ping`, signed as a callback is, and waits up to 15 s for what the receiver says. Nothing is stored; where your callbacks are left alone, one that is delivered has the next of them tried at once. A key may have four under way at once: beyond that, and when many keys send, 429 says when to come back.',
  scope: 'callbacks:manage',
  body: {
    content: {
      'application/json': {
        schema: schemaRef('PingOrder'),
        example: { url: 'https://hooks.example.com/babychain' },
      },
    },
  },
  answers: { 200: { description: 'What the receiver said.', json: 'Ping' } },
  problems: [400, 413, 415, 422, 503],
})
