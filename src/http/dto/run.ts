/**
 * Shows runs and their events: from the domain to the wire.
 *
 * 1. Same run, same day, same delivery: same bytes. The ETag of a run is made from them.
 * 2. The token of an attempt is a secret, and poll times are the machine's own: both stay inside.
 * 3. The public knows six statuses; what a running step is doing is its `phase`.
 */

import type { Delivery } from '../../core/delivery.ts'
import type { StepError } from '../../core/errors.ts'
import { roundUsd } from '../../core/money.ts'
import {
  type Attempt,
  attemptsOf,
  type Cost,
  currentStepKey,
  endedAt,
  type LateResult,
  type Output,
  type Run,
  type RunEvent,
  type Step,
} from '../../core/run.ts'
import type {
  AttemptDto,
  CallbackDto,
  CostDto,
  EventDto,
  FailureDto,
  LateResultDto,
  OutputDto,
  RunDto,
  StepDto,
} from '../dto.ts'
import { iso, isoOrNull } from './time.ts'

/** What showing needs besides the run. */
export interface View {
  /** A link to a media that works without a key. */
  link(mediaId: string): string
  delivery?: Delivery | undefined
  /** Media that are stored no more. */
  removed?: ReadonlySet<string>
}

export function presentRun(run: Run, view: View): RunDto {
  return {
    id: run.id,
    object: 'chain_run',
    chain_slug: run.slug,
    chain_version: run.chain.version,
    mode: run.mode,
    status: run.status,
    input: run.input,
    created_at: iso(run.createdAt),
    updated_at: iso(run.updatedAt),
    current_step_key: currentStepKey(run),
    steps: run.steps.map(step => presentStep(step, run, view)),
    metadata: run.metadata,
    webhook_url: run.callback?.url ?? null,
    error: run.error && presentFailure(run.error),
    cost: sumOf(run.steps.flatMap(step => (step.inherited ? [] : attemptsOf(step)))),
    callback: view.delivery ? presentDelivery(view.delivery) : null,
    provider_order: Object.fromEntries(Object.entries(run.providerOrder).map(([key, order]) => [key, [...order]])),
    max_cost_usd: run.maxCostUsd,
    deadline_at: iso(run.deadlineAt),
    ended_at: isoOrNull(endedAt(run)),
    cancel_requested_at: isoOrNull(run.cancelRequestedAt),
    resumed_from: run.resumedFrom,
  }
}

export function presentEvent(event: RunEvent, runId: string, view: View): EventDto {
  const { attempt, provider, providerModel, progress, retryAt, error, outputs, resumedFrom } = event.data
  const present = event.type === 'step.unknown' ? presentUnknown : presentFailure
  return {
    seq: event.seq,
    type: event.type,
    at: iso(event.at),
    run_id: runId,
    step_key: event.stepKey,
    data: {
      ...(attempt === undefined ? {} : { attempt }),
      ...(provider === undefined ? {} : { provider }),
      ...(providerModel === undefined ? {} : { provider_model: providerModel }),
      ...(progress === undefined ? {} : { progress }),
      ...(retryAt === undefined ? {} : { retry_at: iso(retryAt) }),
      ...(error === undefined ? {} : { error: present(error) }),
      ...(outputs === undefined ? {} : { outputs: outputs.map(output => presentOutput(output, view)) }),
      ...(resumedFrom === undefined ? {} : { resumed_from: resumedFrom }),
    },
  }
}

function presentStep(step: Step, run: Run, view: View): StepDto {
  const attempts = attemptsOf(step)
  const last = attempts.at(-1)
  // What came late may be of an attempt before the last one.
  const gave = step.status === 'succeeded' ? attempts.findLast(isGiver) : undefined
  const inputs = inputsOf(step, run, view)
  const outputs = step.status === 'succeeded' ? step.outputs.map(output => presentOutput(output, view)) : []
  return {
    id: step.id,
    step_index: step.index,
    step_key: step.key,
    step_kind: step.kind,
    model_identifier: step.model,
    status: statusOf(step),
    created_at: iso(step.createdAt),
    updated_at: iso(step.updatedAt),
    depends_on: [...step.dependsOn],
    started_at: isoOrNull(step.startedAt),
    completed_at: isoOrNull(step.completedAt),
    ...(inputs.length > 0 ? { generation_input_file: inputs } : {}),
    ...(outputs.length > 0 ? { generation_output_file: outputs.map(output => output.url), outputs } : {}),
    ...presentProgress(step),
    provider_used: (gave ?? last)?.provider ?? null,
    provider_cancel: last?.providerCancel ?? null,
    attempts: attempts.map(attempt => presentAttempt(attempt, view)),
    cost: sumOf(attempts),
    inherited: step.inherited,
  }
}

function isGiver({ outcome, lateResult }: Attempt): boolean {
  return outcome === 'succeeded' || (lateResult?.outputs ?? []).length > 0
}

function statusOf(step: Step): StepDto['status'] {
  switch (step.status) {
    case 'submitting':
    case 'running':
    case 'waiting':
    case 'keeping':
      return 'running'
    default:
      return step.status
  }
}

