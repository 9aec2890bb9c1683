/** Reading an input picture, wherever it lies: within what the caller has room for and in time, and only pictures. */
import { describe, expect, test } from 'bun:test'
import { type AddressInfo, createServer } from 'node:net'
import { pictureReader } from '../../src/app/pictures.ts'
import { StorageUnavailable } from '../../src/core/ports.ts'
import type { DownloadRequest, DownloadResult } from '../../src/net/egress/download.ts'
import { EgressError } from '../../src/net/egress/failure.ts'
import { s3Vault } from '../../src/store/media/s3.ts'
import { samplePicture } from '../support/sample-media.ts'
import { systemClock } from '../support/system-clock.ts'
import { VirtualClock } from '../support/virtual-clock.ts'

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
    systemClock,
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
      await told(`data:image/PNG;BASE64,${Buffer.from(png).toString('base64')}`, never),
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

/** A stream that gives when it is told to. */
function byHand() {
  const seen = { canceled: false }
  let controller!: ReadableStreamDefaultController<Uint8Array>
  const stream = new ReadableStream<Uint8Array>({
    start(its) {
      controller = its
    },
    cancel() {
      seen.canceled = true
    },
  })
  return { seen, stream, give: (bytes: Uint8Array) => controller.enqueue(bytes), end: () => controller.close() }
}

const turns = async (): Promise<void> => {
  for (let i = 0; i < 10; i += 1) await new Promise(resolve => setImmediate(resolve))
}

/** Reads one picture from a stream by hand; `opens` false: not even the beginning of an answer comes. */
function slowly(
  ref: string,
  { opens = true, grow }: { opens?: boolean; grow?: (bytes: number) => Promise<boolean> } = {},
) {
  const clock = new VirtualClock()
  const source = byHand()
  const quit = new AbortController()
  const { promise: never } = Promise.withResolvers<never>()
  const read = pictureReader(
    { open: async () => (opens ? source.stream : never) },
    {
      async download(_url, { signal }): Promise<DownloadResult> {
        if (opens) return { type: 'opened', status: 200, mime: null, length: null, stream: source.stream }
        await new Promise(resolve => signal?.addEventListener('abort', resolve))
        return { type: 'failed', errorClass: 'aborted', detail: '' }
      },
    },
    clock,
  )
  const seen: { end: unknown } = { end: 'waits' }
  read(ref, quit.signal, 30_000_000, grow).then(
    end => {
      seen.end = end
    },
    error => {
      seen.end = error
    },
  )
  /** So many bytes each second, for so many seconds. */
  const drip = async (bytes: number, seconds: number): Promise<void> => {
    for (let i = 0; i < seconds && seen.end === 'waits'; i += 1) {
      if (bytes > 0) source.give(new Uint8Array(bytes))
      await turns()
      const until = clock.now() + 1_000
      while ((clock.nextAt ?? Number.POSITIVE_INFINITY) <= until) clock.step()
      clock.advance(Math.max(0, until - clock.now()))
      await turns()
    }
  }
  return { ...source, read: seen, quit, drip }
}

describe('a link whose host is slow', () => {
  const tooSlow = { ok: false, error: { code: 'input_fetch_failed', message: 'the input picture came too slowly' } }

  test('is given up when it does not answer, and when it dribbles', async () => {
    for (const link of [slowly(LINK, { opens: false }), slowly(LINK)]) {
      await link.drip(1_000, 8)
      expect(link.read.end).toBe('waits')
      await link.drip(1_000, 2)
      expect(link.read.end).toMatchObject(tooSlow)
    }
  })

  test('has half a minute in all while it sends enough, and stops sending then', async () => {
    const link = slowly(LINK)
    await link.drip(200_000, 29)
    expect(link.read.end).toBe('waits')
    await link.drip(200_000, 1)
    expect(link.read.end).toMatchObject(tooSlow)
    expect(link.seen.canceled).toBe(true)
  })

  test('is not blamed for the time in which its bytes wait for room', async () => {
    const { promise: room, resolve: come } = Promise.withResolvers<boolean>()
    const asked: number[] = []
    const link = slowly(LINK, {
      grow(bytes) {
        asked.push(bytes)
        return room
      },
    })
    link.give(png)
    await link.drip(0, 100)
    expect([link.read.end, asked]).toEqual(['waits', [png.length]])
    come(true)
    link.end()
    await turns()
    expect(link.read.end).toMatchObject({ ok: true })
  })

  test('ends with its signal, and where there is no room for it', async () => {
    const [left, refused] = [slowly(LINK), slowly(LINK, { grow: async () => false })]
    left.quit.abort()
    refused.give(png)
    await turns()
    expect([left.seen.canceled, refused.seen.canceled]).toEqual([true, true])
    for (const { read } of [left, refused]) expect(read.end).toMatchObject({ error: { code: 'input_fetch_failed' } })
  })
})

