/** Going to and fro in the Lab: each place shows what is true there, and nobody is taken from where they have gone. */
import { describe, expect, test } from 'bun:test'
import type { Locator, Page, Route } from 'playwright-core'
import type { RunDto } from '../../src/http/dto.ts'
import { firstPrompt, leave, openLab } from '../support/lab.ts'

const { cancel, createRun, server, visit } = openLab()

const runButton = (page: Page) => page.locator('.runbar .primary:not([disabled])')
const link = (page: Page, name: string) => page.locator('nav').getByRole('link', { name, exact: true })

async function runAndCancel(page: Page): Promise<void> {
  await firstPrompt(page).fill('A pier #slow=60s')
  await runButton(page).click()
  await page.locator('[data-status=running]').waitFor()
  await page.getByRole('button', { name: 'Cancel', exact: true }).click()
  await page.locator('[data-status=canceled]').waitFor()
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
  await runAndCancel(page)
  await link(page, 'runs').click()
  await page.locator('.runlist li').first().waitFor()
  const { asked, release } = await hold(page, /\/api\/v1\/runs\/[\w-]+$/)
  await page.goBack()
  await asked
  await drawn(page)
  expect(await page.locator('.runpage').count()).toBe(0)
  release()
  await page.locator('[data-status=canceled]').waitFor()
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
    await runAndCancel(page)
    const { asked, release } = await hold(page, /\/resume$/, 'POST')
    await page.getByRole('button', { name: 'Resume', exact: true }).click()
    await asked
    await typeElsewhere(page)
    const answer = page.waitForResponse(/\/resume$/)
    release()
    const { id } = (await (await answer).json()) as { id: string }
    await expectTyped(page)
    await cancel(id)
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

test('going back closes what was shown large', async () => {
  const id = await createRun()
  const here = await visit('/runs')
  const { page } = here
  await page.locator(`a[href="/runs/${id}"]`).click()
  await page.locator('article .stage img').first().click()
  await page.locator('dialog[open]').waitFor()
  await page.goBack()
  await page.waitForURL(`${server.url}/runs`)
  await drawn(page)
  expect(await page.locator('dialog[open]').count()).toBe(0)
  await leave(here)
}, 60_000)

test('going back to a list finds the row that was left, among all that had been loaded; a link begins at its top', async () => {
  const run = await server.json<RunDto>(`/api/v1/runs/${await createRun()}`)
  const of = (no: number): RunDto => ({ ...run, id: `run-${no}` })
  const page1 = Array.from({ length: 50 }, (_, no) => of(no))
  const page2 = Array.from({ length: 50 }, (_, no) => of(50 + no))
  const here = await visit('/settings')
  const { page } = here
  await page.route(/\/api\/v1\/runs\?/, route => {
    const older = route.request().url().includes('cursor=')
    return route.fulfill({ json: { data: older ? page2 : page1, next_cursor: older ? null : 'older' } })
  })
  await page.route(/\/api\/v1\/runs\/run-\d+/, route => route.fulfill({ json: run }))
  await link(page, 'runs').click()
  await page.getByRole('button', { name: 'older runs' }).click()
  const row = page.locator('a[href="/runs/run-90"]')
  await row.waitFor()
  // In the middle: a row that has not been in sight yet is only about as high as it will be.
  await page.evaluate(`document.querySelector('a[href="/runs/run-90"]').scrollIntoView({ block: 'center' })`)
  await row.click()
  await page.locator('.runpage').waitFor()
  await page.goBack()
  await row.waitFor()
  await drawn(page)
  expect(await page.locator('.runlist li').count()).toBe(100)
  const inSight = `document.querySelector('a[href="/runs/run-90"]').getBoundingClientRect().top < innerHeight`
  expect(await page.evaluate<boolean>(inSight)).toBe(true)
  await link(page, 'settings').click()
  await link(page, 'runs').click()
  await page.getByRole('button', { name: 'older runs' }).waitFor()
  expect(await page.locator('.runlist li').count()).toBe(50)
  await leave(here)
}, 60_000)

test('without the clipboard of https a copy is one all the same, also in the viewer, and the focus stays', async () => {
  const id = await createRun()
  const here = await visit('/settings')
  const { page } = here
  await page.context().grantPermissions(['clipboard-read'])
  const reader = await page.context().newPage()
  await reader.goto(`${server.url}/settings`)
  await page.addInitScript("Object.defineProperty(navigator, 'clipboard', { value: undefined })")
  const copied = async (button: Locator): Promise<string> => {
    await page.bringToFront()
    await button.click()
    await button.filter({ hasText: 'copied' }).waitFor()
    expect(await page.evaluate<boolean>('document.activeElement.matches(".copy")')).toBe(true)
    await reader.bringToFront()
    return reader.evaluate<string>('navigator.clipboard.readText()')
  }
  await page.goto(`${server.url}/runs/${id}`)
  expect(await copied(page.locator('.crumb .copy'))).toBe(id)
  await page.locator('article .stage img').first().click()
  expect(await copied(page.locator('dialog .copy'))).toMatch(/^media:[0-9a-f-]{36}$/)
  await page.evaluate('document.execCommand = () => false')
  await page.bringToFront()
  await page.locator('dialog .copy').getByText('copy media id').waitFor()
  await page.locator('dialog .copy').click()
  await page.locator('dialog .copy').getByText('not copied').waitFor()
  await leave(here)
}, 60_000)
