/**
 * What a file really is, told from its bytes: PNG, JPEG, WebP, MP4 or WebM; how large, how long, and whether its end is there.
 *
 * 1. Nothing is decoded: only headers, chunk lengths and end marks are read, a few kilobytes at a time, so that a hostile
 *    file costs nothing.
 * 2. What is not on the list is refused. Web pages, drawings and playlists above all: they can make a reader open more links.
 * 3. Bytes after the end of a picture are left alone: phones put films there.
 */
import type { StepKind } from '../../core/model.ts'

export interface Format {
  kind: StepKind
  mime: string
  /** Without the dot. */
  ext: string
}

/** Sizes in pixels, lengths in seconds. `complete` is false when the file stops before its own end. */
export interface Facts {
  complete: boolean
  width?: number
  height?: number
  seconds?: number
  /** Why it cannot be used although its head looked right. */
  flaw?: string
}

/** Reads up to `length` bytes from `from`; fewer only at the end of the file. */
export type ReadAt = (from: number, length: number) => Promise<Uint8Array>

/** How much of a file's start `sniff` and `describe` want to see. */
export const HEAD_BYTES = 512

const PNG: Format = { kind: 'image', mime: 'image/png', ext: 'png' }
const JPEG: Format = { kind: 'image', mime: 'image/jpeg', ext: 'jpg' }
const WEBP: Format = { kind: 'image', mime: 'image/webp', ext: 'webp' }
const MP4: Format = { kind: 'video', mime: 'video/mp4', ext: 'mp4' }
const WEBM: Format = { kind: 'video', mime: 'video/webm', ext: 'webm' }

/** The format that a file's first bytes show, or null. */
export function sniff(head: Uint8Array): Format | null {
  const text = latin1(head)
  if (text.startsWith('\x89PNG\r\n\x1a\n')) return PNG
  if (text.startsWith('\xff\xd8\xff')) return JPEG
  if (text.startsWith('RIFF') && text.slice(8, 12) === 'WEBP') return WEBP
  if (text.slice(4, 8) === 'ftyp' && MP4_BRAND.test(text.slice(8, 12))) return MP4
  if (text.startsWith('\x1a\x45\xdf\xa3') && text.slice(0, 64).includes('webm')) return WEBM
  return null
}

/** What a refused file looks like, for a message: `an HTML page`. */
export function describe(head: Uint8Array): string {
  const format = sniff(head)
  if (format) return NAMES[format.ext] ?? format.mime
  const text = latin1(head).replace(BYTE_ORDER_MARK, '')
  const looks = LOOKS.find(([pattern]) => pattern.test(text))
  if (looks) return looks[1]
  return /^[\t\n\r\x20-\x7e]+$/.test(text) ? 'text' : 'of an unknown type'
}

/** What is taken in its place, for the same message. */
export const NOUNS: Record<StepKind, string> = { image: 'a PNG, JPEG or WebP picture', video: 'an MP4 or WebM film' }

/** Reads what the headers of a file of a known format say. */
export async function inspect(format: Format, size: number, readAt: ReadAt): Promise<Facts> {
  const read = windowed(readAt)
  if (format === PNG) return inspectPng(size, read)
  if (format === JPEG) return inspectJpeg(size, read)
  if (format === WEBP) return inspectWebp(size, read)
  if (format === MP4) return inspectMp4(size, read)
  return inspectWebm(size, read)
}

/** Brands of films. Still pictures (avif, heic), sound (M4A) and QuickTime's reference movies begin with the same box. */
const MP4_BRAND =
  /^(iso[m2-9l]|mp4[12]|mp71|mmp4|avc[1-4]|av01|hvc1|hev1|dash|cmf[cf2]|piff|dby1|M4V[ HP]|MSNV|3g[p2].|f4v )$/

const NAMES: Record<string, string> = {
  png: 'a PNG picture',
  jpg: 'a JPEG picture',
  webp: 'a WebP picture',
  mp4: 'an MP4 film',
  webm: 'a WebM film',
}

/** In Latin-1, as `latin1` reads it. */
const BYTE_ORDER_MARK = /^\xef\xbb\xbf/

