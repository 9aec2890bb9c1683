/**
 * API keys from the command line: list, create, limit, rotate, revoke.
 *
 * 1. It speaks the API and nothing else. Where no server runs, it opens the database and asks the API in this process;
 *    where one does, it asks that one, with BABYCHAIN_API_KEY, at the address that it left in the data directory.
 * 2. A text is printed once, by the command that made it.
 * 3. It makes no installation: in the wrong folder it would print a key that no server knows.
 * 4. `reseal` is for when the API cannot be opened at all: the master key is lost.
 */
import { resolve } from 'node:path'
import { parseArgs } from 'node:util'
import pino from 'pino'
import { type Holder, holderOf, TYPE_IT_THERE } from '../app/address.ts'
import { ask as askServer } from '../app/ask.ts'
import { isInstalled } from '../app/installation.ts'
import { reseal } from '../app/reseal.ts'
import { type App, createApp } from '../app.ts'
import type { Config } from '../config.ts'

export const KEYS_HELP = `babychain keys: API keys of this installation

  keys list
  keys create NAME [--scopes runs:read,runs:write] [--expires 2027-01-01T00:00:00Z]
                   [--rate PER_MINUTE] [--running RUNS] [--queued RUNS] [--budget USD_PER_DAY]
  keys limit ID    [--rate N] [--running N] [--queued N] [--budget USD] [--expires TIME]   (none takes a limit away)
  keys rotate ID   [--overlap SECONDS]   (the text before works for a day unless you say otherwise;
                   while it does, only --overlap 0 rotates again, and ends it at once)
  keys revoke ID   (at once)
  keys reseal      (the master key is lost: a new one, and new webhook secrets in place of those that it sealed)

  --json prints what the API answers. While a server runs, BABYCHAIN_API_KEY must be a key with keys:manage.`

interface Key {
  id: string
  name: string
  prefix: string
  last4: string
  status: string
  scopes: readonly string[]
  rate_per_minute: number | null
  max_running: number | null
  max_queued: number | null
  daily_budget_usd: number | null
  spent_today_usd: number
  expires_at: string | null
  last_used_at: string | null
  previous_expires_at: string | null
  key?: string
  webhook_secret?: string
}

type Ask = (method: string, path: string, body?: object) => Promise<unknown>
type Flags = Record<string, string | boolean | undefined>

export async function keys(config: Config, args: readonly string[]): Promise<number> {
  const [verb = 'list', ...rest] = args
  if (verb === 'help') {
    process.stdout.write(`${KEYS_HELP}\n`)
    return 0
  }
  const { values, positionals } = read(verb, rest)
  if (verb === 'reseal' && positionals.length === 0) return resealed(config)
  const order = orderOf(verb, positionals, values)
  if (order === null) {
    process.stderr.write(`${KEYS_HELP}\n`)
    return 1
  }
  const answer = await withApi(config, ask => ask(order.method, order.path, order.body))
  process.stdout.write(values.json === true ? `${JSON.stringify(answer, null, 2)}\n` : shown(answer))
  return 0
}

const LIMITS = ['rate', 'running', 'queued', 'budget', 'expires'] as const
/** The flags of each verb, beside --json. */
const FLAGS = new Map<string, readonly string[]>([
  ['create', ['scopes', ...LIMITS]],
  ['limit', LIMITS],
  ['rotate', ['overlap']],
])

/** @throws KeysRefused for a flag that the verb does not know */
function read(verb: string, args: readonly string[]) {
  const text = (flag: string) => [flag, { type: 'string' }] as const
  const options = { ...Object.fromEntries((FLAGS.get(verb) ?? []).map(text)), json: { type: 'boolean' } } as const
  try {
    return parseArgs({ args: [...args], options, allowPositionals: true })
  } catch (error) {
    throw new KeysRefused(`keys ${verb}: ${error instanceof Error ? error.message : error}\n\n${KEYS_HELP}`)
  }
}

