/** A run that is told of one thing after the other, and the first things that it is told of. */
import { expect } from 'bun:test'
import type { Effect, Event } from '../../src/core/events.ts'
import { transition } from '../../src/core/machine.ts'
import { assertRun, type Run } from '../../src/core/run.ts'

export const ROUTED = {
  type: 'step.routed',
  provider: 'p',
  providerModel: 'm',
  token: 't',
  cost: { estimatedUsd: 0.05, actualUsd: null, basis: 'listed' },
  adjustments: [],
}
/** Its next poll is far. */
export const SUBMITTED = { type: 'step.submitted', jobRef: { id: 1 }, pollAt: Number.MAX_SAFE_INTEGER }

export interface Told {
  run: Run
  orders: string[]
}

/** Tells the first step something about its newest attempt; none may be ignored. Gives the names of what is ordered. */
export function tellFirst(run: Run, said: object, at: number): Told {
  const [step] = run.steps
  const attempt = step && 'attempt' in step ? step.attempt.no : step?.attempts.length
  const next = transition(run, { stepId: step?.id, attempt, jitter: 1, at, ...said } as Event)
  expect(next.ignored).toBeUndefined()
  assertRun(next.run)
  return { run: { ...next.run, updatedAt: at }, orders: next.effects.map(each => each.type) }
}

/** A second apart where a signal does not say when; none may be ignored. Gives the effects of the last one. */
export function told(run: Run, ...signals: readonly object[]): { run: Run; effects: readonly Effect[] } {
  let last: { run: Run; effects: readonly Effect[] } = { run, effects: [] }
  for (const signal of signals) {
    const { run: now } = last
    const event = { stepId: now.steps[0]?.id, attempt: 1, jitter: 0, at: now.updatedAt + 1_000, ...signal } as Event
    const next = transition(now, event)
    expect([event.type, next.ignored]).toEqual([event.type, undefined])
    assertRun(next.run)
    last = next
  }
  return last
}
