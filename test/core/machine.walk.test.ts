/**
 * A random walk of the machine: any event in any state, true ones, stale ones and nonsense, over line, fan-out and join.
 * After every event the invariants must hold, and nobody may be paid twice.
 */
import { expect, test } from 'bun:test'
import { stepError } from '../../src/core/errors.ts'
import type { Effect, Event } from '../../src/core/events.ts'
import { fork, resume, timerAt, transition, wakeAt } from '../../src/core/machine.ts'
import { assertRun, attemptsOf, isEnded, type Output, type Run, type Step } from '../../src/core/run.ts'
import { DIAMOND, type Graph, LINE, runOf, seeded, uuid } from '../support/runs.ts'

const GRAPHS: Graph[] = [
  LINE,
  DIAMOND,
  { a: [], b: [], c: ['a', 'b'], d: ['c'], e: ['c'], f: ['c'] },
  { a: [], b: ['a'], c: ['a', 'b'], d: ['b'], e: ['c', 'd'] },
]
const OUTPUT: Output = { mediaId: uuid(9), mime: 'image/png', bytes: 3, sha256: 'ab', location: 'ab/9.png' }
const CODES = [
  'provider_rate_limited',
  'provider_overloaded',
  'network_error',
  'provider_error',
  'insufficient_credit',
  'content_rejected',
  'invalid_input',
  'provider_lost',
  'storage_unavailable',
  'output_fetch_failed',
] as const
const FAULTS = ['away', 'dead', 'dead', 'spoiled', 'spoiled', 'spoiled', 'final'] as const
const KINDS: Event['type'][] = [
  'run.woke',
  'step.routed',
  'step.unroutable',
  'step.deferred',
  'step.submitted',
  'step.unsent',
  'step.submit_refused',
  'step.submit_unknown',
  'step.not_found',
  'step.still_unknown',
  'job.progressed',
  'job.unreachable',
  'job.hinted',
  'job.succeeded',
  'job.failed',
  'job.cancel_settled',
  'media.kept',
  'media.keep_failed',
  'attempt.came_late',
]
/** What usually comes next, so that a walk gets somewhere. */
const NEXT: Partial<Record<Step['status'], Event['type'][]>> = {
  queued: ['step.routed'],
  waiting: ['step.routed', 'step.routed', 'step.deferred', 'run.woke'],
  submitting: [
    'step.submitted',
    'step.submitted',
    'step.submitted',
    'step.unsent',
    'step.submit_refused',
    'step.submit_unknown',
    'step.not_found',
    'job.succeeded',
  ],
  running: [
    'job.progressed',
    'job.progressed',
    'job.succeeded',
    'job.succeeded',
    'job.failed',
    'job.cancel_settled',
    'run.woke',
  ],
  keeping: ['media.kept', 'media.kept', 'media.kept', 'media.keep_failed', 'run.woke'],
}

type Draw = () => number
const pick = <T>(draw: Draw, list: readonly T[]): T => list[Math.floor(draw() * list.length)] as T

/** Any event at all; mostly for the live attempt, sometimes for a stale one or an unknown step. */
function anyEvent(run: Run, draw: Draw, at: number): Event {
  const step: Step = pick(draw, run.steps)
  const likely = NEXT[step.status]
  const common = likely && draw() < 0.9 ? pick(draw, likely) : pick(draw, KINDS)
  const type = draw() < 0.01 ? 'run.cancel_requested' : common
  const live = 'attempt' in step ? step.attempt.no : step.attempts.length
  const error = stepError(pick(draw, CODES), 'drawn by lot', draw() < 0.2 ? { retryAfterMs: 5_000 } : {})
  const base = {
    at,
    jitter: draw(),
    stepId: draw() < 0.01 ? 'nobody' : step.id,
    attempt: draw() < 0.05 ? live + 1 : draw() < 0.05 ? live - 1 : live,
  }
  const later = at + Math.floor(draw() * 60_000)
  const cost = draw() < 0.3 ? { costUsd: draw() } : {}
  switch (type) {
    case 'run.woke':
      return {
        type,
        at,
        jitter: base.jitter,
        ...(draw() < 0.1 ? { soundSince: at - Math.floor(draw() * 3_600_000) } : {}),
      }
    case 'run.cancel_requested':
      return { type, at, jitter: base.jitter }
    case 'step.routed':
      return {
        type,
        ...base,
        provider: pick(draw, ['p', 'q']),
        providerModel: 'm',
        token: `t${draw()}`,
        cost: { estimatedUsd: 0.1, actualUsd: null, basis: 'listed' },
        adjustments: [],
      }
    case 'step.unroutable':
      return { type, ...base, error }
    case 'step.deferred':
      return { type, ...base, until: later, error }
    case 'step.submitted':
      return { type, ...base, jobRef: { id: draw() }, pollAt: later, ...cost }
    case 'step.unsent':
      return { type, ...base }
    case 'job.hinted':
      return { type, ...base, jobRef: draw() < 0.5 ? null : { id: draw() } }
    case 'step.submit_refused':
      return { type, ...base, error }
    case 'step.submit_unknown':
      return { type, ...base, error, askAt: later }
    case 'step.not_found':
      return { type, ...base, isCertain: true }
    case 'step.still_unknown':
      return { type, ...base, askAt: draw() < 0.5 ? null : later, ...(draw() < 0.5 ? { soundSince: later } : {}) }
    case 'job.progressed':
      return { type, ...base, progress: draw() < 0.5 ? null : draw(), pollAt: later }
    case 'job.unreachable':
      return { type, ...base, error, pollAt: later }
    case 'job.succeeded':
      return { type, ...base, media: draw() < 0.03 ? [] : [{ url: 'https://x.example/1' }], ...cost }
    case 'job.failed':
      return { type, ...base, error, ...cost }
    case 'job.cancel_settled':
      return { type, ...base, outcome: pick(draw, ['unbegun', 'confirmed', 'unsupported', 'failed']) }
    case 'media.kept':
      return { type, ...base, outputs: [OUTPUT] }
    case 'media.keep_failed':
      return { type, ...base, error, fault: pick(draw, FAULTS), outputs: draw() < 0.1 ? [OUTPUT] : [] }
    case 'attempt.came_late':
      return {
        ...{ type, ...base, jobRef: { id: 'late' }, ...cost },
        ...(draw() < 0.5 ? { outputs: [OUTPUT], error: null } : { outputs: [], error }),
      }
  }
}

