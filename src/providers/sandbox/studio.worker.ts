/**
 * The studio's other thread: takes one order at a time, and answers it. Only `studio.ts` talks to it.
 *
 * 1. It answers every order exactly once, also when it fails.
 */
import { parentPort } from 'node:worker_threads'
import { InputPictureError } from './canvas.ts'
import { type Film, type FilmOrder, film } from './film.ts'
import { type PaintOrder, type Picture, paint, type TransformOrder, transform } from './paint.ts'

/** What the studio asks for. */
export type Job =
  | { readonly kind: 'paint'; readonly order: PaintOrder }
  | { readonly kind: 'transform'; readonly order: TransformOrder; readonly input: Uint8Array }
  | { readonly kind: 'film'; readonly order: FilmOrder; readonly input: Uint8Array | null }

/** What it gets. A refusal is the input's fault, a failure ours. */
export type Answer =
  | { readonly type: 'done'; readonly media: Picture | Film }
  | { readonly type: 'refused'; readonly code: InputPictureError['code']; readonly message: string }
  | { readonly type: 'failed'; readonly name: string; readonly message: string }

parentPort?.on('message', (job: Job) => void work(job))

async function work(job: Job): Promise<void> {
  try {
    const media = await make(job)
    const { buffer } = media.bytes
    parentPort?.postMessage({ type: 'done', media } satisfies Answer, buffer instanceof ArrayBuffer ? [buffer] : [])
  } catch (error) {
    parentPort?.postMessage(complaint(error))
  }
}

function make(job: Job): Promise<Picture | Film> {
  switch (job.kind) {
    case 'paint':
      return paint(job.order)
    case 'transform':
      return transform(job.order, job.input)
    case 'film':
      return film(job.order, job.input)
  }
}

function complaint(error: unknown): Answer {
  if (error instanceof InputPictureError) return { type: 'refused', code: error.code, message: error.message }
  if (error instanceof Error) return { type: 'failed', name: error.name, message: error.message }
  return { type: 'failed', name: 'Error', message: String(error) }
}
