/**
 * The OpenAPI document: made once from routes that have served nothing yet, then frozen.
 *
 * 1. Paths come from the routes themselves; shapes from dto.ts; nothing is written twice.
 * 2. Every refusal is application/problem+json.
 * 3. The callback that we send is described under `webhooks`.
 */
import { toOpenAPISchema } from '@elysiajs/openapi/openapi'
import type { AnyElysia } from 'elysia'
import * as catalogShapes from '../dto/catalog.ts'
import * as deliveryShapes from '../dto/deliveries.ts'
import * as keyShapes from '../dto/keys.ts'
import type { Named } from '../dto/schema.ts'
import * as runShapes from '../dto.ts'
import { RUN_SUCCEEDED } from './examples.ts'
import { type Parameter, refusals, schemaRef } from './operation.ts'

export interface OpenApiDocument {
  openapi: string
  info: { title: string; version: string }
  paths: Record<string, Record<string, DescribedOperation>>
  components: { schemas: Record<string, object> }
  webhooks: Record<string, object>
}

interface DescribedOperation {
  operationId: string
  parameters?: readonly Parameter[]
}

export function describeApi(routes: AnyElysia, version: string): Readonly<OpenApiDocument> {
  const { paths } = toOpenAPISchema(routes as never) as unknown as Pick<OpenApiDocument, 'paths'>
  declareParameters(paths, routes)
  const document = {
    openapi: '3.1.0',
    info: {
      title: 'BabyChain',
      version,
      summary: 'Model chain API engine for image and video.',
      description: DESCRIPTION,
      license: { name: 'MIT', identifier: 'MIT' },
    },
    servers: [{ url: '/', description: 'This server.' }],
    tags: TAGS,
    security: [{ bearer: [] }],
    paths,
    webhooks: { runEnded: { post: CALLBACK } },
    components: {
      securitySchemes: {
        bearer: { type: 'http', scheme: 'bearer', description: 'An API key: `Authorization: Bearer bck_live_…`.' },
      },
      responses: refusals(),
      schemas: Object.fromEntries(SHAPES.map(({ name, schema }) => [name, schema])),
    },
  }
  // Through JSON, so that nothing of the schema library's own stays in it.
  return deepFreeze(JSON.parse(JSON.stringify(document)) as OpenApiDocument)
}

/**
 * Where a path has parameters the library makes a bare list of those and drops what the route declares (its 1.4.16): the
 * declared ones are put back, in their order, before any that only the path names.
 */
function declareParameters(paths: OpenApiDocument['paths'], routes: AnyElysia): void {
  for (const { method, path, hooks } of routes.routes) {
    const operation = paths[path.replaceAll(/:(\w+)/g, '{$1}')]?.[method.toLowerCase()]
    const declared = (hooks as { detail?: DescribedOperation }).detail?.parameters ?? []
    if (!operation || declared.length === 0) continue
    const same = (a: Parameter, b: Parameter): boolean => a.name === b.name && a.in === b.in
    const others = (operation.parameters ?? []).filter(made => !declared.some(each => same(each, made)))
    operation.parameters = [...declared, ...others]
  }
}

/** Every named shape. */
const SHAPES = [runShapes, catalogShapes, deliveryShapes, keyShapes]
  .flatMap(shapes => Object.values<object>(shapes))
  .filter((shape): shape is Named => 'ref' in shape)

const DESCRIPTION = `One call creates a durable **run** of a **chain** of image and video models; every output becomes the next input; one signed **callback** ends it.

Times are ISO 8601 in UTC, money is US dollars, null is unknown. Errors are RFC 9457 problem documents with a stable \`code\`, every mistake at once in \`errors\`, and a \`hint\`. Every answer carries \`X-Request-Id\`; \`X-Client-Request-Id\` of a request is echoed. Every answer to a key with a rate limit says in \`RateLimit\` and \`RateLimit-Policy\` what is left; 429 and 503 say in \`Retry-After\` when to come back. New fields may be added to answers at any time.`

const TAGS = [
  { name: 'Runs', description: 'Create, follow, cancel and resume runs.' },
  { name: 'Chains and models', description: 'What can be run, in which words, at what price.' },
  { name: 'Media', description: 'Outputs and input pictures.' },
  { name: 'Callbacks', description: 'Deliveries and their attempts, sending again, secrets.' },
  { name: 'Keys', description: 'API keys, their limits and budgets.' },
  { name: 'Operations', description: 'Health, metrics, webhooks of providers.' },
]

const CALLBACK = {
  operationId: 'runEnded',
  tags: ['Runs'],
  summary: 'The callback: a run has ended',
  description:
    'Sent once per run to its `webhook_url`, signed as Standard Webhooks 1.0 says: the signature covers `{webhook-id}.{webhook-timestamp}.{body}`. Any 2xx answer accepts it. Otherwise it is sent again, with the same `webhook-id` and the same body, up to 12 times in about three days; redirects are not followed, 410 ends it. It may arrive twice: remember the `webhook-id` for a week.',
  parameters: [
    ['webhook-id', 'The same for every attempt.'],
    ['webhook-timestamp', 'Of this attempt, in seconds since 1970.'],
    ['webhook-signature', 'One or more of `v1,<base64>`, separated by spaces; one that fits is enough.'],
  ].map(([name, description]) => ({ name, in: 'header', required: true, description, schema: { type: 'string' } })),
  requestBody: {
    required: true,
    content: {
      'application/json': {
        schema: schemaRef('CallbackMessage'),
        example: {
          type: 'run.succeeded',
          timestamp: RUN_SUCCEEDED.updated_at,
          data: {
            ...RUN_SUCCEEDED,
            backend_metadata: {
              mode: 'byok',
              providers_used: ['bfl', 'byteplus'],
              attempts: 2,
              duration_ms: 147_828,
              steps: [
                {
                  step_key: 'text_to_image',
                  provider: 'bfl',
                  attempts: 1,
                  duration_ms: 18_590,
                  cost: { estimated_usd: 0.05, actual_usd: 0.05, basis: 'metered' },
                },
                {
                  step_key: 'image_to_video',
                  provider: 'byteplus',
                  attempts: 1,
                  duration_ms: 47_480,
                  cost: { estimated_usd: 0.12, actual_usd: null, basis: 'listed' },
                },
              ],
              cost: { estimated_usd: 0.17, actual_usd: null, basis: 'listed' },
            },
          },
        },
      },
    },
  },
  security: [],
  responses: { '2XX': { description: 'Accepted.' }, '4XX': { description: 'Sent again later; 410 ends it.' } },
}

function deepFreeze<T>(value: T): Readonly<T> {
  if (typeof value === 'object' && value !== null) {
    for (const inner of Object.values(value)) deepFreeze(inner)
    Object.freeze(value)
  }
  return value
}
