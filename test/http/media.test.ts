/** Files: uploads, links, ranges, and what a reader may do with them. */
import { afterAll, beforeAll, describe, expect, test } from 'bun:test'
import { overlay } from '../../src/app/tracing/overlay.ts'
import { StorageUnavailable } from '../../src/core/ports.ts'
import { LIMITS } from '../../src/core/run.ts'
import { createLinks } from '../../src/http/links.ts'
import { createQuota } from '../../src/http/quota.ts'
import { parseRange } from '../../src/http/range.ts'
import { BASE, HttpWorld } from '../support/http-world.ts'
import { sampleFilm, samplePicture, sha256, streamOf } from '../support/sample-media.ts'

interface Media {
  id: string
  ref: string
  mime: string
  bytes: number
  sha256: string
  width: number
  height: number
  url: string
}

let world: HttpWorld
let png: Uint8Array
beforeAll(async () => {
  world = await HttpWorld.open()
  png = await samplePicture('png')
})
afterAll(() => world.close())

const upload = (body: unknown, type = 'image/png') =>
  world.ask('POST', '/api/v1/media', { body, headers: { 'content-type': type } })
const form = (...files: [string, Blob | string][]): FormData => {
  const made = new FormData()
  for (const [name, value] of files) made.append(name, value as Blob)
  return made
}
const uploaded = async (body: unknown = png): Promise<Media> => (await upload(body)).json() as Promise<Media>
const fromLink = (url: string, headers: Record<string, string> = {}, method = 'GET') =>
  world.ask(method, url.slice(BASE.length), { key: null, headers })

