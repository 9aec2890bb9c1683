/**
 * Runs as rows, and rows as the very runs that were committed.
 *
 * 1. What goes in comes out: `runOf(rows of run)` deep-equals the run, in every state.
 * 2. A row is trusted no further than `assertRun`: a damaged run is an error, never a wrong run.
 * 3. The live attempt of a step lies with the other attempts; its state names it by being live.
 */
import type { Chain, PlannedStep } from '../../core/chain.ts'
import type { StepError } from '../../core/errors.ts'
import type { StoredMedia } from '../../core/ports.ts'
import {
  type Attempt,
  assertRun,
  type CallbackTarget,
  type LateResult,
  type Mode,
  type Run,
  type RunEvent,
  type RunEventType,
  type RunStatus,
  type Step,
  type StepSpec,
  type StepState,
} from '../../core/run.ts'

export interface RunRow {
  id: string
  api_key_id: string
  slug: string
  chain_id: string
  mode: string
  status: string
  max_cost_usd: number | null
  created_at: number
  updated_at: number
  deadline_at: number
  cancel_requested_at: number | null
  resumed_from: string | null
  error: string | null
  revision: number
  last_seq: number
  input: string
  metadata: string
  callback: string | null
  provider_order: string
  plan: string
}

export interface StepRow {
  step_index: number
  id: string
  status: string
  state: string
  inherited: number
  created_at: number
  updated_at: number
  started_at: number | null
  completed_at: number | null
}

export interface AttemptRow {
  step_index: number
  no: number
  provider: string
  provider_model: string
  token: string
  started_at: number
  submitted_at: number | null
  ended_at: number | null
  outcome: string
  job_ref: string
  error: string | null
  estimated_usd: number | null
  actual_usd: number | null
  cost_basis: string
  adjustments: string
  provider_cancel: string | null
  reopen_at: number | null
  late_result: string | null
}

export interface EventRow {
  seq: number
  at: number
  type: string
  step_key: string | null
  data: string
}

/** The run of its rows; steps and attempts in order. Throws when they do not make a run. */
export function runOf(
  row: RunRow,
  chain: Chain,
  stepRows: readonly StepRow[],
  attempts: ReadonlyMap<number, Attempt[]>,
): Run {
  const plan = parse<PlannedStep[]>(row.plan)
  const run: Run = {
    id: row.id,
    slug: row.slug,
    chain,
    mode: row.mode as Mode,
    status: row.status as RunStatus,
    input: parse(row.input),
    metadata: parse(row.metadata),
    callback: parseOrNull<CallbackTarget>(row.callback),
    apiKeyId: row.api_key_id,
    providerOrder: parse(row.provider_order),
    maxCostUsd: row.max_cost_usd,
    steps: stepRows.map(step => stepOf(step, planned(plan, step, row.id), attempts.get(step.step_index) ?? [])),
    createdAt: row.created_at,
    updatedAt: row.updated_at,
    deadlineAt: row.deadline_at,
    cancelRequestedAt: row.cancel_requested_at,
    resumedFrom: row.resumed_from,
    error: parseOrNull<StepError>(row.error),
    revision: row.revision,
    lastSeq: row.last_seq,
  }
  assertRun(run)
  return run
}

/** What was planned of a step, which no later state changes (JSON). */
export function planOf(run: Run): string {
  const plan = run.steps.map(
    ({ index, key, role, kind, model, params, dependsOn, pictures, pictureShapes, deadlineMs }): PlannedStep => ({
      index,
      key,
      role,
      kind,
      model,
      params,
      dependsOn,
      pictures,
      pictureShapes,
      deadlineMs,
    }),
  )
  return JSON.stringify(plan)
}

