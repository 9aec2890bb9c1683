/** What somebody chose last is what runs, and what may be chosen is what the server would take now. */
import { describe, expect, test } from 'bun:test'
import type { Page, Route } from 'playwright-core'
import type { ModelListDto } from '../../src/http/dto/catalog.ts'
import { firstPrompt, type LabVisit, leave, NO_LAB, openLab, printedBody } from '../support/lab.ts'
import { samplePicture } from '../support/sample-media.ts'
import { API_KEY } from '../support/server.ts'

const { server, visit } = openLab()
const MODEL = 'bfl/flux-2-flex'

const ready = (page: Page) => page.locator('.runbar .primary:not([disabled])').waitFor()
const why = (page: Page, text: string) => page.locator('#why').getByText(text).waitFor()

describe('an input picture', () => {
  async function compose(): Promise<LabVisit> {
    const here = await visit()
    await here.page.locator('.chain', { hasText: 'chain202' }).click()
    await firstPrompt(here.page).fill('The same at night')
    return here
  }

  /** Holds the uploads back; each is let through by its number. */
  async function holdUploads(page: Page): Promise<(() => void)[]> {
    const held = Array.from({ length: 3 }, () => Promise.withResolvers<void>())
    let count = 0
    await page.route(/\/api\/v1\/media$/, async (route: Route) => {
      await held[count++]?.promise
      await route.continue()
    })
    return held.map(({ resolve }) => resolve)
  }

  const pick = async (page: Page, side: number) => {
    const buffer = Buffer.from(await samplePicture('png', side, side))
    const asked = page.waitForRequest(/\/api\/v1\/media$/)
    await page
      .locator('input[type=file]')
      .first()
      .setInputFiles({ name: `${side}.png`, mimeType: 'image/png', buffer })
    await asked
  }
  const field = (page: Page) => page.getByLabel('Input picture').first()
  const given = async (page: Page) => (await printedBody(page)).input.image_to_image_params?.image

  test('that is on its way holds Run: the run would take the one before', async () => {
    const here = await compose()
    const { page } = here
    await field(page).fill('https://example.com/old.png')
    await ready(page)
    const [first] = await holdUploads(page)
    await pick(page, 300)
    await why(page, 'uploading a picture')
    expect(await page.locator('.runbar .primary').isDisabled()).toBe(true)
    first?.()
    await ready(page)
    expect(await given(page)).toStartWith('media:')
    await leave(here)
  }, 60_000)

  test('that comes late does not take the place of a later one, nor of a link', async () => {
    const here = await compose()
    const { page } = here
    const [first, second, third] = await holdUploads(page)
    await pick(page, 310)
    await pick(page, 320)
    const answered = page.waitForResponse(/\/api\/v1\/media$/)
    second?.()
    const later = ((await (await answered).json()) as { ref: string }).ref
    await ready(page)
    expect(await field(page).inputValue()).toBe(later)
    const late = page.waitForResponse(/\/api\/v1\/media$/)
    first?.()
    await (await late).finished()
    await pick(page, 330)
    await field(page).fill('https://example.com/typed.png')
    await ready(page)
    const last = page.waitForResponse(/\/api\/v1\/media$/)
    third?.()
    await (await last).finished()
    await page.reload()
    await ready(page)
    expect(await field(page).inputValue()).toBe('https://example.com/typed.png')
    expect(await given(page)).toBe('https://example.com/typed.png')
    await leave(here)
  }, 60_000)

  test('that goes up in a step that is left holds nothing', async () => {
    const here = await compose()
    const { page } = here
    await holdUploads(page)
    await pick(page, 340)
    await page.locator('.chain', { hasText: 'chain101' }).click()
    await ready(page)
    await leave(here)
  }, 60_000)

  test('may be pasted with the end of its line', async () => {
    const here = await compose()
    const { page } = here
    // As text: the browser's own types are not those of a test.
    await field(page).focus()
    await page.evaluate(`{
      const clipboardData = new DataTransfer()
      clipboardData.setData('text/plain', ' https://example.com/pasted.png\\n')
      const paste = new ClipboardEvent('paste', { clipboardData, bubbles: true, cancelable: true })
      document.activeElement.dispatchEvent(paste)
    }`)
    await ready(page)
    expect(await given(page)).toBe('https://example.com/pasted.png')
    await leave(here)
  }, 60_000)
})

describe('a model', () => {
  /** The catalogue as it is while the first route of the model is as said. */
  async function withRoute(page: Page, change: () => Partial<ModelListDto['data'][number]['routes'][number]>) {
    await page.route(/\/api\/v1\/models$/, async route => {
      const answer = await route.fetch()
      const list = (await answer.json()) as ModelListDto
      for (const model of list.data)
        if (model.id === MODEL) {
          model.available = false
          model.routes = model.routes.map(each => ({ ...each, eligible: false, ...(each.configured ? change() : {}) }))
        }
      await route.fulfill({ response: answer, json: list })
    })
  }

  test('whose ways are left alone for a while may be run, says so, and Settings tells when it is over', async () => {
    const here = await visit(NO_LAB)
    const { page } = here
    let isOpen = true
    await withRoute(page, () =>
      isOpen
        ? { reason: 'it failed several times in a row', breaker_open: true }
        : { reason: null, eligible: true, breaker_open: false },
    )
    await page.goto(server.url)
    await firstPrompt(page).fill('A boat that waits')
    await ready(page)
    await page.getByText('left alone for a while after failures: sandbox').first().waitFor()
    await page.locator('a[href="/settings"]').first().click()
    const providers = page.getByRole('region', { name: 'Providers' })
    await providers.getByText('breaker open for 1 model').waitFor()
    isOpen = false
    await page.locator('a[href="/"]').first().click()
    await page.locator('a[href="/settings"]').first().click()
    await providers.getByText('ready').first().waitFor()
    await providers.getByText('breaker open').waitFor({ state: 'detached' })
    await leave(here)
  }, 60_000)

  test('that no provider takes is told with the words of the one that has a key', async () => {
    const here = await visit()
    const { page } = here
    await firstPrompt(page).fill('A boat in vain')
    await ready(page)
    await withRoute(page, () => ({ reason: 'its workflow is missing' }))
    await page.reload()
    await why(page, `no provider takes ${MODEL}: its workflow is missing`)
    await leave(here)
  }, 60_000)
})

test('a browser that keeps no cookie of ours says so in place of the form alone', async () => {
  const here = await visit(NO_LAB)
  const { page } = here
  await page.context().clearCookies()
  await page.route(/\/api\/v1\/session$/, async route => {
    const response = await route.fetch()
    if (route.request().method() === 'POST') await page.context().clearCookies()
    const { 'set-cookie': _, ...headers } = response.headers()
    await route.fulfill({ response, headers })
  })
  await page.goto(server.url)
  await page.getByLabel('API key').fill(API_KEY)
  await page.getByRole('button', { name: 'Sign in' }).click()
  await page.getByText('the browser did not keep the cookie: it is sent over https only').waitFor()
  await leave(here)
}, 60_000)
