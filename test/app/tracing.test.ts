/** Traces as a collector gets them, over real HTTP: what is in them, what never is, and that nobody waits for them. */
import { afterEach, describe, expect, test } from 'bun:test'
import { AttemptBook } from '../../src/app/tracing/attempts.ts'
import { openSpans } from '../../src/app/tracing/otlp.ts'
import { type Span, tracingTo } from '../../src/app/tracing.ts'
import type { Provider } from '../../src/core/ports.ts'
import { RunningApp } from '../support/app.ts'
import { smallRun } from '../support/chaos.ts'
import { Collector, type SeenSpan } from '../support/collector.ts'
import { Hosts } from '../support/hosts.ts'
import { takeLeaks } from '../support/secrets.ts'
import { API_KEY, CALLBACK_SECRET, Receiver, until } from '../support/server.ts'
import { attempt, queuedRun, runAt } from '../support/store-runs.ts'

const PROGRAM = new URL('../support/loaded-modules.ts', import.meta.url)
const closing: (() => Promise<void>)[] = []
afterEach(async () => {
  for (const close of closing.splice(0).reverse()) await close()
})
function collector(): Collector {
  const made = new Collector()
  closing.push(() => made.stop())
  return made
}
function receiver(): Receiver {
  const made = new Receiver()
  closing.push(() => made.stop())
  return made
}
async function sandbox(env: Record<string, string>): Promise<RunningApp> {
  const app = await new RunningApp({ BABYCHAIN_SANDBOX_LATENCY_MS: '0', ...env }).start()
  closing.push(() => app.close())
  return app
}
const at = (spans: readonly SeenSpan[], name: string): SeenSpan[] => spans.filter(span => span.name === name)
const named = (spans: readonly SeenSpan[]): string[] => [...new Set(spans.map(span => span.name))].sort()

/** Every attribute there is: whoever adds one looks here, and thinks of what it may hold. */
const ATTRIBUTES = [
  ...['babychain.run.id', 'babychain.run.status', 'babychain.chain', 'babychain.step.id', 'babychain.step.key'],
  ...['babychain.model', 'babychain.attempt', 'babychain.outcome', 'babychain.delivery.id'],
  ...['babychain.delivery.trigger', 'gen_ai.provider.name', 'gen_ai.request.model', 'error.type'],
  ...['http.request.method', 'http.request.resend_count', 'http.response.status_code', 'server.address', 'server.port'],
]

