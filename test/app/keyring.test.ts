/** The texts of keys, the keyring over a real store, and how secrets are sealed. */
import { afterEach, beforeEach, describe, expect, spyOn, test } from 'bun:test'
import { randomBytes } from 'node:crypto'
import { type Access, openAccess } from '../../src/app/access.ts'
import { isPossible, newKeyText } from '../../src/app/key-text.ts'
import { seal, unseal } from '../../src/app/secrets.ts'
import type { Store } from '../../src/core/ports.ts'
import { newSecret } from '../../src/net/signature.ts'
import { apiKey } from '../support/store-runs.ts'
import { openTempStore, type TempStore } from '../support/store-temp.ts'
import { VirtualClock } from '../support/virtual-clock.ts'

const random = (bytes: number): Uint8Array => randomBytes(bytes)

describe('the text of a key', () => {
  test('is 36 characters after the prefix, never the same, and every letter occurs as often as the others', () => {
    const texts = Array.from({ length: 2_000 }, () => newKeyText(random))
    expect(new Set(texts).size).toBe(2_000)
    const counts = new Map<string, number>()
    for (const text of texts) {
      expect(text).toMatch(/^bck_live_[0-9A-Za-z]{36}$/)
      expect(isPossible(text)).toBe(true)
      for (const letter of text.slice(9, 39)) counts.set(letter, (counts.get(letter) ?? 0) + 1)
    }
    expect(counts.size).toBe(62)
    for (const count of counts.values()) expect(Math.abs(count - 60_000 / 62)).toBeLessThan(200)
  })

  test('with any one character changed, lost or added cannot be a key', () => {
    const text = newKeyText(random)
    for (let i = 9; i < text.length; i += 1) {
      for (const letter of 'aZ05')
        if (text[i] !== letter) expect(isPossible(text.slice(0, i) + letter + text.slice(i + 1))).toBe(false)
      expect(isPossible(text.slice(0, i) + text.slice(i + 1))).toBe(false)
    }
    expect(isPossible(`${text}a`)).toBe(false)
    expect(isPossible('bck_live_')).toBe(false)
    expect(isPossible('a key of the environment')).toBe(true)
  })
})

test('a sealed secret opens with its key at its place, and nowhere else', () => {
  const [key, other] = [randomBytes(32), randomBytes(32)]
  const secret = randomBytes(32)
  const sealed = seal(secret, key, 'key_a/sec_1')
  expect(Buffer.from(sealed).includes(secret)).toBe(false)
  expect(unseal(sealed, key, 'key_a/sec_1')).toEqual(new Uint8Array(secret))
  expect(unseal(sealed, other, 'key_a/sec_1')).toBeNull()
  expect(unseal(sealed, key, 'key_b/sec_1')).toBeNull()
  for (const i of [0, 12, 28, 59]) expect(unseal(sealed.with(i, (sealed[i] ?? 0) ^ 1), key, 'key_a/sec_1')).toBeNull()
  expect(unseal(sealed.slice(0, 20), key, 'key_a/sec_1')).toBeNull()
  expect(seal(secret, key, 'key_a/sec_1')).not.toEqual(sealed)
})

