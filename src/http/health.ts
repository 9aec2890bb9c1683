/**
 * Whether the process lives, whether it can take a run, and what it measures.
 *
 * 1. `/healthz` asks nobody: a full disk must not get the process killed and restarted into the same full disk.
 * 2. `/metrics` tells volumes and models, not content. It is open to holders of a key, and to this machine when it asks for
 *    this machine: the peer is loopback, the Host names loopback, and no header says that it was forwarded. A proxy on this
 *    machine that passes on the Host of its readers, or names itself, is thereby from elsewhere; one that does neither
 *    cannot be told from a local reader, and must keep `/metrics` to itself.
 */
import { Elysia } from 'elysia'
import type { ApiDeps } from './deps.ts'
import type { HealthDto, ReadinessDto } from './dto/catalog.ts'
import { authenticate, type Context, type Exchange, json, open } from './exchange.ts'
import * as docs from './openapi/catalog.ts'
import { ApiProblem } from './problem.ts'

export function healthRoutes(context: Context) {
  const { deps } = context
  const { version, mode } = deps
  return new Elysia({ name: 'health' })
    .get(
      '/healthz',
      open(context, () => json(200, { status: 'ok', version, mode } satisfies HealthDto)),
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
  if (ok && !deps.draining.aborted) return json(200, { status: 'ready', checks: [...checks] } satisfies ReadinessDto)
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

function isLocal({ peer, request: { headers }, url }: Exchange): boolean {
  const forwarded = [...headers.keys()].some(name => FORWARDED.test(name))
  const named = headers.has('host') && /^(localhost|127(\.\d+){3}|\[::1\])$/.test(url.hostname)
  return !forwarded && named && /^(127\.|::1$|::ffff:127\.)/.test(peer)
}

const FORWARDED = /^(forwarded|x-forwarded-.+|x-real-ip|via|fly-client-ip)$/
