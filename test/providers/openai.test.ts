import { describe, expect, test } from 'bun:test'
import type { ErrorCode } from '../../src/core/errors.ts'
import type { Json, JsonObject } from '../../src/core/json.ts'
import { createOpenAi, openAiDialect, readStart, submitAsk } from '../../src/providers/openai.ts'
import { type Answer, errorOf } from '../../src/providers/protocol.ts'
import { protocolContract } from '../contract/protocol.contract.ts'
import { bytesOf, openBench } from '../support/providers/bench.ts'
import { OpenAiStandIn } from '../support/providers/openai.ts'
import type { StandInOptions } from '../support/providers/stand-in.ts'

const order = {
  providerModel: 'gpt-image-1.5',
  role: 'text_to_image' as const,
  body: { prompt: 'a red boat', size: '1536x1024', quality: 'high', output_format: 'webp' },
}
const PNG = 'data:image/png;base64,iVBORw0KGgo='
const edit = {
  ...order,
  role: 'image_to_image' as const,
  body: { prompt: 'make it night', images: [PNG, PNG], n: 2, input_fidelity: 'high' },
}
const spec = { standIn: (options: StandInOptions) => new OpenAiStandIn(options), provider: createOpenAi, order }
const traits = {
  kind: 'sync',
  failures: { input: 'content_rejected', output: 'content_rejected', error: 'provider_error', empty: 'provider_error' },
  ran: ['empty'],
  cancel: { queued: 'unsupported', running: 'unsupported', ended: 'unsupported' },
  find: 'none',
  webhooks: 'none',
  links: false,
  upload: false,
  canVanish: false,
} as const

protocolContract('openai pictures', spec, traits)
protocolContract('openai edits', { ...spec, order: edit }, traits)

const dialect = openAiDialect('key-of-the-test')

