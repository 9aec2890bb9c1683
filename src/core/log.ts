/**
 * The log of a run: what a reader sees of a transition, found by comparing the run before and after.
 * The words of the log cannot drift from the state, because they are read off it.
 */
import { isEnded, type Run, type RunEvent, type RunEventData, type RunEventType, type Step } from './run.ts'

/** The log lines of a change, numbered on from `before.lastSeq`. */
export function logOf(before: Run, after: Run, at: number): RunEvent[] {
  const lines: { type: RunEventType; stepKey: string | null; data: RunEventData }[] = []
  if (before.cancelRequestedAt === null && after.cancelRequestedAt !== null)
    lines.push({ type: 'run.cancel_requested', stepKey: null, data: {} })
  after.steps.forEach((step, i) => {
    const was = before.steps[i]
    if (was === undefined || was === step) return
    const line = stepLine(was, step)
    if (line) lines.push({ ...line, stepKey: step.key })
  })
  if (!isEnded(before) && isEnded(after)) {
    const type = `run.${after.status}` as RunEventType
    lines.push({ type, stepKey: null, data: after.error ? { error: after.error } : {} })
  }
  return lines.map((line, i) => ({ seq: before.lastSeq + 1 + i, at, ...line }))
}

function stepLine(was: Step, step: Step): { type: RunEventType; data: RunEventData } | null {
  const late = step.attempts.find(
    (attempt, i) => attempt.lateResult && attempt.lateResult !== was.attempts[i]?.lateResult,
  )
  if (late?.lateResult) {
    const { no: attempt, provider, providerModel } = late
    const { outputs, error } = late.lateResult
    return {
      type: 'step.late_result',
      data: { attempt, provider, providerModel, outputs, ...(error ? { error } : {}) },
    }
  }
  const live =
    'attempt' in step
      ? { attempt: step.attempt.no, provider: step.attempt.provider, providerModel: step.attempt.providerModel }
      : {}
  switch (step.status) {
    case 'queued':
      return null
    case 'submitting':
      if (step.lookup === null) return was.status === 'submitting' ? null : { type: 'step.submitting', data: live }
      return was.status === 'submitting' && was.lookup
        ? null
        : { type: 'step.unknown', data: { ...live, error: step.lookup.error } }
    case 'running':
      if (was.status !== 'running') return { type: 'step.running', data: { ...live, progress: step.progress } }
      return was.progress === step.progress
        ? null
        : { type: 'step.progressed', data: { ...live, progress: step.progress } }
    case 'waiting': {
      const last = step.attempts.at(-1)
      const route = last ? { attempt: last.no, provider: last.provider, providerModel: last.providerModel } : {}
      if (step.attempts.length > was.attempts.length)
        return { type: 'step.attempt_failed', data: { ...route, error: step.error } }
      return { type: 'step.waiting', data: { ...route, retryAt: step.retryAt, error: step.error } }
    }
    case 'keeping':
      return was.status === 'keeping' ? null : { type: 'step.keeping', data: live }
    case 'succeeded':
      return { type: 'step.succeeded', data: { outputs: step.outputs } }
    case 'failed':
      return { type: 'step.failed', data: { error: step.error } }
    case 'canceled':
      return { type: 'step.canceled', data: {} }
    case 'skipped':
      return { type: 'step.skipped', data: {} }
  }
}
