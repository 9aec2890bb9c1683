/**
 * Runs: create, read, cancel, resume.
 *
 * 1. 202 is sent after the commit; whatever is refused before it leaves nothing behind.
 * 2. Reading changes nothing. Another key's run is as unknown as one that never was.
 * 3. An ETag is made from the very bytes of the answer: whatever changes them, changes it.
 */
import { createHash } from 'node:crypto'
import { Elysia } from 'elysia'
import { fork } from '../core/machine.ts'
import type { Idempotency } from '../core/ports.ts'
import { isEnded, newRun, type Run, type RunEvent, type Step } from '../core/run.ts'
import { readJson } from './body.ts'
import { namedChain } from './chains.ts'
import type { ApiDeps } from './deps.ts'
import { presentRun } from './dto/run.ts'
import type { RunDto } from './dto.ts'
import { type Authorized, type Context, guarded, isUuid, json, matches } from './exchange.ts'
import { answerRepeat, keyOf, locationOf, snapshot } from './idempotency.ts'
import * as docs from './openapi/runs.ts'
import { examine, examineFork, examineResume } from './order.ts'
import { ApiProblem, refusal } from './problem.ts'
import { preferredWait, waitOf } from './wait.ts'

export function runRoutes(context: Context) {
  const read = guarded(context, 'runs:read', exchange => get(context, exchange))
  return new Elysia({ name: 'runs' })
    .post(
      '/api/v1/chains/:slug/runs',
      guarded(context, 'runs:write', exchange => create(context, exchange)),
      { parse: 'none', detail: docs.create },
    )
    .get('/api/v1/chains/get/:runId', read, { detail: docs.getByChain })
    .get('/api/v1/runs/:runId', read, { detail: docs.get })
    .post(
      '/api/v1/runs/:runId/cancel',
      guarded(context, 'runs:write', exchange => cancel(context, exchange)),
      { parse: 'none', detail: docs.cancel },
    )
    .post(
      '/api/v1/runs/:runId/resume',
      guarded(context, 'runs:write', exchange => resume(context, exchange)),
      { parse: 'none', detail: docs.resume },
    )
}

async function create(context: Context, exchange: Authorized): Promise<Response> {
  const { deps } = context
  const { clock, mode } = deps
  const slug = exchange.params.slug ?? ''
  const chain = namedChain(slug)
  const body = await readJson(exchange)
  const idempotency = keyOf(exchange, body)
  const repeat = idempotency && (await deps.store.replay(idempotency.key, idempotency.fingerprint))
  if (repeat) return answerRepeat(exchange, repeat)

  const examined = await examine(deps, exchange.principal, chain, body)
  if (!examined.ok) throw refusal(examined.errors)
  const { input, steps, webhookUrl, metadata, providerOrder, maxCostUsd } = examined.order
  const made = newRun({
    id: clock.id(),
    stepIds: steps.map(() => clock.id()),
    slug,
    chain,
    mode,
    input,
    metadata,
    callback: webhookUrl === null ? null : { url: webhookUrl },
    apiKeyId: exchange.principal.apiKeyId,
    providerOrder,
    maxCostUsd,
    steps,
    at: clock.now(),
  })
  return accept(context, exchange, made, idempotency)
}

/** Commits a run and answers 202; with `Prefer: wait`, 200 when it has ended in time. */
async function accept(
  context: Context,
  exchange: Authorized,
  { run, events }: { run: Run; events: readonly RunEvent[] },
  idempotency: Omit<Idempotency, 'response'> | null,
): Promise<Response> {
  const { deps, waiters } = context
  const body = JSON.stringify(await shown(deps, run))
  const made = await deps.engine.create({
    run,
    events,
    idempotency: idempotency && { ...idempotency, response: snapshot(run.id, body) },
  })
  if (made.type !== 'created') return answerRepeat(exchange, made)
  exchange.runId = run.id
  const headers = { location: locationOf(run.id) }
  const seconds = preferredWait(exchange.request)
  if (seconds === null) return json(202, body, headers)
  const later = await waiters.untilEnd(exchange, run, seconds)
  return json(isEnded(later) ? 200 : 202, await shown(deps, later), {
    ...headers,
    'preference-applied': `wait=${seconds}`,
  })
}

