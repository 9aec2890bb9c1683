import type { Attempt, Run, Step } from '../../core/run.ts'

/** What a fault met in an effect says besides the error. */
export function scopeOf(run: Run, step: Step, { no, provider }: Attempt) {
  return { runId: run.id, stepId: step.id, attempt: no, provider }
}
