/** The API Lab: a client of the public API and nothing else. What it can do, curl can do. */
import { effect, signal } from '@preact/signals'
import { render } from 'preact'
import { useEffect } from 'preact/hooks'
import { untilAnswered } from './again.ts'
import { ApiFailure, askSession, session } from './api.ts'
import { loadCatalog } from './catalog.ts'
import { Compose } from './compose.tsx'
import { Deliveries } from './deliveries.tsx'
import { completeModels } from './draft.ts'
import { keepFocus } from './focus.ts'
import { Inbox } from './inbox.tsx'
import type { Line, LiveRun } from './live.ts'
import { onLink, place } from './nav.ts'
import { RunPage } from './run-page.tsx'
import { Runs } from './runs.tsx'
import { signInByLink } from './session-link.ts'
import { Settings } from './settings.tsx'
import { SignIn } from './sign-in.tsx'
import { Viewer } from './viewer.tsx'

type Theme = 'auto' | 'dark' | 'light'

const theme = signal<Theme>((localStorage.getItem('babychain.theme') as Theme | null) ?? 'auto')
const line = signal<LiveRun | null>(null)
/** Why the session or the catalogue is not there; only composing needs the catalogue. */
const broken = signal<string | null>(null)
/** Whether asking again would not change it: then nothing is on its way. */
const refused = signal(false)

effect(() => {
  document.documentElement.dataset.theme = theme.value
  localStorage.setItem('babychain.theme', theme.value)
})

const PAGES = [
  { path: '/', name: 'compose' },
  { path: '/runs', name: 'runs' },
  { path: '/deliveries', name: 'deliveries' },
  { path: '/settings', name: 'settings' },
]

function Lab() {
  const { pathname } = place.value
  useEffect(() => {
    document.addEventListener('click', onLink)
    return () => document.removeEventListener('click', onLink)
  }, [])
  useEffect(keepFocus, [])
  return (
    <>
      <a class="skip" href="#main">
        Skip to the content
      </a>
      <header class="top">
        <a class="wordmark" href="/">
          <Mark /> babychain<span aria-hidden="true">_</span>
        </a>
        <nav aria-label="Pages">
          {PAGES.map(({ path, name }) => {
            const here = path === '/' ? pathname === '/' : pathname.startsWith(path)
            return (
              <a href={path} key={path} aria-current={here ? 'page' : undefined}>
                {name}
              </a>
            )
          })}
          <a href="/swagger" target="_blank" rel="noreferrer">
            swagger
          </a>
        </nav>
        <ThemeSwitch />
      </header>
      <main id="main" tabIndex={-1}>
        {broken.value && (!session.value || pathname === '/') && (
          <p class="notice" role="alert">
            {broken.value}
          </p>
        )}
        <Page pathname={pathname} />
      </main>
      <StatusBar />
      <Viewer />
    </>
  )
}

function Page({ pathname }: { pathname: string }) {
  if (!session.value) return null
  if (!session.value.signed_in) return <SignIn />
  const run = /^\/runs\/([\w-]+)$/.exec(pathname)?.[1]
  if (run) return <RunPage key={run} id={run} onLine={live => (line.value = live)} />
  if (pathname === '/') return refused.value ? null : <Compose />
  if (pathname === '/runs') return <Runs />
  if (pathname.startsWith('/deliveries')) return <Deliveries />
  if (pathname === '/settings') return <Settings />
  if (pathname === '/lab/inbox') return <Inbox />
  return (
    <div class="empty">
      <h1>Nothing is at this address.</h1>
      <p>
        <a href="/">Compose a chain</a>
      </p>
    </div>
  )
}

function Mark() {
  return (
    <svg viewBox="0 0 34 16" width="34" height="16" aria-hidden="true" class="mark">
      <path d="M0 8h8m18 0h8" />
      <circle class="a" cx="11.5" cy="8" r="5" />
      <circle class="b" cx="22.5" cy="8" r="5" />
    </svg>
  )
}

const NEXT: Readonly<Record<Theme, Theme>> = { auto: 'light', light: 'dark', dark: 'auto' }

function ThemeSwitch() {
  return (
    <button
      type="button"
      class="quiet theme"
      onClick={() => (theme.value = NEXT[theme.value])}
      aria-label={`Colors: ${theme.value}. Change`}
    >
      <span aria-hidden="true">{{ auto: '◐', light: '○', dark: '●' }[theme.value]}</span> {theme.value}
    </button>
  )
}

/** The last line of a terminal: where one is, in which mode, and whether the line is up. */
function StatusBar() {
  const state = session.value
  const live = line.value?.line.value
  const word: Record<Line, string> = {
    connecting: 'connecting',
    live: 'live',
    ended: 'run ended',
    paused: 'live view paused',
    refused: 'live view ended',
  }
  return (
    <footer class="statusbar">
      <span class={`mode ${state?.mode ?? ''}`}>{state?.mode ?? '…'}</span>
      <span class="where">babychain://{place.value.pathname.replace(/^\//, '') || 'compose'}</span>
      {live && (
        <span class={`line ${live}`}>
          <i aria-hidden="true" /> {word[live]}
        </span>
      )}
      <span class="grow" />
      {state?.signed_in && place.value.pathname === '/' && <span class="keys">⌃↵ run</span>}
      <span>v{state?.version ?? '…'}</span>
    </footer>
  )
}

/** What every page needs, asked for until it is there; meanwhile the page says what it waits for. */
async function first(ask: () => Promise<void>): Promise<void> {
  const failing = (failure: ApiFailure) => {
    broken.value = `${failure.message} Trying again …`
  }
  try {
    await untilAnswered(ask, { failing })
    broken.value = null
  } catch (error) {
    const ended = error instanceof ApiFailure && error.status === 401
    broken.value = ended ? null : error instanceof Error ? error.message : String(error)
    refused.value = !ended
    throw error
  }
}

async function boot(): Promise<void> {
  await first(askSession)
  await signInByLink()
}

let loaded = false
effect(() => {
  if (!session.value?.signed_in || loaded) return
  loaded = true
  first(loadCatalog)
    .then(completeModels)
    .catch(() => {
      loaded = false
    })
})

const root = document.getElementById('lab')
if (root) render(<Lab />, root)
void boot().catch(() => {}) // it stands on the page
// A link may also be pasted into a page that is open.
addEventListener('hashchange', () => void signInByLink())
