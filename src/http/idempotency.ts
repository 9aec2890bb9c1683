/**
 * Idempotency keys: the same request twice makes one run.
 *
 * 1. A key belongs to an API key, a method and a path, however that is written; somebody else's equal key is another key.
 *    The alias of a chain is another path than its slug: a run echoes the name that it was created with.
 * 2. Two bodies are the same when they mean the same JSON: the order of keys, white space and `1.0` for `1` do not count.
 * 3. Only a request that made something is kept; a refusal is not, so a mended request may use the same key.
 * 4. A repeat gets the first answer again, status and body, however the run has gone on since.
 * 5. Where a second request would make a second thing, and its answer cannot be kept, a key is refused instead of ignored.
 */
import { createHash } from 'node:crypto'
import { canonical, type Json } from '../core/json.ts'
import type { Created, Idempotency } from '../core/ports.ts'
import type { Authorized, Exchange } from './exchange.ts'
import { json } from './exchange.ts'
import { ApiProblem, parameterProblem } from './problem.ts'

/** The key of a request as the store keeps it, or null when the caller gave none. @throws ApiProblem 400 */
export function keyOf(exchange: Authorized, body: Json): Omit<Idempotency, 'response'> | null {
  const { request, principal } = exchange
  const header = request.headers.get('idempotency-key')
  if (header === null) return null
  // The draft standard quotes the key, most callers do not. A comma means two headers, joined.
  const key = /^"(.*)"$/.exec(header.trim())?.[1] ?? header.trim()
  if (!/^[A-Za-z0-9_\-:.]{1,255}$/.test(key))
    throw malformed('The Idempotency-Key has other characters or a wrong length.')
  const path = pathOf(exchange)
  const fingerprint = createHash('sha256')
    .update(`POST ${path}\n${canonical(body)}`)
    .digest('hex')
  return { key: `${principal.apiKeyId} POST ${path} ${key}`, fingerprint }
}

/** The path of a route as everybody writes it: no slash at its end, no escapes, ids in lower case. */
function pathOf({ route, params }: Authorized): string {
  return route.replaceAll(/:(\w+)/g, (_, name: string) => (params[name] ?? '').toLowerCase())
}

/** For routes whose answer shows a text once: what is kept nowhere is not repeated. @throws ApiProblem 400 */
export function refuseKey({ request }: Exchange): void {
  if (!request.headers.has('idempotency-key')) return
  const detail =
    'This route takes no Idempotency-Key: its answer shows a text that is kept nowhere, and cannot be repeated.'
  const hint =
    'Send it without. When an answer was lost: a key that nobody has the text of is in the list, to be revoked; and a rotation is not made again while what was before it is good.'
  throw parameterProblem('Idempotency-Key', detail, hint)
}

function malformed(detail: string): ApiProblem {
  const code = 'idempotency_key_invalid'
  return new ApiProblem(code, detail, { errors: [{ parameter: 'Idempotency-Key', code, detail }] })
}

/** The answer to keep: 202 with the new run. */
export function snapshot(runId: string, body: string): string {
  return JSON.stringify({ status: 202, location: locationOf(runId), body })
}

export function locationOf(runId: string): string {
  return `/api/v1/chains/get/${runId}`
}

/** The answer to a repeat. @throws ApiProblem 422 when the key was used for another body */
export function answerRepeat(exchange: Exchange, made: Exclude<Created, { type: 'created' }>): Response {
  exchange.runId = made.runId
  if (made.type === 'reused') {
    const code = 'idempotency_key_reused'
    const detail = `The Idempotency-Key was used with another body, for the run ${made.runId}.`
    const errors = [
      { parameter: 'Idempotency-Key', code, detail, hint: 'Send the first body again, or use a new key.' },
    ]
    throw new ApiProblem(code, detail, { errors, extra: { run_id: made.runId } })
  }
  const { status, location, body } = JSON.parse(made.response) as { status: number; location: string; body: string }
  return json(status, body, { location, 'idempotent-replayed': 'true' })
}
