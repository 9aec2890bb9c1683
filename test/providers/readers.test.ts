/** What every reader of answers owes, whatever an answer holds. */
import { describe, expect, test } from 'bun:test'
import fc from 'fast-check'
import type { Json } from '../../src/core/json.ts'
import * as bfl from '../../src/providers/bfl.ts'
import * as byteplus from '../../src/providers/byteplus.ts'
import * as comfyui from '../../src/providers/comfyui.ts'
import * as dashscope from '../../src/providers/dashscope.ts'
import * as fal from '../../src/providers/fal.ts'
import * as google from '../../src/providers/google.ts'
import * as openai from '../../src/providers/openai.ts'
import { type Answer, aheadMs, errorOf, quote, type Reading, type Submitted } from '../../src/providers/protocol.ts'
import * as replicate from '../../src/providers/replicate.ts'
import * as runway from '../../src/providers/runway.ts'

const KEY = 'sk-test-0123456789abcdef'
/** Has no key: what it says cannot be one of ours. */
const KEYLESS = 'comfyui'
const LINK = 'https://x.example/a.png'
const unhooked = { callbackUrl: null }
const image = { ...unhooked, providerModel: 'fal-ai/x', role: 'text_to_image' as const, jobsBefore: 0 }

const STARTS: Readonly<Record<string, (answer: Answer) => Submitted>> = {
  bfl: answer => bfl.readStart(bfl.bflDialect(KEY), answer, unhooked, 0),
  'byteplus picture': answer => byteplus.readPictures(byteplus.arkDialect(KEY), answer),
  'byteplus film': answer => byteplus.readTask(byteplus.arkDialect(KEY), answer, unhooked),
  fal: answer => fal.readStart(fal.falDialect(KEY), answer, image),
  replicate: answer => replicate.readStart(replicate.replicateDialect(KEY), answer, unhooked),
  openai: answer =>
    openai.readStart(openai.openAiDialect(KEY), answer, { body: {}, jobsBefore: 0 }, 'https://api.openai.com/v1'),
  'google picture': answer => google.readPicture(google.googleDialect(KEY), answer),
  'google film': answer => google.readOperation(google.googleDialect(KEY), answer),
  runway: answer => runway.readStart(runway.runwayDialect(KEY), answer),
  'dashscope picture': answer => dashscope.readPictures(dashscope.dashScopeDialect(KEY), answer),
  'dashscope task': answer => dashscope.readTask(dashscope.dashScopeDialect(KEY), answer),
  comfyui: comfyui.readStart,
}

const CHECKS: Readonly<Record<string, (answer: Answer) => Reading | 'completed'>> = {
  bfl: answer => bfl.readCheck(bfl.bflDialect(KEY), answer, 500),
  byteplus: answer => byteplus.readCheck(byteplus.arkDialect(KEY), answer, 500),
  'fal status': answer => fal.readStatus(fal.falDialect(KEY), answer, 500),
  'fal result': answer => fal.readResult(fal.falDialect(KEY), answer, 500),
  replicate: answer => replicate.readCheck(replicate.replicateDialect(KEY), answer, 500),
  google: answer => google.readCheck(google.googleDialect(KEY), answer, 500),
  runway: answer => runway.readCheck(runway.runwayDialect(KEY), answer, 500),
  dashscope: answer => dashscope.readCheck(dashscope.dashScopeDialect(KEY), answer, 500),
  comfyui: answer => comfyui.readHistory(answer, 'a1b2', 'http://127.0.0.1:8188'),
}

/** Words that the protocols look for, so that chance finds the branches. */
const WORDS = [
  'id',
  'status',
  'output',
  'task_id',
  'task_status',
  'request_id',
  'result',
  'sample',
  'name',
  'done',
  'response',
  'error',
  'code',
  'message',
  'detail',
  'data',
  'url',
  'b64_json',
  'candidates',
  'content',
  'parts',
  'inlineData',
  'images',
  'video',
  'outputs',
  'a1b2',
  'prompt_id',
  'choices',
  'results',
  'generateVideoResponse',
  'generatedSamples',
  'uri',
  'promptFeedback',
]
const VALUES = [
  'Ready',
  'Error',
  'succeeded',
  'failed',
  'SUCCEEDED',
  'FAILED',
  'COMPLETED',
  'IN_QUEUE',
  'running',
  'x1',
  'constructor',
  'models/veo/operations/op1',
  'https://x.example/a.png',
  'javascript:alert(1)',
  'file:///etc/passwd',
  '../../x',
  KEY,
  '__proto__',
]
const anyJson: fc.Arbitrary<Json> = fc.letrec<{ json: Json }>(tie => ({
  json: fc.oneof(
    { maxDepth: 5 },
    fc.constantFrom(...VALUES),
    fc.constantFrom(null, true, false, 0, -1, Number.MAX_VALUE, 7),
    fc.string(),
    fc.array(tie('json'), { maxLength: 3 }),
    fc.dictionary(fc.oneof(fc.constantFrom(...WORDS), fc.string()), tie('json'), { maxKeys: 5 }) as fc.Arbitrary<Json>,
  ),
})).json
const STATUSES = [
  200, 201, 202, 204, 301, 303, 307, 400, 401, 402, 403, 404, 408, 409, 410, 413, 422, 429, 499, 500, 502, 503, 504,
  522, 529,
]
const answers: fc.Arbitrary<Answer> = fc.record({
  status: fc.constantFrom(...STATUSES),
  headers: fc.constantFrom<Answer['headers']>(
    {},
    { 'retry-after': '7' },
    { 'retry-after': 'soon' },
    { 'retry-after-ms': '-4' },
  ),
  json: fc.option(anyJson, { nil: undefined }),
  at: fc.constant(0),
})

