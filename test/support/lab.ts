/** A browser with the Lab in it, signed in, and what its tests ask of it again and again. */
import { afterAll, beforeAll, expect } from 'bun:test'
import { fileURLToPath } from 'node:url'
import type { Browser, BrowserContextOptions, Locator, Page } from 'playwright-core'
import type { RunDto } from '../../src/http/dto.ts'
import { openBrowser } from './browser.ts'
import { API_KEY, ServerProcess } from './server.ts'

const AXE = await Bun.file(fileURLToPath(import.meta.resolve('axe-core/axe.min.js'))).text()

/** For a visit whose first page of the Lab comes later: nothing of an earlier one is under way then, and taken for the later one's. */
export const NO_LAB = '/healthz'

export interface LabVisit {
  page: Page
  /** Exceptions that nobody caught. */
  uncaught: string[]
}

/** A quick sandbox and a browser for the tests of a file: there before the first one, gone after the last. */
export function openLab(env: Readonly<Record<string, string>> = {}) {
  const server = new ServerProcess({ env: { BABYCHAIN_SANDBOX_LATENCY_MS: '50', ...env } })
  let browser: Browser
  beforeAll(async () => {
    await server.start()
    browser = await openBrowser()
  })
  afterAll(async () => {
    await browser.close()
    await server.close()
  })
  return {
    server,
    /** `at` is another server than the one of the file. */
    visit: (path = '/', options: BrowserContextOptions = {}, at = server) => visitLab(browser, at, path, options),
    createRun: (order: FilmOrder = {}, at = server) => createRun(at, order),
    cancel: (id: string) => server.post(`/api/v1/runs/${id}/cancel`, {}),
    /** The run when it has ended. */
    done: (id: string) => server.json<RunDto>(`/api/v1/runs/${id}?wait=30`),
  }
}

interface FilmOrder {
  prompt?: string
  film?: string
  /** Of the body, beside its input. */
  more?: object
}

/** Orders a small picture and a short film of it; gives the id of the run. */
async function createRun(at: ServerProcess, { prompt = 'A small boat', film = 'It turns', more = {} }: FilmOrder) {
  const input = {
    chain_models: { text_to_image_model: 'bfl/flux-2-flex', image_to_video_model: 'bytedance/seedance-1.5-pro' },
    text_to_image_params: { prompt, width: 256, height: 256 },
    image_to_video_params: { content: [{ type: 'text', text: film }], ratio: '1:1', duration: 2 },
  }
  const answer = await at.post('/api/v1/chains/chain101/runs', { input, ...more })
  return ((await answer.json()) as { id: string }).id
}

async function visitLab(
  browser: Browser,
  server: ServerProcess,
  path: string,
  options: BrowserContextOptions,
): Promise<LabVisit> {
  // Films that play and pages that fade cost a sixth of a test's CPU where no graphics card draws them.
  const quiet = { viewport: { width: 1280, height: 900 }, reducedMotion: 'reduce' } as const
  const context = await browser.newContext({ ...quiet, ...options })
  await context.request.post(`${server.url}/api/v1/session`, {
    data: { key: API_KEY },
    headers: { origin: server.url },
  })
  const page = await context.newPage()
  const uncaught: string[] = []
  page.on('pageerror', error => uncaught.push(error.message))
  await page.goto(server.url + path)
  return { page, uncaught }
}

/** Ends a visit, in which no exception may have gone uncaught. */
export async function leave({ page, uncaught }: LabVisit): Promise<void> {
  // A request that is still being answered for the page ends with it.
  await page.unrouteAll({ behavior: 'ignoreErrors' })
  await page.context().close()
  expect(uncaught).toEqual([])
}

/** The prompt of the first step: its form comes with its model's schema, which may be after the form of the step below. */
export const firstPrompt = (page: Page): Locator => page.locator('.card').first().getByLabel('Prompt').first()

/** Of the list of deliveries one at a time, so that a few have several pages. */
export function pageByOne(page: Page): Promise<unknown> {
  return page.route(/\/api\/v1\/deliveries(\?|$)/, route => {
    const url = new URL(route.request().url())
    url.searchParams.set('limit', '1')
    return route.continue({ url: url.href })
  })
}

/** As of one who has read the question before the answer; the page goes by the time of the event. */
export function clickLater(button: Locator): Promise<void> {
  return button.evaluate(element => {
    const click = new Event('click', { bubbles: true })
    Object.defineProperty(click, 'timeStamp', { value: click.timeStamp + 1000 })
    ;(element as unknown as EventTarget).dispatchEvent(click)
  })
}

/** What keeps readers out; the context of the page must be opened with `bypassCSP`. */
export async function seriousFindings(page: Page): Promise<string[]> {
  await page.evaluate(AXE)
  const found = (await page.evaluate('axe.run(document, { resultTypes: ["violations"] })')) as {
    violations: { id: string; impact: string; nodes: { html: string; failureSummary: string }[] }[]
  }
  return found.violations
    .filter(({ impact }) => impact === 'serious' || impact === 'critical')
    .map(
      ({ id, nodes }) => `${id}: ${nodes.map(node => `${node.html.slice(0, 160)} ${node.failureSummary}`).join(' | ')}`,
    )
}

/** The body that the page would send: the one of its printed code. */
export async function printedBody(page: Page): Promise<PrintedBody> {
  const code = (await page.locator('pre[data-snippet=create][data-language=curl]').textContent()) ?? ''
  const text = /(?:-d '|<<'JSON'\n)([\s\S]*)(?:'|\nJSON)\s*$/.exec(code)?.[1] ?? 'null'
  return JSON.parse(text.replaceAll("'\\''", "'")) as PrintedBody
}

export interface PrintedBody {
  input: Record<string, Record<string, unknown>>
  metadata?: Record<string, string>
  provider_order?: Record<string, string[]>
  max_cost_usd?: number
  webhook_url?: string
}
