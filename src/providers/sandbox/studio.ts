/**
 * Painting and filming off the main thread: a queue in front of one worker, which starts with the first order and leaves after a
 * while without any.
 *
 * 1. Orders are served one after the other, in the order in which they came.
 * 2. Every promise settles: also when the worker dies, and when the studio closes.
 * 3. The worker keeps the process alive only while it has an order.
 */
import { readdirSync } from 'node:fs'
import { join } from 'node:path'
import { Worker } from 'node:worker_threads'
import { InputPictureError } from './canvas.ts'
import type { Film, FilmOrder } from './film.ts'
import type { PaintOrder, Picture, TransformOrder } from './paint.ts'
import type { Answer, Job } from './studio.worker.ts'

export type Studio = {
  /** See `paint`. @throws RangeError, StudioError */
  paint(order: PaintOrder): Promise<Picture>
  /** See `transform`. @throws InputPictureError, RangeError, StudioError */
  transform(order: TransformOrder, input: Uint8Array): Promise<Picture>
  /** See `film`. @throws InputPictureError, RangeError, StudioError */
  film(order: FilmOrder, input: Uint8Array | null): Promise<Film>
  /** Ends the worker; orders that wait or run are rejected with a StudioError. */
  close(): void
}

/** The studio could not do its work: it is closed, its queue is full, or its worker broke. Not the order's fault. */
export class StudioError extends Error {
  override readonly name = 'StudioError'
}

/** How long an idle worker stays: long enough for the steps of one run, then its memory is worth more. */
const IDLE_MS = 30_000
/** Orders that may wait: each can hold an input picture in memory, and the last of them already waits for minutes. */
const MAX_WAITING = 500

type Entry = { readonly job: Job; settle(answer: Answer): void; reject(error: Error): void }

/** `idleMs`: how long the worker stays without an order (30,000). */
export function openStudio({ idleMs = IDLE_MS }: { readonly idleMs?: number } = {}): Studio {
  const waiting: Entry[] = []
  let running: Entry | null = null
  let worker: Worker | null = null
  let rest: ReturnType<typeof setTimeout> | undefined
  let closed = false

  const order = <T extends Picture | Film>(job: Job): Promise<T> =>
    new Promise<T>((resolve, reject) => {
      if (closed) return reject(new StudioError('The studio is closed'))
      if (waiting.length >= MAX_WAITING) return reject(new StudioError(`The studio has ${MAX_WAITING} orders waiting`))
      const settle = (answer: Answer): void =>
        answer.type === 'done' ? resolve(answer.media as T) : reject(errorOf(answer))
      waiting.push({ job, settle, reject })
      next()
    })

  const next = (): void => {
    if (running || closed) return
    clearTimeout(rest)
    const entry = waiting.shift()
    if (!entry) {
      worker?.unref()
      rest = setTimeout(leave, idleMs)
      rest.unref()
      return
    }
    running = entry
    try {
      worker ??= start()
      worker.ref()
      worker.postMessage(entry.job)
    } catch (error) {
      finish(({ reject }) => reject(error instanceof Error ? error : new StudioError(String(error))))
    }
  }

  const finish = (settle: (entry: Entry) => void): void => {
    const entry = running
    running = null
    if (entry) settle(entry)
    next()
  }

  const start = (): Worker => {
    const own = new Worker(workerPath())
    const broken = (why: string): void => {
      if (worker !== own) return
      worker = null
      void own.terminate()
      finish(entry => entry.reject(new StudioError(`The studio's worker broke: ${why}`)))
    }
    own.on('message', (answer: Answer) => {
      if (worker === own) finish(entry => entry.settle(answer))
    })
    own.on('error', error => broken(String(error)))
    own.on('exit', code => broken(`it ended with code ${code}`))
    return own
  }

  const leave = (): void => {
    const own = worker
    worker = null
    void own?.terminate()
  }

  return {
    paint: paintOrder => order<Picture>({ kind: 'paint', order: paintOrder }),
    transform: (transformOrder, input) => order<Picture>({ kind: 'transform', order: transformOrder, input }),
    film: (filmOrder, input) => order<Film>({ kind: 'film', order: filmOrder, input }),
    close() {
      closed = true
      clearTimeout(rest)
      leave()
      for (const entry of [running, ...waiting.splice(0)]) entry?.reject(new StudioError('The studio is closed'))
      running = null
    },
  }
}

/** The error that the worker had, as it was there. */
function errorOf(answer: Exclude<Answer, { type: 'done' }>): Error {
  if (answer.type === 'refused') return new InputPictureError(answer.code, answer.message)
  return answer.name === 'RangeError'
    ? new RangeError(answer.message)
    : new StudioError(`${answer.name}: ${answer.message}`)
}

/** From source, the file beside this one. In a compiled binary all is one file in a folder of its own, with the worker below it. */
function workerPath(): string | URL {
  if (!Bun.isStandaloneExecutable) return new URL('./studio.worker.ts', import.meta.url)
  const root = import.meta.dir
  const name = readdirSync(root, { recursive: true }).find(path => String(path).endsWith('studio.worker.js'))
  if (name === undefined) throw new StudioError('The binary was built without the entry point studio.worker.ts')
  return join(root, String(name))
}
