/**
 * The input pictures of a step, in the form that its provider takes.
 *
 * 1. What must be read is known before a byte is read: its size, or the most that it may have.
 * 2. Pictures in the request itself have a limit together; one that stands there twice counts twice. Above it nothing is sent.
 * 3. A picture is read once for a step, and its bytes are let go when it is encoded or uploaded.
 * 4. Until all are read nothing is sent, so that can be left at any moment: by a cancel, at the deadline, at a limit, and
 *    when the process stops. Whoever reads them and does not obey is not waited for.
 */
import { type StepError, stepError } from '../core/errors.ts'
import { deadlineOf } from '../core/machine.ts'
import type { Route } from '../core/model.ts'
import type { Clock, Media, Observer, Picture, Provider } from '../core/ports.ts'
import { type Attempt, LIMITS, type Run, type Step } from '../core/run.ts'
import { scopeOf } from './effects/scope.ts'
import type { PictureRoom, Place } from './picture-room.ts'

export interface PictureDeps {
  clock: Clock
  media: Pick<Media, 'find'>
  observer: Pick<Observer, 'fault'>
  room: PictureRoom
  /**
   * Reads an input picture (`https:`, `data:`, `media:{id}`) for a provider that takes no link. One above `mostBytes` is
   * `invalid_input`. Of a link it holds so many bytes only when `grow` says that there is room for them.
   * @throws when our own storage does not give it now
   */
  readPicture(
    ref: string,
    signal: AbortSignal,
    mostBytes: number,
    grow: (bytes: number) => Promise<boolean>,
  ): Promise<{ ok: true; picture: Picture } | { ok: false; error: StepError }>
  /** A signed link to a media that a provider can reach, or null without a public address. */
  publicLink(mediaId: string): string | null
}

/** Whom a picture must reach, and whether only in the request itself. */
export interface Target {
  provider: Pick<Provider, 'id' | 'takes' | 'upload'>
  inline: boolean
}

export interface PictureNeed {
  ok: true
  /** In the order of the request: the wired picture first, then the caller's. A link is the provider's to read. */
  pictures: readonly ({ link: string } | { read: string })[]
  /** What is ours to read, each once: its size, null for a link, how often it stands in the request, and the step that gave it. */
  reads: ReadonlyMap<string, { bytes: number | null; times: number; from?: string }>
  /** Room in memory that this takes at the most. */
  bytes: number
  /** What it takes whatever lies behind links. */
  known: number
  /** Some of it lies behind links. */
  linked: boolean
}

type Failed = { ok: false; error: StepError }

/** True where a stored picture reaches a provider in the request itself only. */
export function mustEmbed(
  provider: Target['provider'] | undefined,
  { inline = false }: Pick<Route, 'inline'>,
  hasPublicLinks: boolean,
): boolean {
  if (!provider || inline) return true
  return provider.upload === undefined && !(provider.takes.url && hasPublicLinks)
}

/** What must be read for a step. */
export async function pictureNeed(
  deps: PictureDeps,
  run: Run,
  step: Step,
  target: Target,
): Promise<PictureNeed | Failed> {
  const wired = step.dependsOn.flatMap(key => {
    const before = run.steps.find(other => other.key === key)
    const [first] = before?.status === 'succeeded' ? before.outputs : []
    return first ? [{ ref: `media:${first.mediaId}`, bytes: first.bytes, from: key }] : []
  })
  const pictures: ({ link: string } | { read: string })[] = []
  const reads = new Map<string, { bytes: number | null; times: number; from?: string }>()
  for (const { ref, bytes, from } of [...wired, ...step.pictures.map(ref => ({ ref, bytes: null, from: undefined }))]) {
    const link = linkFor(deps, ref, target)
    pictures.push(link === null ? { read: ref } : { link })
    const known = reads.get(ref)
    if (known) known.times += 1
    else if (link === null)
      reads.set(ref, { bytes: bytes ?? (await sizeOf(deps, ref)), times: 1, ...(from ? { from } : {}) })
  }
  const room = roomFor(target, [...reads.values()])
  if (typeof room !== 'number') return room
  const linked = [...reads.values()].some(({ bytes }) => bytes === null)
  const sizes = [...reads.values()].map(({ bytes, times }) => ({ bytes: bytes ?? 0, times }))
  const known = uploads(target) ? Math.max(0, ...sizes.map(({ bytes }) => bytes)) : sumOf(sizes)
  return { ok: true, pictures, reads, bytes: room, known, linked }
}

/**
 * Waits for room in memory, and reads what must be read: the caller gives the room back. Without an error the next process
 * makes the submit.
 */
