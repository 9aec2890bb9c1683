/**
 * What every Media must do, wherever its bytes lie.
 *
 * The rig runs the real storage; only the rows are kept in memory, and a test may let them break.
 */
import { afterEach, beforeEach, describe, expect, test } from 'bun:test'
import type { StepError } from '../../src/core/errors.ts'
import type { KeepOrder, Kept, Media, Opened, StoredMedia } from '../../src/core/ports.ts'
import type { Output } from '../../src/core/run.ts'
import type { MemoryRows } from '../support/memory-rows.ts'
import { sampleFilm, samplePicture, sampleWebm, sha256, streamOf } from '../support/sample-media.ts'

export interface MediaRig {
  media: Media
  rows: MemoryRows
  /** Every stored file, by the vault's own key. */
  stored(): Promise<string[]>
  /** Files that are not finished: none may be left by an order that ended. */
  unfinished(): Promise<string[]>
  /** Marks of files that may be strays. */
  marks(): Promise<string[]>
  /** Loses a stored file. */
  lose(location: string): Promise<void>
  /** Another process on the same folders. */
  reopen(): Promise<Media>
  /** Moves the clock. */
  pass(ms: number): void
  close(): Promise<void>
}

/** Caps of the rig: small, so that tests are quick. */
export const TEST_CAPS = { image: 100_000, video: 300_000, pixels: 1_000_000 }

const DAY = 24 * 3_600_000

export function mediaContract(name: string, open: () => Promise<MediaRig>): void {
  describe(`media on ${name}`, () => {
    let rig: MediaRig
    beforeEach(async () => {
      rig = await open()
    })
    afterEach(() => rig.close())

    keeping(() => rig)
    refusing(() => rig)
    crashing(() => rig)
    stashing(() => rig)
    pruning(() => rig)

    test('the probe succeeds and leaves nothing behind', async () => {
      await rig.media.probe()
      expect(await rig.stored()).toEqual([])
      expect(await rig.unfinished()).toEqual([])
    })
  })
}

