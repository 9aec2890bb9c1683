import { describe, expect, test } from 'bun:test'
import fc from 'fast-check'
import { canonicalAddress, inRange, parseRange, privateBecause } from '../../src/net/address.ts'
import { parseAllow } from '../../src/net/egress/allow.ts'
import { createEgress } from '../../src/net/egress.ts'

describe('an address that is not public', () => {
  test.each(
    [
      '0.0.0.0 0.255.255.255 10.0.0.0 10.255.255.255 100.64.0.0 100.127.255.255 127.0.0.1 127.255.255.255 169.254.0.1',
      '169.254.169.254 172.16.0.0 172.31.255.255 192.0.0.1 192.0.0.192 192.0.2.1 192.88.99.1 192.168.255.255 198.18.0.1',
      '198.19.255.255 198.51.100.1 203.0.113.1 224.0.0.1 239.255.255.255 240.0.0.1 255.255.255.255 168.63.129.16',
      ':: ::1 ::7f00:1 ::ffff:127.0.0.1 ::ffff:8.8.8.8 ::ffff:0:127.0.0.1 ::ffff:0:8.8.8.8 64:ff9b::7f00:1 64:ff9b::808:808',
      '64:ff9b:1::1 100::1 2001::1 2001:5::1 2001:1ff::1 2001:2::1 2001:10::1 2001:20::1 2001:db8::1 2002:7f00:1:: 2002:808:808:: 3fff::1 4000::1',
      '5f00::1 fc00::1 fdaa:0:1::3 fe80::1 febf::1 fec0::1 ff02::1 ffff::1 2606:4700::5efe:7f00:1 2606:4700::200:5efe:a00:1',
      'fe80::1%eth0 2606:4700::1%1 0177.0.0.1 127.1 2130706433 0x7f.0.0.1 localhost 8.8.8.8:443 [::1] 8.8.8.8/32 1.2.3.4.5',
    ].flatMap(line => line.split(' ')),
  )('%s', address => {
    expect(privateBecause(address)).toBeString()
  })

  test('is also the empty text', () => {
    expect(privateBecause('')).toBe('not an address')
  })
})

describe('an address that is public', () => {
  const addresses =
    '1.1.1.1 8.8.8.8 9.255.255.255 11.0.0.0 100.63.255.255 100.128.0.0 126.255.255.255 128.0.0.1 172.15.255.255'
  const more =
    '172.32.0.0 192.167.255.255 192.169.0.0 223.255.255.255 2606:4700::6810:1 2001:4860:4860::8888 2a00:1450::1 2620:fe::fe'
  test.each(`${addresses} ${more}`.split(' '))('%s', address => {
    expect(privateBecause(address)).toBeNull()
  })
})

test('no IPv6 address outside 2000::/3 is public, and none that embeds an IPv4 address in a known way', () => {
  const group = fc.integer({ min: 0, max: 0xffff })
  fc.assert(
    fc.property(fc.array(group, { minLength: 8, maxLength: 8 }), groups => {
      const address = groups.map(part => part.toString(16)).join(':')
      if ((groups[0] ?? 0) >> 13 !== 1) expect(privateBecause(address)).toBeString()
      const isatap = [0x2606, 0x4700, groups[2], groups[3], 0, 0x5efe, groups[6], groups[7]]
      expect(privateBecause(isatap.map(part => part?.toString(16)).join(':'))).toBe('isatap')
    }),
  )
})

test('an address has one spelling', () => {
  expect(canonicalAddress('0:0:0:0:0:0:0:1')).toBe('::1')
  expect(canonicalAddress('FDAA::3')).toBe('fdaa::3')
  expect(canonicalAddress('fe80::1%eth0')).toBeNull()
})

describe('a range', () => {
  test('holds its own family only', () => {
    const range = { base: '10.0.0.0', prefix: 8 }
    expect(parseRange('10.0.0.0/8')).toEqual(range)
    expect(inRange('10.255.0.1', range)).toBe(true)
    expect(inRange('11.0.0.1', range)).toBe(false)
    expect(inRange('::ffff:10.0.0.1', range)).toBe(false)
    expect(inRange('10.1', range)).toBe(false)
    expect(inRange('fdaa::3', { base: 'fd00::', prefix: 8 })).toBe(true)
  })

  test.each([
    '10.0.0.5/8',
    '10.0.0.0/33',
    '10.0.0.0/x',
    '0.0.0.0/0',
    '::/0',
    'fd00::1/8',
    '10.0.0.0/8/8',
    'ten/8',
    '10.1/16',
    '',
  ])("'%s' is told to be wrong by a sentence", text => {
    expect(parseRange(text)).toBeString()
  })
})

describe('BABYCHAIN_EGRESS_ALLOW', () => {
  test('opens an address at its port, and at no other', () => {
    const allow = parseAllow('10.0.0.0/8:8443, receiver:8443')
    const egress = createEgress({ allow: allow.ok ? allow.entries : [] })
    for (const [host, port, isOpen] of [
      ['10.1.2.3', 8443, true],
      ['10.1.2.3', 8444, false],
      ['11.1.2.3', 8443, false],
      ['receiver', 8443, true],
      ['receiver', 8444, false],
      ['receiver.example', 8444, false],
    ] as const)
      expect([host, port, egress.check(`https://${host}:${port}/`).ok]).toEqual([host, port, isOpen])
  })

  test('takes hosts, addresses and ranges, each with a port', () => {
    const text = '127.0.0.1:9000, localhost:9000 10.0.0.0/8:443,\n[::1]:9000,fd00::/8:443,[fdaa::/16]:8080,Receiver:80'
    expect(parseAllow(text)).toEqual({
      ok: true,
      entries: [
        { type: 'range', range: { base: '127.0.0.1', prefix: 32 }, port: 9000 },
        { type: 'host', host: 'localhost', port: 9000 },
        { type: 'range', range: { base: '10.0.0.0', prefix: 8 }, port: 443 },
        { type: 'range', range: { base: '::1', prefix: 128 }, port: 9000 },
        { type: 'range', range: { base: 'fd00::', prefix: 8 }, port: 443 },
        { type: 'range', range: { base: 'fdaa::', prefix: 16 }, port: 8080 },
        { type: 'host', host: 'receiver', port: 80 },
      ],
    })
  })

  test.each(['', ' , \n'])('%j is no entry', text => {
    expect(parseAllow(text)).toEqual({ ok: true, entries: [] })
  })

  test.each([
    ['localhost', 'port'],
    ['localhost:', 'port'],
    ['localhost:0', 'port'],
    ['localhost:65536', 'port'],
    ['localhost:http', 'port'],
    [':9000', 'port'],
    ['http://localhost:9000', 'URL'],
    ['*.example.com:443', 'host name'],
    ['*:443', 'host name'],
    ['user@host:443', 'host name'],
    ['localhost:6379', '6379'],
    ['mail.example.com:25', '25'],
    ['0.0.0.0/0:443', 'every address'],
    ['[::]/0:443', 'every address'],
    ['::1:9000', 'brackets'],
    ['127.1:9000', 'not an address'],
    ['10.0.0.5/8:443', '10.0.0.0/8'],
    ['localhost:9000, oops', 'oops'],
  ])('%j is refused with a sentence that says why', (text, word) => {
    const parsed = parseAllow(text)
    expect(parsed.ok ? '' : parsed.problem).toContain(word)
  })
})
