/**
 * The public shapes: what callers send and get, as schemas (TypeBox) and as types. The Lab imports the types only.
 *
 * 1. The domain never leaks past this file and its presenters (folder dto/): wire names are snake_case, times are
 *    ISO 8601 in UTC with milliseconds and `+00:00`, money is US dollars, and null is unknown, which is not 0.
 * 2. Fields of the run resource are never renamed or removed, only added.
 * 3. What callers send is closed: an unknown field is a mistake, because a typo must not spend money.
 */
import { type Static, Type } from 'typebox'
import { anything, define, listOf, nullable, text, time, uuid, word } from './dto/schema.ts'

// ── What a run is made of ─────────────────────────────────────────────────────────────────────────────────────────

export const cost = define(
  'Cost',
  Type.Object({
    estimated_usd: nullable(
      Type.Number({
        description:
          'By the price list, before the call; the bill may be more. Of a step or a run: of its attempts together, those that were free left out.',
      }),
    ),
    actual_usd: nullable(
      Type.Number({
        description: 'What the provider said, or what it counted, at the listed price; null when it says neither.',
      }),
    ),
    basis: word(
      ['metered', 'listed', 'upper_bound', 'unknown'],
      'metered: the provider said so, or how much it made. listed: from its price list. upper_bound: it may be less. unknown: nobody knows.',
    ),
  }),
)

export const failure = define(
  'Failure',
  Type.Object({
    code: text('From the code table; stable.', { examples: ['provider_error'] }),
    blame: word(['caller', 'provider', 'network', 'us'], 'Whose turn it is.'),
    retryable: Type.Boolean({ description: 'Whether the very same may succeed later.' }),
    message: Type.String(),
    hint: text('What to do next.'),
    provider: Type.Optional(Type.String()),
    http_status: Type.Optional(Type.Integer()),
    provider_text: Type.Optional(text("The provider's own words, without secrets.")),
  }),
)

export const output = define(
  'Output',
  Type.Object({
    media_id: uuid('Names the media at /api/v1/media/{id}.'),
    url: text('Works without a key for at least 7 days.', { format: 'uri' }),
    mime: text('Found in the bytes.', { examples: ['image/jpeg'] }),
    bytes: Type.Integer(),
    sha256: text('Hex.'),
    width: Type.Optional(Type.Integer()),
    height: Type.Optional(Type.Integer()),
    seconds: Type.Optional(Type.Number({ description: 'Length of a film.' })),
    available: Type.Boolean({ description: 'False when it was removed after BABYCHAIN_RETENTION_DAYS.' }),
  }),
)

const cancelOutcome = word(
  ['confirmed', 'unsupported', 'failed'],
  'What the provider said when it was asked to stop; null when it was not asked.',
)

export const lateResult = define(
  'LateResult',
  Type.Object({
    at: time('When we heard of it.'),
    outputs: Type.Array(output.ref, {
      description: 'Kept: they end a step that still waits; else a run that resumes this one takes them over.',
    }),
    error: nullable(failure.ref),
  }),
)

export const attempt = define(
  'Attempt',
  Type.Object({
    no: Type.Integer({ description: '1 for the first attempt of the step.' }),
    provider: Type.String(),
    provider_model: text("The model's name at that provider."),
    outcome: word(['pending', 'succeeded', 'failed', 'canceled', 'unknown'], 'How it ended.'),
    started_at: time('When the intent was stored, before the call.'),
    submitted_at: nullable(time('When the provider took the job.')),
    ended_at: nullable(time('When it ended.')),
    duration_ms: nullable(Type.Integer()),
    job_ref: Type.Unknown({ description: "The provider's own reference of the job, to look it up there." }),
    error: nullable(failure.ref),
    cost: cost.ref,
    adjustments: Type.Array(
      Type.Object({ pointer: Type.String(), from: Type.Unknown(), to: Type.Unknown(), reason: Type.String() }),
      { description: 'What this provider could not express exactly and was changed harmlessly.' },
    ),
    provider_cancel: nullable(cancelOutcome),
    late_result: Type.Optional(lateResult.ref),
  }),
)

