import { describe, expect, test } from 'bun:test'
import { generateKeyPairSync } from 'node:crypto'
import type { ErrorCode } from '../../src/core/errors.ts'
import type { Json, JsonObject } from '../../src/core/json.ts'
import {
  appOf,
  createFal,
  falDialect,
  falOrigins,
  hostsOf,
  readResult,
  readUpload,
  submitAsk,
  urlsOf,
} from '../../src/providers/fal.ts'
import { type Answer, errorOf } from '../../src/providers/protocol.ts'
import { protocolContract } from '../contract/protocol.contract.ts'
import { inbound, openBench } from '../support/providers/bench.ts'
import { FalStandIn } from '../support/providers/fal.ts'
import { CUT, type Hook, type Reply, type StandInOptions } from '../support/providers/stand-in.ts'

const order = {
  providerModel: 'fal-ai/flux-2-flex/edit',
  role: 'image_to_image' as const,
  body: {
    prompt: 'make it night',
    image_urls: ['https://cdn.example.org/boat.png'],
    image_size: { width: 1_024, height: 768 },
    guidance_scale: 5,
    safety_tolerance: '2',
    output_format: 'png',
  },
}
const spec = {
  standIn: (options: StandInOptions) => new FalStandIn(options),
  provider: createFal,
  origins: falOrigins,
  order,
}
const film = {
  ...spec,
  order: {
    providerModel: 'fal-ai/bytedance/seedance/v1.5/pro/image-to-video',
    role: 'image_to_video' as const,
    body: {
      prompt: 'the boat drifts',
      image_url: 'https://cdn.example.org/boat.png',
      duration: '5',
      generate_audio: false,
    },
  },
}
const traits = {
  kind: 'job',
  failures: {
    input: 'content_rejected',
    output: 'content_rejected',
    error: 'provider_error',
    canceled: 'canceled',
    empty: 'output_invalid',
  },
  cancel: { queued: 'confirmed', running: 'failed', ended: 'failed' },
  find: 'none',
  strange: (id: string) => ({ status: 'IN_A_DREAM', request_id: id }),
  webhooks: 'signed',
  links: true,
  upload: true,
  canVanish: true,
} as const

protocolContract('fal pictures', spec, traits)
protocolContract('fal films', film, traits)

const dialect = falDialect('key-of-the-test')
const answer = (status: number, json: Json | undefined, headers: Answer['headers'] = {}): Answer => ({
  status,
  headers,
  json,
  at: 0,
})

