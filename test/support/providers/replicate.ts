/**
 * Replicate as a server (providers.md section 4): predictions of official models and of versions, outputs as a string or
 * a list and null after removal, problem bodies, Standard Webhooks with one secret per account, files.
 */
import { createHmac } from 'node:crypto'
import type { Json, JsonObject } from '../../../src/core/json.ts'
import { any, httpsUrl, isObject, list, oneOf, text, wrongIn } from './fields.ts'
import { replicateGives, replicateProblem } from './replicate-fields.ts'
import { type Call, early, formOf, type Hook, type Job, type Refusal, type Reply, StandIn } from './stand-in.ts'

const EVENTS = oneOf('start', 'output', 'logs', 'completed')
const MODEL = /^\/v1\/models\/([\w.-]+\/[\w.-]+)\/predictions$/
const ONE = /^\/v1\/predictions\/([^/]+)(\/cancel)?$/
const PAGE = 100
/** Input and output are removed an hour after the end. */
const RETENTION_MS = 3_600_000

export class ReplicateStandIn extends StandIn {
  readonly provider = 'replicate'
  /** Whether predictions name their webhook. */
  echoes = true
  #secret = Buffer.from('replicate-stand-in-secret-32byte').toString('base64')
  #files = new Map<string, Uint8Array>()

  override get baseUrl(): string {
    return `${this.url}/v1`
  }

  /** Signs with a new secret from now on. */
  rotate(): void {
    this.#secret = Buffer.from('another-stand-in-secret-of-32byt').toString('base64')
  }

  protected isSubmit(call: Call): boolean {
    return call.method === 'POST' && (MODEL.test(call.path) || call.path === '/v1/predictions')
  }

