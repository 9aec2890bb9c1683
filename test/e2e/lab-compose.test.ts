/** Composing in the Lab: what is shown is what is sent, nothing typed is lost, and nothing is paid twice. */
import { describe, expect, test } from 'bun:test'
import type { Page, Route } from 'playwright-core'
import { firstPrompt, type LabVisit, leave, NO_LAB, openLab, printedBody } from '../support/lab.ts'
import { until } from '../support/server.ts'

const { createRun, server, visit } = openLab()

async function compose(chain = 'chain101'): Promise<LabVisit> {
  const opened = await visit()
  await opened.page.locator('.card').nth(1).waitFor()
  if (chain !== 'chain101') await opened.page.locator('.chain', { hasText: chain }).click()
  return opened
}

const ready = (page: Page) => page.locator('.runbar .primary:not([disabled])').waitFor()
const card = (page: Page, title: string) =>
  page.locator('.card').filter({ has: page.getByRole('heading', { name: title }) })
const model = (page: Page, title: string) => card(page, title).getByLabel(`Model of ${title}`)

/** Lets the first order reach the server and loses its answer; gives the keys of all orders. */
async function loseTheFirstAnswer(page: Page, path: RegExp): Promise<string[]> {
  const keys: string[] = []
  await page.route(path, async (route: Route) => {
    if (route.request().method() !== 'POST') return route.continue()
    keys.push(route.request().headers()['idempotency-key'] ?? '')
    if (keys.length > 1) return route.continue()
    await route.fetch()
    await route.abort('connectionreset')
  })
  return keys
}

