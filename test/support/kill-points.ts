/**
 * kill -9 at the named moments of a run (rules.md 2.2, C1 to C10) in the real process, hit from outside: by the provider,
 * the receiver or the caller at that very call, or by the kernel at that very write. C11 is kill-commits.ts.
 *
 * 1. What must hold at every point: the same order sent again is the same run, no step is paid twice, the run ends
 *    once, its callback has one id, and nothing half made is ever on disk.
 * 2. A point that was not reached is a failure, not a pass.
 */
import { performance } from 'node:perf_hooks'
import type { CrashState } from './crash-state.ts'
import type { Moment } from './gate.ts'
import { type Answer, type Painter, PointWorld, type Seen } from './point-world.ts'
import type { Hook } from './providers/stand-in.ts'
import { until } from './server.ts'

export interface Point {
  /** The row of the table. */
  row: string
  name: string
  painter?: Painter
  /** Brings the server to the point where it dies. */
  strike(world: PointWorld): Promise<void>
  /** What must lie on disk, which shows that the point was hit: states of steps and callbacks; and jobs at providers by then. */
  left?: { runs?: number; steps?: RegExp; callbacks?: RegExp; jobs?: number }
  /** What the others do after the restart, beside the caller who always sends his order again. */
  afterwards?(world: PointWorld): Promise<void>
  end?: { status?: string; code?: string; jobs?: number; callbacks?: number }
}

export interface PointReport {
  row: string
  name: string
  /** What is not as it must be. */
  wrong: string[]
  left: string
  /** From the restart to readiness, and from the death to the callback (ms). */
  readyMs: number
  endedMs: number
  /** How long after its due time the callback came (ms), where it had one. */
  lateMs: number | null
}

const SUBMIT = /^POST \/prompt/
const PICTURE = /^POST \/v1\/images/
const FILM = /^GET \/view.*mp4/
const HOOK = /^POST \/hook/

/** Sends the order, and stops the run at a moment of a call at a gate. */
function at(
  gate: keyof PointWorld['gates'],
  call: RegExp,
  moment: Moment,
  spring: (w: PointWorld) => Promise<boolean>,
) {
  return async (world: PointWorld): Promise<void> => {
    void world.gates[gate].trap({ call, moment, spring: () => spring(world) })
    await world.post()
  }
}
const kill = (world: PointWorld): Promise<boolean> => world.kill()
const beforeCommit = (world: PointWorld): Promise<boolean> => world.armBeforeCommit()
const afterCommit = (world: PointWorld): Promise<boolean> => world.armAfterCommit()
const beforeConnect = (world: PointWorld): Promise<boolean> =>
  world.arm({ calls: ['connect'], inject: 'signal=KILL', when: '1' })
const beforeRename = (world: PointWorld): Promise<boolean> =>
  world.arm({ calls: ['?rename', '?renameat', 'renameat2'], inject: 'signal=KILL', when: '1' })

/** Gives the job's webhook once the provider has it. */
function hookOf(world: PointWorld): Promise<Hook> {
  return until("the provider's webhook is due", async () => world.hooks[0])
}

