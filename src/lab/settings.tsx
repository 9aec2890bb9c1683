/** Keys, providers, the callback secret, and what this server is. */
import { signal, useSignal } from '@preact/signals'
import type { ComponentChildren } from 'preact'
import { useEffect } from 'preact/hooks'
import type { ApiKeyDto, WebhookSecretDto } from '../http/dto/keys.ts'
import { ApiFailure, api, session, signOut } from './api.ts'
import { models } from './catalog.ts'
import { Copy } from './code.tsx'
import { age, money, plural, span } from './format.ts'
import { now } from './now.ts'

export function Settings() {
  useEffect(() => {
    document.title = 'Settings · BabyChain Lab'
  }, [])
  return (
    <div class="listpage">
      <header class="page-head">
        <h1>Settings</h1>
      </header>
      <div class="columns">
        <div>
          <Keys />
          <Secrets />
        </div>
        <div>
          <Server />
          <Providers />
        </div>
      </div>
    </div>
  )
}

function Pane({ title, children }: { title: string; children: ComponentChildren }) {
  return (
    <section class="pane" aria-label={title}>
      <header class="pane-head">
        <h2>{title}</h2>
      </header>
      {children}
    </section>
  )
}

const said = (error: unknown): string => {
  if (!(error instanceof ApiFailure)) throw error
  return error.missing ? 'Not available on this server.' : `${error.message} ${error.problem?.hint ?? ''}`
}

/** What cannot be taken back is asked for twice: the second click within a few seconds counts. */
function Twice({ label, act }: { label: string; act(): void }) {
  const armed = useSignal(false)
  const click = () => {
    if (armed.value) act()
    else setTimeout(() => (armed.value = false), 4000)
    armed.value = !armed.value
  }
  return (
    <button type="button" class="quiet" onClick={click}>
      {armed.value ? <b class="wrong">really {label}?</b> : label}
    </button>
  )
}

// ── Keys ──────────────────────────────────────────────────────────────────────────────────────────────────────────

const SCOPES = ['runs:read', 'runs:write', 'callbacks:manage', 'keys:manage']
/** The limits of a key, and what a new one has where nothing is given. */
const LIMITS = {
  rate_per_minute: { words: 'requests a minute', standard: '600' },
  max_running: { words: 'runs at once', standard: '100' },
  max_queued: { words: 'runs that wait', standard: '1000' },
  daily_budget_usd: { words: 'US dollars a day', standard: 'no limit' },
} as const
const keys = signal<readonly ApiKeyDto[] | null>(null)
const keysSaid = signal<string | null>(null)

async function loadKeys(): Promise<void> {
  try {
    keys.value = (await api<{ data: ApiKeyDto[] }>('GET', '/api/v1/keys')).data
    keysSaid.value = null
  } catch (error) {
    keysSaid.value = said(error)
  }
}

function Keys() {
  const name = useSignal('')
  const scopes = useSignal<readonly string[]>(['runs:read', 'runs:write'])
  const limits = useSignal<Readonly<Record<string, number>>>({})
  const made = useSignal<string | null>(null)
  useEffect(() => void loadKeys(), [])
  const create = async () => {
    try {
      const key = await api<{ key: string }>('POST', '/api/v1/keys', {
        body: { name: name.value, scopes: scopes.value, ...limits.value },
      })
      made.value = key.key
      name.value = ''
      limits.value = {}
      await loadKeys()
    } catch (error) {
      keysSaid.value = said(error)
    }
  }
  const revoke = async (id: string) => {
    try {
      await api('POST', `/api/v1/keys/${id}/revoke`)
      await loadKeys()
    } catch (error) {
      keysSaid.value = said(error)
    }
  }
  return (
    <Pane title="API keys">
      {made.value && (
        <p class="once" role="status">
          <span>Shown this once: keep it.</span>
          <code>{made.value}</code>
          <Copy text={made.value} />
        </p>
      )}
      {keysSaid.value && <p class="note">{keysSaid.value}</p>}
      <ul class="rows">
        {keys.value?.map(key => (
          <li key={key.id} class={key.status === 'active' ? '' : 'gone'}>
            <b>{key.name}</b>
            <code>
              {key.prefix}…{key.last4}
            </code>
            <span class="dim">{key.scopes.join(' ')}</span>
            <span class="dim">
              {key.status === 'active'
                ? key.last_used_at
                  ? `used ${age(key.last_used_at, now.value)}`
                  : 'never used'
                : key.status}
            </span>
            {(['rate_per_minute', 'max_running', 'max_queued'] as const).map(
              limit =>
                key[limit] !== null && (
                  <span class="dim" key={limit}>
                    {key[limit]} {LIMITS[limit].words}
                  </span>
                ),
            )}
            {(key.spent_today_usd > 0 || key.daily_budget_usd !== null) && (
              <span class="dim">
                {money(key.spent_today_usd)}
                {key.daily_budget_usd === null ? '' : ` of ${money(key.daily_budget_usd)}`} today
              </span>
            )}
            {key.status === 'active' && <Twice label="revoke" act={() => void revoke(key.id)} />}
          </li>
        ))}
      </ul>
      {keys.value && (
        <form
          class="newkey"
          onSubmit={event => {
            event.preventDefault()
            void create()
          }}
        >
          <label for="keyname">A new key for</label>
          <span class="inline">
            <input
              id="keyname"
              required
              placeholder="my backend"
              value={name.value}
              onInput={event => (name.value = event.currentTarget.value)}
            />
            <button type="submit" class="secondary">
              create
            </button>
          </span>
          <fieldset class="filters" aria-label="Scopes">
            {SCOPES.map(scope => (
              <button
                type="button"
                key={scope}
                class="chip"
                aria-pressed={scopes.value.includes(scope)}
                onClick={() => {
                  scopes.value = scopes.value.includes(scope)
                    ? scopes.value.filter(each => each !== scope)
                    : [...scopes.value, scope]
                }}
              >
                {scope}
              </button>
            ))}
          </fieldset>
          <fieldset class="fields" aria-label="Limits">
            {Object.entries(LIMITS).map(([limit, { words, standard }]) => (
              <div class="field" key={limit}>
                <label for={limit}>{words}</label>
                <input
                  id={limit}
                  type="number"
                  min="0"
                  step="any"
                  placeholder={standard}
                  value={limits.value[limit] ?? ''}
                  onInput={event => {
                    const { [limit]: _, ...others } = limits.value
                    const given = event.currentTarget.valueAsNumber
                    limits.value = Number.isNaN(given) ? others : { ...others, [limit]: given }
                  }}
                />
              </div>
            ))}
          </fieldset>
        </form>
      )}
    </Pane>
  )
}

