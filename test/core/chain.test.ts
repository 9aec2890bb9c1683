import { describe, expect, test } from 'bun:test'
import { CHAINS, findChain, isPictureRef, plan, unknownFields } from '../../src/core/chain.ts'
import type { Problem } from '../../src/core/errors.ts'
import type { Json, JsonObject } from '../../src/core/json.ts'
import { createCatalog } from '../../src/models/catalog.ts'
import seed from '../fixtures/seed.request.json'

const catalog = createCatalog()
const chain = (slug: string) => findChain(slug) ?? CHAINS[0]!
const MEDIA = 'media:01990000-0000-7000-8000-000000000000'

function problems(slug: string, input: Json | undefined): Problem[] {
  const made = plan(chain(slug), input, catalog)
  return made.ok ? [] : made.problems
}
const said = (slug: string, input: Json | undefined): string[] =>
  problems(slug, input).map(problem => `${problem.code} ${problem.pointer}`)

/** The seed's input with some parts replaced; `undefined` removes one. */
const seeded = (more: Record<string, Json | undefined>): JsonObject =>
  Object.fromEntries(
    Object.entries({ ...seed.input, ...more }).filter(([, value]) => value !== undefined),
  ) as JsonObject
const i2i = (params: JsonObject): JsonObject => ({
  chain_models: { image_to_image_model: 'bfl/flux-2-pro', image_to_video_model: 'bytedance/seedance-1.5-pro' },
  image_to_image_params: { prompt: 'warmer', ...params },
  image_to_video_params: seed.input.image_to_video_params,
})

describe('a plan', () => {
  test("of the seed's request is its two steps, word for word", () => {
    const made = plan(chain('chain1'), seed.input, catalog)
    if (!made.ok) throw new Error(JSON.stringify(made.problems))
    expect(made.steps.map(step => [step.key, step.kind, step.model, step.dependsOn])).toEqual([
      ['text_to_image', 'image', 'bfl/flux-2-flex', []],
      ['image_to_video', 'video', 'bytedance/seedance-1.5-pro', ['text_to_image']],
    ])
    expect(made.steps.map(step => step.params)).toEqual([
      seed.input.text_to_image_params,
      seed.input.image_to_video_params,
    ])
  })

  test('gives a step the time that its parameters allow the provider, and never less than its model usually needs', () => {
    const hours = (more: JsonObject): number => {
      const film = { ...seed.input.image_to_video_params, ...more }
      const made = plan(chain('chain1'), seeded({ image_to_video_params: film }), catalog)
      if (!made.ok) throw new Error(JSON.stringify(made.problems))
      return (made.steps[1]?.deadlineMs ?? 0) / 3_600_000
    }
    expect(hours({})).toBe(0.5)
    expect(hours({ execution_expires_after: 14_400 })).toBe(4)
    expect(hours({ service_tier: 'flex' })).toBe(48)
    expect(hours({ service_tier: 'flex', execution_expires_after: 3_600 })).toBe(1)
  })

  test('exists for every chain under both of its slugs', () => {
    for (const each of CHAINS) for (const slug of [each.slug, ...each.aliases]) expect(findChain(slug)).toBe(each)
    expect(findChain('chain404')).toBeUndefined()
  })

  test('of chain202 takes its first picture from the caller, as a link, a data URI or an upload', () => {
    for (const input_image of ['https://example.com/a.png', 'data:image/png;base64,iVBORw0KGgo=', MEDIA]) {
      const made = plan(chain('chain202'), i2i({ input_image }), catalog)
      expect(made.ok && made.steps[0]?.pictures).toEqual([input_image])
    }
  })
})

