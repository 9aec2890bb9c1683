/** Reads an MP4 file as a player would: its boxes, its video track, and the NAL units of its samples. */

export interface Mp4 {
  readonly brands: readonly string[]
  /** Names of the top-level boxes, in order. */
  readonly layout: readonly string[]
  readonly seconds: number
  readonly trackSeconds: number
  /** Size in the track's header and in the sample description. */
  readonly shown: readonly [number, number]
  readonly coded: readonly [number, number]
  readonly codec: string
  /** Profile, constraints and level, as in the codec string `avc1.42c028`. */
  readonly profile: string
  readonly sps: Uint8Array
  readonly pps: Uint8Array
  /** Seconds that each sample lasts. */
  readonly durations: readonly number[]
  readonly samples: readonly Uint8Array[]
  /** Indices of the samples that the file says can be decoded alone. */
  readonly keys: readonly number[]
}

interface Box {
  readonly type: string
  readonly body: DataView
}

export function readMp4(bytes: Uint8Array): Mp4 {
  const top = boxes(new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength))
  const type = pick(top, 'ftyp').body
  const moov = boxes(pick(top, 'moov').body)
  const track = boxes(pick(moov, 'trak').body)
  const media = boxes(pick(track, 'mdia').body)
  const table = boxes(pick(boxes(pick(media, 'minf').body), 'stbl').body)
  const [movieHeader, trackHeader] = [pick(moov, 'mvhd').body, pick(track, 'tkhd').body]
  const mediaHeader = pick(media, 'mdhd').body
  const entry = boxes(tail(pick(table, 'stsd').body, 8))[0]
  if (!entry) throw new Error('No sample description')
  const config = pick(boxes(tail(entry.body, 78)), 'avcC').body
  const spsLength = config.getUint16(6)
  const scale = mediaHeader.getUint32(12)
  return {
    brands: [text(type, 0), ...Array.from({ length: (type.byteLength - 8) / 4 }, (_, i) => text(type, 8 + 4 * i))],
    layout: top.map(box => box.type),
    seconds: movieHeader.getUint32(16) / movieHeader.getUint32(12),
    trackSeconds: mediaHeader.getUint32(16) / scale,
    shown: [trackHeader.getUint32(76) / 65536, trackHeader.getUint32(80) / 65536],
    coded: [entry.body.getUint16(24), entry.body.getUint16(26)],
    codec: entry.type,
    profile: [1, 2, 3].map(i => config.getUint8(i).toString(16).padStart(2, '0')).join(''),
    sps: slice(config, 8, spsLength),
    pps: slice(config, 8 + spsLength + 3, config.getUint16(8 + spsLength + 1)),
    durations: pairs(pick(table, 'stts').body).flatMap(([count, ticks]) => Array<number>(count).fill(ticks / scale)),
    samples: samplesOf(bytes, table),
    keys: list(pick(table, 'stss').body, 4).map(number => number - 1),
  }
}

/** All samples lie one after another from the one chunk that the table names. */
function samplesOf(bytes: Uint8Array, table: readonly Box[]): Uint8Array[] {
  const sizes = list(pick(table, 'stsz').body, 8)
  const chunks = list(pick(table, 'stco').body, 4)
  const [, samplesInChunk] = list(tail(pick(table, 'stsc').body, 4), 0)
  if (chunks.length !== 1 || samplesInChunk !== sizes.length) throw new Error('Expected one chunk with all samples')
  let at = chunks[0] ?? 0
  return sizes.map(size => {
    const sample = bytes.subarray(at, at + size)
    at += size
    return sample
  })
}

function boxes(view: DataView): Box[] {
  const found: Box[] = []
  let at = 0
  while (at < view.byteLength) {
    const size = view.getUint32(at)
    if (size < 8 || at + size > view.byteLength)
      throw new Error(`A box of ${size} bytes at ${at} of ${view.byteLength}`)
    found.push({ type: text(view, at + 4), body: new DataView(view.buffer, view.byteOffset + at + 8, size - 8) })
    at += size
  }
  return found
}

function pick(from: readonly Box[], type: string): Box {
  const [box, another] = from.filter(candidate => candidate.type === type)
  if (!box || another) throw new Error(`Expected one box ${type}`)
  return box
}

function tail(view: DataView, at: number): DataView {
  return new DataView(view.buffer, view.byteOffset + at, view.byteLength - at)
}

function slice(view: DataView, at: number, length: number): Uint8Array {
  return new Uint8Array(view.buffer, view.byteOffset + at, length)
}

function text(view: DataView, at: number): string {
  return String.fromCharCode(...slice(view, at, 4))
}

/** The 32-bit numbers of a full box after its count, which stands at `at`. */
function list(view: DataView, at: number): number[] {
  return Array.from({ length: (view.byteLength - at - 4) / 4 }, (_, i) => view.getUint32(at + 4 + 4 * i))
}

function pairs(view: DataView): [number, number][] {
  const values = list(view, 4)
  return Array.from({ length: values.length / 2 }, (_, i) => [values[2 * i] ?? 0, values[2 * i + 1] ?? 0])
}