describe('an upload', () => {
  for (const format of ['png', 'jpeg', 'webp'] as const) {
    test(`of a ${format}, raw or in a form, is kept and described by its bytes`, async () => {
      const bytes = await samplePicture(format)
      const file = new File([bytes as Uint8Array<ArrayBuffer>], 'a.bin', { type: 'application/x-anything' })
      for (const response of [
        await upload(bytes, 'application/octet-stream'),
        await world.ask('POST', '/api/v1/media', { body: form(['file', file]) }),
      ]) {
        const media = (await response.json()) as Media
        expect(response.status).toBe(201)
        expect(response.headers.get('location')).toBe(`/api/v1/media/${media.id}`)
        expect(media).toMatchObject({
          object: 'media',
          ref: `media:${media.id}`,
          mime: `image/${format}`,
          bytes: bytes.length,
          sha256: sha256(bytes),
          width: 40,
          height: 30,
        })
        const got = await fromLink(media.url)
        expect([got.headers.get('content-type'), sha256(await got.bytes())]).toEqual([`image/${format}`, sha256(bytes)])
      }
    })
  }

  const svg = '<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>'
  const refused: [string, () => unknown, string, number, string][] = [
    [
      'a web page that says it is a picture',
      () => '<html><script>1</script></html>',
      'image/png',
      415,
      'unsupported_media',
    ],
    ['an SVG', () => svg, 'image/svg+xml', 415, 'unsupported_media'],
    ['a film', () => sampleFilm(), 'image/png', 415, 'unsupported_media'],
    ['half a picture', () => png.subarray(0, png.length - 40), 'image/png', 415, 'unsupported_media'],
    ['nothing', () => new Uint8Array(0), 'image/png', 415, 'unsupported_media'],
    ['another content type', () => png, 'text/html', 415, 'unsupported_media_type'],
    ['a form that is none', () => 'hello', 'multipart/form-data; boundary=x', 400, 'invalid_request'],
    ['a form without a boundary', () => 'hello', 'multipart/form-data', 400, 'invalid_request'],
  ]
  for (const [name, body, type, status, code] of refused) {
    test(`of ${name} is ${status}`, async () => {
      const response = await upload(body(), type)
      const problem = (await response.json()) as { code: string; errors: { pointer: string; hint: string }[] }
      expect([response.status, problem.code]).toEqual([status, code])
      expect(problem.errors[0]?.hint).toBeTruthy()
    })
  }

  test('of a form with other fields, two files or no file is 400 and names them', async () => {
    const file = new Blob([png as Uint8Array<ArrayBuffer>])
    for (const [body, pointers] of [
      [form(['picture', file]), ['/picture', '/file']],
      [form(['file', file], ['file', file]), ['/file']],
      [form(['file', 'text']), ['/file']],
      [form(['file', file], ['purpose', 'x']), ['/purpose']],
    ] as const) {
      const response = await world.ask('POST', '/api/v1/media', { body })
      const { errors } = (await response.json()) as { errors: { pointer: string }[] }
      expect([response.status, errors.map(error => error.pointer)]).toEqual([400, [...pointers]])
    }
  })

  test('may be as large as a picture behind a link, raw or in a form, and no larger', async () => {
    expect(LIMITS.pictureBytes).toBe(30 << 20)
    const more = new Uint8Array(LIMITS.pictureBytes + 1)
    more.set(await samplePicture('jpeg'))
    const most = more.subarray(0, LIMITS.pictureBytes)
    const file = (bytes: Uint8Array) => form(['file', new Blob([bytes as Uint8Array<ArrayBuffer>])])
    const sizes = [(await uploaded(most)).bytes]
    sizes.push(((await (await world.ask('POST', '/api/v1/media', { body: file(most) })).json()) as Media).bytes)
    expect(sizes).toEqual([LIMITS.pictureBytes, LIMITS.pictureBytes])
    for (const response of [await upload(more), await world.ask('POST', '/api/v1/media', { body: file(more) })])
      expect([response.status, ((await response.json()) as { code: string }).code]).toEqual([413, 'payload_too_large'])
  })

  test('while the disk is full is 503', async () => {
    const full = await HttpWorld.open(deps => ({
      ...deps,
      media: overlay(deps.media, {
        keep: async () => {
          throw new StorageUnavailable('no space')
        },
      }),
    }))
    const response = await full.ask('POST', '/api/v1/media', { body: png, headers: { 'content-type': 'image/png' } })
    expect([response.status, response.headers.get('retry-after')]).toEqual([503, '2'])
    await full.close()
  })

  describe('in a form', () => {
    const headers = { 'content-type': 'multipart/form-data; boundary=x' }
    /** Forms under way, and what ends them. */
    const slowly = () => {
      const doors: (() => void)[] = []
      const bodies: { send(text: string): void; wasLeft: boolean }[] = []
      const send = (key: string, by = world): Promise<Response> => {
        const state = { send: (_: string): void => {}, wasLeft: false }
        bodies.push(state)
        const body = new ReadableStream<Uint8Array>({
          start(controller) {
            doors.push(() => controller.close())
            state.send = text => controller.enqueue(new TextEncoder().encode(text))
          },
          cancel() {
            state.wasLeft = true
          },
        })
        return by.ask('POST', '/api/v1/media', { key, body, headers })
      }
      return { doors, bodies, send }
    }
    const third = async () => (await world.json<{ key: string }>('POST', '/api/v1/keys', { body: { name: 'x' } })).key

    test('waits its turn: a fifth one at once is asked to come again', async () => {
      const { doors, send } = slowly()
      const four = ['key-of-ada', 'key-of-ada', 'key-of-bob', 'key-of-bob'].map(key => send(key))
      await world.quiet()
      const fifth = await world.ask('POST', '/api/v1/media', { key: await third(), body: 'x', headers })
      expect([fifth.status, fifth.headers.get('retry-after')]).toEqual([429, '1'])
      for (const open of doors) open()
      expect((await Promise.all(four)).map(response => response.status)).toEqual([400, 400, 400, 400])
    })

    test('is one of two of its key: the others have theirs', async () => {
      const { doors, send } = slowly()
      const two = [send('key-of-ada'), send('key-of-ada')]
      await world.quiet()
      const refused = await world.ask('POST', '/api/v1/media', { body: 'x', headers })
      expect([refused.status, refused.headers.get('retry-after')]).toEqual([429, '1'])
      expect(await refused.json()).toMatchObject({ detail: 'The key has 2 forms under way.' })
      expect((await world.ask('POST', '/api/v1/media', { key: 'key-of-bob', body: 'x', headers })).status).toBe(400)
      for (const open of doors) open()
      await Promise.all(two)
      expect((await world.ask('POST', '/api/v1/media', { body: 'x', headers })).status).toBe(400)
    })

    test('that does not come within ten minutes is refused, and left alone', async () => {
      const other = await HttpWorld.open()
      const { bodies, send } = slowly()
      const two = [send('key-of-ada', other), send('key-of-ada', other)]
      await other.quiet()
      other.clock.advance(10 * 60_000)
      other.clock.step()
      for (const response of await Promise.all(two)) {
        expect(response.status).toBe(400)
        expect(await response.json()).toMatchObject({ detail: 'The form did not come within 10 minutes.' })
      }
      expect((await other.ask('POST', '/api/v1/media', { body: 'x', headers })).status).toBe(400)
      for (const body of bodies) body.send('--x')
      await other.quiet()
      expect(bodies.map(body => body.wasLeft)).toEqual([true, true])
      await other.close()
    })
  })

  test('counts against two gibibytes an hour of its key, and the refusal says when the hour is over', async () => {
    const size = 25 << 20
    const other = await HttpWorld.open(deps => ({
      ...deps,
      media: overlay(deps.media, {
        async keep(order) {
          const kept = await deps.media.keep(order)
          return kept.ok ? { ok: true, output: { ...kept.output, bytes: size } } : kept
        },
      }),
    }))
    const send = (body: Uint8Array = png, key = 'key-of-ada') =>
      other.ask('POST', '/api/v1/media', { key, body, headers: { 'content-type': 'image/png' } })
    const most = Math.floor(2 ** 31 / size)
    for (let n = 0; n < most - 1; n += 1) expect((await send()).status).toBe(201)
    // What was not kept does not count.
    for (let n = 0; n < 3; n += 1) expect((await send(png.subarray(0, 20))).status).toBe(415)
    other.clock.advance(600_000)
    expect((await send()).status).toBe(201)
    const refused = await send()
    expect([refused.status, refused.headers.get('retry-after')]).toEqual([429, '3000'])
    expect(await refused.json()).toMatchObject({
      code: 'rate_limited',
      detail: 'A key may upload 2 GiB an hour, and this file would be more.',
    })
    expect((await send(png, 'key-of-bob')).status).toBe(201)
    other.clock.advance(3_000_000)
    expect((await send()).status).toBe(201)
    await other.close()
  })
})

