/**
 * What every protocol must do with a faithful server of its provider, whatever happens on the way.
 * One call a protocol; the traits say what the provider can do at all.
 */
import { afterEach, beforeEach, describe, expect, test } from 'bun:test'
import type { ErrorCode, StepError } from '../../src/core/errors.ts'
import type { Json } from '../../src/core/json.ts'
import type { Checked, Provider, StartJob } from '../../src/core/ports.ts'
import type { CancelAnswer, CancelOutcome } from '../../src/core/run.ts'
import {
  type Bench,
  type BenchSpec,
  bytesOf,
  inbound,
  LATENCY_MS,
  openBench,
  ROUND,
} from '../support/providers/bench.ts'
import { CUT, type Failure, type Refusal, type Reply, type Scene, type StandIn } from '../support/providers/stand-in.ts'
import { leaksIn } from '../support/secrets.ts'

export interface Traits {
  /** `job`: a reference that is polled. `sync`: the answer holds the result. */
  kind: 'job' | 'sync'
  /** How a job that ends badly must be told; absent endings cannot happen there. */
  failures: Readonly<Partial<Record<Failure, ErrorCode>>>
  /** Those after which a synchronous provider may bill the call: it was at work. Before the others nothing ran. */
  ran?: readonly Failure[]
  /** Refusals that differ from the usual codes; null: cannot be told apart there. */
  refusals?: Readonly<Partial<Record<Refusal['because'], ErrorCode | null>>>
  /** Of what has begun nobody can say that it had not. */
  cancel: Readonly<{ queued: CancelAnswer; running: CancelOutcome; ended: CancelOutcome }>
  /**
   * What a look-up can do. `token`: our mark stands on the job. `token or absence`: only with a webhook address does it.
   * `absence only`: there is no mark. `never`: nobody can tell. `none`: there is no look-up.
   */
  find: 'token' | 'token or absence' | 'absence only' | 'never' | 'none'
  /** A poll's answer with a status that nobody knows. */
  strange?: (id: string) => Json
  /** `echoed`: the proof is a secret, and says nothing of the body. */
  webhooks: 'signed' | 'echoed' | 'by token' | 'none'
  /** Whether an output's link can die and be asked for again. */
  links: boolean
  upload: boolean
  /** How a missing job is told: by 404 or in words; `false` when nothing can be lost. */
  canVanish: boolean
  /** How many calls a poll makes at most; 1 by default. */
  callsPerPoll?: number
}

/** Longer than any protocol waits for the answer to a submit. */
const NO_SUBMIT_TAKES_MS = 300_000

const USUAL: Readonly<Record<Refusal['because'], ErrorCode>> = {
  rate_limited: 'provider_rate_limited',
  overloaded: 'provider_overloaded',
  credit: 'insufficient_credit',
  key: 'provider_unauthorized',
  model: 'model_not_enabled',
  invalid: 'invalid_input',
  input: 'content_rejected',
  broken: 'provider_error',
}