describe('a mistake', () => {
  test.each([
    ['no input', undefined, ['type /input']],
    ['an array', [], ['type /input']],
    ['no models', seeded({ chain_models: undefined }), ['required /input/chain_models']],
    [
      'one model missing',
      seeded({ chain_models: { text_to_image_model: 'bfl/flux-2-flex' } }),
      ['required /input/chain_models/image_to_video_model'],
    ],
    [
      'an unknown model',
      seeded({ chain_models: { ...seed.input.chain_models, text_to_image_model: 'bfl/flux-9' } }),
      ['unknown_model /input/chain_models/text_to_image_model'],
    ],
    [
      'a model in the wrong role',
      seeded({
        chain_models: {
          text_to_image_model: 'bytedance/seedance-1.5-pro',
          image_to_video_model: 'bytedance/seedance-1.5-pro',
        },
      }),
      ['model_role /input/chain_models/text_to_image_model'],
    ],
    [
      'a model for a step that the chain does not have',
      seeded({ chain_models: { ...seed.input.chain_models, image_to_image_model: 'bfl/flux-2-pro' } }),
      ['unknown_field /input/chain_models/image_to_image_model'],
    ],
    ['an unknown field', seeded({ extra: 1 }), ['unknown_field /input/extra']],
    ['parameters that are no object', seeded({ text_to_image_params: 'a boat' }), ['type /input/text_to_image_params']],
    [
      'a picture for text-to-image',
      seeded({ text_to_image_params: { prompt: 'x', input_image: 'https://example.com/a.png' } }),
      ['picture_not_taken /input/text_to_image_params/input_image'],
    ],
  ])('%s is told with a pointer', (_, input, expected) => {
    expect(said('chain101', input as Json | undefined)).toEqual(expected)
  })

  test('a missing picture in chain202 is told where it belongs, with how to give one', () => {
    expect(said('chain202', i2i({}))).toEqual(['picture_required /input/image_to_image_params/input_image'])
    expect(problems('chain202', i2i({}))[0]?.hint).toContain('POST /api/v1/media')
  })

  test('a picture that is no reference is refused', () => {
    expect(said('chain202', i2i({ input_image: 'boat.png' }))).toEqual([
      'picture_reference /input/image_to_image_params/input_image',
    ])
  })

  test('a picture given on a wired step is refused and says from where it comes', () => {
    const content = [
      ...seed.input.image_to_video_params.content,
      { type: 'image_url', image_url: { url: 'https://example.com/a.png' } },
    ]
    const [problem, ...others] = problems(
      'chain101',
      seeded({ image_to_video_params: { ...seed.input.image_to_video_params, content } }),
    )
    expect(others).toEqual([])
    expect(problem).toMatchObject({ code: 'picture_is_wired', detail: expect.stringContaining('text_to_image') })
  })

  test('all of them are told at once', () => {
    const input = seeded({
      chain_models: { text_to_image_model: 'nope', image_to_video_model: 'bytedance/seedance-1.5-pro' },
      image_to_video_params: { duration: 99 },
      extra: true,
    })
    expect(said('chain101', input).length).toBeGreaterThanOrEqual(3)
  })

  test('a field with a slash, a tilde or a great length in its name gives a valid, short pointer', () => {
    expect(said('chain101', seeded({ 'a/b~c': 1 }))).toEqual(['unknown_field /input/a~1b~0c'])
    const [problem] = problems('chain101', seeded({ ['x'.repeat(10_000)]: 1 }))
    expect(JSON.stringify(problem).length).toBeLessThan(600)
  })
})

test('only web links, picture data URIs and uploads are picture references', () => {
  for (const good of ['https://a.example/x', 'http://a.example/x', 'data:image/webp;base64,AA==', MEDIA])
    expect(isPictureRef(good)).toBe(true)
  for (const bad of [
    '',
    'file:///etc/passwd',
    'ftp://x',
    'data:text/html;base64,AA==',
    'data:image/svg+xml;base64,AA==',
    'media:1',
    'javascript:1',
  ])
    expect(isPictureRef(bad)).toBe(false)
})

test('of many unknown fields the first hundred are looked up and told, and the others counted', () => {
  const typos = Object.fromEntries(Array.from({ length: 200_000 }, (_, i) => [`promt${i % 10}_${i}`, 1]))
  const few = unknownFields('', { promt: 1, other: 1 }, ['prompt'])
  expect(few.map(problem => problem.hint)).toEqual([
    'Did you mean prompt? Known fields: prompt.',
    'Known fields: prompt.',
  ])
  const slips = Object.fromEntries(Array.from({ length: 150 }, (_, i) => [`promt${'_'.repeat(i)}`, 1]))
  const guessed = unknownFields('', slips, ['prompt']).filter(problem => problem.hint?.startsWith('Did you mean'))
  expect(guessed).toHaveLength(100)
  expect(new Set(unknownFields('', typos, ['prompt'])).size).toBe(101)
  const found = plan(CHAINS[0]!, { chain_models: typos }, catalog)
  expect(found.ok ? 0 : found.problems.length).toBeGreaterThanOrEqual(200_000)
})
