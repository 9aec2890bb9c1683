/** Two tabs of one browser: they share its session and what it keeps, and neither does anything in the name of the other. */
import { expect, test } from 'bun:test'
import type { Page } from 'playwright-core'
import { firstPrompt, leave, openLab } from '../support/lab.ts'

const { server, visit } = openLab()

/** Another tab, which signs in with another key. */
async function takeOver(page: Page, key: string): Promise<Page> {
  const other = await page.context().newPage()
  await other.goto(`${server.url}/settings`)
  await other.getByRole('button', { name: 'sign out' }).click()
  await other.getByLabel('API key', { exact: true }).fill(key)
  await other.getByRole('button', { name: 'Sign in' }).click()
  await other.getByRole('button', { name: 'sign out' }).waitFor()
  return other
}

test('a tab does nothing with the key of another one: it says that its session has ended, and keeps its draft', async () => {
  const scopes = ['runs:read', 'runs:write']
  const { key } = (await (await server.post('/api/v1/keys', { name: 'guest', scopes })).json()) as { key: string }
  const here = await visit()
  const { page } = here
  const checked = page.waitForResponse(
    each => each.url().endsWith('/estimate') && (each.request().postData() ?? '').includes('A boat of the first key'),
  )
  await firstPrompt(page).fill('A boat of the first key')
  await checked
  await page.locator('.runbar .primary:not([disabled])').waitFor()
  await takeOver(page, key)
  await page.locator('.runbar .primary').click()
  const notice = 'Your session has ended; your draft is kept. Nothing was started.'
  await page.getByRole('alert').getByText(notice, { exact: true }).waitFor()
  const made = await fetch(`${server.url}/api/v1/runs`, { headers: { authorization: `Bearer ${key}` } })
  expect(await made.json()).toMatchObject({ data: [] })
  await page.reload()
  await page.locator('.runbar .primary:not([disabled])').waitFor()
  expect(await firstPrompt(page).inputValue()).toBe('A boat of the first key')
  await leave(here)
}, 60_000)

test('a tab whose session another one has taken over signs out itself, and not the other', async () => {
  const { key } = (await (await server.post('/api/v1/keys', { name: 'next', scopes: ['runs:read'] })).json()) as {
    key: string
  }
  const here = await visit('/settings')
  const { page } = here
  // Nothing that it asks for on its own tells it of the other.
  await page.waitForLoadState('networkidle')
  const other = await takeOver(page, key)
  await page.getByRole('button', { name: 'sign out' }).click()
  await page.getByRole('alert').getByText('Your session has ended. Sign in to go on here.').waitFor()
  await other.reload()
  await other.getByRole('button', { name: 'sign out' }).waitFor()
  await leave(here)
}, 60_000)

test('a tab keeps its own draft over a reload, and a new one begins with what was written last', async () => {
  const here = await visit()
  const { page } = here
  await firstPrompt(page).fill('Words of the first tab')
  const other = await page.context().newPage()
  await other.goto(server.url)
  expect(await firstPrompt(other).inputValue()).toBe('Words of the first tab')
  await firstPrompt(other).fill('Words of the second tab')
  await page.reload()
  expect(await firstPrompt(page).inputValue()).toBe('Words of the first tab')
  const third = await page.context().newPage()
  await third.goto(server.url)
  expect(await firstPrompt(third).inputValue()).toBe('Words of the second tab')
  await leave(here)
}, 60_000)
