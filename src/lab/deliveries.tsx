/** Every callback: filters in the address, attempts, resend, recover after an outage, a test ping. */
import { signal, useSignal } from '@preact/signals'
import { useEffect, useMemo } from 'preact/hooks'
import type { DeliveryDto } from '../http/dto/deliveries.ts'
import { untilAnswered } from './again.ts'
import { ApiFailure, session } from './api.ts'
import { DeliveryLog } from './callback-pane.tsx'
import { deliveries, deliveryOf, ping, recover } from './delivery.ts'
import { age, plural, shortId, span } from './format.ts'
import { More } from './more.tsx'
import { go, place } from './nav.ts'
import { now, slowNow } from './now.ts'

const STATUSES = ['pending', 'delivered', 'exhausted', 'gone']
const shown = signal<readonly DeliveryDto[] | null>(null)
const cursor = signal<string | null>(null)
const failure = signal<ApiFailure | null>(null)

/** What comes when the reader has gone on to another query is dropped. */
async function load(query: string, gone: AbortSignal, after: string | null = null): Promise<void> {
  const page = new URLSearchParams(query)
  if (after) page.set('cursor', after)
  const failing = (problem: ApiFailure) => {
    failure.value = problem
  }
  try {
    const list = await untilAnswered(() => deliveries(page.toString(), gone), { gone, failing })
    shown.value = after ? [...(shown.value ?? []), ...list.data] : list.data
    cursor.value = list.next_cursor
    failure.value = null
  } catch (error) {
    if (!gone.aborted && error instanceof ApiFailure) failing(error)
  }
}

const FOLLOW_MS = 2_000
/** Pending ones that are asked for again at a time; a page of failing ones must not use up the key's rate. */
const FOLLOWED = 5

/** What is on its way comes to its end while somebody looks: those that are due, the newest first. */
async function follow(gone: AbortSignal): Promise<void> {
  if (document.hidden) return
  const isDue = ({ status, next_attempt_at }: DeliveryDto) =>
    status === 'pending' && Date.parse(next_attempt_at ?? '') <= Date.now()
  const due = shown.value?.filter(isDue).slice(0, FOLLOWED) ?? []
  const found = await Promise.all(due.map(({ id }) => deliveryOf(id).catch(() => null)))
  if (gone.aborted || found.length === 0) return
  shown.value = shown.value?.map(each => found.find(fresh => fresh?.id === each.id) ?? each) ?? null
}

/** On its own, so that a second more does not draw the list anew. */
function Next({ at }: { at: string }) {
  const left = Date.parse(at) - now.value
  return <>{left > 0 ? `, next in ${span(left)}` : ', being sent'}</>
}

export function Deliveries() {
  const params = place.value.searchParams
  const query = params.toString()
  const left = useMemo(() => new AbortController(), [query])
  const reload = () => void load(query, left.signal)
  useEffect(() => {
    document.title = 'Deliveries · BabyChain Lab'
    shown.value = null
    failure.value = null
    reload()
    const following = setInterval(() => void follow(left.signal), FOLLOW_MS)
    return () => {
      clearInterval(following)
      left.abort()
    }
  }, [left])
  const pick = (status: string) => {
    const next = new URLSearchParams(params)
    if (next.get('status') === status) next.delete('status')
    else next.set('status', status)
    go(`/deliveries${next.size ? `?${next}` : ''}`, true)
  }
  if (failure.value?.missing) return <NotHere />
  return (
    <div class="listpage">
      <header class="page-head">
        <h1>Deliveries</h1>
        <fieldset class="filters" aria-label="Status">
          {STATUSES.map(status => (
            <button
              type="button"
              key={status}
              class={`chip ${status}`}
              aria-pressed={params.get('status') === status}
              onClick={() => pick(status)}
            >
              {status}
            </button>
          ))}
          {['host', 'run_id'].map(
            name =>
              params.has(name) && (
                <a class="chip" key={name} href="/deliveries">
                  {params.get(name)} ×
                </a>
              ),
          )}
        </fieldset>
      </header>
      {failure.value && <p class="notice">{failure.value.message}</p>}
      <Tools reload={reload} />
      {shown.value?.length === 0 && (
        <div class="empty">
          <p>{query ? 'No delivery fits these filters.' : 'No callback was sent yet.'}</p>
          {!query && <p class="dim">A run with a webhook_url gets one signed message when it ends.</p>}
        </div>
      )}
      <ul class="deliverylist">
        {shown.value?.map(each => (
          <li key={each.id} class="pane">
            <p>
              <span class={`badge ${each.status}`}>{each.status}</span>
              <b>{each.type}</b>
              {each.run_id && <a href={`/runs/${each.run_id}`}>run {shortId(each.run_id)}</a>}
              <code class="url">{each.url}</code>
              {params.get('host') !== each.host && (
                <a class="quiet as-button" href={`/deliveries?host=${encodeURIComponent(each.host)}`}>
                  only this host
                </a>
              )}
              <span class="dim">
                {plural(each.attempts, 'scheduled attempt')}
                {each.next_attempt_at && <Next at={each.next_attempt_at} />}
              </span>
              {each.last_error && each.status !== 'delivered' && <span class="wrong">{each.last_error}</span>}
              <time dateTime={each.created_at}>{age(each.created_at, slowNow.value)}</time>
            </p>
            <DeliveryLog id={each.id} version={each.updated_at} refresh={reload} />
          </li>
        ))}
      </ul>
      {cursor.value && <More what="deliveries" load={() => load(query, left.signal, cursor.value)} />}
    </div>
  )
}

