/**
 * The contract: the seed's request, sent word for word to the real server, answers with the seed's keys, and ends in a real
 * picture, a real film and one signed callback. All three chains, both slugs.
 */
import { afterAll, beforeAll, describe, expect, test } from 'bun:test'
import { Webhook } from 'standardwebhooks'
import type { Json, JsonObject } from '../../src/core/json.ts'
import created from '../fixtures/seed.created.json'
import ended from '../fixtures/seed.ended.json'
import request from '../fixtures/seed.request.json'
import { API_KEY, CALLBACK_SECRET, ServerProcess, until } from '../support/server.ts'

let server: ServerProcess
const received: { headers: Record<string, string>; body: string }[] = []
const receiver = Bun.serve({
  port: 0,
  hostname: '127.0.0.1',
  fetch: async call => {
    received.push({ headers: Object.fromEntries(call.headers), body: await call.text() })
    return new Response('ok')
  },
})
const hook = `http://127.0.0.1:${receiver.port}/hook`

beforeAll(async () => {
  server = new ServerProcess({ env: { BABYCHAIN_EGRESS_ALLOW: `127.0.0.1:${receiver.port}` } })
  await server.start()
})
afterAll(async () => {
  await server.close()
  await receiver.stop(true)
})

/** Everything that `seen` lacks of `wanted`, and everything whose type differs; more keys are welcome. */
function lacks(wanted: Json, seen: Json | undefined, path = ''): string[] {
  if (Array.isArray(wanted)) {
    if (!Array.isArray(seen)) return [`${path} is no list`]
    return wanted.flatMap((each, i) => lacks(each, seen[i], `${path}[${i}]`))
  }
  if (typeof wanted === 'object' && wanted !== null) {
    if (typeof seen !== 'object' || seen === null || Array.isArray(seen)) return [`${path} is no object`]
    return Object.keys(wanted).flatMap(key =>
      key in seen ? lacks(wanted[key] as Json, seen[key], `${path}.${key}`) : [`${path}.${key} is missing`],
    )
  }
  return typeof wanted === typeof seen && (wanted === null) === (seen === null)
    ? []
    : [`${path} is ${JSON.stringify(seen)}`]
}

interface Seen extends JsonObject {
  id: string
  status: string
  steps: (JsonObject & {
    generation_output_file?: string[] | null
    generation_input_file?: string[] | null
  } & JsonObject)[] &
    Json[]
}

async function send(slug: string, body: unknown): Promise<Seen> {
  const answer = await server.post(`/api/v1/chains/${slug}/runs`, body)
  expect(answer.status).toBe(202)
  return (await answer.json()) as Seen
}
const end = (id: string): Promise<Seen> => server.json<Seen>(`/api/v1/chains/get/${id}?wait=60`)
const linkOf = (run: Seen, step: number): string =>
  (run.steps[step] as { generation_output_file: string[] }).generation_output_file[0] as string

describe("the seed's request", () => {
  test('is accepted with the keys of the first answer, in its words', async () => {
    const run = await send('chain1', { ...request, webhook_url: hook })
    expect(lacks(created as Json, run)).toEqual([])
    expect(run).toMatchObject({
      object: 'chain_run',
      chain_slug: 'chain1',
      chain_version: '2026-05-23',
      status: 'queued',
      current_step_key: 'processing',
      input: request.input,
    })
    for (const step of run.steps as JsonObject[])
      for (const key of ['generation_input_file', 'generation_output_file']) expect(step).not.toHaveProperty(key)
  })

  test('ends with the keys of the second answer, in a picture of 1024 × 1024 and a square film of three seconds', async () => {
    const { id } = await send('chain1', { ...request, webhook_url: hook })
    const run = await end(id)
    expect(lacks(ended as Json, run)).toEqual([])
    expect(run).toMatchObject({ status: 'succeeded', current_step_key: 'completed' })
    const [first, second] = run.steps as JsonObject[]
    expect(first).not.toHaveProperty('generation_input_file')
    expect(second?.generation_input_file).toEqual(first?.generation_output_file)
    const picture = await fetch(linkOf(run, 0))
    expect(picture.headers.get('content-type')).toBe('image/jpeg')
    expect(await new Bun.Image(await picture.bytes()).metadata()).toMatchObject({
      width: 1024,
      height: 1024,
      format: 'jpeg',
    })
    const film = await fetch(linkOf(run, 1))
    expect(film.headers.get('content-type')).toBe('video/mp4')
    expect((await film.bytes()).length).toBeGreaterThan(50_000)
    const output = await server.json<{ steps: { outputs?: { seconds?: number; width: number; height: number }[] }[] }>(
      `/api/v1/runs/${id}`,
    )
    const { seconds, width, height } = output.steps[1]?.outputs?.[0] ?? { seconds: 0, width: 1, height: 2 }
    expect(seconds).toBeCloseTo(3, 1)
    expect(width).toBe(height)
  }, 60_000)

  test("sends one callback that the reference library verifies, with the run's outputs and what the backend did", async () => {
    const { id } = await send('chain1', { ...request, webhook_url: hook })
    const mine = () => received.filter(each => each.body.includes(id))
    await until('the callback has come', async () => mine().length > 0, 60_000)
    const [callback] = mine()
    const message = new Webhook(CALLBACK_SECRET).verify(callback?.body ?? '', callback?.headers ?? {}) as {
      type: string
      data: JsonObject
    }
    expect(message.type).toBe('run.succeeded')
    expect(lacks(ended as Json, message.data)).toEqual([])
    expect(message.data.backend_metadata).toMatchObject({ mode: 'sandbox' })
    await server.json(`/api/v1/runs/${id}`)
    expect(mine().length).toBe(1)
  }, 60_000)
})