export const POINTS: readonly Point[] = [
  {
    row: 'C1',
    name: 'before the commit of a POST',
    strike: async world => {
      await beforeCommit(world)
      await world.post()
    },
    left: { runs: 0, jobs: 0 },
  },
  { row: 'C1', name: 'while the POST is on its way', strike: world => world.postAndKill() },
  {
    row: 'C2',
    name: 'after the commit of a POST, before its 202 leaves',
    strike: async world => {
      await afterCommit(world)
      await world.post()
    },
    left: { steps: /^(queued|submitting) queued$/, jobs: 0 },
  },
  {
    row: 'C2',
    name: 'when the 202 has arrived',
    strike: async world => {
      await world.post()
      await kill(world)
    },
    left: { runs: 1 },
  },
  {
    row: 'C3',
    name: 'after the intent, before a connection to the provider',
    strike: async world => {
      await beforeConnect(world)
      await world.post()
    },
    left: { steps: /^submitting queued$/, jobs: 0 },
  },
  {
    row: 'C4',
    name: 'the submit has left, and the provider has not taken it',
    strike: at('comfy', SUBMIT, 'arrived', kill),
    left: { steps: /^submitting queued$/, jobs: 0 },
  },
  {
    row: 'C4',
    name: 'the provider has taken the job, its answer is lost: looked up',
    strike: at('comfy', SUBMIT, 'taken', kill),
    left: { steps: /^submitting queued$/, jobs: 1 },
  },
  {
    row: 'C4',
    name: 'the same where nobody can look it up: outcome_unknown',
    painter: 'bfl',
    strike: at('painter', /^POST /, 'taken', kill),
    left: { steps: /^submitting queued$/, jobs: 1 },
    end: { status: 'failed', code: 'outcome_unknown', jobs: 1 },
  },
  {
    row: 'C4',
    name: 'the same where the provider calls back: its webhook brings the job home',
    painter: 'replicate',
    strike: at('painter', /^POST .*predictions/, 'taken', kill),
    left: { steps: /^submitting queued$/, jobs: 1 },
    afterwards: async world => {
      await world.deliver(await hookOf(world))
    },
  },
  {
    row: 'C5',
    name: "the job's id has arrived and is not committed",
    strike: at('comfy', SUBMIT, 'taken', beforeCommit),
    left: { steps: /^submitting queued$/, jobs: 1 },
  },
  {
    row: 'C5',
    name: 'a picture that came in the answer itself is on disk, and nothing of it is committed',
    painter: 'openai',
    strike: at('painter', PICTURE, 'taken', beforeCommit),
    left: { steps: /^submitting queued$/, jobs: 1 },
  },
  {
    row: 'C5',
    name: 'the same before it has its name on disk, where nobody can ask for it again: outcome_unknown',
    painter: 'openai',
    strike: at('painter', PICTURE, 'taken', beforeRename),
    left: { steps: /^submitting queued$/, jobs: 1 },
    end: { status: 'failed', code: 'outcome_unknown', jobs: 1 },
  },
  {
    row: 'C5',
    name: "the job's id is committed and nobody has heard of it",
    strike: at('comfy', SUBMIT, 'taken', afterCommit),
    left: { steps: /^running queued$/, jobs: 1 },
  },
  {
    row: 'C5',
    name: 'a poll is on its way',
    strike: at('comfy', /^GET \/queue/, 'arrived', kill),
    left: { steps: /^running queued$/, jobs: 1 },
  },
  {
    row: 'C5',
    name: 'a poll was answered with the end of the job, which is not committed',
    strike: at('comfy', /^GET \/history/, 'taken', beforeCommit),
    left: { steps: /^running queued$/, jobs: 1 },
  },
  {
    row: 'C5',
    name: 'the webhook of a provider is on its way',
    painter: 'replicate',
    strike: async world => {
      await world.post()
      await world.hookAndKill(await hookOf(world))
    },
    left: { jobs: 1 },
    afterwards: async world => {
      await world.deliver(await hookOf(world))
    },
  },
  {
    row: 'C6',
    name: 'half of an output has arrived',
    strike: at('comfy', FILM, 'half', kill),
    left: { steps: /^succeeded (running|keeping)$/, jobs: 2 },
  },
  {
    row: 'C6',
    name: 'an output has been served as a whole',
    strike: at('comfy', FILM, 'answered', kill),
    left: { jobs: 2 },
  },
  {
    row: 'C6',
    name: 'an output is on disk and has not got its name',
    strike: at('comfy', FILM, 'taken', beforeRename),
    left: { steps: /^succeeded (running|keeping)$/, jobs: 2 },
  },
  {
    row: 'C7',
    name: 'before the commit of the end: no end, no callback',
    strike: at('comfy', FILM, 'taken', beforeCommit),
    left: { steps: /^succeeded (running|keeping)$/, callbacks: /^$/ },
  },
  {
    row: 'C7',
    name: 'the end is committed, and its callback with it',
    strike: at('comfy', FILM, 'taken', afterCommit),
    left: { steps: /^succeeded succeeded$/, callbacks: /^(pending|leased)$/ },
  },
  {
    row: 'C8',
    name: 'the callback is claimed and not sent',
    strike: at('comfy', FILM, 'taken', beforeConnect),
    left: { callbacks: /^leased$/ },
  },
  {
    row: 'C9',
    name: 'the receiver has acted and not answered',
    strike: at('receiver', HOOK, 'taken', kill),
    left: { callbacks: /^leased$/ },
    end: { callbacks: 2 },
  },
  {
    row: 'C9',
    name: 'the receiver has answered, which is not committed',
    strike: at('receiver', HOOK, 'taken', beforeCommit),
    left: { callbacks: /^leased$/ },
    end: { callbacks: 2 },
  },
  {
    row: 'C9',
    name: 'the delivery is committed and nobody has heard of it',
    strike: at('receiver', HOOK, 'taken', afterCommit),
    left: { callbacks: /^delivered$/ },
  },
  {
    row: 'C10',
    name: 'a refused callback has its next time, and its timer is lost',
    strike: async world => {
      void world.gates.receiver.trap({ call: HOOK, moment: 'taken', status: 500, spring: () => afterCommit(world) })
      await world.post()
    },
    left: { callbacks: /^pending$/ },
  },
]

/** Plays points, each in a world of its own. A drill that breaks is told as wrong. */
export async function playPoints(points: readonly Point[], command: readonly string[]): Promise<PointReport[]> {
  const reports: PointReport[] = []
  let next = 0
  const hands = Array.from({ length: AT_ONCE }, async () => {
    for (let n = next++; n < points.length; n = next++) reports[n] = await playPoint(points[n] as Point, command)
  })
  await Promise.all(hands)
  return reports
}

