/**
 * The failover drill, over real HTTP: what becomes of a step when its provider refuses, breaks, is away or is silent.
 * One row a case; its line says which attempts were made, who took a job for it (and would bill it), and how the step ended.
 *
 * Decided (providers.md section 0): what was surely not taken goes to the next host at once, and to a host that was tried
 * only after a pause; what may have been taken is looked up or awaited, and never sent elsewhere; a refused content is
 * never shopped around.
 */
import { afterEach, describe, expect, test } from 'bun:test'
import request from '../fixtures/seed.request.json'
import { Hosts, type HostsOptions, type SeenStep } from '../support/hosts.ts'
import type { Refusal, Reply, Scene } from '../support/providers/stand-in.ts'
import { samplePicture } from '../support/sample-media.ts'

interface Drill {
  /** A sentence, and the name of the test. */
  when: string
  world?: HostsOptions
  /** Which step is watched; by default the first. */
  step?: 'text_to_image' | 'image_to_video'
  order?: readonly string[]
  body?: object
  play(hosts: Hosts): void | Promise<void>
  line: string
  /** Seconds between the step's begin and end. */
  lasts?: { least: number; most: number }
  /** What the step may be seen to wait for; it gives up at its deadline, and says what was last. */
  waits?: readonly string[]
}

const { webhook_url: _hook, ...quiet } = request
/** The same chain with a film that BFL can make, for an installation that knows BFL alone. */
const quietAtBfl = {
  ...quiet,
  input: {
    chain_models: { ...quiet.input.chain_models, image_to_video_model: 'bfl/flux-3-video' },
    text_to_image_params: quiet.input.text_to_image_params,
    image_to_video_params: { prompt: 'It turns slowly', duration: 5 },
  },
}

const refuse = (why: Refusal): Scene => ({ type: 'refuse', why })
const OVERLOADED = refuse({ because: 'overloaded' })
const LIMITED = refuse({ because: 'rate_limited' })
const LIMITED_30 = refuse({ because: 'rate_limited', retryAfterS: 30 })
const TAKEN = { type: 'hang', takes: true } as const
const NOT_TAKEN = { type: 'hang', takes: false } as const

/** A chain that begins with a picture of ModelArk: one call, no task, no callback. */
const quietAtArk = {
  ...quiet,
  input: {
    ...quiet.input,
    chain_models: { ...quiet.input.chain_models, text_to_image_model: 'bytedance/seedream-4.5' },
    text_to_image_params: { prompt: 'a red boat' },
  },
}

/** A step's deadline: 15 minutes for a picture of FLUX.2, and the second in which a run that waits long is taken up. */
const DEADLINE = { least: 900, most: 903 }

