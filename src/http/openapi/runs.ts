/** The description of the operations on runs. */
import { CREATE_RUN, RUN_ACCEPTED, RUN_SUCCEEDED } from './examples.ts'
import { operation, type Parameter, pages, schemaRef } from './operation.ts'

const runId: Parameter = {
  name: 'runId',
  in: 'path',
  description: 'Id of the run.',
  schema: { type: 'string', format: 'uuid' },
}
const wait: Parameter = {
  name: 'wait',
  in: 'query',
  description: 'Answer when the run has ended, or after so many seconds with the run as it then is.',
  schema: { type: 'integer', minimum: 0, maximum: 60, default: 0 },
}
const ifNoneMatch: Parameter = {
  name: 'If-None-Match',
  in: 'header',
  description: 'The ETag that you have: 304 while it is still right.',
  schema: { type: 'string' },
}
const idempotencyKey: Parameter = {
  name: 'Idempotency-Key',
  in: 'header',
  description:
    'Your name for this request: a repeat with the same body gets the first answer again and spends nothing, for as long as the run is kept. 1 to 255 characters of A-Z a-z 0-9 _ - : .',
  schema: { type: 'string', minLength: 1, maxLength: 255 },
  example: 'sky-blue',
}
const prefer: Parameter = {
  name: 'Prefer',
  in: 'header',
  description:
    '`wait=N`, N up to 60: answer when the run has ended (200), or after N seconds with the run as it then is (202).',
  schema: { type: 'string' },
  example: 'wait=30',
}

export const slug: Parameter = {
  name: 'slug',
  in: 'path',
  description: 'A chain, by slug or alias.',
  schema: { type: 'string', enum: ['chain101', 'chain1', 'chain202', 'chain2', 'chain303', 'chain3'] },
}

export const createBody = {
  content: { 'application/json': { schema: schemaRef('CreateRun'), example: CREATE_RUN } },
}

const accepted = {
  200: {
    description: 'The run has ended within the wait of `Prefer`.',
    json: 'ChainRun',
    headers: ['Location', 'Preference-Applied'],
  },
  202: {
    description: 'The run is stored and will be done, whatever happens to the server.',
    json: 'ChainRun',
    headers: ['Location', 'Idempotent-Replayed', 'Preference-Applied'],
    example: RUN_ACCEPTED,
  },
} as const

export const create = operation({
  id: 'createRun',
  tag: 'Runs',
  summary: 'Create a run of a chain',
  description:
    'Stores the run and begins it. All mistakes are told at once, and nothing is stored or spent for a refused request. A repeat with the same Idempotency-Key always answers 202 with the first answer, also after a wait.',
  scope: 'runs:write',
  parameters: [slug, idempotencyKey, prefer],
  body: createBody,
  answers: accepted,
  problems: [400, 404, 413, 415, 422, 503],
})

const reading = {
  scope: 'runs:read',
  parameters: [runId, wait, ifNoneMatch],
  answers: {
    200: {
      description: 'The run as it is.',
      json: 'ChainRun',
      headers: ['ETag', 'Retry-After'],
      example: RUN_SUCCEEDED,
    },
    304: { description: 'It is as you know it.', headers: ['ETag', 'Retry-After'] },
  },
  problems: [400, 404, 503],
} as const

export const get = operation({ id: 'getRun', tag: 'Runs', summary: 'Get a run', ...reading })

export const getByChain = operation({
  id: 'getChainRun',
  tag: 'Runs',
  summary: 'Get a run (the first path of this operation)',
  description: 'The same as GET /api/v1/runs/{runId}.',
  ...reading,
})

const bound = (end: string, words: string): Parameter => ({
  name: `created[${end}]`,
  in: 'query',
  description: `Only runs created ${words} this time; beside another bound at the same end the tighter one holds.`,
  schema: { type: 'string', format: 'date-time' },
})

