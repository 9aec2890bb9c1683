/** By the keyboard alone, with a reader of the screen: whoever acts stays where they acted, and is told what came of it. */
import { expect, test } from 'bun:test'
import type { Locator, Page } from 'playwright-core'
import { clickLater, leave, openLab } from '../support/lab.ts'

const { createRun, server, visit } = openLab()

/** Presses it as the keyboard does, waits for what comes of it, and says where the focus is then. */
async function press(page: Page, control: Locator, then: Locator): Promise<string> {
  await control.focus()
  await page.keyboard.press('Enter')
  await then.first().waitFor()
  // What follows an answer is drawn by then.
  await page.evaluate('new Promise(done => requestAnimationFrame(() => setTimeout(done, 50)))')
  return page.evaluate<string>('document.activeElement.localName')
}

const button = (at: Page | Locator, name: string) => at.getByRole('button', { name, exact: true })

test('the way from composing to settings never drops the focus', async () => {
  const here = await visit('/')
  const { page } = here
  const lost: string[] = []
  const walk = async (name: string, control: Locator, then: Locator) => {
    if ((await press(page, control, then)) === 'body') lost.push(name)
  }
  const film = page.locator('[data-step=image_to_video][data-state=running]')
  await page.locator('.card').nth(1).getByLabel('Prompt').first().fill('It turns #slow=30s')
  await button(page, 'built-in inbox').click()
  await page.locator('.runbar .primary:not([disabled])').waitFor()
  await walk('run', page.locator('.runbar .primary'), film)
  const { pathname } = new URL(page.url())
  await walk('cancel', button(page, 'Cancel'), page.locator('[data-status=canceled]'))
  const resumed = page.locator(`[data-run]:not([data-run="${pathname.slice(6)}"])`)
  await walk('resume', button(page, 'Resume'), resumed)
  await film.waitFor()
  await walk('cancel', button(page, 'Cancel'), page.locator('[data-status=canceled]'))
  const delivered = page.locator('.deliverylist .badge.delivered')
  await walk('deliveries', page.getByRole('link', { name: 'deliveries', exact: true }), delivered)
  const row = page.locator('.deliverylist > li').first()
  await walk('resend', button(row, 'resend'), row.getByText('Sent again'))
  await walk('attempts', button(row, 'show the attempts'), row.locator('.tries li'))
  await walk('settings', page.getByRole('link', { name: 'settings', exact: true }), page.locator('.newkey'))
  await page.getByLabel('A new key for').fill('made by keys')
  await walk('create', button(page, 'create'), page.locator('.once'))
  const key = page.locator('.rows li', { hasText: 'made by keys' })
  await walk('limits', button(key, 'limits'), button(key, 'save'))
  await walk('leave', button(key, 'leave as it is'), key.locator('[aria-expanded=false]'))
  await walk('limits', button(key, 'limits'), button(key, 'save'))
  await walk('save', button(key, 'save'), key.locator('[aria-expanded=false]'))
  await walk('revoke', button(key, 'revoke'), button(key, 'really revoke?'))
  await clickLater(button(key, 'really revoke?'))
  await key.getByText('revoked').waitFor()
  expect(await page.evaluate<string>('document.activeElement.localName')).toBe('li')
  expect(lost).toEqual([])
  await leave(here)
}, 60_000)

test('a run tells its steps and its end, and no second that passes', async () => {
  const here = await visit('/settings')
  const { page } = here
  const id = await createRun({ film: 'It turns #slow=8s' })
  await page.goto(`${server.url}/runs/${id}`)
  await page.locator('.runpage').waitFor()
  await page.evaluate(HEARD)
  await page.locator('[data-status=succeeded]').waitFor({ timeout: 20_000 })
  const heard = await page.evaluate<string[]>('heard')
  expect(heard.at(-1)).toBe('run succeeded')
  expect(heard.filter(each => /\d+ (s|%)/.test(each))).toEqual([])
  expect(heard.length).toBeLessThan(12)
  await leave(here)
}, 60_000)

/** What is read out of the page when it changes. */
const HEARD = `
  window.heard = []
  new MutationObserver(changes => {
    for (const { target } of changes) {
      const live = (target.nodeType === 1 ? target : target.parentElement)?.closest('.runpage :is([aria-live], [role=status])')
      if (live) heard.push(live.textContent)
    }
  }).observe(document.body, { subtree: true, childList: true, characterData: true })
  0
`