async function get(context: Context, exchange: Authorized): Promise<Response> {
  const { deps, waiters } = context
  const seconds = waitOf(exchange.url)
  const run = await waiters.untilEnd(exchange, await ownRun(deps, exchange), seconds)
  const body = JSON.stringify(await shown(deps, run))
  const etag = `"${run.revision}-${createHash('sha256').update(body).digest('base64url').slice(0, 22)}"`
  const headers = {
    etag,
    'cache-control': 'private, no-cache',
    ...(isEnded(run) ? {} : { 'retry-after': POLL_AFTER_S }),
  }
  if (matches(exchange.request.headers.get('if-none-match'), etag)) return new Response(null, { status: 304, headers })
  return json(200, body, headers)
}

/** How soon a poller should come back: a picture takes a few seconds. */
const POLL_AFTER_S = '2'

async function cancel({ deps }: Context, exchange: Authorized): Promise<Response> {
  const run = await ownRun(deps, exchange)
  const then = isEnded(run) ? run : ((await deps.engine.cancel(run.id)) ?? run)
  const body = await shown(deps, then)
  if (!isEnded(then)) return json(202, body)
  if (then.status === 'canceled') return json(200, body)
  const detail = `The run has already ended: ${then.status}.`
  throw new ApiProblem('not_cancelable', detail, { extra: { run: body } })
}

async function resume(context: Context, exchange: Authorized): Promise<Response> {
  const { deps } = context
  const { request, params } = exchange
  const body = hasBody(request) ? await readJson(exchange) : {}
  const before = await ownRun(deps, exchange)
  const idempotency = keyOf(exchange, body)
  const repeat = idempotency && (await deps.store.replay(idempotency.key, idempotency.fingerprint))
  if (repeat) return answerRepeat(exchange, repeat)

  const asked = examineResume(before, body)
  const { order, errors } = asked
  if (order === null) throw refusal(errors)
  const { clock } = deps
  const forked = fork(before, {
    id: clock.id(),
    stepIds: before.steps.map(() => clock.id()),
    at: clock.now(),
    ...(order.from_step_key === undefined ? {} : { fromStepKey: order.from_step_key }),
  })
  if (!forked.ok && errors.length > 0) throw refusal(errors)
  if (!forked.ok) {
    const { reason, hint } = forked
    const more = hint === undefined ? {} : { hint }
    throw new ApiProblem('not_resumable', `The run ${params.runId} cannot be resumed: ${reason}.`, more)
  }
  const isKeeping = before.mode !== deps.mode && forked.run.steps.some(step => step.status !== 'queued')
  if (isKeeping && errors.length === 0) throw keepsOther(before, deps)
  const run: Run = {
    ...forked.run,
    mode: deps.mode,
    maxCostUsd: order.max_cost_usd === undefined ? before.maxCostUsd : order.max_cost_usd,
  }
  const examined = await examineFork(deps, exchange.principal, run, asked)
  if (!examined.ok) throw refusal(examined.errors)
  await checkKept(deps, examined.run)
  return accept(context, exchange, { run: examined.run, events: forked.events }, idempotency)
}

/**
 * A step whose output was removed, or is lost, must be run again where a step that is bought would read it: a job that is taken
 * over has read it long ago. @throws ApiProblem 409
 */
async function checkKept(deps: ApiDeps, { resumedFrom, steps }: Run): Promise<void> {
  for (const step of steps.filter(each => each.inherited)) {
    const why = await whyNotKept(deps, step, steps)
    if (!why) continue
    const detail = `The run ${resumedFrom} cannot be resumed as it is: what ${step.key} gave ${why}.`
    throw new ApiProblem('not_resumable', detail, { hint: `Run it again, too, with "from_step_key": "${step.key}".` })
  }
}

