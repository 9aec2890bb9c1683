/** The page of a run tells its own facts apart from what its caller wrote. */
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
