/** What one is about to press in the Lab stays under the pointer when an answer comes. */
import { expect, test } from 'bun:test'
import { leave, openLab } from '../support/lab.ts'

const { visit } = openLab()

test('sign out is where it was when the server has said how it is', async () => {
  const here = await visit()
  const { page } = here
  const { promise, resolve: release } = Promise.withResolvers<void>()
  await page.route('**/readyz', async route => {
    await promise
    await route.fallback()
  })
  await page.getByRole('link', { name: 'settings', exact: true }).click()
  const button = page.getByRole('button', { name: 'sign out' })
  const before = await button.boundingBox()
  release()
  await page.locator('section[aria-label=Server] dt', { hasText: 'database' }).waitFor()
  expect(await button.boundingBox()).toEqual(before)
  await leave(here)
}, 60_000)
