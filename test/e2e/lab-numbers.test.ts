/** A number in the Lab is what was typed, key by key, and what is no number is neither sent nor taken for an empty field. */
import { describe, expect, test } from 'bun:test'
import type { Locator, Page, Request } from 'playwright-core'
import { leave, openLab, printedBody } from '../support/lab.ts'

const { server, visit } = openLab()

const runButton = (page: Page) => page.locator('.runbar .primary')
const ready = (page: Page) => page.locator('.runbar .primary:not([disabled])').waitFor()

/** As a reader does it, key by key: `fill` would write it at once. */
async function type(field: Locator, text: string): Promise<string> {
  await field.fill('')
  await field.pressSequentially(text)
  return field.inputValue()
}

const unfold = (page: Page) => page.locator('.card').first().locator('details.more > summary').click()

/** The field shows text that its browser cannot read. */
const isBad = (field: unknown): boolean => (field as { validity: { badInput: boolean } }).validity.badInput

const isFocused = (field: unknown): boolean =>
  (field as { ownerDocument: { activeElement: unknown } }).ownerDocument.activeElement === field

const orders = (page: Page, path: string): Request[] => {
  const sent: Request[] = []
  page.on('request', request => {
    if (request.method() !== 'GET' && new URL(request.url()).pathname.startsWith(path)) sent.push(request)
  })
  return sent
}

describe('a number that is typed', () => {
  test('is the limit of a new key', async () => {
    const here = await visit('/settings')
    const { page } = here
    const budget = page.getByLabel('US dollars a day')
    for (const text of ['20.00', '10.05', '0.05', '-', '2.50']) {
      const shown = await type(budget, text)
      if (text !== '-') expect(shown).toBe(text)
    }
    await page.getByLabel('A new key for').fill('counted')
    const sent = orders(page, '/api/v1/keys')
    await page.getByRole('button', { name: 'create' }).click()
    await page.locator('.rows li', { hasText: 'counted' }).getByText('of $2.50 today').waitFor()
    expect(sent.map(request => request.postDataJSON().daily_budget_usd)).toEqual([2.5])
    expect(await budget.inputValue()).toBe('')
    await leave(here)
  }, 60_000)

  test('is the parameter of a model and the limit of a run, and the slider gives another', async () => {
    const here = await visit('/')
    const { page } = here
    await unfold(page)
    const guidance = page.locator('[data-pointer$="/guidance"] input[type=number]')
    for (const text of ['2.05', '3.25']) expect(await type(guidance, text)).toBe(text)
    expect(await type(page.getByLabel('Spend at most'), '10.00')).toBe('10.00')
    const { input, max_cost_usd } = await printedBody(page)
    expect([input.text_to_image_params?.guidance, max_cost_usd]).toEqual([3.25, 10])
    const slider = page.locator('[data-pointer$="/guidance"] input[type=range]')
    await slider.fill('4.305')
    expect(await guidance.inputValue()).toBe(await slider.inputValue())
    await leave(here)
  }, 60_000)

  test('mends a failed step', async () => {
    const made = await server.post('/api/v1/chains/chain101/runs', {
      input: {
        chain_models: { text_to_image_model: 'bfl/flux-2-flex', image_to_video_model: 'kling/3-std' },
        text_to_image_params: { prompt: 'A small boat', width: 256, height: 256 },
        image_to_video_params: { prompt: 'It turns #moderate', cfg_scale: 0.5 },
      },
    })
    const { id } = (await made.json()) as { id: string }
    await server.json(`/api/v1/runs/${id}?wait=30`)
    const here = await visit(`/runs/${id}`)
    const { page } = here
    const more = page.locator('details.mend details.more')
    await more.locator('summary').click()
    const scale = more.locator('[data-pointer$="/cfg_scale"] input[type=number]')
    expect(await type(scale, '0.05')).toBe('0.05')
    const sent = orders(page, `/api/v1/runs/${id}/resume`)
    const resume = page.getByRole('button', { name: 'Resume with these parameters' })
    await type(scale, '1e')
    await resume.click()
    await page.getByRole('alert').getByText('cannot be read').waitFor()
    await type(scale, '0.05')
    await resume.click()
    await page.locator(`[data-run]:not([data-run="${id}"])`).waitFor()
    expect(sent.map(request => request.postDataJSON().input.image_to_video_params.cfg_scale)).toEqual([0.05])
    await leave(here)
  }, 60_000)
})

