import { describe, expect, test } from 'bun:test'
import type { ErrorCode } from '../../src/core/errors.ts'
import type { Json, JsonObject } from '../../src/core/json.ts'
import { createGoogle, googleDialect, readCheck, readOperation, readPicture } from '../../src/providers/google.ts'
import { type Answer, errorOf } from '../../src/providers/protocol.ts'
import { protocolContract } from '../contract/protocol.contract.ts'
import { bytesOf, openBench } from '../support/providers/bench.ts'
import { GoogleStandIn } from '../support/providers/google.ts'
import type { StandInOptions } from '../support/providers/stand-in.ts'

const inlineData = { mimeType: 'image/png', data: 'iVBORw0KGgo=' }
const picture = {
  providerModel: 'gemini-3-pro-image',
  role: 'image_to_image' as const,
  body: {
    contents: [{ role: 'user', parts: [{ text: 'make it night' }, { inlineData }] as Json[] }],
    generationConfig: { responseModalities: ['IMAGE'], imageConfig: { aspectRatio: '16:9', imageSize: '2K' }, seed: 7 },
  },
}
const film = {
  providerModel: 'veo-3.1-generate-preview',
  role: 'image_to_video' as const,
  body: {
    instances: [{ prompt: 'the boat drifts', image: { bytesBase64Encoded: 'iVBORw0KGgo=', mimeType: 'image/png' } }],
    parameters: { aspectRatio: '16:9', resolution: '720p', durationSeconds: 8, seed: 7 },
  },
}
const spec = { standIn: (options: StandInOptions) => new GoogleStandIn(options), provider: createGoogle }
const unsupported = { queued: 'unsupported', running: 'unsupported', ended: 'unsupported' } as const

protocolContract(
  'google pictures',
  { ...spec, order: picture },
  {
    kind: 'sync',
    failures: { input: 'content_rejected', output: 'content_rejected', empty: 'provider_error' },
    ran: ['output', 'empty'],
    cancel: unsupported,
    find: 'none',
    webhooks: 'none',
    links: false,
    upload: false,
    canVanish: false,
  },
)
protocolContract(
  'google films',
  { ...spec, order: film },
  {
    kind: 'job',
    failures: {
      input: 'content_rejected',
      output: 'content_rejected',
      error: 'provider_error',
      empty: 'output_invalid',
    },
    cancel: unsupported,
    find: 'none',
    strange: () => ({ name: 'models/veo/operations/op0', done: 'perhaps', metadata: {} }),
    webhooks: 'none',
    links: true,
    upload: false,
    canVanish: true,
  },
)

const dialect = googleDialect('key-of-the-test')
const answer = (json: Json, status = 200): Answer => ({ status, headers: {}, json, at: 0 })

