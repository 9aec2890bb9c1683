/**
 * Runway as a server (providers.md section 7): the version header, THROTTLED, CANCELLED, DELETE that stops or erases,
 * failure codes, uploads to a place of its own.
 */
import type { Json, JsonObject } from '../../../src/core/json.ts'
import {
  bool,
  dataUri,
  either,
  type Fields,
  httpsUrl,
  int,
  list,
  matching,
  oneOf,
  type Rule,
  shape,
  text,
  type Wrong,
  wrongIn,
} from './fields.ts'
import { type Call, early, type Job, type Refusal, type Reply, StandIn } from './stand-in.ts'

/** A data URI of 5 MB holds a picture of three quarters of that. */
const uri: Rule = either(httpsUrl, matching(/^runway:\/\/\S+$/, 'a runway URI'), dataUri(3_750_000))
const frames = (...positions: readonly string[]): Rule =>
  either(uri, list(shape({ uri, position: oneOf(...positions) }, ['uri', 'position']), 2, 1))
const seed = int(0, 4_294_967_295)
const moderation = shape({ publicFigureThreshold: oneOf('auto', 'low') })
const GEN4 = oneOf('1280:720', '720:1280', '1104:832', '960:960', '832:1104', '1584:672')
const PIXELS = matching(/^\d{3,4}:\d{3,4}$/, 'a ratio in pixels')

const gen4: Fields = {
  promptImage: frames('first'),
  promptText: text(1_000),
  ratio: GEN4,
  seed,
  contentModeration: moderation,
}
const veo: Fields = {
  promptImage: frames('first', 'last'),
  promptText: text(1_000),
  ratio: oneOf('1280:720', '720:1280', '1080:1920', '1920:1080'),
  duration: oneOf(4, 6, 8),
  audio: bool,
  negativePrompt: text(),
  seed,
}
const seedance: Fields = {
  promptImage: either(uri, list(shape({ uri, position: oneOf('first', 'last') }, ['uri']), 12, 1)),
  promptText: text(3_500),
  ratio: PIXELS,
  duration: either(oneOf('auto'), int(4, 30)),
  audio: bool,
  referenceAudio: list(shape({ type: oneOf('audio'), uri }, ['type', 'uri']), 3),
  seed,
}

const FILMS: Readonly<Record<string, { fields: Fields; required: readonly string[] }>> = {
  'gen4.5': { fields: { ...gen4, duration: int(2, 10) }, required: ['promptImage', 'promptText', 'ratio', 'duration'] },
  gen4_turbo: { fields: { ...gen4, duration: int(2, 10) }, required: ['promptImage', 'ratio'] },
  'veo3.1': { fields: veo, required: ['promptImage', 'ratio'] },
  'veo3.1_fast': { fields: veo, required: ['promptImage', 'ratio'] },
  seedance2: { fields: seedance, required: ['promptImage'] },
  seedance2_fast: { fields: seedance, required: ['promptImage'] },
  seedance2_mini: { fields: seedance, required: ['promptImage'] },
  seedance2_5: { fields: seedance, required: ['promptImage'] },
}

const references = list(shape({ uri, tag: text(40), subject: oneOf('object', 'human') }, ['uri']), 16)
const image: Fields = {
  promptText: text(),
  ratio: either(PIXELS, oneOf('auto', 'auto_1k', 'auto_2k')),
  referenceImages: references,
}
const several: Fields = {
  ...image,
  outputCount: int(1, 10),
  outputFormat: oneOf('png', 'jpeg', 'webp'),
  grounding: bool,
}
const gpt: Fields = { ...several, background: oneOf('transparent', 'opaque', 'auto'), quality: text(20) }

const PICTURES: Readonly<Record<string, { fields: Fields; required: readonly string[] }>> = {
  gen4_image: { fields: { ...image, seed, contentModeration: moderation }, required: ['promptText', 'ratio'] },
  gen4_image_turbo: {
    fields: { ...image, seed, contentModeration: moderation },
    required: ['promptText', 'ratio', 'referenceImages'],
  },
  gpt_image_2: { fields: gpt, required: ['promptText', 'ratio'] },
  gpt_image_2_5_flare: { fields: gpt, required: ['promptText', 'ratio'] },
  gpt_image_2_5_sunburst: { fields: gpt, required: ['promptText', 'ratio'] },
  gemini_image3_pro: { fields: several, required: ['promptText', 'ratio'] },
  'gemini_image3.1_flash': { fields: several, required: ['promptText', 'ratio'] },
  'gemini_2.5_flash': { fields: image, required: ['promptText', 'ratio'] },
  seedream5_pro: { fields: several, required: ['promptText', 'ratio'] },
  seedream5_lite: { fields: several, required: ['promptText', 'ratio'] },
}
/** Models of the SDK whose fields are only partly in our sources: they take any object. */
const BY_NAME =
  /^(hailuo3|happyhorse_1_0|wan3|wan3_prime|h3_max|gemini_omni_flash(_1\.1)?|grok_imagine_1_5|grok_imagine_image_2|muse_image)$/

/** What an endpoint has against a body; 'unknown' when it has no such model. */
export function runwayProblem(endpoint: string, body: Json | undefined): Wrong | 'unknown' | null {
  const { model, ...rest } = (body ?? {}) as JsonObject
  const table = endpoint === 'image_to_video' ? FILMS : PICTURES
  const rules = Object.hasOwn(table, String(model)) ? table[String(model)] : undefined
  if (rules) return wrongIn(rest, rules.fields, rules.required)
  return BY_NAME.test(String(model)) ? null : 'unknown'
}