/** The call of the API that a command is; null when the words are not a command. */
function orderOf(
  verb: string,
  words: readonly string[],
  flags: Flags,
): { method: string; path: string; body?: object } | null {
  const [first, ...more] = words
  if (more.length > 0) return null
  if (verb === 'list') return first === undefined ? { method: 'GET', path: '' } : null
  if (first === undefined) return null
  const path = `/${encodeURIComponent(first)}`
  switch (verb) {
    case 'create': {
      const scopes = typeof flags.scopes === 'string' ? { scopes: flags.scopes.split(',') } : {}
      return { method: 'POST', path: '', body: { name: first, ...scopes, ...limitsOf(flags) } }
    }
    case 'limit':
      return { method: 'PATCH', path, body: limitsOf(flags) }
    case 'rotate':
      return {
        method: 'POST',
        path: `${path}/rotate`,
        body: flags.overlap === undefined ? {} : { overlap_seconds: numberOf('overlap', flags.overlap) },
      }
    case 'revoke':
      return { method: 'POST', path: `${path}/revoke` }
    default:
      return null
  }
}

const FIELDS = { rate: 'rate_per_minute', running: 'max_running', queued: 'max_queued', budget: 'daily_budget_usd' }

function limitsOf(flags: Flags): object {
  const limits = Object.entries(FIELDS).flatMap(([flag, field]) => {
    const value = flags[flag]
    return value === undefined ? [] : [[field, value === 'none' ? null : numberOf(flag, value)]]
  })
  const { expires } = flags
  return {
    ...Object.fromEntries(limits),
    ...(expires === undefined ? {} : { expires_at: expires === 'none' ? null : expires }),
  }
}

function numberOf(flag: string, value: string | boolean): number {
  const number = Number(value)
  if (value === '' || !Number.isFinite(number)) throw new KeysRefused(`--${flag} needs a number, or none`)
  return number
}

/** Makes what was sealed under a lost master key anew. */
async function resealed(config: Config): Promise<number> {
  mustExist(config)
  const { file, keys, secret } = await reseal(config)
  const lines =
    keys.length === 0
      ? ['nothing was changed: every webhook secret opens with the master key']
      : [
          ...(file ? [`a new master key was made: ${file}; back it up`] : []),
          `${keys.length === 1 ? 'one key has' : `${keys.length} keys have`} a new webhook secret: ${keys.join(' ')}`,
          ...(secret ? [`  webhook secret  ${secret}   (of bootstrap; shown this once: signs its callbacks)`] : []),
          'The new secrets of other keys are shown to nobody: each rotates its own with POST /api/v1/webhook_secrets/rotate.',
          'Give every receiver its new secret; until then it refuses callbacks. Links to outputs that were given out before are dead.',
        ]
  process.stdout.write(`${lines.join('\n')}\n`)
  return 0
}

/** @throws KeysRefused where no server has ever been started, DatabaseGone and the like where the database is lost */
function mustExist(config: Config): void {
  if (isInstalled(config)) return
  throw new KeysRefused(
    `there is no installation in ${resolve(config.dataDir)}. Set BABYCHAIN_DATA_DIR to the data directory of the server; its first start makes it.`,
  )
}

/** Asks the API in this process, or that of the running server. */
async function withApi<T>(config: Config, use: (ask: Ask) => Promise<T>): Promise<T> {
  mustExist(config)
  // No run is begun here, so the mode is nothing to ask for; and whether runs of a restored database go on is not said here.
  const order = { ...config, port: 0, isModeNamed: true, resume: null }
  const open = (apiKey: string | null) => createApp({ ...order, apiKey }, { log: pino({ level: 'silent' }) })
  const app = await open(config.apiKey).catch(async (error: unknown): Promise<App | Holder> => {
    const holder = holderOf(error)
    if (holder) return holder
    // Here it may be the key of whoever asks a server, and need not be the bootstrap key.
    if (error instanceof Error && error.name === 'KeyTextTaken') return open(null)
    throw error
  })
  if ('origin' in app) return use(asking(request => atServer(config, request, app)))
  try {
    return await use(asking(request => app.asOperator(request)))
  } finally {
    await app.stop(1_000)
  }
}

