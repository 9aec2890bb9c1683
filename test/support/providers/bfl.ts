/**
 * Black Forest Labs as a server (providers.md section 1): x-key, FastAPI errors, two submit shapes, a polling address
 * that may lie on another origin, failed jobs as HTTP 200, webhooks with both proofs.
 */
import { createHmac } from 'node:crypto'
import type { Json, JsonObject } from '../../../src/core/json.ts'
import {
  any,
  bareBase64,
  bool,
  either,
  type Fields,
  httpsUrl,
  int,
  list,
  matching,
  num,
  oneOf,
  text,
  type Wrong,
  wrongIn,
} from './fields.ts'
import {
  type Call,
  early,
  type Hook,
  type Job,
  type Refusal,
  type Reply,
  StandIn,
  type StandInOptions,
} from './stand-in.ts'

const MAX_PICTURE = 20_000_000
const picture = either(httpsUrl, bareBase64(MAX_PICTURE))
const seed = int(0, Number.MAX_SAFE_INTEGER)
const format = oneOf('jpeg', 'png', 'webp')
const hook: Fields = { webhook_url: text(2_083, 1), webhook_secret: text() }

const references = (count: number): Fields =>
  Object.fromEntries(
    Array.from({ length: count }, (_, i) => [i === 0 ? 'input_image' : `input_image_${i + 1}`, picture]),
  )

const side = either(oneOf(0), int(64, 8_192, 16))
const flux2 = (pictures: number): Fields => ({
  ...hook,
  ...references(pictures),
  prompt: text(),
  width: side,
  height: side,
  seed,
  safety_tolerance: int(0, 5),
  output_format: format,
})
const kontext: Fields = {
  ...hook,
  ...references(4),
  prompt: text(),
  aspect_ratio: matching(/^\d+:\d+$/, 'W:H'),
  prompt_upsampling: bool,
  safety_tolerance: int(0, 6),
  output_format: format,
  seed,
}
const flux1: Fields = {
  ...hook,
  prompt: text(),
  image_prompt: picture,
  width: int(256, 1_440, 32),
  height: int(256, 1_440, 32),
  prompt_upsampling: bool,
  safety_tolerance: int(0, 6),
  output_format: format,
  seed,
}
const FLUX3_RATIOS = [
  'auto',
  '21:9',
  '2:1',
  '16:9',
  '3:2',
  '7:5',
  '4:3',
  '5:4',
  '1:1',
  '4:5',
  '3:4',
  '5:7',
  '2:3',
  '9:16',
  '1:2',
  '9:21',
]
const flux3Image: Fields = {
  ...hook,
  prompt: text(),
  images: either(picture, list(picture, 10, 1)),
  aspect_ratio: oneOf(...FLUX3_RATIOS),
  resolution: oneOf('768sq', '1k', '1.5k', '2k', '4k'),
  output_format: format,
  seed,
}

/** Written down as base64; links are taken too, as everywhere else. */
const source: Fields = {
  ...hook,
  prompt: text(),
  image: picture,
  prompt_upsampling: bool,
  safety_tolerance: int(0, 6),
  output_format: format,
  seed,
}
const tool: Fields = { ...source, steps: int(15, 50), guidance: num(1.5, 100) }