describe('who reads', () => {
  test('the owner by key, everyone by link, and nobody else', async () => {
    const { id, url } = await uploaded()
    const path = `/api/v1/media/${id}`
    expect((await world.ask('GET', path)).status).toBe(200)
    expect((await world.ask('GET', path, { key: 'key-of-a-reader' })).status).toBe(200)
    expect((await fromLink(url)).status).toBe(200)
    expect((await world.ask('GET', path, { key: 'key-of-bob' })).status).toBe(404)
    expect((await world.ask('GET', path, { key: null })).status).toBe(401)
  })

  test('a link lasts at least a week, then it is 401', async () => {
    const other = await HttpWorld.open()
    const media = (await (
      await other.ask('POST', '/api/v1/media', { body: png, headers: { 'content-type': 'image/png' } })
    ).json()) as Media
    const get = async () => (await other.ask('GET', media.url.slice(BASE.length), { key: null })).status
    other.clock.advance(7 * 86_400_000)
    expect(await get()).toBe(200)
    other.clock.advance(86_400_001)
    expect(await get()).toBe(401)
    await other.close()
  })

  test('a link that was changed in any way is 401', async () => {
    const { id, url } = await uploaded()
    const second = await uploaded()
    const link = new URL(url)
    const bad = [
      url.replace(id, second.id),
      url.replace(/expires=\d+/, found => `expires=${Number(found.slice(8)) + 86_400}`),
      url.replace(/expires=/, 'expires=0'),
      url.replace(/signature=./, found => (found.endsWith('A') ? 'signature=B' : 'signature=A')),
      `${url}A`,
      url.replace(/signature=.*/, 'signature='),
      url.replace(/expires=\d+&/, ''),
      `${link.origin}${link.pathname}?signature=${link.searchParams.get('signature')}&expires=1e99`,
    ]
    for (const each of bad) expect([each, (await fromLink(each)).status]).toEqual([each, 401])
  })

  test('a media that is not there is 404, even with a right link', async () => {
    const gone = world.deps.links.media('00000000-0000-7000-8000-0000000abcde', world.clock.now())
    expect((await fromLink(gone)).status).toBe(404)
    expect((await world.ask('GET', '/api/v1/media/..%2f..%2fetc%2fpasswd')).status).toBe(404)
  })
})