describe('our own storage', () => {
  test('is to blame for what breaks off, not the caller', async () => {
    const broken = reader(() => inHalves(png, new Error('reset')), null)('media:a', never, png.length)
    await expect(broken).rejects.toBeInstanceOf(StorageUnavailable)
  })

  test('is left when it stands still, before or after its first bytes', async () => {
    for (const stored of [slowly('media:a', { opens: false }), slowly('media:a')]) {
      await stored.drip(0, 28)
      expect(stored.read.end).toBe('waits')
      await stored.drip(0, 3)
      expect(stored.read.end).toBeInstanceOf(StorageUnavailable)
    }
  })

  test('may be slow: what comes in each half minute is enough', async () => {
    const stored = slowly('media:a')
    for (let n = 0; n < 20; n += 1) {
      stored.give(png.subarray(n, n + 1))
      await stored.drip(0, 25)
    }
    stored.give(png.subarray(20))
    stored.end()
    await turns()
    expect(stored.read.end).toMatchObject({ ok: true, picture: { mime: 'image/png' } })
  })

  test('is left at once when the signal says so, and a file that it opens later is let go', async () => {
    const reading = slowly('media:a')
    const { promise, resolve: open } = Promise.withResolvers<ReadableStream<Uint8Array>>()
    const late = byHand()
    const quit = new AbortController()
    const opening = pictureReader(
      { open: () => promise },
      { download: async () => Promise.reject() },
      systemClock,
    )('media:a', quit.signal)
    reading.quit.abort()
    quit.abort()
    expect(await opening.catch(error => error)).toBeInstanceOf(StorageUnavailable)
    open(late.stream)
    await turns()
    expect([reading.read.end instanceof StorageUnavailable, reading.seen.canceled, late.seen.canceled]).toEqual([
      true,
      true,
      true,
    ])
  })

  test('in a bucket that stands still loses its connection with the signal', async () => {
    const { promise: began, resolve: begin } = Promise.withResolvers<void>()
    const { promise: closed, resolve: close } = Promise.withResolvers<void>()
    const bucket = createServer(socket => {
      socket.on('error', () => {})
      socket.on('close', () => close())
      socket.once('data', () => {
        socket.write('HTTP/1.1 200 OK\r\nContent-Length: 5000000\r\nContent-Type: image/png\r\n\r\n')
        socket.write(Buffer.alloc(100_000, 1), () => begin())
      })
    })
    await new Promise<void>(resolve => bucket.listen(0, '127.0.0.1', resolve))
    try {
      const endpoint = `http://127.0.0.1:${(bucket.address() as AddressInfo).port}`
      const access = { accessKeyId: 'a', secretAccessKey: 'b', region: 'us-east-1', endpoint }
      const vault = s3Vault({ bucket: 'bucket', prefix: '' }, access)
      const quit = new AbortController()
      const open = () => vault.read('s3://bucket/a.png')
      const reading = pictureReader(
        { open },
        { download: async () => Promise.reject() },
        systemClock,
      )('media:a', quit.signal)
      await began
      quit.abort()
      expect(await reading.catch(error => error)).toBeInstanceOf(StorageUnavailable)
      await closed
    } finally {
      bucket.close()
    }
  })
})