const small = { prompt: 'a boat', width: 128, height: 128 }
const film = { content: [{ type: 'text', text: 'it drifts' }], resolution: '480p', ratio: '16:9', duration: 2 }
const models = {
  text_to_image_model: 'bfl/flux-2-pro',
  image_to_image_model: 'bytedance/seedream-4.5',
  image_to_video_model: 'bytedance/seedance-2.0',
}

describe('every chain', () => {
  test.each(['chain101', 'chain1'])(
    '%s: text to image to video',
    async slug => {
      const { image_to_image_model: _, ...chain_models } = models
      const input = { chain_models, text_to_image_params: small, image_to_video_params: { ...film, duration: 4 } }
      expect(await end((await send(slug, { input })).id)).toMatchObject({ status: 'succeeded', chain_slug: slug })
    },
    60_000,
  )

  test.each(['chain202', 'chain2'])(
    '%s: an uploaded picture to image to video',
    async slug => {
      const picture = await new Bun.Image(await (await fetch(await anyPicture())).bytes()).resize(96, 96).png().bytes()
      const upload = await server.request('/api/v1/media', {
        method: 'POST',
        headers: { 'content-type': 'image/png' },
        body: picture,
      })
      expect(upload.status).toBe(201)
      const { ref } = (await upload.json()) as { ref: string }
      const chain_models = { image_to_image_model: 'bfl/flux-2-pro', image_to_video_model: models.image_to_video_model }
      const input = {
        chain_models,
        image_to_image_params: { prompt: 'at night', input_image: ref },
        image_to_video_params: { ...film, duration: 4 },
      }
      expect(await end((await send(slug, { input })).id)).toMatchObject({ status: 'succeeded', chain_slug: slug })
    },
    60_000,
  )

  test.each(['chain303', 'chain3'])(
    '%s: text to image to image to video',
    async slug => {
      const input = {
        chain_models: models,
        text_to_image_params: small,
        image_to_image_params: { prompt: 'warmer', size: '2K' },
        image_to_video_params: { ...film, duration: 4 },
      }
      const run = await end((await send(slug, { input })).id)
      expect(run).toMatchObject({ status: 'succeeded', chain_slug: slug })
      expect((run.steps as JsonObject[]).map(step => step.status)).toEqual(['succeeded', 'succeeded', 'succeeded'])
    },
    60_000,
  )
})

/** A link to some picture that this server made. */
async function anyPicture(): Promise<string> {
  const { image_to_image_model: _, ...chain_models } = models
  const run = await end(
    (
      await send('chain101', {
        input: { chain_models, text_to_image_params: small, image_to_video_params: { ...film, duration: 4 } },
      })
    ).id,
  )
  return linkOf(run, 0)
}

test('a key that is not ours is refused before anything else', async () => {
  expect((await server.request('/api/v1/runs', { headers: { authorization: `Bearer ${API_KEY}x` } })).status).toBe(401)
})
