import { afterEach, beforeEach, describe, expect, test } from 'bun:test'
import { mkdtemp, readdir, rename, rm, unlink, utimes, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type KeepOrder, type Kept, StorageUnavailable } from '../../src/core/ports.ts'
import { type MediaOptions, openMedia } from '../../src/store/media/media.ts'
import { s3Access, s3Address } from '../../src/store/media/s3.ts'
import { bytesOf, type MediaRig, mediaContract, TEST_CAPS } from '../contract/media.contract.ts'
import { MemoryRows } from '../support/memory-rows.ts'
import { type MiniS3, miniS3 } from '../support/mini-s3.ts'
import { sampleFilm, samplePicture, sha256, streamOf } from '../support/sample-media.ts'

const ID = '0197a1b2-0000-7000-8000-0000000012ab'
const FILM = '0197a1b2-0000-7000-8000-0000000034cd'
const KEY = { accessKeyId: 'test', secretAccessKey: 'test', wait: async () => {} }

mediaContract('disk', () => openRig('disk'))
mediaContract('s3', () => openRig('s3'))

describe('media on disk, its own ways', () => {
  let rig: Rig
  beforeEach(async () => {
    rig = await openRig('disk')
  })
  afterEach(() => rig.close())

  test('files lie in folders by the random end of their id', async () => {
    await keep(rig, { stream: streamOf(await samplePicture('jpeg')) })
    expect(await rig.stored()).toEqual([`ab/${ID}.jpg`])
  })

  test('a folder that cannot be written is our trouble, and passes with the trouble', async () => {
    const spool = join(rig.dataDir, 'media', 'spool')
    await rm(spool, { recursive: true })
    const folder = join(rig.dataDir, 'media', 'ab')
    for (const path of [spool, folder]) await writeFile(path, 'in the way')
    const kept = await keep(rig, { stream: streamOf(await samplePicture('png')) })
    expect(kept).toMatchObject({ ok: false, error: { code: 'storage_unavailable', blame: 'us', retryable: true } })
    await expect(rig.media.probe()).rejects.toThrow(StorageUnavailable)
    for (const path of [spool, folder]) await unlink(path)
    await rig.reopen()
    expect((await keep(rig, { stream: streamOf(await samplePicture('png')) })).ok).toBeTrue()
  })

  test('what a death left half of an answer is not found, and what comes after it is', async () => {
    const folder = join(rig.dataDir, 'media', 'stash', 'token-abcdefgh')
    const first = await rig.media.stash('token-abcdefgh', Uint8Array.of(1))
    await writeFile(join(folder, '1'), '')
    await writeFile(join(folder, `${ID}.part`), 'half')
    const media = await rig.reopen()
    expect(await media.stashOf('token-abcdefgh')).toEqual([first])
    const next = await media.stash('token-abcdefgh', Uint8Array.of(2))
    expect(await media.stashOf('token-abcdefgh')).toEqual([first, next])
  })

  test('a disk that does not say what is stashed is in trouble, and has not lost it', async () => {
    await writeFile(join(rig.dataDir, 'media', 'stash', 'token-abcdefgh'), 'in the way')
    await expect(rig.media.stashOf('token-abcdefgh')).rejects.toThrow(StorageUnavailable)
  })

  test('a name that is none of ours names no file', async () => {
    for (const id of ['../../escape', 'a/b-c-d-e', '', 'x'.repeat(129), '..........'])
      await expect(rig.media.keep({ ...ORDER, id, stream: streamOf(new Uint8Array(9)) })).rejects.toThrow('not an id')
    expect(await rig.unfinished()).toEqual([])
  })

  test('a picture of a hundred megapixels is taken, and not of more', async () => {
    const media = await rig.reopen({ caps: {} })
    const sized = async (width: number, height: number) => {
      const png = Buffer.from(await samplePicture('png'))
      png.writeUInt32BE(width, 16)
      png.writeUInt32BE(height, 20)
      return media.keep({ ...ORDER, id: crypto.randomUUID(), stream: streamOf(png) })
    }
    expect(await sized(10_000, 10_000)).toMatchObject({ ok: true, output: { width: 10_000 } })
    expect(await sized(10_001, 10_000)).toMatchObject({ ok: false, error: { code: 'output_invalid' } })
  })

  test('the probe says how much room is missing', async () => {
    const media = await rig.reopen({ minFreeBytes: 2 ** 60 })
    await expect(media.probe()).rejects.toThrow(
      /^only \d+ MiB are free for media; at least 1099511627776 MiB are needed/,
    )
  })

  test('a root that is neither disk nor a bucket is refused', async () => {
    await expect(openMedia({ dataDir: rig.dataDir, root: 'ftp://host/x', rows: rig.rows })).rejects.toThrow(
      'not to "ftp://host/x"',
    )
  })
})

