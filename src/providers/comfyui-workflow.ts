/**
 * A ComfyUI workflow as a template: a graph in API format whose values may be placeholders.
 *
 * 1. COMFYUI_WORKFLOWS names one JSON file for every model, or a directory: `{model}.{role}.json`, else `{model}.json`.
 *    Files are read at each use, so that a change counts at once.
 * 2. A value that is `"{{seed}}"` becomes the parameter itself, number or text; inside a longer text it becomes text.
 *    `"{{steps|20}}"` has a default. What a caller wrote is never read as a placeholder.
 * 3. Every parameter must have a place, and every placeholder a value: nothing is dropped silently. Only `seed` may be
 *    missing; it then follows from the attempt, so that two attempts differ.
 */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import type { Json, JsonObject } from '../core/json.ts'
import type { Role, Route } from '../core/model.ts'
import { jsonOf } from './protocol.ts'

export interface Workflows {
  /** The graph for a model in a role. */
  load(model: string, role: Role): Loaded
}

/** `reason` names the variable and no path of this machine: callers read it. `isThere`: there is such a file, and it is wrong. */
export type Loaded = { ok: true; graph: JsonObject } | { ok: false; reason: string; isThere: boolean }

export function createWorkflows(path: string): Workflows {
  const isFile = path.endsWith('.json')
  return {
    load(model, role) {
      if (!/^\w[\w.-]*$/.test(model))
        return { ok: false, reason: `a workflow cannot be called ${model}`, isThere: false }
      const names = isFile ? [''] : [`${model}.${role}.json`, `${model}.json`]
      for (const name of names) {
        const bytes = bytesOf(join(path, name))
        if (bytes === null) continue
        const graph = jsonOf(bytes)
        if (isGraph(graph)) return { ok: true, graph }
        const which = name || 'the file'
        return { ok: false, reason: `${which} of COMFYUI_WORKFLOWS is no graph in ComfyUI's API format`, isThere: true }
      }
      const none = isFile ? 'names a file that is not there' : `has no ${names.join(' and no ')}`
      return { ok: false, reason: `COMFYUI_WORKFLOWS ${none}`, isThere: false }
    },
  }
}

/** Null when there is nothing that can be read. */
function bytesOf(path: string): Uint8Array | null {
  try {
    return readFileSync(path)
  } catch {
    return null
  }
}

/** What is missing or wrong before a model can run here in any of its roles; null when nothing is. */
export function gapOf(workflows: Workflows, route: Pick<Route, 'providerModel'>, roles: readonly Role[]) {
  const loaded = roles.map(role => workflows.load(route.providerModel, role))
  return loaded.some(each => each.ok) ? null : (loaded.find(each => !each.ok) ?? null)
}

/** A route whose workflow is judged with it: it must be there, with a place for all that is sent, before a step in front of it is paid. */
export function withWorkflow(route: Route, roles: readonly Role[], workflows: Workflows): Route {
  return {
    ...route,
    missing: () => gapOf(workflows, route, roles)?.reason ?? null,
    translate(params, use) {
      const made = route.translate(params, use)
      if (!made.ok) return made
      const filled = prepare(workflows, made.providerModel, use.role, { seed: 0, ...made.body })
      return filled.ok ? made : { ok: false, reason: filled.reason }
    },
  }
}

/** The graph that runs: the workflow of a model with the values of a call. */
export function prepare(workflows: Workflows, model: string, role: Role, values: JsonObject): Filled {
  const loaded = workflows.load(model, role)
  return loaded.ok ? fillWorkflow(loaded.graph, values) : loaded
}

function isGraph(json: Json | undefined): json is JsonObject {
  if (typeof json !== 'object' || json === null || Array.isArray(json)) return false
  const nodes = Object.values(json)
  return nodes.length > 0 && nodes.every(node => typeof node === 'object' && node !== null && 'class_type' in node)
}

export type Filled = { ok: true; graph: JsonObject } | { ok: false; reason: string }

export function fillWorkflow(graph: JsonObject, values: JsonObject): Filled {
  const used = new Set<string>()
  const missing = new Set<string>()
  const lookUp = (name: string, standard: string | undefined): Json => {
    used.add(name)
    const value = values[name]
    if (value !== undefined) return value
    if (standard !== undefined) return literal(standard)
    missing.add(name)
    return ''
  }
  const fill = (json: Json): Json => {
    if (typeof json === 'string') return fillText(json, lookUp)
    if (Array.isArray(json)) return json.map(fill)
    if (typeof json !== 'object' || json === null) return json
    return Object.fromEntries(Object.entries(json).map(([key, value]) => [key, fill(value)]))
  }
  const filled = fill(graph) as JsonObject
  const unplaced = Object.keys(values).filter(name => !used.has(name) && name !== 'seed')
  const reasons = [
    ...(missing.size > 0 ? [`the workflow needs ${[...missing].join(', ')}`] : []),
    ...(unplaced.length > 0 ? [`the workflow has no {{${unplaced.join('}}, {{')}}}`] : []),
  ]
  return reasons.length > 0 ? { ok: false, reason: reasons.join('; ') } : { ok: true, graph: filled }
}

const WHOLE = /^\{\{\s*(\w+)\s*(?:\|([^{}]*))?\}\}$/
const PARTS = /\{\{\s*(\w+)\s*(?:\|([^{}]*))?\}\}/g

function fillText(text: string, lookUp: (name: string, standard: string | undefined) => Json): Json {
  const whole = WHOLE.exec(text)
  if (whole?.[1]) return lookUp(whole[1], whole[2])
  return text.replace(PARTS, (_, name: string, standard: string | undefined) => {
    const value = lookUp(name, standard)
    return typeof value === 'string' ? value : JSON.stringify(value)
  })
}

/** A default as the number or truth value that it looks like, else as text. */
function literal(text: string): Json {
  const plain = text.trim()
  const json = jsonOf(new TextEncoder().encode(plain))
  return json === undefined ? plain : json
}
