/**
 * Pictures of the Lab, from the real server and a real browser, in the folder screenshots/ (which git ignores).
 *
 *   bun run screenshots             all of them
 *   bun run screenshots compose     those whose name begins so
 *   bun run screenshots --readme    and the two of the README, small, in docs/
 */
import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import type { Browser, Page } from 'playwright-core'
import { openBrowser } from '../test/support/browser.ts'
import { API_KEY, ServerProcess } from '../test/support/server.ts'

const root = join(import.meta.dir, '..')
const folder = join(root, 'screenshots')
const readme = process.argv.includes('--readme')
const only = process.argv.slice(2).find(argument => !argument.startsWith('--')) ?? ''

const server = new ServerProcess({ env: { BABYCHAIN_SANDBOX_LATENCY_MS: '900', LOG_LEVEL: 'info' } })

interface Look {
  width?: number
  height?: number
  scheme?: 'dark' | 'light'
}

const params = (prompt: string, film: string) => ({
  text_to_image_params: { prompt, width: 1024, height: 1024, seed: 593 },
  image_to_video_params: { content: [{ type: 'text', text: film }], ratio: '1:1', duration: 3 },
})
const models = { text_to_image_model: 'bfl/flux-2-flex', image_to_video_model: 'bytedance/seedance-1.5-pro' }
const HEADPHONES = 'A futuristic wireless headphone product on a reflective pedestal, teal and violet studio lighting'

async function startRun(prompt: string, film: string, more: object = {}, wait = 60): Promise<string> {
  const body = { input: { chain_models: models, ...params(prompt, film) }, ...more }
  const answer = await server.post('/api/v1/chains/chain101/runs', body, { prefer: `wait=${wait}` })
  const run = (await answer.json()) as { id: string; detail?: string }
  if (!run.id) throw new Error(run.detail)
  return run.id
}

async function signedIn(browser: Browser, { width = 1440, height = 960, scheme = 'dark' }: Look): Promise<Page> {
  const context = await browser.newContext({ viewport: { width, height }, colorScheme: scheme })
  const page = await context.newPage()
  await page.goto(`${server.url}/#key=${API_KEY}`)
  await page.waitForSelector('.card')
  return page
}

/** Still enough to be looked at: fonts, pictures and films are there. */
async function settle(page: Page): Promise<void> {
  await page.waitForLoadState('networkidle').catch(() => {})
  await page.waitForTimeout(900)
}

async function shoot(browser: Browser, name: string, look: Look, visit: (page: Page) => Promise<void>): Promise<void> {
  if (!name.startsWith(only)) return
  const page = await signedIn(browser, look)
  await visit(page)
  await page.screenshot({ path: join(folder, `${name}.png`), animations: 'allow' })
  await page.context().close()
  console.log(`screenshots/${name}.png`)
}

async function whole(browser: Browser, name: string, look: Look, path: string): Promise<void> {
  await shoot(browser, name, { ...look, height: look.height ?? 2200 }, async page => {
    await page.goto(server.url + path)
    await settle(page)
  })
}

async function main(): Promise<void> {
  await mkdir(folder, { recursive: true })
  await server.start()
  const browser = await openBrowser()
  try {
    const inbox = ((await server.json<{ url: string }>('/api/v1/inbox')) as { url: string }).url
    const done = await startRun(HEADPHONES, 'Slow cinematic orbit around the product', { webhook_url: inbox })
    await startRun('A red paper boat on a teal pond, morning light', 'The boat drifts slowly', { webhook_url: inbox })
    const retried = await startRun('A lighthouse in a storm at night #503=2', 'The beam turns')
    const failed = await startRun('A perfume bottle on black basalt, rim light', 'Smoke curls #garbage', {
      webhook_url: inbox,
    })
    const visit = (path: string) => async (page: Page) => {
      await page.goto(server.url + path)
      await settle(page)
    }
    const signedOut = async (name: string, look: Look) => {
      if (!name.startsWith(only)) return
      const page = await browser.newPage({
        viewport: { width: look.width ?? 1440, height: look.height ?? 900 },
        colorScheme: look.scheme ?? 'dark',
      })
      await page.goto(server.url)
      await settle(page)
      await page.screenshot({ path: join(folder, `${name}.png`) })
      await page.close()
    }
    const phone = { width: 390, height: 844 }
    const light = { scheme: 'light' } as const
    await signedOut('sign-in-dark', {})
    await signedOut('sign-in-phone', phone)
    for (const [suffix, look] of [
      ['dark', {}],
      ['light', light],
      ['phone', phone],
    ] as const) {
      await shoot(browser, `compose-${suffix}`, look, settle)
      await shoot(browser, `done-${suffix}`, look, visit(`/runs/${done}`))
      await shoot(browser, `failed-${suffix}`, look, visit(`/runs/${failed}`))
      await shoot(browser, `runs-${suffix}`, look, visit('/runs'))
      await shoot(browser, `running-${suffix}`, look, async page => {
        const id = await startRun(HEADPHONES, 'Slow cinematic orbit #slow=6s', {}, 0)
        await page.goto(`${server.url}/runs/${id}`)
        await page.waitForSelector('[data-step=image_to_video][data-state=running]')
        await page.waitForTimeout(2_000)
      })
    }
    await whole(browser, 'compose-whole', {}, '/')
    await shoot(browser, 'compose-303', {}, async page => {
      await page.getByText('chain303').click()
      await settle(page)
    })
    await shoot(browser, 'compose-202', {}, async page => {
      await page.getByText('chain202').click()
      await settle(page)
    })
    await shoot(browser, 'compose-wrong', {}, async page => {
      await page.getByLabel('Width').fill('1000')
      await page.waitForSelector('.field .wrong')
      await settle(page)
    })
    await whole(browser, 'run-whole', { height: 2300 }, `/runs/${done}`)
    await whole(browser, 'run-retried', { height: 2000 }, `/runs/${retried}`)
    await whole(browser, 'run-whole-phone', { width: 390, height: 4200 }, `/runs/${done}`)
    await shoot(browser, 'viewer', {}, async page => {
      await page.goto(`${server.url}/runs/${done}`)
      await page.locator('.stage.full').first().click()
      await settle(page)
    })
    await shoot(browser, 'deliveries', {}, visit('/deliveries'))
    await shoot(browser, 'settings', {}, visit('/settings'))
    await shoot(browser, 'settings-light', light, visit('/settings'))
    await shoot(browser, 'inbox', {}, visit('/lab/inbox'))
    if (readme) await forReadme(browser, done)
  } finally {
    await browser.close()
    await server.close()
  }
}

/** Two, as WebP and no wider than a README is. */
async function forReadme(browser: Browser, done: string): Promise<void> {
  await mkdir(join(root, 'docs'), { recursive: true })
  for (const [name, path] of [
    ['lab-compose', '/'],
    ['lab-run', `/runs/${done}`],
  ] as const) {
    const page = await signedIn(browser, { width: 1280, height: 860 })
    await page.goto(server.url + path)
    await settle(page)
    const png = await page.screenshot()
    await new Bun.Image(png).webp({ quality: 82 }).write(join(root, 'docs', `${name}.webp`))
    await page.context().close()
    console.log(`docs/${name}.webp`)
  }
}

await main()
