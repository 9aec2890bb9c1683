/**
 * Runs for tests of a Store: in every state, by hand and by chance, and the commits that bring them there.
 * Ids and times are counted, so that a failure reads the same each time.
 */

import fc from 'fast-check'
import type { Chain, PlannedStep } from '../../src/core/chain.ts'
import type { NewDelivery } from '../../src/core/delivery.ts'
import { stepError } from '../../src/core/errors.ts'
import type { JsonObject } from '../../src/core/json.ts'
import type { ApiKey, WebhookSecret } from '../../src/core/keys.ts'
import type { CreateCommit, RunCommit } from '../../src/core/ports.ts'
import {
  type Attempt,
  isEnded,
  newRun,
  type Output,
  type Run,
  type RunEvent,
  type RunEventType,
  type Step,
  type StepState,
} from '../../src/core/run.ts'

export const T0 = Date.UTC(2026, 10, 22, 12)

let ids = 0

/** A new UUID in the order of making, as UUIDv7 would be. */
export function nextId(): string {
  ids += 1
  return `019abcde-0000-7000-8000-${ids.toString(16).padStart(12, '0')}`
}

export interface RunWish {
  steps?: number
  at?: number
  apiKeyId?: string
  metadata?: Record<string, string>
  chain?: Chain
  callback?: string | null
  input?: JsonObject
  pictures?: readonly string[]
}

export function chainOf(slug: string, steps = 2, version = '2026-05-23'): Chain {
  const keys = Array.from({ length: steps }, (_, i) => `step_${i}`)
  return {
    slug,
    aliases: [`${slug}-alias`],
    version,
    title: `${steps} steps`,
    steps: keys.map((key, i) => ({
      key,
      role: i === 0 ? 'text_to_image' : 'image_to_image',
      dependsOn: i === 0 ? [] : [`step_${i - 1}`],
    })),
  }
}

/** A queued run of a line of steps. */
export function queuedRun(wish: RunWish = {}): Run {
  const { steps = 2, at = T0, callback = 'https://hooks.example.com/x' } = wish
  const chain = wish.chain ?? chainOf('line', steps)
  const { run } = newRun({
    id: nextId(),
    stepIds: chain.steps.map(nextId),
    slug: chain.slug,
    chain,
    mode: 'byok',
    input: wish.input ?? { chain_models: {}, step_0_params: { prompt: 'a “heron” – 🪶\u0000\n' } },
    metadata: wish.metadata ?? {},
    callback: callback === null ? null : { url: callback },
    apiKeyId: wish.apiKeyId ?? 'key_a',
    providerOrder: { step_0: ['bfl', 'fal'] },
    maxCostUsd: 1.25,
    steps: chain.steps.map(
      (step, index): PlannedStep => ({
        index,
        key: step.key,
        role: step.role,
        kind: 'image',
        model: 'test/model',
        params: { prompt: `${step.key} "quoted"`, seed: index, nested: [null, true, 0.1, { deep: 'ok' }] },
        dependsOn: step.dependsOn,
        pictures: index === 0 ? (wish.pictures ?? []) : [],
        pictureShapes: index === 0 ? (wish.pictures ?? []).map(() => [{ width: 40, height: 30 }]) : [],
        deadlineMs: 900_000,
      }),
    ),
    at,
  })
  return run
}

export function creation(run: Run, more: Partial<CreateCommit> = {}): CreateCommit {
  const events: RunEvent[] = Array.from({ length: run.lastSeq }, (_, i) => ({
    seq: i + 1,
    at: run.createdAt,
    type: i === 0 ? 'run.created' : 'step.progressed',
    stepKey: i === 0 ? null : 'step_0',
    data: i === 0 ? {} : { progress: 0.5 },
  }))
  return { run, events, wakeAt: run.createdAt, delivery: null, lease: null, idempotency: null, ...more }
}

export interface Turn {
  run?: Partial<Run>
  /** New steps by index. */
  steps?: Record<number, Step>
  events?: readonly (Pick<RunEvent, 'type'> & Partial<RunEvent>)[]
  wakeAt?: number | null
  delivery?: NewDelivery | null
  at?: number
}

