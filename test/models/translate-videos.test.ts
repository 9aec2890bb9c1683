/** Expected requests, written by hand from the providers' field tables: films. */
import { test } from 'bun:test'
import type { JsonObject } from '../../src/core/json.ts'
import { expectRefusal, expectTranslation, type RefusedRow, type TranslatedRow } from '../support/translate.ts'

const A = 'https://media.example/a.png'
const B = 'https://media.example/b.png'
const DATA = 'data:image/png;base64,QUJD'

const text = (words: string): JsonObject => ({ type: 'text', text: words })
const image = (url: string, role: string): JsonObject => ({ type: 'image_url', image_url: { url }, role })

const rows: TranslatedRow[] = [
  [
    'Seedance at ModelArk: the first frame comes first, wherever it stands in the content',
    {
      model: 'bytedance/seedance-1.5-pro',
      provider: 'byteplus',
      params: { content: [image(B, 'last_frame'), text('orbit'), image(A, 'first_frame')], generate_audio: false },
      pictures: [A, B],
    },
    'seedance-1-5-pro-251215',
    {
      content: [text('orbit'), image(A, 'first_frame'), image(B, 'last_frame')],
      resolution: '720p',
      ratio: 'adaptive',
      duration: 5,
      generate_audio: false,
      watermark: false,
    },
  ],
  [
    'Seedance 1.5 at ModelArk: the picture of the step before is the first frame',
    {
      model: 'bytedance/seedance-1.5-pro',
      provider: 'byteplus',
      params: { content: [text('orbit'), image(B, 'last_frame')], ratio: '1:1', duration: 3, seed: -1 },
      pictures: [A, B],
    },
    'seedance-1-5-pro-251215',
    {
      content: [text('orbit'), image(A, 'first_frame'), image(B, 'last_frame')],
      resolution: '720p',
      ratio: '1:1',
      duration: 4,
      generate_audio: true,
      watermark: false,
      seed: -1,
    },
    [{ pointer: '/duration', from: 3, to: 4, reason: 'byteplus takes 4 to 12' }],
  ],
  [
    'Seedance 1.5 at fal: words for numbers, auto for adaptive, sound told',
    {
      model: 'bytedance/seedance-1.5-pro',
      provider: 'fal',
      params: { content: [text('orbit'), image(B, 'last_frame')], resolution: '1080p', generate_audio: false },
      pictures: [A, B],
    },
    'fal-ai/bytedance/seedance/v1.5/pro/image-to-video',
    {
      prompt: 'orbit',
      image_url: A,
      end_image_url: B,
      aspect_ratio: 'auto',
      resolution: '1080p',
      camera_fixed: false,
      generate_audio: false,
      duration: '5',
    },
  ],
  [
    'Seedance 1.5 at Replicate: sound on although its own default is off, no resolution',
    {
      model: 'bytedance/seedance-1.5-pro',
      provider: 'replicate',
      params: { content: [text('orbit')], resolution: '720p', ratio: 'adaptive', duration: 2, seed: -1 },
      pictures: [A],
    },
    'bytedance/seedance-1.5-pro',
    { prompt: 'orbit', image: A, duration: 2, camera_fixed: false, generate_audio: true },
    ['/ratio', '/resolution', '/seed'],
  ],
  [
    'Seedance 1 Pro at Replicate: its resolution told',
    {
      model: 'bytedance/seedance-1-pro',
      provider: 'replicate',
      params: { content: [text('orbit')], ratio: '16:9', seed: 4 },
      pictures: [A],
    },
    'bytedance/seedance-1-pro',
    {
      prompt: 'orbit',
      image: A,
      duration: 5,
      aspect_ratio: '16:9',
      resolution: '1080p',
      camera_fixed: false,
      seed: 4,
    },
  ],
  [
    'Seedance 1 Pro at fal: frames',
    {
      model: 'bytedance/seedance-1-pro',
      provider: 'fal',
      params: { content: [text('orbit')], frames: 121 },
      pictures: [A],
    },
    'fal-ai/bytedance/seedance/v1/pro/image-to-video',
    {
      prompt: 'orbit',
      image_url: A,
      aspect_ratio: 'auto',
      resolution: '1080p',
      camera_fixed: false,
      duration: '5',
      num_frames: 121,
    },
  ],
  [
    'Seedance 1 Lite at fal: references have an endpoint of their own',
    {
      model: 'bytedance/seedance-1-lite',
      provider: 'fal',
      params: { content: [text('orbit'), image(B, 'reference_image')] },
      pictures: [A, B],
    },
    'fal-ai/bytedance/seedance/v1/lite/reference-to-video',
    {
      prompt: 'orbit',
      reference_image_urls: [A, B],
      aspect_ratio: 'auto',
      resolution: '720p',
      camera_fixed: false,
      duration: '5',
    },
  ],
  [
    'Seedance 2.0 at ModelArk: with references, the picture of the step before is the first of them',
    {
      model: 'bytedance/seedance-2.0',
      provider: 'byteplus',
      params: {
        content: [
          text('dance'),
          image(B, 'reference_image'),
          { type: 'audio_url', audio_url: { url: 'https://cdn.example/a.mp3' } },
        ],
        duration: -1,
        priority: 9,
      },
      pictures: [A, B],
    },
    'dreamina-seedance-2-0-260128',
    {
      content: [
        text('dance'),
        image(A, 'reference_image'),
        image(B, 'reference_image'),
        { type: 'audio_url', audio_url: { url: 'https://cdn.example/a.mp3' }, role: 'reference_audio' },
      ],
      resolution: '720p',
      ratio: 'adaptive',
      duration: -1,
      generate_audio: true,
      watermark: false,
      priority: 9,
    },
  ],
  [
    'Seedance 2.0 at fal: frames',
    {
      model: 'bytedance/seedance-2.0',
      provider: 'fal',
      params: { content: [text('dance')], duration: -1, resolution: '1080p', watermark: false },
      pictures: [A],
    },
    'bytedance/seedance-2.0/image-to-video',
    {
      prompt: 'dance',
      image_url: A,
      duration: 'auto',
      aspect_ratio: 'auto',
      resolution: '1080p',
      generate_audio: true,
    },
    ['/watermark'],
  ],
  [
    'Seedance 2.0 at fal: references, films and sounds',
    {
      model: 'bytedance/seedance-2.0-fast',
      provider: 'fal',
      params: {
        content: [text('dance'), { type: 'video_url', video_url: { url: 'https://cdn.example/v.mp4' } }],
        ratio: '9:16',
        duration: 8,
      },
      pictures: [A],
    },
    'bytedance/seedance-2.0/fast/reference-to-video',
    {
      prompt: 'dance',
      image_urls: [A],
      video_urls: ['https://cdn.example/v.mp4'],
      duration: '8',
      aspect_ratio: '9:16',
      resolution: '720p',
      generate_audio: true,
    },
  ],
  [
    'Seedance 2.0 at Replicate: adaptive and -1 as they are',
    {
      model: 'bytedance/seedance-2.0',
      provider: 'replicate',
      params: { content: [text('dance'), image(B, 'last_frame')], duration: -1 },
      pictures: [A, B],
    },
    'bytedance/seedance-2.0',
    {
      prompt: 'dance',
      image: A,
      last_frame_image: B,
      duration: -1,
      resolution: '720p',
      generate_audio: true,
      aspect_ratio: 'adaptive',
    },
  ],
  [
    'Seedance 2.0 at Runway: ratio and resolution in pixels, positions for frames',
    {
      model: 'bytedance/seedance-2.0',
      provider: 'runway',
      params: { content: [text('dance'), image(B, 'last_frame')], ratio: '16:9', resolution: '480p', duration: 15 },
      pictures: [A, B],
    },
    'seedance2',
    {
      promptText: 'dance',
      promptImage: [
        { uri: A, position: 'first' },
        { uri: B, position: 'last' },
      ],
      ratio: '864:496',
      duration: 15,
      audio: true,
    },
  ],
  [
    'Seedance 2.5 at Runway: up to 30 s, its own pixels for 480p',
    {
      model: 'bytedance/seedance-2.5',
      provider: 'runway',
      params: { content: [text('dance')], ratio: '16:9', resolution: '480p', duration: 30 },
      pictures: [A],
    },
    'seedance2_5',
    {
      promptText: 'dance',
      promptImage: [{ uri: A, position: 'first' }],
      ratio: '854:480',
      duration: 30,
      audio: true,
    },
  ],
  [
    'Veo 3.1 at Gemini: bytes, numbers',
    {
      model: 'google/veo-3.1',
      provider: 'google',
      params: { prompt: 'drift', lastFrame: B, seed: 7, negativePrompt: 'rain', personGeneration: 'allow_adult' },
      pictures: [DATA, 'data:image/jpeg;base64,REVG'],
    },
    'veo-3.1-generate-preview',
    {
      instances: [
        {
          prompt: 'drift',
          image: { bytesBase64Encoded: 'QUJD', mimeType: 'image/png' },
          lastFrame: { bytesBase64Encoded: 'REVG', mimeType: 'image/jpeg' },
        },
      ],
      parameters: {
        aspectRatio: '16:9',
        resolution: '720p',
        durationSeconds: 8,
        negativePrompt: 'rain',
        seed: 7,
        personGeneration: 'allow_adult',
      },
    },
  ],
  [
    'Veo 3.1 at Gemini: references',
    {
      model: 'google/veo-3.1',
      provider: 'google',
      params: { prompt: 'drift', referenceImages: [B] },
      pictures: [DATA, DATA],
    },
    'veo-3.1-generate-preview',
    {
      instances: [
        {
          prompt: 'drift',
          referenceImages: [
            { image: { bytesBase64Encoded: 'QUJD', mimeType: 'image/png' }, referenceType: 'asset' },
            { image: { bytesBase64Encoded: 'QUJD', mimeType: 'image/png' }, referenceType: 'asset' },
          ],
        },
      ],
      parameters: { aspectRatio: '16:9', resolution: '720p', durationSeconds: 8 },
    },
  ],
  [
    'Veo 3.1 at fal: seconds with their unit, sound told',
    {
      model: 'google/veo-3.1-fast',
      provider: 'fal',
      params: { prompt: 'drift', durationSeconds: 4, aspectRatio: '9:16', seed: 7 },
      pictures: [A],
    },
    'fal-ai/veo3.1/fast/image-to-video',
    {
      prompt: 'drift',
      image_url: A,
      seed: 7,
      aspect_ratio: '9:16',
      resolution: '720p',
      duration: '4s',
      generate_audio: true,
    },
  ],
  [
    'Veo 3.1 at fal: two frames have an endpoint of their own',
    {
      model: 'google/veo-3.1',
      provider: 'fal',
      params: { prompt: 'drift', lastFrame: B, resolution: '4k', negativePrompt: 'rain' },
      pictures: [A, B],
    },
    'fal-ai/veo3.1/first-last-frame-to-video',
    {
      prompt: 'drift',
      first_frame_url: A,
      last_frame_url: B,
      negative_prompt: 'rain',
      aspect_ratio: '16:9',
      resolution: '4k',
      duration: '8s',
      generate_audio: true,
    },
  ],
  [
    'Veo 3.1 at Replicate: 720p although its own default is 1080p',
    { model: 'google/veo-3.1', provider: 'replicate', params: { prompt: 'drift', durationSeconds: 6 }, pictures: [A] },
    'google/veo-3.1',
    { prompt: 'drift', image: A, aspect_ratio: '16:9', resolution: '720p', duration: 6, generate_audio: true },
  ],
  [
    'Veo 3.1 at Runway: pixels',
    {
      model: 'google/veo-3.1',
      provider: 'runway',
      params: { prompt: 'drift', resolution: '1080p', aspectRatio: '9:16' },
      pictures: [A],
    },
    'veo3.1',
    {
      promptText: 'drift',
      promptImage: [{ uri: A, position: 'first' }],
      ratio: '1080:1920',
      duration: 8,
      audio: true,
    },
  ],
  [
    'Kling 2.6 at fal: no sound unless asked, no words of fal’s own',
    {
      model: 'kling/2.6-pro',
      provider: 'fal',
      params: { prompt: 'run', duration: '10', image_tail: B },
      pictures: [A, B],
    },
    'fal-ai/kling-video/v2.6/pro/image-to-video',
    {
      prompt: 'run',
      start_image_url: A,
      end_image_url: B,
      duration: '10',
      negative_prompt: '',
      generate_audio: false,
    },
  ],
  [
    'Kling 2.6 at Replicate: whole numbers',
    {
      model: 'kling/2.6-pro',
      provider: 'replicate',
      params: { prompt: 'run', sound: 'on', negative_prompt: 'rain' },
      pictures: [A],
    },
    'kwaivgi/kling-v2.6',
    { prompt: 'run', negative_prompt: 'rain', start_image: A, duration: 5, generate_audio: true },
  ],
  [
    'Kling 3 at fal: the tier is in the path',
    { model: 'kling/3-std', provider: 'fal', params: { prompt: 'run', duration: '3', cfg_scale: 0.7 }, pictures: [A] },
    'fal-ai/kling-video/v3/standard/image-to-video',
    {
      prompt: 'run',
      start_image_url: A,
      duration: '3',
      cfg_scale: 0.7,
      negative_prompt: '',
      generate_audio: false,
    },
  ],
  [
    'Kling 3 at Replicate: the tier is a mode',
    { model: 'kling/3-pro', provider: 'replicate', params: { prompt: 'run', image_tail: B }, pictures: [A, B] },
    'kwaivgi/kling-v3-video',
    { prompt: 'run', start_image: A, end_image: B, duration: 5, generate_audio: false, mode: 'pro' },
  ],
  [
    'Wan 2.5 at DashScope: input and parameters',
    {
      model: 'wan/2.5-i2v',
      provider: 'dashscope',
      params: { prompt: 'surf', negative_prompt: 'rain', resolution: '480P', seed: 5 },
      pictures: [A],
    },
    'wan2.5-i2v-preview',
    {
      input: { prompt: 'surf', negative_prompt: 'rain', img_url: A },
      parameters: { resolution: '480P', duration: 5, prompt_extend: true, audio: true, watermark: false, seed: 5 },
    },
  ],
  [
    'Wan 2.5 at fal: small letters',
    { model: 'wan/2.5-i2v', provider: 'fal', params: { prompt: 'surf', duration: 10, audio: true }, pictures: [A] },
    'fal-ai/wan-25-preview/image-to-video',
    { prompt: 'surf', image_url: A, resolution: '1080p', duration: '10', enable_prompt_expansion: true },
    ['/audio'],
  ],
  [
    'Wan 2.5 at Replicate',
    { model: 'wan/2.5-i2v', provider: 'replicate', params: { prompt: 'surf', prompt_extend: false }, pictures: [A] },
    'wan-video/wan-2.5-i2v',
    { prompt: 'surf', image: A, resolution: '1080p', duration: 5, enable_prompt_expansion: false },
  ],
  [
    'Wan 2.6 at fal: several shots',
    {
      model: 'wan/2.6-i2v',
      provider: 'fal',
      params: { prompt: 'surf', duration: 15, shot_type: 'multi' },
      pictures: [A],
    },
    'wan/v2.6/image-to-video',
    {
      prompt: 'surf',
      image_url: A,
      resolution: '1080p',
      duration: '15',
      enable_prompt_expansion: true,
      multi_shots: true,
    },
  ],
  [
    'Wan 2.7 at DashScope: media with their types',
    {
      model: 'wan/2.7-i2v',
      provider: 'dashscope',
      params: { prompt: 'surf', media: [{ type: 'last_frame', url: B }], duration: 2 },
      pictures: [A, B],
    },
    'wan2.7-i2v',
    {
      input: {
        prompt: 'surf',
        media: [
          { type: 'first_frame', url: A },
          { type: 'last_frame', url: B },
        ],
      },
      parameters: { resolution: '1080P', duration: 2, prompt_extend: true, watermark: false },
    },
  ],
  [
    'Wan 2.7 at fal: two frames',
    {
      model: 'wan/2.7-i2v',
      provider: 'fal',
      params: { prompt: 'surf', media: [{ type: 'last_frame', url: B }], resolution: '720P' },
      pictures: [A, B],
    },
    'fal-ai/wan/v2.7/image-to-video',
    {
      prompt: 'surf',
      image_url: A,
      end_image_url: B,
      resolution: '720p',
      duration: '5',
      enable_prompt_expansion: true,
    },
  ],
  [
    'Wan 3.0 at DashScope: there is no switch for the sound',
    { model: 'wan/3.0', provider: 'dashscope', params: { prompt: 'surf', audio: true, duration: 2 }, pictures: [A] },
    'wan3.0-video',
    {
      input: { prompt: 'surf', media: [{ type: 'first_frame', url: A }] },
      parameters: { resolution: '1080P', ratio: 'adaptive', duration: 2, prompt_extend: true, watermark: false },
    },
    ['/audio'],
  ],
  [
    'Wan 3.0 at Runway: the ratio of the frame',
    {
      model: 'wan/3.0',
      provider: 'runway',
      params: { prompt: 'surf', resolution: '720P', audio: false },
      pictures: [A],
    },
    'wan3',
    {
      promptText: 'surf',
      promptImage: [{ uri: A, position: 'first' }],
      ratio: 'auto_720p',
      duration: 5,
      audio: false,
    },
  ],
  [
    'Hailuo 2.3 at fal: an endpoint for 1080P',
    {
      model: 'minimax/hailuo-2.3',
      provider: 'fal',
      params: { prompt: 'jump', resolution: '1080P', prompt_optimizer: false },
      pictures: [A],
    },
    'fal-ai/minimax/hailuo-2.3/pro/image-to-video',
    { prompt: 'jump', image_url: A, prompt_optimizer: false },
  ],
  [
    'Hailuo 02 at Replicate: small letters',
    {
      model: 'minimax/hailuo-02',
      provider: 'replicate',
      params: { prompt: 'jump', duration: 10, last_frame_image: B },
      pictures: [A, B],
    },
    'minimax/hailuo-02',
    {
      prompt: 'jump',
      first_frame_image: A,
      last_frame_image: B,
      duration: 10,
      prompt_optimizer: true,
      resolution: '768p',
    },
  ],
  [
    'MiniMax H3 at Runway: content as at ByteDance',
    { model: 'minimax/h3', provider: 'runway', params: { content: [text('jump')], ratio: '1:1' }, pictures: [A] },
    'hailuo3',
    {
      promptText: 'jump',
      promptImage: [{ uri: A, position: 'first' }],
      ratio: '1:1',
      duration: 5,
      resolution: '2k',
    },
  ],
  [
    'Ray 2 at fal: 720p although its own default is 540p',
    {
      model: 'luma/ray-2',
      provider: 'fal',
      params: { prompt: 'fly', keyframes: { frame1: { type: 'image', url: B } } },
      pictures: [A, B],
    },
    'fal-ai/luma-dream-machine/ray-2/image-to-video',
    {
      prompt: 'fly',
      image_url: A,
      end_image_url: B,
      aspect_ratio: '16:9',
      loop: false,
      resolution: '720p',
      duration: '5s',
    },
  ],
  [
    'Gen-4.5 at Runway: duration and ratio told',
    { model: 'runway/gen4.5', provider: 'runway', params: { promptText: 'walk', seed: 9 }, pictures: [A] },
    'gen4.5',
    {
      promptText: 'walk',
      promptImage: [{ uri: A, position: 'first' }],
      ratio: '1280:720',
      duration: 5,
      seed: 9,
    },
  ],
  [
    'Gen-4 Turbo at Replicate: a ratio in words',
    {
      model: 'runway/gen4_turbo',
      provider: 'replicate',
      params: { promptText: 'walk', ratio: '1104:832', duration: 10 },
      pictures: [A],
    },
    'runwayml/gen4-turbo',
    { prompt: 'walk', image: A, duration: 10, aspect_ratio: '4:3' },
    [{ pointer: '/ratio', from: '1104:832', to: '4:3', reason: 'replicate takes a ratio instead of a size' }],
  ],
  [
    'FLUX 3 video at BFL: raw base64, the mode told',
    { model: 'bfl/flux-3-video', provider: 'bfl', params: { prompt: 'sail', duration: 8 }, pictures: [DATA] },
    'flux-3-video',
    {
      mode: 'i2v',
      prompt: 'sail',
      keyframes: ['QUJD'],
      duration: 8,
      resolution: 'hd',
      aspect_ratio: 'auto',
      generate_audio: true,
      safety_tolerance: 2,
    },
  ],
]

