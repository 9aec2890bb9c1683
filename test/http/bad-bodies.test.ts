/**
 * Bodies that are wrong, each in its own way: 4xx with a pointer and a hint, never a 500, fast, and nothing is stored.
 */
import { afterAll, beforeAll, describe, expect, test } from 'bun:test'
import seed from '../fixtures/seed.request.json'
import { HttpWorld } from '../support/http-world.ts'

interface Bad {
  name: string
  body: unknown
  status: number
  /** Of the first error, or of all of them. */
  pointer: string | string[]
  slug?: string
  headers?: Record<string, string>
}

let world: HttpWorld
beforeAll(async () => {
  world = await HttpWorld.open()
})
afterAll(() => world.close())

/** The seed's request with one thing changed. */
function changed(change: (body: ReturnType<typeof copy>) => unknown): unknown {
  const body = copy()
  change(body)
  return body
}
// biome-ignore lint/suspicious/noExplicitAny: the tests put wrong things everywhere
const copy = (): any => structuredClone(seed)
const raw = JSON.stringify(seed)
const inPrompt = (prompt: string): string => raw.replace('"A futuristic', `"${prompt}`)
const P = '/input/text_to_image_params'

const BAD: Bad[] = [
  // Not JSON at all.
  { name: 'nothing', body: '', status: 400, pointer: '' },
  { name: 'white space', body: ' \n\t ', status: 400, pointer: '' },
  { name: 'half a document', body: raw.slice(0, 200), status: 400, pointer: '' },
  { name: 'a word', body: 'hello', status: 400, pointer: '' },
  { name: 'NaN', body: raw.replace('593', 'NaN'), status: 400, pointer: '' },
  { name: 'a trailing comma', body: raw.replace(/\}$/, ',}'), status: 400, pointer: '' },
  { name: 'a comment', body: `/* hello */${raw}`, status: 400, pointer: '' },
  { name: 'two documents', body: raw + raw, status: 400, pointer: '' },
  { name: 'a byte order mark', body: `\uFEFF${raw}`, status: 400, pointer: '' },
  { name: 'UTF-16', body: new Uint8Array(Buffer.from(raw, 'utf16le')), status: 400, pointer: '' },
  { name: 'broken UTF-8', body: new Uint8Array([0x7b, 0x22, 0xff, 0xfe, 0x22, 0x7d]), status: 400, pointer: '' },
  { name: 'broken UTF-8 in a prompt', body: brokenPrompt(), status: 400, pointer: '' },
  { name: 'an unfinished string', body: '{"input": "', status: 400, pointer: '' },
  // JSON, but not an object that can be stored as it came.
  { name: 'null', body: 'null', status: 400, pointer: '' },
  { name: 'a string', body: '"input"', status: 400, pointer: '' },
  { name: 'a list', body: [seed], status: 400, pointer: '' },
  {
    name: '10,000 levels of lists',
    body: '['.repeat(10_000) + ']'.repeat(10_000),
    status: 400,
    pointer: '/0'.repeat(32),
  },
  {
    name: '10,000 levels of objects',
    body: `${'{"a":'.repeat(10_000)}1${'}'.repeat(10_000)}`,
    status: 400,
    pointer: '/a'.repeat(32),
  },
  { name: 'a million open brackets', body: '['.repeat(1_000_000), status: 400, pointer: '/0'.repeat(32) },
  { name: 'a key twice', body: raw.replace('"seed":593', '"seed":593,"seed":594'), status: 400, pointer: `${P}/seed` },
  { name: 'a key twice, once in escapes', body: '{"input":{},"\\u0069nput":{}}', status: 400, pointer: '/input' },
  { name: '__proto__', body: raw.replace('"seed":593', '"__proto__":{"x":1}'), status: 400, pointer: `${P}/__proto__` },
  {
    name: '__proto__ at the top',
    body: raw.replace('{"input"', '{"__proto__":{},"input"'),
    status: 400,
    pointer: '/__proto__',
  },
  { name: 'constructor', body: raw.replace('"seed":593', '"constructor":1'), status: 400, pointer: `${P}/constructor` },
  { name: 'half a surrogate pair', body: inPrompt('\\ud800'), status: 400, pointer: `${P}/prompt` },
  { name: 'half a surrogate pair in a key', body: '{"metadata":{"\\udc00":"x"}}', status: 400, pointer: '/metadata' },
  { name: 'NUL', body: inPrompt('\\u0000'), status: 400, pointer: `${P}/prompt` },
  { name: 'a number that overflows', body: raw.replace('593', '1e400'), status: 400, pointer: `${P}/seed` },
  // Too much, or in another form.
  { name: '1 MiB and a byte', body: ' '.repeat((1 << 20) + 1), status: 413, pointer: '' },
  { name: 'text', body: raw, headers: { 'content-type': 'text/plain' }, status: 415, pointer: '' },
  {
    name: 'a form',
    body: 'input=1',
    headers: { 'content-type': 'application/x-www-form-urlencoded' },
    status: 415,
    pointer: '',
  },
  {
    name: 'no content type',
    body: new Uint8Array(Buffer.from(raw)),
    headers: { 'content-type': '' },
    status: 415,
    pointer: '',
  },
  {
    name: 'another charset',
    body: raw,
    headers: { 'content-type': 'application/json; charset=utf-16' },
    status: 415,
    pointer: '',
  },
  { name: 'gzip', body: Bun.gzipSync(raw), headers: { 'content-encoding': 'gzip' }, status: 415, pointer: '' },
  // The shape of the order.
  { name: 'an empty object', body: {}, status: 400, pointer: '/input' },
  { name: 'input null', body: { input: null }, status: 400, pointer: '/input' },
  { name: 'input a list', body: { input: [] }, status: 400, pointer: '/input' },
  { name: 'a field with a slip', body: changed(b => (b.webhok_url = 'x')), status: 400, pointer: '/webhok_url' },
  {
    name: 'a field of input with a slip',
    body: changed(b => (b.input.text_to_imgae_params = {})),
    status: 400,
    pointer: '/input/text_to_imgae_params',
  },
  { name: 'a field with a slash', body: changed(b => (b['a/b~c'] = 1)), status: 400, pointer: '/a~1b~0c' },
  { name: 'webhook_url a number', body: changed(b => (b.webhook_url = 1)), status: 400, pointer: '/webhook_url' },
  {
    name: 'metadata with a number',
    body: changed(b => (b.metadata = { order: 7 })),
    status: 400,
    pointer: '/metadata/order',
  },
  {
    name: 'metadata with 51 keys',
    body: changed(b => (b.metadata = Object.fromEntries(Array.from({ length: 51 }, (_, i) => [`k${i}`, 'v'])))),
    status: 400,
    pointer: '/metadata',
  },
  {
    name: 'metadata with a long value',
    body: changed(b => (b.metadata = { k: 'v'.repeat(501) })),
    status: 400,
    pointer: '/metadata/k',
  },
  {
    name: 'metadata with a long key',
    body: changed(b => (b.metadata = { ['k'.repeat(41)]: 'v' })),
    status: 400,
    pointer: `/metadata/${'k'.repeat(41)}`,
  },
  { name: 'max_cost_usd 0', body: changed(b => (b.max_cost_usd = 0)), status: 400, pointer: '/max_cost_usd' },
  { name: 'max_cost_usd text', body: changed(b => (b.max_cost_usd = '1')), status: 400, pointer: '/max_cost_usd' },
  {
    name: 'provider_order a word',
    body: changed(b => (b.provider_order = 'fal')),
    status: 400,
    pointer: '/provider_order',
  },
  {
    name: 'provider_order with a stranger',
    body: changed(b => (b.provider_order = ['studio', 'nobody'])),
    status: 400,
    pointer: '/provider_order/1',
  },
  {
    name: 'provider_order of no step',
    body: changed(b => (b.provider_order = { image: ['fal'] })),
    status: 400,
    pointer: '/provider_order/image',
  },
  {
    name: 'provider_order of a step with a stranger',
    body: changed(b => (b.provider_order = { text_to_image: ['nobody'] })),
    status: 400,
    pointer: '/provider_order/text_to_image/0',
  },
  // Models and their parameters.
  { name: 'no models', body: { input: {} }, status: 400, pointer: '/input/chain_models' },
  {
    name: 'a model missing',
    body: changed(b => delete b.input.chain_models.image_to_video_model),
    status: 400,
    pointer: '/input/chain_models/image_to_video_model',
  },
  {
    name: 'an unknown model',
    body: changed(b => (b.input.chain_models.text_to_image_model = 'bfl/flux-9')),
    status: 400,
    pointer: '/input/chain_models/text_to_image_model',
  },
  {
    name: 'a model named like an inherited field',
    body: changed(b => (b.input.chain_models.text_to_image_model = 'toString')),
    status: 400,
    pointer: '/input/chain_models/text_to_image_model',
  },
  {
    name: 'a model that is a number',
    body: changed(b => (b.input.chain_models.text_to_image_model = 3)),
    status: 400,
    pointer: '/input/chain_models/text_to_image_model',
  },
  {
    name: 'a model in the wrong role',
    body: changed(b => (b.input.chain_models.text_to_image_model = 'bytedance/seedance-1.5-pro')),
    status: 400,
    pointer: '/input/chain_models/text_to_image_model',
  },
  { name: 'parameters a list', body: changed(b => (b.input.text_to_image_params = [])), status: 400, pointer: P },
  {
    name: 'no prompt',
    body: changed(b => delete b.input.text_to_image_params.prompt),
    status: 400,
    pointer: `${P}/prompt`,
  },
  {
    name: 'a width out of range',
    body: changed(b => (b.input.text_to_image_params.width = 1)),
    status: 400,
    pointer: `${P}/width`,
  },
  {
    name: 'a width as text',
    body: changed(b => (b.input.text_to_image_params.width = '1024')),
    status: 400,
    pointer: `${P}/width`,
  },
  {
    name: 'a parameter with a slip',
    body: changed(b => (b.input.text_to_image_params.promt = 'x')),
    status: 400,
    pointer: `${P}/promt`,
  },
  {
    name: 'a film of a hundred seconds',
    body: changed(b => (b.input.image_to_video_params.duration = 100)),
    status: 400,
    pointer: '/input/image_to_video_params/duration',
  },
  {
    name: 'a picture where a step before gives it',
    body: changed(b =>
      b.input.image_to_video_params.content.push({
        type: 'image_url',
        image_url: { url: 'https://x.example/a.png' },
        role: 'first_frame',
      }),
    ),
    status: 400,
    pointer: '/input/image_to_video_params/content/1/image_url/url',
  },
  {
    name: 'no picture for chain202',
    slug: 'chain202',
    body: pictured(undefined),
    status: 400,
    pointer: '/input/image_to_image_params/input_image',
  },
  {
    name: 'a picture by file:',
    slug: 'chain202',
    body: pictured('file:///etc/passwd'),
    status: 400,
    pointer: '/input/image_to_image_params/input_image',
  },
  {
    name: 'a picture that is no base64',
    slug: 'chain202',
    body: pictured('data:image/png;base64,@@@@'),
    status: 400,
    pointer: '/input/image_to_image_params/input_image',
  },
  {
    name: 'a picture that is a text',
    slug: 'chain202',
    body: pictured('data:image/png;base64,aGVsbG8gd29ybGQ='),
    status: 400,
    pointer: '/input/image_to_image_params/input_image',
  },
  {
    name: 'a picture that nobody uploaded',
    slug: 'chain202',
    body: pictured('media:00000000-0000-7000-8000-0000000fffff'),
    status: 400,
    pointer: '/input/image_to_image_params/input_image',
  },
  {
    name: 'a picture on our own network',
    slug: 'chain202',
    body: pictured('https://internal.example/a.png'),
    status: 422,
    pointer: '/input/image_to_image_params/input_image',
  },
  // Where the callback goes.
  {
    name: 'a callback to this machine',
    body: changed(b => (b.webhook_url = 'https://127.0.0.1/hook')),
    status: 422,
    pointer: '/webhook_url',
  },
  {
    name: 'a callback by http',
    body: changed(b => (b.webhook_url = 'http://example.com/hook')),
    status: 422,
    pointer: '/webhook_url',
  },
  {
    name: 'a callback of 3,000 characters',
    body: changed(b => (b.webhook_url = `https://example.com/${'a'.repeat(3_000)}`)),
    status: 400,
    pointer: '/webhook_url',
  },
  // Several at once.
  {
    name: 'four mistakes in four places',
    body: changed(b => {
      b.nonsense = 1
      b.webhook_url = 'https://127.0.0.1/'
      b.input.chain_models.text_to_image_model = 'no/model'
      b.input.image_to_video_params.duration = 'long'
    }),
    status: 400,
    pointer: [
      '/nonsense',
      '/input/chain_models/text_to_image_model',
      '/input/image_to_video_params/duration',
      '/webhook_url',
    ],
  },
]