function keeping(rig: () => MediaRig): void {
  test('a kept picture has its size, its hash and its bytes', async () => {
    const bytes = await samplePicture('png', 64, 48)
    const output = await keptWithRow(rig(), order({ stream: streamOf(bytes), length: bytes.length }))
    expect(output).toEqual({
      mediaId: ID,
      mime: 'image/png',
      bytes: bytes.length,
      sha256: sha256(bytes),
      width: 64,
      height: 48,
      location: expect.any(String),
    })
    expect(await bytesOf(await rig().media.open(ID))).toEqual(bytes)
    expect(await rig().stored()).toHaveLength(1)
    expect(await rig().unfinished()).toEqual([])
  })

  test('the bytes decide what a file is, not what the sender says', async () => {
    const bytes = await samplePicture('webp', 33, 21)
    const output = ok(await rig().media.keep(order({ stream: streamOf(bytes), mime: 'text/plain' })))
    expect(output).toMatchObject({ mime: 'image/webp', width: 33, height: 21 })
  })

  test('a kept film has its length and its size, wherever its description stands', async () => {
    for (const moov of ['first', 'last'] as const) {
      const film = sampleFilm({ width: 960, height: 540, seconds: 3.5, moov })
      const id = `${ID}-${moov}`
      const output = ok(await rig().media.keep(order({ id, kind: 'video', stream: streamOf(film) })))
      expect(output).toMatchObject({ mime: 'video/mp4', width: 960, height: 540, seconds: 3.5 })
    }
    const webm = ok(await rig().media.keep(order({ kind: 'video', stream: streamOf(sampleWebm()) })))
    expect(webm.mime).toBe('video/webm')
  })

  test('a file that comes byte by byte is kept as one that comes at once', async () => {
    const bytes = await samplePicture('jpeg')
    const slow = ok(await rig().media.keep(order({ stream: streamOf(bytes, 1) })))
    const quick = ok(await rig().media.keep(order({ id: `${ID}-2`, stream: streamOf(bytes, 1e6) })))
    expect(slow).toEqual({ ...quick, mediaId: ID, location: slow.location })
    expect(slow).toMatchObject({ mime: 'image/jpeg', width: 40, height: 30 })
  })

  test('a media remembers whose it is', async () => {
    const bytes = await samplePicture('png')
    const owner = { runId: 'run-1', stepId: 'step-1', apiKeyId: 'key-2', createdAt: 1_234 }
    const output = await keptWithRow(rig(), order({ stream: streamOf(bytes) }), owner)
    const found = await rig().media.find(ID)
    expect(found).toEqual({ ...output, ...owner })
    expect(await rig().media.find(OTHER)).toBeNull()
  })

  test('a file that no row names yet is no media', async () => {
    ok(await rig().media.keep(order({ stream: streamOf(await samplePicture('png')) })))
    expect(await rig().media.find(ID)).toBeNull()
    expect(await rig().media.open(ID)).toBeNull()
  })

  test('two keeps of an id at once are one file', async () => {
    const bytes = await samplePicture('png')
    const both = await Promise.all([0, 1].map(() => rig().media.keep(order({ stream: streamOf(bytes, 100) }))))
    expect(ok(both[0])).toEqual(ok(both[1]))
    expect(await rig().stored()).toHaveLength(1)
    expect(await rig().unfinished()).toEqual([])
  })

  test('a range gives its bytes, both ends included', async () => {
    const bytes = await samplePicture('png', 100, 100)
    await keptWithRow(rig(), order({ stream: streamOf(bytes) }))
    const end = bytes.length - 1
    for (const [start, stop] of [
      [0, 0],
      [7, 19],
      [0, end],
      [end, end],
      [end - 4, end + 50],
    ] as const) {
      const part = await bytesOf(await rig().media.open(ID, { start, end: stop }))
      expect(part).toEqual(bytes.slice(start, stop + 1))
    }
  })

  test('a reader may leave in the middle', async () => {
    const bytes = await samplePicture('png', 100, 100)
    await keptWithRow(rig(), order({ stream: streamOf(bytes) }))
    const reader = (await rig().media.open(ID))?.getReader()
    await reader?.read()
    await reader?.cancel()
    expect(await bytesOf(await rig().media.open(ID))).toEqual(bytes)
  })

  test('what is not there opens as null', async () => {
    expect(await rig().media.open(OTHER)).toBeNull()
    await keptWithRow(rig(), order({ stream: streamOf(await samplePicture('png')) }))
    for (const location of await rig().stored()) await rig().lose(location)
    expect(await rig().media.open(ID)).toBeNull()
    expect(await rig().media.open(ID, { start: 0, end: 5 })).toBeNull()
  })
}

