/**
 * What the sandbox remembers, as a remote provider would: a small file a job, and counters a step.
 *
 * 1. A job exists when its file does; it is written whole (elsewhere, synced, renamed), so that kill -9 leaves a job or none.
 * 2. Changes of one file happen one after the other.
 * 3. Files are forgotten a day after they were last touched.
 *
 * `<dir>/jobs/<token>.json`, `<dir>/files/<token>.in` (the input picture), `<dir>/files/<token>.<n>` (the outputs),
 * `<dir>/steps/<stepId>.json` (how often each word of the prompt has had its way).
 */
import { mkdir, open, readdir, readFile, rename, rm, stat } from 'node:fs/promises'
import { join } from 'node:path'
import type { StepError } from '../../core/errors.ts'
import { ALWAYS, type Wishes } from './misbehavior.ts'
import type { Order, Size } from './orders.ts'

export interface Job {
  token: string
  runId: string
  stepId: string
  /** How often a submit with this token arrived: more than once would be a second payment. */
  submits: number
  startedAt: number
  dueAt: number
  order: Order & { seed: number } & Size
  hasInput: boolean
  /** A refused submit leaves a record too; nothing runs. */
  refused: boolean
  canceled: boolean
  /** How it ends whatever is painted; `lost` at half its time, an error when it is due. */
  fate: 'done' | 'lost' | StepError
  /** Null until painted. */
  outputs: { mime: string; bytes: number }[] | null
  /** Links carry this number; older ones are dead. */
  link: number
  /** Words of the prompt, and how often they have their way. */
  times: Wishes['times']
}

export class Journal {
  readonly #dir: string
  readonly #now: () => number
  readonly #turns = new Map<string, Promise<unknown>>()
  #sweptAt = Number.NEGATIVE_INFINITY
  #made: Promise<unknown> | null = null

  /** `now` is time (ms since the epoch) that never goes back. */
  constructor(dataDir: string, now: () => number) {
    this.#dir = join(dataDir, 'sandbox')
    this.#now = now
  }

  job(token: string): Promise<Job | null> {
    return isToken(token) ? readJson<Job>(this.#path('jobs', `${token}.json`)) : Promise.resolve(null)
  }

  /** Changes a job, or makes it (`before` is null then); null leaves all as it is. Gives what is now there. */
  async change(token: string, how: (before: Job | null) => Job | null): Promise<Job | null> {
    if (!isToken(token)) throw new Error(`not a token: ${JSON.stringify(token.slice(0, 40))}`)
    const path = this.#path('jobs', `${token}.json`)
    return this.#inTurn(path, async () => {
      const before = await readJson<Job>(path)
      const after = how(before)
      if (after) await this.#write(path, JSON.stringify(after))
      return after ?? before
    })
  }

  /** Takes one of `times` chances of a step; false when they are used up. */
  async take(stepId: string, word: string, times: number): Promise<boolean> {
    if (times === ALWAYS) return true
    if (times === 0) return false
    const path = this.#path('steps', `${stepId.replaceAll(/[^\w-]/g, '_').slice(0, 100)}.json`)
    return this.#inTurn(path, async () => {
      const counts = (await readJson<Record<string, number>>(path)) ?? {}
      const used = counts[word] ?? 0
      if (used >= times) return false
      await this.#write(path, JSON.stringify({ ...counts, [word]: used + 1 }))
      return true
    })
  }

  async writeFile(token: string, name: string, bytes: Uint8Array): Promise<void> {
    await this.#write(this.#path('files', `${token}.${name}`), bytes)
  }

  /** Bytes of a file of a job, or null. */
  async file(token: string, name: string): Promise<Bun.BunFile | null> {
    const file = Bun.file(this.#path('files', `${token}.${name}`))
    return (await file.exists()) ? file : null
  }

  /** Forgets what is older than a day; looks at most once an hour. */
  async sweep(): Promise<void> {
    const now = this.#now()
    if (now - this.#sweptAt < SWEEP_EVERY_MS) return
    this.#sweptAt = now
    for (const folder of FOLDERS) {
      for (const name of await readdir(this.#path(folder)).catch(() => [])) {
        const path = this.#path(folder, name)
        const touched = await stat(path).catch(() => null)
        if (touched && touched.mtimeMs < now - KEPT_MS) await rm(path, { force: true })
      }
    }
  }

  /** Whole or not at all. */
  async #write(path: string, content: string | Uint8Array): Promise<void> {
    this.#made ??= Promise.all(FOLDERS.map(folder => mkdir(this.#path(folder), { recursive: true })))
    await this.#made
    const draft = `${path}.${crypto.randomUUID()}`
    try {
      const file = await open(draft, 'wx')
      try {
        await file.writeFile(content)
        await file.sync()
      } finally {
        await file.close()
      }
      await rename(draft, path)
    } finally {
      await rm(draft, { force: true })
    }
  }

  #path(...parts: string[]): string {
    return join(this.#dir, ...parts)
  }

  #inTurn<T>(key: string, work: () => Promise<T>): Promise<T> {
    const turn = (this.#turns.get(key) ?? Promise.resolve()).then(work, work)
    this.#turns.set(key, turn)
    const done = () => {
      if (this.#turns.get(key) === turn) this.#turns.delete(key)
    }
    turn.then(done, done)
    return turn
  }
}

const FOLDERS = ['jobs', 'files', 'steps'] as const

/** Longer than any job takes (`#slow` takes 12 hours at most). */
const KEPT_MS = 24 * 3_600_000
const SWEEP_EVERY_MS = 3_600_000

function isToken(token: string): boolean {
  return /^[\w-]{1,128}$/.test(token)
}

/** The file was written by us, whole: its shape needs no check. */
async function readJson<T>(path: string): Promise<T | null> {
  try {
    return JSON.parse(await readFile(path, 'utf8')) as T
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return null
    throw error
  }
}
