import { describe, expect, test } from 'bun:test'
import { randomBytes } from 'node:crypto'
import fc from 'fast-check'
import { Webhook } from 'standardwebhooks'
import { newSecret, parseSecret, sign, type VerifyInput, verify } from '../../src/net/signature.ts'

const bytesOf = (text: string): Uint8Array => {
  const parsed = parseSecret(text)
  if (!parsed.ok) throw new Error(parsed.problem)
  return parsed.bytes
}

const OLD = newSecret(n => randomBytes(n))
const NEW = newSecret(n => randomBytes(n))
const BODY = new TextEncoder().encode('{"type":"run.succeeded","data":{"prompt":"größe 🎬"}}')
const nowS = Math.floor(Date.now() / 1000)

function signed(secrets: string[], timestampS = nowS): VerifyInput {
  const signature = sign({ id: 'msg_1', timestampS, body: BODY, secrets: secrets.map(bytesOf) })
  return { id: 'msg_1', timestamp: String(timestampS), signature, body: BODY, secrets: secrets.map(bytesOf), nowS }
}

function byLibrary(secret: string, input: VerifyInput): unknown {
  return new Webhook(secret).verify(Buffer.from(input.body).toString(), {
    'webhook-id': input.id ?? '',
    'webhook-timestamp': input.timestamp ?? '',
    'webhook-signature': input.signature ?? '',
  })
}

describe('what we sign', () => {
  test('the published library accepts, for any body', () => {
    const body = fc.string({ unit: 'binary' }).map(text => new TextEncoder().encode(JSON.stringify({ text })))
    fc.assert(
      fc.property(body, fc.uint8Array({ minLength: 24, maxLength: 64 }), (bytes, secret) => {
        const signature = sign({ id: 'msg_018f', timestampS: nowS, body: bytes, secrets: [secret] })
        const text = `whsec_${Buffer.from(secret).toString('base64')}`
        byLibrary(text, { id: 'msg_018f', timestamp: String(nowS), signature, body: bytes, secrets: [], nowS })
      }),
    )
  })

  test('is what the published library signs', () => {
    const timestamp = new Date(1_700_000_000_000)
    const theirs = new Webhook(OLD).sign('msg_1', timestamp, Buffer.from(BODY).toString())
    expect(sign({ id: 'msg_1', timestampS: 1_700_000_000, body: BODY, secrets: [bytesOf(OLD)] })).toBe(theirs)
  })

  test('in a rotation verifies with either secret, newest first', () => {
    const input = signed([NEW, OLD])
    expect(input.signature?.split(' ')).toHaveLength(2)
    expect(input.signature?.startsWith(signed([NEW]).signature ?? '-')).toBe(true)
    for (const secret of [NEW, OLD]) {
      byLibrary(secret, input)
      expect(verify({ ...input, secrets: [bytesOf(secret)] })).toEqual({ ok: true, timestampS: nowS })
    }
    expect(verify({ ...input, secrets: [randomBytes(32)] })).toEqual({ ok: false, reason: 'no_match' })
  })

  test('has an id without a dot, whole seconds, and at least one good secret', () => {
    const good = { id: 'msg_1', timestampS: nowS, body: BODY, secrets: [bytesOf(OLD)] }
    for (const id of ['msg.1', '', 'a b', 'a\n', 'é', 'x'.repeat(257)]) expect(() => sign({ ...good, id })).toThrow()
    for (const timestampS of [1.5, -1, Number.NaN, Number.POSITIVE_INFINITY])
      expect(() => sign({ ...good, timestampS })).toThrow()
    for (const secrets of [[], [new Uint8Array(23)], [new Uint8Array(65)]])
      expect(() => sign({ ...good, secrets })).toThrow()
  })
})

