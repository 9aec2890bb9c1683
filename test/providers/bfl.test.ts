import { describe, expect, test } from 'bun:test'
import type { JsonObject } from '../../src/core/json.ts'
import {
  bflDialect,
  createBfl,
  pollUrl,
  readCheck,
  readWebhook,
  submitAsk,
  webhookSecretOf,
} from '../../src/providers/bfl.ts'
import type { Answer } from '../../src/providers/protocol.ts'
import { protocolContract } from '../contract/protocol.contract.ts'
import { openBench } from '../support/providers/bench.ts'
import { BflStandIn, type BflStandInOptions } from '../support/providers/bfl.ts'

const order = {
  providerModel: 'flux-2-flex',
  role: 'text_to_image' as const,
  body: { prompt: 'a red boat', width: 1_024, height: 1_024, steps: 50, guidance: 5, safety_tolerance: 2 },
}
const spec = (own: BflStandInOptions = {}) => ({
  standIn: (options: BflStandInOptions) => new BflStandIn({ ...options, ...own }),
  provider: createBfl,
  order,
})

const traits = {
  kind: 'job',
  failures: { input: 'content_rejected', output: 'content_rejected', error: 'provider_error', empty: 'output_invalid' },
  refusals: { input: null },
  cancel: { queued: 'unsupported', running: 'unsupported', ended: 'unsupported' },
  find: 'none',
  strange: (id: string) => ({ id, status: 'Daydreaming', result: { sample: 'https://x.example/y.png' } }),
  webhooks: 'signed',
  links: true,
  upload: false,
  canVanish: true,
} as const

protocolContract('bfl', spec(), traits)
protocolContract('bfl with an echoed secret', spec({ proof: 'echo' }), { ...traits, webhooks: 'echoed' })

const answer = (json: Answer['json'], status = 200): Answer => ({ status, headers: {}, json, at: 0 })
const dialect = bflDialect('key-of-the-test')

