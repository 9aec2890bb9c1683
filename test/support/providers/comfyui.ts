/**
 * A ComfyUI server (providers.md 10.1): graphs in API format, prompt ids that the client may choose, queue and history
 * in memory, node errors, interrupts by id, uploads and views.
 */
import type { Json, JsonObject } from '../../../src/core/json.ts'
import { isObject } from './fields.ts'
import { type Call, CUT, early, formOf, type Job, type Refusal, type Reply, StandIn } from './stand-in.ts'

export class ComfyUiStandIn extends StandIn {
  readonly provider = 'comfyui'
  /** Whether the server takes the client's prompt id (older ones choose their own). */
  takesIds = true
  #uploads = new Map<string, Uint8Array>()
  #number = 0
  #stored = new Map<string, { extra: Json; graph: Json; n: number }>()

  protected isSubmit(call: Call): boolean {
    return call.method === 'POST' && call.path === '/prompt'
  }

  /** Forgets queue and history, as a restart does. */
  restart(): void {
    this.jobs.clear()
  }

  protected async answer(call: Call): Promise<Reply> {
    if (call.headers.authorization) this.leaks.push('authorization')
    switch (`${call.method} ${call.path}`) {
      case 'POST /prompt':
        return this.#submit(call.json)
      case 'GET /queue':
        return { status: 200, json: this.#queue() }
      case 'POST /queue':
        return this.#drop(call.json)
      case 'POST /interrupt':
        return this.#interrupt(call.json)
      case 'POST /upload/image':
        return this.#upload(call)
      case 'GET /view':
        return this.#view(call.query)
      case 'GET /history':
        return {
          status: 200,
          json: this.#history([...this.jobs.values()].slice(-Number(call.query.get('max_items') ?? 1_000))),
        }
    }
    const id = /^\/history\/([\w-]+)$/.exec(call.path)?.[1]
    if (call.method !== 'GET' || id === undefined) return { status: 404, body: '404: Not Found' }
    const job = this.jobAt(id)
    return { status: 200, json: this.#history(job ? [job] : []) }
  }

  #submit(body: Json | undefined): Reply {
    const scene = this.scene()
    const refused = early(scene, refuse)
    if (refused) return refused
    if (!isObject(body) || !isObject(body.prompt)) return invalid('no_prompt', 'No prompt provided')
    const nodes = Object.entries(body.prompt)
    const outputs = nodes.filter(([, node]) => isObject(node) && /^(Save|Preview)/.test(String(node.class_type)))
    if (outputs.length === 0) return invalid('prompt_no_outputs', 'Prompt has no outputs')
    for (const [id, node] of nodes) {
      const inputs = isObject(node) && isObject(node.inputs) ? node.inputs : {}
      if (typeof inputs.seed === 'string' || typeof inputs.width === 'string')
        return nodeError(id, node, 'Failed to convert an input value to a INT value')
      if (isObject(node) && node.class_type === 'LoadImage' && !this.#uploads.has(String(inputs.image)))
        return nodeError(id, node, `Invalid image file: ${String(inputs.image)}`)
    }
    const own = typeof body.prompt_id === 'string' && this.takesIds ? body.prompt_id : crypto.randomUUID()
    const n = this.#number++
    const film = outputs.some(([, node]) => isObject(node) && /Video|WEBM/.test(String(node.class_type)))
    const gives = film ? ('video' as const) : ('image' as const)
    this.#stored.set(own, {
      extra: { ...(isObject(body.extra_data) ? body.extra_data : {}), client_id: body.client_id ?? '' },
      graph: body.prompt,
      n,
    })
    return this.take({ id: own, scene, body: body.prompt, model: 'workflow', callbackUrl: null, gives }, () => ({
      status: 200,
      json: { prompt_id: own, number: n, node_errors: {} },
    }))
  }