/** The commit of a change: revision, numbers of events and wake time follow from it. */
export function turn(before: Run, change: Turn): RunCommit {
  const at = change.at ?? before.updatedAt + 1_000
  const events = (change.events ?? []).map(
    (event, i): RunEvent => ({ at, stepKey: null, data: {}, ...event, seq: before.lastSeq + 1 + i }),
  )
  const run: Run = {
    ...before,
    updatedAt: at,
    revision: before.revision + 1,
    lastSeq: before.lastSeq + events.length,
    steps: before.steps.map((step, i) => change.steps?.[i] ?? step),
    ...change.run,
  }
  const wakeAt = change.wakeAt !== undefined ? change.wakeAt : isEnded(run) ? null : at + 5_000
  const changed = Object.keys(change.steps ?? {}).map(i => before.steps[Number(i)]?.id ?? '')
  return { run, expected: before.revision, changed, events, wakeAt, delivery: change.delivery ?? null, lease: null }
}

/** The commit that brings a stored run to a state of which it has only the spec in common. */
export function leap(before: Run, after: Run): RunCommit {
  const events = [{ type: endEvent(after) ?? ('step.progressed' as RunEventType) }]
  const commit = turn(before, { events, at: after.updatedAt })
  const run: Run = { ...after, revision: commit.run.revision, lastSeq: commit.run.lastSeq }
  return { ...commit, run, changed: run.steps.map(step => step.id), wakeAt: isEnded(run) ? null : after.updatedAt }
}

function endEvent(run: Run): RunEventType | null {
  return isEnded(run) ? (`run.${run.status}` as RunEventType) : null
}

/** Ends a run as canceled, with its callback. */
export function cancelTurn(before: Run, delivery: NewDelivery | null = null): RunCommit {
  const at = before.updatedAt + 1_000
  const steps = Object.fromEntries(
    before.steps.map((step, i) => [i, inState({ ...step, completedAt: at }, { status: 'canceled' })]),
  )
  return turn(before, {
    at,
    run: { status: 'canceled', cancelRequestedAt: at },
    steps,
    events: [{ type: 'run.canceled' }],
    delivery,
  })
}

export function deliveryOf(run: Run, more: Partial<NewDelivery> = {}): NewDelivery {
  return {
    id: `msg_${nextId().replaceAll('-', '')}`,
    runId: run.id,
    apiKeyId: run.apiKeyId,
    type: 'run.canceled',
    url: 'https://hooks.example.com/x',
    host: 'hooks.example.com:443',
    body: new Uint8Array([0, 255, 123, 34, 10, 0]),
    dueAt: T0,
    createdAt: T0,
    ...more,
  }
}

export function apiKey(more: Partial<ApiKey> = {}): ApiKey {
  const id = nextId()
  return {
    ...{
      id: `key_${id}`,
      name: 'test',
      hash: `hash-${id}`,
      prefix: 'bck_live_ab12',
      last4: 'wxyz',
      scopes: ['runs:read'],
    },
    ...{ createdAt: T0, expiresAt: null, revokedAt: null, lastUsedAt: null, previous: null },
    ...{ ratePerMinute: null, maxRunning: null, maxQueued: null, dailyBudgetUsd: null },
    ...more,
  }
}

export function webhookSecret(apiKeyId: string, more: Partial<WebhookSecret> = {}): WebhookSecret {
  return {
    id: `sec_${nextId()}`,
    apiKeyId,
    sealed: new Uint8Array([1, 0, 255]),
    createdAt: T0,
    retiresAt: null,
    ...more,
  }
}

export function attempt(no: number, more: Partial<Attempt> = {}): Attempt {
  return {
    no,
    provider: 'bfl',
    providerModel: 'flux-2-flex',
    token: `token-${nextId()}`,
    startedAt: T0 + no,
    submittedAt: null,
    endedAt: null,
    outcome: 'pending',
    jobRef: null,
    error: null,
    cost: { estimatedUsd: 0.05, actualUsd: null, basis: 'listed' },
    adjustments: [],
    providerCancel: null,
    reopenAt: null,
    ...more,
  }
}

export function failedAttempt(no: number): Attempt {
  return attempt(no, {
    outcome: 'failed',
    endedAt: T0 + no + 100,
    submittedAt: T0 + no + 10,
    jobRef: { id: 'j', polling_url: 'https://api.bfl.ai/v1/get_result?id=j' },
    error: stepError('provider_overloaded', 'busy', { provider: 'bfl', httpStatus: 529, retryAfterMs: 1_500 }),
    cost: { estimatedUsd: 0.05, actualUsd: 0, basis: 'metered' },
    adjustments: [{ pointer: '/width', from: 1023, to: 1024, reason: 'multiples of 16' }],
    reopenAt: T0 + 60_000,
  })
}

