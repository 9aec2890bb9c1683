/**
 * OpenAI images as a server (providers.md section 5): synchronous, base64 only, a form with `image[]` for edits, two kinds
 * of 429, moderation as a 400.
 */
import type { Json, JsonObject } from '../../../src/core/json.ts'
import { either, type Fields, int, matching, oneOf, type Rule, text, type Wrong, wrongIn } from './fields.ts'
import { type Call, early, formOf, type Job, type Refusal, type Reply, StandIn } from './stand-in.ts'

const FIXED = ['auto', '1024x1024', '1536x1024', '1024x1536']
const MODELS: readonly [RegExp, { freeSize: boolean; qualities: string[]; transparent: boolean; fidelity: boolean }][] =
  [
    [/^gpt-image-1\.5$|^gpt-image-1-mini$/, { freeSize: false, qualities: [], transparent: true, fidelity: true }],
    [/^gpt-image-2(-\d{4}-\d\d-\d\d)?$/, { freeSize: true, qualities: [], transparent: false, fidelity: false }],
    [
      /^gpt-image-2\.[56]-(sunburst|flare)$/,
      { freeSize: true, qualities: ['xhigh', 'max'], transparent: true, fidelity: false },
    ],
    [/^chatgpt-image-latest$/, { freeSize: true, qualities: [], transparent: true, fidelity: true }],
  ]

const freeSize: Rule = value => {
  const match = typeof value === 'string' ? /^(\d+)x(\d+)$/.exec(value) : null
  if (!match) return 'must be WxH'
  const [width, height] = [Number(match[1]), Number(match[2])]
  const ratio = width / height
  const fits = width % 16 === 0 && height % 16 === 0 && Math.max(width, height) <= 3_840 && ratio >= 1 / 3 && ratio <= 3
  return fits ? null : 'must be divisible by 16, between 1:3 and 3:1, at most 3840'
}

/** What the API has against the fields of a call; 'unknown' when there is no such model. */
export function openAiProblem(fields: Json | undefined, edit: boolean): Wrong | 'unknown' | null {
  const model = (fields as JsonObject | undefined)?.model
  const rules = MODELS.find(([id]) => id.test(String(model)))?.[1]
  if (!rules) return 'unknown'
  const known: Fields = {
    model: text(100, 1),
    prompt: text(32_000, 1),
    n: int(1, 10),
    size: rules.freeSize ? either(oneOf(...FIXED), freeSize) : oneOf(...FIXED),
    quality: oneOf('low', 'medium', 'high', 'auto', ...rules.qualities),
    background: oneOf('opaque', 'auto', ...(rules.transparent ? ['transparent'] : [])),
    output_format: oneOf('png', 'jpeg', 'webp'),
    output_compression: int(0, 100),
    ...(edit ? {} : { moderation: oneOf('low', 'auto') }),
    ...(edit && rules.fidelity ? { input_fidelity: oneOf('low', 'high') } : {}),
    stream: oneOf(false),
    safety_identifier: text(200),
    user: text(200),
  }
  return wrongIn(fields, known, ['model', 'prompt'])
}

const NUMBERS = new Set(['n', 'output_compression'])
const FILES = matching(/^image\/(png|jpeg|webp)$/, 'a picture')

export class OpenAiStandIn extends StandIn {
  readonly provider = 'openai'
  /** Answers as a compatible server of one's own does: with links, relative ones. */
  links = false
  /** Pictures and masks of the edits, oldest first. */
  readonly edited: { field: string; bytes: Uint8Array }[] = []

  override get baseUrl(): string {
    return `${this.url}/v1`
  }

  protected isSubmit(call: Call): boolean {
    return call.method === 'POST'
  }

  protected async answer(call: Call): Promise<Reply> {
    if (call.path.startsWith('/generated-images/'))
      return { status: 200, body: this.bytesOf({ gives: 'image' }), headers: { 'content-type': 'image/png' } }
    if (call.headers.authorization !== `Bearer ${this.key}`)
      return error(401, 'invalid_request_error', 'invalid_api_key', 'Incorrect API key provided')
    if (call.method !== 'POST') return error(404, 'invalid_request_error', null, 'Invalid URL')
    if (call.path === '/v1/images/generations') return this.#paint(call.json, false)
    if (call.path === '/v1/images/edits') return this.#edit(call)
    return error(404, 'invalid_request_error', null, 'Invalid URL')
  }