async function whyNotKept(deps: ApiDeps, step: Step, steps: readonly Step[]): Promise<string | null> {
  if (!steps.some(each => each.status === 'queued' && each.dependsOn.includes(step.key))) return null
  if ((await removedOf(deps.store, [step])).size > 0) return 'was removed after its retention'
  const [first] = step.status === 'succeeded' ? step.outputs : []
  return first && (await isLost(deps, first.mediaId)) ? 'is no longer in our storage' : null
}

/** True only when our storage says that it has no such file: what cannot be asked now is waited for by the run. */
async function isLost({ media, clock }: ApiDeps, id: string): Promise<boolean> {
  const { promise: late, resolve } = Promise.withResolvers<false>()
  const disarm = clock.at(clock.now() + STORAGE_MS, () => resolve(false))
  const asked = media.open(id, { start: 0, end: 0 }).then(
    stream => {
      stream?.cancel().catch(() => {}) // only its first byte was asked for
      return stream === null
    },
    () => false,
  )
  return Promise.race([late, asked]).finally(disarm)
}

/** Our storage says whether it has a file within a moment; a caller does not wait for one that is ill. */
const STORAGE_MS = 5_000

/** What was painted must not pass for what was paid, nor the other way round. */
function keepsOther({ id, mode, steps }: Run, deps: ApiDeps): ApiProblem {
  const detail = `The run ${id} was created in mode ${mode}, and this server runs in mode ${deps.mode}: it cannot keep the finished steps.`
  const hint = `Run all of its steps again with "from_step_key": "${steps[0]?.key}", or resume it in mode ${mode}.`
  return new ApiProblem('not_resumable', detail, { hint })
}

function hasBody(request: Request): boolean {
  return request.body !== null && request.headers.get('content-length') !== '0'
}

/** The run of the path, if it is the asker's. @throws ApiProblem 404 */
export async function ownRun({ engine }: ApiDeps, exchange: Authorized): Promise<Run> {
  const id = (exchange.params.runId ?? '').toLowerCase()
  const run = isUuid(id) ? await engine.run(id) : null
  if (run?.apiKeyId !== exchange.principal.apiKeyId) throw new ApiProblem('not_found', 'There is no such run.')
  exchange.runId = run.id
  return run
}

/** The run with its links and, when it has ended, with what became of its callback. */
export async function shown(deps: ApiDeps, run: Run): Promise<RunDto> {
  const { store, links, clock, callbacks } = deps
  const at = clock.now()
  const sent = run.callback && isEnded(run) ? await store.deliveriesOf(run.id) : []
  const removed = await removedFrom(deps, run)
  const delivery = sent[0] && callbacks.planned(sent[0])
  return presentRun(run, { link: id => links.media(id, at), delivery, removed })
}

/** Media of a run that are stored no more. */
export async function removedFrom({ store, clock }: ApiDeps, run: Run): Promise<ReadonlySet<string>> {
  const isOld = isEnded(run) && clock.now() - run.updatedAt >= SHORTEST_RETENTION_MS
  return isOld ? removedOf(store, run.steps) : new Set()
}

/** Nothing is removed earlier, so younger runs need no look. */
const SHORTEST_RETENTION_MS = 86_400_000

/** What these steps gave, in time or late, and is stored no more. */
async function removedOf(store: ApiDeps['store'], steps: readonly Step[]): Promise<ReadonlySet<string>> {
  const given = steps.flatMap(step => [
    ...(step.status === 'succeeded' ? step.outputs : []),
    ...step.attempts.flatMap(({ lateResult }) => lateResult?.outputs ?? []),
  ])
  const looked = await Promise.all(given.map(async ({ mediaId }) => ((await store.media(mediaId)) ? [] : [mediaId])))
  return new Set(looked.flat())
}
