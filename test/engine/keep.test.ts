/** Copies of paid outputs that do not come at the first asking, and jobs that a resumed run takes over. */
import { afterEach, describe, expect, test } from 'bun:test'
import { stepError } from '../../src/core/errors.ts'
import type { Json } from '../../src/core/json.ts'
import { fork } from '../../src/core/machine.ts'
import type { Checked, KeepOrder, Kept, Opened, Provider, Started, StartJob } from '../../src/core/ports.ts'
import type { Attempt, Output, ProviderMedia, Run, Step } from '../../src/core/run.ts'
import { keepOutputs } from '../../src/engine/effects/keep.ts'
import { RemoteProvider } from '../support/remote-provider.ts'
import { LINE, runOf } from '../support/runs.ts'
import { World, type WorldOptions } from '../support/world.ts'

/** What the host of the outputs answers, by the last part of the link; no answer is a file. */
type Host = (name: string, n: number) => Extract<Opened, { ok: false }> | undefined

const refused = (status: number, expired = false): Extract<Opened, { ok: false }> => ({
  ...{ ok: false, expired },
  error: stepError('output_fetch_failed', `HTTP ${status}`, { httpStatus: status }),
})
const tooLarge = { ...refused(200), error: stepError('output_fetch_failed', 'too large', { retryable: false }) }
const reset: Extract<Opened, { ok: false }> = { ...refused(0), error: stepError('output_fetch_failed', 'ECONNREFUSED') }

/** Gives `files` for a job, each at a link of its own. */
class Hosted extends RemoteProvider {
  host: Host = () => undefined
  files: readonly string[] = ['']
  opened: string[] = []
  asked = 0
  answer: Checked | null = null

  override async check(ref: Json): Promise<Checked> {
    this.asked += 1
    if (this.answer) return this.answer
    const checked = await super.check(ref)
    if (checked.type !== 'succeeded') return checked
    const [job] = checked.media
    return {
      ...checked,
      media: this.files.map(name => ({ url: `https://cdn.example/${name}/${job?.url.split('/').at(-1)}` })),
    }
  }

  override async open(media: ProviderMedia): Promise<Opened> {
    const name = media.url.split('/').at(-2) ?? ''
    const n = this.opened.filter(each => each === name).length
    this.opened.push(name)
    return this.host(name, n) ?? super.open(media)
  }
}

let world: World | null = null
afterEach(async () => {
  await world?.close()
  world = null
})

async function begun(options: WorldOptions = {}): Promise<{ w: World; p: Hosted }> {
  const w = new World({ ...options, providers: now => [new Hosted('p', now)] })
  world = w
  await w.start()
  return { w, p: w.providers[0] as Hosted }
}

async function resumed(w: World, run: Run, fromStepKey?: string): Promise<Run> {
  const stepIds = run.steps.map(() => w.clock.id())
  const order = { id: w.clock.id(), stepIds, at: w.clock.now(), ...(fromStepKey === undefined ? {} : { fromStepKey }) }
  const made = fork(run, order)
  if (!made.ok) throw new Error(made.reason)
  await w.process.registry.create({ ...made, idempotency: null })
  return made.run
}

test.each([
  ['answers 503', refused(503)],
  ['answers 429', refused(429)],
  ['refuses connections', reset],
])('a host of outputs that %s for an hour costs an hour, and no second job', async (_, answer) => {
  const { w, p } = await begun()
  const began = w.clock.now()
  p.host = () => (w.clock.now() < began + 3_600_000 ? answer : undefined)
  const { id } = await w.create(LINE)
  expect(await w.finish(id)).toMatchObject({ status: 'succeeded' })
  expect(p.arrived).toHaveLength(2)
  expect(p.opened.length).toBeWithin(60, 100)
})

test.each([403, 404, 410, 400])('a link that answers %i is refreshed until it lives', async status => {
  const { w, p } = await begun()
  p.host = (_, n) => (n < 5 ? refused(status, status === 403) : undefined)
  const { id } = await w.create({ a: [] })
  expect(await w.finish(id)).toMatchObject({ status: 'succeeded' })
  expect([p.arrived.length, p.opened.length]).toEqual([1, 6])
})