const LOOKS: readonly (readonly [RegExp, string])[] = [
  [/^\s*(<\?xml[^>]*>\s*)?(<!--.*?-->\s*)?<svg/is, 'an SVG drawing'],
  [/^(#EXTM3U|ffconcat|\[playlist\])|<MPD[\s>]/i, 'a playlist'],
  [/^\s*(<!doctype html|<html|<head|<body|<\?xml[^>]*>\s*<!doctype html)/i, 'an HTML page'],
  [/^\s*<\?xml/, 'an XML document'],
  [/^\s*[{[]/, 'JSON'],
  [/^GIF8/, 'a GIF'],
  [/^%PDF/, 'a PDF'],
  [/^....ftyp(avif|avis|heic|heix|mif1|msf1)/s, 'an AVIF or HEIC picture'],
  [/^....ftypM4A/s, 'a sound file'],
  [/^....ftypqt/s, 'a QuickTime film'],
  [/^.E\xdf\xa3/, 'a Matroska film'],
  [/^PK/, 'an archive'],
]

async function inspectPng(size: number, read: Read): Promise<Facts> {
  const head = await read(0, 33)
  if (head.length < 33) return { complete: false }
  if (ascii(head, 12, 4) !== 'IHDR') return { complete: true, flaw: 'its first chunk is not IHDR' }
  const facts = { width: u32(head, 16), height: u32(head, 20) }
  for (let at = 8, chunks = 0; at + 12 <= size && chunks < MAX_PARTS; chunks++) {
    const chunk = await read(at, 8)
    if (ascii(chunk, 4, 4) === 'IEND') return { ...facts, complete: true }
    at += u32(chunk, 0) + 12
  }
  return { ...facts, complete: false }
}

async function inspectJpeg(size: number, read: Read): Promise<Facts> {
  const facts: Facts = { complete: false }
  for (let at = 2, parts = 0; at + 4 <= size && parts < MAX_PARTS; parts++) {
    const mark = await read(at, 9)
    const code = mark[1] ?? 0
    if (mark[0] !== 0xff) return { ...facts, complete: true, flaw: 'its segments are broken' }
    if (code === 0xff) {
      at += 1 // fill bytes may precede a marker
      continue
    }
    const frame = code >= 0xc0 && code <= 0xcf && code !== 0xc4 && code !== 0xc8 && code !== 0xcc
    if (frame && mark.length === 9) {
      facts.height = u16(mark, 5)
      facts.width = u16(mark, 7)
    }
    const next = at + 2 + u16(mark, 2)
    // Within scan data a 0xff is always followed by 0x00 or a restart mark, so the first end mark after it is the end.
    if (code === 0xda) return { ...facts, complete: await holdsEndMark(next, size, read) }
    at = next
  }
  return facts
}

async function holdsEndMark(from: number, size: number, read: Read): Promise<boolean> {
  const STRIDE = 65_536
  for (let at = from; at < size; at += STRIDE - 1) {
    const part = await read(at, STRIDE)
    if (Buffer.from(part.buffer, part.byteOffset, part.byteLength).includes(END_OF_IMAGE)) return true
  }
  return false
}

const END_OF_IMAGE = Buffer.from([0xff, 0xd9])

async function inspectWebp(size: number, read: Read): Promise<Facts> {
  const head = await read(0, 30)
  if (head.length < 30) return { complete: false }
  const view = new DataView(head.buffer, head.byteOffset, head.byteLength)
  const complete = view.getUint32(4, true) + 8 <= size
  const type = ascii(head, 12, 4)
  if (type === 'VP8X') {
    return {
      complete,
      width: 1 + (view.getUint32(24, true) & 0xffffff),
      height: 1 + (view.getUint32(26, true) >>> 8),
    }
  }
  if (type === 'VP8L') {
    const bits = view.getUint32(21, true)
    return { complete, width: 1 + (bits & 0x3fff), height: 1 + ((bits >>> 14) & 0x3fff) }
  }
  return { complete, width: view.getUint16(26, true) & 0x3fff, height: view.getUint16(28, true) & 0x3fff }
}

async function inspectMp4(size: number, read: Read): Promise<Facts> {
  let movie: Box | null = null
  let end = 0
  let hasFrames = false
  for await (const box of boxes(0, size, read)) {
    if (box.type === 'moov') movie = box
    if (box.type === 'mdat' || box.type === 'moof') hasFrames = true
    end = box.end
  }
  if (!movie || !hasFrames || end > size) return { complete: false }
  const facts: Facts = { complete: true }
  for await (const box of boxes(movie.start, movie.end, read)) {
    if (box.type === 'mvhd') Object.assign(facts, await lengthOf(box, read))
    if (box.type === 'trak' && !facts.width) Object.assign(facts, await sizeOf(box, read))
  }
  return facts.width ? facts : { ...facts, flaw: 'it has sound only' }
}

/** mvhd: version and flags, two times, the time scale, the duration (ISO/IEC 14496-12, 8.2.2). A live file says 0 or all ones. */
async function lengthOf(box: Box, read: Read): Promise<{ seconds?: number }> {
  const body = await read(box.start, 32)
  const long = body[0] === 1
  if (body.length < (long ? 32 : 20)) return {}
  const scale = u32(body, long ? 20 : 12)
  const duration = long ? u32(body, 24) * 2 ** 32 + u32(body, 28) : u32(body, 16)
  const unknown = scale === 0 || duration === 0 || duration >= (long ? 2 ** 63 : 2 ** 32 - 1)
  return unknown ? {} : { seconds: Math.round((duration / scale) * 1_000) / 1_000 }
}

/** tkhd ends with width and height in 16.16 pixels; sound tracks have none. */
async function sizeOf(track: Box, read: Read): Promise<{ width?: number; height?: number }> {
  for await (const box of boxes(track.start, track.end, read)) {
    if (box.type !== 'tkhd' || box.end - box.start < 84) continue
    const tail = await read(box.end - 8, 8)
    const width = u16(tail, 0)
    return tail.length === 8 && width > 0 ? { width, height: u16(tail, 4) } : {}
  }
  return {}
}

interface Box {
  type: string
  /** Of its content. */
  start: number
  end: number
}

async function* boxes(from: number, to: number, read: Read): AsyncGenerator<Box> {
  for (let at = from, parts = 0; at + 8 <= to && parts < MAX_PARTS; parts++) {
    const head = await read(at, 16)
    const short = u32(head, 0)
    const wide = short === 1
    const length = wide ? u32(head, 8) * 2 ** 32 + u32(head, 12) : short === 0 ? to - at : short
    const start = at + (wide ? 16 : 8)
    if (length < start - at) return
    yield { type: ascii(head, 4, 4), start, end: at + length }
    at += length
  }
}

/** EBML header, then one segment whose length is known, unless the file was written live (all ones). */
async function inspectWebm(size: number, read: Read): Promise<Facts> {
  const header = ebmlSize(await read(4, 8))
  if (!header) return { complete: false }
  const segment = 4 + header.width + header.value
  const length = ebmlSize(await read(segment + 4, 8))
  if (!length) return { complete: false }
  return { complete: length.unknown || segment + 4 + length.width + length.value <= size }
}

function ebmlSize(bytes: Uint8Array): { width: number; value: number; unknown: boolean } | null {
  const first = bytes[0] ?? 0
  const width = Math.clz32(first) - 23
  if (first === 0 || bytes.length < width) return null
  let value = first & (0xff >> width)
  let unknown = value === 0xff >> width
  for (let i = 1; i < width; i++) {
    const byte = bytes[i] ?? 0
    value = value * 256 + byte
    unknown &&= byte === 0xff
  }
  return { width, value, unknown }
}

/** More chunks or boxes than this are an attack on the reader. */
const MAX_PARTS = 100_000

type Read = ReadAt

/** Reads ahead, so that walking over small chunks does not cost a system call each. */
function windowed(readAt: ReadAt): Read {
  const AHEAD = 65_536
  let start = 0
  let window = new Uint8Array()
  return async (from, length) => {
    if (from < start || from + length > start + window.length) {
      start = from
      window = new Uint8Array(await readAt(from, Math.max(length, AHEAD)))
    }
    return window.subarray(from - start, from - start + length)
  }
}

function u16(bytes: Uint8Array, at: number): number {
  return ((bytes[at] ?? 0) << 8) | (bytes[at + 1] ?? 0)
}

function u32(bytes: Uint8Array, at: number): number {
  return u16(bytes, at) * 65_536 + u16(bytes, at + 2)
}

function ascii(bytes: Uint8Array, at: number, length: number): string {
  return latin1(bytes.subarray(at, at + length))
}

function latin1(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('latin1')
}
