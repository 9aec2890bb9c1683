/** One run: what it does now, its cards, what went wrong and what helps, how time was spent, every event, its code. */
import type { ComponentChildren } from 'preact'
import { useEffect, useMemo } from 'preact/hooks'
import type { FailureDto, ResumeRunDto, RunDto, StepDto } from '../http/dto.ts'
import { untilAnswered } from './again.ts'
import { type ApiFailure, api } from './api.ts'
import { CallbackPane } from './callback-pane.tsx'
import { loadCatalog } from './catalog.ts'
import { CodePanel, Copy } from './code.tsx'
import { composeFrom } from './draft.ts'
import { EventLog } from './event-log.tsx'
import { age, money, plural, roleName, shortId, span } from './format.ts'
import { elapsed, isOver, type LiveRun, watchRun } from './live.ts'
import { helpsMending, Mend, mendable } from './mend.tsx'
import { go, place } from './nav.ts'
import { now } from './now.ts'
import { Order } from './order-button.tsx'
import { order } from './orders.ts'
import { finished, isRemoved, sentence, startsOver } from './sentence.ts'
import { Strip } from './strip.tsx'
import { Attempts, Timeline } from './timeline.tsx'

/** A run that this page has just made is shown at once, before it is asked for; later it would not be true. */
const fresh = new Map<string, RunDto>()

/** Shows it to who is still where they ordered it; who has gone elsewhere is left there. */
export function handOver(run: RunDto, from: URL): void {
  if (place.value.pathname !== from.pathname) return
  fresh.set(run.id, run)
  go(`/runs/${run.id}`)
}

/** The newest line to a run, for the status bar. */
export function RunPage({ id, onLine }: { id: string; onLine(live: LiveRun | null): void }) {
  const live = useMemo(() => watchRun(id, fresh.get(id) ?? null), [id])
  useEffect(() => {
    fresh.delete(id)
    onLine(live)
    document.title = `Run ${shortId(id)} · BabyChain Lab`
    return () => {
      live.close()
      onLine(null)
    }
  }, [live])
  const run = live.run.value
  if (!run) return <NotYet failure={live.failure.value} />
  const tally = new Set(run.steps.map(step => step.status))
  return (
    <div class={`runpage is-${run.status}`} data-run={run.id} data-status={run.status}>
      <header class="run-head">
        <div>
          <p class="crumb">
            <a href="/runs">runs</a> / <code>{run.id}</code> <Copy text={run.id} label="copy id" />
          </p>
          <h1>
            <span class={`badge large ${run.status}`}>{run.status}</span> <Sentence run={run} />
          </h1>
        </div>
        <Actions run={run} live={live} />
        <Told run={run} />
      </header>
      {live.failure.value && <Behind failure={live.failure.value} over={isOver(run)} />}
      {run.error && <Trouble run={run} failure={run.error} />}
      <Strip run={run} />
      <div class="columns">
        <div>
          <Timeline run={run} />
          {tally.size > 0 && <Attempts run={run} />}
          <EventLog events={live.events.value} run={run} />
        </div>
        <div>
          <Facts run={run} />
          <CallbackPane run={run} refresh={live.refresh} />
          <CodePanel
            topics={[
              { title: 'get', subject: { does: 'get', runId: run.id } },
              { title: 'watch', subject: { does: 'watch', runId: run.id } },
              { title: 'cancel', subject: { does: 'cancel', runId: run.id } },
              { title: 'verify', subject: { does: 'verify' } },
            ]}
          />
          <RawJson run={run} />
        </div>
      </div>
    </div>
  )
}

/** On its own, so that a second more draws a sentence anew and not the page. */
function Sentence({ run }: { run: RunDto }) {
  return <span>{sentence(run, isOver(run) ? 0 : now.value)}</span>
}

/** For who does not see it: what begins and what ends, and not every second and percent of it. */
function Told({ run }: { run: RunDto }) {
  const step = run.steps.find(each => each.status === 'running')
  return (
    <span class="offscreen" role="status">
      {step ? `${roleName(step.step_key)} ${step.phase ?? 'running'}` : `run ${run.status}`}
    </span>
  )
}

