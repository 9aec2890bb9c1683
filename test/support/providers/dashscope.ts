/**
 * Alibaba's DashScope as a server (providers.md section 8): the async header, sizes with an asterisk, synchronous pictures
 * by messages, UNKNOWN for a foreign id, a cancel that takes PENDING only.
 */
import type { Json, JsonObject } from '../../../src/core/json.ts'
import {
  bool,
  type Fields,
  httpsUrl,
  int,
  isObject,
  list,
  matching,
  oneOf,
  type Rule,
  shape,
  text,
  urlOrData,
  type Wrong,
  wrongIn,
} from './fields.ts'
import { type Call, early, type Job, type Refusal, type Reply, StandIn } from './stand-in.ts'

const picture = urlOrData(10_000_000)
const SIZE = matching(/^\d{3,4}\*\d{3,4}$/, 'WIDTH*HEIGHT with an asterisk')
const seed = int(0, 2_147_483_647)
const message = shape({ role: oneOf('user'), content: list(shape({ image: picture, text: text() }), 10, 1) }, [
  'role',
  'content',
])

const pictureParameters: Fields = {
  size: SIZE,
  n: int(1, 6),
  negative_prompt: text(500),
  prompt_extend: bool,
  watermark: bool,
  seed,
}
const filmParameters: Fields = {
  size: SIZE,
  resolution: oneOf('480P', '720P', '1080P'),
  ratio: matching(/^\d+:\d+$|^adaptive$/, 'a ratio'),
  duration: int(2, 15),
  audio: bool,
  seed,
  prompt_extend: bool,
  watermark: bool,
  shot_type: oneOf('single', 'multi'),
}
/** Sound is always on. */
const { audio: _, ...newFilmParameters } = filmParameters
const media = shape(
  {
    type: oneOf(
      'first_frame',
      'last_frame',
      'reference_image',
      'reference_video',
      'reference_audio',
      'driving_audio',
      'first_clip',
    ),
    url: picture,
    reference_voice: httpsUrl,
  },
  ['type', 'url'],
)
const oldFilmInput: Fields = {
  prompt: text(2_000),
  negative_prompt: text(500),
  img_url: picture,
  audio_url: httpsUrl,
  reference_urls: list(httpsUrl, 5),
}
const newFilmInput: Fields = {
  prompt: text(5_000),
  negative_prompt: text(500),
  media: list(media, 10, 1),
  audio_url: httpsUrl,
}
const keyFrames: Fields = {
  prompt: text(2_000),
  negative_prompt: text(500),
  first_frame_url: picture,
  last_frame_url: picture,
}

interface Service {
  models: RegExp
  input: Rule
  parameters: Fields
  sync?: true
  gives: 'image' | 'video'
}

const film = (models: RegExp, input: Fields, required: string[], parameters = filmParameters): Service => ({
  models,
  input: shape(input, required),
  parameters,
  gives: 'video',
})

const SERVICES: Readonly<Record<string, readonly Service[]>> = {
  'video-generation/video-synthesis': [
    // HappyHorse is listed without its family; its public adapter speaks the older one.
    film(/^(wan2\.[56]-(t2v|i2v|r2v)|happyhorse-1\.0-)/, oldFilmInput, []),
    film(/^(wan2\.7-|wan3\.0-video)/, newFilmInput, [], newFilmParameters),
  ],
  'image2video/video-synthesis': [film(/^wan2\.\d-kf2v/, keyFrames, ['first_frame_url'])],
  'multimodal-generation/generation': [
    {
      models: /^(qwen-image|wan2\.6-t2i|wan2\.6-image|wan2\.7-image)/,
      input: shape({ messages: list(message, 1, 1) }, ['messages']),
      parameters: pictureParameters,
      sync: true,
      gives: 'image',
    },
  ],
  'text2image/image-synthesis': [
    {
      models: /^wan2\.(2-t2i-(flash|plus)|5-t2i-preview)$/,
      input: shape({ prompt: text(2_000, 1), negative_prompt: text(500) }, ['prompt']),
      parameters: pictureParameters,
      gives: 'image',
    },
  ],
  'image2image/image-synthesis': [
    {
      models: /^wan2\.(5-i2i-preview|1-imageedit)$/,
      input: shape({ prompt: text(2_000, 1), negative_prompt: text(500), images: list(picture, 3, 1) }, [
        'prompt',
        'images',
      ]),
      parameters: pictureParameters,
      gives: 'image',
    },
  ],
}

/** What a service has against a body; 'unknown' when it has no such model. */
export function dashScopeProblem(service: string, body: Json | undefined): Wrong | 'unknown' | null {
  const model = isObject(body) ? String(body.model) : ''
  const found = SERVICES[service]?.find(each => each.models.test(model))
  if (!found) return 'unknown'
  const fields = { model: text(100, 1), input: found.input, parameters: shape(found.parameters) }
  return wrongIn(body, fields, ['model', 'input'])
}

const PREFIX = '/api/v1/services/aigc/'

export class DashScopeStandIn extends StandIn {
  readonly provider = 'dashscope'

  override get baseUrl(): string {
    return `${this.url}/api/v1`
  }

  protected isSubmit(call: Call): boolean {
    return call.path.startsWith(PREFIX)
  }