const ENDPOINTS: Readonly<Record<string, { fields: Fields; required: readonly string[]; gives?: 'video' }>> = {
  'flux-2-pro': { fields: flux2(8), required: ['prompt'] },
  'flux-2-pro-preview': { fields: flux2(8), required: ['prompt'] },
  'flux-2-max': { fields: flux2(8), required: ['prompt'] },
  'flux-2-flex': {
    fields: {
      ...flux2(8),
      input_image_blob_path: text(),
      prompt_upsampling: bool,
      guidance: num(1.5, 10),
      steps: int(1, 50),
    },
    required: ['prompt'],
  },
  'flux-2-klein-4b': { fields: flux2(4), required: ['prompt'] },
  'flux-2-klein-9b': { fields: flux2(4), required: ['prompt'] },
  'flux-2-klein-9b-preview': { fields: flux2(4), required: ['prompt'] },
  'flux-kontext-pro': { fields: kontext, required: ['prompt'] },
  'flux-kontext-max': { fields: kontext, required: ['prompt'] },
  'flux-pro-1.1': { fields: flux1, required: [] },
  'flux-dev': { fields: { ...flux1, steps: int(1, 50), guidance: num(1.5, 5) }, required: [] },
  'flux-pro-1.1-ultra': {
    fields: {
      ...hook,
      prompt: text(),
      aspect_ratio: matching(/^\d+:\d+$/, 'W:H'),
      raw: bool,
      image_prompt: picture,
      image_prompt_strength: num(0, 1),
      prompt_upsampling: bool,
      safety_tolerance: int(0, 6),
      output_format: format,
      seed,
    },
    required: [],
  },
  'flux-pro-1.0-fill': { fields: { ...tool, mask: picture }, required: ['image'] },
  'flux-pro-1.0-expand': {
    fields: { ...tool, top: int(0, 2_048), bottom: int(0, 2_048), left: int(0, 2_048), right: int(0, 2_048) },
    required: ['image'],
  },
  'flux-3-image': { fields: flux3Image, required: ['prompt'] },
  'flux-3-image-klein': { fields: flux3Image, required: ['prompt'] },
  'flux-3-video': {
    fields: {
      ...hook,
      mode: oneOf('t2v', 'i2v', 'v2v', 'draft_enhance'),
      prompt: text(),
      keyframes: list(either(picture, any), 10, 1),
      duration: either(oneOf('auto'), int(5, 20)),
      resolution: oneOf('hd', 'fhd'),
      aspect_ratio: oneOf('21:9', '16:9', '4:3', '1:1', '3:4', '9:16', 'auto'),
      generate_audio: bool,
      safety_tolerance: int(0, 4),
      draft: bool,
      version: text(),
    },
    required: ['mode'],
    gives: 'video',
  },
}

/** What the endpoint has against a body; null when it takes it, 'unknown' when there is no such endpoint. */
export function bflProblem(endpoint: string, body: Json | undefined): Wrong | 'unknown' | null {
  const rules = ENDPOINTS[endpoint]
  if (!rules) return 'unknown'
  const wrong = wrongIn(body, rules.fields, rules.required)
  if (wrong) return wrong
  const { width, height } = body as JsonObject
  const pixels = typeof width === 'number' && typeof height === 'number' ? width * height : 0
  return endpoint.startsWith('flux-2') && pixels > 4_194_304 ? { path: ['width'], why: 'more than 4 megapixels' } : null
}

export interface BflStandInOptions extends StandInOptions {
  /** Where `polling_url` points; by default at this server. */
  pollingOrigin?: string
  /** How webhooks prove themselves. */
  proof?: 'signature' | 'echo'
}

export class BflStandIn extends StandIn {
  readonly provider = 'bfl'
  readonly #bfl: BflStandInOptions
  /** For so long after its submit another cluster answers, which does not know the job (ms). */
  strangeForMs = 0

  constructor(options: BflStandInOptions = {}) {
    super(options)
    this.#bfl = options
  }

  protected isSubmit(call: Call): boolean {
    return call.method === 'POST'
  }

  protected answer(call: Call): Reply {
    if (call.headers['x-key'] !== this.key) return detail(403, 'Not authenticated - Invalid Authentication')
    if (call.method === 'GET' && call.path === '/v1/get_result') return this.#poll(call.query.get('id') ?? '')
    if (call.method === 'GET' && call.path === '/v1/credits') return { status: 200, json: { credits: 812.5 } }
    if (call.method === 'POST' && call.path.startsWith('/v1/')) return this.#submit(call.path.slice(4), call.json)
    return detail(404, 'Not Found')
  }