describe('who uses an uploaded picture', () => {
  const use = (ref: string, key: string) =>
    world.ask('POST', '/api/v1/chains/chain2/runs', {
      key,
      body: {
        input: {
          chain_models: { image_to_image_model: 'bfl/flux-2-flex', image_to_video_model: 'bytedance/seedance-1.5-pro' },
          image_to_image_params: { prompt: 'in red', input_image: ref },
          image_to_video_params: { content: [{ type: 'text', text: 'turn' }] },
        },
      },
    })

  test('is its owner; for others it is as unknown as one that never was', async () => {
    const { ref } = await uploaded()
    const mine = await use(ref, 'key-of-ada')
    expect(mine.status).toBe(202)
    await world.runToEnd(((await mine.json()) as { id: string }).id)
    const errors = async (which: string) => {
      const response = await use(which, 'key-of-bob')
      return [
        response.status,
        JSON.stringify(await response.json())
          .replaceAll(which, 'REF')
          .replace(/req_[\w-]+/, ''),
      ]
    }
    const never = await errors('media:00000000-0000-7000-8000-0000000fffff')
    expect(never[0]).toBe(400)
    expect(await errors(ref)).toEqual(never)
  })

  test('cannot use a film as a picture', async () => {
    const film = await world.deps.media.keep({
      id: world.clock.id(),
      kind: 'video',
      stream: streamOf(sampleFilm()),
      mime: null,
      length: null,
    })
    if (!film.ok) throw new Error(film.error.message)
    const id = film.output.mediaId
    const owner = { runId: null, stepId: null, apiKeyId: 'ada', createdAt: world.clock.now() }
    await world.deps.store.addMedia({ ...film.output, ...owner })
    const response = await use(`media:${id}`, 'key-of-ada')
    const { errors } = (await response.json()) as { errors: { code: string; detail: string }[] }
    expect([response.status, errors[0]?.code, errors[0]?.detail]).toEqual([
      400,
      'unknown_media',
      `media:${id} is no picture but video/mp4`,
    ])
  })
})