  protected answer(call: Call): Reply {
    if (call.headers.authorization !== `Bearer ${this.key}`)
      return failure(401, 'InvalidApiKey', 'Invalid API-key provided.')
    if (call.method === 'POST' && call.path.startsWith(PREFIX))
      return this.#submit(call.path.slice(PREFIX.length), call)
    const [, id = '', cancel] = /^\/api\/v1\/tasks\/([\w-]+)(\/cancel)?$/.exec(call.path) ?? []
    const job = this.jobAt(id)
    if (cancel && call.method === 'POST') return this.#cancel(job)
    if (call.method !== 'GET' || id === '') return failure(404, 'InvalidURL', 'url error')
    if (!job) return { status: 200, json: { request_id: 'r', output: { task_id: id, task_status: 'UNKNOWN' } } }
    return { status: 200, json: this.#task(job) }
  }

  #submit(service: string, call: Call): Reply {
    const scene = this.scene()
    const problem = dashScopeProblem(service, call.json)
    const refused = early(scene, refuse) ?? (problem && problemReply(problem))
    if (refused) return refused
    const body = call.json as JsonObject
    const rules = SERVICES[service]?.find(each => each.models.test(String(body.model)))
    const isAsync = call.headers['x-dashscope-async'] === 'enable'
    if (!rules?.sync && !isAsync)
      return failure(403, 'AccessDenied', 'current user api does not support synchronous calls.')
    if (rules?.sync && isAsync)
      return failure(403, 'AccessDenied', 'current user api does not support asynchronous calls.')
    const id = crypto.randomUUID()
    const order = {
      id,
      scene,
      body,
      model: String(body.model),
      callbackUrl: null,
      gives: rules?.gives ?? 'image',
    } as const
    if (!rules?.sync) {
      return this.take(order, () => ({
        status: 200,
        json: { output: { task_id: id, task_status: 'PENDING' }, request_id: 'r' },
      }))
    }
    const isEmpty = scene.type === 'fail' && scene.how === 'empty'
    if (scene.type === 'fail' && !isEmpty) return refuse({ because: scene.how === 'error' ? 'broken' : 'input' })
    return this.take(order, job => {
      const content: Json[] = [isEmpty ? { text: 'I cannot draw this.' } : { image: this.linkOf(job) }]
      const choice = { finish_reason: 'stop', message: { role: 'assistant', content } }
      const usage: JsonObject = isEmpty ? {} : { image_count: 1 }
      return { status: 200, json: { output: { choices: [choice] }, usage, request_id: 'r' } }
    })
  }

  #task(job: Job): JsonObject {
    const phase = this.phase(job)
    const output = (task_status: string, more: JsonObject = {}): JsonObject => ({
      request_id: 'r',
      output: { task_id: job.id, task_status, submit_time: '2026-11-22 10:00:00.000', ...more },
    })
    if (phase !== 'ended') return output(phase === 'queued' ? 'PENDING' : 'RUNNING')
    switch (this.endOf(job)) {
      case 'good': {
        const url = this.linkOf(job)
        return output('SUCCEEDED', job.gives === 'video' ? { video_url: url } : { results: [{ url }] })
      }
      case 'empty':
        return output('SUCCEEDED')
      case 'input':
      case 'output':
        return output('FAILED', {
          code: 'DataInspectionFailed',
          message: 'Output data may contain inappropriate content.',
        })
      case 'error':
        return output('FAILED', { code: 'InternalError.Timeout', message: 'An internal timeout error has occurred.' })
      case 'canceled':
        return output('CANCELED')
    }
  }

  #cancel(job: Job | undefined): Reply {
    if (!job || this.phase(job) !== 'queued') return failure(400, 'UnsupportedOperation', 'Failed to cancel the task')
    job.canceled = true
    return { status: 200, json: { request_id: 'r' } }
  }
}

const failure = (status: number, code: string, message: string, headers: Record<string, string> = {}): Reply => ({
  status,
  json: { code, message, request_id: 'r' },
  headers,
})

function problemReply(problem: Wrong | 'unknown'): Reply {
  if (problem === 'unknown') return failure(404, 'ModelNotFound', 'Model not exist.')
  return failure(400, 'InvalidParameter', `${problem.path.join('.')}: ${problem.why}`)
}

function refuse(why: Refusal): Reply {
  switch (why.because) {
    case 'rate_limited': {
      const headers: Record<string, string> = why.retryAfterS ? { 'retry-after': String(why.retryAfterS) } : {}
      return failure(429, 'Throttling.RateQuota', 'Requests rate limit exceeded', headers)
    }
    case 'overloaded':
      return failure(503, 'ServiceUnavailable', 'Too busy')
    case 'credit':
      return failure(400, 'Arrearage', 'Access denied, please make sure your account is in good standing.')
    case 'key':
      return failure(401, 'InvalidApiKey', 'Invalid API-key provided.')
    case 'model':
      return failure(403, 'AccessDenied.Unpurchased', 'Access to model denied. Please make sure you are eligible')
    case 'invalid':
      return failure(400, 'InvalidParameter', 'size is invalid')
    case 'input':
      return failure(400, 'DataInspectionFailed', 'Input data may contain inappropriate content.')
    case 'broken':
      return failure(500, 'InternalError', 'An internal error has occurred')
  }
}
