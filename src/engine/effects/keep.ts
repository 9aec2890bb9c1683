/**
 * Copies the outputs of a job into our storage: what the provider made was paid, and its links live for minutes.
 *
 * 1. One that cannot be had, or that our storage refuses, does not keep the others from being fetched while their links live.
 * 2. An output that came whole once is not asked for again.
 * 3. What lies beside the output (the first frame of a film, a film beside a picture) is passed over.
 */
import { createHash } from 'node:crypto'
import { type StepError, stepError } from '../../core/errors.ts'
import type { AttemptSignal, KeepFault } from '../../core/events.ts'
import type { StepKind } from '../../core/model.ts'
import {
  type Kept,
  type Media,
  type Observer,
  type Opened,
  type Provider,
  StorageUnavailable,
} from '../../core/ports.ts'
import type { Attempt, Output, ProviderMedia, Run, Step } from '../../core/run.ts'
import { isStashed } from '../modes.ts'
import type { OutputGate } from '../output-gate.ts'
import { scopeOf } from './scope.ts'

interface KeepDeps {
  providers: ReadonlyMap<string, Provider>
  media: Media
  observer: Observer
  gate: Pick<OutputGate, 'stored' | 'refused' | 'refusedSince' | 'lookIfSlow'>
}

type Copied = { type: 'media.kept'; outputs: Output[] } | Failed
type Failed = Omit<AttemptSignal & { type: 'media.keep_failed' }, 'stepId' | 'attempt'>

export async function keepOutputs(
  deps: KeepDeps,
  run: Run,
  step: Step,
  attempt: Attempt,
  media: readonly ProviderMedia[],
  signal: AbortSignal,
): Promise<Copied> {
  const unwatched = deps.gate.lookIfSlow()
  const before = step.status === 'keeping' ? (step.trouble?.kept ?? []) : []
  const outputs: Output[] = []
  let lost: Lost | null = null
  try {
    for (const [i, from] of media.entries()) {
      const id = outputId(step.id, attempt.no, i)
      const there = before.find(each => each.mediaId === id)
      const copied: Download = there
        ? { ok: true, output: there }
        : await copy(deps, attempt, { id, kind: step.kind, from }, signal)
      if (copied.ok) outputs.push(copied.output)
      else lost = patient(lost, copied)
      // The step shows it, and an operator must hear of it: the provider's links live for minutes.
      if (isRefusal(copied))
        deps.gate.refused('keep', new StorageUnavailable(copied.error.message), scopeOf(run, step, attempt))
    }
    if (lost && (lost.fault !== 'final' || outputs.length === 0)) return failed(deps, step, lost, outputs)
    deps.gate.stored()
    return { type: 'media.kept', outputs }
  } catch (error) {
    if (!signal.aborted) deps.observer.fault('keep', error, scopeOf(run, step, attempt))
    const broken = { error: stepError('output_fetch_failed', 'the copy broke off'), fault: 'spoiled' } as const
    return failed(deps, step, patient(lost, broken), outputs)
  } finally {
    unwatched()
  }
}

interface Lost {
  error: StepError
  fault: KeepFault
}
type Download = Extract<Kept, { ok: true }> | ({ ok: false } & Lost)

/** Of several outputs, the one that is worth the longest wait decides what is done next; one that is final holds nobody up. */
const PATIENCE: Record<KeepFault, number> = { away: 3, dead: 2, spoiled: 1, final: 0 }
const patient = (a: Lost | null, b: Lost): Lost => (a && PATIENCE[a.fault] >= PATIENCE[b.fault] ? a : b)

const isRefusal = (copied: Download): copied is Extract<Download, { ok: false }> =>
  !copied.ok && copied.error.code === 'storage_unavailable'

async function copy(
  { media, providers }: KeepDeps,
  { provider }: Attempt,
  { id, kind, from }: { id: string; kind: StepKind; from: ProviderMedia },
  signal: AbortSignal,
): Promise<Download> {
  const inHand = await media.keepAgain(id, kind)
  if (inHand) return inHand.ok ? inHand : { ...inHand, fault: 'away' }
  const opened = isStashed(from) ? await media.openStash(from.url) : await providers.get(provider)?.open(from, signal)
  if (!opened) {
    const error = stepError('output_fetch_failed', `${provider} is not configured any more`)
    return { ok: false, error, fault: 'away' }
  }
  if (!opened.ok) return { ok: false, error: opened.error, fault: faultOf(opened) }
  const { stream, length } = opened
  const kept = await media.keep({ id, kind, stream, mime: opened.mime ?? from.mime ?? null, length })
  if (kept.ok) return kept
  if (kept.error.code === 'storage_unavailable') return { ...kept, fault: 'away' }
  return { ...kept, fault: kept.error.retryable && !isStashed(from) ? 'spoiled' : 'final' }
}

/** Busy and slow hosts get better; what else a host answers in place of the file says that the link is no good. */
function faultOf({ error, expired }: Extract<Opened, { ok: false }>): KeepFault {
  if (!error.retryable) return 'final'
  const { httpStatus } = error
  const isAnswer = httpStatus !== undefined && httpStatus < 500
  return expired || (isAnswer && !PASSING.has(httpStatus)) ? 'dead' : 'away'
}
const PASSING: ReadonlySet<number> = new Set([408, 425, 429])

/** Whose output is lost should know that our own storage had its part in it. */
function namingStorage({ gate }: KeepDeps, step: Step, error: StepError): StepError {
  const why = gate.refusedSince(step.updatedAt)
  return why === null ? error : { ...error, message: `${error.message}; before, outputs could not be stored: ${why}` }
}

function failed(deps: KeepDeps, step: Step, { error, fault }: Lost, outputs: Output[]): Failed {
  const told = error.code === 'storage_unavailable' ? error : namingStorage(deps, step, error)
  return { type: 'media.keep_failed', error: told, fault, outputs }
}

/** The same output of the same attempt always has the same id, so that a copy begun twice is one file. */
function outputId(stepId: string, attempt: number, index: number): string {
  const hex = createHash('sha256').update(`${stepId}/${attempt}/${index}`).digest('hex')
  const variant = ((Number.parseInt(hex.slice(16, 17), 16) & 3) | 8).toString(16)
  return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-8${hex.slice(13, 16)}-${variant}${hex.slice(17, 20)}-${hex.slice(20, 32)}`
}
