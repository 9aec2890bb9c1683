/**
 * A ComfyUI workflow as a template: a graph in API format whose values may be placeholders.
 *
 * 1. COMFYUI_WORKFLOWS names one JSON file for every model, or a directory: `{model}.{role}.json`, else `{model}.json`.
 * 2. A value that is `"{{seed}}"` becomes the parameter itself, number or text; inside a longer text it becomes text.
 *    `"{{steps|20}}"` has a default. What a caller wrote is never read as a placeholder.
 * 3. Every parameter must have a place, and every placeholder a value: nothing is dropped silently. Only `seed` may be
 *    missing; it then follows from the attempt, so that two attempts differ.
 */
import { join } from 'node:path'
import type { Json, JsonObject } from '../core/json.ts'
import type { Role } from '../core/model.ts'
import { jsonOf } from './protocol.ts'

export interface Workflows {
  /** The graph for a model in a role, or what is wrong with the file. */
  load(model: string, role: Role): Promise<{ ok: true; graph: JsonObject } | { ok: false; reason: string }>
}

export function createWorkflows(path: string): Workflows {
  return {
    async load(model, role) {
      if (!/^\w[\w.-]*$/.test(model)) return { ok: false, reason: `a workflow cannot be called ${model}` }
      const names = path.endsWith('.json') ? [path] : [join(path, `${model}.${role}.json`), join(path, `${model}.json`)]
      for (const name of names) {
        const file = Bun.file(name)
        if (!(await file.exists())) continue
        const graph = jsonOf(await file.bytes())
        if (isGraph(graph)) return { ok: true, graph }
        return { ok: false, reason: `the workflow ${name} is not a graph in ComfyUI's API format` }
      }
      return { ok: false, reason: `there is no workflow ${names.join(' or ')}` }
    },
  }
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
