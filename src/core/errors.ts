/**
 * The code table: every error that a caller can meet, said once.
 *
 * 1. A code is stable for ever; its sentence may get better.
 * 2. `blame` says whose turn it is: the caller's request, the provider, the network, or us.
 * 3. `hint` says what to do next, in one sentence.
 */

export type Blame = 'caller' | 'provider' | 'network' | 'us'

export interface ErrorRow {
  /** HTTP status when the code answers a request. */
  status: number
  title: string
  blame: Blame
  /** True when the very same request may succeed later. */
  retryable: boolean
  hint: string
}

const row = (status: number, blame: Blame, retryable: boolean, title: string, hint: string): ErrorRow => ({
  status,
  title,
  blame,
  retryable,
  hint,
})

export const ERRORS = {
  // How a step or a run ends badly.
  provider_rate_limited: row(
    502,
    'provider',
    true,
    'The provider limits our rate',
    'Nothing to do: the step is tried again when the provider allows it.',
  ),
  provider_overloaded: row(
    502,
    'provider',
    true,
    'The provider is overloaded',
    'Nothing to do: the step is tried again, or moves to another provider.',
  ),
  provider_error: row(502, 'provider', true, 'The provider failed', 'Resume the run; its finished steps are kept.'),
  provider_timeout: row(
    504,
    'provider',
    true,
    'The provider did not finish in time',
    'Resume the run: the job is asked for first, once, and another is bought only when it is over without an output; a resume whose from_step_key names the step buys another at once.',
  ),
  provider_lost: row(
    502,
    'provider',
    true,
    'The provider no longer knows the job',
    'Resume the run; its finished steps are kept.',
  ),
  insufficient_credit: row(
    502,
    'caller',
    false,
    'The account at the provider has no credit',
    'Top up the account at the provider, then resume the run.',
  ),
  provider_unauthorized: row(
    502,
    'caller',
    false,
    'The provider refused the key',
    'Check the provider key in the environment, restart, then resume the run.',
  ),
  model_not_enabled: row(
    502,
    'caller',
    false,
    'The model is not enabled for this account',
    'Switch the model on in the provider console, then resume the run.',
  ),
  content_rejected: row(
    422,
    'caller',
    false,
    'The provider refused the content',
    'Change the prompt or the picture: resume the run with the new parameters in input, and finished steps are kept. A refusal is never taken to another provider.',
  ),
  invalid_input: row(
    422,
    'caller',
    false,
    'The provider refused the parameters',
    'Compare the parameters with the JSON Schema of GET /api/v1/models/{maker}/{name}, and resume the run with the right ones in input.',
  ),
  input_fetch_failed: row(
    422,
    'caller',
    false,
    'The input picture could not be read',
    'Give a public https link to a PNG, JPEG or WebP, or upload it with POST /api/v1/media; resume the run with it in input.',
  ),
  output_fetch_failed: row(
    502,
    'network',
    true,
    'The output could not be copied',
    'Resume the run: the output is fetched once more, from the job that job_ref names or as it came with the answer, and another is bought only when there is none to fetch; a resume whose from_step_key names the step buys another at once.',
  ),
  output_invalid: row(
    502,
    'provider',
    false,
    'The output is not a picture or a film',
    'Resume the run with another seed or another model in input; without a change, a job that has a job_ref is asked for its output once more before another is bought, unless from_step_key names the step.',
  ),
  outcome_unknown: row(
    502,
    'network',
    false,
    'Nobody can say whether the provider took the job',
    'Look at the provider whether the job exists. If it does not, resume the run with from_step_key naming the step, which buys another; without it a resume is refused until a webhook has told of the job (late_result).',
  ),
  network_error: row(
    502,
    'network',
    true,
    'The provider could not be reached',
    'Nothing to do: the step is tried again, or moves to another provider.',
  ),
  no_route: row(
    422,
    'caller',
    false,
    'No provider can run this model now',
    'The message says what each provider lacks or does not take. Resume when that is set, or with another input; from_step_key does a finished step again.',
  ),
  budget_exceeded: row(
    402,
    'caller',
    false,
    'The step would cost more than allowed',
    'Resume the run with a higher max_cost_usd (null: none), or with a cheaper model or parameters in input; finished steps are kept.',
  ),
  deadline_exceeded: row(504, 'provider', true, 'The deadline passed', 'Resume the run; its finished steps are kept.'),
  canceled: row(409, 'caller', false, 'The run was canceled', 'Resume the run to go on from where it stopped.'),
  internal: row(500, 'us', true, 'Something broke on our side', 'Try again; if it stays, report the request id.'),

  // How a request is refused.
  invalid_json: row(
    400,
    'caller',
    false,
    'The body is not valid JSON',
    'Send one JSON object, UTF-8, at most 32 levels deep.',
  ),
  invalid_request: row(
    400,
    'caller',
    false,
    'The request has problems',
    'Mend every entry of errors[]; nothing was created or spent.',
  ),
  unauthenticated: row(401, 'caller', false, 'No valid API key', 'Send the header `Authorization: Bearer <key>`.'),
  forbidden: row(403, 'caller', false, 'The key may not do this', 'Use a key with the scope that the detail names.'),
  not_found: row(
    404,
    'caller',
    false,
    'There is no such thing here',
    'Check the id and the path; GET /swagger lists the routes.',
  ),
  method_not_allowed: row(405, 'caller', false, 'This path does not take that method', 'See the header Allow.'),
  not_cancelable: row(409, 'caller', false, 'The run has already ended', 'Nothing to cancel: see its status.'),
  not_resumable: row(
    409,
    'caller',
    false,
    'The run cannot be resumed',
    'Wait until the run has ended. One that has succeeded is run again from the step that from_step_key names.',
  ),
  idempotency_key_invalid: row(
    400,
    'caller',
    false,
    'The Idempotency-Key is malformed',
    'Use 1 to 255 characters of A-Z a-z 0-9 _ - : .',
  ),
  idempotency_key_reused: row(
    422,
    'caller',
    false,
    'The Idempotency-Key belongs to another request',
    'Send the same body again, or use a new key.',
  ),
  payload_too_large: row(
    413,
    'caller',
    false,
    'The body is too large',
    'A run takes at most 1 MiB of JSON; upload pictures with POST /api/v1/media.',
  ),
  unsupported_media_type: row(
    415,
    'caller',
    false,
    'The content type is not taken here',
    'Send application/json, uncompressed.',
  ),
  unsupported_media: row(415, 'caller', false, 'The file is not a picture', 'Upload a PNG, JPEG or WebP.'),
  url_not_allowed: row(
    422,
    'caller',
    false,
    'This URL cannot be used',
    'Use a public https URL, or add its host:port to BABYCHAIN_EGRESS_ALLOW.',
  ),
  conflict: row(409, 'caller', false, 'The state does not allow it', 'See the detail: it says what stands in the way.'),
  rate_limited: row(429, 'caller', true, 'Too many requests', 'Wait for Retry-After.'),
  queue_full: row(
    429,
    'caller',
    true,
    'Too many runs are waiting',
    'Wait for Retry-After, or raise the queue length of the key.',
  ),
  storage_unavailable: row(
    503,
    'us',
    true,
    'The database or the disk cannot take writes',
    'Try again with the same Idempotency-Key: should it be stored after all, that gives the same run.',
  ),
  draining: row(503, 'us', true, 'The server is stopping', 'Try again with the same Idempotency-Key in a few seconds.'),
} as const satisfies Record<string, ErrorRow>

export type ErrorCode = keyof typeof ERRORS

/** What went wrong in a step, as a value. `message` is safe to show; `providerText` is the provider's own words, redacted. */
export interface StepError {
  code: ErrorCode
  blame: Blame
  retryable: boolean
  message: string
  hint: string
  provider?: string
  httpStatus?: number
  providerText?: string
  /** How long the provider asked us to wait, in milliseconds. */
  retryAfterMs?: number
}

/** A StepError with the code table's blame, retryable and hint; `more` may add or override. */
export function stepError(code: ErrorCode, message: string, more: Partial<StepError> = {}): StepError {
  const { blame, retryable, hint } = ERRORS[code]
  return { code, blame, retryable, message, hint, ...more }
}

/** One problem of a request: an RFC 6901 JSON Pointer into the body, what is wrong, and what to do. */
export interface Problem {
  pointer: string
  code: string
  detail: string
  hint?: string
}
