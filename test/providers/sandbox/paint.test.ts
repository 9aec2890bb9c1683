import { describe, expect, test } from 'bun:test'
import {
  type Canvas,
  createCanvas,
  decodeCover,
  encodePicture,
  InputPictureError,
  type PictureFormat,
} from '../../../src/providers/sandbox/canvas.ts'
import { caption } from '../../../src/providers/sandbox/caption.ts'
import { setLine, spell, wrap } from '../../../src/providers/sandbox/font.ts'
import { paint, transform } from '../../../src/providers/sandbox/paint.ts'
import { paletteOf } from '../../../src/providers/sandbox/palette.ts'

const PROMPT = 'A futuristic wireless headphone product on a clean reflective pedestal, teal and violet studio lighting'
const FORMATS: readonly PictureFormat[] = ['png', 'jpeg', 'webp']
/** The first bytes of each format, as Latin-1. */
const MAGIC: Record<PictureFormat, string> = { png: '\x89PNG\r\n\x1a\n', jpeg: '\xff\xd8\xff', webp: 'RIFF' }

describe('paint', () => {
  for (const format of FORMATS) {
    test(`gives a ${format} of exactly the ordered size`, async () => {
      for (const [width, height] of [
        [64, 64],
        [333, 200],
        [96, 512],
      ] as const) {
        const picture = await paint({ prompt: PROMPT, seed: 593, width, height, format })
        expect(await new Bun.Image(picture.bytes).metadata()).toEqual({ width, height, format })
        expect(Buffer.from(picture.bytes.subarray(0, 8)).toString('latin1')).toStartWith(MAGIC[format])
        expect(picture).toMatchObject({ mime: `image/${format}`, width, height })
      }
    })
  }

  test('paints the largest and the longest pictures', async () => {
    for (const [width, height] of [
      [4096, 4096],
      [4096, 64],
      [64, 4096],
    ] as const) {
      const { bytes } = await paint({ prompt: 'a lake', seed: 1, width, height, format: 'jpeg' })
      expect(await new Bun.Image(bytes).metadata()).toMatchObject({ width, height })
    }
  }, 30_000)

  test('gives the same bytes for the same order, and others for another seed or prompt', async () => {
    for (const prompt of [PROMPT, 'a lake in the mountains', 'abstract silk']) {
      const order = { prompt, seed: 7, width: 160, height: 128, format: 'png' } as const
      const first = await paint(order)
      expect(await paint(order)).toEqual(first)
      expect((await paint({ ...order, seed: 8 })).bytes).not.toEqual(first.bytes)
      expect((await paint({ ...order, prompt: `${prompt}.` })).bytes).not.toEqual(first.bytes)
    }
  })

  test('takes any prompt and any seed', async () => {
    const prompts = ['', '   ', '\u0000\n\t', '🎉🎊', '赤い着物', '\ud800', 'x'.repeat(20_000), '</svg>"\'']
    for (const [i, prompt] of prompts.entries()) {
      const seed = [0, -1, 2 ** 53, 0.5][i % 4] ?? 0
      const { bytes } = await paint({ prompt, seed, width: 160, height: 160, format: 'webp' })
      expect(bytes.length).toBeGreaterThan(200)
    }
  })

  test('lights the scene in the colors that the prompt names', async () => {
    const mean = async (prompt: string): Promise<readonly number[]> => {
      const { bytes } = await paint({ prompt, seed: 3, width: 128, height: 128, format: 'png' })
      return meanColor(await decodeCover(bytes, { width: 128, height: 128 }))
    }
    const [red, green] = await mean('a crimson product')
    const [r, g, b] = await mean('an emerald product')
    expect(red).toBeGreaterThan(1.5 * (green ?? 0))
    expect(g).toBeGreaterThan(1.2 * Math.max(r ?? 0, b ?? 0))
    expect(paletteOf('bright white room', 1).mood).toBe('light')
    expect(paletteOf('bright neon at night', 1).mood).toBe('dark')
  })

  test('refuses sizes beyond its limits', async () => {
    for (const [width, height] of [
      [63, 64],
      [64, 4097],
      [100.5, 100],
      [Number.NaN, 100],
    ] as const) {
      const painted = paint({ prompt: 'x', seed: 1, width, height, format: 'png' })
      await expect(painted).rejects.toBeInstanceOf(RangeError)
    }
  })
})