describe('what is no number', () => {
  test('is said at the limit of a key, and saves nothing', async () => {
    await server.post('/api/v1/keys', { name: 'spender', scopes: ['runs:read'], daily_budget_usd: 50 })
    const here = await visit('/settings')
    const { page } = here
    const row = page.locator('.rows li', { hasText: 'spender' })
    await row.getByRole('button', { name: 'limits' }).click()
    const budget = row.getByLabel('US dollars a day')
    const sent = orders(page, '/api/v1/keys')
    await budget.press('End')
    await budget.pressSequentially('-')
    await row.locator('.field', { hasText: 'US dollars a day' }).getByText('not a number').waitFor()
    await budget.press('Enter')
    expect(await row.getByRole('button', { name: 'save' }).isDisabled()).toBe(true)
    await row.getByRole('button', { name: 'discard this text' }).click()
    expect(await budget.inputValue()).toBe('50')
    await row.getByRole('button', { name: 'save' }).click()
    await budget.waitFor({ state: 'detached' })
    expect(sent.map(request => request.postDataJSON().daily_budget_usd)).toEqual([50])
    await leave(here)
  }, 60_000)

  test('holds back a new key', async () => {
    const here = await visit('/settings')
    const { page } = here
    await page.getByLabel('A new key for').fill('unlimited by mistake')
    await page.getByLabel('US dollars a day').pressSequentially('5-')
    await page.getByText('not a number').waitFor()
    expect(await page.getByRole('button', { name: 'create' }).isDisabled()).toBe(true)
    await page.getByLabel('US dollars a day').press('Backspace')
    await page.locator('.newkey .secondary:not([disabled])').waitFor()
    expect(await page.getByText('not a number').count()).toBe(0)
    await leave(here)
  }, 60_000)

  test('holds Run back until it is mended or discarded', async () => {
    const here = await visit('/')
    const { page } = here
    await ready(page)
    await unfold(page)
    const guidance = page.locator('[data-pointer$="/guidance"] input[type=number]')
    for (const [field, box] of [
      [page.getByLabel('Spend at most'), page.getByRole('region', { name: 'Callback and limit' })],
      [guidance, page.locator('[data-pointer$="/guidance"]')],
    ] as const)
      for (const text of ['2e', '5-']) {
        await type(field, text)
        await box.getByText('not a number').waitFor()
        await page.locator('#why').getByText('cannot be read').waitFor()
        expect(await runButton(page).isDisabled()).toBe(true)
        await box.getByRole('button', { name: 'discard this text' }).click()
        await ready(page)
        expect(await field.evaluate(isBad)).toBe(false)
        await type(field, '')
      }
    await type(guidance, '2e')
    await page.locator('#why').getByText('cannot be read').waitFor()
    await unfold(page)
    await guidance.waitFor()
    await leave(here)
  }, 60_000)

  test('goes with a model that is chosen anew, and holds nothing back after it', async () => {
    const here = await visit('/')
    const { page } = here
    await unfold(page)
    await type(page.locator('[data-pointer$="/guidance"] input[type=number]'), '1e')
    await page.locator('#why').getByText('cannot be read').waitFor()
    await page.getByLabel('Model of text-to-image').selectOption('bfl/flux-2-pro')
    await ready(page)
    await leave(here)
  }, 60_000)
})

test('a mistake among the further settings shows them, and mending it folds nothing up under one’s hands', async () => {
  const here = await visit('/')
  const { page } = here
  await ready(page)
  const field = page.locator('[data-pointer$="/guidance"]')
  const guidance = field.locator('input[type=number]')
  await unfold(page)
  await type(guidance, '55')
  await field.locator('.wrong').waitFor()
  await guidance.press('Backspace')
  await ready(page)
  expect(await guidance.evaluate(isFocused)).toBe(true)
  await guidance.pressSequentially('5')
  await field.locator('.wrong').waitFor()
  await unfold(page)
  expect(await guidance.isVisible()).toBe(false)
  await page.reload()
  await guidance.waitFor()
  await leave(here)
}, 60_000)