  #submit(endpoint: string, body: Json | undefined): Reply {
    const scene = this.scene()
    const refused = early(scene, refuse)
    if (refused) return refused
    const problem = bflProblem(endpoint, body)
    if (problem === 'unknown') return detail(404, 'Not Found')
    if (problem) {
      const error = { loc: ['body', ...problem.path], msg: problem.why, type: 'value_error' }
      return { status: 422, json: { detail: [error] } }
    }
    const given = body as JsonObject
    const callbackUrl = typeof given.webhook_url === 'string' ? given.webhook_url : null
    const id = crypto.randomUUID()
    const gives = ENDPOINTS[endpoint]?.gives ?? 'image'
    const polling_url = `${this.#bfl.pollingOrigin ?? this.url}/v1/get_result?id=${id}`
    const answer: JsonObject = callbackUrl
      ? { id, status: 'Pending', webhook_url: callbackUrl, cost: 5 }
      : { id, polling_url, cost: 5, input_mp: 0, output_mp: 1 }
    return this.take({ id, scene, body: given, model: endpoint, callbackUrl, gives }, () => ({
      status: 200,
      json: answer,
    }))
  }

  #poll(id: string): Reply {
    const job = this.jobAt(id)
    if (!job || this.now() - job.at < this.strangeForMs) {
      // Seen both ways.
      const gone = { id, status: 'Task not found', result: null, progress: null, details: null, preview: null }
      return this.calls.length % 2 === 0 ? { status: 200, json: gone } : detail(404, 'Task not found')
    }
    return { status: 200, json: this.#state(job) }
  }

  #state(job: Job): JsonObject {
    const state = (status: string, more: JsonObject = {}): JsonObject => ({
      id: job.id,
      status,
      result: null,
      progress: null,
      details: null,
      preview: null,
      ...more,
    })
    const phase = this.phase(job)
    if (phase === 'queued') return state('Pending')
    // `Generating` is in no schema, and adapters have seen it.
    if (phase === 'running') return state(job.n % 2 === 0 ? 'Pending' : 'Generating', { progress: 0.5 })
    switch (this.endOf(job)) {
      case 'good':
        return state('Ready', {
          progress: 1,
          cost: 5,
          result: { sample: this.linkOf(job), prompt: String(job.body.prompt ?? ''), seed: 1_234, duration: 6.8 },
        })
      case 'empty':
        return state('Ready', { progress: 1, result: { prompt: '' } })
      case 'input':
        return state('Request Moderated', { details: { 'Moderation Reasons': ['Derivative Works Filter'] } })
      case 'output':
        return state('Content Moderated', { details: 'Safety Filter' })
      case 'error':
      case 'canceled':
        return state('Error', { details: { reason: 'worker died' } })
    }
  }

  override hookOf(job: Job): Hook | null {
    if (job.callbackUrl === null) return null
    const good = this.endOf(job) === 'good'
    const timestamp = new Date(this.now()).toISOString()
    const result = { sample: this.linkOf(job), prompt: String(job.body.prompt ?? ''), seed: 1_234 }
    const body = JSON.stringify(
      good
        ? { id: job.id, status: 'Ready', result, timestamp }
        : { id: job.id, status: 'Error', error: 'failed', message: 'The task failed', timestamp },
    )
    const secret = String(job.body.webhook_secret ?? '')
    const signature = `sha256=${createHmac('sha256', secret).update(body).digest('hex')}`
    const proof: Record<string, string> =
      this.#bfl.proof === 'echo' ? { 'x-webhook-secret': secret } : { 'x-bfl-signature': signature }
    return { url: job.callbackUrl, headers: { 'content-type': 'application/json', ...proof }, body }
  }
}

const detail = (status: number, words: string, headers: Record<string, string> = {}): Reply => ({
  status,
  json: { detail: words },
  headers,
})

function refuse(why: Refusal): Reply {
  switch (why.because) {
    case 'rate_limited':
      return detail(429, 'Too many tasks in flight', why.retryAfterS ? { 'retry-after': String(why.retryAfterS) } : {})
    case 'overloaded':
      return detail(503, 'Service temporarily unavailable')
    case 'credit':
      return detail(402, 'Insufficient credits')
    case 'key':
      return detail(403, 'Not authenticated - Invalid Authentication')
    case 'model':
      return detail(404, 'Not Found')
    case 'invalid':
    case 'input':
      return {
        status: 422,
        json: { detail: [{ loc: ['body', 'steps'], msg: 'must be at most 50', type: 'less_than_equal' }] },
      }
    case 'broken':
      return detail(500, 'Internal Server Error')
  }
}