const refusals: Drill[] = [
  {
    when: 'BFL has no credit for us (402)',
    play: ({ bfl }) => bfl.script(refuse({ because: 'credit' })),
    line: 'bfl insufficient_credit, fal succeeded; jobs: fal 1; succeeded',
  },
  {
    when: 'BFL limits our rate (429) with Retry-After',
    play: ({ bfl }) => bfl.script(LIMITED_30),
    line: 'bfl provider_rate_limited, fal succeeded; jobs: fal 1; succeeded',
    lasts: { least: 0, most: 15 },
  },
  {
    when: 'BFL limits our rate (429) without Retry-After',
    play: ({ bfl }) => bfl.script(LIMITED),
    line: 'bfl provider_rate_limited, fal succeeded; jobs: fal 1; succeeded',
    lasts: { least: 0, most: 15 },
  },
  {
    when: 'BFL alone limits our rate with Retry-After: the wish is kept',
    world: { keys: ['bfl'] },
    play: ({ bfl }) => bfl.script(LIMITED_30),
    line: 'bfl provider_rate_limited, bfl succeeded; jobs: bfl 1; succeeded',
    lasts: { least: 30, most: 60 },
  },
  {
    when: 'BFL alone limits our rate without Retry-After',
    world: { keys: ['bfl'] },
    play: ({ bfl }) => bfl.script(LIMITED),
    line: 'bfl provider_rate_limited, bfl succeeded; jobs: bfl 1; succeeded',
    lasts: { least: 0.5, most: 30 },
  },
  {
    when: 'BFL is overloaded (503) three times, and there are other hosts: one attempt is enough',
    play: ({ bfl }) => bfl.script(OVERLOADED, OVERLOADED, OVERLOADED),
    line: 'bfl provider_overloaded, fal succeeded; jobs: fal 1; succeeded',
  },
  {
    when: 'BFL alone is overloaded (503) three times: ever longer pauses, then it goes on',
    world: { keys: ['bfl'] },
    play: ({ bfl }) => bfl.script(OVERLOADED, OVERLOADED, OVERLOADED),
    line: 'bfl provider_overloaded, bfl provider_overloaded, bfl provider_overloaded, bfl succeeded; jobs: bfl 1; succeeded',
    lasts: { least: 3.5, most: 30 },
  },
  {
    when: 'every host is overloaded once: all are tried before the first is tried again',
    play: ({ all }) => all.forEach(host => void host.script(OVERLOADED)),
    line: 'bfl provider_overloaded, fal provider_overloaded, replicate provider_overloaded, bfl succeeded; jobs: bfl 1; succeeded',
  },
  {
    when: 'nobody listens at BFL (connection refused)',
    play: ({ bfl }) => bfl.stop(),
    line: 'bfl network_error, fal succeeded; jobs: fal 1; succeeded',
  },
  {
    when: 'BFL sends us to another host (307): nobody goes there',
    play: ({ bfl, trap }) => bfl.script({ type: 'redirect', to: `${trap.url}/v1/flux-2-flex` }),
    line: 'bfl provider_error, fal succeeded; jobs: fal 1; succeeded',
  },
  {
    when: 'the job fails at BFL',
    play: ({ bfl }) => bfl.script({ type: 'fail', how: 'error' }),
    line: 'bfl provider_error, fal succeeded; jobs: bfl 1, fal 1; succeeded',
  },
  {
    when: 'BFL refuses the input (Request Moderated)',
    play: ({ bfl }) => bfl.script({ type: 'fail', how: 'input' }),
    line: 'bfl content_rejected; jobs: bfl 1; failed: content_rejected',
  },
  {
    when: 'ModelArk refuses the input by a code without Input before it',
    step: 'image_to_video',
    play({ byteplus }) {
      const error = { code: 'SensitiveContentDetected.SevereViolation', message: 'no' }
      byteplus.script({ type: 'say', reply: { status: 400, json: { error } } })
    },
    line: 'byteplus content_rejected; jobs: none; failed: content_rejected',
  },
  {
    when: 'BFL refuses the output (Content Moderated)',
    play: ({ bfl }) => bfl.script({ type: 'fail', how: 'output' }),
    line: 'bfl content_rejected; jobs: bfl 1; failed: content_rejected',
  },
]

/** How jobs end at fal, one after the other: the status and then the result of each. */
const endAtFal =
  (...results: readonly Reply[]) =>
  ({ fal }: Hosts) => {
    for (const result of results) fal.disturb({ status: 200, json: { status: 'COMPLETED' } }, result)
  }
const failedAs = (status: number, type: string, headers: Record<string, string> = {}): Reply => ({
  ...{ status, headers },
  json: { detail: [{ loc: ['body'], msg: 'it did not work', type }] },
})
const IN_VAIN = failedAs(500, 'internal_server_error', { 'x-fal-retryable': 'false' })
const EMPTY = failedAs(422, 'no_media_generated')

