/** The commands as they are typed: their words, their exit codes, and a server whose output or signals are odd. */
import { afterAll, expect, test } from 'bun:test'
import {
  closeSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  utimesSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import pino from 'pino'
import pkg from '../package.json' with { type: 'json' }
import { StorageUnavailable } from '../src/core/ports.ts'
import { tellOfBootstrap } from '../src/main/bootstrap.ts'
import { wordsOf } from '../src/main/words.ts'
import { openSqliteStore } from '../src/store/sqlite/open.ts'
import { smallRun } from './support/chaos.ts'
import { freePort } from './support/free-port.ts'
import { providerKey } from './support/secrets.ts'
import { API_KEY, until } from './support/server.ts'
import { creation, queuedRun } from './support/store-runs.ts'

const scratch = mkdtempSync(join(tmpdir(), 'babychain-main-'))
afterAll(() => rmSync(scratch, { recursive: true, force: true }))
const makeDir = () => mkdtempSync(join(scratch, 'dir-'))

const COMMAND = ['bun', join(import.meta.dir, '../src/main.ts')]
type Env = Readonly<Record<string, string>>
const envOf = (env: Env = {}): Env => ({
  ...{ PATH: process.env.PATH ?? '', HOME: scratch, BABYCHAIN_API_KEY: API_KEY, BABYCHAIN_SANDBOX_LATENCY_MS: '0' },
  ...env,
})

/** Runs a command in a directory of its own to its end. */
async function run(args: readonly string[], env: Env = {}) {
  const cwd = makeDir()
  const child = Bun.spawn([...COMMAND, ...args], { cwd, env: envOf(env), stdout: 'pipe', stderr: 'pipe' })
  const [out, err] = await Promise.all([new Response(child.stdout).text(), new Response(child.stderr).text()])
  return { code: await child.exited, out, err, left: readdirSync(cwd) }
}

test.each([
  [['--help'], /^babychain .*serve/s],
  [['-h'], /^babychain .*serve/s],
  [['serve', '--help'], /^babychain .*serve/s],
  [['demo', '-h'], /^babychain .*serve/s],
  [['keys', '--help'], /^babychain keys.*rotate/s],
  [['keys', 'create', '-h'], /^babychain keys.*rotate/s],
  [['-v'], new RegExp(`^${pkg.version}\n$`)],
] as const)('%p tells and does nothing else', async (args, words) => {
  expect(await run(args, { PORT: 'no port' })).toEqual({
    code: 0,
    out: expect.stringMatching(words),
    err: '',
    left: [],
  })
})

test.each([
  [['serve', '--port', '4000'], 'serve does not know "--port"'],
  [['serve', '--resum'], 'serve does not know "--resum"'],
  [['check', '--fix'], 'check does not know "--fix"'],
  [['keys', 'list', '--rate', '3'], "Unknown option '--rate'"],
  [['toString'], 'there is no command "toString"'],
] as const)('%p is refused, with the help', async (args, words) => {
  const { code, err, out, left } = await run(args)
  expect({ code, err, out, left }).toEqual({ code: 1, err: expect.stringContaining(words), out: '', left: [] })
  expect(err).toContain('babychain')
  expect(err).toMatch(/--version|keys rotate/)
})

test('check finds a folder of workflows that is not there, and a database that is lost', async () => {
  const data = makeDir()
  writeFileSync(join(data, 'babychain.mark'), JSON.stringify({ file: '1/1', starts: 7 }))
  const { code, out } = await run(['check'], { BABYCHAIN_DATA_DIR: data, COMFYUI_WORKFLOWS: join(data, 'flows') })
  expect(code).toBe(1)
  expect(out).toMatch(/WRONG {2}database: .* is missing, but it has been started 7 times here/)
  expect(out).toContain(`WRONG  ComfyUI: there is no folder ${join(data, 'flows')}`)
  expect(readdirSync(data)).not.toContain('babychain.db')
  mkdirSync(join(data, 'flows'))
  const well = await run(['check'], { COMFYUI_WORKFLOWS: join(data, 'flows') })
  expect(well).toMatchObject({ code: 0, out: expect.stringContaining(`ok     ComfyUI: workflows in ${data}`) })
})

test('check holds what Litestream keeps here against the last write before its own, and claims nothing of the bucket', async () => {
  const data = makeDir()
  await (await openSqliteStore({ dataDir: data, now: Date.now })).close()
  const folder = join(data, '.babychain.db-litestream')
  mkdirSync(folder)
  writeFileSync(join(folder, '0.wal'), 'x')
  const line = async () => /^.*replication: .*$/m.exec((await run(['check'], { BABYCHAIN_DATA_DIR: data })).out)?.[0]
  expect(await line()).toMatch(
    /^ok {5}replication: .* has its last write .* whether it reached the bucket, Litestream's log/,
  )
  utimesSync(join(folder, '0.wal'), Date.now() / 1_000 - 3_600, Date.now() / 1_000 - 3_600)
  expect(await line()).toMatch(/^note {3}replication: .* is 3[56]\d\d s older than its last write/)
}, 30_000)

test('check takes a single workflow for a file, and names the models that have none or a wrong one', async () => {
  const data = makeDir()
  const flows = join(data, 'flows')
  mkdirSync(flows)
  const one = join(flows, 'image.json')
  writeFileSync(one, JSON.stringify({ 1: { class_type: 'SaveImage', inputs: { text: '{{prompt}}' } } }))
  writeFileSync(join(flows, 'qwen-image.json'), '{"nodes":[]}')
  const [folder, single, gone] = await Promise.all(
    [flows, one, join(flows, 'gone.json')].map(path => run(['check'], { COMFYUI_WORKFLOWS: path })),
  )
  expect(folder?.code).toBe(1)
  expect(folder?.out).toContain(`ok     ComfyUI: workflows in ${flows}`)
  expect(folder?.out).toMatch(
    /note {3}ComfyUI: comfyui\/video: COMFYUI_WORKFLOWS has no video\.image_to_video\.json and no video\.json/,
  )
  expect(folder?.out).toContain('WRONG  ComfyUI: qwen/qwen-image: qwen-image.json of COMFYUI_WORKFLOWS is no graph')
  expect(folder?.out).not.toContain('ComfyUI: comfyui/image')
  expect(single?.code).toBe(0)
  expect(single?.out).toContain(`ok     ComfyUI: one workflow for every model, ${one}`)
  expect(single?.out).not.toContain('docs/comfyui.md')
  expect(gone).toMatchObject({ code: 1, out: expect.stringContaining('WRONG  ComfyUI: there is no file') })
})

test('a demonstration leaves alone what lies in the data directory, another demonstration too', async () => {
  const data = makeDir()
  mkdirSync(join(data, 'demo'))
  writeFileSync(join(data, 'demo', 'mine.txt'), 'mine')
  const env = { BABYCHAIN_DATA_DIR: data }
  const demos = await Promise.all([run(['demo'], env), run(['demo'], env)])
  const films = demos.map(({ out }) => /image_to_video: (.*\.mp4)/.exec(out)?.[1] ?? '')
  expect(demos.map(({ code }) => code)).toEqual([0, 0])
  expect(films.map(path => existsSync(path))).toEqual([true, true])
  expect(films[0]).not.toBe(films[1])
  expect(readFileSync(join(data, 'demo', 'mine.txt'), 'utf8')).toBe('mine')
}, 60_000)

interface Served {
  child: Bun.Subprocess
  url: string
  stderr: string
}

/** A server whose output goes to `stdout`; serves when this resolves. */
async function serving(stdout: 'ignore' | number | ReturnType<typeof Bun.file>, env: Env = {}): Promise<Served> {
  const cwd = makeDir()
  const host = env.HOST ?? '127.0.0.1'
  const port = freePort(host)
  const stderr = join(cwd, 'stderr.txt')
  const child = Bun.spawn([...COMMAND, 'serve'], {
    ...{ cwd, env: envOf({ PORT: String(port), ...env }), stdin: 'ignore', stdout, stderr: Bun.file(stderr) },
  })
  const url = `http://${host.includes(':') ? `[${host}]` : host}:${port}`
  await until('it serves', async () => (await fetch(`${url}/readyz`).catch(() => null))?.ok)
  return { child, url, stderr }
}

async function order(url: string, webhookUrl?: string): Promise<string> {
  const answer = await fetch(`${url}/api/v1/chains/chain101/runs`, {
    method: 'POST',
    headers: { authorization: `Bearer ${API_KEY}`, 'content-type': 'application/json', prefer: 'wait=20' },
    body: JSON.stringify({ ...smallRun(1, ''), webhook_url: webhookUrl }),
  })
  expect(answer.ok).toBe(true)
  return ((await answer.json()) as { status: string }).status
}

test('a server whose output cannot be written serves, says so on standard error, and drains', async () => {
  const { child, url, stderr } = await serving(Bun.file('/dev/full'))
  try {
    expect(await order(url)).toBe('succeeded')
    child.kill('SIGTERM')
    expect(await child.exited).toBe(0)
    expect(readFileSync(stderr, 'utf8')).toMatch(/^babychain: lines of the log cannot be written \(ENOSPC\).*\n$/)
  } finally {
    child.kill('SIGKILL')
  }
}, 30_000)

test('a server whose output nobody reads serves and drains', async () => {
  const pipe = join(makeDir(), 'pipe')
  Bun.spawnSync(['mkfifo', pipe])
  // Open to read and to write: it fills up, and never breaks.
  const fd = openSync(pipe, 'r+')
  const { child, url } = await serving(fd, { LOG_LEVEL: 'trace' })
  try {
    // Of lines beyond the 64 KB that a pipe holds.
    for (let n = 0; n < 20; n += 1)
      await Promise.all(Array.from({ length: 50 }, () => fetch(`${url}/api/v1/runs/${'x'.repeat(100)}`)))
    expect(await order(url)).toBe('succeeded')
    child.kill('SIGTERM')
    expect(await child.exited).toBe(0)
  } finally {
    child.kill('SIGKILL')
    closeSync(fd)
  }
}, 60_000)

test('a signal while many runs are still taken up ends the start, and drains', async () => {
  const [data, port] = [makeDir(), freePort()]
  const store = await openSqliteStore({ dataDir: data, now: Date.now })
  const waiting = Array.from({ length: 4_000 }, () => queuedRun({ at: Date.now() }))
  await Promise.all(waiting.map(made => store.create(creation({ ...made, mode: 'sandbox' }))))
  await store.close()
  const log = join(makeDir(), 'log.txt')
  const child = Bun.spawn([...COMMAND, 'serve'], {
    ...{ env: envOf({ PORT: String(port), BABYCHAIN_DATA_DIR: data }), stdin: 'ignore', stdout: Bun.file(log) },
  })
  try {
    await until('it serves', async () => (await fetch(`http://127.0.0.1:${port}/healthz`).catch(() => null))?.ok)
    child.kill('SIGTERM')
    expect([await child.exited, readFileSync(log, 'utf8')]).toEqual([0, expect.stringContaining('"msg":"stopped"')])
    expect(existsSync(join(data, 'babychain.pid'))).toBe(false)
  } finally {
    child.kill('SIGKILL')
  }
}, 30_000)

test.each([
  ['SIGTERM', 'SIGINT'],
  ['SIGINT', 'SIGTERM'],
] as const)(
  '%s drains, and %s after it ends at once',
  async (first, second) => {
    const { promise: reached, resolve } = Promise.withResolvers<void>()
    const { promise: never } = Promise.withResolvers<Response>()
    const receiver = Bun.serve({
      ...{ hostname: '127.0.0.1', port: 0 },
      fetch() {
        resolve()
        return never
      },
    })
    const host = `127.0.0.1:${receiver.port}`
    const { child, url } = await serving('ignore', { BABYCHAIN_EGRESS_ALLOW: host })
    try {
      await order(url, `http://${host}/hook`)
      await reached
      child.kill(first)
      // A callback that hangs is waited for; what comes in the same moment as the first signal is no second one.
      await until(
        'the second signal ends it',
        async () => {
          child.kill(second)
          return child.exitCode !== null
        },
        5_000,
      )
      expect(child.exitCode).toBe(1)
    } finally {
      child.kill('SIGKILL')
      await receiver.stop(true)
    }
  },
  30_000,
)

test.skipIf(Bun.which('npm') === null).each(['start', 'dev'])(
  'npm run %s passes a SIGTERM on: the server drains and is gone',
  async script => {
    const [data, port] = [makeDir(), freePort()]
    const env = envOf({ PORT: String(port), BABYCHAIN_DATA_DIR: data })
    const log = join(makeDir(), 'log.txt')
    const child = Bun.spawn(['npm', 'run', script], {
      ...{ cwd: join(import.meta.dir, '..'), env, stdin: 'ignore', stdout: Bun.file(log), stderr: 'ignore' },
    })
    let pid: number | null = null
    try {
      await until('it serves', async () => (await fetch(`http://127.0.0.1:${port}/readyz`).catch(() => null))?.ok)
      pid = (JSON.parse(readFileSync(join(data, 'babychain.pid'), 'utf8')) as { pid: number }).pid
      child.kill('SIGTERM')
      await child.exited
      expect([child.exitCode, readFileSync(log, 'utf8')]).toEqual([0, expect.stringContaining('"msg":"stopped"')])
      expect(existsSync(join(data, 'babychain.pid'))).toBe(false)
    } finally {
      child.kill('SIGKILL')
      if (pid !== null && existsSync(join(data, 'babychain.pid'))) process.kill(pid, 'SIGKILL')
    }
  },
  60_000,
)

test('health finds a server that listens on an IPv6 address', async () => {
  const { child, url } = await serving('ignore', { HOST: '::1' })
  try {
    const { port } = new URL(url)
    expect(await run(['health'], { HOST: '::1', PORT: port })).toMatchObject({ code: 0, err: '' })
  } finally {
    child.kill('SIGKILL')
  }
  expect(await run(['health'], { HOST: '::1', PORT: '1' })).toMatchObject({ err: expect.stringContaining('[::1]:1') })
}, 30_000)

test('an error of ours is said in its sentence; of a bug the stack is told, whatever its class', () => {
  expect(wordsOf(new StorageUnavailable('the disk is full'))).toBe('the disk is full')
  for (const Bug of [Error, TypeError, RangeError, ReferenceError, SyntaxError]) {
    const bug = new Bug('out of bounds')
    expect(wordsOf(bug)).toContain(import.meta.path)
  }
})

test('a proxy of the environment gets nothing that a command says to its own server', async () => {
  const proxied: string[] = []
  const proxy = Bun.serve({
    ...{ hostname: '127.0.0.1', port: 0 },
    fetch({ url, headers }) {
      proxied.push(`${url} ${headers.get('authorization')}`)
      return new Response('<html>the proxy</html>', { status: 503 })
    },
  })
  const at = `http://127.0.0.1:${proxy.port}`
  const data = makeDir()
  const { child, url } = await serving('ignore', { BABYCHAIN_DATA_DIR: data })
  try {
    const env = { HTTP_PROXY: at, http_proxy: at, HTTPS_PROXY: at, BABYCHAIN_DATA_DIR: data, PORT: new URL(url).port }
    expect(await run(['health'], env)).toMatchObject({ code: 0, err: '' })
    expect(await run(['keys', 'list'], env)).toMatchObject({
      code: 0,
      err: '',
      out: expect.stringContaining('bootstrap'),
    })
    expect(await run(['keys', 'create', 'shop'], env)).toMatchObject({
      code: 0,
      out: expect.stringContaining('whsec_'),
    })
    expect(await run(['demo'], { ...env, BABYCHAIN_DATA_DIR: makeDir() })).toMatchObject({ code: 0, err: '' })
    expect(proxied).toEqual([])
  } finally {
    child.kill('SIGKILL')
    await proxy.stop(true)
  }
}, 60_000)

test('a server uses no proxy of the environment, for its bucket neither, and it and check say so', async () => {
  const asked = { proxy: 0, bucket: 0 }
  const listen = (who: keyof typeof asked) =>
    Bun.serve({ ...{ hostname: '127.0.0.1', port: 0 }, fetch: () => new Response(`${++asked[who]}`) })
  const [proxy, bucket] = [listen('proxy'), listen('bucket')]
  const [data, out] = [makeDir(), join(makeDir(), 'out.txt')]
  const env = {
    HTTP_PROXY: `http://127.0.0.1:${proxy.port}`,
    https_proxy: `http://127.0.0.1:${proxy.port}`,
    BABYCHAIN_DATA_DIR: data,
    BABYCHAIN_MEDIA: 's3://outputs',
    AWS_ACCESS_KEY_ID: 'a',
    AWS_SECRET_ACCESS_KEY: 'b',
    AWS_ENDPOINT_URL: `http://127.0.0.1:${bucket.port}`,
  }
  const { child, url } = await serving(Bun.file(out), { ...env, BFL_API_KEY: providerKey('bfl') })
  try {
    await fetch(`${url}/readyz`)
    child.kill('SIGTERM')
    expect(await child.exited).toBe(0)
    expect(readFileSync(out, 'utf8')).toMatch(/"variables":\["HTTP_PROXY","https_proxy"\],"msg":"no proxy is used: /)
    expect((await run(['check'], env)).out).toContain('note   proxy: HTTP_PROXY, https_proxy set, and not used')
    expect(asked.bucket).toBeGreaterThan(0)
    expect(asked.proxy).toBe(0)
  } finally {
    child.kill('SIGKILL')
    await Promise.all([proxy.stop(true), bucket.stop(true)])
  }
}, 30_000)

/** What a server wrote until it was ready; its output is no terminal, and it has a key of a provider. */
async function wordsOfStart(data: string, env: Env = {}): Promise<string> {
  const out = join(makeDir(), 'out.txt')
  const byok = { BFL_API_KEY: providerKey('bfl'), BABYCHAIN_DATA_DIR: data }
  const { child } = await serving(Bun.file(out), { ...byok, ...env })
  child.kill('SIGTERM')
  expect(await child.exited).toBe(0)
  return readFileSync(out, 'utf8')
}

test('a callback secret that the start makes is printed, once, also beside an API key of the environment', async () => {
  const data = makeDir()
  const first = await wordsOfStart(data)
  expect(first.match(/whsec_[A-Za-z0-9+/]{43}=/g)).toHaveLength(1)
  expect(first).not.toContain(API_KEY)
  expect(await wordsOfStart(data)).not.toContain('whsec_')
  const given = `whsec_${Buffer.alloc(32, 3).toString('base64')}`
  expect(await wordsOfStart(makeDir(), { BABYCHAIN_CALLBACK_SECRET: given })).not.toContain('whsec_')
  const { out } = await run(['check'], { BABYCHAIN_DATA_DIR: data })
  expect(out).toMatch(/callback secret: kept in the database\n.*webhook_secrets\/rotate/)
}, 60_000)

test('a start whose bootstrap key is revoked says what to type, and both ways give a key', async () => {
  const data = makeDir()
  const none = { BABYCHAIN_API_KEY: '' }
  expect(await wordsOfStart(data, none)).not.toContain('"key":"bootstrap"')
  const own = { ...none, BABYCHAIN_DATA_DIR: data }
  expect(await run(['keys', 'revoke', 'bootstrap'], own)).toMatchObject({ code: 0, err: '' })
  const told = await wordsOfStart(data, none)
  expect(told).toContain(
    'the bootstrap key is revoked. For a key that may do as much, set BABYCHAIN_API_KEY to a new text',
  )
  const [typed = ''] = /keys create NAME [^"]*/.exec(told) ?? []
  expect(await run(typed.split(' '), own)).toMatchObject({
    code: 0,
    out: expect.stringMatching(/keys:manage\n(.*\n)+? *key +bck_live_/),
  })
  expect(await wordsOfStart(data)).not.toContain('"key":"bootstrap"')
  expect((await run(['keys', 'list'], { BABYCHAIN_DATA_DIR: data })).out).toMatch(/bootstrap .*active/)
}, 60_000)

test.each<[string, () => Promise<Response>, string | null]>([
  ['is active', async () => Response.json({ status: 'active' }), null],
  ['is revoked', async () => Response.json({ status: 'revoked' }), 'the bootstrap key is revoked'],
  ['cannot be read', async () => Response.json({ status: 503 }, { status: 503 }), 'is not known'],
  ['is asked for in vain', () => Promise.reject(new Error('gone')), 'is not known'],
  ['is no JSON', async () => new Response('fine'), 'is not known'],
])('a bootstrap key that %s stops no server', async (_what, asOperator, words) => {
  const lines: string[] = []
  const log = pino({ base: undefined }, { write: line => void lines.push(line) })
  await tellOfBootstrap({ asOperator, log })
  expect(lines).toEqual(words === null ? [] : [expect.stringContaining(words)])
  expect(lines.join('')).not.toContain('the bootstrap key is 503')
})

test('a wrong BABYCHAIN_MODEL_IDS is a sentence', async () => {
  const { code, err } = await run(['models'], { BABYCHAIN_MODEL_IDS: 'byteplus:seedance-9=ep-1' })
  expect([code, err]).toEqual([
    1,
    expect.stringMatching(/^babychain: BABYCHAIN_MODEL_IDS: no route is called [^\n]*\n$/),
  ])
})