const stepStatus = word(
  ['queued', 'running', 'succeeded', 'failed', 'canceled', 'skipped'],
  'skipped: a step before it failed or the run was canceled.',
)

export const step = define(
  'Step',
  Type.Object({
    id: uuid('Of the step.'),
    step_index: Type.Integer(),
    step_key: text('Unique in the run.', { examples: ['text_to_image'] }),
    step_kind: word(['image', 'video'], 'What the step gives.'),
    model_identifier: text('The model, as maker/name.', { examples: ['bfl/flux-2-flex'] }),
    status: stepStatus,
    created_at: time('When the run was created.'),
    updated_at: time('When the step last changed.'),
    depends_on: Type.Array(Type.String(), { description: 'Keys of the steps whose outputs it takes.' }),
    started_at: nullable(time('When its first attempt began.')),
    completed_at: nullable(time('When it ended.')),
    generation_input_file: Type.Optional(
      Type.Array(Type.String(), {
        description: 'Links to the pictures that it took; absent before it starts and for a step that takes none.',
      }),
    ),
    generation_output_file: Type.Optional(
      Type.Array(Type.String(), { description: 'Links to what it gave, first the one that the next step takes.' }),
    ),
    outputs: Type.Optional(Type.Array(output.ref, { description: 'The same files with their facts.' })),
    phase: nullable(
      word(
        ['submitting', 'running', 'waiting', 'keeping'],
        'What a running step is doing: handing over, being made, waiting for a retry or for capacity, copying the files.',
      ),
    ),
    progress: nullable(Type.Number({ description: '0 to 1, where the provider says so.' })),
    retry_at: nullable(time('When a waiting step is tried again, or an unclear submit looked up.')),
    provider_used: nullable(text('The provider that gave the output; until there is one, that of the newest attempt.')),
    provider_cancel: nullable(cancelOutcome),
    attempts: Type.Array(attempt.ref, { description: 'Oldest first.' }),
    cost: nullable(cost.ref),
    error: nullable(failure.ref),
    inherited: Type.Boolean({ description: 'Taken over, finished and paid, from the run that this one resumed.' }),
  }),
)

export const callback = define(
  'CallbackStatus',
  Type.Object({
    id: text('The webhook-id of every attempt.', { examples: ['msg_0192f0c1c2d37a54b7d3a1b2c3d4e5f6'] }),
    status: word(['pending', 'delivered', 'exhausted', 'gone'], 'gone: the receiver answered 410.'),
    attempts: Type.Integer(),
    due_at: nullable(time('When the next attempt is due: not while its host is left alone for your key.')),
    delivered_at: nullable(time('When the receiver last answered 2xx.')),
    last_error: nullable(text('Class of the last failure, such as http_5xx or timeout.')),
  }),
)

const runStatus = word(['queued', 'running', 'succeeded', 'failed', 'canceled'], 'The last three are final.')

const runFields = {
  id: uuid('UUIDv7.'),
  object: word(['chain_run'], 'Always chain_run.'),
  chain_slug: text('The slug that the caller used.', { examples: ['chain1'] }),
  chain_version: text('Date of the template that the run keeps.', { examples: ['2026-05-23'] }),
  mode: word(['sandbox', 'byok'], 'sandbox: the embedded provider made it. byok: providers, with your keys.'),
  status: runStatus,
  input: anything("The caller's input, word for word."),
  created_at: time('When it was accepted.'),
  updated_at: time('When it last changed.'),
  current_step_key: text(
    'processing before the first step starts, then the key of the step, then completed, failed or canceled.',
  ),
  steps: Type.Array(step.ref),
  metadata: Type.Record(Type.String(), Type.String()),
  webhook_url: nullable(Type.String()),
  error: nullable(failure.ref),
  cost: nullable(cost.ref),
  callback: nullable(callback.ref),
  provider_order: Type.Record(Type.String(), Type.Array(Type.String())),
  max_cost_usd: nullable(Type.Number()),
  deadline_at: time('When it fails if it has not ended.'),
  ended_at: nullable(time('When it succeeded, failed or was canceled.')),
  cancel_requested_at: nullable(time('When cancel was first asked for.')),
  resumed_from: nullable(uuid('The run that this one resumed.')),
}

