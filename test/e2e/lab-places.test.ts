/** Going to and fro in the Lab: each place shows what is true there, and nobody is taken from where they have gone. */
import { describe, expect, test } from 'bun:test'
import type { Page, Route } from 'playwright-core'
import { leave, openLab } from '../support/lab.ts'

const { server, visit } = openLab()

const runButton = (page: Page) => page.locator('.runbar .primary:not([disabled])')
const link = (page: Page, name: string) => page.locator('nav').getByRole('link', { name, exact: true })

async function runThrough(page: Page): Promise<void> {
  await runButton(page).click()
  await page.locator('[data-status=succeeded]').waitFor({ timeout: 20_000 })
}

/** Holds what the page asks there; resolves once it does. */
async function hold(page: Page, path: RegExp, method = 'GET') {
  const asked = Promise.withResolvers<void>()
  const held = Promise.withResolvers<void>()
  await page.route(path, async (route: Route) => {
    if (route.request().method() !== method) return route.fallback()
    asked.resolve()
    await held.promise
    await route.continue()
  })
  return { asked: asked.promise, release: held.resolve }
}

/** What a page does with what has come is done by then. */
const drawn = (page: Page) => page.evaluate('new Promise(done => requestAnimationFrame(() => setTimeout(done)))')

test('a run that was shown as it was made is asked for again when the reader comes back, and not shown as it was', async () => {
  const here = await visit()
  const { page } = here
  await runThrough(page)
  await link(page, 'runs').click()
  await page.locator('.runlist li').first().waitFor()
  const { asked, release } = await hold(page, /\/api\/v1\/runs\/[\w-]+$/)
  await page.goBack()
  await asked
  await drawn(page)
  expect(await page.locator('.runpage').count()).toBe(0)
  release()
  await page.locator('[data-status=succeeded]').waitFor()
  await leave(here)
}, 60_000)

describe('an order that is answered late', () => {
  test('to run a chain leaves the reader where they have gone', async () => {
    const here = await visit()
    const { page } = here
    const { asked, release } = await hold(page, /\/chain101\/runs$/, 'POST')
    await runButton(page).click()
    await asked
    await typeElsewhere(page)
    const answer = page.waitForResponse(/\/chain101\/runs$/)
    release()
    await (await answer).finished()
    await expectTyped(page)
    await leave(here)
  }, 60_000)

  test('to resume a run leaves the reader where they have gone', async () => {
    const here = await visit()
    const { page } = here
    await page.getByLabel('Prompt').first().fill('A pier #slow=60s')
    await runButton(page).click()
    await page.locator('[data-status=running]').waitFor()
    await page.getByRole('button', { name: 'Cancel', exact: true }).click()
    await page.locator('[data-status=canceled]').waitFor()
    const { asked, release } = await hold(page, /\/resume$/, 'POST')
    await page.getByRole('button', { name: 'Resume', exact: true }).click()
    await asked
    await typeElsewhere(page)
    const answer = page.waitForResponse(/\/resume$/)
    release()
    const { id } = (await (await answer).json()) as { id: string }
    await expectTyped(page)
    await server.post(`/api/v1/runs/${id}/cancel`, {})
    await leave(here)
  }, 60_000)

  async function typeElsewhere(page: Page): Promise<void> {
    await link(page, 'settings').click()
    await page.locator('#keyname').fill('half a name')
  }

  async function expectTyped(page: Page): Promise<void> {
    await drawn(page)
    expect(new URL(page.url()).pathname).toBe('/settings')
    expect(await page.locator('#keyname').inputValue()).toBe('half a name')
  }
})