function asking(send: (request: Request) => Promise<Response>): Ask {
  return async (method, path, body) => {
    const init =
      body === undefined ? {} : { body: JSON.stringify(body), headers: { 'content-type': 'application/json' } }
    const response = await send(new Request(`http://localhost/api/v1/keys${path}`, { method, ...init }))
    const answer = await answerOf(response)
    if (response.ok) return answer
    const lines = answer.errors?.map(error => `  - ${error.pointer}: ${error.detail}`) ?? []
    throw new KeysRefused([answer.detail, ...lines, answer.hint].filter(Boolean).join('\n'))
  }
}

interface Answer {
  detail?: string
  hint?: string
  errors?: { pointer: string; detail: string }[]
}

async function answerOf(response: Response): Promise<Answer> {
  const text = await response.text()
  try {
    return JSON.parse(text) as Answer
  } catch {
    throw new KeysRefused(
      `what answers there is no BabyChain: status ${response.status}, and no JSON. The server has a network of its own: ${TYPE_IT_THERE}`,
    )
  }
}

/** @throws KeysRefused that says what to do when the server cannot be asked */
async function atServer(config: Config, request: Request, holder: Holder): Promise<Response> {
  if (holder.origin === null)
    throw new KeysRefused(`${holder.message}\n${holder.advice} /api/v1/keys does the same over HTTP.`)
  const advice = 'set BABYCHAIN_API_KEY to a key with keys:manage, or stop the server first'
  if (config.apiKey === null) throw new KeysRefused(`${holder.message}\nThe running server can be asked: ${advice}.`)
  const url = `${holder.origin}${new URL(request.url).pathname}`
  const headers = { authorization: `Bearer ${config.apiKey}`, 'content-type': 'application/json' }
  const body = request.body === null ? {} : { body: await request.text() }
  try {
    return await askServer(url, { method: request.method, headers, ...body, signal: AbortSignal.timeout(10_000) })
  } catch {
    throw new KeysRefused(
      `${holder.message}\nNo server answers on ${url}, where it listens: stop it, or ${TYPE_IT_THERE}`,
    )
  }
}

function shown(answer: unknown): string {
  const { data } = answer as { data?: Key[] }
  if (data) return table(data)
  const key = answer as Key
  const lines = [`${key.id}  ${key.name}  ${key.status}  ${key.scopes.join(' ')}`, `  ${limits(key)}`]
  if (key.key) lines.push(`  key             ${key.key}   (shown this once: keep it)`)
  if (key.webhook_secret) lines.push(`  webhook secret  ${key.webhook_secret}   (shown this once: signs its callbacks)`)
  if (key.previous_expires_at) lines.push(`  the text before works until ${key.previous_expires_at}`)
  return `${lines.join('\n')}\n`
}

function table(data: readonly Key[]): string {
  const head = ['ID', 'NAME', 'KEY', 'STATUS', 'SCOPES', 'LIMITS', 'LAST USED']
  const rows = data.map(key => [
    ...[key.id, key.name, `${key.prefix}…${key.last4}`, key.status, key.scopes.join(' '), limits(key)],
    key.last_used_at ?? 'never',
  ])
  const widths = head.map((title, i) => Math.max(title.length, ...rows.map(row => row[i]?.length ?? 0)))
  const line = (row: readonly string[]) =>
    row
      .map((cell, i) => cell.padEnd(widths[i] ?? 0))
      .join('  ')
      .trimEnd()
  return `${[head, ...rows].map(line).join('\n')}\n`
}

function limits(key: Key): string {
  const parts = [
    key.rate_per_minute === null ? '' : `${key.rate_per_minute}/min`,
    key.max_running === null ? '' : `${key.max_running} running`,
    key.max_queued === null ? '' : `${key.max_queued} queued`,
    key.daily_budget_usd === null ? '' : `$${key.spent_today_usd} of $${key.daily_budget_usd} today`,
    key.expires_at === null ? '' : `until ${key.expires_at}`,
  ]
  return parts.filter(Boolean).join(', ') || 'no limits'
}

class KeysRefused extends Error {
  override name = 'KeysRefused'
}
