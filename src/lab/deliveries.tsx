/** Every callback as it is now: filters in the address, attempts, resend, recover after an outage, a test ping. */
import { useSignal } from '@preact/signals'
import { useEffect } from 'preact/hooks'
import type { DeliveryDto } from '../http/dto/deliveries.ts'
import { ApiFailure, session } from './api.ts'
import { DeliveryLog } from './callback-pane.tsx'
import { ping, recover } from './delivery.ts'
import { age, plural, shortId, span } from './format.ts'
import { createList, useList } from './listed.ts'
import { More, News } from './more.tsx'
import { go, place } from './nav.ts'
import { now, slowNow } from './now.ts'

const STATUSES = ['pending', 'delivered', 'exhausted', 'gone']
/** What is not delivered may be yet, also by a resend or a recover after it was given up. */
const deliveries = createList<DeliveryDto>('/api/v1/deliveries', ({ status }) =>
  ['pending', 'exhausted'].includes(status),
)

/** On its own, so that a second more does not draw the list anew. */
function Next({ at }: { at: string }) {
  const left = Date.parse(at) - now.value
  return <>{left > 0 ? `, next in ${span(left)}` : ', being sent'}</>
}

export function Deliveries() {
  const params = place.value.searchParams
  const query = params.toString()
  const gone = useList(deliveries, query)
  const refresh = (id?: string) => void deliveries.look(query, id)
  useEffect(() => {
    document.title = 'Deliveries · BabyChain Lab'
  }, [])
  const list = deliveries.listed.value
  const failure = deliveries.failed.value
  const pick = (status: string) => {
    const next = new URLSearchParams(params)
    if (next.get('status') === status) next.delete('status')
    else next.set('status', status)
    go(`/deliveries${next.size ? `?${next}` : ''}`, true)
  }
  if (failure?.missing) return <NotHere />
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
      {failure && (
        <p class="notice" role="alert">
          {failure.message}
        </p>
      )}
      <Tools refresh={refresh} />
      <News
        count={list?.news.length ?? 0}
        one="new delivery"
        many="new deliveries"
        load={() => deliveries.load(query, gone)}
      />
      {list?.rows.length === 0 && (
        <div class="empty">
          <p>{query ? 'No delivery fits these filters.' : 'No callback was sent yet.'}</p>
          {!query && <p class="dim">A run with a webhook_url gets one signed message when it ends.</p>}
        </div>
      )}
      <ul class="deliverylist">
        {list?.rows.map(each => (
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
              <time dateTime={each.created_at}>{age(each.created_at, slowNow.value)}</time>
            </p>
            {/* What changes has a line of its own, so that the rows below stay where they are. */}
            <p class="stand">
              <span class="dim">
                {plural(each.attempts, 'scheduled attempt')}
                {each.next_attempt_at && <Next at={each.next_attempt_at} />}
              </span>
              {each.last_error && each.status !== 'delivered' && <span class="wrong">{each.last_error}</span>}
            </p>
            <DeliveryLog id={each.id} version={each.updated_at} refresh={() => refresh(each.id)} />
          </li>
        ))}
      </ul>
      {list?.cursor && <More what="deliveries" load={() => deliveries.load(query, gone, list.cursor)} />}
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

function Tools({ refresh }: { refresh(): void }) {
  const url = useSignal('')
  const hours = useSignal('1')
  const said = useSignal<string | null>(null)
  const act = async (what: () => Promise<string>) => {
    try {
      said.value = await what()
      refresh()
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
      <p class="note" role="status">
        {said.value}
      </p>
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
  if (count === 0) return 'Nothing was given up since then. What is pending is tried again by itself.'
  return `${count === 1 ? 'One delivery goes' : `${count} deliveries go`} out once more, spread out.`
}
