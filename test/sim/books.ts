/**
 * The promises of the engine, checked against what the parties have on their books.
 *
 * 1. A broken promise is noted first and thrown by the simulation: the engine survives exceptions.
 * 2. What is checked at a submit holds at that moment: the intent is stored, nobody has paid for the step, nobody
 *    has canceled the run, its content was not refused, its inputs are the outputs before it, its place is free, its
 *    output has somewhere to go, its key has no more runs under way and, by estimates, no more spent today than it may.
 */
import type { ClaimedDelivery, Settlement } from '../../src/core/delivery.ts'
import type { CreateCommit, RunCommit, StartJob, Store } from '../../src/core/ports.ts'
import {
  type Attempt,
  assertRun,
  attemptsOf,
  isEnded,
  isTakenOver,
  type Run,
  type Step,
  spent,
} from '../../src/core/run.ts'
import { type Job, PRICE, type SimMedia, type SimProvider, type SimReceiver } from './parties.ts'
import type { Plan, PlannedRun } from './plan.ts'
import type { Timeline } from './timeline.ts'

/** What crashes, outages and the breaker of the receiver's host may add to a wait; less than the clock is set back by. */
const STUCK_MS = 100 * 60_000
/** A host that keeps failing is asked by one delivery at a time: each of the others may come first, and cost such a pause. */
const HOST_PAUSE_MS = 30 * 60_000
const DAY_MS = 86_400_000
const TERMINAL = new Set<string>(['run.succeeded', 'run.failed', 'run.canceled'])

/** The token of the job that an attempt is about. */
function jobOf({ jobRef, token }: Attempt): string {
  return (jobRef as { job: string } | null)?.job ?? token
}

export class Books {
  providers: readonly SimProvider[] = []
  media!: SimMedia
  receiver!: SimReceiver
  /** Runs whose creation was answered. */
  readonly acked = new Map<string, PlannedRun>()
  /** Runs whose cancel was answered. */
  readonly canceled = new Set<string>()
  submits = 0
  /** Results that came after their attempt was over. */
  late = 0
  /** Jobs that a resumed run took over. */
  taken = 0
  /** How often a limit of the key held something up: runs at the budget, submits at the last place, creates at a full line. */
  readonly met = { budget: 0, running: 0, queue: 0 }
  /** The clock leapt ahead: deadlines may have come early. */
  leapt = false
  readonly #left = new Map<string, string>()
  /** What a submit came to, as far as a living process heard. */
  readonly #heard = new Map<string, string>()
  /** Attempts whose output came with the answer to the submit, as far as that was committed. */
  readonly #answers = new Set<string>()
  readonly #ended = new Map<string, string>()
  /** Since when (in passing time) a delivery waits, and for how long it should. */
  readonly #waits = new Map<string, { since: number; ms: number }>()
  /** When (in passing time) a job was last asked for. */
  readonly #asked = new Map<string, number>()
  readonly #opened = new Set<string>()
  /** Runs as they were committed last. */
  readonly #runs = new Map<string, Run>()
  #broken: string | null = null

  constructor(
    readonly time: Timeline,
    readonly note: (text: string) => void,
    readonly limits: Plan['limits'],
  ) {}

  broken(what: string): void {
    this.note(`BROKEN: ${what}`)
    this.#broken ??= what
  }