function refusing(rig: () => MediaRig): void {
  const nothingLeft = async () => {
    expect(await rig().stored()).toEqual([])
    expect(await rig().unfinished()).toEqual([])
    expect(rig().rows.rows.size).toBe(0)
  }

  test.each([
    ['an HTML page', '<!DOCTYPE html><html><body>502 Bad Gateway</body></html>'],
    ['an HTML page', '\ufeff  <html lang="en">'],
    ['an SVG drawing', '<?xml version="1.0"?>\n<!-- drawn --><svg xmlns="http://www.w3.org/2000/svg"/>'],
    ['a playlist', '#EXTM3U\n#EXT-X-VERSION:3\nhttp://169.254.169.254/latest'],
    ['a playlist', '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011"/>'],
    ['a playlist', 'ffconcat version 1.0\nfile /etc/passwd'],
    ['JSON', '{"error":"expired"}'],
    ['a GIF', 'GIF89a'],
    ['text', 'AccessDenied'],
    ['of an unknown type', '\u0000\u0001\u0002'],
  ])('%s is refused: %p', async (what, body) => {
    for (const kind of ['image', 'video'] as const) {
      const error = refusal(await rig().media.keep(order({ kind, stream: streamOf(body), mime: 'image/png' })))
      // A host may have said so in place of the file: the next download may bring it.
      expect(error).toMatchObject({ code: 'output_invalid', blame: 'provider', retryable: true })
      expect(error.message).toContain(`is ${what}`)
    }
    await nothingLeft()
  })

  test('a film is no picture, and a picture is no film', async () => {
    const film = refusal(await rig().media.keep(order({ kind: 'image', stream: streamOf(sampleFilm()) })))
    expect(film).toMatchObject({
      message: 'The output is an MP4 film, not a PNG, JPEG or WebP picture.',
      // It is a film each time.
      retryable: false,
    })
    const picture = await rig().media.keep(order({ kind: 'video', stream: streamOf(await samplePicture('png')) }))
    expect(refusal(picture).code).toBe('output_invalid')
    const sound = await rig().media.keep(order({ kind: 'video', stream: streamOf(sampleFilm({ sound: true })) }))
    expect(refusal(sound).message).toContain('sound only')
    const still = await rig().media.keep(order({ kind: 'video', stream: streamOf(sampleFilm({ brand: 'avif' })) }))
    expect(refusal(still).message).toContain('an AVIF or HEIC picture')
    await nothingLeft()
  })

  test('an empty answer is no output', async () => {
    for (const length of [0, null]) {
      expect(refusal(await rig().media.keep(order({ stream: streamOf(''), length }))).code).toBe('output_invalid')
    }
    await nothingLeft()
  })

  test('a file that is shorter or longer than announced is fetched again', async () => {
    const bytes = await samplePicture('png')
    for (const length of [bytes.length + 1, bytes.length - 1, 5_000_0]) {
      const error = refusal(await rig().media.keep(order({ stream: streamOf(bytes), length })))
      expect(error).toMatchObject({ code: 'output_fetch_failed', retryable: true })
    }
    expect(refusal(await rig().media.keep(order({ stream: streamOf(''), length: 10 }))).code).toBe(
      'output_fetch_failed',
    )
    await nothingLeft()
  })

  test('a file without its end is fetched again, a few times only when all that was announced came', async () => {
    const whole = [await samplePicture('png'), await samplePicture('jpeg'), await samplePicture('webp')]
    for (const bytes of whole) {
      const cut = bytes.slice(0, bytes.length - 3)
      const unsure = await rig().media.keep(order({ stream: streamOf(cut) }))
      expect(refusal(unsure).code).toBe('output_fetch_failed')
      const sure = await rig().media.keep(order({ stream: streamOf(cut), length: cut.length }))
      expect(refusal(sure)).toMatchObject({ code: 'output_invalid', retryable: true })
    }
    for (const moov of ['first', 'last'] as const) {
      const film = sampleFilm({ moov })
      const cut = await rig().media.keep(order({ kind: 'video', stream: streamOf(film.slice(0, -9)) }))
      expect(refusal(cut).code).toBe('output_fetch_failed')
    }
    await nothingLeft()
  })

  test('a stream that breaks is fetched again', async () => {
    const bytes = await samplePicture('png', 100, 100)
    const stream = new ReadableStream<Uint8Array>({
      pull(controller) {
        if (controller.desiredSize === 1) controller.enqueue(bytes.slice(0, 700))
        controller.error(new Error('socket hang up, key=secret'))
      },
    })
    const error = refusal(await rig().media.keep(order({ stream })))
    expect(error).toMatchObject({ code: 'output_fetch_failed', blame: 'network', retryable: true })
    expect(error.message).not.toContain('secret')
    await nothingLeft()
  })

  test('an endless file is cut off at its first byte too many', async () => {
    const endless = endlessPng()
    const error = refusal(await rig().media.keep(order({ stream: endless.stream })))
    expect(error.code).toBe('output_invalid')
    expect(endless.canceled).toBeTrue()
    expect(endless.taken).toBeLessThan(TEST_CAPS.image + 20_000)
    await nothingLeft()
  })

  test('a file that announces too much is not read', async () => {
    const body = watched(await samplePicture('png'))
    const error = refusal(await rig().media.keep(order({ stream: body.stream, length: TEST_CAPS.image + 1 })))
    expect(error).toMatchObject({ code: 'output_invalid', retryable: false })
    expect(body).toMatchObject({ taken: 0, canceled: true })
  })

  test('a picture of too many pixels is refused without decoding it', async () => {
    const bytes = Buffer.from(await samplePicture('png'))
    bytes.writeUInt32BE(60_000, 16)
    const error = refusal(await rig().media.keep(order({ stream: streamOf(bytes) })))
    expect(error.message).toBe('The output has 60000 × 30 pixels; at most 1 megapixels are taken.')
    await nothingLeft()
  })
}

