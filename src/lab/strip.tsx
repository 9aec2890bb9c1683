/**
 * A run as a strip of cards: each step with its state, its picture or film as soon as there is one, and the wires on
 * which an output travels into the next card.
 */
import type { OutputDto, RunDto, StepDto } from '../http/dto.ts'
import { local } from './api.ts'
import { money, roleName, span } from './format.ts'
import { now } from './now.ts'
import { moving, view } from './viewer.tsx'

export type WireState = 'idle' | 'armed' | 'travel' | 'done' | 'broken'

export function Wire({
  state,
  from,
  to,
  picture,
}: {
  state: WireState
  from: string
  to: string
  picture?: string | null
}) {
  return (
    <div class={`wire ${state} ${from}-${to}`} aria-hidden="true">
      <svg viewBox="0 0 64 24" preserveAspectRatio="none" aria-hidden="true">
        <path d="M0 12H64" />
      </svg>
      {picture && (state === 'travel' || state === 'done') ? <img src={picture} alt="" /> : <b>→</b>}
    </div>
  )
}

export function Strip({ run }: { run: RunDto }) {
  return (
    <div class="strip live" data-steps={run.steps.length}>
      {run.steps.map((step, i) => {
        const before = run.steps[i - 1]
        return (
          <>
            {before && (
              <Wire
                key={`w${step.id}`}
                state={wireState(before, step)}
                from={before.step_kind}
                to={step.step_kind}
                picture={before.outputs?.[0]?.available ? local(before.outputs[0].url) : null}
              />
            )}
            <LiveCard key={step.id} step={step} run={run} />
          </>
        )
      })}
    </div>
  )
}

function wireState(before: StepDto, after: StepDto): WireState {
  if (before.status === 'failed' || before.status === 'canceled' || before.status === 'skipped') return 'broken'
  if (before.status !== 'succeeded') return before.status === 'running' ? 'armed' : 'idle'
  return after.status === 'running' || after.status === 'queued' ? 'travel' : 'done'
}

function LiveCard({ step, run }: { step: StepDto; run: RunDto }) {
  const attempt = step.attempts.at(-1)
  const output = step.outputs?.[0]
  const state = step.status === 'running' ? (step.phase ?? 'running') : step.status
  return (
    <article
      class={`card pane ${step.step_kind} is-${step.status}`}
      aria-labelledby={`l-${step.id}`}
      data-step={step.step_key}
      data-state={state}
    >
      <header class="pane-head">
        <h2 id={`l-${step.id}`}>
          <span class="no">{String(step.step_index + 1).padStart(2, '0')}</span> {roleName(step.step_key)}
        </h2>
        <span class={`badge ${step.status}`}>{step.inherited ? 'taken over' : state}</span>
      </header>
      <p class="modelname">{step.model_identifier}</p>
      <Stage step={step} output={output} run={run} />
      <Progress step={step} />
      <footer class="card-foot">
        <span>{step.provider_used ?? 'no provider yet'}</span>
        {attempt && attempt.no > 1 && <span>attempt {attempt.no}</span>}
        <span>{step.started_at ? span(elapsed(step)) : '–'}</span>
        <span class="dim">{money(step.cost?.actual_usd ?? step.cost?.estimated_usd)}</span>
      </footer>
    </article>
  )
}

function elapsed(step: StepDto): number {
  const from = Date.parse(step.started_at ?? '')
  return (step.completed_at ? Date.parse(step.completed_at) : now.value) - from
}

function Stage({ step, output, run }: { step: StepDto; output: OutputDto | undefined; run: RunDto }) {
  if (output && !output.available)
    return (
      <div class={`stage ${step.status}`}>
        <span>removed after its retention</span>
      </div>
    )
  if (output)
    return (
      <Shown output={output} title={`${roleName(step.step_key)} · ${step.model_identifier}`} run={run} step={step} />
    )
  const input = step.status === 'running' ? step.generation_input_file?.[0] : undefined
  return (
    <div class={`stage ${step.status}`}>
      {input && <img class="ghost" src={local(input)} alt="" />}
      <span>{stageWord(step)}</span>
    </div>
  )
}

function stageWord(step: StepDto): string {
  switch (step.status) {
    case 'queued':
      return step.depends_on.length > 0 ? 'waits for its input' : 'queued'
    case 'failed':
      return step.error?.code ?? 'failed'
    case 'running':
      return { submitting: 'handing over', waiting: 'waiting', keeping: 'keeping the file', running: 'being made' }[
        step.phase ?? 'running'
      ]
    default:
      return step.status
  }
}

function Shown({ output, title, run, step }: { output: OutputDto; title: string; run: RunDto; step: StepDto }) {
  const src = local(output.url)
  // What does not fill its frame stands before a blur of itself, a film before the picture it came from.
  const ghost = output.mime.startsWith('image/') ? output.url : step.generation_input_file?.[0]
  return (
    <button
      type="button"
      class="stage full"
      aria-label={`Open ${roleName(step.step_key)} in the viewer`}
      onClick={() => view({ output, title, run, step })}
    >
      {ghost && <img class="ghost" src={local(ghost)} alt="" />}
      {output.mime.startsWith('video/') ? (
        <video src={src} muted {...moving()} playsInline preload="auto" />
      ) : (
        <img
          src={src}
          alt={`Output of ${roleName(step.step_key)}`}
          draggable
          onDragStart={event => event.dataTransfer?.setData('text/plain', `media:${output.media_id}`)}
        />
      )}
    </button>
  )
}

function Progress({ step }: { step: StepDto }) {
  if (step.status === 'running' && step.phase === 'waiting' && step.retry_at) {
    const left = Date.parse(step.retry_at) - now.value
    return (
      <p class="note">
        {step.error?.message ?? 'waits'} · {left > 0 ? `again in ${span(left)}` : 'again now'}
      </p>
    )
  }
  const known = step.progress !== null && step.status === 'running'
  const share = step.status === 'succeeded' ? 1 : (step.progress ?? 0)
  return (
    <div
      class={`bar ${step.status}${step.status === 'running' && !known ? ' unknown' : ''}`}
      role="progressbar"
      aria-label={`Progress of ${roleName(step.step_key)}`}
      aria-valuemin={0}
      aria-valuemax={100}
      aria-valuenow={known || step.status === 'succeeded' ? Math.round(share * 100) : undefined}
    >
      <svg viewBox="0 0 100 4" preserveAspectRatio="none" aria-hidden="true">
        <rect width={step.status === 'running' && !known ? 30 : share * 100} height="4" />
      </svg>
    </div>
  )
}