  protected async answer(call: Call): Promise<Reply> {
    if (call.headers.authorization !== `Bearer ${this.key}`)
      return problem(401, 'Unauthenticated', 'You did not pass a valid authentication token')
    const model = MODEL.exec(call.path)?.[1]
    if (call.method === 'POST' && model !== undefined) return this.#submit(model, null, call.json)
    if (call.path === '/v1/predictions') {
      if (call.method === 'GET') return this.#list(call.query)
      const version = isObject(call.json) ? String(call.json.version ?? '') : ''
      return this.#submit('black-forest-labs/flux-2-flex', version, call.json)
    }
    if (call.path === '/v1/webhooks/default/secret') return { status: 200, json: { key: `whsec_${this.#secret}` } }
    if (call.path === '/v1/files' && call.method === 'POST') return this.#upload(call)
    const [, id, cancel] = ONE.exec(call.path) ?? []
    const job = this.jobAt(id)
    if (!job) return { status: 404, json: { detail: 'The requested resource could not be found.' } }
    if (cancel && call.method === 'POST') return this.#cancel(job)
    return call.method === 'GET' ? { status: 200, json: this.#prediction(job) } : problem(405, 'Method not allowed', '')
  }

  #submit(model: string, version: string | null, body: Json | undefined): Reply {
    const scene = this.scene()
    const refused = early(scene, refuse)
    if (refused) return refused
    const fields = { input: any, webhook: httpsUrl, webhook_events_filter: list(EVENTS, 4, 1), version: text(200, 1) }
    const wrong = wrongIn(body, fields, version === null ? ['input'] : ['input', 'version'])
    if (wrong) return invalid(`- ${wrong.path.join('.')}: ${wrong.why}`)
    const given = body as JsonObject
    const against = replicateProblem(model, given.input)
    if (against === 'unknown') return { status: 404, json: { detail: 'The requested resource could not be found.' } }
    if (against) return invalid(`- input.${against.path.join('.')}: ${against.why}\n`)
    const callbackUrl = typeof given.webhook === 'string' ? given.webhook : null
    const id = `p${this.jobs.size.toString(36).padStart(25, '0')}`
    const order = { id, scene, body: given, model: version ?? model, callbackUrl, gives: replicateGives(model) }
    return this.take(order, job => ({ status: 201, json: this.#prediction(job) }))
  }

  #prediction(job: Job): JsonObject {
    const phase = this.phase(job)
    const end = this.endOf(job)
    const ended = phase === 'ended'
    const removed = ended && this.now() - job.at > RETENTION_MS + this.latencyMs
    const statuses = {
      good: 'succeeded',
      empty: 'succeeded',
      input: 'failed',
      output: 'failed',
      error: 'failed',
      canceled: 'canceled',
    }
    const status = ended ? statuses[end] : phase === 'queued' ? 'starting' : 'processing'
    const words = {
      input: 'The input or output was flagged as sensitive. Please try again with different inputs. (E005) (abc)',
      output: 'The input or output was flagged as sensitive. Please try again with different inputs. (E005) (def)',
      error: 'Prediction interrupted; please retry (code: PA)',
    }
    const failed = ended && (end === 'input' || end === 'output' || end === 'error')
    // Pictures come as a list, films as one link.
    const link = this.linkOf(job)
    const output: Json = ended && end === 'good' && !removed ? (job.gives === 'image' ? [link] : link) : null
    const self = `${this.url}/v1/predictions/${job.id}`
    return {
      id: job.id,
      model: job.model,
      version: 'hidden',
      input: removed ? {} : (job.body.input ?? {}),
      output,
      error: failed ? words[end as 'input' | 'output' | 'error'] : null,
      logs: '',
      status,
      source: 'api',
      data_removed: removed,
      created_at: new Date(job.at).toISOString(),
      started_at: null,
      completed_at: ended ? new Date(job.at + this.latencyMs).toISOString() : null,
      urls: { get: self, cancel: `${self}/cancel`, web: `https://replicate.com/p/${job.id}` },
      ...(this.echoes && job.callbackUrl !== null ? { webhook: job.callbackUrl } : {}),
    }
  }

  #list(query: URLSearchParams): Reply {
    const from = Number(query.get('cursor') ?? 0)
    const all = this.submits()
      .filter(job => job.scene.type !== 'vanish')
      .toReversed()
    const next = from + PAGE < all.length ? `${this.url}/v1/predictions?cursor=${from + PAGE}` : null
    const results = all.slice(from, from + PAGE).map(job => this.#prediction(job))
    return { status: 200, json: { previous: null, next, results } }
  }

  #cancel(job: Job): Reply {
    if (this.phase(job) !== 'ended') job.canceled = true
    return { status: 200, json: this.#prediction(job) }
  }

  async #upload(call: Call): Promise<Reply> {
    const file = (await formOf(call))?.get('content')
    if (!(file instanceof Blob)) return invalid('- content: field required')
    if (file.size > 100_000_000) return { status: 413, json: { detail: 'file too large' } }
    const id = `file-${this.#files.size}`
    this.#files.set(id, new Uint8Array(await file.arrayBuffer()))
    const get = `${this.url}/v1/files/${id}`
    return {
      status: 201,
      json: { id, urls: { get }, content_type: file.type, size: file.size, metadata: {}, expires_at: null },
    }
  }

  override uploads(): readonly Uint8Array[] {
    return [...this.#files.values()]
  }

  override hookOf(job: Job): Hook | null {
    if (job.callbackUrl === null) return null
    const body = JSON.stringify(this.#prediction(job))
    const id = `msg_${job.id}`
    const timestamp = String(Math.floor(this.now() / 1_000))
    const key = Buffer.from(this.#secret, 'base64')
    const mac = createHmac('sha256', key).update(`${id}.${timestamp}.${body}`).digest('base64')
    // Two signatures, the first with a secret that is not ours.
    const signature = `v1,${createHmac('sha256', 'other').update(body).digest('base64')} v1,${mac}`
    const headers = { 'webhook-id': id, 'webhook-timestamp': timestamp, 'webhook-signature': signature }
    return { url: job.callbackUrl, headers: { 'content-type': 'application/json', ...headers }, body }
  }
}

function problem(status: number, title: string, detail: string, more: JsonObject = {}): Reply {
  return { status, json: { title, detail, status, ...more } }
}

const invalid = (words: string): Reply => problem(422, 'Input validation failed', words, { invalid_fields: [] })

function refuse(why: Refusal): Reply {
  switch (why.because) {
    case 'rate_limited': {
      const seconds = why.retryAfterS
      if (seconds === undefined) return problem(429, 'Too many requests', 'Request was throttled.')
      // In the words alone: a reader of headers waits too short.
      return problem(429, 'Too many requests', `Request was throttled. Your rate limit resets in ~${seconds}s.`)
    }
    case 'overloaded':
      return problem(503, 'Service unavailable', 'The service is temporarily unavailable')
    case 'credit':
      return problem(402, 'Insufficient credit', 'You have insufficient credit to run this model')
    case 'key':
      return problem(401, 'Unauthenticated', 'You did not pass a valid authentication token')
    case 'model':
      return { status: 404, json: { detail: 'The requested resource could not be found.' } }
    case 'invalid':
    case 'input':
      return invalid('- input.steps: Must be less than or equal to 50\n')
    case 'broken':
      return problem(500, 'Internal server error', 'An unexpected error occurred')
  }
}
