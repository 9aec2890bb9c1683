import { describe, expect, test } from 'bun:test'
import type { ErrorCode } from '../../src/core/errors.ts'
import type { Json } from '../../src/core/json.ts'
import type { Answer } from '../../src/providers/protocol.ts'
import { createRunway, readCheck, readUpload, runwayDialect, submitAsk } from '../../src/providers/runway.ts'
import { protocolContract } from '../contract/protocol.contract.ts'
import { openBench } from '../support/providers/bench.ts'
import { RunwayStandIn } from '../support/providers/runway.ts'
import type { StandInOptions } from '../support/providers/stand-in.ts'

const film = {
  providerModel: 'gen4.5',
  role: 'image_to_video' as const,
  body: {
    promptImage: [{ uri: 'https://cdn.example.org/boat.png', position: 'first' }] as Json[],
    promptText: 'the boat drifts',
    ratio: '1280:720',
    duration: 5,
  },
}
const picture = {
  providerModel: 'gen4_image',
  role: 'text_to_image' as const,
  body: { promptText: 'a red boat', ratio: '1920:1080', seed: 7 },
}
const spec = { standIn: (options: StandInOptions) => new RunwayStandIn(options), provider: createRunway }
const traits = {
  kind: 'job',
  failures: {
    input: 'content_rejected',
    output: 'content_rejected',
    error: 'provider_error',
    canceled: 'canceled',
    empty: 'output_invalid',
  },
  refusals: { input: null },
  cancel: { queued: 'confirmed', running: 'confirmed', ended: 'failed' },
  find: 'none',
  strange: (id: string) => ({ id, status: 'DREAMING', output: ['https://x.example/v.mp4'] }),
  webhooks: 'none',
  links: true,
  upload: true,
  canVanish: true,
} as const

protocolContract('runway films', { ...spec, order: film }, traits)
protocolContract('runway pictures', { ...spec, order: picture }, traits)

const dialect = runwayDialect('key-of-the-test')
const answer = (json: Json, status = 200): Answer => ({ status, headers: {}, json, at: 0 })

