/** Keys, providers, the callback secret, and what this server is. */
import { useSignal } from '@preact/signals'
import { useEffect } from 'preact/hooks'
import type { ReadinessDto } from '../http/dto/catalog.ts'
import type { WebhookSecretDto } from '../http/dto/keys.ts'
import { api, session, signOut } from './api.ts'
import { models, useFreshModels } from './catalog.ts'
import { age, plural, span } from './format.ts'
import { Keys } from './keys.tsx'
import { now } from './now.ts'
import { Once, Pane, Said, type Secret, said, Twice } from './pane.tsx'

export function Settings() {
  useEffect(() => {
    document.title = 'Settings · BabyChain Lab'
  }, [])
  return (
    <div class="listpage">
      <header class="page-head">
        <h1>Settings</h1>
        <SignOut />
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

/** Above all that comes with an answer, which would move it away from a click. */
function SignOut() {
  const note = useSignal<string | null>(null)
  return (
    <span class="order">
      <button type="button" class="secondary" onClick={() => void signOut().catch(error => (note.value = said(error)))}>
        sign out
      </button>
      {note.value && (
        <small class="wrong" role="alert">
          {note.value}
        </small>
      )}
    </span>
  )
}

// ── The callback secret ───────────────────────────────────────────────────────────────────────────────────────────

function Secrets() {
  const list = useSignal<readonly WebhookSecretDto[] | null>(null)
  const made = useSignal<readonly Secret[]>([])
  const note = useSignal<string | null>(null)
  const load = async () => {
    try {
      list.value = (await api<{ data: WebhookSecretDto[] }>('GET', '/api/v1/webhook_secrets')).data
    } catch (error) {
      note.value = said(error)
    }
  }
  useEffect(() => void load(), [])
  const isOverlapping = list.value?.some(each => each.retires_at && Date.parse(each.retires_at) > now.value) ?? false
  const rotate = async () => {
    try {
      const body = isOverlapping ? { overlap_seconds: 0 } : {}
      const { secret } = await api<{ secret: string }>('POST', '/api/v1/webhook_secrets/rotate', { body })
      made.value = [{ label: 'signs your callbacks', text: secret }]
    } catch (error) {
      note.value = said(error)
    }
    await load()
  }
  return (
    <Pane title="Callback secret">
      <Once secrets={made.value} />
      <Said words={note.value} />
      <ul class="rows">
        {list.value?.map(secret => (
          <li key={secret.id}>
            <code>{secret.id}</code>
            <span class="dim">made {age(secret.created_at, now.value)}</span>
            {secret.retires_at && <span class="dim">signs until {new Date(secret.retires_at).toLocaleString()}</span>}
          </li>
        ))}
      </ul>
      {list.value && (
        <Twice
          label={isOverlapping ? 'rotate: only the new one signs' : 'rotate: both sign for a day'}
          act={() => void rotate()}
        />
      )}
    </Pane>
  )
}

// ── The server ────────────────────────────────────────────────────────────────────────────────────────────────────

function Server() {
  const ready = useSignal<ReadinessDto | null>(null)
  const note = useSignal<string | null>(null)
  useEffect(() => {
    void api<ReadinessDto>('GET', '/readyz')
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
      </dl>
      <p class="adds">
        <a class="quiet as-button" href="/metrics" target="_blank" rel="noreferrer">
          metrics
        </a>
        <a class="quiet as-button" href="/swagger/json" target="_blank" rel="noreferrer">
          OpenAPI
        </a>
      </p>
      <Said words={note.value} />
      {/* Below the links: an answer that comes while somebody presses one does not move it away. */}
      {ready.value && (
        <dl class="facts">
          {ready.value.checks.map(check => (
            <div key={check.name}>
              <dt>{check.name}</dt>
              <dd class={check.ok ? 'tone-good' : 'tone-bad'}>{check.detail ?? (check.ok ? 'ok' : 'not ok')}</dd>
            </div>
          ))}
        </dl>
      )}
    </Pane>
  )
}

/** From the catalogue: what each provider would run here, and what it lacks. */
function Providers() {
  useFreshModels()
  const byProvider = new Map<string, { models: number; configured: boolean; reason: string | null; open: number }>()
  for (const model of models.value.values())
    for (const route of model.routes) {
      const had = byProvider.get(route.provider) ?? {
        models: 0,
        configured: route.configured,
        reason: route.reason,
        open: 0,
      }
      const open = had.open + Number(route.breaker_open)
      byProvider.set(route.provider, { ...had, models: had.models + 1, open })
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