/** Why the page does not show what is, and whether that mends itself. */
function Behind({ failure, over }: { failure: ApiFailure; over: boolean }) {
  if (!failure.passes)
    return (
      <p class="notice" role="alert">
        {over ? 'Live view ended' : 'Live view ended, the run has not'}: {failure.words}
      </p>
    )
  return (
    <p class="notice" role="status">
      {!over && 'Live view paused, the run is not. '}
      {failure.message} Trying again …
    </p>
  )
}

function NotYet({ failure }: { failure: ApiFailure | null }) {
  if (!failure) return <p class="dim loading">asking for the run …</p>
  return (
    <div class="empty">
      <h1>{failure.status === 404 ? 'There is no such run here.' : failure.message}</h1>
      {failure.passes && <p role="status">Trying again …</p>}
      <p>
        <a href="/runs">See all runs</a> or <a href="/">compose one</a>.
      </p>
    </div>
  )
}

/** The run is asked for again first: a webhook may have brought since what would be bought. */
async function resume({ id }: RunDto, changes?: ResumeRunDto): Promise<void> {
  const here = place.value
  const run = await api<RunDto>('GET', `/api/v1/runs/${id}`)
  const named = doubtful(run)
  const wanted = named ? { from_step_key: named.step_key, ...changes } : changes
  handOver(await order(`/api/v1/runs/${run.id}/resume`, wanted), here)
}

/** The step whose provider may have taken a job that nobody can find: another is bought only by name. */
function doubtful({ steps }: RunDto): StepDto | undefined {
  return steps.find(({ attempts }) => {
    const last = attempts.at(-1)
    return last?.outcome === 'unknown' && !last.late_result
  })
}

/** What has to be known before a resume buys past such a step. */
function doubtOf(run: RunDto): string | null {
  const step = doubtful(run)
  return step ? `buys another job: look first whether ${step.provider_used} has the lost one` : null
}

/** A request is read by its chain. Who has gone elsewhere before the chains came is left where they are. */
async function change(run: RunDto): Promise<void> {
  const here = place.value
  await untilAnswered(loadCatalog)
  if (place.value !== here) return
  composeFrom(run)
  go('/')
}

function Actions({ run, live }: { run: RunDto; live: LiveRun }) {
  const cancel = async () => {
    live.run.value = await api<RunDto>('POST', `/api/v1/runs/${run.id}/cancel`)
  }
  return (
    <div class="actions">
      {!isOver(run) && <Order act={cancel}>{run.cancel_requested_at ? 'Canceling …' : 'Cancel'}</Order>}
      {run.status === 'canceled' && !isRemoved(run) && (
        <Order act={() => resume(run)} primary note={doubtOf(run)}>
          Resume
        </Order>
      )}
      <Order act={() => change(run)} note={isCutShort(run) && !isForChange(run) ? startsOver(run) : null}>
        Run again with changes
      </Order>
    </div>
  )
}

const BLAME: Readonly<Record<FailureDto['blame'], string>> = {
  caller: 'Your turn',
  provider: 'The provider’s doing',
  network: 'The network’s doing',
  us: 'Our fault',
}

/** What the same request meets again, unless something was mended meanwhile. */
const FOR_CHANGE: ReadonlySet<string> = new Set(['invalid_input', 'content_rejected', 'input_fetch_failed', 'no_route'])
/** Of these, what is mended without another request: a provider is configured, a picture is there again. */
const MENDED_OUTSIDE: ReadonlySet<string> = new Set(['input_fetch_failed', 'no_route'])

const isCutShort = ({ status }: RunDto): boolean => status === 'failed' || status === 'canceled'
const isForChange = ({ status, error }: RunDto): boolean => status === 'failed' && FOR_CHANGE.has(error?.code ?? '')

