import { describe, expect, test } from 'bun:test'
import fc from 'fast-check'
import type { Json, JsonObject } from '../../../src/core/json.ts'
import type { Role } from '../../../src/core/model.ts'
import { type Order, orderOf, type Size, sizeFor } from '../../../src/providers/sandbox/orders.ts'

const PORTRAIT: Size = { width: 900, height: 1_600 }

/** What an order comes to, in one line: `1024x1024 jpeg`, `960x960 3s`. */
function summary(order: Order, input: Size | null): string {
  const { width, height } = sizeFor(order, input)
  const size = `${width}x${height}`
  if (order.kind === 'video') return `${size} ${order.seconds}s`
  return `${size} ${order.format}${order.count > 1 ? ` ×${order.count}` : ''}`
}

describe('pictures', () => {
  const table: [model: string, params: JsonObject, expected: string][] = [
    // FLUX: two numbers, 0 is automatic; jpeg unless said otherwise
    ['bfl/flux-2-flex', { width: 1_024, height: 1_024, output_format: 'jpeg', seed: 593 }, '1024x1024 jpeg'],
    ['bfl/flux-2-pro', { width: 0, height: 0 }, '1024x1024 jpeg'],
    ['bfl/flux-2-pro', { width: 1_440 }, '1440x1024 jpeg'],
    ['bfl/flux-2-max', { width: 768, height: 1_360, output_format: 'webp' }, '768x1360 webp'],
    ['bfl/flux-kontext-pro', { aspect_ratio: '3:7' }, '672x1568 png'],
    ['bfl/flux-1.1-pro-ultra', { aspect_ratio: '16:9', raw: false }, '1360x768 jpeg'],
    ['bfl/flux-3-image', { aspect_ratio: 'auto', resolution: '2k' }, '2048x2048 jpeg'],
    ['bfl/flux-3-image', { aspect_ratio: '2:1', resolution: '768sq' }, '1088x544 jpeg'],
    // Seedream: tiers and sizes; 2K unless said otherwise
    ['bytedance/seedream-4.5', {}, '2048x2048 jpeg'],
    ['bytedance/seedream-4.5', { size: '4K' }, '4096x4096 jpeg'],
    ['bytedance/seedream-4.5', { size: '2304x1728' }, '2304x1728 jpeg'],
    ['bytedance/seedream-5-pro', { size: '1.5K', output_format: 'png' }, '1536x1536 png'],
    [
      'bytedance/seedream-4.5',
      { sequential_image_generation: 'auto', sequential_image_generation_options: { max_images: 4 }, size: '1K' },
      '1024x1024 jpeg ×4',
    ],
    [
      'bytedance/seedream-4.5',
      { sequential_image_generation: 'disabled', max_images: 4, size: '1K' },
      '1024x1024 jpeg',
    ],
    // OpenAI
    ['openai/gpt-image-1.5', { size: '1536x1024', n: 3, quality: 'high' }, '1536x1024 png ×3'],
    ['openai/gpt-image-2', { size: 'auto', output_format: 'webp' }, '1024x1024 webp'],
    // Gemini, flat and in its envelope
    ['google/nano-banana-pro', { aspectRatio: '16:9', imageSize: '2K' }, '2736x1536 png'],
    [
      'google/nano-banana-2',
      { generationConfig: { imageConfig: { aspectRatio: '9:16', imageSize: '512' }, seed: 7 } },
      '384x688 png',
    ],
    // Runway, DashScope, Ideogram, fal, Replicate
    ['runway/gen4-image', { ratio: '1920:1080', promptText: 'x' }, '1920x1080 png'],
    ['qwen/qwen-image', { parameters: { size: '1328*1328', n: 2 } }, '1328x1328 png ×2'],
    ['ideogram/v3', { aspect_ratio: '16x9', num_images: 2 }, '1360x768 png ×2'],
    ['ideogram/v3', { resolution: '1312x736' }, '1312x736 png'],
    ['x/fal', { image_size: 'portrait_16_9', num_images: 1, output_format: 'jpeg' }, '576x1024 jpeg'],
    ['x/fal', { image_size: { width: 800, height: 600 } }, '800x600 png'],
    ['x/fal', { image_size: 'auto_4K' }, '4096x4096 png'],
    ['x/replicate', { aspect_ratio: '3:2', resolution: '0.5 MP', output_format: 'jpg' }, '880x592 jpeg'],
    ['x/replicate', { aspect_ratio: 'custom', width: 640, height: 960 }, '640x960 png'],
    // Too much, too little, nonsense
    ['x/y', { width: 9_000, height: 3_000 }, '4096x1365 png'],
    ['x/y', { width: 8, height: 8 }, '64x64 png'],
    ['x/y', { aspect_ratio: '1000:1' }, '4096x256 png'],
    ['x/y', { size: 'huge', aspect_ratio: 'wide', n: 999, output_format: 'tiff' }, '1024x1024 png ×15'],
    ['x/y', { width: 'broad', height: null, size: 7, seed: {} }, '1024x1024 png'],
  ]
  test.each(table)('%s %j', (model, params, expected) => {
    expect(summary(orderOf({ role: 'text_to_image', params }, model), null)).toBe(expected)
  })

  const edits: [model: string, params: JsonObject, expected: string][] = [
    ['bfl/flux-2-flex', {}, '900x1600 jpeg'],
    ['bfl/flux-2-flex', { width: 512, height: 512 }, '512x512 jpeg'],
    ['bytedance/seedream-4.5', {}, '1536x2736 jpeg'],
    ['x/replicate', { aspect_ratio: 'match_input_image', resolution: '1 MP' }, '768x1360 png'],
    ['openai/gpt-image-2', { size: 'auto' }, '900x1600 png'],
  ]
  test.each(edits)('%s %j of a portrait', (model, params, expected) => {
    expect(summary(orderOf({ role: 'image_to_image', params }, model), PORTRAIT)).toBe(expected)
  })
})

