/**
 * The provider: Black Forest Labs as a process of its own, as fast as a server can be. Pictures by `flux-2-flex`, films by
 * `flux-3-video`; a submit is answered at once, a job is `Ready` when its time has passed, an output has 20 kB.
 *
 *   bun bench/stub.ts <key>      prints { url, files }
 *
 * 1. Every submit is counted by model and prompt, whatever becomes of its answer: a second one for the same step would
 *    be paid twice.
 * 2. Outputs lie on a second origin, as the real ones do.
 * 3. A job that named a webhook is told of once, signed as BFL signs; nobody repeats it.
 */
import { createHmac } from 'node:crypto'
import { film, picture } from './files.ts'

const key = Bun.argv[2] ?? ''
const PICTURE = picture(20_000)
const FILM = film(20_000)

interface Job {
  model: string
  doneAt: number
}

const jobs = new Map<string, Job>()
const submits = new Map<string, number>()
let delayMs = 0
let calls = 0
let firstCallAt = 0
let lastDoneAt = 0
let made = 0

const files = Bun.serve({
  port: 0,
  hostname: '127.0.0.1',
  fetch(request) {
    const isFilm = request.url.endsWith('.mp4')
    return new Response(isFilm ? FILM : PICTURE, { headers: { 'content-type': isFilm ? 'video/mp4' : 'image/png' } })
  },
})

const api = Bun.serve({
  port: 0,
  hostname: '127.0.0.1',
  maxRequestBodySize: 64 << 20,
  routes: {
    '/v1/get_result': request => {
      if (request.headers.get('x-key') !== key) return new Response('{"detail":"Not authenticated"}', { status: 403 })
      called()
      return Response.json(statusOf(new URL(request.url).searchParams.get('id') ?? ''))
    },
    '/v1/:model': async request => {
      if (request.headers.get('x-key') !== key) return new Response('{"detail":"Not authenticated"}', { status: 403 })
      called()
      return Response.json(submit(request.params.model, await request.text()))
    },
    '/control/delay/:ms': request => {
      delayMs = Number(request.params.ms)
      return new Response()
    },
    /** Forgets everything but running jobs' ids. */
    '/control/reset': () => {
      for (const map of [jobs, submits]) map.clear()
      calls = firstCallAt = lastDoneAt = 0
      return new Response()
    },
    /** The next call is the first one. */
    '/control/mark': () => {
      firstCallAt = 0
      return new Response()
    },
    '/control/stats': () => {
      const counts = [...submits.values()]
      const doubled = counts.reduce((sum, count) => sum + count - 1, 0)
      return Response.json({
        calls,
        submits: counts.length + doubled,
        steps: counts.length,
        doubled,
        firstCallAt,
        lastDoneAt,
      })
    },
  },
})

function called(): void {
  calls += 1
  if (firstCallAt === 0) firstCallAt = Date.now()
}

/** The answer names a polling address only where there is no webhook (providers.md 1.1). */
function submit(model: string, body: string): object {
  const step = `${model}/${/"prompt":"([^"]*)"/.exec(body)?.[1]}`
  submits.set(step, (submits.get(step) ?? 0) + 1)
  const id = `job-${process.pid.toString(36)}-${(made++).toString(36)}`
  const doneAt = Date.now() + delayMs
  jobs.set(id, { model, doneAt })
  lastDoneAt = Math.max(lastDoneAt, doneAt)
  const at = body.lastIndexOf('"webhook_url":')
  if (at < 0) return { id, polling_url: `${api.url.origin}/v1/get_result?id=${id}` }
  const { webhook_url: url, webhook_secret: secret } = JSON.parse(`{${body.slice(at)}`) as Record<string, string>
  setTimeout(() => void tell(url ?? '', secret ?? '', id), delayMs)
  return { id, status: 'Pending', webhook_url: url }
}

function statusOf(id: string): object {
  const job = jobs.get(id)
  if (!job) return { id, status: 'Task not found' }
  if (Date.now() < job.doneAt) return { id, status: 'Pending', result: null }
  const ext = job.model === 'flux-3-video' ? 'mp4' : 'png'
  return { id, status: 'Ready', result: { sample: `${files.url.origin}/${id}.${ext}` } }
}

async function tell(url: string, secret: string, id: string): Promise<void> {
  const body = JSON.stringify(statusOf(id))
  const signature = `sha256=${createHmac('sha256', secret).update(body).digest('hex')}`
  const headers = { 'content-type': 'application/json', 'x-bfl-signature': signature }
  await fetch(url, { method: 'POST', headers, body }).then(
    answer => answer.arrayBuffer(),
    () => {}, // the receiver is down: lost, as at the real one
  )
}

console.log(JSON.stringify({ url: api.url.origin, files: files.url.host }))
