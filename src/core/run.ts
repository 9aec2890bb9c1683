/**
 * Runs, steps and attempts as data, and what must always hold of them.
 *
 * 1. A field exists only in the states in which it means something.
 * 2. A run is a value: whoever changes it makes a new one.
 * 3. `assertRun` states the invariants I1 to I9; the machine's tests check them after every event.
 */
import type { Chain, PlannedStep } from './chain.ts'
import { type StepError, stepError } from './errors.ts'
import type { Json, JsonObject } from './json.ts'
import { isWithin } from './money.ts'

/** Money in US dollars. `null` is unknown, which is not 0. */
export interface Cost {
  estimatedUsd: number | null
  actualUsd: number | null
  /** metered: the provider said so; listed: from its price list; upper_bound: it may be less; unknown: nobody knows. */
  basis: 'metered' | 'listed' | 'upper_bound' | 'unknown'
}

/** Something that a route could not express exactly and that was changed harmlessly. */
export interface Adjustment {
  pointer: string
  from: Json
  to: Json
  reason: string
}

/** A file at the provider: a link, or a reference that only its adapter can open. */
export interface ProviderMedia {
  url: string
  mime?: string
}

/** A file in our own storage. */
export interface Output {
  mediaId: string
  mime: string
  bytes: number
  /** Hex. */
  sha256: string
  width?: number
  height?: number
  /** Length of a film in seconds. */
  seconds?: number
  /** Where the bytes lie: the storage's own key. */
  location: string
}

export type CancelOutcome = 'confirmed' | 'unsupported' | 'failed'
/** What asking a provider to stop a job came to. `unbegun`: confirmed, and nothing is billed, for it takes only what has not begun. */
export type CancelAnswer = CancelOutcome | 'unbegun'

/** What an attempt brought after it was over for us: canceled, given up, never answered, or said to be unknown. */
export interface LateResult {
  at: number
  /**
   * What was kept: it ends a step that waits, and a later run that resumes this one takes it over. Empty when there was
   * nothing, or it could not be kept.
   */
  outputs: readonly Output[]
  error: StepError | null
}

/** One try of a step on one route. Everything that was known before the submit is committed before the submit. */
export interface Attempt {
  /** 1 for the first attempt of the step. */
  no: number
  provider: string
  /** The model's name at that provider. */
  providerModel: string
  /** 128 random bits in the provider's callback address; of a job that was taken over, `tokenOfTakenOver`. */
  token: string
  startedAt: number
  /** When the provider took the job. */
  submittedAt: number | null
  endedAt: number | null
  outcome: 'pending' | 'succeeded' | 'failed' | 'canceled' | 'unknown'
  /** Names the job at the provider: the adapter's own business. Null before the provider has named one, and where there was none. */
  jobRef: Json
  error: StepError | null
  cost: Cost
  adjustments: readonly Adjustment[]
  providerCancel: CancelOutcome | null
  /** After a failure that may pass: this route is closed for this step until then. */
  reopenAt: number | null
  lateResult?: LateResult
}

export interface StepSpec extends PlannedStep {
  id: string
  createdAt: number
  updatedAt: number
  startedAt: number | null
  completedAt: number | null
  /** Finished attempts, oldest first; a live one is in the state. */
  attempts: readonly Attempt[]
  /** True for a step that a resumed run took over, finished, from the run before. */
  inherited: boolean
}

/** `unkept`: what the last attempt gave with its answer, and could not be kept in time; it may be there still. */
export type StepState =
  | { status: 'queued' }
  | { status: 'submitting'; attempt: Attempt; lookup: Lookup | null }
  | { status: 'running'; attempt: Attempt; pollAt: number; progress: number | null }
  | { status: 'waiting'; retryAt: number; error: StepError }
  | {
      status: 'keeping'
      attempt: Attempt
      media: readonly ProviderMedia[]
      keepAt: number
      trouble: KeepTrouble | null
    }
  | { status: 'succeeded'; outputs: readonly Output[] }
  | { status: 'failed'; error: StepError; unkept?: readonly ProviderMedia[] }
  | { status: 'canceled'; unkept?: readonly ProviderMedia[] }
  | { status: 'skipped' }

/** The outcome of a submit is unknown: when the provider is asked next, and how often it has been. */
export interface Lookup {
  /** Since when we know that we do not know (ms). */
  since: number
  askAt: number
  tries: number
  error: StepError
}

/** Why an output is not kept yet. */
export interface KeepTrouble {
  /** Downloads that brought no whole output. */
  tries: number
  /** Dead links. */
  refreshes: number
  /** Times in a row that nobody answered, or that our own storage took nothing: that is waited for, and is not the link's fault. */
  waits: number
  /** The job is asked for fresh links before the next download. */
  isStale: boolean
  /** Those of several outputs that are kept. */
  kept: readonly Output[]
  error: StepError
}

export type Step = StepSpec & StepState
export type StepIn<S extends Step['status']> = Extract<Step, { status: S }>