describe('media in a bucket, its own ways', () => {
  let rig: Rig & { s3: MiniS3 }
  beforeEach(async () => {
    const made = await openRig('s3')
    if (!made.s3) throw new Error('no bucket')
    rig = { ...made, s3: made.s3 }
  })
  afterEach(() => rig.close())

  test('objects lie below the prefix and carry their type', async () => {
    await keep(rig, { stream: streamOf(await samplePicture('png')) })
    const [[key, object] = []] = [...rig.s3.objects]
    expect(key).toBe(`outputs/tenant/a/12/ab/${ID}.png`)
    expect(object?.type).toBe('image/png')
    expect((await rig.rows.media(ID))?.location).toBe(`s3://outputs/tenant/a/12/ab/${ID}.png`)
  })

  test('a large film goes up in parts', async () => {
    const film = sampleFilm({ payload: 20_000_000 })
    const media = await rig.reopen({ caps: {} })
    const kept = await keep({ ...rig, media }, { kind: 'video', stream: streamOf(film, 100_000) })
    expect(kept.ok).toBeTrue()
    expect(rig.s3.requests).toMatchObject({ POST: 2, PUT: 4 })
    const part = await bytesOf(await media.open(ID, { start: 19_999_000, end: 19_999_999 }))
    expect(part).toHaveLength(1_000)
    expect(await bytesOf(await media.open(ID))).toEqual(film)
  })

  test('a bucket that is busy for a moment costs a moment', async () => {
    rig.s3.failNext(2)
    const bytes = await samplePicture('png')
    expect((await keep(rig, { stream: streamOf(bytes) })).ok).toBeTrue()
    rig.s3.failNext(2)
    expect(await bytesOf(await rig.media.open(ID))).toEqual(bytes)
    rig.s3.failNext(2)
    await rig.media.probe()
    rig.s3.failNext(2)
    expect(await rig.media.prune(Number.MAX_SAFE_INTEGER)).toBe(1)
    expect(rig.s3.objects.size).toBe(0)
  })

  test('a bucket that stays busy is our trouble, and nothing is half made', async () => {
    rig.s3.failNext(1_000)
    const kept = await keep(rig, { stream: streamOf(await samplePicture('png')) })
    expect(kept).toMatchObject({ ok: false, error: { code: 'storage_unavailable', retryable: true } })
    await expect(rig.media.probe()).rejects.toThrow(
      'cannot write a file in the bucket: it does not answer as it should (SlowDown)',
    )
    expect(rig.rows.rows.size).toBe(0)
    expect(await rig.unfinished()).toEqual([])
    rig.s3.failNext(0)
    expect((await keep(rig, { stream: streamOf(await samplePicture('png')) })).ok).toBeTrue()
  })

  test('an output that the bucket refused is held here and stored later without another download', async () => {
    const small = await samplePicture('png')
    const film = sampleFilm({ payload: 270_000 })
    rig.s3.failNext(1_000)
    const refused = { ok: false, error: { code: 'storage_unavailable' } }
    expect(await keep(rig, { stream: streamOf(small) })).toMatchObject(refused)
    expect(await keep(rig, { id: FILM, kind: 'video', stream: streamOf(film) })).toMatchObject(refused)
    expect(await rig.media.keepAgain(ID, 'image')).toMatchObject(refused)
    expect((await readdir(join(rig.dataDir, 'media', 'held'))).sort()).toEqual([FILM, ID].sort())
    rig.s3.failNext(0)
    const kept = await rig.media.keepAgain(ID, 'image')
    expect(kept).toMatchObject({ ok: true, output: { mime: 'image/png', bytes: small.length, sha256: sha256(small) } })
    expect((await rig.media.keepAgain(FILM, 'video'))?.ok).toBeTrue()
    const bodies = [...rig.s3.objects.values()].map(({ body }) => body.length).sort((a, b) => a - b)
    expect(bodies).toEqual([small.length, film.length])
    expect(await readdir(join(rig.dataDir, 'media', 'held'))).toEqual([])
  })

  test('what is held outlives the process, unless a crash left it half', async () => {
    const bytes = await samplePicture('png')
    rig.s3.failNext(1_000)
    for (const id of [ID, FILM]) await keep(rig, { id, stream: streamOf(bytes) })
    await writeFile(join(rig.dataDir, 'media', 'held', FILM), bytes.slice(0, 40))
    rig.s3.failNext(0)
    const media = await rig.reopen()
    expect(await media.keepAgain(FILM, 'image')).toBeNull()
    expect(await media.keepAgain(ID, 'image')).toMatchObject({ ok: true, output: { sha256: sha256(bytes), width: 40 } })
    expect(await readdir(join(rig.dataDir, 'media', 'held'))).toEqual([])
  })

  test('what is held and asked for by nobody is removed a day later', async () => {
    rig.s3.failNext(1_000)
    await keep(rig, { stream: streamOf(await samplePicture('png')) })
    rig.s3.failNext(0)
    rig.pass(23 * 3_600_000)
    await rig.media.prune(0)
    expect(await readdir(join(rig.dataDir, 'media', 'held'))).toEqual([ID])
    rig.pass(2 * 3_600_000)
    await rig.media.prune(0)
    expect(await readdir(join(rig.dataDir, 'media', 'held'))).toEqual([])
    expect(await rig.media.keepAgain(ID, 'image')).toBeNull()
  })

  test('what is asked for after a long time down is no stray: a bucket that is away does not lose it', async () => {
    const bytes = await samplePicture('png')
    const url = await rig.media.stash('token-abcdefgh', bytes)
    rig.s3.failNext(1_000)
    await keep(rig, { stream: streamOf(bytes) })
    const longAgo = new Date(Date.now() - 25 * 3_600_000)
    const paths = ['stash/token-abcdefgh', `held/${ID}`].map(path => join(rig.dataDir, 'media', path))
    for (const path of paths) await utimes(path, longAgo, longAgo)
    const media = await rig.reopen()
    expect((await media.openStash(url)).ok).toBeTrue()
    expect((await media.keepAgain(ID, 'image'))?.ok).toBeFalse()
    expect(await media.prune(0)).toBe(0)
    rig.s3.failNext(0)
    expect((await media.openStash(url)).ok).toBeTrue()
    expect((await media.keepAgain(ID, 'image'))?.ok).toBeTrue()
  })

  test('nothing is held where there is little room', async () => {
    const media = await rig.reopen({ minFreeBytes: 2 ** 60 })
    rig.s3.failNext(1_000)
    const kept = await keep({ ...rig, media }, { stream: streamOf(await samplePicture('png')) })
    expect(kept).toMatchObject({ ok: false, error: { code: 'storage_unavailable' } })
    expect(await readdir(join(rig.dataDir, 'media', 'held'))).toEqual([])
    await expect(media.tryWrite()).rejects.toThrow(StorageUnavailable)
    rig.s3.failNext(0)
    await media.tryWrite()
    expect(rig.s3.objects.size).toBe(0)
  })

  test('an open while the bucket is down is not "gone"', async () => {
    await keep(rig, { stream: streamOf(await samplePicture('png')) })
    rig.s3.failNext(1_000)
    await expect(rig.media.open(ID)).rejects.toThrow(StorageUnavailable)
  })

  test('a bucket that nobody serves is named without its address or key', async () => {
    const media = await rig.reopen({ s3: { ...KEY, endpoint: 'http://127.0.0.1:1' } })
    const error = await media.probe().catch((thrown: Error) => thrown)
    expect(error).toBeInstanceOf(StorageUnavailable)
    expect(String(error)).not.toMatch(/127\.0\.0\.1|test/)
  })

  test('what was kept on disk before the move to a bucket still opens and is pruned', async () => {
    const disk = await rig.reopen({ root: 'disk' })
    const bytes = await samplePicture('png')
    await keep({ ...rig, media: disk }, { stream: streamOf(bytes) })
    const bucket = await rig.reopen()
    expect(await bytesOf(await bucket.open(ID))).toEqual(bytes)
    expect(await bucket.prune(Number.MAX_SAFE_INTEGER)).toBe(1)
    expect(await bucket.open(ID)).toBeNull()
  })
})