function crashing(rig: () => MediaRig): void {
  const png = async () => order({ stream: streamOf(await samplePicture('png')) })

  test('a crash before the row costs no second file', async () => {
    ok(await rig().media.keep(await png()))
    const media = await rig().reopen()
    const output = await keptWithRow({ ...rig(), media }, await png())
    expect(await rig().stored()).toHaveLength(1)
    rig().pass(2 * DAY)
    await media.prune(0)
    expect(await bytesOf(await media.open(ID))).toHaveLength(output.bytes)
  })

  test('the marks of files that have their rows are forgotten, hundreds at a time', async () => {
    const bytes = await samplePicture('png')
    for (let i = 0; i < 600; i++) await keptWithRow(rig(), order({ id: `${ID}-${i}`, stream: streamOf(bytes) }))
    rig().pass(2 * DAY)
    const asked: string[] = []
    const { rows } = rig()
    const media = rows.media.bind(rows)
    rows.media = id => {
      asked.push(id)
      return media(id)
    }
    await rig().media.prune(0)
    expect(asked.length).toBeLessThan(100)
    expect(await rig().stored()).toHaveLength(600)
  })

  test('what is stored and has no row yet is not asked for again by this process', async () => {
    expect(await rig().media.keepAgain(ID, 'image')).toBeNull()
    const output = ok(await rig().media.keep(await png()))
    expect(await rig().media.keepAgain(ID, 'image')).toEqual({ ok: true, output })
    rig().pass(DAY + 60_000)
    expect(await rig().media.prune(0)).toBe(1)
    expect(await rig().media.keepAgain(ID, 'image')).toBeNull()
  })

  test('a file whose row never came is removed a day later', async () => {
    ok(await rig().media.keep(await png()))
    const media = await rig().reopen()
    expect(await media.prune(0)).toBe(0)
    expect(await rig().stored()).toHaveLength(1)
    rig().pass(DAY + 60_000)
    expect(await media.prune(0)).toBe(1)
    expect(await rig().stored()).toEqual([])
  })

  test('a prune leaves alone what a run takes up at that moment', async () => {
    const kept = await keptWithRow(rig(), await png())
    await keptWithRow(rig(), { ...(await png()), id: OTHER })
    rig().rows.takenMeanwhile = kept.mediaId
    expect(await rig().media.prune(Number.MAX_SAFE_INTEGER)).toBe(1)
    expect(await rig().stored()).toEqual([kept.location])
    rig().pass(2 * DAY)
    await rig().media.prune(0)
    expect(await bytesOf(await rig().media.open(ID))).toHaveLength(kept.bytes)
  })

  test.each(['before', 'after'] as const)(
    'a prune that dies %s the rows go leaves no broken link and no file for ever',
    async when => {
      await keptWithRow(rig(), await png())
      rig().rows.breakOnce = { method: 'removeMedia', when, error: new Error('kill -9') }
      await rig()
        .media.prune(Number.MAX_SAFE_INTEGER)
        .catch(() => {})
      for (const row of rig().rows.rows.values()) expect(await rig().stored()).toContain(row.location)
      rig().pass(DAY + 60_000)
      const media = await rig().reopen()
      expect(await media.prune(Number.MAX_SAFE_INTEGER)).toBe(1)
      expect(await rig().stored()).toEqual([])
      expect(rig().rows.rows.size).toBe(0)
    },
  )
}

