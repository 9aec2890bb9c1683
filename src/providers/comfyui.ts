/**
 * ComfyUI on the user's own machine (providers.md 10.1).
 *
 * 1. What runs is a workflow template of the user (comfyui-workflow.ts); the model's name there is the file's.
 * 2. We choose the `prompt_id`, from the attempt's token, and leave the token in `extra_data` for servers that choose
 *    their own: either way a lost job is found in the queue or the history. The server does not refuse a duplicate.
 * 3. In the queue: waiting or running. In the history: finished. In neither: lost by a restart. The queue is asked
 *    first, so that a job on its way from one to the other is never in neither.
 * 4. Pictures are uploaded; outputs are read from the same server.
 */
import { createHash } from 'node:crypto'
import { type StepError, stepError } from '../core/errors.ts'
import type { Json, JsonObject } from '../core/json.ts'
import type { Checked, Found, Picture, Provider, StartJob } from '../core/ports.ts'
import { remember } from '../core/remember.ts'
import type { ProviderMedia } from '../core/run.ts'
import { createWorkflows, type Filled, prepare, type Workflows } from './comfyui-workflow.ts'
import {
  type Answer,
  type Ask,
  at,
  below,
  cancelSeen,
  codeByStatus,
  type Dialect,
  fault,
  formAsk,
  getAsk,
  idAt,
  listAt,
  orderAsk,
  pending,
  postAsk,
  type Reading,
  readPoll,
  readSubmit,
  type Submitted,
  textAt,
  uploadError,
  wordsAt,
} from './protocol.ts'
import { createWire, type ProtocolOptions } from './wire.ts'

export interface ComfyUiOptions extends Omit<ProtocolOptions, 'key' | 'baseUrl'> {
  /** Null when there is none. */
  baseUrl: string | null
  /** COMFYUI_WORKFLOWS: a JSON file or a directory of them. */
  workflows: string | null
}

export function createComfyUi(options: ComfyUiOptions): Provider {
  const baseUrl = options.baseUrl ?? 'http://127.0.0.1:8188'
  const workflows = options.workflows === null ? null : createWorkflows(options.workflows)
  const wire = createWire({ ...options, key: null, baseUrl, dialect: DIALECT, secret: null })
  const inQueue = (signal: AbortSignal) => wire.ask(askAt(below(baseUrl, 'queue')), signal)
  // What we took out of the queue leaves no trace there.
  const dropped = new Map<string, true>()
  const check = async (ref: Json, signal: AbortSignal): Promise<Checked> => {
    const id = idAt(ref, 'id')
    if (id === undefined) return wire.foreign()
    const queue = await inQueue(signal)
    const place = queue.type === 'answered' ? placeIn(queue.answer.json, id) : null
    if (place === 'running' || place === 'pending') {
      wire.seen(id)
      return pending(POLL_MS)
    }
    return wire.poll(id, askAt(below(baseUrl, 'history', id)), signal, POLL_MS, answer => {
      const reading = readHistory(answer, id, baseUrl)
      if (reading.type === 'lost' && dropped.has(id)) return { type: 'failed', error: fault(DIALECT, 'canceled') }
      // Not in the history proves nothing as long as nobody has seen the queue.
      const sure = place !== null || reading.type !== 'lost'
      return sure ? reading : pending(2 * POLL_MS)
    })
  }
  return {
    id: 'comfyui',
    missing: missingOf(options),
    // One runs and one waits, so that the machine is never idle.
    concurrency: options.concurrency ?? 2,
    // Everything is uploaded; this is how much.
    takes: { url: false, dataUriBytes: 50_000_000 },
    settleMs: 5_000,
    async start(job, signal) {
      const made = graphFor(workflows, job)
      if (!made.ok) return { type: 'refused', error: made.error }
      return wire.submit(submitAsk(baseUrl, made.graph, job.token), job, signal, readStart)
    },
    check,
    async cancel(ref, signal) {
      const id = idAt(ref, 'id')
      if (id === undefined) return 'unsupported'
      const queue = await inQueue(signal)
      const place = queue.type === 'answered' ? placeIn(queue.answer.json, id) : null
      if (place !== 'running' && place !== 'pending') return cancelSeen(await check(ref, signal))
      const asked = await wire.ask(place === 'pending' ? dropAsk(baseUrl, id) : stopAsk(baseUrl, id), signal)
      if (asked.type === 'failed' || asked.answer.status >= 300) return 'failed'
      if (place === 'pending') remember(dropped, id, true, MOST_DROPPED)
      return 'confirmed'
    },
    async find(attempt, signal) {
      const queue = await inQueue(signal)
      if (queue.type === 'failed') return { type: 'unknown' }
      const waiting = findIn(entriesOf(queue.answer.json), attempt.token)
      if (waiting) return waiting
      const history = await wire.ask(askAt(`${below(baseUrl, 'history')}?max_items=${HISTORY}`), signal)
      if (history.type === 'failed' || history.answer.status !== 200) return { type: 'unknown' }
      const runs = Object.values((history.answer.json ?? {}) as JsonObject).map(run => at(run, 'prompt'))
      return (
        findIn(runs, attempt.token) ?? (at(queue.answer.json, 'queue_running') ? { type: 'none' } : { type: 'unknown' })
      )
    },
    async upload(picture, signal) {
      const asked = await wire.ask(uploadAsk(baseUrl, picture), signal)
      if (asked.type === 'failed') return { ok: false, error: asked.error }
      const ref = readUpload(asked.answer)
      return ref === null ? { ok: false, error: uploadError(DIALECT, asked.answer) } : { ok: true, ref }
    },
    open: (media, signal) => wire.open(media.url, signal),
  }
}

