import { describe, expect, test } from 'bun:test'
import type { ErrorCode } from '../../src/core/errors.ts'
import type { Json } from '../../src/core/json.ts'
import { type Answer, errorOf } from '../../src/providers/protocol.ts'
import {
  createReplicate,
  readCancel,
  readCheck,
  readList,
  replicateDialect,
  submitAsk,
} from '../../src/providers/replicate.ts'
import { protocolContract } from '../contract/protocol.contract.ts'
import { inbound, openBench } from '../support/providers/bench.ts'
import { ReplicateStandIn } from '../support/providers/replicate.ts'
import { CUT, type Reply, type StandInOptions } from '../support/providers/stand-in.ts'

const order = {
  providerModel: 'black-forest-labs/flux-2-flex',
  role: 'text_to_image' as const,
  body: { prompt: 'a red boat', aspect_ratio: 'custom', width: 1_024, height: 768, steps: 50, output_format: 'jpg' },
}
const spec = { standIn: (options: StandInOptions) => new ReplicateStandIn(options), provider: createReplicate, order }
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
  find: 'token or absence',
  strange: (id: string) => ({ id, status: 'dreaming', output: 'https://replicate.delivery/x.png' }),
  webhooks: 'signed',
  links: true,
  upload: true,
  canVanish: true,
} as const

protocolContract('replicate pictures', spec, traits)
protocolContract(
  'replicate films',
  {
    ...spec,
    order: {
      providerModel: 'bytedance/seedance-1.5-pro',
      role: 'image_to_video',
      body: {
        prompt: 'the boat drifts',
        image: 'https://cdn.example.org/boat.png',
        duration: 5,
        generate_audio: false,
      },
    },
  },
  traits,
)

const dialect = replicateDialect('key-of-the-test')
const answer = (status: number, json: Json | undefined, headers: Answer['headers'] = {}): Answer => ({
  status,
  headers,
  json,
  at: Date.parse('2026-11-22T10:00:00Z'),
})

/** A submit whose answer was lost. */
const LOST = { token: 'tok', stepId: 's', providerModel: 'a/b', role: 'text_to_image' } as const

