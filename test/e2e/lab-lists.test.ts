/** The lists of the Lab: they show what their address asks for, keep up by themselves, and put no other row under the pointer. */
import { describe, expect, test } from 'bun:test'
import type { RunDto } from '../../src/http/dto.ts'
import { leave, openLab, pageByOne } from '../support/lab.ts'

const { cancel, createRun, done, server, visit } = openLab()
const inbox = () => ({ webhook_url: `${server.url}/lab/inbox/bootstrap` })

describe('the list of runs', () => {
  test('asks for no picture that has been removed', async () => {
    const id = await createRun()
    await done(id)
    const here = await visit('/settings')
    const { page } = here
    await page.route(/\/api\/v1\/runs\?/, async route => {
      const answer = await route.fetch()
      const list = (await answer.json()) as { data: RunDto[] }
      for (const output of list.data.flatMap(run => run.steps.flatMap(step => step.outputs ?? [])))
        output.available = false
      await route.fulfill({ json: list })
    })
    await page.goto(`${server.url}/runs`)
    await page.locator(`a[href="/runs/${id}"] .thumb`).waitFor({ state: 'attached' })
    expect(await page.locator('.thumb img').count()).toBe(0)
    await leave(here)
  }, 60_000)

  test('follows a run that has left its filter to its end', async () => {
    const id = await createRun({ prompt: 'A pier in fog #slow=60s' })
    const here = await visit('/runs?status=running')
    const row = here.page.locator(`a[href="/runs/${id}"]`)
    await row.locator('.badge.running').waitFor()
    await cancel(id)
    await row.locator('.badge.canceled').waitFor()
    await leave(here)
  }, 60_000)

  test('shows what its address asks for, however late the answer before comes', async () => {
    const id = await createRun({ prompt: 'A pier' })
    await done(id)
    const here = await visit('/runs')
    const { page } = here
    await page.locator(`a[href="/runs/${id}"]`).waitFor()
    const held = Promise.withResolvers<void>()
    const answered = Promise.withResolvers<void>()
    await page.route(/\/api\/v1\/runs\?status=failed/, async route => {
      await held.promise
      await route.continue().catch(() => {}) // the page may have let go of it
      answered.resolve()
    })
    await page.getByRole('button', { name: 'failed' }).click()
    await page.getByRole('button', { name: 'failed' }).click()
    await page.getByRole('button', { name: 'succeeded' }).click()
    await page.locator(`a[href="/runs/${id}"]`).waitFor()
    held.resolve()
    await answered.promise
    await page.waitForResponse(/\/api\/v1\/runs\?status=succeeded/)
    expect(await page.locator(`a[href="/runs/${id}"]`).count()).toBe(1)
    expect(await page.locator('.empty').count()).toBe(0)
    await leave(here)
  }, 60_000)
})

describe('the list of deliveries', () => {
  test('says that nothing fits, where something was sent', async () => {
    await done(await createRun({ prompt: 'A pier', more: inbox() }))
    const here = await visit('/deliveries?status=gone')
    await here.page.getByText('No delivery fits these filters.').waitFor()
    await leave(here)
  }, 60_000)

  test('shows what its address asks for, however late the answer before comes', async () => {
    await done(await createRun({ prompt: 'A pier', more: inbox() }))
    const here = await visit('/deliveries')
    const { page } = here
    await page.locator('.deliverylist > li').first().waitFor()
    const held = Promise.withResolvers<void>()
    const answered = Promise.withResolvers<void>()
    await page.route(/\/api\/v1\/deliveries\?status=gone/, async route => {
      await held.promise
      await route.continue().catch(() => {})
      answered.resolve()
    })
    await page.getByRole('button', { name: 'gone' }).click()
    await page.getByRole('button', { name: 'gone' }).click()
    await page.locator('.deliverylist > li').first().waitFor()
    held.resolve()
    await answered.promise
    await page.getByRole('button', { name: 'show' }).first().click()
    await page.locator('.tries li').first().waitFor()
    expect(await page.locator('.empty').count()).toBe(0)
    await leave(here)
  }, 60_000)

  test('announces what is new, and moves no row before the reader asks for it', async () => {
    const [first, second] = [
      await createRun({ prompt: 'A first pier', more: inbox() }),
      await createRun({ prompt: 'A second pier', more: inbox() }),
    ]
    await Promise.all([done(first), done(second)])
    const here = await visit('/deliveries')
    const { page } = here
    const row = page.locator('.deliverylist > li').filter({ has: page.locator(`a[href="/runs/${first}"]`) })
    await row.locator('.badge.delivered').waitFor()
    const before = await row.getByRole('button', { name: 'resend' }).boundingBox()
    const third = await createRun({ prompt: 'A third pier', more: inbox() })
    const news = page.getByRole('button', { name: '1 new delivery' })
    await news.waitFor({ timeout: 20_000 })
    expect(await row.getByRole('button', { name: 'resend' }).boundingBox()).toEqual(before)
    expect(await page.locator(`.deliverylist a[href="/runs/${third}"]`).count()).toBe(0)
    await news.click()
    await page.locator('.deliverylist > li').first().locator(`a[href="/runs/${third}"]`).waitFor()
    await leave(here)
  }, 60_000)

  test('stays as it was loaded when one far below is sent again', async () => {
    for (const prompt of ['One pier', 'Two piers', 'Three piers'])
      await done(await createRun({ prompt, more: inbox() }))
    const here = await visit('/settings')
    const { page } = here
    await pageByOne(page)
    await page.getByRole('link', { name: 'deliveries', exact: true }).click()
    await page.getByRole('button', { name: 'older deliveries' }).click()
    const rows = page.locator('.deliverylist > li')
    await rows.nth(1).waitFor()
    const names = () => rows.locator('a[href^="/runs/"]').allTextContents()
    const before = await names()
    await rows.nth(1).getByRole('button', { name: 'resend' }).click()
    await rows.nth(1).getByText('Sent again, with the same webhook-id').waitFor({ timeout: 20_000 })
    expect(await names()).toEqual(before)
    await leave(here)
  }, 60_000)
})
