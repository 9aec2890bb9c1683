/** The secrets that sign the callbacks of a key: list without showing them, rotate. */
import { Elysia } from 'elysia'
import { presentSecret } from './dto/keys.ts'
import { type Authorized, type Context, guarded, json } from './exchange.ts'
import { refuseKey } from './idempotency.ts'
import * as docs from './openapi/keys.ts'
import { ApiProblem } from './problem.ts'
import { overlapOf, rotated } from './rotation.ts'

export function webhookSecretRoutes(context: Context) {
  return new Elysia({ name: 'webhook-secrets' })
    .get(
      '/api/v1/webhook_secrets',
      guarded(context, 'callbacks:manage', exchange => list(context, exchange)),
      { detail: docs.secrets },
    )
    .post(
      '/api/v1/webhook_secrets/rotate',
      guarded(context, 'callbacks:manage', exchange => rotate(context, exchange)),
      { parse: 'none', detail: docs.rotateSecret },
    )
}

async function list({ deps }: Context, { principal }: Authorized): Promise<Response> {
  const data = (await deps.secrets.list(principal.apiKeyId)).map(presentSecret)
  return json(200, { object: 'list', data, has_more: false, next_cursor: null })
}

async function rotate({ deps }: Context, exchange: Authorized): Promise<Response> {
  refuseKey(exchange)
  const { apiKeyId } = exchange.principal
  const made = rotated(await deps.secrets.rotate(apiKeyId, await overlapOf(exchange)))
  if ('locked' in made) throw new ApiProblem('conflict', made.locked)
  return json(200, { ...presentSecret(made.secret), secret: made.text })
}