describe('fal', () => {
  test('drops what follows owner and app, but keeps the namespace of a workflow', () => {
    expect(appOf('fal-ai/flux-2-flex/edit')).toBe('fal-ai/flux-2-flex')
    expect(appOf('fal-ai/flux-2-flex')).toBe('fal-ai/flux-2-flex')
    expect(appOf('workflows/me/mine/x')).toBe('workflows/me/mine')
    expect(appOf('comfy/me/mine/x')).toBe('comfy/me/mine')
  })

  test('takes the returned addresses word for word on its own origin, and builds them otherwise', () => {
    const job = { id: 'r1', app: 'fal-ai/flux-2-flex', status: null, result: null, cancel: null }
    const built = 'https://queue.fal.run/fal-ai/flux-2-flex/requests/r1'
    const own = { ...job, status: 'https://queue.fal.run/elsewhere/status', result: 'https://evil.example/r1' }
    expect(urlsOf('https://queue.fal.run', own)).toEqual({
      status: 'https://queue.fal.run/elsewhere/status',
      result: built,
      cancel: `${built}/cancel`,
    })
  })

  test('a job whose addresses lie on another origin is asked for at the configured one', async () => {
    const bench = await openBench({
      ...spec,
      standIn: options => {
        const standIn = new FalStandIn(options)
        standIn.queueOrigin = 'https://queue.fal.run'
        return standIn
      },
    })
    const started = await bench.provider.start(bench.job(), bench.signal)
    if (started.type !== 'accepted') throw new Error(started.type)
    bench.clock.advance(10_000)
    expect((await bench.provider.check(started.jobRef, bench.signal)).type).toBe('succeeded')
    await bench.stop()
  })

  test('a job is asked for only where its app could be one, and however long the app is that is soon seen', async () => {
    const bench = await openBench(spec)
    const checked = async (app: string) => (await bench.provider.check({ id: 'r1', app }, bench.signal)).type
    for (const app of ['me', '../me', '../..', 'me/..', 'a/b/c', 'a/b?c', `${'a'.repeat(8_000)}/${'b'.repeat(8_000)}?`])
      expect([app.slice(0, 9), await checked(app)]).toEqual([app.slice(0, 9), 'failed'])
    for (const app of ['.a-/-b.', 'workflows/me/mine', 'comfy/me/m.1'])
      expect([app, await checked(app)]).toEqual([app, 'unreachable'])
    await bench.stop()
  })

  test('puts the webhook into the query, with the endpoint that the webhook will not name', () => {
    const ask = submitAsk('https://queue.fal.run', {
      ...order,
      callbackUrl: 'https://us.example/api/v1/inbound/fal/tok',
    })
    const hook = new URL(ask.url).searchParams.get('fal_webhook')
    expect(hook).toBe('https://us.example/api/v1/inbound/fal/tok?app=fal-ai%2Fflux-2-flex')
    expect(ask.body?.value).toEqual(order.body)
  })

  test("uses fal's own hosts with the usual queue, and one host for all with another", () => {
    expect(hostsOf('https://queue.fal.run')).toEqual({
      rest: 'https://rest.fal.ai',
      keys: 'https://rest.alpha.fal.ai/.well-known/jwks.json',
    })
    expect(hostsOf('http://127.0.0.1:9/x').rest).toBe('http://127.0.0.1:9')
  })

  test('uploads nowhere but to fal', () => {
    const at = (upload_url: string) =>
      readUpload(answer(200, { upload_url, file_url: 'https://v3.fal.media/files/x' }), 'https://rest.fal.ai')
    expect(at('https://v3b.fal.media/put/x')).not.toBeNull()
    for (const stranger of [
      'https://fal.media.evil.example/x',
      'http://v3.fal.media/x',
      'https://169.254.169.254/x',
      'x',
    ]) {
      expect(at(stranger)).toBeNull()
    }
  })

  test('tells every documented error', () => {
    const typed = (type: string): Json => ({ detail: [{ loc: ['body'], msg: 'm', type }] })
    const runner = (error_type: string): Json => ({ detail: 'd', error_type })
    const table: [number, Json, ErrorCode][] = [
      [422, typed('content_policy_violation'), 'content_rejected'],
      [422, typed('no_media_generated'), 'provider_error'],
      [422, typed('image_too_large'), 'invalid_input'],
      [422, typed('image_load_error'), 'invalid_input'],
      [422, typed('file_download_error'), 'input_fetch_failed'],
      [422, typed('value_error.missing'), 'invalid_input'],
      [500, typed('internal_server_error'), 'provider_error'],
      [504, typed('generation_timeout'), 'provider_error'],
      [500, typed('downstream_service_unavailable'), 'provider_overloaded'],
      [503, runner('runner_scheduling_failure'), 'provider_overloaded'],
      [504, runner('startup_timeout'), 'provider_overloaded'],
      [401, { detail: 'no' }, 'provider_unauthorized'],
      [403, { detail: 'User is locked. Reason: Exhausted balance. Top up' }, 'insufficient_credit'],
      [403, { detail: 'forbidden' }, 'provider_unauthorized'],
      [404, { detail: 'no' }, 'model_not_enabled'],
      [429, { detail: 'no' }, 'provider_rate_limited'],
    ]
    for (const [status, json, code] of table)
      expect([json, errorOf(dialect, answer(status, json)).code]).toEqual([json, code])
  })

  test('looks at every detail of an error: a refusal anywhere wins', () => {
    const details = (...types: string[]): Json => ({
      detail: types.map(type => ({ loc: ['body', 'image_size'], msg: 'the job was canceled', type })),
    })
    const table: [Json, ErrorCode][] = [
      [details('value_error', 'content_policy_violation'), 'content_rejected'],
      [details('file_download_error', 'content_policy_violation'), 'content_rejected'],
      [details('value_error', 'file_download_error'), 'input_fetch_failed'],
      [details('value_error', 'missing'), 'invalid_input'],
    ]
    for (const [json, code] of table) expect(errorOf(dialect, answer(422, json)).code).toBe(code)
    for (const status of [403, 422, 429]) {
      const read = readResult(dialect, answer(status, details('value_error', 'content_policy_violation')), 1_000)
      expect(read).toMatchObject({ type: 'failed', error: { code: 'content_rejected' } })
    }
  })

  test('what the model says will fail again is not sent there again, whatever its status; another route may do', () => {
    const typed = (type: string): Json => ({ detail: [{ loc: ['body'], msg: 'm', type }] })
    const read = (status: number, json: Json, headers: Answer['headers']) => {
      const reading = readResult(dialect, answer(status, json, headers), 1_000)
      return reading.type === 'failed' ? reading.error : reading.type
    }
    const no = { 'x-fal-retryable': 'false' }
    const vain = { code: 'invalid_input', retryable: false, providerText: expect.any(String) }
    for (const headers of [
      no,
      { 'x-fal-needs-retry': 'false' },
      { 'x-fal-needs-retry': '0' },
      { 'x-fal-retryable': 'False' },
    ]) {
      expect(read(500, typed('internal_server_error'), headers)).toMatchObject(vain)
    }
    expect(read(500, typed('internal_server_error'), no)).toMatchObject({
      message: 'fal failed, and says that the same request would fail again (HTTP 500)',
      hint: expect.stringContaining('provider_order'),
    })
    for (const type of ['generation_timeout', 'downstream_service_error', 'no_media_generated'])
      expect(read(504, typed(type), no)).toMatchObject(vain)
    // It is the model's own word: no gateway says so.
    expect(read(500, { detail: 'Internal Server Error' }, no)).toMatchObject(vain)
    // What is told by its type or status stays that.
    expect(read(422, typed('content_policy_violation'), no)).toMatchObject({ code: 'content_rejected' })
    expect(read(422, typed('file_download_error'), no)).toMatchObject({ code: 'input_fetch_failed' })
    expect(read(429, { detail: 'slow' }, no)).toBe('unreachable')
    const others: Answer['headers'][] = [
      {},
      { 'x-fal-retryable': 'true' },
      { 'x-fal-retryable': 'true', 'x-fal-needs-retry': '0' },
    ]
    for (const headers of others)
      expect(read(500, typed('internal_server_error'), headers)).toMatchObject({ code: 'provider_error' })
  })

  test('an empty result is worth one more job, and the second ends the step', async () => {
    const bench = await openBench(spec)
    const empty: Reply = { status: 422, json: { detail: [{ loc: ['body'], msg: 'm', type: 'no_media_generated' }] } }
    const tried = async (jobsBefore: number) => {
      const started = await bench.provider.start(bench.job({ jobsBefore }), bench.signal)
      if (started.type !== 'accepted') throw new Error(started.type)
      bench.clock.advance(10_000)
      bench.standIn.disturb({ status: 200, json: { status: 'COMPLETED' } }, empty)
      return bench.provider.check(started.jobRef, bench.signal)
    }
    expect(await tried(0)).toMatchObject({ type: 'failed', error: { code: 'provider_error', retryable: true } })
    expect(await tried(1)).toMatchObject({ type: 'failed', error: { code: 'output_invalid', retryable: false } })
    await bench.stop()
  })

  test('a result that cannot be fetched now is not a failed job', () => {
    for (const [status, json] of [
      [403, { detail: 'User is locked. Reason: Exhausted balance.' }],
      [401, { detail: 'no' }],
      [429, { detail: 'slow' }],
      [502, undefined],
      [503, undefined],
    ] as [number, Json | undefined][]) {
      expect(readResult(dialect, answer(status, json), 1_000).type).toBe('unreachable')
    }
    expect(readResult(dialect, answer(400, { detail: 'Request is still in progress' }), 1_000).type).toBe('pending')
    // A server error without a type may be the gateway's: believed only when it stays.
    expect(readResult(dialect, answer(500, { detail: 'Internal Server Error' }), 1_000)).toMatchObject({
      type: 'lost',
      error: { code: 'provider_error' },
    })
  })

  test('leaves blackened pictures out and keeps the others', () => {
    const images = [{ url: 'https://v3.fal.media/a.png' }, { url: 'https://v3.fal.media/b.png' }]
    expect(readResult(dialect, answer(200, { images, has_nsfw_concepts: [true, false] }), 1_000)).toMatchObject({
      type: 'succeeded',
      media: [{ url: 'https://v3.fal.media/b.png' }],
    })
  })

  test('fetches the key set once for many webhooks, again for an unknown key, and at most once a minute', async () => {
    const bench = await openBench(spec)
    const fetches = () => bench.standIn.calls.filter(call => call.path.endsWith('jwks.json')).length
    await bench.provider.start(bench.job({ callbackUrl: 'https://us.example/h' }), bench.signal)
    bench.clock.advance(10_000)
    const [job] = bench.standIn.submits()
    const hint = async (change = (hook: Hook): Hook => hook) => {
      const hook = job && bench.standIn.hookOf(job)
      if (!hook) throw new Error('no webhook')
      return (await bench.provider.webhook?.(inbound(change(hook), bench.clock.now())))?.type
    }
    expect(await Promise.all([hint(), hint(), hint()])).toEqual(['hint', 'hint', 'hint'])
    for (let i = 0; i < 3; i++) expect(await hint()).toBe('hint')
    expect(fetches()).toBe(1)
    bench.standIn.rotate()
    expect(await hint()).toBe('refused')
    expect(fetches()).toBe(1)
    bench.clock.advance(60_000)
    expect(await hint()).toBe('hint')
    expect(fetches()).toBe(2)
    bench.clock.advance(24 * 3_600_000)
    expect(await hint()).toBe('hint')
    expect(fetches()).toBe(3)
    // A key set that cannot be had, or holds no key, takes none away before its day is over.
    const { refuses } = bench.standIn
    const odd = { keys: [{ kid: 'a' }, { x: 'not a key' }, { x: 7 }, null] }
    const strange = { keys: [generateKeyPairSync('ed25519').publicKey.export({ format: 'jwk' }) as JsonObject] }
    for (const [status, json] of [
      [200, {}],
      [200, odd],
      [404, strange],
      [0, {}],
    ] as [number, JsonObject][]) {
      const reply = { status, json }
      bench.standIn.refuses = call => (call.path.endsWith('jwks.json') ? reply : null)
      bench.clock.advance(60_000)
      expect(await hint(hook => ({ ...hook, body: `${hook.body} ` }))).toBe('refused')
      expect(await hint()).toBe('hint')
    }
    bench.clock.advance(24 * 3_600_000)
    expect(await hint()).toBe('refused')
    bench.standIn.refuses = refuses
    bench.clock.advance(60_000)
    expect(await hint()).toBe('hint')
    await bench.stop()
  })

  test('a webhook is as old as it says, to the second, and names a job only with its endpoint', async () => {
    const bench = await openBench(spec)
    await bench.provider.start(bench.job({ callbackUrl: 'https://us.example/h' }), bench.signal)
    bench.clock.advance(10_000)
    const [job] = bench.standIn.submits()
    const hook = job && bench.standIn.hookOf(job)
    if (!hook) throw new Error('no webhook')
    const at = (ms: number) => bench.provider.webhook?.(inbound(hook, bench.clock.now() + ms))
    const types = await Promise.all([-300_000, 300_000, -300_001, 300_001].map(async ms => (await at(ms))?.type))
    expect(types).toEqual(['hint', 'hint', 'refused', 'refused'])
    const request = inbound(hook, bench.clock.now())
    for (const timestamp of ['', 'soon', '1e9', '-1'])
      expect(
        await bench.provider.webhook?.({
          ...request,
          headers: { ...request.headers, 'x-fal-webhook-timestamp': timestamp },
        }),
      ).toMatchObject({ type: 'refused', reason: expect.stringContaining('malformed') })
    expect(await bench.provider.webhook?.(request)).toMatchObject({ type: 'hint', jobRef: { id: job?.id } })
    expect(await bench.provider.webhook?.({ ...request, query: {} })).toEqual({ type: 'hint', jobRef: null })
    await bench.stop()
  })

  test('a finished job whose result cannot be asked for now is no failed job', async () => {
    const bench = await openBench(spec)
    const started = await bench.provider.start(bench.job(), bench.signal)
    if (started.type !== 'accepted') throw new Error(started.type)
    bench.clock.advance(10_000)
    bench.standIn.refuses = call => (call.path.endsWith('/status') ? null : CUT)
    const checked = await bench.provider.check(started.jobRef, bench.signal)
    expect(checked).toMatchObject({ type: 'unreachable', error: { code: 'network_error' } })
    await bench.stop()
  })
})
