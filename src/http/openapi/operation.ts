/**
 * How an operation is described. Handlers read requests themselves, so the document is written here, next to the routes'
 * own names: parameters, body, answers, and every refusal as a problem document.
 */
import type { Scope } from '../../core/keys.ts'

export interface Parameter {
  name: string
  in: 'path' | 'query' | 'header'
  description: string
  required?: boolean
  schema: object
  /** How repeated and nested values are written. */
  style?: 'form' | 'deepObject'
  explode?: boolean
  example?: unknown
}

/** How a list is read in pages. */
export const pages = (of: string): readonly Parameter[] => [
  {
    name: 'limit',
    in: 'query',
    description: `${of} on a page.`,
    schema: { type: 'integer', minimum: 1, maximum: 100, default: 20 },
  },
  { name: 'cursor', in: 'query', description: '`next_cursor` of the page before.', schema: { type: 'string' } },
]

export interface Reply {
  description: string
  /** Name of the schema, when the answer is JSON. */
  json?: string
  /** Other media types, with their schemas. */
  content?: Readonly<Record<string, object>>
  headers?: readonly (keyof typeof HEADERS)[]
  example?: unknown
}

export interface Operation {
  id: string
  tag: string
  summary: string
  description?: string
  /** Null: no key is needed. `link`: a key, or a signed link. */
  scope: Scope | 'link' | null
  parameters?: readonly Parameter[]
  body?: { description?: string; required?: boolean; content: Readonly<Record<string, object>> }
  answers: Readonly<Record<number, Reply>>
  problems: readonly number[]
}

/** In the form that Elysia's `detail` takes. */
export function operation(is: Operation) {
  const { id, tag, summary, description, scope, parameters = [], body, answers, problems } = is
  // Any request may be refused for its headers; any key that is given may lack the scope, also beside a link.
  const refused = [...new Set([...problems, 400, ...(scope === null ? [] : [401, 403, 429])])]
  const security = scope === null ? [] : scope === 'link' ? [{ bearer: [] }, {}] : [{ bearer: [] }]
  return {
    operationId: id,
    tags: [tag],
    summary,
    ...(description === undefined ? {} : { description }),
    security,
    parameters: parameters.map(parameter => ({ required: parameter.in === 'path', ...parameter })),
    ...(body === undefined ? {} : { requestBody: { required: true, ...body } }),
    responses: {
      ...Object.fromEntries(Object.entries(answers).map(([status, answer]) => [status, describeReply(answer)])),
      ...Object.fromEntries(refused.toSorted().map(status => [status, { $ref: `#/components/responses/${status}` }])),
    },
    // Elysia's own type lacks what OpenAPI 3.1 allows.
  } as never
}

function describeReply({ description, json, content, headers = [], example }: Reply): object {
  const named = json === undefined ? {} : { 'application/json': { schema: schemaRef(json) } }
  const types = { ...named, ...content }
  const withExample = Object.fromEntries(
    Object.entries(types).map(([type, media]) => [type, example === undefined ? media : { ...media, example }]),
  )
  return {
    description,
    ...(headers.length > 0 ? { headers: Object.fromEntries(headers.map(name => [name, HEADERS[name]])) } : {}),
    ...(Object.keys(types).length > 0 ? { content: withExample } : {}),
  }
}

export function schemaRef(name: string): { $ref: string } {
  return { $ref: `#/components/schemas/${name}` }
}

const header = (description: string, type = 'string') => ({ description, schema: { type } })

const HEADERS = {
  Location: header('Where it is.'),
  ETag: header('Changes with the representation.'),
  'Retry-After': header('Seconds after which a poll may find something new.', 'integer'),
  'Idempotent-Replayed': header('`true` when this answer repeats the first one of its Idempotency-Key.'),
  'Preference-Applied': header('The wait that was granted.'),
  'Content-Range': header('The part that follows.'),
  'X-Request-Id': header('Name it when you ask for help.'),
} as const

/** The refusals, by status. */
const REFUSALS: Readonly<Record<number, string>> = {
  400: 'The request has problems; `errors` lists all of them.',
  401: 'No valid API key.',
  403: 'The key lacks a scope, or would give more than it has.',
  404: 'There is no such thing, or it belongs to another key.',
  409: 'The state does not allow it.',
  413: 'The body is too large.',
  415: 'The content type is not taken.',
  416: 'The range is not in the file.',
  422: 'The request is well formed but cannot be done: a URL that may not be used, or a reused Idempotency-Key.',
  429: 'Too many at once; see Retry-After.',
  503: 'The storage takes no writes, or the server is stopping. Nothing was half made; try again.',
}

/** The shared responses of the document. */
export function refusals(): Readonly<Record<string, object>> {
  const described = (description: string): object => ({
    description,
    headers: { 'X-Request-Id': HEADERS['X-Request-Id'] },
    content: { 'application/problem+json': { schema: schemaRef('Problem') } },
  })
  return Object.fromEntries(Object.entries(REFUSALS).map(([status, text]) => [status, described(text)]))
}