describe('a run in the sandbox, with a collector', () => {
  test('is one trace: itself, its provider calls and its callback', async () => {
    const [to, hook] = [collector(), receiver()]
    const app = await sandbox({
      BABYCHAIN_EGRESS_ALLOW: hook.host,
      OTEL_EXPORTER_OTLP_ENDPOINT: to.url,
      OTEL_EXPORTER_OTLP_HEADERS: 'x-collector-key=of%20the%3Dcollector, x-team=pictures',
      OTEL_SERVICE_NAME: 'pictures',
    })
    const order = smallRun(1, `${hook.url}/path-of-mine?token=token-of-mine`, '#503=1')
    const { id } = await app.post<{ id: string }>('/api/v1/chains/chain101/runs', order, { prefer: 'wait=30' })
    await until('the callback has come', async () => hook.callbacks.length === 1)
    await app.stop()

    const spans = to.of(id)
    expect(spans).toHaveLength(to.spans.length)
    expect(named(spans)).toEqual(['callback.deliver', 'provider.check', 'provider.submit', 'run'])
    const [root] = at(spans, 'run')
    expect(root).toMatchObject({
      ...{ parentSpanId: null, spanId: id.replaceAll('-', '').slice(16), kind: 1, status: 0 },
      attributes: { 'babychain.run.id': id, 'babychain.chain': 'chain101', 'babychain.run.status': 'succeeded' },
      service: { 'service.name': 'pictures', 'telemetry.sdk.language': 'nodejs' },
    })
    for (const span of spans.filter(each => each !== root)) {
      expect([span.name, span.parentSpanId, span.kind]).toEqual([span.name, root?.spanId ?? '', 3])
      expect(span.attributes['babychain.run.id']).toBe(id)
    }
    for (const span of spans) {
      expect(span.startMs).toBeGreaterThanOrEqual((root?.startMs ?? 0) - 5)
      expect(span.endMs).toBeGreaterThanOrEqual(span.startMs)
    }
    expect(new Set(spans.map(span => span.spanId)).size).toBe(spans.length)

    const submits = at(spans, 'provider.submit').map(({ attributes, status }) => ({ ...attributes, status }))
    const first = {
      ...{ 'gen_ai.provider.name': 'sandbox', 'gen_ai.request.model': 'bfl/flux-2-flex' },
      ...{ 'babychain.model': 'bfl/flux-2-flex', 'babychain.step.key': 'text_to_image' },
    }
    expect(submits).toMatchObject([
      {
        ...first,
        'babychain.attempt': 1,
        'babychain.outcome': 'refused',
        'error.type': 'provider_overloaded',
        status: 2,
      },
      { ...first, 'babychain.attempt': 2, 'babychain.outcome': 'accepted', status: 0 },
      { 'babychain.step.key': 'image_to_video', 'babychain.attempt': 1, 'babychain.outcome': 'accepted', status: 0 },
    ])
    expect(at(spans, 'provider.check').at(-1)?.attributes).toMatchObject({
      ...{ 'babychain.outcome': 'succeeded', 'babychain.step.key': 'image_to_video' },
    })
    const port = Number(hook.host.split(':')[1])
    expect(at(spans, 'callback.deliver').map(span => span.attributes)).toEqual([
      {
        ...{ 'babychain.run.id': id, 'babychain.delivery.id': hook.callbacks[0]?.id ?? '', 'babychain.attempt': 1 },
        ...{ 'babychain.delivery.trigger': 'schedule', 'babychain.outcome': 'answered' },
        ...{ 'http.request.method': 'POST', 'http.request.resend_count': 0, 'http.response.status_code': 200 },
        ...{ 'server.address': '127.0.0.1', 'server.port': port },
      },
    ])

    expect(to.said).toContain('"POST","http://127.0.0.1')
    expect(to.said).toContain('/v1/traces"')
    expect(to.said).toContain('["x-collector-key","of the=collector"]')
    expect(to.said).toContain('["x-team","pictures"]')
    const bodies = to.said.split('\n').filter(line => line.startsWith('{'))
    const secrets = [API_KEY, CALLBACK_SECRET, 'whsec', 'v1,', 'collector', '-of-mine', '/hook']
    const words = ['a small boat', 'it drifts', '#503', 'media', 'prompt', '/api/']
    for (const word of [...secrets, ...words]) expect([word, bodies.join().includes(word)]).toEqual([word, false])
    expect(spans.flatMap(span => Object.keys(span.attributes)).filter(name => !ATTRIBUTES.includes(name))).toEqual([])
    expect(app.log).not.toContain('of the=collector')
    expect(app.log).not.toContain('of%20the')
    expect(takeLeaks()).toEqual([])
  }, 60_000)

  test('goes on in the same trace after a restart: the job is known again, and so is the callback', async () => {
    const [to, hook] = [collector(), receiver()]
    const env = { BABYCHAIN_EGRESS_ALLOW: hook.host, OTEL_EXPORTER_OTLP_TRACES_ENDPOINT: `${to.url}/v1/traces` }
    const app = await sandbox(env)
    const { id } = await app.post<{ id: string }>('/api/v1/chains/chain101/runs', smallRun(2, hook.url, '#slow=2s'))
    type Seen = { steps: { status: string; phase: string | null }[] }
    await until('the first job runs', async () => {
      const [step] = (await app.json<Seen>(`/api/v1/runs/${id}`)).steps
      return step?.phase === 'running'
    })
    await app.stop()
    const before = to.spans.length
    expect(named(to.spans)).not.toContain('run')
    await app.start()
    await until('the callback has come', async () => hook.callbacks.length === 1)
    await app.stop()
    const after = to.spans.slice(before)
    expect(after.filter(span => span.traceId !== id.replaceAll('-', ''))).toEqual([])
    expect(named(after)).toEqual(['callback.deliver', 'provider.check', 'provider.submit', 'run'])
    expect(at(after, 'provider.check')[0]?.attributes).toMatchObject({
      ...{ 'babychain.step.key': 'text_to_image', 'babychain.attempt': 1, 'gen_ai.provider.name': 'sandbox' },
    })
    // What took longer than this process has been there began before it.
    const [root] = at(after, 'run')
    expect((root?.endMs ?? 0) - (root?.startMs ?? 0)).toBeGreaterThan(1_900)
  }, 60_000)
})

