/**
 * A provider key never appears in a log, an answer, an error, the database, a file, or at another host.
 *
 * 1. Every application and every stand-in of the suite is searched, by whoever runs it (support/app.ts, stand-in.ts,
 *    leak-watch.ts). Here are the providers that do what they can to make a key turn up, and the commands of a real process.
 * 2. The watch itself is shown a key in every place and form, and notices it.
 */
import { afterAll, afterEach, describe, expect, test } from 'bun:test'
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { JsonObject } from '../../src/core/json.ts'
import { pointedAt, RunningApp } from '../support/app.ts'
import { type SeenRun, timePasses } from '../support/hosts.ts'
import { JumpClock } from '../support/jump-clock.ts'
import { openTrap } from '../support/providers/bench.ts'
import { BflStandIn } from '../support/providers/bfl.ts'
import { BytePlusStandIn } from '../support/providers/byteplus.ts'
import { DashScopeStandIn } from '../support/providers/dashscope.ts'
import { FalStandIn } from '../support/providers/fal.ts'
import { GoogleStandIn } from '../support/providers/google.ts'
import { OpenAiStandIn } from '../support/providers/openai.ts'
import { ReplicateStandIn } from '../support/providers/replicate.ts'
import { RunwayStandIn } from '../support/providers/runway.ts'
import type { Reply, StandIn, StandInOptions } from '../support/providers/stand-in.ts'
import {
  begun,
  countUnsearched,
  leaksIn,
  onlyRecognisable,
  providerKey,
  saw,
  sawFolder,
  sawResponse,
  searched,
  takeLeaks,
} from '../support/secrets.ts'
import { ServerProcess } from '../support/server.ts'

interface Keyed {
  key: string
  base: string
  standIn: new (options: StandInOptions) => StandIn
  image: [model: string, params: JsonObject]
}

const prompt = 'a red boat'
const OVER: ReadonlySet<string> = new Set(['succeeded', 'failed'])
const KEYED: Readonly<Record<string, Keyed>> = {
  bfl: { key: 'BFL_API_KEY', base: 'BFL_BASE_URL', standIn: BflStandIn, image: ['bfl/flux-2-flex', { prompt }] },
  byteplus: {
    key: 'ARK_API_KEY',
    base: 'ARK_BASE_URL',
    standIn: BytePlusStandIn,
    image: ['bytedance/seedream-4.5', { prompt }],
  },
  fal: { key: 'FAL_KEY', base: 'FAL_BASE_URL', standIn: FalStandIn, image: ['bfl/flux-2-flex', { prompt }] },
  replicate: {
    key: 'REPLICATE_API_TOKEN',
    base: 'REPLICATE_BASE_URL',
    standIn: ReplicateStandIn,
    image: ['bfl/flux-2-flex', { prompt }],
  },
  openai: {
    key: 'OPENAI_API_KEY',
    base: 'OPENAI_BASE_URL',
    standIn: OpenAiStandIn,
    image: ['openai/gpt-image-2', { prompt }],
  },
  google: {
    key: 'GEMINI_API_KEY',
    base: 'GEMINI_BASE_URL',
    standIn: GoogleStandIn,
    image: ['google/nano-banana', { prompt }],
  },
  runway: {
    key: 'RUNWAYML_API_SECRET',
    base: 'RUNWAYML_BASE_URL',
    standIn: RunwayStandIn,
    image: ['runway/gen4_image', { promptText: prompt }],
  },
  dashscope: {
    key: 'DASHSCOPE_API_KEY',
    base: 'DASHSCOPE_BASE_URL',
    standIn: DashScopeStandIn,
    image: ['qwen/qwen-image', { prompt }],
  },
}

