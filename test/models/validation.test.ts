/** What the models accept and what they say to the rest. */
import { describe, expect, test } from 'bun:test'
import type { Json, JsonObject } from '../../src/core/json.ts'
import type { Role } from '../../src/core/model.ts'
import { createCatalog } from '../../src/models/catalog.ts'

const catalog = createCatalog()

function problems(id: string, params: JsonObject, role?: Role, wired?: boolean) {
  const model = catalog.find(id)
  if (!model) throw new Error(`no model ${id}`)
  const use = { role: role ?? model.roles[0] ?? 'text_to_image', wired: wired ?? model.gives === 'video' }
  return model.validate(params, use)
}

const A = 'https://cdn.example/a.png'
const words: JsonObject = { type: 'text', text: 'orbit' }
const image = (role?: string): JsonObject => ({
  type: 'image_url',
  image_url: { url: A },
  ...(role === undefined ? {} : { role }),
})

const good: [model: string, params: JsonObject, role?: Role, wired?: boolean][] = [
  ['bfl/flux-2-flex', { prompt: 'p', width: 1920, height: 1088, guidance: 1.5, steps: 1, safety_tolerance: 0 }],
  ['bfl/flux-2-flex', { prompt: 'p', width: 0, height: 0 }],
  ['bfl/flux-2-flex', { prompt: 'p', width: 65_536 }],
  ['bfl/flux-2-pro', { prompt: 'p', width: 2048, height: 2048, output_format: 'webp' }],
  ['bfl/flux-2-pro', { prompt: 'p', input_image: A, input_image_8: A }, 'image_to_image'],
  ['bfl/flux-kontext-pro', { prompt: 'p', aspect_ratio: '7:3', safety_tolerance: 6 }],
  ['bfl/flux-1.1-pro', { prompt: 'p', width: 1440, height: 256 }],
  ['bfl/flux-pro-1.0-fill', { image: A, guidance: 100, steps: 15 }, 'image_to_image'],
  ['bfl/flux-3-video', { prompt: 'p', duration: 'auto' }],
  ['bytedance/seedream-4.5', { prompt: 'p', size: '4096x4096' }],
  ['bytedance/seedream-4.5', { prompt: 'p', size: '7680x480' }],
  ['bytedance/seedream-4', { prompt: 'p', size: '1024x1024', optimize_prompt_options: { mode: 'fast' } }],
  ['bytedance/seedream-5-pro', { prompt: 'p', size: '1.5K' }],
  ['bytedance/seedream-5-lite', { prompt: 'p', tools: [{ type: 'web_search' }], output_format: 'png' }],
  ['bytedance/seedance-1.5-pro', { content: [words], duration: 2 }],
  ['bytedance/seedance-1.5-pro', { content: [words], duration: -1, seed: -1, draft: true }],
  ['bytedance/seedance-1.5-pro', { content: [image(), image('last_frame')] }, 'image_to_video', false],
  ['bytedance/seedance-1-pro', { content: [words], frames: 289 }],
  ['bytedance/seedance-2.0', { content: [words, image('reference_image')], duration: 15 }],
  ['bytedance/seedance-2.5', { content: [words], duration: 30 }],
  ['google/nano-banana', { prompt: 'p', aspectRatio: '21:9' }],
  ['google/nano-banana-2', { prompt: 'p', aspectRatio: '1:8', imageSize: '512' }],
  ['google/veo-3.1', { prompt: 'p', resolution: '4k', durationSeconds: 8 }],
  ['openai/gpt-image-1.5', { prompt: 'p', background: 'transparent', output_format: 'webp', output_compression: 80 }],
  ['openai/gpt-image-2', { prompt: 'p', size: '3840x2160' }],
  ['kling/3-pro', { prompt: 'p', duration: '15', cfg_scale: 1 }],
  ['wan/2.6-i2v', { duration: 15, shot_type: 'multi' }],
  ['wan/3.0', { prompt: 'p', media: [{ type: 'reference_video', url: 'https://a.example/v.mp4' }] }],
  ['minimax/hailuo-2.3', { prompt: 'p', duration: 10, resolution: '768P' }],
  ['runway/gen4.5', { promptText: 'p', contentModeration: { publicFigureThreshold: 'low' } }],
  ['luma/ray-2', { prompt: 'p', keyframes: { frame1: { type: 'image', url: A } } }],
  ['ideogram/v3', { prompt: 'p', style_codes: ['9F1A2B3C'] }],
]

for (const [id, params, role, wired] of good) {
  test(`${id} takes ${JSON.stringify(params)}`, () => {
    expect(problems(id, params, role, wired)).toEqual([])
  })
}

