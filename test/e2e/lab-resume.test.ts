/** The Lab where a step has failed after a finished one: its parameters are changed there, and the run goes on with them. */
import { afterAll, describe, expect, test } from 'bun:test'
import type { Locator, Page } from 'playwright-core'
import type { RunDto } from '../../src/http/dto.ts'
import { leave, openLab, seriousFindings } from '../support/lab.ts'
import { API_KEY } from '../support/server.ts'

const receiver = Bun.serve({ port: 0, hostname: '127.0.0.1', fetch: () => new Response('', { status: 500 }) })
const { server, visit } = openLab({ BABYCHAIN_EGRESS_ALLOW: `127.0.0.1:${receiver.port}` })
afterAll(async () => {
  await receiver.stop(true)
})

/** A run whose picture is finished, and whose film failed by these words. */
async function failed(words: string, more: object = {}): Promise<RunDto> {
  const input = {
    chain_models: { text_to_image_model: 'bfl/flux-2-flex', image_to_video_model: 'bytedance/seedance-1.5-pro' },
    text_to_image_params: { prompt: 'A small boat', width: 256, height: 256 },
    image_to_video_params: { content: [{ type: 'text', text: words }], ratio: '1:1', duration: 4, seed: 7 },
  }
  const made = (await (await server.post('/api/v1/chains/chain101/runs', { input, ...more })).json()) as RunDto
  const run = await server.json<RunDto>(`/api/v1/runs/${made.id}?wait=30`)
  expect(run.steps.map(step => step.status)).toEqual(['succeeded', 'failed'])
  return run
}

const trouble = (page: Page): Locator => page.getByRole('region', { name: 'What went wrong' })
const prompt = (page: Page): Locator => trouble(page).getByLabel('Prompt')
const send = (page: Page): Locator => trouble(page).getByRole('button', { name: 'Resume with these parameters' })
const fold = (page: Page): Locator => trouble(page).getByText('Change image-to-video, keep the finished picture')

async function nextRun(page: Page, { id }: RunDto): Promise<RunDto> {
  const next = page.locator(`[data-run]:not([data-run="${id}"])`)
  await next.waitFor()
  return server.json<RunDto>(`/api/v1/runs/${await next.getAttribute('data-run')}?wait=30`)
}

async function resumesOf({ id }: RunDto): Promise<number> {
  const { data } = await server.json<{ data: RunDto[] }>('/api/v1/runs?limit=50')
  return data.filter(run => run.resumed_from === id).length
}