/** Whether going on with the same parameters may help: content may pass the second time, wrong input never does. */
function isForResume(run: RunDto, { code }: FailureDto): boolean {
  if (isRemoved(run)) return false
  if (!FOR_CHANGE.has(code) || MENDED_OUTSIDE.has(code)) return true
  return code === 'content_rejected' && finished(run) !== null
}

/** What went wrong, whose turn it is, and what helps: first what costs less. */
function Trouble({ run, failure }: { run: RunDto; failure: FailureDto }) {
  if (run.status === 'canceled') return null
  const resumes = isForResume(run, failure)
  const broken = mendable(run)
  const mends = helpsMending(run)
  return (
    <section class="trouble pane" aria-label="What went wrong">
      <div>
        <p class="codes">
          <code>{failure.code}</code> <span>{BLAME[failure.blame]}</span>
          {failure.provider && <span class="dim">{failure.provider}</span>}
          {failure.http_status && <span class="dim">HTTP {failure.http_status}</span>}
        </p>
        <p class="message">{failure.message}</p>
        <p>{failure.hint}</p>
        {failure.provider_text && (
          // biome-ignore lint/a11y/noNoninteractiveTabindex: what scrolls must be reachable by keyboard
          <pre class="words" tabIndex={0}>
            {failure.provider_text}
          </pre>
        )}
        {broken && (
          <Mend key={run.id} run={run} step={broken} resume={changes => resume(run, changes)} note={doubtOf(run)} />
        )}
      </div>
      <p class="actions">
        {resumes && (
          <Order
            primary={!mends}
            act={() => resume(run)}
            note={mends ? 'with the parameters as they were' : doubtOf(run)}
          >
            Resume from {roleName(run.steps.find(step => step.status !== 'succeeded')?.step_key ?? 'there')}
          </Order>
        )}
        {(isForChange(run) || isRemoved(run)) && (
          <Order primary={!resumes && !mends} act={() => change(run)} note={startsOver(run)}>
            Change the request
          </Order>
        )}
      </p>
    </section>
  )
}

function Facts({ run }: { run: RunDto }) {
  const row = (name: string, value: ComponentChildren) => (
    <div key={name}>
      <dt>{name}</dt>
      <dd>{value}</dd>
    </div>
  )
  const attempts = run.steps.reduce((sum, step) => sum + step.attempts.length, 0)
  return (
    <section class="pane facts" aria-label="Facts">
      <header class="pane-head">
        <h2>facts</h2>
      </header>
      <dl>
        {row('chain', `${run.chain_slug} · ${run.chain_version}`)}
        {row('mode', run.mode)}
        {row('created', <time dateTime={run.created_at}>{age(run.created_at, now.value)}</time>)}
        {row('took', span(elapsed(run, now)))}
        {row('attempts', plural(attempts, 'attempt'))}
        {row(
          'cost',
          `${money(run.cost?.actual_usd)} actual · ${money(run.cost?.estimated_usd)} estimated${run.cost ? ` (${run.cost.basis.replace('_', ' ')})` : ''}`,
        )}
        {run.max_cost_usd !== null && row('limit', money(run.max_cost_usd))}
        {run.resumed_from && row('resumed from', <a href={`/runs/${run.resumed_from}`}>{shortId(run.resumed_from)}</a>)}
      </dl>
      {/* Its names are the caller's own, and may be those of the facts. */}
      {Object.keys(run.metadata).length > 0 && (
        <>
          <h3>metadata</h3>
          <dl>{Object.entries(run.metadata).map(([key, value]) => row(key, value))}</dl>
        </>
      )}
    </section>
  )
}

function RawJson({ run }: { run: RunDto }) {
  return (
    <details class="pane raw-json">
      <summary>the whole run as JSON</summary>
      {/* biome-ignore lint/a11y/noNoninteractiveTabindex: what scrolls must be reachable by keyboard */}
      <pre tabIndex={0}>{JSON.stringify(run, null, 2)}</pre>
    </details>
  )
}