describe('replicate', () => {
  test('wraps the input; an official model stands in the path, a version in the body', () => {
    const own = { body: order.body, callbackUrl: 'https://us.example/h' }
    const official = submitAsk('https://api.replicate.com/v1', { ...own, providerModel: order.providerModel })
    expect(official.url).toBe('https://api.replicate.com/v1/models/black-forest-labs/flux-2-flex/predictions')
    expect(official.body?.value).toEqual({
      input: order.body,
      webhook: 'https://us.example/h',
      webhook_events_filter: ['completed'],
    })
    const pinned = submitAsk('https://api.replicate.com/v1', {
      body: {},
      callbackUrl: null,
      providerModel: 'me/mine:abc',
    })
    expect(pinned.url).toBe('https://api.replicate.com/v1/predictions')
    expect(pinned.body?.value).toEqual({ version: 'abc', input: {} })
  })

  test('reads a wish to wait in the header, in a field and in the words', () => {
    const wait = (json: Json, headers: Answer['headers'] = {}) =>
      errorOf(dialect, answer(429, json, headers)).retryAfterMs
    expect(wait({ detail: 'Request was throttled. Your rate limit resets in ~30s.' })).toBe(30_000)
    expect(wait({ detail: 'throttled', retry_after: 12 })).toBe(12_000)
    expect(wait({ detail: 'throttled', retry_after: 12 }, { 'retry-after': '5' })).toBe(5_000)
    expect(wait({ detail: 'throttled' }, { 'retry-after': 'Sun, 22 Nov 2026 10:01:00 GMT' })).toBe(60_000)
    for (const absurd of ['-1', 'abc', 'Thu, 01 Jan 1970 00:00:00 GMT', '']) {
      expect(wait({ detail: 'throttled' }, { 'retry-after': absurd })).toBeUndefined()
    }
    expect(wait({ detail: 'throttled' }, { 'retry-after': 'Fri, 31 Dec 9999 00:00:00 GMT' })).toBe(3_600_000)
  })

  test('takes a link, a list, or an object of links as the output', () => {
    const read = (output: Json) => readCheck(dialect, answer(200, { status: 'succeeded', output }), 2_000)
    const urls = (output: Json) => {
      const reading = read(output)
      return reading.type === 'succeeded' ? reading.media.map(media => media.url) : reading.type
    }
    expect(urls('https://replicate.delivery/a.mp4')).toEqual(['https://replicate.delivery/a.mp4'])
    expect(urls(['https://replicate.delivery/a.png', 'https://replicate.delivery/b.png'])).toHaveLength(2)
    expect(urls({ video: 'https://replicate.delivery/a.mp4', seed: 7 })).toHaveLength(1)
    expect(
      urls({ frames: ['https://replicate.delivery/a.png', null, 'https://replicate.delivery/b.png'] }),
    ).toHaveLength(2)
    expect(urls('just words')).toBe('failed')
  })

  test('an output that was removed is told as such and not painted again by itself', () => {
    const removed = readCheck(dialect, answer(200, { status: 'succeeded', output: null, data_removed: true }), 2_000)
    expect(removed).toMatchObject({ type: 'failed', error: { code: 'output_fetch_failed' } })
  })

  test('tells refusals from failures by the words', () => {
    const table: [string, ErrorCode][] = [
      ['The input or output was flagged as sensitive. (E005)', 'content_rejected'],
      ['NSFW content detected. Try running it again.', 'content_rejected'],
      ['Service is currently unavailable due to high demand. (E003)', 'provider_overloaded'],
      ['Prediction interrupted; please retry (code: PA)', 'provider_error'],
      ['', 'provider_error'],
    ]
    for (const [error, code] of table) {
      expect(readCheck(dialect, answer(200, { status: 'failed', error }), 2_000)).toMatchObject({ error: { code } })
    }
  })

  test('an aborted prediction never began: it is free, and another try is due', () => {
    expect(readCheck(dialect, answer(200, { status: 'aborted' }), 2_000)).toMatchObject({
      error: { code: 'provider_error' },
      costUsd: 0,
    })
  })

  test('a cancel that finds it before it begins is free, and one that finds it at work is not', () => {
    const table = { aborted: 'unbegun', canceled: 'confirmed', processing: 'confirmed', starting: 'confirmed' } as const
    for (const [status, outcome] of Object.entries(table)) expect(readCancel(answer(200, { status }))).toBe(outcome)
    for (const status of ['succeeded', 'failed', 'odd']) expect(readCancel(answer(200, { status }))).toBe('failed')
    expect(readCancel(answer(300, { status: 'aborted' }))).toBe('failed')
  })

  test('a page of the list that is not ours to read proves nothing, an older one ends the search', () => {
    const attempt = { ...LOST, startedAt: Date.parse('2026-11-22T10:00:00Z') }
    const one = (created_at: string, more: Record<string, Json> = {}) => ({
      id: 'p1',
      model: 'a/b',
      created_at,
      ...more,
    })
    const read = (results: Json[], next: string | null = null) =>
      readList(answer(200, { results, next }), attempt, () => false).type
    expect(read([one('2026-11-22T10:00:05Z')])).toBe('unknown')
    expect(read([one('2026-11-22T10:00:05Z', { webhook: 'https://us.example/tok' })])).toBe('found')
    expect(read([one('2026-11-22T10:00:05Z', { webhook: 'https://us.example/other' })])).toBe('none')
    expect(read([one('2026-11-22T10:00:05Z', { model: 'c/d' })])).toBe('none')
    expect(read([one('2026-11-22T09:00:00Z')], 'https://x.example')).toBe('none')
    expect(read([one('2026-11-22T10:00:05Z', { model: 'c/d' })], 'https://x.example')).toBe('older')
    expect(read([{ id: 'p1' }])).toBe('unknown')
    const old = one('2026-11-22T09:00:00Z', { id: 'p0' })
    expect(read([old, one('2026-11-22T10:00:05Z')])).toBe('unknown')
    const foreign = one('2026-11-22T10:00:05Z', { model: 'c/d' })
    expect(read([foreign, old], 'https://x.example')).toBe('none')
    expect(read([old, foreign], 'https://x.example')).toBe('older')
    // One without an id is nobody's that we know.
    expect(read([{ model: 'a/b', created_at: '2026-11-22T10:00:05Z' }])).toBe('unknown')
  })

  test('of a version that is pinned only its own predictions may be ours', () => {
    const attempt = { ...LOST, providerModel: 'a/b:v1', startedAt: Date.parse('2026-11-22T10:00:00Z') }
    const read = (more: Record<string, Json>) => {
      const results = [{ id: 'p1', model: 'a/b', created_at: '2026-11-22T10:00:05Z', ...more }]
      return readList(answer(200, { results, next: null }), attempt, () => false).type
    }
    expect([read({ version: 'v1' }), read({ version: 'v2' }), read({})]).toEqual(['unknown', 'none', 'unknown'])
  })

  test('the job is found by its mark, however old the page says that it and those before it are', () => {
    const attempt = { ...LOST, startedAt: Date.parse('2026-11-22T10:00:00Z') }
    const old = { model: 'a/b', created_at: '2026-11-22T09:00:00Z' }
    const mine = { ...old, id: 'p2', webhook: 'https://us.example/tok' }
    const others = [
      { ...old, id: 'p1' },
      { ...old, id: 'p3', webhook: 'https://us.example/other' },
    ]
    const read = (results: Json[]) => readList(answer(200, { results, next: null }), attempt, () => false)
    expect(read([others[0] ?? {}, mine])).toMatchObject({ type: 'found', jobRef: { id: 'p2' } })
    expect(read(others)).toEqual({ type: 'none' })
    // Ours, and its id cannot be read: it is there all the same.
    expect(read([{ ...mine, id: '../x' }])).toEqual({ type: 'unknown' })
  })

  test('a clock of ours that is ahead makes no job too old to be ours', () => {
    const attempt = { ...LOST, startedAt: Date.parse('2026-11-22T10:00:00Z') }
    // Created when our clock said 10:00:05.
    const job = { id: 'p1', model: 'a/b', created_at: '2026-11-22T09:58:05Z' }
    const read = (date?: string) =>
      readList(answer(200, { results: [job], next: null }, date ? { date } : {}), attempt, () => false).type
    expect(read()).toBe('none')
    expect(read('Sun, 22 Nov 2026 10:00:00 GMT')).toBe('none')
    expect(read('Sun, 22 Nov 2026 09:58:00 GMT')).toBe('unknown')
  })

  for (const webhooks of [true, false]) {
    test(`with a clock that is far ahead, a job that was taken is ${webhooks ? 'found' : 'not taken for none'}`, async () => {
      const bench = await openBench({
        ...spec,
        standIn: options => new ReplicateStandIn({ ...options, now: () => (options.now?.() ?? 0) - 3_600_000 }),
      })
      const job = bench.job()
      const callbackUrl = webhooks ? `https://us.example/api/v1/inbound/replicate/${job.token}` : null
      bench.standIn.script({ type: 'swallow' })
      await bench.provider.start({ ...job, callbackUrl }, bench.signal)
      const attempt = { ...job, startedAt: bench.clock.now() }
      expect((await bench.another().find?.(attempt, bench.signal))?.type).toBe(webhooks ? 'found' : 'unknown')
      await bench.stop()
    })
  }

  test('searches page after page, and never off the configured origin', async () => {
    const bench = await openBench(spec)
    const hook = (token: string) => `https://us.example/api/v1/inbound/replicate/${token}`
    const lost = bench.job()
    bench.standIn.script({ type: 'swallow' })
    await bench.provider.start({ ...lost, callbackUrl: hook(lost.token) }, bench.signal)
    for (let i = 0; i < 120; i++) {
      const job = bench.job()
      await bench.provider.start({ ...job, callbackUrl: hook(job.token) }, bench.signal)
    }
    const attempt = { ...lost, startedAt: bench.clock.now() }
    expect((await bench.another().find?.(attempt, bench.signal))?.type).toBe('found')
    const page = { results: [], next: `${bench.trap.url}/v1/predictions?cursor=100` }
    bench.standIn.disturb({ status: 200, json: page })
    expect((await bench.another().find?.(attempt, bench.signal))?.type).toBe('unknown')
    expect(bench.trap.caught).toEqual([])
    // Five pages hold all that is younger than the submit, or nobody can tell.
    const before = bench.standIn.calls.length
    bench.standIn.refuses = () => ({ status: 200, json: { results: [], next: `${bench.standIn.url}/predictions?x` } })
    expect(await bench.another().find?.(attempt, bench.signal)).toEqual({ type: 'unknown' })
    expect(bench.standIn.calls).toHaveLength(before + 5)
    await bench.stop()
  })

  test('asks for the webhook secret once, and again when a signature does not fit, at most once a minute', async () => {
    const bench = await openBench(spec)
    const fetches = () => bench.standIn.calls.filter(call => call.path.endsWith('/secret')).length
    await bench.provider.start(bench.job({ callbackUrl: 'https://us.example/h' }), bench.signal)
    bench.clock.advance(10_000)
    const hint = async () => {
      const [job] = bench.standIn.submits()
      const hook = job && bench.standIn.hookOf(job)
      if (!hook) throw new Error('no webhook')
      return (await bench.provider.webhook?.(inbound(hook, bench.clock.now())))?.type
    }
    expect(await Promise.all([hint(), hint()])).toEqual(['hint', 'hint'])
    expect(fetches()).toBe(1)
    bench.standIn.rotate()
    expect(await hint()).toBe('refused')
    bench.clock.advance(60_000)
    expect(await hint()).toBe('hint')
    expect(fetches()).toBe(2)
    await bench.stop()
  })

  test('without the webhook secret no webhook is believed, and none breaks', async () => {
    const bench = await openBench(spec)
    await bench.provider.start(bench.job({ callbackUrl: 'https://us.example/h' }), bench.signal)
    bench.clock.advance(10_000)
    const [job] = bench.standIn.submits()
    const hook = job && bench.standIn.hookOf(job)
    if (!job || !hook) throw new Error('no webhook')
    const replies: readonly Reply[] = [{ status: 500, json: {} }, { status: 200, json: { key: 'whsec_x' } }, CUT]
    for (const reply of replies) {
      bench.standIn.refuses = call => (call.path.endsWith('/secret') ? reply : null)
      bench.clock.advance(60_000)
      expect((await bench.provider.webhook?.(inbound(hook, bench.clock.now())))?.type).toBe('refused')
    }
    await bench.stop()
  })
})