/** Points mostly wait: for a look-up, for a schedule. */
const AT_ONCE = 5

async function playPoint(point: Point, command: readonly string[]): Promise<PointReport> {
  const world = await PointWorld.open(command, { painter: point.painter })
  const { row, name } = point
  const wrong: string[] = []
  try {
    await point.strike(world)
    const wasReached = await world.rise()
    const crash = world.crash as CrashState
    if (wasReached) wrong.push(...crash.wrong, ...leftWrongly(point, crash, world.jobsAtDeath))
    else wrong.push('the point was not reached')
    const again = await world.post()
    wrong.push(...repeatedWrongly(again, crash))
    await point.afterwards?.(world)
    const run = await world.ended()
    await settled(point, world)
    wrong.push(...endedWrongly(point, world, run), ...(await unreadable(world, run)))
    if ((await world.server.terminate()) !== 0) wrong.push('the server did not stop with 0')
    const [first] = world.receiver.callbacks.filter(each => each.at > world.diedAt)
    const dueAt = crash.callbacks.includes('pending') ? crash.dueAt : null
    const left = `${crash.steps.join(' ') || 'nothing'}${crash.callbacks.length > 0 ? `, callback ${crash.callbacks}` : ''}`
    return {
      row,
      name,
      wrong,
      left,
      readyMs: world.readyMs,
      endedMs: (first?.at ?? performance.now()) - world.diedAt,
      lateMs: first && dueAt !== null ? performance.timeOrigin + first.at - Math.max(dueAt, 0) : null,
    }
  } catch (error) {
    wrong.push(`the drill broke: ${error instanceof Error ? error.message : error}`)
    return { row, name, wrong, left: 'unknown', readyMs: world.readyMs, endedMs: 0, lateMs: null }
  } finally {
    await world.close()
  }
}

function leftWrongly({ left = {} }: Point, crash: CrashState, jobs: number): string[] {
  const wrong: string[] = []
  const compare = (what: string, found: string | number, wanted: string | number | RegExp | undefined): void => {
    const fits = wanted instanceof RegExp ? wanted.test(String(found)) : (wanted ?? found) === found
    if (!fits) wrong.push(`left behind: ${what} ${found || 'none'} instead of ${wanted}`)
  }
  compare('runs', crash.runs.length, left.runs)
  compare('steps', crash.steps.join(' '), left.steps)
  compare('callbacks', crash.callbacks.join(' '), left.callbacks)
  compare('jobs', jobs, left.jobs)
  return wrong
}

/** The caller who sends the same order again gets the run that is there, or a new one when there is none. */
function repeatedWrongly(again: Answer | null, crash: CrashState): string[] {
  if (again?.status !== 202) return [`the order sent again was answered ${again?.status ?? 'with nothing'}`]
  const [known] = crash.runs
  if (again.isReplay !== (known !== undefined))
    return [`the order sent again was ${again.isReplay ? '' : 'not '}a replay`]
  return known && known.id !== again.run.id ? ['the order sent again made another run'] : []
}

/** Waits for a callback that must come a second time. */
async function settled({ end = {} }: Point, { receiver }: PointWorld): Promise<void> {
  const wanted = end.callbacks ?? 1
  for (let ms = 0; receiver.callbacks.length < wanted && ms < 5_000; ms += 25) await Bun.sleep(25)
}

function endedWrongly({ end = {} }: Point, world: PointWorld, run: Seen): string[] {
  const { status = 'succeeded', code = null, jobs = 2, callbacks = 1 } = end
  const { receiver } = world
  const wrong: string[] = []
  const compare = (what: string, found: unknown, wanted: unknown): void => {
    if (found !== wanted) wrong.push(`${what}: ${found} instead of ${wanted}`)
  }
  compare('status', run.status, status)
  compare('error', run.error?.code ?? null, code)
  compare('jobs that were paid', world.jobs.length, jobs)
  compare('callbacks', receiver.callbacks.length, callbacks)
  compare('ids of callbacks', new Set(receiver.callbacks.map(each => each.id)).size, 1)
  compare('ends told', new Set(receiver.callbacks.map(each => each.type)).size, 1)
  compare('callbacks that could not be verified', receiver.unverified, 0)
  return wrong
}

async function unreadable({ server }: PointWorld, run: Seen): Promise<string[]> {
  const outputs = run.steps.flatMap(step => step.outputs ?? [])
  const read = outputs.map(async ({ media_id, bytes, sha256 }) => {
    const body = await (await server.request(`/api/v1/media/${media_id}`)).bytes()
    const isWhole = body.length === bytes && new Bun.CryptoHasher('sha256').update(body).digest('hex') === sha256
    return isWhole ? [] : [`the output ${media_id} is not what it was`]
  })
  return (await Promise.all(read)).flat()
}