describe('any answer to a submit', () => {
  for (const [name, read] of Object.entries(STARTS)) {
    test(`${name}: is read without an exception, and refused only where that is certain`, () => {
      fc.assert(
        fc.property(answers, answer => {
          const started = read(answer)
          const { status, json } = answer
          if (status >= 300) expect(['refused', 'unknown']).toContain(started.type)
          if (status >= 400 && status < 500 && status !== 408) expect(started.type).toBe('refused')
          if ([303, 408, 502, 504, 522].includes(status) || (status >= 500 && json === undefined))
            expect(started.type).toBe('unknown')
          if (status < 300 && json === undefined) expect(started.type).toBe('unknown')
          if (started.type === 'pictures') expect(started.pictures.length).toBeGreaterThan(0)
          if (name !== KEYLESS && started.type !== 'pictures') expect(JSON.stringify(started)).not.toContain(KEY)
        }),
        { numRuns: 400 },
      )
    })
  }
})

describe('a reference that holds our key', () => {
  const held: [keyof typeof STARTS, Json][] = [
    ['bfl', { id: 'x1', polling_url: `https://api.bfl.ai/v1/get_result?id=x1&key=${KEY}` }],
    ['byteplus film', { id: KEY }],
    ['replicate', { id: KEY, status: 'starting' }],
    ['google film', { name: `models/veo/operations/${KEY}` }],
    ['runway', { id: KEY }],
    ['dashscope task', { output: { task_id: KEY, task_status: 'PENDING' } }],
  ]
  test.each(held)('is none: %s has an unknown outcome, and says nothing of it', (name, json) => {
    const read = (said: Json) => STARTS[name]?.({ status: 200, headers: {}, json: said, at: 0 })
    expect(read(json)).toMatchObject({ type: 'unknown' })
    expect(JSON.stringify(read(json))).not.toContain(KEY)
    expect(read(JSON.parse(JSON.stringify(json).replace(KEY, 'x1')) as Json)).toMatchObject({ type: 'accepted' })
  })
})

