import { describe, expect, test } from 'bun:test'
import type { ErrorCode } from '../../src/core/errors.ts'
import type { JsonObject } from '../../src/core/json.ts'
import {
  arkDialect,
  codeByName,
  createBytePlus,
  readCheck,
  readList,
  readPictures,
  readTask,
  submitAsk,
} from '../../src/providers/byteplus.ts'
import { type Answer, errorOf } from '../../src/providers/protocol.ts'
import { protocolContract } from '../contract/protocol.contract.ts'
import { openBench } from '../support/providers/bench.ts'
import { BytePlusStandIn } from '../support/providers/byteplus.ts'
import type { StandInOptions } from '../support/providers/stand-in.ts'
import { systemClock } from '../support/system-clock.ts'

const film = {
  providerModel: 'seedance-1-5-pro-251215',
  role: 'image_to_video' as const,
  body: {
    content: [
      { type: 'text', text: 'the boat drifts left' },
      { type: 'image_url', image_url: { url: 'https://cdn.example.org/boat.png' }, role: 'first_frame' },
    ],
    resolution: '720p',
    ratio: 'adaptive',
    duration: 5,
    generate_audio: false,
    watermark: false,
  } as JsonObject,
}
const picture = {
  providerModel: 'seedream-4-5-251128',
  role: 'text_to_image' as const,
  body: { prompt: 'a red boat', size: '2K', watermark: false },
}
const standIn = (options: StandInOptions) => new BytePlusStandIn(options)
const films = { standIn, provider: createBytePlus, order: film }

protocolContract('byteplus films', films, {
  kind: 'job',
  failures: {
    input: 'content_rejected',
    output: 'content_rejected',
    error: 'provider_error',
    canceled: 'canceled',
    empty: 'output_invalid',
  },
  cancel: { queued: 'unbegun', running: 'unsupported', ended: 'failed' },
  find: 'token',
  strange: id => ({ id, status: 'dreaming' }),
  webhooks: 'by token',
  links: true,
  upload: false,
  canVanish: true,
})

protocolContract(
  'byteplus films where the list does not give our mark back',
  {
    ...films,
    standIn: options => {
      const made = standIn(options)
      made.echoes = false
      return made
    },
    order: { ...film, body: { ...film.body, safety_identifier: 'the-callers-own' } },
  },
  {
    kind: 'job',
    failures: {},
    cancel: { queued: 'unbegun', running: 'unsupported', ended: 'failed' },
    find: 'absence only',
    webhooks: 'by token',
    links: false,
    upload: false,
    canVanish: true,
  },
)

const pictures = { standIn, provider: createBytePlus, order: picture }

protocolContract('byteplus pictures', pictures, {
  kind: 'sync',
  failures: { input: 'content_rejected', output: 'content_rejected', error: 'provider_error', empty: 'provider_error' },
  ran: ['empty'],
  cancel: { queued: 'unsupported', running: 'unsupported', ended: 'unsupported' },
  find: 'never',
  webhooks: 'by token',
  links: false,
  upload: false,
  canVanish: false,
})

const dialect = arkDialect('key-of-the-test')
/** The mark of another attempt. */
const markOf = () => `bc_${systemClock.token()}`
const answer = (json: Answer['json'], status = 200): Answer => ({ status, headers: {}, json, at: 0 })

