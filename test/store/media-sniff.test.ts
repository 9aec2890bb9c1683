import { describe, expect, test } from 'bun:test'
import { describe as describeBytes, type Facts, inspect, sniff } from '../../src/store/media/sniff.ts'
import { sampleFilm, samplePicture, sampleWebm } from '../support/sample-media.ts'

describe('sizes', () => {
  test.each(['png', 'jpeg', 'webp'] as const)('of a %s as its codec sees it', async format => {
    for (const [width, height] of [
      [1, 1],
      [257, 3],
      [64, 2_000],
    ] as const) {
      expect(await look(await samplePicture(format, width, height))).toEqual({ complete: true, width, height })
    }
  })

  test('of a WebP without loss, and of one with extensions', async () => {
    const bits = (120 - 1) | ((77 - 1) << 14)
    const plain = riff('VP8L', [0x2f, bits & 255, (bits >> 8) & 255, (bits >> 16) & 255, bits >>> 24, 0, 0, 0, 0, 0])
    expect(await look(plain)).toEqual({ complete: true, width: 120, height: 77 })
    const extended = riff('VP8X', [0, 0, 0, 0, 0xff, 0x0f, 0, 0x37, 0x02, 0])
    expect(await look(extended)).toEqual({ complete: true, width: 4_096, height: 568 })
  })

  test('of a JPEG behind 200 KB of color profile, fill bytes and a thumbnail', async () => {
    const plain = await samplePicture('jpeg', 90, 70)
    const thumbnail = await samplePicture('jpeg', 8, 8)
    const profile = Array.from({ length: 4 }, () => segment(0xe2, new Uint8Array(50_000)))
    const bytes = Buffer.concat([
      plain.slice(0, 2),
      segment(0xe1, thumbnail),
      ...profile,
      Uint8Array.of(0xff, 0xff),
      plain.slice(2),
    ])
    expect(await look(bytes)).toEqual({ complete: true, width: 90, height: 70 })
    expect(await look(bytes.subarray(0, bytes.length - 2))).toMatchObject({ complete: false, width: 90 })
  })
})

describe('ends', () => {
  test('bytes behind the end of a picture do no harm', async () => {
    for (const format of ['png', 'jpeg', 'webp'] as const) {
      const bytes = Buffer.concat([await samplePicture(format), sampleFilm()])
      expect(await look(bytes)).toMatchObject({ complete: true, width: 40, height: 30 })
    }
  })

  test('every cut of a picture is seen', async () => {
    for (const format of ['png', 'jpeg', 'webp'] as const) {
      const bytes = await samplePicture(format, 16, 16)
      for (let length = 12; length < bytes.length; length++) {
        const { complete, flaw } = await look(bytes.subarray(0, length))
        expect([format, length, complete && flaw === undefined]).toEqual([format, length, false])
      }
    }
  })

  test('every cut of a film is seen', async () => {
    for (const film of [sampleFilm({ payload: 40 }), sampleFilm({ payload: 40, moov: 'last' }), sampleWebm(100)]) {
      expect((await look(film)).complete).toBeTrue()
      for (let length = 70; length < film.length; length++) {
        expect([length, (await look(film.subarray(0, length))).complete]).toEqual([length, false])
      }
    }
  })
})

describe('films', () => {
  test('whose lengths have 64 bits are read', async () => {
    const film = Buffer.from(sampleFilm({ seconds: 0, width: 320, height: 200, payload: 100 }))
    const wide = film.indexOf('mdat') - 4
    const box = Buffer.alloc(16)
    box.writeUInt32BE(1)
    box.write('mdat', 4)
    box.writeBigUInt64BE(116n, 8)
    expect(await look(Buffer.concat([film.subarray(0, wide), box, film.subarray(wide + 8)]))).toEqual({
      complete: true,
      width: 320,
      height: 200,
    })
    const header = film.indexOf('mvhd') + 4
    film[header] = 1
    film.writeUInt32BE(600, header + 20)
    film.writeBigUInt64BE(1_500n, header + 24)
    expect(await look(film)).toMatchObject({ seconds: 2.5 })
  })

  test('whose length nobody knows have none', async () => {
    const film = Buffer.from(sampleFilm())
    film.writeUInt32BE(0xffffffff, film.indexOf('mvhd') + 4 + 16)
    expect(await look(film)).toEqual({ complete: true, width: 640, height: 480 })
  })

  test('with boxes that lead nowhere end the reading', async () => {
    const film = Buffer.from(sampleFilm())
    film.writeUInt32BE(4, film.indexOf('moov') - 4)
    expect((await look(film)).complete).toBeFalse()
    film.writeUInt32BE(0xfffffff0, film.indexOf('moov') - 4)
    expect((await look(film)).complete).toBeFalse()
  })

  test('of other makers of the same box are told apart', () => {
    const brands = {
      isom: true,
      mp42: true,
      iso6: true,
      avc1: true,
      dash: true,
      avif: false,
      heic: false,
      'M4A ': false,
      'qt  ': false,
      'crx ': false,
    }
    for (const [brand, taken] of Object.entries(brands))
      expect([brand, sniff(sampleFilm({ brand })) !== null]).toEqual([brand, taken])
  })
})

test('a hostile file is read in few pieces', async () => {
  const chunks = Buffer.concat(Array.from({ length: 50_000 }, () => Buffer.from('\0\0\0\0junk0000', 'latin1')))
  const bytes = Buffer.concat([(await samplePicture('png')).slice(0, 33), chunks])
  let reads = 0
  const format = sniff(bytes)
  if (!format) throw new Error('not seen')
  const facts = await inspect(format, bytes.length, async (from, length) => {
    reads += 1
    return bytes.subarray(from, from + length)
  })
  expect(facts.complete).toBeFalse()
  expect(reads).toBeLessThan(20)
})

test('what is refused has a name', () => {
  expect(describeBytes(Buffer.from('\xef\xbb\xbf#EXTM3U', 'latin1'))).toBe('a playlist')
  expect(describeBytes(Buffer.from('%PDF-1.7'))).toBe('a PDF')
  expect(describeBytes(Buffer.from('PK\x03\x04....', 'latin1'))).toBe('an archive')
  expect(describeBytes(sampleFilm({ brand: 'qt  ' }))).toBe('a QuickTime film')
  for (const head of ['<svg', ' <svg', '<?xml?><svg', ' <?xml?> <svg', '<!----><svg', ' <?xml?> <!-- --> <svg'])
    expect(describeBytes(Buffer.from(head))).toBe('an SVG drawing')
})

test('a file of blanks has its name soon, however much of it is shown', () => {
  expect(describeBytes(Buffer.alloc(500_000, ' '))).toBe('text')
})

async function look(bytes: Uint8Array): Promise<Facts> {
  const format = sniff(bytes)
  if (!format) return { complete: false }
  return inspect(format, bytes.length, async (from, length) => bytes.subarray(from, from + length))
}

function segment(code: number, body: Uint8Array): Uint8Array {
  const length = body.length + 2
  return Buffer.concat([Uint8Array.of(0xff, code, length >> 8, length & 255), body])
}

function riff(type: string, body: number[]): Uint8Array {
  const head = Buffer.alloc(20)
  head.write('RIFF')
  head.writeUInt32LE(body.length + 12, 4)
  head.write(`WEBP${type}`, 8)
  head.writeUInt32LE(body.length, 16)
  return Buffer.concat([head, Uint8Array.from(body)])
}
