/** Debian's Chromium, headless, for tests and screenshots of the Lab. */
import { type Browser, chromium, type Page } from 'playwright-core'

/** Without these the browser looks for its maker's hosts at every start. */
const QUIET = [
  '--no-sandbox',
  '--disable-gpu',
  '--disable-quic',
  '--no-first-run',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync',
]

export function openBrowser(): Promise<Browser> {
  return chromium.launch({ executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium', headless: true, args: QUIET })
}

/** What a page did that it must not do. */
export interface Misconduct {
  /** Messages of level error, uncaught exceptions, refused requests. */
  errors: string[]
  /** Requests to another origin than its own. */
  strangers: string[]
}

export function observe(page: Page, origin: string): Misconduct {
  const seen: Misconduct = { errors: [], strangers: [] }
  page.on('console', message => {
    if (message.type() === 'error') seen.errors.push(`${message.text()} (${message.location().url})`)
  })
  page.on('pageerror', error => seen.errors.push(error.message))
  page.on('request', request => {
    const url = request.url()
    if (!url.startsWith(origin) && !/^(data|blob|about):/.test(url)) seen.strangers.push(url)
  })
  return seen
}
