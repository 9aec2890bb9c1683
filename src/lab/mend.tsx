/**
 * The parameters of a failed step, changed where it failed: the run goes on with them, and what is finished is kept.
 *
 * 1. What is typed stays through a refusal, a reload and a sign-in, until the run goes on with it.
 * 2. The page has no rules of its own: the server says what is wrong, and it is shown where it stands.
 */
import { useSignal } from '@preact/signals'
import type { ComponentChildren } from 'preact'
import { useEffect, useMemo } from 'preact/hooks'
import type { ModelDto } from '../http/dto/catalog.ts'
import type { ResumeRunDto, RunDto, StepDto } from '../http/dto.ts'
import { untilAnswered } from './again.ts'
import { ApiFailure } from './api.ts'
import { detailOf, details } from './catalog.ts'
import { type Errors, Form } from './form.tsx'
import { roleName } from './format.ts'
import { unreadableWord } from './json-text.ts'
import { Order } from './order-button.tsx'
import { type Params, pictureField, type Schema } from './schema.ts'
import { finished, isRemoved } from './sentence.ts'

/** What other parameters mend. */
const MENDED_HERE: ReadonlySet<string> = new Set(['content_rejected', 'invalid_input', 'input_fetch_failed'])

/** The failed step, where a finished one is kept by going on from it; else nothing is saved by changing it here. */
export function mendable(run: RunDto): StepDto | null {
  if (run.status !== 'failed' || finished(run) === null || isRemoved(run)) return null
  return run.steps.find(step => step.status === 'failed') ?? null
}

/** Whether changing its parameters is the first thing to try. */
export function helpsMending(run: RunDto): boolean {
  return mendable(run) !== null && MENDED_HERE.has(run.error?.code ?? '')
}

interface Props {
  run: RunDto
  step: StepDto
  /** @throws ApiFailure */
  resume(changes: ResumeRunDto): Promise<void>
  /** What has to be known before it is pressed. */
  note: string | null
}

/** The form of the step, open where it is what helps. */
export function Mend({ run, step, resume, note }: Props) {
  const field = `${step.step_key}_params`
  const begun = useMemo(() => kept(run.id), [])
  const unfolded = useMemo(() => begun !== null || helpsMending(run), [])
  const opened = useSignal(unfolded)
  const params = useSignal<Params>(begun ?? (run.input as Record<string, Params>)[field] ?? {})
  const errors = useSignal<Errors>(new Map())
  const send = async () => {
    if (unreadableWord.value) throw new Error(unreadableWord.value)
    try {
      await resume({ input: { [field]: params.value } })
      keep(run.id, null)
    } catch (error) {
      if (error instanceof ApiFailure)
        errors.value = Map.groupBy(error.problem?.errors ?? [], each => each.pointer ?? '')
      throw error
    }
  }
  return (
    <details
      class={`mend ${step.step_kind}`}
      open={unfolded}
      onToggle={event => {
        opened.value ||= event.currentTarget.open
      }}
    >
      <summary>
        Change {roleName(step.step_key)}, keep the finished {finished(run)}
      </summary>
      {opened.value && (
        <WithModel id={step.model_identifier}>
          {model => (
            <>
              <Form
                schema={model.params_schema as Schema}
                value={params.value}
                pointer={`/input/${field}`}
                errors={errors.value}
                wired={wiredIn(step, model)}
                aside={null}
                set={next => {
                  params.value = next
                  keep(run.id, next)
                }}
              />
              <Order primary={helpsMending(run)} act={send} note={note}>
                Resume with these parameters
              </Order>
            </>
          )}
        </WithModel>
      )}
    </details>
  )
}

function wiredIn(step: StepDto, model: ModelDto) {
  const [before] = step.depends_on
  const field = pictureField(model)
  return before !== undefined && field !== null ? { field, from: roleName(before) } : null
}

function WithModel({ id, children }: { id: string; children(model: ModelDto): ComponentChildren }) {
  const failure = useSignal<string | null>(null)
  useEffect(() => {
    const gone = new AbortController()
    const failing = (error: ApiFailure) => {
      failure.value = error.message
    }
    untilAnswered(() => detailOf(id), { gone: gone.signal, failing }).catch(error => {
      if (!gone.signal.aborted) failure.value = error instanceof ApiFailure ? error.message : String(error)
    })
    return () => gone.abort()
  }, [id])
  const model = details.value.get(id)
  if (model) return children(model)
  return failure.value ? <p class="wrong">{failure.value}</p> : <p class="dim loading">loading its parameters …</p>
}

const KEPT = 'babychain.mend'

function kept(runId: string): Params | null {
  try {
    const { run, params } = JSON.parse(sessionStorage.getItem(KEPT) ?? '{}') as { run?: string; params?: Params }
    return run === runId && params !== undefined ? params : null
  } catch {
    return null
  }
}

function keep(run: string, params: Params | null): void {
  try {
    if (params) sessionStorage.setItem(KEPT, JSON.stringify({ run, params }))
    else sessionStorage.removeItem(KEPT)
  } catch {
    // No room: it is not there after a reload, and nothing else is lost.
  }
}
