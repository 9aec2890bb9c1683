// Names: a silent one holds up nobody, and whose fault it is that one has no address.

import { afterAll, afterEach, describe, expect, test } from 'bun:test'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { EgressError } from '../../src/net/egress/failure.ts'
import { createNameServer } from '../../src/net/egress/name-server.ts'
import { type Address, createNames } from '../../src/net/egress/names.ts'
import { unlessCutOff } from '../../src/net/egress/route.ts'
import { createEgress } from '../../src/net/egress.ts'
import { type NameServer, type Said, startNameServer } from './name-servers.ts'
import { AUTHORITY, httpsServer } from './servers.ts'

const PUBLIC = '93.184.216.34'
const PUBLIC_6 = '2606:2800:220:1:248:1893:25c8:1946'
const POST = { headers: {}, body: new Uint8Array(1) }
const never = () => new Promise<never>(() => {})

const open: NameServer[] = []
afterEach(() => {
  for (const server of open.splice(0)) server.close()
})

async function nameServer(says: (name: string, type: string) => Said): Promise<NameServer> {
  const server = await startNameServer(says)
  open.push(server)
  return server
}

/** The addresses of a name, or the class of the failure. */
async function found(asked: Promise<readonly Address[]>): Promise<readonly string[] | string> {
  return asked.then(
    addresses => addresses.map(({ address, family }) => `${family} ${address}`),
    error => (error instanceof EgressError ? error.errorClass : String(error)),
  )
}

describe('a silent name', () => {
  test('holds up neither the reading of files nor another name, however many there are', async () => {
    const receiver = await httpsServer((_incoming, reply) => reply.end('ok'))
    const names = await nameServer(name => (name.startsWith('silent') ? 'silence' : [PUBLIC]))
    const egress = createEgress({
      allow: [],
      ca: AUTHORITY,
      nameServers: [names.place],
      dialAs: () => ({ address: '127.0.0.1', port: receiver.port }),
    })
    const events: string[] = []
    const stop = new AbortController()
    const hanging = Array.from({ length: 64 }, async (_, i) => {
      const result = await egress.post(`https://silent-${i}.example.com/`, { ...POST, signal: stop.signal })
      events.push(result.type === 'failed' ? result.errorClass : result.type)
    })
    await names.heard(128)
    await Bun.file(import.meta.path).text()
    events.push('file')
    const answered = await egress.post('https://hooks.example.com/', POST)
    events.push(answered.type)
    stop.abort()
    await Promise.all(hanging)
    expect(events).toEqual(['file', 'answered', ...hanging.map(() => 'aborted')])
  })

  test('is asked for once by all who want it at the same moment, and anew by who comes after', async () => {
    const asked: ((addresses: Address[]) => void)[] = []
    const names = createNames({ ask: () => new Promise(resolve => asked.push(resolve)) }, 2000)
    const both = [found(names('a.example.com')), found(names('a.example.com'))]
    expect(asked).toHaveLength(1)
    asked[0]?.([{ address: PUBLIC, family: 4 }])
    expect(await Promise.all(both)).toEqual([[`4 ${PUBLIC}`], [`4 ${PUBLIC}`]])
    void names('a.example.com')
    expect(asked).toHaveLength(2)
    asked[1]?.([])
  })

  test('takes a place from its own site: one that hangs a thousand times leaves half of the places, and so on', async () => {
    const asked: string[] = []
    const settle: (() => void)[] = []
    const ask = (host: string) =>
      new Promise<Address[]>(resolve => {
        asked.push(host.split('.').slice(-2).join('.'))
        settle.push(() => resolve([]))
      })
    const names = createNames({ ask }, 60_000)
    const all: Promise<unknown>[] = []
    for (const site of ['one.com', 'two.com', 'three.com']) {
      for (let i = 0; i < 1000; i++) all.push(found(names(`n${i}.${site}`)))
    }
    all.push(found(names('hooks.example.com')))
    const count = (site: string) => asked.filter(other => other === site).length
    expect(['one.com', 'two.com', 'three.com', 'example.com'].map(count)).toEqual([128, 64, 32, 1])
    for (const end of settle) end()
    const results = await Promise.all(all)
    expect(results.filter(result => result === 'dns_error')).toHaveLength(3000 - 224)
    void names('n0.one.com').catch(() => {})
    expect(count('one.com')).toBe(129)
    settle.at(-1)?.()
  })
})