export function output(more: Partial<Output> = {}): Output {
  return {
    mediaId: nextId(),
    mime: 'image/png',
    bytes: 12_345,
    sha256: 'ab'.repeat(32),
    width: 64,
    height: 48,
    location: 'ab/picture.png',
    ...more,
  }
}

/** The step in another state, with nothing left of the state before. */
export function inState(step: Step, state: StepState): Step {
  const { id, index, key, role, kind, model, params, dependsOn, pictures, pictureShapes, deadlineMs } = step
  const { createdAt, updatedAt, startedAt, completedAt, attempts, inherited } = step
  return {
    ...{ id, index, key, role, kind, model, params, dependsOn, pictures, pictureShapes, deadlineMs },
    ...{ createdAt, updatedAt, startedAt, completedAt, attempts, inherited },
    ...state,
  }
}

const ERROR = stepError('content_rejected', 'the provider refused', { provider: 'bfl', providerText: 'Moderated “x”' })

/** Every state of a step, as the first step of a run. `attempts` are those that are over. */
export function everyState(): { name: string; state: StepState; attempts: Attempt[] }[] {
  const live = (no: number) => attempt(no, { submittedAt: T0 + 20, jobRef: ['ref', 1, { a: null }] })
  const lookup = {
    since: T0,
    askAt: T0 + 9_000,
    tries: 2,
    error: stepError('outcome_unknown', 'reset', { provider: 'bfl' }),
  }
  const won = attempt(2, {
    outcome: 'succeeded',
    endedAt: T0 + 900,
    cost: { estimatedUsd: null, actualUsd: 0.1 + 0.2, basis: 'metered' },
  })
  return [
    { name: 'queued', state: { status: 'queued' }, attempts: [] },
    { name: 'submitting', state: { status: 'submitting', attempt: attempt(1), lookup: null }, attempts: [] },
    {
      name: 'submitting, unknown',
      state: { status: 'submitting', attempt: attempt(2), lookup },
      attempts: [failedAttempt(1)],
    },
    {
      name: 'running',
      state: { status: 'running', attempt: live(1), pollAt: T0 + 1_000, progress: 0.25 },
      attempts: [],
    },
    {
      name: 'running, canceled at the provider',
      state: {
        status: 'running',
        attempt: { ...live(2), providerCancel: 'unsupported' },
        pollAt: T0 + 1_000,
        progress: null,
      },
      attempts: [failedAttempt(1)],
    },
    { name: 'waiting', state: { status: 'waiting', retryAt: T0 + 60_000, error: ERROR }, attempts: [failedAttempt(1)] },
    { name: 'waiting without a try', state: { status: 'waiting', retryAt: T0, error: ERROR }, attempts: [] },
    {
      name: 'keeping',
      state: {
        status: 'keeping',
        attempt: live(1),
        media: [{ url: 'https://cdn.example.com/a.png', mime: 'image/png' }, { url: 'stash:token/1' }],
        keepAt: T0 + 5,
        trouble: { tries: 3, refreshes: 1, waits: 2, isStale: true, kept: [output()], error: ERROR },
      },
      attempts: [],
    },
    {
      name: 'succeeded',
      state: { status: 'succeeded', outputs: [output(), output({ seconds: 3.04 })] },
      attempts: [failedAttempt(1), won],
    },
    { name: 'failed', state: { status: 'failed', error: ERROR }, attempts: [failedAttempt(1)] },
    { name: 'failed before any try', state: { status: 'failed', error: ERROR }, attempts: [] },
    {
      name: 'canceled',
      state: { status: 'canceled' },
      attempts: [attempt(1, { outcome: 'canceled', endedAt: T0 + 5, providerCancel: 'confirmed' })],
    },
    { name: 'skipped', state: { status: 'skipped' }, attempts: [] },
  ]
}