function presentProgress(step: Step): Pick<StepDto, 'phase' | 'progress' | 'retry_at' | 'error'> {
  const none = { phase: null, progress: null, retry_at: null, error: null }
  switch (step.status) {
    case 'submitting': {
      const { lookup } = step
      const unclear = lookup ? { retry_at: iso(lookup.askAt), error: presentUnknown(lookup.error) } : {}
      return { ...none, phase: 'submitting', ...unclear }
    }
    case 'running':
      return { ...none, phase: 'running', progress: step.progress }
    case 'waiting':
      return { ...none, phase: 'waiting', retry_at: iso(step.retryAt), error: presentFailure(step.error) }
    case 'keeping':
      return { ...none, phase: 'keeping', error: step.trouble && presentFailure(step.trouble.error) }
    case 'failed':
      return { ...none, error: presentFailure(step.error) }
    case 'queued':
    case 'succeeded':
    case 'canceled':
    case 'skipped':
      return none
  }
}

/** What a step took: of each step before it the output that is passed on, then the caller's pictures. */
function inputsOf(step: Step, run: Run, view: View): string[] {
  if (step.startedAt === null) return []
  const wired = step.dependsOn.flatMap(key => {
    const before = run.steps.find(other => other.key === key)
    const passed = before?.status === 'succeeded' ? before.outputs[0] : undefined
    return passed ? [view.link(passed.mediaId)] : []
  })
  const given = step.pictures.flatMap(picture => {
    if (picture.startsWith('media:')) return [view.link(picture.slice('media:'.length))]
    // An embedded picture stands in `input`; a second copy would double the answer.
    return picture.startsWith('data:') ? [] : [picture]
  })
  return [...wired, ...given]
}

function presentOutput(output: Output, view: Pick<View, 'link' | 'removed'>): OutputDto {
  const { mediaId, mime, bytes, sha256, width, height, seconds } = output
  return {
    media_id: mediaId,
    url: view.link(mediaId),
    mime,
    bytes,
    sha256,
    ...(width === undefined ? {} : { width }),
    ...(height === undefined ? {} : { height }),
    ...(seconds === undefined ? {} : { seconds }),
    available: !view.removed?.has(mediaId),
  }
}

function presentAttempt(attempt: Attempt, view: View): AttemptDto {
  const { startedAt, endedAt, lateResult } = attempt
  return {
    no: attempt.no,
    provider: attempt.provider,
    provider_model: attempt.providerModel,
    outcome: attempt.outcome,
    started_at: iso(startedAt),
    submitted_at: isoOrNull(attempt.submittedAt),
    ended_at: isoOrNull(endedAt),
    duration_ms: endedAt === null ? null : endedAt - startedAt,
    job_ref: attempt.jobRef,
    error: attempt.error && presentFailure(attempt.error),
    cost: presentCost(attempt.cost),
    adjustments: attempt.adjustments.map(({ pointer, from, to, reason }) => ({ pointer, from, to, reason })),
    provider_cancel: attempt.providerCancel,
    ...(lateResult === undefined ? {} : { late_result: presentLate(lateResult, view) }),
  }
}

function presentLate({ at, outputs, error }: LateResult, view: View): LateResultDto {
  return {
    at: iso(at),
    outputs: outputs.map(output => presentOutput(output, view)),
    error: error && presentFailure(error),
  }
}

function presentFailure(error: StepError): FailureDto {
  const { code, blame, retryable, message, hint, provider, httpStatus, providerText } = error
  return {
    code,
    blame,
    retryable,
    message,
    hint,
    ...(provider === undefined ? {} : { provider }),
    ...(httpStatus === undefined ? {} : { http_status: httpStatus }),
    ...(providerText === undefined ? {} : { provider_text: providerText }),
  }
}

/** Why nobody knows what became of a submit. What is to be done when an attempt fails that way is not to be done now. */
function presentUnknown(error: StepError): FailureDto {
  const hint = 'Nothing to do: the job is looked up at the provider before anything is sent again.'
  return presentFailure({ ...error, hint })
}

function presentDelivery(delivery: Delivery): CallbackDto {
  const { id, status, attempts, dueAt, deliveredAt, lastError } = delivery
  return {
    id,
    status,
    attempts,
    due_at: status === 'pending' ? iso(dueAt) : null,
    delivered_at: isoOrNull(deliveredAt),
    last_error: lastError,
  }
}

function presentCost({ estimatedUsd, actualUsd, basis }: Cost): CostDto {
  return { estimated_usd: roundUsd(estimatedUsd), actual_usd: roundUsd(actualUsd), basis }
}

const CERTAINTY = ['metered', 'listed', 'upper_bound', 'unknown'] as const

/**
 * The cost of attempts together; null before there is one. What was estimated and what was billed stay apart, so that a bill
 * above the estimate shows. Attempts that were free count in neither: they were not billed, nor do they make a sum less certain.
 */
export function sumOf(attempts: readonly Attempt[]): CostDto | null {
  if (attempts.length === 0) return null
  const paid = attempts.map(attempt => attempt.cost).filter(cost => cost.actualUsd !== 0)
  const worst = Math.max(0, ...paid.map(cost => CERTAINTY.indexOf(cost.basis)))
  return {
    estimated_usd: total(paid.map(cost => cost.estimatedUsd)),
    actual_usd: total(paid.map(cost => cost.actualUsd)),
    basis: CERTAINTY[worst] ?? 'unknown',
  }
}

function total(parts: readonly (number | null)[]): number | null {
  return parts.includes(null) ? null : roundUsd(parts.reduce<number>((sum, part) => sum + (part ?? 0), 0))
}