describe('byteplus', () => {
  test('sends a film with its callback and our mark, a picture with neither', () => {
    const own = { token: 't'.repeat(22), callbackUrl: 'https://us.example/h' }
    expect(submitAsk('https://ark.example/api/v3', { ...film, ...own }).body?.value).toEqual({
      model: film.providerModel,
      ...film.body,
      safety_identifier: `bc_${own.token}`,
      callback_url: own.callbackUrl,
    })
    const ask = submitAsk('https://ark.example/api/v3', { ...picture, ...own })
    expect(ask.url).toBe('https://ark.example/api/v3/images/generations')
    expect(ask.body?.value).toEqual({ model: picture.providerModel, ...picture.body })
  })

  test("keeps the caller's own safety identifier", () => {
    const body = { ...film.body, safety_identifier: 'user-7' }
    const ask = submitAsk('https://ark.example/api/v3', { ...film, body, token: 't', callbackUrl: null })
    expect(ask.body?.value).toMatchObject({ safety_identifier: 'user-7' })
  })

  test('keeps the good pictures of a series of which one was refused', async () => {
    const bench = await openBench(pictures)
    const body = {
      ...picture.body,
      sequential_image_generation: 'auto',
      sequential_image_generation_options: { max_images: 2 },
    }
    const started = await bench.provider.start(bench.job({ body }), bench.signal)
    expect(started).toMatchObject({ type: 'succeeded', media: [{ url: expect.stringContaining('http') }] })
    await bench.stop()
  })

  test('tells how many pictures were made, and how many tokens a film took', () => {
    const item = { url: 'https://x.example/a.jpeg' }
    const made = (usage: JsonObject | undefined) =>
      readPictures(dialect, answer({ data: [item], ...(usage && { usage }) }))
    expect(made({ generated_images: 3 })).toEqual({ type: 'pictures', pictures: [item], counted: 3 })
    const film = (usage: JsonObject | undefined) =>
      readCheck(
        dialect,
        answer({ status: 'succeeded', content: { video_url: 'https://x.example/v.mp4' }, ...(usage && { usage }) }),
        5_000,
      )
    expect(film({ completion_tokens: 108_900, total_tokens: 108_900 })).toMatchObject({ counted: 108_900 })
    const nothing: (JsonObject | undefined)[] = [undefined, {}, { generated_images: 0, completion_tokens: -1 }]
    for (const usage of nothing) {
      expect(made(usage)).not.toHaveProperty('counted')
      expect(film(usage)).not.toHaveProperty('counted')
    }
    for (const odd of ['3', null, Number.NaN]) {
      expect(made({ generated_images: odd })).not.toHaveProperty('counted')
      expect(film({ completion_tokens: odd })).not.toHaveProperty('counted')
    }
  })

  test('the count stays with a picture that is stashed', async () => {
    const bench = await openBench(pictures)
    const body = { ...picture.body, response_format: 'b64_json' }
    expect(await bench.provider.start(bench.job({ body }), bench.signal)).toMatchObject({ counted: 1 })
    await bench.stop()
  })

  test('stashes base64 at once', async () => {
    const bench = await openBench(pictures)
    const body = { ...picture.body, response_format: 'b64_json' }
    const started = await bench.provider.start(bench.job({ body }), bench.signal)
    expect(started).toMatchObject({ type: 'succeeded', media: [{ url: expect.stringContaining('stash:') }] })
    expect([...bench.stashed.values()][0]?.subarray(1, 4)).toEqual(Buffer.from('PNG'))
    await bench.stop()
  })

  test('a picture that is too small is refused as the API does', async () => {
    const bench = await openBench(pictures)
    const started = await bench.provider.start(
      bench.job({ body: { ...picture.body, size: '1024x1024' } }),
      bench.signal,
    )
    expect(started).toMatchObject({ type: 'refused', error: { code: 'invalid_input', httpStatus: 400 } })
    await bench.stop()
  })

  test('a success without any picture is a job that failed, tried once more; it may be billed where it does not say 0', () => {
    const read = (json: JsonObject, jobsBefore = 0) => readPictures(dialect, answer(json), jobsBefore)
    const message = 'byteplus answered without a picture'
    const empty = { model: 'm', data: [] }
    const error = expect.objectContaining({ code: 'provider_error', message })
    expect(read(empty)).toEqual({ type: 'ended', error })
    expect(read({ ...empty, usage: { generated_images: 0 } })).toEqual({ type: 'ended', error, costUsd: 0 })
    expect(read(empty, 1)).toMatchObject({ type: 'ended', error: { code: 'output_invalid', message } })
    const strange: JsonObject[] = [{}, { data: null }, { data: [{}] }, { data: [{ url: 'javascript:alert(1)' }] }]
    // One that was made, and is billed, is somewhere: another would be bought beside it.
    strange.push({ ...empty, usage: { generated_images: 1 } })
    for (const json of strange) expect([json, read(json).type]).toEqual([json, 'unknown'])
  })

  test('what was not billed costs nothing', async () => {
    const bench = await openBench(pictures)
    bench.standIn.script({ type: 'fail', how: 'empty' })
    expect(await bench.provider.start(bench.job(), bench.signal)).toMatchObject({ type: 'accepted', costUsd: 0 })
    await bench.stop()
  })

  test('tells every documented code', () => {
    const table: [string, ErrorCode][] = [
      ['MissingParameter', 'invalid_input'],
      ['InvalidParameter.Size', 'invalid_input'],
      ['InputTextSensitiveContentDetected', 'content_rejected'],
      ['InputImageSensitiveContentDetected.PrivacyInformation', 'content_rejected'],
      ['OutputVideoSensitiveContentDetected', 'content_rejected'],
      ['OutputAudioSensitiveContentDetected', 'content_rejected'],
      ['InputImageRiskDetection', 'content_rejected'],
      ['OutputImageRiskDetection', 'content_rejected'],
      ['SensitiveContentDetected', 'content_rejected'],
      ['SensitiveContentDetected.SevereViolation', 'content_rejected'],
      ['SensitiveContentDetected.Violence', 'content_rejected'],
      ['RiskDetection', 'content_rejected'],
      ['InvalidParameter.SensitiveContentDetected', 'content_rejected'],
      ['AuthenticationError', 'provider_unauthorized'],
      ['AccessDenied', 'provider_unauthorized'],
      ['AccountOverdueError', 'insufficient_credit'],
      ['SetLimitExceeded', 'insufficient_credit'],
      ['InvalidEndpointOrModel.NotFound', 'model_not_enabled'],
      ['InvalidEndpoint.ClosedEndpoint', 'model_not_enabled'],
      ['ModelNotOpen', 'model_not_enabled'],
      ['UnsupportedModel', 'model_not_enabled'],
      ['ModelAccountRpmRateLimitExceeded', 'provider_rate_limited'],
      ['ModelAccountIpmRateLimitExceeded', 'provider_rate_limited'],
      ['RateLimitExceeded.EndpointRPMExceeded', 'provider_rate_limited'],
      ['QuotaExceeded', 'provider_rate_limited'],
      ['RequestBurstTooFast', 'provider_rate_limited'],
      ['ServerOverloaded', 'provider_overloaded'],
      ['InternalServiceError', 'provider_error'],
    ]
    for (const [name, code] of table) expect([name, codeByName(name)]).toEqual([name, code])
    // What is new, or has no name, is a failure as any other.
    const strange: (JsonObject | null)[] = [{ code: 'SomethingNew', message: 'm' }, { message: 'm' }, null]
    for (const error of strange) {
      const read = readCheck(dialect, answer({ status: 'failed', error }), 5_000)
      expect(read).toMatchObject({ type: 'failed', error: { code: 'provider_error' } })
    }
  })

  test('says of a refusal whether it is of the input or of the output, where the code does', () => {
    const table = [
      ['InputImageSensitiveContentDetected.PrivacyInformation', 'byteplus refused the input'],
      ['OutputVideoSensitiveContentDetected', 'byteplus refused the output'],
      ['SensitiveContentDetected.SevereViolation', 'byteplus refused the content'],
    ]
    for (const [code = '', message] of table) {
      const read = readCheck(dialect, answer({ status: 'failed', error: { code, message: 'm' } }), 5_000)
      expect(read).toMatchObject({ type: 'failed', error: { code: 'content_rejected', message } })
    }
    const submit = answer({ error: { code: 'SensitiveContentDetected.Violence', message: 'm' } }, 400)
    const error = { code: 'content_rejected', message: 'byteplus refused the content (HTTP 400)' }
    expect(readTask(dialect, submit, { callbackUrl: null })).toMatchObject({ type: 'refused', error })
    expect(readPictures(dialect, submit)).toMatchObject({ type: 'refused', error })
  })

  test('a spending cap of the owner is a 429 that no waiting helps', () => {
    const capped = answer({ error: { code: 'SetLimitExceeded', message: 'your limit' } }, 429)
    expect(errorOf(dialect, capped)).toMatchObject({ code: 'insufficient_credit', retryable: false })
  })

  test('a list that does not reach back to the submit proves nothing', () => {
    const attempt = { token: 't', startedAt: 1_000_000_000_000 }
    const task = (id: number, seconds: number) => ({
      id: `cgt-${id}`,
      created_at: seconds,
      safety_identifier: markOf(),
    })
    const page = (...times: number[]) => ({ items: times.map((time, i) => task(i, time)), total: 900 })
    const read = (json: Answer['json']) => readList(answer(json), attempt, () => false).type
    expect(read(page(1_000_000_020, 1_000_000_010))).toBe('unknown')
    expect(read(page(1_000_000_020, 999_999_000))).toBe('none')
    // Not sorted as we think: the newest may be anywhere.
    expect(read(page(999_999_000, 1_000_000_020, 999_999_000))).toBe('unknown')
    expect(read({ items: [], total: 0 })).toBe('none')
    expect(read({ items: [{ id: 'cgt-1', created_at: 1_000_000_005 }], total: 1 })).toBe('unknown')
    // Without its times, or without their number, a list says nothing of what it leaves out.
    expect(read({ items: [], total: null })).toBe('unknown')
    expect(read({ items: [task(1, 1_000_000_020)] })).toBe('unknown')
    expect(read({ items: [{ ...task(1, 0), created_at: null }], total: 900 })).toBe('unknown')
    expect(read({ items: [{ id: 'cgt-1' }], total: 1 })).toBe('unknown')
  })

  test("only a whole mark is another attempt's: a caller's own value that looks like one may be on our task", () => {
    const attempt = { token: systemClock.token(), startedAt: 1_000_000_000_000 }
    const read = (safety_identifier: string) => {
      const items = [{ id: 'cgt-1', created_at: 1_000_000_005, safety_identifier }]
      return readList(answer({ items, total: 1 }), attempt, () => false).type
    }
    for (let i = 0; i < 50; i++) expect(read(markOf())).toBe('none')
    expect(read(`bc_${attempt.token}`)).toBe('found')
    const callers = ['bc_', 'bc_customer42', `bc_${'x'.repeat(22)}`, `${markOf()}A`, ` ${markOf()}`, `my_${markOf()}`]
    for (const own of [...callers, `bc_${'+'.repeat(21)}A`]) expect([own, read(own)]).toEqual([own, 'unknown'])
  })

  test('a clock of ours that is ahead makes no task too old to be ours', () => {
    const attempt = { token: 't', startedAt: 1_000_000_000_000 }
    const page = { items: [{ id: 'cgt-1', created_at: 999_999_880 }], total: 1 }
    const read = (date?: string) => {
      const headers: Answer['headers'] = date ? { date } : {}
      return readList({ status: 200, headers, json: page, at: 1_000_000_000_000 }, attempt, () => false).type
    }
    expect(read()).toBe('none')
    expect(read(new Date(1_000_000_000_000).toUTCString())).toBe('none')
    expect(read(new Date(999_999_870_000).toUTCString())).toBe('unknown')
  })

  test("a task under the caller's own identifier is never taken for another attempt's", async () => {
    const bench = await openBench(films)
    bench.standIn.script({ type: 'swallow' })
    const job = bench.job({ body: { ...film.body, safety_identifier: 'bc_customer42' } })
    await bench.provider.start(job, bench.signal)
    const find = () => bench.another().find?.({ ...job, startedAt: bench.clock.now() }, bench.signal)
    expect(await find()).toEqual({ type: 'unknown' })
    await bench.stop()
  })

  test('our task whose id cannot be read is there all the same', () => {
    const items = [{ id: '../x', created_at: 1_000_000_005, safety_identifier: 'bc_t' }]
    const attempt = { token: 't', startedAt: 1_000_000_000_000 }
    expect(readList(answer({ items, total: 1 }), attempt, () => false).type).toBe('unknown')
  })

  test("an endpoint of one's own is looked for by what the step makes, not by its name", async () => {
    const bench = await openBench(films)
    const ask = (role: 'text_to_image' | 'image_to_image' | 'image_to_video') => {
      const job = bench.job({ providerModel: 'ep-20261122-abcde', role })
      return bench.provider.find?.({ ...job, startedAt: bench.clock.now() }, bench.signal)
    }
    for (const role of ['text_to_image', 'image_to_image'] as const)
      expect(await ask(role)).toEqual({ type: 'untraceable' })
    expect(bench.standIn.calls).toEqual([])
    expect(await ask('image_to_video')).toEqual({ type: 'none' })
    // It may be a Seedance that has two tiers, and each has a list.
    const tiers = bench.standIn.calls.map(call => call.query.get('filter.service_tier'))
    expect(tiers).toEqual(['default', 'flex'])
    // A Seedance of which it is known that it has one is asked for there.
    const known = bench.job({ providerModel: 'dreamina-seedance-2-0-260128', role: 'image_to_video' })
    expect(await bench.provider.find?.({ ...known, startedAt: bench.clock.now() }, bench.signal)).toEqual({
      type: 'none',
    })
    expect(bench.standIn.calls.slice(2).map(call => call.query.get('filter.service_tier'))).toEqual(['default'])
    await bench.stop()
  })

  test('finds a half-price task in its own list', async () => {
    const bench = await openBench(films)
    bench.standIn.script({ type: 'swallow' })
    const job = bench.job({ body: { ...film.body, service_tier: 'flex' } })
    await bench.provider.start(job, bench.signal)
    const found = await bench.provider.find?.({ ...job, startedAt: bench.clock.now() }, bench.signal)
    expect(found?.type).toBe('found')
    await bench.stop()
  })

  test('a cancel never erases a finished task', async () => {
    const bench = await openBench(films)
    const started = await bench.provider.start(bench.job(), bench.signal)
    bench.clock.advance(10_000)
    if (started.type !== 'accepted') throw new Error(started.type)
    expect(await bench.provider.cancel(started.jobRef, bench.signal)).toBe('failed')
    expect(bench.standIn.calls.map(call => call.method)).not.toContain('DELETE')
    await bench.stop()
  })
})
