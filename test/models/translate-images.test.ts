/** Expected requests, written by hand from the providers' field tables: images. */
import { expect, test } from 'bun:test'
import type { Json, JsonObject } from '../../src/core/json.ts'
import { type Asked, translated } from '../support/translate.ts'

const A = 'https://media.example/a.png'
const B = 'https://media.example/b.png'
const C = 'https://media.example/c.png'
const DATA = 'data:image/png;base64,QUJD'

type Row = [name: string, asked: Asked, providerModel: string, body: JsonObject, adjusted?: Json[]]

const rows: Row[] = [
  [
    'FLUX.2 flex at BFL: what other hosts would do differently is told, automatic sizes are not',
    { model: 'bfl/flux-2-flex', provider: 'bfl', params: { prompt: 'p', width: 0 } },
    'flux-2-flex',
    { prompt: 'p', prompt_upsampling: true, guidance: 5, steps: 50, safety_tolerance: 2, output_format: 'jpeg' },
    ['/width'],
  ],
  [
    'FLUX.2 edit at BFL: pictures keep their places, and a data URI loses its head',
    {
      model: 'bfl/flux-2-pro',
      provider: 'bfl',
      params: { prompt: 'p', input_image: A, input_image_3: B },
      pictures: [DATA, B],
    },
    'flux-2-pro',
    { prompt: 'p', input_image: 'QUJD', input_image_3: B, safety_tolerance: 2, output_format: 'jpeg' },
  ],
  [
    'FLUX.2 at BFL: a step that joins two steps reads the second picture at the first free place',
    {
      model: 'bfl/flux-2-pro',
      provider: 'bfl',
      params: { prompt: 'p', input_image_2: C },
      pictures: [A, B, C],
    },
    'flux-2-pro',
    { prompt: 'p', input_image: A, input_image_3: B, input_image_2: C, safety_tolerance: 2, output_format: 'jpeg' },
  ],
  [
    'FLUX.2 flex at fal: square like BFL, steps, guidance and tolerance in its words',
    { model: 'bfl/flux-2-flex', provider: 'fal', params: { prompt: 'p', seed: 7, safety_tolerance: 0 } },
    'fal-ai/flux-2-flex',
    {
      prompt: 'p',
      seed: 7,
      image_size: 'square_hd',
      enable_prompt_expansion: true,
      guidance_scale: 5,
      num_inference_steps: 50,
      safety_tolerance: '1',
      output_format: 'jpeg',
    },
    [{ pointer: '/safety_tolerance', from: 0, to: 1, reason: 'fal takes 1 to 5' }],
  ],
  [
    'FLUX.2 max at fal: an edit is another endpoint',
    {
      model: 'bfl/flux-2-max',
      provider: 'fal',
      params: { prompt: 'p', input_image_2: B, width: 1920, height: 1088 },
      pictures: [A, B],
    },
    'fal-ai/flux-2-max/edit',
    {
      prompt: 'p',
      image_urls: [A, B],
      image_size: { width: 1920, height: 1088 },
      safety_tolerance: '2',
      output_format: 'jpeg',
    },
  ],
  [
    'FLUX.2 flex at Replicate: a custom size in steps of 32, jpg',
    { model: 'bfl/flux-2-flex', provider: 'replicate', params: { prompt: 'p', width: 1040, height: 1040 } },
    'black-forest-labs/flux-2-flex',
    {
      prompt: 'p',
      aspect_ratio: 'custom',
      width: 1056,
      height: 1056,
      prompt_upsampling: true,
      guidance: 5,
      steps: 50,
      safety_tolerance: 2,
      output_format: 'jpg',
    },
    ['/width', '/height'],
  ],
  [
    'FLUX.2 pro at Replicate: a picture gives ratio and resolution',
    { model: 'bfl/flux-2-pro', provider: 'replicate', params: { prompt: 'p', output_format: 'webp' }, pictures: [A] },
    'black-forest-labs/flux-2-pro',
    {
      prompt: 'p',
      input_images: [A],
      aspect_ratio: 'match_input_image',
      resolution: 'match_input_image',
      safety_tolerance: 2,
      output_format: 'webp',
    },
  ],
  [
    'FLUX.2 klein at fal: open weights, no tolerance',
    { model: 'bfl/flux-2-klein-9b', provider: 'fal', params: { prompt: 'p' }, pictures: [A] },
    'fal-ai/flux-2/klein/9b/edit',
    { prompt: 'p', image_urls: [A], num_images: 1, output_format: 'jpeg' },
  ],
  [
    'FLUX.2 klein at Replicate: one megapixel in the ratio of the picture',
    {
      model: 'bfl/flux-2-klein-4b',
      provider: 'replicate',
      params: { prompt: 'p', output_format: 'png' },
      pictures: [A],
    },
    'black-forest-labs/flux-2-klein-4b',
    { prompt: 'p', images: [A], aspect_ratio: 'match_input_image', output_megapixels: '1', output_format: 'png' },
  ],
  [
    'Kontext at fal: several pictures have an endpoint of their own',
    {
      model: 'bfl/flux-kontext-max',
      provider: 'fal',
      params: { prompt: 'p', input_image_2: B, aspect_ratio: '16:9', safety_tolerance: 6 },
      pictures: [A, B],
    },
    'fal-ai/flux-pro/kontext/max/multi',
    {
      prompt: 'p',
      image_urls: [A, B],
      aspect_ratio: '16:9',
      enhance_prompt: false,
      num_images: 1,
      safety_tolerance: '6',
      output_format: 'png',
    },
  ],
  [
    'Kontext at fal: text has one too, and its default format is PNG as at BFL',
    { model: 'bfl/flux-kontext-pro', provider: 'fal', params: { prompt: 'p' } },
    'fal-ai/flux-pro/kontext/text-to-image',
    {
      prompt: 'p',
      aspect_ratio: '1:1',
      enhance_prompt: false,
      num_images: 1,
      safety_tolerance: '2',
      output_format: 'png',
    },
  ],
  [
    'Kontext at Replicate: one picture, its ratio',
    { model: 'bfl/flux-kontext-pro', provider: 'replicate', params: { prompt: 'p', seed: 3 }, pictures: [A] },
    'black-forest-labs/flux-kontext-pro',
    {
      prompt: 'p',
      seed: 3,
      input_image: A,
      aspect_ratio: 'match_input_image',
      prompt_upsampling: false,
      safety_tolerance: 2,
      output_format: 'png',
    },
  ],
  [
    'FLUX1.1 pro at fal: 1024 × 768 is BFL’s default',
    { model: 'bfl/flux-1.1-pro', provider: 'fal', params: { prompt: 'p' } },
    'fal-ai/flux-pro/v1.1',
    {
      prompt: 'p',
      image_size: { width: 1024, height: 768 },
      num_images: 1,
      enhance_prompt: false,
      safety_tolerance: '2',
      output_format: 'jpeg',
    },
  ],
  [
    'FLUX1.1 pro at Replicate: a custom size',
    { model: 'bfl/flux-1.1-pro', provider: 'replicate', params: { prompt: 'p', width: 512 } },
    'black-forest-labs/flux-1.1-pro',
    {
      prompt: 'p',
      aspect_ratio: 'custom',
      width: 512,
      height: 768,
      prompt_upsampling: false,
      safety_tolerance: 2,
      output_format: 'jpg',
    },
  ],
  [
    'Seedream 4.5 at ModelArk: no watermark unless asked',
    { model: 'bytedance/seedream-4.5', provider: 'byteplus', params: { prompt: 'p', image: A }, pictures: [A] },
    'seedream-4-5-251128',
    { prompt: 'p', image: A, size: '2K', sequential_image_generation: 'disabled', watermark: false },
  ],
  [
    'Seedream 4.5 at fal: tiers as auto_4K, an edit is another endpoint',
    {
      model: 'bytedance/seedream-4.5',
      provider: 'fal',
      params: { prompt: 'p', image: [A, B], size: '4K' },
      pictures: [A, B],
    },
    'fal-ai/bytedance/seedream/v4.5/edit',
    { prompt: 'p', image_urls: [A, B], image_size: 'auto_4K', num_images: 1, max_images: 1 },
  ],
  [
    'Seedream 4.5 at fal: a set of pictures',
    {
      model: 'bytedance/seedream-4.5',
      provider: 'fal',
      params: {
        prompt: 'p',
        size: '2048x2048',
        sequential_image_generation: 'auto',
        sequential_image_generation_options: { max_images: 4 },
        watermark: false,
      },
    },
    'fal-ai/bytedance/seedream/v4.5/text-to-image',
    { prompt: 'p', image_size: { width: 2048, height: 2048 }, num_images: 1, max_images: 4 },
    ['/watermark'],
  ],
  [
    'Seedream 4.5 at Replicate: pixels are a custom size',
    {
      model: 'bytedance/seedream-4.5',
      provider: 'replicate',
      params: { prompt: 'p', size: '2560x1440' },
      pictures: [A],
    },
    'bytedance/seedream-4.5',
    {
      prompt: 'p',
      image_input: [A],
      size: 'custom',
      width: 2560,
      height: 1440,
      sequential_image_generation: 'disabled',
      max_images: 1,
    },
  ],
  [
    'Seedream 5 lite at Replicate: a tier, its format told',
    { model: 'bytedance/seedream-5-lite', provider: 'replicate', params: { prompt: 'p', size: '3K' } },
    'bytedance/seedream-5-lite',
    {
      prompt: 'p',
      size: '3K',
      aspect_ratio: 'match_input_image',
      sequential_image_generation: 'disabled',
      max_images: 1,
      output_format: 'jpeg',
    },
  ],
  [
    'Seedream 5 pro at Runway: its word for a tier',
    { model: 'bytedance/seedream-5-pro', provider: 'runway', params: { prompt: 'p' }, pictures: [A] },
    'seedream5_pro',
    {
      promptText: 'p',
      referenceImages: [{ uri: A }],
      ratio: 'auto_2k',
      outputCount: 1,
      grounding: false,
      outputFormat: 'jpeg',
    },
  ],
  [
    'Nano Banana at Gemini: parts and configuration',
    {
      model: 'google/nano-banana-pro',
      provider: 'google',
      params: { prompt: 'make it night', aspectRatio: '16:9', imageSize: '2K', seed: 7 },
      pictures: [DATA],
    },
    'gemini-3-pro-image',
    {
      contents: [
        { role: 'user', parts: [{ text: 'make it night' }, { inlineData: { mimeType: 'image/png', data: 'QUJD' } }] },
      ],
      generationConfig: {
        responseModalities: ['IMAGE'],
        imageConfig: { aspectRatio: '16:9', imageSize: '2K' },
        seed: 7,
      },
    },
  ],
  [
    'Nano Banana of 2.5 at Gemini has no sizes',
    { model: 'google/nano-banana', provider: 'google', params: { prompt: 'p' } },
    'gemini-2.5-flash-image',
    { contents: [{ role: 'user', parts: [{ text: 'p' }] }], generationConfig: { responseModalities: ['IMAGE'] } },
  ],
  [
    'Nano Banana 2 at fal: 512 is 0.5K there',
    { model: 'google/nano-banana-2', provider: 'fal', params: { prompt: 'p', imageSize: '512' }, pictures: [A] },
    'fal-ai/nano-banana-2/edit',
    { prompt: 'p', image_urls: [A], aspect_ratio: 'auto', resolution: '0.5K', num_images: 1, output_format: 'png' },
  ],
  [
    'Nano Banana Pro at Replicate: 1K although its own default is 2K, no seed',
    { model: 'google/nano-banana-pro', provider: 'replicate', params: { prompt: 'p', seed: 7 }, pictures: [A] },
    'google/nano-banana-pro',
    {
      prompt: 'p',
      image_input: [A],
      aspect_ratio: 'match_input_image',
      resolution: '1K',
      output_format: 'png',
    },
    ['/seed'],
  ],
  [
    'Nano Banana 2 at Runway: size and ratio in one',
    {
      model: 'google/nano-banana-2',
      provider: 'runway',
      params: { prompt: 'p', aspectRatio: '21:9', imageSize: '4K' },
      pictures: [A],
    },
    'gemini_image3.1_flash',
    { promptText: 'p', referenceImages: [{ uri: A }], ratio: '6336:2688' },
  ],
  [
    'GPT Image 1.5 at OpenAI: an edit holds its pictures',
    {
      model: 'openai/gpt-image-1.5',
      provider: 'openai',
      params: { prompt: 'p', image: [A, B], mask: A, n: 2 },
      pictures: [DATA, `${DATA}=`, DATA],
    },
    'gpt-image-1.5',
    {
      prompt: 'p',
      images: [DATA, `${DATA}=`],
      mask: DATA,
      input_fidelity: 'low',
      n: 2,
      size: 'auto',
      quality: 'auto',
      background: 'auto',
      output_format: 'png',
    },
  ],
  [
    'GPT Image 1.5 at OpenAI: from text, with moderation',
    { model: 'openai/gpt-image-1.5', provider: 'openai', params: { prompt: 'p', moderation: 'low' } },
    'gpt-image-1.5',
    {
      prompt: 'p',
      moderation: 'low',
      n: 1,
      size: 'auto',
      quality: 'auto',
      background: 'auto',
      output_format: 'png',
    },
  ],
  [
    'GPT Image 1.5 at fal: nothing automatic where a picture is made from text',
    { model: 'openai/gpt-image-1.5', provider: 'fal', params: { prompt: 'p', size: 'auto', quality: 'auto' } },
    'fal-ai/gpt-image-1.5',
    {
      prompt: 'p',
      num_images: 1,
      image_size: '1024x1024',
      quality: 'high',
      background: 'auto',
      output_format: 'png',
    },
    ['/size', '/quality'],
  ],
  [
    'GPT Image 1.5 at fal: an edit',
    {
      model: 'openai/gpt-image-1.5',
      provider: 'fal',
      params: { prompt: 'p', mask: B, quality: 'low', input_fidelity: 'high' },
      pictures: [A, B],
    },
    'fal-ai/gpt-image-1.5/edit',
    {
      prompt: 'p',
      image_urls: [A],
      mask_image_url: B,
      num_images: 1,
      input_fidelity: 'high',
      image_size: 'auto',
      quality: 'low',
      background: 'auto',
      output_format: 'png',
    },
  ],
  [
    'GPT Image 1.5 at Replicate: a ratio instead of a size',
    {
      model: 'openai/gpt-image-1.5',
      provider: 'replicate',
      params: { prompt: 'p', size: '1536x1024', n: 3, safety_identifier: 'u1' },
    },
    'openai/gpt-image-1.5',
    {
      prompt: 'p',
      aspect_ratio: '3:2',
      number_of_images: 3,
      quality: 'auto',
      background: 'auto',
      output_format: 'png',
      moderation: 'auto',
      user_id: 'u1',
    },
  ],
  [
    'GPT Image 2 at fal: any size',
    { model: 'openai/gpt-image-2', provider: 'fal', params: { prompt: 'p', size: '1920x1088', quality: 'medium' } },
    'openai/gpt-image-2',
    {
      prompt: 'p',
      num_images: 1,
      image_size: { width: 1920, height: 1088 },
      quality: 'medium',
      output_format: 'png',
    },
  ],
  [
    'GPT Image 2 at Runway: a size of its list',
    { model: 'openai/gpt-image-2', provider: 'runway', params: { prompt: 'p', size: '2560x1440' }, pictures: [A] },
    'gpt_image_2',
    {
      promptText: 'p',
      referenceImages: [{ uri: A }],
      ratio: '2560:1440',
      outputCount: 1,
      quality: 'auto',
      background: 'auto',
    },
  ],
  [
    'Qwen-Image at DashScope: messages',
    { model: 'qwen/qwen-image', provider: 'dashscope', params: { prompt: 'p', negative_prompt: 'blur', seed: 1 } },
    'qwen-image',
    {
      input: { messages: [{ role: 'user', content: [{ text: 'p' }] }] },
      parameters: { size: '1328*1328', negative_prompt: 'blur', prompt_extend: true, watermark: false, seed: 1 },
    },
  ],
  [
    'Wan 2.6 editing at fal: pictures, count, rewriting',
    {
      model: 'wan/2.6-image',
      provider: 'fal',
      params: { prompt: 'p', n: 2, size: '1280*960', prompt_extend: false },
      pictures: [A],
    },
    'wan/v2.6/image-to-image',
    {
      prompt: 'p',
      image_urls: [A],
      image_size: { width: 1280, height: 960 },
      num_images: 2,
      enable_prompt_expansion: false,
    },
  ],
  [
    'Wan 2.5 from text at DashScope: the older task',
    { model: 'wan/2.5-t2i', provider: 'dashscope', params: { prompt: 'p' } },
    'wan2.5-t2i-preview',
    { input: { prompt: 'p' }, parameters: { size: '1280*1280', n: 1, prompt_extend: true, watermark: false } },
  ],
  [
    'Ideogram at fal: a picture is remixed, percent become a share',
    {
      model: 'ideogram/v3',
      provider: 'fal',
      params: { prompt: 'p', image_weight: 80, aspect_ratio: '16x9', magic_prompt: 'OFF', rendering_speed: 'TURBO' },
      pictures: [A],
    },
    'fal-ai/ideogram/v3/remix',
    {
      prompt: 'p',
      image_url: A,
      strength: 0.8,
      image_size: { width: 1344, height: 768 },
      rendering_speed: 'TURBO',
      expand_prompt: false,
      num_images: 1,
    },
  ],
  [
    'Ideogram at Replicate: a model for each speed',
    { model: 'ideogram/v3', provider: 'replicate', params: { prompt: 'p', rendering_speed: 'QUALITY' } },
    'ideogram-ai/ideogram-v3-quality',
    { prompt: 'p', aspect_ratio: '1:1', magic_prompt_option: 'Auto' },
  ],
  [
    'Photon at fal: a picture is modified',
    {
      model: 'luma/photon',
      provider: 'fal',
      params: { prompt: 'p', modify_image_ref: { weight: 0.5 } },
      pictures: [A],
    },
    'fal-ai/luma-photon/modify',
    { prompt: 'p', image_url: A, strength: 0.5, aspect_ratio: '16:9' },
  ],
  [
    'FLUX.2 klein in ComfyUI: values for a workflow, what was not given is left to it',
    {
      model: 'bfl/flux-2-klein-4b',
      provider: 'comfyui',
      params: { prompt: 'p', input_image_2: B, width: 512, height: 512, output_format: 'png' },
      pictures: ['a.png', 'b.png'],
    },
    'flux-2-klein-4b',
    { prompt: 'p', image: 'a.png', image_2: 'b.png', width: 512, height: 512 },
    ['/output_format'],
  ],
  [
    'Gen-4 Image at Runway: tags stay with their pictures',
    {
      model: 'runway/gen4_image',
      provider: 'runway',
      params: { promptText: 'p', referenceImages: [{ uri: A, tag: 'hero' }, { uri: B }] },
      pictures: [A, B],
    },
    'gen4_image',
    { promptText: 'p', referenceImages: [{ uri: A, tag: 'hero' }, { uri: B }], ratio: '1920:1080' },
  ],
]

