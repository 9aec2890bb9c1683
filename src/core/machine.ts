/**
 * The heart: what a run becomes when something has happened, and what must then be done.
 *
 * 1. `transition` and `resume` are pure and total: every event in every state gives an answer, never an exception.
 * 2. A stale or duplicate event changes nothing and is ignored with a reason. A result that comes after its attempt is over
 *    is written beside the attempt, even when the run has ended. Its outputs end a step that waits; else it moves nothing.
 * 3. `submit` is ordered by the transition that makes a new attempt, so that the attempt is committed before the call;
 *    `resume` never orders it: after a crash a submit's outcome is unknown and is looked up. One exception: `step.unsent`
 *    says that the call of this attempt surely never left, and orders it once more.
 * 4. What must be in flight follows from the run alone (`resume`); what it waits for is `timerAt`.
 * 5. A change that a crash may forget (the time of the next poll, a result that can be asked for again) is not durable:
 *    it rides on the next commit, with its log lines.
 */
import type { Effect, Event, StepSignal } from './events.ts'
import { logOf } from './log.ts'
import { keepOrder } from './machine/keep.ts'
import { cancelOrder, end, KEEP_LOST_MS, type Move, order, specOf } from './machine/moves.ts'
import { cancelStep, deadlineOf, isInDoubt, knownJob, onAttempt, onStep, wakeStep } from './machine/steps.ts'
import {
  type Attempt,
  isEnded,
  isReady,
  type Output,
  type ProviderMedia,
  type Run,
  type RunEvent,
  type Step,
  type StepIn,
  type StepSpec,
  stepEnded,
  tokenOfTakenOver,
} from './run.ts'

export { deadlineOf, mayComeLate, SHOWS_MS } from './machine/steps.ts'

export interface Transition {
  run: Run
  effects: Effect[]
  /** The log lines to commit with the run, now or with the next durable change. */
  events: RunEvent[]
  /** Ids of the steps that changed. */
  changed: string[]
  /** False when a crash may forget the change. */
  durable: boolean
  /** Why nothing changed. */
  ignored?: string
}

export function transition(run: Run, event: Event): Transition {
  if (isEnded(run) && event.type !== 'attempt.came_late') return ignore(run, 'the run has ended')
  if (event.type === 'run.woke') return wake(run, event)
  if (event.type === 'run.cancel_requested') return requestCancel(run, event)
  const step = run.steps.find(each => each.id === event.stepId)
  if (!step) return ignore(run, 'no such step')
  const outcome = isOfStep(event) ? onStep(run, step, event) : onAttempt(run, step, event)
  if ('ignored' in outcome) return ignore(run, outcome.ignored)
  return finish(run, [outcome], event)
}

function isOfStep<E extends Event>(event: E): event is Extract<E, StepSignal> {
  return event.type === 'step.routed' || event.type === 'step.unroutable' || event.type === 'step.deferred'
}

function wake(run: Run, event: Event & { type: 'run.woke' }): Transition {
  const moves = run.steps.flatMap(step => wakeStep(run, step, event) ?? [])
  return moves.length > 0 ? finish(run, moves, event) : ignore(run, 'nothing is due')
}

function requestCancel(run: Run, event: Event): Transition {
  if (run.cancelRequestedAt !== null) return ignore(run, 'cancel was requested before')
  const asked: Run = { ...run, cancelRequestedAt: event.at }
  const moves = asked.steps.flatMap(step => cancelStep(step, event.at) ?? [])
  return finish(run, moves, event, asked)
}

/** Puts the moves together, draws the consequences, and reads the log off the difference. */
function finish(before: Run, moves: readonly Move[], event: Event, base: Run = before): Transition {
  const { at } = event
  const effects = moves.flatMap(move => move.effects ?? [])
  const moved = new Map(moves.map(move => [move.step.id, move.step]))
  const placed: Run = { ...base, steps: base.steps.map(step => moved.get(step.id) ?? step) }
  const settled = settle(placed, at)
  const durable = settled !== placed || base !== before || moves.some(move => move.durable !== false)
  const changed = settled.steps.filter((step, i) => step !== before.steps[i]).map(step => step.id)
  const ready = settled.steps.filter(
    step => step.status === 'queued' && isReady(step, settled) && !isReady(step, before),
  )
  for (const step of ready) effects.push({ type: 'route', stepId: step.id })
  const turned = settled.steps.some((step, i) => step.status !== before.steps[i]?.status)
  if (!durable && !turned) return { run: settled, effects, events: [], changed, durable }
  const events = logOf(before, settled, at)
  const revision = before.revision + (durable ? 1 : 0)
  const run: Run = { ...settled, updatedAt: at, revision, lastSeq: before.lastSeq + events.length }
  return { run, effects, events, changed, durable }
}

