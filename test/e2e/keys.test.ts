/** The command `keys` as a process of its own: alone with the database, and beside a running server. */
import { afterAll, expect, test } from 'bun:test'
import { existsSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { API_KEY, CALLBACK_SECRET, ServerProcess } from '../support/server.ts'

const server = new ServerProcess()
afterAll(() => server.close())

async function keys(
  args: readonly string[],
  env: Record<string, string> = {},
): Promise<{ code: number; out: string; err: string }> {
  const child = Bun.spawn(['bun', join(import.meta.dir, '../../src/main.ts'), 'keys', ...args], {
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
  const { port } = new URL(server.url)
  const beside = { BABYCHAIN_API_KEY: API_KEY, PORT: port }
  const listed = await keys(['list'], beside)
  expect(listed.out).toContain('shop')
  expect(listed.out).not.toContain(textOf(made.out))
  const revoked = await keys(['revoke', idOf(made.out)], beside)
  expect([revoked.code, revoked.out]).toEqual([0, expect.stringContaining('revoked')])
  expect(await status(textOf(made.out))).toBe(401)
  const wrong = await keys(['create', 'x', '--rate', 'fast'], beside)
  expect([wrong.code, wrong.err]).toEqual([1, expect.stringContaining('--rate needs a number')])
  const nowhere = await keys(['list'], { ...beside, PORT: '1' })
  expect(nowhere.err).toContain('No server answers on')
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