// ── The callback secret ───────────────────────────────────────────────────────────────────────────────────────────

function Secrets() {
  const list = useSignal<readonly WebhookSecretDto[] | null>(null)
  const made = useSignal<string | null>(null)
  const note = useSignal<string | null>(null)
  const load = async () => {
    try {
      list.value = (await api<{ data: WebhookSecretDto[] }>('GET', '/api/v1/webhook_secrets')).data
    } catch (error) {
      note.value = said(error)
    }
  }
  useEffect(() => void load(), [])
  const rotate = async () => {
    try {
      made.value = (await api<{ secret: string }>('POST', '/api/v1/webhook_secrets/rotate')).secret
      await load()
    } catch (error) {
      note.value = said(error)
    }
  }
  return (
    <Pane title="Callback secret">
      {made.value && (
        <p class="once" role="status">
          <span>Shown this once: keep it.</span>
          <code>{made.value}</code>
          <Copy text={made.value} />
        </p>
      )}
      {note.value && <p class="note">{note.value}</p>}
      <ul class="rows">
        {list.value?.map(secret => (
          <li key={secret.id}>
            <code>{secret.id}</code>
            <span class="dim">made {age(secret.created_at, now.value)}</span>
            {secret.retires_at && <span class="dim">signs until {new Date(secret.retires_at).toLocaleString()}</span>}
          </li>
        ))}
      </ul>
      {list.value && <Twice label="rotate: both sign for a day" act={() => void rotate()} />}
    </Pane>
  )
}

// ── The server ────────────────────────────────────────────────────────────────────────────────────────────────────

interface Ready {
  status: string
  checks: readonly { name: string; ok: boolean; detail?: string }[]
}

function Server() {
  const ready = useSignal<Ready | null>(null)
  const note = useSignal<string | null>(null)
  useEffect(() => {
    void api<Ready>('GET', '/readyz')
      .then(answer => {
        ready.value = answer
      })
      .catch(error => {
        note.value = said(error)
      })
  }, [])
  const state = session.value
  return (
    <Pane title="Server">
      <dl class="facts">
        <div>
          <dt>version</dt>
          <dd>{state?.version}</dd>
        </div>
        <div>
          <dt>mode</dt>
          <dd>{state?.mode}</dd>
        </div>
        <div>
          <dt>up for</dt>
          <dd>{state?.started_at ? span(now.value - Date.parse(state.started_at)) : '–'}</dd>
        </div>
        <div>
          <dt>scopes</dt>
          <dd>{state?.scopes?.join(' ')}</dd>
        </div>
        {ready.value?.checks.map(check => (
          <div key={check.name}>
            <dt>{check.name}</dt>
            <dd class={check.ok ? 'tone-good' : 'tone-bad'}>{check.detail ?? (check.ok ? 'ok' : 'not ok')}</dd>
          </div>
        ))}
      </dl>
      {note.value && <p class="note">{note.value}</p>}
      <p class="adds">
        <a class="quiet as-button" href="/metrics" target="_blank" rel="noreferrer">
          metrics
        </a>
        <a class="quiet as-button" href="/swagger/json" target="_blank" rel="noreferrer">
          OpenAPI
        </a>
        <button type="button" class="quiet" onClick={() => void signOut()}>
          sign out
        </button>
      </p>
    </Pane>
  )
}

/** From the catalogue: what each provider would run here, and what it lacks. */
function Providers() {
  const byProvider = new Map<string, { models: number; configured: boolean; reason: string | null; open: number }>()
  for (const model of models.value.values())
    for (const route of model.routes) {
      const had = byProvider.get(route.provider) ?? {
        models: 0,
        configured: route.configured,
        reason: route.reason,
        open: 0,
      }
      const open = route.configured && route.reason?.includes('left alone') ? 1 : 0
      byProvider.set(route.provider, { ...had, models: had.models + 1, open: had.open + open })
    }
  const rows = [...byProvider].sort(([, a], [, b]) => Number(b.configured) - Number(a.configured))
  return (
    <Pane title="Providers">
      <ul class="rows">
        {rows.map(([name, row]) => (
          <li key={name}>
            <span class={`dot ${row.configured ? (row.open ? 'wait' : 'on') : ''}`} aria-hidden="true" />
            <b>{name}</b>
            <span class="dim">{plural(row.models, 'model')}</span>
            <span class={row.configured ? '' : 'dim'}>
              {row.open ? `breaker open for ${plural(row.open, 'model')}` : row.configured ? 'ready' : row.reason}
            </span>
          </li>
        ))}
      </ul>
    </Pane>
  )
}
