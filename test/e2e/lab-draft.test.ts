/** A draft in the Lab is neither lost nor mistaken for another, and the bar beneath it says what holds it back now. */
import { describe, expect, test } from 'bun:test'
import type { Page } from 'playwright-core'
import { firstPrompt, type LabVisit, leave, openLab, printedBody } from '../support/lab.ts'
import { until } from '../support/server.ts'

const { server, visit } = openLab()

async function compose(): Promise<LabVisit> {
  const opened = await visit()
  await ready(opened.page)
  return opened
}

/** With words that exist nowhere else. */
async function composeOwn(words = 'My own words'): Promise<LabVisit> {
  const opened = await compose()
  await firstPrompt(opened.page).fill(words)
  return opened
}

const runButton = (page: Page) => page.locator('.runbar .primary')
const ready = (page: Page) => page.locator('.runbar .primary:not([disabled])').waitFor()
const card = (page: Page, title: string) =>
  page.locator('.card').filter({ has: page.getByRole('heading', { name: title }) })
const tab = (page: Page, title: string, name: 'Form' | 'JSON') =>
  card(page, title).getByRole('button', { name, exact: true })
const again = (page: Page) => page.getByRole('button', { name: 'Run again with changes' })
const back = (page: Page) => page.getByRole('button', { name: 'bring it back' })
const drop = (page: Page) => page.getByRole('button', { name: 'drop it' })

/** By links alone, as the page itself leads there: nothing is loaded anew. */
async function runAgain(page: Page, id: string): Promise<void> {
  await page.getByRole('link', { name: 'runs', exact: true }).click()
  await page.locator(`a[href="/runs/${id}"]`).click()
  await again(page).click()
  await page.waitForURL(`${server.url}/`)
  await ready(page)
}

async function runThrough(page: Page): Promise<void> {
  await ready(page)
  await runButton(page).click()
  await page.locator('[data-status=succeeded]').waitFor({ timeout: 20_000 })
}

/** Until the answer is called. */
async function holdCatalogue(page: Page): Promise<() => void> {
  const { promise, resolve } = Promise.withResolvers<void>()
  await page.route(/\/api\/v1\/(chains|models)$/, async route => {
    await promise
    await route.continue()
  })
  return resolve
}

async function createRun(words: string): Promise<string> {
  const input = {
    chain_models: { text_to_image_model: 'bfl/flux-2-max', image_to_video_model: 'bytedance/seedance-1.5-pro' },
    text_to_image_params: { prompt: words, width: 256, height: 256, seed: 77 },
    image_to_video_params: { content: [{ type: 'text', text: 'It turns' }], ratio: '1:1', duration: 2 },
  }
  const answer = await server.post('/api/v1/chains/chain101/runs', { input })
  const { id } = (await answer.json()) as { id: string }
  await server.json(`/api/v1/runs/${id}?wait=30`)
  return id
}

