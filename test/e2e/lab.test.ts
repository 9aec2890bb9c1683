/**
 * The Lab in a real browser against the real server: every journey against its sources, and against the compiled binary
 * those that could differ there (LAB_BINARY=dist/babychain takes that one, and does them all).
 *
 * 1. Every journey ends with the same question: did the page report an error, or ask another origin for anything?
 * 2. Nothing here waits for a time; it waits for what the page shows.
 */
import { afterAll, beforeAll, describe, expect, test } from 'bun:test'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Browser, Page } from 'playwright-core'
import { type Misconduct, observe, openBrowser } from '../support/browser.ts'
import { clickLater, firstPrompt, seriousFindings } from '../support/lab.ts'
import { API_KEY, ServerProcess, until } from '../support/server.ts'

const GZIPPED_JS_LIMIT = 60_000

interface Visit {
  page: Page
  seen: Misconduct
}

const built = mkdtempSync(join(tmpdir(), 'babychain-lab-'))
const binary = process.env.LAB_BINARY ?? join(built, 'babychain')
const servers = [
  { name: 'from the sources', command: undefined, whole: true },
  { name: 'from the binary', command: [binary], whole: process.env.LAB_BINARY !== undefined },
]

let browser: Browser
beforeAll(async () => {
  browser = await openBrowser()
  if (!process.env.LAB_BINARY) await compile(binary)
}, 60_000)
afterAll(async () => {
  await browser.close()
  rmSync(built, { recursive: true, force: true })
})

