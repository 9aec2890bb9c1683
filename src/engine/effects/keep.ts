/**
 * Copies the outputs of a job into our storage: what the provider made was paid, and its links live for minutes.
 *
 * 1. One that our storage refuses does not keep the others from being fetched: they are held too, while their links live.
 * 2. An output that came whole once is not asked for again.
 */
import { createHash } from 'node:crypto'
import { type StepError, stepError } from '../../core/errors.ts'
import type { AttemptSignal } from '../../core/events.ts'
import type { StepKind } from '../../core/model.ts'
import { type Kept, type Media, type Observer, type Provider, StorageUnavailable } from '../../core/ports.ts'
import type { Attempt, Output, ProviderMedia, Run, Step } from '../../core/run.ts'
import { isStashed } from '../modes.ts'
import type { OutputGate } from '../output-gate.ts'

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
  const outputs: Output[] = []
  let refusal: StepError | null = null
  try {
    for (const [i, each] of media.entries()) {
      const id = outputId(step.id, attempt.no, i)
      const copied: Download =
        (await deps.media.keepAgain(id, step.kind)) ??
        (await download(deps, attempt, { id, kind: step.kind, from: each }, signal))
      if (copied.ok) outputs.push(copied.output)
      else if (copied.error.code !== 'storage_unavailable')
        return failed(refusal ?? namingStorage(deps, step, copied.error), refusal === null && copied.expired)
      else {
        // The step shows it, and an operator must hear of it: the provider's links live for minutes.
        deps.gate.refused('keep', new StorageUnavailable(copied.error.message), { runId: run.id })
        refusal = copied.error
      }
    }
    if (refusal) return failed(refusal)
    deps.gate.stored()
    return { type: 'media.kept', outputs }
  } catch (error) {
    if (!signal.aborted) deps.observer.fault('keep', error, { runId: run.id, provider: attempt.provider })
    return failed(refusal ?? stepError('output_fetch_failed', 'the copy broke off'))
  } finally {
    unwatched()
  }
}

type Download = Extract<Kept, { ok: true }> | { ok: false; error: StepError; expired?: boolean }

async function download(
  { media, providers }: KeepDeps,
  { provider }: Attempt,
  { id, kind, from }: { id: string; kind: StepKind; from: ProviderMedia },
  signal: AbortSignal,
): Promise<Download> {
  const opened = isStashed(from) ? await media.openStash(from.url) : await providers.get(provider)?.open(from, signal)
  if (!opened) return { ok: false, error: stepError('output_fetch_failed', `${provider} is not configured any more`) }
  if (!opened.ok) return opened
  const { stream, length } = opened
  return media.keep({ id, kind, stream, mime: opened.mime ?? from.mime ?? null, length })
}

/** Whose output is lost should know that our own storage had its part in it. */
function namingStorage({ gate }: KeepDeps, step: Step, error: StepError): StepError {
  const why = gate.refusedSince(step.updatedAt)
  return why === null ? error : { ...error, message: `${error.message}; before, outputs could not be stored: ${why}` }
}

function failed(error: StepError, expired = false): Failed {
  return { type: 'media.keep_failed', error, expired }
}

/** The same output of the same attempt always has the same id, so that a copy begun twice is one file. */
function outputId(stepId: string, attempt: number, index: number): string {
  const hex = createHash('sha256').update(`${stepId}/${attempt}/${index}`).digest('hex')
  const variant = ((Number.parseInt(hex.slice(16, 17), 16) & 3) | 8).toString(16)
  return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-8${hex.slice(13, 16)}-${variant}${hex.slice(17, 20)}-${hex.slice(20, 32)}`
}
