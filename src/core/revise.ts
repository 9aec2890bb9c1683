/**
 * Changes of the input of a run that goes on from another: a prompt that was refused is mended, and what is paid is kept.
 *
 * 1. Only the steps that are done again can change; a finished one is what it is. One that would go on with a job of the run
 *    before is done anew when it changes.
 * 2. A step's parameters are given whole, in place of the old ones; so is the name of its model.
 */
import { type PlannedStep, plan } from './chain.ts'
import type { Problem } from './errors.ts'
import { canonical, isObject, type JsonObject } from './json.ts'
import { specOf } from './machine/moves.ts'
import type { Catalog } from './model.ts'
import type { Run } from './run.ts'

export type Revised = { ok: true; run: Run } | { ok: false; problems: Problem[] }

/**
 * `run` is a fork that is not stored yet; `changes` has the form of its input. Problems point into the body (`/input/…`). A job
 * that was taken over is left for another by the steps of `anew`.
 */
export function revise(run: Run, changes: JsonObject, catalog: Catalog, anew: readonly string[] = []): Revised {
  const { chain_models: given, ...params } = changes
  const named = given ?? {}
  if (!isObject(named))
    return { ok: false, problems: [problem('/input/chain_models', 'type', 'chain_models must be an object')] }
  const kept = run.steps.filter(step => step.inherited).map(step => step.key)
  const late = kept.flatMap(key => [
    ...(`${key}_model` in named ? [isKept(`/input/chain_models/${key}_model`, key)] : []),
    ...(`${key}_params` in params ? [isKept(`/input/${key}_params`, key)] : []),
  ])
  const old = isObject(run.input.chain_models) ? run.input.chain_models : {}
  const input = { ...run.input, ...params, chain_models: { ...old, ...named } }
  const again = run.chain.steps.filter(step => !kept.includes(step.key))
  const planned = plan({ ...run.chain, steps: again }, without(input, kept), catalog)
  if (!planned.ok || late.length > 0) return { ok: false, problems: [...late, ...(planned.ok ? [] : planned.problems)] }
  const steps = run.steps.map(step => {
    const now = planned.steps.find(each => each.key === step.key)
    const isTaken = step.status !== 'queued' && !anew.includes(step.key)
    if (!now || (isTaken && isSame(step, now))) return step
    return { ...specOf(step), ...now, index: step.index, startedAt: null, attempts: [], status: 'queued' as const }
  })
  const status = steps.every(step => step.status === 'queued') ? 'queued' : run.status
  return { ok: true, run: { ...run, status, input, steps } }
}

/** A job that was taken over answers the very same request only. */
function isSame(step: PlannedStep, now: PlannedStep): boolean {
  return step.model === now.model && canonical(step.params) === canonical(now.params)
}

function without({ chain_models, ...params }: JsonObject, keys: readonly string[]): JsonObject {
  const left = (object: JsonObject, ending: string): JsonObject =>
    Object.fromEntries(Object.entries(object).filter(([name]) => !keys.some(key => name === `${key}_${ending}`)))
  return { ...left(params, 'params'), chain_models: left(chain_models as JsonObject, 'model') }
}

function isKept(pointer: string, key: string): Problem {
  const hint = `Name it, or a step before it, in from_step_key to do it again; else leave the field out.`
  return { ...problem(pointer, 'step_is_kept', `the step ${key} has succeeded and is kept`), hint }
}

const problem = (pointer: string, code: string, detail: string): Problem => ({ pointer, code, detail })
