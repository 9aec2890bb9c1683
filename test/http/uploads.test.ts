/** What uploads and downloads meet where a size is wrong or the storage is. */
import { afterAll, beforeAll, expect, test } from 'bun:test'
import { overlay } from '../../src/app/tracing/overlay.ts'
import { stepError } from '../../src/core/errors.ts'
import { LIMITS } from '../../src/core/run.ts'
import { createLinks } from '../../src/http/links.ts'
import { BASE, HttpWorld } from '../support/http-world.ts'
import { samplePicture } from '../support/sample-media.ts'

let world: HttpWorld
let png: Uint8Array
beforeAll(async () => {
  world = await HttpWorld.open()
  png = await samplePicture('png')
})
afterAll(() => world.close())

const PICTURE = { 'content-type': 'image/png' }
const uploaded = async (): Promise<{ id: string; url: string }> =>
  (await world.ask('POST', '/api/v1/media', { body: png, headers: PICTURE })).json() as Promise<{
    id: string
    url: string
  }>

/** Megabytes without end, and how many of them were read. */
function endless() {
  const read = { megabytes: 0 }
  const pull = (controller: ReadableStreamDefaultController<Uint8Array>): void => {
    read.megabytes += 1
    controller.enqueue(new Uint8Array(1 << 20))
  }
  return { read, body: new ReadableStream<Uint8Array>({ pull }, { highWaterMark: 0 }) }
}

test('a picture that says it is too large is refused before it is read, and one of the most bytes is not', async () => {
  const { read, body } = endless()
  const length = (bytes: number) => ({ ...PICTURE, 'content-length': String(bytes) })
  const refused = await world.ask('POST', '/api/v1/media', { body, headers: length(LIMITS.pictureBytes + 1) })
  expect([refused.status, read.megabytes]).toEqual([413, 0])
  const most = await world.ask('POST', '/api/v1/media', { body: png, headers: length(LIMITS.pictureBytes) })
  expect(await most.json()).toMatchObject({ code: 'unsupported_media', detail: expect.stringContaining('broke off') })
})

test('of a form no more is read than a picture and its frame', async () => {
  const { read, body } = endless()
  const headers = { 'content-type': 'multipart/form-data; boundary=x' }
  expect((await world.ask('POST', '/api/v1/media', { body, headers })).status).toBe(413)
  expect(read.megabytes).toBe(31)
})

test('a picture that the storage does not take is 503, to be sent again, and not the picture’s fault', async () => {
  const error = stepError('storage_unavailable', 'The output could not be stored: the disk is full.')
  const keep = async () => ({ ok: false, error }) as const
  const full = await HttpWorld.open(deps => ({ ...deps, media: overlay(deps.media, { keep }) }))
  const refused = await full.ask('POST', '/api/v1/media', { body: png, headers: PICTURE })
  expect([refused.status, refused.headers.get('retry-after')]).toEqual([503, '5'])
  expect(await refused.json()).toMatchObject({ code: 'storage_unavailable', retryable: true })
  await full.close()
})

test('a media whose file is lost is 404, and not an answer without its bytes', async () => {
  const lost = await HttpWorld.open(deps => ({ ...deps, media: overlay(deps.media, { open: async () => null }) }))
  const made = await lost.ask('POST', '/api/v1/media', { body: png, headers: PICTURE })
  const { id } = (await made.json()) as { id: string }
  for (const headers of [{ accept: '*/*' }, { range: 'bytes=0-1' }] as Record<string, string>[])
    expect((await lost.ask('GET', `/api/v1/media/${id}`, { headers })).status).toBe(404)
  await lost.close()
})

test('a link that holds no longer takes nothing from a key that does, and half a link is none', async () => {
  const { id, url } = await uploaded()
  const old = `${url.slice(BASE.length)}A`
  expect((await world.ask('GET', old, { key: 'key-of-ada' })).status).toBe(200)
  expect((await world.ask('GET', old, { key: 'key-of-bob' })).status).toBe(404)
  for (const half of ['expires=9999999999', 'signature=x', 'expires=&signature='])
    expect([half, (await world.ask('GET', `/api/v1/media/${id}?${half}`, { key: null })).status]).toEqual([half, 401])
})

test('a link ends with the second that it names', () => {
  const links = createLinks({ key: new Uint8Array(32), baseUrl: () => BASE })
  const { searchParams } = new URL(links.media('a', 1_800_000_000_000))
  const link = { expires: searchParams.get('expires'), signature: searchParams.get('signature') }
  const ends = Number(link.expires) * 1_000
  expect([links.allows('a', link, ends - 1), links.allows('a', link, ends)]).toEqual([true, false])
})