describe('a name server', () => {
  test.each<[string, string, string[], string[]]>([
    [
      'of both families',
      'a.example.com',
      [PUBLIC, PUBLIC_6, '93.184.216.35'],
      [`4 ${PUBLIC}`, '4 93.184.216.35', `6 ${PUBLIC_6}`],
    ],
    ['of IPv4 alone', 'b.example.com', [PUBLIC], [`4 ${PUBLIC}`]],
    ['of IPv6 alone', 'c.example.com', [PUBLIC_6], [`6 ${PUBLIC_6}`]],
  ])('gives every address %s', async (_what, host, addresses, expected) => {
    const server = await nameServer(name => (name === host ? addresses : 'no such name'))
    expect(await found(createNames(createNameServer([server.place]), 2000)(host))).toEqual(expected)
  })

  test('that never answers for one family is not waited for when the other is known', async () => {
    const server = await nameServer((_name, type) => (type === 'A' ? [PUBLIC] : 'silence'))
    expect(await found(createNames(createNameServer([server.place]), 60_000)('a.example.com'))).toEqual([`4 ${PUBLIC}`])
  })

  // What it says of the name, and of the root. Only a limit that is out of sight leaves a silence to the name alone.
  test.each<[Said, Said, string]>([
    ['no such name', 'failure', 'dns_error'],
    [[], 'failure', 'dns_error'],
    ['refused', 'failure', 'dns_error'],
    ['failure', [], 'dns_error'],
    ['failure', 'refused', 'dns_error'],
    ['failure', 'malformed', 'dns_error'],
    ['failure', 'unknown', 'dns_error'],
    ['failure', 'no such name', 'dns_error'],
    ['silence', [], 'dns_error'],
    ['failure', 'failure', 'egress_down'],
    ['silence', 'failure', 'egress_down'],
    ['silence', 'silence', 'egress_down'],
  ])('that says %p to the name and %p to the root makes it %s', async (toName, toRoot, errorClass) => {
    const server = await nameServer(name => (name === '' ? toRoot : toName))
    const limitMs = toName === 'silence' && toRoot !== 'silence' ? 60_000 : 400
    const names = createNames(createNameServer([server.place], noFiles), limitMs)
    expect(await found(names('a.example.com'))).toBe(errorClass)
  })

  // First it gives this name; from then on it says that of it.
  test.each<[string, string, Said, string]>([
    ['gives a name that it gave before', 'b.example.com', [PUBLIC], 'dns_error'],
    ['says that a name that it gave before is gone', 'b.example.com', 'no such name', 'dns_error'],
    ['fails for a name that it gave before', 'b.example.com', 'failure', 'egress_down'],
    ['is silent for a name that it gave before', 'b.example.com', 'silence', 'egress_down'],
    ['gives a name of our own network', 'vault', [PUBLIC], 'egress_down'],
    ['gives a name of the search list', 'store.other', [PUBLIC], 'egress_down'],
  ])('that fails for the root, and %s, is judged by that', async (_what, host, later, errorClass) => {
    const files = { ...noFiles, resolver: join(dir, 'own.conf') }
    writeFileSync(files.resolver, 'search svc.test\n')
    const gives = ['b.example.com', 'vault.svc.test', 'store.other.svc.test']
    let known: Said = [PUBLIC]
    const server = await nameServer(name =>
      gives.includes(name) ? known : name === 'store.other' ? 'no such name' : 'failure',
    )
    const names = createNames(createNameServer([server.place], files), later === 'silence' ? 400 : 2000)
    expect(await found(names(host))).toEqual([`4 ${PUBLIC}`])
    known = later
    expect(await found(names('a.example.com'))).toBe(errorClass)
  })

  test('that cannot be reached beside one that is silent for this name is not our network', async () => {
    const source = (isAlive: boolean) => ({
      ask: () => Promise.reject(Object.assign(new Error('queryA'), { code: 'ECONNREFUSED' })),
      isAlive: async () => isAlive,
    })
    expect(await found(createNames(source(true), 2000)('a.example.com'))).toBe('dns_error')
    expect(await found(createNames(source(false), 2000)('a.example.com'))).toBe('egress_down')
  })

  test('that has not said by the limit whether it is there is not there', async () => {
    expect(await found(createNames({ ask: never, isAlive: never }, 40)('a.example.com'))).toBe('egress_down')
  })
})