function NotHere() {
  return (
    <div class="empty">
      <h1>Deliveries are not available on this server.</h1>
      <p class="dim">Callbacks are sent all the same; each run shows its own.</p>
    </div>
  )
}

function Tools({ reload }: { reload(): void }) {
  const url = useSignal('')
  const hours = useSignal('1')
  const said = useSignal<string | null>(null)
  const act = async (what: () => Promise<string>) => {
    try {
      said.value = await what()
      reload()
    } catch (error) {
      if (!(error instanceof ApiFailure)) throw error
      said.value = error.missing ? 'This is not available on this server.' : error.words
    }
  }
  return (
    <section class="pane tools" aria-label="Tools">
      <form
        onSubmit={event => {
          event.preventDefault()
          void act(() => tryOut(url.value))
        }}
      >
        <label for="ping">Send a signed test message to</label>
        <span class="inline">
          <input
            id="ping"
            type="url"
            required
            placeholder="https://your-app.example.com/hook"
            value={url.value}
            onInput={event => (url.value = event.currentTarget.value)}
          />
          <button type="submit" class="secondary">
            ping
          </button>
          {session.value?.inbox_url && (
            <button type="button" class="quiet" onClick={() => (url.value = session.value?.inbox_url ?? '')}>
              built-in inbox
            </button>
          )}
        </span>
      </form>
      <form
        onSubmit={event => {
          event.preventDefault()
          const since = new Date(Date.now() - Number(hours.value) * 3_600_000).toISOString()
          void act(() => sendAgain(since))
        }}
      >
        <label for="since">After an outage of yours: send again what failed in the last</label>
        <span class="inline">
          <select id="since" value={hours.value} onChange={event => (hours.value = event.currentTarget.value)}>
            <option value="1">hour</option>
            <option value="24">day</option>
            <option value="168">week</option>
          </select>
          <button type="submit" class="secondary">
            recover
          </button>
        </span>
      </form>
      {said.value && (
        <p class="note" role="status">
          {said.value}
        </p>
      )}
    </section>
  )
}

async function tryOut(url: string): Promise<string> {
  const { delivered, http_status, error_class, redirects_to, duration_ms } = await ping(url)
  const answer = http_status === null ? error_class : `HTTP ${http_status}`
  if (delivered) return `Delivered: ${answer} in ${span(duration_ms)}.`
  return `Not delivered: ${answer}${redirects_to ? `, to ${redirects_to}, which is not followed` : ''}.`
}

async function sendAgain(since: string): Promise<string> {
  const { count } = await recover(since)
  if (count === 0) return 'Everything since then was delivered.'
  return `${count === 1 ? 'One delivery goes' : `${count} deliveries go`} out once more, spread out.`
}