const POLL_MS = 1_000
/** Runs of the history that a look-up reads: more than any machine paints in the seconds since the submit. */
const HISTORY = 100
/** Taken out of the queue and not asked for since: their step asks at once. */
const MOST_DROPPED = 1_000
/** History and queue repeat the graphs. */
const LARGE = { maxBytes: 32 * 1024 * 1024 } as const

function missingOf(options: Pick<ComfyUiOptions, 'baseUrl' | 'workflows'>): string | null {
  if (options.baseUrl === null) return 'Set COMFYUI_URL.'
  return options.workflows === null ? NO_WORKFLOWS : null
}

const NO_WORKFLOWS = 'Set COMFYUI_WORKFLOWS to a workflow in API format, or to a directory of them.'

// ── Requests ──────────────────────────────────────────────────────────────────────────────────────

const askAt = (url: string): Ask => ({ ...getAsk(url), ...LARGE })

function graphFor(
  workflows: Workflows | null,
  job: Pick<StartJob, 'providerModel' | 'role' | 'body' | 'token'>,
): { ok: true; graph: JsonObject } | { ok: false; error: StepError } {
  const filled: Filled = workflows
    ? prepare(workflows, job.providerModel, job.role, { seed: seedOf(job.token), ...job.body })
    : { ok: false, reason: NO_WORKFLOWS }
  if (filled.ok) return filled
  return { ok: false, error: stepError('invalid_input', filled.reason, { provider: 'comfyui' }) }
}

const digestOf = (token: string): Buffer => createHash('sha256').update(token).digest()

/** Below 2³², which every sampler takes. */
const seedOf = (token: string): number => digestOf(token).readUInt32BE(16)

/** The same attempt always has the same prompt id (a UUID). */
export function promptIdOf(token: string): string {
  const bytes = digestOf(token).subarray(0, 16)
  bytes[6] = ((bytes[6] ?? 0) & 0x0f) | 0x40
  bytes[8] = ((bytes[8] ?? 0) & 0x3f) | 0x80
  const hex = bytes.toString('hex')
  return [hex.slice(0, 8), hex.slice(8, 12), hex.slice(12, 16), hex.slice(16, 20), hex.slice(20)].join('-')
}

function submitAsk(baseUrl: string, graph: JsonObject, token: string): Ask {
  const mark = { babychain: token }
  const order = { prompt: graph, prompt_id: promptIdOf(token), client_id: 'babychain', extra_data: mark }
  return { ...orderAsk(below(baseUrl, 'prompt'), order), ...LARGE }
}

const dropAsk = (baseUrl: string, id: string): Ask => ({
  ...postAsk(below(baseUrl, 'queue'), { delete: [id] }),
  ...LARGE,
})

/** Names the prompt: without it, whatever runs would be stopped. */
const stopAsk = (baseUrl: string, id: string): Ask => ({
  ...postAsk(below(baseUrl, 'interrupt'), { prompt_id: id }),
  ...LARGE,
})

/** Named by its content, so that the same picture is one file there. */
function uploadAsk(baseUrl: string, picture: Picture): Ask {
  const name = `${createHash('sha256').update(picture.bytes).digest('hex').slice(0, 32)}.${picture.mime.split('/')[1] ?? 'png'}`
  const form = new FormData()
  form.set('image', new Blob([new Uint8Array(picture.bytes)], { type: picture.mime }), name)
  form.set('type', 'input')
  form.set('subfolder', 'babychain')
  form.set('overwrite', 'true')
  return { ...formAsk(below(baseUrl, 'upload/image'), form), ...LARGE }
}

