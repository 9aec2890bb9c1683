/** Signing in: the key goes to the server once and comes back as a cookie that no script can read. */
import { useSignal } from '@preact/signals'
import { useEffect } from 'preact/hooks'
import { session, signIn } from './api.ts'
import { beginAt } from './focus.ts'
import { place } from './nav.ts'
import { isAnyInDoubt } from './orders.ts'
import { linkProblem } from './session-link.ts'

export function SignIn() {
  const key = useSignal('')
  const busy = useSignal(false)
  const wrong = linkProblem
  useEffect(() => beginAt('#key'), [])
  const submit = async () => {
    busy.value = true
    wrong.value = null
    try {
      await signIn({ key: key.value.trim() })
    } catch (error) {
      wrong.value = error instanceof Error ? error.message : String(error)
    } finally {
      busy.value = false
    }
  }
  return (
    <>
      {session.value?.scopes && (
        <p class="notice" role="alert">
          {sessionEnd(place.value.pathname)}
        </p>
      )}
      <div class="signin">
        <div class="pitch">
          <h1>
            Every output becomes the <em>next input</em>.
          </h1>
          <p>
            Compose a chain of image and video models, run it durably, watch every step, and take the code of exactly
            what you did.
          </p>
          <ol class="diagram" aria-label="A chain: text to image, image to image, image to video, final callback">
            <li class="image">text-to-image</li>
            <li class="image">image-to-image</li>
            <li class="video">image-to-video</li>
            <li class="callback">final callback</li>
          </ol>
        </div>
        <form
          class="pane"
          onSubmit={event => {
            event.preventDefault()
            void submit()
          }}
        >
          <header class="pane-head">
            <h2>sign in</h2>
          </header>
          <div class={`field${wrong.value ? ' bad' : ''}`}>
            <label for="key">API key</label>
            <input
              id="key"
              name="key"
              type="password"
              autocomplete="current-password"
              placeholder="bck_live_…"
              value={key.value}
              onInput={event => (key.value = event.currentTarget.value)}
            />
            <small>The server printed it at its first start, or it is what BABYCHAIN_API_KEY says.</small>
            {wrong.value && (
              <small class="wrong" role="alert">
                {wrong.value}
              </small>
            )}
          </div>
          <button type="submit" class="primary" disabled={busy.value || key.value.trim() === ''}>
            Sign in
          </button>
          <p class="dim">It stays in a cookie that no script and no other site can use.</p>
        </form>
      </div>
    </>
  )
}

/** Of a session that this page has had: what came of what was done last, as far as it is known. */
function sessionEnd(pathname: string): string {
  if (pathname !== '/') return 'Your session has ended. Sign in to go on here.'
  return `Your session has ended; your draft is kept.${isAnyInDoubt() ? '' : ' Nothing was started.'}`
}