describe('of a set', () => {
  test('the good pictures are kept when one stays missing, and are fetched once', async () => {
    const { w, p } = await begun()
    p.files = ['one', 'gone', 'three']
    p.host = name => (name === 'gone' ? refused(404, true) : undefined)
    const { id } = await w.create({ a: [] })
    const run = await w.finish(id)
    expect(run.steps[0]).toMatchObject({
      status: 'succeeded',
      attempts: [{ cost: { actualUsd: 0.05, basis: 'metered' } }],
    })
    const [step] = run.steps as [Step & { outputs: Output[] }]
    expect(step.outputs.map(({ mediaId }) => w.kept.has(mediaId))).toEqual([true, true])
    for (const { mediaId } of step.outputs) expect(await w.process.store.media(mediaId)).toMatchObject({ runId: id })
    expect(p.opened.filter(name => name !== 'gone')).toEqual(['one', 'three'])
  })

  test('what is kept outlives a crash', async () => {
    const { w, p } = await begun()
    p.files = ['one', 'two']
    p.host = name => (name === 'two' ? refused(503) : undefined)
    const { id } = await w.create({ a: [] })
    await w.settle(() => p.opened.length >= 6)
    await w.restart()
    p.host = name => (name === 'one' ? refused(404, true) : undefined)
    expect((await w.finish(id)).steps[0]).toMatchObject({ status: 'succeeded', outputs: [{}, {}] })
    expect(p.opened.filter(name => name === 'one')).toHaveLength(1)
  })
})

describe('a paid output that waits for our storage while we are down, past the deadline of its run,', () => {
  /** From its first submit on our storage takes nothing. */
  class Sold extends Hosted {
    fill = (): void => {}
    isInstant = false
    override async start(job: StartJob): Promise<Started> {
      const started = await super.start(job)
      const stash = async () => ({ url: await job.stash(new TextEncoder().encode('paid')) })
      const answer: Started = this.isInstant ? { type: 'succeeded', media: [await stash()] } : started
      this.fill()
      return answer
    }
  }
  const WAYS = [
    ['of a job', false],
    ['that came in the answer', true],
  ] as const

  /** A run that died while its output could not be stored, and has been dead for 25 hours. */
  async function asleep(isInstant: boolean): Promise<{ w: World; id: string }> {
    const w = new World({ providers: now => [Object.assign(new Sold('p', now), { isInstant })] })
    world = w
    Object.assign(w.providers[0] as Sold, { fill: () => Object.assign(w, { isFull: true }) })
    await w.start()
    const { id } = await w.create({ a: [] })
    await w.settle(() => w.calls.filter(name => name === 'media.keep').length === 3)
    expect((await w.process.store.run(id))?.steps[0]?.status).toBe('keeping')
    w.process.die()
    w.clock.advance(25 * 3_600_000)
    return { w, id }
  }
  const start = async (w: World): Promise<void> => {
    w.soundSince = w.clock.now()
    await w.restart()
  }

  test.each(WAYS)('%s is copied after the start, however slow the copy is', async (_, isInstant) => {
    const { w, id } = await asleep(isInstant)
    w.isFull = false
    for (let starts = 0; starts < 3; starts += 1) {
      const { promise, resolve } = Promise.withResolvers<void>()
      w.hanging = promise
      await start(w)
      await w.pass(29 * 60_000)
      expect((await w.process.store.run(id))?.status).toBe('running')
      if (starts === 2) resolve()
    }
    w.hanging = null
    expect(await w.finish(id)).toMatchObject({ status: 'succeeded' })
    expect(w.providers[0]?.jobs).toHaveLength(1)
  })

  test.each(WAYS)('%s is given up half an hour after the start, if nothing takes it', async (_, isInstant) => {
    const { w, id } = await asleep(isInstant)
    await start(w)
    const from = w.clock.now()
    const { error, updatedAt } = await w.finish(id)
    expect([error?.code, updatedAt - from]).toEqual(['deadline_exceeded', 30 * 60_000])
  })
})

