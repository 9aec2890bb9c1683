/**
 * The MP4 around an H.264 stream (ISO/IEC 14496-12 and 14496-15): one video track, its table first, so that it plays while it loads.
 *
 * 1. Every picture lasts equally long, and is shown in the order in which it is stored.
 */
import type { Parameters } from './h264.ts'

/** A coded picture: one NAL unit. `key` marks those that a player can start from. */
export type Sample = { readonly unit: Uint8Array; readonly key: boolean }

export type Track = {
  readonly width: number
  readonly height: number
  readonly fps: number
  readonly parameters: Parameters
  readonly samples: readonly Sample[]
}

/** Ticks of the clock that a picture lasts. */
const TICKS = 512
const LENGTH_BYTES = 4

export function mp4File(track: Track): Uint8Array {
  const type = box('ftyp', text('isom'), u32(0x200), text('isomiso2avc1mp41'))
  const size = track.samples.reduce((sum, { unit }) => sum + LENGTH_BYTES + unit.length, 0)
  const start = type.length + movie(track, 0).length + 8
  const file = new Uint8Array(start + size)
  file.set(type)
  file.set(movie(track, start), type.length)
  file.set(u32(size + 8), start - 8)
  file.set(text('mdat'), start - 4)
  let at = start
  for (const { unit } of track.samples) {
    file.set(u32(unit.length), at)
    file.set(unit, at + LENGTH_BYTES)
    at += LENGTH_BYTES + unit.length
  }
  return file
}

function movie(track: Track, start: number): Uint8Array {
  const { width, height, samples, fps } = track
  const scale = fps * TICKS
  const duration = samples.length * TICKS
  const header = full('mvhd', 0, u32(0, 0, scale, duration, 0x10000), u16(0x100), zeros(10), MATRIX, zeros(24), u32(2))
  // enabled, in the movie, in the preview
  const trackHeader = full(
    'tkhd',
    7,
    u32(0, 0, 1, 0, duration),
    zeros(16),
    MATRIX,
    u32(width * 0x10000, height * 0x10000),
  )
  const mediaHeader = full('mdhd', 0, u32(0, 0, scale, duration), u16(UNDETERMINED, 0))
  const handler = full('hdlr', 0, u32(0), text('vide'), zeros(12), text('Video\0'))
  const data = box('dinf', full('dref', 0, u32(1), full('url ', 1)))
  const media = box('minf', full('vmhd', 1, zeros(8)), data, sampleTable(track, start))
  return box('moov', header, box('trak', trackHeader, box('mdia', mediaHeader, handler, media)))
}

function sampleTable({ width, height, parameters, samples }: Track, start: number): Uint8Array {
  const keys = samples.flatMap(({ key }, i) => (key ? [i + 1] : []))
  const sizes = samples.map(({ unit }) => LENGTH_BYTES + unit.length)
  const entry = box(
    'avc1',
    zeros(6),
    u16(1),
    zeros(16),
    u16(width, height),
    u32(0x480000, 0x480000, 0), // 72 dots an inch
    u16(1),
    zeros(32),
    u16(24, 0xffff),
    configuration(parameters),
    box('colr', text('nclx'), u16(1, 1, 1), new Uint8Array(1)),
    box('pasp', u32(1, 1)),
  )
  return box(
    'stbl',
    full('stsd', 0, u32(1), entry),
    full('stts', 0, u32(1, samples.length, TICKS)),
    full('stss', 0, u32(keys.length, ...keys)),
    full('stsc', 0, u32(1, 1, samples.length, 1)),
    full('stsz', 0, u32(0, samples.length, ...sizes)),
    full('stco', 0, u32(1, start)),
  )
}

function configuration({ sps, pps }: Parameters): Uint8Array {
  const profile = sps.subarray(1, 4)
  const head = Uint8Array.of(1, ...profile, 0xfc | (LENGTH_BYTES - 1), 0xe1)
  return box('avcC', head, u16(sps.length), sps, Uint8Array.of(1), u16(pps.length), pps)
}

/** Language code "und". */
const UNDETERMINED = 0x55c4
const MATRIX = u32(0x10000, 0, 0, 0, 0x10000, 0, 0, 0, 0x40000000)

function box(type: string, ...parts: readonly Uint8Array[]): Uint8Array {
  const size = parts.reduce((sum, part) => sum + part.length, 8)
  return join(u32(size), text(type), ...parts)
}

/** A box with a version, 0, and flags. */
function full(type: string, flags: number, ...parts: readonly Uint8Array[]): Uint8Array {
  return box(type, u32(flags), ...parts)
}

function u32(...values: readonly number[]): Uint8Array {
  const bytes = new Uint8Array(values.length * 4)
  const view = new DataView(bytes.buffer)
  for (const [i, value] of values.entries()) view.setUint32(i * 4, value)
  return bytes
}

function u16(...values: readonly number[]): Uint8Array {
  return Uint8Array.from(values.flatMap(value => [value >> 8, value & 255]))
}

function zeros(count: number): Uint8Array {
  return new Uint8Array(count)
}

function text(value: string): Uint8Array {
  return new TextEncoder().encode(value)
}

function join(...parts: readonly Uint8Array[]): Uint8Array {
  const whole = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0))
  let at = 0
  for (const part of parts) {
    whole.set(part, at)
    at += part.length
  }
  return whole
}