const jobs: Drill[] = [
  {
    when: 'the picture is smaller than ModelArk takes one for a film: it is not asked, fal films it',
    step: 'image_to_video',
    async play({ bfl }) {
      bfl.picture = await samplePicture('png', 256, 256)
    },
    line: 'fal succeeded; jobs: fal 1; succeeded',
  },
  {
    when: 'fal says that the same request would fail again (X-Fal-Retryable: false): another host gets it',
    order: ['fal'],
    play: endAtFal(IN_VAIN),
    line: 'fal invalid_input, bfl succeeded; jobs: bfl 1, fal 1; succeeded',
  },
  {
    when: 'fal alone says that the same request would fail again: it is not paid again',
    world: { keys: ['fal'] },
    play: endAtFal(IN_VAIN, IN_VAIN),
    line: 'fal invalid_input; jobs: fal 1; failed: invalid_input',
  },
  {
    when: 'fal alone gives no picture (no_media_generated): one more job, which has one',
    world: { keys: ['fal'] },
    play: endAtFal(EMPTY),
    line: 'fal provider_error, fal succeeded; jobs: fal 2; succeeded',
  },
  {
    when: 'fal alone gives no picture twice, after a refusal that cost nothing: no third job is paid',
    world: { keys: ['fal'] },
    play(hosts) {
      hosts.fal.script(OVERLOADED)
      endAtFal(EMPTY, EMPTY, EMPTY)(hosts)
    },
    line: 'fal provider_overloaded, fal provider_error, fal output_invalid; jobs: fal 2; failed: output_invalid',
  },
]

/** Another cluster answers for the first of the time, which does not know the job. */
const stranger = (ms: number, jobMs: number) => (hosts: Hosts) => {
  hosts.bfl.strangeForMs = ms
  hosts.bfl.script({ type: 'work', ms: jobMs })
}

const strangers: Drill[] = [
  {
    when: 'BFL does not find the job for half a minute: it is asked again, not paid again',
    play: stranger(30_000, 35_000),
    line: 'bfl succeeded; jobs: bfl 1; succeeded',
    lasts: { least: 35, most: 59 },
  },
  {
    when: 'BFL, told of a webhook, does not find the job before that comes: then it is fetched',
    world: { webhooks: 'come' },
    play: stranger(90_000, 90_000),
    line: 'bfl succeeded; jobs: bfl 1; succeeded',
    lasts: { least: 90, most: 120 },
  },
]

