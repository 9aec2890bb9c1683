/**
 * The secrets of an installation: the master key, what is derived from it, and the first API key.
 *
 * 1. The master key comes from the environment, or lies in the data directory with mode 0600; it is made once.
 * 2. Nothing but the master key is stored in the clear. A created API key is shown once and kept as its SHA-256.
 */
import { createHash, hkdfSync, randomBytes } from 'node:crypto'
import { closeSync, existsSync, fsyncSync, openSync, readFileSync, writeSync } from 'node:fs'
import { join } from 'node:path'

export interface MasterKey {
  bytes: Uint8Array
  /** Where it lies when it was not given; null when the environment gave it. */
  file: string | null
  created: boolean
}

/** @throws Error with a sentence when the file is damaged or cannot be written */
export function masterKey(given: Uint8Array | null, dataDir: string): MasterKey {
  if (given) return { bytes: given, file: null, created: false }
  const file = join(dataDir, 'master.key')
  if (existsSync(file)) {
    const bytes = Buffer.from(readFileSync(file, 'utf8').trim(), 'base64')
    if (bytes.length !== 32)
      throw new Error(
        `${file} is damaged: it must hold 32 bytes in base64; restore it from a backup, or set BABYCHAIN_MASTER_KEY`,
      )
    return { bytes, file, created: false }
  }
  const bytes = randomBytes(32)
  const handle = openSync(file, 'wx', 0o600)
  try {
    writeSync(handle, `${bytes.toString('base64')}\n`)
    fsyncSync(handle)
  } finally {
    closeSync(handle)
  }
  return { bytes, file, created: true }
}

/** A key of 32 bytes for one purpose, such as `media links`. */
export function deriveKey(master: Uint8Array, purpose: string): Uint8Array {
  return new Uint8Array(hkdfSync('sha256', master, '', `babychain ${purpose}`, 32))
}

export function sha256(text: string): string {
  return createHash('sha256').update(text).digest('hex')
}
