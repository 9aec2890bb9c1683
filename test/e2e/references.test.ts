/**
 * A later step with further pictures, over real HTTP: the picture of the step before comes first, then the caller's in
 * their order; more than the model reads is refused before anything is spent.
 */
import { afterEach, beforeEach, describe, expect, test } from 'bun:test'
import type { Json, JsonObject } from '../../src/core/json.ts'
import { Hosts } from '../support/hosts.ts'
import { samplePicture } from '../support/sample-media.ts'
import { API_KEY } from '../support/server.ts'

const [A, B] = ['https://cdn.example.org/a.png', 'https://cdn.example.org/b.png']
const text = { type: 'text', text: 'it drifts' }
const reference = (url: string): JsonObject => ({ type: 'image_url', image_url: { url }, role: 'reference_image' })
const wired = expect.stringMatching(/^data:image\/png;base64,/) as unknown as string

let hosts: Hosts
beforeEach(async () => {
  hosts = await Hosts.open()
})
afterEach(() => hosts.close())

interface Case {
  slug: string
  /** The step that gets further pictures, and its place. */
  step: 'image_to_image' | 'image_to_video'
  index: number
  model: string
  params: JsonObject
  /** Where it is sent, and what of the body holds the pictures. */
  host: 'bfl' | 'byteplus' | 'fal' | 'replicate'
  order?: readonly string[]
  sent: (body: JsonObject) => Json | undefined
  expected: Json
}

const cases: Case[] = [
  {
    slug: 'chain303',
    step: 'image_to_image',
    index: 1,
    model: 'bytedance/seedream-4.5',
    params: { prompt: 'the boat with this sail, in this light', image: [A, B] },
    host: 'byteplus',
    sent: body => body.image,
    expected: [wired, A, B],
  },
  {
    slug: 'chain303',
    step: 'image_to_image',
    index: 1,
    model: 'google/nano-banana',
    params: { prompt: 'the boat with this sail', image: [A] },
    host: 'fal',
    sent: body => body.image_urls,
    expected: [expect.any(String) as unknown as string, A],
  },
  {
    slug: 'chain303',
    step: 'image_to_image',
    index: 1,
    model: 'bfl/flux-2-flex',
    params: { prompt: 'the boat with this sail', input_image_2: A, input_image_3: B },
    host: 'bfl',
    sent: ({ input_image, input_image_2, input_image_3 }) => [
      input_image ?? '',
      input_image_2 ?? '',
      input_image_3 ?? '',
    ],
    expected: [expect.stringMatching(/^[A-Za-z0-9+/]+={0,2}$/) as unknown as string, A, B],
  },
  {
    slug: 'chain202',
    step: 'image_to_video',
    index: 1,
    model: 'bytedance/seedance-2.0',
    params: { content: [text, reference(A), reference(B)] },
    host: 'byteplus',
    sent: body => body.content,
    expected: [text, reference(wired), reference(A), reference(B)],
  },
  {
    slug: 'chain202',
    step: 'image_to_video',
    index: 1,
    model: 'bfl/flux-3-video',
    params: { prompt: 'it drifts', keyframes: [A, B], duration: 5 },
    host: 'bfl',
    sent: body => body.keyframes,
    expected: [expect.stringMatching(/^[A-Za-z0-9+/]+={0,2}$/) as unknown as string, A, B],
  },
  {
    slug: 'chain202',
    step: 'image_to_video',
    index: 1,
    model: 'google/veo-3.1',
    params: { prompt: 'it drifts', referenceImages: [A, B] },
    host: 'replicate',
    order: ['replicate'],
    sent: body => (body.input as JsonObject).reference_images,
    expected: [expect.any(String) as unknown as string, A, B],
  },
]

async function orderOf({ slug, step, model, params, order }: Case): Promise<JsonObject> {
  const first = slug === 'chain202' ? 'image_to_image' : 'text_to_image'
  const upload = await hosts.app.request('/api/v1/media', {
    method: 'POST',
    headers: { authorization: `Bearer ${API_KEY}`, 'content-type': 'image/png' },
    body: await samplePicture('png'),
  })
  const { ref } = (await upload.json()) as { ref: string }
  const roles = slug === 'chain202' ? [] : ['image_to_image']
  return {
    input: {
      chain_models: {
        [`${first}_model`]: 'bfl/flux-2-flex',
        ...Object.fromEntries(roles.map(role => [`${role}_model`, 'bfl/flux-2-flex'])),
        image_to_video_model: 'bytedance/seedance-1.5-pro',
        [`${step}_model`]: model,
      },
      image_to_image_params: { prompt: 'x' },
      image_to_video_params: { content: [text] },
      [`${first}_params`]: { prompt: 'a red boat', ...(slug === 'chain202' ? { input_image: ref } : {}) },
      [`${step}_params`]: params,
    },
    ...(order ? { provider_order: { [step]: [...order] } } : {}),
  }
}

describe('further pictures on a later step', () => {
  for (const each of cases) {
    test(`${each.slug}, ${each.model} at ${each.host}`, async () => {
      const run = await hosts.stepEnd(await hosts.create(await orderOf(each), each.slug), each.index)
      const [before, step] = [run.steps[each.index - 1], run.steps[each.index]]
      expect([step?.status, step?.provider_used]).toEqual(['succeeded', each.host])
      expect(step?.generation_input_file).toEqual([before?.generation_output_file[0] as string, A, ...rest(each)])
      const job = hosts[each.host].submits().at(each.host === 'bfl' ? each.index : 0)
      expect(each.sent(job?.body ?? {})).toEqual(each.expected)
    }, 60_000)
  }
})

/** The second picture of the caller, where there is one. */
const rest = ({ params }: Case): string[] => (JSON.stringify(params).includes(B) ? [B] : [])

describe('what cannot be, in one answer and before any money is spent', () => {
  const refused: [string, Case, string][] = [
    [
      'one picture too many for the model together with the wired one',
      { ...(cases[0] as Case), params: { prompt: 'x', image: new Array<string>(14).fill(A) } },
      'length /input/image_to_image_params/image',
    ],
    [
      'a single picture in the place of the wired one',
      { ...(cases[0] as Case), params: { prompt: 'x', image: A } },
      'picture_is_wired /input/image_to_image_params/image',
    ],
    [
      'a further picture that is none',
      { ...(cases[0] as Case), params: { prompt: 'x', image: [A, 'boat.png'] } },
      'picture_reference /input/image_to_image_params/image/1',
    ],
    [
      'a further picture at a forbidden address',
      { ...(cases[0] as Case), params: { prompt: 'x', image: [A, 'https://169.254.169.254/a.png'] } },
      'url_not_allowed /input/image_to_image_params/image/1',
    ],
    [
      'a further picture of somebody else',
      { ...(cases[0] as Case), params: { prompt: 'x', image: ['media:0190c0de-0000-7000-8000-000000000000'] } },
      'unknown_media /input/image_to_image_params/image/0',
    ],
  ]
  test.each(refused)('%s', async (_, each, expected) => {
    const answer = await hosts.app.request(`/api/v1/chains/${each.slug}/runs`, {
      method: 'POST',
      headers: { authorization: `Bearer ${API_KEY}`, 'content-type': 'application/json' },
      body: JSON.stringify(await orderOf(each)),
    })
    const { errors } = (await answer.json()) as { errors: { code: string; pointer: string }[] }
    expect(errors.map(({ code, pointer }) => `${code} ${pointer}`)).toEqual([expected])
    expect(answer.status).toBe(expected.startsWith('url_not_allowed') ? 422 : 400)
    expect(hosts.all.flatMap(host => host.calls)).toEqual([])
  })
})
