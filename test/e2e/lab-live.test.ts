/** The page of a run keeps up with it: what passes is waited for and said, what is final is said as well. */
import { describe, expect, test } from 'bun:test'
import type { Page } from 'playwright-core'
import { leave, openLab } from '../support/lab.ts'

const { cancel, createRun, server, visit } = openLab()

const PAUSED = 'Live view paused, the run is not'

function refusal(status: number, detail: string, headers: Record<string, string> = {}) {
  return {
    status,
    headers: { 'content-type': 'application/problem+json', ...headers },
    body: JSON.stringify({ detail }),
  }
}

/** Refuses the first request for the events, and tells when each one came. */
async function refuseFirst(page: Page, answer: ReturnType<typeof refusal>): Promise<number[]> {
  const came: number[] = []
  await page.route(/\/events\?/, route => {
    came.push(performance.now())
    return came.length === 1 ? route.fulfill(answer) : route.continue()
  })
  return came
}

/** Goes on for as long as a page may take, and is canceled when that was seen. */
const LONG = { film: 'It turns #slow=60s' }

describe('a live view that is refused', () => {
  for (const status of [408, 429, 503])
    test(`with ${status} says that it is paused, comes back when it was told to, and shows the run to its end`, async () => {
      const here = await visit('/settings')
      const { page } = here
      const came = await refuseFirst(page, refusal(status, 'Not now.', { 'retry-after': '2' }))
      const id = await createRun(LONG)
      await page.goto(`${server.url}/runs/${id}`)
      await page.locator('.notice').getByText(PAUSED).waitFor()
      await page.locator('.statusbar .line.live').waitFor()
      await page.locator('.notice').waitFor({ state: 'detached' })
      expect((came[1] ?? 0) - (came[0] ?? 0)).toBeGreaterThan(1_900)
      await cancel(id)
      await page.locator('[data-status=canceled]').waitFor()
      await page.locator('.statusbar .line.ended').waitFor()
      await leave(here)
    }, 60_000)

  test('shows what the run does although its events stay refused', async () => {
    const here = await visit('/settings')
    const { page } = here
    await page.route(/\/events\?/, route => route.fulfill(refusal(429, 'Too many streams.', { 'retry-after': '1' })))
    const id = await createRun(LONG)
    await page.goto(`${server.url}/runs/${id}`)
    await page.locator('.notice').getByText(PAUSED).waitFor()
    await cancel(id)
    await page.locator('[data-status=canceled]').waitFor()
    await page.locator('.notice').getByText(PAUSED).waitFor({ state: 'detached' })
    await leave(here)
  }, 60_000)

  for (const status of [403, 404])
    test(`with ${status} says that it has ended, although nothing is wrong with the run`, async () => {
      const here = await visit('/settings')
      const { page } = here
      const came = await refuseFirst(page, refusal(status, 'You may not read this.'))
      const id = await createRun(LONG)
      await page.goto(`${server.url}/runs/${id}`)
      await page.getByRole('alert').getByText('Live view ended, the run has not: You may not read this.').waitFor()
      await page.locator('.statusbar').getByText('live view ended').waitFor()
      expect(came).toHaveLength(1)
      await cancel(id)
      await leave(here)
    }, 60_000)
})

test('a run that cannot be asked for while its events come is behind, and says so until it is not', async () => {
  const id = await createRun(LONG)
  const here = await visit(`/runs/${id}`)
  const { page } = here
  await page.locator('[data-step=image_to_video][data-state=running]').waitFor({ timeout: 20_000 })
  await page.route(new RegExp(`/runs/${id}$`), route => route.fulfill(refusal(429, 'Too many requests.')))
  await cancel(id)
  await page.locator('.notice').getByText(PAUSED).waitFor({ timeout: 20_000 })
  await page.locator('.statusbar .line.paused').waitFor()
  await page.unroute(new RegExp(`/runs/${id}$`))
  await page.locator('[data-status=canceled]').waitFor()
  await page.locator('.notice').waitFor({ state: 'detached' })
  await leave(here)
}, 60_000)