/** Consequences: no step begins after a failure or a cancel; the run ends with its last step. */
function settle(run: Run, at: number): Run {
  const failed = run.steps.some(step => step.status === 'failed')
  const stop = run.cancelRequestedAt !== null ? 'canceled' : failed ? 'skipped' : null
  let steps = run.steps
  if (stop && steps.some(step => step.status === 'queued' || step.status === 'waiting')) {
    steps = steps.map(step =>
      step.status === 'queued' || step.status === 'waiting' ? end(step, { status: stop }, at) : step,
    )
  }
  const begun = steps.some(step => step.status !== 'queued')
  const status = steps.every(stepEnded) ? endStatus(run, steps) : begun ? 'running' : run.status
  if (status === run.status && steps === run.steps) return run
  const error =
    status === 'failed'
      ? (steps.find((step): step is StepIn<'failed'> => step.status === 'failed')?.error ?? null)
      : null
  return { ...run, steps, status, error }
}

function endStatus(run: Run, steps: readonly Step[]): Run['status'] {
  if (steps.every(step => step.status === 'succeeded')) return 'succeeded'
  return run.cancelRequestedAt !== null ? 'canceled' : 'failed'
}

// ── Read off a run ────────────────────────────────────────────────────────────────────────────────

/** What must be in flight now, after a start: everything that is not waiting for a time. */
export function resume(run: Run): Effect[] {
  if (isEnded(run)) return []
  return run.steps.flatMap(step => inFlight(run, step))
}

function inFlight(run: Run, step: Step): Effect[] {
  switch (step.status) {
    case 'queued':
      return isReady(step, run) ? [{ type: 'route', stepId: step.id }] : []
    case 'submitting':
      return step.lookup ? [] : [order('find', step)]
    case 'running':
      return run.cancelRequestedAt !== null && step.attempt.providerCancel === null ? [cancelOrder(step)] : []
    case 'keeping':
      return [order(keepOrder(step), step)]
    case 'waiting':
    case 'succeeded':
    case 'failed':
    case 'canceled':
    case 'skipped':
      return []
  }
}

/**
 * When the run next waits for a time to come, or null when it waits for answers only. Whole milliseconds since the epoch,
 * whatever pauses were asked for.
 */
export function timerAt(run: Run): number | null {
  if (isEnded(run)) return null
  const times = run.steps.flatMap(step => {
    const deadline = deadlineOf(run, step)
    if (step.status === 'running') return [step.pollAt]
    if (step.status === 'waiting') return [Math.min(step.retryAt, deadline)]
    if (step.status === 'keeping') return [Math.min(step.keepAt, deadline)]
    if (step.status === 'submitting') return step.lookup ? [step.lookup.askAt] : []
    return step.status === 'queued' && isReady(step, run) ? [deadline] : []
  })
  return times.length > 0 ? Math.ceil(Math.min(...times)) : null
}

/** When an unattended run needs an actor: at once if something must be in flight, else with its timer; null when it has ended. */
export function wakeAt(run: Run): number | null {
  if (isEnded(run)) return null
  return resume(run).length > 0 ? run.updatedAt : timerAt(run)
}

export interface ForkOrder {
  id: string
  stepIds: readonly string[]
  at: number
  /** Run again from this step although it succeeded; by default from every step that did not. */
  fromStepKey?: string
}

export type Fork = { ok: true; run: Run; events: RunEvent[] } | { ok: false; reason: string; hint?: string }

/**
 * A new run that keeps the finished steps of an ended one, with their outputs, and does the others again. A step that was
 * given up and whose output came late counts as finished: it is paid. One whose job the provider may still have, or has given
 * what nobody could keep, goes on with that job once, and buys another only when it has nothing to give. Who wants another job
 * all the same names the step; so does who goes on past a submit that nobody can tell of.
 */
