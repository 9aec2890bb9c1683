/**
 * fal's queue as a server (providers.md section 3): the `Key` scheme, 202/202/200 statuses, COMPLETED for everything
 * that ended, results with their own error status, the short path of owner and app, Ed25519 webhooks with a key set.
 */
import { createHash, createPrivateKey, generateKeyPairSync, type KeyObject, sign } from 'node:crypto'
import type { Json, JsonObject } from '../../../src/core/json.ts'
import { falGives, falProblem } from './fal-fields.ts'
import type { Wrong } from './fields.ts'
import { isObject, oneOf, text, wrongIn } from './fields.ts'
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

export class FalStandIn extends StandIn {
  readonly provider = 'fal'
  /** Where the returned addresses point; by default at this server. */
  queueOrigin: string | null = null
  #signer: KeyObject
  #keys: JsonObject[] = []
  #files = new Map<string, { mime: string; bytes: Uint8Array | null }>()

  constructor(options: StandInOptions = {}) {
    super(options)
    this.#signer = this.#newKey()
    // A retired key stands first: every key of the set is tried.
    this.#keys.unshift({ ...publicJwk(generateKeyPairSync('ed25519').privateKey), kid: 'old' })
  }

  /** Signs with a new key from now on. */
  rotate(): void {
    this.#keys = []
    this.#signer = this.#newKey()
  }