describe('bfl', () => {
  test('polls the named address only where the key may go', () => {
    const at = (poll: string, base = 'https://api.bfl.ai') => new URL(pollUrl(base, { id: 'x', poll })).host
    expect(at('https://api.us1.bfl.ai/v1/get_result?id=x')).toBe('api.us1.bfl.ai')
    for (const stranger of [
      'http://api.us1.bfl.ai/v1/get_result?id=x',
      'https://evilbfl.ai/v1/get_result?id=x',
      'https://bfl.ai.example/v1/get_result?id=x',
      'https://api.us1.bfl.ai:8443/x',
      'https://user@api.us1.bfl.ai/x',
      'not a url',
    ]) {
      expect(at(stranger)).toBe('api.bfl.ai')
    }
    expect(at('http://127.0.0.1:4000/v1/get_result?id=x', 'http://127.0.0.1:4000')).toBe('127.0.0.1:4000')
  })

  test('a polling address on a strange origin never sees the key, and the job is found all the same', async () => {
    const trapped = await openBench(spec())
    const bench = await openBench(spec({ pollingOrigin: trapped.trap.url }))
    const started = await bench.provider.start(bench.job(), bench.signal)
    if (started.type !== 'accepted') throw new Error(started.type)
    bench.clock.advance(10_000)
    expect((await bench.provider.check(started.jobRef, bench.signal)).type).toBe('succeeded')
    expect(trapped.trap.caught).toEqual([])
    await Promise.all([bench.stop(), trapped.stop()])
  })

  test('names the webhook and its secret only when there is a public address', () => {
    const secret = webhookSecretOf('k')
    expect(submitAsk('https://api.bfl.ai', { ...order, callbackUrl: null }, secret).body).toEqual({
      type: 'json',
      value: order.body,
    })
    expect(
      submitAsk('https://api.bfl.ai', { ...order, callbackUrl: 'https://us.example/h' }, secret).body?.value,
    ).toEqual({
      ...order.body,
      webhook_url: 'https://us.example/h',
      webhook_secret: secret,
    })
  })

  test('reads the cost in credits of a cent, and knows no cost when there is none', () => {
    const ready = (cost: number | null) =>
      readCheck(dialect, answer({ status: 'Ready', result: { sample: 'https://x.bfl.ai/a.png' }, cost }), 500)
    expect(ready(5)).toMatchObject({ type: 'succeeded', costUsd: 0.05 })
    expect(ready(0)).toMatchObject({ costUsd: 0 })
    for (const none of [null, -5]) expect(ready(none)).not.toHaveProperty('costUsd')
  })

  test('says whether the input or the output was refused, in their words, whatever form the details have', () => {
    for (const details of [{ 'Moderation Reasons': ['Derivative Works Filter'] }, 'Derivative Works Filter']) {
      const read = (status: string) => readCheck(dialect, answer({ status, details }), 500)
      expect(read('Request Moderated')).toMatchObject({ error: { message: 'bfl refused the input' } })
      expect(read('Content Moderated')).toMatchObject({
        error: { message: 'bfl refused the output', providerText: expect.stringContaining('Derivative Works Filter') },
      })
    }
  })

  test('a job with a webhook and no polling address is never lost: the configured base may be another cluster', async () => {
    const bench = await openBench(spec())
    const started = await bench.provider.start(bench.job({ callbackUrl: 'https://us.example/h' }), bench.signal)
    if (started.type !== 'accepted') throw new Error(started.type)
    const check = () => bench.provider.check(started.jobRef, bench.signal)
    bench.standIn.strangeForMs = 900_000
    // Both ways of saying it, over and over.
    for (let i = 0; i < 20; i++) {
      expect((await check()).type).toBe('pending')
      bench.clock.advance(40_000)
    }
    bench.clock.advance(100_000)
    expect((await check()).type).toBe('succeeded')
    await bench.stop()
  })

  test('a job whose submit named a polling address is asked for at its own cluster, where not found means lost', async () => {
    const bench = await openBench(spec())
    const started = await bench.provider.start(bench.job(), bench.signal)
    if (started.type !== 'accepted') throw new Error(started.type)
    const check = async () => (await bench.provider.check(started.jobRef, bench.signal)).type
    bench.standIn.strangeForMs = 900_000
    expect([await check(), await check()]).toEqual(['unreachable', 'unreachable'])
    bench.clock.advance(60_000)
    expect(await check()).toBe('failed')
    // The webhook that it has as well changes nothing in that.
    expect(await bench.provider.check({ ...(started.jobRef as JsonObject), hooked: true }, bench.signal)).toMatchObject(
      {
        error: { code: 'provider_lost' },
      },
    )
    await bench.stop()
  })

  test('a proof of any length is compared, and a webhook that names no job is a hint all the same', () => {
    const secret = webhookSecretOf('k')
    const read = (headers: Record<string, string>, body = '{}') =>
      readWebhook({ headers, body: Buffer.from(body), at: 7 }, secret)
    for (const proof of ['', 'sha256=', 'sha256=00', `${secret}0`, secret.slice(1), 'é'.repeat(64)])
      for (const header of ['x-bfl-signature', 'x-webhook-secret'])
        expect(read({ [header]: proof }).type).toBe('refused')
    const proven = { 'x-webhook-secret': secret }
    for (const body of ['{}', 'x', '{"id":"../x"}', '{"id":7}'])
      expect(read(proven, body)).toEqual({ type: 'hint', jobRef: null })
    expect(read(proven, '{"id":"j1"}')).toEqual({ type: 'hint', jobRef: { id: 'j1', poll: null, at: 7, hooked: true } })
  })

  test('polls rarely while webhooks work, and as usual when they have stopped', async () => {
    const bench = await openBench(spec())
    const callbackUrl = 'https://us.example/h'
    const started = await bench.provider.start(bench.job({ callbackUrl }), bench.signal)
    if (started.type !== 'accepted') throw new Error(started.type)
    const pause = async () => {
      const checked = await bench.provider.check(started.jobRef, bench.signal)
      return checked.type === 'pending' ? checked.pollAfterMs : null
    }
    expect(await pause()).toBe(500)
    const [job] = bench.standIn.submits()
    const hook = job && bench.standIn.hookOf(job)
    await bench.provider.webhook?.({
      headers: hook?.headers ?? {},
      body: Buffer.from(hook?.body ?? ''),
      at: bench.clock.now(),
    })
    expect(await pause()).toBe(2_000)
    bench.standIn.always({ type: 'forever' })
    const later = await bench.provider.start(bench.job({ callbackUrl }), bench.signal)
    bench.clock.advance(601_000)
    if (later.type !== 'accepted') throw new Error(later.type)
    expect(await bench.provider.check(later.jobRef, bench.signal)).toMatchObject({ pollAfterMs: 5_000 })
    await bench.stop()
  })
})
