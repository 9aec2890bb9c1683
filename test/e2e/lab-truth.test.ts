/** The page of a run tells its own facts apart from what its caller wrote, and moves nothing for who wants no motion. */
import { expect, test } from 'bun:test'
import { leave, openLab } from '../support/lab.ts'

const { server, visit } = openLab()

async function createRun(more: object = {}): Promise<string> {
  const input = {
    chain_models: { text_to_image_model: 'bfl/flux-2-flex', image_to_video_model: 'bytedance/seedance-1.5-pro' },
    text_to_image_params: { prompt: 'A pier', width: 256, height: 256 },
    image_to_video_params: { content: [{ type: 'text', text: 'It turns' }], ratio: '1:1', duration: 2 },
  }
  const made = await server.post('/api/v1/chains/chain101/runs', { input, ...more })
  const { id } = (await made.json()) as { id: string }
  await server.json(`/api/v1/runs/${id}?wait=30`)
  return id
}

test('metadata that has the name of a fact stands under its own heading', async () => {
  const here = await visit(`/runs/${await createRun({ metadata: { mode: 'byok', cost: '$99' } })}`)
  const { page } = here
  const facts = page.getByRole('region', { name: 'Facts' })
  await facts.getByText('$99').waitFor()
  const own = facts.locator('dl').first()
  expect(
    await own
      .locator('dt')
      .filter({ hasText: /^mode$/ })
      .count(),
  ).toBe(1)
  expect(await own.innerText()).not.toContain('$99')
  await facts.getByRole('heading', { name: 'metadata' }).waitFor()
  expect(await facts.locator('dl').last().locator('dt').allInnerTexts()).toEqual(['mode', 'cost'])
  await leave(here)
  const without = await visit(`/runs/${await createRun()}`)
  await without.page.getByRole('region', { name: 'Facts' }).getByText('attempts', { exact: true }).waitFor()
  expect(await without.page.getByRole('heading', { name: 'metadata' }).count()).toBe(0)
  await leave(without)
}, 60_000)

test('a film stands still for who wants no motion, and is played where it is opened', async () => {
  const id = await createRun()
  for (const reducedMotion of ['reduce', 'no-preference'] as const) {
    const here = await visit(`/runs/${id}`, { reducedMotion })
    const { page } = here
    const moves = (film: unknown) => {
      const { autoplay, loop, controls } = film as Record<'autoplay' | 'loop' | 'controls', boolean>
      return { autoplay, loop, controls }
    }
    const itself = reducedMotion === 'no-preference'
    const film = page.locator('.stage video')
    await film.waitFor()
    expect(await film.evaluate(moves)).toEqual({ autoplay: itself, loop: itself, controls: false })
    await page.getByRole('button', { name: 'Open image-to-video in the viewer' }).click()
    const opened = page.getByRole('dialog').locator('video')
    await opened.waitFor()
    expect(await opened.evaluate(moves)).toEqual({ autoplay: itself, loop: itself, controls: true })
    await leave(here)
  }
}, 60_000)