export async function gather(
  deps: PictureDeps,
  live: { readonly run: Run },
  step: Step,
  attempt: Attempt,
  target: Target,
  stop: AbortSignal,
): Promise<{ ok: true; refs: string[]; place: Place } | { ok: false; error: StepError | null }> {
  const { clock, observer, room } = deps
  /** Our own storage breaks off: it will be back, and the steps before are paid. */
  const unreadable = (error: unknown): Failed => {
    observer.fault('pictures', error, scopeOf(live.run, step, attempt))
    return { ok: false, error: stepError('storage_unavailable', 'the input picture cannot be read now') }
  }
  const need = await pictureNeed(deps, live.run, step, target).catch(unreadable)
  if (!need.ok) return need
  const asked = { ...need, key: live.run.apiKeyId }
  const now = room.enterNow(asked)
  const wanted = whileWanted(clock, live, step, stop)
  const { signal } = wanted
  let disarm = (): void => {}
  try {
    const place = now ?? (await room.enter(asked, signal))
    if (!place) return signal.aborted ? await wanted.left : { ok: false, error: null }
    disarm = clock.at(clock.now() + READ_MS, () =>
      wanted.leave(slowIn(need, target) ?? unreadable(new Error(TOO_SLOW))),
    )
    const reading = picturesFor(deps, need, target, place, signal)
    const known = reading.catch(error => (signal.aborted ? wanted.left : unreadable(error)))
    const read = await Promise.race([wanted.left, known])
    if (read.ok) return { ...read, place }
    place.leave()
    return read
  } finally {
    disarm()
    wanted.end()
  }
}

/**
 * For all pictures of a step together. Storage that gives a megabyte a second gives them in a quarter of it, and a link has
 * a limit of its own; the rest is for uploads one by one, and for links that wait for more room.
 */
const READ_MS = 180_000
const TOO_SLOW = `the input pictures were not read within ${READ_MS} ms`
/** How often a submit that waits or reads asks whether it is still wanted. */
const STILL_WANTED_MS = 1_000

type Left = { ok: false; error: StepError | null }

/** `left` comes, and `signal` is aborted, when the step is canceled or too late, the process stops, or by `leave`. */
function whileWanted(clock: Clock, live: { readonly run: Run }, step: Step, stop: AbortSignal) {
  const quit = new AbortController()
  const { promise: left, resolve } = Promise.withResolvers<Left>()
  let disarm = (): void => {}
  const leave = (as: Left): void => {
    resolve(as)
    quit.abort(new Error('the submit was left'))
  }
  const overBy = (): StepError | null => {
    if (live.run.cancelRequestedAt !== null) return stepError('canceled', 'canceled before it was submitted')
    const isLate = clock.now() >= deadlineOf(live.run, step)
    return isLate ? stepError('deadline_exceeded', 'the deadline passed before it was submitted') : null
  }
  const look = (): void => {
    disarm()
    const error = overBy()
    if (stop.aborted || error) leave({ ok: false, error })
    else disarm = clock.at(clock.now() + STILL_WANTED_MS, look)
  }
  const end = (): void => {
    disarm()
    stop.removeEventListener('abort', look)
  }
  stop.addEventListener('abort', look, { once: true })
  look()
  return { signal: quit.signal, left, leave, end }
}

/** Reads what must be read, within the room that was taken for it; what turns out to be too much of that is given back. */
export async function picturesFor(
  deps: PictureDeps,
  need: PictureNeed,
  target: Target,
  place: Place,
  signal: AbortSignal,
): Promise<{ ok: true; refs: string[] } | Failed> {
  const made = new Map<string, string>()
  /** Pictures in the request itself; what an upload holds is free again after it. */
  let held = uploads(target) ? 0 : need.known
  /** What pictures of a size that nobody knows yet may still take. */
  let left = need.bytes
  for (const { bytes, times } of need.reads.values()) left -= (bytes ?? 0) * times
  for (const [ref, { bytes, times, from }] of need.reads) {
    const most = bytes ?? Math.min(mostOf(target), uploads(target) ? need.bytes : Math.floor(left / times))
    const base = held
    const grow = async (size: number): Promise<boolean> =>
      bytes !== null || place.grow(uploads(target) ? size : base + size * times, signal)
    const read = await deps.readPicture(ref, signal, most, grow)
    if (!read.ok && bytes === null && read.error.code === 'invalid_input')
      return most < mostOf(target)
        ? tooMany(`more than ${LIMITS.requestPictureBytes}`)
        : tooLarge(target, `over ${most}`, most)
    if (!read.ok) return from && read.error.code === 'input_fetch_failed' ? lostOutput(from, read.error) : read
    const uploaded = uploads(target) ? await target.provider.upload?.(read.picture, signal) : undefined
    if (uploaded && !uploaded.ok) return uploaded
    made.set(ref, uploaded?.ref ?? dataUri(read.picture))
    const size = read.picture.bytes.length
    place.drop(size)
    if (bytes !== null) continue
    if (!uploads(target)) held += size * times
    left -= size * times
  }
  place.keep(held)
  return { ok: true, refs: need.pictures.map(each => ('link' in each ? each.link : (made.get(each.read) ?? ''))) }
}