export class RunwayStandIn extends StandIn {
  readonly provider = 'runway'
  #erased = new Set<string>()
  #uploads: Uint8Array[] = []

  override get baseUrl(): string {
    return `${this.url}/v1`
  }

  protected isSubmit(call: Call): boolean {
    return call.method === 'POST' && /^\/v1\/(text_to_image|image_to_video)$/.test(call.path)
  }

  protected answer(call: Call): Reply {
    if (call.headers.authorization !== `Bearer ${this.key}`) return failure(401, 'Unauthorized')
    if (call.headers['x-runway-version'] !== '2024-11-06')
      return failure(400, 'X-Runway-Version header is missing or not supported')
    if (this.isSubmit(call)) return this.#submit(call.path.slice(4), call.json)
    if (call.method === 'POST' && call.path === '/v1/uploads') return this.#place(call.json)
    const id = /^\/v1\/tasks\/([\w-]+)$/.exec(call.path)?.[1]
    const job = id !== undefined && !this.#erased.has(id) ? this.jobAt(id) : undefined
    if (!job) return failure(404, 'Not found')
    if (call.method === 'DELETE') {
      if (this.phase(job) === 'ended') this.#erased.add(job.id)
      else job.canceled = true
      return { status: 204 }
    }
    return call.method === 'GET' ? { status: 200, json: this.#task(job) } : failure(405, 'Method not allowed')
  }

  #submit(endpoint: string, body: Json | undefined): Reply {
    const scene = this.scene()
    const problem = runwayProblem(endpoint, body)
    const refused = early(scene, refuse) ?? (problem && problemReply(problem))
    if (refused) return refused
    const id = crypto.randomUUID()
    const gives = endpoint === 'image_to_video' ? ('video' as const) : ('image' as const)
    const given = body as JsonObject
    const order = { id, scene, body: given, model: String(given.model), callbackUrl: null, gives }
    return this.take(order, () => ({ status: 200, json: { id, estimatedCost: { credits: 25 } } }))
  }

  #task(job: Job): JsonObject {
    const task = (status: string, more: JsonObject = {}): JsonObject => ({
      id: job.id,
      createdAt: new Date(job.at).toISOString(),
      status,
      ...more,
    })
    const phase = this.phase(job)
    // Every second one waits for our own concurrency first.
    if (phase === 'queued') return task(job.n % 2 === 0 ? 'THROTTLED' : 'PENDING')
    if (phase === 'running') return task('RUNNING', { progress: 0.4 })
    const failed = (failureCode: string): JsonObject =>
      task('FAILED', { failure: 'It went wrong', failureCode, cost: { credits: 0 } })
    switch (this.endOf(job)) {
      case 'good':
        return task('SUCCEEDED', { output: [this.linkOf(job)], cost: { credits: 25 } })
      case 'empty':
        return task('SUCCEEDED', { output: [] })
      case 'input':
        return failed('SAFETY.INPUT.TEXT')
      case 'output':
        return failed('SAFETY.OUTPUT.VIDEO')
      case 'error':
        return failed('INTERNAL.BAD_OUTPUT.CODE01')
      case 'canceled':
        return task('CANCELLED')
    }
  }

  #place(body: Json | undefined): Reply {
    const wrong = wrongIn(body, { filename: text(255, 1), type: oneOf('ephemeral') }, ['filename', 'type'])
    if (wrong) return problemReply(wrong)
    const id = crypto.randomUUID()
    return {
      status: 200,
      json: { uploadUrl: this.uploadUrl, fields: { key: id, policy: 'p' }, runwayUri: `runway://${id}` },
    }
  }

  /** The storage's form address, on the other origin. */
  get uploadUrl(): string {
    return `${this.filesUrl}/form`
  }

  protected override async file(call: Call): Promise<Reply | null> {
    if (call.method !== 'POST' || call.path !== '/form') return null
    const body = new Response(new Uint8Array(call.bytes), {
      headers: { 'content-type': call.headers['content-type'] ?? '' },
    })
    const form = (await body.formData().catch(() => null)) as FormData | null
    const file = form?.get('file')
    if (form?.get('policy') !== 'p' || !(file instanceof Blob))
      return { status: 403, body: '<Error>AccessDenied</Error>' }
    this.#uploads.push(new Uint8Array(await file.arrayBuffer()))
    return { status: 204 }
  }

  override uploads(): readonly Uint8Array[] {
    return this.#uploads
  }
}

const failure = (status: number, error: string, headers: Record<string, string> = {}): Reply => ({
  status,
  json: { error, issues: [], docUrl: 'https://docs.dev.runwayml.com/errors' },
  headers,
})

function problemReply(problem: Wrong | 'unknown'): Reply {
  if (problem === 'unknown') return failure(404, 'This model does not exist or is not available to you')
  const issue = { code: 'custom', path: [...problem.path], message: problem.why }
  return {
    status: 400,
    json: { error: 'Validation of body failed', issues: [issue], docUrl: 'https://docs.dev.runwayml.com' },
  }
}

function refuse(why: Refusal): Reply {
  switch (why.because) {
    case 'rate_limited':
      return failure(
        429,
        'You have reached your daily limit',
        why.retryAfterS ? { 'retry-after': String(why.retryAfterS) } : {},
      )
    case 'overloaded':
      return failure(503, 'We are overloaded')
    case 'credit':
      return failure(400, 'You do not have enough credits to run this task.')
    case 'key':
      return failure(401, 'Unauthorized')
    case 'model':
      return failure(404, 'This model does not exist or is not available to you')
    case 'invalid':
    case 'input':
      return problemReply({ path: ['ratio'], why: 'invalid ratio' })
    case 'broken':
      return failure(500, 'Internal server error')
  }
}
