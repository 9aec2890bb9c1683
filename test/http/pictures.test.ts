/** Input pictures of a request together: what cannot be sent is refused before anything is stored or spent. */
import { afterEach, beforeEach, describe, expect, test } from 'bun:test'
import { LIMITS } from '../../src/core/run.ts'
import { HttpWorld } from '../support/http-world.ts'

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