/** A link, where the provider takes links and can reach it. */
function linkFor(deps: PictureDeps, ref: string, target: Target): string | null {
  if (!takesLinks(target)) return null
  if (/^https?:/i.test(ref)) return ref
  return ref.startsWith('media:') ? deps.publicLink(ref.slice('media:'.length)) : null
}

/** Null for a link: that shows when it is read. A media that is gone has no bytes; its reader says so. */
async function sizeOf(deps: PictureDeps, ref: string): Promise<number | null> {
  if (ref.startsWith('media:')) return (await deps.media.find(ref.slice('media:'.length)))?.bytes ?? 0
  return ref.startsWith('data:') ? Math.ceil((ref.length * 3) / 4) : null
}

/** The room that some pictures take at the most, or why they cannot be sent. */
function roomFor(target: Target, reads: readonly { bytes: number | null; times: number }[]): number | Failed {
  const most = mostOf(target)
  // They go up one by one.
  if (uploads(target)) return Math.max(0, ...reads.map(({ bytes }) => bytes ?? most))
  const { dataUriBytes } = target.provider.takes
  const large = reads.find(({ bytes }) => bytes !== null && bytes > dataUriBytes)
  if (large) return tooLarge(target, `${large.bytes}`, dataUriBytes)
  const known = sumOf(reads.map(({ bytes, times }) => ({ bytes: bytes ?? 0, times })))
  if (known > LIMITS.requestPictureBytes) return tooMany(`${known}`)
  const all = sumOf(reads.map(({ bytes, times }) => ({ bytes: bytes ?? most, times })))
  return Math.min(all, LIMITS.requestPictureBytes)
}

/** The most bytes of one picture that is read from a link. */
function mostOf(target: Target): number {
  return uploads(target) ? LIMITS.pictureBytes : Math.min(LIMITS.pictureBytes, target.provider.takes.dataUriBytes)
}

function takesLinks({ provider, inline }: Target): boolean {
  return provider.takes.url && !inline
}

/** Its own upload where there is one. */
function uploads({ provider, inline }: Target): boolean {
  return provider.upload !== undefined && !inline
}

function sumOf(sizes: readonly { bytes: number; times: number }[]): number {
  return sizes.reduce((sum, { bytes, times }) => sum + bytes * times, 0)
}

/** Who was slow, if not our own storage: whoever gives links, or else the provider that takes uploads. */
function slowIn({ linked }: PictureNeed, target: Target): Failed | null {
  if (linked) return { ok: false, error: stepError('input_fetch_failed', TOO_SLOW) }
  return uploads(target)
    ? { ok: false, error: stepError('network_error', TOO_SLOW, { provider: target.provider.id }) }
    : null
}

/** A public address helps only where links are taken. */
function tooLarge(target: Target, bytes: string, most: number): Failed {
  const limit = `${target.provider.id} takes at most ${most}`
  const advice = takesLinks(target)
    ? `without BABYCHAIN_PUBLIC_URL ${limit}`
    : `${limit}: make it smaller, or name another provider`
  const detail = `the input picture has ${bytes} bytes; ${advice}`
  return { ok: false, error: stepError('invalid_input', detail) }
}

function tooMany(bytes: string): Failed {
  const detail = `the input pictures have ${bytes} bytes together; one request takes at most ${LIMITS.requestPictureBytes}`
  return { ok: false, error: stepError('invalid_input', detail) }
}

/** Our storage answers, and has not got what a finished step gave: no caller can mend that, and asking again does not either. */
function lostOutput(key: string, { message }: StepError): Failed {
  const hint = `Resume the run with "from_step_key": "${key}": that step is run, and paid, again.`
  return { ok: false, error: stepError('internal', `what ${key} gave is lost: ${message}`, { retryable: false, hint }) }
}

/** In one piece, without a copy of the bytes. */
function dataUri({ mime, bytes }: Picture): string {
  return `data:${mime};base64,${Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString('base64')}`
}