describe('verification', () => {
  test('accepts what the published library signs', () => {
    const signature = new Webhook(OLD).sign('msg_1', new Date(nowS * 1000), Buffer.from(BODY).toString())
    expect(verify({ ...signed([OLD]), signature })).toEqual({ ok: true, timestampS: nowS })
  })

  test('refuses every changed bit of id, time, body and signature', () => {
    const input = signed([OLD])
    const flipped = Uint8Array.from(BODY)
    flipped[5] = (flipped[5] ?? 0) ^ 1
    const changes: Partial<VerifyInput>[] = [
      { id: 'msg_2' },
      { timestamp: String(nowS + 1) },
      { body: flipped },
      { body: BODY.subarray(1) },
      { signature: input.signature?.replace(/,./, c => (c === ',A' ? ',B' : ',A')) ?? '' },
      { secrets: [] },
    ]
    for (const change of changes) expect(verify({ ...input, ...change })).toEqual({ ok: false, reason: 'no_match' })
  })

  test.each([
    [-300, true],
    [-301, 'too_old'],
    [300, true],
    [301, 'too_new'],
  ] as const)('of a message that is %i s away from the clock gives %p', (away, expected) => {
    const result = verify(signed([OLD], nowS + away))
    expect(result.ok ? true : result.reason).toBe(expected)
  })

  test('finds its signature among others, and skips other versions', () => {
    const input = signed([OLD])
    const other = `v1,${randomBytes(32).toString('base64')}`
    expect(verify({ ...input, signature: `v1a,AAAA ${other} ${input.signature} v2,x` }).ok).toBe(true)
    expect(verify({ ...input, signature: input.signature?.replace('v1,', 'v1a,') ?? null })).toMatchObject({
      reason: 'bad_header',
    })
  })

  test('looks at sixteen signatures and at four kilobytes of them, and no further', () => {
    const input = signed([OLD])
    const others = (n: number) => Array.from({ length: n }, () => `v1,${randomBytes(32).toString('base64')}`)
    const ok = (before: string) => verify({ ...input, signature: `${before} ${input.signature}` }).ok
    expect([ok(others(15).join(' ')), ok(others(16).join(' '))]).toEqual([true, false])
    const room = 4_096 - 1 - (input.signature?.length ?? 0)
    expect([ok('x'.repeat(room)), ok('x'.repeat(room + 1))]).toEqual([true, false])
  })

  test.each([
    ['no id', { id: null }, 'missing_header'],
    ['no timestamp', { timestamp: null }, 'missing_header'],
    ['no signature', { signature: null }, 'missing_header'],
    ['a dot in the id', { id: 'a.b' }, 'bad_header'],
    ['an empty timestamp', { timestamp: '' }, 'bad_header'],
    ['a timestamp with an exponent', { timestamp: '1e9' }, 'bad_header'],
    ['a negative timestamp', { timestamp: '-1' }, 'bad_header'],
    ['a space before the timestamp', { timestamp: ' 1' }, 'bad_header'],
    ['an empty signature', { signature: '' }, 'bad_header'],
    ['a version alone', { signature: 'v1' }, 'bad_header'],
    ['an empty digest', { signature: 'v1,' }, 'bad_header'],
    ['a short digest', { signature: 'v1,AAAA' }, 'bad_header'],
    ['an endless digest', { signature: `v1,${'A'.repeat(10_000)}` }, 'bad_header'],
  ] as const)('of a message with %s refuses it', (_name, change, reason) => {
    expect(verify({ ...signed([OLD]), ...change })).toEqual({ ok: false, reason })
  })
})

describe('a secret', () => {
  test('is made of 32 random bytes', () => {
    expect(newSecret(n => new Uint8Array(n).fill(1))).toBe(`whsec_${Buffer.alloc(32, 1).toString('base64')}`)
    expect(bytesOf(NEW)).toHaveLength(32)
    expect(NEW).not.toBe(OLD)
  })

  test.each([24, 32, 64])('of %i bytes is read', n => {
    expect(bytesOf(`whsec_${Buffer.alloc(n, 7).toString('base64')}`)).toEqual(new Uint8Array(n).fill(7))
  })

  test.each([
    ['', 'whsec_'],
    ['whsec_', '24 to 64'],
    ['WHSEC_AAAA', 'whsec_'],
    [Buffer.alloc(32).toString('base64'), 'whsec_'],
    [`whsec_${Buffer.alloc(23).toString('base64')}`, '24 to 64'],
    [`whsec_${Buffer.alloc(65).toString('base64')}`, '24 to 64'],
    [`whsec_${Buffer.alloc(32).toString('base64').replace('=', '')}`, 'base64'],
    [`whsec_${Buffer.alloc(33, 0xff).toString('base64url')}`, 'base64'],
    [`whsec_ ${Buffer.alloc(32).toString('base64')}`, 'base64'],
    [`whsec_${Buffer.alloc(32).toString('base64')}\n`, 'base64'],
  ])('%j is refused without being repeated', (text, word) => {
    const parsed = parseSecret(text)
    const problem = parsed.ok ? '' : parsed.problem
    expect(problem).toContain(word)
    if (text.length > 10) expect(problem).not.toContain(text.slice(6))
  })
})
