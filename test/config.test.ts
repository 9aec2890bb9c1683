import { describe, expect, test } from 'bun:test'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { VARIABLES } from '../src/config/variables.ts'
import { type Config, readConfig, redacted } from '../src/config.ts'
import { LIMITS } from '../src/core/run.ts'
import type { ApiDeps } from '../src/http/deps.ts'
import { authenticate, type Exchange } from '../src/http/exchange.ts'

const read = (env: Record<string, string>): Config => {
  const result = readConfig(env)
  if (!result.ok) throw new Error(result.problems.join('\n'))
  return result.config
}
const problems = (env: Record<string, string>): string[] => {
  const result = readConfig(env)
  return result.ok ? [] : result.problems
}

describe('the environment', () => {
  test('may be empty: then it is the sandbox on port 3000, on this machine only', () => {
    expect(read({})).toMatchObject({
      port: 3000,
      host: '127.0.0.1',
      mode: 'sandbox',
      dataDir: './data',
      apiKey: null,
      media: { type: 'disk' },
    })
  })

  test('with any provider key is byok, and says otherwise only when told', () => {
    expect(read({ BFL_API_KEY: 'k' }).mode).toBe('byok')
    expect(read({ COMFYUI_URL: 'http://127.0.0.1:8188' }).mode).toBe('byok')
    expect(read({ BFL_API_KEY: 'k', BABYCHAIN_MODE: 'sandbox' }).mode).toBe('sandbox')
  })

  test('is taken up to its bounds', () => {
    const env = { PORT: '65535', BABYCHAIN_RETENTION_DAYS: '36500', BABYCHAIN_SANDBOX_LATENCY_MS: '3600000' }
    const retentionMs = 36_500 * 86_400_000
    expect(read(env)).toMatchObject({
      port: 65_535,
      retentionMs,
      sandboxLatencyMs: { image: 3_600_000, video: 3_600_000 },
    })
    expect(read({ BABYCHAIN_RESUME: '1', BABYCHAIN_MODEL_IDS: 'a:b=c' })).toMatchObject({
      resume: '1',
      modelIds: { 'a:b': 'c' },
    })
  })

  test('blank is the same as absent', () => {
    expect(read({ PORT: ' ', BFL_API_KEY: '' })).toEqual(read({}))
  })

  test.each([
    [{ PORT: '70000' }, 'PORT must be a whole number'],
    [{ PORT: '3.5' }, 'PORT must be a whole number'],
    [{ BABYCHAIN_MODE: 'prod' }, 'sandbox, byok'],
    [{ BABYCHAIN_MODE: 'byok' }, 'no provider key is set'],
    [{ BABYCHAIN_API_KEY: 'short' }, '20 characters'],
    [{ BABYCHAIN_API_KEY: 'a key with some blanks in it' }, 'without blanks'],
    [{ BABYCHAIN_API_KEY: 'key,of,more,than,twenty' }, 'without blanks and commas'],
    [{ BABYCHAIN_API_KEY: 'schlüssel-von-mehr-als-20' }, 'printable ASCII'],
    [{ BABYCHAIN_API_KEY: 'k'.repeat(513) }, '512 at most'],
    [{ BABYCHAIN_CALLBACK_SECRET: 'whsec_AAAA' }, 'BABYCHAIN_CALLBACK_SECRET'],
    [{ BABYCHAIN_MASTER_KEY: 'c2hvcnQ=' }, '32 bytes'],
    [{ BABYCHAIN_PUBLIC_URL: 'example.com' }, 'BABYCHAIN_PUBLIC_URL must be an http or https URL'],
    [{ BFL_BASE_URL: 'https://user:pw@api.example' }, 'BFL_BASE_URL'],
    [{ BABYCHAIN_EGRESS_ALLOW: 'localhost' }, 'BABYCHAIN_EGRESS_ALLOW'],
    [{ BABYCHAIN_MEDIA: 'gcs://x' }, 's3://bucket/prefix'],
    [{ BABYCHAIN_MEDIA: 's3://my_bucket/prefix' }, 'a bucket has 3 to 63 lower-case letters, digits, dots and hyphens'],
    [{ BABYCHAIN_MEDIA: 's3://my_bucket/prefix' }, 'it is "s3://my_bucket/prefix"'],
    [{ BABYCHAIN_MEDIA: 's3://ab' }, 'it is "s3://ab"'],
    [{ BABYCHAIN_MEDIA: 's3://my-bucket-/prefix' }, 'letter or digit at both ends'],
    [{ BABYCHAIN_MEDIA: 's3:AKIA:secret@bucket/p' }, 'it is "…@bucket/p"'],
    [{ BABYCHAIN_MEDIA: 's3://bucket/prefix?AWS_SECRET_ACCESS_KEY=secret' }, 'no ? or #; it is "s3://bucket/prefix?…"'],
    [{ BABYCHAIN_MEDIA: 'https://b.example/p?X-Amz-Signature=abc' }, 'it is "https://b.example/p?…"'],
    [{ BABYCHAIN_MEDIA: 's3://AKIA:secret@bucket/prefix' }, 'it is "s3://…@bucket/prefix"'],
    [{ BABYCHAIN_CONCURRENCY: 'bfl=0' }, 'bfl must be a whole number from 1'],
    [{ BABYCHAIN_CONCURRENCY: 'bfl=many' }, 'bfl must be a whole number from 1'],
    [{ BABYCHAIN_CONCURRENCY: 'bfl=1.5' }, 'bfl must be a whole number from 1'],
    [{ BABYCHAIN_CONCURRENCY: 'bfl' }, 'must hold entries name=value; "bfl" is none'],
    [{ BABYCHAIN_MODEL_IDS: 'a=b,=c' }, 'must hold entries name=value; "=c" is none'],
    [{ BABYCHAIN_MODEL_IDS: 'byteplus:seedance=' }, 'must hold entries name=value; "byteplus:seedance=" is none'],
    [{ BABYCHAIN_PUBLIC_URL: 'https://x.test/?a=b' }, 'BABYCHAIN_PUBLIC_URL must be an http or https URL without'],
    [{ BABYCHAIN_PUBLIC_URL: 'https://x.test/#top' }, 'BABYCHAIN_PUBLIC_URL must be an http or https URL without'],
    [{ PORT: '65536' }, 'PORT must be a whole number from 0 to 65535'],
    [{ BABYCHAIN_RESUME: '0' }, 'BABYCHAIN_RESUME must be a whole number from 1'],
    [{ BABYCHAIN_RESUME: 'now' }, 'BABYCHAIN_RESUME must be a whole number from 1'],
    [{ BABYCHAIN_CONCURRENCY: 'bfl=4,fall=10' }, 'BABYCHAIN_CONCURRENCY: there is no provider "fall"; there are bfl,'],
    [{ BABYCHAIN_PROVIDER_ORDER: 'replicate,blf' }, 'BABYCHAIN_PROVIDER_ORDER: there is no provider "blf"'],
    [{ BFL_API_KEY: 'one\ntwo' }, 'BFL_API_KEY must be one line of printable ASCII'],
    [{ FAL_KEY: 'ключ' }, 'FAL_KEY must be one line of printable ASCII'],
    [{ LOG_LEVEL: 'loud' }, 'LOG_LEVEL'],
    [{ BABYCHAIN_DATADIR: '/data' }, 'BABYCHAIN_DATADIR is not a variable'],
    [{ OTEL_EXPORTER_OTLP_ENDPOINT: 'collector:4317' }, 'OTEL_EXPORTER_OTLP_ENDPOINT must be an http or https URL'],
    [{ OTEL_EXPORTER_OTLP_HEADERS: 'a=b,secret' }, 'comma separated; entry 2 is none'],
    [{ OTEL_EXPORTER_OTLP_HEADERS: 'a b=c' }, 'entry 1 is none'],
    [{ OTEL_EXPORTER_OTLP_HEADERS: 'a=%0d%0ab' }, 'entry 1 is none'],
    [{ OTEL_EXPORTER_OTLP_HEADERS: 'a=%zz' }, 'entry 1 is none'],
  ])('%o stops the start with a sentence', (env, words) => {
    expect(problems(env as Record<string, string>).join('\n')).toContain(words)
  })

  test('takes a bootstrap key of 20 characters where the API reads it from its header, and nowhere else', async () => {
    const reads = async (key: string): Promise<boolean> => {
      const headers = { authorization: `Bearer ${key}` }
      const request = new Request('http://x.test/', { headers })
      const deps = { auth: async (text: string) => (text === key ? { apiKeyId: 'a', scopes: [] } : null) }
      const asked = authenticate(
        deps as unknown as ApiDeps,
        { request, charge() {} } as unknown as Exchange,
        'runs:read',
      )
      // Read, and then without the scope.
      return asked.catch((error: { code: string }) => error.code === 'forbidden') as Promise<boolean>
    }
    const letters = Array.from({ length: 255 }, (_, i) => String.fromCharCode(i + 1)).filter(each =>
      /[^\0\r\n]/.test(each),
    )
    const keys = letters.map(letter => `${'k'.repeat(19)}${letter}k`)
    for (const key of [...keys, 'k'.repeat(20), 'k'.repeat(512), 'k'.repeat(513)])
      expect([key, problems({ BABYCHAIN_API_KEY: key }).length === 0]).toEqual([key, await reads(key)])
  })

  test('tells all problems at once', () => {
    expect(problems({ PORT: 'x', LOG_LEVEL: 'y', BABYCHAIN_MEDIA: 'z' }).length).toBe(3)
  })

  test('makes traces only where a collector is named', () => {
    expect(read({ OTEL_EXPORTER_OTLP_HEADERS: 'a=b', OTEL_SERVICE_NAME: 'x' }).tracing).toBeNull()
    const url = 'http://collector:4318/v1/traces'
    expect(read({ OTEL_EXPORTER_OTLP_ENDPOINT: 'http://collector:4318/' }).tracing).toEqual({
      ...{ url, headers: {}, serviceName: 'babychain' },
    })
    const whole = {
      OTEL_EXPORTER_OTLP_ENDPOINT: 'http://other',
      OTEL_EXPORTER_OTLP_TRACES_ENDPOINT: 'https://collector/in',
      OTEL_EXPORTER_OTLP_HEADERS: 'Authorization=Basic%20YTpi==, x-team = pictures ',
      OTEL_SERVICE_NAME: 'pictures',
    }
    expect(read(whole).tracing).toEqual({
      url: 'https://collector/in',
      headers: { authorization: 'Basic YTpi==', 'x-team': 'pictures' },
      serviceName: 'pictures',
    })
  })

  test('takes every provider that there is, the sandbox and ComfyUI too', () => {
    const env = { BABYCHAIN_PROVIDER_ORDER: 'fal, comfyui,bfl', BABYCHAIN_CONCURRENCY: 'sandbox=3,comfyui=1' }
    expect(read(env)).toMatchObject({
      providerOrder: ['fal', 'comfyui', 'bfl'],
      concurrency: { sandbox: 3, comfyui: 1 },
    })
  })

  test('does not quote a key that is wrong', () => {
    expect(problems({ BFL_API_KEY: 'the-secret\nkey' }).join()).not.toContain('the-secret')
  })

  test('does not quote a secret header that is wrong', () => {
    expect(problems({ OTEL_EXPORTER_OTLP_HEADERS: 'just-the-secret' }).join()).not.toContain('just-the-secret')
  })

  test('gives a config that prints itself without secrets', () => {
    const secrets = {
      BFL_API_KEY: 'secret-bfl-key',
      BABYCHAIN_API_KEY: 'secret-api-key-0123456789',
      BABYCHAIN_MASTER_KEY: Buffer.alloc(32, 1).toString('base64'),
      BABYCHAIN_CALLBACK_SECRET: `whsec_${Buffer.alloc(32, 2).toString('base64')}`,
      AWS_SECRET_ACCESS_KEY: 'secret-aws-key',
      AWS_ACCESS_KEY_ID: 'id-aws-key',
    }
    const collector = {
      OTEL_EXPORTER_OTLP_ENDPOINT: 'http://collector',
      OTEL_EXPORTER_OTLP_HEADERS: 'x-key=secret-otel-key',
    }
    const shown = JSON.stringify(redacted(read({ ...secrets, ...collector })))
    for (const secret of [...Object.values(secrets), 'secret-otel-key']) expect(shown).not.toContain(secret)
    expect(shown).toContain('x-key')
    expect(shown).toContain('"apiKey":"set"')
  })
})

