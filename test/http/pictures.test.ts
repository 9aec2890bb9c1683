/** Input pictures of a request: what is none, or cannot be sent, is refused before anything is stored or spent. */
import { afterEach, beforeEach, describe, expect, test } from 'bun:test'
import { LIMITS } from '../../src/core/run.ts'
import { HttpWorld } from '../support/http-world.ts'
import { sampleFilm, samplePicture } from '../support/sample-media.ts'

const MB = 1_000_000
let embeds = true
let world: HttpWorld
beforeEach(async () => {
  embeds = true
  world = await HttpWorld.open(deps => ({ ...deps, embeds: () => embeds }))
})
afterEach(() => world.close())

/** A stored picture that is said to have so many bytes. */
async function stored(bytes: number): Promise<string> {
  const mediaId = world.clock.id()
  const row = { mediaId, mime: 'image/png', bytes, sha256: mediaId, location: mediaId, runId: null, stepId: null }
  await world.store.addMedia({ ...row, apiKeyId: 'ada', createdAt: world.clock.now() })
  return `media:${mediaId}`
}

const order = (image: string[]) => ({
  input: {
    chain_models: { image_to_image_model: 'openai/gpt-image-2', image_to_video_model: 'bytedance/seedance-1.5-pro' },
    image_to_image_params: { prompt: 'a red boat', image },
    image_to_video_params: { content: [{ type: 'text', text: 'it drifts' }] },
  },
})

const create = (image: string[]) => world.ask('POST', '/api/v1/chains/chain202/runs', { body: order(image) })

describe('the pictures of a step, together in one request', () => {
  test('are refused at the one that is too much, with the limit', async () => {
    const picture = await stored(24 * MB)
    const answer = await create(Array<string>(16).fill(picture))
    expect(answer.status).toBe(400)
    const { errors } = (await answer.json()) as { errors: unknown[] }
    expect(errors).toEqual([
      {
        pointer: '/input/image_to_image_params/image/2',
        code: 'pictures_too_large',
        detail:
          'the input pictures of image_to_image up to this one have 72000000 bytes; one request takes at most 48000000',
        hint: 'Give fewer or smaller pictures; one that is given twice counts twice.',
      },
    ])
  })

  test('are accepted up to the limit', async () => {
    const half = await stored(LIMITS.requestPictureBytes / 2)
    expect((await create([half, half])).status).toBe(202)
    expect((await create([half, half, await stored(1)])).status).toBe(400)
  })

  test('have no limit together where a provider reads them elsewhere', async () => {
    embeds = false
    expect((await create(Array<string>(16).fill(await stored(24 * MB)))).status).toBe(202)
  })

  test('an estimate says the same', async () => {
    const body = order(Array<string>(3).fill(await stored(24 * MB)))
    const estimate = await world.json('POST', '/api/v1/chains/chain202/estimate', { body })
    expect(estimate).toMatchObject({ valid: false, errors: [{ code: 'pictures_too_large' }] })
  })
})

describe('a data URI', () => {
  const uri = (bytes: Uint8Array | string) => `data:image/png;base64,${Buffer.from(bytes).toString('base64')}`
  /** For the second step of three: the first one would be paid before the picture is read. */
  const behind = (picture: string) => ({
    input: {
      chain_models: { text_to_image_model: 'bfl/flux-2-flex', ...order([]).input.chain_models },
      text_to_image_params: { prompt: 'a boat' },
      image_to_image_params: { prompt: 'in red', image: [picture] },
      image_to_video_params: order([]).input.image_to_video_params,
    },
  })

  test.each([
    ['text', 'hello world'],
    ['an SVG drawing', '<svg xmlns="http://www.w3.org/2000/svg"/>'],
    ['a GIF', 'GIF89a\x01\x00\x01\x00'],
    ['an AVIF or HEIC picture', '\0\0\0\x1cftypavif\0\0\0\0avifmif1'],
    ['an MP4 film', sampleFilm()],
    ['of an unknown type', new Uint8Array(600_000)],
  ])('that is %s is refused, in the words of an upload', async (what, bytes) => {
    const answer = await world.ask('POST', '/api/v1/chains/chain303/runs', { body: behind(uri(bytes)) })
    expect(answer.status).toBe(400)
    const { errors } = (await answer.json()) as { errors: unknown[] }
    const detail = `the data URI is ${what}, not a PNG, JPEG or WebP picture`
    const hint = 'Give the bytes of a PNG, JPEG or WebP.'
    expect(errors).toEqual([
      { pointer: '/input/image_to_image_params/image/0', code: 'picture_reference', detail, hint },
    ])
    const headers = { 'content-type': 'application/octet-stream' }
    const upload = await world.json('POST', '/api/v1/media', { body: Buffer.from(bytes), headers })
    expect(upload.detail).toBe(`${detail.replace('the data URI', 'The file')}.`)
  })

  test.each(['png', 'jpeg', 'webp'] as const)('that is a %s is taken, whatever it calls itself', async format => {
    const body = behind(uri(await samplePicture(format)))
    expect((await world.ask('POST', '/api/v1/chains/chain303/runs', { body })).status).toBe(202)
  })
})