export type RunStatus = 'queued' | 'running' | 'succeeded' | 'failed' | 'canceled'
export type Mode = 'sandbox' | 'byok'

/** Where the terminal callback goes; frozen when the run is created. */
export interface CallbackTarget {
  url: string
}

export interface Run {
  id: string
  /** The slug that the caller used. */
  slug: string
  chain: Chain
  mode: Mode
  status: RunStatus
  /** The caller's input, word for word. */
  input: JsonObject
  metadata: Readonly<Record<string, string>>
  callback: CallbackTarget | null
  apiKeyId: string
  /** Preferred providers per step key. */
  providerOrder: Readonly<Record<string, readonly string[]>>
  maxCostUsd: number | null
  steps: readonly Step[]
  createdAt: number
  updatedAt: number
  deadlineAt: number
  cancelRequestedAt: number | null
  resumedFrom: string | null
  error: StepError | null
  /** Number of commits that this run has seen; a commit names the one it expects. */
  revision: number
  /** Number of the newest event of this run. */
  lastSeq: number
}

/** Limits, each with its reason. */
export const LIMITS = {
  /** A run that nobody ended after a day holds memory and money for nothing. */
  runDeadlineMs: 24 * 3_600_000,
  /** A chain is read by a person: more steps than this are a mistake. */
  steps: 32,
  /** Attempts that a provider may have been paid for: a third failure will not be luck. */
  jobFailures: 3,
  /** Downloads that break off before an output is given up: over some five minutes, with their pauses. */
  keepTries: 12,
  /** Downloads of something else (a web page, half a picture): over some seconds, the last by a fresh link. */
  keepInvalid: 4,
  /** Dead links: over some three minutes. A file may appear later than its link; one that does not is gone. */
  keepRefreshes: 10,
  /**
   * A picture: uploaded, behind a link, or made by a step and passed on to the next. Most providers take less, and say so in
   * `takes`; the 50 MB that some take are more than an upload as a form is worth, which is held in memory.
   */
  pictureBytes: 30 << 20,
  /**
   * Input pictures of one request together, where they are in the request itself: 64 MB in base64, the most that a provider
   * documents for a whole body (Ark; Gemini takes 20 MB). More would be read for a refusal.
   */
  requestPictureBytes: 48_000_000,
  /** Attempts kept per step; a step that waits a day for a rate limit must not grow for ever. */
  attempts: 200,
} as const

/** One line of the run's log: what changed, as a reader sees it. */
export interface RunEvent {
  seq: number
  at: number
  type: RunEventType
  stepKey: string | null
  data: RunEventData
}

export type RunEventType =
  | 'run.created'
  | 'run.cancel_requested'
  | 'run.succeeded'
  | 'run.failed'
  | 'run.canceled'
  | 'step.submitting'
  | 'step.running'
  | 'step.progressed'
  | 'step.unknown'
  | 'step.attempt_failed'
  | 'step.late_result'
  | 'step.waiting'
  | 'step.keeping'
  | 'step.succeeded'
  | 'step.failed'
  | 'step.canceled'
  | 'step.skipped'

export interface RunEventData {
  attempt?: number
  provider?: string
  providerModel?: string
  progress?: number | null
  retryAt?: number
  error?: StepError
  outputs?: readonly Output[]
  resumedFrom?: string
}

export interface NewRun {
  id: string
  stepIds: readonly string[]
  slug: string
  chain: Chain
  mode: Mode
  input: JsonObject
  metadata: Readonly<Record<string, string>>
  callback: CallbackTarget | null
  apiKeyId: string
  providerOrder: Readonly<Record<string, readonly string[]>>
  maxCostUsd: number | null
  steps: readonly PlannedStep[]
  at: number
}

/** A queued run, ready to be committed together with its first event. */
export function newRun(order: NewRun): { run: Run; events: RunEvent[] } {
  const { stepIds, at, steps, ...rest } = order
  const run: Run = {
    ...rest,
    status: 'queued',
    steps: steps.map((planned, i) => ({
      ...planned,
      id: stepIds[i] as string,
      createdAt: at,
      updatedAt: at,
      startedAt: null,
      completedAt: null,
      attempts: [],
      inherited: false,
      status: 'queued' as const,
    })),
    createdAt: at,
    updatedAt: at,
    deadlineAt: at + LIMITS.runDeadlineMs,
    cancelRequestedAt: null,
    resumedFrom: null,
    error: null,
    revision: 0,
    lastSeq: 1,
  }
  return { run, events: [{ seq: 1, at, type: 'run.created', stepKey: null, data: {} }] }
}

/** When the run ended: with the last of its steps, whatever came late. Null before. */
export function endedAt(run: Run): number | null {
  if (!isEnded(run)) return null
  return Math.max(run.createdAt, ...run.steps.map(step => step.completedAt ?? 0))
}

export function isEnded(run: Run): boolean {
  return run.status === 'succeeded' || run.status === 'failed' || run.status === 'canceled'
}

