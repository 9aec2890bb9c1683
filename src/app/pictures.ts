/**
 * Reads an input picture, wherever it lies, for a provider that takes no link.
 *
 * 1. `media:{id}` from our storage, `data:` by our own decoder, `https:` through the guarded egress; nothing else.
 * 2. Never more in memory than the caller has room for; only what its first bytes say is a picture.
 */
import { type StepError, stepError } from '../core/errors.ts'
import type { Media, Picture } from '../core/ports.ts'
import { LIMITS } from '../core/run.ts'
import { EgressError } from '../net/egress/failure.ts'
import type { Egress } from '../net/egress.ts'
import { sniff } from '../store/media/sniff.ts'

const TIMEOUT = { timeoutMs: 60_000, idleTimeoutMs: 15_000 }

export type ReadPicture = (
  ref: string,
  signal: AbortSignal,
  /** A larger one is `invalid_input`. */
  mostBytes?: number,
) => Promise<{ ok: true; picture: Picture } | { ok: false; error: StepError }>

export function pictureReader(media: Pick<Media, 'open'>, egress: Pick<Egress, 'download'>): ReadPicture {
  return async (ref, signal, mostBytes = LIMITS.pictureBytes) => {
    if (ref.startsWith('media:')) return fromMedia(media, ref.slice('media:'.length), mostBytes)
    if (ref.startsWith('data:')) return fromDataUri(ref)
    const opened = await egress.download(ref, {
      maxBytes: mostBytes,
      accept: ['image/png', 'image/jpeg', 'image/webp'],
      signal,
      ...TIMEOUT,
    })
    if (opened.type === 'opened') return judge(await bytesOf(opened.stream, opened.length ?? mostBytes))
    return opened.errorClass === 'too_large'
      ? tooLarge()
      : failed('the link to the input picture could not be read', opened.status)
  }
}

async function fromMedia(media: Pick<Media, 'open'>, id: string, most: number) {
  const stream = await media.open(id)
  return stream ? judge(await bytesOf(stream, most)) : failed(`media:${id} is no longer stored`)
}

function fromDataUri(ref: string) {
  const [head = '', data = ''] = ref.split(',', 2)
  return head.endsWith(';base64') ? judge(Buffer.from(data, 'base64')) : failed('a data URI must be in base64')
}

/** All bytes of a stream that has at most so many, or why there are none: put where they stay, without a second copy. */
async function bytesOf(stream: ReadableStream<Uint8Array>, most: number): Promise<Uint8Array | 'broken' | 'too_large'> {
  const bytes = new Uint8Array(most)
  let length = 0
  try {
    for await (const chunk of stream) {
      if (length + chunk.length > most) return 'too_large'
      bytes.set(chunk, length)
      length += chunk.length
    }
    return bytes.subarray(0, length)
  } catch (error) {
    return error instanceof EgressError && error.errorClass === 'too_large' ? 'too_large' : 'broken'
  }
}

function judge(bytes: Awaited<ReturnType<typeof bytesOf>>): Awaited<ReturnType<ReadPicture>> {
  if (bytes === 'too_large') return tooLarge()
  if (bytes === 'broken') return failed('the input picture broke off')
  const kind = sniff(bytes)
  if (kind?.kind !== 'image') return failed('the input picture is no PNG, JPEG or WebP')
  return { ok: true, picture: { mime: kind.mime, bytes } }
}

function tooLarge(): { ok: false; error: StepError } {
  return { ok: false, error: stepError('invalid_input', 'the input picture is too large') }
}

function failed(detail: string, status?: number): { ok: false; error: StepError } {
  return {
    ok: false,
    error: stepError('input_fetch_failed', detail, status === undefined ? {} : { httpStatus: status }),
  }
}
