/** Looks at everything that a server needs, and says for each finding what to do. Exit code 0 when nothing must be done. */
import { existsSync, statfsSync, statSync } from 'node:fs'
import { resolve } from 'node:path'
import pino from 'pino'
import { holderOf } from '../app/address.ts'
import { isInstalled } from '../app/installation.ts'
import { workflowGaps } from '../app/providers.ts'
import { localCopy } from '../app/readiness.ts'
import { createApp } from '../app.ts'
import { type Config, redacted } from '../config.ts'

interface Finding {
  level: 'ok' | 'note' | 'wrong'
  what: string
  advice?: string
}

/** Below this a few films fill the disk. */
const FEW_BYTES = 1 << 30

export async function check(config: Config): Promise<number> {
  // Looked at first: opening the database writes to it.
  const copy = replication(config)
  const findings = [
    ...(await database(config)),
    disk(config),
    ...keys(config),
    ...workflows(config),
    callbackSecret(config),
    publicUrl(config),
    ...proxies(config),
    copy,
  ]
  const marks = { ok: 'ok   ', note: 'note ', wrong: 'WRONG' }
  for (const { level, what, advice } of findings)
    process.stdout.write(`${marks[level]}  ${what}${advice ? `\n       → ${advice}` : ''}\n`)
  process.stdout.write(`\nsettings: ${JSON.stringify(redacted(config))}\n`)
  return findings.some(finding => finding.level === 'wrong') ? 1 : 0
}

/**
 * Opens everything that a server opens, writes a probe, and closes again; a running server is asked instead. Makes no database, and
 * does not let a restored one go on: what the first start after a loss is for is left to it.
 */
async function database(config: Config): Promise<Finding[]> {
  try {
    if (!isInstalled(config))
      return [{ level: 'note', what: 'database: not made yet', advice: 'The first start makes it.' }]
    const app = await createApp({ ...config, port: 0, resume: null }, { log: pino({ level: 'silent' }) })
    const ready = await app.fetch(new Request('http://localhost/readyz'))
    const body = (await ready.json()) as { checks: { name: string; ok: boolean; detail?: string }[] }
    await app.stop()
    const probed = body.checks.filter(({ name }) => name === 'database' || name === 'storage')
    return probed.map(({ name, ok, detail }) => ({
      level: ok ? 'ok' : 'wrong',
      what: `${name}${detail ? `: ${detail}` : ' works'}`,
    }))
  } catch (error) {
    const message = error instanceof Error ? error.message : String(error)
    const holder = holderOf(error)
    if (holder) {
      const advice =
        holder.origin === null ? holder.advice : `A server is running; ask it: curl ${holder.origin}/readyz`
      return [{ level: 'ok', what: `database: ${message}`, advice }]
    }
    if (error instanceof Error && error.name === 'DatabaseRestored')
      return [{ level: 'wrong', what: `database: ${message}`, advice: 'Give the word to `serve`; `check` takes none.' }]
    return [{ level: 'wrong', what: `database: ${message}`, advice: 'The server cannot start before this is mended.' }]
  }
}

function disk(config: Config): Finding {
  const dir = resolve(config.dataDir)
  if (!existsSync(dir))
    return { level: 'note', what: `disk: ${dir} does not exist yet`, advice: 'The first start makes it.' }
  const { bavail, bsize } = statfsSync(dir)
  const free = bavail * bsize
  const what = `disk: ${(free / 2 ** 30).toFixed(1)} GiB free in ${dir}`
  return free < FEW_BYTES
    ? {
        level: 'wrong',
        what,
        advice: 'Make room, move BABYCHAIN_DATA_DIR, or keep outputs in a bucket with BABYCHAIN_MEDIA.',
      }
    : { level: 'ok', what }
}

