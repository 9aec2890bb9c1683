/** What the Lab says of what is over: outputs that were removed, callbacks that were sent again. */
import { afterAll, beforeEach, expect, test } from 'bun:test'
import type { RunDto } from '../../src/http/dto.ts'
import { leave, openLab } from '../support/lab.ts'
import { until } from '../support/server.ts'

let answer = 500
let asked = false
/** Callbacks of other runs may be tried again meanwhile: all wait for it. */
const { promise: released, resolve: release } = Promise.withResolvers<void>()
const receiver = Bun.serve({
  port: 0,
  hostname: '127.0.0.1',
  async fetch() {
    const status = answer
    asked ||= status === 204
    if (status === 204) await released
    return new Response(null, { status })
  },
})
afterAll(() => receiver.stop(true))
beforeEach(() => {
  answer = 500
})
const { server, visit } = openLab({ BABYCHAIN_EGRESS_ALLOW: `127.0.0.1:${receiver.port}` })

async function runOf(prompt: string): Promise<RunDto> {
  const input = {
    chain_models: { text_to_image_model: 'bfl/flux-2-flex', image_to_video_model: 'bytedance/seedance-1.5-pro' },
    text_to_image_params: { prompt: 'A small boat', width: 256, height: 256 },
    image_to_video_params: { content: [{ type: 'text', text: prompt }], ratio: '1:1', duration: 2 },
  }
  const order = { input, webhook_url: `http://127.0.0.1:${receiver.port}/hook` }
  const made = await server.post('/api/v1/chains/chain101/runs', order)
  const { id } = (await made.json()) as { id: string }
  return server.json<RunDto>(`/api/v1/runs/${id}?wait=30`)
}

test.each([
  ['It turns', 'Done in', 0],
  ['It turns #moderate', 'image-to-video failed after', 1],
] as const)(
  'of a run whose picture was removed (%s) says so, and goes on from nothing',
  async (prompt, words, change) => {
    const run = await runOf(prompt)
    const here = await visit('/')
    await here.page.route(`**/api/v1/runs/${run.id}`, async route => {
      const response = await route.fetch()
      const aged = (await response.json()) as RunDto
      for (const output of aged.steps.flatMap(step => step.outputs ?? [])) output.available = false
      await route.fulfill({ response, json: aged })
    })
    await here.page.goto(`${server.url}/runs/${run.id}`)
    await here.page.getByText('removed after its retention').first().waitFor()
    expect(await here.page.locator('h1').innerText()).toContain(words)
    expect(await here.page.getByText('every output is kept').count()).toBe(0)
    expect(await here.page.locator('.strip img, .strip video').count()).toBe(0)
    expect(await here.page.getByRole('button', { name: /^Resume/ }).count()).toBe(0)
    expect(await here.page.locator('.mend').count()).toBe(0)
    expect(await here.page.getByRole('button', { name: 'Change the request' }).count()).toBe(change)
    await here.page.unrouteAll({ behavior: 'wait' })
    await leave(here)
  },
  60_000,
)

test('a callback that is sent again from the list comes to its end before the reader’s eyes', async () => {
  const run = await runOf('It drifts')
  const here = await visit('/deliveries')
  const row = here.page.locator('.deliverylist > li').filter({ has: here.page.locator(`a[href="/runs/${run.id}"]`) })
  await row.getByText('next in').waitFor()
  answer = 204
  await row.getByRole('button', { name: 'show the attempts' }).click()
  await row.getByRole('button', { name: 'resend' }).click()
  await row.getByText('being sent').waitFor()
  await until('the receiver is asked', async () => asked)
  release()
  await row.locator('.badge.delivered').waitFor()
  await row.locator('.tries').getByText('manual').waitFor()
  await leave(here)
}, 60_000)