const bad: [model: string, params: JsonObject, pointer: string, code: string, role?: Role, wired?: boolean][] = [
  ['bfl/flux-2-flex', {}, '/prompt', 'required'],
  ['bfl/flux-2-flex', { prompt: '' }, '/prompt', 'length'],
  ['bfl/flux-2-flex', { prompt: 'p'.repeat(10_001) }, '/prompt', 'length'],
  ['bfl/flux-2-flex', { prompt: 'a\u0000b' }, '/prompt', 'characters'],
  ['bfl/flux-2-flex', { prompt: 'half \ud83d' }, '/prompt', 'characters'],
  ['bfl/flux-2-flex', { prompt: 'p', width: 1000 }, '/width', 'multiple_of'],
  ['bfl/flux-2-flex', { prompt: 'p', width: 48 }, '/width', 'minimum'],
  ['bfl/flux-2-flex', { prompt: 'p', width: -16 }, '/width', 'minimum'],
  ['bfl/flux-2-flex', { prompt: 'p', width: 2560, height: 2560 }, '/width', 'too_many_pixels'],
  ['bfl/flux-2-flex', { prompt: 'p', width: 65_552 }, '/width', 'too_many_pixels'],
  ['bfl/flux-2-flex', { prompt: 'p', width: 0, height: 1_000_000 }, '/height', 'too_many_pixels'],
  ['bfl/flux-2-flex', { prompt: 'p', steps: 51 }, '/steps', 'maximum'],
  ['bfl/flux-2-flex', { prompt: 'p', steps: 1.5 }, '/steps', 'type'],
  ['bfl/flux-2-flex', { prompt: 'p', guidance: 1 }, '/guidance', 'minimum'],
  ['bfl/flux-2-flex', { prompt: 'p', safety_tolerance: 6 }, '/safety_tolerance', 'maximum'],
  ['bfl/flux-2-flex', { prompt: 'p', output_format: 'jpg' }, '/output_format', 'enum'],
  ['bfl/flux-2-flex', { prompt: 'p', prompt_upsampling: 'false' }, '/prompt_upsampling', 'type'],
  ['bfl/flux-2-flex', { prompt: 'p', aspect_ratio: '1:1' }, '/aspect_ratio', 'unknown_field'],
  ['bfl/flux-2-flex', { prompt: 'p', 'a/b~c': 1 }, '/a~1b~0c', 'unknown_field'],
  ['bfl/flux-2-pro', { prompt: 'p', steps: 20 }, '/steps', 'unknown_field'],
  ['bfl/flux-2-klein-4b', { prompt: 'p', input_image_5: A }, '/input_image_5', 'unknown_field', 'image_to_image'],
  ['bfl/flux-kontext-pro', { prompt: 'p', aspect_ratio: '3:1' }, '/aspect_ratio', 'ratio'],
  ['bfl/flux-kontext-pro', { prompt: 'p', aspect_ratio: 'wide' }, '/aspect_ratio', 'pattern'],
  ['bfl/flux-1.1-pro', { prompt: 'p', width: 1472 }, '/width', 'maximum'],
  ['bfl/flux-3-video', { prompt: 'p', keyframes: [A, A, A] }, '/duration', 'required', 'image_to_video', false],
  ['bytedance/seedream-4.5', { prompt: 'p', size: '1024x1024' }, '/size', 'pixel_count'],
  ['bytedance/seedream-4.5', { prompt: 'p', size: '1K' }, '/size', 'pattern'],
  ['bytedance/seedream-4.5', { prompt: 'p', size: '40000x400' }, '/size', 'ratio'],
  ['bytedance/seedream-4.5', { prompt: 'p', image: [] }, '/image', 'length', 'image_to_image'],
  ['bytedance/seedream-4.5', { prompt: 'p', image: 5 }, '/image', 'type', 'image_to_image'],
  ['bytedance/seedream-4.5', { prompt: 'p', seed: 4 }, '/seed', 'unknown_field'],
  [
    'bytedance/seedream-4.5',
    { prompt: 'p', sequential_image_generation_options: { max_images: 2 } },
    '/sequential_image_generation_options',
    'conflict',
  ],
  [
    'bytedance/seedream-5-pro',
    { prompt: 'p', sequential_image_generation: 'auto' },
    '/sequential_image_generation',
    'unknown_field',
  ],
  ['bytedance/seedance-1.5-pro', { content: [words], duration: 1 }, '/duration', 'minimum'],
  ['bytedance/seedance-1.5-pro', { content: [words], duration: 13 }, '/duration', 'maximum'],
  ['bytedance/seedance-1.5-pro', { content: [words], resolution: '4k' }, '/resolution', 'enum'],
  ['bytedance/seedance-1.5-pro', { content: [words], frames: 29 }, '/frames', 'unknown_field'],
  ['bytedance/seedance-1.5-pro', { content: [words], priority: 1 }, '/priority', 'unknown_field'],
  ['bytedance/seedance-1.5-pro', { content: [] }, '/content', 'length'],
  ['bytedance/seedance-1.5-pro', { content: [words, words] }, '/content', 'conflict'],
  ['bytedance/seedance-1.5-pro', { content: [{ type: 'video_url' }] }, '/content/0/type', 'enum'],
  ['bytedance/seedance-1.5-pro', { content: [image('reference_image')] }, '/content/0/role', 'enum'],
  ['bytedance/seedance-1.5-pro', { content: [{ type: 'image_url' }] }, '/content/0/image_url', 'required'],
  ['bytedance/seedance-1.5-pro', { content: [image('last_frame')] }, '/content', 'conflict', 'image_to_video', false],
  ['bytedance/seedance-1.5-pro', { content: [image(), image()] }, '/content', 'conflict', 'image_to_video', false],
  ['bytedance/seedance-1.5-pro', { prompt: 'p' }, '/prompt', 'unknown_field'],
  ['bytedance/seedance-1-pro', { content: [words], frames: 30 }, '/frames', 'multiple_of'],
  ['bytedance/seedance-1-pro', { content: [words], duration: -1 }, '/duration', 'minimum'],
  ['bytedance/seedance-1-pro-fast', { content: [image('last_frame')] }, '/content/0/role', 'enum'],
  ['bytedance/seedance-2.0', { content: [words], seed: 1 }, '/seed', 'unknown_field'],
  ['bytedance/seedance-2.0', { content: [words], camera_fixed: true }, '/camera_fixed', 'unknown_field'],
  ['bytedance/seedance-2.0', { content: [image('last_frame'), image('reference_image')] }, '/content', 'conflict'],
  ['bytedance/seedance-2.0', { content: new Array<Json>(9).fill(image('reference_image')) }, '/content', 'length'],
  [
    'bytedance/seedance-2.0',
    { content: [words, { type: 'audio_url', audio_url: { url: 'https://a.example/a.mp3' } }] },
    '/content',
    'conflict',
    'image_to_video',
    false,
  ],
  [
    'bytedance/seedance-1-lite',
    { content: [words, image('reference_image')], camera_fixed: true },
    '/camera_fixed',
    'conflict',
  ],
  ['google/nano-banana', { prompt: 'p', imageSize: '2K' }, '/imageSize', 'unknown_field'],
  ['google/nano-banana', { prompt: 'p', image: [A, A, A, A] }, '/image', 'length', 'image_to_image'],
  ['google/nano-banana-pro', { prompt: 'p', aspectRatio: '1:8' }, '/aspectRatio', 'enum'],
  ['google/veo-3.1', { prompt: 'p', resolution: '1080p', durationSeconds: 4 }, '/durationSeconds', 'conflict'],
  ['google/veo-3.1', { prompt: 'p', durationSeconds: 5 }, '/durationSeconds', 'enum'],
  ['google/veo-3.1', { prompt: 'p', referenceImages: [A], lastFrame: A }, '/lastFrame', 'conflict'],
  ['google/veo-3.1', { prompt: 'p', referenceImages: [A, A, A] }, '/referenceImages', 'length'],
  ['google/veo-3.1-lite', { prompt: 'p', referenceImages: [A] }, '/referenceImages', 'unknown_field'],
  ['openai/gpt-image-1.5', { prompt: 'p', size: '1920x1088' }, '/size', 'enum'],
  ['openai/gpt-image-1.5', { prompt: 'p', mask: A }, '/mask', 'not_supported'],
  ['openai/gpt-image-1.5', { prompt: 'p', moderation: 'low' }, '/moderation', 'not_supported', 'image_to_image', true],
  [
    'openai/gpt-image-1.5',
    { prompt: 'p', background: 'transparent', output_format: 'jpeg' },
    '/background',
    'conflict',
  ],
  ['openai/gpt-image-1.5', { prompt: 'p', output_compression: 50 }, '/output_compression', 'conflict'],
  ['openai/gpt-image-2', { prompt: 'p', size: '1000x1000' }, '/size', 'multiple_of'],
  ['openai/gpt-image-2', { prompt: 'p', size: '3840x3840' }, '/size', 'too_many_pixels'],
  ['openai/gpt-image-2', { prompt: 'p', size: '3200x640' }, '/size', 'ratio'],
  ['openai/gpt-image-2', { prompt: 'p', background: 'transparent' }, '/background', 'enum'],
  ['openai/gpt-image-2', { prompt: 'p', quality: 'max' }, '/quality', 'enum'],
  ['kling/2.6-pro', { prompt: 'p', duration: 5 }, '/duration', 'enum'],
  ['kling/2.6-pro', { prompt: 'p', image_tail: A }, '/image_tail', 'conflict', 'image_to_video', false],
  ['wan/2.5-i2v', { prompt: 'p', duration: 7 }, '/duration', 'enum'],
  ['wan/2.7-i2v', { prompt: 'p', audio: true }, '/audio', 'unknown_field'],
  ['wan/2.7-i2v', { prompt: 'p', media: [{ type: 'reference_image', url: A }] }, '/media/0/type', 'enum'],
  ['wan/2.6-t2i', { prompt: 'p', size: '4096*4096' }, '/size', 'pixel_count'],
  ['wan/2.6-t2i', { prompt: 'p', size: '1280x1280' }, '/size', 'pattern'],
  ['minimax/hailuo-2.3', { prompt: 'p', duration: 10, resolution: '1080P' }, '/duration', 'conflict'],
  ['runway/gen4.5', {}, '/promptText', 'required'],
  ['runway/gen4.5', { promptText: 'p', ratio: '16:9' }, '/ratio', 'enum'],
  ['luma/photon', { prompt: 'p', modify_image_ref: { weight: 1 } }, '/modify_image_ref', 'not_supported'],
  ['ideogram/v3', { prompt: 'p', style_codes: ['9F1A2B3C'], style_type: 'DESIGN' }, '/style_codes', 'conflict'],
  ['ideogram/v3', { prompt: 'p', style_codes: ['xyz'] }, '/style_codes/0', 'pattern'],
]

