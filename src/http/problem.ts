/**
 * How a request is refused: RFC 9457 problem documents, made from the core's code table.
 *
 * 1. Every refusal has a code of the table. Title and `retryable` come from there and nowhere else; hint and status, too,
 *    unless the refusal knows better ones.
 * 2. A refusal is thrown as `ApiProblem` and becomes a response in one place; whatever else is thrown is our fault: it is
 *    logged, and the answer says nothing of it but the request id.
 * 3. An answer is bounded: at most `MOST_TOLD` entries, whoever sent how many mistakes.
 */
import { MOST_TOLD } from '../core/chain.ts'
import { ERRORS, type ErrorCode, type Problem } from '../core/errors.ts'
import { Draining, QueueFull, StorageUnavailable } from '../core/ports.ts'

/** One mistake of a request: a `pointer` into the body, or the `parameter` (path, query, header) that is wrong. */
export interface RequestError extends Omit<Problem, 'pointer'> {
  pointer?: string
  parameter?: string
}

interface More {
  errors?: readonly RequestError[]
  headers?: Readonly<Record<string, string>>
  /** Members beside the standard ones, such as `run_id`. */
  extra?: Readonly<Record<string, unknown>>
  /** In place of the table's hint, where the request lets us say it better. */
  hint?: string
  /** In place of the table's status, where HTTP has a narrower one. */
  status?: number
}

export class ApiProblem extends Error {
  override name = 'ApiProblem'
  readonly code: ErrorCode
  readonly more: More

  constructor(code: ErrorCode, detail: string, more: More = {}) {
    super(detail)
    this.code = code
    this.more = more
  }

  get status(): number {
    return this.more.status ?? ERRORS[this.code].status
  }
}

/** A refusal that concerns the body as a whole: its only error points at the root. */
export function bodyProblem(code: ErrorCode, detail: string, more: More = {}): ApiProblem {
  const error = { pointer: '', code, detail, hint: more.hint ?? ERRORS[code].hint }
  return new ApiProblem(code, detail, { errors: [error], ...more })
}

/** A refusal of one path, query or header parameter. */
export function parameterProblem(parameter: string, detail: string, hint?: string): ApiProblem {
  const error = { parameter, code: 'parameter', detail, ...(hint === undefined ? {} : { hint }) }
  return new ApiProblem('invalid_request', detail, { errors: [error] })
}

/** The refusal of a body with these mistakes: 422 when only links are wrong, else 400. */
export function refusal(errors: readonly RequestError[]): ApiProblem {
  const links = errors.every(error => error.code === 'url_not_allowed')
  if (links) return new ApiProblem('url_not_allowed', 'A URL of the request cannot be used.', { errors })
  const count = errors.length === 1 ? 'one problem' : `${errors.length} problems`
  return new ApiProblem('invalid_request', `The request has ${count}; nothing was created or spent.`, { errors })
}

/** A link that may never be dialled: one sentence, whatever the reason, since it must not say what our network holds. */
export const URL_NOT_ALLOWED = {
  code: 'url_not_allowed',
  detail: 'This URL cannot be used.',
  hint: 'Use a public https URL without user name, or add its host:port to BABYCHAIN_EGRESS_ALLOW.',
} as const

/** What a thrown thing means to the caller; null when it is a bug, which the answer does not describe. */
export function asProblem(thrown: unknown): ApiProblem | null {
  if (thrown instanceof ApiProblem) return thrown
  if (thrown instanceof StorageUnavailable) {
    return new ApiProblem('storage_unavailable', 'Storage did not take the request; nothing was half made.', {
      headers: { 'retry-after': '2' },
    })
  }
  if (thrown instanceof Draining) return drainingProblem()
  if (thrown instanceof QueueFull)
    return new ApiProblem('queue_full', `The run was not stored: ${thrown.message}.`, {
      headers: { 'retry-after': '10' },
    })
  return null
}

export function drainingProblem(): ApiProblem {
  return new ApiProblem('draining', 'The server takes no new work while it stops.', { headers: { 'retry-after': '5' } })
}

/** The problem document and its headers. `instance` is the path of the request, never its query. */
export function problemResponse(problem: ApiProblem, requestId: string, instance: string): Response {
  const { title, retryable, hint } = ERRORS[problem.code]
  const { status } = problem
  const { errors = [], headers, extra, ...better } = problem.more
  const shown = errors.slice(0, MOST_TOLD)
  const document = {
    type: `urn:babychain:problem:${problem.code}`,
    title,
    status,
    detail: problem.message,
    instance,
    code: problem.code,
    retryable,
    hint: better.hint ?? hint,
    request_id: requestId,
    ...(shown.length > 0 ? { errors: shown } : {}),
    ...(shown.length < errors.length ? { errors_omitted: errors.length - shown.length } : {}),
    ...extra,
  }
  return new Response(JSON.stringify(document), {
    status,
    headers: {
      'content-type': 'application/problem+json',
      'cache-control': 'no-store',
      'should-retry': String(retryable),
      ...headers,
    },
  })
}