function stashing(rig: () => MediaRig): void {
  const TOKEN = 'token-abcdefgh'

  test('stashed bytes survive a restart and are numbered', async () => {
    const pictures = [await samplePicture('png'), await samplePicture('jpeg')]
    const urls: string[] = []
    for (const bytes of pictures) urls.push(await rig().media.stash(TOKEN, bytes))
    expect(urls).toEqual([`stash:${TOKEN}/0`, `stash:${TOKEN}/1`])
    const media = await rig().reopen()
    const opened = await Promise.all(urls.map(url => media.openStash(url)))
    expect(opened.map(each => each.ok && [each.mime, each.length])).toEqual([
      ['image/png', pictures[0]?.length ?? 0],
      ['image/jpeg', pictures[1]?.length ?? 0],
    ])
    expect(await bytesOf(streamIn(opened[1]))).toEqual(pictures[1] as Uint8Array)
  })

  test('what is stashed under a token is found by it after a restart, in its order; nothing under another', async () => {
    const urls: string[] = []
    for (let n = 0; n < 11; n += 1) urls.push(await rig().media.stash(TOKEN, Uint8Array.of(n)))
    const media = await rig().reopen()
    expect(await media.stashOf(TOKEN)).toEqual(urls)
    expect(await media.stashOf('token-ijklmnop')).toEqual([])
  })

  test('two stashes at once do not take the same place', async () => {
    const urls = await Promise.all([1, 2, 3, 4].map(n => rig().media.stash(TOKEN, Uint8Array.of(n))))
    const bytes = await Promise.all(urls.map(async url => bytesOf(streamIn(await rig().media.openStash(url)))))
    expect(bytes.map(each => each[0])).toEqual([1, 2, 3, 4])
  })

  test('a stash can be kept', async () => {
    const bytes = await samplePicture('png')
    const opened = await rig().media.openStash(await rig().media.stash(TOKEN, bytes))
    if (!opened.ok) throw new Error(opened.error.message)
    expect(ok(await rig().media.keep(order(opened))).sha256).toBe(sha256(bytes))
  })

  test('a stash that is not there says so and is not asked for again', async () => {
    for (const url of [
      'stash:nobody-here/0',
      `stash:${TOKEN}/7`,
      'stash:../../../etc/passwd/0',
      'https://example.com/',
    ]) {
      const opened = await rig().media.openStash(url)
      expect(opened).toMatchObject({
        ok: false,
        expired: false,
        error: { code: 'output_fetch_failed', retryable: false },
      })
    }
    await expect(rig().media.stash('../../evil', Uint8Array.of(1))).rejects.toThrow('not an id')
  })

  test('a stash is removed after a day, not before', async () => {
    const url = await rig().media.stash(TOKEN, Uint8Array.of(1))
    rig().pass(DAY - 60_000)
    await rig().media.prune(0)
    expect((await rig().media.openStash(url)).ok).toBeTrue()
    rig().pass(120_000)
    expect(await rig().media.prune(0)).toBe(1)
    expect((await rig().media.openStash(url)).ok).toBeFalse()
  })
}

