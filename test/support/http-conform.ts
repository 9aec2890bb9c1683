/**
 * Holds every answer of the tests against the document: a status, a type or a field that it does not name is a mistake.
 * The schemas of answers are open for callers (new fields may come); here they are closed.
 */
import { Compile } from 'typebox/compile'
import type { Api } from '../../src/http/api.ts'

interface Operation {
  responses: Record<string, { $ref?: string; content?: Record<string, { schema?: Schema }> }>
}
type Schema = Record<string, unknown>
type Check = { Check(value: unknown): boolean; Errors(value: unknown): { instancePath: string; message: string }[] }

export class Conformity {
  readonly #api: Api
  readonly #checks = new Map<string, Check | null>()

  constructor(api: Api) {
    this.#api = api
  }

  /** @throws with a sentence when the answer is not what the document says */
  async hold(method: string, path: string, response: Response): Promise<void> {
    const { pathname } = new URL(path, 'http://x.test')
    const found = this.#operation(method, pathname)
    if (!found) return
    const { status } = response
    const where = `${method} ${found.template} ${status}`
    const described = found.operation.responses[status]
    if (!described) {
      if (status === 500) return
      throw new Error(`${where}: the document has no such answer`)
    }
    const type = response.headers.get('content-type')?.split(';')[0] ?? ''
    const content = this.#resolve(described).content as Record<string, { schema?: Schema }> | undefined
    if (content === undefined || (status === 304 && response.body === null)) return
    const entry = content[type] ?? content[type.replace(/\/.*/, '/*')]
    if (!entry) throw new Error(`${where}: the document has no ${type}, but ${Object.keys(content).join(', ')}`)
    if (!type.endsWith('json') || !entry.schema) return
    this.#check(`${where} ${type}`, entry.schema, await response.clone().json())
  }

  /** Checks a value against a named schema. */
  shape(name: string, value: unknown): void {
    this.#check(name, { $ref: `#/components/schemas/${name}` }, value)
  }

  #check(where: string, schema: Schema, value: unknown): void {
    let check = this.#checks.get(where)
    if (!check) {
      check = Compile(this.#closed(schema) as never) as unknown as Check
      this.#checks.set(where, check)
    }
    if (check.Check(value)) return
    const [first] = check.Errors(value).filter(error => error.message !== 'schema is false')
    throw new Error(`${where}: ${first?.instancePath} ${first?.message}: ${JSON.stringify(value).slice(0, 300)}`)
  }

  #operation(method: string, pathname: string): { template: string; operation: Operation } | null {
    for (const [template, methods] of Object.entries(this.#api.openapi.paths)) {
      const pattern = new RegExp(`^${template.replaceAll('.', '\\.').replaceAll(/\{[^}]+\}/g, '[^/]+')}$`)
      const operation = methods[method.toLowerCase()]
      if (pattern.test(pathname) && operation) return { template, operation: operation as unknown as Operation }
    }
    return null
  }

  #resolve(schema: Schema): Schema {
    if (typeof schema.$ref !== 'string') return schema
    const parts = schema.$ref.slice(2).split('/')
    return parts.reduce<Schema>((at, part) => at[part] as Schema, this.#api.openapi as unknown as Schema)
  }

  /** Without references, and with every object closed. */
  #closed(schema: Schema): Schema {
    const whole = this.#resolve(schema)
    const inner = (value: unknown): unknown =>
      typeof value === 'object' && value !== null && !Array.isArray(value) ? this.#closed(value as Schema) : value
    const list = (value: unknown): unknown => (Array.isArray(value) ? value.map(inner) : value)
    const made: Schema = { ...whole }
    for (const key of ['items', 'additionalProperties']) if (key in made) made[key] = inner(made[key])
    for (const key of ['anyOf', 'allOf']) if (key in made) made[key] = list(made[key])
    for (const key of ['properties', 'patternProperties']) {
      const fields = made[key] as Record<string, unknown> | undefined
      if (fields) made[key] = Object.fromEntries(Object.entries(fields).map(([name, field]) => [name, inner(field)]))
    }
    if (made.properties && !('additionalProperties' in made)) made.additionalProperties = false
    return made
  }
}