export const list = operation({
  id: 'listRuns',
  tag: 'Runs',
  summary: 'List runs, newest first',
  description: 'Stable while runs come in. A page may hold fewer runs than its limit when they are large.',
  scope: 'runs:read',
  parameters: [
    {
      name: 'status',
      in: 'query',
      description: 'Only runs with this status; may be given several times.',
      style: 'form',
      explode: true,
      schema: {
        type: 'array',
        items: { type: 'string', enum: ['queued', 'running', 'succeeded', 'failed', 'canceled'] },
      },
    },
    {
      name: 'chain',
      in: 'query',
      description: 'Only runs of this chain, by slug or alias.',
      schema: slug.schema,
    },
    {
      name: 'metadata',
      in: 'query',
      description: 'Only runs with this metadata: `metadata[order]=42`.',
      style: 'deepObject',
      explode: true,
      schema: { type: 'object', additionalProperties: { type: 'string' } },
    },
    bound('gte', 'at or after'),
    bound('gt', 'after'),
    bound('lte', 'at or before'),
    bound('lt', 'before'),
    ...pages('Runs'),
  ],
  answers: { 200: { description: 'A page.', json: 'ChainRunList' } },
  problems: [400, 503],
})

export const events = operation({
  id: 'streamRunEvents',
  tag: 'Runs',
  summary: 'Follow a run (server-sent events)',
  description:
    'Every event of the run, from its log and then live: no gap, no repeat. `id` is the number of the event; a client that reconnects with Last-Event-ID gets what follows. A comment comes every 15 s. The stream ends after the last event of the run. A key may have 1024 streams open, and the server 2000: the next one is 429.',
  scope: 'runs:read',
  parameters: [
    runId,
    { name: 'after', in: 'query', description: 'Begin after this event.', schema: { type: 'integer', minimum: 0 } },
    {
      name: 'Last-Event-ID',
      in: 'header',
      description: 'The same, as EventSource sends it; it wins. A number that the run never had means from the start.',
      schema: { type: 'string' },
    },
  ],
  answers: {
    200: {
      description: 'Lines of `id`, `event` and `data`; `data` is a RunEvent.',
      content: { 'text/event-stream': { schema: schemaRef('RunEvent') } },
    },
    204: { description: 'The run has ended and you have seen all of it.' },
  },
  problems: [400, 404, 503],
})

export const cancel = operation({
  id: 'cancelRun',
  tag: 'Runs',
  summary: 'Cancel a run, at the provider too',
  description:
    'Idempotent. No further step begins; the provider is asked to stop what runs, and `provider_cancel` of each step says what it answered. A job whose submit was not answered is looked up first, for some two minutes: where nobody can tell by then, the run is canceled, the step ends as `outcome_unknown`, and may be billed. Costs so far are kept: a job that its provider stopped before it began is free; any other may be billed, and its listed price is an upper bound.',
  scope: 'runs:write',
  parameters: [runId],
  answers: {
    200: { description: 'The run is canceled.', json: 'ChainRun' },
    202: {
      description:
        'The wish is stored; the run ends when the provider has answered, or when nobody can tell what became of a submit.',
      json: 'ChainRun',
    },
  },
  problems: [404, 409, 503],
})

export const resume = operation({
  id: 'resumeRun',
  tag: 'Runs',
  summary: 'Resume a failed or canceled run',
  description:
    'Makes a new run that keeps the finished steps and their paid outputs, and does the others again. A step that ended although its provider may still have its job (the output could not be copied, the deadline passed, the run was canceled) goes on with that job, which is not paid twice: another is bought only when the provider says that it is over without an output, when `input` changes the step, when `from_step_key` names it or a step before it, or when `provider_order` puts another provider that can take the step in front. It does so once: when that, too, brings no output, or is canceled, the next resume buys another. Where nobody can tell whether the provider took the job of a step (`outcome_unknown`), it is refused unless `from_step_key` names that step or one before it: another job may be a second bill. It is refused, before anything is paid, where a provider or a picture that it needs is no longer there, or where finished steps of the other mode (`sandbox`, `byok`) would be kept. `input` changes the steps that are done again: a refused prompt is mended without paying for the picture once more. Its `resumed_from` names the old one. A run that has succeeded is run again from the step that `from_step_key` names.',
  scope: 'runs:write',
  parameters: [runId, idempotencyKey, prefer],
  body: { required: false, content: { 'application/json': { schema: schemaRef('ResumeRun') } } },
  answers: accepted,
  problems: [400, 404, 409, 413, 415, 422, 503],
})
