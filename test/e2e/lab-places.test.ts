/** Going to and fro in the Lab: each place shows what is true there, and nobody is taken from where they have gone. */
import { expect, test } from 'bun:test'
import type { Page, Route } from 'playwright-core'
import { leave, openLab } from '../support/lab.ts'

const { visit } = openLab()

const runButton = (page: Page) => page.locator('.runbar .primary:not([disabled])')
const link = (page: Page, name: string) => page.locator('nav').getByRole('link', { name, exact: true })

async function runThrough(page: Page): Promise<void> {
  await runButton(page).click()
  await page.locator('[data-status=succeeded]').waitFor({ timeout: 20_000 })
}

/** Holds what the page asks there; resolves once it does. */
async function hold(page: Page, path: RegExp) {
  const asked = Promise.withResolvers<void>()
  const held = Promise.withResolvers<void>()
  await page.route(path, async (route: Route) => {
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
