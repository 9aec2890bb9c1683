/** What one is about to press in the Lab stays under the pointer when an answer comes, however late and in whatever turn. */
import { describe, expect, test } from 'bun:test'
import type { Locator, Page } from 'playwright-core'
import { leave, openLab } from '../support/lab.ts'

const { createRun, done, server, visit } = openLab()
const WIDE = { width: 1280, height: 900 }
const NARROW = { width: 390, height: 844 }

/** Holds the answers of this path back until it is called, and is done when the page has one. */
async function hold(page: Page, path: RegExp): Promise<() => Promise<void>> {
  const { promise, resolve } = Promise.withResolvers<void>()
  await page.route(path, async route => {
    await promise
    await route.fallback()
  })
  return async () => {
    const answered = page.waitForResponse(path)
    resolve()
    await (await answered).finished()
    // What the page does with it is drawn by then.
    await page.evaluate('new Promise(done => requestAnimationFrame(() => setTimeout(done, 50)))')
  }
}

/** Whatever comes, in this turn, the control is where it was. */
async function expectStill(control: Locator, answers: readonly (() => Promise<void>)[], px = 0): Promise<void> {
  const before = await control.boundingBox()
  expect(before).not.toBeNull()
  for (const answer of answers) {
    await answer()
    const { x, y } = (await control.boundingBox()) ?? { x: Number.NaN, y: Number.NaN }
    expect(Math.hypot(x - (before?.x ?? 0), y - (before?.y ?? 0))).toBeLessThanOrEqual(px)
  }
}

describe.each([['wide', WIDE] as const, ['narrow', NARROW] as const])('in a %s window', (_, viewport) => {
  test('sign out is where it was when keys, secrets and the state of the server have come', async () => {
    const here = await visit('/', { viewport })
    const { page } = here
    const answers = [
      await hold(page, /\/api\/v1\/keys$/),
      await hold(page, /\/webhook_secrets$/),
      await hold(page, /\/readyz$/),
    ]
    await page.getByRole('link', { name: 'settings', exact: true }).click()
    await expectStill(page.getByRole('button', { name: 'sign out' }), answers)
    await page.locator('section[aria-label=Server] dt', { hasText: 'database' }).waitFor()
    await leave(here)
  }, 60_000)

  test('a run of the list and its filters are where they were when the chains have come', async () => {
    const id = await createRun({ film: 'It turns' })
    const here = await visit('/settings', { viewport })
    const { page } = here
    const chains = await hold(page, /\/api\/v1\/chains$/)
    await page.goto(`${server.url}/runs`)
    const row = page.locator(`a[href="/runs/${id}"]`)
    await row.waitFor()
    // The room of the chains is as wide as their names, to a few pixels of the font.
    await expectStill(row, [() => expectStill(page.getByRole('button', { name: 'failed' }), [chains], 4)])
    await page.getByRole('button', { name: 'chain101' }).waitFor()
    await leave(here)
  }, 60_000)

  test('what helps a failed run comes with the form of its step, or is where it was before it', async () => {
    const id = await createRun({ film: 'It turns #moderate' })
    await done(id)
    const here = await visit('/settings', { viewport })
    const { page } = here
    const model = await hold(page, /\/models\/bytedance\/seedance-1\.5-pro$/)
    await page.goto(`${server.url}/runs/${id}`)
    await page.getByText('loading its parameters').waitFor()
    const change = page.getByRole('button', { name: 'Change the request' })
    const early = await change.isVisible()
    expect(early).toBe(viewport === WIDE)
    await (early ? expectStill(change, [model]) : model())
    await change.waitFor()
    await page.getByRole('button', { name: 'Resume with these parameters' }).waitFor()
    await leave(here)
  }, 60_000)

  test('running again is where it was when a run has been canceled', async () => {
    const id = await createRun({ film: 'It turns #slow=30s' })
    const here = await visit(`/runs/${id}`, { viewport })
    const { page } = here
    await page.locator('[data-step=image_to_video][data-state=running]').waitFor({ timeout: 20_000 })
    const again = page.getByRole('button', { name: 'Run again with changes' })
    await expectStill(again, [
      async () => {
        await page.getByRole('button', { name: 'Cancel', exact: true }).click()
        await page.locator('[data-status=canceled]').waitFor()
      },
    ])
    await leave(here)
  }, 60_000)

  test('Run is where it was when the forms of its steps have come', async () => {
    const here = await visit('/settings', { viewport })
    const { page } = here
    const answers = [await hold(page, /\/models\/bfl\/flux-2-flex$/), await hold(page, /\/models\/bytedance\//)]
    await page.goto(server.url)
    // What is said beside it may be a line more, on which it is centered.
    await expectStill(page.locator('.runbar .primary'), answers, 4)
    await page.locator('.runbar .primary:not([disabled])').waitFor()
    await leave(here)
  }, 60_000)
})

test('resend is where it was when a ping, or a resend in the row above, has been answered', async () => {
  const webhook_url = `${server.url}/lab/inbox/bootstrap`
  for (const film of ['It turns', 'It drifts']) await done(await createRun({ film, more: { webhook_url } }))
  const here = await visit('/deliveries')
  const { page } = here
  const rows = page.locator('.deliverylist > li')
  await rows.nth(1).locator('.badge.delivered').waitFor()
  await page.getByLabel('Send a signed test message to').fill(webhook_url)
  await expectStill(rows.nth(1).getByRole('button', { name: 'resend' }), [
    async () => {
      await page.getByRole('button', { name: 'ping' }).click()
      await page.getByText('Delivered: HTTP').waitFor()
    },
    async () => {
      await rows.first().getByRole('button', { name: 'resend' }).click()
      // On the way it says so, for no longer than the receiver takes.
      await rows.first().getByText('Sent again').waitFor()
    },
  ])
  await leave(here)
}, 60_000)
