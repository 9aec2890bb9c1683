/**
 * Files on this machine: the vault that keeps media on disk, and the two ways in which files here become durable.
 *
 * 1. A file is whole and on the platter, with its final name, before anybody is told of it: written, synced, and its folder
 *    synced. What lies there half after a crash is named by no row: it is written anew, or pruned.
 * 2. What the disk refuses (full, read only, not ours) leaves as `StorageUnavailable` with a sentence; other errors are bugs.
 */
import { mkdir, open, readFile, rename, rm, stat, statfs, utimes, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { StorageUnavailable } from '../../core/ports.ts'

/** Where finished files go. Every method throws `StorageUnavailable` when the storage is the trouble. */
export interface Vault {
  /** The vault's own key of a new file. */
  place(id: string, ext: string): string
  /** True for a key of this vault: rows outlive a change of the storage. */
  owns(location: string): boolean
  /** Takes a finished local file in, or the bytes of one; durable when it resolves. The local file may be gone afterwards. */
  put(source: string | Uint8Array, location: string, mime: string): Promise<void>
  /** Bytes `start` to `end` (inclusive), or null when the file is gone. */
  read(location: string, range?: { start: number; end: number }): Promise<ReadableStream<Uint8Array> | null>
  /** Removes a file; one that is gone already is fine. */
  remove(location: string): Promise<void>
  /** Writes and removes a small file. */
  probe(): Promise<void>
}

/** Keeps files under `root` as `ab/<id>.<ext>`; `spare` is where unfinished files may lie (same file system). */
export function diskVault(root: string, spare: string): Vault {
  return {
    // The end of a UUIDv7 is random, its start is a clock: folders by the end fill evenly. 256 of them are made once and for
    // all: a new folder costs three more syncs than a file in an old one.
    place: (id, ext) => join(id.slice(-2), `${id}.${ext}`),
    owns: location => !location.includes('://'),
    put: (source, location) => onDisk('keep a file', () => settle(source, join(root, location), root)),
    read: (location, range) =>
      onDisk('read a file', async () => {
        const path = join(root, location)
        if (!(await exists(path))) return null
        const file = Bun.file(path)
        return (range ? file.slice(range.start, range.end + 1) : file).stream()
      }),
    remove: location => onDisk('remove a file', () => rm(join(root, location), { force: true })),
    probe: () =>
      onDisk('write a file', async () => {
        const path = join(spare, `probe-${crypto.randomUUID()}`)
        try {
          await writeDurably(path, PROBE)
          if (!PROBE.equals(await readFile(path)))
            throw new StorageUnavailable(`${spare} gives back other bytes than it took`)
        } finally {
          await rm(path, { force: true }).catch(() => {}) // the reason why it could not be written says more
        }
      }),
  }
}

/** Writes a new file and makes it durable, or leaves none. Refuses to overwrite (EEXIST). */
export async function writeDurably(path: string, bytes: Uint8Array): Promise<void> {
  const file = await open(path, 'wx')
  try {
    await writeAll(file, bytes)
    await file.sync()
  } catch (error) {
    await rm(path, { force: true }).catch(() => {})
    throw error
  } finally {
    await file.close()
  }
  await syncFolder(dirname(path))
}

/** Writes all bytes: one write may take fewer, above all when the disk is nearly full. */
export async function writeAll(file: Writable, bytes: Uint8Array): Promise<void> {
  for (let at = 0; at < bytes.length; ) {
    const { bytesWritten } = await file.write(bytes, at, bytes.length - at)
    at += bytesWritten
  }
}

export type Writable = Pick<Awaited<ReturnType<typeof open>>, 'write'>

/** Runs something on the disk; what the disk refuses becomes `StorageUnavailable`, in a sentence. */
export async function onDisk<T>(doing: string, run: () => Promise<T>): Promise<T> {
  try {
    return await run()
  } catch (error) {
    const code = errorCode(error)
    const sentence = REFUSALS[code]
    if (!sentence) throw error
    throw new StorageUnavailable(`cannot ${doing}: ${sentence} (${code})`, { cause: error })
  }
}

/** @throws StorageUnavailable when the file system of `path` has less than `bytes` free */
export async function requireSpace(path: string, bytes: number): Promise<void> {
  const { bavail, bsize } = await onDisk('ask for free space', () => statfs(path))
  const free = bavail * bsize
  if (free >= bytes) return
  const mib = (n: number) => `${Math.floor(n / 2 ** 20)} MiB`
  throw new StorageUnavailable(
    `only ${mib(free)} are free for media; at least ${mib(bytes)} are needed: free some space, or shorten the retention`,
  )
}

export async function exists(path: string): Promise<boolean> {
  try {
    await stat(path)
    return true
  } catch (error) {
    if (errorCode(error) === 'ENOENT' || errorCode(error) === 'ENOTDIR') return false
    throw error
  }
}

export function errorCode(error: unknown): string {
  return error instanceof Error && 'code' in error ? String(error.code) : ''
}

/** Ids and tokens become file names; ours are UUIDs and URL-safe tokens. */
export function assertName(name: string): void {
  if (!/^[A-Za-z0-9_-]{8,128}$/.test(name)) throw new Error(`not an id: ${JSON.stringify(name.slice(0, 40))}`)
}

async function settle(source: string | Uint8Array, target: string, root: string): Promise<void> {
  const put = () => (typeof source === 'string' ? moveTo(source, target) : writeTo(source, target))
  const folder = dirname(target)
  let made: string | undefined
  try {
    await put()
  } catch (error) {
    if (errorCode(error) !== 'ENOENT') throw error
    made = await mkdir(folder, { recursive: true })
    await put()
  }
  await syncFolder(folder)
  // A folder that was just made is itself an entry that can be lost.
  if (made) for (let at = dirname(folder); at.length >= root.length; at = dirname(at)) await syncFolder(at)
}

/** Renamed first: with a journal the sync of the file then takes its new name along, and that of the folder is free. */
async function moveTo(path: string, target: string): Promise<void> {
  const file = await open(path, 'r+')
  try {
    await rename(path, target)
    await file.sync()
  } finally {
    await file.close()
  }
}

/** One call to the disk in place of four. What a crash or a full disk leaves half is written anew, or pruned. */
async function writeTo(bytes: Uint8Array, target: string): Promise<void> {
  try {
    await writeFile(target, bytes, { flush: true })
  } catch (error) {
    await rm(target, { force: true }).catch(() => {})
    throw error
  }
}

/** What is asked for belongs to a run that is open, however long we were down: it is as young as if it had come now. */
export async function freshen(path: string): Promise<void> {
  const now = new Date()
  await utimes(path, now, now).catch(() => {}) // it is of use all the same
}

/** Makes the names in a folder durable. */
export async function syncFolder(path: string): Promise<void> {
  const folder = await open(path, 'r')
  try {
    await folder.sync()
  } catch (error) {
    // Some file systems cannot sync a folder; they order the rename themselves.
    if (!['EINVAL', 'EPERM', 'ENOTSUP'].includes(errorCode(error))) throw error
  } finally {
    await folder.close()
  }
}

const PROBE = Buffer.from('BabyChain can write here\n')

const REFUSALS: Record<string, string> = {
  ENOSPC: 'the disk is full',
  EDQUOT: 'the disk quota is used up',
  EFBIG: 'the file system does not take a file of that size',
  EACCES: 'the folder belongs to somebody else',
  EPERM: 'the file system forbids it',
  EROFS: 'the file system is read only',
  EIO: 'the disk is broken',
  ENOENT: 'the folder is gone',
  ENOTDIR: 'a file lies where a folder should be',
  EMFILE: 'too many files are open',
  ENFILE: 'too many files are open',
  ESTALE: 'the network drive is gone',
  ENODEV: 'the drive is gone',
}