describe('films', () => {
  const table: [params: JsonObject, expected: string][] = [
    // Seedance
    [{ content: [{ type: 'text', text: 'x' }], ratio: '1:1', duration: 3, watermark: false }, '960x960 3s'],
    [{ ratio: '16:9', resolution: '1080p', duration: 5 }, '1920x1080 5s'],
    [{ ratio: '9:16', resolution: '480p' }, '496x864 5s'],
    [{ ratio: '21:9', resolution: '4k', duration: -1 }, '1920x822 5s'],
    [{ ratio: 'adaptive', duration: 'auto' }, '720x1280 5s'],
    [{ ratio: 'adaptive', frames: 36 }, '720x1280 1.5s'],
    [{}, '720x1280 5s'],
    [{ content: [{ type: 'text', text: 'drifts --rs 480p --dur 4 --rt 4:3 --seed 7' }] }, '752x560 4s'],
    [{ content: [{ type: 'text', text: 'drifts --dur 4' }], duration: 6 }, '720x1280 6s'],
    // fal, Kling, Veo, Luma: strings
    [{ aspect_ratio: '16:9', resolution: '720p', duration: '5' }, '1280x720 5s'],
    [{ aspect_ratio: 'auto', duration: '8s', resolution: '1080p' }, '1080x1920 8s'],
    [{ parameters: { aspectRatio: '9:16', durationSeconds: 6, resolution: '720p' } }, '720x1280 6s'],
    [{ resolution: '540p', aspect_ratio: '3:4', duration: '9s' }, '560x752 9s'],
    // Runway: pixels; DashScope: asterisk and capital P; MiniMax: 768P; FLUX video: hd, fhd
    [{ ratio: '1104:832', duration: 10 }, '1104x832 10s'],
    [{ ratio: '1584:672' }, '1584x672 5s'],
    [{ parameters: { size: '1280*720', duration: 2 } }, '1280x720 2s'],
    [{ resolution: '768P', duration: 6 }, '720x1280 6s'],
    [{ resolution: 'fhd', aspect_ratio: '1:1', duration: 20 }, '1440x1440 20s'],
    // Ratios that are in no table, sizes beyond ours
    [{ ratio: '3:2' }, '1176x784 5s'],
    [{ width: 3_840, height: 2_160 }, '1920x1080 5s'],
    [{ ratio: '1:20', duration: 999 }, '120x1920 30s'],
    [{ ratio: '1281:721', duration: 0.2 }, '1282x722 1s'],
  ]
  test.each(table)('%j', (params, expected) => {
    expect(summary(orderOf({ role: 'image_to_video', params }, 'x/film'), PORTRAIT)).toBe(expected)
  })

  test('without a picture are square', () => {
    expect(summary(orderOf({ role: 'image_to_video', params: {} }, 'x/film'), null)).toBe('960x960 5s')
  })
})

