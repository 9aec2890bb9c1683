/**
 * Examples of the document: the request and the two answers of the page that BabyChain comes from.
 * The answers show the fields that have been there from the first day, and then those that came after.
 */

export const CREATE_RUN = {
  input: {
    chain_models: {
      text_to_image_model: 'bfl/flux-2-flex',
      image_to_video_model: 'bytedance/seedance-1.5-pro',
    },
    text_to_image_params: {
      prompt:
        'A futuristic wireless headphone product on a clean reflective pedestal, teal and violet studio lighting, premium product photography, soft shadows, high detail',
      width: 1024,
      height: 1024,
      prompt_upsampling: false,
      seed: 593,
      safety_tolerance: 5,
      output_format: 'jpeg',
    },
    image_to_video_params: {
      content: [
        {
          type: 'text',
          text: 'Slow cinematic orbit around the product, subtle glow animation, premium studio reflections, smooth camera motion',
        },
      ],
      ratio: '1:1',
      duration: 3,
      watermark: false,
    },
  },
  webhook_url: 'https://your-webhook.example.com',
}

const INPUT = CREATE_RUN.input

/** Fields that came after, as they are while nothing has happened yet. */
const STEP_MORE = {
  phase: null,
  progress: null,
  retry_at: null,
  provider_used: null,
  provider_cancel: null,
  attempts: [],
  cost: null,
  error: null,
  inherited: false,
}
const RUN_MORE = {
  metadata: {},
  webhook_url: CREATE_RUN.webhook_url,
  error: null,
  cost: null,
  callback: null,
  provider_order: {},
  max_cost_usd: null,
  deadline_at: '2026-05-27T20:15:11.866+00:00',
  ended_at: null,
  cancel_requested_at: null,
  resumed_from: null,
}

export const RUN_ACCEPTED = {
  id: 'e0a5c7b3-6d14-4f89-b2c1-9a8e3f5d70c6',
  object: 'chain_run',
  chain_slug: 'chain1',
  chain_version: '2026-05-23',
  mode: 'byok',
  status: 'queued',
  input: INPUT,
  created_at: '2026-05-26T20:15:11.866894+00:00',
  updated_at: '2026-05-26T20:15:11.866894+00:00',
  current_step_key: 'processing',
  steps: [
    {
      id: '5b7f2a91-c0e4-4d38-8f6a-1c9d7e3b42a5',
      step_index: 0,
      step_key: 'text_to_image',
      step_kind: 'image',
      model_identifier: 'bfl/flux-2-flex',
      status: 'queued',
      created_at: '2026-05-26T20:15:11.967529+00:00',
      updated_at: '2026-05-26T20:15:11.967529+00:00',
      depends_on: [],
      started_at: null,
      completed_at: null,
      ...STEP_MORE,
    },
    {
      id: '9c1e4b7a-2f83-4d6c-a5b0-7e9f3a1d8c62',
      step_index: 1,
      step_key: 'image_to_video',
      step_kind: 'video',
      model_identifier: 'bytedance/seedance-1.5-pro',
      status: 'queued',
      created_at: '2026-05-26T20:15:11.967529+00:00',
      updated_at: '2026-05-26T20:15:11.967529+00:00',
      depends_on: ['text_to_image'],
      started_at: null,
      completed_at: null,
      ...STEP_MORE,
    },
  ],
  ...RUN_MORE,
}

export const RUN_SUCCEEDED = {
  id: 'e0a5c7b3-6d14-4f89-b2c1-9a8e3f5d70c6',
  object: 'chain_run',
  chain_slug: 'chain1',
  chain_version: '2026-05-23',
  mode: 'byok',
  status: 'succeeded',
  input: INPUT,
  created_at: '2026-05-26T20:15:11.866894+00:00',
  updated_at: '2026-05-26T20:17:39.695124+00:00',
  current_step_key: 'completed',
  steps: [
    {
      id: '5b7f2a91-c0e4-4d38-8f6a-1c9d7e3b42a5',
      step_index: 0,
      step_key: 'text_to_image',
      step_kind: 'image',
      model_identifier: 'bfl/flux-2-flex',
      status: 'succeeded',
      created_at: '2026-05-26T20:15:11.967529+00:00',
      updated_at: '2026-05-26T20:15:55.765222+00:00',
      depends_on: [],
      started_at: '2026-05-26T20:15:37.154+00:00',
      completed_at: '2026-05-26T20:15:55.744+00:00',
      generation_output_file: ['https://example-storage.bfl.ai'],
      ...STEP_MORE,
      provider_used: 'bfl',
    },
    {
      id: '9c1e4b7a-2f83-4d6c-a5b0-7e9f3a1d8c62',
      step_index: 1,
      step_key: 'image_to_video',
      step_kind: 'video',
      model_identifier: 'bytedance/seedance-1.5-pro',
      status: 'succeeded',
      created_at: '2026-05-26T20:15:11.967529+00:00',
      updated_at: '2026-05-26T20:17:39.604698+00:00',
      depends_on: ['text_to_image'],
      started_at: '2026-05-26T20:16:52.097+00:00',
      completed_at: '2026-05-26T20:17:39.577+00:00',
      generation_input_file: ['https://example-storage.bfl.ai'],
      generation_output_file: ['https://example-storage.ark-byteplus.com'],
      ...STEP_MORE,
      provider_used: 'byteplus',
    },
  ],
  ...RUN_MORE,
  ended_at: '2026-05-26T20:17:39.577+00:00',
}