// ── Answers ───────────────────────────────────────────────────────────────────────────────────────

const DIALECT: Dialect = {
  provider: 'comfyui',
  secrets: [],
  codeOf: answer => codeByStatus(answer.status),
  wordsOf(json) {
    const error = at(json, 'error')
    const head = typeof error === 'string' ? error : wordsAt(error, 'message', 'details')
    const nodes = Object.values((at(json, 'node_errors') ?? {}) as JsonObject).flatMap(node =>
      listAt(node, 'errors').map(each =>
        [textAt(node, 'class_type'), wordsAt(each, 'message', 'details')].filter(Boolean).join(': '),
      ),
    )
    return error === undefined ? undefined : [head, ...nodes].filter(Boolean).join('; ')
  },
}

export function readStart(answer: Answer): Submitted {
  return readSubmit(DIALECT, answer, json => {
    const id = idAt(json, 'prompt_id')
    return id === undefined ? null : { type: 'accepted', jobRef: { id }, pollAfterMs: 500 }
  })
}

/** `[number, prompt_id, graph, extra_data, outputs]`, of both lists. */
function entriesOf(queue: Json | undefined): readonly Json[] {
  return [...listAt(queue, 'queue_running'), ...listAt(queue, 'queue_pending')]
}

/** Where a job stands in the queue; null when the queue was not shown. */
function placeIn(queue: Json | undefined, id: string): 'running' | 'pending' | 'absent' | null {
  if (at(queue, 'queue_running') === undefined) return null
  const holds = (list: string): boolean => listAt(queue, list).some(entry => at(entry, 1) === id)
  return holds('queue_running') ? 'running' : holds('queue_pending') ? 'pending' : 'absent'
}

function findIn(entries: readonly (Json | undefined)[], token: string): Found | null {
  const own = entries.find(entry => at(entry, 1) === promptIdOf(token) || at(entry, 3, 'babychain') === token)
  const id = idAt(own, 1)
  return id === undefined ? null : { type: 'found', jobRef: { id }, pollAfterMs: 0 }
}

const STATUSES = ['success', 'error'] as const

export function readHistory(answer: Answer, id: string, baseUrl: string): Reading {
  return readPoll(DIALECT, answer, POLL_MS, json => {
    if (typeof json !== 'object' || json === null) return null
    const run = at(json, id)
    if (run === undefined)
      return {
        type: 'lost',
        error: fault(DIALECT, 'provider_lost', { words: 'neither in the queue nor in the history' }),
      }
    const messages = listAt(run, 'status', 'messages')
    if (messages.some(message => at(message, 0) === 'execution_interrupted')) {
      return { type: 'failed', error: fault(DIALECT, 'canceled', { words: 'execution_interrupted' }) }
    }
    // Old servers write no status; what is in the history has ended.
    const status = STATUSES.find(each => each === at(run, 'status', 'status_str')) ?? 'success'
    switch (status) {
      case 'success': {
        const media = mediaIn(at(run, 'outputs'), baseUrl)
        return media.length > 0
          ? { type: 'succeeded', media }
          : { type: 'failed', error: fault(DIALECT, 'output_invalid') }
      }
      case 'error': {
        const told = at(
          messages.find(message => at(message, 0) === 'execution_error'),
          1,
        )
        const words = wordsAt(told, 'node_type', 'exception_message') ?? 'error'
        return { type: 'failed', error: fault(DIALECT, 'provider_error', { words }) }
      }
      default:
        return status satisfies never
    }
  })
}

/** Saved files; where a workflow only previews, the previews. Films stand under `gifs`, `videos` or `images`. */
function mediaIn(outputs: Json | undefined, baseUrl: string): ProviderMedia[] {
  const nodes = typeof outputs === 'object' && outputs !== null ? Object.values(outputs) : []
  const files = nodes.flatMap(node => ['images', 'gifs', 'videos'].flatMap(key => listAt(node, key)))
  const saved = files.filter(file => at(file, 'type') === 'output')
  return (saved.length > 0 ? saved : files).flatMap(file => {
    const filename = textAt(file, 'filename')
    if (filename === undefined) return []
    const query = new URLSearchParams({
      filename,
      subfolder: textAt(file, 'subfolder') ?? '',
      type: textAt(file, 'type') ?? 'output',
    })
    return [{ url: `${below(baseUrl, 'view')}?${query}` }]
  })
}

function readUpload(answer: Answer): string | null {
  const name = answer.status < 300 ? textAt(answer.json, 'name') : undefined
  if (name === undefined) return null
  const folder = textAt(answer.json, 'subfolder')
  return folder === undefined ? name : `${folder}/${name}`
}