describe('a resumed run', () => {
  test('takes the output of the job that is there, and holds its place meanwhile', async () => {
    const { w, p } = await begun()
    p.host = () => refused(404, true)
    const { id } = await w.create(LINE)
    const failed = await w.finish(id)
    expect(failed).toMatchObject({ status: 'failed', error: { code: 'output_fetch_failed' } })
    p.host = () => undefined
    const { id: again } = await resumed(w, failed)
    expect(w.process.registry.stats().inFlight).toEqual({ p: 1 })
    const run = await w.finish(again)
    expect(run).toMatchObject({ status: 'succeeded', resumedFrom: id })
    expect(run.steps[0]?.attempts).toMatchObject([
      { jobRef: failed.steps[0]?.attempts[0]?.jobRef, cost: { actualUsd: 0 } },
    ])
    expect(p.arrived.map(job => job.stepId)).toEqual([failed.steps[0]?.id ?? '', run.steps[1]?.id ?? ''])
    expect(w.received.map(each => each.runId)).toEqual([id, again])
  })

  test('does so after a crash at every call of a port', async () => {
    let succeeded = 0
    for (let call = 1, calls = Number.POSITIVE_INFINITY; call <= calls; call += 1) {
      const { w, p } = await begun()
      p.host = () => refused(404, true)
      const failed = await w.finish((await w.create({ a: [] })).id)
      p.host = () => undefined
      w.calls = []
      w.crash = { call, when: call % 2 ? 'before' : 'after' }
      const made = resumed(w, failed)
      await Promise.race([made, w.process.died])
      await w.settle()
      if (w.isDead) await w.restart()
      else calls = 0
      await w.settle()
      const { runs } = await w.process.store.counts()
      expect([runs.running, runs.queued, runs.failed]).toEqual([0, 0, 1])
      expect(p.arrived).toHaveLength(1)
      succeeded += runs.succeeded
      await w.close()
    }
    world = null
    expect(succeeded).toBeGreaterThan(5)
  }, 60_000)

  test('buys another one only when the provider has lost the first', async () => {
    const { w, p } = await begun()
    p.host = () => refused(404, true)
    const failed = await w.finish((await w.create({ a: [] })).id)
    p.host = () => undefined
    p.jobs.length = 0
    const run = await w.finish((await resumed(w, failed)).id)
    expect(run.steps[0]).toMatchObject({ status: 'succeeded', attempts: [{ error: { code: 'provider_lost' } }, {}] })
    expect(p.arrived).toHaveLength(2)
  })

  test.each([
    ['hangs', 'provider_timeout'],
    ['has an output that is too large', 'output_fetch_failed'],
  ] as const)('waits once for a job that %s; the next one buys another', async (_, code) => {
    const { w, p } = await begun()
    p.cancel = async () => 'unsupported'
    if (code === 'provider_timeout') p.script = n => (n === 0 ? { type: 'forever' } : { type: 'work' })
    else p.host = () => (p.arrived.length > 1 ? undefined : tooLarge)
    const first = await w.finish((await w.create({ a: [] })).id)
    const second = await w.finish((await resumed(w, first)).id)
    expect([first.error?.code, second.error?.code, p.arrived.length]).toEqual([code, code, 1])
    expect(await w.finish((await resumed(w, second)).id)).toMatchObject({ status: 'succeeded' })
    expect(p.arrived).toHaveLength(2)
  })

  test('asks for nothing where there was a call and no job', async () => {
    const { w, p } = await begun()
    p.answer = { type: 'failed', error: stepError('output_invalid', 'without a picture'), jobless: true }
    const { id } = await w.create(LINE)
    const failed = await w.finish(id)
    expect(failed.error?.code).toBe('output_invalid')
    p.answer = null
    const { id: again } = await resumed(w, failed)
    const [step] = (await w.finish(again)).steps
    expect(step).toMatchObject({ status: 'succeeded', attempts: [{ no: 1 }] })
    // The first submit of the resume is a call of its own.
    expect(p.arrived.filter(job => job.stepId === step?.id)).toHaveLength(1)
  })

  test('takes no place of its key for a job that runs already', async () => {
    const { w, p } = await begun({ limits: { maxRunning: 1 } })
    p.host = () => refused(404, true)
    const failed = await w.finish((await w.create(LINE)).id)
    p.host = () => undefined
    p.script = () => ({ type: 'work', ms: 600_000 })
    const other = await w.create({ a: [] })
    await w.settle(() => p.arrived.length === 2)
    const { id } = await resumed(w, failed)
    // Its picture comes at once; its film waits until the other run has ended.
    await w.settle(() => false, 60_000)
    expect((await w.process.registry.run(id))?.steps.map(step => step.status)).toEqual(['succeeded', 'queued'])
    for (const each of [other.id, id]) expect((await w.finish(each)).status).toBe('succeeded')
  })
})

