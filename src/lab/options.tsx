/** What is asked for beside the steps: the callback, the limit, and what came along from a run that is run again. */
import { session } from './api.ts'
import { draft, edit, errors } from './draft.ts'
import { roleName } from './format.ts'
import { NumberField } from './number-field.tsx'

export function Options() {
  const urlErrors = errors.value.get('/webhook_url') ?? []
  const { maxCostUsd } = draft.value
  const costErrors = errors.value.get('/max_cost_usd') ?? []
  return (
    <section class="options pane" aria-label="Callback and limit">
      <div class={`field${urlErrors.length ? ' bad' : ''}`}>
        <label for="webhook">Final callback</label>
        <input
          id="webhook"
          type="url"
          value={draft.value.webhookUrl}
          placeholder="https://your-app.example.com/hook (optional)"
          onInput={event => edit({ webhookUrl: event.currentTarget.value.trim() })}
        />
        {urlErrors.map(error => (
          <small class="wrong" key={error.code}>
            {error.detail} {error.hint}
          </small>
        ))}
        <InboxButton />
      </div>
      <div class={`field${costErrors.length ? ' bad' : ''}`}>
        <label for="maxcost">Spend at most, US$</label>
        <NumberField
          id="maxcost"
          name="/max_cost_usd"
          min={0}
          step={0.01}
          value={maxCostUsd === '' ? undefined : Number(maxCostUsd)}
          placeholder="no limit"
          set={usd => edit({ maxCostUsd: String(usd ?? '') })}
        />
        {costErrors.map(error => (
          <small class="wrong" key={error.code}>
            {error.detail}
          </small>
        ))}
      </div>
      <AlsoSent />
    </section>
  )
}

/** In the sandbox the server has a receiver of its own, so that a callback can be seen without setting one up. */
function InboxButton() {
  const url = session.value?.inbox_url
  if (!url) return null
  const used = draft.value.webhookUrl === url
  return (
    <span class="adds">
      <button type="button" class="quiet" aria-pressed={used} onClick={() => edit({ webhookUrl: used ? '' : url })}>
        {used ? '✓ ' : ''}built-in inbox
      </button>
      <a class="quiet as-button" href="/lab/inbox">
        open it
      </a>
    </span>
  )
}

/** What the page has no field for is shown, and can be taken away. */
function AlsoSent() {
  const { metadata, providerOrder } = draft.value
  const without = <T,>(record: Record<string, T>, key: string) =>
    Object.fromEntries(Object.entries(record).filter(([each]) => each !== key))
  const rows = [
    ...Object.entries(metadata).map(([key, value]) => ({
      text: `${key}: ${value}`,
      drop: () => ({ metadata: without(metadata, key) }),
    })),
    ...Object.entries(providerOrder).map(([step, order]) => ({
      text: `${roleName(step)} by ${order.join(', then ')}`,
      drop: () => ({ providerOrder: without(providerOrder, step) }),
    })),
  ]
  if (rows.length === 0) return null
  return (
    <fieldset class="also" aria-label="Also sent">
      <legend>Also sent</legend>
      {rows.map(({ text, drop }) => (
        <button type="button" class="chip" key={text} title="do not send this" onClick={() => edit(drop())}>
          {text} ×
        </button>
      ))}
    </fieldset>
  )
}