export function stepEnded(step: Step): boolean {
  return (
    step.status === 'succeeded' || step.status === 'failed' || step.status === 'canceled' || step.status === 'skipped'
  )
}

/** Every attempt of a step, the live one last. */
export function attemptsOf(step: Step): readonly Attempt[] {
  return 'attempt' in step ? [...step.attempts, step.attempt] : step.attempts
}

/** In place of the token of a job that an earlier run submitted: it has that run's callback address, and none of this one. */
export function tokenOfTakenOver({ id }: Pick<StepSpec, 'id'>): string {
  return id
}

/** Whether a job was taken over from the run that this one resumes. */
export function isTakenOver(step: Pick<StepSpec, 'id'>, attempt: Attempt): boolean {
  return attempt.token === tokenOfTakenOver(step)
}

/** True when all steps that this one depends on have succeeded. */
export function isReady(step: Step, run: Run): boolean {
  return step.dependsOn.every(key => run.steps.find(other => other.key === key)?.status === 'succeeded')
}

/** What a step has cost or may yet cost, in US dollars; unknown parts are left out and make `unknown` true. */
export function spent(steps: readonly Step[]): { usd: number; unknown: boolean } {
  let usd = 0
  let unknown = false
  for (const step of steps) {
    if (step.inherited) continue
    for (const attempt of attemptsOf(step)) {
      const cost = attempt.cost.actualUsd ?? attempt.cost.estimatedUsd
      if (cost === null) unknown = true
      else usd += cost
    }
  }
  return { usd, unknown }
}

/** Why the next attempt would pass the run's own limit; null when it may be made. Without a known price nobody can promise it. */
export function overLimit(run: Run, estimateUsd: number | null): StepError | null {
  if (run.maxCostUsd === null) return null
  const before = spent(run.steps)
  const total = before.usd + (estimateUsd ?? 0)
  if (estimateUsd !== null && isWithin(total, run.maxCostUsd)) return null
  const next = estimateUsd === null ? 'an unknown price' : `${estimateUsd.toFixed(4)} USD`
  return stepError(
    'budget_exceeded',
    `the next attempt costs ${next}; ${before.usd.toFixed(4)} USD of max_cost_usd ${run.maxCostUsd.toFixed(4)} are spent`,
  )
}

/** Throws when a run breaks an invariant. Called by tests after every event, and by the store when it reads a row back. */
export function assertRun(run: Run): void {
  const fail = (rule: string, detail: string): never => {
    throw new Error(`run ${run.id} breaks ${rule}: ${detail}`)
  }
  const seen = new Set<string>()
  for (const step of run.steps) {
    if (seen.has(step.key)) fail('I1 (unique step keys)', step.key)
    if (!step.dependsOn.every(key => seen.has(key))) fail('I2 (a step follows what it depends on)', step.key)
    seen.add(step.key)
    assertStep(step, run, fail)
  }
  if (run.steps.length === 0 || run.steps.length > LIMITS.steps) fail('I1 (number of steps)', String(run.steps.length))
  const open = run.steps.some(step => !stepEnded(step))
  if (isEnded(run) === open) fail('I7 (a run ends with its last step)', run.status)
  if ((run.status === 'succeeded') !== run.steps.every(step => step.status === 'succeeded'))
    fail('I8 (succeeded means every step)', run.status)
  if ((run.status === 'failed') !== (isEnded(run) && run.error !== null)) fail('I9 (a failed run says why)', run.status)
}

function assertStep(step: Step, run: Run, fail: (rule: string, detail: string) => never): void {
  const begun = step.status !== 'queued' && step.status !== 'skipped' && step.status !== 'canceled'
  if (begun && !isReady(step, run) && step.status !== 'failed')
    fail('I3 (nothing begins before its dependencies)', step.key)
  attemptsOf(step).forEach((attempt, i) => {
    if (attempt.no !== i + 1) fail('I4 (attempts are numbered)', step.key)
    const live = 'attempt' in step && attempt === step.attempt
    if (live !== (attempt.outcome === 'pending'))
      fail('I5 (only the live attempt is pending)', `${step.key} #${attempt.no}`)
  })
  if (step.status === 'succeeded' && step.outputs.length === 0) fail('I6 (success has an output)', step.key)
  if ((step.completedAt !== null) !== stepEnded(step)) fail('I6 (an end has a time)', step.key)
}

/** The key of the step that the run is at, or a word for before and after. */
export function currentStepKey(run: Run): string {
  if (run.status === 'succeeded') return 'completed'
  if (run.status === 'failed' || run.status === 'canceled') return run.status
  const live = run.steps.find(step => !stepEnded(step) && step.startedAt !== null)
  const next = run.steps.find(step => !stepEnded(step))
  const begun = run.steps.some(step => step.startedAt !== null)
  return begun ? ((live ?? next)?.key ?? 'processing') : 'processing'
}