export const run = define('ChainRun', Type.Object(runFields, { description: 'One execution of a chain.' }))

export const runList = define(
  'ChainRunList',
  listOf(run, 'Newest first.', nullable(text('Give it as `cursor` to get the next page.'))),
)

export const event = define(
  'RunEvent',
  Type.Object({
    seq: Type.Integer({ description: 'Number in the run, from 1; the `id` of the server-sent event.' }),
    type: text('Such as run.created, step.running, step.succeeded, run.succeeded.'),
    at: time('When it happened.'),
    run_id: uuid('The run.'),
    step_key: nullable(Type.String()),
    data: anything(
      'attempt, provider, provider_model, progress, retry_at, error, outputs, resumed_from: what applies.',
    ),
  }),
)

// ── What callers send ─────────────────────────────────────────────────────────────────────────────────────────────

const providerOrder = Type.Unsafe<string[] | Record<string, string[]>>({
  description: 'Preferred providers, best first: a list for every step, or an object with a list per step key.',
  anyOf: [
    { type: 'array', items: { type: 'string' }, maxItems: 16 },
    { type: 'object', additionalProperties: { type: 'array', items: { type: 'string' }, maxItems: 16 } },
  ],
})

const LIMIT_RULE =
  'No step is submitted whose listed price would take the run above so many US dollars; what the provider then bills counts for the steps after it. Edits with FLUX.2 are billed by the megapixels that go in and come out. Where nobody knows before how large an input picture is (as behind a link; of one that was uploaded, or stands in a data URI, it is known) or how much will be made, the most that it can be is counted: the basis of that cost is upper_bound. A model without a known price is not run under a limit.'

const maxCost = (description: string) => Type.Number({ description, exclusiveMinimum: 0, maximum: 1_000_000 })

export const createRun = define(
  'CreateRun',
  Type.Object(
    {
      input: anything(
        '`chain_models` names a model for each step (`{step}_model`); `{step}_params` holds its parameters in the words of its maker. GET /api/v1/models/{maker}/{name} has their JSON Schema.',
      ),
      webhook_url: Type.Optional(
        Type.Union([Type.String({ maxLength: 2048 }), Type.Null()], {
          description: 'Public https URL that gets the one signed callback at the end.',
        }),
      ),
      metadata: Type.Optional(
        Type.Record(Type.String(), Type.String({ maxLength: 500 }), {
          description:
            'Up to 50 strings of up to 500 characters, keys up to 40; echoed in the run and in the callback.',
          maxProperties: 50,
          propertyNames: { minLength: 1, maxLength: 40 },
        }),
      ),
      provider_order: Type.Optional(providerOrder),
      max_cost_usd: Type.Optional(maxCost(LIMIT_RULE)),
    },
    { additionalProperties: false },
  ),
)

export const resumeRun = define(
  'ResumeRun',
  Type.Object(
    {
      from_step_key: Type.Optional(
        text(
          'Do this step and those after it again, although it succeeded, or although its provider may have its job. By default, every step that did not succeed.',
        ),
      ),
      input: Type.Optional(
        anything(
          'What changes for the steps that are done again, in the form of the input of a run: `chain_models` with a `{step}_model`, a `{step}_params` in place of the whole old one. What is not given stays.',
        ),
      ),
      provider_order: Type.Optional(providerOrder),
      max_cost_usd: Type.Optional(
        nullable(
          maxCost('In place of the limit of the run before; null for none. What that run has spent does not count.'),
        ),
      ),
    },
    { additionalProperties: false },
  ),
)

// ── The callback and the refusal ──────────────────────────────────────────────────────────────────────────────────

export const backendMetadata = define(
  'BackendMetadata',
  Type.Object({
    mode: runFields.mode,
    providers_used: Type.Array(Type.String()),
    attempts: Type.Integer({ description: 'Of all steps, those of inherited steps left out.' }),
    duration_ms: Type.Integer({ description: 'From acceptance to end.' }),
    steps: Type.Array(
      Type.Object({
        step_key: Type.String(),
        provider: nullable(Type.String()),
        attempts: Type.Integer(),
        duration_ms: nullable(Type.Integer()),
        cost: nullable(cost.ref),
      }),
    ),
    cost: nullable(cost.ref),
  }),
)

