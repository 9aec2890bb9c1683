/**
 * Every program that the Lab shows, taken from the page as a reader would copy it, and run on this machine.
 *
 * 1. What runs is the text of the page: key and secret come from the environment, nothing is filled in.
 * 2. Receivers are dialled by the real server through its guarded egress, which allows exactly their ports.
 */
import { afterAll, beforeAll, describe, expect, test } from 'bun:test'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { connect } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Browser, Page } from 'playwright-core'
import { openBrowser } from '../support/browser.ts'
import { freePort } from '../support/free-port.ts'
import { firstPrompt } from '../support/lab.ts'
import { API_KEY, CALLBACK_SECRET, ServerProcess, until } from '../support/server.ts'

type Language = 'cURL' | 'TypeScript' | 'Python'
const LANGUAGES: readonly Language[] = ['cURL', 'TypeScript', 'Python']
const ENDINGS = { cURL: 'sh', TypeScript: 'ts', Python: 'py' }
const COMMANDS = { cURL: ['bash'], TypeScript: ['bun'], Python: ['python3'] }

const folder = mkdtempSync(join(tmpdir(), 'babychain-snippets-'))
/** The egress must know them before the receivers have them. */
const ports = { TypeScript: freePort(), Python: freePort() }

/** Keeps one callback as a reader of the shell snippet would have kept it. */
const kept = Promise.withResolvers<{ headers: Headers; body: Uint8Array }>()
const keeper = Bun.serve({
  port: 0,
  hostname: '127.0.0.1',
  async fetch(request) {
    kept.resolve({ headers: request.headers, body: await request.bytes() })
    return new Response('ok')
  },
})

const server = new ServerProcess({
  env: {
    BABYCHAIN_SANDBOX_LATENCY_MS: '50',
    BABYCHAIN_EGRESS_ALLOW: [ports.TypeScript, ports.Python, keeper.port].map(port => `127.0.0.1:${port}`).join(','),
  },
})
let browser: Browser
let page: Page
const children: Bun.Subprocess[] = []

beforeAll(async () => {
  await server.start()
  browser = await openBrowser()
  page = await browser.newPage()
  await page.goto(`${server.url}/#key=${API_KEY}`)
  await page.locator('.card').nth(1).waitFor()
})
afterAll(async () => {
  for (const child of children) child.kill()
  await browser.close()
  await server.close()
  await keeper.stop(true)
  rmSync(folder, { recursive: true, force: true })
})

describe('the code of the Lab', () => {
  test('creates exactly this run, in every language the same one', async () => {
    await page.goto(server.url)
    await firstPrompt(page).fill(`It's a "red" boat, ünïcode & 20 $ \\ and a #hash`)
    await page.locator('.runbar .primary:not([disabled])').waitFor()
    const ids = []
    for (const language of LANGUAGES) {
      const said = await run(language, 'create', 'create this run', { IDEMPOTENCY_KEY: 'one-order' })
      ids.push(idIn(said))
    }
    expect(new Set(ids).size).toBe(1)
    const made = await server.json<{ input: { text_to_image_params: { prompt: string } } }>(`/api/v1/runs/${ids[0]}`)
    expect(made.input.text_to_image_params.prompt).toBe(`It's a "red" boat, ünïcode & 20 $ \\ and a #hash`)
    await cancel(ids.slice(0, 1))
  }, 60_000)

  test('makes a run each time that it runs, also after a change, unless it is told the key', async () => {
    await page.goto(server.url)
    await firstPrompt(page).fill('A kite')
    await page.locator('.runbar .primary:not([disabled])').waitFor()
    const ids = []
    for (const language of LANGUAGES)
      for (const _ of ['once', 'twice']) ids.push(idIn(await run(language, 'create', 'create this run')))
    await firstPrompt(page).fill('Another kite')
    await page.locator('.runbar .primary:not([disabled])').waitFor()
    for (const language of LANGUAGES) ids.push(idIn(await run(language, 'create', 'create this run')))
    expect(ids).not.toContain(undefined)
    expect(new Set(ids).size).toBe(9)
    await cancel(ids)
  }, 60_000)

  test('gets and watches the run with its real id', async () => {
    const id = await create('A pier')
    await page.goto(`${server.url}/runs/${id}`)
    await page.locator('[data-status=succeeded]').waitFor()
    for (const language of LANGUAGES) {
      expect([language, await run(language, 'get', 'get')]).toEqual([language, expect.stringContaining('succeeded')])
      const watched = await run(language, 'watch', 'watch')
      expect([language, watched]).toEqual([language, expect.stringContaining('run.succeeded')])
      expect([language, watched]).toEqual([language, expect.stringContaining('step.succeeded')])
    }
  }, 60_000)

  test('cancels the run', async () => {
    for (const language of LANGUAGES) {
      const id = await create('A pier #slow=60s')
      await page.goto(`${server.url}/runs/${id}`)
      await page.locator('[data-status=running]').waitFor()
      const said = await run(language, 'cancel', 'cancel')
      expect([language, said]).toEqual([language, expect.stringMatching(/canceled|running/)])
      const ended = await server.json<{ status: string }>(`/api/v1/runs/${id}?wait=20`)
      expect([language, ended.status]).toEqual([language, 'canceled'])
    }
  }, 60_000)

  test('verifies a callback: as a receiver in two languages, and by hand in a shell', async () => {
    await page.goto(server.url)
    await page.locator('.card').nth(1).waitFor()
    for (const language of ['TypeScript', 'Python'] as const) {
      const [file, command] =
        language === 'Python' ? (['receiver.py', 'python3'] as const) : (['receiver.mjs', 'node'] as const)
      writeFileSync(join(folder, file), await textOf(language, 'verify', 'verify the callback'))
      const child = Bun.spawn([command, file], {
        cwd: folder,
        env: {
          PATH: process.env.PATH ?? '',
          PORT: String(ports[language]),
          BABYCHAIN_CALLBACK_SECRET: CALLBACK_SECRET,
        },
        stdout: 'pipe',
        stderr: 'ignore',
      })
      children.push(child)
      const hook = `http://127.0.0.1:${ports[language]}/hook`
      await until(`${language} listens`, () => fetch(hook, { method: 'POST', body: '{}' }).catch(() => null))
      const stalled = await halfPost(ports[language])
      ;(await halfPost(ports[language])).destroy()
      const forged = await fetch(hook, {
        method: 'POST',
        body: '{"type":"run.succeeded","data":{"id":"x"}}',
        headers: {
          'webhook-id': 'msg_1',
          'webhook-timestamp': String(Math.floor(Date.now() / 1000)),
          'webhook-signature': `v1,${Buffer.alloc(32).toString('base64')}`,
        },
      })
      expect([language, forged.status]).toEqual([language, 401])
      const id = await create('A small boat', hook)
      const lines = child.stdout.pipeThrough(new TextDecoderStream()).getReader()
      expect([language, (await lines.read()).value?.trim()]).toEqual([language, `verified run.succeeded ${id}`])
      stalled.destroy()
    }
    await create('A small boat', `http://127.0.0.1:${keeper.port}/hook`)
    const { headers, body } = await kept.promise
    const env = {
      WEBHOOK_ID: headers.get('webhook-id') ?? '',
      WEBHOOK_TIMESTAMP: headers.get('webhook-timestamp') ?? '',
      WEBHOOK_SIGNATURE: headers.get('webhook-signature') ?? '',
      BABYCHAIN_CALLBACK_SECRET: CALLBACK_SECRET,
    }
    writeFileSync(join(folder, 'body.json'), body)
    const shell = await textOf('cURL', 'verify', 'verify the callback')
    expect(await execute('cURL', shell, env)).toContain('verified')
    writeFileSync(join(folder, 'body.json'), `${new TextDecoder().decode(body)} `)
    expect(await execute('cURL', `${shell}echo 'the shell lives'`, env)).toContain('not ours\nthe shell lives')
    expect(execute('cURL', shell, env)).rejects.toThrow('not ours')
  }, 60_000)
})