for (const { name, command, whole } of servers) {
  describe(`the Lab, ${name}`, () => {
    const server = new ServerProcess({
      ...(command ? { command } : {}),
      env: { BABYCHAIN_SANDBOX_LATENCY_MS: '700' },
    })
    beforeAll(async () => {
      await server.start()
    })
    afterAll(() => server.close())

    async function visit(path: string, signedIn = true): Promise<Visit> {
      const context = await browser.newContext({ viewport: { width: 1280, height: 900 } })
      const page = await context.newPage()
      const seen = observe(page, server.url)
      await page.goto(server.url + path + (signedIn ? `#key=${API_KEY}` : ''))
      if (signedIn) await page.waitForSelector('.statusbar')
      return { page, seen }
    }

    async function leave({ page, seen }: Visit): Promise<void> {
      await page.context().close()
      expect(seen).toEqual({ errors: [], strangers: [] })
    }

    /** Fills the first card's prompt, presses Run and gives the id of the run. */
    async function run(page: Page, prompt: string): Promise<string> {
      await firstPrompt(page).fill(prompt)
      await page.locator('.runbar .primary:not([disabled])').waitFor()
      await page.locator('.runbar .primary').click()
      await page.waitForURL(/\/runs\/[\w-]{36}$/)
      return new URL(page.url()).pathname.split('/')[2] ?? ''
    }

    const state = (page: Page, status: string) => page.locator(`[data-status=${status}]`).waitFor({ timeout: 20_000 })
    const create = async (prompt: string, film = 'It turns') => {
      const input = {
        chain_models: { text_to_image_model: 'bfl/flux-2-flex', image_to_video_model: 'bytedance/seedance-1.5-pro' },
        text_to_image_params: { prompt, width: 512, height: 512 },
        image_to_video_params: { content: [{ type: 'text', text: film }], ratio: '1:1', duration: 2 },
      }
      const answer = await server.post('/api/v1/chains/chain101/runs', { input })
      return ((await answer.json()) as { id: string }).id
    }

    test('a first visit signs in by the printed link, once, and runs the chain that stands ready until its film plays', async () => {
      const link = await until('the link is printed', async () => {
        const newest = server.log.slice(server.log.lastIndexOf('"msg":"ready"'))
        return /Lab\s+(http\S+#token=\S+)/.exec(newest)?.[1]
      })
      const context = await browser.newContext()
      const page = await context.newPage()
      const seen = observe(page, server.url)
      await page.goto(link)
      await page.locator('.card').nth(1).waitFor()
      expect(page.url()).toBe(`${server.url}/`)
      await until(
        'the cursor is in the prompt',
        async () => (await page.evaluate<string>('document.activeElement.tagName')) === 'TEXTAREA',
      )
      await page.locator('.runbar .primary:not([disabled])').click()
      await page.waitForURL(/\/runs\//)
      await page.locator('[data-step=text_to_image] .stage img[alt^=Output]').waitFor({ timeout: 20_000 })
      await state(page, 'succeeded')
      const film = page.locator('[data-step=image_to_video] video')
      await film.waitFor()
      const plays = () =>
        film.evaluate((element): [number, number, boolean] => {
          const video = element as unknown as { readyState: number; currentTime: number; muted: boolean; loop: boolean }
          return [video.readyState, video.currentTime, video.muted && video.loop]
        })
      const first = await until('the film plays', async () => {
        const now = await plays()
        return now[0] >= 2 && now[1] > 0 ? now : null
      })
      await until('the film moves on', async () => (await plays())[1] !== first[1])
      expect(first[2]).toBe(true)
      await leave({ page, seen })

      const again = await visit('/', false)
      await again.page.goto(link)
      await again.page.getByText('was used before').waitFor()
      await again.page.context().close() // the refusal itself is an error message of the browser
    }, 60_000)

    test('the first load has at most 60 kB of script, gzipped, and a policy that lets in nothing but our own', async () => {
      const page = await fetch(`${server.url}/`)
      const policy = page.headers.get('content-security-policy') ?? ''
      for (const rule of ["default-src 'self'", "script-src 'self'", "style-src 'self'", "frame-ancestors 'none'"])
        expect(policy).toContain(rule)
      expect(policy).not.toContain('unsafe')
      const html = await page.text()
      const scripts = [...html.matchAll(/<script[^>]*src="([^"]+)"/g)].map(found => found[1] ?? '')
      expect(scripts.length).toBeGreaterThan(0)
      expect(html).not.toMatch(/<script(?![^>]*src=)|<style|\son\w+=/)
      let bytes = 0
      for (const path of scripts) {
        const script = await fetch(server.url + path, { headers: { 'accept-encoding': 'gzip' }, decompress: false })
        expect([path, script.status, script.headers.get('content-type')]).toEqual([
          path,
          200,
          'text/javascript;charset=utf-8',
        ])
        expect(script.headers.get('cache-control')).toContain('immutable')
        expect(script.headers.get('content-encoding')).toBe('gzip')
        bytes += (await script.arrayBuffer()).byteLength
      }
      expect(bytes).toBeLessThanOrEqual(GZIPPED_JS_LIMIT)
    })

    test('the colors are those of the reader’s system, until the page is told others', async () => {
      const here = await visit('/', false)
      const paper = () => here.page.evaluate<string>('getComputedStyle(document.documentElement).backgroundColor')
      const [light, dark] = ['rgb(244, 242, 236)', 'rgb(11, 14, 17)']
      for (const [colorScheme, own] of [
        ['light', light],
        ['dark', dark],
      ] as const) {
        await here.page.emulateMedia({ colorScheme })
        const seen = [await paper()]
        for (const _ of ['light', 'dark', 'auto']) {
          await here.page.getByRole('button', { name: /^Colors/ }).click()
          seen.push(await paper())
        }
        expect(seen).toEqual([own, light, dark, own])
      }
      await leave(here)
    })

    test('a session works for our own pages and for nobody else', async () => {
      const made = await fetch(`${server.url}/api/v1/session`, {
        method: 'POST',
        headers: { 'content-type': 'application/json' },
        body: JSON.stringify({ key: API_KEY }),
      })
      const cookie = made.headers.get('set-cookie') ?? ''
      expect(made.status).toBe(201)
      expect(cookie).toContain('HttpOnly')
      expect(cookie).toContain('SameSite=Strict')
      expect(cookie).not.toContain(API_KEY)
      const pair = cookie.split(';')[0] ?? ''
      const ask = async (method: string, headers: Record<string, string>) => {
        const path = method === 'GET' ? '/api/v1/runs' : '/api/v1/runs/01999999-0000-7000-8000-000000000000/cancel'
        return (await fetch(server.url + path, { method, headers: { cookie: pair, ...headers } })).status
      }
      expect(await ask('GET', { 'sec-fetch-site': 'same-origin' })).toBe(200)
      expect(await ask('GET', { 'sec-fetch-site': 'cross-site' })).toBe(401)
      expect(await ask('POST', { 'sec-fetch-site': 'same-origin' })).toBe(404)
      expect(await ask('POST', { 'sec-fetch-site': 'none' })).toBe(401)
      expect(await ask('POST', {})).toBe(401)
      expect(await ask('POST', { origin: 'https://evil.example' })).toBe(401)
      expect(await ask('POST', { origin: server.url })).toBe(404)
      const forged = `${pair.slice(0, -4)}AAAA`
      expect(await ask('GET', { cookie: forged, 'sec-fetch-site': 'same-origin' })).toBe(401)
    })

    if (!whole) return

    test('a reload in the middle, and another browser, show the same run and go on watching it', async () => {
      const first = await visit('/')
      const id = await run(first.page, 'A lighthouse #slow=3s')
      await first.page.locator('[data-step=text_to_image][data-state=running]').waitFor()
      await first.page.reload()
      expect(await first.page.locator('[data-run]').getAttribute('data-run')).toBe(id)
      const second = await visit(`/runs/${id}`)
      await Promise.all([state(first.page, 'succeeded'), state(second.page, 'succeeded')])
      for (const { page } of [first, second]) await page.locator('[data-step=image_to_video] video').waitFor()
      await leave(first)
      await leave(second)
    }, 60_000)

    test('the keyboard alone chooses a chain and runs it', async () => {
      const here = await visit('/')
      await here.page.locator('.runbar .primary:not([disabled])').waitFor()
      await here.page.locator('input[name=chain]:checked').focus()
      await here.page.keyboard.press('ArrowRight')
      await here.page.getByRole('heading', { name: 'image-to-image' }).waitFor()
      await here.page.keyboard.press('ArrowLeft')
      await here.page.getByRole('heading', { name: 'text-to-image' }).waitFor()
      await here.page.locator('.runbar .primary:not([disabled])').waitFor()
      await here.page.keyboard.press('Control+Enter')
      await here.page.waitForURL(/\/runs\//)
      await state(here.page, 'succeeded')
      await here.page.getByRole('button', { name: 'Open text-to-image in the viewer' }).press('Enter')
      await here.page.getByRole('dialog').getByRole('link', { name: 'download' }).waitFor()
      await here.page.keyboard.press('Escape')
      await here.page.getByRole('dialog').waitFor({ state: 'hidden' })
      await leave(here)
    }, 60_000)

    test('a run is canceled and resumed, keeping the picture that was finished', async () => {
      const id = await create('A kite over dunes', 'It climbs #slow=5s')
      const here = await visit(`/runs/${id}`)
      await here.page.locator('[data-step=image_to_video][data-state=running]').waitFor({ timeout: 20_000 })
      await here.page.getByRole('button', { name: 'Cancel', exact: true }).click()
      await state(here.page, 'canceled')
      await here.page.getByRole('button', { name: 'Resume', exact: true }).click()
      await here.page.locator(`[data-run]:not([data-run="${id}"])`).waitFor()
      await here.page.getByText('taken over').first().waitFor()
      await state(here.page, 'succeeded')
      await leave(here)
    }, 60_000)

    test('a failed run says what went wrong and whose turn it is, and its one button helps', async () => {
      const id = await create('A perfume bottle', 'Smoke curls #garbage=4')
      const here = await visit(`/runs/${id}`)
      await state(here.page, 'failed')
      const trouble = here.page.getByRole('region', { name: 'What went wrong' })
      await trouble.getByText('output_invalid').waitFor()
      expect(await trouble.innerText()).toContain('not an MP4 or WebM film')
      await trouble.getByRole('button').click()
      await here.page.locator(`[data-run]:not([data-run="${id}"])`).waitFor()
      await leave(here)
    }, 60_000)

    test('a mistake is told beside its field while it is typed, Run gives the reason, and JSON and form are one', async () => {
      const here = await visit('/')
      await here.page.getByLabel('Width').fill('1000')
      await here.page.locator('[data-pointer="/input/text_to_image_params/width"] .wrong').waitFor()
      const button = here.page.locator('.runbar .primary')
      await until('Run is disabled', () => button.isDisabled())
      expect(await here.page.locator('#why').innerText()).toContain('width')
      await here.page.getByRole('button', { name: 'JSON' }).first().click()
      const editor = here.page.getByLabel('Parameters of text-to-image as JSON')
      expect(JSON.parse(await editor.inputValue()).width).toBe(1000)
      await editor.fill('{"prompt":"A red boat","width":512,"height":512')
      await until('unreadable JSON is told', async () =>
        (await here.page.locator('#why').innerText()).includes('cannot be read'),
      )
      await editor.fill('{"prompt":"A red boat","width":512,"height":512,"colour":"red"}')
      await here.page.locator('.card .wrong').getByText('colour').first().waitFor()
      await editor.fill('{"prompt":"A red boat","width":512,"height":512}')
      await here.page.locator('.runbar .primary:not([disabled])').waitFor()
      await here.page.getByRole('button', { name: 'Form' }).first().click()
      expect(await here.page.getByLabel('Width').inputValue()).toBe('512')
      await leave(here)
    }, 60_000)

    test('chain202 begins with a picture that is uploaded, and with one that an earlier run made', async () => {
      const done = await create('A red paper boat')
      await server.json(`/api/v1/runs/${done}?wait=30`)
      const here = await visit('/')
      await here.page.getByText('chain202').click()
      await here.page.getByText('needs an input picture').first().waitFor()
      const png = await server.request(
        `/api/v1/media/${await until('there is a picture', async () => {
          const made = await server.json<{ steps: { outputs?: { media_id: string }[] }[] }>(`/api/v1/runs/${done}`)
          return made.steps[0]?.outputs?.[0]?.media_id
        })}`,
      )
      await here.page.locator('input[type=file]').setInputFiles({
        name: 'boat.jpg',
        mimeType: png.headers.get('content-type') ?? 'image/jpeg',
        buffer: Buffer.from(await png.bytes()),
      })
      const field = here.page.getByLabel('Input picture')
      await until('the upload is named', async () => (await field.inputValue()).startsWith('media:'))
      await here.page.locator('.picture-line img').waitFor()
      const uploaded = await field.inputValue()
      await here.page.getByTitle('use this earlier output').first().click()
      expect(await field.inputValue()).not.toBe(uploaded)
      await here.page.locator('.runbar .primary:not([disabled])').click()
      await here.page.waitForURL(/\/runs\//)
      await state(here.page, 'succeeded')
      await leave(here)
    }, 60_000)

    test('the built-in inbox gets the signed callback and trusts it', async () => {
      const here = await visit('/')
      await here.page.getByRole('button', { name: 'built-in inbox' }).click()
      const id = await run(here.page, 'A small boat')
      await state(here.page, 'succeeded')
      await here.page.getByRole('region', { name: 'Callback' }).getByText('Delivered with one attempt').waitFor()
      await here.page.goto(`${server.url}/lab/inbox`)
      await here.page.getByText('signature holds').first().waitFor()
      expect(await here.page.locator(`a[href="/runs/${id}"]`).count()).toBe(1)
      await leave(here)
    }, 60_000)

    test('a callback is sent again, from its run and from the list, with its attempts shown', async () => {
      const here = await visit('/')
      await here.page.getByRole('button', { name: 'built-in inbox' }).click()
      const id = await run(here.page, 'A tin boat')
      await state(here.page, 'succeeded')
      const pane = here.page.getByRole('region', { name: 'Callback' })
      await pane.getByText('Delivered with one attempt').waitFor()
      await pane.getByRole('button', { name: 'resend' }).click()
      await pane.getByText('Sent again').waitFor()
      await here.page.goto(`${server.url}/deliveries`)
      const row = here.page.locator('.deliverylist > li').filter({ has: here.page.locator(`a[href="/runs/${id}"]`) })
      await until('both attempts are logged', async () => {
        await row.getByRole('button', { name: /^show/ }).click()
        return (await row.locator('.tries li').count()) === 2
      })
      expect(await row.locator('.tries').innerText()).toContain('manual')
      await here.page.goto(`${server.url}/lab/inbox`)
      await here.page.locator(`a[href="/runs/${id}"]`).nth(1).waitFor()
      await leave(here)
    }, 60_000)

    test('a receiver is tried with a ping; a key is made, shown once, used, and revoked', async () => {
      const here = await visit('/deliveries')
      await here.page.getByRole('button', { name: 'built-in inbox' }).click()
      await here.page.getByRole('button', { name: 'ping' }).click()
      await here.page.getByText('Delivered: HTTP 204').waitFor()
      await here.page.goto(`${server.url}/settings`)
      await here.page.getByLabel('A new key for').fill('my backend')
      await here.page.getByLabel('requests a minute').fill('30')
      await here.page.getByLabel('US dollars a day').fill('2.5')
      const standard = await here.page.getByLabel('runs at once').getAttribute('placeholder')
      await here.page.getByRole('button', { name: 'create' }).click()
      const key = (await here.page.locator('.once code').first().textContent()) ?? ''
      const secret = here.page.locator('.once p').filter({ hasText: 'signs its callbacks' }).locator('code')
      expect(await secret.textContent()).toStartWith('whsec_')
      const use = () => fetch(`${server.url}/api/v1/runs`, { headers: { authorization: `Bearer ${key}` } })
      expect((await use()).status).toBe(200)
      const row = here.page.locator('.rows li').filter({ hasText: 'my backend' })
      for (const limit of ['30 requests a minute', `${standard} runs at once`, 'of $2.50 today'])
        await row.getByText(limit).waitFor()
      await row.getByRole('button', { name: 'revoke' }).click()
      expect((await use()).status).toBe(200)
      await clickLater(row.getByRole('button', { name: 'really revoke?' }))
      await row.getByText('revoked').waitFor()
      expect((await use()).status).toBe(401)
      await leave(here)
    }, 60_000)

    test('the list filters by its address, and tells of new runs without moving what one reads', async () => {
      const before = await create('A first boat')
      await server.json(`/api/v1/runs/${before}?wait=30`)
      const here = await visit('/runs?status=succeeded')
      await here.page.locator(`a[href="/runs/${before}"]`).waitFor()
      const later = await create('A second boat')
      await server.json(`/api/v1/runs/${later}?wait=30`)
      await here.page.getByRole('button', { name: /new run/ }).click({ timeout: 20_000 })
      await here.page.locator(`a[href="/runs/${later}"]`).waitFor()
      await here.page.getByRole('button', { name: 'failed' }).click()
      expect(new URL(here.page.url()).searchParams.getAll('status')).toEqual(['succeeded', 'failed'])
      await leave(here)
    }, 60_000)

    test('a lost line says that the run is not, and heals', async () => {
      const id = await create('A pier in fog', 'Waves #slow=12s')
      const here = await visit(`/runs/${id}`)
      await here.page.locator('.statusbar .line.live').waitFor()
      await server.kill()
      await here.page.getByText('Live view paused, the run is not').waitFor()
      const port = new URL(server.url).port
      await server.start({ PORT: port })
      await state(here.page, 'succeeded')
      await here.page.goto(server.url)
      await here.page.locator('.checklist summary').click()
      await here.page.locator('.checklist li.done').getByText('killed it, and it went on').waitFor()
      await here.page.context().close() // the cut lines are error messages of the browser
    }, 60_000)

    test('on a phone no page is wider than the phone, with the longest chain chosen and run', async () => {
      const context = await browser.newContext({ viewport: { width: 360, height: 760 } })
      const page = await context.newPage()
      const seen = observe(page, server.url)
      const overflow = () => page.evaluate<number>('document.documentElement.scrollWidth - innerWidth')
      await page.goto(`${server.url}/#key=${API_KEY}`)
      await page.getByText('chain303').click()
      await page.locator('.card').nth(2).waitFor()
      expect(['/', await overflow()]).toEqual(['/', 0])
      await page.locator('.runbar .primary:not([disabled])').click()
      await page.waitForURL(/\/runs\//)
      await state(page, 'succeeded')
      expect(['a run', await overflow()]).toEqual(['a run', 0])
      for (const path of ['/runs', '/deliveries', '/settings', '/lab/inbox']) {
        await page.goto(server.url + path)
        await page.locator('main h1').first().waitFor()
        await page.waitForLoadState('networkidle')
        expect([path, await overflow()]).toEqual([path, 0])
      }
      await leave({ page, seen })
    }, 60_000)

    test('no page has a serious accessibility finding, in dark and in light', async () => {
      const done = await create('A lighthouse at dusk #503=1')
      await server.json(`/api/v1/runs/${done}?wait=30`)
      const failed = await create('A bottle #moderate')
      await server.json(`/api/v1/runs/${failed}?wait=30`)
      const pages = ['/', `/runs/${done}`, `/runs/${failed}`, '/runs', '/deliveries', '/settings', '/lab/inbox']
      for (const colorScheme of ['dark', 'light'] as const) {
        const context = await browser.newContext({ colorScheme, reducedMotion: 'reduce', bypassCSP: true })
        const page = await context.newPage()
        await page.goto(server.url)
        await page.getByLabel('API key').waitFor()
        expect([colorScheme, 'sign in', ...(await seriousFindings(page))]).toEqual([colorScheme, 'sign in'])
        await page.goto('about:blank')
        await page.goto(`${server.url}/#key=${API_KEY}`)
        await page.locator('.card').nth(1).waitFor()
        for (const path of pages) {
          await page.goto(server.url + path)
          await page.locator('main h1').first().waitFor()
          await page.waitForLoadState('networkidle')
          // With all that can be unfolded unfolded.
          await page.evaluate('for (const each of document.querySelectorAll("main details")) each.open = true')
          if (path.startsWith('/runs/')) await page.locator('.events li button').first().click()
          expect([colorScheme, path, ...(await seriousFindings(page))]).toEqual([colorScheme, path])
        }
        await context.close()
      }
    }, 120_000)
  })
}

async function compile(outfile: string): Promise<void> {
  const builder = Bun.spawn(['bun', join(import.meta.dir, '../../scripts/build.ts'), '--outfile', outfile], {
    stdout: 'ignore',
    stderr: 'pipe',
  })
  if ((await builder.exited) !== 0) throw new Error(await new Response(builder.stderr).text())
}
