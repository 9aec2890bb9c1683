// The corpus of hostile URLs, given to the real egress with a resolver and a server of the test's own. Whatever passes the
// rules lands on the canary, under whatever address: so a hostile URL that is not refused shows as a connection.

import { beforeAll, beforeEach, describe, expect, test } from 'bun:test'
import { isIP } from 'node:net'
import { privateBecause } from '../../src/net/address.ts'
import { createEgress, type Egress, type EgressOptions } from '../../src/net/egress.ts'
import { HOSTILE, type HostileUrl, MUST_ALLOW } from './hostile-urls.ts'
import { AUTHORITY, doorTo, httpsServer, type Listening } from './servers.ts'

const PUBLIC = '93.184.216.34'
const LIMITS = { connectTimeoutMs: 1000, timeoutMs: 2000 }
const POST = { headers: {}, body: new TextEncoder().encode('{}'), ...LIMITS }
const GET = { maxBytes: 1000, idleTimeoutMs: 1000, ...LIMITS }

let canary: Listening
let door: Listening
let location = ''
let hosts: string[] = []
let dialled: string[] = []
let resolved: string[] = []

beforeAll(async () => {
  canary = await httpsServer((request, reply) => {
    hosts.push(request.headers.host ?? '')
    if (request.url === '/redirect') reply.writeHead(302, { location })
    reply.end('canary')
  })
  door = await doorTo(canary.port)
})

beforeEach(() => {
  door.connections = 0
  hosts = []
  dialled = []
  resolved = []
})

function egressWith(answers: readonly string[] | undefined, options: Partial<EgressOptions> = {}): Egress {
  return createEgress({
    allow: [],
    ownHosts: ['Engine.Example.com:443'],
    ca: AUTHORITY,
    resolver: async host => {
      resolved.push(host)
      const addresses = host === 'start.example.com' ? [PUBLIC] : (answers ?? [PUBLIC])
      return addresses.map(address => ({ address, family: isIP(address.split('%')[0] ?? '') }))
    },
    dialAs: address => {
      dialled.push(address)
      return { address: '127.0.0.1', port: door.port }
    },
    ...options,
  })
}

const cases: [string, HostileUrl][] = Object.entries(HOSTILE).flatMap(([name, list]) =>
  list.map((entry): [string, HostileUrl] => [`${name}: ${JSON.stringify(entry.url.slice(0, 70))}`, entry]),
)

test('the corpus has at least 120 different URLs', () => {
  expect(new Set(cases.map(([, { url }]) => url)).size).toBe(cases.length)
  expect(cases.length).toBeGreaterThanOrEqual(120)
})

describe('a hostile URL is refused before anything is dialled', () => {
  test.each(cases)('%s', async (_name, { url, answers }) => {
    const egress = egressWith(answers)
    const result = await egress.post(url, POST)
    expect(result).toMatchObject({ type: 'failed', ip: null })
    const file = await egress.download(url, GET)
    expect(file.type).toBe('failed')
    const classes = [result, file].map(outcome => (outcome.type === 'failed' ? outcome.errorClass : outcome.type))
    const expected = answers?.length === 0 ? 'dns_error' : 'blocked_address'
    expect(classes).toEqual([expected, expected])
    expect(dialled).toEqual([])
    expect(door.connections).toBe(0)
  })
})

describe('a hostile URL is refused as the target of a redirect', () => {
  // What a header can carry. Without a scheme it would be a path on the first host, which is no crime.
  const targets = cases.filter(([, { url }]) => /^[a-z0-9.+-]+:[\x21-\x7e]+$/i.test(url))

  test.each(targets)('%s', async (_name, { url, answers }) => {
    location = url
    const result = await egressWith(answers).download('https://start.example.com/redirect', GET)
    expect(result.type).toBe('failed')
    expect(dialled).toEqual([PUBLIC])
    expect(hosts).toEqual(['start.example.com'])
  })
})

