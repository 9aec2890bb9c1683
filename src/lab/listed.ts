/**
 * A list by pages, newest first, that keeps up while somebody looks: what is shown changes in its place, and what came since
 * is announced and not thrust in, as it would put another row under the pointer.
 */
import { type ReadonlySignal, signal } from '@preact/signals'
import { useEffect, useMemo } from 'preact/hooks'
import { untilAnswered } from './again.ts'
import { ApiFailure, api } from './api.ts'
import { isBack } from './nav.ts'

const PAGE = 50
/** How often the top of the list is compared; only while somebody looks. */
const LOOK_MS = 3000
/** How many rows that left the newest page are asked for by id at each look: in turn, so that every one comes to it. */
const BY_ID = 8

export interface Row {
  id: string
  status: string
  created_at: string
  updated_at: string
  next_attempt_at?: string | null
}

interface Page<T> {
  data: readonly T[]
  next_cursor: string | null
}

interface Listed<T> {
  query: string
  rows: readonly T[]
  cursor: string | null
  /** Rows that came since, not yet shown. */
  news: readonly T[]
}

export interface List<T> {
  listed: ReadonlySignal<Listed<T> | null>
  failed: ReadonlySignal<ApiFailure | null>
  /** What this query asks for, whatever was there before. */
  begin(query: string): void
  load(query: string, gone: AbortSignal, cursor?: string | null): Promise<void>
  /** Updates what is shown, `id` in any case, and announces what is not. */
  look(query: string, id?: string): Promise<void>
}

/** The list of the resource at `path`; a row that `goesOn` may change although it has left the newest page. */
export function createList<T extends Row>(path: string, goesOn: (row: T) => boolean): List<T> {
  const listed = signal<Listed<T> | null>(null)
  const failed = signal<ApiFailure | null>(null)
  let turn = 0
  const newest = (query: string, cursor: string | null, gone?: AbortSignal) => {
    const page = new URLSearchParams(query)
    page.set('limit', String(PAGE))
    if (cursor) page.set('cursor', cursor)
    return api<Page<T>>('GET', `${path}?${page}`, gone ? { signal: gone } : {})
  }
  return {
    listed,
    failed,
    begin(query) {
      if (listed.value?.query !== query) listed.value = null
      failed.value = null
    },
    /** What comes when the reader has gone on to another query is dropped. */
    async load(query, gone, cursor = null) {
      const failing = (failure: ApiFailure) => {
        failed.value = failure
      }
      try {
        const list = await untilAnswered(() => newest(query, cursor, gone), { gone, failing })
        const before = cursor && listed.value?.query === query ? listed.value.rows : []
        listed.value = { query, rows: [...before, ...list.data], cursor: list.next_cursor, news: [] }
        failed.value = null
      } catch (error) {
        if (!gone.aborted && error instanceof ApiFailure) failing(error)
      }
    },
    async look(query, id) {
      const shown = listed.value
      if (shown?.query !== query || document.hidden) return
      const list = await newest(query, null).catch(() => null)
      if (!list) return
      const ids = new Set(list.data.map(row => row.id))
      const left = shown.rows.filter(row => !ids.has(row.id) && goesOn(row)).map(row => row.id)
      const asked = new Set([...inTurn(left, turn++), ...(id === undefined || ids.has(id) ? [] : [id])])
      const later = await Promise.all([...asked].map(each => api<T>('GET', `${path}/${each}`).catch(() => null)))
      const current = listed.value
      if (current?.query !== query) return
      const fresh = new Map([...list.data, ...later.filter(row => row !== null)].map(row => [row.id, row]))
      const known = new Set(current.rows.map(row => row.id))
      const top = current.rows[0]?.created_at ?? ''
      listed.value = {
        ...current,
        rows: current.rows.map(row => changed(row, fresh.get(row.id))),
        news: list.data.filter(row => !known.has(row.id) && row.created_at >= top),
      }
    },
  }
}

function inTurn<T>(all: readonly T[], turn: number): readonly T[] {
  if (all.length <= BY_ID) return all
  const from = (turn * BY_ID) % all.length
  return [...all, ...all].slice(from, from + BY_ID)
}

/** A row that is as it was stays the object that it was. */
function changed<T extends Row>(before: T, now: T | undefined): T {
  const isSame = (name: 'updated_at' | 'status' | 'next_attempt_at') => now?.[name] === before[name]
  return !now || (isSame('updated_at') && isSame('status') && isSame('next_attempt_at')) ? before : now
}

/** Keeps the list up with this query, for as long as the page shows it; what it gives ends the asking when it goes. */
export function useList<T extends Row>(list: List<T>, query: string): AbortSignal {
  const left = useMemo(() => new AbortController(), [query])
  useEffect(() => {
    list.begin(query)
    // Who comes back finds all that they had loaded, and their place in it.
    void (isBack && list.listed.value ? list.look(query) : list.load(query, left.signal))
    const timer = setInterval(() => void list.look(query), LOOK_MS)
    return () => {
      left.abort()
      clearInterval(timer)
    }
  }, [left])
  return left.signal
}