function checkTransition(before: Run, event: Event, submitted: Set<string>): Run {
  const frozen = JSON.stringify(before)
  const next = transition(before, event)
  expect(JSON.stringify(before)).toBe(frozen)
  assertRun(next.run)
  if (next.ignored !== undefined) {
    expect(next.run).toBe(before)
    expect(next.effects).toEqual([])
    return next.run
  }
  expect(next.durable ? next.run.revision : before.revision).toBe(
    next.durable ? before.revision + 1 : next.run.revision,
  )
  expect(next.events.map(line => line.seq)).toEqual(next.events.map((_, i) => before.lastSeq + 1 + i))
  expect(next.run.lastSeq).toBe(before.lastSeq + next.events.length)
  if (event.type === 'step.unsent') forgetUnsent(before, event, submitted)
  checkEffects(before, next.run, next.effects, next.durable || event.type === 'step.unsent', submitted)
  return next.run
}

/** Whoever says that a submit was not sent takes its order back; the intent must be there, and nobody in doubt about it. */
function forgetUnsent(before: Run, event: Event & { stepId: string; attempt: number }, submitted: Set<string>): void {
  const step = before.steps.find(each => each.id === event.stepId)
  expect(step).toMatchObject({ status: 'submitting', attempt: { no: event.attempt }, lookup: null })
  expect(submitted.delete(`${before.id}/${event.stepId}/${event.attempt}`)).toBe(true)
}

function checkEffects(
  before: Run,
  run: Run,
  effects: readonly Effect[],
  durable: boolean,
  submitted: Set<string>,
): void {
  for (const effect of effects) {
    const step = run.steps.find(each => each.id === effect.stepId)
    if (!step) throw new Error('an effect for nobody')
    if (effect.type === 'route') continue
    if (effect.type === 'submit') {
      // The intent is in the run that is committed before the call, and is ordered exactly once.
      expect(step.status).toBe('submitting')
      expect(durable).toBe(true)
      const key = `${run.id}/${effect.stepId}/${effect.attempt}`
      expect(submitted.has(key)).toBe(false)
      submitted.add(key)
      expect(run.cancelRequestedAt).toBeNull()
      const open = attemptsOf(step).filter(attempt => attempt.outcome === 'unknown' || attempt.outcome === 'succeeded')
      expect(open).toEqual([])
    }
  }
  for (const [i, step] of run.steps.entries()) {
    const was = before.steps[i] as Step
    expect(step.attempts.length).toBeGreaterThanOrEqual(was.attempts.length)
    // What has succeeded stays as it is; a late word of an earlier attempt is written beside it.
    if (was.status === 'succeeded')
      expect({ ...step, attempts: [], updatedAt: 0 }).toEqual({ ...was, attempts: [], updatedAt: 0 })
  }
}

const lateOf = (step: Step) => step.attempts.at(-1)?.lateResult

function checkWaiting(run: Run): void {
  // Nothing is forgotten: an open run either has something in flight, or a time that it waits for.
  if (isEnded(run)) {
    expect(wakeAt(run)).toBeNull()
    expect(resume(run)).toEqual([])
    return
  }
  expect(wakeAt(run)).not.toBeNull()
  expect(resume(run).length > 0 || timerAt(run) !== null).toBe(true)
  expect(resume(run).some(effect => effect.type === 'submit')).toBe(false)
}

test('after each of 120,000 random events every invariant holds and no attempt is submitted twice', () => {
  let events = 0
  const ends: Record<string, number> = {}
  let heir: Run | null = null
  let doubts = 0
  for (let seed = 1; events < 120_000; seed += 1) {
    const draw = seeded(seed)
    let run: Run = heir ?? runOf(pick(draw, GRAPHS), draw() < 0.1 ? { maxCostUsd: 0.35 } : {})
    let at = run.createdAt
    const submitted = new Set<string>()
    for (let i = 0; i < 400 && !isEnded(run); i += 1, events += 1) {
      at += Math.floor(draw() * (draw() < 0.01 ? 4_000_000 : 2_000))
      run = checkTransition(run, anyEvent(run, draw, at), submitted)
      checkWaiting(run)
    }
    ends[run.status] = (ends[run.status] ?? 0) + 1
    const again = fork(run, { id: uuid(77), stepIds: run.steps.map(step => `${step.id}-2`), at })
    if (again.ok) assertRun(again.run)
    // Nobody can tell of a submit: another is bought by who names the step, and not otherwise.
    const doubtful = run.steps.filter(step => step.attempts.at(-1)?.outcome === 'unknown' && !lateOf(step))
    doubts += doubtful.length
    expect(again.ok).toBe((run.status === 'failed' || run.status === 'canceled') && doubtful.length === 0)
    if (again.ok) checkWaiting(again.run)
    heir = again.ok && draw() < 0.4 ? again.run : null
  }
  // The walk is worth something only if it reaches every end.
  for (const status of ['succeeded', 'failed', 'canceled']) expect(ends[status]).toBeGreaterThan(20)
  expect(doubts).toBeGreaterThan(20)
}, 60_000)