test('what lies in a storage that is not configured is not called gone, and is not lost by a prune', async () => {
  const rig = await openRig('s3')
  await keep(rig, { stream: streamOf(await samplePicture('png')) })
  for (const root of ['disk', 's3://another-bucket/tenant/a']) {
    const elsewhere = await rig.reopen({ root })
    await expect(elsewhere.open(ID)).rejects.toThrow('lies in another storage')
  }
  const disk = await rig.reopen({ root: 'disk' })
  expect(await disk.prune(Number.MAX_SAFE_INTEGER)).toBe(0)
  rig.pass(3 * 24 * 3_600_000)
  expect(await disk.prune(0)).toBe(0)
  expect(await rig.stored()).toHaveLength(1)
  expect(await (await rig.reopen()).prune(0)).toBe(1)
  expect(await rig.stored()).toEqual([])
  await rig.close()
})

test('an s3 address has a bucket and perhaps a prefix', () => {
  expect(s3Address('s3://outputs')).toEqual({ bucket: 'outputs', prefix: '' })
  expect(s3Address('s3://out.puts-1/a/b/')).toEqual({ bucket: 'out.puts-1', prefix: 'a/b' })
  for (const wrong of ['disk', 's3://', 's3:///a', 's3://UPPER/x', 's3://a', 's3://b?x=1', 'https://bucket/x']) {
    expect(s3Address(wrong)).toBeNull()
  }
})

