/** Reading an input picture, wherever it lies: within what the caller has room for, and only pictures. */
import { describe, expect, test } from 'bun:test'
import { pictureReader } from '../../src/app/pictures.ts'
import type { DownloadRequest, DownloadResult } from '../../src/net/egress/download.ts'
import { EgressError } from '../../src/net/egress/failure.ts'
import { samplePicture } from '../support/sample-media.ts'

const png = await samplePicture('png')
const never = new AbortController().signal
const LINK = 'https://cdn.example.org/a.png'

/** A stream of two halves; `end` throws what ends it instead. */
function inHalves(bytes: Uint8Array, end?: Error): ReadableStream<Uint8Array> {
  const parts = [bytes.subarray(0, 20), bytes.subarray(20)]
  return new ReadableStream({
    pull(controller) {
      const part = parts.shift()
      if (part) controller.enqueue(part)
      else if (end) controller.error(end)
      else controller.close()
    },
  })
}

const reader = (stream: () => ReadableStream<Uint8Array>, length: number | null, asked: DownloadRequest[] = []) =>
  pictureReader(
    { open: async id => (id === 'gone' ? null : stream()) },
    {
      async download(_url, request): Promise<DownloadResult> {
        asked.push(request)
        if (length !== null && length > request.maxBytes) return { type: 'failed', errorClass: 'too_large', detail: '' }
        return { type: 'opened', status: 200, mime: null, length, stream: stream() }
      },
    },
  )

describe('a picture', () => {
  const whole = { ok: true, picture: { mime: 'image/png', bytes: png } }

  test('is read whole from storage, from a link with or without a length, and from a data URI', async () => {
    const [told, untold] = [reader(() => inHalves(png), png.length), reader(() => inHalves(png), null)]
    const read = [
      await told('media:a', never, png.length),
      await told(LINK, never, 1_000_000),
      await untold(LINK, never, png.length),
      await told(`data:image/jpeg;base64,${Buffer.from(png).toString('base64')}`, never),
    ]
    for (const each of read) {
      expect(each).toMatchObject({ ok: true, picture: { mime: 'image/png' } })
      if (each.ok) expect(Buffer.from(each.picture.bytes).equals(whole.picture.bytes)).toBe(true)
    }
  })

  test('that is larger than there is room for is invalid input, whether it says so before or after', async () => {
    const asked: DownloadRequest[] = []
    const late = new EgressError('too_large', 'more')
    const read = [
      await reader(() => inHalves(png), 9_999, asked)(LINK, never, 9_000),
      await reader(() => inHalves(png), null)(LINK, never, 30),
      await reader(() => inHalves(png, late), null)(LINK, never, 9_000),
    ]
    for (const each of read) expect(each).toMatchObject({ ok: false, error: { code: 'invalid_input' } })
    expect(asked[0]?.maxBytes).toBe(9_000)
  })

  test('that breaks off, is gone or is none cannot be fetched', async () => {
    const read = [
      await reader(() => inHalves(png, new Error('reset')), null)(LINK, never, 9_000_000),
      await reader(() => inHalves(png), null)('media:gone', never, 9_000),
      await reader(() => inHalves(new Uint8Array(99)), null)('media:a', never, 99),
    ]
    for (const each of read) expect(each).toMatchObject({ ok: false, error: { code: 'input_fetch_failed' } })
  })
})