test('what a run reads is kept while it lives, though another run that read it has ended: no retention is shorter', () => {
  expect(read({ BABYCHAIN_RETENTION_DAYS: '1' }).retentionMs).toBeGreaterThanOrEqual(LIMITS.runDeadlineMs)
  expect(read({ BABYCHAIN_RETENTION_DAYS: '0' }).retentionMs).toBeNull()
})

describe('the README', () => {
  const readme = readFileSync(join(import.meta.dir, '../README.md'), 'utf8')
  const rows = [...readme.matchAll(/^\| `([A-Z][A-Z0-9_]+)` \| (.*) \| (.*) \|$/gm)]

  test('lists every variable with its meaning and default, and no other', () => {
    expect(rows.map(row => row[1])).toEqual(VARIABLES.map(variable => variable.name))
    for (const [i, variable] of VARIABLES.entries()) {
      expect(rows[i]?.[2]).toBe(variable.meaning)
      expect(rows[i]?.[3]?.replaceAll('`', '').trim()).toBe(variable.default.replaceAll('`', ''))
    }
  })

  test('lists every word that makes the sandbox misbehave', async () => {
    const { MISBEHAVIOR } = await import('../src/providers/sandbox/misbehavior.ts')
    for (const { example, effect } of MISBEHAVIOR) expect(readme).toContain(`| \`${example}\` | ${effect} |`)
  })

  test('names only scripts that exist', async () => {
    const { scripts } = (await import('../package.json')) as unknown as { scripts: Record<string, string> }
    for (const [, script] of readme.matchAll(/npm run ([a-z:]+)/g)) expect(Object.keys(scripts)).toContain(script ?? '')
  })
})
