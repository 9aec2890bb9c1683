/** The public shapes of API keys and of the secrets that sign their callbacks, and how they are shown. See dto.ts. */
import { type Static, Type } from 'typebox'
import { type ApiKey, SCOPES, type WebhookSecret } from '../../core/keys.ts'
import { roundUsd } from '../../core/money.ts'
import { define, listOf, nullable, text, time, word } from './schema.ts'
import { iso, isoOrNull } from './time.ts'

const scopes = (description: string) => Type.Array(word(SCOPES, 'What it may do.'), { description, minItems: 1 })
const name = text('For people.', { minLength: 1, maxLength: 100 })
const whole = (description: string, maximum: number) =>
  nullable(Type.Integer({ minimum: 1, maximum, description: `${description} null: no limit.` }))

const limits = {
  rate_per_minute: whole('Requests a minute.', 1_000_000),
  max_running: whole('Runs under way at once; more wait.', 100_000),
  max_queued: whole('Runs that wait; more are refused with queue_full.', 1_000_000),
  daily_budget_usd: nullable(
    Type.Number({
      minimum: 0,
      maximum: 1_000_000,
      description:
        'US dollars a day (UTC), looked at when a run is created or resumed and before each submit. null: no limit.',
    }),
  ),
}

const keyFields = {
  id: text('Names the key; not secret.', { examples: ['key_0192f0c1c2d37a54b7d3a1b2c3d4e5f6'] }),
  object: word(['api_key'], 'Always api_key.'),
  name: Type.String(),
  prefix: text('How its text begins.', { examples: ['bck_live_Ab12'] }),
  last4: text('How its text ends.'),
  status: word(['active', 'expired', 'revoked'], 'Only an active key is taken.'),
  scopes: scopes('What it may do.'),
  ...limits,
  spent_today_usd: Type.Number({
    description: 'Spent and under way since 00:00 UTC, estimates where nothing better is known.',
  }),
  created_at: time('When it was made.'),
  expires_at: nullable(time('When it ends by itself.')),
  revoked_at: nullable(time('When it was revoked.')),
  last_used_at: nullable(time('Its newest request; may be a minute behind after a restart.')),
  previous_expires_at: nullable(time('Until when the text before the newest rotation works.')),
}

export const apiKey = define('ApiKey', Type.Object(keyFields))

export const apiKeyList = define('ApiKeyList', listOf(apiKey, 'Oldest first.', Type.Null()))

export const createdKey = define(
  'CreatedApiKey',
  Type.Object({
    ...keyFields,
    key: text('The key itself: shown this once.'),
    webhook_secret: text('Signs the callbacks of its runs: shown this once.', { examples: ['whsec_…'] }),
  }),
)

export const rotatedKey = define(
  'RotatedApiKey',
  Type.Object({ ...keyFields, key: text('The new text: shown this once.') }),
)

const bounds = {
  expires_at: Type.Optional(nullable(text('When it ends by itself, ISO 8601 with zone, in the future. null: never.'))),
  rate_per_minute: Type.Optional(limits.rate_per_minute),
  max_running: Type.Optional(limits.max_running),
  max_queued: Type.Optional(limits.max_queued),
  daily_budget_usd: Type.Optional(limits.daily_budget_usd),
}

export const createKey = define(
  'CreateApiKey',
  Type.Object(
    { name, scopes: Type.Optional(scopes('At most your own. By default runs:read and runs:write.')), ...bounds },
    { additionalProperties: false },
  ),
)

export const changeKey = define(
  'ChangeApiKey',
  Type.Object({ name: Type.Optional(name), ...bounds }, { additionalProperties: false }),
)

export const rotation = define(
  'Rotation',
  Type.Object(
    {
      overlap_seconds: Type.Optional(
        Type.Integer({
          minimum: 0,
          maximum: 604_800,
          default: 86_400,
          description: 'How long the one before stays good: 0 to 604800 seconds, by default a day. 0 after a leak.',
        }),
      ),
    },
    { additionalProperties: false },
  ),
)

const secretFields = {
  id: text('Of the secret.'),
  object: word(['webhook_secret'], 'Always webhook_secret.'),
  api_key_id: text('Whose callbacks it signs.'),
  created_at: time('When it was made.'),
  retires_at: nullable(time('Until then it signs beside the newest one; null for the newest.')),
}

export const webhookSecret = define('WebhookSecret', Type.Object(secretFields))

export const webhookSecretList = define(
  'WebhookSecretList',
  listOf(webhookSecret, 'Newest first: at most two.', Type.Null()),
)

export const rotatedSecret = define(
  'RotatedWebhookSecret',
  Type.Object({ ...secretFields, secret: text('`whsec_` and base64: shown this once.') }),
)

export type ApiKeyDto = Static<typeof apiKey.schema>
export type CreateKeyDto = Static<typeof createKey.schema>
export type ChangeKeyDto = Static<typeof changeKey.schema>
export type RotationDto = Static<typeof rotation.schema>
export type WebhookSecretDto = Static<typeof webhookSecret.schema>

export function presentKey(key: ApiKey, spentUsd: number, at: number): ApiKeyDto {
  const isExpired = key.expiresAt !== null && key.expiresAt <= at
  const previous = key.previous && key.previous.until > at ? key.previous.until : null
  return {
    id: key.id,
    object: 'api_key',
    name: key.name,
    prefix: key.prefix,
    last4: key.last4,
    status: key.revokedAt !== null ? 'revoked' : isExpired ? 'expired' : 'active',
    scopes: [...key.scopes],
    rate_per_minute: key.ratePerMinute,
    max_running: key.maxRunning,
    max_queued: key.maxQueued,
    daily_budget_usd: key.dailyBudgetUsd,
    spent_today_usd: roundUsd(spentUsd),
    created_at: iso(key.createdAt),
    expires_at: isoOrNull(key.expiresAt),
    revoked_at: isoOrNull(key.revokedAt),
    last_used_at: isoOrNull(key.lastUsedAt),
    previous_expires_at: isoOrNull(previous),
  }
}

export function presentSecret({ id, apiKeyId, createdAt, retiresAt }: WebhookSecret): WebhookSecretDto {
  return {
    id,
    object: 'webhook_secret',
    api_key_id: apiKeyId,
    created_at: iso(createdAt),
    retires_at: isoOrNull(retiresAt),
  }
}
