/** The Lab when something is refused, has failed or has ended: it says what is so, and offers what helps. */
import { afterAll, describe, expect, test } from 'bun:test'
import type { RunDto } from '../../src/http/dto.ts'
import { clickLater, firstPrompt, leave, openLab } from '../support/lab.ts'
import { API_KEY } from '../support/server.ts'

let picture: Uint8Array<ArrayBuffer> | null = null
const shop = Bun.serve({
  port: 0,
  hostname: '127.0.0.1',
  fetch: () =>
    picture ? new Response(picture, { headers: { 'content-type': 'image/png' } }) : new Response('', { status: 404 }),
})
const { server, visit } = openLab({ BABYCHAIN_EGRESS_ALLOW: `127.0.0.1:${shop.port}` })
afterAll(async () => {
  await shop.stop(true)
})

const film = (words: string) => ({ content: [{ type: 'text', text: words }], ratio: '1:1', duration: 2 })

async function ended(slug: string, input: object): Promise<RunDto> {
  const made = (await (await server.post(`/api/v1/chains/${slug}/runs`, { input })).json()) as RunDto
  return server.json<RunDto>(`/api/v1/runs/${made.id}?wait=30`)
}

const painted = (prompt: string, words = 'It turns') =>
  ended('chain101', {
    chain_models: { text_to_image_model: 'bfl/flux-2-flex', image_to_video_model: 'bytedance/seedance-1.5-pro' },
    text_to_image_params: { prompt, width: 256, height: 256 },
    image_to_video_params: film(words),
  })

describe('a step that was refused', () => {
  test('is resumed after a finished one, and the run from the start says what it makes again', async () => {
    const run = await painted('A small boat', 'It turns #moderate')
    expect(run.error?.code).toBe('content_rejected')
    const here = await visit(`/runs/${run.id}`)
    const trouble = here.page.getByRole('region', { name: 'What went wrong' })
    await trouble.getByRole('button', { name: 'Change the request' }).waitFor()
    await trouble.getByText('starts over: the finished picture is made again').waitFor()
    await trouble.getByRole('button', { name: 'Resume from image-to-video' }).click()
    await here.page.locator(`[data-run]:not([data-run="${run.id}"])`).waitFor()
    await here.page.getByText('taken over').first().waitFor()
    await leave(here)
  }, 60_000)

  test('says that the finished picture is paid again where it was paid', async () => {
    const run = await painted('A small boat', 'It turns #moderate')
    const here = await visit('/runs')
    await here.page.route(`**/api/v1/runs/${run.id}`, route => route.fulfill({ json: { ...run, mode: 'byok' } }))
    await here.page.goto(`${server.url}/runs/${run.id}`)
    await here.page.getByText('starts over: the finished picture is made and paid again').waitFor()
    await leave(here)
  }, 60_000)

  test('is not resumed where nothing is finished, because it would be refused again', async () => {
    const run = await painted('A small boat #moderate')
    expect(run.error?.code).toBe('content_rejected')
    const here = await visit(`/runs/${run.id}`)
    const trouble = here.page.getByRole('region', { name: 'What went wrong' })
    await trouble.getByRole('button', { name: 'Change the request' }).waitFor()
    expect(await trouble.getByRole('button').count()).toBe(1)
    expect(await here.page.getByText('starts over').count()).toBe(0)
    await leave(here)
  }, 60_000)
})

test('a picture that could not be read is asked for again by a resume', async () => {
  const run = await ended('chain202', {
    chain_models: {
      image_to_image_model: 'bytedance/seedream-4.5',
      image_to_video_model: 'bytedance/seedance-1.5-pro',
    },
    image_to_image_params: { prompt: 'At dusk', image: `http://127.0.0.1:${shop.port}/boat.png` },
    image_to_video_params: film('It turns'),
  })
  expect(run.error?.code).toBe('input_fetch_failed')
  const { steps } = await painted('A boat to begin with')
  const output = await server.request(`/api/v1/media/${steps[0]?.outputs?.[0]?.media_id}`)
  picture = new Uint8Array(await output.arrayBuffer())
  const here = await visit(`/runs/${run.id}`)
  await here.page.getByRole('button', { name: 'Change the request' }).waitFor()
  await here.page.getByRole('button', { name: 'Resume from image-to-image' }).click()
  await here.page.locator('[data-status=succeeded]').waitFor({ timeout: 20_000 })
  await leave(here)
}, 60_000)

test('a run that was stopped says what another from its start makes again', async () => {
  const run = await painted('A small boat', 'It turns #fail')
  const here = await visit(`/runs/${run.id}`)
  await here.page.getByRole('button', { name: 'Run again with changes' }).waitFor()
  await here.page.getByText('starts over: the finished picture is made again').waitFor()
  await leave(here)
}, 60_000)

test('a key is shown once, with the secret that signs its callbacks', async () => {
  const here = await visit('/settings')
  const { page } = here
  await page.getByLabel('A new key for').fill('my backend')
  await page.getByRole('button', { name: 'create' }).click()
  const shown = async (label: string) => {
    const line = page.locator('.once p').filter({ hasText: label })
    await line.getByText('shown this once').waitFor()
    return (await line.locator('code').textContent()) ?? ''
  }
  const key = await shown('API key')
  const answer = await fetch(`${server.url}/api/v1/runs`, { headers: { authorization: `Bearer ${key}` } })
  expect(answer.status).toBe(200)
  expect(await shown('signs its callbacks')).toMatch(/^whsec_[\w+/=]{32,}$/)
  expect(await page.locator('.once p').count()).toBe(2)
  await page.reload()
  await page.locator('.rows li').first().waitFor()
  expect(await page.locator('.once').count()).toBe(0)
  await leave(here)
}, 60_000)