describe('a run that is run again', () => {
  test('before the catalogue has come waits for it, and is the same request', async () => {
    const id = await createRun('My own precious boat')
    const here = await visit('/settings')
    const { page } = here
    const release = await holdCatalogue(page)
    await page.goto(`${server.url}/runs/${id}`)
    await again(page).click()
    await page.locator('.order button[disabled]', { hasText: 'Run again with changes' }).waitFor()
    expect(new URL(page.url()).pathname).toBe(`/runs/${id}`)
    release()
    await page.waitForURL(`${server.url}/`)
    await ready(page)
    const { input } = await printedBody(page)
    expect(input.chain_models?.text_to_image_model).toBe('bfl/flux-2-max')
    expect(input.text_to_image_params).toEqual({ prompt: 'My own precious boat', width: 256, height: 256, seed: 77 })
    await leave(here)
  }, 60_000)

  test('and left before the catalogue has come takes nobody away from where they are', async () => {
    const id = await createRun('A boat that is left')
    const here = await visit('/settings')
    const { page } = here
    const release = await holdCatalogue(page)
    await page.goto(`${server.url}/runs/${id}`)
    await again(page).click()
    await page.getByRole('link', { name: 'compose', exact: true }).click()
    release()
    await ready(page)
    expect(await firstPrompt(page).inputValue()).not.toBe('A boat that is left')
    await leave(here)
  }, 60_000)

  test('of a chain that this server does not have leaves the draft as it is, and says why', async () => {
    const id = await createRun('A boat of another time')
    const run = await server.json<object>(`/api/v1/runs/${id}`)
    const here = await composeOwn()
    const { page } = here
    await page.route(`**/api/v1/runs/${id}`, route => route.fulfill({ json: { ...run, chain_slug: 'chain999' } }))
    await page.goto(`${server.url}/runs/${id}`)
    await again(page).click()
    await page.getByRole('alert').getByText('This server has no chain chain999.').waitFor()
    await page.goto(server.url)
    expect(await firstPrompt(page).inputValue()).toBe('My own words')
    await leave(here)
  }, 60_000)

  test('puts a draft that has not run aside, and gives it back', async () => {
    const id = await createRun('A boat to run again')
    const here = await composeOwn()
    const { page } = here
    await page.goto(`${server.url}/runs/${id}`)
    await again(page).click()
    await back(page).click()
    expect(await firstPrompt(page).inputValue()).toBe('My own words')
    await back(page).click()
    expect(await firstPrompt(page).inputValue()).toBe('A boat to run again')
    await leave(here)
  }, 60_000)

  test('has nothing to put aside where the draft is what has just run', async () => {
    const here = await composeOwn('A boat that has run')
    const { page } = here
    await runThrough(page)
    await again(page).click()
    await ready(page)
    expect(await firstPrompt(page).inputValue()).toBe('A boat that has run')
    expect(await back(page).count()).toBe(0)
    await leave(here)
  }, 60_000)

  test('never puts the untouched request of another run in the place of words of one’s own', async () => {
    const [one, other] = [await createRun('Boat one'), await createRun('Boat other')]
    const here = await composeOwn()
    const { page } = here
    await runAgain(page, one)
    await runAgain(page, other)
    await back(page).click()
    expect(await firstPrompt(page).inputValue()).toBe('My own words')
    await leave(here)
  }, 60_000)

  test('puts one changed draft beside another, and each can be brought back', async () => {
    const [one, other] = [await createRun('Boat one'), await createRun('Boat other')]
    const here = await composeOwn()
    const { page } = here
    await runAgain(page, one)
    await firstPrompt(page).fill('Boat one, changed')
    await runAgain(page, other)
    await back(page).click()
    expect(await firstPrompt(page).inputValue()).toBe('Boat one, changed')
    await back(page).click()
    expect(await firstPrompt(page).inputValue()).toBe('My own words')
    await leave(here)
  }, 60_000)

  test('still has what it put aside after a reload', async () => {
    const id = await createRun('A boat to run again')
    const here = await composeOwn()
    const { page } = here
    await runAgain(page, id)
    await page.reload()
    await ready(page)
    expect(await firstPrompt(page).inputValue()).toBe('A boat to run again')
    await back(page).click()
    expect(await firstPrompt(page).inputValue()).toBe('My own words')
    await page.reload()
    await ready(page)
    expect(await firstPrompt(page).inputValue()).toBe('My own words')
    expect(await back(page).count()).toBe(0)
    await leave(here)
  }, 60_000)

  test('puts aside a callback and a model that were chosen, too', async () => {
    const id = await createRun('A boat to run again')
    const here = await compose()
    const { page } = here
    await page.getByLabel('Final callback').fill('https://example.com/mine')
    await runAgain(page, id)
    await back(page).click()
    expect(await page.getByLabel('Final callback').inputValue()).toBe('https://example.com/mine')
    await leave(here)
    const there = await compose()
    const model = there.page.getByLabel('Model of text-to-image')
    await model.selectOption('bfl/flux-2-pro')
    await ready(there.page)
    await runAgain(there.page, id)
    expect(await model.inputValue()).toBe('bfl/flux-2-max')
    await back(there.page).click()
    expect(await model.inputValue()).toBe('bfl/flux-2-pro')
    await leave(there)
  }, 60_000)

  test('announces no draft that nobody wrote', async () => {
    const id = await createRun('A boat to run again')
    const fresh = await visit(`/runs/${id}`)
    await again(fresh.page).click()
    await fresh.page.waitForURL(`${server.url}/`)
    await ready(fresh.page)
    expect(await back(fresh.page).count()).toBe(0)
    await leave(fresh)
    const untouched = await compose()
    await runAgain(untouched.page, id)
    expect(await firstPrompt(untouched.page).inputValue()).toBe('A boat to run again')
    expect(await back(untouched.page).count()).toBe(0)
    await leave(untouched)
  }, 60_000)

  test('announces no draft that has run before a reload', async () => {
    const here = await composeOwn('A boat that has run')
    const { page } = here
    await runThrough(page)
    await page.reload()
    await again(page).click()
    await page.waitForURL(`${server.url}/`)
    await ready(page)
    expect(await firstPrompt(page).inputValue()).toBe('A boat that has run')
    expect(await back(page).count()).toBe(0)
    await leave(here)
  }, 60_000)

  test('gives its place back once it has run', async () => {
    const id = await createRun('A boat to run again')
    const here = await composeOwn()
    const { page } = here
    await runAgain(page, id)
    await back(page).waitFor()
    await runThrough(page)
    await page.getByRole('link', { name: 'compose', exact: true }).click()
    await ready(page)
    expect(await firstPrompt(page).inputValue()).toBe('My own words')
    expect(await back(page).count()).toBe(0)
    await leave(here)
  }, 60_000)

  test('is not announced once the draft that was brought back has run', async () => {
    const id = await createRun('A boat to run again')
    const here = await composeOwn()
    const { page } = here
    await runAgain(page, id)
    await back(page).click()
    await runThrough(page)
    await page.getByRole('link', { name: 'compose', exact: true }).click()
    await ready(page)
    expect(await back(page).count()).toBe(0)
    await leave(here)
  }, 60_000)

  test('lets the draft go that is dropped, for good', async () => {
    const id = await createRun('A boat to run again')
    const here = await composeOwn()
    const { page } = here
    await runAgain(page, id)
    await drop(page).click()
    await back(page).waitFor({ state: 'detached' })
    await page.reload()
    await ready(page)
    expect(await firstPrompt(page).inputValue()).toBe('A boat to run again')
    expect(await back(page).count()).toBe(0)
    await leave(here)
  }, 60_000)
})

