/** The callback of a run: where it stands, each POST and its answer, and sending it again. */
import { useSignal } from '@preact/signals'
import { useEffect } from 'preact/hooks'
import type { DeliveryDto } from '../http/dto/deliveries.ts'
import type { RunDto } from '../http/dto.ts'
import { ApiFailure } from './api.ts'
import { type DeliveryDetail, deliveryOf, resend } from './delivery.ts'
import { age, clockTime, span } from './format.ts'
import { now } from './now.ts'

export function CallbackPane({ run, refresh }: { run: RunDto; refresh(): void }) {
  if (!run.webhook_url) return null
  const { callback } = run
  return (
    <section class="pane callback" aria-label="Callback">
      <header class="pane-head">
        <h2>callback</h2>
        {callback && <span class={`badge ${callback.status}`}>{callback.status}</span>}
      </header>
      <p class="url">
        <code>{run.webhook_url}</code>
      </p>
      {callback ? (
        <>
          <p>{callbackSentence(callback)}</p>
          <DeliveryLog
            id={callback.id}
            version={[callback.status, callback.attempts, callback.delivered_at].join()}
            refresh={refresh}
          />
        </>
      ) : (
        <p class="dim">One signed message is sent when the run has ended.</p>
      )}
    </section>
  )
}

function callbackSentence(callback: NonNullable<RunDto['callback']>): string {
  const tries = callback.attempts === 1 ? 'one attempt' : `${callback.attempts} attempts`
  switch (callback.status) {
    case 'delivered':
      return `Delivered with ${tries}${callback.delivered_at ? `, ${age(callback.delivered_at, now.value)}` : ''}.`
    case 'gone':
      return 'The receiver answered 410: it wants no more of these.'
    case 'exhausted':
      return `Given up after ${tries}: ${callback.last_error ?? 'no answer'}.`
    case 'pending': {
      const left = callback.due_at ? Date.parse(callback.due_at) - now.value : 0
      const why = callback.last_error ? ` The last attempt ended with ${callback.last_error}.` : ''
      return `${left > 0 ? `Next attempt in ${span(left)}.` : 'Being sent.'}${why}`
    }
  }
}

/** How often a resend that is on its way is asked for. */
const FOLLOW_MS = 2_000

interface LogProps {
  id: string
  /** Another one when there may be another attempt. */
  version: string
  refresh(): void
}

/** Asked for by hand: who only watches a run need not load its deliveries. */
export function DeliveryLog({ id, version, refresh }: LogProps) {
  const detail = useSignal<DeliveryDetail | null>(null)
  /** Only when asked for: what comes with a resend would move the rows below. */
  const open = useSignal(false)
  /** What the newest resend was answered with: attempts that began later tell what became of it. */
  const asked = useSignal<DeliveryDto | null>(null)
  /** Of the newest thing that was tried: what works now needs no word about before. */
  const failure = useSignal<string | null>(null)
  const act = async (what: () => Promise<void>) => {
    try {
      await what()
      failure.value = null
    } catch (error) {
      if (!(error instanceof ApiFailure)) throw error
      failure.value = error.missing ? 'Deliveries are not available on this server.' : error.message
    }
  }
  const show = () =>
    act(async () => {
      detail.value = await deliveryOf(id)
    })
  const again = () => {
    asked.value = null
    failure.value = null
    return act(async () => {
      asked.value = await resend(id)
      refresh()
      detail.value = await deliveryOf(id)
    })
  }
  // Who looks at the attempts sees a new one come.
  useEffect(() => {
    if (detail.value) void show()
  }, [version])
  const tried = asked.value && outcomeOf(asked.value, detail.value)
  const isOnItsWay = asked.value !== null && tried === null
  // A receiver may take its time, and a failure may leave the version as it was.
  useEffect(() => {
    if (!isOnItsWay) return
    const following = setInterval(() => void show(), FOLLOW_MS)
    return () => clearInterval(following)
  }, [isOnItsWay])
  const said = isOnItsWay ? 'Sending again …' : tried
  return (
    <>
      <p class="adds">
        <button type="button" class="quiet" onClick={() => void show().then(() => (open.value = true))}>
          show the attempts
        </button>
        <button type="button" class="quiet" onClick={() => void again()}>
          resend
        </button>
        <span class="told" role="status">
          {failure.value ?? said}
        </span>
      </p>
      {open.value && detail.value && (
        <ol class="tries">
          {detail.value.attempt_log.map(each => (
            <li key={each.started_at}>
              <span class={`badge ${each.http_status !== null && each.http_status < 300 ? 'succeeded' : 'failed'}`}>
                {each.http_status ?? each.error_class ?? '–'}
              </span>
              <time dateTime={each.started_at}>{clockTime(each.started_at)}</time>
              <span class="num">{span(each.duration_ms)}</span>
              <span class="dim">{each.trigger}</span>
              {each.reply && <q class="words">{each.reply}</q>}
            </li>
          ))}
        </ol>
      )}
    </>
  )
}

/** What became of a resend: of the newest attempt since it was asked for; null before there is one. */
function outcomeOf({ updated_at }: DeliveryDto, detail: DeliveryDetail | null): string | null {
  const since = Date.parse(updated_at)
  const tried = detail?.attempt_log.findLast(each => Date.parse(each.started_at) >= since)
  if (!tried) return null
  const answer = tried.http_status === null ? tried.error_class : `HTTP ${tried.http_status}`
  return `Sent again, with the same webhook-id. ${tried.error_class === null ? 'Delivered' : 'Not delivered'}: ${answer}.`
}