export const shortRun = define(
  'ShortRun',
  Type.Object(
    {
      ...Type.Partial(Type.Object(runFields)).properties,
      id: runFields.id,
      object: runFields.object,
      status: runFields.status,
      created_at: runFields.created_at,
      updated_at: runFields.updated_at,
      steps: Type.Optional(
        Type.Array(Type.Partial(step.schema), {
          description:
            'Always without `attempts` and `outputs`; of a still larger run with names, status and links only.',
        }),
      ),
      error: Type.Optional(nullable(Type.Partial(failure.schema))),
      backend_metadata: Type.Optional(backendMetadata.ref),
      truncated: Type.Literal(true, { description: 'Something was left out.' }),
      url: text('The whole run; asking needs the key.', { format: 'uri' }),
    },
    {
      description:
        'A run that is too large for one message. Left out, until it fits: `attempts` and `outputs` of every step; then `input`, `provider_order`, the words of errors and most of each step; then `metadata` and `webhook_url`; then all but the outcome.',
    },
  ),
)

export const callbackMessage = define(
  'CallbackMessage',
  Type.Object({
    type: word(['run.succeeded', 'run.failed', 'run.canceled'], 'How the run ended.'),
    timestamp: time('When the run ended.'),
    data: Type.Unsafe<Record<string, unknown>>({
      description:
        'The run as GET shows it, and `backend_metadata`. A message never exceeds 64 KiB: of a larger run details are left out, and then `truncated` is true and `url` names the whole run.',
      anyOf: [
        {
          allOf: [
            run.ref,
            {
              type: 'object',
              required: ['backend_metadata'],
              properties: { backend_metadata: backendMetadata.ref },
            },
          ],
        },
        shortRun.ref,
      ],
    }),
  }),
)

/** One mistake of a request. */
export const requestError = define(
  'RequestError',
  Type.Object({
    pointer: Type.Optional(text('RFC 6901 JSON Pointer into the body.')),
    parameter: Type.Optional(text('Name of the path, query or header parameter.')),
    code: Type.String(),
    detail: Type.String(),
    hint: Type.Optional(Type.String()),
  }),
)

export const readinessCheck = Type.Object({
  name: Type.String(),
  ok: Type.Boolean(),
  detail: Type.Optional(Type.String()),
})

export const problem = define(
  'Problem',
  Type.Object(
    {
      type: Type.String(),
      title: Type.String(),
      status: Type.Integer(),
      detail: Type.String(),
      instance: Type.String(),
      code: text('From the code table; stable.', { examples: ['invalid_request'] }),
      retryable: Type.Boolean({ description: 'Whether the very same request may succeed later.' }),
      hint: text('What to do next.'),
      request_id: Type.String(),
      errors: Type.Optional(Type.Array(requestError.ref, { description: 'Every mistake at once.' })),
      errors_omitted: Type.Optional(Type.Integer({ description: 'Mistakes beyond those listed.' })),
      run_id: Type.Optional(uuid('With idempotency_key_reused: the run of the first request.')),
      run: Type.Optional(run.ref),
      checks: Type.Optional(
        Type.Array(readinessCheck, { description: 'What was probed, when the server is not ready.' }),
      ),
    },
    { description: 'RFC 9457 problem details.' },
  ),
)

export type CostDto = Static<typeof cost.schema>
export type FailureDto = Static<typeof failure.schema>
export type OutputDto = Static<typeof output.schema>
export type AttemptDto = Static<typeof attempt.schema>
export type LateResultDto = Static<typeof lateResult.schema>
export type StepDto = Static<typeof step.schema>
export type CallbackDto = Static<typeof callback.schema>
export type RunDto = Static<typeof run.schema>
export type RunListDto = Static<typeof runList.schema>
export type EventDto = Static<typeof event.schema>
export type CreateRunDto = Static<typeof createRun.schema>
export type ResumeRunDto = Static<typeof resumeRun.schema>
export type BackendMetadataDto = Static<typeof backendMetadata.schema>
export type RequestErrorDto = Static<typeof requestError.schema>
export type ProblemDto = Static<typeof problem.schema>
