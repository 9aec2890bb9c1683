/** The master key of an installation: made once, read again, and never guessed at. */
import { afterEach, expect, test } from 'bun:test'
import { mkdtempSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { MasterKeyUnusable, masterKey } from '../../src/app/secrets.ts'

const dirs: string[] = []
function folder(): string {
  const dir = mkdtempSync(join(tmpdir(), 'babychain-secrets-'))
  dirs.push(dir)
  return dir
}
afterEach(() => {
  for (const dir of dirs.splice(0)) rmSync(dir, { recursive: true, force: true })
})

test('it is made once, for its owner alone, and is the same at the next start', () => {
  const dir = folder()
  const first = masterKey(null, dir)
  expect([first.created, first.bytes.length]).toEqual([true, 32])
  expect(statSync(join(dir, 'master.key')).mode & 0o777).toBe(0o600)
  const second = masterKey(null, dir)
  expect(second.created).toBe(false)
  expect(Buffer.from(second.bytes)).toEqual(Buffer.from(first.bytes))
})

test.each(['', 'short', Buffer.alloc(31).toString('base64')])(
  'a damaged file (%p) stops the start with advice',
  text => {
    const dir = folder()
    writeFileSync(join(dir, 'master.key'), text)
    expect(() => masterKey(null, dir)).toThrow(MasterKeyUnusable)
    expect(() => masterKey(null, dir)).toThrow(/is damaged: it must hold 32 bytes.*BABYCHAIN_MASTER_KEY/)
  },
)

test('a place where it cannot be made is named', () => {
  expect(() => masterKey(null, join(folder(), 'missing'))).toThrow(/cannot be read or made \(ENOENT.*restore it/)
})

test('a key that is given is used and leaves no file', () => {
  const bytes = new Uint8Array(32).fill(7)
  expect(masterKey(bytes, '/nowhere')).toEqual({ bytes, file: null, created: false })
})

test('none is made while stored secrets need the one that was', () => {
  const dir = folder()
  const lost = () => masterKey(null, dir, true)
  expect(lost).toThrow(MasterKeyUnusable)
  expect(lost).toThrow(`${join(dir, 'master.key')} is missing`)
  expect(readdirSync(dir)).toEqual([])
  masterKey(null, dir)
  expect(lost().created).toBe(false)
})