function pruning(rig: () => MediaRig): void {
  test('prune removes what is stale, file and row, and nothing else', async () => {
    const bytes = await samplePicture('png')
    for (let i = 0; i < 5; i++)
      await keptWithRow(rig(), order({ id: `${ID}-${i}`, stream: streamOf(bytes) }), { createdAt: 1_000 * i })
    expect(await rig().media.prune(3_000)).toBe(3)
    expect([...rig().rows.rows.keys()]).toEqual([`${ID}-3`, `${ID}-4`])
    expect(await rig().stored()).toHaveLength(2)
    expect(await rig().media.prune(3_000)).toBe(0)
    expect(await bytesOf(await rig().media.open(`${ID}-3`))).toEqual(bytes)
    expect(await rig().marks()).toEqual([])
  })

  test('where outputs are kept for ever, a prune removes what belongs to no run any more, and nothing else', async () => {
    const picture = async () => streamOf(await samplePicture('png'))
    const kept = await keptWithRow(rig(), order({ stream: await picture() }), { createdAt: 1 })
    ok(await rig().media.keep(order({ id: OTHER, stream: await picture() })))
    const stashed = await rig().media.stash('token-abcdefgh', Uint8Array.of(1))
    rig().pass(DAY - 60_000)
    const young = await rig().media.prune(0)
    rig().pass(40 * DAY)
    const media = await rig().reopen()
    expect([young, await media.prune(0)]).toEqual([0, 2])
    expect([(await media.openStash(stashed)).ok, await rig().stored()]).toEqual([false, [kept.location]])
    expect(await bytesOf(await media.open(kept.mediaId))).toHaveLength(kept.bytes)
  })

  test('prune is not stopped by a file that is gone already', async () => {
    await keptWithRow(rig(), order({ stream: streamOf(await samplePicture('png')) }))
    for (const location of await rig().stored()) await rig().lose(location)
    expect(await rig().media.prune(Number.MAX_SAFE_INTEGER)).toBe(1)
    expect(rig().rows.rows.size).toBe(0)
  })
}

const ID = '0197a1b2-0000-7000-8000-00000000abcd'
const OTHER = '0197a1b2-0000-7000-8000-00000000ffff'

function order(more: Partial<KeepOrder> & Pick<KeepOrder, 'stream'>): KeepOrder {
  return {
    id: ID,
    kind: 'image',
    mime: null,
    length: null,
    ...more,
  }
}

/** Keeps a file and commits its row, as whoever keeps one does. */
async function keptWithRow(
  { media, rows }: Pick<MediaRig, 'media' | 'rows'>,
  what: KeepOrder,
  owner: Partial<StoredMedia> = {},
): Promise<Output> {
  const output = ok(await media.keep(what))
  await rows.addMedia({ runId: null, stepId: null, apiKeyId: 'key-1', createdAt: 1_000, ...output, ...owner })
  return output
}

function ok(kept: Kept | undefined): Output {
  if (!kept?.ok) throw new Error(`not kept: ${kept?.error.message}`)
  return kept.output
}

function refusal(kept: Kept): StepError {
  if (kept.ok) throw new Error('kept what should be refused')
  return kept.error
}

function streamIn(opened: Opened | undefined): ReadableStream<Uint8Array> | null {
  return opened?.ok ? opened.stream : null
}

export async function bytesOf(stream: ReadableStream<Uint8Array> | null): Promise<Uint8Array> {
  if (!stream) throw new Error('nothing to read')
  return new Uint8Array(await new Response(stream).arrayBuffer())
}

interface Watched {
  stream: ReadableStream<Uint8Array>
  /** Bytes that were taken. */
  taken: number
  canceled: boolean
}

/** A stream that knows what was done with it. */
function watched(bytes: Uint8Array): Watched {
  return watch(function* () {
    yield bytes
  })
}

function endlessPng(): Watched {
  return watch(function* () {
    yield Buffer.concat([Buffer.from('\x89PNG\r\n\x1a\n\0\0\0\rIHDR', 'latin1'), new Uint8Array(600)])
    for (;;) yield new Uint8Array(4_096)
  })
}

function watch(chunks: () => Generator<Uint8Array>): Watched {
  const source = chunks()
  const state: Watched = { taken: 0, canceled: false, stream: new ReadableStream() }
  state.stream = new ReadableStream(
    {
      pull(controller) {
        const { done, value } = source.next()
        if (done) return controller.close()
        state.taken += value.length
        controller.enqueue(value)
      },
      cancel() {
        state.canceled = true
      },
    },
    { highWaterMark: 0 },
  )
  return state
}