  throwIfBroken(): void {
    if (this.#broken !== null) throw new Error(this.#broken)
  }

  /** True while a committed run is known to be open. */
  get anyOpen(): boolean {
    return this.#opened.size > this.#ended.size
  }

  // ── At every call ───────────────────────────────────────────────────────────────────────────────────────────────

  /** A port has answered; `dead` when nobody hears it. */
  saw(name: string, args: unknown[], value: unknown, dead: boolean): void {
    this.#sawWait(name, args, value)
    if (name === 'commit') this.#committed(args[0] as RunCommit)
    else if (name === 'create' && (value as { type: string }).type === 'created') {
      const commit = args[0] as CreateCommit
      this.#opened.add(commit.run.id)
      this.#takesOver(commit.run)
      this.#committed(commit)
    } else if (name === 'start' && !dead) {
      const { token } = args[0] as StartJob
      this.#heard.set(token, (value as { type: string }).type)
    }
  }

  #committed({ run, events, delivery, wakeAt }: RunCommit | CreateCommit): void {
    try {
      assertRun(run)
    } catch (error) {
      this.broken(String(error))
    }
    this.#runs.set(run.id, run)
    for (const step of run.steps)
      if (step.status === 'keeping' && step.attempt.jobRef === null) this.#answers.add(step.attempt.token)
    const steps = run.steps.map(step => `${step.key}:${step.status}`).join(' ')
    this.note(`commit ${run.id.slice(-4)} r${run.revision} ${run.status} ${steps}`)
    if (this.#ended.has(run.id)) {
      const isLate = events.length > 0 && events.every(event => event.type === 'step.late_result')
      if (!isLate || this.#ended.get(run.id) !== run.status || delivery || wakeAt !== null)
        this.broken(`run ${run.id} was committed after its end`)
      this.late += 1
      return
    }
    const terminal = events.filter(event => TERMINAL.has(event.type)).length
    if (terminal !== (isEnded(run) ? 1 : 0)) this.broken(`${terminal} terminal events in a commit of ${run.status}`)
    if ((delivery !== null) !== (isEnded(run) && run.callback !== null))
      this.broken(`run ${run.id} is ${run.status} and its callback is ${delivery ? 'there' : 'missing'}`)
    if ((wakeAt === null) !== isEnded(run)) this.broken(`run ${run.id} is ${run.status} and wakes at ${wakeAt}`)
    if (isEnded(run)) this.#ended.set(run.id, run.status)
    if (run.error?.code === 'budget_exceeded' && run.maxCostUsd === null) this.met.budget += 1
  }

  /** Jobs of an earlier run are asked for again from now on. */
  #takesOver(run: Run): void {
    for (const step of run.steps)
      for (const attempt of attemptsOf(step))
        if (!step.inherited && isTakenOver(step, attempt)) {
          this.taken += 1
          this.#asked.set(jobOf(attempt), this.time.elapsed)
        }
  }

