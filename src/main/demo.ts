/**
 * The seed's chain from the command line: a server of its own on the sandbox, one run, a live line per step, and where
 * the picture and the film lie. It speaks to the server as any client does: over HTTP.
 */
import { mkdirSync, mkdtempSync, writeFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import pino from 'pino'
import { ask } from '../app/ask.ts'
import { createApp } from '../app.ts'
import { type Config, readConfig } from '../config.ts'

interface Seen {
  id: string
  status: string
  error: { message: string; hint: string } | null
  steps: { step_key: string; status: string; model_identifier: string; generation_output_file?: string[] }[]
}

/** Runs the demonstration; the exit code is 0 when the run succeeded. */
export async function demo(config: Config): Promise<number> {
  const dataDir = freshDir(config.dataDir)
  const settings = readConfig({
    PORT: '0',
    BABYCHAIN_MODE: 'sandbox',
    BABYCHAIN_DATA_DIR: dataDir,
    LOG_LEVEL: 'silent',
  })
  if (!settings.ok) throw new Error(settings.problems.join('; '))
  const own = { ...settings.config, sandboxLatencyMs: config.sandboxLatencyMs }
  const app = await createApp(own, { log: pino({ level: 'silent' }) })
  try {
    const { url } = await app.start()
    const headers = { authorization: `Bearer ${app.apiKey}`, 'content-type': 'application/json' }
    const created = await ask(`${url}/api/v1/chains/chain101/runs`, {
      method: 'POST',
      headers,
      body: app.example,
    })
    if (created.status !== 202) throw new Error(`the run was refused: ${await created.text()}`)
    const { id } = (await created.json()) as Seen
    process.stdout.write(`run ${id} on ${url}\n`)
    await watch(`${url}/api/v1/runs/${id}`, headers)
    const run = (await (await ask(`${url}/api/v1/runs/${id}`, { headers })).json()) as Seen
    if (run.status !== 'succeeded')
      process.stdout.write(`the run ${run.status}: ${run.error?.message ?? ''} ${run.error?.hint ?? ''}\n`)
    for (const step of run.steps) await save(step, dataDir)
    return run.status === 'succeeded' ? 0 : 1
  } finally {
    await app.stop()
  }
}

/** A folder for this demonstration alone: what lies in the data directory, also of demonstrations before, is nobody's to remove. */
function freshDir(dataDir: string): string {
  try {
    mkdirSync(dataDir, { recursive: true })
    return mkdtempSync(join(dataDir, 'demo-'))
  } catch (error) {
    const why = error instanceof Error ? error.message : error
    throw new DemoRefused(
      `no folder can be made in ${dataDir} (${why}); set BABYCHAIN_DATA_DIR to one that can be written`,
    )
  }
}

class DemoRefused extends Error {
  override name = 'DemoRefused'
}

/** Prints a line per event of the run, as they come. */
async function watch(runUrl: string, headers: Record<string, string>): Promise<void> {
  const began = Date.now()
  const board = new Board()
  const stream = await ask(`${runUrl}/events`, { headers })
  if (!stream.body) throw new Error(`no events: ${stream.status}`)
  let text = ''
  for await (const chunk of stream.body.pipeThrough(new TextDecoderStream())) {
    text += chunk
    const parts = text.split('\n\n')
    text = parts.pop() ?? ''
    for (const part of parts) {
      const data = /^data: (.*)$/m.exec(part)?.[1]
      if (data) board.show(JSON.parse(data) as EventLine, Date.now() - began)
    }
  }
}

interface EventLine {
  type: string
  step_key: string | null
  data: { progress?: number | null; provider?: string; attempt?: number; error?: { message: string } }
}

/** A line per step that stays live on a terminal; a line per event elsewhere. */
class Board {
  #step: string | null = null

  show(event: EventLine, ms: number): void {
    const [, what = ''] = event.type.split('.')
    const name = event.step_key ?? 'run'
    const text = `${(ms / 1000).toFixed(1).padStart(6)} s  ${name.padEnd(16)} ${describe(what, event.data)}`
    if (!process.stdout.isTTY) {
      process.stdout.write(`${text}\n`)
      return
    }
    process.stdout.write(`${this.#step === name || this.#step === null ? '' : '\n'}\r\u001b[K${text}`)
    this.#step = name
    if (name === 'run' && what !== 'created') process.stdout.write('\n')
  }
}

function describe(what: string, { progress, provider, attempt, error }: EventLine['data']): string {
  if (what === 'running') return `running at ${provider}${attempt && attempt > 1 ? `, attempt ${attempt}` : ''}`
  if (what === 'progressed')
    return `running ${'▮'.repeat(Math.round((progress ?? 0) * 20)).padEnd(20, '▯')} ${Math.round((progress ?? 0) * 100)} %`
  return error ? `${what}: ${error.message}` : what
}

/** Leaves a copy of a step's outputs under a name that a person can find. */
async function save(step: Seen['steps'][number], dataDir: string): Promise<void> {
  for (const [i, link] of (step.generation_output_file ?? []).entries()) {
    const file = await ask(link)
    const ending =
      { 'image/jpeg': 'jpg', 'image/png': 'png', 'image/webp': 'webp', 'video/mp4': 'mp4' }[
        file.headers.get('content-type') ?? ''
      ] ?? 'bin'
    const path = resolve(dataDir, `${step.step_key}${i > 0 ? `-${i + 1}` : ''}.${ending}`)
    writeFileSync(path, await file.bytes())
    process.stdout.write(`${step.step_key}: ${path}\n`)
  }
}