describe('the caption', () => {
  const on = (prompt: string, frosted = false): Canvas => {
    const canvas = createCanvas(400, 400)
    canvas.light.fill(0.1)
    caption(canvas, prompt, paletteOf('teal', 1), frosted)
    return canvas
  }
  const part = ({ light }: Canvas, fromRow: number, toRow: number): Float32Array =>
    light.slice(fromRow * 1200, toRow * 1200)

  test('shows the prompt at the foot of the picture and nowhere else', () => {
    const [one, other] = [on('a red fox'), on('a blue whale')]
    expect(part(one, 340, 400)).not.toEqual(part(other, 340, 400))
    expect(part(one, 0, 320)).toEqual(part(other, 0, 320))
  })

  test('is bright on a dark picture and dark on a bright one', () => {
    const bright = createCanvas(400, 400)
    bright.light.fill(0.9)
    caption(bright, 'a red fox', paletteOf('teal', 1), false)
    expect(part(on('a red fox'), 350, 380).some(value => value > 0.7)).toBe(true)
    expect(part(bright, 350, 380).some(value => value < 0.3)).toBe(true)
  })

  test('covers a caption that is already there when it is frosted', () => {
    const twice = on('an old prompt that is long enough to take up two lines of this small picture')
    caption(twice, 'new', paletteOf('teal', 1), true)
    const once = on('new', true)
    const [a, b] = [part(twice, 330, 400), part(once, 330, 400)]
    expect(a.every((value, i) => Math.abs(value - b[i]!) < 0.06)).toBe(true)
  })

  test('is left out where nobody could read it', () => {
    const tiny = createCanvas(64, 64)
    tiny.light.fill(0.1)
    caption(tiny, 'a red fox', paletteOf('teal', 1), false)
    expect(tiny.light.every(value => value === Math.fround(0.1))).toBe(true)
  })

  test('has a letter or a mark for every character', () => {
    expect(spell('Ünïcode naïve Œuvre ½')).toBe('Unicode naive Oeuvre 1/2')
    expect(spell('Привет, κόσμος')).toBe('Privet, kosmos')
    expect(spell(' a\n\tb\u0007c 🎉 ')).toBe('a b c')
    expect(spell('漢字')).toHaveLength(2)
    expect(spell('漢字')).not.toBe(spell('仮名'))
    for (let code = 33; code < 127; code++) {
      const char = String.fromCharCode(code)
      if (char === '`') continue
      expect(spell(char)).toBe(char)
      expect(setLine(char).segments.length).toBeGreaterThan(0)
    }
  })

  test('wraps between words, breaks long ones, and ends what does not fit in an ellipsis', () => {
    expect(wrap('a red fox', 2000, 2)).toEqual(['a red fox'])
    const rows = wrap(spell(PROMPT), 1500, 2)
    expect(rows).toHaveLength(2)
    expect(rows[1]).toEndWith('…')
    const long = wrap('x'.repeat(200), 1000, 2)
    expect(long).toHaveLength(2)
    for (const row of [...rows, ...long]) expect(setLine(row).width).toBeLessThanOrEqual(1500)
    expect(wrap('', 1000, 2)).toEqual([])
  })
})