describe('JSON that cannot be read', () => {
  const editor = (page: Page) => page.getByLabel('Parameters of text-to-image as JSON')
  const half = '{"prompt": "half a boat'

  test('is not left for the form until it is mended or discarded', async () => {
    const here = await compose()
    const { page } = here
    await firstPrompt(page).fill('The boat before')
    await tab(page, 'text-to-image', 'JSON').click()
    const before = await editor(page).inputValue()
    await editor(page).fill(half)
    await page.locator('#why').getByText('cannot be read').waitFor()
    expect(await tab(page, 'text-to-image', 'Form').isDisabled()).toBe(true)
    await editor(page).fill('{"prompt": "a whole boat"}')
    await tab(page, 'text-to-image', 'Form').click()
    expect(await firstPrompt(page).inputValue()).toBe('a whole boat')
    await tab(page, 'text-to-image', 'JSON').click()
    await editor(page).fill(before)
    await editor(page).fill(half)
    await card(page, 'text-to-image').getByRole('button', { name: 'discard this text' }).click()
    expect(await editor(page).inputValue()).toBe(before)
    await tab(page, 'text-to-image', 'Form').click()
    expect(await firstPrompt(page).inputValue()).toBe('The boat before')
    await ready(page)
    await leave(here)
  }, 60_000)

  test('is there again after another chain, another page and a reload, and still holds Run back', async () => {
    const here = await compose()
    const { page } = here
    await tab(page, 'text-to-image', 'JSON').click()
    await editor(page).fill(half)
    const away = [
      async () => {
        await page.locator('.chain', { hasText: 'chain202' }).click()
        await editor(page).waitFor({ state: 'detached' })
        await page.locator('.chain', { hasText: 'chain101' }).click()
      },
      async () => {
        await page.getByRole('link', { name: 'runs', exact: true }).click()
        await page.getByRole('heading', { name: 'Runs' }).waitFor()
        await page.getByRole('link', { name: 'compose', exact: true }).click()
      },
      () => page.reload(),
    ]
    for (const leaveAndComeBack of away) {
      await leaveAndComeBack()
      await until('the text is there', async () => (await editor(page).inputValue()) === half)
      await page.locator('#why').getByText('cannot be read').waitFor()
      expect(await runButton(page).isDisabled()).toBe(true)
    }
    await card(page, 'text-to-image').getByRole('button', { name: 'discard this text' }).click()
    await ready(page)
    await leave(here)
  }, 60_000)

  test('in a field of the form is not left for JSON either', async () => {
    const here = await compose()
    const { page } = here
    await page.getByLabel('Model of image-to-video').selectOption('runway/gen4.5')
    const step = card(page, 'image-to-video')
    const field = step.locator('[data-pointer$="/promptImage"]')
    await field.waitFor({ state: 'attached' })
    await page.evaluate('for (const each of document.querySelectorAll("details.more")) each.open = true')
    await field.locator('textarea').fill('[{"uri":')
    await page.locator('#why').getByText('cannot be read').waitFor()
    expect(await tab(page, 'image-to-video', 'JSON').isDisabled()).toBe(true)
    await field.getByRole('button', { name: 'discard this text' }).click()
    await tab(page, 'image-to-video', 'JSON').click()
    expect(await page.getByLabel('Parameters of image-to-video as JSON').inputValue()).not.toContain('uri')
    await leave(here)
  }, 60_000)
})