describe('a webhook that names a job whose submit was never answered, while', () => {
  /** A run that ended without an answer to its submit, whose webhook then came. */
  async function named(
    spoil: (p: Hosted) => unknown,
  ): Promise<{ w: World; p: Hosted; run: Run; hint: () => Promise<Run> }> {
    const { w, p } = await begun()
    p.canFind = false
    p.script = n => (n === 0 ? { type: 'swallow' } : { type: 'work' })
    const { id } = await w.create({ a: [] })
    expect((await w.finish(id)).error?.code).toBe('outcome_unknown')
    const token = p.jobs[0]?.token ?? ''
    const hint = async () => {
      await w.process.registry.hint(token, { job: token })
      return (await w.process.store.run(id)) as Run
    }
    spoil(p)
    return { w, p, run: await hint(), hint }
  }
  const atWork: Checked = { type: 'pending', progress: null, pollAfterMs: 1_000 }
  const away: Checked = { type: 'unreachable', error: stepError('network_error', 'nobody'), pollAfterMs: 1_000 }
  const CAUSES: readonly (readonly [string, (p: Hosted) => unknown])[] = [
    ['its output cannot be fetched', p => (p.host = () => refused(503))],
    ['it is at work', p => (p.check = async () => atWork)],
    ['the provider does not answer', p => (p.check = async () => away)],
  ]

  const mend = (p: Hosted) => {
    p.host = () => undefined
    p.check = Hosted.prototype.check
  }

  test.each(CAUSES)('%s, lets a resume ask for it and pay no other', async (_, spoil) => {
    const { w, p, run } = await named(spoil)
    expect(run.steps[0]?.attempts[0]).toMatchObject({ jobRef: { job: p.jobs[0]?.token }, lateResult: { outputs: [] } })
    mend(p)
    expect((await w.finish((await resumed(w, run)).id)).status).toBe('succeeded')
    expect(p.arrived).toHaveLength(1)
  })

  test.each(CAUSES)('%s, is followed by one that brings the output', async (_, spoil) => {
    const { p, hint } = await named(spoil)
    mend(p)
    expect((await hint()).steps[0]?.attempts[0]?.lateResult).toMatchObject({ outputs: [{}], error: null })
  })
})

describe('what came is judged in one place', () => {
  const media = ['first', 'second'].map(name => ({ url: `https://cdn.example/${name}` }))
  const invalid = (retryable: boolean): Kept => ({ ok: false, error: stepError('output_invalid', 'no', { retryable }) })
  const good = (id: string): Kept => ({
    ok: true,
    output: { mediaId: id, mime: 'image/png', bytes: 1, sha256: '', location: id },
  })

  /** One copy of two files, of which storage says this, one after the other. */
  async function copied(said: ((id: string) => Kept)[], files: readonly ProviderMedia[] = media) {
    const answers = [...said]
    const provider = { open: async () => ({ ok: true, stream: new Blob(['x']).stream(), mime: null, length: 1 }) }
    const deps = {
      providers: new Map([['p', provider as unknown as Provider]]),
      media: {
        keepAgain: async () => null,
        keep: async ({ id }: KeepOrder) => answers.shift()?.(id) ?? good(id),
        openStash: provider.open,
      } as never,
      observer: { fault: () => {} } as never,
      gate: { stored: () => {}, refused: () => {}, refusedSince: () => null, lookIfSlow: () => () => {} },
    }
    const run = runOf({ a: [] })
    const attempt = { no: 1, provider: 'p' } as Attempt
    return keepOutputs(deps, run, run.steps[0] as Step, attempt, files, new AbortController().signal)
  }

  test('a frame beside a film, or a film beside a picture, is passed over', async () => {
    for (const said of [
      [() => invalid(false), good],
      [good, () => invalid(false)],
    ])
      expect(await copied(said)).toMatchObject({ type: 'media.kept', outputs: [{ sha256: '' }] })
  })

  test('but is no output where it is alone', async () => {
    const none = () => invalid(false)
    expect(await copied([none, none])).toMatchObject({ fault: 'final', outputs: [], error: { code: 'output_invalid' } })
  })

  test('a web page is fetched again, and what is good beside it is told', async () => {
    expect(await copied([() => invalid(true), good])).toMatchObject({ fault: 'spoiled', outputs: [{ sha256: '' }] })
  })

  test('a film whose copy broke off is not given up for the picture beside it', async () => {
    const broken = (): Kept => {
      throw new Error('it broke')
    }
    expect(await copied([() => invalid(false), broken])).toMatchObject({ fault: 'spoiled', outputs: [] })
  })

  test('bytes that came with the answer stay what they are', async () => {
    expect(await copied([() => invalid(true)], [{ url: 'stash:t/0' }])).toMatchObject({ fault: 'final' })
  })

  test('storage that refuses one is waited for, whatever the other is', async () => {
    const full = (): Kept => ({ ok: false, error: stepError('storage_unavailable', 'full') })
    expect(await copied([() => invalid(true), full])).toMatchObject({ fault: 'away', error: { message: 'full' } })
  })
})
