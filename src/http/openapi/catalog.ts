/** The description of the operations on chains, models and media, of provider webhooks, and of health and metrics. */
import { operation } from './operation.ts'
import { createBody, slug } from './runs.ts'

export const chains = operation({
  id: 'listChains',
  tag: 'Chains and models',
  summary: 'List the chains',
  scope: 'runs:read',
  answers: { 200: { description: 'The built-in chains, with the models that fit each step.', json: 'ChainList' } },
  problems: [],
})

export const estimate = operation({
  id: 'estimateRun',
  tag: 'Chains and models',
  summary: 'Check a run and its price without running it',
  description:
    'Takes the body of a new run and says of it what creating the run would say: every mistake, and the price of each step by the price list. Stores and spends nothing. A body with mistakes is answered 200 with `valid: false`.',
  scope: 'runs:read',
  parameters: [slug],
  body: createBody,
  answers: { 200: { description: 'What it would cost, or what is wrong.', json: 'Estimate' } },
  problems: [400, 404, 413, 415, 503],
})

export const models = operation({
  id: 'listModels',
  tag: 'Chains and models',
  summary: 'List the models',
  scope: 'runs:read',
  answers: { 200: { description: 'The catalogue.', json: 'ModelList' } },
  problems: [],
})

export const model = operation({
  id: 'getModel',
  tag: 'Chains and models',
  summary: 'Get a model: parameters, routes, price',
  scope: 'runs:read',
  parameters: [
    { name: 'maker', in: 'path', description: 'The maker.', schema: { type: 'string' }, example: 'bfl' },
    { name: 'name', in: 'path', description: 'The model.', schema: { type: 'string' }, example: 'flux-2-flex' },
  ],
  answers: {
    200: { description: 'The JSON Schema of its parameters, and where it could go now or why not.', json: 'Model' },
  },
  problems: [404],
})

export const upload = operation({
  id: 'uploadMedia',
  tag: 'Media',
  summary: 'Upload an input picture',
  description:
    'PNG, JPEG or WebP, at most 30 MiB; the bytes decide what it is. The picture fields of a model take the `ref` of the answer. A key may upload 2 GiB an hour, and have two forms under way at once: beyond that 429 says when to come back.',
  scope: 'runs:write',
  body: {
    content: {
      'image/*': { schema: { type: 'string', contentMediaType: 'image/*' } },
      'multipart/form-data': {
        schema: {
          type: 'object',
          required: ['file'],
          properties: { file: { type: 'string', contentMediaType: 'image/*' } },
          additionalProperties: false,
        },
      },
    },
  },
  answers: { 201: { description: 'Kept.', json: 'Media', headers: ['Location'] } },
  problems: [400, 413, 415, 429, 503],
})

const file = { schema: { type: 'string', contentMediaType: '*/*' } }

export const download = operation({
  id: 'getMedia',
  tag: 'Media',
  summary: 'Read an output or an uploaded picture',
  description: 'With the key of its owner, or with a signed link. Ranges, HEAD and ETags work.',
  scope: 'link',
  parameters: [
    { name: 'mediaId', in: 'path', description: 'Id of the media.', schema: { type: 'string', format: 'uuid' } },
    { name: 'expires', in: 'query', description: 'Of a signed link.', schema: { type: 'integer' } },
    { name: 'signature', in: 'query', description: 'Of a signed link.', schema: { type: 'string' } },
    {
      name: 'Range',
      in: 'header',
      description: 'One range of bytes.',
      schema: { type: 'string' },
      example: 'bytes=0-1023',
    },
    { name: 'If-None-Match', in: 'header', description: 'The ETag that you have.', schema: { type: 'string' } },
  ],
  answers: {
    200: { description: 'The file.', headers: ['ETag'], content: { 'image/*': file, 'video/*': file } },
    206: {
      description: 'The part.',
      headers: ['ETag', 'Content-Range'],
      content: { 'image/*': file, 'video/*': file },
    },
    304: { description: 'It is as you know it.', headers: ['ETag'] },
  },
  problems: [404, 416, 503],
})

export const inbound = operation({
  id: 'receiveProviderWebhook',
  tag: 'Operations',
  summary: 'Webhooks of providers',
  description:
    'For providers only. The token names one attempt; where the provider signs, its signature is verified over the raw bytes. A webhook is a hint: the job is then asked for.',
  scope: null,
  parameters: [
    { name: 'provider', in: 'path', description: 'The provider.', schema: { type: 'string' } },
    { name: 'token', in: 'path', description: 'The secret of the attempt.', schema: { type: 'string' } },
  ],
  body: { content: { 'application/json': { schema: { type: 'object' } } } },
  answers: { 200: { description: 'Noted.', json: 'Received' } },
  problems: [401, 404, 413, 503],
})

export const healthz = operation({
  id: 'healthz',
  tag: 'Operations',
  summary: 'Whether the process lives',
  scope: null,
  answers: { 200: { description: 'It does.', json: 'Health' } },
  problems: [],
})

export const readyz = operation({
  id: 'readyz',
  tag: 'Operations',
  summary: 'Whether it can take a run now',
  scope: null,
  answers: { 200: { description: 'It can.', json: 'Readiness' } },
  problems: [503],
})

export const metrics = operation({
  id: 'metrics',
  tag: 'Operations',
  summary: 'Metrics (Prometheus)',
  description:
    'Open to this machine when the Host names it too (localhost, 127.0.0.1, [::1]); from elsewhere, and through a proxy, with a key.',
  scope: 'link',
  answers: {
    200: { description: 'Prometheus text format.', content: { 'text/plain': { schema: { type: 'string' } } } },
  },
  problems: [],
})
