/**
 * Carries the jobs of the sandbox to the studio, and their outputs to the journal.
 *
 * 1. A job is painted once, however often it is asked for; after a crash it is painted again, to the same bytes.
 * 2. Few are painted at once, in the order in which they came: a picture takes memory while it is painted.
 * 3. A picture of the caller's that cannot be used ends the job; a studio that breaks is tried again, a few times.
 */
import { type StepError, stepError } from '../../core/errors.ts'
import type { Job, Journal } from './journal.ts'
import type { Size } from './orders.ts'

/** The studio. An error named `InputPictureError` is the input picture's fault; its message is safe to show. */
export interface Painter {
  paint(order: PictureOrder): Promise<Painted>
  transform(order: PictureOrder, input: Uint8Array): Promise<Painted>
  film(order: FilmOrder, input: Uint8Array | null): Promise<Painted>
}

export type PictureOrder = Size & { prompt: string; seed: number; format: 'png' | 'jpeg' | 'webp' }
export type FilmOrder = Size & { prompt: string; seed: number; seconds: number; fps: number }

export interface Painted {
  bytes: Uint8Array
  mime: string
}

export class Paintings {
  readonly #journal: Journal
  readonly #studio: Painter
  readonly #underWay = new Map<string, Promise<void>>()
  readonly #broken = new Map<string, number>()
  readonly #line: (() => void)[] = []
  #free = AT_ONCE

  constructor(journal: Journal, studio: Painter) {
    this.#journal = journal
    this.#studio = studio
  }

  /** Paints the outputs of a job, unless that is under way or done. Never rejects. */
  async paint(token: string): Promise<void> {
    const underWay = this.#underWay.get(token)
    if (underWay !== undefined) return underWay
    const painting = this.#inLine(() => this.#paintNow(token))
      .catch(error => this.#broke(token, error))
      .finally(() => this.#underWay.delete(token))
    this.#underWay.set(token, painting)
    return painting
  }

  async #paintNow(token: string): Promise<void> {
    const job = await this.#journal.job(token)
    if (!job || job.canceled || job.outputs || job.fate !== 'done') return
    const file = job.hasInput ? await this.#journal.file(token, 'in') : null
    const input = file ? new Uint8Array(await file.arrayBuffer()) : null
    const count = job.order.kind === 'image' ? job.order.count : 1
    const outputs: NonNullable<Job['outputs']> = []
    for (let n = 0; n < count; n++) {
      const { bytes, mime } = await this.#make(job.order, job.order.seed + n, input)
      await this.#journal.writeFile(token, String(n), bytes)
      outputs.push({ mime, bytes: bytes.length })
    }
    await this.#journal.change(token, now => now && { ...now, outputs })
  }

  #make({ prompt, width, height, ...order }: Job['order'], seed: number, input: Uint8Array | null): Promise<Painted> {
    const base = { prompt, seed, width, height }
    if (order.kind === 'video') return this.#studio.film({ ...base, seconds: order.seconds, fps: FPS }, input)
    const picture = { ...base, format: order.format }
    return input ? this.#studio.transform(picture, input) : this.#studio.paint(picture)
  }

  async #broke(token: string, error: unknown): Promise<void> {
    const times = (this.#broken.get(token) ?? 0) + 1
    this.#broken.set(token, times)
    const fault = inputFault(error)
    if (!fault && times < TRIES) return
    this.#broken.delete(token)
    const fate = fault ?? stepError('provider_error', `the studio broke: ${String(error)}`, { provider: 'sandbox' })
    // A record that cannot be written now leaves the job pending; the next check paints again.
    await this.#journal.change(token, job => job && { ...job, fate }).catch(() => {})
  }

  async #inLine<T>(work: () => Promise<T>): Promise<T> {
    if (this.#free === 0) await new Promise<void>(resolve => this.#line.push(resolve))
    else this.#free -= 1
    try {
      return await work()
    } finally {
      // The place goes straight to the next in line.
      const next = this.#line.shift()
      if (next) next()
      else this.#free += 1
    }
  }
}

/** The error of a step whose input picture cannot be used, or null for any other error. */
export function inputFault(error: unknown): StepError | null {
  if (!(error instanceof Error) || error.name !== 'InputPictureError') return null
  return stepError('input_fetch_failed', error.message, { provider: 'sandbox' })
}

/** The studio has one worker; the second keeps it busy while the first one's bytes are written. */
const AT_ONCE = 2
const TRIES = 3
const FPS = 24
