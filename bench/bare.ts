/**
 * The bare reference: the same chain with the same durable points and nothing else. What no engine on this machine can beat.
 *
 *   PORT=… DATA_DIR=… STUB=<url> KEY=… bun bench/bare.ts
 *
 * Six commits a run (accepted with the intent of the first submit; job id; output kept with the next intent; job id;
 * output kept with the callback due; delivered), group commit with synchronous=FULL, outputs written and synced with
 * their folder, at most 64 calls at once, polls in the product's rhythm. No auth, no validation, no events, no retries.
 */
import { Database } from 'bun:sqlite'
import { mkdirSync } from 'node:fs'
import { open, readFile, rename } from 'node:fs/promises'

const { PORT, DATA_DIR = '', STUB = '', KEY = '', POLL_MS = '500' } = process.env
const media = `${DATA_DIR}/media`
mkdirSync(media, { recursive: true })
const db = new Database(`${DATA_DIR}/bare.db`)
for (const pragma of ['journal_mode = WAL', 'synchronous = FULL']) db.run(`PRAGMA ${pragma}`)
db.run('CREATE TABLE IF NOT EXISTS runs (id TEXT PRIMARY KEY, stage INTEGER, job TEXT, input TEXT)')
db.run('CREATE INDEX IF NOT EXISTS open ON runs (stage) WHERE stage < 5')
const insert = db.prepare('INSERT INTO runs VALUES (?, 0, NULL, ?)')
const update = db.prepare('UPDATE runs SET stage = ?, job = ? WHERE id = ?')

// One transaction for all writes that wait.
let queue: { work: () => void; done: () => void }[] = []
function commit(work: () => void): Promise<void> {
  return new Promise(done => {
    if (queue.push({ work, done }) === 1) setImmediate(flush)
  })
}
function flush(): void {
  const group = queue
  queue = []
  db.run('BEGIN IMMEDIATE')
  for (const { work } of group) work()
  db.run('COMMIT')
  for (const { done } of group) done()
}

let free = 64
const line: (() => void)[] = []
async function call<T>(work: () => Promise<T>): Promise<T> {
  if (free > 0) free -= 1
  else await new Promise<void>(enter => line.push(enter))
  try {
    return await work()
  } finally {
    const next = line.shift()
    if (next) next()
    else free += 1
  }
}

const headers = { 'x-key': KEY, 'content-type': 'application/json' }
const json = <T>(url: string, body?: string): Promise<T> =>
  call(async () => (await fetch(url, body ? { method: 'POST', headers, body } : { headers })).json() as Promise<T>)

async function keep(file: string, bytes: Uint8Array): Promise<void> {
  const handle = await open(`${file}.part`, 'wx').catch(() => open(`${file}.part`, 'w'))
  await handle.write(bytes)
  await handle.sync()
  await handle.close()
  await rename(`${file}.part`, file)
  const folder = await open(media, 'r')
  await folder.sync()
  await folder.close()
}

interface Input {
  input: Record<'text_to_image_params' | 'image_to_video_params', object>
  webhook_url: string
}

/** Stages: 0 submit picture, 1 its job runs, 2 submit film, 3 its job runs, 4 callback due, 5 done. */
async function live(id: string, input: Input, stage: number, job: string | null): Promise<void> {
  let url = job ?? ''
  for (let at = stage; at < 4; at++) {
    const film = at > 1
    if (at % 2 === 0) {
      const params = film ? input.input.image_to_video_params : input.input.text_to_image_params
      const first = film ? { keyframes: [(await readFile(`${media}/${id}.png`)).toString('base64')] } : {}
      const body = JSON.stringify({ ...params, ...first })
      url = (await json<{ polling_url: string }>(`${STUB}/v1/${film ? 'flux-3-video' : 'flux-2-flex'}`, body))
        .polling_url
      await commit(() => update.run(at + 1, url, id))
      continue
    }
    let done: { status: string; result: { sample: string } }
    do {
      await Bun.sleep(Number(POLL_MS))
      done = await json(url)
    } while (done.status !== 'Ready')
    const bytes = await call(async () => (await fetch(done.result.sample)).bytes())
    await keep(`${media}/${id}.${film ? 'mp4' : 'png'}`, bytes)
    await commit(() => update.run(at + 1, null, id))
  }
  const body = JSON.stringify({ type: 'run.succeeded', data: { id, ...input } })
  await call(async () => (await fetch(input.webhook_url, { method: 'POST', headers, body })).arrayBuffer())
  await commit(() => update.run(5, null, id))
}

const open_ = db.prepare<{ id: string; stage: number; job: string | null; input: string }, []>(
  'SELECT * FROM runs WHERE stage < 5',
)
for (const row of open_.all()) void live(row.id, JSON.parse(row.input) as Input, row.stage, row.job)

Bun.serve({
  port: Number(PORT),
  hostname: '127.0.0.1',
  routes: {
    '/readyz': () => new Response('ok'),
    '/api/v1/chains/chain101/runs': {
      POST: async request => {
        const input = (await request.json()) as Input
        const id = Bun.randomUUIDv7()
        await commit(() => insert.run(id, JSON.stringify(input)))
        void live(id, input, 0, null)
        return Response.json({ id, object: 'chain_run', status: 'queued' }, { status: 202 })
      },
    },
  },
})
