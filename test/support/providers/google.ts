/**
 * The Gemini API as a server (providers.md section 6): pictures in base64 between thoughts, refusals as HTTP 200, Veo
 * operations without `done` until they end, downloads that need the key and redirect.
 */
import type { Json, JsonObject } from '../../../src/core/json.ts'
import { bareBase64, type Fields, int, list, oneOf, type Rule, shape, text, type Wrong, wrongIn } from './fields.ts'
import { type Call, early, type Job, type Refusal, type Reply, StandIn } from './stand-in.ts'

/** A whole request is at most so large. */
const MAX_REQUEST = 20_000_000
const bytes = bareBase64(15_000_000)
const IMAGE_TYPES = oneOf('image/png', 'image/jpeg', 'image/webp')
const RATIOS = ['1:1', '2:3', '3:2', '3:4', '4:3', '4:5', '5:4', '9:16', '16:9', '21:9']

const part = (value: Json): string | null => {
  const inline = shape({ mimeType: IMAGE_TYPES, data: bytes }, ['mimeType', 'data'])
  return shape({ text: text(), inlineData: inline })(value)
}
const content: Rule = shape({ role: oneOf('user'), parts: list(part, 20, 1) }, ['parts'])

function imageFields(model: string): Fields {
  const flash25 = model.startsWith('gemini-2.5')
  const ratios =
    model.startsWith('gemini-3.1') || model.includes('2.1') ? [...RATIOS, '1:4', '4:1', '1:8', '8:1'] : RATIOS
  const imageConfig: Fields = {
    aspectRatio: oneOf(...ratios),
    ...(flash25 ? {} : { imageSize: oneOf('512', '1K', '2K', '4K') }),
  }
  return {
    contents: list(content, 1, 1),
    generationConfig: shape({
      responseModalities: list(oneOf('IMAGE', 'TEXT'), 2, 1),
      imageConfig: shape(imageConfig),
      seed: int(-2_147_483_648, 2_147_483_647),
    }),
    safetySettings: list(shape({ category: text(), threshold: text() }, ['category', 'threshold']), 10),
  }
}

const frame = shape({ bytesBase64Encoded: bytes, mimeType: IMAGE_TYPES }, ['bytesBase64Encoded', 'mimeType'])
const VEO: Fields = {
  instances: list(
    shape(
      {
        prompt: text(),
        image: frame,
        lastFrame: frame,
        referenceImages: list(shape({ image: frame, referenceType: oneOf('asset') }, ['image', 'referenceType']), 3),
      },
      ['prompt'],
    ),
    1,
    1,
  ),
  parameters: shape({
    aspectRatio: oneOf('16:9', '9:16'),
    resolution: oneOf('720p', '1080p', '4k'),
    durationSeconds: oneOf(4, 6, 8),
    seed: int(0, 4_294_967_295),
    negativePrompt: text(),
    personGeneration: oneOf('allow_all', 'allow_adult', 'dont_allow'),
    sampleCount: oneOf(1),
  }),
}

const IMAGE_MODEL =
  /^(gemini-2\.5-flash-image|gemini-3-pro-image|gemini-3\.1-flash(-lite)?-image|gemini-nano-banana-2\.1)$/
const VIDEO_MODEL = /^veo-3\.(0|1)(-fast|-lite)?-generate(-preview|-001)?$/

/** What the API has against a body; 'unknown' when there is no such model for that method. */
export function googleProblem(model: string, method: string, body: Json | undefined): Wrong | 'unknown' | null {
  if (JSON.stringify(body ?? null).length > MAX_REQUEST) return { path: [], why: 'the request is too large' }
  if (method === 'generateContent' && IMAGE_MODEL.test(model)) return wrongIn(body, imageFields(model), ['contents'])
  if (method !== 'predictLongRunning' || !VIDEO_MODEL.test(model)) return 'unknown'
  const wrong = wrongIn(body, VEO, ['instances'])
  const { resolution, durationSeconds } = ((body as JsonObject | undefined)?.parameters ?? {}) as JsonObject
  if (!wrong && resolution !== undefined && resolution !== '720p' && durationSeconds !== 8) {
    return { path: ['parameters', 'durationSeconds'], why: 'must be 8 for this resolution' }
  }
  return wrong
}

export class GoogleStandIn extends StandIn {
  readonly provider = 'google'
  /** Where a download is redirected to: by default the files' origin. */
  downloadOrigin: string | null = null

  override get baseUrl(): string {
    return `${this.url}/v1beta`
  }

  protected isSubmit(call: Call): boolean {
    return call.method === 'POST'
  }

  protected answer(call: Call): Reply {
    if (call.headers['x-goog-api-key'] !== this.key) {
      const details: Json[] = [{ '@type': 'type.googleapis.com/google.rpc.ErrorInfo', reason: 'API_KEY_INVALID' }]
      return error(400, 'INVALID_ARGUMENT', 'API key not valid. Please pass a valid API key.', details)
    }
    const [, model = '', method = ''] = /^\/v1beta\/models\/([\w.-]+):(\w+)$/.exec(call.path) ?? []
    if (call.method === 'POST' && model) return this.#submit(model, method, call.json)
    const name = /^\/v1beta\/(models\/[\w.-]+\/operations\/([\w.-]+))$/.exec(call.path)
    if (call.method === 'GET' && name) return this.#operation(name[1] ?? '', this.jobAt(name[2]))
    const file = /^\/v1beta\/files\/([\w-]+):download$/.exec(call.path)
    const job = this.jobAt(file?.[1])
    if (!job) return error(404, 'NOT_FOUND', 'Requested entity was not found.')
    const to = new URL(this.linkOf(job))
    return { status: 302, headers: { location: `${this.downloadOrigin ?? to.origin}${to.pathname}${to.search}` } }
  }