test('what only the environment changes says so, and nothing beside it', async () => {
  const here = await visit('/settings')
  const { page } = here
  const row = page.locator('.rows li').filter({ hasText: 'bootstrap' })
  await row.getByRole('button', { name: 'revoke' }).click()
  await clickLater(row.getByRole('button', { name: 'really revoke?' }))
  await page.getByText('The key comes from BABYCHAIN_API_KEY: change it there and restart.', { exact: true }).waitFor()
  await row.getByRole('button', { name: 'limits' }).click()
  await row.getByRole('button', { name: 'save' }).click()
  await row.getByText('The key comes from BABYCHAIN_API_KEY: change it there and restart.', { exact: true }).waitFor()
  const secrets = page.getByRole('region', { name: 'Callback secret' })
  await secrets.getByRole('button', { name: 'rotate' }).click()
  await clickLater(secrets.getByRole('button', { name: 'really rotate' }))
  const words = 'The secret comes from BABYCHAIN_CALLBACK_SECRET: change it there and restart.'
  await secrets.getByText(words, { exact: true }).waitFor()
  await leave(here)
}, 60_000)

test('a callback secret beside which another one signs is rotated only to end both, and the button says so', async () => {
  const here = await visit('/settings')
  const { page } = here
  const [made, until] = [new Date(), new Date(Date.now() + 3_600_000)].map(each => each.toISOString())
  const data = [null, until].map((retires_at, n) => ({ id: `sec_${n}`, created_at: made, retires_at }))
  await page.route('**/api/v1/webhook_secrets', route => route.fulfill({ json: { object: 'list', data } }))
  await page.reload()
  const secrets = page.getByRole('region', { name: 'Callback secret' })
  await secrets.getByRole('button', { name: 'rotate: only the new one signs' }).click()
  const asked = page.waitForRequest('**/api/v1/webhook_secrets/rotate')
  await clickLater(secrets.getByRole('button', { name: 'really rotate' }))
  expect((await asked).postDataJSON()).toEqual({ overlap_seconds: 0 })
  await leave(here)
}, 60_000)

test('a key that may not read the catalogue is told so, and not that it is being loaded', async () => {
  const made = await server.post('/api/v1/keys', { name: 'clerk', scopes: ['callbacks:manage'] })
  const { key } = (await made.json()) as { key: string }
  const here = await visit('/settings')
  const { page } = here
  await page.context().request.post(`${server.url}/api/v1/session`, { data: { key }, headers: { origin: server.url } })
  await page.goto(server.url)
  await page.getByRole('alert').getByText('The key lacks the scope runs:read.').waitFor()
  expect(await page.locator('.loading').count()).toBe(0)
  await leave(here)
}, 60_000)

describe('a session that has ended', () => {
  const notice = 'Your session has ended; your draft is kept.'

  test('says so when Run is pressed, that nothing was started, and keeps the draft', async () => {
    const here = await visit()
    const { page } = here
    const checked = page.waitForResponse(
      each => each.url().endsWith('/estimate') && (each.request().postData() ?? '').includes('A boat that waits'),
    )
    await firstPrompt(page).fill('A boat that waits')
    await checked
    await page.locator('.runbar .primary:not([disabled])').waitFor()
    const before = await runs()
    await page.context().clearCookies()
    await page.locator('.runbar .primary').click()
    await page.getByRole('alert').getByText(`${notice} Nothing was started.`, { exact: true }).waitFor()
    expect(await runs()).toBe(before)
    await page.getByLabel('API key').fill(API_KEY)
    await page.getByRole('button', { name: 'Sign in' }).click()
    await page.locator('.card').nth(1).waitFor()
    expect(await firstPrompt(page).inputValue()).toBe('A boat that waits')
    expect(await page.getByText('session has ended').count()).toBe(0)
    await leave(here)
  }, 60_000)

  test('does not say that nothing was started when an order was lost before', async () => {
    const here = await visit()
    const { page } = here
    await page.route(/\/chain101\/runs$/, async route => {
      await route.fetch()
      await route.abort('connectionreset')
    })
    await page.locator('.runbar .primary:not([disabled])').click()
    await page.locator('#why').getByText('does not answer').waitFor()
    await page.unroute(/\/chain101\/runs$/)
    await page.context().clearCookies()
    await page.locator('.runbar .primary').click()
    await page.getByRole('alert').getByText(notice, { exact: true }).waitFor()
    await leave(here)
  }, 60_000)

  test('says so on another page, and a first visit hears nothing of it', async () => {
    const here = await visit('/settings')
    const { page } = here
    await page.locator('.rows li').first().waitFor()
    await page.context().clearCookies()
    await page.getByRole('link', { name: 'runs', exact: true }).click()
    await page.getByRole('alert').getByText('Your session has ended. Sign in to go on here.', { exact: true }).waitFor()
    await page.reload()
    await page.getByLabel('API key').waitFor()
    expect(await page.getByRole('alert').count()).toBe(0)
    await leave(here)
  }, 60_000)

  async function runs(): Promise<number> {
    return (await server.json<{ data: unknown[] }>('/api/v1/runs?limit=50')).data.length
  }
})