  /** A wait is a span, whatever becomes of the wall clock meanwhile. */
  #sawWait(name: string, args: unknown[], value: unknown): void {
    if (name === 'start' && (value as { type: string }).type === 'accepted') this.#asks((args[0] as StartJob).token)
    else if (name === 'check') this.#asks((args[0] as { job: string }).job)
    else if (name === 'settle') this.#settled(args[0] as Settlement)
    else if (name === 'claim') for (const { id } of value as ClaimedDelivery[]) this.#claimed(id)
  }

  #settled({ deliveryId, at, dueAt }: Settlement): void {
    this.#waits.set(deliveryId, { since: this.time.elapsed, ms: dueAt === null ? 0 : dueAt - at })
  }

  #claimed(id: string): void {
    const { since, ms } = this.#waits.get(id) ?? { since: this.time.elapsed, ms: 0 }
    const waited = this.time.elapsed - since
    const others = this.#waits.size * HOST_PAUSE_MS
    if (waited > ms / 0.9 + STUCK_MS + others) this.broken(`delivery ${id} waited ${waited} ms in place of ${ms}`)
  }

  #asks(token: string): void {
    const { elapsed } = this.time
    if (elapsed - (this.#asked.get(token) ?? elapsed) > STUCK_MS) this.broken(`job ${token} was not asked for`)
    this.#asked.set(token, elapsed)
  }

  /** A submit leaves the process. `run` and `open` are what is stored now. */
  submitting(provider: string, job: StartJob, run: Run | null | undefined, open: readonly Run[]): void {
    this.submits += 1
    const { stepId, token } = job
    const step = run?.steps.find(each => each.id === stepId)
    const live = step?.status === 'submitting' ? step.attempt : null
    const where = `step ${stepId} attempt ${live?.no ?? 'without a number'} at ${provider}`
    this.note(`submit ${where} (${token})`)
    if (!run || !step || live?.token !== token || live.provider !== provider) {
      this.broken(`${where} left before its intent was stored`)
      return
    }
    if (this.#left.has(token)) this.broken(`${where} left twice`)
    this.#left.set(token, stepId)
    if (this.canceled.has(run.id)) this.broken(`${where} left after the cancel was answered`)
    if (step.attempts.some(attempt => attempt.error?.code === 'content_rejected'))
      this.broken(`${where} left after its content was refused`)
    this.#unpaid(step, where)
    this.#unanswered(run, step, where)
    // A submit that was routed before the refusal may be on its way; one that a crash left unsent is older, too.
    const { refusesSince } = this.media.ear
    if (refusesSince !== null && live.startedAt > refusesSince)
      this.broken(`${where} was bought while outputs could not be stored`)
    const links = this.providers.find(each => each.id === provider)?.takes.url ?? true
    this.#wired(run, step, job, links, where)
    this.#placed(provider, open, where)
    this.#admitted(open, where)
    const max = run.maxCostUsd
    if (max !== null && spent(run.steps).usd > max + 1e-9) this.broken(`${where} costs more than allowed`)
  }

  /** Nobody has, or may have, a job of this step that could still be billed. */
  #unpaid(step: Step, where: string): void {
    for (const attempt of step.attempts) {
      const provider = this.providers.find(each => each.id === attempt.provider)
      const job = provider?.jobs.find(each => each.token === attempt.token)
      if (job) {
        const failed = job.fate === 'failed' || job.fate === 'lost'
        const known = attempt.error?.code === 'provider_error' || attempt.error?.code === 'provider_lost'
        if (!failed || !known) this.broken(`${where} pays again: attempt ${attempt.no} has a job`)
      } else if (this.#heard.get(attempt.token) !== 'refused' && this.#left.has(attempt.token) && !provider?.find) {
        this.broken(`${where} is sent although nobody can know what became of attempt ${attempt.no}`)
      }
    }
    for (const job of this.#jobsOf(step.id)) {
      if (!step.attempts.some(attempt => attempt.token === job.token))
        this.broken(`${where}: the attempt of an earlier job is forgotten`)
    }
  }

  /** Nobody has paid for the step in the run before, as far as that run knows its job. */
  #unanswered({ resumedFrom }: Run, step: Step, where: string): void {
    const before = this.#before(resumedFrom, step.index)
    const job = before && this.#jobs().find(each => each.token === jobOf(before))
    if (!job || !this.#isBilled(job)) return
    if (before.jobRef) this.broken(`${where} pays again for what the job of the run before has made`)
    else if (this.#answers.has(before.token) && !job.isDead && !attemptsOf(step).some(each => isTakenOver(step, each)))
      this.broken(`${where} pays again for what came with the answer of the run before`)
  }

  #before(resumedFrom: string | null, index: number): Attempt | undefined {
    return resumedFrom === null ? undefined : this.#runs.get(resumedFrom)?.steps[index]?.attempts.at(-1)
  }

  #wired(run: Run, step: Step, job: StartJob, links: boolean, where: string): void {
    const expected = step.dependsOn.map(key => {
      const before = run.steps.find(each => each.key === key)
      const id = before?.status === 'succeeded' ? before.outputs[0]?.mediaId : 'nothing'
      if (links) return `https://us.example/media/${id}`
      return `data:image/png;base64,${Buffer.from(`media:${id}`).toString('base64')}`
    })
    if (String(job.body.pictures) !== String(expected)) this.broken(`${where} has other pictures than ${expected}`)
  }

  #placed(provider: string, open: readonly Run[], where: string): void {
    const places = (this.providers.find(each => each.id === provider)?.concurrency ?? 0) - 1
    const held = open
      .flatMap(run => run.steps)
      .filter(step => step.status === 'submitting' || step.status === 'running')
      .filter(step => 'attempt' in step && step.attempt.provider === provider && this.#works(step.attempt.token)).length
    if (held > places) this.broken(`${where}: ${held + 1} jobs where ${places + 1} are allowed`)
  }

  /** The runs of the key that have been given to a provider: this one, and those that have not ended. */
  #admitted(open: readonly Run[], where: string): void {
    const { maxRunning } = this.limits
    if (maxRunning === null) return
    const hasBegun = (step: Step): boolean => attemptsOf(step).some(attempt => !isTakenOver(step, attempt))
    const begun = open.filter(run => run.steps.some(step => !step.inherited && hasBegun(step))).length
    if (begun > maxRunning) this.broken(`${where}: ${begun} runs are under way where ${maxRunning} are allowed`)
    if (begun === maxRunning && open.length > begun) this.met.running += 1
  }

  /** What the key has spent on the day of this attempt, itself included. */
  async paying({ stepId, runId, token }: StartJob, store: Store | undefined): Promise<void> {
    const { dailyBudgetUsd } = this.limits
    if (dailyBudgetUsd === null || !store) return
    const step = (await store.run(runId))?.steps.find(each => each.id === stepId)
    const attempt = step && attemptsOf(step).find(each => each.token === token)
    const at = attempt?.startedAt ?? 0
    const day = Math.floor(at / DAY_MS) * DAY_MS
    let usd = 0
    for await (const piece of store.spending(day, day + DAY_MS)) for (const each of piece) usd += each.usd
    if (usd > dailyBudgetUsd + 1e-6)
      this.broken(`step ${stepId} attempt ${attempt?.no}: ${usd} are spent of a budget of ${dailyBudgetUsd}`)
  }

  // ── At the end ──────────────────────────────────────────────────────────────────────────────────────────────────

  async judge(store: Store): Promise<void> {
    for (const [id, order] of this.acked) {
      const run = await store.run(id)
      if (!run) this.broken(`run ${id} was accepted and is lost`)
      else await this.#judgeRun(store, run)
      if (run && this.#mustSucceed(order) && run.status !== 'succeeded')
        this.broken(`run ${id} is ${run.status} (${run.error?.code}), and only crashes and outages stood in its way`)
    }
    const known = new Set(this.acked.keys())
    for (const { runId } of this.receiver.got)
      if (!known.has(runId)) this.broken(`a callback of an unknown run ${runId}`)
  }

  async #judgeRun(store: Store, run: Run): Promise<void> {
    if (!isEnded(run)) this.broken(`run ${run.id} is ${run.status}`)
    if (this.#ended.get(run.id) !== run.status) this.broken(`run ${run.id} has changed its end`)
    assertRun(run)
    const log = await store.events(run.id, 0, 10_000)
    if (log.some((event, i) => event.seq !== i + 1)) this.broken(`the log of ${run.id} has a hole`)
    if (log.filter(event => TERMINAL.has(event.type)).length !== 1) this.broken(`run ${run.id} ended more than once`)
    const story = log.filter(event => event.type !== 'step.late_result')
    if (story.at(-1)?.type !== `run.${run.status}`) this.broken(`the log of ${run.id} goes on after its end`)
    if (this.canceled.has(run.id) && run.status === 'failed' && run.error?.code === 'canceled')
      this.broken(`run ${run.id} was canceled and failed`)
    for (const step of run.steps) this.#judgeStep(run, step)
    const billed = PRICE * this.#jobs().filter(job => job.runId === run.id && this.#isBilled(job)).length
    if (billed > spent(run.steps).usd + 1e-9) this.broken(`run ${run.id} was billed ${billed} and knows of less`)
    if (run.maxCostUsd !== null && billed > run.maxCostUsd + 1e-9) this.broken(`run ${run.id} was billed too much`)
    await this.#judgeCallback(store, run)
  }

  /** A crash costs time and nothing else: where every provider does its part and can be asked, a run succeeds. */
  #mustSucceed(order: PlannedRun): boolean {
    const isPatient = order.stepDeadlineMs >= 3_600_000 && order.deadlineMs >= 86_400_000
    const isFree = order.maxCostUsd === null && this.limits.dailyBudgetUsd === null
    const isLeftAlone = order.cancelAfter === null && isFree && !this.leapt
    return (
      isPatient && isLeftAlone && this.providers.every(({ abilities }) => abilities.find && abilities.trouble === 0)
    )
  }

  #judgeStep(run: Run, step: Step): void {
    if (this.#jobsOf(step.id).filter(job => this.#isBilled(job)).length > 1)
      this.broken(`step ${step.id} was paid twice`)
    for (const attempt of attemptsOf(step)) {
      const provider = this.providers.find(each => each.id === attempt.provider)
      if ((provider?.arrivals.get(attempt.token) ?? 0) > 1)
        this.broken(`attempt ${attempt.no} of ${step.id} came twice`)
      if (attempt.outcome === 'pending') this.broken(`attempt ${attempt.no} of ${step.id} is pending in an ended run`)
      for (const { mediaId } of attempt.lateResult?.outputs ?? []) {
        const token = this.media.kept.get(mediaId)?.token
        if (token !== attempt.token)
          this.broken(`what came late for attempt ${attempt.no} of ${step.id} is of another job`)
      }
    }
    if (step.status !== 'succeeded') return
    const last = step.attempts.at(-1)
    // What came with the answer of the run before names no job.
    const isAnswer = last && isTakenOver(step, last) && last.jobRef === null
    const winner = isAnswer ? this.#before(run.resumedFrom, step.index) : last
    for (const output of step.outputs) {
      const kept = this.media.kept.get(output.mediaId)
      if (!kept) this.broken(`an output of ${step.id} is not kept`)
      else if (!step.inherited && winner && kept.token !== jobOf(winner))
        this.broken(`an output of ${step.id} is of another job`)
    }
    if (step.inherited && this.#jobsOf(step.id).length > 0) this.broken(`the inherited step ${step.id} ran again`)
    if (this.canceled.has(run.id) && run.status === 'failed') this.note(`${run.id} failed after its cancel`)
  }

  async #judgeCallback(store: Store, run: Run): Promise<void> {
    const deliveries = await store.deliveriesOf(run.id)
    const got = this.receiver.got.filter(each => each.runId === run.id)
    if (deliveries.length !== (run.callback ? 1 : 0)) this.broken(`run ${run.id} has ${deliveries.length} callbacks`)
    const [delivery] = deliveries
    if (!delivery) return
    if (got.some(each => each.id !== delivery.id)) this.broken(`callbacks of ${run.id} have several ids`)
    if (new Set(got.map(each => each.body)).size > 1) this.broken(`callbacks of ${run.id} have several bodies`)
    if (got.some(each => each.type !== `run.${run.status}`)) this.broken(`a callback of ${run.id} lies about its end`)
    const ok = got.some(each => each.ok)
    if (delivery.status === 'delivered' && !ok) this.broken(`the callback of ${run.id} was never taken`)
    if (delivery.status === 'exhausted' && delivery.attempts < 12)
      this.broken(`the callback of ${run.id} gave up early`)
  }

  /** What is still open, for the message of a history that never ends. */
  async open(store: Store | undefined): Promise<string> {
    if (!store) return 'the process never started'
    const ids = await store.due(Number.MAX_SAFE_INTEGER, 10)
    const runs = await Promise.all(ids.map(id => store.run(id)))
    const steps = runs.map(run => `${run?.id}: ${run?.steps.map(step => `${step.key} ${step.status}`).join(', ')}`)
    return JSON.stringify({ steps, counts: await store.counts() })
  }

  #jobs(): Job[] {
    return this.providers.flatMap(provider => provider.jobs)
  }

  /** True while a provider has a job under way. */
  #works(token: string): boolean {
    const job = this.#jobs().find(each => each.token === token)
    return job !== undefined && !job.canceled && job.fate !== 'lost' && this.time.elapsed < job.readyAt
  }

  /** A job that its provider would put on the bill. */
  #isBilled(job: Job): boolean {
    return job.fate === 'done' && !job.canceled
  }

  #jobsOf(stepId: string): Job[] {
    return this.#jobs().filter(job => job.stepId === stepId)
  }
}
