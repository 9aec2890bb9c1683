/** All runs, newest first: filters in the address, pages by cursor, new ones announced and not thrust in. */
import { useComputed } from '@preact/signals'
import type { VNode } from 'preact'
import { useEffect } from 'preact/hooks'
import type { RunDto } from '../http/dto.ts'
import { local } from './api.ts'
import { chains } from './catalog.ts'
import { age, money, shortId, span } from './format.ts'
import { createList, useList } from './listed.ts'
import { elapsed, isOver } from './live.ts'
import { More, News } from './more.tsx'
import { go, place } from './nav.ts'
import { now, slowNow } from './now.ts'

const STATUSES = ['queued', 'running', 'succeeded', 'failed', 'canceled'] as const

const runs = createList<RunDto>('/api/v1/runs', run => !isOver(run))

function queryOf(url: URL): string {
  const query = new URLSearchParams()
  for (const [name, value] of url.searchParams) if (['status', 'chain'].includes(name)) query.append(name, value)
  return query.toString()
}

export function Runs() {
  const query = queryOf(place.value)
  const gone = useList(runs, query)
  useEffect(() => {
    document.title = 'Runs · BabyChain Lab'
  }, [])
  const list = runs.listed.value
  return (
    <div class="listpage">
      <header class="page-head">
        <h1>Runs</h1>
        <Filters />
      </header>
      {runs.failed.value && (
        <p class="notice" role="alert">
          {runs.failed.value.message}
        </p>
      )}
      <News count={list?.news.length ?? 0} one="new run" load={() => runs.load(query, gone)} />
      {list?.rows.length === 0 && (
        <div class="empty">
          <p>{query ? 'No run fits these filters.' : 'Nothing has run yet.'}</p>
          <p>
            <a href="/">Compose the first chain</a>
          </p>
        </div>
      )}
      <ul class="runlist">{list?.rows.map(rowOf)}</ul>
      {list?.cursor && <More what="runs" load={() => runs.load(query, gone, list.cursor)} />}
    </div>
  )
}

function Filters() {
  const params = place.value.searchParams
  const toggle = (name: string, value: string) => {
    const next = new URLSearchParams(params)
    const all = next.getAll(name)
    next.delete(name)
    const kept = all.includes(value) ? all.filter(each => each !== value) : name === 'chain' ? [value] : [...all, value]
    for (const each of kept) next.append(name, each)
    go(`/runs${next.size ? `?${next}` : ''}`, true)
  }
  const chip = (name: string, value: string) => (
    <button
      type="button"
      key={value}
      class={`chip ${value}`}
      aria-pressed={params.getAll(name).includes(value)}
      onClick={() => toggle(name, value)}
    >
      {value}
    </button>
  )
  return (
    <div class="filters">
      <fieldset aria-label="Status">{STATUSES.map(status => chip('status', status))}</fieldset>
      <fieldset aria-label="Chain">{chains.value.map(chain => chip('chain', chain.slug))}</fieldset>
    </div>
  )
}

/**
 * The row of a run that has not changed is the very same one, which Preact does not look into: of ten thousand rows a new
 * page or a changed run draws only what is new.
 */
const rows = new WeakMap<RunDto, VNode>()

function rowOf(run: RunDto): VNode {
  const row = rows.get(run) ?? <RunRow key={run.id} run={run} />
  rows.set(run, row)
  return row
}

/** A text that changes by itself, without its row. */
function Age({ at }: { at: string }) {
  const text = useComputed(() => age(at, slowNow.value))
  return <time dateTime={at}>{text}</time>
}

function RunRow({ run }: { run: RunDto }) {
  const outputs = run.steps.flatMap(step => step.outputs ?? [])
  const picture = outputs.find(output => output.available && output.mime.startsWith('image/'))
  const took = elapsed(run, now)
  return (
    <li class={run.status}>
      <a href={`/runs/${run.id}`}>
        <span class="thumb">{picture && <img src={local(picture.url)} alt="" loading="lazy" decoding="async" />}</span>
        <span class="what">
          <b>{run.chain_slug}</b> <code>{shortId(run.id)}</code>
          <small>{run.steps.map(step => step.model_identifier.split('/')[1]).join(' → ')}</small>
        </span>
        <span class={`badge ${run.status}`}>{run.status}</span>
        <span
          class="stepbar"
          role="img"
          aria-label={run.steps.map(step => `${step.step_key} ${step.status}`).join(', ')}
        >
          {run.steps.map(step => (
            <i key={step.id} class={`${step.status} ${step.step_kind}`} />
          ))}
        </span>
        <span class="num">{span(took)}</span>
        <span class="num">{money(run.cost?.actual_usd ?? run.cost?.estimated_usd)}</span>
        <Age at={run.created_at} />
      </a>
    </li>
  )
}