test('the usual AWS variables are read, those for S3 alone first', () => {
  const env = {
    AWS_ACCESS_KEY_ID: 'id',
    AWS_SECRET_ACCESS_KEY: 'secret',
    AWS_SESSION_TOKEN: '',
    AWS_DEFAULT_REGION: 'eu-1',
    AWS_ENDPOINT_URL: 'https://all.example',
    AWS_ENDPOINT_URL_S3: 'https://s3.example',
  }
  const access = { accessKeyId: 'id', secretAccessKey: 'secret', region: 'eu-1', endpoint: 'https://s3.example' }
  expect(s3Access(env)).toEqual(access)
  expect(s3Access({})).toEqual({})
})

const ORDER = { id: ID, kind: 'image' as const, mime: null, length: null }

interface Rig extends MediaRig {
  dataDir: string
  s3: MiniS3 | null
  reopen(change?: Partial<MediaOptions>): ReturnType<MediaRig['reopen']>
}

/** Keeps a file and, when that succeeds, commits its row. */
async function keep(
  { media, rows }: Pick<Rig, 'media' | 'rows'>,
  more: Partial<KeepOrder> & Pick<KeepOrder, 'stream'>,
): Promise<Kept> {
  const kept = await media.keep({ ...ORDER, ...more })
  const owner = { runId: null, stepId: null, apiKeyId: 'key-1', createdAt: 1_000 }
  if (kept.ok) await rows.addMedia({ ...kept.output, ...owner })
  return kept
}

async function openRig(kind: 'disk' | 's3'): Promise<Rig> {
  const dataDir = await mkdtemp(join(tmpdir(), 'babychain-media-'))
  const s3 = kind === 's3' ? miniS3() : null
  const rows = new MemoryRows()
  let now = Date.now()
  const options: MediaOptions = {
    dataDir,
    rows,
    root: s3 ? 's3://outputs/tenant/a' : 'disk',
    caps: TEST_CAPS,
    now: () => now,
    minFreeBytes: 0,
    ...(s3 ? { s3: { ...KEY, endpoint: s3.endpoint } } : {}),
  }
  const onDisk = async (folder: string) => (await readdir(join(dataDir, 'media', folder), { recursive: true })).sort()
  const rig: Rig = {
    dataDir,
    s3,
    rows,
    media: await openMedia(options),
    stored: async () =>
      s3
        ? [...s3.objects.keys()].map(key => `s3://${key}`)
        : (await onDisk('.')).filter(file => /^..\/[^/]+$/.test(file)),
    unfinished: () => onDisk('spool'),
    marks: () => onDisk('marks'),
    lose: async location => {
      if (s3) s3.objects.delete(location.slice('s3://'.length))
      else await rename(join(dataDir, 'media', location), join(dataDir, 'lost'))
    },
    reopen: async change => {
      rig.media = await openMedia({ ...options, ...change })
      return rig.media
    },
    pass: ms => {
      now += ms
    },
    close: async () => {
      await s3?.close()
      await rm(dataDir, { recursive: true, force: true })
    },
  }
  return rig
}