  #submit(model: string, method: string, body: Json | undefined): Reply {
    const scene = this.scene()
    const problem = googleProblem(model, method, body)
    const refused = early(scene, refuse) ?? (problem && problemReply(problem))
    if (refused) return refused
    const film = method === 'predictLongRunning'
    const id = `op${this.jobs.size}`
    const order = {
      id,
      scene,
      body: body as JsonObject,
      model,
      callbackUrl: null,
      gives: film ? ('video' as const) : ('image' as const),
    }
    if (film) return this.take(order, () => ({ status: 200, json: { name: `models/${model}/operations/${id}` } }))
    if (scene.type === 'fail') return this.#silence(scene.how)
    return this.take(order, job => ({ status: 200, json: this.#picture(job) }))
  }

  #picture(job: Job): JsonObject {
    const inlineData = { mimeType: 'image/png', data: Buffer.from(this.bytesOf(job)).toString('base64') }
    const thought = { inlineData: { mimeType: 'image/png', data: 'iVBORw0KGgo=' }, thought: true }
    const parts: Json[] = [thought, { text: 'Here it is:' }, { inlineData }]
    return {
      candidates: [{ content: { role: 'model', parts }, finishReason: 'STOP', index: 0 }],
      usageMetadata: { promptTokenCount: 9, candidatesTokenCount: 1_290, totalTokenCount: 1_299 },
      modelVersion: job.model,
      responseId: 'r1',
    }
  }

  #silence(how: string): Reply {
    const usageMetadata = { promptTokenCount: 9, totalTokenCount: 9 }
    if (how === 'input')
      return { status: 200, json: { promptFeedback: { blockReason: 'PROHIBITED_CONTENT' }, usageMetadata } }
    if (how === 'output') {
      const candidate = { finishReason: 'IMAGE_SAFETY', finishMessage: 'Unable to show the generated image.', index: 0 }
      return { status: 200, json: { candidates: [candidate], usageMetadata } }
    }
    const words = {
      content: { role: 'model', parts: [{ text: 'I would rather describe it.' }] },
      finishReason: 'STOP',
      index: 0,
    }
    return { status: 200, json: { candidates: [words], usageMetadata } }
  }

  #operation(name: string, job: Job | undefined): Reply {
    if (!job) return error(404, 'NOT_FOUND', 'Operation not found.')
    // `done` is absent, not false.
    if (this.phase(job) !== 'ended') return { status: 200, json: { name } }
    const end = this.endOf(job)
    const done = (generateVideoResponse: JsonObject): Reply => ({
      status: 200,
      json: { name, done: true, response: { '@type': 'x.PredictLongRunningResponse', generateVideoResponse } },
    })
    switch (end) {
      case 'good':
        return done({ generatedSamples: [{ video: { uri: `${this.url}/v1beta/files/${job.id}:download?alt=media` } }] })
      case 'empty':
        return done({})
      case 'output':
        return done({ raiMediaFilteredCount: 1, raiMediaFilteredReasons: ['Sorry, the video was filtered.'] })
      case 'input': {
        const words = 'The prompt could not be submitted: it may violate our usage guidelines.'
        return {
          status: 200,
          json: { name, done: true, error: { code: 3, message: words, status: 'INVALID_ARGUMENT' } },
        }
      }
      case 'error':
      case 'canceled':
        return { status: 200, json: { name, done: true, error: { code: 13, message: 'Internal error' } } }
    }
  }
}

function error(status: number, name: string, message: string, details: readonly Json[] = []): Reply {
  return { status, json: { error: { code: status, message, status: name, details: [...details] } } }
}

function problemReply(problem: Wrong | 'unknown'): Reply {
  if (problem === 'unknown') return error(404, 'NOT_FOUND', 'models/x is not found for API version v1beta')
  return error(400, 'INVALID_ARGUMENT', `Invalid value at '${problem.path.join('.')}': ${problem.why}`)
}

function refuse(why: Refusal): Reply {
  switch (why.because) {
    case 'rate_limited': {
      const info = { '@type': 'type.googleapis.com/google.rpc.RetryInfo', retryDelay: `${why.retryAfterS}s` }
      return error(429, 'RESOURCE_EXHAUSTED', 'Resource has been exhausted', why.retryAfterS ? [info] : [])
    }
    case 'overloaded':
      return error(503, 'UNAVAILABLE', 'The model is overloaded. Please try again later.')
    case 'credit':
      return error(400, 'FAILED_PRECONDITION', 'Please enable billing on your project')
    case 'key':
      return error(403, 'PERMISSION_DENIED', 'Method does not allow unregistered callers')
    case 'model':
      return error(404, 'NOT_FOUND', 'models/x is not found for API version v1beta')
    case 'invalid':
      return error(400, 'INVALID_ARGUMENT', 'Invalid aspect ratio')
    case 'input':
      return error(400, 'INVALID_ARGUMENT', "The prompt violates Google's Responsible AI practices")
    case 'broken':
      return error(500, 'INTERNAL', 'An internal error has occurred')
  }
}