  #entry(job: Job): Json[] {
    const stored = this.#stored.get(job.id)
    return [stored?.n ?? 0, job.id, stored?.graph ?? {}, stored?.extra ?? {}, ['9']]
  }

  #queue(): JsonObject {
    const live = (phase: string) =>
      this.submits()
        .filter(job => job.scene.type !== 'vanish' && this.phase(job) === phase)
        .map(job => this.#entry(job))
    return { queue_running: live('running'), queue_pending: live('queued') }
  }

  #history(jobs: readonly Job[]): JsonObject {
    const ended = jobs.filter(job => job.scene.type !== 'vanish' && this.phase(job) === 'ended')
    return Object.fromEntries(ended.flatMap(job => (this.#dropped.has(job.id) ? [] : [[job.id, this.#run(job)]])))
  }

  #dropped = new Set<string>()

  #run(job: Job): JsonObject {
    const run = (status_str: string, messages: Json[], outputs: JsonObject = {}): JsonObject => ({
      prompt: this.#entry(job),
      outputs,
      status: {
        status_str,
        completed: status_str === 'success',
        messages: [['execution_start', { prompt_id: job.id }], ...messages],
      },
    })
    const filename = `${job.id}_00001_.${job.gives === 'video' ? 'mp4' : 'png'}`
    const file = { filename, subfolder: '', type: 'output' }
    const preview = { filename: 'preview.png', subfolder: '', type: 'temp' }
    switch (this.endOf(job)) {
      case 'good':
        return run('success', [['execution_success', { prompt_id: job.id }]], {
          '8': { images: [preview] },
          '9': job.gives === 'video' ? { images: [file], animated: [true] } : { images: [file] },
        })
      case 'empty':
        return run('success', [['execution_success', { prompt_id: job.id }]])
      case 'canceled':
        return run('error', [['execution_interrupted', { prompt_id: job.id, node_id: '3' }]])
      case 'input':
      case 'output':
      case 'error': {
        const told = {
          prompt_id: job.id,
          node_id: '3',
          node_type: 'KSampler',
          exception_type: 'OutOfMemoryError',
          exception_message: 'Allocation on device',
          traceback: [],
        }
        return run('error', [['execution_error', told]])
      }
    }
  }

  #drop(body: Json | undefined): Reply {
    const ids = isObject(body) && Array.isArray(body.delete) ? body.delete : []
    for (const id of ids) {
      const job = this.jobAt(String(id))
      if (!job || this.phase(job) !== 'queued') continue
      job.canceled = true
      // A job that never ran leaves no history.
      this.#dropped.add(job.id)
    }
    return { status: 200 }
  }

  #interrupt(body: Json | undefined): Reply {
    const id = isObject(body) ? body.prompt_id : undefined
    const running = this.submits().filter(job => this.phase(job) === 'running')
    for (const job of running) if (id === undefined || id === job.id) job.canceled = true
    return { status: 200 }
  }

  async #upload(call: Call): Promise<Reply> {
    const form = await formOf(call)
    const file = form?.get('image')
    if (!(file instanceof File)) return { status: 400 }
    const subfolder = String(form?.get('subfolder') ?? '')
    const name = file.name
    this.#uploads.set(subfolder === '' ? name : `${subfolder}/${name}`, new Uint8Array(await file.arrayBuffer()))
    return { status: 200, json: { name, subfolder, type: String(form?.get('type') ?? 'input') } }
  }

  #view(query: URLSearchParams): Reply {
    const id = (query.get('filename') ?? '').replace(/_00001_\.\w+$/, '')
    const job = this.jobs.get(id)
    if (!job || query.get('type') !== 'output') return { status: 404 }
    job.opens++
    if (job.scene.type === 'expire' && job.opens <= job.scene.times) return { status: 404 }
    return {
      status: 200,
      body: this.bytesOf(job),
      headers: { 'content-type': job.gives === 'video' ? 'video/mp4' : 'image/png' },
    }
  }

  override uploads(): readonly Uint8Array[] {
    return [...this.#uploads.values()]
  }
}

const invalid = (type: string, message: string): Reply => ({
  status: 400,
  json: { error: { type, message, details: message, extra_info: {} }, node_errors: {} },
})

function nodeError(id: string, node: Json, details: string): Reply {
  const class_type = isObject(node) ? (node.class_type ?? '') : ''
  const errors = [
    { type: 'custom_validation_failed', message: 'Custom validation failed for node', details, extra_info: {} },
  ]
  const error = {
    type: 'prompt_outputs_failed_validation',
    message: 'Prompt outputs failed validation',
    details: '',
    extra_info: {},
  }
  return { status: 400, json: { error, node_errors: { [id]: { errors, dependent_outputs: ['9'], class_type } } } }
}

function refuse(why: Refusal): Reply {
  if (why.because === 'invalid') return nodeError('3', { class_type: 'KSampler' }, 'Value not in list')
  return why.because === 'broken' ? { status: 500, json: { error: 'internal' } } : CUT
}