  #newKey(): KeyObject {
    const { privateKey } = generateKeyPairSync('ed25519')
    this.#keys.push({ ...publicJwk(privateKey), kid: String(this.#keys.length) })
    return createPrivateKey(privateKey.export({ type: 'pkcs8', format: 'pem' }))
  }

  protected isSubmit(call: Call): boolean {
    return call.method === 'POST' && !call.path.startsWith('/storage/')
  }

  protected answer(call: Call): Reply {
    if (call.path === '/.well-known/jwks.json') return { status: 200, json: { keys: this.#keys } }
    if (call.path.startsWith('/put/')) return this.#put(call)
    if (call.headers.authorization !== `Key ${this.key}`)
      return detail(401, 'Cannot access application. Authentication is required')
    if (call.path === '/storage/upload/initiate') return this.#initiate(call)
    const request = /^\/([\w.-]+\/[\w.-]+)\/requests\/([^/]+)(\/status|\/cancel)?$/.exec(call.path)
    if (request) return this.#request(call.method, request[1] ?? '', request[2] ?? '', request[3] ?? '')
    if (call.method === 'POST') return this.#submit(call.path.slice(1), call)
    return detail(404, 'Not Found')
  }

  #submit(endpoint: string, call: Call): Reply {
    const scene = this.scene()
    const problem = falProblem(endpoint, call.json)
    const refused = early(scene, refuse) ?? (problem && problemReply(problem))
    if (refused) return refused
    const id = crypto.randomUUID()
    const callbackUrl = call.query.get('fal_webhook')
    const order = { id, scene, body: call.json as JsonObject, model: endpoint, callbackUrl, gives: falGives(endpoint) }
    const base = `${this.queueOrigin ?? this.url}/${endpoint.split('/').slice(0, 2).join('/')}/requests/${id}`
    return this.take(order, () => ({
      status: 200,
      json: {
        status: 'IN_QUEUE',
        request_id: id,
        queue_position: 0,
        response_url: base,
        status_url: `${base}/status`,
        cancel_url: `${base}/cancel`,
      },
      headers: { 'x-fal-request-id': id },
    }))
  }

  #request(method: string, app: string, id: string, part: string): Reply {
    const job = this.jobAt(id)
    if (!job?.model.startsWith(app)) return detail(404, 'Request not found')
    const phase = this.phase(job)
    if (part === '/cancel' && method === 'PUT') {
      if (phase === 'ended') return { status: 400, json: { status: 'ALREADY_COMPLETED' } }
      // A job that runs may finish all the same.
      if (phase === 'queued') job.canceled = true
      return { status: 202, json: { status: 'CANCELLATION_REQUESTED' } }
    }
    if (method !== 'GET') return detail(405, 'Method Not Allowed')
    if (part === '') return phase === 'ended' ? this.#result(job) : detail(400, 'Request is still in progress')
    if (phase === 'queued') return { status: 202, json: { status: 'IN_QUEUE', queue_position: 3, request_id: id } }
    if (phase === 'running') return { status: 202, json: { status: 'IN_PROGRESS', logs: [] } }
    return { status: 200, json: { status: 'COMPLETED', logs: null, metrics: { inference_time: 4.1 } } }
  }

  #result(job: Job): Reply {
    switch (this.endOf(job)) {
      case 'good':
        return { status: 200, json: this.#output(job) }
      case 'empty':
        return { status: 200, json: { images: [], seed: 7 } }
      case 'input':
        return violation('prompt')
      case 'output':
        // A blackened picture is a success as HTTP; a film is not made.
        return job.gives === 'image'
          ? { status: 200, json: { ...this.#output(job), has_nsfw_concepts: [true] } }
          : violation('output')
      case 'error': {
        const error = { loc: ['body'], msg: 'Internal server error', type: 'internal_server_error' }
        return { status: 500, json: { detail: [error] }, headers: { 'x-fal-retryable': 'true' } }
      }
      case 'canceled':
        return { status: 499, json: { detail: 'Request was cancelled' } }
    }
  }

  #output(job: Job): JsonObject {
    const file = { url: this.linkOf(job), file_name: 'y', file_size: this.bytesOf(job).length }
    if (job.gives === 'video') return { video: { ...file, content_type: 'video/mp4' }, seed: 7 }
    const image = { ...file, content_type: 'image/png', width: 64, height: 48 }
    return { images: [image], seed: 7, has_nsfw_concepts: [false], prompt: String(job.body.prompt ?? ''), timings: {} }
  }

  #initiate(call: Call): Reply {
    const wrong = wrongIn(call.json, { content_type: text(100, 3), file_name: text(200, 1) }, [
      'content_type',
      'file_name',
    ])
    if (call.method !== 'POST' || call.query.get('storage_type') !== 'fal-cdn-v3') return detail(404, 'Not Found')
    if (wrong || !isObject(call.json)) return problemReply(wrong ?? 'unknown')
    const id = crypto.randomUUID()
    this.#files.set(id, { mime: String(call.json.content_type), bytes: null })
    return { status: 200, json: { upload_url: `${this.url}/put/${id}`, file_url: `${this.filesUrl}/uploads/${id}` } }
  }

  #put(call: Call): Reply {
    if (call.headers.authorization) this.leaks.push('authorization at the upload')
    const file = this.#files.get(call.path.slice(5))
    if (call.method !== 'PUT' || !file) return detail(404, 'Not Found')
    if (oneOf(file.mime)(call.headers['content-type'] ?? null)) return detail(400, 'content type differs')
    file.bytes = call.bytes
    return { status: 200, json: {} }
  }

  /** What was uploaded. */
  override uploads(): readonly Uint8Array[] {
    return [...this.#files.values()].flatMap(file => file.bytes ?? [])
  }

  override hookOf(job: Job): Hook | null {
    if (job.callbackUrl === null) return null
    const result = this.#result(job)
    const ok = result.status === 200
    const ids = { request_id: job.id, gateway_request_id: job.id }
    const said = ok ? { status: 'OK' } : { status: 'ERROR', error: `Invalid status code: ${result.status}` }
    const body = JSON.stringify({ ...ids, ...said, payload: result.json as Json })
    const timestamp = String(Math.floor(this.now() / 1_000))
    const hash = createHash('sha256').update(body).digest('hex')
    const message = [job.id, 'user-1', timestamp, hash].join('\n')
    return {
      url: job.callbackUrl,
      headers: {
        'content-type': 'application/json',
        'x-fal-webhook-request-id': job.id,
        'x-fal-webhook-user-id': 'user-1',
        'x-fal-webhook-timestamp': timestamp,
        'x-fal-webhook-signature': sign(null, Buffer.from(message), this.#signer).toString('hex'),
      },
      body,
    }
  }
}

function publicJwk(key: KeyObject): JsonObject {
  const { x = '' } = key.export({ format: 'jwk' })
  return { kty: 'OKP', crv: 'Ed25519', x }
}

const detail = (status: number, words: string, headers: Record<string, string> = {}): Reply => ({
  status,
  json: { detail: words },
  headers,
})

const violation = (field: string): Reply => ({
  status: 422,
  json: {
    detail: [{ loc: ['body', field], msg: 'The content could not be processed', type: 'content_policy_violation' }],
  },
  headers: { 'x-fal-retryable': 'false' },
})

function problemReply(problem: Wrong | 'unknown'): Reply {
  if (problem === 'unknown') return detail(404, 'Application not found')
  const type = problem.why === 'field required' ? 'missing' : 'value_error'
  return { status: 422, json: { detail: [{ loc: ['body', ...problem.path], msg: problem.why, type }] } }
}

function refuse(why: Refusal): Reply {
  switch (why.because) {
    case 'rate_limited':
      return detail(429, 'Too many requests', why.retryAfterS ? { 'retry-after': String(why.retryAfterS) } : {})
    case 'overloaded':
      return { status: 503, json: { detail: 'No runner', error_type: 'runner_scheduling_failure' } }
    case 'credit':
      return detail(403, 'User is locked. Reason: Exhausted balance. Top up your balance')
    case 'key':
      return detail(401, 'No user found for Key ID and Secret')
    case 'model':
      return detail(404, 'Application not found')
    case 'invalid':
      return problemReply({ path: ['image_size'], why: 'must be a preset' })
    case 'input':
      return violation('prompt')
    case 'broken':
      return detail(500, 'Internal Server Error')
  }
}