/** JSON that would be right if one byte of the prompt were. */
function brokenPrompt(): Uint8Array {
  const bytes = new Uint8Array(Buffer.from(raw))
  bytes[raw.indexOf('futuristic')] = 0xff
  return bytes
}

function pictured(picture: string | undefined): unknown {
  return {
    input: {
      chain_models: { image_to_image_model: 'bfl/flux-2-flex', image_to_video_model: 'bytedance/seedance-1.5-pro' },
      image_to_image_params: { prompt: 'in red', ...(picture === undefined ? {} : { input_image: picture }) },
      image_to_video_params: seed.input.image_to_video_params,
    },
  }
}

interface Problem {
  status: number
  code: string
  detail: string
  hint: string
  request_id: string
  errors: { pointer: string; code: string; detail: string; hint?: string }[]
}

describe('a bad body is refused with a pointer and a hint:', () => {
  for (const { name, body, status, pointer, slug = 'chain1', headers = {} } of BAD) {
    test(name, async () => {
      const before = await world.store.counts()
      const began = performance.now()
      const response = await world.ask('POST', `/api/v1/chains/${slug}/runs`, { body, headers })
      const ms = performance.now() - began
      expect(response.headers.get('content-type')).toBe('application/problem+json')
      const problem = (await response.json()) as Problem
      expect([response.status, problem.status]).toEqual([status, status])
      const found = problem.errors.map(error => error.pointer)
      if (typeof pointer === 'string') expect(found[0]).toBe(pointer)
      else expect(found.toSorted()).toEqual(pointer.toSorted())
      for (const error of problem.errors) {
        expect(error.detail.length).toBeGreaterThan(5)
        expect(error.hint ?? '').not.toBe('')
      }
      expect(problem.hint).not.toBe('')
      expect(problem.request_id).toBe(response.headers.get('x-request-id') ?? '')
      expect(ms).toBeLessThan(500)
      expect(await world.store.counts()).toEqual(before)
    })
  }
})

