/**
 * The secrets of an installation: the master key, what is derived from it, and how other secrets are sealed.
 *
 * 1. The master key comes from the environment, or lies in the data directory with mode 0600; it is made once, and not again
 *    while secrets that it sealed are stored.
 * 2. Nothing but the master key is stored in the clear.
 * 3. A sealed secret opens only with its key and at its place: moved to another row it is damaged.
 */
import { createCipheriv, createDecipheriv, createHash, hkdfSync, randomBytes } from 'node:crypto'
import { closeSync, existsSync, fsyncSync, openSync, readFileSync, writeSync } from 'node:fs'
import { join } from 'node:path'

export interface MasterKey {
  bytes: Uint8Array
  /** Where it lies when it was not given; null when the environment gave it. */
  file: string | null
  created: boolean
}

/** The file of the master key is damaged, or can be neither read nor made. */
export class MasterKeyUnusable extends Error {
  override name = 'MasterKeyUnusable'
}

/** With `sealed` secrets that need the one that was, none is made in its place. @throws MasterKeyUnusable */
export function masterKey(given: Uint8Array | null, dataDir: string, sealed = false): MasterKey {
  if (given) return { bytes: given, file: null, created: false }
  const file = join(dataDir, 'master.key')
  try {
    if (existsSync(file)) return { bytes: stored(file), file, created: false }
    if (sealed)
      throw new MasterKeyUnusable(`${file} is missing, and the database holds secrets that it sealed. ${LOST}`)
    return { bytes: make(file), file, created: true }
  } catch (error) {
    if (error instanceof MasterKeyUnusable) throw error
    const why = error instanceof Error ? error.message : String(error)
    throw new MasterKeyUnusable(`the master key cannot be read or made (${why}): ${ADVICE}`)
  }
}

/** What to do when the key is not the one that sealed. */
export const LOST =
  'Restore master.key from a backup, or set BABYCHAIN_MASTER_KEY to what it was. If it is lost for good, stop the server and give ' +
  'the word `babychain keys reseal`: it makes a new master key, and new webhook secrets in place of those that nobody can open.'

const ADVICE = 'give the file to the user of this process, restore it from a backup, or set BABYCHAIN_MASTER_KEY'

function stored(file: string): Uint8Array {
  const bytes = Buffer.from(readFileSync(file, 'utf8').trim(), 'base64')
  if (bytes.length !== 32) throw new MasterKeyUnusable(`${file} is damaged: it must hold 32 bytes in base64; ${ADVICE}`)
  return bytes
}

function make(file: string): Uint8Array {
  const bytes = randomBytes(32)
  const handle = openSync(file, 'wx', 0o600)
  try {
    writeSync(handle, `${bytes.toString('base64')}\n`)
    fsyncSync(handle)
  } finally {
    closeSync(handle)
  }
  return bytes
}

/** A key of 32 bytes for one purpose, such as `media links`. */
export function deriveKey(master: Uint8Array, purpose: string): Uint8Array {
  return new Uint8Array(hkdfSync('sha256', master, '', `babychain ${purpose}`, 32))
}

export function sha256(text: string): string {
  return createHash('sha256').update(text).digest('hex')
}

const IV_BYTES = 12
const TAG_BYTES = 16

/** AES-256-GCM. `place` names where the secret lies; the same is needed to open it. */
export function seal(secret: Uint8Array, key: Uint8Array, place: string): Uint8Array {
  const iv = randomBytes(IV_BYTES)
  const cipher = createCipheriv('aes-256-gcm', key, iv).setAAD(Buffer.from(place))
  const body = Buffer.concat([cipher.update(secret), cipher.final()])
  return new Uint8Array(Buffer.concat([iv, cipher.getAuthTag(), body]))
}

/** Null when it was sealed with another key or for another place, or was changed. */
export function unseal(sealed: Uint8Array, key: Uint8Array, place: string): Uint8Array | null {
  if (sealed.length <= IV_BYTES + TAG_BYTES) return null
  try {
    const decipher = createDecipheriv('aes-256-gcm', key, sealed.subarray(0, IV_BYTES)).setAAD(Buffer.from(place))
    decipher.setAuthTag(sealed.subarray(IV_BYTES, IV_BYTES + TAG_BYTES))
    return new Uint8Array(Buffer.concat([decipher.update(sealed.subarray(IV_BYTES + TAG_BYTES)), decipher.final()]))
  } catch {
    return null
  }
}