function keys(config: Config): Finding[] {
  if (config.mode === 'sandbox')
    return [
      {
        level: 'note',
        what: 'providers: sandbox, no provider keys',
        advice: 'Set one, such as BFL_API_KEY, to run on real models.',
      },
    ]
  return Object.entries(config.providers).map(([id, { key, variable }]) =>
    key === null
      ? { level: 'note', what: `provider ${id}: no key`, advice: `Set ${variable} to use its models.` }
      : { level: 'ok', what: `provider ${id}: key set (${variable})` },
  )
}

/** What is not there is a route without templates: no step can go that way. */
function workflows(config: Config): Finding[] {
  if (config.comfyui.workflows === null) return []
  const path = resolve(config.comfyui.workflows)
  const isFile = path.endsWith('.json')
  const found = statSync(path, { throwIfNoEntry: false })
  if (!(isFile ? found?.isFile() : found?.isDirectory())) {
    const advice = 'Make it, or set COMFYUI_WORKFLOWS to a workflow (a JSON file) or to the folder that holds them.'
    return [{ level: 'wrong', what: `ComfyUI: there is no ${isFile ? 'file' : 'folder'} ${path}`, advice }]
  }
  const gaps = [...Map.groupBy(workflowGaps(config), gap => gap.reason)].map(([reason, [first, ...more]]): Finding => {
    const models = [first, ...more].map(gap => gap?.model).join(', ')
    const advice = 'docs/comfyui.md says what a workflow for it is called and what is in it.'
    return { level: first?.isThere ? 'wrong' : 'note', what: `ComfyUI: ${models}: ${reason}`, advice }
  })
  const what = isFile ? `ComfyUI: one workflow for every model, ${path}` : `ComfyUI: workflows in ${path}`
  return [{ level: 'ok', what }, ...gaps]
}

function callbackSecret(config: Config): Finding {
  if (config.callbackSecret) return { level: 'ok', what: 'callback secret: set' }
  if (isNew(config)) {
    const advice = 'The first start makes it, and shows it once. Set BABYCHAIN_CALLBACK_SECRET to choose it yourself.'
    return { level: 'note', what: 'callback secret: not made yet', advice }
  }
  return {
    level: 'note',
    what: 'callback secret: kept in the database',
    advice:
      'The start that made it showed it once. If nobody has it: POST /api/v1/webhook_secrets/rotate gives a new one, or set BABYCHAIN_CALLBACK_SECRET to choose it yourself.',
  }
}

function isNew(config: Config): boolean {
  try {
    return !isInstalled(config)
  } catch {
    // There was one.
    return false
  }
}

function publicUrl(config: Config): Finding {
  if (!config.publicUrl)
    return {
      level: 'note',
      what: 'public URL: not set',
      advice:
        'Providers are polled instead of calling us, and links name the listening address. Set BABYCHAIN_PUBLIC_URL.',
    }
  if (config.publicUrl.startsWith('https:')) return { level: 'ok', what: `public URL: ${config.publicUrl}` }
  return {
    level: 'wrong',
    what: `public URL: ${config.publicUrl} is not https`,
    advice: 'Providers send webhooks to https only.',
  }
}

function proxies({ proxies }: Config): Finding[] {
  if (proxies.length === 0) return []
  const advice = 'BabyChain uses no proxy: providers, buckets and the receivers of callbacks must be reached directly.'
  return [{ level: 'note', what: `proxy: ${proxies.join(', ')} set, and not used`, advice }]
}

/** A second or two are Litestream's pace. */
const FEW_SECONDS = 10

function replication(config: Config): Finding {
  const { behind, detail } = localCopy(resolve(config.dataDir), Date.now())
  if (behind === null) {
    const advice = 'A lost disk loses the runs: run the server under Litestream, see litestream.yml.'
    return { level: 'note', what: 'replication: none seen', advice }
  }
  if (behind < FEW_SECONDS) return { level: 'ok', what: `replication: ${detail}` }
  const advice =
    'What was written since is in no copy. Litestream sends it when it runs beside the server; its log says why it does not.'
  return { level: 'note', what: `replication: ${detail}`, advice }
}