describe('transform', () => {
  test('keeps what one recognizes, and changes how it looks', async () => {
    const input = (await paint({ prompt: PROMPT, seed: 593, width: 256, height: 256, format: 'jpeg' })).bytes
    for (const prompt of ['golden hour in the desert, amber', 'pastel pink, bright', 'noir silver']) {
      const order = { prompt, seed: 4, width: 256, height: 256, format: 'png' } as const
      const { bytes } = await transform(order, input)
      const size = { width: 64, height: 64 }
      const [before, after] = [await decodeCover(input, size), await decodeCover(bytes, size)]
      expect(correlation(before, after)).toBeGreaterThan(0.6)
      expect(meanDifference(before, after)).toBeGreaterThan(0.03)
    }
  })

  test('gives the same bytes for the same order and input, and others for another seed, prompt or input', async () => {
    const input = await testCard('png')
    const order = { prompt: 'violet', seed: 1, width: 128, height: 96, format: 'jpeg' } as const
    const first = await transform(order, input)
    expect(await transform(order, input)).toEqual(first)
    expect((await transform({ ...order, seed: 2 }, input)).bytes).not.toEqual(first.bytes)
    expect((await transform({ ...order, prompt: 'teal' }, input)).bytes).not.toEqual(first.bytes)
    const other = (await paint({ prompt: 'a fox', seed: 1, width: 96, height: 96, format: 'webp' })).bytes
    expect((await transform(order, other)).bytes).not.toEqual(first.bytes)
  })

  for (const format of FORMATS) {
    test(`takes a ${format} and gives the ordered size in the ordered format`, async () => {
      const input = await testCard(format)
      const copy = input.slice()
      const { bytes } = await transform({ prompt: 'red', seed: 1, width: 200, height: 72, format }, input)
      expect(await new Bun.Image(bytes).metadata()).toEqual({ width: 200, height: 72, format })
      expect(input).toEqual(copy)
    })
  }

  test('keeps the size of the input when none is ordered, rounded down to a multiple', async () => {
    const input = await testCard('png', { width: 203, height: 117 })
    const order = { prompt: 'red', seed: 1, format: 'png' } as const
    expect(await transform(order, input)).toMatchObject({ width: 203, height: 117 })
    expect(await transform({ ...order, width: 0, height: 0 }, input)).toMatchObject({ width: 203, height: 117 })
    expect(await transform({ ...order, multiple: 16 }, input)).toMatchObject({ width: 192, height: 112 })
    const small = await testCard('png', { width: 20, height: 4 })
    expect(await transform({ ...order, multiple: 48 }, small)).toMatchObject({ width: 96, height: 96 })
  })

  test('cuts the middle out of an input of another shape', async () => {
    const input = await testCard('png', { width: 600, height: 60 })
    const size = { width: 60, height: 60 }
    const middle = await decodeCover(input, size)
    // The test card is red at the left, blue at the right, and green between.
    const [red = 0, green = 0, blue = 0] = meanColor(middle)
    expect(green).toBeGreaterThan(3 * Math.max(red, blue))
  })

  test('turns a photograph upright that a camera held sideways', async () => {
    const lying = await testCard('jpeg', { width: 180, height: 60 })
    // APP1 with a TIFF header and one entry: orientation 6.
    const exif = Buffer.from(
      'ffe10022457869660000 4d4d002a00000008 0001 011200030000000100060000 00000000'.replaceAll(' ', ''),
      'hex',
    )
    const photo = new Uint8Array(Buffer.concat([lying.subarray(0, 2), exif, lying.subarray(2)]))
    expect(await transform({ prompt: 'x', seed: 1, format: 'png' }, photo)).toMatchObject({ width: 64, height: 180 })
    const upright = await decodeCover(photo, { width: 60, height: 180 })
    expect([...upright.light.subarray(90, 93)].map(value => value > 0.5)).toEqual([true, false, false])
  })

  test('refuses what is no picture with a typed error', async () => {
    const png = await testCard('png')
    const order = { prompt: 'red', seed: 1, width: 64, height: 64, format: 'png' } as const
    for (const bad of [new Uint8Array(), new TextEncoder().encode('<html>'), png.slice(0, 300)]) {
      const error = await transform(order, bad).catch(caught => caught)
      expect(error).toBeInstanceOf(InputPictureError)
      expect(error).toMatchObject({ name: 'InputPictureError', code: 'undecodable' })
    }
  })

  test('refuses a picture of more than 64 megapixels before it takes memory for it', async () => {
    const error = await transform({ prompt: 'red', seed: 1, format: 'png' }, headerOf(8001, 8001)).catch(
      caught => caught,
    )
    expect(error).toBeInstanceOf(InputPictureError)
    expect(error).toMatchObject({ code: 'too_large' })
  })
})

/** A picture with three vertical bands (red, green, blue) and a bright disc in the middle. */
async function testCard(format: PictureFormat, { width, height } = { width: 180, height: 120 }): Promise<Uint8Array> {
  const canvas = createCanvas(width, height)
  for (let y = 0, i = 0; y < height; y++) {
    for (let x = 0; x < width; x++, i += 3) {
      canvas.light[i + Math.floor((3 * x) / width)] = 0.6
      if (Math.hypot(x - width / 2, y - height / 2) < height / 8) canvas.light.fill(0.95, i, i + 3)
    }
  }
  return encodePicture(canvas, format)
}

/** A PNG that ends after its header, which claims this size. */
function headerOf(width: number, height: number): Uint8Array {
  const png = Buffer.alloc(33)
  png.write('\x89PNG\r\n\x1a\n', 0, 'latin1')
  png.writeUInt32BE(13, 8)
  png.write('IHDR', 12, 'latin1')
  png.writeUInt32BE(width, 16)
  png.writeUInt32BE(height, 20)
  png.set([8, 2, 0, 0, 0], 24)
  png.writeUInt32BE(Bun.hash.crc32(png.subarray(12, 29)), 29)
  return new Uint8Array(png)
}

function meanColor({ light }: Canvas): readonly number[] {
  const sums = [0, 0, 0]
  for (let i = 0; i < light.length; i++) sums[i % 3]! += (light[i]! * 3) / light.length
  return sums
}

/** Brightness of the picture above its caption, on the scale that the eye has. */
function brightness({ width, height, light }: Canvas): readonly number[] {
  const count = Math.floor(width * height * 0.75)
  return Array.from({ length: count }, (_, i) => Math.sqrt((light[3 * i]! + light[3 * i + 1]! + light[3 * i + 2]!) / 3))
}

function correlation(a: Canvas, b: Canvas): number {
  const [x, y] = [brightness(a), brightness(b)]
  const mean = (v: readonly number[]): number => v.reduce((sum, value) => sum + value, 0) / v.length
  const [mx, my] = [mean(x), mean(y)]
  const spread = (v: readonly number[], m: number): number => Math.sqrt(mean(v.map(value => (value - m) ** 2)))
  return mean(x.map((value, i) => (value - mx) * ((y[i] ?? 0) - my))) / (spread(x, mx) * spread(y, my))
}

function meanDifference(a: Canvas, b: Canvas): number {
  return a.light.reduce((sum, value, i) => sum + Math.abs(value - b.light[i]!), 0) / a.light.length
}
