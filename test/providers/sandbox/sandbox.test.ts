import { afterEach, beforeEach, describe, expect, test } from 'bun:test'
import { mkdtemp, readdir, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { StepError } from '../../../src/core/errors.ts'
import type { JsonObject } from '../../../src/core/json.ts'
import type { Role } from '../../../src/core/model.ts'
import type { Checked, Opened, Provider, Started, StartJob } from '../../../src/core/ports.ts'
import { InputPictureError } from '../../../src/providers/sandbox/canvas.ts'
import { MISBEHAVIOR, wishesIn } from '../../../src/providers/sandbox/misbehavior.ts'
import type { FilmOrder, Painter, PictureOrder } from '../../../src/providers/sandbox/painting.ts'
import { createSandbox } from '../../../src/providers/sandbox/sandbox.ts'
import { openStudio } from '../../../src/providers/sandbox/studio.ts'
import { inspect, sniff } from '../../../src/store/media/sniff.ts'
import { type ProviderRig, providerContract, type Scenario } from '../../contract/provider.contract.ts'
import { sampleFilm, samplePicture } from '../../support/sample-media.ts'
import { readJobs } from '../../support/sandbox-jobs.ts'

const LATENCY = { imageMs: 1_500, videoMs: 4_000 }
const DAY = 24 * 3_600_000
const SEED_PROMPT =
  'A futuristic wireless headphone product on a clean reflective pedestal, teal and violet studio lighting'

const WORDS: Record<Scenario, string> = {
  succeeds: '',
  fails: '#fail',
  refuses_content: '#moderate',
  rejects_output: '#moderate-output',
  rate_limited: '#429',
  overloaded: '#503',
  loses_answer: '#unknown',
  vanishes: '#lost',
  expires: '#expire',
}

const TRAITS = {
  scenarios: Object.keys(WORDS) as Scenario[],
  progress: true,
  find: true,
  cancel: { running: 'confirmed', ended: 'failed' },
} as const

providerContract('sandbox, pictures', TRAITS, () => openRig('text_to_image'))
providerContract('sandbox, films', TRAITS, () => openRig('image_to_video'))

describe('the sandbox', () => {
  let rig: Rig
  beforeEach(async () => {
    rig = await openRig('text_to_image')
  })
  afterEach(() => rig.close())

  test('a job takes its time, and its progress grows', async () => {
    const ref = await accepted(rig, { params: { prompt: 'x' } })
    const seen: unknown[] = []
    for (let i = 0; i < 4; i++) {
      const checked = await rig.check(ref)
      seen.push(checked.type === 'pending' ? checked.progress : checked.type)
      rig.advance(500)
    }
    expect(seen).toEqual([0, 0.33, 0.67, 'succeeded'])
  })

  test('films take longer than pictures, and #slow takes what it says', async () => {
    await rig.start({ params: { prompt: 'x' } })
    await rig.start({ role: 'image_to_video', params: { prompt: 'x' } })
    await rig.start({ params: { prompt: 'x #slow=20s' } })
    const times = (await rig.jobs()).map(job => job.dueAt - job.startedAt)
    expect(times.sort((a, b) => a - b)).toEqual([1_500, 4_000, 20_000])
  })

  test('a submit that is held back starts nothing, and one that goes has said so before', async () => {
    const job = rig.call({ params: { prompt: 'x' } })
    const full = async (): Promise<void> => {
      throw new Error('the disk is full')
    }
    await expect(rig.provider.start({ ...job, sending: full }, NEVER)).rejects.toThrow('the disk is full')
    expect(await rig.jobs()).toEqual([])
    const before: number[] = []
    const sending = async (): Promise<void> => void before.push((await rig.jobs()).length)
    await rig.provider.start({ ...job, sending }, NEVER)
    expect([before, (await rig.jobs()).length]).toEqual([[0], 1])
  })

  test('nothing is asked twice: a second submit with a token is counted and starts nothing', async () => {
    await rig.start({ params: { prompt: 'first' } })
    const job = rig.call({ params: { prompt: 'x' } })
    const both = await Promise.all([rig.provider.start(job, NEVER), rig.provider.start(job, NEVER)])
    expect(both.map(started => started.type)).toEqual(['accepted', 'accepted'])
    await rig.provider.start(job, NEVER)
    expect(await rig.submits(job.token)).toBe(3)
    rig.advance(2_000)
    await rig.check({ token: job.token })
    expect(rig.studio.painted.map(order => order.prompt).toSorted()).toEqual(['first', 'x'])
  })

  test('a second submit of what was refused is refused, and takes no other attempt’s turn', async () => {
    const attempts = [0, 1, 2].map(() => rig.call({ params: { prompt: 'x #429=2' }, stepId: 'step-a' }))
    const types: string[] = []
    for (const job of [attempts[0], attempts[0], attempts[1], attempts[2]]) {
      if (job) types.push((await rig.provider.start(job, NEVER)).type)
    }
    expect(types).toEqual(['refused', 'refused', 'refused', 'accepted'])
  })

  test('the record is on disk before the answer, whole', async () => {
    const job = rig.call({ params: { prompt: 'x' } })
    await rig.provider.start(job, NEVER)
    expect(await readdir(join(rig.dataDir, 'sandbox', 'jobs'))).toEqual([`${job.token}.json`])
  })

  test('what a killed process did not paint, the next one paints, to the same bytes', async () => {
    await rig.hang()
    const ref = await accepted(rig, { params: { prompt: 'x' } })
    rig.advance(5_000)
    expect(await rig.check(ref)).toMatchObject({ type: 'pending', progress: 0.97 })
    await rig.restart()
    expect((await rig.check(ref)).type).toBe('succeeded')
    expect(rig.studio.painted).toHaveLength(2)
    expect(rig.studio.painted[0]).toEqual(rig.studio.painted[1] as PictureOrder)
  })

  test('the makers’ parameters reach the studio, the words of misbehavior do not', async () => {
    const params = { prompt: 'A boat #expire at dawn', width: 640, height: 480, seed: 593, output_format: 'webp' }
    await succeed(rig, { params })
    const order = { prompt: 'A boat at dawn', width: 640, height: 480, seed: 593, format: 'webp' }
    expect(rig.studio.painted).toEqual([order as PictureOrder])
  })

  test('without a seed every job has its own', async () => {
    for (let i = 0; i < 3; i++) await succeed(rig, { params: { prompt: 'x' } })
    expect(new Set(rig.studio.painted.map(order => order.seed)).size).toBe(3)
  })

  test('several pictures are several outputs, each with its own seed', async () => {
    const media = await succeed(rig, { model: 'openai/gpt-image-1.5', params: { prompt: 'x', n: 3, seed: 10 } })
    expect(media.map(each => each.mime)).toEqual(['image/png', 'image/png', 'image/png'])
    expect(rig.studio.painted.map(order => order.seed)).toEqual([10, 11, 12])
    expect(new Set(media.map(each => each.url)).size).toBe(3)
  })

  test('an input picture is read at the submit and gives a film its shape', async () => {
    rig.inputs.set('media:1', await samplePicture('png', 120, 200))
    await succeed(rig, {
      role: 'image_to_video',
      params: { ratio: 'adaptive', resolution: '480p' },
      pictures: ['media:1'],
    })
    expect(rig.studio.painted).toMatchObject([{ width: 496, height: 864, seconds: 5, fps: 24, input: 'png' }])
  })

  test('an input picture that cannot be read refuses the submit', async () => {
    const missing = await rig.start({
      role: 'image_to_image',
      params: { prompt: 'x' },
      pictures: ['https://example.com/no.png'],
    })
    expect(missing).toMatchObject({ type: 'refused', error: { code: 'input_fetch_failed' } })
    rig.inputs.set('media:2', new TextEncoder().encode('<html>'))
    const garbage = await rig.start({ role: 'image_to_image', params: { prompt: 'x' }, pictures: ['media:2'] })
    expect(garbage).toMatchObject({ type: 'refused', error: { code: 'input_fetch_failed', blame: 'caller' } })
    expect((await rig.jobs()).every(job => job.refused)).toBeTrue()
  })

  test('an input picture that only the studio finds broken ends the job', async () => {
    rig.studio.failWith(new InputPictureError('undecodable', 'The input cannot be decoded.'))
    const ref = await accepted(rig, { params: { prompt: 'x' } })
    rig.advance(2_000)
    expect(failed(await rig.check(ref))).toMatchObject({
      code: 'input_fetch_failed',
      message: 'The input cannot be decoded.',
    })
  })

  test('a studio that breaks is tried three times', async () => {
    rig.studio.failWith(new Error('worker gone'))
    const ref = await accepted(rig, { params: { prompt: 'x' } })
    rig.advance(2_000)
    const types: string[] = []
    for (let i = 0; i < 4; i++) types.push((await rig.check(ref)).type)
    expect(types.at(-1)).toBe('failed')
    expect(failed(await rig.check(ref))).toMatchObject({ code: 'provider_error', retryable: true })
    expect(rig.studio.painted.length).toBeLessThanOrEqual(3)
  })

  test('a submit that is given up before its record is written leaves none', async () => {
    const started = await rig.provider.start(rig.call({ params: { prompt: 'x' } }), AbortSignal.abort())
    expect(started).toMatchObject({ type: 'refused', error: { code: 'network_error' } })
    expect(await rig.jobs()).toEqual([])
  })

  test('cancel works until the output is there', async () => {
    await rig.hang()
    const ref = await accepted(rig, { params: { prompt: 'x' } })
    rig.advance(60_000)
    expect((await rig.check(ref)).type).toBe('pending')
    expect(await rig.provider.cancel(ref, NEVER)).toBe('confirmed')
    expect(failed(await rig.check(ref)).code).toBe('canceled')
  })

  test('a day later nothing is left, and what is younger stays', async () => {
    rig.inputs.set('media:3', await samplePicture('png'))
    await succeed(rig, { role: 'image_to_image', params: { prompt: 'x #429=0' }, pictures: ['media:3'] })
    rig.advance(DAY - 3_600_000)
    await succeed(rig, { params: { prompt: 'y' } })
    expect(await rig.jobs()).toHaveLength(2)
    rig.advance(2 * DAY)
    await rig.start({ params: { prompt: 'z' } })
    expect((await rig.jobs()).map(job => job.order.prompt)).toEqual(['z'])
    const [z] = await rig.jobs()
    const files = await readdir(join(rig.dataDir, 'sandbox', 'files'))
    expect(files.filter(file => !file.startsWith(`${z?.token}.`))).toEqual([])
  })
})

describe('misbehavior', () => {
  let rig: Rig
  beforeEach(async () => {
    rig = await openRig('text_to_image')
  })
  afterEach(() => rig.close())
  const params = (prompt: string) => ({ params: { prompt } })

  test('#429=2 and #503=1 refuse the first submits of a step, over its attempts and restarts', async () => {
    const answers: unknown[] = []
    for (let i = 0; i < 5; i++) {
      const started = await rig.start({ ...params('x #429=2 #503'), stepId: 'step-a' })
      answers.push(started.type === 'refused' ? [started.error.code, started.error.retryAfterMs] : started.type)
      await rig.restart()
    }
    expect(answers).toEqual([
      ['provider_rate_limited', 1_000],
      ['provider_rate_limited', 1_000],
      ['provider_overloaded', undefined],
      'accepted',
      'accepted',
    ])
    expect((await rig.start({ ...params('x #429=2'), stepId: 'step-b' })).type).toBe('refused')
  })

  test.each([
    ['#fail=2', 'provider_error'],
    ['#lost=2', 'provider_lost'],
    ['#moderate-output=2', 'content_rejected'],
  ])('%s ends two jobs of a step, then it works', async (word, code) => {
    const ends: string[] = []
    for (let i = 0; i < 3; i++) {
      const ref = await accepted(rig, { ...params(`x ${word}`), stepId: 'step-a' })
      rig.advance(2_000)
      const checked = await rig.check(ref)
      ends.push(checked.type === 'failed' ? checked.error.code : checked.type)
    }
    expect(ends).toEqual([code, code, 'succeeded'])
  })

  test('#fail without a number fails for ever, and nothing is painted', async () => {
    for (let i = 0; i < 4; i++) {
      const ref = await accepted(rig, { ...params('x #fail'), stepId: 'step-a' })
      expect((await rig.check(ref)).type).toBe('pending')
      rig.advance(2_000)
      expect(failed(await rig.check(ref)).code).toBe('provider_error')
    }
    expect(rig.studio.painted).toEqual([])
  })

  test('#lost vanishes half way', async () => {
    const ref = await accepted(rig, params('x #lost'))
    rig.advance(700)
    expect((await rig.check(ref)).type).toBe('pending')
    rig.advance(100)
    expect(failed(await rig.check(ref)).code).toBe('provider_lost')
  })

  test('#garbage gives a web page, #empty nothing, #truncate half of what it announces', async () => {
    const page = await opened(rig, (await succeed(rig, params('x #garbage')))[0])
    expect([page.mime, page.text.startsWith('<!doctype html>'), page.bytes]).toEqual([
      'text/html',
      true,
      page.length as number,
    ])
    const nothing = await opened(rig, (await succeed(rig, params('x #empty')))[0])
    expect([nothing.length, nothing.bytes]).toEqual([0, 0])
    const half = await opened(rig, (await succeed(rig, params('x #truncate')))[0])
    expect(half.bytes).toBe(Math.floor((half.length ?? 0) / 2))
  })

  test('#truncate=2 breaks off twice, then the output is whole', async () => {
    const [media] = await succeed(rig, params('x #truncate=2'))
    const whole: boolean[] = []
    for (let i = 0; i < 3; i++) {
      const { bytes, length } = await opened(rig, media)
      whole.push(bytes === length)
    }
    expect(whole).toEqual([false, false, true])
  })

  test('#expire=2 kills two links, each once it is opened', async () => {
    const ref = await accepted(rig, params('x #expire=2'))
    rig.advance(2_000)
    const urls: string[] = []
    for (let i = 0; i < 3; i++) {
      const checked = await rig.check(ref)
      const url = checked.type === 'succeeded' ? (checked.media[0]?.url ?? '') : ''
      urls.push(url)
      expect((await rig.provider.open({ url }, NEVER)).ok).toBe(i === 2)
    }
    expect(new Set(urls).size).toBe(3)
    for (const url of urls.slice(0, 2)) expect(await rig.provider.open({ url }, NEVER)).toMatchObject({ expired: true })
  })

  test('words are found anywhere, taken out of the prompt, and nothing else is touched', () => {
    expect(wishesIn('A #sunset, #fail=2 over #429 the#fail sea ##lost')).toEqual({
      prompt: 'A #sunset, over the#fail sea ##lost',
      times: { '#fail': 2, '#429': 1 },
      slowMs: null,
    })
    expect(wishesIn('#SLOW=2m #slow-motion #expired #moderate-outputs x')).toMatchObject({
      prompt: '#slow-motion #expired #moderate-outputs x',
      slowMs: 120_000,
    })
    expect(wishesIn('#slow=9h #fail=x')).toEqual({ prompt: '#slow=9h #fail=x', times: {}, slowMs: null })
    expect(wishesIn('#slow=999999m').slowMs).toBe(12 * 3_600_000)
    expect(wishesIn('two  spaces')).toEqual({ prompt: 'two  spaces', times: {}, slowMs: null })
  })

  test('every word of the table does something, and its example is understood', () => {
    for (const { word, example } of MISBEHAVIOR) expect(wishesIn(`x ${example}`).times[word]).toBeDefined()
  })
})

describe('with the real studio', () => {
  test('the seed’s chain gives a square JPEG and a square film of three seconds', async () => {
    const studio = openStudio()
    const rig = await openRig('text_to_image', studio)
    try {
      const params = {
        prompt: SEED_PROMPT,
        width: 1024,
        height: 1024,
        prompt_upsampling: false,
        seed: 593,
        safety_tolerance: 5,
        output_format: 'jpeg',
      }
      const [picture] = await succeed(rig, { model: 'bfl/flux-2-flex', params })
      const jpeg = await bytesIn(rig, picture)
      expect(await factsOf(jpeg)).toEqual({ mime: 'image/jpeg', complete: true, width: 1024, height: 1024 })
      rig.inputs.set('media:picture', jpeg)
      const content = [{ type: 'text', text: 'Slow cinematic orbit around the product' }]
      const [film] = await succeed(rig, {
        role: 'image_to_video',
        model: 'bytedance/seedance-1.5-pro',
        params: { content, ratio: '1:1', duration: 3, watermark: false },
        pictures: ['media:picture'],
      })
      const mp4 = await bytesIn(rig, film)
      expect(await factsOf(mp4)).toEqual({ mime: 'video/mp4', complete: true, width: 960, height: 960, seconds: 3 })
      expect(mp4.length).toBeLessThan(2.5e6)
    } finally {
      studio.close()
      await rig.close()
    }
  }, 30_000)
})

const NEVER = new AbortController().signal

interface Call {
  role?: Role
  model?: string
  params?: JsonObject
  pictures?: string[]
  stepId?: string
}

interface Rig extends ProviderRig {
  dataDir: string
  studio: SampleStudio
  inputs: Map<string, Uint8Array>
  /** Of checks, after the next restart (ms). */
  patienceMs: number
  /** A process whose studio never gets anything done, and whose checks do not wait for it. */
  hang(): Promise<void>
  advance(ms: number): void
  call(call: Call): StartJob
  start(call: Call): Promise<Started>
  check(ref: JsonObject): Promise<Checked>
  jobs(): ReturnType<typeof readJobs>
}

let calls = 0

async function openRig(role: Role, painter?: Painter): Promise<Rig> {
  const dataDir = await mkdtemp(join(tmpdir(), 'babychain-sandbox-'))
  let now = Date.now()
  const studio = new SampleStudio()
  const inputs = new Map<string, Uint8Array>()
  const make = (): Provider =>
    createSandbox({
      dataDir,
      studio: painter ?? studio,
      latency: LATENCY,
      now: () => now,
      patienceMs: rig.patienceMs,
      readInput: async ref => {
        const bytes = inputs.get(ref)
        return bytes ? { ok: true, picture: { bytes, mime: 'image/png' } } : { ok: false, error: UNREADABLE }
      },
    })
  const rig: Rig = {
    dataDir,
    studio,
    inputs,
    // Long, since a busy machine paints slowly; a check comes back as soon as the output is there.
    patienceMs: 20_000,
    provider: NOBODY,
    call({ role: own = role, model = 'bfl/flux-2-flex', params = {}, pictures = [], stepId }) {
      calls += 1
      const body = { role: own, params, pictures }
      const ids = { runId: 'run-1', stepId: stepId ?? `step-${calls}`, token: `token-${calls}` }
      return {
        ...ids,
        jobsBefore: 0,
        providerModel: model,
        role: own,
        body,
        callbackUrl: null,
        stash: async () => 'stash:x/0',
        sending: async () => {},
      }
    },
    job: scenario => rig.call({ params: { prompt: `A boat ${WORDS[scenario]}` } }),
    start: call => rig.provider.start(rig.call(call), NEVER),
    check: ref => rig.provider.check(ref, NEVER),
    jobs: () => readJobs(dataDir),
    advance: ms => {
      now += ms
    },
    submits: async token => (await readJobs(dataDir)).find(job => job.token === token)?.submits ?? 0,
    hang: async () => {
      rig.patienceMs = 20
      await rig.restart()
      rig.patienceMs = 20_000
      studio.stop()
    },
    restart: async () => {
      studio.go()
      rig.provider = make()
      return rig.provider
    },
    close: () => rm(dataDir, { recursive: true, force: true }),
  }
  await rig.restart()
  return rig
}

/** Until the first start. */
const NOBODY = {} as Provider

const UNREADABLE: StepError = {
  code: 'input_fetch_failed',
  blame: 'caller',
  retryable: false,
  message: 'there is no such picture',
  hint: 'give another',
}

type Painted = (PictureOrder | FilmOrder) & { input?: string }

/** Paints plain pictures of the right format at once, and remembers its orders. */
class SampleStudio implements Painter {
  painted: Painted[] = []
  #error: Error | null = null
  #stopped = false

  /** From now on nothing gets done: the worker hangs, as in a process that is about to die. */
  stop(): void {
    this.#stopped = true
  }
  go(): void {
    this.#stopped = false
  }
  failWith(error: Error): void {
    this.#error = error
  }
  async paint(order: PictureOrder) {
    await this.#take(order)
    return { bytes: await samplePicture(order.format), mime: `image/${order.format}` }
  }
  async transform(order: PictureOrder, input: Uint8Array) {
    await this.#take({ ...order, input: sniff(input)?.ext ?? 'unknown' })
    return { bytes: await samplePicture(order.format), mime: `image/${order.format}` }
  }
  async film(order: FilmOrder, input: Uint8Array | null) {
    await this.#take(input ? { ...order, input: sniff(input)?.ext ?? 'unknown' } : order)
    return { bytes: sampleFilm(order), mime: 'video/mp4' }
  }
  async #take(order: Painted): Promise<void> {
    this.painted.push(order)
    if (this.#error) throw this.#error
    if (this.#stopped) await new Promise(() => {})
  }
}

async function accepted(rig: Rig, call: Call): Promise<JsonObject> {
  const started = await rig.start(call)
  if (started.type !== 'accepted') throw new Error(`${started.type}: ${JSON.stringify(started)}`)
  return started.jobRef as JsonObject
}

async function succeed(rig: Rig, call: Call) {
  const ref = await accepted(rig, call)
  rig.advance(60_000)
  for (let i = 0; i < 20; i++) {
    const checked = await rig.check(ref)
    if (checked.type === 'succeeded') return checked.media
    if (checked.type !== 'pending') throw new Error(JSON.stringify(checked))
  }
  throw new Error('never painted')
}

function failed(checked: Checked): StepError {
  if (checked.type !== 'failed') throw new Error(`not failed: ${checked.type}`)
  return checked.error
}

async function opened(rig: Rig, media: { url: string } | undefined) {
  const answer: Opened = await rig.provider.open({ url: media?.url ?? '' }, NEVER)
  if (!answer.ok) throw new Error(answer.error.message)
  const bytes = new Uint8Array(await new Response(answer.stream).arrayBuffer())
  return { mime: answer.mime, length: answer.length, bytes: bytes.length, text: new TextDecoder().decode(bytes) }
}

async function bytesIn(rig: Rig, media: { url: string } | undefined): Promise<Uint8Array> {
  const answer = await rig.provider.open({ url: media?.url ?? '' }, NEVER)
  if (!answer.ok) throw new Error(answer.error.message)
  return new Uint8Array(await new Response(answer.stream).arrayBuffer())
}

async function factsOf(bytes: Uint8Array) {
  const format = sniff(bytes)
  if (!format) throw new Error('not a media file')
  return {
    mime: format.mime,
    ...(await inspect(format, bytes.length, async (from, length) => bytes.subarray(from, from + length))),
  }
}
