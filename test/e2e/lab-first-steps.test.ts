/** The first steps tick what was done, and only that. */
import { expect, test } from 'bun:test'
import type { Page } from 'playwright-core'
import { firstPrompt, leave, NO_LAB, openLab } from '../support/lab.ts'

const { createRun, server, visit } = openLab()

async function ticked(page: Page): Promise<string[]> {
  const list = page.locator('.checklist')
  await list.locator('summary').click()
  return list.locator('li.done > span:last-child').allInnerTexts()
}

test('who runs and resumes in the Lab has not called the API, in whatever browser; who calls it has', async () => {
  const first = await visit('/')
  const { page } = first
  await firstPrompt(page).fill('A boat #slow=20s')
  await page.locator('.runbar .primary:not([disabled])').click()
  await page.getByRole('button', { name: 'Cancel', exact: true }).click()
  await page.getByRole('button', { name: 'Resume', exact: true }).click()
  await page.getByText(/resumed from/).waitFor()
  const second = await visit(NO_LAB)
  for (const { page: each } of [first, second]) {
    const listed = each.waitForResponse(/\/api\/v1\/runs\?limit=30/)
    await each.goto(server.url)
    await (await listed).finished()
    expect((await ticked(each)).join()).not.toContain('called the API')
  }
  await createRun()
  for (const { page: each } of [first, second]) {
    await each.goto(server.url)
    await each.locator('.checklist summary').click()
    await each.locator('.checklist li.done').getByText('called the API').waitFor()
  }
  await leave(first)
  await leave(second)
}, 60_000)
