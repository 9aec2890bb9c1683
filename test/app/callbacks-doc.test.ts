/** What docs/callbacks.md tells receivers to do is true: its code verifies our signatures, and refuses what is not ours. */
import { afterAll, beforeAll, describe, expect, test } from 'bun:test'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Webhook } from 'standardwebhooks'
import { Webhook as SvixWebhook } from 'svix'
import { SCHEDULE_S } from '../../src/core/delivery.ts'
import { sign } from '../../src/net/signature.ts'

const DOC = await Bun.file(join(import.meta.dir, '../../docs/callbacks.md')).text()
const dir = mkdtempSync(join(tmpdir(), 'babychain-doc-'))
afterAll(() => rmSync(dir, { recursive: true, force: true }))

/** The n-th piece of code in a language. */
function codeOf(language: string, n = 0): string {
  const code = [...DOC.matchAll(new RegExp(`\`\`\`${language}\n([\\s\\S]*?)\`\`\``, 'g'))][n]?.[1]
  if (!code) throw new Error(`the page shows no ${language}`)
  return code
}

type Headers = Record<string, string>
interface Case {
  name: string
  headers: Headers
  body: string
  secret: string
  genuine: boolean
}

const [OLD, NEW] = [1, 2].map(fill => new Uint8Array(32).fill(fill)) as [Uint8Array, Uint8Array]
const text = (secret: Uint8Array): string => `whsec_${Buffer.from(secret).toString('base64')}`
const BODY = '{"type":"run.succeeded","data":{"prompt":"Füße 🎬 \\u0000"}}'

function message(secrets: readonly Uint8Array[], ageS = 0): Headers {
  const [id, timestampS] = ['msg_0192f0c1c2d37a54b7d3a1b2c3d4e5f6', Math.floor(Date.now() / 1000) - ageS]
  const signature = sign({ id, timestampS, body: new TextEncoder().encode(BODY), secrets })
  return { 'webhook-id': id, 'webhook-timestamp': String(timestampS), 'webhook-signature': signature }
}

const cases = (): Case[] => {
  const good = { headers: message([OLD]), body: BODY, secret: text(OLD) }
  const rotating = { headers: message([NEW, OLD]), body: BODY }
  return [
    { name: 'a genuine one', ...good, genuine: true },
    { name: 'one in rotation, by the old secret', ...rotating, secret: text(OLD), genuine: true },
    { name: 'one in rotation, by the new secret', ...rotating, secret: text(NEW), genuine: true },
    { name: 'another secret', ...good, secret: text(NEW), genuine: false },
    { name: 'a changed body', ...good, body: `${BODY} `, genuine: false },
    { name: 'a changed id', ...good, headers: { ...good.headers, 'webhook-id': 'msg_2' }, genuine: false },
    { name: 'an old one', ...good, headers: message([OLD], 600), genuine: false },
    { name: 'one of the future', ...good, headers: message([OLD], -600), genuine: false },
    { name: 'no signature', ...good, headers: { ...good.headers, 'webhook-signature': 'v1,' }, genuine: false },
  ]
}

const throws = (run: () => unknown): boolean => {
  try {
    run()
    return false
  } catch {
    return true
  }
}

describe('the TypeScript of the page', () => {
  let isGenuine: (headers: Headers, body: string, secret: string) => boolean
  beforeAll(async () => {
    const file = join(dir, 'verify.ts')
    await Bun.write(file, codeOf('ts'))
    isGenuine = ((await import(file)) as { isGenuine: typeof isGenuine }).isGenuine
  })
  test('says of every message what the libraries say', () => {
    for (const { name, headers, body, secret, genuine } of cases()) {
      expect([name, isGenuine(headers, body, secret)]).toEqual([name, genuine])
      for (const Library of [Webhook, SvixWebhook])
        expect([name, throws(() => new Library(secret).verify(body, headers))]).toEqual([name, !genuine])
    }
  })
})

describe.each(['standardwebhooks', 'svix'])('the library %s, as the page uses it', library => {
  let messageOf: (headers: Headers, body: string, secret: string) => unknown
  beforeAll(async () => {
    const block = codeOf('ts', 1)
    const [imports = '', ...rest] = block.split('\n')
    expect(imports).toMatch(/^import \{ Webhook \} from 'standardwebhooks' \/\/ or from 'svix'$/)
    const named = imports.replace("'standardwebhooks'", JSON.stringify(Bun.resolveSync(library, import.meta.dir)))
    const file = join(dir, `${library}.ts`)
    const open = 'export function messageOf(headers: Record<string, string>, body: string, secret: string): unknown {'
    await Bun.write(file, [named, open, ...rest, 'return message', '}'].join('\n'))
    messageOf = ((await import(file)) as { messageOf: typeof messageOf }).messageOf
  })
  test('gives the message of what is genuine, and throws at the rest', () => {
    for (const { name, headers, body, secret, genuine } of cases()) {
      if (genuine) expect([name, messageOf(headers, body, secret)]).toEqual([name, JSON.parse(BODY)])
      else expect([name, throws(() => messageOf(headers, body, secret))]).toEqual([name, true])
    }
  })
})

describe.if(Bun.which('python3') !== null)('the Python of the page', () => {
  test('says the same', async () => {
    const all = cases()
    const file = join(dir, 'verify.py')
    const main = `
import json, sys
for each in json.load(sys.stdin):
    print(int(is_genuine(each["headers"], each["body"].encode(), each["secret"])))
`
    await Bun.write(file, codeOf('python') + main)
    const python = Bun.spawn(['python3', file], {
      stdin: new Blob([JSON.stringify(all)]),
      stdout: 'pipe',
      stderr: 'inherit',
    })
    const said = (await new Response(python.stdout).text()).trim().split('\n')
    expect(said.map((line, i) => [all[i]?.name, line])).toEqual(all.map(each => [each.name, each.genuine ? '1' : '0']))
  })
})

test('the page names the times of the schedule and every class of error', () => {
  const spoken = SCHEDULE_S.map(s => (s < 60 ? `${s} s` : s < 3_600 ? `${s / 60} min` : `${s / 3_600} h`))
  const flat = DOC.replaceAll(/\s+/g, ' ')
  expect(flat).toContain(`after ${spoken.slice(0, -1).join(', ')} and ${spoken.at(-1)}`)
  const classes = ['dns_error', 'connect_refused', 'connect_timeout', 'tls_error', 'timeout', 'connection_lost']
  classes.push(
    'reply_too_large',
    'redirect',
    'receiver_rejected',
    'http_4xx',
    'http_5xx',
    'blocked_address',
    'egress_down',
  )
  for (const each of [...classes, 'aborted', 'internal', 'never_ended']) expect(DOC).toContain(`\`${each}\``)
})
