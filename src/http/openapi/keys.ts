/** The description of the operations on API keys and on webhook secrets. */
import { operation, type Parameter, schemaRef } from './operation.ts'

const keyId: Parameter = { name: 'keyId', in: 'path', description: 'Id of the key.', schema: { type: 'string' } }
const rotationBody = {
  required: false,
  content: { 'application/json': { schema: schemaRef('Rotation'), example: { overlap_seconds: 86_400 } } },
}

export const create = operation({
  id: 'createApiKey',
  tag: 'Keys',
  summary: 'Make an API key',
  description:
    'The key and the secret of its callbacks are in this answer and nowhere else. So an Idempotency-Key is 400: where the answer was lost, revoke the key in the list and make another. Without limits of its own a key may make 600 requests a minute, have 100 runs under way and 1000 waiting. It owns its runs, media and deliveries: no other key sees them. A key gives no scope, limit or end beyond its own, and no null where it has a limit: that is 403. What is left out is at most its own, too. The bootstrap key may give anything.',
  scope: 'keys:manage',
  body: {
    content: {
      'application/json': {
        schema: schemaRef('CreateApiKey'),
        example: { name: 'shop backend', scopes: ['runs:read', 'runs:write'], daily_budget_usd: 25 },
      },
    },
  },
  answers: { 201: { description: 'Keep both texts now.', json: 'CreatedApiKey', headers: ['Location'] } },
  problems: [400, 409, 413, 415, 503],
})

export const list = operation({
  id: 'listApiKeys',
  tag: 'Keys',
  summary: 'List the API keys',
  scope: 'keys:manage',
  answers: { 200: { description: 'All keys of this installation, revoked ones too.', json: 'ApiKeyList' } },
  problems: [],
})

export const get = operation({
  id: 'getApiKey',
  tag: 'Keys',
  summary: 'Get an API key',
  scope: 'keys:manage',
  parameters: [keyId],
  answers: { 200: { description: 'The key without its text.', json: 'ApiKey' } },
  problems: [404],
})

export const change = operation({
  id: 'changeApiKey',
  tag: 'Keys',
  summary: 'Change the name, the expiry or the limits of a key',
  description:
    'Fields that are left out stay as they are; null takes a limit away. Counts from the next request on. A key gives no limit or end beyond its own, itself included, and changes no key that may do more than itself; the bootstrap key is changed by itself only: else 403. 409 for the key of BABYCHAIN_API_KEY, which only the environment changes.',
  scope: 'keys:manage',
  parameters: [keyId],
  body: { content: { 'application/json': { schema: schemaRef('ChangeApiKey'), example: { daily_budget_usd: 50 } } } },
  answers: { 200: { description: 'The key as it is now.', json: 'ApiKey' } },
  problems: [400, 404, 409, 413, 415, 503],
})

export const rotate = operation({
  id: 'rotateApiKey',
  tag: 'Keys',
  summary: 'Give a key a new text',
  description:
    'Its id, runs, limits and secrets stay. The text before works for `overlap_seconds` more. While it does, another rotation is 409, such as a retry after a lost answer; with `overlap_seconds` 0 it is made, and only the new text works. An Idempotency-Key is 400. A key that may do more than yours is 403, and so is the bootstrap key for every other one.',
  scope: 'keys:manage',
  parameters: [keyId],
  body: rotationBody,
  answers: { 200: { description: 'Keep the text now.', json: 'RotatedApiKey' } },
  problems: [400, 404, 409, 413, 415, 503],
})

export const revoke = operation({
  id: 'revokeApiKey',
  tag: 'Keys',
  summary: 'Revoke a key at once',
  description:
    'Idempotent, and for ever. Runs under way end, and their callbacks are sent. A key that may do more than yours is 403, and so is the bootstrap key for every other one.',
  scope: 'keys:manage',
  parameters: [keyId],
  answers: { 200: { description: 'No request with it is taken any more.', json: 'ApiKey' } },
  problems: [404, 409, 503],
})

export const secrets = operation({
  id: 'listWebhookSecrets',
  tag: 'Callbacks',
  summary: 'List the secrets that sign your callbacks',
  scope: 'callbacks:manage',
  answers: { 200: { description: 'Without their texts.', json: 'WebhookSecretList' } },
  problems: [503],
})

export const rotateSecret = operation({
  id: 'rotateWebhookSecret',
  tag: 'Callbacks',
  summary: 'Make a new secret for your callbacks',
  description:
    'For `overlap_seconds` every attempt, also of older deliveries, carries two signatures, the newest first: a receiver that knows either of them accepts it. While the one before signs along, another rotation is 409, such as a retry after a lost answer; with `overlap_seconds` 0 it is made, and only the new secret signs. An Idempotency-Key is 400.',
  scope: 'callbacks:manage',
  body: rotationBody,
  answers: { 200: { description: 'Keep the secret now.', json: 'RotatedWebhookSecret' } },
  problems: [400, 409, 413, 415, 503],
})
