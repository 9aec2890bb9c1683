/**
 * BytePlus ModelArk as a server (providers.md section 2): synchronous pictures with mixed results, tasks with an id only,
 * DELETE that cancels or erases by status, an unsigned callback at every change of status.
 */
import type { Json, JsonObject } from '../../../src/core/json.ts'
import {
  bool,
  either,
  type Fields,
  httpsUrl,
  int,
  isObject,
  list,
  matching,
  num,
  oneOf,
  shape,
  text,
  urlOrData,
  type Wrong,
  wrongIn,
} from './fields.ts'
import { type Call, early, type Hook, type Job, type Refusal, type Reply, StandIn } from './stand-in.ts'

const MAX_PICTURE = 30_000_000
const picture = urlOrData(MAX_PICTURE)

interface ImageRules {
  sizes: readonly string[]
  pixels: readonly [number, number]
  pictures: number
  fields?: Fields
  drop?: readonly string[]
}

/** Rules of a picture model by the part of its id that stays. */
const IMAGE_RULES: readonly [RegExp, ImageRules][] = [
  [
    /^(dola-)?seedream-5-0-pro/,
    {
      sizes: ['1K', '1.5K', '2K', 'auto'],
      pixels: [921_600, 4_624_220],
      pictures: 10,
      fields: { output_format: oneOf('png', 'jpeg') },
      drop: ['sequential_image_generation', 'sequential_image_generation_options'],
    },
  ],
  [
    /^seedream-5-0/,
    {
      sizes: ['2K', '3K', '4K'],
      pixels: [3_686_400, 16_777_216],
      pictures: 14,
      fields: {
        output_format: oneOf('png', 'jpeg'),
        tools: list(shape({ type: oneOf('web_search') }, ['type']), 1),
      },
    },
  ],
  [/^seedream-4-5/, { sizes: ['2K', '4K'], pixels: [3_686_400, 16_777_216], pictures: 14 }],
  [/^seedream-4-0/, { sizes: ['1K', '2K', '4K'], pixels: [921_600, 16_777_216], pictures: 14 }],
]

function sizeRule({ sizes, pixels }: ImageRules) {
  const [least, most] = pixels
  return (value: Json): string | null => {
    if (typeof value !== 'string') return 'must be text'
    if (sizes.includes(value)) return null
    const match = /^(\d{2,5})x(\d{2,5})$/.exec(value)
    if (!match) return 'must be WxH or a named size'
    const count = Number(match[1]) * Number(match[2])
    return count >= least && count <= most ? null : `image size must be at least ${least} and at most ${most} pixels`
  }
}

/** What the picture API has against a body; 'unknown' when there is no such model. */
export function arkImageProblem(body: Json | undefined): Wrong | 'unknown' | null {
  if (!isObject(body)) return { path: [], why: 'must be an object' }
  const rules = IMAGE_RULES.find(([id]) => id.test(String(body.model)))?.[1]
  if (!rules) return 'unknown'
  const fields: Record<string, (value: Json) => string | null> = {
    model: text(200, 1),
    prompt: text(),
    image: either(picture, list(picture, rules.pictures, 1)),
    size: sizeRule(rules),
    response_format: oneOf('url', 'b64_json'),
    watermark: bool,
    sequential_image_generation: oneOf('disabled', 'auto'),
    sequential_image_generation_options: shape({ max_images: int(1, 15) }),
    stream: oneOf(false),
    optimize_prompt_options: shape({ mode: oneOf('standard', 'fast') }),
    ...rules.fields,
  }
  for (const name of rules.drop ?? []) delete fields[name]
  return wrongIn(body, fields, ['model', 'prompt'])
}

const link = (rule = urlOrData(MAX_PICTURE)) =>
  shape({ url: either(rule, matching(/^asset:\/\/\S+$/, 'an asset')) }, ['url'])
const part = either(
  shape({ type: oneOf('text'), text: text() }, ['type', 'text']),
  shape({ type: oneOf('image_url'), image_url: link(), role: oneOf('first_frame', 'last_frame', 'reference_image') }, [
    'type',
    'image_url',
  ]),
  shape({ type: oneOf('video_url'), video_url: link(httpsUrl), role: oneOf('reference_video') }, ['type', 'video_url']),
  shape({ type: oneOf('audio_url'), audio_url: link(), role: oneOf('reference_audio') }, ['type', 'audio_url']),
  shape({ type: oneOf('draft_task'), draft_task: shape({ id: text() }, ['id']) }, ['type', 'draft_task']),
)

const TASK_COMMON: Fields = {
  model: text(200, 1),
  content: list(part, 20, 1),
  ratio: oneOf('16:9', '4:3', '1:1', '3:4', '9:16', '21:9', 'adaptive'),
  watermark: bool,
  return_last_frame: bool,
  execution_expires_after: int(3_600, 259_200),
  callback_url: httpsUrl,
  safety_identifier: text(64, 1),
}
const seed = int(-1, 4_294_967_295)
const first = { seed, camera_fixed: bool, service_tier: oneOf('default', 'flex') }