describe('a hostile URL that can be told by its text alone', () => {
  test.each(cases.filter(([, entry]) => entry.answers === undefined))('%s', (_name, { url }) => {
    expect(egressWith(undefined).check(url)).toMatchObject({ ok: false, code: 'url_not_allowed' })
    expect(resolved).toEqual([])
  })
})

describe('what must be allowed passes', () => {
  test.each(MUST_ALLOW.map(entry => [entry.url, entry] as const))('%s', async (_url, entry) => {
    const egress = egressWith(entry.answers)
    expect(egress.check(entry.url)).toMatchObject({ ok: true })
    const result = await egress.post(entry.url, POST)
    expect(result).toMatchObject({ type: 'answered', status: 200, text: 'canary' })
    expect(dialled[0]).toBe(entry.dialled)
    expect(hosts).toEqual([entry.host])
    expect(dialled.every(address => privateBecause(address) === null)).toBe(true)
  })
})

test.each(['https://8.8.8.8/', 'https://[2606:4700::6810:1]/'])(
  '%s is refused: a public address stands for no name',
  async url => {
    expect(await egressWith([]).post(url, POST)).toMatchObject({ type: 'failed', errorClass: 'blocked_address' })
    expect(door.connections).toBe(0)
  },
)

test('a name that answers public first and private then is resolved once, and the public address is dialled', async () => {
  let round = 0
  const egress = egressWith([], {
    resolver: async () => {
      round += 1
      return [{ address: round === 1 ? PUBLIC : '127.0.0.1', family: 4 }]
    },
  })
  expect(await egress.post('https://rebind.example.com/', POST)).toMatchObject({ type: 'answered' })
  expect(round).toBe(1)
  expect(dialled).toEqual([PUBLIC])
  // The next attempt asks again, and sees the change.
  expect(await egress.post('https://rebind.example.com/', POST)).toMatchObject({ errorClass: 'blocked_address' })
  expect(dialled).toEqual([PUBLIC])
})

test('a link to a file may be longer than a URL that a caller gives: it carries signatures', async () => {
  const urlOf = (chars: number) => 'https://example.com/'.padEnd(chars, 'x')
  const egress = egressWith([PUBLIC])
  expect(egress.check(urlOf(2_048))).toMatchObject({ ok: true })
  expect(egress.check(urlOf(2_049))).toMatchObject({ ok: false, reason: 'length' })
  expect(await egress.post(urlOf(2_049), POST)).toMatchObject({ errorClass: 'blocked_address', detail: 'length' })
  expect(egress.check(`${urlOf(700)}${'ä'.repeat(300)}`)).toMatchObject({ ok: false, reason: 'length' })
  expect(await egress.download(urlOf(15_000), GET)).toMatchObject({ type: 'opened', status: 200 })
  expect(await egress.download(urlOf(16_385), GET)).toMatchObject({ errorClass: 'blocked_address', detail: 'length' })
})

test('every check that passes says nothing of why another one did not', () => {
  const reasons = cases
    .filter(([, { answers }]) => answers === undefined)
    .map(([, { url }]) => egressWith([]).check(url))
  expect(new Set(reasons.map(result => (result.ok ? 'ok' : result.code)))).toEqual(new Set(['url_not_allowed']))
})

test('the log learns why', () => {
  const reasons = [
    'https://a:b@example.com/',
    'https://app.internal/',
    'https://127.1/',
    'https://10.0.0.1/',
    'http://a.b/',
  ]
  expect(reasons.map(url => egressWith([]).check(url))).toMatchObject(
    ['user information', 'internal name', 'host is not written plainly', 'address in place of a name', 'scheme'].map(
      reason => ({
        reason,
      }),
    ),
  )
})

test('a check drops the fragment', () => {
  const result = egressWith([]).check('https://hooks.example.com/a?b=c#d')
  expect(result.ok && result.url.href).toBe('https://hooks.example.com/a?b=c')
})