describe('the bar that runs the chain', () => {
  const why = (page: Page) => page.locator('#why')
  const price = (page: Page) => page.locator('.sum b').innerText()

  /** With a clock that can be put on, and every estimate from now on unanswered until the answer is called. */
  async function holdEstimates(page: Page): Promise<() => void> {
    await page.clock.install()
    await page.reload()
    await ready(page)
    const { promise, resolve } = Promise.withResolvers<void>()
    await page.route(/\/estimate$/, async route => {
      await promise
      await route.continue()
    })
    return resolve
  }

  test('holds back what the server has not spoken of, for some seconds at most, and neither prices nor praises it', async () => {
    const here = await compose()
    const { page } = here
    const release = await holdEstimates(page)
    const before = await price(page)
    expect(before).toStartWith('$')
    const orders: string[] = []
    page.on('request', each => each.method() === 'POST' && each.url().endsWith('/runs') && orders.push(each.url()))
    const asked = page.waitForRequest(/\/estimate$/)
    await page.getByLabel('Width').first().fill('7')
    expect(await runButton(page).isDisabled()).toBe(true)
    await page.keyboard.press('Control+Enter')
    await asked
    expect(await price(page)).not.toContain('$')
    expect(await why(page).innerText()).not.toContain('nothing wrong')
    await page.clock.fastForward(5000)
    await ready(page)
    expect(await price(page)).not.toContain('$')
    expect(await why(page).innerText()).toContain('still being checked')
    expect(orders).toEqual([])
    release()
    await page.locator('#why.wrong').getByText('width').waitFor()
    await page.getByLabel('Width').first().fill('1024')
    await why(page).getByText('nothing wrong with them').waitFor()
    expect(await price(page)).toBe(before)
    await leave(here)
  }, 60_000)

  test('says what a refused order met in words, and no more of it once it is corrected', async () => {
    const here = await compose()
    const { page } = here
    const release = await holdEstimates(page)
    const width = page.getByLabel('Width').first()
    const refused = page.waitForResponse(each => each.request().method() === 'POST' && each.url().endsWith('/runs'))
    await width.fill('7')
    await page.clock.fastForward(5000)
    await ready(page)
    await page.keyboard.press('Control+Enter')
    expect((await refused).status()).toBe(400)
    await page.locator('#why.wrong').waitFor()
    release()
    await page.locator('[data-pointer$="/width"] .wrong').waitFor()
    expect(await why(page).innerText()).not.toContain('errors[]')
    expect(await why(page).innerText()).toContain('width')
    await width.fill('1024')
    await ready(page)
    await why(page).getByText('nothing wrong with them').waitFor()
    expect(await page.locator('#why.wrong').count()).toBe(0)
    await leave(here)
  }, 60_000)

  test('puts a newer reason before an older refusal', async () => {
    const here = await compose()
    const { page } = here
    await page.route(/\/chain101\/runs$/, route =>
      route.fulfill({
        status: 429,
        headers: { 'content-type': 'application/problem+json' },
        body: JSON.stringify({ detail: 'The key may make 10 requests a minute.', hint: '', errors: [] }),
      }),
    )
    await runButton(page).click()
    await why(page).getByText('The key may make 10 requests a minute.').waitFor()
    await page.getByLabel('Width').first().fill('7')
    await why(page).getByText('width').waitFor()
    await leave(here)
  }, 60_000)

  test('says before the click that the key may not start runs', async () => {
    const made = await server.post('/api/v1/keys', { name: 'reader', scopes: ['runs:read'] })
    const { key } = (await made.json()) as { key: string }
    const here = await visit('/settings')
    const { page } = here
    await page
      .context()
      .request.post(`${server.url}/api/v1/session`, { data: { key }, headers: { origin: server.url } })
    await page.goto(server.url)
    await why(page).getByText('the key lacks the scope runs:write').waitFor()
    expect(await runButton(page).isDisabled()).toBe(true)
    await leave(here)
  }, 60_000)
})