const TASK_RULES: readonly [RegExp, Fields][] = [
  [
    /seedance-2-5/,
    {
      duration: either(oneOf(-1), int(4, 30)),
      resolution: oneOf('480p', '720p', '1080p', '4k'),
      generate_audio: bool,
      priority: int(0, 9),
    },
  ],
  [
    /seedance-2-0/,
    {
      duration: either(oneOf(-1), int(4, 15)),
      resolution: oneOf('480p', '720p', '1080p', '4k'),
      generate_audio: bool,
      priority: int(0, 9),
    },
  ],
  [
    /seedance-1-5/,
    {
      ...first,
      duration: either(oneOf(-1), int(4, 12)),
      resolution: oneOf('480p', '720p', '1080p'),
      generate_audio: bool,
      draft: bool,
    },
  ],
  [
    /seedance-1-0/,
    { ...first, duration: num(2, 12), resolution: oneOf('480p', '720p', '1080p'), frames: int(29, 289) },
  ],
]

/** What the video API has against a body; 'unknown' when there is no such model. */
export function arkTaskProblem(body: Json | undefined): Wrong | 'unknown' | null {
  if (!isObject(body)) return { path: [], why: 'must be an object' }
  const rules = TASK_RULES.find(([id]) => id.test(String(body.model)))?.[1]
  if (!rules) return 'unknown'
  const wrong = wrongIn(body, { ...TASK_COMMON, ...rules }, ['model', 'content'])
  if (wrong) return wrong
  const roles = (body.content as JsonObject[]).map(each => each.role)
  const frames = roles.includes('first_frame') || roles.includes('last_frame')
  if (frames && roles.includes('reference_image'))
    return { path: ['content'], why: 'frames and references exclude each other' }
  if (typeof body.frames === 'number' && (body.frames - 25) % 4 !== 0)
    return { path: ['frames'], why: 'must be 25 + 4n' }
  return null
}

const TASKS = '/api/v3/contents/generations/tasks'

export class BytePlusStandIn extends StandIn {
  readonly provider = 'byteplus'
  /** Whether task objects give `safety_identifier` back. */
  echoes = true
  #erased = new Set<string>()

  override get baseUrl(): string {
    return `${this.url}/api/v3`
  }

  protected isSubmit(call: Call): boolean {
    return call.method === 'POST'
  }

  protected answer(call: Call): Reply {
    if (call.headers.authorization !== `Bearer ${this.key}`)
      return error(401, 'AuthenticationError', 'the API key or AK/SK in the request is missing or invalid')
    if (call.method === 'POST' && call.path === '/api/v3/images/generations') return this.#paint(call.json)
    if (call.method === 'POST' && call.path === TASKS) return this.#film(call.json)
    if (call.method === 'GET' && call.path === TASKS) return this.#list(call.query)
    const id = call.path.startsWith(`${TASKS}/`) ? call.path.slice(TASKS.length + 1) : undefined
    const job = id !== undefined && !this.#erased.has(id) ? this.jobAt(id) : undefined
    if (!job) return error(404, 'ResourceNotFound', 'the specified task does not exist')
    if (call.method === 'GET') return { status: 200, json: this.#task(job) }
    return call.method === 'DELETE' ? this.#delete(job) : error(405, 'MethodNotAllowed', 'method not allowed')
  }

  #paint(body: Json | undefined): Reply {
    const scene = this.scene()
    const refused = early(scene, refuse) ?? problemReply(arkImageProblem(body))
    if (refused) return refused
    const given = body as JsonObject
    if (scene.type === 'fail' && scene.how === 'input') return refuse({ because: 'input' })
    const order = {
      id: crypto.randomUUID(),
      scene,
      body: given,
      model: String(given.model),
      callbackUrl: null,
      gives: 'image' as const,
    }
    return this.take(order, job => ({ status: 200, json: this.#pictures(job) }))
  }

  #pictures(job: Job): JsonObject {
    const { max_images: count = 1 } = (job.body.sequential_image_generation_options ?? {}) as JsonObject
    const sensitive = {
      error: { code: 'OutputImageSensitiveContentDetected', message: 'the output may be sensitive. Request id: 0217' },
    }
    const good: JsonObject =
      job.body.response_format === 'b64_json'
        ? { b64_json: Buffer.from(this.bytesOf(job)).toString('base64'), size: '2048x2048' }
        : { url: this.linkOf(job), size: '2048x2048' }
    const bad = job.scene.type === 'fail'
    const data: Json[] = bad
      ? job.scene.type === 'fail' && job.scene.how === 'empty'
        ? []
        : job.scene.type === 'fail' && job.scene.how === 'output'
          ? [sensitive]
          : [{ error: { code: 'InternalServiceError', message: 'internal' } }]
      : [good]
    // Of a series, the last may be refused while the others are fine.
    if (!bad && Number(count) > 1) data.push(sensitive)
    return {
      model: job.model,
      created: Math.floor(job.at / 1_000),
      data,
      usage: { generated_images: bad ? 0 : 1, output_tokens: 16_384, total_tokens: 16_384 },
    }
  }

  #film(body: Json | undefined): Reply {
    const scene = this.scene()
    const refused = early(scene, refuse) ?? problemReply(arkTaskProblem(body))
    if (refused) return refused
    const given = body as JsonObject
    const callbackUrl = typeof given.callback_url === 'string' ? given.callback_url : null
    const id = `cgt-20261122101500-${this.jobs.size.toString(36).padStart(5, '0')}`
    return this.take({ id, scene, body: given, model: String(given.model), callbackUrl, gives: 'video' }, () => ({
      status: 200,
      json: { id },
    }))
  }

  statusOf(job: Job): string {
    if (job.canceled) return 'cancelled'
    const phase = this.phase(job)
    if (phase !== 'ended') return phase
    const end = this.endOf(job)
    return end === 'good' || end === 'empty' ? 'succeeded' : end === 'canceled' ? 'cancelled' : 'failed'
  }

  #task(job: Job): JsonObject {
    const status = this.statusOf(job)
    const seconds = Math.floor(job.at / 1_000)
    const end = this.endOf(job)
    const task: JsonObject = {
      id: job.id,
      model: job.model,
      status,
      error: null,
      created_at: seconds,
      updated_at: seconds,
    }
    if (this.echoes && job.body.safety_identifier !== undefined) task.safety_identifier = job.body.safety_identifier
    if (status === 'succeeded' && end === 'good') {
      task.content = { video_url: this.linkOf(job) }
      Object.assign(task, {
        usage: { completion_tokens: 108_900, total_tokens: 108_900 },
        seed: 58_944,
        resolution: '720p',
        ratio: '16:9',
        duration: 5,
        framespersecond: 24,
      })
    }
    if (status === 'succeeded' && end === 'empty') task.content = {}
    if (status === 'failed') {
      const codes = {
        input: 'InputImageSensitiveContentDetected.PrivacyInformation',
        output: 'OutputVideoSensitiveContentDetected',
        error: 'InternalServiceError',
      }
      task.error = {
        code: codes[end === 'input' || end === 'output' ? end : 'error'],
        message: 'the request failed. Request id: 0217',
      }
    }
    return task
  }

