/** The page of a run tells its own facts apart from what its caller wrote, and moves nothing for who wants no motion. */
import { expect, test } from 'bun:test'
import { leave, openLab } from '../support/lab.ts'

const { createRun, done, visit } = openLab()
const ended = async (more: object = {}): Promise<string> => (await done(await createRun({ more }))).id

test('metadata that has the name of a fact stands under its own heading', async () => {
  const here = await visit(`/runs/${await ended({ metadata: { mode: 'byok', cost: '$99' } })}`)
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
  const without = await visit(`/runs/${await ended()}`)
  await without.page.getByRole('region', { name: 'Facts' }).getByText('attempts', { exact: true }).waitFor()
  expect(await without.page.getByRole('heading', { name: 'metadata' }).count()).toBe(0)
  await leave(without)
}, 60_000)

test('a film stands still for who wants no motion, and is played where it is opened', async () => {
  const id = await ended()
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
