/**
 * Whether the process lives, whether it can take a run, and what it measures.
 *
 * 1. `/healthz` asks nobody: a full disk must not get the process killed and restarted into the same full disk.
 * 2. `/metrics` tells volumes and models, not content. It is open to this machine and to holders of a key; what comes
 *    through a proxy counts as from elsewhere.
 */
import { Elysia } from 'elysia'
import type { ApiDeps } from './deps.ts'
import { authenticate, type Context, type Exchange, json, open } from './exchange.ts'
import * as docs from './openapi/catalog.ts'
import { ApiProblem } from './problem.ts'

export function healthRoutes(context: Context) {
  const { deps } = context
  const { version, mode } = deps
  return new Elysia({ name: 'health' })
    .get(
      '/healthz',
      open(context, () => json(200, { status: 'ok', version, mode })),
      { detail: docs.healthz },
    )
    .get(
      '/readyz',
      open(context, () => ready(deps)),
      { detail: docs.readyz },
    )
    .get(
      '/metrics',
      open(context, exchange => metrics(deps, exchange)),
      { detail: docs.metrics },
    )
}

async function ready(deps: ApiDeps): Promise<Response> {
  const { ok, checks } = await deps.ready()
  if (ok && !deps.draining.aborted) return json(200, { status: 'ready', checks })
  const code = deps.draining.aborted ? 'draining' : 'storage_unavailable'
  const failed = checks.filter(check => !check.ok).map(({ name, detail }) => (detail ? `${name}: ${detail}` : name))
  throw new ApiProblem(code, failed.join('; ') || 'The server is stopping.', {
    headers: { 'retry-after': '5' },
    extra: { checks },
  })
}

async function metrics(deps: ApiDeps, exchange: Exchange): Promise<Response> {
  if (!isLocal(exchange)) exchange.principal = await authenticate(deps, exchange, 'runs:read')
  return new Response(await deps.metrics.text(), {
    headers: { 'content-type': deps.metrics.contentType, 'cache-control': 'no-store' },
  })
}

function isLocal({ peer, request }: Exchange): boolean {
  const forwarded = ['forwarded', 'x-forwarded-for', 'via', 'fly-client-ip'].some(name => request.headers.has(name))
  return !forwarded && /^(127\.|::1$|::ffff:127\.)/.test(peer)
}
