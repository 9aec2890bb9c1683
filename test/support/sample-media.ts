/** Small real files for tests: pictures by Bun.Image, films box by box. */

/** A plain picture of a size, in pixels. */
export async function samplePicture(format: 'png' | 'jpeg' | 'webp', width = 40, height = 30): Promise<Uint8Array> {
  const image = new Bun.Image(plainBmp(width, height))
  if (format === 'png') return image.png().bytes()
  return format === 'jpeg' ? image.jpeg().bytes() : image.webp().bytes()
}

export interface FilmOptions {
  width?: number
  height?: number
  seconds?: number
  /** Bytes of frames; they hold nothing. */
  payload?: number
  /** Where the description stands: players want it first, cameras write it last. */
  moov?: 'first' | 'last'
  /** Brand of the file (4 characters). */
  brand?: string
  sound?: boolean
}

/** A film whose boxes are right and whose frames are empty. */
export function sampleFilm(options: FilmOptions = {}): Uint8Array {
  const {
    width = 640,
    height = 480,
    seconds = 3,
    payload = 1_000,
    moov = 'first',
    brand = 'isom',
    sound = false,
  } = options
  const scale = 1_000
  const header = box('mvhd', u32(0, 0, 0, scale, Math.round(seconds * scale)), new Uint8Array(80))
  const track = (w: number, h: number) =>
    box('trak', box('tkhd', u32(7), new Uint8Array(72), u32(w * 65_536, h * 65_536)))
  const start = box('ftyp', text(brand), u32(512), text('isomiso2avc1mp41'))
  const description = box('moov', header, track(0, 0), ...(sound ? [] : [track(width, height)]))
  const frames = box('mdat', new Uint8Array(payload))
  return Buffer.concat(moov === 'first' ? [start, description, frames] : [start, frames, description])
}

/** A WebM of which only the outside is real. */
export function sampleWebm(payload = 200): Uint8Array {
  const header = [0x42, 0x82, 0x84, ...text('webm')]
  const segment = Uint8Array.of(0x18, 0x53, 0x80, 0x67, 0x40 | (payload >> 8), payload & 255)
  return Buffer.concat([
    Uint8Array.of(0x1a, 0x45, 0xdf, 0xa3, 0x80 | header.length, ...header),
    segment,
    new Uint8Array(payload),
  ])
}

/** A stream of some bytes, in chunks of at most `size`. */
export function streamOf(bytes: Uint8Array | string, size = 1_000): ReadableStream<Uint8Array> {
  const all = typeof bytes === 'string' ? text(bytes) : bytes
  let at = 0
  return new ReadableStream({
    pull(controller) {
      if (at >= all.length) return controller.close()
      controller.enqueue(all.subarray(at, at + size))
      at += size
    },
  })
}

export function sha256(bytes: Uint8Array): string {
  return new Bun.CryptoHasher('sha256').update(bytes).digest('hex')
}

const text = (value: string): Uint8Array => new TextEncoder().encode(value)

function u32(...values: number[]): Uint8Array {
  const bytes = Buffer.alloc(values.length * 4)
  values.forEach((value, i) => {
    bytes.writeUInt32BE(value, i * 4)
  })
  return bytes
}

function box(type: string, ...parts: Uint8Array[]): Uint8Array {
  const length = parts.reduce((sum, part) => sum + part.length, 8)
  return Buffer.concat([u32(length), text(type), ...parts])
}

/** A BMP with a gradient: Bun.Image takes no raw pixels. */
function plainBmp(width: number, height: number): Uint8Array {
  const stride = (width * 3 + 3) & ~3
  const bmp = Buffer.alloc(54 + stride * height)
  bmp.write('BM')
  bmp.writeUInt32LE(bmp.length, 2)
  bmp.writeUInt32LE(54, 10)
  bmp.writeUInt32LE(40, 14)
  bmp.writeInt32LE(width, 18)
  bmp.writeInt32LE(height, 22)
  bmp.writeUInt16LE(1, 26)
  bmp.writeUInt16LE(24, 28)
  for (let i = 54; i < bmp.length; i++) bmp[i] = (i * 7) & 255
  return bmp
}