test.each(rows)('%s', (_, asked, providerModel, body, adjusted = []) => {
  const made = translated(asked)
  if (!made.ok) throw new Error(made.reason)
  expect(made.body).toEqual(body)
  expect(made.providerModel).toBe(providerModel)
  const named = made.adjustments.map((one, i) => (typeof adjusted[i] === 'string' ? one.pointer : one))
  expect(named as unknown as Json[]).toEqual(adjusted)
})

const refused: [name: string, asked: Asked, reason: RegExp][] = [
  [
    'fal makes no webp of FLUX.2',
    { model: 'bfl/flux-2-flex', provider: 'fal', params: { prompt: 'p', output_format: 'webp' } },
    /webp/,
  ],
  [
    'fal needs both sides of FLUX.2',
    { model: 'bfl/flux-2-flex', provider: 'fal', params: { prompt: 'p', width: 512 } },
    /together/,
  ],
  [
    'Replicate would make another picture of a strip',
    { model: 'bfl/flux-2-flex', provider: 'replicate', params: { prompt: 'p', width: 4096, height: 64 } },
    /256 to 2048/,
  ],
  [
    'klein has no tolerance at fal',
    { model: 'bfl/flux-2-klein-4b', provider: 'fal', params: { prompt: 'p', safety_tolerance: 1 } },
    /safety_tolerance/,
  ],
  [
    'Kontext reads one picture at Replicate',
    {
      model: 'bfl/flux-kontext-pro',
      provider: 'replicate',
      params: { prompt: 'p', input_image_2: B },
      pictures: [A, B],
    },
    /one picture/,
  ],
  [
    'fal adds no watermark to Seedream',
    { model: 'bytedance/seedream-4.5', provider: 'fal', params: { prompt: 'p', watermark: true } },
    /watermark/,
  ],
  [
    'fal reads ten pictures of Seedream',
    {
      model: 'bytedance/seedream-4.5',
      provider: 'fal',
      params: { prompt: 'p', image: new Array<string>(11).fill(A) },
      pictures: new Array<string>(11).fill(A),
    },
    /10 pictures/,
  ],
  [
    'Gemini reads no links',
    { model: 'google/nano-banana', provider: 'google', params: { prompt: 'p' }, pictures: [A] },
    /data URI/,
  ],
  [
    'Replicate takes no mask for GPT Image',
    { model: 'openai/gpt-image-1.5', provider: 'replicate', params: { prompt: 'p', mask: B }, pictures: [A, B] },
    /mask/,
  ],
  [
    'an edit without a picture is no edit',
    { model: 'bfl/flux-2-pro', provider: 'bfl', params: { prompt: 'p' }, role: 'image_to_image' },
    /input picture/,
  ],
]

test.each(refused)('%s', (_, asked, reason) => {
  const made = translated(asked)
  if (made.ok) throw new Error(`not refused: ${JSON.stringify(made.body)}`)
  expect(made.reason).toMatch(reason)
})
