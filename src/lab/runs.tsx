/** All runs, newest first: filters in the address, pages by cursor, new ones announced and not thrust in. */
import { signal, useComputed } from '@preact/signals'
import type { VNode } from 'preact'
import { useEffect, useMemo } from 'preact/hooks'
import type { RunDto, RunListDto } from '../http/dto.ts'
import { untilAnswered } from './again.ts'
import { ApiFailure, api, local } from './api.ts'
import { chains } from './catalog.ts'
import { age, money, plural, shortId, span } from './format.ts'
import { elapsed, isOver } from './live.ts'
import { More } from './more.tsx'
import { go, isBack, place } from './nav.ts'
import { now, slowNow } from './now.ts'

const STATUSES = ['queued', 'running', 'succeeded', 'failed', 'canceled'] as const
const PAGE = 50
/** How often the top of the list is compared; only while somebody looks. */
const LOOK_MS = 3000
/** How many runs that left the newest page are asked for by id at each look: in turn, so that every one comes to it. */
const BY_ID = 8

interface Listed {
  query: string
  runs: readonly RunDto[]
  cursor: string | null
  /** Runs that came since, not yet shown. */
  news: readonly RunDto[]
}

const listed = signal<Listed | null>(null)
const failed = signal<ApiFailure | null>(null)

function queryOf(url: URL): string {
  const query = new URLSearchParams()
  for (const [name, value] of url.searchParams) if (['status', 'chain'].includes(name)) query.append(name, value)
  return query.toString()
}

/** What comes when the reader has gone on to another query is dropped. */
async function load(query: string, gone: AbortSignal, cursor: string | null = null): Promise<void> {
  const page = new URLSearchParams(query)
  page.set('limit', String(PAGE))
  if (cursor) page.set('cursor', cursor)
  const failing = (failure: ApiFailure) => {
    failed.value = failure
  }
  try {
    const list = await untilAnswered(() => api<RunListDto>('GET', `/api/v1/runs?${page}`, { signal: gone }), {
      gone,
      failing,
    })
    const before = cursor && listed.value?.query === query ? listed.value.runs : []
    listed.value = { query, runs: [...before, ...list.data], cursor: list.next_cursor, news: [] }
    failed.value = null
  } catch (error) {
    if (!gone.aborted && error instanceof ApiFailure) failing(error)
  }
}

/** Updates the runs that are shown and announces those that are not. */
async function look(query: string, turn: number): Promise<void> {
  const shown = listed.value
  if (shown?.query !== query || document.hidden) return
  const page = new URLSearchParams(query)
  page.set('limit', String(PAGE))
  const list = await api<RunListDto>('GET', `/api/v1/runs?${page}`).catch(() => null)
  if (!list) return
  const newest = new Set(list.data.map(run => run.id))
  const left = shown.runs.filter(run => !newest.has(run.id) && !isOver(run))
  const later = await Promise.all(
    inTurn(left, turn).map(run => api<RunDto>('GET', `/api/v1/runs/${run.id}`).catch(() => null)),
  )
  const current = listed.value
  if (current?.query !== query) return
  const fresh = new Map([...list.data, ...later.filter(run => run !== null)].map(run => [run.id, run]))
  const known = new Set(current.runs.map(run => run.id))
  const top = current.runs[0]?.created_at ?? ''
  listed.value = {
    ...current,
    runs: current.runs.map(run => changed(run, fresh.get(run.id))),
    news: list.data.filter(run => !known.has(run.id) && run.created_at >= top),
  }
}

function inTurn<T>(all: readonly T[], turn: number): readonly T[] {
  if (all.length <= BY_ID) return all
  const from = (turn * BY_ID) % all.length
  return [...all, ...all].slice(from, from + BY_ID)
}

/** A run that is as it was stays the object that it was. */
function changed(before: RunDto, now: RunDto | undefined): RunDto {
  return now && (now.updated_at !== before.updated_at || now.status !== before.status) ? now : before
}

export function Runs() {
  const query = queryOf(place.value)
  const left = useMemo(() => new AbortController(), [query])
  useEffect(() => {
    document.title = 'Runs · BabyChain Lab'
    if (listed.value?.query !== query) listed.value = null
    failed.value = null
    let turn = 0
    // Who comes back finds all that they had loaded, and their place in it.
    void (isBack && listed.value ? look(query, turn++) : load(query, left.signal))
    const timer = setInterval(() => void look(query, turn++), LOOK_MS)
    return () => {
      left.abort()
      clearInterval(timer)
    }
  }, [left])
  const list = listed.value
  return (
    <div class="listpage">
      <header class="page-head">
        <h1>Runs</h1>
        <Filters />
      </header>
      {failed.value && <p class="notice">{failed.value.message}</p>}
      {list && list.news.length > 0 && (
        <button type="button" class="pill" onClick={() => void load(query, left.signal)}>
          ↑ {plural(list.news.length, 'new run')}
        </button>
      )}
      {list?.runs.length === 0 && (
        <div class="empty">
          <p>{query ? 'No run fits these filters.' : 'Nothing has run yet.'}</p>
          <p>
            <a href="/">Compose the first chain</a>
          </p>
        </div>
      )}
      <ul class="runlist">{list?.runs.map(rowOf)}</ul>
      {list?.cursor && <More what="runs" load={() => load(query, left.signal, list.cursor)} />}
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
