/** A double click in the Lab is one click: it makes one thing, and it is no answer to a question. */
import { expect, test } from 'bun:test'
import type { Page } from 'playwright-core'
import { clickLater, leave, openLab, pageByOne } from '../support/lab.ts'

const { createRun, done, server, visit } = openLab()

/** The requests of this kind, none of which goes on until the answer is called. */
async function hold(page: Page, path: RegExp, method: string) {
  const { promise, resolve } = Promise.withResolvers<void>()
  const held: string[] = []
  await page.route(path, async route => {
    if (route.request().method() !== method) return route.fallback()
    held.push(route.request().url())
    await promise
    await route.fallback()
  })
  return { held, release: resolve }
}

test('on create makes one key, however slow the answer', async () => {
  const here = await visit('/settings')
  const { page } = here
  await page.getByLabel('A new key for').fill('made once')
  const { held, release } = await hold(page, /\/api\/v1\/keys$/, 'POST')
  await page.getByRole('button', { name: 'create' }).dblclick()
  release()
  await page.locator('.once').waitFor()
  await page.locator('.rows li', { hasText: 'made once' }).waitFor()
  expect(held).toHaveLength(1)
  await page.locator('.newkey button[type=submit]:not([disabled])').waitFor()
  await leave(here)
}, 60_000)

test('on revoke asks, and revokes nothing before a later click', async () => {
  await server.post('/api/v1/keys', { name: 'kept', scopes: ['runs:read'] })
  const here = await visit('/settings')
  const { page } = here
  const row = page.locator('.rows li', { hasText: 'kept' })
  const { held, release } = await hold(page, /\/revoke$/, 'POST')
  release()
  await row.getByRole('button', { name: 'revoke' }).dblclick()
  await row.getByRole('button', { name: 'really revoke?' }).waitFor()
  expect(held).toEqual([])
  await clickLater(row.getByRole('button', { name: 'really revoke?' }))
  await row.getByText('revoked').waitFor()
  expect(held).toHaveLength(1)
  await leave(here)
}, 60_000)

test('on Cancel cancels, and buys nothing by the Resume that stands there by then', async () => {
  const id = await createRun({ film: 'It turns #slow=30s' })
  const here = await visit(`/runs/${id}`)
  const { page } = here
  await page.locator('[data-step=image_to_video][data-state=running]').waitFor({ timeout: 20_000 })
  const { x, y } = (await page.getByRole('button', { name: 'Cancel', exact: true }).boundingBox()) ?? { x: 0, y: 0 }
  const { held, release } = await hold(page, /\/resume$/, 'POST')
  release()
  await page.mouse.click(x + 30, y + 15)
  const resume = page.getByRole('button', { name: 'Resume', exact: true })
  const now = await resume.boundingBox()
  expect(now && now.x < x + 30 && now.x + now.width > x + 30).toBe(true)
  await page.mouse.down({ clickCount: 2 })
  await page.mouse.up({ clickCount: 2 })
  await page.evaluate('new Promise(done => requestAnimationFrame(() => setTimeout(done)))')
  // An order that is under way holds its button.
  expect([await resume.isEnabled(), held]).toEqual([true, []])
  await page.mouse.click(x + 30, y + 15)
  await page.locator(`[data-run]:not([data-run="${id}"])`).waitFor()
  expect(held).toHaveLength(1)
  await leave(here)
}, 60_000)

test('on older deliveries gets one page of them', async () => {
  for (const film of ['It turns', 'It drifts', 'It stops'])
    await done(await createRun({ film, more: { webhook_url: `${server.url}/lab/inbox/bootstrap` } }))
  const here = await visit('/settings')
  const { page } = here
  await pageByOne(page)
  await page.getByRole('link', { name: 'deliveries', exact: true }).click()
  await page.locator('.deliverylist > li').waitFor()
  const { held, release } = await hold(page, /\/api\/v1\/deliveries\?.*cursor=/, 'GET')
  await page.locator('.more-button').dblclick()
  release()
  await page.locator('.deliverylist > li').nth(1).waitFor()
  await page.locator('.more-button', { hasText: 'older deliveries' }).waitFor()
  expect(held).toHaveLength(1)
  expect(await page.locator('.deliverylist > li').count()).toBe(2)
  await leave(here)
}, 60_000)