/** The text that the page shows for a language and a topic. */
async function textOf(language: Language, does: string, topic: string): Promise<string> {
  const panel = page.getByRole('region', { name: 'Code' })
  await panel.getByRole('button', { name: topic, exact: true }).click()
  await panel.getByRole('button', { name: language, exact: true }).click()
  const wanted = `pre[data-snippet=${does}][data-language=${language.toLowerCase()}]`
  return (await panel.locator(wanted).textContent()) ?? ''
}

async function run(language: Language, does: string, topic: string, env: Record<string, string> = {}): Promise<string> {
  const text = await textOf(language, does, topic)
  expect(text).not.toContain(API_KEY)
  return execute(language, text, { BABYCHAIN_API_KEY: API_KEY, ...env })
}

const idIn = (said: string) => /[0-9a-f]{8}-[0-9a-f-]{27}/.exec(said)?.[0]

/** What the program prints. @throws Error with all that it said when it fails */
async function execute(language: Language, text: string, env: Record<string, string>): Promise<string> {
  const file = `snippet.${ENDINGS[language]}`
  writeFileSync(join(folder, file), text)
  const child = Bun.spawn([...COMMANDS[language], file], {
    cwd: folder,
    env: { PATH: process.env.PATH ?? '', HOME: folder, ...env },
    stdout: 'pipe',
    stderr: 'pipe',
  })
  const [out, err, code] = await Promise.all([
    new Response(child.stdout).text(),
    new Response(child.stderr).text(),
    child.exited,
  ])
  if (code !== 0) throw new Error(`${language} ended with ${code}:\n${text}\n${out}\n${err}`)
  return out
}

async function create(prompt: string, webhookUrl?: string): Promise<string> {
  const input = {
    chain_models: { text_to_image_model: 'bfl/flux-2-flex', image_to_video_model: 'bytedance/seedance-1.5-pro' },
    text_to_image_params: { prompt, width: 256, height: 256 },
    image_to_video_params: { content: [{ type: 'text', text: 'It moves' }], ratio: '1:1', duration: 2 },
  }
  const body = { input, ...(webhookUrl ? { webhook_url: webhookUrl } : {}) }
  return ((await (await server.post('/api/v1/chains/chain101/runs', body)).json()) as { id: string }).id
}

/** Nobody waits for large films. */
async function cancel(ids: readonly (string | undefined)[]): Promise<void> {
  await Promise.all(ids.map(id => server.post(`/api/v1/runs/${id}/cancel`, {})))
}

/** A sender that stops within its body. */
async function halfPost(port: number) {
  const { promise, resolve } = Promise.withResolvers<void>()
  const socket = connect(port, '127.0.0.1')
  socket.on('error', () => {})
  socket.write('POST /hook HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\nhalf', () => resolve())
  await promise
  return socket
}