test('a real protocol: the status of an answer is told, its words, the key and the addresses are not', async () => {
  const to = collector()
  const hosts = await Hosts.open({ keys: ['bfl', 'byteplus'], env: { OTEL_EXPORTER_OTLP_ENDPOINT: to.url } })
  closing.push(() => hosts.close())
  hosts.bfl.script({ type: 'say', reply: { status: 503, json: { detail: `busy, says ${hosts.bfl.key}` } } })
  const input = {
    chain_models: { text_to_image_model: 'bfl/flux-2-flex', image_to_video_model: 'bytedance/seedance-1.5-pro' },
    text_to_image_params: { prompt: 'a heron nobody should know of' },
    image_to_video_params: { content: [{ type: 'text', text: 'it flies' }] },
  }
  const id = await hosts.create({ input })
  await hosts.stepEnd(id)
  await hosts.app.stop()
  const submits = at(to.of(id), 'provider.submit').map(span => span.attributes)
  expect(submits[0]).toMatchObject({
    ...{ 'error.type': 'provider_overloaded', 'http.response.status_code': 503, 'gen_ai.provider.name': 'bfl' },
    ...{ 'gen_ai.request.model': expect.stringContaining('flux-2-flex'), 'babychain.model': 'bfl/flux-2-flex' },
  })
  expect(submits[1]).toMatchObject({ 'babychain.outcome': 'accepted', 'babychain.attempt': 2 })
  expect(at(to.of(id), 'provider.check').length).toBeGreaterThan(0)
  for (const word of ['busy', 'heron', 'it flies', new URL(hosts.bfl.url).host, 'x-key'])
    expect([word, to.said.includes(word)]).toEqual([word, false])
  expect(takeLeaks()).toEqual([])
}, 60_000)

describe('nobody waits for a collector', () => {
  for (const mood of ['hang', 'refuse', 'gone'] as const) {
    test(`that is bad at its work (${mood}): runs end, the stop is soon over, the operator is told once`, async () => {
      const to = collector()
      if (mood === 'gone') await to.stop()
      else to.mood = mood
      const hook = receiver()
      const app = await sandbox({ BABYCHAIN_EGRESS_ALLOW: hook.host, OTEL_EXPORTER_OTLP_ENDPOINT: to.url })
      const run = await app.post<{ status: string }>('/api/v1/chains/chain101/runs', smallRun(3, hook.url), {
        prefer: 'wait=30',
      })
      expect(run.status).toBe('succeeded')
      await until('the callback has come', async () => hook.callbacks.length === 1)
      const began = performance.now()
      await app.stop()
      expect(performance.now() - began).toBeLessThan(3_500)
      if (mood === 'refuse') expect(app.log.split('traces do not reach the collector')).toHaveLength(2)
    }, 60_000)
  }

  test('spans beyond the queue are dropped while it hangs, in no time', async () => {
    const to = collector()
    to.mood = 'hang'
    const spans = openSpans({ ...OPTIONS, url: to.url })
    const began = performance.now()
    for (let n = 0; n < 20_000; n += 1) spans.record(SPAN)
    expect(performance.now() - began).toBeLessThan(2_000)
    await until('it is asked', async () => to.posts === 1)
    expect(to.said.split('"name":"provider.check"').length - 1).toBe(512)
    const closing = performance.now()
    await spans.close(200)
    expect(performance.now() - closing).toBeLessThan(1_000)
    // What was waiting is all that could still be sent: the queue, no more.
    await until('the rest was offered', async () => to.posts === 1 + 4)
    expect(to.said.split('"name":"provider.check"').length - 1).toBe(512 + 2_048)
  }, 30_000)

  test('is told when it is back', async () => {
    const to = collector()
    to.mood = 'refuse'
    const said: string[] = []
    const log = {
      info: (_: object, text: string) => said.push(text),
      warn: (_: object, text: string) => said.push(text),
    }
    const spans = openSpans({ ...OPTIONS, url: to.url, log: log as unknown as typeof OPTIONS.log })
    const batch = async (): Promise<void> => {
      const posts = to.posts
      for (let n = 0; n < 512; n += 1) spans.record(SPAN)
      await until('a batch was offered', async () => to.posts > posts && spans)
    }
    await batch()
    await until('it is told', async () => said.length === 1)
    to.mood = 'take'
    await batch()
    await until('it is told', async () => said.length === 2)
    expect(said).toEqual([expect.stringContaining('do not reach'), expect.stringContaining('again')])
    await spans.close(1_000)
  }, 30_000)
})