/** An answer that holds the key in every field and form that comes to mind. */
function echo(status: number, key: string, location: string): Reply[] {
  const forms = [key, `Bearer ${key}`, btoa(`user:${key}`), encodeURIComponent(`key=${key}&x`), JSON.stringify({ key })]
  const said = `the key ${forms.join(' or ')} is not good`
  const headers = { 'x-request-id': key, 'www-authenticate': `Bearer realm="${key}"`, location }
  const shapes: JsonObject[] = [
    { error: { message: said, code: said, status: said, type: said }, detail: said, message: said, code: said },
    {
      error: said,
      title: said,
      detail: [{ loc: ['header', key], msg: said, type: said }],
      issues: [{ message: said }],
    },
  ]
  return [...shapes.map(json => ({ status, json, headers })), { status, body: `<html>${said}</html>`, headers }]
}

describe('a provider that says our own key to us, in answers to submits and to polls, and sends us away with it', () => {
  for (const [id, { key, base, standIn: Made, image }] of Object.entries(KEYED)) {
    test(`${id}: it turns up nowhere`, async () => {
      const clock = new JumpClock()
      const trap = await openTrap()
      const standIn = await new Made({ now: clock.now, key: providerKey(id) }).start()
      const env = pointedAt({ [id]: { key, base, standIn } })
      // A lost answer need not be looked for here.
      const flows = mkdtempSync(join(tmpdir(), 'babychain-flows-'))
      const film = { 1: { class_type: 'SaveVideo', inputs: { text: '{{prompt}}', image: '{{image}}' } } }
      writeFileSync(join(flows, 'video.json'), JSON.stringify(film))
      const nobody = { COMFYUI_URL: 'http://127.0.0.1:9', COMFYUI_WORKFLOWS: flows }
      const app = await new RunningApp({ ...env, ...nobody, BABYCHAIN_RESUBMIT_UNKNOWN: '1' }, clock).start()
      try {
        const [model, params] = image
        const input = {
          // Nobody listens where the film would be made: only the picture is waited for.
          chain_models: { text_to_image_model: model, image_to_video_model: 'comfyui/video' },
          text_to_image_params: params,
          image_to_video_params: { prompt },
        }
        const play = async (...replies: Reply[]): Promise<SeenRun> => {
          standIn.script(...replies.map(reply => ({ type: 'say', reply }) as const))
          const made = await app.post<{ id: string }>('/api/v1/chains/chain1/runs', { input })
          const run = await timePasses(app, clock, made.id, ({ steps: [first] }) => OVER.has(first?.status ?? ''))
          await app.post(`/api/v1/runs/${made.id}/cancel`, {})
          return run
        }
        const away = `${trap.url}/stolen?key=${standIn.key}`
        const ended: SeenRun[] = []
        /** How the last attempts there ended. */
        const tried = (): string[] =>
          ended.map(({ steps: [step] }) => {
            const last = step?.attempts.findLast(attempt => attempt.provider === id)
            return last?.error?.code ?? last?.outcome ?? ''
          })
        // Refused, rate limited, sent away, broken; a refused key last, since that closes the way for minutes.
        for (const status of [400, 429, 307, 500]) {
          for (const reply of echo(status, standIn.key, away)) ended.push(await play(reply))
        }
        // Polls.
        standIn.disturb(...[500, 404, 302].flatMap(status => echo(status, standIn.key, away)))
        ended.push(await play())
        standIn.settle()
        for (const reply of echo(401, standIn.key, away).slice(0, 1)) ended.push(await play(reply))
        expect(new Set(tried())).toEqual(new Set(['invalid_input', 'succeeded', 'provider_unauthorized']))
        expect(JSON.stringify(ended)).toContain('[redacted]')
        const paths = [
          '/api/v1/runs',
          '/api/v1/models',
          `/api/v1/models/${model}`,
          '/metrics',
          '/swagger/json',
          '/readyz',
        ]
        for (const path of [...paths, ...ended.map(run => `/api/v1/runs/${run.id}/events`)]) {
          await (await app.request(path)).text()
        }
        expect(app.log.length).toBeGreaterThan(1_000)
        expect(trap.caught).toEqual([])
        expect(standIn.leaks).toEqual([])
      } finally {
        await app.close()
        await standIn.stop()
        trap.stop()
        rmSync(flows, { recursive: true })
      }
      expect(takeLeaks()).toEqual([])
    }, 60_000)
  }
})