/** A run whose step `at` is in a state, with success before it and what follows from it after. */
export function runAt(queued: Run, at: number, state: StepState, attempts: readonly Attempt[]): Run {
  const end = (step: Step): Step => ({ ...step, completedAt: T0 + 70_000 })
  const over = ['failed', 'canceled', 'skipped'].includes(state.status)
  const steps = queued.steps.map((step, i): Step => {
    const begun: Step = { ...step, startedAt: T0 + 1, updatedAt: T0 + 50_000 }
    if (i < at) return inState(end({ ...begun, attempts: [won(1)] }), { status: 'succeeded', outputs: [output()] })
    if (i > at)
      return over ? inState(end(step), { status: state.status === 'canceled' ? 'canceled' : 'skipped' }) : step
    const there = state.status === 'queued' ? step : { ...begun, attempts }
    return inState(over || state.status === 'succeeded' ? end(there) : there, state)
  })
  const succeeded = steps.every(step => step.status === 'succeeded')
  const failed = state.status === 'failed'
  const running = at > 0 || state.status !== 'queued'
  const status = succeeded ? 'succeeded' : failed ? 'failed' : over ? 'canceled' : running ? 'running' : 'queued'
  return {
    ...queued,
    steps,
    status,
    updatedAt: T0 + 70_000,
    cancelRequestedAt: over && !failed ? T0 + 60_000 : null,
    error: failed ? ERROR : null,
  }
}

function won(no: number): Attempt {
  return attempt(no, { outcome: 'succeeded', endedAt: T0 + 900, jobRef: 'job', submittedAt: T0 + 5 })
}

/** Any run that the core could make of a queued one. */
export function anyRun(): fc.Arbitrary<{ queued: Run; run: Run }> {
  const json = fc.jsonValue({ maxDepth: 3, noUnicodeString: false }).map(value => JSON.parse(JSON.stringify(value)))
  const time = fc.integer({ min: 0, max: 4_102_444_800_000 })
  const text = fc.string({ unit: 'binary', maxLength: 40 })
  const usd = fc.option(fc.double({ min: 0, max: 1e6, noNaN: true }).map(Math.abs), { nil: null })
  const error = fc
    .record({ message: text, retryAfterMs: time, providerText: text }, { requiredKeys: ['message'] })
    .map(({ message, ...more }) => stepError('provider_error', message, more))
  const facts = fc.record({
    ...{ submittedAt: fc.option(time, { nil: null }), reopenAt: fc.option(time, { nil: null }), jobRef: json },
    cost: fc.record({ estimatedUsd: usd, actualUsd: usd, basis: fc.constantFrom('metered', 'upper_bound', 'unknown') }),
    adjustments: fc.array(fc.record({ pointer: text, from: json, to: json, reason: text }), { maxLength: 2 }),
    providerCancel: fc.constantFrom(null, 'confirmed' as const, 'unsupported' as const, 'failed' as const),
  }) as fc.Arbitrary<Partial<Attempt>>
  const shape = fc.record({
    ...{ steps: fc.integer({ min: 1, max: 4 }), at: fc.nat(3), which: fc.nat(100), jobRef: json, time, error, facts },
    over: fc.array(facts, { maxLength: 3 }),
    metadata: fc.dictionary(fc.stringMatching(/^[a-z_]{1,10}$/), fc.string({ unit: 'grapheme', maxLength: 20 }), {
      maxKeys: 3,
    }),
    input: fc.dictionary(fc.string({ minLength: 1 }), json, { maxKeys: 4 }),
    progress: fc.option(fc.double({ min: 0, max: 1, noNaN: true }).map(Math.abs), { nil: null }),
  })
  return shape.map(wish => {
    const queued = queuedRun({ steps: wish.steps, metadata: wish.metadata, input: { chain_models: {}, ...wish.input } })
    const states = everyState()
    const chosen = states[wish.which % states.length]
    if (!chosen) throw new Error('no state')
    const attempts = wish.over.map((each, i) =>
      attempt(i + 1, { ...each, outcome: 'failed', endedAt: wish.time, error: wish.error }),
    )
    const live = attempt(attempts.length + 1, wish.facts)
    const state: StepState = 'attempt' in chosen.state ? { ...chosen.state, attempt: live } : chosen.state
    const moved: StepState =
      state.status === 'running'
        ? { ...state, attempt: { ...state.attempt, jobRef: wish.jobRef }, pollAt: wish.time, progress: wish.progress }
        : 'error' in state
          ? { ...state, error: wish.error }
          : state
    const run = runAt(queued, wish.at % wish.steps, moved, state.status === 'queued' ? [] : attempts)
    return { queued, run }
  })
}