test('a field that is nearly one that is known is answered with that one', async () => {
  const body = changed(b => {
    b.webhok_url = 'https://hooks.example.com/end'
    b.nothing_like_it = 1
    b.input.chain_models.text_to_imag_model = 'bfl/flux-2-flex'
  })
  const { errors } = await world.json<Problem>('POST', '/api/v1/chains/chain1/runs', { body })
  const hints = Object.fromEntries(errors.map(error => [error.pointer, error.hint ?? '']))
  expect(hints['/webhok_url']).toStartWith('Did you mean webhook_url? Known fields: input, ')
  expect(hints['/nothing_like_it']).toStartWith('Known fields: input, ')
  expect(hints['/input/chain_models/text_to_imag_model']).toStartWith('Did you mean text_to_image_model? ')
})

test('a hundred thousand mistakes are answered shortly', async () => {
  const body = `{${Array.from({ length: 60_000 }, (_, i) => `"field${i}":1`).join(',')}}`
  const response = await world.ask('POST', '/api/v1/chains/chain1/runs', { body })
  const text = await response.text()
  expect(response.status).toBe(400)
  expect(text.length).toBeLessThan(100_000)
  expect((JSON.parse(text) as { errors_omitted: number }).errors_omitted).toBeGreaterThan(59_000)
})