describe('runway', () => {
  test('the endpoint follows the role, the model stands in the body, every call names the version', async () => {
    expect(submitAsk('https://api.dev.runwayml.com/v1', film).url).toBe(
      'https://api.dev.runwayml.com/v1/image_to_video',
    )
    expect(submitAsk('https://api.dev.runwayml.com/v1', { ...picture, role: 'image_to_image' }).url).toEndWith(
      '/text_to_image',
    )
    const bench = await openBench({ ...spec, order: film })
    const started = await bench.provider.start(bench.job(), bench.signal)
    if (started.type !== 'accepted') throw new Error(started.type)
    await bench.provider.check(started.jobRef, bench.signal)
    await bench.provider.cancel(started.jobRef, bench.signal)
    expect(bench.standIn.submits()[0]?.body).toEqual({ model: 'gen4.5', ...film.body })
    for (const call of bench.standIn.calls) expect(call.headers['x-runway-version']).toBe('2024-11-06')
    await bench.stop()
  })

  test('a place in their queue is pending, progress is told while it runs', () => {
    expect(readCheck(dialect, answer({ status: 'THROTTLED' }), 5_000)).toMatchObject({
      type: 'pending',
      progress: null,
    })
    expect(readCheck(dialect, answer({ status: 'RUNNING', progress: 0.4 }), 5_000)).toMatchObject({
      type: 'pending',
      progress: 0.4,
    })
  })

  test('tells every documented failure code', () => {
    const table: [string, ErrorCode][] = [
      ['SAFETY.INPUT.TEXT', 'content_rejected'],
      ['SAFETY.INPUT.IMAGE', 'content_rejected'],
      ['SAFETY.OUTPUT.VIDEO', 'content_rejected'],
      ['INTERNAL.BAD_OUTPUT.CODE01', 'provider_error'],
      ['INTERNAL', 'provider_error'],
      ['INPUT_PREPROCESSING.SAFETY.TEXT', 'content_rejected'],
      ['INPUT_PREPROCESSING.SAFETY.THIRD_PARTY', 'content_rejected'],
      ['THIRD_PARTY.SAFETY', 'content_rejected'],
      ['INPUT_PREPROCESSING.INTERNAL', 'provider_error'],
      ['INPUT_PREPROCESSING.ASPECT_RATIO', 'invalid_input'],
      ['INPUT_PREPROCESSING', 'invalid_input'],
      ['INTERNAL.SAFETYNET', 'provider_error'],
      ['ASSET.INVALID', 'invalid_input'],
      ['THIRD_PARTY.UNAVAILABLE', 'provider_error'],
      ['SOMETHING.NEW', 'provider_error'],
    ]
    for (const [failureCode, code] of table) {
      const read = readCheck(dialect, answer({ status: 'FAILED', failure: 'f', failureCode }), 5_000)
      expect([failureCode, read.type === 'failed' && read.error.code]).toEqual([failureCode, code])
    }
  })

  test('a failure without a code is one of theirs, in the words that there are; files that are no links are none', () => {
    const read = (more: Record<string, Json>) => readCheck(dialect, answer({ status: 'FAILED', ...more }), 5_000)
    expect(read({ failure: 'went wrong' })).toMatchObject({
      error: { code: 'provider_error', providerText: 'went wrong' },
    })
    expect(read({})).toMatchObject({ error: { code: 'provider_error', providerText: 'FAILED' } })
    const output = ['javascript:alert(1)', 7]
    expect(readCheck(dialect, answer({ status: 'SUCCEEDED', output }), 5_000)).toMatchObject({
      error: { code: 'output_invalid' },
    })
  })

  test('says whether the input or the output was refused, where the code does', () => {
    const table = [
      ['SAFETY.INPUT.TEXT', 'runway refused the input'],
      ['INPUT_PREPROCESSING.SAFETY.TEXT', 'runway refused the input'],
      ['SAFETY.OUTPUT.VIDEO', 'runway refused the output'],
      ['THIRD_PARTY.SAFETY', 'runway refused the content'],
    ]
    for (const [failureCode = '', message] of table) {
      const read = readCheck(dialect, answer({ status: 'FAILED', failure: 'f', failureCode }), 5_000)
      expect(read).toMatchObject({ type: 'failed', error: { message } })
    }
  })

  test('a cancel never erases a finished task', async () => {
    const bench = await openBench({ ...spec, order: film })
    const started = await bench.provider.start(bench.job(), bench.signal)
    if (started.type !== 'accepted') throw new Error(started.type)
    bench.clock.advance(10_000)
    expect(await bench.provider.cancel(started.jobRef, bench.signal)).toBe('failed')
    expect(bench.standIn.calls.map(call => call.method)).not.toContain('DELETE')
    await bench.stop()
  })

  test('an upload goes where the answer says only through the guarded egress', async () => {
    const bench = await openBench({ ...spec, order: film })
    const picture = { mime: 'image/png', bytes: new Uint8Array([1, 2, 3]) }
    for (const uploadUrl of ['http://169.254.169.254/x', 'https://10.0.0.1/x', 'file:///etc/passwd']) {
      bench.standIn.disturb({ status: 200, json: { uploadUrl, fields: {}, runwayUri: 'runway://x' } })
      expect(await bench.provider.upload?.(picture, bench.signal)).toMatchObject({ ok: false })
    }
    await bench.stop()
    const place = { uploadUrl: 'https://s3.example/x', fields: { key: 'k', size: 7 }, runwayUri: 'runway://x' }
    expect(readUpload(answer(place))).toEqual({ url: place.uploadUrl, fields: { key: 'k' }, ref: place.runwayUri })
    for (const odd of [{ runwayUri: 'https://evil.example' }, { runwayUri: null }, { fields: null }, { fields: 'x' }])
      expect(readUpload(answer({ ...place, ...odd }))).toBeNull()
    expect(readUpload(answer(place, 300))).toBeNull()
  })
})