test.each(rows)('%s', expectTranslation)

const refused: RefusedRow[] = [
  [
    'fal films no automatic duration of Seedance 1.5',
    {
      model: 'bytedance/seedance-1.5-pro',
      provider: 'fal',
      params: { content: [text('a')], duration: -1 },
      pictures: [A],
    },
    /automatic/,
  ],
  [
    'Replicate films Seedance 1.5 in 720p only',
    {
      model: 'bytedance/seedance-1.5-pro',
      provider: 'replicate',
      params: { content: [text('a')], resolution: '1080p' },
      pictures: [A],
    },
    /720p/,
  ],
  [
    'fal has no cheap tier',
    {
      model: 'bytedance/seedance-1.5-pro',
      provider: 'fal',
      params: { content: [text('a')], service_tier: 'flex' },
      pictures: [A],
    },
    /service_tier/,
  ],
  [
    'fal films no 4k of Seedance 2.0',
    {
      model: 'bytedance/seedance-2.0',
      provider: 'fal',
      params: { content: [text('a')], resolution: '4k' },
      pictures: [A],
    },
    /4k/,
  ],
  [
    'Runway cannot take the ratio of the picture in 1080p',
    {
      model: 'bytedance/seedance-2.0',
      provider: 'runway',
      params: { content: [text('a')], resolution: '1080p' },
      pictures: [A],
    },
    /ratio/,
  ],
  [
    'Runway reads short prompts of Veo',
    { model: 'google/veo-3.1', provider: 'runway', params: { prompt: 'a'.repeat(1_001) }, pictures: [A] },
    /1000/,
  ],
  [
    'DashScope films Wan 3.0 no smaller than 720P',
    { model: 'wan/3.0', provider: 'dashscope', params: { prompt: 'a', resolution: '480P' }, pictures: [A] },
    /720P or 1080P/,
  ],
  [
    'Runway takes no negative prompt for Veo',
    { model: 'google/veo-3.1', provider: 'runway', params: { prompt: 'a', negativePrompt: 'rain' }, pictures: [A] },
    /negativePrompt/,
  ],
  [
    'Runway takes no references for Veo',
    { model: 'google/veo-3.1', provider: 'runway', params: { prompt: 'a', referenceImages: [B] }, pictures: [A, B] },
    /further pictures/,
  ],
  [
    'Replicate has no last frame of Kling 2.6',
    { model: 'kling/2.6-pro', provider: 'replicate', params: { prompt: 'a', image_tail: B }, pictures: [A, B] },
    /last frame/,
  ],
  [
    'DashScope films no Wan 3.0 without sound',
    { model: 'wan/3.0-prime', provider: 'dashscope', params: { prompt: 'a', audio: false }, pictures: [A] },
    /cannot do audio false: it always makes sound/,
  ],
  [
    'fal films Wan 2.6 in three lengths',
    { model: 'wan/2.6-i2v', provider: 'fal', params: { prompt: 'a', duration: 7 }, pictures: [A] },
    /5, 10, 15/,
  ],
]

test.each(refused)('%s', expectRefusal)