describe('a film that was refused', () => {
  test('is made with the mended prompt, and the finished picture is kept', async () => {
    const run = await failed('It turns #moderate')
    expect(run.error?.code).toBe('content_rejected')
    const here = await visit(`/runs/${run.id}`)
    const { page } = here
    expect(await prompt(page).inputValue()).toBe('It turns #moderate')
    await prompt(page).fill('It turns slowly')
    await send(page).click()
    const next = await nextRun(page, run)
    expect(next).toMatchObject({
      status: 'succeeded',
      resumed_from: run.id,
      steps: [{ inherited: true }, { inherited: false }],
      input: {
        ...run.input,
        image_to_video_params: {
          content: [{ type: 'text', text: 'It turns slowly' }],
          ratio: '1:1',
          duration: 4,
          seed: 7,
        },
      },
    })
    expect(next.steps[0]?.outputs?.[0]?.media_id).toBe(run.steps[0]?.outputs?.[0]?.media_id ?? '')
    await page.locator('[data-status=succeeded]').waitFor()
    await leave(here)
  }, 60_000)

  test('shows what the server says of a wrong value, beside the button and at its field, and keeps what was typed', async () => {
    const run = await failed('It turns #moderate', { webhook_url: `http://127.0.0.1:${receiver.port}/` })
    const here = await visit(`/runs/${run.id}`)
    const { page } = here
    await prompt(page).fill('It turns slowly')
    const seed = trouble(page).getByLabel('Seed', { exact: true })
    await seed.fill('99999999999')
    await send(page).click()
    const said = trouble(page).getByRole('alert')
    await said.getByText('The request has one problem; nothing was created or spent.').waitFor()
    const { errors } = await refusalOf(run, 99999999999)
    await said.getByText(errors[0]?.detail ?? '–', { exact: true }).waitFor()
    const field = trouble(page).locator('[data-pointer="/input/image_to_video_params/seed"]')
    await field.getByText(errors[0]?.detail ?? '–', { exact: true }).waitFor()
    expect(await seed.getAttribute('aria-invalid')).toBe('true')
    // The callback is pending, so the page goes on asking for the run.
    const asked = () => page.waitForResponse(each => each.url().endsWith(`/api/v1/runs/${run.id}`))
    await asked()
    await asked()
    expect([await prompt(page).inputValue(), await seed.inputValue()]).toEqual(['It turns slowly', '99999999999'])
    await page.reload()
    await seed.waitFor({ state: 'attached' })
    expect([await prompt(page).inputValue(), await seed.inputValue()]).toEqual(['It turns slowly', '99999999999'])
    expect(await resumesOf(run)).toBe(0)
    await seed.fill('8')
    await send(page).click()
    expect((await nextRun(page, run)).status).toBe('succeeded')
    await leave(here)
  }, 60_000)

  test('is ordered once, by a double click and after an answer that was lost', async () => {
    const run = await failed('It turns #moderate')
    const here = await visit(`/runs/${run.id}`)
    const { page } = here
    await page.route(/\/resume$/, async route => {
      await route.fetch()
      await route.abort('connectionreset')
    })
    await prompt(page).fill('It turns slowly')
    await send(page).dblclick()
    await trouble(page).getByRole('alert').getByText('does not answer').waitFor()
    await page.unroute(/\/resume$/)
    await send(page).dblclick()
    await nextRun(page, run)
    expect(await resumesOf(run)).toBe(1)
    await leave(here)
  }, 60_000)

  test('keeps what was typed when the session has ended', async () => {
    const run = await failed('It turns #moderate')
    const here = await visit(`/runs/${run.id}`)
    const { page } = here
    await prompt(page).fill('It turns slowly')
    await page.route(/\/resume$/, async route => {
      await page.context().clearCookies()
      await route.fulfill({ status: 401, json: { detail: 'The session has ended.' } })
    })
    await send(page).click()
    await page.getByLabel('API key').fill(API_KEY)
    await page.getByRole('button', { name: 'Sign in' }).click()
    await send(page).waitFor()
    expect(await prompt(page).inputValue()).toBe('It turns slowly')
    await leave(here)
  }, 60_000)

  test('offers the plain resume and the other request beside it, and no resume of wrong input as it was', async () => {
    const run = await failed('It turns #moderate')
    const here = await visit('/runs')
    const { page } = here
    const buttons = async (code: string) => {
      await page.route(`**/api/v1/runs/${run.id}`, route =>
        route.fulfill({ json: { ...run, error: { ...run.error, code } } }),
      )
      await page.goto(`${server.url}/runs/${run.id}`)
      await send(page).waitFor()
      const shown = [
        await trouble(page).locator('.order > .primary').allTextContents(),
        await trouble(page).locator('.order > button').allTextContents(),
      ]
      // Only now: the page asks again with each event, and would show the run as it is.
      await page.unroute(`**/api/v1/runs/${run.id}`)
      return shown
    }
    const [mend, plain, other] = ['Resume with these parameters', 'Resume from image-to-video', 'Change the request']
    expect(await buttons('content_rejected')).toEqual([[mend], [mend, plain, other]])
    expect(await buttons('input_fetch_failed')).toEqual([[mend], [mend, plain, other]])
    expect(await buttons('invalid_input')).toEqual([[mend], [mend, other]])
    await leave(here)
  }, 60_000)
})

