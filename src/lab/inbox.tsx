/** The built-in receiver of the sandbox: what a callback looks like when it arrives, with the verdict on its signature. */
import { signal } from '@preact/signals'
import { useEffect } from 'preact/hooks'
import type { InboxDto, InboxMessageDto } from '../http/dto/inbox.ts'
import { ApiFailure, api, session } from './api.ts'
import { CodePanel } from './code.tsx'
import { age, shortId } from './format.ts'
import { now } from './now.ts'

const messages = signal<readonly InboxMessageDto[] | null>(null)
const failure = signal<ApiFailure | null>(null)

async function load(): Promise<void> {
  try {
    messages.value = (await api<InboxDto>('GET', '/api/v1/inbox')).data
    failure.value = null
  } catch (error) {
    if (error instanceof ApiFailure) failure.value = error
  }
}

export function Inbox() {
  useEffect(() => {
    document.title = 'Inbox · BabyChain Lab'
    void load()
    const timer = setInterval(() => {
      if (!document.hidden && !failure.value?.missing) void load()
    }, 2000)
    return () => clearInterval(timer)
  }, [])
  if (failure.value?.missing)
    return (
      <div class="empty">
        <h1>There is no inbox here.</h1>
        <p class="dim">It exists in the sandbox only: with provider keys, callbacks go to receivers of yours.</p>
      </div>
    )
  return (
    <div class="listpage">
      <header class="page-head">
        <h1>Inbox</h1>
        <p class="dim">Callbacks to {session.value?.inbox_url} arrive here, and stay until the server stops.</p>
      </header>
      {messages.value?.length === 0 && (
        <div class="empty">
          <p>Nothing has arrived yet.</p>
          <p>
            <a href="/">Run a chain</a> with the built-in inbox as its callback.
          </p>
        </div>
      )}
      <ul class="deliverylist">
        {messages.value?.map(({ id, at, verified, headers, body }) => (
          <li key={id + at} class="pane">
            <p>
              <span class={`badge ${verified ? 'succeeded' : 'failed'}`}>
                {verified ? 'signature holds' : 'not verified'}
              </span>
              <b>{body.type}</b>
              {body.data?.id && <a href={`/runs/${body.data.id}`}>run {shortId(body.data.id)}</a>}
              <time dateTime={at}>{age(at, now.value)}</time>
            </p>
            <details>
              <summary>headers and body</summary>
              {/* biome-ignore lint/a11y/noNoninteractiveTabindex: what scrolls must be reachable by keyboard */}
              <pre tabIndex={0}>
                {Object.entries(headers)
                  .map(([name, value]) => `${name}: ${value}`)
                  .join('\n')}
                {`\n\n${JSON.stringify(body, null, 2)}`}
              </pre>
            </details>
          </li>
        ))}
      </ul>
      <CodePanel
        topics={[{ title: 'verify it yourself', subject: { does: 'verify' } }]}
        note="The secret is read from $BABYCHAIN_CALLBACK_SECRET."
      />
    </div>
  )
}
