/**
 * Reads an input picture, wherever it lies, for a provider that takes no link.
 *
 * 1. `media:{id}` from our storage, `data:` by our own decoder, `https:` through the guarded egress; nothing else.
 * 2. Never more than PICTURE_BYTES in memory; only what its first bytes say is a picture.
 */
import { type StepError, stepError } from '../core/errors.ts'
import type { Media, Picture } from '../core/ports.ts'
import type { Egress } from '../net/egress.ts'
import { sniff } from '../store/media/sniff.ts'

/** The largest input picture that any provider of the catalogue takes is 30 MB. */
const PICTURE_BYTES = 30 << 20
const TIMEOUT = { timeoutMs: 60_000, idleTimeoutMs: 15_000 }

export type ReadPicture = (
  ref: string,
  signal: AbortSignal,
) => Promise<{ ok: true; picture: Picture } | { ok: false; error: StepError }>

export function pictureReader(media: Pick<Media, 'open'>, egress: Pick<Egress, 'download'>): ReadPicture {
  return async (ref, signal) => {
    if (ref.startsWith('media:')) return fromMedia(media, ref.slice('media:'.length))
    if (ref.startsWith('data:')) return fromDataUri(ref)
    const opened = await egress.download(ref, {
      maxBytes: PICTURE_BYTES,
      accept: ['image/png', 'image/jpeg', 'image/webp'],
      signal,
      ...TIMEOUT,
    })
    if (opened.type === 'failed') return failed('the link to the input picture could not be read', opened.status)
    return judge(await bytesOf(opened.stream))
  }
}

async function fromMedia(media: Pick<Media, 'open'>, id: string) {
  const stream = await media.open(id)
  return stream ? judge(await bytesOf(stream)) : failed(`media:${id} is no longer stored`)
}

function fromDataUri(ref: string) {
  const [head = '', data = ''] = ref.split(',', 2)
  return head.endsWith(';base64') ? judge(Buffer.from(data, 'base64')) : failed('a data URI must be in base64')
}

async function bytesOf(stream: ReadableStream<Uint8Array>): Promise<Uint8Array | null> {
  try {
    return await new Response(stream).bytes()
  } catch {
    return null
  }
}

function judge(bytes: Uint8Array | null): { ok: true; picture: Picture } | { ok: false; error: StepError } {
  if (!bytes) return failed('the input picture broke off')
  const kind = sniff(bytes)
  if (kind?.kind !== 'image') return failed('the input picture is no PNG, JPEG or WebP')
  return { ok: true, picture: { mime: kind.mime, bytes } }
}

function failed(detail: string, status?: number): { ok: false; error: StepError } {
  return {
    ok: false,
    error: stepError('input_fetch_failed', detail, status === undefined ? {} : { httpStatus: status }),
  }
}