const dir = mkdtempSync(join(tmpdir(), 'babychain-names-'))
afterAll(() => rmSync(dir, { recursive: true, force: true }))
const noFiles = { hosts: join(dir, 'none'), resolver: join(dir, 'none') }

describe('the files of the system', () => {
  const files = { hosts: join(dir, 'hosts'), resolver: join(dir, 'resolv.conf') }

  test('name hosts, for which no name server is asked, and are read again when they change', async () => {
    const server = await nameServer(() => 'no such name')
    const names = createNames(createNameServer([server.place], files), 2000)
    writeFileSync(files.hosts, '# 10.0.0.4 vault\n127.0.0.1 localhost\n10.0.0.5\tVault vault.example.com # ours\n')
    expect(await found(names('vault'))).toEqual(['4 10.0.0.5'])
    expect(await found(names('vault.example.com'))).toEqual(['4 10.0.0.5'])
    expect(await found(names('localhost'))).toEqual(['4 127.0.0.1'])
    writeFileSync(files.hosts, '10.0.0.77 vault\nfe80::1%lo0 vault\nfd00::7 vault\nnonsense vault\n')
    expect(await found(names('vault'))).toEqual(['4 10.0.0.77', '6 fd00::7'])
    expect(await found(names('localhost'))).toEqual(['4 127.0.0.1', '6 ::1'])
    expect(server.asked).toEqual([])
    rmSync(files.hosts)
    expect(await found(names('vault'))).toBe('dns_error')
  })

  test('have a search list, in which a short name is looked for first and a dotted one last', async () => {
    const known: Record<string, string[]> = {
      'comfyui.media.svc.test': ['10.0.0.8'],
      'store.other.svc.test': ['10.0.0.9'],
    }
    const server = await nameServer(name => known[name] ?? 'no such name')
    const names = createNames(createNameServer([server.place], { ...files, hosts: noFiles.hosts }), 2000)
    writeFileSync(files.resolver, 'domain old.test\nnameserver 192.0.2.1\nsearch media.svc.test svc.test.\n')
    expect(await found(names('comfyui'))).toEqual(['4 10.0.0.8'])
    expect(await found(names('store.other'))).toEqual(['4 10.0.0.9'])
    expect(server.asked.filter(question => question.startsWith('A '))).toEqual([
      'A comfyui.media.svc.test',
      'A store.other',
      'A store.other.media.svc.test',
      'A store.other.svc.test',
    ])
  })
})

describe('a refused connection', () => {
  // Linux and macOS give no way to the broadcast address to a socket that did not ask for it: a target without a route.
  const NOWHERE = { address: '255.255.255.255', family: 4 }
  const HERE = { address: '127.0.0.1', family: 4 }
  const AFAR = { address: '2001:db8::1', family: 6 }
  const after = (errorClass: 'connect_refused' | 'tls_error', targets: { address: string; family: number }[]) =>
    unlessCutOff(Promise.reject(new EgressError(errorClass, 'said')), targets).catch(error => error.errorClass)

  test('is the receiver, as long as this machine has a way to one of its addresses', async () => {
    expect(await after('connect_refused', [HERE])).toBe('connect_refused')
    expect(await after('connect_refused', [NOWHERE, HERE])).toBe('connect_refused')
  })

  test('is our network without a way to any of them, unless it has IPv6 alone', async () => {
    expect(await after('connect_refused', [NOWHERE])).toBe('egress_down')
    expect(await after('connect_refused', [AFAR])).toBe('connect_refused')
  })

  test('is the only failure that is asked about', async () => {
    expect(await after('tls_error', [NOWHERE])).toBe('tls_error')
    expect(await unlessCutOff(Promise.resolve('fine'), [NOWHERE])).toBe('fine')
  })
})
