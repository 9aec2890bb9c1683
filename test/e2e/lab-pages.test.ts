/** The pages of the Lab beside composing: they heal after an outage, tell the truth about a callback, and keep keys apart. */
import { describe, expect, test } from 'bun:test'
import type { Page } from 'playwright-core'
import type { RunDto } from '../../src/http/dto.ts'
import { firstPrompt, leave, openLab } from '../support/lab.ts'
import { ServerProcess, until } from '../support/server.ts'

const { createRun, done, server, visit } = openLab()

/** As a server that is down: no answer from now on, until the outage is over. */
async function outage(page: Page, path: RegExp = /\/api\/v1\//): Promise<() => Promise<void>> {
  await page.route(path, route => route.abort('connectionrefused'))
  return () => page.unroute(path)
}

describe('after an outage', () => {
  test('the first load goes on by itself, and says what it waits for', async () => {
    const here = await visit('/')
    const { page } = here
    for (const path of [/\/api\/v1\/session$/, /\/api\/v1\/models$/, /\/api\/v1\/models\/bfl\//]) {
      const over = await outage(page, path)
      await page.reload()
      const sign = page.locator('main').getByText('The server does not answer')
      await sign.first().waitFor()
      await over()
      await page.locator('.runbar .primary:not([disabled])').waitFor()
      await sign.first().waitFor({ state: 'detached' })
    }
    await leave(here)
  }, 60_000)

  test('the estimate comes without a word typed, and Run with it', async () => {
    const here = await visit('/')
    const { page } = here
    await page.locator('.runbar .primary:not([disabled])').waitFor()
    const over = await outage(page)
    await firstPrompt(page).fill('Typed while nobody answered')
    await page.locator('#why').getByText('The server does not answer').waitFor()
    await over()
    await page.locator('.runbar .primary:not([disabled])').waitFor()
    await leave(here)
  }, 60_000)

  test('the lists that were opened meanwhile fill themselves', async () => {
    const id = await createRun({ prompt: 'A pier' })
    await done(id)
    const here = await visit('/settings')
    const { page } = here
    await page.getByRole('heading', { name: 'Settings' }).waitFor()
    const over = await outage(page)
    await page.getByRole('link', { name: 'deliveries', exact: true }).click()
    await page.locator('.notice').getByText('does not answer').waitFor()
    await page.getByRole('link', { name: 'runs', exact: true }).click()
    await page.locator('.notice').getByText('does not answer').waitFor()
    await over()
    await page.locator(`a[href="/runs/${id}"]`).waitFor()
    expect(await page.locator('.notice').count()).toBe(0)
    await leave(here)
  }, 60_000)

  test('a pending callback is watched on, by one timer however often it was sent again', async () => {
    let answer = 500
    const receiver = Bun.serve({ port: 0, hostname: '127.0.0.1', fetch: () => new Response('', { status: answer }) })
    await using own = new OwnServer({ BABYCHAIN_EGRESS_ALLOW: `127.0.0.1:${receiver.port}` })
    await own.server.start()
    const made = await own.server.post('/api/v1/chains/chain101/runs', {
      input: {
        chain_models: { text_to_image_model: 'bfl/flux-2-flex', image_to_video_model: 'bytedance/seedance-1.5-pro' },
        text_to_image_params: { prompt: 'A small boat', width: 256, height: 256 },
        image_to_video_params: { content: [{ type: 'text', text: 'It turns' }], ratio: '1:1', duration: 2 },
      },
      webhook_url: `http://127.0.0.1:${receiver.port}/hook`,
    })
    const { id } = (await made.json()) as { id: string }
    const here = await visit(`/runs/${id}`, {}, own.server)
    const { page } = here
    const pane = page.getByRole('region', { name: 'Callback' })
    await pane.getByText('The last attempt ended with').waitFor({ timeout: 20_000 })
    await page.addInitScript(COUNT_TIMERS)
    await page.reload()
    await page.locator('.line.ended').waitFor()
    for (const _ of ['once', 'twice', 'three times']) {
      await pane.getByRole('button', { name: 'resend' }).click()
      await pane.getByText('Sent again').waitFor()
    }
    await until('it is asked again', () => page.evaluate<number>('timers.begun').then(begun => begun > 3))
    expect(await page.evaluate<number>('timers.most')).toBe(1)
    const failed = page.waitForEvent('requestfailed', request => request.url().endsWith(`/api/v1/runs/${id}`))
    const over = await outage(page)
    await failed
    await over()
    answer = 204
    await own.server.post(`/api/v1/deliveries/${await deliveryOf(own.server, id)}/resend`, {})
    await pane.getByText('Delivered with').waitFor({ timeout: 20_000 })
    await leave(here)
    await receiver.stop(true)
  }, 60_000)
})

/** How many timers of the callback poll stand at once, at most, and how many have been set. */
const COUNT_TIMERS = `
  const timers = window.timers = { live: new Set(), most: 0, begun: 0 }
  const { setTimeout: set, clearTimeout: clear } = window
  window.setTimeout = (act, ms, ...rest) => {
    if (ms !== 1500) return set(act, ms, ...rest)
    const id = set(() => { timers.live.delete(id); act() }, ms)
    timers.live.add(id)
    timers.begun += 1
    timers.most = Math.max(timers.most, timers.live.size)
    return id
  }
  window.clearTimeout = id => { timers.live.delete(id); clear(id) }
`

async function deliveryOf(at: ServerProcess, run: string): Promise<string> {
  return (await at.json<RunDto>(`/api/v1/runs/${run}`)).callback?.id ?? ''
}

class OwnServer {
  readonly server: ServerProcess
  constructor(env: Record<string, string>) {
    this.server = new ServerProcess({ env: { BABYCHAIN_SANDBOX_LATENCY_MS: '50', ...env } })
  }
  async [Symbol.asyncDispose](): Promise<void> {
    await this.server.close()
  }
}

describe('the attempts of a delivery', () => {
  async function visitDelivered() {
    const id = await createRun()
    const run = await done(id)
    const here = await visit('/settings')
    const { page } = here
    const url = 'https://example.com/hook'
    const callback = {
      id: 'msg_1',
      status: 'delivered',
      attempts: 1,
      delivered_at: run.ended_at,
      last_error: null,
      url,
    }
    const tried = { started_at: run.ended_at, duration_ms: 5, http_status: 204, error_class: null, trigger: 'schedule' }
    const log = [{ ...tried, reply: null }]
    let busy = true
    await page.route(new RegExp(`/api/v1/runs/${id}`), route =>
      route.fulfill({ json: { ...run, webhook_url: url, callback } }),
    )
    await page.route(/\/api\/v1\/deliveries\/msg_1$/, route =>
      busy
        ? route.fulfill({
            status: 503,
            headers: { 'content-type': 'application/problem+json' },
            body: JSON.stringify({ detail: 'The database is busy.' }),
          })
        : route.fulfill({ json: { ...callback, attempt_log: log, payload: {} } }),
    )
    await page.route(/\/api\/v1\/deliveries\/msg_1\/resend$/, route => {
      const updated_at = new Date().toISOString()
      log.push({ ...tried, started_at: updated_at, trigger: 'manual', reply: null })
      return route.fulfill({ status: 202, json: { ...callback, updated_at } })
    })
    await page.goto(`${server.url}/runs/${id}`)
    const heal = () => {
      busy = false
    }
    return { here, heal, pane: page.getByRole('region', { name: 'Callback' }) }
  }

  test('take a failure back once they are shown', async () => {
    const { here, heal, pane } = await visitDelivered()
    const show = pane.getByRole('button', { name: 'show the attempts' })
    await show.click()
    await pane.getByText('The database is busy.').waitFor()
    heal()
    await show.click()
    await pane.locator('.tries li').waitFor()
    await pane.getByText('The database is busy.').waitFor({ state: 'detached', timeout: 5_000 })
    await leave(here)
  }, 60_000)

  test('tell what became of a resend when it is known, and say nothing of it before', async () => {
    let answer = Promise.resolve(204)
    const receiver = Bun.serve({
      port: 0,
      hostname: '127.0.0.1',
      fetch: async () => new Response(null, { status: await answer }),
    })
    await using own = new OwnServer({ BABYCHAIN_EGRESS_ALLOW: `127.0.0.1:${receiver.port}` })
    await own.server.start()
    const id = await createRun(
      { prompt: 'A resent boat', more: { webhook_url: `http://127.0.0.1:${receiver.port}/hook` } },
      own.server,
    )
    const here = await visit(`/runs/${id}`, {}, own.server)
    const pane = here.page.getByRole('region', { name: 'Callback' })
    await pane.getByText('Delivered with one attempt').waitFor({ timeout: 20_000 })
    for (const [status, words] of [
      [500, 'Not delivered: HTTP 500.'],
      [204, 'Delivered: HTTP 204.'],
    ] as const) {
      const held = Promise.withResolvers<number>()
      answer = held.promise
      await pane.getByRole('button', { name: 'resend' }).click()
      await pane.getByText('Sending again …').waitFor()
      expect(await pane.getByText('Sent again').count()).toBe(0)
      held.resolve(status)
      await pane.getByText(`Sent again, with the same webhook-id. ${words}`).waitFor({ timeout: 10_000 })
    }
    await leave(here)
    await receiver.stop(true)
  }, 60_000)

  test('say after a failure still that it was sent again', async () => {
    const { here, heal, pane } = await visitDelivered()
    await pane.getByRole('button', { name: 'resend' }).click()
    await pane.getByText('The database is busy.').waitFor()
    heal()
    await pane.getByRole('button', { name: 'show the attempts' }).click()
    await pane.getByText('Sent again').waitFor({ timeout: 5_000 })
    expect(await pane.getByText('The database is busy.').count()).toBe(0)
    await leave(here)
  }, 60_000)
})

test('earlier outputs are those of now, whenever a form is opened', async () => {
  const here = await visit('/')
  const { page } = here
  await page.locator('.card').nth(1).waitFor()
  await page.locator('.chain', { hasText: 'chain202' }).click()
  await page.getByRole('link', { name: 'runs', exact: true }).click()
  const { steps } = await done(await createRun({ prompt: 'A newer boat' }))
  await page.getByRole('link', { name: 'compose', exact: true }).click()
  const media = steps[0]?.outputs?.[0]?.media_id
  await page.locator(`.earlier img[src="/api/v1/media/${media}"]`).first().waitFor({ state: 'attached' })
  await leave(here)
}, 60_000)

test('of the earlier outputs none is offered that has been removed', async () => {
  const [left, gone] = [
    await done(await createRun({ prompt: 'A boat that is left' })),
    await done(await createRun({ prompt: 'A boat gone' })),
  ]
  const here = await visit('/settings')
  const { page } = here
  await page.route(/\/api\/v1\/runs\?/, async route => {
    const list = (await (await route.fetch()).json()) as { data: RunDto[] }
    const removed = list.data.find(run => run.id === gone.id)?.steps.flatMap(step => step.outputs ?? [])
    for (const output of removed ?? []) output.available = false
    await route.fulfill({ json: list })
  })
  await page.goto(server.url)
  await page.locator('.card').nth(1).waitFor()
  await page.locator('.chain', { hasText: 'chain202' }).click()
  const offered = (run: RunDto) =>
    page.locator(`.earlier img[src="/api/v1/media/${run.steps[0]?.outputs?.[0]?.media_id}"]`)
  await offered(left).first().waitFor({ state: 'attached' })
  expect(await offered(gone).count()).toBe(0)
  await leave(here)
}, 60_000)

test('who has not signed in may type the key at once, unless they are somewhere else already', async () => {
  const here = await visit('/settings')
  const { page } = here
  await page.context().clearCookies()
  await page.reload()
  const key = page.getByLabel('API key', { exact: true })
  await until('the cursor is there', async () => (await page.evaluate<string>('document.activeElement.id')) === 'key')
  await page.keyboard.type('bck_')
  expect(await key.inputValue()).toBe('bck_')
  const held = Promise.withResolvers<void>()
  await page.route(/\/api\/v1\/session$/, async route => {
    await held.promise
    await route.continue()
  })
  await page.reload()
  await page.locator('.theme').focus()
  held.resolve()
  await key.waitFor()
  // What a page does when it has been drawn is done by then.
  await page.evaluate('new Promise(done => requestAnimationFrame(() => setTimeout(done)))')
  expect(await page.evaluate<boolean>('document.activeElement.matches(".theme")')).toBe(true)
  await leave(here)
}, 60_000)

test('who signs in after another sees nothing of the other', async () => {
  await done(await createRun({ prompt: 'A private boat' }))
  const made = await server.post('/api/v1/keys', { name: 'clerk', scopes: ['callbacks:manage'] })
  const { key } = (await made.json()) as { key: string }
  const here = await visit('/runs')
  const { page } = here
  await page.locator('.runlist li').first().waitFor()
  await page.getByRole('link', { name: 'settings', exact: true }).click()
  await page.locator('section[aria-label="API keys"] li').first().waitFor()
  await page.getByRole('button', { name: 'sign out' }).click()
  await page.getByLabel('API key', { exact: true }).fill(key)
  await page.getByRole('button', { name: 'Sign in' }).click()
  await page.locator('section[aria-label="API keys"] .note').waitFor()
  expect(await page.locator('section[aria-label="API keys"] li').count()).toBe(0)
  await page.getByRole('link', { name: 'runs', exact: true }).click()
  await page.locator('.notice').waitFor()
  expect(await page.locator('.runlist li').count()).toBe(0)
  await leave(here)
}, 60_000)

test('the limits of a key are changed in its row, and a refusal stands beside its field', async () => {
  const made = await server.post('/api/v1/keys', { name: 'shop', scopes: ['runs:read'], daily_budget_usd: 2 })
  const { id } = (await made.json()) as { id: string }
  const here = await visit('/settings')
  const { page } = here
  const row = page.locator('.rows li').filter({ hasText: 'shop' })
  await row.getByRole('button', { name: 'limits' }).click()
  expect(await row.getByLabel('US dollars a day').inputValue()).toBe('2')
  await row.getByLabel('requests a minute').fill('0.5')
  await row.getByRole('button', { name: 'save' }).click()
  await row.locator('.field.bad', { hasText: 'requests a minute' }).getByRole('alert').waitFor()
  await row.getByLabel('requests a minute').fill('30')
  await row.getByLabel('runs at once').fill('4')
  await row.getByLabel('runs that wait').fill('')
  await row.getByLabel('US dollars a day').fill('7.5')
  await row.getByRole('button', { name: 'save' }).click()
  for (const limit of ['30 requests a minute', '4 runs at once', 'of $7.50 today']) await row.getByText(limit).waitFor()
  expect(await row.getByText('runs that wait').count()).toBe(0)
  const { data } = await server.json<{ data: { id: string }[] }>('/api/v1/keys')
  expect(data.find(each => each.id === id)).toMatchObject({
    rate_per_minute: 30,
    max_running: 4,
    max_queued: null,
    daily_budget_usd: 7.5,
  })
  await leave(here)
}, 60_000)

test('the link that skips to the content leads there', async () => {
  const here = await visit('/runs')
  const { page } = here
  await page.getByRole('heading', { name: 'Runs' }).waitFor()
  await page.keyboard.press('Tab')
  await page.keyboard.press('Enter')
  await until('the focus is there', async () => (await page.evaluate<string>('document.activeElement.id')) === 'main')
  await page.keyboard.press('Tab')
  expect(await page.evaluate<boolean>('document.querySelector("main").contains(document.activeElement)')).toBe(true)
  expect(new URL(page.url()).pathname).toBe('/runs')
  await leave(here)
}, 30_000)

for (const viewport of [
  { width: 1280, height: 700 },
  { width: 360, height: 700 },
])
  test(`the bar covers no field that has the focus, ${viewport.width} pixels wide`, async () => {
    const here = await visit('/', { viewport })
    const { page } = here
    await page.locator('.runbar .primary:not([disabled])').waitFor()
    await page.evaluate('for (const each of document.querySelectorAll("details.more")) each.open = true')
    await page.locator('input[name=chain]:checked').focus()
    const covered: string[] = []
    for (let step = 0; step < 80; step += 1) {
      await page.keyboard.press('Tab')
      const seen = await page.evaluate<{ inBar: boolean; top: number; bar: number; name: string }>(FOCUSED)
      if (seen.inBar) break
      if (seen.top >= seen.bar) covered.push(seen.name)
    }
    expect(covered).toEqual([])
    await leave(here)
  }, 60_000)

const FOCUSED = `(() => {
  const focused = document.activeElement
  return {
    inBar: document.querySelector('.dock').contains(focused),
    top: focused.getBoundingClientRect().top,
    bar: document.querySelector('.runbar').getBoundingClientRect().top,
    name: focused.outerHTML.slice(0, 120),
  }
})()`
