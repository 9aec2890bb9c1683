/**
 * The commands: serve (default), demo, check, keys, models, health.
 *
 * 1. A wrong setting stops the start with a sentence for each, before anything is opened. So does a word that a command does
 *    not know: `serve --port 4000` must not serve elsewhere.
 * 2. SIGTERM and SIGINT drain: nothing new is taken, what must finish finishes, and the exit code is 0. A second one, of
 *    either, ends at once.
 * 3. Whatever goes wrong is said in a sentence that tells what to do; a stack is for bugs only.
 * 4. Standard output that cannot be written stops nothing.
 * 5. No proxy of the environment is used: what is fetched and sent goes through guarded egress, which judges the address that
 *    it really reaches.
 */
import pkg from '../package.json' with { type: 'json' }
import { serverOf } from './app/address.ts'
import { ask } from './app/ask.ts'
import { output } from './app/output.ts'
import { type App, createApp } from './app.ts'
import { type Config, readConfig } from './config.ts'
import { tellOfBootstrap } from './main/bootstrap.ts'
import { check } from './main/check.ts'
import { demo } from './main/demo.ts'
import { KEYS_HELP, keys } from './main/keys.ts'
import { models } from './main/models.ts'
import { labPages } from './main/pages.ts'
import { wordsOf } from './main/words.ts'

interface Command {
  run(config: Config, args: readonly string[]): Promise<number>
  /** The words that it knows; null: it reads them itself. */
  words: readonly string[] | null
  help: string
}

async function main(argv: readonly string[]): Promise<number> {
  const [name = 'serve', ...args] = argv
  if (HELP_WORDS.includes(name)) return say(HELP)
  if (['version', '--version', '-v'].includes(name)) return say(pkg.version)
  const command = COMMANDS.get(name)
  if (!command) return fail(`there is no command ${JSON.stringify(name)}\n\n${HELP}`)
  if (args.some(word => HELP_WORDS.includes(word) && word !== 'help')) return say(command.help)
  const unknown = args.find(word => command.words?.includes(word) === false)
  if (unknown !== undefined) return fail(`${name} does not know ${JSON.stringify(unknown)}\n\n${command.help}`)
  const read = readConfig(process.env)
  if (!read.ok) return fail(`cannot start:\n${read.problems.map(problem => `  - ${problem}`).join('\n')}`)
  // The client of the bucket would use one, and takes no word against it.
  for (const name of read.config.proxies) delete process.env[name]
  try {
    return await command.run(read.config, args)
  } catch (error) {
    return fail(wordsOf(error))
  }
}

const HELP = `babychain ${pkg.version}: one call, one durable run of image and video models, one signed callback

  serve    start the server (default); --resume lets a restored database go on
  demo     run a chain on the sandbox, with a live line per step
  check    look at database, disk, keys and addresses, and say what to do
  keys     list, create, limit, rotate and revoke API keys; go on without a lost master key
  models   every model with its routes: configured, takes a plain request, price
  health   exit 0 when the server of this machine answers

Settings are environment variables, such as PORT=4000; the README has the table. --help and --version tell more.`

const HELP_WORDS: readonly string[] = ['help', '--help', '-h']

// A map: `babychain toString` must not find what every object has.
const COMMANDS = new Map<string, Command>([
  ['serve', { run: serve, words: ['--resume'], help: HELP }],
  ['demo', { run: demo, words: [], help: HELP }],
  ['check', { run: check, words: [], help: HELP }],
  ['keys', { run: keys, words: null, help: KEYS_HELP }],
  ['models', { run: models, words: [], help: HELP }],
  ['health', { run: health, words: [], help: HELP }],
])

async function serve(config: Config, args: readonly string[]): Promise<number> {
  const stopped = firstSignal(() => process.exit(1))
  const app = await createApp(args.includes('--resume') ? { ...config, resume: 'now' } : config)
  if (config.proxies.length > 0)
    app.log.warn(
      { variables: config.proxies },
      'no proxy is used: providers, buckets and callbacks are reached directly',
    )
  const end = Promise.race([stopped, app.taken])
  // It listens before the last of many runs is taken up: a signal of that time drains, too.
  const begun = begin(app, config)
  await Promise.race([begun, end])
  const signal = await end
  if (signal instanceof Error) return fail(signal.message)
  app.log.info({ signal }, 'draining')
  // What a start that is broken off says is of no use; what it made and shows once is.
  await Promise.all([app.stop(), begun.catch(() => {})])
  return 0
}

async function begin(app: App, config: Config): Promise<void> {
  const { url } = await app.start(labPages())
  if (process.stdout.isTTY || config.mode === 'sandbox' || app.showsOnce) output.write(app.greeting(url))
  await tellOfBootstrap(app)
}

/** Signals of one moment are one: a terminal and npm, systemd and Litestream, each give the same one twice. */
const SAME_MOMENT_MS = 500

/** Resolves with the first signal; from then on the next one, whichever it is, calls `again`. */
function firstSignal(again: () => void): Promise<NodeJS.Signals> {
  let since: number | null = null
  return new Promise(resolve => {
    for (const signal of ['SIGTERM', 'SIGINT'] as const)
      process.on(signal, () => {
        if (since !== null && performance.now() - since > SAME_MOMENT_MS) again()
        since ??= performance.now()
        resolve(signal)
      })
  })
}

/** For container health checks: no shell, no curl. */
async function health(config: Config): Promise<number> {
  const url = serverOf(config)
  try {
    const answer = await ask(`${url}/healthz`, { signal: AbortSignal.timeout(2_000) })
    return answer.ok ? 0 : fail(`the server answers ${answer.status}`)
  } catch {
    return fail(`no server answers on ${url}`)
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

process.on('exit', () => output.end())
const code = await main(Bun.argv.slice(2))
await output.settled()
process.exit(code)