  async #edit(call: Call): Promise<Reply> {
    const form = await formOf(call)
    if (!form) return error(400, 'invalid_request_error', 'invalid_value', 'expected multipart/form-data')
    const fields: JsonObject = {}
    let pictures = 0
    for (const [name, value] of form as unknown as Iterable<[string, string | Blob]>) {
      if (typeof value === 'string') {
        fields[name] = NUMBERS.has(name) ? Number(value) : value
        continue
      }
      if (name !== 'image' && name !== 'image[]' && name !== 'mask') return unknownField(name)
      if (FILES(value.type) !== null || value.size > 50_000_000)
        return error(400, 'invalid_request_error', 'invalid_value', `${name} is no picture`)
      if (name !== 'mask') pictures++
      this.edited.push({ field: name, bytes: new Uint8Array(await value.arrayBuffer()) })
    }
    if (pictures < 1 || pictures > 16)
      return error(400, 'invalid_request_error', 'invalid_value', '1 to 16 images are needed')
    return this.#paint(fields, true)
  }

  #paint(fields: Json | undefined, edit: boolean): Reply {
    const scene = this.scene()
    const problem = openAiProblem(fields, edit)
    const refused = early(scene, refuse) ?? (problem && problemReply(problem))
    if (refused) return refused
    if (scene.type === 'fail' && (scene.how === 'input' || scene.how === 'output')) return refuse({ because: 'input' })
    if (scene.type === 'fail' && scene.how !== 'empty') return refuse({ because: 'broken' })
    const body = fields as JsonObject
    const order = {
      id: crypto.randomUUID(),
      scene,
      body,
      model: String(body.model),
      callbackUrl: null,
      gives: 'image' as const,
    }
    return this.take(order, job => ({ status: 200, json: this.#pictures(job) }))
  }

  #pictures(job: Job): JsonObject {
    const isEmpty = job.scene.type === 'fail'
    const painted = isEmpty ? 0 : 1_056
    const data = Array.from(
      { length: isEmpty ? 0 : Number(job.body.n ?? 1) },
      (_, i): JsonObject =>
        this.links
          ? { url: `/generated-images/${job.id}-${i}.png` }
          : { b64_json: Buffer.from(this.bytesOf(job)).toString('base64') },
    )
    return {
      created: Math.floor(job.at / 1_000),
      data,
      size: '1024x1024',
      quality: 'medium',
      background: 'opaque',
      output_format: job.body.output_format ?? 'png',
      usage: { input_tokens: 12, output_tokens: painted, total_tokens: 12 + painted },
    }
  }
}

function error(
  status: number,
  type: string,
  code: string | null,
  message: string,
  headers: Record<string, string> = {},
): Reply {
  return { status, json: { error: { message, type, param: null, code } }, headers }
}

const unknownField = (name: string): Reply =>
  error(400, 'invalid_request_error', 'unknown_parameter', `Unknown parameter: '${name}'.`)

function problemReply(problem: Wrong | 'unknown'): Reply {
  if (problem === 'unknown') return error(404, 'invalid_request_error', 'model_not_found', 'The model does not exist')
  if (problem.why.startsWith('extra')) return unknownField(problem.path.join('.'))
  return error(400, 'invalid_request_error', 'invalid_value', `${problem.path.join('.')}: ${problem.why}`)
}

function refuse(why: Refusal): Reply {
  switch (why.because) {
    case 'rate_limited': {
      const headers: Record<string, string> = why.retryAfterS ? { 'retry-after': String(why.retryAfterS) } : {}
      return error(429, 'requests', 'rate_limit_exceeded', 'Rate limit reached', headers)
    }
    case 'overloaded':
      return error(503, 'server_error', null, 'The server is overloaded')
    case 'credit':
      return error(429, 'insufficient_quota', 'insufficient_quota', 'You exceeded your current quota')
    case 'key':
      return error(401, 'invalid_request_error', 'invalid_api_key', 'Incorrect API key provided')
    case 'model':
      return error(
        404,
        'invalid_request_error',
        'model_not_found',
        'The model does not exist or you do not have access',
      )
    case 'invalid':
      return error(400, 'invalid_request_error', 'invalid_value', 'Invalid size')
    case 'input':
      return error(
        400,
        'image_generation_user_error',
        'moderation_blocked',
        'Your request was rejected by the safety system',
      )
    case 'broken':
      return error(500, 'server_error', 'server_error', 'The server had an error')
  }
}