describe('an order that was not answered', () => {
  test('is the same order at the second click, another one after a change, and a new one after its answer', async () => {
    const here = await compose()
    const { page } = here
    const prompt = firstPrompt(page)
    const keys = await loseTheFirstAnswer(page, /\/chains\/chain101\/runs$/)
    await prompt.fill('A boat whose answer is lost')
    await ready(page)
    const run = page.locator('.runbar .primary')
    await run.click()
    await page.locator('#why').getByText('does not answer').waitFor()
    await run.click()
    await page.waitForURL(/\/runs\//)
    expect(keys[1]).toBe(keys[0] ?? '')
    const { data } = await server.json<{ data: { input: { text_to_image_params: { prompt: string } } }[] }>(
      '/api/v1/runs?limit=50',
    )
    const made = data.filter(each => each.input.text_to_image_params.prompt === 'A boat whose answer is lost')
    expect(made).toHaveLength(1)
    await page.goBack()
    await ready(page)
    await run.click()
    await page.waitForURL(/\/runs\//)
    await page.goBack()
    await prompt.fill('Another boat')
    await ready(page)
    await run.click()
    await page.waitForURL(/\/runs\//)
    expect(new Set(keys).size).toBe(3)
    await leave(here)
  }, 60_000)

  test('to resume a run is the same at the second click', async () => {
    const made = await createRun({ film: 'Smoke curls #garbage=4' })
    await server.json(`/api/v1/runs/${made}?wait=30`)
    const here = await visit(`/runs/${made}`)
    const keys = await loseTheFirstAnswer(here.page, /\/resume$/)
    const button = here.page.getByRole('button', { name: /^Resume from/ })
    await button.click()
    await here.page.getByRole('alert').getByText('does not answer').waitFor()
    await button.click()
    await here.page.locator(`[data-run]:not([data-run="${made}"])`).waitFor()
    expect(keys).toHaveLength(2)
    expect(keys[1]).toBe(keys[0] ?? '')
    await leave(here)
  }, 60_000)
})

describe('what stands in a field', () => {
  test('is in the code and in the order while it is typed, and holds Run back while it is not JSON', async () => {
    const here = await compose()
    const { page } = here
    await model(page, 'image-to-video').selectOption('runway/gen4.5')
    const field = card(page, 'image-to-video').locator('[data-pointer$="/promptImage"] textarea')
    await field.waitFor({ state: 'attached' })
    await page.evaluate('for (const each of document.querySelectorAll("details.more")) each.open = true')
    await field.click()
    await page.keyboard.type('[{"uri":')
    await page.locator('#why').getByText('cannot be read').waitFor()
    expect(await page.locator('.runbar .primary').isDisabled()).toBe(true)
    await page.keyboard.type('"https://example.com/a.png","position":"last"}]')
    await until('the code has it, and the cursor is still in the field', async () => {
      const given = (await printedBody(page)).input.image_to_video_params?.promptImage
      return JSON.stringify(given) === '[{"uri":"https://example.com/a.png","position":"last"}]'
    })
    await leave(here)
  }, 60_000)

  test('a number or a word is chosen from a list, and Ctrl+Enter sends it at once', async () => {
    const here = await compose()
    const { page } = here
    await model(page, 'image-to-video').selectOption('bfl/flux-3-video')
    const duration = card(page, 'image-to-video').locator('[data-pointer$="/duration"] select')
    await duration.selectOption('"auto"')
    expect((await printedBody(page)).input.image_to_video_params?.duration).toBe('auto')
    await duration.selectOption('20')
    await ready(page)
    const [sent] = await Promise.all([
      page.waitForRequest(request => request.method() === 'POST' && request.url().endsWith('/chain101/runs')),
      page.keyboard.press('Control+Enter'),
    ])
    expect(sent.postDataJSON().input.image_to_video_params.duration).toBe(20)
    await leave(here)
  }, 60_000)

  test('of the JSON editor is the params of the model that is chosen', async () => {
    const here = await compose()
    const { page } = here
    await card(page, 'text-to-image').getByRole('button', { name: 'JSON' }).click()
    const editor = page.getByLabel('Parameters of text-to-image as JSON')
    await editor.fill('{"prompt": "half')
    await model(page, 'text-to-image').selectOption('bytedance/seedream-4')
    await until('the text is that of the new model', async () => {
      const sent = (await printedBody(page)).input
      if (sent.chain_models?.text_to_image_model !== 'bytedance/seedream-4') return false
      return (await editor.inputValue()) === JSON.stringify(sent.text_to_image_params, null, 2)
    })
    await ready(page)
    await leave(here)
  }, 60_000)

  test('a text that was typed while a picture went up stands beside the picture', async () => {
    const here = await compose('chain202')
    const { page } = here
    const held = Promise.withResolvers<void>()
    await page.route(/\/api\/v1\/media$/, async route => {
      await held.promise
      await route.continue()
    })
    await page.getByRole('button', { name: 'draw a sample' }).first().click()
    await page.getByText('uploading').first().waitFor()
    await firstPrompt(page).fill('Typed meanwhile')
    held.resolve()
    const field = page.getByLabel('Input picture').first()
    await until('the picture is there', async () => (await field.inputValue()).startsWith('media:'))
    expect(await firstPrompt(page).inputValue()).toBe('Typed meanwhile')
    await leave(here)
  }, 60_000)

  test('however large, breaks nothing', async () => {
    const here = await compose('chain202')
    const { page } = here
    const field = page.getByLabel('Input picture').first()
    await field.evaluate(
      (element, text) => {
        const input = element as unknown as { value: string; dispatchEvent(event: unknown): void }
        input.value = text
        input.dispatchEvent(new Event('input', { bubbles: true }))
      },
      `data:image/png;base64,${'A'.repeat(6_000_000)}`,
    )
    await firstPrompt(page).fill('Typed after it')
    await page.reload()
    await page.locator('.card').nth(1).waitFor()
    expect(await firstPrompt(page).inputValue()).toBe('Typed after it')
    await leave(here)
  }, 60_000)
})

describe('another model', () => {
  test('keeps the picture and the prompt', async () => {
    const here = await compose('chain202')
    const { page } = here
    await page.getByRole('button', { name: 'draw a sample' }).first().click()
    const field = page.getByLabel('Input picture').first()
    await until('the picture is there', async () => (await field.inputValue()).startsWith('media:'))
    const picture = await field.inputValue()
    await firstPrompt(page).fill('The same at night')
    await model(page, 'image-to-image').selectOption('bfl/flux-2-pro')
    await until('the new model has both', async () => {
      const { image_to_image_params: params = {} } = (await printedBody(page)).input
      return params.input_image === picture && params.prompt === 'The same at night'
    })
    await ready(page)
    await leave(here)
  }, 60_000)

  test('that comes late does not override a later choice', async () => {
    const here = await compose()
    const { page } = here
    const held = Promise.withResolvers<void>()
    const late = page.waitForResponse(/\/models\/bytedance\/seedream-4$/)
    await page.route(/\/models\/bytedance\/seedream-4$/, async route => {
      await held.promise
      await route.continue()
    })
    const select = model(page, 'text-to-image')
    await select.selectOption('bytedance/seedream-4')
    await page.locator('#why').getByText('loading bytedance/seedream-4').waitFor()
    await select.selectOption('bfl/flux-2-pro')
    await ready(page)
    await firstPrompt(page).fill('Typed after the choice')
    held.resolve()
    await (await late).finished()
    await ready(page)
    expect(await select.inputValue()).toBe('bfl/flux-2-pro')
    expect(await firstPrompt(page).inputValue()).toBe('Typed after the choice')
    await leave(here)
  }, 60_000)

  test('that is chosen before the first one has come is the one that stays', async () => {
    const here = await visit(NO_LAB)
    const { page } = here
    const held = Promise.withResolvers<void>()
    const first = page.waitForResponse(/\/models\/bfl\/flux-2-flex$/)
    for (const path of [/\/models\/bfl\/flux-2-flex$/, /\/models\/bytedance\/seedream-4$/])
      await page.route(path, async route => {
        if (path.source.includes('flex')) await held.promise
        else await (await first).finished()
        await route.continue()
      })
    await page.goto(server.url)
    await model(page, 'text-to-image').selectOption('bytedance/seedream-4')
    held.resolve()
    await ready(page)
    expect((await printedBody(page)).input.chain_models?.text_to_image_model).toBe('bytedance/seedream-4')
    await leave(here)
  }, 60_000)

  test('that cannot be loaded leaves the old one chosen and says so', async () => {
    const here = await compose()
    const { page } = here
    await ready(page)
    await page.route(/\/models\/bytedance\/seedream-4$/, route => route.abort('connectionreset'))
    const select = model(page, 'text-to-image')
    const before = await select.inputValue()
    await select.selectOption('bytedance/seedream-4')
    await page.getByText(`bytedance/seedream-4 could not be loaded, ${before} stays`).waitFor()
    expect(await select.inputValue()).toBe(before)
    expect((await printedBody(page)).input.chain_models?.text_to_image_model).toBe(before)
    await page.unroute(/\/models\/bytedance\/seedream-4$/)
    await select.selectOption('bytedance/seedream-4')
    await until('it is chosen', async () => (await select.inputValue()) === 'bytedance/seedream-4')
    await page.getByText('could not be loaded').waitFor({ state: 'detached' })
    await leave(here)
  }, 60_000)

  test('after a step that gives the picture takes further ones where it can, and says which comes first', async () => {
    const here = await compose('chain303')
    const { page } = here
    const second = card(page, 'image-to-image')
    await second.locator('details.more').evaluate(element => {
      ;(element as unknown as { open: boolean }).open = true
    })
    await second.getByText('The picture of text-to-image comes first').waitFor()
    await second.getByRole('button', { name: '+ further picture' }).click()
    await second.getByLabel('Input picture').fill('https://example.com/style.png')
    await until('it is sent in a list', async () => {
      const given = (await printedBody(page)).input.image_to_image_params?.image
      return JSON.stringify(given) === '["https://example.com/style.png"]'
    })
    await second.getByRole('button', { name: '+ further picture' }).click()
    await second.getByLabel('Further picture 2').fill('https://example.com/light.png')
    await until('so is the second', async () => {
      const given = (await printedBody(page)).input.image_to_image_params?.image
      return Array.isArray(given) && given.length === 2
    })
    await ready(page)
    await model(page, 'image-to-image').selectOption('ideogram/v3')
    await until('it is chosen', async () => {
      const { image_to_image_params: params = {}, chain_models } = (await printedBody(page)).input
      return chain_models?.image_to_image_model === 'ideogram/v3' && params.image === undefined
    })
    expect(await second.locator('[data-pointer$="/image"]').count()).toBe(0)
    await leave(here)
  }, 60_000)
})

test('a picture that a step before has come to give is seen where it stands in the way, and only there', async () => {
  const here = await compose('chain202')
  const { page } = here
  await model(page, 'image-to-image').selectOption('bfl/flux-2-pro')
  const step = card(page, 'image-to-image')
  await step.getByLabel('Input picture').fill('https://example.com/boat.png')
  await ready(page)
  await page.locator('.chain', { hasText: 'chain303' }).click()
  await step.locator('.field.bad').getByLabel('Input picture').fill('')
  await ready(page)
  expect(await step.getByLabel('Input picture').count()).toBe(0)
  await leave(here)
}, 60_000)

describe('a run that is run again', () => {
  test('keeps all that its request held, shows it, and lets it be taken away', async () => {
    const made = await createRun({
      more: {
        metadata: { team: 'blue', order: '17' },
        provider_order: { text_to_image: ['sandbox'] },
        max_cost_usd: 3,
        webhook_url: `${server.url}/lab/inbox/bootstrap`,
      },
    })
    const here = await visit(`/runs/${made}`)
    const { page } = here
    await page.getByRole('button', { name: 'Run again with changes' }).click()
    await page.locator('.card').nth(1).waitFor()
    const { provider_order } = await server.json<{ provider_order: Record<string, string[]> }>(`/api/v1/runs/${made}`)
    expect(await printedBody(page)).toMatchObject({
      metadata: { team: 'blue', order: '17' },
      provider_order,
      max_cost_usd: 3,
      webhook_url: `${server.url}/lab/inbox/bootstrap`,
    })
    const also = page.getByRole('group', { name: 'Also sent' })
    await also.getByRole('button', { name: 'order: 17' }).click()
    for (const order of await also.getByRole('button', { name: /by sandbox/ }).all()) await order.click()
    await until('they are not sent', async () => {
      const body = await printedBody(page)
      return JSON.stringify(body.metadata) === '{"team":"blue"}' && body.provider_order === undefined
    })
    await ready(page)
    await page.locator('.runbar .primary').click()
    await page.locator(`[data-run]:not([data-run="${made}"])`).waitFor()
    const again = await server.json<{ metadata: unknown }>(new URL(page.url()).pathname.replace('/', '/api/v1/'))
    expect(again.metadata).toEqual({ team: 'blue' })
    await leave(here)
  }, 60_000)
})

test('the key that runs a chain is named where it works, and nowhere else', async () => {
  const here = await compose()
  await here.page.locator('.statusbar .keys').waitFor()
  await here.page.getByRole('link', { name: 'runs', exact: true }).click()
  await here.page.getByRole('heading', { name: 'Runs' }).waitFor()
  expect(await here.page.locator('.statusbar .keys').count()).toBe(0)
  await leave(here)
}, 30_000)