describe('openai', () => {
  test('an edit leaves as a form with the bytes of every picture and the mask', async () => {
    const bench = await openBench(spec)
    const body = { ...edit.body, mask: PNG, n: 1 }
    const started = await bench.provider.start(bench.job({ body }), bench.signal)
    expect(started.type).toBe('succeeded')
    expect(bench.standIn.edited.map(file => file.field)).toEqual(['image[]', 'image[]', 'mask'])
    expect(bench.standIn.edited[0]?.bytes).toEqual(new Uint8Array([0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a]))
    expect(bench.standIn.submits()[0]?.body).toEqual({
      model: 'gpt-image-1.5',
      prompt: 'make it night',
      n: 1,
      input_fidelity: 'high',
    })
    await bench.stop()
  })

  test('a picture that is no data URI is refused before anything is sent', async () => {
    const bench = await openBench(spec)
    const bodies: JsonObject[] = [
      { images: ['https://x.example/a.png'] },
      { images: [PNG, 7] },
      { images: PNG, mask: 'x' },
    ]
    for (const body of bodies) {
      expect(submitAsk('https://api.openai.com/v1', { ...edit, body: { prompt: 'x', ...body } })).toBeNull()
      const started = await bench.provider.start(bench.job({ body: { prompt: 'x', ...body } }), bench.signal)
      expect(started).toMatchObject({ type: 'refused', error: { code: 'invalid_input' } })
    }
    expect(bench.standIn.calls).toEqual([])
    await bench.stop()
  })

  test('a form says what JSON would: nothing for null, an object as JSON; a mask alone makes it an edit', () => {
    const formOf = (body: JsonObject) => {
      const ask = submitAsk('https://api.openai.com/v1', { ...edit, body })
      const form = ask?.body?.type === 'form' ? ask.body.value : new FormData()
      const entries: string[][] = []
      form.forEach((value, name) => {
        entries.push([name, typeof value === 'string' ? value : value.type])
      })
      return [ask?.url, entries]
    }
    expect(formOf({ prompt: 'x', n: 2, user: null, extra: { a: [1] }, images: PNG })).toEqual([
      'https://api.openai.com/v1/images/edits',
      [
        ['model', 'gpt-image-1.5'],
        ['prompt', 'x'],
        ['n', '2'],
        ['extra', '{"a":[1]}'],
        ['image[]', 'image/png'],
      ],
    ])
    expect(formOf({ mask: PNG })[1]).toContainEqual(['mask', 'image/png'])
  })

  test('keeps every picture of a call, with the type that was asked for', async () => {
    const bench = await openBench(spec)
    const started = await bench.provider.start(bench.job({ body: { ...order.body, n: 3 } }), bench.signal)
    if (started.type !== 'succeeded') throw new Error(started.type)
    expect(started.media).toHaveLength(3)
    expect(started.media[0]?.mime).toBe('image/webp')
    expect(bench.stashed.size).toBe(3)
    await bench.stop()
  })

  test('a compatible server may answer with links, also relative ones, on its own origin', async () => {
    const bench = await openBench(spec)
    bench.standIn.links = true
    const started = await bench.provider.start(bench.job(), bench.signal)
    if (started.type !== 'succeeded') throw new Error(started.type)
    const media = started.media[0] as { url: string }
    expect(media.url).toStartWith(`${bench.standIn.url}/generated-images/`)
    const opened = await bench.provider.open(media, bench.signal)
    if (!opened.ok) throw new Error(opened.error.message)
    expect((await bytesOf(opened.stream)).length).toBeGreaterThan(50)
    await bench.stop()
  })

  test('a call that ran and gave no picture is a job that failed, tried once more; one that cannot be read stays unknown', () => {
    const read = (json: Json, jobsBefore = 0) =>
      readStart(
        dialect,
        { status: 200, headers: {}, json, at: 0 },
        { body: {}, jobsBefore },
        'https://api.openai.com/v1',
      )
    const message = 'openai answered without a picture'
    const usage = { input_tokens: 12, output_tokens: 0, total_tokens: 12 }
    for (const json of [
      { data: [], usage },
      { created: 1_790_000_300, data: [{ b64_json: null, url: null, revised_prompt: 'x' }] },
    ] as Json[]) {
      // The tokens of the prompt are billed all the same.
      expect(read(json)).toEqual({
        type: 'ended',
        error: expect.objectContaining({ code: 'provider_error', message }),
      })
      expect(read(json, 1)).toMatchObject({ type: 'ended', error: { code: 'output_invalid', message } })
    }
    for (const json of [
      {},
      { data: null },
      { data: 'x' },
      { data: ['x'] },
      { data: [{ b64_json: '' }] },
      { data: [{ url: 'javascript:alert(1)' }] },
      { data: [{ path: '/images/a.png', revised_prompt: 'x' }] },
      { data: [{ revised_prompt: { url: 'https://x.example/a.png' } }] },
      // One that was painted, and is billed, is somewhere: another would be bought beside it.
      { data: [], usage: { ...usage, output_tokens: 1056 } },
    ] as Json[])
      expect([json, read(json).type]).toEqual([json, 'unknown'])
  })

  test('tells every documented error', () => {
    const table: [number, string, string | null, ErrorCode][] = [
      [400, 'image_generation_user_error', 'moderation_blocked', 'content_rejected'],
      [400, 'invalid_request_error', 'content_policy_violation', 'content_rejected'],
      [400, 'billing_limit_user_error', 'billing_hard_limit_reached', 'insufficient_credit'],
      [400, 'invalid_request_error', 'invalid_value', 'invalid_input'],
      [400, 'invalid_request_error', 'unknown_parameter', 'invalid_input'],
      [401, 'invalid_request_error', 'invalid_api_key', 'provider_unauthorized'],
      [403, 'invalid_request_error', null, 'provider_unauthorized'],
      [404, 'invalid_request_error', 'model_not_found', 'model_not_enabled'],
      [429, 'requests', 'rate_limit_exceeded', 'provider_rate_limited'],
      [429, 'insufficient_quota', 'insufficient_quota', 'insufficient_credit'],
      [429, 'insufficient_quota', null, 'insufficient_credit'],
      [400, 'image_generation_user_error', null, 'content_rejected'],
      [500, 'server_error', null, 'provider_error'],
      [503, 'server_error', null, 'provider_overloaded'],
    ]
    for (const [status, type, code, ours] of table) {
      const answer: Answer = { status, headers: {}, json: { error: { message: 'm', type, param: null, code } }, at: 0 }
      expect([status, code, errorOf(dialect, answer).code]).toEqual([status, code, ours])
    }
  })

  test('honours a wait in milliseconds', () => {
    const json = { error: { message: 'm', type: 'requests', code: 'rate_limit_exceeded' } }
    const wait = (headers: Answer['headers']) => errorOf(dialect, { status: 429, headers, json, at: 0 }).retryAfterMs
    expect(wait({ 'retry-after-ms': '1500', 'retry-after': '2' })).toBe(1_500)
    expect(wait({ 'retry-after-ms': '0.5' })).toBe(1)
    // What says nothing does not hide what does.
    for (const nothing of ['0', '-4', '', 'soon', 'Infinity'])
      expect([nothing, wait({ 'retry-after-ms': nothing, 'retry-after': '9' })]).toEqual([nothing, 9_000])
    expect(wait({ 'retry-after-ms': '0', 'retry-after': '1.5' })).toBe(1_500)
    expect(wait({ 'retry-after-ms': '0', 'retry-after': '0' })).toBeUndefined()
  })
})
