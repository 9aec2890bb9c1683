/**
 * The commands: serve (default), demo, check, keys, models, health.
 *
 * 1. A wrong setting stops the start with a sentence for each, before anything is opened.
 * 2. SIGTERM and SIGINT drain: nothing new is taken, what must finish finishes, and the exit code is 0. A second one ends at once.
 * 3. Whatever goes wrong is said in a sentence that tells what to do; a stack is for bugs only.
 */
import pkg from '../package.json' with { type: 'json' }
import { createApp } from './app.ts'
import { type Config, readConfig } from './config.ts'
import { check } from './main/check.ts'
import { demo } from './main/demo.ts'
import { keys } from './main/keys.ts'
import { models } from './main/models.ts'
import { labPages } from './main/pages.ts'

const COMMANDS: Record<string, (config: Config, args: readonly string[]) => Promise<number>> = {
  serve,
  demo,
  check,
  keys,
  models,
  health,
}

async function main(argv: readonly string[]): Promise<number> {
  const [name = 'serve', ...args] = argv
  if (name === '--version' || name === 'version') return say(pkg.version)
  if (name === '--help' || name === 'help') return say(HELP)
  const command = COMMANDS[name]
  if (!command) return fail(`there is no command ${JSON.stringify(name)}\n\n${HELP}`)
  const read = readConfig(process.env)
  if (!read.ok) return fail(`cannot start:\n${read.problems.map(problem => `  - ${problem}`).join('\n')}`)
  try {
    return await command(read.config, args)
  } catch (error) {
    if (error instanceof Error && error.name !== 'Error' && error.name !== 'TypeError') return fail(error.message)
    return fail(error instanceof Error ? (error.stack ?? error.message) : String(error))
  }
}

const HELP = `babychain ${pkg.version}: one call, one durable run of image and video models, one signed callback

  serve    start the server (default); --resume lets a restored database go on
  demo     run a chain on the sandbox, with a live line per step
  check    look at database, disk, keys and addresses, and say what to do
  keys     list, create, limit, rotate and revoke API keys
  models   every model with its routes: configured, eligible, price
  health   exit 0 when the server of this machine answers

Settings are environment variables; the README has the table.`

async function serve(config: Config, args: readonly string[]): Promise<number> {
  const app = await createApp(args.includes('--resume') ? { ...config, resume: 'now' } : config)
  const { url } = await app.start(labPages())
  // A key that was just made is shown wherever the output goes: nobody could ask for it again.
  const isNew = app.apiKey !== config.apiKey
  if (process.stdout.isTTY || config.mode === 'sandbox' || isNew) process.stdout.write(app.greeting(url))
  const signal = await nextSignal()
  app.log.info({ signal }, 'draining')
  process.once(signal, () => process.exit(1))
  await app.stop()
  return 0
}

function nextSignal(): Promise<NodeJS.Signals> {
  return new Promise(resolve => {
    for (const signal of ['SIGTERM', 'SIGINT'] as const) process.once(signal, () => resolve(signal))
  })
}

/** For container health checks: no shell, no curl. */
async function health(config: Config): Promise<number> {
  const host = config.host === '0.0.0.0' || config.host === '::' ? '127.0.0.1' : config.host
  try {
    const answer = await fetch(`http://${host}:${config.port}/healthz`, { signal: AbortSignal.timeout(2_000) })
    return answer.ok ? 0 : fail(`the server answers ${answer.status}`)
  } catch {
    return fail(`no server answers on ${host}:${config.port}`)
  }
}

function say(text: string): number {
  process.stdout.write(`${text}\n`)
  return 0
}

function fail(text: string): number {
  process.stderr.write(`babychain: ${text}\n`)
  return 1
}

process.exit(await main(Bun.argv.slice(2)))