/** What only the step's status has (JSON), without the live attempt. */
export function stateOf(step: Step): string {
  switch (step.status) {
    case 'queued':
    case 'skipped':
      return '{}'
    case 'submitting':
      return JSON.stringify({ lookup: step.lookup })
    case 'running':
      return JSON.stringify({ pollAt: step.pollAt, progress: step.progress })
    case 'waiting':
      return JSON.stringify({ retryAt: step.retryAt, error: step.error })
    case 'keeping':
      return JSON.stringify({ media: step.media, keepAt: step.keepAt, trouble: step.trouble })
    case 'succeeded':
      return JSON.stringify({ outputs: step.outputs })
    case 'failed':
      return JSON.stringify({ error: step.error, unkept: step.unkept })
    case 'canceled':
      return JSON.stringify({ unkept: step.unkept })
  }
}

function stepOf(row: StepRow, plan: PlannedStep, attempts: readonly Attempt[]): Step {
  const status = row.status as Step['status']
  const isLive = status === 'submitting' || status === 'running' || status === 'keeping'
  const live = isLive ? attempts.at(-1) : undefined
  if (isLive && !live) throw new Error(`step ${row.id} is ${status} without an attempt`)
  const spec: StepSpec = {
    ...plan,
    // A plan that was stored before they were has none.
    pictureShapes: plan.pictureShapes ?? [],
    id: row.id,
    createdAt: row.created_at,
    updatedAt: row.updated_at,
    startedAt: row.started_at,
    completedAt: row.completed_at,
    attempts: live ? attempts.slice(0, -1) : attempts,
    inherited: row.inherited === 1,
  }
  // A copy that was begun before `trouble` was stored has none.
  const begun = status === 'keeping' ? { trouble: null } : {}
  // A running step once named its job here, too.
  const { job: _, ...stored } = parse<{ job?: unknown }>(row.state)
  const state = { status, ...begun, ...stored, ...(live ? { attempt: live } : {}) }
  return { ...spec, ...(state as StepState) }
}

function planned(plan: readonly PlannedStep[], row: StepRow, runId: string): PlannedStep {
  const found = plan[row.step_index]
  if (!found) throw new Error(`run ${runId} has no plan for step ${row.step_index}`)
  return found
}

export function attemptOf(row: AttemptRow): Attempt {
  return {
    no: row.no,
    provider: row.provider,
    providerModel: row.provider_model,
    token: row.token,
    startedAt: row.started_at,
    submittedAt: row.submitted_at,
    endedAt: row.ended_at,
    outcome: row.outcome as Attempt['outcome'],
    jobRef: parse(row.job_ref),
    error: parseOrNull<StepError>(row.error),
    cost: {
      estimatedUsd: row.estimated_usd,
      actualUsd: row.actual_usd,
      basis: row.cost_basis as Attempt['cost']['basis'],
    },
    adjustments: parse(row.adjustments),
    providerCancel: row.provider_cancel as Attempt['providerCancel'],
    reopenAt: row.reopen_at,
    ...(row.late_result === null ? {} : { lateResult: parse<LateResult>(row.late_result) }),
  }
}

/** The outputs that became media with a commit: those of steps that have just succeeded, and those that came late. */
export function mediaRowsOf(run: Run, changed: readonly string[]): StoredMedia[] {
  return run.steps.flatMap(step => {
    if (step.inherited || !changed.includes(step.id)) return []
    const owner = { runId: run.id, stepId: step.id, apiKeyId: run.apiKeyId, createdAt: step.updatedAt }
    const inTime = step.status === 'succeeded' ? step.outputs : []
    // Of a change that came before, too: the same commit may hold another one of this step. A row that is there stays.
    const outputs = new Set([...inTime, ...step.attempts.flatMap(attempt => attempt.lateResult?.outputs ?? [])])
    return [...outputs].map(output => ({ ...output, ...owner }))
  })
}

export function eventOf(row: EventRow): RunEvent {
  return {
    seq: row.seq,
    at: row.at,
    type: row.type as RunEventType,
    stepKey: row.step_key,
    data: parse(row.data),
  }
}

export function jsonOrNull(value: object | null): string | null {
  return value === null ? null : JSON.stringify(value)
}

function parse<T>(text: string): T {
  return JSON.parse(text) as T
}

function parseOrNull<T>(text: string | null): T | null {
  return text === null ? null : (JSON.parse(text) as T)
}
