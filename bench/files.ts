/** A picture and a film of a wanted size, whose outsides are right and whose insides are noise. */
import { randomBytes } from 'node:crypto'
import { crc32 } from 'node:zlib'
import { sampleFilm } from '../test/support/sample-media.ts'

/** A PNG of about so many bytes. */
export function picture(bytes: number): Uint8Array<ArrayBuffer> {
  const header = Buffer.alloc(13)
  header.writeUInt32BE(1_024, 0)
  header.writeUInt32BE(1_024, 4)
  header.set([8, 2, 0, 0, 0], 8)
  const signature = Uint8Array.of(0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a)
  const parts = [signature, chunk('IHDR', header), chunk('IDAT', randomBytes(bytes)), chunk('IEND', Buffer.alloc(0))]
  return new Uint8Array(Buffer.concat(parts))
}

/** An MP4 of about so many bytes. */
export function film(bytes: number): Uint8Array<ArrayBuffer> {
  return new Uint8Array(sampleFilm({ payload: bytes }))
}

function chunk(type: string, body: Buffer): Buffer {
  const named = Buffer.concat([Buffer.from(type, 'latin1'), body])
  const [length, sum] = [Buffer.alloc(4), Buffer.alloc(4)]
  length.writeUInt32BE(body.length)
  sum.writeUInt32BE(crc32(named) >>> 0)
  return Buffer.concat([length, named, sum])
}
