/**
 * The marks of files that no row speaks of yet: what is left of them after a crash is found by their marks, not by a search.
 *
 * 1. A mark is on its way to the disk before its file is: a line in a log, appended, not synced. Marks that are left at the
 *    same moment share one write. (A small file for each, made and removed, would cost more than the media itself: ext4
 *    walks past every inode that was freed in the last five seconds.)
 * 2. A wiped mark is forgotten in memory only; a log goes when it holds no live mark, and is begun anew when it gets long.
 *    So a log may name files that are well: marks are hints, and who reads them asks the rows.
 * 3. A log that this process did not begin is of one that has ended: its marks count when it was last written.
 */
import { appendFile, readdir, readFile, rm, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { errorCode, onDisk } from './disk.ts'

export interface Mark {
  id: string
  location: string
  /** The log of an ended process, or null. */
  log: string | null
}

/** About ten thousand marks; a prune asks for the row of each once. */
const LONG_LOG_BYTES = 1 << 20

export class MarkBook {
  readonly #dir: string
  readonly #now: () => number
  /** Marks of this process, and when they were left. */
  readonly #live = new Map<string, number>()
  /** What is still open of the logs of ended processes, as far as they were read. */
  readonly #ended = new Map<string, Set<string>>()
  #log: { path: string; bytes: number } | null = null
  #unwritten: string[] = []
  #write: Promise<void> | null = null
  #turn: Promise<unknown> = Promise.resolve()

  constructor(dir: string, now: () => number) {
    this.#dir = dir
    this.#now = now
  }

  /** @throws StorageUnavailable when the disk does not take it */
  async leave(location: string): Promise<Mark> {
    this.#live.set(location, this.#now())
    this.#unwritten.push(location)
    this.#write ??= this.#inTurn(() => this.#append())
    try {
      await onDisk('leave a mark', () => this.#write ?? Promise.resolve())
    } catch (error) {
      this.#live.delete(location)
      throw error
    }
    return { id: idOf(location), location, log: null }
  }

  async wipe({ location, log }: Mark): Promise<void> {
    if (log === null) {
      this.#live.delete(location)
      if (this.#live.size === 0) await onDisk('wipe a mark', () => this.#inTurn(() => this.#drop()))
      return
    }
    const left = this.#ended.get(log)
    left?.delete(location)
    if (left?.size !== 0) return
    this.#ended.delete(log)
    await onDisk('wipe a mark', () => rm(log, { force: true }))
  }

  /** How many marks of this process are not wiped. */
  get size(): number {
    return this.#live.size
  }

  /** The marks of this process, those that were left before a time. */
  own(time = Number.POSITIVE_INFINITY): Mark[] {
    const live = [...this.#live].filter(([, at]) => at < time)
    return live.map(([location]) => ({ id: idOf(location), location, log: null }))
  }

  async olderThan(time: number): Promise<Mark[]> {
    const old = this.own(time)
    for (const name of await readdir(this.#dir)) {
      const log = join(this.#dir, name)
      const text = log === this.#log?.path ? null : await textOfOld(log, time)
      if (text === null) continue
      const locations = new Set(text.split('\n').filter(line => line !== ''))
      if (locations.size === 0) await rm(log, { force: true })
      else this.#ended.set(log, locations)
      for (const location of locations) old.push({ id: idOf(location), location, log })
    }
    return old
  }

  /** One after the other, whatever became of the one before. */
  #inTurn(work: () => Promise<void>): Promise<void> {
    const done = this.#turn.then(work)
    this.#turn = done.catch(() => {})
    return done
  }

  async #append(): Promise<void> {
    this.#write = null
    let lines = this.#unwritten.splice(0)
    const long = this.#log !== null && this.#log.bytes > LONG_LOG_BYTES ? this.#log : null
    if (long) {
      this.#log = null
      lines = [...this.#live.keys()]
    }
    this.#log ??= { path: join(this.#dir, `${crypto.randomUUID()}.log`), bytes: 0 }
    // The new line before: what a full disk cut off must not swallow the next mark.
    const text = `\n${lines.join('\n')}\n`
    await appendFile(this.#log.path, text)
    this.#log.bytes += text.length
    if (long) await rm(long.path, { force: true })
  }

  async #drop(): Promise<void> {
    if (this.#live.size > 0 || this.#log === null) return
    const { path } = this.#log
    this.#log = null
    await rm(path, { force: true })
  }
}

const idOf = (location: string): string => location.slice(location.lastIndexOf('/') + 1).replace(/\.[^.]*$/, '')

/** A log that nobody has written since `time`; null for a younger one, and for one that was wiped while we looked. */
async function textOfOld(log: string, time: number): Promise<string | null> {
  try {
    return (await stat(log)).mtimeMs >= time ? null : await readFile(log, 'utf8')
  } catch (error) {
    if (errorCode(error) === 'ENOENT') return null
    throw error
  }
}