describe('any answer to a poll', () => {
  for (const [name, read] of Object.entries(CHECKS)) {
    test(`${name}: is read without an exception, and is a success only with links`, () => {
      fc.assert(
        fc.property(answers, answer => {
          const reading = read(answer)
          if (reading === 'completed') return
          if (answer.status >= 300) expect(['unreachable', 'lost', 'failed', 'pending']).toContain(reading.type)
          if (answer.json === undefined) expect(['unreachable', 'lost']).toContain(reading.type)
          if (reading.type === 'succeeded') {
            expect(reading.media.length).toBeGreaterThan(0)
            for (const { url } of reading.media) expect(url).toMatch(/^https?:\/\//)
          }
          if (reading.type === 'unreachable') expect(reading.pollAfterMs).toBeGreaterThan(0)
          if (name !== KEYLESS) expect(JSON.stringify('error' in reading ? reading.error : null)).not.toContain(KEY)
        }),
        { numRuns: 400 },
      )
    })
  }
})

describe('a field that is null', () => {
  /** Complete answers, as the documents show them; each with a null in every place that may be absent. */
  const finished: [keyof typeof CHECKS, Json][] = [
    ['bfl', { id: 'x1', status: 'Ready', result: { sample: LINK }, details: null, error: null, cost: null }],
    ['byteplus', { id: 'x1', status: 'succeeded', error: null, content: { video_url: LINK }, usage: null }],
    [
      'fal result',
      { images: [{ url: LINK, content_type: null }], image: null, video: null, videos: null, error: null },
    ],
    ['replicate', { id: 'x1', status: 'succeeded', output: LINK, error: null, data_removed: null }],
    [
      'google',
      {
        ...{ name: 'models/veo/operations/op1', done: true, error: null },
        response: { generateVideoResponse: null, generatedSamples: [{ video: { uri: LINK } }] },
      },
    ],
    ['runway', { id: 'x1', status: 'SUCCEEDED', output: [LINK], failure: null, failureCode: null }],
    ['dashscope', { output: { task_status: 'SUCCEEDED', video_url: LINK, results: null, code: null }, code: null }],
    [
      'comfyui',
      {
        a1b2: {
          status: null,
          outputs: { 9: { images: [{ filename: 'x.png', subfolder: null, type: null }], gifs: null } },
        },
      },
    ],
  ]
  for (const [name, json] of finished) {
    test(`is one that is absent: ${name} has its output`, () => {
      expect(CHECKS[name]?.({ status: 200, headers: {}, json, at: 0 })).toMatchObject({ type: 'succeeded' })
    })
  }

  test('is one that is absent: a history without the job has not finished it, and an error that is none says nothing', () => {
    expect(CHECKS.comfyui?.({ status: 200, headers: {}, json: { a1b2: null }, at: 0 })).toMatchObject({ type: 'lost' })
    const broken: Answer = { status: 500, headers: {}, json: { error: null }, at: 0 }
    expect(comfyui.readStart(broken).type).toBe('unknown')
  })
})

describe('the words of a provider', () => {
  test('are quoted without keys, signatures of links, embedded files and control characters, and not at length', () => {
    const words = `bad \u001b[31m${KEY} at https://x.example/a.png?sig=abc#d and data:image/png;base64,AAAA ${'x'.repeat(2_000)}`
    const quoted = quote(words, [KEY])
    expect(quoted).toStartWith('bad  [31m[redacted] at https://x.example/a.png?[redacted] and data:[redacted] xxx')
    expect(quoted.length).toBe(500)
    const links = quote('https://a.example/ http://b.examplehttps://c.example?d https://e.example/#f', [])
    expect(links).toBe('https://a.example/ http://b.examplehttps://c.example?[redacted] https://e.example/?[redacted]')
  })

  test('are quoted soon, were they a megabyte of begun links', () => {
    expect(quote('http://'.repeat(150_000), [])).toBe('http://'.repeat(72).slice(0, 500))
  })

  test('are kept beside our own sentence, with the status', () => {
    const answer: Answer = { status: 402, headers: {}, json: { detail: `no credit for ${KEY}` }, at: 0 }
    expect(errorOf(bfl.bflDialect(KEY), answer)).toMatchObject({
      code: 'insufficient_credit',
      message: 'bfl has no credit left on this account (HTTP 402)',
      providerText: 'no credit for [redacted]',
      httpStatus: 402,
      provider: 'bfl',
    })
  })
})

test('a share of the work is told only where it is one', () => {
  const progress = (value: Json) =>
    CHECKS.runway?.({ status: 200, headers: {}, json: { status: 'RUNNING', progress: value }, at: 0 })
  for (const share of [0, 0.4, 1]) expect(progress(share)).toMatchObject({ type: 'pending', progress: share })
  for (const none of [-0.1, 1.1, 40, '0.4', null])
    expect(progress(none)).toMatchObject({ type: 'pending', progress: null })
})

test('a link that holds a name or a password is none', () => {
  const sample = (link: string) =>
    CHECKS.bfl?.({ status: 200, headers: {}, json: { status: 'Ready', result: { sample: link } }, at: 0 })
  expect(sample(LINK)).toMatchObject({ type: 'succeeded' })
  for (const link of ['https://me@x.example/a.png', 'https://:word@x.example/a.png', 'ftp://x.example/a.png'])
    expect(sample(link)).toMatchObject({ type: 'failed', error: { code: 'output_invalid' } })
})

describe('how far our clock is ahead of a provider', () => {
  const now = Date.parse('2026-11-22T10:00:00Z')
  const ahead = (date?: string) => aheadMs({ headers: date === undefined ? {} : { date }, at: now })

  test('is what its answer says', () => {
    expect(ahead('Sun, 22 Nov 2026 09:58:30 GMT')).toBe(90_000)
    expect(ahead('Sun, 22 Nov 2026 10:00:00 GMT')).toBe(0)
    // Behind is no matter here.
    expect(ahead('Sun, 22 Nov 2026 10:05:00 GMT')).toBe(0)
  })

  test('is nothing where it does not say, or says what no clock can', () => {
    for (const date of [undefined, '', 'soon', '7', '2026', 'Thu, 01 Jan 1970 00:00:00 GMT', 'Sun, 99 Foo 2026']) {
      expect(ahead(date)).toBe(0)
    }
  })
})

describe('a webhook of any bytes', () => {
  test('is read without an exception', () => {
    fc.assert(
      fc.property(
        fc.uint8Array({ maxLength: 60 }),
        fc.dictionary(fc.string(), fc.string(), { maxKeys: 3 }),
        (body, headers) => {
          const request = { headers, body, at: 0 }
          expect(bfl.readWebhook(request, 'secret').type).toBe('refused')
          expect(['hint', 'refused']).toContain(byteplus.readWebhook(request).type)
        },
      ),
    )
  })
})
