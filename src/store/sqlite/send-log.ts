/**
 * Which submits may have been sent: after a crash it tells them from those that were only meant to be.
 *
 * 1. A token is appended before its submit begins, by one write that is not synced: it outlives the process, not the machine.
 * 2. So a log proves something to the start that follows, of a database that goes on from there, and only under the boot in which
 *    it was written, unless it was closed in order, which syncs it. Elsewhere every submit under way may have been sent.
 * 3. What may have been sent and is not over is carried from log to log: at a start, and when a log gets long.
 * 4. Whatever it says was committed before it was written. So a database that lacks it is an older copy of what ran here, be it the
 *    same file: under any boot, and however the log ended.
 */
import type { Database } from 'bun:sqlite'
import { closeSync, fsyncSync, openSync, readFileSync, renameSync, writeSync } from 'node:fs'
import { join } from 'node:path'
import { StorageUnavailable } from '../../core/ports.ts'
import { type Lineage, textOf } from './lineage.ts'

export interface SendLogOrder extends Lineage {
  db: Database
  dataDir: string
  /** The boot of this machine; null where nobody can tell. */
  boot: string | null
}

/** What the store needs of it. */
export type Sends = Pick<SendLog, 'note' | 'over' | 'isUnsent'>

/** For a database in which no run goes on. */
export const NO_SENDS: Sends = {
  note() {
    throw new Error('nothing is submitted without a start')
  },
  over() {},
  isUnsent: () => false,
}

const SENDS = 'babychain.sends'
/** Some 1,700 tokens: a start looks each of them up. */
const LONG_LOG_BYTES = 64 << 10

export class SendLog {
  readonly #db: Database
  readonly #path: string
  readonly #head: string
  /** Tokens of submits that may have been sent and are not over. */
  readonly #open: Set<string>
  #file: number
  #bytes = 0

  /** @throws DataDirUnusable when the log cannot be read, or an error of the file system when it cannot be written */
  constructor({ db, dataDir, start, continues, boot }: SendLogOrder) {
    this.#db = db
    this.#path = join(dataDir, SENDS)
    this.#head = headOf(start, boot)
    const noted = continues ? tokensOf(this.#path, start - 1, boot) : null
    this.#open = new Set(noted ? noted.filter(stillOpen(db)) : allOpen(db))
    this.#file = this.#begin()
  }

  /** Call it before the submit of an attempt begins. @throws StorageUnavailable: then it must not be sent */
  note(token: string): void {
    try {
      if (this.#bytes > LONG_LOG_BYTES + 2 * this.#open.size * token.length) {
        const ended = this.#file
        this.#file = this.#begin()
        closeSync(ended)
      }
      this.#bytes += append(this.#file, [token])
    } catch (error) {
      const why = error instanceof Error ? error.message : String(error)
      throw new StorageUnavailable(`a submit cannot be noted, so it is not sent: ${why}`, { cause: error })
    }
    this.#open.add(token)
  }

  /** What became of the submit is committed. */
  over(token: string): void {
    this.#open.delete(token)
  }

  /** True when no byte of this submit can have been sent by a process that has ended. */
  isUnsent(token: string): boolean {
    return !this.#open.has(token)
  }

  /** The last process says so itself: nothing was sent beside what stands here. */
  close(): void {
    try {
      append(this.#file, [eventsIn(this.#db), CLOSED])
      fsyncSync(this.#file)
    } catch {
      // It was not closed in order, then.
    }
    closeSync(this.#file)
  }

  #begin(): number {
    const made = `${this.#path}.new`
    const file = openSync(made, 'w', 0o600)
    try {
      const bytes = append(file, [this.#head, eventsIn(this.#db), ...this.#open])
      renameSync(made, this.#path)
      this.#bytes = bytes
      return file
    } catch (error) {
      closeSync(file)
      throw error
    }
  }
}

/** Gives the bytes written. A line ends before it and after it: what a full disk cut off must not swallow the next token. */
function append(file: number, lines: readonly string[]): number {
  const text = `\n${lines.join('\n')}\n`
  const written = writeSync(file, text)
  if (written < text.length) throw Object.assign(new Error('the disk is full'), { code: 'ENOSPC' })
  return written
}

/** Whether the log in this directory tells of more than the database holds (rule 4). @throws DataDirUnusable when it cannot be read */
export function isOutrun(db: Database, dataDir: string): boolean {
  const lines = linesOf(join(dataDir, SENDS))
  const events = Math.max(...lines.map(line => Number(EVENTS.exec(line)?.[1] ?? 0)), 0)
  if (events > lastEvent(db)) return true
  const query = db.prepare<unknown, [string]>('SELECT 1 FROM attempts WHERE token = ? AND inherited = 0')
  return lines.some(line => TOKEN.test(line) && query.get(line) === null)
}

const CLOSED = 'closed'
const EVENTS = /^events (\d+)$/
/** What is shorter was cut off by a full disk, and not sent. */
const TOKEN = /^[\w-]{22,}$/

/** How far the log of events had come. Events are never removed, so it only grows. */
const eventsIn = (db: Database): string => `events ${lastEvent(db)}`

function lastEvent(db: Database): number {
  return db.query<{ last: number }, []>('SELECT coalesce(max(rowid), 0) AS last FROM events').get()?.last ?? 0
}

/** The last line counts only when it was ended. */
const linesOf = (path: string): string[] =>
  (textOf(path) ?? '')
    .split('\n')
    .slice(0, -1)
    .filter(line => line !== '')

/** The boot of this machine; null where the system does not tell. */
export function bootOfMachine(): string | null {
  try {
    return readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim()
  } catch {
    return null
  }
}

function headOf(start: number, boot: string | null): string {
  return `start ${start} boot ${boot}`
}

/** The tokens of the log of a start; null when it is not there, is another one, or ended with its machine. @throws DataDirUnusable */
function tokensOf(path: string, start: number, boot: string | null): string[] | null {
  const [head = '', ...lines] = linesOf(path)
  const isSynced = lines.at(-1) === CLOSED && head.startsWith(headOf(start, ''))
  const isWhole = isSynced || (boot !== null && head === headOf(start, boot))
  return isWhole ? lines : null
}

const UNDER_WAY = `inherited = 0 AND outcome = 'pending' AND submitted_at IS NULL`

function stillOpen(db: Database): (token: string) => boolean {
  const query = db.prepare<unknown, [string]>(`SELECT 1 FROM attempts WHERE token = ? AND ${UNDER_WAY}`)
  return token => query.get(token) !== null
}

/** By way of the open runs: the attempts of a long history are many. */
function allOpen(db: Database): string[] {
  const query = db.prepare<{ token: string }, []>(
    `SELECT token FROM runs CROSS JOIN attempts ON run_id = runs.id AND ${UNDER_WAY} WHERE wake_at >= 0`,
  )
  return query.all().map(row => row.token)
}
