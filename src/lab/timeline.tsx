/** How a run spent its time: a row a step, a segment an attempt and what it did, the callback as the last row. */
import type { AttemptDto, RunDto, StepDto } from '../http/dto.ts'
import { money, roleName, span } from './format.ts'
import { elapsed } from './live.ts'
import { now } from './now.ts'

interface Segment {
  from: number
  to: number
  kind: 'wait' | 'submit' | 'make' | 'keep' | 'failed' | 'callback'
  title: string
}

const ms = (iso: string | null | undefined): number | null => (iso ? Date.parse(iso) : null)

function segmentsOf(step: StepDto, until: number): Segment[] {
  let end = ms(step.started_at)
  const segments: Segment[] = []
  for (const attempt of step.attempts) {
    const began = Date.parse(attempt.started_at)
    if (end !== null && began - end > 50) segments.push({ from: end, to: began, kind: 'wait', title: 'waiting' })
    segments.push(...partsOf(attempt, until))
    end = ms(attempt.ended_at) ?? until
  }
  const done = ms(step.completed_at) ?? (step.phase === 'keeping' || step.phase === 'waiting' ? until : null)
  if (end !== null && done !== null && done - end > 5)
    segments.push({ from: end, to: done, kind: step.phase === 'waiting' ? 'wait' : 'keep', title: 'keeping the files' })
  return segments
}

function partsOf(attempt: AttemptDto, until: number): Segment[] {
  const began = Date.parse(attempt.started_at)
  const taken = ms(attempt.submitted_at)
  const ended = ms(attempt.ended_at) ?? until
  const name = `attempt ${attempt.no} at ${attempt.provider}`
  const kind = attempt.outcome === 'failed' || attempt.outcome === 'unknown' ? 'failed' : 'make'
  if (taken === null)
    return [{ from: began, to: ended, kind: kind === 'failed' ? 'failed' : 'submit', title: `${name}, handing over` }]
  return [
    { from: began, to: taken, kind: 'submit', title: `${name}, handing over` },
    { from: taken, to: ended, kind, title: `${name}, being made` },
  ]
}

export function Timeline({ run }: { run: RunDto }) {
  const from = Date.parse(run.created_at)
  const delivered = ms(run.callback?.delivered_at)
  const last = from + elapsed(run, now)
  // A callback that was sent again days later must not make slivers of the steps: its bar ends where the picture does.
  const to = Math.max(last, Math.min(delivered ?? 0, 2 * last - from), from + 1)
  const x = (time: number) => Math.max(0, Math.min(1000, ((time - from) / (to - from)) * 1000))
  const rows = run.steps.map(step => ({
    name: roleName(step.step_key),
    kind: step.step_kind,
    segments: segmentsOf(step, last),
    took: took(step),
  }))
  if (run.callback)
    rows.push({
      name: 'callback',
      kind: 'image',
      segments: [{ from: last, to: delivered ?? to, kind: 'callback', title: `callback, ${run.callback.status}` }],
      took: delivered ? span(delivered - last) : run.callback.status,
    })
  return (
    <section class="pane timeline" aria-label="Timeline">
      <header class="pane-head">
        <h2>timeline</h2>
        <span class="dim">{span(last - from)}</span>
      </header>
      <table>
        <thead class="offscreen">
          <tr>
            <th>step</th>
            <th>time</th>
            <th>took</th>
          </tr>
        </thead>
        <tbody>
          {rows.map(row => (
            <tr key={row.name}>
              <th scope="row">{row.name}</th>
              <td>
                <svg
                  viewBox="0 0 1000 14"
                  preserveAspectRatio="none"
                  role="img"
                  aria-label={
                    row.segments.map(part => `${part.title} ${span(part.to - part.from)}`).join(', ') || 'not started'
                  }
                >
                  <rect class="rail" x="0" y="6.5" width="1000" height="1" />
                  {row.segments.map(part => (
                    <rect
                      key={part.from + part.kind}
                      class={`seg ${part.kind} ${row.kind}`}
                      x={x(part.from)}
                      y={part.kind === 'wait' ? 5 : 1}
                      height={part.kind === 'wait' ? 4 : 12}
                      width={Math.max(4, x(part.to) - x(part.from))}
                    >
                      <title>{`${part.title}: ${span(part.to - part.from)}`}</title>
                    </rect>
                  ))}
                </svg>
              </td>
              <td class="num">{row.took}</td>
            </tr>
          ))}
        </tbody>
      </table>
      <p class="legend dim" aria-hidden="true">
        <i class="submit" /> handing over <i class="make" /> at the provider <i class="keep" /> keeping{' '}
        <i class="wait" /> waiting <i class="failed" /> failed
      </p>
    </section>
  )
}

function took(step: StepDto): string {
  const from = ms(step.started_at)
  if (step.inherited) return 'taken over'
  return from === null ? '–' : span((ms(step.completed_at) ?? now.value) - from)
}

export function Attempts({ run }: { run: RunDto }) {
  const rows = run.steps.flatMap(step => step.attempts.map(attempt => ({ step, attempt })))
  if (rows.length === 0) return null
  return (
    <section class="pane attempts" aria-label="Attempts">
      <header class="pane-head">
        <h2>attempts</h2>
        <span class="dim">{rows.length}</span>
      </header>
      <ul>
        {rows.map(({ step, attempt }) => (
          <li key={step.id + attempt.no}>
            <p>
              <span class={`badge ${attempt.outcome}`}>{attempt.outcome}</span>
              <b>
                {roleName(step.step_key)} #{attempt.no}
              </b>
              <span class="dim">
                {attempt.provider} · {attempt.provider_model}
              </span>
              <span class="num push">{span(attempt.duration_ms)}</span>
              <span class="num">{money(attempt.cost.actual_usd ?? attempt.cost.estimated_usd)}</span>
            </p>
            {attempt.error && (
              <p class="wrong">
                <code>{attempt.error.code}</code> {attempt.error.message}
                {attempt.error.provider_text && <q class="words">{attempt.error.provider_text}</q>}
              </p>
            )}
            {attempt.adjustments.map(change => (
              <p class="dim" key={change.pointer}>
                {change.pointer}: {JSON.stringify(change.from)} → {JSON.stringify(change.to)} ({change.reason})
              </p>
            ))}
            {attempt.job_ref !== null && (
              <p class="dim ref">
                job <code>{JSON.stringify(attempt.job_ref)}</code>
              </p>
            )}
          </li>
        ))}
      </ul>
    </section>
  )
}
