/**
 * The terminal callback: one message with the run as GET shows it, and what the backend did for it.
 *
 * 1. Its bytes are made once, when the run ends, and never again: every attempt sends the same.
 * 2. It never exceeds `MOST_BYTES`, whatever the run holds. Details go first, then the input. What lacks anything says so
 *    (`truncated`) and names where the whole run is. A delivery never fails for its size.
 */
import { attemptsOf, type Run } from '../../core/run.ts'
import type { BackendMetadataDto, RunDto } from '../dto.ts'
import { presentRun, sumOf, type View } from './run.ts'
import { iso } from './time.ts'

/** Receivers commonly refuse bodies above 64 KiB to 256 KiB. */
const MOST_BYTES = 64 * 1024

export interface CallbackView extends View {
  /** Where the whole run is, for messages that had to leave something out. */
  runUrl: string
}

/** The type and the exact body of the callback of an ended run. */
export function presentCallback(run: Run, view: CallbackView): { type: string; body: Uint8Array } {
  const type = `run.${run.status}`
  const whole = { ...presentRun(run, view), backend_metadata: presentBackend(run) }
  const bodyOf = (data: object): Uint8Array =>
    new TextEncoder().encode(JSON.stringify({ type, timestamp: iso(run.updatedAt), data }))
  const body = bodyOf(whole)
  if (body.length <= MOST_BYTES) return { type, body }
  for (const shorten of SHORTER) {
    const shorter = bodyOf({ ...shorten(whole), truncated: true, url: view.runUrl })
    if (shorter.length <= MOST_BYTES) return { type, body: shorter }
  }
  throw new Error(`the callback of run ${run.id} cannot be made small enough`)
}

/** The exact body of a test message: signed and sent as a callback is, about no run. */
export function presentPing(apiKeyId: string, at: number): Uint8Array {
  const message = { type: 'webhook.ping', timestamp: iso(at), data: { api_key_id: apiKeyId } }
  return new TextEncoder().encode(JSON.stringify(message))
}

type Whole = RunDto & { backend_metadata: BackendMetadataDto }

/** From a message without details to one whose size does not depend on the run's content. */
const SHORTER: readonly ((run: Whole) => object)[] = [
  run => ({ ...run, steps: run.steps.map(({ attempts: _, outputs: __, ...step }) => step) }),
  bare,
  run => {
    const { metadata: _, webhook_url: __, ...rest } = bare(run)
    return rest
  },
  ({ id, object, status, created_at, updated_at }) => ({ id, object, status, created_at, updated_at }),
]

/** Without the input and without the words of errors; with the links to the outputs. */
function bare(run: Whole) {
  const { input: _, error, provider_order: __, ...rest } = run
  const steps = run.steps.map(({ id, step_index, step_key, step_kind, model_identifier, status, ...step }) => {
    const files = step.generation_output_file
    const outputs = files ? { generation_output_file: files } : {}
    return { id, step_index, step_key, step_kind, model_identifier, status, ...outputs }
  })
  return { ...rest, error: error && { code: error.code, retryable: error.retryable }, steps }
}

function presentBackend(run: Run): BackendMetadataDto {
  const own = run.steps.filter(step => !step.inherited)
  const attempts = own.flatMap(attemptsOf)
  return {
    mode: run.mode,
    providers_used: [...new Set(run.steps.flatMap(step => attemptsOf(step).map(attempt => attempt.provider)))],
    attempts: attempts.length,
    duration_ms: run.updatedAt - run.createdAt,
    steps: run.steps.map(step => ({
      step_key: step.key,
      provider: attemptsOf(step).at(-1)?.provider ?? null,
      attempts: attemptsOf(step).length,
      duration_ms: step.startedAt === null || step.completedAt === null ? null : step.completedAt - step.startedAt,
      cost: sumOf(attemptsOf(step)),
    })),
    cost: sumOf(attempts),
  }
}