const silences: Drill[] = [
  {
    when: 'BFL takes the job and cuts the line; it can be asked for no job',
    play: ({ bfl }) => bfl.script({ type: 'swallow' }),
    line: 'bfl outcome_unknown; jobs: bfl 1; failed: outcome_unknown',
  },
  {
    when: 'BFL takes the job and never answers; it can be asked for no job',
    play: ({ bfl }) => bfl.script(TAKEN),
    line: 'bfl outcome_unknown; jobs: bfl 1; failed: outcome_unknown',
    lasts: { least: 60, most: 90 },
  },
  {
    when: 'BFL reads the request, takes nothing and never answers: for us that is the same',
    play: ({ bfl }) => bfl.script(NOT_TAKEN),
    line: 'bfl outcome_unknown; jobs: none; failed: outcome_unknown',
    lasts: { least: 60, most: 90 },
  },
  {
    when: 'BFL takes the job and never answers, but its webhook comes',
    world: { webhooks: 'come' },
    play: ({ bfl }) => bfl.script(TAKEN),
    line: 'bfl succeeded; jobs: bfl 1; succeeded',
  },
  {
    when: 'BFL takes the job, never answers, and its webhook is lost: awaited to the deadline',
    world: { webhooks: 'are lost' },
    play: ({ bfl }) => bfl.script(TAKEN),
    line: 'bfl outcome_unknown; jobs: bfl 1; failed: outcome_unknown',
    lasts: DEADLINE,
  },
  {
    when: 'BFL never answers, and the operator accepts to pay twice',
    world: { env: { BABYCHAIN_RESUBMIT_UNKNOWN: '1' } },
    play: ({ bfl }) => bfl.script(TAKEN),
    line: 'bfl network_error, fal succeeded; jobs: bfl 1, fal 1; succeeded',
  },
  {
    when: 'ModelArk takes the film and never answers: it is looked up and found',
    step: 'image_to_video',
    play: ({ byteplus }) => byteplus.script(TAKEN),
    line: 'byteplus succeeded; jobs: byteplus 1; succeeded',
    lasts: { least: 60, most: 119 },
  },
  {
    when: 'ModelArk takes the film and answers when nobody waits any more: it is looked up and found',
    step: 'image_to_video',
    play({ byteplus, clock }) {
      byteplus.script(TAKEN)
      clock.at(clock.now() + 90_000, () => byteplus.release())
    },
    line: 'byteplus succeeded; jobs: byteplus 1; succeeded',
    lasts: { least: 60, most: 180 },
  },
  {
    when: 'ModelArk takes nothing and never answers: it is looked up, not found, and the film is sent elsewhere',
    step: 'image_to_video',
    play: ({ byteplus }) => byteplus.script(NOT_TAKEN),
    line: 'byteplus network_error, fal succeeded; jobs: fal 1; succeeded',
    lasts: { least: 120, most: 300 },
  },
  {
    when: 'ModelArk alone takes nothing and never answers: not found, so it is sent there again',
    world: { keys: ['bfl', 'byteplus'] },
    step: 'image_to_video',
    play: ({ byteplus }) => byteplus.script(NOT_TAKEN),
    line: 'byteplus network_error, byteplus succeeded; jobs: byteplus 1; succeeded',
  },
  {
    when: 'ModelArk paints the picture and cuts the line: nobody can ever tell, so nobody is asked and nothing awaited',
    body: quietAtArk,
    play: ({ byteplus }) => byteplus.script({ type: 'swallow' }),
    line: 'byteplus outcome_unknown; jobs: byteplus 1; failed: outcome_unknown',
    lasts: { least: 0, most: 10 },
  },
  {
    when: 'ModelArk paints the picture and cuts the line: a picture has no webhook, wherever webhooks come',
    world: { webhooks: 'come' },
    body: quietAtArk,
    play: ({ byteplus }) => byteplus.script({ type: 'swallow' }),
    line: 'byteplus outcome_unknown; jobs: byteplus 1; failed: outcome_unknown',
    lasts: { least: 0, most: 10 },
  },
  {
    when: 'ModelArk paints the picture and cuts the line, and the operator accepts to pay twice',
    world: { env: { BABYCHAIN_RESUBMIT_UNKNOWN: '1' } },
    body: quietAtArk,
    play: ({ byteplus }) => byteplus.script({ type: 'swallow' }),
    line: 'byteplus network_error, fal succeeded; jobs: byteplus 1, fal 1; succeeded',
    lasts: { least: 0, most: 15 },
  },
  {
    when: 'Replicate takes the job and never answers: found by the webhook address that it carries',
    world: { webhooks: 'are lost' },
    order: ['replicate'],
    play: ({ replicate }) => replicate.script(TAKEN),
    line: 'replicate succeeded; jobs: replicate 1; succeeded',
  },
  {
    when: "Replicate takes a job without such an address and never answers: a job that may be ours is nobody else's, to the deadline",
    order: ['replicate'],
    play: ({ replicate }) => replicate.script(TAKEN),
    line: 'replicate outcome_unknown; jobs: replicate 1; failed: outcome_unknown',
    lasts: DEADLINE,
  },
  {
    when: 'Replicate takes nothing and never answers: not found, and the next host gets it',
    order: ['replicate'],
    play: ({ replicate }) => replicate.script(NOT_TAKEN),
    line: 'replicate network_error, bfl succeeded; jobs: bfl 1; succeeded',
  },
]

const outages: Drill[] = [
  {
    when: 'every host is down, each in its own way: the step waits and fails at its deadline',
    async play({ bfl, fal, replicate }) {
      bfl.always(OVERLOADED)
      replicate.always(LIMITED_30)
      await fal.stop()
    },
    line: 'bfl provider_overloaded, fal network_error, replicate provider_rate_limited, over and over; jobs: none; failed: deadline_exceeded',
    lasts: DEADLINE,
    waits: ['network_error', 'provider_overloaded', 'provider_rate_limited'],
  },
  {
    when: 'BFL alone is overloaded for ever: the step waits and fails at its deadline',
    world: { keys: ['bfl'] },
    play: ({ bfl }) => bfl.always(OVERLOADED),
    line: 'bfl provider_overloaded, over and over; jobs: none; failed: deadline_exceeded',
    lasts: DEADLINE,
    waits: ['provider_overloaded'],
  },
]