describe('what a reader gets', () => {
  test('cannot act as a page of ours', async () => {
    const { id, url } = await uploaded()
    expect(Object.fromEntries((await fromLink(url)).headers)).toMatchObject({
      'content-type': 'image/png',
      'content-length': String(png.length),
      'content-disposition': `inline; filename="${id}.png"`,
      'x-content-type-options': 'nosniff',
      'accept-ranges': 'bytes',
      'cache-control': 'private, max-age=86400, immutable',
    })
    expect((await fromLink(url)).headers.get('content-security-policy')).toMatch(/^default-src 'none';.* sandbox$/)
  })

  test('is not sent again when it is there already', async () => {
    const { url, sha256: hash } = await uploaded()
    const again = await fromLink(url, { 'if-none-match': `"${hash}"` })
    expect([again.status, await again.text()]).toEqual([304, ''])
  })

  test('may be a range', async () => {
    const { url, sha256: hash } = await uploaded()
    const size = png.length
    for (const [range, from, to] of [
      ['bytes=0-0', 0, 0],
      ['bytes=10-19', 10, 19],
      ['bytes=10-', 10, size - 1],
      ['bytes=-5', size - 5, size - 1],
      [`bytes=0-${size * 10}`, 0, size - 1],
      [`bytes=-${size * 10}`, 0, size - 1],
    ] as const) {
      const response = await fromLink(url, { range })
      expect([
        range,
        response.status,
        response.headers.get('content-range'),
        response.headers.get('content-length'),
      ]).toEqual([range, 206, `bytes ${from}-${to}/${size}`, String(to - from + 1)])
      expect(await response.bytes()).toEqual(png.subarray(from, to + 1))
    }
    const stale = await fromLink(url, { range: 'bytes=0-1', 'if-range': '"other"' })
    expect([stale.status, (await stale.bytes()).length]).toEqual([200, size])
    expect((await fromLink(url, { range: 'bytes=0-1', 'if-range': `"${hash}"` })).status).toBe(206)
  })

  test('is 416 for a range that is not there, with the size', async () => {
    const { url } = await uploaded()
    for (const range of [`bytes=${png.length}-`, 'bytes=9-3', 'bytes=-0', 'bytes=a-b', 'bytes=-', 'bytes=']) {
      const response = await fromLink(url, { range })
      expect([range, response.status, response.headers.get('content-range')]).toEqual([
        range,
        416,
        `bytes */${png.length}`,
      ])
      expect(response.headers.get('content-type')).toBe('application/problem+json')
    }
  })

  test('is the whole for several ranges and for units that nobody knows', async () => {
    const { url } = await uploaded()
    for (const range of ['bytes=0-1,4-5', 'pages=1-2', 'bytes 0-1']) {
      expect([range, (await fromLink(url, { range })).status]).toEqual([range, 200])
    }
  })
})

test('a range has no blanks in it, and a header that is full of them is soon read', () => {
  expect(parseRange('bytes = 2-5 ', 9)).toEqual({ type: 'part', start: 2, end: 5 })
  for (const spec of ['2 -5', '2- 5', ' '.repeat(500_000), `${' '.repeat(500_000)}x`])
    expect(parseRange(`bytes=${spec}`, 9)).toEqual({ type: 'unsatisfiable' })
})

test('an end far beyond the file is its end, however many digits it has; a start there is not', () => {
  const far = '9'.repeat(30)
  expect(parseRange(`bytes=4-${far}`, 9)).toEqual({ type: 'part', start: 4, end: 8 })
  expect(parseRange(`bytes=-${far}`, 9)).toEqual({ type: 'part', start: 0, end: 8 })
  for (const spec of [`${far}-`, `${far}-${far}`])
    expect(parseRange(`bytes=${spec}`, 9)).toEqual({ type: 'unsatisfiable' })
})

test('an empty file has no range', () => {
  expect(parseRange('bytes=0-', 0)).toEqual({ type: 'unsatisfiable' })
  expect(parseRange('bytes=-5', 0)).toEqual({ type: 'unsatisfiable' })
  expect(parseRange(null, 0)).toEqual({ type: 'whole' })
})

test('links need a real secret, and another secret makes other links', () => {
  expect(() => createLinks({ key: new Uint8Array(16), baseUrl: () => BASE })).toThrow('32 bytes')
  const make = (fill: number) => createLinks({ key: new Uint8Array(32).fill(fill), baseUrl: () => BASE })
  const url = new URL(make(1).media('a', 0))
  const query = { expires: url.searchParams.get('expires'), signature: url.searchParams.get('signature') }
  expect([make(1).allows('a', query, 0), make(2).allows('a', query, 0)]).toEqual([true, false])
})

test('uploads side by side cannot pass the hour of their key together', () => {
  const quota = createQuota(() => 0)
  const half = 2 ** 30
  const [first] = [quota.reserve('ada', half), quota.reserve('ada', half)]
  expect(() => quota.reserve('ada', 1)).toThrow('2 GiB an hour')
  first?.settle(half - 1)
  expect(() => quota.reserve('ada', 2)).toThrow('2 GiB an hour')
  quota.reserve('ada', 1).settle(1)
  expect(() => quota.reserve('ada', 1)).toThrow('2 GiB an hour')
})
