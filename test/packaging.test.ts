/**
 * Holds together what is shipped: the package and its lock, the image, its entry point, Litestream's and Fly's files.
 * No container can be built where the tests run, so the Dockerfile is parsed and linted, its version check and the
 * entry point are executed in a shell with stand-ins on the PATH, and what the files say of each other is compared.
 */
import { afterAll, describe, expect, test } from 'bun:test'
import {
  chmodSync,
  copyFileSync,
  existsSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

const root = join(import.meta.dir, '..')
const read = (path: string) => readFileSync(join(root, path), 'utf8')
const scratch = mkdtempSync(join(tmpdir(), 'packaging-'))
afterAll(() => rmSync(scratch, { recursive: true, force: true }))

interface Manifest {
  readonly version?: string
  readonly dependencies?: Record<string, string>
  readonly devDependencies?: Record<string, string>
  readonly optionalDependencies?: Record<string, string>
  readonly scripts?: Record<string, string>
  readonly allowScripts?: Record<string, boolean>
  readonly trustedDependencies?: string[]
  readonly hasInstallScript?: boolean
}
const manifest: Manifest = JSON.parse(read('package.json'))
const locked: Record<string, Manifest> = JSON.parse(read('package-lock.json')).packages
const nameOf = (path: string) => path.replace(/^.*node_modules\//, '')

describe('the package', () => {
  test('every dependency is pinned to an exact version', () => {
    for (const [name, version] of Object.entries({ ...manifest.dependencies, ...manifest.devDependencies })) {
      expect(`${name}@${version}`).toMatch(/@\d+\.\d+\.\d+(-[\w.]+)?$/)
    }
  })

  test('the lock is of this package.json, names no registry, and knows a checksum of everything', () => {
    expect(locked['']?.dependencies).toEqual(manifest.dependencies)
    expect(locked['']?.devDependencies).toEqual(manifest.devDependencies)
    expect(read('package-lock.json')).not.toContain('"resolved"')
    for (const [path, entry] of Object.entries(locked))
      if (path) expect([path, Object.keys(entry)]).toEqual([path, expect.arrayContaining(['version', 'integrity'])])
  })

  test('the lock has the packages of every platform, or npm ci would refuse it', () => {
    const names = new Set(Object.keys(locked).map(nameOf))
    const missing = Object.values(locked).flatMap(entry =>
      Object.keys(entry.optionalDependencies ?? {}).filter(name => !names.has(name)),
    )
    expect(missing).toEqual([])
  })

  test('Bun installs the very same versions from it', () => {
    const folder = mkdtempSync(join(scratch, 'bun-'))
    for (const file of ['package.json', 'package-lock.json']) copyFileSync(join(root, file), join(folder, file))
    // Port 9 answers nothing: whatever were not taken from the lock could not be found elsewhere.
    const env = { PATH: process.env.PATH ?? '', HOME: folder, BUN_CONFIG_REGISTRY: 'http://127.0.0.1:9' }
    const { exitCode } = Bun.spawnSync([process.execPath, 'install', '--lockfile-only'], { cwd: folder, env })
    expect(exitCode).toBe(0)
    const migrated = readFileSync(join(folder, 'bun.lock'), 'utf8').matchAll(/^ {4}"[^"]+": \["([^"]+)"/gm)
    const wanted = Object.entries(locked)
      .filter(([path]) => path)
      .map(([path, { version }]) => `${nameOf(path)}@${version}`)
    expect([...new Set([...migrated].map(([, id]) => id))].sort()).toEqual([...new Set(wanted)].sort())
  })

  test('every install script is allowed or denied by name, so that installing asks nothing', () => {
    const scripted = Object.entries(locked)
      .filter(([, entry]) => entry.hasInstallScript)
      .map(([path]) => nameOf(path))
    expect(new Set(scripted)).toEqual(new Set(Object.keys(manifest.allowScripts ?? {})))
    const allowed = Object.keys(manifest.allowScripts ?? {}).filter(name => manifest.allowScripts?.[name])
    expect(manifest.trustedDependencies).toEqual(allowed)
  })

  test('every script that names a file of ours finds it', () => {
    const files = Object.values(manifest.scripts ?? {}).flatMap(
      script => script.match(/\b(src|scripts|bench|test)\/[\w./-]+/g) ?? [],
    )
    expect(files.filter(file => !existsSync(join(root, file)))).toEqual([])
  })
})

describe('the image', () => {
  const dockerfile = parse(read('Dockerfile'))
  const final = dockerfile.slice(dockerfile.findLastIndex(step => step.word === 'FROM'))
  const env = Object.fromEntries(
    final
      .filter(step => step.word === 'ENV')
      .flatMap(step => step.rest.split(/\s+/).map(pair => pair.split('=') as [string, string])),
  )
  const tagOf = (image: string) =>
    dockerfile.find(step => step.word === 'FROM' && step.rest.startsWith(`${image}:`))?.rest.match(/:([^\s]+)/)?.[1]

  test('the Dockerfile passes the linter', () => expect(lint(dockerfile)).toEqual([]))

  test('the linter finds each mistake it knows', () => {
    const good =
      'FROM debian:bookworm-slim\nRUN apt-get update && apt-get install -y --no-install-recommends a && rm -rf /var/lib/apt/lists/*\nUSER 1:1\nHEALTHCHECK CMD ["a"]\nENTRYPOINT ["a"]\n'
    expect(lint(parse(good))).toEqual([])
    const mistakes: [string | RegExp, string][] = [
      [':bookworm-slim', ''],
      [':bookworm-slim', ':latest'],
      ['USER 1:1\n', ''],
      ['USER 1:1', 'USER root'],
      ['USER 1:1', 'USER 0:0'],
      [' && rm -rf /var/lib/apt/lists/*', ''],
      [' --no-install-recommends', ''],
      [' -y', ''],
      ['HEALTHCHECK CMD ["a"]\n', ''],
      ['HEALTHCHECK CMD ["a"]', 'HEALTHCHECK NONE'],
      ['ENTRYPOINT ["a"]', 'ENTRYPOINT a'],
      ['USER', 'ADD https://example.com/a /a\nUSER'],
      ['USER', 'RUN cd /a && sudo b\nUSER'],
      ['USER', 'ENV API_KEY=abc\nUSER'],
      ['USER', 'WORKDIR a\nUSER'],
      ['USER', 'COPY --from=missing /a /a\nUSER'],
    ]
    for (const [from, to] of mistakes) expect([to, lint(parse(good.replace(from, to))).length]).toEqual([to, 1])
  })

  test('it is built by the Bun that the package pins', () => {
    expect(tagOf('oven/bun')).toBe(manifest.dependencies?.bun)
    expect(manifest.devDependencies?.['@types/bun']).toBe(manifest.dependencies?.bun)
  })

  test('its check refuses a Litestream that can corrupt the database, and takes the one it copies', () => {
    const check = final.find(step => step.word === 'RUN' && step.rest.includes('litestream version'))?.rest ?? ''
    const accepts = (version: string) => shell(['sh', '-c', check], { litestream: `echo '${version}'` }).exitCode === 0
    for (const version of ['0.5.17', 'v0.5.17', 'v0.5.18', '0.6.0', tagOf('litestream/litestream') ?? ''])
      expect([version, accepts(version)]).toEqual([version, true])
    for (const version of ['v0.3.13', '0.5.9', 'v0.5.16', '(development build)', ''])
      expect([version, accepts(version)]).toEqual([version, false])
  })

  test('whatever it copies is let through by .dockerignore, and nothing else is', () => {
    const allowed = read('.dockerignore')
      .split('\n')
      .filter(line => line && !line.startsWith('#'))
    expect(allowed[0]).toBe('*')
    const copied = dockerfile
      .filter(step => step.word === 'COPY' && !step.rest.startsWith('--from'))
      .flatMap(step => step.rest.split(/\s+/).slice(0, -1))
    expect(allowed.slice(1).sort()).toEqual(copied.map(path => `!${path}`).sort())
  })

  test('image, Litestream and Fly agree on port, folder, database and health', () => {
    const fly = Bun.TOML.parse(read('fly.toml')) as unknown as Fly
    const litestream = Bun.YAML.parse(read('litestream.yml')) as Litestream
    expect(env).toMatchObject({
      NODE_ENV: 'production',
      HOST: '0.0.0.0',
      PORT: '3000',
      BABYCHAIN_DATA_DIR: '/data',
      BUN_CONFIG_MAX_HTTP_REQUESTS: '2048',
    })
    expect(env).toMatchObject(fly.env)
    expect(final.find(step => step.word === 'EXPOSE')?.rest).toBe(env.PORT ?? '')
    expect(fly.http_service.internal_port).toBe(Number(env.PORT))
    expect(fly.mounts.map(mount => mount.destination)).toEqual([env.BABYCHAIN_DATA_DIR ?? ''])
    expect(JSON.parse(final.find(step => step.word === 'VOLUME')?.rest ?? '[]')).toEqual([env.BABYCHAIN_DATA_DIR])
    expect(litestream.dbs.map(db => db.path)).toEqual([`${env.BABYCHAIN_DATA_DIR}/babychain.db`])
    expect(fly.http_service.checks[0]?.path).toBe('/healthz')
    expect(fly.build.dockerfile).toBe('Dockerfile')
  })

  test('Fly runs one machine that never sleeps, and never two of them at once', () => {
    const fly = Bun.TOML.parse(read('fly.toml')) as unknown as Fly
    expect(fly.deploy.strategy).toBe('rolling')
    expect(fly.http_service).toMatchObject({ auto_stop_machines: 'off', min_machines_running: 1 })
    expect([fly.kill_signal, fly.kill_timeout]).toEqual(['SIGTERM', 60])
  })

  test('Litestream has one replica, loses a second at most, and asks only for variables that a bucket brings', () => {
    const { dbs } = Bun.YAML.parse(read('litestream.yml')) as Litestream
    const asked = [...read('litestream.yml').matchAll(/\$\{(\w+)\}/g)].map(([, name]) => name)
    expect(asked.sort()).toEqual(['AWS_ENDPOINT_URL_S3', 'AWS_REGION', 'BUCKET_NAME'])
    expect(dbs[0]).toMatchObject({ 'monitor-interval': '250ms', 'busy-timeout': '5s' })
    expect(dbs[0]?.replicas).toMatchObject([{ type: 's3', 'sync-interval': '1s', 'force-path-style': true }])
  })
})

describe('the entry point', () => {
  const bucket = { BUCKET_NAME: 'bucket', BABYCHAIN_DATA_DIR: '/data', BABYCHAIN_MASTER_KEY: 'k' }
  const tools = { babychain: 'echo "babychain $*"', litestream: 'echo "litestream $*"' }
  const run = (args: string[], env: Record<string, string>, stubs = tools) =>
    shell([join(root, 'docker-entrypoint.sh'), ...args], stubs, env)

  test('can be executed', () => expect(statSync(join(root, 'docker-entrypoint.sh')).mode & 0o111).toBe(0o111))

  test('serves without Litestream where no bucket is configured, and says so', () => {
    for (const args of [[], ['serve']]) {
      const { exitCode, out, err } = run(args, { BABYCHAIN_DATA_DIR: '/data' })
      expect([exitCode, out]).toEqual([0, ['babychain serve']])
      expect(err).toContain('BUCKET_NAME is not set')
    }
  })

  test('restores, then serves under Litestream where a bucket is configured', () => {
    const { exitCode, out, err } = run(['serve'], bucket)
    expect([exitCode, err]).toEqual([0, ''])
    expect(out).toEqual([
      'litestream restore -config /etc/litestream.yml -if-db-not-exists -if-replica-exists /data/babychain.db',
      'litestream replicate -config /etc/litestream.yml -exec babychain serve',
    ])
  })

  test('hands on what the operator says with `serve`', () => {
    const resumed = ['serve', '--resume']
    expect(run(resumed, { BABYCHAIN_DATA_DIR: '/data' }).out).toEqual(['babychain serve --resume'])
    expect(run(resumed, bucket).out.at(-1)).toEqual(
      'litestream replicate -config /etc/litestream.yml -exec babychain serve --resume',
    )
  })

  test('warns of a replica that nobody could decrypt', () => {
    expect(run([], { ...bucket, BABYCHAIN_MASTER_KEY: '' }).err).toContain('BABYCHAIN_MASTER_KEY is not set')
  })

  test('starts nothing when the bucket cannot be read', () => {
    const { exitCode, out } = run([], bucket, { ...tools, litestream: 'echo "litestream $1"; exit 3' })
    expect([exitCode, out]).toEqual([3, ['litestream restore']])
  })

  test('hands every other command to the binary, also with a bucket', () => {
    expect(run(['health'], bucket).out).toEqual(['babychain health'])
    expect(run(['keys', 'create', '--name', 'a b'], bucket).out).toEqual(['babychain keys create --name a b'])
  })
})

interface Fly {
  readonly kill_signal: string
  readonly kill_timeout: number
  readonly build: { readonly dockerfile: string }
  readonly deploy: { readonly strategy: string }
  readonly env: Record<string, string>
  readonly mounts: { readonly destination: string }[]
  readonly http_service: { readonly internal_port: number; readonly checks: { readonly path: string }[] }
}

interface Litestream {
  readonly dbs: { readonly path: string; readonly replicas: Record<string, unknown>[] }[]
}

interface Step {
  readonly word: string
  readonly rest: string
}

/** The instructions of a Dockerfile, each on one line, without comments. */
function parse(text: string): Step[] {
  const lines = text.split('\n').filter(line => !line.trim().startsWith('#'))
  const steps = lines
    .join('\n')
    .replace(/\\\n\s*/g, '')
    .split('\n')
    .filter(line => line.trim())
  return steps.map(line => ({ word: line.split(/\s+/)[0] ?? '', rest: line.replace(/^\S+\s+/, '') }))
}

/** What hadolint says of the same mistakes: DL3006 to DL3009, DL3014, DL3015, DL3002, DL3000, DL3004, DL3020, DL3025. */
function lint(steps: Step[]): string[] {
  const problems: string[] = []
  const stages = steps.filter(step => step.word === 'FROM').map(step => step.rest)
  const names = stages.map(stage => stage.match(/ AS (\S+)$/)?.[1])
  const final = steps.slice(steps.findLastIndex(step => step.word === 'FROM'))
  for (const stage of stages)
    if (!/^[\w./-]+:(?!latest\b)[\w.-]+( |$)/.test(stage)) problems.push(`unpinned image: ${stage}`)
  for (const { word, rest } of steps) {
    if (word === 'ADD') problems.push(`ADD where COPY says what it does: ${rest}`)
    if (word === 'ENV' && /(KEY|SECRET|TOKEN|PASSWORD)\w*=/.test(rest)) problems.push('a secret in the image')
    if (word === 'WORKDIR' && !rest.startsWith('/')) problems.push(`relative folder: ${rest}`)
    if (['CMD', 'ENTRYPOINT'].includes(word) && !rest.startsWith('['))
      problems.push(`${word} hides signals behind a shell`)
    if (word === 'COPY' && /^--from=(\S+)/.test(rest) && !names.includes(rest.match(/^--from=(\S+)/)?.[1]))
      problems.push(`unknown stage: ${rest}`)
    if (word === 'RUN' && /\b(sudo|cd)\b/.test(rest)) problems.push(`sudo or cd: ${rest}`)
    if (word !== 'RUN' || !/\bapt-get install\b/.test(rest)) continue
    if (!/apt-get update\b.*apt-get install\b.* -y /.test(rest)) problems.push('apt-get install without update or -y')
    if (!rest.includes('--no-install-recommends')) problems.push('recommended packages come along')
    if (!rest.includes('rm -rf /var/lib/apt/lists/*')) problems.push('package lists stay in the image')
  }
  const user = final.findLast(step => step.word === 'USER')?.rest
  if (!user || /^(root|0)\b/.test(user)) problems.push('runs as root')
  if (!final.some(step => step.word === 'HEALTHCHECK' && /\bCMD \[/.test(step.rest))) problems.push('no health check')
  return problems
}

/** Runs a command with only these stand-ins and the system's own tools on its PATH. */
function shell(command: string[], stubs: Record<string, string>, env: Record<string, string> = {}) {
  const bin = mkdtempSync(join(scratch, 'bin-'))
  for (const [name, script] of Object.entries(stubs)) {
    writeFileSync(join(bin, name), `#!/bin/sh\n${script}\n`)
    chmodSync(join(bin, name), 0o755)
  }
  const { exitCode, stdout, stderr } = Bun.spawnSync(command, { env: { PATH: `${bin}:/usr/bin:/bin`, ...env } })
  return { exitCode, out: stdout.toString().split('\n').filter(Boolean), err: stderr.toString() }
}