describe('google', () => {
  test('takes the picture and leaves thoughts and words', async () => {
    const bench = await openBench({ ...spec, order: picture })
    const started = await bench.provider.start(bench.job(), bench.signal)
    expect(started).toMatchObject({ type: 'succeeded', media: [{ mime: 'image/png' }] })
    expect([...bench.stashed.values()][0]?.length).toBeGreaterThan(20)
    await bench.stop()
  })

  test('a request that is too large as a whole is refused before it is sent, however small each picture is', async () => {
    const bench = await openBench({ ...spec, order: picture })
    const started = (bytes: number) => {
      const body = (data: string): JsonObject => ({
        contents: [{ parts: [{ text: 'ü' }, { inlineData: { ...inlineData, data } }] }],
      })
      const rest = Buffer.byteLength(JSON.stringify(body('')))
      return bench.provider.start(bench.job({ body: body('A'.repeat(bytes - rest)) }), bench.signal)
    }
    expect(await started(20_000_001)).toMatchObject({
      type: 'refused',
      error: {
        code: 'invalid_input',
        provider: 'google',
        message:
          'the request has 20000001 bytes with its pictures; google takes at most 20000000: give fewer or smaller pictures',
      },
    })
    expect(bench.standIn.calls).toEqual([])
    expect((await started(20_000_000)).type).toBe('succeeded')
    await bench.stop()
  })

  test('a refusal in HTTP 200 is a refusal, of the input or of the output', () => {
    for (const blockReason of [
      'SAFETY',
      'OTHER',
      'BLOCKLIST',
      'PROHIBITED_CONTENT',
      'IMAGE_SAFETY',
      'MODEL_ARMOR',
      'JAILBREAK',
    ]) {
      expect(readPicture(dialect, answer({ promptFeedback: { blockReason } }))).toMatchObject({
        type: 'refused',
        error: { code: 'content_rejected', message: 'google refused the input' },
      })
    }
    for (const finishReason of [
      'SAFETY',
      'IMAGE_SAFETY',
      'PROHIBITED_CONTENT',
      'RECITATION',
      'IMAGE_RECITATION',
      'BLOCKLIST',
      'SPII',
    ]) {
      expect(readPicture(dialect, answer({ candidates: [{ finishReason }] }))).toMatchObject({
        type: 'ended',
        error: { code: 'content_rejected', message: 'google refused the output' },
      })
    }
    for (const finishReason of ['NO_IMAGE', 'IMAGE_OTHER', 'STOP']) {
      const candidates = [{ finishReason, content: { parts: [{ text: 'no' }] } }]
      expect(readPicture(dialect, answer({ candidates }))).toMatchObject({ error: { code: 'provider_error' } })
    }
  })

  test('an answer without a picture is worth one more try, and the second ends the step', async () => {
    const bench = await openBench({ ...spec, order: picture })
    bench.standIn.always({ type: 'fail', how: 'empty' })
    const tried = async (jobsBefore: number) => {
      const started = await bench.provider.start(bench.job({ jobsBefore }), bench.signal)
      if (started.type !== 'accepted') throw new Error(started.type)
      return bench.provider.check(started.jobRef, bench.signal)
    }
    const message = 'google answered without a picture'
    expect(await tried(0)).toMatchObject({
      type: 'failed',
      error: { code: 'provider_error', retryable: true, message },
    })
    expect(await tried(1)).toMatchObject({
      type: 'failed',
      error: { code: 'output_invalid', retryable: false, message },
    })
    expect(await tried(1)).toMatchObject({ error: { providerText: 'STOP' } })
    await bench.stop()
  })

  test('an answer that may hold a picture, or counts one, is no answer without: another would be paid, too', () => {
    const image = { candidatesTokensDetails: [{ modality: 'IMAGE', tokenCount: 1_290 }] }
    const words = { parts: [{ text: 'here it is', thoughtSignature: 'x' }] }
    const odd: JsonObject[] = [
      { candidates: [{ finishReason: 'STOP', content: { parts: [{ fileData: { fileUri: 'files/1' } }] } }] },
      { candidates: [{ finishReason: 'STOP', content: { parts: [{ inline_data: { data: 'iVBOR' } }] } }] },
      { candidates: [{ finishReason: 'STOP', content: { parts: [{ inlineData: { data: '' } }] } }] },
      { candidates: [{ finishReason: 'STOP', content: { parts: [{ text: 'a' }, 'b'] } }] },
      { candidates: [{ finishReason: 'STOP', content: words }], usageMetadata: image },
      { candidates: [{ finishReason: 'STOP' }], usageMetadata: image },
    ]
    for (const json of odd) expect(readPicture(dialect, answer(json)).type).toBe('unknown')
    const text = { candidatesTokensDetails: [{ modality: 'TEXT', tokenCount: 9 }] }
    const thought = { parts: [{ thought: true, inlineData: { data: 'iVBOR' } }] }
    const empty: JsonObject[] = [
      { candidates: [{ finishReason: 'STOP', content: words }], usageMetadata: text },
      { candidates: [{ finishReason: 'STOP', content: thought }] },
      { candidates: [{ finishReason: 'NO_IMAGE', content: thought }], usageMetadata: image },
      { candidates: [{ finishReason: 'IMAGE_OTHER' }], usageMetadata: image },
    ]
    for (const json of empty) expect(readPicture(dialect, answer(json)).type).toBe('ended')
  })

  test('an answer without candidates is one with none, where it is known for an answer of the model', () => {
    const usageMetadata = { promptTokenCount: 9, totalTokenCount: 9 }
    const known: JsonObject[] = [
      { usageMetadata },
      { responseId: 'r1' },
      { modelVersion: 'gemini-3-pro-image' },
      { promptFeedback: {} },
    ]
    for (const json of known) {
      for (const said of [json, { ...json, candidates: null }, { ...json, candidates: [] }])
        expect(readPicture(dialect, answer(said))).toMatchObject({
          type: 'ended',
          error: { code: 'provider_error', message: 'google answered without a picture', providerText: 'no candidate' },
        })
      expect(readPicture(dialect, answer({ ...json, candidates: 'none' })).type).toBe('unknown')
    }
    const strange: Json[] = [
      {},
      [],
      'x',
      { responseId: 7 },
      { usageMetadata: 'x', modelVersion: {} },
      { promptFeedback: [] },
    ]
    for (const json of strange) expect(readPicture(dialect, answer(json)).type).toBe('unknown')
  })

  test('the key opens the download at the API and stays there when it redirects', async () => {
    const bench = await openBench({ ...spec, order: film })
    const started = await bench.provider.start(bench.job(), bench.signal)
    if (started.type !== 'accepted') throw new Error(started.type)
    bench.clock.advance(10_000)
    const done = await bench.provider.check(started.jobRef, bench.signal)
    if (done.type !== 'succeeded') throw new Error(done.type)
    const media = done.media[0] as { url: string }
    const opened = await bench.provider.open(media, bench.signal)
    if (!opened.ok) throw new Error(opened.error.message)
    expect((await bytesOf(opened.stream)).length).toBeGreaterThan(100)
    bench.standIn.downloadOrigin = bench.trap.url
    const trapped = await bench.provider.open(media, bench.signal)
    if (trapped.ok) await trapped.stream.cancel()
    expect(bench.trap.caught).toHaveLength(1)
    expect(bench.trap.caught[0]).not.toHaveProperty('x-goog-api-key')
    // A download may not be sent into the private network either.
    bench.standIn.downloadOrigin = 'http://169.254.169.254'
    expect(await bench.provider.open(media, bench.signal)).toMatchObject({ ok: false, error: { retryable: false } })
    await bench.stop()
  })

  test('reads the wish to wait out of the details', () => {
    const error = (retryDelay: string) =>
      errorOf(
        dialect,
        answer(
          {
            error: {
              code: 429,
              status: 'RESOURCE_EXHAUSTED',
              message: 'm',
              details: [{ '@type': 'x' }, { retryDelay }],
            },
          },
          429,
        ),
      )
    expect(error('34s').retryAfterMs).toBe(34_000)
    expect(error('1.5s').retryAfterMs).toBe(1_500)
    expect(error('soon').retryAfterMs).toBeUndefined()
  })

  test('tells every documented error', () => {
    const table: [number, string, ErrorCode][] = [
      [400, 'INVALID_ARGUMENT', 'invalid_input'],
      [400, 'FAILED_PRECONDITION', 'insufficient_credit'],
      [403, 'PERMISSION_DENIED', 'provider_unauthorized'],
      [401, 'UNAUTHENTICATED', 'provider_unauthorized'],
      [404, 'NOT_FOUND', 'model_not_enabled'],
      [429, 'RESOURCE_EXHAUSTED', 'provider_rate_limited'],
      [500, 'INTERNAL', 'provider_error'],
      [503, 'UNAVAILABLE', 'provider_overloaded'],
      [504, 'DEADLINE_EXCEEDED', 'provider_error'],
    ]
    for (const [code, status, ours] of table) {
      expect([status, errorOf(dialect, answer({ error: { code, status, message: 'm' } }, code)).code]).toEqual([
        status,
        ours,
      ])
    }
    const badKey = {
      error: { code: 400, status: 'INVALID_ARGUMENT', message: 'm', details: [{ reason: 'API_KEY_INVALID' }] },
    }
    expect(errorOf(dialect, answer(badKey, 400)).code).toBe('provider_unauthorized')
  })

  test('a place that is not served is told apart from billing that is not set up, on the submit as in an operation', () => {
    const told = (message: string) => {
      const error = { code: 400, status: 'FAILED_PRECONDITION', message }
      const ended = readCheck(dialect, answer({ name: 'models/veo/operations/op1', done: true, error }), 10_000)
      const submits = [readPicture, readOperation].map(read => read(dialect, answer({ error }, 400)))
      return [ended, ...submits].map(each => {
        if (!('error' in each)) throw new Error(each.type)
        return each.error
      })
    }
    for (const words of [
      'User location is not supported for the API use.',
      'This model is not available in your region.',
    ])
      for (const error of told(words)) {
        expect(error).toMatchObject({ code: 'provider_unauthorized', providerText: `FAILED_PRECONDITION: ${words}` })
        expect(error.message).toStartWith('google does not serve the place that this server calls from')
        expect(error.hint).toBe(
          'Let the server call from a place that the provider serves, or name another provider in provider_order, then resume the run.',
        )
      }
    const unpaid = [
      'Please enable billing on your project',
      'Gemini API free tier is not available in your country. Please enable billing on your project in Google AI Studio.',
      'User location is not supported for the API use without a billing account linked.',
    ]
    for (const words of unpaid)
      for (const { code, hint } of told(words)) {
        expect([words, code]).toEqual([words, 'insufficient_credit'])
        expect(hint).toStartWith('Top up the account')
      }
  })

  test('a refusal is told by its words, on the submit as in an operation; a wrong field is none', () => {
    const refused = [
      'The input image violates our usage guidelines.',
      "The prompt goes against Google's Generative AI Prohibited Use Policy",
      "Sensitive words that violate Google's Responsible AI practices",
      'Your request was blocked by a safety filter',
      'blocked for safety reasons',
    ]
    const wrong = [
      'Invalid aspect ratio',
      "Invalid value at 'safety_settings[0].category'",
      'Unknown name "safetySettings": Cannot find field.',
      'the safety settings are not supported by this model',
    ]
    const told = (message: string): ErrorCode[] => {
      const error = { code: 400, status: 'INVALID_ARGUMENT', message }
      const ended = readCheck(dialect, answer({ name: 'models/veo/operations/op1', done: true, error }), 10_000)
      const submits = [readPicture, readOperation].map(read => read(dialect, answer({ error }, 400)))
      return [ended, ...submits].map(each => {
        if (!('error' in each)) throw new Error(each.type)
        return each.error.code
      })
    }
    for (const words of refused) expect([words, ...told(words)]).toEqual([words, ...Array(3).fill('content_rejected')])
    for (const words of wrong) expect([words, ...told(words)]).toEqual([words, ...Array(3).fill('invalid_input')])
  })

  test('an operation ends with what it was refused for', () => {
    const name = 'models/veo/operations/op1'
    const read = (more: Record<string, Json>) => readCheck(dialect, answer({ name, done: true, ...more }), 10_000)
    expect(read({ error: { code: 8, message: 'quota' } })).toMatchObject({ error: { code: 'provider_rate_limited' } })
    expect(read({ error: { code: 3, message: 'bad duration' } })).toMatchObject({ error: { code: 'invalid_input' } })
    expect(read({ error: { code: 3, message: 'violates our usage guidelines' } })).toMatchObject({
      error: { code: 'content_rejected' },
    })
    const samples = [{ video: { uri: 'https://x.example/v.mp4' } }]
    // A film that is there is a film, whatever stands beside it.
    for (const error of [null, { code: 13, message: 'Internal error' }])
      expect(read({ error, response: { generatedSamples: samples } })).toMatchObject({ type: 'succeeded' })
    const empty = [null, { generatedSamples: [{ video: { uri: 'javascript:alert(1)' } }], raiMediaFilteredCount: 0 }]
    for (const response of empty)
      expect(read({ error: null, response })).toMatchObject({ type: 'failed', error: { code: 'output_invalid' } })
    const filtered: Json[] = [{ raiMediaFilteredCount: 1 }, { raiMediaFilteredReasons: [7, 'violence'] }]
    for (const told of filtered)
      expect(read({ response: { generateVideoResponse: told } })).toMatchObject({ error: { code: 'content_rejected' } })
    const unnamed: Json[] = [{ code: 99, message: 'new' }, { message: 'none' }, {}]
    for (const error of unnamed)
      expect(read({ error })).toMatchObject({ type: 'failed', error: { code: 'provider_error' } })
    const partly = { generatedSamples: samples, raiMediaFilteredCount: 1, raiMediaFilteredReasons: ['r'] }
    expect(read({ response: { generateVideoResponse: partly } })).toMatchObject({ type: 'succeeded' })
  })
})