const open: Hosts[] = []
afterEach(async () => {
  for (const hosts of open.splice(0)) await hosts.close()
})

async function drill({ world, step = 'text_to_image', order, body: given, play }: Drill) {
  const hosts = await Hosts.open(world)
  open.push(hosts)
  await play(hosts)
  const isBflAlone = world?.keys?.every(id => id === 'bfl') ?? false
  const chain = given ?? (isBflAlone ? quietAtBfl : quiet)
  const body = order ? { ...chain, provider_order: { [step]: order } } : chain
  const index = step === 'text_to_image' ? 0 : 1
  const run = await hosts.stepEnd(await hosts.create(body), index)
  const seen = run.steps[index]
  if (!seen) throw new Error(`the run has no step ${step}`)
  return { hosts, run, seen, line: lineOf(hosts, seen, index === 0 ? 'image' : 'video') }
}

/** Attempts of more than this are told once each. */
const MANY = 6

function lineOf({ all }: Hosts, step: SeenStep, gives: 'image' | 'video'): string {
  const tried = step.attempts.map(each => `${each.provider} ${each.error?.code ?? each.outcome}`)
  const told = tried.length > MANY ? [...new Set(tried), 'over and over'] : tried
  const jobs = all.map(host => ({ id: host.provider, count: host.submits().filter(job => job.gives === gives).length }))
  const taken = jobs.flatMap(({ id, count }) => (count > 0 ? [`${id} ${count}`] : []))
  const end = step.error ? `${step.status}: ${step.error.code}` : step.status
  return `${told.join(', ')}; jobs: ${taken.join(', ') || 'none'}; ${end}`
}

for (const [what, drills] of Object.entries({ refusals, jobs, strangers, silences, outages })) {
  describe(`failover, ${what}`, () => {
    for (const row of drills) {
      test(row.when, async () => {
        const { hosts, line, seen, run } = await drill(row)
        const seconds = (Date.parse(seen.completed_at ?? '') - Date.parse(seen.started_at)) / 1_000
        console.log(`${row.when}\n    ${line} (${seconds.toFixed(1)} s)`)
        expect(line).toBe(row.line)
        if (row.lasts) expect(seconds).toBeWithin(row.lasts.least, row.lasts.most)
        expect(hosts.trap.caught).toEqual([])
        if (!row.waits) return
        expect(hosts.waits.size).toBeGreaterThan(0)
        for (const code of hosts.waits) expect(row.waits).toContain(code)
        const typed = { code: 'deadline_exceeded', blame: 'provider', retryable: true, hint: expect.any(String) }
        const last = expect.stringMatching(/the deadline of the step passed; last: (bfl|fal|replicate) /)
        expect(seen.error).toMatchObject({ ...typed, message: last })
        expect([run.status, run.error?.code, run.steps[1]?.status]).toEqual(['failed', typed.code, 'skipped'])
      }, 60_000)
    }
  })
}

test('Gemini gives words and no picture: the calls ran, so nobody says that they were free, and there are two of them', async () => {
  const hosts = await Hosts.open({ keys: ['google', 'byteplus'] })
  open.push(hosts)
  hosts.google.always({ type: 'fail', how: 'empty' })
  const chain_models = { ...quiet.input.chain_models, text_to_image_model: 'google/nano-banana' }
  const input = { ...quiet.input, chain_models, text_to_image_params: { prompt: 'a poem' } }
  const [step] = (await hosts.stepEnd(await hosts.create({ ...quiet, input }))).steps
  expect(step?.error).toMatchObject({ code: 'output_invalid', message: 'google answered without a picture' })
  expect(hosts.google.calls.map(call => call.method)).toEqual(['POST', 'POST'])
  for (const { cost } of step?.attempts ?? [])
    expect(cost).toEqual({ estimated_usd: 0.039, actual_usd: null, basis: 'upper_bound' })
})
