/** The API keys: made, limited, revoked. */
import { type Signal, signal, useSignal } from '@preact/signals'
import { useEffect } from 'preact/hooks'
import type { ApiKeyDto } from '../http/dto/keys.ts'
import { ApiFailure, api } from './api.ts'
import { age, money } from './format.ts'
import { isUnreadable } from './json-text.ts'
import { now } from './now.ts'
import { NumberField } from './number-field.tsx'
import { Once, Pane, Said, type Secret, said, Twice } from './pane.tsx'

const SCOPES = ['runs:read', 'runs:write', 'callbacks:manage', 'keys:manage']
/** The limits of a key, and what a new one has where nothing is given. */
const LIMITS = {
  rate_per_minute: { words: 'requests a minute', standard: '600' },
  max_running: { words: 'runs at once', standard: '100' },
  max_queued: { words: 'runs that wait', standard: '1000' },
  daily_budget_usd: { words: 'US dollars a day', standard: 'no limit' },
} as const
type Limit = keyof typeof LIMITS
type Given = Readonly<Partial<Record<Limit, number>>>
const NAMES = Object.keys(LIMITS) as readonly Limit[]
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

export function Keys() {
  const name = useSignal('')
  const scopes = useSignal<readonly string[]>(['runs:read', 'runs:write'])
  const limits = useSignal<Given>({})
  const made = useSignal<readonly Secret[]>([])
  useEffect(() => void loadKeys(), [])
  const busy = useSignal(false)
  const create = async () => {
    if (busy.value) return
    busy.value = true
    try {
      const { key, webhook_secret } = await api<{ key: string; webhook_secret: string }>('POST', '/api/v1/keys', {
        body: { name: name.value, scopes: scopes.value, ...limits.value },
      })
      made.value = [
        { label: 'API key', text: key },
        { label: 'signs its callbacks', text: webhook_secret },
      ]
      name.value = ''
      limits.value = {}
      await loadKeys()
    } catch (error) {
      keysSaid.value = said(error)
    } finally {
      busy.value = false
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
      <Once secrets={made.value} />
      <Said words={keysSaid.value} />
      <ul class="rows">
        {keys.value?.map(key => (
          <KeyRow key={key.id} apiKey={key} revoke={() => void revoke(key.id)} />
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
            <button type="submit" class="secondary" disabled={busy.value || isUnreadable('')}>
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
          <LimitFields given={limits} placeholder={limit => LIMITS[limit].standard} />
        </form>
      )}
    </Pane>
  )
}

function KeyRow({ apiKey, revoke }: { apiKey: ApiKeyDto; revoke(): void }) {
  const open = useSignal(false)
  const { name, status, scopes, last_used_at, spent_today_usd, daily_budget_usd } = apiKey
  const use = last_used_at ? `used ${age(last_used_at, now.value)}` : 'never used'
  return (
    <li class={status === 'active' ? '' : 'gone'}>
      <b>{name}</b>
      <code>
        {apiKey.prefix}…{apiKey.last4}
      </code>
      <span class="dim">{scopes.join(' ')}</span>
      <span class="dim">{status === 'active' ? use : status}</span>
      {(['rate_per_minute', 'max_running', 'max_queued'] as const).map(
        limit =>
          apiKey[limit] !== null && (
            <span class="dim" key={limit}>
              {apiKey[limit]} {LIMITS[limit].words}
            </span>
          ),
      )}
      {(spent_today_usd > 0 || daily_budget_usd !== null) && (
        <span class="dim">
          {money(spent_today_usd)}
          {daily_budget_usd === null ? '' : ` of ${money(daily_budget_usd)}`} today
        </span>
      )}
      {status === 'active' && (
        <span class="acts">
          <button type="button" class="quiet" aria-expanded={open.value} onClick={() => (open.value = !open.value)}>
            limits
          </button>
          <Twice label="revoke" act={revoke} />
        </span>
      )}
      {open.value && <LimitEditor apiKey={apiKey} close={() => (open.value = false)} />}
    </li>
  )
}

/** All four at once, as they stand; what is left empty is no limit. */
function LimitEditor({ apiKey, close }: { apiKey: ApiKeyDto; close(): void }) {
  const given = useSignal<Given>(
    Object.fromEntries(NAMES.flatMap(limit => (apiKey[limit] === null ? [] : [[limit, apiKey[limit]]]))),
  )
  const failure = useSignal<ApiFailure | null>(null)
  const save = async () => {
    try {
      const body = Object.fromEntries(NAMES.map(limit => [limit, given.value[limit] ?? null]))
      await api<ApiKeyDto>('PATCH', `/api/v1/keys/${apiKey.id}`, { body })
      await loadKeys()
      close()
    } catch (error) {
      if (!(error instanceof ApiFailure)) throw error
      failure.value = error
    }
  }
  const prefix = `${apiKey.id}-`
  const told = failure.value?.problem?.errors ?? []
  return (
    <form
      class="newkey"
      noValidate
      onSubmit={event => {
        event.preventDefault()
        void save()
      }}
    >
      <LimitFields
        given={given}
        prefix={prefix}
        placeholder={() => 'no limit'}
        wrong={limit => told.filter(({ pointer }) => pointer === `/${limit}`).map(({ detail }) => detail)}
      />
      <span class="inline">
        <button type="submit" class="secondary" disabled={isUnreadable(prefix)}>
          save
        </button>
        <button type="button" class="quiet" onClick={close}>
          leave as it is
        </button>
      </span>
      {failure.value && told.length === 0 && (
        <small class="wrong" role="alert">
          {said(failure.value)}
        </small>
      )}
    </form>
  )
}

interface LimitFieldsProps {
  given: Signal<Given>
  /** Before the ids of the fields, where there can be several such forms. */
  prefix?: string
  placeholder(limit: Limit): string
  wrong?(limit: Limit): readonly string[]
}

function LimitFields({ given, prefix = '', placeholder, wrong = () => [] }: LimitFieldsProps) {
  return (
    <fieldset class="fields" aria-label="Limits">
      {NAMES.map(limit => (
        <div class={`field${wrong(limit).length > 0 ? ' bad' : ''}`} key={limit}>
          <label for={prefix + limit}>{LIMITS[limit].words}</label>
          <NumberField
            id={prefix + limit}
            name={`${prefix}/${limit}`}
            min={0}
            placeholder={placeholder(limit)}
            value={given.value[limit]}
            set={typed => {
              const { [limit]: _, ...others } = given.value
              given.value = typed === undefined ? others : { ...others, [limit]: typed }
            }}
          />
          {wrong(limit).map(each => (
            <small class="wrong" role="alert" key={each}>
              {each}
            </small>
          ))}
        </div>
      ))}
    </fieldset>
  )
}