  #list(query: URLSearchParams): Reply {
    const size = Number(query.get('page_size') ?? 10)
    const page = Number(query.get('page_num') ?? 1)
    if (!(size >= 1 && size <= 500 && page >= 1 && page <= 500))
      return error(400, 'InvalidParameter', 'page_size is out of range')
    const tier = query.get('filter.service_tier') ?? 'default'
    const all = this.submits()
      .filter(job => job.gives === 'video' && job.scene.type !== 'vanish' && !this.#erased.has(job.id))
      .filter(job => (job.body.service_tier ?? 'default') === tier)
      .toReversed()
    return {
      status: 200,
      json: { items: all.slice((page - 1) * size, page * size).map(job => this.#task(job)), total: all.length },
    }
  }

  #delete(job: Job): Reply {
    const status = this.statusOf(job)
    if (status === 'running' || status === 'cancelled')
      return error(400, 'InvalidAction', `a ${status} task cannot be deleted`)
    if (status === 'queued') job.canceled = true
    else this.#erased.add(job.id)
    return { status: 200, json: {} }
  }

  override hookOf(job: Job): Hook | null {
    if (job.callbackUrl === null) return null
    return {
      url: job.callbackUrl,
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify(this.#task(job)),
    }
  }
}

const error = (status: number, code: string, message: string, headers: Record<string, string> = {}): Reply => ({
  status,
  json: { error: { code, message: `${message}. Request id: 0217`, param: '', type: 'BadRequest' } },
  headers,
})

function problemReply(problem: Wrong | 'unknown' | null): Reply | null {
  if (problem === null) return null
  if (problem === 'unknown')
    return error(404, 'InvalidEndpointOrModel.NotFound', 'the model or endpoint does not exist')
  return error(
    400,
    problem.why === 'field required' ? 'MissingParameter' : 'InvalidParameter',
    `${problem.path.join('.')}: ${problem.why}`,
  )
}

function refuse(why: Refusal): Reply {
  switch (why.because) {
    case 'rate_limited': {
      const headers: Record<string, string> = why.retryAfterS ? { 'retry-after': String(why.retryAfterS) } : {}
      return error(429, 'ModelAccountRpmRateLimitExceeded', 'RPM limit exceeded', headers)
    }
    case 'overloaded':
      return error(429, 'ServerOverloaded', 'the service is overloaded')
    case 'credit':
      return error(403, 'AccountOverdueError', 'the account has an overdue balance')
    case 'key':
      return error(401, 'AuthenticationError', 'the API key is invalid')
    case 'model':
      return error(404, 'ModelNotOpen', 'your account has not activated the model')
    case 'invalid':
      return error(400, 'InvalidParameter', 'duration is invalid')
    case 'input':
      return error(400, 'InputTextSensitiveContentDetected', 'the input text may contain sensitive information')
    case 'broken':
      return error(500, 'InternalServiceError', 'the service encountered an unexpected internal error')
  }
}
