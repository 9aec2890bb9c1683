/**
 * Reads an input picture, wherever it lies, for a provider that takes no link.
 *
 * 1. `media:{id}` from our storage, `data:` by our own decoder, `https:` through the guarded egress; nothing else.
 * 2. Never more in memory than the caller has room for; only what its first bytes say is a picture.
 * 3. What is wrong with a link is its giver's fault and a value; what is wrong with our own storage is thrown.
 * 4. Who sends too slowly is left, and a signal ends every read at once. Only the time that we wait for bytes counts, not
 *    the time that they wait for room.
 */
import { type StepError, stepError } from '../core/errors.ts'
import { type Clock, type Media, type Picture, StorageUnavailable } from '../core/ports.ts'
import { LIMITS } from '../core/run.ts'
import { EgressError } from '../net/egress/failure.ts'
import type { Egress } from '../net/egress.ts'
import { describe, type Facts, HEAD_BYTES, inspect, NOUNS, sniff } from '../store/media/sniff.ts'

/** How long we wait for bytes: for the first, for so many more, and in all (ms). */
interface Patience {
  everyMs: number
  bytes: number
  totalMs: number
}
/**
 * A host that sends less holds its provider's place, in which others could go. A picture of a megabyte in ten seconds, and the
 * largest one in thirty: less than any host gives that is built for it.
 */
const HOST: Patience = { everyMs: 10_000, bytes: 1 << 20, totalMs: 30_000 }
/** Our own storage is slow when it is busy; one that stands still for so long has failed. The caller limits the whole. */
const STORAGE: Patience = { everyMs: 30_000, bytes: 1, totalMs: Number.POSITIVE_INFINITY }
/** Of a whole download, with all that it waits for room: above the limit for the pictures of a step. */
const DOWNLOAD = { timeoutMs: 200_000, idleTimeoutMs: HOST.everyMs }
/** What is held of a picture before all of its place is taken: a host that dribbles never gets so far. */
const BEGIN_BYTES = 512 << 10

export type ReadPicture = (
  ref: string,
  signal: AbortSignal,
  /** A larger one is `invalid_input`. */
  mostBytes?: number,
  /** Asked before so many bytes of a link are held; false: give up. */
  grow?: (bytes: number) => Promise<boolean>,
) => Promise<{ ok: true; picture: Picture } | { ok: false; error: StepError }>

export function pictureReader(
  media: Pick<Media, 'open'>,
  egress: Pick<Egress, 'download'>,
  clock: Pick<Clock, 'now' | 'at'>,
): ReadPicture {
  return async (ref, signal, mostBytes = LIMITS.pictureBytes, grow = async () => true) => {
    if (ref.startsWith('data:')) return fromDataUri(ref)
    if (!ref.startsWith('media:')) return fromLink(egress, ref, { clock, signal, most: mostBytes, grow })
    return fromMedia(media, ref.slice('media:'.length), { clock, signal, most: mostBytes, grow })
  }
}

interface Reader {
  read(): Promise<{ done: boolean; value?: Uint8Array | undefined }>
  cancel(reason: unknown): Promise<void>
}

interface Reading {
  clock: Pick<Clock, 'now' | 'at'>
  signal: AbortSignal
  most: number
  grow(bytes: number): Promise<boolean>
}

async function fromLink(egress: Pick<Egress, 'download'>, url: string, reading: Reading): ReturnType<ReadPicture> {
  const { clock, most } = reading
  const slow = new AbortController()
  const signal = AbortSignal.any([reading.signal, slow.signal])
  const accept = ['image/png', 'image/jpeg', 'image/webp']
  const disarm = clock.at(clock.now() + HOST.everyMs, () => slow.abort(TOO_SLOW))
  const opened = await egress.download(url, { maxBytes: most, accept, signal, ...DOWNLOAD }).finally(disarm)
  if (opened.type === 'opened') {
    try {
      return judge(await bytesOf(opened.stream, { ...reading, most: opened.length ?? most }, HOST))
    } catch (error) {
      if (error instanceof EgressError && error.errorClass === 'too_large') return tooLarge()
      return failed(error === TOO_SLOW ? TOO_SLOW.message : 'the input picture broke off')
    }
  }
  if (opened.errorClass === 'too_large') return tooLarge()
  const why = slow.signal.aborted ? TOO_SLOW.message : 'the link to the input picture could not be read'
  return failed(why, opened.status)
}