describe('what is wrapped', () => {
  const spans: Span[] = []
  const tracing = tracingTo({ record: span => spans.push(span), close: async () => {} })
  const never = new AbortController().signal
  afterEach(() => void spans.splice(0))

  test('a call whose run nobody knows is a span of its own', async () => {
    const provider = tracing.provider({ id: 'p', check: async () => ({ type: 'pending' }) } as unknown as Provider)
    await provider.check({ job: 1 }, never)
    expect(spans).toMatchObject([{ name: 'provider.check', runId: null, error: null }])
    expect(provider.find).toBeUndefined()
  })

  test('an adapter that throws still throws, and is told by the name of what it threw', async () => {
    const check = async (): Promise<never> => {
      throw new RangeError('with a secret in its words')
    }
    const provider = tracing.provider({ id: 'p', check } as unknown as Provider)
    await expect(provider.check({ job: 1 }, never)).rejects.toThrow('with a secret')
    expect(spans).toMatchObject([{ error: 'RangeError', attributes: { 'babychain.outcome': 'threw' } }])
    expect(JSON.stringify(spans)).not.toContain('secret')
  })

  test('a look-up and a cancel are told with the run that the store knows of', async () => {
    const run = queuedRun()
    const attempt = { token: 'tok', provider: 'p', providerModel: 'm', no: 2, jobRef: { job: 7, at: [1] } }
    const steps = run.steps.map(step => ({ ...step, status: 'running', attempt }))
    const store = tracing.store({ commit: async () => {} } as unknown as Parameters<typeof tracing.store>[0])
    await store.commit({ run: { ...run, steps } } as unknown as Parameters<typeof store.commit>[0])
    const adapter = { id: 'p', find: async () => ({ type: 'none' }), cancel: async () => 'failed' }
    const provider = tracing.provider(adapter as unknown as Provider)
    await provider.find?.({ token: 'tok', stepId: 's', providerModel: 'm', role: 'text_to_image', startedAt: 0 }, never)
    await provider.cancel({ job: 7, at: [1] }, never)
    expect(spans).toMatchObject([
      { name: 'provider.find', runId: run.id, error: null, attributes: { 'babychain.outcome': 'none' } },
      { name: 'provider.cancel', runId: run.id, error: 'failed', attributes: { 'babychain.attempt': 2 } },
    ])
  })

  test('everything else of a provider is as it was, private fields too', () => {
    class Own {
      readonly id = 'own'
      #missing = 'a key'
      get missing(): string {
        return this.#missing
      }
      open(): string {
        return this.#missing
      }
    }
    const provider = tracing.provider(new Own() as unknown as Provider)
    expect([provider.id, provider.missing, (provider as unknown as Own).open()]).toEqual(['own', 'a key', 'a key'])
  })

  test('the store gives and takes what it did', async () => {
    const run = queuedRun()
    const asked: unknown[] = []
    const store = tracing.store({
      run: async (id: string) => (id === run.id ? run : null),
      commit: async (commit: unknown) => void asked.push(commit),
      due: async () => ['x'],
    } as unknown as Parameters<typeof tracing.store>[0])
    expect(await store.run(run.id)).toBe(run)
    expect(await store.run('other')).toBeNull()
    expect(await store.due(1, 1)).toEqual(['x'])
    const commit = { run } as Parameters<typeof store.commit>[0]
    await store.commit(commit)
    expect(asked).toEqual([commit])
  })
})

test('the book of attempts holds those that were seen or asked for last', () => {
  const book = new AttemptBook()
  const queued = queuedRun()
  const see = (n: number): void => {
    const state = { status: 'running' as const, pollAt: 0, progress: null }
    book.see(runAt(queued, 0, { ...state, attempt: attempt(1, { provider: 'p', token: `t${n}`, jobRef: n }) }, []))
  }
  const known = (n: number): boolean[] => [book.ofToken(`t${n}`) !== null, book.ofJob('p', n) !== null]
  for (let n = 0; n < 20_000; n += 1) see(n)
  expect(known(0)).toEqual([true, true])
  see(20_000)
  expect([0, 1, 2, 20_000].map(known)).toEqual([
    [true, true],
    [false, false],
    [true, true],
    [true, true],
  ])
})

test('without a collector nothing of it is loaded; with one it is', async () => {
  const loaded = async (endpoint: string): Promise<{ modules: number; opentelemetry: number }> => {
    const env = { PATH: process.env.PATH ?? '', OTEL_EXPORTER_OTLP_ENDPOINT: endpoint }
    const child = Bun.spawn([process.execPath, PROGRAM.pathname], { env })
    return JSON.parse(await new Response(child.stdout).text()) as { modules: number; opentelemetry: number }
  }
  const off = await loaded('')
  expect(off.modules).toBeGreaterThan(100)
  expect(off.opentelemetry).toBe(0)
  expect((await loaded('http://127.0.0.1:9')).opentelemetry).toBeGreaterThan(0)
}, 30_000)

const OPTIONS = {
  headers: {},
  serviceName: 'babychain',
  version: '0',
  log: { info: () => {}, warn: () => {} } as unknown as Parameters<typeof openSpans>[0]['log'],
}
const SPAN: Span = {
  ...{ name: 'provider.check', runId: queuedRun().id, kind: 'call', startedAt: Date.now(), ms: 1.5 },
  ...{ attributes: { 'gen_ai.provider.name': 'p', 'gen_ai.request.model': undefined }, error: null },
}