export function fork(run: Run, order: ForkOrder): Fork {
  if (!isEnded(run)) return { ok: false, reason: 'the run has not ended' }
  const from = order.fromStepKey
  if (from !== undefined && !run.steps.some(step => step.key === from))
    return { ok: false, reason: `the run has no step ${from}` }
  if (run.status === 'succeeded' && from === undefined)
    return { ok: false, reason: 'the run has succeeded; name the step to run again from' }
  const redo = new Set<string>()
  for (const step of run.steps) {
    if (outputsOf(step).length === 0 || step.key === from || step.dependsOn.some(key => redo.has(key)))
      redo.add(step.key)
  }
  const { at } = order
  const isAsBefore = (step: Step): boolean => step.key !== from && !step.dependsOn.some(key => redo.has(key))
  const doubtful = run.steps.find(step => redo.has(step.key) && isAsBefore(step) && isInDoubt(step))
  if (doubtful) return refuseDoubtful(doubtful)
  const steps = run.steps.map((step, i): Step => {
    const spec = { ...specOf(step), id: order.stepIds[i] as string, createdAt: at, updatedAt: at }
    if (!redo.has(step.key)) return { ...spec, inherited: true, status: 'succeeded', outputs: outputsOf(step) }
    const job = isAsBefore(step) ? knownJob(step) : null
    if (job) return takenOver(spec, job, 'unkept' in step ? step.unkept : undefined, at)
    return { ...spec, startedAt: null, completedAt: null, attempts: [], inherited: false, status: 'queued' }
  })
  const forked: Run = {
    ...run,
    id: order.id,
    status: redo.size === 0 ? 'succeeded' : steps.some(step => step.status !== 'queued') ? 'running' : 'queued',
    steps,
    createdAt: at,
    updatedAt: at,
    deadlineAt: at + (run.deadlineAt - run.createdAt),
    cancelRequestedAt: null,
    resumedFrom: run.id,
    error: null,
    revision: 0,
    lastSeq: redo.size === 0 ? 2 : 1,
  }
  const events: RunEvent[] = [{ seq: 1, at, type: 'run.created', stepKey: null, data: { resumedFrom: run.id } }]
  if (redo.size === 0) events.push({ seq: 2, at, type: 'run.succeeded', stepKey: null, data: {} })
  return { ok: true, run: forked, events }
}

/** A second submit may be a second bill: whoever wants it says so. */
function refuseDoubtful({ key, attempts }: Step): Fork {
  const provider = attempts.at(-1)?.provider
  return {
    ok: false,
    reason: `nobody can say whether ${provider} took the job of ${key}, and another may be paid twice`,
    hint: `Look at ${provider} whether the job exists. If it does not, send "from_step_key": "${key}" to buy another.`,
  }
}

/** `unkept`: what the job has given already. */
function takenOver(spec: StepSpec, job: Attempt, unkept: readonly ProviderMedia[] | undefined, at: number): Step {
  const { provider, providerModel, jobRef, adjustments } = job
  const attempt: Attempt = {
    ...{ no: 1, provider, providerModel, jobRef, adjustments, token: tokenOfTakenOver(spec) },
    ...{ startedAt: at, submittedAt: at, endedAt: null, outcome: 'pending', error: null },
    // The run that submitted it has the bill.
    ...{ cost: { estimatedUsd: 0, actualUsd: 0, basis: 'listed' }, providerCancel: null, reopenAt: null },
  }
  const begun = { ...spec, startedAt: at, completedAt: null, attempts: [], inherited: false }
  if (unkept) return { ...begun, status: 'keeping', attempt, media: unkept, keepAt: at + KEEP_LOST_MS, trouble: null }
  return { ...begun, status: 'running', attempt, pollAt: at, progress: null }
}

/** What a step gave, in time or late. */
function outputsOf(step: Step): readonly Output[] {
  if (step.status === 'succeeded') return step.outputs
  return step.attempts.findLast(attempt => attempt.lateResult?.outputs.length)?.lateResult?.outputs ?? []
}

function ignore(run: Run, why: string): Transition {
  return { run, effects: [], events: [], changed: [], durable: false, ignored: why }
}