export function protocolContract<S extends StandIn>(name: string, spec: BenchSpec<S>, traits: Traits): void {
  describe(`${name}: the protocol contract`, () => {
    let bench: Bench<S>
    let told: unknown[]
    beforeEach(async () => {
      bench = await openBench(spec)
      told = []
    })
    afterEach(async () => {
      const { standIn, trap } = bench
      await bench.stop()
      // Nothing secret in anything that was said, and nothing at the wrong place.
      expect(leaksIn(JSON.stringify(told))).toEqual([])
      expect(standIn.leaks).toEqual([])
      expect(leaksIn(JSON.stringify(trap.caught))).toEqual([])
    })

    const start = async (job: StartJob = bench.job(), provider: Provider = bench.provider) => {
      const started = await provider.start(job, bench.signal)
      told.push(started)
      return started
    }
    const accepted = async (job: StartJob = bench.job()): Promise<Json> => {
      const started = await start(job)
      if (started.type !== 'accepted') throw new Error(`not accepted: ${JSON.stringify(started)}`)
      expect(started.pollAfterMs).toBeGreaterThanOrEqual(0)
      return started.jobRef
    }
    const check = async (ref: Json, provider: Provider = bench.provider): Promise<Checked> => {
      const checked = await provider.check(ref, bench.signal)
      told.push(checked)
      return checked
    }
    const end = () => bench.clock.advance(LATENCY_MS)
    /** Refuses the n-th call from here on, and says how many came. */
    const refuse = (n: number, reply: Reply): { calls: number } => {
      const seen = { calls: 0 }
      bench.standIn.refuses = () => (seen.calls++ === n ? reply : null)
      return seen
    }
    const taken = () => bench.standIn.submits().length

    describe('a submit that is answered', () => {
      test('the body arrives as it was given, once, with the key in the right place', async () => {
        await start()
        const [job] = bench.standIn.submits()
        expect(taken()).toBe(1)
        expect(JSON.stringify(job?.body)).not.toContain(bench.standIn.key)
        expect(bench.standIn.calls.at(0)?.status).toBeLessThan(300)
      })

      test('it has said so before its first byte, once; one that is held back never leaves', async () => {
        const full = async (): Promise<void> => {
          throw new Error('the disk is full')
        }
        await expect(start(bench.job({ sending: full }))).rejects.toThrow('the disk is full')
        expect(taken()).toBe(0)
        const before: number[] = []
        const sending = async (): Promise<void> => void before.push(taken())
        await start(bench.job({ sending }))
        expect([before, taken()]).toEqual([[0], 1])
      })

      const refusals: readonly Refusal[] = [
        { because: 'rate_limited', retryAfterS: 30 },
        { because: 'rate_limited' },
        { because: 'overloaded' },
        { because: 'credit' },
        { because: 'key' },
        { because: 'model' },
        { because: 'invalid' },
        { because: 'input' },
        { because: 'broken' },
      ]
      for (const why of refusals) {
        const code = traits.refusals?.[why.because] === undefined ? USUAL[why.because] : traits.refusals[why.because]
        if (code === null) continue
        test(`refused for ${JSON.stringify(why)} is ${code}, and nothing runs`, async () => {
          bench.standIn.script({ type: 'refuse', why })
          const started = await start()
          expect(started).toMatchObject({ type: 'refused', error: { code, provider: bench.standIn.provider } })
          expect(taken()).toBe(0)
          const { error } = started as { error: StepError }
          if (why.because === 'rate_limited') expect(error.retryAfterMs).toBe(why.retryAfterS ? 30_000 : undefined)
          expect(error.providerText?.length).toBeGreaterThan(0)
        })
      }

      test('a wrong field is refused by the provider as it would be', async () => {
        const body = { ...spec.order.body, no_such_field_at_all: 1 }
        const started = await start(bench.job({ body }))
        expect(started).toMatchObject({ type: 'refused', error: { code: 'invalid_input' } })
        expect(taken()).toBe(0)
      })

      test('a model that is not there is refused', async () => {
        const [owner, name] = spec.order.providerModel.split('/')
        const providerModel = name === undefined ? 'no-such-model' : `${owner}/no-such-model`
        const started = await start(bench.job({ providerModel }))
        expect(started.type).toBe('refused')
        expect(taken()).toBe(0)
      })
    })

    describe('a submit whose answer is lost', () => {
      const lost: readonly [string, Scene][] = [
        ['the connection is cut after the bytes left', { type: 'swallow' }],
        ['half of the answer arrives', { type: 'truncate' }],
        ['a gateway answers 502 with a page', { type: 'page', status: 502 }],
        ['a gateway answers 503 with a page', { type: 'page', status: 503 }],
        ['a gateway answers 504 with a page', { type: 'page', status: 504 }],
        ['a page comes with status 200', { type: 'page', status: 200 }],
      ]
      for (const [what, scene] of lost) {
        test(`${what}: unknown, and the job runs once`, async () => {
          bench.standIn.script(scene)
          expect((await start()).type).toBe('unknown')
          expect(taken()).toBe(1)
        })
      }

      test('cut before anything was taken: unknown too, since nobody can tell', async () => {
        bench.standIn.script({ type: 'drop' })
        expect((await start()).type).toBe('unknown')
        expect(taken()).toBe(0)
      })

      for (const takes of [true, false]) {
        const becomes = takes ? 'runs once' : 'never was, which nobody can tell'
        test(`read whole and never answered: unknown when the time is up; the job ${becomes}`, async () => {
          bench.standIn.script({ type: 'hang', takes })
          const starting = start()
          await bench.standIn.whenHeld()
          bench.clock.advance(NO_SUBMIT_TAKES_MS)
          expect(await starting).toMatchObject({ type: 'unknown', error: { code: 'network_error' } })
          // The answer that comes too late has no reader and does no harm.
          bench.standIn.release()
          expect(taken()).toBe(takes ? 1 : 0)
        })
      }

      test('nobody listens: refused, for nothing was sent', async () => {
        await bench.standIn.stop()
        expect(await start()).toMatchObject({ type: 'refused', error: { code: 'network_error' } })
      })

      test('a stopped caller: unknown', async () => {
        const stop = new AbortController()
        const started = bench.provider.start(bench.job(), stop.signal)
        await Promise.resolve()
        stop.abort()
        expect(['unknown', 'refused']).toContain((await started).type)
      })

      for (const status of [301, 302, 307, 308]) {
        test(`a redirect (${status}) to another host is refused, and nothing follows it`, async () => {
          bench.standIn.script({ type: 'redirect', to: `${bench.trap.url}/stolen`, status })
          expect((await start()).type).toBe('refused')
          expect(bench.trap.caught).toEqual([])
        })
      }
    })

    if (traits.kind === 'sync') syncContract()
    if (traits.kind === 'job') jobContract()
    cancelContract()
    findContract()
    webhookContract()
    outputContract()

    function syncContract(): void {
      test('the answer holds the result, and it is kept or can be opened', async () => {
        const started = await start()
        if (started.type !== 'succeeded') throw new Error(JSON.stringify(started))
        expect(started.media.length).toBeGreaterThan(0)
        for (const media of started.media) {
          const kept = bench.stashed.get(media.url)
          if (kept) expect(kept.length).toBeGreaterThan(0)
          else expect((await bench.provider.open(media, bench.signal)).ok).toBe(true)
        }
      })

      for (const [how, code] of Object.entries(traits.failures) as [Failure, ErrorCode][]) {
        const ran = traits.ran?.includes(how) ?? false
        test(`a picture that ends as "${how}" is ${code}, ${ran ? 'a job that failed' : 'and nothing ran'}`, async () => {
          bench.standIn.script({ type: 'fail', how })
          if (!ran) return expect(await start()).toMatchObject({ type: 'refused', error: { code } })
          const ref = JSON.parse(JSON.stringify(await accepted())) as Json
          const before = bench.standIn.calls.length
          const { provider } = bench.standIn
          for (const asked of [bench.provider, bench.another()]) {
            const checked = await check(ref, asked)
            expect(checked).toMatchObject({ type: 'failed', error: { code, provider }, jobless: true })
            // What it costs nobody has said.
            expect(checked).not.toHaveProperty('costUsd')
          }
          expect(bench.standIn.calls).toHaveLength(before)
          expect(await bench.provider.cancel(ref, bench.signal)).toBe('unsupported')
        })
      }

      test('a result that cannot be stashed is not lost in silence', async () => {
        const started = await start(
          bench.job({
            stash: async () => {
              throw new Error('disk full')
            },
          }),
        )
        if (bench.stashed.size === 0 && started.type !== 'succeeded') {
          expect(started).toMatchObject({ type: 'unknown', error: { code: 'storage_unavailable' } })
        }
      })
    }

    function jobContract(): void {
      test('queued, running, succeeded; the output can be opened, without the key at another host', async () => {
        const ref = await accepted()
        expect((await check(ref)).type).toBe('pending')
        bench.clock.advance(LATENCY_MS / 2)
        const running = await check(ref)
        expect(running.type).toBe('pending')
        if (running.type === 'pending') expect(running.pollAfterMs).toBeGreaterThan(0)
        end()
        const done = await check(ref)
        if (done.type !== 'succeeded') throw new Error(JSON.stringify(done))
        expect(done.media).toHaveLength(1)
        const opened = await bench.provider.open(done.media[0] as { url: string }, bench.signal)
        if (!opened.ok) throw new Error(JSON.stringify(opened))
        const bytes = await bytesOf(opened.stream)
        expect(bytes.length).toBeGreaterThan(100)
      })

      test('a reference survives JSON and another process', async () => {
        const ref = JSON.parse(JSON.stringify(await accepted())) as Json
        end()
        expect((await check(ref, bench.another())).type).toBe('succeeded')
      })

      for (const [how, code] of Object.entries(traits.failures) as [Failure, ErrorCode][]) {
        test(`a job that ends as "${how}" is ${code}`, async () => {
          bench.standIn.script({ type: 'fail', how })
          const ref = await accepted()
          end()
          expect(await check(ref)).toMatchObject({ type: 'failed', error: { code } })
        })
      }

      const troubles: readonly [string, Reply][] = [
        ['a 502 page', { status: 502, body: '<html>Bad gateway</html>' }],
        ['a 500 page', { status: 500, body: '<html>Oops</html>' }],
        ['half an answer', { status: 200, body: '{"id":"x","sta', headers: { 'content-type': 'application/json' } }],
        ['a page with status 200', { status: 200, body: '<html>hello</html>' }],
        ['an empty object', { status: 200, json: {} }],
        ['a list', { status: 200, json: [] }],
        ['more than a status ever is', { status: 200, json: 'x'.repeat(33 << 20) }],
        ['a number', { status: 200, json: 7 }],
        ['a limit of our rate', { status: 429, json: { detail: 'slow down' }, headers: { 'retry-after': '40' } }],
        ['a wish for an hour', { status: 503, body: '<html>Maintenance</html>', headers: { 'retry-after': '3600' } }],
        ['a refused key', { status: 401, json: { detail: 'no' } }],
        ['a broken connection', CUT],
      ]
      for (const [what, reply] of troubles) {
        test(`a poll that gets ${what}: the question failed, not the job`, async () => {
          const ref = await accepted()
          end()
          // A GET may be sent again on a fresh connection.
          const calls = (traits.callsPerPoll ?? 1) * (reply === CUT ? 2 : 1)
          bench.standIn.disturb(...new Array<Reply>(calls).fill(reply))
          const checked = await check(ref)
          expect(['unreachable', 'pending']).toContain(checked.type)
          if (checked.type === 'unreachable' && reply.status === 429) expect(checked.pollAfterMs).toBe(40_000)
          // A result may live for ten minutes only.
          if (checked.type === 'unreachable' && reply.status === 503) expect(checked.pollAfterMs).toBe(60_000)
          bench.standIn.settle()
          expect((await check(ref)).type).toBe('succeeded')
        })
      }

      test('a poll that is redirected does not carry the key there', async () => {
        const ref = await accepted()
        const away = { status: 307, headers: { location: `${bench.trap.url}/stolen` } }
        bench.standIn.disturb(...new Array<Reply>(traits.callsPerPoll ?? 1).fill(away))
        expect(['unreachable', 'pending']).toContain((await check(ref)).type)
        expect(bench.trap.caught).toEqual([])
      })

      test('a reference that is not ours ends the job without a call', async () => {
        const strangers: readonly Json[] = [null, 7, 'x', {}, { id: '../../secrets' }, { name: '../x' }, []]
        for (const ref of strangers) {
          expect((await check(ref)).type).toBe('failed')
        }
        expect(bench.standIn.calls).toEqual([])
      })

      const { strange } = traits
      if (strange) {
        test('an unknown status is pending, never success', async () => {
          const ref = await accepted()
          bench.standIn.disturb({ status: 200, json: strange((ref as { id?: string }).id ?? '') })
          expect((await check(ref)).type).toBe('pending')
        })
      }

      if (traits.canVanish) {
        const vanished = async (): Promise<Json> => {
          bench.standIn.script({ type: 'vanish' })
          const ref = await accepted()
          end()
          return ref
        }

        test('a job that the provider no longer knows is lost, but not within a minute of the first word', async () => {
          const ref = await vanished()
          for (let i = 0; i < 5; i++) expect((await check(ref)).type).toBe('unreachable')
          bench.clock.advance(59_999)
          expect((await check(ref)).type).toBe('unreachable')
          bench.clock.advance(1)
          expect(await check(ref)).toMatchObject({ type: 'failed', error: { code: 'provider_lost' } })
        })

        test('a job that the provider no longer knows is lost after three words, however long that takes', async () => {
          const ref = await vanished()
          expect((await check(ref)).type).toBe('unreachable')
          bench.clock.advance(600_000)
          expect((await check(ref)).type).toBe('unreachable')
          expect(await check(ref)).toMatchObject({ type: 'failed', error: { code: 'provider_lost' } })
        })

        test('a job that was not found and is there again has to be missed anew, minute and all', async () => {
          const ref = await accepted()
          const [job] = bench.standIn.submits()
          if (!job) throw new Error('no job')
          const seen = async (scene: Scene) => {
            job.scene = scene
            return (await check(ref)).type
          }
          for (let i = 0; i < 3; i++) expect(await seen({ type: 'vanish' })).toBe('unreachable')
          bench.clock.advance(60_000)
          expect(await seen({ type: 'forever' })).toBe('pending')
          for (let i = 0; i < 3; i++) expect(await seen({ type: 'vanish' })).toBe('unreachable')
        })
      }

      test('a provider that is down leaves the job alone', async () => {
        const ref = await accepted()
        await bench.standIn.stop()
        expect(await check(ref)).toMatchObject({ type: 'unreachable', error: { code: 'network_error' } })
      })
    }

    function cancelContract(): void {
      if (traits.kind === 'sync') {
        test('there is nothing to cancel', async () => {
          expect(await bench.provider.cancel(null, bench.signal)).toBe('unsupported')
        })
        return
      }
      const moments = { queued: 0, running: LATENCY_MS / 2, ended: LATENCY_MS } as const
      for (const [moment, ms] of Object.entries(moments) as [keyof typeof moments, number][]) {
        test(`cancel while ${moment}: ${traits.cancel[moment]}`, async () => {
          const ref = await accepted()
          bench.clock.advance(ms)
          const outcome = await bench.provider.cancel(ref, bench.signal)
          expect(outcome).toBe(traits.cancel[moment])
          end()
          const after = await check(ref)
          // A finished output is never thrown away by a cancel; a stopped job never succeeds.
          if (moment === 'ended') expect(after.type).toBe('succeeded')
          else if (outcome === 'confirmed' || outcome === 'unbegun') expect(after.type).not.toBe('succeeded')
          else expect(after.type).toBe('succeeded')
        })
      }

      if (traits.cancel.queued === 'unbegun') {
        test('a job that was canceled before it began is free, whoever asks and however often', async () => {
          const ref = await accepted()
          for (let i = 0; i < 2; i++) expect(await bench.provider.cancel(ref, bench.signal)).toBe('unbegun')
          expect(await check(ref)).toMatchObject({ type: 'failed', error: { code: 'canceled' }, costUsd: 0 })
        })
      }

      if (traits.cancel.queued !== 'unsupported') {
        test('a cancel that is not answered has failed', async () => {
          const ref = await accepted()
          await bench.standIn.stop()
          expect(await bench.provider.cancel(ref, bench.signal)).toBe('failed')
        })

        test('a cancel that the provider does not take has failed: the job runs on, and is billed', async () => {
          const ref = await accepted()
          const replies: readonly Reply[] = [{ status: 500, json: { detail: 'no' } }, { status: 403, json: {} }, CUT]
          for (const reply of replies) {
            bench.standIn.refuses = ({ method }) => (method === 'GET' ? null : reply)
            expect([reply.status, await bench.provider.cancel(ref, bench.signal)]).toEqual([reply.status, 'failed'])
          }
          end()
          expect((await check(ref)).type).toBe('succeeded')
        })
      }
    }

    function findContract(): void {
      if (traits.find === 'none') {
        test('there is no look-up', () => {
          expect(bench.provider.find).toBeUndefined()
        })
        return
      }
      const order = (job: StartJob) => ({
        token: job.token,
        stepId: job.stepId,
        providerModel: job.providerModel,
        role: job.role,
        startedAt: bench.clock.now(),
      })
      const find = async (job: StartJob, provider = bench.another()) => {
        const found = await provider.find?.(order(job), bench.signal)
        told.push(found)
        return found
      }
      const hooked = (): StartJob => {
        const job = bench.job()
        return { ...job, callbackUrl: `https://us.example/api/v1/inbound/${bench.standIn.provider}/${job.token}` }
      }

      if (traits.find === 'never') {
        test('a look-up says at once that nobody can ever tell, without a call', async () => {
          const job = hooked()
          bench.standIn.script({ type: 'swallow' })
          await start(job)
          const before = bench.standIn.calls.length
          expect(await find(job)).toEqual({ type: 'untraceable' })
          expect(bench.standIn.calls).toHaveLength(before)
          // Nor will the provider call us.
          expect(JSON.stringify(bench.standIn.submits())).not.toContain('us.example')
        })
        return
      }
      const marked = traits.find !== 'absence only'

      if (marked)
        test('the job of a lost answer is found by another process, among others, and goes on', async () => {
          await start(hooked())
          const job = hooked()
          bench.standIn.script({ type: 'swallow' })
          await start(job)
          await start(hooked())
          const found = await find(job)
          if (found?.type !== 'found') throw new Error(JSON.stringify(found))
          end()
          expect((await check(found.jobRef, bench.another())).type).toBe('succeeded')
          expect(taken()).toBe(3)
        })

      test('a submit that never arrived is not found, among others and alone', async () => {
        const job = hooked()
        bench.standIn.script({ type: 'drop' })
        await start(job)
        expect((await find(job))?.type).toBe('none')
        if (!marked) return
        await start(hooked())
        expect((await find(job))?.type).toBe('none')
      })

      test('a look-up that is not answered says nothing', async () => {
        const job = hooked()
        await start(job)
        for (const reply of [
          { status: 502, body: 'x' },
          { status: 200, body: '{"it' },
          { status: 200, json: {} },
          { status: 429, json: {} },
        ]) {
          bench.standIn.disturb(reply, reply)
          expect((await find(job))?.type).toBe('unknown')
          bench.standIn.settle()
        }
        await bench.standIn.stop()
        expect((await find(job))?.type).toBe('unknown')
      })

      if (traits.find !== 'token') {
        test('without a mark, a strange job that could be ours makes it unknown; our own others do not', async () => {
          const job = bench.job()
          bench.standIn.script({ type: 'swallow' })
          await start(job)
          expect((await find(job))?.type).toBe('unknown')
        })

        test('without a mark, jobs of other attempts are told apart by the process that submitted them', async () => {
          await accepted()
          const job = bench.job()
          bench.standIn.script({ type: 'drop' })
          await start(job)
          expect((await find(job, bench.provider))?.type).toBe('none')
        })
      }
    }

    function webhookContract(): void {
      if (traits.webhooks === 'none') {
        test('there are no webhooks, and no address is given', async () => {
          await start(bench.job({ callbackUrl: 'https://us.example/hook' }))
          expect(bench.provider.webhook).toBeUndefined()
          expect(JSON.stringify(bench.standIn.submits()[0]?.body)).not.toContain('us.example')
        })
        return
      }
      // Who has an answer at once needs no call.
      if (traits.kind === 'sync') return
      const callbackUrl = 'https://us.example/api/v1/inbound/x/token'
      const webhook = async (request: ReturnType<typeof inbound>) => {
        const hint = await bench.another().webhook?.(request)
        told.push(hint)
        return hint
      }
      const hookOf = () => {
        const [job] = bench.standIn.submits()
        const hook = job && bench.standIn.hookOf(job)
        if (!hook) throw new Error('no webhook')
        return hook
      }

      test('a webhook names the job, also to a process that never had its reference', async () => {
        bench.standIn.script({ type: 'swallow' })
        await start(bench.job({ callbackUrl }))
        end()
        const hint = await webhook(inbound(hookOf(), bench.clock.now()))
        if (hint?.type !== 'hint' || hint.jobRef === null) throw new Error(JSON.stringify(hint))
        expect((await check(hint.jobRef, bench.another())).type).toBe('succeeded')
      })

      test('a webhook of a failed job is a hint like any other', async () => {
        bench.standIn.script({ type: 'fail', how: 'error' })
        await start(bench.job({ callbackUrl }))
        end()
        const hint = await webhook(inbound(hookOf(), bench.clock.now()))
        if (hint?.type !== 'hint' || hint.jobRef === null) throw new Error(JSON.stringify(hint))
        expect((await check(hint.jobRef, bench.another())).type).toBe('failed')
      })

      if (traits.webhooks === 'by token') return
      test('a forged, altered, unsigned or old webhook is refused', async () => {
        await start(bench.job({ callbackUrl }))
        end()
        const hook = hookOf()
        const at = bench.clock.now()
        expect((await webhook(inbound(hook, at)))?.type).toBe('hint')
        const forged = {
          ...hook,
          headers: Object.fromEntries(Object.entries(hook.headers).map(([name, value]) => [name, flip(name, value)])),
        }
        expect((await webhook(inbound(forged, at)))?.type).toBe('refused')
        const altered = await webhook(inbound({ ...hook, body: `${hook.body} ` }, at))
        expect(altered?.type).toBe(traits.webhooks === 'signed' ? 'refused' : 'hint')
        expect((await webhook(inbound({ ...hook, headers: {} }, at)))?.type).toBe('refused')
        const dated = Object.keys(hook.headers).some(header => header.includes('timestamp'))
        for (const late of [-301_000, 301_000]) {
          expect((await webhook(inbound(hook, at + late)))?.type).toBe(dated ? 'refused' : 'hint')
        }
      })
    }

    function outputContract(): void {
      test('an output at a forbidden address is refused for good', async () => {
        for (const url of [
          'http://169.254.169.254/latest/meta-data',
          'https://10.0.0.1/x.png',
          'file:///etc/passwd',
          'http://localhost:1/x',
        ]) {
          const opened = await bench.provider.open({ url }, bench.signal)
          expect(opened).toMatchObject({ ok: false, error: { code: 'output_fetch_failed', retryable: false } })
        }
      })

      test('a file that is gone may have another link; one that is too large, or packed, never gets better', async () => {
        const open = async (reply: Reply) => {
          bench.standIn.refuses = () => reply
          return bench.provider.open({ url: `${bench.standIn.filesUrl}/x.png` }, bench.signal)
        }
        for (const status of [403, 404, 410])
          expect(await open({ status })).toMatchObject({ ok: false, expired: true, error: { retryable: true } })
        expect(await open({ status: 500 })).toMatchObject({ ok: false, expired: false, error: { retryable: true } })
        const packed = { 'content-encoding': 'gzip' }
        for (const headers of [{ 'content-length': String(2 ** 30 + 1) }, packed])
          expect(await open({ status: 200, headers })).toMatchObject({ expired: false, error: { retryable: false } })
        const { error } = (await open({ status: 200, headers: packed })) as { error: StepError }
        expect(error.message).toContain('could not be opened: encoding_refused')
        expect(error.httpStatus).toBeUndefined()
      })

      test('a link that leads round in circles is as good as dead', async () => {
        const opened = await bench.provider.open({ url: bench.trap.url + ROUND }, bench.signal)
        expect(opened).toMatchObject({ ok: false, expired: true, error: { retryable: true } })
      })

      if (traits.links) {
        test('a dead link is told as expired, and the job gives a living one', async () => {
          bench.standIn.script({ type: 'expire', times: 1 })
          const ref = await accepted()
          end()
          const first = await check(ref)
          if (first.type !== 'succeeded') throw new Error(JSON.stringify(first))
          const media = first.media[0] as { url: string }
          expect(await bench.provider.open(media, bench.signal)).toMatchObject({ ok: false, expired: true })
          const again = await check(ref)
          if (again.type !== 'succeeded') throw new Error(JSON.stringify(again))
          const opened = await bench.provider.open(again.media[0] as { url: string }, bench.signal)
          expect(opened.ok).toBe(true)
          if (opened.ok) await opened.stream.cancel()
        })
      }

      test(traits.upload ? 'a picture can be uploaded' : 'there is no upload', async () => {
        if (!traits.upload) {
          expect(bench.provider.upload).toBeUndefined()
          return
        }
        const picture = { mime: 'image/png', bytes: new Uint8Array([137, 80, 78, 71, 1, 2, 3]) }
        const uploaded = await bench.provider.upload?.(picture, bench.signal)
        told.push(uploaded)
        expect(uploaded).toMatchObject({ ok: true })
        expect(bench.standIn.uploads()).toEqual([picture.bytes])
        const broken = { status: 500, json: { detail: 'no' } }
        for (const [n, reply] of [
          [0, broken],
          [0, { status: 200, json: {} }],
          [0, { status: 404, json: { detail: 'no such place' } }],
          [0, CUT],
          [1, broken],
        ] as const) {
          const seen = refuse(n, reply)
          const again = await bench.provider.upload?.(picture, bench.signal)
          told.push(again)
          expect([n, reply, again?.ok]).toEqual([n, reply, n >= seen.calls])
          // It is not a model that was asked for.
          if (again?.ok !== false || reply.status === 500 || reply === CUT) continue
          expect(again.error).toMatchObject({ code: 'provider_error', message: expect.stringMatching(/the upload/) })
        }
        bench.standIn.refuses = () => null
        await bench.standIn.stop()
        expect(await bench.provider.upload?.(picture, bench.signal)).toMatchObject({ ok: false })
      })
    }
  })
}

/** The same header with another value of the same form. */
function flip(name: string, value: string): string {
  if (!/signature|secret/.test(name)) return value
  return value.replace(/[0-9a-zA-Z]$|[0-9a-zA-Z](?==+$)/, last => (last === '0' ? '1' : '0')).replaceAll('v1,', 'v1,A')
}