describe('prompts and seeds', () => {
  const table: [params: JsonObject, prompt: string, seed: number | null][] = [
    [{ prompt: ' a boat ', seed: 593 }, 'a boat', 593],
    [{ promptText: 'a boat', seed: -1 }, 'a boat', null],
    [
      {
        content: [
          { type: 'image_url', image_url: { url: 'https://x.example' } },
          { type: 'text', text: 'a boat' },
        ],
      },
      'a boat',
      null,
    ],
    [{ contents: [{ role: 'user', parts: [{ text: 'a boat' }, { text: 'at dawn' }] }] }, 'a boat\nat dawn', null],
    [{ instances: [{ prompt: 'a boat' }], parameters: { seed: 7 } }, 'a boat', 7],
    [
      { input: { messages: [{ role: 'user', content: [{ image: 'https://x.example' }, { text: 'a boat' }] }] } },
      'a boat',
      null,
    ],
    [{ input: { prompt: 'a boat', img_url: 'https://x.example' } }, 'a boat', null],
    [{ prompt: 'a boat --seed 9 --wm false --style raw' }, 'a boat --style raw', 9],
    [{ prompt: 'a boat --seed 9', seed: 1 }, 'a boat', 1],
    [{ seed: 4.7 }, '', 4],
  ]
  test.each(table)('%j', (params, prompt, seed) => {
    expect(orderOf({ role: 'text_to_image', params }, 'x/y')).toMatchObject({ prompt, seed })
  })
})

test('any parameters give an order that the studio takes', () => {
  const roles: Role[] = ['text_to_image', 'image_to_image', 'image_to_video']
  const names = [
    'width',
    'height',
    'size',
    'ratio',
    'aspect_ratio',
    'resolution',
    'duration',
    'frames',
    'n',
    'seed',
    'image_size',
    'prompt',
  ]
  const value = fc.oneof(
    fc.jsonValue(),
    fc.double(),
    fc.constantFrom('4K', '1:99999', '99999x1', '1e9', '0:0', '-1', '5s', '0.0001:1'),
  )
  const params = fc.dictionary(fc.oneof(fc.constantFrom(...names), fc.string()), value)
  const side = fc.integer({ min: 1, max: 20_000 })
  fc.assert(
    fc.property(fc.constantFrom(...roles), params, side, side, (role, given, width, height) => {
      const order = orderOf({ role, params: given as Record<string, Json> }, 'x/y')
      const size = sizeFor(order, { width, height })
      const isFilm = order.kind === 'video'
      for (const length of [size.width, size.height]) {
        expect(Number.isInteger(length) && length >= 64 && length <= (isFilm ? 1_920 : 4_096)).toBeTrue()
        if (isFilm) expect(length % 2).toBe(0)
      }
      expect(size.width * size.height).toBeLessThanOrEqual(isFilm ? 1_920 * 1_088 : 4_096 * 4_096)
      if (isFilm) expect(order.seconds >= 1 && order.seconds <= 30).toBeTrue()
      expect(order.seed === null || (Number.isInteger(order.seed) && order.seed >= 0)).toBeTrue()
    }),
    { numRuns: 2_000 },
  )
})