for (const [id, params, pointer, code, role, wired] of bad) {
  test(`${id} refuses ${JSON.stringify(params).slice(0, 120)} at ${pointer}: ${code}`, () => {
    expect(problems(id, params, role, wired)).toContainEqual(expect.objectContaining({ pointer, code }))
  })
}

describe('what a model says', () => {
  test('all problems come at once, also those over several fields', () => {
    const found = problems('bfl/flux-2-flex', { prompt: 1, steps: 99, width: 4096, height: 4096, nope: true })
    expect(found.map(one => [one.pointer, one.code])).toEqual([
      ['/prompt', 'type'],
      ['/steps', 'maximum'],
      ['/nope', 'unknown_field'],
      ['/width', 'too_many_pixels'],
    ])
  })

  test('a problem is a plain sentence, its hint names the range', () => {
    const [first] = problems('bfl/flux-2-flex', { prompt: 'p', steps: 99 })
    expect(first).toEqual({
      pointer: '/steps',
      code: 'maximum',
      detail: 'steps must be at most 50',
      hint: 'steps takes an integer from 1 to 50; default 50.',
    })
  })

  test('a wrong step size comes with the two nearest values', () => {
    const [first] = problems('bfl/flux-2-flex', { prompt: 'p', width: 1000 })
    expect(first?.detail).toBe('width must be a multiple of 16')
    expect(first?.hint).toStartWith('Take 992 or 1008.')
  })

  test.each([
    ['widht', 'width'],
    ['Width', 'width'],
    ['safetyTolerance', 'safety_tolerance'],
    ['promt', 'prompt'],
    ['inputImage2', 'input_image_2'],
  ])('a typo like %s is recognized', (typo, meant) => {
    const found = problems('bfl/flux-2-flex', { prompt: 'p', [typo]: 1 }).find(one => one.code === 'unknown_field')
    expect(found?.hint).toStartWith(`Did you mean ${meant}?`)
  })

  test('the name that another maker uses gets advice, not a guess', () => {
    const [first] = problems('bfl/flux-2-flex', { prompt: 'p', aspect_ratio: '16:9' })
    expect(first?.hint).toStartWith('FLUX.2 has no aspect_ratio: give width and height.')
  })

  test('names from an object’s own machinery are unknown fields like any other', () => {
    const params = JSON.parse('{"prompt":"p","__proto__":{"steps":1},"constructor":1,"toString":2}') as JsonObject
    expect(problems('bfl/flux-2-flex', params).map(one => one.pointer)).toEqual([
      '/__proto__',
      '/constructor',
      '/toString',
    ])
  })

  test('a flood of wrong fields is cut', () => {
    const flood = Object.fromEntries(Array.from({ length: 5_000 }, (_, i) => [`x${i}`, i]))
    expect(problems('bfl/flux-2-flex', { prompt: 'p', ...flood }).length).toBeLessThanOrEqual(64)
  })

  test('deep and odd values are refused without a throw', () => {
    let deep: Json = 'x'
    for (let i = 0; i < 5_000; i++) deep = [deep]
    const odd: Json[] = [deep, null, [], {}, -0, 1e308, '\ud800', [null], { type: null }]
    for (const value of odd) {
      for (const model of catalog.all()) {
        for (const name of Object.keys(model.schema.properties as JsonObject)) {
          const [role = 'text_to_image'] = model.roles
          expect(() => model.validate({ [name]: value }, { role, wired: true })).not.toThrow()
          expect(() => model.pictures({ [name]: value })).not.toThrow()
        }
      }
    }
  })
})