describe('a process of its own with all keys', () => {
  const env = Object.fromEntries(Object.entries(KEYED).map(([id, { key }]) => [key, providerKey(id)]))
  const server = new ServerProcess({ env: { ...env, LOG_LEVEL: 'trace' } })
  afterAll(() => server.close())

  test('says none of them while it serves, and keeps none', async () => {
    await server.start()
    const paths = ['/api/v1/models', '/metrics', '/readyz', '/', '/swagger/json']
    for (const path of paths) await sawResponse(path, await server.request(path)).text()
    expect(sawFolder('the folder of the process:', server.dir)).toBeGreaterThan(3)
    expect(await server.terminate()).toBe(0)
    saw('its log', server.log)
    expect(sawFolder('the folder of the process:', server.dir)).toBeGreaterThan(3)
    expect(takeLeaks()).toEqual([])
  }, 30_000)

  for (const command of ['check', 'models', 'keys list', '--help']) {
    test(`says none of them in: ${command}`, async () => {
      const child = Bun.spawn([process.execPath, join(import.meta.dir, '../../src/main.ts'), ...command.split(' ')], {
        cwd: server.dir,
        env: { PATH: process.env.PATH ?? '', HOME: server.dir, BABYCHAIN_DATA_DIR: server.dataDir, ...env },
        stdout: 'pipe',
        stderr: 'pipe',
      })
      const said = await Promise.all([new Response(child.stdout).text(), new Response(child.stderr).text()])
      expect(said.join('').length).toBeGreaterThan(20)
      for (const text of said) saw(command, text)
      expect(takeLeaks()).toEqual([])
    }, 30_000)
  }

  test('says none of them when it refuses to start', async () => {
    const wrong = { ...env, PORT: 'x', BFL_BASE_URL: `ftp://${env.BFL_API_KEY}@host/` }
    const child = Bun.spawn([process.execPath, join(import.meta.dir, '../../src/main.ts'), 'serve'], {
      cwd: server.dir,
      env: { PATH: process.env.PATH ?? '', HOME: server.dir, BABYCHAIN_DATA_DIR: server.dataDir, ...wrong },
      stdout: 'pipe',
      stderr: 'pipe',
    })
    const said = await Promise.all([new Response(child.stdout).text(), new Response(child.stderr).text()])
    expect([await child.exited, said.join('')]).toEqual([1, expect.stringContaining('PORT')])
    for (const text of said) saw('the refusal', text)
    expect(takeLeaks()).toEqual([])
  }, 30_000)
})

