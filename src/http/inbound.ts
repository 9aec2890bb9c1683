/**
 * Webhooks of providers: their own zone, without API keys.
 *
 * 1. The address carries 128 random bits that were committed before the submit: who does not know them meets 404.
 * 2. The provider's signature is verified over the raw bytes before anything in them is read; a bad one gets 401 and
 *    nothing else.
 * 3. A webhook is a hint: the job is then asked for. Twice, late or out of order it changes nothing.
 * 4. 2xx is sent after the commit; while the disk is full the provider is told to come again.
 */
import { Elysia } from 'elysia'
import { readBytes } from './body.ts'
import type { ApiDeps } from './deps.ts'
import { type Context, type Exchange, json, open } from './exchange.ts'
import { inbound } from './openapi/catalog.ts'
import { ApiProblem, drainingProblem } from './problem.ts'

export function inboundRoutes(context: Context) {
  return new Elysia({ name: 'inbound' }).post(
    '/api/v1/inbound/:provider/:token',
    open(context, exchange => receive(context.deps, exchange)),
    { parse: 'none', detail: inbound },
  )
}

/** Some providers send the picture itself. */
const WEBHOOK_BYTES = 16 << 20

async function receive(deps: ApiDeps, exchange: Exchange): Promise<Response> {
  const { request, params } = exchange
  const { engine, store, clock, log } = deps
  const provider = params.provider ?? ''
  const token = params.token ?? ''
  const place = /^[A-Za-z0-9_-]{1,64}$/.test(token) ? await store.attemptByToken(token) : null
  if (place?.provider !== provider) throw new ApiProblem('not_found', 'There is no such address.')
  const body = await readBytes(exchange, WEBHOOK_BYTES)
  const headers = Object.fromEntries(request.headers)
  const query = Object.fromEntries(new URL(request.url).searchParams)
  const hint = await deps.inbound(provider, { headers, query, body, at: clock.now() })
  if (hint === null) throw new ApiProblem('not_found', 'There is no such address.')
  if (hint.type === 'refused') {
    log.warn({ provider, run_id: place.runId, reason: hint.reason }, 'inbound webhook refused')
    throw new ApiProblem('unauthenticated', 'The webhook is not signed as the provider signs.', {
      hint: 'Only the provider sends here.',
    })
  }
  if (deps.draining.aborted) throw drainingProblem()
  await engine.hint(token, hint.jobRef)
  return json(200, { received: true })
}