describe('the keyring', () => {
  let temp: TempStore
  let clock: VirtualClock
  /** What our time is ahead of the wall clock. */
  let aheadMs: number
  beforeEach(async () => {
    clock = new VirtualClock()
    aheadMs = 0
    temp = await openTempStore({ now: () => clock.now() })
  })
  afterEach(() => temp.dispose())

  const GIVEN = 'bootstrap-key-of-the-environment'
  const open = (
    more: { apiKey?: string | null; callbackSecret?: string | null; master?: number; store?: Store } = {},
  ) => {
    const { apiKey = null, callbackSecret = null, master = 1, store = temp.store } = more
    const config = { apiKey, callbackSecret }
    const wall = (): number => clock.now() - aheadMs
    return openAccess({ store, clock, wall, master: new Uint8Array(32).fill(master), config })
  }
  const make = async (keys: Access['keys']) => {
    const made = await keys.create(ORDER)
    if ('locked' in made) throw new Error(made.locked)
    return made
  }
  const secretsOf = async (access: Access) =>
    (await access.secrets.of('bootstrap')).map(each => Buffer.from(each).toString('hex'))

  test('asks the store for nothing while it answers', async () => {
    const { keys } = await open()
    const { text } = await make(keys)
    await temp.store.close()
    expect(keys.auth(text)).toMatchObject({ scopes: ['runs:read'] })
    expect(keys.auth(`${text.slice(0, -1)}_`)).toBeNull()
    expect(keys.auth(newKeyText(random))).toBeNull()
    await temp.reopen()
  })

  test('keeps ten thousand keys and says so to the next', async () => {
    const { keys } = await open({
      store: Object.assign(Object.create(temp.store) as Store, {
        apiKeys: async () => Array.from({ length: 10_000 }, () => apiKey()),
        webhookSecrets: async () => [],
        spending: async () => [],
      }),
    })
    expect(await keys.create(ORDER)).toEqual({ locked: 'There are 10000 keys, and no more are kept.' })
  })

  test('makes the bootstrap key once, and knows it after a restart', async () => {
    const first = await open()
    const made = await first.begin()
    const again = await open()
    expect(await again.begin()).toEqual({ text: null, secret: null })
    expect(again.keys.auth(made.text ?? '')).toMatchObject({ apiKeyId: 'bootstrap' })
    expect(await secretsOf(again)).toEqual(await secretsOf(first))
    expect(`whsec_${Buffer.from((await secretsOf(again))[0] ?? '', 'hex').toString('base64')}`).toBe(made.secret ?? '')
  })

  test('takes the environment’s key, which only the environment changes; a new one ends the old one', async () => {
    const first = await open({ apiKey: GIVEN })
    expect(first.keys.auth(GIVEN)).toMatchObject({ apiKeyId: 'bootstrap' })
    // The key is known to who gave it; the secret of its callbacks is known to nobody yet.
    expect(await first.begin()).toEqual({ text: null, secret: expect.stringContaining('whsec_') })
    expect(await first.begin()).toEqual({ text: null, secret: null })
    for (const said of [
      await first.keys.revoke('bootstrap'),
      await first.keys.rotate('bootstrap', 0),
      await first.keys.change('bootstrap', { expiresAt: clock.now() + 1 }),
      await first.keys.change('bootstrap', { dailyBudgetUsd: 1 }),
    ])
      expect(said).toMatchObject({ locked: expect.stringContaining('BABYCHAIN_API_KEY') })
    const second = await open({ apiKey: `${GIVEN}-2` })
    await second.begin()
    expect([second.keys.auth(GIVEN), second.keys.auth(`${GIVEN}-2`)?.apiKeyId]).toEqual([null, 'bootstrap'])
    expect((await temp.store.apiKeys()).map(key => key.id)).toEqual(['bootstrap'])
  })

  test('takes the environment’s key although no key of ours could look like it', async () => {
    const given = `bck_live_${'x'.repeat(36)}`
    expect([isPossible(given), (await open({ apiKey: given })).keys.auth(given)?.apiKeyId]).toEqual([
      false,
      'bootstrap',
    ])
    expect((await open()).keys.auth(given)).toBeNull()
  })

  test('is not opened with the text of another key, revoked or not: the sentence names that key', async () => {
    const first = await open()
    await first.begin()
    const { key, text } = await make(first.keys)
    const named = `BABYCHAIN_API_KEY is the text of another key: "test" (${key.id})`
    await expect(open({ apiKey: text })).rejects.toThrow(named)
    await first.keys.revoke(key.id)
    await expect(open({ apiKey: text })).rejects.toThrow(`${key.id}, revoked). It becomes the bootstrap key`)
    expect((await open()).keys.find('bootstrap')).toEqual(first.keys.find('bootstrap'))
  })

  test('gets a bootstrap key back from the environment, after it was revoked and after it has ended', async () => {
    const first = await open()
    const { text } = await first.begin()
    await first.keys.revoke('bootstrap')
    const second = await open({ apiKey: GIVEN })
    await second.begin()
    expect([second.keys.auth(text ?? ''), second.keys.auth(GIVEN)?.apiKeyId]).toEqual([null, 'bootstrap'])
    const third = await open()
    await third.keys.change('bootstrap', { expiresAt: clock.now() + 1_000 })
    clock.advance(1_000)
    expect((await open()).keys.auth(GIVEN)).toBeNull()
    expect((await open({ apiKey: GIVEN })).keys.auth(GIVEN)?.apiKeyId).toBe('bootstrap')
  })

  test('changes one after the other: what is revoked stays so, whatever else is changed at the same time', async () => {
    const { keys } = await open()
    const { key, text } = await make(keys)
    const [revoked, changed, rotated] = await Promise.all([
      keys.revoke(key.id),
      keys.change(key.id, { name: 'later', dailyBudgetUsd: 1 }),
      keys.rotate(key.id, 60_000),
    ])
    for (const said of [revoked, changed, rotated && 'key' in rotated ? rotated.key : null])
      expect(said).toMatchObject({ revokedAt: clock.now() })
    expect(keys.auth(text)).toBeNull()
    expect((await temp.store.apiKeys())[0]).toMatchObject({ name: 'later', revokedAt: clock.now() })
  })

  test('takes the environment’s secret; a new one signs beside the old one for a day', async () => {
    const [one, two] = [newSecret(random), newSecret(random)]
    const first = await open({ apiKey: GIVEN, callbackSecret: one })
    await first.begin()
    expect(await secretsOf(first)).toHaveLength(1)
    expect(await first.secrets.rotate('bootstrap', 0)).toMatchObject({
      locked: expect.stringContaining('CALLBACK_SECRET'),
    })
    const again = await open({ apiKey: GIVEN, callbackSecret: one })
    await again.begin()
    expect(await secretsOf(again)).toEqual(await secretsOf(first))
    const second = await open({ apiKey: GIVEN, callbackSecret: two })
    await second.begin()
    expect((await secretsOf(second))[1]).toBe((await secretsOf(first))[0] as string)
    clock.advance(86_400_000)
    expect(await secretsOf(second)).toHaveLength(1)
  })

  test('with another master key does not start, and says what to do', async () => {
    await (await open()).begin()
    await expect(open({ master: 2 })).rejects.toThrow('sealed under another master key: restore it')
  })

  test('a key ends by the wall clock: our time may be ahead of it after that was set back', async () => {
    const { keys } = await open()
    const made = await keys.create({ ...ORDER, expiresAt: clock.now() + 60_000 })
    if ('locked' in made) throw new Error(made.locked)
    aheadMs = 3_600_000
    clock.advance(60_000)
    expect(keys.auth(made.text)).not.toBeNull()
    aheadMs = 0
    expect(keys.auth(made.text)).toBeNull()
  })

  test('lets the text before a rotation live for its overlap, also while our time is ahead of the wall clock', async () => {
    const { keys } = await open()
    const { key, text } = await make(keys)
    aheadMs = 3_600_000
    const made = await keys.rotate(key.id, 60_000)
    clock.advance(59_999)
    expect(keys.auth(text)).not.toBeNull()
    clock.advance(1)
    expect(keys.auth(text)).toBeNull()
    expect(keys.auth(made && 'text' in made ? made.text : '')).not.toBeNull()
  })

  test('writes the last use once a minute at most, and at the end', async () => {
    const { keys } = await open()
    const { key, text } = await make(keys)
    const writes = spyOn(temp.store, 'touchApiKeys')
    for (let n = 0; n < 50; n += 1) keys.auth(text)
    expect(keys.find(key.id)?.lastUsedAt).toBe(clock.now())
    expect(writes).toHaveBeenCalledTimes(0)
    const usedAt = clock.now()
    clock.step()
    expect(writes).toHaveBeenCalledTimes(1)
    await keys.flush()
    await writes.mock.results[0]?.value
    expect(writes).toHaveBeenCalledTimes(1)
    expect((await temp.store.apiKeys()).find(each => each.id === key.id)?.lastUsedAt).toBe(usedAt)
  })
})

const ORDER = {
  ...{ name: 'test', scopes: ['runs:read' as const], expiresAt: null },
  ...{ ratePerMinute: null, maxRunning: null, maxQueued: null, dailyBudgetUsd: null },
}