describe('the watch', () => {
  const key = providerKey('bfl')
  const dir = mkdtempSync(join(tmpdir(), 'babychain-secrets-'))
  afterEach(() => void takeLeaks())
  afterAll(() => rmSync(dir, { recursive: true, force: true }))

  const forms: [string, string | Uint8Array][] = [
    ['as it is', `x-key: ${key}`],
    ['in JSON', JSON.stringify({ error: `no ${key}` })],
    ['in a URL', encodeURIComponent(`?key=${key}`)],
    ['cut short by a limit', `the key ${key}`.slice(0, 24)],
    ['its end only', key.slice(-16)],
    ...['', 'a', 'ab'].map((head): [string, string] => [`as base64 behind ${head.length}`, btoa(`${head}${key}:`)]),
    ['as base64url', Buffer.from(`??>${key}`).toString('base64url')],
    ['as hex', Buffer.from(key).toString('hex')],
    ['in bytes', Buffer.concat([new Uint8Array([0, 255, 1]), Buffer.from(key), new Uint8Array([254])])],
  ]
  test.each(forms)('finds a key %s', (_, data) => {
    saw('here', data)
    expect(takeLeaks()[0]).toMatchObject({ where: 'here' })
  })

  test('finds nothing in what holds none, and other secrets only when it is told of them', () => {
    expect(leaksIn('a red boat, key=[redacted], Bearer ***')).toEqual([])
    expect(leaksIn('whsec_abcdefgh')).toEqual([])
    expect(leaksIn('whsec_abcdefgh', ['whsec_abcdefgh'])).toEqual(['as it is'])
  })

  test('finds a key in a file however deep, and in an answer that comes in pieces', async () => {
    mkdirSync(join(dir, 'a/.b'), { recursive: true })
    writeFileSync(join(dir, 'a/.b/c.db-wal'), `\0\0${key}\0`)
    expect(sawFolder('folder', dir)).toBe(1)
    expect(takeLeaks()).toEqual([{ where: 'folder c.db-wal', as: 'as it is' }])
    const [head, tail] = [key.slice(0, 5), key.slice(5, 17)]
    const stream = new ReadableStream<Uint8Array>({
      start(out) {
        for (const piece of ['{"error":"', head, tail, '"}']) out.enqueue(Buffer.from(piece))
        out.close()
      },
    })
    expect(await sawResponse('answer', new Response(stream)).text()).toBe(`{"error":"${head}${tail}"}`)
    expect(takeLeaks().length).toBeGreaterThan(0)
    sawResponse('answer', new Response(null, { status: 307, headers: { location: `/?k=${key}` } }))
    expect(takeLeaks()).toEqual([{ where: 'answer, its head', as: 'as it is' }])
  })

  test("finds a key at a host that is nobody's, at another provider, in a query, in a body, and where the outputs lie", async () => {
    const trap = await openTrap()
    const standIn = await new BflStandIn().start()
    const x = { 'x-key': key }
    const own = { 'x-key': standIn.key }
    await fetch(`${trap.url}/`, { headers: x })
    await fetch(`${standIn.url}/v1/credits`, { headers: x })
    await fetch(`${standIn.url}/v1/credits?key=${standIn.key}`, { headers: own })
    await fetch(`${standIn.url}/v1/x`, { method: 'POST', headers: own, body: standIn.key })
    await fetch(`${standIn.filesUrl}/x.png`, { headers: own })
    expect(takeLeaks().map(leak => leak.where)).toEqual([
      "a host that is nobody's",
      'a call to bfl',
      'a call to bfl',
      'the body of a call to bfl',
      "the files' origin of bfl",
    ])
    await fetch(`${standIn.url}/v1/credits`, { headers: own })
    expect(takeLeaks()).toEqual([])
    await standIn.stop()
    trap.stop()
  })

  test('lets no application start with a key that it would not recognise, and counts who was not searched', async () => {
    const foreign = { BFL_API_KEY: 'some-key-of-mine' }
    expect(() => new RunningApp(foreign)).toThrow('BFL_API_KEY')
    const servers = [new ServerProcess({ env: foreign }), new ServerProcess()]
    for (const each of servers) {
      await expect(each.start(foreign)).rejects.toThrow('BFL_API_KEY')
      await each.close()
    }
    expect(() => onlyRecognisable({ FAL_KEY: key, BABYCHAIN_API_KEY: 'x', PORT: '0' })).not.toThrow()
    const before = countUnsearched()
    const who = {}
    begun(who)
    expect(countUnsearched()).toBe(before + 1)
    searched(who)
    expect(countUnsearched()).toBe(before)
  })

  test('is around everybody: no test makes an application but by way of the support, and the hook is loaded', () => {
    const root = join(import.meta.dir, '..')
    const makers = [...new Bun.Glob('**/*.ts').scanSync(root)].filter(file =>
      /import .*\bcreateApp\b.* from/.test(readFileSync(join(root, file), 'utf8')),
    )
    expect(makers).toEqual(['support/app.ts'])
    expect(readFileSync(join(root, '../bunfig.toml'), 'utf8')).toContain('preload = ["./test/support/leak-watch.ts"]')
  })
})
