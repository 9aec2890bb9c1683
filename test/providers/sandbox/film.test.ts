import { describe, expect, test } from 'bun:test'
import { InputPictureError } from '../../../src/providers/sandbox/canvas.ts'
import { type FilmOrder, film } from '../../../src/providers/sandbox/film.ts'
import { paint } from '../../../src/providers/sandbox/paint.ts'
import { BitWriter, nalUnit } from '../../../src/providers/sandbox/video/bits.ts'
import { readMp4 } from '../../support/mp4.ts'

const ORDER: FilmOrder = { prompt: 'Slow cinematic orbit', seed: 5, width: 160, height: 128, seconds: 2, fps: 24 }

const input = (prompt = 'a fox'): Promise<Uint8Array> =>
  paint({ prompt, seed: 1, width: 160, height: 128, format: 'jpeg' }).then(picture => picture.bytes)

describe('film', () => {
  test('gives an MP4 of exactly the ordered size, frames and duration', async () => {
    for (const order of [
      ORDER,
      { ...ORDER, width: 64, height: 64, seconds: 1, fps: 1 },
      { ...ORDER, width: 214, height: 98, seconds: 3.5 },
      { ...ORDER, width: 66, height: 180, seconds: 12, fps: 10 },
    ]) {
      const frames = Math.round(order.seconds * order.fps)
      const made = await film(order, await input())
      expect(made).toMatchObject({ mime: 'video/mp4', width: order.width, height: order.height, frames })
      const file = readMp4(made.bytes)
      expect(file.seconds).toBe(order.seconds)
      expect(file.trackSeconds).toBe(order.seconds)
      expect(file.shown).toEqual([order.width, order.height])
      expect(file.coded).toEqual([order.width, order.height])
      expect(file.samples).toHaveLength(frames)
      expect(file.durations).toEqual(Array(frames).fill(1 / order.fps))
    }
  })

  test('is H.264 of a profile that every player knows, with its table before its data', async () => {
    const file = readMp4((await film(ORDER, await input())).bytes)
    expect(file.codec).toBe('avc1')
    expect(file.profile).toBe('42c01e')
    expect(file.layout).toEqual(['ftyp', 'moov', 'mdat'])
    expect(file.brands).toContain('mp41')
    expect([file.sps[0], file.pps[0]]).toEqual([0x67, 0x68])
  })

  test('can be entered twice a second, and no picture depends on one that is not a key', async () => {
    const file = readMp4((await film(ORDER, await input())).bytes)
    expect(file.keys).toEqual([0, 12, 24, 36])
    for (const [i, sample] of file.samples.entries()) {
      const length = new DataView(sample.buffer, sample.byteOffset).getUint32(0)
      expect(length).toBe(sample.length - 4)
      // Reference importance and unit type: an IDR slice, or a slice that nothing refers to.
      expect(sample[4]).toBe(file.keys.includes(i) ? 0x65 : 0x01)
      expect(Buffer.from(sample.subarray(4)).indexOf(Buffer.from([0, 0, 1]))).toBe(-1)
    }
  })

  test('names the level that its size needs', async () => {
    const profile = async (width: number, height: number): Promise<string> =>
      readMp4((await film({ ...ORDER, width, height, seconds: 1 }, await input())).bytes).profile
    expect(await profile(864, 496)).toBe('42c01f')
    expect(await profile(1920, 1088)).toBe('42c028')
  }, 30_000)

  test('moves: its pictures are not all the same', async () => {
    const { samples, keys } = readMp4((await film(ORDER, await input())).bytes)
    const kinds = new Set(samples.map(sample => Bun.hash(sample.subarray(10))))
    expect(kinds.size).toBeGreaterThan(30)
    expect(keys.map(i => samples[i]?.length).every(size => size !== undefined && size > 1000)).toBe(true)
  })

  test('gives the same bytes for the same order and input, and others for another seed, prompt or input', async () => {
    const first = await film(ORDER, await input())
    expect(await film(ORDER, await input())).toEqual(first)
    expect((await film({ ...ORDER, seed: 6 }, await input())).bytes).not.toEqual(first.bytes)
    expect((await film({ ...ORDER, prompt: 'Pan to the left' }, await input())).bytes).not.toEqual(first.bytes)
    expect((await film(ORDER, await input('a lake'))).bytes).not.toEqual(first.bytes)
  })

  test('films what the painter makes of the prompt when there is no input', async () => {
    const order = { ...ORDER, prompt: 'a teal product on a pedestal' }
    const { width, height } = order
    const picture = await paint({ prompt: order.prompt, seed: order.seed, width, height, format: 'png' })
    const [alone, fromPicture] = [await film(order, null), await film(order, picture.bytes)]
    // The same first frame but for the dither that a PNG rounds into its bytes.
    const [a = 0, b = 0] = [alone, fromPicture].map(({ bytes }) => readMp4(bytes).samples[0]?.length)
    expect(Math.abs(a - b)).toBeLessThan(0.1 * a)
  })

  test('stays small, however noisy the input', async () => {
    const noise = new Uint8Array(54 + 256 * 256 * 3)
    const head = new DataView(noise.buffer)
    noise.set([0x42, 0x4d])
    for (const [at, value] of [
      [2, noise.length],
      [10, 54],
      [14, 40],
      [18, 256],
      [22, 256],
      [26, 0x180001],
    ] as const) {
      head.setUint32(at, value, true)
    }
    for (let i = 54, state = 1; i < noise.length; i++) {
      state = (Math.imul(state, 1103515245) + 12345) >>> 0
      noise[i] = state >>> 24
    }
    const { samples } = readMp4((await film({ ...ORDER, width: 256, height: 256, seconds: 1 }, noise)).bytes)
    expect(samples[0]!.length).toBeLessThan(256 * 256 * 0.3)
    expect(samples[1]!.length).toBeLessThan(600)
  })

  test('refuses orders beyond its limits', async () => {
    for (const wrong of [
      { width: 161 },
      { height: 62 },
      { width: 1922 },
      { width: 1600, height: 1600 },
      { seconds: 0.5 },
      { seconds: 61 },
      { seconds: Number.NaN },
      { fps: 0 },
      { fps: 23.976 },
    ]) {
      await expect(film({ ...ORDER, ...wrong }, null)).rejects.toBeInstanceOf(RangeError)
    }
  })

  test('refuses an input that is no picture with a typed error', async () => {
    await expect(film(ORDER, new Uint8Array(100))).rejects.toBeInstanceOf(InputPictureError)
  })
})

describe('the bits of H.264', () => {
  const bits = (write: (out: BitWriter) => void): string => {
    const out = new BitWriter(1)
    write(out)
    const text = [...out.end()].map(byte => byte.toString(2).padStart(8, '0')).join('')
    return text.slice(0, text.lastIndexOf('1'))
  }

  test('are Exp-Golomb codes for numbers', () => {
    // ITU-T H.264, tables 9-1 and 9-3.
    expect([0, 1, 2, 3, 7].map(n => bits(out => out.ue(n)))).toEqual(['1', '010', '011', '00100', '0001000'])
    expect([0, 1, -1, 2, -2].map(n => bits(out => out.se(n)))).toEqual(['1', '010', '011', '00100', '00101'])
    expect(bits(out => out.ue(4095))).toBe('0000000000001000000000000')
  })

  test('never look like a start code inside a unit', () => {
    const unit = nalUnit(0x65, Uint8Array.of(0, 0, 0, 0, 0, 1, 0, 0, 3, 0, 0, 4))
    expect([...unit]).toEqual([0x65, 0, 0, 3, 0, 0, 3, 0, 1, 0, 0, 3, 3, 0, 0, 4])
  })
})
