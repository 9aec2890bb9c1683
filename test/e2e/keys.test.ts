/** The command `keys` as a process of its own: alone with the database, and beside a running server. */
import { afterAll, expect, test } from 'bun:test'
import { existsSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { hostname } from 'node:os'
import { join } from 'node:path'
import { API_KEY, CALLBACK_SECRET, ServerProcess } from '../support/server.ts'

const server = new ServerProcess()
afterAll(() => server.close())

interface Said {
  code: number
  out: string
  err: string
}

const keys = (args: readonly string[], env: Record<string, string> = {}) => command(['keys', ...args], env)

async function command(words: readonly string[], env: Record<string, string> = {}): Promise<Said> {
  const child = Bun.spawn(['bun', join(import.meta.dir, '../../src/main.ts'), ...words], {
    cwd: server.dir,
    stdout: 'pipe',
    stderr: 'pipe',
    env: { PATH: process.env.PATH ?? '', HOME: server.dir, BABYCHAIN_DATA_DIR: server.dataDir, ...env },
  })
  const [out, err] = await Promise.all([new Response(child.stdout).text(), new Response(child.stderr).text()])
  return { code: await child.exited, out, err }
}

const textOf = (out: string): string => /bck_live_[0-9A-Za-z]{36}/.exec(out)?.[0] ?? ''
const idOf = (out: string): string => /key_[0-9a-f]{32}/.exec(out)?.[0] ?? ''
const status = async (key: string) =>
  (await fetch(`${server.url}/api/v1/runs`, { headers: { authorization: `Bearer ${key}` } })).status

test('a key made without a server works with it; while it runs the command asks it, and a revocation counts at once', async () => {
  await server.start()
  await server.terminate()
  const made = await keys(['create', 'shop', '--budget', '5', '--scopes', 'runs:read'])
  expect([made.code, made.err]).toEqual([0, ''])
  expect(made.out).toContain('$0 of $5 today')
  expect(made.out).toMatch(/whsec_\S{44}/)
  // What asks a running server is no hindrance without one.
  expect(await keys(['list'], { BABYCHAIN_API_KEY: textOf(made.out) })).toMatchObject({ code: 0, err: '' })
  await server.start()
  expect(await status(textOf(made.out))).toBe(200)

  const alone = await keys(['list'])
  expect(alone.code).toBe(1)
  expect(alone.err).toContain('set BABYCHAIN_API_KEY to a key with keys:manage, or stop the server first')
  const beside = { BABYCHAIN_API_KEY: API_KEY }
  const listed = await keys(['list'], beside)
  expect(listed.out).toContain('shop')
  expect(listed.out).not.toContain(textOf(made.out))
  const revoked = await keys(['revoke', idOf(made.out)], beside)
  expect([revoked.code, revoked.out]).toEqual([0, expect.stringContaining('revoked')])
  expect(await status(textOf(made.out))).toBe(401)
  const wrong = await keys(['create', 'x', '--rate', 'fast'], beside)
  expect([wrong.code, wrong.err]).toEqual([1, expect.stringContaining('--rate needs a number')])
}, 60_000)

test('the key goes to the server that holds the data directory, whatever PORT says, and nowhere when that one does not tell where it is', async () => {
  const heard: string[] = []
  const stranger = Bun.serve({
    ...{ hostname: '127.0.0.1', port: 0 },
    fetch({ method, url, headers }) {
      heard.push(`${method} ${url} ${headers.get('authorization')}`)
      return new Response('<html>a stranger</html>', { status: 503 })
    },
  })
  const other = new ServerProcess()
  try {
    await other.start()
    const note = join(other.dataDir, 'babychain.pid')
    const written = JSON.parse(readFileSync(note, 'utf8')) as object
    const env = { BABYCHAIN_DATA_DIR: other.dataDir, BABYCHAIN_API_KEY: API_KEY }
    const astray = { ...env, HOST: '127.0.0.1', PORT: String(stranger.port) }
    const both = async (said: object | string) => {
      writeFileSync(note, typeof said === 'string' ? said : JSON.stringify({ ...written, ...said }))
      return Promise.all([keys(['list'], astray), command(['check'], astray)])
    }

    const [listed, checked] = await both({})
    expect(listed).toMatchObject({ code: 0, err: '', out: expect.stringContaining('bootstrap') })
    expect(checked.out).toContain(`A server is running; ask it: curl ${other.url}/readyz`)
    expect((await keys(['create', 'shop'], astray)).out).toContain('whsec_')
    expect((await other.json<{ data: { name: string }[] }>('/api/v1/keys')).data.map(key => key.name)).toContain('shop')

    for (const [said, words] of [
      [{ origin: undefined }, 'It does not say where it listens'],
      [{ origin: null }, 'It does not say where it listens'],
      [{ origin: 7 }, 'It does not say where it listens'],
      ['{"pid":12,"ho', 'It does not say where it listens'],
      [{ host: 'elsewhere' }, `It runs on elsewhere, and this is ${hostname()}: `],
    ] as const) {
      const [refused, told] = await both(said)
      expect([refused.code, refused.out]).toEqual([1, ''])
      expect(refused.err).toContain('is in use by')
      expect(refused.err).toContain(words)
      expect(refused.err).toContain('/api/v1/keys does the same over HTTP')
      expect(told.out).toContain(words)
      expect(told.out).not.toContain('curl')
    }
    expect(heard).toEqual([])

    // A network of its own, under the same name: what it says is not where it is from here.
    const [deaf] = await both({ origin: 'http://127.0.0.1:1' })
    expect(deaf.err).toContain('No server answers on http://127.0.0.1:1/api/v1/keys')
    const [mistaken] = await both({ origin: `http://127.0.0.1:${stranger.port}` })
    expect(mistaken.err).toContain(
      'no BabyChain: status 503, and no JSON. The server has a network of its own: type this where',
    )

    // Nobody holds the directory any more: what a killed server left behind counts no more.
    const asked = heard.length
    await other.kill()
    expect(await keys(['list'], astray)).toMatchObject({ code: 0, err: '', out: expect.stringContaining('shop') })
    expect(heard).toHaveLength(asked)
  } finally {
    await other.close()
    await stranger.stop(true)
  }
}, 60_000)

test('a lost master key is told of with the word that goes on without it, and that word keeps the keys', async () => {
  const other = new ServerProcess()
  try {
    await other.start()
    await other.kill()
    const [file, env] = [join(other.dataDir, 'master.key'), { BABYCHAIN_DATA_DIR: other.dataDir }]
    rmSync(file)
    const refused = await keys(['list'], env)
    expect(refused.code).toBe(1)
    expect(refused.err).toMatch(/master\.key is missing.*`babychain keys reseal`/)
    const done = await keys(['reseal'], { ...env, BABYCHAIN_CALLBACK_SECRET: CALLBACK_SECRET })
    expect([done.code, done.err]).toEqual([0, ''])
    expect(done.out).toContain(`a new master key was made: ${file}`)
    expect(done.out).toContain('one key has a new webhook secret: bootstrap')
    expect(done.out).not.toContain(CALLBACK_SECRET)
    await other.start()
    expect((await other.request('/api/v1/runs')).status).toBe(200)
  } finally {
    await other.close()
  }
}, 60_000)

test('keys in a folder without an installation makes none, and says where it looked', async () => {
  const empty = join(server.dir, 'elsewhere')
  const refused = await keys(['create', 'shop'], { BABYCHAIN_DATA_DIR: empty })
  expect([refused.code, refused.out]).toEqual([1, ''])
  expect(refused.err).toContain(`there is no installation in ${empty}. Set BABYCHAIN_DATA_DIR`)
  expect((await keys(['reseal'], { BABYCHAIN_DATA_DIR: empty })).err).toContain('there is no installation')
  expect(existsSync(empty)).toBe(false)
}, 60_000)