test('a film that failed otherwise is changed by the keyboard alone, behind one fold', async () => {
  const run = await failed('Smoke curls #garbage=4')
  const here = await visit(`/runs/${run.id}`)
  const { page } = here
  await fold(page).waitFor()
  expect(await trouble(page).getByRole('button').allTextContents()).toEqual(['Resume from image-to-video'])
  await fold(page).focus()
  await page.keyboard.press('Enter')
  await prompt(page).waitFor()
  await prompt(page).focus()
  await page.keyboard.press('Control+A')
  await page.keyboard.type('Smoke curls')
  await send(page).focus()
  await page.keyboard.press('Enter')
  expect(await nextRun(page, run)).toMatchObject({ status: 'succeeded', steps: [{ inherited: true }, {}] })
  await leave(here)
}, 60_000)

test('the form of a failed step has no serious accessibility finding, and fits a phone, in dark and in light', async () => {
  const run = await failed('It turns #moderate')
  for (const colorScheme of ['dark', 'light'] as const) {
    const options = { colorScheme, reducedMotion: 'reduce', bypassCSP: true, viewport: { width: 390, height: 844 } }
    const here = await visit(`/runs/${run.id}`, options as object)
    const { page } = here
    await prompt(page).fill('')
    await send(page).click()
    await trouble(page).getByRole('alert').waitFor()
    await page.evaluate('for (const each of document.querySelectorAll("main details")) each.open = true')
    await page.waitForLoadState('networkidle')
    expect([colorScheme, ...(await seriousFindings(page))]).toEqual([colorScheme])
    expect(await page.evaluate<number>('document.documentElement.scrollWidth - innerWidth')).toBe(0)
    await leave(here)
  }
}, 60_000)

test('past a submit that nobody can tell of, a resume names its step, but not once the output has come home', async () => {
  const run = await failed('It turns #moderate')
  const [picture, film] = run.steps
  const lost = { ...film?.attempts.at(-1), outcome: 'unknown' }
  const shown = (attempt: object) => ({
    ...run,
    error: { ...run.error, code: 'outcome_unknown' },
    steps: [picture, { ...film, attempts: [attempt] }],
  })
  let now = shown(lost)
  const here = await visit('/runs')
  const { page } = here
  await page.route(`**/api/v1/runs/${run.id}`, route => route.fulfill({ json: now }))
  const sent: unknown[] = []
  await page.route(/\/resume$/, route => {
    sent.push(route.request().postDataJSON())
    return route.fulfill({ status: 409, json: { detail: `refused ${sent.length}` } })
  })
  await page.goto(`${server.url}/runs/${run.id}`)
  const plain = page.getByRole('button', { name: 'Resume from image-to-video' })
  await fold(page).click()
  await send(page).waitFor()
  expect(await trouble(page).getByText('buys another job: look first whether').count()).toBe(2)
  await plain.click()
  await page.getByText('refused 1').waitFor()
  await send(page).click()
  await page.getByText('refused 2').waitFor()
  now = shown({ ...lost, late_result: { at: run.updated_at, outputs: [], error: null } })
  await plain.click()
  await page.getByText('refused 3').waitFor()
  expect(sent).toEqual([
    { from_step_key: 'image_to_video' },
    expect.objectContaining({ from_step_key: 'image_to_video', input: expect.anything() }),
    null,
  ])
  await leave(here)
}, 60_000)

async function refusalOf({ id, input }: RunDto, seed: number): Promise<{ errors: { detail: string }[] }> {
  const { image_to_video_params: old } = input as { image_to_video_params: object }
  const answer = await server.post(`/api/v1/runs/${id}/resume`, {
    input: { image_to_video_params: { ...old, seed } },
  })
  expect(answer.status).toBe(400)
  return (await answer.json()) as { errors: { detail: string }[] }
}