async function fromMedia(media: Pick<Media, 'open'>, id: string, reading: Reading): ReturnType<ReadPicture> {
  try {
    const stream = await openedInTime(media, id, reading)
    return stream ? judge(await bytesOf(stream, reading, STORAGE)) : failed(`media:${id} is no longer stored`)
  } catch (error) {
    if (error instanceof StorageUnavailable) throw error
    throw new StorageUnavailable(`media:${id} broke off`, { cause: error })
  }
}

/** Storage says whether there is a file when its first bytes come; one that comes later is let go. */
async function openedInTime(media: Pick<Media, 'open'>, id: string, { clock, signal }: Reading) {
  const { promise: late, reject } = Promise.withResolvers<never>()
  const onAbort = (): void => reject(signal.reason)
  if (signal.aborted) onAbort()
  signal.addEventListener('abort', onAbort, { once: true })
  const disarm = clock.at(clock.now() + STORAGE.everyMs, () => reject(TOO_SLOW))
  const opening = media.open(id)
  try {
    return await Promise.race([late, opening])
  } catch (error) {
    opening.then(stream => stream?.cancel()).catch(() => {})
    throw error
  } finally {
    disarm()
    signal.removeEventListener('abort', onAbort)
  }
}

/** In so many bytes a picture says how large it is: a camera writes up to 64 KB of other things before it. */
const SIZE_BYTES = 128 << 10

/**
 * The size of the picture in a data URI, as far as it says one; or what it holds that is none (`text, not a PNG, …`), as
 * `judge` will see it. From its first bytes alone: it may be long, and is asked about with every order.
 */
export async function lookInto(uri: string): Promise<Pick<Facts, 'width' | 'height'> | { misfit: string }> {
  const from = uri.indexOf(',') + 1
  const bytes = Buffer.from(uri.slice(from, from + Math.ceil(SIZE_BYTES / 3) * 4), 'base64')
  const head = bytes.subarray(0, HEAD_BYTES)
  const format = sniff(head)
  if (format?.kind !== 'image') return { misfit: `${describe(head)}, not ${NOUNS.image}` }
  return inspect(format, bytes.length, async (start, length) => bytes.subarray(start, start + length))
}

function fromDataUri(ref: string) {
  const [head = '', data = ''] = ref.split(',', 2)
  return /;base64$/i.test(head) ? judge(Buffer.from(data, 'base64')) : failed('a data URI must be in base64')
}

const TOO_SLOW = new Error('the input picture came too slowly')

/** All bytes of a stream that has at most so many, put where they stay. @throws what ended it, or what it is left for */
async function bytesOf(
  stream: ReadableStream<Uint8Array>,
  { clock, signal, most, grow }: Reading,
  patience: Patience,
): Promise<Uint8Array | 'too_large'> {
  const reader = stream.getReader()
  const next = patiently(reader, clock, patience)
  // A canceled stream ends, whatever becomes of its source.
  const cancel = (): void => void reader.cancel().catch(() => {})
  signal.addEventListener('abort', cancel, { once: true })
  try {
    let bytes = new Uint8Array(Math.min(most, BEGIN_BYTES))
    let length = 0
    for (;;) {
      signal.throwIfAborted()
      const chunk = await next()
      signal.throwIfAborted()
      if (chunk === null) return bytes.subarray(0, length)
      const size = length + chunk.length
      if (size > most) return 'too_large'
      if (!(await grow(size))) throw new Error('there is no room for it')
      if (size > bytes.length) {
        const whole = new Uint8Array(most)
        whole.set(bytes.subarray(0, length))
        bytes = whole
      }
      bytes.set(chunk, length)
      length = size
    }
  } finally {
    signal.removeEventListener('abort', cancel)
    cancel()
  }
}

/** Reads on, as long as enough comes; else it cancels the stream. @throws TOO_SLOW */
function patiently(reader: Reader, clock: Reading['clock'], patience: Patience) {
  let leftMs = patience.totalMs
  let waitedMs = 0
  let came = 0
  return async (): Promise<Uint8Array | null> => {
    const from = clock.now()
    let isSlow = false
    const disarm = clock.at(from + Math.min(leftMs, patience.everyMs - waitedMs), () => {
      isSlow = true
      reader.cancel(TOO_SLOW).catch(() => {})
    })
    const { done, value } = await reader.read().finally(disarm)
    if (isSlow) throw TOO_SLOW
    if (done || !value) return null
    leftMs -= clock.now() - from
    waitedMs += clock.now() - from
    came += value.length
    if (came >= patience.bytes) {
      waitedMs = 0
      came = 0
    }
    return value
  }
}

function judge(bytes: Awaited<ReturnType<typeof bytesOf>>): Awaited<ReturnType<ReadPicture>> {
  if (bytes === 'too_large') return tooLarge()
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
