/**
 * Media: outputs and uploads in our own storage, on disk or in an S3 bucket.
 *
 * 1. What `keep` resolves with is whole, checked and durable: spool, check, store. The row is the caller's to commit, with
 *    whatever else becomes true with it.
 * 2. A file without a row is never for ever: before a file is stored or removed, a mark of its place is left, and prune
 *    removes what a mark names and no row does. So nothing is searched for, and a bucket that others share is safe.
 * 3. Prune takes the row first and the file after it: a crash in between leaves a file that nobody names (see 2), never a
 *    name without its file.
 * 4. Two keeps of an id at once are one; a later one, of an output whose row was lost in a crash, writes the same file anew.
 * 5. An output that came whole is not asked for again because the bucket refused it: it is held on this disk (held.ts).
 * 6. What goes wrong outside (a broken link, a web page, a full disk) is a value; thrown errors are bugs.
 * 7. Memory holds a chunk of a file, or the whole of a small one (spool.ts), never more.
 */
import { mkdir, readdir, rm, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { stepError } from '../../core/errors.ts'
import type { StepKind } from '../../core/model.ts'
import {
  type KeepOrder,
  type Kept,
  type Media,
  StorageUnavailable,
  type Store,
  type StoredMedia,
} from '../../core/ports.ts'
import { LIMITS, type Output } from '../../core/run.ts'
import { assertName, diskVault, errorCode, onDisk, requireSpace, type Vault } from './disk.ts'
import { HeldOutputs } from './held.ts'
import { type Mark, MarkBook } from './marks.ts'
import { type S3Options, s3Address, s3Vault } from './s3.ts'
import { type Caps, type Facts, spool } from './spool.ts'
import { stashIn } from './stash.ts'

export interface MediaOptions {
  /** Folder of this installation; media on disk lie in its folder `media`, and so does what is unfinished. */
  dataDir: string
  /** `disk`, or `s3://bucket/prefix`. */
  root: string
  rows: Pick<Store, 'media' | 'staleMedia' | 'removeMedia'>
  caps?: Partial<Caps>
  s3?: S3Options
  /** Wall clock (ms), for the age of strays. */
  now?: () => number
  /** `probe` fails below this much free disk (bytes). */
  minFreeBytes?: number
}

/**
 * Opens the storage and makes its folders.
 * @throws StorageUnavailable when they cannot be made; Error when `root` is neither `disk` nor an s3 URL
 */
export async function openMedia(options: MediaOptions): Promise<Media> {
  const dir = join(options.dataDir, 'media')
  const folders = {
    spool: join(dir, 'spool'),
    marks: join(dir, 'marks'),
    stash: join(dir, 'stash'),
    held: join(dir, 'held'),
  }
  for (const folder of Object.values(folders)) await onDisk('make a folder', () => mkdir(folder, { recursive: true }))
  const disk = diskVault(dir, folders.spool)
  const vault = options.root === 'disk' ? disk : bucketVault(options.root, options.s3)
  const caps = { ...CAPS, ...options.caps }
  const minFreeBytes = options.minFreeBytes ?? MIN_FREE_BYTES
  const held = await HeldOutputs.open(dir, disk, { caps, minFreeBytes })
  return new MediaFiles({ ...options, caps, minFreeBytes }, { ...folders, dir }, { disk, vault, held })
}

class MediaFiles implements Media {
  readonly #rows: MediaOptions['rows']
  readonly #caps: Caps
  readonly #now: () => number
  readonly #minFreeBytes: number
  readonly #folders: { dir: string; spool: string; stash: string }
  readonly #disk: Vault
  readonly #vault: Vault
  readonly #held: HeldOutputs
  readonly #marks: MarkBook
  readonly #keeping = new Map<string, Promise<Kept>>()
  /** What this process has stored and no row is known to name. */
  readonly #unnamed = new Map<string, Output>()
  #manyMarks = MANY_MARKS
  readonly stash: Media['stash']
  readonly stashOf: Media['stashOf']
  readonly openStash: Media['openStash']

  constructor(
    options: MediaOptions & { caps: Caps; minFreeBytes: number },
    folders: { dir: string; spool: string; stash: string; marks: string },
    { disk, vault, held }: { disk: Vault; vault: Vault; held: HeldOutputs },
  ) {
    this.#rows = options.rows
    this.#caps = options.caps
    this.#now = options.now ?? Date.now
    this.#minFreeBytes = options.minFreeBytes
    this.#folders = folders
    this.#disk = disk
    this.#vault = vault
    this.#held = held
    this.#marks = new MarkBook(folders.marks, this.#now)
    const { stash, stashOf, openStash } = stashIn(folders.stash)
    this.stash = stash
    this.stashOf = stashOf
    this.openStash = openStash
  }

  async keep(order: KeepOrder): Promise<Kept> {
    assertName(order.id)
    const first = this.#keeping.get(order.id)
    if (first !== undefined) {
      discard(order.stream)
      return first
    }
    return this.#alone(order.id, () => this.#keepOnce(order))
  }

  async keepAgain(id: string, kind: StepKind): Promise<Kept | null> {
    const output = this.#unnamed.get(id)
    if (output) return { ok: true, output }
    try {
      const held = await this.#held.find(id, kind)
      if (!held) return null
      const put = () => this.#put(id, held.facts, held.path).catch(refusal)
      return await (this.#keeping.get(id) ?? this.#alone(id, put))
    } catch (error) {
      return refusal(error)
    }
  }

  #alone(id: string, keep: () => Promise<Kept>): Promise<Kept> {
    const kept = keep().finally(() => this.#keeping.delete(id))
    this.#keeping.set(id, kept)
    return kept
  }

  async #keepOnce(order: KeepOrder): Promise<Kept> {
    const path = join(this.#folders.spool, `${order.id}-${crypto.randomUUID()}`)
    let onlyInMemory = false
    try {
      const spooled = await spool(order, path, this.#caps)
      if (!spooled.ok) return spooled
      onlyInMemory = spooled.bytes !== null
      const source = spooled.bytes ?? path
      try {
        return await this.#put(order.id, spooled.file, source)
      } catch (error) {
        if (error instanceof StorageUnavailable && this.#vault !== this.#disk)
          await this.#held.hold(order.id, source, spooled.file)
        throw error
      }
    } catch (error) {
      discard(order.stream)
      return refusal(error)
    } finally {
      if (!onlyInMemory) await rm(path, { force: true }).catch(() => {}) // a stray, for prune
    }
  }

  /** @throws StorageUnavailable */
  async #put(id: string, { ext, ...facts }: Facts, source: string | Uint8Array): Promise<Kept> {
    const location = this.#vault.place(id, ext)
    if (this.#marks.size >= this.#manyMarks) await this.#forgetKept()
    await this.#marks.leave(location)
    await this.#vault.put(source, location, facts.mime)
    const output = { mediaId: id, ...facts, location }
    this.#unnamed.set(id, output)
    await this.#held.drop(id)
    return { ok: true, output }
  }

  async find(id: string): Promise<StoredMedia | null> {
    return this.#rows.media(id)
  }

  async open(id: string, range?: { start: number; end: number }): Promise<ReadableStream<Uint8Array> | null> {
    const row = await this.#rows.media(id)
    if (!row) return null
    const vault = this.#vaultOf(row.location)
    if (!vault) throw new StorageUnavailable(`media ${id} lies in another storage than the one that is configured now`)
    return vault.read(row.location, range)
  }

  async prune(before: number): Promise<number> {
    const time = this.#now() - STRAY_MS
    await this.#forgetKept()
    let removed = await this.#sweepMarks(time)
    removed += await removeOlder(this.#folders.spool, time)
    removed += await removeOlder(this.#folders.stash, time)
    removed += await removeOlder(this.#held.folder, time)
    await this.#held.refresh()
    for (;;) {
      const stale = await this.#rows.staleMedia(before, PRUNE_BATCH)
      if (stale.length === 0) return removed
      const marks = await Promise.all(stale.map(row => this.#marks.leave(row.location)))
      const ids = stale.map(row => row.mediaId)
      const gone = new Set(await this.#rows.removeMedia(ids, before))
      for (const [i, mark] of marks.entries()) {
        if (!gone.has(ids[i] as string)) await this.#marks.wipe(mark)
        else if (await this.#removeFile(mark)) removed += 1
      }
    }
  }

  async probe(): Promise<void> {
    await requireSpace(this.#folders.dir, this.#minFreeBytes)
    await this.tryWrite()
  }

  async tryWrite(): Promise<void> {
    await this.#disk.probe()
    if (this.#vault !== this.#disk) await this.#vault.probe()
  }

  /** Wipes the marks of files that have their rows by now, a few hundred together: nobody else says when a row has come. */
  async #forgetKept(): Promise<void> {
    this.#manyMarks = Number.POSITIVE_INFINITY
    for (const mark of this.#marks.own()) {
      const row = await this.#rows.media(mark.id)
      if (row?.location !== mark.location) continue
      this.#unnamed.delete(mark.id)
      await this.#marks.wipe(mark)
    }
    this.#manyMarks = Math.max(MANY_MARKS, this.#marks.size * 2)
  }

  /** Removes what old marks name and no row does. A younger mark may be of a keep under way. */
  async #sweepMarks(time: number): Promise<number> {
    const removed = new Set<string>()
    for (const mark of await this.#marks.olderThan(time)) {
      if (this.#keeping.has(mark.id)) continue
      const row = await this.#rows.media(mark.id)
      if (row?.location === mark.location) await this.#marks.wipe(mark)
      else if (await this.#removeFile(mark)) removed.add(mark.location)
    }
    return removed.size
  }

  /** Removes a file that no row names. Its mark stays while the storage is not configured here: it may come back. */
  async #removeFile(mark: Mark): Promise<boolean> {
    const vault = this.#vaultOf(mark.location)
    if (!vault) return false
    this.#unnamed.delete(mark.id)
    await vault.remove(mark.location)
    await this.#marks.wipe(mark)
    return true
  }

  /** An installation that moved to a bucket still opens what it kept on disk before. */
  #vaultOf(location: string): Vault | undefined {
    return [this.#vault, this.#disk].find(vault => vault.owns(location))
  }
}

/** rules.md SSRF-8: more than any model makes, little enough for a small disk. */
const CAPS: Caps = { image: LIMITS.pictureBytes, video: 2 ** 30, pixels: 100_000_000 }

/** What nobody has asked for in a day belongs to no living run: a run lives a day (LIMITS.runDeadlineMs), and time down beside it. */
const STRAY_MS = 24 * 3_600_000

/** Room for some pictures and the database's log, so that the operator hears of it before writes fail. */
const MIN_FREE_BYTES = 256 * 2 ** 20

/** Marks that are left before anybody asks which of them are still needed. */
const MANY_MARKS = 512

/** Rows removed in one transaction. */
const PRUNE_BATCH = 200

function bucketVault(root: string, options?: S3Options): Vault {
  const address = s3Address(root)
  if (!address) throw new Error(`media go to 'disk' or to 's3://bucket/prefix', not to ${JSON.stringify(root)}`)
  return s3Vault(address, options)
}

/** What our storage refuses is a value. */
function refusal(error: unknown): Kept {
  if (!(error instanceof StorageUnavailable)) throw error
  return { ok: false, error: stepError('storage_unavailable', `The output could not be stored: ${error.message}.`) }
}

async function removeOlder(dir: string, time: number): Promise<number> {
  let removed = 0
  for (const name of await readdir(dir)) {
    const path = join(dir, name)
    if (!(await isOlder(path, time))) continue
    await rm(path, { recursive: true, force: true })
    removed += 1
  }
  return removed
}

async function isOlder(path: string, time: number): Promise<boolean> {
  try {
    return (await stat(path)).mtimeMs < time
  } catch (error) {
    if (errorCode(error) === 'ENOENT') return false
    throw error
  }
}

/** Lets go of a stream that nobody will read; a sender that will not be told is left to its own deadline. */
function discard(stream: ReadableStream<Uint8Array>): void {
  if (!stream.locked) stream.cancel().catch(() => {})
}