test('an estimate says the same of a bad body, without refusing it', async () => {
  for (const { body, status, pointer, slug = 'chain1', headers } of BAD.filter(
    bad => typeof bad.body === 'object' && !(bad.body instanceof Uint8Array) && !bad.headers,
  )) {
    const run = await world.json<Problem>('POST', `/api/v1/chains/${slug}/runs`, { body })
    const response = await world.ask('POST', `/api/v1/chains/${slug}/estimate`, { body, headers: headers ?? {} })
    const estimate = (await response.json()) as { valid: boolean; errors: unknown[]; total_usd: number | null }
    expect([response.status, estimate.valid, estimate.total_usd]).toEqual([200, false, null])
    expect([pointer, status, estimate.errors]).toEqual([pointer, status, run.errors])
  }
})

test('texts that only look dangerous are kept byte for byte', async () => {
  const prompt = `'; DROP TABLE runs; -- \${{constants}} {{template}} $(rm -rf /) <script> \u202Eright to left\u202C 👩‍👩‍👧 ${'長'.repeat(2_000)}`
  const body = changed(b => {
    b.input.text_to_image_params.prompt = prompt
    b.metadata = { 'a/b[c]': '<>&"\'\\ \u2028' }
  })
  const id = await world.run(body)
  const run = await world.json<{ input: typeof seed.input; metadata: object }>('GET', `/api/v1/runs/${id}`)
  expect(run.input.text_to_image_params.prompt).toBe(prompt)
  expect(run.metadata).toEqual({ 'a/b[c]': '<>&"\'\\ \u2028' })
  await world.runToEnd(id)
})
