/**
 * Lists the runs of a key, newest first.
 *
 * 1. A cursor is a place in the order, not a number of rows: runs that come in meanwhile shift nothing.
 * 2. A parameter that nobody knows, that is given twice, or whose value means nothing, is a mistake: a filter that silently
 *    does not filter shows the wrong runs. Of two bounds at the same end the tighter one holds.
 * 3. A page ends early when it grows large: inputs may hold embedded pictures. `has_more` says so.
 */
import { Elysia } from 'elysia'
import { findChain } from '../core/chain.ts'
import type { RunFilter } from '../core/ports.ts'
import type { Run, RunStatus } from '../core/run.ts'
import { knownSlugs } from './chains.ts'
import { timeOf } from './dto/time.ts'
import { type Authorized, type Context, guarded, json } from './exchange.ts'
import { list } from './openapi/runs.ts'
import { ApiProblem, parameterProblem, type RequestError } from './problem.ts'
import { shown } from './runs.ts'

export function listRoutes(context: Context) {
  return new Elysia({ name: 'list' }).get(
    '/api/v1/runs',
    guarded(context, 'runs:read', exchange => page(context, exchange)),
    { detail: list },
  )
}

/** Bytes after which a page takes no more runs. */
const PAGE_BYTES = 4 << 20

async function page({ deps }: Context, exchange: Authorized): Promise<Response> {
  const filter = filterOf(exchange)
  const found = await deps.store.runs({ ...filter, limit: filter.limit + 1 })
  const data: string[] = []
  let bytes = 0
  for (const run of found.slice(0, filter.limit)) {
    if (bytes > PAGE_BYTES) break
    const text = JSON.stringify(await shown(deps, run))
    data.push(text)
    bytes += text.length
  }
  const last = found[data.length - 1]
  const more = last !== undefined && found.length > data.length
  const cursor = more ? JSON.stringify(cursorOf(last)) : 'null'
  return json(200, `{"object":"list","data":[${data.join(',')}],"has_more":${more},"next_cursor":${cursor}}`)
}

const STATUSES: readonly RunStatus[] = ['queued', 'running', 'succeeded', 'failed', 'canceled']
const PLAIN = ['status', 'chain', 'limit', 'cursor']
/** Strictly before and after are a millisecond away from up to and from. */
const BOUNDS: Readonly<Record<string, { end: 'createdFrom' | 'createdTo'; shift: number }>> = {
  'created[gte]': { end: 'createdFrom', shift: 0 },
  'created[gt]': { end: 'createdFrom', shift: 1 },
  'created[lte]': { end: 'createdTo', shift: 0 },
  'created[lt]': { end: 'createdTo', shift: -1 },
}

/** All filters of a query. @throws ApiProblem 400 with every mistake at once */
function filterOf({ url, principal }: Authorized): RunFilter {
  const filter: RunFilter & { status: RunStatus[]; metadata: Record<string, string> } = {
    apiKeyId: principal.apiKeyId,
    status: [],
    metadata: {},
    limit: 20,
  }
  const errors: RequestError[] = []
  const seen = new Set<string>()
  const twice = new Set<string>()
  for (const [name, value] of url.searchParams) {
    if (seen.has(name) && name !== 'status') {
      twice.add(name)
      continue
    }
    seen.add(name)
    const wrong = read(filter, name, value)
    if (wrong) errors.push(...(wrong.more.errors ?? []))
  }
  for (const name of twice) {
    const wrong = parameterProblem(
      name.slice(0, 80),
      'this filter is given more than once',
      'Only status may be repeated.',
    )
    errors.push(...(wrong.more.errors ?? []))
  }
  const [first] = errors
  if (first) throw new ApiProblem('invalid_request', first.detail, { errors })
  return filter
}

function read(
  filter: RunFilter & { status: RunStatus[]; metadata: Record<string, string> },
  name: string,
  value: string,
): ApiProblem | null {
  const bound = Object.hasOwn(BOUNDS, name) ? BOUNDS[name] : undefined
  const key = /^metadata\[(.{1,40})\]$/su.exec(name)?.[1]
  if (name === 'status') {
    const status = STATUSES.find(each => each === value)
    if (!status) return parameterProblem('status', `status must be one of ${STATUSES.join(', ')}`)
    filter.status.push(status)
  } else if (name === 'chain') {
    if (!findChain(value))
      return parameterProblem('chain', 'chain must be the slug or the alias of a chain', `Chains: ${knownSlugs()}.`)
    filter.chain = value
  } else if (name === 'limit') {
    if (!/^\d{1,3}$/.test(value) || Number(value) < 1 || Number(value) > 100)
      return parameterProblem('limit', 'limit must be a whole number from 1 to 100')
    filter.limit = Number(value)
  } else if (name === 'cursor') {
    const before = placeOf(value)
    if (!before) return parameterProblem('cursor', 'cursor must be a next_cursor of a page, unchanged')
    filter.before = before
  } else if (bound) {
    const at = timeOf(value)
    if (at === null) return parameterProblem(name, `${name} must be an ISO 8601 time with its zone`, TIME_HINT)
    const tighter = bound.end === 'createdFrom' ? Math.max : Math.min
    filter[bound.end] = tighter(at + bound.shift, filter[bound.end] ?? at + bound.shift)
  } else if (key !== undefined) {
    filter.metadata[key] = value
  } else {
    const known = [...PLAIN, ...Object.keys(BOUNDS), 'metadata[key]'].join(', ')
    return parameterProblem(name.slice(0, 80), 'there is no such filter', `Known filters: ${known}.`)
  }
  return null
}

const TIME_HINT = 'Such as 2026-05-26T20:15:11.866+00:00 or 2026-05-26T20:15:11Z; write + as %2B.'

function cursorOf({ createdAt, id }: Run): string {
  return Buffer.from(`v1 ${createdAt} ${id}`).toString('base64url')
}

function placeOf(cursor: string): { createdAt: number; id: string } | null {
  const text = Buffer.from(cursor.slice(0, 200), 'base64url').toString()
  const [, createdAt, id] = /^v1 (\d{1,15}) ([0-9a-f-]{36})$/.exec(text) ?? []
  return createdAt === undefined || id === undefined ? null : { createdAt: Number(createdAt), id }
}
